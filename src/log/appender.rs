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

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::rc::Rc;

    /// A file of which only what was written out is known.
    #[derive(Clone, Default)]
    struct Out(Rc<RefCell<Vec<(u64, u64)>>>);

    impl File for Out {
        type View = Vec<u8>;

        fn len(&self) -> io::Result<u64> {
            Ok(0)
        }

        fn write_at(&self, _: u64, _: &[u8]) -> io::Result<()> {
            Ok(())
        }

        fn read_at(&self, _: u64, _: &mut [u8]) -> io::Result<usize> {
            Ok(0)
        }

        fn view(&self, _: u64) -> io::Result<Vec<u8>> {
            Ok(Vec::new())
        }

        fn truncate(&self, _: u64) -> io::Result<()> {
            Ok(())
        }

        fn write_out(&self, from: u64, to: u64) -> io::Result<()> {
            self.0.borrow_mut().push((from, to));
            Ok(())
        }

        fn sync(&self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn no_more_than_the_pace_and_what_is_appended_last_waits_in_the_page_cache() {
        let out = Out::default();
        let mut file = Appender::new(out.clone(), 0);
        let mut rng = fastrand::Rng::with_seed(1);
        for _ in 0..1000 {
            let bytes = vec![0; rng.usize(0..300_000)];
            file.append(&bytes).unwrap();
            let parts = out.0.borrow();
            let written_out = parts.last().map_or(0, |&(_, to)| to);
            assert!(file.len() - written_out < PACE);
        }
        let parts = out.0.borrow();
        assert!(parts.windows(2).all(|two| two[0].1 == two[1].0));
        assert!(parts.iter().all(|(from, to)| to - from < PACE + 300_000));
        assert!(parts.len() as u64 >= file.len() / (PACE + 300_000));
    }
}
