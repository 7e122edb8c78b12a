//! The instrument is held against servers whose behaviour is known. Bounds are wide: the machine may
//! be busy, and lateness only adds.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use rkbench::outcome::Outcome;
use rkbench::plan::{Pace, Plan, Workload};
use rkbench::run;
use rkbench::segment::Segment;
use rkbench::stub::Stub;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

const CREATE: i32 = 1;
const GET_DATA: i32 = 4;
const SET_DATA: i32 = 5;
const MULTI: i32 = 14;
const CLOSE: i32 = -11;
/// Data of every node, as the plans have it.
const DATA: [u8; 100] = [b'd'; 100];

/// What the fake server does with a getData or multi, by its number from 1: wait so long, answer this code.
type Behaviour = fn(u32) -> (Duration, i32);

/// A server with a thread per connection that answers in order. Its frames are written out here,
/// independently of the generator's.
fn fake(behaviour: Behaviour) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let gets = Arc::new(AtomicU32::new(0));
    thread::spawn(move || {
        for stream in listener.incoming() {
            let gets = gets.clone();
            thread::spawn(move || serve(stream.unwrap(), behaviour, &gets));
        }
    });
    address
}

fn serve(mut stream: TcpStream, behaviour: Behaviour, gets: &AtomicU32) -> Option<()> {
    stream.set_nodelay(true).unwrap();
    let hello = frame(&mut stream)?;
    assert_eq!(hello.len(), 45, "a handshake with the read-only byte");
    let mut session = Vec::new();
    session.extend(0i32.to_be_bytes());
    session.extend(30_000i32.to_be_bytes());
    session.extend(77i64.to_be_bytes());
    session.extend(16i32.to_be_bytes());
    session.extend([9; 16]);
    session.push(0);
    send(&mut stream, &session)?;
    loop {
        let request = frame(&mut stream)?;
        let word = |at: usize| i32::from_be_bytes(request[at..at + 4].try_into().unwrap());
        let op = word(4);
        let (mut code, mut body) = (0, Vec::new());
        match op {
            CREATE => body.extend_from_slice(&request[8..12 + word(8) as usize]),
            GET_DATA => {
                let wait;
                (wait, code) = behaviour(gets.fetch_add(1, Ordering::Relaxed) + 1);
                thread::sleep(wait);
                if code == 0 {
                    body.extend((DATA.len() as i32).to_be_bytes());
                    body.extend(DATA);
                    body.extend([0; 68]);
                }
            }
            MULTI => {
                let (wait, failed) = behaviour(gets.fetch_add(1, Ordering::Relaxed) + 1);
                thread::sleep(wait);
                // The code of a multi that fails stands in its results: its head says that it was answered.
                body = results(&request[8..], failed);
            }
            _ => {}
        }
        let mut answer = Vec::new();
        answer.extend(&request[0..4]);
        answer.extend(5i64.to_be_bytes());
        answer.extend(code.to_be_bytes());
        answer.extend(body);
        send(&mut stream, &answer)?;
        if op == CLOSE {
            return Some(());
        }
    }
}

/// What a server answers to a multi, which has ten setData of the same node.
fn results(mut operations: &[u8], failed: i32) -> Vec<u8> {
    let mut take = |bytes: usize| {
        let (taken, rest) = operations.split_at(bytes);
        operations = rest;
        taken.to_vec()
    };
    let set = [&SET_DATA.to_be_bytes()[..], &[0], &(-1i32).to_be_bytes()].concat();
    let (mut body, mut path) = (Vec::new(), Vec::new());
    for at in 0..10 {
        assert_eq!(take(9), set, "operation {at}");
        let length = i32::from_be_bytes(take(4).try_into().unwrap());
        let node = take(length as usize);
        assert!(at == 0 || node == path, "another node");
        path = node;
        assert_eq!(take(4), 100i32.to_be_bytes());
        assert_eq!(take(100), DATA);
        assert_eq!(take(4), (-1i32).to_be_bytes(), "any version");
        let (kind, result) = match failed {
            0 => (SET_DATA, vec![0; 68]),
            code => (-1, code.to_be_bytes().to_vec()),
        };
        body.extend(kind.to_be_bytes());
        body.push(0);
        body.extend(failed.to_be_bytes());
        body.extend(result);
    }
    let end = [&(-1i32).to_be_bytes()[..], &[1], &(-1i32).to_be_bytes()].concat();
    assert_eq!(take(9), end);
    assert!(operations.is_empty());
    body.extend(end);
    body
}

fn frame(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut len = [0; 4];
    stream.read_exact(&mut len).ok()?;
    let mut payload = vec![0; i32::from_be_bytes(len) as usize];
    stream.read_exact(&mut payload).ok()?;
    Some(payload)
}

fn send(stream: &mut TcpStream, payload: &[u8]) -> Option<()> {
    let whole = [&(payload.len() as i32).to_be_bytes(), payload].concat();
    stream.write_all(&whole).ok()
}

fn plan(workload: Workload, target: SocketAddr, connections: usize) -> Plan {
    let mut plan = Plan::new(workload, target, connections, 1);
    plan.warmup = Duration::from_millis(100);
    plan.measured = Duration::from_millis(1_500);
    plan
}

fn ran(plan: &Plan) -> Outcome {
    run::run(plan).unwrap_or_else(|e| panic!("{plan}: {e}"))
}

const MS: f64 = 1_000.0;

#[test]
fn a_known_distribution_is_recovered() {
    // One in twenty takes 60 ms, the others 5.
    let target = fake(|number| match number % 20 {
        0 => (Duration::from_millis(60), 0),
        _ => (Duration::from_millis(5), 0),
    });
    let outcome = ran(&plan(Workload::Get, target, 4));
    let l = outcome.latency;
    assert!(outcome.is_success(), "{}", outcome.text());
    assert!(l.p50 >= 5.0 * MS && l.p50 < 50.0 * MS, "{l:?}");
    assert!(l.p99 >= 59.9 * MS && l.p99 < 1_000.0 * MS, "{l:?}");
    assert!(
        l.p50 <= l.p90 && l.p90 <= l.p99 && l.p99 <= l.p999 && l.p999 <= l.max,
        "{l:?}"
    );
    // 4 connections, 7.75 ms on average: 516 per second, or fewer on a busy machine.
    assert!(
        outcome.rate < 600.0 && outcome.rate > 50.0,
        "{}",
        outcome.rate
    );
}

#[test]
fn an_open_loop_counts_those_that_had_to_wait() {
    // Answers take 1 ms, and one request in the middle half a second.
    let stall: Behaviour = |number| match number {
        150 => (Duration::from_millis(500), 0),
        _ => (Duration::from_millis(1), 0),
    };
    let closed = ran(&plan(Workload::Get, fake(stall), 1));
    let mut open = plan(Workload::Get, fake(stall), 1);
    open.pace = Pace::Open {
        rate: 200.0,
        outstanding_max: 1024,
    };
    let open = ran(&open);
    // The closed loop has one slow request and stops asking meanwhile; in the open loop a hundred
    // were due during the stall.
    assert!(closed.latency.max >= 500.0 * MS, "{:?}", closed.latency);
    assert!(open.latency.p90 >= 100.0 * MS, "{:?}", open.latency);
    assert!(open.latency.p90 > closed.latency.p90);
    assert!(
        (open.latency.count as f64 - 300.0).abs() < 3.0,
        "{:?}",
        open.latency
    );
}

#[test]
fn a_window_is_kept_full() {
    let target = fake(|_| (Duration::from_millis(2), 0));
    let mut deep = plan(Workload::Get, target, 1);
    deep.pace = Pace::Closed { window: 8 };
    let outcome = ran(&deep);
    // One at a time behind each other: each waits for the seven before it.
    assert!(outcome.latency.p50 >= 15.0 * MS, "{:?}", outcome.latency);
    assert!(outcome.rate < 510.0, "{}", outcome.rate);
}

#[test]
fn failures_are_counted_by_code_and_kept_out_of_percentiles() {
    let target = fake(|number| match number % 4 {
        0 => (Duration::from_millis(40), -101),
        _ => (Duration::from_millis(1), 0),
    });
    let outcome = ran(&plan(Workload::Get, target, 2));
    assert!(!outcome.is_success());
    let [(-101, count)] = outcome.errors[..] else {
        panic!("{:?}", outcome.errors);
    };
    assert!(count > 0);
    assert!(outcome.latency.p50 < 40.0 * MS, "{:?}", outcome.latency);
}

#[test]
fn a_multi_sets_a_node_ten_times_and_is_one_operation() {
    let target = fake(|_| (Duration::from_millis(5), 0));
    let outcome = ran(&plan(Workload::Multi, target, 2));
    assert!(outcome.is_success(), "{}", outcome.text());
    // 2 connections, 5 ms each: 600 in the window, or fewer on a busy machine; ten times as many sets.
    assert!((1..=602).contains(&outcome.ops), "{}", outcome.text());
    assert!(outcome.transactions >= outcome.ops);
}

#[test]
fn a_multi_that_fails_ends_the_run() {
    let target = fake(|number| match number {
        20 => (Duration::ZERO, -101),
        _ => (Duration::from_millis(5), 0),
    });
    let failure = run::run(&plan(Workload::Multi, target, 2)).unwrap_err();
    assert!(failure.to_string().contains("bytes long"), "{failure}");
}

/// The stub in a thread; it ends with the test. With a directory it syncs there.
fn stub_that_syncs(dir: Option<&Path>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let segment = dir.map(|dir| Segment::create(dir).unwrap());
    thread::spawn(move || Stub::new(listener, DATA.len(), segment).unwrap().serve());
    address
}

fn stub() -> SocketAddr {
    stub_that_syncs(None)
}

#[test]
fn every_workload_runs_against_the_stub() {
    let target = stub();
    use Workload::{Connect, Create, Get, Mix, Set, Watch};
    for workload in [Get, Set, Create, Mix, Connect, Watch] {
        let mut plan = plan(workload, target, 20);
        plan.measured = Duration::from_millis(300);
        plan.pids = vec![std::process::id()];
        if !matches!(workload, Watch) {
            plan.threads = 2;
        }
        let outcome = ran(&plan);
        assert!(outcome.is_success(), "{}", outcome.text());
        assert!(
            outcome.ops > 0 && outcome.latency.count > 0,
            "{}",
            outcome.text()
        );
        assert!(outcome.servers.is_some(), "{}", outcome.text());
    }
}

#[test]
fn the_stub_that_syncs_has_written_every_write_that_it_answered() {
    let dir = std::env::temp_dir().join(format!("rkbench-stub-{}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    let target = stub_that_syncs(Some(&dir));
    let segment = fs::read_dir(&dir).unwrap().next().unwrap().unwrap().path();
    // It is written from the beginning, and full of zeroes behind.
    let written = || {
        fs::read(&segment)
            .unwrap()
            .partition_point(|&byte| byte != 0)
    };
    let before = written();
    let outcome = ran(&plan(Workload::Set, target, 4));
    // The stub's record is 304 B, and the segment has room for all of this test's.
    assert!(
        written() - before >= 304 * outcome.transactions as usize,
        "{} transactions",
        outcome.transactions
    );
    let before = written();
    let reads = ran(&plan(Workload::Get, target, 4));
    // Only the sessions and the nodes that a run makes for itself are written.
    assert!(reads.ops > 100 && written() - before < 304 * 100);
    fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn an_open_loop_tells_its_own_lag_apart_from_the_servers() {
    // Longer than the gap between requests: most of them wait for the one before.
    let target = fake(|_| (Duration::from_millis(8), 0));
    let mut open = plan(Workload::Get, target, 1);
    open.pace = Pace::Open {
        rate: 200.0,
        outstanding_max: 1,
    };
    let outcome = ran(&open);
    let told = outcome.open.unwrap();
    assert_eq!(told.less_lag.count, outcome.latency.count);
    assert!(told.less_lag.p50 <= outcome.latency.p50, "{told:?}");
    // That windows were full is the server's doing and stays in the latencies.
    assert!(told.less_lag.max >= 100.0 * MS, "{told:?}");
    assert!(ran(&plan(Workload::Get, target, 1)).open.is_none());
}

#[test]
fn a_fan_out_reaches_every_watcher_once() {
    let mut plan = plan(Workload::Watch, stub(), 300);
    plan.measured = Duration::from_millis(500);
    let outcome = ran(&plan);
    assert!(outcome.is_success(), "{}", outcome.text());
    assert_eq!(outcome.ops % 300, 0, "whole rounds");
    // Every set and the sessions of watchers, writer, preparation and cleaning up.
    assert!(outcome.transactions >= outcome.ops / 300 + 2 * 303);
}

#[test]
fn nobody_there_is_said_so() {
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let failure = run::run(&plan(Workload::Get, free, 1)).unwrap_err();
    assert!(
        failure.to_string().contains("is a server running there?"),
        "{failure}"
    );
}
