//! An engine's parts, the reference that it moves, and what all ways to end a task have in common.
//!
//! The lowest of the engine's files that knows a [`Job`]: the others work on what stands here. The
//! fields are private to the engine.
#![forbid(unsafe_code)]

use std::any::Any;
use std::sync::Arc;

use super::awaited::Awaited;
use super::counters::{Counters, note_lost};
use super::deferred::DeferredDrops;
use super::elsewhere::RunsElsewhere;
use super::options::OnFull;
use super::registry::Registry;
use crate::clock::{Clock, Moment, Nanos, guarded};
use crate::fork::ForkGeneration;
use crate::pool::Pool;
use crate::series::Lost;
use crate::sync::{AtomicU64, Mutex, Ordering};
use crate::task::{Cancel, Phase, Task};
use crate::timer::Timer;

/// An owned reference to a task, as queue and wheel hold it.
///
/// `Token` is the proof that the calling thread may touch callbacks and results: a Python
/// interpreter's lock, or nothing at all. Whoever has no token never drops a job either.
pub trait Job: Sized + Send + 'static {
    /// The proof; see above.
    type Token<'a>: Copy;
    /// What a run gives.
    type Value;
    /// What a run that fails gives.
    type Failure;

    /// The task's state.
    fn task(&self) -> &Task;

    /// The engine that the task was posted to.
    fn engine(&self) -> &Arc<Engine<Self>>;

    /// Another reference to the same task.
    #[must_use]
    fn share(&self, token: Self::Token<'_>) -> Self;

    /// Calls the callback once, or has it called elsewhere. It may panic.
    fn call(&self, token: Self::Token<'_>) -> Outcome<Self::Value, Self::Failure>;

    /// Whom [`call`](Job::call) will hand the run over to, if to anybody:
    /// [`ANYWHERE`](super::ANYWHERE), or the number of somebody who may not get on while a certain
    /// thread waits, such as an event loop; see [`Engine::join_runs`]. The answer never changes.
    fn handed_to(&self) -> Option<u64> {
        None
    }

    /// What stands for a panic of [`call`](Job::call).
    fn panicked(&self, token: Self::Token<'_>, payload: Box<dyn Any + Send>) -> Self::Failure;

    /// What stands for the value of a series that ends between two runs, by the wall clock.
    fn value_of_no_run(&self, token: Self::Token<'_>) -> Self::Value;

    /// A run of a series failed, and the series goes on.
    fn run_failed(&self, token: Self::Token<'_>, failure: Self::Failure);

    /// The task is about to be over: the callback is needed no more, `result` is the last run's.
    /// Nobody can see the end yet. Called once.
    fn end(&self, token: Self::Token<'_>, result: Option<Result<Self::Value, Self::Failure>>);

    /// The task is over and everyone who waited has been woken. Called once, after `end`.
    fn ended(&self, token: Self::Token<'_>);
}

/// What came of one call of a callback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome<V, F> {
    /// It returned.
    Value(V),
    /// It failed.
    Failure(F),
    /// It failed, and so would every further run, for there is no place left to run in; that ends the
    /// task.
    Gone(F),
    /// It was cancelled where it ran; that ends the task.
    Cancelled,
    /// It is going on elsewhere. Whoever runs it there calls [`complete`](super::complete()), once.
    Elsewhere,
}

/// Pool, wheel and timer thread together.
pub struct Engine<J: Job> {
    pub(super) pool: Pool<J>,
    pub(super) timer: Timer<J>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) on_full: OnFull,
    pub(super) counters: Arc<Counters>,
    pub(super) series: Arc<Registry>,
    pub(super) deferred: Arc<DeferredDrops<J>>,
    pub(super) elsewhere: Awaited<RunsElsewhere>,
    /// The engine is closed, but tasks that wait for their deadline are still to run.
    pub(super) is_draining: Arc<Awaited<bool>>,
    /// What the last look at what series have lost has shown.
    pub(super) shown: Mutex<Lost>,
    pub(super) generation: ForkGeneration,
}

impl<J: Job> Engine<J> {
    /// The present, on this engine's clock.
    pub fn now(&self) -> Nanos {
        self.clock.now()
    }

    /// The present on this engine's clock and on the wall clock.
    pub fn moment(&self) -> Moment {
        Moment {
            now: self.clock.now(),
            wall: self.clock.wall(),
        }
    }

    /// The same, for what must not panic: where the clock does, no time has passed.
    pub(super) fn moment_or_origin(&self) -> Moment {
        guarded(|| self.moment()).unwrap_or_default()
    }

    /// The present for a run of `task`, which has to go on whatever the clock does: where reading it
    /// panics, it stands where the timer has seen it. The wall clock is read for those alone that
    /// follow it.
    pub(super) fn present(&self, task: &Task) -> Moment {
        present(&*self.clock, &self.counters, task)
    }

    /// Whether this process is a fork of the one that made the engine. Nothing else of the engine
    /// may be used then; see [`crate::fork`].
    pub fn is_inherited(&self) -> bool {
        self.generation.is_inherited()
    }

    /// Drops what threads without a token had to leave.
    #[inline]
    pub fn drop_deferred(&self, token: J::Token<'_>) {
        if !self.deferred.is_empty() {
            self.drop_all_deferred(token);
        }
    }

    #[cold]
    fn drop_all_deferred(&self, token: J::Token<'_>) {
        for job in self.deferred.take() {
            // What never found a worker says so in its handle. What was cancelled by somebody else on
            // its way to the queue was counted as a tombstone there, and never came.
            let was_cancelled = job.task().view().phase() == Phase::Cancelled;
            if job.task().stop(true) == Cancel::Now {
                Self::end_cancelled(&job, token, &self.counters.cancelled);
            } else if was_cancelled {
                self.pool.forget_tombstone();
            }
        }
    }

    /// A task is about to be over; what a series owes is lost.
    #[inline]
    pub(super) fn note_over(&self, task: &Task) {
        if task.is_series() {
            self.note_series_over(task);
        }
    }

    #[inline(never)]
    fn note_series_over(&self, task: &Task) {
        let note = |lost| note_lost(&self.counters, lost);
        if let Some(place) = task.close_series(self.present(task), note)
            && self.series.remove(place, task.follows_wall())
        {
            self.timer.recheck();
        }
    }

    pub(super) fn end_cancelled(job: &J, token: J::Token<'_>, counter: &AtomicU64) {
        let (engine, task) = (job.engine(), job.task());
        engine.note_over(task);
        job.end(token, None);
        let may_be_last = engine.counters.count_end(counter, 1);
        task.notify();
        job.ended(token);
        if may_be_last {
            engine.leave_if_finished(token);
        }
    }

    #[cold]
    pub(super) fn leave_if_finished(&self, _token: J::Token<'_>) {
        if self.counters.is_finished() {
            self.pool.release_workers(0);
            self.pool.finished();
            self.timer.recheck();
        }
    }
}

/// A job in the queue that nobody wants from there any more: it is over, or somebody who waited for
/// it runs it.
pub(super) fn is_tombstone<J: Job>(job: &J) -> bool {
    job.task().view().phase() != Phase::Pending
}

pub(super) fn present(clock: &dyn Clock, counters: &Counters, task: &Task) -> Moment {
    // Relaxed: a stand-in, in order with nothing.
    let now = guarded(|| clock.now()).unwrap_or_else(|| counters.last_due.load(Ordering::Relaxed));
    let wall = if task.follows_wall() {
        guarded(|| clock.wall()).unwrap_or_default()
    } else {
        0
    };
    Moment { now, wall }
}
