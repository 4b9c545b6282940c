//! Names, files and directories as they are stored.
//!
//! A record holds what cannot be derived. A file's source key follows from its path and
//! its content id from the key and the version; both are stored only while they differ
//! (a rename that is not settled, a content that a writer named).

use arustio_types::meta::FileKind;
use arustio_types::meta::status::Persistence;
use arustio_types::{
    BlockSize, ContentId, InodeId, LogIndex, MountId, ObjectVersion, Timestamp, UfsKey,
};

use super::{Reader, Record, RecordError, Writer};
use crate::error::StateMachineError;

/// A name in a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DentryRecord {
    /// What it names.
    pub child: InodeId,
    /// File or directory.
    pub kind: FileKind,
    /// Log index of the last change of this name (L2).
    pub changed_at: LogIndex,
}

impl Record for DentryRecord {
    const WHAT: &'static str = "a name of a directory";

    fn write(&self, to: &mut Writer) {
        to.byte(match self.kind {
            FileKind::File => 0,
            FileKind::Directory => 1,
        });
        to.number(self.child.get());
        to.number(self.changed_at.get());
    }

    fn read(from: &mut Reader<'_>, _version: u8) -> Result<Self, RecordError> {
        let kind = match from.byte()? {
            0 => FileKind::File,
            1 => FileKind::Directory,
            _ => return Err(RecordError::Range("the kind of a name")),
        };
        Ok(Self {
            kind,
            child: InodeId::new(from.number()?),
            changed_at: LogIndex::new(from.number()?),
        })
    }
}

/// What files and directories have alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attributes {
    /// Permission bits.
    pub mode: u32,
    /// Owner's name; empty where unknown.
    pub owner: String,
    /// Group's name; empty where unknown.
    pub group: String,
    /// Last change of the content.
    pub modified: Timestamp,
}

/// A file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileRecord {
    /// Mode, owner, group, time.
    pub attributes: Attributes,
    /// Bytes.
    pub size: u64,
    /// The object version that holds the bytes; `None` while no UFS has them.
    pub version: Option<ObjectVersion>,
    /// The key of the source, where it does not follow from the path.
    pub key: Option<UfsKey>,
    /// The content id, where it is not the derived one.
    pub content: Option<ContentId>,
    /// The cut of the content, where its writer fixed it.
    pub block_size: Option<BlockSize>,
    /// Whether a UFS has the bytes.
    pub persistence: Persistence,
}

/// How much of a directory's listing is in the namespace, in key order (L1).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Loaded {
    /// Nothing.
    #[default]
    None,
    /// Every child key below this one.
    Below(String),
    /// Everything.
    Complete,
}

/// The object that keeps an empty directory alive in the UFS (U2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marker {
    /// Its version.
    pub version: ObjectVersion,
    /// Its key, where it does not follow from the path.
    pub key: Option<UfsKey>,
}

/// A directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirRecord {
    /// Mode, owner, group, time.
    pub attributes: Attributes,
    /// Number of names in it.
    pub children: u64,
    /// What of the UFS is here.
    pub loaded: Loaded,
    /// Log index of the last removal of a name in it, at least its own birth (L2).
    pub last_removed_at: LogIndex,
    /// Where descendants find their sources until they are settled; not used yet.
    pub origin: Option<UfsKey>,
    /// Its marker, where one is known.
    pub marker: Option<Marker>,
    /// The mount that stands on it.
    pub mount: Option<MountId>,
    /// What the names in it add up to; `None` where a release that did not count wrote
    /// the record and names were in it.
    pub direct: Option<Direct>,
}

/// What the names of one directory add up to, nothing below them counted. Files are the
/// other names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Direct {
    /// Directories.
    pub directories: u64,
    /// Bytes of the files; past 2^64 it starts again at 0.
    pub bytes: u64,
}

impl Direct {
    /// What one name adds.
    pub fn of(inode: &InodeRecord) -> Self {
        match inode {
            InodeRecord::File(file) => Self {
                directories: 0,
                bytes: file.size,
            },
            InodeRecord::Dir(_) => Self {
                directories: 1,
                bytes: 0,
            },
        }
    }

    /// Adds what a name adds.
    pub fn add(&mut self, more: Self) {
        self.directories = self.directories.wrapping_add(more.directories);
        self.bytes = self.bytes.wrapping_add(more.bytes);
    }

    /// Takes away what a name added.
    pub fn remove(&mut self, less: Self) {
        self.directories = self.directories.wrapping_sub(less.directories);
        self.bytes = self.bytes.wrapping_sub(less.bytes);
    }
}

/// A file or a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InodeRecord {
    /// A file.
    File(FileRecord),
    /// A directory.
    Dir(DirRecord),
}

impl InodeRecord {
    /// File or directory.
    pub fn kind(&self) -> FileKind {
        match self {
            Self::File(_) => FileKind::File,
            Self::Dir(_) => FileKind::Directory,
        }
    }

    /// Mode, owner, group, time.
    pub fn attributes(&self) -> &Attributes {
        match self {
            Self::File(file) => &file.attributes,
            Self::Dir(dir) => &dir.attributes,
        }
    }

    /// Mode, owner, group, time.
    pub fn attributes_mut(&mut self) -> &mut Attributes {
        match self {
            Self::File(file) => &mut file.attributes,
            Self::Dir(dir) => &mut dir.attributes,
        }
    }
}

/// A stored inode, for whoever looks at many and keeps none: the texts of a file stay where
/// they are. Directories are few.
#[derive(Debug)]
pub enum InodeView<'a> {
    /// A file.
    File(FileView<'a>),
    /// A directory.
    Dir(DirRecord),
}

impl<'a> InodeView<'a> {
    /// The record in stored bytes; what cannot be read ends this replica.
    pub fn decode_stored(bytes: &'a [u8]) -> Result<Self, StateMachineError> {
        let (what, newest) = (InodeRecord::WHAT, InodeRecord::VERSION);
        super::decode_all(bytes, newest, |from, _| Self::read(from))
            .map_err(|error| super::unreadable(what, newest, error))
    }

    fn read(from: &mut Reader<'a>) -> Result<Self, RecordError> {
        let flags = from.number()?;
        match flags & bit::DIR {
            0 => read_file(flags, from).map(Self::File),
            _ => read_dir(flags, from).map(Self::Dir),
        }
    }
}

impl From<InodeView<'_>> for InodeRecord {
    fn from(view: InodeView<'_>) -> Self {
        match view {
            InodeView::File(file) => Self::File(file.into()),
            InodeView::Dir(dir) => Self::Dir(dir),
        }
    }
}

/// A [`FileRecord`] where it is stored.
#[derive(Debug, Clone, Copy)]
pub struct FileView<'a> {
    /// Mode, owner, group, time.
    pub attributes: AttributesView<'a>,
    /// Bytes.
    pub size: u64,
    /// The object version that holds the bytes.
    pub version: Option<VersionView<'a>>,
    /// The key of the source, where it does not follow from the path.
    pub key: Option<&'a str>,
    /// The content id, where it is not the derived one.
    pub content: Option<ContentId>,
    /// The cut of the content, where its writer fixed it.
    pub block_size: Option<BlockSize>,
    /// Whether a UFS has the bytes.
    pub persistence: Persistence,
}

impl From<FileView<'_>> for FileRecord {
    fn from(view: FileView<'_>) -> Self {
        Self {
            attributes: view.attributes.into(),
            size: view.size,
            version: view.version.map(ObjectVersion::from),
            key: view.key.map(UfsKey::new),
            content: view.content,
            block_size: view.block_size,
            persistence: view.persistence,
        }
    }
}

/// [`Attributes`] where they are stored.
#[derive(Debug, Clone, Copy)]
pub struct AttributesView<'a> {
    /// Permission bits.
    pub mode: u32,
    /// Owner's name; empty where unknown.
    pub owner: &'a str,
    /// Group's name; empty where unknown.
    pub group: &'a str,
    /// Last change of the content.
    pub modified: Timestamp,
}

impl From<AttributesView<'_>> for Attributes {
    fn from(view: AttributesView<'_>) -> Self {
        Self {
            mode: view.mode,
            owner: view.owner.to_owned(),
            group: view.group.to_owned(),
            modified: view.modified,
        }
    }
}

impl<'a> From<&'a Attributes> for AttributesView<'a> {
    fn from(attributes: &'a Attributes) -> Self {
        Self {
            mode: attributes.mode,
            owner: &attributes.owner,
            group: &attributes.group,
            modified: attributes.modified,
        }
    }
}

/// An [`ObjectVersion`] where it is stored.
#[derive(Debug, Clone, Copy)]
pub struct VersionView<'a> {
    /// The identity.
    pub identity: &'a str,
    /// The version's id, where there is one.
    pub version_id: Option<&'a str>,
}

impl From<VersionView<'_>> for ObjectVersion {
    fn from(view: VersionView<'_>) -> Self {
        Self {
            version_id: view.version_id.map(str::to_owned),
            ..Self::new(view.identity)
        }
    }
}

const FILE_MODE: u32 = 0o644;
const DIR_MODE: u32 = 0o755;

mod bit {
    pub(super) const DIR: u64 = 1;
    pub(super) const MODE: u64 = 1 << 1;
    pub(super) const OWNER: u64 = 1 << 2;
    pub(super) const GROUP: u64 = 1 << 3;
    // Files.
    pub(super) const VERSION: u64 = 1 << 4;
    pub(super) const KEY: u64 = 1 << 5;
    pub(super) const CONTENT: u64 = 1 << 6;
    pub(super) const BLOCK_SIZE: u64 = 1 << 7;
    pub(super) const UNPERSISTED: u64 = 1 << 8;
    // Directories.
    pub(super) const LOADED: u64 = 1 << 4;
    pub(super) const BELOW: u64 = 1 << 5;
    pub(super) const ORIGIN: u64 = 1 << 6;
    pub(super) const MARKER: u64 = 1 << 7;
    pub(super) const MOUNT: u64 = 1 << 8;
    pub(super) const COUNTED: u64 = 1 << 9;
}

impl Record for InodeRecord {
    const WHAT: &'static str = "an inode";
    const VERSION: u8 = 2;

    /// Counted directories came with format 2.
    fn version(&self) -> u8 {
        match self {
            Self::Dir(dir) if dir.direct.is_some() => 2,
            Self::Dir(_) | Self::File(_) => 1,
        }
    }

    fn write(&self, to: &mut Writer) {
        match self {
            Self::File(file) => write_file(file, to),
            Self::Dir(dir) => write_dir(dir, to),
        }
    }

    fn read(from: &mut Reader<'_>, _version: u8) -> Result<Self, RecordError> {
        InodeView::read(from).map(Self::from)
    }
}

fn when(condition: bool, flag: u64) -> u64 {
    if condition { flag } else { 0 }
}

fn attribute_flags(attributes: &Attributes, usual_mode: u32) -> u64 {
    when(attributes.mode != usual_mode, bit::MODE)
        | when(!attributes.owner.is_empty(), bit::OWNER)
        | when(!attributes.group.is_empty(), bit::GROUP)
}

fn write_attributes(attributes: &Attributes, flags: u64, to: &mut Writer) {
    to.signed(attributes.modified.millis());
    if flags & bit::MODE != 0 {
        to.number(u64::from(attributes.mode));
    }
    if flags & bit::OWNER != 0 {
        to.text(&attributes.owner);
    }
    if flags & bit::GROUP != 0 {
        to.text(&attributes.group);
    }
}

fn read_attributes<'a>(
    flags: u64,
    usual_mode: u32,
    from: &mut Reader<'a>,
) -> Result<AttributesView<'a>, RecordError> {
    let modified = Timestamp::from_millis(from.signed()?);
    let mode = match flags & bit::MODE {
        0 => usual_mode,
        _ => from.number32()?,
    };
    let mut name = |flag, what| match flags & flag {
        0 => Ok(""),
        _ => from.text(what),
    };
    Ok(AttributesView {
        modified,
        mode,
        owner: name(bit::OWNER, "an owner")?,
        group: name(bit::GROUP, "a group")?,
    })
}

pub(super) fn write_version(to: &mut Writer, version: &ObjectVersion) {
    to.text(version.identity.as_str());
    to.option(version.version_id.as_ref(), |to, id| to.text(id));
}

pub(super) fn read_version(from: &mut Reader<'_>) -> Result<ObjectVersion, RecordError> {
    view_version(from).map(ObjectVersion::from)
}

fn view_version<'a>(from: &mut Reader<'a>) -> Result<VersionView<'a>, RecordError> {
    Ok(VersionView {
        identity: from.text("an identity")?,
        version_id: from.option(|from| from.text("a version id"))?,
    })
}

fn write_file(file: &FileRecord, to: &mut Writer) {
    let flags = attribute_flags(&file.attributes, FILE_MODE)
        | when(file.version.is_some(), bit::VERSION)
        | when(file.key.is_some(), bit::KEY)
        | when(file.content.is_some(), bit::CONTENT)
        | when(file.block_size.is_some(), bit::BLOCK_SIZE)
        | when(file.persistence != Persistence::Persisted, bit::UNPERSISTED);
    to.number(flags);
    write_attributes(&file.attributes, flags, to);
    to.number(file.size);
    if let Some(version) = &file.version {
        write_version(to, version);
    }
    if let Some(key) = &file.key {
        to.text(key.as_str());
    }
    if let Some(content) = file.content {
        to.bits(content.get());
    }
    if let Some(size) = file.block_size {
        to.byte(size.log2());
    }
    match file.persistence {
        Persistence::Persisted => {}
        Persistence::ToBePersisted => to.byte(1),
        Persistence::NotPersisted => to.byte(2),
    }
}

fn read_file<'a>(flags: u64, from: &mut Reader<'a>) -> Result<FileView<'a>, RecordError> {
    let has = |flag| flags & flag != 0;
    let attributes = read_attributes(flags, FILE_MODE, from)?;
    let size = from.number()?;
    let version = has(bit::VERSION).then(|| view_version(from)).transpose()?;
    let key = has(bit::KEY).then(|| from.text("a key")).transpose()?;
    let content = has(bit::CONTENT).then(|| from.bits()).transpose()?;
    let block_size = has(bit::BLOCK_SIZE)
        .then(|| read_block_size(from))
        .transpose()?;
    let persistence = match has(bit::UNPERSISTED).then(|| from.byte()).transpose()? {
        None => Persistence::Persisted,
        Some(1) => Persistence::ToBePersisted,
        Some(2) => Persistence::NotPersisted,
        Some(_) => return Err(RecordError::Range("a state of persistence")),
    };
    Ok(FileView {
        attributes,
        size,
        version,
        key,
        content: content.map(ContentId::new),
        block_size,
        persistence,
    })
}

pub(super) fn read_block_size(from: &mut Reader<'_>) -> Result<BlockSize, RecordError> {
    BlockSize::from_log2(from.byte()?).ok_or(RecordError::Range("a block size"))
}

fn write_dir(dir: &DirRecord, to: &mut Writer) {
    let flags = bit::DIR
        | attribute_flags(&dir.attributes, DIR_MODE)
        | when(dir.loaded == Loaded::Complete, bit::LOADED)
        | when(matches!(dir.loaded, Loaded::Below(_)), bit::BELOW)
        | when(dir.origin.is_some(), bit::ORIGIN)
        | when(dir.marker.is_some(), bit::MARKER)
        | when(dir.mount.is_some(), bit::MOUNT)
        | when(dir.direct.is_some(), bit::COUNTED);
    to.number(flags);
    write_attributes(&dir.attributes, flags, to);
    to.number(dir.children);
    to.number(dir.last_removed_at.get());
    if let Loaded::Below(bound) = &dir.loaded {
        to.text(bound);
    }
    if let Some(origin) = &dir.origin {
        to.text(origin.as_str());
    }
    if let Some(marker) = &dir.marker {
        write_version(to, &marker.version);
        to.option(marker.key.as_ref(), |to, key| to.text(key.as_str()));
    }
    if let Some(mount) = dir.mount {
        to.number(mount.get());
    }
    if let Some(direct) = dir.direct {
        to.number(direct.directories);
        to.number(direct.bytes);
    }
}

fn read_dir(flags: u64, from: &mut Reader<'_>) -> Result<DirRecord, RecordError> {
    let has = |flag| flags & flag != 0;
    let attributes = read_attributes(flags, DIR_MODE, from)?;
    let children = from.number()?;
    let last_removed_at = LogIndex::new(from.number()?);
    let loaded = match (has(bit::LOADED), has(bit::BELOW)) {
        (true, _) => Loaded::Complete,
        (false, true) => Loaded::Below(from.text("a bound")?.to_owned()),
        (false, false) => Loaded::None,
    };
    let origin = has(bit::ORIGIN)
        .then(|| from.text("an origin prefix"))
        .transpose()?;
    let marker = has(bit::MARKER).then(|| read_marker(from)).transpose()?;
    let mount = has(bit::MOUNT).then(|| from.number()).transpose()?;
    let direct = has(bit::COUNTED).then(|| read_direct(from)).transpose()?;
    Ok(DirRecord {
        attributes: attributes.into(),
        children,
        loaded,
        last_removed_at,
        origin: origin.map(UfsKey::new),
        marker,
        mount: mount.map(MountId::new),
        direct,
    })
}

fn read_direct(from: &mut Reader<'_>) -> Result<Direct, RecordError> {
    Ok(Direct {
        directories: from.number()?,
        bytes: from.number()?,
    })
}

fn read_marker(from: &mut Reader<'_>) -> Result<Marker, RecordError> {
    Ok(Marker {
        version: read_version(from)?,
        key: from.option(|from| from.text("a marker's key").map(UfsKey::new))?,
    })
}
