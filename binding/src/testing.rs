//! `ManualClock`, for tests of programs that use asynctask.
//!
//! Owned by the user; the pools that are made with it share it. It never moves by itself.

use std::sync::Arc;
use std::time::Duration;

use asynctask::clock::{Clock, Manual};
use asynctask::error::Error;
use asynctask::pool::lend_while_waiting;
use pyo3::exceptions::{PyTimeoutError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyDateTime, PyTzInfo};

use crate::convert::{self, Minimum};
use crate::errors::exception;
use crate::signals::interrupted;

/// A clock that stands still until it is told otherwise; see the package for what it promises.
#[pyclass(frozen, module = "asynctask.testing")]
pub(crate) struct ManualClock {
    clock: Arc<Manual>,
}

impl ManualClock {
    pub(crate) fn clock(&self) -> Arc<Manual> {
        Arc::clone(&self.clock)
    }
}

#[pymethods]
impl ManualClock {
    #[new]
    fn new() -> Self {
        Self {
            clock: Arc::new(Manual::new()),
        }
    }

    /// Seconds since the clock was made.
    fn now(&self) -> f64 {
        Duration::from_nanos(self.clock.now()).as_secs_f64()
    }

    #[pyo3(signature = (by, *, patience=None))]
    fn advance(
        &self,
        py: Python<'_>,
        by: &Bound<'_, PyAny>,
        patience: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        /// Long for a run in a test, short for whoever has to look for the one that hangs.
        const PATIENCE: Duration = Duration::from_secs(10);

        let by = convert::duration("by", by, Minimum::Zero)?;
        let patience = match patience {
            Some(patience) => convert::timeout("patience", patience, Minimum::Passed)?,
            None => PATIENCE,
        };
        let mut raised = None;
        // In a callback: what is waited for may need a worker of its pool.
        let lent = lend_while_waiting();
        let moved = py.detach(|| {
            self.clock
                .run_for(by, patience, &mut interrupted(&mut raised))
        });
        drop(lent);
        match (moved, raised) {
            (_, Some(error)) => Err(error),
            (Err(Error::TimedOut), None) => Err(PyTimeoutError::new_err(format!(
                "what was due at {} s was still running after {patience:?}",
                self.now()
            ))),
            (moved, None) => moved.map_err(exception),
        }
    }

    /// The wall clock, in UTC; it starts at the machine's, and goes on with this clock.
    fn wall<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDateTime>> {
        let since_1970 = Duration::from_nanos(self.clock.wall());
        let utc = PyTzInfo::utc(py)?;
        PyDateTime::from_timestamp(py, since_1970.as_secs_f64(), Some(&utc))
    }

    /// Sets the wall clock to the aware datetime `when`, forward or back; delays and intervals, which
    /// do not follow it, are as they were.
    fn set_wall(&self, when: &Bound<'_, PyAny>) -> PyResult<()> {
        let when = when.cast::<PyDateTime>().map_err(|_| {
            PyTypeError::new_err(format!(
                "when must be a datetime, not {}",
                convert::repr(when)
            ))
        })?;
        self.clock.set_wall(convert::wall_time("when", when)?);
        Ok(())
    }

    /// Moves the clock on by `by` in one jump, and does not wait for anything.
    fn jump(&self, by: &Bound<'_, PyAny>) -> PyResult<()> {
        self.clock
            .advance(convert::duration("by", by, Minimum::Zero)?);
        Ok(())
    }

    fn __repr__(&self) -> String {
        format!("<ManualClock at {} s>", self.now())
    }
}
