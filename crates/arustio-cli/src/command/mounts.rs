//! `mount`, `update-mount`, `unmount`, and the mount table.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::Path;

use arustio_client::{FileSystem, FsError, MountRequest, StatOptions};
use arustio_types::meta::credential::Credential;
use arustio_types::meta::mount::MountEntry;
use arustio_types::{ErrorKind, SystemClock, WallClock as _};
use serde_json::json;

use crate::args::{MountArgs, UpdateMountArgs};
use crate::local::{fs_path, local_error};
use crate::output::{Output, age, mount_json, printable};

fn invalid(message: impl Into<String>) -> FsError {
    FsError::new(ErrorKind::InvalidArgument, message)
}

/// Options as typed, with `@file` and `env:NAME` replaced by what they name.
fn options(typed: &[String]) -> Result<BTreeMap<String, String>, FsError> {
    let mut found = BTreeMap::new();
    let mut in_clear = Vec::new();
    for pair in typed {
        let Some((key, value)) = pair.split_once('=') else {
            // The pair itself stays unsaid: it may be a secret that lost its key.
            return Err(invalid(
                "an option must be key=value, such as -o region=eu-west-1",
            ));
        };
        let resolved = resolve(key, value)?;
        if resolved.is_none() && arustio_ufs::config::is_secret(key) {
            in_clear.push(key);
        }
        let value = resolved.unwrap_or_else(|| value.to_owned());
        if found.insert(key.to_owned(), value).is_some() {
            return Err(invalid(format!("option {key} is given twice")));
        }
    }
    if let Some(key) = in_clear.last() {
        eprintln!(
            "warning: {key} is visible in the process list; use -o {key}=@FILE or -o {key}=env:NAME"
        );
    }
    Ok(found)
}

/// The value that `@file` or `env:NAME` stands for; `None` when it is literal.
fn resolve(key: &str, value: &str) -> Result<Option<String>, FsError> {
    if let Some(file) = value.strip_prefix('@') {
        let path = Path::new(file);
        let text = std::fs::read_to_string(path).map_err(|e| local_error("read", path, &e))?;
        return Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned()));
    }
    if let Some(name) = value.strip_prefix("env:") {
        return match std::env::var(name) {
            Ok(value) => Ok(Some(value)),
            Err(_) => Err(invalid(format!(
                "option {key}: the environment variable {name} is not set"
            ))),
        };
    }
    Ok(None)
}

/// Mounts, tries, or without arguments shows the mounts.
pub(crate) async fn mount(
    fs: &dyn FileSystem,
    out: &mut Output,
    args: MountArgs,
) -> Result<u8, FsError> {
    let (Some(path), Some(uri)) = (args.path, args.uri) else {
        return list(fs, out, args.v).await;
    };
    let request = MountRequest {
        path: fs_path(&path)?,
        uri,
        options: options(&args.options)?,
        readonly: args.readonly,
        shared: args.shared,
    };
    if args.check {
        return check(fs, out, request).await;
    }
    let done = fs.mount(request).await?;
    if out.is_json() {
        out.object(&mount_json(&done.entry))?;
    } else if done.already {
        out.line(&format!("already mounted: {}", summary(&done.entry)))?;
    } else {
        out.line(&format!("mounted {}", summary(&done.entry)))?;
    }
    Ok(0)
}

async fn check(
    fs: &dyn FileSystem,
    out: &mut Output,
    request: MountRequest,
) -> Result<u8, FsError> {
    let found = fs.check_mount(request).await?;
    if out.is_json() {
        out.object(&json!({
            "uri": found.uri,
            "capabilities": found.capabilities.line,
            "tried": found.tried,
        }))?;
        return Ok(0);
    }
    for line in &found.tried {
        out.line(line)?;
    }
    out.line(&format!("{}: {}", found.uri, found.capabilities.line))?;
    Ok(0)
}

/// Changes options in place; the ones that are not given stay.
pub(crate) async fn update(
    fs: &dyn FileSystem,
    out: &mut Output,
    args: UpdateMountArgs,
) -> Result<u8, FsError> {
    let path = fs_path(&args.path)?;
    let mounts = fs.mounts().await?;
    let Some(current) = mounts.iter().find(|entry| entry.spec.path == path) else {
        let message = "nothing is mounted there; see the mounts with: arustio fs list";
        return Err(FsError::on(ErrorKind::NotFound, &path, message).during("update the mount"));
    };
    let mut merged = current.spec.options.clone();
    merged.extend(options(&args.options)?);
    let done = fs
        .update_mount(MountRequest {
            path,
            uri: args.uri.unwrap_or_else(|| current.spec.uri.clone()),
            options: merged,
            readonly: args.readonly.unwrap_or(current.spec.readonly),
            shared: current.spec.shared,
        })
        .await?;
    if out.is_json() {
        out.object(&mount_json(&done.entry))?;
    } else {
        out.line(&format!("updated {}", summary(&done.entry)))?;
    }
    Ok(0)
}

/// Forgets a mount.
pub(crate) async fn unmount(
    fs: &dyn FileSystem,
    out: &mut Output,
    path: &OsStr,
    force: bool,
) -> Result<u8, FsError> {
    let path = fs_path(path)?;
    let done = fs.unmount(&path, force).await?;
    for line in &done.abandoned {
        eprintln!("abandoned: {}", printable(line));
    }
    if out.is_json() {
        out.object(&json!({"path": path.as_str(), "abandoned": done.abandoned}))?;
    } else {
        out.line(&format!("unmounted {path}"))?;
    }
    Ok(0)
}

fn summary(entry: &MountEntry) -> String {
    let mut words = vec![if entry.spec.readonly { "ro" } else { "rw" }];
    if entry.spec.shared {
        words.push("shared");
    }
    format!(
        "{} on {} ({})",
        entry.spec.uri,
        printable(entry.spec.path.as_str()),
        words.join(", ")
    )
}

/// The mount table.
pub(crate) async fn list(
    fs: &dyn FileSystem,
    out: &mut Output,
    verbose: bool,
) -> Result<u8, FsError> {
    let mounts = fs.mounts().await?;
    if mounts.is_empty() && !out.is_json() {
        eprintln!("nothing is mounted; mount something with: arustio fs mount PATH URI");
    }
    for entry in &mounts {
        if out.is_json() {
            out.object(&mount_json(entry))?;
            continue;
        }
        out.line(&summary(entry))?;
        if verbose {
            details(out, entry)?;
            out.line(&format!("    looked at: {}", looked_at(fs, entry).await))?;
        }
    }
    Ok(0)
}

/// How old the knowledge of a mount's root is; asking does not make it younger.
async fn looked_at(fs: &dyn FileSystem, entry: &MountEntry) -> String {
    let as_known = StatOptions { stale_ok: true };
    let status = fs.stat(&entry.spec.path, as_known).await;
    match status.ok().and_then(|status| status.checked_at) {
        Some(at) => format!("{} ago", age(SystemClock.now().since(at))),
        None => "not since the server started".to_owned(),
    }
}

fn details(out: &mut Output, entry: &MountEntry) -> Result<(), FsError> {
    let spec = &entry.spec;
    out.line(&format!("    can: {}", spec.capabilities.line))?;
    let credential = match spec.credential {
        Credential::Provider => "provider chain (environment, profile, instance)",
        Credential::Clear(_) | Credential::Sealed(_) => "set",
    };
    out.line(&format!("    credential: {credential}"))?;
    for (key, value) in &spec.options {
        out.line(&format!("    {key}={}", printable(value)))?;
    }
    if let Some(bound) = &spec.bound_to {
        out.line(&format!("    bound to {}", printable(bound)))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_taken_from_a_file_or_the_environment() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        std::fs::write(&file, "hush\n").unwrap();
        let typed = [format!("secret_access_key=@{}", file.display())];
        let found = options(&typed).unwrap();
        assert_eq!(found["secret_access_key"], "hush");
        let typed = ["secret_access_key=env:ARUSTIO_TEST_NO_SUCH_NAME".to_owned()];
        let error = options(&typed).unwrap_err();
        assert!(error.message().contains("is not set"));
    }

    #[test]
    fn an_option_without_a_key_is_refused_without_repeating_it() {
        let error = options(&["hush".to_owned()]).unwrap_err();
        assert!(!error.to_string().contains("hush"));
        assert_eq!(error.exit_code(), 2);
    }
}
