//! Whether calling something gives a coroutine, as far as can be told without calling it.
//!
//! Owned by the process: what has been found out about codes and classes is remembered. It calls nothing
//! of the user's but what `inspect` does, and that once for each code and class.

use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyDict, PyFunction, PyType};
use pyo3::{Borrowed, ffi, intern};

use crate::hooks::Hooks;
use crate::kept::Kept;

/// Whether calling it gives a coroutine, as far as can be told without calling it.
pub(crate) fn is_coroutine_function(callback: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = callback.py();
    if let Ok(function) = callback.cast_exact::<PyFunction>() {
        return gives_coroutine(function);
    }
    if callback.is_exact_instance_of::<PyCFunction>() || callback.is_exact_instance_of::<PyType>() {
        return Ok(false);
    }
    let (class, hooks) = (callback.get_type(), Hooks::get(py)?);
    if class.is(&hooks.method_class) {
        return is_coroutine_function(&callback.getattr(intern!(py, "__func__"))?);
    }
    let partial = hooks.partial_class.bind(py);
    if class.is(partial) {
        return is_coroutine_function(&callback.getattr(intern!(py, "func"))?);
    }
    if is_known_plain_object(callback, &class)? {
        return Ok(false);
    }
    let version = version_of(&class);
    let is_coroutine_function = Hooks::is_coroutine_function(callback)?;
    if !is_coroutine_function && Hooks::is_plain_class(&class)? {
        know_plain_class(&class, version)?;
    }
    Ok(is_coroutine_function)
}

fn gives_coroutine(function: &Bound<'_, PyFunction>) -> PyResult<bool> {
    /// `inspect.CO_COROUTINE`.
    const CO_COROUTINE: u32 = 0x80;

    let py = function.py();
    let code = code_of(function);
    if !is_known_plain(&code) {
        let code = Kept::from(code.to_owned());
        let flags: u32 = code.bind(py).getattr(intern!(py, "co_flags"))?.extract()?;
        if flags & CO_COROUTINE != 0 {
            return Ok(true);
        }
        know_plain(py, code);
    }
    // The code is the same for ever; what is set on the function may come and go.
    Ok(may_be_marked(function)? && Hooks::is_coroutine_function(function)?)
}

/// The code object of a function; as an attribute it costs an audit. To be compared at once, or
/// owned.
fn code_of<'a, 'py>(function: &'a Bound<'py, PyFunction>) -> Borrowed<'a, 'py, PyAny> {
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
/// attributes at all, and that is seen at once.
fn may_be_marked(function: &Bound<'_, PyFunction>) -> PyResult<bool> {
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

/// Whether an object that has a `__dict__` has one of `_cpython.COROUTINE_MARKS` there.
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
/// `__dict__` in the lowest bit. Finding out takes a hundred times as long.
///
/// CPython gives a class a new version whenever the class or a base has changed, and no version twice;
/// 0 is none. So a version that is here speaks for a class as it is now, and nothing is kept alive.
static PLAIN_CLASSES: [AtomicU64; 64] = [const { AtomicU64::new(0) }; 64];

/// The version of a class, or 0 while it has none.
fn version_of(class: &Bound<'_, PyType>) -> u32 {
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
fn is_known_plain_object(object: &Bound<'_, PyAny>, class: &Bound<'_, PyType>) -> PyResult<bool> {
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
fn know_plain_class(class: &Bound<'_, PyType>, version: u32) -> PyResult<()> {
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
/// place that its address says, and kept alive. Who posts a great deal posts the same things over and over
/// (`docs/design/binding.md`).
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
fn is_known_plain(object: &Bound<'_, PyAny>) -> bool {
    // Relaxed: nothing is read through it.
    place_of(object).load(Ordering::Relaxed) == object.as_ptr()
}

/// Remembers that a call of what has this code gives no coroutine.
fn know_plain(py: Python<'_>, object: Kept) {
    let place = place_of(object.bind(py));
    // AcqRel: the reference that is taken out was stored by another thread.
    let old = place.swap(object.into_ptr(), Ordering::AcqRel);
    // SAFETY: what is stored is owned by the one who takes it out, or null.
    drop(unsafe { Bound::from_owned_ptr_or_opt(py, old) }.map(Kept::from));
}
