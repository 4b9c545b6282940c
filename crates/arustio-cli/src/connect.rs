//! The connection of one run: the client, and its end.

use std::sync::Arc;

use arustio_client::{ArustioFileSystem, Builder, ClientConfig, FileSystem, FsError};
use arustio_types::meta::command::Principal;

use crate::args::Global;
use crate::config;

/// A client of the metadata servers that this run speaks to.
#[derive(Debug)]
pub(crate) struct Connection {
    fs: ArustioFileSystem,
    config: ClientConfig,
    verbose: bool,
}

impl Connection {
    /// Connects as the settings say.
    pub(crate) async fn open(global: &Global) -> Result<Self, FsError> {
        let config = config::load(global)?;
        let fs = connect(config.clone(), global.quiet).await?;
        Ok(Self {
            fs,
            config,
            verbose: global.verbose,
        })
    }

    /// The file system.
    pub(crate) fn fs(&self) -> &dyn FileSystem {
        &self.fs
    }

    /// The settings.
    pub(crate) fn config(&self) -> &ClientConfig {
        &self.config
    }

    /// Another client of the same servers, with other settings.
    pub(crate) async fn another(
        &self,
        change: impl FnOnce(&mut ClientConfig),
    ) -> Result<ArustioFileSystem, FsError> {
        let mut config = self.config.clone();
        change(&mut config);
        connect(config, true).await
    }

    /// Ends background work in order.
    pub(crate) async fn close(&self) -> Result<(), FsError> {
        let closed = self.fs.close().await;
        if self.verbose {
            let repeats = self.fs.metadata_repeats();
            eprintln!("requests to metadata servers that were repeated: {repeats}");
        }
        closed
    }
}

async fn connect(config: ClientConfig, quiet: bool) -> Result<ArustioFileSystem, FsError> {
    let mut builder = Builder::new()
        .of_this_process()
        .config(config)
        .principal(principal());
    if !quiet {
        builder = builder.notice(Arc::new(|line| eprintln!("{line}")));
    }
    builder.connect().await
}

/// Who runs the command, as the environment names them.
fn principal() -> Principal {
    let user = std::env::var("USER").or_else(|_| std::env::var("LOGNAME"));
    Principal {
        user: user.unwrap_or_default(),
        groups: Vec::new(),
    }
}
