use super::*;
use crate::peers::played::Played;
use crate::peers::{Addresses, Network};
use crate::rt::clock::Clock;
use crate::rt::ring::{Features, Happened};
use crate::types::{ServerId, Zxid};
use crate::zab::election::{Candidate, FINALIZE_OURS_MS};
use crate::zab::{Duty, Pair, Patience, Quorum, Settings};
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
    committed: Zxid,
}

struct Member {
    seen: Arc<Mutex<Seen>>,
    /// So many transactions are to be proposed, if it leads.
    wanted: Arc<Mutex<usize>>,
    stops: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Member {
    fn start(sid: i64, network: Network, ports: Ports) -> Member {
        let mut member = Member {
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

    fn committed(&self) -> Zxid {
        self.seen.lock().unwrap().committed
    }
}

impl Drop for Member {
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

fn run(
    sid: i64,
    network: Network,
    ports: Ports,
    seen: &Mutex<Seen>,
    wanted: &Mutex<usize>,
    stops: &AtomicBool,
) {
    let (clock, mut owner) = (Clock::default(), Played::new());
    let bell = Bell::new().unwrap();
    let mut ring = Ring::new(Features::Auto, bell.clone()).unwrap();
    let peers = Peers::begin(settings(sid), network, owner.beginning(), clock.now().tick);
    let patience = Duration::from_millis(PATIENCE.sync_ms);
    let mut sockets = PeerSockets::new(peers, ports, bell, patience, &mut ring).unwrap();
    let mut again = true;
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
        let now = clock.now().tick;
        let work = |sockets: &mut PeerSockets, owner: &mut Played, ring: &mut Ring| {
            loop {
                let effects = owner.work(sockets.peers(), now);
                if effects.is_empty() {
                    return;
                }
                for effect in effects {
                    assert!(sockets.does(effect, ring, now).is_none());
                }
            }
        };
        work(&mut sockets, &mut owner, &mut ring);
        let mut is_all_told = false;
        for _ in 0..STEPS_PER_TURN {
            is_all_told = !sockets.step(&mut ring, now);
            if is_all_told {
                break;
            }
            work(&mut sockets, &mut owner, &mut ring);
        }
        sockets.tick(&mut ring, now, is_all_told);
        work(&mut sockets, &mut owner, &mut ring);
        let mut wanted = wanted.lock().unwrap();
        if *wanted > 0 && owner.propose(sockets.peers(), &[7; 1000], now) {
            *wanted -= 1;
            work(&mut sockets, &mut owner, &mut ring);
        }
        again = sockets.send(now) || sockets.has_more() || *wanted > 0;
        work(&mut sockets, &mut owner, &mut ring);
        let mut seen = seen.lock().unwrap();
        (seen.serving, seen.committed) = (owner.serving, owner.committed);
    }
}

// What waits in sockets after a pause is told before anybody is given up for it.
#[test]
fn time_passes_behind_what_has_happened_or_a_quarter_of_the_patience_later() {
    let bell = Bell::new().unwrap();
    let mut ring = Ring::new(Features::Auto, bell.clone()).unwrap();
    let settings = settings(1);
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
    let peers = Peers::begin(settings, network, Played::new().beginning(), Tick(0));
    let patience = Duration::from_millis(400);
    let mut sockets = PeerSockets::new(peers, ports, bell, patience, &mut ring).unwrap();
    let mut passes = |now, is_all_told| sockets.tick(&mut ring, Tick(now), is_all_told);
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
    let mut members: Vec<Member> = (1..=3)
        .map(|sid| Member::start(sid, network.clone(), ports.remove(0)))
        .collect();
    wait_for("three serve", || {
        members
            .iter()
            .all(|member| member.serves().is_some())
            .then_some(())
    });
    let leader = members.iter().position(Member::leads).expect("one leads");
    *members[leader].wanted.lock().unwrap() = 500;
    wait_for("all have committed", || {
        let all = members
            .iter()
            .all(|member| member.committed().counter() >= 500);
        all.then_some(())
    });
    drop(members.remove(leader));
    wait_for("another one leads", || {
        let served = members.iter().filter_map(Member::serves);
        (served.count() == 2 && members.iter().any(Member::leads)).then_some(())
    });
    let leader = members.iter().position(Member::leads).unwrap();
    *members[leader].wanted.lock().unwrap() = 1;
    wait_for("both have committed", || {
        let all = members
            .iter()
            .all(|member| member.committed() == Zxid::new(2, 1));
        all.then_some(())
    });
}
