//! What Python sees of a task: `AsyncTask`'s methods, and what the standard library reads of a `Future`.
//!
//! Each method checks its arguments, calls what [`super`] and its other files have, and maps the error.

use std::fmt::Write;
use std::time::Duration;

use asynctask::clock::nanos;
use asynctask::engine::{self, Outcome};
use asynctask::error::Error;
use asynctask::sync::{lock, try_lock};
use asynctask::task::{Cancel, Goal, Phase};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyGenericAlias, PyList, PyString, PyTuple, PyType};
use pyo3::{PyTraverseError, PyVisit};

use crate::callback;
use crate::convert::{self, Minimum};
use crate::errors::{InvalidStateError, exception};
use crate::hooks::Hooks;
use crate::thread::is_in_run;
use crate::unseen;

use super::job::{PyJob, call_done_callback};
use super::{Stage, TaskBase};

impl TaskBase {
    /// How long until the next deadline of a task that waits for it.
    fn remaining(slf: &Bound<'_, Self>) -> Option<Duration> {
        let engine = &slf.get().engine;
        if engine.is_inherited() {
            return None;
        }
        engine.remaining(&PyJob(slf.clone().into()))
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
        let delay = convert::duration("delay", delay, Minimum::Passed)?;
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
        if let Some(left) = Self::remaining(slf) {
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
        self.with_extras(|extras| extras.is_elsewhere) && !self.view().cancel_requested()
    }

    /// Names what the run that goes on elsewhere can be cancelled by: its `cancel()` says whether
    /// it will. `False`: the run is over, or has been asked to give up already.
    fn _set_remote(&self, remote: Bound<'_, PyAny>) -> bool {
        let mut remote = Some(remote.into());
        let is_elsewhere = self.with_extras(|extras| {
            if extras.is_elsewhere {
                std::mem::swap(&mut extras.remote, &mut remote);
            }
            extras.is_elsewhere
        });
        drop(remote); // the one before, or the new one
        is_elsewhere && !self.view().cancel_requested()
    }

    /// Seconds to the next deadline of a task that waits for it; `None` if it does not.
    fn _remaining(slf: &Bound<'_, Self>) -> Option<f64> {
        Self::remaining(slf).map(|left| left.as_secs_f64())
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
