//! What happens to pools when the interpreter goes away.
//!
//! Owned by the process. Two steps, each registered by the package at import:
//!
//! 1. `threading._register_atexit`, before non-daemon threads are joined: timers and series are
//!    cancelled, queued tasks run, workers end, and with them what was handed to executors and to loops
//!    that run in other threads; failures that nobody has looked at are logged. From here on posts are
//!    refused. Ctrl-C ends the wait. A pool whose `wait_and_exit` timed out has had its wait, and gets no
//!    other.
//! 2. `atexit`, after that: what is still queued is cancelled, whoever has not ended by now is in a
//!    callback that [`crate::callback`] takes care of. What has failed unseen is logged for the last
//!    time, before `logging` shuts down.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use asynctask::engine::Engine;
use asynctask::error::Error;
use asynctask::sync::{Mutex, lock, try_lock};
use pyo3::intern;
use pyo3::prelude::*;

use crate::callback;
use crate::errors::{PoolShutdown, exception};
use crate::hooks::Hooks;
use crate::signals::interrupted;
use crate::task::TaskBase;
use crate::task::job::PyJob;
use crate::unseen;

/// Every engine that has not been dropped. A leaf lock.
static ENGINES: Mutex<Vec<Weak<Engine<PyJob>>>> = Mutex::new(Vec::new());

/// Step 1 has begun.
static EXITING: AtomicBool = AtomicBool::new(false);

/// Puts an engine on the list. One that is made during exit is closed from the start.
pub(crate) fn register(py: Python<'_>, engine: &Arc<Engine<PyJob>>) {
    {
        let mut engines = lock(&ENGINES);
        engines.retain(|engine| engine.strong_count() > 0); // drops no engine, only the count
        engines.push(Arc::downgrade(engine));
    }
    if EXITING.load(Ordering::SeqCst) {
        engine.close(true, py);
    }
}

/// The core's error as Python's, with the reason if it is the end of the program.
pub(crate) fn explain(error: Error) -> PyErr {
    if error == Error::Shutdown && EXITING.load(Ordering::Relaxed) {
        PoolShutdown::new_err("cannot schedule new futures after interpreter shutdown")
    } else {
        exception(error)
    }
}

/// How often a wait looks whether the loops still run that have coroutines to finish.
const LOOK: Duration = Duration::from_millis(100);

/// Whoever blocks a running loop for so long is told.
const PATIENCE: Duration = Duration::from_secs(5);

/// Waits until an engine's workers have ended, and the runs that it has handed over. `false`: `deadline`
/// passed first, or there are coroutines on loops that cannot get on while this thread waits: its own,
/// and those that do not run. `warns`: say so in the log. On one of the engine's workers it does not
/// wait, and says `true`.
pub(crate) fn join(
    py: Python<'_>,
    engine: &Arc<Engine<PyJob>>,
    deadline: Option<Instant>,
    warns: bool,
) -> PyResult<bool> {
    if let Some(gevent) = Hooks::gevent(py)? {
        let mut raised = None;
        let look = || match has_ended(py, engine) {
            Ok(has_ended) => has_ended.then_some(true),
            Err(error) => {
                raised = Some(error);
                Some(false)
            }
        };
        let ended = Hooks::poll(&gevent, deadline, look)?.is_some();
        return raised.map_or(Ok(ended && engine.runs_elsewhere() == 0), Err);
    }
    let blocks_loop = warns && Hooks::is_on_loop(py)?;
    if blocks_loop {
        let patience = Instant::now() + PATIENCE;
        let first = deadline.map_or(patience, |deadline| deadline.min(patience));
        if !join_workers(py, engine, Some(first))? {
            if deadline != Some(first) {
                Hooks::log_blocked_loop(py);
            }
            if !join_workers(py, engine, deadline)? {
                return Ok(false);
            }
        }
    } else if !join_workers(py, engine, deadline)? {
        return Ok(false);
    }
    loop {
        // From here on there are only fewer of them.
        let (stalled, look) = if engine.has_placed_runs() {
            let look = Instant::now() + LOOK;
            (Hooks::stalled_loops(py, true)?, Some(look))
        } else {
            (Vec::new(), None)
        };
        let until = deadline.into_iter().chain(look).min();
        let joined = wait(py, engine, |interrupted| {
            engine.join_runs(&stalled, until, interrupted)
        })?;
        if joined || until == deadline {
            let left = engine.runs_elsewhere();
            if joined && left > 0 && warns {
                Hooks::log_stalled(py, left);
            }
            return Ok(joined && left == 0);
        }
    }
}

fn join_workers(
    py: Python<'_>,
    engine: &Arc<Engine<PyJob>>,
    deadline: Option<Instant>,
) -> PyResult<bool> {
    wait(py, engine, |interrupted| {
        engine.join_workers(deadline, interrupted)
    })
}

/// Waits as `join` does; `false`: its deadline has passed.
fn wait(
    py: Python<'_>,
    engine: &Arc<Engine<PyJob>>,
    join: impl FnOnce(&mut dyn FnMut() -> bool) -> Result<(), Error> + Send,
) -> PyResult<bool> {
    let mut raised = None;
    let joined = py.detach(|| join(&mut interrupted(&mut raised)));
    engine.drop_deferred(py);
    match (joined, raised) {
        (_, Some(error)) => Err(error),
        (Ok(()), None) => Ok(true),
        (Err(Error::TimedOut), None) => Ok(false),
        (Err(error), None) => Err(exception(error)),
    }
}

/// Whether everything has ended but for coroutines on loops that do not run. Does not wait.
pub(crate) fn has_ended(py: Python<'_>, engine: &Arc<Engine<PyJob>>) -> PyResult<bool> {
    engine.drop_deferred(py);
    let now = Some(Instant::now());
    if engine.join_workers(now, &mut || false).is_err() {
        return Ok(false);
    }
    let stalled = if engine.has_placed_runs() {
        Hooks::stalled_loops(py, false)?
    } else {
        Vec::new()
    };
    Ok(engine.join_runs(&stalled, now, &mut || false).is_ok())
}

/// Cancels what is left of an engine whose owner has waited for it as long as he cared to. The exit of
/// the program does not wait for it again.
pub(crate) fn cut_short(py: Python<'_>, engine: &Arc<Engine<PyJob>>) -> PyResult<()> {
    engine.close(false, py);
    lock(&ENGINES).retain(|other| !std::ptr::eq(other.as_ptr(), Arc::as_ptr(engine)));
    if engine.has_placed_runs() {
        for run in Hooks::tasks_on_loops(py)? {
            if let Ok(task) = run.bind(py).cast::<TaskBase>()
                && Arc::ptr_eq(&task.get().engine, engine)
            {
                callback::call_method(task.as_any(), intern!(py, "cancel"), ())?;
            }
        }
    }
    Ok(())
}

fn engines() -> Vec<Arc<Engine<PyJob>>> {
    let engines: Vec<_> = lock(&ENGINES).iter().filter_map(Weak::upgrade).collect();
    engines
        .into_iter()
        .filter(|engine| !engine.is_inherited())
        .collect()
}

/// Every engine, those of this process's parent included. For a forked child: it takes no lock that may
/// have been held in the parent at the fork.
pub(crate) fn try_all_engines() -> Option<Vec<Arc<Engine<PyJob>>>> {
    try_lock(&ENGINES).map(|engines| engines.iter().filter_map(Weak::upgrade).collect())
}

/// Step 1.
#[pyfunction]
pub(crate) fn _drain_at_exit(py: Python<'_>) -> PyResult<()> {
    EXITING.store(true, Ordering::SeqCst);
    let engines = engines();
    // All first, then wait: what runs in one pool may post to another, and learns at once that it
    // cannot.
    for engine in &engines {
        engine.close(true, py);
    }
    for engine in &engines {
        join(py, engine, None, false)?;
    }
    unseen::finish(py, None)
}

/// Step 2.
#[pyfunction]
pub(crate) fn _stop_at_exit(py: Python<'_>) -> PyResult<()> {
    /// For a log handler that has hung, or is slow.
    const PATIENCE: Duration = Duration::from_secs(5);

    EXITING.store(true, Ordering::SeqCst);
    for engine in engines() {
        engine.close(false, py);
    }
    unseen::finish(py, Instant::now().checked_add(PATIENCE))?;
    unseen::close(py)
}

/// Logs the failures whose handles are alive, in a process that [`_stop_at_exit`] is not called in.
#[pyfunction]
pub(crate) fn _log_alive(py: Python<'_>) -> PyResult<()> {
    unseen::log_alive(py)
}
