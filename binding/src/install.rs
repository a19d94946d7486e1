//! What the package calls once, when it is imported: everything is found and set up that may fail, or
//! that could not be done later.
//!
//! Owned by nobody; no other file uses it.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDelta, PyMapping, PyType};

use crate::errors;
use crate::fork;
use crate::hooks::Hooks;
use crate::pool::PoolBase;
use crate::task::TaskBase;
use crate::unseen;

/// Called by the package when it is imported. `functions` is a module with those that [`Hooks`] names.
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
    let hooks = Hooks::find(task_class, pool_class, condition_class, &functions)?;
    fork::watch_forks();
    // A second import finds the first one's classes, as everybody else does.
    if hooks.install(py) {
        unseen::install(py);
    }
    Ok(())
}
