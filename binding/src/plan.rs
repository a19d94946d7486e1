//! [`Plan`]: when a task is to run, as the options of its post say together.
//!
//! Owned by the post, and gone with it.

use std::time::Duration;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::convert;
use crate::options::{DelayTask, Interval, IntervalTask, IntervalWithDelayTask};

/// What the options of one post add up to.
#[derive(Default)]
pub(crate) struct Plan {
    /// Time to the first run.
    pub(crate) delay: Option<Duration>,
    /// The series, if it is one.
    pub(crate) interval: Option<Interval>,
}

impl Plan {
    /// Once, after `delay`.
    pub(crate) fn after(delay: Duration) -> Self {
        Self {
            delay: Some(delay),
            interval: None,
        }
    }

    pub(crate) fn of(options: &Bound<'_, PyTuple>) -> PyResult<Self> {
        let mut plan = Self::default();
        for option in options {
            let mut delay = None;
            let mut interval = None;
            if let Ok(option) = option.cast::<DelayTask>() {
                delay = Some(option.get().value);
            } else if let Ok(option) = option.cast::<IntervalWithDelayTask>() {
                delay = Some(option.get().value);
                interval = Some(option.as_super().get().value.clone());
            } else if let Ok(option) = option.cast::<IntervalTask>() {
                interval = Some(option.get().value.clone());
            } else {
                return Err(PyTypeError::new_err(format!(
                    "options must be DelayTask, IntervalTask or IntervalWithDelayTask, not {}",
                    convert::repr(&option)
                )));
            }
            let twice = |what| {
                PyValueError::new_err(format!(
                    "options give {what} twice: {}",
                    convert::repr(options)
                ))
            };
            if delay.is_some() && plan.delay.is_some() {
                return Err(twice("a delay"));
            }
            if interval.is_some() && plan.interval.is_some() {
                return Err(twice("an interval"));
            }
            plan.delay = plan.delay.or(delay);
            plan.interval = plan.interval.or(interval);
        }
        Ok(plan)
    }
}
