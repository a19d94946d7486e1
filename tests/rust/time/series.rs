//! When the runs of a series are.

use super::*;

// ===== Series: when =====

#[test]
fn every_20_ms_runs_five_times_in_110_ms() {
    let (clock, scheduler) = by_hand();
    let (beat, runs) = post(&scheduler, &clock, &Every::new(ms(20)));
    run_for(&clock, ms(110));
    assert_eq!(all(&runs), [20, 40, 60, 80, 100]);
    assert_eq!(beat.runs(), 5);
    assert_eq!(beat.view().phase(), Phase::Pending);
    scheduler.shutdown();
}

#[test]
fn after_5_ms_and_then_every_20_ms_runs_six_times_in_110_ms() {
    let (clock, scheduler) = by_hand();
    let every = Every::new(ms(20)).first(ms(5));
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
    assert!(beat.is_finished());
    assert_eq!(beat.wait_for_runs(2, None), Ok(()));
    assert_eq!(beat.wait_for_runs(3, None), Err(Error::Cancelled));
    assert_eq!(wait(beat), Err(Error::Cancelled));
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
    assert!(!beat.wait_timeout(ms(1)));
    drop(key);
    assert!(beat.wait_timeout(PATIENCE));
    assert_eq!(beat.runs(), 1);
    assert_eq!(wait(beat), Err(Error::Cancelled));
    scheduler.shutdown();
}

#[test]
fn a_series_that_stops_itself_ends_with_that_run() {
    let (clock, scheduler) = by_hand();
    let (hand_over, handed_over) = channel::<SeriesHandle<()>>();
    let beat = scheduler.post_every(&Every::new(ms(20)), move || {
        let itself = handed_over.recv_timeout(PATIENCE).unwrap();
        itself.stop();
        assert!(!itself.is_finished());
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
    let every = Every::new(ms(20)).max_runs(3);
    let beat = scheduler.post_every(&every, move || {
        runs += 1;
        runs
    });
    let beat = beat.unwrap();
    run_for(&clock, ms(200));
    assert!(beat.wait_timeout(PATIENCE));
    assert_eq!(beat.runs(), 3);
    assert_eq!(beat.wait_for_runs(4, None), Err(Error::Ended { runs: 3 }));
    assert_eq!(wait(beat), Ok(3));
    let stats = scheduler.stats();
    assert_eq!((stats.successful, stats.pending_timers), (1, 0));
    scheduler.shutdown();
}

#[test]
fn a_series_ends_before_the_first_deadline_past_its_end() {
    let (clock, scheduler) = by_hand();
    run_for(&clock, ms(1_000)); // the end counts from posting
    let every = Every::new(ms(20)).until(ms(60));
    let (beat, runs) = post(&scheduler, &clock, &every);
    run_for(&clock, ms(200));
    assert_eq!(all(&runs), [1_020, 1_040, 1_060]);
    assert_eq!(wait(beat), Ok(()));
    scheduler.shutdown();
}

#[test]
fn jitter_is_added_to_each_deadline_and_does_not_accumulate() {
    let (clock, scheduler) = by_hand();
    let every = Every::new(ms(20)).jitter(ms(10));
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
        Error::from(refused),
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
    let every = Every::new(ms(20)).timing(Timing::FixedDelay);
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
    let every = Every::new(ms(20)).overlap(Overlap::Queue);
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
    let every = Every::new(ms(20)).missed(Missed::CatchUp);
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
    let (clock, scheduler) = one_by_hand();
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
