//! The one error enum of the core.
//!
//! Owned by whoever got it. One enum, not one a module: a caller of the facade meets all of them in
//! one `match`, and the binding maps them to Python's exceptions in one place.
#![forbid(unsafe_code)]

use std::fmt;

/// What can go wrong when a task is posted, or waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The queue is at its bound and the pool was told not to wait.
    QueueFull,
    /// The pool takes no more tasks.
    Shutdown,
    /// The timeout passed first.
    TimedOut,
    /// The task was cancelled, or its series was stopped.
    Cancelled,
    /// The task is over, and never reached the number of runs that was waited for.
    Ended {
        /// The runs it had.
        runs: u64,
    },
    /// The task's callback panicked.
    Panicked,
    /// The task returned, and its value has been taken by another wait.
    Taken,
    /// A signal handler asked the wait to end.
    Interrupted,
    /// The system refused a thread, and the pool has no worker that could run the task.
    NoThread {
        /// The system's reason.
        reason: String,
    },
    /// An argument is outside what is accepted.
    Invalid {
        /// The argument's name.
        argument: &'static str,
        /// What was wrong with it, value included.
        reason: String,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::QueueFull => f.write_str("the queue is full"),
            Self::Shutdown => f.write_str("cannot schedule new futures after shutdown"),
            Self::TimedOut => f.write_str("the timeout passed first"),
            Self::Cancelled => f.write_str("the task was cancelled"),
            Self::Ended { runs } => write!(f, "the task ended after {runs} runs"),
            Self::Taken => f.write_str("the task's value was taken by another wait"),
            Self::Panicked => f.write_str("the task's callback panicked"),
            Self::Interrupted => f.write_str("a signal ended the wait"),
            Self::NoThread { reason } => write!(f, "cannot start a worker: {reason}"),
            Self::Invalid { argument, reason } => write!(f, "{argument} {reason}"),
        }
    }
}

impl std::error::Error for Error {}
