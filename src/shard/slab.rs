//! The shard's table of connections: slots that are used again, told apart by a generation.

use super::connection::Connection;
use crate::types::ConnId;

#[derive(Debug, Default)]
struct Slot {
    generation: u32,
    conn: Option<Box<Connection>>,
}

/// Connections by slot; an id of an earlier connection of a slot finds nothing.
#[derive(Debug, Default)]
pub(super) struct Slab {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

impl Slab {
    /// Puts a connection into a free slot.
    pub(super) fn insert(&mut self, make: impl FnOnce(ConnId) -> Connection) -> ConnId {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            u32::try_from(self.slots.len() - 1).expect("fewer than 2^32 connections")
        });
        let entry = &mut self.slots[slot as usize];
        assert!(entry.conn.is_none(), "the slot is free");
        entry.generation = entry.generation.wrapping_add(1);
        let id = ConnId {
            slot,
            generation: entry.generation,
        };
        entry.conn = Some(Box::new(make(id)));
        id
    }

    /// `None` when the connection is gone, also when another one has its slot.
    pub(super) fn get(&self, id: ConnId) -> Option<&Connection> {
        let slot = self.slots.get(id.slot as usize)?;
        slot.conn
            .as_deref()
            .filter(|_| slot.generation == id.generation)
    }

    /// As [`Slab::get`].
    pub(super) fn get_mut(&mut self, id: ConnId) -> Option<&mut Connection> {
        let slot = self.slots.get_mut(id.slot as usize)?;
        let current = slot.generation == id.generation;
        slot.conn.as_deref_mut().filter(|_| current)
    }

    /// Frees the slot.
    pub(super) fn remove(&mut self, id: ConnId) {
        if self.get(id).is_some() {
            self.slots[id.slot as usize].conn = None;
            self.free.push(id.slot);
        }
    }

    /// Every connection, those that have ended included, in order of slot.
    pub(super) fn all(&self) -> impl Iterator<Item = &Connection> {
        self.slots.iter().filter_map(|slot| slot.conn.as_deref())
    }

    /// Slots, the free ones included.
    pub(super) fn slots(&self) -> usize {
        self.slots.len()
    }

    /// The connection in a slot, if there is one.
    pub(super) fn at(&self, slot: usize) -> Option<&Connection> {
        self.slots.get(slot)?.conn.as_deref()
    }

    /// As [`Slab::at`].
    pub(super) fn at_mut(&mut self, slot: usize) -> Option<&mut Connection> {
        self.slots.get_mut(slot)?.conn.as_deref_mut()
    }
}
