//! The thread and its handle.

use std::sync::Arc;
use std::time::Duration;

use arustio_types::meta::{Consistency, RequestContext};
use arustio_types::{ClusterId, LogIndex};

use super::{config, context, identity};
use crate::config::MetaConfig;
use crate::consensus::{Consensus, ConsensusBuilder, MemberIdentity};
use crate::engine::{EngineKind, KvEngine, MemEngine};
use crate::error::StoreError;
use crate::state_machine::StateMachine as _;
use crate::store::{MetadataStore as _, ReadOptions, Role};
use crate::testing::faulty::{Fault, Faults, FaultyEngine};
use crate::testing::register::{Append, Register};

fn start(log: Arc<dyn KvEngine>, state: Arc<dyn KvEngine>) -> Consensus<Register> {
    let machine = Register::open(state).unwrap();
    let builder = ConsensusBuilder::new(config(), identity(1), log, machine, 3);
    builder.start().unwrap()
}

fn engines() -> (Arc<MemEngine>, Arc<MemEngine>) {
    let log = MemEngine::new(EngineKind::Log);
    let state = MemEngine::new(EngineKind::State);
    (Arc::new(log), Arc::new(state))
}

fn number(number: u64) -> Append {
    Append { list: 0, number }
}

#[tokio::test]
async fn what_was_proposed_is_read_and_survives_a_restart() {
    let (log, state) = engines();
    let store = start(
        Arc::<MemEngine>::clone(&log),
        Arc::<MemEngine>::clone(&state),
    );
    for sequence in 1..=50 {
        let proposed = store
            .propose(context(1, sequence), number(sequence))
            .await
            .unwrap();
        assert_eq!(proposed.outcome, sequence);
        let list = store.query(0, ReadOptions::default()).await.unwrap();
        assert_eq!(list.len() as u64, sequence);
    }
    let status = store.status();
    assert_eq!(status.role, Role::Leader);
    assert_eq!(status.leader, Some(identity(1).member));
    assert_eq!(status.applied, status.commit);
    store.close().await.unwrap();
    store.close().await.unwrap();
    let error = store.query(0, Consistency::Stale.into()).await.unwrap_err();
    assert!(matches!(error, StoreError::Stopped), "{error}");

    assert_eq!(
        MemberIdentity::read(log.as_ref()).unwrap(),
        Some(identity(1))
    );
    let store = start(log, state);
    let list = store.query(0, ReadOptions::default()).await.unwrap();
    assert_eq!(list.len(), 50);
    let repeated = store.propose(context(1, 7), number(7)).await.unwrap();
    assert_eq!(repeated.outcome, 7);
    store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_writers_at_once_all_get_their_own_answer() {
    let (log, state) = engines();
    let store = Arc::new(start(log, state));
    let writers: Vec<_> = (0..64u8)
        .map(|list| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                for number in 1..=20 {
                    let context = context(u64::from(list) + 1, number);
                    let proposed = store
                        .propose(context, Append { list, number })
                        .await
                        .unwrap();
                    assert_eq!(proposed.outcome, number);
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    for list in 0..64 {
        let numbers = store.query(list, ReadOptions::default()).await.unwrap();
        assert_eq!(numbers, (1..=20).collect::<Vec<_>>());
    }
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_failed_sync_ends_everything_and_acknowledges_nothing() {
    let (log, state) = engines();
    let faults = Arc::new(Faults::default());
    let log = Arc::new(FaultyEngine::new(log, Arc::clone(&faults)));
    let store = start(log, state);
    store.propose(context(1, 1), number(1)).await.unwrap();
    faults.fail_at(faults.writes() + 1, Fault::After);
    let error = store.propose(context(1, 2), number(2)).await.unwrap_err();
    assert!(matches!(error, StoreError::Failed(_)), "{error}");
    let fatal = store.ended().await.unwrap_err();
    assert!(fatal.to_string().contains("log engine failed"), "{fatal}");
    assert_eq!(store.status().role, Role::Stopped);
    let error = store.propose(context(1, 3), number(3)).await.unwrap_err();
    assert!(matches!(error, StoreError::Failed(_)), "{error}");
    store.close().await.unwrap_err();
}

#[tokio::test]
async fn a_request_for_another_cluster_or_too_large_is_refused() {
    let (log, state) = engines();
    let config = MetaConfig {
        max_command: arustio_types::ByteSize(20),
        ..MetaConfig::default()
    };
    let machine = Register::open(state).unwrap();
    let config = config.validate().unwrap();
    let builder = ConsensusBuilder::new(config, identity(1), log, machine, 3);
    let store = builder.start().unwrap();
    let foreign = RequestContext {
        cluster: ClusterId::new(1),
        ..context(1, 1)
    };
    let error = store.propose(foreign, number(1)).await.unwrap_err();
    assert!(matches!(error, StoreError::WrongCluster { .. }), "{error}");
    let error = store.propose(context(1, 1), number(1)).await.unwrap_err();
    assert!(
        matches!(
            error,
            StoreError::TooLarge {
                size: 25,
                limit: 20
            }
        ),
        "{error}"
    );
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_read_of_the_future_waits_until_its_deadline() {
    let (log, state) = engines();
    let store = start(log, state);
    let options = ReadOptions {
        consistency: Consistency::AtLeast(LogIndex::new(1_000)),
        deadline: Duration::from_millis(20),
    };
    let error = store.query(0, options).await.unwrap_err();
    assert!(
        matches!(error, StoreError::DeadlinePassed { .. }),
        "{error}"
    );
    let proposed = store.propose(context(1, 1), number(1)).await.unwrap();
    let here = Consistency::AtLeast(proposed.position.index);
    assert_eq!(store.query(0, here.into()).await.unwrap(), [1]);
    assert!(store.with_state(|state| state.applied().position.index) >= proposed.position.index);
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_change_of_role_is_seen_by_watchers() {
    let (log, state) = engines();
    let store = start(log, state);
    let mut watch = store.watch();
    watch
        .wait_for(|status| status.role == Role::Leader)
        .await
        .unwrap();
    store.close().await.unwrap();
    watch
        .wait_for(|status| status.role == Role::Stopped)
        .await
        .unwrap();
}
