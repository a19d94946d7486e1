//! The worker that a pool has in addition while a job of it waits, and whose worker a thread is.
//!
//! A loan is owned by the thread that waits. It never starts a worker itself: it asks the pool to, through
//! [`Lender`]. Without loans a pool of one worker would deadlock as soon as one job waits for another.
#![forbid(unsafe_code)]

use std::cell::{Cell, RefCell};
use std::fmt;
use std::sync::Arc;

use crate::sync;

sync::thread_locals! {
    /// The pool whose worker this thread is, by its id; 0 for none.
    static WORKER_OF: Cell<usize> = const { Cell::new(0) };
    /// The same pool, to lend a worker.
    static OWN: RefCell<Option<Arc<dyn Lender>>> = const { RefCell::new(None) };
}

/// The pool whose worker the calling thread is, by its id; 0 for none.
pub(super) fn worker_of() -> usize {
    WORKER_OF.with(Cell::get)
}

/// Whether the calling thread is a worker of whatever pool.
pub fn is_any_worker() -> bool {
    worker_of() != 0
}

/// Marks the calling thread as a worker's until it is dropped, which is before the thread's own end:
/// with the last reference to a pool goes its runner, whose end may need more than a dying thread has.
pub(super) struct WorkerContext;

impl WorkerContext {
    /// `id`: that of the pool, [`Shared::id`](super::shared::Shared::id).
    pub(super) fn enter(id: usize, pool: Arc<dyn Lender>) -> Self {
        WORKER_OF.with(|of| of.set(id));
        OWN.with(|own| own.replace(Some(pool)));
        Self
    }
}

impl Drop for WorkerContext {
    fn drop(&mut self) {
        WORKER_OF.with(|of| of.set(0));
        drop(OWN.with(RefCell::take));
    }
}

/// A pool of whatever jobs, as the waits of its workers see it.
pub(super) trait Lender: Send + Sync {
    /// One worker more.
    fn lend_one(&self);
    /// One less: whoever is surplus now leaves after its job.
    fn take_one_back(&self);
    /// Requests a worker, if there is work and none is coming.
    fn request_again(&self);
    /// Whether it is a forked child's parent's.
    fn is_inherited(&self) -> bool;
}

/// A worker that was lent to a pool; taken back when this is dropped, on whatever thread.
#[must_use = "the worker is taken back when this is dropped"]
pub struct Lent(Arc<dyn Lender>);

impl Lent {
    pub(super) fn of(lender: Arc<dyn Lender>) -> Self {
        lender.lend_one();
        Self(lender)
    }

    /// Requests the worker once more, if the system had no thread for it and there is work.
    pub fn request_again(&self) {
        self.0.request_again();
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if !self.0.is_inherited() {
            self.0.take_one_back();
        }
    }
}

impl fmt::Debug for Lent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lent").finish_non_exhaustive()
    }
}

/// Lends a worker to the pool whose worker the calling thread is, for as long as the answer lives;
/// `None` on any other thread. For every wait inside a job, whatever it is for: what it waits for may
/// need a worker of this pool.
pub fn lend_while_waiting() -> Option<Lent> {
    // Asked first: the thread that ends the program may have no locals left that need a destructor.
    if !is_any_worker() {
        return None;
    }
    let own = OWN.with(|own| own.borrow().clone())?;
    (!own.is_inherited()).then(|| Lent::of(own))
}

/// The question of a wait, which asks for the lent worker once more before it asks `interrupted`.
pub(crate) fn or_request_again<'a>(
    lent: Option<&'a Lent>,
    interrupted: &'a mut dyn FnMut() -> bool,
) -> impl FnMut() -> bool {
    move || {
        if let Some(lent) = lent {
            lent.request_again();
        }
        interrupted()
    }
}
