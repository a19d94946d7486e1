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
//! On CPython 3.14 and later such threads hang by themselves and the guard never acts.

use std::cell::Cell;
use std::ffi::c_int;
use std::hint::black_box;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyFunction, PyString, PyTuple, PyType};
use pyo3::{Borrowed, ffi, intern};

use crate::gate::OnTheWay;
use crate::thread;

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

/// Whether the calling thread is attached. Not `PyGILState_Check`, which says yes to everybody in a
/// program that has ever had a second interpreter.
#[inline]
fn is_attached() -> bool {
    // SAFETY: both may be called by any thread, attached or not. Up to CPython 3.11 the first gives the
    // state of whoever is attached, from 3.12 on the calling thread's or null.
    unsafe {
        let attached = ffi::compat::PyThreadState_GetUnchecked();
        !attached.is_null() && attached == ffi::PyGILState_GetThisThreadState()
    }
}

/// Whether the caller's reference is the only one. Without a GIL others may come and go while it
/// looks, so that is a good guess there.
pub(crate) fn is_last<T>(object: &Bound<'_, T>) -> bool {
    // SAFETY: a live object.
    unsafe { ffi::Py_REFCNT(object.as_ptr()) == 1 }
}

/// An object that is let go of as it is called: under the guard, for its end may run Python code.
///
/// It must be dropped attached, and there is no time to ask: asking for each takes a tenth of what a
/// short run takes. So it cannot be sent to another thread, nor into a closure that runs detached. What
/// has one and can be sent says why it is dropped attached all the same; a [`Parcel`] asks.
pub(crate) struct Kept<T = PyAny> {
    object: ManuallyDrop<Py<T>>,
    not_send: PhantomData<*mut ()>,
}

impl<T> From<Py<T>> for Kept<T> {
    fn from(object: Py<T>) -> Self {
        Self {
            object: ManuallyDrop::new(object),
            not_send: PhantomData,
        }
    }
}

impl<T> From<Bound<'_, T>> for Kept<T> {
    fn from(object: Bound<'_, T>) -> Self {
        object.unbind().into()
    }
}

impl<T> Kept<T> {
    /// The reference, for the caller to own.
    fn into_ptr(self) -> *mut ffi::PyObject {
        let pointer = self.object.as_ptr();
        std::mem::forget(self);
        pointer
    }
}

impl<T> Deref for Kept<T> {
    type Target = Py<T>;

    fn deref(&self) -> &Py<T> {
        &self.object
    }
}

impl<T> Drop for Kept<T> {
    fn drop(&mut self) {
        // SAFETY:
        // 1. As for `call`; that the thread is attached is what the type demands.
        // 2. The reference is owned, and this is its end.
        unsafe {
            debug_assert!(is_attached(), "an object was dropped detached");
            let release: OfObject = std::mem::transmute(black_box(ffi::Py_DecRef as *const ()));
            let guard = NeverUnwound;
            release(self.object.as_ptr());
            std::mem::forget(guard);
        }
    }
}

/// A [`Kept`] that goes through the hands of threads which never attach: queue, wheel and timer thread.
///
/// By the rules on the crate's front page none of them drops it. Should one all the same, it leaves the
/// object to whoever attaches next: late, but sound. Where an assertion may stop the program (debug
/// builds and `make test-canary`), it does.
pub(crate) struct Parcel<T>(ManuallyDrop<Kept<T>>);

// SAFETY: a `Py` can be sent and shared; of a `Kept` it is the drop that cannot, and a parcel's asks.
unsafe impl<T> Send for Parcel<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Parcel<T> {}

impl<T, O: Into<Kept<T>>> From<O> for Parcel<T> {
    fn from(object: O) -> Self {
        Self(ManuallyDrop::new(object.into()))
    }
}

impl<T> Deref for Parcel<T> {
    type Target = Py<T>;

    fn deref(&self) -> &Py<T> {
        &self.0
    }
}

impl<T> Drop for Parcel<T> {
    fn drop(&mut self) {
        if is_attached() {
            // SAFETY: it is dropped here, and attached.
            unsafe { ManuallyDrop::drop(&mut self.0) }
        } else {
            self.leave_behind();
        }
    }
}

impl<T> Parcel<T> {
    /// Puts the reference on pyo3's list of those that whoever attaches next is to drop.
    #[cold]
    fn leave_behind(&mut self) {
        let may_stop = cfg!(any(debug_assertions, pyo3_disable_reference_pool));
        assert!(!may_stop, "an object was dropped detached");
        // SAFETY: it is dropped here, as a `Py`, which asks where it is.
        unsafe { ManuallyDrop::drop(&mut self.0.object) }
    }
}

/// Ends what Python keeps for this thread, its `threading.local`s above all, whose ends may run
/// Python code. To be called last, on a thread that is about to let go of the interpreter for good;
/// it gets an empty state in place of the old one, for pyo3 to end. Such a thread is on its way out.
pub(crate) fn end_thread_state(py: Python<'_>, _: &OnTheWay) {
    drop_spare(py);
    // SAFETY:
    // 1. As for `call`.
    // 2. This thread was attached by one `PyGILState_Ensure`, pyo3's, which found it detached. That
    //    is what is released, and then done again: when this returns, all is as it was.
    // 3. Nothing of Python's runs in between.
    unsafe {
        let release: Release = std::mem::transmute(black_box(ffi::PyGILState_Release as *const ()));
        let guard = NeverUnwound;
        release(ffi::PyGILState_STATE::PyGILState_UNLOCKED);
        std::mem::forget(guard);
        ffi::PyGILState_Ensure(); // pyo3 has this one under a guard of its own
    }
}

/// The code object of a function; as an attribute it costs an audit. To be compared at once, or
/// owned.
pub(crate) fn code_of<'a, 'py>(function: &'a Bound<'py, PyFunction>) -> Borrowed<'a, 'py, PyAny> {
    // SAFETY:
    // 1. The object is a function, which has a code and keeps it alive as long as nobody assigns another.
    // 2. With a GIL nobody can assign before the caller has looked. Without one somebody can, but there
    //    the references of codes are deferred: only the collector frees one, when every thread has
    //    stopped. The caller does not stop before it has compared the code, or owns it; whatever else
    //    it did might wait for a lock, which is a stop.
    // 3. The references of a code that has come back out of garbage are not deferred any more. It is
    //    compared like any other; owning it is as safe as CPython's own calls are (gh-145272).
    unsafe { Borrowed::from_ptr(function.py(), ffi::PyFunction_GetCode(function.as_ptr())) }
}

/// Whether an attribute is set on a function that says that it gives a coroutine, whatever its code
/// is: `inspect.markcoroutinefunction` sets one, and asyncio has had another. Most functions have no
/// attributes at all, and that is seen in a nanosecond.
pub(crate) fn may_be_marked(function: &Bound<'_, PyFunction>) -> PyResult<bool> {
    // SAFETY:
    // 1. The object is a function, and alive.
    // 2. Where there is no GIL another thread may be setting the first attribute: the pointer is read
    //    in one piece, and compared with null, and nothing else.
    let attributes = unsafe {
        let function = function.as_ptr().cast::<ffi::PyFunctionObject>();
        AtomicPtr::from_ptr(&raw mut (*function).func_dict).load(Ordering::Relaxed)
    };
    if attributes.is_null() {
        return Ok(false);
    }
    is_marked(function)
}

/// Whether an object that has a `__dict__` has one of `_hooks.MARKS` there.
fn is_marked(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = object.py();
    // SAFETY: attached; the result is a new reference, or null with an exception set.
    let attributes = unsafe {
        let attributes = ffi::PyObject_GenericGetDict(object.as_ptr(), std::ptr::null_mut());
        Bound::from_owned_ptr_or_err(py, attributes)?
    };
    let attributes = attributes.cast::<PyDict>()?;
    Ok(!attributes.is_empty()
        && (attributes.contains(intern!(py, "_is_coroutine_marker"))?
            || attributes.contains(intern!(py, "_is_coroutine"))?
            || attributes.contains(intern!(py, "__code__"))?))
}

/// Classes whose instances give no coroutine when they are called, unless one has an attribute that
/// says so: their versions, each in the place that it says itself, and whether instances have a
/// `__dict__` in the lowest bit. Finding out takes microseconds.
///
/// CPython gives a class a new version whenever the class or a base has changed, and no version twice;
/// 0 is none. So a version that is here speaks for a class as it is now, and nothing is kept alive.
static PLAIN_CLASSES: [AtomicU64; 64] = [const { AtomicU64::new(0) }; 64];

/// The version of a class, or 0 while it has none.
pub(crate) fn version_of(class: &Bound<'_, PyType>) -> u32 {
    // SAFETY:
    // 1. The class is alive.
    // 2. Where there is no GIL another thread may be changing the class: the version is read in one
    //    piece, and it is the old one or the new one.
    unsafe {
        let version = &raw mut (*class.as_type_ptr()).tp_version_tag;
        AtomicU32::from_ptr(version).load(Ordering::Relaxed)
    }
}

fn place_of_version(version: u32) -> &'static AtomicU64 {
    &PLAIN_CLASSES[version as usize % PLAIN_CLASSES.len()]
}

/// Whether it is known that a call of this object, an instance of `class`, gives no coroutine.
pub(crate) fn is_known_plain_object(
    object: &Bound<'_, PyAny>,
    class: &Bound<'_, PyType>,
) -> PyResult<bool> {
    let version = version_of(class);
    // Relaxed: nothing is read through it.
    let known = place_of_version(version).load(Ordering::Relaxed);
    if version == 0 || known >> 1 != u64::from(version) {
        return Ok(false);
    }
    let has_dict = known & 1 == 1;
    Ok(!has_dict || !is_marked(object)?)
}

/// Remembers that instances of this class give no coroutine, as long as it has this version: the one
/// that it had before anybody looked.
pub(crate) fn know_plain_class(class: &Bound<'_, PyType>, version: u32) -> PyResult<()> {
    let offset: isize = class
        .getattr(intern!(class.py(), "__dictoffset__"))?
        .extract()?;
    if version != 0 {
        let known = u64::from(version) << 1 | u64::from(offset != 0);
        place_of_version(version).store(known, Ordering::Relaxed);
    }
    Ok(())
}

/// Code objects of functions that are known to give no coroutine when they are called; each in the
/// place that its address says, and kept alive. Finding out takes 50 ns, and who posts a great deal
/// posts the same things over and over.
///
/// What is here is compared, and nothing else, with what is alive; so it does no harm to read it just
/// before somebody replaces it, and its memory is used again.
static PLAIN: [AtomicPtr<ffi::PyObject>; 64] = [const { AtomicPtr::new(std::ptr::null_mut()) }; 64];

fn place_of(object: &Bound<'_, PyAny>) -> &'static AtomicPtr<ffi::PyObject> {
    // Objects are at least 16 bytes apart, and most of these 200 and more.
    let address = object.as_ptr() as usize;
    &PLAIN[(address >> 5 ^ address >> 11) % PLAIN.len()]
}

/// Whether [`know_plain`] was told of this code.
pub(crate) fn is_known_plain(object: &Bound<'_, PyAny>) -> bool {
    // Relaxed: nothing is read through it.
    place_of(object).load(Ordering::Relaxed) == object.as_ptr()
}

/// Remembers that a call of what has this code gives no coroutine.
pub(crate) fn know_plain(py: Python<'_>, object: Kept) {
    let place = place_of(object.bind(py));
    // AcqRel: the reference that is taken out was stored by another thread.
    let old = place.swap(object.into_ptr(), Ordering::AcqRel);
    // SAFETY: what is stored is owned by the one who takes it out, or null.
    drop(unsafe { Bound::from_owned_ptr_or_opt(py, old) }.map(Kept::from));
}

/// A copy of the calling thread's context, or `None` when nothing is set in it: a fresh context
/// does as well then, and costs a pending task no memory.
pub(crate) fn capture_context(py: Python<'_>) -> PyResult<Option<Kept>> {
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
pub(crate) fn copy_context(py: Python<'_>, context: &Kept) -> PyResult<Kept> {
    // SAFETY: attached, and the object is a context: ours, or one that was checked at posting. The
    // result is a new reference, or null with an exception set.
    let copy: Bound<'_, PyAny> =
        unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyContext_Copy(context.as_ptr()))? };
    Ok(copy.into())
}

/// A context with nothing in it.
fn new_context(py: Python<'_>) -> PyResult<Kept> {
    // SAFETY: attached; the result is a new reference, or null with an exception set.
    let context = unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyContext_New())? };
    Ok(context.into())
}

thread_local! {
    /// A context of this worker's in which nothing is set and that nobody else has, for the next run
    /// that wants a fresh one: making and freeing one takes a tenth of what a short run takes. Null
    /// for none; what is there is owned.
    static SPARE: Cell<*mut ffi::PyObject> = const { Cell::new(std::ptr::null_mut()) };
}

/// A context in which nothing is set.
fn fresh_context(py: Python<'_>) -> PyResult<Kept> {
    let spare = SPARE.replace(std::ptr::null_mut());
    // SAFETY: what the cell has is owned, and was taken out.
    match unsafe { Bound::from_owned_ptr_or_opt(py, spare) } {
        Some(spare) => Ok(spare.into()),
        None => new_context(py),
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

fn drop_spare(py: Python<'_>) {
    let spare = SPARE.replace(std::ptr::null_mut());
    // SAFETY: as in `fresh_context`.
    drop(unsafe { Bound::from_owned_ptr_or_opt(py, spare) }.map(Kept::from));
}

/// Runs `f` in `context`, or in a fresh one. pyo3 has no safe way to enter a context, and calling
/// through `Context.run` costs ten times as much.
pub(crate) fn in_context<R>(
    py: Python<'_>,
    context: Option<&Kept>,
    f: impl FnOnce() -> PyResult<R>,
) -> PyResult<R> {
    let Some(context) = context else {
        let fresh = fresh_context(py)?;
        let result = in_context(py, Some(&fresh), f);
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
