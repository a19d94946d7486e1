//! The life of the timer thread.
#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use super::item::Item;
use super::shared::{ASLEEP, AT_WORK, Life, Shared};
use super::wall::{LOOK, Wall};
use crate::clock::{Nanos, asked};
use crate::sync::{Ordering, Parked, lock, thread};
use crate::wheel::Key;

/// The most entries touched while the lock is held. 256 take 2 µs, and 8 µs at p99.9, which is what
/// an insert may have to wait. With 64, 128, 256 and 512 a million due at once drain equally fast,
/// and a post beside them takes equally long, 10 to 50 µs at p99.9: what is left is waking up.
const BATCH: usize = 256;

/// How long the timer thread leaves the lock to those who wait for it: what a wake-up takes, but for
/// a few. Measured on two processors busy with other things, with a million due at once: without
/// it, a post lost the lock up to 529 times in a row, and took 0.01 to 16 ms at p99.9; with it 2 to
/// 47 µs in six runs of seven. Spinning instead of yielding left 0.05 to 10 ms: the one who waits
/// may need this very processor.
const COURTESY: Duration = Duration::from_micros(50);

/// A clock that panicked is asked again after this.
const ASK_AGAIN: Duration = Duration::from_millis(10);

impl<T: Item> Shared<T> {
    /// The life of the timer thread.
    pub(super) fn run(&self) {
        ask_for_exact_wake_ups();
        let mut due = Vec::with_capacity(BATCH);
        let mut again = Vec::new();
        let mut latest = 0;
        let mut wall = Wall::default();
        loop {
            self.give_way();
            // Read after waking: no item is ever early. And before the lock: a clock is a user's code.
            let read = asked(|| self.clock.now());
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
                continue; // a cascade took the whole batch: let others at the lock
            }
            if state.life == Life::Emptying && state.wheel.is_empty() {
                state.life = Life::Closed;
                drop(state);
                self.sink.emptied();
                continue;
            }
            // ASLEEP
            let next = state.wheel.next_expiry();
            state.armed = next.unwrap_or(ASLEEP);
            let expects = self.sink.expects();
            drop(state);
            let wake_at = match next {
                Some(deadline) => asked(|| self.clock.instant_of(deadline))
                    .filter(|_| read.is_some())
                    .unwrap_or_else(|| Instant::now().checked_add(ASK_AGAIN)),
                None if expects => None,
                None if self.sink.is_finished() => Some(Instant::now()),
                None => Instant::now().checked_add(self.idle_timeout),
            };
            let wake_at = if follows_wall && !wall.is_watched(&*self.clock, &self.parker) {
                let look = Instant::now().checked_add(LOOK);
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
    fn give_way(&self) {
        if cfg!(loom) || self.waiting.load(Ordering::Relaxed) == 0 {
            return;
        }
        let start = Instant::now();
        while self.waiting.load(Ordering::Relaxed) > 0 && start.elapsed() < COURTESY {
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
            self.give_way();
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
        self.rested.notify_all();
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
