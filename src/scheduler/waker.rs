//! Whom a polled handle wakes.
//!
//! Owned by the handle, and by the task's list of waiters from the first poll to the end of the
//! task. It is put on that list once; a later poll by another async task changes what it wakes. It
//! never calls a [`Waker`], clones or drops one with its lock held: an executor is a user's code.
//!
//! # Poll against finish
//!
//! The poll: (1) puts its waker into the slot; (2) looks at the task, and is pending only if it is not
//! over. The finisher: (3) ends the task; (4) takes the waker out of the slot, and wakes it.
//! The race: a waker that is put in when the slot has been emptied. (1) and (4) are under one lock. If
//! (1) comes first, (4) wakes the new waker. If (4) does, then (3) came before it, and (2) sees it.
//! The first poll puts its waker in before it goes on the list, and looks at the task after, by the
//! protocol of [`crate::task`].
#![forbid(unsafe_code)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Waker;

use super::native::drop_foreign;
use crate::sync::{Mutex, Wake, lock};

pub(super) struct Polled {
    waker: Mutex<Option<Waker>>,
}

impl Polled {
    pub(super) fn new(waker: &Waker) -> Self {
        Self {
            waker: Mutex::new(Some(waker.clone())),
        }
    }

    /// Step 1: from now on `waker` is woken.
    pub(super) fn set(&self, waker: &Waker) {
        let is_same = |old: &Waker| old.will_wake(waker);
        if !lock(&self.waker).as_ref().is_some_and(is_same) {
            let previous = self.replace(Some(waker.clone()));
            drop(previous); // with no lock held
        }
    }

    /// Nobody is woken any more.
    pub(super) fn clear(&self) {
        drop_foreign(self.replace(None));
    }

    fn replace(&self, waker: Option<Waker>) -> Option<Waker> {
        std::mem::replace(&mut lock(&self.waker), waker)
    }
}

impl Wake for Polled {
    /// Step 4.
    fn wake(&self) {
        let waker = self.replace(None);
        // An executor that panics must not keep others from being woken.
        if let Some(waker) = waker
            && let Err(payload) = catch_unwind(AssertUnwindSafe(|| waker.wake()))
        {
            drop_foreign(payload);
        }
    }
}

/// Run with `make test-loom`.
#[cfg(all(test, loom))]
mod loom_tests {
    use std::sync::Arc;

    use loom::sync::Notify;
    use loom::thread;

    use super::*;
    use crate::task::{Goal, Task};

    struct Flag(Notify);

    impl std::task::Wake for Flag {
        fn wake(self: Arc<Self>) {
            self.0.notify();
        }
    }

    fn flag() -> (Arc<Flag>, Waker) {
        let flag = Arc::new(Flag(Notify::new()));
        (Arc::clone(&flag), Waker::from(flag))
    }

    #[test]
    fn loom_an_end_wakes_the_waker_that_was_last_polled_with() {
        loom::model(|| {
            let task = Arc::new(Task::one_shot());
            let canceller = {
                let task = Arc::clone(&task);
                thread::spawn(move || {
                    _ = task.stop(true);
                    task.notify();
                })
            };
            let (_, first) = flag();
            let polled = Arc::new(Polled::new(&first));
            if task.subscribe(Goal::Over, Arc::<Polled>::clone(&polled)) {
                let (second, waker) = flag();
                polled.set(&waker);
                while !task.view().is_over() {
                    second.0.wait(); // a lost wake-up is a deadlock
                }
            }
            assert!(task.view().is_over());
            canceller.join().unwrap();
        });
    }
}
