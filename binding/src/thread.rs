//! What belongs to the calling thread: whether it is a worker, and the tasks whose callbacks it is in.
//!
//! Owned by each thread for itself. It knows nothing of what a task is, and keeps none alive: what it has
//! of a task is borrowed from a frame further down the stack.

use std::cell::{Cell, RefCell};

use pyo3::ffi;
use pyo3::prelude::*;

thread_local! {
    static IS_WORKER: Cell<bool> = const { Cell::new(false) };
    /// The task whose callback this thread is in; null outside of callbacks. Borrowed from the
    /// frame that runs it, which outlives every use.
    static CURRENT: Cell<*mut ffi::PyObject> = const { Cell::new(std::ptr::null_mut()) };
    /// The other tasks whose callbacks this thread is in, or may be: one that waits for another may run
    /// it, and another executor's `submit` can run a callback on the spot.
    static OTHERS: RefCell<Vec<*mut ffi::PyObject>> = const { RefCell::new(Vec::new()) };
}

/// Whether the calling thread is a worker's; in a forked child, whether it was.
pub(crate) fn is_worker() -> bool {
    IS_WORKER.get()
}

/// Says so.
pub(crate) fn set_worker(is_worker: bool) {
    IS_WORKER.set(is_worker);
}

/// Takes a task off the list of the others. `false`: it is not there.
fn take_other(task: *mut ffi::PyObject) -> bool {
    OTHERS.with_borrow_mut(|others| {
        let place = others.iter().rposition(|&other| other == task);
        place.map(|place| others.remove(place)).is_some()
    })
}

fn put_other(task: *mut ffi::PyObject) {
    OTHERS.with_borrow_mut(|others| others.push(task));
}

/// Whether the calling thread is in the task's callback, directly or below another's.
pub(crate) fn is_in_run<T>(task: &Bound<'_, T>) -> bool {
    let task = task.as_ptr();
    // A program that has Python inside may end it when this thread has no such locals left.
    let is_other = |others: &RefCell<Vec<_>>| others.borrow().contains(&task);
    CURRENT.get() == task || OTHERS.try_with(is_other).unwrap_or(false)
}

/// The task whose callback the calling thread is in.
pub(crate) fn current(py: Python<'_>) -> Option<Bound<'_, PyAny>> {
    // SAFETY: null, or set by `Running` to an object that the same thread keeps alive until it has set
    // the cell back.
    unsafe { Bound::from_borrowed_ptr_or_opt(py, CURRENT.get()) }
}

/// Whether the calling thread is in a task's callback.
pub(crate) fn is_in_callback() -> bool {
    !CURRENT.get().is_null()
}

/// Marks the task as one whose callback this thread may be in, though it is not the current one.
#[must_use]
pub(crate) struct Starting(*mut ffi::PyObject);

impl Starting {
    pub(crate) fn enter<T>(task: &Bound<'_, T>) -> Self {
        put_other(task.as_ptr());
        Self(task.as_ptr())
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        take_other(self.0);
    }
}

/// A task is current, and the one whose callback waits for it is not; taken back on drop.
#[must_use]
pub(crate) struct Running {
    own: *mut ffi::PyObject,
    outer: *mut ffi::PyObject,
}

impl Running {
    pub(crate) fn enter<T>(task: &Bound<'_, T>) -> Self {
        let own = task.as_ptr();
        let outer = CURRENT.replace(own);
        if !outer.is_null() {
            put_other(outer);
        }
        Self { own, outer }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Greenlets end in any order: who was the outer one may be over by now, and off the list. Or it
        // is this one that ends before one that began later: then nobody is current.
        if CURRENT.get() == self.own {
            let goes_on = !self.outer.is_null() && take_other(self.outer);
            CURRENT.set(if goes_on {
                self.outer
            } else {
                std::ptr::null_mut()
            });
        } else {
            take_other(self.own);
            let later = CURRENT.replace(std::ptr::null_mut());
            if !later.is_null() {
                put_other(later);
            }
        }
    }
}
