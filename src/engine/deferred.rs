//! References that a thread without a token had to let go of.
//!
//! Filled by the timer thread, emptied by the next thread with a token that posts, cancels or closes.
//! It never drops one itself.
#![forbid(unsafe_code)]

use crate::sync::{AtomicBool, Mutex, Ordering, lock};

/// See the module's page. The flag is there so that an empty list costs a look at a word.
pub(super) struct DeferredDrops<J> {
    pub(super) jobs: Mutex<Vec<J>>,
    pub(super) filled: AtomicBool,
}

impl<J> DeferredDrops<J> {
    pub(super) fn put(&self, jobs: impl IntoIterator<Item = J>) {
        let mut deferred = lock(&self.jobs);
        deferred.extend(jobs);
        // Relaxed: a hint, looked at again and again; the jobs are behind the lock.
        self.filled.store(!deferred.is_empty(), Ordering::Relaxed);
    }

    pub(super) fn is_empty(&self) -> bool {
        !self.filled.load(Ordering::Relaxed)
    }

    pub(super) fn take(&self) -> Vec<J> {
        let mut deferred = lock(&self.jobs);
        self.filled.store(false, Ordering::Relaxed);
        std::mem::take(&mut deferred)
    }
}
