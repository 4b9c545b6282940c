//! Promises that need more than a transcript: crashes, equal states, random commands.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

#[path = "namespace_world/world.rs"]
mod world;

use std::sync::Arc;
use std::time::Duration;

use arustio_meta::engine::{
    Batch, Durability, EngineKind, Family, KvEngine, KvEngineExt, MemEngine, Scan,
};
use arustio_meta::inspect;
use arustio_meta::namespace::Namespace;
use arustio_meta::state_machine::{Entry, LogPosition, ReplicatedTime, StateMachine};
use arustio_types::meta::credential::{Credential, SecretOptions};
use arustio_types::meta::mount::{MountCapabilities, MountSpec};
use arustio_types::meta::{Answer, Command, Outcome, Query, RequestContext};
use arustio_types::{
    ClusterId, ErrorKind, FsPath, Incarnation, LogIndex, MountId, RequestId, SessionId,
};
use proptest::prelude::*;
use world::World;

fn path(text: &str) -> FsPath {
    FsPath::new(text).unwrap()
}

#[test]
fn n3_after_a_crash_the_state_is_that_of_some_earlier_position() {
    let script = [
        "c1 mount /data mem://b",
        "c1 merge /data a=A1 d/",
        "c1 begin /data/n proof=/data/n",
        "c1 commit i1 v=N1",
        "c1 mv /data/a /data/b proof=/data/b",
        "c1 settle e1 v=B1",
        "c1 finish e1",
    ];
    let mut world = World::default();
    let mut hashes = vec![world.namespace.state_hash()];
    for line in script {
        world.run(line);
        hashes.push(world.namespace.state_hash());
    }
    for kept in 0..=world.engine.unsynced() {
        let survived = Arc::new(world.engine.after_crash(kept));
        let again = Namespace::open(survived, ClusterId::new(7), Incarnation::new(1)).unwrap();
        assert!(again.verify().unwrap().is_sound());
        if kept > 0 {
            let applied = again.applied().position.index.get();
            // One batch founded the state, one opened the session.
            assert_eq!(applied, kept as u64 - 1);
        }
    }
    world.restart(3);
    assert!(hashes.contains(&world.namespace.state_hash()));
    world.run("c2 mkdir /later");
}

#[test]
fn equal_states_have_equal_hashes_however_they_came_about() {
    let state = |lines: &[&str]| {
        let mut world = World::default();
        world.run("c1 mount /data mem://b");
        for line in lines {
            world.run(line);
        }
        world.namespace.state_hash()
    };
    let one = state(&[
        "c1 conf /a set=block.size:1MiB",
        "c1 conf /b set=block.size:2MiB",
    ]);
    let other = state(&[
        "c1 conf /b set=block.size:2MiB",
        "c1 conf /a set=block.size:1MiB",
    ]);
    assert_eq!(one, other);
    let third = state(&[
        "c1 conf /b set=block.size:2MiB",
        "c1 conf /a set=block.size:2MiB",
    ]);
    assert_ne!(one, third);
}

fn entry(index: u64, payload: &[u8]) -> Entry<'_> {
    Entry {
        position: LogPosition {
            index: LogIndex::new(index),
            term: 1,
        },
        time: ReplicatedTime::from_millis(index),
        payload,
        members: None,
    }
}

fn fresh() -> Namespace {
    let engine = Arc::new(MemEngine::new(EngineKind::State));
    Namespace::open(engine, ClusterId::new(7), Incarnation::new(1)).unwrap()
}

fn payloads() -> Vec<Vec<u8>> {
    let open = Command::OpenSession {
        nonce: 1,
        ttl: Duration::from_secs(60),
    };
    let mut all = vec![
        Namespace::encode(&RequestContext::default(), &open),
        Vec::new(),
    ];
    for (sequence, name) in ["/a", "/a/b", "/a", "/c"].iter().enumerate() {
        let context = RequestContext {
            id: RequestId {
                session: SessionId::new(1),
                sequence: sequence as u64 + 1,
                first_unacked: 1,
            },
            ..RequestContext::default()
        };
        let command = Command::Mkdir {
            path: path(name),
            parents: false,
            exist_ok: false,
            write_id: arustio_types::WriteId::new(1),
            proofs: Vec::new(),
        };
        all.push(Namespace::encode(&context, &command));
    }
    all
}

#[test]
fn a_slice_of_entries_is_the_same_as_one_after_the_other() {
    let payloads = payloads();
    let entries: Vec<Entry<'_>> = payloads
        .iter()
        .zip(1..)
        .map(|(payload, index)| entry(index, payload))
        .collect();
    let (mut whole, mut single) = (fresh(), fresh());
    let at_once = whole.apply(&entries).unwrap();
    let one_by_one: Vec<_> = entries
        .iter()
        .flat_map(|entry| single.apply(&[*entry]).unwrap())
        .collect();
    assert_eq!(at_once, one_by_one);
    assert_eq!(at_once[1], None);
    assert!(
        matches!(&at_once[4], Some(Outcome::Refused(refusal)) if refusal.kind == ErrorKind::AlreadyExists)
    );
    assert_eq!(whole.state_hash(), single.state_hash());
    assert_eq!(whole.applied(), single.applied());
}

#[test]
fn a_snapshot_carries_everything() {
    let folder = tempfile::tempdir().unwrap();
    let payloads = payloads();
    let mut from = fresh();
    for (payload, index) in payloads.iter().zip(1..) {
        from.apply(&[entry(index, payload)]).unwrap();
    }
    let copy = folder.path().join("copy");
    let applied = from.snapshot(&copy).unwrap();
    let mut to = fresh();
    assert_eq!(to.install(&copy).unwrap(), applied);
    assert_eq!(to.state_hash(), from.state_hash());
    assert!(to.verify().unwrap().is_sound());
    // The state of another cluster is not taken for ours.
    let engine = Arc::new(MemEngine::new(EngineKind::State));
    engine.restore(&copy).unwrap();
    assert!(Namespace::open(engine, ClusterId::new(8), Incarnation::new(1)).is_err());
}

#[test]
fn what_is_as_it_was_writes_nothing_but_the_position_and_the_outcome() {
    let mut world = World::default();
    world.run("c1 mount /data mem://b");
    world.run("c1 merge /data a=A1 b=B1 d/=M1");
    let tree = |world: &World| {
        [Family::Inodes, Family::Dentries, Family::Mounts]
            .map(|family| world.engine.scan_to_vec(family, Scan::all()).unwrap())
    };
    let before = tree(&world);
    world.run("c1 merge /data a=A1 b=B1 d/");
    world.run("c1 merge /data to=b a=A1");
    assert_eq!(tree(&world), before);
}

#[test]
fn c1_a_credential_in_clear_never_reaches_the_log() {
    let secrets = [("secret_access_key".to_owned(), "hunter2".to_owned())];
    let command = Command::Mount(MountSpec {
        path: path("/data"),
        uri: "s3://b".to_owned(),
        options: Default::default(),
        credential: Credential::Clear(SecretOptions::new(secrets.into())),
        readonly: false,
        shared: false,
        capabilities: MountCapabilities::default(),
        bound_to: None,
    });
    let payload = Namespace::encode(&RequestContext::default(), &command);
    assert!(!payload.windows(7).any(|bytes| bytes == b"hunter2"));
    let outcomes = fresh().apply(&[entry(1, &payload)]).unwrap();
    assert!(
        matches!(&outcomes[0], Some(Outcome::Refused(refusal)) if refusal.kind == ErrorKind::Internal)
    );
}

#[test]
fn c1_a_sealed_credential_is_stored_apart_and_goes_with_its_mount() {
    let mut world = World::default();
    world.run("c1 mount /data s3://b credential=sealed");
    let sealed = |world: &World| world.namespace.sealed_credential(MountId::new(1)).unwrap();
    assert_eq!(sealed(&world), Credential::Sealed(b"sealed".to_vec()));
    let mounts = world
        .engine
        .scan_to_vec(Family::Mounts, Scan::all())
        .unwrap();
    assert!(!mounts[0].1.windows(6).any(|bytes| bytes == b"sealed"));
    world.run("c1 unmount /data");
    assert_eq!(sealed(&world), Credential::Provider);
}

#[test]
fn n4_a_tree_of_many_names_goes_in_one_step_and_is_freed_bit_by_bit() {
    let mut world = World::default();
    world.run("c1 mount /data mem://b");
    world.run("c1 merge /data d/=M1");
    for page in 0..3 {
        let names: String = (0..500).map(|n| format!(" f{page}{n:03}=V")).collect();
        let from = format!("f{page}");
        let to = format!("f{}", page + 1);
        world.run(&format!("c1 merge /data/d from={from} to={to}{names}"));
    }
    world.run("c1 merge /data/d from=f3");
    let inodes = |world: &World| world.namespace.verify().unwrap().inodes;
    let before = inodes(&world);
    world.run("c1 rm /data/d r only");
    assert!(before - inodes(&world) <= 256);
    for step in 0..10 {
        world.run(&format!("c1 mkdir /step{step}"));
    }
    // The root, the mount point and ten directories.
    assert_eq!(inodes(&world), 12);
}

#[test]
fn n5_every_name_is_listed_exactly_once_across_pages() {
    let mut world = World::default();
    world.run("c1 mount /data mem://b");
    let names: String = (0..250).map(|n| format!(" f{n:03}=V")).collect();
    world.run(&format!("c1 merge /data{names}"));
    let mut seen = Vec::new();
    let mut after = String::new();
    loop {
        let page = world.run(&format!("ls /data limit=7{after}"));
        let files = page.lines().filter(|line| line.starts_with("file"));
        seen.extend(files.map(|line| line.split(' ').nth(1).unwrap().to_owned()));
        // Names come and go elsewhere meanwhile.
        world.run("c1 mkdir /data/a exist_ok proof=/data/a");
        match page
            .lines()
            .last()
            .and_then(|line| line.strip_prefix("more after "))
        {
            Some(next) => after = format!(" after={}", next.trim_matches('"')),
            None => break,
        }
    }
    let expected: Vec<String> = (0..250).map(|n| format!("/data/f{n:03}")).collect();
    assert_eq!(seen, expected);
}

/// A line of the little language, over few enough names that commands meet.
fn line() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec!["a", "b", "d", "d/x", "d/s", "d/s/y", "e", "e/x"]);
    let names = (name.clone(), name.clone());
    let client = prop::sample::select(vec!["c1", "c2", "s"]);
    let id = 1..12_u64;
    let time = prop::sample::select(vec![1_u64, 500, 30_000, 70_000]);
    let listing = prop::sample::subsequence(
        vec!["a=A1", "b=B1", "d/", "d=D1", "e/=M1", "x=X1", "s/"],
        0..6,
    );
    let range = prop::sample::select(vec![
        "",
        " to=d",
        " from=d",
        " from=b to=d0",
        " from=d/ to=e",
    ]);
    let dir = prop::sample::select(vec!["/data", "/data/d", "/data/d/s", "/data/e"]);
    let proof =
        |name: &str| format!("proof=/data/{name} proof=/data/d proof=/data/d/s proof=/data/e");
    prop_oneof![
        4 => (client.clone(), name.clone()).prop_map(move |(c, n)| format!("{c} begin /data/{n} parents {}", proof(n))),
        2 => (client.clone(), name.clone()).prop_map(move |(c, n)| format!("{c} mkdir /data/{n} parents {}", proof(n))),
        3 => (client.clone(), name.clone(), any::<bool>()).prop_map(move |(c, n, r)| {
            format!("{c} rm /data/{n} {} {}", if r { "r" } else { "" }, proof(n))
        }),
        1 => (client.clone(), name.clone()).prop_map(|(c, n)| format!("{c} rm /data/{n} r only")),
        3 => (client.clone(), names).prop_map(move |(c, (f, t))| {
            format!("{c} mv /data/{f} /data/{t} replace {} {}", proof(f), proof(t))
        }),
        6 => (client.clone(), dir, range, listing, any::<bool>()).prop_map(|(c, d, r, l, old)| {
            let seen = if old { " seen=old" } else { "" };
            let base = if d == "/data" { l } else { l.into_iter().filter(|e| !e.starts_with('d')).collect() };
            format!("{c} merge {d}{r}{seen} {}", base.join(" "))
        }),
        4 => (client.clone(), id.clone()).prop_map(|(c, id)| format!("{c} commit i{id} v=W{id}")),
        1 => (client.clone(), id.clone()).prop_map(|(c, id)| format!("{c} commit i{id} v=W{id} unanswered=700")),
        2 => (client.clone(), id.clone()).prop_map(|(c, id)| format!("{c} abort i{id}")),
        3 => (client.clone(), id.clone()).prop_map(|(c, id)| format!("{c} settle e{id} v=S{id}")),
        5 => (client.clone(), id.clone()).prop_map(|(c, id)| format!("{c} finish e{id} marker=K{id}")),
        2 => (client.clone(), id.clone()).prop_map(|(c, id)| format!("{c} undo e{id}")),
        1 => (client.clone(), id.clone()).prop_map(|(c, id)| format!("{c} drop e{id}")),
        1 => (client.clone(), id.clone(), id.clone()).prop_map(|(c, e, n)| format!("{c} free e{e} {n} {}", n + 1)),
        2 => (client.clone(), id.clone()).prop_map(|(c, id)| format!("{c} claim e{id}")),
        2 => (client.clone(), id).prop_map(|(c, id)| format!("{c} claim i{id}")),
        1 => client.clone().prop_map(|c| format!("{c} repeat")),
        1 => client.clone().prop_map(|c| format!("{c} open ttl=40000")),
        1 => client.clone().prop_map(|c| format!("{c} unmount /data force")),
        2 => client.prop_map(|c| format!("{c} mount /data mem://b")),
        2 => time.prop_map(|t| format!("time +{t}")),
        1 => Just("mark old".to_owned()),
        1 => Just("restart".to_owned()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Each inode has a name, counts agree, everything that is owed refers to something:
    /// [`World::run`] checks it after each line.
    #[test]
    fn random_commands_keep_every_invariant(lines in prop::collection::vec(line(), 1..120)) {
        let mut world = World::default();
        world.run("mark old");
        world.run("c1 mount /data mem://b");
        for name in ["c1", "c2", "s"] {
            world.run(&format!("{name} keep"));
        }
        let mut at = world.position();
        for line in &lines {
            // Marks of the future of a crash are gone.
            world.run(line);
            if world.position() < at {
                world.run("mark old");
            }
            at = world.position();
        }
    }
}

/// A world with `/data/d` and `files` files in two directories below it, all loaded.
fn large_directory(files: usize) -> World {
    let mut world = World::default();
    world.run("c1 mount /data mem://b");
    world.run("c1 merge /data d/=D");
    world.run("c1 merge /data/d left/ right/");
    for (dir, skip) in [("left", 0), ("right", 1)] {
        let own = (0..files).filter(|number| number % 2 == skip);
        let names: Vec<String> = own
            .map(|number| format!(" f{number:05}=V{number}"))
            .collect();
        for page in names.chunks(500) {
            let from = page[0].trim().split('=').next().unwrap().to_owned();
            world.run(&format!(
                "c1 merge /data/d/{dir} from={from}{}",
                page.concat()
            ));
        }
    }
    world
}

#[test]
fn n4_a_large_directory_moves_at_once_and_its_objects_follow_step_by_step() {
    const FILES: usize = 1000;
    let mut world = large_directory(FILES);
    let sample = |world: &World, dir: &str| {
        let at = |name: &str| world.status(&path(&format!("/data/{dir}/{name}"))).unwrap();
        [at("left/f00000"), at("right/f00999"), at("left/f00500")]
    };
    let before = sample(&world, "d");
    let needs = world.run("c1 mv /data/d /data/e proof=/data/e");
    assert!(needs.contains("needs sync"), "{needs}");
    let moved = world.run("c1 mv /data/d /data/e proof=/data/e proof=/data/d");
    assert!(moved.contains("rename-tree d/ to e/"), "{moved}");
    // Nothing that is cached or open notices: the same bytes at the same keys.
    let after = sample(&world, "e");
    for (old, new) in before.iter().zip(&after) {
        assert_eq!(
            (old.content_id(), &old.source),
            (new.content_id(), &new.source)
        );
        assert!(new.source.as_ref().unwrap().key.as_str().starts_with("d/"));
    }
    assert!(world.status(&path("/data/d")).is_none());
    for line in [
        "c2 begin /data/e/left/new proof=/data/e/left/new",
        "c2 mkdir /data/d",
    ] {
        let answer = world.run(line);
        assert!(answer.contains("pending"), "{line}: {answer}");
    }
    // A look at the store, where nothing has moved yet, takes nothing away.
    world.run("c2 merge /data d/");
    world.run("c2 merge /data/e");
    assert_eq!(
        sample(&world, "e").map(|s| s.content_id()),
        after.map(|s| s.content_id())
    );

    let mut steps = 0;
    let mut objects = 0;
    loop {
        let told = world.run("c1 expand e1");
        objects += told.matches("rename d/").count();
        steps += 1;
        assert!(world.namespace.verify().unwrap().is_sound());
        if !told.contains("rename-tree") {
            break;
        }
        if steps == 2 {
            world.restart(usize::MAX);
        }
    }
    assert_eq!((steps, objects), (4, FILES + 1));
    let keyed = sample(&world, "e");
    for (old, new) in before.iter().zip(&keyed) {
        assert_eq!(
            (old.content_id(), &old.source),
            (new.content_id(), &new.source)
        );
    }
    assert!(world.run("c1 expand e1").contains("superseded"));
}

/// [`World::run`] compares every listing with looks at its names after each line.
#[test]
fn n5_a_listing_tells_of_each_name_what_the_name_tells() {
    let mut world = World::default();
    let script = [
        "c1 mount /data mem://b",
        "c1 mkdir /outside/deep parents",
        "c1 merge /data a=A1:7 b=B1 d/=D e/ z=Z1",
        "c1 merge /data/d x=X1 y/",
        "c1 mount /data/e/in mem://inner",
        "c1 merge /data/e/in i=I1",
        "c1 chmod /data/a 600",
        "c1 conf /data set=block.size:1MiB",
        "c1 conf /data/z set=block.size:2MiB",
        "c1 begin /data/n proof=/data/n",
        "c1 commit i1 v=N1 len=9",
    ];
    for line in script {
        world.run(line);
    }
    // Records that lie far apart are read in another way than those side by side.
    for number in 0..40 {
        world.run(&format!("c1 mkdir /far/d{number}/between parents"));
    }
    let mut names = Vec::new();
    let mut after = None;
    loop {
        let query = Query::List {
            path: path("/far"),
            after,
            limit: 7,
        };
        let Answer::Page(page) = world.namespace.query(query).unwrap() else {
            panic!("no page");
        };
        names.extend(page.entries.iter().map(|entry| entry.name.to_owned()));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(names.len(), 40);
    assert!(names.is_sorted_by(|a, b| a < b), "each once, in order");
}

/// Adds up the parts of an answer about usage.
fn used(namespace: &Namespace, of: &str) -> (u64, u64, u64, usize) {
    let (mut files, mut directories, mut bytes, mut parts) = (0, 0, 0, 0);
    let mut after = None;
    loop {
        let asked = Query::Usage {
            path: path(of),
            after,
        };
        let Answer::Usage(part) = namespace.query(asked).unwrap() else {
            panic!("no usage of {of}");
        };
        files += part.files;
        directories += part.directories;
        bytes += part.bytes;
        parts += 1;
        match part.next {
            Some(next) => after = Some(next),
            None => return (files, directories, bytes, parts),
        }
    }
}

#[test]
fn n4_usage_of_many_names_comes_in_parts_and_counts_each_once() {
    let mut world = World::default();
    world.run("c1 mount /data mem://b");
    let names = |kind: &str, range: std::ops::Range<usize>| {
        range
            .map(|at| format!("n{at:05}{kind}"))
            .collect::<Vec<_>>()
            .join(" ")
    };
    for at in 0..9 {
        let (from, to) = (at * 1_000, (at + 1) * 1_000);
        let files = names("=V", from..to - 10);
        let range = format!("from=n{from:05} to=n{to:05}");
        world.run(&format!("c1 merge /data {files} {range}"));
    }
    world.run(&format!("c1 merge /data/ {} from=o to=p", "o1/ o2/"));
    world.run("c1 merge /data/o1 x=X1 deep/");
    world.run("c1 merge /data/o1/deep y=Y1");
    let (files, directories, bytes, parts) = used(&world.namespace, "/data");
    assert_eq!((files, directories), (9 * 990 + 2, 4));
    assert_eq!(bytes, files * 3);
    assert!(parts > 2, "{parts} parts");
    let verified = world.namespace.verify().unwrap();
    assert!(verified.is_sound(), "{:?}", verified.problems);
}

#[test]
fn a_check_finds_what_is_broken_and_says_where() {
    let mut world = World::default();
    for line in [
        "c1 mount /data mem://b",
        "c1 merge /data a=A1 d/",
        "c1 merge /data/d x=X1",
        "c1 begin /data/n proof=/data/n",
        "c1 rm /data/a",
        "node 77 127.0.0.1:7001 1",
    ] {
        world.run(line);
    }
    let number = |raw: u64| raw.to_be_bytes().to_vec();
    let tagged = |tag: u8, raw: u64| [&[tag][..], &raw.to_be_bytes()].concat();
    let named = |parent: u64, name: &str| [&number(parent)[..], name.as_bytes()].concat();
    let d = 4;
    let breaks: [(&str, Batch, &str); 9] = [
        (
            "a name",
            deleting(Family::Dentries, named(d, "x")),
            "/data/d (inode 4): it counts 1 names",
        ),
        (
            "an inode",
            deleting(Family::Inodes, number(5)),
            "its name \"x\" leads nowhere",
        ),
        (
            "a directory",
            deleting(Family::Inodes, number(d)),
            "it holds names and is no directory",
        ),
        (
            "an intent's index",
            deleting(Family::Intents, tagged(0, 1)),
            "intents has 1 entries",
        ),
        (
            "an effect's index",
            deleting(Family::Effects, tagged(0, 1)),
            "effects has 1 entries",
        ),
        (
            "a mount",
            deleting(Family::Mounts, number(1)),
            "it is the mount point of 1, which is gone",
        ),
        (
            "a session",
            deleting(Family::Sessions, tagged(0, 1)),
            "which is gone",
        ),
        (
            "the counters",
            deleting(Family::Meta, b"counters".to_vec()),
            "the next one will be numbered",
        ),
        (
            "a node",
            deleting(Family::Nodes, tagged(0, 1)),
            "1 data folders lead to 0 block nodes",
        ),
    ];
    for (what, batch, expected) in breaks {
        let engine = world.engine.after_crash(usize::MAX);
        engine.write(batch, Durability::Buffered).unwrap();
        let found = inspect::verify(&engine).unwrap();
        let told: Vec<String> = found.problems.iter().map(ToString::to_string).collect();
        assert!(
            told.iter().any(|one| one.contains(expected)),
            "{what}: {told:#?}"
        );
        let sum = told
            .iter()
            .any(|one| one.contains("the sum over the state"));
        assert!(sum, "{what}: {told:#?}");
    }
    assert!(world.namespace.verify().unwrap().is_sound());
}

fn deleting(family: Family, at: Vec<u8>) -> Batch {
    let mut batch = Batch::new();
    batch.delete(family, at);
    batch
}
