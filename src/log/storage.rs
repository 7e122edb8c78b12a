//! The file seam: what the log asks of a directory. `rt` answers with files and memory maps,
//! `sim` with a disk that tears, loses and rots.
//!
//! Three facts of real disks that the seam keeps visible, because recovery is built on them:
//! written bytes are durable only after [`File::sync`], a name is durable only after
//! [`Storage::sync_dir`], and what was not synced may survive in part, in any order, sector by
//! sector.

use std::io;
use std::ops::Deref;

/// One directory of native files.
pub trait Storage: Clone + 'static {
    /// An open file of the directory.
    type File: File;

    /// Names in the directory, sorted, without subdirectories.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Creates `name`, or replaces its content, with `len` zero bytes that are allocated on the
    /// device (a later write into them can't fail for lack of space). Neither the bytes nor the
    /// name are durable yet. Slow: never called on a data core.
    ///
    /// # Errors
    /// `StorageFull` if there is no room; the half-made file is removed again.
    fn create(&self, name: &str, len: u64) -> io::Result<Self::File>;

    /// Opens an existing file for reading and writing.
    fn open(&self, name: &str) -> io::Result<Self::File>;

    /// Renames, replacing an existing target. Not durable before [`Storage::sync_dir`].
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Unlinks. Not durable before [`Storage::sync_dir`].
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes creates, renames and unlinks so far durable.
    fn sync_dir(&self) -> io::Result<()>;

    /// Bytes that can still be written.
    fn room(&self) -> io::Result<u64>;

    /// Whether a write into bytes that were allocated by [`Storage::create`] needs no further room. On a
    /// copy-on-write file system each write takes room anew.
    fn overwrites_in_place(&self) -> bool {
        true
    }
}

/// An open file.
pub trait File: Clone + 'static {
    /// Read access to bytes that do not change any more; a map on a real disk.
    type View: Deref<Target = [u8]> + 'static;

    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;

    /// Whether the file has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Writes all of `bytes` at `offset` into the page cache, growing the file if needed.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Reads from `offset` on into all of `into`; less only at the end of the file: how much.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize>;

    /// The first `len` bytes, or as many as there are. They are durable and were written not long ago:
    /// whoever reads what a device can't give any more through a map is ended by a signal.
    fn view(&self, len: u64) -> io::Result<Self::View>;

    /// Gives back what lies behind the first `len` bytes. Not durable before [`File::sync`].
    fn truncate(&self, len: u64) -> io::Result<()>;

    /// Has the bytes `from..to`, which were written, go to the device, and waits for it, so that who syncs
    /// another file does not wait for them. Makes nothing durable. Where there is no page cache there is
    /// nothing to do.
    ///
    /// # Errors
    /// The operating system's; nothing is known about the file's content then.
    fn write_out(&self, from: u64, to: u64) -> io::Result<()> {
        let _ = (from, to);
        Ok(())
    }

    /// Makes every byte written so far durable (fdatasync), blocking. After an error nothing is
    /// known about the file any more: the caller stops the process.
    fn sync(&self) -> io::Result<()>;
}
