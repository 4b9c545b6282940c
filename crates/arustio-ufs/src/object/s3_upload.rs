//! Multipart uploads: begun with a write id, completed under a condition.
//!
//! `object_store` sends the parts where it can state the key; it cannot begin an upload
//! with metadata and still tell its id, and it completes without a condition.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arustio_types::{UfsKey, WriteId};
use async_trait::async_trait;
use http::{HeaderMap, Method};
use object_store::PutPayload;
use object_store::multipart::MultipartStore;
use parking_lot::Mutex;

use super::fault::{Fault, Lost};
use super::http::answer;
use super::s3::{Shared, WRITE_ID_HEADER, condition, condition_on_absent, lost, version_of};
use super::s3_answers::{BegunAnswer, TagAnswer, complete_document, parse};
use super::s3_requests::{Ask, within};
use crate::error::{Result, UfsError};
use crate::ufs::{Payload, Written};
use crate::upload::{AbortOptions, CompleteOptions, Upload, UploadId};

/// For the abort of an upload that was dropped.
const ABORT_DEADLINE: Duration = Duration::from_secs(10);

/// An upload that was begun.
#[derive(Debug)]
pub(super) struct S3Upload {
    shared: Arc<Shared>,
    key: UfsKey,
    id: UploadId,
    /// Tags of the parts that were taken.
    tags: Mutex<BTreeMap<u32, String>>,
    /// Dropping it must abort it.
    open: AtomicBool,
}

impl S3Upload {
    /// Begins an upload; `carried` are headers of the object to be.
    pub(super) async fn begin(
        shared: &Arc<Shared>,
        key: &UfsKey,
        write_id: WriteId,
        carried: HeaderMap,
        deadline: Duration,
    ) -> Result<Self> {
        let write_id = write_id.to_string();
        let ask = Ask {
            method: Method::POST,
            key: Some(key),
            query: &[("uploads", "")],
            headers: &[(WRITE_ID_HEADER, &write_id)],
            carried,
            encrypts: true,
            ..Ask::default()
        };
        let begun = within(deadline, async {
            parse::<BegunAnswer>(&shared.requests.ask(ask).await?)
        });
        let context = shared.context(key, true, Lost::Conflict);
        let begun = begun.await.map_err(|fault| context.explain(fault))?;
        Ok(Self {
            shared: Arc::clone(shared),
            key: key.clone(),
            id: UploadId::new(&begun.upload_id),
            tags: Mutex::default(),
            open: AtomicBool::new(true),
        })
    }

    /// Notes the tag of a part that the store took.
    pub(super) fn took(&self, number: u32, tag: String) {
        self.tags.lock().insert(number, tag);
    }

    async fn send(
        &self,
        number: u32,
        payload: Payload,
        deadline: Duration,
    ) -> Result<String, Fault> {
        let Some(path) = self.shared.plain(&self.key) else {
            let text = number.to_string();
            let query = [
                ("partNumber", text.as_str()),
                ("uploadId", self.id.as_str()),
            ];
            let sent = self
                .shared
                .put_raw(&self.key, payload, &query, &[], HeaderMap::new(), deadline)
                .await?;
            return Ok(sent.identity.to_string());
        };
        let pieces: PutPayload = payload.pieces().iter().cloned().collect();
        let id = self.id.as_str().to_owned();
        let index = number.saturating_sub(1) as usize;
        let sent = self.shared.store.put_part(&path, &id, index, pieces);
        let sent = self.shared.through_store(deadline, sent).await?;
        Ok(sent.content_id)
    }

    fn document(&self) -> Result<String> {
        let tags = self.tags.lock();
        let count = u32::try_from(tags.len()).unwrap_or(u32::MAX);
        if tags.keys().copied().ne(1..=count) {
            let what = "a part is missing".to_owned();
            let at = self.shared.place(&self.key);
            return Err(UfsError::InvalidArgument { at, what });
        }
        Ok(complete_document(
            tags.iter().map(|(number, tag)| (*number, tag.as_str())),
        ))
    }

    async fn finish(&self, document: String, options: &CompleteOptions) -> Result<Written, Fault> {
        let condition = condition(&options.mode);
        let headers: Vec<_> = condition
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let ask = Ask {
            method: Method::POST,
            key: Some(&self.key),
            query: &[("uploadId", self.id.as_str())],
            headers: &headers,
            body: document.into(),
            ..Ask::default()
        };
        within(options.deadline, async {
            let response = self.shared.requests.send(ask).await?;
            let version_id = response.headers().get("x-amz-version-id").cloned();
            let version_id = version_id.as_ref().and_then(|id| id.to_str().ok());
            let body = answer(response.into_body()).await?;
            let done: TagAnswer = parse(&body)?;
            Ok(Written::answered(version_of(&done.e_tag, version_id)))
        })
        .await
    }
}

#[async_trait]
impl Upload for S3Upload {
    fn id(&self) -> &UploadId {
        &self.id
    }

    async fn put_part(&self, number: u32, payload: Payload, deadline: Duration) -> Result<()> {
        let sent = self.send(number, payload, deadline).await;
        let context = self.shared.context(&self.key, true, Lost::Conflict);
        self.took(number, sent.map_err(|fault| context.explain(fault))?);
        Ok(())
    }

    async fn complete(&self, options: CompleteOptions) -> Result<Written> {
        if self.tags.lock().is_empty() {
            self.put_part(1, Payload::default(), options.deadline)
                .await?;
        }
        let document = self.document()?;
        let support = self.shared.capabilities.complete_if;
        self.shared
            .look_before(&self.key, &options.mode, support, options.guard)
            .await?;
        // Until the answer is there nobody may abort what may just become an object.
        self.open.store(false, Ordering::SeqCst);
        let done = self.finish(document, &options).await.map_err(|fault| {
            let no_upload = matches!(&fault, Fault::Refused(no) if no.code == "NoSuchUpload");
            let context = self.shared.context(&self.key, true, lost(&options.mode));
            match context.explain(fault) {
                error if no_upload => error,
                error => condition_on_absent(error, &options.mode),
            }
        });
        let refused = done.as_ref().err().is_some_and(|error| !error.unanswered());
        self.open.store(refused, Ordering::SeqCst);
        done
    }

    async fn abort(&self, options: AbortOptions) -> Result<()> {
        self.open.store(false, Ordering::SeqCst);
        abort(&self.shared, &self.key, &self.id, options.deadline).await
    }
}

impl Drop for S3Upload {
    fn drop(&mut self) {
        if !self.open.swap(false, Ordering::SeqCst) {
            return;
        }
        // Bounded by its deadline, and nothing waits for it: whoever must be sure aborts.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        let (shared, key, id) = (Arc::clone(&self.shared), self.key.clone(), self.id.clone());
        runtime.spawn(async move {
            if let Err(error) = abort(&shared, &key, &id, ABORT_DEADLINE).await {
                tracing::warn!(%error, "an upload that was given up could not be aborted");
            }
        });
    }
}

/// Aborts an upload; an absent one is success.
pub(super) async fn abort(
    shared: &Shared,
    key: &UfsKey,
    id: &UploadId,
    deadline: Duration,
) -> Result<()> {
    let ask = Ask {
        method: Method::DELETE,
        key: Some(key),
        query: &[("uploadId", id.as_str())],
        ..Ask::default()
    };
    match within(deadline, shared.requests.send(ask)).await {
        Ok(_) => Ok(()),
        Err(fault) => match shared.context(key, true, Lost::Conflict).explain(fault) {
            UfsError::NotFound { .. } => Ok(()),
            error => Err(error),
        },
    }
}
