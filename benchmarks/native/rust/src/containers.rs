//! Wheels, and the containers that could do their job: data, used by one thread.
//!
//! Time is a number that the workload moves; none of them reads a clock, or runs anything when a
//! timer is due. Where a peer's time is in milliseconds, deadlines are rounded up, so that it is not
//! early either.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::fmt;
use std::future::poll_fn;
use std::hint::black_box;
use std::task::Poll;
use std::time::Duration;

use asynctask::wheel::{Due, Key, Tiers, Wheel};
use hierarchical_hash_wheel_timer::IdOnlyTimerEntry;
use hierarchical_hash_wheel_timer::wheels::cancellable::QuadWheelWithOverflow;
use tokio::runtime::{Builder, EnterGuard, Runtime};
use tokio::time::Instant;
use tokio_util::time::{DelayQueue, delay_queue};

use crate::{MILLISECOND, Timers, Virtual, entered};

/// As small as a reference-counted task.
type Item = &'static &'static str;
const ITEM: Item = &"item";

/// Entries in one call of `advance`: as many as the timer's thread takes under its lock.
const BUDGET: usize = 256;

/// Ours.
#[derive(Debug)]
pub struct TimingWheel {
    wheel: Wheel<Item>,
    out: Vec<Due<Item>>,
}

impl Timers for TimingWheel {
    type Key = Key;

    fn new() -> Self {
        Self {
            wheel: Wheel::new(&Tiers::default(), 0),
            out: Vec::with_capacity(BUDGET),
        }
    }

    fn insert(&mut self, delay: u64) -> Key {
        self.wheel.insert(delay, ITEM)
    }

    fn cancel(&mut self, key: Key) -> bool {
        self.wheel.remove(key).is_some()
    }
}

impl Virtual for TimingWheel {
    fn advance(&mut self, steps: u32) -> Vec<u64> {
        let mut fired = 0;
        each_millisecond(steps, |now| {
            loop {
                let more = self.wheel.advance(now, BUDGET, &mut self.out);
                assert!(self.out.iter().all(|due| due.deadline <= now), "early");
                fired += self.out.drain(..).map(black_box).count() as u64;
                if !more {
                    return fired;
                }
            }
        })
    }
}

fn each_millisecond(steps: u32, mut step: impl FnMut(u64) -> u64) -> Vec<u64> {
    (1..=u64::from(steps))
        .map(|ms| step(ms * MILLISECOND))
        .collect()
}

/// `std`'s tree: a control.
#[derive(Debug, Default)]
pub struct Tree {
    map: BTreeMap<(u64, u64), Item>,
    next: u64,
}

impl Timers for Tree {
    type Key = (u64, u64);

    fn new() -> Self {
        Self::default()
    }

    fn insert(&mut self, delay: u64) -> (u64, u64) {
        self.next += 1;
        self.map.insert((delay, self.next), ITEM);
        (delay, self.next)
    }

    fn cancel(&mut self, key: (u64, u64)) -> bool {
        self.map.remove(&key).is_some()
    }
}

impl Virtual for Tree {
    fn advance(&mut self, steps: u32) -> Vec<u64> {
        let mut fired = 0;
        each_millisecond(steps, |now| {
            while let Some(first) = self.map.first_entry() {
                if first.key().0 > now {
                    break;
                }
                black_box(first.remove());
                fired += 1;
            }
            fired
        })
    }
}

/// `std`'s heap: a control, which cannot cancel.
#[derive(Debug, Default)]
pub struct Heap {
    heap: BinaryHeap<Reverse<(u64, u64, Item)>>,
    next: u64,
}

impl Timers for Heap {
    type Key = ();
    const CANCELS: bool = false;

    fn new() -> Self {
        Self::default()
    }

    fn insert(&mut self, delay: u64) {
        self.next += 1;
        self.heap.push(Reverse((delay, self.next, ITEM)));
    }

    fn cancel(&mut self, (): ()) -> bool {
        unreachable!("a heap cannot cancel")
    }
}

impl Virtual for Heap {
    fn advance(&mut self, steps: u32) -> Vec<u64> {
        let mut fired = 0;
        each_millisecond(steps, |now| {
            while self.heap.peek().is_some_and(|first| first.0.0 <= now) {
                black_box(self.heap.pop());
                fired += 1;
            }
            fired
        })
    }
}

/// tokio-util's wheel. Its deadlines are given as instants, so that it need not read the clock.
pub struct Delays {
    _entered: EnterGuard<'static>, // gone before the runtime
    queue: DelayQueue<Item>,
    start: Instant,
    runtime: Runtime,
}

impl Timers for Delays {
    type Key = delay_queue::Key;

    fn new() -> Self {
        let runtime = Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        Self {
            _entered: entered(&runtime),
            queue: DelayQueue::new(),
            start: Instant::now(),
            runtime,
        }
    }

    fn insert(&mut self, delay: u64) -> delay_queue::Key {
        self.queue
            .insert_at(ITEM, self.start + Duration::from_nanos(delay))
    }

    fn cancel(&mut self, key: delay_queue::Key) -> bool {
        self.queue.try_remove(&key).is_some()
    }
}

impl Virtual for Delays {
    fn advance(&mut self, steps: u32) -> Vec<u64> {
        let (queue, mut fired) = (&mut self.queue, 0);
        let mut after_each = Vec::with_capacity(steps as usize);
        // Unconstrained: it is not to be sent to the back of the runtime's queue now and then.
        let run = tokio::task::unconstrained(async {
            for _ in 0..steps {
                tokio::time::advance(Duration::from_millis(1)).await;
                poll_fn(|context| {
                    while let Poll::Ready(Some(due)) = queue.poll_expired(context) {
                        black_box(due);
                        fired += 1;
                    }
                    Poll::Ready(())
                })
                .await;
                after_each.push(fired);
            }
        });
        self.runtime.block_on(run);
        after_each
    }
}

impl fmt::Debug for Delays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delays").finish_non_exhaustive()
    }
}

/// The wheel of `hierarchical_hash_wheel_timer` that can cancel; its ticks are milliseconds.
pub struct HashWheel {
    wheel: QuadWheelWithOverflow<IdOnlyTimerEntry<u64>>,
    next: u64,
}

impl Timers for HashWheel {
    type Key = u64;

    fn new() -> Self {
        Self {
            wheel: QuadWheelWithOverflow::new(),
            next: 0,
        }
    }

    fn insert(&mut self, delay: u64) -> u64 {
        self.next += 1;
        let delay = Duration::from_millis(delay.div_ceil(MILLISECOND));
        self.wheel
            .insert(IdOnlyTimerEntry::new(self.next, delay))
            .expect("in the future");
        self.next
    }

    fn cancel(&mut self, key: u64) -> bool {
        self.wheel.cancel(&key).is_ok()
    }
}

impl Virtual for HashWheel {
    fn advance(&mut self, steps: u32) -> Vec<u64> {
        let mut fired = 0;
        each_millisecond(steps, |_| {
            fired += black_box(self.wheel.tick()).len() as u64;
            fired
        })
    }
}

impl fmt::Debug for HashWheel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HashWheel").finish_non_exhaustive()
    }
}
