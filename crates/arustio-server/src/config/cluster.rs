//! Which metadata servers make up the cluster, and which of them this process is.
//!
//! `members` has one meaning and two uses. A server whose own number stands in it founds
//! the cluster together with the others; one whose number does not stand in it joins, and
//! reads there where to ask. Once a data folder belongs to a cluster, the list only helps
//! to find servers that have moved: who belongs to the group is replicated.

use std::collections::BTreeMap;
use std::path::PathBuf;

use arustio_types::NodeId;
use serde::{Deserialize, Serialize};

use super::refuse;
use crate::error::ServerError;

/// More voters make every write slower and tolerate faults that do not happen.
const MOST_FOUNDERS: usize = 9;
/// Longest `host:port`: a name of 253 bytes, a colon, five digits.
const LONGEST_ADDRESS: usize = 259;

/// The cluster that a process belongs to.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClusterConfig {
    /// Metadata servers, `host:port` each, for a process that is a block node only. Empty:
    /// those in `members`.
    pub metadata: Vec<String>,
    /// The number of this metadata server; never 0, never used again for another.
    pub member: Option<u64>,
    /// The metadata servers that found the cluster, `number=host:port` each; for a server
    /// whose number is not among them, where it finds the cluster that it joins. Empty: a
    /// cluster of one.
    pub members: Vec<String>,
    /// The cluster key, which seals credentials. Unset: `cluster.key` in the data folder.
    pub key_file: Option<PathBuf>,
}

/// A cluster that can be founded or joined.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckedCluster {
    /// The number that was given.
    pub(crate) member: Option<NodeId>,
    /// The servers of `members`.
    pub(crate) listed: BTreeMap<NodeId, String>,
    /// Metadata servers, for a block node.
    pub(crate) metadata: Vec<String>,
    pub(crate) key_file: Option<PathBuf>,
}

impl ClusterConfig {
    pub(super) fn check(&self, is_metadata: bool) -> Result<CheckedCluster, ServerError> {
        let listed = self.listed()?;
        if self.member == Some(0) {
            return Err(refuse(
                "cluster.member",
                "0 is no number of a server; use 1, 2, ...",
            ));
        }
        if is_metadata && self.member.is_none() && !listed.is_empty() {
            let reason = "say which of cluster.members this server is, or which new number it \
                          joins with: --member N";
            return Err(refuse("cluster.member", reason));
        }
        let mut metadata = self.metadata.clone();
        if metadata.is_empty() {
            metadata = listed.values().cloned().collect();
        }
        if !is_metadata && metadata.is_empty() {
            let reason = "a block node needs the addresses of the metadata servers: \
                          --metadata HOST:PORT";
            return Err(refuse("cluster.metadata", reason));
        }
        Ok(CheckedCluster {
            member: self.member.map(NodeId::new),
            listed,
            metadata,
            key_file: self.key_file.clone(),
        })
    }

    fn listed(&self) -> Result<BTreeMap<NodeId, String>, ServerError> {
        let mut listed = BTreeMap::new();
        for text in &self.members {
            let (number, address) = entry(text).map_err(|why| {
                let reason = format!("{text:?} {why}; write NUMBER=HOST:PORT, as in 1=node1:7411");
                refuse("cluster.members", reason)
            })?;
            if listed.values().any(|known| known == address) {
                let reason = format!("{address} stands there twice; each server has its own");
                return Err(refuse("cluster.members", reason));
            }
            if listed.insert(number, address.to_owned()).is_some() {
                let reason = format!(
                    "two servers have the number {number}; give each a number of its own, and \
                     never one that was used before"
                );
                return Err(refuse("cluster.members", reason));
            }
        }
        if listed.len() > MOST_FOUNDERS {
            let reason = format!(
                "{} servers are too many: 3 survive the loss of one, 5 of two; at most \
                 {MOST_FOUNDERS} are taken",
                listed.len()
            );
            return Err(refuse("cluster.members", reason));
        }
        Ok(listed)
    }
}

fn entry(text: &str) -> Result<(NodeId, &str), &'static str> {
    let (number, address) = text.split_once('=').ok_or("has no number")?;
    let number: u64 = number
        .trim()
        .parse()
        .map_err(|_| "does not start with a number")?;
    if number == 0 {
        return Err("has the number 0, which no server can have");
    }
    let address = address.trim();
    match is_address(address) {
        true => Ok((NodeId::new(number), address)),
        false => Err("has no address"),
    }
}

/// Whether a text has the form `host:port`.
pub(crate) fn is_address(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else {
        return false;
    };
    let odd = |c: char| c.is_whitespace() || c.is_control() || "/=,@?#".contains(c);
    !host.is_empty()
        && text.len() <= LONGEST_ADDRESS
        && !text.contains(odd)
        && port.parse::<u16>().is_ok_and(|port| port != 0)
}

impl CheckedCluster {
    /// Whether the settings name other metadata servers.
    pub(crate) fn has_others(&self) -> bool {
        self.listed
            .keys()
            .any(|number| Some(*number) != self.member)
    }

    /// Where the list says that this server is reached.
    pub(crate) fn own_address(&self) -> Option<&str> {
        self.listed.get(&self.member?).map(String::as_str)
    }

    /// What works, and is a bad idea.
    pub(crate) fn warning(&self) -> Option<String> {
        let founds = self
            .member
            .is_some_and(|member| self.listed.contains_key(&member));
        let count = self.listed.len();
        (founds && count > 1 && count.is_multiple_of(2)).then(|| {
            format!(
                "cluster.members lists {count} metadata servers: an even number survives the loss \
                 of no more servers than {} would, and needs one more to agree",
                count - 1
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(member: Option<u64>, members: &[&str]) -> ClusterConfig {
        ClusterConfig {
            member,
            members: members.iter().map(|text| (*text).to_owned()).collect(),
            ..ClusterConfig::default()
        }
    }

    fn refused(member: Option<u64>, members: &[&str]) -> String {
        let error = config(member, members).check(true).unwrap_err();
        error.to_string()
    }

    #[test]
    fn one_list_serves_founders_joiners_and_block_nodes() {
        let all = ["1=a:1", "2=b:2", "3=[::1]:3"];
        let founder = config(Some(2), &all).check(true).unwrap();
        assert_eq!(founder.own_address(), Some("b:2"));
        assert!(founder.has_others() && founder.warning().is_none());
        let joiner = config(Some(4), &all).check(true).unwrap();
        assert_eq!(joiner.own_address(), None);
        let block = config(None, &all).check(false).unwrap();
        assert_eq!(block.metadata, ["a:1", "b:2", "[::1]:3"]);
        let alone = config(Some(7), &[]).check(true).unwrap();
        assert!(!alone.has_others());
    }

    #[test]
    fn lists_that_make_no_sense_are_refused() {
        let cases: [(&[&str], &str); 8] = [
            (&["1=a:1", "1=b:1"], "two servers have the number 1"),
            (&["1=a:1", "2=a:1"], "stands there twice"),
            (&["0=a:1"], "the number 0"),
            (&["a:1"], "has no number"),
            (&["x=a:1"], "does not start with a number"),
            (&["1=a"], "has no address"),
            (&["1=a:0"], "has no address"),
            (&["1=http://a:1"], "has no address"),
        ];
        for (members, why) in cases {
            let error = refused(Some(1), members);
            assert!(error.contains(why), "{members:?}: {error}");
        }
        assert!(refused(None, &["1=a:1"]).contains("--member"));
        assert!(refused(Some(0), &[]).contains("cluster.member"));
        let many: Vec<String> = (1..=10).map(|n| format!("{n}=h{n}:1")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(refused(Some(1), &many).contains("too many"));
    }

    #[test]
    fn an_even_number_of_founders_is_warned_about() {
        let two = config(Some(1), &["1=a:1", "2=b:2"]).check(true).unwrap();
        assert!(two.warning().unwrap().contains("even number"));
        let joining = config(Some(3), &["1=a:1", "2=b:2"]).check(true).unwrap();
        assert_eq!(joining.warning(), None);
    }
}
