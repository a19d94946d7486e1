//! The pool by itself: bound, growth, idleness, resize, loans, shutdown.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use asynctask::Error;
use asynctask::pool::{MANY_LENT, Pool, PoolCounts, PoolOptions, Runner, Worker};

use crate::support::{
    Gate, Key, PATIENCE, channel, eventually, field, gate, receive, without_threads,
};

type Call = Box<dyn FnOnce() + Send>;

struct Caller;

impl Runner for Caller {
    type Job = Call;

    fn work(&self, worker: &Worker<Call>) {
        while worker.wait() {
            while let Some(call) = worker.take() {
                // What a test's callback asserts is seen by the test through its channel.
                let _ = catch_unwind(AssertUnwindSafe(call));
            }
        }
    }
}

fn options(max_workers: usize) -> PoolOptions {
    let idle_timeout = Duration::from_secs(3600);
    PoolOptions {
        max_workers,
        idle_timeout,
        ..PoolOptions::default()
    }
}

fn bounded_by(queue_size: usize, max_workers: usize) -> PoolOptions {
    PoolOptions {
        queue_size: Some(queue_size),
        ..options(max_workers)
    }
}

fn pool(options: &PoolOptions) -> Pool<Call> {
    Pool::new(options, Arc::new(Caller))
}

/// Pushes a job, refused for no reason.
fn push(pool: &Pool<Call>, call: impl FnOnce() + Send + 'static) {
    assert!(pool.push(Box::new(call)).is_ok());
}

/// Pushes a job; why it was refused.
fn try_push(pool: &Pool<Call>, call: impl FnOnce() + Send + 'static) -> Result<(), Error> {
    pool.push(Box::new(call)).map_err(|refused| refused.error)
}

fn workers(pool: &Pool<Call>) -> usize {
    let counts = pool.counts();
    counts.running + counts.idle
}

/// Makes `count` workers busy until the key is dropped.
fn occupy(pool: &Pool<Call>, count: usize) -> Key {
    let (key, gate) = gate();
    let (started, starts) = channel();
    for _ in 0..count {
        let (gate, started) = (gate.clone(), started.clone());
        push(pool, move || {
            started.send(()).unwrap();
            gate.pass();
        });
    }
    receive(&starts, count);
    key
}

fn close_and_join(pool: &Pool<Call>) {
    assert!(pool.close(true).is_empty());
    join(pool);
}

fn join(pool: &Pool<Call>) {
    let deadline = Some(Instant::now() + PATIENCE);
    assert_eq!(pool.join(deadline, &mut || false), Ok(()));
    assert_eq!(workers(pool), 0);
}

/// The most that were inside at the same time.
#[derive(Clone, Default)]
struct Crowd {
    now: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

impl Crowd {
    fn visit(&self, inside: impl FnOnce()) {
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        inside();
        self.now.fetch_sub(1, Ordering::SeqCst);
    }

    fn most(&self) -> usize {
        self.most.load(Ordering::SeqCst)
    }
}

// ===== Order and growth =====

#[test]
fn a_new_pool_has_no_thread() {
    let pool = pool(&options(3));
    assert_eq!(
        pool.counts(),
        PoolCounts {
            max_workers: 3,
            ..PoolCounts::default()
        }
    );
    assert!(pool.is_quiet());
    close_and_join(&pool);
}

#[test]
fn one_worker_takes_jobs_in_the_order_of_their_posting() {
    let pool = pool(&options(1));
    let (sender, receiver) = channel();
    for n in 0..5_000 {
        let sender = sender.clone();
        push(&pool, move || sender.send(n).unwrap());
    }
    assert!(receive(&receiver, 5_000).into_iter().eq(0..5_000));
    close_and_join(&pool);
}

#[test]
fn a_pool_grows_to_its_maximum_on_demand_and_no_further() {
    let pool = pool(&options(3));
    let crowd = Crowd::default();
    let (key, gate) = gate();
    let (started, starts) = channel();
    for n in 1..=10 {
        let (crowd, gate, started) = (crowd.clone(), gate.clone(), started.clone());
        push(&pool, move || {
            crowd.visit(|| {
                started.send(()).unwrap();
                gate.pass();
            });
        });
        if n <= 3 {
            receive(&starts, 1); // each that blocks makes way for the next
            assert_eq!(workers(&pool), n);
        }
    }
    let full = PoolCounts {
        max_workers: 3,
        running: 3,
        idle: 0,
        waiting: 7,
    };
    assert_eq!(pool.counts(), full);
    drop(key);
    receive(&starts, 7);
    close_and_join(&pool);
    assert_eq!(crowd.most(), 3);
}

#[test]
fn jobs_posted_from_jobs_are_not_lost() {
    fn split(pool: &Pool<Call>, depth: u32, leaf: &crossbeam_channel::Sender<()>) {
        for _ in 0..2 {
            let (inner, leaf) = (pool.clone(), leaf.clone());
            push(pool, move || match depth {
                0 => leaf.send(()).unwrap(),
                _ => split(&inner, depth - 1, &leaf),
            });
        }
    }

    let pool = pool(&options(4));
    let (leaf, leaves) = channel();
    split(&pool, 11, &leaf);
    receive(&leaves, 1 << 12);
    close_and_join(&pool);
}

// ===== Idleness =====

#[test]
fn idle_workers_leave_after_their_timeout_and_the_fewest_stay() {
    for fewest in 0..=2 {
        let pool = pool(&PoolOptions {
            min_workers: fewest,
            idle_timeout: Duration::from_millis(1),
            ..options(4)
        });
        drop(occupy(&pool, 4));
        eventually("the idle ones leave", || workers(&pool) == fewest);
        // Who left comes back for work, and who stayed is still there for it.
        drop(occupy(&pool, 3));
        eventually("the idle ones leave again", || workers(&pool) == fewest);
        close_and_join(&pool);
    }
}

#[test]
fn the_fewest_workers_can_be_started_ahead_and_released() {
    let pool = pool(&PoolOptions {
        min_workers: 3,
        idle_timeout: Duration::from_secs(3600),
        ..options(4)
    });
    pool.start_min_workers();
    eventually("three are there", || field(&pool, "idle") == 3);
    pool.release_workers(1);
    eventually("one is there", || workers(&pool) == 1);
    pool.release_workers(0);
    eventually("nobody is there", || workers(&pool) == 0);
    drop(occupy(&pool, 1));
    close_and_join(&pool);
}

#[test]
fn a_job_that_meets_a_leaving_worker_is_not_lost() {
    let pool = pool(&PoolOptions {
        idle_timeout: Duration::ZERO,
        ..options(2)
    });
    let (sender, receiver) = channel();
    for n in 0..3_000 {
        let sender = sender.clone();
        push(&pool, move || sender.send(n).unwrap());
        assert_eq!(receive(&receiver, 1), [n]);
    }
    close_and_join(&pool);
}

// ===== The bound =====

#[test]
fn what_free_workers_are_about_to_take_does_not_count_against_the_bound() {
    for _ in 0..50 {
        for (queue_size, max_workers) in [(0, 1), (0, 3), (2, 1), (2, 3)] {
            let pool = pool(&bounded_by(queue_size, max_workers));
            let (key, gate) = gate();
            for _ in 0..queue_size + max_workers {
                let gate = gate.clone();
                push(&pool, move || gate.pass()); // however far the workers are
            }
            let one_more = gate.clone();
            assert_eq!(
                try_push(&pool, move || one_more.pass()),
                Err(Error::QueueFull)
            );
            drop(key);
            close_and_join(&pool);
        }
    }
}

#[test]
fn a_refused_job_comes_back_untouched() {
    let pool = pool(&bounded_by(0, 1));
    let key = occupy(&pool, 1);
    let (sender, receiver) = channel();
    let refused = pool
        .push(Box::new(move || sender.send(7).unwrap()))
        .unwrap_err();
    assert_eq!(refused.error, Error::QueueFull);
    (refused.job)();
    assert_eq!(receive(&receiver, 1), [7]);
    drop(key);
    close_and_join(&pool);
}

#[test]
fn a_pool_without_a_bound_takes_whatever_comes() {
    let pool = pool(&options(1));
    let key = occupy(&pool, 1);
    let (sender, receiver) = channel();
    for _ in 0..20_000 {
        let sender = sender.clone();
        push(&pool, move || sender.send(()).unwrap());
    }
    assert_eq!(pool.counts().waiting, 20_000);
    drop(key);
    receive(&receiver, 20_000);
    close_and_join(&pool);
}

#[test]
fn callers_who_wait_for_room_are_served_in_turn() {
    let pool = pool(&bounded_by(0, 1));
    let mut busy = occupy(&pool, 1);
    let (started, starts) = channel();
    let keys: Vec<_> = (0..5)
        .map(|n| {
            let (key, gate) = gate();
            let (inner, started) = (pool.clone(), started.clone());
            std::thread::spawn(move || {
                inner.wait_for_room(&mut None, &mut || false).unwrap();
                push(&inner, move || {
                    started.send(n).unwrap();
                    gate.pass();
                });
            });
            eventually("the poster waits", || field(&pool, "room") == n + 1);
            key
        })
        .collect();
    for (n, key) in keys.into_iter().enumerate() {
        assert!(starts.is_empty());
        drop(std::mem::replace(&mut busy, key));
        assert_eq!(receive(&starts, 1), [n]);
    }
    drop(busy);
    close_and_join(&pool);
}

/// Starts `count` posters that wait for room, and gives what tells that one has posted.
fn blocked_posters(pool: &Pool<Call>, count: usize) -> crossbeam_channel::Receiver<()> {
    let (ran, runs) = channel();
    for _ in 0..count {
        let (inner, ran) = (pool.clone(), ran.clone());
        std::thread::spawn(move || {
            let mut place = None;
            loop {
                let ran = ran.clone();
                match try_push(&inner, move || ran.send(()).unwrap()) {
                    Err(Error::QueueFull) => {
                        inner.wait_for_room(&mut place, &mut || false).unwrap();
                    }
                    _ => break,
                }
            }
        });
    }
    eventually("the posters wait", || field(pool, "room") == count);
    runs
}

#[test]
fn more_workers_are_more_room_for_those_who_wait() {
    for queue_size in [0, 1] {
        let pool = pool(&bounded_by(queue_size, 1));
        let key = occupy(&pool, 1);
        for _ in 0..queue_size {
            push(&pool, || ());
        }
        let runs = blocked_posters(&pool, 4);
        pool.resize(3);
        receive(&runs, 4); // the first worker is still blocked
        drop(key);
        close_and_join(&pool);
    }
}

#[test]
fn a_lent_worker_is_room_for_those_who_wait() {
    let pool = pool(&bounded_by(0, 1));
    let (begin, begun) = gate();
    let (key, gate) = gate();
    let (started, starts) = channel();
    let inner = pool.clone();
    push(&pool, move || {
        started.send(()).unwrap();
        begun.pass();
        let lent = inner.lend();
        gate.pass(); // waits for something that a blocked poster has yet to post
        drop(lent);
    });
    receive(&starts, 1);
    let runs = blocked_posters(&pool, 3);
    drop(begin);
    receive(&runs, 3);
    drop(key);
    close_and_join(&pool);
}

// ===== Resize and loans =====

#[test]
fn a_larger_limit_starts_what_waits_while_the_rest_is_busy() {
    let pool = pool(&options(1));
    let (key, gate) = gate();
    let (started, starts) = channel();
    for _ in 0..4 {
        let (gate, started) = (gate.clone(), started.clone());
        push(&pool, move || {
            started.send(()).unwrap();
            gate.pass();
        });
    }
    receive(&starts, 1);
    pool.resize(4);
    receive(&starts, 3);
    assert_eq!(
        pool.counts(),
        PoolCounts {
            max_workers: 4,
            running: 4,
            idle: 0,
            waiting: 0
        }
    );
    drop(key);
    close_and_join(&pool);
}

#[test]
fn a_smaller_limit_holds_once_the_busy_ones_are_done() {
    let pool = pool(&options(4));
    let key = occupy(&pool, 4);
    let crowd = Crowd::default();
    let (sender, receiver) = channel();
    pool.resize(1);
    assert_eq!(workers(&pool), 4);
    for _ in 0..100 {
        let (crowd, sender) = (crowd.clone(), sender.clone());
        push(&pool, move || {
            crowd.visit(std::thread::yield_now);
            sender.send(()).unwrap();
        });
    }
    drop(key);
    receive(&receiver, 100);
    assert_eq!(crowd.most(), 1);
    eventually("one is left", || workers(&pool) == 1);
    close_and_join(&pool);
}

#[test]
fn a_smaller_limit_sends_idle_workers_away() {
    let pool = pool(&options(4));
    drop(occupy(&pool, 4));
    eventually("all are idle", || field(&pool, "idle") == 4);
    pool.resize(2);
    eventually("two are left", || workers(&pool) == 2);
    drop(occupy(&pool, 2));
    close_and_join(&pool);
}

#[test]
fn resizing_at_random_under_load_loses_no_job() {
    let pool = pool(&PoolOptions {
        idle_timeout: Duration::from_micros(50),
        ..options(4)
    });
    let (sender, receiver) = channel();
    for n in 0..20_000_usize {
        let sender = sender.clone();
        push(&pool, move || sender.send(n).unwrap());
        if n % 50 == 0 {
            pool.resize(1 + n / 50 % 5);
        }
    }
    let mut done = receive(&receiver, 20_000);
    done.sort_unstable();
    assert!(done.into_iter().eq(0..20_000));
    close_and_join(&pool);
}

#[test]
fn a_lent_worker_does_the_work_meanwhile_and_is_taken_back() {
    let pool = pool(&options(1));
    let crowd = Crowd::default();
    let (sender, receiver) = channel();
    let inner = pool.clone();
    push(&pool, move || {
        let (done, wait) = channel();
        push(&inner, move || done.send(5).unwrap());
        let lent = inner.lend();
        sender.send(receive(&wait, 1)[0]).unwrap();
        drop(lent);
    });
    assert_eq!(receive(&receiver, 1), [5]);
    let (sender, receiver) = channel();
    for _ in 0..100 {
        let (crowd, sender) = (crowd.clone(), sender.clone());
        push(&pool, move || {
            crowd.visit(std::thread::yield_now);
            sender.send(()).unwrap();
        });
    }
    receive(&receiver, 100);
    assert_eq!(crowd.most(), 1);
    close_and_join(&pool);
}

// ===== Husks =====

/// A numbered job that may be cancelled where it is.
struct Numbered {
    number: usize,
    cancelled: Arc<[AtomicBool]>,
    ran: crossbeam_channel::Sender<usize>,
    gate: Option<Gate>,
}

impl Numbered {
    fn is_tombstone(&self) -> bool {
        self.cancelled[self.number].load(Ordering::SeqCst)
    }
}

struct Counting;

impl Runner for Counting {
    type Job = Numbered;

    fn work(&self, worker: &Worker<Numbered>) {
        while worker.wait() {
            while let Some(job) = worker.take() {
                job.ran.send(job.number).unwrap();
                if let Some(gate) = &job.gate {
                    gate.pass();
                }
            }
        }
    }
}

#[test]
fn clearing_tombstones_keeps_the_order_and_every_other_job() {
    const COUNT: usize = 20_000;
    let pool = Pool::new(&options(1), Arc::new(Counting));
    let cancelled: Arc<[_]> = (0..COUNT).map(|_| AtomicBool::new(false)).collect();
    let (ran, runs) = channel();
    let (key, gate) = gate();
    let push = |number: usize, gate: Option<Gate>| {
        let (cancelled, ran) = (Arc::clone(&cancelled), ran.clone());
        assert!(
            pool.push(Numbered {
                number,
                cancelled,
                ran,
                gate
            })
            .is_ok()
        );
    };
    push(0, Some(gate));
    receive(&runs, 1);

    // Posts and cancels in every mixture, behind a worker that is busy.
    let mut random = numbers(7);
    let mut live = Vec::new();
    let mut tombstones = 0;
    for number in 1..COUNT {
        push(number, None);
        live.push(number);
        while random() % 8 < number * 7 / COUNT && !live.is_empty() {
            let victim = live.swap_remove(random() % live.len());
            cancelled[victim].store(true, Ordering::SeqCst);
            let cleared = pool.note_tombstone(Numbered::is_tombstone);
            assert!(cleared.iter().all(Numbered::is_tombstone));
            tombstones += 1;
            tombstones -= cleared.len();
        }
        assert_eq!(pool.counts().waiting, live.len());
        assert_eq!(field(&pool, "tombstones"), tombstones);
        assert!(
            field(&pool, "queued") <= 2 * live.len() + 64 + COUNT / 4,
            "{} queued for {} alive",
            field(&pool, "queued"),
            live.len()
        );
    }
    drop(key);
    live.sort_unstable();
    let ran = receive(&runs, live.len() + tombstones);
    assert!(ran.is_sorted());
    let ran: Vec<_> = ran
        .into_iter()
        .filter(|&n| !cancelled[n].load(Ordering::SeqCst))
        .collect();
    assert_eq!(ran, live);
    pool.close(true);
    assert_eq!(
        pool.join(Some(Instant::now() + PATIENCE), &mut || false),
        Ok(())
    );
}

#[test]
fn a_tombstone_may_leave_the_queue_before_it_is_counted() {
    // A worker pops a cancelled job, and says so, before who cancelled it does.
    let pool = pool(&bounded_by(3, 1));
    let key = occupy(&pool, 1);
    for _ in 0..5 {
        pool.forget_tombstone();
        assert!(pool.note_tombstone(|_| false).is_empty());
    }
    for waiting in 1..=3 {
        push(&pool, || ());
        assert_eq!(pool.counts().waiting, waiting);
    }
    assert_eq!(try_push(&pool, || ()), Err(Error::QueueFull));
    drop(key);
    close_and_join(&pool);
}

/// Numbers that look random; the same ones for the same seed.
fn numbers(mut seed: usize) -> impl FnMut() -> usize {
    move || {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        seed >> 33
    }
}

// ===== Shutdown =====

#[test]
fn a_drained_pool_runs_what_is_queued_and_refuses_the_rest() {
    let pool = pool(&options(2));
    let key = occupy(&pool, 2);
    let (sender, receiver) = channel();
    for _ in 0..100 {
        let sender = sender.clone();
        push(&pool, move || sender.send(()).unwrap());
    }
    assert!(pool.close(true).is_empty());
    assert!(pool.is_closed());
    assert_eq!(try_push(&pool, || ()), Err(Error::Shutdown));
    drop(key);
    join(&pool);
    assert_eq!(receiver.len(), 100);
}

#[test]
fn a_closed_pool_hands_back_what_is_queued_in_its_order() {
    let pool = pool(&options(1));
    let key = occupy(&pool, 1);
    let (sender, receiver) = channel();
    for n in 0..100 {
        let sender = sender.clone();
        push(&pool, move || sender.send(n).unwrap());
    }
    assert!(pool.close(true).is_empty());
    let left = pool.close(false); // stops the draining
    assert_eq!(left.len(), 100);
    assert!(pool.close(false).is_empty());
    for call in left {
        call();
    }
    assert!(receive(&receiver, 100).into_iter().eq(0..100));
    drop(key);
    join(&pool);
}

#[test]
fn a_join_times_out_while_a_job_goes_on() {
    let pool = pool(&options(1));
    let key = occupy(&pool, 1);
    pool.close(true);
    for _ in 0..3 {
        let soon = Some(Instant::now() + Duration::from_millis(2));
        assert_eq!(pool.join(soon, &mut || false), Err(Error::TimedOut));
    }
    drop(key);
    join(&pool);
    join(&pool);
}

#[test]
fn everybody_who_joins_is_told() {
    let pool = pool(&options(2));
    let key = occupy(&pool, 2);
    pool.close(true);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| join(&pool));
        }
        drop(key);
    });
}

#[test]
fn callers_who_wait_for_room_are_told_of_the_end() {
    let pool = pool(&bounded_by(0, 1));
    let key = occupy(&pool, 1);
    std::thread::scope(|scope| {
        let posters: Vec<_> = (0..3)
            .map(|_| scope.spawn(|| pool.wait_for_room(&mut None, &mut || false)))
            .collect();
        eventually("all wait", || field(&pool, "room") == 3);
        pool.close(true);
        for poster in posters {
            assert_eq!(poster.join().unwrap(), Ok(()));
        }
    });
    assert_eq!(try_push(&pool, || ()), Err(Error::Shutdown));
    drop(key);
    join(&pool);
}

#[test]
fn a_push_during_the_end_is_refused_or_runs() {
    for round in 0..100 {
        let pool = pool(&PoolOptions {
            idle_timeout: Duration::from_micros(20),
            ..options(3)
        });
        let ran = Arc::new(AtomicUsize::new(0));
        let accepted: usize = std::thread::scope(|scope| {
            let posters: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        let mut accepted = 0;
                        loop {
                            let ran = Arc::clone(&ran);
                            let count = move || {
                                ran.fetch_add(1, Ordering::SeqCst);
                            };
                            match try_push(&pool, count) {
                                Ok(()) => accepted += 1,
                                Err(error) => {
                                    assert_eq!(error, Error::Shutdown);
                                    break accepted;
                                }
                            }
                        }
                    })
                })
                .collect();
            eventually("some have run", || ran.load(Ordering::SeqCst) > round * 5);
            let left = pool.close(round % 2 == 0);
            join(&pool);
            let accepted: usize = posters.into_iter().map(|p| p.join().unwrap()).sum();
            accepted - left.len()
        });
        assert_eq!(ran.load(Ordering::SeqCst), accepted);
    }
}

// ===== Misfortune =====

struct Unwinding;

impl Runner for Unwinding {
    type Job = Call;

    fn work(&self, worker: &Worker<Call>) {
        while worker.wait() {
            while let Some(call) = worker.take() {
                call(); // and nobody catches what it throws
            }
        }
    }
}

#[test]
fn a_runner_that_unwinds_costs_a_thread_and_no_job() {
    let pool: Pool<Call> = Pool::new(&options(2), Arc::new(Unwinding));
    let (sender, receiver) = channel();
    for n in 0..50 {
        push(&pool, || panic!("on purpose"));
        let sender = sender.clone();
        push(&pool, move || sender.send(n).unwrap());
    }
    let mut done = receive(&receiver, 50);
    done.sort_unstable();
    assert!(done.into_iter().eq(0..50));
    close_and_join(&pool);
    assert_eq!(pool.counts().running, 0);
}

#[test]
#[cfg(target_os = "linux")]
fn without_threads_every_job_comes_back_to_who_posted_it() {
    if !without_threads("pool::without_threads_every_job_comes_back_to_who_posted_it") {
        return;
    }
    let pool = pool(&options(2));
    let posters: Vec<_> = (0..4)
        .map(|poster| {
            let pool = pool.clone();
            let post = move || {
                for n in 0..5_000 {
                    let (mine, is_mine) = channel();
                    let call = move || mine.send((poster, n)).unwrap();
                    let refused = pool.push(Box::new(call)).unwrap_err();
                    assert!(matches!(refused.error, Error::NoThread { .. }));
                    (refused.job)();
                    assert_eq!(is_mine.try_recv(), Ok((poster, n)));
                }
            };
            std::thread::Builder::new()
                .stack_size(1 << 22)
                .spawn(post)
                .unwrap()
        })
        .collect();
    for poster in posters {
        poster.join().unwrap();
    }
    let due: Vec<Call> = vec![Box::new(|| ()), Box::new(|| ())];
    let urgent: Vec<Call> = vec![Box::new(|| ())];
    assert_eq!(pool.push_due(due, urgent).len(), 3);
    assert_eq!(pool.counts().waiting, 0);
    close_and_join(&pool);
}

#[test]
#[cfg(target_os = "linux")]
fn without_threads_a_loan_and_the_fewest_workers_break_nothing() {
    if !without_threads("pool::without_threads_a_loan_and_the_fewest_workers_break_nothing") {
        return;
    }
    let pool = pool(&PoolOptions {
        min_workers: 2,
        ..options(3)
    });
    let lent = pool.lend();
    pool.start_min_workers();
    drop(lent);
    assert_eq!(workers(&pool), 0);
    close_and_join(&pool);
}

#[test]
fn an_urgent_job_goes_first_and_does_not_wait_for_a_free_worker() {
    let pool = pool(&options(1));
    let (key, gate) = gate();
    let (started, is_started) = channel();
    push(&pool, move || {
        started.send(()).unwrap();
        gate.pass();
    });
    is_started.recv_timeout(PATIENCE).unwrap();
    let (ran, order) = channel();
    let note = |name: &'static str| -> Call {
        let ran = ran.clone();
        Box::new(move || ran.send(name).unwrap())
    };
    assert!(
        pool.push_due(vec![note("due")], vec![note("urgent")])
            .is_empty()
    );
    assert_eq!(order.recv_timeout(PATIENCE), Ok("urgent"));
    // The worker beyond the limit was for the urgent one, and takes no other.
    eventually("it leaves", || {
        pool.counts().running + pool.counts().idle == 1
    });
    assert!(order.try_recv().is_err());
    drop(key);
    assert_eq!(order.recv_timeout(PATIENCE), Ok("due"));
    close_and_join(&pool);
}

#[test]
fn who_waits_for_room_and_finds_it_taken_keeps_its_place() {
    let pool = pool(&bounded_by(0, 1));
    let mut busy = Some(occupy(&pool, 1));
    let (woken, wakes) = channel();
    let posters: Vec<_> = (0..2)
        .map(|n| {
            let (inner, woken) = (pool.clone(), woken.clone());
            let (go_on, goes_on) = channel::<()>();
            std::thread::spawn(move || {
                let mut place = None;
                while goes_on.recv().is_ok() {
                    inner.wait_for_room(&mut place, &mut || false).unwrap();
                    let _ = woken.send(n); // the test may be over
                }
            });
            go_on.send(()).unwrap();
            eventually("the poster waits", || field(&pool, "room") == n + 1);
            go_on
        })
        .collect();
    // Each time there is room somebody who has not waited takes it.
    for _ in 0..5 {
        busy.take();
        assert_eq!(
            receive(&wakes, 1),
            [0],
            "the first to come is the first to be woken"
        );
        busy = Some(occupy(&pool, 1));
        posters[0].send(()).unwrap();
        eventually("both wait again", || field(&pool, "room") == 2);
    }
    drop(busy);
    close_and_join(&pool);
}

#[test]
fn who_is_interrupted_passes_the_wake_up_for_room_on() {
    let pool = pool(&bounded_by(0, 1));
    let busy = occupy(&pool, 1);
    let (first, second) = (channel(), channel());
    let (asked, is_asked) = channel();
    let (answer, answers) = channel::<()>();
    let inner = pool.clone();
    std::thread::spawn(move || {
        let interrupted = &mut || {
            asked.send(()).unwrap();
            answers.recv().unwrap();
            true
        };
        first
            .0
            .send(inner.wait_for_room(&mut None, interrupted))
            .unwrap();
    });
    eventually("the first waits", || field(&pool, "room") == 1);
    let inner = pool.clone();
    std::thread::spawn(move || {
        second
            .0
            .send(inner.wait_for_room(&mut None, &mut || false))
            .unwrap();
    });
    eventually("the second waits", || field(&pool, "room") == 2);
    // Twice a second a wait asks whether it is to end. While the first asks, it is called.
    is_asked.recv().unwrap();
    drop(busy);
    eventually("the first was called", || field(&pool, "room") == 1);
    answer.send(()).unwrap();
    assert_eq!(receive(&first.1, 1), [Err(Error::Interrupted)]);
    assert_eq!(receive(&second.1, 1), [Ok(())], "nobody else was called");
    close_and_join(&pool);
}

/// Its worker does not do what it should, the first few times.
struct Faulty {
    faults: AtomicUsize,
    started: AtomicUsize,
    fault: fn(&Worker<Call>),
}

impl Runner for Faulty {
    type Job = Call;

    fn work(&self, worker: &Worker<Call>) {
        self.started.fetch_add(1, Ordering::Relaxed);
        let faults = self.faults.load(Ordering::Relaxed);
        if faults > 0 {
            self.faults.store(faults - 1, Ordering::Relaxed);
            return (self.fault)(worker);
        }
        Caller.work(worker);
    }
}

fn take_all(worker: &Worker<Call>) {
    assert!(worker.wait());
    while let Some(call) = worker.take() {
        call();
    }
}

fn faulty(faults: usize, fault: fn(&Worker<Call>)) -> (Pool<Call>, Arc<Faulty>) {
    let runner = Arc::new(Faulty {
        faults: AtomicUsize::new(faults),
        started: AtomicUsize::new(0),
        fault,
    });
    (
        Pool::new(&options(1), Arc::<Faulty>::clone(&runner)),
        runner,
    )
}

#[test]
fn a_runner_that_panics_as_its_worker_goes_idle_costs_a_thread_and_no_job() {
    let (pool, _) = faulty(1, |worker| {
        take_all(worker);
        worker.wait_then(|| panic!("on purpose"));
    });
    let (sender, receiver) = channel();
    for n in 0..3 {
        let sender = sender.clone();
        push(&pool, move || sender.send(n).unwrap());
        assert_eq!(receive(&receiver, 1), [n]);
        if n == 0 {
            eventually("the worker is gone", || field(&pool, "workers") == 0);
        }
    }
    close_and_join(&pool);
}

#[test]
fn a_worker_that_is_sent_for_while_its_runner_panics_is_replaced() {
    let (pool, _) = faulty(1, |worker| {
        take_all(worker);
        worker.wait_then(|| {
            SENT_FOR.wait();
            SENT_FOR.wait();
            panic!("on purpose")
        });
    });
    let (sender, receiver) = channel();
    let again = sender.clone();
    push(&pool, move || sender.send(0).unwrap());
    assert_eq!(receive(&receiver, 1), [0]);
    SENT_FOR.wait(); // it can be summoned
    push(&pool, move || again.send(1).unwrap());
    SENT_FOR.wait(); // and has been
    assert_eq!(receive(&receiver, 1), [1]);
    close_and_join(&pool);
}

static SENT_FOR: std::sync::Barrier = std::sync::Barrier::new(2);

#[test]
fn workers_that_take_nothing_are_replaced_ever_more_slowly() {
    let (pool, runner) = faulty(5, |_| ());
    let (sender, receiver) = channel();
    let pushed = Instant::now();
    push(&pool, move || sender.send(()).unwrap());
    assert_eq!(receive(&receiver, 1), [()]);
    assert_eq!(runner.started.load(Ordering::Relaxed), 6);
    // The second waits for 10 ms before it is replaced, the next for 20, and so on.
    assert!(pushed.elapsed() >= Duration::from_millis(10 + 20 + 40 + 80));
    close_and_join(&pool);
}

#[test]
fn a_pool_whose_workers_take_nothing_can_be_closed() {
    let (pool, _) = faulty(usize::MAX, |_| ());
    push(&pool, || unreachable!("nobody takes it"));
    assert!(pool.close(true).is_empty());
    join(&pool);
    assert_eq!(pool.close(false).len(), 1);
}

#[test]
fn a_wait_for_room_on_another_pools_worker_lends_that_pool_one() {
    let (outer, full) = (pool(&options(1)), pool(&bounded_by(0, 1)));
    let busy = occupy(&full, 1);
    let (done, is_done) = channel();
    let (inner, posted) = (full.clone(), done.clone());
    push(&outer, move || {
        let mut place = None;
        while inner.counts().running > 0 {
            inner.wait_for_room(&mut place, &mut || false).unwrap();
        }
        posted.send("posted").unwrap();
    });
    eventually("it waits", || field(&full, "room") == 1);
    // What makes room needs a worker of the pool whose only one waits for it.
    push(&outer, move || {
        done.send("made room").unwrap();
        drop(busy);
    });
    assert_eq!(receive(&is_done, 2), ["made room", "posted"]);
    close_and_join(&outer);
    close_and_join(&full);
}

#[test]
fn a_job_that_waits_for_the_end_of_another_pool_lends_its_own_a_worker() {
    let (outer, ending) = (pool(&options(1)), pool(&options(1)));
    let busy = occupy(&ending, 1);
    let (done, is_done) = channel();
    let (inner, ended) = (ending.clone(), done.clone());
    push(&outer, move || {
        inner.close(true);
        join(&inner);
        ended.send("ended").unwrap();
    });
    eventually("it waits", || ending.is_closed());
    push(&outer, move || {
        done.send("let it end").unwrap();
        drop(busy);
    });
    assert_eq!(receive(&is_done, 2), ["let it end", "ended"]);
    close_and_join(&outer);
}

#[test]
fn pools_that_end_each_other_in_a_circle_end() {
    let pools: Vec<_> = (0..3).map(|_| pool(&options(1))).collect();
    let all_run = Arc::new(std::sync::Barrier::new(3));
    let (done, is_done) = channel();
    for n in 0..3 {
        let (next, all_run, done) = (
            pools[(n + 1) % 3].clone(),
            Arc::clone(&all_run),
            done.clone(),
        );
        push(&pools[n], move || {
            all_run.wait();
            next.close(true);
            done.send(next.join(None, &mut || false)).unwrap();
        });
    }
    assert_eq!(receive(&is_done, 3), [const { Ok(()) }; 3]);
    for pool in &pools {
        join(pool);
    }
}

#[test]
fn that_many_workers_are_lent_is_said_once() {
    struct Told(AtomicUsize);

    impl Runner for Told {
        type Job = Call;

        fn work(&self, worker: &Worker<Call>) {
            Caller.work(worker);
        }

        fn lends_many(&self, lent: usize) {
            assert_eq!(lent, MANY_LENT + 1);
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    let runner = Arc::new(Told(AtomicUsize::new(0)));
    let pool: Pool<Call> = Pool::new(&options(1), Arc::<Told>::clone(&runner));
    let mut lent: Vec<_> = (0..MANY_LENT).map(|_| pool.lend()).collect();
    assert_eq!(runner.0.load(Ordering::Relaxed), 0);
    for _ in 0..3 {
        lent.push(pool.lend());
        lent.push(pool.lend());
        lent.truncate(MANY_LENT);
    }
    assert_eq!(runner.0.load(Ordering::Relaxed), 1);
    drop(lent);
    close_and_join(&pool);
}

#[test]
fn workers_have_the_stack_that_was_asked_for() {
    /// Takes a kibibyte of stack a level, and more.
    fn dive(depth: usize) -> usize {
        let block = std::hint::black_box([depth; 128]);
        if depth == 0 {
            0
        } else {
            dive(depth - 1) + block[depth % 128] - depth + 1
        }
    }

    let pool = pool(&PoolOptions {
        stack_size: Some(32 << 20),
        ..options(1)
    });
    let (done, is_done) = channel();
    push(&pool, move || done.send(dive(8 << 10)).unwrap());
    assert_eq!(receive(&is_done, 1), [8 << 10]);
    close_and_join(&pool);
}
