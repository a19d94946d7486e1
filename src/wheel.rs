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
//! moves once for each tier above near, at most. A tick with more than 256 entries is a crowd: it
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
//! Slots hold entries of 16 bytes, so that moving them to the tier below reads memory in a row and
//! leaves the items alone. The other choice is lists linked through the items. Both were measured,
//! interleaved, with 8-byte items due within 60 s: medians in ns for one operation, on 2 shared
//! x86-64 cores whose memory was up to 1.7 times faster at other times, for both alike.
//!
//! |                                              | entries in slots | linked lists |
//! |----------------------------------------------|------------------|--------------|
//! | insert, 1k / 100k / 1M pending               | 19 / 11 / 20     | 7 / 8 / 8    |
//! | cancel of 1M, oldest first / at random       | 10 / 64          | 11 / 35      |
//! | cancel and insert over 1M, oldest / random   | 22 / 147         | 24 / 150     |
//! | expire 1M over 60 s, moves included          | 44, now 34       | 161          |
//! | 1M in one tick: each / longest call of 256   | 72 / 55 µs       | 74 / 29 ms   |
//! | bytes for one pending item (after 1M swaps)  | 40 (57)          | 32 (32)      |
//!
//! Lists win where most timers are cancelled at random; slots win by far where they fire, and the
//! lock is held for as long as that takes. Expiry took 0.3 of the lists' time; 0.6 with entries of
//! 8 bytes and the deadline in the item, which every move then has to fetch; and 0.5 with items
//! split into what moving needs and what firing needs. The lists' longest call is the sort of a
//! whole tick.
//!
//! # Where the time goes
//!
//! Expiring a million over 60 s, time moving by the millisecond: 34.5 ns each, and 46.6 before the
//! steps marked *, medians of interleaved runs. About 14 ns are the one look at the node, which is
//! out of the cache, 10 if nothing else were done; 5 the move from tier 2 to tier 1 (was 11); 7
//! sorting a tick, and 2 gathering it; 4 taking items out and freeing nodes; 2 or 3 finding what is
//! next, and the measuring itself.
//!
//! - \* A slot's nodes are fetched when it goes to near, 80 at a time, and not when they are due, 17
//!   at a time: 3 ns less, and the dead are not sorted.
//! - \* An opened slot's entries all go to one ring, which is not looked for again; its slots make
//!   room for what they may expect at once: 5 ns less.
//! - \* Spare blocks in proportion to the items, so that they go round without the allocator: 1 ns
//!   less, 4 with 100,000 items.
//! - Dropped: nodes aligned to 32 bytes (1 ns more, random cancels 15 % more); sorting by
//!   distribution (1.5 ns less, but 12 more where ticks have few entries); huge pages (1 ns less).
#![forbid(unsafe_code)]
#![expect(
    clippy::cast_possible_truncation,
    reason = "indices are 32 bits wide to save memory; the slab refuses to grow beyond them"
)]

mod near;
mod ring;
mod slab;
mod slot;
mod tiers;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;

pub use self::slab::Key;
pub use self::tiers::{Tier, Tiers, TiersError};

use self::near::Near;
use self::ring::Ring;
use self::slab::Slab;
use self::slot::{Entry, Slot, Spare};

/// A tick with more entries than this is split instead of being sorted at once, which bounds the
/// one step of `advance` that is not counted entry by entry.
const CROWD: u32 = 256;
/// Slots of an inner ring.
const FAN: u32 = 64;
/// Entries whose nodes are fetched side by side.
const BATCH: usize = 128;
/// What giving back a block of nodes costs, in entries.
const RELEASE_COST: usize = 64;
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

/// Pending items, each with a deadline.
///
/// See the [module](self) for how it works and what it promises.
pub struct Wheel<T> {
    slab: Slab<T>,
    near: Near,
    /// Inner rings first, then one for each tier.
    rings: Vec<Ring>,
    /// How many of the rings are inner ones.
    inner: usize,
    /// The slots of all rings that were needed so far.
    slots: Vec<Slot>,
    /// By day: the days beyond the top ring, and where in `far_slots` their entries are.
    far: BTreeMap<u64, u32>,
    far_slots: Vec<Slot>,
    far_unused: Vec<u32>,
    spare: Spare,
    open: Option<Open>,
    /// The last nanosecond that near covers.
    horizon: u64,
    /// The last nanosecond that the inner rings cover; the horizon unless a crowd is being split.
    inner_last: u64,
    /// The latest time that `advance` was told.
    now: u64,
    /// What the top ring spans, in nanoseconds: a day, by default.
    day: u64,
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
    /// A crowd that is due in one nanosecond. There is nothing to sort, so it goes to near, and
    /// out, block by block.
    level: bool,
    /// Whether some entries are dead, so that each must be looked up.
    filter: bool,
}

/// The ring below an open slot, which covers that slot's span and nothing else.
#[derive(Clone, Copy, Debug)]
struct Below {
    ring: usize,
    /// Place of its slot 0.
    base: u32,
    /// How many entries each of its slots may expect.
    room: usize,
}

/// Where a deadline belongs.
#[derive(Clone, Copy, Debug)]
enum Spot {
    Near,
    /// Number of the ring, and of the slot in it.
    Ring(usize, u32),
    Day(u64),
}

impl<T> Wheel<T> {
    /// An empty wheel at the time `now`.
    pub fn new(tiers: &Tiers, now: u64) -> Self {
        let tiers = tiers.as_slice();
        let mut rings = Vec::new();
        let mut tick = tiers.first().map_or(1, |lowest| lowest.tick);
        while tick > 1 {
            tick = tick.div_ceil(u64::from(FAN));
            rings.push(Ring::new(tick, FAN));
        }
        rings.reverse();
        let inner = rings.len();
        rings.extend(tiers.iter().map(|tier| Ring::new(tier.tick, tier.slots)));
        let day = tiers
            .last()
            .map_or(1, |top| top.tick * u64::from(top.slots));
        let mut wheel = Self {
            slab: Slab::new(),
            near: Near::default(),
            rings,
            inner,
            slots: Vec::new(),
            far: BTreeMap::new(),
            far_slots: Vec::new(),
            far_unused: Vec::new(),
            spare: Spare::new(),
            open: None,
            horizon: 0,
            inner_last: 0,
            now,
            day,
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
        self.bury(deadline);
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
                self.bury(old);
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
    /// same
    /// `now`, and anything may be done to the wheel before the next call.
    pub fn advance(&mut self, now: u64, budget: usize, out: &mut Vec<Due<T>>) -> bool {
        self.now = self.now.max(now);
        let mut left = budget.max(1);
        self.spare.limit_for(self.slab.len());
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
        let slot = || self.first_slot().map(|place| self.slot(place).min);
        let Some(open) = &self.open else {
            return near.or_else(slot);
        };
        // Anything may be first: new items go to the rings below while the slot is being emptied.
        let open = self.slot(open.place).min;
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
        self.spare = Spare::new();
        items
    }

    /// Where `deadline` belongs.
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
            Spot::Day(day) => self.make_day(day),
        };
        let slot = match place {
            FAR.. => &mut self.far_slots[(place - FAR) as usize],
            _ => &mut self.slots[place as usize],
        };
        slot.push(entry, 0, &mut self.spare);
    }

    /// Makes the slots of a ring when it gets its first entry: most wheels never use them all.
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
    fn make_day(&mut self, day: u64) -> u32 {
        let at = *self.far.entry(day).or_insert_with(|| {
            self.far_unused.pop().unwrap_or_else(|| {
                self.far_slots.push(Slot::new(self.rings.len() as u32));
                self.far_slots.len() as u32 - 1
            })
        });
        FAR + at
    }

    /// The live entry of an item that was due at `deadline` has died.
    #[inline]
    fn bury(&mut self, deadline: u64) {
        if let Some(open) = &mut self.open
            && open.start <= deadline
            && deadline <= open.last
        {
            open.filter = true;
            self.near.suspect();
            return;
        }
        let slab = &self.slab;
        match self.spot(deadline) {
            Spot::Near => {
                self.near.bury();
                self.prune_near();
            }
            Spot::Ring(at, index) => {
                let ring = &mut self.rings[at];
                let Some(place) = ring.place(index) else {
                    debug_assert!(false, "the entry due at {deadline} is nowhere");
                    return;
                };
                // Emptied here and now: a wheel with few items goes this way each time.
                let slot = &mut self.slots[place as usize];
                if slot.bury(|entry| slab.is_live(entry)) {
                    slot.clear(&mut self.spare);
                    ring.clear(index);
                }
            }
            Spot::Day(day) => self.bury_far(day),
        }
    }

    #[cold]
    fn bury_far(&mut self, day: u64) {
        let Some(&at) = self.far.get(&day) else {
            debug_assert!(false, "an entry of day {day} is nowhere");
            return;
        };
        let slab = &self.slab;
        if self.far_slots[at as usize].bury(|entry| slab.is_live(entry)) {
            self.detach(FAR + at);
            self.reset(FAR + at);
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
            self.rings[ring].clear_at(place);
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

    /// The place of the first occupied slot.
    fn first_slot(&self) -> Option<u32> {
        self.rings
            .iter()
            .find_map(|ring| ring.first().and_then(|index| ring.place(index)))
            .or_else(|| self.far.first_key_value().map(|(_, &at)| FAR + at))
    }

    /// Opens the first occupied slot, if it has begun.
    fn open_next(&mut self) -> bool {
        let Some(place) = self.first_slot() else {
            return false;
        };
        let slot = self.slot(place);
        let ring = slot.ring as usize;
        let (start, last) = if place >= FAR {
            day_around(slot.min, self.day)
        } else {
            self.rings[ring].bounds_at(place)
        };
        if start > self.now {
            return false;
        }
        debug_assert!(
            start > self.horizon,
            "{start} is not after the horizon {}",
            self.horizon
        );
        let crowd = slot.count() > CROWD;
        let gather = ring == 0 || ring <= self.inner && !crowd;
        let (filter, count) = (slot.has_dead(), slot.count());
        let below = (!gather).then(|| self.below(ring - 1, count));
        self.open = Some(Open {
            place,
            block: Vec::new(),
            done: 0,
            start,
            last,
            below,
            level: gather && crowd,
            filter,
        });
        self.detach(place);
        if gather {
            self.end_below(ring, last);
        } else {
            self.cover(ring - 1, start, last);
            self.end_below(ring - 1, start - 1);
        }
        true
    }

    /// What ring `at` is to a slot of `count` entries above it.
    fn below(&mut self, at: usize, count: u32) -> Below {
        let ring = &self.rings[at];
        let each = count / ring.slots;
        let base = ring.place(0);
        Below {
            ring: at,
            base: base.unwrap_or_else(|| self.make_slots(at)),
            room: (each + each / 4) as usize, // a slot takes what it does not expect as well
        }
    }

    /// Moves the entries of the open slot on; `false` if the budget ends before the slot does.
    fn empty_open_slot(&mut self, left: &mut usize) -> bool {
        let Some(mut open) = self.open.take() else {
            return true;
        };
        loop {
            if open.done == open.block.len() {
                let Some(block) = self.slot_mut(open.place).take_block() else {
                    break;
                };
                self.spare
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
                    let ring = &mut self.rings[ring];
                    for &entry in live {
                        let index = ring.index(entry.deadline);
                        ring.set(index);
                        let slot = &mut self.slots[(base + index) as usize];
                        slot.push(entry, room, &mut self.spare);
                    }
                }
            }
            if open.level && open.done == open.block.len() {
                self.near.sort(open.start, open.last);
                self.open = Some(open);
                return true;
            }
        }
        self.spare.recycle(open.block);
        self.reset(open.place);
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

    fn turn_top_to(&mut self, now: u64) {
        let (start, last) = day_around(now, self.day);
        self.cover(self.rings.len() - 1, start, last);
    }

    /// From ring `at`, which covers `now`, down to the lowest tier: each ring takes over the slot
    /// around `now` from the one above, and near the last one. All of those slots are empty.
    fn descend(&mut self, mut at: usize, now: u64) {
        loop {
            let (start, last) = self.rings[at].bounds_around(now);
            if at <= self.inner {
                return self.end_below(at, last);
            }
            at -= 1;
            self.cover(at, start, last);
        }
    }

    /// From now on ring `at` covers what is in `start..=last` and beyond the ring below.
    fn cover(&mut self, at: usize, start: u64, last: u64) {
        self.rings[at].start = start;
        self.rings[at].last = last;
    }

    /// Moves the horizon to `last`, so that the rings below `at` cover nothing.
    fn end_below(&mut self, at: usize, last: u64) {
        debug_assert!(
            last >= self.horizon,
            "the horizon {} cannot go back",
            self.horizon
        );
        self.horizon = last;
        for ring in &mut self.rings[..at] {
            ring.last = last;
        }
        self.inner_last = match self.inner.checked_sub(1) {
            Some(highest) => self.rings[highest].last,
            None => last,
        };
    }

    /// The node of `key` has used up its stamps: removes every entry it has left anywhere, dead or
    /// alive, and begins anew. Once in four billion reschedules of one item.
    #[cold]
    fn purge(&mut self, key: Key, deadline: u64) -> Entry {
        let index = key.index();
        let rings = 0..self.slots.len() as u32;
        let days: Vec<u32> = self.far.values().map(|at| FAR + at).collect();
        for place in rings.chain(days) {
            let slot = self.slot_mut(place);
            if slot.count() > 0 && slot.purge(index) {
                self.detach(place);
                self.reset(place);
            }
        }
        if let Some(mut open) = self.open.take() {
            open.block.drain(..std::mem::take(&mut open.done));
            open.block.retain(|entry| entry.index != index);
            self.slot_mut(open.place).purge(index);
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

/// First and last nanosecond of the day of `time`.
fn day_around(time: u64, day: u64) -> (u64, u64) {
    let start = time - time % day;
    (start, start.saturating_add(day - 1))
}
