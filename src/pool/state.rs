//! The counters of a pool, its lists of who sleeps, and when a worker is requested.
//!
//! Owned by a pool, and used under its lock. It wakes nobody and starts no thread: what is to be done once
//! the lock is free comes back as a [`WorkerRequest`].
//!
//! # Where a worker stands
//!
//! | phase   | counted in           | leaves it by                                | to            |
//! |---------|----------------------|---------------------------------------------|---------------|
//! | coming  | `workers`, `coming`  | its first `take`                            | running, free |
//! |         |                      | a thread that the system refuses            | nothing       |
//! | running | `workers`, `running` | a `take` that finds nothing for it          | free          |
//! | free    | `workers`            | a `wait` that finds the queue not empty     | coming        |
//! |         |                      | a `wait` that finds nothing to do           | idle, left    |
//! | idle    | `workers`, `idle`    | a request                                   | coming        |
//! |         |                      | the idle timeout, a shutdown                | free, left    |
//! | left    | `alive` only         | the end of its thread                       | nothing       |
//!
//! From each of them a runner that gives up, or unwinds, takes its worker straight to the end; see the
//! drop of [`Worker`](super::Worker).
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64};

use super::queue::Queue;
use super::turn::Turn;
use crate::sync::Parker;

/// Which jobs the pool takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lifecycle {
    /// All.
    Open,
    /// Those that are due alone; workers stay for them.
    Refusing,
    /// None; workers leave when the queue is empty.
    Closed,
}

/// Everything that changes under the pool's lock.
pub(super) struct State<J> {
    pub(super) queue: Queue<J>,
    /// Jobs that go before all others, and for which there is a worker beyond the limit.
    pub(super) urgent: VecDeque<J>,
    /// Last in, first out: the one that went idle last has the warmest cache, and the coldest leave.
    pub(super) idle: Vec<Arc<Sleeper>>,
    /// Workers that are coming, running or idle.
    pub(super) workers: usize,
    /// Threads that have not ended.
    pub(super) alive: usize,
    /// Workers with a job.
    pub(super) running: usize,
    /// A worker is coming; there is never more than one.
    pub(super) coming: bool,
    pub(super) max_workers: usize,
    pub(super) min_workers: usize,
    /// Workers that may be idle; see [`Pool::release_workers`](super::Pool::release_workers).
    pub(super) max_idle: usize,
    /// Workers added for as long as others wait inside a job.
    pub(super) lent: usize,
    /// [`Runner::lends_many`](super::Runner::lends_many) has been called.
    pub(super) lending_reported: bool,
    /// Workers in a row that ended without ever having taken a job.
    pub(super) exits_without_job: u32,
    pub(super) lifecycle: Lifecycle,
    /// Workers that were ever started: the number of the next.
    pub(super) started: u64,
    pub(super) turn: Turn,
    /// Callers who wait for room, in the order in which they came; see [`Pool::wait_for_room`](super::Pool::wait_for_room).
    pub(super) room: VecDeque<(u64, Arc<Parker>)>,
    /// Callers who have ever waited for room.
    pub(super) room_tickets: u64,
    /// Callers who wait for the last thread to end.
    pub(super) joiners: Vec<Arc<Parker>>,
}

/// Where an idle worker sleeps.
pub(super) struct Sleeper {
    pub(super) parker: Parker,
    /// It was taken off the list, and its worker is coming. Written and read under the pool's lock, hence
    /// Relaxed.
    pub(super) woken: AtomicBool,
    /// Written with it, by a thread that holds the lock that jobs run under; see
    /// [the hold-off](super::spin#the-hold-off).
    pub(super) noted_releases: AtomicU64,
}

impl Sleeper {
    /// In `noted_releases`: whoever woke the worker did not hold the lock that jobs run under.
    pub(super) const NOT_NOTED: u64 = u64::MAX;

    pub(super) fn new() -> Self {
        Self {
            parker: Parker::new(),
            woken: AtomicBool::new(false),
            noted_releases: AtomicU64::new(Self::NOT_NOTED),
        }
    }
}

/// What was decided under the lock, and is to be done without it; see
/// [`Shared::fulfil`](super::shared::Shared::fulfil).
#[must_use = "a worker that is counted as coming must be woken or started"]
pub(super) enum WorkerRequest {
    /// No worker is wanted, or one is coming, or there is none to be had.
    None,
    /// An idle worker is to be woken.
    Wake(Arc<Sleeper>),
    /// The worker with this number is to be started.
    Start(u64),
}

impl<J> State<J> {
    pub(super) fn new(max_workers: usize, min_workers: usize) -> Self {
        Self {
            queue: Queue::new(),
            urgent: VecDeque::new(),
            idle: Vec::new(),
            workers: 0,
            alive: 0,
            running: 0,
            coming: false,
            max_workers,
            min_workers,
            max_idle: usize::MAX,
            lent: 0,
            lending_reported: false,
            exits_without_job: 0,
            lifecycle: Lifecycle::Open,
            started: 0,
            turn: Turn::default(),
            room: VecDeque::new(),
            room_tickets: 0,
            joiners: Vec::new(),
        }
    }

    /// Jobs that wait for a worker, tombstones among them.
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

    /// The most workers at this moment.
    pub(super) fn limit(&self) -> usize {
        self.max_workers
            .saturating_add(self.lent)
            .saturating_add(self.urgent.len())
    }

    /// Requests one worker if the queue wants one and none is coming.
    pub(super) fn request_worker(&mut self) -> WorkerRequest {
        if let Some(sleeper) = self.request_idle() {
            return WorkerRequest::Wake(sleeper);
        }
        if !self.coming && self.queued() > 0 && self.workers < self.limit() {
            return self.start();
        }
        WorkerRequest::None
    }

    /// The same, but starts none.
    pub(super) fn request_idle(&mut self) -> Option<Arc<Sleeper>> {
        if self.coming || self.queued() == 0 {
            return None;
        }
        let sleeper = self.idle.pop()?;
        self.coming = true;
        sleeper.woken.store(true, Relaxed);
        Some(sleeper)
    }

    /// Counts a worker that is about to be started.
    pub(super) fn start(&mut self) -> WorkerRequest {
        self.coming = true;
        self.workers += 1;
        self.alive += 1;
        self.started += 1;
        WorkerRequest::Start(self.started - 1)
    }

    /// Whether a push must be refused, or wait.
    pub(super) fn is_full(&self, queue_size: Option<usize>) -> bool {
        // What free workers are about to take does not wait: otherwise a bound of 0 would refuse
        // everything, and whether a push fits would depend on how fast a worker woke up.
        let free = self.limit().saturating_sub(self.running);
        queue_size.is_some_and(|bound| self.queue.live() >= bound.saturating_add(free))
    }

    /// The caller that waits for room and is to be woken, without the lock, if there is some.
    pub(super) fn next_for_room(&mut self, queue_size: Option<usize>) -> Option<Arc<Parker>> {
        if self.room.is_empty() || self.is_full(queue_size) {
            return None;
        }
        self.room.pop_front().map(|(_, caller)| caller)
    }

    /// Puts a caller among those who wait for room, by the ticket that it got when it first came.
    pub(super) fn queue_for_room(&mut self, ticket: &mut Option<u64>, caller: Arc<Parker>) {
        let ticket = *ticket.get_or_insert_with(|| {
            self.room_tickets += 1;
            self.room_tickets
        });
        let before = self.room.partition_point(|&(other, _)| other < ticket);
        self.room.insert(before, (ticket, caller));
    }

    /// Undoes a [`start`](Self::start).
    pub(super) fn undo_start(&mut self) {
        self.workers -= 1;
        self.alive -= 1;
        self.coming = false;
    }

    /// Those who wait for the last thread to end, if it has; to be woken without the lock.
    pub(super) fn joiners_if_gone(&mut self) -> Vec<Arc<Parker>> {
        if self.alive == 0 {
            std::mem::take(&mut self.joiners)
        } else {
            Vec::new()
        }
    }
}

/// Where a worker stands; see the [table](self#where-a-worker-stands).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum WorkerPhase {
    Coming,
    Running,
    Free,
    Idle,
    Left,
}

/// A worker's own note of where it stands.
pub(super) struct PhaseCell(AtomicU8);

impl PhaseCell {
    const ALL: [WorkerPhase; 5] = [
        WorkerPhase::Coming,
        WorkerPhase::Running,
        WorkerPhase::Free,
        WorkerPhase::Idle,
        WorkerPhase::Left,
    ];

    pub(super) fn new(phase: WorkerPhase) -> Self {
        Self(AtomicU8::new(phase as u8))
    }

    pub(super) fn get(&self) -> WorkerPhase {
        Self::ALL[usize::from(self.0.load(Relaxed))]
    }

    pub(super) fn set(&self, phase: WorkerPhase) {
        self.0.store(phase as u8, Relaxed);
    }
}
