//! Whose turn it is where jobs run under an interpreter's lock, and since when it has its present job.
//!
//! Owned by a pool's state, and used under its lock. It decides nothing but how often to read the
//! clock: which worker goes on is [`Worker::take`](super::Worker::take)'s to decide.
//!
//! # Turns
//!
//! Under an interpreter's lock only one worker at a time makes progress. When a job releases the lock
//! by itself, to sleep or to read, the next worker should have it. When a job is only made to release
//! it, to be fair to other threads, one worker more is one thread more that contends for it, and soon
//! all of them do, against each other and against the rest of the program. The pool cannot see which it
//! was, but it can tell afterwards:
//!
//! 1. The worker that arrives has the turn from then on.
//! 2. One that comes back from a job and still has the turn goes on.
//! 3. One that finds that another has the turn goes on, and takes it back, if the other's job is
//!    young: it cannot have been made to release the lock yet, so it has released it by itself.
//!    Otherwise the worker goes idle, and leaves the queue to those who have the turn and are coming.
//! 4. One that has released the lock between two jobs, to be fair, never takes the turn back.
//!
//! So no more than two contend for the lock: the one whose turn it is and the one that is coming,
//! besides those whose jobs are cut short, each until the end of its job.
#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

/// So many jobs are begun without a look at the clock, as long as jobs are [`SHORT`]: the look takes a
/// fifth of what such a job takes.
const SKIPPED: u32 = 8;

/// [`SKIPPED`] of these are nothing beside the time slice that a job's age is compared with.
const SHORT: Duration = Duration::from_micros(2);

/// The worker that has the turn, and its job.
#[derive(Default)]
pub(super) struct Turn {
    /// Its number.
    pub(super) holder: u64,
    /// When its present job began, or a few short jobs before; `None` where nobody will ask.
    since: Option<Instant>,
    skipped: u32,
    may_skip: u32,
}

impl Turn {
    /// A job begins. `is_contended`: others have one too, and may come back and ask for its age.
    pub(super) fn begin(&mut self, is_contended: bool) {
        if !is_contended {
            self.since = None;
            return;
        }
        if self.since.is_some() && self.skipped < self.may_skip {
            self.skipped += 1;
            return;
        }
        let now = Instant::now();
        let lacks_thread = self
            .since
            .is_some_and(|since| now.duration_since(since) < SHORT * (self.skipped + 1));
        self.may_skip = if lacks_thread { SKIPPED } else { 0 };
        self.skipped = 0;
        self.since = Some(now);
    }

    /// Whether the job that has the turn is younger than that.
    pub(super) fn is_younger_than(&self, age: Duration) -> bool {
        self.since.is_some_and(|since| since.elapsed() < age)
    }
}
