//! Tasks without a callback.

use asynctask::engine::Options;

use super::*;

/// A task without a callback; what it does can be counted.
#[derive(Clone)]
struct Bare(Arc<Inner>);

struct Inner {
    task: Task,
    engine: Arc<Engine<Bare>>,
    calls: AtomicU64,
    ends: AtomicU64,
}

impl Job for Bare {
    type Token<'a> = ();
    type Value = ();
    type Failure = ();

    fn task(&self) -> &Task {
        &self.0.task
    }

    fn engine(&self) -> &Arc<Engine<Self>> {
        &self.0.engine
    }

    fn share(&self, (): ()) -> Self {
        self.clone()
    }

    fn call(&self, (): ()) -> Outcome<(), ()> {
        self.0.calls.fetch_add(1, Ordering::SeqCst);
        Outcome::Value(())
    }

    fn panicked(&self, (): (), _payload: Box<dyn Any + Send>) {}

    fn value_of_no_run(&self, (): ()) {}

    fn run_failed(&self, (): (), (): ()) {}

    fn end(&self, (): (), _result: Option<Result<(), ()>>) {
        self.0.ends.fetch_add(1, Ordering::SeqCst);
    }

    fn ended(&self, (): ()) {}
}

struct BareRunner;

impl Runner for BareRunner {
    type Job = Bare;

    fn work(&self, worker: &Worker<Bare>) {
        while worker.wait() {
            while let Some(job) = worker.take() {
                let _ = catch_unwind(AssertUnwindSafe(|| drop(run(job, ()))));
            }
        }
    }
}

fn bare_engine() -> (Arc<Manual>, Arc<Engine<Bare>>) {
    let clock = Arc::new(Manual::new());
    let options = Options {
        clock: Some(Arc::<Manual>::clone(&clock)),
        ..Options::default()
    };
    (clock, Engine::new(&options, Arc::new(BareRunner)))
}

fn post_bare(engine: &Arc<Engine<Bare>>, delay: Duration, task: Task) -> Bare {
    let inner = Inner {
        task,
        engine: Arc::clone(engine),
        calls: AtomicU64::new(0),
        ends: AtomicU64::new(0),
    };
    let bare = Bare(Arc::new(inner));
    let deadline = engine.now() + u64::try_from(delay.as_nanos()).unwrap();
    engine.post_at(bare.clone(), deadline, ()).unwrap();
    bare
}

fn over(bare: &Bare) -> Phase {
    let deadline = Some(std::time::Instant::now() + PATIENCE);
    bare.0
        .engine
        .wait(&bare.0.task, Goal::Over, deadline, &mut || false)
        .unwrap()
        .phase()
}

#[test]
fn a_delay_without_a_callback_ends_without_a_worker() {
    let (clock, engine) = bare_engine();
    let bare = post_bare(&engine, ms(5), Task::bare());
    run_for(&clock, ms(4));
    assert_eq!(bare.task().view().phase(), Phase::Pending);
    run_for(&clock, ms(1));
    assert_eq!(over(&bare), Phase::Finished);
    let stats = engine.stats();
    assert_eq!(
        (stats.successful, stats.pool.idle + stats.pool.running),
        (1, 0)
    );
    engine.close(true, ());
    // The engine, the test and nobody else hold it.
    assert_eq!(Arc::strong_count(&bare.0), 1);
}

#[test]
fn a_watched_delay_is_ended_by_a_worker() {
    let (clock, engine) = bare_engine();
    let bare = post_bare(&engine, ms(5), Task::bare());
    bare.task().watch();
    run_for(&clock, ms(5));
    assert_eq!(over(&bare), Phase::Finished);
    assert_eq!(
        (
            bare.0.calls.load(Ordering::SeqCst),
            bare.0.ends.load(Ordering::SeqCst)
        ),
        (1, 1)
    );
    engine.close(true, ());
}

#[test]
fn a_series_without_a_callback_counts_its_ticks_without_a_worker() {
    let (clock, engine) = bare_engine();
    let every = Every::new(ms(5)).max_runs(7);
    let bare = post_bare(
        &engine,
        ms(5),
        Task::bare_series(Series::new(&every, Moment::at(0)).unwrap()),
    );
    run_for(&clock, ms(26));
    assert_eq!(bare.task().view().runs(), 5);
    clock.advance(ms(100));
    run_for(&clock, ms(100));
    assert_eq!(
        (over(&bare), bare.task().view().runs()),
        (Phase::Finished, 7)
    );
    let stats = engine.stats();
    assert_eq!(
        (stats.missed_runs, stats.pool.idle + stats.pool.running),
        (19, 0)
    );
    engine.close(true, ());
}

#[test]
fn a_cancel_against_the_end_of_a_delay_without_a_callback_has_one_winner() {
    let clock = Arc::new(Manual::new());
    let options = Options {
        clock: Some(Arc::<Manual>::clone(&clock)),
        ..Options::default()
    };
    let engine = Engine::new(&options, Arc::new(BareRunner));
    let mut cancelled = 0;
    for n in 0..5_000_u32 {
        let bare = post_bare(&engine, ms(1), Task::bare());
        clock.advance(ms(1));
        for _ in 0..n % 200 * 4 {
            std::hint::spin_loop();
        }
        let won = engine.stop(&bare, true, ()) == Cancel::Now;
        assert_eq!(
            over(&bare),
            if won {
                Phase::Cancelled
            } else {
                Phase::Finished
            }
        );
        cancelled += u64::from(won);
    }
    run_for(&clock, Duration::ZERO);
    let stats = engine.stats();
    assert_eq!(
        (stats.cancelled, stats.successful),
        (cancelled, 5_000 - cancelled)
    );
    assert_eq!(stats.pool.waiting, 0);
    assert_eq!(field(&engine, "tombstones"), 0);
    engine.close(true, ());
}

#[test]
fn a_series_without_a_callback_is_cancelled_at_the_end_wherever_it_is() {
    for round in 0..300_u32 {
        let engine = Engine::new(&Options::default(), Arc::new(BareRunner));
        let every = Every::new(Duration::from_micros(1));
        let series: Vec<_> = (0..4)
            .map(|_| {
                let series = Series::new(&every, engine.moment()).unwrap();
                post_bare(&engine, Duration::ZERO, Task::bare_series(series))
            })
            .collect();
        for _ in 0..round * 8 {
            std::hint::spin_loop();
        }
        engine.close(true, ());
        for bare in &series {
            assert_eq!(over(bare), Phase::Cancelled);
            assert_eq!(bare.0.calls.load(Ordering::SeqCst), 0, "a worker ran it");
            assert_eq!(bare.0.ends.load(Ordering::SeqCst), 1);
        }
        assert_eq!(engine.stats().cancelled, 4);
    }
}
