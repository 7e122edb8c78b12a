//! The jobs of a member on the simulated disk: what runs beside what, and in which order.

mod ensemble;
mod loss;
mod reaping;

use super::*;
use crate::sim::disk::{Failing, SeamCall, SimStorage};
use crate::snapshot::Rebuilding;
use crate::tree::Rules;
use crate::types::{ConnId, ShardId, Tick, WallMs};
use crate::{messages::Origin, messages::Stamps, types::Generation, types::Xid};
use std::sync::Arc;

const SEGMENT: u64 = 64 << 10;

struct World {
    disk: SimStorage,
    member: Member<SimStorage>,
    now: Now,
    session: crate::types::SessionId,
    sequence: u64,
}

const START: Now = Now {
    tick: Tick(0),
    micros: 0,
    wall: WallMs(1_000_000),
};

fn start_member(
    disk: &SimStorage,
    snapshot_records: u64,
) -> Result<Member<SimStorage>, StartError> {
    let mut identity = disk.effects().into();
    let identities = Box::new(move || {
        identity += 1;
        identity
    });
    let config = MemberConfig {
        pipeline: PipelineConfig::new(Rules {
            extended_types: true,
            ..Rules::default()
        }),
        log: LogConfig {
            segment_bytes: SEGMENT,
        },
        snapshot_records,
        snapshots_kept: Some(1),
        snapshot_memory: 4 << 10,
    };
    let started = Member::start(
        config,
        disk,
        disk,
        identities,
        START,
        &mut Rebuilding::new(|_| {}),
    );
    started.map(|(member, _)| member)
}

impl World {
    /// A session is open; a snapshot is due after every `snapshot_records`, one is kept.
    fn new(snapshot_records: u64) -> World {
        World::over(SimStorage::new(64 << 20), snapshot_records)
    }

    /// The same over what a disk holds.
    fn over(disk: SimStorage, snapshot_records: u64) -> World {
        let now = START;
        let member = start_member(&disk, snapshot_records).unwrap();
        let mut world = World {
            disk,
            member,
            now,
            session: crate::types::SessionId::NONE,
            sequence: 0,
        };
        let origin = world.origin();
        let asked = ShardRequest::NewSession {
            origin,
            timeout_ms: 60_000,
            stamps: Stamps::default(),
        };
        world
            .member
            .request(asked, &mut Budget::UNLIMITED.clone(), now)
            .unwrap();
        world.sync();
        let (session, _) = world.member.tree.sessions().last().unwrap();
        world.session = session;
        world
    }

    /// Runs jobs until a snapshot is the next one, which is not run.
    fn run_until_a_snapshot_is_next(&mut self) -> Job {
        loop {
            match self.member.poll_job().unwrap() {
                job @ Job::Snapshot { .. } => return job,
                job => drop(self.run(job)),
            }
        }
    }

    fn origin(&self) -> Origin {
        Origin {
            shard: ShardId(0),
            conn: ConnId {
                slot: 0,
                generation: 0,
            },
            sequence: self.sequence,
        }
    }

    fn sync(&mut self) {
        while let Some(ticket) = self.member.poll_sync() {
            self.member.synced(ticket.run(), self.now).unwrap();
        }
        let mut budget = Budget::UNLIMITED;
        self.member.advance(&mut budget, self.now).unwrap();
        let mut tell = || self.member.tell(&mut budget, self.now, |_, _, _| ());
        while tell().unwrap().is_some() {}
    }

    /// Writes of 8,000 bytes, until as many segments were begun, or a write waits for a spare or is
    /// refused.
    fn fill_segments(&mut self, rolls: u64) {
        let until = self.member.pipeline.log().counters().rolls + rolls;
        while self.member.pipeline.log().counters().rolls < until
            && self.member.pipeline.waiting() == 0
            && self.member.pipeline.counters().refused == 0
        {
            self.sequence += 1;
            self.write(crate::txn::WriteRequest::SetData {
                path: Some("/zookeeper/quota".into()),
                data: Some(vec![7; 8000].into()),
                version: -1,
            });
        }
    }

    fn write(&mut self, request: crate::txn::WriteRequest) {
        let write = ShardRequest::Write {
            origin: self.origin(),
            session: self.session,
            generation: Generation(1),
            xid: Xid(1),
            request,
            credentials: Arc::from([crate::txn::AuthId {
                scheme: "super".into(),
                id: "".into(),
            }]),
            stamps: Stamps::default(),
        };
        let mut budget = Budget::UNLIMITED;
        self.member.request(write, &mut budget, self.now).unwrap();
        self.sync();
    }

    /// Nodes with a path and no data.
    fn create(&mut self, nodes: std::ops::Range<usize>) {
        for nth in nodes {
            self.sequence += 1;
            let path = format!("/{nth:04}").into();
            self.write(crate::txn::WriteRequest::Create(
                crate::txn::CreateRequest {
                    op: crate::types::OpCode::CREATE,
                    path,
                    data: None,
                    acl: Some(vec![crate::txn::RawAcl {
                        perms: 31,
                        scheme: Some("world".into()),
                        id: Some("anyone".into()),
                    }]),
                    flags: 0,
                    ttl_ms: 0,
                },
            ));
        }
    }

    fn run(&mut self, job: Job) -> JobNews {
        let done = job.run(&self.disk, &self.disk);
        self.member.job_done(done).unwrap()
    }

    /// Runs what is due until there is nothing, and says what it was, but for witnesses.
    fn run_all(&mut self) -> Vec<&'static str> {
        let mut words = Vec::new();
        while let Some(job) = self.member.poll_job() {
            words.push(word(&job));
            self.run(job);
        }
        words.retain(|word| *word != "witness");
        words
    }

    fn segments(&self) -> usize {
        let names = crate::log::storage::Storage::list(&self.disk).unwrap();
        names.iter().filter(|n| n.starts_with("log.")).count()
    }
}

fn word(job: &Job) -> &'static str {
    match job {
        Job::Spare(order) if order.recycles() => "recycled spare",
        Job::Spare(_) => "new spare",
        Job::Snapshot { .. } => "snapshot",
        Job::Purge { .. } => "purge",
        Job::Save(_) => "save",
        Job::Remove(_) => "remove",
        Job::Witness(_) => "witness",
        Job::ReadLog(_) => "read",
        Job::OfMember(_) => "of a member",
    }
}

#[test]
fn two_spares_are_made_ahead_one_after_the_other() {
    let mut w = World::new(u64::MAX);
    let first = w.member.poll_job().unwrap();
    assert_eq!(
        (word(&first), first.queue()),
        ("new spare", JobQueue::Spares)
    );
    assert!(w.member.poll_job().is_none(), "one at a time");
    w.run(first);
    assert_eq!(w.run_all(), ["new spare"]);
    // Two segments fill without waiting for anybody.
    w.fill_segments(2);
    assert_eq!(w.member.pipeline.waiting(), 0);
    assert_eq!(w.run_all(), ["new spare", "new spare"]);
}

#[test]
fn writes_go_on_while_a_snapshot_is_made() {
    let mut w = World::new(10);
    w.run_all();
    w.fill_segments(2);
    let mut jobs: Vec<Job> = std::iter::from_fn(|| w.member.poll_job()).collect();
    let words: Vec<_> = jobs.iter().map(word).collect();
    let beside = "beside each other";
    assert_eq!(words, ["new spare", "witness", "snapshot"], "{beside}");
    let snapshot = jobs.pop().unwrap();
    jobs.into_iter().for_each(|job| drop(w.run(job)));
    for _ in 0..5 {
        w.run_all();
        w.fill_segments(2);
        assert_eq!(w.member.pipeline.waiting(), 0);
    }
    assert!(matches!(w.run(snapshot), JobNews::SnapshotMade { .. }));
}

#[test]
fn a_snapshot_is_followed_by_the_removal_of_segments_before_any_is_used_again() {
    let mut w = World::new(20);
    w.run_all();
    // Until retired segments wait to be used again, and a snapshot is about to retire more.
    let (mut recycled, mut rounds) = (0, 0);
    let snapshot = loop {
        rounds += 1;
        assert!(rounds < 1000, "{recycled} recycled");
        match w.member.poll_job() {
            Some(job @ Job::Snapshot { .. }) if recycled > 2 => break job,
            Some(job) => {
                recycled += u32::from(word(&job) == "recycled spare");
                w.run(job);
            }
            None => w.fill_segments(2),
        }
    };
    // The snapshot may be reading what a spare would take.
    for _ in 0..4 {
        w.fill_segments(2);
        let words = w.run_all();
        assert!(!words.contains(&"recycled spare"), "{words:?}");
    }
    let spare = loop {
        match w.member.poll_job() {
            Some(job) if word(&job) == "new spare" => break job,
            Some(job) => drop(w.run(job)),
            None => w.fill_segments(1),
        }
    };
    let before = w.segments();
    w.run(snapshot);
    let next: Vec<Job> = std::iter::from_fn(|| w.member.poll_job()).collect();
    let is_elsewhere = |job: &Job| ["snapshot", "witness"].contains(&word(job));
    assert!(next.iter().all(is_elsewhere), "the queue is taken");
    for job in [spare].into_iter().chain(next) {
        w.run(job);
    }
    let words = w.run_all();
    assert_eq!(words[0], "remove", "{words:?}");
    assert!(w.segments() + 2 <= before, "{} of {before}", w.segments());
    // What is left is a log without a gap.
    let World { disk, member, .. } = w;
    let zxid = member.tree.last_zxid();
    member.close().unwrap();
    let recovered = snapshot::recover(&disk, &disk, &mut |_| {}).unwrap();
    assert_eq!(recovered.tree.last_zxid(), zxid);
}

#[test]
fn a_read_for_a_replica_and_the_taking_of_segments_wait_for_each_other() {
    let mut w = World::new(20);
    w.run_all();
    w.fill_segments(2);
    w.run_all();
    let order = CatchUp {
        shard: ShardId(0),
        after: Zxid(1),
        upto: w.member.tree.last_zxid(),
        durable: w.member.pipeline.log().durable(),
        bytes_max: u64::MAX,
    };
    assert!(w.member.may_read());
    w.member.keep_log_after(Some(order.after));
    let read = w.member.begin_read(order);
    assert_eq!(read.queue(), JobQueue::Reads);
    assert!(!w.member.may_read(), "one at a time");
    w.fill_segments(2);
    w.fill_segments(2);
    let words = w.run_all();
    assert!(words.contains(&"snapshot"), "{words:?}");
    assert!(!words.contains(&"remove") && !words.contains(&"recycled spare"));
    let JobNews::LogRead(LogRead { entries, .. }) = w.run(read) else {
        panic!("something else was read");
    };
    let entries = entries.unwrap();
    assert_eq!(entries.last().unwrap().header.zxid, order.upto);
    assert!(w.member.may_read());
}

#[test]
fn a_snapshot_that_fails_leaves_nothing_and_is_tried_again_on_time() {
    let mut w = World::new(5);
    w.run_all();
    w.fill_segments(1);
    w.disk.set_capacity(w.disk.used());
    let mut failed = 0;
    while let Some(job) = w.member.poll_job() {
        failed += u32::from(matches!(w.run(job), JobNews::SnapshotFailed { .. }));
    }
    assert_eq!(failed, 1);
    let names = crate::log::storage::Storage::list(&w.disk).unwrap();
    assert!(!names.iter().any(|n| n.contains("snap")), "{names:?}");
    w.disk.set_capacity(64 << 20);
    assert!(w.member.poll_job().is_none(), "not at once");
    for ms in [0, due::RETRY_MS] {
        w.now.tick = Tick(ms);
        w.member.tick(w.now).unwrap();
    }
    assert!(w.run_all().contains(&"snapshot"));
}

#[test]
fn a_snapshot_of_a_state_that_has_grown_is_not_begun_where_it_finds_no_room() {
    for has_one in [false, true] {
        let mut w = World::new(5);
        if has_one {
            w.create(0..5);
            assert!(w.run_all().contains(&"snapshot"));
        }
        w.create(5..105);
        let snapshot = w.run_until_a_snapshot_is_next();
        let free = 4 << 10;
        w.disk.set_capacity(w.disk.used() + free);
        let before = w.disk.effects();
        let JobNews::SnapshotFailed { reason, .. } = w.run(snapshot) else {
            panic!("there was room");
        };
        assert!(
            matches!(reason, SnapError::NoRoom { free: f, .. } if f == free),
            "{reason}"
        );
        assert_eq!(w.disk.effects(), before, "nothing was written");
    }
}

#[test]
fn a_disk_that_the_log_would_fill_gets_room_by_snapshots_that_nothing_else_asks_for() {
    let mut w = World::new(u64::MAX);
    w.member.snapshots_kept = Some(3);
    w.run_all();
    w.disk.set_capacity(w.disk.used() + 6 * SEGMENT);
    let mut refused = Vec::new();
    for second in 0..60 {
        w.now.tick = Tick(1000 * second);
        w.member.tick(w.now).unwrap();
        let before = w.member.pipeline.counters().refused;
        for _ in 0..7 {
            w.write(crate::txn::WriteRequest::SetData {
                path: Some("/zookeeper/quota".into()),
                data: Some(vec![7; 8000].into()),
                version: -1,
            });
            w.run_all();
        }
        refused.push(w.member.pipeline.counters().refused - before);
    }
    let rolls = w.member.pipeline.log().counters().rolls;
    assert!(rolls > 30 && refused == [0; 60], "{rolls} {refused:?}");
    // What is left is a log that a start goes on from.
    let World { disk, member, .. } = w;
    let zxid = member.tree.last_zxid();
    member.close().unwrap();
    let recovered = snapshot::recover(&disk, &disk, &mut |_| {}).unwrap();
    assert_eq!(recovered.tree.last_zxid(), zxid);
}

#[test]
fn a_snapshot_with_a_sector_that_can_not_be_read_is_made_up_for_by_an_older_one_and_the_log() {
    let mut w = World::new(10);
    for _ in 0..3 {
        w.run_all();
        w.fill_segments(2);
    }
    w.run_all();
    let names = crate::log::storage::Storage::list(&w.disk).unwrap();
    let newest = names.iter().rfind(|n| n.starts_with("snap.")).unwrap();
    let World { disk, member, .. } = w;
    let zxid = member.tree.last_zxid();
    member.close().unwrap();
    // The one before it, as if it had not been purged.
    let older = snapshot::recover(&disk, &disk, &mut |_| {}).unwrap();
    assert!(older.warnings().is_empty());
    disk.break_sector(newest, 600);
    let found = snapshot::recover(&disk, &disk, &mut |_| {});
    match found {
        // One is kept: the log behind the one before is gone, and what is lost is said.
        Err(SnapError::Gap { snapshot, .. }) => assert_eq!(snapshot, Zxid::ZERO),
        Err(other) => panic!("{other}"),
        Ok(found) => {
            assert_eq!(found.tree.last_zxid(), zxid);
            assert_eq!(found.warnings().len(), 1);
        }
    }
    disk.mend_sectors();
    let found = snapshot::recover(&disk, &disk, &mut |_| {}).unwrap();
    assert_eq!(found.tree.last_zxid(), zxid);
}

#[test]
fn a_snapshot_of_which_any_call_fails_is_thrown_away_and_made_anew() {
    let calls: [&[SeamCall]; 5] = [
        &[SeamCall::Create],
        &[SeamCall::Write],
        &[SeamCall::Sync],
        &[SeamCall::Rename],
        &[SeamCall::SyncDir],
    ];
    // EIO, ENOSPC, EDQUOT and EMFILE of Linux.
    for (calls, code) in calls
        .iter()
        .flat_map(|c| [5, 28, 122, 24].map(|code| (*c, code)))
    {
        let mut w = World::new(5);
        w.run_all();
        w.fill_segments(1);
        let snapshot = w.run_until_a_snapshot_is_next();
        w.disk.set_failing(Some(Failing {
            calls,
            code,
            after: 0,
            times: 1,
        }));
        let news = w.run(snapshot);
        assert!(matches!(news, JobNews::SnapshotFailed { .. }), "{calls:?}");
        w.disk.set_failing(None);
        assert!(
            !w.disk.names().iter().any(|n| n.contains("snap")),
            "{calls:?}"
        );
        for ms in [0, due::RETRY_MS] {
            w.now.tick = Tick(ms);
            w.member.tick(w.now).unwrap();
        }
        assert!(w.run_all().contains(&"snapshot"));
        for seed in 0..10 {
            let cut = w.disk.after_power_cut(&mut fastrand::Rng::with_seed(seed));
            let found = snapshot::recover(&cut, &cut, &mut |_| {}).unwrap();
            assert!(found.snapshot.is_some() && found.warnings().is_empty());
        }
    }
}

#[test]
fn a_start_without_descriptors_or_rights_takes_no_older_snapshot_for_the_newest() {
    let mut w = World::new(10);
    for _ in 0..3 {
        w.run_all();
        w.fill_segments(2);
    }
    w.run_all();
    let World { disk, member, .. } = w;
    member.close().unwrap();
    for code in [NO_DESCRIPTOR, NO_RIGHT] {
        let mut refused = 0;
        for after in 0..20 {
            disk.set_failing(Some(Failing {
                calls: &[SeamCall::Open],
                code,
                after,
                times: 1,
            }));
            match snapshot::recover(&disk, &disk, &mut |_| {}) {
                Ok(found) => assert_eq!(found.warnings(), [""; 0], "{code} {after}"),
                Err(refusal) => {
                    // Nothing is lost, so there is nothing to give up.
                    let text = refusal.to_string();
                    assert!(!text.contains("accept-loss"), "{code} {after}: {text}");
                    refused += 1;
                }
            }
        }
        assert!((3..20).contains(&refused), "{code}: {refused}");
    }
}

/// EACCES of Linux.
const NO_RIGHT: i32 = 13;

/// EMFILE of Linux.
const NO_DESCRIPTOR: i32 = 24;

#[test]
fn segments_that_can_not_be_removed_now_are_removed_from_the_next_tick_on_oldest_first() {
    let mut w = World::new(u64::MAX);
    w.run_all();
    let names = ["log.0000000000000001", "log.0000000000000002"].map(str::to_owned);
    for name in &names {
        crate::log::storage::Storage::create(&w.disk, name, 0).unwrap();
    }
    w.member.jobs.remove = names.to_vec();
    for nth in 1..=2 {
        let job = w.member.poll_job().unwrap();
        w.disk.set_shortage(Some((2 - nth, NO_DESCRIPTOR)));
        let news = w.run(job);
        w.disk.set_shortage(None);
        let is_first = matches!(news, JobNews::Shortage { .. });
        assert_eq!((is_first, w.member.shortages()), (nth == 1, nth.into()));
        assert_eq!(w.member.jobs.remove, names[1..], "the older one is gone");
        assert!(w.member.poll_job().is_none(), "not before the next tick");
        w.member.tick(w.now).unwrap();
    }
    assert_eq!(w.run_all(), ["remove"]);
    assert!(w.member.jobs.remove.is_empty() && w.member.may_read());
}

#[test]
fn a_log_that_can_not_be_read_now_may_be_read_again_from_the_next_tick_on() {
    let mut w = World::new(u64::MAX);
    w.fill_segments(1);
    let order = CatchUp {
        shard: ShardId(0),
        after: Zxid(1),
        upto: w.member.tree.last_zxid(),
        durable: w.member.pipeline.log().durable(),
        bytes_max: u64::MAX,
    };
    let mut said = 0;
    for nth in 1..=3 {
        let job = w.member.begin_read(order);
        w.disk.set_shortage(Some((nth - 1, NO_DESCRIPTOR)));
        let JobNews::LogRead(read) = w.run(job) else {
            panic!("something else was read");
        };
        w.disk.set_shortage(None);
        assert!(read.shortage().is_some());
        let news = w.member.log_read(&read);
        said += u32::from(matches!(news, JobNews::Shortage { .. }));
        assert!(!w.member.may_read(), "not before the next tick");
        w.member.tick(w.now).unwrap();
        assert!(w.member.may_read());
    }
    assert_eq!((said, w.member.shortages()), (1, 3));
    // A segment that is closed is not mapped.
    w.run_all();
    w.sync();
    w.fill_segments(1);
    assert!(w.segments() > 1);
    let job = w.member.begin_read(order);
    w.disk.set_failing(Some(NO_MEMORY_TO_READ));
    let JobNews::LogRead(read) = w.run(job) else {
        panic!("something else was read");
    };
    assert!(read.shortage().is_some());
}

/// ENOMEM of Linux, whatever is read.
const NO_MEMORY_TO_READ: Failing = Failing {
    calls: &[SeamCall::Read],
    code: 12,
    after: 0,
    times: u32::MAX,
};

#[test]
fn a_snapshot_for_which_there_is_no_memory_to_read_is_tried_again_and_not_made_out_of_memory() {
    let mut failed = 0;
    for after in 0..20 {
        let mut w = World::new(5);
        for _ in 0..2 {
            w.run_all();
            w.fill_segments(1);
        }
        let snapshot = w.run_until_a_snapshot_is_next();
        w.disk.set_failing(Some(Failing {
            after,
            ..NO_MEMORY_TO_READ
        }));
        match w.run(snapshot) {
            JobNews::SnapshotFailed { .. } => failed += 1,
            JobNews::SnapshotMade { .. } => {}
            other => panic!("{after}: {other:?}"),
        }
    }
    assert!((2..20).contains(&failed), "{failed}");
}

/// The witness on disk.
fn witnessed(w: &World) -> crate::log::Witness {
    match crate::log::witness::find(&w.disk, &w.disk).unwrap() {
        crate::log::witness::Found::Witness(witness, None) => witness,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_witness_follows_the_log_in_time_at_a_roll_and_at_the_end() {
    use crate::log::witness::RENEWAL_MS;
    let mut w = World::new(u64::MAX);
    w.run_all();
    let first = witnessed(&w);
    let tick = |w: &mut World, ms| {
        w.now.tick = Tick(ms);
        w.member.tick(w.now).unwrap();
        w.run_all();
    };
    tick(&mut w, 0);
    tick(&mut w, RENEWAL_MS - 1);
    assert_eq!(witnessed(&w), first, "not before it is old");
    tick(&mut w, RENEWAL_MS);
    let renewed = witnessed(&w);
    assert_eq!(renewed.durable.zxid, w.member.tree.last_zxid());
    assert_eq!(renewed.sequence, first.sequence + 1);
    for ms in (RENEWAL_MS + 10..2 * RENEWAL_MS).step_by(10) {
        w.create(ms as usize..ms as usize + 1);
        tick(&mut w, ms);
    }
    assert_eq!(witnessed(&w), renewed, "it is young");
    tick(&mut w, 2 * RENEWAL_MS + 10);
    let renewed = witnessed(&w);
    assert_eq!(renewed.sequence, first.sequence + 2);
    for ms in (RENEWAL_MS..20 * RENEWAL_MS).step_by(10) {
        tick(&mut w, ms);
    }
    assert_eq!(witnessed(&w), renewed, "nothing was written");
    w.fill_segments(1);
    w.sync();
    w.run_all();
    let rolled = witnessed(&w);
    assert!(rolled.newest > renewed.newest && !rolled.is_closed);
    let World { disk, member, .. } = w;
    let last = member.tree.last_zxid();
    member.close().unwrap();
    let closed = match crate::log::witness::find(&disk, &disk).unwrap() {
        crate::log::witness::Found::Witness(witness, None) => witness,
        other => panic!("{other:?}"),
    };
    assert!(closed.is_closed && closed.durable.zxid == last);
    drop(start_member(&disk, u64::MAX).unwrap());
    let begun = crate::log::witness::find(&disk, &disk).unwrap();
    let crate::log::witness::Found::Witness(begun, None) = begun else {
        panic!("{begun:?}");
    };
    assert!(!begun.is_closed && begun.durable.zxid == last);
}

#[test]
fn a_witness_that_finds_no_descriptor_is_written_later_and_one_that_fails_stops_the_process() {
    use crate::log::witness::RENEWAL_MS;
    let mut w = World::new(u64::MAX);
    w.run_all();
    let first = witnessed(&w);
    for (ms, shortage) in [(0, None), (RENEWAL_MS, Some((0, NO_DESCRIPTOR)))] {
        w.now.tick = Tick(ms);
        w.member.tick(w.now).unwrap();
        w.disk.set_shortage(shortage);
        w.run_all();
        w.disk.set_shortage(None);
    }
    assert_eq!((witnessed(&w), w.member.shortages()), (first, 1));
    for ms in [RENEWAL_MS, 2 * RENEWAL_MS] {
        w.now.tick = Tick(ms);
        w.member.tick(w.now).unwrap();
    }
    let job = w.member.poll_job().unwrap();
    assert_eq!(word(&job), "witness");
    w.disk.fail_next_sync();
    let done = job.run(&w.disk, &w.disk);
    assert!(matches!(w.member.job_done(done), Err(Fatal::Log(_))));
}

#[test]
fn a_segment_that_is_not_there_any_more_counts_as_removed() {
    let mut w = World::new(5);
    w.run_all();
    let gone = Job::Remove(vec!["log.0123456789abcdef".to_owned()]);
    assert!(matches!(w.run(gone), JobNews::None));
}

#[test]
fn a_directory_that_can_not_be_synced_after_a_removal_stops_the_process() {
    let mut w = World::new(5);
    w.run_all();
    let done = Done::Removed {
        left: Vec::new(),
        result: Err(io::Error::other("EIO")),
    };
    assert!(matches!(w.member.job_done(done), Err(Fatal::Log(_))));
}

#[test]
fn a_witness_that_is_long_in_being_written_holds_up_no_spare_and_spares_hold_up_no_witness() {
    let mut w = World::new(u64::MAX);
    w.run_all();
    let first = witnessed(&w);
    w.fill_segments(1);
    let mut jobs: Vec<Job> = std::iter::from_fn(|| w.member.poll_job()).collect();
    let words: Vec<_> = jobs.iter().map(word).collect();
    assert_eq!(words, ["new spare", "witness"], "beside each other");
    let witness = jobs.pop().unwrap();
    w.run(jobs.pop().unwrap());
    for _ in 0..5 {
        w.fill_segments(2);
        assert_eq!(w.member.pipeline.waiting(), 0);
        assert!(w.run_all().contains(&"new spare"));
    }
    assert_eq!(witnessed(&w), first, "one at a time");
    w.run(witness);
    w.fill_segments(1);
    let spare = w.member.poll_job().unwrap();
    assert_eq!(word(&spare), "new spare");
    assert_eq!(w.run_all(), [""; 0], "the spare is under way");
    assert_eq!(witnessed(&w).sequence, first.sequence + 2);
}

/// A store of format 1 whose last segment, the only one, holds no transaction.
fn idle_store_of_format_1() -> SimStorage {
    use crate::log::segment::SegmentHeader;
    use crate::log::storage::{File, Storage};
    let disk = SimStorage::new(64 << 20);
    drop(start_member(&disk, 5).unwrap());
    for name in disk.list().unwrap() {
        if name.starts_with("log.") {
            let file = disk.open(&name).unwrap();
            let header = SegmentHeader::decode(&file.view(4096).unwrap()).unwrap();
            let store = None;
            let header = SegmentHeader { store, ..header };
            file.write_at(0, &header.encode()).unwrap();
            file.sync().unwrap();
        } else {
            disk.remove(&name).unwrap();
        }
    }
    disk.sync_dir().unwrap();
    disk
}

#[test]
fn a_conversion_that_is_cut_off_at_any_place_goes_on_at_the_next_start() {
    for power_cut in [false, true] {
        let mut converted = false;
        for effects in 0.. {
            let disk = idle_store_of_format_1();
            disk.crash_at(Some(disk.effects() + effects));
            converted = start_member(&disk, 5).is_ok();
            disk.restart(&mut fastrand::Rng::with_seed(effects), power_cut);
            if let Err(error) = start_member(&disk, 5) {
                panic!("cut off at effect {effects}: {error}");
            }
            if converted {
                break;
            }
        }
        assert!(converted);
    }
}

#[test]
fn a_witness_that_is_still_being_written_at_a_clean_stop_does_not_replace_the_last_one() {
    use crate::log::witness::{Found, RENEWAL_MS, find};
    let mut w = World::new(u64::MAX);
    w.run_all();
    for ms in [0, RENEWAL_MS] {
        w.now.tick = Tick(ms);
        w.member.tick(w.now).unwrap();
    }
    let late = w.member.poll_job().unwrap();
    assert_eq!(word(&late), "witness");
    let World { disk, member, .. } = w;
    member.close().unwrap();
    late.run(&disk, &disk);
    let found = find(&disk, &disk).unwrap();
    assert!(
        matches!(found, Found::Witness(witness, None) if witness.is_closed),
        "{found:?}"
    );
}

#[test]
fn a_member_whose_log_rots_behind_its_last_snapshot_saves_what_it_has_in_memory() {
    let mut w = World::new(5);
    w.run_all();
    for part in 0..10 {
        w.create(100 * part..100 * (part + 1));
        w.run_all();
    }
    w.fill_segments(2);
    assert_eq!(w.member.pipeline.waiting(), 0);
    let names = crate::log::storage::Storage::list(&w.disk).unwrap();
    let segments: Vec<_> = names.iter().filter(|n| n.starts_with("log.")).collect();
    w.disk.spoil(segments[segments.len() - 2], 30_000, &[2]);
    let (mut due, mut batches, mut rounds) = (None, 0, 0);
    let made = loop {
        rounds += 1;
        assert!(rounds < 1000, "{batches} batches");
        let Some(job) = w.member.poll_job() else {
            // The walk goes on while clients write.
            assert!(due.is_none() || w.member.has_work(), "nobody goes on");
            w.sync();
            continue;
        };
        batches += u32::from(matches!(job, Job::Save(_)));
        match w.run(job) {
            JobNews::SnapshotOutOfMemory { zxid, reason } => {
                assert!(matches!(reason, SnapError::Log(_)), "{reason}");
                assert_eq!((zxid, due), (w.member.tree.last_zxid(), None));
                due = Some(snapshot::root(&w.member.tree));
            }
            JobNews::SnapshotMade { zxid, written, .. } => break (zxid, written.root),
            JobNews::SnapshotFailed { reason, .. } => panic!("{reason}"),
            _ if due.is_some() => w.create(1000..1000 + batches as usize),
            _ => {}
        }
    };
    assert_eq!(Some(made.1), due);
    assert!(batches > 4, "{batches}");
    assert!(made.0 < w.member.tree.last_zxid(), "nobody has written");
    assert_eq!(
        (w.member.snapshots_saved(), w.member.has_work()),
        (1, false)
    );
    // The next one is made of this one, and what has rotted is needed by no start.
    w.fill_segments(2);
    assert!(w.run_all().contains(&"snapshot"));
    assert_eq!(w.member.snapshots_saved(), 1);
    let World { disk, member, .. } = w;
    let due = snapshot::root(&member.tree);
    member.close().unwrap();
    let recovered = snapshot::recover(&disk, &disk, &mut |_| {}).unwrap();
    assert_eq!(snapshot::root(&recovered.tree), due);
}

/// Segments behind the last snapshot rot; the next one is then made out of memory.
fn rot_behind_the_last_snapshot(w: &World) {
    let names = w.disk.names();
    let segments: Vec<_> = names.iter().filter(|n| n.starts_with("log.")).collect();
    w.disk.spoil(segments[segments.len() - 2], 30_000, &[2]);
}

/// Runs jobs until one has this to say.
fn run_until(w: &mut World, is_it: impl Fn(&JobNews) -> bool) -> JobNews {
    for _ in 0..1000 {
        let Some(job) = w.member.poll_job() else {
            w.sync();
            continue;
        };
        let news = w.run(job);
        if is_it(&news) {
            return news;
        }
    }
    panic!("nothing of the kind");
}

#[test]
fn a_snapshot_that_a_merge_could_not_read_takes_no_place_among_those_that_are_kept() {
    let mut w = World::new(5);
    w.member.snapshots_kept = Some(2);
    let is_made = |news: &JobNews| matches!(news, JobNews::SnapshotMade { .. });
    let made = |w: &mut World| {
        w.fill_segments(1);
        match run_until(w, is_made) {
            JobNews::SnapshotMade { zxid, .. } => zxid,
            other => panic!("{other:?}"),
        }
    };
    w.run_all();
    let (older, newest) = (made(&mut w), made(&mut w));
    w.disk
        .spoil(&crate::log::snapshot_file::name(newest), 500, &[2]);
    let next = made(&mut w);
    let kept = crate::log::snapshot_file::list(&w.disk).unwrap();
    assert_eq!(kept, [next, newest, older]);
}

#[test]
fn a_purge_that_always_fails_takes_no_snapshot_back_is_said_once_and_tried_less_and_less() {
    let mut w = World::new(5);
    w.run_all();
    w.fill_segments(1);
    w.run_all();
    w.disk.set_failing(Some(Failing {
        calls: &[SeamCall::Remove],
        code: NO_RIGHT,
        after: 0,
        times: u32::MAX,
    }));
    w.fill_segments(1);
    let is_made = |news: &JobNews| matches!(news, JobNews::SnapshotMade { .. });
    let made = run_until(&mut w, is_made);
    let is_said = matches!(
        made,
        JobNews::SnapshotMade {
            unpurged: Some(_),
            ..
        }
    );
    assert!(is_said, "{made:?}");
    // Nothing is written from here on.
    let (mut tries, mut snapshots) = (Vec::new(), 0);
    for second in 0..4000 {
        w.now.tick = Tick(1000 * second);
        w.member.tick(w.now).unwrap();
        while let Some(job) = w.member.poll_job() {
            match job {
                Job::Purge { .. } => tries.push(second),
                Job::Snapshot { .. } => snapshots += 1,
                _ => {}
            }
            let news = w.run(job);
            assert!(matches!(news, JobNews::None), "{news:?}");
        }
    }
    assert_eq!(snapshots, 0);
    let distances: Vec<u64> = tries.windows(2).map(|two| two[1] - two[0]).collect();
    assert!(tries.len() > 5 && distances.is_sorted(), "{tries:?}");
    assert!(distances.last() > Some(&600), "{tries:?}");
    // Segments went all the same, and the older snapshot goes when it can.
    assert_eq!(
        w.disk
            .names()
            .iter()
            .filter(|n| n.starts_with("snap."))
            .count(),
        2
    );
    w.disk.set_failing(None);
    for second in [5000, 6000] {
        w.now.tick = Tick(1000 * second);
        w.member.tick(w.now).unwrap();
    }
    assert!(w.run_all().contains(&"purge"));
    assert_eq!(
        w.disk
            .names()
            .iter()
            .filter(|n| n.starts_with("snap."))
            .count(),
        1
    );
}

#[test]
fn a_log_that_does_not_fit_a_merge_is_made_up_for_by_what_is_in_memory() {
    use crate::txn::record::Payload;
    use crate::txn::{Entry, Txn, TxnHeader};
    use crate::types::{OpCode, SessionId};
    let mut w = World::new(5);
    w.create(0..20);
    let World { disk, member, .. } = w;
    let session = member.tree.sessions().next().unwrap().0;
    let zxid = member.tree.last_zxid().next();
    member.close().unwrap();
    // As other servers close a session: without the list of what goes with it.
    let entry = Entry {
        header: TxnHeader {
            session: SessionId(session.0),
            cxid: 0,
            zxid,
            time: WallMs(0),
            op: OpCode::CLOSE_SESSION,
        },
        txn: Txn::CloseSession { paths: None },
        digest: None,
    };
    let recovered = snapshot::recover(&disk, &disk, &mut |_| {}).unwrap();
    let config = LogConfig {
        segment_bytes: SEGMENT,
    };
    let identities: Identities = Box::new(|| 77);
    let (_, mut log, _) = recovered.open(&disk, &disk, config, identities).unwrap();
    let payload = Payload::of(&entry);
    let write = |out: &mut Vec<u8>| payload.write_into(out);
    log.append_in_place(zxid, payload.len(), write).unwrap();
    log.close().unwrap();
    let member = start_member(&disk, 5).unwrap();
    let mut w = World {
        disk,
        member,
        now: START,
        session,
        sequence: 0,
    };
    let due = snapshot::root(&w.member.tree);
    let begins = |news: &JobNews| matches!(news, JobNews::SnapshotOutOfMemory { .. });
    let JobNews::SnapshotOutOfMemory { reason, .. } = run_until(&mut w, begins) else {
        panic!("just matched");
    };
    assert!(matches!(reason, SnapError::Contradiction(_)), "{reason}");
    let is_made = |news: &JobNews| matches!(news, JobNews::SnapshotMade { .. });
    match run_until(&mut w, is_made) {
        JobNews::SnapshotMade { written, .. } => assert_eq!(written.root, due),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_snapshot_out_of_memory_leaves_the_room_that_the_log_needs() {
    let mut w = World::new(5);
    w.run_all();
    for part in 0..10 {
        w.create(100 * part..100 * (part + 1));
        w.run_all();
    }
    w.fill_segments(2);
    rot_behind_the_last_snapshot(&w);
    let begins = |news: &JobNews| matches!(news, JobNews::SnapshotOutOfMemory { .. });
    run_until(&mut w, begins);
    let needed = w.member.snapshots.room_needed();
    assert!(needed > 10_000, "{needed}");
    w.disk.set_capacity(w.disk.used() + needed + 8000);
    let fails = |news: &JobNews| matches!(news, JobNews::SnapshotFailed { .. });
    let JobNews::SnapshotFailed { reason, .. } = run_until(&mut w, fails) else {
        panic!("just matched");
    };
    assert!(matches!(reason, SnapError::NoRoom { .. }), "{reason}");
    assert!(!w.disk.names().iter().any(|name| name.starts_with("tmp.")));
    let kept = set_all(&mut w, 900..1000, &mut None);
    assert_eq!(kept, 0, "nobody takes what is kept");
}

#[test]
fn a_snapshot_out_of_memory_takes_two_batches_of_the_memory_that_it_is_given() {
    let mut w = World::new(5);
    w.member.snapshot_memory = 200 << 10;
    w.run_all();
    for part in 0..20 {
        w.create(100 * part..100 * (part + 1));
        w.run_all();
    }
    w.fill_segments(2);
    rot_behind_the_last_snapshot(&w);
    let bytes = |save: &jobs::Save| {
        save.nodes
            .iter()
            .map(crate::tree::WalkedNode::memory)
            .sum::<usize>()
    };
    let mut batches = Vec::new();
    for _ in 0..1000 {
        match w.member.poll_job() {
            Some(Job::Save(save)) => {
                batches.push(bytes(&save));
                let job = Job::Save(save);
                assert!(!job.may_rest(), "the state is nowhere else");
                w.run(job);
            }
            Some(job) => {
                assert_eq!(job.may_rest(), matches!(job, Job::Snapshot { .. }));
                w.run(job);
            }
            None => w.sync(),
        }
    }
    // A slice is a part of a batch.
    assert!(batches.len() > 2, "{batches:?}");
    assert!(
        batches.iter().all(|bytes| *bytes < 150 << 10),
        "{batches:?}"
    );
}

#[test]
fn a_snapshot_out_of_memory_keeps_no_second_tree_while_the_disk_hangs() {
    let mut w = World::new(5);
    w.run_all();
    for part in 0..10 {
        w.create(100 * part..100 * (part + 1));
        w.run_all();
    }
    let mut hangs = None;
    set_all(&mut w, 400..900, &mut hangs);
    w.fill_segments(2);
    rot_behind_the_last_snapshot(&w);
    let mut rounds = 0;
    while hangs.is_none() {
        rounds += 1;
        assert!(rounds < 100, "no snapshot is due");
        set_all(&mut w, 0..10, &mut hangs);
    }
    // Each leaves 8,000 bytes behind that only the walk needs.
    let most = set_all(&mut w, 400..900, &mut hangs);
    let hangs = hangs.expect("it hangs");
    let nodes = saving::CHANGED_BYTES_MIN / 8000;
    assert!((nodes..3 * nodes).contains(&most), "{most}");
    let JobNews::None = w.run(hangs) else {
        panic!("it was not the last one");
    };
    let fails = |news: &JobNews| matches!(news, JobNews::SnapshotFailed { .. });
    let JobNews::SnapshotFailed { reason, .. } = run_until(&mut w, fails) else {
        panic!("just matched");
    };
    assert!(matches!(reason, SnapError::Overtaken), "{reason}");
    assert!(!w.disk.names().iter().any(|name| name.starts_with("tmp.")));
    // It is tried again, on a disk that does not hang.
    for ms in [0, due::RETRY_MS] {
        w.now.tick = Tick(ms);
        w.member.tick(w.now).unwrap();
    }
    let is_made = |news: &JobNews| matches!(news, JobNews::SnapshotMade { .. });
    let due = snapshot::root(&w.member.tree);
    match run_until(&mut w, is_made) {
        JobNews::SnapshotMade { written, .. } => assert_eq!(written.root, due),
        other => panic!("{other:?}"),
    }
}

/// Writes 8,000 bytes to each of these nodes, and runs what is due meanwhile, but for a save, which hangs.
/// What a walk kept at most.
fn set_all(w: &mut World, nodes: std::ops::Range<usize>, hangs: &mut Option<Job>) -> usize {
    let mut most = 0;
    for nth in nodes {
        w.sequence += 1;
        w.write(crate::txn::WriteRequest::SetData {
            path: Some(format!("/{nth:04}").into()),
            data: Some(vec![7; 8000].into()),
            version: -1,
        });
        while let Some(job) = w.member.poll_job() {
            match job {
                Job::Save(_) => *hangs = Some(job),
                job => drop(w.run(job)),
            }
        }
        most = most.max(w.member.tree.walk_keeps());
    }
    most
}
