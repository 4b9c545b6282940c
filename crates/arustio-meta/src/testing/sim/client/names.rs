//! Directories outside of mounts: the namespace alone decides, so what clients see of
//! them shows what the group is worth.

use arustio_types::meta::command::Refusal;
use arustio_types::meta::{Answer as Status, Command, Outcome, Query};
use arustio_types::{ErrorKind, FsPath, WriteId};

use super::{Client, Lost};
use crate::testing::history::{Answer, Call};
use crate::testing::sim::oracle::{NAMES, Token};

const LETTERS: [&str; NAMES] = ["a", "b", "c"];

fn dir(history: usize) -> FsPath {
    path(&format!("/p{history}"))
}

fn name(history: usize, at: usize) -> FsPath {
    path(&format!("/p{history}/{}", LETTERS[at]))
}

pub(super) fn path(text: &str) -> FsPath {
    FsPath::new(text).expect("names of the simulation are valid")
}

/// What a refusal says about the names; nothing, mostly.
pub(super) fn refused(refusal: &Refusal) -> Answer<Token> {
    match refusal.kind {
        ErrorKind::NotFound => Answer::NotFound,
        ErrorKind::AlreadyExists => Answer::Exists,
        ErrorKind::Unknown => Answer::Unknown,
        _ => Answer::Nothing,
    }
}

impl Client {
    pub(super) async fn use_names(&self) {
        let history = self.house.names.borrow_mut().current();
        let call = self.draw_call();
        let ticket = self.house.names.borrow_mut().call(history, call);
        let answer = match call {
            Call::Stat(at) => self.stat_name(history, at).await,
            Call::List => self.list_names(history).await,
            _ => self.change_name(history, call).await,
        };
        self.house.names.borrow_mut().answer(ticket, answer);
    }

    pub(super) fn draw_call(&self) -> Call<Token> {
        let at = self.draw(0..NAMES as u64) as usize;
        let other = (at + 1 + self.draw(0..NAMES as u64 - 1) as usize) % NAMES;
        match self.draw(0..12) {
            0..4 => Call::Create(at, self.house.mint()),
            4..6 => Call::Delete(at),
            6..8 => Call::Rename(at, other),
            8..11 => Call::Stat(at),
            _ => Call::List,
        }
    }

    async fn change_name(&self, history: usize, call: Call<Token>) -> Answer<Token> {
        let mut user = 0;
        let command = match call {
            Call::Create(at, token) => {
                user = token;
                Command::Mkdir {
                    path: name(history, at),
                    parents: true,
                    exist_ok: false,
                    write_id: WriteId::new(token),
                    proofs: Vec::new(),
                }
            }
            Call::Delete(at) => Command::Delete {
                path: name(history, at),
                recursive: self.chance(50),
                arustio_only: false,
                proofs: Vec::new(),
            },
            Call::Rename(from, to) | Call::Replace(from, to) => Command::Rename {
                from: name(history, from),
                to: name(history, to),
                replace: false,
                write_id: WriteId::new(self.house.mint()),
                proofs: Vec::new(),
            },
            Call::Write(..) | Call::Stat(_) | Call::List => return Answer::Nothing,
        };
        let session = self.session().await;
        match self.propose_as(session, command, user).await {
            Ok(Outcome::Refused(refusal)) => refused(&refusal),
            Ok(_) => Answer::Done,
            Err(Lost::Never) => Answer::Nothing,
            Err(Lost::Unknown) => Answer::Unknown,
        }
    }

    async fn stat_name(&self, history: usize, at: usize) -> Answer<Token> {
        let path = name(history, at);
        match self.query(Query::Stat { path }).await {
            Status::Status(status) => Answer::Seen(status.owner.parse().unwrap_or_default()),
            _ => Answer::NotFound,
        }
    }

    async fn list_names(&self, history: usize) -> Answer<Token> {
        let query = Query::List {
            path: dir(history),
            after: None,
            limit: 10,
        };
        let Status::Page(page) = self.query(query).await else {
            return Answer::Listed(Vec::new());
        };
        let names = page.entries.iter().map(|entry| entry.name);
        let at = |name: &str| LETTERS.iter().position(|letter| *letter == name);
        Answer::Listed(names.filter_map(at).collect())
    }
}
