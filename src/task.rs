//! The state of one task: its phase, its runs, who waits for it.
//!
//! Owned by the task's handle and by whoever holds the task at the moment; all of them share it, and
//! it is the only thing they share. It calls no callback, holds none, and knows neither pool nor
//! timer: [`crate::engine`] moves tasks about and asks here who has won.
//!
//! # State table
//!
//! | phase     | held by                | who may leave it                    | to                         |
//! |-----------|------------------------|-------------------------------------|----------------------------|
//! | Pending   | wheel, queue, or on    | a worker, or who waits for it       | Running                    |
//! |           | its way between them   | who cancels or stops                | Cancelled                  |
//! |           |                        | the timer thread (bare tasks only)  | Pending, Finished          |
//! | Running   | one thread             | that thread                         | Finished, Failed, Pending, |
//! |           |                        |                                     | Cancelled                  |
//! | Finished, | nobody                 | nobody                              |                            |
//! | Failed,   |                        |                                     |                            |
//! | Cancelled |                        |                                     |                            |
//!
//! A series is cancelled from Running when it was stopped meanwhile, a one-shot when its run was cancelled
//! where it went on, as a coroutine's is. Of these changes the timer's lock is held for Running to
//! Pending alone, so that the task is on the wheel when it is seen to wait.
//!
//! The whole state is one 64-bit word: phase, flags, and the number of runs that have ended. One
//! word, so that "the third run has ended", "it waits again" and "somebody is waiting for this"
//! are seen together or not at all.
//!
//! # Cancel against start
//!
//! Both are one compare-exchange from Pending; one of them wins. A task that was cancelled in the
//! queue stays there as a tombstone until a worker pops it, fails to start it, and drops it.
//!
//! # Finish against wait
//!
//! The waiter: (1) takes the lock, puts itself on the list; (2) sets WAITED, which gives it the
//! word as it then was; (3) goes to sleep only if that word does not satisfy it.
//! The finisher: (4) changes the word; (5) if the old word had WAITED, takes the lock and
//! takes those off the list whom the new word satisfies, to be woken ([`Wakes`]).
//! The race: a finish between (1) and (3). Steps 2 and 4 write the same word, so one comes first.
//! If 2, the finisher sees WAITED and finds the waiter on the list, for it was put there before.
//! If 4, the waiter sees the new word and does not sleep.
#![forbid(unsafe_code)]

#[cfg(all(test, loom))]
mod loom_tests;
#[cfg(all(test, not(loom)))]
mod tests;
mod waiters;
mod word;

pub use self::waiters::{Goal, Wakes};
pub use self::word::{Phase, View};

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::waiters::Waiters;
use self::word::{
    BARE, CANCEL, ONE_RUN, SERIES, STOP, URGENT, WAITED, WALL, WATCHED, in_phase, is_in,
};
use crate::clock::{Moment, Nanos};
use crate::error::Error;
use crate::series::{Lost, Series};
use crate::sync::{AtomicU64, Mutex, Ordering, Parker, Wake, lock};

/// What a cancel or a stop found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancel {
    /// It was pending and is now cancelled; the caller ends it and takes it out of where it waits.
    Now,
    /// It is a series in a run; it ends with that run.
    AfterRun,
    /// It is a one-shot in its only run, which goes on.
    Running,
    /// It was over before.
    Over,
}

/// The shared state of one task.
///
/// Thread-safe; every method may be called from any thread at any time, unless it says otherwise.
#[derive(Debug)]
pub struct Task {
    word: AtomicU64,
    /// The wheel's key, zero for none. Written under the timer's lock; stale once the task has left
    /// the wheel, which is harmless, for the wheel tells stale keys from live ones.
    key: AtomicU64,
    /// What few tasks have. Under this lock only that of the task's series is taken, and nothing is
    /// called.
    extras: Mutex<Option<Box<Extras>>>,
}

/// A series, shared with its engine, which wants to know what it has lost so far; a leaf lock.
pub(crate) type SharedSeries = Arc<Mutex<Series>>;

#[derive(Default)]
struct Extras {
    waiters: Waiters,
    series: Option<SharedSeries>,
}

impl fmt::Debug for Extras {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Extras")
            .field("waiters", &self.waiters.len())
            .field("is_series", &self.series.is_some())
            .finish()
    }
}

impl Task {
    /// A task that runs once.
    pub fn one_shot() -> Self {
        Self::with(0, None)
    }

    /// A task that runs once, when it is due, even if every worker is busy: for what is short, and
    /// comes too late when it has to wait.
    pub fn urgent() -> Self {
        Self::with(URGENT, None)
    }

    /// A task without a callback that is over as soon as it is due.
    pub fn bare() -> Self {
        Self::with(BARE | URGENT, None)
    }

    /// A task that runs over and over.
    pub fn series(series: Series) -> Self {
        Self::of_series(0, series)
    }

    /// A series without a callback, which only counts.
    pub fn bare_series(series: Series) -> Self {
        Self::of_series(BARE | URGENT, series)
    }

    fn of_series(flags: u64, series: Series) -> Self {
        let wall = if series.follows_wall() { WALL } else { 0 };
        let extras = Extras {
            waiters: Waiters::default(),
            series: Some(Arc::new(Mutex::new(series))),
        };
        Self::with(flags | SERIES | wall, Some(Box::new(extras)))
    }

    fn with(flags: u64, extras: Option<Box<Extras>>) -> Self {
        Self {
            word: AtomicU64::new(flags),
            key: AtomicU64::new(0),
            extras: Mutex::new(extras),
        }
    }

    /// The present state.
    pub fn view(&self) -> View {
        // Acquire: who reads that a task is over also reads its result.
        View(self.word.load(Ordering::Acquire))
    }

    /// Makes the timer thread leave the end of a bare task to a worker, from now on.
    pub fn watch(&self) {
        // Relaxed: the caller registers under its own lock and looks at the phase again there.
        self.word.fetch_or(WATCHED, Ordering::Relaxed);
    }

    /// Whether it must not wait until a worker is free.
    pub(crate) fn is_urgent(&self) -> bool {
        // Relaxed: the flag never changes.
        self.word.load(Ordering::Relaxed) & URGENT != 0
    }

    /// Whether [`watch`](Self::watch) was called.
    pub fn is_watched(&self) -> bool {
        self.word.load(Ordering::Relaxed) & WATCHED != 0
    }

    pub(crate) fn key(&self) -> u64 {
        // Relaxed, here and below: read and written under the timer's lock.
        self.key.load(Ordering::Relaxed)
    }

    pub(crate) fn set_key(&self, key: u64) {
        self.key.store(key, Ordering::Relaxed);
        if self.follows_wall() {
            self.tell_key(key);
        }
    }

    #[cold]
    fn tell_key(&self, key: u64) {
        self.with_series(|series| series.key = key);
    }

    /// Whether the wall clock may end it.
    pub(crate) fn follows_wall(&self) -> bool {
        // Relaxed: the flag never changes.
        self.word.load(Ordering::Relaxed) & WALL != 0
    }

    /// Whether the task was ever put on the wheel; may be called without the timer's lock by who
    /// knows that the task was posted.
    pub(crate) fn was_on_wheel(&self) -> bool {
        self.key.load(Ordering::Relaxed) != 0
    }

    /// Pending → Running. `false`: somebody cancelled it, or runs it already.
    ///
    /// The caller is the thread that runs it.
    pub(crate) fn start(&self) -> bool {
        // Acquire: the thread that runs a task sees what was written before it was posted, or by
        // the thread that ran it before.
        self.update(|word| is_in(word, Phase::Pending).then_some(in_phase(word, Phase::Running)))
            .is_some()
    }

    /// Tells a series that its run starts now. `false`: it must not, and the series is over.
    pub(crate) fn begin_run(&self, now: Moment, note: impl FnOnce(Lost)) -> bool {
        self.with_series(|series| {
            let begins = series.begin(now);
            if series.has_lost() {
                note(series.take_lost());
            }
            begins
        })
        .unwrap_or(true)
    }

    /// Tells a series that its run ended now. `None`: it was the last run, or the task is no series.
    pub(crate) fn end_run(
        &self,
        now: Moment,
        failed: bool,
        note: impl FnOnce(Lost),
    ) -> Option<Nanos> {
        let view = self.view();
        if view.0 & STOP != 0 {
            return None;
        }
        self.with_series(|series| {
            let next = series.end(now, view.runs() + 1, failed);
            if series.has_lost() {
                note(series.take_lost());
            }
            next
        })
        .flatten()
    }

    /// Running → Pending, and one run more. `false`: the series was stopped meanwhile.
    ///
    /// Called by the running thread under the timer's lock, so that who cancels from Pending finds
    /// the task on the wheel.
    pub(crate) fn wait_again(&self) -> bool {
        let updated = self.update(|word| {
            debug_assert!(is_in(word, Phase::Running), "waits again: {:?}", View(word));
            (word & STOP == 0).then_some(in_phase(word & !CANCEL, Phase::Pending) + ONE_RUN)
        });
        updated.is_some()
    }

    /// [`finish_after`](Self::finish_after) one run.
    #[cfg(test)]
    pub(crate) fn finish(&self, phase: Phase, wakes: &mut Wakes) {
        self.finish_after(1, phase, wakes);
    }

    /// Running → over, in one of the last three phases, with so many runs more. Called by the running
    /// thread, once, after it has put away the result.
    pub(crate) fn finish_after(&self, runs: u64, phase: Phase, wakes: &mut Wakes) {
        let old = self.update(|word| {
            debug_assert!(is_in(word, Phase::Running), "finishes: {:?}", View(word));
            let new = in_phase(word, phase);
            debug_assert!(View(new).is_over(), "{phase:?} is no end");
            Some(new + runs * ONE_RUN)
        });
        self.collect(old.expect("every word was accepted"), wakes);
    }

    /// Whether it has no callback.
    pub(crate) fn is_bare(&self) -> bool {
        // Relaxed: the flag never changes.
        self.word.load(Ordering::Relaxed) & BARE != 0
    }

    /// Whether it was asked not to run again.
    pub(crate) fn is_stopped(&self) -> bool {
        self.word.load(Ordering::Acquire) & STOP != 0
    }

    /// Asks the task not to run again; with `cancel`, also its current run to give up.
    ///
    /// After [`Cancel::Now`] the caller must call [`notify`](Self::notify).
    pub(crate) fn stop(&self, cancel: bool) -> Cancel {
        let mut found = Cancel::Over;
        let flags = if cancel { STOP | CANCEL } else { STOP };
        self.update(|word| {
            found = if is_in(word, Phase::Pending) {
                Cancel::Now
            } else if !is_in(word, Phase::Running) {
                Cancel::Over
            } else if word & SERIES != 0 {
                Cancel::AfterRun
            } else {
                Cancel::Running
            };
            match found {
                Cancel::Now => Some(in_phase(word, Phase::Cancelled) | flags),
                Cancel::AfterRun | Cancel::Running => Some(word | flags),
                Cancel::Over => None,
            }
        });
        found
    }

    /// Wakes whom the present state satisfies: after a run of a series, and after a cancel that took
    /// effect, when its result was put away.
    pub(crate) fn notify(&self) {
        let word = self.word.load(Ordering::Acquire);
        if word & WAITED != 0 {
            self.collect(word, &mut Wakes::default());
        }
    }

    /// Pending → Pending or Finished in one step: a bare task's run, on the timer thread.
    ///
    /// `Ok` has the next deadline, or `None` when the task is over. `Err`: it has a callback, was
    /// cancelled, or somebody watches its end, so a worker must take it.
    pub(crate) fn end_bare_run(
        &self,
        now: Moment,
        note: impl Fn(Lost),
    ) -> Result<Option<Nanos>, ()> {
        let view = self.view();
        if view.0 & BARE == 0 || view.phase() != Phase::Pending {
            return Err(());
        }
        let series = self.with_series(|series| {
            let begins = series.begin(now);
            let next = series.end(now, view.runs() + 1, false);
            note(series.take_lost());
            (begins, next)
        });
        let (has_run, next) = series.unwrap_or((true, None));
        let run = if has_run { ONE_RUN } else { 0 };
        let updated = self.update(|word| match (View(word).phase(), next) {
            (Phase::Pending, Some(_)) => Some(word + run),
            // Decided in the word itself, so that who calls `watch` and then finds the task not
            // over is certain that a worker will end it.
            (Phase::Pending, None) if word & WATCHED == 0 => {
                Some(in_phase(word, Phase::Finished) + run)
            }
            _ => None,
        });
        if let Some(old) = updated {
            self.collect(old, &mut Wakes::default());
            return Ok(next);
        }
        if has_run && self.view().phase() == Phase::Cancelled {
            self.with_series(|series| {
                series.has_not_run();
                note(series.take_lost());
            });
        }
        Err(())
    }

    /// The deadline of a series, or `None` for a one-shot.
    pub(crate) fn series_deadline(&self) -> Option<Nanos> {
        self.with_series(|series| series.deadline())
    }

    /// Whether the next run may be at `deadline`, as far as the series is concerned.
    pub(crate) fn allows(&self, deadline: Nanos, now: Moment) -> bool {
        let view = self.view();
        let runs = view.runs() + u64::from(view.phase() == Phase::Running);
        self.with_series(|series| series.allows(deadline, runs, now))
            .unwrap_or(true)
    }

    /// Lays the ticks of a series anew from `deadline`, at once or after the run that is going.
    /// `false`: the task is no series.
    pub(crate) fn restart(&self, deadline: Nanos, after_run: bool, now: Moment) -> bool {
        self.with_series(|series| {
            if after_run {
                series.restart_after_run(deadline, now);
            } else {
                series.restart(deadline, now);
            }
        })
        .is_some()
    }

    /// Gives up the run of a series that is due; `None`: it may not, or the task is no series.
    pub(crate) fn drop_run(&self, now: Moment, note: impl FnOnce(Lost)) -> Option<Nanos> {
        self.with_series(|series| {
            let next = series.drop_run(now);
            note(series.take_lost());
            next
        })
        .flatten()
    }

    /// Whether a series may give up the run that is due.
    pub(crate) fn may_drop_run(&self, now: Moment) -> bool {
        self.with_series(|series| series.clone().drop_run(now).is_some())
            .unwrap_or(false)
    }

    /// Tells a series that there is no further run; the place that its engine kept it at, the first
    /// time.
    pub(crate) fn close_series(&self, now: Moment, note: impl FnOnce(Lost)) -> Option<usize> {
        self.with_series(|series| {
            series.close(now);
            note(series.take_lost());
            series.place.take()
        })
        .flatten()
    }

    /// What a series has lost so far; nothing for a one-shot.
    pub fn lost(&self, now: Moment) -> Lost {
        self.with_series(|series| series.lost(now))
            .unwrap_or_default()
    }

    /// Whether it is a series.
    pub(crate) fn is_series(&self) -> bool {
        // Relaxed: the flag never changes.
        self.word.load(Ordering::Relaxed) & SERIES != 0
    }

    /// The series, for its engine.
    #[inline]
    pub(crate) fn shared_series(&self) -> Option<SharedSeries> {
        if self.is_series() {
            self.share_series()
        } else {
            None
        }
    }

    #[inline(never)]
    fn share_series(&self) -> Option<SharedSeries> {
        lock(&self.extras)
            .as_ref()
            .and_then(|extras| extras.series.clone())
    }

    pub(crate) fn with_series<R>(&self, f: impl FnOnce(&mut Series) -> R) -> Option<R> {
        if !self.is_series() {
            return None;
        }
        let extras = lock(&self.extras);
        let series = extras.as_ref().and_then(|extras| extras.series.as_ref())?;
        // The one lock below another here: it is held for arithmetic alone.
        let mut series = lock(series);
        Some(f(&mut series))
    }

    /// Asks for one wake-up when `goal` is met. `false`: it is met already, and no wake-up comes.
    pub fn subscribe(&self, goal: Goal, waiter: Arc<dyn Wake>) -> bool {
        let mut extras = lock(&self.extras);
        let list = &mut extras.get_or_insert_default().waiters;
        list.push(goal, waiter);
        // Acquire for the result's sake, Release so that the list is seen; see "Finish against
        // wait" on the module's page.
        let view = View(self.word.fetch_or(WAITED, Ordering::AcqRel));
        if goal.is_met_by(view) {
            list.pop();
            return false;
        }
        true
    }

    /// Takes back a subscription whose wake-up has not come, or is no longer wanted.
    pub fn unsubscribe(&self, waiter: &Arc<dyn Wake>) {
        if let Some(extras) = lock(&self.extras).as_mut() {
            extras.waiters.remove(waiter);
        }
    }

    /// Sleeps until `goal` is met; for the first `spin` of it the thread stays awake.
    ///
    /// `interrupted` is asked when a signal cuts the sleep short; `true` ends the wait.
    ///
    /// # Errors
    /// [`Error::TimedOut`] when `deadline` passes first, [`Error::Interrupted`].
    pub fn wait(
        &self,
        goal: Goal,
        deadline: Option<Instant>,
        spin: Duration,
        interrupted: &mut dyn FnMut() -> bool,
    ) -> Result<View, Error> {
        let view = self.view();
        if goal.is_met_by(view) {
            return Ok(view);
        }
        let parker = Arc::new(Parker::new());
        let waiter: Arc<dyn Wake> = Arc::<Parker>::clone(&parker);
        if !self.subscribe(goal, Arc::clone(&waiter)) {
            return Ok(self.view());
        }
        if !spin.is_zero() {
            parker.spin(spin);
        }
        let Err(error) = parker.wait(deadline, interrupted) else {
            // Met, even if it is no more: between two runs, idle once is idle.
            return Ok(self.view());
        };
        self.unsubscribe(&waiter);
        // Met meanwhile beats late.
        let view = self.view();
        if goal.is_met_by(view) {
            Ok(view)
        } else {
            Err(error)
        }
    }

    /// Step 5 of "Finish against wait", but for the wake-ups themselves; `old` is the word before the
    /// change.
    fn collect(&self, old: u64, wakes: &mut Wakes) {
        if old & WAITED == 0 {
            return;
        }
        let mut extras = lock(&self.extras);
        let view = self.view();
        if let Some(extras) = extras.as_mut() {
            extras.waiters.take_met(view, wakes);
            if extras.waiters.is_empty() {
                // Under the lock, so no subscriber is between its push and its fetch_or.
                self.word.fetch_and(!WAITED, Ordering::Relaxed);
            }
        }
    }

    /// A compare-exchange loop over the word; gives the old word when `f` accepted it.
    fn update(&self, f: impl FnMut(u64) -> Option<u64>) -> Option<u64> {
        // AcqRel: every phase hands the task from one thread to another.
        self.word
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, f)
            .ok()
    }
}
