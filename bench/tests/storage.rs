//! What the measurements of storage stand on, held against servers whose behaviour is known.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use rkbench::control;
use rkbench::first;
use rkbench::load::{Places, Worker};
use rkbench::plan::{Pace, Plan, Workload};
use rkbench::stub::Stub;
use rkbench::tally::{Clock, Window};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

fn stub(listener: TcpListener) -> SocketAddr {
    let address = listener.local_addr().unwrap();
    thread::spawn(move || Stub::new(listener, 100, None).unwrap().serve());
    address
}

fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

#[test]
fn every_request_of_a_traced_open_loop_is_kept_and_it_ends_when_there_is_enough() {
    let address = stub(listener());
    let mut plan = Plan::new(Workload::Set, address, 2, 1);
    plan.pace = Pace::Open {
        rate: 500.0,
        outstanding_max: 16,
    };
    plan.warmup = Duration::from_millis(100);
    plan.measured = Duration::from_secs(600);
    let places = Places {
        parent: "/p".into(),
    };
    let streams = control::open(&plan.targets, 2).unwrap();
    let clock = Clock::start();
    let window = Window::after(clock.ns(), plan.warmup, plan.measured);
    let share = streams.into_iter().enumerate().collect();
    let enough = Arc::new(AtomicBool::new(false));
    let worker = Worker::new(&plan, &places, share, (clock, window), (0, 1)).unwrap();
    let worker = worker.tracing(enough.clone());
    let done = thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_millis(600));
            enough.store(true, Ordering::Relaxed);
        });
        worker.run().unwrap()
    });
    let answered = done.tally.answered.unwrap();
    // It would be 300,000, had the run not ended early.
    assert!((1..10_000).contains(&answered.len()), "{}", answered.len());
    assert_eq!(answered.len() as u64, done.tally.less_lag.len());
    assert_eq!(done.tally.unfinished, 0);
    for kept in &answered {
        assert!(kept.due_ns >= window.begin_ns && kept.zxid > 0);
        assert!(kept.served_ns() <= kept.latency_ns && kept.at_ns() >= kept.due_ns);
    }
}

#[test]
fn a_server_that_comes_late_is_asked_until_it_answers() {
    // Its port is known before anybody listens there.
    let reserved = listener();
    let address = reserved.local_addr().unwrap();
    drop(reserved);
    let asked = thread::spawn(move || first::answer(address, "/n", || true));
    thread::sleep(Duration::from_millis(100));
    assert!(!asked.is_finished());
    stub(TcpListener::bind(address).unwrap());
    assert_eq!(asked.join().unwrap().unwrap(), [b'd'; 100]);
}

#[test]
fn a_handshake_that_is_never_answered_holds_up_nobody() {
    let listener = listener();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        // The first connection is taken and forgotten; the others are the stub's.
        let lost = listener.accept().unwrap();
        Stub::new(listener, 100, None).unwrap().serve().unwrap();
        drop(lost);
    });
    assert_eq!(first::answer(address, "/n", || true).unwrap().len(), 100);
}

#[test]
fn a_server_that_has_ended_is_not_asked_again() {
    let reserved = listener();
    let address = reserved.local_addr().unwrap();
    drop(reserved);
    assert!(first::answer(address, "/n", || false).is_err());
}
