//! The data folder: who holds it, whose it is, and where its parts lie.
//!
//! ```text
//! DATA/server.lock    held while a server runs; its process id
//! DATA/node.json      format, instance; cluster, incarnation, member and how it began
//! DATA/cluster.key    seals credentials; mode 0600
//! DATA/meta/log       the log engine
//! DATA/meta/state     the state engine
//! DATA/meta/snapshots copies of the state that are made or arrive; emptied at each start
//! DATA/cache          the block cache
//! ```
//!
//! A folder is minted with its instance, a nonce that names it for ever. Later, once, it is
//! given to a member of a cluster. `node.json` is written before anything that it names
//! exists, so that a crash during the first start leaves a folder that the second start
//! completes; that a log was opened is noted after it, so that a log which is gone later is
//! told from one that never was.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use arustio_meta::MemberIdentity;
use arustio_meta::consensus::MemberInfo;
use arustio_types::{ClusterId, Incarnation, NodeId};
use parking_lot::Mutex;
use rand::TryRngCore as _;
use rand::rngs::OsRng;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::error::ServerError;
use crate::founding::Founding;
use crate::seal::Sealer;

/// The layout of the folder.
const FORMAT: u32 = 1;
/// Where a restore puts its engines together.
const RESTORING: &str = "meta.restoring";
/// Bytes of the cluster key.
const KEY_BYTES: usize = 32;

/// A data folder that this process holds.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    node: Mutex<NodeFile>,
    _lock: File,
}

/// Whose a folder is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Belonging {
    pub(crate) member: NodeId,
    pub(crate) founding: Founding,
    /// The member came later than the cluster.
    pub(crate) joined: bool,
    /// Its log was opened before.
    pub(crate) started: bool,
}

impl Belonging {
    pub(crate) fn identity(&self) -> MemberIdentity {
        self.founding.identity(self.member)
    }

    /// Whether this member is all there ever was to its cluster when it began.
    pub(crate) fn founded_alone(&self) -> bool {
        !self.joined && self.founding.founders.len() <= 1
    }
}

/// Where the cluster key lies, and whether a missing one may be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFile {
    /// Unset: in the data folder.
    pub path: Option<PathBuf>,
    /// Only a server that is alone may make its own.
    pub may_mint: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
struct NodeFile {
    format: u32,
    /// Empty while the folder belongs to no cluster, like everything below.
    #[serde(default)]
    cluster: String,
    #[serde(default)]
    incarnation: u64,
    #[serde(default)]
    member: u64,
    #[serde(default)]
    instance: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    founders: Vec<FounderFile>,
    #[serde(default)]
    joined: bool,
    #[serde(default)]
    started: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct FounderFile {
    member: u64,
    address: String,
    instance: String,
}

impl DataDir {
    /// Takes the folder, which is made if it does not exist. Blocking, but quick.
    pub fn open(path: &Path) -> Result<Self, ServerError> {
        fs::create_dir_all(path).map_err(io_error("make the data folder", path))?;
        let path = fs::canonicalize(path).map_err(io_error("find the data folder", path))?;
        let lock = lock(&path)?;
        let node = node_file(&path)?;
        Ok(Self {
            path,
            node: Mutex::new(node),
            _lock: lock,
        })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder of the log engine.
    pub fn log(&self) -> PathBuf {
        self.path.join("meta").join("log")
    }

    /// The folder of the state engine.
    pub fn state(&self) -> PathBuf {
        self.path.join("meta").join("state")
    }

    /// The folder of snapshots.
    pub fn snapshots(&self) -> PathBuf {
        self.path.join("meta").join("snapshots")
    }

    /// The folder of the block cache.
    pub fn cache(&self) -> PathBuf {
        self.path.join("cache")
    }

    /// The nonce of this folder, which also names its block node.
    pub fn instance(&self) -> Result<u128, ServerError> {
        let text = self.node.lock().instance.clone();
        self.bits(&text, "instance")
    }

    /// Whose this folder is; `None` while it belongs to no cluster.
    pub(crate) fn belonging(&self) -> Result<Option<Belonging>, ServerError> {
        let node = self.node.lock().clone();
        if node.cluster.is_empty() {
            return Ok(None);
        }
        let mut founders = BTreeMap::new();
        for founder in &node.founders {
            let instance = self.bits(&founder.instance, "an instance of the founders")?;
            let address = founder.address.clone();
            let info = MemberInfo { address, instance };
            founders.insert(NodeId::new(founder.member), info);
        }
        let member = NodeId::new(node.member);
        if founders.is_empty() {
            // Written before there was more than one member.
            founders.insert(member, MemberInfo::default());
        }
        let founding = Founding {
            cluster: ClusterId::new(self.bits(&node.cluster, "cluster")?),
            incarnation: Incarnation::new(node.incarnation),
            founders,
        };
        Ok(Some(Belonging {
            member,
            founding,
            joined: node.joined,
            started: node.started,
        }))
    }

    /// Gives the folder to a member; durable on return.
    pub(crate) fn settle(&self, belonging: &Belonging) -> Result<(), ServerError> {
        let founding = &belonging.founding;
        let founder = |(member, info): (&NodeId, &MemberInfo)| FounderFile {
            member: member.get(),
            address: info.address.clone(),
            instance: hexadecimal(info.instance),
        };
        let node = NodeFile {
            cluster: hexadecimal(founding.cluster.get()),
            incarnation: founding.incarnation.get(),
            member: belonging.member.get(),
            founders: founding.founders.iter().map(founder).collect(),
            joined: belonging.joined,
            started: belonging.started,
            ..self.node.lock().clone()
        };
        write_node(&self.path.join("node.json"), &node)?;
        *self.node.lock() = node;
        Ok(())
    }

    /// What seals credentials.
    pub fn sealer(&self, key: &KeyFile) -> Result<Sealer, ServerError> {
        let path = match &key.path {
            Some(path) => path.clone(),
            None => self.path.join("cluster.key"),
        };
        let bytes = match read_key(&path)? {
            Some(bytes) => bytes,
            None if key.may_mint => mint_key(&path)?,
            None => return Err(ServerError::KeyMissing { path }),
        };
        Sealer::new(&bytes).ok_or_else(|| damaged_key(&path))
    }

    fn bits(&self, text: &str, field: &str) -> Result<u128, ServerError> {
        u128::from_str_radix(text, 16).map_err(|_| ServerError::DataFile {
            path: self.path.join("node.json"),
            reason: format!("{field} is not hexadecimal: restore the file from a backup"),
        })
    }
}

/// An empty folder in which a cluster is being restored: held, and nobody's yet.
#[derive(Debug)]
pub struct RestoreDir {
    path: PathBuf,
    _lock: File,
}

impl RestoreDir {
    /// Takes a folder that does not exist, or holds nothing but the cluster key and what
    /// an interrupted restore left.
    pub fn take(path: &Path) -> Result<Self, ServerError> {
        fs::create_dir_all(path).map_err(io_error("make the data folder", path))?;
        let path = fs::canonicalize(path).map_err(io_error("find the data folder", path))?;
        let lock = lock(&path)?;
        let entries = fs::read_dir(&path).map_err(io_error("list", &path))?;
        for entry in entries {
            let entry = entry.map_err(io_error("list", &path))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if !["server.lock", "cluster.key", RESTORING].contains(&name.as_str()) {
                return Err(ServerError::Occupied { path, found: name });
            }
        }
        let dir = Self { path, _lock: lock };
        let left = dir.path.join(RESTORING);
        match fs::remove_dir_all(&left) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(io_error("remove", &left)(error))
            }
            _ => Ok(dir),
        }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where an engine is put together, `log` or `state`.
    pub fn engine(&self, name: &str) -> PathBuf {
        self.path.join(RESTORING).join(name)
    }

    /// Makes the folder that of member 1 of the restored cluster. Whose it is stands there
    /// last: what a crash before that leaves is refused by every start and every restore.
    pub fn found(
        self,
        cluster: ClusterId,
        incarnation: Incarnation,
        member: NodeId,
    ) -> Result<(), ServerError> {
        let (from, to) = (self.path.join(RESTORING), self.path.join("meta"));
        fs::rename(&from, &to).map_err(io_error("rename", &from))?;
        let node = NodeFile {
            format: FORMAT,
            cluster: hexadecimal(cluster.get()),
            incarnation: incarnation.get(),
            member: member.get(),
            instance: hexadecimal(u128::from_le_bytes(random()?)),
            // The log that lies there is its log.
            started: true,
            ..NodeFile::default()
        };
        write_node(&self.path.join("node.json"), &node)
    }
}

/// Makes a cluster key in a file that does not exist yet.
pub fn make_key(path: &Path) -> Result<(), ServerError> {
    if path.exists() {
        let path = path.to_owned();
        return Err(ServerError::KeyExists { path });
    }
    mint_key(path).map(drop)
}

fn hexadecimal(bits: u128) -> String {
    format!("{bits:032x}")
}

fn lock(folder: &Path) -> Result<File, ServerError> {
    let path = folder.join("server.lock");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(io_error("open", &path))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut text = String::new();
            // Without a readable id the message is still true.
            let _ = file.take(32).read_to_string(&mut text);
            return Err(ServerError::InUse {
                path: folder.to_owned(),
                pid: text.trim().parse().ok(),
            });
        }
        Err(error) => return Err(io_error("lock", &path)(error.into())),
    }
    let write = |file: &mut File| {
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())
    };
    write(&mut file).map_err(io_error("write", &path))?;
    Ok(file)
}

fn node_file(folder: &Path) -> Result<NodeFile, ServerError> {
    let path = folder.join("node.json");
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return mint_node(&path),
        Err(error) => return Err(io_error("read", &path)(error)),
    };
    let node: NodeFile = serde_json::from_str(&text).map_err(|error| ServerError::DataFile {
        path: path.clone(),
        reason: format!("not readable ({error}): restore the file from a backup"),
    })?;
    if node.format > FORMAT {
        return Err(ServerError::NewerData {
            path: folder.to_owned(),
            found: node.format,
            supported: FORMAT,
        });
    }
    Ok(node)
}

/// A folder that belongs to no cluster yet.
fn mint_node(path: &Path) -> Result<NodeFile, ServerError> {
    let node = NodeFile {
        format: FORMAT,
        instance: hexadecimal(u128::from_le_bytes(random()?)),
        ..NodeFile::default()
    };
    write_node(path, &node)?;
    Ok(node)
}

fn write_node(path: &Path, node: &NodeFile) -> Result<(), ServerError> {
    let text = serde_json::to_string_pretty(node).map_err(|error| ServerError::DataFile {
        path: path.to_owned(),
        reason: error.to_string(),
    })?;
    write_line(path, &text, 0o644)
}

fn read_key(path: &Path) -> Result<Option<Vec<u8>>, ServerError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error("read", path)(error)),
    };
    let mode = fs::metadata(path).map_err(io_error("look at", path))?;
    if mode.permissions().mode() & 0o077 != 0 {
        return Err(ServerError::DataFile {
            path: path.to_owned(),
            reason: format!(
                "others may read the cluster key: run `chmod 600 {}`, and change the credentials \
                 of the mounts if somebody did",
                path.display()
            ),
        });
    }
    let bytes = hex::decode(text.trim()).map_err(|_| damaged_key(path))?;
    Ok(Some(bytes))
}

fn mint_key(path: &Path) -> Result<Vec<u8>, ServerError> {
    let key: [u8; KEY_BYTES] = random()?;
    write_line(path, &hex::encode(key), 0o600)?;
    Ok(key.to_vec())
}

fn damaged_key(path: &Path) -> ServerError {
    ServerError::DataFile {
        path: path.to_owned(),
        reason: "not a cluster key: restore the file from another metadata server, or remove it \
                 and give the mounts their credentials again with arustio fs update-mount"
            .to_owned(),
    }
}

fn write_line(path: &Path, text: &str, mode: u32) -> Result<(), ServerError> {
    write_whole(path, mode, |file| {
        writeln!(file, "{text}").map_err(io_error("write", path))
    })
}

/// A file that is there whole or not at all: filled under a temporary name, synced,
/// renamed, and its folder synced.
pub(crate) fn write_whole<T>(
    path: &Path,
    mode: u32,
    fill: impl FnOnce(&mut BufWriter<File>) -> Result<T, ServerError>,
) -> Result<T, ServerError> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".part");
    let temporary = Path::new(&temporary);
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(mode);
    let file = options.open(temporary);
    let mut file = BufWriter::new(file.map_err(io_error("create", temporary))?);
    let filled = fill(&mut file)?;
    file.flush().map_err(io_error("write", temporary))?;
    let synced = file.get_ref().sync_all();
    synced.map_err(io_error("sync", temporary))?;
    fs::rename(temporary, path).map_err(io_error("rename to", path))?;
    // A name alone lies in the folder where the program is.
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(io_error("sync", folder))?;
    Ok(filled)
}

/// Random bytes of the operating system.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], ServerError> {
    let mut bytes = [0; N];
    OsRng
        .try_fill_bytes(&mut bytes)
        .map_err(|error| ServerError::Start {
            action: "get random bytes from the operating system",
            reason: error.to_string(),
        })?;
    Ok(bytes)
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ServerError {
    let path = path.to_owned();
    move |source| ServerError::Io {
        action,
        path,
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arustio_types::{Classify as _, ErrorKind};

    const OWN_KEY: KeyFile = KeyFile {
        path: None,
        may_mint: true,
    };

    fn belonging(instance: u128) -> Belonging {
        let info = |instance| MemberInfo {
            address: "host:1".to_owned(),
            instance,
        };
        let founders = [(NodeId::new(1), info(5)), (NodeId::new(2), info(instance))];
        Belonging {
            member: NodeId::new(2),
            founding: Founding {
                cluster: ClusterId::new(77),
                incarnation: Incarnation::new(8),
                founders: founders.into(),
            },
            joined: false,
            started: false,
        }
    }

    #[test]
    fn a_folder_keeps_who_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let first = DataDir::open(folder.path()).unwrap();
        let instance = first.instance().unwrap();
        assert_eq!(first.belonging().unwrap(), None);
        let mut belonging = belonging(instance);
        first.settle(&belonging).unwrap();
        let sealed = first.sealer(&OWN_KEY).unwrap();
        drop(first);
        let second = DataDir::open(folder.path()).unwrap();
        assert_eq!(second.instance().unwrap(), instance);
        assert_eq!(second.belonging().unwrap().as_ref(), Some(&belonging));
        let again = second.sealer(&OWN_KEY).unwrap();
        assert_eq!(again.fingerprint(), sealed.fingerprint());
        belonging.started = true;
        second.settle(&belonging).unwrap();
        drop(second);
        let third = DataDir::open(folder.path()).unwrap();
        assert_eq!(third.belonging().unwrap(), Some(belonging));
    }

    #[test]
    fn a_folder_from_before_there_were_clusters_is_a_cluster_of_one() {
        let folder = tempfile::tempdir().unwrap();
        let text = r#"{
  "format": 1,
  "cluster": "0000000000000000000000000000002a",
  "incarnation": 3,
  "member": 1,
  "instance": "000000000000000000000000000000ff"
}"#;
        fs::write(folder.path().join("node.json"), text).unwrap();
        let data = DataDir::open(folder.path()).unwrap();
        assert_eq!(data.instance().unwrap(), 255);
        let belonging = data.belonging().unwrap().unwrap();
        assert!(belonging.founded_alone());
        assert_eq!(belonging.identity().cluster, ClusterId::new(42));
        assert_eq!(belonging.identity().member, NodeId::new(1));
    }

    #[test]
    fn a_missing_key_is_made_for_a_server_that_is_alone_and_asked_for_otherwise() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDir::open(folder.path()).unwrap();
        let path = folder.path().join("shared.key");
        let shared = KeyFile {
            path: Some(path.clone()),
            may_mint: false,
        };
        let error = data.sealer(&shared).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        let error = error.to_string();
        assert!(error.contains("no such file"), "{error}");
        assert!(error.contains("--make-key"), "{error}");
        make_key(&path).unwrap();
        let sealer = data.sealer(&shared).unwrap();
        let own = data.sealer(&OWN_KEY).unwrap();
        assert_ne!(sealer.fingerprint(), own.fingerprint());
        let error = make_key(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        let error = error.to_string();
        assert!(error.contains("exists already"), "{error}");
    }

    #[test]
    fn a_second_server_is_refused_and_told_who_holds_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let _held = DataDir::open(folder.path()).unwrap();
        let error = DataDir::open(folder.path()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        let pid = format!("process {}", std::process::id());
        assert!(error.to_string().contains(&pid), "{error}");
    }

    #[test]
    fn a_folder_of_a_later_release_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        drop(DataDir::open(folder.path()).unwrap());
        let path = folder.path().join("node.json");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace("\"format\": 1", "\"format\": 9")).unwrap();
        let error = DataDir::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("format 9"), "{error}");
    }

    #[test]
    fn a_key_that_others_may_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDir::open(folder.path()).unwrap();
        data.sealer(&OWN_KEY).unwrap();
        let path = folder.path().join("cluster.key");
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let error = data.sealer(&OWN_KEY).unwrap_err().to_string();
        assert!(error.contains("chmod 600"), "{error}");
    }
}
