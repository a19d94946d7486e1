//! Operations of the core for callgrind to count the instructions of.
//!
//! `python -m benchmarks.instructions core` runs it, and has the bounds. It counts nothing itself: it
//! prints a line for each operation, name and count, and calls each operation three times: once to
//! warm up, once with that count, once with three times as many. Each call marks the beginning and
//! the end of what is counted. What is left of the difference between the last two is the
//! operation; what is done once cancels out.
//!
//! Nothing that is counted depends on time. Where there is a worker, it stands at a [`Gate`] while
//! the counting begins and ends: it is not woken, does not go idle and does not look for work in
//! between.
#![expect(
    clippy::print_stdout,
    reason = "how the one who counts knows what was run"
)]

use std::hint::black_box;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::sleep;
use std::time::Duration;

use asynctask::clock::Manual;
use asynctask::wheel::{Key, Tiers, Wheel};
use asynctask::{Every, Scheduler};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
/// What the timer thread uses: entries for each time it holds the lock.
const BUDGET: usize = 256;
/// What is on the wheel besides, where it should not be empty.
const PENDING: usize = 10_000;

type Operation = (&'static str, usize, fn(usize));

const OPERATIONS: [Operation; 10] = [
    ("wheel_insert", 10_000, wheel_insert),
    ("wheel_remove", 10_000, wheel_remove),
    ("wheel_reschedule", 10_000, wheel_reschedule),
    ("wheel_churn", 10_000, wheel_churn),
    ("wheel_expire", 10_000, wheel_expire),
    ("post", 2_000, post),
    ("run", 2_000, run),
    ("post_after_and_cancel", 2_000, post_after_and_cancel),
    ("delayed_run", 2_000, delayed_run),
    ("series_run", 2_000, series_run),
];

fn main() {
    for (name, count, operation) in OPERATIONS {
        println!("{name} {count}");
        for count in [count, count, 3 * count] {
            operation(count);
            wait_for_threads();
        }
    }
}

/// Waits until the threads of the last scheduler are gone: the memory that they then give back must
/// not come while the next operation is counted.
#[expect(
    clippy::disallowed_methods,
    reason = "joined is not gone, and only the system knows"
)]
fn wait_for_threads() {
    while std::fs::read_dir("/proc/self/task").is_ok_and(|threads| threads.count() > 1) {
        sleep(Duration::from_millis(1));
    }
}

/// Begins or ends what is counted: callgrind writes down what it has at each call of `getppid`.
fn mark() {
    #[cfg(unix)]
    black_box(std::os::unix::process::parent_id());
}

/// Instants within a minute of `start`, in no order; the same ones each time.
fn deadlines(count: usize, start: Duration) -> Vec<u64> {
    let mut random = fastrand::Rng::with_seed(4);
    let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).expect("it is short");
    let (first, last) = (nanos(start), nanos(start + MINUTE));
    (0..count).map(|_| random.u64(first..last)).collect()
}

/// A wheel with items on it, and their keys, oldest first.
fn wheel(deadlines: &[u64]) -> (Wheel<usize>, Vec<Key>) {
    let mut wheel = Wheel::new(&Tiers::default(), 0);
    let keys = deadlines
        .iter()
        .enumerate()
        .map(|(item, &deadline)| wheel.insert(deadline, item))
        .collect();
    (wheel, keys)
}

fn wheel_insert(count: usize) {
    let (mut wheel, _) = wheel(&deadlines(PENDING, Duration::ZERO));
    let deadlines = deadlines(count, Duration::ZERO);
    mark();
    for &deadline in &deadlines {
        black_box(wheel.insert(deadline, 0));
    }
    mark();
    assert_eq!(wheel.len(), PENDING + count);
}

fn wheel_remove(count: usize) {
    let (mut wheel, keys) = wheel(&deadlines(PENDING + count, Duration::ZERO));
    mark();
    for &key in &keys[PENDING..] {
        black_box(wheel.remove(key));
    }
    mark();
    assert_eq!(wheel.len(), PENDING);
}

fn wheel_reschedule(count: usize) {
    let (mut wheel, keys) = wheel(&deadlines(count, Duration::ZERO));
    let deadlines = deadlines(count, MINUTE);
    mark();
    for (&key, &deadline) in keys.iter().zip(&deadlines) {
        black_box(wheel.reschedule(key, deadline));
    }
    mark();
    assert!(wheel.next_expiry() >= deadlines.iter().min().copied());
}

/// Each item that goes on the wheel takes the place of the oldest.
fn wheel_churn(count: usize) {
    let deadlines = deadlines(PENDING + count, Duration::ZERO);
    let (mut wheel, mut keys) = wheel(&deadlines[..PENDING]);
    mark();
    for (at, &deadline) in deadlines[PENDING..].iter().enumerate() {
        let oldest = &mut keys[at % PENDING];
        black_box(wheel.remove(*oldest));
        *oldest = wheel.insert(deadline, at);
    }
    mark();
    assert_eq!(wheel.len(), PENDING);
}

/// From an hour ahead, so that items come down through every tier.
fn wheel_expire(count: usize) {
    let (mut wheel, _) = wheel(&deadlines(count, HOUR));
    let mut due = Vec::with_capacity(2 * BUDGET);
    let mut expired = 0;
    mark();
    while let Some(now) = wheel.next_expiry() {
        while wheel.advance(now + 100_000_000, BUDGET, &mut due) {
            expired += due.drain(..).count();
        }
        expired += due.drain(..).count();
    }
    mark();
    assert_eq!(expired, count);
}

/// A task that a worker stands in until it is told to go on.
struct Gate {
    came: Receiver<()>,
    go_on: Sender<()>,
}

impl Gate {
    /// A gate, and the callback that leads to it.
    fn new() -> (Self, impl FnMut() + Send + 'static) {
        let (come, came) = channel();
        let (go_on, gone_on) = channel();
        let stand = move || {
            come.send(()).expect("somebody opens each gate");
            gone_on.recv().expect("somebody opens each gate");
        };
        (Self { came, go_on }, stand)
    }

    fn post(scheduler: &Scheduler) -> Self {
        let (gate, stand) = Self::new();
        scheduler.post(stand).expect("the scheduler is open");
        gate
    }

    /// Waits until the worker is there.
    fn wait(&self) {
        self.came.recv().expect("the worker comes to each gate");
    }

    fn open(&self) {
        self.go_on.send(()).expect("the worker waits at each gate");
    }
}

fn scheduler(clock: Option<Arc<Manual>>) -> Scheduler {
    let mut builder = Scheduler::builder().max_workers(1);
    if let Some(clock) = clock {
        builder = builder.clock(clock);
    }
    builder.build().expect("the options make sense")
}

fn post(count: usize) {
    let scheduler = scheduler(None);
    let gate = Gate::post(&scheduler);
    gate.wait();
    let mut handles = Vec::with_capacity(count);
    mark();
    for number in 0..count {
        handles.push(scheduler.post(move || number));
    }
    mark();
    gate.open();
    scheduler.shutdown();
    for (number, handle) in handles.into_iter().enumerate() {
        let handle = handle.expect("the scheduler is open");
        assert_eq!(handle.join().expect("it ran"), number);
    }
}

/// A task is taken, run and ended; its handle is kept.
fn run(count: usize) {
    let scheduler = scheduler(None);
    let (first, last);
    first = Gate::post(&scheduler);
    first.wait();
    let handles: Vec<_> = (0..count)
        .map(|number| scheduler.post(move || number))
        .collect();
    last = Gate::post(&scheduler);
    mark();
    first.open();
    last.wait();
    mark();
    last.open();
    scheduler.shutdown();
    for (number, handle) in handles.into_iter().enumerate() {
        let handle = handle.expect("the scheduler is open");
        assert_eq!(handle.join().expect("it ran"), number);
    }
}

fn post_after_and_cancel(count: usize) {
    let scheduler = scheduler(None);
    // So that the timer thread has begun, and no delay of ours is the next to wake it for.
    let soon = Duration::from_millis(1);
    let (gate, stand) = Gate::new();
    let sentinel = scheduler.post_after(MINUTE, || ()).expect("it is open");
    scheduler.post_after(soon, stand).expect("it is open");
    gate.wait();
    mark();
    for _ in 0..count {
        let task = scheduler.post_after(HOUR, || ()).expect("it is open");
        black_box(task.abort());
    }
    mark();
    assert_eq!(scheduler.stats().cancelled, count as u64);
    assert!(sentinel.abort());
    gate.open();
    scheduler.shutdown();
}

/// Moves the clock on by a minute, and waits until everything that was on the wheel is in the queue.
#[expect(
    clippy::disallowed_methods,
    reason = "nothing announces it, and a look is counted: so there are few of them"
)]
fn turn(clock: &Manual, scheduler: &Scheduler) {
    clock.advance(MINUTE);
    // Not by `stats`, which goes through all series to see what each has lost.
    while !format!("{scheduler:?}").contains("Timer { len: 0,") {
        sleep(Duration::from_millis(20));
    }
}

/// A task goes from the wheel to the queue, is taken, run and ended.
fn delayed_run(count: usize) {
    let clock = Arc::new(Manual::new());
    let scheduler = scheduler(Some(Arc::clone(&clock)));
    let first = Gate::post(&scheduler);
    first.wait();
    let handles: Vec<_> = deadlines(count, Duration::ZERO)
        .into_iter()
        .map(|deadline| scheduler.post_after(Duration::from_nanos(deadline), || ()))
        .collect();
    let (last, stand) = Gate::new();
    scheduler.post_after(MINUTE, stand).expect("it is open");
    mark();
    turn(&clock, &scheduler);
    first.open();
    last.wait();
    mark();
    last.open();
    scheduler.shutdown();
    for handle in handles {
        let handle = handle.expect("the scheduler is open");
        handle.join().expect("it ran");
    }
}

/// The same for a run of a series, which goes back on the wheel.
fn series_run(count: usize) {
    let clock = Arc::new(Manual::new());
    let scheduler = scheduler(Some(Arc::clone(&clock)));
    let first = Gate::post(&scheduler);
    first.wait();
    let every = Every::new(MINUTE);
    let handles: Vec<_> = (0..count)
        .map(|_| scheduler.post_every(&every, || ()).expect("it is open"))
        .collect();
    let (last, stand) = Gate::new();
    scheduler.post_every(&every, stand).expect("it is open");
    mark();
    turn(&clock, &scheduler);
    first.open();
    last.wait();
    mark();
    assert!(handles.iter().all(|handle| handle.runs() == 1));
    last.open();
    scheduler.shutdown();
}
