//! Secrets on their way into and out of the metadata service (C1).
//!
//! In clear only between a client and the server that seals them; sealed in the
//! log, in the state, in backups. Neither form shows itself in `Debug`.

use std::collections::BTreeMap;
use std::fmt;

/// Secret option values by their canonical key.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct SecretOptions(BTreeMap<String, String>);

impl SecretOptions {
    /// Takes the values.
    pub fn new(values: BTreeMap<String, String>) -> Self {
        Self(values)
    }

    /// The values, for whoever opens the UFS or seals them.
    pub fn reveal(&self) -> &BTreeMap<String, String> {
        &self.0
    }

    /// Whether there are none: the provider chain is used.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for SecretOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretOptions({} set)", self.0.len())
    }
}

/// The credential of a mount.
#[derive(Clone, PartialEq, Eq, Default)]
pub enum Credential {
    /// None given: the provider chain of the cloud, resolved where it is used (C2).
    #[default]
    Provider,
    /// In clear, only between client and server.
    Clear(SecretOptions),
    /// Sealed with the cluster key.
    Sealed(Vec<u8>),
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Provider => "Provider",
            Self::Clear(_) => "Clear(set)",
            Self::Sealed(_) => "Sealed(set)",
        })
    }
}
