//! Backup, dump and check of the metadata of a server that runs.
//!
//! Each reads a copy of the state beside the server (`copies`). A backup, and a dump of
//! whichever server answers, hold everything that was acknowledged before they were asked
//! for; what one named server has is shown as it is, also while nobody leads.

use arustio_meta::ReadOptions;
use arustio_meta::backup::{self, BackupError, Summary};
use arustio_meta::engine::{EngineKind, KvEngine};
use arustio_meta::inspect::{self, DumpError, Verified};
use arustio_proto::admin::v1 as wire;
use arustio_proto::admin::v1::back_up_state_response::Kind as BackUp;
use arustio_proto::admin::v1::dump_state_response::Kind as Dump;
use arustio_proto::admin::v1::verify_state_response::Kind as Verify;
use arustio_proto::failure::Failure;
use arustio_types::WallClock as _;
use arustio_types::meta::Consistency;
use arustio_types::{ErrorKind, FsPath, LogIndex, NodeId, SystemClock};

use super::super::store_failure;
use super::copies::{Answers, Out};
use super::{Admin, bounded};
use crate::compose::Opened;

/// Problems that a report has room for.
const MOST_PROBLEMS: usize = 1_000;
/// And bytes of them.
const MOST_BYTES: usize = 1 << 20;

impl Admin {
    /// The metadata node, if it is the one that is meant; 0 means any.
    fn meant(&self, member: u64) -> Result<&Opened, Failure> {
        let opened = self.late.there()?;
        let own = opened.store.identity().member;
        if member == 0 || own.get() == member {
            return Ok(opened);
        }
        let message = format!(
            "this is member {own}, not member {member}: the address belongs to another server now"
        );
        Err(Failure::new(ErrorKind::InvalidArgument, message))
    }

    pub(super) async fn back_up(
        &self,
        request: wire::BackUpStateRequest,
    ) -> Result<Answers<wire::BackUpStateResponse>, Failure> {
        let opened = self.meant(request.member)?;
        freshen(opened).await?;
        let member = opened.store.identity().member;
        self.copies.look(
            opened,
            |seen| back_up_says(BackUp::Seen(seen)),
            move |engine, out| backed_up(engine, out, member),
        )
    }

    pub(super) async fn dump(
        &self,
        request: wire::DumpStateRequest,
    ) -> Result<Answers<wire::DumpStateResponse>, Failure> {
        let opened = self.meant(request.member)?;
        let path = match request.path.as_str() {
            "" => None,
            path => Some(FsPath::new(path).map_err(|error| Failure::of(&error))?),
        };
        if request.member == 0 {
            freshen(opened).await?;
        }
        let member = opened.store.identity().member;
        self.copies.look(
            opened,
            |seen| dump_says(Dump::Seen(seen)),
            move |engine, out| dumped(engine, out, path.as_ref(), member),
        )
    }

    pub(super) fn verify(
        &self,
        request: wire::VerifyStateRequest,
    ) -> Result<Answers<wire::VerifyStateResponse>, Failure> {
        let opened = self.meant(request.member)?;
        let most = usize::try_from(request.most_problems).unwrap_or(MOST_PROBLEMS);
        let most = most.min(MOST_PROBLEMS);
        let member = opened.store.identity().member;
        self.copies.look(
            opened,
            |seen| verify_says(Verify::Seen(seen)),
            move |engine, _| {
                let found = inspect::verify(engine).map_err(|error| Failure::of(&error))?;
                Ok(verify_says(Verify::Report(report(&found, most, member))))
            },
        )
    }

    pub(super) async fn mark_taken(
        &self,
        request: wire::TakeMarkRequest,
    ) -> Result<wire::TakeMarkResponse, Failure> {
        let store = self.store()?;
        let taken = store.take_mark(bounded(request.deadline_millis)).await;
        let taken = taken.map_err(|error| store_failure(store, &error))?;
        let mark = mark(store.identity().member, taken.index, taken.sum);
        Ok(wire::TakeMarkResponse { mark: Some(mark) })
    }

    pub(super) async fn mark_got(
        &self,
        request: wire::GetMarkRequest,
    ) -> Result<wire::GetMarkResponse, Failure> {
        let store = &self.meant(request.member)?.store;
        let index = LogIndex::new(request.index);
        let taken = store.mark_at(index, bounded(request.deadline_millis)).await;
        let taken = taken.map_err(|error| store_failure(store, &error))?;
        let mark = mark(store.identity().member, taken.index, taken.sum);
        Ok(wire::GetMarkResponse { mark: Some(mark) })
    }
}

/// Waits until the state here holds everything that was acknowledged before.
async fn freshen(opened: &Opened) -> Result<(), Failure> {
    let options = ReadOptions::from(Consistency::Linearizable);
    let fresh = opened.store.freshen(options).await;
    fresh.map_err(|error| store_failure(&opened.store, &error))
}

fn back_up_says(kind: BackUp) -> wire::BackUpStateResponse {
    wire::BackUpStateResponse { kind: Some(kind) }
}

fn dump_says(kind: Dump) -> wire::DumpStateResponse {
    wire::DumpStateResponse { kind: Some(kind) }
}

fn verify_says(kind: Verify) -> wire::VerifyStateResponse {
    wire::VerifyStateResponse { kind: Some(kind) }
}

/// A message that could not be sent has nobody who would read of it.
fn sent(result: std::io::Result<()>) -> Result<(), Failure> {
    result.map_err(|error| Failure::new(ErrorKind::Unavailable, error.to_string()))
}

fn backed_up(
    engine: &dyn KvEngine,
    out: &Out<wire::BackUpStateResponse>,
    member: NodeId,
) -> Result<wire::BackUpStateResponse, Failure> {
    let mut pieces = out.pieces(|piece| back_up_says(BackUp::Piece(piece)));
    let written = backup::write(engine, &mut pieces, SystemClock.now());
    let summary = written.map_err(|error: BackupError| Failure::of(&error))?;
    sent(pieces.finish())?;
    Ok(back_up_says(BackUp::Made(made(&summary, member))))
}

fn made(summary: &Summary, member: NodeId) -> wire::BackUpMade {
    let header = &summary.header;
    wire::BackUpMade {
        answered_by: member.get(),
        cluster: Some(header.cluster.get().into()),
        incarnation: header.incarnation.get(),
        index: header.applied.position.index.get(),
        made_millis: header.made.millis(),
        records: summary.records,
        bytes: summary.bytes,
    }
}

fn dumped(
    engine: &dyn KvEngine,
    out: &Out<wire::DumpStateResponse>,
    path: Option<&FsPath>,
    member: NodeId,
) -> Result<wire::DumpStateResponse, Failure> {
    let mut pieces = out.pieces(|piece| dump_says(Dump::Piece(piece)));
    let shown = match path {
        None => inspect::dump(engine, EngineKind::State.families(), &mut pieces),
        Some(path) => inspect::dump_below(engine, path, &mut pieces),
    };
    let records = shown.map_err(|error: DumpError| Failure::of(&error))?;
    sent(pieces.finish())?;
    let answered_by = member.get();
    let made = wire::DumpMade {
        answered_by,
        records,
    };
    Ok(dump_says(Dump::Made(made)))
}

fn report(found: &Verified, most: usize, member: NodeId) -> wire::StateReport {
    let (problems, more_problems) = told(found, most);
    wire::StateReport {
        answered_by: member.get(),
        index: found.applied.position.index.get(),
        sum: Some(found.sum.get().into()),
        records: found.records,
        files: found.files,
        directories: found.directories(),
        names: found.names,
        mounts: found.mounts,
        intents: found.intents,
        effects: found.effects,
        sessions: found.sessions,
        nodes: found.nodes,
        problems,
        more_problems,
    }
}

/// The first problems in words, and how many there are beyond those.
fn told(found: &Verified, most: usize) -> (Vec<String>, u64) {
    let mut room = MOST_BYTES;
    let mut problems = Vec::new();
    for problem in found.problems.iter().take(most) {
        let text = problem.to_string();
        let Some(left) = room.checked_sub(text.len()) else {
            break;
        };
        room = left;
        problems.push(text);
    }
    let untold = found.problems.len() - problems.len();
    (problems, found.more_problems + untold as u64)
}

fn mark(member: NodeId, index: LogIndex, sum: u128) -> wire::StateMark {
    wire::StateMark {
        answered_by: member.get(),
        index: index.get(),
        sum: Some(sum.into()),
    }
}
