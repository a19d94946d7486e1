//! Waits, those inside callbacks above all.

use super::*;

#[test]
fn nested_waits_fifty_deep_end_on_one_worker() {
    fn nest(scheduler: &SchedulerHandle, depth: u32) -> u32 {
        if depth == 0 {
            return 0;
        }
        let inner = scheduler.clone();
        let task = scheduler.post(move || nest(&inner, depth - 1)).unwrap();
        wait(task).unwrap() + 1
    }

    let scheduler = one_worker();
    let inner = scheduler.handle().clone();
    let task = scheduler.post(move || nest(&inner, 50)).unwrap();
    assert_eq!(wait(task), Ok(50));
    assert_eq!(shut_down(scheduler).successful, 51);
}

#[test]
fn nested_waits_on_delays_fifty_deep_end_on_one_worker() {
    fn nest(scheduler: &SchedulerHandle, depth: u32) -> u32 {
        if depth == 0 {
            return 0;
        }
        let inner = scheduler.clone();
        let delay = Duration::from_micros(100);
        let task = scheduler
            .post_after(delay, move || nest(&inner, depth - 1))
            .unwrap();
        wait(task).unwrap() + 1
    }

    let scheduler = one_worker();
    let inner = scheduler.handle().clone();
    let task = scheduler.post(move || nest(&inner, 50)).unwrap();
    assert_eq!(wait(task), Ok(50));
    assert_eq!(shut_down(scheduler).successful, 51);
}

#[test]
fn the_only_worker_may_wait_for_a_delay_and_for_a_series() {
    let scheduler = one_worker();
    let inner = scheduler.handle().clone();
    let task = scheduler.post(move || {
        let delay = inner.post_after(Duration::from_millis(1), || 5).unwrap();
        let value = wait(delay).unwrap();
        let beat = inner
            .post_every(&Every::new(Duration::from_micros(100)), || ())
            .unwrap();
        beat.wait_for_runs(value, Some(PATIENCE)).unwrap();
        beat.stop();
        wait(beat)
    });
    assert_eq!(wait(task.unwrap()), Ok(Err(Error::Cancelled)));
    shut_down(scheduler);
}

#[test]
fn a_task_may_wait_for_all_its_children_and_they_for_theirs() {
    fn tree(scheduler: &SchedulerHandle, depth: u32) -> u64 {
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
            .into_iter()
            .rev()
            .map(|child| wait(child).unwrap())
            .sum()
    }

    for max_workers in 1..=3 {
        let scheduler = builder(max_workers).build().unwrap();
        let inner = scheduler.handle().clone();
        let root = scheduler.post(move || tree(&inner, 5)).unwrap();
        assert_eq!(wait(root), Ok(4_u64.pow(5)));
        shut_down(scheduler);
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
        awaited.wait_timeout(PATIENCE)
    });
    receive(&waits.1, 1);
    delay.abort();
    assert_eq!(wait(task.unwrap()), Ok(true));
    assert_eq!(delay.view().phase(), Phase::Cancelled);
    shut_down(scheduler);
}

#[test]
fn callbacks_of_two_schedulers_may_wait_for_each_other() {
    let (one, two) = (one_worker(), one_worker());
    let (inner_one, inner_two) = (one.handle().clone(), two.handle().clone());
    let task = one.post(move || {
        let there = inner_two.post(move || {
            let back = inner_one.post(|| 5).unwrap(); // while the only worker of `one` waits
            wait(back).unwrap()
        });
        wait(there.unwrap()).unwrap()
    });
    assert_eq!(wait(task.unwrap()), Ok(5));
    shut_down(one);
    shut_down(two);
}

#[test]
fn a_wait_for_a_task_that_is_over_lends_no_worker() {
    let scheduler = one_worker();
    let over = scheduler.post(|| ()).unwrap();
    assert!(over.wait_timeout(PATIENCE));
    let inner = scheduler.handle().clone();
    let task = scheduler.post(move || {
        let queued = inner.post(|| ()).unwrap();
        for _ in 0..100 {
            assert!(over.wait_timeout(PATIENCE));
            let PoolCounts { running, idle, .. } = inner.stats().pool;
            assert_eq!((running, idle), (1, 0), "a worker too many");
        }
        // Nor does one that this very worker runs; only a wait without a timeout may.
        let helped = inner.post(|| 7).unwrap();
        assert_eq!(helped.join().unwrap(), 7);
        let PoolCounts { running, idle, .. } = inner.stats().pool;
        assert_eq!((running, idle), (1, 0), "a worker too many");
        assert!(!queued.is_finished());
    });
    assert_eq!(wait(task.unwrap()), Ok(()));
    shut_down(scheduler);
}

#[test]
fn a_wait_times_out_and_may_be_taken_up_again() {
    let scheduler = one_worker();
    let busy = occupy(&scheduler);
    assert!(!busy.handle.wait_timeout(Duration::ZERO));
    assert!(!busy.handle.wait_timeout(Duration::from_millis(2)));
    let later = scheduler.post_after(HOUR, || ()).unwrap();
    let later = later.join_timeout(Duration::ZERO).unwrap_err();
    let later = later.join_timeout(Duration::from_millis(2)).unwrap_err();
    assert!(later.abort());
    let handle = busy.release();
    assert!(handle.join_timeout(Duration::MAX).unwrap().is_ok());
    shut_down(scheduler);
}

#[test]
fn a_timed_out_wait_in_a_callback_gives_the_lent_worker_back() {
    let scheduler = one_worker();
    let delay = scheduler.post_after(HOUR, || ()).unwrap();
    let task = scheduler
        .post(move || delay.wait_timeout(Duration::from_millis(1)))
        .unwrap();
    assert_eq!(wait(task), Ok(false));
    assert_eq!(field(&scheduler, "lent"), 0);
    shut_down(scheduler);
}

#[test]
fn everybody_who_waits_is_told() {
    let scheduler = one_worker();
    let busy = occupy(&scheduler);
    let task = scheduler.post(|| ()).unwrap();
    std::thread::scope(|scope| {
        let waiters: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| task.wait_timeout(PATIENCE)))
            .collect();
        drop(busy);
        for waiter in waiters {
            assert!(waiter.join().unwrap());
        }
    });
    shut_down(scheduler);
}

#[test]
fn waits_against_finishes_are_never_lost() {
    let scheduler = builder(2).build().unwrap();
    for n in 0..10_000 {
        assert_eq!(wait(scheduler.post(move || n).unwrap()), Ok(n));
    }
    shut_down(scheduler);
}

#[test]
fn workers_that_help_each_other_run_every_task_once() {
    let scheduler = builder(2).build().unwrap();
    let runs = Arc::new(AtomicUsize::new(0));
    for _ in 0..300 {
        let counted = Arc::clone(&runs);
        let inner = scheduler.handle().clone();
        let shared: Arc<Vec<JoinHandle<()>>> = Arc::new(
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
                        assert!(task.wait_timeout(PATIENCE));
                    }
                };
                scheduler.post(wait_for_all).unwrap()
            })
            .collect();
        for waiter in waiters {
            assert_eq!(wait(waiter), Ok(()));
        }
    }
    assert_eq!(runs.load(Ordering::SeqCst), 3_000);
    eventually("the queue is empty", || field(&scheduler, "queued") == 0);
    // The worker that took out the last one counts it a moment later.
    eventually("no tombstone is counted", || {
        field(&scheduler, "tombstones") == 0
    });
    shut_down(scheduler);
}
