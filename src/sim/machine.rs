//! A member in either placement, made of the cores that the server has: what the host drives.

use super::disk::SimStorage;
use crate::log::Identities;
use crate::member::{Member, MemberConfig, StartError, Summary};
use crate::placement::{
    Budgets, Drain, DrainFacts, DrainStep, FeedCounters, Inline, Orderer, OrderingCore,
    OrderingDrain, Progress, Replica, ReplicaPort, RingLimits, Served, ServingCore, ShardDrain,
    SyncPolicy, SyncStep, Syncs, rings,
};
use crate::shard::ShardConfig;
use crate::snapshot::{self, Rebuilding};
use crate::tree::Tree;
use crate::txn::Entry;
use crate::types::{Now, ShardId};
use std::sync::Arc;

/// A drain that nothing disturbs needs less for each of its stages, ms.
pub(super) const PATIENCE_ENOUGH_MS: u64 = 5_000;

pub(super) struct MachineConfig {
    pub(super) member: MemberConfig,
    pub(super) shard: ShardConfig,
    pub(super) shards: u16,
    pub(super) limits: RingLimits,
    pub(super) budgets: Budgets,
    /// Slots of each ring: batches down, requests up.
    pub(super) slots: (usize, usize),
    /// How long a closing connection may take for its last bytes, ms.
    pub(super) closing_ms: u64,
    pub(super) policy: SyncPolicy,
    /// How long a stage of the drain may take, ms.
    pub(super) patience_ms: u64,
}

/// The cores of one process.
pub(super) struct Machine {
    /// `None`: the one core that serves orders too.
    pub(super) ordering: Option<OrderingCore<SimStorage>>,
    pub(super) serving: Vec<ServingCore<SimStorage>>,
    pub(super) syncs: Syncs,
    pub(super) drain: Drain,
    pub(super) ordering_drain: OrderingDrain,
    pub(super) shard_drains: Vec<ShardDrain>,
    /// A drain that nothing disturbs does not run out of patience.
    pub(super) is_patient: bool,
    /// What start-up found.
    pub(super) summary: Summary,
}

impl Machine {
    /// Of a process that began at `began`, and serves from `now` on.
    pub(super) fn start(
        config: MachineConfig,
        data: &SimStorage,
        log: &SimStorage,
        identities: Identities,
        (began, now): (Now, Now),
        observe: &mut dyn FnMut(&Entry),
    ) -> Result<Machine, StartError> {
        let (mut member, summary) = Member::start(
            config.member.clone(),
            data,
            log,
            identities,
            began,
            &mut Rebuilding::new(observe),
        )?;
        member.pipeline.begin_serving(now);
        let serving = |served| ServingCore::new(served, config.budgets, config.closing_ms, now);
        let machine = |ordering: Option<OrderingCore<SimStorage>>, serving: Vec<_>| Machine {
            syncs: Syncs::new(config.policy, ordering.is_none()),
            drain: Drain::new(config.shards),
            ordering_drain: OrderingDrain::new(config.patience_ms),
            is_patient: config.patience_ms >= PATIENCE_ENOUGH_MS,
            shard_drains: serving.iter().map(|_| ShardDrain::default()).collect(),
            ordering,
            serving,
            summary,
        };
        if config.shards == 0 {
            let inline = Inline::new(member, config.shard);
            let serving = vec![serving(Served::Inline(Box::new(inline)))];
            return Ok(machine(None, serving));
        }
        let progress = Progress::new(usize::from(config.shards), member.tree.last_zxid());
        let progress = Arc::new(progress);
        let (mut ends, mut cores) = (Vec::new(), Vec::new());
        for n in 0..config.shards {
            let (end, rings) = rings(config.slots.0, config.slots.1);
            ends.push(end);
            let shard = ShardConfig {
                id: ShardId(n),
                ..config.shard.clone()
            };
            let replica = Replica::new(shard, member.tree.clone(), progress.clone());
            let port = ReplicaPort::new(replica, rings);
            cores.push(serving(Served::Replica(Box::new(port))));
        }
        let orderer = Orderer::new(member, config.limits, progress, config.shards);
        let ordering = OrderingCore::new(orderer, ends, config.budgets);
        Ok(machine(Some(ordering), cores))
    }

    pub(super) fn member(&self) -> &Member<SimStorage> {
        match (&self.ordering, &self.serving[0].served) {
            (Some(ordering), _) => &ordering.orderer.member,
            (None, Served::Inline(inline)) => &inline.member,
            (None, Served::Replica(_)) => unreachable!("somebody orders"),
        }
    }

    pub(super) fn member_mut(&mut self) -> &mut Member<SimStorage> {
        match (&mut self.ordering, &mut self.serving[0].served) {
            (Some(ordering), _) => &mut ordering.orderer.member,
            (None, Served::Inline(inline)) => &mut inline.member,
            (None, Served::Replica(_)) => unreachable!("somebody orders"),
        }
    }

    /// The tree that transactions are validated against.
    pub(super) fn tree(&self) -> &Tree {
        &self.member().tree
    }

    pub(super) fn feed_counters(&self) -> Vec<FeedCounters> {
        let ordering = self.ordering.iter();
        let shards = ordering.flat_map(|core| core.orderer.shards());
        shards.map(|(_, feed)| feed).collect()
    }

    /// Writes without an outcome, by what the shards hold credits for.
    pub(super) fn in_flight(&self) -> usize {
        let shards = self.serving.iter().map(|core| core.served.shard());
        shards.map(|shard| shard.stats().in_flight).sum()
    }

    /// Nothing is under way: every replica is where the ordering core is, byte for byte.
    pub(super) fn replicas_are_equal(&self) -> Result<(), String> {
        let Some(ordering) = &self.ordering else {
            return Ok(());
        };
        let tree = self.tree();
        let due = (tree.last_zxid(), snapshot::root(tree));
        for (n, core) in self.serving.iter().enumerate() {
            let tree = core.served.tree();
            if (tree.last_zxid(), snapshot::root(tree)) != due {
                let zxid = tree.last_zxid();
                return Err(format!("shard {n} ended at {zxid}, the core at {}", due.0));
            }
        }
        match ordering.orderer.all_attached() {
            true => Ok(()),
            false => Err("a shard stayed detached".into()),
        }
    }

    /// Begins a sync if one is due and may begin; `input_waits`: the core has more to do at once.
    pub(super) fn begin_sync(&mut self, input_waits: bool, now: Now) -> SyncStep<SimStorage> {
        if !self.ordering_drain.may_sync() {
            return SyncStep::Nothing;
        }
        // A core that serves nobody has no input of clients.
        let input_waits = input_waits && self.ordering.is_none();
        let member = match (&mut self.ordering, &mut self.serving[0].served) {
            (Some(ordering), _) => &mut ordering.orderer.member,
            (None, Served::Inline(inline)) => &mut inline.member,
            (None, Served::Replica(_)) => unreachable!("somebody orders"),
        };
        self.syncs.begin(member, input_waits, now)
    }

    /// The step of the drain behind a turn of the core that orders.
    pub(super) fn drain_step(&mut self, again: bool, asked: bool, now: Now) -> DrainStep {
        let syncing = self.syncs.is_syncing();
        let facts = match &self.ordering {
            Some(ordering) => DrainFacts::ordering(ordering, again, syncing, asked),
            None => DrainFacts::inline(&self.serving[0], again, syncing, asked),
        };
        let step = self.ordering_drain.after_turn(&self.drain, facts, now.tick);
        if step == (DrainStep::Next { input_ends: true }) {
            match &mut self.ordering {
                Some(ordering) => ordering.stop(),
                None => self.serving[0].stop(),
            }
        }
        step
    }

    /// The drain has ended: what every stage waited for is there, unless one ran out of patience.
    pub(super) fn is_drained(&self) -> Result<(), String> {
        if self.ordering_drain.overdue() > 0 {
            return Ok(());
        }
        self.replicas_are_equal()?;
        // The shards hold no credits for handshakes.
        match self.in_flight().max(self.member().pipeline.outstanding()) {
            0 => Ok(()),
            n => Err(format!("{n} requests were taken and have no outcome")),
        }
    }

    pub(super) fn close(self) -> std::io::Result<()> {
        let Machine {
            ordering,
            mut serving,
            ..
        } = self;
        match (ordering, serving.remove(0).served) {
            (Some(ordering), _) => ordering.orderer.member.close(),
            (None, Served::Inline(inline)) => inline.member.close(),
            (None, Served::Replica(_)) => unreachable!("somebody orders"),
        }
    }
}
