//! Jobs in the queue that nobody wants any more.

use super::*;

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
