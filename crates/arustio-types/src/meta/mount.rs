//! Mounts: which UFS stands where.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::id::{InodeId, MountId};
use crate::meta::credential::Credential;
use crate::path::FsPath;

/// How bytes are written; the names that users know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum WriteType {
    /// To the UFS only.
    Through,
    /// To the UFS, and to block nodes as well as that goes.
    #[default]
    CacheThrough,
    /// To block nodes, durably; persisted later.
    AsyncThrough,
    /// To block nodes only.
    MustCache,
}

impl WriteType {
    /// The name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Through => "THROUGH",
            Self::CacheThrough => "CACHE_THROUGH",
            Self::AsyncThrough => "ASYNC_THROUGH",
            Self::MustCache => "MUST_CACHE",
        }
    }
}

impl fmt::Display for WriteType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for WriteType {
    type Err = UnknownWriteType;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let all = [
            Self::Through,
            Self::CacheThrough,
            Self::AsyncThrough,
            Self::MustCache,
        ];
        let wanted = text.trim().to_ascii_uppercase().replace('-', "_");
        all.into_iter()
            .find(|t| t.name() == wanted)
            .ok_or(UnknownWriteType)
    }
}

/// A text that is no [`WriteType`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected THROUGH, CACHE_THROUGH, ASYNC_THROUGH or MUST_CACHE")]
pub struct UnknownWriteType;

/// What to mount.
#[derive(Debug, Clone, PartialEq)]
pub struct MountSpec {
    /// The mount point.
    pub path: FsPath,
    /// Canonical URI, without secrets: `s3://bucket/prefix`.
    pub uri: String,
    /// Canonical options that are not secret.
    pub options: BTreeMap<String, String>,
    /// The secret ones.
    pub credential: Credential,
    /// Refuse every change.
    pub readonly: bool,
    /// Others than the mounting user may use it.
    pub shared: bool,
    /// What the UFS was seen to obey (U7).
    pub capabilities: MountCapabilities,
    /// Where `file://` and `mem://` are bound to (U8): host or process.
    pub bound_to: Option<String>,
}

impl MountSpec {
    /// Options that say how a store is spoken to, and never which store it is: what is
    /// not named here may lead to other bytes. A profile names a region, too.
    pub const SAME_BYTES: [&str; 9] = [
        "allow_http",
        "conditional_put",
        "path_style",
        "probe",
        "request_payer",
        "role_arn",
        "sse",
        "sse_kms_key_id",
        "web_identity_token_file",
    ];

    /// Whether every key still names the same bytes under `other`, which stands at the
    /// same path. Credentials do not count: whoever asks, the bytes are the same.
    pub fn names_the_same_bytes(&self, other: &Self) -> bool {
        let leading = |spec: &Self| -> Vec<(String, String)> {
            let options = spec.options.clone().into_iter();
            let leads = |(key, _): &(String, String)| !Self::SAME_BYTES.contains(&key.as_str());
            options.filter(leads).collect()
        };
        self.uri == other.uri && self.bound_to == other.bound_to && leading(self) == leading(other)
    }
}

/// What stands.
#[derive(Debug, Clone, PartialEq)]
pub struct MountEntry {
    /// Its number; a new one each time.
    pub id: MountId,
    /// Rises with each update that may make a key name other bytes
    /// ([`MountSpec::names_the_same_bytes`]).
    pub generation: u32,
    /// The directory it stands on.
    pub root: InodeId,
    /// As it was asked for; the credential sealed or left out.
    pub spec: MountSpec,
}

/// What a UFS was seen to obey, each tried with a wrong precondition (U7).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MountCapabilities {
    /// `If-None-Match: *` on a single PUT.
    pub create_only: bool,
    /// `If-Match` on a single PUT.
    pub replace_if: bool,
    /// Conditions on completing a multipart upload.
    pub complete_if: bool,
    /// `If-Match` on GET.
    pub read_if: bool,
    /// Source condition of COPY.
    pub copy_source_if: bool,
    /// Destination condition of COPY.
    pub copy_dest_if: bool,
    /// `If-Match` on DELETE.
    pub delete_if: bool,
    /// Renames atomically.
    pub atomic_rename: bool,
    /// The identity tells every version from every other.
    pub strong_identity: bool,
    /// Tried here; otherwise what is known of such a store.
    pub probed: bool,
    /// The same for people, with every window in words.
    pub line: String,
}
