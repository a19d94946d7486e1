//! Black-box tests of the core, one binary.

mod pool;
mod scheduler;
mod support;
mod time;
