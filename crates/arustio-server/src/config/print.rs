//! Every setting with its source, as a file that could be given back.

use std::fmt::Write as _;

use toml::{Table, Value};

use super::load::{Loaded, flat};
use crate::error::ServerError;

/// Settings that are chosen from the machine or the address when they are not given.
const CHOSEN: [(&str, &str); 8] = [
    (
        "block.disk.capacity",
        "the smaller of 10GiB and 10 % of the free space",
    ),
    (
        "block.memory.capacity",
        "the smaller of 1GiB and 10 % of the memory",
    ),
    ("cluster.key_file", "cluster.key in the data folder"),
    ("cluster.member", "1, for a server that is alone"),
    ("frames.advertise", "the host that others reach gRPC at"),
    (
        "frames.listen",
        "the host of server.listen, and the port after its port",
    ),
    ("frames.socket", "block.sock in the data folder"),
    (
        "server.advertise",
        "its address in cluster.members, else the address that gRPC listens on",
    ),
];

/// The settings as TOML, one per line, each with its source behind it.
pub fn print(loaded: &Loaded) -> Result<String, ServerError> {
    let failed = |error: toml::ser::Error| ServerError::Setting {
        setting: "the settings".to_owned(),
        reason: error.to_string(),
    };
    let table = Table::try_from(&loaded.config).map_err(failed)?;
    let mut lines: Vec<(String, String)> = Vec::new();
    for (key, value) in flat(&table, "") {
        let source = loaded.sources.of(&key).to_owned();
        lines.push((key.clone(), line(&key, &value, &source)));
    }
    for (key, how) in CHOSEN {
        if !lines.iter().any(|(known, _)| known == key) {
            let name = last(key);
            lines.push((key.to_owned(), format!("# {name}: {how}")));
        }
    }
    // Keys of one section together; the sections in order.
    lines.sort_by(|a, b| (section(&a.0), &a.0).cmp(&(section(&b.0), &b.0)));
    Ok(sections(&lines))
}

fn sections(lines: &[(String, String)]) -> String {
    let mut text = String::new();
    let mut current = "";
    for (key, line) in lines {
        if section(key) != current {
            current = section(key);
            let gap = if text.is_empty() { "" } else { "\n" };
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{gap}[{current}]");
        }
        let _ = writeln!(text, "{line}");
    }
    text
}

fn line(key: &str, value: &Value, source: &str) -> String {
    format!("{} = {value}  # {source}", last(key))
}

fn section(key: &str) -> &str {
    key.rsplit_once('.').map_or("", |(section, _)| section)
}

fn last(key: &str) -> &str {
    key.rsplit_once('.').map_or(key, |(_, last)| last)
}
