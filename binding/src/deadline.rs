//! [`Deadline`], an instant on a pool's clock, for the package's Python files.
//!
//! Owned by who keeps it; it never changes. A forked child may ask it: a clock has no thread.

use std::sync::Arc;
use std::time::Duration;

use asynctask::clock::{Nanos, nanos};
use asynctask::engine::Engine;
use pyo3::prelude::*;

use crate::task::job::PyJob;

/// An instant on a pool's clock.
#[pyclass(frozen, module = "asynctask._asynctask")]
pub(crate) struct Deadline {
    engine: Arc<Engine<PyJob>>,
    pub(crate) at: Nanos,
}

impl Deadline {
    pub(crate) fn after(engine: Arc<Engine<PyJob>>, timeout: Duration) -> Self {
        let at = engine.now().saturating_add(nanos(timeout));
        Self { engine, at }
    }
}

#[pymethods]
impl Deadline {
    /// Seconds until then; zero when it has passed, and not before.
    fn left(&self) -> f64 {
        let left = self.at.saturating_sub(self.engine.now());
        Duration::from_nanos(left).as_secs_f64()
    }

    /// Whether it comes only when somebody moves the clock, so that sleeping does not get there.
    #[getter]
    fn is_manual(&self) -> bool {
        self.engine.is_manual()
    }
}
