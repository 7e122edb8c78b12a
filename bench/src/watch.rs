//! The watch fan-out: a writer sets one node, every watcher gets the event and arms its watch again;
//! when all have, the next round begins. A delivery's latency counts from when the set was sent.

use crate::conn::{self, Got, Inbound, Outbound, SCRATCH_BYTES};
use crate::control;
use crate::failure::{Context, Failure};
use crate::load::Places;
use crate::machine;
use crate::plan::Plan;
use crate::sys::{self, Poller, Ready};
use crate::tally::{Clock, Opening, Tally, Window};
use crate::wire::{self, EVENT_XID, Reply};
use std::net::TcpStream;
use std::time::Duration;

/// What is missing from a round after this long is lost.
const ROUND_NS_MAX: u64 = 10_000_000_000;
/// Watchers that arm at once before the first round: more is a burst that measures nothing.
const ARMING: usize = 512;

struct Watcher {
    stream: TcpStream,
    inbound: Inbound,
    outbound: Outbound,
    xid: i32,
    armed: bool,
    /// The round's event has not come yet.
    owed: bool,
    alive: bool,
}

struct Fan {
    clock: Clock,
    poller: Poller,
    /// The last one is the writer.
    connections: Vec<Watcher>,
    get: Vec<u8>,
    set: Vec<u8>,
    tally: Tally,
    round: Round,
}

/// What a round waits for.
#[derive(Default)]
struct Round {
    set_ns: u64,
    events_left: usize,
    arms_left: usize,
    set_left: usize,
    /// Whether its deliveries are counted.
    counted: bool,
}

impl Round {
    fn is_complete(&self) -> bool {
        self.events_left + self.arms_left + self.set_left == 0
    }
}

/// Opens the connections and runs rounds until the time is over; the last one is finished.
pub fn run(plan: &Plan, places: &Places) -> Result<Tally, Failure> {
    plan.say("connecting");
    let streams = control::open(&plan.targets, plan.connections + 1)?;
    // Pinned like any worker, in a thread of its own so that the caller stays free.
    let (mut tally, streams) = std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            machine::pin(plan.pin)?;
            let mut fan = Fan::new(plan, places, streams)?;
            plan.say("arming");
            fan.arm_all()?;
            plan.say("warming up and measuring");
            fan.rounds(plan)?;
            let streams: Vec<TcpStream> = fan.connections.into_iter().map(|w| w.stream).collect();
            Ok((fan.tally, streams))
        });
        let lost = || Failure::Protocol("the worker thread panicked".into());
        worker.join().unwrap_or_else(|_| Err(lost()))
    })?;
    plan.say("closing");
    tally.transactions += 2 * streams.len() as u64;
    control::close(streams);
    Ok(tally)
}

impl Fan {
    fn new(plan: &Plan, places: &Places, streams: Vec<TcpStream>) -> Result<Fan, Failure> {
        sys::exact_timers();
        let poller = Poller::new().context(|| "making an epoll".into())?;
        let mut connections = Vec::with_capacity(streams.len());
        for stream in streams {
            stream
                .set_nonblocking(true)
                .and_then(|()| poller.add(&stream, connections.len() as u64, false))
                .context(|| "preparing a connection".into())?;
            connections.push(Watcher {
                stream,
                inbound: Inbound::default(),
                outbound: Outbound::default(),
                xid: 0,
                armed: false,
                owed: false,
                alive: true,
            });
        }
        let (mut get, mut set) = (Vec::new(), Vec::new());
        wire::get_data(&mut get, 0, &places.node(0), true);
        wire::set_data(&mut set, 0, &places.node(0), &vec![b'd'; plan.data_bytes]);
        Ok(Fan {
            clock: Clock::start(),
            poller,
            connections,
            get,
            set,
            tally: Tally::default(),
            round: Round::default(),
        })
    }

    fn watchers(&self) -> usize {
        self.connections.len() - 1
    }

    /// The first arming, some at a time.
    fn arm_all(&mut self) -> Result<(), Failure> {
        let mut scratch = vec![0; SCRATCH_BYTES];
        for from in (0..self.watchers()).step_by(ARMING) {
            let to = self.watchers().min(from + ARMING);
            self.round = Round {
                set_ns: self.clock.ns(),
                arms_left: to - from,
                ..Round::default()
            };
            for at in from..to {
                self.send_get(at);
            }
            self.finish_round(&mut scratch)?;
        }
        Ok(())
    }

    fn rounds(&mut self, plan: &Plan) -> Result<(), Failure> {
        let mut scratch = vec![0; SCRATCH_BYTES];
        let window = Window::after(self.clock.ns(), plan.warmup, plan.measured);
        let mut began = None;
        loop {
            let now = self.clock.ns();
            if began.is_none() && now >= window.begin_ns {
                began = Some(Opening::take(Some(&plan.pids), self.clock));
            }
            if let Some(begin) = &began
                && now >= window.end_ns
            {
                let pids = Some(plan.pids.as_slice());
                self.tally.close_window(begin, pids, self.clock);
                return Ok(());
            }
            let mut armed = 0;
            for watcher in self.connections.iter_mut().filter(|w| w.armed) {
                watcher.armed = false;
                watcher.owed = true;
                armed += 1;
            }
            if armed == 0 {
                return Err(Failure::AllLost(self.watchers() as u64));
            }
            let writer = self.watchers();
            let start_ns = self.clock.ns();
            self.round = Round {
                set_ns: start_ns,
                events_left: armed,
                arms_left: armed,
                set_left: 1,
                counted: began.is_some(),
            };
            let Watcher { xid, outbound, .. } = &mut self.connections[writer];
            *xid += 1;
            wire::patch_xid(&mut self.set, *xid);
            outbound.buffer.extend_from_slice(&self.set);
            self.flush(writer);
            self.finish_round(&mut scratch)?;
        }
    }

    /// Until everybody has the event and is armed again; who lost it is armed anew.
    fn finish_round(&mut self, scratch: &mut [u8]) -> Result<(), Failure> {
        let mut ready: Vec<Ready> = Vec::new();
        while !self.round.is_complete() {
            if self.clock.ns() > self.round.set_ns + ROUND_NS_MAX {
                self.give_up_events()?;
            }
            self.poller
                .wait(&mut ready, Some(Duration::from_millis(100)))
                .context(|| "waiting for events".into())?;
            for event in &ready {
                let at = event.token as usize;
                if event.readable {
                    self.read(at, scratch)?;
                }
                if event.writable {
                    self.flush(at);
                }
            }
        }
        Ok(())
    }

    /// Who has got no event by now is counted and armed anew.
    fn give_up_events(&mut self) -> Result<(), Failure> {
        if self.round.events_left == 0 || self.round.set_left > 0 {
            return Err(Failure::Stalled(ROUND_NS_MAX / 1_000_000_000));
        }
        self.tally.missing += self.round.events_left as u64;
        self.round.events_left = 0;
        self.round.set_ns = self.clock.ns();
        for at in 0..self.watchers() {
            if self.connections[at].owed {
                self.connections[at].owed = false;
                self.send_get(at);
            }
        }
        Ok(())
    }

    fn send_get(&mut self, at: usize) {
        let watcher = &mut self.connections[at];
        watcher.xid += 1;
        wire::patch_xid(&mut self.get, watcher.xid);
        watcher.outbound.buffer.extend_from_slice(&self.get);
        self.flush(at);
    }

    fn flush(&mut self, at: usize) {
        let watcher = &mut self.connections[at];
        if watcher.alive {
            // A broken connection shows up as readable too.
            let _ = watcher
                .outbound
                .flush(&mut watcher.stream, &self.poller, at as u64);
        }
    }

    fn read(&mut self, at: usize, scratch: &mut [u8]) -> Result<(), Failure> {
        let writer = at == self.watchers();
        let watcher = &mut self.connections[at];
        let n = match conn::receive(&mut watcher.stream, scratch) {
            Got::Bytes(n) => n,
            Got::Nothing => return Ok(()),
            Got::End => return self.lose(at),
        };
        let now = self.clock.ns();
        let (round, tally) = (&mut self.round, &mut self.tally);
        let (xid, armed, owed) = (watcher.xid, &mut watcher.armed, &mut watcher.owed);
        let mut again = false;
        watcher.inbound.feed(&scratch[..n], |payload| {
            let reply = Reply::parse(payload)?;
            if reply.xid == EVENT_XID {
                if !*owed {
                    tally.surplus += 1;
                    return Ok(());
                }
                *owed = false;
                round.events_left -= 1;
                again = true;
                if round.counted {
                    tally.completed += 1;
                    tally.reads.saturating_record((now - round.set_ns).max(1));
                }
                return Ok(());
            }
            if reply.xid != xid {
                return Err(Failure::Protocol(format!(
                    "an answer to request {} is out of order",
                    reply.xid
                )));
            }
            if reply.err != 0 {
                return Err(Failure::Setup {
                    what: if writer {
                        "setting the node"
                    } else {
                        "arming a watch"
                    }
                    .into(),
                    code: reply.err,
                });
            }
            if writer {
                tally.transactions += 1;
                round.set_left = 0;
            } else {
                *armed = true;
                round.arms_left = round.arms_left.saturating_sub(1);
            }
            Ok(())
        })?;
        if again {
            self.send_get(at);
        }
        Ok(())
    }

    fn lose(&mut self, at: usize) -> Result<(), Failure> {
        let is_writer = at == self.watchers();
        let watcher = &mut self.connections[at];
        if !watcher.alive {
            return Ok(());
        }
        watcher.alive = false;
        let _ = self.poller.remove(&watcher.stream);
        self.tally.lost_connections += 1;
        if is_writer {
            return Err(Failure::AllLost(1));
        }
        if watcher.owed {
            watcher.owed = false;
            self.round.events_left -= 1;
            self.tally.missing += 1;
        }
        if !watcher.armed {
            self.round.arms_left = self.round.arms_left.saturating_sub(1);
        }
        watcher.armed = false;
        Ok(())
    }
}
