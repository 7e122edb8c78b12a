//! A disk that keeps only what was synced, and of the rest whatever it likes.
//!
//! Fault model, and what keeps a correct log able to recover:
//!
//! | What | While running | At a crash |
//! |---|---|---|
//! | written bytes | visible at once | each 512-byte sector written since the last sync keeps its old content or that after any one of the writes, independently (loss, reordering, torn records); now and then a sector is torn in its middle |
//! | synced bytes | | survive, always |
//! | creates, renames, unlinks since `sync_dir` | visible at once | a prefix of them survives, in order (journalled metadata) |
//! | a file whose size was never synced | | any size from what was synced to what was written, by sectors; what was cut off since the last sync may be there again |
//! | `sync` | may fail once when told to (the process must die); what it should have written stays readable and counts as clean: no later sync writes it | it is lost |
//! | `create`, growing writes | fail when the capacity is reached | |
//! | `create`, `open`, `view`, `remove` | fail for want of descriptors or memory when told to | |
//! | synced bytes, when told to | a sector can't be read, until it is mended | one bit rots, until it is mended |
//!
//! Every operation that changes something is an *effect*: the disk counts them, and from the
//! effect at which it was told to crash on, every operation fails and nothing reaches the medium.

use crate::log::storage::{File, Storage};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;

const SECTOR: usize = 512;
/// Of Linux.
const EIO: i32 = 5;
/// One sector in this many is torn in its middle when it is lost.
const TEAR_ONE_IN: u32 = 16;

/// How often each fault was really injected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskFaults {
    /// Sectors that lost an unsynced write.
    pub sectors_lost: u64,
    /// Sectors that kept an unsynced write while an earlier one elsewhere was lost.
    pub sectors_reordered: u64,
    /// Sectors torn in their middle.
    pub sectors_torn: u64,
    /// Directory operations lost.
    pub names_lost: u64,
    /// Syncs that failed.
    pub sync_errors: u64,
    /// Creates and writes refused for lack of space.
    pub full: u64,
    /// Files not created, opened, mapped or removed for want of descriptors or memory.
    pub shortages: u64,
    /// Bits that rotted.
    pub bits_flipped: u64,
}

#[derive(Clone, Debug)]
enum NameOp {
    Link(String, usize),
    Rename(String, String),
    Unlink(String),
}

#[derive(Default)]
struct Inode {
    now: Vec<u8>,
    durable: Vec<u8>,
    /// Writes since the last sync, oldest first.
    pending: Vec<(usize, Vec<u8>)>,
    /// The file was cut to so many bytes since the last sync.
    cut_to: Option<usize>,
}

struct Disk {
    inodes: Vec<Inode>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    pending_names: Vec<NameOp>,
    capacity: u64,
    effects: u64,
    crash_at: Option<u64>,
    crashed: bool,
    fail_next_sync: Option<io::ErrorKind>,
    /// After so many more operations that need a descriptor or memory they fail with this error.
    shortage: Option<(u32, i32)>,
    /// Sectors that can't be read: inode, offset.
    unreadable: Vec<(usize, usize)>,
    faults: DiskFaults,
}

/// One directory on the simulated disk; clones share it.
#[derive(Clone)]
pub struct SimStorage(Rc<RefCell<Disk>>);

/// An open file; stays usable after its name is gone.
#[derive(Clone)]
pub struct SimFile {
    disk: SimStorage,
    inode: usize,
}

fn dead() -> io::Error {
    io::Error::other("the simulated machine has crashed")
}

fn missing(name: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, name.to_owned())
}

fn full() -> io::Error {
    io::Error::from(io::ErrorKind::StorageFull)
}

fn apply_name_op(names: &mut BTreeMap<String, usize>, op: &NameOp) {
    match op {
        NameOp::Link(name, inode) => {
            names.insert(name.clone(), *inode);
        }
        NameOp::Rename(from, to) => {
            if let Some(inode) = names.remove(from) {
                names.insert(to.clone(), inode);
            }
        }
        NameOp::Unlink(name) => {
            names.remove(name);
        }
    }
}

impl Disk {
    fn new(capacity: u64) -> Disk {
        Disk {
            inodes: Vec::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            pending_names: Vec::new(),
            capacity,
            effects: 0,
            crash_at: None,
            crashed: false,
            fail_next_sync: None,
            shortage: None,
            unreadable: Vec::new(),
            faults: DiskFaults::default(),
        }
    }

    /// Before an operation that needs a descriptor or memory.
    fn needs_room(&mut self) -> io::Result<()> {
        let Some((left, code)) = &mut self.shortage else {
            return Ok(());
        };
        match left.checked_sub(1) {
            Some(fewer) => {
                *left = fewer;
                Ok(())
            }
            None => {
                self.faults.shortages += 1;
                Err(io::Error::from_raw_os_error(*code))
            }
        }
    }

    /// Counts an effect; the one at which the crash is due does not happen any more.
    fn effect(&mut self) -> io::Result<()> {
        if self.crash_at.is_some_and(|at| self.effects >= at) {
            self.crashed = true;
        }
        if self.crashed {
            return Err(dead());
        }
        self.effects += 1;
        Ok(())
    }

    fn alive(&self) -> io::Result<()> {
        if self.crashed { Err(dead()) } else { Ok(()) }
    }

    fn used(&self) -> u64 {
        self.names
            .values()
            .map(|&i| self.inodes[i].now.len() as u64)
            .sum()
    }

    fn name_op(&mut self, op: NameOp) {
        apply_name_op(&mut self.names, &op);
        self.pending_names.push(op);
    }
}

impl Inode {
    fn write(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        if self.now.len() < end {
            self.now.resize(end, 0);
        }
        self.now[offset..end].copy_from_slice(bytes);
        self.pending.push((offset, bytes.to_vec()));
    }

    /// Not durable before the next sync; nobody writes to a file that was cut.
    fn truncate(&mut self, len: usize) {
        self.now.truncate(len);
        self.cut_to = Some(self.cut_to.map_or(len, |cut| cut.min(len)));
    }

    /// Decides, sector by sector, what of the unsynced writes reached the medium.
    fn settle(&mut self, rng: &mut fastrand::Rng, faults: &mut DiskFaults) {
        let pending = std::mem::take(&mut self.pending);
        if let Some(len) = self.cut_to.take().filter(|_| rng.bool()) {
            self.durable.truncate(len);
        }
        let mut sectors: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (write, (offset, bytes)) in pending.iter().enumerate() {
            if bytes.is_empty() {
                continue;
            }
            for sector in offset / SECTOR..=(offset + bytes.len() - 1) / SECTOR {
                sectors.entry(sector).or_default().push(write);
            }
        }
        // How much survives varies from crash to crash: nothing, everything, anything between.
        let survive_percent = *rng.choice(&[0u32, 20, 50, 80, 100]).expect("not empty");
        let mut lost_before = false;
        for (sector, writes) in sectors {
            let kept = if rng.u32(0..100) < survive_percent {
                if rng.u32(0..4) == 0 {
                    rng.usize(0..=writes.len())
                } else {
                    writes.len()
                }
            } else {
                0
            };
            let tear = kept < writes.len() && rng.u32(0..TEAR_ONE_IN) == 0;
            faults.sectors_lost += u64::from(kept < writes.len());
            faults.sectors_reordered += u64::from(lost_before && kept > 0);
            faults.sectors_torn += u64::from(tear);
            lost_before |= kept < writes.len();
            for (nth, &write) in writes.iter().enumerate().take(kept + usize::from(tear)) {
                let (offset, bytes) = &pending[write];
                let from = (sector * SECTOR).max(*offset);
                let mut to = ((sector + 1) * SECTOR).min(offset + bytes.len());
                if nth == kept {
                    to = from + rng.usize(0..=to - from);
                }
                if self.durable.len() < to {
                    self.durable.resize(to, 0);
                }
                self.durable[from..to].copy_from_slice(&bytes[from - offset..to - offset]);
            }
        }
        self.now = self.durable.clone();
    }
}

impl SimStorage {
    /// An empty disk.
    pub fn new(capacity: u64) -> SimStorage {
        SimStorage(Rc::new(RefCell::new(Disk::new(capacity))))
    }

    /// Effects so far.
    pub fn effects(&self) -> u64 {
        self.0.borrow().effects
    }

    /// Counts an effect that is not the disk's own (bytes handed to the network); false: the
    /// machine crashed before it.
    pub fn outside_effect(&self) -> bool {
        self.0.borrow_mut().effect().is_ok()
    }

    /// The machine dies when `effects` have happened.
    pub fn crash_at(&self, effects: Option<u64>) {
        self.0.borrow_mut().crash_at = effects;
    }

    /// Whether it has.
    pub fn crashed(&self) -> bool {
        self.0.borrow().crashed
    }

    /// The next sync fails.
    pub fn fail_next_sync(&self) {
        self.0.borrow_mut().fail_next_sync = Some(io::ErrorKind::Other);
    }

    /// The next sync finds no room: a file system that allocates late says so then.
    pub fn fill_at_next_sync(&self) {
        self.0.borrow_mut().fail_next_sync = Some(io::ErrorKind::StorageFull);
    }

    /// From now on, after `operations` more, creating, opening, mapping and removing files fails with
    /// this error of the operating system; `None`: it does not.
    pub fn set_shortage(&self, shortage: Option<(u32, i32)>) {
        self.0.borrow_mut().shortage = shortage;
    }

    /// Takes back what was ordered and has not happened: no crash, no failing sync.
    pub fn disarm(&self) {
        let mut disk = self.0.borrow_mut();
        disk.crash_at = None;
        disk.fail_next_sync = None;
    }

    /// Room on the device, bytes.
    pub fn set_capacity(&self, bytes: u64) {
        self.0.borrow_mut().capacity = bytes;
    }

    /// Bytes in use.
    pub fn used(&self) -> u64 {
        self.0.borrow().used()
    }

    /// Flips a bit of a file, in the cache and on the medium. A second flip mends it.
    pub fn flip(&self, name: &str, offset: usize, bit: u32) {
        let disk = &mut *self.0.borrow_mut();
        let inode = disk.names[name];
        let Inode { now, durable, .. } = &mut disk.inodes[inode];
        for bytes in [now, durable] {
            bytes[offset] ^= 1 << bit;
        }
        disk.faults.bits_flipped += 1;
    }

    /// From now on the sector of a file at `offset` can't be read.
    pub fn break_sector(&self, name: &str, offset: usize) {
        let disk = &mut *self.0.borrow_mut();
        let inode = disk.names[name];
        disk.unreadable.push((inode, offset / SECTOR * SECTOR));
    }

    /// Every sector can be read again.
    pub fn mend_sectors(&self) {
        self.0.borrow_mut().unreadable.clear();
    }

    /// Another disk: this one, if the power failed now.
    pub fn after_power_cut(&self, rng: &mut fastrand::Rng) -> SimStorage {
        let disk = self.0.borrow();
        let inode = |inode: &Inode| Inode {
            now: inode.now.clone(),
            durable: inode.durable.clone(),
            pending: inode.pending.clone(),
            cut_to: inode.cut_to,
        };
        let copy = SimStorage(Rc::new(RefCell::new(Disk {
            inodes: disk.inodes.iter().map(inode).collect(),
            names: disk.names.clone(),
            durable_names: disk.durable_names.clone(),
            pending_names: disk.pending_names.clone(),
            ..Disk::new(disk.capacity)
        })));
        copy.restart(rng, true);
        copy
    }

    /// What was injected so far.
    pub fn faults(&self) -> DiskFaults {
        self.0.borrow().faults
    }

    /// Power comes back: decides what survived, and works again. With `power_cut` false only the
    /// process died, and the page cache kept everything.
    pub fn restart(&self, rng: &mut fastrand::Rng, power_cut: bool) {
        let disk = &mut *self.0.borrow_mut();
        disk.crashed = false;
        disk.crash_at = None;
        disk.fail_next_sync = None;
        if !power_cut {
            return;
        }
        let kept = rng.usize(0..=disk.pending_names.len());
        disk.faults.names_lost += (disk.pending_names.len() - kept) as u64;
        for op in std::mem::take(&mut disk.pending_names).iter().take(kept) {
            apply_name_op(&mut disk.durable_names, op);
        }
        disk.names = disk.durable_names.clone();
        for inode in &mut disk.inodes {
            inode.settle(rng, &mut disk.faults);
        }
        // Nobody holds a file without a name across a restart.
        let reachable: std::collections::BTreeSet<usize> = disk.names.values().copied().collect();
        for (number, inode) in disk.inodes.iter_mut().enumerate() {
            if !reachable.contains(&number) {
                *inode = Inode::default();
            }
        }
    }
}

impl Storage for SimStorage {
    type File = SimFile;

    fn list(&self) -> io::Result<Vec<String>> {
        let disk = self.0.borrow();
        disk.alive()?;
        Ok(disk.names.keys().cloned().collect())
    }

    fn create(&self, name: &str, len: u64) -> io::Result<SimFile> {
        let disk = &mut *self.0.borrow_mut();
        disk.needs_room()?;
        disk.effect()?;
        let replaced = disk
            .names
            .get(name)
            .map_or(0, |&i| disk.inodes[i].now.len() as u64);
        if disk.used() - replaced + len > disk.capacity {
            disk.faults.full += 1;
            return Err(full());
        }
        let inode = disk.inodes.len();
        disk.inodes.push(Inode::default());
        disk.inodes[inode].write(0, &vec![0; len as usize]);
        disk.name_op(NameOp::Link(name.to_owned(), inode));
        Ok(SimFile {
            disk: self.clone(),
            inode,
        })
    }

    fn open(&self, name: &str) -> io::Result<SimFile> {
        let disk = &mut *self.0.borrow_mut();
        disk.alive()?;
        disk.needs_room()?;
        let inode = *disk.names.get(name).ok_or_else(|| missing(name))?;
        Ok(SimFile {
            disk: self.clone(),
            inode,
        })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let disk = &mut *self.0.borrow_mut();
        disk.effect()?;
        if !disk.names.contains_key(from) {
            return Err(missing(from));
        }
        disk.name_op(NameOp::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let disk = &mut *self.0.borrow_mut();
        disk.needs_room()?;
        disk.effect()?;
        if !disk.names.contains_key(name) {
            return Err(missing(name));
        }
        disk.name_op(NameOp::Unlink(name.to_owned()));
        Ok(())
    }

    fn sync_dir(&self) -> io::Result<()> {
        let disk = &mut *self.0.borrow_mut();
        disk.effect()?;
        for op in std::mem::take(&mut disk.pending_names) {
            apply_name_op(&mut disk.durable_names, &op);
        }
        Ok(())
    }

    fn room(&self) -> io::Result<u64> {
        let disk = self.0.borrow();
        disk.alive()?;
        Ok(disk.capacity.saturating_sub(disk.used()))
    }
}

impl File for SimFile {
    type View = Vec<u8>;

    fn len(&self) -> io::Result<u64> {
        let disk = self.disk.0.borrow();
        disk.alive()?;
        Ok(disk.inodes[self.inode].now.len() as u64)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let disk = &mut *self.disk.0.borrow_mut();
        disk.effect()?;
        let end = offset + bytes.len() as u64;
        let grows = end.saturating_sub(disk.inodes[self.inode].now.len() as u64);
        if grows > 0 && disk.used() + grows > disk.capacity {
            disk.faults.full += 1;
            return Err(full());
        }
        disk.inodes[self.inode].write(offset as usize, bytes);
        Ok(())
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let disk = self.disk.0.borrow();
        disk.alive()?;
        let now = &disk.inodes[self.inode].now;
        let found = now.get(offset as usize..).unwrap_or_default();
        let bytes = found.len().min(into.len());
        let asked = offset as usize..offset as usize + bytes;
        let meets = |&(inode, sector): &(usize, usize)| {
            inode == self.inode && sector < asked.end && asked.start < sector + SECTOR
        };
        if disk.unreadable.iter().any(meets) {
            return Err(io::Error::from_raw_os_error(EIO));
        }
        into[..bytes].copy_from_slice(&found[..bytes]);
        Ok(bytes)
    }

    fn view(&self, len: u64) -> io::Result<Vec<u8>> {
        let disk = &mut *self.disk.0.borrow_mut();
        disk.alive()?;
        disk.needs_room()?;
        let now = &disk.inodes[self.inode].now;
        Ok(now[..now.len().min(len as usize)].to_vec())
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        let disk = &mut *self.disk.0.borrow_mut();
        disk.effect()?;
        disk.inodes[self.inode].truncate(len as usize);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let disk = &mut *self.disk.0.borrow_mut();
        disk.effect()?;
        let failed = std::mem::take(&mut disk.fail_next_sync);
        let inode = &mut disk.inodes[self.inode];
        let pending = std::mem::take(&mut inode.pending);
        if let Some(kind) = failed {
            disk.faults.sync_errors += 1;
            return Err(io::Error::new(kind, "simulated fsync error"));
        }
        for (offset, bytes) in pending {
            let end = offset + bytes.len();
            if inode.durable.len() < end {
                inode.durable.resize(end, 0);
            }
            inode.durable[offset..end].copy_from_slice(&bytes);
        }
        if let Some(len) = inode.cut_to.take() {
            inode.durable.truncate(len);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn synced_bytes_and_names_survive_a_power_cut_and_the_rest_may_not() {
        let (mut kept, mut lost) = (0, 0);
        for seed in 0..200 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let disk = SimStorage::new(1 << 20);
            let file = disk.create("a", 4096).unwrap();
            file.write_at(0, b"first").unwrap();
            file.sync().unwrap();
            disk.sync_dir().unwrap();
            file.write_at(1024, b"second").unwrap();
            disk.create("b", 0).unwrap();
            disk.restart(&mut rng, true);
            let bytes = disk.open("a").unwrap().view(u64::MAX).unwrap();
            assert_eq!(&bytes[..5], b"first");
            assert_eq!(bytes.len(), 4096);
            if bytes[1024..1030] == *b"second" {
                kept += 1
            } else {
                lost += 1
            }
        }
        assert!(kept > 20 && lost > 20, "kept {kept}, lost {lost}");
    }

    #[test]
    fn nothing_happens_from_the_crash_on() {
        let disk = SimStorage::new(1 << 20);
        let file = disk.create("a", 0).unwrap();
        disk.crash_at(Some(disk.effects() + 1));
        file.write_at(0, b"x").unwrap();
        assert!(file.write_at(1, b"y").is_err());
        assert!(file.sync().is_err());
        assert!(disk.crashed());
        disk.restart(&mut fastrand::Rng::with_seed(1), false);
        assert_eq!(disk.open("a").unwrap().view(u64::MAX).unwrap(), b"x");
    }

    #[test]
    fn a_full_disk_refuses_and_a_failed_sync_leaves_bytes_at_risk() {
        let disk = SimStorage::new(100);
        assert_eq!(
            disk.create("a", 200).err().unwrap().kind(),
            io::ErrorKind::StorageFull
        );
        let file = disk.create("b", 50).unwrap();
        disk.fail_next_sync();
        assert!(file.sync().is_err());
        assert_eq!(disk.faults().full + disk.faults().sync_errors, 2);
    }
}
