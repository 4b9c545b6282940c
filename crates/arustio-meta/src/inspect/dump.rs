//! Every record as a line of JSON, for people and for programs.
//!
//! A line names its family, its key in words and its fields. Credentials, nonces of
//! sessions and outcomes of requests are mentioned and never shown.

use std::io::{self, Write};
use std::ops::ControlFlow;

use arustio_types::meta::FileKind;
use arustio_types::meta::effect::{Effect, EffectKind};
use arustio_types::meta::intent::Intent;
use arustio_types::meta::mount::MountEntry;
use arustio_types::meta::setting::PathConf;
use arustio_types::{Classify, ErrorKind, FsPath, ObjectVersion};
use serde_json::{Map, Value, json};

use crate::engine::record::{
    Attributes, Counters, DentryRecord, DirRecord, FileRecord, IdentityRecord, InodeRecord, Loaded,
    NodeRecord, Record, SessionRecord,
};
use crate::engine::{EngineError, Family, KvEngine, Scan, key};
use crate::error::StateMachineError;
use crate::state_machine::Applied;

/// Why a dump ended.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// Whoever takes the lines takes no more.
    #[error("cannot write the dump: {0}")]
    Output(#[source] io::Error),
    /// There is nothing at the path whose records were asked for.
    #[error("there is no {path}")]
    Missing {
        /// The path.
        path: FsPath,
    },
    /// A record that leads to others cannot be read.
    #[error(transparent)]
    State(#[from] StateMachineError),
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl Classify for DumpError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Output(_) => ErrorKind::Internal,
            Self::Missing { .. } => ErrorKind::NotFound,
            Self::State(error) => error.kind(),
            Self::Engine(error) => error.kind(),
        }
    }
}

/// Writes one line for each record of these families; says how many there were. A record
/// that cannot be read is shown with its bytes and the reason.
pub fn dump(
    engine: &dyn KvEngine,
    families: &[Family],
    out: &mut dyn Write,
) -> Result<u64, DumpError> {
    let mut count = 0;
    for family in families {
        count += lines(engine, *family, out, &mut |_, _| true)?;
    }
    out.flush().map_err(DumpError::Output)?;
    Ok(count)
}

/// Writes one line for each record of a family that is wanted; says how many there were.
pub(super) fn lines(
    engine: &dyn KvEngine,
    family: Family,
    out: &mut dyn Write,
    wanted: &mut dyn FnMut(&[u8], &[u8]) -> bool,
) -> Result<u64, DumpError> {
    let mut count = 0;
    let mut fault = Ok(());
    engine.scan(family, Scan::all(), &mut |at, value| {
        if !wanted(at, value) {
            return ControlFlow::Continue(());
        }
        fault = line(family, at, value, out);
        count += 1;
        match fault {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    })?;
    fault.map_err(DumpError::Output)?;
    Ok(count)
}

pub(super) fn line(family: Family, at: &[u8], value: &[u8], out: &mut dyn Write) -> io::Result<()> {
    let mut object = Map::from_iter([("family".to_owned(), json!(family.name()))]);
    match shown(family, at, value) {
        Ok(Value::Object(fields)) => object.extend(fields),
        Ok(other) => {
            object.insert("value".to_owned(), other);
        }
        Err(error) => {
            object.insert("key".to_owned(), json!(hex(at)));
            object.insert("bytes".to_owned(), json!(value.len()));
            object.insert("unreadable".to_owned(), json!(error.to_string()));
        }
    }
    writeln!(out, "{}", Value::Object(object))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn odd() -> StateMachineError {
    StateMachineError::Corrupt {
        what: "a key",
        detail: "it has another form".to_owned(),
    }
}

fn shown(family: Family, at: &[u8], value: &[u8]) -> Result<Value, StateMachineError> {
    match family {
        Family::Dentries => dentry(at, value),
        Family::Inodes => inode(at, value),
        Family::Mounts => MountEntry::decode_stored(value).map(|entry| mount(&entry)),
        Family::Credentials => {
            let mount = key::parent_of_dentry(at).ok_or_else(odd)?;
            let state = if value.is_empty() {
                "missing"
            } else {
                "sealed"
            };
            Ok(json!({"mount": mount.get(), "credential": state}))
        }
        Family::Intents => owed(at, value, |value| {
            Intent::decode_stored(value).map(|i| intent(&i))
        }),
        Family::Effects => owed(at, value, |value| {
            Effect::decode_stored(value).map(|e| effect(&e))
        }),
        Family::Settings => {
            let conf = PathConf::decode_stored(value)?;
            let entries = conf.entries().into_iter();
            let entries = entries.map(|(key, value)| (key.to_owned(), json!(value)));
            let path = std::str::from_utf8(at).map_err(|_| odd())?;
            Ok(json!({"path": path, "settings": Map::from_iter(entries)}))
        }
        Family::Nodes => node(at, value),
        Family::Sessions => session(at, value),
        Family::Jobs => {
            let root = key::tagged_number(at).ok_or_else(odd)?;
            Ok(json!({"job": "free a tree that no name leads to", "root": root}))
        }
        Family::Meta => meta(at, value),
        Family::Log => Ok(json!({"key": hex(at), "bytes": value.len()})),
    }
}

fn kind_name(kind: FileKind) -> &'static str {
    match kind {
        FileKind::File => "file",
        FileKind::Directory => "directory",
    }
}

fn version(version: &ObjectVersion) -> Value {
    json!({"identity": version.identity.as_str(), "version_id": version.version_id})
}

fn dentry(at: &[u8], value: &[u8]) -> Result<Value, StateMachineError> {
    let entry = DentryRecord::decode_stored(value)?;
    Ok(json!({
        "parent": key::parent_of_dentry(at).ok_or_else(odd)?.get(),
        "name": key::name_of_dentry(at).ok_or_else(odd)?,
        "inode": entry.child.get(),
        "kind": kind_name(entry.kind),
        "changed_at": entry.changed_at.get(),
    }))
}

fn inode(at: &[u8], value: &[u8]) -> Result<Value, StateMachineError> {
    let id = key::parent_of_dentry(at).ok_or_else(odd)?;
    let record = InodeRecord::decode_stored(value)?;
    let (attributes, fields) = match &record {
        InodeRecord::File(record) => (&record.attributes, file(record)),
        InodeRecord::Dir(record) => (&record.attributes, directory(record)),
    };
    let mut object = common(attributes);
    object.insert("inode".to_owned(), json!(id.get()));
    object.insert("kind".to_owned(), json!(kind_name(record.kind())));
    if let Value::Object(fields) = fields {
        object.extend(fields);
    }
    Ok(Value::Object(object))
}

fn common(attributes: &Attributes) -> Map<String, Value> {
    Map::from_iter([
        ("mode".to_owned(), json!(format!("{:04o}", attributes.mode))),
        ("owner".to_owned(), json!(attributes.owner)),
        ("group".to_owned(), json!(attributes.group)),
        ("modified".to_owned(), json!(attributes.modified.millis())),
    ])
}

fn file(file: &FileRecord) -> Value {
    json!({
        "size": file.size,
        "version": file.version.as_ref().map(version),
        "key": file.key.as_ref().map(|key| key.as_str()),
        "content": file.content.map(|content| content.to_string()),
        "block_size": file.block_size.map(|size| size.bytes()),
        "persistence": file.persistence.name(),
    })
}

fn directory(dir: &DirRecord) -> Value {
    let loaded = match &dir.loaded {
        Loaded::None => json!("none"),
        Loaded::Below(bound) => json!({"below": bound}),
        Loaded::Complete => json!("complete"),
    };
    let marker = dir.marker.as_ref().map(|marker| {
        json!({
            "version": version(&marker.version),
            "key": marker.key.as_ref().map(|key| key.as_str()),
        })
    });
    json!({
        "names": dir.children,
        "directories": dir.direct.map(|direct| direct.directories),
        "bytes": dir.direct.map(|direct| direct.bytes),
        "loaded": loaded,
        "last_removed_at": dir.last_removed_at.get(),
        "origin": dir.origin.as_ref().map(|origin| origin.as_str()),
        "marker": marker,
        "mount": dir.mount.map(|mount| mount.get()),
    })
}

fn mount(entry: &MountEntry) -> Value {
    json!({
        "mount": entry.id.get(),
        "generation": entry.generation,
        "root": entry.root.get(),
        "path": entry.spec.path.as_str(),
        "uri": entry.spec.uri,
        "options": entry.spec.options,
        "readonly": entry.spec.readonly,
        "shared": entry.spec.shared,
        "bound_to": entry.spec.bound_to,
        "capabilities": entry.spec.capabilities.line,
    })
}

/// A record, or an entry of the index by which it is found.
fn owed(
    at: &[u8],
    value: &[u8],
    record: impl FnOnce(&[u8]) -> Result<Value, StateMachineError>,
) -> Result<Value, StateMachineError> {
    match at.starts_with(&key::all_owed()) {
        true => record(value),
        false => {
            let of = key::last_number(at).ok_or_else(odd)?;
            Ok(json!({"index_of": of, "key": hex(at)}))
        }
    }
}

fn intent(intent: &Intent) -> Value {
    json!({
        "intent": intent.id.get(),
        "mount": intent.mount.get(),
        "path": intent.path.as_str(),
        "key": intent.key.as_str(),
        "expected": intent.expected.as_ref().map(version),
        "write_id": intent.write_id.to_string(),
        "content": intent.content.to_string(),
        "uploads": intent.upload_ids,
        "holder": intent.holder.get(),
        "unanswered_until": intent.unanswered_until,
        "published": intent.published,
        "begun_at": intent.begun_at.get(),
        "begun_time": intent.begun_time,
    })
}

fn effect(effect: &Effect) -> Value {
    let what = match &effect.kind {
        EffectKind::Delete { key, version: of } => json!({
            "key": key.as_str(), "version": version(of),
        }),
        EffectKind::DeleteTree { prefix, root } => json!({
            "prefix": prefix.as_str(), "root": root.get(),
        }),
        EffectKind::Rename {
            from,
            version: of,
            to,
            expected,
            write_id,
            inode,
            old_path,
            new_path,
        } => json!({
            "from": from.as_str(),
            "version": version(of),
            "to": to.as_str(),
            "expected": expected.as_ref().map(version),
            "write_id": write_id.to_string(),
            "inode": inode.get(),
            "old_path": old_path.as_str(),
            "new_path": new_path.as_str(),
        }),
        EffectKind::RenameTree(tree) => json!({
            "from": tree.from.as_str(),
            "to": tree.to.as_str(),
            "root": tree.root.get(),
            "write_id": tree.write_id.to_string(),
            "old_path": tree.old_path.as_str(),
            "new_path": tree.new_path.as_str(),
            "after": tree.after,
            "moved": tree.moved,
        }),
        EffectKind::PutMarker { key, dir, write_id } => json!({
            "key": key.as_str(), "dir": dir.get(), "write_id": write_id.to_string(),
        }),
    };
    json!({
        "effect": effect.id.get(),
        "mount": effect.mount.get(),
        "kind": effect.kind.name(),
        "what": what,
        "executor": effect.executor.get(),
        "unanswered_until": effect.unanswered_until,
        "recorded_at": effect.recorded_at.get(),
        "recorded_time": effect.recorded_time,
        "last_error": effect.last_error,
    })
}

fn node(at: &[u8], value: &[u8]) -> Result<Value, StateMachineError> {
    if !at.starts_with(&key::all_nodes()) {
        let of = value.first_chunk().map(|raw| u64::from_be_bytes(*raw));
        return Ok(json!({"index_of": of.ok_or_else(odd)?, "key": hex(at)}));
    }
    let node = NodeRecord::decode_stored(value)?;
    Ok(json!({
        "node": node.id.get(),
        "instance": format!("{:032x}", node.instance),
        "address": node.address,
        "weight": node.share(),
        "draining": node.decided.draining,
        "removed": node.decided.removed,
        "frames": node.data.frames,
        "socket": node.data.socket,
        "host": node.data.host,
    }))
}

fn session(at: &[u8], value: &[u8]) -> Result<Value, StateMachineError> {
    Ok(match key::session_entry(at).ok_or_else(odd)? {
        key::SessionEntry::Record(id) => {
            let record = SessionRecord::decode_stored(value)?;
            json!({
                "session": id.get(),
                "ttl": record.ttl,
                "expires_at": record.expires_at,
                "closed": record.closed,
                "first_unacked": record.first_unacked,
            })
        }
        key::SessionEntry::Outcome(id, sequence) => {
            json!({"session": id.get(), "outcome_of": sequence, "bytes": value.len()})
        }
        key::SessionEntry::Nonce => {
            let of = value.first_chunk().map(|raw| u64::from_be_bytes(*raw));
            json!({"nonce_of": of.ok_or_else(odd)?})
        }
        key::SessionEntry::Expiry(at, id) => json!({"expiry_of": id.get(), "at": at}),
    })
}

fn meta(at: &[u8], value: &[u8]) -> Result<Value, StateMachineError> {
    Ok(match at {
        key::APPLIED => {
            let applied = Applied::decode_stored(value)?;
            json!({
                "applied": applied.position.index.get(),
                "term": applied.position.term,
                "time": applied.time.millis(),
            })
        }
        key::COUNTERS => {
            let next = Counters::decode_stored(value)?;
            json!({
                "next": {
                    "inode": next.inode,
                    "mount": next.mount,
                    "session": next.session,
                    "intent": next.intent,
                    "effect": next.effect,
                    "node": next.node,
                },
                "epoch": next.epoch,
            })
        }
        key::IDENTITY => {
            let identity = IdentityRecord::decode_stored(value)?;
            json!({
                "cluster": identity.cluster.to_string(),
                "incarnation": identity.incarnation.get(),
            })
        }
        _ => json!({"key": String::from_utf8_lossy(at), "value": hex(value)}),
    })
}
