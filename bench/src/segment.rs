//! A file like a log's segment: all its blocks are there and have been written before, so that a sync
//! has only new data to wait for. It is written round and round.

use crate::failure::{Context, Failure};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Its length, bytes: that of Apache's and our server's unless told.
pub const SEGMENT_BYTES: usize = 64 << 20;

/// The file; it is removed when it is done with.
pub struct Segment {
    file: File,
    path: PathBuf,
    /// Where the next write goes.
    at: usize,
}

impl Segment {
    /// Makes the file in an existing directory, full of zeroes and synced.
    pub fn create(dir: &Path) -> Result<Segment, Failure> {
        let path = dir.join(format!("rkbench-segment-{}", std::process::id()));
        let what = || format!("writing {}", path.display());
        let file = File::create_new(&path).context(what)?;
        let segment = Segment {
            file,
            path: path.clone(),
            at: 0,
        };
        let zeros = vec![0; 1 << 20];
        for at in (0..SEGMENT_BYTES).step_by(zeros.len()) {
            segment.file.write_all_at(&zeros, at as u64).context(what)?;
        }
        segment.file.sync_all().context(what)?;
        Ok(segment)
    }

    /// Writes at most [`SEGMENT_BYTES`] behind what was written last, or at the beginning if there is no
    /// room, and waits until the device has them.
    pub fn write_and_sync(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        if self.at + bytes.len() > SEGMENT_BYTES {
            self.at = 0;
        }
        let written = self.file.write_all_at(bytes, self.at as u64);
        written
            .and_then(|()| self.file.sync_data())
            .context(|| format!("writing and syncing {}", self.path.display()))?;
        self.at += bytes.len();
        Ok(())
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}
