//! `arustio-server health`: asks the server that has the same settings how it is.
//!
//! For health checks of containers and units, where no other HTTP client needs to be
//! installed. One request, two seconds, a bounded answer; no log, one thread.

use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use tokio::time::timeout;

use crate::ask::{Answer, ask};
use crate::error::ServerError;
use crate::run::say;

/// From connecting to the last byte of the answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Prints what the server answers: exit code 0 when it is well, else 1.
pub(crate) fn run(listened: SocketAddr, ready: bool) -> Result<ExitCode, ServerError> {
    let path = if ready { "/readyz" } else { "/healthz" };
    let address = reachable(listened);
    match asked(address, path)? {
        Ok(Answer { status: 200, text }) => {
            say(&format!("{}\n", text.trim_end()))?;
            Ok(ExitCode::SUCCESS)
        }
        Ok(Answer { text, .. }) => Ok(unwell(text.trim_end())),
        Err(error) => Ok(unwell(&format!(
            "no answer from http://{address}{path}: {error}"
        ))),
    }
}

/// Within our patience.
fn asked(address: SocketAddr, path: &str) -> Result<io::Result<Answer>, ServerError> {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build();
    let runtime = runtime.map_err(|error| ServerError::Start {
        action: "start the runtime",
        reason: error.to_string(),
    })?;
    let address = address.to_string();
    let asking = async { timeout(PATIENCE, ask(&address, path)).await };
    let late = |_| Err(io::Error::from(io::ErrorKind::TimedOut));
    Ok(runtime.block_on(asking).unwrap_or_else(late))
}

fn unwell(text: &str) -> ExitCode {
    // Nobody is left to be told when stderr is gone.
    let _ = writeln!(io::stderr(), "{text}");
    ExitCode::from(1)
}

/// Who listens on every address is asked on loopback.
fn reachable(listened: SocketAddr) -> SocketAddr {
    let ip = match listened.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listened.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_is_asked_on_loopback() {
        let asked = |listened: &str| reachable(listened.parse().unwrap()).to_string();
        assert_eq!(asked("0.0.0.0:7413"), "127.0.0.1:7413");
        assert_eq!(asked("[::]:7413"), "[::1]:7413");
        assert_eq!(asked("10.0.0.1:7413"), "10.0.0.1:7413");
    }
}
