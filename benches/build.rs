//! Generates what the limits and peers speak: an echo, and the part of etcd's interface
//! that is measured. Needs `protoc`, as the protocol of the house does.

use std::io;

fn main() -> io::Result<()> {
    println!("cargo:rerun-if-changed=proto");
    let mut config = tonic_prost_build::Config::new();
    config.bytes(["."]);
    tonic_prost_build::configure().compile_with_config(
        config,
        &["proto/echo.proto", "proto/etcd.proto"],
        &["proto"],
    )
}
