//! References that a thread without a token had to let go of.
#![forbid(unsafe_code)]

use crate::sync::{AtomicBool, Mutex, Ordering, lock};

/// References that a thread without a token had to let go of; the next thread with one drops them.
pub(super) struct Attic<J> {
    pub(super) jobs: Mutex<Vec<J>>,
    pub(super) filled: AtomicBool,
}

impl<J> Attic<J> {
    pub(super) fn put(&self, jobs: impl IntoIterator<Item = J>) {
        let mut attic = lock(&self.jobs);
        attic.extend(jobs);
        // Relaxed: a hint, looked at again and again; the jobs are behind the lock.
        self.filled.store(!attic.is_empty(), Ordering::Relaxed);
    }

    pub(super) fn is_empty(&self) -> bool {
        !self.filled.load(Ordering::Relaxed)
    }

    pub(super) fn take(&self) -> Vec<J> {
        let mut attic = lock(&self.jobs);
        self.filled.store(false, Ordering::Relaxed);
        std::mem::take(&mut attic)
    }
}
