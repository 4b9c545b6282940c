//! What an S3 mount is configured to be: options, then environment, then defaults.

use std::path::{Path, PathBuf};

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::config::UfsOptions;
use crate::error::ConfigError;
use crate::registry::{Environment, OpenRequest};

/// Where a bucket is when nobody says so.
const DEFAULT_REGION: &str = "us-east-1";

/// A checked configuration. Shows no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct S3Settings {
    pub(super) bucket: String,
    pub(super) region: String,
    /// Scheme, host and port, without the bucket.
    pub(super) endpoint: String,
    /// The endpoint is not Amazon's.
    pub(super) foreign: bool,
    pub(super) path_style: bool,
    pub(super) allow_http: bool,
    pub(super) request_payer: bool,
    pub(super) conditional_put: bool,
    pub(super) sse: Option<String>,
    pub(super) sse_kms_key_id: Option<String>,
    pub(super) keys: Option<Keys>,
}

/// A key pair. Shows nothing.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Keys {
    pub(super) access_key_id: String,
    pub(super) secret_access_key: String,
    pub(super) session_token: Option<String>,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys(set)")
    }
}

impl S3Settings {
    /// Checks what a mount asks for.
    pub(super) fn new(request: &OpenRequest) -> Result<Self, ConfigError> {
        let (options, environment) = (&request.options, &request.environment);
        let bucket = request.uri.authority().to_owned();
        let profile = Profile::read(options, environment);
        let given = options.get("endpoint");
        let from_environment = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"];
        let from_environment = from_environment
            .iter()
            .find_map(|name| environment.get(name));
        let endpoint = given.or(from_environment);
        let region = options.get("region");
        let region = region.or_else(|| environment.get("AWS_REGION"));
        let region = region.or_else(|| environment.get("AWS_DEFAULT_REGION"));
        let region = region
            .or(profile.region.as_deref())
            .unwrap_or(DEFAULT_REGION)
            .to_owned();
        let foreign = endpoint.is_some_and(|endpoint| !endpoint.contains(".amazonaws.com"));
        let endpoint = match endpoint {
            Some(endpoint) => checked_endpoint(endpoint)?,
            None => format!("https://s3.{region}.amazonaws.com"),
        };
        let settings = Self {
            path_style: options
                .flag("path_style")?
                .unwrap_or(foreign || bucket.contains('.')),
            allow_http: options.flag("allow_http")?.unwrap_or(true),
            request_payer: options.flag("request_payer")?.unwrap_or(false),
            conditional_put: conditional_put(options)?,
            sse: options.get("sse").map(str::to_owned),
            sse_kms_key_id: options.get("sse_kms_key_id").map(str::to_owned),
            keys: Keys::find(options, environment, &profile)?,
            bucket,
            region,
            endpoint,
            foreign,
        };
        if settings.endpoint.starts_with("http://") && !settings.allow_http {
            return Err(ConfigError::InvalidOption {
                key: "allow_http",
                reason: "it is off, and the endpoint is http://".to_owned(),
            });
        }
        Ok(settings)
    }

    /// The URL that a key is appended to.
    pub(super) fn bucket_url(&self) -> String {
        if self.path_style {
            return format!("{}/{}", self.endpoint, self.bucket);
        }
        self.endpoint
            .replacen("://", &format!("://{}.", self.bucket), 1)
    }

    /// Host and port that requests go to.
    pub(super) fn authority(&self) -> String {
        let url = self.bucket_url();
        let rest = url.split_once("://").map_or(url.as_str(), |(_, rest)| rest);
        rest.split('/').next().unwrap_or_default().to_owned()
    }

    /// Headers of every request that makes an object.
    pub(super) fn encryption_headers(&self) -> HeaderMap {
        let key_id = self.sse_kms_key_id.as_deref();
        let sse = self.sse.as_deref().or(key_id.map(|_| "aws:kms"));
        let pairs = [
            ("x-amz-server-side-encryption", sse),
            ("x-amz-server-side-encryption-aws-kms-key-id", key_id),
        ];
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            if let Some(Ok(value)) = value.map(HeaderValue::from_str) {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
        headers
    }
}

fn checked_endpoint(endpoint: &str) -> Result<String, ConfigError> {
    let refuse = |reason: &str| {
        Err(ConfigError::InvalidOption {
            key: "endpoint",
            reason: reason.to_owned(),
        })
    };
    let with_scheme = match endpoint.contains("://") {
        true => endpoint.to_owned(),
        false => format!("https://{endpoint}"),
    };
    let Ok(uri) = with_scheme.parse::<http::Uri>() else {
        return refuse("it is not a URL such as http://minio:9000");
    };
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return refuse("it must begin with http:// or https://");
    }
    match uri.authority() {
        Some(authority) if authority.as_str().contains('@') => {
            refuse("credentials do not belong into a URL; give them as options")
        }
        Some(_) if uri.path() == "/" && uri.query().is_none() => {
            Ok(with_scheme.trim_end_matches('/').to_owned())
        }
        Some(_) => refuse("give scheme, host and port only; the bucket stands in the URI"),
        None => refuse("the host is missing"),
    }
}

fn conditional_put(options: &UfsOptions) -> Result<bool, ConfigError> {
    match options.get("conditional_put") {
        Some("etag") => Ok(true),
        Some("disabled") => Ok(false),
        _ => Ok(options.flag("conditional_put")?.unwrap_or(true)),
    }
}

impl Keys {
    fn find(
        options: &UfsOptions,
        environment: &Environment,
        profile: &Profile,
    ) -> Result<Option<Self>, ConfigError> {
        let given = (
            options.secret("access_key_id"),
            options.secret("secret_access_key"),
        );
        match given {
            (Some(id), Some(key)) => {
                return Ok(Some(Self::new(id, key, options.secret("session_token"))));
            }
            (None, None) => {}
            (Some(_), None) => return Err(half("secret_access_key")),
            (None, Some(_)) => return Err(half("access_key_id")),
        }
        let named = options.get("profile").is_some();
        let id = environment.get("AWS_ACCESS_KEY_ID").filter(|_| !named);
        let key = environment.get("AWS_SECRET_ACCESS_KEY");
        if let (Some(id), Some(key)) = (id, key) {
            let token = environment.get("AWS_SESSION_TOKEN");
            return Ok(Some(Self::new(id, key, token)));
        }
        Ok(profile.keys.clone())
    }

    fn new(id: &str, key: &str, token: Option<&str>) -> Self {
        Self {
            access_key_id: id.to_owned(),
            secret_access_key: key.to_owned(),
            session_token: token.map(str::to_owned),
        }
    }
}

fn half(key: &'static str) -> ConfigError {
    ConfigError::InvalidOption {
        key,
        reason: "a key pair needs both halves".to_owned(),
    }
}

/// What the files of the AWS command line say.
#[derive(Debug, Default)]
struct Profile {
    keys: Option<Keys>,
    region: Option<String>,
}

impl Profile {
    fn read(options: &UfsOptions, environment: &Environment) -> Self {
        let name = options
            .get("profile")
            .or_else(|| environment.get("AWS_PROFILE"));
        let name = name.unwrap_or("default");
        let home = environment.get("HOME").map(PathBuf::from);
        let file = |variable: &str, default: &str| {
            let given = environment.get(variable).map(PathBuf::from);
            given.or_else(|| Some(home.as_ref()?.join(default)))
        };
        let credentials = file("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials");
        let config = file("AWS_CONFIG_FILE", ".aws/config");
        let mut profile = Self::default();
        let section = if name == "default" {
            name.to_owned()
        } else {
            format!("profile {name}")
        };
        for (path, section) in [(config, section.as_str()), (credentials, name)] {
            let Some(text) = path.as_deref().and_then(small_file) else {
                continue;
            };
            profile.merge(&text, section);
        }
        profile
    }

    fn merge(&mut self, text: &str, section: &str) {
        let value = |key| ini_value(text, section, key);
        if let Some(region) = value("region") {
            self.region = Some(region.to_owned());
        }
        if let (Some(id), Some(key)) = (value("aws_access_key_id"), value("aws_secret_access_key"))
        {
            self.keys = Some(Keys::new(id, key, value("aws_session_token")));
        }
    }
}

fn small_file(path: &Path) -> Option<String> {
    const LARGEST: u64 = 1 << 20;
    let size = std::fs::metadata(path).ok()?.len();
    (size <= LARGEST).then(|| std::fs::read_to_string(path).ok())?
}

/// The value of a key in a section of an INI file.
fn ini_value<'a>(text: &'a str, section: &str, key: &str) -> Option<&'a str> {
    let mut inside = false;
    for line in text.lines().map(str::trim) {
        if let Some(name) = line
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
        {
            inside = name.trim() == section;
        } else if let Some((name, value)) = line.split_once('=')
            && inside
            && name.trim() == key
        {
            return Some(value.trim());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(
        options: &[(&str, &str)],
        vars: &[(&str, &str)],
    ) -> Result<S3Settings, ConfigError> {
        let vars = vars
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let environment = Environment::from_vars(vars);
        let options = options.iter().copied();
        S3Settings::new(&OpenRequest::parse("s3a://bucket/p", options, environment)?)
    }

    #[test]
    fn an_endpoint_means_path_style_and_may_be_http() {
        let found = settings(&[("endpoint", "http://minio:9000/")], &[]).unwrap();
        assert_eq!(found.bucket_url(), "http://minio:9000/bucket");
        assert_eq!(found.authority(), "minio:9000");
        let found = settings(
            &[("endpoint", "http://minio:9000"), ("path_style", "false")],
            &[],
        );
        assert_eq!(found.unwrap().bucket_url(), "http://bucket.minio:9000");
        let found = settings(&[("region", "eu-west-1")], &[]).unwrap();
        assert_eq!(
            found.bucket_url(),
            "https://bucket.s3.eu-west-1.amazonaws.com"
        );
    }

    #[test]
    fn options_win_over_the_environment() {
        let vars = [
            ("AWS_ACCESS_KEY_ID", "env"),
            ("AWS_SECRET_ACCESS_KEY", "env-key"),
        ];
        let keys = settings(&[], &vars).unwrap().keys.unwrap();
        assert_eq!(keys.access_key_id, "env");
        let given = [("access_key_id", "given"), ("secret_access_key", "hush")];
        let found = settings(&given, &vars).unwrap();
        assert_eq!(found.keys.as_ref().unwrap().access_key_id, "given");
        assert!(!format!("{found:?}").contains("hush"));
    }

    #[test]
    fn profiles_are_read_from_the_files_of_the_command_line() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("credentials");
        let text = "[default]\naws_access_key_id = no\n[dev]\naws_access_key_id = AK\n\
                    aws_secret_access_key=SK\nregion = eu-central-1\n";
        std::fs::write(&file, text).unwrap();
        let vars = [("AWS_SHARED_CREDENTIALS_FILE", file.to_str().unwrap())];
        let found = settings(&[("profile", "dev")], &vars).unwrap();
        assert_eq!(found.keys.unwrap().access_key_id, "AK");
        assert_eq!(found.region, "eu-central-1");
    }

    #[test]
    fn settings_that_make_no_sense_are_refused() {
        let error = |options: &[(&str, &str)]| settings(options, &[]).unwrap_err().to_string();
        assert!(error(&[("endpoint", "http://h:1/bucket")]).contains("host and port only"));
        assert!(error(&[("endpoint", "ftp://h")]).contains("http://"));
        assert!(error(&[("access_key_id", "x")]).contains("both halves"));
        assert!(error(&[("path_style", "maybe")]).contains("true or false"));
        let both = [("endpoint", "http://h"), ("allow_http", "false")];
        assert!(error(&both).contains("endpoint is http://"));
    }
}
