//! The shape of a wheel: which tiers it has, and why a set of tiers is refused.
//!
//! Owned by whoever builds a wheel, which copies what it needs. It never changes once it is made.

use std::fmt;

const MILLISECOND: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MILLISECOND;

/// 5 ms × 200 = 1 s; 1 s × 120 = 2 min; 2 min × 720 = 24 h.
const DEFAULT: [Tier; 3] = [
    Tier {
        tick: 5 * MILLISECOND,
        slots: 200,
    },
    Tier {
        tick: SECOND,
        slots: 120,
    },
    Tier {
        tick: 120 * SECOND,
        slots: 720,
    },
];
const _: () = assert!(check(&DEFAULT).is_ok(), "the default tiers must nest");

const MAX_TIERS: usize = 8;
const MAX_SLOTS: u32 = 16_384;

/// One tier of a wheel: `slots` slots of `tick` nanoseconds each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tier {
    /// What one slot spans, in nanoseconds; at least 1.
    pub tick: u64,
    /// How many slots the tier has; 1 to 16,384.
    pub slots: u32,
}

/// A validated set of tiers, lowest first: each tier spans exactly one tick of the next.
///
/// The default is 5 ms × 200, 1 s × 120, 120 s × 720, which is 24 hours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tiers(Box<[Tier]>);

impl Tiers {
    /// Checks that `tiers` nest and takes a copy.
    ///
    /// # Errors
    ///
    /// A [`TiersError`] that says which tier is wrong: their number must be 1 to 8, each tick at
    /// least 1 ns, each count of slots 1 to 16,384, and tick × slots must equal the next tick.
    pub fn new(tiers: &[Tier]) -> Result<Self, TiersError> {
        check(tiers)?;
        Ok(Self(tiers.into()))
    }

    /// The tiers, lowest first.
    pub fn as_slice(&self) -> &[Tier] {
        &self.0
    }

    /// Nanoseconds that the top tier spans, and with it the wheel.
    pub fn span(&self) -> u64 {
        self.0
            .last()
            .map_or(0, |top| top.tick * u64::from(top.slots))
    }
}

impl Default for Tiers {
    fn default() -> Self {
        Self(DEFAULT.into())
    }
}

/// Why a set of tiers was refused. Tiers are numbered from 1, lowest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TiersError {
    /// There were no tiers, or more than eight.
    Count {
        /// How many were given.
        count: usize,
    },
    /// A tick of zero.
    Tick {
        /// Number of the tier, from 1.
        tier: usize,
    },
    /// No slots, or too many.
    Slots {
        /// Number of the tier, from 1.
        tier: usize,
        /// How many slots were asked for.
        slots: u32,
    },
    /// Tick × slots does not fit 64 bits.
    Overflow {
        /// Number of the tier, from 1.
        tier: usize,
        /// Its tick in nanoseconds.
        tick: u64,
        /// Its slots.
        slots: u32,
    },
    /// A tier does not span exactly one tick of the next.
    Nesting {
        /// Number of the lower tier, from 1.
        tier: usize,
        /// What it spans, in nanoseconds.
        span: u64,
        /// The tick of the tier above it, in nanoseconds.
        next_tick: u64,
    },
}

impl fmt::Display for TiersError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Count { count } => {
                write!(f, "a wheel has 1 to {MAX_TIERS} tiers, not {count}")
            }
            Self::Tick { tier } => write!(f, "tier {tier}: its tick must be above 0 ns"),
            Self::Slots { tier, slots } => {
                write!(
                    f,
                    "tier {tier}: it must have 1 to {MAX_SLOTS} slots, not {slots}"
                )
            }
            Self::Overflow { tier, tick, slots } => {
                write!(
                    f,
                    "tier {tier}: {tick} ns × {slots} slots is more than 64 bits hold"
                )
            }
            Self::Nesting {
                tier,
                span,
                next_tick,
            } => write!(
                f,
                "tier {tier} spans {span} ns but the tick of tier {next} is {next_tick} ns; \
                 the two must be equal",
                next = tier + 1,
            ),
        }
    }
}

impl std::error::Error for TiersError {}

const fn check(tiers: &[Tier]) -> Result<(), TiersError> {
    if tiers.is_empty() || tiers.len() > MAX_TIERS {
        return Err(TiersError::Count { count: tiers.len() });
    }
    let mut at = 0;
    while at < tiers.len() {
        let Tier { tick, slots } = tiers[at];
        let tier = at + 1;
        if tick == 0 {
            return Err(TiersError::Tick { tier });
        }
        if slots == 0 || slots > MAX_SLOTS {
            return Err(TiersError::Slots { tier, slots });
        }
        let Some(span) = tick.checked_mul(slots as u64) else {
            return Err(TiersError::Overflow { tier, tick, slots });
        };
        if tier < tiers.len() && tiers[tier].tick != span {
            let next_tick = tiers[tier].tick;
            return Err(TiersError::Nesting {
                tier,
                span,
                next_tick,
            });
        }
        at += 1;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tier(tick: u64, slots: u32) -> Tier {
        Tier { tick, slots }
    }

    #[test]
    fn default_spans_a_day() {
        let tiers = Tiers::default();
        assert_eq!(tiers.span(), 86_400 * SECOND);
        assert_eq!(Tiers::new(tiers.as_slice()), Ok(tiers));
    }

    #[test]
    fn a_span_may_fill_64_bits() {
        assert_eq!(Tiers::new(&[tier(u64::MAX, 1)]).unwrap().span(), u64::MAX);
        assert_eq!(
            Tiers::new(&[tier(1, MAX_SLOTS)]).unwrap().span(),
            u64::from(MAX_SLOTS)
        );
    }

    #[test]
    fn refusals_name_the_tier_and_its_values() {
        let cases: [(&[Tier], &str); 7] = [
            (&[], "a wheel has 1 to 8 tiers, not 0"),
            (&[tier(1, 1); 9], "a wheel has 1 to 8 tiers, not 9"),
            (&[tier(0, 5)], "tier 1: its tick must be above 0 ns"),
            (
                &[tier(1, 8), tier(8, 0)],
                "tier 2: it must have 1 to 16384 slots, not 0",
            ),
            (
                &[tier(1, 16_385)],
                "tier 1: it must have 1 to 16384 slots, not 16385",
            ),
            (
                &[tier(1 << 62, 4)],
                "tier 1: 4611686018427387904 ns × 4 slots is more than 64 bits hold",
            ),
            (
                &[tier(5, 10), tier(49, 2)],
                "tier 1 spans 50 ns but the tick of tier 2 is 49 ns; the two must be equal",
            ),
        ];
        for (tiers, message) in cases {
            assert_eq!(
                Tiers::new(tiers).unwrap_err().to_string(),
                message,
                "{tiers:?}"
            );
        }
    }
}
