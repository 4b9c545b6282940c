//! Commands.

use arustio_types::meta::Command;
use arustio_types::meta::command::{
    AttributeChange, BeginWrite, CommitWrite, CreateMode, MAX_PROOFS,
};
use arustio_types::meta::merge::MAX_MERGE;
use arustio_types::{EffectId, InodeId, IntentId};

use super::field::{
    MAX_TEXT, bits, block_size, bounded, content_id, duration, list, message, messages, millis,
    optional, path, required, required_bits, required_duration, text, texts, timestamp, version,
    write_id,
};
use super::mount::{optional_write_type, write_type_code};
use super::node::{change_node, endpoints, node_change, read_endpoints};
use super::{COMMAND_FORMAT, ConvertError, FIRST_FORMAT, refuse_newer};
use crate::meta::v1 as wire;

/// Settings that one command returns to what they inherit.
const MAX_UNSET: usize = 64;
/// Inodes of a detached tree that one command frees.
const MAX_FREED: usize = 10 * MAX_MERGE;

impl From<&Command> for wire::Command {
    fn from(command: &Command) -> Self {
        Self {
            format: format(command),
            kind: Some(to_wire(command)),
        }
    }
}

/// The oldest format that has it.
fn format(command: &Command) -> u32 {
    match command {
        Command::ChangeNode { .. } => COMMAND_FORMAT,
        _ => FIRST_FORMAT,
    }
}

fn to_wire(command: &Command) -> wire::command::Kind {
    use wire::command::Kind;
    match command {
        Command::OpenSession { nonce, ttl } => Kind::OpenSession(wire::OpenSession {
            nonce: bits(*nonce),
            ttl: millis(*ttl),
        }),
        Command::KeepSession => Kind::KeepSession(wire::KeepSession {}),
        Command::CloseSession => Kind::CloseSession(wire::CloseSession {}),
        Command::Mount(spec) => Kind::Mount(spec.into()),
        Command::UpdateMount(spec) => Kind::UpdateMount(spec.into()),
        Command::Unmount { path, force } => Kind::Unmount(wire::Unmount {
            path: path.as_str().to_owned(),
            force: *force,
        }),
        Command::Mkdir {
            path,
            parents,
            exist_ok,
            write_id,
            proofs,
        } => Kind::Mkdir(wire::Mkdir {
            path: path.as_str().to_owned(),
            parents: *parents,
            exist_ok: *exist_ok,
            write_id: bits(write_id.get()),
            proofs: messages(proofs),
        }),
        Command::BeginWrite(begin) => Kind::BeginWrite(begin.into()),
        Command::RecordUpload { intent, upload_id } => Kind::RecordUpload(wire::RecordUpload {
            intent: intent.get(),
            upload_id: upload_id.clone(),
        }),
        Command::CommitWrite(commit) => Kind::CommitWrite(commit.into()),
        Command::AbortWrite { intent } => Kind::AbortWrite(wire::AbortWrite {
            intent: intent.get(),
        }),
        Command::NoteUnanswered { owed, at_most } => Kind::NoteUnanswered(wire::NoteUnanswered {
            owed: Some(owed.into()),
            at_most: millis(*at_most),
        }),
        Command::Delete {
            path,
            recursive,
            arustio_only,
            proofs,
        } => Kind::Delete(wire::Delete {
            path: path.as_str().to_owned(),
            recursive: *recursive,
            arustio_only: *arustio_only,
            proofs: messages(proofs),
        }),
        Command::Rename {
            from,
            to,
            replace,
            write_id,
            proofs,
        } => Kind::Rename(wire::Rename {
            from: from.as_str().to_owned(),
            to: to.as_str().to_owned(),
            replace: *replace,
            write_id: bits(write_id.get()),
            proofs: messages(proofs),
        }),
        Command::SetAttributes { path, change } => Kind::SetAttributes(wire::SetAttributes {
            path: path.as_str().to_owned(),
            mode: change.mode,
            owner: change.owner.clone(),
            group: change.group.clone(),
            modified: change.modified.map(|at| at.millis()),
        }),
        Command::SetConf { path, set, unset } => Kind::SetConf(wire::SetConf {
            path: path.as_str().to_owned(),
            set: Some(set.into()),
            unset: unset.clone(),
        }),
        Command::Merge(merge) => Kind::Merge(merge.into()),
        Command::Claim { owed } => Kind::Claim(wire::Claim {
            owed: Some(owed.into()),
        }),
        Command::CopySettled { effect, version } => Kind::CopySettled(wire::CopySettled {
            effect: effect.get(),
            version: Some(version.into()),
        }),
        Command::FinishEffect { effect, marker } => Kind::FinishEffect(wire::FinishEffect {
            effect: effect.get(),
            marker: marker.as_ref().map(Into::into),
        }),
        Command::FreeDetached { effect, inodes } => Kind::FreeDetached(wire::FreeDetached {
            effect: effect.get(),
            inodes: inodes.iter().map(|inode| inode.get()).collect(),
        }),
        Command::ExpandRename { effect } => Kind::ExpandRename(wire::ExpandRename {
            effect: effect.get(),
        }),
        Command::UndoRename { effect } => Kind::UndoRename(wire::UndoRename {
            effect: effect.get(),
        }),
        Command::DropRename { effect } => Kind::DropRename(wire::DropRename {
            effect: effect.get(),
        }),
        Command::EffectFailed { effect, error } => Kind::EffectFailed(wire::EffectFailed {
            effect: effect.get(),
            error: error.clone(),
        }),
        Command::RegisterNode {
            instance,
            address,
            weight,
            data,
        } => Kind::RegisterNode(wire::RegisterNode {
            instance: bits(*instance),
            address: address.clone(),
            weight: *weight,
            data: endpoints(data),
        }),
        Command::ChangeNode { node, change } => Kind::ChangeNode(change_node(*node, *change)),
    }
}

impl TryFrom<wire::Command> for Command {
    type Error = ConvertError;
    fn try_from(command: wire::Command) -> Result<Self, ConvertError> {
        use wire::command::Kind;
        refuse_newer(command.format, "a command")?;
        Ok(match required(command.kind, "command")? {
            Kind::OpenSession(open) => Self::OpenSession {
                nonce: required_bits(open.nonce, "open_session.nonce")?,
                ttl: required_duration(open.ttl, "open_session.ttl")?,
            },
            Kind::KeepSession(_) => Self::KeepSession,
            Kind::CloseSession(_) => Self::CloseSession,
            Kind::Mount(spec) => Self::Mount(spec.try_into()?),
            Kind::UpdateMount(spec) => Self::UpdateMount(spec.try_into()?),
            Kind::Unmount(unmount) => Self::Unmount {
                path: path(&unmount.path, "unmount.path")?,
                force: unmount.force,
            },
            Kind::Mkdir(mkdir) => Self::Mkdir {
                path: path(&mkdir.path, "mkdir.path")?,
                parents: mkdir.parents,
                exist_ok: mkdir.exist_ok,
                write_id: write_id(mkdir.write_id, "mkdir.write_id")?,
                proofs: list(mkdir.proofs, MAX_PROOFS, "mkdir.proofs")?,
            },
            Kind::BeginWrite(begin) => Self::BeginWrite(begin.try_into()?),
            Kind::RecordUpload(record) => Self::RecordUpload {
                intent: IntentId::new(record.intent),
                upload_id: text(record.upload_id, MAX_TEXT, "record_upload.upload_id")?,
            },
            Kind::CommitWrite(commit) => Self::CommitWrite(commit.try_into()?),
            Kind::AbortWrite(abort) => Self::AbortWrite {
                intent: IntentId::new(abort.intent),
            },
            Kind::NoteUnanswered(note) => Self::NoteUnanswered {
                owed: message(note.owed, "note_unanswered.owed")?,
                at_most: required_duration(note.at_most, "note_unanswered.at_most")?,
            },
            Kind::Delete(delete) => Self::Delete {
                path: path(&delete.path, "delete.path")?,
                recursive: delete.recursive,
                arustio_only: delete.arustio_only,
                proofs: list(delete.proofs, MAX_PROOFS, "delete.proofs")?,
            },
            Kind::Rename(rename) => Self::Rename {
                from: path(&rename.from, "rename.from")?,
                to: path(&rename.to, "rename.to")?,
                replace: rename.replace,
                write_id: write_id(rename.write_id, "rename.write_id")?,
                proofs: list(rename.proofs, MAX_PROOFS, "rename.proofs")?,
            },
            Kind::SetAttributes(set) => set_attributes(set)?,
            Kind::SetConf(conf) => Self::SetConf {
                path: path(&conf.path, "set_conf.path")?,
                set: message(conf.set, "set_conf.set")?,
                unset: texts(conf.unset, MAX_UNSET, "set_conf.unset")?,
            },
            Kind::Merge(merge) => Self::Merge(merge.try_into()?),
            Kind::Claim(claim) => Self::Claim {
                owed: message(claim.owed, "claim.owed")?,
            },
            Kind::CopySettled(settled) => Self::CopySettled {
                effect: EffectId::new(settled.effect),
                version: version(settled.version, "copy_settled.version")?,
            },
            Kind::FinishEffect(finish) => Self::FinishEffect {
                effect: EffectId::new(finish.effect),
                marker: optional(finish.marker)?,
            },
            Kind::FreeDetached(free) => {
                bounded(free.inodes.len(), MAX_FREED, "free_detached.inodes")?;
                Self::FreeDetached {
                    effect: EffectId::new(free.effect),
                    inodes: free.inodes.into_iter().map(InodeId::new).collect(),
                }
            }
            Kind::ExpandRename(expand) => Self::ExpandRename {
                effect: EffectId::new(expand.effect),
            },
            Kind::UndoRename(undo) => Self::UndoRename {
                effect: EffectId::new(undo.effect),
            },
            Kind::DropRename(dropped) => Self::DropRename {
                effect: EffectId::new(dropped.effect),
            },
            Kind::EffectFailed(failed) => Self::EffectFailed {
                effect: EffectId::new(failed.effect),
                error: text(failed.error, MAX_TEXT, "effect_failed.error")?,
            },
            Kind::RegisterNode(register) => Self::RegisterNode {
                instance: required_bits(register.instance, "register_node.instance")?,
                address: text(register.address, MAX_TEXT, "register_node.address")?,
                weight: register.weight,
                data: read_endpoints(register.data)?,
            },
            Kind::ChangeNode(change) => node_change(change)?,
        })
    }
}

fn set_attributes(set: wire::SetAttributes) -> Result<Command, ConvertError> {
    let name =
        |value: Option<String>, field| value.map(|value| text(value, MAX_TEXT, field)).transpose();
    Ok(Command::SetAttributes {
        path: path(&set.path, "set_attributes.path")?,
        change: AttributeChange {
            mode: set.mode,
            owner: name(set.owner, "set_attributes.owner")?,
            group: name(set.group, "set_attributes.group")?,
            modified: set.modified.map(timestamp),
        },
    })
}

impl From<&BeginWrite> for wire::BeginWrite {
    fn from(begin: &BeginWrite) -> Self {
        let mode = match begin.mode {
            CreateMode::Exclusive => wire::CreateMode::Exclusive,
            CreateMode::Overwrite => wire::CreateMode::Overwrite,
        };
        Self {
            path: begin.path.as_str().to_owned(),
            mode: mode.into(),
            parents: begin.parents,
            write_id: bits(begin.write_id.get()),
            content: bits(begin.content.get()),
            write_type: begin.write_type.map_or(0, write_type_code),
            block_size_log2: begin.block_size.map(|size| u32::from(size.log2())),
            proofs: messages(&begin.proofs),
        }
    }
}

impl TryFrom<wire::BeginWrite> for BeginWrite {
    type Error = ConvertError;
    fn try_from(begin: wire::BeginWrite) -> Result<Self, ConvertError> {
        Ok(Self {
            path: path(&begin.path, "begin_write.path")?,
            mode: create_mode(begin.mode)?,
            parents: begin.parents,
            write_id: write_id(begin.write_id, "begin_write.write_id")?,
            content: content_id(begin.content, "begin_write.content")?,
            write_type: optional_write_type(begin.write_type, "begin_write.write_type")?,
            block_size: begin
                .block_size_log2
                .map(|log2| block_size(log2, "begin_write.block_size"))
                .transpose()?,
            proofs: list(begin.proofs, MAX_PROOFS, "begin_write.proofs")?,
        })
    }
}

impl From<&CommitWrite> for wire::CommitWrite {
    fn from(commit: &CommitWrite) -> Self {
        Self {
            intent: commit.intent.get(),
            length: commit.length,
            version: Some((&commit.version).into()),
            modified: commit.modified.millis(),
            unanswered: commit.unanswered.and_then(millis),
        }
    }
}

impl TryFrom<wire::CommitWrite> for CommitWrite {
    type Error = ConvertError;
    fn try_from(commit: wire::CommitWrite) -> Result<Self, ConvertError> {
        Ok(Self {
            intent: IntentId::new(commit.intent),
            length: commit.length,
            version: version(commit.version, "commit_write.version")?,
            modified: timestamp(commit.modified),
            unanswered: commit.unanswered.map(duration),
        })
    }
}

fn create_mode(code: i32) -> Result<CreateMode, ConvertError> {
    match wire::CreateMode::try_from(code) {
        Ok(wire::CreateMode::Exclusive) => Ok(CreateMode::Exclusive),
        Ok(wire::CreateMode::Overwrite) => Ok(CreateMode::Overwrite),
        Ok(wire::CreateMode::Unspecified) | Err(_) => Err(ConvertError::Value {
            field: "begin_write.mode",
            value: i64::from(code),
        }),
    }
}
