//! Work: whatever a client sends, it causes steps in proportion to the request and its reply.

use super::stand_in::*;
use crate::budget::Budget;
use crate::constants::{JUTE_MAXBUFFER, READ_STEPS_MAX};
use crate::tree::ACL_ENTRIES_MAX;
use crate::txn::jute::Put;
use crate::types::ConnId;
use proptest::prelude::*;
use proptest::test_runner::{TestCaseError, TestRunner};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// A tree in which there is much to read: a list of 4,096 entries, 2,000 children, 500 ephemerals, 1 MB of
/// data; and a client with so many identities.
fn world_with_much_to_read(identities: usize) -> (World, ConnId) {
    let mut world = World::new();
    let conn = world.client();
    let ids: Vec<String> = (0..ACL_ENTRIES_MAX)
        .map(|n| format!("10.0.{}.{}", n >> 8, n & 255))
        .collect();
    let acl: Vec<(&str, &str)> = ids.iter().map(|id| ("ip", &**id)).collect();
    world.send(conn, &create_acl(1, "/acl", b"", 0, &acl));
    let open = [("world", "anyone")];
    world.send(conn, &create_acl(2, "/big", &[7; 1_000_000], 0, &open));
    world.send(conn, &create(3, "/all"));
    for n in 0..2_000 {
        world.send(conn, &create(4, &format!("/all/{n}")));
    }
    world.send(conn, &create(5, "/own"));
    for n in 0..500 {
        world.send(conn, &create_acl(6, &format!("/own/{n}"), b"", 1, &open));
    }
    let users = (0..identities).flat_map(|n| auth(5, "digest", format!("u{n}:p").as_bytes()));
    let users: Vec<u8> = users.collect();
    world.send(conn, &users);
    world.frames(conn);
    (world, conn)
}

const PATHS: &[&str] = &["/own/1", "/acl", "/big", "/all", "/all/7", "/none", "/", ""];

fn path() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => proptest::sample::select(PATHS).prop_map(str::to_owned),
        1 => (0usize..10_000).prop_map(|n| format!("/{}", "n".repeat(n))),
        1 => (0usize..3_000).prop_map(|n| "/n".repeat(n)),
    ]
}

/// Sizes of all magnitudes up to `max`.
fn size(max: usize) -> impl Strategy<Value = usize> {
    (0u32..usize::BITS - max.leading_zeros())
        .prop_flat_map(move |bits| 0..=(1usize << bits).min(max))
}

fn put_header(out: &mut Vec<u8>, op: i32, done: bool) {
    out.put_i32(op);
    out.put_bool(done);
    out.put_i32(-1);
}

/// The worst of its kind: as many elements of a list as fit a frame.
fn any_list() -> impl Strategy<Value = Vec<u8>> {
    let multi = (
        size(40_000),
        path(),
        proptest::sample::select(vec![13, 2, 5]),
    )
        .prop_map(|(n, path, op)| {
            request(1, 14, |out| {
                for _ in 0..n.min(900_000 / (20 + path.len())) {
                    put_header(out, op, false);
                    out.put_str(&path);
                    if op == 5 {
                        out.put_buf(None);
                    }
                    out.put_i32(-1);
                }
                put_header(out, -1, true);
            })
        });
    let multi_read = (
        size(50_000),
        path(),
        proptest::sample::select(vec![4, 8, 3]),
    )
        .prop_map(|(n, path, op)| {
            request(1, 22, |out| {
                for _ in 0..n.min(900_000 / (15 + path.len())) {
                    put_header(out, op, false);
                    out.put_str(&path);
                    out.put_bool(true);
                }
                put_header(out, -1, true);
            })
        });
    let watches = (size(100_000), 0usize..4).prop_map(|(n, table)| {
        let paths: Vec<String> = (0..n).map(|n| format!("/{n}")).collect();
        let paths: Vec<&str> = paths.iter().map(|path| &**path).collect();
        let of = |t| if t == table { &paths[..] } else { &[] };
        set_watches(1, crate::types::Zxid(0), of(0), of(1), of(2))
    });
    let acl = (
        size(40_000),
        path(),
        proptest::sample::select(vec!["ip", "digest", "auth", "world", "x"]),
        any::<bool>(),
    )
        .prop_map(|(n, path, scheme, same)| {
            let id = |n: usize| match scheme {
                "ip" => format!("10.{}.{}.{}", n >> 16, (n >> 8) & 255, n & 255),
                "digest" => format!("u:{n}"),
                _ => "anyone".to_owned(),
            };
            request(1, 1, |out| {
                out.put_str(&path);
                out.put_buf(None);
                out.put_len(n.min(30_000));
                for n in 0..n.min(30_000) {
                    out.put_i32(if same { 31 } else { n as i32 });
                    out.put_str(scheme);
                    out.put_str(&id(if same { 0 } else { n }));
                }
                out.put_i32(0);
            })
        });
    prop_oneof![multi, multi_read, watches, acl]
}

fn any_one() -> impl Strategy<Value = Vec<u8>> {
    let reads = (
        proptest::sample::select(vec![3, 4, 6, 8, 12]),
        path(),
        any::<bool>(),
    )
        .prop_map(|(op, path, watch)| read(1, op, &path, watch));
    let writes = (
        proptest::sample::select(vec![1, 2, 5, 15]),
        path(),
        size(JUTE_MAXBUFFER / 2),
    )
        .prop_map(|(op, path, size)| match op {
            2 => delete(1, &path),
            5 => set_data(1, &path, &vec![1; size]),
            op => request(1, op, |out| {
                put_create(out, &path, &vec![1; size], 0, &[("world", "anyone")])
            }),
        });
    let others = prop_oneof![
        Just(ping()),
        // Eleven of them fit the bound of a connection's identities.
        size(16 << 10).prop_map(|n| auth(1, "digest", &vec![b'u'; n])),
        (path(), proptest::sample::select(vec![9, 103, 104])).prop_map(|(path, op)| request(
            1,
            op,
            |out| out.put_str(&path)
        )),
        Just(request(1, 107, |_| {})),
    ];
    let garbage = (-11i32..108, size(10_000), any::<u8>())
        .prop_filter("these end the connection", |(op, ..)| {
            [
                1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 14, 15, 16, 22, 101, 103, 104, 107,
            ]
            .contains(op)
        })
        .prop_map(|(op, n, byte)| request(1, op, |out| out.extend(vec![byte; n])));
    prop_oneof![reads, writes, others, garbage]
}

/// Sends the requests one after the other, and looks at what each has cost.
fn spends_in_proportion(
    requests: &[Vec<u8>],
    identities: usize,
    slice: u32,
) -> Result<(), TestCaseError> {
    let (mut world, conn) = world_with_much_to_read(identities);
    for bytes in requests {
        prop_assert!(bytes.len() - 4 <= JUTE_MAXBUFFER, "{}", bytes.len());
        // Steps for the request: one list of entries and the identities, or what a multiRead
        // may take; then one for each byte.
        let fixed = match bytes[11] {
            22 => READ_STEPS_MAX + 2 * ACL_ENTRIES_MAX,
            _ => 2 * ACL_ENTRIES_MAX + 1_000 + 64,
        };
        let reply_max = 16 << 20;
        let before = world.shard.stats().output_bytes;
        let at_first = Budget::new(u32::MAX, u32::MAX, slice);
        let mut slices = vec![at_first];
        let (shard, tree, now) = (&mut world.shard, &world.tree, world.now);
        shard.receive_within(tree, conn, bytes, &mut slices[0], now);
        while shard.poll_ready().is_some() {
            let mut next = at_first;
            shard.advance(tree, conn, &mut next, now);
            slices.push(next);
        }
        let reply = world.shard.stats().output_bytes - before;
        // What was spent, taken out of what is allowed: some of it must be left.
        let steps = u32::try_from(fixed + bytes.len() + reply).unwrap();
        let mut allowed = Budget::new(3, (bytes.len() + 2 * reply_max) as u32, steps);
        for rest in slices {
            allowed.spend_part(at_first, rest);
        }
        let len = bytes.len();
        prop_assert!(
            !allowed.is_spent(),
            "op {} of {len} bytes: {allowed:?}",
            bytes[11]
        );
        world.turn();
        // A setWatches waits when its events have filled the output.
        loop {
            let (output, closed) = world.take(conn);
            prop_assert!(!closed);
            if output.is_empty() {
                break;
            }
        }
    }
    Ok(())
}

/// With `RK_INPUTS` in the environment, so many requests at least, on every processor.
#[test]
fn steps_are_at_most_linear_in_the_request_and_its_reply() {
    let wanted: Option<usize> = std::env::var("RK_INPUTS")
        .ok()
        .map(|n| n.parse().expect("RK_INPUTS is a number"));
    let threads = match wanted {
        Some(_) => std::thread::available_parallelism().unwrap().get(),
        None => 1,
    };
    let (inputs, large) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let mut config = ProptestConfig::with_cases(24);
    config.source_file = Some(file!());
    let tried = || {
        let any = prop_oneof![2 => any_one(), 1 => any_list()];
        let slice = proptest::sample::select(vec![100, 5_000, u32::MAX]);
        let identities = proptest::sample::select(vec![0, 0, 0, 900]);
        // To build the world takes as long as a dozen requests.
        let requests_max = if wanted.is_some() { 100 } else { 12 };
        let case = (
            proptest::collection::vec(any, 1..requests_max),
            identities,
            slice,
        );
        loop {
            let mut runner = TestRunner::new(config.clone());
            let result = runner.run(&case, |(requests, identities, slice)| {
                spends_in_proportion(&requests, identities, slice)?;
                let before = inputs.fetch_add(requests.len(), Relaxed);
                if wanted.is_some() && before % 10_000 < requests.len() {
                    println!("{before} inputs");
                }
                let of_size = requests.iter().filter(|bytes| bytes.len() > 64 << 10);
                large.fetch_add(of_size.count(), Relaxed);
                Ok(())
            });
            result.unwrap_or_else(|failure| panic!("{failure}\n{runner}"));
            if inputs.load(Relaxed) >= wanted.unwrap_or(0) {
                break;
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(tried);
        }
    });
    let (inputs, large) = (inputs.into_inner(), large.into_inner());
    println!("{inputs} inputs, {large} above 64 KiB");
    assert!(large > 0, "none of {inputs} inputs is large");
}
