//! What a client asks about its own session and connection, how many nodes there are, and operations that a
//! standalone server without SASL refuses.

use super::fairness::sent;
use super::slices::{STEPS, finish, output, steps};
use super::stand_in::*;
use crate::txn::golden::hex;
use crate::txn::jute::{Put, Reader};
use crate::types::{ConnId, SessionId, Zxid};
use proptest::prelude::*;

fn ephemerals(xid: i32, prefix: &str) -> Vec<u8> {
    request(xid, 103, |out| out.put_str(prefix))
}

fn count_below(xid: i32, path: &str) -> Vec<u8> {
    request(xid, 104, |out| out.put_str(path))
}

fn ephemeral(xid: i32, path: &str) -> Vec<u8> {
    create_acl(xid, path, b"", 1, &[("world", "anyone")])
}

/// The one reply of a connection: its error, and its body.
fn answer(world: &mut World, conn: ConnId) -> (i32, Vec<u8>) {
    let frames = world.frames(conn);
    let [reply] = &frames[..] else {
        panic!("one reply, not {frames:?}");
    };
    let error = i32::from_be_bytes(reply[12..16].try_into().unwrap());
    (error, reply[16..].to_vec())
}

fn ask(world: &mut World, conn: ConnId, request: &[u8]) -> (i32, Vec<u8>) {
    world.send(conn, request);
    answer(world, conn)
}

fn strings(body: &[u8]) -> Vec<String> {
    let mut reader = Reader::new(body);
    let list = reader.vec(|r| r.required_str()).unwrap().unwrap();
    assert_eq!(reader.rest(), b"");
    list.iter().map(|text| text.to_string()).collect()
}

/// A world in which a session has these ephemerals, and another one others.
fn with_ephemerals(paths: &[String]) -> (World, ConnId) {
    let mut world = World::new();
    let (own, other) = (world.client(), world.client());
    for path in ["/s", "/sx", "/t"] {
        world.write(other, &create(1, path));
    }
    world.write(other, &ephemeral(2, "/s/others"));
    for path in paths {
        world.write(own, &ephemeral(3, path));
    }
    output(&mut world, own);
    output(&mut world, other);
    (world, own)
}

#[test]
fn ephemerals_are_those_of_the_session_whose_paths_begin_with_the_text() {
    let paths = ["/s/a", "/s/b", "/sx/c", "/t/d"].map(str::to_owned);
    let (mut world, conn) = with_ephemerals(&paths);
    for (prefix, due) in [
        ("/", &paths[..]),
        ("", &paths[..]),
        (" \t", &paths[..]),
        (" / ", &paths[..]),
        ("/s", &paths[..3]),
        ("/s/", &paths[..2]),
        ("/s/b", &paths[1..2]),
        (" /s", &[]),
        ("s", &[]),
        ("/none", &[]),
        ("/t/d/", &[]),
    ] {
        let (error, body) = ask(&mut world, conn, &ephemerals(4, prefix));
        assert_eq!((error, &strings(&body)[..]), (0, due), "{prefix:?}");
    }
    let null = request(5, 103, |out| out.put_i32(-1));
    assert_eq!(strings(&ask(&mut world, conn, &null).1), paths);
    assert_eq!(
        ask(&mut world, conn, &request(6, 103, |_| {})),
        (-5, vec![])
    );
}

#[test]
fn golden_get_ephemerals() {
    let (mut world, conn) = with_ephemerals(&["/s/a".into()]);
    let (zxid, request) = (
        world.tree.last_zxid(),
        "0000000d 00000005 00000067 00000001 2f",
    );
    assert_eq!(zxid, Zxid(7));
    world.send(conn, &hex(request));
    let due = hex("0000001c 00000005 0000000000000007 00000000 00000001 00000004 2f732f61");
    assert_eq!(world.take(conn), (due, false));
}

#[test]
fn a_list_of_ephemerals_that_is_made_in_slices_is_the_same_and_others_are_served_meanwhile() {
    let paths: Vec<String> = (100..400).map(|n| format!("/s/{n}")).collect();
    for (prefix, due) in [("/", &paths[..]), ("/s/2", &paths[100..200])] {
        for slice in STEPS {
            let (mut world, conn) = with_ephemerals(&paths);
            let calm = world.client();
            world.slice = steps(slice);
            world.receive(conn, &ephemerals(4, prefix));
            let mut pings = 0;
            while sent(&world, conn) < 301 {
                world.receive(calm, &ping());
                pings += 1;
                assert_eq!(output(&mut world, calm).len(), 1);
                assert_eq!(world.one_turn(), Some(conn));
            }
            assert!(pings >= due.len() / slice as usize, "{slice}: {pings}");
            let [reply] = &output(&mut world, conn)[..] else {
                panic!("one reply");
            };
            assert_eq!(strings(&reply[16..]), due, "{slice}");
            let stats = world.shard.stats();
            assert_eq!((stats.request_bytes, stats.output_bytes), (0, 0));
        }
    }
}

#[test]
fn a_list_of_ephemerals_begins_again_when_the_session_has_lost_one_and_only_then() {
    let paths: Vec<String> = (100..200).map(|n| format!("/s/{n}")).collect();
    let (mut world, conn) = with_ephemerals(&paths);
    let other = world.client();
    world.slice = steps(30);
    world.receive(conn, &ephemerals(4, "/"));
    for n in 0..3 {
        world.write(other, &ephemeral(5, &format!("/t/{n}")));
        assert_eq!(sent(&world, conn), 100);
        world.one_turn();
    }
    let [reply] = &output(&mut world, conn)[..] else {
        panic!("four slices are enough for what has not changed");
    };
    assert_eq!(strings(&reply[16..]), paths);
    // The third attempt is in one piece.
    world.receive(conn, &ephemerals(4, "/"));
    let mut gone = 0;
    while sent(&world, conn) < 102 {
        world.write(other, &delete(6, &paths[gone]));
        gone += 1;
        world.one_turn();
    }
    assert_eq!(gone, 3);
    let [reply] = &output(&mut world, conn)[..] else {
        panic!("one reply");
    };
    assert_eq!(reply[4..12], world.tree.last_zxid().0.to_be_bytes());
    assert_eq!(strings(&reply[16..]), paths[3..]);
    // What is gone altogether and comes back is noticed too.
    world.receive(conn, &ephemerals(7, "/"));
    for path in &paths[3..] {
        world.write(other, &delete(8, path));
    }
    finish(&mut world);
    let [reply] = &output(&mut world, conn)[..] else {
        panic!("one reply");
    };
    assert_eq!(reply[16..], [0; 4]);
}

#[test]
fn golden_get_all_children_number() {
    let mut world = World::new();
    let conn = world.client();
    world.send(conn, &hex("0000000d 00000005 00000068 00000001 2f"));
    let due = hex("00000014 00000005 0000000000000001 00000000 00000003");
    assert_eq!(world.take(conn), (due, false));
}

#[test]
fn all_nodes_below_one_are_counted_without_itself_and_its_list_alone_is_asked() {
    let mut world = World::new();
    let conn = world.client();
    for path in ["/a", "/a/b", "/a/b/c", "/ab"] {
        world.send(conn, &create(1, path));
    }
    let closed = [("digest", "u:h")];
    world.send(conn, &create_acl(1, "/a/closed", b"", 0, &closed));
    world.frames(conn);
    for (path, due) in [
        ("/", Ok(8)),
        // Apache counts the root under its empty name too.
        ("", Ok(9)),
        ("/a", Ok(3)),
        ("/a/b", Ok(1)),
        ("/ab", Ok(0)),
        ("/a/", Err(-101)),
        ("/none", Err(-101)),
        ("/a/closed", Err(-102)),
    ] {
        let due = match due {
            Ok(nodes) => (0, i32::to_be_bytes(nodes).to_vec()),
            Err(code) => (code, vec![]),
        };
        assert_eq!(ask(&mut world, conn, &count_below(2, path)), due, "{path}");
    }
    let null = request(3, 104, |out| out.put_i32(-1));
    assert_eq!(ask(&mut world, conn, &null), (-5, vec![]));
    assert_eq!(world.shard.stats().watches.total, 0);
}

#[test]
fn golden_who_am_i() {
    let mut world = World::new();
    let conn = world.client();
    world.send(conn, &hex("00000008 00000005 0000006b"));
    let due = "00000027 00000005 0000000000000001 00000000
        00000001 00000002 6970 00000009 3132372e302e302e31";
    assert_eq!(world.take(conn), (hex(due), false));
}

#[test]
fn who_am_i_names_each_identity_without_secrets() {
    let mut world = World::new();
    let conn = world.client();
    for data in [&b"bob:pw"[..], b":nobody", b"alone", b"bob:other"] {
        world.send(conn, &auth(1, "digest", data));
    }
    world.frames(conn);
    let (error, body) = ask(&mut world, conn, &request(2, 107, |_| {}));
    let mut reader = Reader::new(&body);
    let infos = reader.vec(|r| Ok((r.required_str()?, r.required_str()?)));
    let mut infos = infos.unwrap().unwrap();
    infos.sort();
    let infos: Vec<(&str, &str)> = infos.iter().map(|(s, u)| (&**s, &**u)).collect();
    let due = [
        ("digest", ""),
        ("digest", "alone"),
        ("digest", "bob"),
        ("digest", "bob"),
        ("ip", "127.0.0.1"),
    ];
    assert_eq!((error, &infos[..]), (0, &due[..]));
}

/// Behind other writes, in their order, and with a zxid.
#[test]
fn golden_reconfig_is_disabled_and_with_the_switch_unimplemented() {
    for (enabled, code) in [(false, "ffffff85"), (true, "fffffffa")] {
        let mut world = World::new();
        let conn = world.client();
        world.rules.reconfig_enabled = enabled;
        world.prompt = false;
        world.send(conn, &create(1, "/a"));
        world.send(
            conn,
            &hex("0000001c 00000002 00000010 ffffffff ffffffff ffffffff ffffffffffffffff"),
        );
        world.send(conn, &ping());
        assert_eq!(world.frames(conn), Vec::<Vec<u8>>::new());
        world.prompt = true;
        world.turn();
        let frames = world.frames(conn);
        assert_eq!(frames.len(), 3, "the connection stays open");
        let due = format!("00000002 0000000000000003 {code}");
        assert_eq!(frames[1], hex(&due));
        assert_eq!(world.tree.last_zxid(), Zxid(3));
    }
}

#[test]
fn golden_sasl_without_a_provider_is_answered_with_a_null_token() {
    let mut world = World::new();
    let conn = world.client();
    for token in ["00000000", "00000002 6162"] {
        let bytes = hex(&format!("00000002 00000066 {token}"));
        world.send(conn, &frame(&bytes));
        let due = hex("00000014 00000002 0000000000000000 00000000 ffffffff");
        assert_eq!(world.take(conn), (due, false));
    }
    // Without a token Apache fails where it would log its length, and closes.
    world.send(conn, &hex("0000000c 00000003 00000066 ffffffff"));
    assert_eq!(world.take(conn), (vec![], true));
}

#[test]
fn a_sasl_token_keeps_its_place_and_is_no_sign_of_life() {
    let mut world = World::new();
    let conn = world.client();
    world.prompt = false;
    let token = request(2, 102, |out| out.put_buf(Some(b"")));
    world.send(conn, &[create(1, "/a"), token, ping()].concat());
    assert_eq!(world.frames(conn), Vec::<Vec<u8>>::new());
    world.prompt = true;
    world.turn();
    let due = [
        Said::Reply(1, 2, 0),
        Said::Reply(2, 0, 0),
        Said::Reply(-2, 2, 0),
    ];
    assert_eq!(said(&world.frames(conn)), due);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// However large the slices are, and whatever changes between them, the list is that of some state
    /// between request and reply: the one that its zxid names.
    #[test]
    fn a_list_of_ephemerals_is_one_state_of_the_tree(
        numbers in proptest::collection::btree_set(0..40u32, 0..30),
        changes in proptest::collection::vec(proptest::option::of(0..40u32), 0..30),
        prefix in proptest::sample::select(vec!["/", "/s/", "/s/1", "/s/3", "/t"]),
        slice in 1..12u32,
    ) {
        let path = |n: u32| format!("/s/{n}");
        let paths: Vec<String> = numbers.iter().map(|n| path(*n)).collect();
        let (mut world, conn) = with_ephemerals(&paths);
        // The first client of a world has the first id.
        let session = SessionId(0x0100_000d_6217_0000);
        let other = world.client();
        let before = sent(&world, conn);
        let listed = |world: &World| -> Vec<String> {
            let all = world.tree.ephemerals(session).map(|path| path.to_string());
            all.filter(|path| path.starts_with(prefix)).collect()
        };
        world.slice = steps(slice);
        let mut states = vec![(world.tree.last_zxid(), listed(&world))];
        world.receive(conn, &ephemerals(4, prefix));
        let mut changes = changes.into_iter();
        while sent(&world, conn) == before {
            if let Some(Some(n)) = changes.next() {
                world.write(other, &delete(6, &path(n)));
                states.push((world.tree.last_zxid(), listed(&world)));
            }
            prop_assert!(world.one_turn().is_some());
        }
        let frames = output(&mut world, conn);
        let reply = &frames[0];
        let zxid = Zxid(i64::from_be_bytes(reply[4..12].try_into().unwrap()));
        let (_, due) = states.iter().find(|(at, _)| *at == zxid).expect("a state that there was");
        prop_assert_eq!(&strings(&reply[16..]), due);
    }
}
