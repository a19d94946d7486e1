//! `DelayTask`, `IntervalTask`, `IntervalWithDelayTask`: checked, frozen, and read at posting.
//!
//! Owned by the user. An option is a value: it may be kept, compared, hashed, pickled and used for any
//! number of tasks, from any thread; it never changes, and posts nothing. Native because making one is part
//! of many a post (`docs/design/binding.md`).

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, SystemTime};

use asynctask::series::{Every, Missed, Overlap, Timing};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDateTime, PyDict, PyTuple};
use pyo3::{IntoPyObjectExt, PyTypeInfo, intern};

use crate::convert::{self, Minimum};

const TIMINGS: &[(&str, Timing)] = &[
    ("fixed_rate", Timing::FixedRate),
    ("fixed_delay", Timing::FixedDelay),
];
const OVERLAPS: &[(&str, Overlap)] = &[("skip", Overlap::Skip), ("queue", Overlap::Queue)];
const MISSED: &[(&str, Missed)] = &[("skip", Missed::Skip), ("catch_up", Missed::CatchUp)];
/// Whether an error stops the series.
const ON_ERROR: &[(&str, bool)] = &[("continue", false), ("stop", true)];

/// When a series is over.
#[derive(Clone, Copy, PartialEq)]
enum Until {
    /// So long after posting.
    After(Duration),
    /// At this time of the wall clock.
    At(SystemTime),
}

/// Everything an interval option says, but for its start delay.
#[derive(Clone, PartialEq)]
pub(crate) struct Interval {
    every: Every,
    until: Option<Until>,
}

impl Interval {
    /// Fixed rate, for ever.
    pub(crate) fn plain(interval: &Bound<'_, PyAny>) -> PyResult<Self> {
        let every = Every::new(convert::duration("interval", interval, Minimum::Positive)?);
        Ok(Self { every, until: None })
    }

    /// For the core, first run after `first`.
    pub(crate) fn every(&self, first: Option<Duration>) -> Every {
        let (until, until_wall) = match self.until {
            None => (None, None),
            Some(Until::After(duration)) => (Some(duration), None),
            Some(Until::At(at)) => (None, Some(at)),
        };
        let mut every = self.every.clone();
        (every.first, every.until, every.until_wall) = (first, until, until_wall);
        every
    }
}

/// An option: run after *delay*, counted from posting, and never before.
///
/// A duration is a number of seconds or a `timedelta`. A negative delay has passed: the task runs now.
/// Combines with an `IntervalTask` or a subclass of it, in either order, as
/// ``post_task(callback, DelayTask(1), IntervalTask(5))`` or ``DelayTask(1) + IntervalTask(5)``.
///
/// Raises:
///     TypeError: *delay* is neither a number nor a `timedelta`.
///     ValueError: It is not a number, infinite, or longer than 100 years.
///
/// >>> from asynctask import DelayTask, IntervalTask
/// >>> DelayTask(1) + IntervalTask(5, max_runs=3)
/// IntervalWithDelayTask(1, 5, max_runs=3)
#[pyclass(frozen, subclass, module = "asynctask")]
pub(crate) struct DelayTask {
    pub(crate) value: Duration,
    #[pyo3(get)]
    delay: Py<PyAny>,
}

#[pymethods]
impl DelayTask {
    #[classattr]
    fn __match_args__() -> (&'static str,) {
        ("delay",)
    }

    #[new]
    fn new(delay: Bound<'_, PyAny>) -> PyResult<Self> {
        let value = convert::duration("delay", &delay, Minimum::Passed)?;
        Ok(Self {
            value,
            delay: delay.unbind(),
        })
    }

    fn __add__(slf: &Bound<'_, Self>, other: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        combine(slf.as_any(), other)
    }

    fn __eq__(slf: &Bound<'_, Self>, other: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        compare(slf, other, |one, other| {
            one.get().value == other.get().value
        })
    }

    fn __hash__(&self) -> u64 {
        hash(&("DelayTask", self.value))
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let delay = convert::repr(slf.get().delay.bind(slf.py()));
        Ok(format!("{}({delay})", slf.get_type().name()?))
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let args = vec![slf.get().delay.clone_ref(slf.py())];
        reduce::<Self>(slf.as_any(), args, PyDict::new(slf.py()))
    }
}

/// An option: run every *interval*, the first time after one interval.
///
/// Args:
///     interval: Time from one run to the next; longer than 0.
///     timing: ``"fixed_rate"``: deadlines are ``first + n * interval``, whatever the runs do.
///         ``"fixed_delay"``: the interval is counted from the end of the previous run.
///     overlap: A deadline that finds the previous run still going: ``"skip"`` it, or ``"queue"``
///         one run for right afterwards.
///     missed: Whole periods that go by before a run can start: ``"skip"`` them, or ``"catch_up"``
///         one by one.
///     max_runs: The series is over after so many runs.
///     until: The series is over so long after posting, or at this aware `datetime`: no run has a
///         deadline after it by the pool's wall clock, however that is set meanwhile.
///     jitter: Each deadline is moved by a random time from 0 to this; at most the interval. It
///         never accumulates.
///     on_error: A run that raises is logged, and the series goes on (``"continue"``) or is over
///         (``"stop"``).
///
/// Raises:
///     TypeError: An argument is of the wrong type.
///     ValueError: A value is out of range.
///
/// >>> from asynctask import IntervalTask
/// >>> IntervalTask(0.02, overlap="queue")
/// IntervalTask(0.02, overlap='queue')
#[pyclass(frozen, subclass, module = "asynctask")]
pub(crate) struct IntervalTask {
    pub(crate) value: Interval,
    #[pyo3(get)]
    interval: Py<PyAny>,
    #[pyo3(get)]
    until: Py<PyAny>,
    #[pyo3(get)]
    jitter: Py<PyAny>,
}

/// The keywords of interval options, as they were given.
struct Keywords<'a, 'py> {
    timing: Option<&'a Bound<'py, PyAny>>,
    overlap: Option<&'a Bound<'py, PyAny>>,
    missed: Option<&'a Bound<'py, PyAny>>,
    max_runs: Option<&'a Bound<'py, PyAny>>,
    until: Option<Bound<'py, PyAny>>,
    jitter: Option<Bound<'py, PyAny>>,
    on_error: Option<&'a Bound<'py, PyAny>>,
}

impl IntervalTask {
    fn checked(interval: Bound<'_, PyAny>, keywords: Keywords<'_, '_>) -> PyResult<Self> {
        let Keywords {
            timing,
            overlap,
            missed,
            max_runs,
            until,
            jitter,
            on_error,
        } = keywords;
        let py = interval.py();
        let mut every = Every::new(convert::duration("interval", &interval, Minimum::Positive)?);
        if let Some(timing) = timing {
            every.timing = convert::word("timing", timing, TIMINGS)?;
        }
        if let Some(overlap) = overlap {
            every.overlap = convert::word("overlap", overlap, OVERLAPS)?;
        }
        if let Some(missed) = missed {
            every.missed = convert::word("missed", missed, MISSED)?;
        }
        if let Some(max_runs) = max_runs {
            every.max_runs = Some(convert::count("max_runs", max_runs, 1)?);
        }
        if let Some(on_error) = on_error {
            every.stop_on_error = convert::word("on_error", on_error, ON_ERROR)?;
        }
        if let Some(jitter) = &jitter {
            every.jitter = convert::duration("jitter", jitter, Minimum::Zero)?;
            if every.jitter > every.interval {
                return Err(PyValueError::new_err(format!(
                    "jitter must be at most the interval {}, not {}",
                    convert::repr(&interval),
                    convert::repr(jitter)
                )));
            }
        }
        let until_value = until.as_ref().map(check_until).transpose()?;
        Ok(Self {
            value: Interval {
                every,
                until: until_value,
            },
            interval: interval.unbind(),
            until: until.map_or_else(|| py.None(), Bound::unbind),
            jitter: match jitter {
                Some(jitter) => jitter.unbind(),
                None => 0_u8.into_pyobject(py)?.into_any().unbind(),
            },
        })
    }

    /// The keywords that differ from their defaults, as they were given.
    fn keywords<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let every = &self.value.every;
        let keywords = PyDict::new(py);
        if every.timing != Timing::default() {
            keywords.set_item("timing", name_of(every.timing, TIMINGS))?;
        }
        if every.overlap != Overlap::default() {
            keywords.set_item("overlap", name_of(every.overlap, OVERLAPS))?;
        }
        if every.missed != Missed::default() {
            keywords.set_item("missed", name_of(every.missed, MISSED))?;
        }
        if let Some(max_runs) = every.max_runs {
            keywords.set_item("max_runs", max_runs)?;
        }
        if self.value.until.is_some() {
            keywords.set_item("until", &self.until)?;
        }
        if !every.jitter.is_zero() {
            keywords.set_item("jitter", &self.jitter)?;
        }
        if every.stop_on_error {
            keywords.set_item("on_error", "stop")?;
        }
        Ok(keywords)
    }

    fn shown_keywords(&self, py: Python<'_>) -> PyResult<String> {
        let keywords = self.keywords(py)?;
        let shown = keywords
            .into_iter()
            .map(|(keyword, value)| format!(", {keyword}={}", convert::repr(&value)));
        Ok(shown.collect())
    }

    fn hash_into(&self, hasher: &mut DefaultHasher) {
        let every = &self.value.every;
        (
            every.interval,
            every.max_runs,
            every.jitter,
            every.stop_on_error,
        )
            .hash(hasher);
    }
}

#[pymethods]
impl IntervalTask {
    #[classattr]
    fn __match_args__() -> (&'static str,) {
        ("interval",)
    }

    #[new]
    #[pyo3(signature = (interval, *, timing=None, overlap=None, missed=None, max_runs=None,
                        until=None, jitter=None, on_error=None))]
    #[expect(
        clippy::too_many_arguments,
        reason = "they are the keywords of the option"
    )]
    fn new(
        interval: Bound<'_, PyAny>,
        timing: Option<&Bound<'_, PyAny>>,
        overlap: Option<&Bound<'_, PyAny>>,
        missed: Option<&Bound<'_, PyAny>>,
        max_runs: Option<&Bound<'_, PyAny>>,
        until: Option<Bound<'_, PyAny>>,
        jitter: Option<Bound<'_, PyAny>>,
        on_error: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let keywords = Keywords {
            timing,
            overlap,
            missed,
            max_runs,
            until,
            jitter,
            on_error,
        };
        Self::checked(interval, keywords)
    }

    #[getter]
    fn timing(&self) -> &'static str {
        name_of(self.value.every.timing, TIMINGS)
    }

    #[getter]
    fn overlap(&self) -> &'static str {
        name_of(self.value.every.overlap, OVERLAPS)
    }

    #[getter]
    fn missed(&self) -> &'static str {
        name_of(self.value.every.missed, MISSED)
    }

    #[getter]
    fn max_runs(&self) -> Option<u64> {
        self.value.every.max_runs
    }

    #[getter]
    fn on_error(&self) -> &'static str {
        name_of(self.value.every.stop_on_error, ON_ERROR)
    }

    fn __add__(slf: &Bound<'_, Self>, other: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        combine(slf.as_any(), other)
    }

    fn __eq__(slf: &Bound<'_, Self>, other: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        compare(slf, other, |one, other| {
            one.get().value == other.get().value
        })
    }

    fn __hash__(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        "IntervalTask".hash(&mut hasher);
        self.hash_into(&mut hasher);
        hasher.finish()
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let (py, this) = (slf.py(), slf.get());
        Ok(format!(
            "{}({}{})",
            slf.get_type().name()?,
            convert::repr(this.interval.bind(py)),
            this.shown_keywords(py)?
        ))
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let (py, this) = (slf.py(), slf.get());
        let args = vec![this.interval.clone_ref(py)];
        reduce::<Self>(slf.as_any(), args, this.keywords(py)?)
    }
}

/// An option: run after *start_delay*, and every *interval* from then on.
///
/// Takes the keywords of `IntervalTask`, and is one.
///
/// >>> from asynctask import IntervalWithDelayTask
/// >>> IntervalWithDelayTask(0.005, 0.02).start_delay
/// 0.005
#[pyclass(frozen, subclass, extends = IntervalTask, module = "asynctask")]
pub(crate) struct IntervalWithDelayTask {
    pub(crate) value: Duration,
    #[pyo3(get)]
    start_delay: Py<PyAny>,
}

#[pymethods]
impl IntervalWithDelayTask {
    #[classattr]
    fn __match_args__() -> (&'static str, &'static str) {
        ("start_delay", "interval")
    }

    #[new]
    #[pyo3(signature = (start_delay, interval, *, timing=None, overlap=None, missed=None,
                        max_runs=None, until=None, jitter=None, on_error=None))]
    #[expect(
        clippy::too_many_arguments,
        reason = "they are the keywords of the option"
    )]
    fn new(
        start_delay: Bound<'_, PyAny>,
        interval: Bound<'_, PyAny>,
        timing: Option<&Bound<'_, PyAny>>,
        overlap: Option<&Bound<'_, PyAny>>,
        missed: Option<&Bound<'_, PyAny>>,
        max_runs: Option<&Bound<'_, PyAny>>,
        until: Option<Bound<'_, PyAny>>,
        jitter: Option<Bound<'_, PyAny>>,
        on_error: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<PyClassInitializer<Self>> {
        let value = convert::duration("start_delay", &start_delay, Minimum::Passed)?;
        let keywords = Keywords {
            timing,
            overlap,
            missed,
            max_runs,
            until,
            jitter,
            on_error,
        };
        let base = IntervalTask::checked(interval, keywords)?;
        let this = Self {
            value,
            start_delay: start_delay.unbind(),
        };
        Ok(PyClassInitializer::from(base).add_subclass(this))
    }

    fn __eq__(slf: &Bound<'_, Self>, other: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        compare(slf, other, |one, other| {
            one.get().value == other.get().value
                && one.as_super().get().value == other.as_super().get().value
        })
    }

    fn __hash__(slf: &Bound<'_, Self>) -> u64 {
        let mut hasher = DefaultHasher::new();
        ("IntervalWithDelayTask", slf.get().value).hash(&mut hasher);
        slf.as_super().get().hash_into(&mut hasher);
        hasher.finish()
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let py = slf.py();
        let base = slf.as_super().get();
        Ok(format!(
            "{}({}, {}{})",
            slf.get_type().name()?,
            convert::repr(slf.get().start_delay.bind(py)),
            convert::repr(base.interval.bind(py)),
            base.shown_keywords(py)?
        ))
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let base = slf.as_super().get();
        let args = vec![
            slf.get().start_delay.clone_ref(py),
            base.interval.clone_ref(py),
        ];
        reduce::<Self>(slf.as_any(), args, base.keywords(py)?)
    }
}

/// Options are equal when they are of the same class and say the same.
fn compare<'py, T: PyTypeInfo>(
    one: &Bound<'py, T>,
    other: &Bound<'py, PyAny>,
    say_the_same: impl FnOnce(&Bound<'py, T>, &Bound<'py, T>) -> bool,
) -> PyResult<Py<PyAny>> {
    let py = one.py();
    match other.cast::<T>() {
        Ok(other) if other.as_any().get_type().is(one.as_any().get_type()) => {
            Ok(say_the_same(one, other).into_py_any(py)?)
        }
        _ => Ok(py.NotImplemented()),
    }
}

/// `DelayTask + IntervalTask`, either way round, of whichever subclass.
fn combine(left: &Bound<'_, PyAny>, right: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
    let py = left.py();
    let (delay, interval) = match (left.cast::<DelayTask>(), right.cast::<DelayTask>()) {
        (Ok(delay), Err(_)) => (delay, right),
        (Err(_), Ok(delay)) => (delay, left),
        _ => return Ok(py.NotImplemented()),
    };
    if interval.is_instance_of::<IntervalWithDelayTask>() {
        return Ok(py.NotImplemented()); // it has a delay
    }
    let Ok(interval) = interval.cast::<IntervalTask>() else {
        return Ok(py.NotImplemented());
    };
    let interval = interval.get();
    let args = (&delay.get().delay, &interval.interval);
    let keywords = interval.keywords(py)?;
    let combined = py
        .get_type::<IntervalWithDelayTask>()
        .call(args, Some(&keywords))?;
    Ok(combined.unbind())
}

/// For pickle: how to make an option of class `T`, or a subclass of it, anew. It goes by the `__new__`
/// of `T`: a subclass may take other arguments, and what it keeps itself is in its state.
fn reduce<'py, T: PyTypeInfo>(
    option: &Bound<'py, PyAny>,
    mut args: Vec<Py<PyAny>>,
    keywords: Bound<'py, PyDict>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = option.py();
    args.insert(0, option.get_type().into_any().unbind());
    args.insert(0, py.get_type::<T>().into_any().unbind());
    let remake = py
        .import(intern!(py, "asynctask._asynctask"))?
        .getattr(intern!(py, "_remake_option"))?;
    let state = option.call_method0(intern!(py, "__getstate__"))?;
    Ok((remake, (PyTuple::new(py, args)?, keywords), state)
        .into_pyobject(py)?
        .into_any())
}

/// What a pickled option is made of: `base.__new__(class, *args, **keywords)`.
#[pyfunction]
pub(crate) fn _remake_option<'py>(
    args: &Bound<'py, PyTuple>,
    keywords: &Bound<'py, PyDict>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = args.py();
    let base = args.get_item(0)?;
    let rest = args.get_slice(1, args.len());
    base.getattr(intern!(py, "__new__"))?
        .call(rest, Some(keywords))
}

fn check_until(until: &Bound<'_, PyAny>) -> PyResult<Until> {
    match until.cast::<PyDateTime>() {
        Ok(instant) => convert::wall_time("until", instant).map(Until::At),
        Err(_) => convert::duration("until", until, Minimum::Positive).map(Until::After),
    }
}

fn name_of<T: PartialEq + Copy>(value: T, names: &[(&'static str, T)]) -> &'static str {
    names
        .iter()
        .find(|(_, other)| *other == value)
        .map_or("?", |(name, _)| name)
}

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
