//! Quotas as transactions make them, against a naive count of the tree.

use super::*;
use crate::tree::quota::{NAMES_PER_STEP, TEXT_MAX};

const LIMITS: &str = "/zookeeper/quota/a/zookeeper_limits";
const STATS: &str = "/zookeeper/quota/a/zookeeper_stats";

fn create_with(path: &str, data: &str) -> WriteRequest {
    WriteRequest::Create(CreateRequest {
        op: OpCode::CREATE,
        path: path.into(),
        data: Some(data.as_bytes().into()),
        acl: anyone(),
        flags: 0,
        ttl_ms: 0,
    })
}

fn set_to(path: &str, data: Data) -> WriteRequest {
    WriteRequest::SetData {
        path: Some(path.into()),
        data,
        version: -1,
    }
}

fn text(m: &Machine, path: &str) -> String {
    let (data, stat) = m.tree.get_data(path, &[]).unwrap();
    let data = data.unwrap();
    assert_eq!(stat.data_length as usize, data.len());
    String::from_utf8(data.to_vec()).unwrap()
}

fn run(m: &mut Machine, requests: &[WriteRequest]) {
    for request in requests {
        m.run(request)
            .unwrap_or_else(|code| panic!("{code:?} for {request:?}"));
    }
}

/// `/a` and `/a/b`, three and two bytes, and a quota on `/a`.
fn with_quota(limits: &str) -> Machine {
    let mut m = Machine::new();
    run(
        &mut m,
        &[
            create_with("/a", "123"),
            create_with("/a/b", "12"),
            create_with("/ab", "1234567"),
            create_with("/zookeeper/quota/a", ""),
            create_with(LIMITS, limits),
            create_with(STATS, "count=0,bytes=0"),
        ],
    );
    m
}

#[test]
fn totals_are_counted_when_their_node_is_made_and_kept_with_each_change() {
    let mut m = with_quota("count=3,bytes=100");
    assert_eq!(text(&m, STATS), "count=2,bytes=5");
    let made = m.tree.stat(STATS).unwrap();
    for (request, due) in [
        (create_with("/a/c", "1234"), "count=3,bytes=9"),
        (create_with("/ab/c", "1234"), "count=3,bytes=9"),
        (set_to("/a/b", Some((*b"1").into())), "count=3,bytes=8"),
        (set_to("/a", None), "count=3,bytes=5"),
        (set_acl("/a", anyone(), -1), "count=3,bytes=5"),
        (delete("/a/c", -1), "count=2,bytes=1"),
        (
            WriteRequest::Multi(vec![
                create_with("/a/d", "1"),
                create_with("/a/d/e", "1"),
                check("/a", -1),
                delete("/a/b", -1),
            ]),
            "count=3,bytes=2",
        ),
        (delete("/a/d/e", -1), "count=2,bytes=1"),
        (delete("/a/d", -1), "count=1,bytes=0"),
        // The path itself counts, and its quota outlives it.
        (delete("/a", -1), "count=0,bytes=0"),
        (create_with("/a", "12"), "count=1,bytes=2"),
    ] {
        run(&mut m, &[request]);
        assert_eq!(text(&m, STATS), due);
    }
    let now = m.tree.stat(STATS).unwrap();
    assert_eq!(
        (now.version, now.mzxid, now.mtime, now.pzxid),
        (made.version, made.mzxid, made.mtime, made.pzxid)
    );
    assert_eq!(m.tree.nodes.recount(), m.tree.digest());
}

#[test]
fn a_change_of_totals_is_no_change_for_watches() {
    let mut m = with_quota("");
    let applied = m.run(&create_with("/a/c", "1234")).unwrap();
    let paths: Vec<&str> = applied.changes.iter().map(|change| &*change.path).collect();
    assert_eq!(paths, ["/a/c"]);
}

#[test]
fn ephemerals_that_go_with_their_session_are_taken_off() {
    let mut m = with_quota("");
    m.prepare_as(9, &create("/a/e", 1, anyone()));
    m.prepare_as(9, &create("/a/f", 1, anyone()));
    m.apply_all();
    // The data is the path.
    assert_eq!(text(&m, STATS), "count=4,bytes=13");
    m.prepare_as(9, &WriteRequest::CloseSession);
    m.apply_all();
    assert_eq!(text(&m, STATS), "count=2,bytes=5");
}

#[test]
fn the_deepest_registered_path_counts_alone_and_not_when_it_is_gone() {
    let mut m = with_quota("");
    let inner = "/zookeeper/quota/a/b";
    let (limits, stats) = (
        format!("{inner}/zookeeper_limits"),
        format!("{inner}/zookeeper_stats"),
    );
    run(
        &mut m,
        &[
            create_with(inner, ""),
            create_with(&stats, ""),
            create_with("/a/b/c", "1"),
        ],
    );
    // Totals alone register nothing.
    assert_eq!(text(&m, &stats), "count=1,bytes=2");
    assert_eq!(text(&m, STATS), "count=3,bytes=6");
    run(
        &mut m,
        &[create_with(&limits, ""), create_with("/a/b/d", "1")],
    );
    assert_eq!(text(&m, &stats), "count=2,bytes=3", "from what it was");
    assert_eq!(text(&m, STATS), "count=3,bytes=6");
    run(&mut m, &[delete(&limits, -1), create_with("/a/b/e", "1")]);
    assert_eq!(text(&m, &stats), "count=2,bytes=3");
    assert_eq!(text(&m, STATS), "count=4,bytes=7");
    run(&mut m, &[delete(LIMITS, -1), create_with("/a/b/f", "1")]);
    assert_eq!(text(&m, STATS), "count=4,bytes=7");
    assert!(m.tree.quotas.is_empty());
}

#[test]
fn totals_go_on_from_what_a_client_has_written_and_are_counted_again_when_they_make_no_sense() {
    let mut m = with_quota("");
    let long = "k=1,".repeat(TEXT_MAX);
    for (written, due) in [
        ("count=100,bytes=7", "count=101,bytes=8"),
        ("", "count=0,bytes=0"),
        ("x=3;count=1", "count=2,bytes=0=;x=3"),
        ("garbage", "count=6,bytes=9"),
        (&*long, "count=7,bytes=10"),
    ] {
        let before = m.tree.stat("/a").unwrap().num_children;
        run(&mut m, &[set_to(STATS, Some(written.as_bytes().into()))]);
        assert_eq!(text(&m, STATS), written);
        run(&mut m, &[create_with(&format!("/a/{before}"), "1")]);
        assert_eq!(text(&m, STATS), due, "{written:.20}");
    }
    run(&mut m, &[set_to(STATS, None), create_with("/a/null", "1")]);
    assert_eq!(text(&m, STATS), "count=8,bytes=11");
}

/// Each of these ends Apache, some for good.
#[test]
fn nodes_that_only_look_like_a_quota_are_ordinary() {
    let mut m = Machine::new();
    run(
        &mut m,
        &[
            create_with("/zookeeper/quota/zookeeper_limits", "count=1,bytes=1"),
            create_with("/zookeeper/other", ""),
            create_with("/zookeeper/other/zookeeper_limits", ""),
            delete("/zookeeper/other/zookeeper_limits", -1),
            create_with("/zookeeper/zookeeper_limits", ""),
            delete("/zookeeper/zookeeper_limits", -1),
            create_with("/zookeeper/quotaa", ""),
            create_with("/zookeeper/quotaa/zookeeper_limits", ""),
        ],
    );
    assert!(m.tree.quotas.is_empty());
    run(&mut m, &[delete("/zookeeper/quota/zookeeper_limits", -1)]);
    // The totals of everything, once.
    let all = "/zookeeper/quota/zookeeper_stats";
    run(&mut m, &[create_with(all, ""), create_with("/a", "1")]);
    let nodes = m.tree.nodes.len() - 1;
    assert_eq!(text(&m, all), format!("count={nodes},bytes=0"));
    // Without a node for the totals nothing is counted, and nothing is refused.
    m.rules.enforce_quota = true;
    run(
        &mut m,
        &[
            create_with("/zookeeper/quota/a", ""),
            create_with(LIMITS, "count=0,bytes=0=;byteHardLimit=0;countHardLimit=0"),
            create_with("/a/b", "1"),
        ],
    );
}

const FULL: i32 = -125;

#[test]
fn hard_limits_refuse_what_exceeds_them_if_they_are_enforced() {
    let hard = "count=1,bytes=1=;byteHardLimit=10;countHardLimit=3";
    let mut m = with_quota(hard);
    run(&mut m, &[create_with("/a/over", "12345678")]);
    run(&mut m, &[delete("/a/over", -1)]);
    m.rules.enforce_quota = true;
    for (request, due) in [
        // Two nodes, five bytes.
        (create_with("/a/c", "123456"), FULL),
        (create_with("/a/c", "12345"), 0),
        // Three nodes, ten bytes.
        (create_with("/a/d", ""), FULL),
        (create_with("/ab/d", "1"), 0),
        (set_to("/a/c", Some((*b"123456").into())), FULL),
        (set_to("/a/c", Some((*b"54321").into())), 0),
        (set_to("/a/c", Some((*b"1").into())), 0),
        (set_to("/a/b", Some((*b"123456").into())), 0),
        (set_to("/a/b", Some((*b"1234567").into())), FULL),
        (delete("/a/c", -1), 0),
        (create_with("/a/c", ""), 0),
        // In a multi each operation is looked at against what is applied.
        (
            WriteRequest::Multi(vec![delete("/a/c", -1), create_with("/a/d", "")]),
            FULL,
        ),
    ] {
        assert_eq!(m.error(&request), due, "{request:?}");
    }
}

#[test]
fn data_that_gets_shorter_is_refused_while_there_is_too_much_of_it() {
    let mut m = with_quota("count=-1,bytes=-1=;byteHardLimit=4");
    m.rules.enforce_quota = true;
    // Five bytes of four.
    assert_eq!(m.error(&set_to("/a/b", Some((*b"1").into()))), 0);
    run(&mut m, &[set_to(STATS, Some((*b"count=1,bytes=9").into()))]);
    assert_eq!(m.error(&set_to("/a", Some((*b"12").into()))), FULL);
    assert_eq!(m.error(&set_to("/a", Some((*b"321").into()))), 0, "as long");
    assert_eq!(m.error(&create_with("/a/empty", "")), 0);
}

/// docs/protocol.md §2.5
#[test]
fn a_quota_is_the_last_check_of_a_create_and_comes_before_the_version_of_a_set_data() {
    let mut m = with_quota("count=-1,bytes=-1=;byteHardLimit=0;countHardLimit=0");
    m.prepare_as(9, &create("/ab/e", 1, anyone()));
    m.apply_all();
    run(&mut m, &[create_with("/zookeeper/quota/ab", "")]);
    run(
        &mut m,
        &[
            create_with("/zookeeper/quota/ab/zookeeper_limits", "countHardLimit=0"),
            create_with("/zookeeper/quota/ab/zookeeper_stats", ""),
        ],
    );
    run(&mut m, &[set_acl("/a/b", acl("digest", "u:h", 31), -1)]);
    m.rules.enforce_quota = true;
    for (request, due) in [
        (create("/a/b", 0, anyone()), -110),
        (create("/a/x/y", 0, anyone()), -101),
        (create("/a/c", 0, Some(vec![])), -114),
        (create("/a/b/c", 0, anyone()), -102),
        (create("/ab/e/x", 0, anyone()), -108),
        (create("/a/c", 0, anyone()), FULL),
        (set("/a/b", 7), -102),
        (set("/a/x", 7), -101),
        (set_to("/a", Some((*b"1234").into())), FULL),
        (
            WriteRequest::SetData {
                path: Some("/a".into()),
                data: Some((*b"1234").into()),
                version: 7,
            },
            FULL,
        ),
        (
            WriteRequest::SetData {
                path: Some("/a".into()),
                data: Some((*b"321").into()),
                version: 7,
            },
            -103,
        ),
        (delete("/a/b", -1), 0),
    ] {
        assert_eq!(m.error(&request), due, "{request:?}");
    }
}

#[test]
fn limits_that_make_no_sense_limit_nothing_and_soft_ones_refuse_nothing() {
    for limits in [
        "garbage",
        "",
        "count=0,bytes=0",
        "countHardLimit=-1",
        "countHardLimit=x",
    ] {
        let mut m = with_quota(limits);
        m.rules.enforce_quota = true;
        run(&mut m, &[create_with("/a/c", "1"), set("/a/c", -1)]);
    }
    let mut m = with_quota("");
    run(&mut m, &[set_to(LIMITS, None)]);
    m.rules.enforce_quota = true;
    run(&mut m, &[create_with("/a/c", "1")]);
}

#[test]
fn the_limit_that_was_exceeded_last_is_told_once_if_limits_are_enforced() {
    let mut m = with_quota("count=2,bytes=6=;byteHardLimit=9");
    run(&mut m, &[create_with("/a/c", ""), delete("/a/c", -1)]);
    assert_eq!(m.overlay.take_over_quota(), None);
    m.rules.enforce_quota = true;
    let mut said = |request: &WriteRequest| {
        let error = m.error(request);
        let over = m.overlay.take_over_quota();
        assert_eq!(m.overlay.take_over_quota(), None);
        (error, over.map(|over| over.to_string()))
    };
    let soft = "the quota of /a is exceeded: count 3, soft limit 2";
    let hard = "the quota of /a is exceeded: bytes 10, hard limit 9";
    for (request, due) in [
        (create_with("/a/c", ""), (0, Some(soft))),
        // The hard limit stands in for the soft one.
        (set_to("/a/c", Some((*b"1234").into())), (0, None)),
        (set_to("/a/c", Some((*b"12345").into())), (FULL, Some(hard))),
        (create_with("/ab/c", "1"), (0, None)),
    ] {
        let due = (due.0, due.1.map(str::to_owned));
        assert_eq!(said(&request), due, "{request:?}");
    }
}

/// The names of quotas leave out those that are blank, and anybody may make such a node.
#[test]
fn a_quota_stays_while_one_node_registers_it_whoever_deletes_another_that_does() {
    let mut m = with_quota("count=-1,bytes=-1=;countHardLimit=2");
    m.rules.enforce_quota = true;
    let blank = "/zookeeper/quota/a/ ";
    let limits = format!("{blank}/zookeeper_limits");
    run(
        &mut m,
        &[
            create_with(blank, ""),
            create_with(&limits, "count=-1,bytes=-1"),
        ],
    );
    run(&mut m, &[delete(&limits, -1)]);
    assert_eq!(m.error(&create_with("/a/c", "")), FULL);
    let again = read(&body(&m.tree), 100).unwrap();
    assert!(again.check_quota("/a/c", 1, 0).0.is_some());
    run(&mut m, &[delete(LIMITS, -1), create_with("/a/c", "")]);
}

#[test]
fn a_text_is_written_when_somebody_looks_and_has_its_length_before() {
    let mut m = with_quota("");
    let held = |m: &Machine| m.tree.nodes.get(STATS).unwrap().data().unwrap().to_vec();
    assert_eq!(held(&m), b"count=2,bytes=5");
    run(&mut m, &[create_with("/a/c", "1")]);
    assert_eq!(held(&m), b"count=2,bytes=5", "nobody has looked");
    assert_eq!(text(&m, STATS), "count=3,bytes=6");
    // Nine nodes, then ten.
    for n in 0..6 {
        run(&mut m, &[create_with(&format!("/a/{n}"), "")]);
    }
    assert_eq!(text(&m, STATS), "count=9,bytes=6");
    let below = |m: &Machine| m.tree.nodes.get("/zookeeper").unwrap().totals();
    let before = below(&m);
    run(&mut m, &[create_with("/a/tenth", "")]);
    assert_eq!(held(&m), b"count=10,bytes=6");
    assert_eq!(below(&m), (before.0, before.1 + 1), "its bytes count");
    run(&mut m, &[set_acl(STATS, anyone(), -1)]);
    assert_eq!(m.tree.stat(STATS).unwrap().data_length, 16);
    // What was known of a state stays what it was.
    run(
        &mut m,
        &[
            delete("/a/tenth", -1),
            delete("/a/0", -1),
            delete("/a/c", -1),
        ],
    );
    let start = m.tree.begin_walk(usize::MAX);
    let (before, nodes) = (m.tree.facts(), m.tree.nodes.len());
    run(&mut m, &[delete("/a/1", -1), delete("/a/2", -1)]);
    assert_eq!(text(&m, STATS), "count=5,bytes=5");
    for facts in [before, start.facts] {
        let texts = facts.texts();
        assert_eq!((facts.nodes, texts.len()), (nodes, 1));
        assert_eq!(&*texts[STATS], b"count=7,bytes=5");
    }
}

#[test]
fn totals_that_become_too_long_to_be_read_again_go_on_without_what_else_is_in_them() {
    let mut m = with_quota("");
    let written = format!("count=9,bytes=5=;{}=1", "k".repeat(TEXT_MAX - 19));
    assert_eq!(written.len(), TEXT_MAX);
    run(&mut m, &[set_to(STATS, Some(written.as_bytes().into()))]);
    run(&mut m, &[create_with("/a/c", "1")]);
    assert_eq!(text(&m, STATS), "count=10,bytes=6");
    assert_eq!(m.tree.bytes(), m.tree.footprint().total());
    assert_eq!(body(&read(&body(&m.tree), 100).unwrap()), body(&m.tree));
}

/// One below another, so that each name is looked up on the way.
#[test]
fn names_on_the_way_to_a_deep_quota_and_texts_that_are_written_are_steps() {
    let mut m = Machine::new();
    let names = 3 * NAMES_PER_STEP;
    let deep = "/a".repeat(names);
    let paths: Vec<String> = (1..=names).map(|n| "/a".repeat(n)).collect();
    for path in &paths {
        run(&mut m, &[create_with(path, "")]);
        let above = format!("/zookeeper/quota{path}");
        run(&mut m, &[create_with(&above, "")]);
    }
    assert_eq!(m.tree.take_quota_steps(), 0, "without a quota");
    let node = |name: &str| format!("/zookeeper/quota{deep}/{name}");
    run(&mut m, &[create_with(&node("zookeeper_limits"), "")]);
    assert_eq!(m.tree.take_quota_steps(), 3);
    run(&mut m, &[create_with(&node("zookeeper_stats"), "")]);
    assert_eq!(m.tree.take_quota_steps(), 1, "a text");
    m.rules.enforce_quota = true;
    for (request, ordered, applied) in [
        (create_with(&format!("{deep}/b"), ""), 3, 3),
        (
            set_to(&format!("{deep}/b"), Some((*b"123456789").into())),
            3,
            3,
        ),
        // The text gets longer.
        (
            set_to(&format!("{deep}/b"), Some((*b"1234567890").into())),
            3,
            4,
        ),
        (set_to("/a", Some((*b"1").into())), 0, 0),
        (create_with("/b", "1"), 0, 0),
        (delete(&format!("{deep}/b"), -1), 0, 4),
    ] {
        let context = PrepareContext {
            zxid: m.next,
            time: WallMs(1),
            session: SessionId(1),
            cxid: 7,
            session_state: SessionState::Live,
            credentials: &m.who,
            rules: &m.rules,
        };
        m.next = m.next.next();
        let mut budget = Budget::UNLIMITED;
        let prepared = (m.overlay).prepare(&m.tree, &context, &request, &mut budget);
        assert_eq!(prepared.error, None, "{request:?}");
        assert_eq!(budget.spent_of_unlimited(), 1 + ordered, "{request:?}");
        m.waiting.push(prepared.entry);
        m.apply_all();
        assert_eq!(m.tree.take_quota_steps(), applied, "{request:?}");
    }
    run(&mut m, &[delete(&node("zookeeper_limits"), -1)]);
    assert_eq!(m.tree.take_quota_steps(), 3);
    let again = read(&body(&m.tree), 100).unwrap();
    assert_eq!(
        again.clone().take_quota_steps(),
        0,
        "nobody waits for a start"
    );
}

#[test]
fn what_a_quota_takes_is_counted() {
    let mut m = with_quota("");
    assert_eq!(m.tree.bytes(), m.tree.footprint().total());
    assert!(m.tree.footprint().quotas > 0);
    run(&mut m, &[delete(LIMITS, -1), delete(STATS, -1)]);
    assert_eq!(m.tree.bytes(), m.tree.footprint().total());
    assert_eq!(m.tree.footprint().quotas, 0);
}

/// Writes below paths that may have quotas, and the nodes of these.
fn any_request() -> impl Strategy<Value = WriteRequest> {
    let path = proptest::sample::select(vec!["/a", "/a/b", "/a/b/c", "/a/d", "/b"]);
    let of = proptest::sample::select(vec!["/a", "/a/b", "/b", ""]);
    let node = (of, 0..3usize).prop_map(|(of, name)| {
        let name = ["", "/zookeeper_limits", "/zookeeper_stats"][name];
        format!("/zookeeper/quota{of}{name}")
    });
    let any = prop_oneof![3 => path.prop_map(str::to_owned), 2 => node];
    let data = proptest::sample::select(vec!["", "1", "123", "12345678"]);
    (any, data, 0..4u32).prop_map(|(path, data, kind)| match kind {
        0 | 1 => create_with(&path, data),
        2 => delete(&path, -1),
        // What is written into totals is another test's.
        _ if path.ends_with("stats") => check("/", -1),
        _ => set_to(&path, Some(data.as_bytes().into())),
    })
}

fn naive_totals(tree: &Tree, path: &str) -> (usize, usize) {
    let (mut nodes, mut bytes) = (0, 0);
    let Ok(()) = tree.nodes.in_order(|at, node| {
        let below = at.strip_prefix(path.as_bytes());
        if below.is_some_and(|rest| rest.is_empty() || rest[0] == b'/') {
            (nodes, bytes) = (nodes + 1, bytes + node.data_len());
        }
        Ok::<(), std::convert::Infallible>(())
    });
    (nodes, bytes)
}

proptest! {
    /// Of a quota without others inside that was there from the beginning the totals are what a count finds;
    /// and of every quota, they are what they were when the tree is read from a snapshot.
    #[test]
    fn totals_are_what_a_count_finds(requests in proptest::collection::vec(any_request(), 0..60)) {
        let mut m = Machine::new();
        let quota = "/zookeeper/quota/q";
        run(&mut m, &[create_with("/q", "12"), create_with(quota, "")]);
        run(&mut m, &[
            create_with(&format!("{quota}/zookeeper_limits"), ""),
            create_with(&format!("{quota}/zookeeper_stats"), ""),
        ]);
        for request in &requests {
            m.error(request);
            // The same below the other quota.
            let moved = match request.clone() {
                WriteRequest::Create(mut create) => {
                    create.path = format!("/q{}", create.path).into();
                    WriteRequest::Create(create)
                }
                WriteRequest::Delete { path, version } => WriteRequest::Delete {
                    path: format!("/q{path}").into(),
                    version,
                },
                WriteRequest::SetData { path, data, version } => WriteRequest::SetData {
                    path: path.map(|path| format!("/q{path}").into()),
                    data,
                    version,
                },
                other => other,
            };
            m.error(&moved);
            let (nodes, bytes) = naive_totals(&m.tree, "/q");
            let due = format!("count={nodes},bytes={bytes}");
            prop_assert_eq!(text(&m, &format!("{quota}/zookeeper_stats")), due);
            prop_assert_eq!(m.tree.bytes(), m.tree.footprint().total());
        }
        // Who reads them again shows the same, and goes on from there.
        let mut again = Machine::new();
        again.tree = read(&body(&m.tree), 100).unwrap();
        again.overlay = Overlay::new(&again.tree);
        again.next = m.next;
        for request in &requests {
            for quota in ["", "/a", "/a/b", "/b", "/q"] {
                let stats = format!("/zookeeper/quota{quota}/zookeeper_stats");
                prop_assert_eq!(again.tree.get_data(&stats, &[]), m.tree.get_data(&stats, &[]));
            }
            prop_assert_eq!(again.tree.bytes(), again.tree.footprint().total());
            prop_assert_eq!(m.error(request), again.error(request));
        }
        prop_assert_eq!(body(&m.tree), body(&again.tree));
    }

    /// A replica applies the same transactions: whenever it does, it has the same totals.
    #[test]
    fn replicas_have_the_same_totals(requests in proptest::collection::vec((any_request(), any::<bool>()), 0..60)) {
        let (mut one, mut other) = (Machine::new(), Machine::new());
        for (request, apply) in &requests {
            let first = one.prepare_as(1, request);
            one.apply_all();
            prop_assert_eq!(first, other.prepare_as(1, request));
            if *apply {
                other.apply_all();
            }
        }
        other.apply_all();
        prop_assert_eq!(body(&one.tree), body(&other.tree));
    }
}
