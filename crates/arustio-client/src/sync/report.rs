//! Keys that cannot be paths, by name and reason (U3).

use std::sync::Arc;

use arustio_types::{FsPath, UfsKey};
use arustio_ufs::key::{KeyFault, meaning};
use arustio_ufs::{ListOptions, ListPage, ObjectEntry};
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};

use crate::client::Client;
use crate::error::{FsError, Result};
use crate::fs::SyncFinding;
use crate::resolve::Mounted;

impl Client {
    /// Walks the keys below a path of a mount.
    pub(crate) fn sync_report(
        self: Arc<Self>,
        path: FsPath,
    ) -> BoxStream<'static, Result<SyncFinding>> {
        let begun = async move {
            let look = self.look_dir(&path).await?;
            let mounted = self.mounted(look.mount).await?;
            findings(mounted, path)
        };
        futures::stream::once(begun).try_flatten().boxed()
    }
}

fn findings(
    mounted: Arc<Mounted>,
    path: FsPath,
) -> Result<BoxStream<'static, Result<SyncFinding>>> {
    let prefix = mounted.directory_key(&path)?;
    let pages = mounted.ufs.list(ListOptions::all(prefix.as_str()));
    let mut shadows = Shadows::default();
    let found = pages.map(move |page| {
        let page = page.map_err(|error| FsError::caused_by(error).at(&path))?;
        let found = of_page(&mounted, &mut shadows, page);
        Ok::<_, FsError>(futures::stream::iter(found.into_iter().map(Ok)))
    });
    Ok(found.try_flatten().boxed())
}

fn of_page(mounted: &Mounted, shadows: &mut Shadows, page: ListPage) -> Vec<SyncFinding> {
    let mut found = Vec::new();
    for skipped in page.skipped {
        found.push(SyncFinding {
            key: skipped.name,
            reason: skipped.reason.to_owned(),
        });
    }
    for entry in &page.entries {
        for shadowed in shadows.pass(&entry.key) {
            found.push(finding(&shadowed, KeyFault::Shadowed));
        }
        if let Some(reason) = fault(mounted, entry) {
            found.push(SyncFinding {
                key: entry.key.to_string(),
                reason,
            });
        } else if !entry.key.as_str().ends_with('/') {
            shadows.file(&entry.key);
        }
    }
    found
}

fn fault(mounted: &Mounted, entry: &ObjectEntry) -> Option<String> {
    if let Err(fault) = meaning(&entry.key, entry.size) {
        return Some(fault.to_string());
    }
    let relative = entry.key.as_str().trim_end_matches('/');
    let path = mounted.entry.spec.path.join_relative(relative);
    path.err().map(|error| error.fault().to_string())
}

fn finding(key: &str, fault: KeyFault) -> SyncFinding {
    SyncFinding {
        key: key.to_owned(),
        reason: fault.to_string(),
    }
}

/// Files that a later key may still show to be hidden by a directory: all are prefixes
/// of the key that comes next, so there are never many.
#[derive(Debug, Default)]
struct Shadows(Vec<String>);

impl Shadows {
    fn file(&mut self, key: &UfsKey) {
        self.0.push(key.as_str().to_owned());
    }

    /// Keys come in byte order; those that this one shows to be hidden.
    fn pass(&mut self, key: &UfsKey) -> Vec<String> {
        let key = key.as_str();
        let mut hidden = Vec::new();
        self.0.retain(|file| match key.strip_prefix(file.as_str()) {
            Some(rest) if rest.starts_with('/') => {
                hidden.push(file.clone());
                false
            }
            Some(_) => true,
            None => false,
        });
        hidden
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn u3_a_file_hidden_by_a_directory_is_found_however_far_apart_they_lie() {
        let mut shadows = Shadows::default();
        let mut hidden = Vec::new();
        for key in ["a", "a-1", "a-1/x", "a.txt", "a/b", "a/b/c", "b"] {
            let key = UfsKey::new(key);
            hidden.extend(shadows.pass(&key));
            shadows.file(&key);
        }
        assert_eq!(hidden, ["a-1", "a", "a/b"]);
    }
}
