//! Bytes of a file, read in pieces by a call that can fail. A map would turn an unreadable sector into
//! a signal; only what is durable in the segment that is written, and so was in memory a moment ago, is
//! read through one.

use super::storage::File;
use rkyv::util::AlignedVec;
use std::io;

/// What is read at once, unless more is asked for.
const PIECE: u64 = 256 << 10;

/// A window that moves over a file.
pub(crate) struct Pieces<F: File> {
    source: Source<F>,
    len: u64,
    /// What is read at once, bytes.
    piece: u64,
}

enum Source<F: File> {
    Read {
        file: F,
        /// Aligned as records are, because their payloads are archives that are read in place.
        window: AlignedVec,
        /// Offset of the window in the file, a multiple of the alignment.
        from: u64,
    },
    Mapped(F::View),
}

impl<F: File> Pieces<F> {
    /// Over the whole file as long as it is now.
    pub(crate) fn read(file: F) -> io::Result<Pieces<F>> {
        Pieces::of_size(file, PIECE)
    }

    /// The same, in pieces of another size.
    pub(crate) fn of_size(file: F, piece: u64) -> io::Result<Pieces<F>> {
        let len = file.len()?;
        let source = Source::Read {
            file,
            window: AlignedVec::new(),
            from: 0,
        };
        Ok(Pieces { source, len, piece })
    }

    /// Over the first `len` bytes, through a map: they are durable, and never change.
    pub(crate) fn mapped(file: &F, len: u64) -> io::Result<Pieces<F>> {
        let view = file.view(len)?;
        let len = view.len() as u64;
        let source = Source::Mapped(view);
        let piece = PIECE;
        Ok(Pieces { source, len, piece })
    }

    /// Bytes there are.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// So many bytes from `offset` on, aligned like it up to 16; `None`: the file ends before.
    ///
    /// # Errors
    /// The device's.
    pub(crate) fn get(&mut self, offset: u64, bytes: usize) -> io::Result<Option<&[u8]>> {
        let end = offset.saturating_add(bytes as u64);
        if end > self.len {
            return Ok(None);
        }
        match &mut self.source {
            Source::Mapped(view) => Ok(view.get(offset as usize..end as usize)),
            Source::Read { file, window, from } => {
                let is_there = *from <= offset && end <= *from + window.len() as u64;
                if !is_there {
                    let begin = offset & !(AlignedVec::<16>::ALIGNMENT as u64 - 1);
                    let until = end.max(begin + self.piece).min(self.len);
                    *from = begin;
                    // What can't be read further on is no reason to give up what is asked for.
                    fill(file, window, begin, until).or_else(|_| fill(file, window, begin, end))?;
                }
                let at = (offset - *from) as usize;
                Ok(window.get(at..at + bytes))
            }
        }
    }
}

/// Reads `begin..until`; the window is shorter if the file has become so.
fn fill<F: File>(file: &F, window: &mut AlignedVec, begin: u64, until: u64) -> io::Result<()> {
    window.clear();
    window.resize((until - begin) as usize, 0);
    let read = file.read_at(begin, window);
    window.resize(*read.as_ref().unwrap_or(&0), 0);
    read.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::storage::Storage;
    use crate::sim::disk::SimStorage;

    #[test]
    fn any_part_of_a_file_is_found_and_nothing_behind_its_end() {
        let disk = SimStorage::new(4 << 20);
        let file = disk.create("a", 0).unwrap();
        let content: Vec<u8> = (0..700_001u32).map(|i| (i * 31) as u8).collect();
        file.write_at(0, &content).unwrap();
        let mut read = Pieces::read(file.clone()).unwrap();
        let mut mapped = Pieces::mapped(&file, content.len() as u64).unwrap();
        let mut rng = fastrand::Rng::with_seed(1);
        for nth in 0..2000 {
            let offset = rng.usize(0..content.len() + 20);
            let bytes = rng.usize(0..[100, 400_000][nth % 2]);
            let expected = content.get(offset..offset + bytes);
            let found = read.get(offset as u64, bytes).unwrap();
            assert_eq!(found, expected, "{offset} {bytes}");
            let aligned = found.is_none_or(|f| f.as_ptr().addr() % 16 == offset % 16);
            assert!(aligned, "{offset}");
            assert_eq!(mapped.get(offset as u64, bytes).unwrap(), expected);
        }
    }
}
