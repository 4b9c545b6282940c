//! Where the metadata lives.

#[cfg(feature = "rocksdb")]
use std::path::PathBuf;
use std::sync::Arc;

use arustio_meta::engine::{EngineKind, KvEngine, MemEngine};

use crate::config::ServerConfig;
use crate::data_dir::DataDir;
use crate::error::ServerError;

/// Where the metadata lives.
#[derive(Debug, Clone)]
pub enum Engine {
    /// In memory, forgotten with the server: for tests.
    Memory,
    /// In engines that the caller keeps, over restarts of the server: for tests.
    Kept {
        /// Raft log, hard state, identity.
        log: Arc<dyn KvEngine>,
        /// Everything that is replicated.
        state: Arc<dyn KvEngine>,
    },
    /// In the data folder.
    #[cfg(feature = "rocksdb")]
    Rocks,
}

impl Engine {
    /// Engines in memory that survive a restart of the server, though not of the process.
    pub fn kept() -> Self {
        Self::Kept {
            log: Arc::new(MemEngine::new(EngineKind::Log)),
            state: Arc::new(MemEngine::new(EngineKind::State)),
        }
    }
}

impl Default for Engine {
    fn default() -> Self {
        #[cfg(feature = "rocksdb")]
        return Self::Rocks;
        #[cfg(not(feature = "rocksdb"))]
        return Self::Memory;
    }
}

/// Which engines to open, and where.
pub(crate) struct Engines {
    engine: Engine,
    #[cfg(feature = "rocksdb")]
    log: PathBuf,
    #[cfg(feature = "rocksdb")]
    state: PathBuf,
    #[cfg(feature = "rocksdb")]
    tuning: crate::config::StateConfig,
}

/// The log engine and the state engine.
pub(crate) type Pair = (Arc<dyn KvEngine>, Arc<dyn KvEngine>);

impl Engines {
    #[cfg_attr(
        not(feature = "rocksdb"),
        expect(unused_variables, reason = "memory needs none")
    )]
    pub(crate) fn of(settings: &ServerConfig, data: &DataDir, engine: Engine) -> Self {
        Self {
            engine,
            #[cfg(feature = "rocksdb")]
            log: data.log(),
            #[cfg(feature = "rocksdb")]
            state: data.state(),
            #[cfg(feature = "rocksdb")]
            tuning: settings.metadata.state.clone(),
        }
    }

    /// Whether what was in them is gone after every start, as expected.
    pub(crate) fn forget(&self) -> bool {
        matches!(self.engine, Engine::Memory)
    }

    pub(crate) fn open(self) -> Result<Pair, ServerError> {
        match self.engine {
            Engine::Memory => Ok((
                Arc::new(MemEngine::new(EngineKind::Log)),
                Arc::new(MemEngine::new(EngineKind::State)),
            )),
            Engine::Kept { log, state } => Ok((log, state)),
            #[cfg(feature = "rocksdb")]
            Engine::Rocks => self.open_rocks(),
        }
    }

    #[cfg(feature = "rocksdb")]
    fn open_rocks(self) -> Result<Pair, ServerError> {
        use arustio_meta::engine::{RocksConfig, RocksEngine};
        let log = RocksConfig::default_for(EngineKind::Log);
        let state = RocksConfig {
            block_cache: self.tuning.block_cache,
            write_buffer: self.tuning.write_buffer,
            ..RocksConfig::default_for(EngineKind::State)
        };
        Ok((
            Arc::new(RocksEngine::open(EngineKind::Log, &self.log, log)?),
            Arc::new(RocksEngine::open(EngineKind::State, &self.state, state)?),
        ))
    }
}
