//! Parts that become one file.
//!
//! Parts of one size are written where they will stay, so that completing is a rename.
//! A part that does not fit that pattern goes into a file of its own, and completing
//! then puts the object together once more.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;

use super::commit::Staged;
use super::tree::Tree;
use super::{Until, blocking};
use crate::error::{Result, UfsError};
use crate::ufs::{Payload, Written};
use crate::upload::{AbortOptions, CompleteOptions, Upload, UploadId};

/// Holds an object that had to be put together.
const WHOLE: &str = "whole";

/// An upload into a directory.
#[derive(Debug)]
pub(super) struct LocalUpload {
    tree: Arc<Tree>,
    staged: Arc<Staged>,
    parts: Arc<Mutex<Parts>>,
}

/// Where the parts are.
#[derive(Debug, Default)]
struct Parts {
    /// The size that all parts but the last seem to have: that of the first to come.
    unit: Option<u64>,
    placed: BTreeMap<u32, Part>,
}

#[derive(Debug, Clone, Copy)]
struct Part {
    length: u64,
    /// In the place where it will stay; otherwise in a file of its own.
    in_place: bool,
}

impl Parts {
    /// Whether a part of this length can stand where it will stay.
    fn fits(&mut self, length: u64) -> bool {
        length > 0 && length <= *self.unit.get_or_insert(length)
    }

    fn offset(&self, number: u32) -> u64 {
        self.unit
            .unwrap_or(0)
            .saturating_mul(u64::from(number.saturating_sub(1)))
    }

    /// The length of the object, if every part already stands where it belongs.
    fn ready(&self) -> Option<u64> {
        let mut end = 0;
        for (number, part) in &self.placed {
            if !part.in_place || self.offset(*number) != end {
                return None;
            }
            end += part.length;
        }
        Some(end)
    }
}

impl LocalUpload {
    pub(super) fn new(tree: Arc<Tree>, staged: Staged) -> Self {
        Self {
            tree,
            staged: Arc::new(staged),
            parts: Arc::default(),
        }
    }
}

fn own_file(number: u32) -> String {
    format!("part-{number}")
}

fn write_at(file: &File, payload: &Payload, mut position: u64) -> io::Result<()> {
    for piece in payload.pieces() {
        file.write_all_at(piece, position)?;
        position += piece.len() as u64;
    }
    Ok(())
}

#[async_trait]
impl Upload for LocalUpload {
    fn id(&self) -> &UploadId {
        self.staged.id()
    }

    async fn put_part(&self, number: u32, payload: Payload, _deadline: Duration) -> Result<()> {
        let (staged, parts) = (Arc::clone(&self.staged), Arc::clone(&self.parts));
        blocking(&self.tree, move |_| {
            let length = payload.len();
            let (in_place, offset) = {
                let mut parts = parts.lock();
                (parts.fits(length), parts.offset(number))
            };
            let (file, position) = match in_place {
                true => (staged.data()?, offset),
                false => (staged.create(&own_file(number))?, 0),
            };
            let written = write_at(&file, &payload, position);
            written.map_err(|error| staged.failed(error))?;
            parts
                .lock()
                .placed
                .insert(number, Part { length, in_place });
            Ok(())
        })
        .await
    }

    async fn complete(&self, options: CompleteOptions) -> Result<Written> {
        let until = Until::new(options.deadline);
        let (staged, parts) = (Arc::clone(&self.staged), Arc::clone(&self.parts));
        blocking(&self.tree, move |tree| {
            let parts = parts.lock();
            let count = u32::try_from(parts.placed.len()).unwrap_or(u32::MAX);
            if parts.placed.keys().copied().ne(1..=count) {
                let what = "a part is missing".to_owned();
                let at = tree.place(staged.key());
                return Err(UfsError::InvalidArgument { at, what });
            }
            let here = |error: io::Error| staged.failed(error);
            let mut data = staged.data()?;
            match parts.ready() {
                Some(length) => data.set_len(length).map_err(here)?,
                None => data = put_together(&staged, &parts, &data)?,
            }
            staged.commit(&data, &options.mode, until)
        })
        .await
    }

    async fn abort(&self, _options: AbortOptions) -> Result<()> {
        let staged = Arc::clone(&self.staged);
        blocking(&self.tree, move |_| {
            staged.remove();
            Ok(())
        })
        .await
    }
}

/// Writes the parts in order into a file that takes the place of the first.
fn put_together(staged: &Staged, parts: &Parts, data: &File) -> Result<File> {
    let here = |error: io::Error| staged.failed(error);
    let mut whole = staged.create(WHOLE)?;
    whole.set_len(0).map_err(here)?;
    for (number, part) in &parts.placed {
        let (mut source, offset) = match part.in_place {
            true => (data.try_clone().map_err(here)?, parts.offset(*number)),
            false => (staged.create(&own_file(*number))?, 0),
        };
        source.seek(SeekFrom::Start(offset)).map_err(here)?;
        io::copy(&mut source.take(part.length), &mut whole).map_err(here)?;
    }
    staged.replace_data(WHOLE)?;
    Ok(whole)
}
