//! A connection that the server ends has given it the reason that the server names.
//!
//! What is held against a reason is what the network, the clients and the configuration know by themselves. Where
//! that does not decide it, a condition is checked without which the reason can't hold.

use super::base::Base;
use super::checks::Checks;
use super::config::HANDSHAKE_MS;
use super::cores::Core;
use super::network::Network;
use super::operations::Operations;
use crate::shard::{End, Rounds, Why};
use crate::types::{SessionId, Zxid};

/// Connections that have numbers of their own: a number is a port.
const NUMBERED: usize = 1 << 16;

/// A connection that a core has ended, and what was known behind the turn.
pub(super) struct Ended {
    core: u16,
    connection: usize,
    /// The session that was granted to it.
    session: Option<SessionId>,
    why: Why,
    rounds: Rounds,
    /// Before that turn.
    watch_bytes: usize,
    /// The newest state that the core had applied before that turn.
    shown: Zxid,
}

impl Ended {
    /// `None`: there are so many connections that it is not known which one it is.
    pub(super) fn of(
        core: u16,
        end: &End,
        rounds: Rounds,
        own: &Core,
        network: &Network,
    ) -> Option<Ended> {
        (network.connections.len() <= NUMBERED).then(|| Ended {
            core,
            connection: usize::from(end.peer.port),
            session: end.session,
            why: end.why,
            rounds,
            watch_bytes: own.watch_bytes,
            shown: own.shown,
        })
    }

    /// Whether the reason holds; `all` ended in the same turn.
    pub(super) fn had_a_reason(
        &self,
        all: &[Ended],
        base: &Base,
        network: &Network,
        operations: &Operations,
        checks: &Checks,
    ) -> Result<(), String> {
        let ends: Vec<usize> = all.iter().map(|other| other.connection).collect();
        let missing = match self.why {
            Why::Idle | Why::TakesNothing => self.is_silent(base, network, checks),
            Why::NoRoomForWatch => self.has_no_room(&ends, base, network, operations, checks),
            Why::NotItsSession | Why::SessionMoved => self.is_wanted(network),
            Why::SessionExpired | Why::SessionClosed | Why::SessionDead => {
                self.has_lost_its_session(network, checks)
            }
            _ => self.has_asked_for_it(base, network),
        };
        missing.map_err(|what| {
            format!(
                "core {} ended connection {} for {:?}, and {what}",
                self.core, self.connection, self.why
            )
        })
    }

    /// What the other end has done, or sent.
    fn has_asked_for_it(&self, base: &Base, network: &Network) -> Result<(), String> {
        let of = &network.connections[self.connection];
        let (is_so, otherwise) = match self.why {
            // Or nothing leaves any more.
            Why::Gone => (
                of.has_ended() || base.disk.crashed(),
                "it is there".to_owned(),
            ),
            Why::Asked => (of.closes, "its client has not asked for that".to_owned()),
            Why::HandshakeTooLate => {
                let took_ms = (base.now_us - of.known.opened_us) / 1000;
                let is_late = took_ms > HANDSHAKE_MS && !of.answered;
                (is_late, format!("was accepted {took_ms} ms ago"))
            }
            Why::NoHandshake => (of.client.is_none(), "it is a client".to_owned()),
            Why::SeenLater => {
                let seen = of.known.presents.map_or(Zxid::ZERO, |(_, seen)| seen);
                let shown = self.shown;
                (
                    seen > shown,
                    format!("it has seen {seen}, {shown} was applied"),
                )
            }
            Why::NoSession => (base.refusals > 0, "nothing was refused".to_owned()),
            Why::FrameLength | Why::AuthFailed | Why::NotAdmitted => {
                let sent = of.known.offence;
                let is_so = sent == Some(self.why) || of.client.is_none();
                (is_so, format!("what it has sent was for {sent:?}"))
            }
            Why::Malformed | Why::UnknownRequest => (
                of.client.is_none() && !of.is_intruder,
                "its client sends no such thing".to_owned(),
            ),
            Why::NoRoomForOutput => {
                let taken_ms = of.known.taken_us / 1000;
                let looked_ms = self.rounds.looked.0;
                let is_idle = taken_ms <= looked_ms;
                (
                    is_idle,
                    format!("it took bytes at {taken_ms} ms, behind the round of {looked_ms} ms"),
                )
            }
            _ => (true, String::new()),
        };
        match is_so {
            true => Ok(()),
            false => Err(otherwise),
        }
    }

    /// Nothing has moved for the timeout.
    fn is_silent(&self, base: &Base, network: &Network, checks: &Checks) -> Result<(), String> {
        let known = &network.connections[self.connection].known;
        let session = self.session.unwrap_or(SessionId::NONE);
        let timeout_us = checks.expiry.timeout_min(session, base.now_us) as u64 * 1000;
        let mut moved = vec![("the kernel took bytes of it", known.taken_us)];
        if self.why == Why::Idle {
            moved.push(("bytes of it were read", known.read_us));
            if known.left_bytes && checks.expiry.is_told(self.core, known.came_us) {
                return Err("bytes of it waited".to_owned());
            }
        }
        for (what, us) in moved {
            // What leaves in the turn of its end does so behind it.
            let ago_us = base.now_us - us;
            if ago_us > 0 && ago_us <= timeout_us {
                return Err(format!("{what} {} ms ago", ago_us / 1000));
            }
        }
        Ok(())
    }

    /// What is watched, and may be by all that was asked for, is more than the bound.
    fn has_no_room(
        &self,
        ends: &[usize],
        base: &Base,
        network: &Network,
        operations: &Operations,
        checks: &Checks,
    ) -> Result<(), String> {
        let more = operations.watches_under_way(self.core, ends, network, &checks.truth);
        let most = self.watch_bytes.saturating_add(more);
        match most > base.watch_bytes_max {
            true => Ok(()),
            false => Err(format!(
                "{} bytes were watched and at most {more} asked for, of {}",
                self.watch_bytes, base.watch_bytes_max
            )),
        }
    }

    /// Another connection presents the session.
    fn is_wanted(&self, network: &Network) -> Result<(), String> {
        let of = &network.connections[self.connection];
        let presented = of.known.presents.map(|(session, _)| session);
        let session = self.session.or(presented).unwrap_or(SessionId::NONE);
        let others =
            (network.connections.iter().enumerate()).filter(|(n, _)| *n != self.connection);
        let mut theirs = others.map(|(_, of)| (of.session, of.known.presents));
        let wants = |(own, presents): (SessionId, Option<(SessionId, Zxid)>)| {
            own == session || presents.is_some_and(|(wanted, _)| wanted == session)
        };
        match session != SessionId::NONE && theirs.any(wants) {
            true => Ok(()),
            false => Err(format!("nobody else has asked for {session}")),
        }
    }

    /// Its session has ended, or was never its own.
    fn has_lost_its_session(&self, network: &Network, checks: &Checks) -> Result<(), String> {
        let of = &network.connections[self.connection];
        let presented = of.known.presents.map(|(session, _)| session);
        let session = self.session.or(presented).unwrap_or(SessionId::NONE);
        let lives = matches!(checks.truth.session(session), Some((_, None)));
        match lives && !of.is_intruder {
            true => Err(format!("session {session} lives")),
            false => Ok(()),
        }
    }
}
