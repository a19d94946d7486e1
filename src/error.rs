//! What can go wrong: [`Error`], and what a post and a join say of their own.
//!
//! Owned by whoever got it. [`Error`] is one enum, not one a module: whoever embeds the core maps it
//! in one place. [`PostError`] gives back the closure that was not accepted, and [`JoinError`] says
//! why a task has no value; both become an [`Error`] by `?`. No sentence here is any language's but
//! Rust's: a binding has its own.
#![forbid(unsafe_code)]

use std::any::Any;
use std::fmt;
use std::sync::{Mutex, PoisonError};

/// What can go wrong when a scheduler is built, a task is posted, or waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The queue is at its bound and the scheduler was told not to wait.
    QueueFull,
    /// The scheduler takes no more tasks.
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
    /// Whoever was to be asked after a signal asked the wait to end.
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
            Self::Shutdown => f.write_str("the scheduler is shut down"),
            Self::TimedOut => f.write_str("the timeout passed first"),
            Self::Cancelled => f.write_str("the task was cancelled"),
            Self::Ended { runs } => write!(f, "the task ended after {runs} runs"),
            Self::Panicked => f.write_str("the task's callback panicked"),
            Self::Interrupted => f.write_str("a signal ended the wait"),
            Self::NoThread { reason } => write!(f, "cannot start a worker: {reason}"),
            Self::Invalid { argument, reason } => write!(f, "{argument} {reason}"),
        }
    }
}

impl std::error::Error for Error {}

/// Why a post was refused; see [`PostError::kind`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PostErrorKind {
    /// The queue is at its bound and [`OnFull::Refuse`](crate::OnFull::Refuse) was asked for.
    QueueFull,
    /// The scheduler is shut down.
    Shutdown,
    /// The system refused a thread, and there is no worker that could run the task.
    NoThread,
    /// The [`Every`](crate::Every) makes no sense.
    Invalid,
}

/// A task that was not accepted: why, and the closure, untouched.
///
/// By `?` it becomes an [`Error`], without the closure.
///
/// ```
/// use asynctask::{PostErrorKind, Scheduler};
///
/// let scheduler = Scheduler::new();
/// let handle = scheduler.handle().clone();
/// scheduler.shutdown();
/// let refused = handle.post(|| 6 * 7).unwrap_err();
/// assert_eq!(refused.kind(), PostErrorKind::Shutdown);
/// let closure = refused.into_inner();
/// assert_eq!(closure(), 42);
/// ```
pub struct PostError<F> {
    error: Error,
    /// In a lock for no other reason than that a closure is `Send` and often no more, and an error
    /// should be `Sync`, or `?` does not make it one that `anyhow` and the like take.
    closure: Mutex<F>,
}

impl<F> PostError<F> {
    pub(crate) fn new(error: Error, closure: F) -> Self {
        let closure = Mutex::new(closure);
        Self { error, closure }
    }

    /// Why it was refused.
    pub fn kind(&self) -> PostErrorKind {
        match self.error {
            Error::QueueFull => PostErrorKind::QueueFull,
            Error::Shutdown => PostErrorKind::Shutdown,
            Error::NoThread { .. } => PostErrorKind::NoThread,
            Error::Invalid { .. } => PostErrorKind::Invalid,
            ref other => unreachable!("a post fails with {other:?}"),
        }
    }

    /// The closure that was not accepted.
    pub fn into_inner(self) -> F {
        let closure = self.closure.into_inner();
        closure.unwrap_or_else(PoisonError::into_inner)
    }
}

impl<F> fmt::Debug for PostError<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostError")
            .field("error", &self.error)
            .finish_non_exhaustive()
    }
}

impl<F> fmt::Display for PostError<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<F> std::error::Error for PostError<F> {}

impl<F> From<PostError<F>> for Error {
    fn from(refused: PostError<F>) -> Self {
        refused.error
    }
}

/// Why a task that is over has no value: it was cancelled, or its callback panicked.
///
/// By `?` it becomes an [`Error`], without what the callback panicked with.
///
/// ```
/// use std::panic::panic_any;
///
/// let scheduler = asynctask::Scheduler::new();
/// let task = scheduler.post(|| panic_any(7))?;
/// let failed = task.join().unwrap_err();
/// assert!(failed.is_panic());
/// assert_eq!(failed.into_panic().downcast_ref(), Some(&7));
/// # Ok::<(), asynctask::Error>(())
/// ```
pub struct JoinError(Why);

enum Why {
    Cancelled,
    /// What it panicked with. In a lock for no other reason than that it is `Send` and no more, and
    /// an error should be `Sync`.
    Panicked(Mutex<Box<dyn Any + Send>>),
}

impl JoinError {
    pub(crate) fn cancelled() -> Self {
        Self(Why::Cancelled)
    }

    pub(crate) fn panicked(payload: Box<dyn Any + Send>) -> Self {
        Self(Why::Panicked(Mutex::new(payload)))
    }

    /// Whether the task was cancelled, or its series stopped.
    pub fn is_cancelled(&self) -> bool {
        matches!(self.0, Why::Cancelled)
    }

    /// Whether the task's callback panicked.
    pub fn is_panic(&self) -> bool {
        matches!(self.0, Why::Panicked(_))
    }

    /// What the callback panicked with, for [`resume_unwind`](std::panic::resume_unwind) say.
    ///
    /// # Panics
    /// If it did not panic; see [`try_into_panic`](Self::try_into_panic).
    pub fn into_panic(self) -> Box<dyn Any + Send> {
        self.try_into_panic()
            .expect("the task was cancelled, and did not panic")
    }

    /// What the callback panicked with.
    ///
    /// # Errors
    /// The error itself, if it did not panic.
    pub fn try_into_panic(self) -> Result<Box<dyn Any + Send>, Self> {
        match self.0 {
            Why::Panicked(payload) => {
                Ok(payload.into_inner().unwrap_or_else(PoisonError::into_inner))
            }
            Why::Cancelled => Err(self),
        }
    }

    /// What it panicked with, if that was a message.
    fn message(&self) -> Option<String> {
        let Why::Panicked(payload) = &self.0 else {
            return None;
        };
        let payload = payload.lock().unwrap_or_else(PoisonError::into_inner);
        let message = payload.downcast_ref::<&str>().map(ToString::to_string);
        message.or_else(|| payload.downcast_ref::<String>().cloned())
    }
}

impl fmt::Debug for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Why::Cancelled => f.write_str("JoinError::Cancelled"),
            Why::Panicked(_) => f
                .debug_tuple("JoinError::Panicked")
                .field(&self.message().as_deref().unwrap_or(".."))
                .finish(),
        }
    }
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.0, self.message()) {
            (Why::Cancelled, _) => f.write_str("the task was cancelled"),
            (Why::Panicked(_), None) => f.write_str("the task's callback panicked"),
            (Why::Panicked(_), Some(message)) => {
                write!(f, "the task's callback panicked: {message}")
            }
        }
    }
}

impl std::error::Error for JoinError {}

impl From<JoinError> for Error {
    fn from(error: JoinError) -> Self {
        match error.0 {
            Why::Cancelled => Self::Cancelled,
            Why::Panicked(_) => Self::Panicked,
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn errors_may_be_sent_shared_and_boxed_and_say_what_happened() {
        fn boxed(error: impl std::error::Error + Send + Sync + 'static) -> String {
            Box::<dyn std::error::Error + Send + Sync>::from(error).to_string()
        }

        assert_eq!(
            boxed(PostError::new(Error::QueueFull, || ())),
            "the queue is full"
        );
        assert_eq!(boxed(JoinError::cancelled()), "the task was cancelled");
        let said: Box<dyn Any + Send> = Box::new("on purpose");
        assert_eq!(
            boxed(JoinError::panicked(said)),
            "the task's callback panicked: on purpose"
        );
        let unsaid = JoinError::panicked(Box::new(5));
        assert_eq!(format!("{unsaid:?}"), "JoinError::Panicked(\"..\")");
        assert_eq!(boxed(unsaid), "the task's callback panicked");
    }

    #[test]
    fn what_is_not_a_panic_is_given_back() {
        // A closure that may be sent and no more, as most that are boxed.
        let closure: Box<dyn FnOnce() + Send> = Box::new(|| ());
        let refused: Box<dyn std::error::Error + Send + Sync> =
            Box::new(PostError::new(Error::Shutdown, closure));
        assert!(refused.to_string().contains("shut down"), "{refused}");
        let given_back = JoinError::cancelled().try_into_panic().unwrap_err();
        assert!(given_back.is_cancelled() && !given_back.is_panic());
        assert_eq!(Error::from(given_back), Error::Cancelled);
        assert_eq!(
            Error::from(JoinError::panicked(Box::new(()))),
            Error::Panicked
        );
    }
}
