//! Options of a mount, and the settings of the layers.
//!
//! One canonical set of keys, with the names that users bring along as aliases. What
//! comes out is canonical and split: what may be shown, and what is secret. An unknown
//! key is an error that names the nearest known one, never ignored.

use std::collections::BTreeMap;
use std::time::Duration;

use arustio_types::meta::credential::SecretOptions;

use crate::error::ConfigError;
use crate::uri::{Scheme, nearest};

/// One option: its canonical key and everything else that it is called.
#[derive(Debug)]
struct OptionSpec {
    key: &'static str,
    aliases: &'static [&'static str],
    secret: bool,
}

const fn plain(key: &'static str, aliases: &'static [&'static str]) -> OptionSpec {
    OptionSpec {
        key,
        aliases,
        secret: false,
    }
}

const fn secret(key: &'static str, aliases: &'static [&'static str]) -> OptionSpec {
    OptionSpec {
        key,
        aliases,
        secret: true,
    }
}

/// Options of every scheme.
const COMMON: [OptionSpec; 1] = [plain("probe", &[])];

/// Options of `s3://`. Both halves of a key pair count as secret (C1).
const S3: [OptionSpec; 14] = [
    secret(
        "access_key_id",
        &[
            "s3a.accessKeyId",
            "aws.accessKeyId",
            "fs.s3a.access.key",
            "aws_access_key_id",
            "s3.credentials.access",
            "access_key",
            "access-key-id",
        ],
    ),
    secret(
        "secret_access_key",
        &[
            "s3a.secretKey",
            "aws.secretKey",
            "fs.s3a.secret.key",
            "aws_secret_access_key",
            "s3.credentials.secret",
            "secret_key",
            "secret-access-key",
        ],
    ),
    secret(
        "session_token",
        &[
            "aws_session_token",
            "fs.s3a.session.token",
            "aws.sessionToken",
            "s3.credentials.session",
        ],
    ),
    plain(
        "endpoint",
        &[
            "alluxio.underfs.s3.endpoint",
            "fs.s3a.endpoint",
            "endpoint_url",
            "aws_endpoint",
            "aws_endpoint_url",
            "s3.endpoint_url",
        ],
    ),
    plain(
        "region",
        &[
            "aws_region",
            "alluxio.underfs.s3.region",
            "fs.s3a.endpoint.region",
            "s3.region_name",
        ],
    ),
    plain(
        "path_style",
        &[
            "alluxio.underfs.s3.disable.dns.buckets",
            "fs.s3a.path.style.access",
            "s3.path_style",
            "force_path_style",
        ],
    ),
    plain("allow_http", &["aws_allow_http"]),
    plain("role_arn", &["aws_role_arn", "fs.s3a.assumed.role.arn"]),
    plain("web_identity_token_file", &["aws_web_identity_token_file"]),
    plain("profile", &["aws_profile"]),
    plain(
        "sse",
        &["aws_server_side_encryption", "fs.s3a.encryption.algorithm"],
    ),
    plain(
        "sse_kms_key_id",
        &["aws_sse_kms_key_id", "fs.s3a.encryption.key"],
    ),
    plain(
        "request_payer",
        &["aws_request_payer", "fs.s3a.requester.pays.enabled"],
    ),
    plain("conditional_put", &["aws_conditional_put"]),
];

fn known(scheme: Scheme) -> impl Iterator<Item = &'static OptionSpec> + Clone {
    let own: &'static [OptionSpec] = match scheme {
        Scheme::S3 => &S3,
        Scheme::Gcs | Scheme::Azure | Scheme::File | Scheme::Mem => &[],
    };
    own.iter().chain(&COMMON)
}

/// Whether a key, under whatever name and for whatever scheme, holds a secret.
pub fn is_secret(key: &str) -> bool {
    S3.iter()
        .filter(|spec| spec.secret)
        .any(|spec| spec.is_called(key))
}

impl OptionSpec {
    fn is_called(&self, name: &str) -> bool {
        let mut names = self.aliases.iter().chain([&self.key]);
        names.any(|known| known.eq_ignore_ascii_case(name))
    }
}

/// The options of a mount, canonical and split. Shows no secret.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UfsOptions {
    /// What may be shown, by canonical key.
    pub plain: BTreeMap<String, String>,
    /// What may not.
    pub secret: SecretOptions,
}

impl UfsOptions {
    /// Reads options under whatever names; reading canonical ones changes nothing.
    pub fn parse<'a>(
        scheme: Scheme,
        given: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, ConfigError> {
        let mut plain = BTreeMap::new();
        let mut secret = BTreeMap::new();
        for (key, value) in given {
            let spec = find(scheme, key)?;
            let value = value.trim().to_owned();
            let into = if spec.secret { &mut secret } else { &mut plain };
            let before = into.insert(spec.key.to_owned(), value.clone());
            if before.is_some_and(|before| before != value) {
                return Err(ConfigError::Contradiction { key: spec.key });
            }
        }
        Ok(Self {
            plain,
            secret: SecretOptions::new(secret),
        })
    }

    /// From what a mount holds: its options and its opened credential.
    pub fn from_mount(plain: &BTreeMap<String, String>, secret: &SecretOptions) -> Self {
        Self {
            plain: plain.clone(),
            secret: secret.clone(),
        }
    }

    /// A plain value.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.plain.get(key).map(String::as_str)
    }

    /// A secret value. Never print it.
    pub fn secret(&self, key: &str) -> Option<&str> {
        self.secret.reveal().get(key).map(String::as_str)
    }

    /// A yes or no.
    pub fn flag(&self, key: &'static str) -> Result<Option<bool>, ConfigError> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        match value.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "1" | "requester" => Ok(Some(true)),
            "false" | "no" | "off" | "0" => Ok(Some(false)),
            _ => Err(ConfigError::InvalidOption {
                key,
                reason: format!("expected true or false, not {value:?}"),
            }),
        }
    }
}

fn find(scheme: Scheme, key: &str) -> Result<&'static OptionSpec, ConfigError> {
    let found = known(scheme).find(|spec| spec.is_called(key));
    found.ok_or_else(|| {
        let canonical = known(scheme).map(|spec| spec.key);
        let aliases = known(scheme).flat_map(|spec| spec.aliases.iter().copied());
        ConfigError::UnknownOption {
            key: key.to_owned(),
            scheme: scheme.name(),
            nearest: nearest(key, canonical).or_else(|| nearest(key, aliases)),
        }
    })
}

/// How often and how long a request is repeated (U6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryConfig {
    /// Attempts of one request, the first included.
    pub attempts: u32,
    /// The first pause; each next one is up to twice as long.
    pub first_pause: Duration,
    /// The longest pause.
    pub longest_pause: Duration,
    /// How long reads and lists are repeated; writes bring a deadline of their own.
    pub read_deadline: Duration,
}

impl Default for RetryConfig {
    fn default() -> Self {
        Self {
            attempts: 3,
            first_pause: Duration::from_millis(100),
            longest_pause: Duration::from_secs(5),
            read_deadline: Duration::from_secs(60),
        }
    }
}

/// How many requests are in flight at once; adapts between the two (U6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitConfig {
    /// Never fewer than this.
    pub fewest: u32,
    /// Where it begins.
    pub start: u32,
    /// Never more than this.
    pub most: u32,
}

impl Default for LimitConfig {
    fn default() -> Self {
        Self {
            fewest: 2,
            start: 64,
            most: 256,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arustio_types::meta::mount::MountSpec;

    #[test]
    fn options_that_lead_to_no_other_store_are_known_and_plain() {
        for key in MountSpec::SAME_BYTES {
            let spec = find(Scheme::S3, key).unwrap();
            assert!(spec.key == key && !spec.secret, "{key}");
        }
    }

    #[test]
    fn options_are_read_under_every_name_and_split() {
        let options = UfsOptions::parse(
            Scheme::S3,
            [
                ("s3a.accessKeyId", "AKIA"),
                ("fs.s3a.secret.key", "hush"),
                ("alluxio.underfs.s3.endpoint", "http://minio:9000"),
                ("fs.s3a.path.style.access", "true"),
            ],
        )
        .unwrap();
        assert_eq!(options.get("endpoint"), Some("http://minio:9000"));
        assert_eq!(options.flag("path_style"), Ok(Some(true)));
        assert_eq!(options.secret("secret_access_key"), Some("hush"));
        assert!(options.get("access_key_id").is_none());
        let shown = format!("{options:?}");
        assert!(
            !shown.contains("hush") && !shown.contains("AKIA"),
            "{shown}"
        );

        let pairs = options.plain.iter().chain(options.secret.reveal());
        let pairs = pairs.map(|(key, value)| (key.as_str(), value.as_str()));
        assert_eq!(UfsOptions::parse(Scheme::S3, pairs), Ok(options.clone()));
    }

    #[test]
    fn unknown_options_name_the_nearest() {
        let error = UfsOptions::parse(Scheme::S3, [("acess_key_id", "x")]).unwrap_err();
        assert!(
            error.to_string().contains("did you mean \"access_key_id\""),
            "{error}"
        );
        let error = UfsOptions::parse(Scheme::Mem, [("endpoint", "x")]).unwrap_err();
        assert_eq!(error.to_string(), "unknown option \"endpoint\" for mem://");
    }

    #[test]
    fn the_same_option_under_two_names_must_agree() {
        let given = [("region", "eu"), ("aws_region", "us")];
        let error = UfsOptions::parse(Scheme::S3, given).unwrap_err();
        assert_eq!(error, ConfigError::Contradiction { key: "region" });
    }
}
