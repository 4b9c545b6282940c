//! What the daemon counts, and the text in which it is read.
//!
//! Names are `arustio_<crate>_<thing>_<unit>`; labels are bounded: methods, kinds of
//! failure, tiers, ways, states. Never a path. All of them stand in a table of
//! `docs/operations.md`, and a test compares the two.

mod clients;
mod traffic;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arustio_block::{BlockStore, Fills};
use arustio_meta::store::{Role, StoreStatus};
use arustio_types::ErrorKind;
use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use tokio::sync::watch;

use self::clients::Clients;
use self::traffic::BlockTraffic;
pub(crate) use self::traffic::{Opened, Traffic, Way};
use crate::data::Lending;
use crate::view::{Liveness, NodeStates};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    method: &'static str,
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MethodLabel {
    method: &'static str,
}

type Seconds = Family<MethodLabel, Histogram>;

/// The counters of one server.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
    requests: Family<RequestLabels, Counter>,
    seconds: Seconds,
    traffic: BlockTraffic,
    clients: Clients,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    /// Counters at zero.
    pub fn new() -> Self {
        let mut registry = Registry::default();
        let requests = Family::default();
        // From 50 µs to 26 s.
        let seconds =
            Seconds::new_with_constructor(|| Histogram::new(exponential_buckets(5e-5, 2.0, 20)));
        registry.register(
            "arustio_server_requests",
            "Requests by method and kind of failure; ok is none",
            requests.clone(),
        );
        registry.register_with_unit(
            "arustio_server_request",
            "Time to the answer, or to the first byte of a stream",
            Unit::Seconds,
            seconds.clone(),
        );
        let traffic = BlockTraffic::register(&mut registry);
        let clients = Clients::register(&mut registry);
        Self {
            registry: Arc::new(Mutex::new(registry)),
            traffic,
            clients,
            requests,
            seconds,
        }
    }

    /// Counts an answered request, and how long its answer took.
    pub(crate) fn request(&self, method: &'static str, failed: Option<ErrorKind>, took: Duration) {
        self.ended(method, failed);
        self.seconds
            .get_or_create(&MethodLabel { method })
            .observe(took.as_secs_f64());
    }

    /// Counts a request that lasts as long as its sender likes: how long says nothing.
    pub(crate) fn ended(&self, method: &'static str, failed: Option<ErrorKind>) {
        let kind = failed.map_or("ok", ErrorKind::name);
        self.requests
            .get_or_create(&RequestLabels { method, kind })
            .inc();
    }

    /// The counters of block bytes that go one way.
    pub(crate) fn traffic(&self, way: Way) -> Traffic {
        self.traffic.of(way)
    }

    /// What clients tell of themselves.
    pub(crate) fn clients(&self) -> &Clients {
        &self.clients
    }

    /// Shows what clients have descriptors of, too.
    pub(crate) fn watch_lending(&self, lending: Lending) {
        let collector = Box::new(Lent(lending));
        self.registry.lock().register_collector(collector);
    }

    /// Shows which block nodes live, too, while this member leads.
    pub(crate) fn watch_nodes(
        &self,
        liveness: Arc<Liveness>,
        status: watch::Receiver<StoreStatus>,
    ) {
        let collector = Box::new(Nodes { liveness, status });
        self.registry.lock().register_collector(collector);
    }

    /// Shows the tiers of a block store, too.
    pub(crate) fn watch_blocks(&self, store: Arc<dyn BlockStore>) {
        let collector = Box::new(Blocks(store));
        self.registry.lock().register_collector(collector);
    }

    /// Shows what became of leases, too.
    pub(crate) fn watch_fills(&self, fills: Arc<Fills>) {
        let collector = Box::new(Leases(fills));
        self.registry.lock().register_collector(collector);
    }

    /// Shows the state of the metadata node, too.
    pub(crate) fn watch_metadata(&self, status: watch::Receiver<StoreStatus>) {
        let collector = Box::new(Metadata(status));
        self.registry.lock().register_collector(collector);
    }

    /// Everything in the OpenMetrics text format.
    pub fn text(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry.lock())?;
        Ok(text)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

#[derive(Debug)]
struct Blocks(Arc<dyn BlockStore>);

impl Collector for Blocks {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let tiers = self.0.metrics();
        let names = tiers.first().into_iter().flat_map(|tier| tier.values());
        for (position, (name, _)) in names.enumerate() {
            let short = name.trim_end_matches("_total");
            let kind = prometheus_client::metrics::MetricType::Counter;
            let mut family =
                encoder.encode_descriptor(short, "Counted by the block cache", None, kind)?;
            for tier in &tiers {
                let Some((_, value)) = tier.values().nth(position) else {
                    continue;
                };
                let labels = [("tier", tier.tier.name())];
                ConstCounter::new(value).encode(family.encode_family(&labels)?)?;
            }
        }
        self.usage(encoder)
    }
}

/// What a gauge shows of a tier.
type OfTier = fn(&arustio_block::TierUsage) -> u64;

impl Blocks {
    fn usage(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let usage = self.0.usage();
        let gauges: [(&str, &str, OfTier); 5] = [
            (
                "arustio_block_capacity_bytes",
                "Bytes that a tier may use",
                |tier| tier.capacity,
            ),
            (
                "arustio_block_used_bytes",
                "Bytes that a tier uses",
                |tier| tier.used,
            ),
            ("arustio_block_blocks", "Blocks in a tier", |tier| {
                tier.blocks
            }),
            (
                "arustio_block_pinned_bytes",
                "Bytes that may not be evicted",
                |tier| tier.pinned,
            ),
            (
                "arustio_block_directories_off",
                "Directories that take no writes at the moment or are switched off",
                |tier| tier.off,
            ),
        ];
        for (name, help, value) in gauges {
            let kind = prometheus_client::metrics::MetricType::Gauge;
            let mut family = encoder.encode_descriptor(name, help, None, kind)?;
            for tier in &usage {
                let labels = [("tier", tier.tier.name())];
                let value = i64::try_from(value(tier)).unwrap_or(i64::MAX);
                ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Leases(Arc<Fills>);

impl Collector for Leases {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let kind = prometheus_client::metrics::MetricType::Counter;
        for (name, value) in self.0.metrics().values() {
            let short = name.trim_end_matches("_total");
            let help = "Leases of clients that bring what is missing";
            let encoder = encoder.encode_descriptor(short, help, None, kind)?;
            ConstCounter::new(value).encode(encoder)?;
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Lent(Lending);

impl Collector for Lent {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let (name, help) = (
            "arustio_server_block_lent_bytes",
            "Bytes of blocks whose descriptors clients have",
        );
        let kind = prometheus_client::metrics::MetricType::Gauge;
        let mut family = encoder.encode_descriptor(name, help, None, kind)?;
        for (tier, bytes) in self.0.lent() {
            let value = i64::try_from(bytes).unwrap_or(i64::MAX);
            let labels = [("tier", tier.name())];
            ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Nodes {
    liveness: Arc<Liveness>,
    status: watch::Receiver<StoreStatus>,
}

impl Collector for Nodes {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let status = *self.status.borrow();
        let states = match status.role == Role::Leader {
            true => self.liveness.states(status.term),
            false => NodeStates::default(),
        };
        let (name, help) = (
            "arustio_server_nodes",
            "Block nodes as the leader sees them; 0 on other members",
        );
        let kind = prometheus_client::metrics::MetricType::Gauge;
        let mut family = encoder.encode_descriptor(name, help, None, kind)?;
        for (state, count) in [
            ("registered", states.registered),
            ("live", states.live),
            ("draining", states.draining),
        ] {
            let value = i64::try_from(count).unwrap_or(i64::MAX);
            ConstGauge::new(value).encode(family.encode_family(&[("state", state)])?)?;
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Metadata(watch::Receiver<StoreStatus>);

impl Collector for Metadata {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let status = *self.0.borrow();
        let gauges = [
            (
                "arustio_meta_leading",
                "1 while this member leads",
                u64::from(status.role == Role::Leader),
            ),
            ("arustio_meta_term", "The current term", status.term),
        ];
        for (name, help, value) in gauges {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            let encoder = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
            gauge.encode(encoder)?;
        }
        Ok(())
    }
}
