//! What a member does with the requests of its shards, and who decides over what is in its journal.
//!
//! ```text
//!   Alone                                        a standalone server, for ever
//!
//!            lead, all committed is applied
//!          ┌────────────────────────────────► Leading ──┐
//!   Looking┤                                            ├──► Looking
//!          └────────────────────────────────► Learning ─┘
//!            learn, the same                      end: the shards are suspended
//! ```
//!
//! | | Alone | Leading | Learning | Looking |
//! |---|---|---|---|---|
//! | a request | ordered | ordered, unless it is of a role that has ended | passed on, unless the same | turned away |
//! | a request that another member has passed on | – | ordered | – | – |
//! | an entry of a leader | – | – | to the journal | to the journal |
//! | what commits | the own sync | a quorum | the leader's word | the leader's word, for what a role began |
//! | sessions expire | yes | yes | no | no |
//!
//! A role that has ended leaves what it has appended in the log, and nothing else: what was ordered and is not
//! committed is nobody's change, and whoever waits for it is not answered.

use super::learning::Learning;
use super::ordering::Ordering;

/// The part of a member in its ensemble.
pub(super) enum Role {
    /// It is all of its ensemble.
    Alone(Box<Ordering>),
    /// It orders, and others decide with it.
    Leading(Box<Ordering>),
    /// It follows one who orders.
    Learning(Box<Learning>),
    /// It has no part.
    Looking,
}

impl Role {
    /// Who orders.
    pub(super) fn ordering(&self) -> Option<&Ordering> {
        match self {
            Role::Alone(ordering) | Role::Leading(ordering) => Some(ordering),
            Role::Learning(_) | Role::Looking => None,
        }
    }

    /// Who follows.
    pub(super) fn learning(&self) -> Option<&Learning> {
        match self {
            Role::Learning(learning) => Some(learning),
            Role::Alone(_) | Role::Leading(_) | Role::Looking => None,
        }
    }

    /// The same.
    pub(super) fn learning_mut(&mut self) -> Option<&mut Learning> {
        match self {
            Role::Learning(learning) => Some(learning),
            Role::Alone(_) | Role::Leading(_) | Role::Looking => None,
        }
    }

    /// Who orders.
    pub(super) fn ordering_mut(&mut self) -> Option<&mut Ordering> {
        match self {
            Role::Alone(ordering) | Role::Leading(ordering) => Some(ordering),
            Role::Learning(_) | Role::Looking => None,
        }
    }
}
