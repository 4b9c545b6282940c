//! Precedence, sources, suggestions.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Parser as _;

use super::*;
use crate::args::Args;

fn env(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    pairs.iter().map(own).collect()
}

fn args(flags: &[&str]) -> Args {
    Args::parse_from(std::iter::once(&"arustio-server").chain(flags))
}

fn with_file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("server.toml");
    std::fs::write(&path, text).unwrap();
    (folder, path)
}

#[test]
fn flags_override_the_environment_which_overrides_the_file() {
    let (_folder, path) = with_file(
        "[server]\nlisten = '127.0.0.1:1'\ndata_dir = '/from/file'\nshutdown_grace = '7s'\n\
         [block.disk]\ncapacity = '1GiB'\n",
    );
    let flags = args(&[
        "--listen",
        "127.0.0.1:3",
        "--config",
        path.to_str().unwrap(),
    ]);
    let env = env(&[
        ("ARUSTIO_SERVER__LISTEN", "127.0.0.1:2"),
        ("ARUSTIO_SERVER__DATA_DIR", "/from/env"),
        ("ARUSTIO_METADATA__RAFT__ELECTION_TICKS", "20"),
        ("ARUSTIO_METADATA__RAFT__TICK", "10ms"),
        ("ARUSTIO_SERVER__ROLE", "block"),
        ("ARUSTIO_CLUSTER__METADATA", "a:1, b:2"),
        ("ARUSTIO_SERVER", "not:ours"),
        ("ARUSTIO_LOG", "debug"),
    ]);
    let Loaded { config, sources } = load(&flags, &env).unwrap();
    assert_eq!(config.server.listen, "127.0.0.1:3");
    assert_eq!(config.server.data_dir, Some("/from/env".into()));
    assert_eq!(config.server.shutdown_grace, Duration::from_secs(7));
    assert_eq!(config.block.disk.capacity, Some(ByteSize::gib(1)));
    assert_eq!(config.metadata.raft.election_ticks, 20);
    assert_eq!(config.metadata.raft.tick, Duration::from_millis(10));
    assert_eq!(config.server.role, [Role::Block]);
    assert_eq!(config.cluster.metadata, ["a:1", "b:2"]);
    assert_eq!(sources.of("server.listen"), "flag --listen");
    assert_eq!(
        sources.of("server.data_dir"),
        "environment ARUSTIO_SERVER__DATA_DIR"
    );
    assert!(sources.of("server.shutdown_grace").starts_with("file "));
    assert_eq!(sources.of("grpc.window"), "default");
}

#[test]
fn an_unknown_key_is_refused_with_its_place_and_the_nearest_known_one() {
    let (_folder, path) = with_file("[server]\nlitsen = '127.0.0.1:1'\n");
    let flags = args(&["--config", path.to_str().unwrap()]);
    let error = load(&flags, &env(&[])).unwrap_err().to_string();
    assert!(error.contains("server.toml"), "{error}");
    assert!(error.contains("did you mean `listen`?"), "{error}");

    let wrong = env(&[("ARUSTIO_BLOCK__DISK__CAPCITY", "1GiB")]);
    let error = load(&args(&[]), &wrong).unwrap_err().to_string();
    assert!(error.contains("ARUSTIO_BLOCK__DISK__CAPCITY"), "{error}");
    assert!(error.contains("did you mean `capacity`?"), "{error}");
}

#[test]
fn a_value_of_the_wrong_kind_names_its_place() {
    let wrong = env(&[("ARUSTIO_GRPC__WINDOW", "many")]);
    let error = load(&args(&[]), &wrong).unwrap_err().to_string();
    assert!(error.contains("ARUSTIO_GRPC__WINDOW"), "{error}");
}

#[test]
fn what_is_printed_can_be_given_back() {
    let flags = args(&["--listen", "127.0.0.1:0", "--role", "metadata"]);
    let home = env(&[("HOME", "/ada")]);
    let loaded = load(&flags, &home).unwrap();
    let text = print(&loaded).unwrap();
    assert!(
        text.contains("listen = \"127.0.0.1:0\"  # flag --listen"),
        "{text}"
    );
    assert!(
        text.contains("role = [\"metadata\"]  # flag --role"),
        "{text}"
    );
    assert!(text.contains("tick = \"50ms\"  # default"), "{text}");
    let (_folder, path) = with_file(&text);
    let again = load(&args(&["--config", path.to_str().unwrap()]), &home).unwrap();
    assert_eq!(again.config, loaded.config);
}

#[test]
fn a_free_port_of_grpc_frees_the_port_of_http_too() {
    let loaded = load(&args(&["--listen", "127.0.0.1:0"]), &env(&[])).unwrap();
    assert_eq!(loaded.config.http.listen, "127.0.0.1:0");
    let given = args(&["--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:9"]);
    let loaded = load(&given, &env(&[])).unwrap();
    assert_eq!(loaded.config.http.listen, "127.0.0.1:9");
}

#[test]
fn the_data_folder_comes_from_the_environment_alone() {
    let folder = |pairs: &[(&str, &str)]| {
        let loaded = load(&args(&[]), &env(pairs)).unwrap();
        loaded.config.server.data_dir
    };
    let xdg = [("XDG_DATA_HOME", "/x"), ("HOME", "/h")];
    assert_eq!(folder(&xdg), Some("/x/arustio".into()));
    assert_eq!(
        folder(&[("HOME", "/h")]),
        Some("/h/.local/share/arustio".into())
    );
    assert_eq!(folder(&[]), None);
    let error = ServerConfig::default().validate().unwrap_err().to_string();
    assert!(error.contains("--data-dir"), "{error}");
}

#[test]
fn listening_beyond_loopback_has_to_be_asked_for() {
    let mut config = ServerConfig::ephemeral("/d");
    config.server.listen = "0.0.0.0:7411".to_owned();
    let error = config.clone().validate().unwrap_err().to_string();
    assert!(error.contains("--insecure"), "{error}");
    config.server.insecure = true;
    assert!(config.validate().is_ok());
}

#[test]
fn a_block_node_alone_needs_a_cluster() {
    let mut config = ServerConfig::ephemeral("/d");
    config.server.role = vec![Role::Block];
    let error = config.validate().unwrap_err().to_string();
    assert!(error.contains("--metadata"), "{error}");
}

#[test]
fn the_sample_file_names_every_setting_with_its_default() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/server.toml");
    let text = std::fs::read_to_string(path).unwrap();
    let sample: ServerConfig = toml::from_str(&text).unwrap();
    assert_eq!(sample, ServerConfig::default());
    // What is left out has no default that could be written, and stands there all the same.
    let uncommented = text
        .lines()
        .map(|line| line.strip_prefix("# ").unwrap_or(line));
    let named = |key: &str| uncommented.clone().any(|line| line.starts_with(key));
    let given = toml::Table::try_from(ServerConfig::default()).unwrap();
    let mut tables = vec![given];
    while let Some(table) = tables.pop() {
        for (key, value) in table {
            match value {
                toml::Value::Table(inner) => tables.push(inner),
                _ => assert!(named(&format!("{key} = ")), "{key} is missing"),
            }
        }
    }
    for unset in [
        "advertise = ",
        "data_dir = ",
        "capacity = ",
        "member = ",
        "key_file = ",
    ] {
        assert!(named(unset), "{unset} is missing");
    }
}

#[test]
fn frames_are_spoken_beside_grpc_unless_told_otherwise() {
    let checked = |flags: &[&str]| {
        let all = [&["--data-dir", "/tmp"], flags].concat();
        let config = load(&args(&all), &env(&[])).unwrap().config;
        config.validate()
    };
    let spoken = |flags: &[&str]| {
        let checked = checked(flags).unwrap();
        let at = checked.frames?;
        Some((at.to_string(), checked.advertised_frames(at)))
    };
    let same = |address: &str| Some((address.to_owned(), address.to_owned()));
    assert_eq!(spoken(&[]), same("127.0.0.1:7412"));
    assert_eq!(
        spoken(&["--listen", "127.0.0.1:9000"]),
        same("127.0.0.1:9001")
    );
    assert_eq!(spoken(&["--listen", "127.0.0.1:0"]), same("127.0.0.1:0"));
    assert_eq!(
        spoken(&[
            "--frames-listen",
            "127.0.0.1:5",
            "--advertise",
            "node1:7411"
        ]),
        same("127.0.0.1:5")
    );
    let anywhere = [
        "--insecure",
        "--listen",
        "0.0.0.0:7411",
        "--advertise",
        "node1:80",
    ];
    let reached = ("0.0.0.0:7412".to_owned(), "node1:7412".to_owned());
    assert_eq!(spoken(&anywhere), Some(reached));
    assert_eq!(spoken(&["--role", "metadata"]), None);
    let none = checked(&["--listen", "127.0.0.1:65535"]).unwrap_err();
    assert!(none.to_string().contains("--frames-listen"), "{none}");
    let open = checked(&["--frames-listen", "0.0.0.0:7412"]).unwrap_err();
    assert!(open.to_string().contains("--insecure"), "{open}");
}

#[test]
fn a_long_data_folder_has_its_socket_where_the_user_has_short_names() {
    let long = format!("/{}", "a".repeat(100));
    let flags = args(&["--data-dir", &long]);
    let with = env(&[("XDG_RUNTIME_DIR", "/run/user/1")]);
    let socket = load(&flags, &with).unwrap().config.frames.socket.unwrap();
    let text = socket.to_str().unwrap();
    assert!(
        text.starts_with("/run/user/1/arustio-") && text.ends_with(".sock"),
        "{text}"
    );
    assert_eq!(load(&flags, &env(&[])).unwrap().config.frames.socket, None);
    let short = args(&["--data-dir", "/data"]);
    assert_eq!(load(&short, &with).unwrap().config.frames.socket, None);
}
