//! Loading on a miss: how often the source is asked, and who gets what.

use arustio_types::{ByteSize, Classify, ObjectVersion, SystemClock, UfsKey};
use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::*;
use crate::memory::MemoryTier;
use crate::testing::{config, content_bytes, small_key};
use crate::{BlockConfig, Machine, NoopStore};

const LEN: u64 = 300 << 10;
const CELL: u64 = 32 << 10;

/// Counts what it is asked for, and answers when it is let.
#[derive(Debug)]
struct Counting {
    asked: Mutex<Vec<Range<u64>>>,
    let_go: Semaphore,
    answer: Result<(), SourceError>,
}

impl Counting {
    fn new(let_go: usize, answer: Result<(), SourceError>) -> Arc<Self> {
        Arc::new(Self {
            asked: Mutex::default(),
            let_go: Semaphore::new(let_go),
            answer,
        })
    }
}

#[async_trait]
impl BlockSource for Counting {
    async fn fetch(&self, request: &FetchRequest) -> Result<Bytes, SourceError> {
        self.asked.lock().push(request.range.clone());
        self.let_go.acquire().await.expect("never closed").forget();
        self.answer.clone()?;
        let len = request.range.end - request.range.start;
        let start = request.key.start() + request.range.start;
        Ok(content_bytes(request.key.content, start, len))
    }
}

fn node(store: Arc<dyn BlockStore>, source: &Arc<Counting>) -> Arc<BlockNode> {
    let mut config = BlockConfig::default();
    config.fetch.min_fetch = ByteSize(CELL);
    let machine = Machine {
        memory: ByteSize(0),
        disk_free: ByteSize(0),
        disk_before: None,
        descriptors: 1024,
    };
    let checked = config.validate(&machine).unwrap();
    let source = Arc::clone(source) as Arc<dyn BlockSource>;
    Arc::new(BlockNode::new(store, Some(source), &checked.fetch))
}

fn memory() -> Arc<dyn BlockStore> {
    let config = config(4 << 20, 0);
    Arc::new(MemoryTier::new(&config.memory, Arc::new(SystemClock)))
}

fn fetch(range: Range<u64>) -> Fetch {
    Fetch {
        key: BlockKey {
            size: arustio_types::BlockSize::DEFAULT,
            ..small_key(1, 0)
        },
        range,
        content_len: LEN,
        mount: MountId::new(1),
        source: Source {
            key: UfsKey::new("a"),
            version: ObjectVersion::new("etag"),
        },
    }
}

fn check(parts: &Parts, range: Range<u64>) {
    assert!(parts.covers(&range), "{parts:?}");
    for part in &parts.parts {
        assert!(part.verify());
        let len = part.bytes.len() as u64;
        assert_eq!(
            part.bytes,
            content_bytes(fetch(0..0).key.content, part.range.start, len)
        );
    }
}

#[tokio::test]
async fn many_readers_of_a_cold_range_cost_one_fetch() {
    for store in [memory(), Arc::new(NoopStore) as Arc<dyn BlockStore>] {
        let source = Counting::new(0, Ok(()));
        let node = node(store, &source);
        let readers: Vec<_> = (0..50)
            .map(|_| {
                let node = Arc::clone(&node);
                tokio::spawn(async move { node.fetch(&fetch(10..CELL + 10)).await })
            })
            .collect();
        while source.asked.lock().is_empty() {
            tokio::task::yield_now().await;
        }
        source.let_go.add_permits(1);
        for reader in readers {
            check(&reader.await.unwrap().unwrap(), 10..CELL + 10);
        }
        let asked = source.asked.lock().clone();
        assert!(matches!(&asked[..], [range] if *range == (0..2 * CELL)));
        node.close().await;
    }
}

#[tokio::test]
async fn only_what_is_missing_and_not_under_way_is_fetched() {
    let source = Counting::new(2, Ok(()));
    let node = node(memory(), &source);
    check(
        &node.fetch(&fetch(CELL..CELL + 1)).await.unwrap(),
        CELL..CELL + 1,
    );
    let first = tokio::spawn({
        let node = Arc::clone(&node);
        async move { node.fetch(&fetch(3 * CELL..4 * CELL)).await }
    });
    source.let_go.forget_permits(1);
    while source.asked.lock().len() < 2 {
        tokio::task::yield_now().await;
    }
    source.let_go.add_permits(4);
    check(&node.fetch(&fetch(0..LEN)).await.unwrap(), 0..LEN);
    first.await.unwrap().unwrap();
    let mut bytes = vec![0; LEN as usize];
    for range in source.asked.lock().iter() {
        for byte in range.clone() {
            bytes[byte as usize] += 1;
        }
    }
    assert!(bytes.iter().all(|asked| *asked == 1), "each byte once");
    check(&node.fetch(&fetch(0..LEN)).await.unwrap(), 0..LEN);
    assert_eq!(source.asked.lock().len(), 5);
}

#[tokio::test]
async fn an_error_reaches_all_who_wait_and_is_not_kept() {
    let gone = SourceError::new(ErrorKind::Stale, "the object was replaced");
    let source = Counting::new(2, Err(gone));
    let node = node(memory(), &source);
    for _ in 0..2 {
        let error = node.fetch(&fetch(0..10)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Stale);
    }
    assert_eq!(source.asked.lock().len(), 2);
    assert!(node.read(fetch(0..0).key, 0..10).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_reader_that_goes_away_leaves_the_fetch_to_the_others() {
    let source = Counting::new(0, Ok(()));
    let node = node(memory(), &source);
    let reader = tokio::spawn({
        let node = Arc::clone(&node);
        async move { node.fetch(&fetch(0..10)).await }
    });
    while source.asked.lock().is_empty() {
        tokio::task::yield_now().await;
    }
    reader.abort();
    assert!(reader.await.is_err());
    source.let_go.add_permits(1);
    check(&node.fetch(&fetch(0..10)).await.unwrap(), 0..10);
    assert_eq!(source.asked.lock().len(), 1);
}

#[tokio::test]
async fn closing_ends_what_is_under_way() {
    let source = Counting::new(0, Ok(()));
    let node = node(memory(), &source);
    let reader = tokio::spawn({
        let node = Arc::clone(&node);
        async move { node.fetch(&fetch(0..10)).await }
    });
    while source.asked.lock().is_empty() {
        tokio::task::yield_now().await;
    }
    node.close().await;
    let error = reader.await.unwrap().unwrap_err();
    assert!(matches!(error, BlockError::Closed));
    let late = node.fetch(&fetch(0..10)).await.unwrap_err();
    assert!(matches!(late, BlockError::Closed));
}

#[tokio::test]
async fn without_a_source_a_miss_says_what_to_do() {
    let fetching = config(0, 0).fetch;
    let node = BlockNode::new(memory(), None, &fetching);
    let error = node.fetch(&fetch(0..10)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("filled by the client"));
}
