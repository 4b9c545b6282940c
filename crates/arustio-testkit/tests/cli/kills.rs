//! Clients that end in the middle: by ctrl-C, by kill -9, at every step that matters.

use std::time::Duration;

use arustio_testkit::s3::{FaultAction, FaultRule, Operation};
use rustix::process::Signal;

use super::house::{BUCKET, House, eventually, signal};

/// How often the store has been asked for something, the probe of the mount included.
struct Asked<'a> {
    house: &'a House,
    operation: Operation,
    before: u64,
}

impl<'a> Asked<'a> {
    fn from_now(house: &'a House, operation: Operation) -> Self {
        let before = house.s3.stats().snapshot().requests(operation);
        Self {
            house,
            operation,
            before,
        }
    }

    /// Waits until it was asked so often since.
    async fn times(self, times: u64) {
        eventually(async || {
            let asked = self.house.s3.stats().snapshot().requests(self.operation);
            let seen = asked - self.before;
            if seen >= times {
                return Ok(());
            }
            Err(format!("{:?}: {seen} of {times}", self.operation))
        })
        .await;
    }
}

async fn nothing_pending(house: &House) {
    eventually(async || {
        let pending = house.run(&["fs", "pending"]).await.ok();
        if pending.is_empty() {
            return Ok(());
        }
        Err(pending)
    })
    .await;
}

#[tokio::test]
async fn ctrl_c_during_an_upload_leaves_no_object_no_name_and_no_upload() {
    let house = House::mounted().await;
    let local = house.file("big", &vec![7; 64 << 20]);
    let hang = FaultRule::new(FaultAction::Hang).on(Operation::UploadPart);
    let rule = house.s3.faults().add(hang);
    let parts = Asked::from_now(&house, Operation::UploadPart);
    let mut child = house.spawn(&["fs", "copy-from-local", &local, "/data/big"]);
    parts.times(1).await;
    signal(&child, Signal::INT);
    let status = child.wait().await.unwrap();
    assert_eq!(status.code(), Some(130));
    house.s3.faults().remove(rule);
    assert_eq!(house.s3.backdoor().list(BUCKET, ""), Vec::<String>::new());
    assert_eq!(house.s3.backdoor().uploads(BUCKET).len(), 0);
    house
        .run(&["fs", "cat", "/data/big"])
        .await
        .fails("NotFound", 3, &["/data/big"]);
    nothing_pending(&house).await;
}

#[tokio::test]
async fn w3_a_writer_killed_before_the_commit_of_the_store_leaves_nothing() {
    let house = House::mounted().await;
    // It has to reach its end beside other tests on few processors.
    house.leases_of("10s");
    let local = house.file("big", &vec![7; 20 << 20]);
    let hang = FaultRule::new(FaultAction::Hang).on(Operation::CompleteMultipartUpload);
    let rule = house.s3.faults().add(hang);
    let ends = Asked::from_now(&house, Operation::CompleteMultipartUpload);
    let mut child = house.spawn(&["fs", "copy-from-local", &local, "/data/big"]);
    ends.times(1).await;
    child.kill().await.unwrap();
    house.s3.faults().remove(rule);
    nothing_pending(&house).await;
    assert_eq!(
        house.s3.backdoor().list(BUCKET, "big"),
        Vec::<String>::new()
    );
    assert_eq!(house.s3.backdoor().uploads(BUCKET).len(), 0);
    house
        .run(&["fs", "cat", "/data/big"])
        .await
        .fails("NotFound", 3, &["/data/big"]);
}

#[tokio::test]
async fn w3_a_write_whose_writer_was_killed_after_the_commit_of_the_store_is_published_whole() {
    let house = House::mounted().await;
    let local = house.file("f", b"whole");
    // The object is stored, the answer is lost, and the look that follows never ends.
    let lost = FaultRule::new(FaultAction::ApplyThenReset).on(Operation::PutObject);
    let hang = FaultRule::new(FaultAction::Hang).on(Operation::HeadObject);
    house.run(&["fs", "ls", "/data"]).await.ok();
    house.s3.faults().add(lost.key_prefix("f").times(1));
    house.s3.faults().add(hang.key_prefix("f").skip(1));
    let writes = Asked::from_now(&house, Operation::PutObject);
    let mut child = house.spawn(&["fs", "copy-from-local", &local, "/data/f"]);
    writes.times(1).await;
    child.kill().await.unwrap();
    house.s3.faults().clear();
    eventually(async || {
        let read = house.run(&["fs", "cat", "/data/f"]).await;
        if read.code == 0 && read.out == "whole" {
            return Ok(());
        }
        Err(format!("{read:?}"))
    })
    .await;
    nothing_pending(&house).await;
}

#[tokio::test]
async fn p4_a_removal_whose_remover_was_killed_is_finished_by_another() {
    let house = House::mounted().await;
    for i in 0..20 {
        house.s3.backdoor().put(BUCKET, &format!("d/f{i}"), "x");
    }
    house.run(&["fs", "ls", "-R", "/data"]).await.ok();
    let hang = FaultRule::new(FaultAction::Hang).on(Operation::DeleteObject);
    house.s3.faults().add(hang);
    let removals = Asked::from_now(&house, Operation::DeleteObject);
    let mut child = house.spawn(&["fs", "rm", "-r", "/data/d"]);
    removals.times(1).await;
    child.kill().await.unwrap();
    house.s3.faults().clear();
    nothing_pending(&house).await;
    assert_eq!(house.s3.backdoor().list(BUCKET, "d/"), Vec::<String>::new());
    assert_eq!(house.run(&["fs", "ls", "/data"]).await.ok(), "");
}

#[tokio::test]
async fn p4_a_move_whose_mover_was_killed_is_finished_by_another() {
    let house = House::mounted().await;
    house.put("/data/a", b"content").await;
    let hang = FaultRule::new(FaultAction::Hang).on(Operation::DeleteObject);
    house.s3.faults().add(hang.key_prefix("a"));
    let removals = Asked::from_now(&house, Operation::DeleteObject);
    let mut child = house.spawn(&["fs", "mv", "/data/a", "/data/b"]);
    removals.times(1).await;
    child.kill().await.unwrap();
    house.s3.faults().clear();
    nothing_pending(&house).await;
    assert_eq!(house.s3.backdoor().list(BUCKET, ""), ["b"]);
    assert_eq!(house.run(&["fs", "cat", "/data/b"]).await.ok(), "content");
    house
        .run(&["fs", "cat", "/data/a"])
        .await
        .fails("NotFound", 3, &["/data/a"]);
}

#[tokio::test]
async fn r1_a_reader_whose_object_is_replaced_gets_the_old_whole_version_or_stale() {
    let house = House::mounted().await;
    let size = 48 << 20;
    house.s3.backdoor().put(BUCKET, "f", vec![b'a'; size]);
    house.run(&["fs", "stat", "/data/f"]).await.ok();
    let slow = FaultRule::new(FaultAction::Delay(Duration::from_millis(200)));
    house.s3.faults().add(slow.on(Operation::GetObject).skip(1));
    let reads = Asked::from_now(&house, Operation::GetObject);
    let child = house.spawn(&["fs", "cat", "/data/f"]);
    reads.times(2).await;
    house.s3.backdoor().put(BUCKET, "f", vec![b'b'; size]);
    let output = child.wait_with_output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let bytes = output.stdout;
    let one_version = bytes.iter().all(|b| *b == b'a') || bytes.iter().all(|b| *b == b'b');
    assert!(one_version, "a mixture of two versions");
    match output.status.code() {
        Some(0) => assert_eq!(bytes.len(), size),
        Some(6) => assert!(said.contains("error[Stale]"), "{said}"),
        other => panic!("ended with {other:?}: {said}"),
    }
}

#[tokio::test]
async fn w2_of_two_writers_of_one_path_one_wins_and_the_other_is_told() {
    let house = House::mounted().await;
    let one = house.file("one", &vec![b'1'; 1 << 20]);
    let two = house.file("two", &vec![b'2'; 1 << 20]);
    let copy = |local| ["fs", "copy-from-local", local, "/data/f"];
    let (one, two) = (copy(one.as_str()), copy(two.as_str()));
    let (first, second) = (house.run(&one), house.run(&two));
    let (first, second) = tokio::join!(first, second);
    let codes = [first.code, second.code];
    assert_eq!(
        codes.iter().filter(|c| **c == 0).count(),
        1,
        "{first:?} {second:?}"
    );
    assert!(
        codes.contains(&4) || codes.contains(&6),
        "{first:?} {second:?}"
    );
    let stored = house.s3.backdoor().get(BUCKET, "f").unwrap();
    let winner = if codes[0] == 0 { b'1' } else { b'2' };
    assert!(stored.iter().all(|b| *b == winner));
}
