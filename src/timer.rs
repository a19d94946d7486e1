//! The timer thread: sleeps until the next deadline and hands what is due to a [`Sink`].
//!
//! Owned by an engine. It holds the wheel behind one mutex, and is the only one to advance it. It
//! never runs a task, never drops one, and never takes an interpreter's lock: everything that comes
//! off the wheel goes to the sink.
//!
//! # How it sleeps
//!
//! There is no tick. The thread sleeps until `armed`, the earliest deadline on the wheel, or for
//! ever when the wheel is empty; an idle timer costs nothing.
//!
//! The thread: (1) under the lock, advances the wheel; nothing due, so (2) sets `armed` to the next
//! expiry; (3) lets go of the lock and parks until then.
//! An insert: (4) under the lock, puts the item on the wheel; (5) if its deadline is before `armed`,
//! sets `armed` to it, so that a later insert behind it need not; (6) lets go and unparks.
//! The race: an insert between (2) and (3). The token of step 6 stays in the parker, so step 3
//! returns at once. While the thread is at work `armed` is 0 and nobody unparks it: it looks at the
//! wheel again before it sleeps.
//!
//! # When it leaves
//!
//! When the wheel has been empty for the idle timeout and nothing is [expected](Sink::expects): the
//! task of a series is off the wheel while it runs, and will be back. So what was accepted never
//! finds that there is no thread to be had. Only an [`insert`](Timer::insert) that is the first may,
//! and says so.
//!
//! Invariant: there are items on the wheel, or one is expected that has been there ⇒ the timer has its
//! thread. For a thread leaves under the lock, and what is expected was so before its first insert.
//! [`recheck`](Timer::recheck) makes a thread that stayed for it look again.
//!
//! # The wall clock
//!
//! While there are items that [follow](Sink::follows_wall) it, the thread has itself woken when the
//! wall clock is set, or looks every `WALL_POLL` where that cannot be had. Whenever it is up, it
//! compares the distance of the two clocks with what it was, and if that has changed, makes those items
//! due that the sink [names](Sink::wall_was_set).
//!
//! # Bounded steps
//!
//! The thread touches at most `BATCH` entries in one hold of the lock, however many are due at once,
//! and calls the sink between two holds. That alone would not do: a mutex is not fair, and a thread
//! that takes it again at once keeps out those who have to be woken first. So who finds the lock taken
//! says so in `waiting`, and the timer thread gives way: an insert waits for one batch, not for many.
//!
//! Three holds are longer: the start of the thread, which an insert asks for; and [`close`](Timer::close)
//! and [`refuse`](Timer::refuse), which take everything off the wheel, in time that grows with it, and
//! wait for the thread to hand over its batch.
#![forbid(unsafe_code)]

mod item;
#[cfg(all(test, loom))]
mod loom_tests;
mod shared;
mod sink;
#[cfg(test)]
mod test_item;
#[cfg(all(test, not(loom)))]
mod tests;
mod thread;
mod wall;

pub use self::item::Item;
pub use self::sink::Sink;

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use self::shared::{AT_WORK, Life, Shared, State};
use crate::clock::{Clock, Moment, Nanos};
use crate::error::Error;
use crate::pool::Refused;
use crate::sync::{
    AtomicU64, Condvar, Mutex, MutexGuard, Parker, Wake, lock, thread as threads, wait,
};
use crate::wheel::{Tiers, Wheel};

/// The timer; usable from every thread.
pub struct Timer<T> {
    shared: Arc<Shared<T>>,
}

impl<T: Item> Timer<T> {
    /// A timer without a thread; it comes with the first item, and leaves when the wheel has been
    /// empty for `idle_timeout`.
    ///
    /// # Panics
    /// If `thread_name` contains NUL, which no thread's name may.
    pub fn new(
        tiers: &Tiers,
        clock: Arc<dyn Clock>,
        sink: Box<dyn Sink<T>>,
        idle_timeout: Duration,
        thread_name: String,
    ) -> Self {
        assert!(
            !thread_name.contains('\0'),
            "thread_name must not contain NUL: {thread_name:?}"
        );
        let parker = Arc::new(Parker::new());
        let sleeper: Weak<Parker> = Arc::downgrade(&parker);
        clock.subscribe(sleeper as Weak<dyn Wake>);
        let state = State {
            wheel: Wheel::new(tiers, clock.now()),
            armed: AT_WORK,
            has_thread: false,
            in_flight: false,
            moves: 0,
            life: Life::Open,
        };
        let shared = Shared {
            state: Mutex::new(state),
            waiting: AtomicU64::new(0),
            handed_over: Condvar::new(),
            parker,
            clock,
            sink,
            idle_timeout,
            thread_name,
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Puts `item` on the wheel, unless the item itself is against it when it is asked for its
    /// [deadline](Item::deadline) or to be [admitted](Item::admit): then it comes back as
    /// `Ok(Some(item))`.
    ///
    /// # Errors
    /// The item comes back with [`Error::Shutdown`] or [`Error::NoThread`].
    pub fn insert(&self, item: T, arrival: T::Arrival) -> Result<Option<T>, Refused<T>> {
        let mut state = self.shared.lock();
        if state.life != Life::Open {
            return Err(Refused {
                job: item,
                error: Error::Shutdown,
            });
        }
        if !state.has_thread {
            state = match self.start(state) {
                Ok(state) => state,
                Err(reason) => {
                    return Err(Refused {
                        job: item,
                        error: Error::NoThread { reason },
                    });
                }
            };
        }
        let Some(deadline) = item.deadline(arrival) else {
            return Ok(Some(item));
        };
        state.moves += 1;
        let key = state.wheel.insert(deadline, item);
        let is_admitted = state.wheel.get(key).is_some_and(|item| {
            item.set_key(key);
            item.admit(arrival)
        });
        if !is_admitted {
            return Ok(state.wheel.remove(key));
        }
        let wake = state.arm(deadline);
        drop(state);
        if wake {
            self.shared.parker.unpark();
        }
        Ok(None)
    }

    /// Takes an item off the wheel. `None`: it is not there.
    pub fn remove(&self, item: &T) -> Option<T> {
        let mut state = self.shared.lock();
        state.moves += 1;
        let removed = item.key().and_then(|key| state.wheel.remove(key));
        if state.life == Life::Draining && state.wheel.is_empty() {
            drop(state);
            self.shared.parker.unpark();
        }
        removed
    }

    /// Moves an item to another deadline, if it [may be moved](Item::may_move); whether it was on the
    /// wheel or not, the item [decides](Item::moved) whether the new deadline holds.
    pub fn reschedule(&self, item: &T, deadline: Nanos, now: Moment) -> bool {
        let mut state = self.shared.lock();
        state.moves += 1;
        let key = item.key().filter(|_| item.may_move(deadline, now));
        let is_moved = key.is_some_and(|key| state.wheel.reschedule(key, deadline));
        let holds = item.moved(deadline, is_moved, now);
        let wake = is_moved && state.arm(deadline);
        drop(state);
        if wake {
            self.shared.parker.unpark();
        }
        holds
    }

    /// Whether an item is on the wheel.
    pub fn holds(&self, item: &T) -> bool {
        self.deadline(item).is_some()
    }

    /// The deadline of an item, if it is on the wheel.
    pub fn deadline(&self, item: &T) -> Option<Nanos> {
        let state = self.shared.lock();
        item.key().and_then(|key| state.wheel.deadline(key))
    }

    /// The number of items on the wheel.
    pub fn len(&self) -> usize {
        self.shared.lock().wheel.len()
    }

    /// Has the thread look whether it is still needed, when the sink [expects](Sink::expects) less than
    /// before or [is finished](Sink::is_finished), and whether items
    /// [follow](Sink::follows_wall) the wall clock.
    pub fn recheck(&self) {
        self.shared.parker.unpark();
    }

    /// Whoever is woken by this does so to have the thread, if there is one, ask the sink what it wants
    /// to [do over again](Sink::retry).
    pub fn waker(&self) -> Weak<dyn Wake> {
        let sleeper: Weak<Parker> = Arc::downgrade(&self.shared.parker);
        sleeper
    }

    /// Whether the wheel is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// When nothing is due and nothing is on its way to the sink: how many times items have come or
    /// gone, and the earliest deadline. Used with a clock that is moved by hand.
    pub(crate) fn quiescent(&self, now: Nanos) -> Result<(u64, Option<Nanos>), ()> {
        let state = self.shared.lock();
        let next = state.wheel.next_expiry();
        if state.in_flight || next.is_some_and(|next| next <= now) {
            Err(())
        } else {
            Ok((state.moves, next))
        }
    }

    /// Refuses further items, and hands back those on the wheel that do not
    /// [outlast](Item::outlasts_refusal) that. `at_once`: those that do are due at that instant, in the
    /// order of their deadlines. The sink is told when the last has left.
    ///
    /// `true`: nothing has stayed, and the sink will not be told.
    pub fn refuse(&self, at_once: Option<Nanos>) -> (Vec<T>, bool) {
        let mut state = self.shared.lock();
        if state.life == Life::Open {
            state.life = Life::Draining;
        }
        // As in `close`: what is in flight may come back.
        while state.in_flight {
            state = wait(&self.shared.handed_over, state);
        }
        state.moves += 1;
        let mut dated = state.wheel.drain_dated();
        if at_once.is_some() {
            dated.sort_by_key(|&(deadline, _)| deadline);
        }
        let mut left = Vec::new();
        for (deadline, item) in dated {
            if state.life == Life::Closed || !item.outlasts_refusal() {
                left.push(item);
                continue;
            }
            let deadline = at_once.map_or(deadline, |now| deadline.min(now));
            let key = state.wheel.insert(deadline, item);
            if !state.readmit(key) {
                left.extend(state.wheel.remove(key));
            }
        }
        let is_empty = state.wheel.is_empty();
        if is_empty {
            state.life = Life::Closed;
        }
        let wake = is_empty || at_once.is_some_and(|now| state.arm(now));
        drop(state);
        if wake {
            self.shared.parker.unpark();
        }
        (left, is_empty)
    }

    /// Refuses further items, waits until those in flight are with the sink, and hands back what is
    /// on the wheel.
    ///
    /// The wait is short, for the timer thread needs nobody's leave to finish a batch.
    pub fn close(&self) -> Vec<T> {
        let mut state = self.shared.lock();
        state.life = Life::Closed;
        let items = state.wheel.drain();
        while state.in_flight {
            state = wait(&self.shared.handed_over, state);
        }
        drop(state);
        self.shared.parker.unpark();
        items
    }

    fn start<'a>(
        &self,
        mut state: MutexGuard<'a, State<T>>,
    ) -> Result<MutexGuard<'a, State<T>>, String> {
        let shared = Arc::clone(&self.shared);
        // Under the lock, though a start is long, for two threads for one wheel must not be. It comes
        // once for each time that the timer was idle for so long that its thread left.
        threads::Builder::new()
            .name(self.shared.thread_name.clone())
            .spawn(move || shared.run())
            .map_err(|error| error.to_string())?;
        state.has_thread = true;
        state.armed = AT_WORK;
        Ok(state)
    }
}

impl<T> Clone for Timer<T> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<T> fmt::Debug for Timer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = lock(&self.shared.state);
        f.debug_struct("Timer")
            .field("len", &state.wheel.len())
            .field("armed", &state.armed)
            .field("has_thread", &state.has_thread)
            .field("open", &(state.life != Life::Closed))
            .finish_non_exhaustive()
    }
}
