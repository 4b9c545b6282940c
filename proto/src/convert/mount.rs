//! Mounts, credentials, settings.

use std::collections::BTreeMap;

use arustio_types::meta::credential::{Credential, SecretOptions};
use arustio_types::meta::mount::{MountCapabilities, MountEntry, MountSpec, WriteType};
use arustio_types::meta::setting::{Origin, PathConf, SyncInterval};
use arustio_types::{InodeId, MountId};
use bytes::Bytes;

use super::ConvertError;
use super::field::{
    MAX_TEXT, block_size, bounded, duration, message, millis, path, required, text,
};
use crate::meta::v1 as wire;

/// Options of one mount.
const MAX_OPTIONS: usize = 256;

impl From<&MountSpec> for wire::MountSpec {
    fn from(spec: &MountSpec) -> Self {
        Self {
            path: spec.path.as_str().to_owned(),
            uri: spec.uri.clone(),
            options: spec.options.clone(),
            credential: Some((&spec.credential).into()),
            readonly: spec.readonly,
            shared: spec.shared,
            capabilities: Some((&spec.capabilities).into()),
            bound_to: spec.bound_to.clone(),
        }
    }
}

impl TryFrom<wire::MountSpec> for MountSpec {
    type Error = ConvertError;
    fn try_from(spec: wire::MountSpec) -> Result<Self, ConvertError> {
        let bound_to = spec.bound_to;
        Ok(Self {
            path: path(&spec.path, "mount.path")?,
            uri: text(spec.uri, MAX_TEXT, "mount.uri")?,
            options: options(spec.options, "mount.options")?,
            credential: message(spec.credential, "mount.credential")?,
            readonly: spec.readonly,
            shared: spec.shared,
            capabilities: message(spec.capabilities, "mount.capabilities")?,
            bound_to: bound_to
                .map(|bound| text(bound, MAX_TEXT, "mount.bound_to"))
                .transpose()?,
        })
    }
}

impl From<&MountEntry> for wire::MountEntry {
    fn from(entry: &MountEntry) -> Self {
        Self {
            id: entry.id.get(),
            generation: entry.generation,
            root: entry.root.get(),
            spec: Some((&entry.spec).into()),
        }
    }
}

impl TryFrom<wire::MountEntry> for MountEntry {
    type Error = ConvertError;
    fn try_from(entry: wire::MountEntry) -> Result<Self, ConvertError> {
        Ok(Self {
            id: MountId::new(entry.id),
            generation: entry.generation,
            root: InodeId::new(entry.root),
            spec: message(entry.spec, "mount.spec")?,
        })
    }
}

impl From<&MountCapabilities> for wire::MountCapabilities {
    fn from(capabilities: &MountCapabilities) -> Self {
        Self {
            create_only: capabilities.create_only,
            replace_if: capabilities.replace_if,
            complete_if: capabilities.complete_if,
            read_if: capabilities.read_if,
            copy_source_if: capabilities.copy_source_if,
            copy_dest_if: capabilities.copy_dest_if,
            delete_if: capabilities.delete_if,
            atomic_rename: capabilities.atomic_rename,
            strong_identity: capabilities.strong_identity,
            probed: capabilities.probed,
            line: capabilities.line.clone(),
        }
    }
}

impl TryFrom<wire::MountCapabilities> for MountCapabilities {
    type Error = ConvertError;
    fn try_from(capabilities: wire::MountCapabilities) -> Result<Self, ConvertError> {
        Ok(Self {
            create_only: capabilities.create_only,
            replace_if: capabilities.replace_if,
            complete_if: capabilities.complete_if,
            read_if: capabilities.read_if,
            copy_source_if: capabilities.copy_source_if,
            copy_dest_if: capabilities.copy_dest_if,
            delete_if: capabilities.delete_if,
            atomic_rename: capabilities.atomic_rename,
            strong_identity: capabilities.strong_identity,
            probed: capabilities.probed,
            line: text(capabilities.line, MAX_TEXT, "capabilities.line")?,
        })
    }
}

impl From<&Credential> for wire::Credential {
    fn from(credential: &Credential) -> Self {
        use wire::credential::{Kind, Provider};
        let kind = match credential {
            Credential::Provider => Kind::Provider(Provider {}),
            Credential::Clear(secrets) => Kind::Clear(secrets.into()),
            Credential::Sealed(sealed) => Kind::Sealed(Bytes::copy_from_slice(sealed)),
        };
        Self { kind: Some(kind) }
    }
}

impl TryFrom<wire::Credential> for Credential {
    type Error = ConvertError;
    fn try_from(credential: wire::Credential) -> Result<Self, ConvertError> {
        use wire::credential::Kind;
        Ok(match required(credential.kind, "credential")? {
            Kind::Provider(_) => Self::Provider,
            Kind::Clear(secrets) => Self::Clear(secrets.try_into()?),
            Kind::Sealed(sealed) => {
                bounded(sealed.len(), MAX_OPTIONS * MAX_TEXT, "credential.sealed")?;
                Self::Sealed(sealed.to_vec())
            }
        })
    }
}

impl From<&SecretOptions> for wire::ClearSecrets {
    fn from(secrets: &SecretOptions) -> Self {
        Self {
            values: secrets.reveal().clone(),
        }
    }
}

impl TryFrom<wire::ClearSecrets> for SecretOptions {
    type Error = ConvertError;
    fn try_from(secrets: wire::ClearSecrets) -> Result<Self, ConvertError> {
        options(secrets.values, "credential.clear").map(Self::new)
    }
}

impl From<&Origin> for wire::ConfOrigin {
    fn from(origin: &Origin) -> Self {
        Self {
            key: origin.key.clone(),
            path: origin.path.as_str().to_owned(),
        }
    }
}

impl TryFrom<wire::ConfOrigin> for Origin {
    type Error = ConvertError;
    fn try_from(origin: wire::ConfOrigin) -> Result<Self, ConvertError> {
        Ok(Self {
            key: text(origin.key, MAX_TEXT, "origin.key")?,
            path: path(&origin.path, "origin.path")?,
        })
    }
}

impl From<&PathConf> for wire::PathConf {
    fn from(conf: &PathConf) -> Self {
        Self {
            write_type: conf.write_type.map_or(0, write_type_code),
            sync_interval: conf.sync_interval.as_ref().map(Into::into),
            block_size_log2: conf.block_size.map(|size| u32::from(size.log2())),
        }
    }
}

impl TryFrom<wire::PathConf> for PathConf {
    type Error = ConvertError;
    fn try_from(conf: wire::PathConf) -> Result<Self, ConvertError> {
        Ok(Self {
            write_type: optional_write_type(conf.write_type, "conf.write_type")?,
            sync_interval: conf.sync_interval.map(TryInto::try_into).transpose()?,
            block_size: conf
                .block_size_log2
                .map(|log2| block_size(log2, "conf.block_size"))
                .transpose()?,
        })
    }
}

impl From<&SyncInterval> for wire::SyncInterval {
    fn from(interval: &SyncInterval) -> Self {
        use wire::sync_interval::{Kind, Never};
        let kind = match interval {
            SyncInterval::Every(every) => millis(*every).map(Kind::Every),
            SyncInterval::Never => Some(Kind::Never(Never {})),
        };
        Self { kind }
    }
}

impl TryFrom<wire::SyncInterval> for SyncInterval {
    type Error = ConvertError;
    fn try_from(interval: wire::SyncInterval) -> Result<Self, ConvertError> {
        use wire::sync_interval::Kind;
        Ok(match required(interval.kind, "conf.sync_interval")? {
            Kind::Every(every) => Self::Every(duration(every)),
            Kind::Never(_) => Self::Never,
        })
    }
}

pub(super) fn write_type_code(write_type: WriteType) -> i32 {
    let code = match write_type {
        WriteType::Through => wire::WriteType::Through,
        WriteType::CacheThrough => wire::WriteType::CacheThrough,
        WriteType::AsyncThrough => wire::WriteType::AsyncThrough,
        WriteType::MustCache => wire::WriteType::MustCache,
    };
    code.into()
}

pub(super) fn optional_write_type(
    code: i32,
    field: &'static str,
) -> Result<Option<WriteType>, ConvertError> {
    let known = wire::WriteType::try_from(code).map_err(|_| ConvertError::Value {
        field,
        value: i64::from(code),
    })?;
    Ok(match known {
        wire::WriteType::Unspecified => None,
        wire::WriteType::Through => Some(WriteType::Through),
        wire::WriteType::CacheThrough => Some(WriteType::CacheThrough),
        wire::WriteType::AsyncThrough => Some(WriteType::AsyncThrough),
        wire::WriteType::MustCache => Some(WriteType::MustCache),
    })
}

pub(super) fn write_type(code: i32, field: &'static str) -> Result<WriteType, ConvertError> {
    required(optional_write_type(code, field)?, field)
}

fn options(
    values: BTreeMap<String, String>,
    field: &'static str,
) -> Result<BTreeMap<String, String>, ConvertError> {
    bounded(values.len(), MAX_OPTIONS, field)?;
    for (key, value) in &values {
        bounded(key.len(), MAX_TEXT, field)?;
        bounded(value.len(), MAX_TEXT, field)?;
    }
    Ok(values)
}
