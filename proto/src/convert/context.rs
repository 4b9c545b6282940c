//! Who asks, and with which request.

use std::time::Duration;

use arustio_types::meta::command::Principal;
use arustio_types::meta::{Consistency, RequestContext};
use arustio_types::{ClusterId, Incarnation, LogIndex, RequestId, SessionId};

use super::ConvertError;
use super::field::{MAX_TEXT, bits, required, required_bits, text, texts, timestamp, whole_millis};
use crate::meta::v1 as wire;

/// Groups of one principal.
const MAX_GROUPS: usize = 4096;

impl From<&RequestContext> for wire::RequestContext {
    fn from(context: &RequestContext) -> Self {
        Self {
            cluster: bits(context.cluster.get()),
            incarnation: context.incarnation.get(),
            group: context.group,
            session: context.id.session.get(),
            sequence: context.id.sequence,
            first_unacked: context.id.first_unacked,
            deadline_millis: whole_millis(context.deadline),
            principal: Some((&context.principal).into()),
            now: context.now.millis(),
        }
    }
}

impl TryFrom<wire::RequestContext> for RequestContext {
    type Error = ConvertError;
    fn try_from(context: wire::RequestContext) -> Result<Self, ConvertError> {
        Ok(Self {
            cluster: ClusterId::new(required_bits(context.cluster, "context.cluster")?),
            incarnation: Incarnation::new(context.incarnation),
            group: context.group,
            id: RequestId {
                session: SessionId::new(context.session),
                sequence: context.sequence,
                first_unacked: context.first_unacked,
            },
            deadline: Duration::from_millis(context.deadline_millis),
            principal: context.principal.unwrap_or_default().try_into()?,
            now: timestamp(context.now),
        })
    }
}

impl From<&Principal> for wire::Principal {
    fn from(principal: &Principal) -> Self {
        Self {
            user: principal.user.clone(),
            groups: principal.groups.clone(),
        }
    }
}

impl TryFrom<wire::Principal> for Principal {
    type Error = ConvertError;
    fn try_from(principal: wire::Principal) -> Result<Self, ConvertError> {
        Ok(Self {
            user: text(principal.user, MAX_TEXT, "principal.user")?,
            groups: texts(principal.groups, MAX_GROUPS, "principal.groups")?,
        })
    }
}

impl From<&Consistency> for wire::Consistency {
    fn from(consistency: &Consistency) -> Self {
        use wire::consistency::{Kind, Linearizable, Stale};
        let kind = match consistency {
            Consistency::Linearizable => Kind::Linearizable(Linearizable {}),
            Consistency::AtLeast(index) => Kind::AtLeast(index.get()),
            Consistency::Stale => Kind::Stale(Stale {}),
        };
        Self { kind: Some(kind) }
    }
}

impl TryFrom<wire::Consistency> for Consistency {
    type Error = ConvertError;
    fn try_from(consistency: wire::Consistency) -> Result<Self, ConvertError> {
        use wire::consistency::Kind;
        Ok(match required(consistency.kind, "consistency")? {
            Kind::Linearizable(_) => Self::Linearizable,
            Kind::AtLeast(index) => Self::AtLeast(LogIndex::new(index)),
            Kind::Stale(_) => Self::Stale,
        })
    }
}
