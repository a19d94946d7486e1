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
//! [`look`](Timer::look) makes a thread that stayed for it look again.
//!
//! # The wall clock
//!
//! While there are items that [follow](Sink::follows_wall) it, the thread has itself woken when the
//! wall clock is set, or looks every [`LOOK`] where that cannot be had. Whenever it is up, it compares
//! the distance of the two clocks with what it was, and if that has changed, makes those items due
//! that the sink [names](Sink::wall_was_set).
//!
//! # Bounded steps
//!
//! A lock hold touches at most [`BATCH`] entries, however many are due at once, and the sink is
//! called between two holds. That alone would not do: a mutex is not fair, and a thread that takes
//! it again at once keeps out those who have to be woken first. So who finds the lock taken says so
//! in `waiting`, and the timer thread gives way: an insert waits for one batch, not for many.
#![forbid(unsafe_code)]

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crate::clock::{Clock, Moment, Nanos, WallWatch, asked};
use crate::error::Error;
use crate::pool::Refused;
use crate::sync::{
    AtomicU64, Condvar, Mutex, MutexGuard, Ordering, Parked, Parker, Wake, lock, thread, try_lock,
    wait,
};
use crate::wheel::{Due, Key, Tiers, Wheel};

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

/// How often a thread that nobody wakes looks whether the wall clock was set.
const LOOK: Duration = Duration::from_secs(30);

/// By how much the distance of the two clocks may change unnoticed: more than reading one after the
/// other takes, but for a thread that is held up in between, which makes it look for nothing.
const DRIFT: Nanos = 5_000_000;

/// A clock that panicked is asked again after this.
const ASK_AGAIN: Duration = Duration::from_millis(10);

/// The `armed` of a thread that is at work, and needs no wake-up.
const AT_WORK: Nanos = 0;
/// The `armed` of a thread that sleeps without a deadline.
const ASLEEP: Nanos = Nanos::MAX;

/// Where due items go.
pub trait Sink<T>: Send + Sync + 'static {
    /// Takes every item out of `due`; `now` is not before any of their deadlines. Items put into
    /// `again` go back on the wheel, if the timer is still open and [`readmit`](Sink::readmit)
    /// agrees. Called on the timer thread with no lock held.
    fn due(&self, now: Nanos, due: &mut Vec<Due<T>>, again: &mut Vec<(Nanos, T)>);

    /// Called under the timer's lock for an item that goes back on the wheel under `key`. `false`
    /// keeps it off.
    fn readmit(&self, item: &T, key: Key) -> bool;

    /// Takes items that could not go back on the wheel. Called with no lock held.
    fn refused(&self, items: Vec<T>);

    /// Whether items will come back that are not on the wheel; see
    /// [When it leaves](self#when-it-leaves). Called under the timer's lock.
    fn expects(&self) -> bool {
        false
    }

    /// Does over again what had to be put off, and says when it wants to be asked next, if at all. Called
    /// on the timer thread before it sleeps, with no lock held.
    fn retry(&self) -> Option<Duration> {
        None
    }

    /// Whether any item follows the wall clock. Called with no lock held.
    fn follows_wall(&self) -> bool {
        false
    }

    /// The wall clock was set: which items are to be due at once. A key may be stale. Called with no
    /// lock held.
    fn wall_was_set(&self, _now: Moment) -> Vec<Key> {
        Vec::new()
    }

    /// Whether no item will come any more, so that the thread need not stay for one. The answer never
    /// changes from yes to no.
    fn is_finished(&self) -> bool {
        false
    }

    /// The last item has left a wheel that [`refuse`](Timer::refuse) had left some on. Called once
    /// for each such call, on the timer thread, with no lock held.
    fn emptied(&self) {}
}

/// The timer; usable from every thread.
pub struct Timer<T> {
    shared: Arc<Shared<T>>,
}

struct Shared<T> {
    state: Mutex<State<T>>,
    /// Threads that found the lock taken and wait for it.
    waiting: AtomicU64,
    /// The thread has handed over what it had taken off the wheel.
    rested: Condvar,
    parker: Arc<Parker>,
    clock: Arc<dyn Clock>,
    sink: Box<dyn Sink<T>>,
    idle_timeout: Duration,
    thread_name: String,
}

/// Whether items come and go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    /// Both.
    Open,
    /// None is inserted any more; when the wheel is empty, the sink is told.
    Emptying,
    /// Neither; the thread leaves.
    Closed,
}

struct State<T> {
    wheel: Wheel<T>,
    /// The instant the thread will look at the wheel without being told.
    armed: Nanos,
    has_thread: bool,
    /// Items are on their way from the wheel to the sink.
    in_flight: bool,
    /// How many times items have come or gone.
    moves: u64,
    life: Life,
}

impl<T: Send + 'static> Timer<T> {
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
            rested: Condvar::new(),
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

    /// Puts `item` on the wheel. Two questions are asked under the lock: what its deadline is, and,
    /// when the item has a key, whether it may stay. A no comes back as `Ok(Some(item))`.
    ///
    /// # Errors
    /// The item comes back with [`Error::Shutdown`] or [`Error::NoThread`].
    pub fn insert(
        &self,
        item: T,
        deadline: impl FnOnce(&T) -> Option<Nanos>,
        admit: impl FnOnce(&T, Key) -> bool,
    ) -> Result<Option<T>, Refused<T>> {
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
        let Some(deadline) = deadline(&item) else {
            return Ok(Some(item));
        };
        state.moves += 1;
        let key = state.wheel.insert(deadline, item);
        if !state.wheel.get(key).is_some_and(|item| admit(item, key)) {
            return Ok(state.wheel.remove(key));
        }
        let wake = state.arm(deadline);
        drop(state);
        if wake {
            self.shared.parker.unpark();
        }
        Ok(None)
    }

    /// Takes an item off the wheel; `key` is called under the lock. `None`: it is not there.
    pub fn remove(&self, key: impl FnOnce() -> Option<Key>) -> Option<T> {
        let mut state = self.shared.lock();
        state.moves += 1;
        let item = key().and_then(|key| state.wheel.remove(key));
        if state.life == Life::Emptying && state.wheel.is_empty() {
            drop(state);
            self.shared.parker.unpark();
        }
        item
    }

    /// Moves an item to another deadline; `key` is called under the lock, and so is `then`, with
    /// whether the item was there and has been moved. Its answer is the answer.
    pub fn reschedule(
        &self,
        deadline: Nanos,
        key: impl FnOnce() -> Option<Key>,
        then: impl FnOnce(bool) -> bool,
    ) -> bool {
        let mut state = self.shared.lock();
        state.moves += 1;
        let moved = key().is_some_and(|key| state.wheel.reschedule(key, deadline));
        let answer = then(moved);
        let wake = moved && state.arm(deadline);
        drop(state);
        if wake {
            self.shared.parker.unpark();
        }
        answer
    }

    /// Whether an item is on the wheel; `key` is called under the lock.
    pub fn holds(&self, key: impl FnOnce() -> Option<Key>) -> bool {
        let state = self.shared.lock();
        key().is_some_and(|key| state.wheel.get(key).is_some())
    }

    /// The deadline of an item, if it is on the wheel; `key` is called under the lock.
    pub fn deadline(&self, key: impl FnOnce() -> Option<Key>) -> Option<Nanos> {
        let state = self.shared.lock();
        key().and_then(|key| state.wheel.deadline(key))
    }

    /// The number of items on the wheel.
    pub fn len(&self) -> usize {
        self.shared.lock().wheel.len()
    }

    /// Has the thread look whether it is still needed, when the sink [expects](Sink::expects) less than
    /// before or [is finished](Sink::is_finished), and whether items
    /// [follow](Sink::follows_wall) the wall clock.
    pub fn look(&self) {
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
    pub(crate) fn settled(&self, now: Nanos) -> Result<(u64, Option<Nanos>), ()> {
        let state = self.shared.lock();
        let next = state.wheel.next_expiry();
        if state.in_flight || next.is_some_and(|next| next <= now) {
            Err(())
        } else {
            Ok((state.moves, next))
        }
    }

    /// Refuses further items, and hands back those on the wheel that do not stay. `at_once`: those
    /// that do are due at that instant, in the order of their deadlines. The sink is asked whether
    /// they may stay, as for items that go back on the wheel, and is told when the last has left.
    ///
    /// `true`: nothing has stayed, and the sink will not be told.
    pub fn refuse(&self, stays: impl Fn(&T) -> bool, at_once: Option<Nanos>) -> (Vec<T>, bool) {
        let mut state = self.shared.lock();
        if state.life == Life::Open {
            state.life = Life::Emptying;
        }
        // As in `close`: what is in flight may come back.
        while state.in_flight {
            state = wait(&self.shared.rested, state);
        }
        state.moves += 1;
        let mut dated = state.wheel.drain_dated();
        if at_once.is_some() {
            dated.sort_by_key(|&(deadline, _)| deadline);
        }
        let mut left = Vec::new();
        for (deadline, item) in dated {
            if state.life == Life::Closed || !stays(&item) {
                left.push(item);
                continue;
            }
            let deadline = at_once.map_or(deadline, |now| deadline.min(now));
            let key = state.wheel.insert(deadline, item);
            let item = state.wheel.get(key);
            if !item.is_some_and(|item| self.shared.sink.readmit(item, key)) {
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
            state = wait(&self.shared.rested, state);
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
        // Under the lock: a start takes about 10 µs, once in a timer's life, and two threads for
        // one wheel must not be.
        thread::Builder::new()
            .name(self.shared.thread_name.clone())
            .spawn(move || shared.run())
            .map_err(|error| error.to_string())?;
        state.has_thread = true;
        state.armed = AT_WORK;
        Ok(state)
    }
}

impl<T> State<T> {
    /// Step 5 of "How it sleeps"; `true`: the thread must be told.
    fn arm(&mut self, deadline: Nanos) -> bool {
        let earlier = deadline < self.armed;
        if earlier {
            self.armed = deadline;
        }
        earlier
    }
}

impl<T: Send + 'static> Shared<T> {
    /// The lock, for everyone but the timer thread.
    #[inline]
    fn lock(&self) -> MutexGuard<'_, State<T>> {
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

    /// The life of the timer thread.
    fn run(&self) {
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
            let admit = state.life != Life::Closed
                && state
                    .wheel
                    .get(key)
                    .is_some_and(|item| self.sink.readmit(item, key));
            if !admit {
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

/// What the thread knows of the wall clock while items follow it.
#[derive(Default)]
struct Wall {
    /// The wall clock at the origin of the other; it wraps.
    origin: Option<Nanos>,
    watch: Option<WallWatch>,
    /// A watch was asked for.
    asked: bool,
}

impl Wall {
    /// The present, if the wall clock was set since the last call, or this is the first.
    fn was_set(&mut self, now: Nanos, clock: &dyn Clock) -> Option<Moment> {
        let wall = asked(|| clock.wall())?;
        let origin = wall.wrapping_sub(now);
        let drift = |before: Nanos| {
            let drift = origin.wrapping_sub(before);
            drift.min(drift.wrapping_neg())
        };
        if self.origin.is_some_and(|before| drift(before) <= DRIFT) {
            return None;
        }
        self.origin = Some(origin);
        Some(Moment { now, wall })
    }

    /// Whether the thread is woken when the wall clock is set.
    fn is_watched(&mut self, clock: &dyn Clock, parker: &Arc<Parker>) -> bool {
        if !std::mem::replace(&mut self.asked, true) {
            let sleeper: Weak<Parker> = Arc::downgrade(parker);
            self.watch = asked(|| clock.watch_wall(sleeper)).flatten();
            // What was set before the watch is found out now.
            parker.unpark();
        }
        self.watch.is_some()
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

/// Linux may defer a thread's wake-ups by 50 µs to save power; this one is here to be on time.
#[cfg(target_os = "linux")]
fn ask_for_exact_wake_ups() {
    // A refusal, in a sandbox say, costs 50 µs of lateness and nothing else.
    let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
}

#[cfg(not(target_os = "linux"))]
fn ask_for_exact_wake_ups() {}

#[cfg(all(test, not(loom)))]
mod tests {
    use crossbeam_channel::{Receiver, Sender, unbounded};

    use super::*;
    use crate::clock::{Manual, Monotonic};

    const MS: Nanos = 1_000_000;
    const PATIENCE: Duration = Duration::from_secs(20);

    struct Collect(Sender<(Nanos, u32)>);

    impl Sink<u32> for Collect {
        fn due(&self, now: Nanos, due: &mut Vec<Due<u32>>, _again: &mut Vec<(Nanos, u32)>) {
            for item in due.drain(..) {
                assert!(
                    now >= item.deadline,
                    "early: {now} before {}",
                    item.deadline
                );
                self.0
                    .send((item.deadline, item.item))
                    .expect("the test listens");
            }
        }

        fn readmit(&self, _item: &u32, _key: Key) -> bool {
            true
        }

        fn refused(&self, _items: Vec<u32>) {}
    }

    fn timer(clock: Arc<dyn Clock>) -> (Timer<u32>, Receiver<(Nanos, u32)>) {
        let (sender, receiver) = unbounded();
        let sink = Box::new(Collect(sender));
        let idle = Duration::from_secs(3600);
        (
            Timer::new(&Tiers::default(), clock, sink, idle, "timer".to_owned()),
            receiver,
        )
    }

    fn insert(timer: &Timer<u32>, deadline: Nanos, item: u32) -> Key {
        let mut got = None;
        let back = timer.insert(
            item,
            |_| Some(deadline),
            |_, key| {
                got = Some(key);
                true
            },
        );
        assert!(back.is_ok_and(|back| back.is_none()));
        got.expect("it was admitted")
    }

    #[test]
    fn nothing_is_due_before_the_manual_clock_says_so() {
        let clock = Arc::new(Manual::new());
        let (timer, due) = timer(Arc::<Manual>::clone(&clock));
        insert(&timer, 5 * MS, 1);
        insert(&timer, 7 * MS, 2);
        clock.advance_to(5 * MS - 1);
        // Something due right now comes through, so the thread has looked by then.
        insert(&timer, 0, 3);
        assert_eq!(due.recv_timeout(PATIENCE), Ok((0, 3)));
        assert_eq!(due.try_recv(), Err(crossbeam_channel::TryRecvError::Empty));
        clock.advance_to(5 * MS);
        assert_eq!(due.recv_timeout(PATIENCE), Ok((5 * MS, 1)));
        clock.advance_to(100 * 86_400 * 1_000 * MS);
        assert_eq!(due.recv_timeout(PATIENCE), Ok((7 * MS, 2)));
        assert!(timer.is_empty());
    }

    #[test]
    fn an_earlier_insert_wakes_the_sleeping_thread() {
        let (timer, due) = timer(Arc::new(Monotonic::new()));
        insert(&timer, 3_600_000 * MS, 1);
        // The thread sleeps for an hour now, or is about to.
        insert(&timer, 1, 2);
        assert_eq!(due.recv_timeout(PATIENCE), Ok((1, 2)));
        assert_eq!(timer.len(), 1);
    }

    #[test]
    fn a_removed_item_comes_back_and_never_fires() {
        let clock = Arc::new(Manual::new());
        let (timer, due) = timer(Arc::<Manual>::clone(&clock));
        let key = insert(&timer, 5 * MS, 1);
        insert(&timer, 6 * MS, 2);
        assert_eq!(timer.remove(|| Some(key)), Some(1));
        assert_eq!(timer.remove(|| Some(key)), None);
        clock.advance_to(10 * MS);
        assert_eq!(due.recv_timeout(PATIENCE), Ok((6 * MS, 2)));
    }

    #[test]
    fn a_rescheduled_item_fires_once_at_its_new_deadline() {
        let clock = Arc::new(Manual::new());
        let (timer, due) = timer(Arc::<Manual>::clone(&clock));
        let key = insert(&timer, 3_600_000 * MS, 1);
        assert!(timer.reschedule(2 * MS, || Some(key), |moved| moved));
        clock.advance_to(2 * MS);
        assert_eq!(due.recv_timeout(PATIENCE), Ok((2 * MS, 1)));
        assert!(
            !timer.reschedule(9 * MS, || Some(key), |moved| moved),
            "it has fired"
        );
    }

    #[test]
    fn an_item_that_is_not_admitted_comes_straight_back() {
        let (timer, _due) = timer(Arc::new(Manual::new()));
        assert_eq!(timer.insert(1, |_| Some(5), |_, _| false).unwrap(), Some(1));
        assert_eq!(timer.insert(2, |_| None, |_, _| true).unwrap(), Some(2));
        assert!(timer.is_empty());
    }

    #[test]
    fn a_poisoned_lock_is_no_reason_to_wait_for_ever() {
        let (timer, due) = timer(Arc::new(Monotonic::new()));
        let poisoned = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            timer.insert(0, |_| panic!("under the lock"), |_, _| true)
        }));
        assert!(poisoned.is_err() && timer.shared.state.is_poisoned());
        insert(&timer, 1, 1);
        assert_eq!(due.recv_timeout(PATIENCE), Ok((1, 1)));
        assert!(timer.close().is_empty());
    }

    #[test]
    #[should_panic(expected = "thread_name must not contain NUL: \"t\\0\"")]
    fn a_name_that_no_thread_can_have_is_refused() {
        let (sender, _due) = unbounded();
        let (clock, sink) = (Arc::new(Manual::new()), Box::new(Collect(sender)));
        let idle = Duration::ZERO;
        let _ = Timer::new(&Tiers::default(), clock, sink, idle, "t\0".to_owned());
    }

    /// A clock that panics while it is told to.
    #[derive(Debug)]
    struct Broken {
        clock: Manual,
        panicking: std::sync::atomic::AtomicBool,
        panics: std::sync::atomic::AtomicUsize,
    }

    impl Broken {
        fn check(&self) {
            use std::sync::atomic::Ordering::SeqCst;
            if self.panicking.load(SeqCst) {
                self.panics.fetch_add(1, SeqCst);
                // Without the panic hook's report.
                std::panic::resume_unwind(Box::new("no time"));
            }
        }
    }

    impl Clock for Broken {
        fn now(&self) -> Nanos {
            self.check();
            self.clock.now()
        }

        fn instant_of(&self, deadline: Nanos) -> Option<Instant> {
            self.check();
            self.clock.instant_of(deadline)
        }

        fn subscribe(&self, sleeper: Weak<dyn Wake>) {
            self.clock.subscribe(sleeper);
        }
    }

    #[test]
    fn the_thread_outlives_a_clock_that_panics() {
        use std::sync::atomic::Ordering::SeqCst;

        let clock = Arc::new(Broken {
            clock: Manual::new(),
            panicking: false.into(),
            panics: 0.into(),
        });
        let (timer, due) = timer(Arc::<Broken>::clone(&clock));
        insert(&timer, 5 * MS, 1);
        clock.panicking.store(true, SeqCst);
        insert(&timer, 4 * MS, 2);
        clock.clock.advance_to(5 * MS);
        let pause = Parker::new();
        while clock.panics.load(SeqCst) < 3 {
            pause.park(Some(Instant::now() + Duration::from_millis(1)));
        }
        assert_eq!(timer.len(), 2);
        clock.panicking.store(false, SeqCst);
        assert_eq!(due.recv_timeout(PATIENCE), Ok((4 * MS, 2)));
        assert_eq!(due.recv_timeout(PATIENCE), Ok((5 * MS, 1)));
    }

    #[test]
    fn a_great_many_due_at_once_all_arrive() {
        let clock = Arc::new(Manual::new());
        let (timer, due) = timer(Arc::<Manual>::clone(&clock));
        for item in 0..10_000 {
            insert(&timer, 5 * MS, item);
        }
        clock.advance_to(5 * MS);
        let mut items: Vec<u32> = (0..10_000)
            .map(|_| due.recv_timeout(PATIENCE).unwrap().1)
            .collect();
        items.sort_unstable();
        assert!(items.into_iter().eq(0..10_000));
    }

    #[test]
    fn close_hands_back_what_is_pending_and_refuses_the_rest() {
        let (timer, _due) = timer(Arc::new(Manual::new()));
        insert(&timer, 5 * MS, 1);
        insert(&timer, 86_400_000 * MS * 7, 2);
        let mut left = timer.close();
        left.sort_unstable();
        assert_eq!(left, [1, 2]);
        let refused = timer.insert(3, |_| Some(5), |_, _| true).unwrap_err();
        assert_eq!((refused.job, refused.error), (3, Error::Shutdown));
    }

    #[test]
    fn the_thread_leaves_an_empty_wheel_and_comes_back() {
        let (sender, due) = unbounded();
        let clock = Arc::new(Monotonic::new());
        let sink = Box::new(Collect(sender));
        let timer = Timer::new(
            &Tiers::default(),
            clock,
            sink,
            Duration::ZERO,
            "t".to_owned(),
        );
        for round in 0..50 {
            insert(&timer, 0, round);
            assert_eq!(due.recv_timeout(PATIENCE), Ok((0, round)));
        }
    }
}

/// Run with `RUSTFLAGS="--cfg loom" cargo test --release --lib loom`.
#[cfg(all(test, loom))]
mod loom_tests {
    use loom::thread;

    use super::*;
    use crate::clock::Manual;

    /// Tells what came, and keeps it from going back when it was called off.
    struct Tell {
        came: Arc<Came>,
    }

    #[derive(Default)]
    struct Came {
        items: Mutex<Vec<(Nanos, u32)>>,
        parker: Parker,
        /// Items that will come back.
        expected: AtomicU64,
    }

    impl Came {
        /// Sleeps until so many have come.
        fn wait_for(&self, count: usize) -> Vec<(Nanos, u32)> {
            loop {
                let items = lock(&self.items);
                if items.len() >= count {
                    return items.clone();
                }
                drop(items);
                self.parker.park(None);
            }
        }
    }

    impl Sink<u32> for Tell {
        fn due(&self, now: Nanos, due: &mut Vec<Due<u32>>, again: &mut Vec<(Nanos, u32)>) {
            for due in due.drain(..) {
                assert!(now >= due.deadline, "early: {now} before {}", due.deadline);
                lock(&self.came.items).push((due.deadline, due.item));
                if due.item == AGAIN {
                    again.push((due.deadline + 1, due.item));
                }
            }
            self.came.parker.unpark();
        }

        fn readmit(&self, _item: &u32, _key: Key) -> bool {
            true
        }

        fn refused(&self, items: Vec<u32>) {
            assert_eq!(items, [AGAIN]);
        }

        fn expects(&self) -> bool {
            self.came.expected.load(Ordering::Relaxed) > 0
        }
    }

    const AGAIN: u32 = 99;

    /// Every interleaving with up to four preemptions; two find what has been seen to go wrong.
    fn model(f: impl Fn() + Sync + Send + 'static) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = builder.preemption_bound.or(Some(4));
        builder.check(f);
    }

    fn timer() -> (Arc<Manual>, Timer<u32>, Arc<Came>) {
        let (clock, came) = (Arc::new(Manual::new()), Arc::new(Came::default()));
        clock.advance_to(10);
        let sink = Box::new(Tell {
            came: Arc::clone(&came),
        });
        let idle = Duration::from_secs(3600);
        let timer = Timer::new(
            &Tiers::default(),
            Arc::<Manual>::clone(&clock),
            sink,
            idle,
            "timer".to_owned(),
        );
        (clock, timer, came)
    }

    fn insert(timer: &Timer<u32>, deadline: Nanos, item: u32) -> Key {
        let mut got = None;
        let admit = |_: &u32, key| {
            got = Some(key);
            true
        };
        let back = timer.insert(item, |_| Some(deadline), admit);
        assert!(back.unwrap().is_none());
        got.unwrap()
    }

    #[test]
    fn loom_an_insert_never_misses_the_thread_that_goes_to_sleep() {
        model(|| {
            let (_clock, timer, came) = timer();
            insert(&timer, 20, 1); // the thread goes to sleep for this one
            insert(&timer, 10, 2); // and must get up for this one
            assert_eq!(came.wait_for(1), [(10, 2)]);
            assert_eq!(timer.close(), [1]);
        });
    }

    #[test]
    fn loom_two_inserts_at_once_never_hide_each_other() {
        model(|| {
            let (_clock, timer, came) = timer();
            insert(&timer, 30, 1);
            let other = {
                let timer = timer.clone();
                thread::spawn(move || _ = insert(&timer, 20, 2))
            };
            insert(&timer, 10, 3);
            assert_eq!(came.wait_for(1), [(10, 3)]);
            other.join().unwrap();
            assert_eq!(timer.close().len(), 2);
        });
    }

    #[test]
    fn loom_a_move_to_an_earlier_deadline_wakes_the_thread() {
        model(|| {
            let (_clock, timer, came) = timer();
            let key = insert(&timer, 20, 1);
            assert!(timer.reschedule(10, || Some(key), |moved| moved));
            assert_eq!(came.wait_for(1), [(10, 1)]);
            assert!(timer.close().is_empty());
        });
    }

    #[test]
    fn loom_the_clock_moves_while_the_thread_goes_to_sleep() {
        model(|| {
            let (clock, timer, came) = timer();
            insert(&timer, 20, 1);
            clock.advance_to(20);
            assert_eq!(came.wait_for(1), [(20, 1)]);
            assert!(timer.close().is_empty());
        });
    }

    #[test]
    fn loom_an_insert_meets_the_thread_whose_time_is_up() {
        model(|| {
            let (_clock, timer, came) = timer();
            insert(&timer, 10, 1);
            came.wait_for(1);
            timer.shared.parker.expire(); // the wheel is empty, or about to be
            insert(&timer, 10, 2);
            assert_eq!(came.wait_for(2), [(10, 1), (10, 2)]);
            assert!(timer.close().is_empty());
        });
    }

    /// The end of a run of a series, for which no thread may have to be started.
    #[test]
    fn loom_what_is_expected_finds_the_thread_when_it_comes_back() {
        model(|| {
            let (_clock, timer, came) = timer();
            came.expected.fetch_add(1, Ordering::Relaxed);
            insert(&timer, 10, 1);
            came.wait_for(1);
            timer.shared.parker.expire(); // the wheel is empty, or about to be
            assert!(lock(&timer.shared.state).has_thread);
            insert(&timer, 10, 2);
            assert_eq!(came.wait_for(2), [(10, 1), (10, 2)]);
            assert!(lock(&timer.shared.state).has_thread);
            assert!(timer.close().is_empty());
        });
    }

    #[test]
    fn loom_the_thread_leaves_by_itself_when_nothing_is_expected_any_more() {
        model(|| {
            let (_clock, timer, came) = timer();
            came.expected.fetch_add(1, Ordering::Relaxed);
            insert(&timer, 10, 1);
            came.wait_for(1);
            came.expected.fetch_sub(1, Ordering::Relaxed);
            timer.look();
            timer.shared.parker.expire(); // the next time that it sleeps for so long
        }); // and a thread that is still there is one too many
    }

    #[test]
    fn loom_the_last_series_ends_while_the_next_one_is_posted() {
        model(|| {
            let (_clock, timer, came) = timer();
            came.expected.fetch_add(1, Ordering::Relaxed);
            insert(&timer, 10, 1);
            came.wait_for(1);
            let ends = {
                let (timer, came) = (timer.clone(), Arc::clone(&came));
                thread::spawn(move || {
                    came.expected.fetch_sub(1, Ordering::Relaxed);
                    timer.look();
                    timer.shared.parker.expire();
                })
            };
            came.expected.fetch_add(1, Ordering::Relaxed);
            insert(&timer, 10, 2);
            assert_eq!(came.wait_for(2), [(10, 1), (10, 2)]);
            assert!(lock(&timer.shared.state).has_thread);
            ends.join().unwrap();
            assert!(timer.close().is_empty());
        });
    }

    #[test]
    fn loom_a_remove_against_the_deadline_has_one_winner() {
        model(|| {
            let (clock, timer, came) = timer();
            let key = insert(&timer, 20, 1);
            clock.advance_to(20);
            let removed = timer.remove(|| Some(key));
            timer.close(); // what was taken off is with the sink now
            assert_eq!(removed.is_some(), lock(&came.items).is_empty());
        });
    }

    #[test]
    fn loom_the_end_waits_for_what_is_in_flight_and_keeps_the_rest_off() {
        model(|| {
            let (_clock, timer, came) = timer();
            insert(&timer, 10, AGAIN);
            let left = timer.close();
            // It had not come, or had come and gone back, or was kept off.
            let came = lock(&came.items).len();
            assert!(left.len() <= 1 && (came > 0 || left == [AGAIN]));
            assert!(timer.is_empty());
        });
    }
}
