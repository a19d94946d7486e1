//! The default pool, and the functions of the module that use it.
//!
//! Owned by the process, one in each, made at first use. The lock below is a leaf: the pool is made outside
//! it, and of two that were made in a race one is thrown away before it has started a thread.

use std::time::Instant;

use asynctask::engine::Delayed;
use asynctask::fork::ForkGeneration;
use asynctask::sync::{Mutex, Parker, lock};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::callback;
use crate::convert::{self, Minimum};
use crate::hooks::Hooks;
use crate::pool::arguments::checked_delayed;
use crate::pool::{Ended, PoolBase};
use crate::signals::interrupted;
use crate::task::TaskBase;
use crate::task::job;

struct Default {
    pool: Py<PoolBase>,
    /// The process in which somebody has used it, so that it can no longer be replaced there. A
    /// forked child begins with an unused one.
    used: Option<ForkGeneration>,
}

impl Default {
    fn is_used(&self) -> bool {
        self.used.is_some_and(|used| !used.is_inherited())
    }
}

static DEFAULT: Mutex<Option<Default>> = Mutex::new(None);

/// The default pool's own defaults: a program that posts faster than it works must feel it before
/// its memory does.
const QUEUE_SIZE: usize = 10_000;

fn default_pool(py: Python<'_>) -> PyResult<Py<PoolBase>> {
    if let Some(default) = &mut *lock(&DEFAULT) {
        default.used = Some(ForkGeneration::current());
        return Ok(default.pool.clone_ref(py));
    }
    let new = make(py, &PyDict::new(py))?;
    let mut slot = lock(&DEFAULT);
    match &mut *slot {
        Some(default) => {
            default.used = Some(ForkGeneration::current());
            let pool = default.pool.clone_ref(py);
            drop(slot);
            drop(new);
            Ok(pool)
        }
        empty @ None => {
            *empty = Some(Default {
                pool: new.clone_ref(py),
                used: Some(ForkGeneration::current()),
            });
            Ok(new)
        }
    }
}

fn make(py: Python<'_>, options: &Bound<'_, PyDict>) -> PyResult<Py<PoolBase>> {
    if !options.contains("queue_size")? {
        options.set_item("queue_size", QUEUE_SIZE)?;
    }
    let class = Hooks::get(py)?.pool_class.bind(py);
    let pool = callback::call(class.as_any(), &PyTuple::empty(py), Some(options))?;
    Ok(pool.cast_into::<PoolBase>()?.unbind())
}

/// Post a task to the default pool.
///
/// A worker runs ``callback(*args, **kwargs)``: now, after the delay of a `DelayTask`, or over and
/// over as an `IntervalTask` says; given together they combine. The default pool is made at first
/// use; its queue holds 10,000 tasks, and a post that finds it full waits for room.
///
/// Args:
///     callback: Anything that can be called. It runs on a worker, in an empty context of its own;
///         a coroutine function runs on its loop, in a copy of the poster's, as asyncio has it.
///     options: At most one delay and one interval.
///     args: Positional arguments for the callback.
///     kwargs: Keyword arguments for the callback.
///     name: For logs; ``task-`` and a number by default.
///     context: The `contextvars.Context` to run in; ``copy_context()`` for the poster's values.
///         The runs of a series share it.
///     executor: A `concurrent.futures.Executor` that runs the callback when it is due. The
///         handle, its deadlines and its cancelling stay here.
///     loop: The event loop on which a coroutine function runs; the running one by default.
///
/// Returns:
///     The task's handle. It may be dropped.
///
/// Raises:
///     TypeError: An argument is of the wrong type.
///     ValueError: A value is out of range, or two options contradict each other.
///     PoolShutdown: The default pool has ended, or the program is about to.
///
/// >>> import asynctask
/// >>> asynctask.post_task(pow, args=(2, 10)).result()
/// 1024
#[pyfunction]
#[pyo3(signature = (callback, /, *options, args=None, kwargs=None, name=None, context=None,
                    executor=None, r#loop=None))]
#[expect(
    clippy::too_many_arguments,
    reason = "they are the function's keywords"
)]
pub(crate) fn post_task<'py>(
    callback: &Bound<'py, PyAny>,
    options: &Bound<'py, PyTuple>,
    args: Option<&Bound<'py, PyAny>>,
    kwargs: Option<&Bound<'py, PyAny>>,
    name: Option<&Bound<'py, PyAny>>,
    context: Option<&Bound<'py, PyAny>>,
    executor: Option<&Bound<'py, PyAny>>,
    r#loop: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, TaskBase>> {
    let pool = default_pool(callback.py())?;
    pool.get().post_task(
        callback, options, args, kwargs, name, context, executor, r#loop,
    )
}

/// Give the default pool, making it if need be.
#[pyfunction]
pub(crate) fn get_async_task(py: Python<'_>) -> PyResult<Py<PoolBase>> {
    default_pool(py)
}

/// Choose the options of the default pool, before its first use.
///
/// Args:
///     max_workers: The most workers at a time.
///     max_capacity: The most tasks that wait for a worker; 10,000 by default.
///     pool_options: Any other argument of `AsyncTaskPool`.
///
/// Raises:
///     RuntimeError: The default pool has been used already.
///     TypeError: As `AsyncTaskPool` does.
///     ValueError: As `AsyncTaskPool` does.
#[pyfunction]
#[pyo3(signature = (max_workers=None, max_capacity=None, **pool_options))]
pub(crate) fn set_work_pool_options(
    py: Python<'_>,
    max_workers: Option<Bound<'_, PyAny>>,
    max_capacity: Option<Bound<'_, PyAny>>,
    pool_options: Option<Bound<'_, PyDict>>,
) -> PyResult<()> {
    let options = pool_options.unwrap_or_else(|| PyDict::new(py));
    if let Some(max_workers) = max_workers {
        options.set_item("max_workers", max_workers)?;
    }
    if let Some(max_capacity) = max_capacity {
        // Under its own name, so that a refusal names what the caller wrote.
        let capacity = convert::size("max_capacity", &max_capacity, 0)?;
        options.set_item("queue_size", capacity)?;
    }
    let new = make(py, &options)?;
    let mut slot = lock(&DEFAULT);
    let refused = slot.as_ref().is_some_and(Default::is_used);
    let old = if refused {
        None
    } else {
        slot.replace(Default {
            pool: new,
            used: None,
        })
    };
    drop(slot);
    drop(old);
    if refused {
        return Err(PyRuntimeError::new_err(
            "the default pool runs already; its options must be set before its first use",
        ));
    }
    Ok(())
}

/// Ends the default pool; see the package.
#[pyfunction]
pub(crate) fn _wait_and_exit(
    py: Python<'_>,
    timeout: Option<&Bound<'_, PyAny>>,
    delayed: Option<&Bound<'_, PyAny>>,
) -> PyResult<bool> {
    // Checked even if there is nothing to end.
    let deadline = convert::deadline(timeout)?;
    let delayed = checked_delayed(delayed)?;
    let pool = {
        let slot = lock(&DEFAULT);
        slot.as_ref()
            .filter(|default| default.is_used())
            .map(|default| default.pool.clone_ref(py))
    };
    match pool {
        None => Ok(true),
        Some(pool) => Ok(pool.get().contents()?.end(py, deadline, delayed)? == Ended::Whole),
    }
}

/// Forgets the default pool, after ending it; see the package.
#[pyfunction]
pub(crate) fn _reset_default_pool(
    py: Python<'_>,
    timeout: Option<&Bound<'_, PyAny>>,
) -> PyResult<bool> {
    let deadline = convert::deadline(timeout)?; // a refused call must not have forgotten anything
    let old = lock(&DEFAULT).take();
    match old {
        None => Ok(true),
        Some(old) => Ok(old
            .pool
            .get()
            .contents()?
            .end(py, deadline, Delayed::Cancel)?
            != Ended::Late),
    }
}

/// Sleep for *delay*, never less, with the GIL released; Ctrl-C ends it at once.
///
/// >>> import asynctask
/// >>> asynctask.sleep(0.005)
#[pyfunction]
pub(crate) fn sleep(py: Python<'_>, delay: &Bound<'_, PyAny>) -> PyResult<()> {
    let delay = convert::duration("delay", delay, Minimum::Passed)?;
    let end = Instant::now().checked_add(delay);
    if let Some(gevent) = Hooks::gevent(py)? {
        return Hooks::poll(&gevent, end, || None::<()>).map(drop);
    }
    let mut raised = None;
    py.detach(|| {
        // Nobody has the token to give: it ends in time, or by a signal.
        let _ = Parker::new().wait(end, &mut interrupted(&mut raised));
    });
    raised.map_or(Ok(()), Err)
}

/// Give the task whose callback this is called from, or ``None`` outside of callbacks.
///
/// >>> import asynctask
/// >>> task = asynctask.post_task(asynctask.current_task)
/// >>> task.result() is task
/// True
#[pyfunction]
pub(crate) fn current_task(py: Python<'_>) -> Option<Bound<'_, TaskBase>> {
    job::current(py)
}

/// Raise `CancelledError` if the task whose callback this is called from was asked to give up.
///
/// That is what `AsyncTask.cancel` asks of a running task, and a group of its tasks when one of
/// them fails. Outside of callbacks it does nothing. It takes a few nanoseconds.
#[pyfunction]
pub(crate) fn check_cancelled(py: Python<'_>) -> PyResult<()> {
    job::check_cancelled(py)
}
