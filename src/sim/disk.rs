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
//! | `sync` | covers what was written before it began; may fail when told to: what it should have written stays readable and counts as clean, no later sync writes it | it is lost |
//! | `create`, growing writes | fail when the capacity is reached; where writes copy, others too | |
//! | every call | fails when told to, once or for long, with any error | |
//! | synced bytes, when told to | bits, sectors or pages rot, or can't be read, until they are mended or written again | |
//! | names, when told to | files are gone, cut, or another store's, until they are given back | |
//!
//! **Premise.** A sector that is written when the power fails holds what was in it before, or what was
//! written, or a beginning of that before what was in it. [`SimStorage::tears_destroy`] takes the premise
//! away: then such a sector may hold anything, and what was durable in it is lost (`checks::rot`
//! says what is promised then).
//!
//! Every operation that changes something is an *effect*: the machine counts them, and from the effect at
//! which it was told to crash on, every operation of each of its disks fails, and nothing reaches a medium.

use crate::log::storage::{File, Storage};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
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
    /// Calls that failed because they were told to.
    pub calls_failed: u64,
    /// Reads that met a sector that can't be read.
    pub reads_failed: u64,
    /// Sectors that held something else than was ever written after a crash.
    pub sectors_destroyed: u64,
    /// Writes that a sync did not cover because they came after it had begun.
    pub writes_behind_a_sync: u64,
}

impl DiskFaults {
    /// Those of another disk, too.
    pub fn add(&mut self, other: DiskFaults) {
        self.sectors_lost += other.sectors_lost;
        self.sectors_reordered += other.sectors_reordered;
        self.sectors_torn += other.sectors_torn;
        self.names_lost += other.names_lost;
        self.sync_errors += other.sync_errors;
        self.full += other.full;
        self.calls_failed += other.calls_failed;
        self.reads_failed += other.reads_failed;
        self.sectors_destroyed += other.sectors_destroyed;
        self.writes_behind_a_sync += other.writes_behind_a_sync;
    }
}

/// A call of the seam.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SeamCall {
    /// `Storage::list`.
    List,
    /// `Storage::create`.
    Create,
    /// `Storage::open`.
    Open,
    /// `Storage::rename`.
    Rename,
    /// `Storage::remove`.
    Remove,
    /// `Storage::sync_dir`.
    SyncDir,
    /// `Storage::room`.
    Room,
    /// `File::len`.
    Len,
    /// `File::write_at`.
    Write,
    /// `File::read_at`.
    Read,
    /// `File::view`.
    View,
    /// `File::truncate`.
    Truncate,
    /// `File::sync`.
    Sync,
}

impl SeamCall {
    /// All.
    pub const ALL: [SeamCall; 13] = [
        SeamCall::List,
        SeamCall::Create,
        SeamCall::Open,
        SeamCall::Rename,
        SeamCall::Remove,
        SeamCall::SyncDir,
        SeamCall::Room,
        SeamCall::Len,
        SeamCall::Write,
        SeamCall::Read,
        SeamCall::View,
        SeamCall::Truncate,
        SeamCall::Sync,
    ];
}

/// Calls that are to fail.
#[derive(Clone, Copy, Debug)]
pub struct Failing {
    /// These.
    pub calls: &'static [SeamCall],
    /// With this error of the operating system.
    pub code: i32,
    /// After so many more of them have succeeded.
    pub after: u32,
    /// So many of them.
    pub times: u32,
}

/// What needs a descriptor or memory.
const SCARCE: &[SeamCall] = &[
    SeamCall::Create,
    SeamCall::Open,
    SeamCall::View,
    SeamCall::Remove,
];

/// Bytes that rotted: where, and what stood there.
#[derive(Clone, Debug)]
pub struct Spoiled {
    inode: usize,
    offset: usize,
    before: Vec<u8>,
    after: Vec<u8>,
}

/// What a directory held: the names, and their files.
#[derive(Clone, Debug)]
pub struct Held(BTreeMap<String, usize>);

#[derive(Clone, Debug)]
enum NameOp {
    Link(String, usize),
    Rename(String, String),
    Unlink(String),
}

/// Bytes that no sync has covered.
#[derive(Clone)]
struct Write {
    /// Counts the writes of a disk.
    nth: u64,
    offset: usize,
    bytes: Vec<u8>,
}

#[derive(Clone, Default)]
struct Inode {
    now: Vec<u8>,
    durable: Vec<u8>,
    /// Writes since the last sync, oldest first.
    pending: Vec<Write>,
    /// The file was cut to so many bytes since the last sync.
    cut_to: Option<usize>,
}

/// What the disks of a machine share.
#[derive(Default)]
struct Power {
    effects: u64,
    crash_at: Option<u64>,
    is_cut: bool,
}

struct Disk {
    power: Rc<RefCell<Power>>,
    inodes: Vec<Inode>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    pending_names: Vec<NameOp>,
    capacity: u64,
    copies_on_write: bool,
    tears_destroy: bool,
    fail_next_sync: Option<io::ErrorKind>,
    failing: Option<Failing>,
    /// Calls that failed because they were told to, and have not been asked for.
    failed: Vec<(SeamCall, i32)>,
    /// Writes so far.
    writes: u64,
    /// A sync that ends now began before this write.
    sync_began: Option<u64>,
    /// Sectors that can't be read: inode, offset.
    unreadable: BTreeSet<(usize, usize)>,
    /// Files that are given back later.
    kept: BTreeSet<usize>,
    /// Bytes that rotted last: of which file, from where on, and which of them were written again since.
    rotten: (usize, usize, Vec<bool>),
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
            power: Rc::default(),
            inodes: Vec::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            pending_names: Vec::new(),
            capacity,
            copies_on_write: false,
            tears_destroy: false,
            fail_next_sync: None,
            failing: None,
            failed: Vec::new(),
            writes: 0,
            sync_began: None,
            unreadable: BTreeSet::new(),
            kept: BTreeSet::new(),
            rotten: (0, 0, Vec::new()),
            faults: DiskFaults::default(),
        }
    }

    /// Before every call: it fails if the machine is dead, or if it is told to.
    fn call(&mut self, call: SeamCall) -> io::Result<()> {
        if self.power.borrow().is_cut {
            return Err(dead());
        }
        let Some(failing) = &mut self.failing else {
            return Ok(());
        };
        if !failing.calls.contains(&call) || failing.times == 0 {
            return Ok(());
        }
        if let Some(fewer) = failing.after.checked_sub(1) {
            failing.after = fewer;
            return Ok(());
        }
        failing.times -= 1;
        self.faults.calls_failed += 1;
        self.failed.push((call, failing.code));
        Err(io::Error::from_raw_os_error(failing.code))
    }

    /// Counts an effect; the one at which the crash is due does not happen any more.
    fn effect(&mut self) -> io::Result<()> {
        let power = &mut *self.power.borrow_mut();
        power.is_cut |= power.crash_at.is_some_and(|at| power.effects >= at);
        if power.is_cut {
            return Err(dead());
        }
        power.effects += 1;
        Ok(())
    }

    fn write(&mut self, inode: usize, offset: usize, bytes: &[u8]) {
        self.writes += 1;
        self.inodes[inode].write(self.writes, offset, bytes);
        // The device puts what is written somewhere else than what it can't read.
        let end = offset + bytes.len();
        let written = |&(of, sector): &(usize, usize)| {
            of == inode && sector < end && offset < sector + SECTOR
        };
        self.unreadable.retain(|sector| !written(sector));
        if self.rotten.0 == inode {
            for (nth, again) in self.rotten.2.iter_mut().enumerate() {
                *again |= (offset..end).contains(&(self.rotten.1 + nth));
            }
        }
    }

    /// Everything so far is durable, as if the machine had stood still for long.
    fn calm_down(&mut self) {
        for op in std::mem::take(&mut self.pending_names) {
            apply_name_op(&mut self.durable_names, &op);
        }
        for inode in &mut self.inodes {
            (inode.pending, inode.cut_to) = (Vec::new(), None);
            inode.durable.clone_from(&inode.now);
        }
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
    fn write(&mut self, nth: u64, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        if self.now.len() < end {
            self.now.resize(end, 0);
        }
        self.now[offset..end].copy_from_slice(bytes);
        let bytes = bytes.to_vec();
        self.pending.push(Write { nth, offset, bytes });
    }

    /// Not durable before the next sync; nobody writes to a file that was cut.
    fn truncate(&mut self, len: usize) {
        self.now.truncate(len);
        self.cut_to = Some(self.cut_to.map_or(len, |cut| cut.min(len)));
    }

    /// Decides, sector by sector, what of the unsynced writes reached the medium.
    fn settle(&mut self, rng: &mut fastrand::Rng, tears_destroy: bool, faults: &mut DiskFaults) {
        let pending = std::mem::take(&mut self.pending);
        if let Some(len) = self.cut_to.take().filter(|_| rng.bool()) {
            self.durable.truncate(len);
        }
        let mut sectors: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (write, Write { offset, bytes, .. }) in pending.iter().enumerate() {
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
                let Write { offset, bytes, .. } = &pending[write];
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
            if tear && tears_destroy {
                faults.sectors_destroyed += 1;
                let end = ((sector + 1) * SECTOR).min(self.durable.len());
                let rest = self.durable.get_mut(sector * SECTOR..end);
                rng.fill(rest.unwrap_or_default());
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

    /// Another empty disk of the same machine.
    pub fn beside(&self, capacity: u64) -> SimStorage {
        let power = self.0.borrow().power.clone();
        SimStorage(Rc::new(RefCell::new(Disk {
            power,
            ..Disk::new(capacity)
        })))
    }

    /// Whether both are the same directory.
    pub fn is(&self, other: &SimStorage) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }

    /// Effects of the machine so far.
    pub fn effects(&self) -> u64 {
        self.0.borrow().power.borrow().effects
    }

    /// Counts an effect that is not the disk's own (bytes handed to the network); false: the
    /// machine crashed before it.
    pub fn outside_effect(&self) -> bool {
        self.0.borrow_mut().effect().is_ok()
    }

    /// The machine dies when `effects` have happened.
    pub fn crash_at(&self, effects: Option<u64>) {
        self.0.borrow().power.borrow_mut().crash_at = effects;
    }

    /// Whether it has.
    pub fn crashed(&self) -> bool {
        self.0.borrow().power.borrow().is_cut
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
        let failing = shortage.map(|(after, code)| Failing {
            calls: SCARCE,
            code,
            after,
            times: u32::MAX,
        });
        self.set_failing(failing);
    }

    /// From now on these calls fail; `None`: none.
    pub fn set_failing(&self, failing: Option<Failing>) {
        self.0.borrow_mut().failing = failing;
    }

    /// Calls that have failed because they were told to, since this was last asked.
    pub fn take_failed(&self) -> Vec<(SeamCall, i32)> {
        std::mem::take(&mut self.0.borrow_mut().failed)
    }

    /// What a sync covers that begins now.
    pub fn sync_begins(&self) -> u64 {
        self.0.borrow().writes
    }

    /// From now on syncs began at that moment; `None`: each begins when it ends.
    pub fn set_sync_began(&self, began: Option<u64>) {
        self.0.borrow_mut().sync_began = began;
    }

    /// Whether writes take room anew, also into bytes that are there.
    pub fn set_copies_on_write(&self, copies: bool) {
        self.0.borrow_mut().copies_on_write = copies;
    }

    /// Whether a sector that is torn may hold anything afterwards.
    pub fn tears_destroy(&self, destroy: bool) {
        self.0.borrow_mut().tears_destroy = destroy;
    }

    /// Takes back what was ordered and has not happened: no crash, no failing sync.
    pub fn disarm(&self) {
        let mut disk = self.0.borrow_mut();
        disk.power.borrow_mut().crash_at = None;
        (disk.fail_next_sync, disk.failing) = (None, None);
    }

    /// Room on the device, bytes.
    pub fn set_capacity(&self, bytes: u64) {
        self.0.borrow_mut().capacity = bytes;
    }

    /// Bytes in use.
    pub fn used(&self) -> u64 {
        self.0.borrow().used()
    }

    /// Names that there are now, sorted.
    pub fn names(&self) -> Vec<String> {
        self.0.borrow().names.keys().cloned().collect()
    }

    /// Content of a file as it is now; what can't be read is other than it was.
    pub fn content(&self, name: &str) -> Option<Vec<u8>> {
        let disk = self.0.borrow();
        let inode = *disk.names.get(name)?;
        let mut content = disk.inodes[inode].now.clone();
        for &(_, sector) in disk.unreadable.range((inode, 0)..(inode + 1, 0)) {
            let end = (sector + SECTOR).min(content.len());
            let lost = content.get_mut(sector..end).unwrap_or_default();
            lost.iter_mut().for_each(|byte| *byte = !*byte);
        }
        Some(content)
    }

    /// Lets bytes of a file rot, in the cache and on the medium: each is combined with one of `with`.
    pub fn spoil(&self, name: &str, offset: usize, with: &[u8]) -> Spoiled {
        let disk = &mut *self.0.borrow_mut();
        let inode = disk.names[name];
        let Inode { now, durable, .. } = &mut disk.inodes[inode];
        let end = (offset + with.len()).min(now.len());
        let before = now[offset..end].to_vec();
        for bytes in [now, durable] {
            for (byte, with) in bytes.iter_mut().skip(offset).zip(with) {
                *byte ^= with;
            }
        }
        let after = disk.inodes[inode].now[offset..end].to_vec();
        disk.rotten = (inode, offset, vec![false; end - offset]);
        Spoiled {
            inode,
            offset,
            before,
            after,
        }
    }

    /// Restores what rotted last and has not been written again since.
    pub fn mend(&self, spoiled: &Spoiled) {
        let disk = &mut *self.0.borrow_mut();
        let Inode { now, durable, .. } = &mut disk.inodes[spoiled.inode];
        for bytes in [now, durable] {
            let rotten = spoiled
                .before
                .iter()
                .zip(&spoiled.after)
                .zip(&disk.rotten.2);
            for (byte, ((before, after), again)) in
                bytes.iter_mut().skip(spoiled.offset).zip(rotten)
            {
                if byte == after && !again {
                    *byte = *before;
                }
            }
        }
        disk.rotten.2.clear();
    }

    /// Whether a sync has covered whatever was written to these bytes of a file.
    pub fn is_settled(&self, name: &str, begin: usize, end: usize) -> bool {
        let disk = self.0.borrow();
        let meets = |write: &Write| write.offset < end && begin < write.offset + write.bytes.len();
        let inode = disk.names.get(name).map(|&inode| &disk.inodes[inode]);
        inode.is_some_and(|inode| !inode.pending.iter().any(meets))
    }

    /// Whether a power cut leaves the file as it is.
    pub fn is_durable(&self, name: &str) -> bool {
        let disk = self.0.borrow();
        let inode = disk.names.get(name);
        inode.is_some_and(|&number| {
            let inode = &disk.inodes[number];
            disk.durable_names.get(name) == Some(&number)
                && inode.now == inode.durable
                && inode.pending.is_empty()
        })
    }

    /// Takes all names away, which can be given back, or some of them.
    pub fn take_away(&self, is_taken: impl Fn(&str) -> bool) -> Held {
        let disk = &mut *self.0.borrow_mut();
        disk.calm_down();
        disk.kept.extend(disk.names.values());
        let held = Held(disk.names.clone());
        disk.names.retain(|name, _| !is_taken(name));
        disk.durable_names.clone_from(&disk.names);
        held
    }

    /// Whether a file with a name of this kind was taken away, or replaced.
    pub fn lacks(&self, held: &Held, prefix: &str) -> bool {
        let names = &self.0.borrow().names;
        let mut before = held.0.iter();
        before.any(|(name, inode)| name.starts_with(prefix) && names.get(name) != Some(inode))
    }

    /// Puts a file there that is durable, under a name that nothing has or that is replaced.
    pub fn put(&self, name: &str, content: Vec<u8>) {
        let disk = &mut *self.0.borrow_mut();
        let inode = disk.inodes.len();
        let durable = content.clone();
        disk.inodes.push(Inode {
            now: content,
            durable,
            ..Inode::default()
        });
        for names in [&mut disk.names, &mut disk.durable_names] {
            names.insert(name.to_owned(), inode);
        }
    }

    /// Gives all names back that were there.
    pub fn give_back(&self, held: Held) {
        let disk = &mut *self.0.borrow_mut();
        disk.pending_names.clear();
        disk.durable_names.clone_from(&held.0);
        disk.names = held.0;
        disk.kept.clear();
    }

    /// The same, and files that have got other names since stay.
    pub fn give_back_beside(&self, mut held: Held) {
        let names = self.0.borrow().names.clone();
        for (name, inode) in names {
            held.0.entry(name).or_insert(inode);
        }
        self.give_back(held);
    }

    /// From now on the sector of a file at `offset` can't be read.
    pub fn break_sector(&self, name: &str, offset: usize) {
        let disk = &mut *self.0.borrow_mut();
        let inode = disk.names[name];
        disk.unreadable.insert((inode, offset / SECTOR * SECTOR));
    }

    /// Every sector can be read again.
    pub fn mend_sectors(&self) {
        self.0.borrow_mut().unreadable.clear();
    }

    /// Another disk: this one, if the power failed now.
    pub fn after_power_cut(&self, rng: &mut fastrand::Rng) -> SimStorage {
        let copy = self.copy();
        copy.restart(rng, true);
        copy
    }

    /// Another disk that holds the same. Nothing is to fail there.
    pub fn copy(&self) -> SimStorage {
        let disk = self.0.borrow();
        SimStorage(Rc::new(RefCell::new(Disk {
            inodes: disk.inodes.clone(),
            names: disk.names.clone(),
            durable_names: disk.durable_names.clone(),
            pending_names: disk.pending_names.clone(),
            tears_destroy: disk.tears_destroy,
            unreadable: disk.unreadable.clone(),
            ..Disk::new(disk.capacity)
        })))
    }

    /// What was injected so far.
    pub fn faults(&self) -> DiskFaults {
        self.0.borrow().faults
    }

    /// Power comes back: decides what survived, and works again. With `power_cut` false only the
    /// process died, and the page cache kept everything.
    pub fn restart(&self, rng: &mut fastrand::Rng, power_cut: bool) {
        let disk = &mut *self.0.borrow_mut();
        let power = &mut *disk.power.borrow_mut();
        (power.is_cut, power.crash_at) = (false, None);
        (disk.fail_next_sync, disk.failing) = (None, None);
        disk.failed.clear();
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
            inode.settle(rng, disk.tears_destroy, &mut disk.faults);
        }
        // Nobody holds a file without a name across a restart.
        let mut reachable: BTreeSet<usize> = disk.names.values().copied().collect();
        reachable.extend(&disk.kept);
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
        let disk = &mut *self.0.borrow_mut();
        disk.call(SeamCall::List)?;
        Ok(disk.names.keys().cloned().collect())
    }

    fn create(&self, name: &str, len: u64) -> io::Result<SimFile> {
        let disk = &mut *self.0.borrow_mut();
        disk.call(SeamCall::Create)?;
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
        disk.write(inode, 0, &vec![0; len as usize]);
        disk.name_op(NameOp::Link(name.to_owned(), inode));
        Ok(SimFile {
            disk: self.clone(),
            inode,
        })
    }

    fn open(&self, name: &str) -> io::Result<SimFile> {
        let disk = &mut *self.0.borrow_mut();
        disk.call(SeamCall::Open)?;
        let inode = *disk.names.get(name).ok_or_else(|| missing(name))?;
        Ok(SimFile {
            disk: self.clone(),
            inode,
        })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let disk = &mut *self.0.borrow_mut();
        disk.call(SeamCall::Rename)?;
        disk.effect()?;
        if !disk.names.contains_key(from) {
            return Err(missing(from));
        }
        disk.name_op(NameOp::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let disk = &mut *self.0.borrow_mut();
        disk.call(SeamCall::Remove)?;
        disk.effect()?;
        if !disk.names.contains_key(name) {
            return Err(missing(name));
        }
        disk.name_op(NameOp::Unlink(name.to_owned()));
        Ok(())
    }

    fn sync_dir(&self) -> io::Result<()> {
        let disk = &mut *self.0.borrow_mut();
        disk.call(SeamCall::SyncDir)?;
        disk.effect()?;
        for op in std::mem::take(&mut disk.pending_names) {
            apply_name_op(&mut disk.durable_names, &op);
        }
        Ok(())
    }

    fn room(&self) -> io::Result<u64> {
        let disk = &mut *self.0.borrow_mut();
        disk.call(SeamCall::Room)?;
        Ok(disk.capacity.saturating_sub(disk.used()))
    }

    fn overwrites_in_place(&self) -> bool {
        !self.0.borrow().copies_on_write
    }
}

impl File for SimFile {
    type View = Vec<u8>;

    fn len(&self) -> io::Result<u64> {
        let disk = &mut *self.disk.0.borrow_mut();
        disk.call(SeamCall::Len)?;
        Ok(disk.inodes[self.inode].now.len() as u64)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let disk = &mut *self.disk.0.borrow_mut();
        if let Err(error) = disk.call(SeamCall::Write) {
            if disk.effect().is_ok() {
                // A write that fails may have written a part.
                let len = disk.inodes[self.inode].now.len();
                let part = (bytes.len() / 2).min(len.saturating_sub(offset as usize));
                disk.write(self.inode, offset as usize, &bytes[..part]);
            }
            return Err(error);
        }
        disk.effect()?;
        let end = offset + bytes.len() as u64;
        let takes = match disk.copies_on_write {
            true => bytes.len() as u64,
            false => end.saturating_sub(disk.inodes[self.inode].now.len() as u64),
        };
        if takes > 0 && disk.used() + takes > disk.capacity {
            disk.faults.full += 1;
            return Err(full());
        }
        disk.write(self.inode, offset as usize, bytes);
        Ok(())
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let disk = &mut *self.disk.0.borrow_mut();
        disk.call(SeamCall::Read)?;
        let now = &disk.inodes[self.inode].now;
        let found = now.get(offset as usize..).unwrap_or_default();
        let bytes = found.len().min(into.len());
        let asked = offset as usize..offset as usize + bytes;
        let meets = |&(inode, sector): &(usize, usize)| {
            inode == self.inode && sector < asked.end && asked.start < sector + SECTOR
        };
        if disk.unreadable.iter().any(meets) {
            disk.faults.reads_failed += 1;
            return Err(io::Error::from_raw_os_error(EIO));
        }
        into[..bytes].copy_from_slice(&found[..bytes]);
        Ok(bytes)
    }

    fn view(&self, len: u64) -> io::Result<Vec<u8>> {
        let disk = &mut *self.disk.0.borrow_mut();
        disk.call(SeamCall::View)?;
        let now = &disk.inodes[self.inode].now;
        Ok(now[..now.len().min(len as usize)].to_vec())
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        let disk = &mut *self.disk.0.borrow_mut();
        disk.call(SeamCall::Truncate)?;
        disk.effect()?;
        disk.inodes[self.inode].truncate(len as usize);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let disk = &mut *self.disk.0.borrow_mut();
        let told = disk.call(SeamCall::Sync);
        disk.effect()?;
        let failed = std::mem::take(&mut disk.fail_next_sync);
        let failed = failed.map(|kind| io::Error::new(kind, "simulated fsync error"));
        let began = disk.sync_began.unwrap_or(u64::MAX);
        let inode = &mut disk.inodes[self.inode];
        let (pending, behind): (Vec<_>, Vec<_>) =
            (inode.pending.drain(..)).partition(|write| write.nth <= began);
        disk.faults.writes_behind_a_sync += behind.len() as u64;
        inode.pending = behind;
        if let Some(error) = told.err().or(failed) {
            disk.faults.sync_errors += 1;
            return Err(error);
        }
        for Write { offset, bytes, .. } in pending {
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

    #[test]
    fn a_sync_covers_what_was_written_before_it_began_and_nothing_else() {
        let disk = SimStorage::new(1 << 20);
        let file = disk.create("a", 4096).unwrap();
        file.write_at(0, b"before").unwrap();
        let began = disk.sync_begins();
        file.write_at(1024, b"behind").unwrap();
        disk.set_sync_began(Some(began));
        file.sync().unwrap();
        disk.set_sync_began(None);
        disk.sync_dir().unwrap();
        assert_eq!(disk.faults().writes_behind_a_sync, 1);
        let mut lost = 0;
        for seed in 0..50 {
            let cut = disk.after_power_cut(&mut fastrand::Rng::with_seed(seed));
            let bytes = cut.content("a").unwrap();
            assert_eq!(&bytes[..6], b"before");
            lost += u32::from(&bytes[1024..1030] != b"behind");
        }
        assert!(lost > 5, "{lost}");
        file.sync().unwrap();
        let cut = disk.after_power_cut(&mut fastrand::Rng::with_seed(1));
        assert_eq!(&cut.content("a").unwrap()[1024..1030], b"behind");
    }

    #[test]
    fn a_call_fails_as_often_as_it_is_told_to_and_with_that_error() {
        for call in SeamCall::ALL {
            let disk = SimStorage::new(1 << 20);
            let file = disk.create("a", 4096).unwrap();
            let calls: &'static [SeamCall] = Box::leak(Box::new([call]));
            disk.set_failing(Some(Failing {
                calls,
                code: 122,
                after: 1,
                times: 2,
            }));
            let attempt = || match call {
                SeamCall::List => disk.list().map(drop),
                SeamCall::Create => disk.create("b", 0).map(drop),
                SeamCall::Open => disk.open("a").map(drop),
                SeamCall::Rename => disk.rename("a", "a"),
                SeamCall::Remove => disk.remove("a").or_else(|e| match e.kind() {
                    io::ErrorKind::NotFound => Ok(()),
                    _ => Err(e),
                }),
                SeamCall::SyncDir => disk.sync_dir(),
                SeamCall::Room => disk.room().map(drop),
                SeamCall::Len => file.len().map(drop),
                SeamCall::Write => file.write_at(0, b"x"),
                SeamCall::Read => file.read_at(0, &mut [0]).map(drop),
                SeamCall::View => file.view(1).map(drop),
                SeamCall::Truncate => file.truncate(4096),
                SeamCall::Sync => file.sync(),
            };
            let outcomes: Vec<bool> = (0..4).map(|_| attempt().is_ok()).collect();
            assert_eq!(outcomes, [true, false, false, true], "{call:?}");
            assert_eq!(disk.take_failed(), [(call, 122), (call, 122)]);
        }
    }

    #[test]
    fn two_disks_of_a_machine_die_together_and_lose_their_own() {
        let one = SimStorage::new(1 << 20);
        let two = one.beside(1 << 20);
        let files = [&one, &two].map(|disk| disk.create("a", 0).unwrap());
        one.crash_at(Some(one.effects() + 1));
        files[1].write_at(0, b"x").unwrap();
        assert!(files[0].write_at(0, b"x").is_err());
        assert!(two.list().is_err() && two.crashed());
        let mut rng = fastrand::Rng::with_seed(1);
        one.restart(&mut rng, true);
        two.restart(&mut rng, false);
        assert_eq!(two.content("a").unwrap(), b"x");
    }

    #[test]
    fn what_rots_can_be_mended_and_what_was_written_again_stays() {
        let disk = SimStorage::new(1 << 20);
        let file = disk.create("a", 16).unwrap();
        file.write_at(0, b"0123456789abcdef").unwrap();
        let spoiled = disk.spoil("a", 4, &[1; 4]);
        assert_eq!(disk.content("a").unwrap(), b"0123547689abcdef");
        file.write_at(7, b"X").unwrap();
        disk.mend(&spoiled);
        assert_eq!(disk.content("a").unwrap(), b"0123456X89abcdef");
        let held = disk.take_away(|name| name == "a");
        assert!(disk.content("a").is_none());
        disk.put("b", b"foreign".to_vec());
        disk.give_back(held);
        assert_eq!(disk.list().unwrap(), ["a"]);
    }

    #[test]
    fn a_torn_sector_holds_old_and_new_bytes_unless_it_may_hold_anything() {
        let mut destroyed = [0, 0];
        for (nth, destroy) in [false, true].into_iter().enumerate() {
            for seed in 0..400 {
                let disk = SimStorage::new(1 << 20);
                disk.tears_destroy(destroy);
                let file = disk.create("a", 512).unwrap();
                file.write_at(0, &[1; 256]).unwrap();
                file.sync().unwrap();
                disk.sync_dir().unwrap();
                file.write_at(256, &[2; 256]).unwrap();
                disk.restart(&mut fastrand::Rng::with_seed(seed), true);
                let bytes = disk.content("a").unwrap();
                destroyed[nth] += u32::from(bytes[..256] != [1; 256]);
            }
        }
        assert!(destroyed[0] == 0 && destroyed[1] > 3, "{destroyed:?}");
    }
}
