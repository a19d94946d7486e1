//! A task whose callback is a closure: what the queue, the wheel and the handles hold of it.
//!
//! Owned by all of them; one allocation has the task, its closure and its result. Closures, values
//! and what panics carry are a user's, and may panic when they are dropped: nothing here drops them
//! with a lock held, or unwinds for them.
#![forbid(unsafe_code)]

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, PoisonError};

use crate::engine::{Engine, Job, Outcome, run};
use crate::pool::{Runner, Worker};
use crate::sync::{Mutex, lock};
use crate::task::Task;

/// What is to be called, once or over and over.
pub(super) trait Callback<T>: Send + 'static {
    /// Calls it; one that is for once must not be called again.
    fn call(&mut self) -> T;
}

pub(super) struct Once<F>(Option<F>);

impl<F> Once<F> {
    pub(super) fn new(callback: F) -> Self {
        Self(Some(callback))
    }

    /// The callback of one that was not called.
    pub(super) fn into_inner(self) -> F {
        self.0.expect("it was not called")
    }
}

impl<T, F: FnOnce() -> T + Send + 'static> Callback<T> for Once<F> {
    fn call(&mut self) -> T {
        self.0.take().expect("a one-shot is called once")()
    }
}

pub(super) struct Often<F>(pub(super) F);

impl<T, F: FnMut() -> T + Send + 'static> Callback<T> for Often<F> {
    fn call(&mut self) -> T {
        self.0()
    }
}

/// What the last run panicked with. Boxed where it is kept, for a result should be no larger than its
/// value needs.
pub(super) struct Panic<T> {
    pub(super) payload: Box<dyn Any + Send>,
    /// The last value of a series: the wall clock may end it before there is another.
    pub(super) earlier: Option<T>,
}

/// A task, its callback, and its last run's value or panic.
pub(super) struct Native<T, C> {
    task: Task,
    engine: Arc<Engine<NativeJob>>,
    body: Mutex<Body<T, C>>,
}

struct Body<T, C> {
    /// Taken out while it runs; gone for good when the task is over.
    callback: Option<C>,
    /// Of the last run.
    result: Option<Result<T, Box<Panic<T>>>>,
}

impl<T: Send + 'static, C: Callback<T>> Native<T, C> {
    pub(super) fn new(task: Task, engine: Arc<Engine<NativeJob>>, callback: C) -> Arc<Self> {
        let callback = Some(callback);
        let result = None;
        Arc::new(Self {
            task,
            engine,
            body: Mutex::new(Body { callback, result }),
        })
    }

    /// A reference for queue or wheel.
    pub(super) fn job(self: &Arc<Self>) -> NativeJob {
        NativeJob(Arc::<Self>::clone(self))
    }

    /// The callback of a task that was refused.
    pub(super) fn take_back(&self) -> C {
        let callback = lock(&self.body).callback.take();
        callback.expect("what was refused has neither run nor ended")
    }
}

impl<T, C> Drop for Native<T, C> {
    /// Whoever holds the last reference, a worker, a poster, who shuts the scheduler down, must not
    /// be unwound by what a task owns.
    fn drop(&mut self) {
        let body = self.body.get_mut();
        let body = body.unwrap_or_else(PoisonError::into_inner);
        if let Some(callback) = body.callback.take() {
            drop_foreign(callback);
        }
        if let Some(result) = body.result.take() {
            drop_foreign(result);
        }
    }
}

/// A [`Native`] of any type.
pub(super) trait Erased: Send + Sync {
    fn task(&self) -> &Task;
    fn engine(&self) -> &Arc<Engine<NativeJob>>;
    fn call(&self);
    /// Drops the callback.
    fn free(&self);
    /// Keeps what the last run panicked with.
    fn fail(&self, payload: Box<dyn Any + Send>);
}

/// A [`Native`] with a callback of any type.
pub(super) trait Typed<T>: Erased {
    /// Takes the last run's value or panic.
    fn take(&self) -> Option<Result<T, Box<Panic<T>>>>;
}

impl<T: Send + 'static, C: Callback<T>> Erased for Native<T, C> {
    fn task(&self) -> &Task {
        &self.task
    }

    fn engine(&self) -> &Arc<Engine<NativeJob>> {
        &self.engine
    }

    fn call(&self) {
        let callback = lock(&self.body).callback.take();
        let Some(mut callback) = callback else {
            return;
        };
        let called = catch_unwind(AssertUnwindSafe(|| callback.call()));
        // A series calls it again, whether it panicked or not.
        let again = self.task.view().is_series().then_some(callback);
        let mut body = lock(&self.body);
        body.callback = again;
        match called {
            Ok(value) => {
                let previous = body.result.replace(Ok(value));
                drop(body);
                if previous.is_some() {
                    drop_foreign(previous); // with no lock held
                }
            }
            Err(payload) => {
                drop(body);
                resume_unwind(payload);
            }
        }
    }

    fn free(&self) {
        let callback = lock(&self.body).callback.take();
        drop_foreign(callback); // with no lock held
    }

    fn fail(&self, payload: Box<dyn Any + Send>) {
        let mut body = lock(&self.body);
        let (earlier, previous) = match body.result.take() {
            None => (None, None),
            Some(Ok(value)) => (Some(value), None),
            Some(Err(panic)) => (panic.earlier, Some(panic.payload)),
        };
        body.result = Some(Err(Box::new(Panic { payload, earlier })));
        drop(body);
        drop_foreign(previous); // with no lock held
    }
}

impl<T: Send + 'static, C: Callback<T>> Typed<T> for Native<T, C> {
    fn take(&self) -> Option<Result<T, Box<Panic<T>>>> {
        lock(&self.body).result.take()
    }
}

/// The [`Job`] of closures: it needs no token.
#[derive(Clone)]
pub struct NativeJob(pub(super) Arc<dyn Erased>);

impl fmt::Debug for NativeJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("NativeJob").field(self.0.task()).finish()
    }
}

impl Job for NativeJob {
    type Token<'a> = ();
    type Value = ();
    // Not what it panicked with: that is put away at once, so that a run which returns carries nothing.
    type Failure = ();

    fn task(&self) -> &Task {
        self.0.task()
    }

    fn engine(&self) -> &Arc<Engine<Self>> {
        self.0.engine()
    }

    fn share(&self, (): ()) -> Self {
        self.clone()
    }

    fn call(&self, (): ()) -> Outcome<(), ()> {
        self.0.call();
        Outcome::Value(())
    }

    fn panicked(&self, (): (), payload: Box<dyn Any + Send>) {
        self.0.fail(payload); // the panic hook has reported it
    }

    fn value_of_no_run(&self, (): ()) {} // the last run's is still there

    fn run_failed(&self, (): (), (): ()) {}

    fn end(&self, (): (), result: Option<Result<(), ()>>) {
        // The callback of a one-shot that has run is gone already.
        if result.is_none() || self.task().view().is_series() {
            self.0.free();
        }
    }

    fn ended(&self, (): ()) {}
}

pub(super) struct NativeRunner;

impl Runner for NativeRunner {
    type Job = NativeJob;

    fn work(&self, worker: &Worker<NativeJob>) {
        while worker.wait() {
            while let Some(job) = worker.take() {
                // A run catches its own panics. What is left is a value that panics when it is
                // dropped, with the last reference to its task.
                if let Err(payload) = catch_unwind(AssertUnwindSafe(|| run(job, ()))) {
                    drop_foreign(payload);
                }
            }
        }
    }
}

/// Drops what may own anything. If that panics, it has been reported by the panic hook, and is no
/// reason to leave a task without its end.
pub(super) fn drop_foreign<T>(it: T) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(it))) {
        std::mem::forget(payload); // it may panic too
    }
}
