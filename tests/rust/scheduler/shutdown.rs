//! The end of a scheduler.

use super::*;

/// Shuts it down on another thread, while this one does as it likes.
fn shut_down_elsewhere<'scope>(
    scope: &'scope Scope<'scope, '_>,
    scheduler: Scheduler,
) -> (SchedulerHandle, ScopedJoinHandle<'scope, ()>) {
    let handle = scheduler.handle().clone();
    (handle, scope.spawn(|| scheduler.shutdown()))
}

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
    let handle = std::thread::scope(|scope| {
        let (handle, end) = shut_down_elsewhere(scope, scheduler);
        // At once, not after the queue.
        for delay in delays {
            assert_eq!(wait(delay), Err(Error::Cancelled));
        }
        for series in series {
            assert_eq!(wait(series), Err(Error::Cancelled));
        }
        assert!(!is_alive());
        assert!(!queued.iter().any(JoinHandle::is_finished));
        drop(busy);
        end.join().unwrap();
        handle
    });
    for (n, task) in queued.into_iter().enumerate() {
        assert_eq!(wait(task), Ok(n));
    }
    let stats = accounted(&handle);
    assert_eq!((stats.successful, stats.cancelled), (51, 100));
    let refused = [
        handle.post(|| ()).unwrap_err().kind(),
        handle.post_after(HOUR, || ()).unwrap_err().kind(),
        handle
            .post_every(&Every::new(HOUR), || ())
            .unwrap_err()
            .kind(),
    ];
    assert_eq!(refused, [PostErrorKind::Shutdown; 3]);
    assert_eq!(accounted(&handle).submitted, 151);
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
    let handle = scheduler.handle().clone();
    std::thread::scope(|scope| {
        let end = scope.spawn(|| scheduler.shutdown_now());
        for task in queued.into_iter().chain([delay]) {
            assert_eq!(wait(task), Err(Error::Cancelled));
        }
        assert!(!is_alive());
        assert!(!busy.handle.is_finished());
        drop(busy);
        end.join().unwrap();
    });
    let stats = accounted(&handle);
    assert_eq!((stats.successful, stats.cancelled), (1, 51));
}

#[test]
fn an_immediate_end_overtakes_a_graceful_one() {
    let scheduler = one_worker();
    let busy = occupy(&scheduler);
    let queued = scheduler.post(|| ()).unwrap();
    std::thread::scope(|scope| {
        let (handle, graceful) = shut_down_elsewhere(scope, scheduler);
        eventually("it is closed", || handle.engine().pool().is_closed());
        let again = handle.clone();
        let immediate = scope.spawn(move || shut_down_by(&again, false));
        assert_eq!(wait(queued), Err(Error::Cancelled));
        drop(busy);
        graceful.join().unwrap();
        immediate.join().unwrap();
        accounted(&handle);
    });
}

#[test]
fn a_scheduler_may_be_shut_down_again_and_without_ever_having_run() {
    let scheduler = one_worker();
    let handle = scheduler.handle().clone();
    scheduler.shutdown();
    shut_down_by(&handle, false);
    shut_down_by(&handle, true);
    assert_eq!(accounted(&handle).submitted, 0);
    let refused = handle.post(|| ()).unwrap_err();
    assert_eq!(refused.kind(), PostErrorKind::Shutdown);
}

#[test]
fn a_callback_may_shut_its_own_scheduler_down() {
    for now in [false, true] {
        let scheduler = builder(2).build().unwrap();
        let handle = scheduler.handle().clone();
        let (hand_over, handed_over) = channel::<Scheduler>();
        let task = scheduler.post(move || {
            let inner = handed_over.recv_timeout(PATIENCE).unwrap();
            let handle = inner.handle().clone();
            if now {
                inner.shutdown_now();
            } else {
                inner.shutdown();
            }
            handle.post(|| ()).is_err()
        });
        let task = task.unwrap();
        let busy = occupy(&scheduler);
        let queued = scheduler.post(|| 7).unwrap();
        hand_over.send(scheduler).unwrap();
        assert_eq!(wait(task), Ok(true));
        drop(busy);
        assert_eq!(
            wait(queued),
            if now { Err(Error::Cancelled) } else { Ok(7) }
        );
        shut_down_by(&handle, true);
        accounted(&handle);
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
        let (handle, end) = shut_down_elsewhere(scope, scheduler);
        assert!(!beat.wait_timeout(Duration::from_millis(2)));
        drop(key);
        end.join().unwrap();
        assert_eq!(accounted(&handle).cancelled, 1);
    });
    assert_eq!(beat.runs(), 1);
    assert_eq!(wait(beat), Err(Error::Cancelled));
}

#[test]
fn a_post_during_the_end_is_refused_or_its_handle_ends() {
    for round in 0..30 {
        let mut builder = builder(1 + round % 3).idle_timeout(Duration::from_micros(50));
        if round % 3 != 0 {
            builder = builder.queue_size(8);
        }
        let scheduler = builder.build().unwrap();
        let handle = scheduler.handle().clone();
        let posted = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            let posters: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        let (mut tasks, mut series) = (Vec::new(), Vec::new());
                        let soon = Duration::from_micros(20);
                        let every = Every::new(Duration::from_micros(50));
                        for n in 0.. {
                            let refused = match n % 4 {
                                0 => keep(&mut tasks, handle.post_after(soon, || ())),
                                1 => keep(&mut series, handle.post_every(&every, || ())),
                                _ => keep(&mut tasks, handle.post(|| ())),
                            };
                            if let Some(kind) = refused {
                                assert_eq!(kind, PostErrorKind::Shutdown);
                                break;
                            }
                            if n % 8 == 1 {
                                tasks[n / 2].abort();
                            }
                            posted.fetch_add(1, Ordering::SeqCst);
                        }
                        (tasks, series)
                    })
                })
                .collect();
            eventually("some were posted", || {
                posted.load(Ordering::SeqCst) > 40 * round
            });
            // Two at once, one of each kind every other round.
            let other = scope.spawn(|| scheduler.shutdown());
            shut_down_by(&handle, round % 2 == 0);
            other.join().unwrap();
            let is_ended = |ended| matches!(ended, Ok(()) | Err(Error::Cancelled));
            for poster in posters {
                let (tasks, series) = poster.join().unwrap();
                assert!(tasks.into_iter().map(wait).all(is_ended));
                assert!(series.into_iter().map(wait).all(is_ended));
            }
        });
        accounted(&handle);
    }
}

/// Keeps what was posted, or says why it was not.
fn keep<H, F>(handles: &mut Vec<H>, posted: Result<H, PostError<F>>) -> Option<PostErrorKind> {
    posted
        .map(|handle| handles.push(handle))
        .map_err(|refused| refused.kind())
        .err()
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
    let builder = builder(2).min_workers(2).idle_timeout(HOUR);
    let scheduler = builder.thread_name("dropped").build().unwrap();
    let (key, gate) = gate();
    let later = scheduler
        .post_after(Duration::from_millis(1), || "later")
        .unwrap();
    let every = Every::new(Duration::from_millis(1)).max_runs(3);
    let series = scheduler.post_every(&every, move || gate.pass()).unwrap();
    let other = scheduler.handle().clone();
    drop(scheduler);
    assert_eq!(wait(other.post(|| 5).unwrap()), Ok(5));
    drop(other);
    assert_eq!(wait(later), Ok("later"));
    assert!(threads_called("dropped") > 0, "the series goes on");
    drop(key);
    assert_eq!(wait(series), Ok(()));
    eventually("they leave", || threads_called("dropped") == 0);
}

#[test]
#[cfg(target_os = "linux")]
fn without_threads_every_post_is_refused_and_counts_for_nothing() {
    if !without_threads(
        "scheduler::shutdown::without_threads_every_post_is_refused_and_counts_for_nothing",
    ) {
        return;
    }
    let scheduler = one_worker();
    let (callback, is_alive) = owning();
    let refused = [
        scheduler.post(callback.clone()).unwrap_err().kind(),
        scheduler
            .post_after(HOUR, callback.clone())
            .unwrap_err()
            .kind(),
        scheduler
            .post_every(&Every::new(HOUR), callback)
            .unwrap_err()
            .kind(),
    ];
    assert_eq!(refused, [PostErrorKind::NoThread; 3]);
    assert!(!is_alive());
    assert_eq!(shut_down(scheduler).submitted, 0);
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
    let handle = scheduler.handle().clone();
    assert!(scheduler.shutdown_with(Delayed::Run));
    drop(sender);
    assert_eq!(receiver.iter().collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert_eq!(wait(series), Err(Error::Cancelled));
    assert!(handle.post(|| ()).is_err());
}

#[test]
fn delayed_tasks_are_waited_for_where_asked_for() {
    let (clock, scheduler) = by_hand();
    let tasks = [2, 1, 3].map(|n| scheduler.post_after(HOUR * n, move || n).unwrap());
    let handle = scheduler.handle().clone();
    let end = std::thread::spawn(move || scheduler.shutdown_with(Delayed::Wait));
    eventually("posts are refused", || handle.post(|| ()).is_err());
    assert!(handle.post_after(HOUR, || ()).is_err());
    assert!(handle.post_every(&Every::new(HOUR), || ()).is_err());
    for _ in 0..3 {
        assert!(!end.is_finished());
        clock.advance(HOUR);
    }
    assert!(end.join().unwrap());
    assert_eq!(tasks.map(wait), [Ok(2), Ok(1), Ok(3)]);
}

#[test]
fn a_wait_for_delayed_tasks_ends_with_the_last_of_them_or_with_a_shutdown() {
    for cancels in [true, false] {
        let (_clock, scheduler) = by_hand();
        let tasks = [1, 2].map(|n| scheduler.post_after(HOUR * n, || ()).unwrap());
        let handle = scheduler.handle().clone();
        let end = std::thread::spawn(move || scheduler.shutdown_with(Delayed::Wait));
        eventually("posts are refused", || handle.post(|| ()).is_err());
        if cancels {
            assert!(tasks.iter().all(JoinHandle::abort));
        } else {
            assert!(!handle.engine().close(true, ()));
        }
        assert!(end.join().unwrap());
        assert_eq!(
            tasks.map(wait),
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
    assert_eq!(wait(task), Err(Error::Cancelled));
    assert!(one_worker().shutdown_with(Delayed::Cancel));
}

#[test]
fn an_end_with_a_timeout_tells_what_it_has_cut_short() {
    let scheduler = one_worker();
    let later = scheduler.post_after(HOUR, || ()).unwrap();
    assert!(!scheduler.shutdown_timeout(PATIENCE), "cancelled");
    assert_eq!(wait(later), Err(Error::Cancelled));

    let scheduler = one_worker();
    let task = scheduler.post(|| 1).unwrap();
    assert!(scheduler.shutdown_timeout(PATIENCE));
    assert_eq!(wait(task), Ok(1));
}

#[test]
fn an_end_from_a_callback_waits_for_nothing_and_says_so() {
    let scheduler = one_worker();
    let handle = scheduler.handle().clone();
    let (give, take) = channel();
    let ends = handle.post(move || {
        let scheduler: Scheduler = take.recv().unwrap();
        scheduler.shutdown_timeout(PATIENCE)
    });
    let queued = handle.post(|| 1).unwrap();
    give.send(scheduler).unwrap();
    assert_eq!(wait(ends.unwrap()), Ok(false));
    assert_eq!(wait(queued), Ok(1));
}

#[test]
fn schedulers_that_end_each_other_cancel_nothing_that_is_queued() {
    let (one, other) = (one_worker(), one_worker());
    let handles = [one.handle().clone(), other.handle().clone()];
    let meet = Arc::new(Barrier::new(2));
    let ends: Vec<_> = [(&handles[0], other), (&handles[1], one)]
        .into_iter()
        .map(|(handle, whom)| {
            let meet = Arc::clone(&meet);
            let end = handle.post(move || {
                meet.wait();
                whom.shutdown_timeout(PATIENCE)
            });
            (end.unwrap(), handle.post(|| 1).unwrap())
        })
        .collect();
    for (end, queued) in ends {
        let _ = wait(end); // one of them waits for the other, which does not
        assert_eq!(wait(queued), Ok(1));
    }
}
