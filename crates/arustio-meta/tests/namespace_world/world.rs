//! A namespace on the engine in memory, with clients that speak a tiny language.
//!
//! One line is one command or question; the answer is one or more lines of text. Every
//! command goes through the same bytes as in the log, and every one is followed by a check
//! of all invariants of the state.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a helper of tests: what it cannot read is a mistake in a test"
)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use arustio_meta::engine::{EngineKind, MemEngine};
use arustio_meta::namespace::Namespace;
use arustio_meta::state_machine::{Entry, LogPosition, ReplicatedTime, StateMachine};
use arustio_types::cluster::{NodeChange, NodeInfo};
use arustio_types::meta::command::{
    AttributeChange, BeginWrite, CommitWrite, CreateMode, Owed, Principal, Proof,
};
use arustio_types::meta::credential::Credential;
use arustio_types::meta::effect::{Effect, EffectKind};
use arustio_types::meta::merge::{KeyRange, Merge, MergeEntry, MergeKind};
use arustio_types::meta::mount::{MountCapabilities, MountSpec};
use arustio_types::meta::setting::{Origin, PathConf};
use arustio_types::meta::{Answer, Command, FileKind, FileStatus, Outcome, Query, RequestContext};
use arustio_types::{
    ClusterId, ContentId, EffectId, FsPath, Incarnation, InodeId, IntentId, LogIndex, NodeId,
    ObjectVersion, RequestId, SessionId, Timestamp, WriteId,
};

/// Sessions of a test live so long unless it says otherwise, in milliseconds.
const TTL: u64 = 60_000;

#[derive(Debug, Default)]
struct Client {
    session: SessionId,
    sequence: u64,
    sent: Vec<(RequestContext, Command)>,
}

/// A namespace and its clients.
#[derive(Debug)]
pub(crate) struct World {
    /// Its engine; crashes on demand.
    pub(crate) engine: Arc<MemEngine>,
    /// The state machine.
    pub(crate) namespace: Namespace,
    clients: BTreeMap<String, Client>,
    marks: BTreeMap<String, LogIndex>,
    index: u64,
    now: u64,
    minted: u128,
}

impl Default for World {
    fn default() -> Self {
        let engine = Arc::new(MemEngine::crashing(EngineKind::State));
        let namespace = open(&engine);
        Self {
            engine,
            namespace,
            clients: BTreeMap::new(),
            marks: BTreeMap::new(),
            index: 0,
            now: 0,
            minted: 0,
        }
    }
}

fn open(engine: &Arc<MemEngine>) -> Namespace {
    let engine = Arc::clone(engine);
    Namespace::open(engine, ClusterId::new(7), Incarnation::new(1)).unwrap()
}

fn path(text: &str) -> FsPath {
    FsPath::new(text).unwrap_or_else(|error| panic!("{error}"))
}

/// The words of a line: flags, `key=value` pairs, and the rest in order.
#[derive(Debug, Default)]
struct Words<'l> {
    plain: Vec<&'l str>,
    pairs: Vec<(&'l str, &'l str)>,
}

impl<'l> Words<'l> {
    fn parse(line: &'l str) -> Self {
        let mut words = Self::default();
        for word in line.split_whitespace() {
            match word.split_once('=').filter(|(key, _)| PAIRS.contains(key)) {
                Some(pair) => words.pairs.push(pair),
                None => words.plain.push(word),
            }
        }
        words
    }

    fn at(&self, index: usize) -> &'l str {
        self.plain
            .get(index)
            .copied()
            .unwrap_or_else(|| panic!("word {index} is missing"))
    }

    fn flag(&self, name: &str) -> bool {
        self.plain.contains(&name)
    }

    fn value(&self, key: &str) -> Option<&'l str> {
        self.pairs
            .iter()
            .find(|(own, _)| *own == key)
            .map(|(_, value)| *value)
    }

    fn number(&self, key: &str) -> Option<u64> {
        self.value(key).map(|text| text.parse().unwrap())
    }

    fn rest(&self, from: usize) -> String {
        self.plain[from.min(self.plain.len())..].join(" ")
    }
}

const PAIRS: [&str; 20] = [
    "ttl",
    "proof",
    "type",
    "block",
    "v",
    "len",
    "unanswered",
    "from",
    "to",
    "seen",
    "marker",
    "after",
    "limit",
    "unset",
    "set",
    "opt",
    "user",
    "bound",
    "credential",
    "write_id",
];

impl World {
    /// Runs a line and tells what came of it.
    pub(crate) fn run(&mut self, line: &str) -> String {
        let words = Words::parse(line);
        let answer = match words.at(0) {
            "time" => {
                self.now += words.at(1).trim_start_matches('+').parse::<u64>().unwrap();
                format!("{} ms", self.now)
            }
            "mark" => {
                self.marks
                    .insert(words.at(1).to_owned(), LogIndex::new(self.index));
                format!("{} = {}", words.at(1), self.index)
            }
            "restart" => self.restart(usize::MAX),
            "node" => self.outside(Command::RegisterNode {
                instance: words.at(1).parse().unwrap(),
                address: words.at(2).to_owned(),
                weight: words.at(3).parse().unwrap(),
                data: arustio_types::cluster::DataEndpoints::default(),
            }),
            "weigh" => self.decide(&words, NodeChange::Weight(words.at(2).parse().unwrap())),
            "drain" => self.decide(&words, NodeChange::Draining(words.at(2) == "on")),
            "drop-node" => self.decide(&words, NodeChange::Remove),
            "stat" | "ls" | "du" | "mounts" | "pending" | "detached" | "get-conf" | "nodes"
            | "all-nodes" => self.ask(&words),
            client => self.command(client, &words),
        };
        self.check(line);
        answer
    }

    /// Panics unless every invariant holds.
    pub(crate) fn check(&self, line: &str) {
        let found = self.namespace.verify().unwrap();
        assert!(found.is_sound(), "after {line:?}: {:#?}", found.problems);
        self.check_listings(line);
    }

    /// Panics unless every listing tells of each name what a look at the name tells.
    fn check_listings(&self, line: &str) {
        let mut dirs = vec![FsPath::root()];
        while let Some(dir) = dirs.pop() {
            let query = Query::List {
                path: dir,
                after: None,
                limit: 1_000,
            };
            let Answer::Page(page) = self.namespace.query(query).unwrap() else {
                panic!("after {line:?}: no page of a directory");
            };
            for listed in page.entries.statuses() {
                let status = self.status(&listed.path);
                assert_eq!(status.as_ref(), Some(&listed), "after {line:?}");
                dirs.extend(listed.is_dir().then_some(listed.path));
            }
        }
    }

    /// The server loses power; `kept` of its unsynced batches reached the disk. Entries
    /// that are lost would come again from the log.
    pub(crate) fn restart(&mut self, kept: usize) -> String {
        self.engine = Arc::new(self.engine.after_crash(kept));
        self.namespace = open(&self.engine);
        let applied = self.namespace.applied().position.index;
        self.index = applied.get();
        format!("at {applied}")
    }

    /// The current position.
    pub(crate) fn position(&self) -> LogIndex {
        LogIndex::new(self.index)
    }

    fn decide(&mut self, words: &Words<'_>, change: NodeChange) -> String {
        let node = NodeId::new(words.at(1).parse().unwrap());
        self.outside(Command::ChangeNode { node, change })
    }

    fn outside(&mut self, command: Command) -> String {
        let context = RequestContext::default();
        let outcome = self.apply(&context, &command);
        tell(&outcome)
    }

    /// Applies a command through the bytes of the log.
    pub(crate) fn apply(&mut self, context: &RequestContext, command: &Command) -> Outcome {
        self.index += 1;
        let payload = Namespace::encode(context, command);
        let entry = Entry {
            position: LogPosition {
                index: LogIndex::new(self.index),
                term: 1,
            },
            time: ReplicatedTime::from_millis(self.now),
            payload: &payload,
            members: None,
        };
        let mut outcomes = self.namespace.apply(&[entry]).unwrap();
        outcomes.pop().flatten().unwrap()
    }

    fn context(&mut self, name: &str, sequence: u64) -> RequestContext {
        let client = self.clients.entry(name.to_owned()).or_default();
        RequestContext {
            id: RequestId {
                session: client.session,
                sequence,
                first_unacked: sequence,
            },
            principal: Principal {
                user: name.to_owned(),
                groups: vec!["staff".to_owned()],
            },
            now: Timestamp::from_millis(1_000_000 + i64::try_from(self.index).unwrap()),
            ..RequestContext::default()
        }
    }

    fn open_session(&mut self, name: &str, ttl: u64) -> String {
        self.minted += 1;
        let command = Command::OpenSession {
            nonce: self.minted,
            ttl: Duration::from_millis(ttl),
        };
        let outcome = self.apply(&RequestContext::default(), &command);
        if let Outcome::SessionOpened { session } = outcome {
            let client = Client {
                session,
                ..Client::default()
            };
            self.clients.insert(name.to_owned(), client);
        }
        tell(&outcome)
    }

    fn command(&mut self, name: &str, words: &Words<'_>) -> String {
        if words.at(1) == "open" {
            return self.open_session(name, words.number("ttl").unwrap_or(TTL));
        }
        if !self.clients.contains_key(name) {
            self.open_session(name, TTL);
        }
        if words.at(1) == "repeat" {
            // `repeat 2` is the request before the last.
            let ago: usize = words.plain.get(2).map_or(1, |n| n.parse().unwrap());
            let sent = &self.clients[name].sent;
            let Some(at) = sent.len().checked_sub(ago) else {
                return "nothing to repeat".to_owned();
            };
            let (context, command) = sent[at].clone();
            return tell(&self.apply(&context, &command));
        }
        let command = self.parse(words);
        let client = self.clients.entry(name.to_owned()).or_default();
        client.sequence += 1;
        let sequence = client.sequence;
        let context = self.context(name, sequence);
        let outcome = self.apply(&context, &command);
        if let Some(client) = self.clients.get_mut(name) {
            client.sent.push((context, command));
        }
        tell(&outcome)
    }

    fn position_named(&self, name: &str) -> LogIndex {
        match name.parse() {
            Ok(index) => index,
            Err(_) => self.marks[name],
        }
    }

    fn proofs(&self, words: &Words<'_>) -> Vec<Proof> {
        let given = words.pairs.iter().filter(|(key, _)| *key == "proof");
        given
            .map(|(_, text)| {
                let (of, seen) = match text.split_once('@') {
                    Some((of, seen)) => (of, self.position_named(seen)),
                    None => (*text, self.position()),
                };
                Proof {
                    path: path(of),
                    seen,
                }
            })
            .collect()
    }

    fn write_id(&mut self, words: &Words<'_>) -> WriteId {
        self.minted += 1;
        WriteId::new(words.number("write_id").map_or(self.minted, u128::from))
    }

    fn parse(&mut self, words: &Words<'_>) -> Command {
        let proofs = self.proofs(words);
        match words.at(1) {
            "keep" => Command::KeepSession,
            "close" => Command::CloseSession,
            "mount" => Command::Mount(mount_spec(words)),
            "update-mount" => Command::UpdateMount(mount_spec(words)),
            "unmount" => Command::Unmount {
                path: path(words.at(2)),
                force: words.flag("force"),
            },
            "mkdir" => Command::Mkdir {
                path: path(words.at(2)),
                parents: words.flag("parents"),
                exist_ok: words.flag("exist_ok"),
                write_id: self.write_id(words),
                proofs,
            },
            "begin" => Command::BeginWrite(BeginWrite {
                path: path(words.at(2)),
                mode: match words.flag("excl") {
                    true => CreateMode::Exclusive,
                    false => CreateMode::Overwrite,
                },
                parents: words.flag("parents"),
                write_id: self.write_id(words),
                content: ContentId::new(self.minted),
                write_type: words.value("type").map(|text| text.parse().unwrap()),
                block_size: None,
                proofs,
            }),
            "rm" => Command::Delete {
                path: path(words.at(2)),
                recursive: words.flag("r"),
                arustio_only: words.flag("only"),
                proofs,
            },
            "mv" => Command::Rename {
                from: path(words.at(2)),
                to: path(words.at(3)),
                replace: words.flag("replace"),
                write_id: self.write_id(words),
                proofs,
            },
            "merge" => Command::Merge(self.merge(words)),
            "conf" => conf(words),
            "chmod" => Command::SetAttributes {
                path: path(words.at(2)),
                change: AttributeChange {
                    mode: Some(u32::from_str_radix(words.at(3), 8).unwrap()),
                    ..AttributeChange::default()
                },
            },
            _ => owed_command(words),
        }
    }

    fn merge(&self, words: &Words<'_>) -> Merge {
        let dir = path(words.at(2));
        let place = self.status(&dir);
        let seen = words
            .value("seen")
            .map_or(self.position(), |name| self.position_named(name));
        Merge {
            dir_inode: place.as_ref().map_or(InodeId::new(0), |place| place.inode),
            mount: place.and_then(|place| place.mount).unwrap_or_default(),
            dir,
            seen,
            range: KeyRange {
                from: words.value("from").unwrap_or_default().to_owned(),
                to: words.value("to").map(str::to_owned),
            },
            entries: words.plain[3..]
                .iter()
                .map(|text| merge_entry(text))
                .collect(),
        }
    }

    /// What is known of a path.
    pub(crate) fn status(&self, of: &FsPath) -> Option<FileStatus> {
        let query = Query::Stat { path: of.clone() };
        match self.namespace.query(query).unwrap() {
            Answer::Status(status) => Some(status),
            _ => None,
        }
    }

    fn ask(&self, words: &Words<'_>) -> String {
        let query = match words.at(0) {
            "stat" => Query::Stat {
                path: path(words.at(1)),
            },
            "ls" => Query::List {
                path: path(words.at(1)),
                after: words.value("after").map(str::to_owned),
                limit: words
                    .number("limit")
                    .map_or(1_000, |n| usize::try_from(n).unwrap()),
            },
            "mounts" => Query::Mounts,
            "pending" => Query::Pending {
                after: words.value("after").map(owed),
                limit: words
                    .number("limit")
                    .map_or(1_000, |n| usize::try_from(n).unwrap()),
            },
            "detached" => Query::Detached {
                root: words.at(1).parse().unwrap(),
                after: words.number("after").map(InodeId::new),
                limit: words
                    .number("limit")
                    .map_or(1_000, |n| usize::try_from(n).unwrap()),
            },
            "du" => Query::Usage {
                path: path(words.at(1)),
                after: words.value("after").map(path),
            },
            "get-conf" => Query::Conf {
                path: path(words.at(1)),
            },
            "all-nodes" => Query::Nodes,
            _ => Query::ClusterView,
        };
        tell_answer(&self.namespace.query(query).unwrap())
    }
}

fn mount_spec(words: &Words<'_>) -> MountSpec {
    let options = words.pairs.iter().filter(|(key, _)| *key == "opt");
    MountSpec {
        path: path(words.at(2)),
        uri: words.at(3).to_owned(),
        options: options
            .filter_map(|(_, text)| text.split_once(':'))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect(),
        credential: match words.value("credential") {
            Some(sealed) => Credential::Sealed(sealed.as_bytes().to_vec()),
            None => Credential::Provider,
        },
        readonly: words.flag("ro"),
        shared: true,
        capabilities: MountCapabilities::default(),
        bound_to: words.value("bound").map(str::to_owned),
    }
}

fn conf(words: &Words<'_>) -> Command {
    let mut set = PathConf::default();
    for (_, text) in words.pairs.iter().filter(|(key, _)| *key == "set") {
        let (key, value) = text.split_once(':').unwrap();
        set.set(key, value).unwrap();
    }
    let unset = words.pairs.iter().filter(|(key, _)| *key == "unset");
    Command::SetConf {
        path: path(words.at(2)),
        set,
        unset: unset.map(|(_, key)| (*key).to_owned()).collect(),
    }
}

fn owed(text: &str) -> Owed {
    match text.split_at(1) {
        ("i", id) => Owed::Intent(id.parse().unwrap()),
        ("e", id) => Owed::Effect(id.parse().unwrap()),
        _ => panic!("{text:?} is neither an intent nor an effect"),
    }
}

fn intent(text: &str) -> IntentId {
    text.trim_start_matches('i').parse().unwrap()
}

fn effect(text: &str) -> EffectId {
    text.trim_start_matches('e').parse().unwrap()
}

fn version(text: &str) -> ObjectVersion {
    ObjectVersion::new(text)
}

fn millis(text: &str) -> Duration {
    Duration::from_millis(text.parse().unwrap())
}

fn owed_command(words: &Words<'_>) -> Command {
    match words.at(1) {
        "upload" => Command::RecordUpload {
            intent: intent(words.at(2)),
            upload_id: words.at(3).to_owned(),
        },
        "commit" => Command::CommitWrite(CommitWrite {
            intent: intent(words.at(2)),
            length: words.number("len").unwrap_or(1),
            version: version(words.value("v").unwrap()),
            modified: Timestamp::from_millis(5),
            unanswered: words.value("unanswered").map(millis),
        }),
        "abort" => Command::AbortWrite {
            intent: intent(words.at(2)),
        },
        "unanswered" => Command::NoteUnanswered {
            owed: owed(words.at(2)),
            at_most: millis(words.at(3)),
        },
        "claim" => Command::Claim {
            owed: owed(words.at(2)),
        },
        "settle" => Command::CopySettled {
            effect: effect(words.at(2)),
            version: version(words.value("v").unwrap()),
        },
        "finish" => Command::FinishEffect {
            effect: effect(words.at(2)),
            marker: words.value("marker").map(version),
        },
        "free" => Command::FreeDetached {
            effect: effect(words.at(2)),
            inodes: words.plain[3..]
                .iter()
                .map(|id| id.parse().unwrap())
                .collect(),
        },
        "expand" => Command::ExpandRename {
            effect: effect(words.at(2)),
        },
        "undo" => Command::UndoRename {
            effect: effect(words.at(2)),
        },
        "drop" => Command::DropRename {
            effect: effect(words.at(2)),
        },
        "fail" => Command::EffectFailed {
            effect: effect(words.at(2)),
            error: words.rest(3),
        },
        other => panic!("no command {other:?}"),
    }
}

/// `name=version` is a file, `name/` a directory, `name/=version` one with a marker.
fn merge_entry(text: &str) -> MergeEntry {
    let (name, found) = match text.split_once('=') {
        Some((name, found)) => (name, Some(version(found))),
        None => (text, None),
    };
    let kind = match (name.strip_suffix('/'), found) {
        (Some(_), marker) => MergeKind::Directory { marker },
        (None, Some(version)) => MergeKind::File {
            size: 3,
            version,
            modified: Timestamp::from_millis(7),
            write_id: None,
        },
        (None, None) => panic!("{text:?} has no version"),
    };
    MergeEntry {
        name: name.trim_end_matches('/').to_owned(),
        kind,
    }
}

fn tell_effect(effect: &Effect) -> String {
    let what = match &effect.kind {
        EffectKind::Delete { key, version } => format!("delete {key}@{}", version.identity),
        EffectKind::DeleteTree { prefix, root } => format!("delete-tree {prefix} (inode {root})"),
        EffectKind::Rename {
            from,
            version,
            to,
            expected,
            write_id,
            ..
        } => {
            let over = expected.as_ref();
            let over = over.map_or(String::new(), |over| format!(" over @{}", over.identity));
            format!(
                "rename {from}@{} to {to}{over} as {:x}",
                version.identity,
                write_id.get()
            )
        }
        EffectKind::RenameTree(tree) => {
            let after = tree.after.as_ref();
            let after = after.map_or(String::new(), |after| format!(" after {after}"));
            format!("rename-tree {} to {}{after}", tree.from, tree.to)
        }
        EffectKind::PutMarker { key, .. } => format!("marker {key}"),
    };
    let error = effect.last_error.as_ref();
    let error = error.map_or(String::new(), |error| format!(" ({error})"));
    format!("e{} {what} by s{}{error}", effect.id, effect.executor)
}

fn tell_effects(effects: &[Effect]) -> String {
    effects.iter().fold(String::new(), |mut text, effect| {
        let _ = write!(text, "\n  {}", tell_effect(effect));
        text
    })
}

fn tell_status(status: &FileStatus) -> String {
    let mut text = match status.kind {
        FileKind::File => {
            let content = status.content_id().unwrap();
            let named = content.get() < 1_000;
            let content = match named {
                true => content.get().to_string(),
                false => "derived".to_owned(),
            };
            format!(
                "file {} size={} content={content}",
                status.path, status.size
            )
        }
        FileKind::Directory => format!("dir {}", status.path),
    };
    if let Some(source) = &status.source {
        let _ = write!(text, " source={}@{}", source.key, source.version.identity);
    }
    if status.kind == FileKind::Directory && !status.loaded {
        text.push_str(" not-loaded");
    }
    if status.mount_point {
        text.push_str(" mount-point");
    }
    let _ = write!(text, " changed={}", status.changed_at);
    text
}

/// An outcome as text.
pub(crate) fn tell(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Done => "done".to_owned(),
        Outcome::SessionOpened { session } => format!("session s{session}"),
        Outcome::Mounted { entry, already } => format!(
            "mounted {} as m{}.{}{}",
            entry.spec.uri,
            entry.id,
            entry.generation,
            if *already { " already" } else { "" }
        ),
        Outcome::Unmounted { mount, abandoned } => {
            let lines: String = abandoned.iter().map(|line| format!("\n  {line}")).collect();
            format!("unmounted m{mount}{lines}")
        }
        Outcome::DirectoryMade { status, effects } => {
            format!("made {}{}", tell_status(status), tell_effects(effects))
        }
        Outcome::WriteBegun(grant) => {
            let expected = grant.expected.as_ref();
            let expected = expected.map_or("nothing".to_owned(), |e| format!("@{}", e.identity));
            format!(
                "begun i{} on {} expecting {expected}",
                grant.intent, grant.key
            )
        }
        Outcome::Committed(status) => format!("committed {}", tell_status(status)),
        Outcome::Deleted { effects, names } => {
            format!("deleted {names} names{}", tell_effects(effects))
        }
        Outcome::Renamed { effects } => format!("renamed{}", tell_effects(effects)),
        Outcome::Merged(report) if report.moved_on => "merged: moved on".to_owned(),
        Outcome::Merged(report) => format!(
            "merged: {} added, {} changed, {} removed, skipped {:?}",
            report.added, report.changed, report.removed, report.skipped
        ),
        Outcome::IntentClaimed(intent) => format!("claimed i{} on {}", intent.id, intent.key),
        Outcome::EffectClaimed(effect) => format!("claimed {}", tell_effect(effect)),
        Outcome::CopySettled(effect) => format!("settled; now {}", tell_effect(effect)),
        Outcome::NodeRegistered(node) => format!("node n{node}"),
        Outcome::Refused(refusal) => {
            let on = refusal
                .path
                .as_ref()
                .map_or(String::new(), |path| format!("{path}: "));
            format!("{}: {on}{}", refusal.kind, refusal.message)
        }
        Outcome::NeedsSync { dir, name } => match name {
            Some(name) => format!("needs sync of {name:?} in {dir}"),
            None => format!("needs sync of {dir}"),
        },
        Outcome::Pending(pending) => {
            let id = match pending.owed {
                Owed::Intent(id) => format!("i{id}"),
                Owed::Effect(id) => format!("e{id}"),
            };
            let wait = pending.claimable_in.as_millis();
            format!(
                "pending {id} on {}: {}, claimable in {wait} ms",
                pending.on, pending.what
            )
        }
        Outcome::Superseded => "superseded".to_owned(),
        Outcome::SessionExpired => "session expired".to_owned(),
    }
}

fn lines(items: impl IntoIterator<Item = String>) -> String {
    let all: Vec<String> = items.into_iter().collect();
    match all.is_empty() {
        true => "nothing".to_owned(),
        false => all.join("\n"),
    }
}

/// An answer as text.
fn tell_answer(answer: &Answer) -> String {
    match answer {
        Answer::Status(status) => tell_status(status),
        Answer::Absent(absent) => format!("absent: no {:?} in {}", absent.name, absent.dir),
        Answer::Page(page) => {
            let more = page.next.iter().map(|next| format!("more after {next:?}"));
            let entries = page.entries.statuses().map(|entry| tell_status(&entry));
            lines(entries.chain(more))
        }
        Answer::Mounts(mounts) => lines(mounts.iter().map(|mount| {
            let readonly = if mount.spec.readonly { " ro" } else { "" };
            format!("{} on {}{readonly}", mount.spec.uri, mount.spec.path)
        })),
        Answer::Pending {
            intents,
            effects,
            next,
            ..
        } => {
            let open = intents.iter().map(|intent| {
                let state = if intent.published { " published" } else { "" };
                format!(
                    "i{} write {} by s{}{state}",
                    intent.id, intent.path, intent.holder
                )
            });
            let more = next.iter().map(|next| format!("more after {next:?}"));
            lines(open.chain(effects.iter().map(tell_effect)).chain(more))
        }
        Answer::Detached { files, next } => {
            let files = files.iter().map(|file| match &file.source {
                Some(source) => {
                    format!("{} {}@{}", file.inode, source.key, source.version.identity)
                }
                None => format!("{} without object", file.inode),
            });
            lines(files.chain(next.iter().map(|next| format!("more after {next}"))))
        }
        Answer::Conf {
            own,
            effective,
            origins,
        } => {
            let told = format!(
                "own {:?}, effective {:?}",
                own.entries(),
                effective.entries()
            );
            let from = |origin: &Origin| format!("{} from {}", origin.key, origin.path);
            lines([told].into_iter().chain(origins.iter().map(from)))
        }
        Answer::Usage(part) => {
            let unloaded = part.unloaded.iter().map(|dir| format!("not loaded: {dir}"));
            let more = part.next.iter().map(|next| format!("more after {next}"));
            let sums = format!(
                "{} files, {} directories, {} bytes",
                part.files, part.directories, part.bytes
            );
            lines([sums].into_iter().chain(unloaded).chain(more))
        }
        Answer::ClusterView(view) => {
            let nodes = view.nodes.iter().map(tell_node);
            format!("epoch {}\n{}", view.epoch, lines(nodes))
        }
        Answer::Nodes(entries) => lines(entries.iter().map(|entry| {
            let removed = if entry.removed { ", removed" } else { "" };
            format!("{}{removed}", tell_node(&entry.node))
        })),
        Answer::Refused(refusal) => format!("{}: {}", refusal.kind, refusal.message),
        Answer::OpenedMount { entry, .. } => format!("opened m{}", entry.id),
        Answer::Identity { applied, .. } => format!("applied {applied}"),
    }
}

fn tell_node(node: &NodeInfo) -> String {
    let draining = if node.draining { ", draining" } else { "" };
    format!(
        "n{} {} weight {}{draining}",
        node.id, node.address, node.weight
    )
}
