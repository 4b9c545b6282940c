//! Where a mount's bytes live, as people type it.
//!
//! Parsed once, at the edge; printed without secrets. A URI is literal: nothing is
//! percent-decoded, because an object key may hold a `%` (the prefix of a URI counts).

use std::fmt;

use crate::error::ConfigError;

/// A family of under file systems.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scheme {
    /// Amazon S3 and what speaks its protocol.
    S3,
    /// Google Cloud Storage.
    Gcs,
    /// Azure Blob Storage.
    Azure,
    /// A directory of this machine.
    File,
    /// A store in the memory of this process.
    Mem,
}

/// Every scheme with its canonical name first.
const NAMES: [(Scheme, &[&str]); 5] = [
    (Scheme::S3, &["s3", "s3a"]),
    (Scheme::Gcs, &["gs", "gcs"]),
    (Scheme::Azure, &["az", "abfs", "abfss", "wasb", "wasbs"]),
    (Scheme::File, &["file", "local"]),
    (Scheme::Mem, &["mem"]),
];

impl Scheme {
    /// The canonical name.
    pub fn name(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Gcs => "gs",
            Self::Azure => "az",
            Self::File => "file",
            Self::Mem => "mem",
        }
    }

    fn parse(text: &str) -> Result<Self, ConfigError> {
        let wanted = text.to_ascii_lowercase();
        if wanted == "s3n" {
            let hint = "use s3:// with the same bucket and prefix";
            return Err(ConfigError::RefusedScheme {
                scheme: wanted,
                hint,
            });
        }
        for (scheme, names) in NAMES {
            if names.contains(&wanted.as_str()) {
                return Ok(scheme);
            }
        }
        let all = NAMES.iter().flat_map(|(_, names)| names.iter().copied());
        Err(ConfigError::UnknownScheme {
            nearest: nearest(&wanted, all.clone()),
            known: all
                .map(|name| format!("{name}://"))
                .collect::<Vec<_>>()
                .join(", "),
            scheme: wanted,
        })
    }
}

/// The known word that is nearest to what was typed, if any is near.
pub(crate) fn nearest<'a>(typed: &str, known: impl Iterator<Item = &'a str>) -> Option<String> {
    known
        .map(|word| (strsim::damerau_levenshtein(typed, word), word))
        .filter(|(distance, word)| *distance <= (word.len() / 3).max(1))
        .min()
        .map(|(_, word)| word.to_owned())
}

/// A parsed URI: scheme, authority (bucket, container or name) and path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UfsUri {
    scheme: Scheme,
    authority: String,
    path: String,
}

impl UfsUri {
    /// Reads a URI such as `s3a://bucket/prefix`, `file:///srv/data` or `mem://test`.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let refuse = |reason| {
            Err(ConfigError::InvalidUri {
                uri: text.to_owned(),
                reason,
            })
        };
        let Some((scheme, rest)) = text.split_once("://") else {
            return refuse("it has no scheme; write for example s3://bucket/prefix");
        };
        let scheme = Scheme::parse(scheme)?;
        if rest.chars().any(char::is_control) {
            return refuse("it contains a control character");
        }
        let (authority, path) = match rest.split_once('/') {
            Some((authority, path)) => (authority, path),
            None => (rest, ""),
        };
        if authority.contains('@') && scheme != Scheme::Azure {
            return refuse("credentials do not belong into a URI; give them as options");
        }
        let uri = Self {
            scheme,
            authority: authority.to_owned(),
            path: path.trim_end_matches('/').to_owned(),
        };
        match scheme {
            Scheme::File if !authority.is_empty() && authority != "localhost" => {
                refuse("a local directory has three slashes: file:///srv/data")
            }
            Scheme::File if has_dots(&uri.path) => refuse("write the directory without '..'"),
            Scheme::S3 | Scheme::Gcs | Scheme::Azure | Scheme::Mem if authority.is_empty() => {
                refuse("the name of the bucket is missing")
            }
            Scheme::S3 | Scheme::Gcs | Scheme::Azure | Scheme::File | Scheme::Mem => Ok(uri),
        }
    }

    /// The family.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Bucket, container or name; empty for directories.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// The prefix below the authority, without slashes at its ends; for directories the
    /// absolute path without its first slash.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The prefix of every key: empty, or ending in `/`.
    pub fn key_prefix(&self) -> String {
        if self.path.is_empty() {
            return String::new();
        }
        format!("{}/", self.path)
    }
}

fn has_dots(path: &str) -> bool {
    path.split('/').any(|name| name == "." || name == "..")
}

/// The canonical form: `s3a://bucket/prefix/` prints as `s3://bucket/prefix`.
impl fmt::Display for UfsUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let authority = match self.scheme {
            Scheme::File => "",
            _ => &self.authority,
        };
        write!(f, "{}://{authority}", self.scheme.name())?;
        match (self.path.is_empty(), self.scheme) {
            (false, _) | (true, Scheme::File) => write!(f, "/{}", self.path),
            (true, _) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(text: &str) -> String {
        match UfsUri::parse(text) {
            Ok(uri) => uri.to_string(),
            Err(error) => format!("error: {error}"),
        }
    }

    #[test]
    fn aliases_of_a_scheme_have_one_canonical_form() {
        assert_eq!(canonical("s3a://bucket/prefix/"), "s3://bucket/prefix");
        assert_eq!(canonical("S3://bucket"), "s3://bucket");
        assert_eq!(canonical("gcs://b/p"), "gs://b/p");
        assert_eq!(canonical("local:///srv/data"), "file:///srv/data");
        assert_eq!(canonical("file:///"), "file:///");
        assert_eq!(canonical("mem://x"), "mem://x");
        assert_eq!(
            UfsUri::parse("s3://b/a%20b").unwrap().key_prefix(),
            "a%20b/"
        );
    }

    #[test]
    fn uris_that_cannot_be_used_say_why() {
        assert!(canonical("s3n://b/p").contains("use s3://"));
        assert!(canonical("s4://b/p").contains("did you mean \"s3\""));
        assert!(canonical("bucket/prefix").contains("no scheme"));
        assert!(canonical("s3://").contains("bucket is missing"));
        assert!(canonical("file://host/p").contains("three slashes"));
        assert!(canonical("s3://key:secret@b/p").contains("as options"));
    }
}
