//! Black-box tests of the core, one binary.

#![allow(
    clippy::unwrap_used,
    reason = "a test that unwraps a None has failed, as it should"
)]

mod future;
mod pool;
mod scheduler;
mod series_model;
mod support;
mod time;
mod wheel_model;
