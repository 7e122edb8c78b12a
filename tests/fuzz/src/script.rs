//! The fuzzer's input, taken from its front.

/// Edits of one template; more only make it slow.
const EDITS_MAX: usize = 16;
/// Bytes that one edit can insert, beside those that it repeats.
const INSERTED_MAX: usize = 64;

/// What is left of the input. Behind its end there are zeroes.
pub struct Script<'a>(pub &'a [u8]);

impl<'a> Script<'a> {
    /// Whether there is nothing left.
    pub fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    /// One byte.
    pub fn byte(&mut self) -> u8 {
        let Some((byte, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *byte
    }

    /// One of so many.
    pub fn below(&mut self, many: usize) -> usize {
        usize::from(self.byte()) % many.max(1)
    }

    /// A place in so many bytes.
    pub fn place(&mut self, len: usize) -> usize {
        let place = usize::from(self.byte()) << 8 | usize::from(self.byte());
        place % len.max(1)
    }

    /// So many bytes, or as many as there are.
    pub fn take(&mut self, bytes: usize) -> &'a [u8] {
        let (head, rest) = self.0.split_at(bytes.min(self.0.len()));
        self.0 = rest;
        head
    }

    /// All that is left, or a template that is edited as what is left says.
    pub fn bytes(&mut self, template: &[u8]) -> Vec<u8> {
        if self.byte() % 2 == 0 {
            return self.take(usize::MAX).to_vec();
        }
        let mut bytes = template.to_vec();
        for _ in 0..EDITS_MAX {
            if self.is_over() {
                break;
            }
            self.edit(&mut bytes);
        }
        bytes
    }

    fn edit(&mut self, bytes: &mut Vec<u8>) {
        let (what, at) = (self.byte(), self.place(bytes.len() + 1));
        let count = usize::from(self.byte());
        let behind = (at + count).min(bytes.len());
        match what % 4 {
            0 => {
                for (to, from) in bytes[at..].iter_mut().zip(self.take(count % 16)) {
                    *to = *from;
                }
            }
            1 => drop(bytes.splice(at..at, self.take(count % INSERTED_MAX).iter().copied())),
            2 => drop(bytes.drain(at..behind)),
            _ => {
                let repeated = bytes[at..behind].to_vec();
                drop(bytes.splice(at..at, repeated));
            }
        }
    }
}
