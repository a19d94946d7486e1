//! Run with `RUSTFLAGS="--cfg loom" cargo test --release --lib loom`.

use loom::thread;

use super::test_item::{Arrival, Numbered, numbered, numbers};
use super::*;
use crate::clock::Manual;
use crate::sync::Ordering;
use crate::wheel::Due;

/// Tells what came, and keeps it from going back when it was called off.
struct Tell {
    came: Arc<Came>,
}

#[derive(Default)]
struct Came {
    items: Mutex<Vec<(Nanos, u32)>>,
    parker: Parker,
    /// Items that will come back.
    expected: AtomicU64,
}

impl Came {
    /// Sleeps until so many have come.
    fn wait_for(&self, count: usize) -> Vec<(Nanos, u32)> {
        loop {
            let items = lock(&self.items);
            if items.len() >= count {
                return items.clone();
            }
            drop(items);
            self.parker.park(None);
        }
    }
}

impl Sink<Arc<Numbered>> for Tell {
    fn due(
        &self,
        now: Nanos,
        due: &mut Vec<Due<Arc<Numbered>>>,
        again: &mut Vec<(Nanos, Arc<Numbered>)>,
    ) {
        for due in due.drain(..) {
            assert!(now >= due.deadline, "early: {now} before {}", due.deadline);
            lock(&self.came.items).push((due.deadline, due.item.number));
            if due.item.number == AGAIN {
                again.push((due.deadline + 1, due.item));
            }
        }
        self.came.parker.unpark();
    }

    fn refused(&self, items: Vec<Arc<Numbered>>) {
        assert_eq!(numbers(&items), [AGAIN]);
    }

    fn expects(&self) -> bool {
        self.came.expected.load(Ordering::Relaxed) > 0
    }
}

const AGAIN: u32 = 99;

/// Every interleaving with up to four preemptions; two find what has been seen to go wrong.
fn model(f: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(4));
    builder.check(f);
}

fn timer() -> (Arc<Manual>, Timer<Arc<Numbered>>, Arc<Came>) {
    let (clock, came) = (Arc::new(Manual::new()), Arc::new(Came::default()));
    clock.advance_to(10);
    let sink = Box::new(Tell {
        came: Arc::clone(&came),
    });
    let idle = Duration::from_secs(3600);
    let timer = Timer::new(
        &Tiers::default(),
        Arc::<Manual>::clone(&clock),
        sink,
        idle,
        "timer".to_owned(),
    );
    (clock, timer, came)
}

fn insert(timer: &Timer<Arc<Numbered>>, deadline: Nanos, number: u32) -> Arc<Numbered> {
    let item = numbered(number);
    let back = timer.insert(Arc::clone(&item), Arrival::At(deadline));
    assert!(back.unwrap().is_none());
    item
}

#[test]
fn loom_an_insert_never_misses_the_thread_that_goes_to_sleep() {
    model(|| {
        let (_clock, timer, came) = timer();
        insert(&timer, 20, 1); // the thread goes to sleep for this one
        insert(&timer, 10, 2); // and must get up for this one
        assert_eq!(came.wait_for(1), [(10, 2)]);
        assert_eq!(numbers(&timer.close()), [1]);
    });
}

#[test]
fn loom_two_inserts_at_once_never_hide_each_other() {
    model(|| {
        let (_clock, timer, came) = timer();
        insert(&timer, 30, 1);
        let other = {
            let timer = timer.clone();
            thread::spawn(move || drop(insert(&timer, 20, 2)))
        };
        insert(&timer, 10, 3);
        assert_eq!(came.wait_for(1), [(10, 3)]);
        other.join().unwrap();
        assert_eq!(timer.close().len(), 2);
    });
}

#[test]
fn loom_a_move_to_an_earlier_deadline_wakes_the_thread() {
    model(|| {
        let (_clock, timer, came) = timer();
        let item = insert(&timer, 20, 1);
        assert!(timer.reschedule(&item, 10, Moment::at(10)));
        assert_eq!(came.wait_for(1), [(10, 1)]);
        assert!(timer.close().is_empty());
    });
}

#[test]
fn loom_the_clock_moves_while_the_thread_goes_to_sleep() {
    model(|| {
        let (clock, timer, came) = timer();
        insert(&timer, 20, 1);
        clock.advance_to(20);
        assert_eq!(came.wait_for(1), [(20, 1)]);
        assert!(timer.close().is_empty());
    });
}

#[test]
fn loom_an_insert_meets_the_thread_whose_time_is_up() {
    model(|| {
        let (_clock, timer, came) = timer();
        insert(&timer, 10, 1);
        came.wait_for(1);
        timer.shared.parker.expire(); // the wheel is empty, or about to be
        insert(&timer, 10, 2);
        assert_eq!(came.wait_for(2), [(10, 1), (10, 2)]);
        assert!(timer.close().is_empty());
    });
}

/// The end of a run of a series, for which no thread may have to be started.
#[test]
fn loom_what_is_expected_finds_the_thread_when_it_comes_back() {
    model(|| {
        let (_clock, timer, came) = timer();
        came.expected.fetch_add(1, Ordering::Relaxed);
        insert(&timer, 10, 1);
        came.wait_for(1);
        timer.shared.parker.expire(); // the wheel is empty, or about to be
        assert!(lock(&timer.shared.state).has_thread);
        insert(&timer, 10, 2);
        assert_eq!(came.wait_for(2), [(10, 1), (10, 2)]);
        assert!(lock(&timer.shared.state).has_thread);
        assert!(timer.close().is_empty());
    });
}

#[test]
fn loom_the_thread_leaves_by_itself_when_nothing_is_expected_any_more() {
    model(|| {
        let (_clock, timer, came) = timer();
        came.expected.fetch_add(1, Ordering::Relaxed);
        insert(&timer, 10, 1);
        came.wait_for(1);
        came.expected.fetch_sub(1, Ordering::Relaxed);
        timer.recheck();
        timer.shared.parker.expire(); // the next time that it sleeps for so long
    }); // and a thread that is still there is one too many
}

#[test]
fn loom_the_last_series_ends_while_the_next_one_is_posted() {
    model(|| {
        let (_clock, timer, came) = timer();
        came.expected.fetch_add(1, Ordering::Relaxed);
        insert(&timer, 10, 1);
        came.wait_for(1);
        let ends = {
            let (timer, came) = (timer.clone(), Arc::clone(&came));
            thread::spawn(move || {
                came.expected.fetch_sub(1, Ordering::Relaxed);
                timer.recheck();
                timer.shared.parker.expire();
            })
        };
        came.expected.fetch_add(1, Ordering::Relaxed);
        insert(&timer, 10, 2);
        assert_eq!(came.wait_for(2), [(10, 1), (10, 2)]);
        assert!(lock(&timer.shared.state).has_thread);
        ends.join().unwrap();
        assert!(timer.close().is_empty());
    });
}

#[test]
fn loom_a_remove_against_the_deadline_has_one_winner() {
    model(|| {
        let (clock, timer, came) = timer();
        let item = insert(&timer, 20, 1);
        clock.advance_to(20);
        let removed = timer.remove(&item);
        timer.close(); // what was taken off is with the sink now
        assert_eq!(removed.is_some(), lock(&came.items).is_empty());
    });
}

#[test]
fn loom_the_end_waits_for_what_is_in_flight_and_keeps_the_rest_off() {
    model(|| {
        let (_clock, timer, came) = timer();
        insert(&timer, 10, AGAIN);
        let left = numbers(&timer.close());
        // It had not come, or had come and gone back, or was kept off.
        let came = lock(&came.items).len();
        assert!(left.len() <= 1 && (came > 0 || left == [AGAIN]));
        assert!(timer.is_empty());
    });
}
