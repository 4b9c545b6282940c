//! Listing the keys of a bucket: prefix, delimiter, pages.
//!
//! Pure over the ordered map of keys. A page starts by a search, so a bucket
//! of millions is listed in time proportional to what is returned.
//!
//! Stores differ on one point: asked to start after a key inside a group
//! (`a/x` with delimiter `/`), AWS still returns the group `a/` if a later key
//! is in it, MinIO skips every group that sorts at or before the start. Both
//! are offered, because a client must live with both.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::store::Object;

/// What is asked for.
#[derive(Debug)]
pub(crate) struct ListRequest<'a> {
    pub(crate) prefix: &'a str,
    pub(crate) delimiter: Option<&'a str>,
    pub(crate) resume: Resume,
    pub(crate) max_entries: usize,
}

/// Where a page starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Resume {
    /// At the first key.
    #[default]
    Start,
    /// At the first key greater than this one.
    After(String),
    /// As [`Resume::After`], and groups that sort at or before it are skipped.
    Past(String),
}

/// One entry of a listing.
#[derive(Debug)]
pub(crate) enum Entry {
    Object(String, Arc<Object>),
    Group(String),
}

impl Entry {
    /// The key or the common prefix.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Object(name, _) | Self::Group(name) => name,
        }
    }
}

/// One page.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) entries: Vec<Entry>,
    /// Is there more behind the last entry?
    pub(crate) truncated: bool,
}

impl Page {
    /// Where the next page starts.
    pub(crate) fn next(&self) -> Option<Resume> {
        let last = self.entries.last().filter(|_| self.truncated)?;
        Some(Resume::Past(last.name().to_owned()))
    }
}

/// Lists one page.
pub(crate) fn list(objects: &BTreeMap<String, Arc<Object>>, request: &ListRequest<'_>) -> Page {
    let mut page = Page {
        entries: Vec::new(),
        truncated: false,
    };
    if request.max_entries == 0 {
        return page;
    }
    let mut from = first_bound(request);
    while let Some((key, object)) = first_from(objects, &from, request.prefix) {
        let group = group_of(key, request);
        let skipped = group.is_some_and(|group| is_skipped(group, &request.resume));
        if !skipped && page.entries.len() == request.max_entries {
            page.truncated = true;
            break;
        }
        from = match group {
            Some(group) => behind_group(objects, group),
            None => Bound::Excluded(key.clone()),
        };
        if !skipped {
            page.entries.push(match group {
                Some(group) => Entry::Group(group.to_owned()),
                None => Entry::Object(key.clone(), Arc::clone(object)),
            });
        }
    }
    page
}

fn first_bound(request: &ListRequest<'_>) -> Bound<String> {
    match &request.resume {
        Resume::After(key) | Resume::Past(key) if key.as_str() >= request.prefix => {
            Bound::Excluded(key.clone())
        }
        Resume::Start | Resume::After(_) | Resume::Past(_) => {
            Bound::Included(request.prefix.to_owned())
        }
    }
}

fn first_from<'a>(
    objects: &'a BTreeMap<String, Arc<Object>>,
    from: &Bound<String>,
    prefix: &str,
) -> Option<(&'a String, &'a Arc<Object>)> {
    let mut range = objects.range::<str, _>((from.as_ref().map(String::as_str), Bound::Unbounded));
    range.next().filter(|(key, _)| key.starts_with(prefix))
}

/// The common prefix under which `key` is shown, if any.
fn group_of<'a>(key: &'a str, request: &ListRequest<'_>) -> Option<&'a str> {
    let delimiter = request
        .delimiter
        .filter(|delimiter| !delimiter.is_empty())?;
    let behind = &key[request.prefix.len()..];
    let at = behind.find(delimiter)?;
    Some(&key[..request.prefix.len() + at + delimiter.len()])
}

fn is_skipped(group: &str, resume: &Resume) -> bool {
    matches!(resume, Resume::Past(last) if group <= last.as_str())
}

/// A bound behind every key that starts with `group`. No character is greater
/// than the last one of Unicode, so one jump passes all keys but those that
/// contain it, and those are passed one by one.
fn behind_group(objects: &BTreeMap<String, Arc<Object>>, group: &str) -> Bound<String> {
    let mut from = Bound::Excluded(format!("{group}{}", char::MAX));
    while let Some((key, _)) = first_from(objects, &from, group) {
        from = Bound::Excluded(key.clone());
    }
    from
}

/// What stays as it is under `encoding-type=url`.
const UNENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'*')
    .remove(b'/')
    .remove(b' ');

/// Encodes a key as S3 does under `encoding-type=url`: a blank becomes `+`.
pub(crate) fn url_encode(key: &str) -> String {
    utf8_percent_encode(key, UNENCODED)
        .to_string()
        .replace(' ', "+")
}

/// The opaque token of a page.
pub(crate) fn encode_token(resume: &Resume) -> Option<String> {
    match resume {
        Resume::Start => None,
        Resume::After(key) => Some(format!("a{}", hex::encode(key))),
        Resume::Past(key) => Some(format!("p{}", hex::encode(key))),
    }
}

/// The inverse of [`encode_token`]; `None` for anything that it did not make.
pub(crate) fn decode_token(token: &str) -> Option<Resume> {
    let text = |hex: &str| String::from_utf8(hex::decode(hex).ok()?).ok();
    if let Some(key) = token.strip_prefix('a') {
        return Some(Resume::After(text(key)?));
    }
    Some(Resume::Past(text(token.strip_prefix('p')?)?))
}

#[cfg(test)]
mod tests;
