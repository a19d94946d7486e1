//! `PoolBase`, the native half of `AsyncTaskPool`.
//!
//! The public class is `class AsyncTaskPool(PoolBase, Executor)`. Owned by the user; tasks keep the
//! engine behind it alive, so dropping the pool loses nothing that was accepted. It never runs a task, and
//! a forked child never touches its parent's engine: it has one made.
//!
//! # What the collector sees
//!
//! Initializer and default executor are Python objects, and may refer back to their pool. The executor
//! is the pool's alone, and each task that is to run there has a reference of its own, which its handle
//! shows to the collector. The initializer is shared with the runners, for whichever worker comes next,
//! and the runners belong to the engine, not to the pool. So the pool shows it only when no task is
//! left: then no worker will come that has not been there, and the pool is the only one who needs it.
//! Until then it looks as if somebody unknown had it, and is kept with all that it refers to. Nobody
//! can post to a pool that is collected, so what holds when the collector looks holds when it clears.

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use asynctask::engine::{Delayed, Engine, Options};
use asynctask::sync::{Mutex, lock};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use crate::exit;
use crate::fork;
use crate::gil::GilPolicy;
use crate::hooks::Hooks;
use crate::kept::{SendKept, try_attach};
use crate::nudge::Nudge;
use crate::runner::{Initializer, PyRunner};
use crate::task::job::PyJob;

use self::arguments::Given;

pub(crate) mod arguments;
mod methods;
pub(crate) mod post;

/// The native half of `AsyncTaskPool`; see there for what its methods promise. Under its public name,
/// which is what error messages and reprs show.
///
/// Empty until `__init__`, as a `ThreadPoolExecutor` is, so that a subclass may have an `__init__` of its
/// own with arguments of its own.
#[pyclass(
    frozen,
    subclass,
    weakref,
    name = "AsyncTaskPool",
    module = "asynctask"
)]
pub(crate) struct PoolBase {
    contents: OnceLock<Contents>,
}

/// What `__init__` makes.
pub(crate) struct Contents {
    first: Instance,
    /// In a forked child, what stands for `first`.
    in_child: Mutex<Option<Instance>>,
    options: Options,
    initializer: Option<Arc<Initializer>>,
    gil_policy: GilPolicy,
    nudge: Option<&'static Nudge>,
    /// `shutdown` was called; a child of a pool that is shut down is born shut down.
    is_shut: AtomicBool,
    propagate_context: bool,
    /// Runs every callback of this pool, if it is not the pool itself. Empty once the collector has
    /// cleared the pool.
    place: Option<Mutex<Option<SendKept<PyAny>>>>,
}

/// How a pool has ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Everything was run.
    Whole,
    /// In time, but tasks were cancelled.
    CutShort,
    /// Something went on when its time was up.
    Late,
}

/// What a pool is in one process: an engine, and the runner of its workers.
#[derive(Clone)]
struct Instance {
    engine: Arc<Engine<PyJob>>,
    runner: Arc<PyRunner>,
}

impl Instance {
    fn new(
        py: Python<'_>,
        options: &Options,
        initializer: Option<&Arc<Initializer>>,
        gil_policy: GilPolicy,
        nudge: Option<&'static Nudge>,
        is_shut: bool,
    ) -> Self {
        let runner = Arc::new(PyRunner::new(
            initializer.map(Arc::clone),
            gil_policy,
            nudge,
        ));
        let engine = Engine::new(options, Arc::<PyRunner>::clone(&runner));
        runner.belong_to(&engine);
        exit::register(py, &engine);
        if is_shut {
            engine.close(true, py);
        }
        Self { engine, runner }
    }
}

impl PoolBase {
    /// What `__init__` has made.
    pub(crate) fn contents(&self) -> PyResult<&Contents> {
        // As `threading.Thread` says it.
        self.contents
            .get()
            .ok_or_else(|| PyRuntimeError::new_err("AsyncTaskPool.__init__() not called"))
    }
}

impl Contents {
    fn new(py: Python<'_>, given: Given<'_, '_>) -> PyResult<Self> {
        let gil_policy = GilPolicy::now(py)?;
        let options = given.options(py, gil_policy)?;
        let initializer = given.initializer(py)?.map(Arc::new);
        let propagate_context = given.propagate_context.or("propagate_context", false)?;
        let may_nudge = given.nudge.or("nudge", true)?;
        let place = given.executor.map(Hooks::place_on_executor).transpose()?;
        let nudge = may_nudge.then(|| gil_policy.nudge(py)).flatten();
        Ok(Self {
            first: Instance::new(py, &options, initializer.as_ref(), gil_policy, nudge, false),
            in_child: Mutex::new(None),
            options,
            initializer,
            gil_policy,
            nudge,
            is_shut: AtomicBool::new(false),
            propagate_context,
            place: place.map(|place| Mutex::new(Some(SendKept::from(place)))),
        })
    }

    /// The engine of this process.
    pub(crate) fn engine(&self, py: Python<'_>) -> Arc<Engine<PyJob>> {
        Arc::clone(&self.instance(py).engine)
    }

    fn instance(&self, py: Python<'_>) -> Cow<'_, Instance> {
        if self.first.engine.is_inherited() {
            Cow::Owned(self.instance_in_child(py))
        } else {
            Cow::Borrowed(&self.first)
        }
    }

    fn instance_in_child(&self, py: Python<'_>) -> Instance {
        if let Some(instance) = &*lock(&self.in_child)
            && !instance.engine.is_inherited()
        {
            return instance.clone();
        }
        fork::log_lost_series(py);
        // Made outside the lock; of two that are made at once, one is thrown away unused.
        let is_shut = self.is_shut.load(Ordering::Relaxed);
        let initializer = self.initializer.as_ref();
        let new = Instance::new(
            py,
            &self.options,
            initializer,
            self.gil_policy,
            self.nudge,
            is_shut,
        );
        let mut in_child = lock(&self.in_child);
        match &*in_child {
            Some(instance) if !instance.engine.is_inherited() => instance.clone(),
            _ => {
                let old = in_child.replace(new.clone());
                drop(in_child);
                drop(old);
                new
            }
        }
    }

    /// Closes the pool and waits; what is left at `deadline` is cancelled.
    pub(crate) fn end(
        &self,
        py: Python<'_>,
        deadline: Option<Instant>,
        delayed: Delayed,
    ) -> PyResult<Ended> {
        let (engine, is_whole) = self.close(py, true, delayed);
        if !exit::join(py, &engine, deadline, true)? {
            exit::cut_short(py, &engine)?;
            return Ok(Ended::Late);
        }
        Ok(if is_whole {
            Ended::Whole
        } else {
            Ended::CutShort
        })
    }

    /// `false`: that has cut a task short.
    fn close(&self, py: Python<'_>, drain: bool, delayed: Delayed) -> (Arc<Engine<PyJob>>, bool) {
        self.is_shut.store(true, Ordering::Relaxed);
        let engine = self.engine(py);
        let is_whole = engine.close_with(drain, delayed, py);
        (engine, is_whole)
    }
}

impl Contents {
    /// The engines of this process, of which there may be none in a forked child. Never waits.
    fn engines(&self) -> impl Iterator<Item = Arc<Engine<PyJob>>> {
        let in_child = self.in_child.try_lock().ok();
        let in_child = in_child.and_then(|instance| {
            instance
                .as_ref()
                .map(|instance| Arc::clone(&instance.engine))
        });
        [Some(Arc::clone(&self.first.engine)), in_child]
            .into_iter()
            .flatten()
            .filter(|engine| !engine.is_inherited())
    }

    /// Whether no task is left that may need a worker.
    fn is_finished(&self) -> bool {
        self.engines().all(|engine| engine.is_finished())
    }
}

impl Drop for PoolBase {
    fn drop(&mut self) {
        let Some(contents) = self.contents.get() else {
            return;
        };
        // Nobody can post any more. Tasks that are posted already run as they would have.
        // `None`: the interpreter is going away, and their workers with it. A panic here would end the
        // process: CPython is not to be unwound.
        try_attach(|py| contents.engines().for_each(|engine| engine.release(py)));
    }
}
