//! A value that threads wait for until it is as they want it.
//!
//! Owned by the engine. It is a condition variable whose waits return on a signal and lend a worker, as
//! every wait does. It calls nobody with its lock held but the closures that read and change the
//! value.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::time::Instant;

use crate::error::Error;
use crate::pool::{lend_while_waiting, or_request_again};
use crate::sync::{Mutex, Parker, lock};

/// Something that threads wait for until it has changed.
pub(super) struct Awaited<T> {
    state: Mutex<AwaitedState<T>>,
}

struct AwaitedState<T> {
    value: T,
    waiting: Vec<Arc<Parker>>,
}

impl<T> Awaited<T> {
    pub(super) fn new(value: T) -> Self {
        let waiting = Vec::new();
        Self {
            state: Mutex::new(AwaitedState { value, waiting }),
        }
    }

    pub(super) fn get<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        look(&lock(&self.state).value)
    }

    /// Changes it; whoever waits looks again if `change` says so.
    pub(super) fn set(&self, change: impl FnOnce(&mut T) -> bool) {
        let waiting = {
            let mut state = lock(&self.state);
            if change(&mut state.value) {
                std::mem::take(&mut state.waiting)
            } else {
                Vec::new()
            }
        };
        for waiting in waiting {
            waiting.unpark();
        }
    }

    pub(super) fn wait(
        &self,
        until: impl Fn(&T) -> bool,
        deadline: Option<Instant>,
        interrupted: &mut dyn FnMut() -> bool,
    ) -> Result<(), Error> {
        let parker = Arc::new(Parker::new());
        let mut lent = None;
        loop {
            {
                let mut state = lock(&self.state);
                if until(&state.value) {
                    return Ok(());
                }
                state.waiting.push(Arc::clone(&parker));
            }
            lent = lent.or_else(lend_while_waiting);
            if let Err(error) =
                parker.wait(deadline, &mut or_request_again(lent.as_ref(), interrupted))
            {
                lock(&self.state)
                    .waiting
                    .retain(|other| !Arc::ptr_eq(other, &parker));
                return Err(error);
            }
        }
    }
}
