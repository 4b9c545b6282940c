//! Pages of directories: packed, and as whole statuses for who does not read packed ones.
//!
//! # Packed entries, format 1
//!
//! One entry after the other, in name order. Numbers are protobuf's variable-length
//! integers, signed ones in zigzag form, texts are UTF-8 with their length in front. An
//! entry is its [`flag`]s, its name, then the differences of inode, index of the last
//! change and time of modification to those of the entry before (0 before the first), then
//! what its flags announce, in the order of the flags' values. What is not announced is
//! usual: no size, the mode 0644 or 0755, the owner, the group and the age of knowledge of
//! the entry before (at first none), the mount and block size of the directory, a key that
//! follows from the name.
//!
//! Nothing here is trusted: a length is compared with what is there before anything is
//! allocated for it.

use arustio_types::content::{MAX_IDENTITY, MAX_KEY};
use arustio_types::meta::entries::{Entries, Entry, EntrySource, Shared};
use arustio_types::meta::query::Page;
use arustio_types::meta::status::{Content, Derivation, FileKind, Persistence};
use arustio_types::{
    BlockSize, ContentId, Incarnation, InodeId, LogIndex, MountId, Timestamp, UfsKey,
};
use prost::bytes::Buf;
use prost::encoding::{decode_varint, encode_varint};

use super::field::{MAX_LIST, MAX_TEXT, bounded, key, list, message, text};
use super::{ConvertError, refuse_above};
use crate::meta::v1 as wire;

/// The newest format of packed entries that this release writes and reads.
pub const PACKED_FORMAT: u32 = 1;

/// Bytes of an entry, roughly: a name, an identity and some numbers.
const ROUGHLY: usize = 72;
/// Bytes that every entry takes: its flags, its name and three differences.
const LEAST: usize = 6;

const FIELD: &str = "page.entries";
const FILE_MODE: u32 = 0o644;
const DIR_MODE: u32 = 0o755;

/// What an entry says. Those of nearly every entry fit into one byte.
mod flag {
    pub(super) const DIRECTORY: u64 = 1;
    /// A number.
    pub(super) const SIZE: u64 = 1 << 1;
    /// The text of the version's identity.
    pub(super) const SOURCE: u64 = 1 << 2;
    /// The content follows from the source.
    pub(super) const DERIVED: u64 = 1 << 3;
    pub(super) const LOADED: u64 = 1 << 4;
    /// A text.
    pub(super) const OWNER: u64 = 1 << 5;
    /// A text.
    pub(super) const GROUP: u64 = 1 << 6;
    /// A number.
    pub(super) const MODE: u64 = 1 << 7;
    /// A text.
    pub(super) const KEY: u64 = 1 << 8;
    /// A text.
    pub(super) const VERSION_ID: u64 = 1 << 9;
    /// 16 bytes, the highest first.
    pub(super) const NAMED: u64 = 1 << 10;
    /// A number: the exponent.
    pub(super) const BLOCK_SIZE: u64 = 1 << 11;
    pub(super) const TO_BE_PERSISTED: u64 = 1 << 12;
    pub(super) const NOT_PERSISTED: u64 = 1 << 13;
    /// A number: the mount, absent without `IN_MOUNT`.
    pub(super) const OTHER_MOUNT: u64 = 1 << 14;
    pub(super) const IN_MOUNT: u64 = 1 << 15;
    pub(super) const MOUNT_POINT: u64 = 1 << 16;
    /// A signed number, absent without `CHECKED`.
    pub(super) const OTHER_CHECK: u64 = 1 << 17;
    pub(super) const CHECKED: u64 = 1 << 18;
    /// The next one that is free.
    pub(super) const END: u64 = 1 << 19;
}

impl From<&Page> for wire::PackedPage {
    fn from(page: &Page) -> Self {
        let shared = page.entries.shared();
        Self {
            format: PACKED_FORMAT,
            dir: Some((&page.dir).into()),
            next: page.next.clone(),
            position: page.position.get(),
            prefix: shared.prefix().as_str().to_owned(),
            derivation: shared.derivation().map(|derivation| wire::Derivation {
                incarnation: derivation.incarnation.get(),
                generation: derivation.generation,
            }),
            count: u32::try_from(page.entries.len()).unwrap_or(u32::MAX),
            entries: pack(&page.entries).into(),
        }
    }
}

impl TryFrom<wire::PackedPage> for Page {
    type Error = ConvertError;
    fn try_from(page: wire::PackedPage) -> Result<Self, ConvertError> {
        refuse_above(PACKED_FORMAT, page.format, "a page of a directory")?;
        let dir = message(page.dir, "page.dir")?;
        let derivation = page.derivation.map(|derivation| Derivation {
            incarnation: Incarnation::new(derivation.incarnation),
            generation: derivation.generation,
        });
        let shared = Shared::new(&dir, key(&page.prefix, "page.prefix")?, derivation);
        let count = usize::try_from(page.count).unwrap_or(usize::MAX);
        bounded(count, page.entries.len() / LEAST, FIELD)?;
        Ok(Self {
            entries: unpack(shared, count, &page.entries)?,
            next: next(page.next)?,
            position: LogIndex::new(page.position),
            dir,
        })
    }
}

/// The page for a client that does not read packed ones: a whole status for each entry.
pub fn plain_page(page: &Page) -> wire::Page {
    let entries = page.entries.statuses();
    wire::Page {
        dir: Some((&page.dir).into()),
        entries: entries.map(|status| (&status).into()).collect(),
        next: page.next.clone(),
        position: page.position.get(),
    }
}

impl TryFrom<wire::Page> for Page {
    type Error = ConvertError;
    fn try_from(page: wire::Page) -> Result<Self, ConvertError> {
        let dir = message(page.dir, "page.dir")?;
        let statuses: Vec<_> = list(page.entries, MAX_LIST, FIELD)?;
        let shared = Shared::new(&dir, UfsKey::default(), None);
        let entries = Entries::of(shared, &statuses);
        Ok(Self {
            entries: entries.map_err(|source| ConvertError::Path {
                field: FIELD,
                source,
            })?,
            next: next(page.next)?,
            position: LogIndex::new(page.position),
            dir,
        })
    }
}

fn next(next: Option<String>) -> Result<Option<String>, ConvertError> {
    next.map(|next| text(next, MAX_TEXT, "page.next"))
        .transpose()
}

/// What the entry before said; differences are to it.
#[derive(Debug, Default)]
struct Before<'a> {
    inode: u64,
    changed_at: u64,
    modified: i64,
    owner: &'a str,
    group: &'a str,
    checked_at: Option<Timestamp>,
}

impl<'a> Before<'a> {
    fn of(entry: &Entry<'a>) -> Self {
        Self {
            inode: entry.inode.get(),
            changed_at: entry.changed_at.get(),
            modified: entry.modified.millis(),
            owner: entry.owner,
            group: entry.group,
            checked_at: entry.checked_at,
        }
    }
}

fn usual_mode(kind: FileKind) -> u32 {
    match kind {
        FileKind::File => FILE_MODE,
        FileKind::Directory => DIR_MODE,
    }
}

fn pack(entries: &Entries) -> Vec<u8> {
    let mut to = Vec::with_capacity(entries.len() * ROUGHLY);
    let mut before = Before::default();
    for entry in entries.iter() {
        let content = match entry.content {
            Content::Derived(how) if Some(how) != entries.shared().derivation() => {
                let named = entries.status(&entry).content_id();
                named.map_or(Content::None, Content::Named)
            }
            usual => usual,
        };
        let entry = Entry { content, ..entry };
        pack_entry(&mut to, &entry, &before, entries.shared());
        before = Before::of(&entry);
    }
    to
}

fn pack_entry(to: &mut Vec<u8>, entry: &Entry<'_>, before: &Before<'_>, shared: &Shared) {
    let flags = flags(entry, before, shared);
    let has = |flag| flags & flag != 0;
    put_number(to, flags);
    put_text(to, entry.name);
    put_signed(to, entry.inode.get().wrapping_sub(before.inode) as i64);
    let changed_at = entry.changed_at.get();
    put_signed(to, changed_at.wrapping_sub(before.changed_at) as i64);
    put_signed(to, entry.modified.millis().wrapping_sub(before.modified));
    if has(flag::SIZE) {
        put_number(to, entry.size);
    }
    if let Some(source) = entry.source {
        put_text(to, source.identity);
    }
    if has(flag::OWNER) {
        put_text(to, entry.owner);
    }
    if has(flag::GROUP) {
        put_text(to, entry.group);
    }
    if has(flag::MODE) {
        put_number(to, entry.mode.into());
    }
    if flags >= flag::KEY {
        pack_rare(to, entry, flags);
    }
}

fn pack_rare(to: &mut Vec<u8>, entry: &Entry<'_>, flags: u64) {
    let has = |flag| flags & flag != 0;
    if let Some(key) = entry.source.and_then(|source| source.key) {
        put_text(to, key);
    }
    if let Some(id) = entry.source.and_then(|source| source.version_id) {
        put_text(to, id);
    }
    if let Content::Named(content) = entry.content {
        to.extend_from_slice(&content.get().to_be_bytes());
    }
    if has(flag::BLOCK_SIZE) {
        encode_varint(entry.block_size.log2().into(), to);
    }
    if let Some(mount) = entry.mount.filter(|_| has(flag::OTHER_MOUNT)) {
        encode_varint(mount.get(), to);
    }
    if let Some(at) = entry.checked_at.filter(|_| has(flag::OTHER_CHECK)) {
        put_signed(to, at.millis());
    }
}

fn flags(entry: &Entry<'_>, before: &Before<'_>, shared: &Shared) -> u64 {
    let when = |holds, flag| if holds { flag } else { 0 };
    let other_mount = entry.mount != shared.mount();
    let other_check = entry.checked_at != before.checked_at;
    when(entry.kind == FileKind::Directory, flag::DIRECTORY)
        | when(entry.size != 0, flag::SIZE)
        | when(entry.source.is_some(), flag::SOURCE)
        | when(matches!(entry.content, Content::Derived(_)), flag::DERIVED)
        | when(entry.loaded, flag::LOADED)
        | when(entry.owner != before.owner, flag::OWNER)
        | when(entry.group != before.group, flag::GROUP)
        | when(entry.mode != usual_mode(entry.kind), flag::MODE)
        | when(entry.source.is_some_and(|s| s.key.is_some()), flag::KEY)
        | when(
            entry.source.is_some_and(|s| s.version_id.is_some()),
            flag::VERSION_ID,
        )
        | when(matches!(entry.content, Content::Named(_)), flag::NAMED)
        | when(entry.block_size != shared.block_size(), flag::BLOCK_SIZE)
        | match entry.persistence {
            Persistence::Persisted => 0,
            Persistence::ToBePersisted => flag::TO_BE_PERSISTED,
            Persistence::NotPersisted => flag::NOT_PERSISTED,
        }
        | when(other_mount, flag::OTHER_MOUNT)
        | when(other_mount && entry.mount.is_some(), flag::IN_MOUNT)
        | when(entry.mount_point, flag::MOUNT_POINT)
        | when(other_check, flag::OTHER_CHECK)
        | when(other_check && entry.checked_at.is_some(), flag::CHECKED)
}

/// Nearly every number here fits into one byte or two.
fn put_number(to: &mut Vec<u8>, value: u64) {
    match value {
        0..0x80 => to.push(value as u8),
        0x80..0x4000 => to.extend_from_slice(&[value as u8 | 0x80, (value >> 7) as u8]),
        _ => encode_varint(value, to),
    }
}

fn put_text(to: &mut Vec<u8>, text: &str) {
    put_number(to, text.len() as u64);
    to.extend_from_slice(text.as_bytes());
}

fn put_signed(to: &mut Vec<u8>, value: i64) {
    put_number(to, ((value << 1) ^ (value >> 63)) as u64);
}

fn unpack(shared: Shared, count: usize, mut bytes: &[u8]) -> Result<Entries, ConvertError> {
    let mut entries = Entries::with_capacity(shared, count);
    let mut before = Before::default();
    for at in 0..count {
        let failed = |reason: String| ConvertError::Packed {
            field: FIELD,
            entry: at,
            reason,
        };
        let entry = unpack_entry(&mut bytes, &before, entries.shared());
        let entry = entry.map_err(|reason| failed(reason.to_owned()))?;
        let pushed = entries.push(&entry);
        pushed.map_err(|error| failed(error.to_string()))?;
        before = Before::of(&entry);
    }
    match bytes.is_empty() {
        true => Ok(entries),
        false => Err(ConvertError::Packed {
            field: FIELD,
            entry: count,
            reason: "bytes follow the last entry".to_owned(),
        }),
    }
}

/// A value, or why there is none.
type Took<T> = Result<T, &'static str>;

fn unpack_entry<'a>(from: &mut &'a [u8], before: &Before<'a>, shared: &Shared) -> Took<Entry<'a>> {
    let flags = take_number(from)?;
    if flags >= flag::END {
        return Err("it has a flag that this release does not know");
    }
    let has = |flag| flags & flag != 0;
    let kind = match has(flag::DIRECTORY) {
        true => FileKind::Directory,
        false => FileKind::File,
    };
    let mut entry = Entry {
        name: take_text(from, MAX_TEXT)?,
        inode: InodeId::new(before.inode.wrapping_add(take_signed(from)? as u64)),
        changed_at: LogIndex::new(before.changed_at.wrapping_add(take_signed(from)? as u64)),
        modified: Timestamp::from_millis(before.modified.wrapping_add(take_signed(from)?)),
        kind,
        size: take_if(has(flag::SIZE), 0, || take_number(from))?,
        source: take_source(from, has(flag::SOURCE))?,
        owner: take_if(has(flag::OWNER), before.owner, || take_text(from, MAX_TEXT))?,
        group: take_if(has(flag::GROUP), before.group, || take_text(from, MAX_TEXT))?,
        mode: take_if(has(flag::MODE), usual_mode(kind), || {
            u32::try_from(take_number(from)?).map_err(|_| "its mode is too large")
        })?,
        loaded: has(flag::LOADED),
        mount_point: has(flag::MOUNT_POINT),
        content: take_derived(has(flag::DERIVED), shared)?,
        block_size: shared.block_size(),
        persistence: Persistence::Persisted,
        mount: shared.mount(),
        checked_at: before.checked_at,
    };
    if flags >= flag::KEY {
        unpack_rare(from, &mut entry, flags)?;
    }
    Ok(entry)
}

fn unpack_rare<'a>(from: &mut &'a [u8], entry: &mut Entry<'a>, flags: u64) -> Took<()> {
    let has = |flag| flags & flag != 0;
    if has(flag::KEY) || has(flag::VERSION_ID) {
        let source = entry.source.as_mut().ok_or("it has a key and no version")?;
        source.key = take_some(has(flag::KEY), || take_text(from, MAX_KEY))?;
        source.version_id = take_some(has(flag::VERSION_ID), || take_text(from, MAX_IDENTITY))?;
    }
    if has(flag::NAMED) {
        let (bits, rest) = from.split_first_chunk().ok_or("its content is cut short")?;
        entry.content = Content::Named(ContentId::new(u128::from_be_bytes(*bits)));
        *from = rest;
    }
    if has(flag::BLOCK_SIZE) {
        let log2 = u8::try_from(take_number(from)?).ok();
        let size = log2.and_then(BlockSize::from_log2);
        entry.block_size = size.ok_or("its block size is none")?;
    }
    entry.persistence = match (has(flag::TO_BE_PERSISTED), has(flag::NOT_PERSISTED)) {
        (false, false) => Persistence::Persisted,
        (true, false) => Persistence::ToBePersisted,
        (false, true) => Persistence::NotPersisted,
        (true, true) => return Err("its persistence contradicts itself"),
    };
    if has(flag::OTHER_MOUNT) {
        let mount = take_some(has(flag::IN_MOUNT), || take_number(from))?;
        entry.mount = mount.map(MountId::new);
    }
    if has(flag::OTHER_CHECK) {
        let at = take_some(has(flag::CHECKED), || take_signed(from))?;
        entry.checked_at = at.map(Timestamp::from_millis);
    }
    Ok(())
}

fn take_if<T>(there: bool, usual: T, take: impl FnOnce() -> Took<T>) -> Took<T> {
    if there { take() } else { Ok(usual) }
}

fn take_some<T>(there: bool, take: impl FnOnce() -> Took<T>) -> Took<Option<T>> {
    there.then(take).transpose()
}

fn take_source<'a>(from: &mut &'a [u8], there: bool) -> Took<Option<EntrySource<'a>>> {
    take_some(there, || {
        Ok(EntrySource {
            identity: take_text(from, MAX_IDENTITY)?,
            key: None,
            version_id: None,
        })
    })
}

fn take_derived(derived: bool, shared: &Shared) -> Took<Content> {
    take_if(derived, Content::None, || {
        let derivation = shared.derivation();
        let how = derivation.ok_or("its content is derived, and not said from what")?;
        Ok(Content::Derived(how))
    })
}

fn take_number(from: &mut &[u8]) -> Took<u64> {
    // Nearly every number is below 128.
    if let Some((first, rest)) = from.split_first()
        && *first < 0x80
    {
        *from = rest;
        return Ok(u64::from(*first));
    }
    if !from.has_remaining() {
        return Err("it is cut short");
    }
    decode_varint(from).map_err(|_| "a number is none")
}

fn take_signed(from: &mut &[u8]) -> Took<i64> {
    let raw = take_number(from)?;
    Ok(((raw >> 1) as i64) ^ -((raw & 1) as i64))
}

fn take_text<'a>(from: &mut &'a [u8], limit: usize) -> Took<&'a str> {
    let length = usize::try_from(take_number(from)?).unwrap_or(usize::MAX);
    if length > limit {
        return Err("a text is too long");
    }
    let split = from.split_at_checked(length);
    let (text, rest) = split.ok_or("a text is cut short")?;
    *from = rest;
    std::str::from_utf8(text).map_err(|_| "a text is not UTF-8")
}
