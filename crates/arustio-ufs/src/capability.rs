//! What a store can promise.
//!
//! Measured by behaviour where a mount may write (U7), else what is known of such a
//! store. Every promise that falls short is said in words, so that nobody has to know
//! what a missing `If-Match` means.

use std::fmt;

use arustio_types::meta::mount::MountCapabilities;

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

    /// What a mount records of them (U7), so that whoever opens the store again knows.
    pub fn to_mount(&self) -> MountCapabilities {
        let atomic = |support: Support| support == Support::Atomic;
        MountCapabilities {
            create_only: atomic(self.create_only),
            replace_if: atomic(self.replace_if),
            complete_if: atomic(self.complete_if),
            read_if: atomic(self.read_if),
            copy_source_if: atomic(self.copy_source_if),
            copy_dest_if: atomic(self.copy_target_if),
            delete_if: atomic(self.delete_if),
            atomic_rename: self.atomic_rename,
            strong_identity: self.identity == IdentityKind::Unique,
            probed: self.measured,
            line: self.to_string(),
        }
    }

    /// These capabilities with what a mount recorded of them. A record that was not
    /// measured changes nothing.
    pub fn with_mount(mut self, mount: &MountCapabilities) -> Self {
        if !mount.probed {
            return self;
        }
        let support = |atomic: bool| match atomic {
            true => Support::Atomic,
            false => Support::Checked,
        };
        self.create_only = support(mount.create_only);
        self.replace_if = support(mount.replace_if);
        self.complete_if = support(mount.complete_if);
        self.read_if = support(mount.read_if);
        self.copy_source_if = support(mount.copy_source_if);
        self.copy_target_if = support(mount.copy_dest_if);
        self.delete_if = support(mount.delete_if);
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
    fn a_mount_brings_measured_conditions_back() {
        let mut measured = Capabilities::full();
        measured.delete_if = Support::Checked;
        measured.measured = true;
        let again = Capabilities::full().with_mount(&measured.to_mount());
        assert_eq!(again, measured);
        let assumed = Capabilities::full().with_mount(&MountCapabilities::default());
        assert_eq!(assumed, Capabilities::full());
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
