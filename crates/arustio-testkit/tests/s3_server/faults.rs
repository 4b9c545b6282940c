//! Faults: each is seen by the client as it would be of a store that fails.

use std::time::Duration;

use arustio_testkit::s3::{FaultAction, FaultRule, Operation, Profile};
use tokio::time::{Instant, timeout};

use crate::start;

#[tokio::test]
async fn statuses_are_answered_without_carrying_out() {
    let (server, client) = start(Profile::Aws).await;
    let cases = [
        (FaultAction::SlowDown, 503, "SlowDown"),
        (FaultAction::InternalError, 500, "InternalError"),
        (FaultAction::TooManyRequests, 429, "TooManyRequests"),
    ];
    for (action, status, code) in cases {
        let rule = FaultRule::new(action).on(Operation::PutObject).times(1);
        let id = server.faults().add(rule);
        // Large enough that a server which does not read it would break the connection.
        let struck = client.put("x", vec![0; 8 << 20]).await;
        assert_eq!(struck.error(), (status, code.to_owned()));
        assert!(server.backdoor().get("data", "x").is_none());
        assert_eq!(server.faults().hits(id), 1);
    }
    assert_eq!(client.put("x", "x").await.status, 200);
    let puts = server.stats().snapshot().of(Operation::PutObject);
    assert_eq!(
        (puts.requests, puts.faults, puts.ok, puts.server_errors),
        (4, 3, 1, 2)
    );
    server.stop().await;
}

#[tokio::test]
async fn only_the_chosen_request_is_struck() {
    let (server, client) = start(Profile::Aws).await;
    server.backdoor().put("data", "a/x", "x");
    server.backdoor().put("data", "b/x", "x");
    let rule = FaultRule::new(FaultAction::SlowDown).on(Operation::GetObject);
    server
        .faults()
        .add(rule.bucket("data").key_glob("a/*").nth(2));
    let mut statuses = Vec::new();
    for key in ["a/x", "b/x", "b/x", "a/x", "a/x"] {
        statuses.push(client.get(key).await.status.as_u16());
    }
    assert_eq!(statuses, [200, 200, 200, 503, 200]);
    server.stop().await;
}

#[tokio::test]
async fn a_reset_before_and_one_instead_of_the_answer() {
    let (server, client) = start(Profile::Aws).await;
    server
        .faults()
        .add(FaultRule::new(FaultAction::Reset).times(1));
    client
        .call("PUT", "/data/x")
        .body("x")
        .try_send()
        .await
        .unwrap_err();
    assert!(server.backdoor().get("data", "x").is_none());

    server
        .faults()
        .add(FaultRule::new(FaultAction::ApplyThenReset).times(1));
    client
        .call("PUT", "/data/x")
        .body("x")
        .try_send()
        .await
        .unwrap_err();
    assert_eq!(server.backdoor().get("data", "x").unwrap(), "x");
    assert_eq!(
        server.stats().snapshot().of(Operation::PutObject).dropped,
        2
    );
    assert_eq!(client.get("x").await.text(), "x");
    server.stop().await;
}

#[tokio::test]
async fn a_reset_is_a_reset_and_not_an_end() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (server, client) = start(Profile::Aws).await;
    server.faults().add(FaultRule::new(FaultAction::Reset));
    let request = client.call("GET", "/data/x").as_text();
    let mut stream = tokio::net::TcpStream::connect(server.address())
        .await
        .unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let error = stream.read_to_end(&mut Vec::new()).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    server.stop().await;
}

#[tokio::test]
async fn half_a_body_and_a_wrong_length() {
    let (server, client) = start(Profile::Aws).await;
    let all: Vec<u8> = (0..4_000_000_u32).map(|i| (i % 253) as u8).collect();
    server.backdoor().put("data", "x", all.clone());

    server
        .faults()
        .add(FaultRule::new(FaultAction::TruncateBody).times(1));
    let half = client.get("x").await;
    assert_eq!(
        (half.status.as_u16(), half.header("content-length")),
        (200, "4000000")
    );
    assert_eq!(half.body.unwrap_err(), all[..2_000_000]);

    server
        .faults()
        .add(FaultRule::new(FaultAction::WrongLength).times(1));
    let call = client.call("GET", "/data/x").header("range", "bytes=0-99");
    let short = call.send().await;
    assert_eq!(short.header("content-range"), "bytes 0-99/4000000");
    assert_eq!(short.header("content-length"), "99");
    assert_eq!(short.body.unwrap(), all[..99]);

    assert_eq!(client.get("x").await.body.unwrap(), all);
    server.stop().await;
}

#[tokio::test]
async fn a_delay_comes_before_the_answer() {
    let (server, client) = start(Profile::Aws).await;
    let wait = Duration::from_millis(80);
    server
        .faults()
        .add(FaultRule::new(FaultAction::Delay(wait)).times(1));
    let begun = Instant::now();
    assert_eq!(client.put("x", "x").await.status, 200);
    assert!(begun.elapsed() >= wait);
    server.stop().await;
}

#[tokio::test]
async fn a_late_request_is_carried_out_after_its_sender_is_gone() {
    let (server, client) = start(Profile::Aws).await;
    let late = FaultAction::DelayApply(Duration::from_millis(300));
    server
        .faults()
        .add(FaultRule::new(late).on(Operation::PutObject).times(1));
    let put = client.put("x", "late");
    timeout(Duration::from_millis(50), put).await.unwrap_err();
    assert!(server.backdoor().get("data", "x").is_none());
    let arrived = async {
        while server.backdoor().get("data", "x").is_none() {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(10), arrived).await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn a_hang_lasts_until_the_client_goes_or_the_server_stops() {
    let (server, client) = start(Profile::Aws).await;
    server.faults().add(FaultRule::new(FaultAction::Hang));
    let patience = Duration::from_millis(50);
    timeout(patience, client.get("x")).await.unwrap_err();
    let noticed = async {
        while server.stats().snapshot().of(Operation::GetObject).dropped == 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(10), noticed).await.unwrap();
    let waiting = tokio::spawn({
        let client = client.clone();
        async move {
            client
                .call("GET", "/data/x")
                .try_send()
                .await
                .map(|answer| answer.status)
        }
    });
    while server.stats().snapshot().requests(Operation::GetObject) < 2 {
        tokio::task::yield_now().await;
    }
    timeout(Duration::from_secs(5), server.stop())
        .await
        .unwrap();
    waiting.await.unwrap().unwrap_err();
}

#[tokio::test]
async fn chance_follows_its_seed() {
    let seed = 7;
    println!("seed {seed}");
    let mut runs = Vec::new();
    for _ in 0..2 {
        let (server, client) = start(Profile::Aws).await;
        server.backdoor().put("data", "x", "x");
        let rule = FaultRule::new(FaultAction::SlowDown).probability(0.4, seed);
        server.faults().add(rule);
        let mut statuses = Vec::new();
        for _ in 0..40 {
            statuses.push(client.get("x").await.status.as_u16());
        }
        runs.push(statuses);
        server.stop().await;
    }
    assert_eq!(runs[0], runs[1]);
    assert!(runs[0].contains(&503) && runs[0].contains(&200));
}
