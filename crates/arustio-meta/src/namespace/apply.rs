//! One committed command at a time: admit, dispatch, record. No rule lives here.

use arustio_types::meta::RequestContext;
use arustio_types::meta::command::{Command, Outcome};
use arustio_types::{Incarnation, LogIndex};

use super::delete::Delete;
use super::directory::Mkdir;
use super::rename::Rename;
use super::txn::{Context, Read, Step, Stop, Txn};
use super::{
    delete, directory, effect, inode, intent, merge, mount_table, nodes, owed, rename, settings,
    tree,
};
use crate::mutation::{Mutation, Mutations};
use crate::session::{self, Admission};

/// Applies one command.
pub(crate) fn apply(
    txn: &mut Txn<'_>,
    at: LogIndex,
    time: u64,
    incarnation: Incarnation,
    rules: Mutations,
    request: &RequestContext,
    command: &Command,
) -> Read<Outcome> {
    let record = match session::admit(txn, time, request.id, command)? {
        Admission::Answered(outcome) => return Ok(*outcome),
        Admission::Apply { record } => record,
    };
    let ctx = Context {
        at,
        time,
        session: request.id.session,
        user: request.principal.user.clone(),
        group: request
            .principal
            .groups
            .first()
            .cloned()
            .unwrap_or_default(),
        now: request.now,
        incarnation,
        rules,
    };
    let outcome = attempt(txn, &ctx, command)?;
    if record && !rules.has(Mutation::DropSessions) {
        session::record(txn, request.id, &outcome);
    }
    tree::free_some(txn)?;
    Ok(outcome)
}

/// Does a command whole or not at all.
fn attempt(txn: &mut Txn<'_>, ctx: &Context, command: &Command) -> Read<Outcome> {
    txn.savepoint();
    match dispatch(txn, ctx, command) {
        Ok(outcome) => Ok(outcome),
        Err(Stop::Answer(outcome)) => {
            txn.rollback();
            Ok(*outcome)
        }
        Err(Stop::Fault(fault)) => Err(fault),
    }
}

fn dispatch(txn: &mut Txn<'_>, ctx: &Context, command: &Command) -> Step<Outcome> {
    match command {
        Command::OpenSession { nonce, ttl } => session::open(txn, ctx.time, *nonce, *ttl),
        Command::KeepSession => session::keep(txn, ctx.time, ctx.session),
        Command::CloseSession => session::close(txn, ctx.session),
        Command::Mount(spec) => mount_table::mount(txn, ctx, spec),
        Command::UpdateMount(spec) => mount_table::update(txn, ctx, spec),
        Command::Unmount { path, force } => mount_table::unmount(txn, ctx, path, *force),
        Command::Mkdir {
            path,
            parents,
            exist_ok,
            write_id,
            proofs,
        } => {
            let asked = Mkdir {
                path,
                parents: *parents,
                exist_ok: *exist_ok,
                write_id: *write_id,
                proofs,
            };
            directory::mkdir(txn, ctx, &asked)
        }
        Command::BeginWrite(asked) => intent::begin(txn, ctx, asked),
        Command::RecordUpload { intent, upload_id } => {
            intent::record_upload(txn, ctx, *intent, upload_id)
        }
        Command::CommitWrite(asked) => intent::commit(txn, ctx, asked),
        Command::AbortWrite { intent } => intent::abort(txn, ctx, *intent),
        Command::NoteUnanswered { owed, at_most } => {
            owed::note_unanswered(txn, ctx, *owed, *at_most)
        }
        Command::Delete {
            path,
            recursive,
            arustio_only,
            proofs,
        } => {
            let asked = Delete {
                path,
                recursive: *recursive,
                arustio_only: *arustio_only,
                proofs,
            };
            delete::delete(txn, ctx, &asked)
        }
        Command::Rename {
            from,
            to,
            replace,
            write_id,
            proofs,
        } => {
            let asked = Rename {
                from,
                to,
                replace: *replace,
                write_id: *write_id,
                proofs,
            };
            rename::rename(txn, ctx, &asked)
        }
        Command::SetAttributes { path, change } => inode::set_attributes(txn, path, change),
        Command::SetConf { path, set, unset } => settings::change(txn, path, set, unset),
        Command::Merge(asked) => merge::merge(txn, ctx, asked),
        Command::Claim { owed } => owed::claim(txn, ctx, *owed),
        Command::CopySettled { effect, version } => {
            effect::copy_settled(txn, ctx, *effect, version)
        }
        Command::FinishEffect { effect, marker } => {
            effect::finish(txn, ctx, *effect, marker.as_ref())
        }
        Command::FreeDetached { effect, inodes } => {
            delete::free_detached(txn, ctx, *effect, inodes)
        }
        Command::ExpandRename { effect } => rename::expand(txn, ctx, *effect),
        Command::UndoRename { effect } => effect::undo(txn, ctx, *effect),
        Command::DropRename { effect } => effect::drop_rename(txn, ctx, *effect),
        Command::EffectFailed { effect, error } => effect::failed(txn, ctx, *effect, error),
        Command::RegisterNode {
            instance,
            address,
            weight,
            data,
        } => nodes::register(txn, *instance, address, *weight, data),
        Command::ChangeNode { node, change } => nodes::change(txn, *node, *change),
    }
}
