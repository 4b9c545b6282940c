//! A process that is known by its number and by when it started, so that no other one
//! that got the same number later is ever taken for it.

use anyhow::{Context as _, Result};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

/// A process of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    /// Its number.
    pub pid: i32,
    /// When it started, in ticks of the kernel since the machine did.
    pub started: u64,
}

/// What the kernel says of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    state: char,
    started: u64,
}

impl ProcessId {
    /// The process that has this number now.
    ///
    /// # Errors
    /// When there is none.
    pub fn of(pid: u32) -> Result<Self> {
        let pid = i32::try_from(pid).context("a process id")?;
        let seen = look(pid).with_context(|| format!("process {pid} is gone"))?;
        Ok(Self {
            pid,
            started: seen.started,
        })
    }

    /// Whether it still runs, or is stopped for a while.
    pub fn is_alive(&self) -> bool {
        // A zombie has ended; only its parent has not noticed yet.
        self.seen()
            .is_some_and(|seen| !matches!(seen.state, 'Z' | 'X'))
    }

    /// Whether it was told to stop for a while.
    pub fn is_stopped(&self) -> bool {
        self.seen().is_some_and(|seen| seen.state == 'T')
    }

    fn seen(&self) -> Option<Seen> {
        look(self.pid).filter(|seen| seen.started == self.started)
    }

    /// Sends a signal; says whether the process was there to get it.
    ///
    /// # Errors
    /// When the operating system refuses it.
    pub fn signal(&self, signal: Signal) -> Result<bool> {
        let Some(pid) = Pid::from_raw(self.pid) else {
            return Ok(false);
        };
        let Ok(held) = pidfd_open(pid, PidfdFlags::empty()) else {
            return Ok(false);
        };
        // Held first, looked at then: the number cannot pass on in between.
        if !self.is_alive() {
            return Ok(false);
        }
        match pidfd_send_signal(&held, signal) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::SRCH) => Ok(false),
            Err(error) => Err(error).with_context(|| format!("cannot signal {}", self.pid)),
        }
    }
}

fn look(pid: i32) -> Option<Seen> {
    parse(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The name of the program stands in brackets and may hold anything, brackets included.
fn parse(stat: &str) -> Option<Seen> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    Some(Seen {
        state: fields.next()?.chars().next()?,
        started: fields.nth(18)?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strange_name_of_a_program_does_not_confuse() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 9 9";
        let seen = parse(stat).unwrap();
        assert_eq!((seen.state, seen.started), ('S', 4711));
        assert_eq!(parse("nonsense"), None);
    }

    #[test]
    fn another_process_with_the_same_number_is_left_alone() {
        let mut own = ProcessId::of(std::process::id()).unwrap();
        assert!(own.is_alive());
        own.started += 1;
        assert!(!own.is_alive());
        assert!(!own.signal(Signal::KILL).unwrap());
    }

    #[test]
    fn a_process_that_has_ended_is_not_alive_even_before_it_is_waited_for() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let process = ProcessId::of(child.id()).unwrap();
        assert!(process.is_alive());
        assert!(process.signal(Signal::KILL).unwrap());
        while process.is_alive() {
            std::thread::yield_now();
        }
        assert!(!process.signal(Signal::KILL).unwrap());
        child.wait().unwrap();
    }
}
