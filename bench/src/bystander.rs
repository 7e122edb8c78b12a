//! Clients that do no harm and are measured while others do: one session pings at an even rate, and a
//! quiet one sends as few pings as keep it alive.
//!
//! A ping's latency counts from when the ping was due, less the time by which the generator itself was
//! late. Both sessions are served by one thread, which the kernel runs first if it may: what is measured is
//! the server's attention and not the generator's.

use crate::conn::{self, Got, Inbound, Outbound};
use crate::control;
use crate::failure::{Context, Failure};
use crate::outcome::Latency;
use crate::sys::{self, Poller, Ready};
use crate::tally::{Clock, Window, histogram};
use crate::wire::{self, PING_XID, Reply, Session};
use hdrhistogram::Histogram;
use std::collections::VecDeque;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The timeout of the session that pings at an even rate.
const PINGER_TIMEOUT_MS: i32 = 30_000;
/// The timeout of the quiet session: the shortest that servers grant by default.
pub const QUIET_TIMEOUT_MS: i32 = 4_000;
/// The quiet session's pings in one timeout, as Apache's clients send them.
const QUIET_PINGS: u64 = 3;
/// How long answers that are missing at the end are waited for.
const DRAIN_NS: u64 = 10_000_000_000;
/// The thread looks up at least this often.
const LOOK_NS: u64 = 100_000_000;

/// What became of the quiet session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survival {
    /// It lives, on the connection that it had from the beginning.
    Lives,
    /// It lives, but its connection was ended.
    Cut,
    /// The server says that there is no such session.
    Expired,
}

/// What the bystanders went through.
#[derive(Clone, Debug)]
pub struct Fate {
    /// Of pings, from when they were due, each less its own lag.
    pub latency: Latency,
    /// Of pings, from when they were due.
    pub due: Latency,
    /// How late the generator was.
    pub lag: Latency,
    /// Pings without an answer; they count as late as they were at the end.
    pub unanswered: u64,
    /// Whether the connection of the pinging session was ended.
    pub pinger_cut: bool,
    /// The quiet session's.
    pub quiet: Survival,
    /// Whether the thread was run before ordinary ones.
    pub ran_first: bool,
}

struct Ping {
    due_ns: u64,
    lag_ns: u64,
}

/// A session and the pings that it waits for.
struct Bystander {
    stream: TcpStream,
    session: Session,
    inbound: Inbound,
    outbound: Outbound,
    pending: VecDeque<Ping>,
    gap_ns: u64,
    next_ns: u64,
    alive: bool,
}

/// Both of them; the first pings at an even rate, the second is the quiet one.
pub struct Bystanders {
    target: SocketAddr,
    clock: Clock,
    poller: Poller,
    both: [Bystander; 2],
    latency: Histogram<u64>,
    due: Histogram<u64>,
    lag: Histogram<u64>,
    unanswered: u64,
}

impl Bystander {
    fn open(target: SocketAddr, timeout_ms: i32, gap_ns: u64) -> Result<Bystander, Failure> {
        let (stream, session) = control::session(target, timeout_ms)?;
        Ok(Bystander {
            stream,
            session,
            inbound: Inbound::default(),
            outbound: Outbound::default(),
            pending: VecDeque::new(),
            gap_ns,
            next_ns: 0,
            alive: true,
        })
    }

    /// Whether an answer may still come.
    fn waits(&self) -> bool {
        self.alive && !self.pending.is_empty()
    }

    fn flush(&mut self, poller: &Poller, token: u64) {
        if self
            .outbound
            .flush(&mut self.stream, poller, token)
            .is_err()
        {
            self.end(poller);
        }
    }

    /// The connection is no more.
    fn end(&mut self, poller: &Poller) {
        self.alive = false;
        let _ = poller.remove(&self.stream);
    }
}

impl Bystanders {
    /// Opens both sessions; the first will ping `rate` times per second.
    pub fn open(target: SocketAddr, rate: f64) -> Result<Bystanders, Failure> {
        let quiet_gap_ns = QUIET_TIMEOUT_MS as u64 * 1_000_000 / QUIET_PINGS;
        let both = [
            Bystander::open(target, PINGER_TIMEOUT_MS, (1e9 / rate) as u64)?,
            Bystander::open(target, QUIET_TIMEOUT_MS, quiet_gap_ns)?,
        ];
        let what = || "preparing a connection".to_owned();
        let poller = Poller::new().context(what)?;
        for (token, bystander) in both.iter().enumerate() {
            bystander.stream.set_nonblocking(true).context(what)?;
            poller
                .add(&bystander.stream, token as u64, false)
                .context(what)?;
        }
        Ok(Bystanders {
            target,
            clock: Clock::start(),
            poller,
            both,
            latency: histogram(),
            due: histogram(),
            lag: histogram(),
            unanswered: 0,
        })
    }

    /// Pings through warm-up and measurement and waits for what is missing; then `stop` tells the others to
    /// stop, and the quiet session is looked for.
    pub fn run(
        mut self,
        warmup: Duration,
        measured: Duration,
        stop: &AtomicBool,
    ) -> Result<Fate, Failure> {
        sys::exact_timers();
        let ran_first = sys::run_first();
        let start_ns = self.clock.ns();
        let window = Window::after(start_ns, warmup, measured);
        for bystander in &mut self.both {
            bystander.next_ns = start_ns + bystander.gap_ns;
        }
        self.serve_until(window, |both, now| {
            now >= window.end_ns && (!both[0].waits() || now > window.end_ns + DRAIN_NS)
        })?;
        self.count_unanswered(window);
        stop.store(true, Ordering::Relaxed);
        // Only a server that has heard what the quiet session said can judge it.
        let stopped_ns = self.clock.ns();
        self.serve_until(window, |both, now| {
            !both[1].waits() || now > stopped_ns + DRAIN_NS
        })?;
        self.fate(ran_first)
    }

    fn serve_until(
        &mut self,
        window: Window,
        over: impl Fn(&[Bystander; 2], u64) -> bool,
    ) -> Result<(), Failure> {
        let mut ready: Vec<Ready> = Vec::new();
        let mut scratch = vec![0; 4096];
        loop {
            let now = self.clock.ns();
            // Before the end is looked for: a thread that slept through it owes pings that were due.
            let next_ns = self.send_due(now, window);
            if over(&self.both, now) {
                return Ok(());
            }
            let until_ns = next_ns.min(now + LOOK_NS);
            let timeout = Duration::from_nanos(until_ns.saturating_sub(self.clock.ns()));
            self.poller
                .wait(&mut ready, Some(timeout))
                .context(|| "waiting for answers".into())?;
            for event in &ready {
                self.advance(event, &mut scratch, window)?;
            }
        }
    }

    /// Sends the pings that are due; returns when the next one is. The pings at an even rate end with the
    /// window, the quiet session's do not.
    fn send_due(&mut self, now: u64, window: Window) -> u64 {
        let mut next_ns = u64::MAX;
        for (token, bystander) in self.both.iter_mut().enumerate() {
            let end_ns = if token == 0 { window.end_ns } else { u64::MAX };
            let mut sent = false;
            while bystander.alive && bystander.next_ns <= now && bystander.next_ns < end_ns {
                let due_ns = bystander.next_ns;
                let lag_ns = now - due_ns;
                if token == 0 && window.contains(due_ns) {
                    self.lag.saturating_record(lag_ns.max(1));
                }
                wire::ping(&mut bystander.outbound.buffer);
                bystander.pending.push_back(Ping { due_ns, lag_ns });
                bystander.next_ns += bystander.gap_ns;
                sent = true;
            }
            if sent {
                bystander.flush(&self.poller, token as u64);
            }
            if bystander.alive && bystander.next_ns < end_ns {
                next_ns = next_ns.min(bystander.next_ns);
            }
        }
        next_ns
    }

    fn advance(
        &mut self,
        event: &Ready,
        scratch: &mut [u8],
        window: Window,
    ) -> Result<(), Failure> {
        let bystander = &mut self.both[event.token as usize];
        if !bystander.alive {
            return Ok(());
        }
        if event.writable {
            bystander.flush(&self.poller, event.token);
        }
        if event.readable && bystander.alive {
            let n = match conn::receive(&mut bystander.stream, scratch) {
                Got::Bytes(n) => n,
                Got::Nothing => return Ok(()),
                Got::End => {
                    bystander.end(&self.poller);
                    return Ok(());
                }
            };
            let now = self.clock.ns();
            let (pending, counted) = (&mut bystander.pending, event.token == 0);
            let (latency, due) = (&mut self.latency, &mut self.due);
            bystander.inbound.feed(&scratch[..n], |payload| {
                let reply = Reply::parse(payload)?;
                let ping = pending.pop_front().filter(|_| reply.xid == PING_XID);
                let ping = ping.ok_or_else(|| {
                    Failure::Protocol(format!("an answer to {} that nobody sent", reply.xid))
                })?;
                if counted && window.contains(ping.due_ns) {
                    record(&ping, now, latency, due);
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    fn count_unanswered(&mut self, window: Window) {
        let now = self.clock.ns();
        for ping in &self.both[0].pending {
            if window.contains(ping.due_ns) {
                record(ping, now, &mut self.latency, &mut self.due);
                self.unanswered += 1;
            }
        }
    }

    fn fate(self, ran_first: bool) -> Result<Fate, Failure> {
        let [pinger, quiet] = &self.both;
        // A new connection takes the session over, so the one that it had is looked at first.
        let same = quiet.alive;
        let lives = control::lives(self.target, &quiet.session)?;
        Ok(Fate {
            latency: Latency::of(&self.latency),
            due: Latency::of(&self.due),
            lag: Latency::of(&self.lag),
            unanswered: self.unanswered,
            pinger_cut: !pinger.alive,
            quiet: match (lives, same) {
                (true, true) => Survival::Lives,
                (true, false) => Survival::Cut,
                (false, _) => Survival::Expired,
            },
            ran_first,
        })
    }
}

fn record(ping: &Ping, now: u64, latency: &mut Histogram<u64>, due: &mut Histogram<u64>) {
    let due_ns = now.saturating_sub(ping.due_ns);
    due.saturating_record(due_ns.max(1));
    latency.saturating_record(due_ns.saturating_sub(ping.lag_ns).max(1));
}
