//! What pools are told: the arguments of `AsyncTaskPool` and of its posts, checked.
//!
//! Owned by nobody. Nothing is made or started here; every refusal names the argument and the value.

use std::sync::Arc;
use std::time::Duration;

use asynctask::clock::{Clock, nanos};
use asynctask::engine::{Delayed, OnFull, Options};
use asynctask::error::Error;
use asynctask::pool::PoolOptions;
use asynctask::wheel::{Tier, Tiers};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyContext, PyDict, PyMapping, PyString, PyTuple};

use crate::convert::{self, Flag, Minimum};
use crate::errors::exception;
use crate::gil::GilPolicy;
use crate::kept::Kept;
use crate::runner::Initializer;
use crate::stack;
use crate::task::Place;
use crate::testing::ManualClock;

const POLICIES: &[(&str, OnFull)] = &[
    ("block", OnFull::Block),
    ("raise", OnFull::Refuse),
    ("drop_newest", OnFull::DropNewest),
    ("drop_oldest", OnFull::DropOldest),
    ("caller_runs", OnFull::CallerRuns),
];

const DELAYED: &[(&str, Delayed)] = &[
    ("cancel", Delayed::Cancel),
    ("run", Delayed::Run),
    ("wait", Delayed::Wait),
];

/// The arguments of the constructor, as they were given.
pub(crate) struct Given<'a, 'py> {
    pub(crate) max_workers: Option<&'a Bound<'py, PyAny>>,
    pub(crate) thread_name_prefix: Option<&'a Bound<'py, PyAny>>,
    pub(crate) initializer: Option<Bound<'py, PyAny>>,
    pub(crate) initargs: Option<&'a Bound<'py, PyAny>>,
    pub(crate) min_workers: Option<&'a Bound<'py, PyAny>>,
    pub(crate) idle_timeout: Option<&'a Bound<'py, PyAny>>,
    pub(crate) queue_size: Option<&'a Bound<'py, PyAny>>,
    pub(crate) on_full: Option<&'a Bound<'py, PyAny>>,
    pub(crate) propagate_context: Flag<'py>,
    pub(crate) nudge: Flag<'py>,
    pub(crate) tiers: Option<&'a Bound<'py, PyAny>>,
    pub(crate) clock: Option<&'a Bound<'py, PyAny>>,
    pub(crate) executor: Option<&'a Bound<'py, PyAny>>,
    pub(crate) stack_size: Option<&'a Bound<'py, PyAny>>,
}
impl Given<'_, '_> {
    pub(crate) fn options(&self, py: Python<'_>, gil_policy: GilPolicy) -> PyResult<Options> {
        let stack_size = match self.stack_size {
            Some(stack_size) => convert::size("stack_size", stack_size, stack::LEAST)?,
            // As a `threading.Thread` has it: callbacks may need what threads of Python's have.
            None => stack::of_thread(py),
        };
        let mut pool = PoolOptions {
            turns: gil_policy.turns(),
            stack_size: Some(stack_size),
            ..PoolOptions::default()
        };
        if let Some(max_workers) = self.max_workers {
            pool.max_workers = convert::size("max_workers", max_workers, 1)?;
        }
        if let Some(prefix) = self.thread_name_prefix {
            let prefix = prefix.cast::<PyString>().map_err(|_| {
                PyTypeError::new_err(format!(
                    "thread_name_prefix must be a str, not {}",
                    convert::repr(prefix)
                ))
            })?;
            let prefix = prefix.to_str()?;
            if prefix.contains('\0') {
                return Err(PyValueError::new_err(
                    "thread_name_prefix must not contain NUL",
                ));
            }
            if !prefix.is_empty() {
                prefix.clone_into(&mut pool.thread_name);
            }
        }
        if let Some(min_workers) = self.min_workers {
            pool.min_workers = convert::size("min_workers", min_workers, 0)?;
            if pool.min_workers > pool.max_workers {
                return Err(PyValueError::new_err(format!(
                    "min_workers must be at most max_workers {}, not {}",
                    pool.max_workers, pool.min_workers
                )));
            }
        }
        if let Some(timeout) = self.idle_timeout {
            pool.idle_timeout = convert::timeout("idle_timeout", timeout, Minimum::Zero)?;
        }
        pool.queue_size = self
            .queue_size
            .map(|size| convert::size("queue_size", size, 0))
            .transpose()?;
        let on_full = match self.on_full {
            Some(policy) => convert::word("on_full", policy, POLICIES)?,
            None => OnFull::default(),
        };
        Ok(Options {
            pool,
            on_full,
            tiers: self
                .tiers
                .map_or_else(|| Ok(Tiers::default()), checked_tiers)?,
            clock: self.clock.map(checked_clock).transpose()?,
        })
    }

    pub(crate) fn initializer(&self, py: Python<'_>) -> PyResult<Option<Initializer>> {
        let Some(callback) = &self.initializer else {
            return Ok(None);
        };
        if !callback.is_callable() {
            return Err(PyTypeError::new_err(format!(
                "initializer must be a callable, not {}", // the library's words
                convert::repr(callback)
            )));
        }
        let args = match self.initargs {
            None => PyTuple::empty(py),
            Some(args) => tuple_of("initargs", args)?,
        };
        Ok(Some(Initializer::new(callback.clone(), args)))
    }
}

/// What the argument `delayed` of everything that ends a pool says.
pub(crate) fn checked_delayed(delayed: Option<&Bound<'_, PyAny>>) -> PyResult<Delayed> {
    delayed.map_or(Ok(Delayed::Cancel), |delayed| {
        convert::word("delayed", delayed, DELAYED)
    })
}

pub(crate) fn checked_args<'py>(args: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyTuple>> {
    tuple_of("args", args)
}

fn tuple_of<'py>(argument: &str, args: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyTuple>> {
    if let Ok(args) = args.cast_exact::<PyTuple>() {
        return Ok(args.clone());
    }
    let wrong = || {
        PyTypeError::new_err(format!(
            "{argument} must be an iterable, not {}",
            convert::repr(args)
        ))
    };
    // A string would be taken apart into its letters, which nobody ever means.
    if args.is_instance_of::<PyString>() {
        return Err(wrong());
    }
    let items = args
        .try_iter()
        .map_err(|_| wrong())?
        .collect::<PyResult<Vec<_>>>()?;
    PyTuple::new(args.py(), items)
}

pub(crate) fn checked_kwargs<'py>(kwargs: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyDict>> {
    let mapping = kwargs.cast::<PyMapping>().map_err(|_| {
        PyTypeError::new_err(format!(
            "kwargs must be a mapping, not {}",
            convert::repr(kwargs)
        ))
    })?;
    // A copy: what the caller does to his dict afterwards is no business of the task's.
    let copy = PyDict::new(kwargs.py());
    copy.update(mapping)?;
    for key in copy.keys() {
        if !key.is_instance_of::<PyString>() {
            return Err(PyTypeError::new_err(format!(
                "kwargs must have str keys, not {}",
                convert::repr(&key)
            )));
        }
    }
    Ok(copy)
}

pub(crate) fn checked_name(name: &Bound<'_, PyAny>) -> PyResult<Py<PyString>> {
    let name = name.cast::<PyString>().map_err(|_| {
        PyTypeError::new_err(format!("name must be a str, not {}", convert::repr(name)))
    })?;
    Ok(name.clone().unbind())
}

pub(crate) fn checked_context(context: &Bound<'_, PyAny>, place: Option<&Place>) -> PyResult<Kept> {
    if !context.is_instance_of::<PyContext>() {
        return Err(PyTypeError::new_err(format!(
            "context must be a contextvars.Context, not {}",
            convert::repr(context)
        )));
    }
    if place.is_some_and(|place| place.event_loop.is_none()) {
        return Err(PyTypeError::new_err(format!(
            "context must not be given with an executor, which it cannot follow to, but it is {}",
            convert::repr(context)
        )));
    }
    Ok(context.clone().into())
}

fn checked_clock(clock: &Bound<'_, PyAny>) -> PyResult<Arc<dyn Clock>> {
    match clock.cast::<ManualClock>() {
        Ok(clock) => Ok(clock.get().clock()),
        Err(_) => Err(PyTypeError::new_err(format!(
            "clock must be an asynctask.testing.ManualClock, not {}",
            convert::repr(clock)
        ))),
    }
}

fn checked_tiers(tiers: &Bound<'_, PyAny>) -> PyResult<Tiers> {
    let wrong = |_| {
        PyTypeError::new_err(format!(
            "tiers must be pairs of a tick and a number of slots, not {}",
            convert::repr(tiers)
        ))
    };
    let mut checked = Vec::new();
    for tier in tiers.try_iter().map_err(wrong)? {
        let (tick, slots): (Bound<'_, PyAny>, Bound<'_, PyAny>) = tier?.extract().map_err(wrong)?;
        let tick: Duration = convert::duration("tiers: a tick", &tick, Minimum::Positive)?;
        let slots = convert::count("tiers: a number of slots", &slots, 1)?;
        let slots = u32::try_from(slots).map_err(|_| {
            PyValueError::new_err(format!("tiers: a number of slots is too large: {slots}"))
        })?;
        checked.push(Tier {
            tick: nanos(tick),
            slots,
        });
    }
    Tiers::new(&checked).map_err(|error| {
        exception(Error::Invalid {
            argument: "tiers",
            reason: format!("do not fit: {error}"),
        })
    })
}
