//! `location`: on which block nodes the blocks of a file belong, and what is there.

use std::ffi::OsString;

use arustio_client::types::cluster::NodeInfo;
use arustio_client::{FileLocation, FileSystem, FsError, NodeShare};
use serde_json::{Value, json};

use super::admin::columns;
use crate::local::fs_path;
use crate::output::{Output, printable, size};

/// Each file by node, or with `blocks` by block.
pub(crate) async fn location(
    fs: &dyn FileSystem,
    out: &mut Output,
    paths: &[OsString],
    blocks: bool,
) -> Result<u8, FsError> {
    for (at, path) in paths.iter().enumerate() {
        let found = fs.location(&fs_path(path)?).await?;
        if !out.is_json() && paths.len() > 1 {
            let gap = if at > 0 { "\n" } else { "" };
            out.line(&format!("{gap}{}:", printable(found.status.path.as_str())))?;
        }
        match blocks {
            true => by_block(out, &found)?,
            false => by_node(out, &found)?,
        }
    }
    Ok(0)
}

fn by_node(out: &mut Output, found: &FileLocation) -> Result<(), FsError> {
    if out.is_json() {
        let mut nodes = found.nodes.iter();
        return nodes.try_for_each(|share| out.object(&share_object(found, share)));
    }
    let header = ["NODE", "ADDRESS", "OWNS", "CACHED"];
    let mut rows = vec![header.map(str::to_owned)];
    for share in &found.nodes {
        let drains = if share.node.draining {
            ", draining"
        } else {
            ""
        };
        rows.push([
            share.node.id.to_string(),
            printable(&share.node.address),
            format!("{} of {} blocks{drains}", share.owns, found.blocks()),
            share
                .cached
                .map_or("-".to_owned(), |bytes| size(bytes, true)),
        ]);
    }
    columns(&rows).iter().try_for_each(|line| out.line(line))
}

fn share_object(found: &FileLocation, share: &NodeShare) -> Value {
    json!({
        "path": found.status.path.as_str(),
        "node": share.node.id.get(),
        "address": share.node.address,
        "draining": share.node.draining,
        "owned_blocks": share.owns,
        "blocks": found.blocks(),
        "cached_bytes": share.cached,
    })
}

fn by_block(out: &mut Output, found: &FileLocation) -> Result<(), FsError> {
    let block = found.status.block_size.bytes();
    for index in 0..found.blocks() {
        let offset = index * block;
        let length = block.min(found.status.size - offset);
        let owners = found.owners(index);
        if out.is_json() {
            let owners: Vec<Value> = owners.iter().map(|node| owner(node)).collect();
            out.object(&json!({
                "path": found.status.path.as_str(),
                "block": index,
                "offset": offset,
                "length": length,
                "owners": owners,
            }))?;
            continue;
        }
        let owners: Vec<String> = owners.iter().map(|node| node.address.clone()).collect();
        let owners = match owners.is_empty() {
            true => "no block node".to_owned(),
            false => printable(&owners.join(" ")),
        };
        out.line(&format!("{index}\t{offset}\t{length}\t{owners}"))?;
    }
    Ok(())
}

fn owner(node: &NodeInfo) -> Value {
    json!({"node": node.id.get(), "address": node.address})
}
