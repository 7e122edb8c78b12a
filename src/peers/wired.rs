//! A member's part with its connections, and what learners are sent of the log, for tests that have no member around.

use super::*;
use crate::proto::peer::learner::Forwarded;
use crate::types::{OpCode, SessionId, Zxid};
use crate::zab::{Beginning, Heard, Learner, NotYet, Opening, Peer, Settings};

/// What is to be done, as the owner of a whole member would.
#[derive(Debug, PartialEq)]
pub(crate) enum WiredEffect {
    Dial {
        link: LinkId,
        to: Address,
    },
    Listen(bool),
    Close(LinkId, Option<Closed>),
    Member(Effect),
    /// A request of a client, of which the kind counts.
    Request(LinkId, OpCode),
    Revalidate(LinkId, SessionId),
    Synchronise(LinkId, Learner, Zxid),
    Read(LinkId, Source),
    Over(LinkId),
    Snapshot(LinkId, Zxid),
    SnapshotBytes {
        link: LinkId,
        bytes: Vec<u8>,
        is_last: bool,
    },
}

/// From where a learner's next piece comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Snapshot,
    /// Behind the first, up to the second.
    Log(Zxid, Zxid),
}

/// What was read for a learner.
pub(crate) enum Part {
    Snapshot(Piece),
    /// Committed transactions in order, at least one.
    Log(Vec<(Zxid, Vec<u8>)>),
}

#[derive(Debug)]
struct Stream {
    /// `None`: it is not decided yet what it is sent.
    from: Option<From>,
    /// The last transaction that was put into the connection, or what the learner has.
    base: Zxid,
    is_asked: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum From {
    Snapshot,
    Log,
}

#[derive(Debug)]
pub(crate) struct Wired {
    pub peer: Peer,
    pub peers: Peers,
    streams: BTreeMap<LinkId, Stream>,
    /// No more is read for these.
    over: Vec<LinkId>,
}

impl Wired {
    pub fn begin(settings: Settings, network: Network, beginning: Beginning, now: Tick) -> Wired {
        let (me, patience) = (settings.candidate.sid, settings.patience);
        Wired {
            peers: Peers::new(me, patience, network),
            peer: Peer::begin(settings, beginning, now),
            streams: BTreeMap::new(),
            over: Vec::new(),
        }
    }

    pub fn poll(&mut self, now: Tick) -> Option<WiredEffect> {
        loop {
            if let Some(link) = self.over.pop() {
                return Some(WiredEffect::Over(link));
            }
            if !self.peers.is_behind()
                && let Some(effect) = self.peer.poll()
            {
                if let Effect::Close(link, _) = effect
                    && self.streams.remove(&link).is_some()
                {
                    self.over.push(link);
                }
                match self.peers.does(effect, now) {
                    None => continue,
                    Some(effect) => return Some(self.wanted(effect)),
                }
            }
            match self.peers.poll(now) {
                None => return self.go_on(now),
                Some(PeersEffect::Tell(told)) => {
                    let from = match told {
                        Told::FromLearner(link, _) => Some(link),
                        Told::Closed(link) => {
                            let ended = self.streams.remove(&link);
                            self.over.extend(ended.map(|_| link));
                            None
                        }
                        _ => None,
                    };
                    let heard = told.tell(&mut self.peer, now);
                    if let Some(link) = from
                        && let Some(effect) = heard_of(link, &heard)
                    {
                        return Some(effect);
                    }
                }
                Some(PeersEffect::Dial { link, to }) => {
                    return Some(WiredEffect::Dial { link, to });
                }
                Some(PeersEffect::Listen(listens)) => return Some(WiredEffect::Listen(listens)),
                Some(PeersEffect::Close(link, why)) => return Some(WiredEffect::Close(link, why)),
                Some(PeersEffect::Read(link)) => {
                    return Some(WiredEffect::Read(link, Source::Snapshot));
                }
                Some(PeersEffect::Over(link)) => return Some(WiredEffect::Over(link)),
                Some(PeersEffect::SnapshotBytes {
                    link,
                    bytes,
                    is_last,
                }) => {
                    return Some(WiredEffect::SnapshotBytes {
                        link,
                        bytes,
                        is_last,
                    });
                }
            }
        }
    }

    fn wanted(&mut self, effect: Effect) -> WiredEffect {
        match effect {
            Effect::ReadSnapshot { link, zxid } => WiredEffect::Snapshot(link, zxid),
            Effect::Synchronise {
                link,
                learner,
                last,
            } => {
                let stream = Stream {
                    from: None,
                    base: last,
                    is_asked: false,
                };
                self.streams.insert(link, stream);
                WiredEffect::Synchronise(link, learner, last)
            }
            other => WiredEffect::Member(other),
        }
    }

    /// The next part of the log, of the first learner whose connection takes one.
    fn go_on(&mut self, now: Tick) -> Option<WiredEffect> {
        let links: Vec<LinkId> = self.streams.keys().copied().collect();
        for link in links {
            let waits = self.peers.unsent(link);
            let stream = self.streams.get_mut(&link)?;
            if stream.from != Some(From::Log) || stream.is_asked || waits >= PIECE {
                continue;
            }
            match self.peer.attach(link, stream.base, now) {
                Ok(()) => {
                    self.streams.remove(&link);
                    return Some(WiredEffect::Over(link));
                }
                Err(NotYet(upto)) => {
                    stream.is_asked = true;
                    let source = Source::Log(stream.base, upto);
                    return Some(WiredEffect::Read(link, source));
                }
            }
        }
        None
    }

    /// How a learner is synchronised. `end`: of the leader's committed history; `base`: of the snapshot, or what the
    /// learner keeps.
    pub fn synchronise(
        &mut self,
        link: LinkId,
        opening: Opening,
        end: Zxid,
        base: Zxid,
        now: Tick,
    ) {
        let Some(stream) = self.streams.get_mut(&link) else {
            return;
        };
        stream.base = base;
        let mut bytes = Vec::new();
        opening.packet(end, base).encode_into(&mut bytes);
        self.peers.does(Effect::Send(link, bytes), now);
        stream.from = Some(match opening {
            Opening::Snap => {
                self.peers.send_snapshot(link);
                From::Snapshot
            }
            Opening::Diff { .. } | Opening::Trunc { .. } => From::Log,
        });
    }

    /// What was read for a learner.
    pub fn piece(&mut self, link: LinkId, part: Part, now: Tick) {
        let committed = self.peer.leading().map(|leading| leading.committed());
        let Some(stream) = self.streams.get_mut(&link) else {
            return;
        };
        match part {
            Part::Snapshot(piece) => {
                if let Piece::Snapshot { is_last: true, .. } = piece {
                    stream.from = Some(From::Log);
                }
                self.peers.piece(link, piece);
            }
            Part::Log(entries) => {
                let mut out = Vec::new();
                stream.is_asked = false;
                for (zxid, entry) in &entries {
                    let (zxid, entry) = (*zxid, &entry[..]);
                    assert!(zxid.can_follow(stream.base) && Some(zxid) <= committed);
                    ToLearner::Proposal { zxid, entry }.encode_into(&mut out);
                    ToLearner::Commit(zxid).encode_into(&mut out);
                    stream.base = zxid;
                }
                self.peers.does(Effect::Send(link, out), now);
            }
        }
    }

    pub fn tick(&mut self, now: Tick) {
        self.peer.tick(now);
        self.peers.tick(now);
    }

    pub fn output(&mut self, link: LinkId, now: Tick) -> &[u8] {
        let Wired { peer, peers, .. } = self;
        peers.output(link, |wanted, out| wanted.fill(peer, link, now, out))
    }

    pub fn snapshot_taken(&mut self, link: LinkId, is_last: bool, now: Tick) {
        self.peers.snapshot_taken(link);
        if is_last {
            self.peer.snapshot_received(link, now);
        }
    }

    pub fn pass_on(&mut self, packet: &ToLeader<'_>, now: Tick) -> bool {
        let Some(link) = self.peer.leader() else {
            return false;
        };
        let mut bytes = Vec::new();
        packet.encode_into(&mut bytes);
        self.peers.does(Effect::Send(link, bytes), now);
        true
    }
}

fn heard_of(link: LinkId, heard: &Heard<'_>) -> Option<WiredEffect> {
    match heard {
        Heard::Request(Forwarded { op, .. }) => Some(WiredEffect::Request(link, *op)),
        Heard::Revalidate { session, .. } => Some(WiredEffect::Revalidate(link, *session)),
        Heard::Touched { .. } | Heard::Nothing => None,
    }
}
