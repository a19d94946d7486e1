//! [`PyJob`]: a handle on its way through queue, wheel and workers, and what a run does to it.
//!
//! Owned by whoever holds the task at the moment. It says how a callback is called, here or
//! elsewhere, and where its result goes; when and where is the engine's to say.

use std::any::Any;
use std::sync::Arc;

use asynctask::engine::{ANYWHERE, Engine, Job, Outcome};
use asynctask::sync::lock;
use asynctask::task::{Phase, Task};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::callback;
use crate::context;
use crate::errors::{BrokenPool, CancelledError};
use crate::hooks::Hooks;
use crate::kept::{Kept, SendKept, is_last};
use crate::task::{Body, Stage, TaskBase};
use crate::thread::{self, Running, Starting};
use crate::unseen::Failure;

/// A reference to a handle, as queue and wheel hold it. Dropped attached, like every Python object.
pub(crate) struct PyJob(pub(crate) SendKept<TaskBase>);

fn none(py: Python<'_>) -> Kept {
    Kept::new(py, py.None())
}

impl PyJob {
    fn base(&self) -> &TaskBase {
        self.0.get()
    }
}

impl Job for PyJob {
    type Token<'a> = Python<'a>;
    type Value = Kept;
    type Failure = PyErr;

    fn task(&self) -> &Task {
        &self.base().task
    }

    fn engine(&self) -> &Arc<Engine<Self>> {
        &self.base().engine
    }

    fn share(&self, py: Python<'_>) -> Self {
        Self(self.0.clone_ref(py).into())
    }

    fn handed_to(&self) -> Option<u64> {
        if !self.base().is_handed_over {
            return None;
        }
        let body = lock(&self.base().body);
        let place = body.extras.as_ref()?.place.as_ref()?;
        Some(place.event_loop.unwrap_or(ANYWHERE))
    }

    fn call(&self, py: Python<'_>) -> Outcome<Kept, PyErr> {
        let base = self.base();
        let stage = {
            let mut body = lock(&base.body);
            if body
                .extras
                .as_ref()
                .is_some_and(|extras| extras.place.is_some())
            {
                drop(body);
                return self.call_elsewhere(py);
            }
            std::mem::replace(&mut body.stage, Stage::Empty)
        };
        let Stage::Call(call) = stage else {
            return Outcome::Value(none(py));
        };
        let running = Running::enter(self.0.bind(py));
        let result = self.own_context(py, call.context.as_ref()).and_then(|own| {
            let context = own.as_ref().or(call.context.as_ref());
            context::enter(py, context, || {
                let kwargs = call.kwargs.as_ref().map(|kwargs| kwargs.bind(py));
                callback::call(call.callback.bind(py), call.args.bind(py), kwargs)
            })
        });
        drop(running);
        if base.engine.is_inherited() && !thread::is_in_callback() && thread::is_worker() {
            // The callback has forked, and this is the child: below there is only the parent's.
            Hooks::end_child(py, result.as_ref().err());
        }
        if base.view().is_series() {
            let old = std::mem::replace(&mut lock(&base.body).stage, Stage::Call(call));
            drop(old); // nothing, unless the collector has been here
        } else {
            drop(call);
        }
        match result {
            Ok(value) => Outcome::Value(value.into()),
            Err(error) => Outcome::Failure(error),
        }
    }

    fn panicked(&self, _py: Python<'_>, payload: Box<dyn Any + Send>) -> PyErr {
        let text = payload
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| payload.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "no text".to_owned());
        BrokenPool::new_err(format!("the run of a task panicked: {text}"))
    }

    fn value_of_no_run(&self, py: Python<'_>) -> Kept {
        none(py)
    }

    fn run_failed(&self, py: Python<'_>, failure: PyErr) {
        let name = self.base().shown_name(py);
        let error = Kept::new(py, failure.into_value(py));
        Hooks::log_run(py, &name, error.bind(py).as_any());
    }

    fn end(&self, py: Python<'_>, result: Option<PyResult<Kept>>) {
        let base = self.base();
        let stage = match result {
            None => Stage::Empty,
            Some(Ok(value)) => Stage::Value(value),
            Some(Err(error)) => {
                let failure = if base.view().is_series() {
                    self.run_failed(py, error.clone_ref(py));
                    None
                } else {
                    let failure = Failure::new(base.own_name(py), error.value(py)).ok();
                    if failure.is_none() {
                        // No memory to remember it by, so it is told now.
                        Hooks::log_unseen(py, &base.shown_name(py), error.value(py));
                    }
                    failure
                };
                Stage::Error(Kept::new(py, error.into_value(py).into_any()), failure)
            }
        };
        let old = std::mem::replace(&mut lock(&base.body).stage, stage);
        drop(old);
    }

    fn ended(&self, py: Python<'_>) {
        let base = self.base();
        if base.task.is_watched() {
            self.tell_watchers(py);
        }
        // Without a GIL the last reference to an object is not the end of it, if its thread is another
        // one: that comes when that thread runs Python code again, which may be never.
        if base.task.view().phase() == Phase::Failed && is_last(self.0.bind(py)) {
            base.note_unseen(py);
        }
    }
}

impl PyJob {
    /// Tells who has asked to be told that the task is over.
    fn tell_watchers(&self, py: Python<'_>) {
        let base = self.base();
        let (on_failure, callbacks) = {
            let mut body = lock(&base.body);
            let Some(extras) = &mut body.extras else {
                return;
            };
            (
                extras.on_failure.take(),
                std::mem::take(&mut extras.callbacks),
            )
        };
        let task = self.0.bind(py);
        if let Err(error) = TaskBase::publish(task) {
            callback::unraisable(py, error, Some(task.as_any()));
        }
        let on_failure = on_failure.filter(|_| base.view().phase() == Phase::Failed);
        for callback in on_failure.into_iter().chain(callbacks) {
            call_done_callback(task, callback.bind(py));
        }
    }
}

impl PyJob {
    /// The context of this run alone, if the runs of the task do not share the one they have.
    fn own_context(&self, py: Python<'_>, context: Option<&Kept>) -> PyResult<Option<Kept>> {
        context
            .filter(|_| self.base().copies_context)
            .map(|context| context::copy(py, context))
            .transpose()
    }

    /// Starts a run that goes on elsewhere. The callback of a series stays with the task meanwhile.
    fn call_elsewhere(&self, py: Python<'_>) -> Outcome<Kept, PyErr> {
        let task = self.0.bind(py);
        let starter = {
            let body = lock(&self.base().body);
            let place = body.extras.as_ref().and_then(|it| it.place.as_ref());
            place.map(|place| place.starter.share(py))
        };
        let Some(starter) = starter else {
            return Outcome::Value(none(py));
        };
        let start = || {
            let mut once = None;
            let (callback, args, kwargs, context) = {
                let mut body = lock(&self.base().body);
                let Body {
                    stage: Stage::Call(call),
                    extras: Some(extras),
                } = &mut *body
                else {
                    return Ok(false);
                };
                extras.is_elsewhere = true;
                let call = (
                    call.callback.clone_ref(py),
                    call.args.clone_ref(py),
                    call.kwargs.as_ref().map(|kwargs| kwargs.clone_ref(py)),
                    call.context.as_ref().map(|context| context.share(py)),
                );
                if !self.base().task.view().is_series() {
                    // Whatever a coroutine function holds, its loop for one, is not the handle's.
                    once = Some(std::mem::replace(&mut body.stage, Stage::Empty));
                }
                call
            };
            drop(once);
            let context = self.own_context(py, context.as_ref())?.or(context);
            let args = (
                task,
                callback,
                args,
                kwargs,
                context.as_ref().map(|context| context.bind(py)),
            );
            let start = starter.bind(py).getattr("start")?;
            let _starting = Starting::enter(task);
            drop(Kept::from(callback::call(
                &start,
                &args.into_pyobject(py)?,
                None,
            )?));
            Ok::<_, PyErr>(true)
        };
        match start() {
            Ok(true) => Outcome::Elsewhere,
            Ok(false) => Outcome::Value(none(py)),
            // If it was started after all, it has been, or will be, ended from there.
            Err(_) if !self.base().take_elsewhere() => Outcome::Elsewhere,
            Err(error) if self.is_gone(py, &starter, &error) => Outcome::Gone(error),
            Err(error) => Outcome::Failure(error),
        }
    }

    /// Whether no further run of the series can start, as `start` has raised `error`.
    fn is_gone(&self, py: Python<'_>, starter: &Kept, error: &PyErr) -> bool {
        if !self.base().view().is_series() {
            return false; // it is over in any case
        }
        let starter = starter.bind(py);
        callback::call_method(starter, intern!(py, "is_gone"), (error.value(py),))
            .and_then(|is_gone| is_gone.is_truthy())
            .unwrap_or_else(|error| {
                callback::unraisable(py, error, Some(starter));
                false
            })
    }
}

pub(crate) fn call_done_callback(task: &Bound<'_, TaskBase>, done: &Bound<'_, PyAny>) {
    let py = task.py();
    let args = PyTuple::new(py, [task]);
    match args.and_then(|args| callback::call(done, &args, None)) {
        Ok(value) => drop(Kept::from(value)),
        Err(error) => Hooks::log_callback(py, task.as_any(), &error),
    }
}

/// The task whose callback the calling thread is in.
pub(crate) fn current(py: Python<'_>) -> Option<Bound<'_, TaskBase>> {
    // SAFETY: only the two methods above enter a task there, and each enters a `TaskBase`.
    thread::current(py).map(|task| unsafe { task.cast_into_unchecked() })
}

/// The running task's wish that it give up, as an exception.
pub(crate) fn check_cancelled(py: Python<'_>) -> PyResult<()> {
    match current(py) {
        Some(task) if task.get().view().cancel_requested() => Err(CancelledError::new_err(())),
        _ => Ok(()),
    }
}
