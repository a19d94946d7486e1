//! `TaskBase`, the native half of `AsyncTask`.
//!
//! A handle is one Python object. Queue and wheel hold a reference to that object and nothing else,
//! so a post is one allocation. The public class is `class AsyncTask(TaskBase, Future)` with empty
//! `__slots__`: `isinstance(task, Future)` holds because it is true, every method is found here
//! first, and `Future.__init__`, which costs as much as ten posts, never runs. Allocation and
//! deallocation of such a handle take 54–64 ns, of a plain native class 45–53 (CPython 3.11, 3.13).
//!
//! The body's lock is a leaf: nothing of Python's is called, and nothing dropped, under it.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use asynctask::clock::nanos;
use asynctask::engine::{self, Engine, Job, Outcome};
use asynctask::error::Error;
use asynctask::pool::{Lent, is_any_worker, lend_while_waiting};
use asynctask::sync::{Mutex, lock, try_lock};
use asynctask::task::{Cancel, Goal, Phase, Task, View};
use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::impl_::pymethods::tp_new_impl;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyGenericAlias, PyList, PyString, PyTuple, PyType};
use pyo3::{PyClassInitializer, PyTraverseError, PyVisit};

use crate::callback;
use crate::convert::{self, Least};
use crate::errors::{InvalidStateError, exception};
use crate::hooks::Hooks;
use crate::kept::{Kept, try_attach};
use crate::signals::interrupted;
use crate::task::job::{PyJob, call_done_callback};
use crate::thread::is_in_run;
use crate::unseen::{self, Failure, Name, Waiting};

pub(crate) mod job;

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
    pub(crate) away: bool,
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
    /// The number of the event loop that it is, by which `_loops.stalled` names it.
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
    // `Future.__init__` builds a condition and takes 5 µs, and every attribute it would set is a
    // property of ours. pyo3 makes instances of a given class nowhere but in the body of a `__new__`,
    // and getting there through the slot costs a sixth of a post: hence the one call of what its
    // macros expand to.
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

    /// Waits for `goal`, and lets signals through.
    fn wait(slf: &Bound<'_, Self>, goal: Goal, deadline: Option<Instant>) -> PyResult<View> {
        let py = slf.py();
        let this = slf.get();
        let view = this.view();
        if view.is_over() {
            return Ok(view);
        }
        if is_in_run(slf) && !matches!(goal, Goal::Runs(runs) if runs <= view.runs()) {
            return Err(PyRuntimeError::new_err(
                "a task cannot wait for itself, nor for one that waits for it",
            ));
        }
        let _waiting = Waiting::enter();
        if let Some(gevent) = Hooks::gevent(py)? {
            return Self::wait_on_hub(slf, &gevent, goal, deadline);
        }
        if deadline.is_none() && !is_deep(py)? {
            this.engine.run_inline(&PyJob(slf.clone().into()), py);
            let view = this.view();
            if view.is_over() {
                return Ok(view); // also in a child that was forked by the task just run: it is cancelled
            }
        }
        let mut raised = None;
        let waited = py.detach(|| {
            this.engine
                .wait(&this.task, goal, deadline, &mut interrupted(&mut raised))
        });
        this.engine.sweep(py);
        match raised {
            Some(error) => Err(error),
            None => waited.map_err(exception),
        }
    }

    /// [`wait`](Self::wait) for a greenlet, whose thread must not block.
    fn wait_on_hub(
        slf: &Bound<'_, Self>,
        gevent: &Bound<'_, PyAny>,
        goal: Goal,
        deadline: Option<Instant>,
    ) -> PyResult<View> {
        let this = slf.get();
        if goal == Goal::Over {
            let py = slf.py();
            let left = deadline.map(|end| end.saturating_duration_since(Instant::now()));
            let left = left.map(|left| left.as_secs_f64());
            callback::call_method(gevent, intern!(py, "wait_until_done"), (slf, left))?;
            let view = this.view();
            return if view.is_over() {
                Ok(view)
            } else {
                Err(exception(Error::TimedOut))
            };
        }
        let look = || {
            this.task
                .wait(goal, Some(Instant::now()), Duration::ZERO, &mut || false)
                .ok()
        };
        Hooks::poll(gevent, deadline, look)?.ok_or_else(|| exception(Error::TimedOut))
    }

    /// The result of a task that is over.
    fn outcome(&self, py: Python<'_>, view: View) -> PyResult<Py<PyAny>> {
        if view.phase() == Phase::Cancelled {
            return Err(exception(Error::Cancelled));
        }
        match &lock(&self.body).stage {
            Stage::Value(value) => Ok(value.clone_ref(py)),
            Stage::Error(error, failure) => {
                unseen::looked_at(failure.as_ref());
                Err(PyErr::from_value(error.bind(py).clone()))
            }
            Stage::Call(_) | Stage::Empty => Ok(py.None()),
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
    pub(crate) fn take_away(&self) -> bool {
        self.with_extras(|extras| std::mem::take(&mut extras.away))
    }

    /// Ends a run that went on elsewhere.
    fn complete(slf: &Bound<'_, Self>, outcome: Outcome<Kept, PyErr>) -> PyResult<()> {
        let this = slf.get();
        if this.engine.is_inherited() {
            return Ok(()); // the parent's
        }
        let is_cancelled = matches!(outcome, Outcome::Cancelled);
        let (is_away, is_withdrawn, remote) = this.with_extras(|extras| {
            let is_away = std::mem::take(&mut extras.away);
            extras.is_withdrawn |= is_away && is_cancelled;
            (is_away, extras.is_withdrawn, extras.remote.take())
        });
        drop(remote);
        let job = PyJob(slf.clone().into());
        match outcome {
            outcome if is_away => engine::complete(job, slf.py(), outcome),
            // The handle was cancelled before the run could be. That it failed is still news.
            Outcome::Failure(failure) | Outcome::Gone(failure) if is_withdrawn => {
                job.run_failed(slf.py(), failure);
            }
            _ if is_withdrawn => {}
            _ => {
                return Err(InvalidStateError::new_err(
                    "no run of this task is going on elsewhere",
                ));
            }
        }
        Ok(())
    }

    /// Passes a cancel on to the run of a handed-over task. `false`: the run goes on.
    fn cancel_elsewhere(slf: &Bound<'_, Self>) -> PyResult<bool> {
        /// Where the run is.
        enum Run {
            /// It can be asked.
            There(Kept),
            /// A loop has it, and begins no run that is not wanted any more.
            OnItsWay,
            /// The other executor's `submit` has not returned: by the mark, the end is ours.
            Withdrawn,
            /// It has ended, or is about to.
            Over { is_cancelled: bool },
        }

        let (py, this) = (slf.py(), slf.get());
        // A series ends with its run; and on this thread, `submit` is running the callback.
        let may_withdraw = !this.task.view().is_series() && !is_in_run(slf);
        let run = this.with_extras(|extras| {
            if !extras.away {
                let is_cancelled = extras.is_withdrawn;
                return Run::Over { is_cancelled };
            }
            if let Some(remote) = &extras.remote {
                return Run::There(remote.share(py));
            }
            let place = extras.place.as_ref();
            if place.is_some_and(|place| place.event_loop.is_some()) {
                return Run::OnItsWay;
            }
            if !may_withdraw {
                let is_cancelled = false;
                return Run::Over { is_cancelled };
            }
            extras.away = false;
            extras.is_withdrawn = true;
            Run::Withdrawn
        });
        match run {
            Run::There(remote) => {
                callback::call_method(remote.bind(py), intern!(py, "cancel"), ())?.is_truthy()
            }
            Run::OnItsWay => Ok(true),
            Run::Withdrawn => {
                engine::complete(PyJob(slf.clone().into()), py, Outcome::Cancelled);
                Ok(true)
            }
            Run::Over { is_cancelled } => Ok(is_cancelled),
        }
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

    /// How long until the next deadline of a task that waits for it.
    fn remaining(&self) -> Option<Duration> {
        if self.engine.is_inherited() {
            return None;
        }
        self.engine.remaining(&self.task)
    }

    fn state(&self) -> &'static str {
        let view = self.view();
        if view.is_over() && self.is_unpublished() {
            return "PENDING";
        }
        match view.phase() {
            Phase::Pending => "PENDING",
            Phase::Running => "RUNNING",
            // Whoever waits by way of the standard library is told in the same breath.
            Phase::Cancelled => "CANCELLED_AND_NOTIFIED",
            Phase::Finished | Phase::Failed => "FINISHED",
        }
    }
}

#[pymethods]
impl TaskBase {
    #[new]
    fn new() -> PyResult<Self> {
        Err(PyTypeError::new_err(
            "an AsyncTask is made by posting, not by calling the class",
        ))
    }

    /// The name given at posting, or ``task-`` and a number.
    #[getter]
    fn name(&self, py: Python<'_>) -> String {
        self.shown_name(py)
    }

    /// Cancel the task, if it has not started; end a series, at once or after the run that is going.
    ///
    /// A task that waits for its deadline or for a worker is cancelled at once, and lets go of its
    /// callback and arguments at once. A running task goes on, and learns of it from
    /// `check_cancelled`.
    ///
    /// Returns:
    ///     ``False`` if the task is running and no series, or is over; ``True`` otherwise.
    fn cancel(slf: &Bound<'_, Self>) -> PyResult<bool> {
        let py = slf.py();
        let this = slf.get();
        if this.engine.is_inherited() {
            return Ok(this.cancelled());
        }
        let found = this.engine.stop(&PyJob(slf.clone().into()), true, py);
        match found {
            Cancel::Now => Ok(true),
            Cancel::Over => Ok(this.cancelled()),
            Cancel::AfterRun | Cancel::Running => {
                let is_passed_on = this.is_handed_over && Self::cancel_elsewhere(slf)?;
                Ok(found == Cancel::AfterRun || is_passed_on)
            }
        }
    }

    /// Whether the task was cancelled, or its series stopped.
    fn cancelled(&self) -> bool {
        self.view().phase() == Phase::Cancelled
    }

    /// Whether the callback is being called right now.
    fn running(&self) -> bool {
        self.view().phase() == Phase::Running
    }

    /// Whether the callback is being called right now.
    fn is_running(&self) -> bool {
        self.running()
    }

    /// Whether the task is over: it will not run again.
    fn done(&self) -> bool {
        self.view().is_over()
    }

    /// Whether the callback has been called, at least once, to its end.
    fn finished(&self) -> bool {
        self.task.view().runs() > 0
    }

    /// How many times the callback has been called to its end.
    fn called_times(&self) -> u64 {
        self.task.view().runs()
    }

    /// Wait until the task is over, and give what the callback returned, or raise what it raised.
    ///
    /// Called in another callback of the same pool, without a timeout, it may run a task that has not
    /// started right here.
    ///
    /// Args:
    ///     timeout: The longest to wait; ``None`` waits as long as it takes.
    ///
    /// Raises:
    ///     TimeoutError: *timeout* passed first.
    ///     CancelledError: The task was cancelled, or its series stopped.
    #[pyo3(signature = (timeout=None))]
    fn result(slf: &Bound<'_, Self>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Py<PyAny>> {
        let view = Self::wait(slf, Goal::Over, convert::deadline(timeout)?)?;
        slf.get().outcome(slf.py(), view)
    }

    /// Like `result`, but give what the callback raised, or ``None`` if it returned.
    #[pyo3(signature = (timeout=None))]
    fn exception(
        slf: &Bound<'_, Self>,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Option<Py<PyAny>>> {
        let py = slf.py();
        let this = slf.get();
        let view = Self::wait(slf, Goal::Over, convert::deadline(timeout)?)?;
        if view.phase() == Phase::Cancelled {
            return Err(exception(Error::Cancelled));
        }
        match &lock(&this.body).stage {
            Stage::Error(error, failure) => {
                unseen::looked_at(failure.as_ref());
                Ok(Some(error.clone_ref(py)))
            }
            _ => Ok(None),
        }
    }

    /// Wait until the callback has been called once, whether it returned or raised.
    ///
    /// Raises:
    ///     TimeoutError: *timeout* passed first.
    ///     CancelledError: The task is over without a run.
    #[pyo3(signature = (timeout=None))]
    fn wait_for_finished(
        slf: &Bound<'_, Self>,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let view = Self::wait(slf, Goal::Runs(1), convert::deadline(timeout)?)?;
        engine::reached(view, 1).map_err(exception)
    }

    /// Wait until the callback has been called *count* times; less than 1 counts as 1.
    ///
    /// Raises:
    ///     TimeoutError: *timeout* passed first.
    ///     CancelledError: The task is over with fewer runs. A count that was reached beats that.
    #[pyo3(signature = (count, timeout=None))]
    fn wait_for_finished_count(
        slf: &Bound<'_, Self>,
        count: &Bound<'_, PyAny>,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let count = convert::whole("count", count)?.max(1);
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        let view = Self::wait(slf, Goal::Runs(count), convert::deadline(timeout)?)?;
        engine::reached(view, count).map_err(exception)
    }

    /// No further run; one that is going goes on. A task that has not started is cancelled.
    fn stop(slf: &Bound<'_, Self>) {
        if slf.get().engine.is_inherited() {
            return;
        }
        slf.get()
            .engine
            .stop(&PyJob(slf.clone().into()), false, slf.py());
    }

    /// Stop, and wait for the run that is going. In the task's own callback it only stops.
    ///
    /// Raises:
    ///     TimeoutError: The run outlasts *timeout*.
    #[pyo3(signature = (timeout=None))]
    fn stop_and_wait(slf: &Bound<'_, Self>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let deadline = convert::deadline(timeout)?;
        Self::stop(slf);
        if is_in_run(slf) {
            return Ok(()); // the run that asks is the last
        }
        Self::wait(slf, Goal::Idle, deadline).map(drop)
    }

    /// Move the next deadline to *delay* from now; a series goes on from there.
    ///
    /// Returns:
    ///     ``False`` if it is too late: the task is due, running and no series, or over.
    ///
    /// >>> import asynctask
    /// >>> task = asynctask.post_task(lambda: "moved", asynctask.DelayTask(3600))
    /// >>> task.reschedule(0.001)
    /// True
    /// >>> task.result()
    /// 'moved'
    fn reschedule(slf: &Bound<'_, Self>, delay: &Bound<'_, PyAny>) -> PyResult<bool> {
        let engine = &slf.get().engine;
        let delay = convert::duration("delay", delay, Least::Passed)?;
        if engine.is_inherited() {
            return Ok(false);
        }
        let deadline = engine.now().saturating_add(nanos(delay));
        Ok(engine.reschedule(&PyJob(slf.clone().into()), deadline))
    }

    /// Call ``fn(task)`` when the task is over, or now if it is.
    ///
    /// It is called by the thread that ends the task, and must be quick. Several are called in the
    /// order they were added. What they raise is logged.
    fn add_done_callback(slf: &Bound<'_, Self>, r#fn: Bound<'_, PyAny>) -> PyResult<()> {
        convert::callable("fn", &r#fn)?;
        let stored = r#fn.clone().into();
        if !slf.get().watch(|extras| extras.callbacks.push(stored)) {
            call_done_callback(slf, &r#fn);
        }
        Ok(())
    }

    /// `add_done_callback` for who wants to hear of a failure and nothing else; for one, the group.
    fn _on_failure(slf: &Bound<'_, Self>, call: Bound<'_, PyAny>) {
        let stored = call.clone().into();
        let mut old = None; // dropped when the lock has been let go of
        if !slf
            .get()
            .watch(|extras| old = extras.on_failure.replace(stored))
            && slf.get().view().phase() == Phase::Failed
        {
            call_done_callback(slf, &call);
        }
    }

    /// Refused, always: a task's result is what its callback returns.
    #[pyo3(signature = (result))]
    fn set_result(&self, result: &Bound<'_, PyAny>) -> PyResult<()> {
        Err(InvalidStateError::new_err(format!(
            "the result of a task is what its callback returns, not {}",
            convert::repr(result)
        )))
    }

    /// Refused, always: a task's exception is what its callback raises.
    #[pyo3(signature = (exception))]
    fn set_exception(&self, exception: &Bound<'_, PyAny>) -> PyResult<()> {
        Err(InvalidStateError::new_err(format!(
            "the exception of a task is what its callback raises, not {}",
            convert::repr(exception)
        )))
    }

    /// Refused, always: a task is run by its pool.
    fn set_running_or_notify_cancel(&self) -> PyResult<bool> {
        Err(InvalidStateError::new_err("a task is run by its pool"))
    }

    #[classmethod]
    fn __class_getitem__<'py>(
        class: &Bound<'py, PyType>,
        item: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyGenericAlias>> {
        PyGenericAlias::new(class.py(), class, item)
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let py = slf.py();
        let class = slf.get_type().name()?;
        let this = slf.get();
        let address = slf.as_ptr() as usize;
        let name = convert::repr(PyString::new(py, &this.shown_name(py)).as_any());
        let outcome = match &lock(&this.body).stage {
            Stage::Value(value) => Some(("returned", value.bind(py).get_type())),
            Stage::Error(error, _) => Some(("raised", error.bind(py).get_type())),
            Stage::Call(_) | Stage::Empty => None,
        };
        let mut more = match outcome {
            Some((how, of)) => format!(" {how} {}", of.name()?),
            None => String::new(),
        };
        if let Some(left) = this.remaining() {
            write!(more, " due in {:.3} s", left.as_secs_f64()).expect("a string takes everything");
        }
        let view = this.task.view();
        if view.is_series() {
            write!(more, " runs={}", view.runs()).expect("a string takes everything");
        }
        let state = match this.view().phase() {
            Phase::Pending => "pending",
            Phase::Running => "running",
            Phase::Cancelled => "cancelled",
            Phase::Finished | Phase::Failed => "finished",
        };
        Ok(format!(
            "<{class} {name} at {address:#x} state={state}{more}>"
        ))
    }

    /// Refused, always: a task is run in its process, and its handle is of use nowhere else.
    fn __reduce__(slf: &Bound<'_, Self>) -> PyResult<()> {
        Err(convert::not_pickled(
            slf.as_any(),
            "a task stays in its process; send its result instead",
        ))
    }

    // What the standard library reads of a `Future`, and `concurrent.futures.wait` and
    // `as_completed` work with.

    #[getter]
    fn _state(&self) -> &'static str {
        self.state()
    }

    #[getter]
    fn _condition(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        let py = slf.py();
        let this = slf.get();
        let old = this.with_extras(|e| e.condition.as_ref().map(|c| c.clone_ref(py)));
        if let Some(condition) = old {
            // Whoever asks is about to acquire it, and will not be told of what is over.
            if this.view().is_over() && this.is_unpublished() {
                Self::publish(slf)?;
            }
            return Ok(condition);
        }
        // Made outside the lock, so of two threads one may have made it in vain.
        let class = Hooks::get(py)?.condition_class.bind(py);
        let mut new = Some(callback::call(class, &PyTuple::empty(py), None)?.into());
        if !this.watch(|extras| {
            extras.condition = extras.condition.take().or_else(|| new.take());
        }) {
            this.with_extras(|extras| {
                if extras.condition.is_none() {
                    extras.condition = new.take();
                    extras.is_published = true; // there was nobody to tell
                }
            });
        }
        drop(new);
        // There by now, whoever made it. If the task has ended meanwhile: as above.
        Self::_condition(slf)
    }

    #[getter]
    fn _waiters(slf: &Bound<'_, Self>) -> PyResult<Py<PyList>> {
        let py = slf.py();
        let this = slf.get();
        if let Some(waiters) = this.with_extras(|e| e.waiters.as_ref().map(|w| w.clone_ref(py))) {
            return Ok(waiters);
        }
        // Made outside the lock, so of two threads one may have made it in vain.
        let mut new = Some(Hooks::new_waiters(py)?.into());
        let waiters = this.with_extras(|extras| {
            let waiters = extras.waiters.take().or_else(|| new.take());
            extras.waiters = waiters;
            extras.waiters.as_ref().map(|waiters| waiters.clone_ref(py))
        });
        drop(new);
        Ok(waiters.expect("there by now"))
    }

    #[getter]
    fn _done_callbacks(slf: &Bound<'_, Self>) -> PyResult<Py<PyList>> {
        let py = slf.py();
        let callbacks: Vec<_> = slf
            .get()
            .with_extras(|extras| extras.callbacks.iter().map(|c| c.clone_ref(py)).collect());
        Ok(PyList::new(py, callbacks)?.unbind())
    }

    /// What `asyncio` reads of a future that is over, on CPython 3.14 and later.
    fn _get_snapshot(&self, py: Python<'_>) -> (bool, bool, Option<Py<PyAny>>, Option<Py<PyAny>>) {
        let view = self.view();
        (
            view.is_over(),
            self.cancelled(),
            self._result(py),
            self._exception(py),
        )
    }

    /// The run that went on elsewhere has returned.
    fn _complete(slf: &Bound<'_, Self>, value: Bound<'_, PyAny>) -> PyResult<()> {
        Self::complete(slf, Outcome::Value(value.into()))
    }

    /// The run that went on elsewhere has raised; with `is_gone`, so would every further one.
    #[pyo3(signature = (error, is_gone=false))]
    fn _fail(slf: &Bound<'_, Self>, error: Bound<'_, PyAny>, is_gone: bool) -> PyResult<()> {
        let error = PyErr::from_value(error);
        let outcome = if is_gone {
            Outcome::Gone(error)
        } else {
            Outcome::Failure(error)
        };
        Self::complete(slf, outcome)
    }

    /// The run that went on elsewhere was cancelled there, which `error` says. If nobody has cancelled
    /// the handle, that is the failure of one run to a series; a one-shot is cancelled.
    #[pyo3(signature = (error, is_gone=false))]
    fn _complete_cancelled(
        slf: &Bound<'_, Self>,
        error: Bound<'_, PyAny>,
        is_gone: bool,
    ) -> PyResult<()> {
        let view = slf.get().view();
        if view.is_series() && !view.cancel_requested() {
            return Self::_fail(slf, error, is_gone);
        }
        Self::complete(slf, Outcome::Cancelled)
    }

    /// Whether the run that is to begin elsewhere has not been cancelled on its way.
    fn _is_wanted(&self) -> bool {
        self.with_extras(|extras| extras.away) && !self.view().cancel_requested()
    }

    /// Names what the run that goes on elsewhere can be cancelled by: its `cancel()` says whether
    /// it will. `False`: the run is over, or has been asked to give up already.
    fn _set_remote(&self, remote: Bound<'_, PyAny>) -> bool {
        let mut remote = Some(remote.into());
        let away = self.with_extras(|extras| {
            if extras.away {
                std::mem::swap(&mut extras.remote, &mut remote);
            }
            extras.away
        });
        drop(remote); // the one before, or the new one
        away && !self.view().cancel_requested()
    }

    /// Seconds to the next deadline of a task that waits for it; `None` if it does not.
    fn _remaining(&self) -> Option<f64> {
        self.remaining().map(|left| left.as_secs_f64())
    }

    #[getter]
    fn _result(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        match &lock(&self.body).stage {
            Stage::Value(value) => Some(value.clone_ref(py)),
            _ => None,
        }
    }

    #[getter]
    fn _exception(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        match &lock(&self.body).stage {
            Stage::Error(error, failure) => {
                unseen::looked_at(failure.as_ref());
                Some(error.clone_ref(py))
            }
            _ => None,
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // Never held while Python runs, so only a thread that is about to let go can hold it; what
        // it holds is then reachable from that thread as well.
        let Some(body) = try_lock(&self.body) else {
            return Ok(());
        };
        match &body.stage {
            Stage::Call(call) => {
                visit.call(&*call.callback)?;
                visit.call(&*call.args)?;
                visit.call(call.kwargs.as_deref())?;
                visit.call(call.context.as_deref())?;
            }
            Stage::Value(value) => visit.call(&**value)?,
            Stage::Error(error, failure) => {
                visit.call(&**error)?;
                visit.call(failure.as_deref())?;
            }
            Stage::Empty => {}
        }
        if let Some(extras) = &body.extras {
            for callback in &extras.callbacks {
                visit.call(&**callback)?;
            }
            visit.call(extras.on_failure.as_deref())?;
            if let Some(place) = &extras.place {
                visit.call(&*place.starter)?;
            }
            visit.call(extras.remote.as_deref())?;
            visit.call(extras.condition.as_deref())?;
            visit.call(extras.waiters.as_deref())?;
        }
        Ok(())
    }

    fn __clear__(&self) {
        let (stage, extras) = {
            let mut body = lock(&self.body);
            (
                std::mem::replace(&mut body.stage, Stage::Empty),
                body.extras.take(),
            )
        };
        drop((stage, extras));
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

/// Whether the stack has so many frames of Python that a callback on top of them would miss them: on a
/// worker of its own it has all that `sys.getrecursionlimit` says, and so it should have here, but for a
/// few.
fn is_deep(py: Python<'_>) -> PyResult<bool> {
    /// Enough for the waits that may nest, with three frames each.
    const MANY: u32 = 100;

    if !is_any_worker() {
        return Ok(false); // nothing is run here
    }
    let get_frame = Hooks::get(py)?.get_frame.bind(py);
    // It raises where the stack is less deep.
    Ok(get_frame.call1((MANY,)).is_ok())
}

/// A worker lent to the pool of a callback that is about to wait by way of the standard library, for
/// as long as this object lives.
#[pyclass(frozen, module = "asynctask._asynctask")]
pub(crate) struct Loan {
    _lent: Lent,
}

/// Lends a worker to the pool whose worker this is called on; `None` on other threads.
#[pyfunction]
pub(crate) fn _lend() -> Option<Loan> {
    lend_while_waiting().map(|lent| Loan { _lent: lent })
}
