//! The counters of a pool, its lists of who sleeps, and the rules by which a worker is sent for.
//!
//! Owned by a pool, and used under its lock. It wakes nobody and starts no thread: what is to be done once
//! the lock is free comes back as a [`Summons`].
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::sync::Arc;

use super::queue::Queue;
use super::turn::Turn;
use crate::sync::Parker;

/// Whether jobs come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    Open,
    /// Only those that are due; workers stay for them.
    Refusing,
    /// None; workers leave when the queue is empty.
    Closed,
}

pub(super) struct State<J> {
    pub(super) queue: Queue<J>,
    /// Jobs that go before all others, and for which there is a worker beyond the limit.
    pub(super) urgent: VecDeque<J>,
    /// Last in, first out: the one that went idle last has the warmest cache, and the coldest leave.
    pub(super) idle: Vec<Arc<Seat>>,
    /// Workers that are coming, running or idle.
    pub(super) workers: usize,
    /// Threads that have not ended.
    pub(super) alive: usize,
    pub(super) running: usize,
    pub(super) coming: bool,
    pub(super) max_workers: usize,
    pub(super) min_workers: usize,
    /// Workers that may be idle; see [`Pool::release_workers`].
    pub(super) idle_kept: usize,
    /// Workers added for as long as others wait inside a job.
    pub(super) lent: usize,
    /// [`Runner::lends_many`] has been told.
    pub(super) told_of_many: bool,
    /// Workers in a row that ended without ever having taken a job.
    pub(super) fruitless: u32,
    pub(super) life: Life,
    pub(super) started: u64,
    pub(super) turn: Turn,
    /// Callers who wait for room, in the order in which they came; see [`Pool::wait_for_room`].
    pub(super) room: VecDeque<(u64, Arc<Parker>)>,
    /// Callers who have ever waited for room.
    pub(super) came_for_room: u64,
    /// Callers who wait for the last thread to end.
    pub(super) joiners: Vec<Arc<Parker>>,
}

/// Where an idle worker sleeps.
pub(super) struct Seat {
    pub(super) parker: Parker,
    /// Set under the lock by who takes the seat off the list to send its worker to the queue.
    pub(super) summoned: std::sync::atomic::AtomicBool,
    /// Set with it, by who holds the lock that jobs run under; see [`spin`].
    pub(super) let_go: std::sync::atomic::AtomicU64,
}

impl Seat {
    /// In `let_go`: the summons came from a thread without that lock.
    pub(super) const NOT_HELD: u64 = u64::MAX;
}

/// What a lock holder has decided to do once it has let go.
#[must_use = "a worker that was counted as coming must be sent for"]
pub(super) enum Summons {
    None,
    Wake(Arc<Seat>),
    Start(u64),
}

impl<J> State<J> {
    /// Jobs that wait for a worker, husks among them.
    pub(super) fn queued(&self) -> usize {
        self.urgent.len() + self.queue.len()
    }

    pub(super) fn pop(&mut self) -> Option<J> {
        self.urgent.pop_front().or_else(|| self.queue.pop())
    }

    pub(super) fn take_last_urgent(&mut self, count: usize) -> Vec<J> {
        let first = self.urgent.len() - count;
        self.urgent.drain(first..).collect()
    }

    pub(super) fn take_all(&mut self) -> Vec<J> {
        let mut all: Vec<J> = self.urgent.drain(..).collect();
        all.extend(self.queue.take_all());
        all
    }

    pub(super) fn limit(&self) -> usize {
        self.max_workers
            .saturating_add(self.lent)
            .saturating_add(self.urgent.len())
    }

    /// Sends for one worker if the queue wants one and none is coming.
    pub(super) fn summon(&mut self) -> Summons {
        if let Some(seat) = self.summon_idle() {
            return Summons::Wake(seat);
        }
        if !self.coming && self.queued() > 0 && self.workers < self.limit() {
            return self.start();
        }
        Summons::None
    }

    /// The same, but starts none.
    pub(super) fn summon_idle(&mut self) -> Option<Arc<Seat>> {
        if self.coming || self.queued() == 0 {
            return None;
        }
        let seat = self.idle.pop()?;
        self.coming = true;
        // Relaxed: read under the same lock.
        seat.summoned
            .store(true, std::sync::atomic::Ordering::Relaxed);
        Some(seat)
    }

    pub(super) fn start(&mut self) -> Summons {
        self.coming = true;
        self.workers += 1;
        self.alive += 1;
        self.started += 1;
        Summons::Start(self.started - 1)
    }

    pub(super) fn is_full(&self, queue_size: Option<usize>) -> bool {
        // What free workers are about to take does not wait: otherwise a bound of 0 would refuse
        // everything, and whether a push fits would depend on how fast a worker woke up.
        let free = self.limit().saturating_sub(self.running);
        queue_size.is_some_and(|bound| self.queue.live() >= bound.saturating_add(free))
    }

    pub(super) fn wake_one_for_room(&mut self, queue_size: Option<usize>) -> Option<Arc<Parker>> {
        if self.room.is_empty() || self.is_full(queue_size) {
            return None;
        }
        self.room.pop_front().map(|(_, caller)| caller)
    }

    /// Puts a caller where it belongs among those who wait for room, by the number it got when it
    /// first came.
    pub(super) fn queue_for_room(&mut self, place: &mut Option<u64>, caller: Arc<Parker>) {
        let place = *place.get_or_insert_with(|| {
            self.came_for_room += 1;
            self.came_for_room
        });
        let before = self.room.partition_point(|&(other, _)| other < place);
        self.room.insert(before, (place, caller));
    }
}

impl<J> State<J> {
    pub(super) fn take_back_start(&mut self) {
        self.workers -= 1;
        self.alive -= 1;
        self.coming = false;
    }

    pub(super) fn joiners_if_gone(&mut self) -> Vec<Arc<Parker>> {
        if self.alive == 0 {
            std::mem::take(&mut self.joiners)
        } else {
            Vec::new()
        }
    }
}

/// Where a worker stands; see the [table](self#worker-states).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Stand {
    Coming,
    Running,
    Free,
    Idle,
    Left,
}
