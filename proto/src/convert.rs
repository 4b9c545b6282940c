//! Between messages and nouns, and between nouns and bytes.
//!
//! A noun becomes a message by `From<&Noun>`, which cannot fail; a message becomes a
//! noun by `TryFrom`, which names the field that cannot be. Commands, outcomes and
//! contexts also have one byte form, the same on the wire and in the log:
//!
//! - The bytes are a protobuf message whose first field is a format. Whoever reads a
//!   higher format than [`COMMAND_FORMAT`] refuses ([`ConvertError::NewerFormat`]), since
//!   skipping a field that it does not know would apply another command.
//! - Equal nouns have equal bytes: maps are ordered, and nothing depends on chance.
//! - A credential in clear is refused by [`encode_command`], [`encode_entry`] and
//!   [`decode_command`]; only the `..._with_secrets` pair lets it pass, for the hop from
//!   a client to the server that seals it.
//!
//! Lengths are capped before and after parsing. Durations are whole milliseconds,
//! rounded up.

mod answer;
mod block;
mod command;
mod context;
mod effect;
mod field;
mod merge;
mod mount;
mod node;
mod outcome;
mod page;
mod query;
mod status;
mod sync;
mod used;

#[cfg(test)]
mod golden_tests;
#[cfg(test)]
mod tests;

use arustio_types::meta::credential::Credential;
use arustio_types::meta::{Command, Outcome, RequestContext};
use arustio_types::path::InvalidPath;
use arustio_types::{Classify, ErrorKind};
use prost::Message;

use crate::meta::v1 as wire;

pub use node::{change_node, node_change};
pub use page::{PACKED_FORMAT, plain_page};

/// Questions that one `QueryRequest` may carry, its `query` and `more`.
pub const MAX_QUESTIONS: usize = 64;

/// The newest format of commands and outcomes that this release writes and reads.
pub const COMMAND_FORMAT: u32 = 2;
/// The format of what every release reads: commands are written in the oldest format that
/// has them, so that members of the release before follow for as long as nobody sends a
/// newer one.
const FIRST_FORMAT: u32 = 1;
/// Most bytes of one encoded command or log entry.
pub const MAX_COMMAND: usize = 4 << 20;
/// Most bytes of one encoded outcome or answer.
pub const MAX_OUTCOME: usize = 64 << 20;

/// A value that cannot be taken from, or brought to, its encoded form.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ConvertError {
    /// Not a message of this kind.
    #[error("cannot read {what}: {source}")]
    Decode {
        /// What was read.
        what: &'static str,
        /// Why not.
        source: prost::DecodeError,
    },
    /// Written by a later release.
    #[error("{what} has format {found}, this release reads up to {supported}: upgrade this side")]
    NewerFormat {
        /// What was read.
        what: &'static str,
        /// What is there.
        found: u32,
        /// What we know.
        supported: u32,
    },
    /// A field that must be there, or a variant that this release does not know.
    #[error("{field} is missing, or of a kind that this release does not know")]
    Missing {
        /// Which.
        field: &'static str,
    },
    /// A path that breaks a rule.
    #[error("{field}: {source}")]
    Path {
        /// In which field.
        field: &'static str,
        /// Which rule.
        source: InvalidPath,
    },
    /// More than anybody has reason to send.
    #[error("{field} has length {length}, at most {limit} is taken")]
    TooLong {
        /// Which field.
        field: &'static str,
        /// Its length.
        length: usize,
        /// The most that is taken.
        limit: usize,
    },
    /// Packed bytes that are not what their format says.
    #[error("{field} cannot be read at entry {entry}: {reason}")]
    Packed {
        /// In which field.
        field: &'static str,
        /// Where, from 0.
        entry: usize,
        /// Why.
        reason: String,
    },
    /// A number that stands for nothing.
    #[error("{field} cannot be {value}")]
    Value {
        /// Which field.
        field: &'static str,
        /// What it was.
        value: i64,
    },
    /// A credential in clear where only a sealed one may be.
    #[error("a credential in clear must be sealed before it is recorded")]
    SecretInClear,
}

impl Classify for ConvertError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Path { .. } => ErrorKind::InvalidPath,
            Self::NewerFormat { .. } => ErrorKind::Unsupported,
            Self::Decode { .. } => ErrorKind::InvalidArgument,
            Self::Missing { .. } => ErrorKind::InvalidArgument,
            Self::TooLong { .. } => ErrorKind::InvalidArgument,
            Self::Packed { .. } => ErrorKind::InvalidArgument,
            Self::Value { .. } => ErrorKind::InvalidArgument,
            Self::SecretInClear => ErrorKind::Internal,
        }
    }
}

/// The bytes of a command, for the log and for the wire. Refuses a credential in clear.
pub fn encode_command(command: &Command) -> Result<Vec<u8>, ConvertError> {
    refuse_clear(command)?;
    Ok(encode_command_with_secrets(command))
}

/// The bytes of a command, for the hop from a client to the server that seals its
/// credential; never for anything that is recorded.
pub fn encode_command_with_secrets(command: &Command) -> Vec<u8> {
    wire::Command::from(command).encode_to_vec()
}

/// Reads what [`encode_command`] wrote. Refuses a credential in clear.
pub fn decode_command(bytes: &[u8]) -> Result<Command, ConvertError> {
    let command = decode_command_with_secrets(bytes)?;
    refuse_clear(&command)?;
    Ok(command)
}

/// Reads what either encoder wrote; for the server that seals credentials.
pub fn decode_command_with_secrets(bytes: &[u8]) -> Result<Command, ConvertError> {
    decode::<wire::Command>(bytes, MAX_COMMAND, "a command")?.try_into()
}

/// A command with its context as one entry of the log. Refuses a credential in clear.
pub fn encode_entry(context: &RequestContext, command: &Command) -> Result<Vec<u8>, ConvertError> {
    refuse_clear(command)?;
    let record = wire::LogRecord {
        context: Some(context.into()),
        command: Some(command.into()),
    };
    Ok(record.encode_to_vec())
}

/// Reads what [`encode_entry`] wrote.
pub fn decode_entry(bytes: &[u8]) -> Result<(RequestContext, Command), ConvertError> {
    let record: wire::LogRecord = decode(bytes, MAX_COMMAND, "an entry of the log")?;
    let command: Command = field::message(record.command, "entry.command")?;
    refuse_clear(&command)?;
    Ok((field::message(record.context, "entry.context")?, command))
}

/// The bytes of an outcome.
pub fn encode_outcome(outcome: &Outcome) -> Vec<u8> {
    wire::Outcome::from(outcome).encode_to_vec()
}

/// Reads what [`encode_outcome`] wrote.
pub fn decode_outcome(bytes: &[u8]) -> Result<Outcome, ConvertError> {
    decode::<wire::Outcome>(bytes, MAX_OUTCOME, "an outcome")?.try_into()
}

/// The bytes of a request context.
pub fn encode_context(context: &RequestContext) -> Vec<u8> {
    wire::RequestContext::from(context).encode_to_vec()
}

/// Reads what [`encode_context`] wrote.
pub fn decode_context(bytes: &[u8]) -> Result<RequestContext, ConvertError> {
    decode::<wire::RequestContext>(bytes, MAX_COMMAND, "a request context")?.try_into()
}

fn decode<M: Message + Default>(
    bytes: &[u8],
    limit: usize,
    what: &'static str,
) -> Result<M, ConvertError> {
    field::bounded(bytes.len(), limit, what)?;
    M::decode(bytes).map_err(|source| ConvertError::Decode { what, source })
}

fn refuse_newer(found: u32, what: &'static str) -> Result<(), ConvertError> {
    refuse_above(COMMAND_FORMAT, found, what)
}

fn refuse_above(supported: u32, found: u32, what: &'static str) -> Result<(), ConvertError> {
    if found > supported {
        return Err(ConvertError::NewerFormat {
            what,
            found,
            supported,
        });
    }
    Ok(())
}

fn refuse_clear(command: &Command) -> Result<(), ConvertError> {
    match command {
        Command::Mount(spec) | Command::UpdateMount(spec)
            if matches!(spec.credential, Credential::Clear(_)) =>
        {
            Err(ConvertError::SecretInClear)
        }
        _ => Ok(()),
    }
}
