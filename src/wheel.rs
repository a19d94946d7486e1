//! The timing wheel: pending items, each with a deadline, and which of them are due.
//!
//! A [`Wheel`] is plain data. The timer thread owns one, behind a mutex, and tells it the time. The
//! wheel itself never reads a clock, takes no lock, starts no thread, runs no code of the caller
//! (not even a destructor, unless it is dropped with items in it) and yields nothing early.
//!
//! All times are nanoseconds on one monotonic scale of the caller's choice, as `u64`. Deadlines are
//! kept exactly; ticks bound the work, not the accuracy.
//!
//! ```
//! use asynctask::wheel::{Tiers, Wheel};
//!
//! let mut wheel = Wheel::new(&Tiers::default(), 0);
//! let tea = wheel.insert(180_000_000_000, "tea");
//! let egg = wheel.insert(300_000_000_000, "egg");
//! assert_eq!(wheel.next_expiry(), Some(180_000_000_000));
//! assert_eq!(wheel.remove(egg), Some("egg"));
//!
//! let mut due = Vec::new();
//! while wheel.advance(180_000_000_001, 256, &mut due) {}
//! assert_eq!((due[0].key, due[0].item), (tea, "tea"));
//! assert_eq!(wheel.next_expiry(), None);
//! ```
//!
//! # Stretches
//!
//! Time is cut into stretches that follow one another without gap or overlap:
//!
//! | stretch   | slots × tick    | covers                                   |
//! |-----------|-----------------|------------------------------------------|
//! | near      |                 | up to the end of the current tick        |
//! | tier 1    | 200 × 5 ms      | from there to the end of the second      |
//! | tier 2    | 120 × 1 s       | from there to the end of the two minutes |
//! | tier 3    | 720 × 120 s     | from there to the end of the day         |
//! | far       | one slot a day  | all later days                           |
//!
//! (Seconds, minutes and days are counted from 0; these are the default tiers, and others are given
//! as [`Tiers`].) An item is put into the stretch that its deadline falls in, which takes one
//! comparison a tier. It is not put by its distance from now: so everything in a stretch is due
//! before everything in the next, and what is due first is found by looking for the first bit set.
//!
//! When its time has come, a slot is opened: its entries move to the tier below, which from then on
//! covers that slot's span, and from the lowest tier to near, which is in exact order. An item
//! moves once for each tier above near, at most. A tick with more than 256 entries is crowded: it
//! is split by *inner* rings, 64 slots each, down to single nanoseconds if need be, so that no step
//! has to sort a million entries.
//!
//! # Invariants
//!
//! 1. Near holds what is due up to `horizon`; ring *k* what is due after ring *k - 1* ends and not
//!    after its own `last`; far what is due after the top ring ends.
//! 2. A ring covers one slot of the ring above, so its slots are in order of time and never wrap
//!    around; the slots before the present are empty.
//! 3. A slot's bit is set, and a day is in the map, if and only if there are entries.
//! 4. Each pending item has exactly one live entry. A cancelled item is gone at once, but its entry
//!    stays behind, dead, until its slot is opened, or swept: a slot sweeps as long as it has more
//!    dead entries than live ones and a block besides.
//! 5. At most one slot is open, and it is emptied before anything later is looked at. Only then can
//!    the place of an entry be in doubt, and it is not asked for.
//! 6. A key or entry that has become stale never matches again: counters that would wrap retire
//!    their node.
//!
//! # Order
//!
//! Each item that [`advance`](Wheel::advance) yields has the earliest deadline of all items pending
//! at that moment; this holds from call to call, whatever the budgets, and whatever is inserted,
//! cancelled or rescheduled between the calls. Items with equal deadlines come in the order of
//! their insertion; a rescheduled item counts as inserted when it was rescheduled. One exception:
//! what is inserted while an `advance` that returned `true` awaits the next call may overtake its
//! equals.
//!
//! # Costs
//!
//! Insert, cancel and reschedule are O(1), or O(log n) in near and in far. `advance` costs O(1) for
//! each entry it moves, and touches about `budget` of them. Items and entries are stored in blocks,
//! so that nothing is copied in bulk, and memory goes back block by block while a burst is worked
//! off. Two things are bounded on average only: the heap in near, which grows and is pruned as a
//! whole, when a great many items are inserted and cancelled within the current tick; and freeing
//! memory, as far as it is up to the allocator.
//!
//! # Storage
//!
//! Slots hold entries of 16 bytes, so that moving them to the tier below reads memory in a row and leaves
//! the items alone. The other choice is lists that are linked through the items: they win where most
//! timers are cancelled at random, slots win by far where timers fire, and a lock is held for as long as
//! that takes. Both were measured, and what else was tried and dropped stands beside it:
//! `docs/design/wheel.md`.
#![forbid(unsafe_code)]
#![expect(
    clippy::cast_possible_truncation,
    reason = "indices are 32 bits wide to save memory; the slab refuses to grow beyond them"
)]

mod hierarchy;
mod near;
mod ring;
mod slab;
mod slot;
mod tiers;

#[cfg(test)]
mod tests;

use std::fmt;

pub use self::slab::{Due, Key};
pub use self::tiers::{Tier, Tiers, TiersError};

use self::hierarchy::{Below, Hierarchy};
use self::near::Near;
use self::slab::Slab;
use self::slot::Entry;

/// A tick with more entries than this is split instead of being sorted at once, which bounds the
/// one step of `advance` that is not counted entry by entry.
const SORT_LIMIT: u32 = 256;
/// Entries whose nodes are fetched side by side.
const BATCH: usize = 128;
/// What giving back a block of nodes costs, in entries.
const RELEASE_COST: usize = 64;
/// Pending items, each with a deadline.
///
/// See the [module](self) for how it works and what it promises.
pub struct Wheel<T> {
    slab: Slab<T>,
    near: Near,
    hierarchy: Hierarchy,
    open: Option<Open>,
    /// The latest time that `advance` was told.
    now: u64,
}

/// The slot that is being emptied, in as many calls as it takes.
#[derive(Debug)]
struct Open {
    place: u32,
    /// The block at hand, and how much of it is done.
    block: Vec<Entry>,
    done: usize,
    /// The span of the slot. An entry of that span may be here still, or have moved on.
    start: u64,
    last: u64,
    /// Where its entries go, if not to near.
    below: Option<Below>,
    /// A crowded slot that is due in one nanosecond. There is nothing to sort, so it goes to near, and
    /// out, block by block.
    level: bool,
    /// Whether some entries are dead, so that each must be looked up.
    filter: bool,
}

impl<T> Wheel<T> {
    /// An empty wheel at the time `now`.
    pub fn new(tiers: &Tiers, now: u64) -> Self {
        Self {
            slab: Slab::new(),
            near: Near::default(),
            hierarchy: Hierarchy::new(tiers, now),
            open: None,
            now,
        }
    }

    /// How many items are pending.
    pub fn len(&self) -> usize {
        self.slab.len()
    }

    /// Whether nothing is pending.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The pending item that `key` names.
    pub fn get(&self, key: Key) -> Option<&T> {
        self.slab.get(key).map(|(_, item)| item)
    }

    /// The deadline of the pending item that `key` names.
    pub fn deadline(&self, key: Key) -> Option<u64> {
        self.slab.get(key).map(|(deadline, _)| deadline)
    }

    /// Adds an item. Any deadline will do; one in the past makes the item due at the next
    /// [`advance`](Self::advance).
    ///
    /// # Panics
    ///
    /// If some four billion items are pending.
    #[inline]
    pub fn insert(&mut self, deadline: u64, item: T) -> Key {
        let (key, entry) = self.slab.insert(deadline, item);
        self.put(entry);
        key
    }

    /// Takes an item out before it is due. `None` if the key is stale: the item was yielded or
    /// removed already.
    #[inline]
    pub fn remove(&mut self, key: Key) -> Option<T> {
        let (deadline, item) = self.slab.remove(key)?;
        self.mark_dead(deadline);
        if self.slab.has_idle() {
            self.slab.release_idle();
        }
        Some(item)
    }

    /// Gives a pending item another deadline, earlier or later; its key stays valid. `false` if the
    /// key is stale.
    pub fn reschedule(&mut self, key: Key, deadline: u64) -> bool {
        let Some((old, _)) = self.slab.get(key) else {
            return false;
        };
        let entry = match self.slab.renew(key, deadline) {
            Some(entry) => {
                self.mark_dead(old);
                entry
            }
            None => self.purge(key, deadline),
        };
        self.put(entry);
        true
    }

    /// Moves time to `now`, never back, and appends what is due to `out`, earliest first.
    ///
    /// A call touches about `budget` entries, at least one, whether it yields them or only moves
    /// them. `true` means that the budget ended before the work did: there is more to do at the
    /// same `now`, and anything may be done to the wheel before the next call.
    pub fn advance(&mut self, now: u64, budget: usize, out: &mut Vec<Due<T>>) -> bool {
        self.now = self.now.max(now);
        let mut left = budget.max(1);
        self.hierarchy.spare.limit_for(self.slab.len());
        loop {
            if !self.empty_open_slot(&mut left) || !self.fire(&mut left, out) {
                return true;
            }
            if self.open.is_none() && !self.open_next() {
                break;
            }
        }
        self.hierarchy.turn_to(self.now);
        self.prune_near();
        while self.slab.has_idle() {
            if left == 0 {
                return true;
            }
            left = left.saturating_sub(RELEASE_COST);
            self.slab.release_idle();
        }
        false
    }

    /// When [`advance`](Self::advance) is to be called next; `None` if nothing is pending.
    ///
    /// Never later than the earliest deadline, and later than the time of the last `advance` if
    /// that returned `false`. It is that deadline exactly, unless items that came before it in the
    /// same slot were cancelled: then it may be one of theirs.
    pub fn next_expiry(&self) -> Option<u64> {
        if self.is_empty() {
            return None;
        }
        let near = self.near.first();
        let slot = || {
            self.hierarchy
                .first_slot()
                .map(|place| self.hierarchy.slot(place).min)
        };
        let Some(open) = &self.open else {
            return near.or_else(slot);
        };
        // Anything may be first: new items go to the rings below while the slot is being emptied.
        let open = self.hierarchy.slot(open.place).min;
        [near, slot()]
            .into_iter()
            .flatten()
            .min()
            .map_or(Some(open), |min| Some(min.min(open)))
    }

    /// Takes every pending item out, in no particular order, and gives the memory back.
    pub fn drain(&mut self) -> Vec<T> {
        let items = self.drain_dated();
        items.into_iter().map(|(_, item)| item).collect()
    }

    /// Like [`drain`](Self::drain), each item with its deadline.
    pub fn drain_dated(&mut self) -> Vec<(u64, T)> {
        let items = self.slab.drain();
        self.hierarchy.clear();
        self.near = Near::default();
        self.open = None;
        items
    }

    /// Puts an entry where it belongs.
    #[inline]
    fn put(&mut self, entry: Entry) {
        if !self.hierarchy.put(entry) {
            self.near.push(entry);
        }
    }

    /// The live entry of an item that was due at `deadline` has died.
    #[inline]
    fn mark_dead(&mut self, deadline: u64) {
        if let Some(open) = &mut self.open
            && open.start <= deadline
            && deadline <= open.last
        {
            open.filter = true;
            self.near.note_possible_dead();
            return;
        }
        let slab = &self.slab;
        if !self
            .hierarchy
            .mark_dead(deadline, |entry| slab.is_live(entry))
        {
            self.near.mark_dead();
            self.prune_near();
        }
    }

    /// Opens the first occupied slot, if it has begun.
    fn open_next(&mut self) -> bool {
        let Some(place) = self.hierarchy.first_slot() else {
            return false;
        };
        let (start, last) = self.hierarchy.bounds(place);
        if start > self.now {
            return false;
        }
        let slot = self.hierarchy.slot(place);
        let ring = slot.ring as usize;
        debug_assert!(
            start > self.hierarchy.horizon,
            "{start} is not after the horizon {}",
            self.hierarchy.horizon
        );
        let is_crowded = slot.count() > SORT_LIMIT;
        let gather = ring == 0 || ring <= self.hierarchy.inner && !is_crowded;
        let (filter, count) = (slot.has_dead(), slot.count());
        let below = (!gather).then(|| self.hierarchy.below(ring - 1, count));
        self.open = Some(Open {
            place,
            block: Vec::new(),
            done: 0,
            start,
            last,
            below,
            level: gather && is_crowded,
            filter,
        });
        self.hierarchy.detach(place);
        self.hierarchy.is_open = true;
        if gather {
            self.hierarchy.end_below(ring, last);
        } else {
            self.hierarchy.cover(ring - 1, start, last);
            self.hierarchy.end_below(ring - 1, start - 1);
        }
        true
    }

    /// Moves the entries of the open slot on; `false` if the budget ends before the slot does.
    fn empty_open_slot(&mut self, left: &mut usize) -> bool {
        let Some(mut open) = self.open.take() else {
            return true;
        };
        loop {
            if open.done == open.block.len() {
                let Some(block) = self.hierarchy.slot_mut(open.place).take_block() else {
                    break;
                };
                self.hierarchy
                    .spare
                    .recycle(std::mem::replace(&mut open.block, block));
                open.done = 0;
            }
            if *left == 0 {
                self.open = Some(open);
                return false;
            }
            let count = BATCH.min(*left).min(open.block.len() - open.done);
            let entries = &open.block[open.done..open.done + count];
            open.done += count;
            *left -= count;
            // What goes to near is fetched here and not when it is due: more at a time.
            let fetch = open.filter || open.below.is_none();
            let filter = fetch && self.fetch(entries) < count;
            let live = entries
                .iter()
                .filter(|entry| !filter || self.slab.is_live(entry));
            match open.below {
                None if !filter => self.near.gather_all(entries),
                None => live.for_each(|&entry| self.near.gather(entry)),
                Some(Below { ring, base, room }) => {
                    let ring = &mut self.hierarchy.rings[ring];
                    for &entry in live {
                        let index = ring.index(entry.deadline);
                        ring.set(index);
                        let slot = &mut self.hierarchy.slots[(base + index) as usize];
                        slot.push(entry, room, &mut self.hierarchy.spare);
                    }
                }
            }
            if open.level && open.done == open.block.len() {
                self.near.sort(open.start, open.last);
                self.open = Some(open);
                return true;
            }
        }
        self.hierarchy.spare.recycle(open.block);
        self.hierarchy.is_open = false;
        self.hierarchy.reset(open.place);
        self.near.sort(open.start, open.last);
        true
    }

    /// Yields what is near and due; `false` if the budget ends before that does.
    fn fire(&mut self, left: &mut usize, out: &mut Vec<Due<T>>) -> bool {
        while self.near.first().is_some_and(|first| first <= self.now) {
            if *left == 0 {
                // What is dead is not worth another call.
                self.prune_near();
                return self.near.first().is_none_or(|first| first > self.now);
            }
            let due = self.near.due(self.now, BATCH.min(*left));
            let count = due.len();
            if count == 0 {
                *left -= 1;
                if let Some(entry) = self.near.pop_late() {
                    match self.slab.take(&entry) {
                        Some(due) => out.push(due),
                        None => self.near.forget_dead(1),
                    }
                }
                continue;
            }
            *left -= count;
            out.reserve(count);
            let before = out.len();
            for entry in due {
                out.extend(self.slab.take(entry));
            }
            self.near.forget_dead(before + count - out.len());
            self.near.pass(count);
        }
        true
    }

    /// Reads the nodes of `entries` and counts the live ones. Nodes are all over the memory: read
    /// in a loop that does nothing else, they are fetched side by side instead of one after the
    /// other.
    fn fetch(&self, entries: &[Entry]) -> usize {
        entries
            .iter()
            .filter(|entry| self.slab.is_live(entry))
            .count()
    }

    fn prune_near(&mut self) {
        let slab = &self.slab;
        self.near.prune(|entry| slab.is_live(entry));
    }

    /// The node of `key` has used up its stamps: removes every entry it has left anywhere, dead or
    /// alive, and begins anew. Once in four billion reschedules of one item.
    #[cold]
    fn purge(&mut self, key: Key, deadline: u64) -> Entry {
        let index = key.index();
        self.hierarchy.purge(index);
        if let Some(mut open) = self.open.take() {
            open.block.drain(..std::mem::take(&mut open.done));
            open.block.retain(|entry| entry.index != index);
            self.hierarchy.slot_mut(open.place).purge(index);
            self.open = Some(open);
        }
        self.near.purge(index);
        self.slab.restart(key, deadline)
    }
}

impl<T> fmt::Debug for Wheel<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wheel")
            .field("now", &self.now)
            .field("len", &self.len())
            .field("next_expiry", &self.next_expiry())
            .finish_non_exhaustive()
    }
}
