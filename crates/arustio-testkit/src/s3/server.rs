//! The server as a value: settings, start, access, stop.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use s3s::auth::SecretKey;
use s3s::path::check_bucket_name;
use s3s::service::{S3Service, S3ServiceBuilder as ServiceBuilder};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::backdoor::Backdoor;
use super::connection;
use super::control::{self, Control};
use super::faults::Faults;
use super::front::Front;
use super::gate::{Gate, OneKey};
use super::service::Service;
use super::stats::Stats;
use super::store::Store;

/// Whose habits the server follows where stores differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Profile {
    /// Every condition is obeyed.
    #[default]
    Aws,
    /// `DELETE` ignores its condition and deletes, `CopyObject` ignores the
    /// condition on its destination, an upload under a key that ends in `/` is
    /// refused, and a listing that starts inside a group skips that group. Conditions of `PUT`, of a copy's source and of
    /// completing an upload are obeyed.
    Minio,
}

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address could not be taken.
    #[error("cannot listen on {address}: {source}; choose another address, or port 0")]
    Listen {
        /// What was asked for.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// A bucket's name is none.
    #[error(
        "{name:?} cannot name a bucket: 3 to 63 lower-case letters, digits, dots and hyphens can"
    )]
    BucketName {
        /// The name.
        name: String,
    },
}

/// The settings of a server that is not started yet.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use arustio_testkit::s3::{Profile, S3Server};
///
/// let server = S3Server::builder()
///     .profile(Profile::Minio)
///     .bucket("data")
///     .start()
///     .await?;
/// server.backdoor().put("data", "hello", "world");
/// assert!(server.endpoint().starts_with("http://127.0.0.1:"));
/// server.stop().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct S3ServerBuilder {
    profile: Profile,
    access_key: String,
    secret_key: String,
    buckets: Vec<String>,
    listen: SocketAddr,
    control_listen: Option<SocketAddr>,
    min_part_bytes: u64,
}

impl fmt::Debug for S3ServerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3ServerBuilder")
            .field("profile", &self.profile)
            .field("buckets", &self.buckets)
            .field("listen", &self.listen)
            .finish_non_exhaustive()
    }
}

impl S3ServerBuilder {
    /// Whose habits it follows; [`Profile::Aws`] unless said otherwise.
    #[must_use]
    pub fn profile(mut self, profile: Profile) -> Self {
        self.profile = profile;
        self
    }

    /// The one pair of keys that is let in; `test` and `test-secret` unless
    /// said otherwise.
    #[must_use]
    pub fn credentials(
        mut self,
        access_key: impl Into<String>,
        secret_key: impl Into<String>,
    ) -> Self {
        self.access_key = access_key.into();
        self.secret_key = secret_key.into();
        self
    }

    /// A bucket that is there from the start; may be called again.
    #[must_use]
    pub fn bucket(mut self, name: impl Into<String>) -> Self {
        self.buckets.push(name.into());
        self
    }

    /// Where to listen; a free port of 127.0.0.1 unless said otherwise.
    #[must_use]
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.listen = address;
        self
    }

    /// Serves the counters there as well: `GET /stats`, `POST /reset`.
    #[must_use]
    pub fn stats_listen(mut self, address: SocketAddr) -> Self {
        self.control_listen = Some(address);
        self
    }

    /// The least size of every part but the last; 5 MiB as in S3 unless said
    /// otherwise.
    #[must_use]
    pub fn min_part_bytes(mut self, bytes: u64) -> Self {
        self.min_part_bytes = bytes;
        self
    }

    /// Starts the server on the current tokio runtime.
    ///
    /// # Errors
    ///
    /// If an address cannot be taken or a bucket's name is none.
    pub async fn start(self) -> Result<S3Server, StartError> {
        if let Some(name) = self.buckets.iter().find(|name| !check_bucket_name(name)) {
            return Err(StartError::BucketName { name: name.clone() });
        }
        let (listener, address) = bind(self.listen).await?;
        let control = match self.control_listen {
            Some(address) => Some(bind(address).await?),
            None => None,
        };
        let store = Arc::new(Store::new(self.profile, self.min_part_bytes));
        for name in &self.buckets {
            store.create_bucket(name);
        }
        let (faults, stats) = (Faults::default(), Stats::new());
        let front = Front {
            service: self.service(&store, &faults),
            stats: stats.clone(),
            tasks: TaskTracker::new(),
            stopping: CancellationToken::new(),
        };
        let server = S3Server {
            address,
            control_address: control.as_ref().map(|(_, address)| *address),
            store,
            stats,
            faults,
            tasks: front.tasks.clone(),
            stopping: front.stopping.clone(),
        };
        server.run(listener, front, control.map(|(listener, _)| listener));
        Ok(server)
    }

    fn service(self, store: &Arc<Store>, faults: &Faults) -> S3Service {
        let mut builder = ServiceBuilder::new(Service {
            store: Arc::clone(store),
        });
        builder.set_auth(OneKey {
            access_key: self.access_key,
            secret_key: SecretKey::from(self.secret_key),
        });
        builder.set_access(Gate {
            faults: faults.clone(),
        });
        builder.build()
    }
}

async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let bound = async {
        let listener = TcpListener::bind(address).await?;
        // One congestion control for all that is compared, whatever the machine's default.
        let _ = rustix::net::sockopt::set_tcp_congestion(&listener, "cubic");
        let local = listener.local_addr()?;
        Ok((listener, local))
    };
    bound
        .await
        .map_err(|source| StartError::Listen { address, source })
}

/// A running server. Dropping it stops it without waiting.
#[derive(Debug)]
pub struct S3Server {
    address: SocketAddr,
    control_address: Option<SocketAddr>,
    store: Arc<Store>,
    stats: Stats,
    faults: Faults,
    tasks: TaskTracker,
    stopping: CancellationToken,
}

impl S3Server {
    /// The settings of a new server.
    #[must_use]
    pub fn builder() -> S3ServerBuilder {
        S3ServerBuilder {
            profile: Profile::default(),
            access_key: "test".to_owned(),
            secret_key: "test-secret".to_owned(),
            buckets: Vec::new(),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            control_listen: None,
            min_part_bytes: 5 << 20,
        }
    }

    fn run(&self, listener: TcpListener, front: Front, control: Option<TcpListener>) {
        let serving = Control {
            stats: self.stats.clone(),
            tasks: self.tasks.clone(),
            stopping: self.stopping.clone(),
        };
        drop(self.tasks.spawn(connection::accept(listener, front)));
        if let Some(listener) = control {
            drop(self.tasks.spawn(control::serve(listener, serving)));
        }
    }

    /// Where it listens, as a URL without a slash at the end.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where the counters are served, if they are.
    #[must_use]
    pub fn stats_endpoint(&self) -> Option<String> {
        self.control_address
            .map(|address| format!("http://{address}"))
    }

    /// The counters.
    #[must_use]
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// The faults; there are none at the start.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// The objects, without HTTP.
    #[must_use]
    pub fn backdoor(&self) -> Backdoor {
        Backdoor::new(Arc::clone(&self.store))
    }

    /// Stops accepting, gives answers under way a second, ends every task and
    /// waits for all of them.
    pub async fn stop(self) {
        self.stopping.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        self.stopping.cancel();
    }
}
