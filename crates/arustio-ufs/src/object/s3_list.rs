//! Listing objects and uploads.
//!
//! A page is checked before it is believed: names in strictly rising byte order, below
//! the prefix, behind the page before. Merges rely on it (L1), and a store that lists in
//! another order (S3 Express) must not look like one whose objects were deleted.

use std::sync::Arc;
use std::time::Duration;

use arustio_types::{Timestamp, UfsKey};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use http::Method;

use super::fault::{Fault, Lost};
use super::s3::{Shared, version_of};
use super::s3_answers::{ListAnswer, UploadsAnswer, listed_key, listed_time, parse};
use super::s3_requests::{Ask, within};
use crate::error::Result;
use crate::ufs::{EntryKind, ListOptions, ListPage, ObjectEntry, UploadEntry};
use crate::upload::UploadId;

/// Names on one page; the most that stores give.
const PAGE: usize = 1000;
/// For one page.
const DEADLINE: Duration = Duration::from_secs(60);

/// Where a listing stands.
struct Listing {
    shared: Arc<Shared>,
    options: ListOptions,
    after: Option<UfsKey>,
    token: Option<String>,
    left: usize,
}

/// The pages of a listing.
pub(super) fn pages(
    shared: Arc<Shared>,
    options: ListOptions,
) -> BoxStream<'static, Result<ListPage>> {
    let listing = Listing {
        shared,
        after: options.start_after.clone(),
        token: None,
        left: options.limit.map_or(usize::MAX, |limit| limit.max(1)),
        options,
    };
    futures::stream::unfold(Some(listing), |listing| async {
        let mut listing = listing?;
        let page = listing.next().await;
        let on = matches!(&page, Ok(page) if page.next.is_some()) && listing.left > 0;
        Some((page, on.then_some(listing)))
    })
    .boxed()
}

impl Listing {
    async fn next(&mut self) -> Result<ListPage> {
        loop {
            let context = self
                .shared
                .context(&self.options.prefix, false, Lost::Stale);
            let (page, truncated) = self.ask().await.map_err(|fault| context.explain(fault))?;
            // Everything on it was behind the start: nothing is said about the rest yet.
            if page.names() == 0 && truncated {
                continue;
            }
            self.left -= page.names().min(self.left);
            self.after.clone_from(&page.next);
            return Ok(page);
        }
    }

    async fn ask(&mut self) -> Result<(ListPage, bool), Fault> {
        let most = self.left.min(PAGE).to_string();
        let prefix = self.options.prefix.as_str();
        let mut query = vec![
            ("list-type", "2"),
            ("encoding-type", "url"),
            ("max-keys", most.as_str()),
            ("prefix", prefix),
        ];
        if self.options.delimiter {
            query.push(("delimiter", "/"));
        }
        let start = self.after.as_ref().map(|after| self.start_behind(after));
        match (&self.token, &start) {
            (Some(token), _) => query.push(("continuation-token", token)),
            (None, Some(start)) => query.push(("start-after", start)),
            (None, None) => {}
        }
        let ask = Ask {
            method: Method::GET,
            query: &query,
            ..Ask::default()
        };
        let body = within(DEADLINE, self.shared.requests.ask(ask)).await?;
        let answer: ListAnswer = parse(&body)?;
        self.token.clone_from(&answer.next_continuation_token);
        let truncated = answer.is_truncated;
        if truncated && self.token.is_none() {
            return Err(Fault::BadAnswer("a page has no continuation".to_owned()));
        }
        Ok((self.page(answer)?, truncated))
    }

    /// Behind a common prefix means behind everything that it folds.
    fn start_behind(&self, after: &UfsKey) -> String {
        match self.options.delimiter && after.as_str().ends_with('/') {
            true => format!("{after}{}", char::MAX),
            false => after.to_string(),
        }
    }

    fn page(&self, answer: ListAnswer) -> Result<ListPage, Fault> {
        let encoding = answer.encoding_type.as_deref();
        let mut page = ListPage::default();
        for item in &answer.contents {
            let key = listed_key(&item.key, encoding)?;
            page.entries.push(ObjectEntry {
                kind: EntryKind::of(&key, item.size),
                size: item.size,
                modified: listed_time(&item.last_modified)?,
                version: version_of(item.e_tag.as_deref().unwrap_or_default(), None),
                write_id: None,
                young: false,
                key,
            });
        }
        for item in &answer.common_prefixes {
            page.common_prefixes
                .push(listed_key(&item.prefix, encoding)?);
        }
        let last = page.last_name();
        page.entries.retain(|entry| self.is_behind(&entry.key));
        page.common_prefixes.retain(|common| self.is_behind(common));
        self.check(&page)?;
        page.next = last.filter(|_| answer.is_truncated);
        Ok(page)
    }

    fn is_behind(&self, name: &UfsKey) -> bool {
        self.after.as_ref().is_none_or(|after| name > after)
    }

    fn check(&self, page: &ListPage) -> Result<(), Fault> {
        let prefix = self.options.prefix.as_str();
        let rising = page.entries.is_sorted_by(|a, b| a.key < b.key)
            && page.common_prefixes.is_sorted_by(|a, b| a < b);
        let keys = page.entries.iter().map(|entry| &entry.key);
        let below = keys
            .chain(&page.common_prefixes)
            .all(|key| key.as_str().starts_with(prefix));
        match rising && below {
            true => Ok(()),
            false => Err(Fault::BadAnswer(
                "names are not listed in byte order".to_owned(),
            )),
        }
    }
}

/// Uploads of keys that start with `prefix`.
pub(super) fn uploads(
    shared: Arc<Shared>,
    prefix: UfsKey,
) -> BoxStream<'static, Result<UploadEntry>> {
    let start = Some((shared, prefix, None));
    futures::stream::unfold(start, |state| async {
        let (shared, prefix, marker) = state?;
        match uploads_page(&shared, &prefix, marker).await {
            Ok((found, marker)) => {
                let on = marker.map(|marker| (shared, prefix, Some(marker)));
                Some((Ok(futures::stream::iter(found.into_iter().map(Ok))), on))
            }
            Err(fault) => {
                let error = shared.context(&prefix, false, Lost::Stale).explain(fault);
                Some((Err(error), None))
            }
        }
    })
    .try_flatten()
    .boxed()
}

type Marker = (String, String);

async fn uploads_page(
    shared: &Shared,
    prefix: &UfsKey,
    marker: Option<Marker>,
) -> Result<(Vec<UploadEntry>, Option<Marker>), Fault> {
    let mut query = vec![
        ("uploads", ""),
        ("encoding-type", "url"),
        ("prefix", prefix.as_str()),
    ];
    if let Some((key, id)) = &marker {
        query.push(("key-marker", key));
        query.push(("upload-id-marker", id));
    }
    let ask = Ask {
        method: Method::GET,
        query: &query,
        ..Ask::default()
    };
    let body = within(DEADLINE, shared.requests.ask(ask)).await?;
    let answer: UploadsAnswer = parse(&body)?;
    let encoding = answer.encoding_type.as_deref();
    let mut found = Vec::new();
    for item in &answer.upload {
        let key = listed_key(&item.key, encoding)?;
        // Some stores take the prefix as a hint.
        if !key.as_str().starts_with(prefix.as_str()) {
            continue;
        }
        found.push(UploadEntry {
            key,
            id: UploadId::new(&item.upload_id),
            begun: listed_time(&item.initiated).unwrap_or(Timestamp::from_millis(0)),
            write_id: None,
        });
    }
    let next = match (answer.is_truncated, answer.next_key_marker) {
        (false, _) => None,
        (true, None) => return Err(Fault::BadAnswer("a page has no continuation".to_owned())),
        (true, Some(key)) => {
            let key = listed_key(&key, encoding)?.to_string();
            let id = answer.next_upload_id_marker.unwrap_or_default();
            Some((key, id)).filter(|next| marker.as_ref() != Some(next))
        }
    };
    Ok((found, next))
}
