//! How much stack a thread of Python's would have.
//!
//! Owned by nobody; it changes nothing. `threading.stack_size` cannot be asked without being told: called
//! without a size it sets it back to 0. The function below it can.

use asynctask::pool::default_stack_size;
use pyo3::prelude::*;

/// What `threading.stack_size` asks for at least, in bytes.
pub(crate) const LEAST: u64 = 32 << 10;

unsafe extern "C" {
    /// In CPython's `pythread.h`, and in its stable ABI; pyo3 does not have it.
    fn PyThread_get_stacksize() -> usize;
}

/// The stack of a `threading.Thread` that is started now, in bytes.
pub(crate) fn of_thread(_py: Python<'_>) -> usize {
    // SAFETY: it reads a number of the interpreter that the calling thread is attached to, which the
    // token proves; it cannot fail.
    match unsafe { PyThread_get_stacksize() } {
        0 => default_stack_size(),
        told => told,
    }
}
