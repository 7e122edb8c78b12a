//! What a record of kind `Fence` carries: the brackets that enclose a history which a member of an ensemble
//! takes over from its leader.
//!
//! ```text
//! payload = 16 bytes                                                           little-endian
//!  0      1      2        4       8        16
//!  ┌──────┬──────┬────────┬───────┬────────┐
//!  │ mark │ base │ zeroes │ epoch │  zxid  │
//!  │  u8  │  u8  │  2 B   │  u32  │  i64   │
//!  └──────┴──────┴────────┴───────┴────────┘
//! mark: 1 opened, 2 closed, 3 void     base: 0 none, 1 log, 2 snapshot
//! ```
//!
//! | Mark | Base, zxid | Says |
//! |---|---|---|
//! | opened | log, z | what follows continues the log behind z; what stands between z and this is left out |
//! | opened | snapshot, z | what follows continues the snapshot of z; all of the log before is left out |
//! | closed | none, 0 | the bracket counts from the sync on that covers this; it takes the place of what it leaves out |
//! | void | none, 0 | the bracket that was opened and not closed counts for nothing |
//!
//! The epoch is that of the leader whose history is taken over, and the same in all fences of a bracket.
//! Bytes that are not listed are zero: each fence has one encoding, and bytes that are not one are refused.
//! A bracket is open as long as neither *closed* nor *void* follows: a crash leaves it so, and whoever reads the log
//! takes it for void. A further one is not opened before. Its transactions are records of kind `Adopted`; what it
//! makes of the history is told in `runs`.
//!
//! A standalone server writes no fence, and does not start on a log that holds one: it would use zxids again
//! that the ensemble has given to other transactions.

use crate::types::{Epoch, Zxid};

/// Bytes of the payload.
pub const FENCE: usize = 16;

/// A mark in the history of a member of an ensemble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fence {
    /// A history is being taken over.
    Opened {
        /// Of its leader.
        epoch: Epoch,
        /// What it continues.
        base: Base,
    },
    /// It was taken over.
    Closed {
        /// Of its leader.
        epoch: Epoch,
    },
    /// It was not.
    Void {
        /// Of its leader.
        epoch: Epoch,
    },
}

/// What a history continues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    /// The member's own log up to here.
    Log(Zxid),
    /// A snapshot that the leader has sent.
    Snap(Zxid),
}

impl Fence {
    /// The payload.
    pub fn encode(&self) -> [u8; FENCE] {
        let (mark, epoch, base, zxid) = match *self {
            Fence::Opened { epoch, base } => match base {
                Base::Log(zxid) => (1, epoch, 1, zxid),
                Base::Snap(zxid) => (1, epoch, 2, zxid),
            },
            Fence::Closed { epoch } => (2, epoch, 0, Zxid::ZERO),
            Fence::Void { epoch } => (3, epoch, 0, Zxid::ZERO),
        };
        let mut payload = [0; FENCE];
        payload[..2].copy_from_slice(&[mark, base]);
        payload[4..8].copy_from_slice(&epoch.0.to_le_bytes());
        payload[8..].copy_from_slice(&zxid.0.to_le_bytes());
        payload
    }

    /// Reads a payload; `None`: it is none that this version knows.
    pub fn decode(payload: &[u8]) -> Option<Fence> {
        let payload: &[u8; FENCE] = payload.try_into().ok()?;
        let epoch = Epoch(u32::from_le_bytes(*payload[4..].first_chunk()?));
        let zxid = Zxid(i64::from_le_bytes(*payload[8..].first_chunk()?));
        let fence = match (payload[0], payload[1]) {
            (1, 1) => Fence::Opened {
                epoch,
                base: Base::Log(zxid),
            },
            (1, 2) => Fence::Opened {
                epoch,
                base: Base::Snap(zxid),
            },
            (2, 0) => Fence::Closed { epoch },
            (3, 0) => Fence::Void { epoch },
            _ => return None,
        };
        (fence.encode() == *payload).then_some(fence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn golden_fences() {
        let epoch = Epoch(0x0102_0304);
        let base = |base| Fence::Opened { epoch, base };
        let zxid = Zxid(0x0000_0007_0000_0a0b);
        let rows = [
            (
                base(Base::Log(zxid)),
                [1, 1, 0, 0, 4, 3, 2, 1, 0x0b, 0x0a, 0, 0, 7, 0, 0, 0],
            ),
            (
                base(Base::Snap(zxid)),
                [1, 2, 0, 0, 4, 3, 2, 1, 0x0b, 0x0a, 0, 0, 7, 0, 0, 0],
            ),
            (
                Fence::Closed { epoch },
                [2, 0, 0, 0, 4, 3, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0],
            ),
            (
                Fence::Void { epoch },
                [3, 0, 0, 0, 4, 3, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0],
            ),
        ];
        for (fence, golden) in rows {
            assert_eq!(fence.encode(), golden);
            assert_eq!(Fence::decode(&golden), Some(fence));
            assert_eq!(Fence::decode(&golden[..15]), None);
        }
    }

    fn fences() -> impl Strategy<Value = Fence> {
        (0..4u8, any::<u32>(), any::<i64>()).prop_map(|(which, epoch, zxid)| {
            let (epoch, zxid) = (Epoch(epoch), Zxid(zxid));
            match which {
                0 => Fence::Closed { epoch },
                1 => Fence::Void { epoch },
                2 => Fence::Opened {
                    epoch,
                    base: Base::Log(zxid),
                },
                _ => Fence::Opened {
                    epoch,
                    base: Base::Snap(zxid),
                },
            }
        })
    }

    proptest! {
        #[test]
        fn a_fence_is_read_as_it_was_written(fence in fences()) {
            prop_assert_eq!(Fence::decode(&fence.encode()), Some(fence));
        }

        #[test]
        fn bytes_are_one_fence_or_none(mark in 0..5u8, base in 0..4u8, rest in any::<[u8; 14]>()) {
            let mut payload = [0; FENCE];
            payload[..2].copy_from_slice(&[mark, base]);
            payload[2..].copy_from_slice(&rest);
            if let Some(fence) = Fence::decode(&payload) {
                prop_assert_eq!(fence.encode(), payload);
            }
            // Of the two bytes behind the base no fence uses any.
            payload[2] |= 1;
            prop_assert_eq!(Fence::decode(&payload), None);
        }
    }
}
