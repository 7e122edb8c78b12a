//! Containers and TTL nodes over snapshots and restarts.

use super::*;
use crate::txn::{CreateRequest, RawAcl, WriteRequest};
use crate::types::OpCode;

fn special(op: OpCode, path: &str, flags: i32, ttl_ms: i64) -> WriteRequest {
    WriteRequest::Create(CreateRequest {
        op,
        path: path.into(),
        data: None,
        acl: Some(vec![RawAcl {
            perms: 31,
            scheme: Some("world".into()),
            id: Some("anyone".into()),
        }]),
        flags,
        ttl_ms,
    })
}

fn container(path: &str) -> WriteRequest {
    special(OpCode::CREATE_CONTAINER, path, 4, 0)
}

fn plain(path: &str) -> WriteRequest {
    special(OpCode::CREATE, path, 0, 0)
}

fn delete(path: &str) -> WriteRequest {
    WriteRequest::Delete {
        path: path.into(),
        version: -1,
    }
}

/// The clock goes on by an interval, to a tick, and all that is due goes.
fn pass(w: &mut World) {
    w.now.tick = w.now.tick.after(60_000);
    w.now.wall = WallMs(w.now.wall.0 + 60_000);
    for _ in 0..10 {
        w.now.tick = w.now.tick.after(10);
        w.member.tick(w.now).unwrap();
        for _ in 0..4 {
            w.sync();
        }
    }
}

#[test]
fn containers_and_ttl_nodes_are_what_they_were_behind_a_snapshot_and_a_restart() {
    let mut w = World::new(30);
    w.run_all();
    for request in [
        container("/c"),
        plain("/c/x"),
        special(OpCode::CREATE_TTL, "/t", 5, 59_000),
        special(OpCode::CREATE_TTL, "/long", 5, 100_000_000),
        container("/never"),
    ] {
        w.write(request);
    }
    w.create(0..40);
    assert!(w.run_all().contains(&"snapshot"));
    // What is behind the snapshot is in the log.
    for request in [container("/d"), plain("/d/x"), delete("/d/x")] {
        w.write(request);
    }
    assert_eq!(w.member.tree.reaped_count(), 5);
    let World { disk, member, .. } = w;
    let zxid = member.tree.last_zxid();
    member.close().unwrap();

    let mut w = World::over(disk, 30);
    assert_eq!(w.member.tree.reaped_count(), 5);
    let is_there = |w: &World, path: &str| w.member.tree.stat(path).is_some();
    w.member.tick(w.now).unwrap();
    w.sync();
    assert!(is_there(&w, "/d") && is_there(&w, "/t"));
    pass(&mut w);
    assert!(!is_there(&w, "/d") && !is_there(&w, "/t"));
    w.write(delete("/c/x"));
    assert!(is_there(&w, "/c"));
    pass(&mut w);
    assert!(!is_there(&w, "/c"));
    assert!(is_there(&w, "/never") && is_there(&w, "/long"));
    assert_eq!(w.member.tree.reaped_count(), 2);
    // A session, three deletes by the server, and one by a client.
    assert_eq!(w.member.tree.last_zxid().0 - zxid.0, 5);
}
