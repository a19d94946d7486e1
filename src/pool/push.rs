//! How a job comes into the queue, and who waits for room in it.
//!
//! Owned by a pool. It never runs or drops a job: one that is not accepted goes back to the caller.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::sync::Arc;

use super::lend::{Lent, lend_while_waiting, or_request_again};
use super::shared::Shared;
use super::state::{Lifecycle, State, WorkerRequest};
use crate::error::Error;
use crate::sync::{MutexGuard, Parker, lock};

/// Why a job came back, and the job.
#[derive(Debug)]
pub struct Refused<J> {
    /// The job, untouched.
    pub job: J,
    /// [`Error::QueueFull`], [`Error::Shutdown`] or [`Error::NoThread`].
    pub error: Error,
}

impl<J: Send + 'static> Shared<J> {
    pub(super) fn push_within(
        self: &Arc<Self>,
        job: J,
        queue_size: Option<usize>,
    ) -> Result<(), Refused<J>> {
        let mut state = lock(&self.state);
        if state.lifecycle != Lifecycle::Open {
            return Err(Refused {
                job,
                error: Error::Shutdown,
            });
        }
        if state.is_full(queue_size) {
            return Err(Refused {
                job,
                error: Error::QueueFull,
            });
        }
        state.queue.push(job);
        self.request_for_push(state).map_err(|(mut state, error)| {
            let job = state.queue.take_last(1).pop();
            let job = job.expect("it was pushed a moment ago, under the same lock");
            Refused { job, error }
        })
    }

    /// Queues as many of `jobs` as there is room for, in one go, and takes those out of it.
    pub(super) fn push_many(self: &Arc<Self>, jobs: &mut VecDeque<J>) -> Result<(), Error> {
        let mut state = lock(&self.state);
        if state.lifecycle != Lifecycle::Open {
            return Err(Error::Shutdown);
        }
        let before = jobs.len();
        while !state.is_full(self.queue_size)
            && let Some(job) = jobs.pop_front()
        {
            state.queue.push(job);
        }
        self.request_for_push(state).map_err(|(mut state, error)| {
            for job in state.queue.take_last(before - jobs.len()).into_iter().rev() {
                jobs.push_front(job);
            }
            error
        })
    }

    /// Requests a worker for what the caller has just queued, and releases the lock. The caller may hold
    /// the lock that jobs run under. Where no worker is to be had, the state comes back still locked,
    /// with the jobs in the queue.
    #[inline]
    fn request_for_push<'a>(
        self: &Arc<Self>,
        mut state: MutexGuard<'a, State<J>>,
    ) -> Result<(), (MutexGuard<'a, State<J>>, Error)> {
        match state.request_worker() {
            WorkerRequest::None => Ok(()),
            request => self.fulfil_for_push(state, request),
        }
    }

    /// The rest of it, out of the way: most pushes of a burst find that a worker is coming.
    #[inline(never)]
    fn fulfil_for_push<'a>(
        self: &Arc<Self>,
        mut state: MutexGuard<'a, State<J>>,
        request: WorkerRequest,
    ) -> Result<(), (MutexGuard<'a, State<J>>, Error)> {
        self.note_release_count(&request);
        match self.start_first(&mut state, request) {
            Ok(request) => {
                drop(state);
                self.fulfil(request);
                Ok(())
            }
            Err(error) => Err((state, error)),
        }
    }

    /// Queues due jobs in one go, beyond the bound and even while a shutdown lets the queue run
    /// empty: they were accepted when they were posted. Urgent ones go before all others, and do not
    /// wait until a worker is free. What comes back found no worker left.
    pub(super) fn push_due(
        self: &Arc<Self>,
        jobs: Vec<J>,
        urgent: Vec<J>,
        queued: impl FnOnce(bool),
    ) -> Vec<J> {
        let mut state = lock(&self.state);
        if state.lifecycle == Lifecycle::Closed && state.workers == 0 {
            return urgent.into_iter().chain(jobs).collect();
        }
        let (many, many_urgent) = (jobs.len(), urgent.len());
        for job in jobs {
            state.queue.push(job);
        }
        state.urgent.extend(urgent);
        let request = state.request_worker();
        let is_coming = state.coming;
        if let Ok(request) = self.start_first(&mut state, request) {
            drop(state);
            queued(is_coming); // first: the lock is free by the time the worker is awake
            self.fulfil(request);
            return Vec::new();
        }
        // What this call has brought, and no more: what else is queued was accepted here, and its
        // tombstones are counted here.
        let mut back = state.take_last_urgent(many_urgent);
        back.extend(state.queue.take_last(many));
        back
    }

    /// Queues `job`; where there is no room, in exchange for the oldest job that `may_go`, which comes
    /// back. `may_go` is asked under the lock, and once for each job that may not.
    pub(super) fn push_for_oldest(
        self: &Arc<Self>,
        job: J,
        may_go: impl Fn(&J) -> bool,
    ) -> Result<Option<J>, Refused<J>> {
        let mut state = lock(&self.state);
        let refused = |job, error| Err(Refused { job, error });
        if state.lifecycle != Lifecycle::Open {
            return refused(job, Error::Shutdown);
        }
        let mut oldest = None;
        if state.is_full(self.queue_size) {
            oldest = state.queue.pop_oldest(may_go);
            if oldest.is_none() {
                return refused(job, Error::QueueFull);
            }
        }
        state.queue.push(job);
        match self.request_for_push(state) {
            Ok(()) => Ok(oldest),
            Err((mut state, error)) => {
                let job = state.queue.take_last(1).pop();
                if let Some(oldest) = oldest {
                    state.queue.put_back_oldest(oldest);
                }
                refused(
                    job.expect("it was pushed a moment ago, under the same lock"),
                    error,
                )
            }
        }
    }

    /// Sleeps until there may be room, or the pool is closed. The caller then tries again, and if a
    /// push that did not wait was faster, comes back with the same `ticket`, `None` at first: those who
    /// wait are woken in the order in which they first came. On a worker of another pool, that pool
    /// lends one meanwhile.
    pub(super) fn wait_for_room(
        self: &Arc<Self>,
        ticket: &mut Option<u64>,
        interrupted: &mut dyn FnMut() -> bool,
    ) -> Result<(), Error> {
        let parker = Arc::new(Parker::new());
        {
            let mut state = lock(&self.state);
            if state.lifecycle != Lifecycle::Open || !state.is_full(self.queue_size) {
                return Ok(());
            }
            state.queue_for_room(ticket, Arc::clone(&parker));
        }
        let lent = lend_while_waiting();
        let waited = parker.wait(None, &mut self.or_retry_start(lent.as_ref(), interrupted));
        drop(lent);
        if waited.is_err() {
            let mut state = lock(&self.state);
            let before = state.room.len();
            state.room.retain(|(_, other)| !Arc::ptr_eq(other, &parker));
            // The wake-up that came meanwhile was meant for somebody who wants it.
            let next = (before == state.room.len())
                .then(|| state.next_for_room(self.queue_size))
                .flatten();
            drop(state);
            if let Some(next) = next {
                next.unpark();
            }
        }
        waited
    }

    /// The question of a wait for something of this pool: first it requests again what workers there were
    /// no threads for, this pool's and the one that is lent to another's.
    pub(super) fn or_retry_start<'a>(
        self: &'a Arc<Self>,
        lent: Option<&'a Lent>,
        interrupted: &'a mut dyn FnMut() -> bool,
    ) -> impl FnMut() -> bool {
        let mut interrupted = or_request_again(lent, interrupted);
        move || {
            self.retry_start(false);
            interrupted()
        }
    }
}
