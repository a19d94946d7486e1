//! What the binding asks of the package's Python files: the two public classes, logging, and the
//! registration of worker threads.
//!
//! Set once, when the package is imported; never changed. It calls Python, so never under a lock.

use std::time::Instant;

use asynctask::pool::is_any_worker;
use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDelta, PyDict, PyList, PyMapping, PyString, PyTuple, PyType};

use crate::callback::{self, Kept};
use crate::gate;
use crate::pool::PoolBase;
use crate::task::TaskBase;
use crate::{errors, unseen};

pub(crate) struct Hooks {
    /// `AsyncTask`, of which every handle is an instance.
    pub(crate) task_class: Py<PyType>,
    /// `AsyncTaskPool`, of which the default pool is an instance.
    pub(crate) pool_class: Py<PyType>,
    /// `threading.Condition`.
    pub(crate) condition_class: Py<PyAny>,
    functions: Py<PyAny>,
    /// One of them, which workers call all the time.
    safe_point: Py<PyAny>,
    /// `functools.partial` and `types.MethodType`.
    pub(crate) partial_class: Py<PyAny>,
    pub(crate) method_class: Py<PyAny>,
    /// `gc.get_objects` and `gc.unfreeze`.
    pub(crate) get_objects: Py<PyAny>,
    pub(crate) unfreeze: Py<PyAny>,
    /// `sys.modules`.
    modules: Py<PyDict>,
}

static HOOKS: PyOnceLock<Hooks> = PyOnceLock::new();

/// Called by the package when it is imported. `functions` is a module with those
/// called below.
#[pyfunction]
pub(crate) fn _install(
    task_class: Bound<'_, PyType>,
    pool_class: Bound<'_, PyType>,
    condition_class: Bound<'_, PyAny>,
    functions: Bound<'_, PyAny>,
) -> PyResult<()> {
    let py = functions.py();
    // What `new_task` relies on.
    if !task_class.is_subclass_of::<TaskBase>()? || !pool_class.is_subclass_of::<PoolBase>()? {
        return Err(PyTypeError::new_err(
            "the classes must be subclasses of TaskBase and PoolBase",
        ));
    }
    // What pyo3 would import when it is first needed is imported now: a child that is forked while
    // another thread imports a module waits for that module for ever, and a finalizer that runs at the
    // end of the program can import nothing.
    PyDelta::new(py, 0, 0, 0, false)?;
    let _ = task_class.cast::<PyMapping>();
    errors::resolve(py);
    let hooks = Hooks {
        task_class: task_class.unbind(),
        pool_class: pool_class.unbind(),
        condition_class: condition_class.unbind(),
        safe_point: functions.getattr("safe_point")?.unbind(),
        functions: functions.unbind(),
        partial_class: py.import("functools")?.getattr("partial")?.unbind(),
        method_class: py.import("types")?.getattr("MethodType")?.unbind(),
        get_objects: py.import("gc")?.getattr("get_objects")?.unbind(),
        unfreeze: py.import("gc")?.getattr("unfreeze")?.unbind(),
        modules: py
            .import("sys")?
            .getattr("modules")?
            .cast_into::<PyDict>()?
            .unbind(),
    };
    gate::watch_forks();
    // A second import finds the first one's classes, as everybody else does.
    if HOOKS.set(py, hooks).is_ok() {
        unseen::install(py);
    }
    Ok(())
}

impl Hooks {
    pub(crate) fn get(py: Python<'_>) -> PyResult<&Self> {
        HOOKS
            .get(py)
            .ok_or_else(|| PyRuntimeError::new_err("asynctask._asynctask was imported on its own"))
    }

    /// Tells Python's `threading` about the calling worker. What it gives takes that back when it is
    /// called; `None`: Python has failed.
    pub(crate) fn register_thread<'py>(py: Python<'py>, name: &str) -> Option<Bound<'py, PyAny>> {
        let unregister = Self::tell(py, "register_thread", |module, method| {
            callback::call_method(module, method, (name,))
        });
        Self::tell(py, "trace_thread", |module, method| {
            callback::call_method(module, method, ())
        });
        unregister
    }

    /// Calls what [`register_thread`](Self::register_thread) has given.
    pub(crate) fn unregister_thread(unregister: Option<Bound<'_, PyAny>>) {
        let Some(unregister) = unregister else { return };
        let py = unregister.py();
        // The thread object, which may end here, and with it whatever has been set on it.
        let thread = callback::call(&unregister, &PyTuple::empty(py), None).map(Kept::from);
        if let Err(error) = thread {
            callback::unraisable(py, error, None);
        }
    }

    /// Runs a bytecode.
    pub(crate) fn safe_point(py: Python<'_>) {
        let called = Self::get(py)
            .and_then(|hooks| callback::call(hooks.safe_point.bind(py), &PyTuple::empty(py), None));
        if let Err(error) = called {
            // Somebody else's: a trace function's, or an exception that was set for this thread.
            callback::unraisable(py, error, None);
        }
    }

    /// A pool has lent more workers than anybody should need.
    pub(crate) fn log_lent(py: Python<'_>, pool: &str, lent: usize) {
        Self::tell(py, "log_lent", |module, method| {
            callback::call_method(module, method, (pool, lent))
        });
    }

    /// Something that has callbacks run by `executor`.
    pub(crate) fn on_executor(py: Python<'_>, executor: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        let functions = Self::ask(py)?;
        Ok(callback::call_method(functions, intern!(py, "on_executor"), (executor,))?.unbind())
    }

    /// Something that has coroutine functions run on `event_loop`, or on the running loop.
    pub(crate) fn on_loop(
        py: Python<'_>,
        event_loop: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let functions = Self::ask(py)?;
        Ok(callback::call_method(functions, intern!(py, "on_loop"), (event_loop,))?.unbind())
    }

    /// The package's functions for gevent, if this thread must not simply block. A program without
    /// gevent pays one look into a dict, and only where it would have gone to sleep.
    pub(crate) fn gevent(py: Python<'_>) -> PyResult<Option<Bound<'_, PyAny>>> {
        if is_any_worker() {
            return Ok(None); // it has a hub only because gevent's `threading` makes one
        }
        let modules = Self::get(py)?.modules.bind(py);
        if !modules.contains(intern!(py, "gevent.monkey"))? {
            return Ok(None);
        }
        let gevent = callback::call_method(Self::ask(py)?, intern!(py, "cooperative_gevent"), ())?;
        Ok((!gevent.is_none()).then_some(gevent))
    }

    /// Repeats `attempt`, which must not block, until it gives something or `deadline` passes, and
    /// lets other greenlets run in between.
    pub(crate) fn poll<R>(
        gevent: &Bound<'_, PyAny>,
        deadline: Option<Instant>,
        mut attempt: impl FnMut() -> Option<R>,
    ) -> PyResult<Option<R>> {
        loop {
            if let Some(result) = attempt() {
                return Ok(Some(result));
            }
            let left = deadline.map(|end| end.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Ok(None);
            }
            let left = left.map(|left| left.as_secs_f64());
            callback::call_method(gevent, intern!(gevent.py(), "pause"), (left,))?;
        }
    }

    /// Whether an event loop runs on this thread.
    pub(crate) fn is_on_loop(py: Python<'_>) -> PyResult<bool> {
        callback::call_method(Self::ask(py)?, intern!(py, "is_on_loop"), ())?.extract()
    }

    /// The numbers of the loops whose coroutines cannot get on: those that do not run and, if this
    /// thread `blocks`, the one that runs here.
    pub(crate) fn stalled_loops(py: Python<'_>, blocks: bool) -> PyResult<Vec<u64>> {
        callback::call_method(Self::ask(py)?, intern!(py, "stalled_loops"), (blocks,))?.extract()
    }

    /// Every task that is on a loop.
    pub(crate) fn runs_on_loops(py: Python<'_>) -> PyResult<Vec<Py<PyAny>>> {
        callback::call_method(Self::ask(py)?, intern!(py, "runs_on_loops"), ())?.extract()
    }

    /// Takes out of a poster's context which kind of loop the poster runs under: that does not go for
    /// a worker, nor for another loop.
    pub(crate) fn forget_async_library(context: &Bound<'_, PyAny>, is_loop: bool) -> PyResult<()> {
        let py = context.py();
        if !Self::get(py)?
            .modules
            .bind(py)
            .contains(intern!(py, "sniffio"))?
        {
            return Ok(());
        }
        let name = intern!(py, "forget_async_library");
        callback::call_method(Self::ask(py)?, name, (context, is_loop)).map(drop)
    }

    /// A list for a task's `_waiters`.
    pub(crate) fn new_waiters(py: Python<'_>) -> PyResult<Bound<'_, PyList>> {
        let waiters = callback::call_method(Self::ask(py)?, intern!(py, "new_waiters"), ())?;
        Ok(waiters.cast_into()?)
    }

    /// Whether calling it gives a coroutine.
    pub(crate) fn is_coroutine_function(callback: &Bound<'_, PyAny>) -> PyResult<bool> {
        let py = callback.py();
        let functions = Self::ask(py)?;
        let name = intern!(py, "is_coroutine_function");
        callback::call_method(functions, name, (callback,))?.extract()
    }

    /// Whether instances of a class give no coroutine, but for those that have an attribute of their
    /// own that says so.
    pub(crate) fn is_plain_class(class: &Bound<'_, PyType>) -> PyResult<bool> {
        let py = class.py();
        let name = intern!(py, "is_plain_class");
        callback::call_method(Self::ask(py)?, name, (class,))?.extract()
    }

    /// Whether there are threads besides the calling one.
    pub(crate) fn has_other_threads(py: Python<'_>) -> PyResult<bool> {
        let name = intern!(py, "has_other_threads");
        callback::call_method(Self::ask(py)?, name, ())?.extract()
    }

    fn ask(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
        Ok(Self::get(py)?.functions.bind(py))
    }

    /// Ends this process, a child forked in a callback that `error` is the failure of.
    pub(crate) fn end_child(py: Python<'_>, error: Option<&PyErr>) -> ! {
        let error = error.map(|error| error.value(py));
        Self::tell(py, "end_child", |module, method| {
            callback::call_method(module, method, (error,))
        });
        // It does not return, unless there is something wrong with Python's own files.
        std::process::abort()
    }

    /// Nobody looked at a failure while its handle lived.
    pub(crate) fn log_unseen(py: Python<'_>, name: &str, error: &Bound<'_, PyAny>) {
        Self::tell(py, "log_unseen", |module, method| {
            callback::call_method(module, method, (name, error))
        });
    }

    /// A run of a series failed.
    pub(crate) fn log_run(py: Python<'_>, name: &str, error: &Bound<'_, PyAny>) {
        Self::tell(py, "log_run", |module, method| {
            callback::call_method(module, method, (name, error))
        });
    }

    /// A done-callback failed.
    pub(crate) fn log_callback(py: Python<'_>, task: &Bound<'_, PyAny>, error: &PyErr) {
        Self::tell(py, "log_callback", |module, method| {
            callback::call_method(module, method, (task, error.value(py)))
        });
    }

    /// So many series of the parent's are cancelled in this process, a fork of it.
    pub(crate) fn log_inherited(py: Python<'_>, count: u64) {
        Self::tell(py, "log_inherited", |module, method| {
            callback::call_method(module, method, (count,))
        });
    }

    /// A shutdown does not wait for so many coroutines.
    pub(crate) fn log_stalled(py: Python<'_>, count: usize) {
        Self::tell(py, "log_stalled", |module, method| {
            callback::call_method(module, method, (count,))
        });
    }

    /// A shutdown has kept the loop of its thread waiting.
    pub(crate) fn log_blocked_loop(py: Python<'_>) {
        Self::tell(py, "log_blocked_loop", |module, method| {
            callback::call_method(module, method, ())
        });
    }

    /// The initializer failed.
    pub(crate) fn log_initializer(py: Python<'_>, error: &PyErr) {
        Self::tell(py, "log_initializer", |module, method| {
            callback::call_method(module, method, (error.value(py),))
        });
    }

    /// Calls one of the functions above; a failure has nobody to go to but `sys.unraisablehook`.
    fn tell<'py>(
        py: Python<'py>,
        method: &'static str,
        call: impl FnOnce(&Bound<'py, PyAny>, &Bound<'py, PyString>) -> PyResult<Bound<'py, PyAny>>,
    ) -> Option<Bound<'py, PyAny>> {
        Self::get(py)
            .and_then(|hooks| call(hooks.functions.bind(py), &PyString::intern(py, method)))
            .map_err(|error| callback::unraisable(py, error, None))
            .ok()
    }
}
