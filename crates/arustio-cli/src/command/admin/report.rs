//! `arustio admin report`: the cluster at a glance.

use arustio_client::FsError;
use arustio_client::admin::{Admin, BlockNodes, Group, Summary};
use arustio_client::types::unit::format_duration;
use arustio_client::types::used::{UFS_OPERATIONS, Used};
use serde_json::{Map, Value, json};

use super::nodes::{percent, tiers};
use crate::output::{Output, counted, size};

/// Everything in a few lines.
pub(super) async fn summary(admin: &Admin, out: &mut Output) -> Result<(), FsError> {
    let (group, nodes, summary) = tokio::try_join!(admin.group(), admin.nodes(), admin.summary())?;
    if out.is_json() {
        return out.object(&object(&group, &nodes, &summary));
    }
    let mut lines = lines(&group, &nodes, &summary).into_iter();
    lines.try_for_each(|(name, text)| out.line(&format!("{name:<10}{text}")))
}

fn lines(group: &Group, nodes: &BlockNodes, summary: &Summary) -> Vec<(&'static str, String)> {
    let since = std::time::Duration::from_secs(summary.since.as_secs().max(1));
    let since = format!("told by clients in the last {}", format_duration(since));
    vec![
        ("metadata", metadata(group)),
        ("blocks", states(nodes)),
        ("cache", cache(nodes)),
        ("reads", format!("{}, {since}", reads(&summary.used))),
        ("stores", format!("{}, {since}", stores(&summary.used))),
        ("pending", pending(summary)),
    ]
}

fn metadata(group: &Group) -> String {
    let silent = |member: &&arustio_client::admin::GroupMember| {
        member.progress.is_some_and(|progress| !progress.active)
    };
    let silent = group.members.iter().filter(silent).count();
    let leader = match group.leader {
        Some(leader) => format!("member {leader} leads in term {}", group.term),
        None => "nobody leads".to_owned(),
    };
    let count = counted(group.members.len() as u64, "server");
    match silent {
        0 => format!("{count}, {leader}"),
        silent => format!("{count}, {leader}, {silent} silent (arustio admin raft list)"),
    }
}

/// How many are in which state, in the order in which they matter.
fn states(nodes: &BlockNodes) -> String {
    let there: Vec<_> = nodes.nodes.iter().map(|node| node.state()).collect();
    let mut texts = Vec::new();
    for (state, text) in [
        ("serves", "serving"),
        ("draining", "draining"),
        ("down", "down (arustio admin node list)"),
    ] {
        let count = there.iter().filter(|one| **one == state).count();
        if count > 0 {
            texts.push(format!("{count} {text}"));
        }
    }
    match texts.is_empty() {
        true => "no nodes: everything is read from the stores".to_owned(),
        false => texts.join(", "),
    }
}

fn cache(nodes: &BlockNodes) -> String {
    let (used, capacity) = full(nodes);
    let part = percent(used, capacity);
    format!("{} of {} ({part})", size(used, true), size(capacity, true))
}

fn full(nodes: &BlockNodes) -> (u64, u64) {
    tiers(nodes).fold((0u64, 0u64), |(used, capacity), (_, tier)| {
        (
            used.saturating_add(tier.used),
            capacity.saturating_add(tier.capacity),
        )
    })
}

fn reads(used: &Used) -> String {
    let cached = used.cache_bytes;
    let all = read_bytes(used);
    let part = percent(cached, all);
    format!("{part} of {} from the cache", size(all, true))
}

/// Bytes that readers got, wherever they came from.
fn read_bytes(used: &Used) -> u64 {
    let read = used.ufs[Used::place("read")].bytes_in;
    used.cache_bytes.saturating_add(read)
}

fn stores(used: &Used) -> String {
    let total = used.ufs_total();
    let named = UFS_OPERATIONS.iter().zip(&used.ufs);
    let some = named.filter(|(_, one)| one.requests > 0);
    let each: Vec<_> = some
        .map(|(name, one)| format!("{} {name}", one.requests))
        .collect();
    let each = match each.is_empty() {
        true => String::new(),
        false => format!(" ({})", each.join(", ")),
    };
    let failed = match total.errors {
        0 => String::new(),
        // Refused conditions are how a store says that somebody else was there.
        errors => format!(", {errors} failed or refused"),
    };
    format!(
        "{}{each}{failed}, {} read, {} written",
        counted(total.requests, "request"),
        size(total.bytes_in, true),
        size(total.bytes_out, true)
    )
}

fn pending(summary: &Summary) -> String {
    match (summary.pending, summary.pending_more) {
        (0, _) => "nothing".to_owned(),
        (count, false) => format!("{} (arustio fs pending)", counted(count, "change")),
        (count, true) => format!("more than {count} changes (arustio fs pending)"),
    }
}

fn object(group: &Group, nodes: &BlockNodes, summary: &Summary) -> Value {
    let (used, capacity) = full(nodes);
    let operations = UFS_OPERATIONS.iter().zip(&summary.used.ufs);
    let operations: Map<String, Value> = operations
        .map(|(name, one)| ((*name).to_owned(), one.requests.into()))
        .collect();
    let total = summary.used.ufs_total();
    json!({
        "members": group.members.len(),
        "leader": group.leader.map(|leader| leader.get()),
        "term": group.term,
        "nodes": nodes.nodes.iter().filter(|node| !node.entry.removed).count(),
        "nodes_living": nodes.nodes.iter().filter(|node| node.lives).count(),
        "cache_used": used,
        "cache_capacity": capacity,
        "read_bytes": read_bytes(&summary.used),
        "read_bytes_from_cache": summary.used.cache_bytes,
        "ufs_requests": total.requests,
        "ufs_errors": total.errors,
        "ufs_bytes_read": total.bytes_in,
        "ufs_bytes_written": total.bytes_out,
        "ufs_requests_by_operation": operations,
        "since_seconds": summary.since.as_secs(),
        "pending": summary.pending,
        "pending_more": summary.pending_more,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn summary() -> Summary {
        let mut used = Used {
            cache_bytes: 3 << 20,
            ..Used::default()
        };
        let read = &mut used.ufs[Used::place("read")];
        (read.requests, read.errors, read.bytes_in) = (4, 1, 1 << 20);
        used.ufs[Used::place("list")].requests = 2;
        Summary {
            used,
            since: Duration::from_secs(90),
            pending: 0,
            pending_more: false,
        }
    }

    #[test]
    fn a_glance_says_where_bytes_came_from_and_what_it_cost() {
        let mut summary = summary();
        assert_eq!(reads(&summary.used), "75% of 4 MiB from the cache");
        assert_eq!(
            stores(&summary.used),
            "6 requests (4 read, 2 list), 1 failed or refused, 1 MiB read, 0 B written"
        );
        assert_eq!(pending(&summary), "nothing");
        summary.pending = 1;
        assert_eq!(pending(&summary), "1 change (arustio fs pending)");
        summary.pending_more = true;
        assert!(pending(&summary).starts_with("more than 1 "));
        assert_eq!(
            stores(&Used::default()),
            "0 requests, 0 B read, 0 B written"
        );
    }

    #[test]
    fn nothing_there_is_said_and_no_zero() {
        let nobody = BlockNodes {
            nodes: Vec::new(),
            epoch: 1,
        };
        assert!(states(&nobody).starts_with("no nodes"));
        assert_eq!(cache(&nobody), "0 B of 0 B (-)");
    }
}
