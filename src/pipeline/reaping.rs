//! Containers and TTL nodes that are due are deleted (docs/protocol.md §3.5, §3.6).
//!
//! In passes, one every `checkIntervalMs`: a pass goes over the containers and TTL nodes that the tree has,
//! [`LOOKS_PER_TURN`] in a turn at most, and orders a delete for each that was due when it began, at an even
//! pace. What has become due since then waits for the next pass, and what is not due any more after
//! everything ordered so far is left alone, and takes no zxid. The deletes belong to the server: session 0,
//! xid 0, no origin, no permission. They draw on the reserve of the log as clients' deletes do; when there is
//! no room, the pass goes on with a later tick.

use super::*;
use crate::tree::{Due, Look};

/// Containers and TTL nodes that are looked at, or ordered to be deleted, in one turn at most: requests have
/// the rest of it.
pub(super) const LOOKS_PER_TURN: u32 = 256;

impl<S: Storage> Pipeline<S> {
    /// Goes on with the pass within `budget`, a step for each look and for each delete.
    pub(super) fn reap(&mut self, tree: &Tree, budget: &mut Budget, now: Now) -> Result<(), Fatal> {
        for _ in 0..LOOKS_PER_TURN {
            if !self.reaper.has_work() || budget.is_spent() {
                break;
            }
            budget.spend_steps(1);
            self.reap_next(tree, now)?;
        }
        Ok(())
    }

    /// Looks at the next one, or orders the delete of the one that was found.
    fn reap_next(&mut self, tree: &Tree, now: Now) -> Result<(), Fatal> {
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
        if self.common.journal.room_for(Need::Shrinking, bytes) != Room::Yes {
            pass.found = Some(path);
            self.reaper.lacks_room = true;
            return Ok(());
        }
        let asked = Asked {
            session: SessionId::NONE,
            state: SessionState::Live,
            xid: Xid(0),
            request: &request,
            credentials: &[],
            origin: None,
            generation: Generation(0),
            stamps: Stamps::default(),
        };
        let context = asked.context(
            self.common.journal.next_zxid(),
            now.wall,
            &self.config.rules,
        );
        let prepared = (self.overlay).prepare_reaping(tree, &context, &path, &due);
        if let Some(prepared) = prepared {
            let zxid = self.append_prepared(prepared, &asked, now)?;
            self.common.counters.reaped += 1;
            self.reaper.ordered(zxid);
        }
        Ok(())
    }
}
