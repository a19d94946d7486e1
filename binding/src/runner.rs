//! A worker's life under Python: attach once, take what is queued, let go of the interpreter.
//!
//! Owned by the pool; one for all its workers. It decides when the interpreter is held and when
//! not, and nothing else: neither which job is next nor what a job does. Figures are in
//! `docs/design/binding.md`.
//!
//! # How the interpreter is held
//!
//! - The thread state is made once, by the outer attach, and kept: a fresh one per task costs a hundred
//!   times what detaching and attaching again does, and takes every `threading.local` with it.
//! - A worker attaches before it takes its first job, so one that waits for the interpreter owns
//!   none, and nothing is stranded with it.
//! - After a [`SLICE`] it lets go for at least a [`GAP`]. Callbacks written in Python give way by
//!   themselves every 5 ms, when asked; a queue full of callables written in C never does, and would
//!   hold everybody else up for ever. Without the gap it would be worse than not letting go at all:
//!   each release restarts the clock of those who wait, and the worker is back before they are up.
//! - Who waited for the last task of a batch is woken when the interpreter has been let go of, and
//!   not before: all it could do until then is wait for that.
//! - A main thread that computes is asked for it when a task is due; see [`crate::nudge`].
//!
//! All of this is for interpreters with a GIL. [`GilPolicy`] says what there is without one, and every
//! difference between the two hangs on it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use asynctask::engine::{self, Engine};
use asynctask::fork::ForkGeneration;
use asynctask::pool::{Runner, Worker};
use asynctask::sync::{Mutex, Parker, lock};
use asynctask::task::Wakes;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use pyo3::{PyTraverseError, PyVisit};

use crate::attach;
use crate::callback;
use crate::errors::BrokenPool;
use crate::gil::GilPolicy;
use crate::hooks::Hooks;
use crate::kept::{SendKept, try_attach};
use crate::nudge::Nudge;
use crate::task::job::PyJob;
use crate::thread;
use crate::unseen;

/// How long a worker holds the interpreter before it offers it to others. A fifth of CPython's
/// switch interval: whoever waits is served well before it would have to ask.
const SLICE: Duration = Duration::from_millis(1);

/// How long the offer stands: as long as the kernel nearly always takes to wake the thread that waits.
const GAP: Duration = Duration::from_micros(50);

/// So many jobs make a slice without a GIL. With one the clock is read once in so many: reading it
/// costs half of what a short job does.
const JOBS_PER_LOOK: u32 = 16;

/// What a pool's initializer is; shared by the pool and its runners. Its lock is a leaf.
pub(crate) struct Initializer(Mutex<Option<(SendKept<PyAny>, SendKept<PyTuple>)>>);

impl Initializer {
    pub(crate) fn new(callback: Bound<'_, PyAny>, args: Bound<'_, PyTuple>) -> Self {
        Self(Mutex::new(Some((callback.into(), args.into()))))
    }

    /// Calls it; `None`: it has been forgotten.
    fn call<'py>(&self, py: Python<'py>) -> Option<PyResult<Bound<'py, PyAny>>> {
        let (callback, args) = {
            let call = lock(&self.0);
            let (callback, args) = call.as_ref()?;
            (callback.clone_ref(py), args.clone_ref(py))
        };
        Some(callback::call(callback.bind(py), args.bind(py), None))
    }

    /// Lets go of it: no worker will come any more. The thread must be attached.
    pub(crate) fn forget(&self) {
        let call = lock(&self.0).take();
        drop(call);
    }

    /// Shows it to the collector.
    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        // Never held while Python runs; see `TaskBase::__traverse__`.
        if let Ok(call) = self.0.try_lock()
            && let Some((callback, args)) = &*call
        {
            visit.call(&**callback)?;
            visit.call(&**args)?;
        }
        Ok(())
    }
}

impl Drop for Initializer {
    /// Whoever comes last, which may be a worker that has left Python for good.
    fn drop(&mut self) {
        let mut call = lock(&self.0).take();
        if call.is_some() && try_attach(|_| drop(call.take())).is_none() {
            std::mem::forget(call); // the interpreter is going away
        }
    }
}

/// The runner of one pool.
pub(crate) struct PyRunner {
    initializer: Option<Arc<Initializer>>,
    gil_policy: GilPolicy,
    /// Asks the main thread for the interpreter when a task is due.
    nudge: Option<&'static Nudge>,
    /// Workers that have offered the interpreter to others, and have not got it back.
    yielding: AtomicUsize,
    engine: OnceLock<Weak<Engine<PyJob>>>,
    broken: OnceLock<()>,
}

impl PyRunner {
    pub(crate) fn new(
        initializer: Option<Arc<Initializer>>,
        gil_policy: GilPolicy,
        nudge: Option<&'static Nudge>,
    ) -> Self {
        Self {
            initializer,
            gil_policy,
            nudge,
            yielding: AtomicUsize::new(0),
            engine: OnceLock::new(),
            broken: OnceLock::new(),
        }
    }

    /// Tells the runner whose it is.
    pub(crate) fn belong_to(&self, engine: &Arc<Engine<PyJob>>) {
        let first = self.engine.set(Arc::downgrade(engine));
        debug_assert!(first.is_ok(), "a runner belongs to one engine");
    }

    /// Whether the initializer has failed on some worker.
    pub(crate) fn is_broken(&self) -> bool {
        self.broken.get().is_some()
    }

    fn initialize(&self, py: Python<'_>) -> bool {
        let Some(initializer) = &self.initializer else {
            return true;
        };
        let Some(called) = initializer.call(py) else {
            return false; // there is nothing left to do
        };
        let Err(error) = called else { return true };
        Hooks::log_initializer(py, &error);
        let _ = self.broken.set(());
        if let Some(engine) = self.engine.get().and_then(Weak::upgrade) {
            engine.fail_all(py, &|| broken());
        }
        false
    }

    /// Runs jobs until the queue is empty; gives those who waited for the last, to be woken once the
    /// interpreter is free for them.
    fn run_batch(&self, py: Python<'_>, worker: &Worker<PyJob>, pause: &Parker) -> Wakes {
        let mut since = Instant::now();
        let mut jobs = 0;
        let mut wakes = Wakes::default();
        while let Some(job) = worker.take() {
            wakes.now();
            wakes = engine::run(job, py);
            unseen::log_noted(py);
            jobs += 1;
            if jobs % JOBS_PER_LOOK != 0 {
                continue;
            }
            if self.gil_policy.has_gil() && since.elapsed() >= SLICE {
                py.detach(|| {
                    self.left();
                    wakes.now();
                    pause.park(Instant::now().checked_add(GAP));
                    // Relaxed: a hint.
                    self.yielding.fetch_add(1, Ordering::Relaxed);
                });
                self.yielding.fetch_sub(1, Ordering::Relaxed);
                self.arrived();
                worker.yielded();
                since = Instant::now();
            }
            self.gil_policy.safe_point(py);
        }
        if !self.gil_policy.has_gil() {
            wakes.now(); // they need nothing of ours
        }
        self.gil_policy.safe_point(py);
        wakes
    }

    /// This worker is about to take the interpreter.
    fn attaching(&self) {
        if let Some(nudge) = self.nudge {
            nudge.attaching();
        }
    }

    /// This worker has got the interpreter.
    fn arrived(&self) {
        if let Some(nudge) = self.nudge {
            nudge.arrived();
        }
    }

    /// This worker has let go of the interpreter.
    fn left(&self) {
        if let Some(nudge) = self.nudge {
            nudge.left();
        }
    }
}

/// The error of a pool whose initializer has failed.
pub(crate) fn broken() -> PyErr {
    BrokenPool::new_err("a worker's initializer failed, the pool is not usable anymore")
}

impl Runner for PyRunner {
    type Job = PyJob;

    fn work(&self, worker: &Worker<PyJob>) {
        thread::set_worker(true);
        let generation = ForkGeneration::current();
        self.attaching();
        let arrived = || self.arrived();
        attach::live(&worker.name(), arrived, |py| {
            if self.initialize(py) {
                let pause = Parker::new();
                let mut wakes = Wakes::default();
                while py.detach(|| {
                    self.left();
                    let goes_on = worker.wait_then(|| wakes.now());
                    self.attaching();
                    goes_on
                }) {
                    self.arrived();
                    wakes = self.run_batch(py, worker, &pause);
                }
            }
            if generation.is_inherited() {
                // Something has forked on this thread, and come back here in the child: a callback
                // that another one waited for, or one of those that have no result.
                Hooks::end_child(py, None);
            }
            let engine = self.engine.get().and_then(Weak::upgrade);
            if engine.is_some_and(|engine| engine.is_released() && engine.is_finished()) {
                self.finished(); // its last task may have ended where nobody could call Python
            }
            // From here on it looks after nothing, and a failure that ends with its `threading.local`s
            // is somebody else's to log.
            thread::set_worker(false);
            unseen::log_noted(py);
        });
    }

    fn lends_many(&self, lent: usize) {
        let Some(engine) = self.engine.get().and_then(Weak::upgrade) else {
            return;
        };
        // `None`: the interpreter is going away, and nobody listens any more.
        try_attach(|py| Hooks::log_lent(py, engine.pool().name(), lent));
    }

    fn finished(&self) {
        if let Some(initializer) = &self.initializer {
            initializer.forget();
        }
    }

    fn due(&self, is_coming: bool) {
        if let Some(nudge) = self.nudge
            && (is_coming || self.yielding.load(Ordering::Relaxed) > 0)
        {
            nudge.ask();
        }
    }
}
