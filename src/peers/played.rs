//! An owner that keeps everything in memory, where it is durable at once: for tests of connections.

use super::Piece;
use super::wired::{Part, Source, Wired, WiredEffect};
use crate::log::{Adoption, Durable, Epochs, LogEnd};
use crate::types::{OpCode, Position, Tick, Zxid};
use crate::zab::{
    Base, Beginning, Duty, Effect, History, Leave, LinkId, Offer, Opening, RoleId, decide,
};
use std::collections::{BTreeMap, VecDeque};

/// A transaction, and its entry.
pub(crate) type Txn = (Zxid, Vec<u8>);

#[derive(Default)]
pub(crate) struct Played {
    record: Epochs,
    pub history: Vec<Txn>,
    open: Option<Vec<Txn>>,
    adopted: Option<Adoption>,
    records: u64,
    pub committed: Zxid,
    pub serving: Option<Duty>,
    pub left: Vec<Leave>,
    /// The log holds everything behind this.
    pub log_from: Zxid,
    /// Snapshots on their way to learners, and what has left.
    sending: BTreeMap<LinkId, (Vec<u8>, usize)>,
    /// One on its way here: of which state, its bytes, and what it holds.
    coming: Zxid,
    bytes: Vec<u8>,
    received: Vec<Txn>,
    /// Bytes of a snapshot, or transactions, in a piece.
    pub piece: usize,
    told: VecDeque<Told>,
}

enum Told {
    Recorded,
    Durable,
    Flushed(RoleId),
    Applied,
    SyncOf(LinkId),
    Synchronise(LinkId, Zxid),
    Read(LinkId, Source),
    Taken(LinkId, bool),
    Refused(LinkId),
}

/// With the header of a transaction, as far as anybody looks.
pub(crate) fn entry(zxid: Zxid, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 12];
    bytes.extend(zxid.0.to_be_bytes());
    bytes.extend([0; 12]);
    bytes.extend(body);
    bytes
}

fn end(history: &[Txn]) -> Zxid {
    history.last().map_or(Zxid::ZERO, |(zxid, _)| *zxid)
}

fn upto(history: &[Txn], end: Zxid) -> &[Txn] {
    let within = history.iter().take_while(|(zxid, _)| *zxid <= end);
    &history[..within.count()]
}

/// As nodes of a snapshot (docs/peer-protocol.md §2.8).
pub(crate) fn snapshot(history: &[Txn]) -> Vec<u8> {
    let mut bytes = vec![0; 8];
    let put = |text: &[u8]| {
        let mut sized = (text.len() as u32).to_be_bytes().to_vec();
        sized.extend(text);
        sized
    };
    for (zxid, entry) in history {
        bytes.extend(put(format!("/{:x}", zxid.0).as_bytes()));
        bytes.extend(put(entry));
        bytes.extend([0; 68]);
    }
    bytes.extend(put(b"/"));
    bytes.extend(put(b"BenWasHere"));
    bytes
}

/// Anybody may have sent it.
fn restored(bytes: &[u8]) -> Option<Vec<Txn>> {
    let mut at = 8;
    let mut text = |more: usize| {
        let len = bytes.get(at..at + 4)?.try_into().ok()?;
        let text = bytes
            .get(at + 4..)?
            .get(..u32::from_be_bytes(len) as usize)?;
        at += 4 + text.len() + more;
        Some(text)
    };
    let mut history: Vec<Txn> = Vec::new();
    loop {
        let path = std::str::from_utf8(text(0)?).ok()?;
        if path == "/" {
            return Some(history);
        }
        let zxid = Zxid(i64::from_str_radix(path.strip_prefix('/')?, 16).ok()?);
        history.push((zxid, text(68)?.to_vec()));
    }
}

impl Played {
    /// Whole, and empty.
    pub fn new() -> Played {
        let mut played = Played {
            piece: 100,
            ..Played::default()
        };
        played.record.is_whole = true;
        played
    }

    pub fn beginning(&self) -> Beginning {
        Beginning {
            record: Durable::played(self.record),
            end: Durable::played(self.log_end()),
            nothing: Offer::FRESH,
            committed: self.committed,
        }
    }

    fn log_end(&self) -> LogEnd {
        LogEnd {
            position: Position(self.records),
            zxid: end(&self.history),
        }
    }

    /// Does what is to be done until there is nothing; what is about sockets is left to the caller.
    pub fn work(&mut self, peers: &mut Wired, now: Tick) -> Vec<WiredEffect> {
        let mut sockets = Vec::new();
        loop {
            while let Some(effect) = peers.poll(now) {
                sockets.extend(self.does(effect));
            }
            match self.told.pop_front() {
                Some(told) => self.tells(told, peers, now),
                None => return sockets,
            }
        }
    }

    /// A leader's next transaction. False: it does not lead.
    pub fn propose(&mut self, peers: &mut Wired, body: &[u8], now: Tick) -> bool {
        let next = peers.peer.leading().filter(|leading| leading.is_active());
        let Some(zxid) = next.and_then(|leading| leading.next()) else {
            return false;
        };
        let entry = entry(zxid, body);
        peers.peer.propose(zxid, &entry, now);
        self.append((zxid, entry));
        true
    }

    fn append(&mut self, txn: Txn) {
        self.open.as_mut().unwrap_or(&mut self.history).push(txn);
        self.records += 1;
        self.told.push_back(Told::Durable);
    }

    fn does(&mut self, effect: WiredEffect) -> Option<WiredEffect> {
        match effect {
            WiredEffect::Dial { .. } | WiredEffect::Listen(_) | WiredEffect::Close(..) => {
                return Some(effect);
            }
            WiredEffect::Member(effect) => self.keeps(effect),
            WiredEffect::Request(link, op) => {
                if op == OpCode::SYNC {
                    self.told.push_back(Told::SyncOf(link));
                }
            }
            WiredEffect::Synchronise(link, _, last) => {
                self.told.push_back(Told::Synchronise(link, last));
            }
            WiredEffect::Read(link, source) => self.told.push_back(Told::Read(link, source)),
            WiredEffect::Over(link) => drop(self.sending.remove(&link)),
            WiredEffect::Snapshot(_, zxid) => {
                self.coming = zxid;
                self.bytes.clear();
            }
            WiredEffect::SnapshotBytes {
                link,
                bytes,
                is_last,
            } => {
                self.bytes.extend(bytes);
                let told = match is_last && !self.is_restored() {
                    true => Told::Refused(link),
                    false => Told::Taken(link, is_last),
                };
                self.told.push_back(told);
            }
            WiredEffect::Revalidate(..) => {}
        }
        None
    }

    fn is_restored(&mut self) -> bool {
        self.received = restored(&self.bytes).unwrap_or_default();
        end(&self.received) == self.coming
    }

    fn keeps(&mut self, effect: Effect) {
        match effect {
            Effect::Record { epochs, .. } => {
                self.record = epochs;
                self.told.push_back(Told::Recorded);
            }
            Effect::Open(base) => {
                self.open = Some(match base {
                    Base::Log(zxid) => upto(&self.history, zxid).to_vec(),
                    Base::Snapshot(_) => std::mem::take(&mut self.received),
                });
            }
            Effect::Append { zxid, entry } => self.append((zxid, entry.to_vec())),
            Effect::Adopt(epoch) => {
                self.records += 1;
                self.history = self.open.take().expect("an open synchronisation");
                let end = self.log_end();
                self.adopted = Some(Adoption { epoch, end });
                self.told.push_back(Told::Durable);
            }
            Effect::Commit(decided) => {
                self.committed = self.committed.max(decided.zxid());
                self.told.push_back(Told::Applied);
            }
            Effect::Serve(_, duty) => self.serving = Some(duty),
            Effect::StopServing(_) => self.serving = None,
            Effect::Left(_, why) => self.left.push(why),
            Effect::Flush(role) => {
                self.open = None;
                self.told.push_back(Told::Flushed(role));
            }
            Effect::Synced(_) | Effect::Revalidated { .. } | Effect::Activate(..) => {}
            other => panic!("{other:?} is about connections"),
        }
    }

    fn tells(&mut self, told: Told, peers: &mut Wired, now: Tick) {
        let end = || Durable::played(self.log_end());
        match told {
            Told::Recorded => peers.peer.recorded(Durable::played(self.record), now),
            Told::Durable => {
                if let Some(adopted) = self.adopted {
                    peers.peer.adopted(&Durable::played(adopted), now);
                }
                peers.peer.durable(&end(), now);
            }
            Told::Flushed(role) => peers.peer.flushed(role, end(), now),
            Told::Applied => peers.peer.applied(self.committed, now),
            Told::SyncOf(link) => peers.peer.sync_of(link, now),
            Told::Synchronise(link, last) => self.synchronise(peers, link, last, now),
            Told::Read(link, source) => {
                let piece = self.read(link, source);
                peers.piece(link, piece, now);
            }
            Told::Taken(link, is_last) => peers.snapshot_taken(link, is_last, now),
            Told::Refused(link) => peers.peers.refuse(link),
        }
    }

    fn synchronise(&mut self, peers: &mut Wired, link: LinkId, last: Zxid, now: Tick) {
        let Some(committed) = peers.peer.leading().map(|leading| leading.committed()) else {
            return;
        };
        let txns = upto(&self.history, committed);
        let mut history = History::new(self.log_from);
        txns.iter().for_each(|(zxid, _)| history.extend(*zxid));
        let opening = decide(last, &history, false);
        let base = match opening {
            Opening::Diff { base } | Opening::Trunc { base } => base,
            Opening::Snap => {
                let kept = upto(txns, self.log_from.max(committed));
                self.sending.insert(link, (snapshot(kept), 0));
                end(kept)
            }
        };
        peers.synchronise(link, opening, history.end(), base, now);
    }

    fn read(&mut self, link: LinkId, source: Source) -> Part {
        match source {
            Source::Snapshot => {
                let Some((bytes, sent)) = self.sending.get_mut(&link) else {
                    return Part::Snapshot(Piece::Lost);
                };
                let until = (*sent + self.piece).min(bytes.len());
                let piece = bytes[*sent..until].to_vec();
                *sent = until;
                Part::Snapshot(Piece::Snapshot {
                    bytes: piece,
                    is_last: until == bytes.len(),
                })
            }
            Source::Log(after, until) => {
                let txns = upto(&self.history, until).iter();
                let txns = txns.filter(|(zxid, _)| *zxid > after);
                Part::Log(txns.take(self.piece).cloned().collect())
            }
        }
    }
}
