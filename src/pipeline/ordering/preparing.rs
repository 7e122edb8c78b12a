//! A multi of many operations is prepared in slices, so that a turn has an end.
//!
//! It has its place in the order, and its zxid, from the first slice on: whatever else would take a zxid
//! or a place in the order of notices (requests, re-attachments, expiry, the steps of slow closes) waits for
//! it. What was ordered before it is committed and applied meanwhile.

use super::asked::{Asked, Preparing};
use super::{Common, Fatal, Ordering, Step};
use crate::log::storage::Storage;
use crate::txn::WriteRequest;

impl Ordering {
    /// Validates operations within the budget, and appends the transaction behind the last one. The log had
    /// room for it when it began, and nothing was appended since.
    pub(super) fn go_on_preparing<S: Storage>(
        &mut self,
        common: &mut Common<S>,
        step: &mut Step<'_>,
        mut half: Preparing,
    ) -> Result<(), Fatal> {
        let write = half.up.write().expect("the caller looked");
        let WriteRequest::Multi(ops) = write.request else {
            unreachable!("the caller looked");
        };
        let asked = Asked::of(&write, half.state);
        let context = asked.context(common.journal.next_zxid(), half.time, &self.config.rules);
        let overlay = &mut self.overlay;
        if !overlay.prepare_multi(step.tree, &context, ops, &mut half.multi, step.budget) {
            self.preparing = Some(half);
            return Ok(());
        }
        let prepared = overlay.finish_multi(&context, half.multi);
        self.append_prepared(common, prepared, &asked, step.now)?;
        Ok(())
    }
}
