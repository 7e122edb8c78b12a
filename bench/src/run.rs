//! A run from its first connection to its last: prepare, drive, clean up.

use crate::control::{self, Control};
use crate::failure::{Context, Failure};
use crate::load::{Places, Worker};
use crate::outcome::Outcome;
use crate::plan::{Plan, Workload};
use crate::procfs;
use crate::storm;
use crate::tally::{Clock, Tally, Window};
use crate::watch;
use crate::{sys, workers};
use std::net::TcpStream;
use std::time::{SystemTime, UNIX_EPOCH};

/// Runs a plan. Nodes are left behind only if the server is gone.
pub fn run(plan: &Plan) -> Result<Outcome, Failure> {
    plan.check()?;
    let files = sys::raise_open_files().context(|| "raising the limit of open files".into())?;
    if (files as usize) < plan.connections + 64 {
        return Err(Failure::Usage(format!(
            "only {files} files may be open, {} connections need more: raise `ulimit -Hn`",
            plan.connections
        )));
    }
    let mut control = Control::open(plan.targets[0])?;
    let places = Places {
        parent: format!("{}/rkbench-{}", plan.chroot, unique()),
    };
    plan.say("preparing");
    let data = vec![b'd'; plan.data_bytes];
    control.create([places.parent.clone()], b"")?;
    let (made, content): (Vec<String>, &[u8]) = match plan.workload {
        Workload::Get | Workload::Set | Workload::Multi | Workload::Mix => {
            ((0..plan.nodes).map(|at| places.node(at)).collect(), &data)
        }
        Workload::Create => (
            (0..plan.connections).map(|at| places.folder(at)).collect(),
            b"",
        ),
        Workload::Watch => (vec![places.node(0)], &data),
        Workload::Connect => (Vec::new(), b""),
    };
    control.create(made.iter().cloned(), content)?;
    let mut transactions = control.transactions;
    control.close();

    let driven = match plan.workload {
        Workload::Connect => storm::run(plan).map(|tally| (tally, Vec::new())),
        Workload::Watch => watch::run(plan, &places).map(|tally| (tally, Vec::new())),
        _ => drive(plan, &places),
    };
    if driven.is_err() {
        plan.say(&format!("failed; {} is left behind", places.parent));
    }
    let (tally, created) = driven?;
    let memory = procfs::memory(&plan.pids);

    plan.say("cleaning up");
    let mut control = Control::open(plan.targets[0])?;
    let numbers = created
        .iter()
        .enumerate()
        .flat_map(|(connection, &count)| (0..count).map(move |number| (connection, number)));
    control.delete(numbers.map(|(connection, number)| places.created(connection, number)))?;
    control.delete(made.into_iter().chain([places.parent.clone()]))?;
    transactions += control.transactions;
    control.close();
    Ok(Outcome::new(plan, &tally, memory, transactions))
}

/// Runs with the same name would find each other's nodes.
fn unique() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let us = since.map_or(0, |since| since.as_micros() % 1_000_000_000);
    format!("{}-{us}", std::process::id())
}

/// Opens the connections, shares them out to threads and waits for these. Returns the counts and
/// what each connection has created.
fn drive(plan: &Plan, places: &Places) -> Result<(Tally, Vec<u64>), Failure> {
    plan.say("connecting");
    let streams = control::open(&plan.targets, plan.connections)?;
    let mut shares: Vec<Vec<(usize, TcpStream)>> = (0..plan.threads).map(|_| Vec::new()).collect();
    for (connection, stream) in streams.into_iter().enumerate() {
        shares[connection % plan.threads].push((connection, stream));
    }
    let clock = Clock::start();
    let window = Window::after(clock.ns(), plan.warmup, plan.measured);
    plan.say("warming up and measuring");
    let results = workers::each_on_a_thread(plan, shares, |number, share| {
        let place = (number, plan.threads);
        Worker::new(plan, places, share, (clock, window), place)?.run()
    })?;
    let mut tally = Tally::default();
    let mut created = vec![0; plan.connections];
    let mut all = Vec::with_capacity(plan.connections);
    for (number, done) in results.into_iter().enumerate() {
        tally.merge(done.tally);
        for (at, (stream, count)) in done.streams.into_iter().enumerate() {
            if plan.workload == Workload::Create {
                created[at * plan.threads + number] = count;
            }
            all.push(stream);
        }
    }
    plan.say("closing");
    // A session's beginning and end are transactions too.
    tally.transactions += 2 * all.len() as u64;
    control::close(all);
    if plan.workload != Workload::Create {
        created.clear();
    }
    Ok((tally, created))
}
