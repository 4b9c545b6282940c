//! `arustio admin ...`: the group of metadata servers, and the block nodes.
//!
//! Speaks to the metadata servers alone, without a file system: it has to work while
//! nobody leads. Verbs about the state as a whole stand in `metadata`, those about block
//! nodes in `nodes`, and the look at everything in `report`.

mod metadata;
mod nodes;
mod report;

use arustio_client::FsError;
use arustio_client::admin::{Admin, Group, GroupChange, GroupMember};
use arustio_client::entropy::Entropy;
use arustio_client::types::{LogIndex, NodeId};
use serde_json::{Value, json};

use crate::args::{AdminCommand, Global, MetadataCommand, RaftCommand, ReportCommand};
use crate::config;
use crate::output::{Output, printable, size};

/// Runs one verb.
pub(crate) async fn run(global: &Global, verb: AdminCommand) -> Result<u8, FsError> {
    if let AdminCommand::Metadata {
        verb: MetadataCommand::Restore { file },
    } = &verb
    {
        return Err(metadata::no_restore(file));
    }
    let config = config::load(global)?;
    let admin = Admin::new(&config, Entropy::from_os())?;
    let mut out = Output::new(global.json);
    let done = match verb {
        AdminCommand::Raft { verb } => raft(&admin, &mut out, verb).await,
        AdminCommand::Node { verb } => nodes::run(&admin, &mut out, verb).await,
        AdminCommand::Report { verb } => match verb.unwrap_or(ReportCommand::Summary) {
            ReportCommand::Summary => report::summary(&admin, &mut out).await,
            ReportCommand::Capacity => nodes::report(&admin, &mut out).await,
        },
        AdminCommand::Metadata { verb } => metadata::run(&admin, &mut out, global, verb).await,
    };
    let flushed = out.flush();
    done?;
    flushed.map(|()| 0)
}

async fn raft(admin: &Admin, out: &mut Output, verb: RaftCommand) -> Result<(), FsError> {
    match verb {
        RaftCommand::List => show(out, &admin.group().await?),
        RaftCommand::Add { id, address } => {
            let id = GroupChange::member(id)?;
            let said = format!(
                "member {id} follows at {address}; once it is close to the others give it a vote \
                 with: arustio admin raft promote {id}"
            );
            change(admin, out, GroupChange::Add { id, address }, &said).await
        }
        RaftCommand::Promote { id, replace } => {
            let id = GroupChange::member(id)?;
            let replacing = replace.map(GroupChange::member).transpose()?;
            let said = match replacing {
                Some(old) => format!(
                    "member {id} votes in place of {old}, whose server may be stopped for good"
                ),
                None => format!("member {id} votes"),
            };
            change(admin, out, GroupChange::Promote { id, replacing }, &said).await
        }
        RaftCommand::Remove { id } => {
            let id = GroupChange::member(id)?;
            let said = format!("member {id} was removed; its server may be stopped for good");
            change(admin, out, GroupChange::Remove { id }, &said).await
        }
        RaftCommand::Transfer { id } => {
            let to = id.map(GroupChange::member).transpose()?;
            let leader = admin.transfer(to).await?;
            match out.is_json() {
                true => out.object(&json!({"leader": leader.get()})),
                false => out.line(&format!("member {leader} leads")),
            }
        }
        RaftCommand::Snapshot => {
            let made = admin.snapshot().await?;
            match out.is_json() {
                true => out.object(&json!({"member": made.by.get(), "index": made.index.get()})),
                false => out.line(&format!(
                    "member {} made a snapshot up to entry {} and dropped its log below it",
                    made.by, made.index
                )),
            }
        }
    }
}

async fn change(
    admin: &Admin,
    out: &mut Output,
    change: GroupChange,
    said: &str,
) -> Result<(), FsError> {
    let group = admin.change(&change).await?;
    match out.is_json() {
        true => objects(out, &group),
        false => out.line(&printable(said)),
    }
}

fn show(out: &mut Output, group: &Group) -> Result<(), FsError> {
    if out.is_json() {
        return objects(out, group);
    }
    for line in table(group) {
        out.line(&line)?;
    }
    let leader = match group.leader {
        Some(leader) => format!("member {leader} leads in term {}", group.term),
        None => "no leader: more than half of the voters have to run and reach one another".into(),
    };
    out.line(&format!(
        "\n{leader}. Answered by member {} at {}: log {} to {} ({}), {} decided.",
        group.answered_by,
        group.server,
        group.log_first,
        group.log_last,
        size(group.log_bytes, true),
        group.commit,
    ))?;
    if !group.removed.is_empty() {
        let numbers: Vec<String> = group.removed.iter().map(NodeId::to_string).collect();
        out.line(&format!(
            "Removed, never to come back: {}",
            numbers.join(", ")
        ))?;
    }
    Ok(())
}

fn objects(out: &mut Output, group: &Group) -> Result<(), FsError> {
    for member in &group.members {
        out.object(&object(group, member))?;
    }
    Ok(())
}

fn object(group: &Group, member: &GroupMember) -> Value {
    json!({
        "id": member.id.get(),
        "address": member.address,
        "role": member.role.name(),
        "state": state(group, member),
        "matched": member.progress.map(|progress| progress.matched.get()),
        "applied": applied(group, member).map(LogIndex::get),
        "term": group.term,
        "leader": group.leader.map(NodeId::get),
        "answered_by": group.answered_by.get(),
    })
}

/// What a member does at the moment, in a word or two.
fn state(group: &Group, member: &GroupMember) -> String {
    let Some(progress) = member.progress else {
        return match member.id == group.answered_by {
            true => "answers".to_owned(),
            false => "unknown".to_owned(),
        };
    };
    let behind = group.log_last.get().saturating_sub(progress.matched.get());
    match (progress.active, progress.snapshot) {
        (false, _) => "silent".to_owned(),
        (true, true) => "snapshot".to_owned(),
        (true, false) if behind > 0 => format!("lags {behind}"),
        (true, false) => "answers".to_owned(),
    }
}

/// Only the one that answers says what it has applied.
fn applied(group: &Group, member: &GroupMember) -> Option<LogIndex> {
    (member.id == group.answered_by).then_some(group.applied)
}

fn table(group: &Group) -> Vec<String> {
    let header = ["ID", "ADDRESS", "ROLE", "STATE", "MATCHED", "APPLIED"];
    let mut rows = vec![header.map(str::to_owned)];
    let dash = |number: Option<LogIndex>| number.map_or("-".to_owned(), |n| n.to_string());
    for member in &group.members {
        let address = match member.address.as_str() {
            "" => "-".to_owned(),
            address => printable(address),
        };
        rows.push([
            member.id.to_string(),
            address,
            member.role.name().to_owned(),
            state(group, member),
            dash(member.progress.map(|progress| progress.matched)),
            dash(applied(group, member)),
        ]);
    }
    columns(&rows)
}

/// Rows as lines, each column as wide as its widest cell.
pub(super) fn columns<const COLUMNS: usize>(rows: &[[String; COLUMNS]]) -> Vec<String> {
    let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max();
    let widths: [usize; COLUMNS] = std::array::from_fn(|at| width(at).unwrap_or_default());
    let line = |row: &[String; COLUMNS]| {
        let cells = row.iter().zip(widths);
        let cells = cells.map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use arustio_client::admin::{GroupProgress, GroupRole};

    fn member(id: u64, role: GroupRole, progress: Option<(u64, bool, bool)>) -> GroupMember {
        GroupMember {
            id: NodeId::new(id),
            address: format!("node{id}:7411"),
            role,
            progress: progress.map(|(matched, snapshot, active)| GroupProgress {
                matched: LogIndex::new(matched),
                snapshot,
                active,
            }),
        }
    }

    fn group() -> Group {
        Group {
            server: "node1:7411".to_owned(),
            answered_by: NodeId::new(1),
            leader: Some(NodeId::new(1)),
            term: 3,
            commit: LogIndex::new(100),
            applied: LogIndex::new(99),
            log_first: LogIndex::new(1),
            log_last: LogIndex::new(100),
            log_bytes: 4096,
            members: vec![
                member(1, GroupRole::Leader, Some((100, false, true))),
                member(2, GroupRole::Voter, Some((88, false, true))),
                member(3, GroupRole::Voter, Some((70, false, false))),
                member(12, GroupRole::Learner, Some((0, true, true))),
            ],
            removed: Vec::new(),
        }
    }

    #[test]
    fn a_table_says_who_is_what_and_how_far() {
        assert_eq!(
            table(&group()),
            [
                "ID  ADDRESS      ROLE     STATE     MATCHED  APPLIED",
                "1   node1:7411   leader   answers   100      99",
                "2   node2:7411   voter    lags 12   88       -",
                "3   node3:7411   voter    silent    70       -",
                "12  node12:7411  learner  snapshot  0        -",
            ]
        );
    }

    #[test]
    fn a_follower_that_answers_does_not_guess_how_the_others_are() {
        let mut group = group();
        group.leader = None;
        for member in &mut group.members {
            member.progress = None;
        }
        let states: Vec<_> = group.members.iter().map(|m| state(&group, m)).collect();
        assert_eq!(states, ["answers", "unknown", "unknown", "unknown"]);
        assert_eq!(object(&group, &group.members[1])["matched"], Value::Null);
    }
}
