//! What the binding asks of the package's Python files: the two public classes, logging, and the
//! registration of worker threads.
//!
//! Set once, when the package is imported; never changed. It calls Python, so never under a lock.

use pyo3::exceptions::{PyRuntimeError, PyTypeError};
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
    log: Py<PyAny>,
}

static HOOKS: PyOnceLock<Hooks> = PyOnceLock::new();

/// Called by the package when it is imported. `log` is a module with the functions called below.
#[pyfunction]
pub(super) fn _install(
    task_class: Bound<'_, PyType>,
    pool_class: Bound<'_, PyType>,
    condition_class: Bound<'_, PyAny>,
    log: Bound<'_, PyAny>,
) -> PyResult<()> {
    let py = log.py();
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
        log: log.unbind(),
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
        Self::tell(py, "register_thread", |log, method| {
            log.call_method1(method, (name,))
        });
    }

    /// Takes [`register_thread`](Self::register_thread) back.
    pub(super) fn unregister_thread(py: Python<'_>) {
        Self::tell(py, "unregister_thread", |log, method| {
            log.call_method0(method)
        });
    }

    /// Nobody looked at a failure while its handle lived.
    pub(super) fn log_unseen(py: Python<'_>, name: &str, error: &Bound<'_, PyAny>) {
        Self::tell(py, "log_unseen", |log, method| {
            log.call_method1(method, (name, error))
        });
    }

    /// A run of a series failed.
    pub(super) fn log_run(py: Python<'_>, name: &str, error: &Bound<'_, PyAny>) {
        Self::tell(py, "log_run", |log, method| {
            log.call_method1(method, (name, error))
        });
    }

    /// A done-callback failed.
    pub(super) fn log_callback(py: Python<'_>, task: &Bound<'_, PyAny>, error: &PyErr) {
        Self::tell(py, "log_callback", |log, method| {
            log.call_method1(method, (task, error.value(py)))
        });
    }

    /// The initializer failed.
    pub(super) fn log_initializer(py: Python<'_>, error: &PyErr) {
        Self::tell(py, "log_initializer", |log, method| {
            log.call_method1(method, (error.value(py),))
        });
    }

    /// Calls one of the functions above; a failure has nobody to go to but `sys.unraisablehook`.
    fn tell<'py>(
        py: Python<'py>,
        method: &'static str,
        call: impl FnOnce(&Bound<'py, PyAny>, &Bound<'py, PyString>) -> PyResult<Bound<'py, PyAny>>,
    ) {
        let result =
            Self::get(py).and_then(|hooks| call(hooks.log.bind(py), &PyString::intern(py, method)));
        if let Err(error) = result {
            error.write_unraisable(py, None);
        }
    }
}
