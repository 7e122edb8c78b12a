//! The connect storm: so many at once connect, get a session, close it, and begin again.

use crate::conn::{self, Got, Inbound};
use crate::control::SESSION_TIMEOUT_MS;
use crate::failure::{Context, Failure};
use crate::plan::Plan;
use crate::sys::{self, Poller, Ready};
use crate::tally::{Clock, Opening, Tally, Window};
use crate::wire::{self, Reply, Session, code};
use crate::workers;
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{self, ErrorKind, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

/// Silence of this length ends the run.
const STALL_NS: u64 = 30_000_000_000;
/// How long sessions under way are waited for at the end.
const DRAIN_NS: u64 = 5_000_000_000;
/// A worker looks up at least this often.
const LOOK_NS: u64 = 100_000_000;
/// Failed attempts in a row after which nobody is there.
const FAILURES_MAX: u32 = 1_000;
/// Addresses of loopback that connections come from: each has its own ports, and a port rests a
/// while after its connection's end.
const SOURCES: u32 = 64;

/// What a connection waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// To be able to send its handshake.
    Connection,
    Session,
    /// The answer to its closeSession.
    Farewell,
}

/// One of those that connect at once.
struct Slot {
    stream: TcpStream,
    inbound: Inbound,
    stage: Stage,
    start_ns: u64,
}

struct Worker<'a> {
    plan: &'a Plan,
    clock: Clock,
    window: Window,
    poller: Poller,
    slots: Vec<Option<Slot>>,
    tally: Tally,
    hello: Vec<u8>,
    farewell: Vec<u8>,
    attempts: u32,
    failures: u32,
    heard_ns: u64,
    measuring: bool,
}

/// Runs the storm on the plan's threads.
pub fn run(plan: &Plan) -> Result<Tally, Failure> {
    let clock = Clock::start();
    let window = Window::after(clock.ns(), plan.warmup, plan.measured);
    plan.say("warming up and measuring");
    let shares = (0..plan.threads)
        .map(|number| (plan.connections + plan.threads - 1 - number) / plan.threads);
    let results = workers::each_on_a_thread(plan, shares, |number, slots| {
        Worker::new(plan, clock, window, slots, number)?.run(number == 0)
    })?;
    let mut tally = Tally::default();
    for result in results {
        tally.merge(result);
    }
    Ok(tally)
}

impl<'a> Worker<'a> {
    fn new(
        plan: &'a Plan,
        clock: Clock,
        window: Window,
        slots: usize,
        number: usize,
    ) -> Result<Worker<'a>, Failure> {
        let (mut hello, mut farewell) = (Vec::new(), Vec::new());
        wire::connect(&mut hello, SESSION_TIMEOUT_MS);
        wire::close(&mut farewell, 1);
        Ok(Worker {
            plan,
            clock,
            window,
            poller: Poller::new().context(|| "making an epoll".into())?,
            slots: (0..slots).map(|_| None).collect(),
            tally: Tally::default(),
            hello,
            farewell,
            attempts: number as u32 * (SOURCES / 2),
            failures: 0,
            heard_ns: clock.ns(),
            measuring: false,
        })
    }

    fn run(mut self, sampling: bool) -> Result<Tally, Failure> {
        sys::exact_timers();
        let mut scratch = vec![0; 4096];
        let mut ready: Vec<Ready> = Vec::new();
        let (mut began, mut over) = (None, false);
        let pids = sampling.then_some(self.plan.pids.as_slice());
        loop {
            let now = self.clock.ns();
            if began.is_none() && now >= self.window.begin_ns {
                began = Some(Opening::take(pids, self.clock));
                self.measuring = true;
            }
            if let Some(begin) = &began
                && !over
                && now >= self.window.end_ns
            {
                over = true;
                self.measuring = false;
                self.tally.close_window(begin, pids, self.clock);
            }
            let idle = self.slots.iter().all(Option::is_none);
            if over && (idle || now > self.window.end_ns + DRAIN_NS) {
                self.tally.unfinished = self.slots.iter().flatten().count() as u64;
                return Ok(self.tally);
            }
            if now > self.heard_ns + STALL_NS {
                return Err(Failure::Stalled(STALL_NS / 1_000_000_000));
            }
            if !over {
                for at in 0..self.slots.len() {
                    if self.slots[at].is_none() {
                        self.begin(at)?;
                    }
                }
            }
            let boundary_ns = match (self.measuring, over) {
                (_, true) => u64::MAX,
                (true, _) => self.window.end_ns,
                (false, _) => self.window.begin_ns,
            };
            let until_ns = (now + LOOK_NS).min(boundary_ns);
            let timeout = Duration::from_nanos(until_ns.saturating_sub(self.clock.ns()));
            self.poller
                .wait(&mut ready, Some(timeout))
                .context(|| "waiting for sessions".into())?;
            for event in &ready {
                self.advance(event.token as usize, *event, &mut scratch, over)?;
            }
        }
    }

    fn begin(&mut self, at: usize) -> Result<(), Failure> {
        let target = self.plan.targets[self.attempts as usize % self.plan.targets.len()];
        let start_ns = self.clock.ns();
        let dialled = dial(target, self.attempts % SOURCES).and_then(|stream| {
            self.poller.add(&stream, at as u64, true)?;
            Ok(stream)
        });
        self.attempts = self.attempts.wrapping_add(1);
        match dialled {
            Ok(stream) => {
                self.slots[at] = Some(Slot {
                    stream,
                    inbound: Inbound::default(),
                    stage: Stage::Connection,
                    start_ns,
                });
                Ok(())
            }
            Err(source) => self.fail(at, Some((target, source))),
        }
    }

    /// An attempt has come to nothing; too many in a row end the run.
    fn fail(&mut self, at: usize, why: Option<(SocketAddr, io::Error)>) -> Result<(), Failure> {
        self.slots[at] = None;
        self.failures += 1;
        self.tally.error(code::CONNECTION_LOSS, 1);
        if self.failures < FAILURES_MAX {
            // The address is tried again soon, but not at the speed of a spinning loop.
            thread::sleep(Duration::from_millis(1));
            return Ok(());
        }
        Err(match why {
            Some((address, source)) => Failure::Connect { address, source },
            None => Failure::Refused,
        })
    }

    fn advance(
        &mut self,
        at: usize,
        event: Ready,
        scratch: &mut [u8],
        over: bool,
    ) -> Result<(), Failure> {
        let Some(slot) = &mut self.slots[at] else {
            return Ok(());
        };
        if slot.stage == Stage::Connection && event.writable {
            // An error of the connection attempt comes out of this write.
            let written = slot.stream.write(&self.hello);
            let asked = written.and_then(|_| self.poller.change(&slot.stream, at as u64, false));
            if asked.is_err() {
                return self.fail(at, None);
            }
            slot.stage = Stage::Session;
            return Ok(());
        }
        if !event.readable {
            return Ok(());
        }
        let n = match conn::receive(&mut slot.stream, scratch) {
            Got::Bytes(n) => n,
            Got::Nothing => return Ok(()),
            Got::End => return self.fail(at, None),
        };
        let now = self.clock.ns();
        self.heard_ns = now;
        self.failures = 0;
        let (tally, measuring, stage) = (&mut self.tally, self.measuring, &mut slot.stage);
        let (stream, farewell) = (&mut slot.stream, &self.farewell);
        let start_ns = slot.start_ns;
        let mut gone = false;
        slot.inbound.feed(&scratch[..n], |payload| {
            if *stage == Stage::Session {
                Session::parse(payload)?;
                tally.transactions += 1;
                if measuring {
                    tally.completed += 1;
                    tally.writes.saturating_record((now - start_ns).max(1));
                }
                *stage = Stage::Farewell;
                // 12 bytes always fit into the empty buffer of a new socket.
                gone = stream.write(farewell).is_err();
            } else {
                match Reply::parse(payload)?.err {
                    0 => tally.transactions += 1,
                    code => tally.error(code, 1),
                }
                gone = true;
            }
            Ok(())
        })?;
        if gone {
            self.slots[at] = None;
            if !over {
                self.begin(at)?;
            }
        }
        Ok(())
    }
}

/// Begins to connect. On loopback the address that it comes from changes.
fn dial(target: SocketAddr, source: u32) -> io::Result<TcpStream> {
    let socket = Socket::new(
        Domain::for_address(target),
        Type::STREAM.nonblocking(),
        Some(Protocol::TCP),
    )?;
    socket.set_tcp_nodelay(true)?;
    if let IpAddr::V4(address) = target.ip()
        && address.is_loopback()
    {
        sys::port_when_connecting(&socket)?;
        let from = Ipv4Addr::from(u32::from(Ipv4Addr::LOCALHOST) + source);
        socket.bind(&SocketAddr::from((from, 0)).into())?;
    }
    match socket.connect(&target.into()) {
        Ok(()) => {}
        Err(e)
            if e.kind() == ErrorKind::WouldBlock || e.raw_os_error() == Some(libc::EINPROGRESS) => {
        }
        Err(e) => return Err(e),
    }
    Ok(socket.into())
}
