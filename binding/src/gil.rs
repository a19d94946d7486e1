//! [`GilPolicy`]: what pools do where there is a GIL, and where there is none.
//!
//! Owned by each pool for itself. Every difference between the two hangs on it, and it never changes.

use std::time::Duration;

use pyo3::prelude::*;

use crate::hooks::Hooks;
use crate::nudge::Nudge;

/// Nine tenths of CPython's switch interval, before which nobody is made to give the interpreter up.
const YOUNG: Duration = Duration::from_micros(4_500);

/// How threads share the interpreter, as [`GilPolicy::now`] finds it.
///
/// On a free build an object counts the references of the thread that made it apart from all others. If
/// another thread drops the last one, the object stays until its own thread next runs a bytecode. What
/// a callback that is written in C has given is a worker's, and such callbacks run none. So a worker
/// runs one now and then, its *safe point*. What is dropped while it sleeps stays until it runs again
/// or leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GilPolicy {
    /// One thread at a time has the interpreter: turns, slices with gaps, and nudges.
    Gil,
    /// The same on a free build: safe points besides.
    GilOfFreeBuild,
    /// Every thread runs when it likes: safe points, and none of the rest. A post wakes one worker if
    /// one is idle.
    Free,
}

impl GilPolicy {
    /// The policy of a pool that is made now: a build without a GIL switches it on when it is asked to, or
    /// imports what needs it.
    pub(crate) fn now(py: Python<'_>) -> PyResult<Self> {
        let sys = py.import("sys")?;
        // There from 3.13 on, and private until somebody needs to tell.
        let has_gil = match sys.getattr_opt("_is_gil_enabled")? {
            Some(is_enabled) => is_enabled.call0()?.is_truthy()?,
            None => true,
        };
        let is_free_build = Python::version_str().contains("free-threading build");
        Ok(match (has_gil, is_free_build) {
            (true, false) => Self::Gil,
            (true, true) => Self::GilOfFreeBuild,
            (false, _) => Self::Free,
        })
    }

    pub(crate) fn has_gil(self) -> bool {
        self != Self::Free
    }

    /// For [`PoolOptions::turns`](asynctask::pool::PoolOptions).
    pub(crate) fn turns(self) -> Option<Duration> {
        self.has_gil().then_some(YOUNG)
    }

    /// Who asks the main thread for the interpreter; `None` if nobody needs to.
    pub(crate) fn nudge(self, py: Python<'_>) -> Option<&'static Nudge> {
        Nudge::of_process(py, self.has_gil())
    }

    /// Runs a bytecode, where the ends of objects wait for that.
    pub(crate) fn safe_point(self, py: Python<'_>) {
        if self != Self::Gil {
            Hooks::safe_point(py);
        }
    }
}
