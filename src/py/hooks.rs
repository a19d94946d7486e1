//! What the binding asks of the package's Python files: the two public classes, logging, and the
//! registration of worker threads.
//!
//! Set once, when the package is imported; never changed. It calls Python, so never under a lock.

use std::time::Instant;

use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyString, PyType};

use super::pool::PoolBase;
use super::task::TaskBase;

pub(super) struct Hooks {
    /// `AsyncTask`, of which every handle is an instance.
    pub(super) task_class: Py<PyType>,
    /// `AsyncTaskPool`, of which the default pool is an instance.
    pub(super) pool_class: Py<PyType>,
    /// `threading.Condition`.
    pub(super) condition_class: Py<PyAny>,
    functions: Py<PyAny>,
}

static HOOKS: PyOnceLock<Hooks> = PyOnceLock::new();

/// Called by the package when it is imported. `functions` is a module with those
/// called below.
#[pyfunction]
pub(super) fn _install(
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
    let hooks = Hooks {
        task_class: task_class.unbind(),
        pool_class: pool_class.unbind(),
        condition_class: condition_class.unbind(),
        functions: functions.unbind(),
    };
    // A second import finds the first one's classes, as everybody else does.
    let _ = HOOKS.set(py, hooks);
    Ok(())
}

impl Hooks {
    pub(super) fn get(py: Python<'_>) -> PyResult<&Self> {
        HOOKS
            .get(py)
            .ok_or_else(|| PyRuntimeError::new_err("asynctask._asynctask was imported on its own"))
    }

    /// Tells Python's `threading` about the calling worker.
    pub(super) fn register_thread(py: Python<'_>, name: &str) {
        Self::tell(py, "register_thread", |module, method| {
            module.call_method1(method, (name,))
        });
    }

    /// Takes [`register_thread`](Self::register_thread) back.
    pub(super) fn unregister_thread(py: Python<'_>) {
        Self::tell(py, "unregister_thread", |module, method| {
            module.call_method0(method)
        });
    }

    /// Something that has callbacks run by `executor`.
    pub(super) fn on_executor(py: Python<'_>, executor: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        Ok(Self::ask(py)?
            .call_method1("on_executor", (executor,))?
            .unbind())
    }

    /// Something that has coroutine functions run on `event_loop`, or on the running loop.
    pub(super) fn on_loop(
        py: Python<'_>,
        event_loop: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        Ok(Self::ask(py)?
            .call_method1("on_loop", (event_loop,))?
            .unbind())
    }

    /// The package's functions for gevent, if this thread must not simply block. A program without
    /// gevent pays one look into a dict, and only where it would have gone to sleep.
    pub(super) fn gevent(py: Python<'_>) -> PyResult<Option<Bound<'_, PyAny>>> {
        let modules = py
            .import(intern!(py, "sys"))?
            .getattr(intern!(py, "modules"))?;
        if !modules.contains(intern!(py, "gevent.monkey"))? {
            return Ok(None);
        }
        let gevent = py.import("asynctask._gevent")?;
        let cooperative: bool = gevent.call_method0("is_cooperative")?.extract()?;
        Ok(cooperative.then(|| gevent.into_any()))
    }

    /// Repeats `attempt`, which must not block, until it gives something or `deadline` passes, and
    /// lets other greenlets run in between.
    pub(super) fn poll<R>(
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
            gevent.call_method1("pause", (left.map(|left| left.as_secs_f64()),))?;
        }
    }

    /// Whether calling it gives a coroutine.
    pub(super) fn is_coroutine_function(callback: &Bound<'_, PyAny>) -> PyResult<bool> {
        let functions = Self::ask(callback.py())?;
        functions
            .call_method1("is_coroutine_function", (callback,))?
            .extract()
    }

    fn ask(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
        Ok(Self::get(py)?.functions.bind(py))
    }

    /// Nobody looked at a failure while its handle lived.
    pub(super) fn log_unseen(py: Python<'_>, name: &str, error: &Bound<'_, PyAny>) {
        Self::tell(py, "log_unseen", |module, method| {
            module.call_method1(method, (name, error))
        });
    }

    /// A run of a series failed.
    pub(super) fn log_run(py: Python<'_>, name: &str, error: &Bound<'_, PyAny>) {
        Self::tell(py, "log_run", |module, method| {
            module.call_method1(method, (name, error))
        });
    }

    /// A done-callback failed.
    pub(super) fn log_callback(py: Python<'_>, task: &Bound<'_, PyAny>, error: &PyErr) {
        Self::tell(py, "log_callback", |module, method| {
            module.call_method1(method, (task, error.value(py)))
        });
    }

    /// The initializer failed.
    pub(super) fn log_initializer(py: Python<'_>, error: &PyErr) {
        Self::tell(py, "log_initializer", |module, method| {
            module.call_method1(method, (error.value(py),))
        });
    }

    /// Calls one of the functions above; a failure has nobody to go to but `sys.unraisablehook`.
    fn tell<'py>(
        py: Python<'py>,
        method: &'static str,
        call: impl FnOnce(&Bound<'py, PyAny>, &Bound<'py, PyString>) -> PyResult<Bound<'py, PyAny>>,
    ) {
        let result = Self::get(py)
            .and_then(|hooks| call(hooks.functions.bind(py), &PyString::intern(py, method)));
        if let Err(error) = result {
            error.write_unraisable(py, None);
        }
    }
}
