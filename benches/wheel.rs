//! The timing wheel by itself; `make bench` has it beside its peers, and posts beside a burst.
//!
//! `cargo bench --bench wheel`. Times are for one operation, except where the name says 1M: there
//! nanoseconds for each item are milliseconds for the whole. Every workload checks its own result:
//! what comes out is counted, and nothing may be early.
#![expect(
    clippy::print_stdout,
    reason = "reports that are not times for one operation"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicIsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

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

struct Timers {
    wheel: Wheel<&'static Item>,
    out: Vec<Due<&'static Item>>,
}

impl Timers {
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

    /// One call of `advance`: how many were due, and whether there are more.
    fn step(&mut self, now: u64) -> (usize, bool) {
        self.out.clear();
        let more = self.wheel.advance(now, BUDGET, &mut self.out);
        assert!(self.out.iter().all(|due| due.deadline <= now), "early");
        (self.out.len(), more)
    }

    /// Takes out what is due at `now`: how many.
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
fn filled(pending: usize, random: &mut Random) -> (Timers, Vec<Key>) {
    let mut timers = Timers::new();
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

fn insert(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("insert");
    for pending in [1_000, 100_000, MILLION] {
        group.bench_function(BenchmarkId::from_parameter(pending), |bencher| {
            let mut random = Random(0x9E37_79B9_7F4A_7C15);
            let (timers, _) = filled(pending, &mut random);
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
                    assert!(keys.drain(..).all(|key| timers.cancel(key)));
                };
                in_chunks(iterations, pending, add, undo)
            });
        });
    }
    group.finish();
}

/// The keys in the order of insertion, or in any order.
fn ordered(pending: usize, order: &str, random: &mut Random) -> (Timers, Vec<Key>) {
    let (timers, mut keys) = filled(pending, random);
    if order == "random" {
        random.shuffle(&mut keys);
    }
    (timers, keys)
}

fn cancel(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("cancel");
    group.sampling_mode(SamplingMode::Flat);
    for order in ["fifo", "random"] {
        for pending in [1_000, 100_000, MILLION] {
            let id = BenchmarkId::new(order, pending);
            group.bench_function(id, |bencher| {
                let mut random = Random(0x9E37_79B9_7F4A_7C15);
                bencher.iter_custom(|iterations| {
                    let mut total = Duration::ZERO;
                    let mut left = usize::try_from(iterations).expect("a count");
                    while left > 0 {
                        let (mut timers, keys) = ordered(pending, order, &mut random);
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
fn churn(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("churn over 1M");
    for order in ["fifo", "random"] {
        group.bench_function(order, |bencher| {
            let mut random = Random(0x9E37_79B9_7F4A_7C15);
            let (mut timers, mut keys) = ordered(MILLION, order, &mut random);
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

fn expire(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("expire 1M");
    group.sampling_mode(SamplingMode::Flat);
    // Spread over a minute, time moving by the millisecond; and all in one tick.
    for (name, spread, step) in [
        ("spread", 60 * SECOND, MILLISECOND),
        ("one tick", 5 * MILLISECOND, SECOND),
    ] {
        group.bench_function(name, |bencher| {
            let mut random = Random(0x9E37_79B9_7F4A_7C15);
            bencher.iter_custom(|iterations| {
                let mut total = Duration::ZERO;
                for _ in 0..iterations {
                    let mut timers = Timers::new();
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
        let mut timers = Timers::new();
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
}

criterion_group! {
    name = wheel;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    targets = reports, insert, cancel, churn, expire
}

fn main() {
    wheel();
    Criterion::default().configure_from_args().final_summary();
}
