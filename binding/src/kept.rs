//! [`Kept`] and [`SendKept`]: references that are let go of attached, and under the guard of
//! [`crate::callback`], for the end of an object may run Python code.
//!
//! Owned by whoever has one. They never attach by themselves.
//!
//! # Why a `Kept` cannot be dropped detached
//!
//! Its drop does not ask where it is; asking takes a tenth of what a short run takes
//! (`docs/design/binding.md`). So types keep it where it belongs:
//!
//! 1. It is made of a [`Bound`], or with a [`Python`] token: the thread is attached.
//! 2. It is not [`Send`], which is checked below. So no other thread gets it, and neither does a closure
//!    given to [`Python::detach`], which takes nothing that cannot be sent.
//! 3. It does not outlive the attaching: [`try_attach`] returns nothing that cannot be sent, and in this
//!    crate there is no other way to attach; clippy refuses pyo3's own. Where CPython calls us, it is
//!    attached before and after.
//!
//! Two things types do not see, and nothing in this crate does: a `Kept` in a thread local, or in a variable
//! that the closure of [`try_attach`] captures by reference, would outlive the attaching. What has one
//! inside and is [`Send`] all the same must say why in an `unsafe impl`: there is
//! [`Body`](crate::task::Body), which nobody opens in [`Python::detach`], and a [`SendKept`], whose drop asks. Debug builds ask each time, and so
//! does the one of `make test-canary`: a drop that got past all this ends the process there.

use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::Deref;

use pyo3::ffi;
use pyo3::prelude::*;

use crate::callback;

/// Attaches, unless the interpreter is going away: `None` then.
pub(crate) fn try_attach<R: Send>(f: impl FnOnce(Python<'_>) -> R) -> Option<R> {
    #[expect(
        clippy::disallowed_methods,
        reason = "here the result is one that can be sent"
    )]
    Python::try_attach(f)
}

/// In builds that look for objects which are dropped detached: stops at the first.
#[inline]
fn assert_attached() {
    let is_looking = cfg!(any(debug_assertions, pyo3_disable_reference_pool));
    assert!(
        !is_looking || is_attached(),
        "an object was dropped detached"
    );
}

/// An owned reference that is dropped attached: by its type, as the head of this file says.
pub(crate) struct Kept<T = PyAny> {
    object: ManuallyDrop<Py<T>>,
    not_send: PhantomData<*mut ()>,
}

impl<T> Kept<T> {
    pub(crate) fn new(_py: Python<'_>, object: Py<T>) -> Self {
        Self::unproven(object)
    }

    /// Without a proof that the thread is attached.
    fn unproven(object: Py<T>) -> Self {
        Self {
            object: ManuallyDrop::new(object),
            not_send: PhantomData,
        }
    }

    /// Another reference to the same object.
    pub(crate) fn share(&self, py: Python<'_>) -> Self {
        Self::new(py, self.object.clone_ref(py))
    }

    /// The reference, for the caller to own.
    pub(crate) fn into_ptr(self) -> *mut ffi::PyObject {
        let pointer = self.object.as_ptr();
        std::mem::forget(self);
        pointer
    }
}

/// This does not compile if a `Kept` can be sent: then `answer` is ambiguous.
const _: fn() = || {
    struct Yes;
    trait IsSend<Answer> {
        fn answer() {}
    }
    impl<T: ?Sized> IsSend<()> for T {}
    impl<T: ?Sized + Send> IsSend<Yes> for T {}
    <Kept as IsSend<_>>::answer();
};

impl<T> From<Bound<'_, T>> for Kept<T> {
    fn from(object: Bound<'_, T>) -> Self {
        Self::unproven(object.unbind())
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
        assert_attached();
        // SAFETY: the thread is attached, as the head of this file shows; the reference is owned, and
        // this is its end.
        unsafe { callback::release(self.object.as_ptr()) }
    }
}

/// A [`Kept`] that goes through the hands of threads which never attach: queue, wheel and timer thread.
///
/// By the rules on the crate's front page none of them drops it. Should one all the same, it leaves the
/// object to whoever attaches next: late, but sound. Where an assertion may stop the program (debug
/// builds and `make test-canary`), it does.
pub(crate) struct SendKept<T>(ManuallyDrop<Kept<T>>);

// SAFETY: a `Py` can be sent and shared; of a `Kept` it is the drop that cannot, and this one's asks.
unsafe impl<T> Send for SendKept<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for SendKept<T> {}

impl<T> From<Py<T>> for SendKept<T> {
    fn from(object: Py<T>) -> Self {
        Self(ManuallyDrop::new(Kept::unproven(object)))
    }
}

impl<T> From<Bound<'_, T>> for SendKept<T> {
    fn from(object: Bound<'_, T>) -> Self {
        object.unbind().into()
    }
}

impl<T> Deref for SendKept<T> {
    type Target = Py<T>;

    fn deref(&self) -> &Py<T> {
        &self.0
    }
}

impl<T> Drop for SendKept<T> {
    fn drop(&mut self) {
        if is_attached() {
            // SAFETY: it is dropped here, and attached.
            unsafe { ManuallyDrop::drop(&mut self.0) }
        } else {
            self.defer_release();
        }
    }
}

impl<T> SendKept<T> {
    /// Puts the reference on pyo3's list of those that whoever attaches next is to drop.
    #[cold]
    fn defer_release(&mut self) {
        assert_attached();
        // SAFETY: it is dropped here, as a `Py`, which asks where it is.
        unsafe { ManuallyDrop::drop(&mut self.0.object) }
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
