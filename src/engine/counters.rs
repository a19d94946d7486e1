//! The counts of an engine.
//!
//! Owned by the engine and by the sink of its timer; written by whoever posts a task or ends one.
//! They order nothing but the end after the post, and never wait.
#![forbid(unsafe_code)]

use crossbeam_utils::CachePadded;

use crate::pool::PoolCounts;
use crate::series::Lost;
use crate::sync::{AtomicBool, AtomicU64, Ordering};

/// Counts of tasks since an engine began, and of what it holds now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the struct's page says what they are")]
pub struct Stats {
    pub pool: PoolCounts,
    /// Runs that were handed over and have not come back.
    pub elsewhere: usize,
    /// Tasks on the wheel.
    pub pending_timers: usize,
    pub submitted: u64,
    pub successful: u64,
    pub failed: u64,
    pub cancelled: u64,
    /// Cancelled because the queue was full; not counted in `cancelled`.
    pub dropped: u64,
    /// Ticks of a series that found its previous run still going.
    pub skipped_runs: u64,
    /// Ticks of a series that went by before a run could start.
    pub missed_runs: u64,
}

/// Written by different threads: posters the first, workers the others.
#[derive(Default)]
pub(super) struct Counters {
    /// Counted before they are handed on, so that nobody sees more tasks over than submitted.
    pub(super) submitted: CachePadded<AtomicU64>,
    pub(super) successful: CachePadded<AtomicU64>,
    pub(super) failed: AtomicU64,
    pub(super) cancelled: AtomicU64,
    pub(super) dropped: AtomicU64,
    pub(super) skipped_runs: AtomicU64,
    pub(super) missed_runs: AtomicU64,
    /// When something was last due; no count, but written where they are.
    pub(super) last_due: AtomicU64,
    /// See [`Engine::release`](super::Engine::release).
    pub(super) is_released: AtomicBool,
}

impl Counters {
    /// Counts tasks that are over; `true`: nobody posts any more, and they may have been the last.
    pub(super) fn count_end(&self, counter: &AtomicU64, by: u64) -> bool {
        // SeqCst, as in `Engine::release`: of a last end and a release at once, one sees the other.
        counter.fetch_add(by, Ordering::SeqCst);
        self.is_released.load(Ordering::SeqCst)
    }

    /// Takes back what was counted for tasks that were refused.
    pub(super) fn not_submitted(&self, refused: usize) {
        self.submitted.fetch_sub(refused as u64, Ordering::Relaxed);
    }

    /// Whether every task that was posted is over. Exact where nobody is posting.
    pub(super) fn is_finished(&self) -> bool {
        // The ends first: a task that is posted meanwhile makes it no, never yes.
        let load = |counter: &AtomicU64| counter.load(Ordering::SeqCst);
        let over = load(&self.successful)
            + load(&self.failed)
            + load(&self.cancelled)
            + load(&self.dropped);
        over == load(&self.submitted)
    }
}

/// Adds to a counter. Relaxed: counts order nothing.
pub(super) fn count(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

pub(super) fn note_lost(counters: &Counters, lost: Lost) {
    if lost.skipped > 0 {
        count(&counters.skipped_runs, lost.skipped);
    }
    if lost.missed > 0 {
        count(&counters.missed_runs, lost.missed);
    }
}
