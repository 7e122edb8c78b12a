//! Differences from Apache 3.9.5 that stay, each with its reason (docs/protocol.md §10). The comparison that
//! found them numbers them; a test below names its row.

use super::stand_in::*;
use crate::txn::golden::hex;
use crate::txn::jute::Put;
use crate::types::{ConnId, Zxid};

fn one(world: &mut World, conn: ConnId, request: &[u8]) -> Vec<u8> {
    world.send(conn, request);
    let frames = world.frames(conn);
    let [reply] = &frames[..] else {
        panic!("one reply, not {frames:?}");
    };
    reply.clone()
}

/// The error of the one reply, whose zxid is that of the last transaction.
fn error_of(world: &mut World, conn: ConnId, request: &[u8]) -> i32 {
    let reply = one(world, conn, request);
    assert_eq!(reply[4..12], world.tree.last_zxid().0.to_be_bytes());
    i32::from_be_bytes(reply[12..16].try_into().unwrap())
}

fn create_with_acl(acl: &str, flags: &str) -> Vec<u8> {
    let body = hex(&format!("00000002 2f61 ffffffff {acl} {flags}"));
    request(5, 1, |out| out.extend(body))
}

/// Row 5. Apache answers −5 where a comparison meets the null, and −114 elsewhere: by the entry's place. No client
/// library sends one, and one answer is simpler than two.
#[test]
fn a_null_scheme_or_id_in_a_list_is_an_invalid_list_wherever_it_stands() {
    let mut world = World::new();
    let conn = world.client();
    let anyone = "0000001f 00000005 776f726c64 00000006 616e796f6e65";
    for entry in [
        "0000001f ffffffff 00000001 78",
        "0000001f 00000005 776f726c64 ffffffff",
        "0000001f 00000002 6970 ffffffff",
    ] {
        for acl in [
            format!("00000001 {entry}"),
            format!("00000002 {anyone} {entry}"),
            format!("00000002 {entry} {anyone}"),
        ] {
            let request = create_with_acl(&acl, "00000000");
            assert_eq!(error_of(&mut world, conn, &request), -114, "{acl}");
        }
    }
}

/// Row 6. Apache works the lists off up to the null: events are sent and watches stay, and then the request is
/// said to have failed. Half of a request is worse than none.
#[test]
fn a_set_watches_with_a_null_does_nothing() {
    let mut world = World::new();
    let conn = world.client();
    for lists in [
        "00000001 00000002 2f61 ffffffff 00000000",
        "00000002 00000002 2f61 ffffffff 00000000 00000000",
        "00000001 00000002 2f61 00000001 00000002 2f61 00000001 ffffffff",
    ] {
        let body = hex(&format!("0000000000000000 {lists}"));
        let request = request(5, 101, |out| out.extend(body));
        assert_eq!(error_of(&mut world, conn, &request), -5, "{lists}");
        assert_eq!(world.shard.stats().watches.total, 0, "{lists}");
    }
}

/// Row 7. Apache takes a count below −1 for an empty vector. No client sends one, and a length that can't be is
/// a request that can't be parsed.
#[test]
fn a_vector_with_a_negative_count_is_malformed() {
    let mut world = World::new();
    let conn = world.client();
    let watches = request(5, 101, |out| {
        out.extend(hex("0000000000000000 fffffffe 00000000 00000000"));
    });
    assert_eq!(error_of(&mut world, conn, &watches), -5);
    let create = create_with_acl("fffffffe", "00000000");
    assert_eq!(error_of(&mut world, conn, &create), -5);
}

/// Row 8. Apache takes a zxid for a multi that does not parse, and for a create or delete with a null path. What
/// can't be decoded is never ordered: it costs no record of the log.
#[test]
fn what_does_not_parse_takes_no_zxid() {
    let mut world = World::new();
    let conn = world.client();
    let before = world.tree.last_zxid();
    for (op, body) in [
        (14, "00000007 00 ffffffff"),
        (14, "00000002 00 ffffffff 00000002 2f61 ffffffff"),
        (14, ""),
        (1, "ffffffff ffffffff 00000000 00000000"),
        (15, "ffffffff ffffffff 00000000 00000000"),
        (2, "ffffffff ffffffff"),
    ] {
        let body = hex(body);
        let request = request(5, op, |out| out.extend(body));
        assert_eq!(error_of(&mut world, conn, &request), -5, "{op}");
    }
    assert_eq!(world.tree.last_zxid(), before);
}

/// Row 10. Apache looks at the flags first: −8, or −6 for a TTL. The path is read first here, and no client sends
/// a null one.
#[test]
fn a_create_with_a_null_path_is_malformed_whatever_its_flags() {
    let mut world = World::new();
    let conn = world.client();
    for flags in ["00000007", "00000005", "ffffffff"] {
        let body = hex(&format!("ffffffff ffffffff 00000000 {flags}"));
        let request = request(5, 1, |out| out.extend(body));
        assert_eq!(error_of(&mut world, conn, &request), -5, "{flags}");
    }
}

/// Row 13. Apache closes without a reply, because it parses auth where it reads. A connection that stays is held
/// to the same limits as any other.
#[test]
fn an_auth_that_does_not_parse_is_answered_and_the_connection_stays() {
    let mut world = World::new();
    let conn = world.client();
    for body in [
        "",
        "00000000",
        "00000000 00000006 64696765",
        "00000000 fffffffe",
    ] {
        let body = hex(body);
        let request = request(-4, 100, |out| out.extend(body));
        assert_eq!(error_of(&mut world, conn, &request), -5);
    }
    assert_eq!(
        said(&[one(&mut world, conn, &ping())]),
        [Said::Reply(-2, 1, 0)]
    );
}

/// Row 14. Apache closes the live connection of a session before it looks at the password of who wants it: whoever
/// guesses an id cuts its owner off.
#[test]
fn a_wrong_password_leaves_the_sessions_live_connection_alone() {
    let mut world = World::new();
    let session = world.session;
    let (owner, stranger) = (world.client(), world.accept());
    world.send(stranger, &connect(Zxid(0), 10_000, session, &[7; 16]));
    let (_, closed) = world.take(stranger);
    assert!(closed);
    assert_eq!(
        said(&[one(&mut world, owner, &ping())]),
        [Said::Reply(-2, 1, 0)]
    );
}

/// Row 15. Apache writes two surrogates of three bytes each. Clients decode UTF-8, and read garbage from that.
#[test]
fn characters_above_ffff_are_echoed_as_utf_8() {
    let mut world = World::new();
    let conn = world.client();
    let reply = one(
        &mut world,
        conn,
        &request(5, 9, |out| out.put_str("/\u{1f600}")),
    );
    assert_eq!(reply[16..], hex("00000005 2f f09f9880"));
}

/// Row 17. Apache may check a write that is ordered behind a setACL of its node, and before that is applied,
/// against the old list: a write is decided against everything ordered before it.
#[test]
fn a_write_behind_a_set_acl_is_checked_against_the_new_list() {
    let mut world = World::new();
    let (owner, other) = (world.client(), world.client());
    world.send(owner, &create(1, "/a"));
    world.frames(owner);
    let set_acl = request(2, 7, |out| {
        out.put_str("/a");
        out.put_len(1);
        out.put_i32(31);
        out.put_str("digest");
        out.put_str("u:h");
        out.put_i32(-1);
    });
    world.prompt = false;
    world.send(owner, &set_acl);
    world.send(other, &set_data(1, "/a", b"x"));
    assert_eq!(
        world.logged.len(),
        2,
        "both are ordered, neither is applied"
    );
    world.prompt = true;
    world.turn();
    assert_eq!(said(&world.frames(owner)), [Said::Reply(2, 4, 0)]);
    assert_eq!(said(&world.frames(other)), [Said::Reply(1, 5, -102)]);
}

/// Row 18. In a multi Apache makes a plain node of a createTTL whose flags ask for none, and forgets the TTL:
/// outside of a multi it refuses, and so does this server everywhere.
#[test]
fn a_create_ttl_without_ttl_flags_is_refused_in_a_multi_too() {
    let code = "fffffff8";
    for extended in [false, true] {
        let mut world = World::new();
        let conn = world.client();
        world.rules.extended_types = extended;
        let request = request(5, 14, |out| {
            out.extend(hex("00000015 00 ffffffff"));
            put_create(out, "/a", b"", 0, &[("world", "anyone")]);
            out.put_i64(1000);
            put_multi_end(out);
        });
        let reply = one(&mut world, conn, &request);
        let due = hex(&format!("ffffffff 00 {code} {code} ffffffff 01 ffffffff"));
        assert_eq!(reply[16..], due);
        assert!(world.tree.stat("/a").is_none());
    }
}
