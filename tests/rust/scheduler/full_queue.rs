//! A full queue, by each policy.

use super::*;

#[test]
fn refuse_refuses_the_post_and_counts_nothing() {
    let scheduler = bounded_by(1, OnFull::Refuse);
    let busy = occupy(&scheduler);
    let queued = scheduler.post(|| 1).unwrap();
    let (callback, is_alive) = owning();
    assert_eq!(
        Error::from(scheduler.post(callback).unwrap_err()),
        Error::QueueFull
    );
    assert!(!is_alive());
    assert_eq!(scheduler.stats().submitted, 2);
    drop(busy);
    assert_eq!(wait(queued), Ok(1));
    assert_eq!(shut_down(scheduler).successful, 2);
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
    assert_eq!(wait(dropped), Err(Error::Cancelled));
    drop(busy);
    assert_eq!(wait(queued), Ok(1));
    let stats = shut_down(scheduler);
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
    assert!(others[0].is_finished());
    drop(busy);
    assert_eq!(receive(&ordered, 2), [1, 2]);
    let stats = shut_down(scheduler);
    assert_eq!((stats.submitted, stats.dropped), (5, 2));
}

#[test]
fn drop_oldest_drops_the_newest_where_nothing_is_queued() {
    let scheduler = bounded_by(0, OnFull::DropOldest);
    let busy = occupy(&scheduler);
    let (callback, is_alive) = owning();
    let dropped = scheduler.post(callback).unwrap();
    assert_eq!(wait(dropped), Err(Error::Cancelled));
    assert!(!is_alive());
    drop(busy);
    assert_eq!(shut_down(scheduler).dropped, 1);
}

#[test]
fn a_cancelled_task_makes_room_and_is_not_dropped_again() {
    for on_full in [
        OnFull::Refuse,
        OnFull::DropNewest,
        OnFull::DropOldest,
        OnFull::Block,
    ] {
        let scheduler = bounded_by(2, on_full);
        let busy = occupy(&scheduler);
        let queued = [(); 2].map(|()| scheduler.post(|| ()).unwrap());
        assert!(queued[0].abort());
        assert_eq!(scheduler.stats().pool.waiting, 1);
        let newest = scheduler.post(|| 5).unwrap();
        drop(busy);
        assert_eq!(wait(newest), Ok(5));
        let [_, second] = queued;
        assert_eq!(wait(second), Ok(()));
        let stats = shut_down(scheduler);
        assert_eq!((stats.cancelled, stats.dropped), (1, 0), "{on_full:?}");
    }
}

#[test]
fn drop_oldest_passes_over_cancelled_tasks() {
    let scheduler = bounded_by(2, OnFull::DropOldest);
    let busy = occupy(&scheduler);
    let queued = [(); 2].map(|()| scheduler.post(|| ()).unwrap());
    assert!(queued[0].abort());
    let third = scheduler.post(|| ()).unwrap();
    let fourth = scheduler.post(|| ()).unwrap();
    assert_eq!(queued[1].view().phase(), Phase::Cancelled);
    assert_eq!(scheduler.stats().pool.waiting, 2);
    drop(busy);
    assert_eq!((wait(third), wait(fourth)), (Ok(()), Ok(())));
    let stats = shut_down(scheduler);
    assert_eq!((stats.cancelled, stats.dropped), (1, 1));
}

/// The same, on a clock that is moved by hand.
fn bounded_by_hand(queue_size: usize, on_full: OnFull) -> (Arc<Manual>, Scheduler) {
    let clock = Arc::new(Manual::new());
    let builder = builder(1).queue_size(queue_size).on_full(on_full);
    let scheduler = builder.clock(Arc::clone(&clock)).build().unwrap();
    (clock, scheduler)
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
        let every = Every::new(SECOND).missed(missed);
        let series = scheduler.post_every(&every, || ()).unwrap();
        clock.advance(SECOND);
        eventually("all are queued", || scheduler.stats().pool.waiting == 4);
        let mut burst: Vec<_> = (0..50)
            .map(|n| scheduler.post(move || n).unwrap())
            .collect();
        // The first took the place of the run, and each of the others that of the one before.
        assert_eq!(scheduler.stats().missed_runs, 1, "{missed:?}");
        assert_eq!(scheduler.stats().dropped, 49);
        drop(busy);
        clock.run_for(9 * SECOND, PATIENCE, &mut || false).unwrap();
        let results: Vec<_> = delayed.into_iter().map(wait).collect();
        assert_eq!(results, [Ok(0), Ok(1), Ok(2)]);
        assert_eq!(wait(burst.remove(49)), Ok(49));
        assert_eq!(series.runs(), 9);
        series.stop();
        assert_eq!(shut_down(scheduler).missed_runs, 1);
    }
}

#[test]
fn drop_oldest_drops_the_new_task_where_nothing_older_may_go() {
    let (clock, scheduler) = bounded_by_hand(2, OnFull::DropOldest);
    let busy = occupy(&scheduler);
    let last = Every::new(SECOND).until(SECOND);
    let series = scheduler.post_every(&last, || ()).unwrap();
    let delayed: Vec<_> = (0..5)
        .map(|n| scheduler.post_after(SECOND, move || n).unwrap())
        .collect();
    clock.advance(SECOND);
    eventually("all are queued", || scheduler.stats().pool.waiting == 6);
    for _ in 0..3 {
        let newest = scheduler.post(|| ()).unwrap();
        assert_eq!(wait(newest), Err(Error::Cancelled));
    }
    drop(busy);
    for (n, task) in delayed.into_iter().enumerate() {
        assert_eq!(wait(task), Ok(n));
    }
    assert!(series.wait_timeout(PATIENCE));
    assert_eq!(series.runs(), 1);
    assert_eq!(wait(series), Ok(()));
    assert_eq!(shut_down(scheduler).dropped, 3);
}

#[test]
fn drop_oldest_drops_one_task_for_one_however_many_are_due() {
    let (clock, scheduler) = bounded_by_hand(2, OnFull::DropOldest);
    let busy = occupy(&scheduler);
    let [oldest, other] = [0, 1].map(|n| scheduler.post(move || n).unwrap());
    let mut delayed: Vec<_> = (0..20)
        .map(|_| scheduler.post_after(SECOND, || ()).unwrap())
        .collect();
    clock.advance(SECOND);
    eventually("all are queued", || scheduler.stats().pool.waiting == 22);
    let newest = scheduler.post(|| 2).unwrap();
    assert_eq!(wait(oldest), Err(Error::Cancelled));
    assert_eq!(other.view().phase(), Phase::Pending);
    assert!(delayed[3].abort());
    drop(busy);
    assert_eq!((wait(other), wait(newest)), (Ok(1), Ok(2)));
    assert_eq!(wait(delayed.remove(19)), Ok(()));
    let stats = shut_down(scheduler);
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
            scope.spawn(|| series.stop());
            scheduler.post(|| ()).unwrap();
        });
        assert_eq!(wait(series), Err(Error::Cancelled));
        drop(busy);
        let stats = shut_down(scheduler);
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
    assert_eq!(wait(task), Ok(here));
    let panicking = scheduler.post(|| panic!("on purpose")).unwrap();
    assert_eq!(wait(panicking), Err(Error::Panicked));
    drop(busy);
    let stats = shut_down(scheduler);
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
                        let counts = scheduler.handle().clone();
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
        assert_eq!(shut_down(scheduler).successful, 201);
    }
}

#[test]
fn a_worker_never_waits_for_room_in_its_own_pool() {
    let scheduler = bounded_by(1, OnFull::Block);
    let inner = scheduler.handle().clone();
    let (sent, handles) = channel();
    let poster = scheduler.post(move || {
        for n in 0..100 {
            sent.send(inner.post(move || n).unwrap()).unwrap();
        }
    });
    assert_eq!(wait(poster.unwrap()), Ok(()));
    for (n, handle) in receive(&handles, 100).into_iter().enumerate() {
        assert_eq!(wait(handle), Ok(n));
    }
    shut_down(scheduler);
}

#[test]
fn posters_who_wait_for_room_are_refused_at_the_end() {
    for drain in [true, false] {
        let scheduler = bounded_by(0, OnFull::Block);
        let busy = occupy(&scheduler);
        std::thread::scope(|scope| {
            let posters: Vec<_> = (0..3)
                .map(|_| {
                    scope.spawn(|| {
                        scheduler
                            .post(|| ())
                            .map(drop)
                            .map_err(|refused| refused.kind())
                    })
                })
                .collect();
            eventually("all posters wait", || field(&scheduler, "room") == 3);
            let closer = scope.spawn(|| shut_down_by(scheduler.handle(), drain));
            for poster in posters {
                assert_eq!(poster.join().unwrap(), Err(PostErrorKind::Shutdown));
            }
            drop(busy);
            closer.join().unwrap();
        });
        assert_eq!(accounted(scheduler.handle()).submitted, 1);
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
    for (n, handle) in handles.into_iter().enumerate() {
        assert_eq!(wait(handle), Ok(n));
    }
    shut_down(scheduler);
}

#[test]
fn a_post_that_only_tries_neither_waits_nor_drops_under_any_policy() {
    for on_full in [
        OnFull::Refuse,
        OnFull::DropNewest,
        OnFull::DropOldest,
        OnFull::Block,
    ] {
        let scheduler = bounded_by(1, on_full);
        let busy = occupy(&scheduler);
        let queued = scheduler.try_post(|| 1).unwrap();
        let refused = scheduler.try_post(|| 2).unwrap_err();
        assert_eq!(refused.kind(), PostErrorKind::QueueFull);
        assert_eq!(refused.into_inner()(), 2);
        drop(busy);
        assert_eq!(wait(queued), Ok(1));
        let handle = scheduler.handle().clone();
        scheduler.shutdown();
        let stats = accounted(&handle);
        assert_eq!((stats.submitted, stats.dropped), (2, 0));
    }
}
