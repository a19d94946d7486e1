//! The wake-up protocol under every interleaving.

use loom::thread;

use super::*;
use crate::sync::{AtomicU64, Ordering};

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

fn pool(max_workers: usize, queue_size: Option<usize>) -> Pool<Call> {
    let options = PoolOptions {
        max_workers,
        queue_size,
        ..PoolOptions::default()
    };
    Pool::new(&options, Arc::new(Caller))
}

/// One whose jobs run under a lock, and whose jobs never grow old.
fn pool_with_turns(max_workers: usize) -> Pool<Call> {
    let options = PoolOptions {
        max_workers,
        turns: Some(Duration::MAX),
        ..PoolOptions::default()
    };
    Pool::new(&options, Arc::new(Caller))
}

/// Every interleaving with up to four preemptions; two find what has been seen to go wrong.
fn model(f: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(4));
    builder.check(f);
}

/// Calls that count themselves.
#[derive(Clone)]
struct Count(Arc<AtomicU64>, Arc<Parker>);

impl Count {
    fn new() -> Self {
        Self(Arc::new(AtomicU64::new(0)), Arc::new(Parker::new()))
    }

    fn wait_for(&self, expected: u64) {
        while self.0.load(Ordering::Acquire) < expected {
            self.1.park(None);
        }
    }

    fn call(&self) -> Call {
        let count = self.clone();
        Box::new(move || {
            count.0.fetch_add(1, Ordering::AcqRel);
            count.1.unpark();
        })
    }

    fn end(&self, pool: &Pool<Call>, expected: u64) {
        pool.close(true);
        assert_eq!(pool.join(None, &mut || false), Ok(()));
        assert_eq!(self.0.load(Ordering::Relaxed), expected);
        let state = lock(&pool.shared.state);
        assert_eq!((state.workers, state.alive, state.running), (0, 0, 0));
        assert!(!state.coming && state.queued() == 0);
    }
}

fn push(pool: &Pool<Call>, call: Call) {
    assert!(pool.push(call).is_ok());
}

#[test]
fn loom_a_push_never_misses_a_worker_that_goes_idle() {
    model(|| {
        let (pool, count) = (pool(1, None), Count::new());
        push(&pool, count.call());
        push(&pool, count.call());
        count.end(&pool, 2);
    });
}

#[test]
fn loom_two_who_push_and_one_worker() {
    model(|| {
        let (pool, count) = (pool(1, None), Count::new());
        let other = {
            let (pool, call) = (pool.clone(), count.call());
            thread::spawn(move || push(&pool, call))
        };
        push(&pool, count.call());
        other.join().unwrap();
        count.end(&pool, 2);
    });
}

#[test]
fn loom_a_job_that_blocks_passes_the_baton_first() {
    model(|| {
        let (pool, count) = (pool(2, None), Count::new());
        let parker = Arc::new(Parker::new());
        let blocked = {
            let (parker, call) = (Arc::clone(&parker), count.call());
            move || {
                parker.park(None);
                call();
            }
        };
        push(&pool, Box::new(blocked));
        push(
            &pool,
            Box::new(move || {
                parker.unpark();
            }),
        );
        count.end(&pool, 1);
    });
}

#[test]
fn loom_a_push_meets_a_worker_whose_time_is_up() {
    model(|| {
        let (pool, count) = (pool(1, None), Count::new());
        push(&pool, count.call());
        let time = {
            let pool = pool.clone();
            thread::spawn(move || {
                let idle = lock(&pool.shared.state).idle.clone();
                for sleeper in idle {
                    sleeper.parker.expire();
                }
            })
        };
        push(&pool, count.call());
        time.join().unwrap();
        count.end(&pool, 2);
    });
}

#[test]
fn loom_who_waits_for_room_is_called() {
    model(|| {
        let (pool, count) = (pool(1, Some(0)), Count::new());
        push(&pool, count.call());
        let mut call = count.call();
        while let Err(refused) = pool.push(call) {
            assert_eq!(refused.error, Error::QueueFull);
            call = refused.job;
            assert_eq!(pool.wait_for_room(&mut None, &mut || false), Ok(()));
        }
        count.end(&pool, 2);
    });
}

#[test]
fn loom_a_lent_worker_serves_who_waits_for_room() {
    model(|| {
        let (pool, count) = (pool(1, Some(0)), Count::new());
        let parker = Arc::new(Parker::new());
        let waiting = {
            let (pool, parker) = (pool.clone(), Arc::clone(&parker));
            move || {
                let lent = pool.lend();
                parker.park(None);
                drop(lent);
            }
        };
        push(&pool, Box::new(waiting));
        let mut call: Call = Box::new(move || {
            parker.unpark();
        });
        while let Err(refused) = pool.push(call) {
            call = refused.job;
            assert_eq!(pool.wait_for_room(&mut None, &mut || false), Ok(()));
        }
        count.end(&pool, 0);
    });
}

#[test]
fn loom_a_smaller_limit_loses_no_job() {
    model(|| {
        let (pool, count) = (pool(2, None), Count::new());
        push(&pool, count.call());
        push(&pool, count.call());
        pool.resize(1);
        push(&pool, count.call());
        count.end(&pool, 3);
    });
}

#[test]
fn loom_a_push_during_the_end_is_refused_or_runs() {
    model(|| {
        let (pool, count) = (pool(1, None), Count::new());
        let other = {
            let (pool, call) = (pool.clone(), count.call());
            thread::spawn(move || pool.push(call).is_ok())
        };
        push(&pool, count.call());
        pool.close(true);
        let accepted = u64::from(other.join().unwrap());
        count.end(&pool, 1 + accepted);
    });
}

/// With two preemptions, which is what it takes to find the fault; with three it runs for minutes.
fn refused_starts(pool: fn() -> Pool<Call>) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(move || {
        let (pool, count) = (pool(), Count::new());
        let go = Arc::new(Parker::new());
        let first = {
            let (go, call) = (Arc::clone(&go), count.call());
            move || {
                go.park(None);
                call();
            }
        };
        push(&pool, Box::new(first));
        // From now on there is one thread, and no other.
        pool.refuse_starts(usize::MAX);
        let other = {
            let (pool, call) = (pool.clone(), count.call());
            thread::spawn(move || push(&pool, call))
        };
        go.unpark();
        push(&pool, count.call());
        other.join().unwrap();
        // Nobody pushes, or closes, before they are done.
        count.wait_for(3);
        count.end(&pool, 3);
    });
}

#[test]
fn loom_a_refused_start_strands_no_job_beside_an_idle_worker() {
    refused_starts(|| pool(2, None));
}

#[test]
fn loom_with_turns_a_refused_start_strands_no_job_beside_an_idle_worker() {
    refused_starts(|| pool_with_turns(2));
}

#[test]
fn loom_turns_lose_no_job() {
    model(|| {
        let (pool, count) = (pool_with_turns(2), Count::new());
        for _ in 0..3 {
            push(&pool, count.call());
        }
        count.end(&pool, 3);
    });
}

#[test]
fn loom_with_turns_a_job_that_blocks_passes_the_baton_first() {
    model(|| {
        let (pool, count) = (pool_with_turns(2), Count::new());
        let parker = Arc::new(Parker::new());
        let blocked = {
            let (parker, call) = (Arc::clone(&parker), count.call());
            move || {
                parker.park(None);
                call();
            }
        };
        push(&pool, Box::new(blocked));
        let unblock = count.call();
        push(
            &pool,
            Box::new(move || {
                parker.unpark();
                unblock();
            }),
        );
        count.end(&pool, 2);
    });
}

#[test]
fn loom_an_urgent_job_needs_no_free_worker() {
    model(|| {
        let (pool, count) = (pool(1, None), Count::new());
        let parker = Arc::new(Parker::new());
        let blocked = {
            let (parker, call) = (Arc::clone(&parker), count.call());
            move || {
                parker.park(None);
                call();
            }
        };
        push(&pool, Box::new(blocked));
        let urgent: Call = Box::new(move || {
            parker.unpark();
        });
        assert!(pool.push_due(Vec::new(), vec![urgent]).is_empty());
        count.end(&pool, 1);
    });
}

#[test]
fn loom_a_job_that_waits_for_another_has_a_worker_lent() {
    model(|| {
        let (pool, count) = (pool(1, None), Count::new());
        let parker = Arc::new(Parker::new());
        let waiting = {
            let (parker, call) = (Arc::clone(&parker), count.call());
            move || {
                let lent = lend_while_waiting();
                assert!(lent.is_some(), "it is on a worker");
                parker.park(None);
                drop(lent);
                call();
            }
        };
        push(&pool, Box::new(waiting));
        let awaited = count.call();
        push(
            &pool,
            Box::new(move || {
                parker.unpark();
                awaited();
            }),
        );
        count.end(&pool, 2);
    });
}
