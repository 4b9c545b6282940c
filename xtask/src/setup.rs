//! The tools that a build needs and that cargo cannot fetch.
//!
//! RocksDB is C++ and its bindings are made by libclang; the protocol files, ours and raft-rs's, are
//! compiled by protoc. Whatever is missing is installed where that needs no question (as root, or in
//! continuous integration), asked about on a terminal, and otherwise written out as the one line to type.
//!
//! Every command that builds comes through [`ready`], so the search looks at files only and starts no
//! program while nothing is missing. It never changes what is already installed.
//!
//! ccache is used by putting its folder of compiler names in front of the PATH where there is one, and
//! not by setting `CXX`: cargo rebuilds RocksDB when `CXX` differs from the last build, so somebody who
//! alternates between `cargo xtask test` and plain `cargo test` would pay for it every time.

use std::ffi::OsString;
use std::fs;
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::shell::{Cmd, Exit, find_program};

/// Something that a build needs or likes, and how to get it.
struct Tool {
    name: &'static str,
    why: &'static str,
    find: fn() -> Option<PathBuf>,
    debian: &'static [&'static str],
    need: Need,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    Required,
    /// Installed along with the rest, never on its own account.
    Faster,
    /// Only named.
    Optional,
}

const TOOLS: &[Tool] = &[
    Tool {
        name: "C++ compiler",
        why: "builds RocksDB",
        find: cxx_compiler,
        debian: &["g++"],
        need: Need::Required,
    },
    Tool {
        name: "libclang",
        why: "makes the bindings to RocksDB",
        find: libclang,
        debian: &["clang", "libclang-dev"],
        need: Need::Required,
    },
    Tool {
        name: "protoc",
        why: "compiles the protocol files",
        find: protoc,
        debian: &["protobuf-compiler"],
        need: Need::Required,
    },
    Tool {
        name: "ccache",
        why: "optional: makes the second build of RocksDB short",
        find: || find_program("ccache"),
        debian: &["ccache"],
        need: Need::Faster,
    },
    Tool {
        name: "mold",
        why: "optional: a quicker linker, used only if your own cargo configuration names it",
        find: || find_program("mold"),
        debian: &["mold"],
        need: Need::Optional,
    },
];

/// What a build gets from us: variables for the programs that we start.
pub(crate) type BuildEnv = Vec<(String, OsString)>;

/// Makes sure that a build can start, and says nothing when it can.
pub(crate) fn ready() -> Result<BuildEnv> {
    let missing = missing(Need::Required);
    if !missing.is_empty() {
        provide(&missing)?;
    }
    Ok(compiler_cache(std::env::var_os("PATH"), &|name| {
        std::env::var_os(name)
    }))
}

/// `cargo xtask setup`: the same, and shows what was found where.
pub(crate) fn command() -> Result<()> {
    ready()?;
    for tool in TOOLS {
        let place =
            (tool.find)().map_or_else(|| "not found".to_owned(), |path| path.display().to_string());
        println!("{:<13} {place}  ({})", tool.name, tool.why);
    }
    println!("setup: everything that a build needs is here");
    Ok(())
}

fn missing(need: Need) -> Vec<&'static Tool> {
    TOOLS
        .iter()
        .filter(|tool| tool.need == need && (tool.find)().is_none())
        .collect()
}

fn provide(required: &[&'static Tool]) -> Result<()> {
    for tool in required {
        eprintln!("setup: {} is missing ({})", tool.name, tool.why);
    }
    let mut wanted = required.to_vec();
    wanted.extend(missing(Need::Faster));
    let Some(commands) = install_commands(&wanted) else {
        let names: Vec<_> = required.iter().map(|tool| tool.name).collect();
        return Err(Exit::needs_user(format!(
            "there is no apt-get here; install these with the system's package manager and repeat: {}",
            names.join(", ")
        ))
        .into());
    };
    if !may_install(&commands)? {
        return Err(Exit::needs_user(format!(
            "a build needs what is missing above. Type this, then repeat:\n  {}",
            line(&commands)
        ))
        .into());
    }
    for command in &commands {
        eprintln!("setup: {command}");
        command.run()?;
    }
    if let Some(tool) = missing(Need::Required).first() {
        return Err(Exit::needs_user(format!(
            "{} is still not found after `{}`",
            tool.name,
            line(&commands)
        ))
        .into());
    }
    Ok(())
}

/// Update and install by apt-get, through sudo unless we are root.
fn install_commands(tools: &[&Tool]) -> Option<[Cmd; 2]> {
    find_program("apt-get")?;
    let apt = || match is_root() {
        true => Cmd::new("apt-get"),
        false => Cmd::new("sudo").arg("apt-get"),
    };
    let packages = tools.iter().flat_map(|tool| tool.debian);
    let install = apt()
        .words("install --yes --no-install-recommends")
        .args(packages);
    Some([
        apt().arg("update"),
        install.quiet_env(&[("DEBIAN_FRONTEND".into(), "noninteractive".into())]),
    ])
}

fn line(commands: &[Cmd]) -> String {
    commands
        .iter()
        .map(Cmd::to_string)
        .collect::<Vec<_>>()
        .join(" && ")
}

fn may_install(commands: &[Cmd]) -> Result<bool> {
    let ci = std::env::var("CI").is_ok_and(|value| value == "true" || value == "1");
    if is_root() || ci && find_program("sudo").is_some() {
        return Ok(true);
    }
    if !(std::io::stdin().is_terminal() && std::io::stderr().is_terminal()) {
        return Ok(false);
    }
    eprint!("setup: run `{}` now? [y/N] ", line(commands));
    std::io::stderr()
        .flush()
        .context("cannot write to the terminal")?;
    let mut answer = String::new();
    std::io::stdin()
        .read_line(&mut answer)
        .context("cannot read the answer")?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn is_root() -> bool {
    Cmd::new("id")
        .arg("-u")
        .read()
        .is_ok_and(|id| id.trim() == "0")
}

fn cxx_compiler() -> Option<PathBuf> {
    std::env::var("CXX")
        .ok()
        .and_then(|cxx| find_program(cxx.split_whitespace().last()?))
        .or_else(|| {
            ["c++", "g++", "clang++"]
                .iter()
                .find_map(|name| find_program(name))
        })
}

fn protoc() -> Option<PathBuf> {
    std::env::var_os("PROTOC")
        .map(PathBuf::from)
        .filter(|path| path.is_file())
        .or_else(|| find_program("protoc"))
}

/// Looks where the bindings generator looks: `LIBCLANG_PATH`, then the usual folders.
fn libclang() -> Option<PathBuf> {
    let mut folders: Vec<PathBuf> = std::env::var_os("LIBCLANG_PATH")
        .map(PathBuf::from)
        .into_iter()
        .collect();
    folders.extend(
        entries(Path::new("/usr/lib"))
            .filter(|path| starts_with(path, "llvm"))
            .map(|path| path.join("lib")),
    );
    folders.extend(
        entries(Path::new("/usr/lib")).filter(|path| path.to_string_lossy().contains("-linux-")),
    );
    folders.extend(
        [
            "/usr/lib64",
            "/usr/lib",
            "/usr/local/lib",
            "/opt/homebrew/opt/llvm/lib",
            "/Library/Developer/CommandLineTools/usr/lib",
        ]
        .map(PathBuf::from),
    );
    folders
        .iter()
        .find_map(|folder| entries(folder).find(|path| is_libclang(path)))
}

fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
}

fn starts_with(path: &Path, start: &str) -> bool {
    path.file_name()
        .is_some_and(|name| name.to_string_lossy().starts_with(start))
}

/// `libclang.so`, `libclang-14.so.1`, `libclang.dylib`; not `libclang-cpp.so`, which is another interface.
fn is_libclang(path: &Path) -> bool {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
        return false;
    };
    let Some(rest) = name.strip_prefix("libclang") else {
        return false;
    };
    let version_then_suffix =
        rest.trim_start_matches(|c: char| c == '-' || c == '.' || c.is_ascii_digit());
    version_then_suffix.starts_with("so") || version_then_suffix == "dylib"
}

/// Lets the C and C++ compilers go through ccache, unless the caller chose compilers.
fn compiler_cache(path: Option<OsString>, var: &dyn Fn(&str) -> Option<OsString>) -> BuildEnv {
    if var("CC").is_some() || var("CXX").is_some() {
        return Vec::new();
    }
    if let Some(folder) = ["/usr/lib/ccache", "/usr/lib64/ccache"]
        .map(Path::new)
        .into_iter()
        .find(|f| f.is_dir())
    {
        let rest = path.unwrap_or_default();
        let folders = std::iter::once(folder.to_owned()).chain(std::env::split_paths(&rest));
        return std::env::join_paths(folders)
            .map(|joined| vec![("PATH".into(), joined)])
            .unwrap_or_default();
    }
    match (
        find_program("ccache"),
        find_program("gcc"),
        find_program("g++"),
    ) {
        (Some(_), Some(_), Some(_)) => vec![
            ("CC".into(), "ccache gcc".into()),
            ("CXX".into(), "ccache g++".into()),
        ],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libclang_is_told_from_its_neighbours() {
        let found = |name: &str| is_libclang(&Path::new("/usr/lib/llvm-14/lib").join(name));
        for yes in [
            "libclang.so",
            "libclang.so.1",
            "libclang-14.so.1",
            "libclang-14.so.14.0.6",
            "libclang.dylib",
        ] {
            assert!(found(yes), "{yes}");
        }
        for no in [
            "libclang-cpp.so",
            "libclangAST.a",
            "libclang-cpp.so.14",
            "libclang.a",
            "clang",
        ] {
            assert!(!found(no), "{no}");
        }
    }

    #[test]
    fn compilers_that_the_caller_chose_are_left_alone() {
        let chosen = |name: &str| (name == "CXX").then(|| OsString::from("clang++"));
        assert!(compiler_cache(None, &chosen).is_empty());
    }

    #[test]
    fn every_tool_has_a_package_and_the_required_ones_come_first() {
        assert!(
            TOOLS
                .iter()
                .all(|tool| !tool.debian.is_empty() && !tool.why.is_empty())
        );
        assert!(TOOLS.is_sorted_by_key(|tool| tool.need as u8));
    }

    #[test]
    fn the_line_to_type_updates_first() {
        if find_program("apt-get").is_none() {
            eprintln!("skipped: there is no apt-get here");
            return;
        }
        let commands =
            install_commands(&TOOLS.iter().collect::<Vec<_>>()).expect("apt-get was found");
        let line = line(&commands);
        assert!(line.contains("apt-get update && "), "{line}");
        assert!(
            line.ends_with("g++ clang libclang-dev protobuf-compiler ccache mold"),
            "{line}"
        );
    }
}
