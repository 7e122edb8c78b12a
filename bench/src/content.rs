//! A tree of many znodes, the same in every server: what `snapshot` and `restart` fill stores with.

use crate::control::{self, Control};
use crate::failure::Failure;
use crate::wire;
use std::net::SocketAddr;

/// Everything is below this node.
const ROOT: &str = "/rkbench-znodes";
/// Children of a folder.
const FOLDER: usize = 1000;
/// Operations of a multi.
const TOGETHER: usize = 1000;
/// Multis on the way at once: their requests and replies fit the buffers of both sides.
const MULTIS: usize = 4;
/// Data of a znode.
pub const DATA_BYTES: usize = 100;

/// How a store is filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filling {
    /// A transaction for each znode: servers make snapshots meanwhile as they do in operation.
    Singly,
    /// 1,000 znodes to a transaction: quick.
    Together,
}

/// The path of a znode, by its number from 0.
pub fn path(number: usize) -> String {
    format!("{}/n{number:08}", folder(number / FOLDER))
}

fn folder(number: usize) -> String {
    format!("{ROOT}/p{number:06}")
}

/// Its data in a round of changes; 0 is how it was made.
pub fn data(number: usize, round: usize) -> Vec<u8> {
    let mut data = format!("{number:010} {round:06} ").into_bytes();
    data.resize(DATA_BYTES, b'd');
    data
}

/// Makes so many znodes, and the folders that they need.
pub fn fill(address: SocketAddr, znodes: usize, filling: Filling) -> Result<(), Failure> {
    let mut control = Control::open(address)?;
    let folders = znodes.div_ceil(FOLDER);
    let above = (0..folders).map(folder);
    control.create([ROOT.to_owned()].into_iter().chain(above), b"")?;
    match filling {
        Filling::Singly => {
            let numbers = (0..znodes).inspect(|&at| said("filled", at, znodes));
            let build = |out: &mut Vec<u8>, xid, &number: &usize| {
                wire::create(out, xid, &path(number), &data(number, 0));
            };
            control.all("filling", numbers, build, &[])?;
        }
        Filling::Together => {
            let firsts = (0..znodes).step_by(TOGETHER);
            let firsts = firsts.inspect(|&at| said("filled", at, znodes));
            let build = |out: &mut Vec<u8>, xid, &first: &usize| {
                let numbers = first..znodes.min(first + TOGETHER);
                let nodes: Vec<_> = numbers.map(|n| (path(n), data(n, 0))).collect();
                wire::multi_create(out, xid, &nodes);
            };
            control.all_within(MULTIS, "filling", firsts, build, &[])?;
        }
    }
    control.close();
    // An answer to a multi does not say at its head whether its operations were done.
    match control::figure_of(address, "zk_znode_count")? {
        Some(count) if count as usize >= znodes + folders => Ok(()),
        count => Err(Failure::Protocol(format!(
            "{znodes} znodes were made, and the server counts {count:?}"
        ))),
    }
}

/// Sets so many znodes, evenly spread over all, to what they are in this round.
pub fn change(
    address: SocketAddr,
    znodes: usize,
    changed: usize,
    round: usize,
) -> Result<(), Failure> {
    let mut control = Control::open(address)?;
    let firsts = (0..changed).step_by(TOGETHER);
    let build = |out: &mut Vec<u8>, xid, &first: &usize| {
        let which = (first..changed.min(first + TOGETHER)).map(|at| spread(at, changed, znodes));
        let nodes: Vec<_> = which.map(|n| (path(n), data(n, round))).collect();
        wire::multi_set(out, xid, &nodes);
    };
    control.all_within(MULTIS, "changing", firsts, build, &[])?;
    control.close();
    Ok(())
}

/// Bytes of paths and data of so many znodes.
pub fn bytes(znodes: usize) -> u64 {
    (znodes * (path(0).len() + DATA_BYTES)) as u64
}

/// The `at`th of `some` numbers that lie evenly below `all`.
fn spread(at: usize, some: usize, all: usize) -> usize {
    (at as u128 * all as u128 / some as u128) as usize
}

/// A line for whoever waits, twenty times in all.
fn said(what: &str, at: usize, of: usize) {
    let part = (of / 20).max(1).next_multiple_of(TOGETHER);
    if at > 0 && at.is_multiple_of(part) {
        eprintln!("{what} {at} of {of} znodes");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_znode_has_a_path_and_data_of_its_own_in_every_round() {
        let all: BTreeSet<_> = (0..3_000).map(path).collect();
        assert_eq!(all.len(), 3_000);
        assert_eq!(path(1_000), "/rkbench-znodes/p000001/n00001000");
        assert_eq!(data(7, 0).len(), DATA_BYTES);
        assert_ne!(data(7, 0), data(8, 0));
        assert_ne!(data(7, 0), data(7, 1));
        assert_eq!(bytes(10), 10 * (path(123_456).len() as u64 + 100));
    }

    #[test]
    fn those_that_change_are_different_ones_and_lie_everywhere() {
        for (some, all) in [(7, 100), (100, 100), (99_999, 5_000_000)] {
            let chosen: BTreeSet<_> = (0..some).map(|at| spread(at, some, all)).collect();
            assert_eq!(chosen.len(), some);
            let gap = all.div_ceil(some);
            assert!(chosen.last().unwrap() + gap >= all && *chosen.first().unwrap() == 0);
        }
    }
}
