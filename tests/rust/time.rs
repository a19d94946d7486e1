//! Tasks that run later, or over and over, on a clock that is moved by hand.

mod bare;
mod clock;
mod reschedule;
mod series;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime};

use asynctask::clock::{Clock, Manual, Moment};
use asynctask::engine::{Engine, Job, Outcome, run};
use asynctask::pool::{Runner, Worker};
use asynctask::series::Series;
use asynctask::sync::{Parker, Wake};
use asynctask::task::{Cancel, Goal, Phase, Task};
use asynctask::{Error, Every, Missed, Overlap, Scheduler, SeriesHandle, Timing};
use crossbeam_channel::Receiver;

use crate::support::{
    PATIENCE, builder, by_hand, channel, eventually, field, gate, occupy, one_by_hand, receive,
    threads_called, wait,
};

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Moves the clock on, step by step, with all the runs that are due on the way.
fn run_for(clock: &Manual, by: Duration) {
    clock.run_for(by, PATIENCE, &mut || false).unwrap();
}

/// The present in milliseconds.
fn at(clock: &Manual) -> u64 {
    assert_eq!(clock.now() % 1_000_000, 0);
    clock.now() / 1_000_000
}

/// Posts a series that tells when its runs are, in milliseconds.
fn post(
    scheduler: &Scheduler,
    clock: &Arc<Manual>,
    every: &Every,
) -> (SeriesHandle<()>, Receiver<u64>) {
    post_with(scheduler, clock, every, |_| ())
}

/// The same, for runs that do something more.
fn post_with(
    scheduler: &Scheduler,
    clock: &Arc<Manual>,
    every: &Every,
    mut more: impl FnMut(&Manual) + Send + 'static,
) -> (SeriesHandle<()>, Receiver<u64>) {
    let (sender, receiver) = channel();
    let clock = Arc::clone(clock);
    let callback = move || {
        sender.send(at(&clock)).unwrap();
        more(&clock);
    };
    (scheduler.post_every(every, callback).unwrap(), receiver)
}

fn all(receiver: &Receiver<u64>) -> Vec<u64> {
    receiver.try_iter().collect()
}

#[test]
fn a_delay_runs_at_its_deadline_and_not_a_nanosecond_before() {
    let (clock, scheduler) = by_hand();
    for by in [
        1,
        4_999_999,
        5_000_000,
        86_400_000_000_000,
        40 * 365 * 86_400_000_000_000,
    ] {
        let (delay, before) = (Duration::from_nanos(by), Duration::from_nanos(by - 1));
        let deadline = clock.now() + by;
        let seen = Arc::clone(&clock);
        let task = scheduler.post_after(delay, move || seen.now()).unwrap();
        run_for(&clock, before);
        assert_eq!(task.view().phase(), Phase::Pending);
        run_for(&clock, Duration::from_nanos(1));
        assert_eq!(wait(task), Ok(deadline));
    }
    scheduler.shutdown();
}

#[test]
fn a_delay_of_nothing_is_due_at_once() {
    let (_, scheduler) = by_hand();
    let task = scheduler.post_after(Duration::ZERO, || 5).unwrap();
    assert_eq!(wait(task), Ok(5));
    scheduler.shutdown();
}

#[test]
fn delays_run_in_the_order_of_their_deadlines() {
    let (clock, scheduler) = one_by_hand();
    let (sender, receiver) = channel();
    for n in 0..1_000 {
        let delay = n * 7919 % 1_000;
        let sender = sender.clone();
        scheduler
            .post_after(ms(delay), move || sender.send(delay).unwrap())
            .unwrap();
    }
    clock.advance(ms(1_000)); // all at once
    assert!(receive(&receiver, 1_000).into_iter().eq(0..1_000));
    scheduler.shutdown();
}

#[test]
fn of_a_great_many_delays_half_are_cancelled_and_the_rest_run_once_and_never_early() {
    let count: usize = if cfg!(debug_assertions) {
        100_000
    } else {
        1_000_000
    };
    let clock = Arc::new(Manual::new());
    let scheduler = builder(2).clock(Arc::clone(&clock)).build().unwrap();
    let runs: Arc<[AtomicUsize]> = (0..count).map(|_| AtomicUsize::new(0)).collect();
    let early = Arc::new(AtomicUsize::new(0));
    let mut random = 1_usize;
    let mut next = || {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        random >> 33
    };
    let tasks: Vec<_> = (0..count)
        .map(|n| {
            // Up to 20 minutes: three tiers' worth.
            let delay = Duration::from_micros(next() as u64 % 1_200_000_000);
            let (runs, early) = (Arc::clone(&runs), Arc::clone(&early));
            let now = Arc::clone(&clock);
            let deadline = u64::try_from(delay.as_nanos()).unwrap();
            let task = scheduler.post_after(delay, move || {
                runs[n].fetch_add(1, Ordering::Relaxed);
                early.fetch_add(usize::from(now.now() < deadline), Ordering::Relaxed);
            });
            task.unwrap()
        })
        .collect();
    let mut order: Vec<usize> = (0..count).collect();
    for at in (1..count).rev() {
        order.swap(at, next() % (at + 1));
    }
    // Some are cancelled before, some while the others run, so some cancels come too late.
    let (before, during) = order[..count / 2].split_at(count / 4);
    assert!(before.iter().all(|&n| tasks[n].abort()));
    assert_eq!(scheduler.stats().pending_timers, count - before.len());
    let mut late = 0;
    for victims in during.chunks(during.len().div_ceil(1_300)) {
        clock.advance(Duration::from_secs(1));
        late += victims.iter().filter(|&&n| !tasks[n].abort()).count();
    }
    clock.advance(Duration::from_secs(1_200));
    let expected = (count - count / 2 + late) as u64;
    eventually("all have run", || scheduler.stats().successful == expected);
    for (n, task) in tasks.iter().enumerate() {
        let ran = usize::from(task.view().phase() == Phase::Finished);
        assert_eq!(runs[n].load(Ordering::Relaxed), ran);
    }
    assert_eq!(early.load(Ordering::Relaxed), 0);
    let handle = scheduler.handle().clone();
    scheduler.shutdown();
    let stats = handle.stats();
    assert_eq!(stats.submitted, stats.successful + stats.cancelled);
    assert_eq!(stats.cancelled, (count / 2 - late) as u64);
}

#[test]
fn delays_on_the_systems_clock_are_never_early() {
    let scheduler = builder(2).build().unwrap();
    let tasks: Vec<_> = (0..200)
        .map(|n| {
            let delay = Duration::from_micros(n * 50);
            let deadline = std::time::Instant::now() + delay;
            (
                deadline,
                scheduler
                    .post_after(delay, std::time::Instant::now)
                    .unwrap(),
            )
        })
        .collect();
    for (deadline, task) in tasks {
        assert!(wait(task).unwrap() >= deadline);
    }
    scheduler.shutdown();
}

#[test]
fn the_longest_delays_and_intervals_are_accepted() {
    let scheduler = builder(1).build().unwrap();
    let longest = Every::new(Duration::MAX)
        .first(Duration::MAX)
        .until(Duration::MAX)
        .jitter(Duration::MAX)
        .max_runs(u64::MAX);
    let at_once = longest.clone().first(Duration::ZERO).jitter(Duration::ZERO);
    let beat = scheduler.post_every(&at_once, || ()).unwrap();
    let nanos = Duration::from_nanos;
    let [first, second, _third] = [Duration::MAX, nanos(u64::MAX), nanos(u64::MAX - 1)]
        .map(|delay| scheduler.post_after(delay, || ()).unwrap());
    scheduler.post_every(&longest, || ()).unwrap();
    beat.wait_for_runs(1, Some(PATIENCE)).unwrap();
    // The timer still sees what is nearer.
    let near = scheduler.post_after(ms(1), || 1).unwrap();
    assert_eq!(wait(near), Ok(1));
    assert!(first.reschedule(Duration::MAX));
    assert!(beat.reschedule(Duration::MAX));
    assert_eq!(scheduler.stats().pending_timers, 5);
    assert!(second.reschedule(Duration::ZERO));
    assert_eq!(wait(second), Ok(()));
    scheduler.shutdown();
    assert_eq!(wait(first), Err(Error::Cancelled));
}

#[test]
fn the_end_of_time_is_reached_without_a_panic() {
    let (clock, scheduler) = by_hand();
    let delay = scheduler
        .post_after(Duration::from_nanos(u64::MAX - 1), || 5)
        .unwrap();
    let every = Every::new(Duration::from_nanos(u64::MAX / 4)).missed(Missed::CatchUp);
    let beat = scheduler.post_every(&every, || ()).unwrap();
    clock.advance_to(u64::MAX - 1); // the last instant; the next one stands for never
    assert_eq!(wait(delay), Ok(5));
    beat.wait_for_runs(4, Some(PATIENCE)).unwrap();
    scheduler.shutdown();
}

#[test]
fn an_idle_timer_thread_leaves_and_comes_back() {
    let builder = builder(1).idle_timeout(Duration::ZERO);
    let scheduler = builder.build().unwrap();
    for n in 0..500 {
        let delay = Duration::from_micros(n % 3 * 20);
        assert_eq!(wait(scheduler.post_after(delay, move || n).unwrap()), Ok(n));
    }
    eventually("it left", || {
        format!("{scheduler:?}").contains("has_thread: false")
    });
    scheduler.shutdown();
}
