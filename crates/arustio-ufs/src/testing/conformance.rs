//! The suite that every backend passes, ours and a stranger's.
//!
//! Each function is one family of promises; [`all`] runs them one after the other. A
//! backend's own test opens a store, makes a [`Bench`] and calls them. What a store says
//! it cannot do ([`Capabilities`](crate::Capabilities)) is not asked of it; what it says
//! it can is. Every function works below a prefix of its own and cleans up nothing, so
//! that a failure can be looked at.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arustio_types::{Classify, ErrorKind, ObjectVersion, UfsKey, WriteId};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};

use crate::capability::{IdentityKind, Support};
use crate::error::Result;
use crate::ufs::{
    CopyOptions, DeleteOptions, DeleteRequest, EntryKind, ListOptions, ListPage, Payload,
    ReadOptions, RenameOptions, UfsExt, UnderFileSystem, WriteMode, WriteOptions, Written,
};
use crate::upload::{AbortOptions, CompleteOptions, Upload, UploadOptions};

/// Long enough for every store under test.
const DEADLINE: Duration = Duration::from_secs(20);
/// More than any test reads.
const LIMIT: u64 = 1 << 30;

/// A store under test, and the corner of it that the suite may use.
#[derive(Debug)]
pub struct Bench {
    ufs: Arc<dyn UnderFileSystem>,
    prefix: String,
    next_id: AtomicU64,
}

impl Bench {
    /// Tests a store below `prefix`, which is empty or ends in `/`.
    pub fn new(ufs: Arc<dyn UnderFileSystem>, prefix: &str) -> Self {
        Self {
            ufs,
            prefix: prefix.to_owned(),
            next_id: AtomicU64::new(1),
        }
    }

    fn key(&self, name: &str) -> UfsKey {
        UfsKey::new(&format!("{}{name}", self.prefix))
    }

    fn write_id(&self) -> WriteId {
        let next = self.next_id.fetch_add(1, Ordering::Relaxed);
        WriteId::new(0xc0de_0000_0000_0000_0000_0000_0000_0000 | u128::from(next))
    }

    async fn write(&self, name: &str, text: &'static str, mode: WriteMode) -> Result<Written> {
        let options = WriteOptions::new(mode, self.write_id(), DEADLINE);
        self.ufs.write(&self.key(name), text.into(), options).await
    }

    async fn put(&self, name: &str, text: &'static str) -> ObjectVersion {
        let written = self.write(name, text, WriteMode::Replace).await;
        written.expect("an unconditional write succeeds").version
    }

    async fn text(&self, name: &str) -> Option<Bytes> {
        let key = self.key(name);
        let read = self.ufs.read_bytes(&key, ReadOptions::default(), LIMIT);
        match read.await {
            Ok(bytes) => Some(bytes),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
                None
            }
        }
    }

    async fn delete(&self, name: &str, required: Option<ObjectVersion>) -> Result<()> {
        let options = DeleteOptions::new(required, DEADLINE);
        self.ufs.delete(&self.key(name), options).await.map(drop)
    }

    async fn pages(&self, name: &str, change: impl FnOnce(&mut ListOptions)) -> Vec<ListPage> {
        let mut options = ListOptions::all(self.key(name).as_str());
        change(&mut options);
        let pages: Result<Vec<_>> = self.ufs.list(options).try_collect().await;
        pages.expect("listing succeeds")
    }

    /// All names of a listing, common prefixes marked, relative to the bench.
    async fn names(&self, name: &str, change: impl FnOnce(&mut ListOptions)) -> Vec<String> {
        let mut names = Vec::new();
        for page in self.pages(name, change).await {
            let entries = page.entries.iter().map(|entry| &entry.key);
            let mut found: Vec<_> = entries.chain(&page.common_prefixes).cloned().collect();
            found.sort();
            names.extend(found);
        }
        let relative = |key: UfsKey| key.as_str()[self.prefix.len()..].to_owned();
        names.into_iter().map(relative).collect()
    }
}

/// Everything that any store must do.
pub async fn all(bench: &Bench) {
    what_is_written_is_read(bench).await;
    ranges_give_exactly_their_bytes(bench).await;
    reads_never_mix_versions(bench).await;
    writes_obey_their_mode(bench).await;
    deletes_spare_other_versions(bench).await;
    uploads_appear_whole(bench).await;
    uploads_obey_their_mode(bench).await;
    uploads_of_others_are_found_and_aborted(bench).await;
    copies_obey_both_conditions(bench).await;
    renames_obey_both_conditions(bench).await;
    listings_are_complete_and_in_order(bench).await;
    listings_resume_where_a_page_ended(bench).await;
    markers_are_directories(bench).await;
    racing_creators_have_one_winner(bench).await;
}

fn assert_kind<T: std::fmt::Debug>(result: Result<T>, kind: ErrorKind) {
    let error = result.expect_err("the request is refused");
    assert_eq!(error.kind(), kind, "{error}");
    assert!(!error.unanswered(), "a refusal is an answer: {error}");
}

/// Write, head, read and list agree on bytes, size, version and write id.
pub async fn what_is_written_is_read(bench: &Bench) {
    let key = bench.key("roundtrip/file");
    assert!(bench.ufs.head(&key).await.expect("head succeeds").is_none());
    assert_eq!(bench.text("roundtrip/file").await, None);

    let id = bench.write_id();
    let options = WriteOptions::new(WriteMode::CreateOnly, id, DEADLINE);
    let payload = Payload::from(vec![Bytes::from_static(b"he"), Bytes::from_static(b"llo")]);
    let written = bench.ufs.write(&key, payload, options).await;
    let version = written.expect("create succeeds").version;

    let head = bench
        .ufs
        .head(&key)
        .await
        .expect("head succeeds")
        .expect("it is there");
    assert_eq!((head.size, head.kind), (5, EntryKind::Object));
    assert_eq!((&head.key, &head.version), (&key, &version));
    if bench.ufs.capabilities().write_id {
        assert_eq!(head.write_id, Some(id));
    }
    let read = bench
        .ufs
        .read(&key, ReadOptions::default())
        .await
        .expect("read succeeds");
    assert_eq!((&read.entry.version, read.entry.size), (&version, 5));
    assert_eq!(read.range, 0..5);
    assert_eq!(
        bench.text("roundtrip/file").await.as_deref(),
        Some(&b"hello"[..])
    );

    let pages = bench.pages("roundtrip/file", |_| ()).await;
    assert_eq!(
        pages[0].entries[0].version, version,
        "list returns the same identity"
    );
    assert_eq!(pages[0].entries[0].size, 5);

    bench.put("roundtrip/empty", "").await;
    assert_eq!(
        bench.text("roundtrip/empty").await.as_deref(),
        Some(&b""[..])
    );
}

/// Ranges are half-open, cut at the end, refused when there is nothing in them.
pub async fn ranges_give_exactly_their_bytes(bench: &Bench) {
    bench.put("range/file", "0123456789").await;
    let key = bench.key("range/file");
    let range = |range: std::ops::Range<u64>| {
        let options = ReadOptions {
            range: Some(range),
            ..ReadOptions::default()
        };
        bench.ufs.read_bytes(&key, options, LIMIT)
    };
    assert_eq!(range(0..1).await.expect("in range"), &b"0"[..]);
    assert_eq!(range(3..7).await.expect("in range"), &b"3456"[..]);
    assert_eq!(range(8..100).await.expect("cut"), &b"89"[..]);
    assert_eq!(range(8..u64::MAX).await.expect("cut"), &b"89"[..]);
    assert_kind(range(10..11).await, ErrorKind::InvalidArgument);
    assert_kind(range(4..4).await, ErrorKind::InvalidArgument);

    let options = ReadOptions {
        range: Some(2..5),
        ..ReadOptions::default()
    };
    let read = bench.ufs.read(&key, options).await.expect("in range");
    assert_eq!(
        (read.entry.size, read.range),
        (10, 2..5),
        "a range tells the whole size"
    );
}

/// R1: a read of a version gives that version or `Stale`, also when it is gone.
pub async fn reads_never_mix_versions(bench: &Bench) {
    let old = bench.put("stale/file", "old").await;
    let read = |version: &ObjectVersion| {
        let options = ReadOptions {
            required: Some(version.clone()),
            ..ReadOptions::default()
        };
        async move {
            bench
                .ufs
                .read_bytes(&bench.key("stale/file"), options, LIMIT)
                .await
        }
    };
    assert_eq!(read(&old).await.expect("still there"), &b"old"[..]);
    let new = bench.put("stale/file", "new!").await;
    assert_ne!(old, new);
    assert_kind(read(&old).await, ErrorKind::Stale);
    assert_eq!(read(&new).await.expect("current"), &b"new!"[..]);
    bench
        .delete("stale/file", None)
        .await
        .expect("delete succeeds");
    assert_kind(read(&new).await, ErrorKind::Stale);
}

/// W2: create-only and replace-if never overwrite somebody else's object.
pub async fn writes_obey_their_mode(bench: &Bench) {
    let caps = bench.ufs.capabilities();
    let first = bench.write("mode/file", "one", WriteMode::CreateOnly).await;
    let first = first.expect("nothing is there").version;
    assert_kind(
        bench.write("mode/file", "two", WriteMode::CreateOnly).await,
        ErrorKind::AlreadyExists,
    );
    let second = bench
        .write("mode/file", "three", WriteMode::ReplaceIf(first.clone()))
        .await;
    let second = second.expect("the version is there").version;
    assert_kind(
        bench
            .write("mode/file", "four", WriteMode::ReplaceIf(first))
            .await,
        ErrorKind::Conflict,
    );
    assert_eq!(
        bench.text("mode/file").await.as_deref(),
        Some(&b"three"[..])
    );
    assert_kind(
        bench
            .write("mode/absent", "x", WriteMode::ReplaceIf(second))
            .await,
        ErrorKind::Conflict,
    );
    assert_eq!(bench.text("mode/absent").await, None);
    if caps.identity == IdentityKind::Unique {
        let again = bench.put("mode/file", "three").await;
        let same = bench.put("mode/file", "three").await;
        assert_ne!(again, same, "equal bytes, two versions");
    }
}

/// Deletes are idempotent, and a required version protects another one.
pub async fn deletes_spare_other_versions(bench: &Bench) {
    let old = bench.put("delete/file", "a").await;
    let new = bench.put("delete/file", "bb").await;
    assert_kind(
        bench.delete("delete/file", Some(old)).await,
        ErrorKind::Conflict,
    );
    assert_eq!(bench.text("delete/file").await.as_deref(), Some(&b"bb"[..]));
    bench
        .delete("delete/file", Some(new.clone()))
        .await
        .expect("this version");
    assert_eq!(bench.text("delete/file").await, None);
    bench
        .delete("delete/file", Some(new.clone()))
        .await
        .expect("absent is success");
    bench
        .delete("delete/file", None)
        .await
        .expect("absent is success");

    let kept = bench.put("delete/kept", "k").await;
    let gone = bench.put("delete/gone", "g!").await;
    let requests = [("kept", gone.clone()), ("gone", gone), ("absent", kept)];
    let requests = requests.map(|(name, version)| DeleteRequest {
        key: bench.key(&format!("delete/{name}")),
        required: Some(version),
    });
    let many = bench
        .ufs
        .delete_many(futures::stream::iter(requests).boxed(), DEADLINE);
    let results: Vec<_> = many.collect().await;
    assert_eq!(results.len(), 3, "one result for each request");
    for done in results {
        match done.request.key == bench.key("delete/kept") {
            true => assert_kind(done.result, ErrorKind::Conflict),
            false => drop(done.result.expect("deleted or absent")),
        }
    }
    assert!(bench.text("delete/kept").await.is_some());
}

async fn begin(bench: &Bench, name: &str) -> Box<dyn Upload> {
    let options = UploadOptions {
        write_id: bench.write_id(),
        deadline: DEADLINE,
    };
    let begun = bench.ufs.begin_upload(&bench.key(name), options).await;
    begun.expect("an upload begins")
}

async fn part(upload: &dyn Upload, payload: impl Into<Payload>) {
    let sent = upload.put_part(1, payload.into(), DEADLINE).await;
    sent.expect("a part is taken");
}

async fn finish(upload: &dyn Upload, mode: WriteMode) -> Result<Written> {
    upload.complete(CompleteOptions::new(mode, DEADLINE)).await
}

/// An upload is invisible until it is complete; then all parts are there in order.
pub async fn uploads_appear_whole(bench: &Bench) {
    let caps = bench.ufs.capabilities();
    let length = usize::try_from(caps.min_part.max(100)).expect("parts fit into memory");
    let upload = begin(bench, "upload/file").await;
    let first = upload.put_part(1, Bytes::from(vec![b'a'; length]).into(), DEADLINE);
    let second = upload.put_part(2, Bytes::from(vec![b'b'; length]).into(), DEADLINE);
    let third = upload.put_part(3, "tail".into(), DEADLINE);
    let (third, second, first) = futures::join!(third, second, first);
    first.and(second).and(third).expect("parts are taken");
    let again = upload.put_part(3, "tail!".into(), DEADLINE).await;
    again.expect("a part may be sent again");
    assert_eq!(
        bench.text("upload/file").await,
        None,
        "invisible before it is complete"
    );
    let listed = bench.names("upload/", |_| ()).await;
    assert!(listed.is_empty(), "invisible in listings: {listed:?}");

    let written = finish(&*upload, WriteMode::CreateOnly).await;
    let version = written.expect("nothing is there").version;
    let bytes = bench.text("upload/file").await.expect("it appeared");
    assert_eq!(bytes.len(), 2 * length + 5);
    assert_eq!((bytes[0], bytes[length]), (b'a', b'b'));
    assert!(bytes.ends_with(b"tail!"));
    let head = bench
        .ufs
        .head(&bench.key("upload/file"))
        .await
        .expect("head succeeds");
    assert_eq!(head.expect("it is there").version, version);

    let empty = begin(bench, "upload/empty").await;
    let done = finish(&*empty, WriteMode::CreateOnly).await;
    done.expect("an upload without parts is an empty object");
    assert_eq!(bench.text("upload/empty").await.as_deref(), Some(&b""[..]));
}

/// Completing obeys the same conditions as writing.
pub async fn uploads_obey_their_mode(bench: &Bench) {
    let old = bench.put("upload-mode/file", "there").await;
    let upload = begin(bench, "upload-mode/file").await;
    part(&*upload, "mine").await;
    assert_kind(
        finish(&*upload, WriteMode::CreateOnly).await,
        ErrorKind::AlreadyExists,
    );
    upload
        .abort(AbortOptions { deadline: DEADLINE })
        .await
        .expect("aborts");
    assert_eq!(
        bench.text("upload-mode/file").await.as_deref(),
        Some(&b"there"[..])
    );

    let upload = begin(bench, "upload-mode/file").await;
    part(&*upload, "replaced").await;
    let done = finish(&*upload, WriteMode::ReplaceIf(old.clone())).await;
    done.expect("the version is there");
    assert_eq!(
        bench.text("upload-mode/file").await.as_deref(),
        Some(&b"replaced"[..])
    );

    let upload = begin(bench, "upload-mode/file").await;
    part(&*upload, "late").await;
    assert_kind(
        finish(&*upload, WriteMode::ReplaceIf(old)).await,
        ErrorKind::Conflict,
    );
    upload
        .abort(AbortOptions { deadline: DEADLINE })
        .await
        .expect("aborts");
    assert_eq!(
        bench.text("upload-mode/file").await.as_deref(),
        Some(&b"replaced"[..])
    );
}

/// W3: what a dead writer began is found by its key and ended.
pub async fn uploads_of_others_are_found_and_aborted(bench: &Bench) {
    let key = bench.key("orphan/file");
    let upload = begin(bench, "orphan/file").await;
    part(&*upload, "lost").await;
    let found: Result<Vec<_>> = bench.ufs.list_uploads(&key).try_collect().await;
    let found = found.expect("uploads are listed");
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((&found[0].key, &found[0].id), (&key, upload.id()));
    assert!(found[0].begun.millis() > 0, "it says when it was begun");

    let options = AbortOptions { deadline: DEADLINE };
    let aborted = bench
        .ufs
        .abort_upload(&key, &found[0].id, options.clone())
        .await;
    aborted.expect("aborts");
    let again = bench.ufs.abort_upload(&key, &found[0].id, options).await;
    again.expect("an absent upload is success");
    let left: Result<Vec<_>> = bench.ufs.list_uploads(&key).try_collect().await;
    assert!(left.expect("uploads are listed").is_empty());
    let refused = finish(&*upload, WriteMode::CreateOnly).await;
    assert!(refused.is_err(), "an aborted upload cannot complete");
    assert_eq!(bench.text("orphan/file").await, None);
}

/// U4: a copy takes one version of the source, and respects what is at the target.
pub async fn copies_obey_both_conditions(bench: &Bench) {
    let old = bench.put("copy/source", "first").await;
    let new = bench.put("copy/source", "second!").await;
    let id = bench.write_id();
    let copy = |source_version: &ObjectVersion, target: &str, mode| {
        let options = CopyOptions {
            source_version: source_version.clone(),
            mode,
            write_id: id,
            deadline: DEADLINE,
            guard: crate::Guard::Careful,
        };
        let target = bench.key(target);
        async move {
            bench
                .ufs
                .copy(&bench.key("copy/source"), &target, options)
                .await
        }
    };
    assert_kind(
        copy(&old, "copy/target", WriteMode::CreateOnly).await,
        ErrorKind::Stale,
    );
    assert_eq!(bench.text("copy/target").await, None);

    let copied = copy(&new, "copy/target", WriteMode::CreateOnly).await;
    let copied = copied.expect("source and target are as required").version;
    assert_eq!(
        bench.text("copy/target").await.as_deref(),
        Some(&b"second!"[..])
    );
    let head = bench
        .ufs
        .head(&bench.key("copy/target"))
        .await
        .expect("head succeeds");
    let head = head.expect("it is there");
    assert_eq!(head.version, copied);
    if bench.ufs.capabilities().write_id {
        assert_eq!(head.write_id, Some(id), "a copy has its own write id");
    }
    assert_kind(
        copy(&new, "copy/target", WriteMode::CreateOnly).await,
        ErrorKind::AlreadyExists,
    );
    let other = bench.put("copy/target", "somebody's").await;
    assert_kind(
        copy(&new, "copy/target", WriteMode::ReplaceIf(copied)).await,
        ErrorKind::Conflict,
    );
    assert_eq!(
        bench.text("copy/target").await.as_deref(),
        Some(&b"somebody's"[..])
    );
    let replaced = copy(&new, "copy/target", WriteMode::ReplaceIf(other)).await;
    replaced.expect("the version is there");
    assert_eq!(
        bench.text("copy/target").await.as_deref(),
        Some(&b"second!"[..])
    );
    assert!(
        bench.text("copy/source").await.is_some(),
        "the source stays"
    );

    bench.put("copy/nothing", "").await;
    let empty = bench
        .ufs
        .head(&bench.key("copy/nothing"))
        .await
        .expect("head succeeds");
    let options = CopyOptions {
        source_version: empty.expect("it is there").version,
        mode: WriteMode::CreateOnly,
        write_id: bench.write_id(),
        deadline: DEADLINE,
        guard: crate::Guard::Careful,
    };
    let (from, to) = (bench.key("copy/nothing"), bench.key("copy/nothing-too"));
    bench
        .ufs
        .copy(&from, &to, options)
        .await
        .expect("an empty object is copied");
    assert_eq!(
        bench.text("copy/nothing-too").await.as_deref(),
        Some(&b""[..])
    );
}

/// Where there is a rename, it is one step under both conditions.
pub async fn renames_obey_both_conditions(bench: &Bench) {
    let source = bench.put("rename/source", "moved").await;
    bench.put("rename/taken", "taken").await;
    let id = bench.write_id();
    let rename = |target: &str| {
        let options = RenameOptions {
            source_version: source.clone(),
            mode: WriteMode::CreateOnly,
            write_id: id,
            deadline: DEADLINE,
        };
        let target = bench.key(target);
        async move {
            bench
                .ufs
                .rename(&bench.key("rename/source"), &target, options)
                .await
        }
    };
    if !bench.ufs.capabilities().atomic_rename {
        assert_kind(rename("rename/target").await, ErrorKind::Unsupported);
        return;
    }
    assert_kind(rename("rename/taken").await, ErrorKind::AlreadyExists);
    let renamed = rename("rename/target")
        .await
        .expect("the target is free")
        .version;
    assert_eq!(bench.text("rename/source").await, None);
    assert_eq!(
        bench.text("rename/target").await.as_deref(),
        Some(&b"moved"[..])
    );
    let head = bench
        .ufs
        .head(&bench.key("rename/target"))
        .await
        .expect("head succeeds");
    let head = head.expect("it is there");
    assert_eq!((head.version, head.write_id), (renamed, Some(id)));
    assert_kind(rename("rename/other").await, ErrorKind::Stale);
}

/// L1: every name once, in byte order, folded where asked.
pub async fn listings_are_complete_and_in_order(bench: &Bench) {
    for name in ["a.txt", "a/b", "a/c/d", "a/é", "b", "c/ d+e&f%2F", "c/<x>"] {
        bench.put(&format!("list/{name}"), "x").await;
    }
    // A store of directories lists each as a marker; others have none here.
    let objects = |names: Vec<String>| {
        let mut names = names;
        names.retain(|name| !name.ends_with('/'));
        names
    };
    let all = objects(bench.names("list/", |_| ()).await);
    let expect = [
        "list/a.txt",
        "list/a/b",
        "list/a/c/d",
        "list/a/é",
        "list/b",
        "list/c/ d+e&f%2F",
        "list/c/<x>",
    ];
    assert_eq!(all, expect);
    let level = bench
        .names("list/", |options| options.delimiter = true)
        .await;
    let level: Vec<_> = level.into_iter().filter(|name| name != "list/").collect();
    assert_eq!(level, ["list/a.txt", "list/a/", "list/b", "list/c/"]);
    let below = objects(
        bench
            .names("list/a/", |options| options.delimiter = true)
            .await,
    );
    assert_eq!(below, ["list/a/b", "list/a/é"]);
    let by_text = bench.names("list/a.", |_| ()).await;
    assert_eq!(by_text, ["list/a.txt"], "a prefix is text, not a directory");
    assert!(bench.names("list/absent/", |_| ()).await.is_empty());
    assert!(
        bench
            .ufs
            .any_below(&bench.key("list/a/"))
            .await
            .expect("lists")
    );
    assert!(
        !bench
            .ufs
            .any_below(&bench.key("list/absent/"))
            .await
            .expect("lists")
    );
}

/// A page says where it ended, and a listing can go on from there.
pub async fn listings_resume_where_a_page_ended(bench: &Bench) {
    for name in ["a", "b/1", "b/2", "c", "d/1", "e"] {
        bench.put(&format!("resume/{name}"), "x").await;
    }
    let whole = bench
        .names("resume/", |options| options.delimiter = true)
        .await;
    let whole: Vec<_> = whole.into_iter().filter(|name| name != "resume/").collect();
    let mut after: Option<UfsKey> = None;
    let mut found = Vec::new();
    for _ in 0..20 {
        let from = after.clone();
        let pages = bench.pages("resume/", |options| {
            options.delimiter = true;
            options.limit = Some(1);
            options.start_after = from;
        });
        for page in pages.await {
            assert!(page.names() <= 1, "the limit is kept");
            let entries = page.entries.iter().map(|entry| &entry.key);
            found.extend(entries.chain(&page.common_prefixes).cloned());
            after = page.next;
        }
        if after.is_none() {
            break;
        }
    }
    let found: Vec<_> = found
        .iter()
        .map(|key| &key.as_str()[bench.prefix.len()..])
        .collect();
    let found: Vec<_> = found
        .into_iter()
        .filter(|name| *name != "resume/")
        .collect();
    assert_eq!(found, whole);
    let behind = bench.key("resume/b/1");
    let names = bench
        .names("resume/", |options| options.start_after = Some(behind))
        .await;
    let names: Vec<_> = names
        .into_iter()
        .filter(|name| !name.ends_with('/'))
        .collect();
    assert_eq!(names, ["resume/b/2", "resume/c", "resume/d/1", "resume/e"]);
}

/// U2: an empty object whose key ends in `/` is a directory that exists by itself.
pub async fn markers_are_directories(bench: &Bench) {
    let marker = bench.write("marker/dir/", "", WriteMode::CreateOnly).await;
    let version = marker.expect("nothing is there").version;
    let head = bench
        .ufs
        .head(&bench.key("marker/dir/"))
        .await
        .expect("head succeeds");
    let head = head.expect("it is there");
    assert_eq!((head.kind, head.size), (EntryKind::Marker, 0));
    assert_eq!(head.version, version);
    assert_kind(
        bench.write("marker/dir/", "", WriteMode::CreateOnly).await,
        ErrorKind::AlreadyExists,
    );
    let level = bench
        .names("marker/", |options| options.delimiter = true)
        .await;
    assert!(level.contains(&"marker/dir/".to_owned()), "{level:?}");
    assert!(
        bench
            .ufs
            .any_below(&bench.key("marker/dir/"))
            .await
            .expect("lists")
    );
    bench
        .delete("marker/dir/", Some(version))
        .await
        .expect("this version");
    let head = bench
        .ufs
        .head(&bench.key("marker/dir/"))
        .await
        .expect("head succeeds");
    assert!(head.is_none());
}

/// Of many who create one name at once, one wins, and its bytes stand there.
pub async fn racing_creators_have_one_winner(bench: &Bench) {
    if bench.ufs.capabilities().create_only != Support::Atomic {
        return;
    }
    let writes = (0..8).map(|_| bench.write("race/file", "me", WriteMode::CreateOnly));
    let results = futures::future::join_all(writes).await;
    let won: Vec<_> = results
        .iter()
        .filter_map(|result| result.as_ref().ok())
        .collect();
    assert_eq!(won.len(), 1, "{results:?}");
    for lost in results.iter().filter_map(|result| result.as_ref().err()) {
        assert_eq!(lost.kind(), ErrorKind::AlreadyExists, "{lost}");
    }
    let head = bench
        .ufs
        .head(&bench.key("race/file"))
        .await
        .expect("head succeeds");
    assert_eq!(head.expect("it is there").version, won[0].version);
}

/// U3: keys that no path can name are kept apart, and break none of their neighbours.
/// For stores that take such keys; a key that cannot be sent is refused as such.
pub async fn hostile_keys_break_nobody(bench: &Bench) {
    let hostile = [
        "hostile/",
        "hostile//b",
        "hostile/a/../b",
        "hostile/./c",
        "hostile/a?b#c%41",
        "hostile/\u{1}\n",
        "hostile/ok",
    ];
    let mut taken = Vec::new();
    for name in hostile {
        match bench.write(name, "bytes", WriteMode::Replace).await {
            Ok(_) => taken.push(name.to_owned()),
            Err(error) => assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}"),
        }
    }
    taken.sort();
    assert!(taken.len() >= 5, "{taken:?}");
    assert_eq!(bench.names("hostile/", |_| ()).await, taken);
    for name in taken {
        let text = bench.text(&name).await;
        assert_eq!(text.as_deref(), Some(&b"bytes"[..]), "{name:?}");
        let head = bench
            .ufs
            .head(&bench.key(&name))
            .await
            .expect("head succeeds");
        let version = head.expect("it is there").version;
        bench
            .delete(&name, Some(version))
            .await
            .expect("this version");
        assert_eq!(bench.text(&name).await, None, "{name:?}");
    }
}
