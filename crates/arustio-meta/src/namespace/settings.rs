//! Settings of paths, which everything below inherits.
//!
//! They belong to a path and not to what stands there: a path may be set before it
//! exists, and keeps its settings when what it names is replaced.

use arustio_types::ErrorKind;
use arustio_types::FsPath;
use arustio_types::meta::command::{Outcome, Refusal};
use arustio_types::meta::mount::WriteType;
use arustio_types::meta::setting::{Origin, PathConf};

use super::txn::{Read, Step, Txn};
use crate::engine::Family;

/// Set on exactly this path.
pub(crate) fn own(txn: &Txn<'_>, path: &FsPath) -> Read<PathConf> {
    let stored = txn.get(Family::Settings, path.as_str().as_bytes())?;
    Ok(stored.unwrap_or_default())
}

/// With everything that is inherited.
pub(crate) fn effective(txn: &Txn<'_>, path: &FsPath) -> Read<PathConf> {
    if !txn.has_settings()? {
        return Ok(PathConf::default());
    }
    let mut conf = PathConf::default();
    for ancestor in path.ancestors() {
        conf = own(txn, &ancestor)?.over(&conf);
    }
    Ok(own(txn, path)?.over(&conf))
}

/// Where each effective value was set.
pub(crate) fn origins(txn: &Txn<'_>, path: &FsPath) -> Read<Vec<Origin>> {
    let mut found: Vec<Origin> = Vec::new();
    let mut paths = path.ancestors();
    paths.push(path.clone());
    // The nearest one says what holds.
    for path in paths.into_iter().rev() {
        for (key, _) in own(txn, &path)?.entries() {
            if !found.iter().any(|origin| origin.key == key) {
                let (key, path) = (key.to_owned(), path.clone());
                found.push(Origin { key, path });
            }
        }
    }
    Ok(found)
}

/// Whether anything strictly below a path is set.
pub(crate) fn any_below(txn: &Txn<'_>, path: &FsPath) -> Read<bool> {
    Ok(txn.has_settings()? && txn.any(Family::Settings, below(path).as_bytes())?)
}

fn below(path: &FsPath) -> String {
    match path.is_root() {
        true => "/".to_owned(),
        false => format!("{path}/"),
    }
}

/// A write type that this release has; others are refused where they are asked for, so
/// that nobody sets what every later write would stumble over.
pub(crate) fn available(write_type: WriteType, path: &FsPath) -> Result<(), Refusal> {
    match write_type {
        WriteType::Through | WriteType::CacheThrough => Ok(()),
        WriteType::AsyncThrough | WriteType::MustCache => Err(Refusal::on(
            ErrorKind::Unsupported,
            path,
            format!(
                "write type {write_type} is not available yet; use THROUGH or CACHE_THROUGH \
                 (arustio fs set-conf PATH write.type=CACHE_THROUGH)"
            ),
        )),
    }
}

/// Changes the settings of a path.
pub(crate) fn change(
    txn: &mut Txn<'_>,
    path: &FsPath,
    set: &PathConf,
    unset: &[String],
) -> Step<Outcome> {
    if let Some(write_type) = set.write_type {
        available(write_type, path)?;
    }
    let mut conf = set.over(&own(txn, path)?);
    for key in unset {
        conf.unset(key)
            .map_err(|error| Refusal::on(ErrorKind::InvalidArgument, path, error.to_string()))?;
    }
    let at = path.as_str().as_bytes().to_vec();
    match conf.is_empty() {
        true => txn.delete(Family::Settings, at),
        false => txn.put(Family::Settings, at, &conf),
    }
    Ok(Outcome::Done)
}

/// Forgets the settings of everything below a path.
pub(crate) fn forget_below(txn: &mut Txn<'_>, path: &FsPath) -> Read<()> {
    for at in txn.keys(Family::Settings, below(path).as_bytes(), usize::MAX)? {
        // The root itself starts with its own prefix.
        if at != path.as_str().as_bytes() {
            txn.delete(Family::Settings, at);
        }
    }
    Ok(())
}
