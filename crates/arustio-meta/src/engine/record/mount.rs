//! Mounts, settings of paths and block nodes as they are stored.

use std::collections::BTreeMap;
use std::time::Duration;

use arustio_types::cluster::DataEndpoints;
use arustio_types::meta::credential::Credential;
use arustio_types::meta::mount::{MountCapabilities, MountEntry, MountSpec, WriteType};
use arustio_types::meta::setting::{PathConf, SyncInterval};
use arustio_types::{InodeId, MountId, NodeId};

use super::inode::read_block_size;
use super::owed::read_path;
use super::{Reader, Record, RecordError, Writer};

/// A mount. Its credential is stored elsewhere and reads back as
/// [`Credential::Provider`].
impl Record for MountEntry {
    const WHAT: &'static str = "a mount";

    fn write(&self, to: &mut Writer) {
        to.number(self.id.get());
        to.number(u64::from(self.generation));
        to.number(self.root.get());
        to.text(self.spec.path.as_str());
        to.text(&self.spec.uri);
        to.number(self.spec.options.len() as u64);
        for (key, value) in &self.spec.options {
            to.text(key);
            to.text(value);
        }
        to.flag(self.spec.readonly);
        to.flag(self.spec.shared);
        write_capabilities(&self.spec.capabilities, to);
        to.option(self.spec.bound_to.as_ref(), |to, bound| to.text(bound));
    }

    fn read(from: &mut Reader<'_>, _version: u8) -> Result<Self, RecordError> {
        Ok(Self {
            id: MountId::new(from.number()?),
            generation: from.number32()?,
            root: InodeId::new(from.number()?),
            spec: MountSpec {
                path: read_path(from)?,
                uri: from.text("a URI")?.to_owned(),
                options: read_options(from)?,
                credential: Credential::Provider,
                readonly: from.flag()?,
                shared: from.flag()?,
                capabilities: read_capabilities(from)?,
                bound_to: from.option(|from| from.text("a host").map(str::to_owned))?,
            },
        })
    }
}

fn read_options(from: &mut Reader<'_>) -> Result<BTreeMap<String, String>, RecordError> {
    let pairs = from.list(|from| {
        let key = from.text("an option")?.to_owned();
        Ok((key, from.text("an option's value")?.to_owned()))
    })?;
    Ok(pairs.into_iter().collect())
}

fn write_capabilities(seen: &MountCapabilities, to: &mut Writer) {
    let flags = [
        seen.create_only,
        seen.replace_if,
        seen.complete_if,
        seen.read_if,
        seen.copy_source_if,
        seen.copy_dest_if,
        seen.delete_if,
        seen.atomic_rename,
        seen.strong_identity,
        seen.probed,
    ];
    let bits = flags
        .iter()
        .enumerate()
        .fold(0, |bits, (at, set)| bits | u64::from(*set) << at);
    to.number(bits);
    to.text(&seen.line);
}

fn read_capabilities(from: &mut Reader<'_>) -> Result<MountCapabilities, RecordError> {
    let bits = from.number()?;
    let bit = |at: u32| bits >> at & 1 == 1;
    Ok(MountCapabilities {
        create_only: bit(0),
        replace_if: bit(1),
        complete_if: bit(2),
        read_if: bit(3),
        copy_source_if: bit(4),
        copy_dest_if: bit(5),
        delete_if: bit(6),
        atomic_rename: bit(7),
        strong_identity: bit(8),
        probed: bit(9),
        line: from.text("a capability line")?.to_owned(),
    })
}

impl Record for PathConf {
    const WHAT: &'static str = "settings of a path";

    fn write(&self, to: &mut Writer) {
        to.option(self.write_type.as_ref(), |to, write_type| {
            to.byte(match write_type {
                WriteType::Through => 1,
                WriteType::CacheThrough => 2,
                WriteType::AsyncThrough => 3,
                WriteType::MustCache => 4,
            });
        });
        to.option(self.sync_interval.as_ref(), |to, interval| match interval {
            SyncInterval::Never => to.number(0),
            SyncInterval::Every(every) => {
                let millis = u64::try_from(every.as_millis()).unwrap_or(u64::MAX);
                to.number(millis.saturating_add(1));
            }
        });
        to.option(self.block_size.as_ref(), |to, size| to.byte(size.log2()));
    }

    fn read(from: &mut Reader<'_>, _version: u8) -> Result<Self, RecordError> {
        Ok(Self {
            write_type: from.option(read_write_type)?,
            sync_interval: from.option(|from| {
                Ok(match from.number()?.checked_sub(1) {
                    None => SyncInterval::Never,
                    Some(millis) => SyncInterval::Every(Duration::from_millis(millis)),
                })
            })?,
            block_size: from.option(read_block_size)?,
        })
    }
}

fn read_write_type(from: &mut Reader<'_>) -> Result<WriteType, RecordError> {
    Ok(match from.byte()? {
        1 => WriteType::Through,
        2 => WriteType::CacheThrough,
        3 => WriteType::AsyncThrough,
        4 => WriteType::MustCache,
        _ => return Err(RecordError::Range("a write type")),
    })
}

/// A block node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeRecord {
    /// Its number.
    pub id: NodeId,
    /// Names its data directory.
    pub instance: u128,
    /// Where it is reached.
    pub address: String,
    /// Share of the blocks, as the node said when it registered.
    pub weight: u32,
    /// Faster ways to its bytes.
    pub data: DataEndpoints,
    /// What operators decided.
    pub decided: Decided,
}

/// What operators decided about a block node. Registering again changes none of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Decided {
    /// Its share of the blocks, whatever the node says.
    pub weight: Option<u32>,
    /// It gets no new blocks.
    pub draining: bool,
    /// It never comes back.
    pub removed: bool,
}

impl NodeRecord {
    /// Its share of the blocks.
    pub fn share(&self) -> u32 {
        self.decided.weight.unwrap_or(self.weight)
    }
}

impl Record for NodeRecord {
    const WHAT: &'static str = "a block node";
    const VERSION: u8 = 3;

    /// Faster ways came with format 2, decisions with format 3.
    fn version(&self) -> u8 {
        let decided = self.decided != Decided::default();
        match self.data == DataEndpoints::default() {
            _ if decided => 3,
            true => 1,
            false => 2,
        }
    }

    fn write(&self, to: &mut Writer) {
        to.number(self.id.get());
        to.bits(self.instance);
        to.text(&self.address);
        to.number(u64::from(self.weight));
        if self.version() > 1 {
            for way in [&self.data.frames, &self.data.socket, &self.data.host] {
                to.option(way.as_ref(), |to, way| to.text(way));
            }
        }
        if self.version() > 2 {
            let decided = &self.decided;
            to.option(decided.weight.as_ref(), |to, weight| {
                to.number(u64::from(*weight));
            });
            to.flag(decided.draining);
            to.flag(decided.removed);
        }
    }

    fn read(from: &mut Reader<'_>, version: u8) -> Result<Self, RecordError> {
        Ok(Self {
            id: NodeId::new(from.number()?),
            instance: from.bits()?,
            address: from.text("an address")?.to_owned(),
            weight: from.number32()?,
            data: match version {
                0 | 1 => DataEndpoints::default(),
                _ => read_endpoints(from)?,
            },
            decided: match version {
                0..=2 => Decided::default(),
                _ => Decided {
                    weight: from.option(Reader::number32)?,
                    draining: from.flag()?,
                    removed: from.flag()?,
                },
            },
        })
    }
}

fn read_endpoints(from: &mut Reader<'_>) -> Result<DataEndpoints, RecordError> {
    let mut way = |what| from.option(|from| from.text(what).map(str::to_owned));
    Ok(DataEndpoints {
        frames: way("an address of frames")?,
        socket: way("a socket")?,
        host: way("a host")?,
    })
}
