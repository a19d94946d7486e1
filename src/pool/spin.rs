//! When a thread that has nothing to do stays awake for a moment.
//!
//! Owned by a pool. It decides whether to spin, and for how long; the sleeping is the parker's, and
//! who is woken the pool's. It never holds a lock.
//!
//! Waking a thread costs its waker a system call, and where the other processor sleeps as well, ten times
//! as long passes until the thread runs. A caller that submits, waits for the result, and submits again
//! pays that twice; where both threads are awake, next to nothing. But a thread that spins
//! takes a processor away from others, so it must be likely that something comes:
//!
//! - *A worker that has nothing left to do* spins if the last pause between two jobs was shorter
//!   than [`DENSE`], and if no other worker of the pool does. One wasted spin is followed by another
//!   only after another short pause, so jobs that come once in a while cost nothing, and the end of a
//!   busy time one [`WORKER_SPIN`].
//! - *Who waits for a task* spins if the worker that was last woken was met awake. Otherwise
//!   that worker is being woken, quite often on the very processor that the wait is on, and the spin
//!   would keep it from running.
//!
//! Neither does if the other is, or was last seen, on the same processor: on a machine that is busy
//! with other things the system puts two threads that wake each other there, and then the one that
//! spins keeps the other from running.
//!
//! # The hold-off
//!
//! Where jobs run under an interpreter's lock, the poster holds that lock. A worker that is awake
//! would reach for it a moment too early, and be put to sleep by the system until the poster releases it:
//! worse than not to have been awake. So:
//!
//! 1. The poster, under the pool's lock, notes for the worker how often anyone has released the lock.
//! 2. It makes the token available; the worker, awake, takes it.
//! 3. The worker waits until the count is no longer what is noted, at most [`HOLD_OFF`].
//! 4. The poster, as it begins to wait for a task, has released the lock; it counts, and spins.
//!
//! The race: step 4 before step 3. The count has changed then, and the worker does not wait. Other
//! releases count as well; then the worker is early, which costs time and nothing else.
//!
//! What it is worth, and how the durations were chosen: `docs/design/pool.md`.
#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::sync::{Parker, processor};

/// Jobs that come so close to each other make it likely that the next is near. It must be longer than it
/// takes to wake a waiter on a sleeping processor, or two threads that sleep and wake each other would
/// never find out that they need not.
const DENSE: Duration = Duration::from_micros(150);

/// How long a worker spins: what it takes to be woken.
const WORKER_SPIN: Duration = Duration::from_micros(50);

/// How long a wait for a task spins: ten short runs. Where the run is long, this much is lost.
const WAITER_SPIN: Duration = Duration::from_micros(20);

/// How long a worker gives a poster to release the lock that jobs run under: ten times what a poster needs
/// that goes on to wait for the result. Another keeps the lock for as long as it likes, and this much is
/// lost.
const HOLD_OFF: Duration = Duration::from_micros(5);

/// What a pool knows about who is awake.
pub(super) struct Spin {
    /// There is another processor for the thread that is waited for.
    is_useful: bool,
    /// A worker spins.
    is_taken: AtomicBool,
    /// The worker that was last woken was met awake.
    met_awake: AtomicBool,
    /// How often a caller has released the lock that jobs run under, to wait.
    releases: AtomicU64,
    /// The processor that the last worker was woken from, and that the last worker to spin was on.
    waker_on: AtomicUsize,
    spinner_on: AtomicUsize,
}

impl Spin {
    pub(super) fn new() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            is_useful: cfg!(not(loom)) && processors > 1,
            is_taken: AtomicBool::new(false),
            met_awake: AtomicBool::new(false),
            releases: AtomicU64::new(0),
            waker_on: AtomicUsize::new(usize::MAX),
            spinner_on: AtomicUsize::new(usize::MAX),
        }
    }

    /// Whether a worker is to spin, given how long it had nothing to do the last time.
    pub(super) fn expects(&self, pause: Duration) -> bool {
        self.is_useful && pause < DENSE
    }

    /// Makes the calling worker the one that spins. It must be before anyone can wake it, or who
    /// does would take it to be about to sleep. `false`: it is not to.
    pub(super) fn claim(&self) -> bool {
        // Relaxed, here and below: hints, which order nothing. What they lead to is behind the
        // pool's lock.
        let here = processor();
        if here == self.waker_on.load(Ordering::Relaxed)
            || self.is_taken.swap(true, Ordering::Relaxed)
        {
            return false;
        }
        self.spinner_on.store(here, Ordering::Relaxed);
        true
    }

    /// Spins, having claimed it, for the token of the worker's parker. `true`: it is there.
    pub(super) fn for_job(&self, parker: &Parker) -> bool {
        let is_there = parker.spin(WORKER_SPIN);
        self.is_taken.store(false, Ordering::Relaxed);
        is_there
    }

    /// How long a wait for a task is to spin. The caller has released the lock that jobs run under.
    pub(super) fn before_wait(&self) -> Duration {
        self.releases.fetch_add(1, Ordering::Relaxed);
        if self.met_awake.load(Ordering::Relaxed) {
            WAITER_SPIN
        } else {
            Duration::ZERO
        }
    }

    /// Notes whether the worker that this thread has just woken was asleep.
    pub(super) fn met(&self, asleep: bool) {
        if !self.is_useful {
            return;
        }
        let here = processor();
        self.waker_on.store(here, Ordering::Relaxed);
        // A worker that is not asleep may be just about to, and not even running.
        let awake = !asleep
            && self.is_taken.load(Ordering::Relaxed)
            && self.spinner_on.load(Ordering::Relaxed) != here;
        self.met_awake.store(awake, Ordering::Relaxed);
    }

    /// What step 1 notes.
    pub(super) fn release_count(&self) -> u64 {
        self.releases.load(Ordering::Relaxed)
    }

    /// Step 3.
    pub(super) fn hold_off(&self, noted: u64) {
        let start = Instant::now();
        while self.release_count() == noted && start.elapsed() < HOLD_OFF {
            std::hint::spin_loop();
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn on_two_processors() -> Spin {
        Spin {
            is_useful: true,
            ..Spin::new()
        }
    }

    #[test]
    fn jobs_far_apart_make_nobody_spin() {
        let spin = on_two_processors();
        assert!(spin.expects(DENSE / 2));
        assert!(!spin.expects(DENSE));
        let alone = Spin {
            is_useful: false,
            ..Spin::new()
        };
        assert!(!alone.expects(Duration::ZERO));
    }

    #[test]
    fn a_wait_spins_only_if_the_worker_was_met_awake_on_another_processor() {
        let spin = on_two_processors();
        spin.met(true);
        assert_eq!(spin.before_wait(), Duration::ZERO, "it was asleep");
        spin.met(false);
        assert_eq!(spin.before_wait(), Duration::ZERO, "it was about to sleep");
        spin.is_taken.store(true, Ordering::Relaxed);
        spin.spinner_on.store(usize::MAX, Ordering::Relaxed);
        spin.met(false);
        assert_eq!(spin.before_wait(), WAITER_SPIN);
        spin.met(true);
        assert_eq!(spin.before_wait(), Duration::ZERO, "it was asleep again");
    }

    #[test]
    fn no_more_than_one_worker_spins_and_not_on_the_processor_that_it_was_woken_from() {
        let spin = on_two_processors();
        let parker = Parker::new();
        parker.unpark();
        assert!(spin.claim());
        assert!(!spin.claim(), "another one spins");
        assert!(spin.for_job(&parker), "the token is there");
        // Whichever it is now: nothing keeps this thread on a processor.
        let tries = (0..1_000).filter(|_| {
            spin.waker_on.store(processor(), Ordering::Relaxed);
            spin.claim() && spin.for_job(&parker)
        });
        assert!(tries.count() < 1_000, "it spins where it was woken from");
    }

    #[test]
    fn the_hold_off_ends_when_somebody_has_let_go() {
        let spin = on_two_processors();
        let noted = spin.release_count();
        std::thread::scope(|scope| {
            scope.spawn(|| spin.before_wait());
            while spin.release_count() == noted {
                spin.hold_off(noted);
            }
        });
        spin.hold_off(noted); // and at once where that was before
        assert_ne!(spin.release_count(), noted);
    }
}
