//! Outcomes.

use arustio_types::meta::Outcome;
use arustio_types::meta::command::{PendingOn, WriteGrant};
use arustio_types::{IntentId, MountId, NodeId, SessionId};

use super::field::{
    MAX_LIST, MAX_TEXT, bits, block_size, content_id, key, list, message, messages, millis,
    optional, path, required, required_duration, text, texts,
};
use super::mount::{write_type, write_type_code};
use super::{ConvertError, FIRST_FORMAT, refuse_newer};
use crate::meta::v1 as wire;

impl From<&Outcome> for wire::Outcome {
    fn from(outcome: &Outcome) -> Self {
        use wire::outcome::Kind;
        let kind = match outcome {
            Outcome::Done => Kind::Done(wire::Done {}),
            Outcome::SessionOpened { session } => Kind::SessionOpened(wire::SessionOpened {
                session: session.get(),
            }),
            Outcome::Mounted { entry, already } => Kind::Mounted(wire::Mounted {
                entry: Some(entry.into()),
                already: *already,
            }),
            Outcome::Unmounted { mount, abandoned } => Kind::Unmounted(wire::Unmounted {
                mount: mount.get(),
                abandoned: abandoned.clone(),
            }),
            Outcome::DirectoryMade { status, effects } => {
                Kind::DirectoryMade(wire::DirectoryMade {
                    status: Some(status.into()),
                    effects: messages(effects),
                })
            }
            Outcome::WriteBegun(grant) => Kind::WriteBegun(grant.into()),
            Outcome::Committed(status) => Kind::Committed(status.into()),
            Outcome::Deleted { effects, names } => Kind::Deleted(wire::Deleted {
                effects: messages(effects),
                names: *names,
            }),
            Outcome::Renamed { effects } => Kind::Renamed(wire::Renamed {
                effects: messages(effects),
            }),
            Outcome::Merged(report) => Kind::Merged(report.into()),
            Outcome::IntentClaimed(intent) => Kind::IntentClaimed(intent.into()),
            Outcome::EffectClaimed(effect) => Kind::EffectClaimed(effect.into()),
            Outcome::CopySettled(effect) => Kind::CopySettled(effect.into()),
            Outcome::NodeRegistered(node) => {
                Kind::NodeRegistered(wire::NodeRegistered { node: node.get() })
            }
            Outcome::Refused(refusal) => Kind::Refused(refusal.into()),
            Outcome::NeedsSync { dir, name } => Kind::NeedsSync(wire::NeedsSync {
                dir: dir.as_str().to_owned(),
                name: name.clone(),
            }),
            Outcome::Pending(pending) => Kind::Pending(pending.into()),
            Outcome::Superseded => Kind::Superseded(wire::Superseded {}),
            Outcome::SessionExpired => Kind::SessionExpired(wire::SessionExpired {}),
        };
        Self {
            format: FIRST_FORMAT,
            kind: Some(kind),
        }
    }
}

impl TryFrom<wire::Outcome> for Outcome {
    type Error = ConvertError;
    fn try_from(outcome: wire::Outcome) -> Result<Self, ConvertError> {
        use wire::outcome::Kind;
        refuse_newer(outcome.format, "an outcome")?;
        Ok(match required(outcome.kind, "outcome")? {
            Kind::Done(_) => Self::Done,
            Kind::SessionOpened(opened) => Self::SessionOpened {
                session: SessionId::new(opened.session),
            },
            Kind::Mounted(mounted) => Self::Mounted {
                entry: message(mounted.entry, "mounted.entry")?,
                already: mounted.already,
            },
            Kind::Unmounted(unmounted) => Self::Unmounted {
                mount: MountId::new(unmounted.mount),
                abandoned: texts(unmounted.abandoned, MAX_LIST, "unmounted.abandoned")?,
            },
            Kind::DirectoryMade(made) => Self::DirectoryMade {
                status: message(made.status, "directory_made.status")?,
                effects: list(made.effects, MAX_LIST, "directory_made.effects")?,
            },
            Kind::WriteBegun(grant) => Self::WriteBegun(grant.try_into()?),
            Kind::Committed(status) => Self::Committed(status.try_into()?),
            Kind::Deleted(deleted) => Self::Deleted {
                effects: list(deleted.effects, MAX_LIST, "deleted.effects")?,
                names: deleted.names,
            },
            Kind::Renamed(renamed) => Self::Renamed {
                effects: list(renamed.effects, MAX_LIST, "renamed.effects")?,
            },
            Kind::Merged(report) => Self::Merged(report.try_into()?),
            Kind::IntentClaimed(intent) => Self::IntentClaimed(intent.try_into()?),
            Kind::EffectClaimed(effect) => Self::EffectClaimed(effect.try_into()?),
            Kind::CopySettled(effect) => Self::CopySettled(effect.try_into()?),
            Kind::NodeRegistered(registered) => Self::NodeRegistered(NodeId::new(registered.node)),
            Kind::Refused(refusal) => Self::Refused(refusal.try_into()?),
            Kind::NeedsSync(needs) => Self::NeedsSync {
                dir: path(&needs.dir, "needs_sync.dir")?,
                name: needs
                    .name
                    .map(|name| text(name, MAX_TEXT, "needs_sync.name"))
                    .transpose()?,
            },
            Kind::Pending(pending) => Self::Pending(pending.try_into()?),
            Kind::Superseded(_) => Self::Superseded,
            Kind::SessionExpired(_) => Self::SessionExpired,
        })
    }
}

impl From<&WriteGrant> for wire::WriteGrant {
    fn from(grant: &WriteGrant) -> Self {
        Self {
            intent: grant.intent.get(),
            mount: grant.mount.get(),
            key: grant.key.as_str().to_owned(),
            expected: grant.expected.as_ref().map(Into::into),
            content: bits(grant.content.get()),
            block_size_log2: grant.block_size.log2().into(),
            write_type: write_type_code(grant.write_type),
        }
    }
}

impl TryFrom<wire::WriteGrant> for WriteGrant {
    type Error = ConvertError;
    fn try_from(grant: wire::WriteGrant) -> Result<Self, ConvertError> {
        Ok(Self {
            intent: IntentId::new(grant.intent),
            mount: MountId::new(grant.mount),
            key: key(&grant.key, "grant.key")?,
            expected: optional(grant.expected)?,
            content: content_id(grant.content, "grant.content")?,
            block_size: block_size(grant.block_size_log2, "grant.block_size")?,
            write_type: write_type(grant.write_type, "grant.write_type")?,
        })
    }
}

impl From<&PendingOn> for wire::PendingOn {
    fn from(pending: &PendingOn) -> Self {
        Self {
            on: pending.on.clone(),
            what: pending.what.clone(),
            owed: Some((&pending.owed).into()),
            claimable_in: millis(pending.claimable_in),
        }
    }
}

impl TryFrom<wire::PendingOn> for PendingOn {
    type Error = ConvertError;
    fn try_from(pending: wire::PendingOn) -> Result<Self, ConvertError> {
        Ok(Self {
            on: text(pending.on, MAX_TEXT, "pending.on")?,
            what: text(pending.what, MAX_TEXT, "pending.what")?,
            owed: message(pending.owed, "pending.owed")?,
            claimable_in: required_duration(pending.claimable_in, "pending.claimable_in")?,
        })
    }
}
