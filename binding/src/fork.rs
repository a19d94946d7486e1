//! What is done at each fork: before it, in the parent, and in the child.
//!
//! Owned by the process; the package registers the first three functions with `os.register_at_fork`. It
//! stops no thread: it has those wait that must not be forked in the middle of something, by [`gate`] and
//! [`nudge`]. In the child it takes no lock that may have been held in the parent.
//!
//! A program that has Python inside, such as uWSGI, may fork without Python's knowing. Then nothing is
//! called before the fork but what the C library calls: [`nudge`]'s part, and the child's, for that a
//! fork has happened must be known in the child whoever has forked.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use asynctask::fork::{self, ForkGeneration};
use asynctask::sync::{Mutex, try_lock};
use pyo3::prelude::*;

use crate::exit;
use crate::gate;
use crate::hooks::Hooks;
use crate::nudge;
use crate::unseen;

/// Step 2 of [`gate`]'s protocol.
#[pyfunction]
pub(crate) fn _before_fork(py: Python<'_>) {
    gate::begin_fork();
    if must_wait() {
        py.detach(|| {
            let end = Instant::now() + gate::PATIENCE;
            while must_wait() && Instant::now() < end {
                gate::pause();
            }
        });
    }
    if !IS_WATCHED.load(Ordering::Relaxed) {
        nudge::before_fork();
    }
}

fn must_wait() -> bool {
    gate::is_any_in_transition() || nudge::is_giving_way()
}

/// Step 3, in the parent.
#[pyfunction]
pub(crate) fn _after_fork_in_parent() {
    gate::end_fork();
    if !IS_WATCHED.load(Ordering::Relaxed) {
        nudge::after_fork_in_parent();
    }
}

/// Step 3, in the child, if the C library has not done it. Gives the number of the parent's series that
/// are cancelled here.
#[pyfunction]
pub(crate) fn _after_fork_in_child() -> u64 {
    if !IS_WATCHED.load(Ordering::Relaxed) {
        in_child();
    }
    lost_series()
}

/// The C library calls us at every fork; see [`watch_forks`].
static IS_WATCHED: AtomicBool = AtomicBool::new(false);

/// Has every fork of this process noticed in its child. Called at import; a second one finds it done.
pub(crate) fn watch_forks() {
    if IS_WATCHED.load(Ordering::Relaxed) {
        return;
    }
    #[cfg(unix)]
    {
        use std::ffi::c_int;

        extern "C" fn before() {
            nudge::before_fork();
        }

        extern "C" fn in_parent() {
            nudge::after_fork_in_parent();
        }

        unsafe extern "C" {
            // POSIX.
            fn pthread_atfork(
                prepare: Option<extern "C" fn()>,
                parent: Option<extern "C" fn()>,
                child: Option<extern "C" fn()>,
            ) -> c_int;
        }
        // SAFETY:
        // 1. The signature is that of POSIX, on every unix.
        // 2. `in_child` does what is allowed between a fork and an exec: it stores a few atomics.
        //    The others run in the parent, and never attach.
        // 3. All of them stay where they are: CPython never unloads an extension module.
        let refused = unsafe { pthread_atfork(Some(before), Some(in_parent), Some(in_child)) } != 0;
        // Without memory for it, forks that Python knows of are still noticed.
        IS_WATCHED.store(!refused, Ordering::Relaxed);
    }
}

extern "C" fn in_child() {
    fork::after_fork_in_child();
    gate::after_fork_in_child();
    nudge::after_fork_in_child();
    unseen::after_fork_in_child();
}

/// The fork whose child has heard of the series that it has lost.
static LOSS_REPORTED_IN: Mutex<Option<ForkGeneration>> = Mutex::new(None);

/// Called at the first use of an inherited pool: says that series were lost, if no hook could.
pub(crate) fn log_lost_series(py: Python<'_>) {
    let lost = lost_series();
    if lost > 0 {
        Hooks::log_inherited(py, lost);
    }
}

/// How many series of its parent's this process has lost; asked a second time, 0.
fn lost_series() -> u64 {
    let Some(mut told) = try_lock(&LOSS_REPORTED_IN) else {
        return 0;
    };
    if told.replace(ForkGeneration::current()) == Some(ForkGeneration::current()) {
        return 0;
    }
    let engines = exit::try_all_engines().unwrap_or_default();
    engines.iter().map(|engine| engine.series_of_parent()).sum()
}
