//! A series against a simple model, which goes through the ticks one by one.
//!
//! The model is as slow as it is plain: it walks from tick to tick, and each tick has one fate. The
//! series computes with whole periods, and must come to the same.

use std::time::Duration;

use asynctask::Every;
use asynctask::clock::Moment;
use asynctask::series::{Lost, Missed, Overlap, Series, Timing};
use proptest::prelude::*;

/// What has become of the ticks.
#[derive(Debug)]
struct Model {
    every: Every,
    interval: u64,
    until: u64,
    /// The tick that has no fate yet.
    next: u64,
    /// When the run that waits may start, and whether it is that of `next`.
    deadline: u64,
    is_own: bool,
    owed: u64,
    runs: u64,
    skipped: u64,
    missed: u64,
    over: bool,
}

impl Model {
    fn new(every: &Every) -> Self {
        let interval = u64::try_from(every.interval.as_nanos()).unwrap();
        let until = every
            .until
            .map_or(u64::MAX, |until| u64::try_from(until.as_nanos()).unwrap());
        Self {
            every: every.clone(),
            interval,
            until,
            next: interval,
            deadline: interval,
            is_own: true,
            owed: 0,
            runs: 0,
            skipped: 0,
            missed: 0,
            over: false,
        }
    }

    /// The ticks that have come by `now` and have no fate yet, taken off one by one.
    fn come(&mut self, now: u64) -> u64 {
        let mut ticks = 0;
        while self.every.timing == Timing::FixedRate && self.next <= now.min(self.until) {
            self.next += self.interval;
            ticks += 1;
        }
        ticks
    }

    /// The run that waits takes its tick, and is too late for those that have come besides.
    fn take(&mut self, now: u64) {
        let ticks = self.come(now);
        let late = if self.is_own {
            ticks.saturating_sub(1)
        } else {
            ticks
        };
        match self.every.missed {
            Missed::Skip => self.missed += late,
            _ => self.owed += late,
        }
    }

    fn wait_for_next(&mut self, now: u64) {
        self.is_own = self.owed == 0;
        if self.is_own {
            if self.every.timing == Timing::FixedDelay {
                self.next = now + self.interval;
            }
            self.deadline = self.next;
            self.over = self.next > self.until;
        } else {
            self.owed -= 1;
            self.deadline = now;
        }
    }

    fn run(&mut self, start: u64, end: u64, failed: bool) {
        self.take(start);
        self.runs += 1;
        let passed = self.come(end);
        let last = self.every.max_runs == Some(self.runs);
        if last || (failed && self.every.stop_on_error) {
            self.skipped += passed;
            self.missed += self.owed;
            self.over = true;
            return;
        }
        let queued = u64::from(self.every.overlap == Overlap::Queue && passed > 0);
        self.skipped += passed - queued;
        self.owed += queued;
        self.wait_for_next(end);
    }

    fn drop_run(&mut self, now: u64) {
        self.take(now);
        self.missed += 1;
        self.wait_for_next(now);
    }

    fn cancel(&mut self, now: u64) {
        if now >= self.deadline {
            let ticks = self.come(now);
            let own = u64::from(!self.is_own || self.every.timing == Timing::FixedDelay);
            self.missed += ticks + own + self.owed;
        }
        self.over = true;
    }

    /// Ticks that have been due.
    fn due(&self, now: u64) -> u64 {
        now.min(self.until) / self.interval
    }
}

/// What happens to the run that waits: late by so much, it takes so long, and how it ends.
#[derive(Clone, Debug)]
enum Step {
    Run { late: u64, takes: u64, fails: bool },
    Drop { late: u64 },
    Cancel { after: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    // Mostly short, sometimes a stall of many periods.
    let time = || prop_oneof![4 => 0_u64..12, 1 => 0_u64..400];
    prop_oneof![
        12 => (time(), time(), prop::bool::weighted(0.1))
            .prop_map(|(late, takes, fails)| Step::Run { late, takes, fails }),
        2 => time().prop_map(|late| Step::Drop { late }),
        1 => time().prop_map(|after| Step::Cancel { after }),
    ]
}

fn every() -> impl Strategy<Value = Every> {
    let timing = prop_oneof![4 => Just(Timing::FixedRate), 1 => Just(Timing::FixedDelay)];
    let overlap = prop_oneof![Just(Overlap::Skip), Just(Overlap::Queue)];
    let missed = prop_oneof![Just(Missed::Skip), Just(Missed::CatchUp)];
    let max_runs = prop::option::of(1_u64..12);
    let until = prop::option::of(10_u64..300);
    (timing, overlap, missed, max_runs, until, any::<bool>()).prop_map(
        |(timing, overlap, missed, max_runs, until, stop_on_error)| {
            let mut every = Every::new(Duration::from_nanos(10))
                .timing(timing)
                .overlap(overlap)
                .missed(missed)
                .stop_on_error(stop_on_error);
            every.max_runs = max_runs;
            every.until = until.map(Duration::from_nanos);
            every
        },
    )
}

/// The losses never go back, and are those of the model in the end.
struct Watched {
    series: Series,
    seen: Lost,
}

impl Watched {
    fn lost(&mut self, now: u64) -> Lost {
        let lost = self.series.lost(Moment::at(now));
        assert!(
            lost.skipped >= self.seen.skipped && lost.missed >= self.seen.missed,
            "{lost:?} after {:?}",
            self.seen
        );
        self.seen = lost;
        lost
    }
}

fn check(every: &Every, steps: &[Step]) {
    let mut model = Model::new(every);
    let series = Series::new(every, Moment::at(0)).unwrap();
    let mut watched = Watched {
        series,
        seen: Lost::default(),
    };
    let mut now = 0;
    for step in steps {
        assert_eq!(watched.series.deadline(), model.deadline);
        let before = now;
        now = now.max(model.deadline);
        let next = match *step {
            Step::Run { late, takes, fails } => {
                watched.lost(now + late / 2);
                now += late;
                let lost = watched.lost(now);
                assert!(watched.series.begin(Moment::at(now)));
                assert_eq!(watched.lost(now), lost, "it starts");
                watched.lost(now + takes / 2);
                let end = now + takes;
                let hung = watched.lost(end);
                let next = watched.series.end(Moment::at(end), model.runs + 1, fails);
                model.run(now, end, fails);
                assert!(hung.skipped <= model.skipped && hung.missed <= model.missed);
                now = end;
                next
            }
            Step::Drop { late } => {
                now += late;
                let next = watched.series.drop_run(Moment::at(now));
                if next.is_none() {
                    // It would have been the end of it, so the run stays; it comes later.
                    assert!(model.until != u64::MAX);
                    continue;
                }
                model.drop_run(now);
                next
            }
            Step::Cancel { after } => {
                // Before it is due or after.
                now = before.max((now + after).saturating_sub(6));
                watched.series.close(Moment::at(now));
                model.cancel(now);
                None
            }
        };
        assert_eq!(next.is_none(), model.over);
        let lost = watched.lost(now);
        assert_eq!((lost.skipped, lost.missed), (model.skipped, model.missed));
        if every.timing == Timing::FixedRate {
            // One that waits and is due has no fate yet.
            let waits =
                u64::from(!model.over && !model.is_own) + model.owed * u64::from(!model.over);
            assert_eq!(
                model.runs + model.skipped + model.missed + waits,
                model.due(now),
                "at {now}: {model:?}"
            );
        }
        if model.over {
            assert_eq!(watched.lost(now + 1_000), lost, "over is over");
            return;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, ..ProptestConfig::default() })]

    #[test]
    fn every_tick_is_run_skipped_or_missed(
        every in every(),
        steps in prop::collection::vec(step(), 1..40),
    ) {
        check(&every, &steps);
    }
}
