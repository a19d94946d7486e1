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
//! ([`Engine::run_inline`]), [`INLINE_DEPTH`] deep at most. For anything else, and for every wait with
//! a timeout, which must not last as long as somebody else's callback, the pool lends another worker
//! for as long as the wait lasts. So a callback can wait for whatever it likes, on a pool of any size.
//!
//! # The counts of a series
//!
//! What a series loses is added to the engine's counts when a run starts or ends, under the series'
//! lock. [`Engine::stats`] adds what is lost in runs that are going or wait, so a run that hangs is no
//! reason for the counts to stand still.
#![forbid(unsafe_code)]

mod registry;

use std::any::Any;
use std::cell::Cell;
use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crossbeam_utils::CachePadded;

use self::registry::Registry;
use crate::clock::{Clock, Moment, Monotonic, Nanos, Settle, asked, nanos};
use crate::error::Error;
use crate::fork::Birth;
use crate::pool::{Pool, PoolCounts, PoolOptions, Refused, Runner, lend_while_waiting, or_summon};
use crate::series::Lost;
use crate::sync::{AtomicBool, AtomicU64, Mutex, Ordering, Parker, lock};
use crate::task::{Cancel, Ending, Goal, Phase, Task, View, Wakes};
use crate::timer::{Sink, Timer};
use crate::wheel::{Due, Key, Tiers};

/// How deep waits inside callbacks may nest on one stack. Each level takes the frames of a call from
/// here to the callback and from the callback to the wait, 1 to 3 KiB without the callback's own.
const INLINE_DEPTH: u32 = 32;

/// When the system has no thread to spare, who needs one asks again after this.
const RETRY: Duration = Duration::from_millis(10);

thread_local! {
    /// The tasks that wait on this thread's stack for the one that it runs.
    static INLINED: Cell<u32> = const { Cell::new(0) };
}

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

    /// Whom [`call`](Job::call) will hand the run over to, if to anybody: [`ANYWHERE`], or the number
    /// of somebody who may not get on while a certain thread waits, such as an event loop; see
    /// [`Engine::join_runs`]. The answer never changes.
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

/// In [`Job::handed_to`]: somebody who gets on whoever waits.
pub const ANYWHERE: u64 = 0;

/// What becomes of tasks that wait for their deadline when their engine is closed.
///
/// It says nothing of series: they have no end of their own, and are stopped in any case, after the
/// run that is going or queued.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Delayed {
    /// They are cancelled.
    #[default]
    Cancel,
    /// They run now, in the order of their deadlines.
    Run,
    /// They run when they are due, and the engine ends after the last.
    Wait,
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
    /// It is going on elsewhere. Whoever runs it there calls [`complete`], once.
    Elsewhere,
}

/// What happens to a post that finds the queue full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFull {
    /// The poster waits for room. A worker of the same pool never does: it would wait for itself,
    /// so its post goes in beyond the bound.
    #[default]
    Block,
    /// The poster gets [`Error::QueueFull`].
    Raise,
    /// The new task is cancelled.
    DropNewest,
    /// The oldest task in the queue that was posted to run now is cancelled, or, if a series' run
    /// comes first, that run is given up and counted as missed. Delayed tasks that are due stay. If
    /// there is nothing that may go, the new task is cancelled.
    DropOldest,
    /// The poster's thread runs the task.
    CallerRuns,
}

/// How an engine is to be built.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Workers and queue.
    pub pool: PoolOptions,
    /// What happens to a post that finds the queue full.
    pub on_full: OnFull,
    /// The wheel's tiers.
    pub tiers: Tiers,
    /// The clock; `None` for the system's.
    pub clock: Option<Arc<dyn Clock>>,
}

/// Counts of tasks since an engine began, and of what it holds now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the struct's page says what they are")]
pub struct Stats {
    pub pool: PoolCounts,
    /// Runs that were handed over and have not come back.
    pub elsewhere: usize,
    /// Tasks on the wheel.
    pub pending_timers: usize,
    pub submitted: u64,
    pub successful: u64,
    pub failed: u64,
    pub cancelled: u64,
    /// Cancelled because the queue was full; not counted in `cancelled`.
    pub dropped: u64,
    /// Ticks of a series that found its previous run still going.
    pub skipped_runs: u64,
    /// Ticks of a series that went by before a run could start.
    pub missed_runs: u64,
}

/// Written by different threads: posters the first, workers the others.
#[derive(Default)]
struct Counters {
    /// Counted before they are handed on, so that nobody sees more tasks over than submitted.
    submitted: CachePadded<AtomicU64>,
    successful: CachePadded<AtomicU64>,
    failed: AtomicU64,
    cancelled: AtomicU64,
    dropped: AtomicU64,
    skipped_runs: AtomicU64,
    missed_runs: AtomicU64,
    /// When something was last due; no count, but written where they are.
    last_due: AtomicU64,
    /// See [`Engine::release`].
    is_released: AtomicBool,
}

impl Counters {
    /// Counts tasks that are over; `true`: nobody posts any more, and they may have been the last.
    fn count_end(&self, counter: &AtomicU64, by: u64) -> bool {
        // SeqCst, as in `Engine::release`: of a last end and a release at once, one sees the other.
        counter.fetch_add(by, Ordering::SeqCst);
        self.is_released.load(Ordering::SeqCst)
    }

    /// Takes back what was counted for tasks that were refused.
    fn not_submitted(&self, refused: usize) {
        self.submitted.fetch_sub(refused as u64, Ordering::Relaxed);
    }

    /// Whether every task that was posted is over. Exact where nobody is posting.
    fn is_finished(&self) -> bool {
        // The ends first: a task that is posted meanwhile makes it no, never yes.
        let load = |counter: &AtomicU64| counter.load(Ordering::SeqCst);
        let over = load(&self.successful)
            + load(&self.failed)
            + load(&self.cancelled)
            + load(&self.dropped);
        over == load(&self.submitted)
    }
}

/// Adds to a counter. Relaxed: counts order nothing.
fn count(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

/// References that a thread without a token had to let go of; the next thread with one drops them.
struct Attic<J> {
    jobs: Mutex<Vec<J>>,
    filled: AtomicBool,
}

impl<J> Attic<J> {
    fn put(&self, jobs: impl IntoIterator<Item = J>) {
        let mut attic = lock(&self.jobs);
        attic.extend(jobs);
        // Relaxed: a hint, looked at again and again; the jobs are behind the lock.
        self.filled.store(!attic.is_empty(), Ordering::Relaxed);
    }

    fn is_empty(&self) -> bool {
        !self.filled.load(Ordering::Relaxed)
    }

    fn take(&self) -> Vec<J> {
        let mut attic = lock(&self.jobs);
        self.filled.store(false, Ordering::Relaxed);
        std::mem::take(&mut attic)
    }
}

/// Something that threads wait for until it has changed.
struct Awaited<T> {
    state: Mutex<AwaitedState<T>>,
}

struct AwaitedState<T> {
    value: T,
    waiting: Vec<Arc<Parker>>,
}

impl<T> Awaited<T> {
    fn new(value: T) -> Self {
        let waiting = Vec::new();
        Self {
            state: Mutex::new(AwaitedState { value, waiting }),
        }
    }

    fn get<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        look(&lock(&self.state).value)
    }

    /// Changes it; whoever waits looks again if `change` says so.
    fn set(&self, change: impl FnOnce(&mut T) -> bool) {
        let waiting = {
            let mut state = lock(&self.state);
            if change(&mut state.value) {
                std::mem::take(&mut state.waiting)
            } else {
                Vec::new()
            }
        };
        for waiting in waiting {
            waiting.unpark();
        }
    }

    fn wait(
        &self,
        until: impl Fn(&T) -> bool,
        deadline: Option<Instant>,
        interrupted: &mut dyn FnMut() -> bool,
    ) -> Result<(), Error> {
        let parker = Arc::new(Parker::new());
        let mut lent = None;
        loop {
            {
                let mut state = lock(&self.state);
                if until(&state.value) {
                    return Ok(());
                }
                state.waiting.push(Arc::clone(&parker));
            }
            lent = lent.or_else(lend_while_waiting);
            if let Err(error) = parker.wait(deadline, &mut or_summon(lent.as_ref(), interrupted)) {
                lock(&self.state)
                    .waiting
                    .retain(|other| !Arc::ptr_eq(other, &parker));
                return Err(error);
            }
        }
    }
}

/// What waits for room in a queue, by [`Pool::wait_for_room`], whose `place` the second argument is.
pub type WaitForRoom<'a, J> = dyn FnMut(&Pool<J>, &mut Option<u64>) -> Result<(), Error> + 'a;

/// Runs that were handed over and have not come back, by whom they were handed to.
#[derive(Default)]
struct RunsElsewhere {
    counts: Vec<(u64, usize)>,
}

impl RunsElsewhere {
    fn add(&mut self, place: u64) {
        match self.counts.iter_mut().find(|(other, _)| *other == place) {
            Some((_, runs)) => *runs += 1,
            None => self.counts.push((place, 1)),
        }
    }

    /// `true`: it was the last one there.
    fn remove(&mut self, place: u64) -> bool {
        let at = self.counts.iter().position(|(other, _)| *other == place);
        let at = at.expect("a run comes back from where it was handed to");
        self.counts[at].1 -= 1;
        let was_last = self.counts[at].1 == 0;
        if was_last {
            self.counts.swap_remove(at);
        }
        was_last
    }

    fn len(&self) -> usize {
        self.counts.iter().map(|(_, runs)| runs).sum()
    }

    fn has_only(&self, places: &[u64]) -> bool {
        self.counts.iter().all(|(place, _)| places.contains(place))
    }
}

/// Pool, wheel and timer thread together.
pub struct Engine<J: Job> {
    pool: Pool<J>,
    timer: Timer<J>,
    clock: Arc<dyn Clock>,
    on_full: OnFull,
    counters: Arc<Counters>,
    series: Arc<Registry>,
    attic: Arc<Attic<J>>,
    away: Awaited<RunsElsewhere>,
    /// The engine is closed, but tasks that wait for their deadline are still to run.
    winds_down: Arc<Awaited<bool>>,
    /// What the last look at what series have lost has shown.
    shown: Mutex<Lost>,
    birth: Birth,
}

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
        let attic = Arc::new(Attic {
            jobs: Mutex::new(Vec::new()),
            filled: AtomicBool::new(false),
        });
        let winds_down = Arc::new(Awaited::new(false));
        let sink = DueSink {
            pool: pool.clone(),
            clock: Arc::clone(&clock),
            winds_down: Arc::clone(&winds_down),
            counters: Arc::clone(&counters),
            series: Arc::clone(&series),
            attic: Arc::clone(&attic),
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
            attic,
            away: Awaited::new(RunsElsewhere::default()),
            winds_down,
            shown: Mutex::new(Lost::default()),
            birth: Birth::now(),
        });
        let weak: Weak<Self> = Arc::downgrade(&engine);
        engine.clock.attend(weak);
        engine
    }

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
    fn moment_or_origin(&self) -> Moment {
        asked(|| self.moment()).unwrap_or_default()
    }

    /// The present for a run of `task`, which has to go on whatever the clock does: where reading it
    /// panics, it stands where the timer has seen it. The wall clock is read for those alone that
    /// follow it.
    fn present(&self, task: &Task) -> Moment {
        present(&*self.clock, &self.counters, task)
    }

    /// Whether this engine's clock moves only when somebody moves it.
    pub fn is_by_hand(&self) -> bool {
        self.clock.instant_of(self.now()).is_none()
    }

    /// Whether this process is a fork of the one that made the engine. Nothing else of the engine
    /// may be used then; see [`crate::fork`].
    pub fn is_inherited(&self) -> bool {
        self.birth.is_inherited()
    }

    /// How many series this process, a fork of the one that posted them, has lost with its parent's
    /// engine. They go on in the parent.
    pub fn series_of_parent(&self) -> u64 {
        if self.birth.is_of_parent() {
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
        self.sweep(token);
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
                OnFull::Raise => return Err(self.not_submitted(Error::QueueFull)),
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
        self.sweep(token);
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
        self.sweep(token);
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
        self.sweep(token);
        let task = job.task();
        if let Some(series) = task.shared_series() {
            self.series.add(&series);
        }
        let follows_wall = task.follows_wall();
        let deadline = |job: &J| job.task().series_deadline().or(Some(deadline));
        let admit = |job: &J, key: Key| {
            let task = job.task();
            task.set_key(key.to_bits().get());
            task.view().phase() == Phase::Pending
        };
        count(&self.counters.submitted, 1);
        self.timer.insert(job, deadline, admit).map_err(|refused| {
            self.note_over(refused.job.task());
            self.not_submitted(refused.error)
        })?;
        if follows_wall {
            self.timer.look(); // it may be asleep for an earlier item, and unaware of the wall clock
        }
        Ok(())
    }

    /// Asks a task not to run again; with `cancel`, also its current run to give up.
    pub fn stop(&self, job: &J, cancel: bool, token: J::Token<'_>) -> Cancel {
        let task = job.task();
        let found = task.stop(cancel);
        if found == Cancel::Now {
            let removed = self.take_off_wheel(task);
            let cleared = if removed.is_none() {
                self.pool.note_husk(is_husk)
            } else {
                Vec::new()
            };
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
        let task = job.task();
        let now = self.present(task);
        self.timer.reschedule(
            deadline,
            || key_of(task).filter(|_| task.allows(deadline, now)),
            |is_moved| {
                if is_moved {
                    task.restart(deadline, false, now); // a one-shot has no ticks to lay anew
                    return true;
                }
                // One that is queued is due already.
                let is_running = task.view().phase() == Phase::Running;
                is_running
                    && !task.is_stopped()
                    && task.allows(deadline, now)
                    && task.restart(deadline, true, now)
            },
        )
    }

    /// How long until the deadline of a task that is on the wheel; `None` if it is not.
    pub fn remaining(&self, task: &Task) -> Option<Duration> {
        let deadline = self.timer.deadline(|| key_of(task))?;
        Some(Duration::from_nanos(deadline.saturating_sub(self.now())))
    }

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
        if task.was_on_wheel() && self.timer.holds(|| key_of(task)) {
            return false;
        }
        if !task.start() {
            return false;
        }
        let cleared = self.pool.note_husk(is_husk);
        INLINED.set(depth + 1);
        run_started(job.share(token), token, &mut Wakes::default()); // it does not unwind
        INLINED.set(depth);
        drop(cleared);
        true
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
            &mut self.pool.or_ask_again(lent.as_ref(), interrupted),
        )
    }

    /// Refuses further tasks and cancels those on the wheel. With `drain` the queue is still worked
    /// off, otherwise what is in it is cancelled too. Does not wait; see [`Pool::join`]. May be
    /// called again, by anyone, also from a callback.
    ///
    /// `false`: a task was cut short, that is, cancelled though it would have run. A series has no end
    /// of its own: to be stopped is how it ends, and cuts nothing short.
    pub fn close(&self, drain: bool, token: J::Token<'_>) -> bool {
        // The timer first: what is on its way to the queue still gets there.
        let pending = self.timer.close();
        let queued = self.pool.close(drain);
        let is_whole = self.cancel_all(pending.iter().chain(&queued), token);
        self.winds_down.set(wound_down);
        self.sweep(token);
        is_whole
    }

    /// Like [`close`](Self::close), with a say about those on the wheel. May be called again with
    /// less patience; what has been cancelled stays so.
    pub fn close_with(&self, drain: bool, delayed: Delayed, token: J::Token<'_>) -> bool {
        let at_once = match delayed {
            Delayed::Cancel => return self.close(drain, token),
            Delayed::Run => Some(asked(|| self.clock.now()).unwrap_or(0)),
            Delayed::Wait => None,
        };
        // In this order: when the last one has left the wheel, the timer thread takes it back.
        self.winds_down.set(|winds_down| {
            *winds_down = true;
            false
        });
        let queued = self.pool.refuse(drain);
        let stays = |job: &J| !job.task().view().is_series();
        let (left, is_empty) = self.timer.refuse(stays, at_once);
        let is_whole = self.cancel_all(left.iter().chain(&queued), token);
        if is_empty {
            self.pool.close(true);
            self.winds_down.set(wound_down);
        }
        self.sweep(token);
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
        self.winds_down.set(wound_down);
        self.sweep(token);
    }

    /// Says that nobody will post any more. What has been posted runs as it would have; of the workers
    /// that have nothing to do one stays while a task is left, for the sake of series, and when the
    /// last is over, all threads leave at once.
    pub fn release(&self, token: J::Token<'_>) {
        self.sweep(token);
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

    #[cold]
    fn leave_if_finished(&self, _token: J::Token<'_>) {
        if self.is_finished() {
            self.pool.release_workers(0);
            self.pool.finished();
            self.timer.look();
        }
    }

    /// Sleeps until every worker has ended and every run that was handed over has come back; the
    /// engine must be closed. On one of its own workers it does not wait, for it would wait for
    /// itself; on another's, see [`Pool::join`].
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
        self.winds_down
            .wait(|winds_down| !winds_down, deadline, interrupted)?;
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
        self.away
            .wait(|runs| runs.has_only(stalled), deadline, interrupted)
    }

    /// Whether any run was handed to somebody who has a number, and has not come back.
    pub fn has_placed_runs(&self) -> bool {
        self.away.get(|runs| !runs.has_only(&[ANYWHERE]))
    }

    /// The number of runs that were handed over and have not come back.
    pub fn runs_elsewhere(&self) -> usize {
        self.away.get(RunsElsewhere::len)
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

    /// A task is about to be over; what a series owes is lost.
    #[inline]
    fn note_over(&self, task: &Task) {
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
            self.timer.look();
        }
    }

    /// Drops what threads without a token had to leave.
    #[inline]
    pub fn sweep(&self, token: J::Token<'_>) {
        if !self.attic.is_empty() {
            self.sweep_all(token);
        }
    }

    #[cold]
    fn sweep_all(&self, token: J::Token<'_>) {
        for job in self.attic.take() {
            // What never found a worker says so in its handle. What was cancelled by somebody else on
            // its way to the queue was counted as a husk there, and never came.
            let was_cancelled = job.task().view().phase() == Phase::Cancelled;
            if job.task().stop(true) == Cancel::Now {
                Self::end_cancelled(&job, token, &self.counters.cancelled);
            } else if was_cancelled {
                self.pool.forget_husk();
            }
        }
    }

    fn take_off_wheel(&self, task: &Task) -> Option<J> {
        if task.was_on_wheel() {
            self.timer.remove(|| key_of(task))
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
                    self.pool.forget_husk(); // it was cancelled meanwhile
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
        let back = self.timer.insert(
            job,
            |job| {
                let note = |lost| note_lost(&self.counters, lost);
                job.task().drop_run(now, note)
            },
            |job, key| {
                job.task().set_key(key.to_bits().get());
                job.task().view().phase() == Phase::Pending
            },
        );
        // Back on the wheel, or else it was cancelled meanwhile, or the engine was closed, and it ends
        // as everything that was in the queue.
        if let Ok(Some(job)) | Err(Refused { job, .. }) = back {
            if job.task().stop(true) == Cancel::Now {
                Self::end_cancelled(&job, token, &self.counters.cancelled);
            } else {
                self.pool.forget_husk();
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

    fn end_cancelled(job: &J, token: J::Token<'_>, counter: &AtomicU64) {
        let (engine, task) = (job.engine(), job.task());
        engine.note_over(task);
        job.end(token, None);
        let may_be_last = engine.counters.count_end(counter, 1);
        task.notify_cancelled();
        job.ended(token);
        if may_be_last {
            engine.leave_if_finished(token);
        }
    }
}

impl<J: Job> Settle for Engine<J> {
    fn settled(&self, now: Nanos) -> Result<Option<Nanos>, ()> {
        let is_quiet = || self.pool.is_quiet() && self.away.get(is_quiet_elsewhere);
        settled_at_once(|| self.timer.settled(now), is_quiet).map(|(_, next)| next)
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
fn settled_at_once<S: PartialEq>(
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

/// A job in the queue that nobody wants from there any more: it is over, or somebody who waited for
/// it runs it.
fn is_husk<J: Job>(job: &J) -> bool {
    job.task().view().phase() != Phase::Pending
}

/// Whether a job in the queue may go to make room for a newer one.
fn may_be_dropped<J: Job>(job: &J, now: Moment) -> bool {
    let task = job.task();
    // A husk takes no room.
    !is_husk(job) && (!task.was_on_wheel() || task.may_drop_run(now))
}

/// Whether no run is elsewhere that a clock moved by hand has to wait for: those that may need the
/// very thread which moves it are not.
fn is_quiet_elsewhere(runs: &RunsElsewhere) -> bool {
    !runs.counts.iter().any(|(place, _)| *place == ANYWHERE)
}

/// Nothing waits for its deadline any more in an engine that is closed; whoever waits for that may go on.
fn wound_down(winds_down: &mut bool) -> bool {
    *winds_down = false;
    true
}

fn key_of(task: &Task) -> Option<Key> {
    std::num::NonZeroU64::new(task.key()).map(Key::from_bits)
}

fn present(clock: &dyn Clock, counters: &Counters, task: &Task) -> Moment {
    // Relaxed: a stand-in, in order with nothing.
    let now = asked(|| clock.now()).unwrap_or_else(|| counters.last_due.load(Ordering::Relaxed));
    let wall = if task.follows_wall() {
        asked(|| clock.wall()).unwrap_or_default()
    } else {
        0
    };
    Moment { now, wall }
}

fn note_lost(counters: &Counters, lost: Lost) {
    if lost.skipped > 0 {
        count(&counters.skipped_runs, lost.skipped);
    }
    if lost.missed > 0 {
        count(&counters.missed_runs, lost.missed);
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
        job.engine().pool.forget_husk();
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
            return end_after(0, &job, token, Some(Ok(value)), Ending::Finished, wakes);
        }
    }
    let handed_to = job.handed_to();
    if let Some(place) = handed_to {
        // Before the call: the run may come back before the call does.
        job.engine().away.set(|runs| {
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
        outcome => settle(job, token, outcome, wakes),
    }
}

/// Ends a run that went on elsewhere. Called once for each [`Outcome::Elsewhere`], by any thread.
pub fn complete<J: Job>(job: J, token: J::Token<'_>, outcome: Outcome<J::Value, J::Failure>) {
    let engine = Arc::clone(job.engine());
    let handed_to = job.handed_to();
    settle(job, token, outcome, &mut Wakes::default());
    if let Some(place) = handed_to {
        engine.away.set(|runs| runs.remove(place));
    }
}

fn settle<J: Job>(
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
        Outcome::Cancelled => return end_as(&job, token, None, Ending::Cancelled, wakes),
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
    let note = |lost| note_lost(&engine.counters, lost);
    let back = engine.timer.insert(
        job,
        |job| job.task().end_run(now, failed, note),
        |job, key| {
            job.task().set_key(key.to_bits().get());
            job.task().wait_again()
        },
    );
    match back {
        Ok(None) => {
            if let Err(failure) = result {
                handle.run_failed(token, failure);
            }
            task.notify_run();
        }
        // It was stopped, or this was its last run.
        Ok(Some(job)) => end(&job, token, result, task.is_stopped(), wakes),
        // The engine is closed: nothing else is a reason, for a series has its timer thread until it
        // is over. What would have gone on is cut short, and says so.
        Err(Refused { job, .. }) => {
            let goes_on = task.end_run(now, failed, note).is_some();
            end(&job, token, result, goes_on || task.is_stopped(), wakes);
        }
    }
}

/// Ends a running task.
fn end<J: Job>(
    job: &J,
    token: J::Token<'_>,
    result: Result<J::Value, J::Failure>,
    stopped: bool,
    wakes: &mut Wakes,
) {
    match result {
        // What a stopped series last returned is nobody's; that it failed is still news.
        Ok(_) if stopped => end_as(job, token, None, Ending::Cancelled, wakes),
        Err(failure) if stopped => {
            job.run_failed(token, failure);
            end_as(job, token, None, Ending::Cancelled, wakes);
        }
        Ok(value) => end_as(job, token, Some(Ok(value)), Ending::Finished, wakes),
        Err(failure) => end_as(job, token, Some(Err(failure)), Ending::Failed, wakes),
    }
}

fn end_as<J: Job>(
    job: &J,
    token: J::Token<'_>,
    result: Option<Result<J::Value, J::Failure>>,
    ending: Ending,
    wakes: &mut Wakes,
) {
    end_after(1, job, token, result, ending, wakes);
}

/// Ends a task whose thread it is to end it, with so many runs more.
fn end_after<J: Job>(
    runs: u64,
    job: &J,
    token: J::Token<'_>,
    result: Option<Result<J::Value, J::Failure>>,
    ending: Ending,
    wakes: &mut Wakes,
) {
    let (engine, task) = (job.engine(), job.task());
    let counters = &engine.counters;
    let counter = match ending {
        Ending::Finished => &*counters.successful,
        Ending::Failed => &counters.failed,
        Ending::Cancelled => &counters.cancelled,
    };
    engine.note_over(task);
    job.end(token, result);
    let may_be_last = counters.count_end(counter, 1);
    task.finish_after(runs, ending, wakes);
    if task.is_watched() {
        wakes.now(); // what comes next may take any time
    }
    job.ended(token);
    if may_be_last {
        engine.leave_if_finished(token);
    }
}

/// Takes what is due from the timer thread to the queue.
struct DueSink<J: Job> {
    pool: Pool<J>,
    clock: Arc<dyn Clock>,
    series: Arc<Registry>,
    counters: Arc<Counters>,
    attic: Arc<Attic<J>>,
    winds_down: Arc<Awaited<bool>>,
}

impl<J: Job> Sink<J> for DueSink<J> {
    fn due(&self, now: Nanos, due: &mut Vec<Due<J>>, again: &mut Vec<(Nanos, J)>) {
        self.counters.last_due.store(now, Ordering::Relaxed);
        let mut jobs = Vec::with_capacity(due.len());
        let (mut urgent, mut over) = (Vec::new(), Vec::new());
        for due in due.drain(..) {
            let task = due.item.task();
            let moment = if task.follows_wall() {
                present(&*self.clock, &self.counters, task)
            } else {
                Moment::at(now)
            };
            match task.end_bare_run(moment, |lost| note_lost(&self.counters, lost)) {
                Err(()) if task.is_urgent() => urgent.push(due.item),
                Err(()) => jobs.push(due.item),
                Ok(Some(deadline)) => again.push((deadline, due.item)),
                Ok(None) => {
                    let place = task.close_series(moment, |lost| note_lost(&self.counters, lost));
                    if let Some(place) = place {
                        self.series.remove(place, task.follows_wall());
                    }
                    over.push(due.item);
                }
            }
        }
        if !jobs.is_empty() || !urgent.is_empty() {
            let left = self.pool.push_due(jobs, urgent);
            let at = now.saturating_add(nanos(RETRY));
            again.extend(left.into_iter().map(|job| (at, job)));
        }
        if !over.is_empty() {
            let ended = over.len() as u64;
            if self.counters.count_end(&self.counters.successful, ended) {
                // Nobody posts or waits here any more, and drops them in passing: a worker has to.
                for _ in &over {
                    drop(self.pool.note_husk(|_| false));
                }
                self.refused(over);
                if self.counters.is_finished() {
                    self.pool.release_workers(0);
                }
            } else {
                self.attic.put(over);
            }
        }
    }

    fn is_finished(&self) -> bool {
        self.counters.is_released.load(Ordering::SeqCst) && self.counters.is_finished()
    }

    fn retry(&self) -> Option<Duration> {
        self.pool.ask_again(true).then_some(RETRY)
    }

    fn readmit(&self, job: &J, key: Key) -> bool {
        job.task().set_key(key.to_bits().get());
        job.task().view().phase() == Phase::Pending
    }

    fn expects(&self) -> bool {
        !self.series.is_empty()
    }

    fn follows_wall(&self) -> bool {
        self.series.follows_wall()
    }

    fn wall_was_set(&self, now: Moment) -> Vec<Key> {
        self.series.past_end(now)
    }

    fn emptied(&self) {
        self.pool.close(true);
        self.winds_down.set(wound_down);
    }

    fn refused(&self, jobs: Vec<J>) {
        // The timer is closed: who closes it cancels a tick that has no need of a worker.
        let is_tick = |job: &J| job.task().is_bare() && job.task().view().phase() == Phase::Pending;
        let (ticks, jobs): (Vec<J>, Vec<J>) = jobs.into_iter().partition(is_tick);
        self.attic.put(ticks);
        // Cancelled meanwhile, and counted as husks: the queue is where husks are dropped. With no
        // worker left they wait for a thread with a token.
        let left = self.pool.push_due(jobs, Vec::new());
        if !left.is_empty() {
            self.attic.put(left);
        }
    }
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

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::scheduler::Scheduler;

    #[test]
    fn a_clock_that_is_moved_by_hand_never_takes_a_task_on_its_way_for_none() {
        /// Where a series is from one tick to the next.
        #[derive(Clone, Copy)]
        enum At {
            Wheel(u64, Nanos),
            InFlight,
            InPool,
        }
        use At::{InFlight, InPool, Wheel};

        let way = [
            Wheel(0, 5),
            InFlight,
            InPool,
            InPool,
            Wheel(3, 15),
            Wheel(3, 15),
        ];
        // Whatever happens between the looks, and before and after them: each look is one step
        // further along, or several.
        for steps in 0..way.len().pow(3) {
            let skip = [steps % 6, steps / 6 % 6, steps / 36];
            let (looks, at) = (Cell::new(0), Cell::new(0));
            let look = || {
                at.set((at.get() + skip[looks.get()]).min(way.len() - 1));
                looks.set(looks.get() + 1);
                way[at.get()]
            };
            let timer = || match look() {
                Wheel(_, next) if next <= 5 => Err(()),
                Wheel(moves, next) => Ok((moves, Some(next))),
                InFlight => Err(()),
                InPool => Ok((2, None)),
            };
            let is_quiet = || !matches!(look(), InPool);
            if let Ok((_, next)) = settled_at_once(timer, is_quiet) {
                assert_eq!(next, Some(15), "steps {skip:?}");
            }
        }
    }

    /// Another that takes due tasks to the same pool.
    fn sink_of<J: Job>(engine: &Engine<J>) -> DueSink<J> {
        DueSink {
            winds_down: Arc::new(Awaited::new(false)),
            pool: engine.pool.clone(),
            clock: Arc::clone(&engine.clock),
            counters: Arc::clone(&engine.counters),
            series: Arc::clone(&engine.series),
            attic: Arc::clone(&engine.attic),
        }
    }

    #[test]
    fn a_due_task_that_finds_no_thread_is_tried_again_in_ten_milliseconds() {
        let scheduler = Scheduler::new();
        let (job, handle) = scheduler.one_shot(|| 5);
        let engine = Arc::clone(job.engine());
        engine.pool.refuse_starts(1);
        let mut due = vec![Due {
            key: Key::from_bits(std::num::NonZeroU64::MIN),
            deadline: 3,
            item: job,
        }];
        let mut again = Vec::new();
        sink_of(&engine).due(7, &mut due, &mut again);
        let (at, job) = again.pop().expect("it comes back");
        assert_eq!((at, again.len(), due.len()), (7 + 10_000_000, 0, 0));
        assert_eq!(handle.view().phase(), Phase::Pending);
        assert!(engine.pool.push_due(vec![job], Vec::new()).is_empty());
        assert_eq!(handle.wait(), Ok(5));
    }

    #[test]
    fn the_timer_thread_asks_again_for_a_worker_that_was_refused_beside_one_that_hangs() {
        for is_due in [true, false] {
            let scheduler = Scheduler::new();
            let (go, is_going) = std::sync::mpsc::channel::<()>();
            // So that there is a timer thread, as anybody has who posts with a delay.
            let _later = scheduler
                .post_after(Duration::from_secs(3600), || ())
                .unwrap();
            let hung = scheduler.post(move || is_going.recv()).unwrap();
            while scheduler.stats().pool.running == 0 {
                std::thread::yield_now();
            }
            let (done, is_done) = std::sync::mpsc::channel();
            let (job, _handle) = scheduler.one_shot(move || done.send(()));
            let engine = Arc::clone(job.engine());
            engine.pool.refuse_starts(3);
            if is_due {
                assert!(engine.pool.push_due(vec![job], Vec::new()).is_empty());
            } else {
                assert!(engine.pool.push(job).is_ok());
            }
            // This waits, but not by way of the pool, which would ask too.
            let ran = is_done.recv_timeout(Duration::from_secs(30));
            assert_eq!(ran, Ok(()), "{engine:?}");
            drop(go);
            assert!(hung.wait().is_ok_and(|received| received.is_err()));
        }
    }

    #[test]
    fn a_task_cancelled_on_its_way_to_a_queue_that_it_never_reaches_is_no_room_there() {
        let scheduler = Scheduler::new();
        let (job, handle) = scheduler.one_shot(|| ());
        let engine = Arc::clone(job.engine());
        // It has come off the wheel, and is not in the queue yet.
        assert_eq!(engine.stop(&job, true, ()), Cancel::Now);
        assert!(format!("{engine:?}").contains("husks: 1"));
        // It comes to the queue with the next due tasks, and there is no thread for any of them.
        let sink = sink_of(&engine);
        engine.pool.refuse_starts(1);
        sink.refused(vec![job]);
        engine.sweep(());
        let said = format!("{engine:?}");
        assert!(
            said.contains("husks: 0") && said.contains("queued: 0"),
            "{said}"
        );
        assert_eq!(handle.wait(), Err(Error::Cancelled));
    }
}
