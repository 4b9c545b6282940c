//! What every request pays: cutting ranges into blocks, and finding owners.
#![expect(missing_docs, reason = "criterion's macros make undocumented items")]

use std::hint::black_box;

use arustio_types::cluster::{ClusterView, DataEndpoints, NodeInfo};
use arustio_types::{BlockKey, BlockSize, ContentId, FsPath, NodeId, block, placement};
use criterion::{Criterion, criterion_group, criterion_main};

fn view(nodes: u64) -> ClusterView {
    let nodes = (1..=nodes).map(|id| NodeInfo {
        id: NodeId::new(id),
        address: format!("node{id}:7411"),
        weight: 1,
        draining: false,
        data: DataEndpoints::default(),
    });
    ClusterView {
        epoch: 1,
        nodes: nodes.collect(),
    }
}

fn nouns(c: &mut Criterion) {
    let key = BlockKey {
        content: ContentId::new(0x1234_5678),
        size: BlockSize::DEFAULT,
        index: 17,
    };
    for nodes in [3, 100] {
        let view = view(nodes);
        c.bench_function(&format!("placement/owner/{nodes} nodes"), |b| {
            b.iter(|| placement::owner(black_box(&view), black_box(&key)));
        });
    }
    c.bench_function("block/slices/1 GiB", |b| {
        b.iter(|| block::slices(BlockSize::DEFAULT, 0..1 << 30, black_box(1 << 30)).count());
    });
    c.bench_function("path/parse", |b| {
        b.iter(|| FsPath::new(black_box("/data/warehouse/table/part=7/file-0001.parquet")));
    });
}

criterion_group!(benches, nouns);
criterion_main!(benches);
