//! When an interval task runs next: pure arithmetic on integer nanoseconds.
//!
//! Owned by its task, behind the task's lock. It never reads a clock, never sleeps and never calls
//! back; `now` is always an argument.
//!
//! A series is a row of ticks, `first + n × interval`. The row never moves, whatever the runs do,
//! so nothing drifts. Two things make a tick go by without a run of its own:
//!
//! - **missed**: it passed before the run that it belongs to could start (a suspended process, a
//!   pool with no free worker);
//! - **overlapped**: it passed while the previous run was still going.
//!
//! [`begin`](Series::begin) accounts for the first kind when a run starts, [`end`](Series::end) for
//! the second when it ends. What is to be made up for goes into `owed`, runs that follow at once.
//!
//! ```text
//! tick     1     2     3     4     5
//!          |-----|-----|-----|-----|
//! run      [1]      [2      ]     [5]     tick 2 started late, but before tick 3: not missed
//!                                         ticks 3 and 4 overlapped by the run of tick 2
//! ```
#![forbid(unsafe_code)]

use std::time::Duration;

use crate::clock::{Nanos, nanos};
use crate::error::Error;

/// From where the next deadline is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Timing {
    /// From the first deadline: `first + n × interval`, whatever the runs do.
    #[default]
    FixedRate,
    /// From the end of the previous run.
    FixedDelay,
}

/// What becomes of a tick that finds the previous run still going.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overlap {
    /// It is skipped, and counted.
    #[default]
    Skip,
    /// One run follows at once, however many ticks went by; the others are skipped, and counted.
    Queue,
}

/// What becomes of whole periods that went by before a run could start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Missed {
    /// They are skipped, and counted.
    #[default]
    Skip,
    /// They are run one after the other.
    CatchUp,
}

/// What an interval task is asked to do. Times are durations; [`Series`] has them as deadlines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Every {
    /// Time from one tick to the next; not zero.
    pub interval: Duration,
    /// Time from posting to the first run; `None` means one interval.
    pub first: Option<Duration>,
    /// From where the next deadline is counted.
    pub timing: Timing,
    /// What becomes of a tick that finds the previous run still going.
    pub overlap: Overlap,
    /// What becomes of periods that went by before a run could start.
    pub missed: Missed,
    /// The series is over after so many runs; not zero.
    pub max_runs: Option<u64>,
    /// The series is over so long after posting: no run has a later deadline.
    pub until: Option<Duration>,
    /// Each deadline is moved by a random time from zero to this; at most one interval.
    pub jitter: Duration,
    /// Whether a run that fails ends the series.
    pub stop_on_error: bool,
}

impl Every {
    /// Every `interval`, at a fixed rate, for ever.
    pub fn new(interval: Duration) -> Self {
        Self {
            interval,
            first: None,
            timing: Timing::default(),
            overlap: Overlap::default(),
            missed: Missed::default(),
            max_runs: None,
            until: None,
            jitter: Duration::ZERO,
            stop_on_error: false,
        }
    }
}

/// Runs that did not take place, since the last time somebody asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Ticks that found the previous run still going.
    pub skipped: u64,
    /// Ticks that went by before a run could start.
    pub missed: u64,
}

/// The state of a series between its runs.
#[derive(Debug)]
pub struct Series {
    interval: Nanos,
    timing: Timing,
    overlap: Overlap,
    missed: Missed,
    max_runs: u64,
    until: Nanos,
    jitter: Nanos,
    stop_on_error: bool,
    /// The latest tick that is accounted for, without jitter. While the task waits it is the tick
    /// that it waits for.
    tick: Nanos,
    /// What jitter added to the deadline that the task waits for.
    shift: Nanos,
    /// Runs to be made up for, the one that is waiting not counted.
    owed: u64,
    /// A deadline that somebody set while the run was going.
    moved: Option<Nanos>,
    lost: Lost,
}

impl Series {
    /// The series that `every` asks for, posted at `now`.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the interval or `max_runs` is zero, the jitter is longer than the
    /// interval, or `until` comes before the first run.
    pub fn new(every: &Every, now: Nanos) -> Result<Self, Error> {
        let invalid = |argument, reason: String| Err(Error::Invalid { argument, reason });
        if every.interval.is_zero() {
            return invalid("interval", "must be longer than 0".to_owned());
        }
        if every.max_runs == Some(0) {
            return invalid("max_runs", "must be at least 1, not 0".to_owned());
        }
        if every.jitter > every.interval {
            return invalid(
                "jitter",
                format!(
                    "must be at most the interval {:?}, not {:?}",
                    every.interval, every.jitter
                ),
            );
        }
        let first = every.first.unwrap_or(every.interval);
        if let Some(until) = every.until.filter(|&until| until < first) {
            return invalid(
                "until",
                format!("is {until:?} away, before the first run at {first:?}"),
            );
        }
        let mut series = Self {
            interval: nanos(every.interval),
            timing: every.timing,
            overlap: every.overlap,
            missed: every.missed,
            max_runs: every.max_runs.unwrap_or(u64::MAX),
            until: every
                .until
                .map_or(Nanos::MAX, |until| now.saturating_add(nanos(until))),
            jitter: nanos(every.jitter),
            stop_on_error: every.stop_on_error,
            tick: now.saturating_add(nanos(first)),
            shift: 0,
            owed: 0,
            moved: None,
            lost: Lost::default(),
        };
        series.draw();
        Ok(series)
    }

    /// The deadline that the task waits for.
    pub fn deadline(&self) -> Nanos {
        self.tick.saturating_add(self.shift)
    }

    /// A run starts at `now`.
    pub fn begin(&mut self, now: Nanos) {
        if self.timing == Timing::FixedDelay {
            return; // its next tick is not known before the run ends, so none can be missed
        }
        let late = now.saturating_sub(self.deadline()) / self.interval;
        self.tick = self.tick.saturating_add(late.saturating_mul(self.interval));
        match self.missed {
            Missed::Skip => self.lost.missed += late,
            Missed::CatchUp => self.owed = self.owed.saturating_add(late),
        }
    }

    /// The run ended at `now`, as number `runs` of the series; `None` when it was the last.
    ///
    /// The deadline given is never before the tick it stands for.
    pub fn end(&mut self, now: Nanos, runs: u64, failed: bool) -> Option<Nanos> {
        if runs >= self.max_runs || (failed && self.stop_on_error) {
            return None;
        }
        if let Some(moved) = self.moved.take() {
            self.restart(moved);
        } else if self.timing == Timing::FixedDelay {
            self.tick = now.saturating_add(self.interval);
            self.draw();
        } else {
            let passed = now.saturating_sub(self.tick) / self.interval;
            self.tick = self
                .tick
                .saturating_add(passed.saturating_mul(self.interval));
            let queued = u64::from(self.overlap == Overlap::Queue && passed > 0);
            self.lost.skipped += passed - queued;
            self.owed = self.owed.saturating_add(queued);
            if self.owed > 0 {
                // Made up for at once: the tick stays, and the run after this one is counted from
                // it as ever.
                self.owed -= 1;
                self.shift = now.saturating_sub(self.tick);
            } else {
                self.tick = self.tick.saturating_add(self.interval);
                self.draw();
            }
        }
        Some(self.deadline()).filter(|&deadline| deadline <= self.until)
    }

    /// Whether there may be a run at `deadline` once `runs` have ended.
    pub fn allows(&self, deadline: Nanos, runs: u64) -> bool {
        deadline <= self.until && runs < self.max_runs
    }

    /// The series goes on from `deadline`: the row of ticks is laid anew from there.
    pub fn restart(&mut self, deadline: Nanos) {
        self.tick = deadline;
        self.shift = 0;
        self.owed = 0;
    }

    /// Like [`restart`](Self::restart), for a series whose run is going: heeded when it ends.
    pub fn restart_after_run(&mut self, deadline: Nanos) {
        self.moved = Some(deadline);
    }

    /// What was lost since the last call.
    pub fn take_lost(&mut self) -> Lost {
        std::mem::take(&mut self.lost)
    }

    fn draw(&mut self) {
        self.shift = if self.jitter == 0 {
            0
        } else {
            // A tick that is in time is not made to miss `until` by chance.
            fastrand::u64(0..=self.jitter).min(self.until.saturating_sub(self.tick))
        };
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const MS: Nanos = 1_000_000;

    fn every(ms: u64) -> Every {
        Every::new(Duration::from_millis(ms))
    }

    fn series(every: &Every) -> Series {
        Series::new(every, 0).expect("the test asks for sense")
    }

    /// One run from `start` to `end`, in milliseconds; the next deadline in milliseconds.
    fn run(series: &mut Series, start: u64, end: u64, runs: u64) -> Option<u64> {
        series.begin(start * MS);
        series
            .end(end * MS, runs, false)
            .map(|deadline| deadline / MS)
    }

    #[test]
    fn the_first_run_comes_after_one_interval_unless_told_otherwise() {
        assert_eq!(series(&every(20)).deadline(), 20 * MS);
        let first = Every {
            first: Some(Duration::from_millis(5)),
            ..every(20)
        };
        assert_eq!(series(&first).deadline(), 5 * MS);
        let at_once = Every {
            first: Some(Duration::ZERO),
            ..every(20)
        };
        assert_eq!(series(&at_once).deadline(), 0);
    }

    #[test]
    fn fixed_rate_never_drifts_however_late_the_runs_start_and_end() {
        let mut series = series(&every(10));
        for n in 1..=1_000 {
            assert_eq!(series.deadline(), n * 10 * MS);
            assert_eq!(
                run(&mut series, n * 10 + 3, n * 10 + 9, n),
                Some((n + 1) * 10)
            );
        }
        assert_eq!(series.take_lost(), Lost::default());
    }

    #[test]
    fn fixed_delay_counts_from_the_end_of_the_run() {
        let mut series = series(&Every {
            timing: Timing::FixedDelay,
            ..every(10)
        });
        assert_eq!(run(&mut series, 10, 47, 1), Some(57));
        assert_eq!(run(&mut series, 90, 91, 2), Some(101));
        assert_eq!(series.take_lost(), Lost::default());
    }

    #[test]
    fn overlapped_ticks_are_skipped_and_counted_and_the_phase_stays() {
        let mut series = series(&every(10));
        assert_eq!(run(&mut series, 10, 35, 1), Some(40));
        assert_eq!(
            series.take_lost(),
            Lost {
                skipped: 2,
                missed: 0
            }
        );
        assert_eq!(series.take_lost(), Lost::default());
    }

    #[test]
    fn an_overlapped_tick_is_queued_once_however_many_there_were() {
        let mut series = series(&Every {
            overlap: Overlap::Queue,
            ..every(10)
        });
        assert_eq!(run(&mut series, 10, 35, 1), Some(35));
        assert_eq!(run(&mut series, 35, 36, 2), Some(40));
        assert_eq!(
            series.take_lost(),
            Lost {
                skipped: 1,
                missed: 0
            }
        );
    }

    #[test]
    fn missed_periods_are_skipped_and_counted_and_the_phase_stays() {
        let mut series = series(&every(10));
        assert_eq!(run(&mut series, 47, 48, 1), Some(50));
        assert_eq!(
            series.take_lost(),
            Lost {
                skipped: 0,
                missed: 3
            }
        );
    }

    #[test]
    fn missed_periods_are_caught_up_one_by_one() {
        let mut series = series(&Every {
            missed: Missed::CatchUp,
            ..every(10)
        });
        let mut starts = vec![47];
        let mut next = run(&mut series, 47, 48, 1);
        for runs in 2..=4 {
            let start = next.unwrap();
            starts.push(start);
            next = run(&mut series, start, start, runs);
        }
        assert_eq!(starts, [47, 48, 48, 48]);
        assert_eq!(next, Some(50));
        assert_eq!(series.take_lost(), Lost::default());
    }

    #[test]
    fn every_tick_of_a_long_stall_is_either_run_or_counted() {
        for missed in [Missed::Skip, Missed::CatchUp] {
            for overlap in [Overlap::Skip, Overlap::Queue] {
                let mut series = series(&Every {
                    overlap,
                    missed,
                    ..every(10)
                });
                let (mut runs, mut lost, mut now) = (0, 0, 0);
                // Runs of 0, 7, 14, … ms, started up to 30 ms late.
                while now < 10_000 * MS {
                    let start = now.max(series.deadline()) + (runs % 4) * 10 * MS;
                    series.begin(start);
                    runs += 1;
                    now = start + (runs % 6) * 7 * MS;
                    series.end(now, runs, false).unwrap();
                    let more = series.take_lost();
                    lost += more.skipped + more.missed;
                }
                // Ticks up to the one that is waited for, which has neither run nor been lost.
                let waiting = u64::from(series.deadline() > now);
                let ticks = series.tick / (10 * MS) - waiting;
                let owed = series.owed + (1 - waiting);
                assert_eq!(runs + lost + owed, ticks, "{missed:?} {overlap:?}");
            }
        }
    }

    #[test]
    fn max_runs_until_and_errors_end_a_series() {
        let mut two = series(&Every {
            max_runs: Some(2),
            ..every(10)
        });
        assert_eq!(run(&mut two, 10, 10, 1), Some(20));
        assert_eq!(run(&mut two, 20, 20, 2), None);

        let mut until = series(&Every {
            until: Some(Duration::from_millis(20)),
            ..every(10)
        });
        assert_eq!(run(&mut until, 10, 10, 1), Some(20));
        assert_eq!(run(&mut until, 20, 20, 2), None);

        let mut strict = series(&Every {
            stop_on_error: true,
            ..every(10)
        });
        strict.begin(10 * MS);
        assert_eq!(strict.end(10 * MS, 1, true), None);
        let mut lenient = series(&every(10));
        lenient.begin(10 * MS);
        assert_eq!(lenient.end(10 * MS, 1, true), Some(20 * MS));
    }

    #[test]
    fn jitter_moves_a_deadline_and_never_the_next_tick() {
        let mut series = series(&Every {
            jitter: Duration::from_millis(10),
            ..every(10)
        });
        for n in 1..=1_000 {
            let deadline = series.deadline();
            assert!(
                (n * 10 * MS..=(n + 1) * 10 * MS).contains(&deadline),
                "tick {n}: {deadline}"
            );
            series.begin(deadline);
            assert_eq!(series.tick, n * 10 * MS);
            // Ends before its own tick's successor, however late jitter made it start.
            assert!(series.end(n * 10 * MS, n, false).is_some());
        }
    }

    #[test]
    fn a_moved_deadline_lays_the_ticks_anew() {
        let mut series = series(&every(10));
        series.restart(25 * MS);
        assert_eq!(series.deadline(), 25 * MS);
        series.begin(25 * MS);
        series.restart_after_run(100 * MS);
        assert_eq!(series.end(26 * MS, 1, false), Some(100 * MS));
        assert_eq!(run(&mut series, 100, 101, 2), Some(110));
    }

    #[test]
    fn nonsense_is_refused_by_name_and_value() {
        let refused = |every: Every| Series::new(&every, 0).unwrap_err().to_string();
        assert_eq!(refused(every(0)), "interval must be longer than 0");
        assert_eq!(
            refused(Every {
                max_runs: Some(0),
                ..every(1)
            }),
            "max_runs must be at least 1, not 0"
        );
        assert_eq!(
            refused(Every {
                jitter: Duration::from_millis(2),
                ..every(1)
            }),
            "jitter must be at most the interval 1ms, not 2ms"
        );
        assert_eq!(
            refused(Every {
                until: Some(Duration::from_millis(2)),
                ..every(5)
            }),
            "until is 2ms away, before the first run at 5ms"
        );
    }

    #[test]
    fn deadlines_near_the_end_of_time_saturate() {
        let century = Every::new(Duration::from_secs(100 * 366 * 86_400));
        let mut series = Series::new(&century, Nanos::MAX - 5).unwrap();
        assert_eq!(series.deadline(), Nanos::MAX);
        series.begin(Nanos::MAX);
        assert_eq!(series.end(Nanos::MAX, 1, false), Some(Nanos::MAX));
    }
}
