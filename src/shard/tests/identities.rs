//! What the operator has said about identities: who is super, and who is turned away.

use super::stand_in::*;
use crate::shard::AuthRules;
use crate::tree;
use crate::txn::golden::hex;
use crate::txn::jute::{Put, Reader};
use crate::types::{ConnId, Zxid};

fn with_rules(auth: AuthRules) -> World {
    World::with(|config| config.auth = auth)
}

fn requiring(schemes: &[&str]) -> World {
    with_rules(AuthRules {
        required_schemes: schemes.iter().map(|scheme| (*scheme).into()).collect(),
        ..AuthRules::default()
    })
}

fn set_acl(xid: i32, path: &str, scheme: &str, id: &str) -> Vec<u8> {
    request(xid, 7, |out| {
        out.put_str(path);
        out.put_len(1);
        out.put_i32(31);
        out.put_str(scheme);
        out.put_str(id);
        out.put_i32(-1);
    })
}

fn get_acl(xid: i32, path: &str) -> Vec<u8> {
    request(xid, 6, |out| out.put_str(path))
}

/// Error of the one reply, and the ids of the list in its body.
fn acl_of(world: &mut World, conn: ConnId, path: &str) -> (i32, Vec<String>) {
    world.send(conn, &get_acl(9, path));
    let reply = world.frames(conn).remove(0);
    let error = i32::from_be_bytes(reply[12..16].try_into().unwrap());
    let ids = match error {
        0 => Reader::new(&reply[16..]).vec(|r| r.acl()).unwrap().unwrap(),
        _ => vec![],
    };
    (error, ids.iter().map(|acl| acl.id.to_string()).collect())
}

fn errors(world: &mut World, conn: ConnId, requests: &[Vec<u8>]) -> Vec<i32> {
    world.send(conn, &requests.concat());
    let frames = said(&world.frames(conn));
    let error = |said: &Said| match said {
        Said::Reply(_, _, error) => *error,
        Said::Event(..) => panic!("an event"),
    };
    frames.iter().map(error).collect()
}

#[test]
fn golden_enforced_authentication() {
    let mut world = requiring(&["digest"]);
    let conn = world.client();
    world.send(conn, &hex("0000000d 00000001 00000003 00000001 2f"));
    let due = hex("00000010 00000001 0000000000000000 ffffff84");
    assert_eq!(world.take(conn), (due, true));
}

#[test]
fn whoever_has_not_authenticated_is_turned_away_whatever_it_asks_for() {
    let requests = [
        create(7, "/a"),
        read(7, 4, "/", true),
        request(7, 11, |_| {}),
        close(7),
        request(7, 999, |_| {}),
        request(7, 1, |_| {}),
        request(7, 14, put_multi_end),
        sync(7),
        request(7, 107, |_| {}),
        set_watches(7, Zxid(0), &["/"], &[], &[]),
    ];
    for asked in requests {
        let mut world = requiring(&["digest"]);
        let conn = world.client();
        let last = world.tree.last_zxid();
        // What follows is not for us.
        world.send(conn, &[asked.clone(), create(8, "/b")].concat());
        let (bytes, closed) = world.take(conn);
        assert_eq!(said(&split(&bytes)), [Said::Reply(7, 0, -124)], "{asked:?}");
        assert!(closed);
        assert_eq!(world.tree.last_zxid(), last);
        assert_eq!(world.shard.stats().watches.total, 0);
    }
}

#[test]
fn whoever_authenticates_first_is_served_and_a_token_of_sasl_is_not_enough() {
    let mut world = requiring(&["sasl", "digest"]);
    let conn = world.client();
    let token = request(2, 102, |out| out.put_buf(Some(b"")));
    let requests = [
        token.clone(),
        auth(-4, "ip", b""),
        auth(-4, "digest", b"u:p"),
        create(3, "/a"),
        ping(),
    ];
    assert_eq!(errors(&mut world, conn, &requests), [0; 5]);
    let other = world.client();
    world.send(other, &[token, auth(-4, "ip", b""), ping()].concat());
    let (bytes, closed) = world.take(other);
    let due = [
        Said::Reply(2, 0, 0),
        Said::Reply(-4, 0, 0),
        Said::Reply(-2, 0, -124),
    ];
    assert_eq!((&said(&split(&bytes))[..], closed), (&due[..], true));
}

#[test]
fn everybody_has_an_address_where_one_is_required() {
    let mut world = requiring(&["ip"]);
    let conn = world.client();
    assert_eq!(errors(&mut world, conn, &[ping(), create(1, "/a")]), [0, 0]);
}

#[test]
fn who_is_turned_away_gives_no_sign_of_life() {
    let mut world = requiring(&["digest"]);
    let conn = world.client();
    world.advance_ms(2000);
    world.touched.clear();
    world.send(conn, &ping());
    world.advance_ms(2000);
    let touched = world.touched.iter().flat_map(|(_, sessions)| sessions);
    assert_eq!(touched.count(), 0);
}

#[test]
fn super_may_do_everything_that_permissions_forbid_and_nothing_else() {
    let mut world = with_rules(AuthRules {
        super_digest: Some(tree::digest_id(b"super:secret").into()),
        ..AuthRules::default()
    });
    let (owner, other) = (world.client(), world.client());
    let mine = [("digest", "bob:h")];
    let made = [create_acl(1, "/mine", b"x", 0, &mine)];
    assert_eq!(errors(&mut world, owner, &made), [0]);
    let asked = [
        read(2, 4, "/mine", false),
        set_data(3, "/mine", b"y"),
        create(4, "/mine/child"),
        set_data(5, "/zookeeper/config", b"z"),
        delete(6, "/zookeeper/quota"),
        create(7, "no-path"),
    ];
    assert_eq!(
        errors(&mut world, other, &asked),
        [-102, -102, -102, -102, -8, -8]
    );
    assert_eq!(acl_of(&mut world, other, "/mine"), (-102, vec![]));
    assert_eq!(
        errors(&mut world, other, &[auth(-4, "digest", b"super:secret")]),
        [0]
    );
    assert_eq!(errors(&mut world, other, &asked), [0, 0, 0, 0, -8, -8]);
    let (error, ids) = acl_of(&mut world, other, "/mine");
    assert_eq!((error, &ids[..]), (0, &["bob:h".to_owned()][..]));
    // As somebody who has authenticated it is its digest.
    assert_eq!(
        errors(&mut world, other, &[set_acl(8, "/mine", "auth", "")]),
        [0]
    );
    let (_, ids) = acl_of(&mut world, other, "/mine");
    assert_eq!(ids, [tree::digest_id(b"super:secret")]);
    assert_eq!(
        errors(&mut world, other, &[set_acl(9, "/mine", "super", "")]),
        [-114]
    );
}

#[test]
fn where_permissions_are_not_asked_for_everything_is_allowed_and_lists_are_checked_still() {
    let mut world = with_rules(AuthRules {
        skip_acl: true,
        ..AuthRules::default()
    });
    let (owner, other) = (world.client(), world.client());
    let mine = [("digest", "bob:h")];
    let made = [create_acl(1, "/mine", b"x", 0, &mine)];
    assert_eq!(errors(&mut world, owner, &made), [0]);
    world.send(other, &read(2, 4, "/mine", true));
    world.frames(other);
    let asked = [
        create(4, "/mine/child"),
        set_data(5, "/zookeeper/config", b"z"),
        set_acl(6, "/mine", "auth", ""),
        set_acl(7, "/mine", "digest", "no-colon"),
        set_acl(8, "/mine", "digest", "eve:h"),
    ];
    assert_eq!(
        errors(&mut world, other, &asked),
        [0, 0, -114, -114, 0],
        "auth stands for nobody"
    );
    let (_, ids) = acl_of(&mut world, owner, "/mine");
    assert_eq!(ids, ["eve:h"], "not masked");
    // Events are not filtered either.
    world.send(owner, &set_data(9, "/mine", b"z"));
    assert_eq!(said(&world.frames(other)).len(), 1);
    // whoAmI names the address alone.
    world.send(owner, &request(10, 107, |_| {}));
    let reply = world.frames(owner).pop().unwrap();
    assert_eq!(reply[16..20], 1i32.to_be_bytes());
}

/// docs/protocol.md §6.6
#[test]
fn digests_are_masked_for_who_may_read_and_not_administer() {
    let mut world = World::new();
    let (owner, reader) = (world.client(), world.client());
    let own = tree::digest_id(b"bob:pw");
    let made = request(2, 1, |out| {
        out.put_str("/mine");
        out.put_buf(None);
        out.put_len(3);
        for (perms, scheme, id) in [
            (31, "digest", &*own),
            (1, "world", "anyone"),
            (1, "ip", "10.0.0.1"),
        ] {
            out.put_i32(perms);
            out.put_str(scheme);
            out.put_str(id);
        }
        out.put_i32(0);
    });
    assert_eq!(
        errors(&mut world, owner, &[auth(-4, "digest", b"bob:pw"), made]),
        [0, 0]
    );
    let (_, ids) = acl_of(&mut world, owner, "/mine");
    assert_eq!(ids, [&*own, "anyone", "10.0.0.1"]);
    let (_, ids) = acl_of(&mut world, reader, "/mine");
    assert_eq!(ids, ["bob:x", "anyone", "10.0.0.1"]);
}
