//! What clients did, as they tell it: for people and metrics, never for a decision.

/// Names of what is asked of an under file system. Others are counted as `other`.
pub const UFS_OPERATIONS: [&str; 9] = [
    "head", "read", "write", "upload", "part", "list", "delete", "copy", "other",
];

/// What was asked of under file systems, and what the cache spared.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Used {
    /// Bytes that readers got from block nodes.
    pub cache_bytes: u64,
    /// By operation, in the order of [`UFS_OPERATIONS`].
    pub ufs: [UfsUsed; UFS_OPERATIONS.len()],
}

/// What was asked of under file systems by one operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UfsUsed {
    /// Requests, repeated ones included.
    pub requests: u64,
    /// Those that failed or were refused.
    pub errors: u64,
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes sent.
    pub bytes_out: u64,
}

impl Used {
    /// The place of an operation in [`ufs`](Self::ufs).
    pub fn place(operation: &str) -> usize {
        let known = UFS_OPERATIONS.iter().position(|name| *name == operation);
        known.unwrap_or(UFS_OPERATIONS.len() - 1)
    }

    /// Whether nothing was done.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// Of all operations together.
    pub fn ufs_total(&self) -> UfsUsed {
        let nothing = UfsUsed::default();
        self.ufs.iter().fold(nothing, |sum, one| sum.plus(one))
    }

    /// Both together.
    #[must_use]
    pub fn plus(&self, more: &Self) -> Self {
        Self {
            cache_bytes: self.cache_bytes.saturating_add(more.cache_bytes),
            ufs: std::array::from_fn(|at| self.ufs[at].plus(&more.ufs[at])),
        }
    }

    /// What came since `before`, which counted the same.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        Self {
            cache_bytes: self.cache_bytes.saturating_sub(before.cache_bytes),
            ufs: std::array::from_fn(|at| self.ufs[at].since(&before.ufs[at])),
        }
    }
}

impl UfsUsed {
    /// Both together.
    #[must_use]
    pub fn plus(&self, more: &Self) -> Self {
        Self {
            requests: self.requests.saturating_add(more.requests),
            errors: self.errors.saturating_add(more.errors),
            bytes_in: self.bytes_in.saturating_add(more.bytes_in),
            bytes_out: self.bytes_out.saturating_add(more.bytes_out),
        }
    }

    fn since(&self, before: &Self) -> Self {
        Self {
            requests: self.requests.saturating_sub(before.requests),
            errors: self.errors.saturating_sub(before.errors),
            bytes_in: self.bytes_in.saturating_sub(before.bytes_in),
            bytes_out: self.bytes_out.saturating_sub(before.bytes_out),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_new_and_what_was_before_are_all_there_is() {
        let mut before = Used {
            cache_bytes: 3,
            ..Used::default()
        };
        before.ufs[Used::place("read")].requests = 2;
        let mut now = before.clone();
        now.cache_bytes = 10;
        now.ufs[Used::place("read")].bytes_in = 7;
        now.ufs[Used::place("never heard of")].requests = 1;
        let news = now.since(&before);
        assert_eq!(news.cache_bytes, 7);
        assert_eq!(news.ufs_total().requests, 1);
        assert_eq!(before.plus(&news), now);
        assert!(now.since(&now).is_nothing());
        assert_eq!(UFS_OPERATIONS[Used::place("never heard of")], "other");
    }
}
