//! Drives a member as the server does, and owns all that the fuzzer knows of its interface.

use super::memory::Memory;
use ringkeeper::log::LogConfig;
use ringkeeper::member::{Member, MemberConfig};
use ringkeeper::pipeline::{PipelineConfig, ReaperConfig};
use ringkeeper::placement::{
    Accepted, Budgets, Inline, Read, Served, ServingCore, SocketId, Sockets, Wrote,
};
use ringkeeper::shard::{ClientAddress, ShardConfig};
use ringkeeper::snapshot::Rebuilding;
use ringkeeper::tree::Rules;
use ringkeeper::types::{Now, ShardId, Tick, WallMs};
use std::collections::{BTreeMap, VecDeque};

/// Connections of one script.
pub const CLIENTS: usize = 4;
/// `jute.maxbuffer` and the bounds that follow from it: small, so that scripts reach them.
const FRAME_MAX: usize = 32 << 10;
const OUTPUT_MAX: usize = 64 << 10;
const OUTSTANDING_MAX: usize = 16;
/// What may be taken of one connection at once, bytes. The inputs are 8 KiB at most, nodes 16 KiB, and
/// there is room for hundreds of full outputs above the bounds: only what grows with the product of
/// two things that a client chooses gets here.
const TAKEN_MAX: usize = 8 << 20;
const SEGMENT_BYTES: u64 = 1 << 20;

/// Operations that a request's first byte chooses: all that clients know, and some that nobody does.
const OPERATIONS: [i32; 32] = [
    1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 100, 101, 102, 103,
    104, 105, 106, 107, -11, 0, -1,
];

const SET_DATA: i32 = 5;
const MULTI: i32 = 14;
const MULTI_READ: i32 = 22;

#[derive(Default)]
struct Client {
    socket: Option<SocketId>,
    xid: i32,
    /// From the last ConnectResponse: session and password.
    session: Vec<u8>,
    /// It reads nothing.
    stalls: bool,
}

/// The kernel's end of a socket.
#[derive(Default)]
struct Kernel {
    inbound: VecDeque<u8>,
    ended: bool,
    outbound: Vec<u8>,
    /// It takes nothing from the server.
    stalls: bool,
}

#[derive(Default)]
struct Net(BTreeMap<SocketId, Kernel>);

impl Sockets for Net {
    fn accept(&mut self, _: SocketId) -> Accepted {
        Accepted::Nobody
    }

    fn waiting_max(&self) -> usize {
        0
    }

    fn handed_over(&self) -> usize {
        0
    }

    fn has_told_all(&self) -> bool {
        true
    }

    fn read(&mut self, id: SocketId, buffer: &mut [u8]) -> Read {
        let kernel = self.0.get_mut(&id).expect("nobody reads a closed socket");
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
            .0
            .get_mut(&id)
            .expect("nobody writes to a closed socket");
        if kernel.stalls {
            return Wrote::Nothing;
        }
        assert!(
            bytes.len() <= TAKEN_MAX,
            "{} bytes for one connection",
            bytes.len()
        );
        kernel.outbound.extend_from_slice(bytes);
        Wrote::Bytes(bytes.len())
    }

    fn unacknowledged(&mut self, id: SocketId) -> usize {
        self.0.get(&id).map_or(0, |kernel| kernel.outbound.len())
    }

    fn close(&mut self, id: SocketId) {
        assert!(self.0.remove(&id).is_some(), "a socket is closed once");
    }

    fn word(&mut self, id: SocketId, _: [u8; 4], _: &[u8]) {
        assert!(self.0.remove(&id).is_some(), "an open socket");
    }
}

/// A member and its clients.
pub struct Driver {
    core: ServingCore<Memory>,
    net: Net,
    clients: [Client; CLIENTS],
    log: Memory,
    now: Now,
}

impl Default for Driver {
    fn default() -> Self {
        Self::new()
    }
}

impl Driver {
    /// An empty member that serves.
    pub fn new() -> Self {
        let now = Now {
            tick: Tick(0),
            micros: 0,
            wall: WallMs(1_700_000_000_000),
        };
        let config = MemberConfig {
            pipeline: PipelineConfig {
                close_bytes_max: FRAME_MAX,
                // Containers and TTL nodes go within the time of a script.
                reaper: ReaperConfig {
                    check_interval_ms: 100,
                    ..ReaperConfig::default()
                },
                ..PipelineConfig::new(Rules {
                    extended_types: true,
                    ..Rules::default()
                })
            },
            log: LogConfig {
                segment_bytes: SEGMENT_BYTES,
            },
            snapshot_records: u64::MAX / 4,
            snapshots_kept: None,
            snapshot_memory: 1 << 20,
        };
        let shard = ShardConfig {
            frame_max: FRAME_MAX,
            in_flight_max: OUTSTANDING_MAX,
            fifo_max: OUTSTANDING_MAX,
            output_max: OUTPUT_MAX,
            output_excess_max: 4 * OUTPUT_MAX,
            ..ShardConfig::new(ShardId(0))
        };
        let mut identity = 0;
        let identities = Box::new(move || {
            identity += 1;
            identity
        });
        let (data, log) = (Memory::default(), Memory::default());
        let started = Member::start(config, &data, &log, identities, now, &mut Rebuilding::new(|_| {}));
        let (mut member, _) = started.expect("an empty disk in memory");
        member.pipeline.begin_serving(now);
        let served = Served::Inline(Box::new(Inline::new(member, shard)));
        Self {
            core: ServingCore::new(served, Budgets::DEFAULT, 5000, now),
            net: Net::default(),
            clients: Default::default(),
            log,
            now,
        }
    }

    fn member(&mut self) -> &mut Member<Memory> {
        match &mut self.core.served {
            Served::Inline(inline) => &mut inline.member,
            Served::Replica(_) => unreachable!("the driver is inline"),
        }
    }

    fn socket(&mut self, client: usize) -> SocketId {
        let one = &mut self.clients[client];
        if let Some(id) = one.socket.filter(|id| self.net.0.contains_key(id)) {
            return id;
        }
        let address = ClientAddress {
            address: "127.0.0.1".to_owned(),
            port: client as u16,
        };
        let id = self.core.adopt(address, self.now);
        self.net.0.insert(id, Kernel::default());
        (one.socket, one.stalls) = (Some(id), false);
        id
    }

    /// Bytes as they are.
    pub fn receive(&mut self, client: usize, bytes: &[u8]) {
        let id = self.socket(client);
        self.net.0.get_mut(&id).expect("open").inbound.extend(bytes);
        self.core.socket_event(id, true, false, false);
        self.turn();
    }

    /// A handshake that goes on with the session that `of` has heard of, or opens one.
    pub fn connect(&mut self, client: usize, of: usize) {
        let mut frame = [
            0i32.to_be_bytes(),
            0i32.to_be_bytes(),
            0i32.to_be_bytes(),
            10_000i32.to_be_bytes(),
        ]
        .concat();
        match &self.clients[of].session[..] {
            [] => frame.extend([0; 8].iter().chain(&16i32.to_be_bytes()).chain(&[0; 16])),
            session => frame.extend(session),
        }
        frame.push(0);
        self.send(client, &frame);
        self.settle();
    }

    /// A request with a header; its first byte chooses the operation.
    pub fn request(&mut self, client: usize, bytes: &[u8]) {
        let Some((which, body)) = bytes.split_first() else {
            return;
        };
        let one = &mut self.clients[client];
        one.xid += 1;
        let operation = OPERATIONS[usize::from(*which) % OPERATIONS.len()];
        let head = [one.xid.to_be_bytes(), operation.to_be_bytes()].concat();
        self.send(client, &[&head, body].concat());
    }

    /// A request whose body is written out until its frame is full.
    pub fn repeat(&mut self, client: usize, bytes: &[u8]) {
        let [which, body @ ..] = bytes else {
            return;
        };
        if body.is_empty() {
            return;
        }
        let times = (FRAME_MAX - 16) / body.len();
        self.request(client, &[&[*which][..], &body.repeat(times)].concat());
    }

    /// A multi, or a multiRead, of the same operation many times; the first bytes choose which, how
    /// often, and the operation.
    pub fn multiple(&mut self, client: usize, bytes: &[u8]) {
        let [which, times, operation, body @ ..] = bytes else {
            return;
        };
        let operation = OPERATIONS[usize::from(*operation) % OPERATIONS.len()];
        let header =
            |operation: i32, done: u8| [&operation.to_be_bytes()[..], &[done], &[0xff; 4]].concat();
        let entry = [&header(operation, 0)[..], body].concat();
        let times = (usize::from(*times) * 8).min((FRAME_MAX - 32) / entry.len());
        let multi = if which % 2 == 0 { MULTI } else { MULTI_READ };
        let which = OPERATIONS.iter().position(|known| *known == multi).unwrap() as u8;
        self.request(
            client,
            &[&[which][..], &entry.repeat(times), &header(-1, 1)].concat(),
        );
    }

    /// Data of half a frame, for a node that was created.
    pub fn fill(&mut self, client: usize, path: &[u8]) {
        let string = |bytes: &[u8]| [&(bytes.len() as u32).to_be_bytes(), bytes].concat();
        let body = [string(path), string(&[b'x'; FRAME_MAX / 2]), vec![0xff; 4]].concat();
        let which = OPERATIONS
            .iter()
            .position(|known| *known == SET_DATA)
            .unwrap() as u8;
        self.request(client, &[&[which][..], &body].concat());
    }

    fn send(&mut self, client: usize, payload: &[u8]) {
        let frame = [&(payload.len() as u32).to_be_bytes(), payload].concat();
        self.receive(client, &frame);
    }

    /// The socket ends.
    pub fn hang_up(&mut self, client: usize) {
        if let Some(id) = self.clients[client].socket.take()
            && let Some(kernel) = self.net.0.get_mut(&id)
        {
            kernel.ended = true;
            self.core.socket_event(id, true, false, true);
        }
        self.turn();
    }

    /// The client reads no more, or reads again.
    pub fn stall(&mut self, client: usize) {
        let one = &mut self.clients[client];
        one.stalls ^= true;
        if let Some(id) = one.socket
            && let Some(kernel) = self.net.0.get_mut(&id)
        {
            kernel.stalls = one.stalls;
            self.core.socket_event(id, false, !one.stalls, false);
        }
        self.turn();
    }

    /// Time goes on.
    pub fn pass(&mut self, ms: u64) {
        self.now.tick.0 += ms;
        self.now.micros += ms * 1000;
        self.now.wall.0 += ms as i64;
        let ticked = self.core.turn(true, self.now, &mut self.net, &mut |_| {});
        ticked.expect("a disk without faults");
        self.turn();
    }

    /// One sync, if one is due, and the background work that is.
    pub fn synchronise(&mut self) {
        let now = self.now;
        let log = self.log.clone();
        let member = self.member();
        if let Some(ticket) = member.poll_sync() {
            (member.synced(ticket.run(), now)).expect("a disk without faults");
        }
        while let Some(job) = member.poll_job() {
            let done = job.run(&log, &log);
            member.job_done(done).expect("a disk without faults");
        }
        self.turn();
    }

    /// Until no write waits for the disk.
    pub fn settle(&mut self) {
        self.turn();
        while self.member().is_sync_due() {
            self.synchronise();
        }
    }

    /// Turns until nothing moves without the disk.
    fn turn(&mut self) {
        loop {
            self.now.micros += 10;
            let turned = self.core.turn(false, self.now, &mut self.net, &mut |_| {});
            if !turned.expect("a disk without faults").again {
                break;
            }
        }
        self.read_replies();
    }

    fn read_replies(&mut self) {
        for client in &mut self.clients {
            let Some(kernel) = client.socket.and_then(|id| self.net.0.get_mut(&id)) else {
                continue;
            };
            let bytes = std::mem::take(&mut kernel.outbound);
            // A ConnectResponse: protocol, timeout, session, password, the read-only byte.
            if let [0, 0, 0, 36 | 37, 0, 0, 0, 0, _, _, _, _, rest @ ..] = &bytes[..] {
                client.session = rest[..28].to_vec();
            }
        }
    }
}
