//! What a worker does: it comes, waits, takes and leaves.
//!
//! Owned by its own thread, which the pool starts here. It never runs a job: that is the [`Runner`]'s.
#![forbid(unsafe_code)]

use std::fmt;
use std::sync::Arc;
use std::sync::Weak;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::lend::OwnPool;
use super::state::{Life, Seat, Stand, State, Summons};
use super::{Pool, Shared};
use crate::error::Error;
use crate::sync::{MutexGuard, Parked, Parker, lock, thread};

/// What a worker does with its life.
///
/// The seam between the core and whoever embeds it: how to hold on to an interpreter, what to do
/// around a run, all of that is the runner's.
pub trait Runner: Send + Sync + 'static {
    /// One unit of work.
    type Job: Send + 'static;

    /// Called once on each worker thread. It must take jobs until [`Worker::wait`] says `false`:
    ///
    /// ```text
    /// while worker.wait() {
    ///     while let Some(job) = worker.take() { … }
    /// }
    /// ```
    ///
    /// It must not unwind; a panic of a job is the runner's to catch. A worker whose runner unwinds all
    /// the same, or gives up, is replaced if there is work; one after the other that never took a job,
    /// after ever longer pauses.
    fn work(&self, worker: &Worker<Self::Job>);

    /// Called when due jobs have been queued, so that the lock that jobs run under can be made free
    /// for them; `is_coming`: a worker is on its way. On the timer thread, with no lock held. It must
    /// not block.
    fn due(&self, is_coming: bool) {
        let _ = is_coming;
    }

    /// Called once in the pool's life, when more than [`MANY_LENT`] workers are lent at a time; by the
    /// thread whose wait was one too many, with no lock held.
    fn lends_many(&self, lent: usize) {
        let _ = lent;
    }

    /// Called when nothing will be run any more, on a thread that may drop jobs, with no lock held. It may
    /// be called more than once.
    fn finished(&self) {}
}

/// So many workers may be lent at a time before the runner is told; see [`Runner::lends_many`].
pub const MANY_LENT: usize = 256;

/// A worker that is counted as coming, and has no thread yet.
///
/// Dropped, it is taken back, and an idle worker is sent in its place; see [step
/// 2](self#when-the-system-has-no-thread-to-give).
#[must_use = "a worker that is counted as coming must be started"]
pub(super) struct Coming<'a, J: Send + 'static> {
    pool: &'a Pool<J>,
    number: u64,
    /// Whoever sends for it knows by himself when the thread is refused.
    is_quiet: bool,
}

impl<J: Send + 'static> Coming<'_, J> {
    /// Gives it a thread, which is from then on the one that answers for it.
    pub(super) fn start(self) -> Result<(), String> {
        self.pool.spawn(self.number)?;
        std::mem::forget(self);
        Ok(())
    }
}

impl<J: Send + 'static> Drop for Coming<'_, J> {
    fn drop(&mut self) {
        let mut state = lock(&self.pool.shared.state);
        state.take_back_start();
        let instead = state.summon_idle();
        let is_short = instead.is_none() && state.queued() > 0;
        if is_short {
            self.pool.shared.is_short.store(true, Relaxed);
        }
        let joiners = state.joiners_if_gone();
        drop(state);
        if is_short
            && !self.is_quiet
            && let Some(who) = self.pool.shared.on_refusal.get().and_then(Weak::upgrade)
        {
            who.wake();
        }
        if let Some(seat) = instead {
            seat.parker.unpark();
        }
        for joiner in joiners {
            joiner.unpark();
        }
    }
}

impl<J: Send + 'static> Pool<J> {
    /// Starts a worker that is to be the only one, for who brings jobs. It is started under the
    /// lock: if the system refuses, those jobs are still the last in the queue, and go back to who
    /// brought them. Any other summons is left to be sent.
    pub(super) fn start_first(
        &self,
        state: &mut State<J>,
        summons: Summons,
    ) -> Result<Summons, Error> {
        match summons {
            Summons::Start(number) if state.workers == 1 => {
                self.spawn(number).map_err(|reason| {
                    state.take_back_start();
                    Error::NoThread { reason }
                })?;
                Ok(Summons::None)
            }
            summons => Ok(summons),
        }
    }

    /// Carries a summons out. `false`: it was for a new thread, and the system refused; see [step
    /// 2](self#when-the-system-has-no-thread-to-give).
    pub(super) fn send(&self, summons: Summons) -> bool {
        match summons {
            Summons::None => true,
            Summons::Wake(seat) => {
                let was_asleep = seat.parker.unpark();
                self.shared.spin.met(was_asleep);
                true
            }
            Summons::Start(number) => self.send_new(number, false),
        }
    }

    pub(super) fn send_new(&self, number: u64, is_quiet: bool) -> bool {
        let coming = Coming {
            pool: self,
            number,
            is_quiet,
        };
        coming.start().is_ok()
    }

    pub(super) fn spawn(&self, number: u64) -> Result<(), String> {
        #[cfg(test)]
        {
            use std::sync::atomic::Ordering::Relaxed;

            let left = self.shared.refusals.load(Relaxed);
            if left > 0 {
                self.shared.refusals.store(left - 1, Relaxed);
                // The system takes its time to refuse.
                thread::yield_now();
                return Err("the test has none".to_owned());
            }
        }
        let pool = self.clone();
        let mut builder = thread::Builder::new().name(self.worker_name(number));
        if let Some(stack_size) = self.shared.stack_size {
            builder = builder.stack_size(stack_size);
        }
        // The worker is made on its thread: where there is none, there is no worker to be dropped.
        builder
            .spawn(move || {
                let worker = Worker::new(pool, number);
                let _own = OwnPool::enter(&worker.pool);
                worker.pool.runner.work(&worker);
            })
            .map(drop)
            .map_err(|error| error.to_string())
    }

    pub(super) fn worker_name(&self, number: u64) -> String {
        format!("{}-{number}", self.shared.thread_name)
    }
}

impl<J> Shared<J> {
    /// Step 1 of [the hold-off](spin#the-hold-off), for a summons by a thread that holds the lock.
    pub(super) fn note_held(&self, summons: &Summons) {
        if let Summons::Wake(seat) = summons
            && self.turns.is_some()
        {
            // Relaxed, as everywhere: a hint.
            seat.let_go.store(
                self.spin.times_let_go(),
                std::sync::atomic::Ordering::Relaxed,
            );
        }
    }
}

/// A worker's own note of where it stands.
struct Place(AtomicU8);

impl Place {
    const ALL: [Stand; 5] = [
        Stand::Coming,
        Stand::Running,
        Stand::Free,
        Stand::Idle,
        Stand::Left,
    ];

    fn get(&self) -> Stand {
        Self::ALL[usize::from(self.0.load(std::sync::atomic::Ordering::Relaxed))]
    }

    fn set(&self, stand: Stand) {
        self.0
            .store(stand as u8, std::sync::atomic::Ordering::Relaxed);
    }
}

/// A thread's own note to itself.
struct Flag(std::sync::atomic::AtomicBool);

impl Flag {
    fn new(value: bool) -> Self {
        Self(std::sync::atomic::AtomicBool::new(value))
    }

    fn get(&self) -> bool {
        self.0.load(std::sync::atomic::Ordering::Relaxed)
    }

    fn set(&self, value: bool) {
        self.0.store(value, std::sync::atomic::Ordering::Relaxed);
    }
}

/// One worker, as its runner sees it. It stays on its thread.
pub struct Worker<J: Send + 'static> {
    pool: Pool<J>,
    number: u64,
    seat: Arc<Seat>,
    // Atomic only so that a runner may wait in a closure that must be `Sync`: they are the worker's
    // own, hence Relaxed.
    stand: Place,
    /// It has taken a job.
    has_taken: Flag,
    /// It has yielded since its last job.
    has_yielded: Flag,
    /// It is to stay awake when it next has nothing to do.
    spins: Flag,
}

impl<J: Send + 'static> Worker<J> {
    /// A worker that was counted as coming.
    fn new(pool: Pool<J>, number: u64) -> Self {
        let seat = Seat {
            parker: Parker::new(),
            summoned: std::sync::atomic::AtomicBool::new(false),
            let_go: std::sync::atomic::AtomicU64::new(Seat::NOT_HELD),
        };
        Self {
            pool,
            number,
            seat: Arc::new(seat),
            stand: Place(AtomicU8::new(Stand::Coming as u8)),
            has_taken: Flag::new(false),
            has_yielded: Flag::new(false),
            spins: Flag::new(false),
        }
    }

    /// Its thread's name.
    pub fn name(&self) -> String {
        self.pool.worker_name(self.number)
    }

    /// Sleeps until there is something to take; `false` when this worker is to end.
    ///
    /// A runner that holds an interpreter's lock lets go of it before it calls this, and takes it
    /// again before it calls [`take`](Self::take): a worker on its way owns no job, so none is
    /// stranded with it.
    pub fn wait(&self) -> bool {
        self.wait_then(|| ())
    }

    /// Like [`wait`](Self::wait), and calls `then` once, before it sleeps and after this worker can be
    /// summoned: for what may lead to a push, which would otherwise start another worker.
    pub fn wait_then(&self, then: impl FnOnce()) -> bool {
        let mut then = Some(then);
        let mut once = || {
            if let Some(then) = then.take() {
                then();
            }
        };
        let goes_on = self.wait_and(&mut once);
        once(); // where it has not come to sleep
        goes_on
    }

    fn wait_and(&self, seated: &mut dyn FnMut()) -> bool {
        let shared = &self.pool.shared;
        if shared.generation.is_inherited() {
            return false; // this thread has forked inside a job: the pool is the parent's
        }
        let mut state = lock(&shared.state);
        match self.stand.get() {
            Stand::Coming => return true, // just started
            Stand::Left => return false,
            Stand::Running | Stand::Free | Stand::Idle => {}
        }
        debug_assert_eq!(self.stand.get(), Stand::Free, "{} waits", self.name());
        loop {
            // SURPLUS
            if state.workers > state.limit() {
                return self.leave(state);
            }
            // BUSY
            if state.queued() > 0 && !(state.coming && shared.turns.is_some()) {
                if !state.coming {
                    state.coming = true;
                    self.stand.set(Stand::Coming);
                }
                return true;
            }
            // OVER
            if state.life == Life::Closed || state.workers > state.idle_kept {
                return self.leave(state);
            }
            // IDLE
            let timeout = (state.workers > state.min_workers).then_some(shared.idle_timeout);
            let sat_down = Instant::now();
            let deadline = timeout.and_then(|timeout| sat_down.checked_add(timeout));
            let spins = self.spins.get() && shared.spin.claim();
            state.idle.push(Arc::clone(&self.seat));
            self.stand.set(Stand::Idle);
            drop(state);
            seated();
            let was_awake = spins && shared.spin.for_job(&self.seat.parker);
            let parked = self.seat.parker.park_undisturbed(deadline);
            state = lock(&shared.state);
            self.stand.set(Stand::Free);
            // Relaxed: written under the same lock.
            if self
                .seat
                .summoned
                .swap(false, std::sync::atomic::Ordering::Relaxed)
            {
                // If the timeout passed in the same moment, a token is still on its way here. It
                // costs one look at the queue when this worker next sits down, no more.
                self.stand.set(Stand::Coming);
                drop(state);
                self.spins.set(shared.spin.expects(sat_down.elapsed()));
                let let_go = self
                    .seat
                    .let_go
                    .swap(Seat::NOT_HELD, std::sync::atomic::Ordering::Relaxed);
                if was_awake && let_go != Seat::NOT_HELD {
                    shared.spin.hold_off(let_go);
                }
                return true;
            }
            state.idle.retain(|seat| !Arc::ptr_eq(seat, &self.seat));
            if parked == Parked::TimedOut && state.workers > state.min_workers {
                if state.queued() > 0 {
                    continue;
                }
                return self.leave(state);
            }
        }
    }

    /// Takes the oldest job. `None`: nothing to do now, [`wait`](Self::wait) for more.
    pub fn take(&self) -> Option<J> {
        let shared = &self.pool.shared;
        if shared.generation.is_inherited() {
            return None;
        }
        let mut state = lock(&shared.state);
        let mut stays = state.workers <= state.limit() || !state.urgent.is_empty();
        let stand = self.stand.get();
        if stand == Stand::Coming {
            state.coming = false;
            state.turn.holder = self.number;
        } else if let Some(young) = shared.turns {
            stays &= self.keeps_its_turn(&mut state, young);
        }
        let job = if stays { state.pop() } else { None };
        match (job.is_some(), stand == Stand::Running) {
            (true, true) => {}
            (true, false) => {
                state.running += 1;
                state.fruitless = 0;
                self.has_taken.set(true);
                self.stand.set(Stand::Running);
            }
            (false, was_running) => {
                state.running -= usize::from(was_running);
                self.stand.set(Stand::Free);
            }
        }
        if shared.turns.is_some() {
            let is_contended = job.is_some() && state.running > 1;
            state.turn.begin(is_contended);
        }
        let summons = state.summon();
        shared.note_held(&summons);
        let room = state.wake_one_for_room(shared.queue_size);
        let wants_more = state.workers < state.min_workers;
        drop(state);
        self.pool.send(summons);
        if let Some(room) = room {
            room.unpark();
        }
        if wants_more {
            self.pool.start_min_workers();
        }
        job
    }

    /// Says that the worker has let go of the lock that jobs run under, and taken it again, between
    /// two jobs: if another's turn has come meanwhile, it keeps it.
    pub fn yielded(&self) {
        self.has_yielded.set(true);
    }

    /// Steps 2 and 3 of [Turns](self#turns).
    fn keeps_its_turn(&self, state: &mut State<J>, young: Duration) -> bool {
        let has_yielded = self.has_yielded.get();
        self.has_yielded.set(false);
        // Without anybody on the way there would be nobody to leave the queue to.
        let is_running = self.stand.get() == Stand::Running;
        if state.turn.holder == self.number || !is_running || !state.coming {
            state.turn.holder = self.number;
            return true;
        }
        let takes_it_back = !has_yielded && state.turn.is_younger_than(young);
        if takes_it_back {
            state.turn.holder = self.number;
        }
        takes_it_back
    }

    /// Leaves for good; always `false`, for [`wait`](Self::wait) to return.
    fn leave(&self, mut state: MutexGuard<'_, State<J>>) -> bool {
        state.workers -= 1;
        self.stand.set(Stand::Left);
        // Its place may be taken by another, if there is work that it declined.
        let summons = state.summon();
        drop(state);
        self.pool.send(summons);
        false
    }
}

impl<J: Send + 'static> Worker<J> {
    /// After several workers in a row that took nothing, there is little hope that the next one will:
    /// it is not sent for at once. Meanwhile this one is still counted, as coming if it was, so that
    /// nobody else sends for it either.
    fn pause_if_fruitless(&self) {
        const SHORTEST: Duration = Duration::from_millis(10);
        const DOUBLED: u32 = 4;

        if self.stand.get() == Stand::Left || self.has_taken.get() {
            return;
        }
        let mut state = lock(&self.pool.shared.state);
        state.fruitless = state.fruitless.saturating_add(1);
        let (before, is_wanted) = (state.fruitless - 1, state.queued() > 0);
        drop(state);
        if before > 0 && is_wanted && cfg!(not(loom)) {
            let pause = SHORTEST * (1 << (before - 1).min(DOUBLED));
            Parker::new().park_undisturbed(Instant::now().checked_add(pause));
        }
    }
}

impl<J: Send + 'static> Drop for Worker<J> {
    /// The end of the thread, in whatever way the runner came to it.
    fn drop(&mut self) {
        /// Once the pool is closed, this many workers in a row may take nothing of what is queued
        /// before that is left to whoever closes it for good.
        const HOPELESS: u32 = 3;

        if self.pool.shared.generation.is_inherited() {
            return;
        }
        self.pause_if_fruitless();
        let mut state = lock(&self.pool.shared.state);
        let stand = self.stand.get();
        if stand != Stand::Left {
            // The runner gave up early, or unwound: keep the counts true.
            state.workers -= 1;
        }
        match stand {
            Stand::Coming => state.coming = false,
            Stand::Running => state.running -= 1,
            Stand::Idle => {
                let before = state.idle.len();
                state.idle.retain(|seat| !Arc::ptr_eq(seat, &self.seat));
                // Relaxed: written under the same lock.
                if before == state.idle.len()
                    && self
                        .seat
                        .summoned
                        .load(std::sync::atomic::Ordering::Relaxed)
                {
                    state.coming = false; // somebody has sent for it in this moment
                }
            }
            Stand::Free | Stand::Left => {}
        }
        state.alive -= 1;
        let summons = if state.life == Life::Closed && state.fruitless >= HOPELESS {
            Summons::None
        } else {
            state.summon()
        };
        let joiners = state.joiners_if_gone();
        drop(state);
        self.pool.send(summons);
        for joiner in joiners {
            joiner.unpark();
        }
    }
}

impl<J: Send + 'static> fmt::Debug for Worker<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker")
            .field("name", &self.name())
            .field("stand", &self.stand.get())
            .finish_non_exhaustive()
    }
}
