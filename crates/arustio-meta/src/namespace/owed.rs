//! What is announced and owed: who holds it, what it lies on, who has to wait (P2, P4, P5).
//!
//! The lease of an intent or effect is the lease of the session that holds it. It may be
//! taken over when that lease is over and no unanswered request can arrive any more; the
//! same two conditions keep a superseded holder's requests and commands out.

use std::time::Duration;

use arustio_types::meta::command::{Outcome, Owed, PendingOn};
use arustio_types::meta::effect::{Effect, EffectKind, TreeRename};
use arustio_types::meta::intent::Intent;
use arustio_types::{EffectId, FsPath, IntentId, MountId, SessionId};

use super::resolve::Under;
use super::txn::{Context, Read, Step, Stop, Txn};
use crate::engine::{Family, key};
use crate::error::StateMachineError;
use crate::mutation::Mutation;
use crate::session;

/// Longest that an unanswered request is said to travel: the lease, the 15 minutes after
/// which S3 refuses a dated request, and what clocks may run apart, twice.
const MAX_UNANSWERED: Duration = Duration::from_secs(20 * 60);

// ---------- storing ----------

pub(crate) fn put_intent(txn: &mut Txn<'_>, intent: &Intent) {
    let id = intent.id.get();
    txn.put(Family::Intents, key::owed(id), intent);
    let at = key::owed_on(intent.mount, &intent.key, id);
    txn.put_raw(Family::Intents, at, Vec::new());
}

pub(crate) fn delete_intent(txn: &mut Txn<'_>, intent: &Intent) {
    let id = intent.id.get();
    txn.delete(Family::Intents, key::owed(id));
    txn.delete(Family::Intents, key::owed_on(intent.mount, &intent.key, id));
}

/// Records work that the caller owes from now on (P1).
pub(crate) fn new_effect(
    txn: &mut Txn<'_>,
    ctx: &Context,
    mount: MountId,
    kind: EffectKind,
) -> Read<Effect> {
    let effect = Effect {
        id: txn.next_effect()?,
        mount,
        kind,
        executor: ctx.session,
        unanswered_until: 0,
        recorded_at: ctx.at,
        recorded_time: ctx.time,
        last_error: None,
    };
    put_effect(txn, &effect);
    Ok(effect)
}

pub(crate) fn put_effect(txn: &mut Txn<'_>, effect: &Effect) {
    txn.put(Family::Effects, key::owed(effect.id.get()), effect);
    for at in index_keys(effect) {
        txn.put_raw(Family::Effects, at, Vec::new());
    }
}

pub(crate) fn delete_effect(txn: &mut Txn<'_>, effect: &Effect) {
    txn.delete(Family::Effects, key::owed(effect.id.get()));
    for at in index_keys(effect) {
        txn.delete(Family::Effects, at);
    }
}

/// Where an effect is found by what it lies on.
pub(crate) fn index_keys(effect: &Effect) -> Vec<Vec<u8>> {
    let (mount, id) = (effect.mount, effect.id.get());
    match &effect.kind {
        EffectKind::Delete { key, .. } | EffectKind::PutMarker { key, .. } => {
            vec![key::owed_on(mount, key, id)]
        }
        EffectKind::DeleteTree { prefix, .. } => vec![key::tree_on(mount, prefix, id)],
        EffectKind::RenameTree(tree) => vec![
            key::tree_on(mount, &tree.from, id),
            key::tree_on(mount, &tree.to, id),
        ],
        EffectKind::Rename { from, to, .. } => {
            vec![key::owed_on(mount, from, id), key::owed_on(mount, to, id)]
        }
    }
}

// ---------- who has to wait ----------

/// What lies on a name: on the key of its file, on that of its directory, or on a tree
/// that it would be part of.
pub(crate) fn on_name(txn: &Txn<'_>, under: &Under, path: &FsPath) -> Read<Option<Owed>> {
    let relative = under.relative(path);
    let mount = under.id();
    let keys = [relative.to_owned(), format!("{relative}/")];
    for exact in &keys {
        let prefix = key::owed_exactly_on(mount, exact);
        if let Some(id) = first(txn, Family::Intents, &prefix)? {
            return Ok(Some(Owed::Intent(IntentId::new(id))));
        }
        if let Some(id) = first(txn, Family::Effects, &prefix)? {
            return Ok(Some(Owed::Effect(EffectId::new(id))));
        }
    }
    tree_above(txn, mount, &keys[1])
}

/// Whether a name of a directory may have to be left alone: something lies below it, or
/// it is part of a tree that is removed or moved.
pub(crate) fn guards(txn: &Txn<'_>, under: &Under, dir: &FsPath) -> Read<bool> {
    let prefix = under.dir_key(dir);
    let above = tree_above(txn, under.id(), prefix.as_str())?;
    Ok(above.is_some() || below(txn, under, dir)?.is_some())
}

/// The removal or move of a tree that `key` lies in.
fn tree_above(txn: &Txn<'_>, mount: MountId, key: &str) -> Read<Option<Owed>> {
    for (at, _) in key.match_indices('/') {
        let prefix = key::tree_exactly_on(mount, &key[..=at]);
        if let Some(id) = first(txn, Family::Effects, &prefix)? {
            return Ok(Some(Owed::Effect(EffectId::new(id))));
        }
    }
    Ok(None)
}

/// What lies on any key below a directory, its own marker included.
pub(crate) fn below(txn: &Txn<'_>, under: &Under, dir: &FsPath) -> Read<Option<Owed>> {
    let prefix = under.dir_key(dir);
    let (mount, prefix) = (under.id(), prefix.as_str());
    if let Some(id) = first(txn, Family::Intents, &key::owed_below(mount, prefix))? {
        return Ok(Some(Owed::Intent(IntentId::new(id))));
    }
    for index in [
        key::owed_below(mount, prefix),
        key::trees_below(mount, prefix),
    ] {
        if let Some(id) = first(txn, Family::Effects, &index)? {
            return Ok(Some(Owed::Effect(EffectId::new(id))));
        }
    }
    Ok(None)
}

fn first(txn: &Txn<'_>, family: Family, prefix: &[u8]) -> Read<Option<u64>> {
    let keys = txn.keys(family, prefix, 1)?;
    Ok(keys.first().and_then(|found| key::last_number(found)))
}

/// Stops a command on a name on which something is owed or announced.
pub(crate) fn await_name(txn: &Txn<'_>, ctx: &Context, under: &Under, path: &FsPath) -> Step<()> {
    match on_name(txn, under, path)? {
        Some(owed) => Err(pending(txn, ctx, owed)?),
        None => Ok(()),
    }
}

/// Stops a command on a whole directory below which something is owed or announced.
pub(crate) fn await_below(txn: &Txn<'_>, ctx: &Context, under: &Under, dir: &FsPath) -> Step<()> {
    match below(txn, under, dir)? {
        Some(owed) => Err(pending(txn, ctx, owed)?),
        None => Ok(()),
    }
}

/// The answer to a command that has to wait.
fn pending(txn: &Txn<'_>, ctx: &Context, owed: Owed) -> Read<Stop> {
    let missing = || StateMachineError::Corrupt {
        what: "the index of intents and effects",
        detail: format!("{owed:?} lies on a key and has no record"),
    };
    let (on, what, holder, until) = match owed {
        Owed::Intent(id) => {
            let intent = txn.intent(id)?.ok_or_else(missing)?;
            let until = intent.unanswered_until;
            let what = "a write that is not finished".to_owned();
            (intent.path.to_string(), what, intent.holder, until)
        }
        Owed::Effect(id) => {
            let effect = txn.effect(id)?.ok_or_else(missing)?;
            let on = describe_target(txn, &effect)?;
            let what = format!("a {} that the store has not finished", effect.kind.name());
            (on, what, effect.executor, effect.unanswered_until)
        }
    };
    let wait = wait_for(txn, ctx, holder, until)?;
    Ok(Outcome::Pending(PendingOn {
        on,
        what,
        owed,
        claimable_in: Duration::from_millis(wait),
    })
    .into())
}

/// The path that people know an effect by.
pub(crate) fn describe_target(txn: &Txn<'_>, effect: &Effect) -> Read<String> {
    let key = match &effect.kind {
        EffectKind::Delete { key, .. } | EffectKind::PutMarker { key, .. } => key,
        EffectKind::DeleteTree { prefix, .. } => prefix,
        EffectKind::Rename { new_path, .. }
        | EffectKind::RenameTree(TreeRename { new_path, .. }) => {
            return Ok(new_path.to_string());
        }
    };
    let mount = txn.mount(effect.mount)?;
    let path = mount.and_then(|mount| Under::new(mount).path_of(key));
    Ok(path.map_or_else(|| key.to_string(), |path| path.to_string()))
}

// ---------- taking over ----------

/// Milliseconds until the caller may take over what `holder` holds.
fn wait_for(txn: &Txn<'_>, ctx: &Context, holder: SessionId, unanswered_until: u64) -> Read<u64> {
    if holder == ctx.session || ctx.rules.has(Mutation::TwoExecutors) {
        return Ok(0);
    }
    let unanswered_until = match is_silent(ctx, unanswered_until) {
        true => 0,
        false => unanswered_until,
    };
    let lease = session::lease_end(txn, holder)?;
    Ok(lease.max(unanswered_until).saturating_sub(ctx.time))
}

/// Takes over an intent or effect (P4, W3).
pub(crate) fn claim(txn: &mut Txn<'_>, ctx: &Context, owed: Owed) -> Step<Outcome> {
    match owed {
        Owed::Intent(id) => {
            let mut intent = txn.intent(id)?.ok_or(Outcome::Superseded)?;
            if wait_for(txn, ctx, intent.holder, intent.unanswered_until)? > 0 {
                return Err(pending(txn, ctx, owed)?);
            }
            intent.holder = ctx.session;
            put_intent(txn, &intent);
            Ok(Outcome::IntentClaimed(intent))
        }
        Owed::Effect(id) => {
            let mut effect = txn.effect(id)?.ok_or(Outcome::Superseded)?;
            if wait_for(txn, ctx, effect.executor, effect.unanswered_until)? > 0 {
                return Err(pending(txn, ctx, owed)?);
            }
            effect.executor = ctx.session;
            put_effect(txn, &effect);
            Ok(Outcome::EffectClaimed(effect))
        }
    }
}

/// The intent, if the caller holds it.
pub(crate) fn own_intent(txn: &Txn<'_>, ctx: &Context, id: IntentId) -> Step<Intent> {
    let intent = txn.intent(id)?.ok_or(Outcome::Superseded)?;
    match intent.holder == ctx.session || ctx.rules.has(Mutation::TwoExecutors) {
        true => Ok(intent),
        false => Err(Outcome::Superseded.into()),
    }
}

/// The effect, if the caller executes it.
pub(crate) fn own_effect(txn: &Txn<'_>, ctx: &Context, id: EffectId) -> Step<Effect> {
    let effect = txn.effect(id)?.ok_or(Outcome::Superseded)?;
    match effect.executor == ctx.session || ctx.rules.has(Mutation::TwoExecutors) {
        true => Ok(effect),
        false => Err(Outcome::Superseded.into()),
    }
}

/// Stops a command that would end something while a request without an answer may still
/// be carried out (P5).
pub(crate) fn await_silence(
    ctx: &Context,
    owed: Owed,
    on: String,
    unanswered_until: u64,
) -> Step<()> {
    if is_silent(ctx, unanswered_until) {
        return Ok(());
    }
    let left = unanswered_until.saturating_sub(ctx.time);
    let pending = PendingOn {
        on,
        what: "a request that got no answer and may still be carried out".to_owned(),
        owed,
        claimable_in: Duration::from_millis(left),
    };
    Err(Outcome::Pending(pending).into())
}

/// Whether no request without an answer can be carried out any more.
pub(crate) fn is_silent(ctx: &Context, unanswered_until: u64) -> bool {
    unanswered_until <= ctx.time || ctx.rules.has(Mutation::EndTooEarly)
}

/// Replicated milliseconds until which a request may still arrive.
pub(crate) fn silent_at(ctx: &Context, at_most: Duration) -> u64 {
    let millis = at_most.min(MAX_UNANSWERED).as_millis();
    ctx.time
        .saturating_add(u64::try_from(millis).unwrap_or(u64::MAX))
}

/// Records that a request got no answer (P5).
pub(crate) fn note_unanswered(
    txn: &mut Txn<'_>,
    ctx: &Context,
    owed: Owed,
    at_most: Duration,
) -> Step<Outcome> {
    let until = silent_at(ctx, at_most);
    match owed {
        Owed::Intent(id) => {
            let mut intent = own_intent(txn, ctx, id)?;
            intent.unanswered_until = intent.unanswered_until.max(until);
            put_intent(txn, &intent);
        }
        Owed::Effect(id) => {
            let mut effect = own_effect(txn, ctx, id)?;
            effect.unanswered_until = effect.unanswered_until.max(until);
            put_effect(txn, &effect);
        }
    }
    Ok(Outcome::Done)
}

/// Ids of everything announced or owed on a mount.
pub(crate) fn of_mount(
    txn: &Txn<'_>,
    mount: MountId,
    limit: usize,
) -> Read<(Vec<Intent>, Vec<Effect>)> {
    let index = key::owed_below(mount, "");
    let numbers = |keys: Vec<Vec<u8>>| -> std::collections::BTreeSet<u64> {
        keys.iter().filter_map(|at| key::last_number(at)).collect()
    };
    let mut intents = Vec::new();
    for id in numbers(txn.keys(Family::Intents, &index, limit)?) {
        intents.extend(txn.intent(IntentId::new(id))?);
    }
    let mut ids = numbers(txn.keys(Family::Effects, &index, limit)?);
    ids.extend(numbers(txn.keys(
        Family::Effects,
        &key::trees_below(mount, ""),
        limit,
    )?));
    let mut effects = Vec::new();
    for id in ids {
        effects.extend(txn.effect(EffectId::new(id))?);
    }
    Ok((intents, effects))
}

/// The mount of an effect or intent, with what it needs to find paths.
pub(crate) fn mount_of(txn: &Txn<'_>, mount: MountId) -> Step<Under> {
    let entry = txn.mount(mount)?.ok_or(Outcome::Superseded)?;
    Ok(Under::new(entry))
}
