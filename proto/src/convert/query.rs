//! Questions.

use arustio_types::meta::Query;
use arustio_types::{InodeId, MountId};

use super::ConvertError;
use super::field::{MAX_TEXT, limit, optional, path, required, text, wire_limit};
use super::page::PACKED_FORMAT;
use crate::meta::v1 as wire;

impl From<&Query> for wire::Query {
    fn from(query: &Query) -> Self {
        use wire::query::Kind;
        let kind = match query {
            Query::Stat { path } => Kind::Stat(wire::QueryStat {
                path: path.as_str().to_owned(),
            }),
            Query::List { path, after, limit } => Kind::List(wire::QueryList {
                path: path.as_str().to_owned(),
                after: after.clone(),
                limit: wire_limit(*limit),
                packed: PACKED_FORMAT,
            }),
            Query::Mounts => Kind::Mounts(wire::QueryMounts {}),
            Query::OpenMount { mount } => {
                Kind::OpenMount(wire::QueryOpenMount { mount: mount.get() })
            }
            Query::Conf { path } => Kind::Conf(wire::QueryConf {
                path: path.as_str().to_owned(),
            }),
            Query::Pending { after, limit } => Kind::Pending(wire::QueryPending {
                after: after.as_ref().map(Into::into),
                limit: wire_limit(*limit),
            }),
            Query::Detached { root, after, limit } => Kind::Detached(wire::QueryDetached {
                root: root.get(),
                after: after.map(InodeId::get),
                limit: wire_limit(*limit),
            }),
            Query::Usage { path, after } => Kind::Usage(wire::QueryUsage {
                path: path.as_str().to_owned(),
                after: after.as_ref().map(|after| after.as_str().to_owned()),
            }),
            Query::ClusterView => Kind::ClusterView(wire::QueryClusterView {}),
            Query::Nodes => Kind::Nodes(wire::QueryNodes {}),
            Query::Identity => Kind::Identity(wire::QueryIdentity {}),
        };
        Self { kind: Some(kind) }
    }
}

impl TryFrom<wire::Query> for Query {
    type Error = ConvertError;
    fn try_from(query: wire::Query) -> Result<Self, ConvertError> {
        use wire::query::Kind;
        Ok(match required(query.kind, "query")? {
            Kind::Stat(stat) => Self::Stat {
                path: path(&stat.path, "stat.path")?,
            },
            Kind::List(list) => Self::List {
                path: path(&list.path, "list.path")?,
                after: list
                    .after
                    .map(|after| text(after, MAX_TEXT, "list.after"))
                    .transpose()?,
                limit: limit(list.limit),
            },
            Kind::Mounts(_) => Self::Mounts,
            Kind::OpenMount(open) => Self::OpenMount {
                mount: MountId::new(open.mount),
            },
            Kind::Conf(conf) => Self::Conf {
                path: path(&conf.path, "conf.path")?,
            },
            Kind::Pending(pending) => Self::Pending {
                after: optional(pending.after)?,
                limit: limit(pending.limit),
            },
            Kind::Detached(detached) => Self::Detached {
                root: InodeId::new(detached.root),
                after: detached.after.map(InodeId::new),
                limit: limit(detached.limit),
            },
            Kind::Usage(usage) => Self::Usage {
                path: path(&usage.path, "usage.path")?,
                after: usage
                    .after
                    .map(|after| path(&after, "usage.after"))
                    .transpose()?,
            },
            Kind::ClusterView(_) => Self::ClusterView,
            Kind::Nodes(_) => Self::Nodes,
            Kind::Identity(_) => Self::Identity,
        })
    }
}
