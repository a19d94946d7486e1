//! How an engine is to be built, and what becomes of delayed tasks when it is closed. Plain data.
#![forbid(unsafe_code)]

use std::sync::Arc;

use crate::clock::Clock;
use crate::pool::PoolOptions;
use crate::wheel::Tiers;

/// How an engine is to be built.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Workers and queue.
    pub pool: PoolOptions,
    /// What happens to a post that finds the queue full.
    pub on_full: OnFull,
    /// The wheel's tiers.
    pub tiers: Tiers,
    /// The clock; `None` for the system's.
    pub clock: Option<Arc<dyn Clock>>,
}

/// What happens to a post that finds the queue full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnFull {
    /// The poster waits for room. A worker of the same pool never does: it would wait for itself,
    /// so its post goes in beyond the bound.
    #[default]
    Block,
    /// The post is refused, as [`QueueFull`](crate::PostErrorKind::QueueFull).
    Refuse,
    /// The new task is cancelled.
    DropNewest,
    /// The oldest task in the queue that was posted to run now is cancelled, or, if a series' run
    /// comes first, that run is given up and counted as missed. Delayed tasks that are due stay. If
    /// there is nothing that may go, the new task is cancelled.
    DropOldest,
    /// The poster's thread runs the task.
    CallerRuns,
}

/// What becomes of tasks that wait for their deadline when their engine is closed.
///
/// It says nothing of series: they have no end of their own, and are stopped in any case, after the
/// run that is going or queued.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Delayed {
    /// They are cancelled.
    #[default]
    Cancel,
    /// They run now, in the order of their deadlines.
    Run,
    /// They run when they are due, and the engine ends after the last.
    Wait,
}
