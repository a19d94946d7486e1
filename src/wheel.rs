//! The timing wheel (draft head).
#![forbid(unsafe_code)]

mod near;
mod ring;
mod slab;
mod slot;
mod tiers;

use std::collections::BTreeMap;
use std::fmt;

pub use self::slab::Key;
pub use self::tiers::{Tier, Tiers, TiersError};

use self::near::Near;
use self::ring::Ring;
use self::slab::Slab;
use self::slot::{Entry, Slot, Spare};

/// A tick with more entries than this is split by the inner rings instead of being sorted at once,
/// which bounds the one step of `advance` that is not counted entry by entry.
const CROWD: u32 = 256;
/// Slots of an inner ring.
const FAN: u32 = 64;
/// What giving back a block of nodes costs, in entries.
const RELEASE_COST: usize = 64;
/// Entries that are moved together.
const BATCH: usize = 64;

/// Places from here on are days beyond the wheel; below it, slots of rings.
const FAR: u32 = 1 << 31;

/// An item that has become due, out of the wheel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due<T> {
    /// The key that named the item; stale now.
    pub key: Key,
    /// When it became due, exactly as asked for.
    pub deadline: u64,
    /// The item.
    pub item: T,
}

/// The slot that is being emptied. It goes on from here in the next call.
#[derive(Debug)]
struct Open {
    place: u32,
    block: Vec<Entry>,
    at: usize,
    /// The stretch of time it covers. An entry of that stretch may be here still, or moved on.
    start: u64,
    last: u64,
    /// Whether its entries go to near.
    gather: bool,
    /// A crowd that is due in the same nanosecond: there is nothing to sort, so it goes to near, and
    /// out, block by block.
    level: bool,
    /// Whether some are dead, so that each must be looked up.
    filter: bool,
}

/// Where a deadline belongs.
#[derive(Clone, Copy, Debug)]
enum Spot {
    Near,
    /// Number of the ring, and of the slot in it.
    Ring(usize, u32),
    Day(u64),
}

/// Pending items, each with a deadline.
pub struct Wheel<T> {
    slab: Slab<T>,
    near: Near,
    /// Inner rings first, then one for each tier.
    rings: Vec<Ring>,
    /// How many of the rings are inner ones.
    inner: usize,
    slots: Vec<Slot>,
    /// By day: the days after the top ring's, and where in `far_slots` their entries are.
    far: BTreeMap<u64, u32>,
    far_slots: Vec<Slot>,
    far_unused: Vec<u32>,
    spare: Spare,
    open: Option<Open>,
    /// The last nanosecond that `near` covers.
    horizon: u64,
    /// The last nanosecond that the inner rings cover.
    inner_last: u64,
    now: u64,
    /// What the top ring spans: a day, by default.
    day: u64,
}

impl<T> Wheel<T> {
    /// An empty wheel at the time `now`.
    pub fn new(tiers: &Tiers, now: u64) -> Self {
        let mut rings = Vec::new();
        let mut tick = tiers.as_slice()[0].tick;
        while tick > 1 {
            tick = tick.div_ceil(u64::from(FAN));
            rings.insert(0, Ring::new(tick, FAN));
        }
        let inner = rings.len();
        rings.extend(
            tiers
                .as_slice()
                .iter()
                .map(|tier| Ring::new(tier.tick, tier.slots)),
        );
        let mut wheel = Self {
            slab: Slab::new(),
            near: Near::default(),
            rings,
            inner,
            slots: Vec::new(),
            far: BTreeMap::new(),
            far_slots: Vec::new(),
            far_unused: Vec::new(),
            spare: Spare::default(),
            open: None,
            horizon: 0,
            inner_last: 0,
            now,
            day: tiers.span(),
        };
        wheel.turn_top_to(now);
        wheel.descend(wheel.rings.len() - 1, now);
        wheel
    }

    /// How many items are pending.
    pub fn len(&self) -> usize {
        self.slab.len()
    }

    /// Whether nothing is pending.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds an item. A deadline in the past makes it due at the next [`advance`](Self::advance).
    #[inline]
    pub fn insert(&mut self, deadline: u64, item: T) -> Key {
        let (key, entry) = self.slab.insert(deadline, item);
        self.put(entry);
        key
    }

    /// Takes an item out before it is due; `None` if `key` is stale.
    #[inline]
    pub fn remove(&mut self, key: Key) -> Option<T> {
        let (deadline, item) = self.slab.remove(key)?;
        self.bury(deadline);
        if self.slab.has_idle() {
            self.slab.release_idle();
        }
        Some(item)
    }

    /// The pending item that `key` names.
    pub fn get(&self, key: Key) -> Option<&T> {
        self.slab.get(key).map(|(_, item)| item)
    }

    /// The deadline of the pending item that `key` names.
    pub fn deadline(&self, key: Key) -> Option<u64> {
        self.slab.get(key).map(|(deadline, _)| deadline)
    }

    /// Gives a pending item another deadline; `false` if `key` is stale.
    pub fn reschedule(&mut self, key: Key, deadline: u64) -> bool {
        let Some((old, _)) = self.slab.get(key) else {
            return false;
        };
        if deadline == old {
            return true;
        }
        let entry = if let Some(entry) = self.slab.renew(key.index(), deadline) {
            self.bury(old);
            Some(entry)
        } else {
            self.purge(key.index());
            self.slab.renew(key.index(), deadline)
        };
        if let Some(entry) = entry {
            self.put(entry);
        }
        true
    }

    /// Moves time to `now` and takes out what is due, earliest first. Returns `true` when the
    /// budget ended before the work did: call again.
    pub fn advance(&mut self, now: u64, budget: usize, out: &mut Vec<Due<T>>) -> bool {
        self.now = self.now.max(now);
        let mut left = budget.max(1);
        loop {
            if !self.empty_open_slot(&mut left) || !self.fire(&mut left, out) {
                return true;
            }
            if self.open.is_none() && !self.open_next() {
                break;
            }
        }
        self.turn_to(self.now);
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

    /// When to call [`advance`](Self::advance) next: never later than the earliest deadline.
    pub fn next_expiry(&self) -> Option<u64> {
        if self.is_empty() {
            return None;
        }
        let open = self.open.as_ref().map(|open| self.slot(open.place).min);
        let near = self.near.first();
        let slot = || self.first_slot().map(|place| self.slot(place).min);
        if open.is_none() {
            return near.or_else(slot);
        }
        // In the middle of a bounded drain anything may be first.
        [open, near, slot()].into_iter().flatten().min()
    }

    /// Takes every pending item out, in no particular order.
    pub fn drain(&mut self) -> Vec<T> {
        let items = self.slab.drain();
        while self.slab.has_idle() {
            self.slab.release_idle();
        }
        for slot in &mut self.slots {
            slot.clear(&mut self.spare);
        }
        for ring in &mut self.rings {
            ring.clear_all();
        }
        self.near = Near::default();
        self.far.clear();
        self.far_slots = Vec::new();
        self.far_unused = Vec::new();
        self.open = None;
        self.spare = Spare::default();
        items
    }

    /// Where `deadline` belongs. Time is cut into stretches, one after the other: near, then each
    /// ring from the lowest up, then the days beyond.
    #[inline]
    fn spot(&self, deadline: u64) -> Spot {
        let first = if deadline > self.inner_last {
            self.inner
        } else if deadline > self.horizon {
            0
        } else {
            return Spot::Near;
        };
        for (at, ring) in self.rings.iter().enumerate().skip(first) {
            if deadline <= ring.last {
                return Spot::Ring(at, ring.index(deadline));
            }
        }
        Spot::Day(deadline / self.day)
    }

    /// Puts an entry where it belongs.
    #[inline]
    fn put(&mut self, entry: Entry) {
        let place = match self.spot(entry.deadline) {
            Spot::Near => return self.near.push(entry),
            Spot::Ring(at, index) => {
                let ring = &mut self.rings[at];
                ring.set(index);
                let place = ring.place(index);
                place.unwrap_or_else(|| self.make_slots(at) + index)
            }
            Spot::Day(day) => self.far_place(day),
        };
        let slot = match place {
            FAR.. => &mut self.far_slots[(place - FAR) as usize],
            _ => &mut self.slots[place as usize],
        };
        slot.push(entry, &mut self.spare);
    }

    #[cold]
    fn make_slots(&mut self, at: usize) -> u32 {
        let base = self.slots.len() as u32;
        let ring = &mut self.rings[at];
        ring.settle_at(base);
        let slots = (0..ring.slots).map(|_| Slot::new(at as u32));
        self.slots.extend(slots);
        base
    }

    #[cold]
    fn far_place(&mut self, day: u64) -> u32 {
        let at = *self.far.entry(day).or_insert_with(|| {
            self.far_unused.pop().unwrap_or_else(|| {
                self.far_slots.push(Slot::new(self.rings.len() as u32));
                self.far_slots.len() as u32 - 1
            })
        });
        FAR + at
    }

    fn slot(&self, place: u32) -> &Slot {
        match place {
            FAR.. => &self.far_slots[(place - FAR) as usize],
            _ => &self.slots[place as usize],
        }
    }

    fn slot_mut(&mut self, place: u32) -> &mut Slot {
        match place {
            FAR.. => &mut self.far_slots[(place - FAR) as usize],
            _ => &mut self.slots[place as usize],
        }
    }

    /// The entry of an item that was due at `deadline` has died.
    #[inline]
    fn bury(&mut self, deadline: u64) {
        if let Some(open) = &mut self.open {
            if open.start <= deadline && deadline <= open.last {
                open.filter = true;
                return;
            }
        }
        let place = match self.spot(deadline) {
            Spot::Near => {
                self.near.bury();
                return self.prune_near();
            }
            Spot::Ring(at, index) => self.rings[at].place(index),
            Spot::Day(day) => self.far.get(&day).map(|at| FAR + at),
        };
        let Some(place) = place else {
            debug_assert!(false, "{deadline} has no place");
            return;
        };
        let slab = &self.slab;
        let slot = match place {
            FAR.. => &mut self.far_slots[(place - FAR) as usize],
            _ => &mut self.slots[place as usize],
        };
        if slot.bury(|entry| slab.is_live(entry)) {
            debug_assert!(
                !slot.entries().any(|entry| slab.is_live(entry)),
                "lost: {slot:?}"
            );
            self.detach(place);
            self.reset(place);
        }
    }

    /// Makes the slot at `place` invisible to [`first_slot`](Self::first_slot).
    fn detach(&mut self, place: u32) {
        let slot = self.slot(place);
        if place >= FAR {
            let day = slot.min / self.day;
            self.far.remove(&day);
        } else {
            let ring = slot.ring as usize;
            self.rings[ring].clear(place);
        }
    }

    /// Makes a detached slot ready for its next use.
    fn reset(&mut self, place: u32) {
        if place < FAR {
            self.slots[place as usize].clear(&mut self.spare);
            return;
        }
        self.far_slots[(place - FAR) as usize].clear(&mut self.spare);
        self.far_unused.push(place - FAR);
        if self.far.is_empty() && self.open.is_none() {
            self.far_slots = Vec::new();
            self.far_unused = Vec::new();
        }
    }

    /// The place of the first occupied slot.
    fn first_slot(&self) -> Option<u32> {
        self.rings
            .iter()
            .find_map(|ring| ring.first().and_then(|index| ring.place(index)))
            .or_else(|| self.far.first_key_value().map(|(_, &at)| FAR + at))
    }

    /// Opens the next slot if it has begun.
    fn open_next(&mut self) -> bool {
        debug_assert!(self.open.is_none(), "one slot is open at a time");
        let Some(place) = self.first_slot() else {
            return false;
        };
        let slot = self.slot(place);
        let above = slot.ring as usize;
        let (start, last) = if place >= FAR {
            let start = slot.min - slot.min % self.day;
            (start, start.saturating_add(self.day - 1))
        } else {
            let ring = &self.rings[above];
            ring.bounds(ring.first().unwrap_or(0))
        };
        if start > self.now {
            return false;
        }
        debug_assert!(
            start > self.horizon,
            "{start} is before the horizon {}",
            self.horizon
        );
        // The entries of a tick go to near, to be sorted; a crowd is split further before, down to
        // single nanoseconds if need be, and a slot from above always.
        let gather = above == 0 || above <= self.inner && slot.count() <= CROWD;
        let level = gather && slot.count() > CROWD;
        let filter = slot.has_dead();
        if gather {
            self.close_up_to(above, last);
        } else {
            self.uncover(above - 1, start, last);
        }
        self.open = Some(Open {
            place,
            block: Vec::new(),
            at: 0,
            start,
            last,
            gather,
            level,
            filter,
        });
        self.detach(place);
        true
    }

    /// Ring `at` takes over the stretch from `start` to `last`.
    fn uncover(&mut self, at: usize, start: u64, last: u64) {
        self.rings[at].start = start;
        self.rings[at].last = last;
        self.close_up_to(at, start - 1);
    }

    /// The horizon moves to `last`, and the rings below `at` cover nothing.
    fn close_up_to(&mut self, at: usize, last: u64) {
        self.horizon = last;
        for ring in &mut self.rings[..at] {
            ring.last = last;
        }
        self.inner_last = match self.inner.checked_sub(1) {
            Some(top) => self.rings[top].last,
            None => last,
        };
    }

    /// Moves the entries of the open slot on, until it is empty; `false` if the budget ends first.
    fn empty_open_slot(&mut self, left: &mut usize) -> bool {
        let Some(mut open) = self.open.take() else {
            return true;
        };
        loop {
            if open.at == open.block.len() {
                if open.level && open.at > 0 {
                    open.block.clear();
                    open.at = 0;
                    self.open = Some(open);
                    return true;
                }
                let Some(block) = self.slot_mut(open.place).take_block() else {
                    break;
                };
                self.spare
                    .recycle(std::mem::replace(&mut open.block, block));
                open.at = 0;
                continue;
            }
            if *left == 0 {
                self.open = Some(open);
                return false;
            }
            let count = BATCH.min(*left).min(open.block.len() - open.at);
            let mut batch = [Entry::default(); BATCH];
            let source = &open.block[open.at..open.at + count];
            let batch = if open.filter {
                let mut live = 0;
                for &entry in source {
                    if self.slab.is_live(&entry) {
                        batch[live] = entry;
                        live += 1;
                    }
                }
                &batch[..live]
            } else {
                source
            };
            if open.gather {
                self.near.gather(batch);
            } else {
                for &entry in batch {
                    self.put(entry);
                }
            }
            open.at += count;
            *left -= count;
        }
        self.open = Some(open);
        self.close();
        true
    }

    /// The open slot has no entry any more.
    fn close(&mut self) {
        if let Some(open) = self.open.take() {
            self.spare.recycle(open.block);
            self.reset(open.place);
            self.near.sort(open.start);
        }
    }

    /// Takes out what is near and due; `false` if the budget ends first.
    fn fire(&mut self, left: &mut usize, out: &mut Vec<Due<T>>) -> bool {
        while self.near.first().is_some_and(|first| first <= self.now) {
            if *left == 0 {
                // What is dead is not worth another call.
                self.prune_near();
                return self.near.first().is_none_or(|first| first > self.now);
            }
            let mut batch = [Entry::default(); BATCH];
            let count = self.near.due(self.now, BATCH.min(*left), &mut batch);
            // Nodes are all over the memory: read in a loop that does nothing else, they are
            // fetched side by side.
            let mut live = 0;
            for at in 0..count {
                if self.slab.is_live(&batch[at]) {
                    batch[live] = batch[at];
                    live += 1;
                }
            }
            for entry in &batch[..live] {
                debug_assert!(
                    entry.deadline <= self.now,
                    "{entry:?} is early at {}",
                    self.now
                );
                out.extend(self.slab.take(entry));
            }
            self.near.forget_dead(count - live);
            *left -= count;
        }
        true
    }

    fn prune_near(&mut self) {
        let slab = &self.slab;
        self.near.prune(|entry| slab.is_live(entry));
    }

    /// Nothing is left up to `now`: lets the lower rings cover its surroundings, so that what is
    /// inserted next need not be moved often.
    fn turn_to(&mut self, now: u64) {
        if now <= self.horizon {
            return;
        }
        let covering = self.rings.iter().position(|ring| now <= ring.last);
        let at = covering.unwrap_or_else(|| {
            self.turn_top_to(now);
            self.rings.len() - 1
        });
        self.descend(at, now);
    }

    /// The top ring takes over the day around `now`.
    fn turn_top_to(&mut self, now: u64) {
        let start = now - now % self.day;
        if let Some(top) = self.rings.last_mut() {
            top.start = start;
            top.last = start.saturating_add(self.day - 1);
        }
    }

    /// From ring `at`, which covers `now`, down: each ring takes over the slot around `now` from
    /// the one above it. Those slots are empty.
    fn descend(&mut self, mut at: usize, now: u64) {
        loop {
            let ring = &self.rings[at];
            let (start, last) = ring.bounds(ring.index(now));
            if at <= self.inner {
                self.close_up_to(at, last);
                return;
            }
            at -= 1;
            self.rings[at].start = start;
            self.rings[at].last = last;
        }
    }

    /// Node `index` has used up its stamps: removes every entry it has left behind, dead or alive,
    /// and lets it begin anew. Once in four billion reschedules of one item.
    #[cold]
    fn purge(&mut self, index: u32) {
        for slot in self.slots.iter_mut().chain(&mut self.far_slots) {
            slot.purge(index);
        }
        if let Some(open) = &mut self.open {
            open.block.drain(..std::mem::take(&mut open.at));
            open.block.retain(|entry| entry.index != index);
        }
        self.near.purge(index);
        self.slab.restart_stamps(index);
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
