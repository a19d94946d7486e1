//! Arguments, in and out: durations above all, from seconds as `float` or `timedelta` to integer nanoseconds.
//!
//! Owned by nobody. Every refusal names the argument and the value.

use std::time::{Duration, Instant, SystemTime};

use pyo3::exceptions::{PyException, PyOverflowError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{
    PyBool, PyDateTime, PyDelta, PyDeltaAccess, PyFloat, PyInt, PyString, PyTzInfoAccess,
};
use pyo3::{Borrowed, intern};

/// Longer than any program waits, and far from the end of 64-bit nanoseconds.
const CENTURY: Duration = Duration::from_secs(100 * 31_557_600);

/// `threading.TIMEOUT_MAX`, and the fraction of a second that sums of floats may put on top of it.
const LONGEST_TIMEOUT: Duration = Duration::from_nanos(i64::MAX as u64);

/// What a duration may be.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Minimum {
    /// Anything: what is negative has passed, and counts as zero. For what is computed from a
    /// deadline, and may be computed a moment late.
    Passed,
    /// Zero or more.
    Zero,
    /// More than zero.
    Positive,
}

/// A duration. Fractions of a nanosecond are rounded up, so that nothing is ever early.
pub(crate) fn duration(
    argument: &str,
    value: &Bound<'_, PyAny>,
    minimum: Minimum,
) -> PyResult<Duration> {
    bounded(argument, value, minimum, CENTURY, "100 years")
}

/// The longest that somebody cares to wait; with [`Minimum::Passed`] as in the standard library, where a
/// timeout is what is left of a deadline.
pub(crate) fn timeout(
    argument: &str,
    value: &Bound<'_, PyAny>,
    minimum: Minimum,
) -> PyResult<Duration> {
    bounded(
        argument,
        value,
        minimum,
        LONGEST_TIMEOUT,
        "threading.TIMEOUT_MAX",
    )
}

fn bounded(
    argument: &str,
    value: &Bound<'_, PyAny>,
    minimum: Minimum,
    longest: Duration,
    shown: &str,
) -> PyResult<Duration> {
    let wrong =
        |must_be: &str| PyValueError::new_err(format!("{argument} {must_be}, not {}", repr(value)));
    match signed(argument, value)? {
        Signed::Negative if minimum == Minimum::Passed => Ok(Duration::ZERO),
        Signed::Negative if minimum == Minimum::Zero => Err(wrong("must not be negative")),
        Signed::Negative => Err(wrong("must be longer than 0")),
        Signed::Duration(duration) if duration.is_zero() && minimum == Minimum::Positive => {
            Err(wrong("must be longer than 0"))
        }
        Signed::Duration(duration) if duration <= longest => Ok(duration),
        Signed::Duration(_) | Signed::TooLong => Err(wrong(&format!("must be at most {shown}"))),
    }
}

/// When a wait for `timeout` ends, in real time; `None` waits for ever.
pub(crate) fn deadline(timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Instant>> {
    let timeout = timeout.map(|value| self::timeout("timeout", value, Minimum::Passed));
    // Past the range of `Instant` there is nobody left to be late for.
    Ok(timeout
        .transpose()?
        .and_then(|timeout| Instant::now().checked_add(timeout)))
}

/// The time of the wall clock that an aware datetime names; before 1970 it is 1970.
pub(crate) fn wall_time(argument: &str, instant: &Bound<'_, PyDateTime>) -> PyResult<SystemTime> {
    if instant.get_tzinfo().is_none() {
        return Err(PyValueError::new_err(format!(
            "{argument} must be an aware datetime, and this one has no time zone: {}",
            repr(instant)
        )));
    }
    // A datetime has microseconds, which a float of seconds is exact enough for.
    let seconds: f64 = instant.call_method0("timestamp")?.extract()?;
    let since_1970 = Duration::try_from_secs_f64((seconds * 1e6).round() / 1e6).unwrap_or_default();
    Ok(SystemTime::UNIX_EPOCH + since_1970)
}

/// A timeout in seconds, for the package's Python files.
#[pyfunction]
pub(crate) fn _seconds(argument: &str, duration: &Bound<'_, PyAny>) -> PyResult<f64> {
    Ok(timeout(argument, duration, Minimum::Passed)?.as_secs_f64())
}

enum Signed {
    Negative,
    Duration(Duration),
    /// Longer than anything that is accepted.
    TooLong,
}

fn signed(argument: &str, value: &Bound<'_, PyAny>) -> PyResult<Signed> {
    // An exact float first: it is what nearly everybody passes.
    let seconds = if let Ok(seconds) = value.cast_exact::<PyFloat>() {
        seconds.value()
    } else if let Ok(delta) = value.cast::<PyDelta>() {
        return delta_duration(delta);
    } else if value.is_instance_of::<PyBool>() {
        return Err(wrong_type(argument, value));
    } else if let Ok(int) = value.cast::<PyInt>() {
        match int.extract::<f64>() {
            Ok(seconds) => seconds,
            Err(_) if int.lt(0)? => return Ok(Signed::Negative),
            Err(_) => return Ok(Signed::TooLong),
        }
    } else if !is_number(value)? {
        return Err(wrong_type(argument, value));
    } else {
        match value.extract::<f64>() {
            Ok(seconds) => seconds,
            Err(error) if error.is_instance_of::<PyOverflowError>(value.py()) => {
                return Ok(match value.lt(0) {
                    Ok(true) => Signed::Negative, // a `Fraction`, say
                    _ => Signed::TooLong,
                });
            }
            Err(error) if error.is_instance_of::<PyException>(value.py()) => {
                return Err(wrong_type(argument, value));
            }
            Err(error) => return Err(error), // Ctrl-C, say
        }
    };
    if seconds.is_nan() || seconds == f64::NEG_INFINITY {
        return Err(PyValueError::new_err(format!(
            "{argument} must be a number, not {}",
            repr(value)
        )));
    }
    if seconds < 0.0 {
        return Ok(Signed::Negative);
    }
    if seconds > LONGEST_TIMEOUT.as_secs_f64() {
        return Ok(Signed::TooLong);
    }
    Ok(Signed::Duration(round_up(seconds)))
}

/// Whether something that is no number of Python's, but can be made one, is a number.
///
/// Numpy lets everything be made one: a `timedelta64` gives the count of its unit, whichever that is,
/// a `bool_` 0 or 1, a string what it reads, and a complex number half of it. What tells them apart
/// without an import is the kind of their `dtype`, in libraries that follow numpy too.
fn is_number(value: &Bound<'_, PyAny>) -> PyResult<bool> {
    /// Signed, unsigned, floating.
    const KINDS: [&str; 3] = ["i", "u", "f"];
    /// In `isbuiltin`: none of numpy's own, such as `bfloat16`, whose kind is that of raw bytes, `V`.
    const ADDED: i32 = 2;

    let py = value.py();
    let Some(dtype) = value.getattr_opt(intern!(py, "dtype"))? else {
        return Ok(true);
    };
    let Some(kind) = dtype.getattr_opt(intern!(py, "kind"))? else {
        return Ok(true);
    };
    let Ok(kind) = kind.cast::<PyString>() else {
        return Ok(false);
    };
    if kind == "V" {
        let is_builtin = dtype.getattr_opt(intern!(py, "isbuiltin"))?;
        return Ok(is_builtin.is_some_and(|is| is.extract::<i32>().is_ok_and(|is| is == ADDED)));
    }
    Ok(KINDS.iter().any(|known| kind == known))
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

fn delta_duration(delta: &Bound<'_, PyDelta>) -> PyResult<Signed> {
    let days = delta.get_days();
    let Ok(days) = u64::try_from(days) else {
        return Ok(Signed::Negative);
    };
    // The others are never negative.
    let seconds = u64::from(delta.get_seconds().unsigned_abs());
    let micros = u64::from(delta.get_microseconds().unsigned_abs());
    let mut duration = Duration::from_secs(days * 86_400 + seconds) + Duration::from_micros(micros);
    // A `pandas.Timedelta` is a `timedelta` that also has nanoseconds.
    if !delta.is_exact_instance_of::<PyDelta>()
        && let Some(nanos) = delta.getattr_opt(intern!(delta.py(), "nanoseconds"))?
        && let Ok(nanos) = nanos.extract::<u64>()
    {
        duration += Duration::from_nanos(nanos);
    }
    Ok(Signed::Duration(duration))
}

fn wrong_type(argument: &str, value: &Bound<'_, PyAny>) -> PyErr {
    PyTypeError::new_err(format!(
        "{argument} must be a number of seconds or a timedelta, not {}",
        repr(value)
    ))
}

/// A whole number of at least `least`.
pub(crate) fn count(argument: &str, value: &Bound<'_, PyAny>, least: u64) -> PyResult<u64> {
    let number = whole(argument, value)?;
    if number < i128::from(least) {
        // `ThreadPoolExecutor`'s words for the parameter that it has too.
        let bound = match argument {
            "max_workers" => "greater than 0".to_owned(),
            _ => format!("at least {least}"),
        };
        return Err(PyValueError::new_err(format!(
            "{argument} must be {bound}, not {number}"
        )));
    }
    u64::try_from(number).map_err(|_| too_large(argument, value))
}

/// A whole number.
pub(crate) fn whole(argument: &str, value: &Bound<'_, PyAny>) -> PyResult<i128> {
    let wrong = || {
        PyTypeError::new_err(format!(
            "{argument} must be a whole number, not {}",
            repr(value)
        ))
    };
    if value.is_instance_of::<PyBool>() || value.is_instance_of::<PyFloat>() || !is_number(value)? {
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
pub(crate) fn size(argument: &str, value: &Bound<'_, PyAny>, least: u64) -> PyResult<usize> {
    usize::try_from(count(argument, value, least)?).map_err(|_| too_large(argument, value))
}

/// One of a few words.
pub(crate) fn word<T: Copy>(
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

/// Anything, taken as Python takes a condition: what the standard library does with flags.
pub(crate) struct Truth(pub(crate) bool);

impl<'py> FromPyObject<'_, 'py> for Truth {
    type Error = PyErr;

    fn extract(value: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        value.is_truthy().map(Self)
    }
}

/// A flag that the caller may have given. Looked at by whoever knows its name, which an error is to show.
pub(crate) struct Flag<'py>(Option<Bound<'py, PyAny>>);

impl<'py> FromPyObject<'_, 'py> for Flag<'py> {
    type Error = PyErr;

    fn extract(value: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        Ok(Self(Some(value.to_owned())))
    }
}

impl Flag<'_> {
    pub(crate) const NOT_GIVEN: Self = Self(None);

    pub(crate) fn or(self, argument: &str, default: bool) -> PyResult<bool> {
        let Some(value) = self.0 else {
            return Ok(default);
        };
        value.extract().map_err(|_| {
            let value = repr(&value);
            PyTypeError::new_err(format!("{argument} must be a bool, not {value}"))
        })
    }
}

/// Something that can be called.
pub(crate) fn callable(argument: &str, value: &Bound<'_, PyAny>) -> PyResult<()> {
    if value.is_callable() {
        return Ok(());
    }
    Err(PyTypeError::new_err(format!(
        "{argument} must be callable, not {}",
        repr(value)
    )))
}

/// The refusal to pickle or to copy, in the words of CPython, and why.
pub(crate) fn not_pickled(value: &Bound<'_, PyAny>, why: &str) -> PyErr {
    match value.get_type().fully_qualified_name() {
        Ok(class) => PyTypeError::new_err(format!("cannot pickle '{class}' object: {why}")),
        Err(error) => error,
    }
}

/// The value as a user would write it, or its type when it cannot say.
pub(crate) fn repr(value: &Bound<'_, PyAny>) -> String {
    value.repr().map_or_else(
        |_| format!("a {}", value.get_type()),
        |repr| repr.to_string_lossy().into_owned(),
    )
}
