//! What becomes of a store's files: bytes flipped, sectors lost or written elsewhere, files cut, removed,
//! mixed up, put back from an older copy or from another store.

use super::memory::Memory;
use super::script::Script;
use super::stores::{Copy, Files, Store};
use ringkeeper::log::record::HEADER;
use ringkeeper::log::segment::HEADER_BLOCK;
use std::ops::Range;

/// Pieces of damage in one store; more only make it slow.
const PIECES_MAX: usize = 12;
const SECTOR: usize = 512;
const PAGE: usize = 4096;

/// A store that is not as it was.
pub struct Damaged {
    pub data: Memory,
    pub log: Memory,
    pub files: Copy,
    broken: Vec<(bool, String, Range<usize>)>,
    /// Files of another store are among its own.
    pub is_mixed: bool,
    /// Checksums were made anew: what is there was written by nobody, and may say anything.
    pub is_forged: bool,
}

impl Damaged {
    /// As the script says.
    pub fn new(store: &Store, foreign: &Store, script: &mut Script<'_>) -> Damaged {
        let mut damaged = Damaged {
            data: Memory::default(),
            log: Memory::default(),
            files: store.files.clone(),
            broken: Vec::new(),
            is_mixed: false,
            is_forged: false,
        };
        for _ in 0..PIECES_MAX {
            if script.is_over() {
                break;
            }
            damaged.piece(store, foreign, script);
        }
        damaged.data = Memory::of(&damaged.files.data);
        damaged.log = Memory::of(&damaged.files.log);
        for (is_in_log, file, range) in &damaged.broken {
            let directory = if *is_in_log {
                &damaged.log
            } else {
                &damaged.data
            };
            directory.break_range(file, range.start as u64..range.end as u64);
        }
        damaged
    }

    /// Whether all of it can be read.
    pub fn is_readable(&self) -> bool {
        self.broken.is_empty()
    }

    /// Whether these bytes of a file are what they were, and can be read.
    pub fn keeps(&self, store: &Store, is_in_log: bool, file: &str, range: &Range<usize>) -> bool {
        let of = |copy: &Copy| {
            let files = if is_in_log { &copy.log } else { &copy.data };
            files
                .get(file)
                .and_then(|bytes| bytes.get(range.clone()))
                .map(<[u8]>::to_vec)
        };
        let is_broken = self.broken.iter().any(|(log, name, broken)| {
            *log == is_in_log
                && name == file
                && broken.start < range.end
                && range.start < broken.end
        });
        !is_broken && of(&self.files) == of(&store.files)
    }

    fn piece(&mut self, store: &Store, foreign: &Store, script: &mut Script<'_>) {
        let what = script.byte() % 16;
        let is_in_log = script.byte() % 2 == 1;
        let (nth, other) = (script.byte(), script.byte());
        let own = directory(&mut self.files, is_in_log);
        let (Some(name), Some(other)) = (named(own, nth), named(own, other)) else {
            return;
        };
        let bytes = own.get_mut(&name).expect("it was listed");
        let at = script.place(bytes.len());
        let sector = at / SECTOR * SECTOR..(at / SECTOR * SECTOR + SECTOR).min(bytes.len());
        match what {
            0 | 1 => bytes
                .iter_mut()
                .skip(at)
                .take(1)
                .for_each(|byte| *byte ^= 1 << (nth % 8)),
            2 => {
                let count = script.below(32);
                for (to, from) in bytes[at..].iter_mut().zip(script.take(count)) {
                    *to = *from;
                }
            }
            3 => bytes[sector].fill(0),
            4 => {
                let end = (at / PAGE * PAGE + PAGE).min(bytes.len());
                bytes[at / PAGE * PAGE..end].fill(script.byte());
            }
            5 => bytes.truncate(at),
            6 => drop(own.remove(&name)),
            7 => {
                let (one, two) = (own[&name].clone(), own[&other].clone());
                own.extend([(name, two), (other, one)]);
            }
            8 => {
                let moved = own.remove(&name).expect("it was listed");
                own.insert(other, moved);
            }
            9 => {
                // A write that went to another place, or stayed out.
                let content = bytes[sector].to_vec();
                let to = script.place(bytes.len()) / SECTOR * SECTOR;
                for (to, from) in bytes[to..].iter_mut().zip(content) {
                    *to = from;
                }
            }
            10 => {
                let older = if is_in_log {
                    &store.older.log
                } else {
                    &store.older.data
                };
                if let Some(older) = older.get(&name) {
                    own.insert(name, older.clone());
                }
            }
            11 => {
                let theirs = if is_in_log {
                    &foreign.files.log
                } else {
                    &foreign.files.data
                };
                if let Some(theirs_name) = named(theirs, other.len() as u8 ^ nth) {
                    own.insert(theirs_name.clone(), theirs[&theirs_name].clone());
                    self.is_mixed = true;
                }
            }
            12 => {
                reseal(&name, bytes);
                self.is_forged = true;
            }
            13 => {
                let len = bytes.len() + script.place(PAGE * 2);
                bytes.resize(len, script.byte());
            }
            14 => self.broken.push((is_in_log, name, sector)),
            _ => *directory(&mut self.files, is_in_log) = Files::default(),
        }
    }
}

fn directory(files: &mut Copy, is_in_log: bool) -> &mut Files {
    match is_in_log {
        true => &mut files.log,
        false => &mut files.data,
    }
}

fn named(files: &Files, nth: u8) -> Option<String> {
    files
        .keys()
        .nth(usize::from(nth) % files.len().max(1))
        .cloned()
}

/// Makes the checksums anew, where what is there looks like something that has one.
pub fn reseal(name: &str, bytes: &mut [u8]) {
    match &bytes[..bytes.len().min(8)] {
        b"RKWITNES" => bytes
            .chunks_mut(PAGE)
            .for_each(|slot| seal(slot, 0, PAGE - 4, PAGE - 4)),
        b"RKSEGMNT" => segment(bytes),
        b"RKSNAPSH" => snapshot(bytes),
        _ if name.starts_with("witness.") => {
            bytes
                .chunks_mut(PAGE)
                .for_each(|slot| seal(slot, 0, PAGE - 4, PAGE - 4));
        }
        _ => {}
    }
}

fn seal(bytes: &mut [u8], from: usize, to: usize, at: usize) {
    if bytes.len() >= (at + 4).max(to) {
        let crc = crc32c::crc32c(&bytes[from..to]);
        bytes[at..at + 4].copy_from_slice(&crc.to_le_bytes());
    }
}

fn number(bytes: &[u8], at: usize) -> u64 {
    let eight = bytes
        .get(at..at + 8)
        .and_then(|bytes| bytes.try_into().ok());
    eight.map_or(0, u64::from_le_bytes)
}

fn segment(bytes: &mut [u8]) {
    let crc_at = if number(bytes, 8) as u32 == 1 { 48 } else { 64 };
    seal(bytes, 0, crc_at, crc_at);
    let base = number(bytes, 32);
    let Some(identity) = bytes.get(16..32) else {
        return;
    };
    let seed = crc32c::crc32c(identity);
    let mut at = HEADER_BLOCK;
    while at + HEADER <= bytes.len() {
        let end = at + HEADER + number(bytes, at + 4) as u32 as usize;
        let position = base.wrapping_add((at - HEADER_BLOCK) as u64);
        if number(bytes, at + 24) != position || end > bytes.len() {
            at += 16;
            continue;
        }
        reseal_record(seed, &mut bytes[at..end]);
        at = end.next_multiple_of(16);
    }
}

/// Makes the checksum of one record anew.
pub fn reseal_record(seed: u32, record: &mut [u8]) {
    let crc = crc32c::crc32c_append(seed, &record[4..]);
    record[..4].copy_from_slice(&crc.to_le_bytes());
}

fn snapshot(bytes: &mut [u8]) {
    let header = if number(bytes, 8) as u32 == 1 { 32 } else { 48 };
    seal(bytes, 0, header - 8, header - 8);
    let mut at = header;
    loop {
        let length = number(bytes, at) as u32 as usize;
        let end = at + 8 + length;
        if length == 0 || end > bytes.len() {
            break;
        }
        seal(bytes, at + 8, end, at + 4);
        at = end;
    }
    seal(bytes, at + 4, at + 44, at + 44);
}
