//! One connection to or from another server.

use super::bounds::{HELLO_MAX, INTRODUCTION_MAX, READ_MAX, STRANGER_READ_MAX};
use super::buffer::Buffer;
use super::effect::Port;
use super::snapshot::Scan;
use crate::proto::peer::packet::PACKET_MIN;
use crate::types::Tick;

#[derive(Debug)]
pub(super) struct Connection {
    pub port: Port,
    pub stage: Stage,
    pub input: Buffer,
    pub output: Buffer,
    /// Since when a message has begun that is not whole.
    pub partial: Option<Tick>,
    /// Since when output waits of which nothing was taken.
    pub stuck: Option<Tick>,
    /// The socket takes nothing before it says so.
    pub is_blocked: bool,
    /// Its owner takes no more of it for the time being.
    pub is_held: bool,
    /// A learner's: its owner is to be told when the socket has taken what it was given.
    pub is_owed: bool,
}

/// What a connection is for.
#[derive(Debug)]
pub(super) enum Stage {
    /// It was accepted, and has time to say who it is.
    Unnamed { until: Tick },
    /// An election port's.
    Talking {
        is_stranger: bool,
        /// There is something to say.
        has_news: bool,
    },
    /// At a leader; with the snapshot that is sent.
    Learner {
        is_stranger: bool,
        sending: Option<Sending>,
    },
    /// At a learner; with the snapshot that comes.
    Leader { snapshot: Option<Receiving> },
    /// It closes when what was to be sent has left.
    Closing { until: Tick },
}

/// A snapshot on its way to a learner.
#[derive(Debug)]
pub(super) struct Sending {
    /// A piece is being read.
    pub is_asked: bool,
}

/// A snapshot on its way here.
#[derive(Debug)]
pub(super) struct Receiving {
    pub scan: Scan,
    /// The owner has bytes of it.
    pub is_out: bool,
    /// All of it has come.
    pub is_whole: bool,
}

impl Connection {
    pub fn new(port: Port, stage: Stage) -> Connection {
        Connection {
            port,
            stage,
            input: Buffer::default(),
            output: Buffer::default(),
            partial: None,
            stuck: None,
            is_blocked: false,
            is_held: false,
            is_owed: false,
        }
    }

    pub fn is_stranger(&self) -> bool {
        matches!(
            self.stage,
            Stage::Talking {
                is_stranger: true,
                ..
            } | Stage::Learner {
                is_stranger: true,
                ..
            }
        )
    }

    /// So much is received now at most.
    pub fn room(&self) -> usize {
        let held = |receiving: &Receiving| receiving.is_out;
        match &self.stage {
            Stage::Closing { .. } => 0,
            Stage::Leader {
                snapshot: Some(snapshot),
            } if held(snapshot) => 0,
            _ if self.is_held => 0,
            Stage::Unnamed { .. } => {
                let first = match self.port {
                    Port::Election => HELLO_MAX,
                    Port::Quorum => PACKET_MIN + 2 * INTRODUCTION_MAX,
                };
                first.saturating_sub(self.input.len())
            }
            _ if self.is_stranger() => STRANGER_READ_MAX,
            _ => READ_MAX,
        }
    }

    /// Whether there may be something to send that the socket takes.
    pub fn may_send(&self) -> bool {
        let has_more = match &self.stage {
            Stage::Talking { has_news, .. } => *has_news,
            Stage::Learner { sending, .. } => sending.is_none(),
            _ => false,
        };
        !self.is_blocked && (has_more || !self.output.is_empty())
    }

    /// Whether somebody reads for it, or keeps what it brings.
    pub fn has_reader(&self) -> bool {
        match &self.stage {
            Stage::Learner { sending, .. } => sending.is_some(),
            Stage::Leader { snapshot } => snapshot.is_some(),
            _ => false,
        }
    }
}
