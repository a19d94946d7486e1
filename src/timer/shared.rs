//! What a timer and its thread share: the wheel and its lock.
//!
//! | life     | inserts  | on the wheel            | left by                                              |
//! |----------|----------|-------------------------|------------------------------------------------------|
//! | Open     | accepted | anything                | `refuse` to Draining, `close` to Closed              |
//! | Draining | refused  | what outlasts a refusal | the thread, when the wheel is empty, or `close`      |
//! | Closed   | refused  | nothing                 |                                                      |
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::time::Duration;

use super::item::Item;
use super::sink::Sink;
use crate::clock::{Clock, Nanos};
use crate::sync::{AtomicU64, Condvar, Mutex, MutexGuard, Ordering, Parker, lock, try_lock};
use crate::wheel::{Key, Wheel};

/// The `armed` of a thread that is at work, and needs no wake-up.
pub(super) const AT_WORK: Nanos = 0;
/// The `armed` of a thread that sleeps without a deadline.
pub(super) const ASLEEP: Nanos = Nanos::MAX;

pub(super) struct Shared<T> {
    pub(super) state: Mutex<State<T>>,
    /// Threads that found the lock taken and wait for it.
    pub(super) waiting: AtomicU64,
    /// The thread has handed over what it had taken off the wheel.
    pub(super) handed_over: Condvar,
    pub(super) parker: Arc<Parker>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) sink: Box<dyn Sink<T>>,
    pub(super) idle_timeout: Duration,
    pub(super) thread_name: String,
}

/// Whether items come and go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    /// Both.
    Open,
    /// None is inserted any more; when the wheel is empty, the sink is told.
    Draining,
    /// Neither; the thread leaves.
    Closed,
}

pub(super) struct State<T> {
    pub(super) wheel: Wheel<T>,
    /// The instant the thread will look at the wheel without being told.
    pub(super) armed: Nanos,
    pub(super) has_thread: bool,
    /// Items are on their way from the wheel to the sink.
    pub(super) in_flight: bool,
    /// How many times items have come or gone.
    pub(super) moves: u64,
    pub(super) life: Life,
}

impl<T> State<T> {
    /// Step 5 of "How it sleeps"; `true`: the thread must be told.
    pub(super) fn arm(&mut self, deadline: Nanos) -> bool {
        let earlier = deadline < self.armed;
        if earlier {
            self.armed = deadline;
        }
        earlier
    }
}

impl<T: Item> State<T> {
    /// Tells an item that has just gone back on the wheel its key; `false`: it must leave.
    pub(super) fn readmit(&self, key: Key) -> bool {
        self.wheel.get(key).is_some_and(|item| {
            item.set_key(key);
            item.readmit()
        })
    }
}

impl<T: Item> Shared<T> {
    /// The lock, for everyone but the timer thread.
    #[inline]
    pub(super) fn lock(&self) -> MutexGuard<'_, State<T>> {
        match try_lock(&self.state) {
            Some(state) => state,
            None => self.wait_for_lock(),
        }
    }

    #[cold]
    fn wait_for_lock(&self) -> MutexGuard<'_, State<T>> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let state = lock(&self.state);
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        state
    }
}
