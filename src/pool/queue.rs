//! The job queue, and the clearing of cancelled jobs from it.
//!
//! Owned by a pool's state, and used under its lock. It never asks a job anything by itself.
#![forbid(unsafe_code)]

use std::collections::VecDeque;

/// A job queue from which cancelled jobs can be cleared in small steps.
///
/// A cancelled job stays where it is, as a husk, until it is popped. Were that all, posting and
/// cancelling behind a worker that blocks would grow the queue without end, so when husks are more
/// than half of it, each cancel sifts a few entries from `unsifted` to `sifted`: no step is long,
/// and the order stays.
pub(super) struct Queue<J> {
    pub(super) sifted: VecDeque<J>,
    pub(super) unsifted: VecDeque<J>,
    /// Below zero for the moment between a husk's leaving the queue and its being counted by who
    /// made it one: were it held at zero there, each such race would leave the count one too high.
    pub(super) husks: isize,
    /// So many of the first are known to be none that [`pop_oldest`](Self::pop_oldest) may take; they
    /// are not looked at again.
    pub(super) kept: usize,
}

impl<J> Queue<J> {
    pub(super) const SIFT_STEP: usize = 16;
    /// Capacity that is kept when the queue runs empty.
    pub(super) const KEEP: usize = 1024;

    pub(super) fn new() -> Self {
        Self {
            sifted: VecDeque::new(),
            unsifted: VecDeque::new(),
            husks: 0,
            kept: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.sifted.len() + self.unsifted.len()
    }

    /// Jobs that somebody still wants. A husk may be counted a moment before it is queued.
    pub(super) fn live(&self) -> usize {
        self.len().saturating_sub(self.counted_husks())
    }

    pub(super) fn counted_husks(&self) -> usize {
        usize::try_from(self.husks).unwrap_or(0)
    }

    pub(super) fn push(&mut self, job: J) {
        self.unsifted.push_back(job);
    }

    pub(super) fn pop(&mut self) -> Option<J> {
        let job = self
            .sifted
            .pop_front()
            .or_else(|| self.unsifted.pop_front());
        self.kept = self.kept.saturating_sub(1);
        self.give_back();
        job
    }

    pub(super) fn pop_oldest(&mut self, may_go: impl Fn(&J) -> bool) -> Option<J> {
        let mut all = self.sifted.iter().chain(&self.unsifted);
        let Some(past) = all.by_ref().skip(self.kept).position(may_go) else {
            self.kept = self.len();
            return None;
        };
        self.kept += past;
        // What it takes to close the gap is a move of the shorter side.
        let job = match self.kept.checked_sub(self.sifted.len()) {
            None => self.sifted.remove(self.kept),
            Some(at) => self.unsifted.remove(at),
        };
        self.give_back();
        job
    }

    /// Frees a half that was long and has run empty.
    pub(super) fn give_back(&mut self) {
        for half in [&mut self.sifted, &mut self.unsifted] {
            if half.is_empty() && half.capacity() > Self::KEEP {
                *half = VecDeque::new();
            }
        }
    }

    /// Moves a few jobs across, the husks among them to `out`.
    pub(super) fn sift(&mut self, is_husk: impl Fn(&J) -> bool, out: &mut Vec<J>) {
        let husks = self.counted_husks();
        if husks < Self::SIFT_STEP || husks * 2 < self.len() {
            return;
        }
        for _ in 0..Self::SIFT_STEP {
            match self.unsifted.pop_front() {
                Some(job) if is_husk(&job) => {
                    self.husks -= 1;
                    if self.sifted.len() < self.kept {
                        self.kept -= 1; // it was one of them
                    }
                    out.push(job);
                }
                Some(job) => self.sifted.push_back(job),
                None => {
                    std::mem::swap(&mut self.sifted, &mut self.unsifted);
                    break;
                }
            }
        }
        self.give_back();
    }

    /// Takes back what was pushed last, under the same lock, in its order.
    pub(super) fn take_last(&mut self, count: usize) -> Vec<J> {
        let first = self.unsifted.len() - count;
        self.unsifted.drain(first..).collect()
    }

    pub(super) fn take_all(&mut self) -> Vec<J> {
        self.kept = 0;
        self.sifted
            .drain(..)
            .chain(self.unsifted.drain(..))
            .collect()
    }
}
