//! The timing wheel beside the two containers of `std` that could do its job.
//!
//! `cargo bench --bench wheel`. Times are for one operation, except where the name says 1M: there
//! nanoseconds for each item are milliseconds for the whole. Every workload checks its own result:
//! what comes out is counted, and nothing may be early.
#![expect(
    clippy::print_stdout,
    reason = "reports that are not times for one operation"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicIsize, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use asynctask::Scheduler;
use asynctask::wheel::{Due, Key, Tiers, Wheel};
use criterion::{BenchmarkId, Criterion, SamplingMode, criterion_group};

const MILLISECOND: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MILLISECOND;
const MILLION: usize = 1_000_000;
/// What the timer thread uses: entries for each time it holds the lock.
const BUDGET: usize = 256;

/// As small and as non-null as a reference-counted task.
type Item = &'static str;
const ITEM: Item = "item";

/// What can be asked of all three.
trait Timers {
    type Key: Copy;
    const NAME: &'static str;
    const CANCELS: bool;
    fn new() -> Self;
    fn insert(&mut self, deadline: u64) -> Self::Key;
    fn cancel(&mut self, key: Self::Key) -> bool;
    /// Takes out what is due at `now`: how many.
    fn expire(&mut self, now: u64) -> usize;
}

struct TimingWheel {
    wheel: Wheel<&'static Item>,
    out: Vec<Due<&'static Item>>,
}

impl TimingWheel {
    fn step(&mut self, now: u64) -> (usize, bool) {
        self.out.clear();
        let more = self.wheel.advance(now, BUDGET, &mut self.out);
        assert!(self.out.iter().all(|due| due.deadline <= now), "early");
        (self.out.len(), more)
    }
}

impl Timers for TimingWheel {
    type Key = Key;
    const NAME: &'static str = "wheel";
    const CANCELS: bool = true;

    fn new() -> Self {
        Self {
            wheel: Wheel::new(&Tiers::default(), 0),
            out: Vec::with_capacity(BUDGET),
        }
    }

    fn insert(&mut self, deadline: u64) -> Key {
        self.wheel.insert(deadline, &ITEM)
    }

    fn cancel(&mut self, key: Key) -> bool {
        self.wheel.remove(key).is_some()
    }

    fn expire(&mut self, now: u64) -> usize {
        let mut count = 0;
        loop {
            let (due, more) = self.step(now);
            count += due;
            if !more {
                return count;
            }
        }
    }
}

#[derive(Default)]
struct Tree {
    map: BTreeMap<(u64, u64), &'static Item>,
    next: u64,
}

impl Timers for Tree {
    type Key = (u64, u64);
    const NAME: &'static str = "BTreeMap";
    const CANCELS: bool = true;

    fn new() -> Self {
        Self::default()
    }

    fn insert(&mut self, deadline: u64) -> (u64, u64) {
        self.next += 1;
        self.map.insert((deadline, self.next), &ITEM);
        (deadline, self.next)
    }

    fn cancel(&mut self, key: (u64, u64)) -> bool {
        self.map.remove(&key).is_some()
    }

    fn expire(&mut self, now: u64) -> usize {
        let mut count = 0;
        while let Some(first) = self.map.first_entry() {
            if first.key().0 > now {
                break;
            }
            black_box(first.remove());
            count += 1;
        }
        count
    }
}

#[derive(Default)]
struct Heap {
    heap: BinaryHeap<Reverse<(u64, u64, &'static Item)>>,
    next: u64,
}

impl Timers for Heap {
    type Key = ();
    const NAME: &'static str = "BinaryHeap";
    const CANCELS: bool = false;

    fn new() -> Self {
        Self::default()
    }

    fn insert(&mut self, deadline: u64) {
        self.next += 1;
        self.heap.push(Reverse((deadline, self.next, &ITEM)));
    }

    fn cancel(&mut self, (): ()) -> bool {
        unreachable!("a heap cannot cancel")
    }

    fn expire(&mut self, now: u64) -> usize {
        let mut count = 0;
        while self.heap.peek().is_some_and(|first| first.0.0 <= now) {
            black_box(self.heap.pop());
            count += 1;
        }
        count
    }
}

/// Xorshift: the same numbers in each run, and for each contestant.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        u64::try_from((u128::from(self.0) * u128::from(bound)) >> 64).expect("below the bound")
    }

    fn deadline(&mut self) -> u64 {
        SECOND + self.below(60 * SECOND)
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            let other = usize::try_from(self.below(at as u64 + 1)).expect("an index");
            items.swap(at, other);
        }
    }
}

/// `pending` timers due within a minute, and their keys.
fn filled<T: Timers>(pending: usize, random: &mut Random) -> (T, Vec<T::Key>) {
    let mut timers = T::new();
    let keys = (0..pending)
        .map(|_| timers.insert(random.deadline()))
        .collect();
    (timers, keys)
}

/// Few enough to leave `pending` what it is, enough not to measure the clock.
fn chunk_of(pending: usize) -> usize {
    (pending / 100).max(100)
}

/// Runs `timed` on chunks that are small beside `pending`, `iterations` operations in all, and
/// `between`, which is not timed, after each.
fn in_chunks(
    iterations: u64,
    pending: usize,
    mut timed: impl FnMut(usize),
    mut between: impl FnMut(usize),
) -> Duration {
    let mut total = Duration::ZERO;
    let mut left = usize::try_from(iterations).expect("a count");
    while left > 0 {
        let chunk = left.min(chunk_of(pending));
        let start = Instant::now();
        timed(chunk);
        total += start.elapsed();
        between(chunk);
        left -= chunk;
    }
    total
}

fn insert<T: Timers>(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("insert");
    for pending in [1_000, 100_000, MILLION] {
        let id = BenchmarkId::new(T::NAME, pending);
        group.bench_function(id, |bencher| {
            let mut random = Random(0x9E37_79B9_7F4A_7C15);
            let (timers, _) = filled::<T>(pending, &mut random);
            let timers = std::cell::RefCell::new(timers);
            let keys = std::cell::RefCell::new(Vec::with_capacity(pending));
            let deadlines: Vec<u64> = (0..chunk_of(pending)).map(|_| random.deadline()).collect();
            bencher.iter_custom(|iterations| {
                let add = |chunk| {
                    let (mut timers, mut keys) = (timers.borrow_mut(), keys.borrow_mut());
                    keys.extend(deadlines[..chunk].iter().map(|&at| timers.insert(at)));
                };
                let undo = |chunk| {
                    let (mut timers, mut keys) = (timers.borrow_mut(), keys.borrow_mut());
                    assert_eq!(keys.len(), chunk);
                    if T::CANCELS {
                        assert!(keys.drain(..).all(|key| timers.cancel(key)));
                    } else if keys.drain(..).count() > 0 && random.below(50) == 0 {
                        *timers = filled(pending, &mut random).0;
                    }
                };
                in_chunks(iterations, pending, add, undo)
            });
        });
    }
    group.finish();
}

/// The keys in the order of insertion, or in any order.
fn ordered<T: Timers>(pending: usize, order: &str, random: &mut Random) -> (T, Vec<T::Key>) {
    let (timers, mut keys) = filled::<T>(pending, random);
    if order == "random" {
        random.shuffle(&mut keys);
    }
    (timers, keys)
}

fn cancel<T: Timers>(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("cancel");
    group.sampling_mode(SamplingMode::Flat);
    for order in ["fifo", "random"] {
        for pending in [1_000, 100_000, MILLION] {
            let id = BenchmarkId::new(format!("{order}/{}", T::NAME), pending);
            group.bench_function(id, |bencher| {
                let mut random = Random(0x9E37_79B9_7F4A_7C15);
                bencher.iter_custom(|iterations| {
                    let mut total = Duration::ZERO;
                    let mut left = usize::try_from(iterations).expect("a count");
                    while left > 0 {
                        let (mut timers, keys) = ordered::<T>(pending, order, &mut random);
                        let chunk = left.min(pending);
                        let start = Instant::now();
                        let gone = keys[..chunk]
                            .iter()
                            .filter(|key| timers.cancel(**key))
                            .count();
                        total += start.elapsed();
                        assert_eq!(gone, chunk);
                        left -= chunk;
                    }
                    total
                });
            });
        }
    }
    group.finish();
}

/// An insert and a cancel, over a million.
fn churn<T: Timers>(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("churn over 1M");
    for order in ["fifo", "random"] {
        group.bench_function(BenchmarkId::new(order, T::NAME), |bencher| {
            let mut random = Random(0x9E37_79B9_7F4A_7C15);
            let (mut timers, mut keys) = ordered::<T>(MILLION, order, &mut random);
            let deadlines: Vec<u64> = (0..MILLION).map(|_| random.deadline()).collect();
            let mut at = 0;
            bencher.iter_custom(|iterations| {
                let start = Instant::now();
                for _ in 0..iterations {
                    assert!(timers.cancel(keys[at]));
                    keys[at] = timers.insert(deadlines[at]);
                    at = (at + 1) % MILLION;
                }
                start.elapsed()
            });
        });
    }
    group.finish();
}

fn expire<T: Timers>(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("expire 1M");
    group.sampling_mode(SamplingMode::Flat);
    // Spread over a minute, time moving by the millisecond; and all in one tick.
    for (name, spread, step) in [
        ("spread", 60 * SECOND, MILLISECOND),
        ("one tick", 5 * MILLISECOND, SECOND),
    ] {
        group.bench_function(BenchmarkId::new(name, T::NAME), |bencher| {
            let mut random = Random(0x9E37_79B9_7F4A_7C15);
            bencher.iter_custom(|iterations| {
                let mut total = Duration::ZERO;
                for _ in 0..iterations {
                    let mut timers = T::new();
                    for _ in 0..MILLION {
                        timers.insert(10 * SECOND + random.below(spread));
                    }
                    let start = Instant::now();
                    let mut now = 10 * SECOND - step;
                    let mut count = 0;
                    while count < MILLION {
                        now += step;
                        assert!(now <= 10 * SECOND + spread + step, "{count} only");
                        count += timers.expire(now);
                    }
                    total += start.elapsed();
                    assert_eq!(count, MILLION);
                }
                total
            });
        });
    }
    group.finish();
}

/// The longest time that one call of `advance` takes when a million are due at once.
fn report_longest_advance() {
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    for (name, spread) in [("tick", 5 * MILLISECOND), ("nanosecond", 1)] {
        let mut timers = TimingWheel::new();
        for _ in 0..MILLION {
            timers.insert(10 * SECOND + random.below(spread));
        }
        let mut calls = Vec::new();
        let mut count = 0;
        loop {
            let start = Instant::now();
            let (due, more) = timers.step(11 * SECOND);
            calls.push(start.elapsed());
            count += due;
            if !more {
                break;
            }
        }
        assert_eq!(count, MILLION);
        calls.sort_unstable();
        let [half, p999] = [calls.len() / 2, calls.len() / 1_000 * 999].map(|at| calls[at]);
        println!(
            "advance by {BUDGET}, 1M in one {name}: p50 {half:?}, p99.9 {p999:?}, longest {:?}",
            calls[calls.len() - 1]
        );
    }
}

/// How long a post takes on the poster's side, while a million tasks come due in one tick and while
/// nothing does: the difference is the timer's, the rest the machine's.
fn report_stall_of_a_post() {
    for due in [MILLION, 0] {
        let scheduler = Scheduler::new();
        let ran = Arc::new(AtomicUsize::new(0));
        let begin = Instant::now();
        let delay = Duration::from_secs(2);
        for _ in 0..due {
            let ran = Arc::clone(&ran);
            let rest = delay.saturating_sub(begin.elapsed());
            let count = move || {
                ran.fetch_add(1, Relaxed);
            };
            scheduler.post_after(rest, count).expect("it is open");
        }
        assert!(begin.elapsed() < delay, "a million came too late");
        while due > 0 && ran.load(Relaxed) == 0 {
            std::hint::spin_loop();
        }
        let mut posts: Vec<Duration> = Vec::with_capacity(1 << 16);
        while posts.len() < posts.capacity() {
            let start = Instant::now();
            let post = scheduler.post_after(Duration::from_secs(3_600), || ());
            posts.push(start.elapsed());
            drop(post.expect("it is open"));
            while start.elapsed() < Duration::from_micros(10) {
                std::hint::spin_loop();
            }
            // Until the million have left the wheel.
            let over = if due == 0 {
                posts.len() == 20_000
            } else {
                posts.len().is_multiple_of(64) && scheduler.stats().pending_timers == posts.len()
            };
            if over {
                break;
            }
        }
        scheduler.shutdown_now();
        posts.sort_unstable();
        let at = |per_mille: usize| posts[(posts.len() - 1) * per_mille / 1_000];
        println!(
            "a post while {due} come due: p50 {:?}, p99 {:?}, p99.9 {:?}, longest {:?} of {}",
            at(500),
            at(990),
            at(999),
            at(1_000),
            posts.len()
        );
    }
}

/// Heap bytes in use.
static BYTES: AtomicIsize = AtomicIsize::new(0);

struct Counting;

fn count(size: usize, sign: isize) {
    BYTES.fetch_add(sign * isize::try_from(size).unwrap_or(isize::MAX), Relaxed);
}

// SAFETY: every call goes to the system's allocator as it came; counting touches no memory of it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 1);
        // SAFETY: the caller keeps `alloc`'s contract, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count(layout.size(), -1);
        // SAFETY: the caller keeps `dealloc`'s contract, which is the same.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(layout.size(), -1);
        count(size, 1);
        // SAFETY: the caller keeps `realloc`'s contract, which is the same.
        unsafe { System.realloc(block, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes for each pending timer, by the allocator's count.
fn report_memory() {
    let in_use = |before| BYTES.load(Relaxed) - before;
    let each = |bytes| f64::from(i32::try_from(bytes).expect("less than 2 GB")) / 1e6;
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let mut keys = Vec::with_capacity(MILLION);
    let mut out = Vec::with_capacity(BUDGET);

    let before = BYTES.load(Relaxed);
    let mut wheel = Wheel::new(&Tiers::default(), 0);
    println!("memory: {} B for an empty wheel", in_use(before));
    keys.push(wheel.insert(random.deadline(), &ITEM));
    println!("memory: {} B with one timer pending", in_use(before));
    keys.extend((1..MILLION).map(|_| wheel.insert(random.deadline(), &ITEM)));
    println!("memory: {:.1} B a timer, 1M pending", each(in_use(before)));
    random.shuffle(&mut keys);
    for key in &mut keys {
        assert!(wheel.remove(*key).is_some());
        *key = wheel.insert(random.deadline(), &ITEM);
    }
    println!(
        "memory: {:.1} B a timer, all replaced one by one",
        each(in_use(before))
    );
    let mut count = 0;
    while count < MILLION {
        wheel.advance(70 * SECOND, BUDGET, &mut out);
        count += out.drain(..).count();
    }
    while wheel.advance(70 * SECOND, BUDGET, &mut out) {}
    println!("memory: {} B after all have fired", in_use(before));

    let before = BYTES.load(Relaxed);
    let mut wheel = Wheel::new(&Tiers::default(), 0);
    for item in 0..MILLION as u64 {
        wheel.insert(random.deadline(), item);
    }
    println!(
        "memory: {:.1} B a timer, items without a niche",
        each(in_use(before))
    );
}

fn reports(_: &mut Criterion) {
    report_memory();
    report_longest_advance();
    report_stall_of_a_post();
}

criterion_group! {
    name = wheel;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    targets = reports,
        insert::<TimingWheel>, insert::<Tree>, insert::<Heap>,
        cancel::<TimingWheel>, cancel::<Tree>,
        churn::<TimingWheel>, churn::<Tree>,
        expire::<TimingWheel>, expire::<Tree>, expire::<Heap>
}

fn main() {
    wheel();
    Criterion::default().configure_from_args().final_summary();
}
