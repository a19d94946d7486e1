//! Calling Python from a thread that the interpreter may end under our feet.
//!
//! Owned by nobody; used for every callback. It never catches an exception and never looks at a
//! result.
//!
//! # Why `unsafe`, and why like this
//!
//! Up to CPython 3.13 a thread that asks for the GIL after the interpreter has begun to finalize is
//! ended by `pthread_exit`, from wherever it is: a callback that sleeps across the end of the
//! program wakes up, asks for the GIL, and is unwound by force. That unwinding passes through the
//! Rust frames below the callback. Through an ordinary `extern "C"` call, which is declared not to
//! unwind, or into a `catch_unwind`, it aborts the process: exit code 134, from a program that had
//! ended well.
//!
//! So a callback is called
//!
//! 1. through a pointer of type `extern "C-unwind"`, and an *opaque* one: the compiler knows the
//!    symbol under its other declaration as well, and when it can see where the pointer comes from
//!    it goes back to "does not unwind";
//! 2. with a guard on the stack whose drop never returns. The unwinding runs it, and the thread
//!    stays there for the few milliseconds that the process still has.
//!
//! On CPython 3.14 and later such threads hang by themselves and the guard never acts.

use std::ffi::c_int;
use std::hint::black_box;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

type Call = unsafe extern "C-unwind" fn(
    *mut ffi::PyObject,
    *mut ffi::PyObject,
    *mut ffi::PyObject,
) -> *mut ffi::PyObject;
type DecRef = unsafe extern "C-unwind" fn(*mut ffi::PyObject);

/// Parks the thread for ever when it is dropped, which only a forced unwinding does.
struct NeverUnwound;

impl Drop for NeverUnwound {
    fn drop(&mut self) {
        loop {
            std::thread::park();
        }
    }
}

/// `callback(*args, **kwargs)`.
pub(super) fn call<'py>(
    callback: &Bound<'py, PyAny>,
    args: &Bound<'py, PyTuple>,
    kwargs: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyAny>> {
    let kwargs = kwargs.map_or(std::ptr::null_mut(), Bound::as_ptr);
    // SAFETY:
    // 1. The pointer is that of a function with this signature; the ABIs "C" and "C-unwind" differ
    //    only in what may be assumed of unwinding.
    // 2. All three arguments are borrowed from live references, and a null `kwargs` is allowed.
    // 3. The thread is attached: the references prove it.
    // 4. The result is a new reference, or null with an exception set.
    unsafe {
        let call: Call = std::mem::transmute(black_box(ffi::PyObject_Call as *const ()));
        let guard = NeverUnwound;
        let result = call(callback.as_ptr(), args.as_ptr(), kwargs);
        std::mem::forget(guard);
        Bound::from_owned_ptr_or_err(callback.py(), result)
    }
}

/// Lets go of an object whose end may run Python code.
pub(super) fn release(object: Bound<'_, PyAny>) {
    // SAFETY:
    // 1. As for `call`.
    // 2. The reference is given up with the object.
    unsafe {
        let release: DecRef = std::mem::transmute(black_box(ffi::Py_DecRef as *const ()));
        let guard = NeverUnwound;
        release(object.into_ptr());
        std::mem::forget(guard);
    }
}

/// A copy of the calling thread's context, or `None` when nothing is set in it: a fresh context
/// does as well then, and costs a pending task no memory.
pub(super) fn capture_context(py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
    // SAFETY: attached; the result is a new reference, or null with an exception set.
    let context = unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyContext_CopyCurrent())? };
    Ok((context.len()? > 0).then(|| context.unbind()))
}

/// Runs `f` in `context`, or in a fresh one. pyo3 has no safe way to enter a context, and calling
/// through `Context.run` costs ten times as much.
pub(super) fn in_context<R>(
    py: Python<'_>,
    context: Option<&Py<PyAny>>,
    f: impl FnOnce() -> PyResult<R>,
) -> PyResult<R> {
    let context = match context {
        Some(context) => context.bind(py).clone(),
        // SAFETY: attached; the result is a new reference, or null with an exception set.
        None => unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyContext_New())? },
    };
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
