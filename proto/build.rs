//! Generates the messages, and the gRPC stubs when a feature asks for them.
//!
//! Needs `protoc` (Debian and Ubuntu: `protobuf-compiler`) on the PATH or named by
//! `PROTOC`.

use std::io;

const FILES: [&str; 9] = [
    "proto/arustio/common/v1/common.proto",
    "proto/arustio/meta/v1/nouns.proto",
    "proto/arustio/meta/v1/command.proto",
    "proto/arustio/meta/v1/query.proto",
    "proto/arustio/meta/v1/service.proto",
    "proto/arustio/block/v1/block.proto",
    "proto/arustio/node/v1/node.proto",
    "proto/arustio/raft/v1/raft.proto",
    "proto/arustio/admin/v1/admin.proto",
];

fn main() -> io::Result<()> {
    println!("cargo:rerun-if-changed=proto");
    generate(settings())
}

/// Maps are ordered, so that equal messages have equal bytes; `bytes` fields share the
/// buffer they were received in; secrets get no derived `Debug`.
fn settings() -> prost_build::Config {
    let mut config = prost_build::Config::new();
    config
        .btree_map(["."])
        .bytes(["."])
        .skip_debug([".arustio.meta.v1.ClearSecrets"]);
    config
}

#[cfg(not(feature = "grpc"))]
fn generate(mut config: prost_build::Config) -> io::Result<()> {
    config.compile_protos(&FILES, &["proto"])
}

#[cfg(feature = "grpc")]
fn generate(config: prost_build::Config) -> io::Result<()> {
    tonic_prost_build::configure()
        .build_client(cfg!(feature = "client"))
        .build_server(cfg!(feature = "server"))
        .compile_with_config(config, &FILES, &["proto"])
}
