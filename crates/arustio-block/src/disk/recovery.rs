//! Finding again what an earlier process left.
//!
//! Runs in the background, one folder at a time, while the tier already serves: a read
//! that the catalog cannot answer yet looks for the file by its name. Until the scan has
//! ended the tier takes no writes, since it could not say how much space is left.
//!
//! Files that bear one of our names but cannot be used are removed and counted. What we
//! never wrote is counted and left alone.

use arustio_types::BlockKey;

use super::files::Files;
use super::format::{self, Named};

impl Files {
    /// Takes in all blocks of one folder.
    pub(crate) fn recover_folder(&self, folder: &str) {
        let names = match self.backend.list(folder) {
            Ok(names) => names,
            Err(error) => {
                self.counters.io_errors.add(1);
                if self.is_lost() {
                    return;
                }
                tracing::warn!(%error, folder, "cannot list a folder of the cache");
                return;
            }
        };
        for name in names {
            match format::parse_name(&format!("{folder}/{name}")) {
                Some(Named::Block(key)) => {
                    self.adopt(key);
                }
                Some(Named::Pin(key)) => self.drop_stray_pin(key),
                None => self.counters.foreign.add(1),
            }
        }
    }

    /// A mark without a block is what a crash in the middle of a durable write leaves.
    fn drop_stray_pin(&self, key: BlockKey) {
        if self.backend.open(&format::file_name(key)).is_err() {
            // It would only be looked at again at the next start.
            let _ = self.backend.remove(&format::pin_name(key));
        }
    }
}
