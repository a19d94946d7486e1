//! One run of a task, from its start to what comes of it.
//!
//! Called by runners, by whoever waits for a task on a worker, and by whoever ends a run that went on
//! elsewhere. It never waits, and never decides when a task runs.
//!
//! | outcome   | one-shot  | series that goes on | after its last run | series that was stopped |
//! |-----------|-----------|---------------------|--------------------|-------------------------|
//! | Value     | Finished  | Pending             | Finished           | Cancelled               |
//! | Failure   | Failed    | Pending, told       | Failed             | Cancelled, told         |
//! | Gone      | Failed    | Failed              | Failed             | Cancelled, told         |
//! | Cancelled | Cancelled | Cancelled           | Cancelled          | Cancelled               |
//! | Elsewhere | Running   | Running             | Running            | Running                 |
//!
//! Told: [`Job::run_failed`] gets the failure, for the result has no place for it. Elsewhere: until
//! [`complete`] brings one of the others. A series that the closing of its engine cuts short was stopped.
#![forbid(unsafe_code)]

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::counters::note_lost;
use super::state::{Engine, Job, Outcome, is_tombstone};
use super::timed::Arrival;
use crate::pool::Refused;
use crate::task::{Phase, Wakes};

/// How deep waits inside callbacks may nest on one stack: each level takes the frames from here to the
/// callback and from the callback to the next wait. Figures: `docs/design/engine.md`.
const INLINE_DEPTH: u32 = 32;

thread_local! {
    /// The tasks that wait on this thread's stack for the one that it runs.
    static INLINED: Cell<u32> = const { Cell::new(0) };
}

impl<J: Job> Engine<J> {
    /// On a worker of this engine, for a wait without a timeout: runs the task right here, if nobody
    /// has started it and it is due. `false`: the caller must wait for it.
    pub fn run_inline(&self, job: &J, token: J::Token<'_>) -> bool {
        let task = job.task();
        let view = task.view();
        if !self.pool.is_worker() || view.is_series() || view.phase() != Phase::Pending {
            return false;
        }
        let depth = INLINED.get();
        if depth >= INLINE_DEPTH {
            return false;
        }
        if task.was_on_wheel() && self.timer.holds(job) {
            return false;
        }
        if !task.start() {
            return false;
        }
        let cleared = self.pool.note_tombstone(is_tombstone);
        INLINED.set(depth + 1);
        run_started(job.share(token), token, &mut Wakes::default()); // it does not unwind
        INLINED.set(depth);
        drop(cleared);
        true
    }
}

/// Runs a job that was taken out of the queue, unless somebody was faster.
///
/// Gives those who waited for it, for the runner to wake before its next run at the latest.
///
/// For runners; `token` proves that the thread may run callbacks.
pub fn run<J: Job>(job: J, token: J::Token<'_>) -> Wakes {
    let mut wakes = Wakes::default();
    if job.task().start() {
        run_started(job, token, &mut wakes);
    } else {
        job.engine().pool.forget_tombstone();
    }
    wakes
}

fn run_started<J: Job>(job: J, token: J::Token<'_>, wakes: &mut Wakes) {
    let task = job.task();
    if task.is_series() {
        let engine = job.engine();
        let note = |lost| note_lost(&engine.counters, lost);
        if !task.begin_run(engine.present(task), note) {
            // By the wall clock its end has come.
            let value = job.value_of_no_run(token);
            return end_after(0, &job, token, Some(Ok(value)), wakes);
        }
    }
    let handed_to = job.handed_to();
    if let Some(place) = handed_to {
        // Before the call: the run may come back before the call does.
        job.engine().elsewhere.set(|runs| {
            runs.add(place);
            false
        });
    }
    let outcome = catch_unwind(AssertUnwindSafe(|| job.call(token)))
        .unwrap_or_else(|payload| Outcome::Failure(job.panicked(token, payload)));
    if job.engine().is_inherited() {
        // The callback has forked, and this is the child: the task is the parent's to end.
        std::mem::forget(job);
        return;
    }
    match outcome {
        Outcome::Elsewhere => {} // and with it the task: this reference is no longer needed
        outcome if handed_to.is_some() => complete(job, token, outcome),
        outcome => end_run(job, token, outcome, wakes),
    }
}

/// Ends a run that went on elsewhere. Called once for each [`Outcome::Elsewhere`], by any thread.
pub fn complete<J: Job>(job: J, token: J::Token<'_>, outcome: Outcome<J::Value, J::Failure>) {
    let engine = Arc::clone(job.engine());
    let handed_to = job.handed_to();
    end_run(job, token, outcome, &mut Wakes::default());
    if let Some(place) = handed_to {
        engine.elsewhere.set(|runs| runs.remove(place));
    }
}

fn end_run<J: Job>(
    job: J,
    token: J::Token<'_>,
    outcome: Outcome<J::Value, J::Failure>,
    wakes: &mut Wakes,
) {
    let is_series = job.task().view().is_series();
    let result = match outcome {
        Outcome::Value(value) => Ok(value),
        Outcome::Failure(failure) => Err(failure),
        Outcome::Gone(failure) => {
            let is_stopped = is_series && job.task().is_stopped();
            return end(&job, token, Err(failure), is_stopped, wakes);
        }
        Outcome::Cancelled => return end_after(1, &job, token, None, wakes),
        Outcome::Elsewhere => unreachable!("a run that goes on has not ended"),
    };
    if is_series {
        end_series_run(job, token, result, wakes);
    } else {
        end(&job, token, result, false, wakes);
    }
}

fn end_series_run<J: Job>(
    job: J,
    token: J::Token<'_>,
    result: Result<J::Value, J::Failure>,
    wakes: &mut Wakes,
) {
    let engine = Arc::clone(job.engine());
    let handle = job.share(token);
    let task = handle.task();
    let (now, failed) = (engine.present(task), result.is_err());
    let back = engine.timer.insert(job, Arrival::RunEnded { now, failed });
    match back {
        Ok(None) => {
            if let Err(failure) = result {
                handle.run_failed(token, failure);
            }
            task.notify();
        }
        // It was stopped, or this was its last run.
        Ok(Some(job)) => end(&job, token, result, task.is_stopped(), wakes),
        // The engine is closed: nothing else is a reason, for a series has its timer thread until it
        // is over. What would have gone on is cut short, and says so.
        Err(Refused { job, .. }) => {
            let note = |lost| note_lost(&engine.counters, lost);
            let goes_on = task.end_run(now, failed, note).is_some();
            end(&job, token, result, goes_on || task.is_stopped(), wakes);
        }
    }
}

/// Ends a running task.
pub(super) fn end<J: Job>(
    job: &J,
    token: J::Token<'_>,
    result: Result<J::Value, J::Failure>,
    stopped: bool,
    wakes: &mut Wakes,
) {
    let result = match result {
        // What a stopped series last returned is nobody's; that it failed is still news.
        Err(failure) if stopped => {
            job.run_failed(token, failure);
            None
        }
        Ok(_) if stopped => None,
        result => Some(result),
    };
    end_after(1, job, token, result, wakes);
}

/// Ends a task whose thread it is to end it, with so many runs more. Without a result it is cancelled.
fn end_after<J: Job>(
    runs: u64,
    job: &J,
    token: J::Token<'_>,
    result: Option<Result<J::Value, J::Failure>>,
    wakes: &mut Wakes,
) {
    let (engine, task) = (job.engine(), job.task());
    let counters = &engine.counters;
    let (phase, counter) = match &result {
        Some(Ok(_)) => (Phase::Finished, &*counters.successful),
        Some(Err(_)) => (Phase::Failed, &counters.failed),
        None => (Phase::Cancelled, &counters.cancelled),
    };
    engine.note_over(task);
    job.end(token, result);
    let may_be_last = counters.count_end(counter, 1);
    task.finish_after(runs, phase, wakes);
    if task.is_watched() {
        wakes.now(); // what comes next may take any time
    }
    job.ended(token);
    if may_be_last {
        engine.leave_if_finished(token);
    }
}
