//! Where the command's settings come from: file, then environment, then flags.

use std::path::{Path, PathBuf};

use arustio_client::{ClientConfig, FsError};
use arustio_types::ErrorKind;

use crate::args::Global;

/// A key is taken for a misspelt one up to this distance.
const NEAR: usize = 3;

/// The settings of this run.
pub(crate) fn load(global: &Global) -> Result<ClientConfig, FsError> {
    let mut config = match find(global) {
        Some(path) => read(&path)?,
        None => ClientConfig::default(),
    };
    if !global.server.is_empty() {
        config.addresses = global.server.clone();
    }
    for address in &config.addresses {
        check_address(address)?;
    }
    Ok(config)
}

/// The file that was named, or the first usual one that exists.
fn find(global: &Global) -> Option<PathBuf> {
    if global.config.is_some() {
        return global.config.clone();
    }
    let own = std::env::var_os("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".config")))
        .map(|folder| folder.join("arustio").join("config.toml"));
    let system = Some(PathBuf::from("/etc/arustio/config.toml"));
    [own, system].into_iter().flatten().find(|p| p.is_file())
}

fn read(path: &Path) -> Result<ClientConfig, FsError> {
    let refuse = |message: String| {
        FsError::new(ErrorKind::InvalidArgument, message)
            .during("read the configuration")
            .at_text(&path.to_string_lossy())
    };
    let text = std::fs::read_to_string(path).map_err(|e| refuse(e.to_string()))?;
    toml::from_str(&text).map_err(|e| refuse(explain(&e)))
}

/// The parser's words, with the nearest known key where one is unknown.
fn explain(error: &toml::de::Error) -> String {
    let text = error.to_string().trim_end().to_owned();
    let mut quoted = error.message().split('`').skip(1).step_by(2);
    let unknown = quoted
        .next()
        .filter(|_| error.message().starts_with("unknown field"));
    let near = unknown.and_then(|wrong| {
        let known = quoted.map(|known| (strsim::damerau_levenshtein(wrong, known), known));
        known.filter(|(distance, _)| *distance <= NEAR).min()
    });
    match near {
        Some((_, near)) => format!("{text}\ndid you mean `{near}`?"),
        None => text,
    }
}

fn check_address(address: &str) -> Result<(), FsError> {
    let port = address
        .rsplit_once(':')
        .map(|(_, port)| port.parse::<u16>());
    if matches!(port, Some(Ok(_))) {
        return Ok(());
    }
    let message =
        format!("{address:?} is not an address: expected host:port, such as 127.0.0.1:7411");
    Err(FsError::new(ErrorKind::InvalidArgument, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_without_a_port_is_refused() {
        assert!(check_address("localhost:7411").is_ok());
        assert!(check_address("[::1]:7411").is_ok());
        assert!(check_address("localhost").is_err());
        assert!(check_address("http://x").is_err());
    }

    #[test]
    fn endpoints_are_mapped_in_the_file_and_other_keys_beside_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        let map = "[ufs.endpoint_map]\n\"http://minio:9000\" = \"http://localhost:9000\"\n";
        std::fs::write(&path, map).unwrap();
        let config = read(&path).unwrap();
        assert_eq!(
            config.ufs.endpoint_map["http://minio:9000"],
            "http://localhost:9000"
        );
        std::fs::write(&path, "[ufs]\nendpoint_maps = {}\n").unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains("did you mean `endpoint_map`?"), "{error}");
    }

    #[test]
    fn an_unknown_key_of_the_file_is_refused_with_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        std::fs::write(&path, "adresses = []\n").unwrap();
        let error = read(&path).unwrap_err();
        assert!(error.to_string().contains("adresses"), "{error}");
        assert!(
            error.to_string().contains("did you mean `addresses`?"),
            "{error}"
        );
    }
}
