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
//! | Pending   | wheel, queue, or on    | a worker, or who waits and helps    | Running                    |
//! |           | its way between them   | who cancels or stops                | Cancelled                  |
//! |           |                        | the timer thread (bare tasks only)  | Pending, Finished          |
//! | Running   | one thread             | that thread                         | Finished, Failed, Pending, |
//! |           |                        |                                     | Cancelled (a series)       |
//! | Finished, | nobody                 | nobody                              |                            |
//! | Failed,   |                        |                                     |                            |
//! | Cancelled |                        |                                     |                            |
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

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::clock::{Moment, Nanos};
use crate::error::Error;
use crate::series::{Lost, Series};
use crate::sync::{AtomicU64, Mutex, Ordering, Parker, Wake, lock};

const PHASE: u64 = 0b111;
const PENDING: u64 = 0;
const RUNNING: u64 = 1;
const FINISHED: u64 = 2;
const FAILED: u64 = 3;
const CANCELLED: u64 = 4;
/// No further run.
const STOP: u64 = 1 << 3;
/// The current run is asked to give up.
const CANCEL: u64 = 1 << 4;
/// The list of waiters is, or is about to be, not empty.
const WAITED: u64 = 1 << 5;
/// The task is a series.
const SERIES: u64 = 1 << 6;
/// The task has no callback: its runs take no time and no worker.
const BARE: u64 = 1 << 7;
/// Someone wants to hear of the end who can only be told by a worker.
const WATCHED: u64 = 1 << 8;
/// It must not wait until a worker is free.
const URGENT: u64 = 1 << 9;
/// It is a series that the wall clock may end.
const WALL: u64 = 1 << 10;
/// One run in the upper bits, which hold the number of runs that have ended.
const ONE_RUN: u64 = 1 << 16;

/// Where a task stands; see the [state table](self#state-table).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It waits for its deadline, or for a worker.
    Pending,
    /// A worker calls its callback.
    Running,
    /// It is over; its last run returned.
    Finished,
    /// It is over; its last run failed.
    Failed,
    /// It is over, cancelled or stopped.
    Cancelled,
}

/// How a task ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Its last run returned.
    Finished,
    /// Its last run failed.
    Failed,
    /// It was cancelled before it ran, or its series was stopped.
    Cancelled,
}

/// One reading of a task's state.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct View(u64);

impl View {
    /// Where the task stands.
    pub fn phase(self) -> Phase {
        match self.0 & PHASE {
            PENDING => Phase::Pending,
            RUNNING => Phase::Running,
            FINISHED => Phase::Finished,
            FAILED => Phase::Failed,
            CANCELLED => Phase::Cancelled,
            other => unreachable!("a task's phase is {other}, word {:#x}", self.0),
        }
    }

    /// The same, but cancelled: what a task is to a process that cannot run it.
    #[must_use]
    pub fn as_cancelled(self) -> Self {
        Self(self.0 & !PHASE | CANCELLED)
    }

    /// Whether it will not run again.
    pub fn is_over(self) -> bool {
        self.0 & PHASE >= FINISHED
    }

    /// The runs that have ended.
    pub fn runs(self) -> u64 {
        self.0 / ONE_RUN
    }

    /// Whether it is a series.
    pub fn is_series(self) -> bool {
        self.0 & SERIES != 0
    }

    /// Whether its current run has been asked to give up.
    pub fn cancel_requested(self) -> bool {
        self.0 & CANCEL != 0
    }
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View")
            .field("phase", &self.phase())
            .field("runs", &self.runs())
            .field(
                "flags",
                &format_args!("{:#x}", self.0 & (ONE_RUN - 1) & !PHASE),
            )
            .finish()
    }
}

/// What a wait waits for. The end of the task satisfies all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// The task is over.
    Over,
    /// So many runs have ended.
    Runs(u64),
    /// No run is going.
    Idle,
}

impl Goal {
    pub(crate) fn is_met_by(self, view: View) -> bool {
        view.is_over()
            || match self {
                Self::Over => false,
                Self::Runs(runs) => view.runs() >= runs,
                Self::Idle => view.phase() != Phase::Running,
            }
    }
}

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
    /// What few tasks have. A leaf lock: nothing is called while it is held.
    more: Mutex<Option<Box<More>>>,
}

/// Those whose wait is over and who have not been woken: dropping it wakes them.
///
/// Waking a thread takes its waker some 4 µs, and where the waker holds an interpreter's lock, all
/// that the other can do is wait for it. So who runs a task may keep this until it lets go, but not
/// into another run, which may take any time.
#[derive(Default)]
#[must_use = "dropping it wakes those who wait"]
pub struct Wakes(Vec<Arc<dyn Wake>>);

impl Wakes {
    /// Wakes everyone now.
    pub fn now(&mut self) {
        for waiter in self.0.drain(..) {
            waiter.wake();
        }
    }
}

impl Drop for Wakes {
    fn drop(&mut self) {
        self.now();
    }
}

impl fmt::Debug for Wakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Wakes").field(&self.0.len()).finish()
    }
}

/// A series, shared with its engine, which wants to know what it has lost so far; a leaf lock.
pub(crate) type SharedSeries = Arc<Mutex<Series>>;

#[derive(Default)]
struct More {
    waiters: Vec<(Goal, Arc<dyn Wake>)>,
    series: Option<SharedSeries>,
}

impl fmt::Debug for More {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("More")
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
        let more = More {
            waiters: Vec::new(),
            series: Some(Arc::new(Mutex::new(series))),
        };
        Self::with(flags | SERIES | wall, Some(Box::new(more)))
    }

    fn with(flags: u64, more: Option<Box<More>>) -> Self {
        Self {
            word: AtomicU64::new(flags),
            key: AtomicU64::new(0),
            more: Mutex::new(more),
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
        self.update(|word| (word & PHASE == PENDING).then_some(word & !PHASE | RUNNING))
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
            debug_assert_eq!(word & PHASE, RUNNING, "waits again, word {word:#x}");
            (word & STOP == 0).then_some((word & !(PHASE | CANCEL) | PENDING) + ONE_RUN)
        });
        updated.is_some()
    }

    /// [`finish_after`](Self::finish_after) one run.
    #[cfg(test)]
    pub(crate) fn finish(&self, ending: Ending, wakes: &mut Wakes) {
        self.finish_after(1, ending, wakes);
    }

    /// Running → over, with so many runs more. Called by the running thread, once, after it has put away
    /// the result.
    pub(crate) fn finish_after(&self, runs: u64, ending: Ending, wakes: &mut Wakes) {
        let phase = match ending {
            Ending::Finished => FINISHED,
            Ending::Failed => FAILED,
            Ending::Cancelled => CANCELLED,
        };
        let old = self.update(|word| {
            debug_assert_eq!(word & PHASE, RUNNING, "finishes, word {word:#x}");
            Some((word & !PHASE | phase) + runs * ONE_RUN)
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
    /// After [`Cancel::Now`] the caller must call [`notify_cancelled`](Self::notify_cancelled).
    pub(crate) fn stop(&self, cancel: bool) -> Cancel {
        let mut found = Cancel::Over;
        let flags = if cancel { STOP | CANCEL } else { STOP };
        self.update(|word| {
            found = match word & PHASE {
                PENDING => Cancel::Now,
                RUNNING if word & SERIES != 0 => Cancel::AfterRun,
                RUNNING => Cancel::Running,
                _ => Cancel::Over,
            };
            match found {
                Cancel::Now => Some(word & !PHASE | CANCELLED | flags),
                Cancel::AfterRun | Cancel::Running => Some(word | flags),
                Cancel::Over => None,
            }
        });
        found
    }

    /// Wakes who waits, after a cancel that took effect and after its result was put away.
    pub(crate) fn notify_cancelled(&self) {
        self.notify(self.word.load(Ordering::Acquire));
    }

    /// Wakes whom the present state satisfies, after a run of a series.
    pub(crate) fn notify_run(&self) {
        self.notify(self.word.load(Ordering::Acquire));
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
        let updated = self.update(|word| match (word & PHASE, next) {
            (PENDING, Some(_)) => Some(word + run),
            // Decided in the word itself, so that who calls `watch` and then finds the task not
            // over is certain that a worker will end it.
            (PENDING, None) if word & WATCHED == 0 => Some((word & !PHASE | FINISHED) + run),
            _ => None,
        });
        if let Some(old) = updated {
            self.notify(old);
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
        lock(&self.more)
            .as_ref()
            .and_then(|more| more.series.clone())
    }

    pub(crate) fn with_series<R>(&self, f: impl FnOnce(&mut Series) -> R) -> Option<R> {
        if !self.is_series() {
            return None;
        }
        let more = lock(&self.more);
        let series = more.as_ref().and_then(|more| more.series.as_ref())?;
        // The one lock below another here: it is held for arithmetic alone.
        let mut series = lock(series);
        Some(f(&mut series))
    }

    /// Asks for one wake-up when `goal` is met. `false`: it is met already, and no wake-up comes.
    pub fn subscribe(&self, goal: Goal, waiter: Arc<dyn Wake>) -> bool {
        let mut more = lock(&self.more);
        let list = &mut more.get_or_insert_default().waiters;
        list.push((goal, waiter));
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
        if let Some(more) = lock(&self.more).as_mut() {
            more.waiters
                .retain(|(_, other)| !Arc::ptr_eq(other, waiter));
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

    /// Step 5 of "Finish against wait"; `old` is the word before the change.
    fn notify(&self, old: u64) {
        self.collect(old, &mut Wakes::default());
    }

    /// [`notify`](Self::notify), but for the wake-ups themselves.
    fn collect(&self, old: u64, wakes: &mut Wakes) {
        if old & WAITED == 0 {
            return;
        }
        let mut more = lock(&self.more);
        let view = self.view();
        if let Some(more) = more.as_mut() {
            more.waiters.retain(|(goal, waiter)| {
                let is_met = goal.is_met_by(view);
                if is_met {
                    wakes.0.push(Arc::clone(waiter));
                }
                !is_met
            });
            if more.waiters.is_empty() {
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

#[cfg(all(test, not(loom)))]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::series::Every;

    fn never() -> impl FnMut() -> bool {
        || unreachable!("no signal was sent")
    }

    fn series(ms: u64) -> Task {
        let every = Every::new(Duration::from_millis(ms));
        Task::series(Series::new(&every, Moment::at(0)).expect("the test asks for sense"))
    }

    #[test]
    fn a_handle_state_stays_small() {
        assert_eq!(size_of::<Task>(), 32);
    }

    #[test]
    fn a_one_shot_runs_once() {
        let task = Task::one_shot();
        assert_eq!(task.view().phase(), Phase::Pending);
        assert!(task.start());
        assert!(!task.start());
        assert_eq!(task.view().phase(), Phase::Running);
        assert_eq!(task.end_run(Moment::at(0), false, |_| ()), None);
        task.finish(Ending::Finished, &mut Wakes::default());
        assert_eq!(
            (task.view().phase(), task.view().runs()),
            (Phase::Finished, 1)
        );
        assert_eq!(task.stop(true), Cancel::Over);
    }

    #[test]
    fn a_pending_task_is_cancelled_at_once_and_never_starts() {
        let task = Task::one_shot();
        assert_eq!(task.stop(true), Cancel::Now);
        assert!(!task.start());
        assert_eq!(
            (task.view().phase(), task.view().runs()),
            (Phase::Cancelled, 0)
        );
        assert_eq!(task.stop(false), Cancel::Over);
    }

    #[test]
    fn a_running_one_shot_is_only_asked() {
        let task = Task::one_shot();
        task.start();
        assert_eq!(task.stop(false), Cancel::Running);
        assert!(!task.view().cancel_requested());
        assert_eq!(task.stop(true), Cancel::Running);
        assert!(task.view().cancel_requested());
        task.finish(Ending::Finished, &mut Wakes::default());
        assert_eq!(task.view().phase(), Phase::Finished);
    }

    #[test]
    fn a_series_waits_again_until_it_is_stopped() {
        let task = series(1);
        for runs in 0..3 {
            assert_eq!(task.view().runs(), runs);
            assert!(task.start());
            let now = Moment::at((runs + 1) * 1_000_000);
            assert!(task.begin_run(now, |_| ()));
            assert!(task.end_run(now, false, |_| ()).is_some());
            assert!(task.wait_again());
        }
        assert!(task.start());
        assert_eq!(task.stop(false), Cancel::AfterRun);
        assert_eq!(task.end_run(Moment::at(4_000_000), false, |_| ()), None);
        assert!(!task.wait_again());
        task.finish(Ending::Cancelled, &mut Wakes::default());
        assert_eq!(
            (task.view().phase(), task.view().runs()),
            (Phase::Cancelled, 4)
        );
    }

    #[test]
    fn a_wait_ends_with_its_goal_its_deadline_or_a_signal() {
        let task = series(1);
        let soon = Some(Instant::now() + Duration::from_millis(5));
        assert_eq!(
            task.wait(Goal::Runs(1), soon, Duration::ZERO, &mut never()),
            Err(Error::TimedOut)
        );
        assert!(
            task.wait(Goal::Idle, None, Duration::ZERO, &mut never())
                .is_ok()
        );
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| {
                task.wait(Goal::Runs(2), None, Duration::ZERO, &mut never())
                    .unwrap()
            });
            for _ in 0..2 {
                task.start();
                task.wait_again();
                task.notify_run();
            }
            assert_eq!(waiter.join().unwrap().runs(), 2);
            let waiter = scope.spawn(|| {
                task.wait(Goal::Over, None, Duration::ZERO, &mut never())
                    .unwrap()
            });
            assert_eq!(task.stop(true), Cancel::Now);
            task.notify_cancelled();
            assert_eq!(waiter.join().unwrap().phase(), Phase::Cancelled);
        });
    }

    #[test]
    fn a_bare_task_ends_by_itself_unless_it_is_watched() {
        let task = Task::bare();
        assert_eq!(task.end_bare_run(Moment::at(5), |_| ()), Ok(None));
        assert_eq!(
            (task.view().phase(), task.view().runs()),
            (Phase::Finished, 1)
        );

        let watched = Task::bare();
        watched.watch();
        assert_eq!(watched.end_bare_run(Moment::at(5), |_| ()), Err(()));
        assert!(watched.start());
    }

    #[test]
    fn a_tick_that_is_cancelled_while_it_is_counted_is_missed_and_no_run() {
        let every = Every::new(Duration::from_millis(1));
        let series = Series::new(&every, Moment::at(0)).unwrap();
        let task = Task::bare_series(series);
        let now = Moment::at(1_000_000);
        // What is noted is noted between the arithmetic and the word.
        let cancel = |_| _ = task.stop(true);
        assert_eq!(task.end_bare_run(now, cancel), Err(()));
        assert_eq!((task.view().runs(), task.lost(now).missed), (0, 1));
    }

    #[test]
    fn a_timed_out_waiter_leaves_nothing_behind() {
        let task = Task::one_shot();
        for _ in 0..100 {
            let now = Some(Instant::now());
            assert_eq!(
                task.wait(Goal::Over, now, Duration::ZERO, &mut never()),
                Err(Error::TimedOut)
            );
        }
        assert_eq!(
            lock(&task.more)
                .as_ref()
                .map_or(0, |more| more.waiters.len()),
            0
        );
    }
}

/// Run with `RUSTFLAGS="--cfg loom" cargo test --release --lib loom`.
#[cfg(all(test, loom))]
mod loom_tests {
    use std::time::Duration;

    use loom::thread;

    use super::*;
    use crate::series::Every;

    fn shared(task: Task) -> Arc<Task> {
        Arc::new(task)
    }

    #[test]
    fn loom_cancel_against_start_has_one_winner() {
        loom::model(|| {
            let task = shared(Task::one_shot());
            let worker = {
                let task = Arc::clone(&task);
                thread::spawn(move || {
                    let started = task.start();
                    if started {
                        task.finish(Ending::Finished, &mut Wakes::default());
                    }
                    started
                })
            };
            let cancelled = task.stop(true) == Cancel::Now;
            let started = worker.join().unwrap();
            assert_ne!(started, cancelled);
            assert_eq!(task.view().runs(), u64::from(started));
        });
    }

    #[test]
    fn loom_two_cancels_have_one_winner() {
        loom::model(|| {
            let task = shared(Task::one_shot());
            let other = {
                let task = Arc::clone(&task);
                thread::spawn(move || task.stop(true))
            };
            let mine = task.stop(false);
            let theirs = other.join().unwrap();
            assert_eq!(
                usize::from(mine == Cancel::Now) + usize::from(theirs == Cancel::Now),
                1
            );
        });
    }

    #[test]
    fn loom_a_finish_never_misses_a_waiter() {
        loom::model(|| {
            let task = shared(Task::one_shot());
            task.start();
            let worker = {
                let task = Arc::clone(&task);
                thread::spawn(move || task.finish(Ending::Finished, &mut Wakes::default()))
            };
            let view = task
                .wait(Goal::Over, None, Duration::ZERO, &mut || false)
                .unwrap();
            assert_eq!(view.runs(), 1);
            worker.join().unwrap();
        });
    }

    #[test]
    fn loom_a_cancel_never_misses_a_waiter() {
        loom::model(|| {
            let task = shared(Task::one_shot());
            let canceller = {
                let task = Arc::clone(&task);
                thread::spawn(move || {
                    assert_eq!(task.stop(true), Cancel::Now);
                    task.notify_cancelled();
                })
            };
            let view = task
                .wait(Goal::Over, None, Duration::ZERO, &mut || false)
                .unwrap();
            assert_eq!(view.phase(), Phase::Cancelled);
            canceller.join().unwrap();
        });
    }

    #[test]
    fn loom_stop_against_tick_ends_the_series_exactly_once() {
        loom::model(|| {
            let every = Every::new(Duration::from_millis(1));
            let task = shared(Task::series(Series::new(&every, Moment::at(0)).unwrap()));
            task.start();
            let worker = {
                let task = Arc::clone(&task);
                thread::spawn(move || {
                    // The end of a run, as the engine has it.
                    if task.end_run(Moment::at(1_000_000), false, |_| ()).is_some()
                        && task.wait_again()
                    {
                        task.notify_run();
                        false
                    } else {
                        task.finish(Ending::Cancelled, &mut Wakes::default());
                        true
                    }
                })
            };
            let found = task.stop(false);
            let ended_by_worker = worker.join().unwrap();
            if found == Cancel::Now {
                task.notify_cancelled();
            }
            assert_eq!(ended_by_worker, found == Cancel::AfterRun, "{found:?}");
            assert_eq!(task.view().phase(), Phase::Cancelled);
            assert_eq!(task.view().runs(), 1);
        });
    }

    #[test]
    fn loom_a_bare_tick_against_cancel_and_wait() {
        loom::model(|| {
            let task = shared(Task::bare());
            let timer = {
                let task = Arc::clone(&task);
                thread::spawn(move || task.end_bare_run(Moment::at(1), |_| ()).is_ok())
            };
            let canceller = {
                let task = Arc::clone(&task);
                thread::spawn(move || {
                    let now = task.stop(true) == Cancel::Now;
                    if now {
                        task.notify_cancelled();
                    }
                    now
                })
            };
            let view = task
                .wait(Goal::Over, None, Duration::ZERO, &mut || false)
                .unwrap();
            let (ended, cancelled) = (timer.join().unwrap(), canceller.join().unwrap());
            assert_ne!(ended, cancelled);
            assert_eq!(view.phase() == Phase::Cancelled, cancelled);
        });
    }
}
