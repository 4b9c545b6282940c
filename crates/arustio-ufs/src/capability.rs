//! What a store can promise.
//!
//! Measured by behaviour where a mount may write (U7), else what is known of such a
//! store. Every promise that falls short is said in words, so that nobody has to know
//! what a missing `If-Match` means.

use std::fmt;

/// How well a condition is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Support {
    /// The store cannot do the operation at all.
    No,
    /// The store ignores the condition: it is compared immediately before, which leaves
    /// a window until the request is answered or has expired.
    Checked,
    /// The store itself keeps the condition, in one step.
    Atomic,
}

impl Support {
    /// The word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::No => "no",
            Self::Checked => "checked",
            Self::Atomic => "atomic",
        }
    }

    fn from_word(word: &str) -> Option<Self> {
        [Self::No, Self::Checked, Self::Atomic]
            .into_iter()
            .find(|support| support.word() == word)
    }
}

/// What the identity of a version is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdentityKind {
    /// Every write gets one of its own.
    Unique,
    /// Equal bytes may have equal identities (ETags that hash the content).
    Content,
    /// None that can be trusted: reads may mix versions.
    Weak,
}

impl IdentityKind {
    const fn word(self) -> &'static str {
        match self {
            Self::Unique => "unique",
            Self::Content => "content",
            Self::Weak => "weak",
        }
    }

    fn from_word(word: &str) -> Option<Self> {
        [Self::Unique, Self::Content, Self::Weak]
            .into_iter()
            .find(|kind| kind.word() == word)
    }
}

/// What a store can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// Write only if nothing is there.
    pub create_only: Support,
    /// Write only if this version is there.
    pub replace_if: Support,
    /// Complete an upload under the same conditions.
    pub complete_if: Support,
    /// Read only this version.
    pub read_if: Support,
    /// Copy only this version of the source.
    pub copy_source_if: Support,
    /// Copy only onto this state of the target, in one request.
    pub copy_target_if: Support,
    /// Delete only this version.
    pub delete_if: Support,
    /// Rename in one step.
    pub atomic_rename: bool,
    /// What identities are worth.
    pub identity: IdentityKind,
    /// Objects carry a write id that head returns.
    pub write_id: bool,
    /// Uploads of others can be found by more than their whole key.
    pub list_uploads_by_prefix: bool,
    /// Largest object of a single write, in bytes.
    pub max_write: u64,
    /// Smallest part of an upload but the last, in bytes.
    pub min_part: u64,
    /// Largest part of an upload, in bytes.
    pub max_part: u64,
    /// Most parts of an upload.
    pub max_parts: u32,
    /// By behaviour, on this store (U7); else what is known of such stores.
    pub measured: bool,
}

impl Capabilities {
    /// A store that keeps every condition itself.
    pub const fn full() -> Self {
        Self {
            create_only: Support::Atomic,
            replace_if: Support::Atomic,
            complete_if: Support::Atomic,
            read_if: Support::Atomic,
            copy_source_if: Support::Atomic,
            copy_target_if: Support::Atomic,
            delete_if: Support::Atomic,
            atomic_rename: true,
            identity: IdentityKind::Unique,
            write_id: true,
            list_uploads_by_prefix: true,
            max_write: u64::MAX,
            min_part: 1,
            max_part: u64::MAX,
            max_parts: u32::MAX,
            measured: false,
        }
    }

    fn conditions(&self) -> [(&'static str, Support); 7] {
        [
            ("create-only", self.create_only),
            ("replace-if", self.replace_if),
            ("complete-if", self.complete_if),
            ("read-if", self.read_if),
            ("copy-source-if", self.copy_source_if),
            ("copy-target-if", self.copy_target_if),
            ("delete-if", self.delete_if),
        ]
    }

    fn condition_mut(&mut self, name: &str) -> Option<&mut Support> {
        Some(match name {
            "create-only" => &mut self.create_only,
            "replace-if" => &mut self.replace_if,
            "complete-if" => &mut self.complete_if,
            "read-if" => &mut self.read_if,
            "copy-source-if" => &mut self.copy_source_if,
            "copy-target-if" => &mut self.copy_target_if,
            "delete-if" => &mut self.delete_if,
            _ => return None,
        })
    }

    /// The conditions in one token, to be recorded with a mount and handed back when
    /// the store is opened again: `create-only=atomic,...`.
    pub fn to_record(&self) -> String {
        let mut record: Vec<String> = self
            .conditions()
            .iter()
            .map(|(name, support)| format!("{name}={}", support.word()))
            .collect();
        record.push(format!("identity={}", self.identity.word()));
        record.join(",")
    }

    /// These capabilities with the conditions of a record that was measured; what the
    /// record does not know stays.
    pub fn with_record(mut self, record: &str) -> Self {
        for (name, word) in record.split(',').filter_map(|item| item.split_once('=')) {
            if let (Some(slot), Some(support)) =
                (self.condition_mut(name), Support::from_word(word))
            {
                *slot = support;
            }
            if let ("identity", Some(kind)) = (name, IdentityKind::from_word(word)) {
                self.identity = kind;
            }
        }
        self.measured = true;
        self
    }

    /// What falls short, in words; nothing when everything is kept by the store.
    pub fn caveats(&self) -> Vec<&'static str> {
        let checked = |support: Support| support != Support::Atomic;
        let mut words = Vec::new();
        if checked(self.create_only) || checked(self.complete_if) {
            words.push(
                "exclusive create is checked immediately before the write: another writer of \
                 the same name can be overwritten until the write is answered or has expired",
            );
        }
        if checked(self.replace_if) {
            words.push(
                "replace compares the version immediately before the write: an update in \
                 between can be lost until the write is answered or has expired",
            );
        }
        if checked(self.read_if) {
            words.push("the version of a read is compared with its answer, not by the store");
        }
        if checked(self.delete_if) {
            words.push(
                "delete compares the version immediately before: an object that is put there \
                 in between is deleted; the window lasts until the delete is answered or has \
                 expired",
            );
        }
        match self.identity {
            IdentityKind::Unique => {}
            IdentityKind::Content => {
                words.push("versions are told apart by content: equal bytes look like one version");
            }
            IdentityKind::Weak => {
                words
                    .push("versions cannot be told apart: a read may mix an old and a new version");
            }
        }
        words
    }
}

/// The capability line of `arustio fs list -v` and `mount --check`.
impl fmt::Display for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = if self.measured { "measured" } else { "assumed" };
        write!(f, "{how}: ")?;
        for (name, support) in self.conditions() {
            write!(f, "{name} {}, ", support.word())?;
        }
        let rename = if self.atomic_rename {
            "atomic"
        } else {
            "by copy and delete"
        };
        write!(f, "rename {rename}")?;
        for caveat in self.caveats() {
            write!(f, "; {caveat}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_brings_measured_conditions_back() {
        let mut measured = Capabilities::full();
        measured.delete_if = Support::Checked;
        measured.identity = IdentityKind::Content;
        let again = Capabilities::full().with_record(&measured.to_record());
        assert_eq!(
            again,
            Capabilities {
                measured: true,
                ..measured
            }
        );
        assert_eq!(
            Capabilities::full().with_record("nonsense,x=y").delete_if,
            Support::Atomic
        );
    }

    #[test]
    fn the_line_states_the_window_of_an_ignored_delete_condition() {
        let mut caps = Capabilities::full();
        assert!(caps.caveats().is_empty());
        caps.delete_if = Support::Checked;
        assert!(caps.to_string().contains("delete-if checked"));
        assert!(
            caps.to_string()
                .contains("until the delete is answered or has expired")
        );
    }
}
