//! Where pool, timer and tasks come together, for whoever embeds the core.
//!
//! An engine is owned by the tasks posted to it and by whoever posts. It moves tasks between wheel,
//! queue and worker, and decides who ends them; it knows neither how a callback is called nor what
//! a result is. That is the [`Job`]'s.
//!
//! # The way of a task
//!
//! ```text
//! post ──► queue ──────────────► worker: start, call, end ──► over
//! post ──► wheel ──► timer ──► queue ──► worker ──► over, or back on the wheel
//! ```
//!
//! One owned reference makes that way, by moves. Handles hold further references, and come in only
//! to cancel, to move the deadline, or to wait.
//!
//! # Who ends a task
//!
//! Whoever wins the change of phase in [`Task`]: the thread that runs it, the one that cancels it,
//! or the timer thread for a task without a callback. The winner puts the result away
//! ([`Job::end`]), publishes the phase, wakes who waits, and then calls [`Job::ended`].
//!
//! # Waits inside a callback
//!
//! A worker that waits, for as long as it takes, for a task which no one has started runs it itself
//! ([`Engine::run_inline`]), `INLINE_DEPTH` deep at most. For anything else, and for every wait with
//! a timeout, which must not last as long as somebody else's callback, the pool lends another worker
//! for as long as the wait lasts; where the system has no thread to give, it is asked again meanwhile.
//! So waits do not use up a pool, whatever its size. Tasks that wait for one another in a circle wait
//! for ever, as threads would.
//!
//! # The counts of a series
//!
//! What a series loses is added to the engine's counts when a run starts or ends, under the series'
//! lock. [`Engine::stats`] adds what is lost in runs that are going or wait, so a run that hangs is no
//! reason for the counts to stand still.
#![forbid(unsafe_code)]

mod awaited;
mod close;
mod counters;
mod deferred;
mod due;
mod elsewhere;
mod options;
mod registry;
mod run;
mod state;
#[cfg(all(test, not(loom)))]
mod tests;
mod timed;

pub use self::counters::Stats;
pub use self::elsewhere::ANYWHERE;
pub use self::options::{Delayed, OnFull, Options};
pub use self::run::{complete, run};
pub use self::state::{Engine, Job, Outcome};

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use self::awaited::Awaited;
use self::counters::{Counters, count};
use self::deferred::DeferredDrops;
use self::due::DueSink;
use self::elsewhere::{RunsElsewhere, is_quiet_elsewhere};
use self::registry::Registry;
use self::state::is_tombstone;
use self::timed::Arrival;
use crate::clock::{Moment, Monotonic, Nanos, Quiesce};
use crate::error::Error;
use crate::fork::ForkGeneration;
use crate::pool::{Pool, Refused, Runner, lend_while_waiting};
use crate::series::Lost;
use crate::sync::{AtomicBool, AtomicU64, Mutex, Ordering, lock};
use crate::task::{Cancel, Goal, Phase, Task, View};
use crate::timer::Timer;

/// What waits for room in a queue, by [`Pool::wait_for_room`], whose `place` the second argument is.
pub type WaitForRoom<'a, J> = dyn FnMut(&Pool<J>, &mut Option<u64>) -> Result<(), Error> + 'a;

impl<J: Job> Engine<J> {
    /// An engine without threads; they come with the first task.
    pub fn new(options: &Options, runner: Arc<dyn Runner<Job = J>>) -> Arc<Self> {
        let clock = options
            .clock
            .clone()
            .unwrap_or_else(|| Arc::new(Monotonic::new()));
        let pool = Pool::new(&options.pool, runner);
        let counters = Arc::new(Counters::default());
        let series = Arc::new(Registry::default());
        let deferred = Arc::new(DeferredDrops {
            jobs: Mutex::new(Vec::new()),
            filled: AtomicBool::new(false),
        });
        let is_draining = Arc::new(Awaited::new(false));
        let sink = DueSink {
            pool: pool.clone(),
            clock: Arc::clone(&clock),
            is_draining: Arc::clone(&is_draining),
            counters: Arc::clone(&counters),
            series: Arc::clone(&series),
            deferred: Arc::clone(&deferred),
        };
        let timer = Timer::new(
            &options.tiers,
            Arc::clone(&clock),
            Box::new(sink),
            options.pool.idle_timeout,
            format!("{}-timer", options.pool.thread_name),
        );
        pool.tell_of_refusals(timer.waker());
        let on_full = options.on_full;
        let engine = Arc::new(Self {
            pool,
            timer,
            clock,
            on_full,
            counters,
            series,
            deferred,
            elsewhere: Awaited::new(RunsElsewhere::default()),
            is_draining,
            shown: Mutex::new(Lost::default()),
            generation: ForkGeneration::current(),
        });
        let weak: Weak<Self> = Arc::downgrade(&engine);
        engine.clock.register(weak);
        engine
    }

    /// Whether this engine's clock moves only when somebody moves it.
    pub fn is_manual(&self) -> bool {
        self.clock.instant_of(self.now()).is_none()
    }

    /// How many series this process, a fork of the one that posted them, has lost with its parent's
    /// engine. They go on in the parent.
    pub fn series_of_parent(&self) -> u64 {
        if self.generation.is_of_parent() {
            self.series.len()
        } else {
            0
        }
    }

    /// The pool of workers.
    pub fn pool(&self) -> &Pool<J> {
        &self.pool
    }

    /// Posts a task for a worker to run now. `wait_for_room` is called when the queue is full and
    /// the policy is to block; it must call [`Pool::wait_for_room`].
    ///
    /// # Errors
    /// [`Error::QueueFull`], [`Error::Shutdown`], [`Error::NoThread`], or what `wait_for_room`
    /// gives; the task is then as if it had never been.
    pub fn post(
        &self,
        job: J,
        token: J::Token<'_>,
        wait_for_room: &mut WaitForRoom<'_, J>,
    ) -> Result<(), Error> {
        self.drop_deferred(token);
        count(&self.counters.submitted, 1);
        let (mut job, mut place) = (job, None);
        loop {
            let refused = match self.pool.push(job) {
                Ok(()) => return Ok(()),
                Err(refused) => refused,
            };
            if refused.error != Error::QueueFull {
                return Err(self.not_submitted(refused.error));
            }
            job = refused.job;
            match self.on_full {
                OnFull::Refuse => return Err(self.not_submitted(Error::QueueFull)),
                OnFull::Block if self.pool.is_worker() => {
                    return self
                        .pool
                        .push_beyond_bound(job)
                        .map_err(|refused| self.not_submitted(refused.error));
                }
                OnFull::Block => {
                    if let Err(error) = wait_for_room(&self.pool, &mut place) {
                        return Err(self.not_submitted(error));
                    }
                }
                OnFull::DropNewest => {
                    self.drop_job(&job, token);
                    return Ok(());
                }
                OnFull::DropOldest => return self.post_for_oldest(job, token),
                OnFull::CallerRuns => {
                    drop(run(job, token));
                    return Ok(());
                }
            }
        }
    }

    /// Posts tasks for workers to run now, taking the queue's lock once for as many as there is room
    /// for. Each is posted as [`post`](Self::post) would.
    ///
    /// # Errors
    /// As for [`post`](Self::post); tasks before the one that is refused have been posted.
    pub fn post_many(
        &self,
        jobs: Vec<J>,
        token: J::Token<'_>,
        wait_for_room: &mut WaitForRoom<'_, J>,
    ) -> Result<(), Error> {
        self.drop_deferred(token);
        let mut jobs = VecDeque::from(jobs);
        count(&self.counters.submitted, jobs.len() as u64);
        let pushed = self.pool.push_many(&mut jobs);
        self.counters.not_submitted(jobs.len());
        pushed?;
        jobs.into_iter()
            .try_for_each(|job| self.post(job, token, wait_for_room))
    }

    /// Posts a task if it can be queued without waiting and without dropping; `Ok(false)`: it
    /// cannot.
    ///
    /// # Errors
    /// [`Error::Shutdown`], [`Error::NoThread`].
    pub fn try_post(&self, job: J, token: J::Token<'_>) -> Result<bool, Error> {
        self.drop_deferred(token);
        count(&self.counters.submitted, 1);
        let Err(refused) = self.pool.push(job) else {
            return Ok(true);
        };
        match self.not_submitted(refused.error) {
            Error::QueueFull => Ok(false),
            error => Err(error),
        }
    }

    /// Posts a task that must not run before `deadline`; a series brings its own.
    ///
    /// # Errors
    /// [`Error::Shutdown`], [`Error::NoThread`].
    pub fn post_at(&self, job: J, deadline: Nanos, token: J::Token<'_>) -> Result<(), Error> {
        self.drop_deferred(token);
        let task = job.task();
        if let Some(series) = task.shared_series() {
            self.series.add(&series);
        }
        let follows_wall = task.follows_wall();
        count(&self.counters.submitted, 1);
        self.timer
            .insert(job, Arrival::Posted(deadline))
            .map_err(|refused| {
                self.note_over(refused.job.task());
                self.not_submitted(refused.error)
            })?;
        if follows_wall {
            self.timer.recheck(); // it may be asleep for an earlier item, and unaware of the wall clock
        }
        Ok(())
    }

    /// Asks a task not to run again; with `cancel`, also its current run to give up.
    pub fn stop(&self, job: &J, cancel: bool, token: J::Token<'_>) -> Cancel {
        let task = job.task();
        let found = task.stop(cancel);
        if found == Cancel::Now {
            let removed = self.take_off_wheel(job);
            let cleared = removed
                .is_none()
                .then(|| self.pool.note_tombstone(is_tombstone));
            Self::end_cancelled(job, token, &self.counters.cancelled);
            drop((removed, cleared)); // with the token, and with no lock held
        }
        found
    }

    /// Moves the deadline of a task that is on the wheel, or of a series in a run. `false`: it is
    /// too late.
    ///
    /// A series draws its next deadline and goes back on the wheel under one hold of the timer's
    /// lock, and this looks under the same lock: it finds the series in the run or on the wheel.
    pub fn reschedule(&self, job: &J, deadline: Nanos) -> bool {
        let now = self.present(job.task());
        self.timer.reschedule(job, deadline, now)
    }

    /// How long until the deadline of a task that is on the wheel; `None` if it is not.
    pub fn remaining(&self, job: &J) -> Option<Duration> {
        let deadline = self.timer.deadline(job)?;
        Some(Duration::from_nanos(deadline.saturating_sub(self.now())))
    }

    /// Sleeps until `goal` is met; on a worker, of this engine or another, one more is lent to its
    /// pool meanwhile. The caller has let go of whatever lock callbacks run under.
    ///
    /// # Errors
    /// [`Error::TimedOut`], [`Error::Interrupted`]; see [`Task::wait`].
    pub fn wait(
        &self,
        task: &Task,
        goal: Goal,
        deadline: Option<Instant>,
        interrupted: &mut dyn FnMut() -> bool,
    ) -> Result<View, Error> {
        let view = task.view();
        if goal.is_met_by(view) {
            return Ok(view); // and no worker is started for a wait that is none
        }
        let is_look = deadline.is_some_and(|deadline| deadline <= Instant::now());
        let lent = if is_look { None } else { lend_while_waiting() };
        let spin = self.pool.before_wait();
        task.wait(
            goal,
            deadline,
            spin,
            &mut self.pool.or_retry_start(lent.as_ref(), interrupted),
        )
    }

    /// The counts at this instant; each is exact, but they are not read at one and the same time.
    /// Never are more tasks over than submitted.
    pub fn stats(&self) -> Stats {
        // Acquire: what is over was counted in `submitted` before, and that is read after it.
        let load = |counter: &AtomicU64| counter.load(Ordering::Acquire);
        let lost = self.lost();
        Stats {
            pool: self.pool.counts(),
            elsewhere: self.runs_elsewhere(),
            pending_timers: self.timer.len(),
            successful: load(&self.counters.successful),
            failed: load(&self.counters.failed),
            cancelled: load(&self.counters.cancelled),
            dropped: load(&self.counters.dropped),
            submitted: load(&self.counters.submitted), // last
            skipped_runs: lost.skipped,
            missed_runs: lost.missed,
        }
    }

    /// What a series has lost up to now, in a run that is going or waits too.
    pub fn lost_by(&self, task: &Task) -> Lost {
        task.lost(self.present(task))
    }

    /// What all series have lost up to now, those included that are over. It never goes back.
    fn lost(&self) -> Lost {
        // A run that starts or ends takes what its series has lost from there to the counts. The counts
        // are read first, so what is on its way is seen once or not at all, never twice, and a look that
        // misses some of it shows what an earlier one has shown. Acquire: the series are read after.
        let counted = Lost {
            skipped: self.counters.skipped_runs.load(Ordering::Acquire),
            missed: self.counters.missed_runs.load(Ordering::Acquire),
        };
        let since = if self.series.is_empty() {
            Lost::default()
        } else {
            self.series.lost(self.moment_or_origin())
        };
        let seen = Lost {
            skipped: counted.skipped + since.skipped,
            missed: counted.missed + since.missed,
        };
        let mut shown = lock(&self.shown);
        if seen.skipped + seen.missed >= shown.skipped + shown.missed {
            *shown = seen;
        }
        *shown
    }

    fn take_off_wheel(&self, job: &J) -> Option<J> {
        if job.task().was_on_wheel() {
            self.timer.remove(job)
        } else {
            None
        }
    }

    fn not_submitted(&self, error: Error) -> Error {
        self.counters.not_submitted(1);
        error
    }

    /// Posts a task in exchange for the oldest in the queue.
    ///
    /// A task that was posted to run now is cancelled for it. Of a series one run is given up, and the
    /// series goes on; but not its last run, whose loss would be the end of it. A delayed task that is
    /// due stays: it was accepted when there was no question of room. Where nothing may go, the new
    /// task is cancelled.
    fn post_for_oldest(&self, job: J, token: J::Token<'_>) -> Result<(), Error> {
        let now = self.moment_or_origin();
        match self
            .pool
            .push_for_oldest(job, |job| may_be_dropped(job, now))
        {
            Ok(Some(oldest)) if oldest.task().is_series() => self.drop_run(oldest, now, token),
            Ok(Some(oldest)) => {
                if !self.drop_job(&oldest, token) {
                    self.pool.forget_tombstone(); // it was cancelled meanwhile
                }
            }
            Ok(None) => {}
            Err(Refused {
                job,
                error: Error::QueueFull,
            }) => _ = self.drop_job(&job, token),
            Err(Refused { error, .. }) => return Err(self.not_submitted(error)),
        }
        Ok(())
    }

    /// Puts a series, taken out of the queue, back on the wheel without the run that was due.
    fn drop_run(&self, job: J, now: Moment, token: J::Token<'_>) {
        let back = self.timer.insert(job, Arrival::RunDropped { now });
        // Back on the wheel, or else it was cancelled meanwhile, or the engine was closed, and it ends
        // as everything that was in the queue.
        if let Ok(Some(job)) | Err(Refused { job, .. }) = back {
            if job.task().stop(true) == Cancel::Now {
                Self::end_cancelled(&job, token, &self.counters.cancelled);
            } else {
                self.pool.forget_tombstone();
            }
        }
    }

    /// Cancels a task for want of room. `false`: it was over before.
    fn drop_job(&self, job: &J, token: J::Token<'_>) -> bool {
        let now = job.task().stop(true) == Cancel::Now;
        if now {
            Self::end_cancelled(job, token, &self.counters.dropped);
        }
        now
    }
}

impl<J: Job> Quiesce for Engine<J> {
    fn quiescent(&self, now: Nanos) -> Result<Option<Nanos>, ()> {
        let is_quiet = || self.pool.is_quiet() && self.elsewhere.get(is_quiet_elsewhere);
        quiescent_at_once(|| self.timer.quiescent(now), is_quiet).map(|(_, next)| next)
    }
}

impl<J: Job> fmt::Debug for Engine<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("pool", &self.pool)
            .field("timer", &self.timer)
            .finish_non_exhaustive()
    }
}

/// What the timer says, if it was true while the pool was quiet.
///
/// A task goes from the wheel to the pool and back, so no one look sees where it is. The timer is
/// looked at twice, and the pool in between: if nothing has come to the wheel or gone from it, then
/// what the pool had none of is on the wheel, and has been counted there.
fn quiescent_at_once<S: PartialEq>(
    timer: impl Fn() -> Result<S, ()>,
    is_quiet: impl Fn() -> bool,
) -> Result<S, ()> {
    let before = timer()?;
    if is_quiet() && timer()? == before {
        Ok(before)
    } else {
        Err(())
    }
}

/// Whether a job in the queue may go to make room for a newer one.
fn may_be_dropped<J: Job>(job: &J, now: Moment) -> bool {
    let task = job.task();
    // A tombstone takes no room.
    !is_tombstone(job) && (!task.was_on_wheel() || task.may_drop_run(now))
}

/// Whether a wait for `runs` runs has got what it wanted. The count reached beats cancelled.
///
/// # Errors
/// [`Error::Cancelled`], [`Error::Ended`].
pub fn reached(view: View, runs: u64) -> Result<(), Error> {
    if view.runs() >= runs {
        Ok(())
    } else if view.phase() == Phase::Cancelled {
        Err(Error::Cancelled)
    } else {
        Err(Error::Ended { runs: view.runs() })
    }
}
