//! Log lines to stderr, and the end of a process that panicked.
//!
//! Installed by the program only: a server inside a test or another program logs through
//! whatever subscriber is there.

use tracing_subscriber::EnvFilter;

use crate::config::{LogConfig, LogFormat};
use crate::error::ServerError;

/// Installs the subscriber and the panic hook. `filter` (`ARUSTIO_LOG`) overrides the
/// filter of the settings.
pub fn install(config: &LogConfig, filter: Option<&String>) -> Result<(), ServerError> {
    let text = filter.unwrap_or(&config.filter);
    let filter = EnvFilter::try_new(text).map_err(|error| ServerError::Setting {
        setting: "log.filter (or ARUSTIO_LOG)".to_owned(),
        reason: format!("{text:?} is no filter: {error}"),
    })?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let installed = match config.format {
        LogFormat::Text => lines.with_ansi(false).try_init(),
        LogFormat::Json => lines.json().try_init(),
    };
    installed.map_err(|error| ServerError::Start {
        action: "install the log",
        reason: error.to_string(),
    })?;
    abort_on_panic();
    Ok(())
}

/// A half-dead metadata node is worse than a dead one.
fn abort_on_panic() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        tracing::error!("panicked, which is a defect; please report it: {panic}");
        before(panic);
        std::process::abort();
    }));
}
