//! Callbacks, values and payloads that panic.

use super::*;

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "on purpose, in a drop");
    }
}

/// After `harm` was done the same worker goes on, and the counts are right.
fn survives<H: Join<Value = ()>>(
    harm: impl FnOnce(&Scheduler) -> H,
    expected: &Result<(), Error>,
) -> Stats {
    let scheduler = one_worker();
    let before = wait(scheduler.post(|| std::thread::current().id()).unwrap());
    assert_eq!(&wait(harm(&scheduler)), expected);
    let after = wait(scheduler.post(|| std::thread::current().id()).unwrap());
    assert_eq!(before, after);
    shut_down(scheduler)
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
    let scheduler = one_worker();
    let before = wait(scheduler.post(|| std::thread::current().id()).unwrap());
    drop(scheduler.post(|| panic_any(Bomb)).unwrap()); // so that the worker drops it
    let task = scheduler.post(|| panic_any(Bomb)).unwrap();
    let failed = task.join().unwrap_err();
    std::mem::forget(failed.into_panic());
    let after = wait(scheduler.post(|| std::thread::current().id()).unwrap());
    assert_eq!(before, after);
    let stats = shut_down(scheduler);
    assert_eq!((stats.successful, stats.failed), (2, 2));
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
    let every = Every::new(Duration::from_micros(1)).max_runs(2);
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
    assert!(task.abort());
    assert_eq!(wait(task), Err(Error::Cancelled));
    drop(busy);
    assert_eq!(shut_down(scheduler).cancelled, 1);
}

#[test]
fn a_result_that_panics_when_it_is_freed_costs_no_worker() {
    let scheduler = one_worker();
    let busy = occupy(&scheduler);
    let before = scheduler.post(|| std::thread::current().id()).unwrap();
    drop(scheduler.post(|| Bomb).unwrap());
    let after = scheduler.post(|| std::thread::current().id()).unwrap();
    drop(busy);
    assert_eq!(wait(before).unwrap(), wait(after).unwrap());
    shut_down(scheduler);
}

#[test]
fn a_value_that_panics_when_it_is_freed_does_not_keep_a_shutdown_from_its_end() {
    let (clock, scheduler) = by_hand();
    // A series that has a value, and waits when it is cancelled; and a worker that takes its time.
    let second = Duration::from_secs(1);
    let every = Every::new(second);
    let series = scheduler.post_every(&every, || Bomb).unwrap();
    clock.run_for(second, PATIENCE, &mut || false).unwrap();
    drop(series);
    let (key, gate) = gate();
    let (started, has_started) = channel();
    let busy = scheduler.post(move || {
        started.send(()).unwrap();
        gate.pass();
    });
    receive(&has_started, 1);
    let handle = scheduler.handle().clone();
    std::thread::scope(|scope| {
        let shut = scope.spawn(|| scheduler.shutdown());
        eventually("it is closed", || handle.post(|| ()).is_err());
        drop(key);
        shut.join().expect("the shutdown was unwound");
    });
    assert_eq!(busy.unwrap().view().phase(), Phase::Finished);
    assert_eq!(handle.stats().pool.idle, 0);
}

#[test]
fn what_a_callback_panics_with_is_in_the_error() {
    let scheduler = one_worker();
    let task = scheduler.post(|| panic_any(7)).unwrap();
    let failed = task.join().unwrap_err();
    assert!(failed.is_panic() && !failed.is_cancelled());
    assert_eq!(failed.into_panic().downcast_ref(), Some(&7));

    let last = Every::new(Duration::from_micros(1)).stop_on_error(true);
    let series = scheduler.post_every(&last, || panic!("run {}", 1)).unwrap();
    let failed = series.join().map(|_: Option<()>| ()).unwrap_err();
    assert_eq!(
        failed.to_string(),
        "the task's callback panicked: run 1",
        "{failed:?}"
    );
    shut_down(scheduler);
}

#[test]
fn the_value_of_a_series_outlasts_a_later_run_that_panicked() {
    let (clock, scheduler) = by_hand();
    let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    clock.set_wall(start);
    let second = Duration::from_secs(1);
    let every = Every::new(second).until_wall(start + 10 * second);
    let mut runs = 0;
    let series = scheduler.post_every(&every, move || {
        runs += 1;
        assert!(runs < 2, "on purpose");
        runs
    });
    clock.run_for(2 * second, PATIENCE, &mut || false).unwrap();
    clock.set_wall(start + 20 * second); // over, by the wall clock
    assert_eq!(wait(series.unwrap()), Ok(1));
    shut_down(scheduler);
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
    assert_eq!(beat.unwrap().runs(), 4);
    shut_down(scheduler);
}

#[test]
fn a_series_that_stops_on_error_ends_with_the_run_that_panicked() {
    let (clock, scheduler) = by_hand();
    let every = Every::new(Duration::from_millis(1)).stop_on_error(true);
    let beat = scheduler
        .post_every(&every, || panic!("on purpose"))
        .unwrap();
    clock
        .run_for(Duration::from_millis(4), PATIENCE, &mut || false)
        .unwrap();
    assert!(beat.wait_timeout(PATIENCE));
    assert_eq!(beat.runs(), 1);
    assert_eq!(wait(beat), Err::<(), _>(Error::Panicked));
    assert_eq!(shut_down(scheduler).failed, 1);
}
