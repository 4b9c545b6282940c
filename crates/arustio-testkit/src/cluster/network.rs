//! Namespaces of the network, so that each process of a cluster has an address of its own, as on
//! machines of its own.
//!
//! One bridge on this machine, one namespace for each process, and a pair of virtual interfaces
//! between the two. Whoever starts the cluster reaches all of them over the bridge, and so do
//! they each other; nothing leaves the machine. The addresses are of the block that is set aside
//! for benchmarks (198.18.0.0/15), and the name of the bridge holds the number of its part, so
//! that making the bridge reserves it: two clusters never share one.
//!
//! Needs root, and the command `ip`. What was made is named in the record of the cluster and
//! goes with it; a namespace that is there already is used as it is.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use serde::{Deserialize, Serialize};

/// Parts of the block that are tried.
const PARTS: u8 = 250;
/// The host on the bridge; processes follow.
const HOST: u8 = 1;
const FIRST: u8 = 11;
/// More than a cluster has nodes.
const MOST: usize = 200;

/// A bridge and the namespaces on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// The part of the block, and of every name.
    part: u8,
    /// Who has a namespace, in the order of addresses.
    members: Vec<String>,
}

impl Network {
    /// Makes a bridge on a part of the block that nobody uses.
    ///
    /// # Errors
    /// Without root, or without the command `ip`: says so, and what to do.
    pub fn create() -> Result<Self> {
        ensure!(
            rustix::process::geteuid().is_root(),
            "namespaces of the network need root (the capability CAP_NET_ADMIN); leave --netns \
             away to run everything on loopback"
        );
        for part in 0..PARTS {
            let network = Self {
                part,
                members: Vec::new(),
            };
            let bridge = network.bridge();
            match ip(&["link", "add", "name", &bridge, "type", "bridge"]) {
                Ok(()) => return network.raised(),
                Err(error) if error.to_string().contains("File exists") => {}
                Err(error) => return Err(error.context("cannot make a bridge for --netns")),
            }
        }
        bail!("all {PARTS} networks for --netns are taken; look at: ip link show type bridge")
    }

    fn raised(self) -> Result<Self> {
        let raised = self.raise();
        if raised.is_err() {
            self.remove();
        }
        raised.map(|()| self)
    }

    fn raise(&self) -> Result<()> {
        let (bridge, address) = (self.bridge(), format!("{}/24", self.address(HOST)));
        ip(&["address", "add", &address, "dev", &bridge])?;
        ip(&["link", "set", &bridge, "up"])
    }

    /// The namespace and the address of a process, made when they are asked for first.
    ///
    /// # Errors
    /// When they cannot be made.
    pub fn member(&mut self, name: &str) -> Result<(String, IpAddr)> {
        let place = match self.members.iter().position(|member| member == name) {
            Some(place) => place,
            None => {
                ensure!(self.members.len() < MOST, "at most {MOST} namespaces");
                self.members.push(name.to_owned());
                let place = self.members.len() - 1;
                self.connect(place)?;
                place
            }
        };
        Ok((self.namespace(place), self.address_of(place)))
    }

    /// Makes again what was removed, at the same addresses.
    ///
    /// # Errors
    /// When another cluster has taken the addresses meanwhile.
    pub fn restore(&self) -> Result<()> {
        let bridge = self.bridge();
        let made = ip(&["link", "add", "name", &bridge, "type", "bridge"]);
        made.with_context(|| {
            format!("the addresses of this cluster ({bridge}) are used by another one now")
        })?;
        self.raise()?;
        (0..self.members.len()).try_for_each(|place| self.connect(place))
    }

    fn connect(&self, place: usize) -> Result<()> {
        let (namespace, here) = (self.namespace(place), self.interface(place));
        let address = format!("{}/24", self.address_of(place));
        ip(&["netns", "add", &namespace])?;
        ip(&[
            "link", "add", &here, "type", "veth", "peer", "name", "eth0", "netns", &namespace,
        ])?;
        ip(&["link", "set", &here, "master", &self.bridge(), "up"])?;
        ip(&["-n", &namespace, "address", "add", &address, "dev", "eth0"])?;
        ip(&["-n", &namespace, "link", "set", "eth0", "up"])?;
        ip(&["-n", &namespace, "link", "set", "lo", "up"])
    }

    /// Removes everything; what is gone already is fine.
    pub fn remove(&self) {
        for place in 0..self.members.len() {
            // By itself this one goes some time after its namespace.
            let _ = ip(&["link", "delete", &self.interface(place)]);
            let _ = ip(&["netns", "delete", &self.namespace(place)]);
        }
        let _ = ip(&["link", "delete", &self.bridge()]);
    }

    fn bridge(&self) -> String {
        format!("arustio{}", self.part)
    }

    fn namespace(&self, place: usize) -> String {
        format!("{}-{}", self.bridge(), self.members[place])
    }

    /// The end of its wire that is on the bridge.
    fn interface(&self, place: usize) -> String {
        format!("{}p{place}", self.bridge())
    }

    fn address_of(&self, place: usize) -> IpAddr {
        let offset = u8::try_from(place).unwrap_or(u8::MAX);
        self.address(FIRST.saturating_add(offset))
    }

    fn address(&self, last: u8) -> IpAddr {
        Ipv4Addr::new(198, 18, self.part, last).into()
    }
}

/// Whether a namespace exists.
pub fn is_there(namespace: &str) -> bool {
    Path::new("/run/netns").join(namespace).exists()
}

/// A command that runs a program in a namespace, or here; arguments follow.
pub fn command_in(namespace: Option<&str>, program: &Path) -> Command {
    let Some(namespace) = namespace else {
        return Command::new(program);
    };
    // It becomes the program, so that the process keeps its number.
    let mut command = Command::new("ip");
    command.args(["netns", "exec", namespace]).arg(program);
    command
}

fn ip(words: &[&str]) -> Result<()> {
    let done = Command::new("ip").args(words).output();
    let done =
        done.context("the command `ip` is missing (Debian, Ubuntu: apt install iproute2)")?;
    if !done.status.success() {
        let said = String::from_utf8_lossy(&done.stderr);
        bail!("ip {}: {}", words.join(" "), said.trim());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_an_interface_and_addresses_differ() {
        let names = ["meta-1", "block-1", "s3"].map(str::to_owned);
        let network = Network {
            part: PARTS - 1,
            members: names.into(),
        };
        // The kernel takes 15 bytes.
        assert!(network.interface(MOST - 1).len() <= 15);
        let addresses: Vec<_> = (0..3).map(|place| network.address_of(place)).collect();
        assert_eq!(addresses[0].to_string(), "198.18.249.11");
        assert_eq!(addresses[2].to_string(), "198.18.249.13");
        assert_eq!(network.namespace(2), "arustio249-s3");
    }

    #[test]
    fn an_offset_never_leaves_the_part() {
        assert!(u8::try_from(MOST).unwrap().checked_add(FIRST).is_some());
    }
}
