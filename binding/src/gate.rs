//! Forks, and the coming and going of threads, keep out of each other's way.
//!
//! Owned by the process. A thread of ours that attaches for the first time has CPython make a state
//! for it, which takes a lock of the interpreter's, and that happens before the thread has the GIL.
//! A fork in just that moment leaves the lock held for ever in the child, which up to CPython 3.11
//! needs it on its very first steps, and hangs.
//!
//! Without a GIL there are more such locks, those of dicts: of `threading`'s list of threads, and where
//! every `threading.local` keeps what each thread has of it. A fork stops all threads, but a lock
//! that one of them has long waited for may have been given to it while it is stopped. So a worker
//! is on its way in until it is on `threading`'s list, and on its way out from the moment when it
//! is taken off that until its state has ended.
//!
//! # Protocol
//!
//! 1. A worker that is about to come or go says so, and looks whether a fork is going on. If so, it
//!    takes back what it said, and waits, detached.
//! 2. Whoever is about to fork says so, and waits, detached, until no other thread is on its way, and
//!    until the main thread is in no call of CPython's list; see [`crate::nudge`].
//! 3. In the parent he takes that back; in the child, which has no other threads, all counts are 0.
//!
//! Steps 2 and 3 are called from [`crate::fork`]. Of two that come at once, at least one sees the other:
//! hence `SeqCst`. Nobody is woken here: the waits are of microseconds, at a fork, and a lock would have to
//! be repaired in the child.

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use asynctask::fork::ForkGeneration;
use asynctask::sync::Parker;
use pyo3::prelude::*;

static IN_TRANSITION: AtomicUsize = AtomicUsize::new(0);
static FORKING: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// How often the calling thread is counted in `IN_TRANSITION`: a fork does not wait for itself. What
    /// ends with a thread's `threading.local`s may fork.
    static OWN: Cell<usize> = const { Cell::new(0) };
}

/// Between two looks.
const PAUSE: Duration = Duration::from_micros(50);

/// The longest that a fork waits for workers, and a worker for forks. Neither need end by itself:
/// attaching does not once the interpreter goes away, and what users do at the end of a
/// `threading.local`, or in hooks of their own at a fork, may wait for the other side.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);

/// The calling thread is on its way in or out, and other threads' forks wait for it.
#[must_use]
pub(crate) struct InTransition {
    generation: ForkGeneration,
    /// It is the thread's own.
    _not_send: PhantomData<*const ()>,
}

impl InTransition {
    /// Step 1, for a thread that is about to attach.
    pub(crate) fn begin() -> Self {
        Self::begin_after(pause)
    }

    /// Step 1, for an attached thread.
    pub(crate) fn begin_attached(py: Python<'_>) -> Self {
        Self::begin_after(|| py.detach(pause)) // who forks needs the interpreter
    }

    fn begin_after(pause: impl Fn()) -> Self {
        let end = Instant::now() + PATIENCE;
        IN_TRANSITION.fetch_add(1, Ordering::SeqCst);
        while FORKING.load(Ordering::SeqCst) > 0 && Instant::now() < end {
            IN_TRANSITION.fetch_sub(1, Ordering::SeqCst);
            pause();
            IN_TRANSITION.fetch_add(1, Ordering::SeqCst);
        }
        OWN.set(OWN.get() + 1);
        Self {
            generation: ForkGeneration::current(),
            _not_send: PhantomData,
        }
    }
}

impl Drop for InTransition {
    fn drop(&mut self) {
        // A child has begun to count anew.
        if !self.generation.is_inherited() {
            OWN.set(OWN.get() - 1);
            IN_TRANSITION.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

/// Step 2, said: from here on whoever is about to come or go waits.
pub(crate) fn begin_fork() {
    FORKING.fetch_add(1, Ordering::SeqCst);
}

/// Whether a fork must wait: another thread is on its way.
pub(crate) fn is_any_in_transition() -> bool {
    IN_TRANSITION.load(Ordering::SeqCst) > OWN.get()
}

/// Whether someone is between steps 2 and 3.
pub(crate) fn is_forking() -> bool {
    FORKING.load(Ordering::SeqCst) > 0
}

/// Step 3, in the parent.
pub(crate) fn end_fork() {
    FORKING.fetch_sub(1, Ordering::SeqCst);
}

/// Step 3, in the child.
pub(crate) fn after_fork_in_child() {
    IN_TRANSITION.store(0, Ordering::SeqCst);
    OWN.set(0);
    FORKING.store(0, Ordering::SeqCst);
}

/// Waits for a moment; the caller looks again afterwards.
pub(crate) fn pause() {
    Parker::new().park(Instant::now().checked_add(PAUSE));
}
