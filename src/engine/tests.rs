use std::cell::Cell;

use super::*;
use crate::scheduler::Scheduler;
use crate::timer::Sink;
use crate::wheel::{Due, Key};

#[test]
fn a_clock_that_is_moved_by_hand_never_takes_a_task_on_its_way_for_none() {
    /// Where a series is from one tick to the next.
    #[derive(Clone, Copy)]
    enum At {
        Wheel(u64, Nanos),
        InFlight,
        InPool,
    }
    use At::{InFlight, InPool, Wheel};

    let way = [
        Wheel(0, 5),
        InFlight,
        InPool,
        InPool,
        Wheel(3, 15),
        Wheel(3, 15),
    ];
    // Whatever happens between the looks, and before and after them: each look is one step
    // further along, or several.
    for steps in 0..way.len().pow(3) {
        let skip = [steps % 6, steps / 6 % 6, steps / 36];
        let (looks, at) = (Cell::new(0), Cell::new(0));
        let look = || {
            at.set((at.get() + skip[looks.get()]).min(way.len() - 1));
            looks.set(looks.get() + 1);
            way[at.get()]
        };
        let timer = || match look() {
            Wheel(_, next) if next <= 5 => Err(()),
            Wheel(moves, next) => Ok((moves, Some(next))),
            InFlight => Err(()),
            InPool => Ok((2, None)),
        };
        let is_quiet = || !matches!(look(), InPool);
        if let Ok((_, next)) = quiescent_at_once(timer, is_quiet) {
            assert_eq!(next, Some(15), "steps {skip:?}");
        }
    }
}

/// Another that takes due tasks to the same pool.
fn sink_of<J: Job>(engine: &Engine<J>) -> DueSink<J> {
    DueSink {
        is_draining: Arc::new(Awaited::new(false)),
        pool: engine.pool.clone(),
        clock: Arc::clone(&engine.clock),
        counters: Arc::clone(&engine.counters),
        series: Arc::clone(&engine.series),
        deferred: Arc::clone(&engine.deferred),
    }
}

#[test]
fn a_due_task_that_finds_no_thread_is_tried_again_in_ten_milliseconds() {
    let scheduler = Scheduler::new();
    let (job, handle) = scheduler.handle().one_shot(|| 5);
    let engine = Arc::clone(job.engine());
    engine.pool.refuse_starts(1);
    let mut due = vec![Due {
        key: Key::from_bits(std::num::NonZeroU64::MIN),
        deadline: 3,
        item: job,
    }];
    let mut again = Vec::new();
    sink_of(&engine).due(7, &mut due, &mut again);
    let (at, job) = again.pop().expect("it comes back");
    assert_eq!((at, again.len(), due.len()), (7 + 10_000_000, 0, 0));
    assert_eq!(handle.view().phase(), Phase::Pending);
    assert!(engine.pool.push_due(vec![job], Vec::new()).is_empty());
    assert_eq!(handle.join().unwrap(), 5);
}

#[test]
fn the_timer_thread_asks_again_for_a_worker_that_was_refused_beside_one_that_hangs() {
    for is_due in [true, false] {
        let scheduler = Scheduler::new();
        let (go, is_going) = std::sync::mpsc::channel::<()>();
        // So that there is a timer thread, as anybody has who posts with a delay.
        let _later = scheduler
            .post_after(Duration::from_secs(3600), || ())
            .unwrap();
        let hung = scheduler.post(move || is_going.recv()).unwrap();
        while scheduler.stats().pool.running == 0 {
            std::thread::yield_now();
        }
        let (done, is_done) = std::sync::mpsc::channel();
        let (job, _handle) = scheduler.handle().one_shot(move || done.send(()));
        let engine = Arc::clone(job.engine());
        engine.pool.refuse_starts(3);
        if is_due {
            assert!(engine.pool.push_due(vec![job], Vec::new()).is_empty());
        } else {
            assert!(engine.pool.push(job).is_ok());
        }
        // This waits, but not by way of the pool, which would ask too.
        let ran = is_done.recv_timeout(Duration::from_secs(30));
        assert_eq!(ran, Ok(()), "{engine:?}");
        drop(go);
        assert!(hung.join().is_ok_and(|received| received.is_err()));
    }
}

#[test]
fn a_task_cancelled_on_its_way_to_a_queue_that_it_never_reaches_is_no_room_there() {
    let scheduler = Scheduler::new();
    let (job, handle) = scheduler.handle().one_shot(|| ());
    let engine = Arc::clone(job.engine());
    // It has come off the wheel, and is not in the queue yet.
    assert_eq!(engine.stop(&job, true, ()), Cancel::Now);
    assert!(format!("{engine:?}").contains("tombstones: 1"));
    // It comes to the queue with the next due tasks, and there is no thread for any of them.
    let sink = sink_of(&engine);
    engine.pool.refuse_starts(1);
    sink.refused(vec![job]);
    engine.drop_deferred(());
    let said = format!("{engine:?}");
    assert!(
        said.contains("tombstones: 0") && said.contains("queued: 0"),
        "{said}"
    );
    assert!(handle.join().unwrap_err().is_cancelled());
}
