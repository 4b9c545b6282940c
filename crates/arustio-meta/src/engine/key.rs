//! The keys of every family, in the order that scans rely on.
//!
//! Numbers are big-endian, so that key order is number order. A family that holds more
//! than one kind of entry starts each key with a tag. Keys of a UFS end with a NUL in
//! secondary indexes: no path has one, so that `a` never runs into `ab`. What a key means
//! never changes; a new meaning gets a new tag.

use arustio_types::{InodeId, MountId, NodeId, SessionId, UfsKey};

const RECORD: u8 = 0;
const BY_KEY: u8 = 1;
const BY_TREE: u8 = 2;

const SESSION_OUTCOME: u8 = 1;
const SESSION_NONCE: u8 = 2;
const SESSION_EXPIRY: u8 = 3;

const NODE_INSTANCE: u8 = 1;

/// `meta`: what has been applied.
pub const APPLIED: &[u8] = b"applied";
/// `meta`: the next number of each kind.
pub const COUNTERS: &[u8] = b"counters";
/// `meta`: the sum over all records.
pub const STATE_HASH: &[u8] = b"hash";
/// `meta`: the cluster and its incarnation.
pub const IDENTITY: &[u8] = b"identity";
/// `meta`: who belongs to the group of metadata servers, as consensus encodes it.
pub const MEMBERS: &[u8] = b"members";
/// `meta`: the inode of `/`.
pub const ROOT: &[u8] = b"root";
/// `meta`: everything that can be there.
pub const ALL_META: &[&[u8]] = &[APPLIED, COUNTERS, STATE_HASH, IDENTITY, MEMBERS, ROOT];

fn tagged(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length = parts.iter().map(|part| part.len()).sum::<usize>() + 1;
    let mut key = Vec::with_capacity(length);
    key.push(tag);
    for part in parts {
        key.extend_from_slice(part);
    }
    key
}

/// `dentries`: a name in a directory.
pub fn dentry(parent: InodeId, name: &str) -> Vec<u8> {
    [&parent.get().to_be_bytes()[..], name.as_bytes()].concat()
}

/// `dentries`: every name of a directory starts with this.
pub fn dentries_of(parent: InodeId) -> Vec<u8> {
    parent.get().to_be_bytes().to_vec()
}

/// The name in a key of `dentries`; `None` when it is no such key.
pub fn name_of_dentry(key: &[u8]) -> Option<&str> {
    std::str::from_utf8(key.get(8..)?).ok()
}

/// The directory in a key of `dentries`.
pub fn parent_of_dentry(key: &[u8]) -> Option<InodeId> {
    number(key).map(InodeId::new)
}

/// `inodes`: a record.
pub fn inode(id: InodeId) -> Vec<u8> {
    id.get().to_be_bytes().to_vec()
}

/// The inode in a key of `inodes`.
pub fn inode_of(key: &[u8]) -> Option<InodeId> {
    number(key).map(InodeId::new)
}

/// `mounts` and `credentials`: a mount.
pub fn mount(id: MountId) -> Vec<u8> {
    id.get().to_be_bytes().to_vec()
}

/// `intents` and `effects`: a record.
pub fn owed(id: u64) -> Vec<u8> {
    tagged(RECORD, &[&id.to_be_bytes()])
}

/// `intents` and `effects`: all records.
pub fn all_owed() -> Vec<u8> {
    vec![RECORD]
}

/// `intents` and `effects`: which one lies on a key.
pub fn owed_on(mount: MountId, key: &UfsKey, id: u64) -> Vec<u8> {
    let mut found = owed_exactly_on(mount, key.as_str());
    found.extend_from_slice(&id.to_be_bytes());
    found
}

/// `intents` and `effects`: those that lie on exactly this key start so.
pub fn owed_exactly_on(mount: MountId, key: &str) -> Vec<u8> {
    tagged(BY_KEY, &[&mount.get().to_be_bytes(), key.as_bytes(), &[0]])
}

/// `intents` and `effects`: those that lie on a key with this prefix start so.
pub fn owed_below(mount: MountId, prefix: &str) -> Vec<u8> {
    tagged(BY_KEY, &[&mount.get().to_be_bytes(), prefix.as_bytes()])
}

/// `effects`: which one removes a tree.
pub fn tree_on(mount: MountId, prefix: &UfsKey, id: u64) -> Vec<u8> {
    let mut found = tree_exactly_on(mount, prefix.as_str());
    found.extend_from_slice(&id.to_be_bytes());
    found
}

/// `effects`: those that remove exactly this tree start so.
pub fn tree_exactly_on(mount: MountId, prefix: &str) -> Vec<u8> {
    tagged(
        BY_TREE,
        &[&mount.get().to_be_bytes(), prefix.as_bytes(), &[0]],
    )
}

/// `effects`: those that remove a tree below this prefix start so.
pub fn trees_below(mount: MountId, prefix: &str) -> Vec<u8> {
    tagged(BY_TREE, &[&mount.get().to_be_bytes(), prefix.as_bytes()])
}

/// The number at the end of an index key.
pub fn last_number(key: &[u8]) -> Option<u64> {
    let tail = key.len().checked_sub(8)?;
    number(&key[tail..])
}

/// The number that follows the tag.
pub fn tagged_number(key: &[u8]) -> Option<u64> {
    number(key.get(1..)?)
}

fn number(bytes: &[u8]) -> Option<u64> {
    bytes.first_chunk::<8>().map(|raw| u64::from_be_bytes(*raw))
}

/// `sessions`: a record.
pub fn session(id: SessionId) -> Vec<u8> {
    tagged(RECORD, &[&id.get().to_be_bytes()])
}

/// `sessions`: all records.
pub fn all_sessions() -> Vec<u8> {
    vec![RECORD]
}

/// `sessions`: the outcome of a request.
pub fn outcome(session: SessionId, sequence: u64) -> Vec<u8> {
    tagged(
        SESSION_OUTCOME,
        &[&session.get().to_be_bytes(), &sequence.to_be_bytes()],
    )
}

/// `sessions`: which session a nonce opened.
pub fn session_nonce(nonce: u128) -> Vec<u8> {
    tagged(SESSION_NONCE, &[&nonce.to_be_bytes()])
}

/// `sessions`: by the replicated millisecond at which they expire.
pub fn session_expiry(expires_at: u64, id: SessionId) -> Vec<u8> {
    tagged(
        SESSION_EXPIRY,
        &[&expires_at.to_be_bytes(), &id.get().to_be_bytes()],
    )
}

/// What a key of `sessions` stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionEntry {
    /// A session.
    Record(SessionId),
    /// The outcome of one of its requests.
    Outcome(SessionId, u64),
    /// Which session a nonce opened.
    Nonce,
    /// When a session expires.
    Expiry(u64, SessionId),
}

/// `sessions`: what a key stands for; `None` when it is no such key.
pub fn session_entry(key: &[u8]) -> Option<SessionEntry> {
    let (tag, rest) = key.split_first()?;
    let first = number(rest);
    let second = rest.get(8..).and_then(number);
    Some(match (*tag, rest.len()) {
        (RECORD, 8) => SessionEntry::Record(SessionId::new(first?)),
        (SESSION_OUTCOME, 16) => SessionEntry::Outcome(SessionId::new(first?), second?),
        (SESSION_NONCE, 16) => SessionEntry::Nonce,
        (SESSION_EXPIRY, 16) => SessionEntry::Expiry(first?, SessionId::new(second?)),
        _ => return None,
    })
}

/// `nodes`: a record.
pub fn node(id: NodeId) -> Vec<u8> {
    tagged(RECORD, &[&id.get().to_be_bytes()])
}

/// `nodes`: all records.
pub fn all_nodes() -> Vec<u8> {
    vec![RECORD]
}

/// `nodes`: which node has this data directory.
pub fn node_instance(instance: u128) -> Vec<u8> {
    tagged(NODE_INSTANCE, &[&instance.to_be_bytes()])
}

/// `jobs`: a tree that no name leads to and nobody needs.
pub fn garbage(root: InodeId) -> Vec<u8> {
    tagged(RECORD, &[&root.get().to_be_bytes()])
}

/// `jobs`: all such trees.
pub fn all_garbage() -> Vec<u8> {
    vec![RECORD]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_keep_the_order_of_numbers_and_never_run_into_each_other() {
        assert!(inode(InodeId::new(2)) < inode(InodeId::new(256)));
        let mount = MountId::new(1);
        let on_a = owed_on(mount, &UfsKey::new("a"), 7);
        assert!(on_a.starts_with(&owed_exactly_on(mount, "a")));
        assert!(!owed_on(mount, &UfsKey::new("ab"), 7).starts_with(&owed_exactly_on(mount, "a")));
        assert!(owed_on(mount, &UfsKey::new("a/b"), 7).starts_with(&owed_below(mount, "a/")));
        assert_eq!(last_number(&on_a), Some(7));
        let key = dentry(InodeId::new(3), "x");
        assert_eq!(name_of_dentry(&key), Some("x"));
        assert_eq!(parent_of_dentry(&key), Some(InodeId::new(3)));
    }
}
