//! What the first bytes of a connection say, before any of them reaches a shard (docs/protocol.md §8.1).

/// What telnet sends on interrupt; Apache's server treats it as one of its words.
pub const INTERRUPT: [u8; 4] = [0xff, 0xf4, 0xff, 0xfd];

/// Outcome of [`first_bytes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstBytes {
    /// Four lower-case letters, or [`INTERRUPT`]. As a frame length they are beyond every limit, so a word
    /// that the server does not know closes the connection just the same.
    FourLetter([u8; 4]),
    /// The length of a ConnectRequest: everything goes to the shard, these bytes included.
    Frame,
    /// Fewer than four bytes so far.
    NeedMore,
}

/// Looks at exactly the first four bytes; whatever follows a four-letter word is ignored.
pub fn first_bytes(bytes: &[u8]) -> FirstBytes {
    let Some(&first) = bytes.first_chunk::<4>() else {
        return FirstBytes::NeedMore;
    };
    if first == INTERRUPT || first.iter().all(u8::is_ascii_lowercase) {
        FirstBytes::FourLetter(first)
    } else {
        FirstBytes::Frame
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_lengths_and_interrupts_are_told_apart() {
        let table: [(&[u8], FirstBytes); 8] = [
            (b"", FirstBytes::NeedMore),
            (b"ruo", FirstBytes::NeedMore),
            (b"ruok", FirstBytes::FourLetter(*b"ruok")),
            (b"srvr\n", FirstBytes::FourLetter(*b"srvr")),
            (b"zzzz", FirstBytes::FourLetter(*b"zzzz")),
            (b"\0\0\0\x2d\0", FirstBytes::Frame),
            (b"RUOK", FirstBytes::Frame),
            (b"\xff\xf4\xff\xfd\x06", FirstBytes::FourLetter(INTERRUPT)),
        ];
        for (bytes, expected) in table {
            assert_eq!(first_bytes(bytes), expected, "{bytes:?}");
        }
    }
}
