//! Run with `RUSTFLAGS="--cfg loom" cargo test --release --lib loom`.

use std::time::Duration;

use loom::thread;

use super::*;
use crate::series::Every;

fn shared(task: Task) -> Arc<Task> {
    Arc::new(task)
}

#[test]
fn loom_cancel_against_start_has_one_winner() {
    loom::model(|| {
        let task = shared(Task::one_shot());
        let worker = {
            let task = Arc::clone(&task);
            thread::spawn(move || {
                let started = task.start();
                if started {
                    task.finish(Phase::Finished, &mut Wakes::default());
                }
                started
            })
        };
        let cancelled = task.stop(true) == Cancel::Now;
        let started = worker.join().unwrap();
        assert_ne!(started, cancelled);
        assert_eq!(task.view().runs(), u64::from(started));
    });
}

#[test]
fn loom_two_cancels_have_one_winner() {
    loom::model(|| {
        let task = shared(Task::one_shot());
        let other = {
            let task = Arc::clone(&task);
            thread::spawn(move || task.stop(true))
        };
        let mine = task.stop(false);
        let theirs = other.join().unwrap();
        assert_eq!(
            usize::from(mine == Cancel::Now) + usize::from(theirs == Cancel::Now),
            1
        );
    });
}

#[test]
fn loom_a_finish_never_misses_a_waiter() {
    loom::model(|| {
        let task = shared(Task::one_shot());
        task.start();
        let worker = {
            let task = Arc::clone(&task);
            thread::spawn(move || task.finish(Phase::Finished, &mut Wakes::default()))
        };
        let view = task
            .wait(Goal::Over, None, Duration::ZERO, &mut || false)
            .unwrap();
        assert_eq!(view.runs(), 1);
        worker.join().unwrap();
    });
}

#[test]
fn loom_a_cancel_never_misses_a_waiter() {
    loom::model(|| {
        let task = shared(Task::one_shot());
        let canceller = {
            let task = Arc::clone(&task);
            thread::spawn(move || {
                assert_eq!(task.stop(true), Cancel::Now);
                task.notify();
            })
        };
        let view = task
            .wait(Goal::Over, None, Duration::ZERO, &mut || false)
            .unwrap();
        assert_eq!(view.phase(), Phase::Cancelled);
        canceller.join().unwrap();
    });
}

#[test]
fn loom_stop_against_tick_ends_the_series_exactly_once() {
    loom::model(|| {
        let every = Every::new(Duration::from_millis(1));
        let task = shared(Task::series(Series::new(&every, Moment::at(0)).unwrap()));
        task.start();
        let worker = {
            let task = Arc::clone(&task);
            thread::spawn(move || {
                // The end of a run, as the engine has it.
                if task.end_run(Moment::at(1_000_000), false, |_| ()).is_some() && task.wait_again()
                {
                    task.notify();
                    false
                } else {
                    task.finish(Phase::Cancelled, &mut Wakes::default());
                    true
                }
            })
        };
        let found = task.stop(false);
        let ended_by_worker = worker.join().unwrap();
        if found == Cancel::Now {
            task.notify();
        }
        assert_eq!(ended_by_worker, found == Cancel::AfterRun, "{found:?}");
        assert_eq!(task.view().phase(), Phase::Cancelled);
        assert_eq!(task.view().runs(), 1);
    });
}

#[test]
fn loom_a_bare_tick_against_cancel_and_wait() {
    loom::model(|| {
        let task = shared(Task::bare());
        let timer = {
            let task = Arc::clone(&task);
            thread::spawn(move || task.end_bare_run(Moment::at(1), |_| ()).is_ok())
        };
        let canceller = {
            let task = Arc::clone(&task);
            thread::spawn(move || {
                let now = task.stop(true) == Cancel::Now;
                if now {
                    task.notify();
                }
                now
            })
        };
        let view = task
            .wait(Goal::Over, None, Duration::ZERO, &mut || false)
            .unwrap();
        let (ended, cancelled) = (timer.join().unwrap(), canceller.join().unwrap());
        assert_ne!(ended, cancelled);
        assert_eq!(view.phase() == Phase::Cancelled, cancelled);
    });
}
