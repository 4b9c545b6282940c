//! What a store can do is measured, not assumed (U7).
//!
//! On an object of its own, removed afterwards, each condition is tried with a wrong
//! precondition and nothing but the store to keep it ([`Guard::StoreOnly`]); then the
//! probe looks whether the store obeyed. A store that answers politely and does the
//! deed all the same is found out that way.

use std::time::Duration;

use arustio_types::{ObjectVersion, UfsKey, WriteId};

use crate::capability::{Capabilities, IdentityKind, Support};
use crate::error::{Result, UfsError};
use crate::ufs::{
    CopyOptions, DeleteOptions, Guard, ReadOptions, UnderFileSystem, WriteMode, WriteOptions,
    Written,
};
use crate::upload::{AbortOptions, CompleteOptions, UploadOptions};

/// Measures a store that may be written. `random` names the probe's objects.
///
/// Needs the right to read, write, delete and list; the first that is missing is the
/// error. Leaves nothing behind unless it cannot reach the store any more, and objects
/// that it could leave are called `.arustio-probe-...`. Dropping the future may leave
/// them.
pub async fn probe(
    ufs: &dyn UnderFileSystem,
    random: u128,
    deadline: Duration,
) -> Result<Capabilities> {
    let probe = Probe {
        ufs,
        key: UfsKey::new(&format!(".arustio-probe-{random:032x}")),
        other: UfsKey::new(&format!(".arustio-probe-{random:032x}-copy")),
        write_id: WriteId::new(random),
        deadline,
    };
    let found = probe.measure().await;
    let cleaned = probe.clean_up().await;
    let found = found?;
    cleaned?;
    Ok(found)
}

/// What came of a request whose precondition was wrong.
enum Answer {
    Refused,
    Obliged,
}

struct Probe<'a> {
    ufs: &'a dyn UnderFileSystem,
    key: UfsKey,
    other: UfsKey,
    write_id: WriteId,
    deadline: Duration,
}

impl Probe<'_> {
    async fn measure(&self) -> Result<Capabilities> {
        let mut found = self.ufs.capabilities();
        let first = self.write(WriteMode::Replace, "first").await?.version;
        found.create_only = self.create_only().await?;
        let current = self.write(WriteMode::Replace, "second").await?.version;
        found.replace_if = self.replace_if(&first).await?;
        found.complete_if = self.complete_if().await?;
        let current = self.version(&self.key).await?.unwrap_or(current);
        found.read_if = self.read_if(&first).await?;
        found.copy_source_if = self.copy_source_if(&first).await?;
        found.copy_target_if = self.copy_target_if(&current).await?;
        found.identity = self.identity(found.identity).await?;
        found.write_id = self.write_id_stays().await?;
        found.delete_if = self.delete_if(&first).await?;
        found.measured = true;
        Ok(found)
    }

    async fn write(&self, mode: WriteMode, text: &'static str) -> Result<Written> {
        let mut options = WriteOptions::new(mode, self.write_id, self.deadline);
        options.guard = Guard::StoreOnly;
        self.ufs.write(&self.key, text.into(), options).await
    }

    async fn version(&self, key: &UfsKey) -> Result<Option<ObjectVersion>> {
        Ok(self.ufs.head(key).await?.map(|entry| entry.version))
    }

    /// Whether the object is what it was, after a request that had to be refused.
    async fn unless_changed<T>(
        &self,
        key: &UfsKey,
        before: Option<&ObjectVersion>,
        result: Result<T>,
    ) -> Result<Support> {
        let answer = refused(result)?;
        let now = self.version(key).await?;
        Ok(match answer {
            Answer::Refused if now.as_ref() == before => Support::Atomic,
            Answer::Refused | Answer::Obliged => Support::Checked,
        })
    }

    async fn create_only(&self) -> Result<Support> {
        let before = self.version(&self.key).await?;
        let id = WriteId::new(self.write_id.get().wrapping_add(1));
        let mut options = WriteOptions::new(WriteMode::CreateOnly, id, self.deadline);
        options.guard = Guard::StoreOnly;
        let result = self.ufs.write(&self.key, "wrong".into(), options).await;
        self.unless_changed(&self.key, before.as_ref(), result)
            .await
    }

    async fn replace_if(&self, wrong: &ObjectVersion) -> Result<Support> {
        let before = self.version(&self.key).await?;
        let id = WriteId::new(self.write_id.get().wrapping_add(2));
        let mode = WriteMode::ReplaceIf(wrong.clone());
        let mut options = WriteOptions::new(mode, id, self.deadline);
        options.guard = Guard::StoreOnly;
        let result = self.ufs.write(&self.key, "wrong".into(), options).await;
        self.unless_changed(&self.key, before.as_ref(), result)
            .await
    }

    async fn complete_if(&self) -> Result<Support> {
        let before = self.version(&self.key).await?;
        let begin = UploadOptions {
            write_id: WriteId::new(self.write_id.get().wrapping_add(3)),
            deadline: self.deadline,
        };
        let upload = self.ufs.begin_upload(&self.key, begin).await?;
        upload.put_part(1, "wrong".into(), self.deadline).await?;
        let mut options = CompleteOptions::new(WriteMode::CreateOnly, self.deadline);
        options.guard = Guard::StoreOnly;
        let result = upload.complete(options).await;
        let abort = AbortOptions {
            deadline: self.deadline,
        };
        upload.abort(abort).await?;
        self.unless_changed(&self.key, before.as_ref(), result)
            .await
    }

    async fn read_if(&self, wrong: &ObjectVersion) -> Result<Support> {
        let options = ReadOptions {
            required: Some(wrong.clone()),
            ..ReadOptions::default()
        };
        // The answer's identity is compared in any case, so this can only be refused.
        match self.ufs.read(&self.key, options).await {
            Err(UfsError::Stale { .. }) => Ok(self.ufs.capabilities().read_if),
            Err(error) => Err(error),
            Ok(_) => Ok(Support::No),
        }
    }

    async fn copy(&self, source_version: &ObjectVersion, mode: WriteMode) -> Result<Written> {
        let options = CopyOptions {
            source_version: source_version.clone(),
            mode,
            write_id: self.write_id,
            deadline: self.deadline,
            guard: Guard::StoreOnly,
        };
        self.ufs.copy(&self.key, &self.other, options).await
    }

    async fn copy_source_if(&self, wrong: &ObjectVersion) -> Result<Support> {
        match self.copy(wrong, WriteMode::CreateOnly).await {
            Err(UfsError::Unsupported { .. }) => Ok(Support::No),
            result => self.unless_changed(&self.other, None, result).await,
        }
    }

    async fn copy_target_if(&self, current: &ObjectVersion) -> Result<Support> {
        self.remove(&self.other).await?;
        match self.copy(current, WriteMode::CreateOnly).await {
            Err(UfsError::Unsupported { .. }) => return Ok(Support::No),
            result => drop(result?),
        }
        let id = WriteId::new(self.write_id.get().wrapping_add(4));
        let options = WriteOptions::new(WriteMode::Replace, id, self.deadline);
        let there = self
            .ufs
            .write(&self.other, "there".into(), options)
            .await?
            .version;
        let result = self.copy(current, WriteMode::CreateOnly).await;
        self.unless_changed(&self.other, Some(&there), result).await
    }

    async fn identity(&self, assumed: IdentityKind) -> Result<IdentityKind> {
        let one = self.write(WriteMode::Replace, "equal").await?.version;
        let two = self.write(WriteMode::Replace, "equal").await?.version;
        let named = self.version(&self.key).await?;
        if named.as_ref() != Some(&two) || two.identity.as_str().starts_with("W/") {
            return Ok(IdentityKind::Weak);
        }
        Ok(match (one == two, assumed) {
            (true, _) => IdentityKind::Content,
            (false, assumed) => assumed,
        })
    }

    async fn write_id_stays(&self) -> Result<bool> {
        let found = self.ufs.head(&self.key).await?;
        Ok(found.and_then(|entry| entry.write_id) == Some(self.write_id))
    }

    async fn delete_if(&self, wrong: &ObjectVersion) -> Result<Support> {
        let before = self.version(&self.key).await?;
        let mut options = DeleteOptions::new(Some(wrong.clone()), self.deadline);
        options.guard = Guard::StoreOnly;
        let result = self.ufs.delete(&self.key, options).await;
        self.unless_changed(&self.key, before.as_ref(), result)
            .await
    }

    async fn remove(&self, key: &UfsKey) -> Result<()> {
        let options = DeleteOptions::new(None, self.deadline);
        self.ufs.delete(key, options).await.map(drop)
    }

    async fn clean_up(&self) -> Result<()> {
        let (one, two) = (self.remove(&self.key).await, self.remove(&self.other).await);
        one.and(two)
    }
}

/// Whether the store refused for the right reason; other failures are passed on.
fn refused<T>(result: Result<T>) -> Result<Answer> {
    match result {
        Ok(_) => Ok(Answer::Obliged),
        Err(
            UfsError::AlreadyExists { .. } | UfsError::Conflict { .. } | UfsError::Stale { .. },
        ) => Ok(Answer::Refused),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arustio_types::{ManualClock, Timestamp};

    use super::*;
    use crate::memory::{MemoryStore, MemoryUfs};

    #[tokio::test]
    async fn u7_a_store_that_obeys_is_seen_to_and_nothing_is_left() {
        let clock = ManualClock::new(Timestamp::from_millis(1));
        let store = MemoryStore::new(1, Arc::new(clock));
        let ufs = MemoryUfs::new("t", Arc::clone(&store));
        let found = probe(&ufs, 7, Duration::from_secs(1)).await.unwrap();
        assert_eq!(found, ufs.capabilities());
        assert!(store.is_empty());
    }
}
