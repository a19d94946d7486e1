//! Workers, their queue, and how one wakes the other.
//!
//! Owned by an engine. A job goes in at [`Pool::push`]; a worker takes it out. The pool never
//! runs a job, never drops one and never looks into one: a worker's life is in the hands of the
//! [`Runner`], and a job that nobody will run goes back to the caller.
//!
//! ```text
//! push ──► queue ──► Worker::take ──► Runner
//!            │             ▲
//!            └─ summon ────┘   wakes an idle worker, or starts one: at most one is coming at a time
//! ```
//!
//! # Worker states
//!
//! | state   | counted in           | leaves it by                                | to            |
//! |---------|----------------------|---------------------------------------------|---------------|
//! | coming  | `workers`, `coming`  | its first `take`                            | running, free |
//! |         |                      | a thread that the system refuses            | nothing       |
//! | running | `workers`, `running` | a `take` that finds nothing for it          | free          |
//! | free    | `workers`            | a `wait` that finds the queue not empty     | coming        |
//! |         |                      | a `wait` that finds nothing to do           | idle, left    |
//! | idle    | `workers`, `idle`    | a summons                                   | coming        |
//! |         |                      | the idle timeout, a shutdown                | free, left    |
//! | left    | `alive` only         | the end of its thread                       | nothing       |
//!
//! From each of them a runner that gives up, or unwinds, takes its worker straight to the end; see
//! [`Worker`]'s drop.
//!
//! # The baton
//!
//! At most one worker is *coming*: summoned, and not yet at the queue. A push summons one only if
//! none is; the one that arrives takes a job and, if more are queued, summons the next. So a burst
//! of short jobs costs one wake-up, and a job that blocks costs nothing: the next worker has been
//! sent for before the job began.
//!
//! Invariant: the queue is not empty ⇒ one is coming, or no worker is idle, and as many exist as may,
//! or as the system has threads for. It is kept because push, take, the idle check and the leaving of
//! a worker all happen under the one lock, and each that ends with a job in the queue ends with a
//! summons.
//!
//! # When the system has no thread to give
//!
//! A worker is counted as coming before it has a thread, so that nobody sends for another meanwhile.
//! If the thread is refused:
//!
//! 1. Where it would have been the only worker, it was started under the lock, so what the caller
//!    has brought is still last in the queue, and goes back to him.
//! 2. Where there are others, the caller's job has been accepted. The worker that was coming is taken
//!    back (the drop of `Coming`), and an idle one is sent in its place.
//! 3. Where none is idle, the next worker that ends its job takes what is queued, and tries again to
//!    start another; so does each later push, twice a second everybody who waits for a job or the end of
//!    this pool, or for room in it, and every 10 ms the timer thread, if there is one, which is
//!    [told](Pool::tell_of_refusals). Where there is none, nobody waits, and every worker is busy, what is
//!    queued has to wait for a worker.
//!
//! The race of step 2: between the count and the refusal a worker goes idle, for one is coming, and
//! a second push sends for nobody, for the same reason.
//!
//! # Turns
//!
//! Under an interpreter's lock only one worker at a time gets anywhere. When a job lets go of the
//! lock by itself, to sleep or to read, the next worker should have it; when a job is only made to
//! give it up, to be fair to other threads, one worker more is one thread more that contends for it,
//! and soon all of them do, against each other and against the rest of the program. The pool cannot
//! see which it was, but it can tell afterwards:
//!
//! 1. The worker that arrives has the turn from then on.
//! 2. One that comes back from a job and still has the turn goes on.
//! 3. One that finds that another has got it goes on, and takes it back, if the other's job is
//!    young: it cannot have been made to give up the lock yet, so it let go of it by itself.
//!    Otherwise it goes idle, and leaves the queue to those who have the turn and are coming.
//!
//! 4. One that has let go of the lock between two jobs, to be fair, never takes the turn back.
//!
//! So no more than two contend for the lock: the one whose turn it is and the one that is coming,
//! besides those whose jobs are cut short, each until the end of its job.
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
//! 3. [`join`](Pool::join) sleeps until the last thread is gone.
//!
//! A push during shutdown either got the lock before `close`, and its job is in the queue that step
//! 2 empties, or after, and is refused. There is no third case.
//!
//! # Why one mutex
//!
//! Measured against lock-free queues on two cores it is equal or better, and with it the bound, the
//! counts and the wake-ups are exact. It is a leaf lock: never held while a job, a caller's code or a
//! wait runs, and as a rule for a few dozen instructions. The exceptions, each bounded:
//!
//! - a worker that would be the only one is started under it, 10 to 50 µs;
//! - a worker whose idle time is up looks for itself among the idle ones;
//! - a queue that was long and has run empty gives its memory back;
//! - [`close`](Pool::close) without `drain` empties the queue.
#![forbid(unsafe_code)]
mod joining;
mod lend;
mod queue;
mod spin;
mod state;
mod turn;
mod worker;

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use self::joining::Joining;
use self::lend::{Lender, worker_of};
use self::queue::Queue;
use self::spin::Spin;
use self::state::{Life, State, Summons};
use self::turn::Turn;
use crate::error::Error;
use crate::fork::ForkGeneration;
use crate::sync::{Mutex, MutexGuard, Parker, Wake, lock};

pub(crate) use self::lend::or_summon;
pub use self::lend::{Lent, is_any_worker, lend_while_waiting};
pub use self::worker::{MANY_LENT, Runner, Worker};

/// How a pool is to be built.
#[derive(Clone, Debug)]
pub struct PoolOptions {
    /// The most workers at a time; at least 1.
    pub max_workers: usize,
    /// Workers that stay when idle; at most `max_workers`.
    pub min_workers: usize,
    /// How long a worker beyond `min_workers` stays idle before it leaves.
    pub idle_timeout: Duration,
    /// The most jobs that wait for a worker, those not counted that a free worker is about to take;
    /// `None` for no bound.
    pub queue_size: Option<usize>,
    /// Workers are called this, a dash and a number.
    pub thread_name: String,
    /// The stack of a worker's thread, in bytes; `None` for what Rust's threads have, 2 MiB.
    pub stack_size: Option<usize>,
    /// `Some` if jobs run under a lock that one thread at a time can hold, such as an interpreter's;
    /// see [Turns](self#turns). The duration is a little less than the shortest time after which a
    /// thread is made to give that lock up.
    pub turns: Option<Duration>,
}

impl Default for PoolOptions {
    fn default() -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            max_workers: 32.min(cpus + 4),
            min_workers: 0,
            idle_timeout: Duration::from_secs(10),
            queue_size: None,
            thread_name: "asynctask".to_owned(),
            stack_size: None,
            turns: None,
        }
    }
}

/// The stack that the system gives to a thread which asks for none, and to those of C programs and of
/// Python: what `ulimit -s` says, where that is heeded.
pub fn default_stack_size() -> usize {
    /// Where there is no limit, or none that threads heed: what Linux's usually is.
    const USUAL: usize = 8 << 20;
    /// Less than this no thread can be started with.
    const LEAST: usize = 32 << 10;

    #[cfg(target_os = "linux")]
    let limit = rustix::process::getrlimit(rustix::process::Resource::Stack)
        .current
        .and_then(|limit| usize::try_from(limit).ok());
    #[cfg(not(target_os = "linux"))]
    let limit = None::<usize>;
    limit.map_or(USUAL, |limit| limit.max(LEAST))
}

/// Why a job came back, and the job.
#[derive(Debug)]
pub struct Refused<J> {
    /// The job, untouched.
    pub job: J,
    /// [`Error::QueueFull`], [`Error::Shutdown`] or [`Error::NoThread`].
    pub error: Error,
}

/// Counts at one instant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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

struct Shared<J> {
    generation: ForkGeneration,
    state: Mutex<State<J>>,
    idle_timeout: Duration,
    queue_size: Option<usize>,
    thread_name: String,
    stack_size: Option<usize>,
    turns: Option<Duration>,
    spin: Spin,
    /// The system has refused a thread that is still wanted, and nobody has been found instead. Written
    /// under the lock; read without, hence atomic, as a hint.
    is_short: AtomicBool,
    /// Who is told when that comes to be.
    on_refusal: OnceLock<Weak<dyn Wake>>,
    /// So many starts are refused, as a system without threads would.
    #[cfg(test)]
    refusals: std::sync::atomic::AtomicUsize,
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
        let state = State {
            queue: Queue::new(),
            urgent: VecDeque::new(),
            idle: Vec::new(),
            workers: 0,
            alive: 0,
            running: 0,
            coming: false,
            max_workers: options.max_workers,
            min_workers: options.min_workers,
            idle_kept: usize::MAX,
            lent: 0,
            told_of_many: false,
            fruitless: 0,
            life: Life::Open,
            started: 0,
            turn: Turn::default(),
            room: VecDeque::new(),
            came_for_room: 0,
            joiners: Vec::new(),
        };
        let shared = Shared {
            generation: ForkGeneration::current(),
            state: Mutex::new(state),
            idle_timeout: options.idle_timeout,
            queue_size: options.queue_size,
            thread_name: options.thread_name.clone(),
            stack_size: options.stack_size,
            turns: options.turns,
            spin: Spin::new(),
            is_short: AtomicBool::new(false),
            on_refusal: OnceLock::new(),
            #[cfg(test)]
            refusals: std::sync::atomic::AtomicUsize::new(0),
        };
        Self {
            shared: Arc::new(shared),
            runner,
        }
    }

    /// Queues `job`, if there is room and the pool is open.
    ///
    /// # Errors
    /// The job comes back with [`Error::QueueFull`], [`Error::Shutdown`], or [`Error::NoThread`].
    pub fn push(&self, job: J) -> Result<(), Refused<J>> {
        self.push_within(job, self.shared.queue_size)
    }

    /// Queues `job` even beyond the bound, if the pool is open.
    ///
    /// # Errors
    /// The job comes back with [`Error::Shutdown`] or [`Error::NoThread`].
    pub fn push_beyond_bound(&self, job: J) -> Result<(), Refused<J>> {
        self.push_within(job, None)
    }

    fn push_within(&self, job: J, queue_size: Option<usize>) -> Result<(), Refused<J>> {
        let mut state = lock(&self.shared.state);
        if state.life != Life::Open {
            return Err(Refused {
                job,
                error: Error::Shutdown,
            });
        }
        if state.is_full(queue_size) {
            return Err(Refused {
                job,
                error: Error::QueueFull,
            });
        }
        state.queue.push(job);
        self.summon_for(state).map_err(|(mut state, error)| {
            let job = state.queue.take_last(1).pop();
            let job = job.expect("it was pushed a moment ago, under the same lock");
            Refused { job, error }
        })
    }

    /// Queues as many of `jobs` as there is room for, in one go, and takes those out of it.
    ///
    /// # Errors
    /// [`Error::Shutdown`] or [`Error::NoThread`]; then it has taken none.
    pub fn push_many(&self, jobs: &mut VecDeque<J>) -> Result<(), Error> {
        let mut state = lock(&self.shared.state);
        if state.life != Life::Open {
            return Err(Error::Shutdown);
        }
        let before = jobs.len();
        while !state.is_full(self.shared.queue_size)
            && let Some(job) = jobs.pop_front()
        {
            state.queue.push(job);
        }
        self.summon_for(state).map_err(|(mut state, error)| {
            for job in state.queue.take_last(before - jobs.len()).into_iter().rev() {
                jobs.push_front(job);
            }
            error
        })
    }

    /// Sends for a worker to what a thread has queued that holds the lock which jobs run under. Where
    /// there is none to be had, the state comes back as it was, still locked.
    #[inline]
    fn summon_for<'a>(
        &self,
        mut state: MutexGuard<'a, State<J>>,
    ) -> Result<(), (MutexGuard<'a, State<J>>, Error)> {
        match state.summon() {
            Summons::None => Ok(()),
            summons => self.send_for(state, summons),
        }
    }

    /// The rest of it, for who must be told: most pushes of a burst find that a worker is coming.
    #[inline(never)]
    fn send_for<'a>(
        &self,
        mut state: MutexGuard<'a, State<J>>,
        summons: Summons,
    ) -> Result<(), (MutexGuard<'a, State<J>>, Error)> {
        self.shared.note_held(&summons);
        match self.start_first(&mut state, summons) {
            Ok(summons) => {
                drop(state);
                self.send(summons);
                Ok(())
            }
            Err(error) => Err((state, error)),
        }
    }

    /// Queues due jobs in one go, beyond the bound and even while a shutdown lets the queue run
    /// empty: they were accepted when they were posted. Urgent ones go before all others, and do not
    /// wait until a worker is free. What comes back found no worker left.
    pub fn push_due(&self, jobs: Vec<J>, urgent: Vec<J>) -> Vec<J> {
        let mut state = lock(&self.shared.state);
        if state.life == Life::Closed && state.workers == 0 {
            return urgent.into_iter().chain(jobs).collect();
        }
        let (many, many_urgent) = (jobs.len(), urgent.len());
        for job in jobs {
            state.queue.push(job);
        }
        state.urgent.extend(urgent);
        let summons = state.summon();
        let is_coming = state.coming;
        if let Ok(summons) = self.start_first(&mut state, summons) {
            drop(state);
            self.runner.due(is_coming); // first: the lock is free by the time the worker is awake
            self.send(summons);
            return Vec::new();
        }
        // What this call has brought, and no more: what else is queued was accepted here, and its
        // husks are counted here.
        let mut back = state.take_last_urgent(many_urgent);
        back.extend(state.queue.take_last(many));
        back
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
        let mut state = lock(&self.shared.state);
        let refused = |job, error| Err(Refused { job, error });
        if state.life != Life::Open {
            return refused(job, Error::Shutdown);
        }
        let mut oldest = None;
        if state.is_full(self.shared.queue_size) {
            oldest = state.queue.pop_oldest(may_go);
            if oldest.is_none() {
                return refused(job, Error::QueueFull);
            }
        }
        state.queue.push(job);
        match self.summon_for(state) {
            Ok(()) => Ok(oldest),
            Err((mut state, error)) => {
                let job = state.queue.take_last(1).pop();
                if let Some(oldest) = oldest {
                    state.queue.sifted.push_front(oldest);
                    state.queue.kept = 0;
                }
                refused(
                    job.expect("it was pushed a moment ago, under the same lock"),
                    error,
                )
            }
        }
    }

    /// Sleeps until there may be room, or the pool is closed. The caller then tries again, and if a
    /// push that did not wait was faster, comes back with the same `place`, `None` at first: those who
    /// wait are woken in the order in which they first came. On a worker of another pool, that pool
    /// lends one meanwhile.
    ///
    /// # Errors
    /// [`Error::Interrupted`] when a signal cut the sleep short and `interrupted` says so.
    pub fn wait_for_room(
        &self,
        place: &mut Option<u64>,
        interrupted: &mut dyn FnMut() -> bool,
    ) -> Result<(), Error> {
        let parker = Arc::new(Parker::new());
        {
            let mut state = lock(&self.shared.state);
            if state.life != Life::Open || !state.is_full(self.shared.queue_size) {
                return Ok(());
            }
            state.queue_for_room(place, Arc::clone(&parker));
        }
        let lent = lend_while_waiting();
        let waited = parker.wait(None, &mut self.or_ask_again(lent.as_ref(), interrupted));
        drop(lent);
        if waited.is_err() {
            let mut state = lock(&self.shared.state);
            let before = state.room.len();
            state.room.retain(|(_, other)| !Arc::ptr_eq(other, &parker));
            // The wake-up that came meanwhile was meant for somebody who wants it.
            let next = (before == state.room.len())
                .then(|| state.wake_one_for_room(self.shared.queue_size))
                .flatten();
            drop(state);
            if let Some(next) = next {
                next.unpark();
            }
        }
        waited
    }

    /// Tells the pool that a job in its queue has become a husk. `is_husk` finds others; those that
    /// were cleared away come back, for the caller to drop.
    pub fn note_husk(&self, is_husk: impl Fn(&J) -> bool) -> Vec<J> {
        let mut cleared = Vec::new();
        let mut state = lock(&self.shared.state);
        state.queue.husks += 1;
        state.queue.sift(is_husk, &mut cleared);
        let room = state.wake_one_for_room(self.shared.queue_size);
        drop(state);
        if let Some(room) = room {
            room.unpark();
        }
        cleared
    }

    /// Tells the pool that a husk has left its queue.
    pub fn forget_husk(&self) {
        lock(&self.shared.state).queue.husks -= 1;
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
        let summons = state.summon();
        let idle = if state.workers > state.limit() {
            std::mem::take(&mut state.idle)
        } else {
            Vec::new()
        };
        let room = state.wake_one_for_room(self.shared.queue_size);
        drop(state);
        self.send(summons);
        for seat in idle {
            seat.parker.unpark(); // it looks, and stays or leaves
        }
        if let Some(room) = room {
            room.unpark();
        }
    }

    /// Starts the workers that stay when idle, without a job for them.
    pub fn start_min_workers(&self) {
        loop {
            let mut state = lock(&self.shared.state);
            if state.life == Life::Closed || state.workers >= state.min_workers || state.coming {
                return; // the one that comes calls again
            }
            let summons = state.start();
            drop(state);
            if !self.send(summons) {
                return;
            }
        }
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
        state.idle_kept = kept;
        let idle = std::mem::take(&mut state.idle);
        drop(state);
        for seat in idle {
            seat.parker.unpark();
        }
    }

    /// Refuses further pushes, but goes on to take due jobs, and keeps the workers for them. With
    /// `drain` the queue is worked off; otherwise what is in it comes back. To be followed by
    /// [`close`](Self::close).
    pub fn refuse(&self, drain: bool) -> Vec<J> {
        let mut state = lock(&self.shared.state);
        if state.life == Life::Open {
            state.life = Life::Refusing;
        }
        let left = if drain {
            Vec::new()
        } else {
            state.queue.husks = 0;
            state.take_all()
        };
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
        state.life = Life::Closed;
        let left = if drain {
            Vec::new()
        } else {
            state.queue.husks = 0;
            state.take_all()
        };
        // A queue that is drained needs a worker even where none could be started before.
        let summons = state.summon();
        let idle = std::mem::take(&mut state.idle);
        let room = std::mem::take(&mut state.room);
        drop(state);
        self.send(summons);
        for seat in idle {
            seat.parker.unpark();
        }
        for (_, caller) in room {
            caller.unpark();
        }
        left
    }

    /// Whether [`close`](Self::close) was called.
    pub fn is_closed(&self) -> bool {
        lock(&self.shared.state).life == Life::Closed
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
        let Some(_joining) = Joining::begin(worker_of(), self.id()) else {
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
        self.ask_again(false);
        let lent = lend_while_waiting();
        let waited = parker.wait(deadline, &mut self.or_ask_again(lent.as_ref(), interrupted));
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

    /// How long a wait for a job of this pool is to stay awake. The caller has let go of the lock
    /// that jobs run under.
    pub(crate) fn before_wait(&self) -> Duration {
        self.shared.spin.before_wait()
    }

    /// Whether the calling thread is one of this pool's workers.
    pub fn is_worker(&self) -> bool {
        // In a forked child the mark may be there, but the pool it names is not.
        worker_of() == self.id() && !self.shared.generation.is_inherited()
    }

    fn id(&self) -> usize {
        Arc::as_ptr(&self.shared) as usize
    }

    /// Has `who` told when the system refuses a thread and nobody is there instead, to
    /// [ask again](Self::ask_again) from time to time.
    pub fn tell_of_refusals(&self, who: Weak<dyn Wake>) {
        let is_first = self.shared.on_refusal.set(who).is_ok();
        debug_assert!(is_first, "one is told");
    }

    /// Sends once more for a worker for which the system had no thread. `true`: it has none yet.
    /// `is_told`: by the one who is told of refusals, and need not be told of this one.
    pub fn ask_again(&self, is_told: bool) -> bool {
        // Relaxed: a hint, and whoever sets it tells of it.
        if !self.shared.is_short.load(Relaxed) {
            return false;
        }
        let mut state = lock(&self.shared.state);
        // A worker that is coming will send for the next, and finds out if that is refused.
        self.shared.is_short.store(false, Relaxed);
        let summons = state.summon();
        drop(state);
        match summons {
            Summons::Start(number) => !self.send_new(number, is_told),
            summons => !self.send(summons),
        }
    }

    /// The question of a wait for something of this pool: first it asks again for workers, this pool's
    /// and the one that is lent to another's.
    pub(crate) fn or_ask_again<'a>(
        &'a self,
        lent: Option<&'a Lent>,
        interrupted: &'a mut dyn FnMut() -> bool,
    ) -> impl FnMut() -> bool {
        let mut interrupted = or_summon(lent, interrupted);
        move || {
            self.ask_again(false);
            interrupted()
        }
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
        let state: MutexGuard<'_, State<J>> = lock(&self.shared.state);
        f.debug_struct("Pool")
            .field("queued", &state.queued())
            .field("husks", &state.queue.husks)
            .field("idle", &state.idle.len())
            .field("workers", &state.workers)
            .field("alive", &state.alive)
            .field("running", &state.running)
            .field("coming", &state.coming)
            .field("max_workers", &state.max_workers)
            .field("lent", &state.lent)
            .field("room", &state.room.len())
            .field("open", &(state.life != Life::Closed))
            .finish_non_exhaustive()
    }
}

impl<J: Send + 'static> Lender for Pool<J> {
    fn lend_one(&self) {
        let mut state = lock(&self.shared.state);
        state.lent += 1;
        let is_many = state.lent > MANY_LENT && !state.told_of_many;
        state.told_of_many |= is_many;
        let lent = state.lent;
        let summons = state.summon();
        let room = state.wake_one_for_room(self.shared.queue_size);
        drop(state);
        // Without a thread to lend, whoever waits asks again.
        self.send(summons);
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

    fn summon_again(&self) {
        let summons = lock(&self.shared.state).summon();
        self.send(summons);
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
