//! The header: 96 bytes in front of every payload.
//!
//! ```text
//!  0 magic       8 status     16 request id  40 index    64 offset        84 payload length
//!  4 version    10 log2 size  24 content id  48 mount    72 length        88 payload CRC32C
//!  5 operation  11 zero                      56 epoch    80 block length  92 header CRC32C
//!  6 flags      12 milliseconds
//! ```
//!
//! A field that an operation does not use is 0.

use arustio_types::{BlockKey, BlockSize, ContentId, ErrorKind, MountId};

use super::{HEADER, MAGIC, MAX_EXTENTS, MAX_PAYLOAD, MAX_TEXT, OLDEST, VERSION, body};

/// Codes of failures begin here; below are those of answers.
const FAILED: u16 = 0x100;

/// What a frame asks for, or answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Operation {
    /// Who speaks; the first frame in each direction.
    Hello,
    /// Bytes of a block.
    Read,
    /// Bytes for a node to keep.
    Write,
    /// Bytes under a lease, or a word about the lease.
    Fill,
    /// How much is there of whole contents.
    Stat,
    /// Forget blocks: one, those of a content ([`Flags::OF_CONTENT`]), or those of a mount
    /// ([`Flags::OF_MOUNT`]).
    Remove,
    /// The descriptor of a whole block, read-only, over a UNIX socket. The answer says where
    /// in the file the block begins (`offset`) and how long it is (`length`), its payload
    /// is the block's checksum, and with its first byte comes the descriptor. The block is
    /// kept until it is released or the connection ends.
    Pass,
    /// A sign of life.
    #[default]
    Ping,
    /// Gives back what a `Pass` was answered with; `offset` is the id of that request. The
    /// answer says in `length` how many there were: 1 or 0.
    Release,
}

impl Operation {
    /// All of them, in the order of their codes.
    pub const ALL: [Self; 9] = [
        Self::Hello,
        Self::Read,
        Self::Write,
        Self::Fill,
        Self::Stat,
        Self::Remove,
        Self::Pass,
        Self::Ping,
        Self::Release,
    ];

    /// The number on the wire.
    pub const fn code(self) -> u8 {
        match self {
            Self::Hello => 1,
            Self::Read => 2,
            Self::Write => 3,
            Self::Fill => 4,
            Self::Stat => 5,
            Self::Remove => 6,
            Self::Pass => 7,
            Self::Ping => 8,
            Self::Release => 9,
        }
    }

    /// The operation with this number.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|operation| operation.code() == code)
    }

    /// The name that metrics and messages use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hello => "frame_hello",
            Self::Read => "frame_read",
            Self::Write => "frame_write",
            Self::Fill => "frame_fill",
            Self::Stat => "frame_stat",
            Self::Remove => "frame_remove",
            Self::Pass => "frame_pass",
            Self::Ping => "frame_ping",
            Self::Release => "frame_release",
        }
    }

    /// The longest payload of a request.
    const fn most_asked(self) -> usize {
        match self {
            Self::Hello => body::MAX_HELLO,
            Self::Write | Self::Fill => MAX_PAYLOAD as usize,
            Self::Stat => MAX_EXTENTS * body::EXTENT,
            Self::Read | Self::Remove | Self::Pass | Self::Ping | Self::Release => 0,
        }
    }

    /// The longest payload of an answer that has what was asked for.
    const fn most_answered(self) -> usize {
        match self {
            Self::Hello => body::MAX_HELLO,
            Self::Read => MAX_PAYLOAD as usize,
            Self::Stat => MAX_EXTENTS * body::COUNT,
            Self::Pass => body::PASSED,
            Self::Write | Self::Fill | Self::Remove | Self::Ping | Self::Release => 0,
        }
    }
}

/// What came of a request. A request itself says [`Status::Ok`], but for a `Fill` that ends
/// a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Status {
    /// Done; of a read, these bytes are there.
    #[default]
    Ok,
    /// Nothing is there.
    Miss,
    /// The client is to bring what the payload lists; a lease lasts so many milliseconds.
    YouFill,
    /// Too much is under way: come back after so many milliseconds.
    Busy,
    /// Not kept, for the reason in the payload; another node may.
    Rejected,
    /// The content is gone.
    Stale,
    /// All of it was there.
    AlreadyPresent,
    /// The request is well formed, and this node does not serve it; the payload says more.
    Unsupported,
    /// The frame is of a version that is not spoken here; the connection closes.
    UnknownVersion,
    /// The frame has an operation that is not known here; the connection closes.
    UnknownOperation,
    /// A failure, with one line about it in the payload.
    Failed(ErrorKind),
}

impl Status {
    const ANSWERS: [Self; 10] = [
        Self::Ok,
        Self::Miss,
        Self::YouFill,
        Self::Busy,
        Self::Rejected,
        Self::Stale,
        Self::AlreadyPresent,
        Self::Unsupported,
        Self::UnknownVersion,
        Self::UnknownOperation,
    ];

    /// The number on the wire.
    pub fn code(self) -> u16 {
        match self {
            Self::Ok => 0,
            Self::Miss => 1,
            Self::YouFill => 2,
            Self::Busy => 3,
            Self::Rejected => 4,
            Self::Stale => 5,
            Self::AlreadyPresent => 6,
            Self::Unsupported => 7,
            Self::UnknownVersion => 8,
            Self::UnknownOperation => 9,
            // Kinds are numbered from 1, and there are few of them.
            Self::Failed(kind) => FAILED + u16::try_from(kind.code()).unwrap_or(0),
        }
    }

    /// The status with this number.
    pub fn from_code(code: u16) -> Option<Self> {
        match code.checked_sub(FAILED) {
            Some(kind) => ErrorKind::from_code(kind.into()).map(Self::Failed),
            None => Self::ANSWERS.get(usize::from(code)).copied(),
        }
    }
}

/// Bits that say how a request is meant, or what an answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Flags(u16);

impl Flags {
    /// None.
    pub const NONE: Self = Self(0);
    /// The reader would bring what is missing; may be ignored.
    pub const WANT_FILL: Self = Self(0x0001);
    /// Of an answer to a `Fill`: others wait for more of the block; may be ignored.
    pub const AWAITED: Self = Self(0x0002);
    /// This frame answers.
    pub const ANSWER: Self = Self(0x0100);
    /// Another frame of the same answer follows.
    pub const MORE: Self = Self(0x0200);
    /// Synced and pinned before the answer, or rejected (W4).
    pub const DURABLE: Self = Self(0x0400);
    /// All blocks of the content.
    pub const OF_CONTENT: Self = Self(0x0800);
    /// All blocks of the mount.
    pub const OF_MOUNT: Self = Self(0x1000);

    const KNOWN: u16 = 0x1f03;
    const MUST_BE_KNOWN: u16 = 0xff00;

    /// From the bits, known or not.
    pub const fn from_bits(bits: u16) -> Self {
        Self(bits)
    }

    /// The bits.
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// Whether all of these are set.
    pub const fn has(self, flags: Self) -> bool {
        self.0 & flags.0 == flags.0
    }

    /// These as well.
    #[must_use]
    pub const fn with(self, flags: Self) -> Self {
        Self(self.0 | flags.0)
    }

    /// Those that are not known here and may not be ignored.
    pub const fn strange(self) -> Self {
        Self(self.0 & Self::MUST_BE_KNOWN & !Self::KNOWN)
    }
}

/// The beginning of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// What it asks for, or answers.
    pub operation: Operation,
    /// How.
    pub flags: Flags,
    /// What came of it; of a `Fill` without bytes, what becomes of the lease.
    pub status: Status,
    /// Of a request: how long its sender waits, 0 for "as long as you like"; with
    /// [`Flags::WANT_FILL`], how long the node may wait for others. Of an answer: when to
    /// come back, or how long a lease lasts.
    pub millis: u32,
    /// Chosen by who asks, and repeated by who answers.
    pub request: u64,
    /// Which content.
    pub content: ContentId,
    /// Into which blocks it is cut, as a power of two; 0 where no block is meant.
    pub size_log2: u8,
    /// Which of these blocks.
    pub index: u64,
    /// The mount that the content belongs to, so that an unmount can forget it.
    pub mount: MountId,
    /// Epoch of the sender's view of the cluster, 0 where it has none; of a `Fill`, the lease.
    pub epoch: u64,
    /// Where in the block the bytes begin; of an answer to `Pass`, where in the file; of a
    /// `Release`, the id of the `Pass` that is given back.
    pub offset: u64,
    /// How many bytes are asked for, or are in a file; of an answer to `Remove`, how many
    /// blocks went, to `Release`, how many descriptors were given back.
    pub length: u64,
    /// Bytes in this block of its content; 0 where it is not known.
    pub block_length: u32,
    /// Bytes that follow.
    pub payload_length: u32,
    /// Of the bytes that follow; of a part, from where they arrived.
    pub payload_crc32c: u32,
}

/// Bytes that are no frame, or not one of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// They do not begin with the magic.
    #[error("it does not speak the framed protocol")]
    NotAFrame,
    /// The version is not spoken here.
    #[error("its version is not known here")]
    Version {
        /// What it says.
        found: u8,
    },
    /// The header's checksum does not match.
    #[error("a header does not match its checksum")]
    Damaged,
    /// The operation is not known here.
    #[error("operation {code} is not known here")]
    Operation {
        /// What it says.
        code: u8,
        /// Of which request.
        request: u64,
    },
    /// The status is not known here.
    #[error("status {code} is not known here")]
    Status {
        /// What it says.
        code: u16,
        /// Of which request.
        request: u64,
    },
    /// The payload is longer than one of this operation can be.
    #[error("a payload of {length} bytes, where at most {most} can be")]
    TooLong {
        /// What it says.
        length: u32,
        /// The bound.
        most: usize,
        /// Of which request.
        request: u64,
    },
    /// A payload is not what its operation says.
    #[error("the payload is no {0}")]
    Body(&'static str),
}

impl Default for Header {
    fn default() -> Self {
        Self {
            operation: Operation::Ping,
            flags: Flags::NONE,
            status: Status::Ok,
            millis: 0,
            request: 0,
            content: ContentId::new(0),
            size_log2: 0,
            index: 0,
            mount: MountId::new(0),
            epoch: 0,
            offset: 0,
            length: 0,
            block_length: 0,
            payload_length: 0,
            payload_crc32c: 0,
        }
    }
}

impl FrameError {
    /// The answer to what cannot be understood, before the connection closes: header and
    /// payload. For a version or an operation it names both sides' versions, in words and
    /// as numbers: `index` is the one that was found, `offset` and `length` the oldest and
    /// the newest that are spoken here. `None`: what came is nobody that could understand
    /// an answer.
    pub fn answer(&self) -> Option<(Header, Vec<u8>)> {
        let (request, status, found) = match *self {
            Self::NotAFrame => return None,
            Self::Version { found } => (0, Status::UnknownVersion, found),
            Self::Operation { request, .. } => (request, Status::UnknownOperation, VERSION),
            Self::Status { request, .. } | Self::TooLong { request, .. } => {
                (request, Status::Failed(ErrorKind::InvalidArgument), VERSION)
            }
            Self::Damaged | Self::Body(_) => (0, Status::Failed(ErrorKind::Corrupt), VERSION),
        };
        let words =
            format!("{self}; version {found} was spoken, here {OLDEST} to {VERSION} are spoken");
        let payload = body::encode_text(&words);
        let mut header = Header::answer(Operation::Ping, request, status).with(&payload);
        header.index = found.into();
        header.offset = OLDEST.into();
        header.length = VERSION.into();
        Some((header, payload))
    }
}

impl Header {
    /// A request.
    pub fn request(operation: Operation, request: u64) -> Self {
        Self {
            operation,
            request,
            ..Self::default()
        }
    }

    /// An answer to a request.
    pub fn answer(operation: Operation, request: u64, status: Status) -> Self {
        Self {
            operation,
            request,
            status,
            flags: Flags::ANSWER,
            ..Self::default()
        }
    }

    /// Of this block.
    #[must_use]
    pub fn of(mut self, key: &BlockKey) -> Self {
        self.content = key.content;
        self.size_log2 = key.size.log2();
        self.index = key.index;
        self
    }

    /// With this payload.
    #[must_use]
    pub fn with(mut self, payload: &[u8]) -> Self {
        // A longer one is refused by whoever decodes it.
        self.payload_length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        self.payload_crc32c = crc32c::crc32c(payload);
        self
    }

    /// The block, where one is named.
    pub fn key(&self) -> Option<BlockKey> {
        Some(BlockKey {
            content: self.content,
            size: BlockSize::from_log2(self.size_log2)?,
            index: self.index,
        })
    }

    /// The bytes of the header.
    pub fn encode(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        let mut at = 0;
        let mut put = |field: &[u8]| {
            bytes[at..at + field.len()].copy_from_slice(field);
            at += field.len();
        };
        put(&MAGIC);
        put(&[VERSION, self.operation.code()]);
        put(&self.flags.bits().to_le_bytes());
        put(&self.status.code().to_le_bytes());
        put(&[self.size_log2, 0]);
        put(&self.millis.to_le_bytes());
        put(&self.request.to_le_bytes());
        put(&self.content.get().to_le_bytes());
        put(&self.index.to_le_bytes());
        put(&self.mount.get().to_le_bytes());
        put(&self.epoch.to_le_bytes());
        put(&self.offset.to_le_bytes());
        put(&self.length.to_le_bytes());
        put(&self.block_length.to_le_bytes());
        put(&self.payload_length.to_le_bytes());
        put(&self.payload_crc32c.to_le_bytes());
        let (fields, sum) = bytes.split_at_mut(HEADER - 4);
        sum.copy_from_slice(&crc32c::crc32c(fields).to_le_bytes());
        bytes
    }

    /// The header in these bytes. Its payload is bounded by what its operation can have.
    pub fn decode(bytes: &[u8; HEADER]) -> Result<Self, FrameError> {
        if bytes[..4] != MAGIC {
            return Err(FrameError::NotAFrame);
        }
        let found = bytes[4];
        if !(OLDEST..=VERSION).contains(&found) {
            return Err(FrameError::Version { found });
        }
        let sum = u32::from_le_bytes(field(bytes, HEADER - 4));
        if crc32c::crc32c(&bytes[..HEADER - 4]) != sum {
            return Err(FrameError::Damaged);
        }
        let request = u64::from_le_bytes(field(bytes, 16));
        let (code, status) = (bytes[5], u16::from_le_bytes(field(bytes, 8)));
        let operation = Operation::from_code(code);
        let operation = operation.ok_or(FrameError::Operation { code, request })?;
        let unknown = FrameError::Status {
            code: status,
            request,
        };
        let header = Self {
            operation,
            flags: Flags::from_bits(u16::from_le_bytes(field(bytes, 6))),
            status: Status::from_code(status).ok_or(unknown)?,
            millis: u32::from_le_bytes(field(bytes, 12)),
            request,
            content: ContentId::new(u128::from_le_bytes(field(bytes, 24))),
            size_log2: bytes[10],
            index: u64::from_le_bytes(field(bytes, 40)),
            mount: MountId::new(u64::from_le_bytes(field(bytes, 48))),
            epoch: u64::from_le_bytes(field(bytes, 56)),
            offset: u64::from_le_bytes(field(bytes, 64)),
            length: u64::from_le_bytes(field(bytes, 72)),
            block_length: u32::from_le_bytes(field(bytes, 80)),
            payload_length: u32::from_le_bytes(field(bytes, 84)),
            payload_crc32c: u32::from_le_bytes(field(bytes, 88)),
        };
        header.bounded()
    }

    /// Whether this frame answers.
    pub fn is_answer(&self) -> bool {
        self.flags.has(Flags::ANSWER)
    }

    fn bounded(self) -> Result<Self, FrameError> {
        let most = match (self.is_answer(), self.status) {
            (false, _) => self.operation.most_asked(),
            (true, Status::Ok) => self.operation.most_answered(),
            (true, _) => MAX_TEXT,
        };
        let length = self.payload_length;
        if length as usize > most {
            return Err(FrameError::TooLong {
                length,
                most,
                request: self.request,
            });
        }
        Ok(self)
    }
}

/// The bytes of a field, which lies inside the header.
fn field<const N: usize>(bytes: &[u8; HEADER], at: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&bytes[at..at + N]);
    field
}
