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
//!    back (the drop of [`Coming`]), and an idle one is sent in its place.
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

mod spin;
mod turn;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU8};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use self::spin::Spin;
use self::turn::Turn;
use crate::error::Error;
use crate::fork::Birth;
use crate::sync::{self, Mutex, MutexGuard, Parked, Parker, Wake, lock, thread};

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
    birth: Birth,
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

/// Whether jobs come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Open,
    /// Only those that are due; workers stay for them.
    Refusing,
    /// None; workers leave when the queue is empty.
    Closed,
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
    /// Workers that may be idle; see [`Pool::release_workers`].
    idle_kept: usize,
    /// Workers added for as long as others wait inside a job.
    lent: usize,
    /// [`Runner::lends_many`] has been told.
    told_of_many: bool,
    /// Workers in a row that ended without ever having taken a job.
    fruitless: u32,
    life: Life,
    started: u64,
    turn: Turn,
    /// Callers who wait for room, in the order in which they came; see [`Pool::wait_for_room`].
    room: VecDeque<(u64, Arc<Parker>)>,
    /// Callers who have ever waited for room.
    came_for_room: u64,
    /// Callers who wait for the last thread to end.
    joiners: Vec<Arc<Parker>>,
}

/// A worker that is counted as coming, and has no thread yet.
///
/// Dropped, it is taken back, and an idle worker is sent in its place; see [step
/// 2](self#when-the-system-has-no-thread-to-give).
#[must_use = "a worker that is counted as coming must be started"]
struct Coming<'a, J: Send + 'static> {
    pool: &'a Pool<J>,
    number: u64,
    /// Whoever sends for it knows by himself when the thread is refused.
    is_quiet: bool,
}

impl<J: Send + 'static> Coming<'_, J> {
    /// Gives it a thread, which is from then on the one that answers for it.
    fn start(self) -> Result<(), String> {
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
    /// So many of the first are known to be none that [`pop_oldest`](Self::pop_oldest) may take; they
    /// are not looked at again.
    kept: usize,
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
            kept: 0,
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
        self.kept = self.kept.saturating_sub(1);
        self.give_back();
        job
    }

    fn pop_oldest(&mut self, may_go: impl Fn(&J) -> bool) -> Option<J> {
        let mut all = self.sifted.iter().chain(&self.unsifted);
        let Some(past) = all.by_ref().skip(self.kept).position(may_go) else {
            self.kept = self.len();
            return None;
        };
        self.kept += past;
        // What it takes to close the gap is a move of the shorter side.
        let job = match self.kept.checked_sub(self.sifted.len()) {
            None => self.sifted.remove(self.kept),
            Some(at) => self.unsifted.remove(at),
        };
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
                    if self.sifted.len() < self.kept {
                        self.kept -= 1; // it was one of them
                    }
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

    /// Takes back what was pushed last, under the same lock, in its order.
    fn take_last(&mut self, count: usize) -> Vec<J> {
        let first = self.unsifted.len() - count;
        self.unsifted.drain(first..).collect()
    }

    fn take_all(&mut self) -> Vec<J> {
        self.kept = 0;
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

    fn take_last_urgent(&mut self, count: usize) -> Vec<J> {
        let first = self.urgent.len() - count;
        self.urgent.drain(first..).collect()
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
        if let Some(seat) = self.summon_idle() {
            return Summons::Wake(seat);
        }
        if !self.coming && self.queued() > 0 && self.workers < self.limit() {
            return self.start();
        }
        Summons::None
    }

    /// The same, but starts none.
    fn summon_idle(&mut self) -> Option<Arc<Seat>> {
        if self.coming || self.queued() == 0 {
            return None;
        }
        let seat = self.idle.pop()?;
        self.coming = true;
        // Relaxed: read under the same lock.
        seat.summoned
            .store(true, std::sync::atomic::Ordering::Relaxed);
        Some(seat)
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
            return None;
        }
        self.room.pop_front().map(|(_, caller)| caller)
    }

    /// Puts a caller where it belongs among those who wait for room, by the number it got when it
    /// first came.
    fn queue_for_room(&mut self, place: &mut Option<u64>, caller: Arc<Parker>) {
        let place = *place.get_or_insert_with(|| {
            self.came_for_room += 1;
            self.came_for_room
        });
        let before = self.room.partition_point(|&(other, _)| other < place);
        self.room.insert(before, (place, caller));
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
            birth: Birth::now(),
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
        let Some(_joining) = Joining::begin(WORKER_OF.with(Cell::get), self.id()) else {
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
        WORKER_OF.with(Cell::get) == self.id() && !self.shared.birth.is_inherited()
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

    /// Carries a summons out. `false`: it was for a new thread, and the system refused; see [step
    /// 2](self#when-the-system-has-no-thread-to-give).
    fn send(&self, summons: Summons) -> bool {
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

    fn send_new(&self, number: u64, is_quiet: bool) -> bool {
        let coming = Coming {
            pool: self,
            number,
            is_quiet,
        };
        coming.start().is_ok()
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

    fn spawn(&self, number: u64) -> Result<(), String> {
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
            .field("open", &(state.life != Life::Closed))
            .finish_non_exhaustive()
    }
}

sync::thread_locals! {
    /// The pool whose worker this thread is, by the address of its shared part; 0 for none.
    static WORKER_OF: Cell<usize> = const { Cell::new(0) };
    /// The same pool, to lend a worker.
    static OWN: RefCell<Option<Arc<dyn Lender>>> = const { RefCell::new(None) };
}

/// Whether the calling thread is a worker of whatever pool.
pub fn is_any_worker() -> bool {
    WORKER_OF.with(Cell::get) != 0
}

/// Marks the calling thread as a worker's until it is dropped, which is before the thread's own end:
/// with the last reference to a pool goes its runner, whose end may need more than a dying thread has.
struct OwnPool;

impl OwnPool {
    fn enter<J: Send + 'static>(pool: &Pool<J>) -> Self {
        WORKER_OF.with(|of| of.set(pool.id()));
        OWN.with(|own| own.replace(Some(Arc::new(pool.clone()))));
        Self
    }
}

impl Drop for OwnPool {
    fn drop(&mut self) {
        WORKER_OF.with(|of| of.set(0));
        drop(OWN.with(RefCell::take));
    }
}

/// A pool of whatever jobs, as the waits of its workers see it.
trait Lender: Send + Sync {
    /// One worker more.
    fn lend_one(&self);
    /// One less: whoever is surplus now leaves after its job.
    fn take_one_back(&self);
    /// Sends for a worker, if that is still to be done.
    fn summon_again(&self);
    /// Whether it is a forked child's parent's.
    fn is_inherited(&self) -> bool;
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
        self.shared.birth.is_inherited()
    }
}

/// A worker that was lent to a pool; taken back when this is dropped, on whatever thread.
#[must_use = "the worker is taken back when this is dropped"]
pub struct Lent(Arc<dyn Lender>);

impl Lent {
    fn of(lender: Arc<dyn Lender>) -> Self {
        lender.lend_one();
        Self(lender)
    }

    /// Sends for the worker once more, if the system had no thread for it and there is work.
    pub fn summon_again(&self) {
        self.0.summon_again();
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if !self.0.is_inherited() {
            self.0.take_one_back();
        }
    }
}

impl fmt::Debug for Lent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lent").finish_non_exhaustive()
    }
}

/// Lends a worker to the pool whose worker the calling thread is, for as long as the answer lives;
/// `None` on any other thread. For every wait inside a job, whatever it is for: what it waits for may
/// need a worker of this pool.
pub fn lend_while_waiting() -> Option<Lent> {
    // Asked first: the thread that ends the program may have no locals left that need a destructor.
    if !is_any_worker() {
        return None;
    }
    let own = OWN.with(|own| own.borrow().clone())?;
    (!own.is_inherited()).then(|| Lent::of(own))
}

/// The question of a wait, which asks for the lent worker once more before it asks `interrupted`.
pub(crate) fn or_summon<'a>(
    lent: Option<&'a Lent>,
    interrupted: &'a mut dyn FnMut() -> bool,
) -> impl FnMut() -> bool {
    move || {
        if let Some(lent) = lent {
            lent.summon_again();
        }
        interrupted()
    }
}

/// Pools whose workers wait for the end of another: from, to, by the addresses of their shared parts.
/// Not from `sync`: loom has no statics.
static JOINING: std::sync::Mutex<Vec<(usize, usize)>> = std::sync::Mutex::new(Vec::new());

/// A thread that waits for the end of a pool.
struct Joining(Option<(usize, usize)>);

impl Joining {
    /// `from`: the pool whose worker the calling thread is, 0 for none. `None`: somebody on `to`, or
    /// on a pool whose end is waited for there, waits for the end of `from`.
    fn begin(from: usize, to: usize) -> Option<Self> {
        if from == 0 {
            return Some(Self(None));
        }
        let Some(mut joining) = Self::list() else {
            return Some(Self(None));
        };
        let mut reached = vec![to];
        let mut looked = 0;
        while let Some(&pool) = reached.get(looked) {
            if pool == from {
                return None;
            }
            looked += 1;
            for &(_, next) in joining.iter().filter(|&&(on, _)| on == pool) {
                if !reached.contains(&next) {
                    reached.push(next);
                }
            }
        }
        joining.push((from, to));
        Some(Self(Some((from, to))))
    }

    /// The list, which is held for a few dozen instructions. `None`: it has been taken for longer, so
    /// this is a child whose parent held it at the fork, and whose pools nobody else waits for.
    fn list() -> Option<std::sync::MutexGuard<'static, Vec<(usize, usize)>>> {
        const LONG: Duration = Duration::from_secs(1);

        let since = Instant::now();
        loop {
            match JOINING.try_lock() {
                Ok(list) => return Some(list),
                Err(std::sync::TryLockError::Poisoned(list)) => return Some(list.into_inner()),
                Err(std::sync::TryLockError::WouldBlock) if since.elapsed() > LONG => return None,
                Err(std::sync::TryLockError::WouldBlock) => std::thread::yield_now(),
            }
        }
    }
}

impl Drop for Joining {
    fn drop(&mut self) {
        if let Some(edge) = self.0
            && let Some(mut joining) = Self::list()
            && let Some(place) = joining.iter().position(|&other| other == edge)
        {
            joining.swap_remove(place);
        }
    }
}

/// Where a worker stands; see the [table](self#worker-states).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Stand {
    Coming,
    Running,
    Free,
    Idle,
    Left,
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
        if shared.birth.is_inherited() {
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
        if shared.birth.is_inherited() {
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

        if self.pool.shared.birth.is_inherited() {
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
            joiner.wake();
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

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    type Call = Box<dyn FnOnce() + Send>;

    struct Caller;

    impl Runner for Caller {
        type Job = Call;

        fn work(&self, worker: &Worker<Call>) {
            while worker.wait() {
                while let Some(call) = worker.take() {
                    call();
                }
            }
        }
    }

    #[test]
    fn a_wait_asks_again_for_the_worker_that_it_could_not_be_lent() {
        let options = PoolOptions {
            max_workers: 1,
            ..PoolOptions::default()
        };
        let pool: Pool<Call> = Pool::new(&options, Arc::new(Caller));
        let (done, is_done) = std::sync::mpsc::channel();
        let inner = pool.clone();
        let outer = move || {
            let served = Arc::new(Parker::new());
            let server = Arc::clone(&served);
            let serve: Call = Box::new(move || {
                server.unpark();
            });
            assert!(inner.push(serve).is_ok());
            inner.refuse_starts(1);
            let lent = lend_while_waiting();
            let waited = served.wait(None, &mut or_summon(lent.as_ref(), &mut || false));
            done.send(waited).unwrap();
        };
        assert!(pool.push(Box::new(outer)).is_ok());
        assert_eq!(is_done.recv(), Ok(Ok(())));
        pool.close(true);
        assert_eq!(pool.join(None, &mut || false), Ok(()));
    }

    #[test]
    fn pushes_beside_refused_starts_strand_no_job_beside_the_one_worker() {
        use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

        const POSTERS: usize = 3;
        const ROUNDS: usize = 1_000;

        for turns in [None, Some(Duration::from_secs(3600))] {
            let options = PoolOptions {
                max_workers: 4,
                min_workers: 1,
                idle_timeout: Duration::from_secs(3600), // what is stranded stays so
                turns,
                ..PoolOptions::default()
            };
            let pool: Pool<Call> = Pool::new(&options, Arc::new(Caller));
            pool.start_min_workers();
            pool.refuse_starts(usize::MAX);
            let (arrived, is_lost) = (AtomicUsize::new(0), AtomicBool::new(false));
            std::thread::scope(|scope| {
                for _ in 0..POSTERS {
                    scope.spawn(|| {
                        for round in 1..=ROUNDS {
                            let (done, is_done) = std::sync::mpsc::channel();
                            arrived.fetch_add(1, Relaxed);
                            while arrived.load(Relaxed) < POSTERS * round {
                                assert!(!is_lost.load(Relaxed));
                                std::thread::yield_now();
                            }
                            let call: Call = Box::new(move || done.send(()).unwrap());
                            assert!(pool.push(call).is_ok());
                            let done = is_done.recv_timeout(Duration::from_secs(30));
                            is_lost.fetch_or(done.is_err(), Relaxed);
                            assert_eq!(done, Ok(()), "{pool:?}");
                        }
                    });
                }
            });
            pool.close(true);
            assert_eq!(pool.join(None, &mut || false), Ok(()));
        }
    }

    #[test]
    fn due_jobs_that_find_no_thread_come_back_and_nothing_else_does() {
        let pool: Pool<usize> = Pool::new(&PoolOptions::default(), Arc::new(Idler));
        lock(&pool.shared.state).queue.push(0);
        lock(&pool.shared.state).urgent.push_back(1);
        pool.refuse_starts(1);
        assert_eq!(pool.push_due(vec![2, 3], vec![4]), [4, 2, 3]);
        let mut state = lock(&pool.shared.state);
        assert_eq!(
            (state.pop(), state.pop(), state.pop()),
            (Some(1), Some(0), None)
        );
        assert_eq!((state.workers, state.alive, state.coming), (0, 0, false));
    }

    struct Idler;

    impl Runner for Idler {
        type Job = usize;

        fn work(&self, _: &Worker<usize>) {
            unreachable!("no worker is started");
        }
    }

    #[test]
    fn the_oldest_that_may_go_is_found_whatever_was_popped_and_sifted_before() {
        let mut random = fastrand::Rng::with_seed(7);
        let (mut queue, mut plain) = (Queue::new(), Vec::new());
        let mut husks = std::collections::HashSet::new();
        for n in 0..20_000_u32 {
            let is_husk = |n: &u32| husks.contains(n);
            let may_go = |n: &u32| n.is_multiple_of(5) && !husks.contains(n);
            match random.u32(0..10) {
                0..4 => {
                    queue.push(n);
                    plain.push(n);
                }
                4 => {
                    let popped = queue.pop();
                    assert_eq!(popped, (!plain.is_empty()).then(|| plain.remove(0)));
                    if popped.is_some_and(|n| is_husk(&n)) {
                        queue.husks -= 1;
                    }
                }
                5 | 6 => {
                    let oldest = plain.iter().position(may_go).map(|at| plain.remove(at));
                    assert_eq!(queue.pop_oldest(may_go), oldest, "step {n}");
                }
                _ => {
                    let alive = plain.iter().copied().filter(|n| !is_husk(n));
                    let Some(cancelled) = random.choice(alive.collect::<Vec<_>>()) else {
                        continue;
                    };
                    husks.insert(cancelled);
                    queue.husks += 1;
                    let mut cleared = Vec::new();
                    queue.sift(|n| husks.contains(n), &mut cleared);
                    plain.retain(|n| !cleared.contains(n));
                }
            }
        }
    }

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
