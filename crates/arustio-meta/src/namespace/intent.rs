//! Writing a file: announce, record uploads, publish or give up (W1, W2, W3).
//!
//! At most one intent lies on a key (F3). The name appears, whole, with the commit; until
//! then nothing of the write shows. A commit checks what the intent expected once more.

use arustio_types::meta::command::{
    BeginWrite, CommitWrite, CreateMode, Outcome, Owed, Refusal, WriteGrant,
};
use arustio_types::meta::intent::Intent;
use arustio_types::{BlockSize, ErrorKind, FsPath, InodeId, IntentId, ObjectVersion};

use super::proof::Proofs;
use super::resolve::{self, Found, Missing, Place, Under};
use super::txn::{Context, Step, Txn};
use super::{dentry, directory, inode, owed, permission, settings};
use crate::engine::record::{FileRecord, InodeRecord, Loaded};

/// Uploads that one intent remembers; a writer begins one, and one more after each
/// request that got no answer.
const MAX_UPLOADS: usize = 64;
/// Longest upload id.
const MAX_UPLOAD_ID: usize = 4096;

/// Records a writer's intent (W3).
pub(crate) fn begin(txn: &mut Txn<'_>, ctx: &Context, asked: &BeginWrite) -> Step<Outcome> {
    let (under, expected) = match resolve::lookup(txn, &asked.path)? {
        Ok(place) => replaced(txn, ctx, asked, &place)?,
        Err(missing) => (created(txn, ctx, asked, &missing)?, None),
    };
    let conf = settings::effective(txn, &asked.path)?;
    let write_type = asked.write_type.unwrap_or(conf.effective_write_type());
    settings::available(write_type, &asked.path)?;
    let block_size = asked.block_size.unwrap_or(conf.effective_block_size());
    let intent = Intent {
        id: txn.next_intent()?,
        mount: under.id(),
        path: asked.path.clone(),
        key: under.file_key(&asked.path),
        expected,
        write_id: asked.write_id,
        content: asked.content,
        block_size_log2: block_size.log2(),
        upload_ids: Vec::new(),
        holder: ctx.session,
        unanswered_until: 0,
        published: false,
        begun_at: ctx.at,
        begun_time: ctx.time,
    };
    owed::put_intent(txn, &intent);
    Ok(Outcome::WriteBegun(WriteGrant {
        intent: intent.id,
        mount: intent.mount,
        key: intent.key,
        expected: intent.expected,
        content: intent.content,
        block_size,
        write_type,
    }))
}

fn outside(path: &FsPath) -> Refusal {
    let message = "outside mounts only directories exist; mount a UFS first (arustio fs mount)";
    Refusal::on(ErrorKind::Unsupported, path, message)
}

/// A name that is there: the version that may be replaced.
fn replaced(
    txn: &Txn<'_>,
    ctx: &Context,
    asked: &BeginWrite,
    place: &Place,
) -> Step<(Under, Option<ObjectVersion>)> {
    let path = &asked.path;
    if place.dir().is_some() {
        let message = "it is a directory; name a file in it";
        return Err(Refusal::on(ErrorKind::IsADirectory, path, message).into());
    }
    let (Some(under), Some(file)) = (&place.under, place.file()) else {
        return Err(outside(path).into());
    };
    permission::writable(under, path)?;
    owed::await_name(txn, ctx, under, path)?;
    if asked.mode == CreateMode::Exclusive {
        let message = "a file of this name exists; choose another name, or replace it (-f)";
        return Err(Refusal::on(ErrorKind::AlreadyExists, path, message).into());
    }
    Ok((under.clone(), file.version.clone()))
}

/// A name that is not there: its absence is proven, its parents are made.
fn created(txn: &mut Txn<'_>, ctx: &Context, asked: &BeginWrite, missing: &Missing) -> Step<Under> {
    let path = &asked.path;
    let Some(under) = &missing.dir.under else {
        return Err(outside(path).into());
    };
    directory::prepare(txn, ctx, path, missing)?;
    Proofs(&asked.proofs).absent(ctx, missing)?;
    if !asked.parents {
        directory::require_parent(path, missing)?;
    }
    let parents = missing.names.len() - 1;
    directory::make_missing(txn, ctx, missing, parents, &Loaded::Complete)?;
    Ok(under.clone())
}

/// Records the id of an upload before its first part.
pub(crate) fn record_upload(
    txn: &mut Txn<'_>,
    ctx: &Context,
    id: IntentId,
    upload_id: &str,
) -> Step<Outcome> {
    let mut intent = owed::own_intent(txn, ctx, id)?;
    let refuse = |message: &str| Refusal::on(ErrorKind::InvalidArgument, &intent.path, message);
    if upload_id.is_empty() || upload_id.len() > MAX_UPLOAD_ID {
        return Err(refuse("the store's upload id is empty or longer than 4096 bytes").into());
    }
    if intent.upload_ids.iter().any(|known| known == upload_id) {
        return Ok(Outcome::Done);
    }
    if intent.upload_ids.len() == MAX_UPLOADS {
        return Err(refuse("one write began more than 64 uploads; abort it and start anew").into());
    }
    intent.upload_ids.push(upload_id.to_owned());
    owed::put_intent(txn, &intent);
    Ok(Outcome::Done)
}

/// Publishes what was written (W1).
pub(crate) fn commit(txn: &mut Txn<'_>, ctx: &Context, asked: &CommitWrite) -> Step<Outcome> {
    let mut intent = owed::own_intent(txn, ctx, asked.intent)?;
    if intent.published {
        return published(txn, ctx, &intent.path);
    }
    let current = resolve::find(txn, &intent.path)?;
    if !as_expected(&current, &intent) {
        give_up(txn, ctx, &intent)?;
        let message = "another version took this name meanwhile; look, then write again";
        return Ok(Outcome::Refused(Refusal::on(
            ErrorKind::Conflict,
            &intent.path,
            message,
        )));
    }
    publish(txn, ctx, asked, &intent, current)?;
    let until = asked
        .unanswered
        .map_or(0, |at_most| owed::silent_at(ctx, at_most));
    intent.unanswered_until = intent.unanswered_until.max(until);
    if owed::is_silent(ctx, intent.unanswered_until) {
        owed::delete_intent(txn, &intent);
    } else {
        intent.published = true;
        owed::put_intent(txn, &intent);
    }
    published(txn, ctx, &intent.path)
}

fn as_expected(current: &Found, intent: &Intent) -> bool {
    match current {
        Found::Here(place) => place
            .file()
            .is_some_and(|file| file.version.is_some() && file.version == intent.expected),
        Found::Missing(missing) => missing.dir.under.is_some() && intent.expected.is_none(),
        Found::Blocked(_) => false,
    }
}

fn publish(
    txn: &mut Txn<'_>,
    ctx: &Context,
    asked: &CommitWrite,
    intent: &Intent,
    current: Found,
) -> Step<()> {
    let (id, attributes) = match &current {
        Found::Here(place) => {
            let kept = place.file().map(|file| file.attributes.clone());
            (Some(place.id), kept)
        }
        Found::Missing(_) | Found::Blocked(_) => (None, None),
    };
    let mut attributes = attributes.unwrap_or_else(|| inode::made_by(ctx, inode::FILE_MODE));
    attributes.modified = asked.modified;
    let file = FileRecord {
        content: Some(intent.content),
        block_size: BlockSize::from_log2(intent.block_size_log2),
        ..inode::persisted(attributes, asked.length, asked.version.clone())
    };
    let id: InodeId = match id {
        Some(id) => id,
        None => txn.next_inode()?,
    };
    let parent = directory::ensure_parent(txn, ctx, &intent.path)?;
    let name = intent.path.name().unwrap_or_default();
    dentry::link(txn, parent.id, name, id, &InodeRecord::File(file), ctx.at)?;
    Ok(())
}

fn published(txn: &Txn<'_>, ctx: &Context, path: &FsPath) -> Step<Outcome> {
    match resolve::lookup(txn, path)? {
        Ok(place) => {
            let conf = settings::effective(txn, path)?;
            Ok(Outcome::Committed(inode::status(
                &place,
                &conf,
                ctx.incarnation,
            )))
        }
        Err(_) => Err(Outcome::Superseded.into()),
    }
}

/// Clears an intent whose object is proven not to be there, now or later; or one that
/// is published and waited for a request without an answer.
pub(crate) fn abort(txn: &mut Txn<'_>, ctx: &Context, id: IntentId) -> Step<Outcome> {
    let intent = owed::own_intent(txn, ctx, id)?;
    let on = intent.path.to_string();
    owed::await_silence(ctx, Owed::Intent(id), on, intent.unanswered_until)?;
    give_up(txn, ctx, &intent)?;
    Ok(Outcome::Done)
}

/// Clearing counts as a change of the name and a removal in its directory (F1).
fn give_up(txn: &mut Txn<'_>, ctx: &Context, intent: &Intent) -> Step<()> {
    owed::delete_intent(txn, intent);
    dentry::touch_path(txn, &intent.path, ctx.at)?;
    Ok(())
}
