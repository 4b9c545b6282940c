//! The metadata node on its way up, and what keeps it a good member afterwards.
//!
//! ```text
//! data folder -> who this is -> form (found, adopt, join) -> engines -> consensus -> Late
//!                                                            then: bound to its folder and
//!                                                            address, and people told while
//!                                                            there is no leader
//! ```

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use arustio_meta::consensus::{Change, MemberInfo};
use arustio_meta::error::{FatalError, StoreError};
use arustio_meta::namespace::Namespace;
use arustio_meta::store::MetadataStore as _;
use arustio_meta::{CheckedConfig, Consensus, ConsensusBuilder, MemberIdentity};
use arustio_types::{ErrorKind, NodeId, SystemClock};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::compose::{Opened, blocking};
use crate::config::{CheckedServer, ServerConfig};
use crate::data_dir::{Belonging, DataDir, KeyFile, random};
use crate::engines::{Engine, Engines};
use crate::error::ServerError;
use crate::forming::{Forming, fallbacks};
use crate::founding::{Me, Unfit};
use crate::grpc::metadata;
use crate::introduction::{self, Introduction};
use crate::late::Late;
use crate::metrics::Metrics;
use crate::raft_transport::{GrpcTransport, TransportParts};
use crate::seal::Sealer;
use crate::view::Liveness;

/// Without a leader for so long, people are told.
const PATIENCE: Duration = Duration::from_secs(3);
/// And told again after this.
const REMIND: Duration = Duration::from_secs(15);
/// Between two tries to be bound.
const PAUSE: Duration = Duration::from_millis(500);
/// How long a binding may take.
const CHANGE: Duration = Duration::from_secs(8);

/// Everything that a metadata node is made from.
pub(crate) struct Opening {
    settings: ServerConfig,
    raft: CheckedConfig,
    data: Arc<DataDir>,
    engine: Engine,
    sealer: Sealer,
    metrics: Metrics,
    pub(crate) introduction: Arc<Introduction>,
    pub(crate) late: Arc<Late<Opened>>,
    /// Why it cannot be a member, or no longer.
    pub(crate) failure: watch::Sender<Option<Arc<ServerError>>>,
}

impl Opening {
    /// Checks what can be checked without asking anybody. Blocks on the disk.
    pub(crate) fn prepare(
        checked: &CheckedServer,
        data: Arc<DataDir>,
        address: String,
        engine: Engine,
        metrics: Metrics,
    ) -> Result<Self, ServerError> {
        let cluster = &checked.cluster;
        let settings = checked.settings.clone();
        let raft = settings.metadata.raft.clone().validate();
        let raft = raft.map_err(|error| ServerError::Setting {
            setting: "metadata.raft".to_owned(),
            reason: error.to_string(),
        })?;
        let belonging = data.belonging()?;
        let member = member(belonging.as_ref(), cluster.member, &data)?;
        let alone = belonging.as_ref().is_none_or(Belonging::founded_alone);
        let sealer = data.sealer(&KeyFile {
            path: cluster.key_file.clone(),
            may_mint: alone && !cluster.has_others(),
        })?;
        if let Some(warning) = cluster.warning().filter(|_| belonging.is_none()) {
            tracing::warn!("{warning}");
        }
        let me = Me {
            member,
            instance: data.instance()?,
            address,
            key: sealer.fingerprint(),
            listed: cluster.listed.clone(),
        };
        Ok(Self {
            settings,
            raft,
            data,
            engine,
            sealer,
            metrics,
            introduction: Arc::new(Introduction::new(me)),
            late: Arc::new(Late::new("its own start")),
            failure: watch::Sender::new(None),
        })
    }

    /// Brings the node up and keeps it a good member until it is stopped.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let (late, failure) = (Arc::clone(&self.late), self.failure.clone());
        let introduction = Arc::clone(&self.introduction);
        let belonging = tokio::select! {
            formed = self.form() => formed,
            () = stop.cancelled() => return,
        };
        // From here to the end of it nothing is interrupted: engines are being opened.
        let opened = match belonging {
            Ok(belonging) => self.open(belonging).await,
            Err(error) => Err(error),
        };
        match opened {
            Ok(opened) => late.set(opened),
            Err(error) => {
                failure.send_replace(Some(Arc::new(error)));
                return;
            }
        }
        let Some(opened) = late.get() else { return };
        tokio::select! {
            unfit = keep_bound(opened, &introduction.me) => {
                failure.send_replace(Some(Arc::new(unfit.into())));
            }
            () = watch_leader(opened, &introduction.me) => {}
            () = stop.cancelled() => {}
        }
    }

    async fn form(&self) -> Result<Belonging, ServerError> {
        let waiting = |what: &str| self.late.wait_for(what);
        let mut forming = Forming {
            introduction: &self.introduction,
            data: &self.data,
            waiting: &waiting,
            told: None,
        };
        forming.run().await
    }

    async fn open(self, belonging: Belonging) -> Result<Opened, ServerError> {
        self.late.wait_for("its metadata to be opened");
        let identity = belonging.identity();
        let seed = u64::from_le_bytes(random()?);
        let transport = GrpcTransport::new(TransportParts {
            identity,
            address: self.introduction.me.address.clone(),
            fallbacks: fallbacks(&self.introduction.me),
            rate: self.raft.snapshot_rate,
            seed,
            runtime: Handle::current(),
        });
        let engines = Engines::of(&self.settings, &self.data, self.engine);
        let (data, raft) = (Arc::clone(&self.data), self.raft);
        let sends = Arc::new(transport.clone());
        let store = blocking(move || {
            let (log, state) = open_engines(engines, &belonging, &data)?;
            let (cluster, incarnation) = (identity.cluster, identity.incarnation);
            let namespace = Namespace::open(Arc::clone(&state), cluster, incarnation);
            let namespace = namespace.map_err(|error| fatal(FatalError::Apply(error)))?;
            let founders = match belonging.joined {
                true => Vec::new(),
                false => belonging.founding.founders.clone().into_iter().collect(),
            };
            let store = ConsensusBuilder::new(raft, identity, log, namespace, seed)
                .founding(founders)
                .snapshots(data.snapshots())
                .transport(sends)
                .start()
                .map_err(fatal)?;
            if !belonging.started {
                let started = true;
                data.settle(&Belonging {
                    started,
                    ..belonging
                })?;
            }
            Ok((store, state))
        });
        let (store, state) = store.await?;
        let store = Arc::new(store);
        transport.attach(&store);
        if store.membership().removed.contains(&identity.member) {
            // It had learnt of that before it ended, and has nobody to tell it again.
            store.removed();
        }
        self.metrics.watch_metadata(store.watch());
        let expiry = self.settings.metadata.nodes.expiry;
        let liveness = Arc::new(Liveness::new(expiry, Arc::new(SystemClock)));
        let watched = Arc::clone(&liveness);
        self.metrics.watch_nodes(watched, store.watch());
        let tickets = u64::from_le_bytes(random()?);
        let (served, alive) = (Arc::clone(&store), Arc::clone(&liveness));
        let metadata = metadata::Inner::new(served, self.sealer, alive, tickets);
        Ok(Opened {
            store,
            state,
            metadata,
            liveness,
            transport,
        })
    }
}

/// Which member this is: a folder that belongs to one is never given to another.
fn member(
    belonging: Option<&Belonging>,
    given: Option<NodeId>,
    data: &DataDir,
) -> Result<NodeId, ServerError> {
    match (belonging, given) {
        (Some(known), Some(given)) if known.member != given => Err(ServerError::DataFile {
            path: data.path().to_owned(),
            reason: format!(
                "this data folder belongs to member {} of cluster {}, and the settings say that \
                 this server is member {given}: use the folder of member {given}, an empty one, or \
                 correct cluster.member",
                known.member, known.founding.cluster
            ),
        }),
        (Some(known), _) => Ok(known.member),
        (None, given) => Ok(given.unwrap_or(NodeId::new(1))),
    }
}

/// Opens the engines; a log that is gone although this member has taken part is refused.
fn open_engines(
    engines: Engines,
    belonging: &Belonging,
    data: &DataDir,
) -> Result<crate::engines::Pair, ServerError> {
    let forgets = engines.forget() && belonging.founded_alone();
    let (log, state) = engines.open()?;
    let found = MemberIdentity::read(log.as_ref()).map_err(fatal)?;
    if belonging.started && found.is_none() && !forgets {
        return Err(ServerError::DataFile {
            path: data.log(),
            reason: format!(
                "the log of member {0} is gone, and with it its votes: bring the folder back. If it \
                 is lost and the cluster has other members, remove this one (arustio admin raft \
                 remove {0}), add a number that was never used (arustio admin raft add NEW \
                 ADDRESS), and start this server with that number and an empty data folder",
                belonging.member
            ),
        });
    }
    Ok((log, state))
}

fn fatal(error: FatalError) -> ServerError {
    ServerError::Metadata(Arc::new(error))
}

/// Has the group know the folder and the address of this member; returns why it never will.
async fn keep_bound(opened: &Opened, me: &Me) -> Unfit {
    let wanted = MemberInfo {
        address: me.address.clone(),
        instance: me.instance,
    };
    let mut members = opened.store.watch_membership();
    loop {
        let unbound = members.wait_for(|members| {
            let known = members.members.get(&me.member);
            known.is_some_and(|known| *known != wanted)
        });
        if unbound.await.is_err() {
            return std::future::pending().await;
        }
        if let Err(unfit) = bind(opened, me).await {
            return unfit;
        }
        // Applied here a little later, or refused for now.
        tokio::time::sleep(PAUSE).await;
    }
}

async fn bind(opened: &Opened, me: &Me) -> Result<(), Unfit> {
    let change = Change::Bind {
        id: me.member,
        instance: me.instance,
        address: me.address.clone(),
    };
    let (kind, reason) = match opened.store.change(change, CHANGE).await {
        Ok(_) => return Ok(()),
        Err(StoreError::NotLeader {
            leader: Some(leader),
        }) => {
            let members = opened.store.membership();
            let Some(address) = members.address(leader).map(str::to_owned) else {
                return Ok(());
            };
            match introduction::bind(&address, opened.store.identity(), me).await {
                Ok(()) => return Ok(()),
                Err(failure) => (failure.kind, failure.message),
            }
        }
        Err(StoreError::ChangeRefused { kind, reason }) => (kind, reason),
        Err(_) => return Ok(()),
    };
    match kind {
        ErrorKind::Conflict | ErrorKind::NotFound | ErrorKind::Unauthenticated => {
            Err(Unfit::new(kind, reason))
        }
        _ => {
            tracing::debug!(%kind, "not bound yet: {reason}");
            Ok(())
        }
    }
}

/// Tells people while there is no leader, and why that may be.
async fn watch_leader(opened: &Opened, me: &Me) {
    let mut status = opened.store.watch();
    loop {
        if status
            .wait_for(|status| status.leader.is_none())
            .await
            .is_err()
        {
            return std::future::pending().await;
        }
        let mut patience = PATIENCE;
        loop {
            let led = status.wait_for(|status| status.leader.is_some());
            if let Ok(led) = tokio::time::timeout(patience, led).await {
                if let Ok(led) = led
                    && let Some(leader) = led.leader.filter(|_| patience == REMIND)
                {
                    tracing::info!(%leader, "the metadata group has a leader");
                }
                break;
            }
            tracing::warn!(
                "waiting for {}",
                leaderless(&opened.store, &opened.transport)
            );
            patience = REMIND;
            if is_removed(opened, me).await {
                opened.store.removed();
            }
        }
    }
}

/// Whether a server of this cluster says that this member was removed. A member without a
/// vote asks for none, so that nobody would tell it by himself.
async fn is_removed(opened: &Opened, me: &Me) -> bool {
    let members = opened.store.membership();
    let others = members.others(me.member);
    let known = others.filter_map(|other| members.address(other));
    let listed = me.others().map(|(_, address)| address);
    let asked: BTreeSet<&str> = known.chain(listed).collect();
    let own = opened.store.identity();
    for address in asked {
        let Ok(heard) = introduction::hello(address, me).await else {
            continue;
        };
        let founding = heard.founding.unwrap_or_default();
        let same = founding.identity(me.member) == own;
        if same
            && heard
                .members
                .is_some_and(|known| known.removed.contains(&me.member))
        {
            return true;
        }
    }
    false
}

/// What a server without a leader waits for.
pub(crate) fn leaderless(store: &Consensus<Namespace>, transport: &GrpcTransport) -> String {
    let members = store.membership();
    let voters = members.voters.len();
    let silent = transport.silent().into_iter();
    let silent = silent.filter(|silent| members.is_voter(silent.member));
    let silent: Vec<_> = silent
        .map(|silent| {
            format!(
                "member {} at {} ({})",
                silent.member, silent.address, silent.why
            )
        })
        .collect();
    let mut text = format!(
        "a leader of the metadata group: {} of its {voters} voters have to run and reach one another",
        voters / 2 + 1
    );
    if voters == 0 {
        text = "the leader of the metadata group to reach this server".to_owned();
    }
    if !silent.is_empty() {
        text.push_str("; no answer from ");
        text.push_str(&silent.join(", "));
    }
    text
}
