//! The newest view of the cluster that a block node told of.
//!
//! Nodes name the epoch of the view that they know in their answers. A client whose view is
//! older asks for a new one before that would be due anyway. A hint and no more: with an old
//! view, and with one that a node made up, reads are as correct.

use std::sync::atomic::{AtomicU64, Ordering};

/// Written by connections to block nodes, read by whoever keeps the view.
#[derive(Debug, Default)]
pub struct Epoch(AtomicU64);

impl Epoch {
    /// A node answered that it knows of a view of this epoch; 0 says nothing.
    pub fn heard(&self, epoch: u64) {
        // Looked at first: nearly always it is no news, and a shared line is left alone.
        if epoch > self.0.load(Ordering::Relaxed) {
            self.0.fetch_max(epoch, Ordering::Relaxed);
        }
    }

    /// Whether a newer view was heard of than this.
    pub fn is_after(&self, epoch: u64) -> bool {
        self.0.load(Ordering::Relaxed) > epoch
    }

    /// The cluster was asked, and this is its view: what was heard before counts no more.
    pub fn settle(&self, epoch: u64) {
        self.0.store(epoch, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_makes_up_an_epoch_is_believed_until_the_cluster_was_asked() {
        let epoch = Epoch::default();
        assert!(!epoch.is_after(0));
        epoch.heard(5);
        epoch.heard(3);
        assert!(epoch.is_after(4) && !epoch.is_after(5));
        epoch.heard(u64::MAX);
        assert!(epoch.is_after(6));
        epoch.settle(6);
        assert!(!epoch.is_after(6));
    }
}
