//! When an interval task runs next: pure arithmetic on integer nanoseconds.
//!
//! Owned by its task, behind the task's lock. It never reads a clock, never sleeps and never calls
//! back; `now` is always an argument.
//!
//! A series is a row of ticks, `first + n × interval`. The row never moves, whatever the runs do,
//! so nothing drifts. Two things make a tick go by without a run of its own:
//!
//! - **missed**: it passed before the run that it belongs to could start (a suspended process, a
//!   pool with no free worker, a run that was dropped);
//! - **skipped**: it passed while the previous run was still going.
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
//!
//! # Accounting
//!
//! Invariant: the ticks that have been due are the runs that have started, those that are owed or
//! wait for a worker, and what is lost, skipped or missed. When the series is over nothing is owed:
//! ticks due = runs + skipped + missed, whatever ended it. There are no ticks after `until`.
//!
//! [`lost`](Series::lost) counts up to the instant it is asked about, so that the losses of a run
//! that hangs can be seen while it hangs.
//!
//! # The wall clock
//!
//! `until_wall` is compared at the moment that counts, when a run is due or has ended, and never
//! turned into a deadline once and for all: whoever sets the wall clock moves it.
#![forbid(unsafe_code)]

use std::time::{Duration, SystemTime};

use crate::clock::{Moment, Nanos, nanos, wall_nanos};
use crate::error::Error;

/// From where the next deadline is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Timing {
    /// From the first deadline: `first + n × interval`, whatever the runs do.
    #[default]
    FixedRate,
    /// From the end of the previous run.
    FixedDelay,
}

/// What becomes of a tick that finds the previous run still going.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Overlap {
    /// It is skipped, and counted.
    #[default]
    Skip,
    /// One run follows at once, however many ticks went by; the others are skipped, and counted.
    Queue,
}

/// What becomes of whole periods that went by before a run could start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Missed {
    /// They are skipped, and counted.
    #[default]
    Skip,
    /// They are run one after the other.
    CatchUp,
}

/// What an interval task is asked to do. Times are durations; [`Series`] has them as deadlines.
///
/// ```
/// use std::time::Duration;
/// use asynctask::{Every, Missed};
///
/// let every = Every::new(Duration::from_secs(1))
///     .first(Duration::ZERO)
///     .missed(Missed::CatchUp)
///     .max_runs(10);
/// assert_eq!(every.max_runs, Some(10));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
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
    /// The series is over at this time of the wall clock: no run has a later deadline, however the
    /// wall clock is set meanwhile.
    pub until_wall: Option<SystemTime>,
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
            until_wall: None,
            jitter: Duration::ZERO,
            stop_on_error: false,
        }
    }

    /// With the first run so long after posting.
    #[must_use]
    pub fn first(mut self, first: Duration) -> Self {
        self.first = Some(first);
        self
    }

    /// With deadlines counted from there.
    #[must_use]
    pub fn timing(mut self, timing: Timing) -> Self {
        self.timing = timing;
        self
    }

    /// With that for ticks that find the previous run still going.
    #[must_use]
    pub fn overlap(mut self, overlap: Overlap) -> Self {
        self.overlap = overlap;
        self
    }

    /// With that for periods that went by before a run could start.
    #[must_use]
    pub fn missed(mut self, missed: Missed) -> Self {
        self.missed = missed;
        self
    }

    /// With so many runs at most; not zero.
    #[must_use]
    pub fn max_runs(mut self, max_runs: u64) -> Self {
        self.max_runs = Some(max_runs);
        self
    }

    /// With no deadline later than so long after posting.
    #[must_use]
    pub fn until(mut self, until: Duration) -> Self {
        self.until = Some(until);
        self
    }

    /// With no deadline later than that time of the wall clock.
    #[must_use]
    pub fn until_wall(mut self, until: SystemTime) -> Self {
        self.until_wall = Some(until);
        self
    }

    /// With each deadline moved by a random time from zero to this.
    #[must_use]
    pub fn jitter(mut self, jitter: Duration) -> Self {
        self.jitter = jitter;
        self
    }

    /// With a run that fails as the last one, or not.
    #[must_use]
    pub fn stop_on_error(mut self, stop: bool) -> Self {
        self.stop_on_error = stop;
        self
    }
}

/// Ticks that had no run of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lost {
    /// Ticks that found the previous run still going.
    pub skipped: u64,
    /// Ticks that went by before a run could start.
    pub missed: u64,
}

impl Lost {
    /// What has been added since `before`.
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            skipped: self.skipped.saturating_sub(before.skipped),
            missed: self.missed.saturating_sub(before.missed),
        }
    }
}

/// Where a series stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It waits for its deadline, or for a worker.
    Waiting,
    /// A run is going.
    Running,
    /// There is no further run.
    Over,
}

/// The state of a series between its runs.
#[derive(Clone, Debug)]
pub struct Series {
    interval: Nanos,
    timing: Timing,
    overlap: Overlap,
    missed: Missed,
    max_runs: u64,
    until: Nanos,
    /// By the wall clock; the end of time for none.
    until_wall: Nanos,
    jitter: Nanos,
    stop_on_error: bool,
    stage: Stage,
    /// The first tick that is not accounted for, without jitter.
    next: Nanos,
    /// The deadline that the task waits for.
    deadline: Nanos,
    /// The run that waits makes up for a tick that is accounted for; otherwise it is that of `next`.
    makes_up: bool,
    /// Runs to be made up for, the one that is waiting not counted.
    owed: u64,
    /// A deadline that somebody set while the run was going: `next`, from where the row is laid anew.
    moved: Option<Nanos>,
    /// The last run was refused: by the wall clock its time is past the end.
    refused: bool,
    lost: Lost,
    /// What of `lost` has been taken; see [`take_lost`](Self::take_lost).
    taken: Lost,
    /// Where its engine keeps it.
    pub(crate) place: Option<usize>,
    /// Its key on the wheel, stale or not; kept where the wall clock may end it.
    pub(crate) key: u64,
}

impl Series {
    /// The series that `every` asks for, posted at `posted`.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the interval or `max_runs` is zero, the jitter is longer than the
    /// interval, or `until` comes before the first run.
    pub fn new(every: &Every, posted: Moment) -> Result<Self, Error> {
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
        let until_wall = every.until_wall.map_or(Nanos::MAX, wall_nanos);
        let left = Duration::from_nanos(until_wall.saturating_sub(posted.wall));
        if until_wall < posted.wall {
            let past = Duration::from_nanos(posted.wall - until_wall);
            return invalid("until", format!("is in the past, by {past:?}"));
        }
        for until in [every.until, every.until_wall.map(|_| left)] {
            if let Some(until) = until.filter(|&until| until < first) {
                return invalid(
                    "until",
                    format!("is {until:?} away, before the first run at {first:?}"),
                );
            }
        }
        let mut series = Self {
            interval: nanos(every.interval),
            timing: every.timing,
            overlap: every.overlap,
            missed: every.missed,
            max_runs: every.max_runs.unwrap_or(u64::MAX),
            until: every
                .until
                .map_or(Nanos::MAX, |until| posted.now.saturating_add(nanos(until))),
            until_wall,
            jitter: nanos(every.jitter),
            stop_on_error: every.stop_on_error,
            stage: Stage::Waiting,
            next: posted.now.saturating_add(nanos(first)),
            deadline: 0,
            makes_up: false,
            owed: 0,
            moved: None,
            refused: false,
            lost: Lost::default(),
            taken: Lost::default(),
            place: None,
            key: 0,
        };
        series.draw(posted);
        Ok(series)
    }

    /// The deadline that the task waits for.
    pub fn deadline(&self) -> Nanos {
        self.deadline
    }

    /// Whether the wall clock may end it.
    pub fn follows_wall(&self) -> bool {
        self.until_wall != Nanos::MAX
    }

    /// A run starts now. `false`: it must not, for by the wall clock its deadline is after the end;
    /// the series is over.
    pub fn begin(&mut self, now: Moment) -> bool {
        if self.stage == Stage::Over {
            return !self.refused; // a series without a callback: its last tick is accounted for
        }
        if self.is_past_end(now) {
            self.refused = true;
            self.close(now);
            return false;
        }
        self.account_for_late(now);
        self.stage = Stage::Running;
        true
    }

    /// The run ended now, as number `runs` of the series; `None` when it was the last.
    ///
    /// The deadline given is never before the tick it stands for.
    pub fn end(&mut self, now: Moment, runs: u64, failed: bool) -> Option<Nanos> {
        if runs >= self.max_runs || (failed && self.stop_on_error) {
            self.close(now);
        }
        if self.stage == Stage::Over {
            return None;
        }
        let (passed, overlapped) = (self.passed(now), self.overlapped(now));
        if passed > 0 {
            self.lost.skipped += overlapped;
            self.owed = self.owed.saturating_add(passed - overlapped);
            self.skip_ticks(passed);
        }
        self.stage = Stage::Waiting;
        match self.moved.take() {
            Some(moved) if passed == 0 => self.lay_anew(moved),
            _ => self.wait_for_next(now),
        }
        self.goes_on(now)
    }

    /// The run that is due is given up, and counted as missed, for want of room. `None`: nothing has
    /// changed, for no other run would follow.
    pub fn drop_run(&mut self, now: Moment) -> Option<Nanos> {
        if self.stage != Stage::Waiting {
            return None;
        }
        let mut after = self.clone();
        after.account_for_late(now);
        after.lost.missed += 1;
        after.wait_for_next(now);
        let deadline = after.goes_on(now)?;
        *self = after;
        Some(deadline)
    }

    /// There is no further run, whatever the reason; what is owed is missed.
    pub fn close(&mut self, now: Moment) {
        match self.stage {
            Stage::Waiting => self.lost.missed += self.due(now),
            Stage::Running => {
                self.lost.skipped += self.passed(now);
                self.lost.missed += self.owed;
            }
            Stage::Over => {}
        }
        self.owed = 0;
        self.stage = Stage::Over;
    }

    /// A run that has begun and ended has not been: somebody was faster to cancel it.
    pub(crate) fn has_not_run(&mut self) {
        self.lost.missed += 1;
    }

    /// Whether the deadline that it waits for is past its end, as the wall clock stands now.
    pub fn is_past_end(&self, now: Moment) -> bool {
        self.stage == Stage::Waiting && !self.makes_up && self.deadline > self.last(now)
    }

    /// Whether there may be a run at `deadline` once `runs` have ended.
    pub fn allows(&self, deadline: Nanos, runs: u64, now: Moment) -> bool {
        deadline <= self.last(now) && runs < self.max_runs
    }

    /// The series goes on from `deadline`: the row of ticks is laid anew from there.
    pub fn restart(&mut self, deadline: Nanos, now: Moment) {
        self.lost.missed += self.due(now);
        self.lay_anew(deadline);
    }

    /// Like [`restart`](Self::restart), for a series whose run is going: heeded when it ends.
    pub fn restart_after_run(&mut self, deadline: Nanos, now: Moment) {
        // The old row ends here, and its ticks with it.
        let (passed, overlapped) = (self.passed(now), self.overlapped(now));
        self.lost.skipped += overlapped;
        self.lost.missed += passed - overlapped + std::mem::take(&mut self.owed);
        self.next = deadline;
        self.moved = Some(deadline);
    }

    /// What has been lost so far, the ticks of a run that is going or waits included.
    pub fn lost(&self, now: Moment) -> Lost {
        let mut lost = self.lost;
        match self.stage {
            Stage::Waiting if self.missed == Missed::Skip => lost.missed += self.late(now),
            Stage::Running => lost.skipped += self.overlapped(now),
            Stage::Waiting | Stage::Over => {}
        }
        lost
    }

    /// What of [`lost`](Self::lost) the last [`take_lost`](Self::take_lost) has not had.
    pub fn lost_since_taken(&self, now: Moment) -> Lost {
        self.lost(now).since(self.taken)
    }

    /// Whether [`take_lost`](Self::take_lost) has anything to give.
    pub fn has_lost(&self) -> bool {
        self.lost != self.taken
    }

    /// What was lost since the last call, of runs that have started and ended.
    pub fn take_lost(&mut self) -> Lost {
        let lost = self.lost.since(self.taken);
        self.taken = self.lost;
        lost
    }

    /// The last nanosecond that may be a deadline, as the wall clock stands now.
    fn last(&self, now: Moment) -> Nanos {
        if !self.follows_wall() {
            return self.until;
        }
        let at = (now.now.saturating_add(self.until_wall)).saturating_sub(now.wall);
        self.until.min(at)
    }

    /// Ticks that are not accounted for, and have passed.
    fn passed(&self, now: Moment) -> u64 {
        let to = now.now.min(self.last(now));
        if self.timing == Timing::FixedDelay {
            // The next tick is not known before the run ends, but for one that somebody has set.
            return u64::from(self.moved.is_some_and(|moved| moved <= to));
        }
        if self.next > to {
            return 0;
        }
        ((to - self.next) / self.interval).saturating_add(1)
    }

    /// Those of them that have found the run going and are given up: all but one that is queued, or set
    /// by somebody.
    fn overlapped(&self, now: Moment) -> u64 {
        let passed = self.passed(now);
        let keeps_one = self.overlap == Overlap::Queue || self.moved.is_some();
        passed - u64::from(keeps_one && passed > 0)
    }

    /// Ticks that have passed since the run that waits could have started.
    fn late(&self, now: Moment) -> u64 {
        if self.makes_up {
            return self.passed(now);
        }
        if self.timing == Timing::FixedDelay {
            return 0;
        }
        // Whole periods from the deadline, not from the tick: jitter makes nobody miss anything.
        let late = now.now.saturating_sub(self.deadline) / self.interval;
        late.min(self.last(now).saturating_sub(self.next) / self.interval)
    }

    /// Ticks that have been due and have no run while it waits.
    fn due(&self, now: Moment) -> u64 {
        let is_due = now.now >= self.deadline && !self.is_past_end(now);
        if self.stage == Stage::Waiting && is_due {
            self.late(now).saturating_add(self.owed).saturating_add(1)
        } else {
            0
        }
    }

    /// The run that waits is about to start, or is given up.
    fn account_for_late(&mut self, now: Moment) {
        if !self.makes_up && now.now.saturating_sub(self.deadline) < self.interval {
            return self.skip_ticks(1); // as good as always
        }
        let late = self.late(now);
        self.skip_ticks(late.saturating_add(u64::from(!self.makes_up)));
        match self.missed {
            Missed::Skip => self.lost.missed += late,
            Missed::CatchUp => self.owed = self.owed.saturating_add(late),
        }
    }

    fn skip_ticks(&mut self, count: u64) {
        self.next = self
            .next
            .saturating_add(count.saturating_mul(self.interval));
    }

    /// What it waits for after a run.
    fn wait_for_next(&mut self, now: Moment) {
        self.makes_up = self.owed > 0;
        if self.makes_up {
            self.owed -= 1;
            self.deadline = now.now;
            return;
        }
        if self.timing == Timing::FixedDelay {
            self.next = now.now.saturating_add(self.interval);
        }
        self.draw(now);
    }

    /// The deadline of the next tick.
    fn draw(&mut self, now: Moment) {
        let shift = if self.jitter == 0 {
            0
        } else {
            // A tick that is in time is not made to miss `until` by chance.
            let room = self.last(now).saturating_sub(self.next);
            fastrand::u64(0..=self.jitter).min(room)
        };
        self.deadline = self.next.saturating_add(shift);
    }

    fn lay_anew(&mut self, deadline: Nanos) {
        self.next = deadline;
        self.deadline = deadline;
        self.makes_up = false;
        self.owed = 0;
    }

    /// The deadline that it waits for now, unless that is past the end.
    fn goes_on(&mut self, now: Moment) -> Option<Nanos> {
        if self.is_past_end(now) {
            self.close(now);
            return None;
        }
        Some(self.deadline)
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
        Series::new(every, Moment::at(0)).expect("the test asks for sense")
    }

    /// One run from `start` to `end`, in milliseconds; the next deadline in milliseconds.
    fn run(series: &mut Series, start: u64, end: u64, runs: u64) -> Option<u64> {
        assert!(series.begin(Moment::at(start * MS)));
        series
            .end(Moment::at(end * MS), runs, false)
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
        strict.begin(Moment::at(10 * MS));
        assert_eq!(strict.end(Moment::at(10 * MS), 1, true), None);
        let mut lenient = series(&every(10));
        lenient.begin(Moment::at(10 * MS));
        let next = lenient.end(Moment::at(10 * MS), 1, true);
        assert_eq!(next, Some(20 * MS));
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
            // A moment late: less than a period after the deadline, more than one after the tick.
            series.begin(Moment::at(deadline + 9 * MS));
            assert_eq!(series.lost(Moment::at(deadline + 9 * MS)).missed, 0);
            // Ends before its own tick's successor, however late jitter made it start.
            assert!(series.end(Moment::at(n * 10 * MS), n, false).is_some());
        }
        assert_eq!(series.take_lost(), Lost::default());
    }

    #[test]
    fn a_moved_deadline_lays_the_ticks_anew() {
        let mut series = series(&every(10));
        series.restart(25 * MS, Moment::at(5 * MS));
        assert_eq!(series.deadline(), 25 * MS);
        series.begin(Moment::at(25 * MS));
        series.restart_after_run(100 * MS, Moment::at(25 * MS));
        let next = series.end(Moment::at(26 * MS), 1, false);
        assert_eq!(next, Some(100 * MS));
        assert_eq!(run(&mut series, 100, 101, 2), Some(110));
    }

    #[test]
    fn a_deadline_that_is_moved_and_passes_while_the_run_goes_is_counted_once() {
        for timing in [Timing::FixedRate, Timing::FixedDelay] {
            for overlap in [Overlap::Skip, Overlap::Queue] {
                for max_runs in [1, 9] {
                    let every = Every {
                        timing,
                        overlap,
                        max_runs: Some(max_runs),
                        ..every(10)
                    };
                    let (mut series, at) = (series(&every), |ms| Moment::at(ms * MS));
                    assert!(series.begin(at(10)));
                    series.restart_after_run(37 * MS, at(32)); // the ticks at 20 and 30 are over
                    series.restart_after_run(45 * MS, at(36)); // and that at 37 will never be
                    let is_rate = timing == Timing::FixedRate;
                    let (old, new) = if is_rate { (2, 4) } else { (0, 1) }; // 45, 55, 65, 75
                    assert_eq!(total(&series, 36), old);
                    assert_eq!(
                        series.lost(at(79)).skipped + series.lost(at(79)).missed,
                        old + new - 1
                    );
                    let next = series.end(at(79), 1, false);
                    if max_runs == 1 {
                        assert_eq!((next, total(&series, 79)), (None, old + new));
                    } else {
                        assert_eq!(next, Some(79 * MS), "the one that was set runs at once");
                        assert!(series.begin(at(79)));
                        let next = series.end(at(80), 2, false);
                        assert_eq!(next, Some(if is_rate { 85 } else { 90 } * MS));
                        assert_eq!(total(&series, 80), old + new - 1, "and is no loss");
                    }
                }
            }
        }
    }

    #[test]
    fn a_moved_deadline_owes_nothing_of_what_was_owed_and_has_no_jitter() {
        for after_run in [false, true] {
            let mut series = series(&Every {
                missed: Missed::CatchUp,
                jitter: Duration::from_millis(10),
                ..every(10)
            });
            series.begin(Moment::at(205 * MS)); // 18 or 19 runs are owed
            let ended = Moment::at(206 * MS);
            if after_run {
                series.restart_after_run(300 * MS, ended);
                assert_eq!(series.end(ended, 1, false), Some(300 * MS));
            } else {
                assert_eq!(series.end(ended, 1, false), Some(206 * MS));
                series.restart(300 * MS, ended);
                assert_eq!(series.deadline(), 300 * MS);
            }
            // What is not run any more is counted, and no run follows at once.
            assert_eq!(total(&series, 206), 19, "after the run: {after_run}");
            assert!((310..=320).contains(&run(&mut series, 300, 301, 2).unwrap()));
        }
    }

    /// All that was lost up to an instant, in milliseconds.
    fn total(series: &Series, at: u64) -> u64 {
        let lost = series.lost(Moment::at(at * MS));
        lost.skipped + lost.missed
    }

    #[test]
    fn catching_up_owes_every_tick_up_to_the_end_and_none_after_it() {
        let mut series = series(&Every {
            missed: Missed::CatchUp,
            until: Some(Duration::from_millis(50)),
            ..every(10)
        });
        let mut runs = 1;
        let mut next = run(&mut series, 1_000, 1_001, runs);
        while let Some(start) = next {
            runs += 1;
            next = run(&mut series, start, start + 500, runs);
        }
        assert_eq!((runs, total(&series, 90_000)), (5, 0));
    }

    #[test]
    fn ticks_after_the_end_are_neither_missed_nor_skipped() {
        let five = Every {
            until: Some(Duration::from_millis(50)),
            ..every(10)
        };
        let mut stalled = series(&five);
        assert_eq!(total(&stalled, 1_000), 4);
        assert_eq!(run(&mut stalled, 1_000, 1_001, 1), None);
        assert_eq!(total(&stalled, 90_000), 4);

        let mut hung = series(&five);
        hung.begin(Moment::at(10 * MS));
        assert_eq!(total(&hung, 29), 1);
        assert_eq!(total(&hung, 1_000), 4);
        assert_eq!(hung.end(Moment::at(1_000 * MS), 1, false), None);
        assert_eq!(total(&hung, 90_000), 4);
    }

    #[test]
    fn a_run_that_is_dropped_is_missed_and_the_next_tick_has_its_own() {
        let mut plain = series(&every(10));
        assert_eq!(plain.drop_run(Moment::at(31 * MS)), Some(40 * MS));
        assert_eq!(total(&plain, 31), 3);
        assert_eq!(run(&mut plain, 40, 41, 1), Some(50));

        let mut owing = series(&Every {
            missed: Missed::CatchUp,
            ..every(10)
        });
        assert_eq!(owing.drop_run(Moment::at(31 * MS)), Some(31 * MS));
        assert_eq!(total(&owing, 31), 1);

        let mut delayed = series(&Every {
            timing: Timing::FixedDelay,
            ..every(10)
        });
        assert_eq!(delayed.drop_run(Moment::at(31 * MS)), Some(41 * MS));
        assert_eq!(total(&delayed, 31), 1);
    }

    #[test]
    fn the_last_run_is_not_dropped_for_that_would_end_the_series() {
        let mut series = series(&Every {
            until: Some(Duration::from_millis(10)),
            ..every(10)
        });
        assert_eq!(series.drop_run(Moment::at(10 * MS)), None);
        assert_eq!(total(&series, 10), 0);
        assert_eq!(run(&mut series, 10, 11, 1), None);
    }

    /// An instant at which the wall clock, in milliseconds since 1970, shows `wall`.
    fn wall(now: u64, wall: u64) -> Moment {
        Moment {
            now: now * MS,
            wall: wall * MS,
        }
    }

    #[test]
    fn the_end_by_the_wall_clock_moves_when_the_wall_clock_is_set() {
        let five = Every {
            until_wall: Some(SystemTime::UNIX_EPOCH + Duration::from_millis(1_050)),
            ..every(10)
        };
        let posted = |five| Series::new(five, wall(0, 1_000)).unwrap();

        let mut forward = posted(&five);
        assert!(forward.begin(wall(10, 1_010)));
        assert_eq!(forward.end(wall(11, 1_011), 1, false), Some(20 * MS));
        // An hour on: the deadline at 20 is past the end now, and counts for nothing.
        assert!(forward.is_past_end(wall(12, 3_601_012)));
        assert!(!forward.begin(wall(20, 3_601_020)));
        assert_eq!(forward.end(wall(20, 3_601_020), 1, false), None);
        assert_eq!(forward.lost(wall(20, 3_601_020)), Lost::default());

        let mut back = posted(&five);
        for n in 1..=25 {
            // 200 ms back after the second run.
            let shown = |at| if n > 2 { 800 + at } else { 1_000 + at };
            assert!(back.begin(wall(n * 10, shown(n * 10))), "run {n}");
            let at = wall(n * 10 + 1, shown(n * 10 + 1));
            assert_eq!(back.end(at, n, false).is_some(), n < 25, "run {n}");
        }
        let refused = Series::new(&five, wall(0, 1_051)).unwrap_err();
        assert_eq!(refused.to_string(), "until is in the past, by 1ms");
    }

    #[test]
    fn nonsense_is_refused_by_name_and_value() {
        let refused = |every: Every| Series::new(&every, Moment::at(0)).unwrap_err().to_string();
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
        let mut series = Series::new(&century, Moment::at(Nanos::MAX - 5)).unwrap();
        assert_eq!(series.deadline(), Nanos::MAX);
        let end = Moment::at(Nanos::MAX);
        series.begin(end);
        assert_eq!(series.end(end, 1, false), Some(Nanos::MAX));
    }
}
