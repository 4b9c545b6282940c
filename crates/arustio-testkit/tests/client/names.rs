//! N1: operations of several clients are one sequence.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arustio_client::{
    ArustioFileSystem, CreateOptions, DeleteOptions, ErrorKind, FileSystem, MountRequest,
    RenameOptions, Result, StatOptions,
};
use arustio_meta::testing::history::{self, Answer, linearizable};
use arustio_testkit::s3::Profile;
use arustio_types::ContentId;
use arustio_types::meta::setting::{PathConf, SyncInterval};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::house::{House, Short, p, within};

const PATHS: [&str; 3] = ["/data/a", "/data/b", "/data/d/c"];
const CLIENTS: u64 = 4;
const CALLS: usize = 16;
const ALWAYS: SyncInterval = SyncInterval::Every(Duration::ZERO);
/// What a name will lead to is known when the service has said so.
const NOT_YET: ContentId = ContentId::new(0);

type Call = history::Call<ContentId>;
type Event = history::Event<ContentId>;

fn some_call(random: &mut StdRng) -> Call {
    let path = random.random_range(0..PATHS.len());
    match random.random_range(0..10) {
        0..3 => Call::Create(path, NOT_YET),
        3..6 => Call::Stat(path),
        6..8 => Call::Delete(path),
        _ => Call::Rename(
            path,
            (path + random.random_range(1..PATHS.len())) % PATHS.len(),
        ),
    }
}

async fn make(fs: &ArustioFileSystem, path: &str) -> Result<ContentId> {
    let mut writer = fs.create(&p(path), CreateOptions::default()).await?;
    writer.write("bytes".into()).await?;
    Ok(writer.commit().await?.content)
}

/// The call, with what a name leads to that it made, and its answer.
async fn carry_out(fs: &ArustioFileSystem, call: Call) -> (Call, Answer<ContentId>) {
    let path = |index: usize| p(PATHS[index]);
    let done = match call {
        Call::Create(at, _) => match make(fs, PATHS[at]).await {
            Ok(content) => return (Call::Create(at, content), Answer::Done),
            Err(error) => Err(error),
        },
        Call::Stat(at) => {
            let seen = fs.stat(&path(at), StatOptions::default()).await;
            seen.map(|status| Answer::Seen(status.content_id().expect("all names are of files")))
        }
        Call::Delete(at) => {
            let removed = fs.delete(&path(at), DeleteOptions::default()).await;
            removed.map(|_| Answer::Done)
        }
        Call::Rename(from, to) => {
            let (from, to) = (path(from), path(to));
            let moved = fs.rename(&from, &to, RenameOptions::default()).await;
            moved.map(|()| Answer::Done)
        }
        Call::Write(..) | Call::Replace(..) | Call::List => panic!("{call:?} is never drawn"),
    };
    let answer = done.unwrap_or_else(|error| match error.kind() {
        ErrorKind::NotFound => Answer::NotFound,
        ErrorKind::AlreadyExists => Answer::Exists,
        // Nothing happened, and the message says what to do.
        ErrorKind::Conflict => Answer::Nothing,
        _ => panic!("{call:?}: {error}"),
    });
    (call, answer)
}

async fn act(fs: ArustioFileSystem, seed: u64, clock: Arc<AtomicU64>) -> Vec<Event> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut events = Vec::new();
    for _ in 0..CALLS {
        let call = some_call(&mut random);
        let called = clock.fetch_add(1, Ordering::SeqCst);
        let (call, answer) = carry_out(&fs, call).await;
        let returned = clock.fetch_add(1, Ordering::SeqCst);
        events.push(Event {
            call,
            answer,
            called,
            returned,
        });
    }
    events
}

async fn history(profile: Profile, interval: SyncInterval, seed: u64) -> Vec<Event> {
    let (house, fs) = House::mounted_with(profile).await;
    fs.mkdirs("/data/d").await;
    let set = PathConf {
        sync_interval: Some(interval),
        ..PathConf::default()
    };
    fs.set_conf(&p("/data"), set, Vec::new()).await.unwrap();
    let clock = Arc::new(AtomicU64::new(0));
    let mut tasks = Vec::new();
    for client in 0..CLIENTS {
        let fs = house.client().await;
        let clock = Arc::clone(&clock);
        tasks.push(tokio::spawn(act(fs, seed * CLIENTS + client, clock)));
    }
    let mut events = Vec::new();
    for task in tasks {
        events.extend(within(task).await.unwrap());
    }
    fs.nothing_owed().await;
    settled(&house, &fs).await;
    events
}

/// When all is done the bucket holds what the namespace shows, no more and no less.
async fn settled(house: &House, fs: &ArustioFileSystem) {
    let mut shown = Vec::new();
    for (path, content) in fs.tree("/data").await {
        shown.push(match content {
            Some(_) => path,
            None => format!("{path}/"),
        });
    }
    shown.sort();
    assert_eq!(house.keys(), shown);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn n1_histories_of_four_clients_are_linearizable() {
    let first: u64 = rand::random();
    let rounds = [
        (Profile::Aws, SyncInterval::Never),
        (Profile::Aws, ALWAYS),
        (Profile::Minio, ALWAYS),
    ];
    for (round, (profile, interval)) in rounds.into_iter().enumerate() {
        let seed = first.wrapping_add(round as u64) >> 8;
        println!("seed {seed}");
        let events = history(profile, interval, seed).await;
        let nothing = |event: &&Event| event.answer == Answer::Nothing;
        let refused = events.iter().filter(nothing).count();
        assert!(refused * 4 < events.len(), "mostly conflicts: {events:#?}");
        assert!(
            linearizable(PATHS.len(), &events),
            "seed {seed}: no sequence explains {events:#?}"
        );
    }
}

#[tokio::test]
async fn n1_what_one_client_was_told_all_others_see_at_once() {
    let (house, one) = House::mounted().await;
    let two = house.client().await;
    let mut contents = HashMap::new();
    for i in 0..8 {
        let (path, moved) = (format!("/data/d/f{i}"), format!("/data/d/g{i}"));
        // The other one has looked, and knows that there is nothing.
        assert!(!two.exists(&path).await && !two.exists(&moved).await);
        let made = one.write(&path, &path).await.unwrap();
        contents.insert(moved.clone(), made.content);
        assert_eq!(two.read(&path).await.unwrap(), path);
        assert!(two.names("/data/d").await.contains(&format!("f{i}")));
        two.mv(&path, &moved).await.unwrap();
        assert!(!one.exists(&path).await);
        assert_eq!(one.read(&moved).await.unwrap(), path);
        if i % 2 == 0 {
            one.rm(&moved).await.unwrap();
            assert!(!two.exists(&moved).await);
            contents.remove(&moved);
        }
    }
    for (path, content) in contents {
        let status = two.stat(&p(&path), StatOptions::default()).await.unwrap();
        assert_eq!(
            status.content_id(),
            Some(content),
            "moving keeps the content"
        );
    }
}

#[tokio::test]
async fn p4_a_removed_tree_leaves_no_directory_in_a_local_store() {
    let (_house, fs) = House::mounted().await;
    let store = tempfile::tempdir().unwrap();
    let uri = format!("file://{}", store.path().display());
    let mount = MountRequest::new(p("/local"), &uri);
    fs.mount(mount).await.unwrap();
    fs.mkdirs("/local/c/a/b").await;
    fs.mkdirs("/local/c/z/y/x").await;
    fs.write("/local/c/a/b/f", "x").await.unwrap();
    // As it lies in the store: each directory is one.
    fs.sync_all("/local").await;
    fs.rm_r("/local/c").await.unwrap();
    assert!(!store.path().join("c").exists());
    fs.sync_all("/local").await;
    assert!(!fs.exists("/local/c").await);
}

/// More than one page of what is removed: directories end up in other pages than what is in them.
#[tokio::test]
async fn p4_a_large_removed_tree_leaves_no_directory_in_a_local_store() {
    let (_house, fs) = House::mounted().await;
    let store = tempfile::tempdir().unwrap();
    for outer in 0..30 {
        let folder = store.path().join(format!("c/{outer}/in"));
        std::fs::create_dir_all(&folder).unwrap();
        for inner in 0..40 {
            std::fs::write(folder.join(inner.to_string()), "x").unwrap();
        }
    }
    let uri = format!("file://{}", store.path().display());
    let mount = MountRequest::new(p("/local"), &uri);
    fs.mount(mount).await.unwrap();
    fs.sync_all("/local").await;
    fs.rm_r("/local/c").await.unwrap();
    assert!(!store.path().join("c").exists());
    fs.nothing_owed().await;
}

/// Directories that the store makes on the way to a file are no markers, and go all the same.
#[tokio::test]
async fn p4_a_removed_tree_leaves_no_directory_that_files_were_written_into() {
    let (_house, fs) = House::mounted().await;
    let store = tempfile::tempdir().unwrap();
    let uri = format!("file://{}", store.path().display());
    fs.mount(MountRequest::new(p("/local"), &uri))
        .await
        .unwrap();
    let options = CreateOptions {
        parents: true,
        ..CreateOptions::default()
    };
    for path in ["c/a/in/f", "c/a/in/g", "c/z/y/x/f", "d/kept"] {
        let path = p(&format!("/local/{path}"));
        let mut writer = fs.create(&path, options.clone()).await.unwrap();
        writer.write("bytes".into()).await.unwrap();
        writer.commit().await.unwrap();
    }
    fs.rm_r("/local/c").await.unwrap();
    assert!(!store.path().join("c").exists());
    assert!(store.path().join("d/kept").exists());
    fs.sync_all("/local").await;
    assert!(!fs.exists("/local/c").await);
    fs.nothing_owed().await;
}
