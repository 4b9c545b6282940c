//! Sealing of credentials (C1): AES-256-GCM under the cluster key.
//!
//! A sealed credential is `format (1) | fingerprint of the key (4) | nonce (12) |
//! ciphertext and tag`. The mount's path is authenticated with it, so that a sealed
//! credential means nothing at another mount. Whoever holds the log, the state or a
//! backup, but not the key file, learns its length and nothing else.

use std::collections::BTreeMap;
use std::fmt;

use arustio_types::meta::credential::{Credential, SecretOptions};
use arustio_types::meta::mount::MountSpec;
use arustio_types::{Classify, ErrorKind, FsPath};
use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::digest::{SHA256, digest};

const FORMAT: u8 = 1;
const PRINT: usize = 4;
const HEADER: usize = 1 + PRINT + NONCE_LEN;

/// Seals and unseals credentials.
pub struct Sealer {
    key: RandomizedNonceKey,
    fingerprint: [u8; PRINT],
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").finish_non_exhaustive()
    }
}

/// Why a credential cannot be sealed or unsealed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// Sealed by a later release.
    #[error("the credential of {path} has format {found}, this release reads up to {FORMAT}")]
    NewerFormat {
        /// The mount.
        path: FsPath,
        /// What is there.
        found: u8,
    },
    /// Sealed with another key, or damaged.
    #[error(
        "the credential of {path} was sealed with another cluster key: restore cluster.key from \
         another metadata server, or give the credential again with arustio fs update-mount"
    )]
    OtherKey {
        /// The mount.
        path: FsPath,
    },
    /// Set once, and not part of the backup that this cluster was restored from.
    #[error(
        "the credential of {path} was left out of the backup that this cluster was restored from: \
         give it again with arustio fs update-mount {path} -o KEY=VALUE (a secret can be \
         KEY=@FILE)"
    )]
    Missing {
        /// The mount.
        path: FsPath,
    },
    /// The library refused.
    #[error("cannot seal the credential of {path}")]
    Failed {
        /// The mount.
        path: FsPath,
    },
}

impl Classify for SealError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NewerFormat { .. } => ErrorKind::Unsupported,
            Self::OtherKey { .. } | Self::Missing { .. } => ErrorKind::Unauthenticated,
            Self::Failed { .. } => ErrorKind::Internal,
        }
    }
}

impl Sealer {
    /// From the bytes of the cluster key; `None` unless there are 32.
    pub fn new(key: &[u8]) -> Option<Self> {
        let hash = digest(&SHA256, &[b"arustio key fingerprint 1\0", key].concat());
        let fingerprint = *hash.as_ref().first_chunk()?;
        let key = RandomizedNonceKey::new(&AES_256_GCM, key).ok()?;
        Some(Self { key, fingerprint })
    }

    /// Tells keys apart, and says nothing else about them.
    pub fn fingerprint(&self) -> [u8; PRINT] {
        self.fingerprint
    }

    /// The mount as it may be recorded: a credential in clear becomes a sealed one.
    pub fn seal_mount(&self, mut spec: MountSpec) -> Result<MountSpec, SealError> {
        if let Credential::Clear(secrets) = &spec.credential {
            spec.credential = match secrets.is_empty() {
                true => Credential::Provider,
                false => Credential::Sealed(self.seal(&spec.path, secrets)?),
            };
        }
        Ok(spec)
    }

    /// Seals the secrets of a mount.
    pub fn seal(&self, path: &FsPath, secrets: &SecretOptions) -> Result<Vec<u8>, SealError> {
        let failed = || SealError::Failed { path: path.clone() };
        let mut text = serde_json::to_vec(secrets.reveal()).map_err(|_| failed())?;
        let nonce = self
            .key
            .seal_in_place_append_tag(aad(path), &mut text)
            .map_err(|_| failed())?;
        let mut sealed = vec![FORMAT];
        sealed.extend_from_slice(&self.fingerprint);
        sealed.extend_from_slice(nonce.as_ref());
        sealed.extend_from_slice(&text);
        Ok(sealed)
    }

    /// The secrets of a mount.
    pub fn unseal(&self, path: &FsPath, sealed: &[u8]) -> Result<SecretOptions, SealError> {
        let other = || SealError::OtherKey { path: path.clone() };
        let missing = || SealError::Missing { path: path.clone() };
        let found = sealed.first().copied().ok_or_else(missing)?;
        if found != FORMAT {
            let path = path.clone();
            return Err(SealError::NewerFormat { path, found });
        }
        let (header, text) = sealed.split_at_checked(HEADER).ok_or_else(other)?;
        let nonce: &[u8; NONCE_LEN] = header.last_chunk().ok_or_else(other)?;
        let mut text = text.to_vec();
        let opened = self
            .key
            .open_in_place(Nonce::from(nonce), aad(path), &mut text)
            .map_err(|_| other())?;
        let values: BTreeMap<String, String> =
            serde_json::from_slice(opened).map_err(|_| other())?;
        Ok(SecretOptions::new(values))
    }
}

fn aad(path: &FsPath) -> Aad<Vec<u8>> {
    Aad::from([b"arustio credential 1\0", path.as_str().as_bytes()].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets() -> SecretOptions {
        SecretOptions::new([("secret_access_key".to_owned(), "hunter2".to_owned())].into())
    }

    fn path(text: &str) -> FsPath {
        FsPath::new(text).unwrap()
    }

    #[test]
    fn what_is_sealed_can_be_unsealed_at_its_mount_only() {
        let sealer = Sealer::new(&[7; 32]).unwrap();
        let sealed = sealer.seal(&path("/data"), &secrets()).unwrap();
        assert!(!sealed.windows(7).any(|part| part == b"hunter2"));
        assert_eq!(sealer.unseal(&path("/data"), &sealed).unwrap(), secrets());
        assert!(sealer.unseal(&path("/other"), &sealed).is_err());
        assert_ne!(sealer.seal(&path("/data"), &secrets()).unwrap(), sealed);
    }

    #[test]
    fn another_key_and_any_damage_are_refused() {
        let sealer = Sealer::new(&[7; 32]).unwrap();
        let sealed = sealer.seal(&path("/data"), &secrets()).unwrap();
        let other = Sealer::new(&[8; 32]).unwrap();
        let error = other.unseal(&path("/data"), &sealed).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthenticated);
        for length in 0..sealed.len() {
            assert!(sealer.unseal(&path("/data"), &sealed[..length]).is_err());
        }
        assert!(Sealer::new(&[7; 31]).is_none());
    }

    #[test]
    fn c1_a_credential_that_a_restore_lost_is_asked_for_again() {
        let sealer = Sealer::new(&[7; 32]).unwrap();
        let error = sealer.unseal(&path("/data"), &[]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthenticated);
        let text = error.to_string();
        assert!(text.contains("arustio fs update-mount /data"), "{text}");
    }
}
