//! Containers and TTL nodes that are due are deleted (docs/protocol.md §3.5, §3.6).
//!
//! In passes, one every `checkIntervalMs`: a pass goes over the containers and TTL nodes that the tree has,
//! [`LOOKS_PER_TURN`] in a turn at most, and orders a delete for each that was due when it began, at an even
//! pace. What has become due since then waits for the next pass, and what is not due any more after
//! everything ordered so far is left alone, and takes no zxid. The deletes belong to the server: session 0,
//! xid 0, no origin, no permission. They draw on the reserve of the log as clients' deletes do; when there is
//! no room, the pass goes on with a later tick.

use super::asked::Asked;
use super::{Common, Fatal, Ordering, Step, size};
use crate::budget::Budget;
use crate::log::storage::Storage;
use crate::log::{Need, Room};
use crate::tree::{Due, Look};
use crate::txn::WriteRequest;

/// Containers and TTL nodes that are looked at, or ordered to be deleted, in one turn at most: requests have
/// the rest of it.
pub(in crate::pipeline) const LOOKS_PER_TURN: u32 = 256;

impl Ordering {
    /// Goes on with the pass within the budget, a step for each look and for each delete.
    pub(super) fn reap<S: Storage>(
        &mut self,
        common: &mut Common<S>,
        step: &mut Step<'_>,
    ) -> Result<(), Fatal> {
        for _ in 0..LOOKS_PER_TURN {
            if !self.reaper.has_work() || step.budget.is_spent() {
                break;
            }
            step.budget.spend_steps(1);
            self.reap_next(common, step)?;
        }
        Ok(())
    }

    /// Looks at the next one, or orders the delete of the one that was found.
    fn reap_next<S: Storage>(
        &mut self,
        common: &mut Common<S>,
        step: &Step<'_>,
    ) -> Result<(), Fatal> {
        let (tree, now) = (step.tree, step.now);
        let may_delete = self.reaper.may_delete();
        let pass = self.reaper.pass.as_mut().expect("there is work");
        let Some(path) = pass.found.take() else {
            let mut one = Budget::steps(1);
            match tree.look_for_due(&mut pass.cursor, &pass.due, &mut one) {
                Look::Due(path) => pass.found = Some(path.into()),
                Look::Later => {}
                Look::End => self.reaper.pass = None,
            }
            return Ok(());
        };
        assert!(may_delete, "there is work");
        // A clock that was set back since the pass began makes nothing due.
        let wall = pass.due.wall.min(now.wall);
        let due = Due { wall, ..pass.due };
        let request = WriteRequest::Delete {
            path: path.clone(),
            version: -1,
        };
        let bytes = size::entry_bytes_max(&request, &[]);
        if common.journal.room_for(Need::Shrinking, bytes) != Room::Yes {
            pass.found = Some(path);
            self.reaper.lacks_room = true;
            return Ok(());
        }
        let asked = Asked::by_the_server(&request, &[]);
        let context = asked.context(common.journal.next_zxid(), now.wall, &self.config.rules);
        let prepared = (self.overlay).prepare_reaping(tree, &context, &path, &due);
        if let Some(prepared) = prepared {
            let zxid = self.append_prepared(common, prepared, &asked, now)?;
            common.counters.reaped += 1;
            self.reaper.ordered(zxid);
        }
        Ok(())
    }
}
