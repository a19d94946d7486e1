//! Waiting for a task.
//!
//! Owned by the thread that waits. On a worker it may run the task here and now; on any other thread it
//! blocks, detached. It never waits with the interpreter held.

use std::time::{Duration, Instant};

use asynctask::error::Error;
use asynctask::pool::{Lent, is_any_worker, lend_while_waiting};
use asynctask::sync::lock;
use asynctask::task::{Goal, Phase, View};
use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;

use crate::callback;
use crate::errors::exception;
use crate::hooks::Hooks;
use crate::signals::interrupted;
use crate::thread::is_in_run;
use crate::unseen::{self, Waiting};

use super::job::PyJob;
use super::{Stage, TaskBase};

impl TaskBase {
    /// Waits for `goal`, and lets signals through.
    pub(super) fn wait(
        slf: &Bound<'_, Self>,
        goal: Goal,
        deadline: Option<Instant>,
    ) -> PyResult<View> {
        let py = slf.py();
        let this = slf.get();
        let view = this.view();
        if view.is_over() {
            return Ok(view);
        }
        if is_in_run(slf) && !matches!(goal, Goal::Runs(runs) if runs <= view.runs()) {
            return Err(PyRuntimeError::new_err(
                "a task cannot wait for itself, nor for one that waits for it",
            ));
        }
        let _waiting = Waiting::enter();
        if let Some(gevent) = Hooks::gevent(py)? {
            return Self::wait_on_hub(slf, &gevent, goal, deadline);
        }
        if deadline.is_none() && !is_deep(py)? {
            this.engine.run_inline(&PyJob(slf.clone().into()), py);
            let view = this.view();
            if view.is_over() {
                return Ok(view); // also in a child that was forked by the task just run: it is cancelled
            }
        }
        let mut raised = None;
        let waited = py.detach(|| {
            this.engine
                .wait(&this.task, goal, deadline, &mut interrupted(&mut raised))
        });
        this.engine.drop_deferred(py);
        match raised {
            Some(error) => Err(error),
            None => waited.map_err(exception),
        }
    }

    /// [`wait`](Self::wait) for a greenlet, whose thread must not block.
    pub(super) fn wait_on_hub(
        slf: &Bound<'_, Self>,
        gevent: &Bound<'_, PyAny>,
        goal: Goal,
        deadline: Option<Instant>,
    ) -> PyResult<View> {
        let this = slf.get();
        if goal == Goal::Over {
            let py = slf.py();
            let left = deadline.map(|end| end.saturating_duration_since(Instant::now()));
            let left = left.map(|left| left.as_secs_f64());
            callback::call_method(gevent, intern!(py, "wait_until_done"), (slf, left))?;
            let view = this.view();
            return if view.is_over() {
                Ok(view)
            } else {
                Err(exception(Error::TimedOut))
            };
        }
        let look = || {
            this.task
                .wait(goal, Some(Instant::now()), Duration::ZERO, &mut || false)
                .ok()
        };
        Hooks::poll(gevent, deadline, look)?.ok_or_else(|| exception(Error::TimedOut))
    }

    /// The result of a task that is over.
    pub(super) fn outcome(&self, py: Python<'_>, view: View) -> PyResult<Py<PyAny>> {
        if view.phase() == Phase::Cancelled {
            return Err(exception(Error::Cancelled));
        }
        match &lock(&self.body).stage {
            Stage::Value(value) => Ok(value.clone_ref(py)),
            Stage::Error(error, failure) => {
                unseen::looked_at(failure.as_ref());
                Err(PyErr::from_value(error.bind(py).clone()))
            }
            Stage::Call(_) | Stage::Empty => Ok(py.None()),
        }
    }
}

/// Whether the stack has so many frames of Python that a callback on top of them would miss them: on a
/// worker of its own it has all that `sys.getrecursionlimit` says, and so it should have here, but for a
/// few.
fn is_deep(py: Python<'_>) -> PyResult<bool> {
    /// Enough for the waits that may nest, with three frames each.
    const MANY: u32 = 100;

    if !is_any_worker() {
        return Ok(false); // nothing is run here
    }
    let get_frame = Hooks::get(py)?.get_frame.bind(py);
    // It raises where the stack is less deep.
    Ok(get_frame.call1((MANY,)).is_ok())
}

/// A worker lent to the pool of a callback that is about to wait by way of the standard library, for
/// as long as this object lives.
#[pyclass(frozen, module = "asynctask._asynctask")]
pub(crate) struct Loan {
    _lent: Lent,
}

/// Lends a worker to the pool whose worker this is called on; `None` on other threads.
#[pyfunction]
pub(crate) fn _lend() -> Option<Loan> {
    lend_while_waiting().map(|lent| Loan { _lent: lent })
}
