//! Tasks that run now: full queues, panics, cancel, waits, the end.

mod cancel;
mod full_queue;
mod panics;
mod shutdown;
mod waits;

use std::collections::HashSet;
use std::panic::panic_any;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread::{Scope, ScopedJoinHandle};
use std::time::{Duration, SystemTime};

use asynctask::clock::Manual;
use asynctask::task::Phase;
use asynctask::{
    Delayed, Error, Every, JoinHandle, Missed, OnFull, PoolCounts, PostError, PostErrorKind,
    Scheduler, SchedulerHandle, Stats,
};

use crate::support::{
    Join, PATIENCE, builder, by_hand, channel, eventually, field, gate, occupy, receive,
    shut_down_by, threads_called, wait, without_threads,
};

const HOUR: Duration = Duration::from_secs(3600);

/// One worker, a queue of `queue_size`, and `on_full`.
fn bounded_by(queue_size: usize, on_full: OnFull) -> Scheduler {
    let builder = builder(1).queue_size(queue_size).on_full(on_full);
    builder.build().unwrap()
}

fn one_worker() -> Scheduler {
    builder(1).build().unwrap()
}

/// A callback that owns something, and whether it still does.
fn owning() -> (impl FnMut() + Send + Clone + 'static, impl Fn() -> bool) {
    let owned = Arc::new(());
    let weak = Arc::downgrade(&owned);
    (
        move || drop(Arc::clone(&owned)),
        move || weak.strong_count() > 0,
    )
}

/// The end of a scheduler: every task that was submitted is counted, once, as one of the endings.
fn shut_down(scheduler: Scheduler) -> Stats {
    let handle = scheduler.handle().clone();
    scheduler.shutdown();
    accounted(&handle)
}

fn accounted(handle: &SchedulerHandle) -> Stats {
    let stats = handle.stats();
    let ended = stats.successful + stats.failed + stats.cancelled + stats.dropped;
    assert_eq!(stats.submitted, ended, "{stats:?}");
    let PoolCounts {
        running,
        idle,
        waiting,
        ..
    } = stats.pool;
    assert_eq!(
        (running, idle, waiting, stats.pending_timers),
        (0, 0, 0, 0),
        "{stats:?}"
    );
    stats
}
