//! The verbs, one file per group.
//!
//! Each is a function from a connection and arguments to output and an exit code;
//! none of them knows how the connection came about.

pub(crate) mod admin;
mod attributes;
pub(crate) mod bench;
mod bytes;
mod cached;
mod conf;
mod copy;
mod find;
mod load;
mod location;
mod mounts;
mod names;
mod sync;
mod usage;

use arustio_client::FsError;

use crate::args::{FsCommand, Global};
use crate::connect::Connection;
use crate::output::Output;

/// `arustio fs ...`
pub(crate) async fn fs(
    connection: &Connection,
    global: &Global,
    verb: FsCommand,
) -> Result<u8, FsError> {
    let fs = connection.fs();
    let mut out = Output::new(global.json);
    let done = match verb {
        FsCommand::Mount(args) => mounts::mount(fs, &mut out, args).await,
        FsCommand::UpdateMount(args) => mounts::update(fs, &mut out, args).await,
        FsCommand::Unmount { force, path } => mounts::unmount(fs, &mut out, &path, force).await,
        FsCommand::List { v, path: None } => mounts::list(fs, &mut out, v).await,
        FsCommand::List {
            v,
            path: Some(path),
        } => names::list(fs, &mut out, &path, v).await,
        FsCommand::Ls(args) => names::ls(fs, &mut out, args).await,
        FsCommand::Stat { stale_ok, paths } => names::stat(fs, &mut out, &paths, stale_ok).await,
        FsCommand::Load(args) => load::load(fs, &mut out, global, args).await,
        FsCommand::Free { paths } => names::free(fs, &mut out, &paths).await,
        FsCommand::Mkdir { parents, paths } => names::mkdir(fs, &paths, parents).await,
        FsCommand::Touch { paths } => names::touch(fs, &paths).await,
        FsCommand::Chmod {
            recursive,
            mode,
            paths,
        } => attributes::chmod(fs, &paths, &mode, recursive).await,
        FsCommand::Chown {
            recursive,
            owner,
            paths,
        } => attributes::chown(fs, &paths, &owner, recursive).await,
        FsCommand::Chgrp {
            recursive,
            group,
            paths,
        } => attributes::chgrp(fs, &paths, group, recursive).await,
        FsCommand::Find { path, name } => find::find(fs, &mut out, &path, name.as_deref()).await,
        FsCommand::Test {
            d,
            f,
            e: _,
            z,
            path,
        } => names::test(fs, &path, d, f, z).await,
        FsCommand::Mv { force, from, to } => names::mv(fs, &from, &to, force).await,
        FsCommand::Rm {
            recursive,
            arustio_only,
            paths,
        } => names::rm(fs, &paths, recursive, arustio_only).await,
        FsCommand::Du {
            summary,
            human,
            no_cached,
            stale_ok,
            paths,
            ..
        } => {
            let look = usage::DiskUse {
                summary,
                human,
                cached: !no_cached,
                stale_ok,
            };
            usage::du(fs, &mut out, &paths, look).await
        }
        FsCommand::Count { stale_ok, paths } => usage::count(fs, &mut out, &paths, stale_ok).await,
        FsCommand::Cat { v, paths } => bytes::cat(fs, &mut out, &paths, v).await,
        FsCommand::Head { bytes, path } => bytes::head(fs, &mut out, &path, &bytes).await,
        FsCommand::Tail { bytes, path } => bytes::tail(fs, &mut out, &path, &bytes).await,
        FsCommand::Checksum { paths } => bytes::checksum(fs, &mut out, &paths).await,
        FsCommand::Location { blocks, paths } => {
            location::location(fs, &mut out, &paths, blocks).await
        }
        FsCommand::Cp(args) => copy::inside(fs, &mut out, global, args).await,
        FsCommand::CopyFromLocal(args) => copy::from_local(fs, &mut out, global, args).await,
        FsCommand::CopyToLocal(args) => copy::to_local(fs, &mut out, global, args).await,
        FsCommand::SetConf {
            unset,
            path,
            values,
        } => conf::set(fs, &path, &values, &unset).await,
        FsCommand::GetConf { path, key } => conf::get(fs, &mut out, &path, key.as_deref()).await,
        FsCommand::Sync {
            recursive,
            report,
            path,
        } => sync::sync(fs, &mut out, &path, recursive, report).await,
        FsCommand::Pending => sync::pending(fs, &mut out).await,
    };
    // What was found before an error is shown before the error.
    let flushed = out.flush();
    let code = done?;
    flushed.map(|()| code)
}
