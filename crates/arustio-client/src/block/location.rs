//! Where the blocks of a file belong, and how much of it is there.
//!
//! No location is recorded anywhere: where a block belongs follows from its key and the view
//! of the cluster, what is there is asked of the nodes.

use std::sync::Arc;

use arustio_types::cluster::{ClusterView, NodeInfo};
use arustio_types::meta::FileStatus;
use arustio_types::{BlockKey, ContentId, ErrorKind, FsPath, placement};
use futures::future::join_all;

use super::usage;
use crate::client::Client;
use crate::error::{FsError, Result};
use crate::names::Knowledge;

/// Where the blocks of a file belong, by one view of the cluster.
#[derive(Debug, Clone)]
pub struct FileLocation {
    /// The file.
    pub status: FileStatus,
    /// The block nodes that live, by number.
    pub nodes: Vec<NodeShare>,
    view: Arc<ClusterView>,
    content: ContentId,
    replicas: usize,
}

/// What a block node has to do with a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeShare {
    /// The node.
    pub node: NodeInfo,
    /// Blocks of the file that belong on it.
    pub owns: u64,
    /// Bytes of the file that it has; `None`: it does not answer, or the file has too many
    /// blocks to be counted.
    pub cached: Option<u64>,
}

impl FileLocation {
    /// The number of blocks.
    pub fn blocks(&self) -> u64 {
        self.status.size.div_ceil(self.status.block_size.bytes())
    }

    /// The nodes on which a block belongs, best first.
    pub fn owners(&self, index: u64) -> Vec<&NodeInfo> {
        let key = BlockKey {
            content: self.content,
            size: self.status.block_size,
            index,
        };
        let mut owners = placement::ranked(&self.view, &key);
        owners.truncate(self.replicas);
        owners
    }

    fn count(&mut self) {
        let mut owns = vec![0; self.nodes.len()];
        for index in 0..self.blocks() {
            for owner in self.owners(index) {
                let at = self
                    .nodes
                    .iter()
                    .position(|share| share.node.id == owner.id);
                if let Some(owns) = at.and_then(|at| owns.get_mut(at)) {
                    *owns += 1;
                }
            }
        }
        for (share, owns) in self.nodes.iter_mut().zip(owns) {
            share.owns = owns;
        }
    }
}

impl Client {
    pub(crate) async fn location(&self, path: &FsPath) -> Result<FileLocation> {
        let status = self.stat(path, Knowledge::Fresh).await?;
        let Some(content) = status.content_id() else {
            let message = "it is a directory; name a file in it";
            return Err(FsError::on(ErrorKind::IsADirectory, path, message));
        };
        let view = self.metadata.cluster_view().await?;
        let extents: Vec<_> = usage::extent(&status).into_iter().collect();
        let share = |node: &NodeInfo| {
            let (node, extents) = (node.clone(), &extents);
            async move {
                let asked = self.blocks.cached(&node, extents, usage::DEADLINE).await;
                let cached = asked.ok().and_then(|present| present.first().copied());
                NodeShare {
                    node,
                    owns: 0,
                    cached,
                }
            }
        };
        let mut location = FileLocation {
            nodes: join_all(view.nodes.iter().map(share)).await,
            status,
            view,
            content,
            replicas: self.config.read.replicas,
        };
        location.count();
        Ok(location)
    }
}
