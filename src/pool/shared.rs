//! What a pool's handles and its workers share, and how a worker is woken or started.
//!
//! Owned by the [`Pool`](super::Pool) and its workers together. It decides when a thread is started, and
//! never what the thread does: that is the body it was made with. It takes no job out of the queue.
//!
//! # When the system has no thread to give
//!
//! A worker is counted as coming before it has a thread, so that nobody requests another meanwhile.
//! If the thread is refused:
//!
//! 1. Where it would have been the only worker, it was started under the lock, so what the caller
//!    has brought is still last in the queue, and goes back to the caller.
//! 2. Where there are others, the caller's job has been accepted. The start is undone (the drop of
//!    [`PendingStart`]), and an idle worker is woken instead.
//! 3. Where none is idle, the next worker that ends its job takes what is queued, and tries again to
//!    start another. So does each later push; so does, twice a second, everybody who waits for a job
//!    of this pool, for its end, or for room in it; and so does the timer thread every 10 ms, if
//!    there is one, which is [told](Shared::tell_of_refusals). Where there is no timer thread, nobody
//!    waits, and every worker is busy, what is queued has to wait for a worker.
//!
//! The race of step 2: between the count and the refusal a worker goes idle, for one is coming, and
//! a second push requests nobody, for the same reason.
#![forbid(unsafe_code)]

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use super::options::PoolOptions;
use super::spin::Spin;
use super::state::{Lifecycle, State, WorkerRequest};
use crate::error::Error;
use crate::fork::ForkGeneration;
use crate::sync::{Mutex, Wake, lock, thread};

/// What a new thread does: it is worker number so and so.
pub(super) type Body<J> = Box<dyn Fn(Arc<Shared<J>>, u64) + Send + Sync>;

pub(super) struct Shared<J> {
    pub(super) generation: ForkGeneration,
    pub(super) state: Mutex<State<J>>,
    pub(super) idle_timeout: Duration,
    pub(super) queue_size: Option<usize>,
    pub(super) thread_name: String,
    pub(super) stack_size: Option<usize>,
    pub(super) turns: Option<Duration>,
    pub(super) spin: Spin,
    /// The system has refused a thread that is still wanted, and nobody has been found instead. Written
    /// under the lock; read without, hence atomic, as a hint.
    lacks_thread: AtomicBool,
    /// Who is told when that comes to be.
    on_refusal: OnceLock<Weak<dyn Wake>>,
    body: Body<J>,
    /// So many starts are refused, as a system without threads would.
    #[cfg(test)]
    pub(super) refusals: std::sync::atomic::AtomicUsize,
}

impl<J: Send + 'static> Shared<J> {
    pub(super) fn new(options: &PoolOptions, body: Body<J>) -> Self {
        Self {
            generation: ForkGeneration::current(),
            state: Mutex::new(State::new(options.max_workers, options.min_workers)),
            idle_timeout: options.idle_timeout,
            queue_size: options.queue_size,
            thread_name: options.thread_name.clone(),
            stack_size: options.stack_size,
            turns: options.turns,
            spin: Spin::new(),
            lacks_thread: AtomicBool::new(false),
            on_refusal: OnceLock::new(),
            body,
            #[cfg(test)]
            refusals: std::sync::atomic::AtomicUsize::new(0),
        }
    }

    /// Starts a worker that is to be the only one, for a caller that brings jobs. It is started under the
    /// lock: if the system refuses, those jobs are still the last in the queue, and go back to the
    /// caller. Any other request is left to be fulfilled.
    pub(super) fn start_first(
        self: &Arc<Self>,
        state: &mut State<J>,
        request: WorkerRequest,
    ) -> Result<WorkerRequest, Error> {
        match request {
            WorkerRequest::Start(number) if state.workers == 1 => {
                self.spawn(number).map_err(|reason| {
                    state.undo_start();
                    Error::NoThread { reason }
                })?;
                Ok(WorkerRequest::None)
            }
            request => Ok(request),
        }
    }

    /// Wakes or starts the worker that was requested. To be called without the lock. `false`: a thread
    /// was needed, and the system refused it; see [step 2](self#when-the-system-has-no-thread-to-give).
    pub(super) fn fulfil(self: &Arc<Self>, request: WorkerRequest) -> bool {
        match request {
            WorkerRequest::None => true,
            WorkerRequest::Wake(sleeper) => {
                let was_asleep = sleeper.parker.unpark();
                self.spin.met(was_asleep);
                true
            }
            WorkerRequest::Start(number) => self.start_worker(number, true),
        }
    }

    fn start_worker(self: &Arc<Self>, number: u64, tells: bool) -> bool {
        let shared = self;
        PendingStart {
            shared,
            number,
            tells,
        }
        .start()
        .is_ok()
    }

    /// Starts the workers that stay when idle, without a job for them.
    pub(super) fn start_min_workers(self: &Arc<Self>) {
        loop {
            let mut state = lock(&self.state);
            if state.lifecycle == Lifecycle::Closed
                || state.workers >= state.min_workers
                || state.coming
            {
                return; // the one that comes calls again
            }
            let request = state.start();
            drop(state);
            if !self.fulfil(request) {
                return;
            }
        }
    }

    /// Registers who is told when the system refuses a thread and no worker is there instead, to
    /// [try again](Self::retry_start) from time to time.
    pub(super) fn tell_of_refusals(&self, who: Weak<dyn Wake>) {
        let is_first = self.on_refusal.set(who).is_ok();
        debug_assert!(is_first, "one is told");
    }

    /// Requests once more the worker for which the system had no thread. `true`: it has none yet.
    /// `is_told`: the caller is the one who is told of refusals, and need not be told of this one.
    pub(super) fn retry_start(self: &Arc<Self>, is_told: bool) -> bool {
        // Relaxed: a hint, and whoever sets it tells of it.
        if !self.lacks_thread.load(Relaxed) {
            return false;
        }
        let mut state = lock(&self.state);
        // A worker that is coming will request the next, and finds out if that is refused.
        self.lacks_thread.store(false, Relaxed);
        let request = state.request_worker();
        drop(state);
        match request {
            WorkerRequest::Start(number) => !self.start_worker(number, !is_told),
            request => !self.fulfil(request),
        }
    }

    fn spawn(self: &Arc<Self>, number: u64) -> Result<(), String> {
        #[cfg(test)]
        {
            let left = self.refusals.load(Relaxed);
            if left > 0 {
                self.refusals.store(left - 1, Relaxed);
                // The system takes its time to refuse.
                thread::yield_now();
                return Err("the test has none".to_owned());
            }
        }
        let shared = Arc::clone(self);
        let mut builder = thread::Builder::new().name(self.worker_name(number));
        if let Some(stack_size) = self.stack_size {
            builder = builder.stack_size(stack_size);
        }
        // The worker is made on its thread: where there is none, there is no worker to be dropped.
        builder
            .spawn(move || (shared.body)(Arc::clone(&shared), number))
            .map(drop)
            .map_err(|error| error.to_string())
    }
}

impl<J> Shared<J> {
    /// What tells this pool from others as long as it exists.
    pub(super) fn id(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    pub(super) fn worker_name(&self, number: u64) -> String {
        format!("{}-{number}", self.thread_name)
    }

    /// Step 1 of [the hold-off](super::spin#the-hold-off), for a request by a thread that holds the
    /// lock that jobs run under.
    pub(super) fn note_release_count(&self, request: &WorkerRequest) {
        if let WorkerRequest::Wake(sleeper) = request
            && self.turns.is_some()
        {
            // Relaxed, as everywhere in spinning: a hint.
            let noted = self.spin.release_count();
            sleeper.noted_releases.store(noted, Relaxed);
        }
    }
}

/// A worker that is counted as coming, and has no thread yet.
///
/// Dropped, its start is undone, and an idle worker is woken instead; see [step
/// 2](self#when-the-system-has-no-thread-to-give).
#[must_use = "a worker that is counted as coming must be started"]
struct PendingStart<'a, J: Send + 'static> {
    shared: &'a Arc<Shared<J>>,
    number: u64,
    /// Whether a refusal is told of. Not where the caller is the one who would be told.
    tells: bool,
}

impl<J: Send + 'static> PendingStart<'_, J> {
    /// Gives it a thread, whose worker answers for the count from then on.
    fn start(self) -> Result<(), String> {
        self.shared.spawn(self.number)?;
        std::mem::forget(self);
        Ok(())
    }
}

impl<J: Send + 'static> Drop for PendingStart<'_, J> {
    fn drop(&mut self) {
        let shared = self.shared;
        let mut state = lock(&shared.state);
        state.undo_start();
        let instead = state.request_idle();
        let lacks_thread = instead.is_none() && state.queued() > 0;
        if lacks_thread {
            shared.lacks_thread.store(true, Relaxed);
        }
        let joiners = state.joiners_if_gone();
        drop(state);
        if lacks_thread
            && self.tells
            && let Some(who) = shared.on_refusal.get().and_then(Weak::upgrade)
        {
            who.wake();
        }
        if let Some(sleeper) = instead {
            sleeper.parker.unpark();
        }
        for joiner in joiners {
            joiner.unpark();
        }
    }
}
