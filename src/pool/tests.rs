//! The refusing of threads, and the queue beside a plain list.

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
        let waited = served.wait(None, &mut or_request_again(lent.as_ref(), &mut || false));
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
