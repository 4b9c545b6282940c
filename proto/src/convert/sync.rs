//! Whose turn it is to ask a UFS.

use arustio_types::meta::sync::{SyncRequest, SyncTarget, SyncTurn};
use arustio_types::{InodeId, LogIndex};

use super::ConvertError;
use super::field::{
    MAX_TEXT, duration, message, millis, required, required_duration, text, timestamp,
};
use crate::meta::v1 as wire;

impl From<&SyncTarget> for wire::SyncTarget {
    fn from(target: &SyncTarget) -> Self {
        Self {
            dir: target.dir.get(),
            name: target.name.clone(),
        }
    }
}

impl TryFrom<wire::SyncTarget> for SyncTarget {
    type Error = ConvertError;
    fn try_from(target: wire::SyncTarget) -> Result<Self, ConvertError> {
        let name = target.name;
        Ok(Self {
            dir: InodeId::new(target.dir),
            name: name
                .map(|name| text(name, MAX_TEXT, "sync.target.name"))
                .transpose()?,
        })
    }
}

impl From<&SyncRequest> for wire::SyncRequest {
    fn from(request: &SyncRequest) -> Self {
        Self {
            target: Some((&request.target).into()),
            max_age: request.max_age.and_then(millis),
        }
    }
}

impl TryFrom<wire::SyncRequest> for SyncRequest {
    type Error = ConvertError;
    fn try_from(request: wire::SyncRequest) -> Result<Self, ConvertError> {
        Ok(Self {
            target: message(request.target, "sync.target")?,
            max_age: request.max_age.map(duration),
        })
    }
}

impl From<&SyncTurn> for wire::SyncTurn {
    fn from(turn: &SyncTurn) -> Self {
        use wire::sync_turn::Kind;
        let kind = match turn {
            SyncTurn::Fresh { checked_at } => Kind::Fresh(wire::SyncFresh {
                checked_at: checked_at.millis(),
            }),
            SyncTurn::Yours { ticket, seen } => Kind::Yours(wire::SyncYours {
                ticket: *ticket,
                seen: seen.get(),
            }),
            SyncTurn::Busy { retry_in } => Kind::Busy(wire::SyncBusy {
                retry_in: millis(*retry_in),
            }),
        };
        Self { kind: Some(kind) }
    }
}

impl TryFrom<wire::SyncTurn> for SyncTurn {
    type Error = ConvertError;
    fn try_from(turn: wire::SyncTurn) -> Result<Self, ConvertError> {
        use wire::sync_turn::Kind;
        Ok(match required(turn.kind, "sync.turn")? {
            Kind::Fresh(fresh) => Self::Fresh {
                checked_at: timestamp(fresh.checked_at),
            },
            Kind::Yours(yours) => Self::Yours {
                ticket: yours.ticket,
                seen: LogIndex::new(yours.seen),
            },
            Kind::Busy(busy) => Self::Busy {
                retry_in: required_duration(busy.retry_in, "sync.busy.retry_in")?,
            },
        })
    }
}
