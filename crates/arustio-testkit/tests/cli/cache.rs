//! What people see of the cache: what `load`, `du`, `free` and `bench` print, and how they end.

use std::time::Duration;

use arustio_testkit::s3::{FaultAction, FaultRule, Operation};
use serde_json::Value;
use tokio::time::timeout;

use super::house::{BUCKET, Done, House, signal};

const MIB: usize = 1 << 20;

/// Three files that nobody has read: 1, 2 and 5 MiB.
async fn cold() -> House {
    let house = House::mounted().await;
    for (name, size) in [("a", MIB), ("d/b", 2 * MIB), ("d/c", 5 * MIB)] {
        house.s3.backdoor().put(BUCKET, name, vec![1; size]);
    }
    house
}

async fn fs(house: &House, arguments: &[&str]) -> Done {
    let mut all = vec!["fs"];
    all.extend(arguments);
    house.run(&all).await
}

fn objects(text: &str) -> Vec<Value> {
    let parse = |line| serde_json::from_str(line).unwrap();
    text.lines().map(parse).collect()
}

#[tokio::test]
async fn a_tree_is_loaded_and_seen_to_be_there() {
    let house = cold().await;
    let used = fs(&house, &["du", "-h", "/data"]).await.ok();
    assert_eq!(
        used,
        "1 MiB\t0 B (0%)\t/data/a\n7 MiB\t0 B (0%)\t/data/d\n8 MiB\t0 B (0%)\t/data\n"
    );
    let loaded = fs(&house, &["load", "--wait", "--verify", "/data"]).await;
    assert_eq!(loaded.err, "", "no bar without a terminal");
    let said = loaded.ok();
    assert_eq!(
        said,
        "3 files, 8 MiB: 0 B from cache, 8 MiB from UFS in 6 requests, 0 failed\n"
    );
    let used = fs(&house, &["--json", "du", "-s", "/data"]).await.ok();
    let used = objects(&used);
    assert_eq!(used[0]["cached_bytes"], 8 * MIB);
    let sizes = fs(&house, &["du", "-s", "--no-cached", "/data"]).await;
    assert_eq!(sizes.ok(), format!("{}\t/data\n", 8 * MIB));

    let again = fs(&house, &["--json", "load", "/data/a", "/data/d"]).await;
    let told = objects(&again.ok());
    assert_eq!(told.len(), 4, "each file and the whole: {told:?}");
    for file in &told[..3] {
        assert_eq!(file["cache_bytes"], file["size"], "{file}");
        assert_eq!(file["error"], Value::Null);
    }
    assert_eq!(told[3]["files"], 3);
    assert_eq!(told[3]["ufs_requests"], 0);
    assert_eq!(told[3]["cached_bytes"], 8 * MIB);

    let freed = fs(&house, &["free", "/data/d"]).await.ok();
    assert_eq!(freed, "/data/d: 7 MiB of 2 files freed\n");
    let used = fs(&house, &["du", "-s", "/data/d"]).await.ok();
    assert_eq!(used, format!("{}\t0 (0%)\t/data/d\n", 7 * MIB));
}

#[tokio::test]
async fn files_that_cannot_be_loaded_are_named_and_the_others_are_there() {
    let house = cold().await;
    fs(&house, &["ls", "-R", "/data"]).await.ok();
    house.s3.backdoor().put(BUCKET, "d/b", vec![2; 2 * MIB]);
    let done = fs(&house, &["load", "/data"]).await;
    assert!(
        done.err.contains("\nerror[Stale]: 1 of 3 files"),
        "{done:?}"
    );
    let named = done.err.lines().next().unwrap();
    assert!(named.starts_with("Stale: /data/d/b: "), "{done:?}");
    assert_eq!(done.code, 6);
    let summary = done.out.lines().next().unwrap();
    assert!(summary.ends_with(", 1 failed"), "{done:?}");
    let rest = format!("{} of {} bytes are cached now", 6 * MIB, 8 * MIB);
    assert!(done.out.contains(&rest), "{done:?}");
}

#[tokio::test]
async fn a_cache_that_is_too_small_says_how_much_of_a_tree_stayed() {
    let house = House::mounted_with(&[
        ("ARUSTIO_BLOCK__MEMORY__CAPACITY", "8MiB"),
        ("ARUSTIO_BLOCK__DISK__CAPACITY", "0"),
    ])
    .await;
    for number in 0..8 {
        let key = format!("f{number}");
        house.s3.backdoor().put(BUCKET, &key, vec![1; 3 * MIB]);
    }
    let loaded = fs(&house, &["load", "/data"]).await;
    let said = loaded.ok();
    assert!(said.contains("8 files, 24 MiB: "), "{said}");
    let rest = format!(" of {} bytes are cached now\n", 24 * MIB);
    assert!(said.ends_with(&rest), "{said}");
    let waited = fs(&house, &["load", "--wait", "/data"]).await;
    let words = ["bytes are cached now", "too small"];
    waited.fails("NoSpace", 8, &words);
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_and_nothing_is_nothing() {
    let house = cold().await;
    let missing = fs(&house, &["load", "/data/a", "/data/none"]).await;
    let words = ["cannot load /data/none: no such file or directory"];
    missing.fails("NotFound", 3, &words);
    let unmounted = fs(&house, &["load", "/missing"]).await;
    let words = ["cannot load /missing: no such file or directory"];
    unmounted.fails("NotFound", 3, &words);
    let never = fs(&house, &["load", "--bandwidth", "0", "/data"]).await;
    never.fails("InvalidArgument", 2, &["--bandwidth 0"]);
    let many = fs(&house, &["load", "--replicas", "9", "/data"]).await;
    assert_eq!(many.code, 2);
    fs(&house, &["mkdir", "/data/empty"]).await.ok();
    let empty = fs(&house, &["load", "/data/empty"]).await;
    assert!(empty.err.starts_with("nothing to load: "), "{empty:?}");
    assert!(empty.ok().starts_with("0 files, 0 B: "));
    let two = fs(&house, &["load", "--replicas", "2", "/data/a"]).await;
    assert!(two.err.contains("1 of 2 replicas"), "{two:?}");
    two.ok();
    house.run(&["admin", "node", "drain", "1"]).await.ok();
    let nowhere = fs(&house, &["load", "/data"]).await;
    nowhere.fails("Unavailable", 7, &["nothing to load to", "admin node list"]);
}

#[tokio::test]
async fn ctrl_c_ends_a_load_and_what_was_loaded_stays() {
    let house = cold().await;
    fs(&house, &["ls", "-R", "/data"]).await.ok();
    let slowly = FaultAction::Delay(Duration::from_secs(30));
    let slow = FaultRule::new(slowly)
        .on(Operation::GetObject)
        .key_prefix("d/c");
    let rule = house.s3.faults().add(slow);
    let mut child = house.spawn(&["fs", "load", "/data"]);
    super::house::eventually(async || {
        let used = fs(&house, &["--json", "du", "-s", "/data"]).await.ok();
        match objects(&used)[0]["cached_bytes"] == 3 * MIB {
            true => Ok(()),
            false => Err(used),
        }
    })
    .await;
    signal(&child, rustix::process::Signal::INT);
    let ended = timeout(Duration::from_secs(20), child.wait()).await;
    assert_eq!(ended.unwrap().unwrap().code(), Some(130));
    house.s3.faults().remove(rule);
    let rest = fs(&house, &["load", "--wait", "/data"]).await.ok();
    assert!(rest.contains("3 MiB from cache, 5 MiB from UFS"), "{rest}");
}

async fn bench(house: &House, arguments: &[&str]) -> Vec<Value> {
    let mut all = vec!["--json", "bench"];
    all.extend(arguments);
    objects(&house.run(&all).await.ok())
}

#[tokio::test]
async fn cold_passes_read_the_store_each_time_and_no_fill_leaves_the_nodes_alone() {
    let house = cold().await;
    let total = (10 * MIB).to_string();
    let read = ["read", "--no-limit", "--no-fill", "/data/d/c"];
    for _ in 0..2 {
        let said = bench(&house, &read).await;
        assert_eq!(said[0]["params"]["ufs_bytes"], 5 * MIB, "{said:?}");
        assert_eq!(said[0]["limit"], Value::Null);
    }
    fs(&house, &["load", "/data/d/c"]).await.ok();
    let said = bench(&house, &read).await;
    assert_eq!(said[0]["params"]["cache_bytes"], 5 * MIB, "{said:?}");
    let twice = [
        "read",
        "--no-limit",
        "--cold",
        "--total",
        &total,
        "/data/d/c",
    ];
    let said = bench(&house, &twice).await;
    assert_eq!(said[0]["params"]["ufs_bytes"], 10 * MIB, "{said:?}");
    for senseless in [
        &["--no-cache", "--cold"][..],
        &["--no-cache", "--no-fill"],
        &["--no-cache", "--local"],
        &["--local", "--transport", "grpc"],
    ] {
        let all = [&["bench", "read", "/data/d/c"], senseless].concat();
        assert_eq!(house.run(&all).await.code, 2, "{senseless:?}");
    }
}

#[tokio::test]
async fn every_measurement_stands_beside_its_limit() {
    let house = cold().await;
    fs(&house, &["load", "--wait", "/data"]).await.ok();
    let read = house.run(&["bench", "read", "/data/d/c"]).await.ok();
    assert!(
        read.contains("\nlimit: memory copy by one thread "),
        "{read}"
    );
    let socket = bench(&house, &["read", "--no-local", "/data/d/c"]).await;
    let limit = &socket[0]["limit"];
    assert_eq!(limit["name"], "loopback TCP on this machine");
    assert!(limit["rate"].as_f64().unwrap() > 0.0 && limit["ratio"].is_number());

    let epochs = bench(&house, &["epoch", "--streams", "2", "/data"]).await;
    assert_eq!(epochs.len(), 2);
    assert_eq!(epochs[1]["params"]["files"], 3);
    assert_eq!(epochs[1]["params"]["cache_bytes"], 8 * MIB);

    let mix = [
        "mix",
        "--duration",
        "500ms",
        "--files",
        "5",
        "--size",
        "10KiB",
        "/data",
    ];
    let kinds = bench(&house, &mix).await;
    let names: Vec<_> = kinds
        .iter()
        .map(|kind| kind["workload"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["mix read", "mix write", "mix stat", "mix"]);
    assert!(kinds[3]["limit"]["ratio"].is_number() && kinds[0]["limit"].is_null());
    for kind in &kinds {
        assert!(
            kind["p99_us"].is_number() && kind["rate"].as_f64() > Some(0.0),
            "{kind}"
        );
    }
    let listed = fs(&house, &["ls", "/data"]).await.ok();
    assert!(
        !listed.contains("bench-"),
        "what was made is gone: {listed}"
    );
    let nothing = [
        "bench", "mix", "--read", "0", "--write", "0", "--stat", "0", "/data",
    ];
    house
        .run(&nothing)
        .await
        .fails("InvalidArgument", 2, &["--read"]);
}

/// What a daemon counts, by the beginning of its line.
async fn counted(house: &House, line: &str) -> u64 {
    let answer = arustio_server::ask::ask(&house.http, "/metrics").await;
    let text = answer.unwrap().text;
    let mut found = text.lines().filter_map(|told| told.strip_prefix(line));
    found.next().unwrap().trim().parse().unwrap()
}

#[tokio::test]
async fn bytes_are_counted_by_the_way_that_they_go() {
    let house = cold().await;
    let bytes = |wire, direction| {
        let house = &house;
        async move {
            let labels = format!("{{wire=\"{wire}\",direction=\"{direction}\"}}");
            counted(house, &format!("arustio_server_block_bytes_total{labels}")).await
        }
    };
    fs(&house, &["load", "--wait", "/data/d/c"]).await.ok();
    let whole = 5 * MIB as u64;
    let sent = bytes("tcp", "in").await + bytes("unix", "in").await;
    assert_eq!(sent + bytes("passed", "in").await, whole);
    // What is verified is compared with its checksums: no descriptor would do.
    fs(&house, &["load", "--verify", "/data/d/c"]).await.ok();
    let tcp = bytes("tcp", "out").await;
    assert_eq!(tcp + bytes("unix", "out").await, whole);
    assert_eq!(bytes("passed", "out").await, 0);
    let read = |how: &[&'static str]| {
        let mut all = vec!["read", "--no-limit", "/data/d/c"];
        all.extend(how);
        let house = &house;
        async move { bench(house, &all).await }
    };
    read(&["--no-local"]).await;
    assert_eq!(bytes("tcp", "out").await, tcp + whole);
    read(&["--transport", "grpc"]).await;
    assert_eq!(bytes("grpc", "out").await, whole);
    read(&["--local"]).await;
    assert_eq!(bytes("passed", "out").await, whole);
    let hits = "arustio_server_block_answers_total{wire=\"tcp\",status=\"ok\"}";
    assert!(counted(&house, hits).await > 0);
}

#[tokio::test]
async fn the_report_says_where_bytes_came_from_and_what_stores_were_asked() {
    let house = cold().await;
    let before = house.s3.stats().snapshot().total().requests;
    // What is not read yet comes from the store, and the second time from the cache.
    for _ in 0..2 {
        let got = fs(&house, &["cat", "/data/d/c"]).await;
        assert_eq!(got.ok().len(), 5 * MIB);
    }
    let asked = house.s3.stats().snapshot().total().requests - before;
    let report = house.run(&["--json", "admin", "report"]).await.ok();
    let report = objects(&report);
    assert_eq!(report[0]["read_bytes"], 10 * MIB, "{report:?}");
    assert_eq!(report[0]["read_bytes_from_cache"], 5 * MIB);
    assert_eq!(report[0]["members"], 1);
    assert_eq!(report[0]["nodes_living"], 1);
    assert_eq!(report[0]["pending"], 0);
    let told = report[0]["ufs_requests"].as_u64().unwrap();
    // The mount's own requests are told, too.
    assert!(told >= asked && asked >= 2, "{told} told, {asked} asked");
    let said = house.run(&["admin", "report", "summary"]).await.ok();
    assert!(
        said.contains("\nreads     50% of 10 MiB from the cache"),
        "{said}"
    );
    assert!(said.contains("\npending   nothing\n"), "{said}");
}
