//! The facade for Rust users: closures in, handles out.
//!
//! A scheduler is owned by its users, and is one [`Engine`] whose jobs are closures. It adds nothing
//! to the engine but types; it takes no decision about when or where a task runs.
#![forbid(unsafe_code)]

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::clock::nanos;
use crate::engine::{Delayed, Engine, Job, Options, Outcome, Stats, reached, run};
use crate::error::Error;
use crate::pool::{Runner, Worker};
use crate::series::{Every, Lost, Series};
use crate::sync::{Mutex, lock};
use crate::task::{Cancel, Goal, Phase, Task, View};

/// Runs closures in the background, later, or every so often, inside this process.
///
/// Thread-safe, and cheap to clone: every clone is the same scheduler. Dropping it neither stops
/// nor waits; call [`shutdown`](Self::shutdown). What was posted runs as it would have, and with the
/// last of it the threads of a scheduler that was dropped leave.
///
/// ```
/// use std::time::Duration;
/// use asynctask::Scheduler;
///
/// let scheduler = Scheduler::new();
/// let answer = scheduler.post(|| 6 * 7)?;
/// let later = scheduler.post_after(Duration::from_millis(1), || "later")?;
/// assert_eq!(answer.wait()?, 42);
/// assert_eq!(later.wait()?, "later");
/// scheduler.shutdown();
/// # Ok::<(), asynctask::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Scheduler {
    engine: Arc<Engine<NativeJob>>,
    /// Shared by the clones alone: tasks and handles keep the engine, but post nothing.
    _posters: Arc<Posters>,
}

/// Those who may post; its drop tells the engine that there are none any more.
#[derive(Debug)]
struct Posters(Arc<Engine<NativeJob>>);

impl Drop for Posters {
    fn drop(&mut self) {
        if !self.0.is_inherited() {
            self.0.release(());
        }
    }
}

impl Scheduler {
    /// A scheduler with the default options.
    pub fn new() -> Self {
        Self::with_options(&Options::default())
    }

    /// A scheduler as `options` ask for.
    pub fn with_options(options: &Options) -> Self {
        let engine = Engine::new(options, Arc::new(NativeRunner));
        Self {
            _posters: Arc::new(Posters(Arc::clone(&engine))),
            engine,
        }
    }

    /// Posts `callback` for a worker to run now.
    ///
    /// # Errors
    /// [`Error::QueueFull`], [`Error::Shutdown`], [`Error::NoThread`].
    ///
    /// ```
    /// let scheduler = asynctask::Scheduler::new();
    /// assert_eq!(scheduler.post(|| 1 + 1)?.wait()?, 2);
    /// # Ok::<(), asynctask::Error>(())
    /// ```
    pub fn post<T, F>(&self, callback: F) -> Result<Handle<T>, Error>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let (job, handle) = self.one_shot(callback);
        self.engine.post(job, (), &mut |pool, place| {
            pool.wait_for_room(place, &mut || false)
        })?;
        Ok(handle)
    }

    /// Posts `callback` for a worker to run once `delay` has passed; never before.
    ///
    /// # Errors
    /// [`Error::Shutdown`], [`Error::NoThread`].
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    ///
    /// let scheduler = asynctask::Scheduler::new();
    /// let posted = Instant::now();
    /// let task = scheduler.post_after(Duration::from_millis(5), Instant::now)?;
    /// assert!(task.wait()? >= posted + Duration::from_millis(5));
    /// # Ok::<(), asynctask::Error>(())
    /// ```
    pub fn post_after<T, F>(&self, delay: Duration, callback: F) -> Result<Handle<T>, Error>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let (job, handle) = self.one_shot(callback);
        let deadline = self.engine.now().saturating_add(nanos(delay));
        self.engine.post_at(job, deadline, ())?;
        Ok(handle)
    }

    /// Posts `callback` for a worker to run as `every` asks.
    ///
    /// # Errors
    /// [`Error::Invalid`], [`Error::Shutdown`], [`Error::NoThread`].
    ///
    /// ```
    /// use std::time::Duration;
    /// use asynctask::{Every, Scheduler};
    ///
    /// let scheduler = Scheduler::new();
    /// let beat = scheduler.post_every(&Every::new(Duration::from_millis(1)), || ())?;
    /// beat.wait_for_runs(3, None)?;
    /// beat.stop();
    /// # Ok::<(), asynctask::Error>(())
    /// ```
    pub fn post_every<T, F>(&self, every: &Every, callback: F) -> Result<Handle<T>, Error>
    where
        T: Send + 'static,
        F: FnMut() -> T + Send + 'static,
    {
        let now = self.engine.moment();
        let series = Series::new(every, now)?;
        let (job, handle) = self.native(Task::series(series), Often(callback));
        self.engine.post_at(job, now.now, ())?;
        Ok(handle)
    }

    /// The counts at this instant.
    pub fn stats(&self) -> Stats {
        self.engine.stats()
    }

    /// Changes the most workers at a time; at least 1.
    ///
    /// # Errors
    /// [`Error::Invalid`] for 0.
    pub fn resize(&self, max_workers: usize) -> Result<(), Error> {
        if max_workers == 0 {
            let reason = "must be at least 1, not 0".to_owned();
            return Err(Error::Invalid {
                argument: "max_workers",
                reason,
            });
        }
        self.engine.pool().resize(max_workers);
        Ok(())
    }

    /// Cancels what waits for its time, lets the queue run empty, and waits for the workers to end.
    /// Called from a callback it only begins all that.
    ///
    /// ```
    /// let scheduler = asynctask::Scheduler::new();
    /// let task = scheduler.post(|| 1)?;
    /// scheduler.shutdown();
    /// assert_eq!(task.wait(), Ok(1));
    /// assert!(scheduler.post(|| 2).is_err());
    /// # Ok::<(), asynctask::Error>(())
    /// ```
    pub fn shutdown(&self) {
        self.engine.close(true, ());
        self.join();
    }

    /// Like [`shutdown`](Self::shutdown), with a say about tasks that wait for their time. `true`:
    /// none was cancelled.
    ///
    /// ```
    /// use std::time::Duration;
    /// use asynctask::{Scheduler, engine::Delayed};
    ///
    /// let scheduler = Scheduler::new();
    /// let task = scheduler.post_after(Duration::from_secs(900), || 1)?;
    /// assert!(scheduler.shutdown_with(Delayed::Run));
    /// assert_eq!(task.wait(), Ok(1));
    /// # Ok::<(), asynctask::Error>(())
    /// ```
    pub fn shutdown_with(&self, delayed: Delayed) -> bool {
        let is_whole = self.engine.close_with(true, delayed, ());
        self.join();
        is_whole
    }

    /// Like [`shutdown`](Self::shutdown), but what is queued is cancelled too.
    pub fn shutdown_now(&self) {
        self.engine.close(false, ());
        self.join();
    }

    fn join(&self) {
        // Without a deadline and with signals ignored, it ends in one way only.
        let joined = self.engine.join(None, &mut || false);
        debug_assert_eq!(joined, Ok(()));
        // What workers that give up have left in the queue; on a worker nothing was waited for.
        if !self.engine.pool().is_worker() {
            self.engine.close(false, ());
        }
    }

    pub(crate) fn one_shot<T, F>(&self, callback: F) -> (NativeJob, Handle<T>)
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        self.native(Task::one_shot(), Once(Some(callback)))
    }

    /// One allocation: the task, its closure, and the place for its value.
    fn native<T, C>(&self, task: Task, callback: C) -> (NativeJob, Handle<T>)
    where
        T: Send + 'static,
        C: Callback<T>,
    {
        let native = Arc::new(Native {
            task,
            engine: Arc::clone(&self.engine),
            body: Mutex::new(Body {
                callback: Some(callback),
                value: None,
            }),
        });
        (
            NativeJob(Arc::<Native<T, C>>::clone(&native)),
            Handle { native },
        )
    }
}

impl Default for Scheduler {
    fn default() -> Self {
        Self::new()
    }
}

/// What [`Scheduler::post`] and its siblings give: one task.
///
/// Dropping it changes nothing for the task.
pub struct Handle<T> {
    native: Arc<dyn Typed<T>>,
}

impl<T: Send + 'static> Handle<T> {
    /// Waits until the task is over and takes its last run's value.
    ///
    /// There is one value, and one wait that takes it, the first whose turn it is.
    ///
    /// # Errors
    /// [`Error::Cancelled`] when it was cancelled or stopped, [`Error::Panicked`], [`Error::Taken`], and
    /// [`Error::Ended`] when the wall clock has ended a series before its first run.
    ///
    /// ```
    /// use asynctask::Error;
    ///
    /// let scheduler = asynctask::Scheduler::new();
    /// let task = scheduler.post(|| "value")?;
    /// assert_eq!(task.wait(), Ok("value"));
    /// assert_eq!(task.wait(), Err(Error::Taken));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn wait(&self) -> Result<T, Error> {
        self.wait_until(None)
    }

    /// Like [`wait`](Self::wait), for `timeout` at most.
    ///
    /// # Errors
    /// Those of [`wait`](Self::wait), and [`Error::TimedOut`].
    pub fn wait_timeout(&self, timeout: Duration) -> Result<T, Error> {
        self.wait_until(Instant::now().checked_add(timeout))
    }

    fn wait_until(&self, deadline: Option<Instant>) -> Result<T, Error> {
        let view = self.wait_for(Goal::Over, deadline)?;
        match view.phase() {
            Phase::Finished if view.runs() == 0 => Err(Error::Ended { runs: 0 }),
            Phase::Finished => self.native.take().ok_or(Error::Taken),
            Phase::Cancelled => Err(Error::Cancelled),
            _ => Err(Error::Panicked),
        }
    }

    /// Waits until `runs` runs have ended.
    ///
    /// # Errors
    /// [`Error::TimedOut`]; [`Error::Cancelled`] or [`Error::Ended`] when the task is over before.
    pub fn wait_for_runs(&self, runs: u64, timeout: Option<Duration>) -> Result<(), Error> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let view = self.wait_for(Goal::Runs(runs), deadline)?;
        reached(view, runs)
    }

    fn wait_for(&self, goal: Goal, deadline: Option<Instant>) -> Result<View, Error> {
        let engine = self.native.engine();
        let view = self.view();
        if goal.is_met_by(view) {
            return Ok(view);
        }
        if deadline.is_none() {
            engine.run_inline(&self.job(), ());
        }
        engine.wait(self.native.task(), goal, deadline, &mut || false)
    }

    /// The task's state.
    pub fn view(&self) -> View {
        self.native.task().view()
    }

    /// The ticks of a series that had no run of their own up to now, those included that a run which
    /// hangs has cost so far; none of a task that runs once.
    pub fn lost(&self) -> Lost {
        self.native.engine().lost_by(self.native.task())
    }

    /// Cancels the task if it has not started; a series also ends after the run that is going.
    /// `false`: it runs or is over.
    pub fn cancel(&self) -> bool {
        let found = self.native.engine().stop(&self.job(), true, ());
        matches!(found, Cancel::Now | Cancel::AfterRun)
            || (found == Cancel::Over && self.view().phase() == Phase::Cancelled)
    }

    /// No further run; one that is going goes on.
    pub fn stop(&self) {
        self.native.engine().stop(&self.job(), false, ());
    }

    /// Moves the next deadline to `delay` from now; `false`: it is too late.
    pub fn reschedule(&self, delay: Duration) -> bool {
        let engine = self.native.engine();
        engine.reschedule(&self.job(), engine.now().saturating_add(nanos(delay)))
    }

    fn job(&self) -> NativeJob {
        NativeJob(Arc::<dyn Typed<T>>::clone(&self.native))
    }
}

impl<T> fmt::Debug for Handle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle")
            .field("task", self.native.task())
            .finish()
    }
}

/// What is to be called, once or over and over.
trait Callback<T>: Send + 'static {
    /// Calls it; one that is for once must not be called again.
    fn call(&mut self) -> T;
}

struct Once<F>(Option<F>);

impl<T, F: FnOnce() -> T + Send + 'static> Callback<T> for Once<F> {
    fn call(&mut self) -> T {
        self.0.take().expect("a one-shot is called once")()
    }
}

struct Often<F>(F);

impl<T, F: FnMut() -> T + Send + 'static> Callback<T> for Often<F> {
    fn call(&mut self) -> T {
        self.0()
    }
}

struct Native<T, C> {
    task: Task,
    engine: Arc<Engine<NativeJob>>,
    body: Mutex<Body<T, C>>,
}

struct Body<T, C> {
    /// Taken out while it runs; gone for good when the task is over.
    callback: Option<C>,
    value: Option<T>,
}

impl<T, C> Drop for Native<T, C> {
    /// Whoever holds the last reference, a worker, a poster, who shuts the scheduler down, must not
    /// be unwound by what a task owns.
    fn drop(&mut self) {
        let body = self.body.get_mut();
        let body = body.unwrap_or_else(PoisonError::into_inner);
        if let Some(callback) = body.callback.take() {
            drop_foreign(callback);
        }
        if let Some(value) = body.value.take() {
            drop_foreign(value);
        }
    }
}

/// A [`Native`] of any type.
trait Erased: Send + Sync {
    fn task(&self) -> &Task;
    fn engine(&self) -> &Arc<Engine<NativeJob>>;
    fn call(&self);
    fn free(&self);
}

/// A [`Native`] with a callback of any type.
trait Typed<T>: Erased {
    /// Takes the value.
    fn take(&self) -> Option<T>;
}

impl<T: Send + 'static, C: Callback<T>> Erased for Native<T, C> {
    fn task(&self) -> &Task {
        &self.task
    }

    fn engine(&self) -> &Arc<Engine<NativeJob>> {
        &self.engine
    }

    fn call(&self) {
        let callback = lock(&self.body).callback.take();
        let Some(mut callback) = callback else {
            return;
        };
        let called = catch_unwind(AssertUnwindSafe(|| callback.call()));
        // A series calls it again, whether it panicked or not.
        let again = self.task.view().is_series().then_some(callback);
        let mut body = lock(&self.body);
        body.callback = again;
        match called {
            Ok(value) => {
                let previous = body.value.replace(value);
                drop(body);
                if previous.is_some() {
                    drop_foreign(previous); // with no lock held
                }
            }
            Err(payload) => {
                drop(body);
                resume_unwind(payload);
            }
        }
    }

    fn free(&self) {
        let callback = lock(&self.body).callback.take();
        drop_foreign(callback); // with no lock held
    }
}

impl<T: Send + 'static, C: Callback<T>> Typed<T> for Native<T, C> {
    fn take(&self) -> Option<T> {
        lock(&self.body).value.take()
    }
}

/// The [`Job`] of the facade: a closure, and no token.
#[derive(Clone)]
pub struct NativeJob(Arc<dyn Erased>);

impl fmt::Debug for NativeJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("NativeJob").field(self.0.task()).finish()
    }
}

impl Job for NativeJob {
    type Token<'a> = ();
    type Value = ();
    type Failure = ();

    fn task(&self) -> &Task {
        self.0.task()
    }

    fn engine(&self) -> &Arc<Engine<Self>> {
        self.0.engine()
    }

    fn share(&self, (): ()) -> Self {
        self.clone()
    }

    fn call(&self, (): ()) -> Outcome<(), ()> {
        self.0.call();
        Outcome::Value(())
    }

    fn panicked(&self, (): (), payload: Box<dyn Any + Send>) {
        drop_foreign(payload); // the panic hook has reported it
    }

    fn value_of_no_run(&self, (): ()) {} // the last run's is still there

    fn run_failed(&self, (): (), (): ()) {}

    fn end(&self, (): (), result: Option<Result<(), ()>>) {
        // The callback of a one-shot that has run is gone already.
        if result.is_none() || self.task().view().is_series() {
            self.0.free();
        }
    }

    fn ended(&self, (): ()) {}
}

struct NativeRunner;

impl Runner for NativeRunner {
    type Job = NativeJob;

    fn work(&self, worker: &Worker<NativeJob>) {
        while worker.wait() {
            while let Some(job) = worker.take() {
                // A run catches its own panics. What is left is a value that panics when it is
                // dropped, with the last reference to its task.
                if let Err(payload) = catch_unwind(AssertUnwindSafe(|| run(job, ()))) {
                    drop_foreign(payload);
                }
            }
        }
    }
}

/// Drops what may own anything. If that panics, it has been reported by the panic hook, and is no
/// reason to leave a task without its end.
fn drop_foreign<T>(it: T) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(it))) {
        std::mem::forget(payload); // it may panic too
    }
}

/// The process-wide scheduler, made at first use.
///
/// ```
/// assert_eq!(asynctask::scheduler::global().post(|| 5)?.wait()?, 5);
/// # Ok::<(), asynctask::Error>(())
/// ```
pub fn global() -> &'static Scheduler {
    static GLOBAL: OnceLock<Scheduler> = OnceLock::new();
    GLOBAL.get_or_init(Scheduler::new)
}
