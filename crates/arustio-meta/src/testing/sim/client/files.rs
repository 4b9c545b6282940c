//! Files under a mount, by the protocol of writers, movers and removers: announce, ask
//! the store, publish; what got no answer is waited out before anything is given up.

use std::time::Duration;

use arustio_types::meta::command::{
    BeginWrite, CommitWrite, CreateMode, Owed, PendingOn, Proof, WriteGrant,
};
use arustio_types::meta::merge::{KeyRange, Merge, MergeEntry, MergeKind};
use arustio_types::meta::{Answer as Status, Command, Outcome, Query};
use arustio_types::{
    ContentId, FsPath, LogIndex, ObjectVersion, SessionId, Timestamp, UfsKey, WriteId,
};

use super::names::{path, refused};
use super::{Client, Lost, REQUEST};
use crate::testing::history::{Answer, Call};
use crate::testing::sim::oracle::{NAMES, Token};
use crate::testing::sim::port::{Ask, Told};
use crate::testing::sim::store::{Object, Reply, Request, Verb};

/// Where the store is mounted.
pub(in crate::testing::sim) const MOUNT: &str = "/data";
/// Names on which outsiders work as well.
pub(in crate::testing::sim) const SHARED: [&str; 2] = ["shared-a", "shared-b"];
/// What is told of a request without an answer is longer than it is by our own clock, as
/// the leader's may run ahead.
const CLOCKS: f64 = 1.4;
/// How often something that is owed is waited for.
const PATIENCE: u32 = 60;

const LETTERS: [&str; NAMES] = ["x", "y", "z"];

/// The path of a file of a history.
pub(in crate::testing::sim) fn file(history: usize, at: usize) -> FsPath {
    path(&format!("{MOUNT}/{history}{}", LETTERS[at]))
}

fn in_mount(name: &str) -> FsPath {
    path(&format!("{MOUNT}/{name}"))
}

/// The last moment at which a request may still be carried out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sent {
    until: Duration,
}

/// How a write ended at the store.
enum Landed {
    /// It is there; an earlier try may still be carried out.
    There(ObjectVersion, Option<Sent>),
    Not,
    /// It is not there and will not be, and the intent has ended.
    GivenUp,
    /// Nobody knows: the lease is over.
    Unclear,
}

impl Client {
    pub(super) async fn use_files(&self) {
        match self.draw(0..100) {
            0..10 => self.sync_all().await,
            10..22 => self.sync_name().await,
            22..34 => self.use_shared().await,
            _ => self.use_own_files().await,
        }
    }

    /// Calls on names that only clients of ours touch; they are judged.
    async fn use_own_files(&self) {
        let history = self.house.files.borrow_mut().current();
        let call = match self.draw_call() {
            Call::Create(at, token) if self.chance(50) => Call::Write(at, token),
            Call::Rename(from, to) if self.chance(50) => Call::Replace(from, to),
            Call::List => Call::Stat(0),
            call => call,
        };
        let ticket = self.house.files.borrow_mut().call(history, call);
        let (answer, owed) = self.call_file(call, |at| file(history, at)).await;
        self.house.files.borrow_mut().answer(ticket, answer);
        self.settle_all(owed).await;
        self.end_published().await;
    }

    /// The same on names on which others work as well; only the store is judged.
    async fn use_shared(&self) {
        let call = match self.draw(0..4) {
            0 => Call::Write(0, self.house.mint()),
            1 => Call::Write(1, self.house.mint()),
            2 => Call::Replace(0, 1),
            _ => Call::Delete(0),
        };
        let (_, owed) = self.call_file(call, |at| in_mount(SHARED[at])).await;
        self.settle_all(owed).await;
        self.end_published().await;
    }

    async fn call_file(
        &self,
        call: Call<Token>,
        file: impl Fn(usize) -> FsPath,
    ) -> (Answer<Token>, Vec<super::owed::Held>) {
        match call {
            Call::Create(at, token) => (
                self.write(&file(at), token, CreateMode::Exclusive).await,
                Vec::new(),
            ),
            Call::Write(at, token) => (
                self.write(&file(at), token, CreateMode::Overwrite).await,
                Vec::new(),
            ),
            Call::Stat(at) => (self.stat_file(&file(at)).await, Vec::new()),
            Call::List => (Answer::Nothing, Vec::new()),
            Call::Delete(at) => {
                let path = file(at);
                self.change(|proofs| Command::Delete {
                    path: path.clone(),
                    recursive: false,
                    arustio_only: false,
                    proofs,
                })
                .await
            }
            Call::Rename(from, to) | Call::Replace(from, to) => {
                let (from, to) = (file(from), file(to));
                let write_id = WriteId::new(self.house.mint());
                self.change(|proofs| Command::Rename {
                    from: from.clone(),
                    to: to.clone(),
                    replace: matches!(call, Call::Replace(..)),
                    write_id,
                    proofs,
                })
                .await
            }
        }
    }

    async fn stat_file(&self, path: &FsPath) -> Answer<Token> {
        let path = path.clone();
        match self.query(Query::Stat { path }).await {
            Status::Status(status) => {
                let content = status.content_id().unwrap_or(ContentId::new(0));
                let landed = self.house.landed.borrow();
                Answer::Seen(landed.get(&content).copied().unwrap_or(content.get()))
            }
            _ => Answer::NotFound,
        }
    }

    /// Proposes a command until it is done or refused: proves what it needs, finishes or
    /// awaits what stands in its way.
    async fn insist(
        &self,
        command: impl Fn(Vec<Proof>) -> Command,
    ) -> Result<(Outcome, SessionId), Lost> {
        let mut proofs = Vec::new();
        for _ in 0..PATIENCE {
            let session = self.session().await;
            let outcome = self.propose_in(session, command(proofs.clone())).await?;
            match outcome {
                Outcome::NeedsSync { dir, name } => {
                    proofs.extend(self.prove(&dir, name.as_deref()).await);
                }
                Outcome::Pending(on) => self.await_owed(&on).await,
                outcome => return Ok((outcome, session)),
            }
        }
        Err(Lost::Never)
    }

    async fn change(
        &self,
        command: impl Fn(Vec<Proof>) -> Command,
    ) -> (Answer<Token>, Vec<super::owed::Held>) {
        let (outcome, session) = match self.insist(command).await {
            Ok(done) => done,
            Err(Lost::Never) => return (Answer::Nothing, Vec::new()),
            Err(Lost::Unknown) => return (Answer::Unknown, Vec::new()),
        };
        match outcome {
            Outcome::Deleted { effects, .. } | Outcome::Renamed { effects } => {
                let held = effects.into_iter().map(|effect| (effect, session));
                (Answer::Done, held.collect())
            }
            Outcome::Refused(refusal) => (refused(&refusal), Vec::new()),
            _ => (Answer::Nothing, Vec::new()),
        }
    }

    async fn await_owed(&self, on: &PendingOn) {
        if on.claimable_in.is_zero() {
            self.take_over(on.owed).await;
        }
        let most = on.claimable_in.as_millis().clamp(10, 200);
        let wait = self.draw(5..u64::try_from(most).unwrap_or(200) + 6);
        self.sleep(Duration::from_millis(wait)).await;
    }

    // ---- writing ----

    async fn write(&self, path: &FsPath, token: Token, mode: CreateMode) -> Answer<Token> {
        let begin = |proofs| {
            Command::BeginWrite(BeginWrite {
                path: path.clone(),
                mode,
                parents: false,
                write_id: WriteId::new(token),
                content: ContentId::new(token),
                write_type: None,
                block_size: None,
                proofs,
            })
        };
        let (grant, session) = match self.insist(begin).await {
            Ok((Outcome::WriteBegun(grant), session)) => (grant, session),
            Ok((Outcome::Refused(refusal), _)) => return refused(&refusal),
            // Nothing shows of a write that has only begun.
            Ok(_) | Err(_) => return Answer::Nothing,
        };
        match self.put(&grant, session, token).await {
            Landed::There(version, open) => self.publish(&grant, session, version, open).await,
            Landed::Not => {
                let owed = Owed::Intent(grant.intent);
                match self.clear_intent(owed, session).await {
                    true => Answer::Nothing,
                    // Whoever took over may have published it before we looked.
                    false => Answer::Unknown,
                }
            }
            // Whatever landed between the last look and the end is found by the next one.
            Landed::GivenUp => Answer::Unknown,
            Landed::Unclear => {
                // Nobody can go on before its lease is over.
                self.forget(session);
                Answer::Unknown
            }
        }
    }

    async fn put(&self, grant: &WriteGrant, session: SessionId, token: Token) -> Landed {
        let owed = Owed::Intent(grant.intent);
        let write_id = WriteId::new(token);
        let mut open: Option<Sent> = None;
        for _ in 0..1 + self.draw(0..2) {
            let verb = Verb::Put {
                bytes: token,
                expected: grant.expected.clone(),
            };
            let Some((sent, reply)) = self
                .request(&grant.key, verb, write_id, owed, session)
                .await
            else {
                return Landed::Unclear;
            };
            match reply {
                Some(Reply::Done(Some(version))) => return Landed::There(version, open),
                Some(_) => break,
                None => open = Some(sent),
            }
        }
        if let Some(object) = self.own_object(&grant.key, write_id).await {
            return Landed::There(object.version, open);
        }
        let Some(sent) = open else {
            return Landed::Not;
        };
        if self.chance(40) && self.gives_up_early(grant, session, sent, write_id).await {
            return Landed::GivenUp;
        }
        if !self.wait_out(owed, session, sent).await {
            return Landed::Unclear;
        }
        match self.own_object(&grant.key, write_id).await {
            Some(object) => Landed::There(object.version, None),
            None => Landed::Not,
        }
    }

    /// Tries to end a write before its request can no longer be carried out: the service
    /// knows better.
    async fn gives_up_early(
        &self,
        grant: &WriteGrant,
        session: SessionId,
        sent: Sent,
        write_id: WriteId,
    ) -> bool {
        let at_most = self.still_open(sent);
        let owed = Owed::Intent(grant.intent);
        let note = Command::NoteUnanswered { owed, at_most };
        if self.propose_in(session, note).await != Ok(Outcome::Done) {
            return false;
        }
        let abort = Command::AbortWrite {
            intent: grant.intent,
        };
        self.house.given_up.borrow_mut().insert(write_id);
        let ended = self.propose_in(session, abort).await;
        if matches!(ended, Ok(Outcome::Pending(_))) {
            self.house.given_up.borrow_mut().remove(&write_id);
        }
        ended == Ok(Outcome::Done)
    }

    async fn publish(
        &self,
        grant: &WriteGrant,
        session: SessionId,
        version: ObjectVersion,
        open: Option<Sent>,
    ) -> Answer<Token> {
        let commit = Command::CommitWrite(CommitWrite {
            intent: grant.intent,
            length: 1,
            version,
            modified: Timestamp::from_millis(0),
            unanswered: open
                .map(|sent| self.still_open(sent))
                .filter(|left| !left.is_zero()),
        });
        match self.propose_in(session, commit).await {
            Ok(Outcome::Committed(_)) => {
                let left = open.map(|_| (grant.intent, session));
                self.me.borrow_mut().published.extend(left);
                Answer::Done
            }
            Ok(Outcome::Refused(refusal)) => refused(&refusal),
            // The object is there: whoever recovers the write publishes it.
            Ok(_) | Err(_) => {
                self.forget(session);
                Answer::Unknown
            }
        }
    }

    /// Ends writes that are published and wait for a request without an answer.
    async fn end_published(&self) {
        let left = std::mem::take(&mut self.me.borrow_mut().published);
        for (intent, session) in left {
            self.clear_intent(Owed::Intent(intent), session).await;
        }
    }

    // ---- the store ----

    /// Sends a request that changes something. `None`: the lease is over; then whoever
    /// waits for the answer may wait in vain.
    pub(super) async fn request(
        &self,
        key: &UfsKey,
        verb: Verb,
        write_id: WriteId,
        owed: Owed,
        session: SessionId,
    ) -> Option<(Sent, Option<Reply>)> {
        let deadline = self.deadline(session).await?;
        let until = self.house.now.get() + deadline;
        let request = Request {
            key: key.clone(),
            verb,
            write_id,
            owed,
            session,
            until,
        };
        let reply = match self.port.ask(Ask::Change(request)).await {
            Told::Carried(reply) => Some(reply),
            _ => None,
        };
        Some((Sent { until }, reply))
    }

    /// Looks at an object; a look without an answer is taken again.
    pub(super) async fn head(&self, key: &UfsKey) -> Option<Object> {
        loop {
            if let Told::Object(found) = self.port.ask(Ask::Head(key.clone())).await {
                return found;
            }
            self.pause().await;
        }
    }

    async fn own_object(&self, key: &UfsKey, write_id: WriteId) -> Option<Object> {
        let found = self.head(key).await;
        found.filter(|object| object.write_id == Some(write_id))
    }

    /// How long a request may still be carried out, with room for clocks that run apart.
    pub(super) fn still_open(&self, sent: Sent) -> Duration {
        sent.until
            .saturating_sub(self.house.now.get())
            .mul_f64(CLOCKS)
    }

    /// Records that a request got no answer, and waits until it cannot be carried out any
    /// more. False: the work is somebody else's.
    pub(super) async fn wait_out(&self, owed: Owed, session: SessionId, sent: Sent) -> bool {
        let at_most = self.still_open(sent);
        let note = Command::NoteUnanswered { owed, at_most };
        if self.propose_in(session, note).await != Ok(Outcome::Done) {
            return false;
        }
        let left = sent.until.saturating_sub(self.house.now.get());
        self.sleep(left.min(REQUEST)).await;
        true
    }

    // ---- looking ----

    /// The position from which a look starts, and the directory.
    async fn place(
        &self,
        dir: &FsPath,
    ) -> Option<(LogIndex, arustio_types::InodeId, arustio_types::MountId)> {
        let query = Query::List {
            path: dir.clone(),
            after: None,
            limit: 1,
        };
        match self.query(query).await {
            Status::Page(page) => Some((page.position, page.dir.inode, page.dir.mount?)),
            _ => None,
        }
    }

    async fn prove(&self, dir: &FsPath, name: Option<&str>) -> Option<Proof> {
        let seen = self.look(dir, name).await?;
        let path = match name {
            Some(name) => dir.join(name).ok()?,
            None => dir.clone(),
        };
        Some(Proof { path, seen })
    }

    /// Asks the store about a name or everything, and merges what it says.
    async fn look(&self, dir: &FsPath, name: Option<&str>) -> Option<LogIndex> {
        let (seen, dir_inode, mount) = self.place(dir).await?;
        let (range, entries) = match name {
            Some(name) => {
                let found = self.head(&UfsKey::new(name)).await;
                let range = KeyRange {
                    from: name.to_owned(),
                    to: Some(format!("{name}\0")),
                };
                let found = found.map(|object| entry(name, object));
                (range, found.into_iter().collect())
            }
            None => (KeyRange::all(), self.list().await),
        };
        // What was seen is old when it arrives, more or less.
        if self.chance(40) {
            let late = self.draw(1..900);
            self.sleep(Duration::from_millis(late)).await;
        }
        let merge = Command::Merge(Merge {
            dir: dir.clone(),
            dir_inode,
            mount,
            seen,
            range,
            entries,
        });
        let session = self.session().await;
        self.propose_in(session, merge).await.ok()?;
        Some(seen)
    }

    async fn list(&self) -> Vec<MergeEntry> {
        loop {
            if let Told::Objects(all) = self.port.ask(Ask::List).await {
                let all = all.into_iter();
                return all
                    .map(|(key, object)| entry(key.as_str(), object))
                    .collect();
            }
            self.pause().await;
        }
    }

    /// Shows everything that the store has. A session may end while it is at it: again then.
    pub(super) async fn sync_all(&self) {
        while self.look(&path(MOUNT), None).await.is_none() {
            self.pause().await;
        }
    }

    async fn sync_name(&self) {
        let name = match self.draw(0..4) {
            at @ 0..2 => SHARED[at as usize].to_owned(),
            _ => {
                let history = self.house.files.borrow_mut().current();
                let at = self.draw(0..NAMES as u64) as usize;
                format!("{history}{}", LETTERS[at])
            }
        };
        self.look(&path(MOUNT), Some(&name)).await;
    }
}

fn entry(name: &str, object: Object) -> MergeEntry {
    MergeEntry {
        name: name.to_owned(),
        kind: MergeKind::File {
            size: 1,
            version: object.version,
            modified: Timestamp::from_millis(0),
            write_id: object.write_id,
        },
    }
}
