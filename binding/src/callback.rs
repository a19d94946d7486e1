//! Calling Python from a thread that the interpreter may end under our feet.
//!
//! Owned by nobody; used for every call that may run Python code, and for every object that may do so
//! when it ends. It never catches an exception and never looks at a result.
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
//! The same goes for a user's daemon thread that is in a method of ours, and for whatever else runs
//! Python code below a Rust frame: a done-callback, a log handler, a `__del__`, a `threading.local`
//! that ends with its thread. So all of these are called
//!
//! 1. through a pointer of type `extern "C-unwind"`, and an *opaque* one: the compiler knows the
//!    symbol under its other declaration as well, and when it can see where the pointer comes from
//!    it goes back to "does not unwind";
//! 2. with a guard on the stack whose drop never returns. The unwinding runs it, and the thread
//!    stays there for the few milliseconds that the process still has.
//!
//! On CPython 3.14 and later such threads hang by themselves and the guard never acts. What does not
//! help is in `docs/design/binding.md`.

use std::hint::black_box;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};

type Call = unsafe extern "C-unwind" fn(
    *mut ffi::PyObject,
    *mut ffi::PyObject,
    *mut ffi::PyObject,
) -> *mut ffi::PyObject;
type OfObject = unsafe extern "C-unwind" fn(*mut ffi::PyObject);
type Release = unsafe extern "C-unwind" fn(ffi::PyGILState_STATE);

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
pub(crate) fn call<'py>(
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

/// `target.name(*args)`.
pub(crate) fn call_method<'py, A>(
    target: &Bound<'py, PyAny>,
    name: &Bound<'py, PyString>,
    args: A,
) -> PyResult<Bound<'py, PyAny>>
where
    A: IntoPyObject<'py, Target = PyTuple, Output = Bound<'py, PyTuple>>,
{
    call_with(&target.getattr(name)?, args)
}

/// `callback(*args)`.
pub(crate) fn call_with<'py, A>(
    callback: &Bound<'py, PyAny>,
    args: A,
) -> PyResult<Bound<'py, PyAny>>
where
    A: IntoPyObject<'py, Target = PyTuple, Output = Bound<'py, PyTuple>>,
{
    let args = args.into_pyobject(callback.py()).map_err(Into::into)?;
    call(callback, &args, None)
}

/// Hands an exception that has nobody to go to over to `sys.unraisablehook`.
pub(crate) fn unraisable(py: Python<'_>, error: PyErr, about: Option<&Bound<'_, PyAny>>) {
    error.restore(py);
    // SAFETY:
    // 1. As for `call`.
    // 2. A null object is allowed; otherwise it is borrowed from a live reference.
    unsafe {
        let write: OfObject =
            std::mem::transmute(black_box(ffi::PyErr_WriteUnraisable as *const ()));
        let guard = NeverUnwound;
        write(about.map_or(std::ptr::null_mut(), Bound::as_ptr));
        std::mem::forget(guard);
    }
}

/// Lets go of a reference, the last one perhaps.
///
/// # Safety
///
/// The thread is attached, and the reference is the caller's own, who does not use it again.
#[inline]
pub(crate) unsafe fn release(object: *mut ffi::PyObject) {
    // SAFETY: as for `call`; the rest is the caller's to see to.
    unsafe {
        let release: OfObject = std::mem::transmute(black_box(ffi::Py_DecRef as *const ()));
        let guard = NeverUnwound;
        release(object);
        std::mem::forget(guard);
    }
}

/// Ends what Python keeps for this thread, its `threading.local`s above all, whose ends may run Python
/// code. The thread gets an empty state in place of the old one, for pyo3 to end.
///
/// # Safety
///
/// The thread is attached by one `PyGILState_Ensure`, pyo3's, which found it detached.
pub(crate) unsafe fn end_thread_state(_py: Python<'_>) {
    // SAFETY:
    // 1. As for `call`.
    // 2. That `PyGILState_Ensure` is what is released, and then done again: when this returns, all is as
    //    it was.
    // 3. Nothing of Python's runs in between.
    unsafe {
        let release: Release = std::mem::transmute(black_box(ffi::PyGILState_Release as *const ()));
        let guard = NeverUnwound;
        release(ffi::PyGILState_STATE::PyGILState_UNLOCKED);
        std::mem::forget(guard);
        ffi::PyGILState_Ensure(); // pyo3 has this one under a guard of its own
    }
}
