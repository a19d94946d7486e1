//! The core's errors as Python's exceptions: the only mapping there is.
//!
//! Owned by nobody; it raises nothing by itself. The exception classes are plain Python, in
//! `asynctask/exceptions.py`.

use asynctask::error::Error;
use pyo3::exceptions::{PyKeyboardInterrupt, PyTimeoutError, PyValueError};
use pyo3::import_exception;
use pyo3::prelude::*;

import_exception!(asynctask.exceptions, BrokenPool);
import_exception!(asynctask.exceptions, PoolShutdown);
import_exception!(asynctask.exceptions, QueueFull);
import_exception!(concurrent.futures, CancelledError);
import_exception!(concurrent.futures, InvalidStateError);

/// Imports the classes. pyo3 does so at first use, and panics where that fails: a finalizer at the end
/// of the program may be the first to meet one, when nothing can be imported any more.
pub(crate) fn resolve(py: Python<'_>) {
    py.get_type::<BrokenPool>();
    py.get_type::<PoolShutdown>();
    py.get_type::<QueueFull>();
    py.get_type::<CancelledError>();
    py.get_type::<InvalidStateError>();
}

/// What Python sees of an error of the core's.
pub(crate) fn exception(error: Error) -> PyErr {
    match &error {
        Error::QueueFull => QueueFull::new_err(error.to_string()),
        // The sentence of the standard library's executors.
        Error::Shutdown => PoolShutdown::new_err("cannot schedule new futures after shutdown"),
        // As the standard library's, which has no text either.
        Error::TimedOut => PyTimeoutError::new_err(()),
        Error::Cancelled => CancelledError::new_err(()),
        Error::Ended { .. } => CancelledError::new_err(error.to_string()),
        // Whoever was interrupted has an exception of its own to raise.
        Error::Interrupted => PyKeyboardInterrupt::new_err(()),
        Error::Invalid { .. } => PyValueError::new_err(error.to_string()),
        // And whatever the core may add: it has failed us in a way that we do not know.
        Error::Panicked | Error::NoThread { .. } | _ => BrokenPool::new_err(error.to_string()),
    }
}
