//! How much of what lies below a path is on block nodes.

use arustio_client::{FileSystem, FsError, ListOptions};
use arustio_types::FsPath;
use arustio_types::meta::status::FileStatus;
use futures::StreamExt;
use serde_json::{Value, json};

use crate::output::{percent, size};

/// Files that one question is about.
const TOGETHER: usize = 256;

/// Bytes, and how many of them are cached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Cached {
    /// Bytes of the files.
    pub(crate) size: u64,
    /// Those on block nodes; `None` where a node did not answer, or nobody asked.
    pub(crate) bytes: Option<u64>,
}

impl Cached {
    /// For programs: null where it is not known.
    pub(crate) fn json(&self) -> Value {
        json!(self.bytes)
    }

    /// For people: `12 MiB (40%)`.
    pub(crate) fn shown(&self, human: bool) -> String {
        match self.bytes {
            None => "-".to_owned(),
            Some(bytes) => format!(
                "{} ({})",
                size(bytes, human),
                percent(self.bytes, self.size)
            ),
        }
    }
}

/// Of everything at and below a path. An estimate while others read and write.
pub(crate) async fn below(
    fs: &dyn FileSystem,
    path: &FsPath,
    stale_ok: bool,
) -> Result<Cached, FsError> {
    let options = ListOptions {
        recursive: true,
        stale_ok,
    };
    let mut some = fs.list(path, options).ready_chunks(TOGETHER);
    let mut all = Cached {
        size: 0,
        bytes: Some(0),
    };
    while let Some(entries) = some.next().await {
        let entries = entries.into_iter().collect::<Result<Vec<_>, _>>()?;
        let files: Vec<FileStatus> = entries.into_iter().filter(|e| !e.is_dir()).collect();
        let counts = fs.cached_bytes(&files).await?;
        all.size += files.iter().map(|file| file.size).sum::<u64>();
        for count in counts {
            all.bytes = all.bytes.zip(count).map(|(sum, more)| sum + more);
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_no_zero() {
        let of = |bytes| Cached { size: 2048, bytes };
        assert_eq!(of(None).shown(true), "-");
        assert_eq!(of(None).json(), Value::Null);
        assert_eq!(of(Some(1024)).shown(true), "1 KiB (50%)");
        assert_eq!(of(Some(1024)).shown(false), "1024 (50%)");
    }
}
