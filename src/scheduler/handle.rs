//! What posts to a scheduler: its closures become tasks, and their handles are given back.
//!
//! Owned by the scheduler's owner, and by whoever cloned it. It never ends
//! the scheduler, nor does it decide anything: that is the engine's.
//!
//! # When the threads leave
//!
//! Owner and handles are those who may post, the [`Posters`]. When the last of them is dropped nobody
//! can post any more, and the engine is told: what was posted runs as it would have, and with the end
//! of the last task all threads leave. Tasks and their handles keep the engine, but post nothing. A
//! shutdown is for those who want that earlier, and want to wait for it.
#![forbid(unsafe_code)]

use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::join::{JoinHandle, SeriesHandle};
use super::native::{self, Native, NativeJob, NativeRunner, Often, Once};
use crate::clock::nanos;
use crate::engine::{Engine, Options, Stats};
use crate::error::{Error, PostError};
use crate::series::{Every, Series};
use crate::task::Task;

/// Posts to a [`Scheduler`](crate::Scheduler).
///
/// Thread-safe, and cheap to clone. A callback may hold one, and post by it.
///
/// ```
/// let scheduler = asynctask::Scheduler::new();
/// let handle = scheduler.handle().clone();
/// let outer = scheduler.post(move || handle.post(|| 5).unwrap().join().unwrap())?;
/// assert_eq!(outer.join().unwrap(), 5);
/// # Ok::<(), asynctask::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct SchedulerHandle {
    engine: Arc<Engine<NativeJob>>,
    /// Shared by the owner and the handles alone; see [When the threads
    /// leave](self#when-the-threads-leave).
    _posters: Arc<Posters>,
}

/// What a panic leaves of an engine is whole: no lock is held while a user's code runs.
impl UnwindSafe for SchedulerHandle {}
impl RefUnwindSafe for SchedulerHandle {}

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

impl SchedulerHandle {
    /// The first handle of a new scheduler, its owner's.
    pub(super) fn start(options: &Options) -> Self {
        let engine = Engine::new(options, Arc::new(NativeRunner));
        Self {
            _posters: Arc::new(Posters(Arc::clone(&engine))),
            engine,
        }
    }

    /// That of a scheduler which the whole process shares. It is made at first use, with the default
    /// options, and nobody can shut it down. A forked child has none of its threads: what it posts there
    /// never runs.
    ///
    /// ```
    /// use asynctask::SchedulerHandle;
    ///
    /// assert_eq!(SchedulerHandle::global().post(|| 5)?.join().unwrap(), 5);
    /// # Ok::<(), asynctask::Error>(())
    /// ```
    pub fn global() -> &'static Self {
        static GLOBAL: OnceLock<SchedulerHandle> = OnceLock::new();
        GLOBAL.get_or_init(|| Self::start(&Options::default()))
    }

    /// Posts `callback` for a worker to run now.
    ///
    /// # Errors
    /// A [`PostError`], with the callback, when the scheduler is shut down, its queue is full and it was
    /// told not to wait, or the system has no thread to give.
    ///
    /// ```
    /// use asynctask::SchedulerHandle;
    ///
    /// let task = SchedulerHandle::global().post(|| 1 + 1)?;
    /// assert_eq!(task.join().unwrap(), 2);
    /// # Ok::<(), asynctask::Error>(())
    /// ```
    /// # Full queues
    /// By the scheduler's [`OnFull`](crate::OnFull) it may block until there is room: in an async
    /// function, [`try_post`](Self::try_post). Only `Refuse` refuses; where a policy drops, `Ok` may be
    /// the handle of a task that is cancelled already, this one or an older.
    #[doc(alias = "spawn")]
    #[doc(alias = "spawn_blocking")]
    pub fn post<T, F>(&self, callback: F) -> Result<JoinHandle<T>, PostError<F>>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let native = self.native(Task::one_shot(), Once::new(callback));
        let posted = self.engine.post(native.job(), (), &mut |pool, place| {
            pool.wait_for_room(place, &mut || false)
        });
        match posted {
            Ok(()) => Ok(JoinHandle::new(native)),
            Err(error) => Err(PostError::new(error, native.take_back().into_inner())),
        }
    }

    /// Like [`post`](Self::post), whatever the scheduler's [`OnFull`](crate::OnFull): it never waits for
    /// room, and never drops a task for another.
    ///
    /// # Errors
    /// A [`PostError`], with the callback, when the queue is full, the scheduler is shut down, or the
    /// system has no thread to give.
    ///
    /// ```
    /// use asynctask::SchedulerHandle;
    ///
    /// let task = SchedulerHandle::global().try_post(|| 1 + 1)?;
    /// assert_eq!(task.join().unwrap(), 2);
    /// # Ok::<(), asynctask::Error>(())
    /// ```
    pub fn try_post<T, F>(&self, callback: F) -> Result<JoinHandle<T>, PostError<F>>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let native = self.native(Task::one_shot(), Once::new(callback));
        let error = match self.engine.try_post(native.job(), ()) {
            Ok(true) => return Ok(JoinHandle::new(native)),
            Ok(false) => Error::QueueFull,
            Err(error) => error,
        };
        Err(PostError::new(error, native.take_back().into_inner()))
    }

    /// Posts `callback` for a worker to run once `delay` has passed; never before.
    ///
    /// # Errors
    /// A [`PostError`], with the callback, when the scheduler is shut down or the system has no thread to
    /// give.
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    ///
    /// let scheduler = asynctask::Scheduler::new();
    /// let posted = Instant::now();
    /// let task = scheduler.post_after(Duration::from_millis(5), Instant::now)?;
    /// assert!(task.join().unwrap() >= posted + Duration::from_millis(5));
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
        let native = self.native(Task::one_shot(), Once::new(callback));
        let deadline = self.engine.now().saturating_add(nanos(delay));
        match self.engine.post_at(native.job(), deadline, ()) {
            Ok(()) => Ok(JoinHandle::new(native)),
            Err(error) => Err(PostError::new(error, native.take_back().into_inner())),
        }
    }

    /// Posts `callback` for a worker to run as `every` asks.
    ///
    /// # Errors
    /// A [`PostError`], with the callback, when `every` makes no sense, the scheduler is shut down, or the
    /// system has no thread to give.
    ///
    /// ```
    /// use std::time::Duration;
    /// use asynctask::{Every, PostErrorKind, Scheduler};
    ///
    /// let scheduler = Scheduler::new();
    /// let never = scheduler.post_every(&Every::new(Duration::ZERO), || ()).unwrap_err();
    /// assert_eq!(never.kind(), PostErrorKind::Invalid);
    /// assert_eq!(never.to_string(), "interval must be longer than 0");
    ///
    /// let beat = scheduler.post_every(&Every::new(Duration::from_millis(1)), || ())?;
    /// beat.wait_for_runs(3, None)?;
    /// beat.stop();
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
        let now = self.engine.moment();
        let series = match Series::new(every, now) {
            Ok(series) => series,
            Err(error) => return Err(PostError::new(error, callback)),
        };
        let native = self.native(Task::series(series), Often(callback));
        match self.engine.post_at(native.job(), now.now, ()) {
            Ok(()) => Ok(SeriesHandle::new(native)),
            Err(error) => Err(PostError::new(error, native.take_back().0)),
        }
    }

    /// The counts at this instant.
    ///
    /// ```
    /// let scheduler = asynctask::Scheduler::new();
    /// assert_eq!(scheduler.handle().stats().submitted, 0);
    /// ```
    pub fn stats(&self) -> Stats {
        self.engine.stats()
    }

    /// The engine, for who embeds the core.
    #[cfg(feature = "unstable-embed")]
    pub fn engine(&self) -> &Arc<Engine<NativeJob>> {
        &self.engine
    }

    #[cfg(not(feature = "unstable-embed"))]
    pub(super) fn engine(&self) -> &Arc<Engine<NativeJob>> {
        &self.engine
    }

    /// A task that is not posted.
    #[cfg(all(test, not(loom)))]
    pub(crate) fn one_shot<T, F>(&self, callback: F) -> (NativeJob, JoinHandle<T>)
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let native = self.native(Task::one_shot(), Once::new(callback));
        (native.job(), JoinHandle::new(native))
    }

    fn native<T, C>(&self, task: Task, callback: C) -> Arc<Native<T, C>>
    where
        T: Send + 'static,
        C: native::Callback<T>,
    {
        Native::new(task, Arc::clone(&self.engine), callback)
    }
}
