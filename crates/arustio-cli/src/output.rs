//! What people and programs see: text and JSON from the same values.
//!
//! Results go to stdout, everything else to stderr. Names are printed as UTF-8
//! whatever the locale; only control characters are escaped, and never in JSON,
//! which has its own escapes.

use std::borrow::Cow;
use std::io::{self, BufWriter, Stdout, Write};
use std::path::Path;
use std::time::Duration;

use arustio_client::FsError;
use arustio_types::ErrorKind;
use arustio_types::meta::mount::MountEntry;
use arustio_types::meta::status::{FileKind, FileStatus};
use arustio_types::{ByteSize, FsPath, Timestamp};
use chrono::{DateTime, Local, Utc};
use serde_json::{Map, Value, json};

use crate::local::local_error;

/// Where results go, and in which form.
#[derive(Debug)]
pub(crate) struct Output {
    out: BufWriter<Stdout>,
    json: bool,
}

impl Output {
    /// Results to stdout, as text or as JSON.
    pub(crate) fn new(json: bool) -> Self {
        Self {
            out: BufWriter::with_capacity(64 << 10, io::stdout()),
            json,
        }
    }

    /// Whether programs read this.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// One line of text.
    pub(crate) fn line(&mut self, text: &str) -> Result<(), FsError> {
        self.bytes(text.as_bytes())?;
        self.bytes(b"\n")
    }

    /// The line of an entry of which nothing but the name is shown.
    pub(crate) fn name(
        &mut self,
        status: &FileStatus,
        base: Option<&FsPath>,
    ) -> Result<(), FsError> {
        let (name, slash) = name_of(status, base);
        self.bytes(shown(name).as_bytes())?;
        self.bytes(slash.as_bytes())?;
        self.bytes(b"\n")
    }

    /// One JSON object.
    pub(crate) fn object(&mut self, value: &Value) -> Result<(), FsError> {
        self.line(&value.to_string())
    }

    /// Bytes as they are.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<(), FsError> {
        self.out.write_all(bytes).map_err(|e| stdout_error(&e))
    }

    /// Everything written so far is seen now.
    pub(crate) fn flush(&mut self) -> Result<(), FsError> {
        self.out.flush().map_err(|e| stdout_error(&e))
    }

    /// Message of the error that means: nobody reads our output any more.
    pub(crate) const CLOSED: &'static str = "the reader of the output is gone";
}

fn stdout_error(error: &io::Error) -> FsError {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return FsError::new(ErrorKind::Internal, Output::CLOSED);
    }
    local_error("write to", Path::new("standard output"), error)
}

/// Escapes control characters, so that a name cannot steer a terminal.
pub(crate) fn printable(text: &str) -> String {
    shown(text).into_owned()
}

fn shown(text: &str) -> Cow<'_, str> {
    let plain = |byte: u8| (b' '..=b'~').contains(&byte);
    if text.bytes().all(plain) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    Cow::Owned(shown)
}

/// So many of something.
pub(crate) fn counted(count: u64, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        count => format!("{count} {what}s"),
    }
}

/// A size for people or exactly.
pub(crate) fn size(bytes: u64, human: bool) -> String {
    if human {
        ByteSize(bytes).human()
    } else {
        bytes.to_string()
    }
}

/// Local time to the second.
pub(crate) fn local_time(time: Timestamp) -> String {
    match DateTime::<Utc>::from_timestamp_millis(time.millis()) {
        Some(utc) => utc
            .with_timezone(&Local)
            .format("%Y-%m-%d %H:%M:%S")
            .to_string(),
        None => "-".to_owned(),
    }
}

/// RFC 3339 in UTC, for programs.
pub(crate) fn rfc3339(time: Timestamp) -> String {
    match DateTime::<Utc>::from_timestamp_millis(time.millis()) {
        Some(utc) => utc.to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
        None => time.millis().to_string(),
    }
}

/// An age for people: `5s`, `3m`, `2h`, `4d`.
pub(crate) fn age(age: Duration) -> String {
    let seconds = age.as_secs();
    match seconds {
        0..=119 => format!("{seconds}s"),
        120..=7_199 => format!("{}m", seconds / 60),
        7_200..=172_799 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// Permission bits as `ls` shows them.
pub(crate) fn mode(kind: FileKind, bits: u32) -> String {
    let mut shown = String::with_capacity(10);
    shown.push(if kind == FileKind::Directory {
        'd'
    } else {
        '-'
    });
    for shift in [6, 3, 0] {
        let triple = bits >> shift;
        shown.push(if triple & 4 != 0 { 'r' } else { '-' });
        shown.push(if triple & 2 != 0 { 'w' } else { '-' });
        shown.push(if triple & 1 != 0 { 'x' } else { '-' });
    }
    shown
}

/// How much of a file is cached.
pub(crate) fn percent(cached: Option<u64>, size: u64) -> String {
    match cached {
        None => "-".to_owned(),
        Some(_) if size == 0 => "100%".to_owned(),
        Some(cached) => format!("{}%", u128::from(cached) * 100 / u128::from(size)),
    }
}

/// An entry for programs. Fields are added, never renamed.
pub(crate) fn entry_json(status: &FileStatus, cached: Option<u64>) -> Value {
    let mut object = Map::new();
    object.insert("path".into(), json!(status.path.as_str()));
    let kind = if status.is_dir() { "directory" } else { "file" };
    object.insert("type".into(), json!(kind));
    object.insert("size".into(), json!(status.size));
    object.insert("modified".into(), json!(rfc3339(status.modified)));
    object.insert(
        "content_id".into(),
        json!(status.content_id().map(|c| c.to_string())),
    );
    let source = status.source.as_ref();
    object.insert(
        "object_version".into(),
        json!(source.map(|s| s.version.identity.as_str())),
    );
    object.insert("persisted".into(), json!(status.persistence.name()));
    object.insert("cached_bytes".into(), json!(cached));
    object.insert("checked_at".into(), json!(status.checked_at.map(rfc3339)));
    object.insert("mode".into(), json!(format!("{:04o}", status.mode)));
    object.insert("owner".into(), json!(status.owner));
    object.insert("group".into(), json!(status.group));
    object.insert("block_size".into(), json!(status.block_size.bytes()));
    Value::Object(object)
}

/// A mount for programs.
pub(crate) fn mount_json(entry: &MountEntry) -> Value {
    json!({
        "path": entry.spec.path.as_str(),
        "uri": entry.spec.uri,
        "readonly": entry.spec.readonly,
        "shared": entry.spec.shared,
        "capabilities": entry.spec.capabilities.line,
    })
}

/// The name that `ls` prints for an entry of a listed directory.
pub(crate) fn shown_name(status: &FileStatus, base: Option<&FsPath>) -> String {
    let (name, slash) = name_of(status, base);
    format!("{}{slash}", shown(name))
}

/// The name, and what follows it.
fn name_of<'a>(status: &'a FileStatus, base: Option<&FsPath>) -> (&'a str, &'static str) {
    let name = match base.and_then(|b| status.path.relative_to(b)) {
        Some("") | None => status.path.as_str(),
        Some(relative) => relative,
    };
    match status.is_dir() && !name.ends_with('/') {
        true => (name, "/"),
        false => (name, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_shown_as_they_are_but_cannot_steer_a_terminal() {
        assert_eq!(printable("größe 1.txt"), "größe 1.txt");
        assert_eq!(printable("a\u{1b}[31mb\n"), "a\\u{1b}[31mb\\n");
    }

    #[test]
    fn modes_and_ages_read_as_people_expect() {
        assert_eq!(mode(FileKind::Directory, 0o755), "drwxr-xr-x");
        assert_eq!(mode(FileKind::File, 0o640), "-rw-r-----");
        assert_eq!(age(Duration::from_secs(90)), "90s");
        assert_eq!(age(Duration::from_secs(600)), "10m");
        assert_eq!(age(Duration::from_secs(200_000)), "2d");
    }
}
