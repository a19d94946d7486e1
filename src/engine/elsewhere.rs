//! The runs that were handed over to somebody else, an event loop say, and have not come back.
//!
//! Owned by the engine, which waits for them when it is joined. Plain counts, by whom they were handed
//! to: who joins from an event loop's own thread must not wait for that loop's.
#![forbid(unsafe_code)]

/// In [`Job::handed_to`](super::Job::handed_to): somebody who gets on whoever waits.
pub const ANYWHERE: u64 = 0;

/// Runs that were handed over and have not come back, by whom they were handed to.
#[derive(Default)]
pub(super) struct RunsElsewhere {
    counts: Vec<(u64, usize)>,
}

impl RunsElsewhere {
    pub(super) fn add(&mut self, place: u64) {
        match self.counts.iter_mut().find(|(other, _)| *other == place) {
            Some((_, runs)) => *runs += 1,
            None => self.counts.push((place, 1)),
        }
    }

    /// `true`: it was the last one there.
    pub(super) fn remove(&mut self, place: u64) -> bool {
        let at = self.counts.iter().position(|(other, _)| *other == place);
        let at = at.expect("a run comes back from where it was handed to");
        self.counts[at].1 -= 1;
        let was_last = self.counts[at].1 == 0;
        if was_last {
            self.counts.swap_remove(at);
        }
        was_last
    }

    pub(super) fn len(&self) -> usize {
        self.counts.iter().map(|(_, runs)| runs).sum()
    }

    pub(super) fn has_only(&self, places: &[u64]) -> bool {
        self.counts.iter().all(|(place, _)| places.contains(place))
    }
}

/// Whether no run is elsewhere that a clock moved by hand has to wait for: those that may need the
/// very thread which moves it are not.
pub(super) fn is_quiet_elsewhere(runs: &RunsElsewhere) -> bool {
    !runs.counts.iter().any(|(place, _)| *place == ANYWHERE)
}
