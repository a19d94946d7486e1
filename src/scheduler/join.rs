//! What a post gives: a [`JoinHandle`] for a task that runs once, a [`SeriesHandle`] for a series.
//!
//! Owned by whoever posted. A handle looks at its task, waits for it and asks it to stop; it never
//! keeps a task from its end, nor does dropping it change anything for the task.
#![forbid(unsafe_code)]

use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::native::{NativeJob, Typed};
use super::waker::Polled;
use crate::clock::nanos;
use crate::engine::reached;
use crate::error::{Error, JoinError};
use crate::series::Lost;
use crate::sync::Wake;
use crate::task::{Cancel, Goal, Phase, View};

/// What both kinds of handle hold.
struct Posted<T>(Arc<dyn Typed<T>>);

impl<T: Send + 'static> Posted<T> {
    fn job(&self) -> NativeJob {
        NativeJob(Arc::<dyn Typed<T>>::clone(&self.0))
    }

    fn view(&self) -> View {
        self.0.task().view()
    }

    fn wait_for(&self, goal: Goal, deadline: Option<Instant>) -> Result<View, Error> {
        let engine = self.0.engine();
        let view = self.view();
        if goal.is_met_by(view) {
            return Ok(view);
        }
        if deadline.is_none() {
            engine.run_inline(&self.job(), ());
        }
        engine.wait(self.0.task(), goal, deadline, &mut || false)
    }

    fn wait(&self) -> View {
        self.wait_for(Goal::Over, None)
            .expect("without a deadline a wait ends in one way only")
    }

    /// A timeout past the end of time is none.
    fn wait_timeout(&self, timeout: Duration) -> bool {
        let deadline = Instant::now().checked_add(timeout);
        self.wait_for(Goal::Over, deadline).is_ok()
    }

    /// What has become of a task that is over; `None`: it has no value, for it never ran, or its value
    /// was taken.
    fn result(&self, view: View) -> Option<Result<T, JoinError>> {
        debug_assert!(view.is_over(), "{view:?}");
        match view.phase() {
            Phase::Cancelled => Some(Err(JoinError::cancelled())),
            Phase::Finished if view.runs() == 0 => None,
            _ => match self.0.take()? {
                Ok(value) => Some(Ok(value)),
                Err(panic) if view.phase() == Phase::Failed => {
                    Some(Err(JoinError::panicked(panic.payload)))
                }
                // The wall clock has ended it after a run that panicked.
                Err(panic) => panic.earlier.map(Ok),
            },
        }
    }

    fn reschedule(&self, delay: Duration) -> bool {
        let engine = self.0.engine();
        engine.reschedule(&self.job(), engine.now().saturating_add(nanos(delay)))
    }
}

/// A task that runs once.
///
/// It is a future, for any executor, and can be [joined](Self::join) from a thread; either gives what
/// the callback returned. Dropping it detaches: the task runs all the same.
///
/// ```
/// let scheduler = asynctask::Scheduler::new();
/// let task = scheduler.post(|| "value")?;
/// assert_eq!(task.join().unwrap(), "value");
/// # Ok::<(), asynctask::Error>(())
/// ```
///
/// In an async function, on whatever executor:
///
/// ```
/// # use asynctask::{JoinError, SchedulerHandle};
/// async fn digest(workers: &SchedulerHandle, data: Vec<u8>) -> Result<u64, asynctask::Error> {
///     let task = workers.post(move || data.iter().map(|&byte| u64::from(byte)).sum())?;
///     Ok(task.await?)
/// }
/// ```
///
/// # In a callback
/// A poll lends no worker: who blocks on this future in a callback of the same scheduler (`block_on`) keeps
/// a worker from the task that he waits for, and with as many such callbacks as there are workers all of
/// them wait for ever. [`join`](Self::join) does not; it lends.
///
/// # Cancel safety
/// A poll takes the value only if it gives it, so awaiting `&mut handle` may be given up and taken up
/// again.
pub struct JoinHandle<T> {
    posted: Posted<T>,
    /// On the task's list of waiters, or just taken off it, since the first poll.
    polled: Option<Arc<Polled>>,
}

impl<T: Send + 'static> JoinHandle<T> {
    pub(super) fn new(native: Arc<dyn Typed<T>>) -> Self {
        Self {
            posted: Posted(native),
            polled: None,
        }
    }

    /// Waits until the task is over, and gives its value.
    ///
    /// In a callback of the same scheduler, the task may be run right here; for anything else the
    /// scheduler has one worker more for as long as this waits.
    ///
    /// # Errors
    /// A [`JoinError`] if the task was cancelled or its callback panicked.
    ///
    /// # Panics
    /// If the value was given by a poll before.
    ///
    /// ```
    /// let scheduler = asynctask::Scheduler::new();
    /// assert_eq!(scheduler.post(|| 1 + 1)?.join().unwrap(), 2);
    /// assert!(scheduler.post(|| panic!("on purpose"))?.join().unwrap_err().is_panic());
    /// # Ok::<(), asynctask::Error>(())
    /// ```
    pub fn join(self) -> Result<T, JoinError> {
        self.result(self.posted.wait())
    }

    /// Like [`join`](Self::join), for `timeout` at most.
    ///
    /// # Errors
    /// The handle, if the timeout passes first; the task goes on.
    ///
    /// # Panics
    /// As [`join`](Self::join) does.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let scheduler = asynctask::Scheduler::new();
    /// let task = scheduler.post_after(Duration::from_secs(900), || 5)?;
    /// let task = task.join_timeout(Duration::from_millis(1)).unwrap_err();
    /// task.abort();
    /// assert!(task.join().unwrap_err().is_cancelled());
    /// # Ok::<(), asynctask::Error>(())
    /// ```
    pub fn join_timeout(self, timeout: Duration) -> Result<Result<T, JoinError>, Self> {
        if self.posted.wait_timeout(timeout) {
            Ok(self.result(self.posted.view()))
        } else {
            Err(self)
        }
    }

    /// Waits until the task is over, and leaves its value for [`join`](Self::join). Any number of threads
    /// may wait.
    ///
    /// ```
    /// let scheduler = asynctask::Scheduler::new();
    /// let task = scheduler.post(|| 5)?;
    /// task.wait();
    /// assert!(task.is_finished());
    /// # Ok::<(), asynctask::Error>(())
    /// ```
    pub fn wait(&self) {
        self.posted.wait();
    }

    /// Like [`wait`](Self::wait), for `timeout` at most. `false`: it passed first.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let scheduler = asynctask::Scheduler::new();
    /// let task = scheduler.post_after(Duration::from_secs(900), || ())?;
    /// assert!(!task.wait_timeout(Duration::from_millis(1)));
    /// # Ok::<(), asynctask::Error>(())
    /// ```
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        self.posted.wait_timeout(timeout)
    }

    /// Whether the task is over: it has run, or was cancelled.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let scheduler = asynctask::Scheduler::new();
    /// let task = scheduler.post_after(Duration::from_secs(900), || ())?;
    /// assert!(!task.is_finished());
    /// # Ok::<(), asynctask::Error>(())
    /// ```
    pub fn is_finished(&self) -> bool {
        self.posted.view().is_over()
    }

    /// Cancels the task if it has not started, and frees its callback at once. `false`: it runs, and goes
    /// on, or has run.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let scheduler = asynctask::Scheduler::new();
    /// let task = scheduler.post_after(Duration::from_secs(900), || ())?;
    /// assert!(task.abort());
    /// assert!(task.join().unwrap_err().is_cancelled());
    /// # Ok::<(), asynctask::Error>(())
    /// ```
    #[doc(alias = "cancel")]
    pub fn abort(&self) -> bool {
        let engine = self.posted.0.engine();
        match engine.stop(&self.posted.job(), true, ()) {
            Cancel::Now => true,
            Cancel::Over => self.posted.view().phase() == Phase::Cancelled,
            Cancel::AfterRun | Cancel::Running => false,
        }
    }

    /// Moves the deadline to `delay` from now; `false`: it is too late, or the task was not posted with a
    /// delay.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let scheduler = asynctask::Scheduler::new();
    /// let task = scheduler.post_after(Duration::from_secs(900), || 5)?;
    /// assert!(task.reschedule(Duration::ZERO));
    /// assert_eq!(task.join().unwrap(), 5);
    /// # Ok::<(), asynctask::Error>(())
    /// ```
    pub fn reschedule(&self, delay: Duration) -> bool {
        self.posted.reschedule(delay)
    }

    /// The state of the task, for who embeds the core.
    #[cfg(any(test, feature = "unstable-embed"))]
    pub fn view(&self) -> View {
        self.posted.view()
    }

    fn result(&self, view: View) -> Result<T, JoinError> {
        self.posted
            .result(view)
            .expect("the value of this task was given by a poll before")
    }
}

impl<T: Send + 'static> Future for JoinHandle<T> {
    type Output = Result<T, JoinError>;

    /// # Panics
    /// If it is polled again after it gave the value, or what the callback panicked with.
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let task = this.posted.0.task();
        if !task.view().is_over() {
            if let Some(polled) = &this.polled {
                polled.set(context.waker());
            } else {
                let polled = Arc::new(Polled::new(context.waker()));
                // Where it is over by now, that is seen below.
                task.subscribe(Goal::Over, Arc::<Polled>::clone(&polled));
                this.polled = Some(polled);
            }
            if !task.view().is_over() {
                return Poll::Pending;
            }
        }
        Poll::Ready(this.result(this.posted.view()))
    }
}

impl<T> Drop for JoinHandle<T> {
    fn drop(&mut self) {
        if let Some(polled) = self.polled.take() {
            polled.clear();
            let waiter: Arc<dyn Wake> = polled;
            self.posted.0.task().unsubscribe(&waiter);
        }
    }
}

/// Nothing of a task is seen half done after a panic: its state is one word, its result behind a lock.
impl<T> UnwindSafe for JoinHandle<T> {}
impl<T> RefUnwindSafe for JoinHandle<T> {}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle")
            .field("task", self.posted.0.task())
            .finish_non_exhaustive()
    }
}

/// A series: a task that runs over and over, as an [`Every`](crate::Every) says.
///
/// Dropping it detaches: the series goes on until its `Every` or a shutdown ends it. **It outlives the
/// [`Scheduler`](crate::Scheduler) that is dropped without a shutdown**, and so do the threads that it
/// needs.
///
/// ```
/// use std::time::Duration;
/// use asynctask::{Every, Scheduler};
///
/// let scheduler = Scheduler::new();
/// let beat = scheduler.post_every(&Every::new(Duration::from_millis(1)), || ())?;
/// beat.wait_for_runs(3, None)?;
/// beat.stop();
/// assert!(beat.join().unwrap_err().is_cancelled());
/// # Ok::<(), asynctask::Error>(())
/// ```
pub struct SeriesHandle<T> {
    posted: Posted<T>,
}

impl<T: Send + 'static> SeriesHandle<T> {
    pub(super) fn new(native: Arc<dyn Typed<T>>) -> Self {
        Self {
            posted: Posted(native),
        }
    }

    /// No further run; one that is going goes on.
    ///
    /// ```
    /// use std::time::Duration;
    /// use asynctask::{Every, Scheduler};
    ///
    /// let scheduler = Scheduler::new();
    /// let daily = scheduler.post_every(&Every::new(Duration::from_secs(86_400)), || ())?;
    /// daily.stop();
    /// assert!(daily.is_finished());
    /// # Ok::<(), asynctask::Error>(())
    /// ```
    pub fn stop(&self) {
        let engine = self.posted.0.engine();
        engine.stop(&self.posted.job(), false, ());
    }

    /// Whether the series is over: it was stopped, or has had its last run.
    ///
    /// ```
    /// use std::time::Duration;
    /// use asynctask::{Every, Scheduler};
    ///
    /// let scheduler = Scheduler::new();
    /// let once = Every::new(Duration::from_millis(1)).max_runs(1);
    /// let series = scheduler.post_every(&once, || ())?;
    /// series.wait();
    /// assert!(series.is_finished());
    /// # Ok::<(), asynctask::Error>(())
    /// ```
    pub fn is_finished(&self) -> bool {
        self.posted.view().is_over()
    }

    /// The runs that have ended.
    ///
    /// ```
    /// use std::time::Duration;
    /// use asynctask::{Every, Scheduler};
    ///
    /// let scheduler = Scheduler::new();
    /// let beat = scheduler.post_every(&Every::new(Duration::from_millis(1)), || ())?;
    /// beat.wait_for_runs(2, None)?;
    /// assert!(beat.runs() >= 2);
    /// # Ok::<(), asynctask::Error>(())
    /// ```
    pub fn runs(&self) -> u64 {
        self.posted.view().runs()
    }

    /// The ticks that had no run of their own up to now, those included that a run which hangs has cost
    /// so far.
    ///
    /// ```
    /// use std::time::Duration;
    /// use asynctask::{Every, Lost, Scheduler};
    ///
    /// let scheduler = Scheduler::new();
    /// let daily = scheduler.post_every(&Every::new(Duration::from_secs(86_400)), || ())?;
    /// assert_eq!(daily.lost(), Lost::default());
    /// # Ok::<(), asynctask::Error>(())
    /// ```
    pub fn lost(&self) -> Lost {
        self.posted.0.engine().lost_by(self.posted.0.task())
    }

    /// Waits until `runs` runs have ended, for `timeout` at most if there is one.
    ///
    /// # Errors
    /// [`Error::TimedOut`]; [`Error::Cancelled`] or [`Error::Ended`] when the series is over before.
    ///
    /// ```
    /// use std::time::Duration;
    /// use asynctask::{Error, Every, Scheduler};
    ///
    /// let scheduler = Scheduler::new();
    /// let twice = Every::new(Duration::from_millis(1)).max_runs(2);
    /// let series = scheduler.post_every(&twice, || ())?;
    /// series.wait_for_runs(2, None)?;
    /// assert_eq!(series.wait_for_runs(3, None), Err(Error::Ended { runs: 2 }));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn wait_for_runs(&self, runs: u64, timeout: Option<Duration>) -> Result<(), Error> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        reached(self.posted.wait_for(Goal::Runs(runs), deadline)?, runs)
    }

    /// Waits until the series is over. Any number of threads may wait.
    ///
    /// ```
    /// use std::time::Duration;
    /// use asynctask::{Every, Scheduler};
    ///
    /// let scheduler = Scheduler::new();
    /// let twice = Every::new(Duration::from_millis(1)).max_runs(2);
    /// let series = scheduler.post_every(&twice, || ())?;
    /// series.wait();
    /// assert_eq!(series.runs(), 2);
    /// # Ok::<(), asynctask::Error>(())
    /// ```
    pub fn wait(&self) {
        self.posted.wait();
    }

    /// Like [`wait`](Self::wait), for `timeout` at most. `false`: it passed first.
    ///
    /// ```
    /// use std::time::Duration;
    /// use asynctask::{Every, Scheduler};
    ///
    /// let scheduler = Scheduler::new();
    /// let daily = scheduler.post_every(&Every::new(Duration::from_secs(86_400)), || ())?;
    /// assert!(!daily.wait_timeout(Duration::from_millis(1)));
    /// # Ok::<(), asynctask::Error>(())
    /// ```
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        self.posted.wait_timeout(timeout)
    }

    /// Waits until the series is over, and gives its last run's value; `None` when the wall clock has
    /// ended it before its first run.
    ///
    /// # Errors
    /// A [`JoinError`] if the series was stopped, or ended with a run that panicked.
    ///
    /// ```
    /// use std::time::Duration;
    /// use asynctask::{Every, Scheduler};
    ///
    /// let scheduler = Scheduler::new();
    /// let mut runs = 0;
    /// let thrice = Every::new(Duration::from_millis(1)).max_runs(3);
    /// let series = scheduler.post_every(&thrice, move || {
    ///     runs += 1;
    ///     runs
    /// })?;
    /// assert_eq!(series.join().unwrap(), Some(3));
    /// # Ok::<(), asynctask::Error>(())
    /// ```
    pub fn join(self) -> Result<Option<T>, JoinError> {
        self.posted.result(self.posted.wait()).transpose()
    }

    /// Moves the next deadline to `delay` from now, and the ones after it along; `false`: it is too late.
    ///
    /// ```
    /// use std::time::Duration;
    /// use asynctask::{Every, Scheduler};
    ///
    /// let scheduler = Scheduler::new();
    /// let daily = scheduler.post_every(&Every::new(Duration::from_secs(86_400)), || ())?;
    /// assert!(daily.reschedule(Duration::ZERO));
    /// daily.wait_for_runs(1, None)?;
    /// # Ok::<(), asynctask::Error>(())
    /// ```
    pub fn reschedule(&self, delay: Duration) -> bool {
        self.posted.reschedule(delay)
    }

    /// The state of the task, for who embeds the core.
    #[cfg(any(test, feature = "unstable-embed"))]
    pub fn view(&self) -> View {
        self.posted.view()
    }
}

/// As for [`JoinHandle`].
impl<T> UnwindSafe for SeriesHandle<T> {}
impl<T> RefUnwindSafe for SeriesHandle<T> {}

impl<T> fmt::Debug for SeriesHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SeriesHandle")
            .field("task", self.posted.0.task())
            .finish_non_exhaustive()
    }
}
