//! What a job answers when the timer asks it, under the timer's lock.
//!
//! The one place where a task's lock is taken under the timer's; the order and its rules are at
//! [`crate::timer::Item`]. A series draws its next deadline and goes back on the wheel in one hold of
//! that lock, so who moves its deadline finds it in the run or on the wheel, never between them.
#![forbid(unsafe_code)]

use std::num::NonZeroU64;

use super::counters::note_lost;
use super::state::Job;
use crate::clock::{Moment, Nanos};
use crate::task::Phase;
use crate::timer::Item;
use crate::wheel::Key;

/// Why a task comes to the wheel.
#[derive(Clone, Copy, Debug)]
pub enum Arrival {
    /// It was posted with this deadline; a series brings its own.
    Posted(Nanos),
    /// A run of a series has ended.
    RunEnded { now: Moment, failed: bool },
    /// The run of a series that was due is given up.
    RunDropped { now: Moment },
}

impl<J: Job> Item for J {
    type Arrival = Arrival;

    fn key(&self) -> Option<Key> {
        NonZeroU64::new(self.task().key()).map(Key::from_bits)
    }

    fn set_key(&self, key: Key) {
        self.task().set_key(key.to_bits().get());
    }

    fn deadline(&self, arrival: Arrival) -> Option<Nanos> {
        let task = self.task();
        let note = |lost| note_lost(&self.engine().counters, lost);
        match arrival {
            Arrival::Posted(deadline) => task.series_deadline().or(Some(deadline)),
            Arrival::RunEnded { now, failed } => task.end_run(now, failed, note),
            Arrival::RunDropped { now } => task.drop_run(now, note),
        }
    }

    fn admit(&self, arrival: Arrival) -> bool {
        match arrival {
            Arrival::RunEnded { .. } => self.task().wait_again(),
            Arrival::Posted(_) | Arrival::RunDropped { .. } => self.readmit(),
        }
    }

    fn readmit(&self) -> bool {
        self.task().view().phase() == Phase::Pending
    }

    fn may_move(&self, deadline: Nanos, now: Moment) -> bool {
        self.task().allows(deadline, now)
    }

    fn moved(&self, deadline: Nanos, is_moved: bool, now: Moment) -> bool {
        let task = self.task();
        if is_moved {
            task.restart(deadline, false, now); // a one-shot has no ticks to lay anew
            return true;
        }
        // One that is queued is due already.
        task.view().phase() == Phase::Running
            && !task.is_stopped()
            && task.allows(deadline, now)
            && task.restart(deadline, true, now)
    }

    fn outlasts_refusal(&self) -> bool {
        !self.task().view().is_series()
    }
}
