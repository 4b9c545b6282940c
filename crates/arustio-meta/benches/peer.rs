//! What agreement costs: rounds of proposals at one and at three members, and a beat of
//! the clock, all in one thread over engines in memory.
#![expect(missing_docs, reason = "criterion's macros make undocumented items")]

use std::hint::black_box;

use arustio_meta::consensus::bench::Stepped;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn group(size: u64) -> Stepped {
    let group = Stepped::new(size).expect("engines in memory do not fail");
    group.expect("a group that loses nothing elects a leader")
}

fn peer(c: &mut Criterion) {
    for size in [1, 3] {
        let mut bench = c.benchmark_group(format!("peer/{size} members"));
        let mut idle = group(size);
        bench.bench_function("beat", |b| b.iter(|| idle.beat()));
        // Another one, whose session sees no time pass.
        let mut stepped = group(size);
        for commands in [1, 16, 256] {
            bench.throughput(Throughput::Elements(commands));
            bench.bench_function(format!("propose {commands}"), |b| {
                b.iter(|| {
                    let made = stepped.propose(black_box(commands));
                    assert_eq!(made.expect("engines in memory do not fail"), commands);
                });
            });
        }
        bench.finish();
    }
}

criterion_group!(benches, peer);
criterion_main!(benches);
