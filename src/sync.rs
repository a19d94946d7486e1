//! Primitives: `std`'s, or loom's under `--cfg loom`, and the [`Parker`] every waiting thread uses.
//!
//! Owned by nobody; every other module takes its locks, atomics and parkers from here and from
//! nowhere else, so that loom sees all of them. It never reads a clock of ours, and calls nobody back
//! but the one question of a [`Parker::wait`].
#![forbid(unsafe_code)]

use std::fmt;
use std::sync::{PoisonError, TryLockError};
use std::time::{Duration, Instant};

use crate::error::Error;

#[cfg(loom)]
pub(crate) use loom::sync::{
    Condvar,
    atomic::{AtomicBool, AtomicU64, Ordering},
};
#[cfg(loom)]
pub use loom::sync::{Mutex, MutexGuard};
#[cfg(loom)]
pub(crate) use loom::thread;
#[cfg(not(loom))]
pub(crate) use std::sync::{
    Condvar,
    atomic::{AtomicBool, AtomicU64, Ordering},
};
#[cfg(not(loom))]
pub use std::sync::{Mutex, MutexGuard};
#[cfg(not(loom))]
pub(crate) use std::thread;

/// `thread_local!`, where loom's threads, which all run on one of the system's, are threads too.
#[cfg(not(loom))]
macro_rules! thread_locals {
    ($($all:tt)*) => { std::thread_local! { $($all)* } };
}
#[cfg(loom)]
macro_rules! thread_locals {
    () => {};
    ($(#[$attr:meta])* static $name:ident: $t:ty = const { $init:expr }; $($rest:tt)*) => {
        loom::thread_local! { $(#[$attr])* static $name: $t = $init; }
        $crate::sync::thread_locals! { $($rest)* }
    };
}
pub(crate) use thread_locals;

/// Locks `mutex`, poisoned or not.
///
/// No lock of ours is held while foreign code runs, so a poisoned one means a broken invariant of
/// our own, which has already been reported by its panic; refusing every later call as well would
/// turn one bug into a dead pool.
pub fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Locks `mutex` if nobody holds it, poisoned or not; see [`lock`]. `None` if somebody does.
///
/// The error of a poisoned `try_lock` owns the guard: who takes it for "busy" and locks again waits
/// for itself.
pub fn try_lock<T: ?Sized>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match mutex.try_lock() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

/// Waits on `condvar`, whether its mutex is poisoned or not; see [`lock`].
pub(crate) fn wait<'a, T>(condvar: &Condvar, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
    condvar.wait(guard).unwrap_or_else(PoisonError::into_inner)
}

/// The processor that the calling thread is on at the moment.
#[cfg(target_os = "linux")]
pub(crate) fn processor() -> usize {
    rustix::thread::sched_getcpu()
}

/// Where the system does not say, everybody seems to be on the same one, and nobody spins.
#[cfg(not(target_os = "linux"))]
pub(crate) fn processor() -> usize {
    0
}

/// Something to be told, once, that what it waits for has happened.
pub trait Wake: Send + Sync {
    /// Called with no lock held. It must not block.
    fn wake(&self);
}

/// Why a [`Parker::park`] returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parked {
    /// The token was there, and is taken.
    Notified,
    /// The deadline passed without a token.
    TimedOut,
    /// A signal arrived (Linux), or it is time to ask for signals (elsewhere). The caller decides
    /// whether to go on.
    Interrupted,
}

/// One token, one thread that waits for it.
///
/// - [`unpark`](Parker::unpark) makes the token available; a second one changes nothing.
/// - [`park`](Parker::park) takes the token, sleeping until there is one.
///
/// It exists beside `std::thread::park` because a wait of ours must return on a signal, so that
/// Ctrl-C reaches a Python main thread without polling. On Linux that is the futex's EINTR;
/// elsewhere the wait is cut into slices of 50 ms.
pub struct Parker {
    inner: imp::Parker,
}

impl Parker {
    /// A parker without a token.
    pub fn new() -> Self {
        Self {
            inner: imp::Parker::new(),
        }
    }

    /// Makes the token available and wakes the thread that waits for it. `true`: it was asleep.
    pub fn unpark(&self) -> bool {
        self.inner.unpark()
    }

    /// Stays awake for so long, or until the token is there, which it leaves. `true`: it is.
    pub(crate) fn spin(&self, longest: Duration) -> bool {
        let start = Instant::now();
        while !self.inner.has_token() {
            if start.elapsed() >= longest {
                return false;
            }
            std::hint::spin_loop();
        }
        true
    }

    /// Takes the token, or sleeps until it is there, `deadline` passes or a signal arrives.
    ///
    /// `None` waits without limit. A deadline in the past still takes a token that is there.
    pub fn park(&self, deadline: Option<Instant>) -> Parked {
        self.inner.park(deadline)
    }

    /// Like [`park`](Self::park), for a thread that no signal concerns: it returns with the token or
    /// when `deadline` has passed, and wakes up for nothing else.
    pub fn park_undisturbed(&self, deadline: Option<Instant>) -> Parked {
        self.inner.park_undisturbed(deadline)
    }

    /// Takes the token, or sleeps until it is there, and asks `interrupted` after each signal
    /// whether to give up.
    ///
    /// A signal that arrives after the last question, and before this thread is in the kernel,
    /// interrupts nothing. The moment is short, but a busy machine can make it long; so the question
    /// is asked twice a second in any case.
    ///
    /// # Errors
    /// [`Error::TimedOut`] when `deadline` passes first, [`Error::Interrupted`].
    pub fn wait(
        &self,
        deadline: Option<Instant>,
        interrupted: &mut dyn FnMut() -> bool,
    ) -> Result<(), Error> {
        loop {
            match self.park_listening(deadline) {
                Parked::Notified => return Ok(()),
                Parked::TimedOut => return Err(Error::TimedOut),
                Parked::Interrupted if interrupted() => return Err(Error::Interrupted),
                Parked::Interrupted => {}
            }
        }
    }

    fn park_listening(&self, deadline: Option<Instant>) -> Parked {
        const GLANCE: Duration = Duration::from_millis(500);

        let glance = Instant::now() + GLANCE;
        if cfg!(loom) || deadline.is_some_and(|deadline| deadline <= glance) {
            return self.inner.park(deadline);
        }
        match self.inner.park(Some(glance)) {
            Parked::TimedOut => Parked::Interrupted,
            parked => parked,
        }
    }
}

#[cfg(all(test, loom))]
impl Parker {
    /// Makes the deadline of who parks here pass now.
    pub(crate) fn expire(&self) {
        self.inner.expire();
    }
}

impl Default for Parker {
    fn default() -> Self {
        Self::new()
    }
}

impl Wake for Parker {
    fn wake(&self) {
        self.unpark();
    }
}

impl fmt::Debug for Parker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parker").finish_non_exhaustive()
    }
}

#[cfg(all(target_os = "linux", not(loom)))]
mod imp {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Instant;

    use rustix::io::Errno;
    use rustix::thread::futex::{self, Flags, Timespec};

    use super::Parked;

    const EMPTY: u32 = 0;
    const TOKEN: u32 = 1;
    const SLEEPING: u32 = 2;

    /// The word: EMPTY, TOKEN, or SLEEPING when a thread is, or is about to be, in the kernel.
    pub(super) struct Parker {
        word: AtomicU32,
    }

    impl Parker {
        pub(super) fn new() -> Self {
            Self {
                word: AtomicU32::new(EMPTY),
            }
        }

        pub(super) fn unpark(&self) -> bool {
            // Release: what was written before the token is seen by who takes it.
            let was_asleep = self.word.swap(TOKEN, Ordering::Release) == SLEEPING;
            if was_asleep {
                // The only errors are of a bad address or flag, neither of which can be.
                let _ = futex::wake(&self.word, Flags::PRIVATE, 1);
            }
            was_asleep
        }

        pub(super) fn has_token(&self) -> bool {
            // Relaxed: who takes it acquires.
            self.word.load(Ordering::Relaxed) == TOKEN
        }

        pub(super) fn park_undisturbed(&self, deadline: Option<Instant>) -> Parked {
            loop {
                match self.park(deadline) {
                    Parked::Interrupted => {}
                    parked => return parked,
                }
            }
        }

        pub(super) fn park(&self, deadline: Option<Instant>) -> Parked {
            loop {
                // Acquire: pairs with the Release of `unpark`.
                if self.word.swap(EMPTY, Ordering::Acquire) == TOKEN {
                    return Parked::Notified;
                }
                let timeout = match deadline {
                    None => None,
                    Some(deadline) => {
                        let left = deadline.saturating_duration_since(Instant::now());
                        if left.is_zero() {
                            return Parked::TimedOut;
                        }
                        // A timeout past the kernel's range is no timeout.
                        Timespec::try_from(left).ok()
                    }
                };
                // Fails when a token came meanwhile: the next round takes it.
                if self
                    .word
                    .compare_exchange(EMPTY, SLEEPING, Ordering::Relaxed, Ordering::Relaxed)
                    .is_err()
                {
                    continue;
                }
                let slept = futex::wait(&self.word, Flags::PRIVATE, SLEEPING, timeout.as_ref());
                if self.word.swap(EMPTY, Ordering::Acquire) == TOKEN {
                    return Parked::Notified;
                }
                if slept == Err(Errno::INTR) {
                    return Parked::Interrupted;
                }
            }
        }
    }
}

#[cfg(not(all(target_os = "linux", not(loom))))]
use portable as imp;

// In tests everywhere, so that it is tested everywhere.
#[cfg(any(test, not(target_os = "linux"), loom))]
mod portable {
    use std::time::Instant;

    use super::{Condvar, Mutex, Parked, lock};

    pub(super) struct Parker {
        token: Mutex<bool>,
        came: Condvar,
        #[cfg(loom)]
        expired: loom::sync::atomic::AtomicBool,
    }

    impl Parker {
        pub(super) fn new() -> Self {
            Self {
                token: Mutex::new(false),
                came: Condvar::new(),
                #[cfg(loom)]
                expired: loom::sync::atomic::AtomicBool::new(false),
            }
        }

        /// Whether somebody sleeps is not to be had here, and sleeping is what to expect.
        pub(super) fn unpark(&self) -> bool {
            *lock(&self.token) = true;
            self.came.notify_one();
            true
        }

        #[cfg_attr(
            all(test, target_os = "linux", not(loom)),
            expect(dead_code, reason = "the tests do not spin")
        )]
        pub(super) fn has_token(&self) -> bool {
            *lock(&self.token)
        }

        /// Loom has no time: a deadline passes when [`expire`](Self::expire) says so. Who parks and
        /// is never woken is a deadlock, which loom reports.
        #[cfg(loom)]
        pub(super) fn park(&self, deadline: Option<Instant>) -> Parked {
            let mut token = lock(&self.token);
            while !*token {
                if deadline.is_some() && self.expired.swap(false, super::Ordering::Relaxed) {
                    return Parked::TimedOut;
                }
                token = super::wait(&self.came, token);
            }
            *token = false;
            Parked::Notified
        }

        #[cfg(loom)]
        pub(super) fn park_undisturbed(&self, deadline: Option<Instant>) -> Parked {
            self.park(deadline)
        }

        #[cfg(all(test, loom))]
        pub(super) fn expire(&self) {
            let token = lock(&self.token);
            self.expired.store(true, super::Ordering::Relaxed);
            drop(token);
            self.came.notify_one();
        }

        #[cfg(not(loom))]
        pub(super) fn park(&self, deadline: Option<Instant>) -> Parked {
            use std::time::Duration;

            /// How often a wait asks for signals where the system does not interrupt it.
            const SLICE: Duration = Duration::from_millis(50);

            let slice = Instant::now() + SLICE;
            match deadline {
                Some(deadline) if deadline <= slice => self.park_undisturbed(Some(deadline)),
                _ => match self.park_undisturbed(Some(slice)) {
                    Parked::TimedOut => Parked::Interrupted,
                    parked => parked,
                },
            }
        }

        #[cfg(not(loom))]
        pub(super) fn park_undisturbed(&self, deadline: Option<Instant>) -> Parked {
            use std::sync::PoisonError;

            let mut token = lock(&self.token);
            while !*token {
                let Some(deadline) = deadline else {
                    token = super::wait(&self.came, token);
                    continue;
                };
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Parked::TimedOut;
                }
                token = self
                    .came
                    .wait_timeout(token, left)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0;
            }
            *token = false;
            Parked::Notified
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_token_left_before_the_park_is_taken_once() {
        let parker = Parker::new();
        parker.unpark();
        parker.unpark();
        assert_eq!(parker.park(None), Parked::Notified);
        assert_eq!(parker.park(Some(Instant::now())), Parked::TimedOut);
    }

    #[test]
    fn a_deadline_in_the_past_still_takes_a_token() {
        let parker = Parker::new();
        parker.unpark();
        let past = Instant::now().checked_sub(Duration::from_secs(1));
        assert_eq!(parker.park(past), Parked::Notified);
    }

    #[test]
    fn a_poisoned_lock_is_taken_like_any_other() {
        let mutex = Mutex::new(1);
        let poisoned = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _guard = lock(&mutex);
            panic!("with the lock held");
        }));
        assert!(poisoned.is_err() && mutex.is_poisoned());
        let guard = try_lock(&mutex).expect("nobody holds it");
        assert!(try_lock(&mutex).is_none(), "somebody holds it");
        drop(guard);
        assert_eq!(*lock(&mutex), 1);
    }

    #[test]
    fn where_signals_interrupt_no_sleep_only_who_asks_for_them_wakes_up_for_them() {
        let parker = portable::Parker::new();
        assert_eq!(parker.park(None), Parked::Interrupted, "a slice is over");
        let soon = Instant::now() + Duration::from_millis(120);
        assert_eq!(parker.park_undisturbed(Some(soon)), Parked::TimedOut);
        assert!(Instant::now() >= soon, "it woke up early");
        parker.unpark();
        assert_eq!(parker.park_undisturbed(None), Parked::Notified);
        std::thread::scope(|scope| {
            let sleeper = scope.spawn(|| parker.park_undisturbed(None));
            parker.unpark();
            assert_eq!(sleeper.join().unwrap(), Parked::Notified);
        });
    }

    #[test]
    fn tokens_pass_between_two_threads() {
        let (there, back) = (Parker::new(), Parker::new());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..10_000 {
                    while there.park(None) != Parked::Notified {}
                    back.unpark();
                }
            });
            for _ in 0..10_000 {
                there.unpark();
                while back.park(None) != Parked::Notified {}
            }
        });
    }
}
