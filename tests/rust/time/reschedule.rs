//! Deadlines that are moved, and counts while runs hang.

use super::*;

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
    let lost = hung.lost();
    assert_eq!((lost.skipped, lost.missed), (10, 0));
    let starved = scheduler.post_every(&Every::new(ms(10)), || ()).unwrap();
    clock.advance(ms(100));
    let stats = scheduler.stats();
    assert_eq!((stats.skipped_runs, stats.missed_runs), (20, 9));
    let lost = starved.lost();
    assert_eq!((lost.skipped, lost.missed), (0, 9));
    drop(key);
    run_for(&clock, ms(0));
    let stats = scheduler.stats();
    assert_eq!((stats.skipped_runs, stats.missed_runs), (20, 9));
    assert_eq!(hung.runs() + starved.runs(), 2);
    // A tick that is due and will have no run is missed.
    let busy = occupy(&scheduler);
    clock.advance(ms(10));
    eventually("both are queued", || scheduler.stats().pool.waiting == 2);
    assert!({
        hung.stop();
        starved.stop();
        hung.is_finished() && starved.is_finished()
    });
    assert_eq!(scheduler.stats().missed_runs, 11);
    drop(busy);
    let handle = scheduler.handle().clone();
    scheduler.shutdown();
    assert_eq!(handle.stats().missed_runs, 11);
}

#[test]
#[cfg(target_os = "linux")]
fn the_timer_keeps_its_thread_while_a_run_goes_and_lets_it_go_after_the_last() {
    let builder = builder(1).idle_timeout(ms(1)).thread_name("kept");
    let scheduler = builder.build().unwrap();
    let (key, gate) = gate();
    let (started, has_started) = channel();
    let once = Every::new(ms(1)).max_runs(1);
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
    assert_eq!(wait(series), Ok(()));
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
    let runs: u64 = series.iter().map(SeriesHandle::runs).sum();
    assert_eq!(runs + stats.skipped_runs + stats.missed_runs, 40 * 1_500);
    scheduler.shutdown();
}

#[test]
fn a_series_ends_as_the_wall_clock_says_however_it_is_set() {
    let (clock, scheduler) = by_hand();
    let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    clock.set_wall(start);
    let until = |seconds| {
        Every::new(Duration::from_secs(60)).until_wall(start + Duration::from_secs(seconds))
    };
    let (series, runs) = post(&scheduler, &clock, &until(330));
    run_for(&clock, Duration::from_secs(120));
    // An hour back: it goes on for an hour more.
    clock.set_wall(start + Duration::from_secs(120) - Duration::from_secs(3600));
    run_for(&clock, Duration::from_secs(3600));
    assert_eq!(series.runs(), 62);
    // Two minutes forward, and it is over at once, without another run.
    clock.set_wall(start + Duration::from_secs(240));
    run_for(&clock, Duration::from_secs(30));
    assert_eq!(series.view().phase(), Phase::Pending);
    clock.set_wall(start + Duration::from_secs(331));
    assert!(series.wait_timeout(PATIENCE));
    assert_eq!((series.runs(), all(&runs).len()), (62, 62));
    assert_eq!(wait(series), Ok(()));
    let stats = scheduler.stats();
    assert_eq!(
        (stats.successful, stats.skipped_runs, stats.missed_runs),
        (1, 0, 0)
    );

    let past = scheduler.post_every(&until(330), || ()).unwrap_err();
    assert_eq!(past.to_string(), "until is in the past, by 1s");
    let (short, _runs) = post(&scheduler, &clock, &until(391));
    run_for(&clock, Duration::from_secs(61));
    assert!(short.wait_timeout(PATIENCE));
    assert_eq!((short.runs(), wait(short)), (1, Ok(())));
}

#[test]
fn a_due_run_that_the_wall_clock_has_overtaken_does_not_run() {
    let (clock, scheduler) = by_hand();
    scheduler.resize(1).unwrap();
    let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    clock.set_wall(start);
    let every = Every::new(Duration::from_secs(10)).until_wall(start + Duration::from_secs(100));
    let busy = occupy(&scheduler);
    let (series, runs) = post(&scheduler, &clock, &every);
    clock.advance(Duration::from_secs(10));
    eventually("it is queued", || scheduler.stats().pool.waiting == 1);
    clock.set_wall(start + Duration::from_secs(3600));
    drop(busy);
    assert_eq!(wait(series), Err(Error::Ended { runs: 0 }));
    assert!(all(&runs).is_empty());
    assert_eq!(scheduler.stats().successful, 2);
}

#[test]
fn a_due_task_that_waits_for_a_worker_can_still_be_cancelled() {
    let (clock, scheduler) = one_by_hand();
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
    assert!(delay.abort());
    beat.stop();
    assert_eq!(Arc::strong_count(&owned), 1);
    assert_eq!(scheduler.stats().pool.waiting, 0);
    drop(busy);
    assert_eq!(wait(delay), Err(Error::Cancelled));
    let handle = scheduler.handle().clone();
    scheduler.shutdown();
    assert_eq!(field(&handle, "tombstones"), 0);
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
    let scheduler = builder(1).build().unwrap();
    let task = scheduler
        .post_after(Duration::from_secs(3600), || 5)
        .unwrap();
    assert!(!task.wait_timeout(ms(1)));
    assert!(task.reschedule(ms(1)));
    assert_eq!(wait(task), Ok(5));
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
        let (hand_over, handed_over) = channel::<SeriesHandle<()>>();
        let every = Every::new(ms(20)).timing(timing);
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
    let every = Every::new(ms(20)).until(ms(100));
    let (beat, runs) = post(&scheduler, &clock, &every);
    run_for(&clock, ms(30));
    assert!(!beat.reschedule(ms(71)));
    assert!(beat.reschedule(ms(60)));
    run_for(&clock, ms(200));
    assert_eq!(all(&runs), [20, 90]);
    assert_eq!(wait(beat), Ok(()));

    // Nor when its last run is going.
    let (hand_over, handed_over) = channel::<SeriesHandle<()>>();
    let every = Every::new(ms(20)).max_runs(1);
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
    let (clock, scheduler) = one_by_hand();
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
    assert!(delay.wait_timeout(PATIENCE));
    assert_eq!((wait(now), wait(busy)), (Ok(3), Ok(())));
    beat.wait_for_runs(1, Some(PATIENCE)).unwrap();
    beat.stop();
    assert!(!delay.reschedule(ms(100)));
    assert!(!beat.reschedule(ms(100)));
    assert_eq!(wait(delay), Ok(1));
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
    let scheduler = builder(2).build().unwrap();
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
            assert!(task.abort());
            assert_eq!(wait(task), Err(Error::Cancelled));
        } else {
            late += 1;
            assert_eq!(wait(task), Ok(()));
        }
    }
    let stats = scheduler.stats();
    assert_eq!((stats.cancelled, stats.successful), (moved, late));
    scheduler.shutdown();
}
