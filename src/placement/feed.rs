//! The ordering core's end of what goes down to one replica.
//!
//! | State | Entered when | What a new batch does |
//! |---|---|---|
//! | attached | at the start; the log in between was given | goes out, if the replica has taken enough; or detaches |
//! | detached | the replica has too much before it; the tail got too long; a part of the log was given | only what is for this replica alone is kept |
//! | catching up | a detached replica has taken all that it has; the log up to `upto` was asked for | is kept as the tail, and what is for this replica alone too, in case the tail is dropped |
//!
//! The log behind what a detached replica has is kept for it, up to a limit that counts from the moment at
//! which it was detached: a replica that is held still must not fill the disk. From then on snapshots decide
//! alone how far the log reaches back. Nothing that was acknowledged is lost by that, and whoever is
//! served by other replicas does not notice; if the replica wakes and finds what it missed gone, the process
//! ends, because its clients wait for outcomes that only the log knew.
//!
//! What the log does not tell (which connection a transaction answers, notices) is bounded by the
//! replica's credits, its connections and its sessions. Memory is bounded by the limits, twice: once
//! for what the replica has before it, once for the tail.

use super::progress::Taken;
use crate::constants::DETACHED_LOG_BYTES;
use crate::messages::{Committed, Notice, Origin, Stamps, ToShards};
use crate::txn::{Entry, Txn};
use crate::types::{Generation, ShardId, Zxid};
use std::collections::VecDeque;
use std::sync::Arc;

/// How far a replica may fall behind before it is detached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingLimits {
    /// Transactions and notices.
    pub entries: u64,
    /// Their bytes in memory, roughly.
    pub bytes: u64,
    /// With more bytes before it a replica is waited for (`abreast`).
    pub abreast_bytes: u64,
    /// Bytes of the log that are read at once for a replica that was detached.
    pub catch_up_bytes: u64,
    /// Bytes that may be appended to the log from the moment at which a replica is detached, until what it has
    /// not taken is not kept for it any more.
    pub log_bytes: u64,
}

impl RingLimits {
    /// Of the server.
    pub const DEFAULT: RingLimits = RingLimits {
        entries: 65_536,
        bytes: 16 << 20,
        abreast_bytes: 1 << 20,
        catch_up_bytes: 8 << 20,
        log_bytes: DETACHED_LOG_BYTES,
    };

    /// Batches that a replica can have before it at once, so the slots that its ring needs: each
    /// holds one entry at least, or is the only one; behind a run of the log comes a tail of as
    /// many.
    pub const fn slots(&self) -> usize {
        let batches = if self.entries == 0 { 1 } else { self.entries };
        batches as usize + 1
    }
}

const _: () = assert!(RingLimits::DEFAULT.slots() > RingLimits::DEFAULT.entries as usize);
const _: () = assert!(RingLimits::DEFAULT.abreast_bytes < RingLimits::DEFAULT.bytes);
const _: () = assert!(RingLimits::DEFAULT.catch_up_bytes <= RingLimits::DEFAULT.bytes);

/// What the ordering core said in one turn, shared by all replicas.
#[derive(Debug)]
pub struct Batch {
    /// In order; notices also of other shards.
    pub entries: Vec<ToShards>,
    /// Rough size in memory.
    pub bytes: u64,
}

impl Batch {
    pub(super) fn new(entries: Vec<ToShards>) -> Arc<Batch> {
        let bytes = entries.iter().map(weight).sum();
        Arc::new(Batch { entries, bytes })
    }
}

/// Of an entry in memory, bytes; what it holds on the heap is rounded up.
fn weight(down: &ToShards) -> u64 {
    const FIXED: u64 = 320;
    match down {
        ToShards::Txn(txn) => FIXED + heap(&txn.entry.txn),
        ToShards::Notice(..) => FIXED,
    }
}

fn heap(txn: &Txn) -> u64 {
    let data = |data: &Option<Arc<[u8]>>| data.as_ref().map_or(0, |data| data.len() as u64 + 16);
    match txn {
        Txn::Create(create) => create.path.len() as u64 + data(&create.data),
        Txn::SetData {
            path, data: new, ..
        } => path.len() as u64 + data(new),
        Txn::CloseSession { paths } => {
            let lengths = paths.iter().flatten().map(|path| path.len() as u64 + 32);
            lengths.sum()
        }
        Txn::Multi(parts) => parts.iter().map(|(_, part)| 64 + heap(part)).sum(),
        _ => 64,
    }
}

/// What the log does not tell a replica that catches up.
#[derive(Debug)]
enum Private {
    Outcome {
        zxid: Zxid,
        origin: Origin,
        generation: Generation,
        stamps: Stamps,
    },
    Notice {
        after: Zxid,
        notice: Notice,
    },
}

impl Private {
    fn place(&self) -> Zxid {
        match self {
            Private::Outcome { zxid, .. } => *zxid,
            Private::Notice { after, .. } => *after,
        }
    }
}

/// What came while the log is read.
#[derive(Debug, Default)]
struct Tail {
    batches: Vec<Arc<Batch>>,
    size: Taken,
}

#[derive(Debug)]
enum State {
    Attached,
    Detached,
    CatchingUp {
        upto: Zxid,
        /// How many of `private` came before the tail began.
        before_tail: usize,
        /// `None`: it got too long, and will be read from the log.
        tail: Option<Tail>,
    },
}

/// For `mntr` and tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FeedCounters {
    /// Times that the replica was too far behind.
    pub detached: u64,
    /// Times that it was where the others are again.
    pub rejoined: u64,
}

/// What is given to one replica, and what is kept for it while it is detached.
#[derive(Debug)]
pub(super) struct ReplicaFeed {
    shard: ShardId,
    limits: RingLimits,
    state: State,
    /// Ready to be handed over.
    out: VecDeque<Arc<Batch>>,
    /// Since the start.
    given: Taken,
    /// The last transaction given.
    given_to: Zxid,
    private: VecDeque<Private>,
    /// How long the log was, bytes since the start, when the replica was detached; `None`: it is not.
    detached_at: Option<u64>,
    counters: FeedCounters,
}

impl ReplicaFeed {
    /// To a replica that has reached `zxid`.
    pub(super) fn new(shard: ShardId, limits: RingLimits, zxid: Zxid) -> ReplicaFeed {
        ReplicaFeed {
            shard,
            limits,
            state: State::Attached,
            out: VecDeque::new(),
            given: Taken::default(),
            given_to: zxid,
            private: VecDeque::new(),
            detached_at: None,
            counters: FeedCounters::default(),
        }
    }

    pub(super) fn counters(&self) -> FeedCounters {
        self.counters
    }

    pub(super) fn is_attached(&self) -> bool {
        matches!(self.state, State::Attached)
    }

    /// Whether nothing is kept for it that is kept for a replica that is detached alone.
    pub(super) fn has_given_back(&self) -> bool {
        !self.is_attached() || self.private.is_empty() && self.detached_at.is_none()
    }

    /// Whether it is given what is committed as it comes, and has more before it than it should have.
    pub(super) fn is_behind(&self, taken: Taken) -> bool {
        self.is_attached() && self.given.bytes - taken.bytes > self.limits.abreast_bytes
    }

    /// The log is needed behind this.
    pub(super) fn given_to(&self) -> Zxid {
        self.given_to
    }

    /// What was offered so far is in the log, which has grown to so many bytes since the start.
    pub(super) fn log_has_grown(&mut self, bytes: u64) {
        if !self.is_attached() {
            self.detached_at.get_or_insert(bytes);
        }
    }

    /// Whether the log behind what the replica was given is kept, the log having so many bytes.
    pub(super) fn keeps_log(&self, bytes: u64) -> bool {
        self.detached_at
            .is_some_and(|at| bytes - at <= self.limits.log_bytes)
    }

    /// A batch for every replica; `before` is the last transaction before it. `taken`: what this
    /// replica has taken since the start.
    pub(super) fn offer(&mut self, batch: &Arc<Batch>, before: Zxid, taken: Taken) {
        let n = batch.entries.len() as u64;
        match &mut self.state {
            State::Attached => {
                let entries = self.given.entries - taken.entries + n;
                let bytes = self.given.bytes - taken.bytes + batch.bytes;
                // A replica that has nothing before it takes a batch of any size.
                let fits = entries <= self.limits.entries && bytes <= self.limits.bytes;
                if fits || self.given.entries == taken.entries {
                    self.give(batch.clone());
                } else {
                    self.state = State::Detached;
                    self.counters.detached += 1;
                    self.keep_private(batch, before);
                }
            }
            State::Detached => self.keep_private(batch, before),
            State::CatchingUp { tail, .. } => {
                let RingLimits { entries, bytes, .. } = self.limits;
                *tail = tail.take().and_then(|mut tail| {
                    tail.size.entries += n;
                    tail.size.bytes += batch.bytes;
                    tail.batches.push(batch.clone());
                    let fits = tail.size.entries <= entries && tail.size.bytes <= bytes;
                    fits.then_some(tail)
                });
                self.keep_private(batch, before);
            }
        }
    }

    /// The next batch for the replica.
    pub(super) fn poll(&mut self) -> Option<Arc<Batch>> {
        self.out.pop_front()
    }

    pub(super) fn has_batch(&self) -> bool {
        !self.out.is_empty()
    }

    /// Whether the log should be read for this replica now: it is detached, and has taken
    /// everything that it was given. Everything up to `upto` was offered.
    pub(super) fn begin_catch_up(&mut self, upto: Zxid, taken: Taken) -> Option<(Zxid, Zxid)> {
        if !matches!(self.state, State::Detached) || taken.entries != self.given.entries {
            return None;
        }
        self.state = State::CatchingUp {
            upto,
            before_tail: self.private.len(),
            tail: Some(Tail::default()),
        };
        Some((self.given_to, upto))
    }

    /// The log could not be read now: what is only for this replica is kept, the tail is not.
    pub(super) fn not_caught_up(&mut self) {
        self.state = State::Detached;
    }

    /// A run of the log, from where the replica is; it may end before what was asked for.
    pub(super) fn caught_up(&mut self, log: Vec<Arc<Entry>>) {
        let State::CatchingUp {
            upto,
            before_tail,
            tail,
        } = std::mem::replace(&mut self.state, State::Detached)
        else {
            panic!("a run of the log that nobody asked for");
        };
        let reached = log.last().map_or(self.given_to, |e| e.header.zxid);
        let tail = tail.filter(|_| reached == upto);
        let known = match tail {
            Some(_) => before_tail,
            None => self.private.len(),
        };
        let batch = self.with_private(log, known, tail.is_some());
        if !batch.is_empty() {
            self.give(Batch::new(batch));
        }
        if let Some(tail) = tail {
            self.detached_at = None;
            self.private.clear();
            self.state = State::Attached;
            self.counters.rejoined += 1;
            for batch in tail.batches {
                self.give(batch);
            }
        }
    }

    /// The run of the log with the first `known` entries of what is for this replica alone, each in
    /// its place. What comes behind the last transaction of a run that is not the last one may be
    /// incomplete, and waits for the next.
    fn with_private(&mut self, log: Vec<Arc<Entry>>, known: usize, whole: bool) -> Vec<ToShards> {
        let later = self.private.split_off(known);
        let mut batch = Vec::with_capacity(log.len() + known);
        self.notices_after(self.given_to, &mut batch);
        let last = log.len();
        for (nth, entry) in (1..).zip(log) {
            let zxid = entry.header.zxid;
            let mut txn = Committed {
                origin: None,
                entry,
                generation: Generation(0),
                stamps: Stamps::default(),
            };
            if let Some(&Private::Outcome {
                zxid: its,
                origin,
                generation,
                stamps,
            }) = self.private.front()
                && its == zxid
            {
                (txn.origin, txn.generation, txn.stamps) = (Some(origin), generation, stamps);
                self.private.pop_front();
            }
            batch.push(ToShards::Txn(txn));
            if nth < last || whole {
                self.notices_after(zxid, &mut batch);
            }
        }
        assert!(self.private.is_empty() || !whole, "all of it has a place");
        self.private.extend(later);
        batch
    }

    fn notices_after(&mut self, zxid: Zxid, batch: &mut Vec<ToShards>) {
        while let Some(Private::Notice { after, .. }) = self.private.front()
            && *after <= zxid
            && let Some(Private::Notice { notice, .. }) = self.private.pop_front()
        {
            batch.push(ToShards::Notice(self.shard, notice));
        }
    }

    fn give(&mut self, batch: Arc<Batch>) {
        self.given.entries += batch.entries.len() as u64;
        self.given.bytes += batch.bytes;
        let last = batch.entries.iter().rev().find_map(|down| match down {
            ToShards::Txn(txn) => Some(txn.entry.header.zxid),
            ToShards::Notice(..) => None,
        });
        self.given_to = last.unwrap_or(self.given_to);
        self.out.push_back(batch);
    }

    fn keep_private(&mut self, batch: &Batch, mut before: Zxid) {
        for down in &batch.entries {
            match down {
                ToShards::Txn(txn) => {
                    before = txn.entry.header.zxid;
                    if let Some(origin) = txn.origin.filter(|o| o.shard == self.shard) {
                        self.private.push_back(Private::Outcome {
                            zxid: before,
                            origin,
                            generation: txn.generation,
                            stamps: txn.stamps,
                        });
                    }
                }
                ToShards::Notice(shard, notice) if *shard == self.shard => {
                    self.private.push_back(Private::Notice {
                        after: before,
                        notice: notice.clone(),
                    });
                }
                ToShards::Notice(..) => {}
            }
        }
        debug_assert!(self.private.iter().is_sorted_by_key(Private::place));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::txn::TxnHeader;
    use crate::types::{ConnId, ErrorCode, OpCode, SessionId, WallMs};

    const SHARD: ShardId = ShardId(1);
    const LIMITS: RingLimits = RingLimits {
        entries: 4,
        bytes: 1 << 20,
        abreast_bytes: 1 << 20,
        catch_up_bytes: 1 << 20,
        log_bytes: 1000,
    };

    fn entry(zxid: i64) -> Arc<Entry> {
        let header = TxnHeader {
            session: SessionId(7),
            cxid: 0,
            zxid: Zxid(zxid),
            time: WallMs(0),
            op: OpCode::ERROR,
        };
        let code = ErrorCode::NO_NODE;
        Arc::new(Entry {
            header,
            txn: Txn::Error { code },
            digest: None,
        })
    }

    fn taken(entries: u64) -> Taken {
        Taken { entries, bytes: 0 }
    }

    fn conn(slot: u32) -> ConnId {
        ConnId {
            slot,
            generation: 0,
        }
    }

    /// A transaction, answered by this shard if it has an odd zxid.
    fn txn(zxid: i64) -> ToShards {
        let origin = Origin {
            shard: SHARD,
            conn: conn(0),
            sequence: zxid as u64,
        };
        ToShards::Txn(Committed {
            origin: (zxid % 2 == 1).then_some(origin),
            entry: entry(zxid),
            generation: Generation(0),
            stamps: Stamps::default(),
        })
    }

    fn close(slot: u32) -> ToShards {
        ToShards::Notice(SHARD, Notice::Close(conn(slot)))
    }

    /// What a replica is given, one word for each entry; `!` marks an outcome of its own.
    fn words(feed: &mut ReplicaFeed) -> Vec<String> {
        let mut words = Vec::new();
        while let Some(batch) = feed.poll() {
            words.extend(batch.entries.iter().map(|down| match down {
                ToShards::Txn(txn) => {
                    let mark = if txn.origin.is_some() { "!" } else { "" };
                    format!("{}{mark}", txn.entry.header.zxid.0)
                }
                ToShards::Notice(_, Notice::Close(conn)) => format!("close {}", conn.slot),
                ToShards::Notice(..) => "?".to_owned(),
            }));
        }
        words
    }

    fn log(range: std::ops::RangeInclusive<i64>) -> Vec<Arc<Entry>> {
        range.map(entry).collect()
    }

    /// Behind by 4 entries, then detached: 5 to 7, with notices around them.
    fn detached() -> ReplicaFeed {
        let mut feed = ReplicaFeed::new(SHARD, LIMITS, Zxid(0));
        for zxid in 1..=4 {
            feed.offer(&Batch::new(vec![txn(zxid)]), Zxid(zxid - 1), taken(0));
        }
        let batch = vec![close(1), txn(5), close(2), txn(6), txn(7), close(3)];
        feed.offer(&Batch::new(batch), Zxid(4), taken(0));
        assert!(!feed.is_attached());
        assert_eq!(words(&mut feed), ["1!", "2", "3!", "4"]);
        feed
    }

    #[test]
    fn nothing_is_read_before_everything_given_is_taken() {
        let mut feed = detached();
        assert_eq!(feed.begin_catch_up(Zxid(7), taken(3)), None);
        let asked = feed.begin_catch_up(Zxid(7), taken(4));
        assert_eq!(asked, Some((Zxid(4), Zxid(7))));
        assert_eq!(feed.begin_catch_up(Zxid(7), taken(4)), None, "once");
    }

    #[test]
    fn the_log_what_is_private_and_the_tail_come_in_order_and_once() {
        let mut feed = detached();
        feed.begin_catch_up(Zxid(7), taken(4)).unwrap();
        feed.offer(
            &Batch::new(vec![close(4), txn(8), txn(9)]),
            Zxid(7),
            taken(4),
        );
        feed.caught_up(log(5..=7));
        assert!(feed.is_attached());
        let expected = [
            "close 1", "5!", "close 2", "6", "7!", "close 3", "close 4", "8", "9!",
        ];
        assert_eq!(words(&mut feed), expected);
        assert!(feed.private.is_empty());
    }

    #[test]
    fn a_part_of_the_log_leaves_it_detached_and_the_rest_comes_later() {
        let mut feed = detached();
        feed.begin_catch_up(Zxid(7), taken(4)).unwrap();
        feed.caught_up(log(5..=5));
        assert!(!feed.is_attached());
        assert_eq!(words(&mut feed), ["close 1", "5!"]);
        assert_eq!(
            feed.begin_catch_up(Zxid(7), taken(6)),
            Some((Zxid(5), Zxid(7)))
        );
        feed.caught_up(log(6..=7));
        assert_eq!(words(&mut feed), ["close 2", "6", "7!", "close 3"]);
        assert!(feed.is_attached());
    }

    #[test]
    fn a_log_that_can_not_be_read_now_leaves_it_detached_and_nothing_is_lost() {
        let mut feed = detached();
        feed.begin_catch_up(Zxid(7), taken(4)).unwrap();
        feed.offer(
            &Batch::new(vec![close(4), txn(8), txn(9)]),
            Zxid(7),
            taken(4),
        );
        feed.not_caught_up();
        assert!(!feed.is_attached() && words(&mut feed).is_empty());
        assert_eq!(
            feed.begin_catch_up(Zxid(9), taken(4)),
            Some((Zxid(4), Zxid(9)))
        );
        feed.caught_up(log(5..=9));
        let expected = [
            "close 1", "5!", "close 2", "6", "7!", "close 3", "close 4", "8", "9!",
        ];
        assert_eq!(words(&mut feed), expected);
        assert!(feed.is_attached());
    }

    #[test]
    fn a_tail_that_gets_too_long_is_read_from_the_log_too() {
        let mut feed = detached();
        feed.begin_catch_up(Zxid(7), taken(4)).unwrap();
        for zxid in 8..=13 {
            feed.offer(&Batch::new(vec![txn(zxid)]), Zxid(zxid - 1), taken(4));
        }
        feed.caught_up(log(5..=7));
        assert!(!feed.is_attached());
        assert_eq!(words(&mut feed), ["close 1", "5!", "close 2", "6", "7!"]);
        assert_eq!(
            feed.begin_catch_up(Zxid(13), taken(9)),
            Some((Zxid(7), Zxid(13)))
        );
        feed.caught_up(log(8..=13));
        assert_eq!(
            words(&mut feed),
            ["close 3", "8", "9!", "10", "11!", "12", "13!"]
        );
        let counters = FeedCounters {
            detached: 1,
            rejoined: 1,
        };
        assert_eq!(feed.counters(), counters);
    }

    #[test]
    fn the_log_is_kept_for_a_detached_replica_up_to_a_limit_that_begins_anew_when_it_is_back() {
        let mut feed = ReplicaFeed::new(SHARD, LIMITS, Zxid(0));
        feed.log_has_grown(5000);
        assert!(!feed.keeps_log(5000), "it needs none");
        let mut feed = detached();
        for bytes in [5000, 5500, 6000] {
            feed.log_has_grown(bytes);
            assert!(feed.keeps_log(bytes));
        }
        feed.begin_catch_up(Zxid(7), taken(4)).unwrap();
        feed.log_has_grown(6001);
        assert!(
            !feed.keeps_log(6001),
            "it has begun to read, and is not back"
        );
        feed.caught_up(log(5..=7));
        feed.log_has_grown(6002);
        assert!(feed.is_attached() && !feed.keeps_log(6002));
        for zxid in 8..=20 {
            feed.offer(&Batch::new(vec![txn(zxid)]), Zxid(zxid - 1), taken(4));
        }
        feed.log_has_grown(9000);
        assert!(!feed.is_attached() && feed.keeps_log(10_000));
    }

    /// The most batches that a ring of these limits has to hold, with the longest tail behind a run
    /// of the log, and with batches of one entry.
    #[test]
    fn a_ring_has_a_slot_for_every_batch_that_is_not_taken() {
        let slots = LIMITS.slots();
        let mut feed = ReplicaFeed::new(SHARD, LIMITS, Zxid(0));
        for zxid in 1..=20 {
            feed.offer(&Batch::new(vec![txn(zxid)]), Zxid(zxid - 1), taken(0));
        }
        let mut most = std::iter::from_fn(|| feed.poll()).count();
        feed.begin_catch_up(Zxid(20), taken(4)).unwrap();
        for zxid in 21..=24 {
            feed.offer(&Batch::new(vec![txn(zxid)]), Zxid(zxid - 1), taken(4));
        }
        feed.caught_up(log(5..=20));
        assert!(feed.is_attached());
        // One more: the replica has too much before it.
        feed.offer(&Batch::new(vec![txn(25)]), Zxid(24), taken(4));
        assert!(!feed.is_attached());
        most = most.max(std::iter::from_fn(|| feed.poll()).count());
        assert_eq!((most, slots), (5, 5));
    }
}
