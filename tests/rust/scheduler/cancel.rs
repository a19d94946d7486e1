//! Tasks that are cancelled.

use super::*;

#[test]
fn cancelling_a_queued_task_frees_its_callback_at_once() {
    let scheduler = one_worker();
    let busy = occupy(&scheduler);
    let (callback, is_alive) = owning();
    let task = scheduler.post(callback).unwrap();
    assert!(is_alive());
    assert!(task.abort());
    assert!(!is_alive());
    assert!(task.is_finished());
    assert!(task.abort(), "cancelled is cancelled");
    assert_eq!(task.view().runs(), 0);
    assert_eq!(wait(task), Err(Error::Cancelled));
    drop(busy);
    assert_eq!(shut_down(scheduler).cancelled, 1);
}

#[test]
fn cancelling_a_waiting_task_takes_it_off_the_wheel_and_frees_its_callback_at_once() {
    let scheduler = one_worker();
    let (callback, is_alive) = owning();
    let delay = scheduler.post_after(HOUR, callback).unwrap();
    assert_eq!(scheduler.stats().pending_timers, 1);
    assert!(delay.abort());
    assert!(!is_alive());
    let (callback, is_alive) = owning();
    let beat = scheduler.post_every(&Every::new(HOUR), callback).unwrap();
    beat.stop();
    assert!(!is_alive());
    assert_eq!(scheduler.stats().pending_timers, 0);
    assert_eq!(
        (wait(delay), wait(beat)),
        (Err(Error::Cancelled), Err(Error::Cancelled))
    );
    assert_eq!(shut_down(scheduler).cancelled, 2);
}

#[test]
fn a_running_or_finished_task_cannot_be_cancelled() {
    let scheduler = one_worker();
    let busy = occupy(&scheduler);
    assert!(!busy.handle.abort());
    assert!(busy.handle.view().cancel_requested());
    let handle = busy.release();
    assert!(handle.wait_timeout(PATIENCE));
    assert!(!handle.abort());
    assert_eq!(wait(handle), Ok(()));
    assert_eq!(shut_down(scheduler).cancelled, 0);
}

#[test]
fn a_callback_may_cancel_itself_and_its_neighbours() {
    let scheduler = one_worker();
    let (hand_over, handed_over) = channel::<JoinHandle<()>>();
    let (neighbour, neighbours) = channel::<JoinHandle<()>>();
    let (answer, answers) = channel();
    let task = scheduler.post(move || {
        let itself = receive(&handed_over, 1).remove(0);
        let others = receive(&neighbours, 3);
        answer
            .send((others.iter().all(JoinHandle::abort), itself.abort()))
            .unwrap();
    });
    hand_over.send(task.unwrap()).unwrap();
    for _ in 0..3 {
        neighbour.send(scheduler.post(|| ()).unwrap()).unwrap();
    }
    assert_eq!(receive(&answers, 1), [(true, false)]);
    let stats = shut_down(scheduler);
    assert_eq!((stats.successful, stats.cancelled), (1, 3));
}

#[test]
fn posting_and_cancelling_behind_a_blocked_worker_does_not_grow_the_queue() {
    let scheduler = one_worker();
    let busy = occupy(&scheduler);
    let owned = Arc::new(());
    let (order, ordered) = channel();
    for n in 0..100_000 {
        if n % 10_000 == 0 {
            let order = order.clone();
            scheduler.post(move || order.send(n).unwrap()).unwrap();
        }
        let captured = Arc::clone(&owned);
        let task = scheduler.post(move || drop(captured)).unwrap();
        assert!(task.abort());
        assert!(field(&scheduler, "queued") < 64 || n % 1000 != 0);
    }
    assert_eq!(Arc::strong_count(&owned), 1);
    assert!(field(&scheduler, "queued") < 64);
    assert_eq!(scheduler.stats().pool.waiting, 10);
    drop(busy);
    assert!(
        receive(&ordered, 10)
            .into_iter()
            .eq((0..10).map(|n| n * 10_000))
    );
    let stats = shut_down(scheduler);
    assert_eq!((stats.cancelled, stats.successful), (100_000, 11));
}

#[test]
fn a_cancel_against_a_start_has_one_winner_and_the_count_of_the_waiting_stays_true() {
    const COUNT: usize = 50_000;
    let scheduler = one_worker();
    let ran: Arc<[AtomicBool]> = (0..COUNT).map(|_| AtomicBool::new(false)).collect();
    let (sender, receiver) = crossbeam_channel::bounded::<(usize, JoinHandle<()>)>(4);
    std::thread::scope(|scope| {
        let canceller = scope.spawn(|| {
            let cancel = |(n, task): (usize, JoinHandle<()>)| (n, task.abort(), task);
            receiver.iter().map(cancel).collect::<Vec<_>>()
        });
        for n in 0..COUNT {
            let ran = Arc::clone(&ran);
            let task = scheduler.post(move || {
                assert!(!ran[n].swap(true, Ordering::SeqCst), "{n} ran twice");
            });
            sender.send((n, task.unwrap())).unwrap();
        }
        drop(sender);
        for (n, cancelled, task) in canceller.join().unwrap() {
            assert_eq!(
                wait(task),
                if cancelled {
                    Err(Error::Cancelled)
                } else {
                    Ok(())
                }
            );
            assert_eq!(ran[n].load(Ordering::SeqCst), !cancelled);
        }
    });
    eventually("the queue is empty", || field(&scheduler, "queued") == 0);
    let busy = occupy(&scheduler);
    let queued: Vec<_> = (0..3).map(|_| scheduler.post(|| ()).unwrap()).collect();
    assert_eq!(scheduler.stats().pool.waiting, 3);
    drop(busy);
    for task in queued {
        assert_eq!(wait(task), Ok(()));
    }
    shut_down(scheduler);
}
