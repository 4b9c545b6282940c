//! What lies in `deploy/`: files for systemd are read as their reader would, and `mount.sh` is run
//! against a `docker` that only plays the two containers. The real ones: `cargo xtask containers`.

#![forbid(unsafe_code)]
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests fail as tests do, and clippy excuses only the tests"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use arustio_server::Args;
use arustio_server::config::load;
use clap::Parser as _;

fn deploy(name: &str) -> PathBuf {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy");
    Path::new(root).join(name)
}

fn loaded(name: &str, variables: &[(&str, &str)]) -> arustio_server::ServerConfig {
    let path = deploy(name);
    let args = Args::parse_from(["arustio-server", "--config", path.to_str().unwrap()]);
    let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let variables: BTreeMap<String, String> = variables.iter().map(own).collect();
    load(&args, &variables).unwrap().config
}

#[test]
fn the_sample_for_one_machine_is_accepted_and_stays_on_loopback() {
    let config = loaded("one-machine.toml", &[]);
    assert!(!config.server.insecure);
    config.validate().unwrap();
}

#[test]
fn the_sample_for_three_machines_is_accepted_with_each_number_and_refused_without() {
    for member in ["1", "2", "3"] {
        let config = loaded(
            "three-machines.toml",
            &[("ARUSTIO_CLUSTER__MEMBER", member)],
        );
        assert_eq!(config.cluster.members.len(), 3);
        config.validate().unwrap();
    }
    let nobody = loaded("three-machines.toml", &[]).validate();
    let told = nobody.unwrap_err().to_string();
    assert!(told.contains("member"), "{told}");
}

/// Sections, and in them pairs in their order.
fn parsed(text: &str) -> Vec<(String, String, String)> {
    let mut section = String::new();
    let mut found = Vec::new();
    for line in text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        if let Some(name) = line
            .strip_prefix('[')
            .and_then(|line| line.strip_suffix(']'))
        {
            name.clone_into(&mut section);
            continue;
        }
        let (key, value) = line.split_once('=').expect("a line of a unit is KEY=VALUE");
        assert!(!section.is_empty(), "{line} stands in no section");
        found.push((section.clone(), key.to_owned(), value.to_owned()));
    }
    found
}

/// The flags of every ExecStart, taken by the parser that will read them.
fn flags_are_ours(unit: &[(String, String, String)]) -> usize {
    let starts = unit
        .iter()
        .filter(|(_, key, value)| key == "ExecStart" && !value.is_empty());
    let mut seen = 0;
    for (_, _, line) in starts {
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(words[0], "/usr/local/bin/arustio-server");
        Args::try_parse_from(words).unwrap();
        seen += 1;
    }
    seen
}

#[test]
fn the_unit_has_no_rights_that_it_does_not_need_and_flags_that_exist() {
    let unit = parsed(&std::fs::read_to_string(deploy("systemd/arustio-server.service")).unwrap());
    assert_eq!(flags_are_ours(&unit), 1);
    for (key, value) in [
        ("DynamicUser", "yes"),
        ("NoNewPrivileges", "yes"),
        ("ProtectSystem", "strict"),
        ("ProtectHome", "yes"),
        ("PrivateDevices", "yes"),
        ("MemoryDenyWriteExecute", "yes"),
        ("CapabilityBoundingSet", ""),
        ("SystemCallFilter", "@system-service"),
        ("RestrictAddressFamilies", "AF_INET AF_INET6 AF_UNIX"),
    ] {
        let there = unit
            .iter()
            .any(|(section, k, v)| section == "Service" && k == key && v == value);
        assert!(there, "{key}={value} is missing");
    }
}

#[test]
fn the_drop_in_for_a_cluster_replaces_the_command_and_hands_over_the_key() {
    let path = deploy("systemd/arustio-server.service.d/cluster.conf");
    let unit = parsed(&std::fs::read_to_string(path).unwrap());
    assert_eq!(flags_are_ours(&unit), 1);
    let starts: Vec<&str> = unit
        .iter()
        .filter(|(_, key, _)| key == "ExecStart")
        .map(|(_, _, value)| value.as_str())
        .collect();
    assert_eq!(starts[0], "", "an empty one first, or there would be two");
    assert!(starts[1].ends_with("--key-file ${CREDENTIALS_DIRECTORY}/cluster.key"));
}

/// systemd's own parser, where it is installed: it knows every key and every value.
#[test]
fn systemd_itself_has_nothing_to_say_against_unit_and_drop_in() {
    let folder = tempfile::tempdir().unwrap();
    let unit = folder.path().join("arustio-server.service");
    let drop_ins = folder.path().join("arustio-server.service.d");
    std::fs::create_dir(&drop_ins).unwrap();
    // It looks for the program; any that exists will do.
    let copy = |from: &str, to: &Path| {
        let text = std::fs::read_to_string(deploy(from)).unwrap();
        std::fs::write(
            to,
            text.replace("/usr/local/bin/arustio-server", "/bin/true"),
        )
        .unwrap();
    };
    copy("systemd/arustio-server.service", &unit);
    copy(
        "systemd/arustio-server.service.d/cluster.conf",
        &drop_ins.join("cluster.conf"),
    );
    let verify = Command::new("systemd-analyze")
        .args(["verify", "--man=no"])
        .arg(&unit)
        .output();
    let Ok(verify) = verify else {
        println!("systemd-analyze is not installed; the other tests read the files");
        return;
    };
    let said = String::from_utf8_lossy(&verify.stderr);
    let about_ours: Vec<&str> = said
        .lines()
        .filter(|line| line.contains("arustio"))
        .collect();
    assert!(about_ours.is_empty(), "{about_ours:?}");
}

/// Plays `docker`: the words of a command end with the container's, which are known by their verb.
/// Only the user `somebody` with the password `right` gets into the store.
const DOCKER: &str = r#"#!/bin/sh
echo "$*" >>"$CALLS"
case "$*" in
*"health --ready") exit 0 ;;
*'$MINIO_ROOT_USER"') printf somebody; exit 0 ;;
*'$MINIO_ROOT_PASSWORD"') printf right; exit 0 ;;
*"fs mount"*) ;;
*) echo "not played: $*" >&2; exit 2 ;;
esac
refuse() {
    echo "error[$1]: cannot mount /data: the store said $2"
    exit "$3"
}
case "$*" in *--check*) checks=yes ;; *) checks= ;; esac
if [ -z "$checks" ] && [ -n "$STANDS" ]; then
    echo "already mounted: s3://arustio on /data (rw)"
    exit 0
fi
[ -z "$SILENT" ] || refuse Unavailable nothing 7
[ "$ACCESS_KEY_ID" = somebody ] || refuse Unauthenticated InvalidAccessKeyId 5
[ "$SECRET_ACCESS_KEY" = right ] || refuse Unauthenticated SignatureDoesNotMatch 5
[ -n "$checks" ] || echo "mounted s3://arustio on /data (rw)"
"#;

/// Plays `docker-compose ps -q SERVICE`.
const COMPOSE: &str = "#!/bin/sh\necho \"container-of-$3\"\n";

/// `mount.sh` as it is, where the programs that it calls are played.
struct MountScript {
    folder: tempfile::TempDir,
}

impl MountScript {
    fn new() -> Self {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [("docker", DOCKER), ("docker-compose", COMPOSE)] {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        Self { folder }
    }

    /// The exit code, and everything that it says.
    fn run(&self, variables: &[(&str, &str)]) -> (Option<i32>, String) {
        let before = std::env::var("PATH").unwrap();
        let path = format!("{}:{before}", self.folder.path().display());
        let mut command = Command::new(deploy("local/mount.sh"));
        command.env("PATH", path).env("CALLS", self.calls());
        for name in ["MINIO_ROOT_USER", "MINIO_ROOT_PASSWORD", "STANDS", "SILENT"] {
            command.env_remove(name);
        }
        let output = command.envs(variables.iter().copied()).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(text).unwrap())
    }

    /// Where every command line of `docker` is written down.
    fn calls(&self) -> PathBuf {
        self.folder.path().join("calls")
    }
}

#[test]
fn mount_sh_mounts_and_says_what_is_mounted() {
    let script = MountScript::new();
    let (code, text) = script.run(&[]);
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(text, "mounted s3://arustio on /data (rw)\n");
    let (code, text) = script.run(&[("STANDS", "yes")]);
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(text, "is mounted: s3://arustio on /data (rw)\n");
    let calls = std::fs::read_to_string(script.calls()).unwrap();
    assert!(!calls.contains("right"), "a secret on a command line");
}

#[test]
fn mount_sh_says_which_credential_is_wrong_whether_it_is_mounted_or_not() {
    let script = MountScript::new();
    for stands in ["", "yes"] {
        for (name, value) in [
            ("MINIO_ROOT_USER", "nobody-of-that-name"),
            ("MINIO_ROOT_PASSWORD", "not-the-password"),
        ] {
            let (code, text) = script.run(&[("STANDS", stands), (name, value)]);
            assert_eq!(code, Some(1), "{text}");
            assert_eq!(text.lines().count(), 1, "{text}");
            assert!(text.contains("wrong credentials"), "{text}");
            assert!(text.contains(name), "{text}");
            assert!(!text.contains("not-the-password"), "{text}");
        }
    }
}

#[test]
fn mount_sh_gives_up_on_a_store_that_does_not_answer() {
    let (code, text) = MountScript::new().run(&[("SILENT", "yes"), ("ARUSTIO_WAIT", "0")]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("waiting for MinIO at"), "{text}");
    assert!(text.contains("gave up after 0 s"), "{text}");
}
