//! From a URI to an open store.
//!
//! A [`UfsProvider`] serves the URIs of one family; a [`UfsRegistry`] is a value that a
//! root builds and hands down, nothing global. What it opens is wrapped in the layers
//! of this crate, so that callers never loop.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arustio_types::meta::mount::MountCapabilities;
use arustio_types::{SystemClock, WallClock};
use parking_lot::Mutex;

use crate::config::{LimitConfig, RetryConfig, UfsOptions};
use crate::error::{ConfigError, Result};
use crate::layer::{Limit, Metered, Retry, Rooted, UfsMetrics};
use crate::local::LocalProvider;
use crate::memory::{MemoryStore, MemoryUfs};
use crate::ufs::UnderFileSystem;
use crate::uri::{Scheme, UfsUri};

/// Opens the stores of one family.
///
/// # Contract
/// Called from any thread. `open` checks options and builds clients; it makes no request
/// and does not block on the network, so that a dead endpoint is found by the first
/// request, which has a deadline. The store it gives is rooted at the URI's authority:
/// the caller applies the prefix.
pub trait UfsProvider: Send + Sync + fmt::Debug {
    /// The families it serves.
    fn schemes(&self) -> &[Scheme];

    /// Opens a store.
    fn open(&self, request: &OpenRequest) -> Result<Arc<dyn UnderFileSystem>>;
}

/// What to open.
#[derive(Debug, Clone)]
pub struct OpenRequest {
    /// Where.
    pub uri: UfsUri,
    /// How, checked.
    pub options: UfsOptions,
    /// What the mount recorded of the store (U7).
    pub measured: Option<MountCapabilities>,
    /// Where the provider chain looks when no credential is given (C2).
    pub environment: Environment,
}

impl OpenRequest {
    /// Checks a URI and options as people type them.
    pub fn parse<'a>(
        uri: &str,
        options: impl IntoIterator<Item = (&'a str, &'a str)>,
        environment: Environment,
    ) -> Result<Self, ConfigError> {
        let uri = UfsUri::parse(uri)?;
        let options = UfsOptions::parse(uri.scheme(), options)?;
        Ok(Self {
            uri,
            options,
            measured: None,
            environment,
        })
    }
}

/// Variables of the process, read by a root and handed down. Shows no value.
#[derive(Clone, Default)]
pub struct Environment(Arc<BTreeMap<String, String>>);

impl Environment {
    /// Takes variables, usually `std::env::vars()`.
    pub fn from_vars(vars: impl IntoIterator<Item = (String, String)>) -> Self {
        Self(Arc::new(vars.into_iter().collect()))
    }

    /// The value of a variable; an empty one counts as absent.
    pub fn get(&self, name: &str) -> Option<&str> {
        let value = self.0.get(name).map(String::as_str);
        value.filter(|value| !value.is_empty())
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Environment({} variables)", self.0.len())
    }
}

/// An open store, with its layers, and what it has done so far.
#[derive(Debug, Clone)]
pub struct Opened {
    /// The store, rooted at the URI.
    pub ufs: Arc<dyn UnderFileSystem>,
    /// Requests and bytes, counted below the retries.
    pub metrics: Arc<UfsMetrics>,
}

/// Providers by family, and the settings of the layers.
#[derive(Debug)]
pub struct UfsRegistry {
    providers: BTreeMap<Scheme, Arc<dyn UfsProvider>>,
    retry: RetryConfig,
    limit: LimitConfig,
    seed: u64,
}

impl UfsRegistry {
    /// A registry without providers. `seed` feeds the jitter of retries.
    pub fn new(seed: u64) -> Self {
        Self {
            providers: BTreeMap::new(),
            retry: RetryConfig::default(),
            limit: LimitConfig::default(),
            seed,
        }
    }

    /// Everything that this build can open. `seed` is random: it feeds the jitter of
    /// retries and the generation of memory stores.
    pub fn with_all(seed: u64) -> Self {
        let clock: Arc<dyn WallClock> = Arc::new(SystemClock);
        let memory = Arc::new(MemoryProvider::new(seed, Arc::clone(&clock)));
        let local = Arc::new(LocalProvider::new(clock));
        let registry = Self::new(seed).with(memory).with(local);
        #[cfg(feature = "s3")]
        let registry = registry.with(Arc::new(crate::object::S3Provider));
        registry
    }

    /// Adds a provider for its families.
    #[must_use]
    pub fn with(mut self, provider: Arc<dyn UfsProvider>) -> Self {
        for scheme in provider.schemes() {
            self.providers.insert(*scheme, Arc::clone(&provider));
        }
        self
    }

    /// Other settings of the retry layer.
    #[must_use]
    pub fn with_retry(mut self, retry: RetryConfig) -> Self {
        self.retry = retry;
        self
    }

    /// Other settings of the limit layer.
    #[must_use]
    pub fn with_limit(mut self, limit: LimitConfig) -> Self {
        self.limit = limit;
        self
    }

    /// Refuses a URI of a family that this build cannot open, before its options are read:
    /// they would all be unknown.
    pub fn check(&self, uri: &str) -> Result<(), ConfigError> {
        self.provider(UfsUri::parse(uri)?.scheme()).map(|_| ())
    }

    fn provider(&self, scheme: Scheme) -> Result<&Arc<dyn UfsProvider>, ConfigError> {
        self.providers.get(&scheme).ok_or_else(|| {
            let known = self.providers.keys();
            let known: Vec<_> = known.map(|known| format!("{}://", known.name())).collect();
            ConfigError::NotInBuild {
                scheme: scheme.name(),
                known: known.join(", "),
            }
        })
    }

    /// Opens a store in its layers: rooted, retried, limited, metered.
    pub fn open(&self, request: &OpenRequest) -> Result<Opened> {
        let scheme = request.uri.scheme();
        let provider = self.provider(scheme)?;
        let store = provider.open(request)?;
        let metrics = Arc::new(UfsMetrics::default());
        let metered = Arc::new(Metered::new(store, Arc::clone(&metrics)));
        let limited = Arc::new(Limit::new(metered, self.limit));
        let retried = Arc::new(Retry::new(limited, self.retry, self.seed));
        let prefix = match scheme {
            Scheme::File => String::new(),
            Scheme::S3 | Scheme::Gcs | Scheme::Azure | Scheme::Mem => request.uri.key_prefix(),
        };
        let ufs = Rooted::wrap(retried, &prefix);
        Ok(Opened { ufs, metrics })
    }
}

/// `mem://`: stores in the memory of this process, by name, as long as this lives.
#[derive(Debug)]
pub struct MemoryProvider {
    seed: u64,
    clock: Arc<dyn WallClock>,
    stores: Mutex<BTreeMap<String, Arc<MemoryStore>>>,
}

impl MemoryProvider {
    /// A provider whose stores have identities of their own by `seed`.
    pub fn new(seed: u64, clock: Arc<dyn WallClock>) -> Self {
        Self {
            seed,
            clock,
            stores: Mutex::default(),
        }
    }

    /// The store of a name, made when it is first asked for.
    pub fn store(&self, name: &str) -> Arc<MemoryStore> {
        let mut stores = self.stores.lock();
        let generation = self.seed.wrapping_add(stores.len() as u64);
        let made = || MemoryStore::new(generation, Arc::clone(&self.clock));
        let store = stores.entry(name.to_owned()).or_insert_with(made);
        Arc::clone(store)
    }
}

impl UfsProvider for MemoryProvider {
    fn schemes(&self) -> &[Scheme] {
        &[Scheme::Mem]
    }

    fn open(&self, request: &OpenRequest) -> Result<Arc<dyn UnderFileSystem>> {
        let name = request.uri.authority();
        Ok(Arc::new(MemoryUfs::new(name, self.store(name))))
    }
}
