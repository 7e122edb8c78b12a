//! A member in either placement, with one face: what the world calls.

use super::disk::SimStorage;
use crate::log::Identities;
use crate::log::snapshot_file::Written;
use crate::member::{Member, MemberConfig, StartError};
use crate::messages::{ShardRequest, ToShards};
use crate::pipeline::Fatal;
use crate::placement::Inline;
use crate::placement::{Batch, CatchUp, FeedCounters, Orderer, Progress, Replica, RingLimits};
use crate::shard::{ClientAddress, Output, ShardConfig};
use crate::snapshot;
use crate::tree::Tree;
use crate::txn::Entry;
use crate::types::{ConnId, Now, ShardId, Zxid};
use std::collections::VecDeque;
use std::sync::Arc;

pub(super) struct MachineConfig {
    pub(super) member: MemberConfig,
    pub(super) shard: ShardConfig,
    pub(super) shards: u16,
    pub(super) limits: RingLimits,
}

/// One replica, and what lies in the queues to and from it.
pub(super) struct Seat {
    replica: Replica,
    mail: VecDeque<Arc<Batch>>,
    asked: VecDeque<ShardRequest>,
}

pub(super) enum Machine {
    Inline(Box<Inline<SimStorage>>),
    Sharded(Box<Orderer<SimStorage>>, Vec<Seat>),
}

impl Machine {
    pub(super) fn start(
        config: MachineConfig,
        data: &SimStorage,
        log: &SimStorage,
        identities: Identities,
        now: Now,
        observe: &mut dyn FnMut(&Entry),
    ) -> Result<Machine, StartError> {
        let (member, _) = Member::start(config.member, data, log, identities, now, observe)?;
        if config.shards == 0 {
            return Ok(Machine::Inline(Box::new(Inline::new(member, config.shard))));
        }
        let zxid = member.tree.last_zxid();
        let board = Arc::new(Progress::new(usize::from(config.shards), zxid));
        let seat = |n| Seat {
            replica: Replica::new(
                ShardConfig {
                    id: ShardId(n),
                    ..config.shard.clone()
                },
                member.tree.clone(),
                board.clone(),
            ),
            mail: VecDeque::new(),
            asked: VecDeque::new(),
        };
        let seats = (0..config.shards).map(seat).collect();
        let core = Orderer::new(member, config.limits, board, config.shards);
        Ok(Machine::Sharded(Box::new(core), seats))
    }

    pub(super) fn member(&self) -> &Member<SimStorage> {
        match self {
            Machine::Inline(inline) => &inline.member,
            Machine::Sharded(core, _) => &core.member,
        }
    }

    pub(super) fn member_mut(&mut self) -> &mut Member<SimStorage> {
        match self {
            Machine::Inline(inline) => &mut inline.member,
            Machine::Sharded(core, _) => &mut core.member,
        }
    }

    /// The tree that transactions are validated against.
    pub(super) fn tree(&self) -> &Tree {
        &self.member().tree
    }

    pub(super) fn tick(&mut self, now: Now) -> Result<(), Fatal> {
        match self {
            Machine::Inline(inline) => inline.tick(now),
            Machine::Sharded(core, _) => {
                core.member.pipeline.accepted_until(now.tick, now.tick);
                core.member.tick(now)
            }
        }
    }

    /// The turn of the core that orders.
    pub(super) fn turn(
        &mut self,
        now: Now,
        observe: &mut impl FnMut(&ToShards),
    ) -> Result<(), Fatal> {
        match self {
            Machine::Inline(inline) => inline.turn(now, observe),
            Machine::Sharded(core, seats) => {
                for seat in seats.iter_mut() {
                    for up in seat.asked.drain(..) {
                        core.request(up, now)?;
                    }
                }
                core.turn(now, observe)?;
                for (shard, seat) in (0..).map(ShardId).zip(seats) {
                    seat.mail
                        .extend(std::iter::from_fn(|| core.poll_batch(shard)));
                }
                Ok(())
            }
        }
    }

    fn seat(&mut self, shard: u16) -> &mut Seat {
        match self {
            Machine::Inline(_) => unreachable!("there are no shards"),
            Machine::Sharded(_, seats) => &mut seats[usize::from(shard)],
        }
    }

    pub(super) fn has_mail(&self, shard: u16) -> bool {
        match self {
            Machine::Inline(_) => false,
            Machine::Sharded(_, seats) => !seats[usize::from(shard)].mail.is_empty(),
        }
    }

    /// A shard takes what was given to it.
    pub(super) fn shard_batches(&mut self, shard: u16, now: Now) -> Result<(), Fatal> {
        let Seat { replica, mail, .. } = self.seat(shard);
        mail.drain(..)
            .try_for_each(|batch| replica.take(&batch, now))
    }

    /// A shard executes what waited, and asks; true if the core that orders should look.
    pub(super) fn shard_turn(&mut self, shard: u16, now: Now) -> bool {
        let seat = self.seat(shard);
        seat.replica.turn(now);
        seat.asked
            .extend(std::iter::from_fn(|| seat.replica.poll_request(now)));
        true
    }

    pub(super) fn shard_tick(&mut self, shard: u16, now: Now) {
        self.seat(shard).replica.tick(now);
    }

    pub(super) fn accept(&mut self, shard: u16, peer: ClientAddress, now: Now) -> ConnId {
        match self {
            Machine::Inline(inline) => inline.shard.accept(peer, now),
            Machine::Sharded(..) => self.seat(shard).replica.accept(peer, now),
        }
    }

    pub(super) fn receive(&mut self, shard: u16, conn: ConnId, bytes: &[u8], now: Now) {
        match self {
            Machine::Inline(inline) => inline.shard.receive(&inline.member.tree, conn, bytes, now),
            Machine::Sharded(..) => self.seat(shard).replica.receive(conn, bytes, now),
        }
    }

    pub(super) fn closed(&mut self, shard: u16, conn: ConnId, now: Now) {
        match self {
            Machine::Inline(inline) => inline.shard.closed(conn, now),
            Machine::Sharded(..) => self.seat(shard).replica.closed(conn, now),
        }
    }

    /// What a shard has for a connection.
    pub(super) fn poll_output(&mut self, shard: u16, now: Now) -> Option<(ConnId, Output)> {
        match self {
            Machine::Inline(inline) => {
                let conn = inline.shard.poll_dirty()?;
                let output = inline.shard.take_output(&inline.member.tree, conn, now);
                Some((conn, output))
            }
            Machine::Sharded(..) => {
                let replica = &mut self.seat(shard).replica;
                let conn = replica.poll_dirty()?;
                Some((conn, replica.take_output(conn, now)))
            }
        }
    }

    pub(super) fn poll_catch_up(&mut self) -> Option<CatchUp> {
        match self {
            Machine::Inline(_) => None,
            Machine::Sharded(core, _) => core.poll_catch_up(),
        }
    }

    pub(super) fn caught_up(&mut self, order: CatchUp, log: Vec<Arc<Entry>>) {
        if let Machine::Sharded(core, _) = self {
            core.caught_up(order, log);
        }
    }

    pub(super) fn snapshot_made(
        &mut self,
        made: Option<&Written>,
        unneeded: Option<Zxid>,
    ) -> Vec<String> {
        match self {
            Machine::Inline(inline) => inline.member.snapshot_made(made, unneeded),
            Machine::Sharded(core, _) => core.snapshot_made(made, unneeded),
        }
    }

    pub(super) fn feed_counters(&self) -> Vec<FeedCounters> {
        match self {
            Machine::Inline(_) => Vec::new(),
            Machine::Sharded(core, _) => core.shards().map(|(_, feed)| feed).collect(),
        }
    }

    /// Writes without an outcome, by what the shards hold credits for.
    pub(super) fn in_flight(&self) -> usize {
        match self {
            Machine::Inline(inline) => inline.shard.stats().in_flight,
            Machine::Sharded(_, seats) => {
                let held = seats
                    .iter()
                    .map(|seat| seat.replica.shard().stats().in_flight);
                held.sum()
            }
        }
    }

    /// Nothing is under way: every replica is where the core is, byte for byte.
    pub(super) fn replicas_are_equal(&self) -> Result<(), String> {
        let Machine::Sharded(core, seats) = self else {
            return Ok(());
        };
        let due = (
            core.member.tree.last_zxid(),
            snapshot::root(&core.member.tree),
        );
        for (n, seat) in seats.iter().enumerate() {
            let tree = seat.replica.tree();
            if (tree.last_zxid(), snapshot::root(tree)) != due {
                let zxid = tree.last_zxid();
                return Err(format!("shard {n} ended at {zxid}, the core at {}", due.0));
            }
        }
        match core.all_attached() {
            true => Ok(()),
            false => Err("a shard stayed detached".into()),
        }
    }

    pub(super) fn close(self) -> std::io::Result<()> {
        match self {
            Machine::Inline(inline) => inline.member.close(),
            Machine::Sharded(core, _) => core.member.close(),
        }
    }
}
