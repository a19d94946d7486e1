//! Tells how much memory a contestant's pending timers take: `memory CONTESTANT COUNT`, an answer in
//! JSON. A program of its own, for its allocator counts.

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::io::{self, Write};
use std::sync::atomic::{AtomicIsize, Ordering::Relaxed};

use asynctask_benchmarks::containers::{Delays, HashWheel, Heap, TimingWheel, Tree};
use asynctask_benchmarks::services::{HashWheelThread, OurScheduler, Sleeps};
use asynctask_benchmarks::{Random, Timers};

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

/// The bytes of `pending` timers; the room for their keys is not counted, what they point to is.
fn bytes<T: Timers>(pending: usize) -> isize {
    let mut random = Random::new();
    let mut keys = Vec::with_capacity(pending);
    let before = BYTES.load(Relaxed);
    let mut timers = T::new();
    keys.extend((0..pending).map(|_| timers.insert(random.delay())));
    let bytes = BYTES.load(Relaxed) - before;
    assert_eq!(timers.fired(), 0, "early");
    if T::CANCELS {
        assert!(keys.into_iter().all(|key| timers.cancel(key)), "lost");
    }
    black_box(timers);
    bytes
}

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [contestant, pending] = arguments.as_slice() else {
        panic!("a contestant and a number, not {arguments:?}");
    };
    let of = match contestant.as_str() {
        "Wheel" => bytes::<TimingWheel>,
        "BTreeMap" => bytes::<Tree>,
        "BinaryHeap" => bytes::<Heap>,
        "DelayQueue" => bytes::<Delays>,
        "hash-wheel" => bytes::<HashWheel>,
        "Scheduler" => bytes::<OurScheduler>,
        "tokio" => bytes::<Sleeps<false>>,
        "hash-wheel-thread" => bytes::<HashWheelThread>,
        name => panic!("no such contestant: {name}"),
    };
    let pending: usize = pending.parse().expect("a number");
    let bytes = of(pending);
    writeln!(io::stdout(), "{{\"bytes\": [{bytes}]}}")
}
