//! Workers, their queue, and how one wakes the other.
//!
//! Owned by an engine. A job goes in at [`Pool::push`]; a worker takes it out. The pool never runs a
//! job and never drops one: what a worker's thread does is the [`Runner`]'s, and a job that nobody will
//! run goes back to the caller.
//!
//! ```text
//! push ──► queue ──► Worker::take ──► Runner
//!            │             ▲
//!            └── request ──┘   wakes an idle worker, or starts one: at most one is coming at a time
//! ```
//!
//! | file         | what it is                                                                      |
//! |--------------|---------------------------------------------------------------------------------|
//! | `queue`      | the queue, its tombstones and their count                                       |
//! | `state`      | what is behind the lock: counters, who sleeps or waits for room and in which order, when a worker is requested |
//! | `shared`     | how a worker is woken or started, and what follows when the system has no thread |
//! | `push`       | how a job comes into the queue, and how a caller waits for room                 |
//! | `worker`     | how a worker waits, takes and leaves; [`Runner`]                                |
//! | `turn`       | which worker goes on where jobs run under an interpreter's lock                 |
//! | `spin`       | who stays awake for a moment                                                    |
//! | `lend`       | the worker that comes in addition while a job waits                             |
//! | `wait_graph` | which pools wait for each other's end                                           |
//!
//! # The baton
//!
//! At most one worker is *coming*: woken or started, and not yet at the queue. A push requests one only
//! if none is; the one that arrives takes a job and, if more are queued, requests the next. So a burst
//! of short jobs costs one wake-up, and a job that blocks delays nobody: the next worker was requested
//! before the job began.
//!
//! Invariant: the queue is not empty ⇒ one is coming, or no worker is idle, and as many exist as may,
//! or as the system has threads for. It is kept because push, take, the idle check and the leaving of
//! a worker all happen under the one lock, and each that ends with a job in the queue ends with a
//! request. Two cases are not covered: with [turns](PoolOptions::turns), a worker may go idle while another
//! is coming, which then requests it; and once the pool is closed, workers that take nothing are not
//! replaced for ever, and what is queued is left to a [`close`](Pool::close) without `drain`.
//!
//! # Urgent jobs
//!
//! They go before all others, and for each that waits the limit is one higher. So one is run at once
//! however busy the workers are, and the worker that was one too many leaves after it.
//!
//! # Shutdown
//!
//! 1. [`close`](Pool::close) refuses further pushes and wakes everyone who sleeps: idle workers,
//!    and callers who wait for room.
//! 2. Workers take what is queued (or `close` has handed it back), find nothing more, and leave.
//! 3. [`join`](Pool::join) sleeps until the last worker is gone.
//!
//! A push during shutdown either got the lock before `close`, and its job is in the queue that step
//! 2 empties, or after, and is refused. There is no third case.
//!
//! # Why one mutex
//!
//! With it the bound, the counts and the wake-ups are exact; lock-free queues were
//! not faster on two cores, see `docs/design/pool.md`. No job runs and nothing is waited for under it, and no job is dropped. It is held for a few dozen
//! instructions, and longer in these cases:
//!
//! - a worker that would be the only one is started under it: a system call;
//! - a batch of jobs is queued under it, one by one, and [`close`](Pool::close) without `drain` empties
//!   the queue;
//! - [`push_for_oldest`](Pool::push_for_oldest) asks its `may_go` about jobs from the oldest on, about
//!   each once in its life, and [`note_tombstone`](Pool::note_tombstone) asks its `is_tombstone` about 16
//!   at most; these are the caller's code, and may take a lock of their own;
//! - a queue that grows moves its jobs, and one that was long and has run empty frees its memory;
//! - a worker whose idle time is up looks for itself among the idle ones.
#![forbid(unsafe_code)]

mod lend;
mod options;
mod push;
mod queue;
mod shared;
mod spin;
mod state;
mod turn;
mod wait_graph;
mod worker;

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use self::lend::{Lender, WorkerContext, worker_of};
use self::shared::Shared;
use self::state::Lifecycle;
use self::wait_graph::JoinEdge;
use crate::error::Error;
use crate::sync::{Parker, Wake, lock};

pub(crate) use self::lend::or_request_again;
pub use self::lend::{Lent, is_any_worker, lend_while_waiting};
pub use self::options::{PoolOptions, default_stack_size};
pub use self::push::Refused;
pub use self::worker::{MANY_LENT, Runner, Worker};

/// Counts at one instant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolCounts {
    /// The most workers at a time.
    pub max_workers: usize,
    /// Workers with a job.
    pub running: usize,
    /// Workers without one, those coming included.
    pub idle: usize,
    /// Jobs in the queue that somebody still wants.
    pub waiting: usize,
}

/// The pool; cheap to share, and usable from every thread.
pub struct Pool<J> {
    shared: Arc<Shared<J>>,
    runner: Arc<dyn Runner<Job = J>>,
}

impl<J: Send + 'static> Pool<J> {
    /// A pool without threads; they come with the first job.
    ///
    /// `options` must be sound: `1 <= max_workers`, `min_workers <= max_workers`.
    pub fn new(options: &PoolOptions, runner: Arc<dyn Runner<Job = J>>) -> Self {
        assert!(
            options.max_workers >= 1 && options.min_workers <= options.max_workers,
            "min_workers {} and max_workers {} make no pool",
            options.min_workers,
            options.max_workers
        );
        let body = {
            let runner = Arc::clone(&runner);
            move |shared: Arc<Shared<J>>, number| {
                let worker = Worker::new(Arc::clone(&shared), number);
                let pool = Self {
                    shared,
                    runner: Arc::clone(&runner),
                };
                let _context = WorkerContext::enter(pool.shared.id(), Arc::new(pool));
                runner.work(&worker);
            }
        };
        Self {
            shared: Arc::new(Shared::new(options, Box::new(body))),
            runner,
        }
    }

    /// Queues `job`, if there is room and the pool is open.
    ///
    /// # Errors
    /// The job comes back with [`Error::QueueFull`], [`Error::Shutdown`], or [`Error::NoThread`].
    pub fn push(&self, job: J) -> Result<(), Refused<J>> {
        self.shared.push_within(job, self.shared.queue_size)
    }

    /// Queues `job` even beyond the bound, if the pool is open.
    ///
    /// # Errors
    /// The job comes back with [`Error::Shutdown`] or [`Error::NoThread`].
    pub fn push_beyond_bound(&self, job: J) -> Result<(), Refused<J>> {
        self.shared.push_within(job, None)
    }

    /// Queues as many of `jobs` as there is room for, in one go, and takes those out of it.
    ///
    /// # Errors
    /// [`Error::Shutdown`] or [`Error::NoThread`]; then it has taken none.
    pub fn push_many(&self, jobs: &mut VecDeque<J>) -> Result<(), Error> {
        self.shared.push_many(jobs)
    }

    /// Queues due jobs in one go, beyond the bound and even while a shutdown lets the queue run
    /// empty: they were accepted when they were posted. Urgent ones go before all others, and do not
    /// wait until a worker is free. What comes back found no worker left.
    pub fn push_due(&self, jobs: Vec<J>, urgent: Vec<J>) -> Vec<J> {
        let queued = |is_coming| self.runner.due(is_coming);
        self.shared.push_due(jobs, urgent, queued)
    }

    /// Queues `job`; where there is no room, in exchange for the oldest job that `may_go`, which comes
    /// back. `may_go` is asked under the lock, and once for each job that may not.
    ///
    /// # Errors
    /// The job comes back with [`Error::QueueFull`] where none may go, [`Error::Shutdown`], or
    /// [`Error::NoThread`].
    pub fn push_for_oldest(
        &self,
        job: J,
        may_go: impl Fn(&J) -> bool,
    ) -> Result<Option<J>, Refused<J>> {
        self.shared.push_for_oldest(job, may_go)
    }

    /// Sleeps until there may be room, or the pool is closed. The caller then tries again, and if a
    /// push that did not wait was faster, comes back with the same `ticket`, `None` at first: those who
    /// wait are woken in the order in which they first came. On a worker of another pool, that pool
    /// lends one meanwhile.
    ///
    /// # Errors
    /// [`Error::Interrupted`] when a signal cut the sleep short and `interrupted` says so.
    pub fn wait_for_room(
        &self,
        ticket: &mut Option<u64>,
        interrupted: &mut dyn FnMut() -> bool,
    ) -> Result<(), Error> {
        self.shared.wait_for_room(ticket, interrupted)
    }

    /// Tells the pool that a job in its queue has become a tombstone. `is_tombstone` finds others; those that
    /// were cleared away come back, for the caller to drop.
    pub fn note_tombstone(&self, is_tombstone: impl Fn(&J) -> bool) -> Vec<J> {
        let mut cleared = Vec::new();
        let mut state = lock(&self.shared.state);
        state.queue.add_tombstone(is_tombstone, &mut cleared);
        let room = state.next_for_room(self.shared.queue_size);
        drop(state);
        if let Some(room) = room {
            room.unpark();
        }
        cleared
    }

    /// Tells the pool that a tombstone has left its queue.
    pub fn forget_tombstone(&self) {
        lock(&self.shared.state).queue.forget_tombstone();
    }

    /// Adds one worker for as long as the answer lives: for a job that waits for another job.
    pub fn lend(&self) -> Lent {
        Lent::of(Arc::new(self.clone()))
    }

    /// Changes the most workers at a time, at once for new ones; a worker beyond the new limit
    /// leaves after its job.
    pub fn resize(&self, max_workers: usize) {
        assert!(max_workers >= 1, "a pool needs a worker");
        let mut state = lock(&self.shared.state);
        state.max_workers = max_workers;
        state.min_workers = state.min_workers.min(max_workers);
        let request = state.request_worker();
        let idle = if state.workers > state.limit() {
            std::mem::take(&mut state.idle)
        } else {
            Vec::new()
        };
        let room = state.next_for_room(self.shared.queue_size);
        drop(state);
        self.shared.fulfil(request);
        for sleeper in idle {
            sleeper.parker.unpark(); // it looks, and stays or leaves
        }
        if let Some(room) = room {
            room.unpark();
        }
    }

    /// Starts the workers that stay when idle, without a job for them.
    pub fn start_min_workers(&self) {
        self.shared.start_min_workers();
    }

    /// Tells the runner that nothing will be run any more; see [`Runner::finished`].
    pub fn finished(&self) {
        self.runner.finished();
    }

    /// Lets all idle workers but `kept` leave at once, whatever `min_workers` and `idle_timeout` say:
    /// nobody pushes any more, but for what was accepted before.
    pub fn release_workers(&self, kept: usize) {
        let mut state = lock(&self.shared.state);
        state.min_workers = 0;
        state.max_idle = kept;
        let idle = std::mem::take(&mut state.idle);
        drop(state);
        for sleeper in idle {
            sleeper.parker.unpark();
        }
    }

    /// Refuses further pushes, but goes on to take due jobs, and keeps the workers for them. With
    /// `drain` the queue is worked off; otherwise what is in it comes back. To be followed by
    /// [`close`](Self::close).
    pub fn refuse(&self, drain: bool) -> Vec<J> {
        let mut state = lock(&self.shared.state);
        if state.lifecycle == Lifecycle::Open {
            state.lifecycle = Lifecycle::Refusing;
        }
        let left = if drain { Vec::new() } else { state.take_all() };
        let room = std::mem::take(&mut state.room);
        drop(state);
        for (_, caller) in room {
            caller.unpark();
        }
        left
    }

    /// Refuses further pushes. With `drain` the queue is still worked off; otherwise what is in it
    /// comes back. May be called again, to stop draining.
    pub fn close(&self, drain: bool) -> Vec<J> {
        let mut state = lock(&self.shared.state);
        state.lifecycle = Lifecycle::Closed;
        let left = if drain { Vec::new() } else { state.take_all() };
        // A queue that is drained needs a worker even where none could be started before.
        let request = state.request_worker();
        let idle = std::mem::take(&mut state.idle);
        let room = std::mem::take(&mut state.room);
        drop(state);
        self.shared.fulfil(request);
        for sleeper in idle {
            sleeper.parker.unpark();
        }
        for (_, caller) in room {
            caller.unpark();
        }
        left
    }

    /// Whether [`close`](Self::close) was called.
    pub fn is_closed(&self) -> bool {
        lock(&self.shared.state).lifecycle == Lifecycle::Closed
    }

    /// Sleeps until every worker thread has ended its work; the pool must be closed. On a worker of
    /// another pool, that pool lends one meanwhile. It does not wait where the other pool's end is
    /// waited for by a worker of this one, in whatever roundabout way: the two would wait for ever.
    ///
    /// # Errors
    /// [`Error::TimedOut`] when `deadline` passes first, [`Error::Interrupted`].
    pub fn join(
        &self,
        deadline: Option<Instant>,
        interrupted: &mut dyn FnMut() -> bool,
    ) -> Result<(), Error> {
        let Some(_edge) = JoinEdge::add(worker_of(), self.shared.id()) else {
            return Ok(());
        };
        let parker = Arc::new(Parker::new());
        {
            let mut state = lock(&self.shared.state);
            if state.alive == 0 {
                return Ok(());
            }
            state.joiners.push(Arc::clone(&parker));
        }
        self.shared.retry_start(false);
        let lent = lend_while_waiting();
        let waited = parker.wait(
            deadline,
            &mut self.shared.or_retry_start(lent.as_ref(), interrupted),
        );
        if waited.is_err() {
            lock(&self.shared.state)
                .joiners
                .retain(|other| !Arc::ptr_eq(other, &parker));
        }
        waited
    }

    /// The counts at this instant.
    pub fn counts(&self) -> PoolCounts {
        let state = lock(&self.shared.state);
        PoolCounts {
            max_workers: state.max_workers,
            running: state.running,
            idle: state.workers - state.running,
            waiting: state.queue.live(),
        }
    }

    /// Whether no job is queued, and no worker has one or is about to.
    pub fn is_quiet(&self) -> bool {
        let state = lock(&self.shared.state);
        state.queued() == 0 && state.running == 0 && !state.coming
    }

    /// Has the next starts of workers refused, as by a system that has no thread to give.
    #[cfg(test)]
    pub(crate) fn refuse_starts(&self, count: usize) {
        self.shared
            .refusals
            .store(count, std::sync::atomic::Ordering::Relaxed);
    }

    /// What its workers are called, but for their numbers.
    pub fn name(&self) -> &str {
        &self.shared.thread_name
    }

    /// How long a wait for a job of this pool is to stay awake. The caller has released the lock
    /// that jobs run under.
    pub(crate) fn before_wait(&self) -> Duration {
        self.shared.spin.before_wait()
    }

    /// Whether the calling thread is one of this pool's workers.
    pub fn is_worker(&self) -> bool {
        // In a forked child the mark may be there, but the pool it names is not.
        worker_of() == self.shared.id() && !self.shared.generation.is_inherited()
    }

    /// Registers who is told when the system refuses a thread and no worker is there instead, to
    /// [try again](Self::retry_start) from time to time.
    pub fn tell_of_refusals(&self, who: Weak<dyn Wake>) {
        self.shared.tell_of_refusals(who);
    }

    /// Requests once more the worker for which the system had no thread. `true`: it has none yet.
    /// `is_told`: the caller is the one who is told of refusals, and need not be told of this one.
    pub fn retry_start(&self, is_told: bool) -> bool {
        self.shared.retry_start(is_told)
    }

    /// The question of a wait for something of this pool: first it asks again for workers, this pool's
    /// and the one that is lent to another's.
    pub(crate) fn or_retry_start<'a>(
        &'a self,
        lent: Option<&'a Lent>,
        interrupted: &'a mut dyn FnMut() -> bool,
    ) -> impl FnMut() -> bool {
        self.shared.or_retry_start(lent, interrupted)
    }
}

impl<J> Clone for Pool<J> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            runner: Arc::clone(&self.runner),
        }
    }
}

impl<J> fmt::Debug for Pool<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = lock(&self.shared.state);
        f.debug_struct("Pool")
            .field("queued", &state.queued())
            .field("tombstones", &state.queue.tombstones())
            .field("idle", &state.idle.len())
            .field("workers", &state.workers)
            .field("alive", &state.alive)
            .field("running", &state.running)
            .field("coming", &state.coming)
            .field("max_workers", &state.max_workers)
            .field("lent", &state.lent)
            .field("room", &state.room.len())
            .field("open", &(state.lifecycle != Lifecycle::Closed))
            .finish_non_exhaustive()
    }
}

impl<J: Send + 'static> Lender for Pool<J> {
    fn lend_one(&self) {
        let mut state = lock(&self.shared.state);
        state.lent += 1;
        let is_many = state.lent > MANY_LENT && !state.lending_reported;
        state.lending_reported |= is_many;
        let lent = state.lent;
        let request = state.request_worker();
        let room = state.next_for_room(self.shared.queue_size);
        drop(state);
        // Without a thread to lend, whoever waits asks again.
        self.shared.fulfil(request);
        if let Some(room) = room {
            room.unpark();
        }
        if is_many {
            self.runner.lends_many(lent);
        }
    }

    fn take_one_back(&self) {
        lock(&self.shared.state).lent -= 1;
    }

    fn request_again(&self) {
        let request = lock(&self.shared.state).request_worker();
        self.shared.fulfil(request);
    }

    fn is_inherited(&self) -> bool {
        self.shared.generation.is_inherited()
    }
}

#[cfg(all(test, not(loom)))]
mod tests;

/// Run with `RUSTFLAGS="--cfg loom" cargo test --release --lib loom`.
#[cfg(all(test, loom))]
mod loom_tests;
