//! What Python sees of a pool: each method checks its arguments, calls what [`super`] and
//! [`super::post`] have, and maps the error. It decides nothing.

use std::sync::{Arc, OnceLock};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};
use pyo3::{PyTraverseError, PyVisit};

use asynctask::sync::lock;

use crate::convert::{self, Flag, Minimum, Truth};
use crate::deadline::Deadline;
use crate::exit;
use crate::options::Interval;
use crate::plan::Plan;
use crate::task::TaskBase;
use crate::task::job::PyJob;

use super::arguments::{Given, checked_delayed};
use super::post::PostKeywords;
use super::{Contents, Ended, PoolBase};

#[pymethods]
impl PoolBase {
    /// An empty pool, whatever it is called with: the arguments are for `__init__`.
    #[new]
    #[pyo3(signature = (*_args, **_kwargs),
           text_signature = "(max_workers=None, thread_name_prefix=None, initializer=None, \
                             initargs=None, *, min_workers=None, idle_timeout=None, \
                             queue_size=None, on_full=None, propagate_context=False, nudge=True, \
                             tiers=None, clock=None, executor=None, stack_size=None)")]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self {
            contents: OnceLock::new(),
        }
    }

    #[pyo3(signature = (max_workers=None, thread_name_prefix=None, initializer=None, initargs=None,
                        *, min_workers=None, idle_timeout=None, queue_size=None, on_full=None,
                        propagate_context=Flag::NOT_GIVEN, nudge=Flag::NOT_GIVEN, tiers=None,
                        clock=None, executor=None, stack_size=None))]
    #[expect(
        clippy::too_many_arguments,
        reason = "they are the constructor's keywords"
    )]
    fn __init__(
        &self,
        py: Python<'_>,
        max_workers: Option<&Bound<'_, PyAny>>,
        thread_name_prefix: Option<&Bound<'_, PyAny>>,
        initializer: Option<Bound<'_, PyAny>>,
        initargs: Option<&Bound<'_, PyAny>>,
        min_workers: Option<&Bound<'_, PyAny>>,
        idle_timeout: Option<&Bound<'_, PyAny>>,
        queue_size: Option<&Bound<'_, PyAny>>,
        on_full: Option<&Bound<'_, PyAny>>,
        propagate_context: Flag<'_>,
        nudge: Flag<'_>,
        tiers: Option<&Bound<'_, PyAny>>,
        clock: Option<&Bound<'_, PyAny>>,
        executor: Option<&Bound<'_, PyAny>>,
        stack_size: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let given = Given {
            max_workers,
            thread_name_prefix,
            initializer,
            initargs,
            min_workers,
            idle_timeout,
            queue_size,
            on_full,
            propagate_context,
            nudge,
            tiers,
            clock,
            executor,
            stack_size,
        };
        let contents = Contents::new(py, given)?;
        // A second time it would leave the tasks of the first without a pool.
        self.contents
            .set(contents)
            .map_err(|_| PyRuntimeError::new_err("AsyncTaskPool.__init__() called twice"))
    }

    /// Post ``fn(*args, **kwargs)`` for a worker to run now.
    ///
    /// Raises:
    ///     TypeError: *fn* cannot be called.
    ///     QueueFull: The queue is full and ``on_full`` is ``"raise"``.
    ///     PoolShutdown: The pool has been shut down.
    ///     BrokenPool: A worker's initializer has failed.
    ///
    /// >>> from asynctask import AsyncTaskPool
    /// >>> with AsyncTaskPool(1) as pool:
    /// ...     pool.submit(divmod, 7, 2).result()
    /// (3, 1)
    #[pyo3(signature = (r#fn, /, *args, **kwargs))]
    fn submit<'py>(
        &self,
        r#fn: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, TaskBase>> {
        let (call, place) = self.contents()?.call(r#fn, args, kwargs)?;
        self.contents()?
            .start(r#fn.py(), &Plan::default(), Some(call), None, place, false)
    }

    /// `submit` for each tuple of arguments, in batches.
    fn _submit_each<'py>(
        &self,
        r#fn: &Bound<'py, PyAny>,
        arguments: &Bound<'py, PyAny>,
    ) -> PyResult<Vec<Bound<'py, TaskBase>>> {
        self.contents()?.submit_each(r#fn, arguments)
    }

    /// Like `submit`, but give ``None`` when the queue is full, whatever ``on_full`` says.
    ///
    /// It never waits: the one to call in a finalizer or a signal handler, whose thread may hold a lock
    /// that a worker needs.
    #[pyo3(signature = (r#fn, /, *args, **kwargs))]
    fn try_submit<'py>(
        &self,
        r#fn: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Option<Bound<'py, TaskBase>>> {
        let py = r#fn.py();
        let task = self.contents()?.unposted(r#fn, args, kwargs)?;
        let posted = task
            .get()
            .engine
            .try_post(PyJob(task.clone().into()), py)
            .map_err(exit::explain)?;
        Ok(posted.then_some(task))
    }

    /// Post a task to this pool; see `asynctask.post_task`.
    #[pyo3(signature = (callback, /, *options, args=None, kwargs=None, name=None, context=None,
                        executor=None, r#loop=None))]
    #[expect(clippy::too_many_arguments, reason = "they are the method's keywords")]
    pub(crate) fn post_task<'py>(
        &self,
        callback: &Bound<'py, PyAny>,
        options: &Bound<'py, PyTuple>,
        args: Option<&Bound<'py, PyAny>>,
        kwargs: Option<&Bound<'py, PyAny>>,
        name: Option<&Bound<'py, PyAny>>,
        context: Option<&Bound<'py, PyAny>>,
        executor: Option<&Bound<'py, PyAny>>,
        r#loop: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, TaskBase>> {
        let keywords = PostKeywords {
            args,
            kwargs,
            name,
            context,
            executor,
            event_loop: r#loop,
        };
        self.contents()?.post(callback, options, &keywords)
    }

    /// Post a task for a worker to run now.
    #[pyo3(signature = (callback, /))]
    fn post_async_task<'py>(&self, callback: &Bound<'py, PyAny>) -> PyResult<Bound<'py, TaskBase>> {
        self.contents()?.post_plan(callback, &Plan::default())
    }

    /// Post a task to run once *delay* has passed.
    #[pyo3(signature = (callback, delay, /))]
    fn post_delay_task<'py>(
        &self,
        callback: &Bound<'py, PyAny>,
        delay: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, TaskBase>> {
        let delay = convert::duration("delay", delay, Minimum::Passed)?;
        self.contents()?.post_plan(callback, &Plan::after(delay))
    }

    /// Post a task to run every *interval*, the first time after one interval.
    #[pyo3(signature = (callback, interval, /))]
    fn post_interval_task<'py>(
        &self,
        callback: &Bound<'py, PyAny>,
        interval: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, TaskBase>> {
        let interval = Some(Interval::plain(interval)?);
        self.contents()?.post_plan(
            callback,
            &Plan {
                delay: None,
                interval,
            },
        )
    }

    /// Make a task that is over once *delay* has passed: no callback, no worker, no GIL.
    fn after<'py>(&self, delay: &Bound<'py, PyAny>) -> PyResult<Bound<'py, TaskBase>> {
        let py = delay.py();
        let delay = convert::duration("delay", delay, Minimum::Passed)?;
        self.contents()?.post_bare(py, &Plan::after(delay))
    }

    /// The instant *timeout* from now, on the pool's clock.
    fn _deadline(&self, timeout: &Bound<'_, PyAny>) -> PyResult<Deadline> {
        let engine = self.contents()?.engine(timeout.py());
        let timeout = convert::timeout("timeout", timeout, Minimum::Passed)?;
        Ok(Deadline::after(engine, timeout))
    }

    /// A task that is run when it is due even if every worker is busy, for the deadline of a group.
    fn _post_alarm<'py>(
        &self,
        callback: &Bound<'py, PyAny>,
        deadline: &Deadline,
    ) -> PyResult<Bound<'py, TaskBase>> {
        self.contents()?.post_alarm(callback, deadline)
    }

    /// A series without a callback, for `Ticker`.
    #[pyo3(signature = (*options))]
    fn _post_ticks<'py>(
        &self,
        py: Python<'py>,
        options: &Bound<'py, PyTuple>,
    ) -> PyResult<Bound<'py, TaskBase>> {
        self.contents()?.post_bare(py, &Plan::of(options)?)
    }

    /// Change the most workers at a time. A worker beyond the new limit leaves after its task.
    fn resize(&self, max_workers: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = max_workers.py();
        self.contents()?
            .engine(py)
            .pool()
            .resize(convert::size("max_workers", max_workers, 1)?);
        Ok(())
    }

    /// Take no more tasks; run those in the queue, stop series, and end when all that is done.
    ///
    /// From inside a callback of the same pool it does not wait. On the thread of a running event loop
    /// it blocks that loop, and does not wait for coroutines that run there; use ``async with``, or
    /// `aclose`. It may be called again, with less patience.
    ///
    /// Args:
    ///     wait: Return only when every worker has ended, and every run on a loop or an executor.
    ///     cancel_futures: Cancel the tasks in the queue as well.
    ///     delayed: What becomes of tasks that wait for their deadline. ``"cancel"``: they are
    ///         cancelled. ``"run"``: they run now, in the order of their deadlines. ``"wait"``: they
    ///         run when they are due, and are waited for.
    #[pyo3(signature = (wait=Truth(true), *, cancel_futures=Truth(false), delayed=None),
           text_signature = "($self, wait=True, *, cancel_futures=False, delayed='cancel')")]
    fn shutdown(
        &self,
        py: Python<'_>,
        wait: Truth,
        cancel_futures: Truth,
        delayed: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let delayed = checked_delayed(delayed)?;
        let (engine, _) = self.contents()?.close(py, !cancel_futures.0, delayed);
        if wait.0 {
            exit::join(py, &engine, None, true)?;
        }
        Ok(())
    }

    /// Like `shutdown`, for at most *timeout*; what is left then is cancelled.
    ///
    /// Returns:
    ///     Whether everything ended in time, and nothing was cut short.
    #[pyo3(signature = (timeout=None, *, delayed=None),
           text_signature = "($self, timeout=None, *, delayed='cancel')")]
    fn wait_and_exit(
        &self,
        py: Python<'_>,
        timeout: Option<&Bound<'_, PyAny>>,
        delayed: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<bool> {
        // Checked first: a refused call must not have stopped anything.
        let deadline = convert::deadline(timeout)?;
        let delayed = checked_delayed(delayed)?;
        Ok(self.contents()?.end(py, deadline, delayed)? == Ended::Whole)
    }

    /// What `wait_and_exit` does before it waits: for `aclose`. `False`: that has cut a task short.
    fn _begin_end(&self, py: Python<'_>, delayed: &Bound<'_, PyAny>) -> PyResult<bool> {
        let delayed = checked_delayed(Some(delayed))?;
        Ok(self.contents()?.close(py, true, delayed).1)
    }

    /// Whether everything has ended that can.
    fn _has_ended(&self, py: Python<'_>) -> PyResult<bool> {
        exit::has_ended(py, &self.contents()?.engine(py))
    }

    /// Cancels what is left, and tells whether there was nothing.
    fn _end_now(&self, py: Python<'_>) -> PyResult<bool> {
        let engine = self.contents()?.engine(py);
        let nothing_left = exit::has_ended(py, &engine)? && engine.runs_elsewhere() == 0;
        if !nothing_left {
            exit::cut_short(py, &engine)?;
        }
        Ok(nothing_left)
    }

    /// Whether `task` was posted to this pool, in this process.
    fn _has_posted(&self, task: &Bound<'_, TaskBase>) -> PyResult<bool> {
        let engine = self.contents()?.engine(task.py());
        Ok(Arc::ptr_eq(&engine, &task.get().engine))
    }

    /// Whether it never takes a task again: it is shut down, or an initializer has failed.
    fn _is_over(&self, py: Python<'_>) -> PyResult<bool> {
        let contents = self.contents()?;
        let instance = contents.instance(py);
        Ok(instance.runner.is_broken() || instance.engine.pool().is_closed())
    }

    /// The fields of `PoolStats`, in order.
    fn _stats(&self, py: Python<'_>) -> PyResult<Py<PyTuple>> {
        let stats = self.contents()?.engine(py).stats();
        let fields = [
            stats.pool.max_workers as u64,
            stats.pool.running as u64,
            stats.pool.idle as u64,
            stats.pool.waiting as u64,
            stats.pending_timers as u64,
            stats.submitted,
            stats.successful,
            stats.failed,
            stats.cancelled,
            stats.dropped,
            stats.successful + stats.failed,
            stats.skipped_runs,
            stats.missed_runs,
            stats.elsewhere as u64,
        ];
        Ok(PyTuple::new(py, fields)?.unbind())
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let py = slf.py();
        let class = slf.get_type().fully_qualified_name()?;
        let address = slf.as_ptr() as usize;
        let Some(contents) = slf.get().contents.get() else {
            return Ok(format!("<{class} at {address:#x}, __init__() not called>"));
        };
        let instance = contents.instance(py);
        let stats = instance.engine.stats();
        let state = if instance.runner.is_broken() {
            "broken"
        } else if instance.engine.pool().is_closed() {
            "shut down"
        } else {
            "open"
        };
        let bound = match contents.options.pool.queue_size {
            Some(size) => format!("/{size}"),
            None => String::new(),
        };
        Ok(format!(
            "<{class} {name} at {address:#x}: {state}, {workers} of {max} workers, {running} \
             running, {waiting}{bound} in the queue, {timers} timers>",
            name = convert::repr(PyString::new(py, &contents.options.pool.thread_name).as_any()),
            workers = stats.pool.running + stats.pool.idle,
            max = stats.pool.max_workers,
            running = stats.pool.running,
            waiting = stats.pool.waiting,
            timers = stats.pending_timers,
        ))
    }

    /// Refused, always: threads and what they run stay in their process.
    fn __reduce__(slf: &Bound<'_, Self>) -> PyResult<()> {
        Err(convert::not_pickled(
            slf.as_any(),
            "a pool stays in its process",
        ))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let Some(contents) = self.contents.get() else {
            return Ok(());
        };
        // Neither lock is held while Python runs; see `TaskBase::__traverse__`.
        if let Some(place) = &contents.place
            && let Ok(place) = place.try_lock()
        {
            visit.call(place.as_deref())?;
        }
        match &contents.initializer {
            Some(initializer) if contents.is_finished() => initializer.traverse(&visit),
            _ => Ok(()),
        }
    }

    fn __clear__(&self) {
        let Some(contents) = self.contents.get() else {
            return;
        };
        if let Some(place) = &contents.place {
            let place = lock(place).take();
            drop(place);
        }
        if let Some(initializer) = &contents.initializer
            && contents.is_finished()
        {
            initializer.forget();
        }
    }
}
