//! Handles as futures, on executors made by hand.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use asynctask::JoinHandle;
use crossbeam_channel::{Receiver, Sender};

use crate::support::{PATIENCE, builder, by_hand, channel, eventually, occupy, receive};

/// Tells of each wake-up, and counts them.
struct Bell {
    rung: Sender<()>,
    rings: AtomicUsize,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.rings.fetch_add(1, Ordering::SeqCst);
        self.rung.send(()).unwrap();
    }
}

fn bell() -> (Arc<Bell>, Waker, Receiver<()>) {
    let (rung, rings) = channel();
    let bell = Arc::new(Bell {
        rung,
        rings: AtomicUsize::new(0),
    });
    (Arc::clone(&bell), Waker::from(bell), rings)
}

fn poll<F: Future + Unpin>(future: &mut F, waker: &Waker) -> Poll<F::Output> {
    pin!(future).poll(&mut Context::from_waker(waker))
}

/// Polls when it is woken, and at no other time; says how often.
fn block_on<F: Future>(future: F) -> (F::Output, usize) {
    let (bell, waker, rings) = bell();
    let mut future = pin!(future);
    for polls in 1.. {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            assert!(bell.rings.load(Ordering::SeqCst) <= polls);
            return (output, polls);
        }
        receive(&rings, 1);
    }
    unreachable!("it is ready some time")
}

#[test]
fn a_handle_is_awaited_with_one_wake_up() {
    let scheduler = builder(1).build().unwrap();
    let busy = occupy(&scheduler);
    let task = scheduler.post(|| 5).unwrap();
    drop(busy);
    let (value, polls) = block_on(async { task.await.unwrap() + 1 });
    assert_eq!(value, 6);
    assert!(polls <= 2, "{polls} polls");
    scheduler.shutdown();
}

#[test]
fn a_panic_and_an_abort_wake_the_future_and_are_its_output() {
    let (clock, scheduler) = by_hand();
    let second = Duration::from_secs(1);
    let mut panics = scheduler
        .post_after(second, || panic!("on purpose"))
        .unwrap();
    let mut aborted = scheduler.post_after(second, || ()).unwrap();
    let (_, waker, rings) = bell();
    assert!(poll::<JoinHandle<()>>(&mut panics, &waker).is_pending());
    assert!(poll(&mut aborted, &waker).is_pending());
    assert!(aborted.abort());
    receive(&rings, 1);
    clock.advance(second);
    receive(&rings, 1);
    let Poll::Ready(Err(aborted)) = poll(&mut aborted, &waker) else {
        panic!("it is over");
    };
    assert!(aborted.is_cancelled());
    let (panicked, polls) = block_on(panics);
    assert!(panicked.unwrap_err().is_panic());
    assert_eq!(polls, 1);
    scheduler.shutdown();
}

#[test]
fn only_the_waker_of_the_last_poll_is_woken_and_only_once() {
    let scheduler = builder(1).build().unwrap();
    let busy = occupy(&scheduler);
    let mut task = scheduler.post(|| 5).unwrap();
    let (first, first_waker, _first_rings) = bell();
    let (second, second_waker, second_rings) = bell();
    for _ in 0..100 {
        assert!(poll(&mut task, &first_waker).is_pending());
    }
    for _ in 0..100 {
        assert!(poll(&mut task, &second_waker).is_pending());
    }
    // It is on the list of waiters once: nobody keeps the waker that was replaced.
    drop(first_waker);
    assert_eq!(Arc::strong_count(&first), 1);
    drop(busy);
    receive(&second_rings, 1);
    assert!(matches!(poll(&mut task, &second_waker), Poll::Ready(Ok(5))));
    scheduler.shutdown();
    assert_eq!(first.rings.load(Ordering::SeqCst), 0);
    assert_eq!(second.rings.load(Ordering::SeqCst), 1);
}

#[test]
fn a_future_that_is_dropped_is_detached_and_wakes_nobody() {
    let scheduler = builder(1).build().unwrap();
    let busy = occupy(&scheduler);
    let (ran, runs) = channel();
    let mut task = scheduler.post(move || ran.send(()).unwrap()).unwrap();
    let (bell, waker, rings) = bell();
    assert!(poll(&mut task, &waker).is_pending());
    drop(task);
    drop(waker);
    assert_eq!(Arc::strong_count(&bell), 1);
    drop(busy);
    receive(&runs, 1);
    scheduler.shutdown();
    assert!(rings.is_empty());
}

#[test]
fn a_wait_for_a_future_may_be_given_up_and_taken_up_by_a_thread() {
    let scheduler = builder(1).build().unwrap();
    let busy = occupy(&scheduler);
    let mut task = scheduler.post(|| 5).unwrap();
    let (_, waker, _rings) = bell();
    assert!(poll(&mut task, &waker).is_pending());
    drop(busy);
    assert_eq!(task.join_timeout(PATIENCE).unwrap().unwrap(), 5);
    scheduler.shutdown();
}

#[test]
#[should_panic(expected = "the value of this task was given by a poll before")]
fn a_join_after_the_value_was_given_panics() {
    let scheduler = builder(1).build().unwrap();
    let mut task = scheduler.post(|| 5).unwrap();
    task.wait();
    assert!(poll(&mut task, Waker::noop()).is_ready());
    let _ = task.join();
}

#[test]
fn a_waker_that_panics_costs_neither_the_worker_nor_those_who_also_wait() {
    struct Bad;

    impl Wake for Bad {
        fn wake(self: Arc<Self>) {
            panic!("on purpose, in a waker");
        }
    }

    let scheduler = builder(1).build().unwrap();
    let busy = occupy(&scheduler);
    let mut task = scheduler.post(|| 5).unwrap();
    assert!(poll(&mut task, &Waker::from(Arc::new(Bad))).is_pending());
    let shared = &task;
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| shared.wait_timeout(PATIENCE));
        drop(busy);
        assert!(waits.join().unwrap());
    });
    let before = std::thread::current().id();
    let after = scheduler.post(|| std::thread::current().id()).unwrap();
    assert_ne!(after.join().unwrap(), before);
    scheduler.shutdown();
}

#[test]
fn polls_against_ends_lose_no_wake_up() {
    let scheduler = builder(2).build().unwrap();
    for round in 0..5_000_u32 {
        let mut task = scheduler.post(move || round).unwrap();
        // Another waker at every other poll, while the task ends.
        let (_, first, _) = bell();
        if poll(&mut task, &first).is_ready() {
            continue;
        }
        for _ in 0..round % 64 {
            std::hint::spin_loop();
        }
        let (value, polls) = block_on(task);
        assert_eq!(value.unwrap(), round);
        assert!(polls <= 2);
    }
    eventually("all are over", || scheduler.stats().successful == 5_000);
    scheduler.shutdown();
}
