//! What the black-box tests wait with: gates, and patience. Nothing here sleeps to let time pass.

use std::sync::Arc;
use std::time::{Duration, Instant};

use asynctask::clock::Manual;
use asynctask::sync::Parker;
use asynctask::{Error, JoinHandle, Scheduler, SchedulerBuilder, SchedulerHandle, SeriesHandle};
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

/// How long a test waits before it calls a hang a hang.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A gate that is closed while `Key` lives.
pub(crate) struct Key(#[expect(dead_code, reason = "its drop opens the gate")] Sender<()>);

/// The gate's other side; every clone is the same gate.
#[derive(Clone)]
pub(crate) struct Gate(Receiver<()>);

pub(crate) fn gate() -> (Key, Gate) {
    let (sender, receiver) = bounded(0);
    (Key(sender), Gate(receiver))
}

impl Gate {
    /// Waits until the key is dropped.
    pub(crate) fn pass(&self) {
        let closed = self.0.recv_timeout(PATIENCE).unwrap_err();
        assert!(closed.is_disconnected(), "a gate stayed closed");
    }
}

/// Waits until `condition` holds, for what has no event to wait for.
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let give_up = Instant::now() + PATIENCE;
    let pause = Parker::new();
    while !condition() {
        assert!(Instant::now() < give_up, "never: {what}");
        pause.park(Some(Instant::now() + Duration::from_micros(100)));
    }
}

/// A builder of schedulers of `max_workers`.
pub(crate) fn builder(max_workers: usize) -> SchedulerBuilder {
    Scheduler::builder().max_workers(max_workers)
}

/// One worker on a clock that is moved by hand.
pub(crate) fn one_by_hand() -> (Arc<Manual>, Scheduler) {
    let clock = Arc::new(Manual::new());
    let builder = builder(1).clock(Arc::clone(&clock));
    (clock, builder.build().unwrap())
}

/// What can be joined, and what comes of it.
pub(crate) trait Join {
    type Value;

    fn join_patiently(self) -> Result<Self::Value, Error>;
}

impl<T: Send + 'static> Join for JoinHandle<T> {
    type Value = T;

    fn join_patiently(self) -> Result<T, Error> {
        let joined = self.join_timeout(PATIENCE);
        Ok(joined.expect("a task hangs")?)
    }
}

impl<T: Send + 'static> Join for SeriesHandle<T> {
    type Value = T;

    fn join_patiently(self) -> Result<T, Error> {
        assert!(self.wait_timeout(PATIENCE), "a series hangs");
        self.join()?.ok_or(Error::Ended { runs: 0 })
    }
}

/// Waits for the value of a task, or of a series' last run.
pub(crate) fn wait<H: Join>(handle: H) -> Result<H::Value, Error> {
    handle.join_patiently()
}

/// Ends a scheduler that somebody else owns, as its owner would.
pub(crate) fn shut_down_by(handle: &SchedulerHandle, drain: bool) {
    handle.engine().close(drain, ());
    handle.engine().join(None, &mut || false).unwrap();
}

/// A scheduler of two workers on a clock that is moved by hand.
pub(crate) fn by_hand() -> (Arc<Manual>, Scheduler) {
    let clock = Arc::new(Manual::new());
    let builder = builder(2).clock(Arc::clone(&clock));
    (clock, builder.build().unwrap())
}

/// Keeps one worker in a callback until it is dropped.
pub(crate) struct Busy {
    key: Key,
    pub(crate) handle: JoinHandle<()>,
}

impl Busy {
    /// Lets the callback end.
    pub(crate) fn release(self) -> JoinHandle<()> {
        drop(self.key);
        self.handle
    }
}

/// Posts a callback that blocks, and waits until a worker is in it.
pub(crate) fn occupy(scheduler: &Scheduler) -> Busy {
    let (key, gate) = gate();
    let (started, has_started) = bounded(1);
    let handle = scheduler.post(move || {
        started.send(()).unwrap();
        gate.pass();
    });
    has_started.recv_timeout(PATIENCE).unwrap();
    Busy {
        key,
        handle: handle.unwrap(),
    }
}

/// Receives `count` messages.
pub(crate) fn receive<T>(receiver: &Receiver<T>, count: usize) -> Vec<T> {
    (0..count)
        .map(|_| receiver.recv_timeout(PATIENCE).expect("a message was lost"))
        .collect()
}

/// A channel without a bound, by its length.
pub(crate) fn channel<T>() -> (Sender<T>, Receiver<T>) {
    unbounded()
}

/// The number behind `field` in what `{:?}` says of a pool.
pub(crate) fn field(debug: &impl std::fmt::Debug, field: &str) -> usize {
    let text = format!("{debug:?}");
    let (_, after) = text.split_once(&format!("{field}: ")).expect(&text);
    let digits: String = after.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().expect(&text)
}

/// Runs the test `name` again, in a process in which no thread can be started but
/// those that ask for a smaller stack. `true`: this is that process.
pub(crate) fn without_threads(name: &str) -> bool {
    const MARK: &str = "ASYNCTASK_TEST_WITHOUT_THREADS";
    if std::env::var_os(MARK).is_some() {
        return true;
    }
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--test-threads=1", "--nocapture"])
        .env(MARK, "1")
        .env("RUST_MIN_STACK", (1_usize << 50).to_string())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("1 passed"), "{said}{complained}");
    false
}

/// The threads of this process with that name and a number.
#[cfg(target_os = "linux")]
pub(crate) fn threads_called(name: &str) -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names =
        tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|other| other.starts_with(name)).count()
}
