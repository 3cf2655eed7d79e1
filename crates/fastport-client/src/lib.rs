//! fastPort client library for tokio.
