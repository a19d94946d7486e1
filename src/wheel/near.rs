//! The nearest stretch of time, in exact order: what will be due next.
//!
//! One slot at a time is gathered into a run and sorted once. What is inserted later, for the same
//! stretch, goes to a heap beside it.
//!
//! Owned by a wheel. It holds entries, never items: the wheel takes those out of the slab.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::slot::Entry;

/// Room for this many entries is kept when nothing is near.
const KEEP: usize = 1024;
/// A run of at most 2 to this many entries is sorted the fast way.
const RANK_BITS: u32 = 8;

#[derive(Debug, Default)]
pub(super) struct Near {
    /// Ascending by deadline, and by insertion among equals, once sorted.
    run: Vec<Entry>,
    /// The first of the run that is still here.
    head: usize,
    unsorted: bool,
    /// Two vectors that sorting works with.
    keys: Vec<u64>,
    sorted: Vec<Entry>,
    /// Deadline, number of the insertion, index, stamp.
    late: BinaryHeap<Reverse<(u64, u64, u32, u32)>>,
    inserted: u64,
    /// Entries known to be dead: never more than are.
    dead: usize,
    /// Whether more may be.
    may_hold_dead: bool,
}

impl Near {
    /// Appends to the run. It must be sorted before anything is taken.
    #[inline]
    pub(super) fn gather(&mut self, entry: Entry) {
        self.unsorted = true;
        self.run.push(entry);
    }

    /// Appends all of `entries`, likewise.
    pub(super) fn gather_all(&mut self, entries: &[Entry]) {
        self.unsorted = true;
        self.run.extend_from_slice(entries);
    }

    /// Sorts the run, whose deadlines are all within `start..=last`.
    pub(super) fn sort(&mut self, start: u64, last: u64) {
        if !std::mem::take(&mut self.unsorted) || start == last {
            return;
        }
        self.run.drain(..std::mem::take(&mut self.head));
        if self.run.is_sorted_by_key(|entry| entry.deadline) {
            return;
        }
        if self.run.len() > 1 << RANK_BITS || (last - start) >> (64 - RANK_BITS) > 0 {
            self.run.sort_by_key(|entry| entry.deadline);
            return;
        }
        // Offset and rank in one number: twice as fast to sort, and stable for free.
        let ranked = self.run.iter().zip(0..);
        self.keys.clear();
        self.keys
            .extend(ranked.map(|(entry, rank)| (entry.deadline - start) << RANK_BITS | rank));
        self.keys.sort_unstable();
        self.sorted.clear();
        let by_rank = |key: &u64| self.run[(key & ((1 << RANK_BITS) - 1)) as usize];
        self.sorted.extend(self.keys.iter().map(by_rank));
        std::mem::swap(&mut self.run, &mut self.sorted);
    }

    #[inline]
    pub(super) fn push(&mut self, entry: Entry) {
        let Entry {
            deadline,
            index,
            stamp,
        } = entry;
        self.late
            .push(Reverse((deadline, self.inserted, index, stamp)));
        self.inserted += 1;
    }

    /// The earliest deadline, of a dead entry perhaps.
    #[inline]
    pub(super) fn first(&self) -> Option<u64> {
        let run = self.run.get(self.head).map(|entry| entry.deadline);
        match (run, self.first_late()) {
            (Some(run), Some(late)) => Some(run.min(late)),
            (run, late) => run.or(late),
        }
    }

    #[inline]
    fn first_late(&self) -> Option<u64> {
        self.late.peek().map(|&Reverse((deadline, ..))| deadline)
    }

    /// The first entries of the run that are due at `now`, at most `limit`; [`pass`](Self::pass) is
    /// to follow. None if the heap has an earlier one. Among equals the run goes first: it was
    /// inserted earlier.
    #[inline]
    pub(super) fn due(&self, now: u64, limit: usize) -> &[Entry] {
        debug_assert!(!self.unsorted, "the run is not ready");
        let bar = self.first_late().map_or(now, |late| late.min(now));
        let run = &self.run[self.head..];
        let run = &run[..run.len().min(limit)];
        let count = run.iter().position(|entry| entry.deadline > bar);
        &run[..count.unwrap_or(run.len())]
    }

    /// Leaves the first `count` entries of the run behind.
    pub(super) fn pass(&mut self, count: usize) {
        self.head += count;
        if self.head == self.run.len() {
            self.head = 0;
            self.run.clear();
            self.run.shrink_to(KEEP);
        }
    }

    /// Takes the first entry of the heap.
    pub(super) fn pop_late(&mut self) -> Option<Entry> {
        let first = self.late.pop();
        if self.late.capacity() > KEEP && self.late.len() < self.late.capacity() / 4 {
            self.late.shrink_to((self.late.len() * 2).max(KEEP));
        }
        first.map(|Reverse((deadline, _, index, stamp))| Entry {
            deadline,
            index,
            stamp,
        })
    }

    /// One of the entries has died.
    #[inline]
    pub(super) fn mark_dead(&mut self) {
        self.dead += 1;
    }

    /// An entry has died that may be here or elsewhere.
    #[inline]
    pub(super) fn note_possible_dead(&mut self) {
        self.may_hold_dead = true;
    }

    /// Some dead entries were taken out.
    pub(super) fn forget_dead(&mut self, count: usize) {
        self.dead = self.dead.saturating_sub(count);
    }

    /// Removes the dead entries in front, so that `first` is exact; and all of them once they
    /// outnumber the live ones by far.
    #[inline]
    pub(super) fn prune(&mut self, is_live: impl Fn(&Entry) -> bool) {
        if (self.dead > 0 || self.may_hold_dead) && !self.unsorted {
            self.prune_front(is_live);
        }
    }

    fn prune_front(&mut self, is_live: impl Fn(&Entry) -> bool) {
        while self.run.get(self.head).is_some_and(|entry| !is_live(entry)) {
            self.head += 1;
            self.forget_dead(1);
        }
        while let Some(&Reverse((deadline, _, index, stamp))) = self.late.peek() {
            if is_live(&Entry {
                deadline,
                index,
                stamp,
            }) {
                break;
            }
            self.pop_late();
            self.forget_dead(1);
        }
        if 2 * self.dead > self.run.len() - self.head + self.late.len() + KEEP {
            self.retain(is_live);
            self.late.shrink_to(KEEP);
            self.dead = 0;
        }
        self.pass(0);
        self.may_hold_dead &= !(self.run.is_empty() && self.late.is_empty());
    }

    /// Drops the entries that `keep` refuses.
    pub(super) fn retain(&mut self, keep: impl Fn(&Entry) -> bool) {
        self.run.drain(..std::mem::take(&mut self.head));
        self.run.retain(&keep);
        self.late.retain(|&Reverse((deadline, _, index, stamp))| {
            keep(&Entry {
                deadline,
                index,
                stamp,
            })
        });
    }

    /// Drops every entry of node `index`.
    pub(super) fn purge(&mut self, index: u32) {
        self.retain(|entry| entry.index != index);
        self.dead = 0;
    }
}

#[cfg(test)]
impl Near {
    pub(super) fn entries(&self) -> impl Iterator<Item = Entry> {
        let late = self
            .late
            .iter()
            .map(|&Reverse((deadline, _, index, stamp))| (deadline, index, stamp));
        let late = late.map(|(deadline, index, stamp)| Entry {
            deadline,
            index,
            stamp,
        });
        self.run[self.head..].iter().copied().chain(late)
    }

    /// Entries that memory is kept for.
    pub(super) fn capacity(&self) -> usize {
        self.run.capacity() + self.sorted.capacity() + self.late.capacity()
    }
}
