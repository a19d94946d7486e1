use std::time::Duration;

use super::*;
use crate::series::Every;

fn never() -> impl FnMut() -> bool {
    || unreachable!("no signal was sent")
}

fn series(ms: u64) -> Task {
    let every = Every::new(Duration::from_millis(ms));
    Task::series(Series::new(&every, Moment::at(0)).expect("the test asks for sense"))
}

#[test]
fn a_handle_state_stays_small() {
    assert_eq!(size_of::<Task>(), 32);
}

#[test]
fn a_one_shot_runs_once() {
    let task = Task::one_shot();
    assert_eq!(task.view().phase(), Phase::Pending);
    assert!(task.start());
    assert!(!task.start());
    assert_eq!(task.view().phase(), Phase::Running);
    assert_eq!(task.end_run(Moment::at(0), false, |_| ()), None);
    task.finish(Phase::Finished, &mut Wakes::default());
    assert_eq!(
        (task.view().phase(), task.view().runs()),
        (Phase::Finished, 1)
    );
    assert_eq!(task.stop(true), Cancel::Over);
}

#[test]
fn a_pending_task_is_cancelled_at_once_and_never_starts() {
    let task = Task::one_shot();
    assert_eq!(task.stop(true), Cancel::Now);
    assert!(!task.start());
    assert_eq!(
        (task.view().phase(), task.view().runs()),
        (Phase::Cancelled, 0)
    );
    assert_eq!(task.stop(false), Cancel::Over);
}

#[test]
fn a_running_one_shot_is_only_asked() {
    let task = Task::one_shot();
    task.start();
    assert_eq!(task.stop(false), Cancel::Running);
    assert!(!task.view().cancel_requested());
    assert_eq!(task.stop(true), Cancel::Running);
    assert!(task.view().cancel_requested());
    task.finish(Phase::Finished, &mut Wakes::default());
    assert_eq!(task.view().phase(), Phase::Finished);
}

#[test]
fn a_series_waits_again_until_it_is_stopped() {
    let task = series(1);
    for runs in 0..3 {
        assert_eq!(task.view().runs(), runs);
        assert!(task.start());
        let now = Moment::at((runs + 1) * 1_000_000);
        assert!(task.begin_run(now, |_| ()));
        assert!(task.end_run(now, false, |_| ()).is_some());
        assert!(task.wait_again());
    }
    assert!(task.start());
    assert_eq!(task.stop(false), Cancel::AfterRun);
    assert_eq!(task.end_run(Moment::at(4_000_000), false, |_| ()), None);
    assert!(!task.wait_again());
    task.finish(Phase::Cancelled, &mut Wakes::default());
    assert_eq!(
        (task.view().phase(), task.view().runs()),
        (Phase::Cancelled, 4)
    );
}

#[test]
fn a_wait_ends_with_its_goal_its_deadline_or_a_signal() {
    let task = series(1);
    let soon = Some(Instant::now() + Duration::from_millis(5));
    assert_eq!(
        task.wait(Goal::Runs(1), soon, Duration::ZERO, &mut never()),
        Err(Error::TimedOut)
    );
    assert!(
        task.wait(Goal::Idle, None, Duration::ZERO, &mut never())
            .is_ok()
    );
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            task.wait(Goal::Runs(2), None, Duration::ZERO, &mut never())
                .unwrap()
        });
        for _ in 0..2 {
            task.start();
            task.wait_again();
            task.notify();
        }
        assert_eq!(waiter.join().unwrap().runs(), 2);
        let waiter = scope.spawn(|| {
            task.wait(Goal::Over, None, Duration::ZERO, &mut never())
                .unwrap()
        });
        assert_eq!(task.stop(true), Cancel::Now);
        task.notify();
        assert_eq!(waiter.join().unwrap().phase(), Phase::Cancelled);
    });
}

#[test]
fn a_bare_task_ends_by_itself_unless_it_is_watched() {
    let task = Task::bare();
    assert_eq!(task.end_bare_run(Moment::at(5), |_| ()), Ok(None));
    assert_eq!(
        (task.view().phase(), task.view().runs()),
        (Phase::Finished, 1)
    );

    let watched = Task::bare();
    watched.watch();
    assert_eq!(watched.end_bare_run(Moment::at(5), |_| ()), Err(()));
    assert!(watched.start());
}

#[test]
fn a_tick_that_is_cancelled_while_it_is_counted_is_missed_and_no_run() {
    let every = Every::new(Duration::from_millis(1));
    let series = Series::new(&every, Moment::at(0)).unwrap();
    let task = Task::bare_series(series);
    let now = Moment::at(1_000_000);
    // What is noted is noted between the arithmetic and the word.
    let cancel = |_| _ = task.stop(true);
    assert_eq!(task.end_bare_run(now, cancel), Err(()));
    assert_eq!((task.view().runs(), task.lost(now).missed), (0, 1));
}

#[test]
fn a_timed_out_waiter_leaves_nothing_behind() {
    let task = Task::one_shot();
    for _ in 0..100 {
        let now = Some(Instant::now());
        assert_eq!(
            task.wait(Goal::Over, now, Duration::ZERO, &mut never()),
            Err(Error::TimedOut)
        );
    }
    assert_eq!(
        lock(&task.extras)
            .as_ref()
            .map_or(0, |extras| extras.waiters.len()),
        0
    );
}
