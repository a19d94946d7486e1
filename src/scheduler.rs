//! The facade for Rust users: closures in, handles out.
//!
//! A [`Scheduler`] owns one [`Engine`](crate::engine::Engine) whose jobs are closures;
//! [`SchedulerHandle`]s share it. They add nothing to the engine but types, and take no decision about
//! when or where a task runs.
//!
//! | file     | what it is                                        |
//! |----------|---------------------------------------------------|
//! | `handle` | what posts                                        |
//! | `join`   | what a post gives                                 |
//! | `native` | the task, its closure and its result              |
//! | `waker`  | whom a handle wakes that is polled                |
#![forbid(unsafe_code)]

mod handle;
mod join;
mod native;
mod waker;

pub use self::handle::SchedulerHandle;
pub use self::join::{JoinHandle, SeriesHandle};

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::clock::Clock;
use crate::engine::{Delayed, OnFull, Options, Stats};
use crate::error::{Error, PostError};
use crate::series::Every;
use crate::wheel::Tiers;

/// How a [`Scheduler`] is to be built; see [`Scheduler::builder`].
///
/// ```
/// use std::time::Duration;
/// use asynctask::{OnFull, Scheduler};
///
/// let scheduler = Scheduler::builder()
///     .max_workers(4)
///     .min_workers(1)
///     .idle_timeout(Duration::from_secs(30))
///     .queue_size(1_000)
///     .on_full(OnFull::Refuse)
///     .thread_name("background")
///     .stack_size(512 << 10)
///     .build()?;
/// assert_eq!(scheduler.stats().pool.max_workers, 4);
/// # Ok::<(), asynctask::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "it builds nothing until `build` is called"]
pub struct SchedulerBuilder {
    options: Options,
}

impl SchedulerBuilder {
    /// The most workers at a time; at least 1. By default 4 more than there are processors, and at most
    /// 32. Callbacks that wait for other tasks do not count.
    #[doc(alias = "worker_threads")]
    #[doc(alias = "num_threads")]
    pub fn max_workers(mut self, max_workers: usize) -> Self {
        self.options.pool.max_workers = max_workers;
        self
    }

    /// Workers that stay when they are idle; 0 by default, and at most `max_workers`.
    pub fn min_workers(mut self, min_workers: usize) -> Self {
        self.options.pool.min_workers = min_workers;
        self
    }

    /// How long a worker beyond `min_workers` stays idle before it leaves; 10 seconds by default.
    #[doc(alias = "thread_keep_alive")]
    pub fn idle_timeout(mut self, idle_timeout: Duration) -> Self {
        self.options.pool.idle_timeout = idle_timeout;
        self
    }

    /// The most tasks that wait for a worker, those not counted that a free worker is about to take. There
    /// is no bound by default. Delayed tasks and runs of series come in beyond the bound.
    pub fn queue_size(mut self, queue_size: usize) -> Self {
        self.options.pool.queue_size = Some(queue_size);
        self
    }

    /// What happens to a post that finds the queue full; the poster waits by default.
    pub fn on_full(mut self, on_full: OnFull) -> Self {
        self.options.on_full = on_full;
        self
    }

    /// What threads are called: workers this, a dash and a number. `asynctask` by default.
    pub fn thread_name(mut self, name: impl Into<String>) -> Self {
        self.options.pool.thread_name = name.into();
        self
    }

    /// The stack of a worker's thread, in bytes; what threads of Rust have by default.
    #[doc(alias = "thread_stack_size")]
    pub fn stack_size(mut self, bytes: usize) -> Self {
        self.options.pool.stack_size = Some(bytes);
        self
    }

    /// The wheel's tiers.
    pub fn tiers(mut self, tiers: Tiers) -> Self {
        self.options.tiers = tiers;
        self
    }

    /// The clock for delays and intervals: the system's by default, or in tests one that is moved by
    /// hand.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use std::time::Duration;
    /// use asynctask::{Scheduler, clock::Manual};
    ///
    /// let clock = Arc::new(Manual::new());
    /// let scheduler = Scheduler::builder().clock(Arc::clone(&clock)).build()?;
    /// let task = scheduler.post_after(Duration::from_secs(3600), || "an hour later")?;
    /// clock.advance(Duration::from_secs(3600));
    /// assert_eq!(task.join().unwrap(), "an hour later");
    /// # Ok::<(), asynctask::Error>(())
    /// ```
    pub fn clock<C: Clock + 'static>(mut self, clock: Arc<C>) -> Self {
        self.options.clock = Some(clock);
        self
    }

    /// Builds it. No thread is started before the first task.
    ///
    /// # Errors
    /// [`Error::Invalid`] when there are no workers, `min_workers` is more than `max_workers`, or the
    /// thread name has a NUL in it.
    ///
    /// ```
    /// let refused = asynctask::Scheduler::builder().max_workers(0).build();
    /// assert_eq!(refused.unwrap_err().to_string(), "max_workers must be at least 1, not 0");
    /// ```
    pub fn build(self) -> Result<Scheduler, Error> {
        let pool = &self.options.pool;
        check_max_workers(pool.max_workers)?;
        if pool.min_workers > pool.max_workers {
            return Err(Error::Invalid {
                argument: "min_workers",
                reason: format!(
                    "must be at most max_workers {}, not {}",
                    pool.max_workers, pool.min_workers
                ),
            });
        }
        if pool.thread_name.contains('\0') {
            return Err(Error::Invalid {
                argument: "thread_name",
                reason: format!("must have no NUL in it: {:?}", pool.thread_name),
            });
        }
        Ok(Scheduler::with(&self.options))
    }
}

fn check_max_workers(max_workers: usize) -> Result<(), Error> {
    if max_workers == 0 {
        return Err(Error::Invalid {
            argument: "max_workers",
            reason: "must be at least 1, not 0".to_owned(),
        });
    }
    Ok(())
}

/// Runs closures in the background, later, or every so often, inside this process.
///
/// This is its owner, who may shut it down; [`SchedulerHandle`]s, of which there may be many, post.
/// Dropping it neither stops anything nor waits: when it and the last of its handles are dropped, what
/// was posted runs as it would have, and with the last task the threads leave. **A series that nothing ends
/// keeps them**: shut the scheduler down, or stop the series.
///
/// ```
/// use std::time::Duration;
/// use asynctask::Scheduler;
///
/// let scheduler = Scheduler::new();
/// let answer = scheduler.post(|| 6 * 7)?;
/// let later = scheduler.post_after(Duration::from_millis(1), || "later")?;
/// assert_eq!(answer.join().unwrap(), 42);
/// assert_eq!(later.join().unwrap(), "later");
/// scheduler.shutdown();
/// # Ok::<(), asynctask::Error>(())
/// ```
#[derive(Debug)]
pub struct Scheduler {
    handle: SchedulerHandle,
}

impl Scheduler {
    /// A scheduler with the default options.
    ///
    /// ```
    /// let scheduler = asynctask::Scheduler::new();
    /// scheduler.post(|| println!("in the background"))?;
    /// scheduler.shutdown();
    /// # Ok::<(), asynctask::Error>(())
    /// ```
    pub fn new() -> Self {
        Self::with(&Options::default())
    }

    /// What a scheduler with other options is built by.
    ///
    /// ```
    /// let scheduler = asynctask::Scheduler::builder().max_workers(1).build()?;
    /// # Ok::<(), asynctask::Error>(())
    /// ```
    pub fn builder() -> SchedulerBuilder {
        SchedulerBuilder::default()
    }

    fn with(options: &Options) -> Self {
        let handle = SchedulerHandle::start(options);
        Self { handle }
    }

    /// What others post by: clone it.
    ///
    /// ```
    /// let scheduler = asynctask::Scheduler::new();
    /// let handle = scheduler.handle().clone();
    /// std::thread::spawn(move || handle.post(|| 1).unwrap().join()).join().unwrap().unwrap();
    /// ```
    pub fn handle(&self) -> &SchedulerHandle {
        &self.handle
    }

    /// As [`SchedulerHandle::post`].
    ///
    /// # Errors
    /// Those of [`SchedulerHandle::post`].
    ///
    /// ```
    /// let scheduler = asynctask::Scheduler::new();
    /// assert_eq!(scheduler.post(|| 1 + 1)?.join().unwrap(), 2);
    /// # Ok::<(), asynctask::Error>(())
    /// ```
    pub fn post<T, F>(&self, callback: F) -> Result<JoinHandle<T>, PostError<F>>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        self.handle.post(callback)
    }

    /// As [`SchedulerHandle::try_post`].
    ///
    /// # Errors
    /// Those of [`SchedulerHandle::try_post`].
    ///
    /// ```
    /// let scheduler = asynctask::Scheduler::new();
    /// assert_eq!(scheduler.try_post(|| 1 + 1)?.join().unwrap(), 2);
    /// # Ok::<(), asynctask::Error>(())
    /// ```
    pub fn try_post<T, F>(&self, callback: F) -> Result<JoinHandle<T>, PostError<F>>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        self.handle.try_post(callback)
    }

    /// As [`SchedulerHandle::post_after`].
    ///
    /// # Errors
    /// Those of [`SchedulerHandle::post_after`].
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let scheduler = asynctask::Scheduler::new();
    /// let task = scheduler.post_after(Duration::from_millis(1), || "later")?;
    /// assert_eq!(task.join().unwrap(), "later");
    /// # Ok::<(), asynctask::Error>(())
    /// ```
    pub fn post_after<T, F>(
        &self,
        delay: Duration,
        callback: F,
    ) -> Result<JoinHandle<T>, PostError<F>>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        self.handle.post_after(delay, callback)
    }

    /// As [`SchedulerHandle::post_every`].
    ///
    /// # Errors
    /// Those of [`SchedulerHandle::post_every`].
    ///
    /// ```
    /// use std::time::Duration;
    /// use asynctask::{Every, Scheduler};
    ///
    /// let scheduler = Scheduler::new();
    /// let beat = scheduler.post_every(&Every::new(Duration::from_millis(1)), || ())?;
    /// beat.wait_for_runs(3, None)?;
    /// # Ok::<(), asynctask::Error>(())
    /// ```
    pub fn post_every<T, F>(
        &self,
        every: &Every,
        callback: F,
    ) -> Result<SeriesHandle<T>, PostError<F>>
    where
        T: Send + 'static,
        F: FnMut() -> T + Send + 'static,
    {
        self.handle.post_every(every, callback)
    }

    /// The counts at this instant.
    ///
    /// ```
    /// let scheduler = asynctask::Scheduler::new();
    /// scheduler.post(|| ())?.wait();
    /// assert_eq!(scheduler.stats().successful, 1);
    /// # Ok::<(), asynctask::Error>(())
    /// ```
    pub fn stats(&self) -> Stats {
        self.handle.stats()
    }

    /// Changes the most workers at a time; at least 1.
    ///
    /// # Errors
    /// [`Error::Invalid`] for 0.
    ///
    /// ```
    /// let scheduler = asynctask::Scheduler::new();
    /// scheduler.resize(2)?;
    /// assert_eq!(scheduler.stats().pool.max_workers, 2);
    /// # Ok::<(), asynctask::Error>(())
    /// ```
    pub fn resize(&self, max_workers: usize) -> Result<(), Error> {
        check_max_workers(max_workers)?;
        self.handle.engine().pool().resize(max_workers);
        Ok(())
    }

    /// Cancels what waits for its time, lets the queue run empty, and waits for the workers to end.
    /// Handles can post no more. Called from a callback it only begins all that.
    ///
    /// ```
    /// let scheduler = asynctask::Scheduler::new();
    /// let task = scheduler.post(|| 1)?;
    /// let handle = scheduler.handle().clone();
    /// scheduler.shutdown();
    /// assert_eq!(task.join().unwrap(), 1);
    /// assert!(handle.post(|| 2).is_err());
    /// # Ok::<(), asynctask::Error>(())
    /// ```
    pub fn shutdown(self) {
        self.shutdown_with(Delayed::Cancel);
    }

    /// Like [`shutdown`](Self::shutdown), with a say about tasks that wait for their time.
    ///
    /// `true` only if nothing was cut short: no task was cancelled, and all have ended. So it is `false` in
    /// a callback, which cannot wait for its own end.
    ///
    /// ```
    /// use std::time::Duration;
    /// use asynctask::{Delayed, Scheduler};
    ///
    /// let scheduler = Scheduler::new();
    /// let task = scheduler.post_after(Duration::from_secs(900), || 1)?;
    /// assert!(scheduler.shutdown_with(Delayed::Run));
    /// assert_eq!(task.join().unwrap(), 1);
    /// # Ok::<(), asynctask::Error>(())
    /// ```
    pub fn shutdown_with(self, delayed: Delayed) -> bool {
        let is_whole = self.handle.engine().close_with(true, delayed, ());
        self.join(None) && is_whole
    }

    /// Like [`shutdown`](Self::shutdown), but it waits for `timeout` at most. What is still queued then is
    /// cancelled; a callback that is going ends by itself, with its thread. The closures of cancelled
    /// tasks are dropped here, however long that takes.
    ///
    /// `true` only if nothing was cut short, as for [`shutdown_with`](Self::shutdown_with).
    ///
    /// ```
    /// use std::sync::mpsc::channel;
    /// use std::time::Duration;
    ///
    /// let scheduler = asynctask::Scheduler::builder().max_workers(1).build()?;
    /// let (end, ended) = channel::<()>();
    /// let hung = scheduler.post(move || ended.recv())?;
    /// let queued = scheduler.post(|| ())?;
    /// assert!(!scheduler.shutdown_timeout(Duration::from_millis(5)));
    /// assert!(queued.join().unwrap_err().is_cancelled());
    /// drop(end);
    /// assert!(hung.join().is_ok());
    /// # Ok::<(), asynctask::Error>(())
    /// ```
    pub fn shutdown_timeout(self, timeout: Duration) -> bool {
        let deadline = Instant::now().checked_add(timeout);
        let is_whole = self.handle.engine().close_with(true, Delayed::Cancel, ());
        self.join(deadline) && is_whole
    }

    /// Like [`shutdown`](Self::shutdown), but what is queued is cancelled too. It waits for callbacks
    /// that are going.
    ///
    /// ```
    /// let scheduler = asynctask::Scheduler::new();
    /// scheduler.shutdown_now();
    /// ```
    pub fn shutdown_now(self) {
        self.handle.engine().close(false, ());
        self.join(None);
    }

    /// Whether all that was accepted has ended, none of it for want of time.
    fn join(&self, deadline: Option<Instant>) -> bool {
        let engine = self.handle.engine();
        if engine.pool().is_worker() {
            return false; // nothing is waited for
        }
        // With signals ignored, it ends in one of two ways.
        let joined = engine.join(deadline, &mut || false);
        let pool = engine.pool().counts();
        if joined.is_ok() && pool.running + pool.idle > 0 {
            // Of schedulers that shut each other down from callbacks one does not wait: its own workers
            // are yet to take what is queued.
            return false;
        }
        // What workers that give up have left in the queue, and what there was no time for.
        engine.close(false, ());
        joined.is_ok() && pool.waiting == 0
    }
}

impl Default for Scheduler {
    fn default() -> Self {
        Self::new()
    }
}
