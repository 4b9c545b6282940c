//! The program `arustio-s3`: its first line, its control port, its end.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::timeout;

use crate::client::Client;

/// Plain HTTP without a signature; the answer as text.
async fn ask(endpoint: &str, request: &str) -> String {
    let host = endpoint.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(host).await.unwrap();
    let request = format!("{request} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn it_says_where_it_listens_and_stops_when_told_to() {
    let mut program = Command::new(env!("CARGO_BIN_EXE_arustio-s3"))
        .args([
            "--bucket",
            "data",
            "--profile",
            "minio",
            "--access-key",
            "key",
        ])
        .args(["--secret-key", "secret", "--stats-listen", "127.0.0.1:0"])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(program.stdout.take().unwrap()).lines();
    let line = lines.next_line().await.unwrap().unwrap();
    let said: serde_json::Value = serde_json::from_str(&line).unwrap();
    let client = Client::new(said["endpoint"].as_str().unwrap(), "key", "secret");
    assert_eq!(client.put("x", "hello").await.status, 200);
    assert_eq!(client.get("x").await.text(), "hello");

    let stats = said["stats"].as_str().unwrap();
    let answer = ask(stats, "GET /stats").await;
    let json = answer.split_once("\r\n\r\n").unwrap().1;
    let json: serde_json::Value = serde_json::from_str(json).unwrap();
    assert_eq!(json["operations"]["GetObject"]["bytes_out"], 5);
    ask(stats, "POST /reset").await;
    assert!(!ask(stats, "GET /stats").await.contains("GetObject"));
    assert!(ask(stats, "GET /none").await.starts_with("HTTP/1.1 404"));

    let id = program.id().unwrap().to_string();
    let told = Command::new("kill")
        .args(["-TERM", &id])
        .status()
        .await
        .unwrap();
    assert!(told.success());
    let ended = timeout(Duration::from_secs(10), program.wait())
        .await
        .unwrap()
        .unwrap();
    assert!(ended.success(), "{ended}");
}
