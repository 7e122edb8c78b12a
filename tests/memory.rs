//! What a tree says that it takes in memory, against what is allocated for it: the bound of memory rests on that.

#![allow(clippy::disallowed_types, clippy::disallowed_methods)]

use ringkeeper::tree::Tree;
use ringkeeper::txn::{Acl, CreateTxn, Entry, Txn, TxnHeader};
use ringkeeper::types::{OpCode, SessionId, WallMs, Zxid};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

/// Counts what the calling thread has allocated and not freed, as mimalloc's classes of sizes round it.
struct Counting;

thread_local! {
    static LIVE: Cell<isize> = const { Cell::new(0) };
}

/// Steps of 16 bytes up to 64, then four between two powers of two.
fn class(bytes: usize) -> isize {
    let step = match bytes {
        ..=8 => 8,
        9..=64 => 16,
        _ => bytes.next_power_of_two() / 8,
    };
    bytes.next_multiple_of(step) as isize
}

fn count(bytes: isize) {
    LIVE.set(LIVE.get() + bytes);
}

// SAFETY: each call is the system's, with what it was given.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(class(layout.size()));
        // SAFETY: the caller's promises are the system's demands.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(-class(layout.size()));
        // SAFETY: the caller's promises are the system's demands.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// A tree, and what was allocated when it was not yet there.
struct World {
    tree: Tree,
    before: isize,
    zxid: i64,
}

impl World {
    fn new() -> World {
        // Seeds of hashes are made once.
        drop(Tree::new());
        let before = LIVE.get();
        World {
            tree: Tree::new(),
            before,
            zxid: 0,
        }
    }

    fn apply(&mut self, session: i64, op: OpCode, txn: Txn) {
        self.zxid += 1;
        let header = TxnHeader {
            session: SessionId(session),
            cxid: 0,
            zxid: Zxid(self.zxid),
            time: WallMs(1),
            op,
        };
        self.tree.apply(&Entry {
            header,
            txn,
            digest: None,
        });
    }

    fn create(&mut self, session: i64, path: &str, data: &[u8], acl: Arc<[Acl]>) {
        let create = CreateTxn {
            path: path.into(),
            data: Some(data.into()),
            acl,
            ephemeral: session != 0,
            parent_cversion: -1,
            ttl_ms: 0,
        };
        self.apply(session, OpCode::CREATE, Txn::Create(create));
    }

    fn delete(&mut self, path: &str) {
        self.apply(0, OpCode::DELETE, Txn::Delete { path: path.into() });
    }

    /// What is allocated, in percent of what the tree says.
    fn percent(&self) -> isize {
        let live = LIVE.get() - self.before;
        assert_eq!(self.tree.bytes(), self.tree.footprint().total());
        100 * live / self.tree.bytes() as isize
    }
}

fn open() -> Arc<[Acl]> {
    Arc::from([Acl::world(Acl::ALL)])
}

fn own(n: usize) -> Arc<[Acl]> {
    Arc::from([Acl {
        perms: Acl::ALL,
        scheme: "digest".into(),
        id: format!("user{n:06}:{n:028}").as_str().into(),
    }])
}

const NODES: usize = 20_000;

fn path(n: usize) -> String {
    format!("/p/n{n:08}")
}

/// A tree with nodes below `/p`.
fn filled(data: &[u8], acl: impl Fn(usize) -> Arc<[Acl]>) -> World {
    let mut w = World::new();
    w.create(0, "/p", b"", open());
    (0..NODES).for_each(|n| w.create(0, &path(n), data, acl(n)));
    w
}

#[track_caller]
fn is_counted(w: &World) {
    let percent = w.percent();
    assert!((95..=105).contains(&percent), "{percent} %");
}

#[test]
fn nodes_and_their_data_are_counted_however_many_come_and_go() {
    let shared = open();
    for data in [&b""[..], &[7; 100]] {
        let mut w = filled(data, |_| shared.clone());
        is_counted(&w);
        for n in (0..NODES).filter(|n| n % 1000 != 7) {
            w.delete(&path(n));
        }
        is_counted(&w);
        for n in (0..NODES).filter(|n| n % 1000 != 7) {
            w.create(0, &path(NODES + n), data, shared.clone());
        }
        is_counted(&w);
    }
}

#[test]
fn lists_of_access_are_counted_with_the_tables_that_they_are_in_which_are_given_back() {
    let mut w = filled(b"", own);
    is_counted(&w);
    let full = w.tree.bytes();
    (0..NODES).for_each(|n| w.delete(&path(n)));
    assert!(w.tree.bytes() < full / 10);
    assert!(LIVE.get() - w.before < full as isize / 10);
}

#[test]
fn sessions_and_their_ephemerals_are_counted() {
    let mut w = World::new();
    let acl = open();
    for session in 1..=NODES as i64 {
        let txn = Txn::CreateSession { timeout_ms: 5 };
        w.apply(session, OpCode::CREATE_SESSION, txn);
    }
    assert!((80..=105).contains(&w.percent()), "{}", w.percent());
    w.create(0, "/p", b"", acl.clone());
    for n in 1..=NODES {
        w.create(n as i64, &path(n), b"", acl.clone());
    }
    is_counted(&w);
    for n in 1..=2 * NODES {
        w.create(1, &format!("/p/of-one{n:08}"), b"", acl.clone());
    }
    is_counted(&w);
    let full = w.tree.bytes();
    for session in 1..=NODES as i64 {
        let txn = Txn::CloseSession { paths: None };
        w.apply(session, OpCode::CLOSE_SESSION, txn);
    }
    assert!(w.tree.bytes() < full / 10);
    assert!(LIVE.get() - w.before < full as isize / 10);
}

/// Each quota counts something, so that somebody who looks finds another text than its node has.
#[test]
fn quotas_are_counted_with_the_tables_that_they_are_in_which_are_given_back() {
    let mut w = World::new();
    let acl = open();
    let quota = |n: usize| format!("/zookeeper/quota/q{n:08}");
    let nodes = |n: usize| {
        ["zookeeper_limits", "zookeeper_stats"].map(|name| format!("{}/{name}", quota(n)))
    };
    let text = b"count=100000,bytes=100000=;byteHardLimit=200000;countHardLimit=200000";
    let plain = {
        // The same nodes under names that register nothing.
        let mut w = World::new();
        for n in 0..NODES {
            w.create(0, &quota(n), b"", acl.clone());
            for node in nodes(n) {
                w.create(0, &format!("{node}_"), text, acl.clone());
            }
            w.create(0, &format!("/q{n:08}"), b"", acl.clone());
        }
        (LIVE.get() - w.before, w.tree.bytes() as isize)
    };
    for n in 0..NODES {
        w.create(0, &quota(n), b"", acl.clone());
        for node in nodes(n) {
            w.create(0, &node, text, acl.clone());
        }
        w.create(0, &format!("/q{n:08}"), b"", acl.clone());
        let _looked = w.tree.get_data(&nodes(n)[1], &[]).unwrap();
    }
    assert!((85..=110).contains(&w.percent()), "{}", w.percent());
    // Alone, without the nodes that are counted elsewhere.
    let (live, said) = (
        LIVE.get() - w.before - plain.0,
        w.tree.bytes() as isize - plain.1,
    );
    assert!(
        live <= said * 11 / 10,
        "{live} bytes of quotas, of which {said} are counted"
    );
    for n in 0..NODES {
        nodes(n).iter().for_each(|node| w.delete(node));
    }
    assert_eq!(w.tree.footprint().quotas, 0);
}
