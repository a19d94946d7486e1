//! What the binding asks of Python's side: the package's two public classes, its functions, and what it
//! has of the standard library.
//!
//! Owned by the process. All of it is found once, by name, when the package is imported, so that a name
//! that is missing fails there; it never changes afterwards. Hooks call Python, so never under a lock.

use std::time::Instant;

use asynctask::pool::is_any_worker;
use pyo3::exceptions::{PyImportError, PyRuntimeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyList, PyTuple, PyType};

use crate::callback;
use crate::kept::Kept;

/// Declares the package's functions, each of which is found under its name.
macro_rules! functions {
    ($($name:ident,)*) => {
        /// The package's functions. What each is for, its caller below says.
        struct Functions {
            $($name: Py<PyAny>,)*
        }

        impl Functions {
            fn find(module: &Bound<'_, PyAny>) -> PyResult<Self> {
                Ok(Self { $($name: find(module, stringify!($name))?,)* })
            }
        }
    };
}

functions! {
    cooperative_gevent,
    end_child,
    forget_async_library,
    has_other_threads,
    is_coroutine_function,
    is_on_loop,
    is_plain_class,
    log_blocked_loop,
    log_callback,
    log_inherited,
    log_initializer,
    log_lent,
    log_run,
    log_stalled,
    log_unseen,
    new_waiters,
    place_on_executor,
    place_on_loop,
    register_thread,
    tasks_on_loops,
    safe_point,
    stalled_loops,
    trace_thread,
}

fn find(module: &Bound<'_, PyAny>, name: &str) -> PyResult<Py<PyAny>> {
    module.getattr(name).map(Bound::unbind).map_err(|error| {
        let py = module.py();
        let shown = module.getattr(intern!(py, "__name__"));
        let shown = shown.map_or_else(|_| module.to_string(), |name| name.to_string());
        let missing = PyImportError::new_err(format!(
            "{shown} has no '{name}', which asynctask's native module needs"
        ));
        missing.set_cause(py, Some(error));
        missing
    })
}

pub(crate) struct Hooks {
    /// `AsyncTask`, of which every handle is an instance.
    pub(crate) task_class: Py<PyType>,
    /// `AsyncTaskPool`, of which the default pool is an instance.
    pub(crate) pool_class: Py<PyType>,
    /// `threading.Condition`.
    pub(crate) condition_class: Py<PyAny>,
    /// `functools.partial` and `types.MethodType`.
    pub(crate) partial_class: Py<PyAny>,
    pub(crate) method_class: Py<PyAny>,
    /// `gc.get_objects` and `gc.unfreeze`.
    pub(crate) get_objects: Py<PyAny>,
    pub(crate) unfreeze: Py<PyAny>,
    /// `sys._getframe`.
    pub(crate) get_frame: Py<PyAny>,
    /// `sys.modules`.
    modules: Py<PyDict>,
    functions: Functions,
}

static HOOKS: PyOnceLock<Hooks> = PyOnceLock::new();

impl Hooks {
    /// Finds everything; `functions` is a module with the package's functions.
    pub(crate) fn find(
        task_class: Bound<'_, PyType>,
        pool_class: Bound<'_, PyType>,
        condition_class: Bound<'_, PyAny>,
        functions: &Bound<'_, PyAny>,
    ) -> PyResult<Self> {
        let py = functions.py();
        let of_module = |module: &str, name| find(py.import(module)?.as_any(), name);
        Ok(Self {
            task_class: task_class.unbind(),
            pool_class: pool_class.unbind(),
            condition_class: condition_class.unbind(),
            partial_class: of_module("functools", "partial")?,
            method_class: of_module("types", "MethodType")?,
            get_objects: of_module("gc", "get_objects")?,
            unfreeze: of_module("gc", "unfreeze")?,
            get_frame: of_module("sys", "_getframe")?,
            modules: of_module("sys", "modules")?
                .into_bound(py)
                .cast_into::<PyDict>()?
                .unbind(),
            functions: Functions::find(functions)?,
        })
    }

    /// Has these used by everybody. `false`: there are some already, and they stay.
    pub(crate) fn install(self, py: Python<'_>) -> bool {
        HOOKS.set(py, self).is_ok()
    }

    pub(crate) fn get(py: Python<'_>) -> PyResult<&Self> {
        HOOKS
            .get(py)
            .ok_or_else(|| PyRuntimeError::new_err("asynctask._asynctask was imported on its own"))
    }

    /// Tells Python's `threading` about the calling worker. What it gives takes that back when it is
    /// called; `None`: Python has failed.
    pub(crate) fn register_thread<'py>(py: Python<'py>, name: &str) -> Option<Bound<'py, PyAny>> {
        let unregister = Self::tell(py, |it| &it.register_thread, (name,));
        Self::tell(py, |it| &it.trace_thread, ());
        unregister
    }

    /// Calls what [`register_thread`](Self::register_thread) has given.
    pub(crate) fn unregister_thread(unregister: Option<Bound<'_, PyAny>>) {
        let Some(unregister) = unregister else { return };
        let py = unregister.py();
        // The thread object, which may end here, and with it whatever has been set on it.
        let thread = callback::call(&unregister, &PyTuple::empty(py), None).map(Kept::from);
        if let Err(error) = thread {
            callback::unraisable(py, error, None);
        }
    }

    /// Runs a bytecode.
    pub(crate) fn safe_point(py: Python<'_>) {
        let called = Self::ask(py, |it| &it.safe_point, ());
        if let Err(error) = called {
            // Somebody else's: a trace function's, or an exception that was set for this thread.
            callback::unraisable(py, error, None);
        }
    }

    /// A pool has lent more workers than anybody should need.
    pub(crate) fn log_lent(py: Python<'_>, pool: &str, lent: usize) {
        Self::tell(py, |it| &it.log_lent, (pool, lent));
    }

    /// Something that has callbacks run by `executor`.
    pub(crate) fn place_on_executor<'py>(
        executor: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        Self::ask(executor.py(), |it| &it.place_on_executor, (executor,))
    }

    /// Something that has coroutine functions run on `event_loop`, or on the running loop.
    pub(crate) fn place_on_loop<'py>(
        py: Python<'py>,
        event_loop: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        Self::ask(py, |it| &it.place_on_loop, (event_loop,))
    }

    /// The package's functions for gevent, if this thread must not simply block. A program without
    /// gevent pays one look into a dict, and only where it would have gone to sleep.
    pub(crate) fn gevent(py: Python<'_>) -> PyResult<Option<Bound<'_, PyAny>>> {
        if is_any_worker() {
            return Ok(None); // it has a hub only because gevent's `threading` makes one
        }
        let modules = Self::get(py)?.modules.bind(py);
        if !modules.contains(intern!(py, "gevent.monkey"))? {
            return Ok(None);
        }
        let gevent = Self::ask(py, |it| &it.cooperative_gevent, ())?;
        Ok((!gevent.is_none()).then_some(gevent))
    }

    /// Repeats `attempt`, which must not block, until it gives something or `deadline` passes, and
    /// lets other greenlets run in between.
    pub(crate) fn poll<R>(
        gevent: &Bound<'_, PyAny>,
        deadline: Option<Instant>,
        mut attempt: impl FnMut() -> Option<R>,
    ) -> PyResult<Option<R>> {
        loop {
            if let Some(result) = attempt() {
                return Ok(Some(result));
            }
            let left = deadline.map(|end| end.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Ok(None);
            }
            let left = left.map(|left| left.as_secs_f64());
            callback::call_method(gevent, intern!(gevent.py(), "pause"), (left,))?;
        }
    }

    /// Whether an event loop runs on this thread.
    pub(crate) fn is_on_loop(py: Python<'_>) -> PyResult<bool> {
        Self::ask(py, |it| &it.is_on_loop, ())?.extract()
    }

    /// The numbers of the loops whose coroutines cannot get on: those that do not run and, if this
    /// thread `blocks`, the one that runs here.
    pub(crate) fn stalled_loops(py: Python<'_>, blocks: bool) -> PyResult<Vec<u64>> {
        Self::ask(py, |it| &it.stalled_loops, (blocks,))?.extract()
    }

    /// Every task that is on a loop.
    pub(crate) fn tasks_on_loops(py: Python<'_>) -> PyResult<Vec<Py<PyAny>>> {
        Self::ask(py, |it| &it.tasks_on_loops, ())?.extract()
    }

    /// Takes out of a poster's context which kind of loop the poster runs under: that does not go for
    /// a worker, nor for another loop.
    pub(crate) fn forget_async_library(context: &Bound<'_, PyAny>, is_loop: bool) -> PyResult<()> {
        let py = context.py();
        if !Self::get(py)?
            .modules
            .bind(py)
            .contains(intern!(py, "sniffio"))?
        {
            return Ok(());
        }
        Self::ask(py, |it| &it.forget_async_library, (context, is_loop)).map(drop)
    }

    /// A list for a task's `_waiters`.
    pub(crate) fn new_waiters(py: Python<'_>) -> PyResult<Bound<'_, PyList>> {
        let waiters = Self::ask(py, |it| &it.new_waiters, ())?;
        Ok(waiters.cast_into()?)
    }

    /// Whether calling it gives a coroutine.
    pub(crate) fn is_coroutine_function(callback: &Bound<'_, PyAny>) -> PyResult<bool> {
        let py = callback.py();
        Self::ask(py, |it| &it.is_coroutine_function, (callback,))?.extract()
    }

    /// Whether instances of a class give no coroutine, but for those that have an attribute of their
    /// own that says so.
    pub(crate) fn is_plain_class(class: &Bound<'_, PyType>) -> PyResult<bool> {
        let py = class.py();
        Self::ask(py, |it| &it.is_plain_class, (class,))?.extract()
    }

    /// Whether there are threads besides the calling one.
    pub(crate) fn has_other_threads(py: Python<'_>) -> PyResult<bool> {
        Self::ask(py, |it| &it.has_other_threads, ())?.extract()
    }

    /// Ends this process, a child forked in a callback that `error` is the failure of.
    pub(crate) fn end_child(py: Python<'_>, error: Option<&PyErr>) -> ! {
        let error = error.map(|error| error.value(py));
        Self::tell(py, |it| &it.end_child, (error,));
        // It does not return, unless there is something wrong with Python's own files.
        std::process::abort()
    }

    /// Nobody looked at a failure while its handle lived.
    pub(crate) fn log_unseen(py: Python<'_>, name: &str, error: &Bound<'_, PyAny>) {
        Self::tell(py, |it| &it.log_unseen, (name, error));
    }

    /// A run of a series failed.
    pub(crate) fn log_run(py: Python<'_>, name: &str, error: &Bound<'_, PyAny>) {
        Self::tell(py, |it| &it.log_run, (name, error));
    }

    /// A done-callback failed.
    pub(crate) fn log_callback(py: Python<'_>, task: &Bound<'_, PyAny>, error: &PyErr) {
        Self::tell(py, |it| &it.log_callback, (task, error.value(py)));
    }

    /// So many series of the parent's are cancelled in this process, a fork of it.
    pub(crate) fn log_inherited(py: Python<'_>, count: u64) {
        Self::tell(py, |it| &it.log_inherited, (count,));
    }

    /// A shutdown does not wait for so many coroutines.
    pub(crate) fn log_stalled(py: Python<'_>, count: usize) {
        Self::tell(py, |it| &it.log_stalled, (count,));
    }

    /// A shutdown has kept the loop of its thread waiting.
    pub(crate) fn log_blocked_loop(py: Python<'_>) {
        Self::tell(py, |it| &it.log_blocked_loop, ());
    }

    /// The initializer failed.
    pub(crate) fn log_initializer(py: Python<'_>, error: &PyErr) {
        Self::tell(py, |it| &it.log_initializer, (error.value(py),));
    }

    /// Calls one of the package's functions.
    fn ask<'py>(
        py: Python<'py>,
        function: impl FnOnce(&Functions) -> &Py<PyAny>,
        args: impl IntoPyObject<'py, Target = PyTuple, Output = Bound<'py, PyTuple>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let functions = &Self::get(py)?.functions;
        callback::call_with(function(functions).bind(py), args)
    }

    /// The same; a failure has nobody to go to but `sys.unraisablehook`.
    fn tell<'py>(
        py: Python<'py>,
        function: impl FnOnce(&Functions) -> &Py<PyAny>,
        args: impl IntoPyObject<'py, Target = PyTuple, Output = Bound<'py, PyTuple>>,
    ) -> Option<Bound<'py, PyAny>> {
        Self::ask(py, function, args)
            .map_err(|error| callback::unraisable(py, error, None))
            .ok()
    }
}
