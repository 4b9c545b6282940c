//! One small program per use case, in `src/bin`. Each runs as it is:
//! `cargo run -p arustio-examples --bin mount_and_read`.
//!
//! They talk to the server that `ARUSTIO_SERVER` names. Without one they start a server
//! of their own in this process, with everything in a private folder, so that they run
//! anywhere and leave nothing behind. [`Stage`] is that choice, and nothing else.
#![forbid(unsafe_code)]

use anyhow::Result;
use arustio_client::ArustioFileSystem;
use arustio_server::compose::{Engine, Server};
use arustio_server::config::ServerConfig;
use tempfile::TempDir;

/// A folder for an example's files, and a server to talk to.
#[derive(Debug)]
pub struct Stage {
    folder: TempDir,
    server: Option<Server>,
    address: String,
}

impl Stage {
    /// Takes the server that `ARUSTIO_SERVER` names, or starts one.
    pub async fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        if let Ok(address) = std::env::var("ARUSTIO_SERVER") {
            return Ok(Self {
                folder,
                server: None,
                address,
            });
        }
        let config = ServerConfig::ephemeral(folder.path().join("server")).validate()?;
        let server = Server::start(config, Engine::Memory).await?;
        Ok(Self {
            address: server.addresses().grpc.to_string(),
            folder,
            server: Some(server),
        })
    }

    /// Connects a client.
    pub async fn connect(&self) -> Result<ArustioFileSystem> {
        Ok(arustio_client::connect(&self.address).await?)
    }

    /// An empty directory of this machine, as the URI of a store.
    pub fn directory(&self, name: &str) -> Result<String> {
        let path = self.folder.path().join(name);
        std::fs::create_dir(&path)?;
        Ok(format!("file://{}", path.display()))
    }

    /// Stops what was started.
    pub async fn stop(self) {
        if let Some(server) = self.server {
            server.stop().await;
        }
    }
}
