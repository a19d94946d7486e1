//! Run with `RUSTFLAGS="--cfg loom" cargo test --release --lib loom`.

use loom::thread;

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

impl Sink<u32> for Tell {
    fn due(&self, now: Nanos, due: &mut Vec<Due<u32>>, again: &mut Vec<(Nanos, u32)>) {
        for due in due.drain(..) {
            assert!(now >= due.deadline, "early: {now} before {}", due.deadline);
            lock(&self.came.items).push((due.deadline, due.item));
            if due.item == AGAIN {
                again.push((due.deadline + 1, due.item));
            }
        }
        self.came.parker.unpark();
    }

    fn readmit(&self, _item: &u32, _key: Key) -> bool {
        true
    }

    fn refused(&self, items: Vec<u32>) {
        assert_eq!(items, [AGAIN]);
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

fn timer() -> (Arc<Manual>, Timer<u32>, Arc<Came>) {
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

fn insert(timer: &Timer<u32>, deadline: Nanos, item: u32) -> Key {
    let mut got = None;
    let admit = |_: &u32, key| {
        got = Some(key);
        true
    };
    let back = timer.insert(item, |_| Some(deadline), admit);
    assert!(back.unwrap().is_none());
    got.unwrap()
}

#[test]
fn loom_an_insert_never_misses_the_thread_that_goes_to_sleep() {
    model(|| {
        let (_clock, timer, came) = timer();
        insert(&timer, 20, 1); // the thread goes to sleep for this one
        insert(&timer, 10, 2); // and must get up for this one
        assert_eq!(came.wait_for(1), [(10, 2)]);
        assert_eq!(timer.close(), [1]);
    });
}

#[test]
fn loom_two_inserts_at_once_never_hide_each_other() {
    model(|| {
        let (_clock, timer, came) = timer();
        insert(&timer, 30, 1);
        let other = {
            let timer = timer.clone();
            thread::spawn(move || _ = insert(&timer, 20, 2))
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
        let key = insert(&timer, 20, 1);
        assert!(timer.reschedule(10, || Some(key), |moved| moved));
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
        timer.look();
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
                timer.look();
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
        let key = insert(&timer, 20, 1);
        clock.advance_to(20);
        let removed = timer.remove(|| Some(key));
        timer.close(); // what was taken off is with the sink now
        assert_eq!(removed.is_some(), lock(&came.items).is_empty());
    });
}

#[test]
fn loom_the_end_waits_for_what_is_in_flight_and_keeps_the_rest_off() {
    model(|| {
        let (_clock, timer, came) = timer();
        insert(&timer, 10, AGAIN);
        let left = timer.close();
        // It had not come, or had come and gone back, or was kept off.
        let came = lock(&came.items).len();
        assert!(left.len() <= 1 && (came > 0 || left == [AGAIN]));
        assert!(timer.is_empty());
    });
}
