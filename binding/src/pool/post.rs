//! Posts: from checked arguments to a task that its engine has.
//!
//! Owned by the caller until the engine has the task. Nothing here waits but for room in the queue.

use std::sync::Arc;

use asynctask::clock::{Moment, Nanos, nanos};
use asynctask::engine::{Engine, WaitForRoom};
use asynctask::error::Error;
use asynctask::pool::Pool;
use asynctask::series::Series;
use asynctask::sync::lock;
use asynctask::task::Task;
use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyIterator, PyString, PyTuple};

use crate::callback;
use crate::context;
use crate::convert;
use crate::coroutine::is_coroutine_function;
use crate::deadline::Deadline;
use crate::errors::exception;
use crate::exit;
use crate::hooks::Hooks;
use crate::kept::Kept;
use crate::plan::Plan;
use crate::runner;
use crate::signals::interrupted;
use crate::task::job::PyJob;
use crate::task::{Call, Place, TaskBase, new_task};

use super::Contents;
use super::arguments::{checked_args, checked_context, checked_kwargs, checked_name};

/// The keywords of `post_task` that are not options.
pub(crate) struct PostKeywords<'a, 'py> {
    pub(crate) args: Option<&'a Bound<'py, PyAny>>,
    pub(crate) kwargs: Option<&'a Bound<'py, PyAny>>,
    pub(crate) name: Option<&'a Bound<'py, PyAny>>,
    pub(crate) context: Option<&'a Bound<'py, PyAny>>,
    pub(crate) executor: Option<&'a Bound<'py, PyAny>>,
    pub(crate) event_loop: Option<&'a Bound<'py, PyAny>>,
}

impl Contents {
    /// `post_task`, with everything.
    pub(crate) fn post<'py>(
        &self,
        callback: &Bound<'py, PyAny>,
        options: &Bound<'py, PyTuple>,
        keywords: &PostKeywords<'_, 'py>,
    ) -> PyResult<Bound<'py, TaskBase>> {
        let py = callback.py();
        convert::callable("callback", callback)?;
        let plan = if options.is_empty() {
            Plan::default()
        } else {
            Plan::of(options)?
        };
        let args = match keywords.args {
            None => PyTuple::empty(py),
            Some(args) => checked_args(args)?,
        };
        let kwargs = keywords.kwargs.map(checked_kwargs).transpose()?;
        let name = keywords.name.map(checked_name).transpose()?;
        let place = self.place(callback, keywords.executor, keywords.event_loop)?;
        let context = match keywords.context {
            Some(context) => Some(checked_context(context, place.as_ref())?),
            None => self.capture_context(py, place.as_ref())?,
        };
        let call = Call {
            callback: callback.clone().into(),
            args: args.into(),
            kwargs: kwargs.map(Kept::from),
            context,
        };
        let is_given = keywords.context.is_some();
        self.start(py, &plan, Some(call), name, place, is_given)
    }

    /// Who runs `callback`, if not a worker.
    fn place(
        &self,
        callback: &Bound<'_, PyAny>,
        executor: Option<&Bound<'_, PyAny>>,
        event_loop: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Option<Place>> {
        let py = callback.py();
        let is_coroutine_function = is_coroutine_function(callback)?;
        if let Some(executor) = executor {
            if is_coroutine_function || event_loop.is_some() {
                return Err(PyTypeError::new_err(format!(
                    "executor must not be given with a loop or a coroutine function, but callback \
                     is {}",
                    convert::repr(callback)
                )));
            }
            return Ok(Some(Place {
                starter: Hooks::place_on_executor(executor)?.into(),
                event_loop: None,
            }));
        }
        if is_coroutine_function {
            let starter = Hooks::place_on_loop(py, event_loop)?;
            let number = starter.getattr(intern!(py, "number"))?;
            return Ok(Some(Place {
                event_loop: Some(number.extract()?),
                starter: starter.into(),
            }));
        }
        if event_loop.is_some() {
            return Err(PyTypeError::new_err(format!(
                "loop is for coroutine functions, and callback is {}",
                convert::repr(callback)
            )));
        }
        let Some(default) = &self.place else {
            return Ok(None);
        };
        let starter = lock(default).as_ref().map(|place| place.clone_ref(py));
        let starter = starter.ok_or_else(|| exception(Error::Shutdown))?;
        Ok(Some(Place {
            starter: Kept::new(py, starter),
            event_loop: None,
        }))
    }

    /// Posts what the checked arguments say. `is_given`: the context of `call` is the caller's own.
    pub(super) fn start<'py>(
        &self,
        py: Python<'py>,
        plan: &Plan,
        call: Option<Call>,
        name: Option<Py<PyString>>,
        place: Option<Place>,
        is_given: bool,
    ) -> PyResult<Bound<'py, TaskBase>> {
        let engine = self.usable_engine(py)?;
        if plan.interval.is_none()
            && plan.delay.is_none_or(|delay| delay.is_zero())
            && call.is_some()
        {
            let task = new_task(py, engine, Task::one_shot(), call, name, place, false)?;
            post_now(&task)?;
            return Ok(task);
        }
        let copies_context = plan.interval.is_some() && !is_given;
        let now = match plan.interval {
            Some(_) => engine.moment(),
            None => Moment::at(engine.now()),
        };
        let task = match (&plan.interval, &call) {
            (None, None) => Task::bare(),
            (None, Some(_)) => Task::one_shot(),
            (Some(interval), call) => {
                let series = Series::new(&interval.every(plan.delay), now).map_err(exception)?;
                if call.is_some() {
                    Task::series(series)
                } else {
                    Task::bare_series(series)
                }
            }
        };
        let deadline = now
            .now
            .saturating_add(nanos(plan.delay.unwrap_or_default()));
        let task = new_task(py, engine, task, call, name, place, copies_context)?;
        post_at(&task, deadline)?;
        Ok(task)
    }

    /// A task without a callback, for who waits for it.
    pub(super) fn post_bare<'py>(
        &self,
        py: Python<'py>,
        plan: &Plan,
    ) -> PyResult<Bound<'py, TaskBase>> {
        self.start(py, plan, None, None, None, false)
    }

    /// A task that is run when it is due even if every worker is busy.
    pub(super) fn post_alarm<'py>(
        &self,
        callback: &Bound<'py, PyAny>,
        deadline: &Deadline,
    ) -> PyResult<Bound<'py, TaskBase>> {
        let py = callback.py();
        convert::callable("callback", callback)?;
        let call = Call::without_arguments(callback, None);
        let engine = self.usable_engine(py)?;
        let task = new_task(py, engine, Task::urgent(), Some(call), None, None, false)?;
        post_at(&task, deadline.at)?;
        Ok(task)
    }

    /// `submit` for each tuple of arguments, in batches.
    pub(super) fn submit_each<'py>(
        &self,
        callback: &Bound<'py, PyAny>,
        arguments: &Bound<'py, PyAny>,
    ) -> PyResult<Vec<Bound<'py, TaskBase>>> {
        /// So many are made before they are queued: the first of a great many is not to wait for the
        /// last, and each batch takes the queue's lock, and wakes a worker, once.
        const BATCH: usize = 64;

        let py = callback.py();
        let mut tasks = Vec::new();
        let mut arguments = arguments.try_iter()?;
        loop {
            let mut jobs = Vec::with_capacity(BATCH);
            // What cannot go on is what comes after the batch: its own tasks are posted first.
            let mut ended = Ok(false);
            while jobs.len() < BATCH {
                match self.next_of_each(callback, &mut arguments) {
                    Ok(Some(task)) => {
                        jobs.push(PyJob(task.clone().into()));
                        tasks.push(task);
                    }
                    Ok(None) => ended = Ok(true),
                    Err(error) => ended = Err(error),
                }
                if !matches!(ended, Ok(false)) {
                    break;
                }
            }
            if !jobs.is_empty() {
                let engine = self.engine(py);
                with_room(py, |room| engine.post_many(jobs, py, room))?;
            }
            if ended? {
                return Ok(tasks);
            }
        }
    }

    /// A task, not yet posted, that calls `callback` with the next of `arguments`.
    fn next_of_each<'py>(
        &self,
        callback: &Bound<'py, PyAny>,
        arguments: &mut Bound<'py, PyIterator>,
    ) -> PyResult<Option<Bound<'py, TaskBase>>> {
        let Some(args) = arguments.next().transpose()? else {
            return Ok(None);
        };
        self.unposted(callback, args.cast::<PyTuple>()?, None)
            .map(Some)
    }

    /// A task, not yet posted, for a worker to run now.
    pub(super) fn unposted<'py>(
        &self,
        callback: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, TaskBase>> {
        let py = callback.py();
        let (call, place) = self.call(callback, args, kwargs)?;
        let engine = self.usable_engine(py)?;
        new_task(py, engine, Task::one_shot(), Some(call), None, place, false)
    }

    /// What is to be called, and who calls it, if not a worker.
    pub(super) fn call<'py>(
        &self,
        callback: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<(Call, Option<Place>)> {
        // `fn`, because that is what `Executor` calls it.
        convert::callable("fn", callback)?;
        let place = self.place(callback, None, None)?;
        let call = Call {
            callback: callback.clone().into(),
            args: args.clone().into(),
            kwargs: kwargs.map(|kwargs| kwargs.clone().into()),
            context: self.capture_context(callback.py(), place.as_ref())?,
        };
        Ok((call, place))
    }

    /// The engine of this process, for a task. The task's is the one reference to it that a post costs.
    fn usable_engine(&self, py: Python<'_>) -> PyResult<Arc<Engine<PyJob>>> {
        let instance = self.instance(py);
        if instance.runner.is_broken() {
            return Err(runner::broken());
        }
        Ok(Arc::clone(&instance.engine))
    }

    /// What the runs of a task see of its poster's context; `None`: nothing.
    fn capture_context(&self, py: Python<'_>, place: Option<&Place>) -> PyResult<Option<Kept>> {
        let inherits = match place {
            None => self.propagate_context,
            // As with `asyncio.create_task`; and an executor's threads have contexts of their own.
            Some(place) => place.event_loop.is_some(),
        };
        if !inherits {
            return Ok(None);
        }
        let context = context::capture(py)?;
        if let Some(context) = &context {
            Hooks::forget_async_library(context.bind(py), place.is_some())?;
        }
        Ok(context)
    }

    pub(super) fn post_plan<'py>(
        &self,
        callback: &Bound<'py, PyAny>,
        plan: &Plan,
    ) -> PyResult<Bound<'py, TaskBase>> {
        let py = callback.py();
        convert::callable("callback", callback)?;
        let place = self.place(callback, None, None)?;
        let call = Call::without_arguments(callback, self.capture_context(py, place.as_ref())?);
        self.start(py, plan, Some(call), None, place, false)
    }
}

fn post_now(task: &Bound<'_, TaskBase>) -> PyResult<()> {
    let py = task.py();
    let job = PyJob(task.clone().into());
    with_room(py, |room| task.get().engine.post(job, py, room))
}

fn post_at(task: &Bound<'_, TaskBase>, deadline: Nanos) -> PyResult<()> {
    let job = PyJob(task.clone().into());
    let engine = &task.get().engine;
    engine
        .post_at(job, deadline, task.py())
        .map_err(exit::explain)
}

/// Calls `post` with what waits for room.
fn with_room(
    py: Python<'_>,
    post: impl FnOnce(&mut WaitForRoom<'_, PyJob>) -> Result<(), Error>,
) -> PyResult<()> {
    let mut raised = None;
    let mut wait_for_room = |pool: &Pool<PyJob>, place: &mut _| match Hooks::gevent(py) {
        Ok(None) => py.detach(|| pool.wait_for_room(place, &mut interrupted(&mut raised))),
        // A greenlet: the post tries again after each pause.
        Ok(Some(gevent)) => callback::call_method(&gevent, intern!(py, "pause"), ())
            .map(drop)
            .map_err(|error| {
                raised = Some(error);
                Error::Interrupted
            }),
        Err(error) => {
            raised = Some(error);
            Err(Error::Interrupted)
        }
    };
    match post(&mut wait_for_room) {
        Ok(()) => Ok(()),
        Err(error) => Err(raised.unwrap_or_else(|| exit::explain(error))),
    }
}
