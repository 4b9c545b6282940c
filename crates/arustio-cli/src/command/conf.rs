//! `set-conf` and `get-conf`.

use std::ffi::OsStr;

use arustio_client::{FileSystem, FsError};
use arustio_types::ErrorKind;
use arustio_types::meta::setting::PathConf;
use serde_json::json;

use crate::local::fs_path;
use crate::output::Output;

fn invalid(message: impl Into<String>) -> FsError {
    FsError::new(ErrorKind::InvalidArgument, message)
}

/// The nearest known key, for whoever mistyped one.
fn unknown_key(key: &str) -> FsError {
    let nearest = PathConf::KEYS
        .into_iter()
        .max_by(|a, b| strsim::jaro(key, a).total_cmp(&strsim::jaro(key, b)))
        .unwrap_or("write.type");
    invalid(format!(
        "unknown setting {key:?}; did you mean {nearest}? Known are {}",
        PathConf::KEYS.join(", ")
    ))
}

/// Sets and unsets.
pub(crate) async fn set(
    fs: &dyn FileSystem,
    path: &OsStr,
    values: &[String],
    unset: &[String],
) -> Result<u8, FsError> {
    let path = fs_path(path)?;
    if values.is_empty() && unset.is_empty() {
        return Err(invalid(
            "nothing to set: give key=value, for example write.type=THROUGH",
        ));
    }
    let mut conf = PathConf::default();
    for pair in values {
        let (key, value) = pair
            .split_once('=')
            .ok_or_else(|| invalid(format!("cannot read {pair:?}: expected key=value")))?;
        let canonical = PathConf::canonical(key).ok_or_else(|| unknown_key(key))?;
        conf.set(canonical, value)
            .map_err(|error| invalid(error.to_string()))?;
    }
    let mut cleared = Vec::new();
    for key in unset {
        let canonical = PathConf::canonical(key).ok_or_else(|| unknown_key(key))?;
        cleared.push(canonical.to_owned());
    }
    fs.set_conf(&path, conf, cleared).await?;
    Ok(0)
}

/// Shows what holds and where it comes from.
pub(crate) async fn get(
    fs: &dyn FileSystem,
    out: &mut Output,
    path: &OsStr,
    key: Option<&str>,
) -> Result<u8, FsError> {
    let path = fs_path(path)?;
    let wanted = match key {
        Some(key) => Some(PathConf::canonical(key).ok_or_else(|| unknown_key(key))?),
        None => None,
    };
    let view = fs.conf(&path).await?;
    let defaults = PathConf {
        write_type: Some(view.effective.effective_write_type()),
        sync_interval: Some(view.effective.effective_sync_interval()),
        block_size: Some(view.effective.effective_block_size()),
    };
    let own = view.own.entries();
    let inherited = view.effective.entries();
    for (key, value) in defaults.entries() {
        if wanted.is_some_and(|wanted| wanted != key) {
            continue;
        }
        let origin = if own.iter().any(|(k, _)| *k == key) {
            "set here"
        } else if inherited.iter().any(|(k, _)| *k == key) {
            "inherited"
        } else {
            "default"
        };
        if out.is_json() {
            out.object(
                &json!({"path": path.as_str(), "key": key, "value": value, "origin": origin}),
            )?;
        } else if wanted.is_some() {
            out.line(&value)?;
        } else {
            out.line(&format!("{key}={value} ({origin})"))?;
        }
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_key_is_answered_with_the_nearest() {
        let error = unknown_key("wrte.type");
        assert!(error.message().contains("did you mean write.type?"));
    }
}
