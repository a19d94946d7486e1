//! Asks a main thread that computes to let a worker have the interpreter, when a task is due.
//!
//! Owned by the process; pools share it. Figures are in `docs/design/nudge.md`. It never attaches, never
//! waits for the interpreter on behalf of the one who asks, and never runs a callback.
//!
//! Who wants the GIL from a thread that computes gets it after the switch interval, 5 ms, and with it
//! every due task is that late. The eval loop looks for pending calls more often than that: a
//! function left there by [`Py_AddPendingCall`](ffi::Py_AddPendingCall) runs on the main thread within
//! microseconds, and it can let go of the GIL.
//!
//! # Protocol
//!
//! | word     | means                                                          | left by step |
//! |----------|----------------------------------------------------------------|--------------|
//! | `NOBODY` | nobody is waited for                                           | 1            |
//! | `ASKED`  | a worker is on its way to a due task                           | 3, 5         |
//! | `HERE`   | it holds the interpreter                                       | 1, 4         |
//! | `MISSED` | the main thread has not waited long enough                     | 1, 6         |
//!
//! 1. The timer thread has queued due tasks, and a worker is on its way to them. It says `ASKED`, and
//!    leaves the call to [`give_way`], unless it is there already.
//! 2. The main thread takes the call. If the word is `ASKED` it lets go of the interpreter, and waits:
//!    awake for [`AWAKE`], then asleep, for [`PATIENCE`] in all.
//! 3. The worker attaches. `ASKED` becomes `HERE`, and the main thread wakes up if it sleeps.
//! 4. The worker lets go, or offers the interpreter to others. `HERE` becomes `NOBODY`.
//! 5. The main thread, having seen step 3, waits for step 4, awake, for [`AWAKE`]. It takes the
//!    interpreter back, whatever has come of it: `ASKED` becomes `MISSED`.
//! 6. A worker that finds `MISSED` as it is about to attach takes step 1 itself.
//!
//! Without step 2's wait the main thread would have the GIL back before the worker is up. Without
//! step 5's it would go to sleep on it, for a callback of a microsecond, and have to be woken.
//!
//! What else may happen:
//!
//! - *The worker is there before the main thread looks*, because that slept, or read a file: the word
//!   is not `ASKED`, and the main thread goes on at once.
//! - *The main thread does not look*, being in a long call of C code: the call stays where it is, and
//!   further steps 1 only write the word. So one call is queued at a time.
//! - *An ask comes between the taking of the call and the look at the word*: it finds either the call
//!   still marked as queued, and then the look finds `ASKED`, or it queues another. Hence `SeqCst`.
//! - *Another worker is faster*, of this pool or another: it answers in the first one's place, which
//!   comes to the interpreter as it would have without a nudge.
//! - *The worker comes late*, because the machine is busy: hence step 6.
//! - *No worker comes*: the pool has been closed. [`PATIENCE`] passes.
//! - *There are more due tasks than nudges*: each costs the main thread time, and is refused when it
//!   has had too many; see [`EVERY`]. The tasks run with the next, or when the switch interval ends.
//! - *Somebody else's calls fill CPython's list*: no nudge.
//! - *A fork comes while the call is being left*: it would copy CPython's list half-written, page by
//!   page, and the child would take calls from another end than where they are left. So a fork waits
//!   for who is at it, and whoever comes later leaves none: no nudge.
//! - *A worker that has been let in forks*: in the child CPython would go on to take the main thread,
//!   which is no more, for the one that runs such calls, and never run any. So that fork waits too,
//!   detached, until the main thread is back from [`give_way`], which it does not enter again before.
//! - *A signal arrives while the main thread sleeps here*: it goes on, for the handler's sake.
//! - *The child of a fork on another thread than the main one*: CPython goes on to tell the parent's
//!   main thread, which is no more. No nudge, and no harm: that thread's state is static memory.
//! - *Another thread than the main one computes*: no nudge reaches it.
//!
//! Up to CPython 3.12 the eval loop does not look for calls that other threads leave, and without a
//! GIL there is nothing to ask for: [`Nudge::of_process`] gives none.

use std::ffi::{c_int, c_void};
use std::hint::spin_loop;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use asynctask::clock::{Nanos, nanos};
use asynctask::sync::{Parked, Parker};
use pyo3::ffi;
use pyo3::prelude::*;

use crate::gate;

/// How long the main thread stays awake for the next step: nearly always the worker is faster. These
/// five were measured; see `docs/design/nudge.md`.
const AWAKE: Duration = Duration::from_micros(20);

/// How long the main thread waits for the worker, asleep for the most part. Without a processor to spare
/// it is what a nudge in vain may cost.
const PATIENCE: Duration = Duration::from_micros(300);

/// What a nudge costs at least: one in this time, on average, which keeps nudges to a fortieth of the main
/// thread's time.
const EVERY: Nanos = 500_000;

/// What a nudge costs, in times that the main thread was away for it: it keeps four fifths of its
/// time, as it does where each worker waits for the switch interval before its slice. That matters
/// where the worker finds a full queue.
const TIMES_AWAY: Nanos = 4;

/// How far nudges may be behind with what they cost: credit for tasks that happen to be close to each other.
const CREDIT: Nanos = 10 * EVERY;

const NOBODY: u8 = 0;
const ASKED: u8 = 1;
const HERE: u8 = 2;
const MISSED: u8 = 3;

static NUDGE: OnceLock<Nudge> = OnceLock::new();

/// Threads that are at CPython's list, and forks that keep others away from it. Of two that come at
/// once, at least one sees the other: hence `SeqCst`.
static ADDING: AtomicUsize = AtomicUsize::new(0);
static FORKS: AtomicUsize = AtomicUsize::new(0);

/// What timer threads, workers and the main thread share.
pub(crate) struct Nudge {
    word: AtomicU8,
    /// The call is in CPython's list.
    is_queued: AtomicBool,
    /// The main thread is in [`give_way`], detached.
    is_giving_way: AtomicBool,
    /// When, since `epoch`, the nudges so far will have been paid for.
    paid_at: AtomicU64,
    epoch: Instant,
    /// Where the main thread sleeps in step 2.
    main: Parker,
    /// The worker can run while the main thread stays awake.
    has_processors: bool,
}

impl Nudge {
    /// The nudge of this process; `None` where there can be none. `has_gil`: there is one.
    pub(crate) fn of_process(py: Python<'_>, has_gil: bool) -> Option<&'static Self> {
        (has_gil && py.version_info() >= (3, 13)).then(|| {
            NUDGE.get_or_init(|| Self {
                word: AtomicU8::new(NOBODY),
                is_queued: AtomicBool::new(false),
                is_giving_way: AtomicBool::new(false),
                paid_at: AtomicU64::new(0),
                epoch: Instant::now(),
                main: Parker::new(),
                has_processors: std::thread::available_parallelism()
                    .is_ok_and(|processors| processors.get() > 1),
            })
        })
    }

    /// Step 1.
    pub(crate) fn ask(&self) {
        if !self.is_queued.load(Ordering::SeqCst) && !self.has_credit() {
            return;
        }
        self.word.store(ASKED, Ordering::SeqCst);
        if self.is_queued.swap(true, Ordering::SeqCst) {
            return;
        }
        if !add_give_way() {
            self.is_queued.store(false, Ordering::SeqCst);
        }
    }

    fn has_credit(&self) -> bool {
        let now = nanos(self.epoch.elapsed());
        // Relaxed: an account, which orders nothing.
        self.paid_at.load(Ordering::Relaxed) < now.saturating_add(CREDIT)
    }

    fn charge(&self, price: Nanos) {
        let now = nanos(self.epoch.elapsed());
        let paid_at = self.paid_at.load(Ordering::Relaxed).max(now);
        self.paid_at
            .store(paid_at.saturating_add(price), Ordering::Relaxed);
    }

    /// Step 6, on a worker that is about to attach.
    pub(crate) fn attaching(&self) {
        if self.turn(MISSED, NOBODY) {
            self.ask();
        }
    }

    /// Step 3, on a worker that has attached.
    pub(crate) fn arrived(&self) {
        if self.turn(ASKED, HERE) {
            self.main.unpark();
        }
    }

    /// Step 4, on a worker that has detached.
    pub(crate) fn left(&self) {
        self.turn(HERE, NOBODY);
    }

    fn turn(&self, from: u8, to: u8) -> bool {
        // Looked at first, because most batches are nobody's concern.
        self.word.load(Ordering::Relaxed) == from
            && self
                .word
                .compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst)
                .is_ok()
    }

    /// Steps 2 and 5, but for the interpreter.
    fn wait(&self) {
        self.stay_awake(ASKED);
        let end = Instant::now().checked_add(PATIENCE.saturating_sub(AWAKE));
        while self.is(ASKED) {
            // A token may be an old one: nobody takes it away from who did not sleep.
            if self.main.park(end) != Parked::Notified {
                break;
            }
        }
        if !self.turn(ASKED, MISSED) {
            self.stay_awake(HERE);
        }
    }

    fn stay_awake(&self, word: u8) {
        let start = Instant::now();
        while self.has_processors && self.is(word) && start.elapsed() < AWAKE {
            spin_loop();
        }
    }

    fn is(&self, word: u8) -> bool {
        self.word.load(Ordering::SeqCst) == word
    }
}

/// A thread that is at CPython's list, where no fork may find it.
struct AtList;

impl AtList {
    /// `None`: a fork is going on.
    fn enter() -> Option<Self> {
        ADDING.fetch_add(1, Ordering::SeqCst);
        let entered = Self;
        (FORKS.load(Ordering::SeqCst) == 0).then_some(entered)
    }
}

impl Drop for AtList {
    fn drop(&mut self) {
        ADDING.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Leaves the call in CPython's list. `false`: it is full, or being forked.
fn add_give_way() -> bool {
    let Some(_at_list) = AtList::enter() else {
        return false;
    };
    // SAFETY:
    // 1. It may be called from any thread, attached or not; it takes a lock that is held for a
    //    few instructions, by nobody who waits for anything, and that a forked child renews.
    // 2. What it touches of the interpreter, list, lock and main thread's state, is static: a
    //    timer thread that is late at the end of the program writes to what is still there.
    // 3. The function is of the type asked for, does not look at its argument, and is never
    //    unloaded, as no extension module is.
    unsafe { ffi::Py_AddPendingCall(Some(give_way), ptr::null_mut()) == 0 }
}

/// Steps 2 and 5. CPython calls it on the main thread, attached, between two bytecodes.
extern "C" fn give_way(_: *mut c_void) -> c_int {
    let Some(nudge) = NUDGE.get() else { return 0 };
    nudge.is_queued.store(false, Ordering::SeqCst);
    if nudge.is(ASKED) && !gate::is_forking() {
        // SAFETY: CPython calls this on a thread that is attached, and the token ends with the call.
        let py = unsafe { Python::assume_attached() };
        let start = Instant::now();
        nudge.is_giving_way.store(true, Ordering::SeqCst);
        py.detach(|| nudge.wait());
        nudge.is_giving_way.store(false, Ordering::SeqCst);
        let away = nanos(start.elapsed());
        nudge.charge(away.saturating_mul(TIMES_AWAY).max(EVERY));
    }
    0
}

/// Whether the main thread is in a call that CPython is running.
pub(crate) fn is_giving_way() -> bool {
    NUDGE
        .get()
        .is_some_and(|nudge| nudge.is_giving_way.load(Ordering::SeqCst))
}

/// Called where a fork is about to copy this process, attached or not: afterwards nobody is at
/// CPython's list. Who was there had a few instructions to go.
pub(crate) fn before_fork() {
    FORKS.fetch_add(1, Ordering::SeqCst);
    while ADDING.load(Ordering::SeqCst) > 0 {
        gate::pause();
    }
}

/// Called in the parent, after that.
pub(crate) fn after_fork_in_parent() {
    FORKS.fetch_sub(1, Ordering::SeqCst);
}

/// Called in a forked child: whoever was on the way is the parent's.
pub(crate) fn after_fork_in_child() {
    ADDING.store(0, Ordering::SeqCst);
    FORKS.store(0, Ordering::SeqCst);
    if let Some(nudge) = NUDGE.get() {
        nudge.word.store(NOBODY, Ordering::SeqCst);
        nudge.is_queued.store(false, Ordering::SeqCst);
        nudge.is_giving_way.store(false, Ordering::SeqCst);
    }
}

/// The word, whether the call is in CPython's list, and how many threads are at it; `None` before
/// there is a nudge. For tests.
#[pyfunction]
pub(crate) fn _nudge_state() -> Option<(u8, bool, usize)> {
    NUDGE.get().map(|nudge| {
        let word = nudge.word.load(Ordering::SeqCst);
        let is_queued = nudge.is_queued.load(Ordering::SeqCst);
        (word, is_queued, ADDING.load(Ordering::SeqCst))
    })
}

/// Stays at CPython's list for so many seconds, detached. For tests.
#[pyfunction]
pub(crate) fn _stay_at_list(py: Python<'_>, seconds: f64) {
    py.detach(|| {
        let _at_list = AtList::enter();
        Parker::new().park(Some(Instant::now() + Duration::from_secs_f64(seconds)));
    });
}
