use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::test_item::{Arrival, Numbered, numbered, numbers};
use super::*;
use crate::clock::{Manual, Monotonic};
use crate::wheel::Due;

const MS: Nanos = 1_000_000;
const PATIENCE: Duration = Duration::from_secs(20);

struct Collect(Sender<(Nanos, u32)>);

impl Sink<Arc<Numbered>> for Collect {
    fn due(
        &self,
        now: Nanos,
        due: &mut Vec<Due<Arc<Numbered>>>,
        _again: &mut Vec<(Nanos, Arc<Numbered>)>,
    ) {
        for item in due.drain(..) {
            assert!(
                now >= item.deadline,
                "early: {now} before {}",
                item.deadline
            );
            self.0
                .send((item.deadline, item.item.number))
                .expect("the test listens");
        }
    }

    fn refused(&self, _items: Vec<Arc<Numbered>>) {}
}

fn timer(clock: Arc<dyn Clock>) -> (Timer<Arc<Numbered>>, Receiver<(Nanos, u32)>) {
    let (sender, receiver) = unbounded();
    let sink = Box::new(Collect(sender));
    let idle = Duration::from_secs(3600);
    (
        Timer::new(&Tiers::default(), clock, sink, idle, "timer".to_owned()),
        receiver,
    )
}

fn insert(timer: &Timer<Arc<Numbered>>, deadline: Nanos, number: u32) -> Arc<Numbered> {
    let item = numbered(number);
    let back = timer.insert(Arc::clone(&item), Arrival::At(deadline));
    assert!(back.is_ok_and(|back| back.is_none()));
    item
}

#[test]
fn nothing_is_due_before_the_manual_clock_says_so() {
    let clock = Arc::new(Manual::new());
    let (timer, due) = timer(Arc::<Manual>::clone(&clock));
    insert(&timer, 5 * MS, 1);
    insert(&timer, 7 * MS, 2);
    clock.advance_to(5 * MS - 1);
    // Something due right now comes through, so the thread has looked by then.
    insert(&timer, 0, 3);
    assert_eq!(due.recv_timeout(PATIENCE), Ok((0, 3)));
    assert_eq!(due.try_recv(), Err(crossbeam_channel::TryRecvError::Empty));
    clock.advance_to(5 * MS);
    assert_eq!(due.recv_timeout(PATIENCE), Ok((5 * MS, 1)));
    clock.advance_to(100 * 86_400 * 1_000 * MS);
    assert_eq!(due.recv_timeout(PATIENCE), Ok((7 * MS, 2)));
    assert!(timer.is_empty());
}

#[test]
fn an_earlier_insert_wakes_the_sleeping_thread() {
    let (timer, due) = timer(Arc::new(Monotonic::new()));
    insert(&timer, 3_600_000 * MS, 1);
    // The thread sleeps for an hour now, or is about to.
    insert(&timer, 1, 2);
    assert_eq!(due.recv_timeout(PATIENCE), Ok((1, 2)));
    assert_eq!(timer.len(), 1);
}

#[test]
fn a_removed_item_comes_back_and_never_fires() {
    let clock = Arc::new(Manual::new());
    let (timer, due) = timer(Arc::<Manual>::clone(&clock));
    let item = insert(&timer, 5 * MS, 1);
    insert(&timer, 6 * MS, 2);
    assert_eq!(timer.remove(&item).map(|item| item.number), Some(1));
    assert!(timer.remove(&item).is_none());
    clock.advance_to(10 * MS);
    assert_eq!(due.recv_timeout(PATIENCE), Ok((6 * MS, 2)));
}

#[test]
fn a_rescheduled_item_fires_once_at_its_new_deadline() {
    let clock = Arc::new(Manual::new());
    let (timer, due) = timer(Arc::<Manual>::clone(&clock));
    let item = insert(&timer, 3_600_000 * MS, 1);
    assert!(timer.reschedule(&item, 2 * MS, Moment::at(0)));
    clock.advance_to(2 * MS);
    assert_eq!(due.recv_timeout(PATIENCE), Ok((2 * MS, 1)));
    assert!(
        !timer.reschedule(&item, 9 * MS, Moment::at(0)),
        "it has fired"
    );
}

#[test]
fn an_item_that_is_not_admitted_comes_straight_back() {
    let (timer, _due) = timer(Arc::new(Manual::new()));
    for arrival in [Arrival::NotAdmitted, Arrival::WithoutDeadline] {
        let back = timer.insert(numbered(1), arrival).unwrap();
        assert_eq!(back.map(|item| item.number), Some(1));
    }
    assert!(timer.is_empty());
}

#[test]
fn a_poisoned_lock_is_no_reason_to_wait_for_ever() {
    let (timer, due) = timer(Arc::new(Monotonic::new()));
    let poisoned = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        timer.insert(numbered(0), Arrival::Panics)
    }));
    assert!(poisoned.is_err() && timer.shared.state.is_poisoned());
    insert(&timer, 1, 1);
    assert_eq!(due.recv_timeout(PATIENCE), Ok((1, 1)));
    assert!(timer.close().is_empty());
}

#[test]
#[should_panic(expected = "thread_name must not contain NUL: \"t\\0\"")]
fn a_name_that_no_thread_can_have_is_refused() {
    let (sender, _due) = unbounded();
    let (clock, sink) = (Arc::new(Manual::new()), Box::new(Collect(sender)));
    let idle = Duration::ZERO;
    let _ = Timer::new(&Tiers::default(), clock, sink, idle, "t\0".to_owned());
}

/// A clock that panics while it is told to.
#[derive(Debug)]
struct Broken {
    clock: Manual,
    panicking: std::sync::atomic::AtomicBool,
    panics: std::sync::atomic::AtomicUsize,
}

impl Broken {
    fn check(&self) {
        use std::sync::atomic::Ordering::SeqCst;
        if self.panicking.load(SeqCst) {
            self.panics.fetch_add(1, SeqCst);
            // Without the panic hook's report.
            std::panic::resume_unwind(Box::new("no time"));
        }
    }
}

impl Clock for Broken {
    fn now(&self) -> Nanos {
        self.check();
        self.clock.now()
    }

    fn instant_of(&self, deadline: Nanos) -> Option<Instant> {
        self.check();
        self.clock.instant_of(deadline)
    }

    fn subscribe(&self, sleeper: Weak<dyn Wake>) {
        self.clock.subscribe(sleeper);
    }
}

#[test]
fn the_thread_outlives_a_clock_that_panics() {
    use std::sync::atomic::Ordering::SeqCst;

    let clock = Arc::new(Broken {
        clock: Manual::new(),
        panicking: false.into(),
        panics: 0.into(),
    });
    let (timer, due) = timer(Arc::<Broken>::clone(&clock));
    insert(&timer, 5 * MS, 1);
    clock.panicking.store(true, SeqCst);
    insert(&timer, 4 * MS, 2);
    clock.clock.advance_to(5 * MS);
    let pause = Parker::new();
    while clock.panics.load(SeqCst) < 3 {
        pause.park(Some(Instant::now() + Duration::from_millis(1)));
    }
    assert_eq!(timer.len(), 2);
    clock.panicking.store(false, SeqCst);
    assert_eq!(due.recv_timeout(PATIENCE), Ok((4 * MS, 2)));
    assert_eq!(due.recv_timeout(PATIENCE), Ok((5 * MS, 1)));
}

#[test]
fn a_great_many_due_at_once_all_arrive() {
    let clock = Arc::new(Manual::new());
    let (timer, due) = timer(Arc::<Manual>::clone(&clock));
    for item in 0..10_000 {
        insert(&timer, 5 * MS, item);
    }
    clock.advance_to(5 * MS);
    let mut items: Vec<u32> = (0..10_000)
        .map(|_| due.recv_timeout(PATIENCE).unwrap().1)
        .collect();
    items.sort_unstable();
    assert!(items.into_iter().eq(0..10_000));
}

#[test]
fn close_hands_back_what_is_pending_and_refuses_the_rest() {
    let (timer, _due) = timer(Arc::new(Manual::new()));
    insert(&timer, 5 * MS, 1);
    insert(&timer, 86_400_000 * MS * 7, 2);
    let mut left = numbers(&timer.close());
    left.sort_unstable();
    assert_eq!(left, [1, 2]);
    let refused = timer.insert(numbered(3), Arrival::At(5)).unwrap_err();
    assert_eq!((refused.job.number, refused.error), (3, Error::Shutdown));
}

#[test]
fn the_thread_leaves_an_empty_wheel_and_comes_back() {
    let (sender, due) = unbounded();
    let clock = Arc::new(Monotonic::new());
    let sink = Box::new(Collect(sender));
    let timer = Timer::new(
        &Tiers::default(),
        clock,
        sink,
        Duration::ZERO,
        "t".to_owned(),
    );
    for round in 0..50 {
        insert(&timer, 0, round);
        assert_eq!(due.recv_timeout(PATIENCE), Ok((0, round)));
    }
}
