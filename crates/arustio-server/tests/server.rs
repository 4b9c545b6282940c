//! A server in this process, on free ports, spoken to over gRPC.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::collections::BTreeSet;
use std::time::Duration;

use arustio_proto::block::v1 as block;
use arustio_proto::block::v1::block_service_client::BlockServiceClient;
use arustio_proto::convert;
use arustio_proto::failure::Failure;
use arustio_proto::meta::v1 as meta;
use arustio_proto::meta::v1::metadata_service_client::MetadataServiceClient;
use arustio_server::{Engine, Role, Server, ServerConfig, ServerError};
use arustio_types::block::BlockSize;
use arustio_types::meta::credential::{Credential, SecretOptions};
use arustio_types::meta::mount::{MountCapabilities, MountSpec};
use arustio_types::meta::{Answer, Command, Consistency, Outcome, Query, RequestContext};
use arustio_types::{BlockKey, Classify as _, ContentId, ErrorKind, FsPath, SessionId, WriteId};
use bytes::Bytes;
use tonic::transport::Channel;

const SECRET: &str = "a-secret-that-nobody-may-see";

fn small(folder: &tempfile::TempDir) -> ServerConfig {
    let mut config = ServerConfig::ephemeral(folder.path());
    config.block.memory.capacity = Some(arustio_types::ByteSize::mib(8));
    config.block.disk.capacity = Some(arustio_types::ByteSize::mib(64));
    config.block.disk.min_free = arustio_types::ByteSize::mib(1);
    config
}

async fn start(config: ServerConfig, engine: Engine) -> Result<Server, ServerError> {
    Server::start(config.validate().unwrap(), engine).await
}

async fn channel(server: &Server) -> Channel {
    let address = format!("http://{}", server.addresses().grpc);
    Channel::from_shared(address)
        .unwrap()
        .connect()
        .await
        .unwrap()
}

/// Speaks to the metadata service as a client does.
struct Client {
    service: MetadataServiceClient<Channel>,
    session: SessionId,
    sequence: u64,
}

impl Client {
    async fn connect(server: &Server) -> Self {
        let service = MetadataServiceClient::new(channel(server).await);
        let mut client = Self {
            service,
            session: SessionId::default(),
            sequence: 0,
        };
        let open = Command::OpenSession {
            nonce: 7,
            ttl: Duration::from_secs(60),
        };
        match client.propose(&open).await {
            Outcome::SessionOpened { session } => client.session = session,
            other => panic!("no session: {other:?}"),
        }
        client
    }

    async fn propose(&mut self, command: &Command) -> Outcome {
        let mut context = RequestContext::default();
        if self.session != SessionId::default() {
            self.sequence += 1;
            context.id.session = self.session;
            context.id.sequence = self.sequence;
            context.id.first_unacked = self.sequence;
        }
        context.deadline = Duration::from_secs(10);
        let request = meta::ProposeRequest {
            context: Some((&context).into()),
            command: convert::encode_command_with_secrets(command).into(),
        };
        let answer = self.service.propose(request).await.unwrap().into_inner();
        convert::decode_outcome(&answer.outcome).unwrap()
    }

    async fn query(&mut self, query: &Query) -> Answer {
        let request = meta::QueryRequest {
            consistency: Some((&Consistency::Linearizable).into()),
            query: Some(query.into()),
            ..meta::QueryRequest::default()
        };
        let answer = self.service.query(request).await.unwrap().into_inner();
        answer.answer.unwrap().try_into().unwrap()
    }
}

fn path(text: &str) -> FsPath {
    FsPath::new(text).unwrap()
}

fn mkdir(text: &str) -> Command {
    Command::Mkdir {
        path: path(text),
        parents: true,
        exist_ok: false,
        write_id: WriteId::new(1),
        proofs: Vec::new(),
    }
}

fn mount(text: &str) -> Command {
    let secrets = [("secret_access_key".to_owned(), SECRET.to_owned())];
    Command::Mount(MountSpec {
        path: path(text),
        uri: "s3://bucket/prefix".to_owned(),
        options: [].into(),
        credential: Credential::Clear(SecretOptions::new(secrets.into())),
        readonly: true,
        shared: false,
        capabilities: MountCapabilities::default(),
        bound_to: None,
    })
}

async fn get(server: &Server, path: &str) -> (u16, String) {
    let address = server.addresses().http.to_string();
    let answer = arustio_server::ask::ask(&address, path).await.unwrap();
    (answer.status, answer.text)
}

#[tokio::test]
async fn names_are_made_and_found_over_grpc() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(small(&folder), Engine::Memory).await.unwrap();
    let mut client = Client::connect(&server).await;

    let made = client.propose(&mkdir("/a/b")).await;
    assert!(matches!(made, Outcome::DirectoryMade { .. }), "{made:?}");
    let Answer::Status(status) = client.query(&Query::Stat { path: path("/a/b") }).await else {
        panic!("not found");
    };
    assert!(status.is_dir());
    let again = client.propose(&mkdir("/a/b")).await;
    let Outcome::Refused(refusal) = again else {
        panic!("{again:?}");
    };
    assert_eq!(refusal.kind, ErrorKind::AlreadyExists);

    let hello = meta::HelloRequest::default();
    let hello = client.service.hello(hello).await.unwrap().into_inner();
    assert!(hello.leading);
    assert_eq!(hello.command_format, convert::COMMAND_FORMAT);
    server.stop().await;
}

#[tokio::test]
async fn a_client_of_an_earlier_release_gets_its_listing_as_it_reads_it() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(small(&folder), Engine::Memory).await.unwrap();
    let mut client = Client::connect(&server).await;
    for dir in ["/a/b", "/a/c"] {
        client.propose(&mkdir(dir)).await;
    }
    let mut pages = Vec::new();
    for packed in [0, convert::PACKED_FORMAT] {
        let list = meta::QueryList {
            path: "/a".to_owned(),
            after: None,
            limit: 10,
            packed,
        };
        let request = meta::QueryRequest {
            query: Some(meta::Query {
                kind: Some(meta::query::Kind::List(list)),
            }),
            ..meta::QueryRequest::default()
        };
        let answer = client.service.query(request).await.unwrap().into_inner();
        let answer = answer.answer.unwrap();
        let is_packed = matches!(answer.kind, Some(meta::answer::Kind::PackedPage(_)));
        assert_eq!(is_packed, packed > 0, "{answer:?}");
        let Answer::Page(page) = Answer::try_from(answer).unwrap() else {
            panic!("no page");
        };
        pages.push(page);
    }
    let [plain, packed] = pages.as_slice() else {
        panic!("two were asked for");
    };
    assert_eq!(plain.entries.len(), 2);
    assert!(plain.entries.statuses().eq(packed.entries.statuses()));
    server.stop().await;
}

#[tokio::test]
async fn names_that_are_asked_about_together_are_answered_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(small(&folder), Engine::Memory).await.unwrap();
    let mut client = Client::connect(&server).await;
    client.propose(&mkdir("/a/b")).await;
    let stat = |name: &str| Query::Stat { path: path(name) };
    let first = stat("/a");
    let together = |more: &[Query]| meta::QueryRequest {
        query: Some((&first).into()),
        more: more.iter().map(Into::into).collect(),
        ..meta::QueryRequest::default()
    };
    let asked = together(&[stat("/a/b"), stat("/none"), stat("/")]);
    let answered = client.service.query(asked).await.unwrap().into_inner();
    let all = answered.answer.into_iter().chain(answered.more);
    let names = all.map(|answer| match Answer::try_from(answer).unwrap() {
        Answer::Status(status) => status.path.to_string(),
        Answer::Absent(absent) => format!("no {}", absent.name),
        other => panic!("neither: {other:?}"),
    });
    assert_eq!(names.collect::<Vec<_>>(), ["/a", "/a/b", "no none", "/"]);

    for (count, query) in [(64, stat("/a")), (1, Query::Mounts)] {
        let more = vec![query; count];
        let refused = client.service.query(together(&more)).await.unwrap_err();
        let failure = Failure::from(&refused);
        assert_eq!(failure.kind(), ErrorKind::InvalidArgument, "{failure:?}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_view_names_the_block_node_of_this_process() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(small(&folder), Engine::Memory).await.unwrap();
    let mut client = Client::connect(&server).await;
    let Answer::ClusterView(view) = client.query(&Query::ClusterView).await else {
        panic!("no view");
    };
    assert_eq!(view.nodes.len(), 1);
    assert_eq!(view.nodes[0].address, server.addresses().grpc.to_string());
    let data = &view.nodes[0].data;
    let frames = server.addresses().frames.unwrap().to_string();
    assert_eq!(data.frames, Some(frames));
    let socket = data.socket.as_deref().unwrap();
    assert!(std::path::Path::new(socket).exists());
    server.stop().await;
}

#[tokio::test]
async fn a_block_node_of_its_own_joins_the_view_and_leaves_it() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut config = small(&one);
    config.server.role = vec![Role::Metadata];
    let metadata = start(config, Engine::Memory).await.unwrap();
    let mut config = small(&two);
    config.server.role = vec![Role::Block];
    config.cluster.metadata = vec![metadata.addresses().grpc.to_string()];
    let blocks = start(config, Engine::Memory).await.unwrap();

    let mut client = Client::connect(&metadata).await;
    let mut seen = async |wanted: usize| {
        for _ in 0..500 {
            if let Answer::ClusterView(view) = client.query(&Query::ClusterView).await
                && view.nodes.len() == wanted
            {
                return view;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the view never had {wanted} nodes");
    };
    let view = seen(1).await;
    assert_eq!(view.nodes[0].address, blocks.addresses().grpc.to_string());
    let frames = blocks.addresses().frames.map(|frames| frames.to_string());
    assert_eq!(view.nodes[0].data.frames, frames);
    assert!(metadata.addresses().frames.is_none(), "it has no bytes");
    blocks.stop().await;
    let after = seen(0).await;
    assert!(after.epoch > view.epoch);
    metadata.stop().await;
}

#[tokio::test]
async fn c1_a_secret_is_returned_to_who_opens_the_mount_and_shown_to_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(small(&folder), Engine::Memory).await.unwrap();
    let mut client = Client::connect(&server).await;
    let outcome = client.propose(&mount("/data")).await;
    let Outcome::Mounted { entry, .. } = outcome else {
        panic!("{outcome:?}");
    };
    let answer = client.query(&Query::OpenMount { mount: entry.id }).await;
    let Answer::OpenedMount { secrets, .. } = answer else {
        panic!("{answer:?}");
    };
    assert_eq!(secrets.reveal()["secret_access_key"], SECRET);
    let Answer::Mounts(mounts) = client.query(&Query::Mounts).await else {
        panic!("no mounts");
    };
    assert_eq!(mounts[0].spec.credential, Credential::Sealed(Vec::new()));
    server.stop().await;
}

#[tokio::test]
async fn blocks_are_stored_read_and_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(small(&folder), Engine::Memory).await.unwrap();
    let mut client = BlockServiceClient::new(channel(&server).await);
    let key = BlockKey {
        content: ContentId::new(9),
        size: BlockSize::DEFAULT,
        index: 0,
    };
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|i| (i / 7) as u8).collect();

    assert!(read(&mut client, key, 0, 10).await.is_empty(), "a miss");
    let stored = write(&mut client, key, &bytes, crc32c::crc32c(&bytes)).await;
    assert_eq!(stored.outcome(), block::WriteOutcome::Stored);
    let again = write(&mut client, key, &bytes, crc32c::crc32c(&bytes)).await;
    assert_eq!(again.outcome(), block::WriteOutcome::AlreadyPresent);
    let got = read(&mut client, key, 1_000_000, 2_500_000).await;
    assert_eq!(got, bytes[1_000_000..]);

    let extent = |content: u128, blocks| block::Extent {
        content: Some(content.into()),
        size_log2: BlockSize::DEFAULT.log2().into(),
        blocks,
        first: 0,
    };
    let asked = block::CachedRequest {
        extents: vec![extent(9, 3), extent(10, 1)],
    };
    let cached = client.cached(asked).await.unwrap().into_inner();
    assert_eq!(cached.present, [3_000_000, 0]);
    let asked = block::CachedRequest {
        extents: vec![extent(9, u64::MAX), extent(9, u64::MAX)],
    };
    let refused = client.cached(asked).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
    let remove = block::RemoveRequest {
        selector: Some(block::remove_request::Selector::Block((&key).into())),
        ..block::RemoveRequest::default()
    };
    assert!(client.remove(remove).await.unwrap().into_inner().blocks >= 1);
    assert!(read(&mut client, key, 0, 10).await.is_empty());

    let wrong = BlockKey { index: 1, ..key };
    let rejected = write(&mut client, wrong, &bytes, 0).await;
    assert_eq!(rejected.outcome(), block::WriteOutcome::Rejected);
    assert!(rejected.reason.contains("checksum"), "{}", rejected.reason);
    server.stop().await;
}

async fn write(
    client: &mut BlockServiceClient<Channel>,
    key: BlockKey,
    bytes: &[u8],
    crc32c: u32,
) -> block::WriteResponse {
    use block::write_chunk::Kind;
    let header = block::WriteHeader {
        key: Some((&key).into()),
        part: Some(block::Part {
            offset: 0,
            length: bytes.len() as u64,
            crc32c,
        }),
        block_length: bytes.len() as u64,
        mount: 1,
        ..block::WriteHeader::default()
    };
    let data = bytes
        .chunks(1 << 20)
        .map(Bytes::copy_from_slice)
        .map(Kind::Data);
    let kinds: Vec<_> = std::iter::once(Kind::Header(header)).chain(data).collect();
    let chunks = kinds
        .into_iter()
        .map(|kind| block::WriteChunk { kind: Some(kind) });
    let chunks = tokio_stream::iter(chunks.collect::<Vec<_>>());
    client.write(chunks).await.unwrap().into_inner()
}

async fn read(
    client: &mut BlockServiceClient<Channel>,
    key: BlockKey,
    offset: u64,
    length: u64,
) -> Vec<u8> {
    use block::read_chunk::Kind;
    let request = block::ReadRequest {
        key: Some((&key).into()),
        range: Some(block::ByteRange { offset, length }),
        epoch: 0,
        fill: None,
    };
    let mut chunks = client.read(request).await.unwrap().into_inner();
    let mut parts = Vec::new();
    let mut bytes = Vec::new();
    while let Some(chunk) = chunks.message().await.unwrap() {
        match chunk.kind.unwrap() {
            Kind::Header(header) => parts = header.parts,
            Kind::Data(data) => bytes.extend_from_slice(&data),
        }
    }
    let mut at = 0;
    for part in parts {
        let end = at + part.length as usize;
        assert_eq!(crc32c::crc32c(&bytes[at..end]), part.crc32c);
        at = end;
    }
    assert_eq!(at, bytes.len());
    bytes
}

#[tokio::test]
async fn nonsense_is_answered_with_a_kind() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(small(&folder), Engine::Memory).await.unwrap();
    let mut client = MetadataServiceClient::new(channel(&server).await);
    let request = meta::ProposeRequest {
        context: Some((&RequestContext::default()).into()),
        command: Bytes::from_static(b"\xff\xff\xff"),
    };
    let failure = Failure::from(&client.propose(request).await.unwrap_err());
    assert!(failure.answered);
    assert_eq!(failure.kind, ErrorKind::InvalidArgument);
    let context = RequestContext {
        cluster: arustio_types::ClusterId::new(1),
        ..RequestContext::default()
    };
    let request = meta::ProposeRequest {
        context: Some((&context).into()),
        command: convert::encode_command(&mkdir("/a")).unwrap().into(),
    };
    let failure = Failure::from(&client.propose(request).await.unwrap_err());
    assert_eq!(failure.kind, ErrorKind::Stale);
    server.stop().await;
}

#[tokio::test]
async fn health_metrics_and_version_are_served() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(small(&folder), Engine::Memory).await.unwrap();
    Client::connect(&server).await;
    assert_eq!(get(&server, "/healthz").await.0, 200);
    assert_eq!(get(&server, "/readyz").await.0, 200);
    assert!(
        get(&server, "/version")
            .await
            .1
            .contains(env!("CARGO_PKG_VERSION"))
    );
    let (status, text) = get(&server, "/metrics").await;
    assert_eq!(status, 200);
    for name in [
        "arustio_server_requests_total{method=\"propose\",kind=\"ok\"}",
        "arustio_block_hits_total{tier=\"memory\"} 0",
        "arustio_block_fills_granted_total 0",
        "arustio_block_capacity_bytes{tier=\"disk\"} 67108864",
        "arustio_meta_leading 1",
    ] {
        assert!(text.contains(name), "{name} is missing in {text}");
    }
    server.stop().await;
}

/// Names that stand in the table of the operators' handbook.
fn documented() -> BTreeSet<String> {
    let text = include_str!("../../../docs/operations.md");
    let row = |line: &str| {
        let name = line.strip_prefix("| `arustio_")?.split('`').next()?;
        Some(format!("arustio_{name}"))
    };
    text.lines().filter_map(row).collect()
}

/// Names that are told, as they are asked for: counters with what OpenMetrics adds.
fn exported(text: &str) -> BTreeSet<String> {
    let family = |line: &str| {
        let (name, kind) = line.strip_prefix("# TYPE ")?.split_once(' ')?;
        let total = if kind == "counter" { "_total" } else { "" };
        Some(format!("{name}{total}"))
    };
    text.lines().filter_map(family).collect()
}

#[tokio::test]
async fn every_metric_is_documented_and_every_documented_metric_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(small(&folder), Engine::Memory).await.unwrap();
    let mut client = Client::connect(&server).await;
    client.query(&Query::ClusterView).await;
    let (_, text) = get(&server, "/metrics").await;
    assert_eq!(exported(&text), documented());
    for line in [
        "arustio_server_nodes{state=\"registered\"} 1",
        "arustio_server_nodes{state=\"live\"} 1",
        "arustio_server_nodes{state=\"draining\"} 0",
        "arustio_server_block_bytes_total{wire=\"passed\",direction=\"out\"} 0",
        "arustio_server_block_connections{wire=\"tcp\"} 0",
    ] {
        assert!(text.contains(line), "{line} is missing in {text}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_second_server_on_the_same_folder_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(small(&folder), Engine::Memory).await.unwrap();
    let error = start(small(&folder), Engine::Memory).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    let pid = std::process::id().to_string();
    assert!(error.to_string().contains(&pid), "{error}");
    server.stop().await;
    start(small(&folder), Engine::Memory)
        .await
        .unwrap()
        .stop()
        .await;
}

#[cfg(feature = "rocksdb")]
#[tokio::test]
async fn a_restart_keeps_everything_and_no_file_holds_a_secret() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(small(&folder), Engine::Rocks).await.unwrap();
    let mut client = Client::connect(&server).await;
    client.propose(&mkdir("/kept")).await;
    let Outcome::Mounted { entry, .. } = client.propose(&mount("/data")).await else {
        panic!("not mounted");
    };
    server.stop().await;
    assert_no_file_has(folder.path(), SECRET.as_bytes());

    let server = start(small(&folder), Engine::Rocks).await.unwrap();
    let mut client = Client::connect(&server).await;
    let kept = client
        .query(&Query::Stat {
            path: path("/kept"),
        })
        .await;
    assert!(matches!(kept, Answer::Status(_)), "{kept:?}");
    let answer = client.query(&Query::OpenMount { mount: entry.id }).await;
    let Answer::OpenedMount { secrets, .. } = answer else {
        panic!("{answer:?}");
    };
    assert_eq!(secrets.reveal()["secret_access_key"], SECRET);
    let Answer::ClusterView(view) = client.query(&Query::ClusterView).await else {
        panic!("no view");
    };
    assert_eq!(view.nodes.len(), 1, "the node kept its number");
    assert_eq!(view.nodes[0].address, server.addresses().grpc.to_string());
    server.stop().await;
}

#[cfg(feature = "rocksdb")]
fn assert_no_file_has(folder: &std::path::Path, secret: &[u8]) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            assert_no_file_has(&path, secret);
            continue;
        }
        let bytes = std::fs::read(&path).unwrap();
        let found = bytes.windows(secret.len()).any(|part| part == secret);
        assert!(!found, "{} holds the secret", path.display());
    }
}
