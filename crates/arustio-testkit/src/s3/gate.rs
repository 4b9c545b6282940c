//! Who may come in, and what happens to them: the credentials, and the place
//! where faults strike.

use std::fmt;
use std::sync::Arc;

use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::{S3Auth, SecretKey};
use s3s::path::S3Path;
use s3s::{S3Error, S3ErrorCode, S3Result, s3_error};

use super::exchange::Exchange;
use super::faults::{FaultAction, Faults};
use super::operation::Operation;

/// The one pair of keys that is let in.
pub(crate) struct OneKey {
    pub(crate) access_key: String,
    pub(crate) secret_key: SecretKey,
}

impl fmt::Debug for OneKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OneKey").finish_non_exhaustive()
    }
}

#[async_trait::async_trait]
impl S3Auth for OneKey {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        if access_key == self.access_key {
            return Ok(self.secret_key.clone());
        }
        Err(s3_error!(
            InvalidAccessKeyId,
            "the access key id does not exist in our records"
        ))
    }
}

/// Refuses strangers, names the operation, lets faults strike.
#[derive(Debug)]
pub(crate) struct Gate {
    pub(crate) faults: Faults,
}

#[async_trait::async_trait]
impl S3Access for Gate {
    async fn check(&self, context: &mut S3AccessContext<'_>) -> S3Result<()> {
        if context.credentials().is_none() {
            return Err(s3_error!(AccessDenied, "the request is not signed"));
        }
        let operation = Operation::from_name(context.s3_op().name());
        let (bucket, key) = match context.s3_path() {
            S3Path::Root => (None, None),
            S3Path::Bucket { bucket } => (Some(&**bucket), None),
            S3Path::Object { bucket, key } => (Some(&**bucket), Some(&**key)),
        };
        let verdict = self.faults.decide(operation, bucket, key);
        let Some(exchange) = exchange_of(context.extensions_mut()) else {
            return Err(s3_error!(InternalError, "the request came by another door"));
        };
        exchange.judge(operation, verdict);
        exchange.pause(verdict.delay).await?;
        strike(verdict.action, &exchange).await
    }
}

/// The exchange that travels with a request.
pub(crate) fn exchange_of(extensions: &http::Extensions) -> Option<Arc<Exchange>> {
    extensions.get::<Arc<Exchange>>().map(Arc::clone)
}

/// Ends the request here if the action says that it is not carried out.
async fn strike(action: Option<FaultAction>, exchange: &Exchange) -> S3Result<()> {
    match action {
        Some(FaultAction::SlowDown) => Err(s3_error!(SlowDown, "reduce your request rate")),
        Some(FaultAction::InternalError) => Err(s3_error!(InternalError, "an injected fault")),
        Some(FaultAction::TooManyRequests) => Err(too_many_requests()),
        // The front door resets the connection whatever the answer is.
        Some(FaultAction::Reset) => Err(s3_error!(ServiceUnavailable)),
        Some(FaultAction::Hang) => {
            exchange.abandoned().await;
            Err(s3_error!(ServiceUnavailable))
        }
        Some(
            FaultAction::ApplyThenReset
            | FaultAction::Delay(_)
            | FaultAction::DelayApply(_)
            | FaultAction::TruncateBody
            | FaultAction::WrongLength,
        )
        | None => Ok(()),
    }
}

fn too_many_requests() -> S3Error {
    let code = S3ErrorCode::Custom("TooManyRequests".into());
    let mut error = S3Error::with_message(code, "please reduce your request rate");
    error.set_status_code(http::StatusCode::TOO_MANY_REQUESTS);
    error
}
