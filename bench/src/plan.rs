//! What a run is to do, resolved: nothing here is a raw argument any more.

use crate::failure::Failure;
use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

/// What the load consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Workload {
    /// getData.
    Get,
    /// setData.
    Set,
    /// create of persistent nodes.
    Create,
    /// multi of ten setData on one node.
    Multi,
    /// Nine getData to one setData.
    Mix,
    /// Connect, get a session, close it, again.
    Connect,
    /// Watchers re-arm a data watch on one node that a writer sets.
    Watch,
}

impl Workload {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Workload::Get => "get",
            Workload::Set => "set",
            Workload::Create => "create",
            Workload::Multi => "multi",
            Workload::Mix => "mix",
            Workload::Connect => "connect",
            Workload::Watch => "watch",
        }
    }

    /// Whether its operations go through the server's log.
    pub fn writes(self) -> bool {
        use Workload::{Create, Mix, Multi, Set};
        matches!(self, Set | Create | Multi | Mix)
    }
}

/// Who decides when a request is sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// The answers: so many requests are outstanding on each connection, always.
    Closed {
        /// Per connection.
        window: usize,
    },
    /// The clock: latency counts from when a request should have been sent.
    Open {
        /// Requests per second over all connections.
        rate: f64,
        /// Per connection; what exceeds it waits, and its waiting is part of its latency.
        outstanding_max: usize,
    },
}

/// Outstanding requests per connection of an open loop, unless told.
pub const OPEN_OUTSTANDING_MAX: usize = 1024;

/// A run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What.
    pub workload: Workload,
    /// Connection `i` goes to the `i`th of them, round and round.
    pub targets: Vec<SocketAddr>,
    /// Connections; with `watch` the watchers.
    pub connections: usize,
    /// When.
    pub pace: Pace,
    /// Of a node's data.
    pub data_bytes: usize,
    /// Nodes that get, set, multi and mix are spread over.
    pub nodes: usize,
    /// What is measured.
    pub measured: Duration,
    /// What goes before it.
    pub warmup: Duration,
    /// Threads that generate load.
    pub threads: usize,
    /// The CPU of the first thread; the others take the following ones.
    pub pin: Option<usize>,
    /// The servers' processes on this machine.
    pub pids: Vec<u32>,
    /// Path that everything is put below; empty = the root.
    pub chroot: String,
    /// Writes a line to stderr at each stage.
    pub progress: bool,
}

impl Plan {
    /// A run against one local server with the usual lengths.
    pub fn new(workload: Workload, target: SocketAddr, connections: usize, window: usize) -> Plan {
        Plan {
            workload,
            targets: vec![target],
            connections,
            pace: Pace::Closed { window },
            data_bytes: DATA_BYTES,
            nodes: connections.min(NODES_MAX),
            measured: Duration::from_secs(5),
            warmup: Duration::from_secs(1),
            threads: 1,
            pin: None,
            pids: Vec::new(),
            chroot: String::new(),
            progress: false,
        }
    }

    /// Progress for whoever waits.
    pub fn say(&self, what: &str) {
        if self.progress {
            eprintln!("{self}: {what}");
        }
    }

    /// Says no to what makes no sense together.
    pub fn check(&self) -> Result<(), Failure> {
        let no = |sentence: &str| Err(Failure::Usage(sentence.to_owned()));
        let rounds = matches!(self.workload, Workload::Connect | Workload::Watch);
        if self.connections == 0 || self.threads == 0 || self.nodes == 0 {
            return no("connections, threads and nodes are at least 1");
        }
        if self.threads > self.connections {
            return no("there are fewer connections than threads: lower --threads");
        }
        if self.measured.is_zero() {
            return no("--seconds is more than 0");
        }
        if self.data_bytes > 1_000_000 {
            return no("--size is at most 1000000: servers refuse larger nodes");
        }
        if !(self.chroot.is_empty() || self.chroot.starts_with('/') && !self.chroot.ends_with('/'))
        {
            return no("--chroot is a path like /a/b");
        }
        match self.pace {
            Pace::Closed { window: 0 } => no("-w is at least 1"),
            Pace::Closed { window } if rounds && window > 1 => {
                no("connect and watch have one thing outstanding per connection: leave -w out")
            }
            Pace::Open { .. } if rounds => {
                no("connect and watch go as fast as they can: leave --rate out")
            }
            Pace::Open { rate, .. } if !(rate.is_finite() && rate > 0.0) => {
                no("--rate is more than 0")
            }
            Pace::Open {
                outstanding_max: 0, ..
            } => no("-w is at least 1"),
            _ if self.workload == Workload::Watch && self.threads > 1 => {
                no("watch has one thread: leave --threads out")
            }
            _ => Ok(()),
        }
    }
}

/// A number of seconds as the command line gives it.
pub fn seconds(text: &str) -> Result<Duration, String> {
    let number: Option<f64> = text.parse().ok();
    number
        .and_then(|number| Duration::try_from_secs_f64(number).ok())
        .ok_or_else(|| format!("{text} is no number of seconds"))
}

/// Of a node's data, unless told.
pub const DATA_BYTES: usize = 100;

/// Nodes that are made unless told.
pub const NODES_MAX: usize = 1024;

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, connections) = (self.workload.name(), self.connections);
        match (self.workload, self.pace) {
            (Workload::Connect, _) => write!(f, "connect, {connections} at once"),
            (Workload::Watch, _) => write!(f, "watch, {connections} watchers"),
            (_, Pace::Closed { window }) => write!(f, "{name} {connections}x{window}"),
            (_, Pace::Open { rate, .. }) => {
                write!(f, "{name} open loop {rate:.0}/s on {connections}")
            }
        }
    }
}

/// The first address of `HOST:PORT`, IPv4 if there is one.
pub fn resolve(text: &str) -> Result<SocketAddr, Failure> {
    let wrong = || Failure::Target(text.to_owned());
    let mut found: Vec<SocketAddr> = text.to_socket_addrs().map_err(|_| wrong())?.collect();
    found.sort_by_key(|address| address.is_ipv6());
    found.first().copied().ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_may_have_a_fraction_and_no_sign() {
        assert_eq!(seconds("1.5"), Ok(Duration::from_millis(1_500)));
        for text in ["-1", "nan", "inf", "one", ""] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_makes_no_sense_together_is_said_so() {
        let plan = |change: &dyn Fn(&mut Plan)| {
            let mut plan = Plan::new(Workload::Get, "127.0.0.1:1".parse().unwrap(), 4, 1);
            change(&mut plan);
            plan.check().map_err(|e| e.to_string())
        };
        assert_eq!(plan(&|_| {}), Ok(()));
        let refused: [&dyn Fn(&mut Plan); 6] = [
            &|p| p.connections = 0,
            &|p| p.threads = 5,
            &|p| p.pace = Pace::Closed { window: 0 },
            &|p| p.chroot = "/a/".into(),
            &|p| {
                p.workload = Workload::Connect;
                p.pace = Pace::Closed { window: 2 };
            },
            &|p| {
                p.pace = Pace::Open {
                    rate: f64::NAN,
                    outstanding_max: 1,
                }
            },
        ];
        for (at, change) in refused.into_iter().enumerate() {
            assert!(plan(change).is_err(), "row {at}");
        }
    }
}
