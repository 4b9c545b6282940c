//! What a local cluster is made of: its nodes, their ports and files, and the record of
//! all that in `cluster.json`, which every later command reads.

use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::network::Network;
use super::process::ProcessId;

/// Version of the record.
const FORMAT: u32 = 1;
const RECORD: &str = "cluster.json";
/// Bytes of a cluster key.
const KEY: usize = 32;
/// gRPC, HTTP, frames.
const PORTS: usize = 3;
/// The same of a node that has an address of its own.
const OWN_PORTS: [u16; PORTS] = [7411, 7413, 7412];
/// Ports that are chosen: below those that the kernel gives to connections, which could take the
/// port of a node while it is down.
const CHOSEN: std::ops::Range<u16> = 20_000..32_000;
/// How many of them are tried for one that is free.
const MOST_TRIES: usize = 1000;
/// More than anybody starts on one machine.
const MOST_NODES: usize = 64;

/// What a node does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeRole {
    /// Holds the namespace.
    Metadata,
    /// Caches blocks.
    Block,
}

/// One daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Such as `meta-1`.
    pub name: String,
    /// What it does.
    pub role: NodeRole,
    /// Its number among the metadata servers.
    pub member: Option<u64>,
    /// Where gRPC is served.
    pub grpc: SocketAddr,
    /// Where block frames are spoken, if they are.
    #[serde(default)]
    pub frames: Option<SocketAddr>,
    /// Where health and metrics are served.
    pub http: SocketAddr,
    /// Everything that it keeps.
    pub data: PathBuf,
    /// Its settings.
    pub config: PathBuf,
    /// What it says on stderr.
    pub log: PathBuf,
    /// What it says on stdout.
    pub out: PathBuf,
    /// The namespace of the network in which it runs, if it has one of its own.
    #[serde(default)]
    pub namespace: Option<String>,
    /// The process, once it was started.
    pub process: Option<ProcessId>,
}

/// How many there are of what, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Metadata servers.
    pub metadata: usize,
    /// Block nodes.
    pub block: usize,
    /// Each in a namespace of the network, with an address of its own; otherwise on loopback.
    pub namespaces: bool,
}

/// All of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    format: u32,
    /// The folder of it all.
    pub dir: PathBuf,
    /// The daemon's program.
    pub program: PathBuf,
    /// The daemons.
    pub nodes: Vec<Node>,
    /// Where they have addresses of their own.
    #[serde(default)]
    pub network: Option<Network>,
}

/// Addresses of a node, held until all are chosen, so that they differ.
struct Held {
    addresses: [SocketAddr; PORTS],
    namespace: Option<String>,
    _listeners: Vec<TcpListener>,
}

impl Plan {
    /// So many nodes in this folder, on ports that are free now or in namespaces, which are
    /// made.
    ///
    /// # Errors
    /// When the folder cannot be written, no port is free, or namespaces cannot be made.
    pub fn new(dir: &Path, program: &Path, shape: Shape) -> Result<Self> {
        let Shape {
            metadata, block, ..
        } = shape;
        ensure!(metadata > 0, "a cluster has at least one metadata server");
        ensure!(metadata + block <= MOST_NODES, "at most {MOST_NODES} nodes");
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let dir = dir.canonicalize().context("the folder")?;
        let mut plan = Self {
            format: FORMAT,
            program: program.to_owned(),
            nodes: Vec::new(),
            network: match shape.namespaces {
                true => Some(Network::create()?),
                false => None,
            },
            dir,
        };
        let filled = plan.fill(metadata, block);
        if filled.is_err() {
            plan.leave_network();
        }
        filled.map(|()| plan)
    }

    fn fill(&mut self, metadata: usize, block: usize) -> Result<()> {
        let members = (1..)
            .take(metadata)
            .map(|member| (format!("meta-{member}"), Some(member)));
        let blocks = (1..=block).map(|number| (format!("block-{number}"), None));
        let mut all_held = Vec::new();
        for (name, member) in members.chain(blocks) {
            let held = self.hold(&name)?;
            let node = self.node(name, member, &held);
            self.nodes.push(node);
            all_held.push(held);
        }
        Ok(())
    }

    /// Finds addresses for a node.
    fn hold(&mut self, name: &str) -> Result<Held> {
        if let Some(network) = &mut self.network {
            let (namespace, address) = network.member(name)?;
            return Ok(Held {
                addresses: OWN_PORTS.map(|port| SocketAddr::new(address, port)),
                namespace: Some(namespace),
                _listeners: Vec::new(),
            });
        }
        let listeners = free_ports(PORTS)?;
        let mut addresses = [SocketAddr::from((Ipv4Addr::LOCALHOST, 0)); PORTS];
        for (address, listener) in addresses.iter_mut().zip(&listeners) {
            *address = listener.local_addr()?;
        }
        Ok(Held {
            addresses,
            namespace: None,
            _listeners: listeners,
        })
    }

    fn node(&self, name: String, member: Option<u64>, held: &Held) -> Node {
        let [grpc, http, frames] = held.addresses;
        let file = |suffix: &str| self.dir.join(format!("{name}.{suffix}"));
        Node {
            data: self.dir.join(&name),
            config: file("toml"),
            log: file("log"),
            out: file("out"),
            role: match member {
                Some(_) => NodeRole::Metadata,
                None => NodeRole::Block,
            },
            name,
            member,
            grpc,
            frames: Some(frames),
            http,
            namespace: held.namespace.clone(),
            process: None,
        }
    }

    /// Makes the namespaces again that [`leave_network`](Self::leave_network) has removed.
    ///
    /// # Errors
    /// When they cannot be made.
    pub fn enter_network(&self) -> Result<()> {
        self.network.as_ref().map_or(Ok(()), Network::restore)
    }

    /// Removes the namespaces, if there are any.
    pub fn leave_network(&self) {
        if let Some(network) = &self.network {
            network.remove();
        }
    }

    /// Adds a metadata server that joins the group under a number that was never used.
    ///
    /// # Errors
    /// When no port is free.
    pub fn join(&mut self, member: u64) -> Result<String> {
        let name = format!("meta-{member}");
        self.add(name, Some(member))
    }

    /// Adds a block node.
    ///
    /// # Errors
    /// When no port is free.
    pub fn add_block(&mut self) -> Result<String> {
        let blocks = self
            .nodes
            .iter()
            .filter(|node| node.role == NodeRole::Block);
        let name = format!("block-{}", blocks.count() + 1);
        self.add(name, None)
    }

    fn add(&mut self, name: String, member: Option<u64>) -> Result<String> {
        ensure!(self.find(&name).is_err(), "{name} exists already");
        let held = self.hold(&name)?;
        let node = self.node(name.clone(), member, &held);
        self.write_config(&node)?;
        self.nodes.push(node);
        Ok(name)
    }

    /// The record in a folder, if there is one.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(dir: &Path) -> Result<Option<Self>> {
        let path = dir.join(RECORD);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        };
        let plan: Self = serde_json::from_str(&text)
            .with_context(|| format!("{} is no record of a cluster", path.display()))?;
        ensure!(
            plan.format == FORMAT,
            "{} is of another release",
            path.display()
        );
        Ok(Some(plan))
    }

    /// The record in a folder that has to have one.
    ///
    /// # Errors
    /// When there is none.
    pub fn found(dir: &Path) -> Result<Self> {
        Self::read(dir)?.with_context(|| {
            format!(
                "no cluster was started in {}; start one with: cargo xtask cluster up --dir {}",
                dir.display(),
                dir.display()
            )
        })
    }

    /// Writes the record, whole or not at all.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn save(&self) -> Result<()> {
        let path = self.dir.join(RECORD);
        let new = self.dir.join(format!("{RECORD}.{}", std::process::id()));
        let written = fs::write(&new, serde_json::to_vec_pretty(self)?)
            .and_then(|()| fs::rename(&new, &path));
        written.with_context(|| format!("cannot write {}", path.display()))
    }

    /// Writes the settings of all nodes, and the key that they share.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn write_configs(&self) -> Result<()> {
        let key = self.key();
        if !key.exists() {
            let bytes: [u8; KEY] = rand::random();
            let mut file = fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&key)
                .with_context(|| format!("cannot make {}", key.display()))?;
            writeln!(file, "{}", hex::encode(bytes))?;
        }
        self.nodes
            .iter()
            .try_for_each(|node| self.write_config(node))
    }

    fn write_config(&self, node: &Node) -> Result<()> {
        let text = self.config(node);
        fs::write(&node.config, text)
            .with_context(|| format!("cannot write {}", node.config.display()))
    }

    /// The settings of a node. The environment overrides them.
    fn config(&self, node: &Node) -> String {
        let role = match node.role {
            NodeRole::Metadata => "metadata",
            NodeRole::Block => "block",
        };
        let insecure = !node.grpc.ip().is_loopback();
        let mut text = format!(
            "[server]\nrole = [{role:?}]\ndata_dir = {:?}\nlisten = \"{}\"\ninsecure = \
             {insecure}\n\n[http]\nlisten = \
             \"{}\"\n\n[block.memory]\ncapacity = \"128MiB\"\n\n[block.disk]\ncapacity = \
             \"1GiB\"\nmin_free = \"64MiB\"\n\n",
            node.data, node.grpc, node.http
        );
        if let Some(frames) = node.frames {
            text.push_str(&format!("[frames]\nlisten = \"{frames}\"\n\n"));
        }
        text.push_str("[cluster]\n");
        match node.member {
            Some(member) if self.members().count() > 1 || member > 1 => {
                let members: Vec<String> = self
                    .members()
                    .map(|(member, address)| format!("{member}={address}"))
                    .collect();
                text.push_str(&format!(
                    "member = {member}\nmembers = {members:?}\nkey_file = {:?}\n",
                    self.key()
                ));
            }
            Some(_) => {}
            None => text.push_str(&format!("metadata = {:?}\n", self.metadata())),
        }
        text
    }

    fn members(&self) -> impl Iterator<Item = (u64, SocketAddr)> + '_ {
        let metadata = self.nodes.iter();
        metadata.filter_map(|node| Some((node.member?, node.grpc)))
    }

    fn key(&self) -> PathBuf {
        self.dir.join("cluster.key")
    }

    /// Addresses of the metadata servers.
    pub fn metadata(&self) -> Vec<String> {
        self.members()
            .map(|(_, address)| address.to_string())
            .collect()
    }

    /// A node by its name.
    ///
    /// # Errors
    /// When there is none, naming those that there are.
    pub fn find(&self, name: &str) -> Result<&Node> {
        let found = self.nodes.iter().find(|node| node.name == name);
        found.with_context(|| {
            let names: Vec<&str> = self.nodes.iter().map(|node| node.name.as_str()).collect();
            format!("no node is called {name}; there are {}", names.join(", "))
        })
    }

    /// Everything about the cluster, for programs.
    pub fn json(&self) -> Value {
        let nodes = self.nodes.iter().map(|node| {
            json!({
                "name": node.name,
                "role": node.role,
                "member": node.member,
                "grpc": node.grpc.to_string(),
                "frames": node.frames.map(|frames| frames.to_string()),
                "http": node.http.to_string(),
                "data": node.data,
                "log": node.log,
                "pid": node.process.map(|process| process.pid),
                "running": node.is_running(),
                "stopped": node.process.is_some_and(|process| process.is_stopped()),
            })
        });
        json!({
            "dir": self.dir,
            "server": self.metadata().join(","),
            "nodes": nodes.collect::<Vec<_>>(),
        })
    }

    /// Removes what the cluster has written, and the folder if nothing else is in it.
    ///
    /// # Errors
    /// When something cannot be removed.
    pub fn purge(&self) -> Result<()> {
        for node in &self.nodes {
            let gone = |done: std::io::Result<()>| match done {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            };
            gone(fs::remove_dir_all(&node.data))?;
            for file in [&node.config, &node.log, &node.out] {
                gone(fs::remove_file(file))?;
            }
        }
        self.leave_network();
        for file in [self.key(), self.dir.join(RECORD)] {
            if file.exists() {
                fs::remove_file(file)?;
            }
        }
        // Somebody may keep other things there.
        let _ = fs::remove_dir(&self.dir);
        Ok(())
    }
}

impl Node {
    /// Whether its process lives.
    pub fn is_running(&self) -> bool {
        self.process.is_some_and(|process| process.is_alive())
    }
}

fn free_ports(count: usize) -> Result<Vec<TcpListener>> {
    (0..count).map(|_| free_port()).collect()
}

fn free_port() -> Result<TcpListener> {
    let tries = (0..MOST_TRIES).map(|_| rand::random_range(CHOSEN));
    let mut tries = tries.filter_map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok());
    tries.next().context("no port is free")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(dir: &Path, metadata: usize, block: usize) -> Plan {
        let shape = Shape {
            metadata,
            block,
            namespaces: false,
        };
        Plan::new(dir, Path::new("arustio-server"), shape).unwrap()
    }

    #[test]
    fn a_plan_is_read_as_it_was_written_and_its_ports_differ() {
        let folder = tempfile::tempdir().unwrap();
        let plan = plan(folder.path(), 3, 2);
        plan.save().unwrap();
        assert_eq!(Plan::read(folder.path()).unwrap(), Some(plan.clone()));
        let ports = |n: &Node| [n.grpc, n.http, n.frames.unwrap()];
        let mut ports: Vec<_> = plan.nodes.iter().flat_map(ports).collect();
        ports.sort();
        ports.dedup();
        assert_eq!(ports.len(), 15);
        let error = plan.find("meta-9").unwrap_err().to_string();
        assert!(error.contains("meta-1, meta-2, meta-3, block-1"), "{error}");
    }

    #[test]
    fn every_member_is_told_of_all_and_block_nodes_where_to_register() {
        let folder = tempfile::tempdir().unwrap();
        let plan = plan(folder.path(), 3, 1);
        let member = plan.config(plan.find("meta-2").unwrap());
        assert!(member.contains("member = 2"), "{member}");
        for (number, address) in plan.members() {
            assert!(
                member.contains(&format!("\"{number}={address}\"")),
                "{member}"
            );
        }
        let block = plan.config(plan.find("block-1").unwrap());
        assert!(block.contains(&plan.metadata()[2]), "{block}");
        assert!(!block.contains("key_file"), "{block}");
    }

    #[test]
    fn purging_leaves_what_others_have_put_there() {
        let folder = tempfile::tempdir().unwrap();
        let plan = plan(folder.path(), 1, 1);
        plan.write_configs().unwrap();
        plan.save().unwrap();
        fs::create_dir_all(plan.nodes[0].data.join("log")).unwrap();
        fs::write(folder.path().join("notes"), "mine").unwrap();
        plan.purge().unwrap();
        let left = fs::read_dir(folder.path()).unwrap();
        let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["notes"]);
    }
}
