//! The job queue, its tombstones and their count.
//!
//! Owned by a pool's state, and used under its lock. It drops no job and calls none: which job is a
//! tombstone, or may be dropped, it asks the caller.
//!
//! A job that was cancelled stays where it is, as a tombstone, until it is popped. Were that all, posting
//! and cancelling behind a worker that blocks would grow the queue without end. So when tombstones are
//! more than half of the queue, each cancel sweeps a few entries: they move from `unswept` to `swept`, the
//! tombstones among them to the caller. No step is long, and the order stays.
//!
//! The count is kept by those who make tombstones and those who pop them, each after the fact:
//!
//! | who                                                | what is called                             |
//! |----------------------------------------------------|--------------------------------------------|
//! | a cancel that has made a queued job a tombstone     | [`add_tombstone`](Queue::add_tombstone)    |
//! | whoever has popped a job and found it one           | [`forget_tombstone`](Queue::forget_tombstone) |
//! | a sweep that has cleared one                        | nothing: it counts by itself               |
//!
//! The race: a tombstone is popped between the cancel and its count. The count is below zero for that
//! moment; were it held at zero there, each such race would leave it one too high.
#![forbid(unsafe_code)]

use std::collections::VecDeque;

/// Jobs, first in, first out; tombstones among them.
pub(super) struct Queue<J> {
    swept: VecDeque<J>,
    unswept: VecDeque<J>,
    /// Counted, and in the queue; below zero for a moment, see the [module](self).
    tombstones: isize,
    /// So many of the first are known to be none that [`pop_oldest`](Self::pop_oldest) may take; they
    /// are not looked at again.
    undroppable: usize,
}

impl<J> Queue<J> {
    const SWEEP_STEP: usize = 16;
    /// Capacity that is undroppable when the queue runs empty.
    const KEPT_CAPACITY: usize = 1024;

    pub(super) fn new() -> Self {
        Self {
            swept: VecDeque::new(),
            unswept: VecDeque::new(),
            tombstones: 0,
            undroppable: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.swept.len() + self.unswept.len()
    }

    /// Jobs that somebody still wants. A tombstone may be counted a moment before it is queued.
    pub(super) fn live(&self) -> usize {
        self.len().saturating_sub(self.counted_tombstones())
    }

    fn counted_tombstones(&self) -> usize {
        usize::try_from(self.tombstones).unwrap_or(0)
    }

    pub(super) fn push(&mut self, job: J) {
        self.unswept.push_back(job);
    }

    pub(super) fn pop(&mut self) -> Option<J> {
        let job = self.swept.pop_front().or_else(|| self.unswept.pop_front());
        self.undroppable = self.undroppable.saturating_sub(1);
        self.shrink();
        job
    }

    /// Takes the oldest job that `may_go`. A job that may not is asked about once.
    pub(super) fn pop_oldest(&mut self, may_go: impl Fn(&J) -> bool) -> Option<J> {
        let mut all = self.swept.iter().chain(&self.unswept);
        let Some(past) = all.by_ref().skip(self.undroppable).position(may_go) else {
            self.undroppable = self.len();
            return None;
        };
        self.undroppable += past;
        // What it takes to close the gap is a move of the shorter side.
        let job = match self.undroppable.checked_sub(self.swept.len()) {
            None => self.swept.remove(self.undroppable),
            Some(at) => self.unswept.remove(at),
        };
        self.shrink();
        job
    }

    /// Frees a half that was long and has run empty.
    fn shrink(&mut self) {
        for half in [&mut self.swept, &mut self.unswept] {
            if half.is_empty() && half.capacity() > Self::KEPT_CAPACITY {
                *half = VecDeque::new();
            }
        }
    }

    /// Moves a few jobs across, the tombstones among them to `out`.
    fn sweep(&mut self, is_tombstone: impl Fn(&J) -> bool, out: &mut Vec<J>) {
        let tombstones = self.counted_tombstones();
        if tombstones < Self::SWEEP_STEP || tombstones * 2 < self.len() {
            return;
        }
        for _ in 0..Self::SWEEP_STEP {
            match self.unswept.pop_front() {
                Some(job) if is_tombstone(&job) => {
                    self.tombstones -= 1;
                    if self.swept.len() < self.undroppable {
                        self.undroppable -= 1; // it was one of them
                    }
                    out.push(job);
                }
                Some(job) => self.swept.push_back(job),
                None => {
                    std::mem::swap(&mut self.swept, &mut self.unswept);
                    break;
                }
            }
        }
        self.shrink();
    }

    /// Counts a job in the queue that has become a tombstone, and sweeps. What is cleared goes to `out`.
    pub(super) fn add_tombstone(&mut self, is_tombstone: impl Fn(&J) -> bool, out: &mut Vec<J>) {
        self.tombstones += 1;
        self.sweep(is_tombstone, out);
    }

    /// Counts a tombstone that has left the queue by a [`pop`](Self::pop).
    pub(super) fn forget_tombstone(&mut self) {
        self.tombstones -= 1;
    }

    /// The count, as it is; see the [module](self).
    pub(super) fn tombstones(&self) -> isize {
        self.tombstones
    }

    /// Takes back what was pushed last, under the same lock, in its order.
    pub(super) fn take_last(&mut self, count: usize) -> Vec<J> {
        let first = self.unswept.len() - count;
        self.unswept.drain(first..).collect()
    }

    /// Puts back what [`pop_oldest`](Self::pop_oldest) has taken, under the same lock, at the front.
    pub(super) fn put_back_oldest(&mut self, job: J) {
        self.swept.push_front(job);
        self.undroppable = 0;
    }

    /// Empties the queue; its tombstones are counted no more.
    pub(super) fn take_all(&mut self) -> Vec<J> {
        self.undroppable = 0;
        self.tombstones = 0;
        self.swept.drain(..).chain(self.unswept.drain(..)).collect()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_that_may_go_is_found_whatever_was_popped_and_swept_before() {
        let mut random = fastrand::Rng::with_seed(7);
        let (mut queue, mut plain) = (Queue::new(), Vec::new());
        let mut tombstones = std::collections::HashSet::new();
        for n in 0..20_000_u32 {
            let is_tombstone = |n: &u32| tombstones.contains(n);
            let may_go = |n: &u32| n.is_multiple_of(5) && !tombstones.contains(n);
            match random.u32(0..10) {
                0..4 => {
                    queue.push(n);
                    plain.push(n);
                }
                4 => {
                    let popped = queue.pop();
                    assert_eq!(popped, (!plain.is_empty()).then(|| plain.remove(0)));
                    if popped.is_some_and(|n| is_tombstone(&n)) {
                        queue.forget_tombstone();
                    }
                }
                5 | 6 => {
                    let oldest = plain.iter().position(may_go).map(|at| plain.remove(at));
                    assert_eq!(queue.pop_oldest(may_go), oldest, "step {n}");
                }
                _ => {
                    let alive = plain.iter().copied().filter(|n| !is_tombstone(n));
                    let Some(cancelled) = random.choice(alive.collect::<Vec<_>>()) else {
                        continue;
                    };
                    tombstones.insert(cancelled);
                    let mut cleared = Vec::new();
                    queue.add_tombstone(|n| tombstones.contains(n), &mut cleared);
                    plain.retain(|n| !cleared.contains(n));
                }
            }
        }
    }

    #[test]
    fn a_queue_that_was_long_gives_its_memory_back() {
        for live in [0, 30_000, 60_000] {
            let mut queue = Queue::new();
            (0..100_000).for_each(|n| queue.push(n));
            let is_tombstone = |&n: &i32| n >= live;
            let mut cleared = Vec::new();
            for _ in live..100_000 {
                queue.add_tombstone(is_tombstone, &mut cleared);
            }
            let undroppable = queue.swept.capacity() + queue.unswept.capacity();
            assert!(
                live > 0 || undroppable <= 2 * Queue::<i32>::KEPT_CAPACITY,
                "{undroppable} places kept for nobody"
            );
            let mut popped = Vec::new();
            while let Some(job) = queue.pop() {
                popped.push(job);
            }
            assert!(popped.iter().is_sorted());
            assert_eq!(popped.len() + cleared.len(), 100_000);
            assert!(
                popped
                    .iter()
                    .copied()
                    .filter(|n| !is_tombstone(n))
                    .eq(0..live)
            );
            let undroppable = queue.swept.capacity() + queue.unswept.capacity();
            assert!(
                undroppable <= 2 * Queue::<i32>::KEPT_CAPACITY,
                "{undroppable} places kept, {live} were alive"
            );
        }
    }
}
