//! Tasks that run now: full queues, panics, cancel, waits, the end.

use std::collections::HashSet;
use std::panic::panic_any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use asynctask::clock::Manual;
use asynctask::engine::{Delayed, OnFull, Stats};
use asynctask::pool::{PoolCounts, PoolOptions};
use asynctask::series::Missed;
use asynctask::task::Phase;
use asynctask::{Error, Every, Handle, Options, Scheduler};

use crate::support::{
    PATIENCE, by_hand, channel, eventually, field, gate, occupy, receive, scheduler,
    threads_called, without_threads,
};

const HOUR: Duration = Duration::from_secs(3600);

/// One worker, a queue of `queue_size`, and `on_full`.
fn bounded_by(queue_size: usize, on_full: OnFull) -> Scheduler {
    let pool = PoolOptions {
        queue_size: Some(queue_size),
        ..PoolOptions::default()
    };
    scheduler(
        1,
        Options {
            pool,
            on_full,
            ..Options::default()
        },
    )
}

fn one_worker() -> Scheduler {
    scheduler(1, Options::default())
}

fn wait<T: Send + 'static>(handle: &Handle<T>) -> Result<T, Error> {
    handle.wait_timeout(PATIENCE)
}

/// A callback that owns something, and whether it still does.
fn owning() -> (impl FnMut() + Send + Clone + 'static, impl Fn() -> bool) {
    let owned = Arc::new(());
    let weak = Arc::downgrade(&owned);
    (
        move || drop(Arc::clone(&owned)),
        move || weak.strong_count() > 0,
    )
}

/// The end of a scheduler: every task that was submitted is counted, once, as one of the endings.
fn shut_down(scheduler: &Scheduler) -> Stats {
    scheduler.shutdown();
    accounted(scheduler)
}

fn accounted(scheduler: &Scheduler) -> Stats {
    let stats = scheduler.stats();
    let ended = stats.successful + stats.failed + stats.cancelled + stats.dropped;
    assert_eq!(stats.submitted, ended, "{stats:?}");
    let PoolCounts {
        running,
        idle,
        waiting,
        ..
    } = stats.pool;
    assert_eq!(
        (running, idle, waiting, stats.pending_timers),
        (0, 0, 0, 0),
        "{stats:?}"
    );
    stats
}

fn is_over<T: Send + 'static>(handle: &Handle<T>) -> bool {
    handle.view().is_over()
}

// ===== A full queue =====

#[test]
fn raise_refuses_the_post_and_counts_nothing() {
    let scheduler = bounded_by(1, OnFull::Raise);
    let busy = occupy(&scheduler);
    let queued = scheduler.post(|| 1).unwrap();
    let (callback, is_alive) = owning();
    assert_eq!(scheduler.post(callback).unwrap_err(), Error::QueueFull);
    assert!(!is_alive());
    assert_eq!(scheduler.stats().submitted, 2);
    drop(busy);
    assert_eq!(wait(&queued), Ok(1));
    assert_eq!(shut_down(&scheduler).successful, 2);
}

#[test]
fn drop_newest_cancels_the_new_task_at_once() {
    let scheduler = bounded_by(1, OnFull::DropNewest);
    let busy = occupy(&scheduler);
    let queued = scheduler.post(|| 1).unwrap();
    let (callback, is_alive) = owning();
    let dropped = scheduler.post(callback).unwrap();
    assert!(!is_alive());
    assert_eq!(dropped.view().phase(), Phase::Cancelled);
    assert_eq!(wait(&dropped), Err(Error::Cancelled));
    drop(busy);
    assert_eq!(wait(&queued), Ok(1));
    let stats = shut_down(&scheduler);
    assert_eq!((stats.submitted, stats.dropped, stats.cancelled), (3, 1, 0));
}

#[test]
fn drop_oldest_cancels_the_oldest_task_in_the_queue() {
    let scheduler = bounded_by(2, OnFull::DropOldest);
    let busy = occupy(&scheduler);
    let (callback, is_alive) = owning();
    let oldest = scheduler.post(callback).unwrap();
    let (order, ordered) = channel();
    let others: Vec<_> = (0..3)
        .map(|n| {
            let order = order.clone();
            scheduler.post(move || order.send(n).unwrap()).unwrap()
        })
        .collect();
    // The third of them dropped the first of them.
    assert_eq!(oldest.view().phase(), Phase::Cancelled);
    assert!(!is_alive());
    assert_eq!(wait(&others[0]), Err(Error::Cancelled));
    drop(busy);
    assert_eq!(receive(&ordered, 2), [1, 2]);
    let stats = shut_down(&scheduler);
    assert_eq!((stats.submitted, stats.dropped), (5, 2));
}

#[test]
fn drop_oldest_drops_the_newest_where_nothing_is_queued() {
    let scheduler = bounded_by(0, OnFull::DropOldest);
    let busy = occupy(&scheduler);
    let (callback, is_alive) = owning();
    let dropped = scheduler.post(callback).unwrap();
    assert_eq!(wait(&dropped), Err(Error::Cancelled));
    assert!(!is_alive());
    drop(busy);
    assert_eq!(shut_down(&scheduler).dropped, 1);
}

#[test]
fn a_cancelled_task_makes_room_and_is_not_dropped_again() {
    for on_full in [
        OnFull::Raise,
        OnFull::DropNewest,
        OnFull::DropOldest,
        OnFull::Block,
    ] {
        let scheduler = bounded_by(2, on_full);
        let busy = occupy(&scheduler);
        let queued: Vec<_> = (0..2).map(|_| scheduler.post(|| ()).unwrap()).collect();
        assert!(queued[0].cancel());
        assert_eq!(scheduler.stats().pool.waiting, 1);
        let newest = scheduler.post(|| 5).unwrap();
        drop(busy);
        assert_eq!(wait(&newest), Ok(5));
        assert_eq!(wait(&queued[1]), Ok(()));
        let stats = shut_down(&scheduler);
        assert_eq!((stats.cancelled, stats.dropped), (1, 0), "{on_full:?}");
    }
}

#[test]
fn drop_oldest_passes_over_cancelled_tasks() {
    let scheduler = bounded_by(2, OnFull::DropOldest);
    let busy = occupy(&scheduler);
    let queued: Vec<_> = (0..2).map(|_| scheduler.post(|| ()).unwrap()).collect();
    assert!(queued[0].cancel());
    let third = scheduler.post(|| ()).unwrap();
    let fourth = scheduler.post(|| ()).unwrap();
    assert_eq!(wait(&queued[1]), Err(Error::Cancelled));
    assert_eq!(scheduler.stats().pool.waiting, 2);
    drop(busy);
    assert_eq!((wait(&third), wait(&fourth)), (Ok(()), Ok(())));
    let stats = shut_down(&scheduler);
    assert_eq!((stats.cancelled, stats.dropped), (1, 1));
}

/// The same, on a clock that is moved by hand.
fn bounded_by_hand(queue_size: usize, on_full: OnFull) -> (Arc<Manual>, Scheduler) {
    let clock = Arc::new(Manual::new());
    let options = Options {
        pool: PoolOptions {
            queue_size: Some(queue_size),
            ..PoolOptions::default()
        },
        on_full,
        clock: Some(Arc::<Manual>::clone(&clock)),
        ..Options::default()
    };
    (clock, scheduler(1, options))
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn drop_oldest_drops_a_run_and_never_a_series_nor_a_delayed_task_that_is_due() {
    for missed in [Missed::Skip, Missed::CatchUp] {
        let (clock, scheduler) = bounded_by_hand(4, OnFull::DropOldest);
        let busy = occupy(&scheduler);
        let delayed: Vec<_> = (0..3)
            .map(|n| scheduler.post_after(SECOND, move || n).unwrap())
            .collect();
        let every = Every {
            missed,
            ..Every::new(SECOND)
        };
        let series = scheduler.post_every(&every, || ()).unwrap();
        clock.advance(SECOND);
        eventually("all are queued", || scheduler.stats().pool.waiting == 4);
        let burst: Vec<_> = (0..50)
            .map(|n| scheduler.post(move || n).unwrap())
            .collect();
        // The first took the place of the run, and each of the others that of the one before.
        assert_eq!(scheduler.stats().missed_runs, 1, "{missed:?}");
        assert_eq!(scheduler.stats().dropped, 49);
        drop(busy);
        clock.run_for(9 * SECOND, PATIENCE, &mut || false).unwrap();
        let results: Vec<_> = delayed.iter().map(wait).collect();
        assert_eq!(results, [Ok(0), Ok(1), Ok(2)]);
        assert_eq!(wait(&burst[49]), Ok(49));
        assert_eq!(series.view().runs(), 9);
        series.stop();
        assert_eq!(shut_down(&scheduler).missed_runs, 1);
    }
}

#[test]
fn drop_oldest_drops_the_new_task_where_nothing_older_may_go() {
    let (clock, scheduler) = bounded_by_hand(2, OnFull::DropOldest);
    let busy = occupy(&scheduler);
    let last = Every {
        until: Some(SECOND),
        ..Every::new(SECOND)
    };
    let series = scheduler.post_every(&last, || ()).unwrap();
    let delayed: Vec<_> = (0..5)
        .map(|n| scheduler.post_after(SECOND, move || n).unwrap())
        .collect();
    clock.advance(SECOND);
    eventually("all are queued", || scheduler.stats().pool.waiting == 6);
    for _ in 0..3 {
        let newest = scheduler.post(|| ()).unwrap();
        assert_eq!(wait(&newest), Err(Error::Cancelled));
    }
    drop(busy);
    for (n, task) in delayed.iter().enumerate() {
        assert_eq!(wait(task), Ok(n));
    }
    assert_eq!(wait(&series), Ok(()));
    assert_eq!(series.view().runs(), 1);
    assert_eq!(shut_down(&scheduler).dropped, 3);
}

#[test]
fn drop_oldest_drops_one_task_for_one_however_many_are_due() {
    let (clock, scheduler) = bounded_by_hand(2, OnFull::DropOldest);
    let busy = occupy(&scheduler);
    let queued: Vec<_> = (0..2).map(|n| scheduler.post(move || n).unwrap()).collect();
    let delayed: Vec<_> = (0..20)
        .map(|_| scheduler.post_after(SECOND, || ()).unwrap())
        .collect();
    clock.advance(SECOND);
    eventually("all are queued", || scheduler.stats().pool.waiting == 22);
    let newest = scheduler.post(|| 2).unwrap();
    assert_eq!(wait(&queued[0]), Err(Error::Cancelled));
    assert_eq!(queued[1].view().phase(), Phase::Pending);
    assert!(delayed[3].cancel());
    drop(busy);
    assert_eq!((wait(&queued[1]), wait(&newest)), (Ok(1), Ok(2)));
    assert_eq!(wait(&delayed[19]), Ok(()));
    let stats = shut_down(&scheduler);
    assert_eq!((stats.dropped, stats.cancelled), (1, 1));
}

#[test]
fn a_cancel_against_a_dropped_run_leaves_every_count_right() {
    for _ in 0..300 {
        let (clock, scheduler) = bounded_by_hand(1, OnFull::DropOldest);
        let busy = occupy(&scheduler);
        let series = scheduler.post_every(&Every::new(SECOND), || ()).unwrap();
        clock.advance(SECOND);
        eventually("it is queued", || scheduler.stats().pool.waiting == 1);
        std::thread::scope(|scope| {
            scope.spawn(|| series.cancel());
            scheduler.post(|| ()).unwrap();
        });
        assert_eq!(wait(&series), Err(Error::Cancelled));
        drop(busy);
        let stats = shut_down(&scheduler);
        assert_eq!((stats.missed_runs, stats.pool.waiting), (1, 0));
        assert_eq!(stats.pending_timers, 0);
    }
}

#[test]
fn caller_runs_runs_it_on_the_posting_thread() {
    let scheduler = bounded_by(0, OnFull::CallerRuns);
    let busy = occupy(&scheduler);
    let here = std::thread::current().id();
    let task = scheduler.post(|| std::thread::current().id()).unwrap();
    assert_eq!(task.view().phase(), Phase::Finished);
    assert_eq!(wait(&task), Ok(here));
    let panicking = scheduler.post(|| panic!("on purpose")).unwrap();
    assert_eq!(wait(&panicking), Err(Error::Panicked));
    drop(busy);
    let stats = shut_down(&scheduler);
    assert_eq!((stats.successful, stats.failed), (2, 1));
}

#[test]
fn block_waits_for_room_and_keeps_the_bound() {
    for queue_size in [0, 3] {
        let scheduler = bounded_by(queue_size, OnFull::Block);
        let busy = occupy(&scheduler);
        let (ran, runs) = channel();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                let (scheduler, ran) = (&scheduler, ran.clone());
                scope.spawn(move || {
                    for _ in 0..50 {
                        let ran = ran.clone();
                        let counts = scheduler.clone();
                        let callback = move || {
                            let waiting = counts.stats().pool.waiting;
                            ran.send(waiting).unwrap();
                        };
                        scheduler.post(callback).unwrap();
                    }
                });
            }
            eventually("all posters wait", || field(&scheduler, "room") == 4);
            assert!(runs.is_empty());
            drop(busy);
            let waiting = receive(&runs, 200);
            assert!(waiting.into_iter().all(|waiting| waiting <= queue_size));
        });
        assert_eq!(shut_down(&scheduler).successful, 201);
    }
}

#[test]
fn a_worker_never_waits_for_room_in_its_own_pool() {
    let scheduler = bounded_by(1, OnFull::Block);
    let inner = scheduler.clone();
    let (sent, handles) = channel();
    let poster = scheduler.post(move || {
        for n in 0..100 {
            sent.send(inner.post(move || n).unwrap()).unwrap();
        }
    });
    assert_eq!(wait(&poster.unwrap()), Ok(()));
    for (n, handle) in receive(&handles, 100).iter().enumerate() {
        assert_eq!(wait(handle), Ok(n));
    }
    shut_down(&scheduler);
}

#[test]
fn posters_who_wait_for_room_are_refused_at_the_end() {
    for drain in [true, false] {
        let scheduler = bounded_by(0, OnFull::Block);
        let busy = occupy(&scheduler);
        std::thread::scope(|scope| {
            let posters: Vec<_> = (0..3)
                .map(|_| scope.spawn(|| scheduler.post(|| ()).map(drop)))
                .collect();
            eventually("all posters wait", || field(&scheduler, "room") == 3);
            let closer = scope.spawn(|| {
                if drain {
                    scheduler.shutdown();
                } else {
                    scheduler.shutdown_now();
                }
            });
            for poster in posters {
                assert_eq!(poster.join().unwrap(), Err(Error::Shutdown));
            }
            drop(busy);
            closer.join().unwrap();
        });
        assert_eq!(accounted(&scheduler).submitted, 1);
    }
}

#[test]
fn without_a_bound_a_post_never_waits() {
    let scheduler = one_worker();
    let busy = occupy(&scheduler);
    let handles: Vec<_> = (0..10_000)
        .map(|n| scheduler.post(move || n).unwrap())
        .collect();
    assert_eq!(scheduler.stats().pool.waiting, 10_000);
    drop(busy);
    for (n, handle) in handles.iter().enumerate() {
        assert_eq!(wait(handle), Ok(n));
    }
    shut_down(&scheduler);
}

// ===== Panics =====

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "on purpose, in a drop");
    }
}

/// After `harm` was done the same worker goes on, and the counts are right.
fn survives(harm: impl FnOnce(&Scheduler) -> Handle<()>, expected: &Result<(), Error>) -> Stats {
    let scheduler = one_worker();
    let before = wait(&scheduler.post(|| std::thread::current().id()).unwrap());
    assert_eq!(&wait(&harm(&scheduler)), expected);
    let after = wait(&scheduler.post(|| std::thread::current().id()).unwrap());
    assert_eq!(before, after);
    shut_down(&scheduler)
}

#[test]
fn a_panic_costs_one_task() {
    let stats = survives(
        |s| s.post(|| panic!("on purpose")).unwrap(),
        &Err(Error::Panicked),
    );
    assert_eq!((stats.successful, stats.failed), (2, 1));
}

#[test]
fn a_panic_whose_payload_panics_costs_one_task() {
    let stats = survives(
        |s| s.post(|| panic_any(Bomb)).unwrap(),
        &Err(Error::Panicked),
    );
    assert_eq!((stats.successful, stats.failed), (2, 1));
}

#[test]
fn a_callback_that_panics_when_it_is_freed_costs_no_worker() {
    let bomb = Bomb;
    let one_shot = move || {
        let _owned = &bomb;
    };
    // Its callback is freed by the call, so this is a panic of the call.
    let stats = survives(|s| s.post(one_shot).unwrap(), &Err(Error::Panicked));
    assert_eq!((stats.successful, stats.failed), (2, 1));

    let bomb = Bomb;
    let series = move || {
        let _owned = &bomb;
    };
    let every = Every {
        max_runs: Some(2),
        ..Every::new(Duration::from_micros(1))
    };
    let stats = survives(|s| s.post_every(&every, series).unwrap(), &Ok(()));
    assert_eq!((stats.successful, stats.failed), (3, 0));
}

#[test]
fn a_cancelled_callback_that_panics_when_it_is_freed_is_cancelled_all_the_same() {
    let scheduler = one_worker();
    let busy = occupy(&scheduler);
    let bomb = Bomb;
    let task = scheduler.post(move || {
        let _owned = &bomb;
    });
    let task = task.unwrap();
    assert!(task.cancel());
    assert_eq!(wait(&task), Err(Error::Cancelled));
    drop(busy);
    assert_eq!(shut_down(&scheduler).cancelled, 1);
}

#[test]
fn a_result_that_panics_when_it_is_freed_costs_no_worker() {
    let scheduler = one_worker();
    let busy = occupy(&scheduler);
    let before = scheduler.post(|| std::thread::current().id()).unwrap();
    drop(scheduler.post(|| Bomb).unwrap());
    let after = scheduler.post(|| std::thread::current().id()).unwrap();
    drop(busy);
    assert_eq!(wait(&before).unwrap(), wait(&after).unwrap());
    shut_down(&scheduler);
}

#[test]
fn a_value_that_panics_when_it_is_freed_does_not_keep_a_shutdown_from_its_end() {
    let (clock, scheduler) = by_hand();
    // A series that has a value, and waits when it is cancelled; and a worker that takes its time.
    let every = Every::new(SECOND);
    let series = scheduler.post_every(&every, || Bomb).unwrap();
    clock.run_for(SECOND, PATIENCE, &mut || false).unwrap();
    drop(series);
    let (key, gate) = gate();
    let (started, has_started) = channel();
    let busy = scheduler.post(move || {
        started.send(()).unwrap();
        gate.pass();
    });
    receive(&has_started, 1);
    std::thread::scope(|scope| {
        let shut = scope.spawn(|| scheduler.shutdown());
        eventually("it is closed", || scheduler.post(|| ()).is_err());
        drop(key);
        shut.join().expect("the shutdown was unwound");
    });
    assert_eq!(busy.unwrap().view().phase(), Phase::Finished);
    assert_eq!(scheduler.stats().pool.idle, 0);
}

#[test]
fn one_of_those_who_wait_takes_the_value_and_the_others_are_told() {
    let scheduler = one_worker();
    let busy = occupy(&scheduler);
    let task = scheduler.post(|| 5).unwrap();
    std::thread::scope(|scope| {
        let waits: Vec<_> = (0..4).map(|_| scope.spawn(|| wait(&task))).collect();
        drop(busy);
        let mut got: Vec<_> = waits.into_iter().map(|wait| wait.join().unwrap()).collect();
        got.sort_by_key(Result::is_err);
        let taken = Err(Error::Taken);
        assert_eq!(got, [Ok(5), taken.clone(), taken.clone(), taken]);
    });
    assert_eq!(wait(&task), Err(Error::Taken));
}

#[test]
fn a_series_goes_on_after_a_run_that_panicked() {
    let (clock, scheduler) = by_hand();
    let mut runs = 0;
    let (ran, seen) = channel();
    let beat = scheduler.post_every(&Every::new(Duration::from_millis(1)), move || {
        runs += 1;
        ran.send(runs).unwrap();
        assert!(runs != 2, "on purpose");
    });
    clock
        .run_for(Duration::from_millis(4), PATIENCE, &mut || false)
        .unwrap();
    assert_eq!(seen.try_iter().collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert_eq!(beat.unwrap().view().runs(), 4);
    shut_down(&scheduler);
}

#[test]
fn a_series_that_stops_on_error_ends_with_the_run_that_panicked() {
    let (clock, scheduler) = by_hand();
    let every = Every {
        stop_on_error: true,
        ..Every::new(Duration::from_millis(1))
    };
    let beat = scheduler
        .post_every(&every, || panic!("on purpose"))
        .unwrap();
    clock
        .run_for(Duration::from_millis(4), PATIENCE, &mut || false)
        .unwrap();
    assert_eq!(wait(&beat), Err::<(), _>(Error::Panicked));
    assert_eq!(beat.view().runs(), 1);
    assert_eq!(shut_down(&scheduler).failed, 1);
}

// ===== Cancel =====

#[test]
fn cancelling_a_queued_task_frees_its_callback_at_once() {
    let scheduler = one_worker();
    let busy = occupy(&scheduler);
    let (callback, is_alive) = owning();
    let task = scheduler.post(callback).unwrap();
    assert!(is_alive());
    assert!(task.cancel());
    assert!(!is_alive());
    assert!(is_over(&task));
    assert!(task.cancel(), "cancelled is cancelled");
    assert_eq!(wait(&task), Err(Error::Cancelled));
    assert_eq!(task.view().runs(), 0);
    drop(busy);
    assert_eq!(shut_down(&scheduler).cancelled, 1);
}

#[test]
fn cancelling_a_waiting_task_takes_it_off_the_wheel_and_frees_its_callback_at_once() {
    let scheduler = one_worker();
    let (callback, is_alive) = owning();
    let delay = scheduler.post_after(HOUR, callback).unwrap();
    assert_eq!(scheduler.stats().pending_timers, 1);
    assert!(delay.cancel());
    assert!(!is_alive());
    let (callback, is_alive) = owning();
    let beat = scheduler.post_every(&Every::new(HOUR), callback).unwrap();
    beat.stop();
    assert!(!is_alive());
    assert_eq!(scheduler.stats().pending_timers, 0);
    assert_eq!(
        (wait(&delay), wait(&beat)),
        (Err(Error::Cancelled), Err(Error::Cancelled))
    );
    assert_eq!(shut_down(&scheduler).cancelled, 2);
}

#[test]
fn a_running_or_finished_task_cannot_be_cancelled() {
    let scheduler = one_worker();
    let busy = occupy(&scheduler);
    assert!(!busy.handle.cancel());
    assert!(busy.handle.view().cancel_requested());
    let handle = busy.release();
    assert_eq!(wait(&handle), Ok(()));
    assert!(!handle.cancel());
    assert_eq!(shut_down(&scheduler).cancelled, 0);
}

#[test]
fn a_callback_may_cancel_itself_and_its_neighbours() {
    let scheduler = one_worker();
    let (hand_over, handed_over) = channel::<Handle<()>>();
    let (neighbour, neighbours) = channel::<Handle<()>>();
    let (answer, answers) = channel();
    let task = scheduler.post(move || {
        let itself = receive(&handed_over, 1).remove(0);
        let others = receive(&neighbours, 3);
        answer
            .send((others.iter().all(Handle::cancel), itself.cancel()))
            .unwrap();
    });
    hand_over.send(task.unwrap()).unwrap();
    for _ in 0..3 {
        neighbour.send(scheduler.post(|| ()).unwrap()).unwrap();
    }
    assert_eq!(receive(&answers, 1), [(true, false)]);
    let stats = shut_down(&scheduler);
    assert_eq!((stats.successful, stats.cancelled), (1, 3));
}

#[test]
fn posting_and_cancelling_behind_a_blocked_worker_does_not_grow_the_queue() {
    let scheduler = one_worker();
    let busy = occupy(&scheduler);
    let owned = Arc::new(());
    let (order, ordered) = channel();
    for n in 0..100_000 {
        if n % 10_000 == 0 {
            let order = order.clone();
            scheduler.post(move || order.send(n).unwrap()).unwrap();
        }
        let captured = Arc::clone(&owned);
        let task = scheduler.post(move || drop(captured)).unwrap();
        assert!(task.cancel());
        assert!(field(&scheduler, "queued") < 64 || n % 1000 != 0);
    }
    assert_eq!(Arc::strong_count(&owned), 1);
    assert!(field(&scheduler, "queued") < 64);
    assert_eq!(scheduler.stats().pool.waiting, 10);
    drop(busy);
    assert!(
        receive(&ordered, 10)
            .into_iter()
            .eq((0..10).map(|n| n * 10_000))
    );
    let stats = shut_down(&scheduler);
    assert_eq!((stats.cancelled, stats.successful), (100_000, 11));
}

#[test]
fn a_cancel_against_a_start_has_one_winner_and_the_count_of_the_waiting_stays_true() {
    const COUNT: usize = 50_000;
    let scheduler = one_worker();
    let ran: Arc<[AtomicBool]> = (0..COUNT).map(|_| AtomicBool::new(false)).collect();
    let (sender, receiver) = crossbeam_channel::bounded::<(usize, Handle<()>)>(4);
    std::thread::scope(|scope| {
        let canceller = scope.spawn(|| {
            let cancel = |(n, task): (usize, Handle<()>)| (n, task.cancel(), task);
            receiver.iter().map(cancel).collect::<Vec<_>>()
        });
        for n in 0..COUNT {
            let ran = Arc::clone(&ran);
            let task = scheduler.post(move || {
                assert!(!ran[n].swap(true, Ordering::SeqCst), "{n} ran twice");
            });
            sender.send((n, task.unwrap())).unwrap();
        }
        drop(sender);
        for (n, cancelled, task) in canceller.join().unwrap() {
            assert_eq!(
                wait(&task),
                if cancelled {
                    Err(Error::Cancelled)
                } else {
                    Ok(())
                }
            );
            assert_eq!(ran[n].load(Ordering::SeqCst), !cancelled);
        }
    });
    eventually("the queue is empty", || field(&scheduler, "queued") == 0);
    let busy = occupy(&scheduler);
    let queued: Vec<_> = (0..3).map(|_| scheduler.post(|| ()).unwrap()).collect();
    assert_eq!(scheduler.stats().pool.waiting, 3);
    drop(busy);
    for task in queued {
        assert_eq!(wait(&task), Ok(()));
    }
    shut_down(&scheduler);
}

// ===== Waits =====

#[test]
fn nested_waits_fifty_deep_end_on_one_worker() {
    fn nest(scheduler: &Scheduler, depth: u32) -> u32 {
        if depth == 0 {
            return 0;
        }
        let inner = scheduler.clone();
        let task = scheduler.post(move || nest(&inner, depth - 1)).unwrap();
        wait(&task).unwrap() + 1
    }

    let scheduler = one_worker();
    let inner = scheduler.clone();
    let task = scheduler.post(move || nest(&inner, 50)).unwrap();
    assert_eq!(wait(&task), Ok(50));
    assert_eq!(shut_down(&scheduler).successful, 51);
}

#[test]
fn nested_waits_on_delays_fifty_deep_end_on_one_worker() {
    fn nest(scheduler: &Scheduler, depth: u32) -> u32 {
        if depth == 0 {
            return 0;
        }
        let inner = scheduler.clone();
        let delay = Duration::from_micros(100);
        let task = scheduler
            .post_after(delay, move || nest(&inner, depth - 1))
            .unwrap();
        wait(&task).unwrap() + 1
    }

    let scheduler = one_worker();
    let inner = scheduler.clone();
    let task = scheduler.post(move || nest(&inner, 50)).unwrap();
    assert_eq!(wait(&task), Ok(50));
    assert_eq!(shut_down(&scheduler).successful, 51);
}

#[test]
fn the_only_worker_may_wait_for_a_delay_and_for_a_series() {
    let scheduler = one_worker();
    let inner = scheduler.clone();
    let task = scheduler.post(move || {
        let delay = inner.post_after(Duration::from_millis(1), || 5).unwrap();
        let value = wait(&delay).unwrap();
        let beat = inner
            .post_every(&Every::new(Duration::from_micros(100)), || ())
            .unwrap();
        beat.wait_for_runs(value, Some(PATIENCE)).unwrap();
        beat.stop();
        wait(&beat)
    });
    assert_eq!(wait(&task.unwrap()), Ok(Err(Error::Cancelled)));
    shut_down(&scheduler);
}

#[test]
fn a_task_may_wait_for_all_its_children_and_they_for_theirs() {
    fn tree(scheduler: &Scheduler, depth: u32) -> u64 {
        if depth == 0 {
            return 1;
        }
        let children: Vec<_> = (0..4)
            .map(|_| {
                let inner = scheduler.clone();
                scheduler.post(move || tree(&inner, depth - 1)).unwrap()
            })
            .collect();
        // The last first, so that those before it are in the queue meanwhile.
        children
            .iter()
            .rev()
            .map(|child| wait(child).unwrap())
            .sum()
    }

    for max_workers in 1..=3 {
        let scheduler = scheduler(max_workers, Options::default());
        let inner = scheduler.clone();
        let root = scheduler.post(move || tree(&inner, 5)).unwrap();
        assert_eq!(wait(&root), Ok(4_u64.pow(5)));
        shut_down(&scheduler);
    }
}

#[test]
fn a_callback_that_waits_for_a_task_sees_its_cancellation() {
    let scheduler = one_worker();
    let delay = scheduler.post_after(HOUR, || ()).unwrap();
    let delay = Arc::new(delay);
    let (awaited, waits) = (Arc::clone(&delay), channel());
    let started = waits.0;
    let task = scheduler.post(move || {
        started.send(()).unwrap();
        wait(&awaited)
    });
    receive(&waits.1, 1);
    delay.cancel();
    assert_eq!(wait(&task.unwrap()), Ok(Err(Error::Cancelled)));
    shut_down(&scheduler);
}

#[test]
fn callbacks_of_two_schedulers_may_wait_for_each_other() {
    let (one, two) = (one_worker(), one_worker());
    let (inner_one, inner_two) = (one.clone(), two.clone());
    let task = one.post(move || {
        let there = inner_two.post(move || {
            let back = inner_one.post(|| 5).unwrap(); // while the only worker of `one` waits
            wait(&back).unwrap()
        });
        wait(&there.unwrap()).unwrap()
    });
    assert_eq!(wait(&task.unwrap()), Ok(5));
    shut_down(&one);
    shut_down(&two);
}

#[test]
fn a_wait_for_a_task_that_is_over_lends_no_worker() {
    let scheduler = one_worker();
    let over = scheduler.post(|| ()).unwrap();
    over.wait_for_runs(1, Some(PATIENCE)).unwrap();
    let inner = scheduler.clone();
    let task = scheduler.post(move || {
        let queued = inner.post(|| ()).unwrap();
        for _ in 0..100 {
            over.wait_for_runs(1, Some(PATIENCE)).unwrap();
            let PoolCounts { running, idle, .. } = inner.stats().pool;
            assert_eq!((running, idle), (1, 0), "a worker too many");
        }
        // Nor does one that this very worker runs; only a wait without a timeout may.
        let helped = inner.post(|| 7).unwrap();
        assert_eq!(helped.wait(), Ok(7));
        let PoolCounts { running, idle, .. } = inner.stats().pool;
        assert_eq!((running, idle), (1, 0), "a worker too many");
        assert!(!is_over(&queued));
    });
    assert_eq!(wait(&task.unwrap()), Ok(()));
    shut_down(&scheduler);
}

#[test]
fn a_wait_times_out_and_may_be_taken_up_again() {
    let scheduler = one_worker();
    let busy = occupy(&scheduler);
    assert_eq!(
        busy.handle.wait_timeout(Duration::ZERO),
        Err(Error::TimedOut)
    );
    assert_eq!(
        busy.handle.wait_timeout(Duration::from_millis(2)),
        Err(Error::TimedOut)
    );
    let handle = busy.release();
    assert_eq!(handle.wait_timeout(Duration::MAX), Ok(()));
    shut_down(&scheduler);
}

#[test]
fn a_timed_out_wait_in_a_callback_gives_the_lent_worker_back() {
    let scheduler = one_worker();
    let delay = scheduler.post_after(HOUR, || ()).unwrap();
    let task = scheduler
        .post(move || delay.wait_timeout(Duration::from_millis(1)))
        .unwrap();
    assert_eq!(wait(&task), Ok(Err(Error::TimedOut)));
    assert_eq!(field(&scheduler, "lent"), 0);
    shut_down(&scheduler);
}

#[test]
fn everybody_who_waits_is_told() {
    let scheduler = one_worker();
    let busy = occupy(&scheduler);
    let task = scheduler.post(|| ()).unwrap();
    std::thread::scope(|scope| {
        let waiters: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| task.wait_for_runs(1, Some(PATIENCE))))
            .collect();
        drop(busy);
        for waiter in waiters {
            assert_eq!(waiter.join().unwrap(), Ok(()));
        }
    });
    shut_down(&scheduler);
}

#[test]
fn waits_against_finishes_are_never_lost() {
    let scheduler = scheduler(2, Options::default());
    for n in 0..10_000 {
        assert_eq!(wait(&scheduler.post(move || n).unwrap()), Ok(n));
    }
    shut_down(&scheduler);
}

#[test]
fn workers_that_help_each_other_run_every_task_once() {
    let scheduler = scheduler(2, Options::default());
    let runs = Arc::new(AtomicUsize::new(0));
    for _ in 0..300 {
        let counted = Arc::clone(&runs);
        let inner = scheduler.clone();
        let shared: Arc<Vec<Handle<()>>> = Arc::new(
            (0..10)
                .map(|_| {
                    let counted = Arc::clone(&counted);
                    inner
                        .post(move || _ = counted.fetch_add(1, Ordering::SeqCst))
                        .unwrap()
                })
                .collect(),
        );
        let waiters: Vec<_> = (0..2)
            .map(|_| {
                let shared = Arc::clone(&shared);
                let wait_for_all = move || {
                    for task in shared.iter().rev() {
                        task.wait_for_runs(1, Some(PATIENCE)).unwrap();
                    }
                };
                scheduler.post(wait_for_all).unwrap()
            })
            .collect();
        for waiter in &waiters {
            assert_eq!(wait(waiter), Ok(()));
        }
    }
    assert_eq!(runs.load(Ordering::SeqCst), 3_000);
    eventually("the queue is empty", || field(&scheduler, "queued") == 0);
    // The worker that took out the last one counts it a moment later.
    eventually("no tombstone is counted", || {
        field(&scheduler, "tombstones") == 0
    });
    shut_down(&scheduler);
}

// ===== The end =====

#[test]
fn a_graceful_end_runs_what_is_queued_and_cancels_what_waits_for_its_time() {
    let scheduler = one_worker();
    let busy = occupy(&scheduler);
    let queued: Vec<_> = (0..50)
        .map(|n| scheduler.post(move || n).unwrap())
        .collect();
    let (callback, is_alive) = owning();
    let delays: Vec<_> = (0..50)
        .map(|_| scheduler.post_after(HOUR, callback.clone()).unwrap())
        .collect();
    let series: Vec<_> = (0..50)
        .map(|_| {
            scheduler
                .post_every(&Every::new(HOUR), callback.clone())
                .unwrap()
        })
        .collect();
    drop(callback);
    std::thread::scope(|scope| {
        let end = scope.spawn(|| scheduler.shutdown());
        for waiting in delays.iter().chain(&series) {
            assert_eq!(wait(waiting), Err(Error::Cancelled)); // at once, not after the queue
        }
        assert!(!is_alive());
        assert!(!queued.iter().any(is_over));
        drop(busy);
        end.join().unwrap();
    });
    for (n, handle) in queued.iter().enumerate() {
        assert_eq!(wait(handle), Ok(n));
    }
    let stats = accounted(&scheduler);
    assert_eq!((stats.successful, stats.cancelled), (51, 100));
    assert_eq!(scheduler.post(|| ()).unwrap_err(), Error::Shutdown);
    assert_eq!(
        scheduler.post_after(HOUR, || ()).unwrap_err(),
        Error::Shutdown
    );
    assert_eq!(
        scheduler.post_every(&Every::new(HOUR), || ()).unwrap_err(),
        Error::Shutdown
    );
    assert_eq!(accounted(&scheduler).submitted, 151);
}

#[test]
fn an_immediate_end_cancels_what_is_queued_too() {
    let scheduler = one_worker();
    let busy = occupy(&scheduler);
    let (callback, is_alive) = owning();
    let queued: Vec<_> = (0..50)
        .map(|_| scheduler.post(callback.clone()).unwrap())
        .collect();
    let delay = scheduler.post_after(HOUR, callback).unwrap();
    std::thread::scope(|scope| {
        let end = scope.spawn(|| scheduler.shutdown_now());
        for task in queued.iter().chain([&delay]) {
            assert_eq!(wait(task), Err(Error::Cancelled));
        }
        assert!(!is_alive());
        assert!(!is_over(&busy.handle));
        drop(busy);
        end.join().unwrap();
    });
    let stats = accounted(&scheduler);
    assert_eq!((stats.successful, stats.cancelled), (1, 51));
}

#[test]
fn an_immediate_end_overtakes_a_graceful_one() {
    let scheduler = one_worker();
    let busy = occupy(&scheduler);
    let queued = scheduler.post(|| ()).unwrap();
    std::thread::scope(|scope| {
        let graceful = scope.spawn(|| scheduler.shutdown());
        eventually("it is closed", || {
            format!("{scheduler:?}").contains("open: false")
        });
        let immediate = scope.spawn(|| scheduler.shutdown_now());
        assert_eq!(wait(&queued), Err(Error::Cancelled));
        drop(busy);
        graceful.join().unwrap();
        immediate.join().unwrap();
    });
    accounted(&scheduler);
}

#[test]
fn a_scheduler_may_be_shut_down_again_and_without_ever_having_run() {
    let scheduler = one_worker();
    scheduler.shutdown();
    scheduler.shutdown_now();
    scheduler.shutdown();
    assert_eq!(accounted(&scheduler).submitted, 0);
    assert_eq!(scheduler.post(|| ()).unwrap_err(), Error::Shutdown);
}

#[test]
fn a_callback_may_shut_its_own_scheduler_down() {
    for now in [false, true] {
        let scheduler = scheduler(2, Options::default());
        let inner = scheduler.clone();
        let (begin, begun) = gate();
        let task = scheduler.post(move || {
            begun.pass();
            if now {
                inner.shutdown_now();
            } else {
                inner.shutdown();
            }
            inner.post(|| ()).is_err()
        });
        let task = task.unwrap();
        let busy = occupy(&scheduler);
        let queued = scheduler.post(|| 7).unwrap();
        drop(begin);
        assert_eq!(wait(&task), Ok(true));
        drop(busy);
        assert_eq!(
            wait(&queued),
            if now { Err(Error::Cancelled) } else { Ok(7) }
        );
        shut_down(&scheduler);
    }
}

#[test]
fn a_series_in_its_run_at_the_end_finishes_that_run_and_is_cancelled() {
    let (clock, scheduler) = by_hand();
    let (key, gate) = gate();
    let (started, starts) = channel();
    let beat = scheduler.post_every(&Every::new(Duration::from_millis(1)), move || {
        started.send(()).unwrap();
        gate.pass();
    });
    let beat = beat.unwrap();
    clock.advance(Duration::from_millis(1));
    receive(&starts, 1);
    std::thread::scope(|scope| {
        let end = scope.spawn(|| scheduler.shutdown());
        assert_eq!(
            beat.wait_timeout(Duration::from_millis(2)),
            Err(Error::TimedOut)
        );
        drop(key);
        end.join().unwrap();
    });
    assert_eq!(wait(&beat), Err(Error::Cancelled));
    assert_eq!(beat.view().runs(), 1);
    assert_eq!(accounted(&scheduler).cancelled, 1);
}

#[test]
fn a_post_during_the_end_is_refused_or_its_handle_ends() {
    for round in 0..30 {
        let pool = PoolOptions {
            queue_size: (round % 3 != 0).then_some(8),
            idle_timeout: Duration::from_micros(50),
            ..PoolOptions::default()
        };
        let scheduler = scheduler(
            1 + round % 3,
            Options {
                pool,
                ..Options::default()
            },
        );
        let posted = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            let posters: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        let mut handles = Vec::new();
                        for n in 0.. {
                            let handle = match n % 4 {
                                0 => scheduler.post_after(Duration::from_micros(20), || ()),
                                1 => scheduler
                                    .post_every(&Every::new(Duration::from_micros(50)), || ()),
                                _ => scheduler.post(|| ()),
                            };
                            match handle {
                                Ok(handle) => handles.push(handle),
                                Err(error) => {
                                    assert_eq!(error, Error::Shutdown);
                                    break;
                                }
                            }
                            if n % 8 == 1 {
                                handles[n / 2].cancel();
                            }
                            posted.fetch_add(1, Ordering::SeqCst);
                        }
                        handles
                    })
                })
                .collect();
            eventually("some were posted", || {
                posted.load(Ordering::SeqCst) > 40 * round
            });
            // Two at once, one of each kind every other round.
            let other = scope.spawn(|| scheduler.shutdown());
            if round % 2 == 0 {
                scheduler.shutdown();
            } else {
                scheduler.shutdown_now();
            }
            other.join().unwrap();
            for poster in posters {
                for handle in poster.join().unwrap() {
                    let ended = wait(&handle);
                    assert!(matches!(ended, Ok(()) | Err(Error::Cancelled)), "{ended:?}");
                }
            }
        });
        accounted(&scheduler);
    }
}

#[test]
fn dropping_the_scheduler_and_the_handles_loses_no_task() {
    let (sender, receiver) = channel();
    {
        let scheduler = one_worker();
        for n in 0..100 {
            let (now, later) = (sender.clone(), sender.clone());
            scheduler.post(move || now.send(n).unwrap()).unwrap();
            let delay = Duration::from_millis(1);
            scheduler
                .post_after(delay, move || later.send(n).unwrap())
                .unwrap();
        }
        drop(sender);
    }
    let seen: HashSet<_> = receive(&receiver, 200).into_iter().collect();
    assert_eq!(seen.len(), 100);
    assert!(
        receiver
            .recv_timeout(PATIENCE)
            .unwrap_err()
            .is_disconnected()
    );
}

#[test]
#[cfg(target_os = "linux")]
fn the_threads_of_a_dropped_scheduler_leave_with_its_last_task() {
    let pool = PoolOptions {
        min_workers: 2,
        idle_timeout: HOUR,
        thread_name: "dropped".to_owned(),
        ..PoolOptions::default()
    };
    let options = Options {
        pool,
        ..Options::default()
    };
    let scheduler = scheduler(2, options);
    let (key, gate) = gate();
    let later = scheduler
        .post_after(Duration::from_millis(1), || "later")
        .unwrap();
    let every = Every {
        max_runs: Some(3),
        ..Every::new(Duration::from_millis(1))
    };
    let series = scheduler.post_every(&every, move || gate.pass()).unwrap();
    let other = scheduler.clone();
    drop(scheduler);
    assert_eq!(wait(&other.post(|| 5).unwrap()), Ok(5));
    drop(other);
    assert_eq!(wait(&later), Ok("later"));
    assert!(threads_called("dropped") > 0, "the series goes on");
    drop(key);
    assert_eq!(wait(&series), Ok(()));
    eventually("they leave", || threads_called("dropped") == 0);
}

#[test]
#[cfg(target_os = "linux")]
fn without_threads_every_post_is_refused_and_counts_for_nothing() {
    if !without_threads("scheduler::without_threads_every_post_is_refused_and_counts_for_nothing") {
        return;
    }
    let scheduler = one_worker();
    let (callback, is_alive) = owning();
    let refused = [
        scheduler.post(callback.clone()).unwrap_err(),
        scheduler.post_after(HOUR, callback.clone()).unwrap_err(),
        scheduler
            .post_every(&Every::new(HOUR), callback)
            .unwrap_err(),
    ];
    for error in refused {
        assert!(matches!(error, Error::NoThread { .. }), "{error}");
    }
    assert!(!is_alive());
    assert_eq!(shut_down(&scheduler).submitted, 0);
}

#[test]
fn delayed_tasks_run_at_the_end_in_the_order_of_their_deadlines_where_asked_for() {
    let (sender, receiver) = channel();
    let scheduler = one_worker();
    for hours in [3, 1, 4, 2] {
        let sender = sender.clone();
        scheduler
            .post_after(HOUR * hours, move || sender.send(hours).unwrap())
            .unwrap();
    }
    let series = scheduler.post_every(&Every::new(HOUR), || ()).unwrap();
    assert!(scheduler.shutdown_with(Delayed::Run));
    drop(sender);
    assert_eq!(receiver.iter().collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert_eq!(wait(&series), Err(Error::Cancelled));
    assert!(scheduler.post(|| ()).is_err());
}

#[test]
fn delayed_tasks_are_waited_for_where_asked_for() {
    let (clock, scheduler) = by_hand();
    let tasks = [2, 1, 3].map(|n| scheduler.post_after(HOUR * n, move || n).unwrap());
    let waiting = scheduler.clone();
    let end = std::thread::spawn(move || waiting.shutdown_with(Delayed::Wait));
    eventually("posts are refused", || scheduler.post(|| ()).is_err());
    assert!(scheduler.post_after(HOUR, || ()).is_err());
    assert!(scheduler.post_every(&Every::new(HOUR), || ()).is_err());
    for _ in 0..3 {
        assert!(!end.is_finished());
        clock.advance(HOUR);
    }
    assert!(end.join().unwrap());
    assert_eq!(tasks.map(|task| wait(&task)), [Ok(2), Ok(1), Ok(3)]);
}

#[test]
fn a_wait_for_delayed_tasks_ends_with_the_last_of_them_or_with_a_shutdown() {
    for cancels in [true, false] {
        let (_clock, scheduler) = by_hand();
        let tasks = [1, 2].map(|n| scheduler.post_after(HOUR * n, || ()).unwrap());
        let waiting = scheduler.clone();
        let end = std::thread::spawn(move || waiting.shutdown_with(Delayed::Wait));
        eventually("posts are refused", || scheduler.post(|| ()).is_err());
        if cancels {
            assert!(tasks.iter().all(Handle::cancel));
        } else {
            assert!(!scheduler.shutdown_with(Delayed::Cancel));
        }
        assert!(end.join().unwrap());
        assert_eq!(
            tasks.map(|task| wait(&task)),
            [Err(Error::Cancelled), Err(Error::Cancelled)]
        );
    }
}

#[test]
fn what_is_cancelled_at_the_end_is_told() {
    let scheduler = one_worker();
    let task = scheduler.post_after(HOUR, || ()).unwrap();
    scheduler.post_every(&Every::new(HOUR), || ()).unwrap();
    assert!(!scheduler.shutdown_with(Delayed::Cancel));
    assert_eq!(wait(&task), Err(Error::Cancelled));
    assert!(scheduler.shutdown_with(Delayed::Cancel));
}
