//! Timers that threads share, as a program uses them: the call reads the clock, takes what lock or
//! queue there is, and a closure or a waker will be run when the timer is due.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use asynctask::{JoinHandle, Scheduler};
use hierarchical_hash_wheel_timer::thread_timer::{TimerRef, TimerWithThread};
use hierarchical_hash_wheel_timer::{
    ClosureTimer, OneShotClosureState, PeriodicClosureState, Timer,
};
use tokio::runtime::{Builder, EnterGuard, Runtime};
use tokio::time::Sleep;

use crate::{Timers, Virtual, entered};

/// Workers of every pool.
pub const WORKERS: usize = 8;

/// A scheduler of ours with that many workers.
pub fn scheduler() -> Scheduler {
    let builder = Scheduler::builder().max_workers(WORKERS);
    builder.build().expect("a number of workers")
}

/// Ours: `Scheduler::post_after`.
#[derive(Debug)]
pub struct OurScheduler {
    scheduler: Option<Scheduler>,
    fired: Arc<AtomicU64>,
}

impl Timers for OurScheduler {
    type Key = JoinHandle<()>;

    fn new() -> Self {
        Self {
            scheduler: Some(scheduler()),
            fired: Arc::default(),
        }
    }

    fn insert(&mut self, delay: u64) -> JoinHandle<()> {
        let fired = Arc::clone(&self.fired);
        let count = move || {
            fired.fetch_add(1, Relaxed);
        };
        let scheduler = self
            .scheduler
            .as_ref()
            .expect("it is there until it is dropped");
        scheduler
            .post_after(Duration::from_nanos(delay), count)
            .expect("a scheduler that is open")
    }

    fn cancel(&mut self, key: JoinHandle<()>) -> bool {
        key.abort()
    }

    fn fired(&self) -> u64 {
        self.fired.load(Relaxed)
    }
}

impl Drop for OurScheduler {
    fn drop(&mut self) {
        if let Some(scheduler) = self.scheduler.take() {
            scheduler.shutdown_now();
        }
    }
}

struct Counter(AtomicU64);

impl Wake for Counter {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.fetch_add(1, Relaxed);
    }
}

/// tokio's own timers: a `Sleep` in a box, polled once, with a waker that counts. `PAUSED`: time is
/// moved by hand.
pub struct Sleeps<const PAUSED: bool> {
    _entered: EnterGuard<'static>, // gone before the runtime
    runtime: Runtime,
    counter: Arc<Counter>,
    waker: Waker,
    kept: Vec<Pin<Box<Sleep>>>,
}

impl<const PAUSED: bool> Sleeps<PAUSED> {
    fn sleep(&self, delay: u64) -> Pin<Box<Sleep>> {
        let mut sleep = Box::pin(tokio::time::sleep(Duration::from_nanos(delay)));
        let polled = sleep.as_mut().poll(&mut Context::from_waker(&self.waker));
        assert!(polled.is_pending());
        sleep
    }
}

impl<const PAUSED: bool> Timers for Sleeps<PAUSED> {
    type Key = Pin<Box<Sleep>>;

    fn new() -> Self {
        let mut builder = if PAUSED {
            let mut builder = Builder::new_current_thread();
            builder.start_paused(true);
            builder
        } else {
            Builder::new_multi_thread()
        };
        let runtime = builder.enable_time().build().expect("a runtime");
        let counter = Arc::new(Counter(AtomicU64::new(0)));
        Self {
            _entered: entered(&runtime),
            runtime,
            waker: Waker::from(Arc::clone(&counter)),
            counter,
            kept: Vec::new(),
        }
    }

    fn insert(&mut self, delay: u64) -> Pin<Box<Sleep>> {
        self.sleep(delay)
    }

    fn cancel(&mut self, key: Pin<Box<Sleep>>) -> bool {
        let was_pending = !key.is_elapsed();
        drop(key);
        was_pending
    }

    fn fired(&self) -> u64 {
        self.counter.0.load(Relaxed)
    }
}

/// A paused runtime's timers; the boxes are kept here until all have fired.
#[derive(Debug)]
pub struct PausedSleeps(Sleeps<true>);

impl Timers for PausedSleeps {
    type Key = ();
    const CANCELS: bool = false;

    fn new() -> Self {
        Self(Sleeps::new())
    }

    fn insert(&mut self, delay: u64) {
        let sleep = self.0.sleep(delay);
        self.0.kept.push(sleep);
    }

    fn cancel(&mut self, (): ()) -> bool {
        unreachable!("they are only let expire")
    }
}

impl Virtual for PausedSleeps {
    fn advance(&mut self, steps: u32) -> Vec<u64> {
        let mut after_each = Vec::with_capacity(steps as usize);
        self.0.runtime.block_on(async {
            for _ in 0..steps {
                tokio::time::advance(Duration::from_millis(1)).await;
                after_each.push(self.0.fired());
            }
        });
        after_each
    }
}

impl<const PAUSED: bool> fmt::Debug for Sleeps<PAUSED> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sleeps").finish_non_exhaustive()
    }
}

type Once = OneShotClosureState<u64>;
type Periodic = PeriodicClosureState<u64>;

/// `hierarchical_hash_wheel_timer` with its thread, which spins while a timer is near.
pub struct HashWheelThread {
    thread: Option<TimerWithThread<u64, Once, Periodic>>,
    /// What its users talk to.
    pub timer: TimerRef<u64, Once, Periodic>,
    fired: Arc<AtomicU64>,
    next: u64,
}

impl HashWheelThread {
    /// The name of a further timer.
    pub fn next_id(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

impl Timers for HashWheelThread {
    type Key = u64;

    fn new() -> Self {
        let thread = TimerWithThread::new().expect("a thread");
        Self {
            timer: thread.timer_ref(),
            thread: Some(thread),
            fired: Arc::default(),
            next: 0,
        }
    }

    fn insert(&mut self, delay: u64) -> u64 {
        let fired = Arc::clone(&self.fired);
        let id = self.next_id();
        let count = move |_| {
            fired.fetch_add(1, Relaxed);
        };
        self.timer
            .schedule_action_once(id, Duration::from_nanos(delay), count);
        id
    }

    fn cancel(&mut self, key: u64) -> bool {
        self.timer.cancel(&key);
        true // it does not say
    }

    fn fired(&self) -> u64 {
        self.fired.load(Relaxed)
    }
}

impl Drop for HashWheelThread {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            thread.shutdown().expect("the timer's thread ends");
        }
    }
}

impl fmt::Debug for HashWheelThread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HashWheelThread").finish_non_exhaustive()
    }
}
