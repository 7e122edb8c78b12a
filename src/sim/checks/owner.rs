//! Only the connection to which a session is attached writes for it, in the order that all shards
//! see: nothing between the moment at which it is taken away and the next attachment.

use crate::messages::{Notice, ToShards};
use crate::txn::Txn;
use crate::types::{ConnId, SessionId, ShardId};
use std::collections::BTreeMap;

/// Who may write for each session, if anybody; since the last start.
#[derive(Default)]
pub(super) struct Owner(BTreeMap<SessionId, Option<(ShardId, ConnId)>>);

impl Owner {
    /// Nobody holds anything after a start.
    pub(super) fn recovered(&mut self) {
        self.0.clear();
    }

    pub(super) fn observe(&mut self, said: &ToShards) -> Result<(), String> {
        let txn = match said {
            ToShards::Notice(_, Notice::Detach { session, .. }) => {
                self.0.insert(*session, None);
                return Ok(());
            }
            ToShards::Notice(
                _,
                Notice::Attached {
                    session, origin, ..
                },
            ) => {
                self.0.insert(*session, Some((origin.shard, origin.conn)));
                return Ok(());
            }
            ToShards::Notice(..) => return Ok(()),
            ToShards::Txn(txn) => txn,
        };
        let Some(origin) = txn.origin else {
            return Ok(());
        };
        let session = txn.entry.header.session;
        let writer = (origin.shard, origin.conn);
        match txn.entry.txn {
            Txn::CreateSession { .. } => drop(self.0.insert(session, Some(writer))),
            Txn::Error { .. } => {}
            _ if self.0.get(&session).is_some_and(|o| *o != Some(writer)) => {
                let zxid = txn.entry.header.zxid;
                return Err(format!(
                    "{zxid} of session {session} came from {writer:?}, which does not hold it"
                ));
            }
            _ => {}
        }
        Ok(())
    }
}
