//! Failures that nobody has looked at: noted where their handles end, logged elsewhere.
//!
//! Owned by the process. A handle ends wherever its last reference goes, or in the middle of a
//! collection, below whatever locks that thread has; those of a log handler are among them when the
//! collector runs inside one. So nothing of Python's is called there, and nothing waited for: the
//! failure is put on a list, and is logged, once,
//!
//! 1. by the worker on which its handle has ended, when it has no callback on its stack any more;
//! 2. ended on any other thread, or inside a callback, by a thread that is started for it, and is gone
//!    when the list is empty;
//! 3. if the system has no thread to give, by the next worker that has run something, or by the thread
//!    that the next post asks for;
//! 4. at the exit of the program, by the exit: what is on the list, and every failure whose handle is
//!    still alive. Later than that nobody can log any more. A child of `multiprocessing` has no other
//!    exit than the end of its threads, and there it does the same.
//!
//! The lock is a leaf. A forked child begins with an empty list: what was on it is its parent's.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use asynctask::error::Error;
use asynctask::fork::ForkGeneration;
use asynctask::sync::{Mutex, Parker, lock};
use pyo3::exceptions::PyBaseException;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyString};
use pyo3::{PyTraverseError, PyVisit, ffi};

use crate::attach;
use crate::errors::exception;
use crate::hooks::Hooks;
use crate::kept::{Kept, SendKept};
use crate::signals::interrupted;
use crate::stack;
use crate::thread::{is_in_callback, is_worker};

/// How a task is called in logs.
pub(crate) enum Name {
    Given(SendKept<PyString>),
    Number(u64),
}

impl Name {
    pub(crate) fn shown(&self, py: Python<'_>) -> String {
        match self {
            Self::Given(name) => name.bind(py).to_string_lossy().into_owned(),
            Self::Number(number) => format!("task-{number}"),
        }
    }
}

/// A failure that somebody is to see. Its handle has it, and nobody else until it is noted.
///
/// The collector takes cycles apart in any order: by the time it comes to a handle, the exception may be
/// empty. Before that it calls the finalizer of each of their objects, and that is why this is one. A
/// finalizer of the handles themselves would cost every task what only a failure is worth.
#[pyclass(frozen, module = "asynctask._asynctask")]
pub(crate) struct Failure {
    name: Name,
    error: SendKept<PyAny>,
    generation: ForkGeneration,
    /// Somebody has it, or will be told of it.
    is_seen: AtomicBool,
}

impl Failure {
    pub(crate) fn new(name: Name, error: &Bound<'_, PyBaseException>) -> PyResult<Kept<Self>> {
        // Relaxed: looked at when everything else has ended. Not written over and over.
        if !HAS_FAILED.load(Ordering::Relaxed) {
            HAS_FAILED.store(true, Ordering::Relaxed);
        }
        let failure = Self {
            name,
            error: error.clone().into_any().into(),
            generation: ForkGeneration::current(),
            is_seen: AtomicBool::new(false),
        };
        Ok(Bound::new(error.py(), failure)?.into())
    }

    pub(crate) fn is_unseen(&self) -> bool {
        !self.is_seen.load(Ordering::Relaxed) && !self.generation.is_inherited()
    }
}

#[pymethods]
impl Failure {
    // Not `__clear__`: whatever cycle it is in goes through the handle, which has that.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&*self.error)
    }
}

/// Somebody has a failure, if it is one.
pub(crate) fn looked_at(failure: Option<&Kept<Failure>>) {
    if let Some(failure) = failure {
        // Relaxed: it is written and read by who has the handle, or by its end.
        failure.get().is_seen.store(true, Ordering::Relaxed);
    }
}

/// What [`Failure`] needs of CPython that pyo3 has no method for.
pub(crate) fn install(py: Python<'_>) {
    let class = py.get_type::<Failure>();
    // SAFETY: the class is ours alone, and has no instances yet.
    unsafe { (*class.as_type_ptr()).tp_finalize = Some(finalize) }
}

/// Calls nothing of Python's, and drops nothing.
unsafe extern "C" fn finalize(object: *mut ffi::PyObject) {
    // SAFETY: CPython calls this attached, with an object of the class above, which is alive.
    let failure = unsafe {
        let py = Python::assume_attached();
        Bound::from_borrowed_ptr(py, object).cast_into_unchecked::<Failure>()
    };
    note(failure);
}

#[derive(Default)]
struct State {
    failures: Vec<SendKept<Failure>>,
    /// A thread of step 2 will look at the list again.
    has_logger: bool,
    /// Threads of step 2 that have not ended.
    threads: usize,
    /// Who waits for the last of them.
    waiters: Vec<Arc<Parker>>,
    /// Step 4 is over.
    is_closed: bool,
}

/// The state of this process; null before it is needed. Never freed: a forked child leaves its
/// parent's, whose lock may be held for ever, where it is.
static STATE: AtomicPtr<Mutex<State>> = AtomicPtr::new(std::ptr::null_mut());

/// There is something on the list. For workers, which look after each run.
static IS_NOTED: AtomicBool = AtomicBool::new(false);

/// There is, and no thread was to be had. For posts.
static IS_REFUSED: AtomicBool = AtomicBool::new(false);

/// Some task has failed: step 4 looks for handles.
static HAS_FAILED: AtomicBool = AtomicBool::new(false);

fn state() -> &'static Mutex<State> {
    let mut state = STATE.load(Ordering::Acquire);
    if state.is_null() {
        let new = Box::into_raw(Box::default());
        let set = STATE.compare_exchange(state, new, Ordering::AcqRel, Ordering::Acquire);
        state = match set {
            Ok(_) => new,
            Err(first) => first, // and the new one, which is empty, is left
        };
    }
    // SAFETY: what is there was made above, and is never freed.
    unsafe { &*state }
}

/// Puts a failure on the list if it has not been seen, and sees to it that somebody logs it. Runs nothing
/// of Python's.
pub(crate) fn note(failure: Bound<'_, Failure>) {
    let py = failure.py();
    if put(failure) && (!is_worker() || is_in_callback()) {
        start_thread(py);
    }
}

/// Puts a failure on the list if it has not been seen; whether it has.
fn put(failure: Bound<'_, Failure>) -> bool {
    if !failure.get().is_unseen() || failure.get().is_seen.swap(true, Ordering::Relaxed) {
        return false;
    }
    let mut state = lock(state());
    if state.is_closed {
        drop(state);
        return false; // and the handle drops it
    }
    state.failures.push(failure.into());
    // Relaxed: hints; the failures are behind the lock.
    IS_NOTED.store(true, Ordering::Relaxed);
    true
}

/// Step 1.
#[inline]
pub(crate) fn log_noted(py: Python<'_>) {
    if IS_NOTED.load(Ordering::Relaxed) {
        log_all(py);
    }
}

/// Step 3, for posts.
#[inline]
pub(crate) fn ask_again(py: Python<'_>) {
    if IS_REFUSED.load(Ordering::Relaxed) {
        start_thread(py);
    }
}

#[cold]
fn log_all(py: Python<'_>) {
    loop {
        let failures = {
            let mut state = lock(state());
            IS_NOTED.store(false, Ordering::Relaxed);
            IS_REFUSED.store(false, Ordering::Relaxed);
            std::mem::take(&mut state.failures)
        };
        if failures.is_empty() {
            return;
        }
        for failure in failures {
            let failure = failure.get();
            Hooks::log_unseen(py, &failure.name.shown(py), failure.error.bind(py));
        }
    }
}

/// Step 2.
#[cold]
fn start_thread(py: Python<'_>) {
    {
        let mut state = lock(state());
        if state.has_logger || state.is_closed || state.failures.is_empty() {
            return;
        }
        state.has_logger = true;
        state.threads += 1;
    }
    let thread = std::thread::Builder::new()
        .name(THREAD_NAME.to_owned())
        .stack_size(stack::of_thread(py));
    if thread.spawn(run_logger).is_err() {
        IS_REFUSED.store(true, Ordering::Relaxed);
        lock(state()).has_logger = false;
        leave();
    }
}

const THREAD_NAME: &str = "asynctask-log";

/// The life of a thread of step 2.
fn run_logger() {
    let generation = ForkGeneration::current();
    attach::live(
        THREAD_NAME,
        || (),
        |py| {
            loop {
                log_all(py);
                if generation.is_inherited() {
                    Hooks::end_child(py, None); // a log handler has forked, and this is the child
                }
                let mut state = lock(state());
                if state.failures.is_empty() {
                    state.has_logger = false;
                    break;
                }
            }
        },
    );
    leave();
}

fn leave() {
    let waiters = {
        let mut state = lock(state());
        state.threads -= 1;
        if state.threads == 0 {
            std::mem::take(&mut state.waiters)
        } else {
            Vec::new()
        }
    };
    for waiter in waiters {
        waiter.unpark();
    }
}

/// Step 4, for what is on the list; gives up at `deadline`.
pub(crate) fn finish(py: Python<'_>, deadline: Option<Instant>) -> PyResult<()> {
    log_noted(py);
    let parker = Arc::new(Parker::new());
    {
        let mut state = lock(state());
        if state.threads == 0 {
            return Ok(());
        }
        state.waiters.push(Arc::clone(&parker));
    }
    let mut raised = None;
    let waited = py.detach(|| parker.wait(deadline, &mut interrupted(&mut raised)));
    match (waited, raised) {
        (_, Some(error)) => Err(error),
        (Ok(()) | Err(Error::TimedOut), None) => Ok(()),
        (Err(error), None) => Err(exception(error)),
    }
}

/// Step 4, for handles that are alive.
pub(crate) fn log_alive(py: Python<'_>) -> PyResult<()> {
    if !HAS_FAILED.load(Ordering::Relaxed) {
        return Ok(());
    }
    let failures = unseen_failures(py)?;
    let is_any_unseen = || failures.iter().any(|failure| failure.get().is_unseen());
    let since = Instant::now();
    let pause = Parker::new();
    while is_any_unseen() && Hooks::has_other_threads(py)? {
        let is_awaited = WAITING.load(Ordering::SeqCst) > 0;
        if since.elapsed() > if is_awaited { PATIENCE } else { GRACE } {
            break;
        }
        py.detach(|| pause.park(Instant::now().checked_add(GRACE / 20)));
    }
    for failure in failures {
        put(failure);
    }
    log_noted(py);
    Ok(())
}

/// The end of step 4; afterwards nothing is noted any more.
pub(crate) fn close(py: Python<'_>) -> PyResult<()> {
    lock(state()).has_logger = true; // by this thread, a few lines further on
    log_alive(py)?;
    lock(state()).is_closed = true;
    Ok(())
}

/// How long daemon threads have, at the exit, to look at failures that they have waited for: several switch
/// intervals; and while one of them is in a wait that has not given it its result, as long as it may
/// take to get the interpreter on a busy machine.
const GRACE: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(2);

/// How many threads wait for tasks.
static WAITING: AtomicUsize = AtomicUsize::new(0);

/// The calling thread waits for a task, and may be the one to look at its failure.
pub(crate) struct Waiting(ForkGeneration);

impl Waiting {
    pub(crate) fn enter() -> Self {
        WAITING.fetch_add(1, Ordering::SeqCst);
        Self(ForkGeneration::current())
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if !self.0.is_inherited() {
            WAITING.fetch_sub(1, Ordering::SeqCst); // a child has begun to count anew
        }
    }
}

fn unseen_failures(py: Python<'_>) -> PyResult<Vec<Bound<'_, Failure>>> {
    // What is frozen is not among them.
    let hooks = Hooks::get(py)?;
    hooks.unfreeze.bind(py).call0()?;
    let objects = hooks.get_objects.bind(py).call0()?;
    let objects = objects.cast_into::<PyList>()?;
    // Only what is exactly that: others may claim to be anything.
    let failures = objects
        .into_iter()
        .filter_map(|it| it.cast_into_exact::<Failure>().ok());
    Ok(failures
        .filter(|failure| failure.get().is_unseen())
        .collect())
}

/// Called in a forked child.
pub(crate) fn after_fork_in_child() {
    STATE.store(std::ptr::null_mut(), Ordering::Relaxed);
    IS_NOTED.store(false, Ordering::Relaxed);
    IS_REFUSED.store(false, Ordering::Relaxed);
    HAS_FAILED.store(false, Ordering::Relaxed);
    WAITING.store(0, Ordering::Relaxed);
}
