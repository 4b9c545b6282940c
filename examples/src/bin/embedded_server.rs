//! A whole server inside a program: what a test of yours can run against.
//!
//! Ports are free ones of loopback, metadata is in memory, and the store lives in the
//! process too: two such tests never meet.

use anyhow::{Result, ensure};
use arustio_client::{
    CreateOptions, DeleteOptions, FileSystem, FsPath, MountRequest, OpenOptions, RenameOptions,
};
use arustio_server::compose::{Engine, Server};
use arustio_server::config::ServerConfig;
use bytes::Bytes;

#[tokio::main]
async fn main() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let config = ServerConfig::ephemeral(folder.path()).validate()?;
    let server = Server::start(config, Engine::Memory).await?;
    println!("{}", server.ready_line());

    let fs = arustio_client::connect(&server.addresses().grpc.to_string()).await?;
    let mount = FsPath::new("/data")?;
    fs.mount(MountRequest::new(mount.clone(), "mem://test".to_owned()))
        .await?;

    let (draft, done) = (mount.join("draft")?, mount.join("done")?);
    let mut writer = fs.create(&draft, CreateOptions::default()).await?;
    writer.write(Bytes::from_static(b"content")).await?;
    writer.commit().await?;
    fs.rename(&draft, &done, RenameOptions::default()).await?;
    let reader = fs.open(&done, OpenOptions::default()).await?;
    ensure!(reader.read_at(0, 100).await? == "content", "other bytes");
    fs.delete(&done, DeleteOptions::default()).await?;

    // In this order: the client says good-bye while somebody listens.
    fs.close().await?;
    server.stop().await;
    println!("stopped");
    Ok(())
}
