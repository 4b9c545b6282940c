//! Block nodes: where their bytes are.

use arustio_types::cluster::DataEndpoints;

use super::ConvertError;
use super::field::{MAX_TEXT, text};
use crate::common::v1 as wire;

/// Absent where there is nothing but gRPC, so that a node without looks as it always did.
pub(super) fn endpoints(data: &DataEndpoints) -> Option<wire::DataEndpoints> {
    (*data != DataEndpoints::default()).then(|| wire::DataEndpoints {
        frames: data.frames.clone(),
        socket: data.socket.clone(),
        host: data.host.clone(),
    })
}

pub(super) fn read_endpoints(
    data: Option<wire::DataEndpoints>,
) -> Result<DataEndpoints, ConvertError> {
    let data = data.unwrap_or_default();
    let bounded = |value: Option<String>, field| {
        let value = value.map(|value| text(value, MAX_TEXT, field));
        value.transpose()
    };
    Ok(DataEndpoints {
        frames: bounded(data.frames, "data.frames")?,
        socket: bounded(data.socket, "data.socket")?,
        host: bounded(data.host, "data.host")?,
    })
}
