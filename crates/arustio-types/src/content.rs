//! What names bytes: contents, identities, versions, sources.
//!
//! A [`ContentId`] names one immutable sequence of bytes for ever. Where those
//! bytes can be fetched now is a [`Source`], and a source may change (a rename, a
//! persist) without the content id changing. That is why cached blocks are never
//! invalidated for correctness, only forgotten for space.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::id::{Incarnation, MountId};

/// Longest key an object store accepts, with room to spare; longer ones are refused.
pub const MAX_KEY: usize = 8192;
/// Longest identity that is taken from a store.
pub const MAX_IDENTITY: usize = 1024;

macro_rules! bits_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u128);

        impl $name {
            /// Wraps raw bits.
            pub const fn new(raw: u128) -> Self {
                Self(raw)
            }

            /// The raw bits.
            pub const fn get(self) -> u128 {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:032x}", self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl FromStr for $name {
            type Err = InvalidBits;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                if text.len() != 32 {
                    return Err(InvalidBits);
                }
                u128::from_str_radix(text, 16).map(Self).map_err(|_| InvalidBits)
            }
        }
    };
}

bits_id!(
    /// 128 bits that name one immutable sequence of bytes for ever.
    ContentId
);
bits_id!(
    /// Random per attempt of a write; stands in the object's metadata so that our
    /// own repeated write is told apart from somebody else's object (W2).
    WriteId
);

/// A text that is not 32 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected 32 hexadecimal digits")]
pub struct InvalidBits;

impl ContentId {
    /// The content id of an object that was found in a UFS.
    ///
    /// `generation` is the mount's: it rises when the mount is changed so that a
    /// key may name other bytes.
    pub fn derived(
        incarnation: Incarnation,
        mount: MountId,
        generation: u32,
        key: &UfsKey,
        identity: &Identity,
        length: u64,
    ) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"arustio content 1\0");
        hash.update(incarnation.get().to_be_bytes());
        hash.update(mount.get().to_be_bytes());
        hash.update(generation.to_be_bytes());
        hash.update((key.as_str().len() as u64).to_be_bytes());
        hash.update(key.as_str().as_bytes());
        hash.update((identity.as_str().len() as u64).to_be_bytes());
        hash.update(identity.as_str().as_bytes());
        hash.update(length.to_be_bytes());
        let digest = hash.finalize();
        let mut raw = [0; 16];
        raw.copy_from_slice(&digest[..16]);
        Self(u128::from_be_bytes(raw))
    }
}

/// A key of a UFS below the mount's own root, raw as the store returns it.
///
/// Deliberately not a path: stores hold `a//b`, `dir/` with bytes, and worse.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct UfsKey(Arc<str>);

impl UfsKey {
    /// Takes a key literally.
    pub fn new(key: &str) -> Self {
        Self(Arc::from(key))
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UfsKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for UfsKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &self.0)
    }
}

/// The one field of an object version that LIST, HEAD, GET and PUT all return.
///
/// S3: the strong ETag without quotes; local directory: device, inode, ctime,
/// mtime and size; memory: a random generation and a counter. Opaque here.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity(Arc<str>);

impl Identity {
    /// Takes an identity as the store states it.
    pub fn new(identity: &str) -> Self {
        Self(Arc::from(identity))
    }

    /// The identity as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &self.0)
    }
}

/// One version of an object: its identity, and the store's version id as a hint.
///
/// Two versions are the same when their identities are; the hint only helps to ask
/// for it, so it takes no part in equality.
#[derive(Debug, Clone)]
pub struct ObjectVersion {
    /// What tells this version from every other one of the key.
    pub identity: Identity,
    /// The store's version id where the bucket is versioned.
    pub version_id: Option<String>,
}

impl ObjectVersion {
    /// A version without a version id.
    pub fn new(identity: &str) -> Self {
        Self {
            identity: Identity::new(identity),
            version_id: None,
        }
    }
}

impl PartialEq for ObjectVersion {
    fn eq(&self, other: &Self) -> bool {
        self.identity == other.identity
    }
}

impl Eq for ObjectVersion {}

/// Where the bytes of a content can be fetched now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The object, relative to the mount's root in the UFS.
    pub key: UfsKey,
    /// The version that holds the content; reads carry it as a precondition (R1).
    pub version: ObjectVersion,
}

/// CRC32C (Castagnoli) of a run of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Checksum(pub u32);

#[cfg(test)]
mod tests {
    use super::*;

    fn derive(key: &str, identity: &str, length: u64) -> ContentId {
        ContentId::derived(
            Incarnation::new(7),
            MountId::new(1),
            0,
            &UfsKey::new(key),
            &Identity::new(identity),
            length,
        )
    }

    #[test]
    fn derived_content_ids_differ_in_every_part_and_never_change() {
        let base = derive("a/b", "etag", 3);
        assert_eq!(base, derive("a/b", "etag", 3));
        assert_ne!(base, derive("a/be", "tag", 3));
        assert_ne!(base, derive("a/b", "etag", 4));
        // Golden: cached blocks on disk are found again by this number.
        assert_eq!(base.to_string(), "33e21a272e48c8eb4e682fde8307cf30");
    }

    #[test]
    fn ids_round_trip_through_text() {
        let id = WriteId::new(0xabc);
        assert_eq!(id.to_string().parse::<WriteId>().unwrap(), id);
        assert!("xyz".parse::<WriteId>().is_err());
    }
}
