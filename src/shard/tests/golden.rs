//! The bytes of docs/protocol.md Appendix A, typed from there. Session ids, zxids and times are chosen
//! so that they come out as printed; `<68 bytes>` of a Stat are only counted.

use super::stand_in::*;
use crate::shard::ConnId;
use crate::txn::golden::hex;
use crate::types::{SessionId, Zxid};

const CONNECT: &str = "0000002d 00000000 0000000000000000 00002710 0000000000000000 00000010
    00000000000000000000000000000000 00";
const CONNECTED: &str = "00000025 00000000 00002710 0100000d62170000 00000010
    7bd87f53ecdfe671512b0caa15806718 00";
const DEAD: &str = "00000025 00000000 00000000 0000000000000000 00000010
    00000000000000000000000000000000 00";

/// world:anyone with all permissions.
const OPEN: &str = "00000001 0000001f 00000005 776f726c64 00000006 616e796f6e65";

/// A connected client, and nothing on its way.
fn connected(world: &mut World) -> ConnId {
    let conn = world.accept();
    world.send(conn, &hex(CONNECT));
    assert_eq!(world.take(conn), (hex(CONNECTED), false));
    conn
}

/// The state is at `zxid`, which a session of no further interest made.
fn reach(world: &mut World, zxid: i64) {
    world.zxid = Zxid(zxid);
    let first = std::mem::replace(&mut world.session, SessionId(77));
    let other = world.client();
    world.session = first;
    world.shard.closed(other, world.now);
    assert_eq!(world.tree.last_zxid(), Zxid(zxid));
}

fn exchange(world: &mut World, conn: ConnId, request: &str, reply: &str, closes: bool) {
    world.send(conn, &hex(request));
    assert_eq!(world.take(conn), (hex(reply), closes), "{request}");
}

#[test]
fn golden_connect() {
    connected(&mut World::new());
}

#[test]
fn golden_connect_without_the_read_only_byte() {
    let mut world = World::new();
    let conn = world.accept();
    exchange(
        &mut world,
        conn,
        "0000002c 00000000 0000000000000000 00002710 0000000000000000 00000010
         00000000000000000000000000000000",
        "00000024 00000000 00002710 0100000d62170000 00000010 7bd87f53ecdfe671512b0caa15806718",
        false,
    );
}

#[test]
fn golden_dead_session_for_a_bad_password_and_for_an_unknown_session() {
    let mut world = World::new();
    let first = connected(&mut world);
    for (session, password, asked) in [
        ("0100000d62170000", "00000000000000000000000000000001", 0),
        ("0100000d62170001", "00000000000000000000000000000000", 0),
        // Closed: the password is right, the session is gone.
        ("0100000d62170000", "7bd87f53ecdfe671512b0caa15806718", 1),
    ] {
        if asked == 1 {
            world.send(first, &close(1));
        }
        let conn = world.accept();
        let request =
            format!("0000002d 00000000 0000000000000000 00002710 {session} 00000010 {password} 00");
        exchange(&mut world, conn, &request, DEAD, true);
        assert_eq!(world.reattaches, asked);
    }
}

#[test]
fn golden_create_and_a_watch_on_an_absent_node() {
    let mut world = World::new();
    let conn = connected(&mut world);
    world.zxid = Zxid(0x20);
    exchange(
        &mut world,
        conn,
        "00000036 00000001 00000001 00000002 2f74 00000005 68656c6c6f
         00000001 0000001f 00000005 776f726c64 00000006 616e796f6e65 00000000",
        "00000016 00000001 0000000000000020 00000000 00000002 2f74",
        false,
    );
    exchange(
        &mut world,
        conn,
        "00000012 00000003 00000004 00000005 2f6e6f6e65 01",
        "00000010 00000003 0000000000000020 ffffff9b",
        false,
    );
}

#[test]
fn golden_create_container_and_create_ttl() {
    let mut world = World::new();
    let conn = connected(&mut world);
    world.zxid = Zxid(0x20);
    let acl = "00000001 0000001f 00000005 776f726c64 00000006 616e796f6e65";
    let stat = |zxid: &str, data_length: &str| {
        format!(
            "{zxid} {zxid} 0000018bcfe56800 0000018bcfe56800
             00000000 00000000 00000000 0000000000000000 {data_length} 00000000 {zxid}"
        )
    };
    let made = stat("0000000000000020", "00000000");
    exchange(
        &mut world,
        conn,
        &format!("00000031 00000001 00000013 00000002 2f63 ffffffff {acl} 00000004"),
        &format!("0000005a 00000001 0000000000000020 00000000 00000002 2f63 {made}"),
        false,
    );
    let ttl = |xid: &str| {
        format!(
            "0000003b {xid} 00000015 00000002 2f74 00000002 6869 {acl} 00000005 00000000000003e8"
        )
    };
    exchange(
        &mut world,
        conn,
        &ttl("00000002"),
        "00000010 00000002 0000000000000021 fffffffa",
        false,
    );
    world.rules.extended_types = true;
    let made = stat("0000000000000022", "00000002");
    exchange(
        &mut world,
        conn,
        &ttl("00000003"),
        &format!("0000005a 00000003 0000000000000022 00000000 00000002 2f74 {made}"),
        false,
    );
    // The delete of a container is no client's business (docs/protocol.md §1.5).
    exchange(
        &mut world,
        conn,
        "0000000e 00000004 00000014 00000002 2f63",
        "00000010 00000004 ffffffffffffffff fffffffa",
        true,
    );
}

/// A create of `/w`, xid 1, with zxid 2.
fn make_w(world: &mut World, conn: ConnId) {
    let request = format!("00000031 00000001 00000001 00000002 2f77 00000000 {OPEN} 00000000");
    let reply = "00000016 00000001 0000000000000002 00000000 00000002 2f77";
    exchange(world, conn, &request, reply, false);
}

#[test]
fn golden_own_write_with_own_watch() {
    let mut world = World::new();
    let conn = connected(&mut world);
    make_w(&mut world, conn);
    world.send(conn, &hex("0000000f 00000002 00000004 00000002 2f77 01"));
    world.take(conn);
    world.zxid = Zxid(0x119);
    let set = "00000019 00000003 00000005 00000002 2f77 00000003 6e6577 ffffffff";
    world.send(conn, &hex(set));
    let (bytes, closed) = world.take(conn);
    let head = hex(
        "0000001e ffffffff 0000000000000119 00000000 00000003 00000003 00000002 2f77
                    00000054 00000003 0000000000000119 00000000",
    );
    assert_eq!(bytes[..head.len()], head);
    assert_eq!((bytes.len(), closed), (head.len() + 68, false));
}

#[test]
fn golden_catch_up_of_set_watches() {
    let mut world = World::new();
    let conn = connected(&mut world);
    make_w(&mut world, conn);
    let set = "00000019 00000002 00000005 00000002 2f77 00000003 6e6577 ffffffff";
    world.send(conn, &hex(set));
    world.take(conn);
    reach(&mut world, 0x147);
    let watches =
        "00000022 fffffff8 00000065 0000000000000002 00000001 00000002 2f77 00000000 00000000";
    world.send(conn, &hex(watches));
    assert_eq!(
        world.take(conn),
        (
            hex(
                "0000001e ffffffff ffffffffffffffff 00000000 00000003 00000003 00000002 2f77
                 00000010 fffffff8 0000000000000147 00000000"
            ),
            false
        )
    );
}

#[test]
fn golden_operations_on_watches() {
    let mut world = World::new();
    let conn = connected(&mut world);
    world.send(conn, &create(1, "/w"));
    world.take(conn);
    reach(&mut world, 0x119);
    let zxid = "0000000000000119";
    for (request, reply) in [
        (
            "00000012 00000005 0000006a 00000002 2f77 00000001",
            format!("00000014 00000005 {zxid} 00000000 00000000"),
        ),
        (
            "00000012 00000006 00000011 00000002 2f77 00000005",
            format!("00000010 00000006 {zxid} 00000000"),
        ),
        (
            "00000012 00000007 00000011 00000002 2f77 00000004",
            format!("00000010 00000007 {zxid} ffffff87"),
        ),
        (
            "00000012 00000008 0000006a 00000002 2f77 00000002",
            format!("00000010 00000008 {zxid} fffffffb"),
        ),
    ] {
        exchange(&mut world, conn, request, &reply, false);
    }
    // A change below fires it.
    world.send(conn, &create(9, "/w/c"));
    let head = "00000020 ffffffff 000000000000011a 00000000 00000001 00000003 00000004 2f772f63
                00000018 00000009 000000000000011a 00000000 00000004 2f772f63";
    assert_eq!(world.take(conn), (hex(head), false));
    for error in ["00000000", "ffffff87"] {
        exchange(
            &mut world,
            conn,
            "00000012 0000000a 00000012 00000002 2f77 00000003",
            &format!("00000010 0000000a 000000000000011a {error}"),
            false,
        );
    }
    exchange(
        &mut world,
        conn,
        "00000030 fffffff8 00000069 0000000000000119 00000000 00000000 00000000
         00000001 00000002 2f77 00000001 00000002 2f78",
        "00000010 fffffff8 000000000000011a 00000000",
        false,
    );
    assert_eq!(world.shard.stats().watches.total, 3);
}

#[test]
fn golden_ping_auth_close() {
    let mut world = World::new();
    let conn = connected(&mut world);
    reach(&mut world, 0x8d);
    exchange(
        &mut world,
        conn,
        "00000008 fffffffe 0000000b",
        "00000010 fffffffe 000000000000008d 00000000",
        false,
    );
    exchange(
        &mut world,
        conn,
        "0000001d fffffffc 00000064 00000000 00000006 646967657374 00000003 753a70",
        "00000010 fffffffc 0000000000000000 00000000",
        false,
    );
    world.zxid = Zxid(0x96);
    exchange(
        &mut world,
        conn,
        "00000008 00000001 fffffff5",
        "00000010 00000001 0000000000000096 00000000",
        true,
    );
}

#[test]
fn golden_unknown_operation() {
    let mut world = World::new();
    let conn = connected(&mut world);
    exchange(
        &mut world,
        conn,
        "00000008 00000001 000003e7",
        "00000010 00000001 ffffffffffffffff fffffffa",
        true,
    );
}

#[test]
fn golden_failed_multi() {
    let mut world = World::new();
    let conn = connected(&mut world);
    world.zxid = Zxid(0xf6);
    let multi = format!(
        "000000af 0000000c 0000000e
         00000001 00 ffffffff 00000003 2f6d31 00000000 {OPEN} 00000000
         00000001 00 ffffffff 00000008 2f6e6f6e652f6d32 00000000 {OPEN} 00000000
         00000001 00 ffffffff 00000003 2f6d33 00000000 {OPEN} 00000000
         ffffffff 01 ffffffff"
    );
    let results = "00000040 0000000c 00000000000000f6 00000000
         ffffffff 00 00000000 00000000
         ffffffff 00 ffffff9b ffffff9b
         ffffffff 00 fffffffe fffffffe
         ffffffff 01 ffffffff";
    exchange(&mut world, conn, &multi, results, false);
    // Without operations.
    let empty = "00000011 0000000d 0000000e ffffffff 01 ffffffff";
    let none = "00000019 0000000d 00000000000000f7 00000000 ffffffff 01 ffffffff";
    exchange(&mut world, conn, empty, none, false);
}

#[test]
fn golden_multi() {
    let mut world = World::new();
    let conn = connected(&mut world);
    world.send(conn, &create(1, "/mu"));
    world.send(conn, &create(2, "/mu/x"));
    world.take(conn);
    let multi = hex(&format!(
        "000000be 00000003 0000000e
         00000001 00 ffffffff 00000005 2f6d752f61 00000000 {OPEN} 00000000
         0000000f 00 ffffffff 00000005 2f6d752f62 00000000 {OPEN} 00000000
         00000002 00 ffffffff 00000005 2f6d752f78 ffffffff
         00000005 00 ffffffff 00000003 2f6d75 00000001 31 ffffffff
         0000000d 00 ffffffff 00000003 2f6d75 ffffffff
         ffffffff 01 ffffffff"
    ));
    world.send(conn, &multi);
    let body = world.frames(conn)[0][16..].to_vec();
    let parts = [
        hex("00000001 00 00000000 00000005 2f6d752f61
             0000000f 00 00000000 00000005 2f6d752f62"),
        hex("00000002 00 00000000
             00000005 00 00000000"),
        hex("0000000d 00 00000000
             ffffffff 01 ffffffff"),
    ];
    let mut at = 0;
    for (i, part) in parts.iter().enumerate() {
        assert_eq!(&body[at..at + part.len()], part, "part {i}");
        at += part.len() + if i < 2 { 68 } else { 0 };
    }
    assert_eq!(at, body.len());
}

#[test]
fn golden_stat_of_the_root() {
    let mut world = World::new();
    let conn = connected(&mut world);
    world.send(conn, &read(1, 3, "/", false));
    assert_eq!(
        world.frames(conn)[0][16..],
        hex(
            "0000000000000000 0000000000000000 0000000000000000 0000000000000000
             00000000 ffffffff 00000000 0000000000000000 00000000 00000001 0000000000000000"
        )
    );
}

/// The layouts of docs/protocol.md §1.6 and §3.8; Appendix A has no multiRead.
#[test]
fn multi_read_answers_each_operation_and_leaves_no_watch() {
    let mut world = World::new();
    let conn = connected(&mut world);
    world.send(conn, &create_acl(1, "/a", b"x", 0, &[("world", "anyone")]));
    world.take(conn);
    let ops = hex("00000004 00 ffffffff 00000002 2f61 01
                   00000008 00 ffffffff 00000002 2f61 01
                   00000004 00 ffffffff 00000002 2f62 01");
    let end = hex("ffffffff 01 ffffffff");
    let whole = [ops.clone(), end.clone()].concat();
    // A null path: −5, with what was found before it.
    let stopped = [ops, hex("00000004 00 ffffffff ffffffff 01"), end].concat();
    for (body, error) in [(whole, "00000000"), (stopped, "fffffffb")] {
        world.send(conn, &request(7, 22, |out| out.extend(body)));
        let reply = world.frames(conn).remove(0);
        let head = hex(&format!(
            "00000007 0000000000000002 {error} 00000004 00 00000000 00000001 78"
        ));
        let tail = hex("00000008 00 00000000 00000000
                        ffffffff 00 ffffff9b ffffff9b
                        ffffffff 01 ffffffff");
        assert_eq!(reply[..head.len()], head);
        assert_eq!(reply[head.len() + 68..], tail);
    }
    assert_eq!(world.shard.stats().watches.total, 0);
}
