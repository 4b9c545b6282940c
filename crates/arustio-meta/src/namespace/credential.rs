//! Sealed credentials of mounts (C1): stored as they came, never looked into.

use arustio_types::meta::command::Refusal;
use arustio_types::meta::credential::Credential;
use arustio_types::{ErrorKind, MountId};

use super::txn::{Read, Step, Txn};
use crate::engine::{Family, key};

/// Stores the credential of a mount.
pub(crate) fn store(txn: &mut Txn<'_>, mount: MountId, credential: &Credential) -> Step<()> {
    match credential {
        Credential::Provider => txn.delete(Family::Credentials, key::mount(mount)),
        Credential::Sealed(bytes) => {
            txn.put_raw(Family::Credentials, key::mount(mount), bytes.clone());
        }
        Credential::Clear(_) => {
            let message = "a credential reached the log unsealed; this is a defect of the server";
            return Err(Refusal::new(ErrorKind::Internal, message).into());
        }
    }
    Ok(())
}

/// The credential of a mount, sealed.
pub(crate) fn load(txn: &Txn<'_>, mount: MountId) -> Read<Credential> {
    let sealed = txn.raw(Family::Credentials, &key::mount(mount))?;
    Ok(sealed.map_or(Credential::Provider, Credential::Sealed))
}

/// Forgets it.
pub(crate) fn forget(txn: &mut Txn<'_>, mount: MountId) {
    txn.delete(Family::Credentials, key::mount(mount));
}
