//! The measurement of fairness is held against servers whose behaviour is known.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use rkbench::bystander::{Bystanders, Fate, Survival};
use rkbench::hostile::{self, Attack};
use rkbench::stub::Stub;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

const PING: i32 = 11;
const RATE: f64 = 200.0;
const WARMUP: Duration = Duration::from_millis(100);

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

fn stub() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || Stub::new(listener, 100, None).unwrap().serve());
    address
}

/// What a server does with the `n`th ping of one of its connections, which was the `c`th; both from 1.
type Behaviour = fn(u32, u32) -> Answer;

enum Answer {
    After(Duration),
    Never,
    End,
}

/// A server with a thread per connection that knows nothing but sessions and pings. `remembers` says
/// whether a session that comes back is welcome.
fn pinged(behaviour: Behaviour, remembers: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let connections = AtomicU32::new(0);
        for stream in listener.incoming() {
            let number = connections.fetch_add(1, Ordering::Relaxed) + 1;
            thread::spawn(move || serve(stream.unwrap(), behaviour, number, remembers));
        }
    });
    address
}

fn serve(
    mut stream: TcpStream,
    behaviour: Behaviour,
    connection: u32,
    remembers: bool,
) -> Option<()> {
    stream.set_nodelay(true).unwrap();
    let hello = frame(&mut stream)?;
    let known = i64::from_be_bytes(hello[16..24].try_into().unwrap());
    let (timeout, id) = match (known, remembers) {
        (0, _) => (4_000, i64::from(connection)),
        (known, true) => (4_000, known),
        (_, false) => (0, 0),
    };
    let mut session = Vec::new();
    session.extend(0i32.to_be_bytes());
    session.extend(i32::to_be_bytes(timeout));
    session.extend(i64::to_be_bytes(id));
    session.extend(16i32.to_be_bytes());
    session.extend([9; 16]);
    session.push(0);
    send(&mut stream, &session)?;
    let mut pings = 0;
    loop {
        let request = frame(&mut stream)?;
        assert_eq!(request[4..8], PING.to_be_bytes());
        pings += 1;
        match behaviour(connection, pings) {
            Answer::After(wait) => thread::sleep(wait),
            Answer::Never => continue,
            Answer::End => return None,
        }
        let mut answer = request[0..4].to_vec();
        answer.extend(0i64.to_be_bytes());
        answer.extend(0i32.to_be_bytes());
        send(&mut stream, &answer)?;
    }
}

fn endured(target: SocketAddr, measured: Duration) -> Fate {
    let bystanders = Bystanders::open(target, RATE).unwrap();
    bystanders
        .run(WARMUP, measured, &AtomicBool::new(false))
        .unwrap()
}

#[test]
fn every_attack_is_answered_and_stops_when_the_bystanders_are_done() {
    for attack in [Attack::Ping, Attack::Get, Attack::Set, Attack::Multi] {
        let target = stub();
        let stop = AtomicBool::new(false);
        let measured = Duration::from_millis(300);
        let bystanders = Bystanders::open(target, RATE).unwrap();
        let (fate, harm) = thread::scope(|scope| {
            let hostile = scope.spawn(|| hostile::attack(target, attack, "/node", &stop));
            let fate = bystanders.run(WARMUP, measured, &stop).unwrap();
            (fate, hostile.join().unwrap().unwrap())
        });
        assert!(harm.answered > 0, "{attack:?}: {harm:?}");
        // The stub knows no multi.
        let refused = if attack == Attack::Multi {
            harm.answered
        } else {
            0
        };
        assert_eq!((harm.refused, harm.cut), (refused, 0), "{attack:?}");
        assert_eq!(fate.quiet, Survival::Lives, "{attack:?}");
        assert_eq!((fate.unanswered, fate.pinger_cut), (0, false), "{attack:?}");
        // A ping every 5 ms, whatever the answers do.
        assert!((59..=61).contains(&fate.latency.count), "{fate:?}");
    }
}

#[test]
fn a_hostile_client_comes_back_when_it_is_cut() {
    let target = pinged(|_, _| Answer::End, true);
    let stop = AtomicBool::new(false);
    let harm = thread::scope(|scope| {
        let hostile = scope.spawn(|| hostile::attack(target, Attack::Ping, "/node", &stop));
        thread::sleep(Duration::from_secs(1));
        stop.store(true, Ordering::Relaxed);
        hostile.join().unwrap().unwrap()
    });
    assert!(harm.cut >= 2 && harm.answered == 0, "{harm:?}");
}

#[test]
fn pings_that_were_due_during_a_stall_are_counted() {
    // Both sessions' connections are the first and the second; the 40th ping is answered late.
    let stall: Behaviour = |connection, ping| match (connection, ping) {
        (1, 40) => Answer::After(Duration::from_millis(400)),
        _ => Answer::After(Duration::ZERO),
    };
    let fate = endured(pinged(stall, true), Duration::from_millis(600));
    assert_eq!(fate.unanswered, 0);
    assert!((119..=121).contains(&fate.latency.count), "{fate:?}");
    // Eighty were due in these 400 ms, half of which waited for more than 200.
    assert!(fate.latency.max >= 390_000.0, "{fate:?}");
    assert!(fate.latency.p90 >= 200_000.0, "{fate:?}");
}

#[test]
fn pings_without_an_answer_end_the_wait_and_are_told() {
    let ends: Behaviour = |connection, ping| match (connection, ping) {
        (1, 40) => Answer::End,
        (1, 31..) => Answer::Never,
        _ => Answer::After(Duration::ZERO),
    };
    let fate = endured(pinged(ends, true), Duration::from_millis(300));
    assert!(fate.pinger_cut, "{fate:?}");
    assert!((9..=10).contains(&fate.unanswered), "{fate:?}");
    assert_eq!(fate.quiet, Survival::Lives);
}

#[test]
fn a_session_that_expired_is_told_apart_from_one_that_lost_its_connection() {
    let cuts_quiet: Behaviour = |connection, _| match connection {
        2 => Answer::End,
        _ => Answer::After(Duration::ZERO),
    };
    // The quiet session's first ping comes after 1.3 s.
    let measured = Duration::from_millis(1_500);
    let quiet = |remembers| endured(pinged(cuts_quiet, remembers), measured).quiet;
    assert_eq!(quiet(true), Survival::Cut);
    assert_eq!(quiet(false), Survival::Expired);
}
