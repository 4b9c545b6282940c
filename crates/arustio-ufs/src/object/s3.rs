//! Amazon S3, and what speaks its protocol.
//!
//! An identity is the strong ETag without its quotes. ETags hash the content, so equal
//! bytes may look like one version; the capabilities say so.
//!
//! Conditions are always sent. Where a store is not known to obey one, it is compared by
//! a `HEAD` immediately before as well, unless the caller wants to see what the store
//! itself does ([`Guard::StoreOnly`]).

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use arustio_types::{ObjectVersion, Timestamp, UfsKey, WriteId};
use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use http::{HeaderMap, Method};
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::path::Path;
use object_store::{
    Attribute, Attributes, BackoffConfig, GetOptions, GetRange, GetResult, ObjectStore, PutMode,
    PutOptions, PutPayload, RetryConfig, UpdateVersion,
};

use super::fault::{Context, Fault, Lost};
use super::http::{Connector, client};
use super::s3_answers::header_time;
use super::s3_requests::{Ask, Requests, within};
use super::s3_settings::S3Settings;
use super::s3_upload::S3Upload;
use super::{s3_copy, s3_list};
use crate::capability::{Capabilities, IdentityKind, Support};
use crate::error::{ConfigError, Place, Result, UfsError};
use crate::registry::{OpenRequest, UfsProvider};
use crate::ufs::{
    CopyOptions, DeleteOptions, DeleteRequest, DeleteResult, Deleted, Description, EntryKind,
    Guard, ListOptions, ListPage, ObjectEntry, Payload, ReadBody, ReadOptions, RenameOptions,
    UnderFileSystem, UploadEntry, WriteMode, WriteOptions, Written, resolve_range,
};
use crate::upload::{AbortOptions, Upload, UploadId, UploadOptions};

/// The metadata that holds the write id (W2), as `object_store` names it.
const WRITE_ID: &str = "arustio-write-id";
/// The same as a header.
pub(super) const WRITE_ID_HEADER: &str = "x-amz-meta-arustio-write-id";
/// For a request that changes nothing to be answered; the body comes after that.
const READ_DEADLINE: Duration = Duration::from_secs(30);
/// Deletes in flight of one `delete_many`.
const DELETES_IN_FLIGHT: usize = 16;
/// Largest object of one PUT.
const MAX_WRITE: u64 = 5 << 30;
/// Smallest part but the last.
const MIN_PART: u64 = 5 << 20;

/// Opens `s3://` and `s3a://`.
#[derive(Debug, Clone, Copy, Default)]
pub struct S3Provider;

impl UfsProvider for S3Provider {
    fn schemes(&self) -> &[crate::uri::Scheme] {
        &[crate::uri::Scheme::S3]
    }

    fn open(&self, request: &OpenRequest) -> Result<Arc<dyn UnderFileSystem>> {
        Ok(Arc::new(S3Ufs::open(request)?))
    }
}

/// A bucket.
#[derive(Debug, Clone)]
pub struct S3Ufs {
    pub(super) shared: Arc<Shared>,
}

/// What all requests to a bucket share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) requests: Requests,
    pub(super) store: AmazonS3,
    pub(super) capabilities: Capabilities,
    description: Description,
    bucket: String,
    endpoint: String,
}

impl S3Ufs {
    /// Opens a bucket; makes no request.
    pub fn open(request: &OpenRequest) -> Result<Self> {
        let settings = S3Settings::new(request)?;
        let failed = |what: String| ConfigError::InvalidOption {
            key: "endpoint",
            reason: what,
        };
        let http = client(&settings.authority());
        let http = http.map_err(|error| failed(format!("no HTTP client: {error}")))?;
        let store = builder(&settings, request)
            .with_http_connector(Connector(http.clone()))
            .build()
            .map_err(|error| failed(error.to_string()))?;
        let mut capabilities = assumed(&settings);
        if let Some(measured) = &request.measured {
            capabilities = capabilities.with_mount(measured);
        }
        let credentials = Arc::clone(store.credentials());
        let shared = Shared {
            requests: Requests::new(http, credentials, &settings),
            store,
            capabilities,
            description: Description {
                scheme: "s3",
                root: Arc::from(format!("s3://{}", settings.bucket)),
                endpoint: settings.foreign.then(|| settings.endpoint.clone()),
            },
            bucket: settings.bucket.clone(),
            endpoint: settings.endpoint.clone(),
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }
}

/// What is known of such stores before they are measured (U7).
fn assumed(settings: &S3Settings) -> Capabilities {
    let put = match settings.conditional_put {
        true => Support::Atomic,
        false => Support::Checked,
    };
    Capabilities {
        create_only: put,
        replace_if: put,
        complete_if: put,
        read_if: Support::Atomic,
        copy_source_if: Support::Atomic,
        copy_target_if: Support::Checked,
        delete_if: Support::Checked,
        atomic_rename: false,
        identity: IdentityKind::Content,
        write_id: true,
        list_uploads_by_prefix: !settings.foreign,
        max_write: MAX_WRITE,
        min_part: MIN_PART,
        max_part: MAX_WRITE,
        max_parts: 10_000,
        measured: false,
    }
}

fn builder(settings: &S3Settings, request: &OpenRequest) -> AmazonS3Builder {
    // One layer repeats, and it is not this one.
    let no_retries = RetryConfig {
        backoff: BackoffConfig::default(),
        max_retries: 0,
        retry_timeout: Duration::ZERO,
    };
    let endpoint = match settings.path_style {
        true => settings.endpoint.clone(),
        false => settings.bucket_url(),
    };
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(&settings.bucket)
        .with_region(&settings.region)
        .with_endpoint(endpoint)
        .with_virtual_hosted_style_request(!settings.path_style)
        .with_allow_http(settings.allow_http)
        .with_request_payer(settings.request_payer)
        .with_disable_tagging(true)
        .with_retry(no_retries);
    if let Some(keys) = &settings.keys {
        builder = builder
            .with_access_key_id(&keys.access_key_id)
            .with_secret_access_key(&keys.secret_access_key);
        if let Some(token) = &keys.session_token {
            builder = builder.with_token(token);
        }
    }
    if let Some(sse) = &settings.sse {
        builder = builder.with_config(encryption_key("aws_server_side_encryption"), sse);
    }
    if let Some(key_id) = &settings.sse_kms_key_id {
        builder = builder.with_sse_kms_encryption(key_id);
    }
    provider_chain(builder, request)
}

fn encryption_key(name: &str) -> AmazonS3ConfigKey {
    name.parse().expect("a key that object_store documents")
}

/// Where credentials are looked for when none are given (C2).
fn provider_chain(mut builder: AmazonS3Builder, request: &OpenRequest) -> AmazonS3Builder {
    use AmazonS3ConfigKey as Key;
    let variables = [
        (
            Key::WebIdentityTokenFile,
            "web_identity_token_file",
            "AWS_WEB_IDENTITY_TOKEN_FILE",
        ),
        (Key::RoleArn, "role_arn", "AWS_ROLE_ARN"),
        (Key::RoleSessionName, "", "AWS_ROLE_SESSION_NAME"),
        (Key::StsEndpoint, "", "AWS_ENDPOINT_URL_STS"),
        (
            Key::ContainerCredentialsRelativeUri,
            "",
            "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        ),
        (
            Key::ContainerCredentialsFullUri,
            "",
            "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        ),
        (
            Key::ContainerAuthorizationTokenFile,
            "",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
        ),
        (Key::MetadataEndpoint, "", "AWS_METADATA_ENDPOINT"),
    ];
    for (key, option, variable) in variables {
        let given = request
            .options
            .get(option)
            .or_else(|| request.environment.get(variable));
        if let Some(value) = given {
            builder = builder.with_config(key, value);
        }
    }
    builder
}

impl Shared {
    pub(super) fn place(&self, key: &UfsKey) -> Place {
        self.description.place(key)
    }

    pub(super) fn context(&self, key: &UfsKey, mutates: bool, lost: Lost) -> Context {
        Context {
            at: self.place(key),
            endpoint: self.endpoint.clone(),
            bucket: self.bucket.clone(),
            mutates,
            lost,
            range: None,
        }
    }

    /// The key as `object_store` can state it, if it can.
    pub(super) fn plain(&self, key: &UfsKey) -> Option<Path> {
        let path = Path::parse(key.as_str()).ok()?;
        (path.as_ref() == key.as_str() && !key.as_str().is_empty()).then_some(path)
    }

    /// The headers of an object, if it is there.
    pub(super) async fn head_raw(&self, key: &UfsKey) -> Result<Option<HeaderMap>> {
        let ask = Ask {
            method: Method::HEAD,
            key: Some(key),
            ..Ask::default()
        };
        match within(READ_DEADLINE, self.requests.send(ask)).await {
            Ok(answer) => Ok(Some(answer.headers().clone())),
            Err(fault) => absent_or(self.context(key, false, Lost::Stale).explain(fault)),
        }
    }

    pub(super) async fn head(&self, key: &UfsKey) -> Result<Option<ObjectEntry>> {
        let Some(path) = self.plain(key) else {
            let Some(headers) = self.head_raw(key).await? else {
                return Ok(None);
            };
            let size = length(&headers).ok_or_else(|| self.bad_answer(key, "it has no length"))?;
            return self.entry_of(key, &headers, size).map(Some);
        };
        let options = GetOptions {
            head: true,
            ..GetOptions::default()
        };
        match self
            .through_store(READ_DEADLINE, self.store.get_opts(&path, options))
            .await
        {
            Ok(found) => self.entry_of_result(key, &found).map(Some),
            Err(fault) => absent_or(self.context(key, false, Lost::Stale).explain(fault)),
        }
    }

    /// Runs a request of `object_store`, with its errors as faults.
    pub(super) async fn through_store<T>(
        &self,
        deadline: Duration,
        request: impl Future<Output = object_store::Result<T>>,
    ) -> Result<T, Fault> {
        within(deadline, async {
            self.requests.has_credentials().await?;
            request.await.map_err(|error| Fault::of(&error))
        })
        .await
    }

    pub(super) fn bad_answer(&self, key: &UfsKey, what: &str) -> UfsError {
        UfsError::BadAnswer {
            at: self.place(key),
            what: what.to_owned(),
            unanswered: false,
        }
    }

    fn entry_of_result(&self, key: &UfsKey, found: &GetResult) -> Result<ObjectEntry> {
        let tag = found.meta.e_tag.as_deref();
        let tag = tag.ok_or_else(|| self.bad_answer(key, "it has no ETag"))?;
        let write_id = found.attributes.get(&Attribute::Metadata(WRITE_ID.into()));
        Ok(ObjectEntry {
            key: key.clone(),
            kind: EntryKind::of(key, found.meta.size),
            size: found.meta.size,
            modified: Timestamp::from_millis(found.meta.last_modified.timestamp_millis()),
            version: version_of(tag, found.meta.version.as_deref()),
            write_id: write_id.and_then(|id| id.parse().ok()),
            young: false,
        })
    }

    fn entry_of(&self, key: &UfsKey, headers: &HeaderMap, size: u64) -> Result<ObjectEntry> {
        let text = |name: &str| headers.get(name)?.to_str().ok();
        let tag = text("etag").ok_or_else(|| self.bad_answer(key, "it has no ETag"))?;
        Ok(ObjectEntry {
            key: key.clone(),
            kind: EntryKind::of(key, size),
            size,
            modified: text("last-modified")
                .and_then(header_time)
                .unwrap_or_default(),
            version: version_of(tag, text("x-amz-version-id")),
            write_id: text(WRITE_ID_HEADER).and_then(|id| id.parse().ok()),
            young: false,
        })
    }

    /// Compares the condition with what is there, where the store may not.
    pub(super) async fn look_before(
        &self,
        key: &UfsKey,
        mode: &WriteMode,
        support: Support,
        guard: Guard,
    ) -> Result<()> {
        if support == Support::Atomic || guard == Guard::StoreOnly || *mode == WriteMode::Replace {
            return Ok(());
        }
        let found = self.head(key).await?;
        let at = self.place(key);
        match (mode, found) {
            (WriteMode::CreateOnly, Some(_)) => Err(UfsError::AlreadyExists { at }),
            (WriteMode::ReplaceIf(version), found)
                if found.as_ref().map(|entry| &entry.version) != Some(version) =>
            {
                Err(UfsError::Conflict { at })
            }
            (WriteMode::CreateOnly | WriteMode::Replace | WriteMode::ReplaceIf(_), _) => Ok(()),
        }
    }

    /// The same for a whole object.
    pub(super) async fn look_before_write(
        &self,
        key: &UfsKey,
        mode: &WriteMode,
        guard: Guard,
    ) -> Result<()> {
        let support = match mode {
            WriteMode::CreateOnly => self.capabilities.create_only,
            WriteMode::Replace | WriteMode::ReplaceIf(_) => self.capabilities.replace_if,
        };
        self.look_before(key, mode, support, guard).await
    }

    /// A PUT of a whole object, or of a part, under a key that `object_store` cannot
    /// state. Gives the tag.
    pub(super) async fn put_raw(
        &self,
        key: &UfsKey,
        payload: Payload,
        query: &[(&str, &str)],
        headers: &[(&'static str, &str)],
        carried: HeaderMap,
        deadline: Duration,
    ) -> Result<ObjectVersion, Fault> {
        let ask = Ask {
            method: Method::PUT,
            key: Some(key),
            query,
            headers,
            carried,
            encrypts: query.is_empty(),
            body: payload.to_bytes(),
        };
        let answer = within(deadline, self.requests.send(ask)).await?;
        version_in(answer.headers())
    }

    async fn read_raw(&self, key: &UfsKey, options: &ReadOptions) -> Result<ReadBody> {
        let mut context = self.context(key, false, Lost::Stale);
        let tag = options.required.as_ref().map(quoted);
        let range = options.range.as_ref().map(|range| match range.end {
            u64::MAX => format!("bytes={}-", range.start),
            end => format!("bytes={}-{}", range.start, end - 1),
        });
        context.range = options.range.as_ref().map(|range| (range.start, range.end));
        let mut headers = Vec::new();
        headers.extend(tag.as_deref().map(|tag| ("if-match", tag)));
        headers.extend(range.as_deref().map(|range| ("range", range)));
        let ask = Ask {
            method: Method::GET,
            key: Some(key),
            headers: &headers,
            ..Ask::default()
        };
        let answer = within(READ_DEADLINE, self.requests.send(ask)).await;
        let answer = answer.map_err(|fault| context.clone().explain(fault))?;
        let found = answer.headers();
        let size = total(found).ok_or_else(|| self.bad_answer(key, "it has no length"))?;
        let entry = self.entry_of(key, found, size)?;
        let range = resolve_range(self.place(key), options.range.clone(), size)?;
        if answer.status() != http::StatusCode::PARTIAL_CONTENT && range != (0..size) {
            return Err(self.bad_answer(key, "the range was ignored"));
        }
        let pieces = answer.into_body().bytes_stream();
        let body = pieces
            .map(move |piece| piece.map_err(|error| context.clone().explain(Fault::of(&error))));
        Ok(ReadBody {
            entry,
            range,
            body: body.boxed(),
        })
    }

    async fn read_store(
        &self,
        path: &Path,
        key: &UfsKey,
        options: &ReadOptions,
    ) -> Result<ReadBody> {
        let mut context = self.context(key, false, Lost::Stale);
        context.range = options.range.as_ref().map(|range| (range.start, range.end));
        let get = GetOptions {
            if_match: options.required.as_ref().map(quoted),
            range: options.range.clone().map(|range| match range.end {
                u64::MAX => GetRange::Offset(range.start),
                _ => GetRange::Bounded(range),
            }),
            ..GetOptions::default()
        };
        let found = self
            .through_store(READ_DEADLINE, self.store.get_opts(path, get))
            .await;
        let found = found.map_err(|fault| context.clone().explain(fault))?;
        let entry = self.entry_of_result(key, &found)?;
        let range = found.range.clone();
        let pieces = found.into_stream();
        let body = pieces
            .map(move |piece| piece.map_err(|error| context.clone().explain(Fault::of(&error))));
        Ok(ReadBody {
            entry,
            range,
            body: body.boxed(),
        })
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl UnderFileSystem for S3Ufs {
    fn describe(&self) -> &Description {
        &self.shared.description
    }

    fn capabilities(&self) -> Capabilities {
        self.shared.capabilities
    }

    async fn head(&self, key: &UfsKey) -> Result<Option<ObjectEntry>> {
        self.shared.head(key).await
    }

    async fn read(&self, key: &UfsKey, options: ReadOptions) -> Result<ReadBody> {
        let shared = &self.shared;
        if let Some(range) = options.range.clone().filter(Range::is_empty) {
            return Err(UfsError::InvalidRange {
                at: shared.place(key),
                start: range.start,
                end: range.end,
                size: 0,
            });
        }
        let read = match shared.plain(key) {
            Some(path) => shared.read_store(&path, key, &options).await,
            None => shared.read_raw(key, &options).await,
        };
        let mut read = match read {
            // The version that was asked for is gone with the object.
            Err(UfsError::NotFound { at }) if options.required.is_some() => {
                return Err(UfsError::Stale { at });
            }
            other => other?,
        };
        // The store may have ignored the condition (R1).
        if options
            .required
            .is_some_and(|version| version != read.entry.version)
        {
            return Err(UfsError::Stale {
                at: shared.place(key),
            });
        }
        read.body = exactly(shared.place(key), read.range.clone(), read.body);
        Ok(read)
    }

    async fn write(
        &self,
        key: &UfsKey,
        payload: Payload,
        options: WriteOptions,
    ) -> Result<Written> {
        let shared = &self.shared;
        shared
            .look_before_write(key, &options.mode, options.guard)
            .await?;
        let written = match shared.plain(key) {
            Some(path) => write_store(shared, &path, payload, &options).await,
            None => write_raw(shared, key, payload, &options, HeaderMap::new()).await,
        };
        let context = shared.context(key, true, lost(&options.mode));
        let version =
            written.map_err(|fault| condition_on_absent(context.explain(fault), &options.mode))?;
        Ok(Written::answered(version))
    }

    async fn begin_upload(&self, key: &UfsKey, options: UploadOptions) -> Result<Box<dyn Upload>> {
        let (write_id, deadline) = (options.write_id, options.deadline);
        let begun = S3Upload::begin(&self.shared, key, write_id, HeaderMap::new(), deadline);
        Ok(Box::new(begun.await?))
    }

    fn list_uploads(&self, prefix: &UfsKey) -> BoxStream<'static, Result<UploadEntry>> {
        s3_list::uploads(Arc::clone(&self.shared), prefix.clone())
    }

    async fn abort_upload(
        &self,
        key: &UfsKey,
        upload: &UploadId,
        options: AbortOptions,
    ) -> Result<()> {
        super::s3_upload::abort(&self.shared, key, upload, options.deadline).await
    }

    fn list(&self, options: ListOptions) -> BoxStream<'static, Result<ListPage>> {
        s3_list::pages(Arc::clone(&self.shared), options)
    }

    async fn delete(&self, key: &UfsKey, options: DeleteOptions) -> Result<Deleted> {
        let shared = &self.shared;
        let checked = shared.capabilities.delete_if != Support::Atomic;
        if let Some(version) = &options.required
            && checked
            && options.guard == Guard::Careful
        {
            match shared.head(key).await? {
                None => return Ok(Deleted::default()),
                Some(entry) if entry.version != *version => {
                    return Err(UfsError::Conflict {
                        at: shared.place(key),
                    });
                }
                Some(_) => {}
            }
        }
        let tag = options.required.as_ref().map(quoted);
        let headers: Vec<_> = tag.iter().map(|tag| ("if-match", tag.as_str())).collect();
        let ask = Ask {
            method: Method::DELETE,
            key: Some(key),
            headers: &headers,
            ..Ask::default()
        };
        match within(options.deadline, shared.requests.send(ask)).await {
            Ok(_) => Ok(Deleted::default()),
            Err(fault) => match shared.context(key, true, Lost::Conflict).explain(fault) {
                UfsError::NotFound { .. } => Ok(Deleted::default()),
                // A condition on what is absent is refused by some stores.
                UfsError::Conflict { at } => match shared.head(key).await? {
                    None => Ok(Deleted::default()),
                    Some(_) => Err(UfsError::Conflict { at }),
                },
                error => Err(error),
            },
        }
    }

    fn delete_many(
        &self,
        requests: BoxStream<'static, DeleteRequest>,
        deadline: Duration,
    ) -> BoxStream<'static, DeleteResult> {
        // One by one: the bulk request knows no conditions.
        let ufs = self.clone();
        requests
            .map(move |request| {
                let ufs = ufs.clone();
                async move {
                    let options = DeleteOptions::new(request.required.clone(), deadline);
                    let result = ufs.delete(&request.key, options).await;
                    DeleteResult { request, result }
                }
            })
            .buffer_unordered(DELETES_IN_FLIGHT)
            .boxed()
    }

    async fn copy(
        &self,
        source: &UfsKey,
        target: &UfsKey,
        options: CopyOptions,
    ) -> Result<Written> {
        s3_copy::copy(&self.shared, source, target, options).await
    }

    async fn rename(
        &self,
        source: &UfsKey,
        _target: &UfsKey,
        _options: RenameOptions,
    ) -> Result<Written> {
        Err(UfsError::Unsupported {
            at: self.shared.place(source),
            what: "a rename in one step",
            instead: "copy it and delete the source",
        })
    }
}

async fn write_store(
    shared: &Shared,
    path: &Path,
    payload: Payload,
    options: &WriteOptions,
) -> Result<ObjectVersion, Fault> {
    let put = PutOptions {
        mode: match &options.mode {
            WriteMode::CreateOnly => PutMode::Create,
            WriteMode::Replace => PutMode::Overwrite,
            WriteMode::ReplaceIf(version) => PutMode::Update(UpdateVersion {
                e_tag: Some(quoted(version)),
                version: None,
            }),
        },
        attributes: attributes(options.write_id),
        ..PutOptions::default()
    };
    let pieces: PutPayload = payload.pieces().iter().cloned().collect();
    let done = shared.store.put_opts(path, pieces, put);
    let done = shared.through_store(options.deadline, done).await?;
    match done.e_tag {
        Some(tag) => Ok(version_of(&tag, done.version.as_deref())),
        None => Err(Fault::BadAnswer("it has no ETag".to_owned())),
    }
}

/// A write under any key, with headers of another object that are carried over.
pub(super) async fn write_raw(
    shared: &Shared,
    key: &UfsKey,
    payload: Payload,
    options: &WriteOptions,
    carried: HeaderMap,
) -> Result<ObjectVersion, Fault> {
    let write_id = options.write_id.to_string();
    let condition = condition(&options.mode);
    let mut headers = vec![(WRITE_ID_HEADER, write_id.as_str())];
    headers.extend(
        condition
            .as_ref()
            .map(|(name, value)| (*name, value.as_str())),
    );
    shared
        .put_raw(key, payload, &[], &headers, carried, options.deadline)
        .await
}

fn attributes(write_id: WriteId) -> Attributes {
    let mut attributes = Attributes::new();
    attributes.insert(
        Attribute::Metadata(WRITE_ID.into()),
        write_id.to_string().into(),
    );
    attributes
}

/// The header that states a mode.
pub(super) fn condition(mode: &WriteMode) -> Option<(&'static str, String)> {
    match mode {
        WriteMode::CreateOnly => Some(("if-none-match", "*".to_owned())),
        WriteMode::Replace => None,
        WriteMode::ReplaceIf(version) => Some(("if-match", quoted(version))),
    }
}

/// What a lost condition means for a write of this mode.
pub(super) fn lost(mode: &WriteMode) -> Lost {
    match mode {
        WriteMode::CreateOnly => Lost::Exists,
        WriteMode::Replace | WriteMode::ReplaceIf(_) => Lost::Conflict,
    }
}

/// `If-Match` on an absent object is answered with 404 by some stores.
pub(super) fn condition_on_absent(error: UfsError, mode: &WriteMode) -> UfsError {
    match (error, mode) {
        (UfsError::NotFound { at }, WriteMode::ReplaceIf(_)) => UfsError::Conflict { at },
        (error, _) => error,
    }
}

/// Absence is an answer.
fn absent_or<T>(error: UfsError) -> Result<Option<T>> {
    match error {
        UfsError::NotFound { .. } => Ok(None),
        error => Err(error),
    }
}

/// The version in the headers of an answer.
pub(super) fn version_in(headers: &HeaderMap) -> Result<ObjectVersion, Fault> {
    let text = |name: &str| headers.get(name)?.to_str().ok();
    match text("etag") {
        Some(tag) => Ok(version_of(tag, text("x-amz-version-id"))),
        None => Err(Fault::BadAnswer("it has no ETag".to_owned())),
    }
}

/// An identity is the ETag without quotes.
pub(super) fn version_of(tag: &str, version_id: Option<&str>) -> ObjectVersion {
    ObjectVersion {
        version_id: version_id.map(str::to_owned),
        ..ObjectVersion::new(tag.trim_matches('"'))
    }
}

/// The ETag of an identity.
pub(super) fn quoted(version: &ObjectVersion) -> String {
    match version.identity.as_str() {
        weak if weak.starts_with("W/") => weak.to_owned(),
        strong => format!("\"{strong}\""),
    }
}

fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get("content-length")?.to_str().ok()?.parse().ok()
}

/// The length of the whole object, also where a range of it is answered.
fn total(headers: &HeaderMap) -> Option<u64> {
    match headers.get("content-range") {
        Some(range) => range.to_str().ok()?.rsplit('/').next()?.parse().ok(),
        None => length(headers),
    }
}

/// A body of exactly the bytes of a range, or an error.
fn exactly(
    at: Place,
    range: Range<u64>,
    body: BoxStream<'static, Result<Bytes>>,
) -> BoxStream<'static, Result<Bytes>> {
    let left = range.end - range.start;
    futures::stream::unfold(Some((body, left)), move |state| {
        let at = at.clone();
        async move {
            let (mut body, left) = state?;
            let wrong = |what: &str| UfsError::Unavailable {
                at,
                cause: what.to_owned(),
                unanswered: false,
            };
            match body.next().await {
                Some(Ok(piece)) => match left.checked_sub(piece.len() as u64) {
                    Some(left) => Some((Ok(piece), Some((body, left)))),
                    None => Some((Err(wrong("the body is longer than it should be")), None)),
                },
                Some(Err(error)) => Some((Err(error), None)),
                None if left > 0 => Some((Err(wrong("the body ended early")), None)),
                None => None,
            }
        }
    })
    .boxed()
}
