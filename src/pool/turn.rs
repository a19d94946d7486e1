//! Whose turn it is, and since when it has its present job; see [Turns](super#turns).
//!
//! Owned by a pool's state, and used under its lock. It decides nothing but how often to read the
//! clock, which takes a fifth of what a short job takes.
#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

/// The clock is read for one in so many jobs more, as long as jobs are [`SHORT`].
const SKIPPED: u32 = 8;

/// Eight of these are nothing beside the time slice that a job's age is held against.
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
        let is_short = self
            .since
            .is_some_and(|since| now.duration_since(since) < SHORT * (self.skipped + 1));
        self.may_skip = if is_short { SKIPPED } else { 0 };
        self.skipped = 0;
        self.since = Some(now);
    }

    /// Whether the job that has the turn is younger than that.
    pub(super) fn is_younger_than(&self, age: Duration) -> bool {
        self.since.is_some_and(|since| since.elapsed() < age)
    }
}
