//! An S3 server in memory, for the demo, the benchmarks and tests by hand.
//!
//! Prints one line of JSON that says where it listens, then serves until it is
//! told to stop. Its objects end with it.

#![forbid(unsafe_code)]

use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;

use arustio_testkit::s3::{Profile, S3Server};
use clap::{Parser, ValueEnum};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// An S3 server in memory, for tests, demos and benchmarks.
#[derive(Parser)]
#[command(name = "arustio-s3", version)]
struct Arguments {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// The access key that is let in.
    #[arg(long, env = "ARUSTIO_S3_ACCESS_KEY", default_value = "test")]
    access_key: String,
    /// Its secret. Prefer the variable: arguments are visible to other users.
    #[arg(
        long,
        env = "ARUSTIO_S3_SECRET_KEY",
        default_value = "test-secret",
        hide_env_values = true
    )]
    secret_key: String,
    /// A bucket that is there from the start; may be given several times.
    #[arg(long = "bucket", value_name = "NAME")]
    buckets: Vec<String>,
    /// Whose habits to follow where stores differ.
    #[arg(long, value_enum, default_value = "aws")]
    profile: ProfileName,
    /// Serve the counters there: GET /stats, POST /reset.
    #[arg(long, value_name = "ADDRESS")]
    stats_listen: Option<SocketAddr>,
}

#[derive(Clone, Copy, ValueEnum)]
enum ProfileName {
    /// Every condition is obeyed.
    Aws,
    /// Conditions of DELETE and of a copy's destination are ignored.
    Minio,
}

impl From<ProfileName> for Profile {
    fn from(name: ProfileName) -> Self {
        match name {
            ProfileName::Aws => Self::Aws,
            ProfileName::Minio => Self::Minio,
        }
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to tell if this fails.
            let _ = writeln!(io::stderr(), "arustio-s3: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), Box<dyn std::error::Error>> {
    // Before the first line is printed, so that a signal in answer to it is not lost.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let server = start(arguments).await?;
    announce(&server)?;
    wait(&mut interrupt, &mut terminate).await;
    server.stop().await;
    Ok(())
}

async fn start(arguments: Arguments) -> Result<S3Server, arustio_testkit::s3::StartError> {
    let mut builder = S3Server::builder()
        .profile(arguments.profile.into())
        .credentials(arguments.access_key, arguments.secret_key)
        .listen(arguments.listen);
    for bucket in arguments.buckets {
        builder = builder.bucket(bucket);
    }
    if let Some(address) = arguments.stats_listen {
        builder = builder.stats_listen(address);
    }
    builder.start().await
}

fn announce(server: &S3Server) -> io::Result<()> {
    let mut line = serde_json::json!({ "endpoint": server.endpoint() });
    if let Some(stats) = server.stats_endpoint() {
        line["stats"] = stats.into();
    }
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

async fn wait(interrupt: &mut Signal, terminate: &mut Signal) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
