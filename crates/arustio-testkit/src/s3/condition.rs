//! Conditions on entity tags: what `If-Match` and `If-None-Match` mean for a
//! read, a write and the source of a copy.
//!
//! Pure decisions over the object that is there now; the caller holds the lock
//! under which the decision stays true.

use http::HeaderMap;
use http::header::{IF_MATCH, IF_NONE_MATCH};
use s3s::dto::{ETag, ETagCondition};
use s3s::{S3Error, S3ErrorCode, S3Result, s3_error};

use super::store::Object;

/// The two conditions that one request may carry.
#[derive(Clone, Debug, Default)]
pub(crate) struct Conditions {
    /// Only if the object is there and has this tag.
    pub(crate) if_match: Option<ETagCondition>,
    /// Only if the object is absent or has another tag.
    pub(crate) if_none_match: Option<ETagCondition>,
}

impl Conditions {
    /// Reads both from headers, for operations whose typed input lacks them.
    pub(crate) fn from_headers(headers: &HeaderMap) -> S3Result<Self> {
        let parse = |name| {
            let value = headers.get(name);
            value.map(|value: &http::HeaderValue| parse_condition(value.as_bytes()))
        };
        Ok(Self {
            if_match: parse(IF_MATCH).transpose()?,
            if_none_match: parse(IF_NONE_MATCH).transpose()?,
        })
    }

    /// May this object be read?
    pub(crate) fn check_read(&self, object: &Object) -> S3Result<()> {
        self.check_if_match(object)?;
        if is_match(self.if_none_match.as_ref(), object) == Some(true) {
            return Err(s3_error!(NotModified));
        }
        Ok(())
    }

    /// May this object be the source of a copy?
    pub(crate) fn check_source(&self, object: &Object) -> S3Result<()> {
        self.check_if_match(object)?;
        if is_match(self.if_none_match.as_ref(), object) == Some(true) {
            return Err(precondition_failed("copy-source-if-none-match"));
        }
        Ok(())
    }

    /// May a new object take the place of `current`?
    pub(crate) fn check_write(&self, current: Option<&Object>) -> S3Result<()> {
        match (current, &self.if_match) {
            (_, None) => {}
            (None, Some(_)) => return Err(s3_error!(NoSuchKey)),
            (Some(object), Some(_)) => self.check_if_match(object)?,
        }
        match (current, &self.if_none_match) {
            (_, Some(ETagCondition::ETag(_))) => Err(s3_error!(
                NotImplemented,
                "If-None-Match of a write accepts only '*'"
            )),
            (Some(_), Some(ETagCondition::Any)) => Err(precondition_failed("If-None-Match")),
            (None, Some(ETagCondition::Any)) | (_, None) => Ok(()),
        }
    }

    /// May `current` be deleted?
    pub(crate) fn check_delete(&self, current: Option<&Object>) -> S3Result<()> {
        match (current, &self.if_match) {
            (_, None) => Ok(()),
            (None, Some(_)) => Err(precondition_failed("If-Match")),
            (Some(object), Some(_)) => self.check_if_match(object),
        }
    }

    fn check_if_match(&self, object: &Object) -> S3Result<()> {
        match is_match(self.if_match.as_ref(), object) {
            Some(false) => Err(precondition_failed("If-Match")),
            Some(true) | None => Ok(()),
        }
    }
}

fn is_match(condition: Option<&ETagCondition>, object: &Object) -> Option<bool> {
    Some(match condition? {
        ETagCondition::Any => true,
        ETagCondition::ETag(ETag::Strong(tag)) => *tag == object.etag,
        ETagCondition::ETag(ETag::Weak(_)) => false,
    })
}

fn parse_condition(value: &[u8]) -> S3Result<ETagCondition> {
    ETagCondition::parse_http_header(value)
        .map_err(|_| s3_error!(InvalidArgument, "the condition is not an entity tag"))
}

fn precondition_failed(condition: &'static str) -> S3Error {
    let message = format!("at least one of the preconditions did not hold: {condition}");
    S3Error::with_message(S3ErrorCode::PreconditionFailed, message)
}
