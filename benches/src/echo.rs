//! What gRPC itself carries: a unary call that does nothing, with our sizes.
//!
//! Server and generator are processes of their own. The server answers from a buffer that
//! it has, on as many threads as ours.

use std::io::Write as _;

use anyhow::{Context, Result};
use arustio_testkit::processes::Process;
use bytes::Bytes;
use clap::Subcommand;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::process::Command;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use crate::load::{self, Shape};
use wire::echo_client::EchoClient;
use wire::echo_server::{Echo as Service, EchoServer};
use wire::{EchoRequest, EchoResponse};

arustio_proto::generated! {
    mod wire {
        tonic::include_proto!("arustio.bench.v1");
    }
}

/// Largest answer.
const MOST: usize = 1 << 20;

/// One end.
#[derive(Debug, Subcommand)]
pub(crate) enum Echo {
    /// Prints its address, then answers until it is ended
    Serve,
    /// Asks
    Load {
        /// The server
        address: String,
        /// Bytes of a request
        #[arg(long)]
        request: usize,
        /// Bytes of an answer
        #[arg(long)]
        answer: u32,
        /// How much
        #[command(flatten)]
        shape: Shape,
    },
}

/// Bytes of a request and of its answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    pub(crate) request: usize,
    pub(crate) answer: usize,
}

/// An echo server that runs.
#[derive(Debug)]
pub(crate) struct EchoLimit {
    _process: Process,
    address: String,
}

impl EchoLimit {
    /// Starts the server.
    pub(crate) async fn start() -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        let mut process = Process::spawn("the echo", command.args(["echo", "serve"]))?;
        let address = process.first_line().await?;
        Ok(Self {
            _process: process,
            address,
        })
    }

    /// Loads it; what the generator said.
    pub(crate) async fn load(&self, sizes: Sizes, shape: &Shape) -> Result<Value> {
        let mut arguments = vec!["echo".to_owned(), "load".to_owned(), self.address.clone()];
        arguments.push(format!("--request={}", sizes.request));
        arguments.push(format!("--answer={}", sizes.answer));
        arguments.extend(shape.arguments());
        load::part(&arguments).await
    }
}

/// Plays one end.
pub(crate) async fn run(end: Echo) -> Result<()> {
    match end {
        Echo::Serve => serve().await,
        Echo::Load {
            address,
            request,
            answer,
            shape,
        } => {
            let payload = Bytes::from(vec![7; request]);
            let ask = |channel, _, _| {
                let payload = payload.clone();
                async move {
                    let request = EchoRequest { payload, answer };
                    EchoClient::new(channel).call(request).await.map(drop)
                }
            };
            shape.drive(&address, ask).await
        }
    }
}

async fn serve() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    rustix::net::sockopt::set_tcp_congestion(&listener, "cubic")?;
    let mut out = std::io::stdout();
    writeln!(out, "{}", listener.local_addr()?)?;
    out.flush()?;
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let service = EchoServer::new(Nothing(Bytes::from(vec![7; MOST])));
    let served = Server::builder().add_service(service);
    let served = served.serve_with_incoming(incoming).await;
    served.context("the echo ended")
}

/// Does nothing and says so.
#[derive(Debug)]
struct Nothing(Bytes);

#[tonic::async_trait]
impl Service for Nothing {
    async fn call(&self, request: Request<EchoRequest>) -> Result<Response<EchoResponse>, Status> {
        let length = usize::try_from(request.into_inner().answer).unwrap_or(MOST);
        let payload = self.0.slice(..length.min(MOST));
        Ok(Response::new(EchoResponse { payload }))
    }
}
