//! A tier at work: the stretch of time it covers just now, and which of its slots hold entries.
//!
//! Owned by the hierarchy. It holds no entry itself: its slots are in the hierarchy's table.

/// A ring whose slots were never needed has no place for them yet.
const UNUSED: u32 = u32::MAX;

/// The state of one tier.
#[derive(Debug)]
pub(super) struct Ring {
    /// What one slot spans, in nanoseconds.
    pub(super) tick: u64,
    /// `u64::MAX / tick`: dividing by a tick is on every path, multiplying is twice as fast.
    reciprocal: u64,
    /// Where slot 0 begins.
    pub(super) start: u64,
    /// The last nanosecond that belongs to this ring. Inclusive, so that time may end at
    /// `u64::MAX`. The ring begins where the one below ends.
    pub(super) last: u64,
    pub(super) slots: u32,
    /// Place of slot 0 in the wheel's table of slots.
    base: u32,
    /// One bit a slot: set if and only if the slot has a live entry.
    words: Box<[u64]>,
}

impl Ring {
    pub(super) fn new(tick: u64, slots: u32) -> Self {
        let words = vec![0; slots.div_ceil(64) as usize].into();
        Self {
            tick,
            reciprocal: u64::MAX / tick,
            start: 0,
            last: 0,
            slots,
            base: UNUSED,
            words,
        }
    }

    /// The slot that `deadline`, which this ring covers, belongs to.
    #[inline]
    pub(super) fn index(&self, deadline: u64) -> u32 {
        debug_assert!(
            self.start <= deadline && deadline <= self.last,
            "{deadline} is outside {}..={}",
            self.start,
            self.last
        );
        let offset = deadline - self.start;
        // Rounded down twice, the estimate may be one too low.
        let low = ((u128::from(offset) * u128::from(self.reciprocal)) >> 64) as u64;
        let index = low + u64::from(offset - low * self.tick >= self.tick);
        debug_assert_eq!(index, offset / self.tick, "{offset} / {}", self.tick);
        debug_assert!(
            index < u64::from(self.slots),
            "slot {index} of {}",
            self.slots
        );
        // A ring has at most `MAX_SLOTS` slots.
        index as u32
    }

    /// First and last nanosecond of the slot around `time`, which this ring covers.
    pub(super) fn bounds_around(&self, time: u64) -> (u64, u64) {
        self.bounds(self.index(time))
    }

    /// First and last nanosecond of the slot at `place`.
    pub(super) fn bounds_at(&self, place: u32) -> (u64, u64) {
        self.bounds(place - self.base)
    }

    fn bounds(&self, index: u32) -> (u64, u64) {
        let start = self.start + u64::from(index) * self.tick;
        // An inner ring's last slot may reach beyond the ring, and the last day beyond time.
        (start, start.saturating_add(self.tick - 1).min(self.last))
    }

    /// Place of slot `index` in the table, or `None` as long as the ring has no slots there.
    #[inline]
    pub(super) fn place(&self, index: u32) -> Option<u32> {
        (self.base != UNUSED).then(|| self.base + index)
    }

    pub(super) fn place_at(&mut self, base: u32) {
        self.base = base;
    }

    /// Marks slot `index` as occupied.
    #[inline]
    pub(super) fn set(&mut self, index: u32) {
        self.words[(index / 64) as usize] |= 1 << (index % 64);
    }

    /// Marks the slot at `place` as empty.
    pub(super) fn clear_at(&mut self, place: u32) {
        self.clear(place - self.base);
    }

    /// Marks slot `index` as empty.
    #[inline]
    pub(super) fn clear(&mut self, index: u32) {
        self.words[(index / 64) as usize] &= !(1 << (index % 64));
    }

    /// The first occupied slot. Slots before the present are empty, so no wrap-around.
    pub(super) fn first(&self) -> Option<u32> {
        let at = self.words.iter().position(|&word| word != 0)?;
        Some(at as u32 * 64 + self.words[at].trailing_zeros())
    }

    pub(super) fn clear_all(&mut self) {
        self.words.fill(0);
    }
}

#[cfg(test)]
impl Ring {
    pub(super) fn is_set(&self, index: u32) -> bool {
        self.words[(index / 64) as usize] >> (index % 64) & 1 == 1
    }
}
