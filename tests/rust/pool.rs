//! The pool by itself: bound, growth, idleness, resize, loans, shutdown.

mod misfortune;
mod shutdown;
mod tombstones;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use asynctask::Error;
use asynctask::pool::{MANY_LENT, Pool, PoolOptions, Runner, Worker};

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

/// The most workers, those that run, those that are idle, and jobs that wait.
fn counts<J: Send + 'static>(pool: &Pool<J>) -> [usize; 4] {
    let counts = pool.counts();
    [
        counts.max_workers,
        counts.running,
        counts.idle,
        counts.waiting,
    ]
}

// ===== Order and growth =====

#[test]
fn a_new_pool_has_no_thread() {
    let pool = pool(&options(3));
    assert_eq!(counts(&pool), [3, 0, 0, 0]);
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
    assert_eq!(counts(&pool), [3, 3, 0, 7]);
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
    assert_eq!(counts(&pool), [4, 4, 0, 0]);
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
