//! Starting programs: one type for a command, one line that shows it, one error that says how it ended.
//!
//! Every command that runs for a person is printed first in the form in which that person could type it.
//! No shell is involved, so nothing needs quoting on the way to the program; quotes are for the eye only.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

/// A program with its arguments and the environment that differs from ours.
#[derive(Debug, Clone)]
pub(crate) struct Cmd {
    program: OsString,
    args: Vec<OsString>,
    shown_env: Vec<(String, String)>,
    quiet_env: Vec<(String, OsString)>,
}

impl Cmd {
    pub(crate) fn new(program: impl AsRef<OsStr>) -> Self {
        Self {
            program: program.as_ref().to_owned(),
            args: Vec::new(),
            shown_env: Vec::new(),
            quiet_env: Vec::new(),
        }
    }

    /// A cargo command, written as a person would type it: `Cmd::cargo("fmt --all --check")`.
    pub(crate) fn cargo(words: &str) -> Self {
        Self::new("cargo").words(words)
    }

    pub(crate) fn words(mut self, words: &str) -> Self {
        self.args
            .extend(words.split_whitespace().map(OsString::from));
        self
    }

    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    pub(crate) fn args<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(mut self, args: I) -> Self {
        self.args
            .extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// A variable that changes what the command means, and is shown in front of it.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.shown_env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Variables that only make it faster; they are not shown.
    pub(crate) fn quiet_env(mut self, vars: &[(String, OsString)]) -> Self {
        self.quiet_env.extend_from_slice(vars);
        self
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(&self.args)
            .envs(self.shown_env.iter().map(|(name, value)| (name, value)))
            .envs(self.quiet_env.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs it with our terminal; anything but success is an error that names the command.
    pub(crate) fn run(&self) -> Result<()> {
        let status = self
            .command()
            .status()
            .with_context(|| format!("cannot start `{self}`"))?;
        if status.success() {
            return Ok(());
        }
        bail!("`{self}` failed ({status})")
    }

    /// Runs it and returns what it wrote to stdout; stderr goes to ours.
    pub(crate) fn read(&self) -> Result<String> {
        let output = self
            .command()
            .stderr(Stdio::inherit())
            .output()
            .with_context(|| format!("cannot start `{self}`"))?;
        if !output.status.success() {
            bail!("`{self}` failed ({})", output.status)
        }
        String::from_utf8(output.stdout).with_context(|| format!("`{self}` did not print UTF-8"))
    }

    /// Becomes that program. Signals and the exit code are then its own.
    #[cfg(unix)]
    pub(crate) fn exec(&self) -> Result<()> {
        use std::os::unix::process::CommandExt as _;
        let error = self.command().exec();
        Err(error).with_context(|| format!("cannot start `{self}`"))
    }

    #[cfg(not(unix))]
    pub(crate) fn exec(&self) -> Result<()> {
        self.run()
    }
}

/// The command as a person would type it.
impl fmt::Display for Cmd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in &self.shown_env {
            write!(f, "{name}={} ", quoted(value))?;
        }
        write!(f, "{}", quoted(&self.program.to_string_lossy()))?;
        for arg in &self.args {
            write!(f, " {}", quoted(&arg.to_string_lossy()))?;
        }
        Ok(())
    }
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// An error that ends the process with a code of its own.
#[derive(Debug)]
pub(crate) struct Exit {
    code: u8,
    message: String,
}

impl Exit {
    /// What is missing can be had by typing a line; the caller has to decide.
    pub(crate) fn needs_user(message: impl Into<String>) -> Self {
        Self {
            code: 2,
            message: message.into(),
        }
    }

    pub(crate) fn code(&self) -> ExitCode {
        ExitCode::from(self.code)
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Exit {}

/// Where a program of that name is on the PATH.
pub(crate) fn find_program(name: &str) -> Option<std::path::PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|folder| folder.join(name))
        .find(|file| is_program(file))
}

#[cfg(unix)]
fn is_program(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    file.metadata()
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(not(unix))]
fn is_program(file: &Path) -> bool {
    file.is_file()
}

/// `950 ms`, `8.3 s`, `17 min 5 s`.
pub(crate) fn human_time(time: Duration) -> String {
    match time.as_secs() {
        0 => format!("{} ms", time.as_millis()),
        1..60 => format!("{:.1} s", time.as_secs_f64()),
        seconds => format!("{} min {} s", seconds / 60, seconds % 60),
    }
}

/// `0 B`, `12.0 KiB`, `3.4 GiB`.
pub(crate) fn human_size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut size = bytes as f64 / 1024.0;
    let mut unit = UNITS[0];
    for next in &UNITS[1..] {
        if size < 1024.0 {
            break;
        }
        size /= 1024.0;
        unit = next;
    }
    format!("{size:.1} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_as_it_could_be_typed() {
        let cmd = Cmd::cargo("doc --no-deps")
            .env("RUSTDOCFLAGS", "-D warnings")
            .arg("it's");
        assert_eq!(
            cmd.to_string(),
            r"RUSTDOCFLAGS='-D warnings' cargo doc --no-deps 'it'\''s'"
        );
    }

    #[test]
    fn times_and_sizes_are_readable() {
        let time = |millis| human_time(Duration::from_millis(millis));
        assert_eq!(
            [time(950), time(8_340), time(1_025_000)],
            ["950 ms", "8.3 s", "17 min 5 s"]
        );
        assert_eq!(human_size(1023), "1023 B");
        assert_eq!(human_size(12 * 1024), "12.0 KiB");
        assert_eq!(human_size(3_650_722_201), "3.4 GiB");
    }

    #[test]
    fn a_command_that_fails_is_named() {
        let error = Cmd::new("false")
            .run()
            .expect_err("`false` never succeeds")
            .to_string();
        assert!(error.starts_with("`false` failed"), "{error}");
    }
}
