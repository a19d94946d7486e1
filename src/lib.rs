//! Run something in the background, later, or every so often, inside one process.
//!
//! A worker pool and a three-tier timing wheel on native threads. This crate is the core of the
//! Python module `asynctask`, and complete without it: the binding is a crate of its own, `binding/`.
//!
//! ```
//! use std::time::Duration;
//! use asynctask::{Every, Scheduler};
//!
//! let scheduler = Scheduler::new();
//! let now = scheduler.post(|| 6 * 7)?;
//! let later = scheduler.post_after(Duration::from_millis(10), || "later")?;
//! let beat = scheduler.post_every(&Every::new(Duration::from_millis(2)), || ())?;
//! assert_eq!(now.join()?, 42);
//! assert_eq!(later.join()?, "later");
//! beat.wait_for_runs(3, None)?;
//! beat.stop();
//! scheduler.shutdown();
//! # Ok::<(), asynctask::Error>(())
//! ```
//!
//! # Map
//!
//! | module        | what it is                                                                    |
//! |---------------|-------------------------------------------------------------------------------|
//! | [`wheel`]     | the three tiers; pure data: no clock, no lock, no thread                      |
//! | `timer`       | the thread that sleeps until the next deadline                                |
//! | `pool`        | workers, queue, wake-ups, growth, shutdown                                    |
//! | `series`      | when an interval task runs next; pure arithmetic                              |
//! | `task`        | the state machine of one task, cancel, waiters                                |
//! | `ticks`       | gives each tick of a series out once                                          |
//! | `engine`      | brings them together; for whoever embeds the core                             |
//! | `scheduler`   | the facade for Rust users                                                     |
//! | [`clock`]     | the system's two clocks, and one that is moved by hand                        |
//! | `error`       | what can go wrong, in one enum, and what a post and a join say of their own   |
//! | `fork`        | in which process something was made                                           |
//! | `sync`        | primitives, `std`'s or loom's                                                 |
//!
//! Each depends only on those below it: `scheduler → engine → {timer, pool, task} → {wheel, series,
//! clock, error, fork, sync}`.
//!
//! # Data flow
//!
//! ```text
//! poster                     timer thread               workers
//! ------                     ------------               -------
//! post ───────────────────────────────────────────────► queue ─► start, call, end
//! post_after, post_every ──► wheel ─► due, in batches ─► queue ─► …, a series back to the wheel
//! cancel: phase, then wheel or queue      wait: a word, a list of waiters, a parker
//! ```
//!
//! # Lock rules
//!
//! 1. Never block on a lock, a channel or a join while attached to Python, unless its holder can
//!    never need the interpreter and holds it for a bounded time. The wheel's, the queue's and a
//!    task's are such locks.
//! 2. Never attach while holding a lock.
//! 3. No lock is held while a callback runs or a Python object is dropped. Dropping happens
//!    attached.
//! 4. The timer thread never attaches.
//!
//! No lock is taken while another is held, but for two steps, in this order: under the timer's lock,
//! and under the queue's when it looks for a run to drop, the engine takes a task's; and under a task's
//! that of its series.
//!
//! # What is public
//!
//! [`Scheduler`], what it gives and what it is told, [`clock`] and [`wheel`]. What is below them is for
//! who embeds the core, as the Python module does, and can be seen with the feature `unstable-embed`:
//! it comes without promises, and may change with any version.
#![cfg_attr(
    not(feature = "unstable-embed"),
    expect(
        dead_code,
        unused_imports,
        unreachable_pub,
        reason = "without its feature, what only the binding uses is used by nobody, nor reached"
    )
)]

pub mod clock;
mod scheduler;
pub mod wheel;

// Each twice: rustfmt finds no module in a macro.
#[cfg(not(feature = "unstable-embed"))]
mod engine;
#[cfg(feature = "unstable-embed")]
pub mod engine;
#[cfg(not(feature = "unstable-embed"))]
mod error;
#[cfg(feature = "unstable-embed")]
pub mod error;
#[cfg(not(feature = "unstable-embed"))]
mod fork;
#[cfg(feature = "unstable-embed")]
pub mod fork;
#[cfg(not(feature = "unstable-embed"))]
mod pool;
#[cfg(feature = "unstable-embed")]
pub mod pool;
#[cfg(not(feature = "unstable-embed"))]
mod series;
#[cfg(feature = "unstable-embed")]
pub mod series;
#[cfg(not(feature = "unstable-embed"))]
mod sync;
#[cfg(feature = "unstable-embed")]
pub mod sync;
#[cfg(not(feature = "unstable-embed"))]
mod task;
#[cfg(feature = "unstable-embed")]
pub mod task;
#[cfg(not(feature = "unstable-embed"))]
mod ticks;
#[cfg(feature = "unstable-embed")]
pub mod ticks;
#[cfg(not(feature = "unstable-embed"))]
mod timer;
#[cfg(feature = "unstable-embed")]
pub mod timer;

pub use engine::{Delayed, OnFull, Stats};
pub use error::{Error, JoinError, PostError, PostErrorKind};
pub use pool::PoolCounts;
pub use scheduler::{JoinHandle, Scheduler, SchedulerBuilder, SchedulerHandle, SeriesHandle};
pub use series::{Every, Lost, Missed, Overlap, Timing};
