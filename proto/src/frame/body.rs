//! Payloads that are more than plain bytes: `Hello`, lists of `Stat`, leases, the checksum
//! of a `Pass`, texts, versions.

use std::fmt;

use arustio_types::{BlockSize, Checksum, ClusterId, ContentId, Incarnation, NodeId};

use super::{FrameError, MAX_EXTENTS, MAX_GRANTS, MAX_TEXT, MAX_TOKEN, OLDEST, VERSION};

/// Bytes of a `Hello` without its token.
const HELLO: usize = 56;
/// Longest `Hello`.
pub(super) const MAX_HELLO: usize = HELLO + MAX_TOKEN;
/// Bytes of one content in a `Stat`.
pub(super) const EXTENT: usize = 32;
/// Bytes of one figure in the answer to a `Stat`.
pub(super) const COUNT: usize = 8;
/// Bytes of one lease in an answer.
pub(super) const GRANT: usize = 24;
/// The feature of a side that knows leases.
pub const LEASES: u32 = 1;
/// The feature of a node that heeds where a run of blocks begins ([`Extent::first`]).
pub const RUNS: u32 = 2;
/// The feature of a node that takes the bytes of writes in memory files; said to those alone
/// from whom it takes them.
pub const FILES: u32 = 4;
/// The feature of a node that heeds a `Cancel`.
pub const CANCELS: u32 = 8;
/// Bytes in the answer to a `Pass`.
pub(super) const PASSED: usize = 4;

/// Versions that one side speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions {
    /// The oldest.
    pub oldest: u8,
    /// The newest.
    pub newest: u8,
}

impl Versions {
    /// Those that are spoken here.
    pub const HERE: Self = Self {
        oldest: OLDEST,
        newest: VERSION,
    };

    /// The newest that both sides speak.
    pub fn common(self, other: Self) -> Option<u8> {
        let newest = self.newest.min(other.newest);
        (newest >= self.oldest.max(other.oldest)).then_some(newest)
    }
}

/// Who speaks. A 0 stands for what a side does not know or has no use for.
#[derive(Clone, PartialEq, Eq)]
pub struct Hello {
    /// Versions that it speaks; of an answer, those of the node.
    pub versions: Versions,
    /// What it knows beside its versions, as bits: [`LEASES`], [`RUNS`], [`FILES`],
    /// [`CANCELS`]; unknown ones are ignored.
    pub features: u32,
    /// The cluster that it belongs to.
    pub cluster: ClusterId,
    /// Of that cluster, until it is restored from a backup (N9).
    pub incarnation: Incarnation,
    /// The node that answers; of a request, the one that is meant.
    pub node: NodeId,
    /// Names the data folder of the node that answers.
    pub instance: u128,
    /// What the client may do, signed; empty where nobody asks. Never shown.
    pub token: Vec<u8>,
}

impl Default for Hello {
    fn default() -> Self {
        Self {
            versions: Versions::HERE,
            features: LEASES | RUNS | CANCELS,
            cluster: ClusterId::default(),
            incarnation: Incarnation::default(),
            node: NodeId::default(),
            instance: 0,
            token: Vec::new(),
        }
    }
}

impl fmt::Debug for Hello {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hello")
            .field("versions", &self.versions)
            .field("cluster", &self.cluster)
            .field("node", &self.node)
            .finish_non_exhaustive()
    }
}

impl Hello {
    /// The payload.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HELLO + self.token.len());
        bytes.extend([self.versions.oldest, self.versions.newest, 0, 0]);
        bytes.extend(self.features.to_le_bytes());
        bytes.extend(self.cluster.get().to_le_bytes());
        bytes.extend(self.incarnation.get().to_le_bytes());
        bytes.extend(self.node.get().to_le_bytes());
        bytes.extend(self.instance.to_le_bytes());
        bytes.extend(&self.token);
        bytes
    }

    /// What a payload says.
    pub fn decode(bytes: &[u8]) -> Result<Self, FrameError> {
        let wrong = FrameError::Body("hello");
        if bytes.len() > MAX_HELLO {
            return Err(wrong);
        }
        let mut rest = bytes;
        let [oldest, newest, _, _] = take(&mut rest).ok_or(wrong)?;
        let features = take(&mut rest).map(u32::from_le_bytes).ok_or(wrong)?;
        let cluster = take(&mut rest).map(u128::from_le_bytes).ok_or(wrong)?;
        let incarnation = take(&mut rest).map(u64::from_le_bytes).ok_or(wrong)?;
        let node = take(&mut rest).map(u64::from_le_bytes).ok_or(wrong)?;
        let instance = take(&mut rest).map(u128::from_le_bytes).ok_or(wrong)?;
        Ok(Self {
            versions: Versions { oldest, newest },
            features,
            cluster: ClusterId::new(cluster),
            incarnation: Incarnation::new(incarnation),
            node: NodeId::new(node),
            instance,
            token: rest.to_vec(),
        })
    }
}

/// Blocks of one content that follow one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Which content.
    pub content: ContentId,
    /// Into which blocks it is cut.
    pub size: BlockSize,
    /// The first of them; below 2^56, where no content ends.
    pub first: u64,
    /// How many of them.
    pub blocks: u64,
}

/// The payload that asks about contents.
pub fn encode_extents(extents: &[Extent]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(extents.len() * EXTENT);
    for extent in extents {
        bytes.extend(extent.content.get().to_le_bytes());
        bytes.extend(extent.blocks.to_le_bytes());
        // The low byte is the size, the others say where to begin.
        let place = extent.first << 8 | u64::from(extent.size.log2());
        bytes.extend(place.to_le_bytes());
    }
    bytes
}

/// The contents that a payload asks about.
pub fn decode_extents(bytes: &[u8]) -> Result<Vec<Extent>, FrameError> {
    let wrong = FrameError::Body("list of contents");
    if !bytes.len().is_multiple_of(EXTENT) || bytes.len() > MAX_EXTENTS * EXTENT {
        return Err(wrong);
    }
    let extent = |mut raw: &[u8]| {
        let content = u128::from_le_bytes(take(&mut raw)?);
        let blocks = u64::from_le_bytes(take(&mut raw)?);
        let place = u64::from_le_bytes(take(&mut raw)?);
        Some(Extent {
            content: ContentId::new(content),
            size: BlockSize::from_log2(place.to_le_bytes()[0])?,
            first: place >> 8,
            blocks,
        })
    };
    let extents = bytes.chunks(EXTENT).map(extent);
    extents.collect::<Option<_>>().ok_or(wrong)
}

/// The payload that answers with figures.
pub fn encode_counts(counts: &[u64]) -> Vec<u8> {
    counts
        .iter()
        .flat_map(|count| count.to_le_bytes())
        .collect()
}

/// The figures of a payload.
pub fn decode_counts(bytes: &[u8]) -> Result<Vec<u64>, FrameError> {
    let wrong = FrameError::Body("list of figures");
    if !bytes.len().is_multiple_of(COUNT) || bytes.len() > MAX_EXTENTS * COUNT {
        return Err(wrong);
    }
    let count = |mut raw: &[u8]| take(&mut raw).map(u64::from_le_bytes);
    let counts = bytes.chunks(COUNT).map(count);
    counts.collect::<Option<_>>().ok_or(wrong)
}

/// A lease: the duty to bring bytes of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// Its name.
    pub lease: u64,
    /// Where in the block the bytes begin.
    pub offset: u64,
    /// How many they are; at least one.
    pub length: u64,
}

/// The payload that lists leases.
pub fn encode_grants(grants: &[Grant]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(grants.len() * GRANT);
    for grant in grants {
        for field in [grant.lease, grant.offset, grant.length] {
            bytes.extend(field.to_le_bytes());
        }
    }
    bytes
}

/// The leases of a payload: at least one, ascending, without overlap.
pub fn decode_grants(bytes: &[u8]) -> Result<Vec<Grant>, FrameError> {
    let wrong = FrameError::Body("list of leases");
    let count = bytes.len() / GRANT;
    if !bytes.len().is_multiple_of(GRANT) || count == 0 || count > MAX_GRANTS {
        return Err(wrong);
    }
    let mut end = 0;
    let mut grant = |mut raw: &[u8]| {
        let mut field = || take(&mut raw).map(u64::from_le_bytes);
        let (lease, offset, length) = (field()?, field()?, field()?);
        let sound = offset >= end && length > 0;
        end = offset.checked_add(length)?;
        sound.then_some(Grant {
            lease,
            offset,
            length,
        })
    };
    let grants = bytes.chunks(GRANT).map(&mut grant);
    grants.collect::<Option<_>>().ok_or(wrong)
}

/// The payload that comes with a descriptor: the checksum that the whole block had when it
/// arrived at the node.
pub fn encode_passed(checksum: Checksum) -> Vec<u8> {
    checksum.0.to_le_bytes().to_vec()
}

/// The checksum that came with a descriptor.
pub fn decode_passed(bytes: &[u8]) -> Result<Checksum, FrameError> {
    let sum = <[u8; PASSED]>::try_from(bytes);
    let sum = sum.map_err(|_| FrameError::Body("checksum of a block"))?;
    Ok(Checksum(u32::from_le_bytes(sum)))
}

/// One line about an answer, cut to what fits.
pub fn encode_text(text: &str) -> Vec<u8> {
    let mut end = text.len().min(MAX_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.as_bytes()[..end].to_vec()
}

/// The line of a payload; what is no text, or would disturb a terminal, is replaced.
pub fn decode_text(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_TEXT)]);
    let tame = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().map(tame).collect()
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (field, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(*field)
}
