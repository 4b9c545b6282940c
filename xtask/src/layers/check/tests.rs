//! The rules on small tables, and the shipped table on itself.

use super::*;
use crate::layers::facts::names;
use crate::layers::table;

const TABLE: &str = r#"
    [packages.nouns]
    layer = 0
    internal = []
    never = ["tokio"]
    outside = ["serde"]

    [packages.wire]
    layer = 1
    internal = ["nouns"]
    never = []

    [packages.engine]
    layer = 2
    internal = ["nouns", "wire"]
    features = { wire = ["storage"] }
    never = ["tonic"]

    [packages.kit]
    free = true

    [owners]
    raft = ["engine"]

    [banned]
    openssl = "a second TLS stack"

    [only_through]
    protobuf = ["raft"]

    [[named]]
    package = "engine"
    outside = "raft"
    only = ["engine/src/consensus/", "engine/src/consensus.rs"]
"#;

fn check(facts: Facts, expected: &[&str]) {
    let table = table::parse(TABLE).expect("the table of this test is valid");
    assert_eq!(all(&table, &facts), expected);
}

fn member(name: &str, dependencies: &[Dependency], tree: &[&str]) -> Facts {
    let member = Member {
        name: name.to_owned(),
        dependencies: dependencies.to_vec(),
        tree: set(tree),
    };
    Facts {
        packages: vec![member],
        ..Facts::default()
    }
}

fn set(names: &[&str]) -> Names {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn inside(name: &str) -> Dependency {
    Dependency {
        name: name.to_owned(),
        internal: true,
        normal: true,
        features: Vec::new(),
    }
}

fn crates_io(name: &str) -> Dependency {
    Dependency {
        internal: false,
        ..inside(name)
    }
}

#[test]
fn what_the_table_allows_is_no_finding() {
    let storage = Dependency {
        features: vec!["storage".to_owned()],
        ..inside("wire")
    };
    check(
        member(
            "engine",
            &[inside("nouns"), storage, crates_io("raft")],
            &["raft", "bytes"],
        ),
        &[],
    );
}

#[test]
fn an_edge_that_is_not_in_the_table_is_found() {
    check(
        member("wire", &[inside("engine")], &[]),
        &["wire must not depend on engine"],
    );
    check(
        member("engine", &[inside("kit")], &[]),
        &["engine must not depend on kit"],
    );
}

#[test]
fn a_development_dependency_follows_the_same_table() {
    let dev = Dependency {
        normal: false,
        ..inside("kit")
    };
    check(
        member("engine", &[dev], &[]),
        &["engine must not depend on kit"],
    );
}

#[test]
fn a_package_without_a_line_is_found() {
    check(
        member("stranger", &[], &[]),
        &["stranger has no line in the table"],
    );
}

#[test]
fn a_feature_that_brings_a_transport_is_found_unless_only_tests_use_it() {
    let server = Dependency {
        features: vec!["server".to_owned()],
        ..inside("wire")
    };
    check(
        member("engine", std::slice::from_ref(&server), &[]),
        &["engine must not switch on the feature server of wire"],
    );
    check(
        member(
            "engine",
            &[Dependency {
                normal: false,
                ..server
            }],
            &[],
        ),
        &[],
    );
}

#[test]
fn what_must_never_be_below_is_found_wherever_it_is() {
    check(
        member("engine", &[], &["hyper", "tonic"]),
        &[
            "engine has tonic in its tree (see: cargo tree -p engine --all-features -e normal -i tonic)",
        ],
    );
}

#[test]
fn owned_and_listed_packages_are_checked_by_name() {
    check(
        member("wire", &[crates_io("raft")], &[]),
        &["wire must not name raft: that is for engine"],
    );
    check(
        member("nouns", &[crates_io("rand")], &[]),
        &["nouns must stay small: rand is not among what it may name"],
    );
}

#[test]
fn banned_packages_and_second_ways_in_are_found() {
    let dependents = [("protobuf".to_owned(), set(&["raft", "prometheus"]))].into();
    check(
        Facts {
            built: set(&["openssl", "rustls"]),
            dependents,
            ..Facts::default()
        },
        &[
            "openssl is banned: a second TLS stack (see: cargo tree --workspace --all-features -i openssl)",
            "prometheus brings protobuf, which is borne only from raft",
        ],
    );
}

#[test]
fn an_outside_package_is_named_only_in_its_place() {
    let mention = |path: &str| Mention {
        package: "engine".to_owned(),
        outside: "raft".to_owned(),
        path: path.to_owned(),
        line: 7,
    };
    let paths = [
        "engine/src/consensus.rs",
        "engine/src/consensus/peer.rs",
        "engine/src/store.rs",
    ];
    check(
        Facts {
            mentions: paths.map(mention).to_vec(),
            ..Facts::default()
        },
        &["engine/src/store.rs:7: raft is named only in engine/src/consensus/"],
    );
}

#[test]
fn only_a_path_that_starts_with_the_package_names_it() {
    for line in [
        "use raft::Config;",
        "    raft::Peer::new()",
        "use raft;",
        "Vec<raft::Entry>",
    ] {
        assert!(names(line, "raft"), "{line}");
    }
    for line in [
        "use crate::raft::Config;",
        "let raft = 1;",
        "draft::new()",
        "\"raft::x\"",
        "mod raft;",
    ] {
        assert!(!names(line, "raft"), "{line}");
    }
}

#[test]
fn the_shipped_table_is_consistent() {
    let table =
        table::parse(include_str!("../../../layers.toml")).expect("the shipped table is valid");
    let known = |name: &String| table.packages.contains_key(name);
    for (name, rule) in &table.packages {
        assert!(
            rule.internal.iter().all(known),
            "{name} names an unknown package"
        );
        for below in &rule.internal {
            let lower = table
                .layered(below)
                .is_some_and(|other| other.layer < rule.layer);
            assert!(lower, "{name} -> {below} does not point downward");
        }
    }
    assert!(
        table.owners.values().flatten().all(known),
        "an owner is unknown"
    );
    assert!(
        table.named.iter().all(|rule| known(&rule.package)),
        "a place is in an unknown package"
    );
}
