//! P5: what a write announced stays announced until no request of it can arrive any more.
//!
//! Here the writer lives on, and what it sent is carried out late, or cannot be taken back.

use std::time::Duration;

use arustio_client::{ArustioFileSystem, CreateOptions, ErrorKind, FileSystem};
use arustio_testkit::s3::{FaultAction, FaultRule, Operation};
use bytes::Bytes;

use crate::house::{BUCKET, House, SHORT, Short, fails, p};

/// How long after its deadline a request may still be carried out.
const LATE: Duration = Duration::from_secs(4);
/// When it is: after the deadline of its sender, whose session is [`SHORT`].
const ARRIVES: Duration = Duration::from_secs(4);

/// Larger than one part.
fn large() -> String {
    "0123456789abcdef".repeat(9 << 16)
}

async fn brief(house: &House, late_request: Duration) -> ArustioFileSystem {
    let change = |config: &mut arustio_client::ClientConfig| {
        config.session_ttl = SHORT;
        config.late_request = late_request;
    };
    house.client_with(change).await
}

fn begins(action: FaultAction) -> FaultRule {
    FaultRule::new(action).on(Operation::CreateMultipartUpload)
}

#[tokio::test]
async fn w3_an_upload_that_could_not_be_aborted_keeps_the_write_announced() {
    let (house, fs) = House::mounted().await;
    let writing = brief(&house, Duration::ZERO).await;
    house.fault(begins(FaultAction::ApplyThenReset).times(1));
    house.fault(FaultRule::new(FaultAction::SlowDown).on(Operation::AbortMultipartUpload));
    writing.write("/data/f", &large()).await.unwrap_err();
    // Waits until the writer that failed has given up.
    writing.close().await.unwrap();
    assert_eq!(house.bucket().uploads(BUCKET).len(), 1);
    assert_eq!(fs.owed().await.len(), 1);
    house.s3.faults().clear();
    fs.take_over_all().await;
    assert_eq!(house.bucket().uploads(BUCKET), []);
    assert!(!fs.exists("/data/f").await);
}

#[tokio::test]
async fn p5_an_upload_that_begins_late_is_aborted_although_its_writer_failed_before() {
    let (house, fs) = House::mounted().await;
    let writing = brief(&house, LATE).await;
    house.fault(begins(FaultAction::DelayApply(ARRIVES)).times(1));
    house.fault(begins(FaultAction::SlowDown).skip(1));
    house.s3.stats().reset();
    writing.write("/data/f", &large()).await.unwrap_err();
    writing.close().await.unwrap();
    fs.take_over_all().await;
    let asked = house.s3.stats().snapshot();
    assert_eq!(asked.requests(Operation::AbortMultipartUpload), 1);
    assert_eq!(house.bucket().uploads(BUCKET), []);
}

#[tokio::test]
async fn p5_a_write_dropped_while_its_upload_begins_waits_for_the_upload_and_aborts_it() {
    let (house, fs) = House::mounted().await;
    let writing = house.client().await;
    let late = FaultAction::DelayApply(Duration::from_millis(300));
    let rule = house.fault(begins(late));
    house.s3.stats().reset();
    let path = p("/data/f");
    let created = writing.create(&path, CreateOptions::default()).await;
    let mut writer = created.unwrap();
    let sending = tokio::spawn(async move { writer.write(Bytes::from(large())).await });
    house.struck(rule).await;
    sending.abort();
    assert!(sending.await.unwrap_err().is_cancelled());
    writing.close().await.unwrap();
    let asked = house.s3.stats().snapshot();
    assert_eq!(asked.requests(Operation::AbortMultipartUpload), 1);
    assert_eq!(house.bucket().uploads(BUCKET), []);
    assert_eq!(fs.owed().await, []);
}

#[tokio::test]
async fn p5_a_write_that_nobody_could_look_for_is_recovered_after_it_can_have_arrived() {
    let (house, fs) = House::mounted().await;
    let writing = brief(&house, LATE).await;
    let put = FaultRule::new(FaultAction::DelayApply(ARRIVES)).on(Operation::PutObject);
    let put = house.fault(put.key_prefix("f").times(1));
    let writer = writing.clone();
    let written = tokio::spawn(async move { writer.write("/data/f", "late").await });
    house.struck(put).await;
    let looks = FaultRule::new(FaultAction::SlowDown).on(Operation::HeadObject);
    let looks = house.fault(looks.key_prefix("f"));
    fails(written.await.unwrap(), ErrorKind::Unknown);
    house.s3.faults().remove(looks);
    // What is its own it may take up again at once, and must not end too early.
    writing.take_over_all().await;
    assert_eq!(fs.read("/data/f").await.unwrap(), "late");
}

#[tokio::test]
async fn p5_a_removal_that_is_refused_waits_for_those_beside_it_that_got_no_answer() {
    let (house, fs) = House::mounted().await;
    fs.write("/data/d/a", "a").await.unwrap();
    fs.write("/data/d/b", "b").await.unwrap();
    let brief = |config: &mut arustio_client::ClientConfig| config.session_ttl = SHORT;
    let (removing, said) = house.client_that_says_with(brief).await;
    let delete = |action| FaultRule::new(action).on(Operation::DeleteObject);
    house.fault(delete(FaultAction::SlowDown).key_prefix("d/a"));
    let lost = house.fault(delete(FaultAction::Hang).key_prefix("d/b"));
    fails(removing.rm_r("/data/d").await, ErrorKind::Unavailable);
    assert!(house.s3.faults().hits(lost) > 0);
    let waits = |line: &String| line.contains("unanswered request") && line.contains("d/b");
    assert!(said.lines().iter().any(waits), "{:?}", said.lines());
}
