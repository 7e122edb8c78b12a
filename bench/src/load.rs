//! A worker thread for get, set, create, multi and mix: its connections, one epoll, a closed or open loop.

use crate::conn::{self, Got, Inbound, Outbound, SCRATCH_BYTES};
use crate::failure::{Context, Failure};
use crate::plan::{Pace, Plan, Workload};
use crate::sys::{self, Poller, Ready};
use crate::tally::{Answered, Clock, Opening, Tally, Window};
use crate::wire::{self, REPLY_HEADER_BYTES, Reply, STAT_BYTES, code};
use std::collections::VecDeque;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long answers that are missing at the end are waited for.
const DRAIN_NS: u64 = 10_000_000_000;
/// Silence of this length with requests outstanding ends the run.
const STALL_NS: u64 = 30_000_000_000;
/// Connections that sent nothing for this long send a ping.
const IDLE_NS: u64 = 5_000_000_000;
/// The worker looks up at least this often.
const LOOK_NS: u64 = 200_000_000;
/// Operations of a multi: as many as `rk instructions` counts.
pub const MULTI_SETS: usize = 10;
/// Digits of a created node's name.
const NAME_DIGITS: usize = 10;

/// Where the run's nodes are.
#[derive(Clone, Debug)]
pub struct Places {
    /// The run's own node; everything else is below it.
    pub parent: String,
}

impl Places {
    /// A node that gets read and set.
    pub fn node(&self, at: usize) -> String {
        format!("{}/n{at}", self.parent)
    }

    /// The folder that a connection creates its nodes in.
    pub fn folder(&self, connection: usize) -> String {
        format!("{}/d{connection}", self.parent)
    }

    /// A node that a connection has created.
    pub fn created(&self, connection: usize, number: u64) -> String {
        format!("{}/{number:0NAME_DIGITS$}", self.folder(connection))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Read,
    Write,
}

struct Pending {
    xid: i32,
    kind: Kind,
    /// When it was handed to the connection; in an open loop when it should have been.
    start_ns: u64,
    /// How late the generator itself was with it.
    lag_ns: u64,
}

impl Pending {
    /// With an answer that came now.
    fn answered(&self, now: u64, zxid: i64) -> Answered {
        Answered {
            due_ns: self.start_ns,
            latency_ns: now - self.start_ns,
            lag_ns: self.lag_ns,
            zxid,
        }
    }
}

/// A connection and what is outstanding on it.
struct Lane {
    stream: TcpStream,
    inbound: Inbound,
    outbound: Outbound,
    pending: VecDeque<Pending>,
    requests: Requests,
    sent_ns: u64,
    alive: bool,
}

/// Makes a connection's requests from prepared frames.
struct Requests {
    workload: Workload,
    read: Vec<u8>,
    write: Vec<u8>,
    /// Where the digits of the next created node's name stand in `write`.
    name_at: usize,
    /// So many were created, or tried to be.
    created: u64,
    xid: i32,
    /// Decides what a mix takes next.
    dice: u64,
    read_body_bytes: usize,
    write_body_bytes: usize,
}

impl Requests {
    fn new(plan: &Plan, places: &Places, connection: usize) -> Requests {
        let data = vec![b'd'; plan.data_bytes];
        let node = places.node(connection % plan.nodes);
        let (mut read, mut write) = (Vec::new(), Vec::new());
        wire::get_data(&mut read, 0, &node, false);
        let created = places.created(connection, 0);
        let write_body_bytes = match plan.workload {
            Workload::Create => {
                wire::create(&mut write, 0, &created, &data);
                4 + created.len()
            }
            Workload::Multi => {
                wire::multi_of_sets(&mut write, 0, &node, &data, MULTI_SETS);
                wire::multi_of_sets_answer_bytes(MULTI_SETS)
            }
            _ => {
                wire::set_data(&mut write, 0, &node, &data);
                STAT_BYTES
            }
        };
        Requests {
            workload: plan.workload,
            read,
            write,
            name_at: wire::PATH_AT + created.len() - NAME_DIGITS,
            created: 0,
            xid: 0,
            dice: 0x9e37_79b9_7f4a_7c15
                ^ (connection as u64 + 1).wrapping_mul(0xbf58_476d_1ce4_e5b9),
            read_body_bytes: 4 + plan.data_bytes + STAT_BYTES,
            write_body_bytes,
        }
    }

    /// Appends the next request.
    fn next(&mut self, out: &mut Vec<u8>, start_ns: u64) -> Pending {
        let kind = match self.workload {
            Workload::Get => Kind::Read,
            Workload::Mix => match self.one_in_ten() {
                true => Kind::Write,
                false => Kind::Read,
            },
            _ => Kind::Write,
        };
        // Positive again after the last one.
        self.xid = self.xid.checked_add(1).unwrap_or(1);
        let frame = match kind {
            Kind::Read => &mut self.read,
            Kind::Write => &mut self.write,
        };
        wire::patch_xid(frame, self.xid);
        if self.workload == Workload::Create {
            let digits = &mut frame[self.name_at..self.name_at + NAME_DIGITS];
            let mut rest = self.created;
            for digit in digits.iter_mut().rev() {
                *digit = b'0' + (rest % 10) as u8;
                rest /= 10;
            }
            self.created += 1;
        }
        out.extend_from_slice(frame);
        Pending {
            xid: self.xid,
            kind,
            start_ns,
            lag_ns: 0,
        }
    }

    fn one_in_ten(&mut self) -> bool {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        self.dice.is_multiple_of(10)
    }

    fn body_bytes(&self, kind: Kind) -> usize {
        match kind {
            Kind::Read => self.read_body_bytes,
            Kind::Write => self.write_body_bytes,
        }
    }
}

/// The intended instants of an open loop, evenly spaced.
struct Schedule {
    first_ns: u64,
    gap_ns: f64,
    sent: u64,
    end_ns: u64,
}

impl Schedule {
    /// The next request's intended start, until the end.
    fn next(&self) -> Option<u64> {
        let next = self.first_ns + (self.sent as f64 * self.gap_ns) as u64;
        (next < self.end_ns).then_some(next)
    }
}

/// What a worker hands back.
pub struct Done {
    /// Its counts.
    pub tally: Tally,
    /// Its connections, to be closed, with the number of nodes that each has created.
    pub streams: Vec<(TcpStream, u64)>,
}

/// One thread's share of a run.
pub struct Worker {
    clock: Clock,
    window: Window,
    poller: Poller,
    lanes: Vec<Lane>,
    /// Requests outstanding per connection, at most.
    depth: usize,
    schedule: Option<Schedule>,
    /// Where the open loop goes on.
    cursor: usize,
    /// Every window of the open loop is full: what is late now is late because of the server.
    full: bool,
    /// When an answer has made room again.
    freed_ns: u64,
    tally: Tally,
    /// Of the servers; only the first worker looks at them.
    sampling: Option<Vec<u32>>,
    heard_ns: u64,
    outstanding: u64,
    /// Once it is set, the run is over before its time.
    enough: Option<Arc<AtomicBool>>,
    measuring: bool,
    over: bool,
    /// What requests are taken for that could not even be sent.
    unsent_kind: Kind,
}

impl Worker {
    /// Takes connections with their numbers; `share` says which worker of how many it is.
    pub fn new(
        plan: &Plan,
        places: &Places,
        streams: Vec<(usize, TcpStream)>,
        (clock, window): (Clock, Window),
        (number, of): (usize, usize),
    ) -> Result<Worker, Failure> {
        let poller = Poller::new().context(|| "making an epoll".into())?;
        let start_ns = clock.ns();
        let mut lanes = Vec::with_capacity(streams.len());
        for (connection, stream) in streams {
            stream
                .set_nonblocking(true)
                .and_then(|()| poller.add(&stream, lanes.len() as u64, false))
                .context(|| "preparing a connection".into())?;
            lanes.push(Lane {
                stream,
                inbound: Inbound::default(),
                outbound: Outbound::default(),
                pending: VecDeque::new(),
                requests: Requests::new(plan, places, connection),
                sent_ns: start_ns,
                alive: true,
            });
        }
        let (depth, schedule) = match plan.pace {
            Pace::Closed { window } => (window, None),
            Pace::Open {
                rate,
                outstanding_max,
            } => {
                let gap_ns = 1e9 * of as f64 / rate;
                let first_ns = start_ns + (gap_ns * number as f64 / of as f64) as u64;
                let schedule = Schedule {
                    first_ns,
                    gap_ns,
                    sent: 0,
                    end_ns: window.end_ns,
                };
                (outstanding_max, Some(schedule))
            }
        };
        Ok(Worker {
            clock,
            window,
            poller,
            lanes,
            depth,
            schedule,
            cursor: 0,
            full: false,
            freed_ns: 0,
            tally: Tally::default(),
            sampling: (number == 0).then(|| plan.pids.clone()),
            heard_ns: start_ns,
            outstanding: 0,
            enough: None,
            measuring: false,
            over: false,
            unsent_kind: match plan.workload {
                Workload::Get | Workload::Mix => Kind::Read,
                _ => Kind::Write,
            },
        })
    }

    /// Keeps every request of the open loop, and ends before its time once the flag is set.
    pub fn tracing(mut self, enough: Arc<AtomicBool>) -> Worker {
        self.tally.answered = Some(Vec::new());
        self.enough = Some(enough);
        self
    }

    /// The run is over now if somebody has said so.
    fn end_early(&mut self, now: u64) {
        let is_enough = |flag: &Arc<AtomicBool>| flag.load(Ordering::Relaxed);
        if now < self.window.end_ns && self.enough.as_ref().is_some_and(is_enough) {
            self.window.end_ns = now;
            if let Some(schedule) = &mut self.schedule {
                schedule.end_ns = now;
            }
        }
    }

    /// Runs to the end.
    pub fn run(mut self) -> Result<Done, Failure> {
        sys::exact_timers();
        let mut scratch = vec![0; SCRATCH_BYTES];
        let mut ready: Vec<Ready> = Vec::new();
        let mut began = None;
        let mut ping_ns = self.clock.ns() + IDLE_NS / 2;
        if self.schedule.is_none() {
            self.fill_windows();
        }
        loop {
            let now = self.clock.ns();
            self.end_early(now);
            if began.is_none() && now >= self.window.begin_ns {
                began = Some(Opening::take(self.sampling.as_deref(), self.clock));
                self.measuring = true;
            }
            if let Some(begin) = &began
                && !self.over
                && now >= self.window.end_ns
            {
                self.over = true;
                self.measuring = false;
                let pids = self.sampling.as_deref();
                self.tally.close_window(begin, pids, self.clock);
            }
            // Before the end is looked for: a worker that slept through it owes requests that were due.
            let due_ns = self.send_due(now);
            if self.over && (self.outstanding == 0 || now > self.window.end_ns + DRAIN_NS) {
                break;
            }
            if self.lanes.iter().all(|lane| !lane.alive) {
                let lost = self.tally.errors.get(&code::CONNECTION_LOSS);
                return Err(Failure::AllLost(lost.copied().unwrap_or(0)));
            }
            if self.outstanding > 0 && now > self.heard_ns + STALL_NS {
                return Err(Failure::Stalled(STALL_NS / 1_000_000_000));
            }
            if now >= ping_ns {
                self.ping_idle(now);
                ping_ns = now + IDLE_NS / 2;
            }
            let boundary_ns = match (self.measuring, self.over) {
                (_, true) => u64::MAX,
                (true, _) => self.window.end_ns,
                (false, _) => self.window.begin_ns,
            };
            let until_ns = (now + LOOK_NS).min(boundary_ns).min(due_ns);
            let timeout = Duration::from_nanos(until_ns.saturating_sub(self.clock.ns()));
            self.poller
                .wait(&mut ready, Some(timeout))
                .context(|| "waiting for answers".into())?;
            for event in &ready {
                let at = event.token as usize;
                if event.readable {
                    self.read(at, &mut scratch)?;
                }
                if event.writable {
                    self.flush(at);
                }
            }
        }
        self.count_unfinished();
        Ok(Done {
            tally: self.tally,
            streams: self
                .lanes
                .into_iter()
                .map(|lane| (lane.stream, lane.requests.created))
                .collect(),
        })
    }

    /// The closed loop's beginning.
    fn fill_windows(&mut self) {
        for at in 0..self.lanes.len() {
            let now = self.clock.ns();
            for _ in 0..self.depth {
                self.issue(at, now, 0);
            }
            self.flush(at);
        }
    }

    fn issue(&mut self, at: usize, start_ns: u64, lag_ns: u64) {
        if self.outstanding == 0 {
            // Silence begins with a question.
            self.heard_ns = self.clock.ns();
        }
        let lane = &mut self.lanes[at];
        let pending = lane.requests.next(&mut lane.outbound.buffer, start_ns);
        lane.pending.push_back(Pending { lag_ns, ..pending });
        self.outstanding += 1;
    }

    /// Sends what an open loop should have sent by now; returns when the next one is due.
    fn send_due(&mut self, now: u64) -> u64 {
        let mut touched = Vec::new();
        let due_ns = loop {
            let Some(intended) = self.schedule.as_ref().and_then(Schedule::next) else {
                break u64::MAX;
            };
            if intended > now {
                break intended;
            }
            // With every window full it waits for an answer, and its waiting counts.
            let Some(at) = self.free_lane() else {
                self.full = true;
                break u64::MAX;
            };
            let lag_ns = own_lag_ns(now, intended, self.freed_ns);
            self.issue(at, intended, lag_ns);
            touched.push(at);
            if let Some(schedule) = &mut self.schedule {
                schedule.sent += 1;
            }
            if self.window.contains(intended) {
                self.tally.lag.saturating_record(lag_ns.max(1));
            }
        };
        touched.sort_unstable();
        touched.dedup();
        for at in touched {
            self.flush(at);
        }
        due_ns
    }

    fn free_lane(&mut self) -> Option<usize> {
        for _ in 0..self.lanes.len() {
            let at = self.cursor;
            self.cursor = (self.cursor + 1) % self.lanes.len();
            let lane = &self.lanes[at];
            if lane.alive && lane.pending.len() < self.depth {
                return Some(at);
            }
        }
        None
    }

    fn ping_idle(&mut self, now: u64) {
        for at in 0..self.lanes.len() {
            let lane = &mut self.lanes[at];
            if lane.alive && now > lane.sent_ns + IDLE_NS {
                wire::ping(&mut lane.outbound.buffer);
                self.flush(at);
            }
        }
    }

    fn flush(&mut self, at: usize) {
        let now = self.clock.ns();
        let lane = &mut self.lanes[at];
        if !lane.alive {
            return;
        }
        lane.sent_ns = now;
        let flushed = lane
            .outbound
            .flush(&mut lane.stream, &self.poller, at as u64);
        if flushed.is_err() {
            self.lose(at);
        }
    }

    fn read(&mut self, at: usize, scratch: &mut [u8]) -> Result<(), Failure> {
        let lane = &mut self.lanes[at];
        if !lane.alive {
            return Ok(());
        }
        let n = match conn::receive(&mut lane.stream, scratch) {
            Got::Bytes(n) => n,
            Got::Nothing => return Ok(()),
            Got::End => {
                self.lose(at);
                return Ok(());
            }
        };
        let now = self.clock.ns();
        self.heard_ns = now;
        if std::mem::take(&mut self.full) {
            self.freed_ns = now;
        }
        let again = self.schedule.is_none() && !self.over;
        let (tally, outstanding) = (&mut self.tally, &mut self.outstanding);
        let (pending, requests) = (&mut lane.pending, &mut lane.requests);
        let out = &mut lane.outbound.buffer;
        let (measuring, window, open) = (self.measuring, self.window, self.schedule.is_some());
        lane.inbound.feed(&scratch[..n], |payload| {
            let reply = Reply::parse(payload)?;
            if reply.xid < 0 {
                return Ok(());
            }
            let done = matching(pending, requests, &reply)?;
            *outstanding -= 1;
            match (reply.err, done.kind) {
                (0, Kind::Write) => tally.transactions += 1,
                (0, Kind::Read) => {}
                (code, _) => tally.error(code, 1),
            }
            if reply.err == 0 {
                tally.completed += u64::from(measuring);
                if measuring && !open || open && window.contains(done.start_ns) {
                    let latencies = match done.kind {
                        Kind::Read => &mut tally.reads,
                        Kind::Write => &mut tally.writes,
                    };
                    let latency_ns = now - done.start_ns;
                    latencies.saturating_record(latency_ns.max(1));
                    if open {
                        let answered = done.answered(now, reply.zxid);
                        tally
                            .less_lag
                            .saturating_record(answered.served_ns().max(1));
                        tally.keep(answered);
                    }
                }
            }
            if again {
                pending.push_back(requests.next(out, now));
                *outstanding += 1;
            }
            Ok(())
        })?;
        if !lane.outbound.is_empty() {
            self.flush(at);
        }
        Ok(())
    }

    fn lose(&mut self, at: usize) {
        let lane = &mut self.lanes[at];
        lane.alive = false;
        let lost = lane.pending.len() as u64;
        lane.pending.clear();
        self.outstanding -= lost;
        self.tally.error(code::CONNECTION_LOSS, lost);
        self.tally.lost_connections += 1;
        let _ = self.poller.remove(&lane.stream);
    }

    /// An open loop counts those too, as late as they are by now: leaving them out would flatter.
    fn count_unfinished(&mut self) {
        let now = self.clock.ns();
        for pending in self.lanes.iter().flat_map(|lane| &lane.pending) {
            self.tally.unfinished += 1;
            if self.schedule.is_some() && self.window.contains(pending.start_ns) {
                let latencies = match pending.kind {
                    Kind::Read => &mut self.tally.reads,
                    Kind::Write => &mut self.tally.writes,
                };
                let latency_ns = now - pending.start_ns;
                latencies.saturating_record(latency_ns.max(1));
                let answered = pending.answered(now, 0);
                self.tally
                    .less_lag
                    .saturating_record(answered.served_ns().max(1));
                self.tally.keep(answered);
            }
        }
        while let Some(schedule) = &mut self.schedule
            && let Some(intended) = schedule.next()
        {
            schedule.sent += 1;
            self.tally.unfinished += 1;
            if self.window.contains(intended) {
                let latencies = match self.unsent_kind {
                    Kind::Read => &mut self.tally.reads,
                    Kind::Write => &mut self.tally.writes,
                };
                latencies.saturating_record((now - intended).max(1));
                self.tally
                    .less_lag
                    .saturating_record((now - intended).max(1));
            }
        }
    }
}

/// How much later a request leaves than it could have: it was due at `intended`, and there was room for
/// it from `freed_ns` on. Waiting for room is the server's doing.
fn own_lag_ns(now: u64, intended: u64, freed_ns: u64) -> u64 {
    now.saturating_sub(intended.max(freed_ns))
}

/// The request that an answer belongs to. Answers come in order, and whole.
fn matching(
    pending: &mut VecDeque<Pending>,
    requests: &Requests,
    reply: &Reply,
) -> Result<Pending, Failure> {
    let done = pending
        .pop_front()
        .filter(|pending| pending.xid == reply.xid)
        .ok_or_else(|| {
            Failure::Protocol(format!(
                "an answer to request {} is out of order",
                reply.xid
            ))
        })?;
    let expected = if reply.err == 0 {
        requests.body_bytes(done.kind)
    } else {
        0
    };
    if reply.body.len() != expected {
        return Err(Failure::Protocol(format!(
            "an answer with code {} is {} bytes long, not {}",
            reply.err,
            reply.body.len() + REPLY_HEADER_BYTES,
            expected + REPLY_HEADER_BYTES
        )));
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prepared_frames_are_patched_in_place() {
        let mut plan = Plan::new(Workload::Create, "127.0.0.1:1".parse().unwrap(), 1, 1);
        plan.data_bytes = 3;
        let places = Places {
            parent: "/p".into(),
        };
        let mut requests = Requests::new(&plan, &places, 7);
        let mut ours = Vec::new();
        for _ in 0..12 {
            ours.clear();
            requests.next(&mut ours, 0);
        }
        let mut whole = Vec::new();
        wire::create(&mut whole, 12, "/p/d7/0000000011", b"ddd");
        assert_eq!(ours, whole);
        assert_eq!(
            requests.body_bytes(Kind::Write),
            4 + "/p/d7/0000000011".len()
        );
    }

    #[test]
    fn a_mix_is_nine_to_one() {
        let plan = Plan::new(Workload::Mix, "127.0.0.1:1".parse().unwrap(), 1, 1);
        let places = Places {
            parent: "/p".into(),
        };
        let mut requests = Requests::new(&plan, &places, 0);
        let mut out = Vec::new();
        let writes = (0..10_000)
            .filter(|_| {
                out.clear();
                requests.next(&mut out, 0).kind == Kind::Write
            })
            .count();
        assert!((900..1_100).contains(&writes), "{writes}");
    }

    #[test]
    fn waiting_for_room_is_not_the_generators_lag() {
        assert_eq!(own_lag_ns(100, 70, 0), 30, "there was room all the time");
        assert_eq!(own_lag_ns(100, 70, 90), 10, "full until 90");
        assert_eq!(own_lag_ns(100, 100, 90), 0, "on time");
    }

    #[test]
    fn a_schedule_is_even_and_ends() {
        let mut schedule = Schedule {
            first_ns: 10,
            gap_ns: 2.5,
            sent: 0,
            end_ns: 20,
        };
        let mut seen = Vec::new();
        while let Some(next) = schedule.next() {
            seen.push(next);
            schedule.sent += 1;
        }
        assert_eq!(seen, [10, 12, 15, 17]);
    }
}
