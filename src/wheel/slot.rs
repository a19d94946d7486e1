//! A slot: the entries of one tick, first in, first out, in blocks of bounded size.
//!
//! Blocks rather than one vector: no insert ever copies a million entries, slack is at most a
//! block, and memory goes back block by block while a large slot is being drained.
//!
//! Owned by the hierarchy. It does not sort, and looks at an entry only to sweep the dead ones.

use std::collections::VecDeque;

/// Entries in a full block.
pub(super) const BLOCK: usize = 256;
/// Entries that the first block of a slot has room for, at least.
const MIN_ROOM: usize = 4;
/// Empty blocks kept for reuse by all slots of a wheel together: this many, and one for each
/// [`SHARE`] items.
const MIN_SPARE: usize = 16;
const SHARE: usize = 1024;
/// Too many of them go back this many at a time.
const TRIM: usize = 8;

/// A pending item as slots see it. The entry is dead, and waits to be swept, once the stamp of the
/// item's node has moved on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    /// The item's, as long as the entry is live.
    pub(super) deadline: u64,
    /// Number of the node that holds the item.
    pub(super) index: u32,
    /// The node's stamp when the entry was made.
    pub(super) stamp: u32,
}

/// Blocks between two uses.
#[derive(Debug)]
pub(super) struct Spare {
    blocks: Vec<Vec<Entry>>,
    limit: usize,
}

impl Spare {
    pub(super) fn new() -> Self {
        Self {
            blocks: Vec::new(),
            limit: MIN_SPARE,
        }
    }

    /// Adapts to the number of items.
    pub(super) fn limit_for(&mut self, items: usize) {
        self.limit = MIN_SPARE + items / SHARE;
    }

    /// Takes a block back, or gives some back to the allocator if there are too many.
    pub(super) fn recycle(&mut self, mut block: Vec<Entry>) {
        if self.blocks.len() >= self.limit {
            let some = self.blocks.len().saturating_sub(TRIM);
            self.blocks.truncate(some.max(self.limit));
            if self.blocks.capacity() > 4 * self.limit {
                self.blocks.shrink_to(self.limit);
            }
        } else if block.capacity() > 0 {
            block.clear();
            self.blocks.push(block);
        }
    }
}

#[derive(Debug)]
pub(super) struct Slot {
    /// Earliest deadline put here since the slot was last empty: never later than the truth.
    pub(super) min: u64,
    tail: Vec<Entry>,
    full: VecDeque<Vec<Entry>>,
    /// Entries here, dead ones included.
    count: u32,
    /// How many of them are known to be dead: never more than are.
    dead: u32,
    /// The ring that owns the slot; the number of rings for a day beyond the wheel.
    pub(super) ring: u32,
    /// The next of `full` to sweep, and the last one that sweeping left with entries.
    sweep: u32,
    kept: u32,
}

impl Slot {
    pub(super) fn new(ring: u32) -> Self {
        Self {
            min: u64::MAX,
            tail: Vec::new(),
            full: VecDeque::new(),
            count: 0,
            dead: 0,
            ring,
            sweep: 0,
            kept: 0,
        }
    }

    pub(super) fn count(&self) -> u32 {
        self.count
    }

    pub(super) fn has_dead(&self) -> bool {
        self.dead > 0
    }

    /// An empty slot makes room for `room` entries at once.
    #[inline]
    pub(super) fn push(&mut self, entry: Entry, room: usize, spare: &mut Spare) {
        if self.tail.len() == self.tail.capacity() {
            self.make_room(room, spare);
        }
        self.tail.push(entry);
        self.min = self.min.min(entry.deadline);
        self.count += 1;
    }

    #[cold]
    fn make_room(&mut self, room: usize, spare: &mut Spare) {
        let len = self.tail.len();
        if len >= BLOCK {
            let block = spare
                .blocks
                .pop()
                .unwrap_or_else(|| Vec::with_capacity(BLOCK));
            self.full
                .push_back(std::mem::replace(&mut self.tail, block));
        } else if len == 0 {
            self.tail = spare
                .blocks
                .pop()
                .unwrap_or_else(|| Vec::with_capacity(room.clamp(MIN_ROOM, BLOCK)));
        } else {
            self.tail.reserve_exact(len.min(BLOCK - len));
        }
    }

    /// Takes out the oldest block.
    pub(super) fn take_block(&mut self) -> Option<Vec<Entry>> {
        let block = match self.full.pop_front() {
            Some(block) => block,
            None if self.tail.is_empty() => return None,
            None => std::mem::take(&mut self.tail),
        };
        self.count -= block.len() as u32;
        Some(block)
    }

    /// Forgets every entry and keeps no memory.
    pub(super) fn clear(&mut self, spare: &mut Spare) {
        spare.recycle(std::mem::take(&mut self.tail));
        if self.full.capacity() > 0 {
            for block in std::mem::take(&mut self.full) {
                spare.recycle(block);
            }
        }
        self.min = u64::MAX;
        self.count = 0;
        self.dead = 0;
        self.sweep = 0;
        self.kept = 0;
    }

    /// One of the entries has died. Dead ones are let be until they outnumber the live ones by a
    /// block; from then on each cancel sweeps a block, which comes to two or three entries for each
    /// cancel in the long run. Returns whether the slot is left without a live entry.
    #[inline]
    pub(super) fn mark_dead(&mut self, is_live: impl Fn(&Entry) -> bool) -> bool {
        self.dead += 1;
        debug_assert!(
            self.dead <= self.count,
            "{} dead of {}",
            self.dead,
            self.count
        );
        if self.dead as usize > (self.count - self.dead) as usize + BLOCK {
            self.sweep(&is_live);
        }
        let over = self.dead == self.count;
        debug_assert!(!over || !self.entries().any(is_live), "live in {self:?}");
        over
    }

    /// Drops the dead entries of one block, in turn; order is kept.
    #[cold]
    fn sweep(&mut self, is_live: &impl Fn(&Entry) -> bool) {
        let at = self.sweep as usize;
        if at == self.full.len() {
            let before = self.tail.len();
            self.tail.retain(is_live);
            self.swept(before - self.tail.len());
            self.full.retain(|block| !block.is_empty());
            self.sweep = 0;
            self.kept = 0;
            return;
        }
        let block = &mut self.full[at];
        let before = block.len();
        block.retain(is_live);
        let left = block.len();
        self.swept(before - left);
        let kept = self.kept as usize;
        // Two neighbours that fit one block become one, so blocks stay half full on average.
        if kept < at && self.full[kept].len() + left <= BLOCK {
            let block = std::mem::take(&mut self.full[at]);
            self.full[kept].extend_from_slice(&block);
        } else {
            self.kept = self.sweep;
        }
        self.sweep += 1;
    }

    fn swept(&mut self, dropped: usize) {
        self.count -= dropped as u32;
        // Some of them may have been dead without being known to be.
        self.dead = self.dead.saturating_sub(dropped as u32);
    }

    /// Drops every entry of node `index`. Returns whether the slot is left without any.
    pub(super) fn purge(&mut self, index: u32) -> bool {
        self.tail.retain(|entry| entry.index != index);
        for block in &mut self.full {
            block.retain(|entry| entry.index != index);
        }
        self.count = self.entries().count() as u32;
        self.dead = 0;
        self.count == 0
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.full.iter().flatten().chain(&self.tail)
    }
}

#[cfg(test)]
impl Slot {
    pub(super) fn dead(&self) -> u32 {
        self.dead
    }

    /// Entries that memory is kept for.
    pub(super) fn capacity(&self) -> usize {
        self.tail.capacity() + self.full.iter().map(Vec::capacity).sum::<usize>()
    }
}
