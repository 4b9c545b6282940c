//! Many names of one directory.
//!
//! A look at a name costs the store two requests; a look at a directory costs one for a
//! thousand names. Who opens file after file by its path does not list, and would pay for
//! each of them whenever `sync.interval` has passed. So once some names of a directory were
//! looked at by themselves, the directory is listed instead, as far as that costs no more
//! than those looks have cost. One that turns out to be larger is left alone until four
//! times as many names were looked at: listing costs at most as much as the looks did
//! (renting before buying).
//!
//! What was listed in vain is not lost: the namespace has the names.

use std::time::Duration;

use arustio_types::meta::sync::SyncTarget;
use arustio_types::{FsPath, InodeId};

use super::listing::DirWalk;
use super::{Learned, LookDir, Turn};
use crate::client::Client;
use crate::error::Result;
use crate::resolve::Mounted;

impl Client {
    /// Looks at all names of a directory instead of one that is about to be looked at, where
    /// that pays. `None`: look at the one.
    pub(super) async fn look_at_all(
        &self,
        mounted: &Mounted,
        dir: &FsPath,
        inode: InodeId,
        max_age: Duration,
    ) -> Result<Option<Learned>> {
        if max_age.is_zero() {
            return Ok(None);
        }
        let prefix = mounted.directory_key(dir)?;
        let looks = self.looked.one_of(mounted.id(), prefix.as_str(), max_age);
        let Some(pages) = looks else {
            return Ok(None);
        };
        let target = SyncTarget {
            dir: inode,
            name: None,
        };
        let Turn::Ours(ticket) = self.turn(target, max_age).await? else {
            return Ok(Some(Learned::ByOthers));
        };
        let look = LookDir {
            seen: ticket.seen,
            ..self.look_dir(dir).await?
        };
        let walked = match look.inode == inode && look.mount == mounted.id() {
            true => self.walk_some(look, pages).await,
            // Another one stands there by now.
            false => Ok(false),
        };
        let complete = matches!(walked, Ok(true));
        ticket.give_back(complete).await;
        if let Err(error) = walked {
            // The look at the one name has an error of its own, if any.
            tracing::debug!(%error, %dir, "a directory could not be listed");
        }
        Ok(complete.then_some(Learned::Something))
    }

    /// Lists a directory, at most so many pages of it. True: all of it is known now.
    async fn walk_some(&self, look: LookDir, pages: usize) -> Result<bool> {
        let mut walk = DirWalk::begin(self, look).await?;
        let mut came = 0;
        while let Some(stretch) = walk.next().await? {
            came += 1;
            if came == pages && stretch.to.is_some() {
                return Ok(false);
            }
        }
        Ok(walk.finish().await?.complete)
    }
}
