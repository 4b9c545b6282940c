//! What went wrong with each server that was asked, and what people read of it.
//!
//! A request that finally fails names every server that was tried and why each did not
//! help: "nothing listens there" asks for another deed than "has no leader".

use std::time::Duration;

use arustio_proto::failure::Failure;
use arustio_types::ErrorKind;
use arustio_types::unit::format_duration;

use crate::error::FsError;

/// Servers that are named in one error; more of them would be no help.
const MOST_NAMED: usize = 16;

/// How a server failed to help.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trouble {
    /// No connection: nothing that was asked for reached it.
    Unreachable(String),
    /// It was asked and gave no answer of its own.
    Silent(String),
    /// It does not lead; who does, where it said so.
    Follows(Option<String>),
    /// It answered that it cannot, for now.
    Unable(String),
    /// It must not be asked.
    Foreign(String),
}

impl Trouble {
    fn words(&self) -> String {
        match self {
            Self::Unreachable(why) | Self::Silent(why) | Self::Unable(why) => why.clone(),
            Self::Foreign(why) => why.clone(),
            Self::Follows(Some(leader)) => format!("says that {leader} leads"),
            Self::Follows(None) => "knows of no leader".to_owned(),
        }
    }
}

/// The last trouble with each server, in the order in which they were first tried.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Troubles(Vec<(String, Trouble)>);

impl Troubles {
    pub(super) fn note(&mut self, address: &str, trouble: Trouble) {
        if let Some((_, known)) = self.0.iter_mut().find(|(known, _)| known == address) {
            *known = trouble;
        } else if self.0.len() < MOST_NAMED {
            self.0.push((address.to_owned(), trouble));
        }
    }

    pub(super) fn extend(&mut self, others: &Self) {
        for (address, trouble) in &others.0 {
            self.note(address, trouble.clone());
        }
    }

    /// Whether any server said a word of its own.
    pub(super) fn anybody_answered(&self) -> bool {
        let mut all = self.0.iter().map(|(_, trouble)| trouble);
        all.any(|trouble| matches!(trouble, Trouble::Follows(_) | Trouble::Unable(_)))
    }

    fn all_unreachable(&self) -> bool {
        let unreachable = |(_, trouble): &_| matches!(trouble, Trouble::Unreachable(_));
        self.0.iter().all(unreachable)
    }

    fn leaderless(&self) -> bool {
        let follows = |(_, trouble): &(String, Trouble)| matches!(trouble, Trouble::Follows(_));
        self.0.iter().any(follows)
    }

    fn list(&self) -> String {
        let each =
            |(address, trouble): &(String, Trouble)| format!("{address}: {}", trouble.words());
        self.0.iter().map(each).collect::<Vec<_>>().join("; ")
    }
}

/// How a request ended that nobody answered in a way that repeating would not change.
#[derive(Debug)]
pub(crate) struct Failed {
    /// An answer that repeating does not change.
    pub(super) last_word: Option<Failure>,
    /// What the server said last that should have done it and cannot for now.
    pub(super) unable: Option<Failure>,
    /// What was asked for may have been done, or may yet be.
    pub(super) undecided: bool,
    /// Who was tried, and how each failed.
    pub(super) troubles: Troubles,
    /// For how long.
    pub(super) waited: Duration,
}

impl Failed {
    /// The error of a question, whose failure leaves nothing open.
    pub(crate) fn explain(self) -> FsError {
        let story = self.story();
        match self.last_word.or(self.unable) {
            Some(failure) => stated(failure),
            None => FsError::new(ErrorKind::Unavailable, story),
        }
    }

    /// The error of a change: one whose answer got lost may have been made. `look` says
    /// where to see that.
    pub(crate) fn lost(self, look: &str) -> FsError {
        if !self.undecided {
            return self.explain();
        }
        let list = match self.last_word {
            Some(failure) => failure.message,
            None => self.troubles.list(),
        };
        FsError::new(
            ErrorKind::Unknown,
            format!(
                "the metadata service did not answer, and the change may have been made: {look} \
                 before repeating it ({list})"
            ),
        )
    }

    fn story(&self) -> String {
        let Self {
            troubles, waited, ..
        } = self;
        if troubles.all_unreachable() {
            return unreachable(troubles);
        }
        let waited = format_duration(Duration::from_secs(waited.as_secs().max(1)));
        let list = troubles.list();
        if troubles.leaderless() {
            return format!(
                "the metadata service had no leader for {waited} ({list}). More than half of its \
                 servers have to run and reach one another; see: arustio admin raft list"
            );
        }
        format!("the metadata service did not answer within {waited} ({list})")
    }
}

fn unreachable(troubles: &Troubles) -> String {
    match &troubles.0[..] {
        [(address, trouble)] => format!(
            "cannot reach {address}: {}. Is arustio-server running? Start it with: arustio-server",
            trouble.words()
        ),
        _ => format!(
            "cannot reach any metadata server ({}). Are the arustio-servers running? Start one \
             with: arustio-server",
            troubles.list()
        ),
    }
}

/// What our own service said.
fn stated(failure: Failure) -> FsError {
    let error = FsError::new(failure.kind, failure.message);
    match &failure.path {
        Some(path) => error.at(path),
        None => error,
    }
}

/// Without the operating system's number, in lower case as inside a sentence.
pub(super) fn plain(message: &str) -> String {
    let words = message.split(" (os error").next().unwrap_or(message);
    let mut letters = words.chars();
    match letters.next() {
        Some(first) => first.to_lowercase().chain(letters).collect(),
        None => "no reason is known".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(troubles: &[(&str, Trouble)]) -> Failed {
        let mut noted = Troubles::default();
        for (address, trouble) in troubles {
            noted.note(address, trouble.clone());
        }
        Failed {
            last_word: None,
            unable: None,
            undecided: false,
            troubles: noted,
            waited: Duration::from_millis(30_012),
        }
    }

    fn refused() -> Trouble {
        Trouble::Unreachable(plain("Connection refused (os error 111)"))
    }

    #[test]
    fn one_server_that_does_not_run_is_said_so() {
        let error = failed(&[("h:1", refused())]).explain();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert_eq!(
            error.to_string(),
            "cannot reach h:1: connection refused. Is arustio-server running? Start it with: \
             arustio-server"
        );
    }

    #[test]
    fn several_servers_that_do_not_run_are_all_named() {
        let error = failed(&[("h:1", refused()), ("h:2", refused())]).explain();
        let text = error.to_string();
        assert!(
            text.contains("h:1: connection refused; h:2: connection refused"),
            "{text}"
        );
        assert!(text.contains("running?"), "{text}");
    }

    #[test]
    fn a_cluster_without_a_leader_says_so() {
        let troubles = [
            ("h:1", Trouble::Follows(None)),
            ("h:2", Trouble::Follows(Some("h:9".to_owned()))),
            ("h:9", refused()),
        ];
        let error = failed(&troubles).explain();
        let text = error.to_string();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(text.contains("had no leader for 30s"), "{text}");
        assert!(
            text.contains("h:1: knows of no leader; h:2: says that h:9 leads"),
            "{text}"
        );
        assert!(text.contains("h:9: connection refused"), "{text}");
    }

    #[test]
    fn a_change_that_may_have_been_made_is_unknown_whatever_came_last() {
        let mut undecided = failed(&[("h:1", Trouble::Follows(None))]);
        undecided.undecided = true;
        let error = undecided.lost("look");
        assert_eq!(error.kind(), ErrorKind::Unknown);
        assert!(
            error.to_string().contains("look before repeating it"),
            "{error}"
        );
        let decided = failed(&[("h:1", Trouble::Follows(None))]);
        assert_eq!(decided.lost("look").kind(), ErrorKind::Unavailable);
    }

    #[test]
    fn the_last_trouble_with_a_server_counts() {
        let mut troubles = Troubles::default();
        troubles.note("h:1", refused());
        troubles.note("h:1", Trouble::Follows(None));
        assert_eq!(troubles.list(), "h:1: knows of no leader");
    }
}
