//! The wheel against a model: any sequence of operations, any tiers, any jump of time.
//!
//! The model is a `BTreeMap` from (deadline, number of the insertion) to the item. What is
//! asserted: nothing early, lost, or yielded twice; a removed item comes back once; each item
//! yielded has the earliest deadline then pending, and equal deadlines keep the order of insertion
//! or rescheduling, unless that fell between two calls of a bounded drain; `next_expiry` is never
//! later than the truth, and lies ahead of a finished advance.

use std::collections::{BTreeMap, HashMap};

use asynctask::wheel::{Due, Key, Tier, Tiers, Wheel};
use proptest::prelude::*;

const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MS;
const DAY: u64 = 86_400 * SECOND;
const YEAR: u64 = 365 * DAY;

#[derive(Clone, Debug)]
enum Op {
    /// A delay from now; negative for a deadline in the past.
    Insert {
        delay: i64,
    },
    /// The same deadline as an item inserted before.
    InsertTwin {
        pick: usize,
    },
    /// This many items, spread evenly over `over` nanoseconds after `delay`.
    Burst {
        count: u16,
        delay: u64,
        over: u64,
    },
    Remove {
        pick: usize,
    },
    RemoveMany {
        every: usize,
    },
    RemoveStale {
        pick: usize,
    },
    Reschedule {
        pick: usize,
        delay: i64,
    },
    /// One call, finished or not.
    Step {
        ahead: u64,
        budget: usize,
    },
    /// Calls until the work is done.
    Advance {
        ahead: u64,
        budget: usize,
    },
    /// To where the wheel asks to be called.
    AdvanceToNext {
        budget: usize,
    },
    Back {
        by: u64,
    },
    Drain,
}

/// Mostly round numbers, give or take one: boundaries are where wheels break.
fn span() -> impl Strategy<Value = u64> {
    let unit = prop_oneof![
        Just(1),
        Just(64),
        Just(1_000),
        Just(78_125),
        Just(MS),
        Just(5 * MS),
        Just(SECOND),
        Just(120 * SECOND),
        Just(DAY),
        Just(YEAR),
    ];
    (unit, 0..=20_u64, -1..=1_i64, any::<u64>(), 0..4_u8).prop_map(
        |(unit, count, off, noise, kind)| match kind {
            0 => (unit * count).saturating_add_signed(off),
            1 => unit.saturating_add_signed(off),
            _ => noise % (unit * (count + 1)),
        },
    )
}

fn signed_span() -> impl Strategy<Value = i64> {
    (span(), 0..8_u8).prop_map(|(span, sign)| {
        let span = i64::try_from(span).unwrap_or(i64::MAX);
        if sign == 0 { -span } else { span }
    })
}

fn budget() -> impl Strategy<Value = usize> {
    prop_oneof![
        Just(0),
        Just(1),
        2..8_usize,
        Just(64),
        Just(256),
        Just(usize::MAX)
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let pick = any::<usize>();
    prop_oneof![
        12 => signed_span().prop_map(|delay| Op::Insert { delay }),
        3 => pick.prop_map(|pick| Op::InsertTwin { pick }),
        2 => (0..900_u16, span(), span())
            .prop_map(|(count, delay, over)| Op::Burst { count, delay, over }),
        5 => pick.prop_map(|pick| Op::Remove { pick }),
        1 => (1..5_usize).prop_map(|every| Op::RemoveMany { every }),
        1 => pick.prop_map(|pick| Op::RemoveStale { pick }),
        5 => (pick, signed_span()).prop_map(|(pick, delay)| Op::Reschedule { pick, delay }),
        5 => (span(), budget()).prop_map(|(ahead, budget)| Op::Step { ahead, budget }),
        4 => (span(), budget()).prop_map(|(ahead, budget)| Op::Advance { ahead, budget }),
        4 => budget().prop_map(|budget| Op::AdvanceToNext { budget }),
        1 => span().prop_map(|by| Op::Back { by }),
        1 => Just(Op::Drain),
    ]
}

fn tiers() -> impl Strategy<Value = Tiers> {
    let custom = |tick: u64, slots: &[u32]| {
        let mut tick = tick;
        let tiers: Vec<Tier> = slots
            .iter()
            .map(|&slots| {
                let tier = Tier { tick, slots };
                tick *= u64::from(slots);
                tier
            })
            .collect();
        Tiers::new(&tiers).expect("built to nest")
    };
    prop_oneof![
        4 => Just(Tiers::default()),
        1 => Just(custom(1, &[1])),
        1 => Just(custom(1, &[10, 10, 10])),
        1 => Just(custom(7, &[3])),
        1 => Just(custom(MS, &[1_000])),
        1 => Just(custom(999_983, &[65, 1, 7, 2])),
        1 => Just(custom(1 << 40, &[64, 64])),
        1 => Just(custom(u64::MAX, &[1])),
    ]
}

struct Item {
    deadline: u64,
    order: u64,
    key: Key,
    /// Whether ties with it may break either way.
    loose: bool,
}

struct Harness {
    wheel: Wheel<u64>,
    now: u64,
    /// Item ids by (deadline, order).
    pending: BTreeMap<(u64, u64), u64>,
    items: HashMap<u64, Item>,
    ids: Vec<u64>,
    stale: Vec<Key>,
    next: u64,
    unfinished: bool,
}

impl Harness {
    fn new(tiers: &Tiers, now: u64) -> Self {
        Self {
            wheel: Wheel::new(tiers, now),
            now,
            pending: BTreeMap::new(),
            items: HashMap::new(),
            ids: Vec::new(),
            stale: Vec::new(),
            next: 0,
            unfinished: false,
        }
    }

    fn insert(&mut self, deadline: u64) {
        let id = self.next;
        self.next += 1;
        let key = self.wheel.insert(deadline, id);
        assert_eq!(Key::from_bits(key.to_bits()), key);
        self.pending.insert((deadline, id), id);
        let loose = self.unfinished;
        self.items.insert(
            id,
            Item {
                deadline,
                order: id,
                key,
                loose,
            },
        );
        self.ids.push(id);
    }

    fn pick(&self, pick: usize) -> Option<u64> {
        (!self.ids.is_empty()).then(|| self.ids[pick % self.ids.len()])
    }

    fn forget(&mut self, id: u64) -> Item {
        let item = self.items.remove(&id).expect("yielded or removed twice");
        assert_eq!(self.pending.remove(&(item.deadline, item.order)), Some(id));
        let at = self
            .ids
            .iter()
            .position(|&other| other == id)
            .expect("listed");
        self.ids.swap_remove(at);
        self.stale.push(item.key);
        item
    }

    fn remove(&mut self, id: u64) {
        let key = self.items[&id].key;
        assert_eq!(self.wheel.get(key), Some(&id));
        assert_eq!(self.wheel.deadline(key), Some(self.items[&id].deadline));
        assert_eq!(self.wheel.remove(key), Some(id));
        self.forget(id);
        assert_eq!(self.wheel.remove(key), None);
    }

    fn reschedule(&mut self, id: u64, deadline: u64) {
        let item = self.items.get_mut(&id).expect("pending");
        assert!(self.wheel.reschedule(item.key, deadline));
        self.pending.remove(&(item.deadline, item.order));
        item.deadline = deadline;
        item.order = self.next;
        self.next += 1;
        item.loose = self.unfinished;
        self.pending.insert((deadline, item.order), id);
    }

    fn step(&mut self, now: u64, budget: usize) -> bool {
        self.now = self.now.max(now);
        let mut out = Vec::new();
        let more = self.wheel.advance(now, budget, &mut out);
        assert!(
            out.len() <= budget.max(1),
            "{} items for a budget of {budget}",
            out.len()
        );
        for Due {
            key,
            deadline,
            item,
        } in out
        {
            assert!(
                deadline <= self.now,
                "item {item}: {deadline} is early at {}",
                self.now
            );
            let (&(first, order), _) = self.pending.first_key_value().expect("pending");
            assert_eq!(deadline, first, "item {item} is not the earliest");
            let twin = self.pending[&(first, order)];
            assert!(
                item == twin || self.items[&item].loose || self.items[&twin].loose,
                "item {item} overtook {twin}, both due at {deadline}"
            );
            let known = self.forget(item);
            assert_eq!((known.deadline, known.key), (deadline, key));
        }
        self.unfinished = more;
        if !more {
            if let Some((&(first, _), id)) = self.pending.first_key_value() {
                assert!(
                    first > self.now,
                    "item {id} of {first} was left behind at {}",
                    self.now
                );
            }
            if let Some(next) = self.wheel.next_expiry() {
                assert!(
                    next > self.now,
                    "next_expiry {next} would spin at {}",
                    self.now
                );
            }
        }
        more
    }

    fn advance(&mut self, now: u64, budget: usize) {
        // Each entry moves once for each ring, and an unfinished call makes some progress.
        let mut calls = 0;
        while self.step(now, budget) {
            calls += 1;
            assert!(calls < 100_000, "an advance without end");
        }
    }

    fn check(&self) {
        assert_eq!(self.wheel.len(), self.pending.len());
        assert_eq!(self.wheel.is_empty(), self.pending.is_empty());
        let first = self
            .pending
            .first_key_value()
            .map(|(&(deadline, _), _)| deadline);
        match (self.wheel.next_expiry(), first) {
            (Some(next), Some(first)) => assert!(next <= first, "{next} is later than {first}"),
            (next, first) => assert_eq!(next, first),
        }
    }

    fn apply(&mut self, op: &Op) {
        match *op {
            Op::Insert { delay } => self.insert(self.now.saturating_add_signed(delay)),
            Op::InsertTwin { pick } => {
                if let Some(id) = self.pick(pick) {
                    self.insert(self.items[&id].deadline);
                }
            }
            Op::Burst { count, delay, over } => {
                let first = self.now.saturating_add(delay);
                for at in 0..u64::from(count) {
                    // Back and forth, so that arrival is not sorted.
                    let part = at * 389 % u64::from(count);
                    self.insert(first.saturating_add(over / u64::from(count) * part));
                }
            }
            Op::Remove { pick } => {
                if let Some(id) = self.pick(pick) {
                    self.remove(id);
                }
            }
            Op::RemoveMany { every } => {
                let ids: Vec<u64> = self.ids.iter().copied().step_by(every).collect();
                for id in ids {
                    self.remove(id);
                }
            }
            Op::RemoveStale { pick } => {
                if !self.stale.is_empty() {
                    let key = self.stale[pick % self.stale.len()];
                    assert_eq!(self.wheel.remove(key), None);
                    assert_eq!(self.wheel.get(key), None);
                    assert_eq!(self.wheel.deadline(key), None);
                    assert!(!self.wheel.reschedule(key, self.now));
                }
            }
            Op::Reschedule { pick, delay } => {
                if let Some(id) = self.pick(pick) {
                    self.reschedule(id, self.now.saturating_add_signed(delay));
                }
            }
            Op::Step { ahead, budget } => {
                self.step(self.now.saturating_add(ahead), budget);
            }
            Op::Advance { ahead, budget } => self.advance(self.now.saturating_add(ahead), budget),
            Op::AdvanceToNext { budget } => {
                if let Some(next) = self.wheel.next_expiry() {
                    self.advance(next, budget);
                }
            }
            Op::Back { by } => {
                self.step(self.now.saturating_sub(by), usize::MAX);
            }
            Op::Drain => {
                let mut items = self.wheel.drain();
                items.sort_unstable();
                self.ids.sort_unstable();
                assert_eq!(items, self.ids);
                for id in items {
                    self.forget(id);
                }
                self.unfinished = false;
            }
        }
        self.check();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn wheel_agrees_with_the_model(
        tiers in tiers(),
        start in prop_oneof![Just(0), span(), Just(u64::MAX - DAY), Just(u64::MAX)],
        ops in prop::collection::vec(op(), 1..120),
    ) {
        let mut harness = Harness::new(&tiers, start);
        for op in &ops {
            harness.apply(op);
        }
        harness.advance(u64::MAX, 256);
        harness.check();
        prop_assert!(harness.wheel.is_empty());
    }
}
