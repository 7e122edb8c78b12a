//! How a start makes the tree of what it reads: where it reads, or beside that.

use super::SnapError;
use crate::tree::{BodyReader, Tree};
use crate::txn::Entry;
use crate::types::Zxid;

/// Makes the tree of what a start reads, in the order in which that is read. The error of a call may be about
/// what an earlier call has handed over. Behind an error only [`Rebuild::begin`] and [`Rebuild::tree`] may be
/// called, and a tree that was begun before it is incomplete.
pub trait Rebuild {
    /// Begins anew with an empty tree. What was made before is dropped, with its errors that were not returned
    /// yet: it is of a snapshot that can't be read.
    fn begin(&mut self);

    /// Takes the next piece of the body of a snapshot.
    ///
    /// # Errors
    /// [`SnapError::Body`].
    fn body(&mut self, piece: &[u8]) -> Result<(), SnapError>;

    /// The body has come whole. Returns the last zxid of its tree.
    ///
    /// # Errors
    /// [`SnapError::Body`].
    fn body_ends(&mut self) -> Result<Zxid, SnapError>;

    /// Applies the transaction that follows, and compares its digest. `bytes`: of its payload in the log.
    ///
    /// # Errors
    /// [`SnapError::Digest`].
    fn apply(&mut self, entry: Entry, bytes: usize) -> Result<(), SnapError>;

    /// The tree of all that was handed over since the last [`Rebuild::begin`]. An error that an earlier call has
    /// returned is not returned again.
    ///
    /// # Errors
    /// [`SnapError::Digest`].
    fn tree(&mut self) -> Result<Tree, SnapError>;
}

/// Makes the tree at once, on the thread that reads. `observe` sees each transaction that was replayed.
pub struct Rebuilding<O> {
    body: BodyReader,
    tree: Tree,
    observe: O,
}

impl<O: FnMut(&Entry)> Rebuilding<O> {
    /// An empty tree.
    pub fn new(observe: O) -> Rebuilding<O> {
        Rebuilding {
            body: BodyReader::default(),
            tree: Tree::new(),
            observe,
        }
    }

    /// Applies the transaction that follows, and compares its digest.
    ///
    /// # Errors
    /// [`SnapError::Digest`].
    pub fn replay(&mut self, entry: &Entry) -> Result<(), SnapError> {
        self.tree.replay(entry);
        self.tree.verify(entry)?;
        (self.observe)(entry);
        Ok(())
    }
}

impl<O: FnMut(&Entry)> Rebuild for Rebuilding<O> {
    fn begin(&mut self) {
        self.body = BodyReader::default();
        self.tree = Tree::new();
    }

    fn body(&mut self, piece: &[u8]) -> Result<(), SnapError> {
        Ok(self.body.push(piece)?)
    }

    fn body_ends(&mut self) -> Result<Zxid, SnapError> {
        self.tree = std::mem::take(&mut self.body).finish()?;
        Ok(self.tree.last_zxid())
    }

    fn apply(&mut self, entry: Entry, _bytes: usize) -> Result<(), SnapError> {
        self.replay(&entry)
    }

    fn tree(&mut self) -> Result<Tree, SnapError> {
        Ok(std::mem::take(&mut self.tree))
    }
}
