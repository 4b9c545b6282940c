//! The rules of the namespace as transcripts: what is said, what is answered.
//!
//! A transcript in `testdata/namespace` is a list of commands, each followed by its answer
//! in lines that start with `> `. `UPDATE_TRANSCRIPTS=1` writes the answers anew; read the
//! difference before you keep it.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

#[path = "namespace_world/world.rs"]
mod world;

use std::fs;
use std::path::PathBuf;

use world::World;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/namespace")
}

/// Runs a transcript and returns it with the answers that were given. A line `---` starts
/// again from nothing.
fn replay(text: &str) -> String {
    let mut world = World::default();
    let mut told = String::new();
    for line in text.lines().filter(|line| !line.starts_with('>')) {
        told.push_str(line);
        told.push('\n');
        if line.starts_with("---") {
            world = World::default();
        } else if !line.trim().is_empty() && !line.starts_with('#') {
            for answer in world.run(line).lines() {
                told.push_str("> ");
                told.push_str(answer);
                told.push('\n');
            }
        }
    }
    told
}

fn check(name: &str) {
    let file = folder().join(format!("{name}.txt"));
    let expected = fs::read_to_string(&file).unwrap();
    let told = replay(&expected);
    if std::env::var_os("UPDATE_TRANSCRIPTS").is_some() {
        fs::write(&file, &told).unwrap();
        return;
    }
    for (line, (said, wanted)) in told.lines().zip(expected.lines()).enumerate() {
        assert_eq!(said, wanted, "{name}.txt, line {}", line + 1);
    }
    assert_eq!(told, expected, "{name}.txt");
}

macro_rules! transcripts {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            check(stringify!($name));
        })*

        #[test]
        fn every_transcript_is_run() {
            let known = [$(stringify!($name)),*];
            for file in fs::read_dir(folder()).unwrap() {
                let path = file.unwrap().path();
                let stem = path.file_stem().unwrap().to_str().unwrap().to_owned();
                assert!(known.contains(&stem.as_str()), "{stem}.txt is not run");
            }
        }
    };
}

transcripts! {
    n2_sessions
    n4_rename
    n7_mounts
    n8_unmount
    w1_writes
    w3_recovery
    l1_listings
    l2_stale_listings
    l3_proofs
    model_traces
    p1_deletes
    p2_waiting
    p4_takeover
    u3_hostile_keys
    u4_settling
    usage
    settings_and_nodes
}
