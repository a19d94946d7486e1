//! Tasks that run later, or over and over, on a clock that is moved by hand.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime};

use asynctask::clock::{Clock, Manual, Moment};
use asynctask::engine::{Engine, Job, Outcome, run};
use asynctask::pool::{PoolOptions, Runner, Worker};
use asynctask::series::{Lost, Missed, Overlap, Series, Timing};
use asynctask::sync::{Parker, Wake};
use asynctask::task::{Cancel, Goal, Phase, Task};
use asynctask::{Error, Every, Handle, Options, Scheduler};
use crossbeam_channel::Receiver;

use crate::support::{
    PATIENCE, by_hand, channel, eventually, field, gate, occupy, receive, scheduler, threads_called,
};

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Moves the clock on, step by step, with all the runs that are due on the way.
fn run_for(clock: &Manual, by: Duration) {
    clock.run_for(by, PATIENCE, &mut || false).unwrap();
}

fn wait<T: Send + 'static>(handle: &Handle<T>) -> Result<T, Error> {
    handle.wait_timeout(PATIENCE)
}

/// The present in milliseconds.
fn at(clock: &Manual) -> u64 {
    assert_eq!(clock.now() % 1_000_000, 0);
    clock.now() / 1_000_000
}

/// Posts a series that tells when its runs are, in milliseconds.
fn post(scheduler: &Scheduler, clock: &Arc<Manual>, every: &Every) -> (Handle<()>, Receiver<u64>) {
    post_with(scheduler, clock, every, |_| ())
}

/// The same, for runs that do something more.
fn post_with(
    scheduler: &Scheduler,
    clock: &Arc<Manual>,
    every: &Every,
    mut more: impl FnMut(&Manual) + Send + 'static,
) -> (Handle<()>, Receiver<u64>) {
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

// ===== Delays =====

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
        assert_eq!(wait(&task), Ok(deadline));
    }
    scheduler.shutdown();
}

#[test]
fn a_delay_of_nothing_is_due_at_once() {
    let (_, scheduler) = by_hand();
    let task = scheduler.post_after(Duration::ZERO, || 5).unwrap();
    assert_eq!(wait(&task), Ok(5));
    scheduler.shutdown();
}

#[test]
fn delays_run_in_the_order_of_their_deadlines() {
    let clock = Arc::new(Manual::new());
    let options = Options {
        clock: Some(Arc::<Manual>::clone(&clock)),
        ..Options::default()
    };
    let scheduler = scheduler(1, options);
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
    let options = Options {
        clock: Some(Arc::<Manual>::clone(&clock)),
        ..Options::default()
    };
    let scheduler = scheduler(2, options);
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
    assert!(before.iter().all(|&n| tasks[n].cancel()));
    assert_eq!(scheduler.stats().pending_timers, count - before.len());
    let mut late = 0;
    for victims in during.chunks(during.len().div_ceil(1_300)) {
        clock.advance(Duration::from_secs(1));
        late += victims.iter().filter(|&&n| !tasks[n].cancel()).count();
    }
    clock.advance(Duration::from_secs(1_200));
    let expected = (count - count / 2 + late) as u64;
    eventually("all have run", || scheduler.stats().successful == expected);
    for (n, task) in tasks.iter().enumerate() {
        let ran = usize::from(task.view().phase() == Phase::Finished);
        assert_eq!(runs[n].load(Ordering::Relaxed), ran);
    }
    assert_eq!(early.load(Ordering::Relaxed), 0);
    scheduler.shutdown();
    let stats = scheduler.stats();
    assert_eq!(stats.submitted, stats.successful + stats.cancelled);
    assert_eq!(stats.cancelled, (count / 2 - late) as u64);
}

#[test]
fn delays_on_the_systems_clock_are_never_early() {
    let scheduler = scheduler(2, Options::default());
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
        assert!(wait(&task).unwrap() >= deadline);
    }
    scheduler.shutdown();
}

#[test]
fn the_longest_delays_and_intervals_are_accepted() {
    let scheduler = scheduler(1, Options::default());
    let longest = Every {
        first: Some(Duration::MAX),
        until: Some(Duration::MAX),
        jitter: Duration::MAX,
        max_runs: Some(u64::MAX),
        ..Every::new(Duration::MAX)
    };
    let at_once = Every {
        first: Some(Duration::ZERO),
        jitter: Duration::ZERO,
        ..longest.clone()
    };
    let beat = scheduler.post_every(&at_once, || ()).unwrap();
    let tasks = [
        scheduler.post_after(Duration::MAX, || ()).unwrap(),
        scheduler
            .post_after(Duration::from_nanos(u64::MAX), || ())
            .unwrap(),
        scheduler
            .post_after(Duration::from_nanos(u64::MAX - 1), || ())
            .unwrap(),
        scheduler.post_every(&longest, || ()).unwrap(),
    ];
    beat.wait_for_runs(1, Some(PATIENCE)).unwrap();
    // The timer still sees what is nearer.
    let near = scheduler.post_after(ms(1), || 1).unwrap();
    assert_eq!(wait(&near), Ok(1));
    assert!(tasks[0].reschedule(Duration::MAX));
    assert!(beat.reschedule(Duration::MAX));
    assert_eq!(scheduler.stats().pending_timers, 5);
    assert!(tasks[1].reschedule(Duration::ZERO));
    assert_eq!(wait(&tasks[1]), Ok(()));
    scheduler.shutdown();
    assert_eq!(wait(&tasks[0]), Err(Error::Cancelled));
}

#[test]
fn the_end_of_time_is_reached_without_a_panic() {
    let (clock, scheduler) = by_hand();
    let delay = scheduler
        .post_after(Duration::from_nanos(u64::MAX - 1), || 5)
        .unwrap();
    let every = Every {
        missed: Missed::CatchUp,
        ..Every::new(Duration::from_nanos(u64::MAX / 4))
    };
    let beat = scheduler.post_every(&every, || ()).unwrap();
    clock.advance_to(u64::MAX - 1); // the last instant; the next one stands for never
    assert_eq!(wait(&delay), Ok(5));
    beat.wait_for_runs(4, Some(PATIENCE)).unwrap();
    scheduler.shutdown();
}

#[test]
fn an_idle_timer_thread_leaves_and_comes_back() {
    let pool = PoolOptions {
        idle_timeout: Duration::ZERO,
        ..PoolOptions::default()
    };
    let scheduler = scheduler(
        1,
        Options {
            pool,
            ..Options::default()
        },
    );
    for n in 0..500 {
        let delay = Duration::from_micros(n % 3 * 20);
        assert_eq!(
            wait(&scheduler.post_after(delay, move || n).unwrap()),
            Ok(n)
        );
    }
    eventually("it left", || {
        format!("{scheduler:?}").contains("has_thread: false")
    });
    scheduler.shutdown();
}

// ===== Series: when =====

#[test]
fn every_20_ms_runs_five_times_in_110_ms() {
    let (clock, scheduler) = by_hand();
    let (beat, runs) = post(&scheduler, &clock, &Every::new(ms(20)));
    run_for(&clock, ms(110));
    assert_eq!(all(&runs), [20, 40, 60, 80, 100]);
    assert_eq!(beat.view().runs(), 5);
    assert_eq!(beat.view().phase(), Phase::Pending);
    scheduler.shutdown();
}

#[test]
fn after_5_ms_and_then_every_20_ms_runs_six_times_in_110_ms() {
    let (clock, scheduler) = by_hand();
    let every = Every {
        first: Some(ms(5)),
        ..Every::new(ms(20))
    };
    let (_beat, runs) = post(&scheduler, &clock, &every);
    run_for(&clock, ms(110));
    assert_eq!(all(&runs), [5, 25, 45, 65, 85, 105]);
    scheduler.shutdown();
}

#[test]
fn ten_thousand_beats_do_not_drift() {
    let (clock, scheduler) = by_hand();
    let every = Every::new(Duration::from_nanos(1_000_003));
    let now = Arc::clone(&clock);
    let (sender, seen) = channel();
    let beat = scheduler
        .post_every(&every, move || sender.send(now.now()).unwrap())
        .unwrap();
    let count = if cfg!(debug_assertions) {
        2_000
    } else {
        10_000
    };
    run_for(&clock, Duration::from_nanos(1_000_003) * count);
    assert!(
        seen.try_iter()
            .eq((1..=u64::from(count)).map(|n| n * 1_000_003))
    );
    beat.stop();
    scheduler.shutdown();
}

#[test]
fn a_series_that_is_stopped_runs_no_more() {
    let (clock, scheduler) = by_hand();
    let (beat, runs) = post(&scheduler, &clock, &Every::new(ms(20)));
    run_for(&clock, ms(50));
    beat.stop();
    run_for(&clock, ms(100));
    assert_eq!(all(&runs), [20, 40]);
    assert_eq!(wait(&beat), Err(Error::Cancelled));
    assert_eq!(beat.wait_for_runs(2, None), Ok(()));
    assert_eq!(beat.wait_for_runs(3, None), Err(Error::Cancelled));
    assert_eq!(scheduler.stats().cancelled, 1);
    scheduler.shutdown();
}

#[test]
fn stopping_a_series_in_its_run_neither_waits_nor_cuts_it_short() {
    let (clock, scheduler) = by_hand();
    let (key, gate) = gate();
    let (beat, runs) = post_with(&scheduler, &clock, &Every::new(ms(20)), move |_| {
        gate.pass();
    });
    clock.advance(ms(20));
    assert_eq!(receive(&runs, 1), [20]);
    beat.stop();
    assert_eq!(beat.view().phase(), Phase::Running);
    assert_eq!(beat.wait_timeout(ms(1)), Err(Error::TimedOut));
    drop(key);
    assert_eq!(wait(&beat), Err(Error::Cancelled));
    assert_eq!(beat.view().runs(), 1);
    scheduler.shutdown();
}

#[test]
fn a_series_that_stops_itself_ends_with_that_run() {
    let (clock, scheduler) = by_hand();
    let (hand_over, handed_over) = channel::<Handle<()>>();
    let beat = scheduler.post_every(&Every::new(ms(20)), move || {
        let itself = handed_over.recv_timeout(PATIENCE).unwrap();
        itself.stop();
        assert!(itself.cancel());
    });
    hand_over.send(beat.unwrap()).unwrap();
    run_for(&clock, ms(100));
    let stats = scheduler.stats();
    assert_eq!(
        (stats.cancelled, stats.failed, stats.pending_timers),
        (1, 0, 0)
    );
    scheduler.shutdown();
}

#[test]
fn a_series_ends_after_its_last_run() {
    let (clock, scheduler) = by_hand();
    let mut runs = 0;
    let every = Every {
        max_runs: Some(3),
        ..Every::new(ms(20))
    };
    let beat = scheduler.post_every(&every, move || {
        runs += 1;
        runs
    });
    let beat = beat.unwrap();
    run_for(&clock, ms(200));
    assert_eq!(wait(&beat), Ok(3));
    assert_eq!(beat.view().runs(), 3);
    assert_eq!(beat.wait_for_runs(4, None), Err(Error::Ended { runs: 3 }));
    let stats = scheduler.stats();
    assert_eq!((stats.successful, stats.pending_timers), (1, 0));
    scheduler.shutdown();
}

#[test]
fn a_series_ends_before_the_first_deadline_past_its_end() {
    let (clock, scheduler) = by_hand();
    run_for(&clock, ms(1_000)); // the end counts from posting
    let every = Every {
        until: Some(ms(60)),
        ..Every::new(ms(20))
    };
    let (beat, runs) = post(&scheduler, &clock, &every);
    run_for(&clock, ms(200));
    assert_eq!(all(&runs), [1_020, 1_040, 1_060]);
    assert_eq!(wait(&beat), Ok(()));
    scheduler.shutdown();
}

#[test]
fn jitter_is_added_to_each_deadline_and_does_not_accumulate() {
    let (clock, scheduler) = by_hand();
    let every = Every {
        jitter: ms(10),
        ..Every::new(ms(20))
    };
    let now = Arc::clone(&clock);
    let (sender, seen) = channel();
    scheduler
        .post_every(&every, move || sender.send(now.now()).unwrap())
        .unwrap();
    run_for(&clock, ms(20 * 200 + 10));
    let seen: Vec<u64> = seen.try_iter().collect();
    assert_eq!(seen.len(), 200);
    for (n, at) in (1..).zip(&seen) {
        assert!(
            (n * 20_000_000..=n * 20_000_000 + 10_000_000).contains(at),
            "{n}: {at}"
        );
    }
    assert!(seen.windows(2).any(|pair| pair[1] - pair[0] != 20_000_000));
    scheduler.shutdown();
}

#[test]
fn a_series_that_makes_no_sense_is_refused_and_counts_for_nothing() {
    let (_, scheduler) = by_hand();
    let refused = scheduler
        .post_every(&Every::new(Duration::ZERO), || ())
        .unwrap_err();
    assert!(matches!(
        refused,
        Error::Invalid {
            argument: "interval",
            ..
        }
    ));
    assert_eq!(scheduler.stats().submitted, 0);
    scheduler.shutdown();
}

// ===== Series: runs that take time, and stalls =====

#[test]
fn fixed_delay_counts_from_the_end_of_each_run() {
    let (clock, scheduler) = by_hand();
    let every = Every {
        timing: Timing::FixedDelay,
        ..Every::new(ms(20))
    };
    let (_beat, runs) = post_with(&scheduler, &clock, &every, |clock| clock.advance(ms(35)));
    run_for(&clock, ms(200));
    assert_eq!(all(&runs), [20, 75, 130, 185]);
    assert_eq!(
        (
            scheduler.stats().skipped_runs,
            scheduler.stats().missed_runs
        ),
        (0, 0)
    );
    scheduler.shutdown();
}

#[test]
fn ticks_that_find_the_previous_run_still_going_are_skipped_and_counted() {
    let (clock, scheduler) = by_hand();
    let (_beat, runs) = post_with(&scheduler, &clock, &Every::new(ms(20)), |clock| {
        clock.advance(ms(50));
    });
    run_for(&clock, ms(200));
    assert_eq!(all(&runs), [20, 80, 140, 200]);
    assert_eq!(scheduler.stats().skipped_runs, 8);
    assert_eq!(scheduler.stats().missed_runs, 0);
    scheduler.shutdown();
}

#[test]
fn a_run_that_ends_with_a_tick_does_not_run_twice_for_it() {
    let (clock, scheduler) = by_hand();
    let (_beat, runs) = post_with(&scheduler, &clock, &Every::new(ms(20)), |clock| {
        clock.advance(ms(20));
    });
    run_for(&clock, ms(100));
    assert_eq!(all(&runs), [20, 60, 100]);
    assert_eq!(scheduler.stats().skipped_runs, 3);
    scheduler.shutdown();
}

#[test]
fn an_overlapped_tick_is_run_once_afterwards_if_asked_for() {
    let (clock, scheduler) = by_hand();
    let every = Every {
        overlap: Overlap::Queue,
        ..Every::new(ms(20))
    };
    let mut first = true;
    let (_beat, runs) = post_with(&scheduler, &clock, &every, move |clock| {
        if std::mem::take(&mut first) {
            clock.advance(ms(50));
        }
    });
    run_for(&clock, ms(120));
    assert_eq!(all(&runs), [20, 70, 80, 100, 120]);
    assert_eq!(scheduler.stats().skipped_runs, 1);
    scheduler.shutdown();
}

#[test]
fn periods_missed_in_a_stall_are_skipped_and_counted() {
    let (clock, scheduler) = by_hand();
    let (_beat, runs) = post(&scheduler, &clock, &Every::new(ms(20)));
    run_for(&clock, ms(30));
    clock.advance(ms(100)); // to 130, in one go
    run_for(&clock, ms(40));
    assert_eq!(all(&runs), [20, 130, 140, 160]);
    assert_eq!(
        (
            scheduler.stats().missed_runs,
            scheduler.stats().skipped_runs
        ),
        (4, 0)
    );
    scheduler.shutdown();
}

#[test]
fn periods_missed_in_a_stall_are_caught_up_one_by_one() {
    let (clock, scheduler) = by_hand();
    let every = Every {
        missed: Missed::CatchUp,
        ..Every::new(ms(20))
    };
    let (_beat, runs) = post(&scheduler, &clock, &every);
    run_for(&clock, ms(30));
    clock.advance(ms(100)); // to 130, in one go
    run_for(&clock, ms(40));
    assert_eq!(all(&runs), [20, 130, 130, 130, 130, 130, 140, 160]);
    assert_eq!(
        (
            scheduler.stats().missed_runs,
            scheduler.stats().skipped_runs
        ),
        (0, 0)
    );
    scheduler.shutdown();
}

#[test]
fn a_pool_without_a_free_worker_makes_a_series_miss_its_ticks() {
    let clock = Arc::new(Manual::new());
    let options = Options {
        clock: Some(Arc::<Manual>::clone(&clock)),
        ..Options::default()
    };
    let scheduler = scheduler(1, options);
    let (beat, runs) = post(&scheduler, &clock, &Every::new(ms(20)));
    let busy = occupy(&scheduler);
    clock.advance(ms(20));
    eventually("it is queued", || scheduler.stats().pool.waiting == 1);
    clock.advance(ms(45)); // one series waits for a worker once, however long
    drop(busy);
    beat.wait_for_runs(1, Some(PATIENCE)).unwrap();
    run_for(&clock, ms(20));
    assert_eq!(all(&runs), [65, 80]);
    assert_eq!(scheduler.stats().missed_runs, 2);
    scheduler.shutdown();
}

// ===== Cancel and reschedule =====

#[test]
fn what_a_run_that_hangs_costs_is_counted_while_it_hangs() {
    let (clock, scheduler) = by_hand();
    scheduler.resize(1).unwrap();
    let (key, gate) = gate();
    let (started, has_started) = channel();
    let run = move || {
        started.send(()).unwrap();
        gate.pass();
    };
    let hung = scheduler.post_every(&Every::new(ms(10)), run).unwrap();
    clock.advance(ms(10));
    receive(&has_started, 1);
    clock.advance(ms(100));
    assert_eq!(scheduler.stats().skipped_runs, 10);
    assert_eq!(
        hung.lost(),
        Lost {
            skipped: 10,
            missed: 0
        }
    );
    let starved = scheduler.post_every(&Every::new(ms(10)), || ()).unwrap();
    clock.advance(ms(100));
    let stats = scheduler.stats();
    assert_eq!((stats.skipped_runs, stats.missed_runs), (20, 9));
    assert_eq!(
        starved.lost(),
        Lost {
            skipped: 0,
            missed: 9
        }
    );
    drop(key);
    run_for(&clock, ms(0));
    let stats = scheduler.stats();
    assert_eq!((stats.skipped_runs, stats.missed_runs), (20, 9));
    assert_eq!(hung.view().runs() + starved.view().runs(), 2);
    // A tick that is due and will have no run is missed.
    let busy = occupy(&scheduler);
    clock.advance(ms(10));
    eventually("both are queued", || scheduler.stats().pool.waiting == 2);
    assert!(hung.cancel() && starved.cancel());
    assert_eq!(scheduler.stats().missed_runs, 11);
    drop(busy);
    scheduler.shutdown();
    assert_eq!(scheduler.stats().missed_runs, 11);
}

#[test]
#[cfg(target_os = "linux")]
fn the_timer_keeps_its_thread_while_a_run_goes_and_lets_it_go_after_the_last() {
    let pool = PoolOptions {
        idle_timeout: ms(1),
        thread_name: "kept".to_owned(),
        ..PoolOptions::default()
    };
    let options = Options {
        pool,
        ..Options::default()
    };
    let scheduler = scheduler(1, options);
    let (key, gate) = gate();
    let (started, has_started) = channel();
    let once = Every {
        max_runs: Some(1),
        ..Every::new(ms(1))
    };
    let run = move || {
        started.send(()).unwrap();
        gate.pass();
    };
    let series = scheduler.post_every(&once, run).unwrap();
    receive(&has_started, 1);
    // Many times what makes it leave otherwise.
    Parker::new().park(Some(Instant::now() + ms(50)));
    assert_eq!(threads_called("kept-timer"), 1);
    drop(key);
    assert_eq!(wait(&series), Ok(()));
    eventually("it leaves", || threads_called("kept-timer") == 0);
}

#[test]
fn the_counts_never_go_back_while_runs_start_and_end() {
    let (clock, scheduler) = by_hand();
    let series: Vec<_> = (0..40)
        .map(|_| scheduler.post_every(&Every::new(ms(1)), || ()).unwrap())
        .collect();
    let done = AtomicU64::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut before = 0;
            while done.load(Ordering::SeqCst) == 0 {
                let stats = scheduler.stats();
                let lost = stats.skipped_runs + stats.missed_runs;
                assert!(lost >= before, "{lost} after {before}");
                before = lost;
            }
        });
        for _ in 0..500 {
            clock.advance(ms(3));
        }
        run_for(&clock, ms(0));
        done.store(1, Ordering::SeqCst);
    });
    let stats = scheduler.stats();
    let runs: u64 = series.iter().map(|series| series.view().runs()).sum();
    assert_eq!(runs + stats.skipped_runs + stats.missed_runs, 40 * 1_500);
    scheduler.shutdown();
}

#[test]
fn a_series_ends_as_the_wall_clock_says_however_it_is_set() {
    let (clock, scheduler) = by_hand();
    let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    clock.set_wall(start);
    let until = |seconds| Every {
        until_wall: Some(start + Duration::from_secs(seconds)),
        ..Every::new(Duration::from_secs(60))
    };
    let (series, runs) = post(&scheduler, &clock, &until(330));
    run_for(&clock, Duration::from_secs(120));
    // An hour back: it goes on for an hour more.
    clock.set_wall(start + Duration::from_secs(120) - Duration::from_secs(3600));
    run_for(&clock, Duration::from_secs(3600));
    assert_eq!(series.view().runs(), 62);
    // Two minutes forward, and it is over at once, without another run.
    clock.set_wall(start + Duration::from_secs(240));
    run_for(&clock, Duration::from_secs(30));
    assert_eq!(series.view().phase(), Phase::Pending);
    clock.set_wall(start + Duration::from_secs(331));
    assert_eq!(wait(&series), Ok(()));
    assert_eq!((series.view().runs(), all(&runs).len()), (62, 62));
    let stats = scheduler.stats();
    assert_eq!(
        (stats.successful, stats.skipped_runs, stats.missed_runs),
        (1, 0, 0)
    );

    let past = scheduler.post_every(&until(330), || ()).unwrap_err();
    assert_eq!(past.to_string(), "until is in the past, by 1s");
    let (short, _runs) = post(&scheduler, &clock, &until(391));
    run_for(&clock, Duration::from_secs(61));
    assert_eq!((wait(&short), short.view().runs()), (Ok(()), 1));
}

#[test]
fn a_due_run_that_the_wall_clock_has_overtaken_does_not_run() {
    let (clock, scheduler) = by_hand();
    scheduler.resize(1).unwrap();
    let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    clock.set_wall(start);
    let every = Every {
        until_wall: Some(start + Duration::from_secs(100)),
        ..Every::new(Duration::from_secs(10))
    };
    let busy = occupy(&scheduler);
    let (series, runs) = post(&scheduler, &clock, &every);
    clock.advance(Duration::from_secs(10));
    eventually("it is queued", || scheduler.stats().pool.waiting == 1);
    clock.set_wall(start + Duration::from_secs(3600));
    drop(busy);
    assert_eq!(wait(&series), Err(Error::Ended { runs: 0 }));
    assert!(all(&runs).is_empty());
    assert_eq!(scheduler.stats().successful, 2);
}

#[test]
fn a_due_task_that_waits_for_a_worker_can_still_be_cancelled() {
    let clock = Arc::new(Manual::new());
    let options = Options {
        clock: Some(Arc::<Manual>::clone(&clock)),
        ..Options::default()
    };
    let scheduler = scheduler(1, options);
    let busy = occupy(&scheduler);
    let owned = Arc::new(());
    let captured = Arc::clone(&owned);
    let delay = scheduler.post_after(ms(5), move || drop(captured)).unwrap();
    let captured = Arc::clone(&owned);
    let every = Every::new(ms(5));
    let beat = scheduler
        .post_every(&every, move || drop(Arc::clone(&captured)))
        .unwrap();
    clock.advance(ms(5));
    eventually("both are queued", || scheduler.stats().pool.waiting == 2);
    assert!(delay.cancel());
    beat.stop();
    assert_eq!(Arc::strong_count(&owned), 1);
    assert_eq!(scheduler.stats().pool.waiting, 0);
    drop(busy);
    assert_eq!(wait(&delay), Err(Error::Cancelled));
    scheduler.shutdown();
    assert_eq!(field(&scheduler, "tombstones"), 0);
}

#[test]
fn a_delay_moves_to_a_later_and_to_an_earlier_deadline() {
    let (clock, scheduler) = by_hand();
    let (sender, seen) = channel();
    let now = Arc::clone(&clock);
    let later = scheduler.post_after(ms(10), {
        let (sender, now) = (sender.clone(), Arc::clone(&now));
        move || sender.send(("later", at(&now))).unwrap()
    });
    let earlier = scheduler.post_after(Duration::from_secs(100), move || {
        sender.send(("earlier", at(&now))).unwrap();
    });
    run_for(&clock, ms(5));
    assert!(later.unwrap().reschedule(ms(1_000)));
    assert!(earlier.as_ref().unwrap().reschedule(ms(500)));
    assert!(earlier.unwrap().reschedule(ms(20)));
    run_for(&clock, Duration::from_secs(200));
    assert!(seen.try_iter().eq([("earlier", 25), ("later", 1_005)]));
    scheduler.shutdown();
}

#[test]
fn an_earlier_deadline_wakes_the_sleeping_timer() {
    let scheduler = scheduler(1, Options::default());
    let task = scheduler
        .post_after(Duration::from_secs(3600), || 5)
        .unwrap();
    assert_eq!(task.wait_timeout(ms(1)), Err(Error::TimedOut));
    assert!(task.reschedule(ms(1)));
    assert_eq!(wait(&task), Ok(5));
    scheduler.shutdown();
}

#[test]
fn a_waiting_series_goes_on_from_its_new_deadline() {
    let (clock, scheduler) = by_hand();
    let (beat, runs) = post(&scheduler, &clock, &Every::new(ms(20)));
    run_for(&clock, ms(30));
    assert!(beat.reschedule(ms(45)));
    run_for(&clock, ms(100));
    assert_eq!(all(&runs), [20, 75, 95, 115]);
    assert_eq!(
        (
            scheduler.stats().missed_runs,
            scheduler.stats().skipped_runs
        ),
        (0, 0)
    );
    scheduler.shutdown();
}

#[test]
fn a_series_in_its_run_goes_on_from_its_new_deadline() {
    for timing in [Timing::FixedRate, Timing::FixedDelay] {
        let (clock, scheduler) = by_hand();
        let (hand_over, handed_over) = channel::<Handle<()>>();
        let every = Every {
            timing,
            ..Every::new(ms(20))
        };
        let (beat, runs) = post_with(&scheduler, &clock, &every, move |clock| {
            if let Ok(itself) = handed_over.try_recv() {
                clock.advance(ms(5));
                assert!(itself.reschedule(ms(100)));
            }
        });
        hand_over.send(beat).unwrap();
        run_for(&clock, ms(170));
        assert_eq!(all(&runs), [20, 125, 145, 165], "{timing:?}");
        scheduler.shutdown();
    }
}

#[test]
fn a_series_is_not_moved_past_its_end() {
    let (clock, scheduler) = by_hand();
    let every = Every {
        until: Some(ms(100)),
        ..Every::new(ms(20))
    };
    let (beat, runs) = post(&scheduler, &clock, &every);
    run_for(&clock, ms(30));
    assert!(!beat.reschedule(ms(71)));
    assert!(beat.reschedule(ms(60)));
    run_for(&clock, ms(200));
    assert_eq!(all(&runs), [20, 90]);
    assert_eq!(wait(&beat), Ok(()));

    // Nor when its last run is going.
    let (hand_over, handed_over) = channel::<Handle<()>>();
    let every = Every {
        max_runs: Some(1),
        ..Every::new(ms(20))
    };
    let beat = scheduler.post_every(&every, move || {
        let itself = handed_over.recv_timeout(PATIENCE).unwrap();
        assert!(!itself.reschedule(ms(20)));
    });
    hand_over.send(beat.unwrap()).unwrap();
    run_for(&clock, ms(200));
    assert_eq!(scheduler.stats().successful, 2);
    scheduler.shutdown();
}

#[test]
fn it_is_too_late_to_reschedule_what_is_queued_running_or_over() {
    let clock = Arc::new(Manual::new());
    let options = Options {
        clock: Some(Arc::<Manual>::clone(&clock)),
        ..Options::default()
    };
    let scheduler = scheduler(1, options);
    let busy = occupy(&scheduler);
    let delay = scheduler.post_after(ms(5), || 1).unwrap();
    let beat = scheduler.post_every(&Every::new(ms(5)), || 2).unwrap();
    let now = scheduler.post(|| 3).unwrap();
    clock.advance(ms(5));
    eventually("all are queued", || scheduler.stats().pool.waiting == 3);
    assert!(!delay.reschedule(ms(100)));
    assert!(!beat.reschedule(ms(100)));
    assert!(!now.reschedule(ms(100)));
    assert!(!busy.handle.reschedule(ms(100)));
    let busy = busy.release();
    assert_eq!(
        (wait(&delay), wait(&now), wait(&busy)),
        (Ok(1), Ok(3), Ok(()))
    );
    beat.wait_for_runs(1, Some(PATIENCE)).unwrap();
    beat.stop();
    assert!(!delay.reschedule(ms(100)));
    assert!(!beat.reschedule(ms(100)));
    assert_eq!(scheduler.stats().pending_timers, 0);
    scheduler.shutdown();
}

#[test]
fn a_reschedule_against_the_end_of_a_run_is_heeded_or_refused() {
    let (clock, scheduler) = by_hand();
    let rounds = if cfg!(debug_assertions) {
        3_000
    } else {
        20_000
    };
    let (started, starts) = channel();
    let now = Arc::clone(&clock);
    let every = Every::new(Duration::from_secs(1_000));
    let beat = scheduler
        .post_every(&every, move || started.send(at(&now)).unwrap())
        .unwrap();
    clock.advance(Duration::from_secs(1_000));
    for round in 0..rounds {
        let last = receive(&starts, 1)[0];
        for _ in 0..round % 50 {
            std::hint::spin_loop();
        }
        let accepted = beat.reschedule(Duration::from_secs(1)); // while that run ends
        run_for(&clock, Duration::ZERO);
        let expected = last + if accepted { 1_000 } else { 1_000_000 };
        clock.advance(Duration::from_millis(expected - 1 - last));
        run_for(&clock, Duration::ZERO);
        assert!(
            starts.is_empty(),
            "round {round}: early, accepted {accepted}"
        );
        clock.advance(ms(1));
        eventually("the next run", || !starts.is_empty());
    }
    assert_eq!(
        (
            scheduler.stats().missed_runs,
            scheduler.stats().skipped_runs
        ),
        (0, 0)
    );
    scheduler.shutdown();
}

#[test]
fn a_reschedule_against_the_timer_is_heeded_or_refused() {
    let scheduler = scheduler(2, Options::default());
    let (mut moved, mut late) = (0, 0);
    for n in 0..2_000 {
        let task = scheduler
            .post_after(Duration::from_micros(n % 40), || ())
            .unwrap();
        for _ in 0..n % 64 * 8 {
            std::hint::spin_loop();
        }
        if task.reschedule(Duration::from_secs(3600)) {
            moved += 1;
            assert_eq!(task.view().phase(), Phase::Pending);
            assert!(task.cancel());
            assert_eq!(wait(&task), Err(Error::Cancelled));
        } else {
            late += 1;
            assert_eq!(wait(&task), Ok(()));
        }
    }
    let stats = scheduler.stats();
    assert_eq!((stats.cancelled, stats.successful), (moved, late));
    scheduler.shutdown();
}

// ===== Counts and the manual clock =====

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
    assert_eq!(wait(&queued), Ok(()));
    run_for(&clock, ms(20));
    assert_eq!(wait(&delay), Ok(()));
    let stats = scheduler.stats();
    assert_eq!(
        (stats.pool.running, stats.pool.idle, stats.pool.waiting),
        (0, 2, 0)
    );
    // A series is one task, however often it runs.
    assert_eq!(
        (stats.pending_timers, stats.successful, beat.view().runs()),
        (1, 4, 4)
    );
    scheduler.shutdown();
    let stats = scheduler.stats();
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
    let options = Options {
        clock: Some(Arc::<Manual>::clone(&clock)),
        ..Options::default()
    };
    let second = scheduler(1, options);
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
    let options = Options {
        clock: Some(Arc::<Broken>::clone(&clock)),
        ..Options::default()
    };
    let scheduler = scheduler(2, options);
    let (key, gate) = gate();
    let (started, has_started) = channel();
    let run = move || {
        started.send(()).unwrap();
        gate.pass();
    };
    let two = Every {
        max_runs: Some(2),
        ..Every::new(ms(10))
    };
    let series = scheduler.post_every(&two, run).unwrap();
    clock.clock.advance(ms(10));
    receive(&has_started, 1);
    clock.panicking.store(true, Ordering::SeqCst);
    drop(key); // the run ends while nobody can say what time it is
    series.wait_for_runs(1, Some(PATIENCE)).unwrap();
    clock.panicking.store(false, Ordering::SeqCst);
    clock.clock.advance(ms(10));
    assert_eq!(wait(&series), Ok(()));

    clock.panicking.store(true, Ordering::SeqCst);
    assert_eq!(wait(&scheduler.post(|| 5).unwrap()), Ok(5));
    scheduler.shutdown();
}

// ===== Tasks without a callback =====

/// A task without a callback; what it does can be counted.
#[derive(Clone)]
struct Bare(Arc<Inner>);

struct Inner {
    task: Task,
    engine: Arc<Engine<Bare>>,
    calls: AtomicU64,
    ends: AtomicU64,
}

impl Job for Bare {
    type Token<'a> = ();
    type Value = ();
    type Failure = ();

    fn task(&self) -> &Task {
        &self.0.task
    }

    fn engine(&self) -> &Arc<Engine<Self>> {
        &self.0.engine
    }

    fn share(&self, (): ()) -> Self {
        self.clone()
    }

    fn call(&self, (): ()) -> Outcome<(), ()> {
        self.0.calls.fetch_add(1, Ordering::SeqCst);
        Outcome::Value(())
    }

    fn panicked(&self, (): (), _payload: Box<dyn Any + Send>) {}

    fn value_of_no_run(&self, (): ()) {}

    fn run_failed(&self, (): (), (): ()) {}

    fn end(&self, (): (), _result: Option<Result<(), ()>>) {
        self.0.ends.fetch_add(1, Ordering::SeqCst);
    }

    fn ended(&self, (): ()) {}
}

struct BareRunner;

impl Runner for BareRunner {
    type Job = Bare;

    fn work(&self, worker: &Worker<Bare>) {
        while worker.wait() {
            while let Some(job) = worker.take() {
                let _ = catch_unwind(AssertUnwindSafe(|| drop(run(job, ()))));
            }
        }
    }
}

fn bare_engine() -> (Arc<Manual>, Arc<Engine<Bare>>) {
    let clock = Arc::new(Manual::new());
    let options = Options {
        clock: Some(Arc::<Manual>::clone(&clock)),
        ..Options::default()
    };
    (clock, Engine::new(&options, Arc::new(BareRunner)))
}

fn post_bare(engine: &Arc<Engine<Bare>>, delay: Duration, task: Task) -> Bare {
    let inner = Inner {
        task,
        engine: Arc::clone(engine),
        calls: AtomicU64::new(0),
        ends: AtomicU64::new(0),
    };
    let bare = Bare(Arc::new(inner));
    let deadline = engine.now() + u64::try_from(delay.as_nanos()).unwrap();
    engine.post_at(bare.clone(), deadline, ()).unwrap();
    bare
}

fn over(bare: &Bare) -> Phase {
    let deadline = Some(std::time::Instant::now() + PATIENCE);
    bare.0
        .engine
        .wait(&bare.0.task, Goal::Over, deadline, &mut || false)
        .unwrap()
        .phase()
}

#[test]
fn a_delay_without_a_callback_ends_without_a_worker() {
    let (clock, engine) = bare_engine();
    let bare = post_bare(&engine, ms(5), Task::bare());
    run_for(&clock, ms(4));
    assert_eq!(bare.task().view().phase(), Phase::Pending);
    run_for(&clock, ms(1));
    assert_eq!(over(&bare), Phase::Finished);
    let stats = engine.stats();
    assert_eq!(
        (stats.successful, stats.pool.idle + stats.pool.running),
        (1, 0)
    );
    engine.close(true, ());
    // The engine, the test and nobody else hold it.
    assert_eq!(Arc::strong_count(&bare.0), 1);
}

#[test]
fn a_watched_delay_is_ended_by_a_worker() {
    let (clock, engine) = bare_engine();
    let bare = post_bare(&engine, ms(5), Task::bare());
    bare.task().watch();
    run_for(&clock, ms(5));
    assert_eq!(over(&bare), Phase::Finished);
    assert_eq!(
        (
            bare.0.calls.load(Ordering::SeqCst),
            bare.0.ends.load(Ordering::SeqCst)
        ),
        (1, 1)
    );
    engine.close(true, ());
}

#[test]
fn a_series_without_a_callback_counts_its_ticks_without_a_worker() {
    let (clock, engine) = bare_engine();
    let every = Every {
        max_runs: Some(7),
        ..Every::new(ms(5))
    };
    let bare = post_bare(
        &engine,
        ms(5),
        Task::bare_series(Series::new(&every, Moment::at(0)).unwrap()),
    );
    run_for(&clock, ms(26));
    assert_eq!(bare.task().view().runs(), 5);
    clock.advance(ms(100));
    run_for(&clock, ms(100));
    assert_eq!(
        (over(&bare), bare.task().view().runs()),
        (Phase::Finished, 7)
    );
    let stats = engine.stats();
    assert_eq!(
        (stats.missed_runs, stats.pool.idle + stats.pool.running),
        (19, 0)
    );
    engine.close(true, ());
}

#[test]
fn a_cancel_against_the_end_of_a_delay_without_a_callback_has_one_winner() {
    let clock = Arc::new(Manual::new());
    let options = Options {
        clock: Some(Arc::<Manual>::clone(&clock)),
        ..Options::default()
    };
    let engine = Engine::new(&options, Arc::new(BareRunner));
    let mut cancelled = 0;
    for n in 0..5_000_u32 {
        let bare = post_bare(&engine, ms(1), Task::bare());
        clock.advance(ms(1));
        for _ in 0..n % 200 * 4 {
            std::hint::spin_loop();
        }
        let won = engine.stop(&bare, true, ()) == Cancel::Now;
        assert_eq!(
            over(&bare),
            if won {
                Phase::Cancelled
            } else {
                Phase::Finished
            }
        );
        cancelled += u64::from(won);
    }
    run_for(&clock, Duration::ZERO);
    let stats = engine.stats();
    assert_eq!(
        (stats.cancelled, stats.successful),
        (cancelled, 5_000 - cancelled)
    );
    assert_eq!(stats.pool.waiting, 0);
    assert_eq!(field(&engine, "tombstones"), 0);
    engine.close(true, ());
}

#[test]
fn a_series_without_a_callback_is_cancelled_at_the_end_wherever_it_is() {
    for round in 0..300_u32 {
        let engine = Engine::new(&Options::default(), Arc::new(BareRunner));
        let every = Every::new(Duration::from_micros(1));
        let series: Vec<_> = (0..4)
            .map(|_| {
                let series = Series::new(&every, engine.moment()).unwrap();
                post_bare(&engine, Duration::ZERO, Task::bare_series(series))
            })
            .collect();
        for _ in 0..round * 8 {
            std::hint::spin_loop();
        }
        engine.close(true, ());
        for bare in &series {
            assert_eq!(over(bare), Phase::Cancelled);
            assert_eq!(bare.0.calls.load(Ordering::SeqCst), 0, "a worker ran it");
            assert_eq!(bare.0.ends.load(Ordering::SeqCst), 1);
        }
        assert_eq!(engine.stats().cancelled, 4);
    }
}
