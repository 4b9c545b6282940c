//! Making a client: settings and components in, a [`FileSystem`](crate::FileSystem) out.

use std::fmt;
use std::sync::Arc;

use arustio_types::ErrorKind;
use arustio_types::meta::command::Principal;

use crate::config::ClientConfig;
use crate::error::{FsError, Result};
use crate::filesystem::ArustioFileSystem;

/// Told in one line what an operation waits for, so that a command can say it.
pub type Notice = Arc<dyn Fn(&str) + Send + Sync>;

/// Connects to the metadata service at `host:port`, with defaults for everything else.
///
/// # Errors
/// `Unavailable` within a few seconds when nobody answers there.
pub async fn connect(address: &str) -> Result<ArustioFileSystem> {
    Builder::new().addresses([address]).connect().await
}

/// Settings and components of a client.
pub struct Builder {
    config: ClientConfig,
    principal: Principal,
    notice: Notice,
}

impl Builder {
    /// Defaults.
    pub fn new() -> Self {
        Self {
            config: ClientConfig::default(),
            principal: Principal::default(),
            notice: Arc::new(|line| tracing::info!("{line}")),
        }
    }

    /// All settings.
    #[must_use]
    pub fn config(mut self, config: ClientConfig) -> Self {
        self.config = config;
        self
    }

    /// Metadata servers, `host:port` each.
    #[must_use]
    pub fn addresses<A: Into<String>>(mut self, addresses: impl IntoIterator<Item = A>) -> Self {
        self.config.addresses = addresses.into_iter().map(Into::into).collect();
        self
    }

    /// Who asks.
    #[must_use]
    pub fn principal(mut self, principal: Principal) -> Self {
        self.principal = principal;
        self
    }

    /// Where waits are announced; a log line unless set.
    #[must_use]
    pub fn notice(mut self, notice: Notice) -> Self {
        self.notice = notice;
        self
    }

    /// Connects and makes the client.
    ///
    /// # Errors
    /// `InvalidArgument` for settings that contradict each other, `Unavailable` within
    /// a few seconds when no metadata server answers.
    pub async fn connect(self) -> Result<ArustioFileSystem> {
        let _ = (self.config.validate()?, self.principal, self.notice);
        Err(FsError::new(ErrorKind::Unsupported, "not connected yet"))
    }
}

impl Default for Builder {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}
