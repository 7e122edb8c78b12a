use super::*;
use crate::proto::peer::{PeerState, Vote};
use crate::types::Round;
use proptest::prelude::*;
use std::collections::BTreeSet;

fn said(to: i64, round: i64) -> Said {
    Said {
        to: ServerId(to),
        state: PeerState::Looking,
        vote: Vote::NOBODY,
        round: Round(round),
    }
}

fn hello(sid: i64, port: Option<u16>) -> Hello {
    let address = |port| Address::new("h", port).unwrap();
    Hello {
        sid: ServerId(sid),
        addresses: port.map(address).into_iter().collect(),
    }
}

fn dial(to: i64) -> LinkEffect {
    LinkEffect::Dial {
        to: ServerId(to),
        announced: Vec::new(),
    }
}

fn dial_back(to: i64, port: u16) -> LinkEffect {
    LinkEffect::Dial {
        to: ServerId(to),
        announced: hello(to, Some(port)).addresses,
    }
}

fn effects(links: &mut Links) -> Vec<LinkEffect> {
    std::iter::from_fn(|| links.poll()).collect()
}

/// Server 5 with a connection, number 1, to 3, which is smaller, and one, number 2, to 7, which is larger.
fn connected() -> Links {
    let mut links = Links::new(ServerId(5));
    links.send(said(3, 1), true);
    links.dialled(ServerId(3), LinkId(1));
    links.accepted(LinkId(2), hello(7, None), true);
    links.take(LinkId(1));
    effects(&mut links);
    links
}

use LinkEffect::{Close, Connected, SayHello, Unreachable};

#[test]
fn rows_1_to_3_the_newest_message_waits_for_a_connection() {
    let mut links = connected();
    links.send(said(3, 1), true);
    links.send(said(3, 2), true);
    assert_eq!(effects(&mut links), []);
    assert_eq!(links.take(LinkId(1)), Some(said(3, 2)), "the newest");
    assert_eq!(links.take(LinkId(1)), None);
    links.send(said(4, 1), true);
    links.send(said(4, 2), true);
    assert_eq!(effects(&mut links), [dial(4)], "one dial at a time");
    links.send(said(99, 1), false);
    links.send(said(5, 1), true);
    assert_eq!(effects(&mut links), []);
    assert_eq!(links.peers.len(), 3, "neither a stranger nor this server");
}

#[test]
fn rows_4_to_6_a_dial_comes_up_or_fails() {
    let mut links = connected();
    links.send(said(4, 1), true);
    links.dialled(ServerId(4), LinkId(10));
    let due = [dial(4), SayHello(LinkId(10)), Connected(ServerId(4))];
    assert_eq!(effects(&mut links), due);
    assert_eq!(links.take(LinkId(10)), Some(said(4, 1)));
    links.send(said(9, 1), true);
    links.dialled(ServerId(9), LinkId(11));
    let due = [dial(9), SayHello(LinkId(11)), Close(LinkId(11))];
    assert_eq!(effects(&mut links), due, "9 dials back");
    assert_eq!(links.take(LinkId(11)), None);
    links.accepted(LinkId(12), hello(9, None), true);
    assert_eq!(effects(&mut links), [Connected(ServerId(9))]);
    assert_eq!(
        links.take(LinkId(12)),
        Some(said(9, 1)),
        "the message has waited"
    );
    links.send(said(2, 1), true);
    links.dial_failed(ServerId(2));
    assert_eq!(effects(&mut links), [dial(2), Unreachable(ServerId(2))]);
    links.send(said(2, 2), true);
    assert_eq!(effects(&mut links), [dial(2)], "each message tries again");
    // Nobody asked for these.
    links.dialled(ServerId(4), LinkId(13));
    links.dial_failed(ServerId(99));
    assert_eq!(effects(&mut links), [Close(LinkId(13))]);
    // The larger one was faster than the own dial, which then fails.
    links.send(said(8, 1), true);
    links.accepted(LinkId(14), hello(8, None), true);
    links.dial_failed(ServerId(8));
    assert_eq!(effects(&mut links), [dial(8), Connected(ServerId(8))]);
}

#[test]
fn row_7_the_dial_of_a_larger_id_is_the_connection() {
    let mut links = connected();
    links.accepted(LinkId(10), hello(7, Some(1)), true);
    assert_eq!(
        effects(&mut links),
        [Close(LinkId(2)), Connected(ServerId(7))]
    );
    assert_eq!(links.peer(LinkId(10)), Some(ServerId(7)));
    assert_eq!(links.peer(LinkId(2)), None);
}

#[test]
fn rows_8_and_9_the_dial_of_a_smaller_id_asks_for_one() {
    let mut links = connected();
    links.accepted(LinkId(10), hello(3, Some(7)), true);
    let due = [Close(LinkId(10)), Close(LinkId(1)), dial_back(3, 7)];
    assert_eq!(effects(&mut links), due);
    links.accepted(LinkId(11), hello(3, Some(8)), true);
    assert_eq!(effects(&mut links), [Close(LinkId(11))], "being dialled");
    links.dialled(ServerId(3), LinkId(12));
    assert_eq!(
        effects(&mut links),
        [SayHello(LinkId(12)), Connected(ServerId(3))]
    );
    // 3.4 sends no address, 3.5 could send a wildcard.
    links.accepted(LinkId(13), hello(3, None), true);
    assert_eq!(
        effects(&mut links),
        [Close(LinkId(13)), Close(LinkId(12)), dial(3)]
    );
}

#[test]
fn rows_10_to_12_the_own_id_observers_without_one_and_strangers() {
    let mut links = connected();
    links.accepted(LinkId(10), hello(5, Some(1)), true);
    assert_eq!(effects(&mut links), [Close(LinkId(10))]);
    links.accepted(LinkId(11), hello(i64::MAX, Some(1)), false);
    links.accepted(LinkId(12), hello(i64::MAX, Some(2)), false);
    let due = [
        Close(LinkId(11)),
        dial_back(-1, 1),
        Close(LinkId(12)),
        dial_back(-2, 2),
    ];
    assert_eq!(effects(&mut links), due);
    links.dialled(ServerId(-1), LinkId(13));
    assert_eq!(
        effects(&mut links),
        [SayHello(LinkId(13)), Connected(ServerId(-1))]
    );
    links.send(said(-1, 1), false);
    links.closed(LinkId(13));
    links.send(said(-1, 2), false);
    assert_eq!(effects(&mut links), [], "nobody has this id any more");
    links.accepted(LinkId(14), hello(1, None), false);
    assert_eq!(effects(&mut links), [Close(LinkId(14))]);
    links.accepted(LinkId(15), hello(1, Some(9)), false);
    assert_eq!(effects(&mut links), [Close(LinkId(15)), dial_back(1, 9)]);
    // A larger stranger needs no dial.
    links.accepted(LinkId(16), hello(200, None), false);
    assert_eq!(effects(&mut links), [Connected(ServerId(200))]);
    let ids = [3, 7, -2, 1, 200].map(ServerId);
    assert!(
        links.peers.keys().copied().eq(BTreeSet::from(ids)),
        "{:?}",
        links.peers
    );
}

#[test]
fn row_13_strangers_are_bounded_and_members_are_not_kept_out_by_them() {
    let mut links = connected();
    for sid in 0..PEERS_MAX as u64 {
        links.accepted(LinkId(100 + sid), hello(1000 + sid as i64, None), false);
    }
    assert_eq!(links.peers.len(), PEERS_MAX);
    effects(&mut links);
    links.accepted(LinkId(5001), hello(9999, None), false);
    assert_eq!(effects(&mut links), [Close(LinkId(5001))]);
    links.accepted(LinkId(2), hello(8, None), true);
    assert_eq!(effects(&mut links), [Connected(ServerId(8))]);
    links.closed(LinkId(100));
    links.closed(LinkId(101));
    links.accepted(LinkId(3), hello(9999, None), false);
    assert_eq!(effects(&mut links), [Connected(ServerId(9999))]);
}

#[test]
fn row_14_a_lost_connection_is_dialled_for_a_message_only() {
    let mut links = connected();
    links.closed(LinkId(1));
    links.closed(LinkId(1));
    links.closed(LinkId(77));
    assert_eq!(effects(&mut links), []);
    assert_eq!(links.link(ServerId(3)), None);
    links.send(said(3, 4), true);
    assert_eq!(effects(&mut links), [dial(3)]);
}

/// Something on its way between server 1 and server 2.
#[derive(Clone, Debug)]
enum Event {
    /// A dial of this server comes up or fails.
    Dial(usize),
    /// The hello of a connection comes to the server that was dialled.
    Hello(usize, LinkId),
    /// A close comes to this server.
    Closed(usize, LinkId),
}

#[derive(Default)]
struct Wire {
    events: Vec<Event>,
    links: u64,
    /// Who dialled each connection.
    dialler: Vec<usize>,
    /// Connections that one side or both have closed.
    ended: BTreeSet<LinkId>,
}

impl Wire {
    fn run(&mut self, servers: &mut [Links; 2], at: usize) {
        while let Some(effect) = servers[at].poll() {
            match effect {
                LinkEffect::Dial { .. } => self.events.push(Event::Dial(at)),
                SayHello(link) => self.events.push(Event::Hello(1 - at, link)),
                Close(link) => {
                    self.ended.insert(link);
                    self.events.push(Event::Closed(1 - at, link));
                }
                Connected(_) | Unreachable(_) => {}
            }
        }
    }

    /// Lets one event happen; what one side of a connection does comes to the other in order.
    fn step(&mut self, servers: &mut [Links; 2], which: usize, fails: bool) {
        let link_of = |event: &Event| match event {
            Event::Hello(at, link) | Event::Closed(at, link) => Some((*at, *link)),
            Event::Dial(_) => None,
        };
        let chosen = link_of(&self.events[which]);
        let is_same = |event: &Event| chosen.is_some() && link_of(event) == chosen;
        let first = self.events.iter().position(is_same).unwrap_or(which);
        let at = match self.events.remove(first) {
            Event::Dial(at) => {
                let other = ServerId(2 - at as i64);
                if fails {
                    servers[at].dial_failed(other);
                } else {
                    self.dialler.push(at);
                    servers[at].dialled(other, LinkId(self.links));
                    self.links += 1;
                }
                at
            }
            Event::Hello(at, link) => {
                servers[at].accepted(link, hello(2 - at as i64, None), true);
                at
            }
            Event::Closed(at, link) => {
                self.ended.insert(link);
                servers[at].closed(link);
                at
            }
        };
        self.run(servers, at);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    // Simultaneous dials, dials that fail, connections that break: when all is quiet and both still have something
    // to say, one connection is there, on both sides, and the larger id has dialled it.
    #[test]
    fn two_servers_end_with_one_connection_that_the_larger_id_has_dialled(steps in proptest::collection::vec((0..6u8, any::<prop::sample::Index>()), 1..80)) {
        let mut servers = [Links::new(ServerId(1)), Links::new(ServerId(2))];
        let mut wire = Wire::default();
        for (what, which) in steps {
            match what {
                0 | 1 => {
                    let at = usize::from(what);
                    servers[at].send(said(2 - at as i64, 1), true);
                    wire.run(&mut servers, at);
                }
                2 => if let Some(link) = servers[0].link(ServerId(2)) {
                    // It breaks; each side learns of it in its time.
                    wire.events.push(Event::Closed(0, link));
                    wire.events.push(Event::Closed(1, link));
                },
                what => if !wire.events.is_empty() {
                    let which = which.index(wire.events.len());
                    wire.step(&mut servers, which, what == 3);
                },
            }
        }
        for _ in 0..4 {
            for at in 0..2 {
                servers[at].send(said(2 - at as i64, 2), true);
                wire.run(&mut servers, at);
            }
            for step in 0.. {
                prop_assert!(step < 1000, "never quiet");
                if wire.events.is_empty() {
                    break;
                }
                wire.step(&mut servers, 0, false);
            }
        }
        let link = servers[0].link(ServerId(2));
        prop_assert!(link.is_some());
        prop_assert_eq!(servers[1].link(ServerId(1)), link);
        prop_assert_eq!(wire.dialler[link.unwrap().0 as usize], 1, "server 2");
        let open = (0..wire.links).map(LinkId).filter(|link| !wire.ended.contains(link));
        prop_assert!(open.eq(link), "none is left open");
        prop_assert_eq!(servers[0].take(link.unwrap()), Some(said(2, 2)));
    }
}
