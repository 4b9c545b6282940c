//! Which fault strikes when: drawn from the seed, one after the other.

use std::time::Duration;

use arustio_types::NodeId;
use rand::Rng as _;
use rand::seq::IndexedRandom as _;
use tokio::sync::oneshot;

use super::super::invariants::Checked;
use super::super::tally::Fault;
use super::{Event, World};
use crate::consensus::inside::Input;
use crate::consensus::{Change, Membership};
use crate::store::Role;

/// Servers that there are at most, removed ones included.
const MOST_SERVERS: usize = 8;
/// Clocks are changed so seldom that a lease sees one change at most.
const BETWEEN_CLOCKS: Duration = Duration::from_millis(2_500);

impl World<'_> {
    pub(super) fn strike(&mut self) -> Checked<()> {
        if self.healing.is_some() {
            return Ok(());
        }
        let next = self
            .flavour
            .between_faults()
            .mul_f64(self.rng.random_range(0.3..1.7))
            .mul_f64(1.0 + self.calendar.now().as_secs_f64() / 20.0);
        self.calendar.after(next, Event::Fault);
        let fault = self.flavour.fault(&mut self.rng);
        match fault {
            Fault::Members => self.change_members(),
            Fault::OneWay | Fault::Partition => {
                self.part(fault);
                Ok(())
            }
            other => {
                self.strike_one(other);
                Ok(())
            }
        }
    }

    fn strike_one(&mut self, fault: Fault) {
        let alive = self.alive();
        let Some(&at) = alive.choose(&mut self.rng) else {
            return;
        };
        match fault {
            Fault::Crash => return self.crash(at, fault),
            // Counted when it strikes.
            Fault::CrashInRound => return self.crash_in_round(at),
            Fault::SlowDisk => {
                let stall = Duration::from_millis(self.rng.random_range(50..1_800));
                self.servers[at].stalled = self.calendar.now() + stall;
            }
            Fault::Clock if !self.change_clock(at) => return,
            Fault::Transfer => self.transfer(),
            Fault::Snapshot => {
                let (notice, _) = oneshot::channel();
                self.input(at, Input::Snapshot(notice));
            }
            Fault::ClientDied => {
                let player = self.rng.random_range(1..self.players.len());
                if self.is_over_for(player) {
                    return;
                }
                self.kill_player(player);
            }
            Fault::ClientFroze => {
                let player = self.rng.random_range(1..self.players.len());
                let time = Duration::from_millis(self.rng.random_range(100..5_000));
                self.players[player].frozen = self.calendar.now() + time;
            }
            Fault::Outsider => self.meddle(),
            _ => {}
        }
        let id = self.servers[at].id;
        self.say(|| format!("{} (member {id})", fault.name()));
        self.tally.count(fault);
    }

    fn is_over_for(&self, player: usize) -> bool {
        self.tasks[self.players[player].tasks[0]].has_ended()
    }

    fn alive(&self) -> Vec<usize> {
        let all = 0..self.servers.len();
        all.filter(|at| self.servers[*at].life.is_some()).collect()
    }

    fn leader(&self) -> Option<usize> {
        let status = |at: &usize| {
            let life = self.servers[*at].life.as_ref()?;
            Some(life.member.status()).filter(|status| status.role == Role::Leader)
        };
        let leads = self.alive().into_iter().filter(|at| status(at).is_some());
        leads.max_by_key(|at| status(at).map(|status| status.term))
    }

    /// Some servers no longer hear others, or neither side hears the other.
    fn part(&mut self, fault: Fault) {
        let ids: Vec<u64> = self.servers.iter().map(|server| server.id.get()).collect();
        let (near, far): (Vec<u64>, Vec<u64>) =
            ids.iter().partition(|_| self.rng.random_range(0..100) < 40);
        if near.is_empty() || far.is_empty() {
            return;
        }
        for one in &near {
            for other in &far {
                self.network.cut(*one, *other);
                if fault == Fault::Partition {
                    self.network.cut(*other, *one);
                }
            }
        }
        self.say(|| format!("{}: {near:?} no longer reaches {far:?}", fault.name()));
        self.tally.count(fault);
        let time = Duration::from_millis(self.rng.random_range(200..2_500));
        self.calendar.after(time, Event::Mend);
    }

    /// A clock jumps a little ahead, stands still for a while, or runs at another rate.
    fn change_clock(&mut self, at: usize) -> bool {
        let now = self.calendar.now();
        if now < self.clock_changed + BETWEEN_CLOCKS {
            return false;
        }
        self.clock_changed = now;
        let jump = match self.rng.random_range(0..3) {
            0 => Duration::from_millis(self.rng.random_range(0..250)),
            _ => Duration::ZERO,
        };
        let rate = match self.rng.random_range(0..3) {
            0 => 0.3,
            _ => self.rate(),
        };
        self.servers[at].clock.change(now, jump, rate);
        true
    }

    fn transfer(&mut self) {
        let to = self.membership().voters.iter().copied().collect::<Vec<_>>();
        let to = to
            .choose(&mut self.rng)
            .copied()
            .filter(|_| self.rng.random());
        if let Some(leader) = self.leader() {
            let (notice, _) = oneshot::channel();
            self.input(leader, Input::Transfer(to, notice));
        }
    }

    fn change_members(&mut self) -> Checked<()> {
        let Some(leader) = self.leader() else {
            return Ok(());
        };
        let members = self.membership();
        let Some(change) = self.draw_change(&members)? else {
            return Ok(());
        };
        self.say(|| format!("asked for: {change:?}"));
        self.tally.count(Fault::Members);
        let (notice, _) = oneshot::channel();
        self.input(leader, Input::Change(change, notice));
        Ok(())
    }

    fn draw_change(&mut self, members: &Membership) -> Checked<Option<Change>> {
        let learners: Vec<NodeId> = members.learners.iter().copied().collect();
        let voters: Vec<NodeId> = members.voters.iter().copied().collect();
        let voter = voters.choose(&mut self.rng).copied();
        let founders = self.founders as usize;
        Ok(match self.rng.random_range(0..10) {
            0..4 if learners.is_empty() && self.servers.len() < MOST_SERVERS => {
                let id = self.add_server(Membership::default())?;
                let address = format!("host{id}:1");
                Some(Change::AddLearner { id, address })
            }
            0..8 => learners.choose(&mut self.rng).map(|id| Change::Promote {
                id: *id,
                replacing: voter.filter(|_| voters.len() >= founders || self.rng.random()),
            }),
            8 if voters.len() > 2 => voter.map(|id| Change::Remove { id }),
            _ => voter.map(|id| Change::Bind {
                id,
                instance: u128::from(id.get()),
                address: format!("host{id}:2"),
            }),
        })
    }
}
