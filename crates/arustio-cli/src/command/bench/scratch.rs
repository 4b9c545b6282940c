//! A directory for one measurement, gone afterwards.

use arustio_client::{DeleteOptions, FileSystem, FsError, MkdirOptions};
use arustio_types::FsPath;

/// Measures in a new directory below `parent`, which is removed then unless it is kept. A
/// measurement that failed is told before a removal that did.
pub(super) async fn within<T>(
    fs: &dyn FileSystem,
    parent: &FsPath,
    keep: bool,
    measure: impl AsyncFnOnce(&FsPath) -> Result<T, FsError>,
) -> Result<T, FsError> {
    let mark: u32 = rand::random();
    let scratch = parent.join(&format!("bench-{mark:08x}"))?;
    fs.mkdir(&scratch, MkdirOptions::default()).await?;
    let measured = measure(&scratch).await;
    if keep {
        return measured;
    }
    let options = DeleteOptions {
        recursive: true,
        arustio_only: false,
    };
    let removed = fs.delete(&scratch, options).await;
    let measured = measured?;
    removed.map(|_| measured)
}
