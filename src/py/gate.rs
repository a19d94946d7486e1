//! Forks, and the making of thread states, keep out of each other's way.
//!
//! Owned by the process. A thread of ours that attaches for the first time has CPython make a state
//! for it, which takes a lock of the interpreter's, and that happens before the thread has the GIL.
//! A fork in just that moment leaves the lock held for ever in the child, which up to CPython 3.11
//! needs it on its very first steps, and hangs.
//!
//! 1. A worker that is about to attach says so, and looks whether a fork is going on. If so, it takes
//!    back what it said, and waits.
//! 2. Whoever is about to fork says so, and waits, detached, until no one is attaching.
//! 3. In the parent he takes that back; in the child, which has no other threads, both counts are 0.
//!
//! Of two that come at once, at least one sees the other: hence `SeqCst`. Nobody is woken here: the
//! waits are of microseconds, at a fork, and a lock would have to be repaired in the child.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use pyo3::prelude::*;

use crate::sync::Parker;

static ATTACHING: AtomicUsize = AtomicUsize::new(0);
static FORKING: AtomicUsize = AtomicUsize::new(0);

/// Between two looks.
const PAUSE: Duration = Duration::from_micros(50);

/// The longest that a fork waits. Attaching takes what the GIL takes, unless the interpreter is going
/// away: then it never ends.
const PATIENCE: Duration = Duration::from_secs(1);

/// Step 1.
pub(super) fn begin_attaching() {
    loop {
        ATTACHING.fetch_add(1, Ordering::SeqCst);
        if FORKING.load(Ordering::SeqCst) == 0 {
            return;
        }
        ATTACHING.fetch_sub(1, Ordering::SeqCst);
        pause();
    }
}

/// The thread is attached, or will not be.
pub(super) fn end_attaching() {
    ATTACHING.fetch_sub(1, Ordering::SeqCst);
}

/// Step 2.
#[pyfunction]
pub(super) fn _before_fork(py: Python<'_>) {
    FORKING.fetch_add(1, Ordering::SeqCst);
    if ATTACHING.load(Ordering::SeqCst) > 0 {
        py.detach(|| {
            let end = Instant::now() + PATIENCE;
            while ATTACHING.load(Ordering::SeqCst) > 0 && Instant::now() < end {
                pause();
            }
        });
    }
}

/// Step 3, in the parent.
#[pyfunction]
pub(super) fn _after_fork_in_parent() {
    FORKING.fetch_sub(1, Ordering::SeqCst);
}

/// Step 3, in the child.
pub(super) fn after_fork_in_child() {
    ATTACHING.store(0, Ordering::SeqCst);
    FORKING.store(0, Ordering::SeqCst);
}

fn pause() {
    Parker::new().park(Instant::now().checked_add(PAUSE));
}
