//! [`Ticks`], with which a `Ticker` gives each tick out once.
//!
//! Owned by the ticker. It never waits for a tick.

use asynctask::ticks;
use pyo3::prelude::*;

use crate::task::TaskBase;

/// Which ticks of a series have been given out; see [`ticks`].
#[pyclass(frozen, module = "asynctask._asynctask")]
pub(crate) struct Ticks {
    ticks: ticks::Ticks,
}

#[pymethods]
impl Ticks {
    #[new]
    fn new(one_by_one: bool) -> Self {
        Self {
            ticks: ticks::Ticks::new(one_by_one),
        }
    }

    /// Take the next tick of *task*, if there is one.
    fn take(&self, task: &Bound<'_, TaskBase>) -> Option<u64> {
        self.ticks.take(task.get().task.view().runs())
    }

    /// The number of the last tick that was given.
    #[getter]
    fn given(&self) -> u64 {
        self.ticks.given()
    }
}
