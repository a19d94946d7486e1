//! How many forks this process is away from the one that loaded the crate.
//!
//! Owned by the process. A forked child has one thread, the one that forked. Every other thread of
//! the parent is gone, and with it whatever lock it held and whatever it was about to do. So in a
//! child an engine of the parent is never touched again: whoever is about to asks
//! [`Birth::is_inherited`] first, which takes no lock. What is to be done instead is the asker's:
//! a handle says cancelled, a pool makes itself a new engine, a worker that has forked inside a
//! callback leaves.
#![forbid(unsafe_code)]

// Not from `sync`: loom has no statics, and a fork is no interleaving.
use std::sync::atomic::{AtomicU32, Ordering};

/// Changed in the child alone, by its only thread, before anything else of ours runs there. Relaxed
/// everywhere, for there is no other thread to be in order with.
static GENERATION: AtomicU32 = AtomicU32::new(0);

/// Where in the row of forks something was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Birth(u32);

impl Birth {
    /// Here and now.
    pub fn now() -> Self {
        Self(GENERATION.load(Ordering::Relaxed))
    }

    /// Whether it was made by an ancestor of this process.
    pub fn is_inherited(self) -> bool {
        self != Self::now()
    }

    /// Whether it was made by the parent of this process, and by no earlier ancestor.
    pub fn is_of_parent(self) -> bool {
        self.0.wrapping_add(1) == Self::now().0
    }
}

/// To be called in a child, right after the fork. It stores one atomic, so it is safe whatever
/// state the other threads were in.
pub fn after_fork_in_child() {
    GENERATION.fetch_add(1, Ordering::Relaxed);
}
