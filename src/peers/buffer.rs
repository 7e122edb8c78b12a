//! Bytes on their way in or out, taken from the front.

/// An empty buffer that is larger than this is given back.
const KEPT: usize = 128 << 10;

#[derive(Debug, Default)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    /// So many of them are taken.
    taken: usize,
}

impl Buffer {
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[self.taken..]
    }

    pub fn len(&self) -> usize {
        self.bytes.len() - self.taken
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// To append to.
    pub fn end(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Takes bytes from the front. Each byte is moved once at most, over all calls.
    pub fn take(&mut self, bytes: usize) {
        self.taken += bytes.min(self.len());
        if self.is_empty() {
            self.clear();
        } else if 2 * self.taken > self.bytes.len() {
            self.bytes.drain(..self.taken);
            self.taken = 0;
        }
    }

    pub fn clear(&mut self) {
        self.taken = 0;
        match self.bytes.capacity() > KEPT {
            true => self.bytes = Vec::new(),
            false => self.bytes.clear(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_gone_and_a_large_buffer_is_given_back() {
        let mut buffer = Buffer::default();
        buffer.push(b"abcdef");
        buffer.take(2);
        assert_eq!(buffer.bytes(), b"cdef");
        buffer.take(3);
        buffer.push(b"g");
        assert_eq!(buffer.bytes(), b"fg");
        buffer.push(&vec![0; 2 * KEPT]);
        buffer.take(usize::MAX);
        assert!(buffer.is_empty() && buffer.bytes.capacity() == 0);
    }
}
