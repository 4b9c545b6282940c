//! E1: an error says what was attempted, on what, and what stood in the way; never a secret.

use arustio_client::{
    CreateOptions, ErrorKind, FileSystem, FsError, MkdirOptions, OpenOptions, StatOptions,
};
use arustio_testkit::s3::{FaultAction, FaultRule, Operation};
use arustio_types::meta::mount::WriteType;

use crate::house::{House, SECRET, SHORT, Short, fails, p};

/// The whole chain of causes, as a careless program would log it.
fn everything(error: &FsError) -> String {
    let mut text = format!("{error} {error:?} {error:#?}");
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text.push_str(&format!(" {inner} {inner:?}"));
        cause = inner.source();
    }
    text
}

#[track_caller]
fn says(error: &FsError, verb: &str, path: &str) {
    let line = error.to_string();
    assert!(
        line.starts_with(&format!("cannot {verb} {path}: ")),
        "{line}"
    );
    assert!(!line.contains('\n'), "{line}");
    assert_eq!(error.path(), Some(path));
    assert!(error.message().len() > 10, "{line}");
    assert!(error.exit_code() > 1, "{line}");
    assert!(!everything(error).contains(SECRET), "a secret: {line}");
}

#[tokio::test]
async fn e1_every_refusal_names_the_operation_the_path_and_the_reason() {
    let (house, fs) = House::mounted().await;
    fs.write("/data/f", "bytes").await.unwrap();
    fs.write("/data/d/g", "bytes").await.unwrap();
    let absent = "/data/no/such";
    let stat = fs.stat(&p(absent), StatOptions::default()).await;
    says(&fails(stat, ErrorKind::NotFound), "stat", absent);
    let open = fs.open(&p(absent), OpenOptions::default()).await;
    says(&fails(open, ErrorKind::NotFound), "open", absent);
    let open = fs.open(&p("/data/d"), OpenOptions::default()).await;
    says(&fails(open, ErrorKind::IsADirectory), "open", "/data/d");
    says(
        &fails(fs.rm(absent).await, ErrorKind::NotFound),
        "remove",
        absent,
    );
    says(
        &fails(fs.rm("/data/d").await, ErrorKind::NotEmpty),
        "remove",
        "/data/d",
    );
    says(
        &fails(fs.mv(absent, "/data/x").await, ErrorKind::NotFound),
        "move",
        absent,
    );
    let moved = fails(
        fs.mv("/data/f", "/data/d/g").await,
        ErrorKind::AlreadyExists,
    );
    says(&moved, "move", "/data/d/g");
    let inside = fails(
        fs.mv("/data/d", "/data/d/e").await,
        ErrorKind::InvalidArgument,
    );
    says(&inside, "move", inside.path().unwrap());
    let made = fs.mkdir(&p("/data/f"), MkdirOptions::default()).await;
    says(
        &fails(made, ErrorKind::AlreadyExists),
        "make directory",
        "/data/f",
    );
    let made = fs.mkdir(&p("/data/f/x"), MkdirOptions::default()).await;
    let error = fails(made, ErrorKind::NotADirectory);
    says(&error, "make directory", error.path().unwrap());
    let created = fs.create(&p("/data/f"), CreateOptions::default()).await;
    says(
        &fails(created, ErrorKind::AlreadyExists),
        "create",
        "/data/f",
    );
    let created = fs.create(&p("/outside"), CreateOptions::default()).await;
    says(
        &fails(created, ErrorKind::Unsupported),
        "create",
        "/outside",
    );
    let options = CreateOptions {
        write_type: Some(WriteType::MustCache),
        ..CreateOptions::default()
    };
    let created = fs.create(&p("/data/m"), options).await;
    says(&fails(created, ErrorKind::Unsupported), "create", "/data/m");
    let fixed = fails(fs.rm_r("/data").await, ErrorKind::Unsupported);
    says(&fixed, "remove", "/data");
    assert!(fixed.message().contains("arustio fs unmount"), "{fixed}");
    let unmounted = fails(fs.unmount(&p("/data/d"), false).await, ErrorKind::NotFound);
    says(&unmounted, "unmount", "/data/d");
    assert_eq!(house.keys().len(), 2);
}

#[tokio::test]
async fn e1_a_store_that_fails_is_named_with_key_attempts_and_cause() {
    let (house, fs) = House::mounted().await;
    fs.write("/data/f", "bytes").await.unwrap();
    fs.free(&p("/data/f")).await.unwrap();
    let brief = house.client_with(|config| config.session_ttl = SHORT).await;
    let busy = FaultRule::new(FaultAction::SlowDown);
    house.fault(busy.clone().on(Operation::GetObject));
    house.fault(busy.on(Operation::PutObject));
    let read = fails(brief.read("/data/f").await, ErrorKind::Unavailable);
    says(&read, "read", "/data/f");
    let write = fails(
        brief.write("/data/g", "bytes").await,
        ErrorKind::Unavailable,
    );
    says(&write, "write", "/data/g");
    for (error, key) in [(read, "s3://test-bucket/f"), (write, "s3://test-bucket/g")] {
        assert!(error.message().contains(key), "{error}");
        assert!(error.message().contains("attempts"), "{error}");
        assert!(error.message().contains("busy"), "{error}");
    }
}

#[tokio::test]
async fn e1_credentials_that_are_refused_are_not_shown() {
    let house = House::start().await;
    let fs = house.client().await;
    let request = house
        .request("/data", "s3://test-bucket")
        .option("secret_access_key", "wrong-and-secret");
    assert!(!format!("{request:?}").contains("wrong-and-secret"));
    let error = fs.mount(request).await.unwrap_err();
    assert!(
        matches!(
            error.kind(),
            ErrorKind::Unauthenticated | ErrorKind::PermissionDenied
        ),
        "{error}"
    );
    says(&error, "mount", "s3://test-bucket at /data");
    assert!(!everything(&error).contains("wrong-and-secret"));
}

#[tokio::test]
async fn e1_a_metadata_service_that_is_not_there_is_named_with_its_address() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = closed.local_addr().unwrap().to_string();
    drop(closed);
    let error = arustio_client::connect(&address).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains(&address), "{error}");
}
