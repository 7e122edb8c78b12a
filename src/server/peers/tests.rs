use super::*;
use crate::budget::Budget;
use crate::log::LogConfig;
use crate::member::{MemberConfig, SeatConfig};
use crate::messages::{Notice, Origin, ShardRequest, Stamps, ToShards};
use crate::peers::{Addresses, Network, Peers};
use crate::pipeline::PipelineConfig;
use crate::rt::clock::Clock;
use crate::rt::ring::{Features, Happened};
use crate::sim::disk::SimStorage;
use crate::snapshot::Rebuilding;
use crate::tree::{Rules, Tree};
use crate::types::{ConnId, ServerId, ShardId, Zxid};
use crate::zab::election::{Candidate, FINALIZE_OURS_MS};
use crate::zab::{Pair, Patience, Quorum, Settings};
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::thread::JoinHandle;
use std::time::Instant;

/// Long enough for a loaded machine.
const PATIENCE: Patience = Patience {
    init_ms: 4000,
    sync_ms: 2000,
    ping_ms: 100,
};
const LONG: Duration = Duration::from_secs(40);

#[test]
fn a_peers_key_is_no_clients_and_names_its_connection() {
    for number in [1, PEER - 1, PEER, PEER + 1, PORTS + 7, (1 << 55) - 1] {
        let key = key_of(number);
        assert!(key.0 < 1 << 56 && key.0 & PEER != 0);
        assert_eq!(link_of(key), LinkId(number));
    }
}

/// What a member's thread says of it.
#[derive(Default)]
struct Seen {
    serving: Option<Duty>,
    applied: Zxid,
}

struct Running {
    seen: Arc<Mutex<Seen>>,
    /// So many sessions are to be opened, if it leads.
    wanted: Arc<Mutex<usize>>,
    stops: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    fn start(sid: i64, network: Network, ports: Ports) -> Running {
        let mut member = Running {
            seen: Arc::default(),
            wanted: Arc::default(),
            stops: Arc::default(),
            thread: None,
        };
        let (seen, wanted, stops) = (
            member.seen.clone(),
            member.wanted.clone(),
            member.stops.clone(),
        );
        let run = move || run(sid, network, ports, &seen, &wanted, &stops);
        member.thread = Some(std::thread::spawn(run));
        member
    }

    fn serves(&self) -> Option<Duty> {
        self.seen.lock().unwrap().serving
    }

    fn leads(&self) -> bool {
        matches!(self.serves(), Some(Duty::Leader(_)))
    }

    fn applied(&self) -> Zxid {
        self.seen.lock().unwrap().applied
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stops.store(true, SeqCst);
        let ended = self.thread.take().map(JoinHandle::join);
        if !std::thread::panicking() {
            ended.unwrap().unwrap();
        }
    }
}

fn settings(sid: i64) -> Settings {
    Settings {
        candidate: Candidate {
            sid: ServerId(sid),
            is_observer: false,
            finalize_ms: FINALIZE_OURS_MS,
        },
        patience: PATIENCE,
        pair: Pair::of(Quorum::majority(Zxid::ZERO, (1..=3).map(ServerId)).unwrap()),
        observers: BTreeSet::new(),
        config: Vec::from(b"version=0").into(),
    }
}

/// A member without clients; sessions are opened at it.
fn member(sid: i64, disk: &SimStorage, now: Now) -> Member<SimStorage> {
    let config = MemberConfig {
        pipeline: PipelineConfig {
            creator: sid as u8,
            ..PipelineConfig::new(Rules::default())
        },
        log: LogConfig {
            segment_bytes: 64 << 10,
        },
        snapshot_records: 100,
        snapshots_kept: Some(2),
        snapshot_memory: 4 << 10,
    };
    let seat = SeatConfig {
        settings: settings(sid),
        is_founding: true,
    };
    let mut identity = sid as u128;
    let identities = Box::new(move || {
        identity += 1 << 32;
        identity
    });
    let rebuild = &mut Rebuilding::new(|_| {});
    let joined = Member::join(config, seat, (disk, disk), identities, now, rebuild);
    joined.unwrap().0
}

fn run(
    sid: i64,
    network: Network,
    ports: Ports,
    seen: &Mutex<Seen>,
    wanted: &Mutex<usize>,
    stops: &AtomicBool,
) {
    let (clock, disk) = (Clock::default(), SimStorage::new(256 << 20));
    let mut member = member(sid, &disk, clock.now());
    let bell = Bell::new().unwrap();
    let mut ring = Ring::new(Features::Auto, bell.clone()).unwrap();
    let joined = Joined::new(Peers::new(ServerId(sid), PATIENCE, network));
    let patience = Duration::from_millis(PATIENCE.sync_ms);
    let mut sockets = PeerSockets::new(joined, ports, bell, patience, &mut ring).unwrap();
    let (mut again, mut sequence) = (true, 0);
    while !stops.load(SeqCst) {
        let timeout = match again {
            true => Duration::ZERO,
            false => Duration::from_millis(2),
        };
        ring.wait(Some(timeout), || !sockets.has_mail());
        while let Some(happened) = ring.poll() {
            if let Happened::Socket {
                key,
                readable,
                writable,
                ..
            } = happened
            {
                assert!(sockets.happened(key, readable, writable));
            }
        }
        let (now, mut budget) = (clock.now(), Budget::UNLIMITED);
        sockets.begin_turn(&mut member, &mut ring, now).unwrap();
        member.tick(now).unwrap();
        member.advance(&mut budget, now).unwrap();
        let mut wanted = wanted.lock().unwrap();
        if *wanted > 0 && matches!(member.duty(), Some(Duty::Leader(_))) {
            *wanted -= 1;
            sequence += 1;
            let origin = Origin {
                shard: ShardId(0),
                conn: ConnId {
                    slot: 0,
                    generation: 0,
                },
                sequence,
            };
            let asked = ShardRequest::NewSession {
                origin,
                timeout_ms: 1 << 30,
                stamps: Stamps::default(),
            };
            member.request(asked, &mut budget, now).unwrap();
        }
        let hear = |_: &Tree, down, _| matches!(down, ToShards::Notice(_, Notice::Suspend));
        while let Some(is_suspended) = member.tell(&mut budget, now, hear).unwrap() {
            if is_suspended {
                let shard = ShardId(0);
                let confirmed = ShardRequest::Suspended { shard };
                member.request(confirmed, &mut budget, now).unwrap();
            }
        }
        while let Some(ticket) = member.poll_sync() {
            member.synced(ticket.run(), now).unwrap();
        }
        while let Some(ticket) = member.poll_record() {
            let outcome = ticket.run(&disk, &disk);
            member.record_written(outcome, now).unwrap();
        }
        while let Some(job) = member.poll_job() {
            member.job_done(job.run(&disk, &disk)).unwrap();
        }
        while let Some(transfer) = sockets.poll_transfer() {
            let done = transfer.run(&disk);
            sockets.transferred(done, &mut member, now).unwrap();
        }
        again = sockets.end_turn(&mut member, &mut ring, now).unwrap();
        again |= *wanted > 0 || member.has_work();
        let mut seen = seen.lock().unwrap();
        (seen.serving, seen.applied) = (member.duty(), member.tree.last_zxid());
    }
}

// What waits in sockets after a pause is told before anybody is given up for it.
#[test]
fn time_passes_behind_what_has_happened_or_a_quarter_of_the_patience_later() {
    let bell = Bell::new().unwrap();
    let mut ring = Ring::new(Features::Auto, bell.clone()).unwrap();
    let network = Network {
        servers: BTreeMap::new(),
        is_multi_address: false,
        dial_ms: 1000,
        packet_max: 1 << 20,
    };
    let ports = Ports {
        election: vec![anywhere()],
        quorum: vec![anywhere()],
    };
    let joined = Joined::<SimStorage>::new(Peers::new(ServerId(1), PATIENCE, network));
    let patience = Duration::from_millis(400);
    let mut sockets = PeerSockets::new(joined, ports, bell, patience, &mut ring).unwrap();
    let mut passes = |now, is_all_told| {
        let is_due = sockets.is_due(Tick(now), is_all_told);
        if is_due {
            sockets.overdue = None;
            sockets.next_tick = Tick(now + 1);
        }
        is_due
    };
    assert!(passes(1000, true) && !passes(1000, true));
    assert!(!passes(9000, false) && !passes(9099, false) && passes(9100, false));
    assert!(!passes(9200, false) && passes(9201, true));
}

fn wait_for<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(began.elapsed() < LONG, "{what} does not happen");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn anywhere() -> Bound {
    net::bind("127.0.0.1:0".parse().unwrap(), BACKLOG).unwrap()
}

#[test]
fn three_members_elect_a_leader_over_sockets_and_another_one_when_it_is_gone() {
    let mut ports: Vec<Ports> = (0..3)
        .map(|_| Ports {
            election: vec![anywhere()],
            quorum: vec![anywhere()],
        })
        .collect();
    let addresses = |bound: &[Bound], host: &str| {
        let at = |bound: &Bound| Address::new(host, bound.address().unwrap().port()).unwrap();
        bound.iter().map(at).collect()
    };
    // One of them is known by its name.
    let servers = ports.iter().zip(1..).map(|(ports, sid)| {
        let host = if sid == 2 { "localhost" } else { "127.0.0.1" };
        let addresses = Addresses {
            quorum: addresses(&ports.quorum, host),
            election: addresses(&ports.election, host),
        };
        (ServerId(sid), addresses)
    });
    let network = Network {
        servers: servers.collect(),
        is_multi_address: false,
        dial_ms: 1000,
        packet_max: 1 << 20,
    };
    let mut members: Vec<Running> = (1..=3)
        .map(|sid| Running::start(sid, network.clone(), ports.remove(0)))
        .collect();
    wait_for("three serve", || {
        members
            .iter()
            .all(|member| member.serves().is_some())
            .then_some(())
    });
    let leader = members.iter().position(Running::leads).expect("one leads");
    *members[leader].wanted.lock().unwrap() = 500;
    wait_for("all have committed", || {
        let all = members
            .iter()
            .all(|member| member.applied().counter() >= 500);
        all.then_some(())
    });
    drop(members.remove(leader));
    wait_for("another one leads", || {
        let served = members.iter().filter_map(Running::serves);
        (served.count() == 2 && members.iter().any(Running::leads)).then_some(())
    });
    wait_for("both have committed", || {
        // On a loaded machine it may be another one again.
        if let Some(leader) = members.iter().find(|member| member.leads()) {
            *leader.wanted.lock().unwrap() = 1;
        }
        let is_there = |member: &Running| member.applied().epoch() >= 2;
        members.iter().all(is_there).then_some(())
    });
}
