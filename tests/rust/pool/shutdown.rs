//! The end of a pool.

use super::*;

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
