//! What a worker does: it waits, takes and leaves; and what it asks of its runner.
//!
//! Owned by its own thread, which [`Shared`] starts. It never runs a job: that is the [`Runner`]'s. Where
//! it stands is in the [table](super::state#where-a-worker-stands).
#![forbid(unsafe_code)]

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::shared::Shared;
use super::state::{Lifecycle, PhaseCell, Sleeper, State, WorkerPhase, WorkerRequest};
use crate::sync::{MutexGuard, Parked, Parker, lock};

/// What a worker's thread does.
///
/// The interface between the pool and whoever embeds it: how to hold on to an interpreter, and what to do
/// around a run, is up to the runner.
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

/// A thread's own note to itself.
struct Flag(AtomicBool);

impl Flag {
    fn new(value: bool) -> Self {
        Self(AtomicBool::new(value))
    }

    fn get(&self) -> bool {
        self.0.load(Relaxed)
    }

    fn set(&self, value: bool) {
        self.0.store(value, Relaxed);
    }
}

/// One worker, as its runner sees it. It stays on its thread.
pub struct Worker<J: Send + 'static> {
    shared: Arc<Shared<J>>,
    number: u64,
    sleeper: Arc<Sleeper>,
    // Atomic only so that a runner may wait in a closure that must be `Sync`: they are the worker's
    // own, hence Relaxed.
    phase: PhaseCell,
    /// It has taken a job.
    has_taken_job: Flag,
    /// It has yielded since its last job.
    has_yielded: Flag,
    /// It is to stay awake when it next has nothing to do.
    spins: Flag,
}

impl<J: Send + 'static> Worker<J> {
    /// A worker that was counted as coming.
    pub(super) fn new(shared: Arc<Shared<J>>, number: u64) -> Self {
        Self {
            shared,
            number,
            sleeper: Arc::new(Sleeper::new()),
            phase: PhaseCell::new(WorkerPhase::Coming),
            has_taken_job: Flag::new(false),
            has_yielded: Flag::new(false),
            spins: Flag::new(false),
        }
    }

    /// Its thread's name.
    pub fn name(&self) -> String {
        self.shared.worker_name(self.number)
    }

    /// Sleeps until there is something to take; `false` when this worker is to end.
    ///
    /// A runner that holds an interpreter's lock releases it before it calls this, and takes it
    /// again before it calls [`take`](Self::take): a worker on its way owns no job, so none is
    /// stranded with it.
    pub fn wait(&self) -> bool {
        self.wait_then(|| ())
    }

    /// Like [`wait`](Self::wait), and calls `then` once, before it sleeps and after this worker can be
    /// woken: for what may lead to a push, which would otherwise start another worker.
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

    /// [`wait_then`](Self::wait_then), not generic.
    fn wait_and(&self, before_sleep: &mut dyn FnMut()) -> bool {
        let shared = &self.shared;
        if shared.generation.is_inherited() {
            return false; // this thread has forked inside a job: the pool is the parent's
        }
        let mut state = lock(&shared.state);
        match self.phase.get() {
            WorkerPhase::Coming => return true, // just started
            WorkerPhase::Left => return false,
            WorkerPhase::Running | WorkerPhase::Free | WorkerPhase::Idle => {}
        }
        debug_assert_eq!(self.phase.get(), WorkerPhase::Free, "{} waits", self.name());
        loop {
            // It is one too many.
            if state.workers > state.limit() {
                return self.leave(state);
            }
            // There is something to take.
            if state.queued() > 0 && !(state.coming && shared.turns.is_some()) {
                if !state.coming {
                    state.coming = true;
                    self.phase.set(WorkerPhase::Coming);
                }
                return true;
            }
            // There will be nothing to take.
            if state.lifecycle == Lifecycle::Closed || state.workers > state.max_idle {
                return self.leave(state);
            }
            // There may be.
            let timeout = (state.workers > state.min_workers).then_some(shared.idle_timeout);
            let idle_since = Instant::now();
            let deadline = timeout.and_then(|timeout| idle_since.checked_add(timeout));
            let spins = self.spins.get() && shared.spin.claim();
            state.idle.push(Arc::clone(&self.sleeper));
            self.phase.set(WorkerPhase::Idle);
            drop(state);
            before_sleep();
            let was_awake = spins && shared.spin.for_job(&self.sleeper.parker);
            let parked = self.sleeper.parker.park_undisturbed(deadline);
            state = lock(&shared.state);
            self.phase.set(WorkerPhase::Free);
            // Relaxed: written under the same lock.
            if self.sleeper.woken.swap(false, Relaxed) {
                // If the timeout passed in the same moment, a token is still on its way here. It
                // costs one look at the queue when this worker next goes idle, no more.
                self.phase.set(WorkerPhase::Coming);
                drop(state);
                self.spins.set(shared.spin.expects(idle_since.elapsed()));
                let noted = self
                    .sleeper
                    .noted_releases
                    .swap(Sleeper::NOT_NOTED, Relaxed);
                if was_awake && noted != Sleeper::NOT_NOTED {
                    shared.spin.hold_off(noted);
                }
                return true;
            }
            state
                .idle
                .retain(|sleeper| !Arc::ptr_eq(sleeper, &self.sleeper));
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
        let shared = &self.shared;
        if shared.generation.is_inherited() {
            return None;
        }
        let mut state = lock(&shared.state);
        let mut stays = state.workers <= state.limit() || !state.urgent.is_empty();
        let phase = self.phase.get();
        if phase == WorkerPhase::Coming {
            state.coming = false;
            state.turn.holder = self.number;
        } else if let Some(young) = shared.turns {
            stays &= self.keeps_its_turn(&mut state, young);
        }
        let job = if stays { state.pop() } else { None };
        match (job.is_some(), phase == WorkerPhase::Running) {
            (true, true) => {}
            (true, false) => {
                state.running += 1;
                state.exits_without_job = 0;
                self.has_taken_job.set(true);
                self.phase.set(WorkerPhase::Running);
            }
            (false, was_running) => {
                state.running -= usize::from(was_running);
                self.phase.set(WorkerPhase::Free);
            }
        }
        if shared.turns.is_some() {
            let is_contended = job.is_some() && state.running > 1;
            state.turn.begin(is_contended);
        }
        let request = state.request_worker();
        shared.note_release_count(&request);
        let room = state.next_for_room(shared.queue_size);
        let wants_more = state.workers < state.min_workers;
        drop(state);
        self.shared.fulfil(request);
        if let Some(room) = room {
            room.unpark();
        }
        if wants_more {
            self.shared.start_min_workers();
        }
        job
    }

    /// Says that the worker has released the lock that jobs run under, and taken it again, between
    /// two jobs: if another has got the turn meanwhile, it keeps it.
    pub fn yielded(&self) {
        self.has_yielded.set(true);
    }

    /// Steps 2 to 4 of [Turns](super::turn).
    fn keeps_its_turn(&self, state: &mut State<J>, young: Duration) -> bool {
        let has_yielded = self.has_yielded.get();
        self.has_yielded.set(false);
        // Without anybody on the way there would be nobody to leave the queue to.
        let is_running = self.phase.get() == WorkerPhase::Running;
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
        self.phase.set(WorkerPhase::Left);
        // Another may come instead, if there is work that this one has left.
        let request = state.request_worker();
        drop(state);
        self.shared.fulfil(request);
        false
    }
}

impl<J: Send + 'static> Worker<J> {
    /// After several workers in a row that took nothing, the next one is unlikely to: it is not requested
    /// at once. Meanwhile this one is still counted, as coming if it was, so that nobody else requests
    /// it either.
    fn back_off(&self) {
        const SHORTEST: Duration = Duration::from_millis(10);
        const DOUBLED: u32 = 4;

        if self.phase.get() == WorkerPhase::Left || self.has_taken_job.get() {
            return;
        }
        let mut state = lock(&self.shared.state);
        state.exits_without_job = state.exits_without_job.saturating_add(1);
        let (before, is_wanted) = (state.exits_without_job - 1, state.queued() > 0);
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
        const FUTILE_EXITS: u32 = 3;

        if self.shared.generation.is_inherited() {
            return;
        }
        self.back_off();
        let mut state = lock(&self.shared.state);
        let phase = self.phase.get();
        if phase != WorkerPhase::Left {
            // The runner gave up early, or unwound: keep the counts true.
            state.workers -= 1;
        }
        match phase {
            WorkerPhase::Coming => state.coming = false,
            WorkerPhase::Running => state.running -= 1,
            WorkerPhase::Idle => {
                let before = state.idle.len();
                state
                    .idle
                    .retain(|sleeper| !Arc::ptr_eq(sleeper, &self.sleeper));
                // Relaxed: written under the same lock.
                if before == state.idle.len() && self.sleeper.woken.load(Relaxed) {
                    state.coming = false; // it was woken in this moment
                }
            }
            WorkerPhase::Free | WorkerPhase::Left => {}
        }
        state.alive -= 1;
        let request =
            if state.lifecycle == Lifecycle::Closed && state.exits_without_job >= FUTILE_EXITS {
                WorkerRequest::None
            } else {
                state.request_worker()
            };
        let joiners = state.joiners_if_gone();
        drop(state);
        self.shared.fulfil(request);
        for joiner in joiners {
            joiner.unpark();
        }
    }
}

impl<J: Send + 'static> fmt::Debug for Worker<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker")
            .field("name", &self.name())
            .field("phase", &self.phase.get())
            .finish_non_exhaustive()
    }
}
