//! What is done with the contestants: timed, and checked. A workload that lost a timer, or saw one
//! early where that is not allowed, panics.

use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{self, Sender};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use asynctask::Scheduler;
use hierarchical_hash_wheel_timer::ClosureTimer;

use crate::services::{HashWheelThread, WORKERS, scheduler};
use crate::{MILLISECOND, Random, SECOND, Timers, Virtual};

/// Timers that are to be due at once are all there so long before, and who posts meanwhile is awake.
const AHEAD: Duration = Duration::from_millis(20);

/// Figures by name: one, or all that were observed.
pub type Figures = Vec<(&'static str, Vec<f64>)>;

/// `total`, in nanoseconds, for each of `count`.
#[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
fn each(total: Duration, count: usize) -> f64 {
    total.as_nanos() as f64 / count as f64
}

fn filled<T: Timers>(pending: usize, random: &mut Random) -> (T, Vec<T::Key>) {
    let mut timers = T::new();
    let keys = (0..pending)
        .map(|_| timers.insert(random.delay()))
        .collect();
    (timers, keys)
}

fn emptied<T: Timers>(mut timers: T, keys: Vec<T::Key>) {
    if T::CANCELS {
        assert!(keys.into_iter().all(|key| timers.cancel(key)), "lost");
    }
    assert_eq!(timers.fired(), 0, "early");
}

/// Inserts `count` timers where `pending` are: by as many at a time as change that little, which are
/// taken out again, untimed.
pub fn insert<T: Timers>(pending: usize, count: usize) -> Figures {
    let mut random = Random::new();
    let (mut timers, mut keys) = filled::<T>(pending, &mut random);
    let chunk = (pending / 100).max(100);
    let delays: Vec<u64> = (0..chunk).map(|_| random.delay()).collect();
    let mut added = Vec::with_capacity(chunk);
    let (mut took, mut done) = (Duration::ZERO, 0);
    while done < count {
        let start = Instant::now();
        added.extend(delays.iter().map(|&delay| timers.insert(delay)));
        took += start.elapsed();
        done += chunk;
        if T::CANCELS {
            assert!(added.drain(..).all(|key| timers.cancel(key)), "lost");
        } else if done % pending.max(chunk) < chunk {
            added.clear();
            (timers, keys) = filled(pending, &mut random); // it has doubled
        }
    }
    emptied(timers, keys);
    vec![("ns", vec![each(took, done)])]
}

/// Inserts one and cancels one, `count` times over `pending`: first the oldest, then any.
pub fn churn<T: Timers>(pending: usize, count: usize) -> Figures {
    let mut random = Random::new();
    let (mut timers, mut keys) = filled::<T>(pending, &mut random);
    let delays: Vec<u64> = (0..count).map(|_| random.delay()).collect();
    let mut figures = Figures::new();
    for order in ["fifo", "random"] {
        if order == "random" {
            random.shuffle(&mut keys);
        }
        let mut places = (0..pending).cycle();
        let mut cancelled = 0;
        let start = Instant::now();
        for (&delay, at) in delays.iter().zip(&mut places) {
            let oldest = std::mem::replace(&mut keys[at], timers.insert(delay));
            cancelled += usize::from(timers.cancel(oldest));
        }
        figures.push((order, vec![each(start.elapsed(), count)]));
        assert_eq!(cancelled, count, "lost");
    }
    emptied(timers, keys);
    figures
}

/// Lets `count` timers expire that are due within a minute, while time moves by the millisecond.
pub fn expire<T: Virtual>(count: usize) -> Figures {
    const STEPS: u32 = 72_000;
    let mut random = Random::new();
    let mut timers = T::new();
    let mut deadlines: Vec<u64> = (0..count)
        .map(|_| 10 * SECOND + random.below(60 * SECOND))
        .collect();
    for &deadline in &deadlines {
        timers.insert(deadline);
    }
    let start = Instant::now();
    let fired = timers.advance(STEPS);
    let took = start.elapsed();
    deadlines.sort_unstable();
    let mut due = 0;
    for (step, &fired) in (1..).zip(&fired) {
        due += deadlines[due..]
            .iter()
            .take_while(|&&deadline| deadline <= step * MILLISECOND)
            .count();
        assert!(fired <= due as u64, "early: {fired} of {due} at {step} ms");
    }
    assert_eq!(fired.last(), Some(&(count as u64)), "lost");
    vec![("ns", vec![each(took, count)])]
}

/// Something that calls back after a delay, on whatever thread.
pub trait Service {
    /// One without timers.
    fn start() -> Self;
    /// Calls `callback` after `delay`; there is no handle.
    fn post<F: FnOnce() + Send + 'static>(&mut self, delay: Duration, callback: F);
    /// Ends it, and drops what waits.
    fn stop(self);
}

impl Service for Scheduler {
    fn start() -> Self {
        scheduler()
    }

    fn post<F: FnOnce() + Send + 'static>(&mut self, delay: Duration, callback: F) {
        self.post_after(delay, callback).expect("it is open");
    }

    fn stop(self) {
        self.shutdown_now();
    }
}

impl Service for tokio::runtime::Runtime {
    fn start() -> Self {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(WORKERS)
            .enable_time()
            .build()
            .expect("a runtime")
    }

    fn post<F: FnOnce() + Send + 'static>(&mut self, delay: Duration, callback: F) {
        self.spawn(async move {
            tokio::time::sleep(delay).await;
            callback();
        });
    }

    fn stop(self) {}
}

impl Service for HashWheelThread {
    fn start() -> Self {
        Timers::new()
    }

    fn post<F: FnOnce() + Send + 'static>(&mut self, delay: Duration, callback: F) {
        let id = self.next_id();
        self.timer
            .schedule_action_once(id, delay, move |_| callback());
    }

    fn stop(self) {}
}

/// Lets `count` timers be due at one instant, and until the last has run posts another every 20 µs:
/// how long each of those calls took.
pub fn storm<S: Service>(count: u64) -> Figures {
    due_at_once(count, |mut service: S, deadline, counts| {
        let stalls = stalls(&mut service, deadline, |_, _| {
            counts.ran.load(Relaxed) == count
        });
        let took = deadline.elapsed();
        service.stop();
        assert_eq!(counts.ran.load(Relaxed), count, "twice");
        #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
        let early = counts.early.load(Relaxed) as f64;
        let count = usize::try_from(count).expect("a count");
        vec![
            ("stall", stalls),
            ("ns", vec![each(took, count)]),
            ("early", vec![early]),
        ]
    })
}

/// The same of ours, but nothing runs before all are in the queue: the one worker is held.
pub fn held(count: u64) -> Figures {
    due_at_once(count, |mut service: Held, deadline, counts| {
        let stalls = stalls(&mut service, deadline, |service, posted| {
            service.scheduler.stats().pending_timers <= posted
        });
        assert_eq!(counts.ran.load(Relaxed), 0, "not held");
        let Held { scheduler, free } = service;
        drop(free);
        scheduler.shutdown();
        assert_eq!(counts.ran.load(Relaxed), count, "lost");
        assert_eq!(counts.early.load(Relaxed), 0, "early");
        vec![("stall", stalls)]
    })
}

/// A scheduler whose one worker is held until the sender is dropped.
struct Held {
    scheduler: Scheduler,
    free: Sender<()>,
}

impl Service for Held {
    fn start() -> Self {
        let builder = Scheduler::builder().max_workers(1);
        let scheduler = builder.build().expect("one worker");
        let (free, is_free) = mpsc::channel();
        Scheduler::post(&scheduler, move || is_free.recv()).expect("it is open");
        Self { scheduler, free }
    }

    fn post<F: FnOnce() + Send + 'static>(&mut self, delay: Duration, callback: F) {
        Service::post(&mut self.scheduler, delay, callback);
    }

    fn stop(self) {
        drop(self.free);
        self.scheduler.shutdown_now();
    }
}

/// What the callbacks of one turn count. Leaked, so that they need not count references to it.
#[derive(Debug, Default)]
struct Counts {
    ran: AtomicU64,
    early: AtomicU64,
}

/// Posts `count` callbacks for one instant, all before it; `measure` gets the service, the instant,
/// and the counts.
fn due_at_once<S: Service>(
    count: u64,
    measure: impl FnOnce(S, Instant, &'static Counts) -> Figures,
) -> Figures {
    let mut lead = Duration::from_millis(1_500);
    loop {
        let counts: &'static Counts = Box::leak(Box::default());
        let mut service = S::start();
        let deadline = Instant::now() + lead;
        for _ in 0..count {
            let delay = deadline.saturating_duration_since(Instant::now());
            service.post(delay, move || {
                let is_early = Instant::now() < deadline;
                counts.early.fetch_add(u64::from(is_early), Relaxed);
                counts.ran.fetch_add(1, Relaxed);
            });
        }
        if Instant::now() + AHEAD < deadline {
            return measure(service, deadline, counts);
        }
        service.stop(); // too slow: some may be due before all are there
        lead *= 2;
    }
}

/// How long a post takes, every 20 µs from `deadline` until it is over.
fn stalls<S: Service>(
    service: &mut S,
    deadline: Instant,
    is_over: impl Fn(&S, usize) -> bool,
) -> Vec<f64> {
    const PACE: Duration = Duration::from_micros(20);
    while let Some(left) = deadline.checked_duration_since(Instant::now() + AHEAD) {
        thread::park_timeout(left);
    }
    let mut stalls = Vec::new();
    let mut next = deadline;
    while !is_over(service, stalls.len()) {
        while Instant::now() < next {
            std::hint::spin_loop();
        }
        let start = Instant::now();
        service.post(Duration::from_mins(1), || ());
        let end = Instant::now();
        #[expect(clippy::cast_precision_loss, reason = "far less than 2^52")]
        stalls.push((end - start).as_nanos() as f64);
        next = end + PACE;
        assert!(end < deadline + Duration::from_secs(50), "lost");
    }
    stalls
}

/// A pool with [`WORKERS`] threads.
pub trait Pool: Sync {
    /// One that works.
    fn start() -> Self;
    /// Has `callback` run by a worker.
    fn post<F: FnOnce() + Send + 'static>(&self, callback: F);
    /// Ends it.
    fn stop(self);
}

impl Pool for Scheduler {
    fn start() -> Self {
        scheduler()
    }

    fn post<F: FnOnce() + Send + 'static>(&self, callback: F) {
        Scheduler::post(self, callback).expect("it is open");
    }

    fn stop(self) {
        self.shutdown();
    }
}

impl Pool for rayon::ThreadPool {
    fn start() -> Self {
        rayon::ThreadPoolBuilder::new()
            .num_threads(WORKERS)
            .build()
            .expect("threads")
    }

    fn post<F: FnOnce() + Send + 'static>(&self, callback: F) {
        self.spawn(callback);
    }

    fn stop(self) {}
}

impl Pool for threadpool::ThreadPool {
    fn start() -> Self {
        Self::new(WORKERS)
    }

    fn post<F: FnOnce() + Send + 'static>(&self, callback: F) {
        self.execute(callback);
    }

    fn stop(self) {
        self.join();
    }
}

/// Has `count` closures run that `producers` threads post: from the first post until all have run.
pub fn pool<P: Pool>(producers: usize, count: usize) -> Figures {
    let pool = P::start();
    run_all(&pool, 1, 1_000); // the threads are there
    let took = run_all(&pool, producers, count);
    pool.stop();
    vec![("ns", vec![each(took, count / producers * producers)])]
}

/// What the tasks of one turn share; leaked, too.
struct Turn {
    ran: AtomicU64,
    total: u64,
    main: Thread,
}

fn run_all<P: Pool>(pool: &P, producers: usize, count: usize) -> Duration {
    let share = count / producers;
    let turn: &'static Turn = Box::leak(Box::new(Turn {
        ran: AtomicU64::new(0),
        total: (share * producers) as u64,
        main: thread::current(),
    }));
    let barrier = Barrier::new(producers);
    let produce = || {
        barrier.wait();
        let start = Instant::now();
        for _ in 0..share {
            pool.post(|| {
                if turn.ran.fetch_add(1, Relaxed) + 1 == turn.total {
                    turn.main.unpark();
                }
            });
        }
        start
    };
    let start = thread::scope(|scope| {
        let threads: Vec<_> = (0..producers).map(|_| scope.spawn(produce)).collect();
        let starts = threads.into_iter().map(thread::ScopedJoinHandle::join);
        starts.map(|start| start.expect("it posts")).min()
    });
    while turn.ran.load(Relaxed) < turn.total {
        thread::park();
    }
    start.expect("a producer").elapsed()
}
