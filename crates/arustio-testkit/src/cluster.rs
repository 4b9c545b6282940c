//! Clusters of real daemons on this machine, for tests, benchmarks and people.
//!
//! A cluster lives in one folder: settings, a key, data, logs, and a record of which
//! processes belong to it ([`plan`]). Whoever has the folder can stop, kill and start its
//! nodes, also from another process: a process is recognised by its number and its start
//! ([`process`]), and nothing else on the machine is ever touched.
//!
//! A daemon outlives whoever started it unless that one stops it; [`LocalCluster::stop_on_drop`]
//! is for tests.

pub mod network;
pub mod plan;
pub mod process;

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::Signal;
use tokio::time::{Instant, sleep};

pub use plan::{Node, NodeRole, Plan, Shape};
pub use process::ProcessId;

/// How long a cluster may take to be ready: a first start on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How long a daemon may take to stop in order.
const STOP_LIMIT: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Ports that were free may be taken when they are needed; then others are tried.
const PORT_TRIES: usize = 3;
/// Lines of a log that are shown when its daemon failed.
const TAIL: usize = 20;

/// A cluster on this machine.
#[derive(Debug)]
pub struct LocalCluster {
    plan: Plan,
    /// Of the daemons that this process has started, so that they are waited for.
    children: Vec<Child>,
    stop_on_drop: bool,
}

impl LocalCluster {
    /// Starts a cluster in a folder, or the one that the folder holds again, and waits
    /// until all of it is ready.
    ///
    /// # Errors
    /// When one runs there already, or a daemon does not become ready: then all are
    /// stopped, and the end of its log is in the error.
    pub async fn up(dir: &Path, program: &Path, shape: Shape) -> Result<Self> {
        if let Some(plan) = Plan::read(dir)? {
            let running = plan.nodes.iter().find(|node| node.is_running());
            if let Some(node) = running {
                bail!(
                    "a cluster runs in {} ({} as process {}); end it with: cargo xtask cluster \
                     down --dir {}",
                    dir.display(),
                    node.name,
                    node.process.map_or(0, |process| process.pid),
                    dir.display()
                );
            }
            let mut cluster = Self::of(plan);
            cluster.plan.program = program.to_owned();
            cluster.plan.enter_network()?;
            cluster.start_all().await?;
            return Ok(cluster);
        }
        for tries in 1.. {
            let mut cluster = Self::planned(dir, program, shape)?;
            match cluster.start_all().await {
                Ok(()) => return Ok(cluster),
                // Nothing was founded yet that could miss its ports.
                Err(error) if tries < PORT_TRIES && lost_a_port(&error) => cluster.plan.purge()?,
                Err(error) => return Err(error),
            }
        }
        bail!("no ports are free")
    }

    /// A new cluster in a folder; it does not run before [`start_planned`](Self::start_planned).
    /// What it is to begin with can be put into its data folders.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn planned(dir: &Path, program: &Path, shape: Shape) -> Result<Self> {
        let plan = Plan::new(dir, program, shape)?;
        let cluster = Self::of(plan);
        let written = cluster
            .plan
            .write_configs()
            .and_then(|()| cluster.plan.save());
        if written.is_err() {
            cluster.plan.leave_network();
        }
        written.map(|()| cluster)
    }

    /// The cluster in a folder, whether it runs or not.
    ///
    /// # Errors
    /// When there is none.
    pub fn open(dir: &Path) -> Result<Self> {
        Ok(Self::of(Plan::found(dir)?))
    }

    fn of(plan: Plan) -> Self {
        Self {
            plan,
            children: Vec::new(),
            stop_on_drop: false,
        }
    }

    /// Kills what still runs when this is dropped.
    #[must_use]
    pub fn stop_on_drop(mut self) -> Self {
        self.stop_on_drop = true;
        self
    }

    /// What it is made of.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Starts all nodes of a new cluster.
    ///
    /// # Errors
    /// As for [`up`](Self::up).
    pub async fn start_planned(mut self) -> Result<Self> {
        self.start_all().await?;
        Ok(self)
    }

    async fn start_all(&mut self) -> Result<()> {
        // Whoever does not wait for the end of this leaves nothing behind.
        let stop_on_drop = std::mem::replace(&mut self.stop_on_drop, true);
        let started = self.start_each().await;
        self.stop_on_drop = stop_on_drop;
        if started.is_err() {
            // What is wrong was said already.
            let _ = self.down().await;
        }
        started
    }

    async fn start_each(&mut self) -> Result<()> {
        let names: Vec<String> = self.plan.nodes.iter().map(|n| n.name.clone()).collect();
        for name in &names {
            self.launch(name)?;
        }
        for name in &names {
            self.ready(name).await?;
        }
        Ok(())
    }

    /// Starts a node that does not run, at the same addresses, and waits until it is ready.
    ///
    /// # Errors
    /// When it runs already, or does not become ready; the end of its log is in the error.
    pub async fn start(&mut self, name: &str) -> Result<()> {
        self.launch(name)?;
        self.ready(name).await
    }

    /// Starts a node that does not run; does not wait for it.
    ///
    /// # Errors
    /// When it runs already, or cannot be started.
    pub fn launch(&mut self, name: &str) -> Result<()> {
        self.reload()?;
        let program = self.plan.program.clone();
        let namespace = self.plan.find(name)?.namespace.as_deref();
        if namespace.is_some_and(|namespace| !network::is_there(namespace)) {
            self.plan.enter_network()?;
        }
        let node = self.node_mut(name)?;
        ensure!(!node.is_running(), "{name} runs already");
        let log = File::options().create(true).append(true).open(&node.log);
        let mut command = network::command_in(node.namespace.as_deref(), &program);
        command
            .arg("--config")
            .arg(&node.config)
            .env_remove("ARUSTIO_CONFIG")
            .stdin(Stdio::null())
            .stdout(File::create(&node.out).context("the file of its output")?)
            .stderr(log.context("its log")?)
            // Ctrl-C at a terminal is for whoever started it, who stops it in order.
            .process_group(0);
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        node.process = Some(ProcessId::of(child.id())?);
        self.children.push(child);
        self.plan.save()
    }

    /// Waits until a node says that it is ready.
    ///
    /// # Errors
    /// When it ends, or takes too long; the end of its log is in the error.
    pub async fn ready(&mut self, name: &str) -> Result<()> {
        let deadline = Instant::now() + START_LIMIT;
        loop {
            let node = self.plan.find(name)?;
            let said = fs::read_to_string(&node.out).unwrap_or_default();
            let whole = said.rsplit_once('\n').map_or("", |(lines, _)| lines);
            if whole.lines().any(|line| line.starts_with("ready:")) {
                return Ok(());
            }
            if !node.is_running() {
                bail!(
                    "{name} ended instead of becoming ready:\n{}",
                    tail(&node.log)
                );
            }
            if Instant::now() >= deadline {
                let limit = START_LIMIT.as_secs();
                bail!("{name} is not ready after {limit} s:\n{}", tail(&node.log));
            }
            self.reap();
            sleep(LOOK_EVERY).await;
        }
    }

    /// Sends a signal to a node. After one that ends it, waits until it is gone.
    ///
    /// # Errors
    /// When the node does not run.
    pub async fn signal(&mut self, name: &str, signal: Signal) -> Result<()> {
        self.reload()?;
        let process = self.plan.find(name)?.process;
        let process = process.with_context(|| format!("{name} was never started"))?;
        ensure!(process.signal(signal)?, "{name} does not run");
        if signal == Signal::KILL || signal == Signal::TERM && !process.is_stopped() {
            ensure!(self.gone(process).await, "{name} did not end");
        }
        Ok(())
    }

    /// Stops every node that runs, in order, and waits. Data stays.
    ///
    /// # Errors
    /// When a process can be neither stopped nor killed.
    pub async fn down(&mut self) -> Result<()> {
        self.reload()?;
        let nodes: Vec<Node> = self.plan.nodes.clone();
        for node in &nodes {
            if let Some(process) = node.process {
                process.signal(Signal::TERM)?;
                // One that was told to stop for a while hears nothing before this.
                process.signal(Signal::CONT)?;
            }
        }
        for node in &nodes {
            let Some(process) = node.process else {
                continue;
            };
            if !self.gone(process).await {
                eprintln!("{} did not stop in time and is killed", node.name);
                process.signal(Signal::KILL)?;
                ensure!(self.gone(process).await, "{} cannot be ended", node.name);
            }
            self.node_mut(&node.name)?.process = None;
        }
        self.plan.leave_network();
        self.plan.save()
    }

    /// Stops everything and removes what the cluster has written.
    ///
    /// # Errors
    /// As for [`down`](Self::down), or when something cannot be removed.
    pub async fn purge(mut self) -> Result<()> {
        self.down().await?;
        self.plan.purge()
    }

    /// Adds a metadata server that joins the group under a new number, and starts it; it is
    /// ready when the group has taken it in.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn join(&mut self, member: u64) -> Result<String> {
        self.reload()?;
        let name = self.plan.join(member)?;
        self.plan.save()?;
        self.launch(&name)?;
        Ok(name)
    }

    /// Adds a block node, and starts it; it registers by itself.
    ///
    /// # Errors
    /// When it cannot be started, or does not become ready.
    pub async fn add_block(&mut self) -> Result<String> {
        self.reload()?;
        let name = self.plan.add_block()?;
        self.plan.save()?;
        self.start(&name).await?;
        Ok(name)
    }

    /// The namespace and the address of another process beside the cluster, such as a store.
    /// `None` on loopback.
    ///
    /// # Errors
    /// When they cannot be made.
    pub fn place(&mut self, name: &str) -> Result<Option<(String, std::net::IpAddr)>> {
        let Some(network) = &mut self.plan.network else {
            return Ok(None);
        };
        let place = network.member(name)?;
        self.plan.save()?;
        Ok(Some(place))
    }

    /// Empties the data folder of a node that does not run.
    ///
    /// # Errors
    /// When it runs.
    pub fn wipe(&mut self, name: &str) -> Result<()> {
        let node = self.plan.find(name)?;
        ensure!(!node.is_running(), "{name} runs");
        fs::remove_dir_all(&node.data).with_context(|| node.data.display().to_string())
    }

    /// The end of a node's log.
    ///
    /// # Errors
    /// When there is no such node.
    pub fn log(&self, name: &str) -> Result<String> {
        Ok(tail(&self.plan.find(name)?.log))
    }

    /// Waits until a process is gone; says whether it is.
    async fn gone(&mut self, process: ProcessId) -> bool {
        let deadline = Instant::now() + STOP_LIMIT;
        while process.is_alive() {
            if Instant::now() >= deadline {
                return false;
            }
            sleep(LOOK_EVERY).await;
        }
        self.reap();
        true
    }

    /// Waits for those that have ended, so that none stays as a zombie.
    pub fn reap(&mut self) {
        self.children
            .retain_mut(|child| !matches!(child.try_wait(), Ok(Some(_)) | Err(_)));
    }

    /// Another process may have started or stopped nodes meanwhile.
    fn reload(&mut self) -> Result<()> {
        if let Some(plan) = Plan::read(&self.plan.dir)? {
            self.plan = plan;
        }
        Ok(())
    }

    fn node_mut(&mut self, name: &str) -> Result<&mut Node> {
        self.plan.find(name)?;
        let mut nodes = self.plan.nodes.iter_mut();
        nodes.find(|node| node.name == name).context("a node")
    }
}

impl Drop for LocalCluster {
    fn drop(&mut self) {
        if !self.stop_on_drop {
            return;
        }
        // What cannot be read or killed any more is nothing that a destructor could mend.
        let _ = self.reload();
        for node in &self.plan.nodes {
            let _ = node.process.map(|process| process.signal(Signal::KILL));
        }
        for child in &mut self.children {
            let _ = child.wait();
        }
        self.plan.leave_network();
    }
}

fn lost_a_port(error: &anyhow::Error) -> bool {
    error.to_string().contains("cannot listen on")
}

fn tail(log: &PathBuf) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL)..].join("\n")
}
