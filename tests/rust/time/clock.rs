//! The counts, and clocks that are moved by hand or that panic.

use super::*;

#[test]
fn the_counts_tell_where_every_task_is() {
    let (clock, scheduler) = by_hand();
    let (busy, other) = (occupy(&scheduler), occupy(&scheduler));
    let queued = scheduler.post(|| ()).unwrap();
    let delay = scheduler.post_after(ms(5), || ()).unwrap();
    let beat = scheduler.post_every(&Every::new(ms(5)), || ()).unwrap();
    let stats = scheduler.stats();
    assert_eq!(
        (stats.pool.max_workers, stats.pool.running, stats.pool.idle),
        (2, 2, 0)
    );
    assert_eq!(
        (stats.pool.waiting, stats.pending_timers, stats.submitted),
        (1, 2, 5)
    );
    assert_eq!(
        (
            stats.successful,
            stats.failed,
            stats.cancelled,
            stats.dropped
        ),
        (0, 0, 0, 0)
    );
    drop((busy, other));
    assert_eq!(wait(queued), Ok(()));
    run_for(&clock, ms(20));
    assert_eq!(wait(delay), Ok(()));
    let stats = scheduler.stats();
    assert_eq!(
        (stats.pool.running, stats.pool.idle, stats.pool.waiting),
        (0, 2, 0)
    );
    // A series is one task, however often it runs.
    assert_eq!(
        (stats.pending_timers, stats.successful, beat.runs()),
        (1, 4, 4)
    );
    let handle = scheduler.handle().clone();
    scheduler.shutdown();
    let stats = handle.stats();
    assert_eq!(
        (stats.submitted, stats.successful, stats.cancelled),
        (5, 4, 1)
    );
}

#[test]
fn moving_the_clock_gives_up_on_a_run_that_does_not_end() {
    let (clock, scheduler) = by_hand();
    let busy = occupy(&scheduler);
    let given_up = clock.run_for(ms(5), ms(2), &mut || false);
    assert_eq!(given_up, Err(Error::TimedOut));
    drop(busy);
    run_for(&clock, ms(5));
    scheduler.shutdown();
}

#[test]
fn one_clock_moves_two_schedulers_in_step() {
    let (clock, first) = by_hand();
    let second = builder(1).clock(Arc::clone(&clock)).build().unwrap();
    let (sender, order) = channel();
    for (scheduler, delay) in [(&first, 3), (&second, 2), (&first, 1), (&second, 4)] {
        let sender = sender.clone();
        scheduler
            .post_after(ms(delay), move || sender.send(delay).unwrap())
            .unwrap();
    }
    run_for(&clock, ms(5));
    assert!(order.try_iter().eq(1..=4));
    first.shutdown();
    second.shutdown();
}

/// A clock that panics while it is told to.
#[derive(Debug, Default)]
struct Broken {
    clock: Manual,
    panicking: std::sync::atomic::AtomicBool,
}

impl Clock for Broken {
    fn now(&self) -> u64 {
        if self.panicking.load(Ordering::SeqCst) {
            std::panic::resume_unwind(Box::new("no time")); // without the panic hook's report
        }
        self.clock.now()
    }

    fn instant_of(&self, deadline: u64) -> Option<Instant> {
        self.clock.instant_of(deadline)
    }

    fn subscribe(&self, sleeper: Weak<dyn Wake>) {
        self.clock.subscribe(sleeper);
    }
}

#[test]
fn a_clock_that_panics_leaves_no_task_without_its_end() {
    let clock = Arc::new(Broken::default());
    let scheduler = builder(2).clock(Arc::clone(&clock)).build().unwrap();
    let (key, gate) = gate();
    let (started, has_started) = channel();
    let run = move || {
        started.send(()).unwrap();
        gate.pass();
    };
    let two = Every::new(ms(10)).max_runs(2);
    let series = scheduler.post_every(&two, run).unwrap();
    clock.clock.advance(ms(10));
    receive(&has_started, 1);
    clock.panicking.store(true, Ordering::SeqCst);
    drop(key); // the run ends while nobody can say what time it is
    series.wait_for_runs(1, Some(PATIENCE)).unwrap();
    clock.panicking.store(false, Ordering::SeqCst);
    clock.clock.advance(ms(10));
    assert_eq!(wait(series), Ok(()));

    clock.panicking.store(true, Ordering::SeqCst);
    assert_eq!(wait(scheduler.post(|| 5).unwrap()), Ok(5));
    scheduler.shutdown();
}
