//! The Raft log over an engine: appending, truncating, compacting, reopening.

use super::*;
use crate::engine::{EngineKind, MemEngine};
use arustio_types::{ClusterId, Incarnation};

fn founder(id: u64) -> Membership {
    Membership::founding([(NodeId::new(id), crate::consensus::MemberInfo::default())])
}

fn identity() -> MemberIdentity {
    MemberIdentity {
        cluster: ClusterId::new(7),
        incarnation: Incarnation::new(1),
        member: NodeId::new(1),
    }
}

fn open(engine: &Arc<dyn KvEngine>, cache: usize) -> RaftLog {
    RaftLog::open(Arc::clone(engine), identity(), &founder(1), cache).unwrap()
}

fn entry(index: u64, term: u64) -> Entry {
    Entry {
        index,
        term,
        data: vec![b'd'; 100],
        ..Entry::default()
    }
}

fn indexes(log: &RaftLog, low: u64, high: u64, max: u64) -> Vec<u64> {
    let entries = log
        .entries(low, high, max, GetEntriesContext::empty(false))
        .unwrap();
    entries.iter().map(|entry| entry.index).collect()
}

#[test]
fn what_was_appended_is_there_after_reopening_whatever_is_cached() {
    for cache in [0, 250, 1 << 20] {
        let engine: Arc<dyn KvEngine> = Arc::new(MemEngine::new(EngineKind::Log));
        let mut log = open(&engine, cache);
        assert_eq!(log.last(), START);
        let entries: Vec<_> = (2..12).map(|index| entry(index, 1)).collect();
        log.append(&entries, None, Durability::Synced).unwrap();
        log.set_commit(11).unwrap();
        for log in [log, open(&engine, cache)] {
            assert_eq!(log.first_index().unwrap(), 2);
            assert_eq!(log.last_index().unwrap(), 11);
            assert_eq!(log.hard_state().commit, 11);
            assert_eq!(indexes(&log, 2, 12, u64::MAX).len(), 10);
            assert_eq!(indexes(&log, 5, 7, u64::MAX), [5, 6]);
            assert_eq!(indexes(&log, 5, 9, 0), [5]);
            assert_eq!(log.term(1).unwrap(), 1);
            assert_eq!(log.term(6).unwrap(), 1);
            assert!(log.term(12).is_err());
        }
    }
}

#[test]
fn a_new_leader_replaces_the_end_and_compaction_keeps_the_term() {
    let engine: Arc<dyn KvEngine> = Arc::new(MemEngine::new(EngineKind::Log));
    let mut log = open(&engine, 1 << 20);
    let entries: Vec<_> = (2..12).map(|index| entry(index, 1)).collect();
    log.append(&entries, None, Durability::Synced).unwrap();
    log.append(&[entry(5, 2)], None, Durability::Synced)
        .unwrap();
    assert_eq!(log.last_index().unwrap(), 5);
    log.compact(LogIndex::new(4)).unwrap();
    for log in [log, open(&engine, 1 << 20)] {
        assert_eq!(log.first_index().unwrap(), 5);
        assert_eq!(log.last_index().unwrap(), 5);
        assert_eq!(log.term(5).unwrap(), 2);
        assert_eq!(log.term(4).unwrap(), 1);
        assert!(log.term(3).is_err());
        assert_eq!(log.truncated().index.get(), 4);
    }
}

#[test]
fn a_folder_of_somebody_else_is_refused() {
    let engine: Arc<dyn KvEngine> = Arc::new(MemEngine::new(EngineKind::Log));
    open(&engine, 0);
    let other = MemberIdentity {
        member: NodeId::new(2),
        ..identity()
    };
    let error = RaftLog::open(engine, other, &founder(2), 0).unwrap_err();
    assert!(matches!(error, FatalError::WrongIdentity { .. }));
}

#[test]
fn a_missing_entry_is_found_when_the_log_is_opened() {
    let engine: Arc<dyn KvEngine> = Arc::new(MemEngine::new(EngineKind::Log));
    let mut log = open(&engine, 1 << 20);
    let entries: Vec<_> = (2..6).map(|index| entry(index, 1)).collect();
    log.append(&entries, None, Durability::Synced).unwrap();
    let mut batch = Batch::new();
    batch.delete(Family::Log, key(3));
    engine.write(batch, Durability::Synced).unwrap();
    let error = RaftLog::open(engine, identity(), &Membership::default(), 1 << 20).unwrap_err();
    assert!(matches!(error, FatalError::CorruptLog { .. }));
}
