//! `arustio admin metadata ...`: the state of the metadata servers as a whole, while they run.
//!
//! What is found goes to stdout, how far it is to stderr. A command that ends early leaves
//! nothing behind, here or on a server.

use std::path::Path;

use arustio_client::FsError;
use arustio_client::admin::{
    Admin, BackupMade, BackupStream, GroupChange, MemberCheck, StateReport, SumsAt, Verification,
};
use arustio_types::{ErrorKind, NodeId};
use serde_json::{Value, json};

use crate::args::{Global, MetadataCommand};
use crate::local::{LocalFile, fs_path};
use crate::output::{Output, printable, rfc3339, size};
use crate::progress::Progress;

/// Runs one verb.
pub(super) async fn run(
    admin: &Admin,
    out: &mut Output,
    global: &Global,
    verb: MetadataCommand,
) -> Result<(), FsError> {
    match verb {
        MetadataCommand::Backup { file } => back_up(admin, out, global, &file).await,
        MetadataCommand::Restore { file } => Err(no_restore(&file)),
        MetadataCommand::Verify { member, problems } => {
            let member = member.map(GroupChange::member).transpose()?;
            verify(admin, out, global, member, problems).await
        }
        MetadataCommand::Dump { member, path } => {
            let member = member.map(GroupChange::member).transpose()?;
            let path = path.as_deref().map(fs_path).transpose()?;
            let mut lines = admin.dump(path.as_ref(), member).await?;
            while let Some(piece) = lines.next().await? {
                out.bytes(&piece)?;
            }
            Ok(())
        }
    }
}

/// Why a cluster that runs is not restored, and how it is done.
pub(super) fn no_restore(file: &Path) -> FsError {
    let file = printable(&file.to_string_lossy());
    let message = format!(
        "servers, clients and caches that run would go on with a state that is gone, so a backup \
         is restored as a new life of the cluster. Stop every metadata server; on one machine, \
         with a data folder that does not exist or is empty, type: arustio-server --data-dir DIR \
         metadata restore {file}; then start it: arustio-server --data-dir DIR; then add the \
         others with empty data folders: arustio admin raft add N HOST:PORT"
    );
    FsError::new(ErrorKind::Unsupported, message).during("restore the metadata")
}

async fn back_up(
    admin: &Admin,
    out: &mut Output,
    global: &Global,
    file: &Path,
) -> Result<(), FsError> {
    if file.symlink_metadata().is_ok() {
        let message = "it exists; a backup never replaces a file";
        return Err(FsError::new(ErrorKind::AlreadyExists, message)
            .during("write")
            .at_text(&file.to_string_lossy()));
    }
    // What cannot be written is known before anybody is asked.
    let mut local = LocalFile::create(file)?;
    let mut backup = admin.back_up().await?;
    let progress = Progress::new(global.quiet, "backing up", None);
    let received = receive(&mut backup, &mut local, &progress).await;
    progress.finish();
    received?;
    local.publish_new().await?;
    let Some(made) = backup.made() else {
        return Ok(());
    };
    match out.is_json() {
        true => out.object(&made_json(made, file)),
        false => out.line(&format!(
            "{}: cluster {} at entry {}, {} records, {}, made by member {}\ncredentials are not \
             in it, nor is the cluster key (cluster.key): keep that apart",
            printable(&file.to_string_lossy()),
            made.cluster,
            made.index,
            made.records,
            size(made.bytes, true),
            made.by
        )),
    }
}

async fn receive(
    backup: &mut BackupStream,
    local: &mut LocalFile,
    progress: &Progress,
) -> Result<(), FsError> {
    while let Some(piece) = backup.next().await? {
        progress.add(piece.len() as u64);
        local.write(piece).await?;
    }
    Ok(())
}

fn made_json(made: &BackupMade, file: &Path) -> Value {
    json!({
        "file": file.to_string_lossy(),
        "member": made.by.get(),
        "cluster": made.cluster.to_string(),
        "incarnation": made.incarnation.get(),
        "index": made.index.get(),
        "made": rfc3339(made.made),
        "records": made.records,
        "bytes": made.bytes,
    })
}

async fn verify(
    admin: &Admin,
    out: &mut Output,
    global: &Global,
    member: Option<NodeId>,
    problems: u32,
) -> Result<(), FsError> {
    let progress = Progress::words(global.quiet, "checking");
    let seen = |member: NodeId, records: u64| {
        progress.tell(&format!("member {member} checks, {records} records read"));
    };
    let found = admin.verify(member, problems, seen).await;
    progress.finish();
    let found = found?;
    match out.is_json() {
        true => objects(out, &found)?,
        false => text(out, &found)?,
    }
    out.flush()?;
    found.verdict()
}

fn objects(out: &mut Output, found: &Verification) -> Result<(), FsError> {
    for check in &found.members {
        out.object(&check_json(check))?;
    }
    match &found.compared {
        Some(Ok(sums)) => out.object(&sums_json(sums)),
        Some(Err(error)) => out.object(&json!({"compared_at": null, "error": error.message()})),
        None => Ok(()),
    }
}

fn check_json(check: &MemberCheck) -> Value {
    let (member, address) = (check.id.get(), &check.address);
    match &check.found {
        Err(error) => json!({
            "member": member,
            "address": address,
            "error": error.message(),
            "kind": error.kind().name(),
        }),
        Ok(found) => json!({
            "member": member,
            "address": address,
            "index": found.index.get(),
            "sum": hex(found.sum),
            "sound": found.wrong() == 0,
            "records": found.records,
            "files": found.files,
            "directories": found.directories,
            "names": found.names,
            "mounts": found.mounts,
            "intents": found.intents,
            "effects": found.effects,
            "sessions": found.sessions,
            "block_nodes": found.nodes,
            "problems": found.problems,
            "more_problems": found.more_problems,
        }),
    }
}

fn sums_json(sums: &SumsAt) -> Value {
    let members = sums.sums.iter();
    let members = members.map(|(member, sum)| json!({"member": member.get(), "sum": hex(*sum)}));
    json!({
        "compared_at": sums.index.get(),
        "equal": sums.agree(),
        "members": members.collect::<Vec<_>>(),
    })
}

fn hex(sum: u128) -> String {
    format!("{sum:032x}")
}

fn text(out: &mut Output, found: &Verification) -> Result<(), FsError> {
    for check in &found.members {
        let whom = match check.address.as_str() {
            "" => format!("member {}", check.id),
            address => format!("member {} at {}", check.id, printable(address)),
        };
        match &check.found {
            Ok(report) => told(out, &whom, report)?,
            Err(error) => out.line(&format!("{whom}: not checked: {}", error.message()))?,
        }
    }
    match &found.compared {
        Some(Ok(sums)) => out.line(&compared(sums)),
        Some(Err(error)) => out.line(&format!("not compared: {error}")),
        None => Ok(()),
    }
}

fn told(out: &mut Output, whom: &str, report: &StateReport) -> Result<(), FsError> {
    let verdict = match report.wrong() {
        0 => "sound".to_owned(),
        wrong => format!("NOT SOUND, {wrong} problems"),
    };
    out.line(&format!("{whom}: {verdict} at entry {}", report.index))?;
    out.line(&format!(
        "  {} records: {} files, {} directories, {} names, {} mounts, {} intents, {} effects, {} \
         sessions, {} block nodes",
        report.records,
        report.files,
        report.directories,
        report.names,
        report.mounts,
        report.intents,
        report.effects,
        report.sessions,
        report.nodes
    ))?;
    out.line(&format!("  state {}", hex(report.sum)))?;
    for problem in &report.problems {
        out.line(&format!("  {}", printable(problem)))?;
    }
    match report.more_problems {
        0 => Ok(()),
        more => out.line(&format!("  and {more} more")),
    }
}

fn compared(sums: &SumsAt) -> String {
    let groups = sums.groups();
    let numbers = |group: &[NodeId]| {
        let numbers: Vec<_> = group.iter().map(NodeId::to_string).collect();
        numbers.join(", ")
    };
    match groups.as_slice() {
        [all] => format!(
            "members {} hold the same at entry {}",
            numbers(all),
            sums.index
        ),
        _ => {
            let groups: Vec<_> = groups.iter().map(|group| numbers(group)).collect();
            format!(
                "members DIFFER at entry {}: {}",
                sums.index,
                groups.join(" against ")
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arustio_types::LogIndex;

    #[test]
    fn what_cannot_be_done_says_what_to_type() {
        let error = no_restore(Path::new("m.backup"));
        assert_eq!(error.exit_code(), 9);
        let text = error.to_string();
        assert!(text.contains("metadata restore m.backup"), "{text}");
        assert!(text.contains("arustio admin raft add"), "{text}");
    }

    #[test]
    fn who_holds_what_is_said_in_one_line() {
        let sums = |sums: [u128; 3]| SumsAt {
            index: LogIndex::new(9),
            sums: (1..).map(NodeId::new).zip(sums).collect(),
        };
        let same = compared(&sums([5, 5, 5]));
        assert_eq!(same, "members 1, 2, 3 hold the same at entry 9");
        let differs = compared(&sums([5, 6, 5]));
        assert_eq!(differs, "members DIFFER at entry 9: 1, 3 against 2");
        assert_eq!(sums_json(&sums([5, 6, 5]))["equal"], json!(false));
    }
}
