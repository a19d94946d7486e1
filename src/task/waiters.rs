//! Who waits for a task, for what, and who is to be woken.
//!
//! The list is owned by the task, behind its lock, and those whose wait is over by whoever ended it. A
//! list never wakes anybody itself: that is done with no lock held, by [`Wakes`].
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

/// Who waits for one task.
#[derive(Default)]
pub(super) struct Waiters(Vec<(Goal, Arc<dyn Wake>)>);

impl Waiters {
    pub(super) fn push(&mut self, goal: Goal, waiter: Arc<dyn Wake>) {
        self.0.push((goal, waiter));
    }

    /// Takes the last one off again.
    pub(super) fn pop(&mut self) {
        self.0.pop();
    }

    pub(super) fn remove(&mut self, waiter: &Arc<dyn Wake>) {
        self.0.retain(|(_, other)| !Arc::ptr_eq(other, waiter));
    }

    /// Moves those to `wakes` whose goal is met.
    pub(super) fn take_met(&mut self, view: View, wakes: &mut Wakes) {
        self.0.retain(|(goal, waiter)| {
            let is_met = goal.is_met_by(view);
            if is_met {
                wakes.0.push(Arc::clone(waiter));
            }
            !is_met
        });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

/// Those whose wait is over and who have not been woken: dropping it wakes them.
///
/// A wake-up is a system call, and where the waker holds an interpreter's lock, all that the other can
/// do is wait for it. So who runs a task may keep this until it lets go, but not into another run,
/// which may take any time. Figures: `docs/design/task.md`.
#[derive(Default)]
#[must_use = "dropping it wakes those who wait"]
pub struct Wakes(Vec<Arc<dyn Wake>>);

impl Wakes {
    /// Wakes everyone now.
    #[inline]
    pub fn now(&mut self) {
        // Most tasks end with nobody waiting, and to drain nothing takes fifty instructions.
        if !self.0.is_empty() {
            self.wake_all();
        }
    }

    #[inline(never)]
    fn wake_all(&mut self) {
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
