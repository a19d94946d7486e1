//! The life of the timer thread.
//!
//! A loop: read the clock, advance the wheel, hand over what is due, or else sleep. How it sleeps and
//! when it leaves is on [`crate::timer`]'s page. Under the lock it calls items, as they go back on the
//! wheel, and asks the sink whether it expects more, and calls nothing else.
#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use super::item::Item;
use super::shared::{ASLEEP, AT_WORK, Life, Shared};
use super::wall::{WALL_POLL, Wall};
use crate::clock::{Nanos, guarded};
use crate::sync::{Ordering, Parked, lock, thread};
use crate::wheel::Key;

/// The most entries that the thread touches in one hold of the lock, which an insert may have to wait
/// for. Smaller batches gain nothing; figures: `docs/design/timer.md`.
const BATCH: usize = 256;

/// How long the timer thread leaves the lock to those who wait for it: what a wake-up takes, but for
/// a few. It yields the processor and does not spin, for the one who waits may need this very one.
/// Figures: `docs/design/timer.md`.
const YIELD_LIMIT: Duration = Duration::from_micros(50);

/// A clock that panicked is asked again after this.
const CLOCK_RETRY: Duration = Duration::from_millis(10);

impl<T: Item> Shared<T> {
    /// The life of the timer thread.
    pub(super) fn run(&self) {
        ask_for_exact_wake_ups();
        let mut due = Vec::with_capacity(BATCH);
        let mut again = Vec::new();
        let mut latest = 0;
        let mut wall = Wall::default();
        loop {
            self.yield_to_waiters();
            // Read after waking: no item is ever early. And before the lock: a clock is a user's code.
            let read = guarded(|| self.clock.now());
            let now = read.unwrap_or(latest);
            latest = now;
            let follows_wall = self.sink.follows_wall();
            if !follows_wall {
                wall = Wall::default();
            } else if read.is_some()
                && let Some(now) = wall.was_set(now, &*self.clock)
            {
                self.make_due(&self.sink.wall_was_set(now), now.now);
            }
            let mut state = lock(&self.state);
            if state.life == Life::Closed {
                state.has_thread = false;
                return;
            }
            // AT WORK
            state.armed = AT_WORK;
            let more = state.wheel.advance(now, BATCH, &mut due);
            if !due.is_empty() {
                state.in_flight = true;
                state.moves += 1;
                drop(state);
                self.sink.due(now, &mut due, &mut again);
                debug_assert!(due.is_empty(), "the sink left {} items", due.len());
                self.put_back(&mut again);
                continue;
            }
            if more {
                continue; // a cascade took the whole batch: let others have the lock
            }
            if state.life == Life::Draining && state.wheel.is_empty() {
                state.life = Life::Closed;
                drop(state);
                self.sink.drained();
                continue;
            }
            // ASLEEP
            let next = state.wheel.next_expiry();
            state.armed = next.unwrap_or(ASLEEP);
            let expects = self.sink.expects();
            drop(state);
            let wake_at = match next {
                Some(deadline) => guarded(|| self.clock.instant_of(deadline))
                    .filter(|_| read.is_some())
                    .unwrap_or_else(|| Instant::now().checked_add(CLOCK_RETRY)),
                None if expects => None,
                None if self.sink.is_finished() => Some(Instant::now()),
                None => Instant::now().checked_add(self.idle_timeout),
            };
            let wake_at = if follows_wall && !wall.is_watched(&*self.clock, &self.parker) {
                let look = Instant::now().checked_add(WALL_POLL);
                wake_at.into_iter().chain(look).min()
            } else {
                wake_at
            };
            let retry = self.sink.retry();
            let ask_at = retry.and_then(|retry| Instant::now().checked_add(retry));
            let wake_at = wake_at.into_iter().chain(ask_at).min();
            let parked = self.parker.park_undisturbed(wake_at);
            if parked == Parked::TimedOut && next.is_none() && retry.is_none() {
                let mut state = lock(&self.state);
                if state.wheel.is_empty() && !self.sink.expects() {
                    state.has_thread = false;
                    return;
                }
            }
        }
    }

    /// Called by the timer thread between two holds: lets those in who wait for the lock. A
    /// courtesy: nothing depends on it, so a model need not know of it.
    fn yield_to_waiters(&self) {
        if cfg!(loom) || self.waiting.load(Ordering::Relaxed) == 0 {
            return;
        }
        let start = Instant::now();
        while self.waiting.load(Ordering::Relaxed) > 0 && start.elapsed() < YIELD_LIMIT {
            thread::yield_now();
        }
    }

    /// Moves items to `now`, as far as they are still on the wheel.
    fn make_due(&self, keys: &[Key], now: Nanos) {
        for keys in keys.chunks(BATCH) {
            let mut state = lock(&self.state);
            state.moves += 1;
            for &key in keys {
                state.wheel.reschedule(key, now);
            }
            drop(state);
            self.yield_to_waiters();
        }
    }

    fn put_back(&self, again: &mut Vec<(Nanos, T)>) {
        let mut refused = Vec::new();
        let mut state = lock(&self.state);
        state.moves += 1;
        for (deadline, item) in again.drain(..) {
            let key = state.wheel.insert(deadline, item);
            if state.life == Life::Closed || !state.readmit(key) {
                refused.extend(state.wheel.remove(key));
            }
        }
        if !refused.is_empty() {
            drop(state);
            self.sink.refused(refused);
            state = lock(&self.state);
        }
        state.in_flight = false;
        drop(state);
        self.handed_over.notify_all();
    }
}

/// Linux may defer a thread's wake-ups by 50 µs to save power; this one is here to be on time.
#[cfg(target_os = "linux")]
fn ask_for_exact_wake_ups() {
    // A refusal, in a sandbox say, costs 50 µs of lateness and nothing else.
    let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
}

#[cfg(not(target_os = "linux"))]
fn ask_for_exact_wake_ups() {}
