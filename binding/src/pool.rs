//! `PoolBase`, the native half of `AsyncTaskPool`.
//!
//! The public class is `class AsyncTaskPool(PoolBase, Executor)`. Owned by the user; tasks keep the
//! engine behind it alive, so dropping the pool loses nothing that was accepted.
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
use std::time::{Duration, Instant};

use asynctask::clock::{Clock, Moment, nanos};
use asynctask::engine::{Delayed, Engine, OnFull, Options, WaitForRoom};
use asynctask::error::Error;
use asynctask::pool::{Pool, PoolOptions};
use asynctask::series::Series;
use asynctask::sync::{Mutex, lock};
use asynctask::task::Task;
use asynctask::wheel::{Tier, Tiers};
use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyContext, PyDict, PyIterator, PyMapping, PyString, PyTuple};
use pyo3::{PyTraverseError, PyVisit};

use crate::callback;
use crate::context;
use crate::convert::{self, Flag, Least, Truth};
use crate::coroutine::is_coroutine_function;
use crate::deadline::Deadline;
use crate::errors::exception;
use crate::exit;
use crate::fork;
use crate::hooks::Hooks;
use crate::kept::{Kept, SendKept, try_attach};
use crate::nudge::Nudge;
use crate::options::{Interval, Plan};
use crate::runner::{self, Initializer, PyRunner, Sharing};
use crate::signals::interrupted;
use crate::stack;
use crate::task::job::PyJob;
use crate::task::{Call, Place, TaskBase, new_task};
use crate::testing::ManualClock;

const POLICIES: &[(&str, OnFull)] = &[
    ("block", OnFull::Block),
    ("raise", OnFull::Raise),
    ("drop_newest", OnFull::DropNewest),
    ("drop_oldest", OnFull::DropOldest),
    ("caller_runs", OnFull::CallerRuns),
];

const DELAYED: &[(&str, Delayed)] = &[
    ("cancel", Delayed::Cancel),
    ("run", Delayed::Run),
    ("wait", Delayed::Wait),
];

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
    first: Works,
    /// In a forked child, what stands for `first`.
    reborn: Mutex<Option<Works>>,
    options: Options,
    initializer: Option<Arc<Initializer>>,
    sharing: Sharing,
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

/// An engine and the runner of its workers.
#[derive(Clone)]
struct Works {
    engine: Arc<Engine<PyJob>>,
    runner: Arc<PyRunner>,
}

impl Works {
    fn new(
        py: Python<'_>,
        options: &Options,
        initializer: Option<&Arc<Initializer>>,
        sharing: Sharing,
        nudge: Option<&'static Nudge>,
        is_shut: bool,
    ) -> Self {
        let runner = Arc::new(PyRunner::new(initializer.map(Arc::clone), sharing, nudge));
        let engine = Engine::new(options, Arc::<PyRunner>::clone(&runner));
        runner.belong_to(&engine);
        exit::register(py, &engine);
        if is_shut {
            engine.close(true, py);
        }
        Self { engine, runner }
    }
}

/// The keywords of `post_task` that are not options.
pub(crate) struct Extra<'a, 'py> {
    pub(crate) args: Option<&'a Bound<'py, PyAny>>,
    pub(crate) kwargs: Option<&'a Bound<'py, PyAny>>,
    pub(crate) name: Option<&'a Bound<'py, PyAny>>,
    pub(crate) context: Option<&'a Bound<'py, PyAny>>,
    pub(crate) executor: Option<&'a Bound<'py, PyAny>>,
    pub(crate) event_loop: Option<&'a Bound<'py, PyAny>>,
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
    /// The engine of this process.
    pub(crate) fn engine(&self, py: Python<'_>) -> Arc<Engine<PyJob>> {
        Arc::clone(&self.works(py).engine)
    }

    fn works(&self, py: Python<'_>) -> Cow<'_, Works> {
        if self.first.engine.is_inherited() {
            Cow::Owned(self.reborn(py))
        } else {
            Cow::Borrowed(&self.first)
        }
    }

    fn reborn(&self, py: Python<'_>) -> Works {
        if let Some(works) = &*lock(&self.reborn)
            && !works.engine.is_inherited()
        {
            return works.clone();
        }
        fork::tell_of_series(py);
        // Made outside the lock; of two that are made at once, one is thrown away unused.
        let is_shut = self.is_shut.load(Ordering::Relaxed);
        let initializer = self.initializer.as_ref();
        let new = Works::new(
            py,
            &self.options,
            initializer,
            self.sharing,
            self.nudge,
            is_shut,
        );
        let mut reborn = lock(&self.reborn);
        match &*reborn {
            Some(works) if !works.engine.is_inherited() => works.clone(),
            _ => {
                let old = reborn.replace(new.clone());
                drop(reborn);
                drop(old);
                new
            }
        }
    }

    /// `post_task`, with everything.
    pub(crate) fn post<'py>(
        &self,
        callback: &Bound<'py, PyAny>,
        options: &Bound<'py, PyTuple>,
        extra: &Extra<'_, 'py>,
    ) -> PyResult<Bound<'py, TaskBase>> {
        let py = callback.py();
        convert::callable("callback", callback)?;
        let plan = if options.is_empty() {
            Plan::default()
        } else {
            Plan::of(options)?
        };
        let args = match extra.args {
            None => PyTuple::empty(py),
            Some(args) => checked_args(args)?,
        };
        let kwargs = extra.kwargs.map(checked_kwargs).transpose()?;
        let name = extra.name.map(checked_name).transpose()?;
        let place = self.place(callback, extra.executor, extra.event_loop)?;
        let context = match extra.context {
            Some(context) => Some(checked_context(context, place.as_ref())?),
            None => self.capture_context(py, place.as_ref())?,
        };
        let call = Call {
            callback: callback.clone().into(),
            args: args.into(),
            kwargs: kwargs.map(Kept::from),
            context,
        };
        let is_given = extra.context.is_some();
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
                starter: Hooks::on_executor(executor)?.into(),
                event_loop: None,
            }));
        }
        if is_coroutine_function {
            let starter = Hooks::on_loop(py, event_loop)?;
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
    fn start<'py>(
        &self,
        py: Python<'py>,
        plan: &Plan,
        call: Option<Call>,
        name: Option<Py<PyString>>,
        place: Option<Place>,
        is_given: bool,
    ) -> PyResult<Bound<'py, TaskBase>> {
        let works = self.works(py);
        check_usable(&works.runner)?;
        // The handle's is the one reference to the engine that a post costs.
        let engine = Arc::clone(&works.engine);
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
        let job = PyJob(task.clone().into());
        task.get()
            .engine
            .post_at(job, deadline, py)
            .map_err(exit::explain)?;
        Ok(task)
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
    fn unposted<'py>(
        &self,
        callback: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, TaskBase>> {
        let py = callback.py();
        let (call, place) = self.call(callback, args, kwargs)?;
        let works = self.works(py);
        check_usable(&works.runner)?;
        let engine = Arc::clone(&works.engine);
        new_task(py, engine, Task::one_shot(), Some(call), None, place, false)
    }

    /// What is to be called, and who calls it, if not a worker.
    fn call<'py>(
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

fn check_usable(runner: &PyRunner) -> PyResult<()> {
    if runner.is_broken() {
        Err(runner::broken())
    } else {
        Ok(())
    }
}

fn post_now(task: &Bound<'_, TaskBase>) -> PyResult<()> {
    let py = task.py();
    let job = PyJob(task.clone().into());
    with_room(py, |room| task.get().engine.post(job, py, room))
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

#[pymethods]
impl PoolBase {
    /// An empty pool, whatever it is called with: the arguments are for `__init__`.
    #[new]
    #[pyo3(signature = (*_args, **_kwargs),
           text_signature = "(max_workers=None, thread_name_prefix=None, initializer=None, \
                             initargs=None, *, min_workers=None, idle_timeout=None, \
                             queue_size=None, on_full=None, propagate_context=False, nudge=True, \
                             tiers=None, clock=None, executor=None, stack_size=None)")]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self {
            contents: OnceLock::new(),
        }
    }

    #[pyo3(signature = (max_workers=None, thread_name_prefix=None, initializer=None, initargs=None,
                        *, min_workers=None, idle_timeout=None, queue_size=None, on_full=None,
                        propagate_context=Flag::NOT_GIVEN, nudge=Flag::NOT_GIVEN, tiers=None,
                        clock=None, executor=None, stack_size=None))]
    #[expect(
        clippy::too_many_arguments,
        reason = "they are the constructor's keywords"
    )]
    fn __init__(
        &self,
        py: Python<'_>,
        max_workers: Option<&Bound<'_, PyAny>>,
        thread_name_prefix: Option<&Bound<'_, PyAny>>,
        initializer: Option<Bound<'_, PyAny>>,
        initargs: Option<&Bound<'_, PyAny>>,
        min_workers: Option<&Bound<'_, PyAny>>,
        idle_timeout: Option<&Bound<'_, PyAny>>,
        queue_size: Option<&Bound<'_, PyAny>>,
        on_full: Option<&Bound<'_, PyAny>>,
        propagate_context: Flag<'_>,
        nudge: Flag<'_>,
        tiers: Option<&Bound<'_, PyAny>>,
        clock: Option<&Bound<'_, PyAny>>,
        executor: Option<&Bound<'_, PyAny>>,
        stack_size: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let stack_size = match stack_size {
            Some(stack_size) => convert::size("stack_size", stack_size, stack::LEAST)?,
            // As a `threading.Thread` has it: callbacks may need what threads of Python's have.
            None => stack::of_thread(py),
        };
        let sharing = Sharing::of(py)?;
        let mut pool = PoolOptions {
            turns: sharing.turns(),
            stack_size: Some(stack_size),
            ..PoolOptions::default()
        };
        if let Some(max_workers) = max_workers {
            pool.max_workers = convert::size("max_workers", max_workers, 1)?;
        }
        if let Some(prefix) = thread_name_prefix {
            let prefix = prefix.cast::<PyString>().map_err(|_| {
                PyTypeError::new_err(format!(
                    "thread_name_prefix must be a str, not {}",
                    convert::repr(prefix)
                ))
            })?;
            let prefix = prefix.to_str()?;
            if prefix.contains('\0') {
                return Err(PyValueError::new_err(
                    "thread_name_prefix must not contain NUL",
                ));
            }
            if !prefix.is_empty() {
                prefix.clone_into(&mut pool.thread_name);
            }
        }
        if let Some(min_workers) = min_workers {
            pool.min_workers = convert::size("min_workers", min_workers, 0)?;
            if pool.min_workers > pool.max_workers {
                return Err(PyValueError::new_err(format!(
                    "min_workers must be at most max_workers {}, not {}",
                    pool.max_workers, pool.min_workers
                )));
            }
        }
        if let Some(timeout) = idle_timeout {
            pool.idle_timeout = convert::timeout("idle_timeout", timeout, Least::Zero)?;
        }
        pool.queue_size = queue_size
            .map(|size| convert::size("queue_size", size, 0))
            .transpose()?;
        let on_full = match on_full {
            Some(policy) => convert::word("on_full", policy, POLICIES)?,
            None => OnFull::default(),
        };
        let initializer = match initializer {
            None => None,
            Some(callback) => {
                if !callback.is_callable() {
                    return Err(PyTypeError::new_err(format!(
                        "initializer must be a callable, not {}", // the library's words
                        convert::repr(&callback)
                    )));
                }
                let args = match initargs {
                    None => PyTuple::empty(py),
                    Some(args) => tuple_of("initargs", args)?,
                };
                Some(Arc::new(Initializer::new(callback, args)))
            }
        };
        let options = Options {
            pool,
            on_full,
            tiers: tiers.map_or_else(|| Ok(Tiers::default()), checked_tiers)?,
            clock: clock.map(checked_clock).transpose()?,
        };
        let propagate_context = propagate_context.or("propagate_context", false)?;
        let nudge = nudge.or("nudge", true)?;
        let place = executor
            .map(Hooks::on_executor)
            .transpose()?
            .map(|place| Mutex::new(Some(SendKept::from(place))));
        let nudge = nudge.then(|| sharing.nudge(py)).flatten();
        let contents = Contents {
            first: Works::new(py, &options, initializer.as_ref(), sharing, nudge, false),
            reborn: Mutex::new(None),
            options,
            initializer,
            sharing,
            nudge,
            is_shut: AtomicBool::new(false),
            propagate_context,
            place,
        };
        // A second time it would leave the tasks of the first without a pool.
        self.contents
            .set(contents)
            .map_err(|_| PyRuntimeError::new_err("AsyncTaskPool.__init__() called twice"))
    }

    /// Post ``fn(*args, **kwargs)`` for a worker to run now.
    ///
    /// Raises:
    ///     TypeError: *fn* cannot be called.
    ///     QueueFull: The queue is full and ``on_full`` is ``"raise"``.
    ///     PoolShutdown: The pool has been shut down.
    ///     BrokenPool: A worker's initializer has failed.
    ///
    /// >>> from asynctask import AsyncTaskPool
    /// >>> with AsyncTaskPool(1) as pool:
    /// ...     pool.submit(divmod, 7, 2).result()
    /// (3, 1)
    #[pyo3(signature = (r#fn, /, *args, **kwargs))]
    fn submit<'py>(
        &self,
        r#fn: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, TaskBase>> {
        let (call, place) = self.contents()?.call(r#fn, args, kwargs)?;
        self.contents()?
            .start(r#fn.py(), &Plan::default(), Some(call), None, place, false)
    }

    /// `submit` for each tuple of arguments, in batches.
    fn _submit_each<'py>(
        &self,
        r#fn: &Bound<'py, PyAny>,
        arguments: &Bound<'py, PyAny>,
    ) -> PyResult<Vec<Bound<'py, TaskBase>>> {
        /// So many are made before they are queued: the first of a great many is not to wait for the
        /// last, and each batch takes the queue's lock, and wakes a worker, once.
        const BATCH: usize = 64;

        let py = r#fn.py();
        let mut tasks = Vec::new();
        let mut arguments = arguments.try_iter()?;
        loop {
            let mut jobs = Vec::with_capacity(BATCH);
            // What cannot go on is what comes after the batch: its own tasks are posted first.
            let mut ended = Ok(false);
            while jobs.len() < BATCH {
                match self.contents()?.next_of_each(r#fn, &mut arguments) {
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
                let engine = self.contents()?.engine(py);
                with_room(py, |room| engine.post_many(jobs, py, room))?;
            }
            if ended? {
                return Ok(tasks);
            }
        }
    }

    /// Like `submit`, but give ``None`` when the queue is full, whatever ``on_full`` says.
    ///
    /// It never waits: the one to call in a finalizer or a signal handler, whose thread may hold a lock
    /// that a worker needs.
    #[pyo3(signature = (r#fn, /, *args, **kwargs))]
    fn try_submit<'py>(
        &self,
        r#fn: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Option<Bound<'py, TaskBase>>> {
        let py = r#fn.py();
        let task = self.contents()?.unposted(r#fn, args, kwargs)?;
        let posted = task
            .get()
            .engine
            .try_post(PyJob(task.clone().into()), py)
            .map_err(exit::explain)?;
        Ok(posted.then_some(task))
    }

    /// Post a task to this pool; see `asynctask.post_task`.
    #[pyo3(signature = (callback, /, *options, args=None, kwargs=None, name=None, context=None,
                        executor=None, r#loop=None))]
    #[expect(clippy::too_many_arguments, reason = "they are the method's keywords")]
    fn post_task<'py>(
        &self,
        callback: &Bound<'py, PyAny>,
        options: &Bound<'py, PyTuple>,
        args: Option<&Bound<'py, PyAny>>,
        kwargs: Option<&Bound<'py, PyAny>>,
        name: Option<&Bound<'py, PyAny>>,
        context: Option<&Bound<'py, PyAny>>,
        executor: Option<&Bound<'py, PyAny>>,
        r#loop: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, TaskBase>> {
        let extra = Extra {
            args,
            kwargs,
            name,
            context,
            executor,
            event_loop: r#loop,
        };
        self.contents()?.post(callback, options, &extra)
    }

    /// Post a task for a worker to run now.
    #[pyo3(signature = (callback, /))]
    fn post_async_task<'py>(&self, callback: &Bound<'py, PyAny>) -> PyResult<Bound<'py, TaskBase>> {
        self.contents()?.post_plan(callback, &Plan::default())
    }

    /// Post a task to run once *delay* has passed.
    #[pyo3(signature = (callback, delay, /))]
    fn post_delay_task<'py>(
        &self,
        callback: &Bound<'py, PyAny>,
        delay: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, TaskBase>> {
        let delay = Some(convert::duration("delay", delay, Least::Passed)?);
        self.contents()?.post_plan(
            callback,
            &Plan {
                delay,
                interval: None,
            },
        )
    }

    /// Post a task to run every *interval*, the first time after one interval.
    #[pyo3(signature = (callback, interval, /))]
    fn post_interval_task<'py>(
        &self,
        callback: &Bound<'py, PyAny>,
        interval: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, TaskBase>> {
        let interval = Some(Interval::plain(interval)?);
        self.contents()?.post_plan(
            callback,
            &Plan {
                delay: None,
                interval,
            },
        )
    }

    /// Make a task that is over once *delay* has passed: no callback, no worker, no GIL.
    fn after<'py>(&self, delay: &Bound<'py, PyAny>) -> PyResult<Bound<'py, TaskBase>> {
        let py = delay.py();
        let delay = Some(convert::duration("delay", delay, Least::Passed)?);
        self.contents()?.start(
            py,
            &Plan {
                delay,
                interval: None,
            },
            None,
            None,
            None,
            false,
        )
    }

    /// The instant *timeout* from now, on the pool's clock.
    fn _deadline(&self, timeout: &Bound<'_, PyAny>) -> PyResult<Deadline> {
        let engine = self.contents()?.engine(timeout.py());
        let timeout = convert::timeout("timeout", timeout, Least::Passed)?;
        Ok(Deadline::after(engine, timeout))
    }

    /// A task that is run when it is due even if every worker is busy, for the deadline of a group.
    fn _post_alarm<'py>(
        &self,
        callback: &Bound<'py, PyAny>,
        deadline: &Deadline,
    ) -> PyResult<Bound<'py, TaskBase>> {
        let py = callback.py();
        convert::callable("callback", callback)?;
        let call = Call {
            callback: callback.clone().into(),
            args: PyTuple::empty(py).into(),
            kwargs: None,
            context: None,
        };
        let works = self.contents()?.works(py);
        check_usable(&works.runner)?;
        let engine = Arc::clone(&works.engine);
        let task = new_task(py, engine, Task::urgent(), Some(call), None, None, false)?;
        let job = PyJob(task.clone().into());
        task.get()
            .engine
            .post_at(job, deadline.at, py)
            .map_err(exit::explain)?;
        Ok(task)
    }

    /// A series without a callback, for `Ticker`.
    #[pyo3(signature = (*options))]
    fn _post_ticks<'py>(
        &self,
        py: Python<'py>,
        options: &Bound<'py, PyTuple>,
    ) -> PyResult<Bound<'py, TaskBase>> {
        self.contents()?
            .start(py, &Plan::of(options)?, None, None, None, false)
    }

    /// Change the most workers at a time. A worker beyond the new limit leaves after its task.
    fn resize(&self, max_workers: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = max_workers.py();
        self.contents()?
            .engine(py)
            .pool()
            .resize(convert::size("max_workers", max_workers, 1)?);
        Ok(())
    }

    /// Take no more tasks; run those in the queue, stop series, and end when all that is done.
    ///
    /// From inside a callback of the same pool it does not wait. On the thread of a running event loop
    /// it blocks that loop, and does not wait for coroutines that run there; use ``async with``, or
    /// `aclose`. It may be called again, with less patience.
    ///
    /// Args:
    ///     wait: Return only when every worker has ended, and every run on a loop or an executor.
    ///     cancel_futures: Cancel the tasks in the queue as well.
    ///     delayed: What becomes of tasks that wait for their deadline. ``"cancel"``: they are
    ///         cancelled. ``"run"``: they run now, in the order of their deadlines. ``"wait"``: they
    ///         run when they are due, and are waited for.
    #[pyo3(signature = (wait=Truth(true), *, cancel_futures=Truth(false), delayed=None),
           text_signature = "($self, wait=True, *, cancel_futures=False, delayed='cancel')")]
    fn shutdown(
        &self,
        py: Python<'_>,
        wait: Truth,
        cancel_futures: Truth,
        delayed: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let delayed = checked_delayed(delayed)?;
        let (engine, _) = self.contents()?.close(py, !cancel_futures.0, delayed);
        if wait.0 {
            exit::join(py, &engine, None, true)?;
        }
        Ok(())
    }

    /// Like `shutdown`, for at most *timeout*; what is left then is cancelled.
    ///
    /// Returns:
    ///     Whether everything ended in time, and nothing was cut short.
    #[pyo3(signature = (timeout=None, *, delayed=None),
           text_signature = "($self, timeout=None, *, delayed='cancel')")]
    fn wait_and_exit(
        &self,
        py: Python<'_>,
        timeout: Option<&Bound<'_, PyAny>>,
        delayed: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<bool> {
        // Checked first: a refused call must not have stopped anything.
        let deadline = convert::deadline(timeout)?;
        let delayed = checked_delayed(delayed)?;
        Ok(self.contents()?.end(py, deadline, delayed)? == Ended::Whole)
    }

    /// What `wait_and_exit` does before it waits: for `aclose`. `False`: that has cut a task short.
    fn _begin_end(&self, py: Python<'_>, delayed: &Bound<'_, PyAny>) -> PyResult<bool> {
        let delayed = checked_delayed(Some(delayed))?;
        Ok(self.contents()?.close(py, true, delayed).1)
    }

    /// Whether everything has ended that can.
    fn _has_ended(&self, py: Python<'_>) -> PyResult<bool> {
        exit::has_ended(py, &self.contents()?.engine(py))
    }

    /// Cancels what is left, and tells whether there was nothing.
    fn _end_now(&self, py: Python<'_>) -> PyResult<bool> {
        let engine = self.contents()?.engine(py);
        let nothing_left = exit::has_ended(py, &engine)? && engine.runs_elsewhere() == 0;
        if !nothing_left {
            exit::cut_short(py, &engine)?;
        }
        Ok(nothing_left)
    }

    /// Whether `task` was posted to this pool, in this process.
    fn _has_posted(&self, task: &Bound<'_, TaskBase>) -> PyResult<bool> {
        let engine = self.contents()?.engine(task.py());
        Ok(Arc::ptr_eq(&engine, &task.get().engine))
    }

    /// Whether it never takes a task again: it is shut down, or an initializer has failed.
    fn _is_over(&self, py: Python<'_>) -> PyResult<bool> {
        let contents = self.contents()?;
        let works = contents.works(py);
        Ok(works.runner.is_broken() || works.engine.pool().is_closed())
    }

    /// The fields of `PoolStats`, in order.
    fn _stats(&self, py: Python<'_>) -> PyResult<Py<PyTuple>> {
        let stats = self.contents()?.engine(py).stats();
        let fields = [
            stats.pool.max_workers as u64,
            stats.pool.running as u64,
            stats.pool.idle as u64,
            stats.pool.waiting as u64,
            stats.pending_timers as u64,
            stats.submitted,
            stats.successful,
            stats.failed,
            stats.cancelled,
            stats.dropped,
            stats.successful + stats.failed,
            stats.skipped_runs,
            stats.missed_runs,
            stats.elsewhere as u64,
        ];
        Ok(PyTuple::new(py, fields)?.unbind())
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let py = slf.py();
        let class = slf.get_type().fully_qualified_name()?;
        let address = slf.as_ptr() as usize;
        let Some(contents) = slf.get().contents.get() else {
            return Ok(format!("<{class} at {address:#x}, __init__() not called>"));
        };
        let works = contents.works(py);
        let stats = works.engine.stats();
        let state = if works.runner.is_broken() {
            "broken"
        } else if works.engine.pool().is_closed() {
            "shut down"
        } else {
            "open"
        };
        let bound = match contents.options.pool.queue_size {
            Some(size) => format!("/{size}"),
            None => String::new(),
        };
        Ok(format!(
            "<{class} {name} at {address:#x}: {state}, {workers} of {max} workers, {running} \
             running, {waiting}{bound} in the queue, {timers} timers>",
            name = convert::repr(PyString::new(py, &contents.options.pool.thread_name).as_any()),
            workers = stats.pool.running + stats.pool.idle,
            max = stats.pool.max_workers,
            running = stats.pool.running,
            waiting = stats.pool.waiting,
            timers = stats.pending_timers,
        ))
    }

    /// Refused, always: threads and what they run stay in their process.
    fn __reduce__(slf: &Bound<'_, Self>) -> PyResult<()> {
        Err(convert::not_pickled(
            slf.as_any(),
            "a pool stays in its process",
        ))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let Some(contents) = self.contents.get() else {
            return Ok(());
        };
        // Neither lock is held while Python runs; see `TaskBase::__traverse__`.
        if let Some(place) = &contents.place
            && let Ok(place) = place.try_lock()
        {
            visit.call(place.as_deref())?;
        }
        match &contents.initializer {
            Some(initializer) if contents.is_finished() => initializer.traverse(&visit),
            _ => Ok(()),
        }
    }

    fn __clear__(&self) {
        let Some(contents) = self.contents.get() else {
            return;
        };
        if let Some(place) = &contents.place {
            let place = lock(place).take();
            drop(place);
        }
        if let Some(initializer) = &contents.initializer
            && contents.is_finished()
        {
            initializer.forget();
        }
    }
}

impl Contents {
    fn post_plan<'py>(
        &self,
        callback: &Bound<'py, PyAny>,
        plan: &Plan,
    ) -> PyResult<Bound<'py, TaskBase>> {
        let py = callback.py();
        convert::callable("callback", callback)?;
        let place = self.place(callback, None, None)?;
        let call = Call {
            callback: callback.clone().into(),
            args: PyTuple::empty(py).into(),
            kwargs: None,
            context: self.capture_context(py, place.as_ref())?,
        };
        self.start(py, plan, Some(call), None, place, false)
    }
}

impl Contents {
    /// The engines of this process, of which there may be none in a forked child. Never waits.
    fn engines(&self) -> impl Iterator<Item = Arc<Engine<PyJob>>> {
        let reborn = self.reborn.try_lock().ok();
        let reborn = reborn.and_then(|works| works.as_ref().map(|works| Arc::clone(&works.engine)));
        [Some(Arc::clone(&self.first.engine)), reborn]
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

/// What the argument `delayed` of everything that ends a pool says.
pub(crate) fn checked_delayed(delayed: Option<&Bound<'_, PyAny>>) -> PyResult<Delayed> {
    delayed.map_or(Ok(Delayed::Cancel), |delayed| {
        convert::word("delayed", delayed, DELAYED)
    })
}

fn checked_args<'py>(args: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyTuple>> {
    tuple_of("args", args)
}

fn tuple_of<'py>(argument: &str, args: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyTuple>> {
    if let Ok(args) = args.cast_exact::<PyTuple>() {
        return Ok(args.clone());
    }
    let wrong = || {
        PyTypeError::new_err(format!(
            "{argument} must be an iterable, not {}",
            convert::repr(args)
        ))
    };
    // A string would be taken apart into its letters, which nobody ever means.
    if args.is_instance_of::<PyString>() {
        return Err(wrong());
    }
    let items = args
        .try_iter()
        .map_err(|_| wrong())?
        .collect::<PyResult<Vec<_>>>()?;
    PyTuple::new(args.py(), items)
}

fn checked_kwargs<'py>(kwargs: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyDict>> {
    let mapping = kwargs.cast::<PyMapping>().map_err(|_| {
        PyTypeError::new_err(format!(
            "kwargs must be a mapping, not {}",
            convert::repr(kwargs)
        ))
    })?;
    // A copy: what the caller does to his dict afterwards is no business of the task's.
    let copy = PyDict::new(kwargs.py());
    copy.update(mapping)?;
    for key in copy.keys() {
        if !key.is_instance_of::<PyString>() {
            return Err(PyTypeError::new_err(format!(
                "kwargs must have str keys, not {}",
                convert::repr(&key)
            )));
        }
    }
    Ok(copy)
}

fn checked_name(name: &Bound<'_, PyAny>) -> PyResult<Py<PyString>> {
    let name = name.cast::<PyString>().map_err(|_| {
        PyTypeError::new_err(format!("name must be a str, not {}", convert::repr(name)))
    })?;
    Ok(name.clone().unbind())
}

fn checked_context(context: &Bound<'_, PyAny>, place: Option<&Place>) -> PyResult<Kept> {
    if !context.is_instance_of::<PyContext>() {
        return Err(PyTypeError::new_err(format!(
            "context must be a contextvars.Context, not {}",
            convert::repr(context)
        )));
    }
    if place.is_some_and(|place| place.event_loop.is_none()) {
        return Err(PyTypeError::new_err(format!(
            "context must not be given with an executor, which it cannot follow to, but it is {}",
            convert::repr(context)
        )));
    }
    Ok(context.clone().into())
}

fn checked_clock(clock: &Bound<'_, PyAny>) -> PyResult<Arc<dyn Clock>> {
    match clock.cast::<ManualClock>() {
        Ok(clock) => Ok(clock.get().clock()),
        Err(_) => Err(PyTypeError::new_err(format!(
            "clock must be an asynctask.testing.ManualClock, not {}",
            convert::repr(clock)
        ))),
    }
}

fn checked_tiers(tiers: &Bound<'_, PyAny>) -> PyResult<Tiers> {
    let wrong = |_| {
        PyTypeError::new_err(format!(
            "tiers must be pairs of a tick and a number of slots, not {}",
            convert::repr(tiers)
        ))
    };
    let mut checked = Vec::new();
    for tier in tiers.try_iter().map_err(wrong)? {
        let (tick, slots): (Bound<'_, PyAny>, Bound<'_, PyAny>) = tier?.extract().map_err(wrong)?;
        let tick: Duration = convert::duration("tiers: a tick", &tick, Least::Positive)?;
        let slots = convert::count("tiers: a number of slots", &slots, 1)?;
        let slots = u32::try_from(slots).map_err(|_| {
            PyValueError::new_err(format!("tiers: a number of slots is too large: {slots}"))
        })?;
        checked.push(Tier {
            tick: nanos(tick),
            slots,
        });
    }
    Tiers::new(&checked).map_err(|error| {
        exception(Error::Invalid {
            argument: "tiers",
            reason: format!("do not fit: {error}"),
        })
    })
}
