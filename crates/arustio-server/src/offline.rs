//! `arustio-server metadata ...`: the metadata of a server that is stopped.
//!
//! The folder is held as by a server, so that none runs meanwhile. Results go to stdout; a
//! backup is written under a temporary name, synced and renamed.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use arustio_meta::backup::{self, BackupError, Restored, Summary};
use arustio_meta::consensus::committed;
use arustio_meta::engine::{EngineKind, Family, KvEngine};
use arustio_meta::inspect::{self, Verified};
use arustio_meta::{FatalError, MemberIdentity};
use arustio_types::{ByteSize, ClusterId, Incarnation, NodeId, SystemClock, WallClock as _};

use crate::args::MetadataCommand;
use crate::data_dir::{DataDir, RestoreDir, random, write_whole};
use crate::error::ServerError;
use crate::run::say;

/// Does it.
pub(crate) fn run(verb: &MetadataCommand, data: &Path) -> Result<ExitCode, ServerError> {
    match verb {
        MetadataCommand::Backup { file } => back_up(data, file),
        MetadataCommand::Restore { file } => restore(data, file),
        MetadataCommand::Verify => verify(data),
        MetadataCommand::Dump { family } => dump(data, family),
    }
}

/// The metadata of a folder, held.
struct Stopped {
    log: Arc<dyn KvEngine>,
    state: Arc<dyn KvEngine>,
    _data: DataDir,
}

impl Stopped {
    fn open(path: &Path) -> Result<Self, ServerError> {
        if !path.join("meta").join("state").is_dir() {
            return Err(ServerError::DataFile {
                path: path.to_owned(),
                reason: "holds no metadata: name the data folder of a metadata server with \
                         --data-dir"
                    .to_owned(),
            });
        }
        let data = DataDir::open(path)?;
        Ok(Self {
            log: open_engine(EngineKind::Log, &data.log())?,
            state: open_engine(EngineKind::State, &data.state())?,
            _data: data,
        })
    }

    /// What was committed is in the state, as far as this server knows.
    fn is_complete(&self) -> Result<bool, ServerError> {
        let commit = committed(&*self.log).map_err(fatal)?;
        Ok(inspect::applied(&*self.state)?.position.index >= commit)
    }
}

#[cfg(feature = "rocksdb")]
fn open_engine(kind: EngineKind, path: &Path) -> Result<Arc<dyn KvEngine>, ServerError> {
    use arustio_meta::engine::{RocksConfig, RocksEngine};
    let config = RocksConfig::default_for(kind);
    Ok(Arc::new(RocksEngine::open(kind, path, config)?))
}

#[cfg(not(feature = "rocksdb"))]
fn open_engine(_: EngineKind, path: &Path) -> Result<Arc<dyn KvEngine>, ServerError> {
    Err(ServerError::DataFile {
        path: path.to_owned(),
        reason: "this build keeps metadata in memory only: use one with the feature rocksdb"
            .to_owned(),
    })
}

fn fatal(error: FatalError) -> ServerError {
    ServerError::Metadata(Arc::new(error))
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ServerError {
    let path = path.to_owned();
    move |source| ServerError::Io {
        action,
        path,
        source,
    }
}

fn backup_error(path: &Path) -> impl FnOnce(BackupError) -> ServerError {
    let path = path.to_owned();
    move |source| ServerError::Backup { path, source }
}

fn back_up(data: &Path, file: &Path) -> Result<ExitCode, ServerError> {
    if file.exists() {
        let exists = io::Error::from(io::ErrorKind::AlreadyExists);
        return Err(io_error("write over the file", file)(exists));
    }
    let stopped = Stopped::open(data)?;
    if !stopped.is_complete()? {
        return Err(ServerError::DataFile {
            path: data.to_owned(),
            reason: "committed entries are not applied yet: start the server once, stop it, and \
                     make the backup then"
                .to_owned(),
        });
    }
    let summary = write_file(&*stopped.state, file)?;
    say(&format!("{}\n", told(&summary, file)))?;
    Ok(ExitCode::SUCCESS)
}

fn write_file(state: &dyn KvEngine, file: &Path) -> Result<Summary, ServerError> {
    write_whole(file, 0o666, |out| {
        backup::write(state, out, SystemClock.now()).map_err(backup_error(file))
    })
}

fn told(summary: &Summary, file: &Path) -> String {
    let header = &summary.header;
    format!(
        "{}: cluster {} at entry {}, {} records, {}",
        file.display(),
        header.cluster,
        header.applied.position.index,
        summary.records,
        ByteSize(summary.bytes).human()
    )
}

fn restore(data: &Path, file: &Path) -> Result<ExitCode, ServerError> {
    let open = || File::open(file).map_err(io_error("open", file));
    // Read to its end once before anything is made of it.
    let mut whole = BufReader::new(open()?);
    backup::check(&mut whole).map_err(backup_error(file))?;
    let dir = RestoreDir::take(data)?;
    let path = dir.path().to_owned();
    let identity = MemberIdentity {
        cluster: ClusterId::default(),
        incarnation: Incarnation::new(u64::from_le_bytes(random()?)),
        member: NodeId::new(1),
    };
    let restored = {
        let log = open_engine(EngineKind::Log, &dir.engine("log"))?;
        let state = open_engine(EngineKind::State, &dir.engine("state"))?;
        let mut from = BufReader::new(open()?);
        backup::restore(&mut from, &*log, &*state, identity).map_err(backup_error(file))?
    };
    let cluster = restored.summary.header.cluster;
    dir.found(cluster, identity.incarnation, identity.member)?;
    say(&advice(&restored, file, &path))?;
    Ok(ExitCode::SUCCESS)
}

fn advice(restored: &Restored, file: &Path, data: &Path) -> String {
    let mut text = format!(
        "restored {}\ninto {}, as member 1 of a new life of the cluster\nstart it with: \
         arustio-server --data-dir {}\n",
        told(&restored.summary, file),
        data.display(),
        data.display()
    );
    for path in &restored.without_credential {
        text.push_str(&format!(
            "credentials are not part of a backup; give them again: arustio fs update-mount \
             {path} -o KEY=VALUE\n"
        ));
    }
    if !restored.verified.is_sound() {
        text.push_str("the restored state is not sound, as it was when the backup was made:\n");
        text.push_str(&problems(&restored.verified));
    }
    text
}

fn problems(found: &Verified) -> String {
    let mut text: String = found
        .problems
        .iter()
        .map(|one| format!("{one}\n"))
        .collect();
    if found.more_problems > 0 {
        text.push_str(&format!("and {} more\n", found.more_problems));
    }
    text
}

fn verify(data: &Path) -> Result<ExitCode, ServerError> {
    let stopped = Stopped::open(data)?;
    let found = inspect::verify(&*stopped.state)?;
    let counted = format!(
        "{} inodes, {} names, {} mounts, {} intents, {} effects, {} sessions, {} block nodes",
        found.inodes,
        found.names,
        found.mounts,
        found.intents,
        found.effects,
        found.sessions,
        found.nodes
    );
    if found.is_sound() {
        say(&format!("sound: {counted}\n"))?;
        return Ok(ExitCode::SUCCESS);
    }
    say(&format!("{}not sound: {counted}\n", problems(&found)))?;
    Ok(ExitCode::from(1))
}

fn dump(data: &Path, names: &[String]) -> Result<ExitCode, ServerError> {
    let all = EngineKind::State.families();
    let mut families = Vec::new();
    for name in names {
        let family = Family::from_name(name).filter(|family| all.contains(family));
        families.push(family.ok_or_else(|| ServerError::Setting {
            setting: "--family".to_owned(),
            reason: format!(
                "there is no family {name:?}; known are {}",
                all.iter().map(|one| one.name()).collect::<Vec<_>>().join(", ")
            ),
        })?);
    }
    let families = if families.is_empty() { all } else { &families };
    let stopped = Stopped::open(data)?;
    let mut out = BufWriter::new(io::stdout().lock());
    inspect::dump(&*stopped.state, families, &mut out)?;
    let flushed = out.flush();
    flushed.map_err(io_error("write to", Path::new("standard output")))?;
    Ok(ExitCode::SUCCESS)
}
