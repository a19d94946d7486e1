//! The end of a run that goes on elsewhere, on a loop or an executor, and a cancel on its way there.
//!
//! Owned by nobody: whoever takes the mark that such a run goes on ends it. How it starts is in
//! [`super::job`].

use asynctask::engine::{self, Job, Outcome};
use pyo3::intern;
use pyo3::prelude::*;

use crate::callback;
use crate::errors::InvalidStateError;
use crate::kept::Kept;
use crate::thread::is_in_run;

use super::TaskBase;
use super::job::PyJob;

impl TaskBase {
    /// Ends a run that went on elsewhere.
    pub(super) fn complete(slf: &Bound<'_, Self>, outcome: Outcome<Kept, PyErr>) -> PyResult<()> {
        let this = slf.get();
        if this.engine.is_inherited() {
            return Ok(()); // the parent's
        }
        let is_cancelled = matches!(outcome, Outcome::Cancelled);
        let (was_elsewhere, is_withdrawn, remote) = this.with_extras(|extras| {
            let was_elsewhere = std::mem::take(&mut extras.is_elsewhere);
            extras.is_withdrawn |= was_elsewhere && is_cancelled;
            (was_elsewhere, extras.is_withdrawn, extras.remote.take())
        });
        drop(remote);
        let job = PyJob(slf.clone().into());
        match outcome {
            outcome if was_elsewhere => engine::complete(job, slf.py(), outcome),
            // The handle was cancelled before the run could be. That it failed is still news.
            Outcome::Failure(failure) | Outcome::Gone(failure) if is_withdrawn => {
                job.run_failed(slf.py(), failure);
            }
            _ if is_withdrawn => {}
            _ => {
                return Err(InvalidStateError::new_err(
                    "no run of this task is going on elsewhere",
                ));
            }
        }
        Ok(())
    }

    /// Passes a cancel on to the run of a handed-over task. `false`: the run goes on.
    pub(super) fn cancel_elsewhere(slf: &Bound<'_, Self>) -> PyResult<bool> {
        /// Where the run is.
        enum Run {
            /// It can be asked.
            There(Kept),
            /// A loop has it, and begins no run that is not wanted any more.
            OnItsWay,
            /// The other executor's `submit` has not returned: by the mark, the end is ours.
            Withdrawn,
            /// It has ended, or is about to.
            Over { is_cancelled: bool },
        }

        let (py, this) = (slf.py(), slf.get());
        // A series ends with its run; and on this thread, `submit` is running the callback.
        let may_withdraw = !this.task.view().is_series() && !is_in_run(slf);
        let run = this.with_extras(|extras| {
            if !extras.is_elsewhere {
                let is_cancelled = extras.is_withdrawn;
                return Run::Over { is_cancelled };
            }
            if let Some(remote) = &extras.remote {
                return Run::There(remote.share(py));
            }
            let place = extras.place.as_ref();
            if place.is_some_and(|place| place.event_loop.is_some()) {
                return Run::OnItsWay;
            }
            if !may_withdraw {
                let is_cancelled = false;
                return Run::Over { is_cancelled };
            }
            extras.is_elsewhere = false;
            extras.is_withdrawn = true;
            Run::Withdrawn
        });
        match run {
            Run::There(remote) => {
                callback::call_method(remote.bind(py), intern!(py, "cancel"), ())?.is_truthy()
            }
            Run::OnItsWay => Ok(true),
            Run::Withdrawn => {
                engine::complete(PyJob(slf.clone().into()), py, Outcome::Cancelled);
                Ok(true)
            }
            Run::Over { is_cancelled } => Ok(is_cancelled),
        }
    }
}
