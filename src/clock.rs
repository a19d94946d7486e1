//! Where time comes from: [`Monotonic`] for services, [`Manual`] for tests.
//!
//! Owned by an engine, shared with its timer thread. It is the only module that reads the
//! system's clocks for a deadline; everything else takes `now` as an argument.
//!
//! # Two times
//!
//! Delays and intervals are on the monotonic time, [`Clock::now`]; so is the wheel. What people agree
//! upon, eight in the morning, is on the wall clock, [`Clock::wall`], which may be set at any time, to
//! an earlier time too. A deadline on it becomes one on the wheel by the two times of one [`Moment`];
//! that holds until somebody sets the wall clock. So it is compared anew whenever a run is due, and
//! a timer that has such deadlines has itself told of steps, by [`Clock::watch_wall`].
#![forbid(unsafe_code)]

mod watch;

pub use self::watch::WallWatch;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Weak;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::error::Error;
pub use crate::sync::Wake;
use crate::sync::{AtomicU64, Mutex, Ordering, Parked, Parker, lock};

/// Nanoseconds since a clock's origin. Zero is the clock's creation; `u64` lasts 584 years.
pub type Nanos = u64;

/// One reading of a clock's two times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// By [`Clock::now`].
    pub now: Nanos,
    /// By [`Clock::wall`]; zero where nobody asks for it.
    pub wall: Nanos,
}

impl Moment {
    /// A reading of the monotonic time alone.
    pub const fn at(now: Nanos) -> Self {
        Self { now, wall: 0 }
    }
}

/// A clock that never goes back.
pub trait Clock: Send + Sync + fmt::Debug {
    /// The present, in nanoseconds since the clock's origin.
    fn now(&self) -> Nanos;

    /// The instant at which a sleeping thread must get up to be there at `deadline`; `None` when
    /// sleeping does not get there, because only a call moves this clock.
    fn instant_of(&self, deadline: Nanos) -> Option<Instant>;

    /// Asks for a wake-up whenever the clock is moved by hand, for as long as `sleeper` lives. A clock
    /// that moves by itself ignores it.
    fn subscribe(&self, _sleeper: Weak<dyn Wake>) {}

    /// The time of day, in nanoseconds since 1970 in UTC; it may be set, forward and back.
    fn wall(&self) -> Nanos {
        wall_nanos(SystemTime::now())
    }

    /// Wakes `sleeper` when the wall clock is set, for as long as the answer is kept. `None`: that
    /// cannot be had, so the sleeper must look by itself now and then.
    fn watch_wall(&self, _sleeper: Weak<dyn Wake>) -> Option<WallWatch> {
        None
    }

    /// Makes [`Manual::run_for`] wait for `engine` at each step. A clock that moves by itself
    /// ignores it.
    fn register(&self, _engine: Weak<dyn Quiesce>) {}
}

/// Something that has work to do when a clock moves: an engine.
pub trait Quiesce: Send + Sync {
    /// The next deadline, if any.
    ///
    /// # Errors
    /// While there is still something to do at `now`.
    #[expect(
        clippy::result_unit_err,
        reason = "there is nothing to say but: not yet"
    )]
    fn quiescent(&self, now: Nanos) -> Result<Option<Nanos>, ()>;
}

/// What `ask` reads from a clock; `None` if it panicked.
///
/// A clock is a user's code. Where a task would be left without its end, or the wheel without its
/// thread, its panic, which the panic hook has reported, must not get through.
pub(crate) fn guarded<R>(ask: impl FnOnce() -> R) -> Option<R> {
    match catch_unwind(AssertUnwindSafe(ask)) {
        Ok(answer) => Some(answer),
        Err(payload) => {
            std::mem::forget(payload); // to drop it may panic too
            None
        }
    }
}

/// The system's monotonic clock: it stands still in a suspend and ignores changes of the date.
#[derive(Debug)]
pub struct Monotonic {
    origin: Instant,
}

impl Monotonic {
    /// A clock whose origin is now.
    pub fn new() -> Self {
        Self {
            origin: Instant::now(),
        }
    }
}

impl Default for Monotonic {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for Monotonic {
    fn now(&self) -> Nanos {
        nanos(self.origin.elapsed())
    }

    fn instant_of(&self, deadline: Nanos) -> Option<Instant> {
        // Past the range of `Instant` there is nobody left to be late for.
        self.origin.checked_add(Duration::from_nanos(deadline))
    }

    fn watch_wall(&self, sleeper: Weak<dyn Wake>) -> Option<WallWatch> {
        watch::watch(sleeper)
    }
}

/// A clock that stands still until it is told otherwise.
///
/// Its wall clock starts at the system's, goes on with it, and can be set.
///
/// ```
/// use std::time::Duration;
/// use asynctask::clock::{Clock, Manual};
///
/// let clock = Manual::new();
/// clock.advance(Duration::from_millis(5));
/// assert_eq!(clock.now(), 5_000_000);
/// ```
pub struct Manual {
    now: AtomicU64,
    /// The wall clock at the origin.
    wall_origin: AtomicU64,
    sleepers: Mutex<Vec<Weak<dyn Wake>>>,
    registered: Mutex<Vec<Weak<dyn Quiesce>>>,
}

impl Manual {
    /// A clock at its origin.
    pub fn new() -> Self {
        Self {
            now: AtomicU64::new(0),
            wall_origin: AtomicU64::new(wall_nanos(SystemTime::now())),
            sleepers: Mutex::new(Vec::new()),
            registered: Mutex::new(Vec::new()),
        }
    }

    /// Moves the clock on by `by` and wakes who sleeps on it.
    pub fn advance(&self, by: Duration) {
        self.advance_to(self.now().saturating_add(nanos(by)));
    }

    /// Sets the wall clock, forward or back, and wakes who sleeps on it. The monotonic time stays.
    pub fn set_wall(&self, wall: SystemTime) {
        // Wraps below zero where the origin is before 1970, and back again in `wall`.
        let origin = wall_nanos(wall).wrapping_sub(self.now());
        self.wall_origin.store(origin, Ordering::Release);
        self.wake_all();
    }

    /// Moves the clock on to `instant`; an instant in the past moves nothing.
    pub fn advance_to(&self, instant: Nanos) {
        // Release and Acquire: who sees the new time sees what was done before it was set.
        self.now.fetch_max(instant, Ordering::Release);
        self.wake_all();
    }

    fn wake_all(&self) {
        let sleepers: Vec<_> = {
            let sleepers = lock(&self.sleepers);
            sleepers.iter().filter_map(Weak::upgrade).collect()
        };
        for sleeper in sleepers {
            sleeper.wake();
        }
    }

    /// Moves the clock on by `by`, stopping at every deadline on the way until all that was due has
    /// been run: exactly what would have happened, had every run taken no time.
    ///
    /// # Errors
    /// [`Error::TimedOut`] when the runs of one step take longer than `patience`, in real time;
    /// [`Error::Interrupted`] when `interrupted` says so after a signal. The clock then stands at
    /// the step it had reached.
    pub fn run_for(
        &self,
        by: Duration,
        patience: Duration,
        interrupted: &mut dyn FnMut() -> bool,
    ) -> Result<(), Error> {
        let end = self.now().saturating_add(nanos(by));
        loop {
            match self.wait_until_quiescent(patience, interrupted)? {
                Some(next) if next <= end => self.advance_to(next),
                _ => break,
            }
        }
        self.advance_to(end);
        self.wait_until_quiescent(patience, interrupted).map(drop)
    }

    /// Waits until nobody has anything to do at the present; gives the next deadline.
    fn wait_until_quiescent(
        &self,
        patience: Duration,
        interrupted: &mut dyn FnMut() -> bool,
    ) -> Result<Option<Nanos>, Error> {
        /// Asking is cheap, and a test that moves a clock by hand is in no hurry.
        const PAUSE: Duration = Duration::from_micros(50);
        /// A signal that comes between two pauses cuts neither of them short.
        const LOOK: Duration = Duration::from_millis(10);

        let give_up = Instant::now().checked_add(patience);
        let pause = Parker::new();
        let mut looked = Instant::now();
        loop {
            let registered: Vec<_> = {
                let registered = lock(&self.registered);
                registered.iter().filter_map(Weak::upgrade).collect()
            };
            let now = self.now();
            let look = || {
                let each = registered.iter().map(|engine| engine.quiescent(now));
                each.collect::<Result<Vec<_>, ()>>()
            };
            // Twice: one that has been looked at may have been given something to do by the next.
            let quiescent = look().and_then(|first| {
                (registered.len() < 2 || look()? == first)
                    .then_some(first)
                    .ok_or(())
            });
            if let Ok(each) = quiescent {
                return Ok(each.into_iter().flatten().min());
            }
            if give_up.is_some_and(|give_up| Instant::now() >= give_up) {
                return Err(Error::TimedOut);
            }
            let parked = pause.park(Instant::now().checked_add(PAUSE));
            if parked == Parked::Interrupted || looked.elapsed() >= LOOK {
                if interrupted() {
                    return Err(Error::Interrupted);
                }
                looked = Instant::now();
            }
        }
    }
}

impl Default for Manual {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Manual {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Manual")
            .field("now", &self.now())
            .finish_non_exhaustive()
    }
}

impl Clock for Manual {
    fn now(&self) -> Nanos {
        self.now.load(Ordering::Acquire)
    }

    fn instant_of(&self, _deadline: Nanos) -> Option<Instant> {
        None
    }

    fn wall(&self) -> Nanos {
        self.wall_origin
            .load(Ordering::Acquire)
            .wrapping_add(self.now())
    }

    fn watch_wall(&self, _sleeper: Weak<dyn Wake>) -> Option<WallWatch> {
        Some(Box::new(())) // who subscribes is woken by every call
    }

    fn subscribe(&self, sleeper: Weak<dyn Wake>) {
        push_live(&mut lock(&self.sleepers), sleeper);
    }

    fn register(&self, engine: Weak<dyn Quiesce>) {
        push_live(&mut lock(&self.registered), engine);
    }
}

/// Adds to a list, and takes those off it that are gone: a clock may outlive any number of engines.
fn push_live<T: ?Sized>(list: &mut Vec<Weak<T>>, one: Weak<T>) {
    list.retain(|other| other.strong_count() > 0);
    list.push(one);
}

/// Nanoseconds from 1970 to `wall`; nothing before 1970, and never what is past 2554.
pub fn wall_nanos(wall: SystemTime) -> Nanos {
    wall.duration_since(UNIX_EPOCH).map_or(0, nanos)
}

/// A duration in nanoseconds; what does not fit is 584 years and treated as never.
pub fn nanos(duration: Duration) -> Nanos {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_manual_clock_never_goes_back() {
        let clock = Manual::new();
        clock.advance_to(7);
        clock.advance_to(3);
        assert_eq!(clock.now(), 7);
    }

    #[test]
    fn a_manual_clock_has_a_wall_clock_of_its_own() {
        let clock = Manual::new();
        let start = clock.wall();
        assert!(wall_nanos(SystemTime::now()) - start < nanos(Duration::from_secs(3600)));
        clock.advance_to(7);
        assert_eq!(clock.wall(), start + 7);
        clock.set_wall(UNIX_EPOCH + Duration::from_nanos(3));
        assert_eq!((clock.now(), clock.wall()), (7, 3));
        clock.advance_to(9);
        assert_eq!((clock.now(), clock.wall()), (9, 5));
    }

    #[test]
    fn a_manual_clock_forgets_who_is_gone() {
        struct Idle;

        impl Quiesce for Idle {
            fn quiescent(&self, _now: Nanos) -> Result<Option<Nanos>, ()> {
                Ok(None)
            }
        }

        let clock = Manual::new();
        let (sleeper, idle) = (Arc::new(Parker::new()), Arc::new(Idle));
        let both = || {
            let (sleeper, idle) = (Arc::downgrade(&sleeper), Arc::downgrade(&idle));
            (sleeper as Weak<dyn Wake>, idle as Weak<dyn Quiesce>)
        };
        let (kept_sleeper, kept_idle) = both();
        clock.subscribe(kept_sleeper);
        clock.register(kept_idle);
        for _ in 0..100 {
            let sleeper: Weak<Parker> = Arc::downgrade(&Arc::new(Parker::new()));
            let idle: Weak<Idle> = Arc::downgrade(&Arc::new(Idle));
            clock.subscribe(sleeper);
            clock.register(idle);
        }
        // The last one of each is found out at the next call.
        assert_eq!(lock(&clock.sleepers).len(), 2);
        assert_eq!(lock(&clock.registered).len(), 2);
        clock.advance_to(1);
        assert_eq!(sleeper.park(None), Parked::Notified);
    }

    #[test]
    fn a_manual_clock_sees_what_one_engine_gives_another_to_do() {
        /// Gives the other a deadline when it is looked at first, as a run would that ends then.
        struct Giver(Arc<Taker>);

        #[derive(Default)]
        struct Taker {
            next: AtomicU64,
            seen: Mutex<Vec<Nanos>>,
        }

        impl Quiesce for Giver {
            fn quiescent(&self, now: Nanos) -> Result<Option<Nanos>, ()> {
                if now == 0 {
                    self.0.next.store(5, Ordering::SeqCst);
                }
                Ok(None)
            }
        }

        impl Quiesce for Taker {
            fn quiescent(&self, now: Nanos) -> Result<Option<Nanos>, ()> {
                lock(&self.seen).push(now);
                let next = self.next.load(Ordering::SeqCst);
                Ok(Some(next).filter(|&next| next > now))
            }
        }

        let (clock, taker) = (Manual::new(), Arc::new(Taker::default()));
        let giver = Arc::new(Giver(Arc::clone(&taker)));
        let taker_to: Weak<Taker> = Arc::downgrade(&taker);
        let giver_to: Weak<Giver> = Arc::downgrade(&giver);
        clock.register(taker_to);
        clock.register(giver_to);
        let by = Duration::from_nanos(10);
        clock
            .run_for(by, Duration::from_secs(20), &mut || false)
            .unwrap();
        let seen = lock(&taker.seen).clone();
        assert!(seen.contains(&5), "it jumped over the deadline: {seen:?}");
    }

    #[test]
    fn a_monotonic_clock_and_its_instants_agree() {
        let clock = Monotonic::new();
        let before = Instant::now();
        let mapped = clock.instant_of(clock.now()).unwrap();
        assert!(mapped >= before && mapped <= Instant::now());
    }
}
