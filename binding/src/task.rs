//! `TaskBase`, the native half of `AsyncTask`.
//!
//! A handle is one Python object. Queue and wheel hold a reference to that object and nothing else,
//! so a post is one allocation. The public class is `class AsyncTask(TaskBase, Future)` with empty
//! `__slots__`: `isinstance(task, Future)` holds because it is true, every method is found here
//! first, and `Future.__init__`, which costs as much as ten posts, never runs
//! (`docs/design/binding.md`).
//!
//! Owned by Python, like any object: by whoever has the handle, and by queue, wheel and worker for as long
//! as the task is not over. It never decides when or where it runs. The body's lock is a leaf: nothing of
//! Python's is called, and nothing dropped, under it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use asynctask::engine::Engine;
use asynctask::sync::{Mutex, lock};
use asynctask::task::{Phase, Task, View};
use pyo3::PyClassInitializer;
use pyo3::impl_::pymethods::tp_new_impl;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString, PyTuple};

use crate::callback;
use crate::hooks::Hooks;
use crate::kept::{Kept, try_attach};
use crate::task::job::PyJob;
use crate::unseen::{self, Failure, Name};

mod elsewhere;
pub(crate) mod job;
mod methods;
pub(crate) mod wait;

/// Gives each unnamed task that is asked for its name a number.
static NEXT_NUMBER: AtomicU64 = AtomicU64::new(1);

/// What is to be called.
pub(crate) struct Call {
    pub(crate) callback: Kept,
    pub(crate) args: Kept<PyTuple>,
    pub(crate) kwargs: Option<Kept<PyDict>>,
    /// Shared by all runs, or copied for each, as [`TaskBase::copies_context`] says. `None`: a fresh
    /// one for each.
    pub(crate) context: Option<Kept>,
}

impl Call {
    pub(crate) fn without_arguments(callback: &Bound<'_, PyAny>, context: Option<Kept>) -> Self {
        Self {
            callback: callback.clone().into(),
            args: PyTuple::empty(callback.py()).into(),
            kwargs: None,
            context,
        }
    }
}

/// What a task has, by where it stands.
pub(crate) enum Stage {
    /// It is pending.
    Call(Call),
    /// It has no callback, is in a run, or was cancelled.
    Empty,
    /// Its last run returned this.
    Value(Kept),
    /// Its last run raised this. The second is there if it was to be seen by somebody.
    Error(Kept, Option<Kept<Failure>>),
}

/// What few tasks have.
#[derive(Default)]
pub(crate) struct Extras {
    name: Option<Py<PyString>>,
    pub(crate) callbacks: Vec<Kept>,
    /// Called if the task fails, before those.
    pub(crate) on_failure: Option<Kept>,
    /// Who runs the callback, if that is not a worker of the pool.
    pub(crate) place: Option<Place>,
    /// A run is going on there.
    pub(crate) is_elsewhere: bool,
    /// What that run can be cancelled by.
    remote: Option<Kept>,
    /// Its end, which takes the mark before it can be seen, is a cancellation.
    is_withdrawn: bool,
    /// The `_condition` and `_waiters` of a `Future`, made when somebody looks; see
    /// [`TaskBase::publish`].
    condition: Option<Kept>,
    waiters: Option<Kept<PyList>>,
    /// The end has been published to them.
    is_published: bool,
}

/// Where a callback is run, if not on a worker: an object of the package's Python files with a
/// method `start(task, callback, args, kwargs, context)`, which has the run end with one of the
/// task's `_complete`, `_fail` and `_complete_cancelled`, and a method `is_gone(error)`, which tells
/// whether `start`, which has raised that, always will.
pub(crate) struct Place {
    pub(crate) starter: Kept,
    /// The number of the event loop that it is, by which `_places.stalled_loops` names it.
    pub(crate) event_loop: Option<u64>,
}

pub(crate) struct Body {
    pub(crate) stage: Stage,
    pub(crate) extras: Option<Box<Extras>>,
}

// SAFETY: it lives in a handle, a Python object, and ends when that is deallocated: attached. What is
// taken out of it before is a `Kept` again, which is where it can be dropped.
unsafe impl Send for Body {}

/// The native half of `AsyncTask`; see there for what its methods promise. Under its public name, which is
/// what error messages show.
#[pyclass(frozen, subclass, weakref, name = "AsyncTask", module = "asynctask")]
pub(crate) struct TaskBase {
    pub(crate) task: Task,
    pub(crate) engine: Arc<Engine<PyJob>>,
    /// Zero until somebody asks.
    number: AtomicU64,
    pub(crate) body: Mutex<Body>,
    /// It has a [`Place`].
    pub(crate) is_handed_over: bool,
    /// Each run of the series has a copy of its context.
    pub(crate) copies_context: bool,
}

/// Makes a handle.
pub(crate) fn new_task(
    py: Python<'_>,
    engine: Arc<Engine<PyJob>>,
    task: Task,
    call: Option<Call>,
    name: Option<Py<PyString>>,
    place: Option<Place>,
    copies_context: bool,
) -> PyResult<Bound<'_, TaskBase>> {
    let is_handed_over = place.is_some();
    let extras = (name.is_some() || place.is_some()).then(|| {
        Box::new(Extras {
            name,
            place,
            ..Extras::default()
        })
    });
    let base = TaskBase {
        task,
        engine,
        is_handed_over,
        copies_context,
        number: AtomicU64::new(0),
        body: Mutex::new(Body {
            stage: call.map_or(Stage::Empty, Stage::Call),
            extras,
        }),
    };
    unseen::ask_again(py);
    let class = Hooks::get(py)?.task_class.bind(py).as_type_ptr();
    // As `AsyncTask.__new__` would do it, and without the `__init__` that `type.__call__` goes on to:
    // every attribute that `Future.__init__` would set is a property of ours. pyo3 makes instances of a
    // given class nowhere but in the body of a `__new__`, and getting there through the slot is too slow:
    // hence the one call of what its macros expand to.
    // SAFETY:
    // 1. `_install` has checked that the class is a subclass of `TaskBase`.
    // 2. Attached; the result is a new reference, or an error.
    unsafe {
        let object = tp_new_impl(py, PyClassInitializer::from(base), class)?;
        Ok(Bound::from_owned_ptr(py, object).cast_into_unchecked())
    }
}

impl TaskBase {
    /// The task's state. To a forked child, what its parent has not finished is cancelled: nobody
    /// here will ever run it, so nobody must wait for it.
    pub(crate) fn view(&self) -> View {
        let view = self.task.view();
        if !view.is_over() && self.engine.is_inherited() {
            view.as_cancelled()
        } else {
            view
        }
    }

    pub(crate) fn shown_name(&self, py: Python<'_>) -> String {
        self.own_name(py).shown(py)
    }

    pub(crate) fn own_name(&self, py: Python<'_>) -> Name {
        let name = {
            let body = lock(&self.body);
            let extras = body.extras.as_ref();
            extras.and_then(|extras| extras.name.as_ref().map(|name| name.clone_ref(py)))
        };
        name.map_or_else(
            || Name::Number(self.number()),
            |name| Name::Given(name.into()),
        )
    }

    /// Has the failure of a task that is over logged, if nobody has looked at it. Runs nothing of
    /// Python's.
    pub(crate) fn note_unseen(&self, py: Python<'_>) {
        let failure = match &lock(&self.body).stage {
            Stage::Error(_, Some(failure)) if failure.get().is_unseen() => failure.clone_ref(py),
            _ => return,
        };
        unseen::note(failure.into_bound(py));
    }

    fn number(&self) -> u64 {
        // Relaxed: a number is all there is to it.
        let number = self.number.load(Ordering::Relaxed);
        if number != 0 {
            return number;
        }
        let new = NEXT_NUMBER.fetch_add(1, Ordering::Relaxed);
        match self
            .number
            .compare_exchange(0, new, Ordering::Relaxed, Ordering::Relaxed)
        {
            Ok(_) => new,
            Err(first) => first,
        }
    }

    fn with_extras<R>(&self, f: impl FnOnce(&mut Extras) -> R) -> R {
        f(lock(&self.body).extras.get_or_insert_default())
    }

    /// Registers somebody who must be told of the end by a thread that can call Python. `false`:
    /// the task is over, and nobody will.
    fn watch(&self, register: impl FnOnce(&mut Extras)) -> bool {
        let mut body = lock(&self.body);
        // In this order: an end that comes after the first line finds the flag, takes the lock
        // after us, and then finds what is registered.
        self.task.watch();
        if self.view().is_over() {
            return false;
        }
        register(body.extras.get_or_insert_default());
        true
    }

    /// Takes the mark that a run is going on elsewhere; only who gets it may end the run.
    pub(crate) fn take_elsewhere(&self) -> bool {
        self.with_extras(|extras| std::mem::take(&mut extras.is_elsewhere))
    }

    /// Tells those who wait by way of the standard library that the task is over, unless that has
    /// been done.
    ///
    /// `concurrent.futures.wait` and `as_completed` hold the `_condition`, read the `_state` several
    /// times, and then put themselves on `_waiters`. A task ends without the condition; so that
    /// nothing changes under their eyes, `_state` goes on to show it as pending until whoever comes
    /// first has published the end, under the condition: the thread that ended it, or one that is
    /// about to acquire the condition to look.
    pub(crate) fn publish(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let condition = this.with_extras(|e| e.condition.as_ref().map(|c| c.clone_ref(py)));
        let Some(condition) = condition else {
            return Ok(());
        };
        let condition = condition.bind(py);
        callback::call_method(condition, intern!(py, "acquire"), ())?;
        let (first, waiters) = this.with_extras(|extras| {
            let first = !std::mem::replace(&mut extras.is_published, true);
            let waiters = extras.waiters.as_ref();
            (first, waiters.map(|waiters| waiters.clone_ref(py)))
        });
        let tell = || {
            if let Some(waiters) = &waiters {
                tell_waiters(slf, waiters.bind(py))?;
            }
            callback::call_method(condition, intern!(py, "notify_all"), ()).map(drop)
        };
        let told = if first { tell() } else { Ok(()) };
        callback::call_method(condition, intern!(py, "release"), ())?;
        told
    }

    /// Whether the end of the task is not to be shown yet; see [`publish`](Self::publish).
    fn is_unpublished(&self) -> bool {
        let is_hidden = |extras: &Extras| extras.condition.is_some() && !extras.is_published;
        self.task.is_watched()
            && lock(&self.body).extras.as_deref().is_some_and(is_hidden)
            && !self.engine.is_inherited()
    }
}

/// The last look at a handle whose references are gone. One that the collector has found has had its
/// own; see [`Failure`].
impl Drop for TaskBase {
    fn drop(&mut self) {
        if self.task.view().phase() == Phase::Failed {
            // `None`: the interpreter is going away, and nobody can log any more.
            try_attach(|py| self.note_unseen(py));
        }
    }
}

/// Does for `concurrent.futures.wait` and `as_completed` what a `Future` does when it ends, under its
/// condition.
fn tell_waiters<'py>(task: &Bound<'py, TaskBase>, waiters: &Bound<'py, PyList>) -> PyResult<()> {
    let py = task.py();
    let method = match task.get().view().phase() {
        Phase::Cancelled => intern!(py, "add_cancelled"),
        Phase::Failed => intern!(py, "add_exception"),
        _ => intern!(py, "add_result"),
    };
    waiters
        .iter()
        .try_for_each(|waiter| callback::call_method(&waiter, method, (task,)).map(drop))
}
