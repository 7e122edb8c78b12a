use super::played::{Played, entry, snapshot};
use super::wired::{Wired, WiredEffect};
use super::*;
use crate::proto::peer::PeerState;
use crate::proto::peer::learner::LearnerInfo;
use crate::txn::golden::hex;
use crate::types::{Epoch, Zxid};
use crate::zab::election::{Candidate, FINALIZE_OURS_MS};
use crate::zab::{Pair, QUEUE_BYTES_MAX, Quorum, Settings};
use proptest::collection::vec;
use proptest::prelude::*;

const PATIENCE: Patience = Patience {
    init_ms: 400,
    sync_ms: 200,
    ping_ms: 20,
};
const MAX: usize = 1 << 20;

fn address(text: &str) -> Address {
    let (host, port) = text.rsplit_once(':').unwrap();
    Address::new(host, port.parse().unwrap()).unwrap()
}

fn from(n: u8) -> IpAddr {
    [10, 0, 0, n].into()
}

/// Voters 1 to n and observers behind them, each at 127.0.0.1 with ports of its own.
fn network(servers: i64) -> Network {
    let of = |port: i64| vec![address(&format!("127.0.0.1:{port}"))];
    let servers = (1..=servers).map(|sid| {
        let addresses = Addresses {
            quorum: of(2880 + sid),
            election: of(3880 + sid),
        };
        (ServerId(sid), addresses)
    });
    Network {
        servers: servers.collect(),
        is_multi_address: false,
        dial_ms: 1000,
        packet_max: MAX,
    }
}

fn settings(me: i64, voters: i64) -> Settings {
    Settings {
        candidate: Candidate {
            sid: ServerId(me),
            is_observer: me > voters,
            finalize_ms: FINALIZE_OURS_MS,
        },
        patience: PATIENCE,
        pair: Pair::of(Quorum::majority(Zxid::ZERO, (1..=voters).map(ServerId)).unwrap()),
        observers: BTreeSet::new(),
        config: Vec::from(b"version=0").into(),
    }
}

/// A member and its owner.
struct One {
    wired: Wired,
    owner: Played,
    now: Tick,
    /// What it has asked of the sockets.
    asked: Vec<WiredEffect>,
}

impl One {
    fn begin(me: i64, voters: i64, network: Network) -> One {
        let owner = Played::new();
        let wired = Wired::begin(settings(me, voters), network, owner.beginning(), Tick(0));
        let mut one = One {
            wired,
            owner,
            now: Tick(0),
            asked: Vec::new(),
        };
        one.work();
        one
    }

    /// The only voter leads at once.
    fn leader(network: Network) -> One {
        let mut one = One::begin(1, 1, network);
        one.wait(PATIENCE.sync_ms);
        assert!(one.owner.serving.is_some());
        one
    }

    fn work(&mut self) {
        let asked = self.owner.work(&mut self.wired, self.now);
        self.asked.extend(asked);
    }

    fn wait(&mut self, ms: u64) {
        for _ in 0..ms {
            self.now = self.now.after(1);
            self.wired.tick(self.now);
            self.work();
        }
    }

    fn accept(&mut self, port: Port, from: IpAddr) -> LinkId {
        let link = self.wired.peers.accepted(port, from, self.now);
        self.work();
        link.expect("somebody listens")
    }

    fn receive(&mut self, link: LinkId, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let n = self.wired.peers.room(link).min(bytes.len());
            if n == 0 {
                return;
            }
            self.wired.peers.received(link, &bytes[..n]);
            self.work();
            bytes = &bytes[n..];
        }
    }

    /// What a socket with room for so much is given.
    fn take(&mut self, link: LinkId, max: usize) -> Vec<u8> {
        let mut taken = Vec::new();
        loop {
            let bytes = self.wired.output(link, self.now);
            let n = bytes.len().min(max - taken.len());
            taken.extend_from_slice(&bytes[..n]);
            let is_all = n == bytes.len();
            if bytes.is_empty() {
                return taken;
            }
            self.wired.peers.sent(link, n, self.now);
            self.work();
            if !is_all {
                return taken;
            }
        }
    }

    fn is_open(&self, link: LinkId) -> bool {
        self.wired.peers.connections.contains_key(&link)
    }

    fn why(&self, link: LinkId) -> Option<Closed> {
        self.asked.iter().find_map(|asked| match asked {
            WiredEffect::Close(of, why) if *of == link => Some(why.expect("a reason")),
            _ => None,
        })
    }

    /// Of those that were not decided.
    fn dials(&mut self) -> Vec<(LinkId, String)> {
        let asked = std::mem::take(&mut self.asked);
        let dials = asked.into_iter().filter_map(|asked| match asked {
            WiredEffect::Dial { link, to } => Some((link, to.to_string())),
            _ => None,
        });
        dials.collect()
    }
}

fn hello(sid: i64) -> Vec<u8> {
    Hello::encode(ServerId(sid), &[address("10.9.9.9:7")], false).unwrap()
}

fn introduction(sid: i64) -> Vec<u8> {
    let mut bytes = Vec::new();
    let info = LearnerInfo {
        sid: ServerId(sid),
        config_version: Some(Zxid::ZERO),
        capabilities: None,
    };
    let packet = ToLeader::Info {
        is_observer: true,
        accepted: Epoch(0),
        info,
    };
    packet.encode_into(&mut bytes);
    bytes
}

fn promise(last: Zxid) -> Vec<u8> {
    let mut bytes = Vec::new();
    let current = Some(Epoch(0));
    ToLeader::AckEpoch { last, current }.encode_into(&mut bytes);
    bytes
}

// What is said first.

#[test]
fn golden_a_dialler_says_its_hello_and_then_its_vote() {
    let mut one = One::begin(2, 3, network(3));
    let dials = one.dials();
    let [(smaller, to_1), (larger, to_3)] = &dials[..] else {
        panic!("{dials:?}");
    };
    assert_eq!((&to_1[..], &to_3[..]), ("127.0.0.1:3881", "127.0.0.1:3883"));
    for link in [smaller, larger] {
        one.wired.peers.dialled(*link);
        one.work();
    }
    let hello = "ffffffffffff0000 0000000000000002 0000000e 3132372e302e302e313a33383832";
    let vote = "00000035 00000000 0000000000000002 0000000000000000 0000000000000001 \
                0000000000000000 00000002 00000009 76657273696f6e3d30";
    assert_eq!(one.take(*smaller, MAX), hex(&format!("{hello}{vote}")));
    assert!(one.is_open(*smaller));
    // It is dialled back.
    assert_eq!(one.take(*larger, MAX), hex(hello));
    assert!(!one.is_open(*larger));
}

#[test]
fn golden_a_learner_introduces_itself_and_a_leader_offers_its_epoch() {
    let mut leader = One::leader(network(2));
    let link = leader.accept(Port::Quorum, from(2));
    let mut learner = One::begin(2, 1, network(2));
    for (dial, _) in learner.dials() {
        learner.wired.peers.dialled(dial);
        learner.work();
        // A quorum of one says that it leads.
        let vote = "00000035 00000002 0000000000000001 0000000000000000 0000000000000001 \
                    0000000000000001 00000002 00000009 76657273696f6e3d30";
        let there = learner.take(dial, MAX);
        assert!(!there.is_empty());
        learner.receive(dial, &hex(vote));
    }
    let dials = learner.dials();
    let [(dial, to)] = &dials[..] else {
        panic!("{dials:?}");
    };
    assert_eq!(to, "127.0.0.1:2881");
    learner.wired.peers.dialled(*dial);
    learner.work();
    let said = learner.take(*dial, MAX);
    let due =
        "00000010 0000000000000000 00000014 0000000000000002 00010000 0000000000000000 ffffffff";
    assert_eq!(said, hex(due));
    leader.receive(link, &said);
    let due = "00000011 0000000100000000 00000004 00010000 ffffffff";
    assert_eq!(leader.take(link, MAX), hex(due));
}

// Who a server without an address of its own is, is said as 3.4 does; no wildcard is announced (known failure 2164).
#[test]
fn a_server_that_listens_everywhere_says_its_id_alone() {
    let mut everywhere = network(2);
    let own = everywhere.servers.get_mut(&ServerId(2)).unwrap();
    own.election = vec![address("0.0.0.0:3882")];
    let mut one = One::begin(2, 2, everywhere.clone());
    let dial = one.dials()[0].0;
    one.wired.peers.dialled(dial);
    one.work();
    assert_eq!(one.take(dial, MAX)[..8], hex("0000000000000002"));
    let own = everywhere.servers.get_mut(&ServerId(2)).unwrap();
    own.election.push(address("10.0.0.2:3882"));
    let first = first_message(ServerId(2), &own.election, true);
    let due = Hello::encode(ServerId(2), &own.election[1..], true).unwrap();
    assert_eq!(*first, due);
}

// Those who do not say who they are.

#[test]
fn of_those_who_do_not_say_who_they_are_the_largest_crowd_gives_way() {
    let mut one = One::leader(network(3));
    let ports = [Port::Election, Port::Quorum];
    let crowd: Vec<LinkId> = (0..UNNAMED_MAX)
        .map(|n| one.accept(ports[n % 2], from(66)))
        .collect();
    let member = one.accept(Port::Election, from(2));
    assert!(!one.is_open(crowd[0]) && one.is_open(crowd[1]));
    assert_eq!(one.why(crowd[0]), Some(Closed::TooManyUnnamed));
    for _ in 0..2 * UNNAMED_MAX {
        one.accept(Port::Quorum, from(66));
    }
    assert!(one.is_open(member));
    assert_eq!(one.wired.peers.connections.len(), UNNAMED_MAX);
    one.receive(member, &hello(3));
    assert!(one.is_open(member), "it has said it, and is what it was");
    assert_eq!(one.wired.peers.unnamed.len(), UNNAMED_MAX - 1);
}

#[test]
fn who_does_not_say_in_time_who_it_is_ends_and_never_holds_more_than_that_takes() {
    let mut one = One::leader(network(3));
    for (port, first, until) in [
        (Port::Election, hello(3), PATIENCE.sync_ms),
        (Port::Quorum, introduction(3), PATIENCE.init_ms),
    ] {
        let link = one.accept(port, from(9));
        one.receive(link, &first[..first.len() - 1]);
        one.wait(until - 1);
        assert!(one.is_open(link), "{port:?}");
        one.wait(1);
        assert_eq!(one.why(link), Some(Closed::Unnamed), "{port:?}");
    }
    // More than the longest introduction is never received from it.
    let link = one.accept(Port::Quorum, from(9));
    one.receive(link, &hex("0000000b 0000000000000000 00000101"));
    assert!(matches!(one.why(link), Some(Closed::Packet(_))));
    let link = one.accept(Port::Quorum, from(9));
    let mut ping = Vec::new();
    ToLeader::Ack(Zxid(1)).encode_into(&mut ping);
    one.receive(link, &ping);
    assert!(matches!(one.why(link), Some(Closed::NotIntroduced(_))));
    let link = one.accept(Port::Election, from(9));
    assert!(one.wired.peers.room(link) <= HELLO_MAX);
    one.receive(link, &hex("ffffffffffff0001 0000000000000007 00000801"));
    assert!(matches!(one.why(link), Some(Closed::Hello(_))));
}

// Strangers.

#[test]
fn strangers_have_places_of_their_own_and_members_have_theirs() {
    let mut one = One::leader(network(3));
    let strangers: Vec<LinkId> = (0..=STRANGERS_MAX as i64)
        .map(|n| {
            let (port, first) = match n % 2 {
                0 => (Port::Quorum, introduction(100 + n)),
                _ => (Port::Election, hello(100 + n)),
            };
            let link = one.accept(port, from(n as u8));
            one.receive(link, &first);
            link
        })
        .collect();
    let last = strangers[STRANGERS_MAX];
    assert_eq!(one.why(last), Some(Closed::TooManyStrangers));
    assert!(
        strangers[..STRANGERS_MAX]
            .iter()
            .all(|link| one.is_open(*link))
    );
    for (port, first) in [(Port::Quorum, introduction(2)), (Port::Election, hello(3))] {
        let member = one.accept(port, from(2));
        one.receive(member, &first);
        assert!(one.is_open(member), "{port:?}");
    }
}

#[test]
fn the_unparsed_bytes_of_strangers_are_bounded_together() {
    let mut one = One::leader(network(3));
    let frame = notification::FRAME_MAX;
    let mut begun = (frame as u32).to_be_bytes().to_vec();
    begun.extend(vec![0; frame - 1]);
    let fit = STRANGERS_INPUT_MAX / begun.len();
    let mut links = Vec::new();
    for n in 0..=fit as i64 {
        let link = one.accept(Port::Election, from(1));
        one.receive(link, &hello(100 + n));
        one.receive(link, &begun);
        links.push(link);
    }
    assert_eq!(one.why(links[fit]), Some(Closed::TooMuchOfStrangers));
    assert!(links[..fit].iter().all(|link| one.is_open(*link)));
    let all = one.wired.peers.connections.values();
    let bytes: usize = all.map(|connection| connection.input.len()).sum();
    assert!(bytes <= STRANGERS_INPUT_MAX);
    // A member's does not count there.
    let member = one.accept(Port::Election, from(2));
    one.receive(member, &hello(2));
    one.receive(member, &begun);
    assert!(one.is_open(member));
}

#[test]
fn dials_to_strangers_are_bounded_and_a_member_is_dialled_all_the_same() {
    let mut one = One::begin(200, 3, {
        let mut network = network(3);
        network.servers.insert(ServerId(200), Addresses::default());
        network
    });
    let due = one.dials().len();
    assert_eq!(due, 3);
    for n in 0..=STRANGERS_DIALLED_MAX as i64 {
        let link = one.accept(Port::Election, from(1));
        one.receive(link, &hello(100 + n));
    }
    assert_eq!(one.dials().len(), STRANGERS_DIALLED_MAX);
    let dials: Vec<LinkId> = one.wired.peers.dials.keys().copied().collect();
    for dial in &dials[..due] {
        one.wired.peers.dial_failed(*dial, one.now);
        one.work();
    }
    // The next proposal dials again.
    one.wait(300);
    assert!(one.dials().len() >= due);
}

#[test]
fn the_addresses_of_a_server_are_tried_in_turn_and_each_has_its_time() {
    let mut network = network(2);
    let other = network.servers.get_mut(&ServerId(1)).unwrap();
    other.election.push(address("10.0.0.1:3881"));
    let mut one = One::begin(2, 2, network);
    let dials = one.dials();
    assert_eq!(dials[0].1, "127.0.0.1:3881");
    one.wired.peers.dial_failed(dials[0].0, one.now);
    one.work();
    let dials = one.dials();
    assert_eq!(dials[0].1, "10.0.0.1:3881");
    one.wait(499);
    assert_eq!(one.why(dials[0].0), None);
    one.wait(1);
    assert_eq!(one.why(dials[0].0), Some(Closed::NoAnswer));
    // What comes up afterwards is nobody's.
    one.wired.peers.dialled(dials[0].0);
    one.work();
    assert!(!one.is_open(dials[0].0));
    // An announced one comes first.
    one.wait(3000);
    one.dials();
    let busy: Vec<LinkId> = one.wired.peers.dials.keys().copied().collect();
    for dial in busy {
        one.wired.peers.dial_failed(dial, one.now);
        one.work();
        for (dial, _) in one.dials() {
            one.wired.peers.dial_failed(dial, one.now);
            one.work();
        }
    }
    let link = one.accept(Port::Election, from(1));
    one.receive(link, &hello(1));
    let dials = one.dials();
    assert_eq!(dials[0].1, "10.9.9.9:7");
}

// Connections that stand still.

#[test]
fn a_message_that_does_not_end_and_output_that_nobody_takes_end_their_connection() {
    let mut one = One::leader(network(3));
    let link = one.accept(Port::Election, from(2));
    one.receive(link, &hello(2));
    // A silent election port is no fault.
    one.wait(10 * PATIENCE.init_ms);
    assert!(one.is_open(link));
    one.receive(link, &hex("00000028 00"));
    one.wait(PATIENCE.sync_ms);
    assert_eq!(one.why(link), Some(Closed::Unfinished));

    let link = one.accept(Port::Election, from(2));
    one.receive(link, &hello(3));
    let looking = "00000028 00000000 0000000000000003 0000000000000000 0000000000000009 0000000000000000 00000001";
    one.receive(link, &hex(looking));
    // No voter asks: it is told who leads. The socket takes one byte of it.
    assert_eq!(one.take(link, 1).len(), 1);
    one.wait(PATIENCE.sync_ms - 1);
    assert!(one.is_open(link));
    one.wired.peers.writable(link);
    assert_eq!(one.take(link, 1).len(), 1);
    one.wait(PATIENCE.sync_ms - 1);
    assert!(one.is_open(link), "it has taken something");
    one.wait(1);
    assert_eq!(one.why(link), Some(Closed::Stuck));
}

#[test]
fn what_a_leader_does_not_take_of_its_learner_is_bounded() {
    let mut one = follower();
    let link = one.wired.peer.leader().unwrap();
    let body = vec![0; MAX];
    let request = ToLeader::Request(crate::proto::peer::learner::Forwarded {
        session: crate::types::SessionId(1),
        cxid: 1,
        op: crate::types::OpCode::CREATE,
        body: &body,
        ids: None,
    });
    let mut sent = 0;
    while one.is_open(link) {
        assert!(one.wired.pass_on(&request, one.now));
        sent += body.len();
        assert!(sent <= UNSENT_MAX + 2 * body.len());
    }
    one.work();
    assert_eq!(one.why(link), Some(Closed::Slow));
    assert_eq!(one.wired.peer.doing(), PeerState::Looking);
    assert!(!one.wired.pass_on(&request, one.now));
}

/// Server 2, connected to a leader that is played.
fn follower() -> One {
    let mut one = One::begin(2, 1, network(2));
    let vote = "00000035 00000002 0000000000000001 0000000000000000 0000000000000001 \
                0000000000000001 00000002 00000009 76657273696f6e3d30";
    let dial = one.dials()[0].0;
    one.wired.peers.dialled(dial);
    one.work();
    one.receive(dial, &hex(vote));
    let dial = one.dials()[0].0;
    one.wired.peers.dialled(dial);
    one.work();
    one.take(dial, MAX);
    one.receive(
        dial,
        &hex("00000011 0000000100000000 00000004 00010000 ffffffff"),
    );
    one.take(dial, MAX);
    one
}

// A learner is synchronised.

/// A leader with so many transactions, and a learner that has come.
fn leader_with(transactions: usize, body: usize, last: Zxid) -> (One, LinkId) {
    let mut one = One::leader(network(2));
    for _ in 0..transactions {
        assert!(one.owner.propose(&mut one.wired, &vec![7; body], one.now));
        one.work();
    }
    one.owner.piece = 2;
    let link = one.accept(Port::Quorum, from(2));
    one.receive(link, &introduction(2));
    one.take(link, MAX);
    one.receive(link, &promise(last));
    (one, link)
}

/// Types and zxids.
fn packets(mut bytes: &[u8]) -> Vec<(i32, Zxid)> {
    let mut packets = Vec::new();
    while let Ok(Split::Whole(packet, used)) = split(bytes, MAX) {
        packets.push((packet.kind.0, packet.zxid));
        bytes = &bytes[used..];
    }
    assert!(bytes.is_empty());
    packets
}

#[test]
fn a_learner_gets_what_it_lacks_from_memory_or_in_pieces_from_the_log() {
    // In the leader's memory.
    let (mut one, link) = leader_with(3, 10, Zxid::new(1, 1));
    let due = [
        (13, Zxid::new(1, 3)),
        (2, Zxid::new(1, 2)),
        (4, Zxid::new(1, 2)),
        (2, Zxid::new(1, 3)),
        (4, Zxid::new(1, 3)),
        (10, Zxid::new(1, 0)),
    ];
    assert_eq!(packets(&one.take(link, MAX)), due);
    // Only on its disk.
    let n = 200;
    let (mut one, link) = leader_with(n, 100_000, Zxid::ZERO);
    let mut got = Vec::new();
    loop {
        let taken = one.take(link, MAX);
        let waits = one.wired.peers.connections[&link].output.len();
        assert!(waits <= PIECE + 2 * 100_100, "{waits}");
        if taken.is_empty() {
            break;
        }
        got.extend(taken);
        one.wired.peers.writable(link);
    }
    let got = packets(&got);
    assert_eq!(got.len(), 2 + 2 * n);
    assert_eq!((got[0].0, got[2 * n + 1].0), (13, 10));
}

#[test]
fn a_snapshot_is_sent_in_pieces_as_the_socket_takes_them() {
    let (mut one, link) = leader_with(200, 5000, Zxid(-1));
    one.owner.piece = STREAM_PIECE;
    let due = snapshot(&one.owner.history);
    assert!(due.len() > 3 * STREAM_PIECE);
    let first = one.take(link, 20);
    assert_eq!(packets(&first), [(15, Zxid::new(1, 200))]);
    let mut got = Vec::new();
    while got.len() < due.len() {
        let waits = one.wired.peers.connections[&link].output.len();
        assert!(waits <= PIECE + STREAM_PIECE, "{waits}");
        one.wired.peers.writable(link);
        let more = (due.len() - got.len()).min(1000);
        got.extend(one.take(link, more));
    }
    assert_eq!(got, due);
    one.wired.peers.writable(link);
    assert_eq!(packets(&one.take(link, MAX)), [(10, Zxid::new(1, 0))]);
}

#[test]
fn a_learner_that_takes_nothing_of_its_stream_ends_and_the_leader_keeps_no_more_for_it() {
    let (mut one, link) = leader_with(1, 10, Zxid(-1));
    assert_eq!(one.take(link, 10).len(), 10);
    for _ in 0..100 {
        one.owner
            .propose(&mut one.wired, &vec![7; 100_000], one.now);
        one.work();
        let waits = one.wired.peers.connections[&link].output.len();
        assert!(waits <= PIECE + STREAM_PIECE);
    }
    one.wait(PATIENCE.init_ms + PATIENCE.sync_ms);
    assert!(!one.is_open(link));
}

#[test]
fn a_learner_that_falls_behind_ends_at_the_bound_of_its_queue() {
    let (mut one, link) = leader_with(1, 10, Zxid::new(1, 1));
    one.take(link, MAX);
    let mut ack = Vec::new();
    ToLeader::Ack(Zxid::new(1, 0)).encode_into(&mut ack);
    one.receive(link, &ack);
    assert_eq!(packets(&one.take(link, MAX)).last(), Some(&(12, Zxid(-1))));
    let mut kept = 0;
    while one.is_open(link) {
        one.owner
            .propose(&mut one.wired, &vec![7; 500_000], one.now);
        one.work();
        kept += 500_000;
        assert!(kept <= QUEUE_BYTES_MAX + 1_000_000);
    }
    let why = one.why(link);
    assert!(matches!(why, Some(Closed::Dropped(_))), "{why:?}");
}

#[test]
fn what_can_not_be_read_for_a_learner_ends_its_connection() {
    let empty = Piece::Snapshot {
        bytes: Vec::new(),
        is_last: false,
    };
    for piece in [Piece::Lost, empty] {
        let (mut one, link) = leader_with(200, 5000, Zxid(-1));
        // One that nobody has asked for is none.
        one.wired.peers.piece(link, piece.clone());
        one.work();
        assert!(one.is_open(link));
        let connection = one.wired.peers.connections.get_mut(&link).unwrap();
        match &mut connection.stage {
            Stage::Learner { sending, .. } => *sending = Some(Sending { is_asked: true }),
            other => panic!("{other:?}"),
        }
        one.wired.peers.piece(link, piece);
        one.work();
        assert_eq!(one.why(link), Some(Closed::Lost));
    }
}

// This member is synchronised.

#[test]
fn a_snapshot_comes_in_pieces_and_no_more_than_the_owner_takes() {
    let mut one = follower();
    let link = one.wired.peer.leader().unwrap();
    let history: Vec<_> = (1..=100)
        .map(|n| (Zxid::new(1, n), entry(Zxid::new(1, n), &[0; 3000])))
        .collect();
    let mut bytes = Vec::new();
    ToLearner::Snap(Zxid::new(1, 100)).encode_into(&mut bytes);
    bytes.extend(snapshot(&history));
    let zxid = Zxid::new(1, 0);
    ToLearner::NewLeader { zxid, config: None }.encode_into(&mut bytes);
    // What the owner has not kept stays in the kernel.
    let room = one.wired.peers.room(link);
    one.wired.peers.received(link, &bytes[..room]);
    let mut pieces = 0;
    while let Some(effect) = one.wired.poll(one.now) {
        pieces += usize::from(matches!(effect, WiredEffect::SnapshotBytes { .. }));
    }
    assert_eq!((pieces, one.wired.peers.room(link)), (1, 0));
    one.wired.peers.received(link, &bytes[room..2 * room]);
    assert!(one.wired.poll(one.now).is_none(), "nothing is taken of it");

    let mut one = follower();
    let link = one.wired.peer.leader().unwrap();
    one.receive(link, &bytes);
    assert_eq!(one.owner.history, history);
    let said = packets(&one.take(link, MAX));
    assert_eq!(said.last(), Some(&(3, zxid)), "{said:?}");
}

// Anything at all.

#[derive(Clone, Debug)]
enum Event {
    Accept(Port, u8),
    /// Of a list of first messages and others, with a byte changed.
    Receive(usize, usize, usize, u8),
    Noise(usize, Vec<u8>),
    Take(usize, usize),
    Close(usize),
    Dial(usize, bool),
    Wait(u64),
    Hold(usize, bool),
}

fn any_event() -> impl Strategy<Value = Event> {
    let port = prop_oneof![Just(Port::Election), Just(Port::Quorum)];
    let number = prop_oneof![Just(0u8), Just(0xff), any::<u8>()];
    prop_oneof![
        4 => (port, any::<u8>()).prop_map(|(port, from)| Event::Accept(port, from)),
        12 => (any::<usize>(), any::<usize>(), any::<usize>(), number)
            .prop_map(|(link, what, at, byte)| Event::Receive(link, what, at, byte)),
        2 => (any::<usize>(), vec(any::<u8>(), 0..100)).prop_map(|(link, bytes)| Event::Noise(link, bytes)),
        4 => (any::<usize>(), 0..3000usize).prop_map(|(link, max)| Event::Take(link, max)),
        1 => any::<usize>().prop_map(Event::Close),
        4 => (any::<usize>(), any::<bool>()).prop_map(|(dial, up)| Event::Dial(dial, up)),
        2 => (0..100u64).prop_map(Event::Wait),
        1 => (any::<usize>(), any::<bool>()).prop_map(|(link, held)| Event::Hold(link, held)),
    ]
}

/// What somebody may say, whole.
fn messages() -> Vec<Vec<u8>> {
    let mut all = vec![hello(1), hello(3), hello(77), hello(i64::MAX)];
    all.extend([
        introduction(3),
        introduction(77),
        promise(Zxid(0)),
        promise(Zxid(-1)),
    ]);
    for state in 0..4u8 {
        let vote = format!(
            "00000035 000000{state:02x} 0000000000000003 0000000100000001 0000000000000001 \
             0000000000000001 00000002 00000009 76657273696f6e3d30"
        );
        all.push(hex(&vote));
    }
    let zxid = Zxid::new(1, 1);
    let of_epoch = Zxid::new(1, 0);
    let entry = entry(zxid, b"x");
    for packet in [
        ToLearner::LeaderInfo {
            epoch: Epoch(1),
            capabilities: None,
        },
        ToLearner::Diff(zxid),
        ToLearner::Snap(zxid),
        ToLearner::Proposal {
            zxid,
            entry: &entry,
        },
        ToLearner::Commit(zxid),
        ToLearner::NewLeader {
            zxid: of_epoch,
            config: None,
        },
        ToLearner::UpToDate,
        ToLearner::Ping(zxid),
        ToLearner::Sync,
    ] {
        let mut bytes = Vec::new();
        packet.encode_into(&mut bytes);
        all.push(bytes);
    }
    for packet in [ToLeader::Ack(zxid), ToLeader::Ack(of_epoch)] {
        let mut bytes = Vec::new();
        packet.encode_into(&mut bytes);
        all.push(bytes);
    }
    all.push(snapshot(&[(zxid, entry)]));
    all
}

fn happens(one: &mut One, links: &mut Vec<LinkId>, said: &[Vec<u8>], event: Event) {
    let of = |links: &[LinkId], n: usize| links.get(n % links.len().max(1)).copied();
    match event {
        Event::Accept(port, n) => {
            links.extend(one.wired.peers.accepted(port, from(n), one.now));
            one.work();
        }
        Event::Receive(link, what, at, byte) => {
            let Some(link) = of(links, link) else { return };
            let mut bytes = said[what % said.len()].clone();
            // Most are left whole.
            let at = at % (8 * bytes.len());
            if let Some(there) = bytes.get_mut(at) {
                *there = byte;
            }
            one.receive(link, &bytes);
        }
        Event::Noise(link, bytes) => {
            let Some(link) = of(links, link) else { return };
            one.receive(link, &bytes);
        }
        Event::Take(link, max) => {
            let Some(link) = of(links, link) else { return };
            one.wired.peers.writable(link);
            one.take(link, max);
        }
        Event::Close(link) => {
            let Some(link) = of(links, link) else { return };
            one.wired.peers.closed(link);
            one.work();
        }
        Event::Dial(dial, up) => {
            let dials: Vec<LinkId> = one.wired.peers.dials.keys().copied().collect();
            let Some(dial) = of(&dials, dial) else { return };
            match up {
                true => {
                    one.wired.peers.dialled(dial);
                    links.push(dial);
                }
                false => one.wired.peers.dial_failed(dial, one.now),
            }
            one.work();
        }
        Event::Wait(ms) => one.wait(ms),
        Event::Hold(link, held) => {
            let Some(link) = of(links, link) else { return };
            one.wired.peers.hold(link, held);
            one.work();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    // A member alone, which leads, or one of three, which looks and follows whom it is told to.
    #[test]
    fn any_bytes_to_any_port_end_connections_and_nothing_else(
        voters in prop_oneof![Just(1i64), Just(3)],
        events in vec(any_event(), 1..200),
    ) {
        let mut one = One::begin(if voters == 1 { 1 } else { 2 }, voters, network(3));
        let (mut links, said) = (Vec::new(), messages());
        for event in events {
            happens(&mut one, &mut links, &said, event);
            let peers = &one.wired.peers;
            prop_assert!(peers.unnamed.len() <= UNNAMED_MAX);
            prop_assert!(peers.told.is_empty() && peers.out.is_empty() && peers.readable.is_empty());
            for connection in peers.connections.values() {
                prop_assert!(connection.input.len() <= MAX);
                prop_assert!(connection.output.len() <= PIECE + STREAM_PIECE);
            }
        }
    }
}
