//! Appends to a file at an even pace: what waits in the page cache never becomes so much that a sync of
//! the log would wait behind all of it.

use super::storage::File;
use std::io;

/// Most bytes of a file that wait in the page cache, the last ones appended not counted.
pub const PACE: u64 = 1 << 20;

/// A file that grows at its end.
pub(crate) struct Appender<F: File> {
    file: F,
    len: u64,
    /// The device has the bytes before this.
    out: u64,
}

impl<F: File> Appender<F> {
    /// Behind the first `len` bytes of a file.
    pub(crate) fn new(file: F, len: u64) -> Appender<F> {
        let out = len;
        Appender { file, len, out }
    }

    pub(crate) fn file(&self) -> &F {
        &self.file
    }

    /// Bytes of the file.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Appends. Waits for the device when enough has come together.
    ///
    /// # Errors
    /// The operating system's; nothing is known about the file's content then.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_at(self.len, bytes)?;
        self.len += bytes.len() as u64;
        if self.len - self.out >= PACE {
            self.file.write_out(self.out, self.len)?;
            self.out = self.len;
        }
        Ok(())
    }
}
