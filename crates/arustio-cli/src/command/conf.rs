//! `set-conf` and `get-conf`.

use std::ffi::OsStr;

use arustio_client::{FileSystem, FsError};
use arustio_types::meta::setting::PathConf;
use arustio_types::{ErrorKind, FsPath};
use serde_json::json;

use crate::local::fs_path;
use crate::output::{Output, printable};

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
    for (key, value) in defaults.entries() {
        if wanted.is_some_and(|wanted| wanted != key) {
            continue;
        }
        let from = view.origin(key);
        let origin = match from {
            Some(from) if *from == path => "set here",
            Some(_) => "inherited",
            None => "default",
        };
        if out.is_json() {
            out.object(&json!({
                "path": path.as_str(),
                "key": key,
                "value": value,
                "origin": origin,
                "from": from.map(FsPath::as_str),
            }))?;
        } else if wanted.is_some() {
            out.line(&value)?;
        } else {
            let from = from.filter(|from| **from != path);
            let from = from.map_or(String::new(), |from| {
                format!(" from {}", printable(from.as_str()))
            });
            out.line(&format!("{key}={value} ({origin}{from})"))?;
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
