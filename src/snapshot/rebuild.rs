//! How a start makes the tree of what it reads: where it reads, or beside that.

use super::SnapError;
use crate::tree::{BodyReader, Tree};
use crate::txn::Entry;
use crate::types::Zxid;

/// Makes the tree of what a start reads, in the order in which that is read. An error is of what is handed
/// over now or of what was handed over before; of no use is what was made then.
pub trait Rebuild {
    /// Begins with an empty tree; what was made until now is of a snapshot that can't be read.
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

    /// Applies the transaction that follows, and compares its digest. It has so many bytes.
    ///
    /// # Errors
    /// [`SnapError::Digest`].
    fn apply(&mut self, entry: Entry, bytes: usize) -> Result<(), SnapError>;

    /// The tree of all that was handed over since it was begun. An error that was returned before is not
    /// returned again.
    ///
    /// # Errors
    /// [`SnapError::Digest`].
    fn tree(&mut self) -> Result<Tree, SnapError>;
}

/// Makes the tree at once. Whoever wants to see the transactions that are replayed does so in `observe`.
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
