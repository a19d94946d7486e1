//! What happens to pools when the interpreter goes away.
//!
//! Owned by the process. Two steps, each registered by the package at import:
//!
//! 1. `threading._register_atexit`, before non-daemon threads are joined: timers and series are
//!    cancelled, queued tasks run, workers end. From here on posts are refused. Ctrl-C ends the
//!    wait. A pool whose `wait_and_exit` timed out has had its wait, and gets no other.
//! 2. `atexit`, after that: what is still queued is cancelled, whoever has not ended by now is in a
//!    callback that [`super::callback`] takes care of.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Instant;

use pyo3::prelude::*;

use super::errors::PoolShutdown;
use super::gate;
use super::hooks::Hooks;
use super::job::PyJob;
use super::nudge;
use super::task::interrupted;
use crate::engine::Engine;
use crate::error::Error;
use crate::fork;
use crate::sync::{Mutex, lock};

/// Every engine that has not been dropped. A leaf lock.
static ENGINES: Mutex<Vec<Weak<Engine<PyJob>>>> = Mutex::new(Vec::new());

/// Step 1 has begun.
static EXITING: AtomicBool = AtomicBool::new(false);

/// Puts an engine on the list. One that is made during exit is closed from the start.
pub(super) fn register(py: Python<'_>, engine: &Arc<Engine<PyJob>>) {
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
pub(super) fn explain(error: Error) -> PyErr {
    if error == Error::Shutdown && EXITING.load(Ordering::Relaxed) {
        PoolShutdown::new_err("cannot schedule new futures after interpreter shutdown")
    } else {
        error.into()
    }
}

/// Waits for an engine's workers to end; `false`: `deadline` passed first. On one of its workers it
/// does not wait, and says `true`.
pub(super) fn join(
    py: Python<'_>,
    engine: &Arc<Engine<PyJob>>,
    deadline: Option<Instant>,
) -> PyResult<bool> {
    if let Some(gevent) = Hooks::gevent(py)? {
        let look = || engine.join(Some(Instant::now()), &mut || false).ok();
        return Ok(Hooks::poll(&gevent, deadline, look)?.is_some());
    }
    let mut raised = None;
    let joined = py.detach(|| engine.join(deadline, &mut interrupted(&mut raised)));
    engine.sweep(py);
    match (joined, raised) {
        (_, Some(error)) => Err(error),
        (Ok(()), None) => Ok(true),
        (Err(Error::TimedOut), None) => Ok(false),
        (Err(error), None) => Err(error.into()),
    }
}

/// Takes an engine off the list: its owner has waited for it as long as he cared to, so the exit of
/// the program does not wait again.
pub(super) fn forget(engine: &Arc<Engine<PyJob>>) {
    lock(&ENGINES).retain(|other| !std::ptr::eq(other.as_ptr(), Arc::as_ptr(engine)));
}

fn engines() -> Vec<Arc<Engine<PyJob>>> {
    let engines: Vec<_> = lock(&ENGINES).iter().filter_map(Weak::upgrade).collect();
    engines
        .into_iter()
        .filter(|engine| !engine.is_inherited())
        .collect()
}

/// Step 1.
#[pyfunction]
pub(super) fn _drain_at_exit(py: Python<'_>) -> PyResult<()> {
    EXITING.store(true, Ordering::SeqCst);
    let engines = engines();
    // All first, then wait: what runs in one pool may post to another, and learns at once that it
    // cannot.
    for engine in &engines {
        engine.close(true, py);
    }
    for engine in &engines {
        join(py, engine, None)?;
    }
    Ok(())
}

/// Step 2.
#[pyfunction]
pub(super) fn _stop_at_exit(py: Python<'_>) {
    EXITING.store(true, Ordering::SeqCst);
    for engine in engines() {
        engine.close(false, py);
    }
}

/// Called in a forked child, by `os.register_at_fork`.
#[pyfunction]
pub(super) fn _after_fork_in_child() {
    fork::after_fork_in_child();
    gate::after_fork_in_child();
    nudge::after_fork_in_child();
}
