//! The event log of a run, as a hash: equal for equal seeds, and for changes that change nothing.

/// Everything that was noted, in order, with its time.
pub(super) struct Transcript(blake3::Hasher);

impl Transcript {
    pub(super) fn new() -> Transcript {
        Transcript(blake3::Hasher::new())
    }

    /// Notes something that happened at `now_us`.
    pub(super) fn note(&mut self, now_us: u64, what: &[u8]) {
        self.0.update(&now_us.to_le_bytes());
        self.0.update(&(what.len() as u32).to_le_bytes());
        self.0.update(what);
    }

    /// Sixteen hexadecimal digits.
    pub(super) fn finish(&self) -> String {
        self.0.finalize().to_hex()[..16].to_owned()
    }
}
