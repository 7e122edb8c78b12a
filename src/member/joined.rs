//! A member of an ensemble joined with its connections: what [`Peers`] tells goes to the [`Member`], and what the member
//! wants of connections goes to `Peers`. Whoever has the sockets drives it, a server or a simulator.
//!
//! ```text
//!  sockets ──► Peers ── Tell ──► Member ── SeatEffect ──► Peers ──► sockets
//!                │ pieces of snapshots     │
//!                └───── Transfer ◄─────────┘       beside the core
//! ```
//!
//! The driver tells [`Joined::peers`] of one event of a socket, and calls [`Joined::poll`] until that gives nothing,
//! before it tells of the next. Everything that the member wants is done before it is told anything else.

use super::transfer::{Keeping, Kept, Reading, Transfer, Transferred};
use super::{Member, SeatEffect};
use crate::log::storage::Storage;
use crate::peers::{NATIVE_HEAD, Peers, PeersEffect, Piece, Told, Wanted, native_head};
use crate::pipeline::Fatal;
use crate::proto::peer::Address;
use crate::types::{Now, Tick, Zxid};
use crate::zab::{Effect, LinkId};
use std::collections::{BTreeMap, VecDeque};

/// What the driver does.
#[derive(Clone, Debug, PartialEq)]
pub enum Outward {
    /// Connect, then [`Peers::dialled`] or [`Peers::dial_failed`].
    Dial {
        /// What the connection is called.
        link: LinkId,
        /// Where.
        to: Address,
    },
    /// Take connections on the quorum port, or none any more.
    Listen(bool),
    /// Close the socket, or give the dial up; why, if it was ended here.
    Close(LinkId, Option<crate::peers::Closed>),
    /// Say that this has come to pass: a role begins or ends.
    Say(Effect),
    /// Say that a leader's snapshot could not be kept. The role ends.
    NotKept(String),
}

/// A snapshot that comes from the leader.
struct Coming<S: Storage> {
    link: LinkId,
    /// What was kept of it, unless that is under way.
    kept: Option<Keeping<S>>,
    /// Its first bytes, until they say which form it has.
    head: Option<Vec<u8>>,
}

/// Of a member, around its connections.
pub struct Joined<S: Storage> {
    /// The connections, to be told what happens to sockets.
    pub peers: Peers,
    coming: Option<Coming<S>>,
    /// What of it waits to be kept.
    piece: Option<(Vec<u8>, bool)>,
    is_keeping: bool,
    /// Snapshots that go to learners, but for the one that is read from.
    going: BTreeMap<LinkId, Option<Reading<S>>>,
    /// Whose next piece is wanted.
    wanted: VecDeque<LinkId>,
    is_reading: bool,
    /// The leader's connection, while nothing is read from it.
    held: Option<LinkId>,
    out: VecDeque<Outward>,
}

impl<S: Storage> Joined<S> {
    /// Without connections.
    pub fn new(peers: Peers) -> Joined<S> {
        Joined {
            peers,
            coming: None,
            piece: None,
            is_keeping: false,
            going: BTreeMap::new(),
            wanted: VecDeque::new(),
            is_reading: false,
            held: None,
            out: VecDeque::new(),
        }
    }

    /// When [`Joined::tick`] is wanted next.
    pub fn deadline(&self, member: &Member<S>, now: Tick) -> Tick {
        let due = member.peer().and_then(|peer| peer.deadline());
        let often = self.peers.deadline(now);
        due.map_or(often, |due| due.min(often))
    }

    /// Time passes, behind what has happened by then.
    ///
    /// # Errors
    /// [`Fatal`]: the process must stop at once; no output may leave any more.
    pub fn tick(&mut self, member: &mut Member<S>, now: Now) -> Result<(), Fatal> {
        member.tick_seat(now)?;
        self.peers.tick(now.tick);
        Ok(())
    }

    /// The next thing for the driver to do. Nothing: all is done, and told.
    ///
    /// # Errors
    /// As [`Joined::tick`].
    pub fn poll(&mut self, member: &mut Member<S>, now: Now) -> Result<Option<Outward>, Fatal> {
        loop {
            if let Some(outward) = self.out.pop_front() {
                return Ok(Some(outward));
            }
            if !self.peers.is_behind()
                && let Some(effect) = member.poll_seat()
            {
                let closes = match &effect {
                    SeatEffect::Peer(Effect::Close(link, _)) => Some(*link),
                    _ => None,
                };
                self.does(effect, member, now);
                if let Some(link) = closes {
                    member.link_closed(link, now)?;
                }
                continue;
            }
            self.hold(member);
            let Some(effect) = self.peers.poll(now.tick) else {
                return Ok(None);
            };
            match effect {
                PeersEffect::Tell(told) => tell(member, told, now)?,
                PeersEffect::Dial { link, to } => self.out.push_back(Outward::Dial { link, to }),
                PeersEffect::Listen(listens) => self.out.push_back(Outward::Listen(listens)),
                PeersEffect::Close(link, why) => self.out.push_back(Outward::Close(link, why)),
                PeersEffect::Read(link) => self.wanted.push_back(link),
                PeersEffect::Over(link) => self.over(link),
                PeersEffect::SnapshotBytes {
                    link,
                    bytes,
                    is_last,
                } => self.keep(link, bytes, is_last),
            }
        }
    }

    fn does(&mut self, effect: SeatEffect, member: &Member<S>, now: Now) {
        match effect {
            SeatEffect::SendSnapshot { link, zxid } => {
                self.going.insert(link, Some(Reading::At(zxid)));
                self.peers.send_snapshot(link);
            }
            SeatEffect::Peer(effect) => match self.peers.does(effect, now.tick) {
                None => {}
                Some(Effect::ReadSnapshot { link, zxid }) => self.receive(link, zxid, member),
                Some(other) => self.out.push_back(Outward::Say(other)),
            },
        }
    }

    /// While the member takes nothing of its leader, nothing is read of it.
    fn hold(&mut self, member: &Member<S>) {
        let leader = member.peer().and_then(|peer| peer.leader());
        let held = leader.filter(|_| !member.takes_packets());
        if held != self.held {
            for (link, is_held) in self
                .held
                .into_iter()
                .map(|link| (link, false))
                .chain(held.map(|link| (link, true)))
            {
                self.peers.hold(link, is_held);
            }
            self.held = held;
        }
    }

    /// What a connection is to send next; then [`Peers::sent`].
    ///
    /// # Errors
    /// As [`Joined::tick`].
    pub fn output(
        &mut self,
        link: LinkId,
        member: &mut Member<S>,
        now: Now,
    ) -> Result<&[u8], Fatal> {
        let mut filled = Ok(());
        let bytes = self.peers.output(link, |wanted: Wanted, out| {
            let fill = |peer: &mut crate::zab::Peer| wanted.fill(peer, link, now.tick, out);
            filled = member.tell_peer(now, fill).map(drop);
        });
        filled.map(|()| bytes)
    }

    // Snapshots.

    fn receive(&mut self, link: LinkId, zxid: Zxid, member: &Member<S>) {
        self.piece = None;
        self.coming = Some(Coming {
            link,
            kept: Some(Keeping::Of(zxid, member.store())),
            head: Some(Vec::new()),
        });
    }

    fn keep(&mut self, link: LinkId, mut bytes: Vec<u8>, is_last: bool) {
        let Some(coming) = self.coming.as_mut().filter(|coming| coming.link == link) else {
            return;
        };
        if let Some(mut head) = coming.head.take() {
            head.extend(bytes);
            bytes = Vec::new();
            if head.len() < NATIVE_HEAD && !is_last {
                coming.head = Some(head);
            } else if head.starts_with(&native_head(0)[..4]) {
                bytes = head.split_off(NATIVE_HEAD.min(head.len()));
            } else {
                if let Some(Keeping::Of(zxid, store)) = coming.kept {
                    coming.kept = Some(Keeping::Foreign(Box::default(), zxid, store));
                }
                bytes = head;
            }
        }
        self.piece = Some((bytes, is_last));
    }

    fn over(&mut self, link: LinkId) {
        self.going.remove(&link);
        self.wanted.retain(|wanted| *wanted != link);
        if self.coming.take_if(|coming| coming.link == link).is_some() {
            self.piece = None;
        }
    }

    /// The next thing to do beside the core; then [`Joined::transferred`].
    pub fn poll_transfer(&mut self) -> Option<Transfer<S>> {
        if !self.is_keeping
            && let Some(coming) = &mut self.coming
            && let Some((bytes, is_last)) = self.piece.take()
        {
            let into = coming.kept.take().expect("nothing of it is under way");
            self.is_keeping = true;
            return Some(Transfer::Keep {
                link: coming.link,
                into,
                bytes,
                is_last,
            });
        }
        while !self.is_reading {
            let link = self.wanted.pop_front()?;
            let from = self.going.get_mut(&link).and_then(Option::take);
            if let Some(from) = from {
                self.is_reading = true;
                return Some(Transfer::Read { link, from });
            }
        }
        None
    }

    /// It was done.
    ///
    /// # Errors
    /// As [`Joined::tick`].
    pub fn transferred(
        &mut self,
        done: Transferred<S>,
        member: &mut Member<S>,
        now: Now,
    ) -> Result<(), Fatal> {
        match done {
            Transferred::Read { link, read } => {
                self.is_reading = false;
                let Some(going) = self.going.get_mut(&link) else {
                    return Ok(());
                };
                let piece = match read {
                    Ok((bytes, rest)) => {
                        let is_last = rest.is_none();
                        *going = rest;
                        Piece::Snapshot { bytes, is_last }
                    }
                    Err(_) => Piece::Lost,
                };
                self.peers.piece(link, piece);
            }
            Transferred::Kept { link, kept } => {
                self.is_keeping = false;
                let coming = self.coming.as_mut().filter(|coming| coming.link == link);
                match kept {
                    Ok(Kept::Part(keeping)) => {
                        if let Some(coming) = coming {
                            coming.kept = Some(keeping);
                            self.peers.snapshot_taken(link);
                        }
                    }
                    Ok(Kept::Whole(received)) => {
                        if coming.is_some() {
                            self.coming = None;
                            self.peers.snapshot_taken(link);
                        }
                        member.snapshot_received(link, received, now)?;
                    }
                    Err(error) => {
                        if coming.is_some() {
                            self.out.push_back(Outward::NotKept(error.to_string()));
                            self.peers.refuse(link);
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

fn tell<S: Storage>(member: &mut Member<S>, told: Told<'_>, now: Now) -> Result<(), Fatal> {
    match told {
        Told::FromLearner(link, packet) => member.from_learner(link, &packet, now),
        Told::FromLeader(link, packet) => member.from_leader(link, &packet, now),
        Told::Taken(link) => member.taken(link, now),
        Told::Closed(link) => member.link_closed(link, now),
        told => member
            .tell_peer(now, |peer| {
                told.tell(peer, now.tick);
            })
            .map(drop),
    }
}
