//! Who waits for a task, for what, and who is to be woken.
#![forbid(unsafe_code)]

use std::fmt;
use std::sync::Arc;

use super::word::{Phase, View};
use crate::sync::Wake;

/// What a wait waits for. The end of the task satisfies all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// The task is over.
    Over,
    /// So many runs have ended.
    Runs(u64),
    /// No run is going.
    Idle,
}

impl Goal {
    pub(crate) fn is_met_by(self, view: View) -> bool {
        view.is_over()
            || match self {
                Self::Over => false,
                Self::Runs(runs) => view.runs() >= runs,
                Self::Idle => view.phase() != Phase::Running,
            }
    }
}

/// Those whose wait is over and who have not been woken: dropping it wakes them.
///
/// Waking a thread takes its waker some 4 µs, and where the waker holds an interpreter's lock, all
/// that the other can do is wait for it. So who runs a task may keep this until it lets go, but not
/// into another run, which may take any time.
#[derive(Default)]
#[must_use = "dropping it wakes those who wait"]
pub struct Wakes(pub(super) Vec<Arc<dyn Wake>>);

impl Wakes {
    /// Wakes everyone now.
    pub fn now(&mut self) {
        for waiter in self.0.drain(..) {
            waiter.wake();
        }
    }
}

impl Drop for Wakes {
    fn drop(&mut self) {
        self.now();
    }
}

impl fmt::Debug for Wakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Wakes").field(&self.0.len()).finish()
    }
}
