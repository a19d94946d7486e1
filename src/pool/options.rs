//! How a pool is to be built.
//!
//! Owned by whoever builds one. It checks nothing: [`Pool::new`](super::Pool::new) does.
#![forbid(unsafe_code)]

use std::time::Duration;

/// How a pool is to be built.
#[derive(Clone, Debug)]
pub struct PoolOptions {
    /// The most workers at a time; at least 1.
    pub max_workers: usize,
    /// Workers that stay when idle; at most `max_workers`.
    pub min_workers: usize,
    /// How long a worker beyond `min_workers` stays idle before it leaves.
    pub idle_timeout: Duration,
    /// The most jobs that wait for a worker, those not counted that a free worker is about to take;
    /// `None` for no bound.
    pub queue_size: Option<usize>,
    /// Workers are called this, a dash and a number.
    pub thread_name: String,
    /// The stack of a worker's thread, in bytes; `None` for what Rust's threads have, 2 MiB.
    pub stack_size: Option<usize>,
    /// `Some` if jobs run under a lock that one thread at a time can hold, such as an interpreter's: then
    /// the pool keeps its workers from contending for it. The duration is a little less than the shortest
    /// time after which a thread is made to release that lock.
    pub turns: Option<Duration>,
}

impl Default for PoolOptions {
    fn default() -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            max_workers: 32.min(cpus + 4),
            min_workers: 0,
            idle_timeout: Duration::from_secs(10),
            queue_size: None,
            thread_name: "asynctask".to_owned(),
            stack_size: None,
            turns: None,
        }
    }
}

/// The stack that the system gives to a thread which asks for none, and to those of C programs and of
/// Python: what `ulimit -s` says, where that is heeded.
pub fn default_stack_size() -> usize {
    /// Where there is no limit, or none that threads heed: what Linux's usually is.
    const USUAL: usize = 8 << 20;
    /// Less than this no thread can be started with.
    const LEAST: usize = 32 << 10;

    #[cfg(target_os = "linux")]
    let limit = rustix::process::getrlimit(rustix::process::Resource::Stack)
        .current
        .and_then(|limit| usize::try_from(limit).ok());
    #[cfg(not(target_os = "linux"))]
    let limit = None::<usize>;
    limit.map_or(USUAL, |limit| limit.max(LEAST))
}
