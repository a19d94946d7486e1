//! Runners that panic, threads that are refused, waits across pools.

use super::*;

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
    if !without_threads("pool::misfortune::without_threads_every_job_comes_back_to_who_posted_it") {
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
    if !without_threads(
        "pool::misfortune::without_threads_a_loan_and_the_fewest_workers_break_nothing",
    ) {
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
    SENT_FOR.wait(); // it can be woken
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
