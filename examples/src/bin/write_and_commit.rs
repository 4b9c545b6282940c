//! Write a file: it appears whole when it is committed, or not at all.

use anyhow::{Result, bail, ensure};
use arustio_client::{
    CreateOptions, ErrorKind, FileSystem, FsPath, MountRequest, OpenOptions, SequentialReader,
    SequentialWriter, StatOptions,
};
use arustio_examples::Stage;
use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

#[tokio::main]
async fn main() -> Result<()> {
    let stage = Stage::start().await?;
    let fs = stage.connect().await?;
    let mount = FsPath::new(&format!("/example-{}", std::process::id()))?;
    let uri = stage.directory("store")?;
    fs.mount(MountRequest::new(mount.clone(), uri)).await?;
    let path = mount.join("greeting")?;

    // Nobody sees it while it is being written.
    let mut writer = fs.create(&path, CreateOptions::default()).await?;
    writer.write(Bytes::from_static(b"hello, ")).await?;
    match fs.stat(&path, StatOptions::default()).await {
        Err(error) if error.kind() == ErrorKind::NotFound => println!("not there yet"),
        other => bail!("it was seen too early: {other:?}"),
    }
    writer.write(Bytes::from_static(b"world\n")).await?;
    let committed = writer.commit().await?;
    println!("{} bytes at {path}", committed.stats.bytes);

    // A name that is taken is refused; replacing is asked for, and then it is a
    // replacement of the version that was there, never of one that came meanwhile.
    match fs.create(&path, CreateOptions::default()).await {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => println!("{error}"),
        other => bail!("it was created twice: {other:?}"),
    }
    let replace = CreateOptions {
        overwrite: true,
        ..CreateOptions::default()
    };
    // The same as tokio's AsyncWrite and AsyncRead, for whatever copies between those.
    let mut writer = SequentialWriter::new(fs.create(&path, replace.clone()).await?);
    writer.write_all(b"good bye\n").await?;
    writer.commit().await?;
    let reader = fs.open(&path, OpenOptions::default()).await?;
    let mut text = String::new();
    SequentialReader::new(reader.into())
        .read_to_string(&mut text)
        .await?;
    ensure!(text == "good bye\n", "read {text:?}");

    // Giving up leaves what was there.
    let mut writer = fs.create(&path, replace).await?;
    writer.write(Bytes::from_static(b"never seen")).await?;
    writer.abort().await?;
    let status = fs.stat(&path, StatOptions::default()).await?;
    println!("still {} bytes", status.size);

    fs.unmount(&mount, false).await?;
    fs.close().await?;
    stage.stop().await;
    Ok(())
}
