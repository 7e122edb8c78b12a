//! What is asked for, and what was promised for it. One client writes where a member leads.

use super::event::{Event, Life};
use super::world::World;
use crate::budget::Budget;
use crate::messages::{Committed, Notice, Origin, ShardRequest, Stamps};
use crate::txn::{AuthId, CreateRequest, RawAcl, Txn, TxnHeader, WriteRequest};
use crate::types::{ConnId, OpCode, ServerId, ShardId, Xid};
use std::sync::Arc;

const SHARD: ShardId = ShardId(0);
/// Nodes that are written.
const NODES: u32 = 40;
/// How long a shard takes at most to end its connections, µs.
const CONFIRM_US: u64 = 200_000;

impl World {
    pub(super) fn write_somewhere(&mut self) {
        if self.is_calm {
            return;
        }
        let next = self.profile.write_us;
        self.within(next, Event::Write);
        for sid in self.sids() {
            let node = &self.nodes[&sid];
            // A shard that has not heard of the end of its role goes on for a while.
            let goes_on = node.unconfirmed > 0 && node.session.is_some();
            if self.leaders().contains(&sid) || goes_on {
                self.write_at(sid);
            }
        }
    }

    fn draw(&mut self) -> WriteRequest {
        let n = self.rng.u32(0..NODES);
        let path: Arc<str> = format!("/n{n}").into();
        let data = Some(vec![n as u8; self.rng.usize(0..=self.profile.data_max)].into());
        let create = |path: Arc<str>, data, flags| {
            WriteRequest::Create(CreateRequest {
                op: OpCode::CREATE,
                path,
                data,
                acl: Some(vec![RawAcl {
                    perms: 31,
                    scheme: Some("world".into()),
                    id: Some("anyone".into()),
                }]),
                flags,
                ttl_ms: 0,
            })
        };
        match self.rng.u32(0..12) {
            0..5 => create(path, data, 0),
            5 => create("/s".into(), data, 2),
            6 => create(path, data, 1),
            7 => WriteRequest::Delete { path, version: -1 },
            _ => WriteRequest::SetData {
                path: Some(path),
                data,
                version: -1,
            },
        }
    }

    pub(super) fn write_at(&mut self, sid: ServerId) {
        let (xid, request, timeout_ms) =
            (self.number() as i32, self.draw(), self.rng.i32(400..4_000));
        let now_us = self.now_us;
        let node = self.node(sid);
        node.sequence += 1;
        let origin = Origin {
            shard: SHARD,
            conn: ConnId {
                slot: 0,
                generation: 0,
            },
            sequence: node.sequence,
        };
        let asked = match node.session {
            None => ShardRequest::NewSession {
                origin,
                timeout_ms,
                stamps: Stamps::default(),
            },
            Some((session, generation)) => ShardRequest::Write {
                origin,
                session,
                generation,
                xid: Xid(xid),
                request,
                credentials: Arc::from([AuthId {
                    scheme: "super".into(),
                    id: "".into(),
                }]),
                stamps: Stamps::default(),
            },
        };
        let is_late = node.unconfirmed > 0;
        node.asked.insert(origin.sequence, xid);
        if is_late {
            self.late.insert(xid);
        }
        self.transcript.note(now_us, &xid.to_le_bytes());
        self.counts.writes += 1;
        let mut budget = Budget::UNLIMITED;
        self.call(sid, |member, now| member.request(asked, &mut budget, now));
        self.drive(sid);
    }

    /// Whom the shard of a leader has heard of.
    pub(super) fn report_touched(&mut self, sid: ServerId) {
        if !self.leaders().contains(&sid) || self.nodes[&sid].unconfirmed > 0 {
            return;
        }
        let tick = self.now_of(sid).tick;
        let session = self.nodes[&sid].session.map(|(session, _)| session);
        let touched = ShardRequest::Touched {
            shard: SHARD,
            watermark: tick,
            made: tick,
            sessions: session.into_iter().collect(),
        };
        let mut budget = Budget::UNLIMITED;
        self.call(sid, |member, now| member.request(touched, &mut budget, now));
    }

    /// Somebody is the first to apply it.
    pub(super) fn is_committed(&mut self, header: &TxnHeader) {
        if self.orphans.remove(&header.cxid) {
            self.counts.committed_after_loss += 1;
        }
        if self.late.contains(&header.cxid) {
            let zxid = header.zxid;
            self.broken(format!("{zxid} was asked for behind the end of a role"));
        }
    }

    pub(super) fn answered(&mut self, sid: ServerId, txn: &Committed) {
        let node = self.node(sid);
        let header = txn.entry.header;
        if matches!(txn.entry.txn, Txn::CloseSession { .. })
            && node
                .session
                .is_some_and(|(session, _)| session == header.session)
        {
            node.session = None;
        }
        let Some(origin) = txn.origin else {
            return;
        };
        if node.asked.remove(&origin.sequence).is_none() {
            return;
        }
        if matches!(txn.entry.txn, Txn::CreateSession { .. }) && node.serves {
            node.session = Some((header.session, txn.generation));
        }
        self.counts.acknowledged += 1;
    }

    pub(super) fn notified(&mut self, sid: ServerId, notice: &Notice) {
        let life = self.life(sid);
        let node = self.node(sid);
        match notice {
            Notice::Refused(origin) => drop(node.asked.remove(&origin.sequence)),
            Notice::Dead(_) | Notice::Close(_) => node.session = None,
            Notice::Suspend => self.within(CONFIRM_US, Event::Confirm(life)),
            _ => {}
        }
    }

    /// Its role has ended.
    pub(super) fn stops_serving(&mut self, sid: ServerId) {
        let node = self.node(sid);
        node.serves = false;
        node.unconfirmed += 1;
        let asked: Vec<i32> = std::mem::take(&mut node.asked).into_values().collect();
        self.counts.lost_with_writes += u64::from(!asked.is_empty());
        self.orphans.extend(asked);
    }

    /// The shard has heard of it.
    pub(super) fn confirm(&mut self, life: Life) {
        if !self.is_alive(life) {
            return;
        }
        let (sid, mut budget) = (life.0, Budget::UNLIMITED);
        let node = self.node(sid);
        node.unconfirmed = node.unconfirmed.saturating_sub(1);
        node.session = None;
        node.asked.clear();
        let confirmed = ShardRequest::Suspended { shard: SHARD };
        self.call(sid, |member, now| {
            member.request(confirmed, &mut budget, now)
        });
        self.drive(sid);
    }
}
