//! Where pending items live, and the keys that name them.
//!
//! Nodes come in blocks that never move, so growth copies nothing, and a block without a live node
//! is given back. What must outlive a block is kept beside it: the generations it has reached.
//!
//! Owned by a wheel. It knows no time: a deadline is stored here, and compared elsewhere.

use std::num::NonZeroU64;

use super::slot::Entry;

/// Nodes in a block.
const BLOCK: u32 = 1024;
const NONE: u32 = u32::MAX;

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

/// Names one pending item of one wheel. After the item has gone, the key is stale for ever: it
/// never names a later item.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Key(NonZeroU64);

impl Key {
    fn new(index: u32, generation: u32) -> Self {
        let bits = u64::from(generation) << 32 | u64::from(index);
        Self(NonZeroU64::new(bits).expect("generations begin at 1"))
    }

    pub(super) fn index(self) -> u32 {
        self.0.get() as u32
    }

    fn generation(self) -> u32 {
        (self.0.get() >> 32) as u32
    }

    /// The key as a number, for storing in an atomic.
    pub fn to_bits(self) -> NonZeroU64 {
        self.0
    }

    /// The key that [`to_bits`](Self::to_bits) turned into `bits`. Any other number gives a stale
    /// key, or another item's.
    pub fn from_bits(bits: NonZeroU64) -> Self {
        Self(bits)
    }
}

/// One item. 24 bytes when `Option<T>` is 8.
#[derive(Debug)]
struct Node<T> {
    /// In a free node: the next free one of the block.
    deadline: u64,
    item: Option<T>,
    /// Moves on when the item leaves; a key must match it.
    generation: u32,
    /// Moves on when the item leaves or its entry is abandoned; a live entry matches it.
    stamp: u32,
}

#[derive(Debug)]
struct Block<T> {
    nodes: Vec<Node<T>>,
    /// First free node; `NONE` if every node so far is taken.
    free: u32,
    live: u32,
    /// Where the generations and stamps of its nodes begin: beyond any that an earlier life of the
    /// block has given out.
    begin: u32,
    /// How often generations or stamps have moved on since; no node's can have gone further.
    moves: u32,
}

#[derive(Debug)]
pub(super) struct Slab<T> {
    blocks: Vec<Block<T>>,
    /// One bit a block: set if it has a free node, or could have.
    room: Vec<u64>,
    /// The block to take nodes from as long as it has room.
    current: u32,
    /// The block that a node was given back to last.
    freed: u32,
    /// Blocks that may have no live node left and are to be given back.
    idle: Vec<u32>,
    len: usize,
}

fn split(index: u32) -> (usize, usize) {
    ((index / BLOCK) as usize, (index % BLOCK) as usize)
}

impl<T> Slab<T> {
    pub(super) fn new() -> Self {
        Self {
            blocks: Vec::new(),
            room: Vec::new(),
            current: 0,
            freed: 0,
            idle: Vec::new(),
            len: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(super) fn insert(&mut self, deadline: u64, item: T) -> (Key, Entry) {
        let free = self
            .blocks
            .get(self.current as usize)
            .map_or(NONE, |block| block.free);
        let within = if free == NONE { self.find_room() } else { free };
        let at = self.current;
        let block = &mut self.blocks[at as usize];
        let node = &mut block.nodes[within as usize];
        block.free = node.deadline as u32;
        node.deadline = deadline;
        node.item = Some(item);
        let index = at * BLOCK + within;
        let key = Key::new(index, node.generation);
        let entry = Entry {
            deadline,
            index,
            stamp: node.stamp,
        };
        block.live += 1;
        self.len += 1;
        if block.free == NONE && block.nodes.len() == BLOCK as usize {
            self.set_room(at, false);
        }
        (key, entry)
    }

    /// A free node of the current block, which is another one now if it was full.
    #[cold]
    fn find_room(&mut self) -> u32 {
        if !self.has_room(self.current) {
            // The node freed last is in the cache, and finding it takes no search.
            self.current = if self.has_room(self.freed) {
                self.freed
            } else {
                self.block_with_room()
            };
        }
        let at = self.current;
        let block = &mut self.blocks[at as usize];
        if block.free == NONE {
            block.grow(at > 0)
        } else {
            block.free
        }
    }

    fn has_room(&self, block: u32) -> bool {
        self.room
            .get(block as usize / 64)
            .is_some_and(|word| word >> (block % 64) & 1 == 1)
    }

    fn set_room(&mut self, block: u32, room: bool) {
        let word = &mut self.room[block as usize / 64];
        *word = *word & !(1 << (block % 64)) | u64::from(room) << (block % 64);
    }

    /// The lowest block with room, so that the high ones run dry after a burst; or a new one.
    #[cold]
    fn block_with_room(&mut self) -> u32 {
        if let Some(at) = self.room.iter().position(|&word| word != 0) {
            return at as u32 * 64 + self.room[at].trailing_zeros();
        }
        let block = self.blocks.len() as u32;
        assert!(block < NONE / BLOCK, "a wheel holds at most 2^32 items");
        self.blocks.push(Block {
            nodes: Vec::new(),
            free: NONE,
            live: 0,
            begin: 1,
            moves: 0,
        });
        if self.room.len() <= block as usize / 64 {
            self.room.push(0);
        }
        self.set_room(block, true);
        block
    }

    fn node(&self, index: u32) -> Option<&Node<T>> {
        let (at, within) = split(index);
        self.blocks.get(at)?.nodes.get(within)
    }

    /// The item of `key` and its deadline, unless the key is stale.
    pub(super) fn get(&self, key: Key) -> Option<(u64, &T)> {
        let node = self.node(key.index())?;
        let item = node.item.as_ref()?;
        (node.generation == key.generation()).then_some((node.deadline, item))
    }

    #[inline]
    pub(super) fn is_live(&self, entry: &Entry) -> bool {
        // The stamp alone would do. Both are read so that a node that straddles two cache lines is
        // fetched whole: where it matters, its item is taken next.
        self.node(entry.index)
            .is_some_and(|node| node.stamp == entry.stamp && node.deadline == entry.deadline)
    }

    /// Takes the item of `key` out and tells its deadline; the entry is dead from now on.
    #[inline]
    pub(super) fn remove(&mut self, key: Key) -> Option<(u64, T)> {
        let (at, within) = split(key.index());
        let node = self.blocks.get_mut(at)?.nodes.get_mut(within)?;
        if node.generation != key.generation() {
            return None;
        }
        let item = node.item.take()?;
        let deadline = node.deadline;
        self.free(at, within);
        Some((deadline, item))
    }

    /// Takes the item of `entry` out, unless the entry is dead.
    #[inline]
    pub(super) fn take(&mut self, entry: &Entry) -> Option<Due<T>> {
        let (at, within) = split(entry.index);
        let node = self.blocks.get_mut(at)?.nodes.get_mut(within)?;
        if node.stamp != entry.stamp {
            return None;
        }
        let item = node.item.take()?;
        debug_assert_eq!(
            node.deadline, entry.deadline,
            "node {} and its entry",
            entry.index
        );
        let due = Due {
            key: Key::new(entry.index, node.generation),
            deadline: node.deadline,
            item,
        };
        self.free(at, within);
        Some(due)
    }

    #[inline]
    fn free(&mut self, at: usize, within: usize) {
        let block = &mut self.blocks[at];
        let node = &mut block.nodes[within];
        node.stamp += 1;
        node.generation += 1;
        block.moves = block.moves.saturating_add(1);
        block.live -= 1;
        self.len -= 1;
        let empty = block.live == 0;
        // A counter that would wrap could meet an old key or a dead entry again: such a node is
        // never used again.
        if node.stamp < u32::MAX && node.generation < u32::MAX {
            node.deadline = u64::from(block.free);
            let full = block.free == NONE;
            block.free = within as u32;
            if full {
                self.set_room(at as u32, true);
            }
            self.freed = at as u32;
        }
        if empty && at as u32 != self.current {
            self.idle.push(at as u32);
        }
    }

    /// Whether there are blocks to give back.
    #[inline]
    pub(super) fn has_idle(&self) -> bool {
        !self.idle.is_empty()
    }

    /// Gives at most one block back. The current one is always kept, so that a wheel that goes back
    /// and forth between empty and not quite does not allocate each time.
    #[cold]
    pub(super) fn release_idle(&mut self) {
        let Some(at) = self.idle.pop() else {
            return;
        };
        if self.idle.is_empty() {
            self.idle = Vec::new();
        }
        let block = &mut self.blocks[at as usize];
        // It may have been used again since, or given back already.
        if at == self.current || block.live > 0 || block.nodes.is_empty() {
            return;
        }
        let usable = block.release();
        self.set_room(at, usable);
        if self.freed == at {
            self.freed = self.current;
        }
    }

    /// Gives the pending item of `key` another deadline and a new entry; the old one is dead from
    /// now on. `None`, and nothing has changed: the stamps have run out, see
    /// [`restart`](Self::restart).
    pub(super) fn renew(&mut self, key: Key, deadline: u64) -> Option<Entry> {
        let (at, within) = split(key.index());
        let block = &mut self.blocks[at];
        let node = &mut block.nodes[within];
        if node.stamp >= u32::MAX - 1 {
            return None;
        }
        block.moves = block.moves.saturating_add(1);
        node.stamp += 1;
        node.deadline = deadline;
        Some(Entry {
            deadline,
            index: key.index(),
            stamp: node.stamp,
        })
    }

    /// The same, beginning at stamp 0. Sound only once no entry of the item is left anywhere.
    pub(super) fn restart(&mut self, key: Key, deadline: u64) -> Entry {
        let (at, within) = split(key.index());
        let node = &mut self.blocks[at].nodes[within];
        node.stamp = 0;
        node.deadline = deadline;
        Entry {
            deadline,
            index: key.index(),
            stamp: 0,
        }
    }

    /// Takes every item out with its deadline, in no particular order, and gives the blocks back.
    pub(super) fn drain(&mut self) -> Vec<(u64, T)> {
        let mut items = Vec::with_capacity(self.len);
        for at in 0..self.blocks.len() {
            for within in 0..self.blocks[at].nodes.len() {
                let deadline = self.blocks[at].nodes[within].deadline;
                if let Some(item) = self.blocks[at].nodes[within].item.take() {
                    self.free(at, within);
                    items.push((deadline, item));
                }
            }
        }
        while self.has_idle() {
            self.release_idle();
        }
        items
    }
}

impl<T> Block<T> {
    /// Adds a free node. Only the first block grows step by step, for the sake of small wheels.
    #[cold]
    fn grow(&mut self, at_once: bool) -> u32 {
        let within = self.nodes.len();
        if within == 0 && at_once {
            self.nodes.reserve_exact(BLOCK as usize);
        }
        let (generation, stamp) = (self.begin, self.begin);
        self.nodes.push(Node {
            deadline: u64::from(NONE),
            item: None,
            generation,
            stamp,
        });
        within as u32
    }

    /// Frees the memory; `false` if the block must never be used again.
    fn release(&mut self) -> bool {
        debug_assert_eq!(self.live, 0, "a block with live nodes was released");
        self.nodes = Vec::new();
        self.free = NONE;
        self.begin = self.begin.saturating_add(std::mem::take(&mut self.moves));
        self.begin < u32::MAX
    }
}

#[cfg(test)]
impl<T> Slab<T> {
    /// Makes a node look as if it had been used that often, and its entry as if it were dead.
    pub(super) fn age(&mut self, key: Key, generations: u32, stamps: u32) {
        let (at, within) = split(key.index());
        self.blocks[at].nodes[within].generation += generations;
        self.blocks[at].nodes[within].stamp += stamps;
    }

    /// Makes the block of `key` look as if it had been used that often.
    pub(super) fn wear_out(&mut self, key: Key) {
        self.blocks[split(key.index()).0].moves = u32::MAX - 1;
    }

    pub(super) fn key_of(&self, index: u32) -> Key {
        let (at, within) = split(index);
        Key::new(index, self.blocks[at].nodes[within].generation)
    }

    pub(super) fn blocks_in_use(&self) -> usize {
        self.blocks
            .iter()
            .filter(|block| block.nodes.capacity() > 0)
            .count()
    }
}
