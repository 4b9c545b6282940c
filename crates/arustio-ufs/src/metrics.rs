//! Names of what this crate measures.
//!
//! Whoever exports reads a snapshot of [`UfsMetrics`](crate::layer::UfsMetrics) and
//! publishes it under these names, labelled by operation. Labels are bounded: never a
//! key, never a bucket.

/// Requests to under file systems, by operation. Counter. Stable.
pub const REQUESTS: &str = "arustio_ufs_requests_total";
/// Requests that failed, refusals included, by operation. Counter. Stable.
pub const ERRORS: &str = "arustio_ufs_errors_total";
/// Bytes received, by operation. Counter, bytes. Stable.
pub const BYTES_IN: &str = "arustio_ufs_received_bytes";
/// Bytes sent, by operation. Counter, bytes. Stable.
pub const BYTES_OUT: &str = "arustio_ufs_sent_bytes";
