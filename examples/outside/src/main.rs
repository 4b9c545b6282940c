//! What somebody writes who has only `arustio-client`: connect, mount, write, read.
//!
//! `outside SERVERS FOLDER` mounts a local folder; whatever goes wrong ends it with a message.

use std::error::Error;

use arustio_client::{
    ByteSize, ClientConfig, CreateOptions, DeleteOptions, ErrorKind, FileSystem, FsPath,
    MountRequest, OpenOptions, StatOptions,
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(servers), Some(folder)) = (arguments.next(), arguments.next()) else {
        return Err("usage: outside SERVERS FOLDER".into());
    };
    let fs = arustio_client::connect(&servers).await?;
    let mount = FsPath::new("/outside")?;
    fs.mount(MountRequest::new(mount.clone(), format!("file://{folder}"))).await?;

    let path = mount.join("greeting")?;
    let mut writer = fs.create(&path, CreateOptions::default()).await?;
    writer.write("hello, ".into()).await?;
    writer.write("world".into()).await?;
    let committed = writer.commit().await?;
    println!("wrote {} as {}", ByteSize(committed.status.size), committed.content);

    let reader = fs.open(&path, OpenOptions::default()).await?;
    let read = reader.read_at(7, 100).await?;
    if read != "world" {
        return Err(format!("read {read:?}").into());
    }

    fs.delete(&path, DeleteOptions::default()).await?;
    match fs.stat(&path, StatOptions::default()).await {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        other => return Err(format!("it is still there: {other:?}").into()),
    }
    fs.unmount(&mount, false).await?;
    fs.close().await?;
    println!("all is well; block nodes have {:?} to answer", ClientConfig::default().read.node_timeout);
    Ok(())
}
