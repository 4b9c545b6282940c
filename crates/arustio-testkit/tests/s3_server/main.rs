//! The S3 server of the test bench, tried over real HTTP with real signatures:
//! by a client that sends exactly what a test says, and by the `object_store`
//! crate, which knows nothing of our server.

#![forbid(unsafe_code)]
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests fail as tests do, and clippy excuses only the tests"
)]

mod client;
mod conditions;
mod faults;
mod hostile_keys;
mod multipart;
mod objects;
mod other_client;
mod program;

use arustio_testkit::s3::{Profile, S3Server};

use crate::client::Client;

/// A server with the bucket `data` and a client that may use it.
async fn start(profile: Profile) -> (S3Server, Client) {
    let server = S3Server::builder()
        .profile(profile)
        .credentials("key", "secret")
        .bucket("data")
        .min_part_bytes(4)
        .start()
        .await
        .unwrap();
    let client = Client::new(&server.endpoint(), "key", "secret");
    (server, client)
}
