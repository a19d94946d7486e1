//! Durations, in and out: seconds as `float`, or `timedelta`, to integer nanoseconds.
//!
//! Owned by nobody. Every refusal names the argument and the value.

use std::time::{Duration, Instant};

use pyo3::exceptions::{PyOverflowError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDelta, PyDeltaAccess, PyFloat, PyInt};

/// Longer than any program waits, and far from the end of 64-bit nanoseconds.
const CENTURY: Duration = Duration::from_secs(100 * 31_557_600);

/// What a duration may be.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Least {
    /// Zero or more.
    Zero,
    /// More than zero.
    Positive,
}

/// A duration. Fractions of a nanosecond are rounded up, so that nothing is ever early.
pub(super) fn duration(
    argument: &str,
    value: &Bound<'_, PyAny>,
    least: Least,
) -> PyResult<Duration> {
    let duration = match signed(argument, value)? {
        Signed::Negative => return Err(out_of_range(argument, value, least)),
        Signed::Duration(duration) => duration,
    };
    if least == Least::Positive && duration.is_zero() {
        return Err(out_of_range(argument, value, least));
    }
    Ok(duration)
}

/// When a wait for `timeout` ends; `None` waits for ever. A negative timeout has passed already, as
/// in the standard library, where it is what is left of a deadline.
pub(super) fn deadline(timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Instant>> {
    let Some(timeout) = timeout else {
        return Ok(None);
    };
    let timeout = match signed("timeout", timeout)? {
        Signed::Negative => Duration::ZERO,
        Signed::Duration(duration) => duration,
    };
    Ok(Instant::now().checked_add(timeout))
}

/// A duration in seconds, for the package's Python files.
#[pyfunction]
pub(super) fn _seconds(argument: &str, duration: &Bound<'_, PyAny>) -> PyResult<f64> {
    Ok(match signed(argument, duration)? {
        Signed::Negative => 0.0,
        Signed::Duration(duration) => duration.as_secs_f64(),
    })
}

enum Signed {
    Negative,
    Duration(Duration),
}

fn signed(argument: &str, value: &Bound<'_, PyAny>) -> PyResult<Signed> {
    // An exact float first: it is what nearly everybody passes.
    let seconds = if let Ok(seconds) = value.cast_exact::<PyFloat>() {
        seconds.value()
    } else if let Ok(delta) = value.cast::<PyDelta>() {
        return delta_duration(argument, delta);
    } else if value.is_instance_of::<PyBool>() {
        return Err(wrong_type(argument, value));
    } else if let Ok(int) = value.cast::<PyInt>() {
        int.extract::<f64>()
            .map_err(|_| too_long(argument, value))?
    } else {
        value.extract::<f64>().map_err(|error| {
            let py = value.py();
            // Only a number that does not fit is about the value; all else is about the type.
            if error.is_instance_of::<PyOverflowError>(py) {
                too_long(argument, value)
            } else {
                wrong_type(argument, value)
            }
        })?
    };
    if seconds.is_nan() {
        return Err(PyValueError::new_err(format!(
            "{argument} must be a number, not {}",
            repr(value)
        )));
    }
    if seconds < 0.0 {
        return Ok(Signed::Negative);
    }
    if seconds > CENTURY.as_secs_f64() {
        return Err(too_long(argument, value));
    }
    Ok(Signed::Duration(round_up(seconds)))
}

/// Whole nanoseconds, rounded up.
///
/// The seconds and the rest apart: a product of the whole would be exact to 53 bits only, which is
/// 104 days of nanoseconds.
fn round_up(seconds: f64) -> Duration {
    let whole = seconds.trunc();
    // A float like 0.005 is a little more than five thousandths; what the user wrote is the decimal
    // number, so what is within a float's own error of a whole nanosecond is that nanosecond.
    let nanos = (seconds - whole) * 1e9;
    let error = seconds.max(1.0) * f64::EPSILON * 1e9;
    let nearest = nanos.round();
    let nanos = if (nanos - nearest).abs() <= error {
        nearest
    } else {
        nanos.ceil()
    };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "both are whole, not negative, and below 2^53"
    )]
    let (whole, nanos) = (whole as u64, nanos as u64);
    Duration::from_secs(whole) + Duration::from_nanos(nanos)
}

fn delta_duration(argument: &str, delta: &Bound<'_, PyDelta>) -> PyResult<Signed> {
    let days = delta.get_days();
    let Ok(days) = u64::try_from(days) else {
        return Ok(Signed::Negative);
    };
    // The other two are never negative.
    let seconds = u64::from(delta.get_seconds().unsigned_abs());
    let micros = u64::from(delta.get_microseconds().unsigned_abs());
    let duration = Duration::from_secs(days * 86_400 + seconds) + Duration::from_micros(micros);
    if duration > CENTURY {
        return Err(too_long(argument, delta.as_any()));
    }
    Ok(Signed::Duration(duration))
}

fn out_of_range(argument: &str, value: &Bound<'_, PyAny>, least: Least) -> PyErr {
    let bound = match least {
        Least::Zero => "must not be negative",
        Least::Positive => "must be longer than 0",
    };
    PyValueError::new_err(format!("{argument} {bound}, not {}", repr(value)))
}

fn too_long(argument: &str, value: &Bound<'_, PyAny>) -> PyErr {
    PyValueError::new_err(format!(
        "{argument} must be at most 100 years, not {}",
        repr(value)
    ))
}

fn wrong_type(argument: &str, value: &Bound<'_, PyAny>) -> PyErr {
    PyTypeError::new_err(format!(
        "{argument} must be a number of seconds or a timedelta, not {}",
        repr(value)
    ))
}

/// A whole number of at least `least`.
pub(super) fn count(argument: &str, value: &Bound<'_, PyAny>, least: u64) -> PyResult<u64> {
    let number = whole(argument, value)?;
    if number < i128::from(least) {
        return Err(PyValueError::new_err(format!(
            "{argument} must be at least {least}, not {number}"
        )));
    }
    u64::try_from(number).map_err(|_| too_large(argument, value))
}

/// A whole number.
pub(super) fn whole(argument: &str, value: &Bound<'_, PyAny>) -> PyResult<i128> {
    let wrong = || {
        PyTypeError::new_err(format!(
            "{argument} must be a whole number, not {}",
            repr(value)
        ))
    };
    if value.is_instance_of::<PyBool>() || value.is_instance_of::<PyFloat>() {
        return Err(wrong());
    }
    value.extract::<i128>().map_err(|error| {
        if error.is_instance_of::<PyOverflowError>(value.py()) {
            too_large(argument, value)
        } else {
            wrong()
        }
    })
}

fn too_large(argument: &str, value: &Bound<'_, PyAny>) -> PyErr {
    PyValueError::new_err(format!("{argument} is too large: {}", repr(value)))
}

/// [`count`] for sizes, of which there is a most.
pub(super) fn size(argument: &str, value: &Bound<'_, PyAny>, least: u64) -> PyResult<usize> {
    usize::try_from(count(argument, value, least)?).map_err(|_| too_large(argument, value))
}

/// One of a few words.
pub(super) fn word<T: Copy>(
    argument: &str,
    value: &Bound<'_, PyAny>,
    words: &[(&str, T)],
) -> PyResult<T> {
    let found = value
        .extract::<std::borrow::Cow<'_, str>>()
        .ok()
        .and_then(|value| words.iter().find(|(word, _)| *word == value));
    found.map(|&(_, meaning)| meaning).ok_or_else(|| {
        let known: Vec<_> = words.iter().map(|(word, _)| format!("'{word}'")).collect();
        PyValueError::new_err(format!(
            "{argument} must be one of {}, not {}",
            known.join(", "),
            repr(value)
        ))
    })
}

/// Something that can be called.
pub(super) fn callable(argument: &str, value: &Bound<'_, PyAny>) -> PyResult<()> {
    if value.is_callable() {
        return Ok(());
    }
    Err(PyTypeError::new_err(format!(
        "{argument} must be callable, not {}",
        repr(value)
    )))
}

/// The value as a user would write it, or its type when it cannot say.
pub(super) fn repr(value: &Bound<'_, PyAny>) -> String {
    value.repr().map_or_else(
        |_| format!("a {}", value.get_type()),
        |repr| repr.to_string_lossy().into_owned(),
    )
}
