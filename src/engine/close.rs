//! How an engine ends: closed, drained, released, joined.
//!
//! | call         | new tasks | queued                      | on the wheel                                        |
//! |--------------|-----------|-----------------------------|-----------------------------------------------------|
//! | `close`      | refused   | run (`drain`), or cancelled | cancelled                                           |
//! | `close_with` | refused   | run (`drain`), or cancelled | cancelled, run now, or waited for; series cancelled |
//! | `fail_all`   | refused   | failed                      | failed                                              |
//! | `release`    | none come | run                         | run when due, series too                            |
//!
//! The threads leave when nothing is left to run. Only the joins wait for that.
#![forbid(unsafe_code)]

use std::time::Instant;

use super::elsewhere::{ANYWHERE, RunsElsewhere};
use super::options::Delayed;
use super::run::end;
use super::state::{Engine, Job};
use crate::clock::guarded;
use crate::error::Error;
use crate::sync::Ordering;
use crate::task::{Cancel, Wakes};

impl<J: Job> Engine<J> {
    /// Refuses further tasks and cancels those on the wheel. With `drain` the queue is still worked
    /// off, otherwise what is in it is cancelled too. It does not wait for workers; see
    /// [`join`](Self::join). May be called again, by anyone, also from a callback.
    ///
    /// `false`: a task was cut short, that is, cancelled though it would have run. A series has no end
    /// of its own: to be stopped is how it ends, and cuts nothing short.
    pub fn close(&self, drain: bool, token: J::Token<'_>) -> bool {
        // The timer first: what is on its way to the queue still gets there.
        let pending = self.timer.close();
        let queued = self.pool.close(drain);
        let is_whole = self.cancel_all(pending.iter().chain(&queued), token);
        self.is_draining.set(drained);
        self.drop_deferred(token);
        is_whole
    }

    /// Like [`close`](Self::close), with a say about those on the wheel. May be called again with
    /// less patience; what has been cancelled stays so.
    pub fn close_with(&self, drain: bool, delayed: Delayed, token: J::Token<'_>) -> bool {
        let at_once = match delayed {
            Delayed::Cancel => return self.close(drain, token),
            Delayed::Run => Some(guarded(|| self.clock.now()).unwrap_or(0)),
            Delayed::Wait => None,
        };
        // In this order: when the last one has left the wheel, the timer thread takes it back.
        self.is_draining.set(|is_draining| {
            *is_draining = true;
            false
        });
        let queued = self.pool.refuse(drain);
        let (left, is_empty) = self.timer.refuse(at_once);
        let is_whole = self.cancel_all(left.iter().chain(&queued), token);
        if is_empty {
            self.pool.close(true);
            self.is_draining.set(drained);
        }
        self.drop_deferred(token);
        is_whole
    }

    /// `false`: there was more than series among them.
    fn cancel_all<'a>(&self, jobs: impl Iterator<Item = &'a J>, token: J::Token<'_>) -> bool
    where
        J: 'a,
    {
        let mut is_whole = true;
        for job in jobs {
            if job.task().stop(true) == Cancel::Now {
                is_whole &= job.task().view().is_series();
                Self::end_cancelled(job, token, &self.counters.cancelled);
            }
        }
        is_whole
    }

    /// Closes the engine and ends everything that waits, on the wheel and in the queue, as failed
    /// with what `failure` makes.
    pub fn fail_all(&self, token: J::Token<'_>, failure: &dyn Fn() -> J::Failure) {
        let pending = self.timer.close();
        let queued = self.pool.close(false);
        for job in pending.iter().chain(&queued) {
            if job.task().start() {
                end(job, token, Err(failure()), false, &mut Wakes::default());
            }
        }
        self.is_draining.set(drained);
        self.drop_deferred(token);
    }

    /// Says that nobody will post any more. What has been posted runs as it would have; of the workers
    /// that have nothing to do one stays while a task is left, for the sake of series, and when the
    /// last is over, all threads leave at once.
    pub fn release(&self, token: J::Token<'_>) {
        self.drop_deferred(token);
        // SeqCst: see `Counters::count_end`.
        self.counters.is_released.store(true, Ordering::SeqCst);
        self.pool.release_workers(1);
        self.leave_if_finished(token);
    }

    /// Whether [`release`](Self::release) was called.
    pub fn is_released(&self) -> bool {
        self.counters.is_released.load(Ordering::SeqCst)
    }

    /// Whether every task is over. Exact where nobody is posting.
    pub fn is_finished(&self) -> bool {
        self.counters.is_finished()
    }

    /// Sleeps until every worker has ended and every run that was handed over has come back; the
    /// engine must be closed. On one of its own workers it does not wait, for it would wait for
    /// itself; on another's, see [`Pool::join`](crate::pool::Pool::join).
    ///
    /// # Errors
    /// [`Error::TimedOut`] when `deadline` passes first, [`Error::Interrupted`].
    pub fn join(
        &self,
        deadline: Option<Instant>,
        interrupted: &mut dyn FnMut() -> bool,
    ) -> Result<(), Error> {
        self.join_workers(deadline, interrupted)?;
        self.join_runs(&[], deadline, interrupted)
    }

    /// The first half of [`join`](Self::join): until what was accepted has left the wheel and the
    /// queue, and every worker has ended.
    ///
    /// # Errors
    /// As for [`join`](Self::join).
    pub fn join_workers(
        &self,
        deadline: Option<Instant>,
        interrupted: &mut dyn FnMut() -> bool,
    ) -> Result<(), Error> {
        if self.pool.is_worker() {
            return Ok(());
        }
        self.is_draining
            .wait(|is_draining| !is_draining, deadline, interrupted)?;
        self.pool.join(deadline, interrupted)
    }

    /// The second half of [`join`](Self::join): until every run that was handed over has come back,
    /// but for those of the `stalled`, who cannot get on while the caller waits; see
    /// [`Job::handed_to`].
    ///
    /// # Errors
    /// As for [`join`](Self::join).
    pub fn join_runs(
        &self,
        stalled: &[u64],
        deadline: Option<Instant>,
        interrupted: &mut dyn FnMut() -> bool,
    ) -> Result<(), Error> {
        if self.pool.is_worker() {
            return Ok(());
        }
        self.elsewhere
            .wait(|runs| runs.has_only(stalled), deadline, interrupted)
    }

    /// Whether any run was handed to somebody who has a number, and has not come back.
    pub fn has_placed_runs(&self) -> bool {
        self.elsewhere.get(|runs| !runs.has_only(&[ANYWHERE]))
    }

    /// The number of runs that were handed over and have not come back.
    pub fn runs_elsewhere(&self) -> usize {
        self.elsewhere.get(RunsElsewhere::len)
    }
}

/// Nothing waits for its deadline any more in an engine that is closed; whoever waits for that may go on.
pub(super) fn drained(is_draining: &mut bool) -> bool {
    *is_draining = false;
    true
}
