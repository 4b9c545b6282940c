//! `arustio-server health`: asks the server that has the same settings how it is.
//!
//! For health checks of containers and units, where no other HTTP client needs to be
//! installed. One request, two seconds, a bounded answer; no log, no runtime.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

use crate::error::ServerError;
use crate::run::say;

/// Time for each of connecting, sending and receiving.
const PATIENCE: Duration = Duration::from_secs(2);

/// More than any answer of a server has.
const LONGEST: u64 = 64 * 1024;

/// Prints what the server answers: exit code 0 when it is well, else 1.
pub(crate) fn run(listened: SocketAddr, ready: bool) -> Result<ExitCode, ServerError> {
    let path = if ready { "/readyz" } else { "/healthz" };
    let address = reachable(listened);
    match ask(address, path) {
        Ok((200, text)) => {
            say(&format!("{text}\n"))?;
            Ok(ExitCode::SUCCESS)
        }
        Ok((_, text)) => Ok(unwell(&text)),
        Err(error) => Ok(unwell(&format!(
            "no answer from http://{address}{path}: {error}"
        ))),
    }
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

/// The status and the text of one answer.
fn ask(address: SocketAddr, path: &str) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = BufReader::new(stream.take(LONGEST));
    let mut line = String::new();
    answer.read_line(&mut line)?;
    let status = line.split_whitespace().nth(1);
    let status = status.and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| io::Error::other("that is no HTTP server"))?;
    // The headers end at an empty line.
    while answer.read_line(&mut line)? > 2 {
        line.clear();
    }
    let mut text = String::new();
    answer.read_to_string(&mut text)?;
    Ok((status, text.trim_end().to_owned()))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// Answers one request with these bytes.
    fn answering(bytes: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let answer = move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).unwrap();
            stream.write_all(bytes.as_bytes()).unwrap();
        };
        let thread = std::thread::Builder::new().name("answers".to_owned());
        thread.spawn(answer).unwrap();
        address
    }

    #[test]
    fn an_answer_is_its_status_and_its_text() {
        let ready = "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nready\n";
        let answer = ask(answering(ready), "/readyz").unwrap();
        assert_eq!(answer, (200, "ready".to_owned()));
        let waits = "HTTP/1.0 503 Service Unavailable\r\n\r\nnot ready: waiting for 2\n";
        let answer = ask(answering(waits), "/readyz").unwrap();
        assert_eq!(answer, (503, "not ready: waiting for 2".to_owned()));
    }

    #[test]
    fn whoever_speaks_something_else_is_not_well() {
        assert!(ask(answering("SSH-2.0-x\r\n"), "/healthz").is_err());
        assert!(ask(answering(""), "/healthz").is_err());
    }

    #[test]
    fn every_address_is_asked_on_loopback() {
        let asked = |listened: &str| reachable(listened.parse().unwrap()).to_string();
        assert_eq!(asked("0.0.0.0:7413"), "127.0.0.1:7413");
        assert_eq!(asked("[::]:7413"), "[::1]:7413");
        assert_eq!(asked("10.0.0.1:7413"), "10.0.0.1:7413");
    }
}
