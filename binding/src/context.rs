//! Contexts of `contextvars`: taken at the post, entered by the run.
//!
//! Owned by the task that was posted with one, or by the worker that has made one. Nothing here looks at
//! what is set in a context, but for whether anything is.

use std::cell::Cell;
use std::ffi::c_int;

use pyo3::ffi;
use pyo3::prelude::*;

use crate::kept::{Kept, is_last};
use crate::thread;

/// A copy of the calling thread's context, or `None` when nothing is set in it: a fresh context
/// does as well then, and costs a pending task no memory.
pub(crate) fn capture(py: Python<'_>) -> PyResult<Option<Kept>> {
    // SAFETY: attached; the result is a new reference, or null with an exception set.
    let context: Bound<'_, PyAny> =
        unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyContext_CopyCurrent())? };
    Ok((!is_empty(&context)).then(|| context.into()))
}

/// Whether nothing is set in a context.
fn is_empty(context: &Bound<'_, PyAny>) -> bool {
    // SAFETY: attached, and the object is a live one. That of a context cannot fail.
    unsafe { ffi::PyMapping_Size(context.as_ptr()) == 0 }
}

/// A context that has what another has, and goes its own way from there.
pub(crate) fn copy(py: Python<'_>, context: &Kept) -> PyResult<Kept> {
    // SAFETY: attached, and the object is a context: ours, or one that was checked at posting. The
    // result is a new reference, or null with an exception set.
    let copy: Bound<'_, PyAny> =
        unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyContext_Copy(context.as_ptr()))? };
    Ok(copy.into())
}

/// A context with nothing in it.
fn new(py: Python<'_>) -> PyResult<Kept> {
    // SAFETY: attached; the result is a new reference, or null with an exception set.
    let context = unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyContext_New())? };
    Ok(context.into())
}

thread_local! {
    /// A context of this worker's in which nothing is set and that nobody else has, for the next run
    /// that wants a fresh one; see `docs/design/binding.md`. Null for none; what is there is owned.
    static SPARE: Cell<*mut ffi::PyObject> = const { Cell::new(std::ptr::null_mut()) };
}

/// A context in which nothing is set.
fn fresh(py: Python<'_>) -> PyResult<Kept> {
    let spare = SPARE.replace(std::ptr::null_mut());
    // SAFETY: what the cell has is owned, and was taken out.
    match unsafe { Bound::from_owned_ptr_or_opt(py, spare) } {
        Some(spare) => Ok(spare.into()),
        None => new(py),
    }
}

/// Keeps a context that has been left, if it is as good as new. Only on a worker, which will
/// [let go](drop_spare) of it in the end.
fn keep_spare(py: Python<'_>, context: Kept) {
    if is_last(context.bind(py)) && is_empty(context.bind(py)) && thread::is_worker() {
        drop_spare(py);
        SPARE.set(context.into_ptr());
    }
}

pub(crate) fn drop_spare(py: Python<'_>) {
    let spare = SPARE.replace(std::ptr::null_mut());
    // SAFETY: as in `fresh`.
    drop(unsafe { Bound::from_owned_ptr_or_opt(py, spare) }.map(Kept::from));
}

/// Runs `f` in `context`, or in a fresh one. pyo3 has no safe way to enter a context, and `Context.run` is
/// too slow.
pub(crate) fn enter<R>(
    py: Python<'_>,
    context: Option<&Kept>,
    f: impl FnOnce() -> PyResult<R>,
) -> PyResult<R> {
    let Some(context) = context else {
        let fresh = fresh(py)?;
        let result = enter(py, Some(&fresh), f);
        keep_spare(py, fresh);
        return result;
    };
    let context = context.bind(py);
    // SAFETY: attached, and the object is a context: ours, or one that was checked at posting.
    check(py, unsafe { ffi::PyContext_Enter(context.as_ptr()) })?;
    let result = f();
    // SAFETY: as above, and this thread entered it. `result` is out of the interpreter's hands, so
    // no exception is pending that this could overwrite.
    check(py, unsafe { ffi::PyContext_Exit(context.as_ptr()) })?;
    result
}

fn check(py: Python<'_>, status: c_int) -> PyResult<()> {
    if status == 0 {
        Ok(())
    } else {
        Err(PyErr::fetch(py))
    }
}
