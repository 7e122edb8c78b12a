//! A serving core over queues: whose turn it is, what ends a connection, what is given back.

mod hanging;
mod silence;

use super::intake::LOOKS_OF_AN_END;
use super::*;
use crate::budget::Budget;
use crate::log::LogConfig;
use crate::member::{Member, MemberConfig};
use crate::messages::{Committed, Origin, ShardRequest, ToShards};
use crate::pipeline::PipelineConfig;
use crate::shard::{ClientAddress, ShardConfig};
use crate::sim::disk::SimStorage;
use crate::snapshot::Rebuilding;
use crate::tree::{Overlay, PrepareContext, Rules, SessionState};
use crate::txn::WriteRequest;
use crate::txn::entry::DATA_PER_STEP;
use crate::txn::jute::Put;
use crate::types::{ConnId, Generation, Now, SessionId, ShardId, Tick, WallMs, Zxid};
use std::collections::{BTreeMap, VecDeque};

/// The kernel's end of one socket.
#[derive(Debug, Default)]
struct Kernel {
    /// Bytes that the client has sent.
    inbound: VecDeque<u8>,
    /// The client has closed its direction.
    ended: bool,
    /// Bytes that the server has sent.
    outbound: Vec<u8>,
    /// How much more the kernel takes.
    window: usize,
    /// The connection is gone: every write fails.
    gone: bool,
    /// What the kernel still holds, as it says.
    unacknowledged: usize,
}

#[derive(Debug, Default)]
struct Net {
    open: BTreeMap<SocketId, Kernel>,
    /// Connections that wait to be accepted.
    backlog: usize,
    closed: Vec<SocketId>,
    words: Vec<([u8; 4], Vec<u8>)>,
    /// Order in which sockets were read.
    reads: Vec<SocketId>,
    /// What sockets took, in order.
    writes: Vec<(SocketId, usize)>,
    exhausted: bool,
    /// Connections that were handed over and not adopted yet.
    handed_over: usize,
    /// Not every socket is watched.
    is_behind: bool,
}

impl Sockets for Net {
    fn accept(&mut self, id: SocketId) -> Accepted {
        if self.exhausted {
            return Accepted::Exhausted;
        }
        if self.backlog == 0 {
            return Accepted::Nobody;
        }
        self.backlog -= 1;
        self.insert(id);
        Accepted::Connection(address())
    }

    fn waiting_max(&self) -> usize {
        self.backlog
    }

    fn handed_over(&self) -> usize {
        self.handed_over
    }

    fn has_told_all(&self) -> bool {
        !self.is_behind
    }

    fn read(&mut self, id: SocketId, buffer: &mut [u8]) -> Read {
        self.reads.push(id);
        let kernel = self
            .open
            .get_mut(&id)
            .expect("nobody reads a closed socket");
        let n = buffer.len().min(kernel.inbound.len());
        for (to, from) in buffer.iter_mut().zip(kernel.inbound.drain(..n)) {
            *to = from;
        }
        match n {
            0 if kernel.ended => Read::End,
            0 => Read::Nothing,
            n if n == buffer.len() => Read::More(n),
            n => Read::All(n),
        }
    }

    fn write(&mut self, id: SocketId, bytes: &[u8]) -> Wrote {
        let kernel = self
            .open
            .get_mut(&id)
            .expect("nobody writes to a closed socket");
        let n = bytes.len().min(kernel.window);
        if kernel.gone {
            return Wrote::Gone;
        }
        if n == 0 {
            return Wrote::Nothing;
        }
        kernel.window -= n;
        self.writes.push((id, n));
        kernel.outbound.extend_from_slice(&bytes[..n]);
        Wrote::Bytes(n)
    }

    fn unacknowledged(&mut self, id: SocketId) -> usize {
        self.open[&id].unacknowledged
    }

    fn close(&mut self, id: SocketId) {
        assert!(self.open.remove(&id).is_some(), "a socket is closed once");
        self.closed.push(id);
    }

    fn word(&mut self, id: SocketId, word: [u8; 4], behind: &[u8]) {
        assert!(self.open.remove(&id).is_some(), "an open socket");
        self.words.push((word, behind.to_vec()));
    }
}

impl Net {
    fn insert(&mut self, id: SocketId) {
        let kernel = Kernel {
            window: usize::MAX,
            ..Kernel::default()
        };
        assert!(self.open.insert(id, kernel).is_none(), "a fresh id");
    }
}

fn address() -> ClientAddress {
    ClientAddress {
        address: "127.0.0.1".into(),
        port: 50_000,
    }
}

struct World {
    core: ServingCore<SimStorage>,
    net: Net,
    now: Now,
}

impl World {
    fn new() -> World {
        World::with(Budgets::DEFAULT)
    }

    fn with(budgets: Budgets) -> World {
        World::with_memory(budgets, ShardConfig::new(ShardId(0)).request_bytes_max)
    }

    /// With so many bytes for requests.
    fn with_memory(budgets: Budgets, request_bytes_max: usize) -> World {
        let disk = SimStorage::new(1 << 30);
        let now = Now {
            tick: Tick(1000),
            micros: 1_000_000,
            wall: WallMs(1_700_000_000_000),
        };
        let config = MemberConfig {
            pipeline: PipelineConfig::new(Rules::default()),
            log: LogConfig {
                segment_bytes: 8 << 20,
            },
            snapshot_records: u64::MAX / 4,
            snapshots_kept: None,
            snapshot_memory: 1 << 20,
        };
        let mut identity = 1;
        let identities = Box::new(move || {
            identity += 1;
            identity
        });
        let started = Member::start(
            config,
            &disk,
            &disk,
            identities,
            now,
            &mut Rebuilding::new(|_| {}),
        );
        let (mut member, _) = started.expect("an empty disk");
        member.pipeline.begin_serving(now);
        let shard = ShardConfig {
            request_bytes_max,
            ..ShardConfig::new(ShardId(0))
        };
        let served = Served::Inline(Box::new(Inline::new(member, shard)));
        World {
            core: ServingCore::new(served, budgets, 5000, now),
            net: Net::default(),
            now,
        }
    }

    fn connect(&mut self) -> SocketId {
        let id = self.core.adopt(address(), self.now);
        self.net.insert(id);
        id
    }

    /// A connection with a session.
    fn client(&mut self) -> SocketId {
        let id = self.connect();
        self.send(id, &connect_request(0));
        self.settle();
        assert!(self.replies(id) > 0, "a session");
        id
    }

    fn send(&mut self, id: SocketId, bytes: &[u8]) {
        let kernel = self.net.open.get_mut(&id).expect("open");
        kernel.inbound.extend(bytes);
        self.core.socket_event(id, true, false, false);
    }

    fn end(&mut self, id: SocketId) {
        self.net.open.get_mut(&id).expect("open").ended = true;
        self.core.socket_event(id, true, false, true);
    }

    /// Bytes that a client has received since this was last asked.
    fn replies(&mut self, id: SocketId) -> usize {
        let kernel = self.net.open.get_mut(&id).expect("open");
        std::mem::take(&mut kernel.outbound).len()
    }

    fn turn(&mut self) -> Turned {
        self.now.micros += 10;
        let turned = self.core.turn(false, self.now, &mut self.net, &mut |_| {});
        let Served::Inline(inline) = &mut self.core.served else {
            unreachable!("inline");
        };
        let synced = inline.member.poll_sync().map(|ticket| ticket.run());
        let mut turned = turned.expect("no fault");
        if let Some(outcome) = synced {
            inline.member.synced(outcome, self.now).expect("no fault");
            turned.again = true;
        }
        turned
    }

    fn member(&self) -> &Member<SimStorage> {
        match &self.core.served {
            Served::Inline(inline) => &inline.member,
            Served::Replica(_) => unreachable!("inline"),
        }
    }

    fn settle(&mut self) {
        for _ in 0..10_000 {
            if !self.turn().again {
                return;
            }
        }
        panic!("it never rests");
    }

    /// Time passes, and a tick comes.
    fn tick(&mut self, ms: u64) {
        self.now.tick = self.now.tick.after(ms);
        self.now.micros += ms * 1000;
        let ticked = self.core.turn(true, self.now, &mut self.net, &mut |_| {});
        ticked.expect("no fault");
        self.settle();
    }

    /// Every socket and every connection that was ever there has been given back.
    fn assert_empty(&self) {
        assert!(self.net.open.is_empty(), "open: {:?}", self.net.open);
        assert_eq!(self.core.sockets(), 0, "sockets of the core");
        let stats = self.core.served.shard().stats();
        assert_eq!((stats.connections, stats.in_flight), (0, 0));
    }
}

fn frame(body: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    body(&mut bytes);
    let len = bytes.len() as i32 - 4;
    bytes[..4].copy_from_slice(&len.to_be_bytes());
    bytes
}

fn connect_request(last_zxid: i64) -> Vec<u8> {
    frame(|out| {
        out.put_i32(0);
        out.put_i64(last_zxid);
        out.put_i32(10_000);
        out.put_i64(0);
        out.put_buf(Some(&[0; 16]));
        out.put_bool(false);
    })
}

fn ping() -> Vec<u8> {
    frame(|out| {
        out.put_i32(-2);
        out.put_i32(11);
    })
}

fn close_session() -> Vec<u8> {
    frame(|out| {
        out.put_i32(9);
        out.put_i32(-11);
    })
}

fn create(path: &str) -> Vec<u8> {
    create_with(path, b"data")
}

fn create_with(path: &str, data: &[u8]) -> Vec<u8> {
    create_acl(path, data, &[("world", "anyone")])
}

fn create_acl(path: &str, data: &[u8], acl: &[(&str, &str)]) -> Vec<u8> {
    frame(|out| {
        out.put_i32(3);
        out.put_i32(1);
        out.put_str(path);
        out.put_buf(Some(data));
        out.put_len(acl.len());
        for (scheme, id) in acl {
            out.put_i32(31);
            out.put_str(scheme);
            out.put_str(id);
        }
        out.put_i32(0);
    })
}

fn multi_of_sets(path: &str, ops: usize) -> Vec<u8> {
    let header = |out: &mut Vec<u8>, op: i32| {
        out.put_i32(op);
        out.put_bool(op < 0);
        out.put_i32(-1);
    };
    frame(|out| {
        out.put_i32(4);
        out.put_i32(14);
        for _ in 0..ops {
            header(out, 5);
            out.put_str(path);
            out.put_buf(None);
            out.put_i32(-1);
        }
        header(out, -1);
    })
}

/// Of the reply to the create of a path of two characters.
const CREATED: usize = 20 + 4 + 2;
/// Of one ping.
const PONG: usize = 20;

#[test]
fn every_way_in_which_a_connection_can_end_gives_back_what_it_had() {
    type Way = (&'static str, fn(&mut World));
    let ways: [Way; 11] = [
        ("closed before a byte", |w| {
            let id = w.connect();
            w.end(id);
        }),
        ("closed after two bytes", |w| {
            let id = w.connect();
            w.send(id, &[0, 0]);
            w.settle();
            w.end(id);
        }),
        ("silent until the deadline", |w| {
            w.connect();
            w.tick(10_000);
        }),
        ("a first frame that is no ConnectRequest", |w| {
            let id = w.connect();
            w.send(id, &[0, 0, 0, 0]);
        }),
        ("a client that has seen a newer state", |w| {
            let id = w.connect();
            w.send(id, &connect_request(1 << 40));
        }),
        ("a frame that is too long", |w| {
            let id = w.client();
            w.send(id, &i32::MAX.to_be_bytes());
        }),
        ("the client closes", |w| {
            let id = w.client();
            w.end(id);
        }),
        ("the client closes behind requests", |w| {
            let id = w.client();
            w.send(id, &ping().repeat(1000));
            w.end(id);
        }),
        ("closeSession", |w| {
            let id = w.client();
            w.send(id, &close_session());
        }),
        ("the kernel reports an error with output left", |w| {
            let id = w.client();
            w.net.open.get_mut(&id).expect("open").window = 5;
            w.send(id, &ping().repeat(4));
            w.settle();
            w.net.open.get_mut(&id).expect("open").gone = true;
            w.core.socket_event(id, true, true, true);
        }),
        ("the last bytes are never taken", |w| {
            let id = w.client();
            w.net.open.get_mut(&id).expect("open").window = 5;
            w.send(id, &close_session());
            w.settle();
            assert_eq!(w.core.sockets(), 1);
            w.tick(5000);
        }),
    ];
    for (way, end) in ways {
        let mut world = World::new();
        for _ in 0..3 {
            end(&mut world);
            world.settle();
        }
        assert_eq!(world.net.closed.len(), 3, "{way}");
        world.assert_empty();
    }
}

#[test]
fn a_four_letter_word_is_handed_over_once_and_its_slot_is_used_again() {
    let mut world = World::new();
    let id = world.connect();
    world.send(id, b"ru");
    world.settle();
    world.send(id, b"ok\n");
    world.settle();
    assert_eq!(world.net.words, [(*b"ruok", b"\n".to_vec())]);
    world.assert_empty();
    let next = world.connect();
    assert_eq!(next.slot, id.slot);
    assert_ne!(next.generation, id.generation);
    // News of the old socket are nothing to the new one.
    world.core.socket_event(id, true, true, true);
    world.settle();
    assert_eq!(world.core.sockets(), 1);
}

#[test]
fn who_sends_as_fast_as_it_can_has_one_slice_between_two_looks_at_another() {
    let budgets = Budgets {
        slice: Budget::new(8, 1 << 20, 1 << 20),
        ..Budgets::DEFAULT
    };
    let mut world = World::with(budgets);
    let (hot, cool) = (world.client(), world.client());
    world.send(hot, &ping().repeat(1000));
    world.send(cool, &ping().repeat(2));
    world.turn();
    assert_eq!(world.replies(cool), 2 * PONG, "in the first turn");
    world.settle();
    assert_eq!(world.replies(hot), 1000 * PONG, "and nothing is lost");
}

#[test]
fn a_turn_ends_when_its_budget_is_spent() {
    let budgets = Budgets {
        turn: Budget::new(10, 1 << 20, 1 << 20),
        slice: Budget::new(4, 1 << 20, 1 << 20),
        ..Budgets::DEFAULT
    };
    let mut world = World::with(budgets);
    let clients: Vec<_> = (0..4).map(|_| world.client()).collect();
    for &id in &clients {
        world.send(id, &ping().repeat(8));
    }
    assert!(world.turn().again);
    let answered: Vec<_> = clients.iter().map(|&id| world.replies(id) / PONG).collect();
    assert!(answered.iter().sum::<usize>() <= 14, "{answered:?}");
    assert!(answered.iter().all(|&n| n <= 4), "{answered:?}");
    world.settle();
}

#[test]
fn connections_that_say_little_or_end_all_at_once_take_several_turns() {
    let Budgets { looks, .. } = Budgets::DEFAULT;
    let mut world = World::new();
    let crowd: Vec<_> = (0..2 * looks).map(|_| world.connect()).collect();
    for &id in &crowd {
        world.send(id, &[0]);
    }
    assert!(world.turn().again);
    assert_eq!(world.net.reads.len(), looks);
    world.settle();
    for &id in &crowd {
        world.end(id);
    }
    assert!(world.turn().again);
    assert_eq!(world.net.closed.len(), looks / LOOKS_OF_AN_END);
    world.settle();
    world.assert_empty();
}

#[test]
fn what_all_clients_ask_for_in_a_turn_is_bounded_in_requests_and_in_bytes() {
    let mut world = World::new();
    let clients: Vec<_> = (0..16).map(|_| world.client()).collect();
    for &id in &clients {
        world.send(id, &ping().repeat(128));
    }
    world.turn();
    let answered = clients.iter().map(|&id| world.replies(id) / PONG);
    assert_eq!(answered.sum::<usize>(), 3 * 128);
    world.settle();
    for &id in &clients {
        world.replies(id);
        world.send(id, &create_with("/a", &[7; 63 << 10]));
    }
    world.net.reads.clear();
    world.turn();
    assert!(world.net.reads.len() <= 9, "512 KiB, and the last of them");
    world.settle();
}

#[test]
fn budgets_of_one_do_everything_in_the_end() {
    let one = Budget::new(1, 1, 1);
    let budgets = Budgets {
        turn: one,
        slice: one,
        read_max: 1,
        accepts: 1,
        looks: 1,
        reap: one,
        apply: one,
        order: one,
        requests: 1,
        output_at_once: 1,
        output: 1,
    };
    let mut world = World::with(budgets);
    let clients: Vec<_> = (0..3).map(|_| world.client()).collect();
    for &id in &clients {
        world.send(id, &ping().repeat(5));
    }
    world.settle();
    for id in clients {
        assert_eq!(world.replies(id), 5 * PONG);
        world.send(id, &close_session());
    }
    world.settle();
    world.assert_empty();
}

fn get_data(path: &str) -> Vec<u8> {
    frame(|out| {
        out.put_i32(2);
        out.put_i32(4);
        out.put_buf(Some(path.as_bytes()));
        out.put_bool(false);
    })
}

#[test]
fn large_reads_of_many_hold_up_nobody_who_asks_for_little() {
    let budgets = Budgets {
        turn: Budget::new(1024, 3000, 1 << 16),
        slice: Budget::new(128, 1000, 1000),
        ..Budgets::DEFAULT
    };
    let mut world = World::with(budgets);
    let witness = world.client();
    world.send(witness, &create_with("/big", &[7; 10_000]));
    world.settle();
    world.replies(witness);
    let readers: Vec<_> = (0..40).map(|_| world.client()).collect();
    for &id in &readers {
        world.send(id, &get_data("/big").repeat(3));
    }
    let mut read = 0;
    for _ in 0..30 {
        world.send(witness, &ping());
        let before = read;
        while world.replies(witness) == 0 {
            world.turn();
            read += readers.iter().map(|&id| world.replies(id)).sum::<usize>();
        }
        assert!(read - before <= 2 * 10_100, "{before} {read}");
    }
    world.settle();
    read += readers.iter().map(|&id| world.replies(id)).sum::<usize>();
    assert!(read > 40 * 3 * 10_000);
}

#[test]
fn who_takes_what_the_kernel_holds_is_no_silent_reader() {
    for (takes, open) in [(true, 1), (false, 0)] {
        let mut world = World::new();
        let id = world.client();
        world.send(id, &create_with("/big", &[7; 10_000]));
        world.settle();
        world.send(id, &get_data("/big"));
        world.net.open.get_mut(&id).expect("open").window = 100;
        for second in 0..60 {
            if let Some(kernel) = world.net.open.get_mut(&id) {
                kernel.unacknowledged = 1_000_000 - if takes { second } else { 0 };
                world.send(id, &ping());
            }
            world.tick(1000);
        }
        assert_eq!(world.core.sockets(), open, "takes: {takes}");
    }
}

/// However many bytes it has sent of its frame: also when they filled the last buffer to its end, so that
/// more could have waited in the kernel.
#[test]
fn who_stops_within_a_large_frame_is_cut_when_others_wait_for_the_memory() {
    let budgets = Budgets::DEFAULT;
    for extra in [0, 1] {
        let mut world = World::with_memory(budgets, 1_500_000);
        let (slow, next) = (world.client(), world.client());
        let write = create_with("/a", &[7; 900_000]);
        world.send(slow, &write[..2 * budgets.read_max + extra]);
        world.settle();
        assert!(world.net.open[&slow].inbound.is_empty());
        world.send(next, &write);
        world.settle();
        assert!(
            !world.net.open[&next].inbound.is_empty(),
            "it waits for memory"
        );
        for _ in 0..4 {
            world.send(next, &ping());
            world.tick(1000);
        }
        assert!(!world.net.open.contains_key(&slow), "{extra}");
        assert!(
            world.net.open[&next].inbound.is_empty(),
            "its frame is read"
        );
    }
}

#[test]
fn a_slow_reader_that_has_caught_up_once_is_asked_for_when_it_is_slow_again() {
    let mut world = World::new();
    let id = world.client();
    world.send(id, &create_with("/big", &[7; 10_000]));
    world.settle();
    let window = |world: &mut World, bytes| {
        world.net.open.get_mut(&id).expect("open").window = bytes;
    };
    for _ in 0..3 {
        window(&mut world, 100);
        world.send(id, &get_data("/big"));
        for second in 0..40 {
            let kernel = world.net.open.get_mut(&id).expect("it makes progress");
            kernel.unacknowledged = 1_000_000 - second;
            world.send(id, &ping());
            world.tick(1000);
        }
        world.replies(id);
        window(&mut world, usize::MAX);
        world.core.socket_event(id, false, true, false);
        for _ in 0..3 {
            world.tick(1000);
        }
        assert!(world.replies(id) > 9_000);
    }
}

/// The core behind a turn, and what is appended to its log.
fn inline(world: &mut World) -> &mut Member<SimStorage> {
    match &mut world.core.served {
        Served::Inline(inline) => &mut inline.member,
        Served::Replica(_) => unreachable!("inline"),
    }
}

/// One turn, behind which no sync begins.
fn turn_without_sync(world: &mut World) -> Turned {
    let turned = world
        .core
        .turn(false, world.now, &mut world.net, &mut |_| {});
    turned.expect("no fault")
}

#[test]
fn what_waited_for_a_write_whose_sync_ran_here_goes_on_without_waiting_for_the_kernel() {
    let mut world = World::new();
    let id = world.client();
    world.send(id, &[create("/a"), get_data("/a")].concat());
    assert!(!turn_without_sync(&mut world).again, "only a sync is due");
    let now = world.now;
    let outcome = inline(&mut world).poll_sync().expect("it is due").run();
    inline(&mut world).synced(outcome, now).expect("no fault");
    let answered = world.core.answer(now, &mut world.net, &mut |_| {});
    answered.expect("no fault");
    assert_eq!(world.replies(id), CREATED);
    assert!(world.core.has_work(), "the read behind the write");
    turn_without_sync(&mut world);
    assert!(world.replies(id) > 0);
}

#[test]
fn before_every_sync_that_holds_up_the_core_its_sockets_are_looked_at_once_more() {
    let mut world = World::new();
    let id = world.client();
    let mut syncs = Syncs::new(SyncPolicy::Always, true);
    for path in ["/a", "/b", "/c"] {
        world.send(id, &create(path));
        turn_without_sync(&mut world);
        let now = world.now;
        let step = syncs.begin(inline(&mut world), false, now);
        assert!(matches!(step, SyncStep::LookAgain), "{path}");
        let SyncStep::Begin(ticket, SyncPlace::Here) = syncs.begin(inline(&mut world), false, now)
        else {
            panic!("{path}: one look is enough");
        };
        syncs.ended(now);
        let member = inline(&mut world);
        member.synced(ticket.run(), now).expect("no fault");
        world.now.micros += 1_000_000;
        turn_without_sync(&mut world);
    }
}

#[test]
fn what_is_committed_is_applied_within_a_budget_and_others_have_their_turn_in_between() {
    let budgets = Budgets {
        apply: Budget::steps(2),
        ..Budgets::DEFAULT
    };
    let mut world = World::with(budgets);
    let (writer, other) = (world.client(), world.client());
    for name in ["/a", "/b", "/c", "/d", "/e"] {
        world.send(writer, &create(name));
    }
    world.turn();
    for applied in [2, 2, 1] {
        world.send(other, &ping());
        world.turn();
        assert_eq!(world.replies(writer), applied * CREATED);
        assert_eq!(world.replies(other), PONG);
    }
}

#[test]
fn who_pings_does_not_wait_for_full_reads_of_all_who_begin_long_requests_at_once() {
    const CROWD: usize = 500;
    let mut world = World::new();
    let crowd: Vec<_> = (0..CROWD).map(|_| world.client()).collect();
    let other = world.client();
    let request = create_with("/a", &vec![0; 500 << 10]);
    for &id in &crowd {
        world.send(id, &request[..60_000]);
    }
    world.send(other, &ping());
    let turns = (1..=CROWD).find(|_| {
        world.turn();
        world.replies(other) > 0
    });
    // In a turn fit 8 full reads, or 128 small ones.
    assert!(turns.is_some_and(|turns| turns <= CROWD / 50), "{turns:?}");
    let reads = world.net.reads.len();
    world.settle();
    let more = world.net.reads.len() - reads;
    assert!(more <= 2 * CROWD, "the rest comes in full reads: {more}");
}

#[test]
fn large_data_is_ordered_and_applied_a_little_in_each_turn() {
    const DATA: usize = 100 << 10;
    let one = Budget::steps((1 + DATA / DATA_PER_STEP) as u32);
    for (order, apply) in [(one, Budgets::DEFAULT.apply), (Budgets::DEFAULT.order, one)] {
        let mut world = World::with(Budgets {
            order,
            apply,
            ..Budgets::DEFAULT
        });
        let writers: Vec<_> = (0..4).map(|_| world.client()).collect();
        let other = world.client();
        for (writer, name) in writers.iter().zip(["/a", "/b", "/c", "/d"]) {
            world.send(*writer, &create_with(name, &vec![0; DATA]));
        }
        let (mut done, mut most) = (0, 0);
        for _ in 0..100 {
            let records = world.member().records();
            world.send(other, &ping());
            world.turn();
            assert_eq!(world.replies(other), PONG, "in each turn");
            let applied = writers.iter().filter(|&&id| world.replies(id) > 0).count();
            let ordered = (world.member().records() - records) as usize;
            most = most.max(if order == one { ordered } else { applied });
            done += applied;
        }
        assert_eq!((done, most), (writers.len(), 1));
    }
}

#[test]
fn a_list_that_is_compared_for_an_event_is_work_of_the_turn_that_applies_its_transaction() {
    let budgets = Budgets {
        apply: Budget::steps(6),
        ..Budgets::DEFAULT
    };
    let mut world = World::with(budgets);
    let (writer, other) = (world.client(), world.client());
    let exists_and_watch = frame(|out| {
        out.put_i32(4);
        out.put_i32(3);
        out.put_str("/a");
        out.put_bool(true);
    });
    world.send(other, &exists_and_watch);
    world.settle();
    world.replies(other);
    // Two steps with its event, and one for each entry but the first.
    world.send(
        writer,
        &create_acl(
            "/a",
            b"",
            &[
                ("digest", "u:h"),
                ("digest", "v:h"),
                ("digest", "w:h"),
                ("digest", "x:h"),
                ("digest", "y:h"),
            ],
        ),
    );
    for name in ["/b", "/c", "/d", "/e"] {
        world.send(writer, &create(name));
    }
    world.turn();
    for applied in [1, 4] {
        world.turn();
        assert_eq!(world.replies(writer), applied * CREATED);
    }
    assert_eq!(world.replies(other), 0, "it may not read the node");
}

/// While events are delivered nothing executes for anybody. So somebody must have a turn before the next transaction
/// brings as many again, however many are committed.
#[test]
fn clients_have_a_turn_between_two_transactions_whose_events_take_several_turns() {
    const WATCHERS: usize = 20;
    let mut world = World::with(Budgets {
        apply: Budget::steps(16),
        ..Budgets::DEFAULT
    });
    let watchers: Vec<_> = (0..WATCHERS).map(|_| world.client()).collect();
    for &id in &watchers {
        let add_watch = frame(|out| {
            out.put_i32(4);
            out.put_i32(106);
            out.put_str("/");
            out.put_i32(1);
        });
        world.send(id, &add_watch);
    }
    let (writer, other) = (world.client(), world.client());
    world.settle();
    let names = ["/a", "/b", "/c", "/d", "/e", "/f"];
    for name in names {
        world.send(writer, &create(name));
    }
    // Replies to the writer, each time that a ping is answered.
    let mut seen = Vec::new();
    let mut replies = 0;
    for _ in 0..100 {
        world.send(other, &ping());
        world.turn();
        replies += world.replies(writer) / CREATED;
        if world.replies(other) > 0 {
            seen.push(replies);
        }
    }
    seen.dedup();
    assert_eq!(seen, (0..=names.len()).collect::<Vec<_>>());
}

/// A quota lies below so many names that each change below it is two steps more.
#[test]
fn names_on_the_way_to_a_deep_quota_are_work_of_the_turn_that_applies_the_change() {
    const NAMES: usize = 64;
    /// Length, header and Stat.
    const SET: usize = 20 + 68;
    let budgets = Budgets {
        apply: Budget::steps(3),
        ..Budgets::DEFAULT
    };
    let mut world = World::with(budgets);
    let writer = world.client();
    let set = |path: &str| {
        frame(|out| {
            out.put_i32(2);
            out.put_i32(5);
            out.put_str(path);
            out.put_buf(Some(b"else"));
            out.put_i32(-1);
        })
    };
    let deep = "/a".repeat(NAMES);
    let quota = format!("/zookeeper/quota{deep}");
    let ways = (1..=NAMES).flat_map(|n| {
        let path = "/a".repeat(n);
        [format!("/zookeeper/quota{path}"), path]
    });
    let nodes = ["zookeeper_limits", "zookeeper_stats"].map(|name| format!("{quota}/{name}"));
    for path in ways.chain(nodes) {
        world.send(writer, &create(&path));
        world.settle();
    }
    world.replies(writer);
    for (path, applied) in [("/a", vec![3]), (&*deep, vec![1, 1, 1])] {
        for _ in 0..3 {
            world.send(writer, &set(path));
        }
        world.turn();
        for sets in applied {
            world.turn();
            assert_eq!(world.replies(writer), sets * SET, "{path:.4}");
        }
    }
}

/// Persistent watches fire for each operation of a multi, also for those who may not read the node.
#[test]
fn the_firings_of_a_transaction_are_worked_off_within_a_budget_and_nobody_reads_before_the_last() {
    const WATCHERS: usize = 12;
    const OPS: usize = 40;
    const STEPS: usize = 64;
    /// An event of a path of two bytes.
    const EVENT: usize = 4 + 16 + 12 + 2;
    let budgets = Budgets {
        apply: Budget::steps(STEPS as u32),
        ..Budgets::DEFAULT
    };
    let mut world = World::with(budgets);
    let (writer, reader) = (world.client(), world.client());
    world.send(writer, &create("/a"));
    world.settle();
    let watchers: Vec<_> = (0..WATCHERS).map(|_| world.client()).collect();
    for &id in &watchers {
        world.send(
            id,
            &frame(|out| {
                out.put_i32(3);
                out.put_i32(106);
                out.put_str("/a");
                out.put_i32(0);
            }),
        );
    }
    world.settle();
    for id in watchers.iter().chain([&writer]) {
        world.replies(*id);
    }
    world.send(writer, &multi_of_sets("/a", OPS));
    let (mut told, mut is_answered, mut has_asked) = (Vec::new(), false, false);
    while !is_answered {
        assert!(told.len() < 1000, "it never ends");
        world.turn();
        is_answered = world.replies(writer) > 0;
        told.push(watchers.iter().map(|&id| world.replies(id)).sum::<usize>() / EVENT);
        if told.last() > Some(&0) && !has_asked {
            // Whoever asks meanwhile would see what the events are about.
            has_asked = true;
            world.send(reader, &get_data("/a"));
        }
        assert!(world.replies(reader) == 0 || is_answered);
    }
    assert_eq!(told.iter().sum::<usize>(), WATCHERS * OPS);
    assert!(told.iter().all(|&events| events <= STEPS + 1), "{told:?}");
    world.settle();
    assert!(has_asked);
}

#[test]
fn requests_are_ordered_within_a_budget_and_others_have_their_turn_in_between() {
    let budgets = Budgets {
        order: Budget::steps(4),
        ..Budgets::DEFAULT
    };
    let mut world = World::with(budgets);
    let (writer, other) = (world.client(), world.client());
    let before = world.member().records();
    for name in ["/a", "/b", "/c", "/d", "/e"] {
        world.send(writer, &create(name));
    }
    // The message of a shard is a step, and its operation another one.
    for ordered in [2, 4, 5] {
        world.send(other, &ping());
        world.turn();
        assert_eq!(world.member().records() - before, ordered);
        assert_eq!(world.replies(other), PONG);
    }
    world.settle();
    assert_eq!(world.replies(writer), 5 * CREATED);
}

#[test]
fn the_ordering_core_takes_what_shards_ask_for_in_turn_however_small_its_budget() {
    let world = World::new();
    let Served::Inline(inline) = world.core.served else {
        unreachable!("inline");
    };
    let progress = std::sync::Arc::new(Progress::new(2, inline.member.tree.last_zxid()));
    let (mut ends, mut asking) = (Vec::new(), Vec::new());
    for shard in 0..2 {
        let (end, mut own) = rings(8, 8);
        for _ in 0..3 {
            let report = crate::messages::ShardRequest::Touched {
                shard: ShardId(shard),
                watermark: Tick(1000),
                made: Tick(1000),
                sessions: Vec::new(),
            };
            own.requests.push(report).expect("there is room");
        }
        ends.push(end);
        asking.push(own);
    }
    let orderer = Orderer::new(inline.member, RingLimits::DEFAULT, progress, 2);
    let budgets = Budgets {
        order: Budget::steps(1),
        ..Budgets::DEFAULT
    };
    let mut core = OrderingCore::new(orderer, ends, budgets);
    for left in [[2, 3], [2, 2], [1, 2], [1, 1], [0, 1], [0, 0]] {
        assert!(core.has_mail());
        core.turn(world.now, &mut |_| {}, &mut |_| {})
            .expect("no fault");
        let waiting = |ring: &ReplicaRings| 8 - ring.requests.slots();
        assert_eq!([waiting(&asking[0]), waiting(&asking[1])], left);
    }
    assert!(!core.has_mail());
}

#[test]
fn a_replica_stops_within_a_batch_and_reports_it_when_all_of_it_is_taken() {
    let now = World::new().now;
    let tree = crate::tree::Tree::new();
    let progress = std::sync::Arc::new(Progress::new(1, tree.last_zxid()));
    let replica = Replica::new(ShardConfig::new(ShardId(0)), tree, progress.clone());
    let (mut ordering, own) = rings(1, 1);
    let mut port = ReplicaPort::new(replica, own);
    let conn = crate::types::ConnId {
        slot: 0,
        generation: 0,
    };
    let notice = || ToShards::Notice(ShardId(0), crate::messages::Notice::Close(conn));
    let batch = Batch::new(vec![notice(), notice(), notice()]);
    assert!(ordering.batches.push(batch).is_ok());
    for taken in [0, 0, 3] {
        assert!(port.has_mail());
        port.take_batches(&mut Budget::steps(1), now)
            .expect("no fault");
        assert_eq!(progress.taken(ShardId(0)).entries, taken);
    }
    assert!(!port.has_mail());
}

/// As [`clients_have_a_turn_between_two_transactions_whose_events_take_several_turns`], at a replica.
#[test]
fn a_replica_goes_on_with_events_and_leaves_the_next_transaction_to_the_next_turn() {
    const SETS: usize = 10;
    let now = World::new().now;
    let tree = crate::tree::Tree::new();
    let (mut overlay, rules) = (Overlay::new(&tree), Rules::default());
    let progress = std::sync::Arc::new(Progress::new(1, tree.last_zxid()));
    let replica = Replica::new(ShardConfig::new(ShardId(0)), tree, progress);
    let (mut ordering, own) = rings(4, 4);
    let mut port = ReplicaPort::new(replica, own);
    let mut give = |port: &mut ReplicaPort, zxid, request: &WriteRequest, origin| {
        let context = PrepareContext {
            zxid: Zxid(zxid),
            time: now.wall,
            session: SessionId(1),
            cxid: 0,
            session_state: SessionState::Live,
            credentials: &[],
            rules: &rules,
        };
        let tree = port.replica.tree();
        let prepared = overlay.prepare(tree, &context, request, &mut Budget::UNLIMITED.clone());
        let txn = ToShards::Txn(Committed {
            origin,
            entry: prepared.entry.into(),
            generation: Generation(1),
            stamps: Default::default(),
        });
        assert!(ordering.batches.push(Batch::new(vec![txn])).is_ok());
    };
    let mut unlimited = Budget::UNLIMITED;
    let (shard, tree) = port.replica.parts();
    let conn = shard.accept(address(), now);
    shard.receive_within(tree, conn, &connect_request(0), &mut unlimited, now);
    let Some(ShardRequest::NewSession {
        origin, timeout_ms, ..
    }) = shard.poll_request(now)
    else {
        panic!("a handshake asks for a session");
    };
    let session = WriteRequest::CreateSession { timeout_ms };
    give(&mut port, 1, &session, Some(origin));
    port.take_batches(&mut unlimited, now).expect("no fault");
    let add_watch = frame(|out| {
        out.put_i32(4);
        out.put_i32(106);
        out.put_str("/");
        out.put_i32(0);
    });
    let (shard, tree) = port.replica.parts();
    shard.receive_within(tree, conn, &add_watch, &mut unlimited, now);
    let set = WriteRequest::SetData {
        path: Some("/".into()),
        data: None,
        version: -1,
    };
    let multi = WriteRequest::Multi(vec![set; SETS]);
    for zxid in 2..5 {
        give(&mut port, zxid, &multi, None);
    }
    // What a transaction and half of its events take.
    let mut half = || {
        let steps = (SETS + SETS / 2) as u32;
        port.take_batches(&mut Budget::steps(steps), now)
            .expect("no fault");
        let last = port.replica.tree().last_zxid().0;
        (last, port.replica.shard().is_delivering())
    };
    for zxid in 2..5 {
        assert_eq!(half(), (zxid, true));
        assert_eq!(half(), (zxid, false), "clients come first");
    }
}

#[test]
fn output_that_the_kernel_does_not_take_is_kept_and_goes_on_where_it_stopped() {
    let mut world = World::new();
    let id = world.client();
    world.net.open.get_mut(&id).expect("open").window = 3 * PONG + 7;
    world.send(id, &ping().repeat(10));
    world.settle();
    assert_eq!(world.replies(id), 3 * PONG + 7);
    world.net.open.get_mut(&id).expect("open").window = usize::MAX;
    world.core.socket_event(id, false, true, false);
    world.settle();
    assert_eq!(world.replies(id), 7 * PONG - 7);
}

/// A node of 10,000 bytes, and budgets of output that are less than it.
fn world_of_large_output() -> (World, SocketId) {
    let mut world = World::with(Budgets {
        output_at_once: 1000,
        output: 3000,
        ..Budgets::DEFAULT
    });
    let witness = world.client();
    world.send(witness, &create_with("/big", &[7; 10_000]));
    world.settle();
    world.replies(witness);
    (world, witness)
}

/// The reply to a read of that node.
const BIG: usize = 20 + 4 + 10_000 + 68;

#[test]
fn of_large_output_a_turn_hands_over_a_budget_and_what_is_small_goes_before_it() {
    let (mut world, witness) = world_of_large_output();
    let readers = [world.client(), world.client()];
    for id in readers {
        world.replies(id);
        world.send(id, &get_data("/big"));
    }
    let mut turns = 0;
    while world.core.has_work() {
        world.net.writes.clear();
        world.send(witness, &ping());
        let turned = world.turn();
        assert_eq!(world.net.writes.remove(0), (witness, PONG), "at first");
        let taken = world.net.writes.iter().map(|&(_, n)| n).sum::<usize>();
        assert!(taken <= 3000, "{:?}", world.net.writes);
        assert!(taken == 3000 || !turned.again, "as much as may be");
        assert!(world.net.writes.iter().all(|(id, _)| readers.contains(id)));
        turns += 1;
    }
    assert_eq!(turns, (2 * BIG).div_ceil(3000));
    for id in readers {
        assert_eq!(world.replies(id), BIG);
    }
}

#[test]
fn who_takes_nothing_of_a_large_output_makes_way_for_the_next_and_goes_on_where_it_stopped() {
    let (mut world, _) = world_of_large_output();
    let readers = [world.client(), world.client()];
    for id in readers {
        world.replies(id);
        world.send(id, &get_data("/big"));
    }
    world.net.open.get_mut(&readers[0]).expect("open").window = 100;
    world.settle();
    assert_eq!(readers.map(|id| world.replies(id)), [100, BIG]);
    world.net.open.get_mut(&readers[0]).expect("open").window = usize::MAX;
    world.core.socket_event(readers[0], false, true, false);
    world.settle();
    assert_eq!(world.replies(readers[0]), BIG - 100);
}

#[test]
fn the_last_output_of_a_connection_goes_to_the_kernel_whole_however_large_it_is() {
    let (mut world, _) = world_of_large_output();
    let id = world.client();
    world.net.writes.clear();
    world.send(id, &[get_data("/big"), close_session()].concat());
    world.settle();
    assert_eq!(world.net.closed, [id]);
    let taken = world.net.writes.iter().map(|&(_, n)| n);
    assert_eq!(taken.sum::<usize>(), BIG + PONG);
    // One that is cut in the middle leaves nothing behind.
    let id = world.client();
    world.send(id, &get_data("/big"));
    world.turn();
    world.net.open.get_mut(&id).expect("open").gone = true;
    world.settle();
    assert_eq!(world.net.closed.len(), 2);
    assert_eq!(world.core.sockets(), 1, "the witness");
}

#[test]
fn accepting_stops_at_its_budget_and_goes_on_after_exhaustion() {
    let budgets = Budgets {
        accepts: 3,
        ..Budgets::DEFAULT
    };
    let mut world = World::with(budgets);
    world.net.backlog = 8;
    world.core.listener_ready();
    world.turn();
    assert_eq!(world.core.sockets(), 3);
    world.net.exhausted = true;
    world.settle();
    assert_eq!(world.core.sockets(), 3);
    world.net.exhausted = false;
    world.core.listener_ready();
    world.settle();
    assert_eq!(world.core.sockets(), 8);
}

#[test]
fn a_handshake_that_came_while_the_process_stood_still_is_answered_behind_its_deadline() {
    let mut world = World::new();
    let (waits, incomplete, silent) = (world.connect(), world.connect(), world.connect());
    world.send(incomplete, &[0, 0]);
    world.settle();
    // The bytes came, and the kernel has not reported them yet when the tick comes.
    let kernel = world.net.open.get_mut(&waits).expect("open");
    kernel.inbound.extend(connect_request(0));
    world.tick(20_000);
    assert!(world.replies(waits) > 0, "a session");
    assert_eq!(world.net.closed, [incomplete, silent]);
    world.tick(20_000);
    assert_eq!(
        world.net.closed.len(),
        2,
        "who has said what it is has no deadline"
    );
}

#[test]
fn a_request_that_finds_the_ring_full_waits_in_its_shard_and_none_is_lost() {
    let now = Now {
        tick: Tick(1000),
        micros: 1_000_000,
        wall: WallMs(1_700_000_000_000),
    };
    let tree = crate::tree::Tree::new();
    let progress = std::sync::Arc::new(Progress::new(1, tree.last_zxid()));
    let replica = Replica::new(ShardConfig::new(ShardId(0)), tree, progress);
    let (mut ordering, own) = rings(1, 2);
    let served: Served<SimStorage> = Served::Replica(Box::new(ReplicaPort::new(replica, own)));
    let mut core = ServingCore::new(served, Budgets::DEFAULT, 5000, now);
    let mut net = Net::default();
    for _ in 0..5 {
        let id = core.adopt(address(), now);
        net.insert(id);
        let kernel = net.open.get_mut(&id).expect("open");
        kernel.inbound.extend(connect_request(0));
    }
    let mut given = Vec::new();
    // Five handshakes, and the report of who was heard of.
    for due in [2, 2, 2] {
        let turned = core
            .turn(false, now, &mut net, &mut |_| {})
            .expect("no fault");
        assert!(turned.wake_ordering);
        let before = given.len();
        given.extend(std::iter::from_fn(|| ordering.requests.pop().ok()));
        assert_eq!(given.len() - before, due);
    }
    core.stop();
    core.turn(false, now, &mut net, &mut |_| {})
        .expect("no fault");
    assert!(core.has_handed_up());
}

#[test]
fn a_core_that_has_made_room_in_a_full_ring_wakes_the_one_that_orders() {
    let now = World::new().now;
    let conn = crate::types::ConnId {
        slot: 0,
        generation: 0,
    };
    for (slots, batches, wakes) in [(1, 1, true), (2, 1, false), (2, 2, true), (2, 0, false)] {
        let tree = crate::tree::Tree::new();
        let progress = std::sync::Arc::new(Progress::new(1, tree.last_zxid()));
        let replica = Replica::new(ShardConfig::new(ShardId(0)), tree, progress);
        let (mut ordering, own) = rings(slots, 1);
        let mut port = ReplicaPort::new(replica, own);
        for _ in 0..batches {
            let close = crate::messages::Notice::Close(conn);
            let batch = Batch::new(vec![ToShards::Notice(ShardId(0), close)]);
            assert!(ordering.batches.push(batch).is_ok());
        }
        let mut budget = Budget::UNLIMITED;
        port.take_batches(&mut budget, now).expect("no fault");
        assert_eq!(port.send_requests(now), wakes, "{batches} of {slots}");
        assert!(!port.send_requests(now), "it is said once");
    }
}

/// A core that orders for one replica, which takes what it is given or does not.
struct Ordering {
    disk: SimStorage,
    orderer: Orderer<SimStorage>,
    progress: std::sync::Arc<Progress>,
    now: Now,
    sequence: u64,
    held: Vec<std::sync::Arc<Batch>>,
}

impl Ordering {
    fn new() -> Ordering {
        Ordering::with(RingLimits::DEFAULT.log_bytes)
    }

    /// With so many bytes of log that are kept for a replica that is detached.
    fn with(log_bytes: u64) -> Ordering {
        let disk = SimStorage::new(64 << 20);
        let now = World::new().now;
        let config = MemberConfig {
            pipeline: PipelineConfig::new(Rules::default()),
            log: LogConfig {
                segment_bytes: 64 << 10,
            },
            snapshot_records: 35,
            snapshots_kept: Some(1),
            snapshot_memory: 1 << 20,
        };
        let mut identity = 1;
        let identities = Box::new(move || {
            identity += 1;
            identity
        });
        let started = Member::start(
            config,
            &disk,
            &disk,
            identities,
            now,
            &mut Rebuilding::new(|_| {}),
        );
        let (member, _) = started.expect("an empty disk");
        let progress = std::sync::Arc::new(Progress::new(1, member.tree.last_zxid()));
        let limits = RingLimits {
            entries: 1,
            log_bytes,
            ..RingLimits::DEFAULT
        };
        let mut world = Ordering {
            disk,
            orderer: Orderer::new(member, limits, progress.clone(), 1),
            progress,
            now,
            sequence: 0,
            held: Vec::new(),
        };
        let asked = crate::messages::ShardRequest::NewSession {
            origin: world.origin(),
            timeout_ms: 60_000,
            stamps: crate::messages::Stamps::default(),
        };
        world.order(asked);
        world.take();
        world
    }

    fn origin(&mut self) -> crate::messages::Origin {
        self.sequence += 1;
        crate::messages::Origin {
            shard: ShardId(0),
            conn: crate::types::ConnId {
                slot: 0,
                generation: 0,
            },
            sequence: self.sequence,
        }
    }

    /// Orders a request, commits it, and gives it to the replica.
    fn order(&mut self, up: crate::messages::ShardRequest) {
        let mut budget = Budget::UNLIMITED;
        let ordered = self.orderer.request(up, &mut budget, self.now);
        ordered.expect("no fault");
        while let Some(ticket) = self.orderer.member.poll_sync() {
            let synced = self.orderer.member.synced(ticket.run(), self.now);
            synced.expect("no fault");
        }
        self.turn();
    }

    fn turn(&mut self) {
        let mut budget = Budget::UNLIMITED;
        let turned = self.orderer.turn(&mut budget, self.now, &mut |_| {});
        turned.expect("no fault");
        let batches = std::iter::from_fn(|| self.orderer.poll_batch(ShardId(0)));
        self.held.extend(batches);
    }

    /// The replica takes what it was given.
    fn take(&mut self) {
        for batch in self.held.drain(..) {
            let entries = batch.entries.len() as u64;
            let last = batch.entries.iter().rev().find_map(|down| match down {
                ToShards::Txn(txn) => Some(txn.entry.header.zxid),
                ToShards::Notice(..) => None,
            });
            let seen = last.unwrap_or(self.progress.seen(ShardId(0)));
            self.progress.took(ShardId(0), seen, entries, batch.bytes);
        }
    }

    /// Writes of 8,000 bytes until so many segments were begun.
    fn fill_segments(&mut self, rolls: u64, takes: bool) {
        let (session, _) = self.orderer.member.tree.sessions().next().expect("open");
        let until = self.orderer.member.pipeline.log().counters().rolls + rolls;
        while self.orderer.member.pipeline.log().counters().rolls < until {
            let asked = crate::messages::ShardRequest::Write {
                origin: self.origin(),
                session,
                generation: crate::types::Generation(1),
                xid: crate::types::Xid(1),
                request: crate::txn::WriteRequest::SetData {
                    path: Some("/zookeeper/quota".into()),
                    data: Some(vec![7; 8000].into()),
                    version: -1,
                },
                credentials: std::sync::Arc::from([crate::txn::AuthId {
                    scheme: "super".into(),
                    id: "".into(),
                }]),
                stamps: crate::messages::Stamps::default(),
            };
            self.order(asked);
            assert_eq!(self.orderer.member.pipeline.waiting(), 0);
            if takes {
                self.take();
            }
        }
    }

    fn run(&mut self, job: crate::member::Job) {
        let done = job.run(&self.disk, &self.disk);
        let news = self.orderer.job_done(done).expect("no fault");
        drop(news);
    }

    fn run_all(&mut self) {
        while let Some(job) = self.orderer.poll_job() {
            self.run(job);
        }
    }
}

#[test]
fn a_snapshot_that_ends_keeps_the_log_for_a_replica_that_was_detached_while_it_was_made() {
    let mut world = Ordering::new();
    for _ in 0..3 {
        world.run_all();
        world.fill_segments(2, true);
    }
    world.run_all();
    assert!(world.orderer.all_attached());
    // From here on no job ends before the snapshot does.
    world.fill_segments(2, false);
    assert!(!world.orderer.all_attached());
    let mut jobs: Vec<_> = std::iter::from_fn(|| world.orderer.poll_job()).collect();
    let is_snapshot = |job: &_| matches!(job, &crate::member::Job::Snapshot { .. });
    let snapshot = jobs.iter().position(is_snapshot).expect("it is due");
    world.run(jobs.remove(snapshot));
    jobs.into_iter().for_each(|job| world.run(job));
    for _ in 0..5 {
        world.run_all();
        world.fill_segments(2, false);
    }
    // Every segment behind what the replica has is still there: it catches up.
    for _ in 0..10 {
        world.take();
        world.run_all();
        world.turn();
    }
    assert!(world.orderer.all_attached());
    let reached = world.orderer.member.tree.last_zxid();
    assert_eq!(world.progress.seen(ShardId(0)), reached);
}

#[test]
fn a_shard_that_is_held_still_keeps_the_log_up_to_a_limit_and_ends_the_process_if_it_wakes_behind_it()
 {
    // (bytes of log that are kept, whether the replica finds what it missed)
    for (log_bytes, comes_back) in [(10 << 20, true), (200_000, false)] {
        let mut world = Ordering::with(log_bytes);
        for _ in 0..3 {
            world.run_all();
            world.fill_segments(2, true);
        }
        for _ in 0..20 {
            world.run_all();
            world.fill_segments(2, false);
        }
        world.run_all();
        let names = crate::log::storage::Storage::list(&world.disk).expect("no fault");
        let segments = names.iter().filter(|name| name.starts_with("log.")).count();
        assert_eq!(segments > 30, comes_back, "{segments} segments");
        let mut ended = None;
        for _ in 0..20 {
            world.take();
            while let Some(job) = world.orderer.poll_job() {
                let done = job.run(&world.disk, &world.disk);
                ended = world.orderer.job_done(done).err().or(ended);
            }
            world.turn();
        }
        let is_forgotten = matches!(ended, Some(crate::pipeline::Fatal::Forgotten { .. }));
        assert_eq!(is_forgotten, !comes_back, "{ended:?}");
        assert_eq!(world.orderer.all_attached(), comes_back);
    }
}

/// The core that orders, with the ends of two shards' rings of so many slots; and the session of a client
/// that one of them serves.
fn ordering_core(
    slots: usize,
    budgets: Budgets,
) -> (
    OrderingCore<SimStorage>,
    Vec<ReplicaRings>,
    (SessionId, i32),
    Now,
) {
    let mut world = World::new();
    world.client();
    let Served::Inline(inline) = world.core.served else {
        unreachable!("inline");
    };
    let member = inline.member;
    let session = member.tree.sessions().next().expect("the client's");
    let (core, shards, _) = ordering_core_of(member, RingLimits::DEFAULT, slots, budgets);
    (core, shards, session, world.now)
}

/// The core that orders around a member, the ends of two shards' rings, and what the cores know of each other.
fn ordering_core_of(
    member: Member<SimStorage>,
    limits: RingLimits,
    slots: usize,
    budgets: Budgets,
) -> (
    OrderingCore<SimStorage>,
    Vec<ReplicaRings>,
    std::sync::Arc<Progress>,
) {
    let progress = std::sync::Arc::new(Progress::new(2, member.tree.last_zxid()));
    let orderer = Orderer::new(member, limits, progress.clone(), 2);
    let (ends, shards) = (0..2).map(|_| rings(slots, slots)).unzip();
    (OrderingCore::new(orderer, ends, budgets), shards, progress)
}

#[test]
fn a_session_that_one_shard_is_to_release_for_another_is_waited_for_by_a_drain() {
    let (mut core, mut shards, (session, timeout_ms), now) = ordering_core(8, Budgets::DEFAULT);
    let conn = ConnId {
        slot: 0,
        generation: 0,
    };
    let reattach = ShardRequest::Reattach {
        origin: Origin {
            shard: ShardId(1),
            conn,
            sequence: 0,
        },
        session,
        timeout_ms,
    };
    let released = ShardRequest::Released {
        shard: ShardId(0),
        session,
        generation: Generation(1),
    };
    for (shard, asks, given) in [(1, reattach, false), (0, released, true)] {
        let asked = shards[shard].requests.push(asks);
        asked.expect("there is room");
        core.turn(now, &mut |_| {}, &mut |_| {}).expect("no fault");
        let facts = DrainFacts::ordering(&core, false, false, true);
        // A shard that is held still must not keep the core from being idle.
        assert_eq!((facts.idle, facts.given), (true, given));
    }
}

/// Of two shards one takes what it is given and the other does not.
#[test]
fn a_replica_that_falls_behind_is_waited_for_until_it_has_taken_more_or_patience_ends() {
    let world = World::new();
    let Served::Inline(inline) = world.core.served else {
        unreachable!("inline");
    };
    let limits = RingLimits {
        abreast_bytes: 0,
        ..RingLimits::DEFAULT
    };
    let mut now = world.now;
    let (mut core, mut shards, progress) =
        ordering_core_of(inline.member, limits, 64, Budgets::DEFAULT);
    let ask = |rings: &mut ReplicaRings, sequence| {
        let asked = ShardRequest::NewSession {
            origin: Origin {
                shard: ShardId(1),
                conn: ConnId {
                    slot: 0,
                    generation: 0,
                },
                sequence,
            },
            timeout_ms: 60_000,
            stamps: crate::messages::Stamps::default(),
        };
        rings.requests.push(asked).expect("there is room");
    };
    let waiting = |rings: &ReplicaRings| 64 - rings.requests.slots();
    // Whether the last turn took the request, and whether there is more to do at once.
    let turn = |core: &mut OrderingCore<SimStorage>, now| {
        core.turn(now, &mut |_| {}, &mut |_| {}).expect("no fault");
        while let Some(ticket) = core.orderer.member.poll_sync() {
            let synced = core.orderer.member.synced(ticket.run(), now);
            synced.expect("no fault");
        }
        core.turn(now, &mut |_| {}, &mut |_| {}).expect("no fault")
    };
    ask(&mut shards[1], 0);
    turn(&mut core, now);
    let batch = shards[0].batches.pop().expect("given");
    let take = |shard, batch: &Batch| {
        let seen = progress.committed();
        progress.took(
            ShardId(shard),
            seen,
            batch.entries.len() as u64,
            batch.bytes,
        )
    };
    assert!(
        !progress.took(ShardId(1), progress.committed(), 0, 0),
        "nobody waits yet"
    );
    // Both have it before them.
    ask(&mut shards[1], 1);
    assert!(!turn(&mut core, now) && !core.has_mail(), "it sleeps");
    assert_eq!(waiting(&shards[1]), 1);
    assert!(!core.is_idle(), "somebody has asked");
    assert!(take(1, &batch), "it is to be woken");
    assert!(!core.has_mail(), "the other one is behind");
    assert!(take(0, &batch));
    assert!(core.has_mail());
    turn(&mut core, now);
    assert_eq!(waiting(&shards[1]), 0);
    // The next one is taken by nobody: patience ends.
    ask(&mut shards[1], 2);
    turn(&mut core, now);
    assert_eq!(waiting(&shards[1]), 1);
    now.micros += 1_000_000;
    turn(&mut core, now);
    assert_eq!(waiting(&shards[1]), 0);
    assert!(!take(0, &batch), "nobody is waited for any more");
}

#[test]
fn a_shard_whose_requests_had_no_room_is_woken_when_they_have() {
    let (mut core, mut shards, _, now) = ordering_core(2, Budgets::DEFAULT);
    // Also when it was never full at the beginning of a turn: it may have been in between.
    for (requests, woken) in [
        (1, vec![]),
        (2, vec![ShardId(1)]),
        (0, vec![]),
        (1, vec![ShardId(1)]),
    ] {
        for watermark in 0..requests {
            let report = ShardRequest::Touched {
                shard: ShardId(1),
                watermark: Tick(watermark),
                sessions: Vec::new(),
                made: now.tick,
            };
            shards[1].requests.push(report).expect("there is room");
        }
        let mut wakes = Vec::new();
        let turned = core.turn(now, &mut |_| {}, &mut |shard| wakes.push(shard));
        turned.expect("no fault");
        assert_eq!(wakes, woken, "{requests} requests");
    }
}

#[test]
fn a_shard_whose_requests_had_no_room_is_woken_though_no_more_of_them_fit_the_turn() {
    let budgets = Budgets {
        order: Budget::steps(1),
        ..Budgets::DEFAULT
    };
    let (mut core, mut shards, _, now) = ordering_core(1, budgets);
    for shard in [0, 1, 0, 1, 1] {
        let report = ShardRequest::Touched {
            shard: ShardId(shard),
            watermark: Tick(0),
            sessions: Vec::new(),
            made: now.tick,
        };
        let ring = &mut shards[usize::from(shard)].requests;
        ring.push(report).expect("there is room");
        assert!(ring.is_full());
        let mut wakes = Vec::new();
        while core.has_mail() {
            let turned = core.turn(now, &mut |_| {}, &mut |shard| wakes.push(shard));
            turned.expect("no fault");
        }
        assert_eq!(wakes, [ShardId(shard)]);
    }
}

#[test]
fn what_a_long_sync_has_piled_up_is_applied_faster_than_more_is_ordered() {
    const OPS: usize = 500;
    let mut world = World::new();
    let id = world.client();
    world.send(id, &create("/a"));
    world.settle();
    world.replies(id);
    let before = world.member().records();
    for _ in 0..12 {
        world.send(id, &multi_of_sets("/a", OPS));
    }
    let mut ordered = Vec::new();
    while world.member().records() - before < 12 {
        let records = world.member().records();
        turn_without_sync(&mut world);
        ordered.push(world.member().records() - records);
    }
    let now = world.now;
    let outcome = inline(&mut world).poll_sync().expect("it is due").run();
    inline(&mut world).synced(outcome, now).expect("no fault");
    let applied_before = world.member().pipeline.cursors().applied.0;
    turn_without_sync(&mut world);
    let applied = world.member().pipeline.cursors().applied.0 - applied_before;
    let most = ordered.into_iter().max().expect("some turns");
    assert!(
        applied as u64 > most,
        "{applied} are applied, {most} ordered"
    );
}

/// The core that orders gives something and then decides, while the shard looks whether it may end.
#[test]
fn a_shard_does_not_end_before_it_has_what_was_given_before_the_decision() {
    use std::sync::atomic::AtomicBool;
    use std::sync::atomic::Ordering::{Acquire, Release};
    let facts = DrainFacts {
        asked: true,
        idle: true,
        given: true,
        syncing: false,
    };
    let conn = crate::types::ConnId {
        slot: 0,
        generation: 0,
    };
    let now = World::new().now;
    for round in 0..50 {
        let tree = crate::tree::Tree::new();
        let progress = std::sync::Arc::new(Progress::new(1, tree.last_zxid()));
        let replica = Replica::new(ShardConfig::new(ShardId(0)), tree, progress);
        let (mut given, own) = rings(1, 1);
        let served: Served<SimStorage> = Served::Replica(Box::new(ReplicaPort::new(replica, own)));
        let core = ServingCore::new(served, Budgets::DEFAULT, 0, now);
        let (drain, looks) = (Drain::new(1), AtomicBool::new(false));
        // Without patience every stage ends at once; the next one ends with the decision.
        let mut ordering = OrderingDrain::new(0);
        for _ in 0..3 {
            ordering.after_turn(&drain, facts, now.tick);
        }
        assert!(!drain.is_decided());
        let close = crate::messages::Notice::Close(conn);
        let batch = Batch::new(vec![ToShards::Notice(ShardId(0), close)]);
        std::thread::scope(|threads| {
            threads.spawn(|| {
                while !looks.load(Acquire) {
                    std::hint::spin_loop();
                }
                assert!(given.batches.push(batch).is_ok());
                ordering.after_turn(&drain, facts, now.tick);
            });
            let mut shard = ShardDrain::default();
            while !(drain.is_decided() && core.has_mail()) {
                let step = shard.after_turn(&drain, &core, false);
                assert!(!step.ended, "round {round}: a batch was left");
                looks.store(true, Release);
            }
        });
    }
}

/// Somebody connects as fast as connections are accepted.
#[test]
fn who_connects_without_end_keeps_no_silent_session_and_no_silent_connection() {
    let mut world = World::new();
    let silent = world.client();
    let expired = |world: &World| world.member().pipeline.counters().expired;
    for _ in 0..3 * 100 {
        world.core.listener_ready();
        world.net.backlog = 2 * Budgets::DEFAULT.accepts;
        world.now.tick = world.now.tick.after(100);
        let ticked = world
            .core
            .turn(true, world.now, &mut world.net, &mut |_| {});
        ticked.expect("no fault");
        // Others that have connected leave again.
        let open: Vec<SocketId> = world.net.open.keys().copied().collect();
        let others = open.into_iter().filter(|&id| id != silent);
        others.for_each(|id| world.end(id));
        world.turn();
    }
    assert_eq!(expired(&world), 1, "30 s of silence, for a timeout of 10 s");
    assert!(world.net.closed.contains(&silent));
}
