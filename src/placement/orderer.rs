//! The ordering core and its feeds to the replicas.

use super::abreast::Abreast;
use super::feed::{Batch, FeedCounters, ReplicaFeed, RingLimits};
use super::progress::Progress;
use crate::budget::Budget;
use crate::log::storage::Storage;
use crate::member::{CatchUp, Done, Job, JobNews, LogRead, Member};
use crate::messages::{ShardRequest, ToShards};
use crate::pipeline::Fatal;
use crate::types::{Now, ShardId, Zxid};
use std::sync::Arc;

/// The ordering core's state: the member, and one feed for each replica. Each turn makes one batch of
/// what it has applied, and gives it to every replica that is not too far behind.
pub struct Orderer<S: Storage> {
    /// Order, log, the tree that transactions are validated against.
    pub member: Member<S>,
    feeds: Vec<ReplicaFeed>,
    /// How each replica keeps up.
    abreast: Vec<Abreast>,
    catch_up_bytes: u64,
    progress: Arc<Progress>,
    /// One catch-up at a time.
    catching_up: bool,
}

impl<S: Storage> Orderer<S> {
    /// Around what start-up has recovered, for replicas that begin there too.
    pub fn new(
        member: Member<S>,
        limits: RingLimits,
        progress: Arc<Progress>,
        shards: u16,
    ) -> Orderer<S> {
        let zxid = member.tree.last_zxid();
        let feed = |n| ReplicaFeed::new(ShardId(n), limits, zxid);
        Orderer {
            feeds: (0..shards).map(feed).collect(),
            abreast: (0..shards).map(|_| Abreast::default()).collect(),
            catch_up_bytes: limits.catch_up_bytes,
            member,
            progress,
            catching_up: false,
        }
    }

    /// Applies what is committed, within `budget`, and puts it, with the notices between, into one batch
    /// for every replica. `observe` sees each of them, a transaction after the tree has applied it.
    ///
    /// # Errors
    /// [`Fatal`]: the process must stop at once; no output may leave any more.
    pub fn turn(
        &mut self,
        budget: &mut Budget,
        now: Now,
        observe: &mut impl FnMut(&ToShards),
    ) -> Result<(), Fatal> {
        let before = self.member.tree.last_zxid();
        let mut entries = Vec::new();
        let mut keep = |down| {
            observe(&down);
            entries.push(down);
        };
        while (self.member)
            .tell(budget, now, |_, down, _| keep(down))?
            .is_some()
        {}
        if entries.is_empty() {
            return Ok(());
        }
        self.progress.raise_committed(self.member.tree.last_zxid());
        let batch = Batch::new(entries);
        for (shard, feed) in (0..).map(ShardId).zip(&mut self.feeds) {
            feed.offer(&batch, before, self.progress.taken(shard));
            feed.log_has_grown(self.member.pipeline.log().counters().bytes);
        }
        Ok(())
    }

    /// Whether nothing more is to be ordered for now, because a replica is behind (`abreast`). While that is
    /// so, each replica that has taken a batch wakes this core.
    pub(super) fn waits_for_a_replica(&mut self, now: Now) -> bool {
        let mut waits = false;
        for ((shard, feed), abreast) in (0..).map(ShardId).zip(&self.feeds).zip(&mut self.abreast) {
            waits |= abreast.waits(feed.is_behind(self.progress.taken(shard)), now.micros);
        }
        self.progress.await_replicas(waits);
        waits
    }

    /// Whether what was kept for replicas that were detached is given back.
    pub fn has_given_back(&self) -> bool {
        self.feeds.iter().all(ReplicaFeed::has_given_back)
    }

    /// Whether no replica is behind.
    pub(super) fn is_abreast(&self) -> bool {
        let mut feeds = (0..).map(ShardId).zip(&self.feeds);
        feeds.all(|(shard, feed)| !feed.is_behind(self.progress.taken(shard)))
    }

    /// Takes what a replica asks for.
    ///
    /// # Errors
    /// As [`Orderer::turn`].
    pub fn request(
        &mut self,
        up: ShardRequest,
        budget: &mut Budget,
        now: Now,
    ) -> Result<(), Fatal> {
        self.member.request(up, budget, now)
    }

    /// The next batch for a replica: all of them must be handed over, in order.
    pub fn poll_batch(&mut self, shard: ShardId) -> Option<Arc<Batch>> {
        self.feeds[usize::from(shard.0)].poll()
    }

    /// Whether [`Orderer::poll_batch`] has one.
    pub fn has_batch(&self, shard: ShardId) -> bool {
        self.feeds[usize::from(shard.0)].has_batch()
    }

    /// A part of the log that a detached replica needs, one at a time.
    fn poll_catch_up(&mut self) -> Option<CatchUp> {
        if self.catching_up {
            return None;
        }
        let upto = self.member.tree.last_zxid();
        for (shard, feed) in (0..).map(ShardId).zip(&mut self.feeds) {
            if let Some((after, upto)) = feed.begin_catch_up(upto, self.progress.taken(shard)) {
                self.catching_up = true;
                return Some(CatchUp {
                    shard,
                    after,
                    upto,
                    durable: self.member.pipeline.log().durable(),
                    bytes_max: self.catch_up_bytes,
                });
            }
        }
        None
    }

    /// It was read, from its beginning, and may end early; or there was no room to read it, and the
    /// replica stays detached, so that it is asked for again.
    fn log_read(&mut self, read: LogRead) -> Result<(), Fatal> {
        self.catching_up = false;
        let (is_short, is_gone) = (read.shortage().is_some(), read.is_gone());
        let LogRead { order, entries } = read;
        let CatchUp { shard, after, .. } = order;
        let feed = &mut self.feeds[usize::from(shard.0)];
        match entries {
            Ok(log) => feed.caught_up(log),
            Err(_) if is_short => feed.not_caught_up(),
            Err(_) if is_gone => return Err(Fatal::Forgotten { shard, after }),
            Err(e) => {
                let text = format!("shard {shard} reads the log behind {after}: {e}");
                return Err(Fatal::Shard(text));
            }
        }
        Ok(())
    }

    /// What a detached replica has: it needs the log behind that. Nothing is kept for one that has stayed
    /// away for too long.
    fn needed_after(&self) -> Option<Zxid> {
        let bytes = self.member.pipeline.log().counters().bytes;
        let detached = self.feeds.iter().filter(|feed| feed.keeps_log(bytes));
        detached.map(ReplicaFeed::given_to).min()
    }

    /// As [`Member::poll_job`], and what detached replicas need.
    pub fn poll_job(&mut self) -> Option<Job> {
        self.member.poll_job().or_else(|| self.poll_read())
    }

    fn poll_read(&mut self) -> Option<Job> {
        let may_read = self.member.may_read();
        let order = if may_read { self.poll_catch_up() } else { None }?;
        Some(self.member.begin_read(order))
    }

    /// As [`Member::job_done`]; the log behind what a detached replica has is kept.
    ///
    /// # Errors
    /// As [`Orderer::turn`].
    pub fn job_done(&mut self, done: Done<S>) -> Result<JobNews, Fatal> {
        self.member.keep_log_after(self.needed_after());
        match self.member.job_done(done)? {
            JobNews::LogRead(read) => {
                let news = self.member.log_read(&read);
                self.log_read(read)?;
                Ok(news)
            }
            news => Ok(news),
        }
    }

    /// What each replica has applied, and how often it was detached and came back.
    pub fn shards(&self) -> impl Iterator<Item = (Zxid, FeedCounters)> + '_ {
        let shards = (0..).map(ShardId).zip(&self.feeds);
        shards.map(|(shard, feed)| (self.progress.seen(shard), feed.counters()))
    }

    /// Whether every replica gets what is committed as it comes.
    pub fn all_attached(&self) -> bool {
        self.feeds.iter().all(ReplicaFeed::is_attached)
    }
}
