//! What a step is given by whoever makes it; a role keeps none of it.

use crate::budget::Budget;
use crate::tree::Tree;
use crate::types::Now;

/// The circumstances of a step.
pub(super) struct Step<'a> {
    /// With everything that is applied.
    pub(super) tree: &'a Tree,
    /// What the step may still cost.
    pub(super) budget: &'a mut Budget,
    /// When it is made.
    pub(super) now: Now,
}
