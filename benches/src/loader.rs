//! Fills the namespace without a store: merges, proposed through the client library's
//! seam to the metadata service, as a listing of a store would bring them.
//!
//! Names and identities come from one seed, so that two runs load the same: names as data
//! sets have them, identities as S3 states them (32 hexadecimal digits, which do not
//! compress well).

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use arustio_client::ClientConfig;
use arustio_client::entropy::Entropy;
use arustio_client::metadata::{ClusterIdentity, MetadataClient, RemoteMetadata};
use arustio_proto::convert;
use arustio_proto::meta::v1 as wire;
use arustio_types::meta::command::Principal;
use arustio_types::meta::merge::{KeyRange, MAX_MERGE, Merge, MergeEntry, MergeKind};
use arustio_types::meta::{
    Answer, Command, Consistency, FileStatus, Outcome, Query, RequestContext,
};
use arustio_types::{
    FsPath, LogIndex, ObjectVersion, RequestId, SessionId, SystemClock, Timestamp, WallClock as _,
    WriteId,
};
use futures::future::try_join_all;
use prost::Message as _;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::echo::Sizes;

/// Merges under way at a time.
const AT_ONCE: usize = 8;
/// How long one merge may take, repeats included.
const DEADLINE: Duration = Duration::from_secs(60);

/// Time that a session lives without being renewed: longer than any load.
const SESSION: Duration = Duration::from_secs(6 * 60 * 60);

/// A client of the metadata service alone.
#[derive(Debug)]
pub(crate) struct Loader {
    metadata: RemoteMetadata,
    identity: ClusterIdentity,
}

impl Loader {
    /// Connects.
    pub(crate) async fn connect(address: &str) -> Result<Self> {
        let config = ClientConfig {
            addresses: vec![address.to_owned()],
            ..ClientConfig::default()
        };
        let entropy = Arc::new(Entropy::from_os());
        let metadata = RemoteMetadata::new(&config, Principal::default(), entropy)?;
        let identity = metadata.identity().await?;
        Ok(Self { metadata, identity })
    }

    /// What stands under a name.
    pub(crate) async fn stat(&self, path: &FsPath) -> Result<FileStatus> {
        match self.ask(path).await? {
            Answer::Status(status) => Ok(status),
            other => bail!("{path}: {other:?}"),
        }
    }

    async fn ask(&self, path: &FsPath) -> Result<Answer> {
        let query = Query::Stat { path: path.clone() };
        Ok(self
            .metadata
            .query(query, Consistency::Linearizable)
            .await?)
    }

    /// Bytes of a stat and of its answer, as they travel.
    pub(crate) async fn stat_sizes(&self) -> Result<Sizes> {
        let path = FsPath::new("/bench-00000000")?;
        let query = Query::Stat { path };
        let request = wire::QueryRequest {
            consistency: Some((&Consistency::Linearizable).into()),
            query: Some((&query).into()),
            principal: Some((&Principal::default()).into()),
            deadline_millis: 30_000,
            more: Vec::new(),
        };
        let status = self.made(&FsPath::new("/bench-sizes")?).await?;
        let response = wire::QueryResponse {
            answer: Some((&Answer::Status(status)).into()),
            more: Vec::new(),
        };
        Ok(Sizes {
            request: request.encoded_len(),
            answer: response.encoded_len(),
        })
    }

    /// Bytes of a creation and of its answer as they travel, and of its entry in the log.
    pub(crate) async fn create_sizes(&self) -> Result<(Sizes, usize)> {
        let status = self.made(&FsPath::new("/bench-sizes-1000")?).await?;
        let outcome = Outcome::DirectoryMade {
            status,
            effects: Vec::new(),
        };
        let command = mkdir(&FsPath::new("/bench-00000000/100-1000")?);
        let mut context = self.context();
        context.id = RequestId {
            session: SessionId::new(1_000),
            sequence: 10_000,
            first_unacked: 9_990,
        };
        let entry = convert::encode_entry(&context, &command)?;
        let request = wire::ProposeRequest {
            context: Some((&context).into()),
            command: convert::encode_command_with_secrets(&command).into(),
        };
        let response = wire::ProposeResponse {
            outcome: convert::encode_outcome(&outcome).into(),
            position: 100_000,
        };
        let sizes = Sizes {
            request: request.encoded_len(),
            answer: response.encoded_len(),
        };
        Ok((sizes, entry.len()))
    }

    fn context(&self) -> RequestContext {
        RequestContext {
            cluster: self.identity.cluster,
            incarnation: self.identity.incarnation,
            deadline: DEADLINE,
            now: SystemClock.now(),
            ..RequestContext::default()
        }
    }

    /// Makes a directory outside mounts, or finds it; its status.
    async fn made(&self, path: &FsPath) -> Result<FileStatus> {
        let mut session = self.session().await?;
        let made = session.propose(&mkdir(path)).await?;
        session.close().await?;
        match made {
            Outcome::DirectoryMade { status, .. } => Ok(status),
            other => bail!("{path}: {other:?}"),
        }
    }

    async fn session(&self) -> Result<Session<'_>> {
        let open = Command::OpenSession {
            nonce: rand::random(),
            ttl: SESSION,
        };
        let context = self.context();
        match self.metadata.propose(&context, &open).await?.outcome {
            Outcome::SessionOpened { session } => Ok(Session {
                loader: self,
                id: session,
                sequence: 0,
            }),
            other => bail!("opening a session: {other:?}"),
        }
    }

    async fn position(&self) -> Result<LogIndex> {
        match self
            .metadata
            .query(Query::Identity, Consistency::Linearizable)
            .await?
        {
            Answer::Identity { applied, .. } => Ok(applied),
            other => bail!("asking for the position: {other:?}"),
        }
    }

    /// Fills a directory of a mount with files `from..to`; afterwards it counts as
    /// listed completely.
    pub(crate) async fn files(&self, dir: &FsPath, files: Range<u64>) -> Result<()> {
        let mut session = self.session().await?;
        self.files_in(&mut session, dir, files).await?;
        session.close().await
    }

    async fn files_in(
        &self,
        session: &mut Session<'_>,
        dir: &FsPath,
        files: Range<u64>,
    ) -> Result<()> {
        let page = MAX_MERGE as u64;
        let starts = files.clone().step_by(MAX_MERGE);
        let pages = starts.map(|start| {
            let end = files.end.min(start + page);
            let entries: Vec<_> = (start..end).map(file).collect();
            let range = KeyRange {
                from: match start == files.start {
                    true => String::new(),
                    false => name(start),
                },
                to: (end < files.end).then(|| name(end)),
            };
            (range, entries)
        });
        self.merge(session, dir, pages).await
    }

    /// Makes directories `dir-000000...` in a directory of a mount.
    pub(crate) async fn directories(&self, dir: &FsPath, count: u64) -> Result<()> {
        let starts = (0..count).step_by(MAX_MERGE);
        let pages = starts.map(|start| {
            let end = count.min(start + MAX_MERGE as u64);
            let entries = (start..end).map(|n| MergeEntry {
                name: directory(n),
                kind: MergeKind::Directory { marker: None },
            });
            let range = KeyRange {
                from: match start {
                    0 => String::new(),
                    start => directory(start),
                },
                to: (end < count).then(|| directory(end)),
            };
            (range, entries.collect())
        });
        let mut session = self.session().await?;
        self.merge(&mut session, dir, pages).await?;
        session.close().await
    }

    /// Fills directories `directory(n)` of `dir` with `each` files.
    pub(crate) async fn tree(
        &self,
        dir: &FsPath,
        directories: Range<u64>,
        each: u64,
    ) -> Result<()> {
        let workers = (0..AT_ONCE as u64).map(|worker| {
            let mine = (directories.start + worker..directories.end).step_by(AT_ONCE);
            self.directories_in(dir, mine, each)
        });
        try_join_all(workers).await.map(drop)
    }

    async fn directories_in(
        &self,
        dir: &FsPath,
        mine: impl Iterator<Item = u64>,
        each: u64,
    ) -> Result<()> {
        let mut session = self.session().await?;
        for n in mine {
            let dir = dir.join(&directory(n))?;
            let files = n * each..(n + 1) * each;
            self.files_in(&mut session, &dir, files).await?;
        }
        session.close().await
    }

    async fn merge(
        &self,
        session: &mut Session<'_>,
        dir: &FsPath,
        pages: impl Iterator<Item = (KeyRange, Vec<MergeEntry>)>,
    ) -> Result<()> {
        let status = self.stat(dir).await?;
        let mount = status.mount.context("the directory lies in no mount")?;
        let seen = self.position().await?;
        // One at a time: pages that come in order make a directory known as a whole, and
        // what one of them holds is much larger than what is waited for.
        for (range, entries) in pages {
            let count = entries.len() as u64;
            let merge = Command::Merge(Merge {
                dir: dir.clone(),
                dir_inode: status.inode,
                mount,
                seen,
                range,
                entries,
            });
            match session.propose(&merge).await? {
                Outcome::Merged(report) => {
                    ensure!(
                        report.added == count,
                        "{dir}: {report:?}, not {count} added"
                    );
                }
                other => bail!("{dir}: {other:?}"),
            }
        }
        Ok(())
    }
}

/// Requests of one session, one after the other.
#[derive(Debug)]
struct Session<'a> {
    loader: &'a Loader,
    id: SessionId,
    sequence: u64,
}

impl Session<'_> {
    async fn propose(&mut self, command: &Command) -> Result<Outcome> {
        self.sequence += 1;
        let mut context = self.loader.context();
        context.id = RequestId {
            session: self.id,
            sequence: self.sequence,
            first_unacked: self.sequence,
        };
        let metadata = &self.loader.metadata;
        Ok(metadata.propose(&context, command).await?.outcome)
    }

    async fn close(mut self) -> Result<()> {
        self.propose(&Command::CloseSession).await.map(drop)
    }
}

fn mkdir(path: &FsPath) -> Command {
    Command::Mkdir {
        path: path.clone(),
        parents: false,
        exist_ok: true,
        write_id: WriteId::new(u128::MAX),
        proofs: Vec::new(),
    }
}

/// The name of the n-th directory.
pub(crate) fn directory(n: u64) -> String {
    format!("part-{n:06}")
}

fn name(n: u64) -> String {
    format!("sample-{n:010}.parquet")
}

fn file(n: u64) -> MergeEntry {
    let mut rng = SmallRng::seed_from_u64(n);
    let identity: u128 = rng.random();
    MergeEntry {
        name: name(n),
        kind: MergeKind::File {
            size: rng.random_range(1..1 << 27),
            version: ObjectVersion::new(&format!("{identity:032x}")),
            modified: Timestamp::from_millis(1_760_000_000_000 + rng.random_range(0..86_400_000)),
            write_id: None,
        },
    }
}
