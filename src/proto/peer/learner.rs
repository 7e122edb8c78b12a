//! What a packet of the quorum port means (docs/peer-protocol.md §2.2). A learner sends [`ToLeader`], its leader
//! sends [`ToLearner`]; a type that does not come this way, or that nobody knows, is `Other`, and the role decides
//! whether that ends the connection.
//!
//! | To the leader | zxid | data |
//! |---|---|---|
//! | FOLLOWERINFO, OBSERVERINFO | acceptedEpoch ‖ 0 | [`LearnerInfo`] |
//! | ACKEPOCH | last durable | currentEpoch i32, −1 if the epoch was accepted before |
//! | ACK | what is durable, or the NEWLEADER's | null |
//! | PING | the ping's | (session i64 ‖ timeout i32)*, never null |
//! | REVALIDATE | −1 | session i64 ‖ timeout i32 |
//! | REQUEST | −1 | session i64 ‖ cxid i32 ‖ opcode i32 ‖ body; the client's identities |
//!
//! | To a learner | zxid | data |
//! |---|---|---|
//! | LEADERINFO | newEpoch ‖ 0 | version i32 [‖ capabilities] |
//! | DIFF, TRUNC, SNAP | end of what follows, where to cut, the snapshot's | null; raw bytes of a snapshot follow a SNAP |
//! | PROPOSAL, INFORM | the entry's | entry |
//! | COMMIT | what is committed | null |
//! | COMMITANDACTIVATE, INFORMANDACTIVATE | the reconfiguration's | leader i64 [‖ entry] |
//! | NEWLEADER | epoch ‖ 0 | text of the last seen configuration, or nothing |
//! | UPTODATE | −1 | null |
//! | PING | last proposed | null |
//! | REVALIDATE | −1 | session i64 ‖ valid bool |
//! | SYNC | 0 | null |

use super::packet::{Ids, Packet, PacketType, head, put_bare, put_with};
use crate::txn::jute::{JuteError, Put, Reader};
use crate::types::{Epoch, OpCode, ServerId, SessionId, Zxid};

/// The version of the learner protocol; no other is ever announced, because older members compare it.
pub const PROTOCOL_VERSION: i32 = 0x1_0000;
/// In place of a zxid where there is none.
const NO_ZXID: Zxid = Zxid(-1);
/// In place of currentEpoch from a learner that has accepted the epoch on an earlier connection.
const ACCEPTED_BEFORE: i32 = -1;
/// Bytes of one session in a PING.
const TOUCH_BYTES: usize = 12;
/// "RKPR": what follows are capabilities of ours.
const MAGIC: i32 = 0x524b_5052;

/// Why the connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// The data ends inside a field.
    #[error("{kind:?}: {error}")]
    Data {
        /// Of the packet.
        kind: PacketType,
        /// Why.
        error: JuteError,
    },
    /// Below 0, where there must be one.
    #[error("{kind:?} with the epoch {epoch}")]
    Epoch {
        /// Of the packet.
        kind: PacketType,
        /// As sent.
        epoch: i64,
    },
    /// A learner from before 3.4's protocol.
    #[error("protocol version {0:#x} is too old")]
    Version(i32),
    /// The entry is not the transaction that the packet says (known failure O1, I-15).
    #[error("{kind:?} {packet} holds transaction {entry}")]
    Zxid {
        /// Of the packet.
        kind: PacketType,
        /// Of the packet.
        packet: Zxid,
        /// Of the entry's header.
        entry: Zxid,
    },
    /// The reply to a ping is no list of sessions.
    #[error("{0} bytes are no list of sessions")]
    Touched(usize),
}

/// How a learner introduces itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LearnerInfo {
    /// Who.
    pub sid: ServerId,
    /// Version of its committed configuration; absent from 3.4.
    pub config_version: Option<Zxid>,
    /// Absent from Apache.
    pub capabilities: Option<Capabilities>,
}

/// What a member of ours can do beyond Apache's protocol. It stands behind what Apache reads (docs/peer-protocol.md
/// §2.2), and is in use on a connection when both sides have sent it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Capabilities {
    /// Of this list.
    pub version: i32,
    /// One bit each.
    pub bits: i64,
}

/// Sessions that a learner has heard of since the last ping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Touched<'a>(&'a [u8]);

/// A client's request, passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Forwarded<'a> {
    /// The client's.
    pub session: SessionId,
    /// Chosen by the learner to know the transaction again.
    pub cxid: i32,
    /// What to do.
    pub op: OpCode,
    /// As the client sent it.
    pub body: &'a [u8],
    /// Who asks; null for createSession and closeSession only.
    pub ids: Option<Ids<'a>>,
}

/// From a learner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ToLeader<'a> {
    /// FOLLOWERINFO, OBSERVERINFO.
    Info {
        /// OBSERVERINFO: it gets INFORM in place of PROPOSAL and COMMIT.
        is_observer: bool,
        /// acceptedEpoch.
        accepted: Epoch,
        /// Who.
        info: LearnerInfo,
    },
    /// ACKEPOCH.
    AckEpoch {
        /// What is durable there.
        last: Zxid,
        /// `None`: it had accepted this epoch before, and counts for nothing.
        current: Option<Epoch>,
    },
    /// ACK of a transaction or of a NEWLEADER, told apart by the zxid.
    Ack(Zxid),
    /// PING.
    Ping {
        /// Of the ping.
        zxid: Zxid,
        /// Whom the learner has heard of.
        touched: Touched<'a>,
    },
    /// REVALIDATE: a client has come with a session of another member.
    Revalidate {
        /// Which.
        session: SessionId,
        /// Negotiated, ms.
        timeout_ms: i32,
    },
    /// REQUEST.
    Request(Forwarded<'a>),
    /// None of these.
    Other(PacketType),
}

/// From the leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ToLearner<'a> {
    /// LEADERINFO: the epoch to accept.
    LeaderInfo {
        /// The new one.
        epoch: Epoch,
        /// Absent from Apache, and towards Apache.
        capabilities: Option<Capabilities>,
    },
    /// DIFF: what follows continues the learner's history.
    Diff(Zxid),
    /// TRUNC: cut behind this.
    Trunc(Zxid),
    /// SNAP: the bytes of a snapshot of this state follow.
    Snap(Zxid),
    /// PROPOSAL.
    Proposal {
        /// Of packet and entry.
        zxid: Zxid,
        /// Serialised (docs/peer-protocol.md §3.1).
        entry: &'a [u8],
    },
    /// COMMIT.
    Commit(Zxid),
    /// COMMITANDACTIVATE: the commit of a reconfiguration.
    CommitAndActivate {
        /// Of the reconfiguration.
        zxid: Zxid,
        /// Who is to lead from here on.
        leader: ServerId,
    },
    /// INFORM: an observer's PROPOSAL and COMMIT in one.
    Inform {
        /// Of packet and entry.
        zxid: Zxid,
        /// Serialised.
        entry: &'a [u8],
    },
    /// INFORMANDACTIVATE.
    InformAndActivate {
        /// Of packet and entry.
        zxid: Zxid,
        /// Who is to lead from here on.
        leader: ServerId,
        /// Serialised.
        entry: &'a [u8],
    },
    /// NEWLEADER: the learner's history is now the leader's.
    NewLeader {
        /// Epoch, and 0; the learner's ACK repeats it.
        zxid: Zxid,
        /// Text of the last seen configuration.
        config: Option<&'a [u8]>,
    },
    /// UPTODATE: serve.
    UpToDate,
    /// PING.
    Ping(Zxid),
    /// REVALIDATE.
    Revalidate {
        /// Which.
        session: SessionId,
        /// Whether it lives, and is the learner's now.
        is_valid: bool,
    },
    /// SYNC: for the oldest sync that the learner has passed on.
    Sync,
    /// None of these.
    Other(PacketType),
}

impl<'a> Touched<'a> {
    /// Session and timeout, ms.
    pub fn iter(self) -> impl ExactSizeIterator<Item = (SessionId, i32)> + 'a {
        self.0.chunks_exact(TOUCH_BYTES).map(|touch| {
            let (session, timeout_ms) = touch.split_at(8);
            let session = session.try_into().map(i64::from_be_bytes);
            let timeout_ms = timeout_ms.try_into().map(i32::from_be_bytes);
            // Both have their length: the chunks are exact.
            (
                SessionId(session.unwrap_or_default()),
                timeout_ms.unwrap_or_default(),
            )
        })
    }

    /// Appends one session to the data of a PING.
    pub fn put(data: &mut Vec<u8>, session: SessionId, timeout_ms: i32) {
        data.put_i64(session.0);
        data.put_i32(timeout_ms);
    }

    /// Of what [`Touched::put`] has written.
    pub fn of(data: &'a [u8]) -> Result<Touched<'a>, PeerError> {
        match data.len() % TOUCH_BYTES {
            0 => Ok(Touched(data)),
            _ => Err(PeerError::Touched(data.len())),
        }
    }
}

impl Capabilities {
    fn read(r: &mut Reader<'_>) -> Option<Capabilities> {
        if r.i32() != Ok(MAGIC) {
            return None;
        }
        let version = r.i32().ok()?;
        let bits = r.i64().ok()?;
        Some(Capabilities { version, bits })
    }

    fn put(self, out: &mut Vec<u8>) {
        out.put_i32(MAGIC);
        out.put_i32(self.version);
        out.put_i64(self.bits);
    }
}

impl LearnerInfo {
    fn read(kind: PacketType, data: &[u8]) -> Result<LearnerInfo, PeerError> {
        let mut r = Reader::new(data);
        let sid = r.i64().map_err(|error| PeerError::Data { kind, error })?;
        // Who sends the id alone is older than the field.
        let version = r.i32().unwrap_or(1);
        if version < PROTOCOL_VERSION {
            return Err(PeerError::Version(version));
        }
        Ok(LearnerInfo {
            sid: ServerId(sid),
            config_version: r.i64().ok().map(Zxid),
            capabilities: Capabilities::read(&mut r),
        })
    }

    fn put(self, out: &mut Vec<u8>) {
        out.put_i64(self.sid.0);
        out.put_i32(PROTOCOL_VERSION);
        if let Some(version) = self.config_version {
            out.put_i64(version.0);
            if let Some(capabilities) = self.capabilities {
                capabilities.put(out);
            }
        }
    }
}

impl<'a> ToLeader<'a> {
    /// The packet's type.
    pub fn kind(&self) -> PacketType {
        match self {
            ToLeader::Info {
                is_observer: true, ..
            } => PacketType::OBSERVERINFO,
            ToLeader::Info { .. } => PacketType::FOLLOWERINFO,
            ToLeader::AckEpoch { .. } => PacketType::ACKEPOCH,
            ToLeader::Ack(_) => PacketType::ACK,
            ToLeader::Ping { .. } => PacketType::PING,
            ToLeader::Revalidate { .. } => PacketType::REVALIDATE,
            ToLeader::Request(_) => PacketType::REQUEST,
            ToLeader::Other(kind) => *kind,
        }
    }

    /// What a packet from a learner means.
    pub fn decode(packet: &Packet<'a>) -> Result<ToLeader<'a>, PeerError> {
        let kind = packet.kind;
        let wrong = |error| PeerError::Data { kind, error };
        let data = || packet.data.ok_or(wrong(JuteError::Null));
        Ok(match kind {
            PacketType::FOLLOWERINFO | PacketType::OBSERVERINFO => ToLeader::Info {
                is_observer: kind == PacketType::OBSERVERINFO,
                accepted: epoch(kind, packet.zxid)?,
                info: LearnerInfo::read(kind, data()?)?,
            },
            PacketType::ACKEPOCH => {
                let current = Reader::new(data()?).i32().map_err(wrong)?;
                let negative = PeerError::Epoch {
                    kind,
                    epoch: i64::from(current),
                };
                ToLeader::AckEpoch {
                    last: packet.zxid,
                    current: match current {
                        ACCEPTED_BEFORE => None,
                        _ => Some(Epoch(u32::try_from(current).map_err(|_| negative)?)),
                    },
                }
            }
            PacketType::ACK => ToLeader::Ack(packet.zxid),
            PacketType::PING => ToLeader::Ping {
                zxid: packet.zxid,
                touched: Touched::of(data()?)?,
            },
            PacketType::REVALIDATE => {
                let mut r = Reader::new(data()?);
                ToLeader::Revalidate {
                    session: SessionId(r.i64().map_err(wrong)?),
                    timeout_ms: r.i32().map_err(wrong)?,
                }
            }
            PacketType::REQUEST => {
                let mut r = Reader::new(data()?);
                ToLeader::Request(Forwarded {
                    session: SessionId(r.i64().map_err(wrong)?),
                    cxid: r.i32().map_err(wrong)?,
                    op: OpCode(r.i32().map_err(wrong)?),
                    body: r.rest(),
                    ids: packet.ids,
                })
            }
            other => ToLeader::Other(other),
        })
    }

    /// Appends the packet; nothing for [`ToLeader::Other`].
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        match *self {
            ToLeader::Info {
                is_observer,
                accepted,
                info,
            } => {
                let kind = match is_observer {
                    true => PacketType::OBSERVERINFO,
                    false => PacketType::FOLLOWERINFO,
                };
                put_with(out, kind, Zxid::new(accepted.0, 0), |out| info.put(out));
            }
            ToLeader::AckEpoch { last, current } => {
                // An epoch has 31 bits.
                let current = current.map_or(ACCEPTED_BEFORE, |epoch| epoch.0 as i32);
                put_with(out, PacketType::ACKEPOCH, last, |out| out.put_i32(current));
            }
            ToLeader::Ack(zxid) => put_bare(out, PacketType::ACK, zxid),
            ToLeader::Ping { zxid, touched } => {
                put_with(out, PacketType::PING, zxid, |out| {
                    out.extend_from_slice(touched.0);
                });
            }
            ToLeader::Revalidate {
                session,
                timeout_ms,
            } => put_with(out, PacketType::REVALIDATE, NO_ZXID, |out| {
                out.put_i64(session.0);
                out.put_i32(timeout_ms);
            }),
            ToLeader::Request(request) => request.encode_into(out),
            ToLeader::Other(_) => {}
        }
    }
}

impl Forwarded<'_> {
    /// A sync, of a session's client or of none. The answer names neither.
    pub fn sync(session: SessionId) -> Forwarded<'static> {
        Forwarded {
            session,
            cxid: 0,
            op: OpCode::SYNC,
            // The path "/": what it says means nothing.
            body: b"\0\0\0\x01/",
            ids: None,
        }
    }

    fn encode_into(&self, out: &mut Vec<u8>) {
        let mut data = Vec::with_capacity(16 + self.body.len());
        data.put_i64(self.session.0);
        data.put_i32(self.cxid);
        data.put_i32(self.op.0);
        data.extend_from_slice(self.body);
        let packet = Packet {
            kind: PacketType::REQUEST,
            zxid: NO_ZXID,
            data: Some(&data),
            ids: self.ids,
        };
        packet.encode_into(out);
    }
}

impl<'a> ToLearner<'a> {
    /// The packet's type.
    pub fn kind(&self) -> PacketType {
        match self {
            ToLearner::LeaderInfo { .. } => PacketType::LEADERINFO,
            ToLearner::Diff(_) => PacketType::DIFF,
            ToLearner::Trunc(_) => PacketType::TRUNC,
            ToLearner::Snap(_) => PacketType::SNAP,
            ToLearner::Proposal { .. } => PacketType::PROPOSAL,
            ToLearner::Commit(_) => PacketType::COMMIT,
            ToLearner::CommitAndActivate { .. } => PacketType::COMMITANDACTIVATE,
            ToLearner::Inform { .. } => PacketType::INFORM,
            ToLearner::InformAndActivate { .. } => PacketType::INFORMANDACTIVATE,
            ToLearner::NewLeader { .. } => PacketType::NEWLEADER,
            ToLearner::UpToDate => PacketType::UPTODATE,
            ToLearner::Ping(_) => PacketType::PING,
            ToLearner::Revalidate { .. } => PacketType::REVALIDATE,
            ToLearner::Sync => PacketType::SYNC,
            ToLearner::Other(kind) => *kind,
        }
    }

    /// What a packet from the leader means.
    pub fn decode(packet: &Packet<'a>) -> Result<ToLearner<'a>, PeerError> {
        let kind = packet.kind;
        let zxid = packet.zxid;
        let wrong = |error| PeerError::Data { kind, error };
        let data = || packet.data.ok_or(wrong(JuteError::Null));
        Ok(match kind {
            PacketType::LEADERINFO => {
                let mut r = Reader::new(data()?);
                r.i32().map_err(wrong)?;
                ToLearner::LeaderInfo {
                    epoch: epoch(kind, zxid)?,
                    capabilities: Capabilities::read(&mut r),
                }
            }
            PacketType::DIFF => ToLearner::Diff(zxid),
            PacketType::TRUNC => ToLearner::Trunc(zxid),
            PacketType::SNAP => ToLearner::Snap(zxid),
            PacketType::PROPOSAL => ToLearner::Proposal {
                zxid,
                entry: entry(kind, zxid, data()?)?,
            },
            PacketType::COMMIT => ToLearner::Commit(zxid),
            PacketType::COMMITANDACTIVATE => ToLearner::CommitAndActivate {
                zxid,
                leader: ServerId(Reader::new(data()?).i64().map_err(wrong)?),
            },
            PacketType::INFORM => ToLearner::Inform {
                zxid,
                entry: entry(kind, zxid, data()?)?,
            },
            PacketType::INFORMANDACTIVATE => {
                let mut r = Reader::new(data()?);
                ToLearner::InformAndActivate {
                    zxid,
                    leader: ServerId(r.i64().map_err(wrong)?),
                    entry: entry(kind, zxid, r.rest())?,
                }
            }
            PacketType::NEWLEADER => ToLearner::NewLeader {
                zxid,
                // One byte is as good as none: very old leaders.
                config: packet.data.filter(|text| text.len() > 1),
            },
            PacketType::UPTODATE => ToLearner::UpToDate,
            PacketType::PING => ToLearner::Ping(zxid),
            PacketType::REVALIDATE => {
                let mut r = Reader::new(data()?);
                ToLearner::Revalidate {
                    session: SessionId(r.i64().map_err(wrong)?),
                    is_valid: r.bool().map_err(wrong)?,
                }
            }
            PacketType::SYNC => ToLearner::Sync,
            other => ToLearner::Other(other),
        })
    }

    /// Appends the packet; nothing for [`ToLearner::Other`].
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        match *self {
            ToLearner::LeaderInfo {
                epoch,
                capabilities,
            } => put_with(out, PacketType::LEADERINFO, Zxid::new(epoch.0, 0), |out| {
                out.put_i32(PROTOCOL_VERSION);
                if let Some(capabilities) = capabilities {
                    capabilities.put(out);
                }
            }),
            ToLearner::Diff(zxid) => put_bare(out, PacketType::DIFF, zxid),
            ToLearner::Trunc(zxid) => put_bare(out, PacketType::TRUNC, zxid),
            ToLearner::Snap(zxid) => put_bare(out, PacketType::SNAP, zxid),
            ToLearner::Proposal { zxid, entry } => {
                put_with(out, PacketType::PROPOSAL, zxid, |out| {
                    out.extend_from_slice(entry)
                });
            }
            ToLearner::Commit(zxid) => put_bare(out, PacketType::COMMIT, zxid),
            ToLearner::CommitAndActivate { zxid, leader } => {
                put_with(out, PacketType::COMMITANDACTIVATE, zxid, |out| {
                    out.put_i64(leader.0)
                });
            }
            ToLearner::Inform { zxid, entry } => {
                put_with(out, PacketType::INFORM, zxid, |out| {
                    out.extend_from_slice(entry)
                });
            }
            ToLearner::InformAndActivate {
                zxid,
                leader,
                entry,
            } => put_with(out, PacketType::INFORMANDACTIVATE, zxid, |out| {
                out.put_i64(leader.0);
                out.extend_from_slice(entry);
            }),
            ToLearner::NewLeader { zxid, config } => {
                head(out, PacketType::NEWLEADER, zxid);
                out.put_buf(config);
                out.put_i32(-1);
            }
            ToLearner::UpToDate => put_bare(out, PacketType::UPTODATE, NO_ZXID),
            ToLearner::Ping(zxid) => put_bare(out, PacketType::PING, zxid),
            ToLearner::Revalidate { session, is_valid } => {
                put_with(out, PacketType::REVALIDATE, NO_ZXID, |out| {
                    out.put_i64(session.0);
                    out.put_bool(is_valid);
                });
            }
            ToLearner::Sync => put_bare(out, PacketType::SYNC, Zxid::ZERO),
            ToLearner::Other(_) => {}
        }
    }
}

/// The high half of a zxid; a negative one would be an epoch that no leader reaches.
fn epoch(kind: PacketType, zxid: Zxid) -> Result<Epoch, PeerError> {
    let epoch = zxid.0 >> 32;
    u32::try_from(epoch)
        .map(Epoch)
        .map_err(|_| PeerError::Epoch { kind, epoch })
}

/// An entry whose header can be read and names the packet's zxid.
fn entry(kind: PacketType, packet: Zxid, bytes: &[u8]) -> Result<&[u8], PeerError> {
    let wrong = |error| PeerError::Data { kind, error };
    let mut header = Reader::new(bytes);
    let _session = header.i64().map_err(wrong)?;
    let _cxid = header.i32().map_err(wrong)?;
    let entry = Zxid(header.i64().map_err(wrong)?);
    let _time = header.i64().map_err(wrong)?;
    let _op = header.i32().map_err(wrong)?;
    if entry != packet {
        return Err(PeerError::Zxid {
            kind,
            packet,
            entry,
        });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;
