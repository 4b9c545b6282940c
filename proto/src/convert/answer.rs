//! Answers.

use arustio_types::cluster::ClusterView;
use arustio_types::meta::Answer;
use arustio_types::meta::query::{Absent, DetachedFile, MAX_UNLOADED, UsagePart};
use arustio_types::{ClusterId, FsPath, Incarnation, InodeId, LogIndex, MountId};

use super::ConvertError;
use super::field::{
    MAX_LIST, MAX_TEXT, bits, bounded, list, message, messages, optional, path, required,
    required_bits, text,
};
use crate::meta::v1 as wire;

impl From<&Answer> for wire::Answer {
    fn from(answer: &Answer) -> Self {
        use wire::answer::Kind;
        let kind = match answer {
            Answer::Status(status) => Kind::Status(status.into()),
            Answer::Absent(absent) => Kind::Absent(absent.into()),
            Answer::Page(page) => Kind::PackedPage(page.into()),
            Answer::Mounts(entries) => Kind::Mounts(wire::MountList {
                entries: messages(entries),
            }),
            Answer::OpenedMount { entry, secrets } => Kind::OpenedMount(wire::OpenedMount {
                entry: Some(entry.into()),
                secrets: Some(secrets.into()),
            }),
            Answer::Conf {
                own,
                effective,
                origins,
            } => Kind::Conf(wire::ConfAnswer {
                own: Some(own.into()),
                effective: Some(effective.into()),
                origins: messages(origins),
            }),
            Answer::Pending {
                intents,
                effects,
                now,
                next,
            } => Kind::Pending(wire::PendingAnswer {
                intents: messages(intents),
                effects: messages(effects),
                now: *now,
                next: next.as_ref().map(Into::into),
            }),
            Answer::Detached { files, next } => Kind::Detached(wire::DetachedAnswer {
                files: messages(files),
                next: next.map(InodeId::get),
            }),
            Answer::Usage(part) => Kind::Usage(part.into()),
            Answer::ClusterView(view) => Kind::ClusterView(view.into()),
            Answer::Nodes(nodes) => Kind::Nodes(wire::NodeList {
                nodes: messages(nodes),
            }),
            Answer::Identity {
                cluster,
                incarnation,
                applied,
            } => Kind::Identity(wire::IdentityAnswer {
                cluster: bits(cluster.get()),
                incarnation: incarnation.get(),
                applied: applied.get(),
            }),
            Answer::Refused(refusal) => Kind::Refused(refusal.into()),
        };
        Self { kind: Some(kind) }
    }
}

impl TryFrom<wire::Answer> for Answer {
    type Error = ConvertError;
    fn try_from(answer: wire::Answer) -> Result<Self, ConvertError> {
        use wire::answer::Kind;
        Ok(match required(answer.kind, "answer")? {
            Kind::Status(status) => Self::Status(status.try_into()?),
            Kind::Absent(absent) => Self::Absent(absent.try_into()?),
            Kind::Page(page) => Self::Page(page.try_into()?),
            Kind::PackedPage(page) => Self::Page(page.try_into()?),
            Kind::Mounts(mounts) => Self::Mounts(list(mounts.entries, MAX_LIST, "mounts")?),
            Kind::OpenedMount(opened) => Self::OpenedMount {
                entry: message(opened.entry, "opened_mount.entry")?,
                secrets: message(opened.secrets, "opened_mount.secrets")?,
            },
            Kind::Conf(conf) => Self::Conf {
                own: message(conf.own, "conf.own")?,
                effective: message(conf.effective, "conf.effective")?,
                origins: list(conf.origins, MAX_LIST, "conf.origins")?,
            },
            Kind::Pending(pending) => Self::Pending {
                intents: list(pending.intents, MAX_LIST, "pending.intents")?,
                effects: list(pending.effects, MAX_LIST, "pending.effects")?,
                now: pending.now,
                next: optional(pending.next)?,
            },
            Kind::Detached(detached) => Self::Detached {
                files: list(detached.files, MAX_LIST, "detached.files")?,
                next: detached.next.map(InodeId::new),
            },
            Kind::Usage(part) => Self::Usage(part.try_into()?),
            Kind::ClusterView(view) => Self::ClusterView(view.try_into()?),
            Kind::Nodes(found) => Self::Nodes(list(found.nodes, MAX_LIST, "nodes")?),
            Kind::Identity(identity) => Self::Identity {
                cluster: ClusterId::new(required_bits(identity.cluster, "identity.cluster")?),
                incarnation: Incarnation::new(identity.incarnation),
                applied: LogIndex::new(identity.applied),
            },
            Kind::Refused(refusal) => Self::Refused(refusal.try_into()?),
        })
    }
}

impl From<&UsagePart> for wire::UsageAnswer {
    fn from(part: &UsagePart) -> Self {
        let text = |path: &FsPath| path.as_str().to_owned();
        Self {
            files: part.files,
            directories: part.directories,
            bytes: part.bytes,
            unloaded: part.unloaded.iter().map(text).collect(),
            next: part.next.as_ref().map(text),
            position: part.position.get(),
        }
    }
}

impl TryFrom<wire::UsageAnswer> for UsagePart {
    type Error = ConvertError;
    fn try_from(part: wire::UsageAnswer) -> Result<Self, ConvertError> {
        bounded(part.unloaded.len(), MAX_UNLOADED, "usage.unloaded")?;
        let unloaded = part.unloaded.iter();
        let next = part.next.as_ref();
        Ok(Self {
            files: part.files,
            directories: part.directories,
            bytes: part.bytes,
            unloaded: unloaded
                .map(|dir| path(dir, "usage.unloaded"))
                .collect::<Result<_, _>>()?,
            next: next.map(|next| path(next, "usage.next")).transpose()?,
            position: LogIndex::new(part.position),
        })
    }
}

impl From<&Absent> for wire::Absent {
    fn from(absent: &Absent) -> Self {
        Self {
            dir: absent.dir.as_str().to_owned(),
            dir_inode: absent.dir_inode.get(),
            mount: absent.mount.map(MountId::get),
            name: absent.name.clone(),
            position: absent.position.get(),
        }
    }
}

impl TryFrom<wire::Absent> for Absent {
    type Error = ConvertError;
    fn try_from(absent: wire::Absent) -> Result<Self, ConvertError> {
        Ok(Self {
            dir: path(&absent.dir, "absent.dir")?,
            dir_inode: InodeId::new(absent.dir_inode),
            mount: absent.mount.map(MountId::new),
            name: text(absent.name, MAX_TEXT, "absent.name")?,
            position: LogIndex::new(absent.position),
        })
    }
}

impl From<&DetachedFile> for wire::DetachedFile {
    fn from(file: &DetachedFile) -> Self {
        Self {
            inode: file.inode.get(),
            source: file.source.as_ref().map(Into::into),
        }
    }
}

impl TryFrom<wire::DetachedFile> for DetachedFile {
    type Error = ConvertError;
    fn try_from(file: wire::DetachedFile) -> Result<Self, ConvertError> {
        Ok(Self {
            inode: InodeId::new(file.inode),
            source: optional(file.source)?,
        })
    }
}

impl From<&ClusterView> for wire::ClusterView {
    fn from(view: &ClusterView) -> Self {
        Self {
            epoch: view.epoch,
            nodes: messages(&view.nodes),
        }
    }
}

impl TryFrom<wire::ClusterView> for ClusterView {
    type Error = ConvertError;
    fn try_from(view: wire::ClusterView) -> Result<Self, ConvertError> {
        Ok(Self {
            epoch: view.epoch,
            nodes: list(view.nodes, MAX_LIST, "view.nodes")?,
        })
    }
}
