//! Takes what is due from the timer thread to the queue.
//!
//! Owned by the timer, and called on its thread alone, but for what it is asked under the timer's
//! lock. It has no token, so it drops no job: what is over goes to a worker or is
//! [deferred](super::deferred).
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::time::Duration;

use super::awaited::Awaited;
use super::close::drained;
use super::counters::{Counters, note_lost};
use super::deferred::DeferredDrops;
use super::registry::Registry;
use super::state::{Job, present};
use crate::clock::{Clock, Moment, Nanos, nanos};
use crate::pool::Pool;
use crate::sync::Ordering;
use crate::task::Phase;
use crate::timer::Sink;
use crate::wheel::{Due, Key};

/// When the system has no thread to spare, who needs one asks again after this.
const RETRY: Duration = Duration::from_millis(10);

/// Takes what is due from the timer thread to the queue.
pub(super) struct DueSink<J: Job> {
    pub(super) pool: Pool<J>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) series: Arc<Registry>,
    pub(super) counters: Arc<Counters>,
    pub(super) deferred: Arc<DeferredDrops<J>>,
    pub(super) is_draining: Arc<Awaited<bool>>,
}

impl<J: Job> Sink<J> for DueSink<J> {
    fn due(&self, now: Nanos, due: &mut Vec<Due<J>>, again: &mut Vec<(Nanos, J)>) {
        self.counters.last_due.store(now, Ordering::Relaxed);
        let mut jobs = Vec::with_capacity(due.len());
        let (mut urgent, mut over) = (Vec::new(), Vec::new());
        for due in due.drain(..) {
            let task = due.item.task();
            let moment = if task.follows_wall() {
                present(&*self.clock, &self.counters, task)
            } else {
                Moment::at(now)
            };
            match task.end_bare_run(moment, |lost| note_lost(&self.counters, lost)) {
                Err(()) if task.is_urgent() => urgent.push(due.item),
                Err(()) => jobs.push(due.item),
                Ok(Some(deadline)) => again.push((deadline, due.item)),
                Ok(None) => {
                    let place = task.close_series(moment, |lost| note_lost(&self.counters, lost));
                    if let Some(place) = place {
                        self.series.remove(place, task.follows_wall());
                    }
                    over.push(due.item);
                }
            }
        }
        if !jobs.is_empty() || !urgent.is_empty() {
            let left = self.pool.push_due(jobs, urgent);
            let at = now.saturating_add(nanos(RETRY));
            again.extend(left.into_iter().map(|job| (at, job)));
        }
        if !over.is_empty() {
            let ended = over.len() as u64;
            if self.counters.count_end(&self.counters.successful, ended) {
                // Nobody posts or waits here any more, and drops them in passing: a worker has to.
                for _ in &over {
                    drop(self.pool.note_tombstone(|_| false));
                }
                self.refused(over);
                if self.counters.is_finished() {
                    self.pool.release_workers(0);
                }
            } else {
                self.deferred.put(over);
            }
        }
    }

    fn is_finished(&self) -> bool {
        self.counters.is_released.load(Ordering::SeqCst) && self.counters.is_finished()
    }

    fn retry(&self) -> Option<Duration> {
        self.pool.retry_start(true).then_some(RETRY)
    }

    fn expects(&self) -> bool {
        !self.series.is_empty()
    }

    fn follows_wall(&self) -> bool {
        self.series.follows_wall()
    }

    fn wall_was_set(&self, now: Moment) -> Vec<Key> {
        self.series.past_end(now)
    }

    fn drained(&self) {
        self.pool.close(true);
        self.is_draining.set(drained);
    }

    fn refused(&self, jobs: Vec<J>) {
        // The timer is closed: who closes it cancels a tick that has no need of a worker.
        let is_tick = |job: &J| job.task().is_bare() && job.task().view().phase() == Phase::Pending;
        let (ticks, jobs): (Vec<J>, Vec<J>) = jobs.into_iter().partition(is_tick);
        self.deferred.put(ticks);
        // Cancelled meanwhile, and counted as tombstones: the queue is where those are dropped. With no
        // worker left they wait for a thread with a token.
        let left = self.pool.push_due(jobs, Vec::new());
        if !left.is_empty() {
            self.deferred.put(left);
        }
    }
}
