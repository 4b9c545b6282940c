//! Object stores over HTTP.
