//! Where settings come from: a file, the environment, the flags.
//!
//! Each source becomes a table and is checked alone, so that a mistake is reported with
//! the place where it stands; then the tables are laid over each other.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::ServerConfig;
use crate::args::Args;
use crate::data::socket;
use crate::error::ServerError;

/// Variables with this in front, and two underscores behind it, are settings.
const PREFIX: &str = "ARUSTIO_";
/// A key is taken for a misspelt one up to this distance.
const NEAR: usize = 3;

/// Settings, and where each of them came from.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The settings.
    pub config: ServerConfig,
    /// Where they came from.
    pub sources: Sources,
}

/// The source of each setting by its dotted key; what is not in here is a default.
#[derive(Debug, Clone, Default)]
pub struct Sources(pub(super) BTreeMap<String, String>);

impl Sources {
    /// The source of one setting.
    pub fn of(&self, key: &str) -> &str {
        self.0.get(key).map_or("default", String::as_str)
    }
}

/// Reads file, environment and flags, in that order of override.
pub fn load(args: &Args, env: &BTreeMap<String, String>) -> Result<Loaded, ServerError> {
    let mut sources = Sources::default();
    let mut merged = Table::new();
    if let Some(path) = find(args, env) {
        let table = read(&path)?;
        note(&mut sources, &table, &format!("file {}", path.display()));
        lay_over(&mut merged, table);
    }
    for (name, table) in from_env(env)? {
        note(&mut sources, &table, &format!("environment {name}"));
        lay_over(&mut merged, table);
    }
    for (flag, table) in from_args(args)? {
        note(&mut sources, &table, flag);
        lay_over(&mut merged, table);
    }
    let mut config: ServerConfig = take(merged, "the settings together")?;
    free_http_port(&mut config, &mut sources);
    if config.server.data_dir.is_none() {
        config.server.data_dir = default_data_dir(env);
    }
    if config.frames.socket.is_none() {
        config.frames.socket = short_socket(&config, env);
    }
    Ok(Loaded { config, sources })
}

/// The file that was named, or the first usual one that exists.
fn find(args: &Args, env: &BTreeMap<String, String>) -> Option<PathBuf> {
    if args.config.is_some() {
        return args.config.clone();
    }
    let own = folder(env, "XDG_CONFIG_HOME", ".config");
    let own = own.map(|folder| folder.join("arustio").join("server.toml"));
    let system = Some(PathBuf::from("/etc/arustio/server.toml"));
    [own, system].into_iter().flatten().find(|p| p.is_file())
}

fn folder(env: &BTreeMap<String, String>, xdg: &str, below_home: &str) -> Option<PathBuf> {
    let given = |name: &str| env.get(name).filter(|value| value.starts_with('/'));
    given(xdg)
        .map(PathBuf::from)
        .or_else(|| given("HOME").map(|home| Path::new(home).join(below_home)))
}

fn default_data_dir(env: &BTreeMap<String, String>) -> Option<PathBuf> {
    folder(env, "XDG_DATA_HOME", ".local/share").map(|folder| folder.join("arustio"))
}

/// A socket for a data folder whose own path would be too long for one.
fn short_socket(config: &ServerConfig, env: &BTreeMap<String, String>) -> Option<PathBuf> {
    let folder = config.server.data_dir.as_ref()?.as_os_str();
    if folder.len() + 1 + socket::NAME.len() <= socket::LONGEST {
        return None;
    }
    let runtime = env.get("XDG_RUNTIME_DIR").filter(|v| v.starts_with('/'))?;
    let sum = crc32c::crc32c(folder.as_encoded_bytes());
    Some(Path::new(runtime).join(format!("arustio-{sum:08x}.sock")))
}

/// Whoever asks for a free port of gRPC does not want the usual one of HTTP.
fn free_http_port(config: &mut ServerConfig, sources: &mut Sources) {
    let key = "http.listen";
    if config.server.listen.ends_with(":0") && sources.of(key) == "default" {
        config.http.listen = "127.0.0.1:0".to_owned();
        let origin = sources.of("server.listen").to_owned();
        sources.0.insert(key.to_owned(), origin);
    }
}

fn read(path: &Path) -> Result<Table, ServerError> {
    let refuse = |reason: String| ServerError::ConfigFile {
        path: path.to_owned(),
        reason,
    };
    let text = std::fs::read_to_string(path).map_err(|error| refuse(error.to_string()))?;
    let table: Table = text.parse().map_err(|error| refuse(explain(&error)))?;
    toml::from_str::<ServerConfig>(&text).map_err(|error| refuse(explain(&error)))?;
    Ok(table)
}

/// One table for each variable, so that a mistake names its variable.
fn from_env(env: &BTreeMap<String, String>) -> Result<Vec<(String, Table)>, ServerError> {
    let mut found = Vec::new();
    for (name, text) in env {
        let Some(key) = name.strip_prefix(PREFIX).filter(|key| key.contains("__")) else {
            continue;
        };
        let keys: Vec<String> = key.split("__").map(str::to_ascii_lowercase).collect();
        let table = one_setting(&keys, text);
        check(&table, &format!("the variable {name}"))?;
        found.push((name.clone(), table));
    }
    Ok(found)
}

/// A setting given as text: as what its default is, or as the first that is accepted.
fn one_setting(keys: &[String], text: &str) -> Table {
    let candidates = [literal(text), list(text), Value::String(text.to_owned())];
    let tables = candidates.map(|value| nest(keys, value));
    let fits = |table: &&Table| take::<ServerConfig>((*table).clone(), "").is_ok();
    let last = tables.last().cloned().unwrap_or_default();
    tables.iter().find(fits).cloned().unwrap_or(last)
}

/// As TOML would read it: numbers, booleans, arrays.
fn literal(text: &str) -> Value {
    let parsed: Option<Table> = format!("value = {text}").parse().ok();
    let value = parsed.and_then(|mut table| table.remove("value"));
    value.unwrap_or_else(|| Value::String(text.to_owned()))
}

fn list(text: &str) -> Value {
    let items = text
        .split(',')
        .map(|item| Value::String(item.trim().to_owned()));
    Value::Array(items.collect())
}

fn nest(keys: &[String], value: Value) -> Table {
    let Some((first, rest)) = keys.split_first() else {
        return Table::new();
    };
    let value = if rest.is_empty() {
        value
    } else {
        Value::Table(nest(rest, value))
    };
    Table::from_iter([(first.clone(), value)])
}

fn from_args(args: &Args) -> Result<Vec<(&'static str, Table)>, ServerError> {
    let text = |value: &Option<String>| value.clone().map(Value::String);
    let names = |values: Vec<String>| Value::Array(values.into_iter().map(Value::String).collect());
    let role = args.role.as_ref();
    let given = [
        (
            "flag --role",
            "server.role",
            role.map(|roles| names(roles.iter().map(ToString::to_string).collect())),
        ),
        (
            "flag --data-dir",
            "server.data_dir",
            path_value("server.data_dir", args.data_dir.as_deref())?,
        ),
        ("flag --listen", "server.listen", text(&args.listen)),
        (
            "flag --frames-listen",
            "frames.listen",
            text(&args.frames_listen),
        ),
        ("flag --http-listen", "http.listen", text(&args.http_listen)),
        (
            "flag --advertise",
            "server.advertise",
            text(&args.advertise),
        ),
        (
            "flag --metadata",
            "cluster.metadata",
            args.metadata.clone().map(names),
        ),
        (
            "flag --member",
            "cluster.member",
            args.member.map(number).transpose()?,
        ),
        (
            "flag --members",
            "cluster.members",
            args.members.clone().map(names),
        ),
        (
            "flag --key-file",
            "cluster.key_file",
            path_value("cluster.key_file", args.key_file.as_deref())?,
        ),
        (
            "flag --insecure",
            "server.insecure",
            args.insecure.then_some(Value::Boolean(true)),
        ),
        (
            "flag --log-format",
            "log.format",
            args.log_format
                .map(|format| Value::try_from(format).map_err(internal))
                .transpose()?,
        ),
    ];
    let set = given.into_iter().filter_map(|(flag, key, value)| {
        let keys: Vec<String> = key.split('.').map(str::to_owned).collect();
        value.map(|value| (flag, nest(&keys, value)))
    });
    Ok(set.collect())
}

fn path_value(setting: &str, path: Option<&Path>) -> Result<Option<Value>, ServerError> {
    let Some(path) = path else { return Ok(None) };
    let text = path.to_str().ok_or_else(|| ServerError::Setting {
        setting: setting.to_owned(),
        reason: format!("{} is not UTF-8", path.display()),
    })?;
    Ok(Some(Value::String(text.to_owned())))
}

/// TOML has signed numbers only.
fn number(number: u64) -> Result<Value, ServerError> {
    let number = i64::try_from(number).map_err(|_| ServerError::Setting {
        setting: "cluster.member".to_owned(),
        reason: format!("{number} is too large"),
    })?;
    Ok(Value::Integer(number))
}

fn internal(error: toml::ser::Error) -> ServerError {
    ServerError::Setting {
        setting: "log.format".to_owned(),
        reason: error.to_string(),
    }
}

fn check(table: &Table, place: &str) -> Result<(), ServerError> {
    take::<ServerConfig>(table.clone(), place).map(|_| ())
}

fn take<T: serde::de::DeserializeOwned>(table: Table, place: &str) -> Result<T, ServerError> {
    Value::Table(table)
        .try_into()
        .map_err(|error: toml::de::Error| ServerError::Setting {
            setting: place.to_owned(),
            reason: explain(&error),
        })
}

/// The parser's words, with the nearest known key where one is unknown.
fn explain(error: &toml::de::Error) -> String {
    let text = error.to_string().trim_end().to_owned();
    match suggestion(error.message()) {
        Some(near) => format!("{text}\ndid you mean `{near}`?"),
        None => text,
    }
}

/// From "unknown field `a`, expected one of `b`, `c`".
pub(super) fn suggestion(message: &str) -> Option<&str> {
    if !message.starts_with("unknown ") {
        return None;
    }
    let mut quoted = message.split('`').skip(1).step_by(2);
    let wrong = quoted.next()?;
    quoted
        .map(|known| (strsim::damerau_levenshtein(wrong, known), known))
        .filter(|(distance, _)| *distance <= NEAR)
        .min()
        .map(|(_, known)| known)
}

fn lay_over(below: &mut Table, above: Table) {
    for (key, value) in above {
        match (below.get_mut(&key), value) {
            (Some(Value::Table(below)), Value::Table(above)) => lay_over(below, above),
            (_, value) => {
                below.insert(key, value);
            }
        }
    }
}

fn note(sources: &mut Sources, table: &Table, source: &str) {
    for (key, _) in flat(table, "") {
        sources.0.insert(key, source.to_owned());
    }
}

/// Every value by its dotted key.
pub(super) fn flat(table: &Table, below: &str) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    for (key, value) in table {
        let key = if below.is_empty() {
            key.clone()
        } else {
            format!("{below}.{key}")
        };
        match value {
            Value::Table(inner) => found.extend(flat(inner, &key)),
            value => found.push((key, value.clone())),
        }
    }
    found
}
