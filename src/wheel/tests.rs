use super::hierarchy::day_around;
use super::slot::Slot;
use super::*;

const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MS;
const TICK: u64 = 5 * MS;
const DAY: u64 = 86_400 * SECOND;
const YEAR: u64 = 365 * DAY;

fn wheel<T>() -> Wheel<T> {
    Wheel::new(&Tiers::default(), 0)
}

fn tiers(tiers: &[(u64, u32)]) -> Tiers {
    let tiers: Vec<Tier> = tiers
        .iter()
        .map(|&(tick, slots)| Tier { tick, slots })
        .collect();
    Tiers::new(&tiers).unwrap()
}

/// Advances to the end of the work, a few entries at a time, and checks everything on the way.
fn advance<T>(wheel: &mut Wheel<T>, now: u64) -> Vec<T> {
    let mut out = Vec::new();
    let mut calls = 0_u32;
    while wheel.advance(now, 7, &mut out) {
        calls += 1;
        if calls.is_power_of_two() {
            wheel.check();
        }
    }
    wheel.check();
    assert!(out.is_sorted_by_key(|due| due.deadline), "out of order");
    out.into_iter()
        .map(|due| {
            assert!(due.deadline <= now, "{} is early at {now}", due.deadline);
            due.item
        })
        .collect()
}

impl<T> Wheel<T> {
    /// Checks the invariants of the module's page.
    fn check(&self) {
        let mut live = 0;
        let mut end = self.hierarchy.horizon;
        for (at, ring) in self.hierarchy.rings.iter().enumerate() {
            assert!(
                end <= ring.last,
                "ring {at} ends at {}, before {end}",
                ring.last
            );
            for index in 0..ring.slots {
                let occupied = ring.is_set(index);
                let Some(place) = ring.place(index) else {
                    assert!(
                        !occupied,
                        "ring {at} has no slots, yet slot {index} is occupied"
                    );
                    continue;
                };
                let open = self.open.as_ref().is_some_and(|open| open.place == place);
                let slot = self.hierarchy.slot(place);
                assert!(occupied || open || slot.count() == 0, "hidden: {slot:?}");
                if occupied {
                    assert!(slot.count() > 0, "ring {at}: slot {index} is empty");
                    let (start, last) = ring.bounds_at(place);
                    assert!(
                        start > self.hierarchy.horizon,
                        "ring {at}: slot {index} is in the past"
                    );
                    live += self.check_slot(slot, start.max(end + 1), last);
                }
            }
            end = ring.last;
        }
        for (&day, &at) in &self.hierarchy.far {
            let (start, last) = day_around(day * self.hierarchy.day, self.hierarchy.day);
            assert!(start > end, "day {day} begins before {end}");
            live += self.check_slot(&self.hierarchy.far_slots[at as usize], start, last);
        }
        if let Some(open) = &self.open {
            let slot = self.hierarchy.slot(open.place);
            let rest = open.block[open.done..].iter().chain(slot.entries());
            live += rest.filter(|entry| self.slab.is_live(entry)).count();
        }
        live += self
            .near
            .entries()
            .filter(|entry| self.slab.is_live(entry))
            .count();
        assert_eq!(live, self.len(), "each item has one live entry");
    }

    fn check_slot(&self, slot: &Slot, start: u64, last: u64) -> usize {
        let live = slot.entries().filter(|entry| self.slab.is_live(entry));
        let deadlines: Vec<u64> = live.map(|entry| entry.deadline).collect();
        assert!(
            slot.dead() as usize + deadlines.len() <= slot.count() as usize,
            "{slot:?}"
        );
        for deadline in &deadlines {
            assert!(
                start <= *deadline && *deadline <= last,
                "{deadline} in {start}..={last}"
            );
            assert!(slot.min <= *deadline, "{deadline} is before {}", slot.min);
        }
        deadlines.len()
    }
}

#[test]
fn an_item_is_due_at_its_deadline_and_not_before() {
    let mut edges = vec![0, 1, 2];
    for span in [TICK, SECOND, 120 * SECOND, DAY, 2 * DAY, 10 * YEAR] {
        edges.extend([
            span - TICK,
            span - 1,
            span,
            span + 1,
            span + TICK,
            span + TICK + 1,
        ]);
    }
    // From starts all over the wheel, so that every edge is met from both sides.
    for start in [
        0,
        1,
        TICK - 1,
        999 * MS,
        SECOND,
        119 * SECOND + 999 * MS,
        DAY - 1,
        3 * YEAR,
    ] {
        for delay in &edges {
            let deadline = start + delay;
            let mut wheel = Wheel::new(&Tiers::default(), start);
            let key = wheel.insert(deadline, *delay);
            assert_eq!(wheel.next_expiry(), Some(deadline), "from {start}");
            if deadline > start {
                assert_eq!(
                    advance(&mut wheel, start + delay / 2).len(),
                    0,
                    "{delay} from {start}"
                );
                assert_eq!(
                    advance(&mut wheel, deadline - 1).len(),
                    0,
                    "{delay} from {start}"
                );
            }
            assert_eq!(wheel.deadline(key), Some(deadline));
            assert_eq!(advance(&mut wheel, deadline), [*delay], "from {start}");
            assert_eq!(wheel.next_expiry(), None);
        }
    }
}

#[test]
fn all_edges_at_once_come_in_order() {
    let mut deadlines = Vec::new();
    for span in [TICK, SECOND, 120 * SECOND, DAY, 10 * YEAR] {
        for count in 1..4 {
            deadlines.extend((0..3).map(|off| span * count + off - 1));
        }
    }
    let mut wheel = wheel();
    for deadline in deadlines.iter().rev() {
        wheel.insert(*deadline, *deadline);
    }
    deadlines.sort_unstable();
    for deadline in &deadlines {
        assert_eq!(wheel.next_expiry(), Some(*deadline));
        assert_eq!(advance(&mut wheel, *deadline), [*deadline]);
    }
}

#[test]
fn a_later_day_does_not_hide_a_nearer_item() {
    let mut wheel = wheel();
    wheel.insert(DAY + 60 * SECOND, "tomorrow");
    wheel.insert(360 * SECOND, "soon");
    assert_eq!(advance(&mut wheel, 480 * SECOND), ["soon"]);
    assert_eq!(wheel.next_expiry(), Some(DAY + 60 * SECOND));
}

#[test]
fn a_deadline_in_the_past_is_due_at_once() {
    let mut wheel = Wheel::new(&Tiers::default(), YEAR);
    wheel.insert(YEAR - 1, "just missed");
    wheel.insert(0, "long ago");
    wheel.insert(YEAR, "now");
    assert_eq!(wheel.next_expiry(), Some(0));
    assert_eq!(
        advance(&mut wheel, YEAR),
        ["long ago", "just missed", "now"]
    );
}

#[test]
fn time_never_goes_back() {
    let mut wheel = wheel();
    assert_eq!(advance(&mut wheel, 10 * SECOND).len(), 0);
    wheel.insert(9 * SECOND, 9);
    let mut out = Vec::new();
    assert!(!wheel.advance(SECOND, 1, &mut out));
    assert_eq!(out.len(), 1, "due at the latest time known");
}

#[test]
fn time_may_end() {
    let mut wheel = Wheel::new(&Tiers::default(), u64::MAX - 3 * DAY);
    let mut deadlines = [
        u64::MAX - 2 * DAY,
        u64::MAX - DAY,
        u64::MAX - 1,
        u64::MAX,
        u64::MAX,
    ];
    for deadline in deadlines {
        wheel.insert(deadline, deadline);
    }
    assert_eq!(advance(&mut wheel, u64::MAX - 1), deadlines[..3]);
    assert_eq!(advance(&mut wheel, u64::MAX), deadlines[3..]);
    wheel.insert(u64::MAX, 7);
    deadlines[0] = 7;
    assert_eq!(advance(&mut wheel, u64::MAX), deadlines[..1]);
}

#[test]
fn equals_come_in_the_order_of_insertion() {
    // In each stretch, across cascades, and as a crowd that no sort could put in order.
    for (deadline, count) in [
        (1, 9),
        (3 * SECOND, 300),
        (DAY + 7, 5_000),
        (10 * YEAR, 300),
    ] {
        let mut wheel = wheel();
        for item in 0..count {
            wheel.insert(deadline, item);
        }
        assert_eq!(advance(&mut wheel, deadline - 1).len(), 0);
        for item in count..count + 3 {
            wheel.insert(deadline, item);
        }
        let items: Vec<i32> = (0..count + 3).collect();
        assert_eq!(advance(&mut wheel, deadline), items, "due at {deadline}");
    }
}

#[test]
fn a_stale_key_names_nothing() {
    let mut wheel = wheel();
    let fired = wheel.insert(1, "fired");
    let removed = wheel.insert(SECOND, "removed");
    assert_eq!(wheel.remove(removed), Some("removed"));
    assert_eq!(advance(&mut wheel, 1), ["fired"]);
    // Both nodes are used again.
    let keys = [wheel.insert(SECOND, "a"), wheel.insert(SECOND, "b")];
    assert_eq!(keys.map(Key::index), [fired.index(), removed.index()]);
    for stale in [fired, removed] {
        assert_eq!(wheel.get(stale), None);
        assert_eq!(wheel.deadline(stale), None);
        assert_eq!(wheel.remove(stale), None);
        assert!(!wheel.reschedule(stale, 5));
    }
    assert_eq!(wheel.len(), 2);
    assert_eq!(advance(&mut wheel, SECOND), ["a", "b"]);
}

#[test]
fn a_key_is_eight_bytes_and_goes_through_an_integer() {
    assert_eq!(size_of::<Option<Key>>(), 8);
    let key = wheel().insert(1, ());
    assert_eq!(Key::from_bits(key.to_bits()), key);
    let nobody = Key::from_bits(std::num::NonZeroU64::MAX);
    assert_eq!(wheel::<()>().remove(nobody), None);
}

#[test]
fn a_node_whose_generations_run_out_is_retired() {
    let mut wheel = wheel();
    let first = wheel.insert(SECOND, 0);
    wheel.slab.age(first, u32::MAX - 3, 0);
    wheel.remove(Key::from_bits(wheel.slab.key_of(first.index()).to_bits()));
    let last = wheel.insert(SECOND, 1);
    assert_eq!(last.index(), first.index());
    assert_eq!(wheel.remove(last), Some(1));
    let next = wheel.insert(SECOND, 2);
    assert_ne!(next.index(), first.index(), "the generation would wrap");
    assert_eq!(wheel.get(last), None);
    assert_eq!(advance(&mut wheel, SECOND), [2]);
}

#[test]
fn generations_outlive_a_released_block() {
    let mut wheel = wheel();
    let fill = |wheel: &mut Wheel<i32>| -> Vec<Key> {
        (0..5_000).map(|item| wheel.insert(SECOND, item)).collect()
    };
    let before = fill(&mut wheel);
    for key in &before {
        assert!(wheel.remove(*key).is_some());
    }
    assert_eq!(wheel.slab.blocks_in_use(), 1);
    let after = fill(&mut wheel);
    for key in &before {
        assert_eq!(wheel.get(*key), None);
    }
    for key in &after {
        assert!(wheel.get(*key).is_some());
    }
    wheel.check();
}

#[test]
fn a_block_whose_generations_run_out_is_retired() {
    let mut wheel = wheel();
    let fill = |wheel: &mut Wheel<()>| -> Vec<Key> {
        (0..5_000).map(|_| wheel.insert(SECOND, ())).collect()
    };
    let keys = fill(&mut wheel);
    wheel.slab.wear_out(keys[2_500]);
    for key in &keys {
        wheel.remove(*key);
    }
    let worn = keys[2_500].index() / 1_024;
    assert!(
        fill(&mut wheel)
            .iter()
            .all(|key| key.index() / 1_024 != worn)
    );
    wheel.check();
}

#[test]
fn a_node_whose_stamps_run_out_begins_anew() {
    // With the live entry in each kind of place, and dead ones left behind in all of them.
    for last in [2, SECOND, 300 * SECOND, 2 * DAY] {
        let mut wheel = wheel();
        let key = wheel.insert(10 * YEAR, "item");
        for deadline in [2 * DAY, 300 * SECOND, SECOND, 2, last] {
            assert!(wheel.reschedule(key, deadline));
        }
        wheel.slab.age(key, 0, u32::MAX - 12);
        // Its entry is as good as dead now. The next five use up the stamps.
        for deadline in [2 * DAY, 300 * SECOND, SECOND, 2, last] {
            assert!(wheel.reschedule(key, deadline));
        }
        assert!(
            wheel.reschedule(key, 7 * SECOND),
            "this one finds no stamp left"
        );
        wheel.check();
        assert_eq!(advance(&mut wheel, 7 * SECOND - 1).len(), 0);
        assert_eq!(wheel.deadline(key), Some(7 * SECOND));
        assert_eq!(advance(&mut wheel, 7 * SECOND), ["item"]);
        assert_eq!(advance(&mut wheel, 11 * YEAR).len(), 0);
    }
}

#[test]
fn stamps_may_begin_anew_while_a_slot_is_open() {
    for start in [SECOND, 300 * SECOND, 2 * DAY] {
        let mut wheel = wheel();
        let keys: Vec<Key> = (0..1_000)
            .map(|item| wheel.insert(start + item, item))
            .collect();
        let mut out = Vec::new();
        assert!(wheel.advance(start, 300, &mut out));
        for key in [keys[0], keys[299], keys[500], keys[999]] {
            let deadline = wheel.deadline(key).unwrap();
            wheel.slab.age(key, 0, u32::MAX - 2);
            assert!(wheel.reschedule(key, deadline));
            wheel.check();
        }
        let items = advance(&mut wheel, start + 1_000);
        assert_eq!(items, (0..1_000).collect::<Vec<u64>>(), "from {start}");
    }
}

#[test]
fn rescheduling_moves_both_ways() {
    let deadlines = [3, TICK, SECOND, SECOND + 1, 500 * SECOND, 3 * DAY, 9 * YEAR];
    for from in deadlines {
        for to in deadlines {
            let mut wheel = wheel();
            let key = wheel.insert(from, "item");
            assert!(wheel.reschedule(key, to));
            wheel.check();
            assert_eq!(wheel.deadline(key), Some(to));
            assert_eq!(wheel.next_expiry(), Some(to), "{from} to {to}");
            assert_eq!(advance(&mut wheel, to - 1).len(), 0, "{from} to {to}");
            assert_eq!(advance(&mut wheel, to), ["item"], "{from} to {to}");
            assert!(!wheel.reschedule(key, to));
        }
    }
}

#[test]
fn a_heartbeat_leaves_no_trail() {
    let mut wheel = wheel();
    let key = wheel.insert(30 * SECOND, ());
    wheel.insert(30 * SECOND, ());
    for beat in 1..100_000 {
        wheel.reschedule(key, 30 * SECOND + beat);
    }
    wheel.check();
    let entries: usize = wheel
        .hierarchy
        .slots
        .iter()
        .map(|slot| slot.entries().count())
        .sum();
    assert!(entries < 1_000, "{entries} entries for two items");
}

#[test]
fn anything_may_happen_in_the_middle_of_a_bounded_drain() {
    // The second's worth of items is moved by three calls of 100; then the wheel is meddled with.
    let mut wheel = wheel();
    let second = 77 * SECOND;
    let keys: Vec<Key> = (0..1_000)
        .map(|item| wheel.insert(second + item * MS, item))
        .collect();
    let mut out = Vec::new();
    for _ in 0..3 {
        assert!(wheel.advance(second, 100, &mut out));
        wheel.check();
    }
    assert!(out.is_empty(), "a cascade comes first");
    for item in [0_u64, 99, 299, 300, 301, 998] {
        assert_eq!(wheel.remove(keys[item as usize]), Some(item));
        wheel.check();
    }
    assert!(
        wheel.reschedule(keys[1], second + 5 * SECOND),
        "moved already"
    );
    assert!(wheel.reschedule(keys[999], second), "not moved yet");
    assert!(
        wheel.reschedule(keys[997], second + 7 * SECOND),
        "not moved yet either"
    );
    wheel.insert(second, 5_000);
    wheel.insert(second + 30 * MS, 5_001);
    wheel.insert(3, 5_002);
    wheel.check();
    assert_eq!(wheel.next_expiry(), Some(3));

    assert_eq!(advance(&mut wheel, second), [5_002, 999, 5_000]);
    let rest = advance(&mut wheel, second + 10 * SECOND);
    let (mut expected, gone) = (vec![], [0, 1, 99, 299, 300, 301, 997, 998, 999]);
    for item in (0..1_000).filter(|item| !gone.contains(item)) {
        expected.push(item);
        expected.extend((item == 30).then_some(5_001));
    }
    expected.extend([1, 997]);
    // The two that are due at the same instant may come either way: one came in the middle.
    let twins = expected.iter().position(|item| *item == 30).unwrap();
    if rest[twins] == 5_001 {
        expected.swap(twins, twins + 1);
    }
    assert_eq!(rest, expected);
}

#[test]
fn a_slot_may_be_emptied_by_cancels_while_it_is_open() {
    let mut wheel = wheel();
    let keys: Vec<Key> = (0..50)
        .map(|item| wheel.insert(77 * SECOND + item, item))
        .collect();
    let mut out = Vec::new();
    assert!(wheel.advance(77 * SECOND, 10, &mut out));
    for key in keys {
        assert!(wheel.remove(key).is_some());
        wheel.check();
    }
    assert_eq!(wheel.next_expiry(), None);
    wheel.insert(80 * SECOND, 80);
    assert_eq!(advance(&mut wheel, 79 * SECOND).len(), 0);
    assert_eq!(wheel.next_expiry(), Some(80 * SECOND));
}

#[test]
fn a_call_touches_no_more_than_its_budget() {
    let mut wheel = wheel();
    for item in 0..10_000 {
        wheel.insert(500 * SECOND + item, item);
    }
    for budget in [0, 1, 10, 256] {
        let mut out = Vec::new();
        assert!(wheel.advance(501 * SECOND, budget, &mut out));
        assert!(out.len() <= budget.max(1));
        wheel.check();
    }
    assert_eq!(
        advance(&mut wheel, 501 * SECOND).len(),
        10_000,
        "a cascade comes first"
    );
}

#[test]
fn a_crowd_is_split_and_comes_in_order() {
    let mut wheel = wheel();
    let spread = |item: u64| 42 * SECOND + item * 7_919 % (4 * MS);
    let mut deadlines: Vec<u64> = (0..20_000).map(spread).collect();
    for deadline in &deadlines {
        wheel.insert(*deadline, *deadline);
    }
    deadlines.sort_unstable();
    // Half of it, one by one, as a timer thread would; then the rest in one go.
    for deadline in &deadlines[..100] {
        assert_eq!(wheel.next_expiry(), Some(*deadline));
        assert_eq!(advance(&mut wheel, *deadline), [*deadline]);
    }
    assert_eq!(advance(&mut wheel, 43 * SECOND), deadlines[100..]);
}

#[test]
fn next_expiry_never_spins() {
    let mut wheel = wheel();
    let keys: Vec<Key> = (1..400)
        .map(|item| wheel.insert(item * item * item * MS, item))
        .collect();
    for key in keys.iter().step_by(3) {
        wheel.remove(*key);
    }
    let mut calls = 0;
    while let Some(next) = wheel.next_expiry() {
        advance(&mut wheel, next);
        assert!(
            wheel.next_expiry().is_none_or(|after| after > next),
            "stuck at {next}"
        );
        calls += 1;
    }
    assert!(calls <= 400, "{calls} calls for 266 items");
}

#[test]
fn a_cancelled_slot_asks_for_no_wake_up() {
    let mut wheel = wheel();
    let soon = wheel.insert(3 * SECOND, ());
    let late = wheel.insert(9 * SECOND, ());
    wheel.remove(soon);
    assert_eq!(wheel.next_expiry(), Some(9 * SECOND));
    wheel.remove(late);
    assert_eq!(wheel.next_expiry(), None);
}

#[test]
fn custom_tiers_keep_the_same_promises() {
    let sets = [
        tiers(&[(1, 1)]),
        tiers(&[(1, 100)]),
        tiers(&[(1_000, 3)]),
        tiers(&[(7, 3), (21, 5), (105, 1), (105, 11)]),
        tiers(&[(3_600 * SECOND, 24)]),
        tiers(&[(u64::MAX, 1)]),
        tiers(&[(1 << 32, 2), (1 << 33, 2), (1 << 34, 2), (1 << 35, 2)]),
    ];
    for tiers in sets {
        let mut wheel = Wheel::new(&tiers, 12_345);
        let mut random = 1_u64;
        let mut deadlines: Vec<u64> = (0..2_000)
            .map(|count| {
                random = random
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                12_345 + (random >> 20 >> (count % 44))
            })
            .collect();
        for deadline in &deadlines {
            wheel.insert(*deadline, *deadline);
        }
        wheel.check();
        deadlines.sort_unstable();
        let mut rest = &deadlines[..];
        for step in 0..45 {
            let now = 12_345 + (1 << step);
            let (due, later) = rest.split_at(rest.partition_point(|deadline| *deadline <= now));
            assert_eq!(advance(&mut wheel, now), due, "{tiers:?} at {now}");
            assert_eq!(wheel.next_expiry(), later.first().copied());
            rest = later;
        }
        assert!(wheel.is_empty());
    }
}

#[test]
fn memory_goes_back_after_a_burst() {
    let mut wheel = wheel();
    let keys: Vec<Key> = (0..100_000)
        .map(|item| wheel.insert(item % 50 * SECOND + item * 977, item))
        .collect();
    // Half is cancelled, at random more or less; the other half fires.
    for item in 0..50_000 {
        assert!(wheel.remove(keys[item * 7_919 % 100_000]).is_some());
    }
    let entries: usize = wheel
        .hierarchy
        .slots
        .iter()
        .map(|slot| slot.entries().count())
        .sum();
    assert!(entries < 130_000, "{entries} entries for 50,000 items");
    let mut out = Vec::new();
    while wheel.advance(100 * SECOND, 256, &mut out) {}
    assert_eq!(out.len(), 50_000);
    assert_eq!(wheel.slab.blocks_in_use(), 1);
    assert!(
        wheel
            .hierarchy
            .slots
            .iter()
            .all(|slot| slot.capacity() == 0),
        "slots keep memory"
    );
    assert!(
        wheel.near.capacity() <= 8 * 1_024,
        "near keeps {}",
        wheel.near.capacity()
    );
}

#[test]
fn a_late_crowd_gives_its_memory_back() {
    let mut wheel = wheel();
    let keys: Vec<Key> = (0..50_000).map(|item| wheel.insert(0, item)).collect();
    for key in keys {
        assert!(wheel.remove(key).is_some());
    }
    wheel.check();
    assert_eq!(wheel.next_expiry(), None);
    assert!(
        wheel.near.capacity() <= 8 * 1_024,
        "near keeps {}",
        wheel.near.capacity()
    );
}

#[test]
fn what_is_cancelled_in_the_current_tick_leaves_no_trail_behind_what_is_not() {
    let mut wheel = wheel();
    wheel.insert(1, 0); // stays first: nothing behind it comes to the front
    for item in 0..100_000 {
        let key = wheel.insert(2 + item % 1_000, item);
        assert!(wheel.remove(key).is_some());
    }
    wheel.check();
    let entries = wheel.near.entries().count();
    assert!(entries <= 2 * 1_024, "{entries} entries for one item");
    assert!(
        wheel.near.capacity() <= 8 * 1_024,
        "near keeps {}",
        wheel.near.capacity()
    );
    assert_eq!(wheel.next_expiry(), Some(1));
}

#[test]
fn cancelling_from_the_back_sweeps_as_well() {
    let mut wheel = wheel();
    let keys: Vec<Key> = (0..20_000)
        .map(|item| wheel.insert(7_000 * SECOND + item, item))
        .collect();
    for key in keys[1_000..].iter().rev() {
        wheel.remove(*key);
    }
    wheel.check();
    let entries: usize = wheel
        .hierarchy
        .slots
        .iter()
        .map(|slot| slot.entries().count())
        .sum();
    assert!(entries < 2_500, "{entries} entries for 1,000 items");
    assert_eq!(
        advance(&mut wheel, 7_001 * SECOND),
        (0..1_000).collect::<Vec<u64>>()
    );
}

#[test]
fn the_invariants_hold_under_random_use() {
    for seed in 1..6_u64 {
        let mut random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mut next = |below: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % below
        };
        let spans = [1, TICK, SECOND, 120 * SECOND, DAY, 5 * DAY];
        let (mut wheel, mut keys, mut now, mut out) = (wheel(), Vec::new(), 0, Vec::new());
        for _ in 0..2_000 {
            let span = spans[next(6) as usize];
            let deadline = now + next(3 * span);
            match next(8) {
                0..=2 => keys.push(wheel.insert(deadline, ())),
                3 => keys.extend((0..next(700)).map(|off| wheel.insert(deadline + off, ()))),
                4 if !keys.is_empty() => {
                    let key = keys[next(keys.len() as u64) as usize];
                    wheel.reschedule(key, deadline);
                }
                5 => {
                    for _ in 0..next(keys.len() as u64 + 1) {
                        let at = next(keys.len() as u64) as usize;
                        wheel.remove(keys.swap_remove(at));
                    }
                }
                _ => {
                    now += next(span);
                    wheel.advance(now, next(500) as usize, &mut out);
                    keys.retain(|key| wheel.get(*key).is_some());
                    assert_eq!(keys.len(), wheel.len());
                }
            }
            wheel.check();
        }
    }
}

#[test]
fn drain_hands_everything_back() {
    let mut wheel = wheel();
    let deadlines = [0, 1, 3 * SECOND, 500 * SECOND, DAY + 1, YEAR, u64::MAX];
    let keys = deadlines.map(|deadline| wheel.insert(deadline, deadline));
    for item in 0..2_000 {
        wheel.insert(2 * SECOND, item);
    }
    let mut out = Vec::new();
    assert!(
        wheel.advance(2 * SECOND, 500, &mut out),
        "stops in the middle"
    );
    let mut items = wheel.drain();
    assert_eq!(items.len() + out.len(), 2_000 + deadlines.len());
    items.sort_unstable();
    assert_eq!(items.last(), Some(&u64::MAX));
    assert!(wheel.is_empty());
    assert_eq!(wheel.next_expiry(), None);
    assert!(keys.iter().all(|key| wheel.get(*key).is_none()));
    wheel.check();
    wheel.insert(5 * SECOND, 5);
    assert_eq!(advance(&mut wheel, YEAR), [5]);
}

#[test]
fn items_are_not_dropped_by_the_wheel() {
    let item = std::rc::Rc::new(());
    let mut wheel = wheel();
    let key = wheel.insert(3 * SECOND, item.clone());
    wheel.insert(4 * SECOND, item.clone());
    assert_eq!(std::rc::Rc::strong_count(&item), 3);
    drop(wheel.remove(key));
    assert_eq!(
        std::rc::Rc::strong_count(&item),
        2,
        "nothing is kept of a cancelled item"
    );
    drop(advance(&mut wheel, 4 * SECOND));
    assert_eq!(std::rc::Rc::strong_count(&item), 1);
}

#[test]
fn debug_says_what_matters() {
    let mut wheel = Wheel::new(&Tiers::default(), 5);
    wheel.insert(9, ());
    assert_eq!(
        format!("{wheel:?}"),
        "Wheel { now: 5, len: 1, next_expiry: Some(9), .. }"
    );
}
