//! What a state is told from another by.

use crate::zab::links::LinkId;
use std::hash::Hasher;

/// Ticks begin here. Nothing else that is hashed as a `u64` is as large.
pub const TIME: u64 = 1 << 62;
/// Numbers of connections begin here, and end before the ticks.
pub const LINKS: u64 = 1 << 48;

/// Hashes what a member is, into 128 bits, without what can't make a difference:
///
/// - A tick. No handler but `tick` compares one, and each `tick` of the search comes later than every deadline that
///   was set before it.
/// - The number of a connection, which is looked up and compared with its like, and never comes again. It counts as
///   the how-manieth it is here; those of two states that hash alike correspond, in the order of each map.
#[derive(Clone, Debug)]
pub struct Canon {
    lanes: [u64; 2],
    links: Vec<u64>,
}

/// What was hashed, and the connections in it in their order.
#[derive(Clone, Debug)]
pub struct Print {
    pub lanes: [u64; 2],
    links: Vec<u64>,
}

impl Print {
    /// The how-manieth a connection is there.
    pub fn place(&self, link: LinkId) -> usize {
        let place = self.links.iter().position(|known| *known == link.0);
        place.unwrap_or(usize::MAX)
    }
}

impl Canon {
    pub fn new() -> Canon {
        Canon {
            lanes: [0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7344],
            links: Vec::new(),
        }
    }

    pub fn print(self) -> Print {
        let Canon { lanes, links } = self;
        Print { lanes, links }
    }

    pub fn number(&self) -> u128 {
        u128::from(self.lanes[0]) << 64 | u128::from(self.lanes[1])
    }

    fn mix(&mut self, value: u64) {
        let folded = |lane: u64, by: u64| {
            let product = u128::from(lane ^ value) * u128::from(by);
            (product as u64) ^ ((product >> 64) as u64)
        };
        self.lanes = [
            folded(self.lanes[0], 0x9e37_79b9_7f4a_7c15).wrapping_add(1),
            folded(self.lanes[1], 0xc2b2_ae3d_27d4_eb4f).rotate_left(17),
        ];
    }
}

impl Hasher for Canon {
    fn finish(&self) -> u64 {
        self.lanes[0]
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.mix(u64::from_be_bytes(word));
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.mix(u64::from(value));
    }

    fn write_u32(&mut self, value: u32) {
        self.mix(u64::from(value));
    }

    fn write_u64(&mut self, value: u64) {
        if value >= TIME {
            self.mix(TIME);
        } else if value >= LINKS {
            let known = self.links.iter().position(|link| *link == value);
            let place = known.unwrap_or_else(|| {
                self.links.push(value);
                self.links.len() - 1
            });
            self.mix(LINKS + place as u64);
        } else {
            self.mix(value);
        }
    }

    fn write_i64(&mut self, value: i64) {
        self.mix(value as u64);
    }

    fn write_isize(&mut self, value: isize) {
        self.mix(value as u64);
    }

    fn write_usize(&mut self, value: usize) {
        self.mix(value as u64);
    }
}
