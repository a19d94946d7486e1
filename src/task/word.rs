//! The word that is a task's whole state: its phase, its flags, and the runs that have ended.
//!
//! Plain numbers; who may change which, and when, is in [`super::Task`].
#![forbid(unsafe_code)]

use std::fmt;

/// The bits that are a [`Phase`].
const PHASE: u64 = 0b111;
/// No further run.
pub(super) const STOP: u64 = 1 << 3;
/// The current run is asked to give up.
pub(super) const CANCEL: u64 = 1 << 4;
/// The list of waiters is, or is about to be, not empty.
pub(super) const WAITED: u64 = 1 << 5;
/// The task is a series.
pub(super) const SERIES: u64 = 1 << 6;
/// The task has no callback: its runs take no time and no worker.
pub(super) const BARE: u64 = 1 << 7;
/// Someone wants to hear of the end who can only be told by a worker.
pub(super) const WATCHED: u64 = 1 << 8;
/// It must not wait until a worker is free.
pub(super) const URGENT: u64 = 1 << 9;
/// It is a series that the wall clock may end.
pub(super) const WALL: u64 = 1 << 10;
/// One run in the upper bits, which hold the number of runs that have ended.
pub(super) const ONE_RUN: u64 = 1 << 16;

/// Where a task stands; see the [state table](super#state-table). The numbers are those in the word,
/// and the last three are the ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It waits for its deadline, or for a worker.
    Pending = 0,
    /// A worker calls its callback.
    Running = 1,
    /// It is over; its last run returned.
    Finished = 2,
    /// It is over; its last run failed.
    Failed = 3,
    /// It is over, cancelled or stopped.
    Cancelled = 4,
}

/// The word in another phase.
pub(super) const fn in_phase(word: u64, phase: Phase) -> u64 {
    word & !PHASE | phase as u64
}

/// Whether the word is in that phase.
pub(super) const fn is_in(word: u64, phase: Phase) -> bool {
    word & PHASE == phase as u64
}

/// One reading of a task's state.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct View(pub(super) u64);

impl View {
    /// Where the task stands.
    pub fn phase(self) -> Phase {
        match self.0 & PHASE {
            0 => Phase::Pending,
            1 => Phase::Running,
            2 => Phase::Finished,
            3 => Phase::Failed,
            4 => Phase::Cancelled,
            other => unreachable!("a task's phase is {other}, word {:#x}", self.0),
        }
    }

    /// The same, but cancelled: what a task is to a process that cannot run it.
    #[must_use]
    pub fn as_cancelled(self) -> Self {
        Self(in_phase(self.0, Phase::Cancelled))
    }

    /// Whether it will not run again.
    pub fn is_over(self) -> bool {
        self.0 & PHASE >= Phase::Finished as u64
    }

    /// The runs that have ended.
    pub fn runs(self) -> u64 {
        self.0 / ONE_RUN
    }

    /// Whether it is a series.
    pub fn is_series(self) -> bool {
        self.0 & SERIES != 0
    }

    /// Whether its current run has been asked to give up.
    pub fn cancel_requested(self) -> bool {
        self.0 & CANCEL != 0
    }
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View")
            .field("phase", &self.phase())
            .field("runs", &self.runs())
            .field(
                "flags",
                &format_args!("{:#x}", self.0 & (ONE_RUN - 1) & !PHASE),
            )
            .finish()
    }
}
