//! With what a server comes out of an election.

use crate::proto::peer::{PeerState, Vote};
use crate::types::{Round, ServerId};
use std::collections::BTreeSet;

/// How an election ends.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// This server has settled.
    Elected(Elected),
    /// Every voter is empty, this one too: the ensemble is new. The member notes that it is whole, durably, and looks
    /// again, now with a history of nothing.
    AllEmpty,
}

/// Whom a server has settled on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Elected {
    /// What it is from here on.
    pub state: PeerState,
    /// Whom, and that server's history.
    pub vote: Vote,
    /// The round in which the leader was elected.
    pub round: Round,
    /// Who proposed, or follows, the same.
    pub supporters: BTreeSet<ServerId>,
}
