//! What the machine allows: the stub behind the same generator, the device's sync, an echo.

use crate::failure::{Context, Failure};
use crate::machine;
use crate::outcome::{Latency, OTHERS_MAX, Outcome, figure};
use crate::plan::{self, Plan, Workload};
use crate::procfs;
use crate::run;
use crate::segment::{SEGMENT_BYTES, Segment};
use crate::servers::Server;
use crate::sys;
use crate::tally::{Clock, histogram};
use clap::Args;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

/// The floor's arguments.
#[derive(Args)]
pub struct FloorArgs {
    /// Where syncing is measured: on the device that the server's log will be on.
    #[arg(long, default_value = ".", value_name = "DIR")]
    dir: PathBuf,
    /// How long each row is measured, s.
    #[arg(long, default_value = "3", value_parser = plan::seconds)]
    seconds: Duration,
    /// Bytes of each write that is synced.
    #[arg(long, default_value_t = PAGE_BYTES, value_name = "N")]
    bytes: usize,
    /// Leave the generator free instead of keeping it on the last CPU.
    #[arg(long)]
    unpinned: bool,
    /// One line of JSON in place of the tables.
    #[arg(long)]
    json: bool,
}

/// The stub's rows: workload, connections, window.
const ROWS: [(Workload, usize, usize); 9] = [
    (Workload::Set, 1, 1),
    (Workload::Set, 64, 1),
    (Workload::Set, 256, 1),
    (Workload::Set, 16, 64),
    (Workload::Get, 1, 1),
    (Workload::Get, 64, 1),
    (Workload::Get, 256, 1),
    (Workload::Get, 16, 64),
    (Workload::Connect, 16, 1),
];
/// What an echo carries, bytes.
const ECHO_BYTES: usize = 100;
/// Bytes of each write of the floor that servers are held against: one page.
pub const PAGE_BYTES: usize = 4096;

/// Latencies of a thing done one at a time.
#[derive(Clone, Copy, Debug)]
pub struct Floor {
    /// How long each took.
    pub latency: Latency,
    /// How many there were per second.
    pub rate: f64,
    /// The other side's CPU for each, µs, if there is one.
    pub server_cpu_us: Option<f64>,
    /// Share of the machine that other processes used meanwhile.
    pub others: f64,
}

impl Floor {
    /// For files.
    pub fn json(&self) -> Value {
        json!({
            "p50_us": self.latency.p50, "p99_us": self.latency.p99, "p99.9_us": self.latency.p999,
            "per_s": self.rate.round(), "server_cpu_us": self.server_cpu_us,
            "others_share": self.others,
        })
    }

    /// For people.
    pub fn text(&self) -> String {
        let cpu = self.server_cpu_us.map_or(String::new(), |us| {
            format!(", server {} µs CPU each", figure(us))
        });
        // Whoever wakes up on a busy CPU waits for its next tick.
        let noise = match self.others > OTHERS_MAX {
            true => format!(
                " (too high: other processes used {:.0} % of the machine; stop them and measure again)",
                self.others * 100.0
            ),
            false => String::new(),
        };
        format!(
            "p50 {} µs, p99 {} µs, p99.9 {} µs, {}/s{cpu}{noise}",
            figure(self.latency.p50),
            figure(self.latency.p99),
            figure(self.latency.p999),
            figure(self.rate),
        )
    }
}

/// Measures and prints all three.
pub fn main(args: &FloorArgs) -> Result<bool, Failure> {
    let measured = args.seconds;
    if !(1..=SEGMENT_BYTES).contains(&args.bytes) {
        return Err(Failure::Usage(format!("--bytes is 1 to {SEGMENT_BYTES}")));
    }
    let pin = if args.unpinned {
        None
    } else {
        machine::default_pin()
    };
    eprintln!("sync: {} B at a time", args.bytes);
    let sync = syncing(&args.dir, args.bytes, measured)?;
    eprintln!("echo: {ECHO_BYTES} B at a time");
    let echo = echoing(measured, pin)?;
    let rows = stub_rows(measured, pin)?;
    if args.json {
        let rows: Vec<Value> = rows.iter().map(Outcome::json).collect();
        println!(
            "{}",
            json!({
                "machine": machine::facts(&args.dir), "sync_bytes": args.bytes,
                "sync": sync.json(), "echo": echo.json(), "stub": rows,
            })
        );
        return Ok(true);
    }
    println!(
        "write {} B + fdatasync, one at a time: {}",
        args.bytes,
        sync.text()
    );
    println!(
        "echo {ECHO_BYTES} B on loopback, one at a time: {}",
        echo.text()
    );
    println!("\nA server that answers at once:\n{}", Outcome::HEAD);
    for row in &rows {
        println!("{}", row.row());
    }
    for row in &rows {
        // That the generator is busy is what a ceiling is about.
        for warning in row.warnings.iter().filter(|_| !row.client_saturated()) {
            println!("warning: {}: {warning}", row.label);
        }
    }
    Ok(rows.iter().all(Outcome::is_success))
}

fn stub_rows(measured: Duration, pin: Option<usize>) -> Result<Vec<Outcome>, Failure> {
    let stub = Server::stub(100, None)?;
    let run = |&(workload, connections, window): &(Workload, usize, usize)| {
        let mut plan = Plan::new(workload, stub.address, connections, window);
        plan.measured = measured;
        plan.warmup = Duration::from_millis(500);
        plan.pin = pin;
        plan.pids = vec![stub.pid()];
        eprintln!("stub: {plan}");
        run::run(&plan)
    };
    ROWS.iter().map(run).collect()
}

/// Writes and syncs so many bytes, one write at a time, into a file whose blocks are all there.
pub fn syncing(dir: &Path, bytes: usize, measured: Duration) -> Result<Floor, Failure> {
    let mut segment = Segment::create(dir)?;
    let data = vec![0xa5; bytes];
    let clock = Clock::start();
    let begin = procfs::sample(clock.ns(), &[]);
    let mut latencies = histogram();
    let end_ns = measured.as_nanos() as u64;
    while clock.ns() < end_ns {
        let start_ns = clock.ns();
        segment.write_and_sync(&data)?;
        latencies.saturating_record(clock.ns() - start_ns);
    }
    Ok(Floor {
        latency: Latency::of(&latencies),
        rate: latencies.len() as f64 * 1e9 / clock.ns() as f64,
        server_cpu_us: None,
        others: procfs::others(&begin, &procfs::sample(clock.ns(), &[]), 0),
    })
}

/// Sends bytes over loopback to a thread that sends them back, one message at a time.
pub fn echoing(measured: Duration, pin: Option<usize>) -> Result<Floor, Failure> {
    let what = || "echoing on loopback".to_owned();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context(what)?;
    let address = listener.local_addr().context(what)?;
    let clock = Clock::start();
    let begin = procfs::sample(clock.ns(), &[]);
    thread::scope(|scope| {
        let echo = scope.spawn(move || -> std::io::Result<f64> {
            let (mut stream, _) = listener.accept()?;
            stream.set_nodelay(true)?;
            let mut message = [0; ECHO_BYTES];
            let (mut count, begin_ns) = (0u64, sys::thread_cpu_ns());
            while stream.read_exact(&mut message).is_ok() {
                stream.write_all(&message)?;
                count += 1;
            }
            let ns = sys::thread_cpu_ns() - begin_ns;
            Ok(ns as f64 / 1000.0 / count.max(1) as f64)
        });
        let client = scope.spawn(move || -> Result<(Latency, f64), Failure> {
            let mut stream = TcpStream::connect(address).context(what)?;
            // Behind the connecting: the other side must not wait for us if this fails.
            machine::pin(pin)?;
            stream.set_nodelay(true).context(what)?;
            let mut message = [7; ECHO_BYTES];
            let mut latencies = histogram();
            let clock = Clock::start();
            let end_ns = measured.as_nanos() as u64;
            while clock.ns() < end_ns {
                let start_ns = clock.ns();
                stream.write_all(&message).context(what)?;
                stream.read_exact(&mut message).context(what)?;
                latencies.saturating_record(clock.ns() - start_ns);
            }
            let rate = latencies.len() as f64 * 1e9 / clock.ns() as f64;
            Ok((Latency::of(&latencies), rate))
        });
        let lost = || Failure::Protocol("an echo thread panicked".into());
        let (latency, rate) = client.join().unwrap_or_else(|_| Err(lost()))?;
        let cpu_us = echo.join().map_err(|_| lost())?.context(what)?;
        Ok(Floor {
            latency,
            rate,
            server_cpu_us: Some(cpu_us),
            others: procfs::others(&begin, &procfs::sample(clock.ns(), &[]), 0),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn floors_are_measured_and_leave_nothing_behind() {
        let dir = std::env::temp_dir().join(format!("rkbench-test-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let short = Duration::from_millis(50);
        let sync = syncing(&dir, 512, short).unwrap();
        assert!(sync.latency.count > 0 && sync.latency.p50 <= sync.latency.p99);
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
        fs::remove_dir(&dir).unwrap();
        let echo = echoing(short, None).unwrap();
        assert!(echo.latency.count > 0 && echo.server_cpu_us.is_some());
    }
}
