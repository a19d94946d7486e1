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
//! | state   | counted in          | leaves it by                                          |
//! |---------|---------------------|-------------------------------------------------------|
//! | coming  | `workers`, `coming` | its first `take`                                      |
//! | running | `workers`, `running`| a `take` that finds the queue empty                   |
//! | idle    | `workers`, `idle`   | a summons, the idle timeout, a shutdown               |
//! | leaving | `alive` only        | the end of its thread                                 |
//!
//! # The baton
//!
//! At most one worker is *coming*: summoned, and not yet at the queue. A push summons one only if
//! none is; the one that arrives takes a job and, if more are queued, summons the next. So a burst
//! of short jobs costs one wake-up, and a job that blocks costs nothing: the next worker has been
//! sent for before the job began.
//!
//! Invariant: the queue is not empty ⇒ one is coming, or every worker that may exist is running.
//! It is kept because push, take, the idle check and the leaving of a worker all happen under the
//! one lock, and each that ends with a job in the queue ends with a summons.
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
//! counts and the wake-ups are exact. It is a leaf lock: held for a few dozen instructions, never
//! while a job, a caller's code or a wait runs.
#![forbid(unsafe_code)]

mod spin;
mod turn;

use std::cell::Cell;
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::spin::Spin;
use self::turn::Turn;
use crate::error::Error;
use crate::fork::Birth;
use crate::sync::{Mutex, MutexGuard, Parked, Parker, Wake, lock, thread};

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
    /// It must not unwind; a panic of a job is the runner's to catch.
    fn work(&self, worker: &Worker<Self::Job>);

    /// Called when due jobs have been queued, so that the lock that jobs run under can be made free
    /// for them; `is_coming`: a worker is on its way. On the timer thread, with no lock held. It must
    /// not block.
    fn due(&self, is_coming: bool) {
        let _ = is_coming;
    }
}

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
            turns: None,
        }
    }
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
    birth: Birth,
    state: Mutex<State<J>>,
    idle_timeout: Duration,
    queue_size: Option<usize>,
    thread_name: String,
    turns: Option<Duration>,
    spin: Spin,
}

struct State<J> {
    queue: Queue<J>,
    /// Jobs that go before all others, and for which there is a worker beyond the limit.
    urgent: VecDeque<J>,
    /// Last in, first out: the one that went idle last has the warmest cache, and the coldest leave.
    idle: Vec<Arc<Seat>>,
    /// Workers that are coming, running or idle.
    workers: usize,
    /// Threads that have not ended.
    alive: usize,
    running: usize,
    coming: bool,
    max_workers: usize,
    min_workers: usize,
    /// Workers added for as long as others wait inside a job.
    lent: usize,
    open: bool,
    started: u64,
    turn: Turn,
    /// Callers who wait for room, first come first served.
    room: VecDeque<Arc<Parker>>,
    /// Callers who wait for the last thread to end.
    joiners: Vec<Arc<Parker>>,
}

/// Where an idle worker sleeps.
struct Seat {
    parker: Parker,
    /// Set under the lock by who takes the seat off the list to send its worker to the queue.
    summoned: std::sync::atomic::AtomicBool,
    /// Set with it, by who holds the lock that jobs run under; see [`spin`].
    let_go: std::sync::atomic::AtomicU64,
}

impl Seat {
    /// In `let_go`: the summons came from a thread without that lock.
    const NOT_HELD: u64 = u64::MAX;
}

/// What a lock holder has decided to do once it has let go.
#[must_use = "a worker that was counted as coming must be sent for"]
enum Summons {
    None,
    Wake(Arc<Seat>),
    Start(u64),
}

/// A job queue from which cancelled jobs can be cleared in small steps.
///
/// A cancelled job stays where it is, as a husk, until it is popped. Were that all, posting and
/// cancelling behind a worker that blocks would grow the queue without end, so when husks are more
/// than half of it, each cancel sifts a few entries from `unsifted` to `sifted`: no step is long,
/// and the order stays.
struct Queue<J> {
    sifted: VecDeque<J>,
    unsifted: VecDeque<J>,
    /// Below zero for the moment between a husk's leaving the queue and its being counted by who
    /// made it one: were it held at zero there, each such race would leave the count one too high.
    husks: isize,
}

impl<J> Queue<J> {
    const SIFT_STEP: usize = 16;
    /// Capacity that is kept when the queue runs empty.
    const KEEP: usize = 1024;

    fn new() -> Self {
        Self {
            sifted: VecDeque::new(),
            unsifted: VecDeque::new(),
            husks: 0,
        }
    }

    fn len(&self) -> usize {
        self.sifted.len() + self.unsifted.len()
    }

    /// Jobs that somebody still wants. A husk may be counted a moment before it is queued.
    fn live(&self) -> usize {
        self.len().saturating_sub(self.counted_husks())
    }

    fn counted_husks(&self) -> usize {
        usize::try_from(self.husks).unwrap_or(0)
    }

    fn push(&mut self, job: J) {
        self.unsifted.push_back(job);
    }

    fn pop(&mut self) -> Option<J> {
        let job = self
            .sifted
            .pop_front()
            .or_else(|| self.unsifted.pop_front());
        self.give_back();
        job
    }

    /// Frees a half that was long and has run empty.
    fn give_back(&mut self) {
        for half in [&mut self.sifted, &mut self.unsifted] {
            if half.is_empty() && half.capacity() > Self::KEEP {
                *half = VecDeque::new();
            }
        }
    }

    /// Moves a few jobs across, the husks among them to `out`.
    fn sift(&mut self, is_husk: impl Fn(&J) -> bool, out: &mut Vec<J>) {
        let husks = self.counted_husks();
        if husks < Self::SIFT_STEP || husks * 2 < self.len() {
            return;
        }
        for _ in 0..Self::SIFT_STEP {
            match self.unsifted.pop_front() {
                Some(job) if is_husk(&job) => {
                    self.husks -= 1;
                    out.push(job);
                }
                Some(job) => self.sifted.push_back(job),
                None => {
                    std::mem::swap(&mut self.sifted, &mut self.unsifted);
                    break;
                }
            }
        }
        self.give_back();
    }

    fn take_all(&mut self) -> Vec<J> {
        self.sifted
            .drain(..)
            .chain(self.unsifted.drain(..))
            .collect()
    }
}

impl<J> State<J> {
    /// Jobs that wait for a worker, husks among them.
    fn queued(&self) -> usize {
        self.urgent.len() + self.queue.len()
    }

    fn pop(&mut self) -> Option<J> {
        self.urgent.pop_front().or_else(|| self.queue.pop())
    }

    fn take_all(&mut self) -> Vec<J> {
        let mut all: Vec<J> = self.urgent.drain(..).collect();
        all.extend(self.queue.take_all());
        all
    }

    fn limit(&self) -> usize {
        self.max_workers
            .saturating_add(self.lent)
            .saturating_add(self.urgent.len())
    }

    /// Sends for one worker if the queue wants one and none is coming.
    fn summon(&mut self) -> Summons {
        if self.coming || self.queued() == 0 {
            return Summons::None;
        }
        if let Some(seat) = self.idle.pop() {
            self.coming = true;
            // Relaxed: read under the same lock.
            seat.summoned
                .store(true, std::sync::atomic::Ordering::Relaxed);
            return Summons::Wake(seat);
        }
        if self.workers < self.limit() {
            return self.start();
        }
        Summons::None
    }

    fn start(&mut self) -> Summons {
        self.coming = true;
        self.workers += 1;
        self.alive += 1;
        self.started += 1;
        Summons::Start(self.started - 1)
    }

    fn is_full(&self, queue_size: Option<usize>) -> bool {
        // What free workers are about to take does not wait: otherwise a bound of 0 would refuse
        // everything, and whether a push fits would depend on how fast a worker woke up.
        let free = self.limit().saturating_sub(self.running);
        queue_size.is_some_and(|bound| self.queue.live() >= bound.saturating_add(free))
    }

    fn wake_one_for_room(&mut self, queue_size: Option<usize>) -> Option<Arc<Parker>> {
        if self.room.is_empty() || self.is_full(queue_size) {
            None
        } else {
            self.room.pop_front()
        }
    }
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
            lent: 0,
            open: true,
            started: 0,
            turn: Turn::default(),
            room: VecDeque::new(),
            joiners: Vec::new(),
        };
        let shared = Shared {
            birth: Birth::now(),
            state: Mutex::new(state),
            idle_timeout: options.idle_timeout,
            queue_size: options.queue_size,
            thread_name: options.thread_name.clone(),
            turns: options.turns,
            spin: Spin::new(),
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
        if !state.open {
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
            let job = state.queue.unsifted.pop_back();
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
        if !state.open {
            return Err(Error::Shutdown);
        }
        let before = jobs.len();
        while !state.is_full(self.shared.queue_size)
            && let Some(job) = jobs.pop_front()
        {
            state.queue.push(job);
        }
        self.summon_for(state).map_err(|(mut state, error)| {
            for _ in jobs.len()..before {
                let job = state.queue.unsifted.pop_back();
                jobs.push_front(job.expect("pushed a moment ago, under the same lock"));
            }
            error
        })
    }

    /// Sends for a worker to what a thread has queued that holds the lock which jobs run under. Where
    /// there is none to be had, the state comes back as it was, still locked.
    fn summon_for<'a>(
        &self,
        mut state: MutexGuard<'a, State<J>>,
    ) -> Result<(), (MutexGuard<'a, State<J>>, Error)> {
        let summons = state.summon();
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
        if !state.open && state.workers == 0 {
            return urgent.into_iter().chain(jobs).collect();
        }
        for job in jobs {
            state.queue.push(job);
        }
        state.urgent.extend(urgent);
        let summons = state.summon();
        let is_coming = state.coming;
        match self.start_first(&mut state, summons) {
            Ok(summons) => {
                drop(state);
                self.runner.due(is_coming); // first: the lock is free by the time the worker is awake
                self.send(summons);
                Vec::new()
            }
            // Their husks stay counted: they come back.
            Err(_) => state.take_all(),
        }
    }

    /// Takes the oldest job out, to make room.
    pub fn pop_oldest(&self) -> Option<J> {
        lock(&self.shared.state).queue.pop()
    }

    /// Sleeps until there may be room, or the pool is closed. The caller then tries again.
    ///
    /// # Errors
    /// [`Error::Interrupted`] when a signal cut the sleep short and `interrupted` says so.
    pub fn wait_for_room(&self, interrupted: &mut dyn FnMut() -> bool) -> Result<(), Error> {
        let parker = Arc::new(Parker::new());
        {
            let mut state = lock(&self.shared.state);
            if !state.open || !state.is_full(self.shared.queue_size) {
                return Ok(());
            }
            state.room.push_back(Arc::clone(&parker));
        }
        let waited = parker.wait(None, interrupted);
        if waited.is_err() {
            let mut state = lock(&self.shared.state);
            let before = state.room.len();
            state.room.retain(|other| !Arc::ptr_eq(other, &parker));
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
    pub fn lend(&self) -> Lent<'_, J> {
        let mut state = lock(&self.shared.state);
        state.lent += 1;
        let summons = state.summon();
        let room = state.wake_one_for_room(self.shared.queue_size);
        drop(state);
        // Without a thread to lend, the wait goes on as it would have.
        self.send(summons);
        if let Some(room) = room {
            room.unpark();
        }
        Lent { pool: self }
    }

    /// Takes back a worker whose [`Lent`] was forgotten.
    pub fn take_back(&self) {
        // Whoever is surplus now leaves after its job.
        lock(&self.shared.state).lent -= 1;
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
            if !state.open || state.workers >= state.min_workers || state.coming {
                return; // the one that comes calls again
            }
            let summons = state.start();
            drop(state);
            if !self.send(summons) {
                return;
            }
        }
    }

    /// Lets idle workers leave even below `min_workers`, once nobody can push any more.
    pub fn release_min_workers(&self) {
        let mut state = lock(&self.shared.state);
        state.min_workers = 0;
        let idle = std::mem::take(&mut state.idle);
        drop(state);
        for seat in idle {
            seat.parker.unpark();
        }
    }

    /// Refuses further pushes. With `drain` the queue is still worked off; otherwise what is in it
    /// comes back. May be called again, to stop draining.
    pub fn close(&self, drain: bool) -> Vec<J> {
        let mut state = lock(&self.shared.state);
        state.open = false;
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
        for caller in room {
            caller.unpark();
        }
        left
    }

    /// Whether [`close`](Self::close) was called.
    pub fn is_closed(&self) -> bool {
        !lock(&self.shared.state).open
    }

    /// Sleeps until every worker thread has ended its work; the pool must be closed.
    ///
    /// # Errors
    /// [`Error::TimedOut`] when `deadline` passes first, [`Error::Interrupted`].
    pub fn join(
        &self,
        deadline: Option<Instant>,
        interrupted: &mut dyn FnMut() -> bool,
    ) -> Result<(), Error> {
        let parker = Arc::new(Parker::new());
        {
            let mut state = lock(&self.shared.state);
            if state.alive == 0 {
                return Ok(());
            }
            state.joiners.push(Arc::clone(&parker));
        }
        let waited = parker.wait(deadline, interrupted);
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

    /// How long a wait for a job of this pool is to stay awake. The caller has let go of the lock
    /// that jobs run under.
    pub(crate) fn before_wait(&self) -> Duration {
        self.shared.spin.before_wait()
    }

    /// Whether the calling thread is one of this pool's workers.
    pub fn is_worker(&self) -> bool {
        // In a forked child the mark may be there, but the pool it names is not.
        WORKER_OF.get() == self.id() && !self.shared.birth.is_inherited()
    }

    fn id(&self) -> usize {
        Arc::as_ptr(&self.shared) as usize
    }

    /// Starts a worker that is to be the only one, for who brings jobs. It is started under the
    /// lock: if the system refuses, those jobs are still the last in the queue, and go back to who
    /// brought them. Any other summons is left to be sent.
    fn start_first(&self, state: &mut State<J>, summons: Summons) -> Result<Summons, Error> {
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

    /// Carries a summons out. `false`: it was for a new thread, and the system refused. Then those
    /// who are about will come to the work, or whoever the next push sends for.
    fn send(&self, summons: Summons) -> bool {
        match summons {
            Summons::None => true,
            Summons::Wake(seat) => {
                let was_asleep = seat.parker.unpark();
                self.shared.spin.met(was_asleep);
                true
            }
            Summons::Start(number) if self.spawn(number).is_ok() => true,
            Summons::Start(_) => {
                let mut state = lock(&self.shared.state);
                state.take_back_start();
                let joiners = state.joiners_if_gone();
                drop(state);
                for joiner in joiners {
                    joiner.unpark();
                }
                false
            }
        }
    }

    fn spawn(&self, number: u64) -> Result<(), String> {
        let pool = self.clone();
        // The worker is made on its thread: where there is none, there is no worker to be dropped.
        thread::Builder::new()
            .name(self.worker_name(number))
            .spawn(move || {
                let worker = Worker::new(pool, number);
                WORKER_OF.set(worker.pool.id());
                worker.pool.runner.work(&worker);
            })
            .map(drop)
            .map_err(|error| error.to_string())
    }

    fn worker_name(&self, number: u64) -> String {
        format!("{}-{number}", self.shared.thread_name)
    }
}

impl<J> Shared<J> {
    /// Step 1 of [the hold-off](spin#the-hold-off), for a summons by a thread that holds the lock.
    fn note_held(&self, summons: &Summons) {
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

impl<J> State<J> {
    fn take_back_start(&mut self) {
        self.workers -= 1;
        self.alive -= 1;
        self.coming = false;
    }

    fn joiners_if_gone(&mut self) -> Vec<Arc<Parker>> {
        if self.alive == 0 {
            std::mem::take(&mut self.joiners)
        } else {
            Vec::new()
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
            .field("open", &state.open)
            .finish_non_exhaustive()
    }
}

thread_local! {
    /// The pool whose worker this thread is, by the address of its shared part; 0 for none.
    static WORKER_OF: Cell<usize> = const { Cell::new(0) };
}

/// Whether the calling thread is a worker of whatever pool.
pub fn is_any_worker() -> bool {
    WORKER_OF.get() != 0
}

/// A worker that was lent to a pool; see [`Pool::lend`].
#[derive(Debug)]
#[must_use = "the worker is taken back when this is dropped"]
pub struct Lent<'a, J: Send + 'static> {
    pool: &'a Pool<J>,
}

impl<J: Send + 'static> Drop for Lent<'_, J> {
    fn drop(&mut self) {
        self.pool.take_back();
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
    /// It holds the baton.
    arriving: Flag,
    /// It is counted as running.
    running: Flag,
    /// It is no longer counted in `workers`.
    left: Flag,
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
            arriving: Flag::new(true),
            running: Flag::new(false),
            left: Flag::new(false),
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
        if shared.birth.is_inherited() {
            return false; // this thread has forked inside a job: the pool is the parent's
        }
        let mut state = lock(&shared.state);
        if self.arriving.get() {
            return true; // just started
        }
        debug_assert!(!self.running.get(), "{} waits with a job", self.name());
        loop {
            // SURPLUS
            if state.workers > state.limit() {
                return self.leave(state);
            }
            // BUSY
            if state.queued() > 0 && !(state.coming && shared.turns.is_some()) {
                if !state.coming {
                    state.coming = true;
                    self.arriving.set(true);
                }
                return true;
            }
            // OVER
            if !state.open {
                return self.leave(state);
            }
            // IDLE
            let timeout = (state.workers > state.min_workers).then_some(shared.idle_timeout);
            let sat_down = Instant::now();
            let deadline = timeout.and_then(|timeout| sat_down.checked_add(timeout));
            let spins = self.spins.get() && shared.spin.claim();
            state.idle.push(Arc::clone(&self.seat));
            drop(state);
            seated();
            let was_awake = spins && shared.spin.for_job(&self.seat.parker);
            let parked = loop {
                match self.seat.parker.park(deadline) {
                    Parked::Interrupted => {} // signals are the main thread's
                    parked => break parked,
                }
            };
            state = lock(&shared.state);
            // Relaxed: written under the same lock.
            if self
                .seat
                .summoned
                .swap(false, std::sync::atomic::Ordering::Relaxed)
            {
                // If the timeout passed in the same moment, a token is still on its way here. It
                // costs one look at the queue when this worker next sits down, no more.
                self.arriving.set(true);
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
        if shared.birth.is_inherited() {
            return None;
        }
        let mut state = lock(&shared.state);
        let mut stays = state.workers <= state.limit() || !state.urgent.is_empty();
        if self.arriving.get() {
            self.arriving.set(false);
            state.coming = false;
            state.turn.holder = self.number;
        } else if let Some(young) = shared.turns {
            stays &= self.keeps_its_turn(&mut state, young);
        }
        let job = if stays { state.pop() } else { None };
        if job.is_some() != self.running.get() {
            self.running.set(job.is_some());
            if job.is_some() {
                state.running += 1;
            } else {
                state.running -= 1;
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
        if state.turn.holder == self.number || !self.running.get() || !state.coming {
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
        self.left.set(true);
        // Its place may be taken by another, if there is work that it declined.
        let summons = state.summon();
        drop(state);
        self.pool.send(summons);
        false
    }
}

impl<J: Send + 'static> Drop for Worker<J> {
    /// The end of the thread, in whatever way the runner came to it.
    fn drop(&mut self) {
        if self.pool.shared.birth.is_inherited() {
            return;
        }
        let mut state = lock(&self.pool.shared.state);
        if !self.left.get() {
            // The runner gave up early, or unwound: keep the counts true.
            state.workers -= 1;
            if self.running.get() {
                state.running -= 1;
            }
            if self.arriving.get() {
                state.coming = false;
            }
        }
        state.alive -= 1;
        let summons = state.summon();
        let joiners = state.joiners_if_gone();
        drop(state);
        self.pool.send(summons);
        for joiner in joiners {
            joiner.wake();
        }
    }
}

impl<J: Send + 'static> fmt::Debug for Worker<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker")
            .field("name", &self.name())
            .field("arriving", &self.arriving.get())
            .field("running", &self.running.get())
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_queue_that_was_long_gives_its_memory_back() {
        for live in [0, 30_000, 60_000] {
            let mut queue = Queue::new();
            (0..100_000).for_each(|n| queue.push(n));
            let is_husk = |&n: &i32| n >= live;
            let mut cleared = Vec::new();
            for _ in live..100_000 {
                queue.husks += 1;
                queue.sift(is_husk, &mut cleared);
            }
            let kept = queue.sifted.capacity() + queue.unsifted.capacity();
            assert!(
                live > 0 || kept <= 2 * Queue::<i32>::KEEP,
                "{kept} places kept for nobody"
            );
            let mut popped = Vec::new();
            while let Some(job) = queue.pop() {
                popped.push(job);
            }
            assert!(popped.iter().is_sorted());
            assert_eq!(popped.len() + cleared.len(), 100_000);
            assert!(popped.iter().copied().filter(|n| !is_husk(n)).eq(0..live));
            let kept = queue.sifted.capacity() + queue.unsifted.capacity();
            assert!(
                kept <= 2 * Queue::<i32>::KEEP,
                "{kept} places kept, {live} were alive"
            );
        }
    }
}

/// Run with `RUSTFLAGS="--cfg loom" cargo test --release --lib loom`.
#[cfg(all(test, loom))]
mod loom_tests;
