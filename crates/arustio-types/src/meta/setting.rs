//! Settings of paths, which everything below inherits.

use std::fmt;
use std::time::Duration;

use crate::block::BlockSize;
use crate::meta::mount::WriteType;
use crate::path::FsPath;
use crate::unit::{ByteSize, InvalidUnit, format_duration, parse_duration};

/// How old knowledge of the UFS may be (R3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncInterval {
    /// Look again when it is older; zero: at every open.
    Every(Duration),
    /// Never look again by itself.
    Never,
}

impl SyncInterval {
    /// One minute.
    pub const DEFAULT: SyncInterval = SyncInterval::Every(Duration::from_secs(60));
}

impl fmt::Display for SyncInterval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Every(duration) if duration.is_zero() => f.write_str("0"),
            Self::Every(duration) => f.write_str(&format_duration(*duration)),
            Self::Never => f.write_str("never"),
        }
    }
}

/// Settings of one path; `None` inherits.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PathConf {
    /// `write.type`.
    pub write_type: Option<WriteType>,
    /// `sync.interval`.
    pub sync_interval: Option<SyncInterval>,
    /// `block.size`.
    pub block_size: Option<BlockSize>,
}

/// Which path a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The canonical key.
    pub key: String,
    /// It was set on exactly this path.
    pub path: FsPath,
}

impl PathConf {
    /// The canonical keys.
    pub const KEYS: [&'static str; 3] = ["block.size", "sync.interval", "write.type"];

    /// The canonical form of a key that users type; `None` when there is none.
    pub fn canonical(key: &str) -> Option<&'static str> {
        match key.to_ascii_lowercase().as_str() {
            "write.type" | "writetype" | "write_type" => Some("write.type"),
            "sync.interval" | "syncinterval" | "sync_interval" => Some("sync.interval"),
            "block.size" | "blocksize" | "block_size" => Some("block.size"),
            _ => None,
        }
    }

    /// Sets one value from text.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), SettingError> {
        let refuse = |expected| SettingError::Value {
            key: key.to_owned(),
            value: value.to_owned(),
            expected,
        };
        match Self::canonical(key) {
            Some("write.type") => {
                let parsed = value.parse();
                self.write_type =
                    Some(parsed.map_err(|_| {
                        refuse("THROUGH, CACHE_THROUGH, ASYNC_THROUGH or MUST_CACHE")
                    })?);
            }
            Some("sync.interval") => {
                let parsed = parse_interval(value);
                self.sync_interval =
                    Some(parsed.map_err(|_| refuse("a duration such as 1m, 0, or never"))?);
            }
            Some("block.size") => {
                let bytes: Option<ByteSize> = value.parse().ok();
                let parsed = bytes.and_then(|b| BlockSize::from_bytes(b.get()));
                self.block_size =
                    Some(parsed.ok_or_else(|| refuse("a power of two from 64KiB to 256MiB"))?);
            }
            _ => return Err(SettingError::Key(key.to_owned())),
        }
        Ok(())
    }

    /// Returns one key to what it inherits.
    pub fn unset(&mut self, key: &str) -> Result<(), SettingError> {
        match Self::canonical(key) {
            Some("write.type") => self.write_type = None,
            Some("sync.interval") => self.sync_interval = None,
            Some("block.size") => self.block_size = None,
            _ => return Err(SettingError::Key(key.to_owned())),
        }
        Ok(())
    }

    /// What is set, as text, by canonical key.
    pub fn entries(&self) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        if let Some(size) = self.block_size {
            found.push(("block.size", ByteSize(size.bytes()).to_string()));
        }
        if let Some(interval) = self.sync_interval {
            found.push(("sync.interval", interval.to_string()));
        }
        if let Some(write_type) = self.write_type {
            found.push(("write.type", write_type.to_string()));
        }
        found
    }

    /// Whether nothing is set.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// This conf over what its parent has.
    pub fn over(&self, parent: &PathConf) -> PathConf {
        PathConf {
            write_type: self.write_type.or(parent.write_type),
            sync_interval: self.sync_interval.or(parent.sync_interval),
            block_size: self.block_size.or(parent.block_size),
        }
    }

    /// The write type, default included.
    pub fn effective_write_type(&self) -> WriteType {
        self.write_type.unwrap_or_default()
    }

    /// The sync interval, default included.
    pub fn effective_sync_interval(&self) -> SyncInterval {
        self.sync_interval.unwrap_or(SyncInterval::DEFAULT)
    }

    /// The block size, default included.
    pub fn effective_block_size(&self) -> BlockSize {
        self.block_size.unwrap_or_default()
    }
}

fn parse_interval(text: &str) -> Result<SyncInterval, InvalidUnit> {
    match text.trim() {
        "never" | "-1" => Ok(SyncInterval::Never),
        other => parse_duration(other).map(SyncInterval::Every),
    }
}

/// A setting that cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingError {
    /// No such key.
    #[error("unknown setting {0:?}; known are block.size, sync.interval and write.type")]
    Key(String),
    /// Not a value of this key.
    #[error("cannot set {key} to {value:?}: expected {expected}")]
    Value {
        /// The key.
        key: String,
        /// What was given.
        value: String,
        /// What could have been.
        expected: &'static str,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_by_every_spelling_and_printed_canonically() {
        let mut conf = PathConf::default();
        conf.set("writetype", "through").unwrap();
        conf.set("sync.interval", "5m").unwrap();
        conf.set("block.size", "1MiB").unwrap();
        let printed = conf.entries();
        assert_eq!(printed[0], ("block.size", "1MiB".to_owned()));
        assert_eq!(printed[1].1, "5m");
        assert_eq!(printed[2].1, "THROUGH");
        let mut again = PathConf::default();
        for (key, value) in &printed {
            again.set(key, value).unwrap();
        }
        assert_eq!(again, conf);
        assert!(conf.set("block.size", "3MiB").is_err());
        assert!(conf.set("blok.size", "1MiB").is_err());
    }
}
