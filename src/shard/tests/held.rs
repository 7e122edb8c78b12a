//! Whatever connections ask for, and however they end: what all of them hold together is what each of them holds,
//! and in the end nothing.

use super::stand_in::*;
use crate::budget::Budget;
use crate::messages::Notice;
use crate::proto::session::password;
use crate::shard::{Held, ShardConfig};
use crate::types::{ConnId, SessionId, Zxid};
use proptest::prelude::*;

const CLIENTS: usize = 4;

#[derive(Clone, Copy, Debug)]
struct Client {
    conn: ConnId,
    session: SessionId,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// A client sends a request, or only its first bytes.
    Ask(usize, usize, bool),
    /// The next connection that is ready has its turn.
    Turn,
    /// What was asked for is ordered, and so many transactions are applied.
    Commit(usize),
    /// The kernel takes so many bytes of what it was given.
    Take(usize, usize),
    /// Time passes.
    Time(u64),
    /// How a connection ends.
    End(usize, End),
}

#[derive(Clone, Copy, Debug)]
enum End {
    Closed,
    Moved,
    TurnedAway,
    Expired,
    Nonsense,
}

fn step() -> impl Strategy<Value = Step> {
    let client = || 0..CLIENTS;
    let end = prop_oneof![
        Just(End::Closed),
        Just(End::Moved),
        Just(End::TurnedAway),
        Just(End::Expired),
        Just(End::Nonsense),
    ];
    prop_oneof![
        12 => (client(), 0..12usize, prop::bool::weighted(0.9))
            .prop_map(|(c, what, whole)| Step::Ask(c, what, whole)),
        8 => Just(Step::Turn),
        3 => (0..3usize).prop_map(Step::Commit),
        3 => (client(), 0..3_000usize).prop_map(|(c, n)| Step::Take(c, n)),
        1 => (0..3_000u64).prop_map(Step::Time),
        2 => (client(), end).prop_map(|(c, end)| Step::End(c, end)),
    ]
}

/// Bounds that few requests reach.
fn narrow(config: &mut ShardConfig) {
    config.connection_share = 400;
    config.request_bytes_max = 3_000;
    config.output_bytes_max = 3_000;
    config.output_max = 2_000;
    config.output_excess_max = 4_000;
    config.reply_bytes_max = 2_000;
    config.watch_bytes_max = 3_000;
    config.in_flight_max = 2;
    config.fifo_max = 6;
}

fn asked(what: usize, xid: i32) -> Vec<u8> {
    match what {
        0 => read(xid, 8, "/kids", true),
        1 => read(xid, 12, "/kids", false),
        2 => read(xid, 4, "/big", true),
        3 => request(xid, 22, |out| {
            use crate::txn::jute::Put;
            for path in ["/kids", "/", "/kids"] {
                out.put_i32(8);
                out.put_bool(false);
                out.put_i32(-1);
                out.put_str(path);
                out.put_bool(false);
            }
            put_multi_end(out);
        }),
        4 => set_watches(-8, Zxid(0), &["/big"], &["/a", "/b", "/c"], &["/kids"]),
        5 => on_watches(xid, 106, "/kids", 1),
        6 => set_data(xid, "/big", &[7; 900]),
        7 => set_data(xid, "/kids", b"x"),
        8 => create(xid, &format!("/kids/n{xid}")),
        9 => sync(xid),
        10 => auth(-4, "digest", b"ann:1"),
        _ => ping(),
    }
}

struct Play {
    world: World,
    clients: Vec<Client>,
    /// Connections that clients had before.
    left: Vec<ConnId>,
    xid: i32,
}

impl Play {
    fn begin(slice: u32) -> Play {
        let mut world = World::with(narrow);
        let writer = world.client();
        for (xid, path) in [(1, "/kids"), (2, "/big")] {
            world.send(writer, &create(xid, path));
        }
        for n in 0..20 {
            world.send(writer, &create(3, &format!("/kids/{n}")));
        }
        world.send(writer, &set_data(4, "/big", &[7; 900]));
        world.frames(writer);
        world.shard.closed(writer, world.now);
        let clients = (0..CLIENTS).map(|_| Play::connected(&mut world)).collect();
        world.slice = Budget::new(4, 500, slice);
        world.prompt = false;
        Play {
            world,
            clients,
            left: Vec::new(),
            xid: 10,
        }
    }

    fn connected(world: &mut World) -> Client {
        let conn = world.client();
        Client {
            conn,
            session: SessionId(world.session.0 - 1),
        }
    }

    fn step(&mut self, step: Step) {
        let world = &mut self.world;
        match step {
            Step::Ask(client, what, whole) => {
                self.xid += 1;
                let bytes = asked(what, self.xid);
                let conn = self.clients[client].conn;
                let most = match whole {
                    true => bytes.len(),
                    false => bytes.len() / 2,
                };
                let n = world.shard.may_read(conn).min(most);
                // The rest of a frame never comes: the connection is of no more use, and ends at some time.
                if n > 0 {
                    world.receive(conn, &bytes[..n]);
                }
            }
            Step::Turn => drop(world.one_turn()),
            Step::Commit(n) => {
                world.hand_up();
                world.apply(n);
            }
            Step::Take(client, n) => {
                let conn = self.clients[client].conn;
                let output = world.shard.fetch_output(conn, Vec::new(), world.now);
                world.shard.sent(conn, n.min(output.bytes.len()));
            }
            Step::Time(ms) => world.advance_ms(ms),
            Step::End(client, end) => self.end(client, end),
        }
        self.world.check();
    }

    /// A connection ends, and its client has another one.
    fn end(&mut self, client: usize, end: End) {
        let world = &mut self.world;
        let Client { conn, session } = self.clients[client];
        self.left.push(conn);
        match end {
            End::Closed => world.shard.closed(conn, world.now),
            End::TurnedAway => {
                (world.shard).notice(&world.tree, Notice::Close(conn), world.now);
            }
            End::Moved => {
                let conn = world.accept();
                let hello = connect(Zxid(0), 10_000, session, &password(session));
                world.receive(conn, &hello);
                // The old connection is told, and confirms it.
                for _ in 0..2 {
                    world.hand_up();
                    world.apply(world.logged.len());
                }
                self.clients[client].conn = conn;
                return;
            }
            End::Expired => {
                world.hand_up();
                world.expire_unheard(session);
            }
            // Of no length that is accepted, or what a frame lacks.
            End::Nonsense => world.receive(conn, &[0xff; 4]),
        }
        world.check();
        self.clients[client] = Play::connected(world);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_connections_hold_is_given_back_however_they_end(
        slice in 1..30u32,
        steps in proptest::collection::vec(step(), 1..120),
    ) {
        let mut play = Play::begin(slice);
        for step in steps {
            play.step(step);
        }
        let mut world = play.world;
        let conns = play.clients.iter().map(|client| client.conn);
        for conn in conns.chain(play.left) {
            world.shard.closed(conn, world.now);
        }
        world.prompt = true;
        world.turn();
        while world.shard.poll_dirty().is_some() {}
        while world.shard.reap(&mut Budget::new(1, 1, 10)) {}
        prop_assert_eq!(world.shard.counted(), Held::default());
    }
}
