//! In which process something was made: a count of forks.
//!
//! Owned by the process. A forked child has one thread, the one that called `fork`. Every other thread
//! of the parent is gone, and with it whatever lock it held and whatever it was about to do. So a
//! child never touches an engine of the parent: whoever is about to asks
//! [`ForkGeneration::is_inherited`] first, which takes no lock. What follows is up to the asker: a
//! handle says cancelled, a pool makes itself a new engine, a worker that has forked inside a callback
//! leaves. This module cleans nothing up.
#![forbid(unsafe_code)]

// Not from `sync`: loom has no statics, and a fork is no interleaving.
use std::sync::atomic::{AtomicU32, Ordering};

/// Changed in the child alone, by its only thread, before anything else of ours runs there. Relaxed
/// everywhere, for there is no other thread to be in order with.
static GENERATION: AtomicU32 = AtomicU32::new(0);

/// The number of forks between this program's first process and the one in which something was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForkGeneration(u32);

impl ForkGeneration {
    /// That of this process.
    pub fn current() -> Self {
        Self(GENERATION.load(Ordering::Relaxed))
    }

    /// Whether it was made by an ancestor of this process.
    pub fn is_inherited(self) -> bool {
        self != Self::current()
    }

    /// Whether it was made by the parent of this process, and by no earlier ancestor.
    pub fn is_of_parent(self) -> bool {
        self.0.wrapping_add(1) == Self::current().0
    }
}

/// Must be called in a child, right after the fork. It changes one atomic, so it is safe whatever the
/// parent's other threads were doing.
pub fn after_fork_in_child() {
    GENERATION.fetch_add(1, Ordering::Relaxed);
}
