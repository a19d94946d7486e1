//! The slots of all tiers and of the days beyond, and which of them a deadline belongs in.
//!
//! Owned by a wheel. It holds entries, never items, and yields nothing: what is due comes from near, to
//! which the wheel moves the entries of the slot whose time has come.

use std::collections::BTreeMap;

use super::ring::Ring;
use super::slot::{Entry, Slot, Spare};
use super::tiers::Tiers;

/// Slots of an inner ring.
const INNER_SLOTS: u32 = 64;
/// Places from here on are days beyond the wheel; below it, slots of rings.
pub(super) const FAR: u32 = 1 << 31;

/// What the [stretches](super#stretches) but near consist of.
pub(super) struct Hierarchy {
    /// Inner rings first, then one for each tier.
    pub(super) rings: Vec<Ring>,
    /// How many of the rings are inner ones.
    pub(super) inner: usize,
    /// The slots of all rings that were needed so far.
    pub(super) slots: Vec<Slot>,
    /// By day: the days beyond the top ring, and where in `far_slots` their entries are.
    pub(super) far: BTreeMap<u64, u32>,
    pub(super) far_slots: Vec<Slot>,
    far_unused: Vec<u32>,
    pub(super) spare: Spare,
    /// The wheel is emptying a detached slot, whose place must stay.
    pub(super) is_open: bool,
    /// The last nanosecond that near covers.
    pub(super) horizon: u64,
    /// The last nanosecond that the inner rings cover; the horizon unless a crowded tick is being split.
    inner_last: u64,
    /// What the top ring spans, in nanoseconds: a day, by default.
    pub(super) day: u64,
}

/// Where a deadline belongs.
#[derive(Clone, Copy, Debug)]
enum Spot {
    Near,
    /// Number of the ring, and of the slot in it.
    Ring(usize, u32),
    Day(u64),
}

/// The ring below an open slot, which covers that slot's span and nothing else.
#[derive(Clone, Copy, Debug)]
pub(super) struct Below {
    pub(super) ring: usize,
    /// Place of its slot 0.
    pub(super) base: u32,
    /// How many entries each of its slots may expect.
    pub(super) room: usize,
}

impl Hierarchy {
    /// Without entries, at the time `now`.
    pub(super) fn new(tiers: &Tiers, now: u64) -> Self {
        let tiers = tiers.as_slice();
        let mut rings = Vec::new();
        let mut tick = tiers.first().map_or(1, |lowest| lowest.tick);
        while tick > 1 {
            tick = tick.div_ceil(u64::from(INNER_SLOTS));
            rings.push(Ring::new(tick, INNER_SLOTS));
        }
        rings.reverse();
        let inner = rings.len();
        rings.extend(tiers.iter().map(|tier| Ring::new(tier.tick, tier.slots)));
        let day = tiers
            .last()
            .map_or(1, |top| top.tick * u64::from(top.slots));
        let mut hierarchy = Self {
            rings,
            inner,
            slots: Vec::new(),
            far: BTreeMap::new(),
            far_slots: Vec::new(),
            far_unused: Vec::new(),
            spare: Spare::new(),
            is_open: false,
            horizon: 0,
            inner_last: 0,
            day,
        };
        hierarchy.turn_top_to(now);
        hierarchy.descend(hierarchy.rings.len() - 1, now);
        hierarchy
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

    /// Puts an entry in its slot. `false`: it belongs in near.
    #[inline]
    pub(super) fn put(&mut self, entry: Entry) -> bool {
        let place = match self.spot(entry.deadline) {
            Spot::Near => return false,
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
        true
    }

    /// Makes the slots of a ring when it gets its first entry: most wheels never use them all.
    #[cold]
    fn make_slots(&mut self, at: usize) -> u32 {
        let base = self.slots.len() as u32;
        let ring = &mut self.rings[at];
        ring.place_at(base);
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

    /// The live entry of an item that was due at `deadline` has died. `false`: it is in near.
    #[inline]
    pub(super) fn mark_dead(&mut self, deadline: u64, is_live: impl Fn(&Entry) -> bool) -> bool {
        match self.spot(deadline) {
            Spot::Near => return false,
            Spot::Ring(at, index) => {
                let ring = &mut self.rings[at];
                let Some(place) = ring.place(index) else {
                    debug_assert!(false, "the entry due at {deadline} is nowhere");
                    return true;
                };
                // Emptied here and now: a wheel with few items goes this way each time.
                let slot = &mut self.slots[place as usize];
                if slot.mark_dead(is_live) {
                    slot.clear(&mut self.spare);
                    ring.clear(index);
                }
            }
            Spot::Day(day) => self.mark_dead_far(day, is_live),
        }
        true
    }

    #[cold]
    fn mark_dead_far(&mut self, day: u64, is_live: impl Fn(&Entry) -> bool) {
        let Some(&at) = self.far.get(&day) else {
            debug_assert!(false, "an entry of day {day} is nowhere");
            return;
        };
        if self.far_slots[at as usize].mark_dead(is_live) {
            self.detach(FAR + at);
            self.reset(FAR + at);
        }
    }

    /// Drops every entry of node `index`, dead or alive.
    pub(super) fn purge(&mut self, index: u32) {
        let rings = 0..self.slots.len() as u32;
        let days: Vec<u32> = self.far.values().map(|at| FAR + at).collect();
        for place in rings.chain(days) {
            let slot = self.slot_mut(place);
            if slot.count() > 0 && slot.purge(index) {
                self.detach(place);
                self.reset(place);
            }
        }
    }

    /// Forgets every entry, and gives the memory back.
    pub(super) fn clear(&mut self) {
        for slot in &mut self.slots {
            slot.clear(&mut self.spare);
        }
        for ring in &mut self.rings {
            ring.clear_all();
        }
        self.far.clear();
        self.far_slots = Vec::new();
        self.far_unused = Vec::new();
        self.is_open = false;
        self.spare = Spare::new();
    }

    /// Makes the slot at `place` invisible to [`first_slot`](Self::first_slot).
    pub(super) fn detach(&mut self, place: u32) {
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
    pub(super) fn reset(&mut self, place: u32) {
        if place < FAR {
            self.slots[place as usize].clear(&mut self.spare);
            return;
        }
        self.far_slots[(place - FAR) as usize].clear(&mut self.spare);
        self.far_unused.push(place - FAR);
        if self.far.is_empty() && !self.is_open {
            self.far_slots = Vec::new();
            self.far_unused = Vec::new();
        }
    }

    pub(super) fn slot(&self, place: u32) -> &Slot {
        match place {
            FAR.. => &self.far_slots[(place - FAR) as usize],
            _ => &self.slots[place as usize],
        }
    }

    pub(super) fn slot_mut(&mut self, place: u32) -> &mut Slot {
        match place {
            FAR.. => &mut self.far_slots[(place - FAR) as usize],
            _ => &mut self.slots[place as usize],
        }
    }

    /// The place of the first occupied slot.
    pub(super) fn first_slot(&self) -> Option<u32> {
        self.rings
            .iter()
            .find_map(|ring| ring.first().and_then(|index| ring.place(index)))
            .or_else(|| self.far.first_key_value().map(|(_, &at)| FAR + at))
    }

    /// First and last nanosecond of the slot at `place`.
    pub(super) fn bounds(&self, place: u32) -> (u64, u64) {
        let slot = self.slot(place);
        if place >= FAR {
            day_around(slot.min, self.day)
        } else {
            self.rings[slot.ring as usize].bounds_at(place)
        }
    }

    /// What ring `at` is to a slot of `count` entries above it.
    pub(super) fn below(&mut self, at: usize, count: u32) -> Below {
        let ring = &self.rings[at];
        let each = count / ring.slots;
        let base = ring.place(0);
        Below {
            ring: at,
            base: base.unwrap_or_else(|| self.make_slots(at)),
            room: (each + each / 4) as usize, // a slot takes what it does not expect as well
        }
    }

    /// Nothing is left up to `now`: lets the lower rings cover its surroundings, so that what is
    /// inserted next need not be moved often.
    pub(super) fn turn_to(&mut self, now: u64) {
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
    pub(super) fn cover(&mut self, at: usize, start: u64, last: u64) {
        self.rings[at].start = start;
        self.rings[at].last = last;
    }

    /// Moves the horizon to `last`, so that the rings below `at` cover nothing.
    pub(super) fn end_below(&mut self, at: usize, last: u64) {
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
}

/// First and last nanosecond of the day of `time`.
pub(super) fn day_around(time: u64, day: u64) -> (u64, u64) {
    let start = time - time % day;
    (start, start.saturating_add(day - 1))
}
