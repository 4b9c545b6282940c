//! P4 and W3: whoever carries out what is owed, or writes, may die at any request, and
//! another goes on.

use std::collections::BTreeMap;
use std::time::Duration;

use arustio_client::{ArustioFileSystem, ErrorKind, FileSystem, MkdirOptions};
use arustio_testkit::s3::{FaultAction, FaultRule, Operation, Profile, RuleId};
use arustio_types::meta::Command;

use crate::house::{BUCKET, House, SHORT, Short, Victim, eventually, p, within};

const PROFILES: [Profile; 2] = [Profile::Aws, Profile::Minio];
/// Scenes of one client: it bounds its requests to a store, and each may hang with one.
const AT_ONCE: usize = 4;

/// The session of a client that dies while it sends many bytes. No request may outlive
/// it, and some of those have to end in time beside other tests on few processors.
const LONGER: Duration = Duration::from_secs(8);

/// Larger than one part.
fn large() -> String {
    "0123456789abcdef".repeat(9 << 16)
}

/// What is done below a folder of its own, by a client that dies.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Work {
    MoveFile,
    MoveTree,
    RemoveFile,
    RemoveTree,
    MakeDirectory,
    Write,
    WriteInParts,
    Replace,
}

impl Work {
    async fn prepare(self, fs: &ArustioFileSystem, dir: &str) {
        // With a marker, so that it is there whatever happens in it.
        fs.mkdirs(dir).await;
        match self {
            Self::MoveFile | Self::RemoveFile | Self::Replace => {
                fs.write(&format!("{dir}/a"), "bytes").await.unwrap();
            }
            Self::MoveTree | Self::RemoveTree => {
                for name in ["f", "g"] {
                    fs.write(&format!("{dir}/a/{name}"), name).await.unwrap();
                }
            }
            Self::MakeDirectory | Self::Write | Self::WriteInParts => {}
        }
    }

    async fn carry_out(self, fs: &ArustioFileSystem, dir: &str) -> arustio_client::Result<()> {
        let (a, b) = (format!("{dir}/a"), format!("{dir}/b"));
        match self {
            Self::MoveFile | Self::MoveTree => fs.mv(&a, &b).await,
            Self::Write => fs.write(&a, "new").await.map(drop),
            Self::WriteInParts => fs.write(&a, &large()).await.map(drop),
            Self::Replace => fs.overwrite(&a, "new").await.map(drop),
            Self::RemoveFile => fs.rm(&a).await.map(drop),
            Self::RemoveTree => fs.rm_r(&a).await.map(drop),
            Self::MakeDirectory => {
                let made = fs.mkdir(&p(&a), MkdirOptions::default()).await;
                made.map(drop)
            }
        }
    }

    /// What may be there afterwards: all of the old, or all of the new.
    fn outcomes(self) -> [BTreeMap<String, Option<String>>; 2] {
        let tree = |entries: &[(&str, Option<&str>)]| {
            let owned =
                |(name, text): &(&str, Option<&str>)| ((*name).to_owned(), text.map(str::to_owned));
            entries.iter().map(owned).collect()
        };
        let subtree = |name: &str| {
            let (f, g) = (format!("{name}/f"), format!("{name}/g"));
            tree(&[(name, None), (&f, Some("f")), (&g, Some("g"))])
        };
        match self {
            Self::MoveFile => [tree(&[("a", Some("bytes"))]), tree(&[("b", Some("bytes"))])],
            Self::MoveTree => [subtree("a"), subtree("b")],
            Self::RemoveFile => [tree(&[("a", Some("bytes"))]), tree(&[])],
            Self::RemoveTree => [subtree("a"), tree(&[])],
            Self::MakeDirectory => [tree(&[]), tree(&[("a", None)])],
            Self::Write => [tree(&[]), tree(&[("a", Some("new"))])],
            Self::WriteInParts => [tree(&[]), tree(&[("a", Some(&large()))])],
            Self::Replace => [tree(&[("a", Some("bytes"))]), tree(&[("a", Some("new"))])],
        }
    }
}

/// How the requests of a dying client fail from its last one on.
#[derive(Debug, Clone, Copy)]
enum Death {
    /// The last request never arrives.
    Before,
    /// It arrives, its answer does not.
    After,
}

struct Scene {
    work: Work,
    death: Death,
    at: u64,
    dir: String,
    rule: RuleId,
}

fn scene(house: &House, work: Work, death: Death, at: u64) -> Scene {
    let key = format!("{work:?}-{death:?}-{at}").to_lowercase();
    if let Death::After = death {
        let lost = FaultRule::new(FaultAction::ApplyThenReset);
        house.fault(lost.key_prefix(format!("{key}/")).nth(at + 1));
    }
    // A request that the first rule strikes is not counted by the second.
    let hang = FaultRule::new(FaultAction::Hang).key_prefix(format!("{key}/"));
    let rule = house.fault(hang.skip(at));
    Scene {
        work,
        death,
        at,
        dir: format!("/data/{key}"),
        rule,
    }
}

/// Starts the work of a scene; it hangs at its request, or ends, and then how is returned.
async fn until_it_hangs(house: &House, victim: &Victim, scene: &Scene) -> Option<String> {
    let (fs, work, dir) = (victim.fs.clone(), scene.work, scene.dir.clone());
    let working = victim.start(async move { work.carry_out(&fs, &dir).await });
    eventually(
        async || match working.is_finished() || house.s3.faults().hits(scene.rule) > 0 {
            true => Ok(()),
            false => Err("neither done nor at its request".to_owned()),
        },
    )
    .await;
    if house.s3.faults().hits(scene.rule) > 0 {
        return None;
    }
    let ended = within(working).await.unwrap();
    Some(format!(
        "{work:?} {:?} {}: {ended:?}",
        scene.death, scene.at
    ))
}

/// One client begins all this, and ends when each has ended or hangs. How those ended that
/// did not hang.
async fn die(house: &House, lease: Duration, scenes: &[Scene]) -> Vec<String> {
    let victim = house.victim_with(lease).await;
    let hanging = scenes
        .iter()
        .map(|scene| until_it_hangs(house, &victim, scene));
    let ended = futures::future::join_all(hanging).await;
    victim.kill().await;
    ended.into_iter().flatten().collect()
}

/// `most` is more than any of the works sends on its keys.
async fn die_at_every_request(profile: Profile, works: &[Work], most: u64) {
    let (house, fs) = House::mounted_with(profile).await;
    let mut scenes = Vec::new();
    for work in works {
        for death in [Death::Before, Death::After] {
            for at in 0..most {
                scenes.push((*work, death, at));
            }
        }
    }
    // What is there before is made without faults.
    for (work, death, at) in &scenes {
        let dir = format!("/data/{work:?}-{death:?}-{at}").to_lowercase();
        work.prepare(&fs, &dir).await;
    }
    let scenes: Vec<_> = scenes
        .into_iter()
        .map(|(work, death, at)| scene(&house, work, death, at))
        .collect();
    let lease = match works.contains(&Work::WriteInParts) {
        true => LONGER,
        false => SHORT,
    };
    let dying = scenes.chunks(AT_ONCE).map(|some| die(&house, lease, some));
    let ended = within(futures::future::join_all(dying)).await.concat();
    let reached = |scene: &&Scene| house.s3.faults().hits(scene.rule) > 0;
    let died = scenes.iter().filter(reached).count();
    assert!(
        died < scenes.len(),
        "some ended before they had sent so many"
    );
    assert!(died >= works.len() * 2, "only {died} died on their way");
    house.s3.faults().clear();

    fs.take_over_all().await;
    let mut ends = [0, 0];
    for scene in &scenes {
        let Scene {
            work, death, at, ..
        } = scene;
        let there = fs.tree(&scene.dir).await;
        let outcomes = work.outcomes();
        let end = outcomes.iter().position(|outcome| *outcome == there);
        let end = end.unwrap_or_else(|| panic!("{work:?} {death:?} {at}: {there:?}"));
        ends[end] += 1;
    }
    assert!(ends[1] > 0, "{ends:?}; {ended:#?}");
    assert_eq!(house.bucket().uploads(BUCKET), []);
    // The bucket alone says the same.
    let fresh = house.fresh_namespace().await;
    assert_eq!(fresh.fs.tree("/data").await, fs.tree("/data").await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p4_moves_whose_client_dies_at_any_request_are_finished_by_another() {
    let both = PROFILES
        .map(|profile| die_at_every_request(profile, &[Work::MoveFile, Work::MoveTree], 16));
    futures::future::join_all(both).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p4_removals_and_markers_whose_client_dies_at_any_request_are_finished_by_another() {
    let works = [Work::RemoveFile, Work::RemoveTree, Work::MakeDirectory];
    let both = PROFILES.map(|profile| die_at_every_request(profile, &works, 6));
    futures::future::join_all(both).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn w3_writers_that_die_at_any_request_leave_the_whole_file_or_nothing() {
    let small = [Work::Write, Work::Replace];
    let both = PROFILES.map(|profile| die_at_every_request(profile, &small, 6));
    futures::future::join_all(both).await;
    die_at_every_request(Profile::Aws, &[Work::WriteInParts], 9).await;
}

#[tokio::test]
async fn p4_an_executor_that_was_superseded_does_nothing_more() {
    for profile in PROFILES {
        let (house, fs) = House::mounted_with(profile).await;
        for name in ["a", "x"] {
            fs.write(&format!("/data/{name}"), "old").await.unwrap();
        }
        let hang = FaultRule::new(FaultAction::Hang).on(Operation::DeleteObject);
        let rules = ["a", "x"].map(|key| house.fault(hang.clone().key_prefix(key).times(1)));
        let victim = house.victim().await;
        let (mover, remover) = (victim.fs.clone(), victim.fs.clone());
        let moving = victim.start(async move { mover.mv("/data/a", "/data/b").await });
        let removing = victim.start(async move { remover.rm("/data/x").await.map(drop) });
        for rule in rules {
            house.struck(rule).await;
        }
        victim.cut_off();
        // Its lease ends; others go on and use the names again.
        fs.take_over_all().await;
        assert_eq!(house.keys(), ["b"]);
        fs.write("/data/a", "new").await.unwrap();
        fs.write("/data/x", "new").await.unwrap();
        fs.rm("/data/b").await.unwrap();
        victim.connect_again();
        for ended in [
            within(moving).await.unwrap(),
            within(removing).await.unwrap(),
        ] {
            if let Err(error) = ended {
                assert_eq!(error.kind(), ErrorKind::Unknown, "{error}");
            }
        }
        assert_eq!(house.keys(), ["a", "x"]);
        assert_eq!(house.object("a").unwrap(), "new");
        assert_eq!(house.object("x").unwrap(), "new");
        assert_eq!(fs.read("/data/a").await.unwrap(), "new");
        assert_eq!(fs.names("/data").await, ["a", "x"]);
        assert_eq!(fs.owed().await, []);
    }
}

/// More names than one command gives effects of their own.
const MANY: usize = 600;

fn fill(house: &House, dir: &str) {
    for number in 0..MANY {
        house.put(
            &format!("{dir}/sub{}/f{number:03}", number % 7),
            format!("bytes {number}"),
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn n4_a_large_directory_has_its_new_name_at_once_and_another_finishes_the_move() {
    let (house, fs) = House::mounted().await;
    fill(&house, "d");
    fs.sync_all("/data").await;
    let before = fs.tree("/data/d").await;
    assert_eq!(before.len(), MANY + 7);
    let hang = FaultRule::new(FaultAction::Hang).key_prefix("e/sub3/");
    let rule = house.fault(hang.skip(20));
    let victim = house.victim().await;
    let mover = victim.fs.clone();
    let moving = victim.start(async move { mover.mv("/data/d", "/data/e").await });
    house.struck(rule).await;
    // Some objects have moved, some are on their way, some wait: names and bytes are whole.
    assert!(!fs.exists("/data/d").await);
    assert_eq!(fs.tree("/data/e").await, before);
    victim.cut_off();
    house.s3.faults().remove(rule);
    fs.take_over_all().await;
    assert_eq!(fs.owed().await, []);
    assert_eq!(fs.tree("/data/e").await, before);
    assert_eq!(fs.names("/data").await, ["e"]);
    assert!(house.keys().iter().all(|key| key.starts_with("e/")));
    let fresh = house.fresh_namespace().await;
    assert_eq!(fresh.fs.tree("/data/e").await, before);
    drop(moving);
    victim.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn u4_a_foreign_object_in_the_way_of_a_large_directory_undoes_that_name_alone() {
    let (house, fs) = House::mounted().await;
    fill(&house, "d");
    fs.sync_all("/data").await;
    let bucket = house.bucket();
    let meddle = move |command: &Command| {
        if let Command::ExpandRename { .. } = command {
            bucket.put(BUCKET, "e/sub6/f006", "somebody else's");
        }
    };
    let mover = house.client_with_hook(meddle).await;
    let error = mover.mv("/data/d", "/data/e").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    fs.nothing_owed().await;
    assert_eq!(fs.read("/data/d/sub6/f006").await.unwrap(), "bytes 6");
    fs.sync_all("/data").await;
    assert_eq!(
        fs.read("/data/e/sub6/f006").await.unwrap(),
        "somebody else's"
    );
    assert_eq!(fs.tree("/data/e").await.len(), MANY + 7);
    assert_eq!(house.keys().len(), MANY + 1);
}
