//! The rows of a comparison, and what a server sees before the first of them.

use crate::failure::Failure;
use crate::plan::{DATA_BYTES, OPEN_OUTSTANDING_MAX, Pace, Plan, Workload};
use crate::run;
use crate::servers::Server;
use std::net::SocketAddr;
use std::time::Duration;

/// A row.
#[derive(Clone, Copy, Debug)]
pub struct Task {
    /// As `--rows` and the tables call it.
    pub name: &'static str,
    /// What the load consists of.
    pub workload: Workload,
    /// As in a plan.
    pub connections: usize,
    /// As in a plan.
    pub pace: Pace,
    /// As in a plan.
    pub data_bytes: usize,
}

const fn closed(name: &'static str, workload: Workload, connections: usize, window: usize) -> Task {
    Task {
        name,
        workload,
        connections,
        pace: Pace::Closed { window },
        data_bytes: DATA_BYTES,
    }
}

/// Names of groups of rows.
pub mod group {
    /// The rows that everybody takes, the stubs included.
    pub const USUAL: &str = "usual";
    /// What issues about writes are judged by; `bench/instructions-beside` counts the same.
    pub const WRITES: &str = "writes";
    /// All rows.
    pub const ALL: &str = "all";
}

/// The group of writes. Creates come last: what they leave behind in a server's memory meets no other row.
const WRITES: [&str; 5] = [
    "set-64x1",
    "set-16x64",
    "multi-64x1",
    "set-1k-64x1",
    "create-64x1",
];

/// The rows that are only in the group of writes.
const WRITES_ONLY: [Task; 3] = [
    closed("multi-64x1", Workload::Multi, 64, 1),
    Task {
        data_bytes: 1024,
        ..closed("set-1k-64x1", Workload::Set, 64, 1)
    },
    closed("create-64x1", Workload::Create, 64, 1),
];

/// The usual rows.
pub const USUAL: [Task; 14] = [
    closed("set-1x1", Workload::Set, 1, 1),
    closed("get-1x1", Workload::Get, 1, 1),
    closed("set-8x1", Workload::Set, 8, 1),
    closed("set-64x1", Workload::Set, 64, 1),
    closed("set-256x1", Workload::Set, 256, 1),
    closed("get-64x1", Workload::Get, 64, 1),
    closed("get-256x1", Workload::Get, 256, 1),
    closed("mix-64x1", Workload::Mix, 64, 1),
    closed("get-16x64", Workload::Get, 16, 64),
    closed("set-16x64", Workload::Set, 16, 64),
    Task {
        name: "set-64-open-2000",
        workload: Workload::Set,
        connections: 64,
        pace: Pace::Open {
            rate: 2000.0,
            outstanding_max: OPEN_OUTSTANDING_MAX,
        },
        data_bytes: DATA_BYTES,
    },
    closed("connect-16", Workload::Connect, 16, 1),
    closed("watch-1000", Workload::Watch, 1_000, 1),
    closed("watch-10000", Workload::Watch, 10_000, 1),
];

/// What a server sees before anything is measured, and each one's share of that time.
const PREWARM: [(Workload, usize, usize, f64); 4] = [
    (Workload::Mix, 16, 64, 0.4),
    (Workload::Set, 64, 1, 0.3),
    (Workload::Get, 64, 1, 0.2),
    (Workload::Connect, 16, 1, 0.1),
];

impl Task {
    /// Whether its operations go through a server's log.
    pub fn writes(&self) -> bool {
        self.workload.writes() || self.workload == Workload::Connect
    }

    /// Whether it is one of the usual rows.
    pub fn is_usual(&self) -> bool {
        USUAL.iter().any(|task| task.name == self.name)
    }

    /// Its plan against a local server, with the usual lengths.
    pub fn plan(&self, server: &Server) -> Plan {
        let mut plan = self.plan_at(server.address);
        plan.pids = vec![server.pid()];
        plan
    }

    fn plan_at(&self, address: SocketAddr) -> Plan {
        let mut plan = Plan::new(self.workload, address, self.connections, 1);
        plan.pace = self.pace;
        plan.data_bytes = self.data_bytes;
        plan
    }

    fn is_in(&self, group: &str) -> bool {
        match group {
            group::USUAL => self.is_usual(),
            group::WRITES => WRITES.contains(&self.name),
            group => group == group::ALL,
        }
    }
}

/// All rows, in our order.
fn tasks() -> impl Iterator<Item = &'static Task> {
    USUAL.iter().chain(&WRITES_ONLY)
}

/// The rows that were asked for by name or group, in our order.
pub fn chosen(names: &[String]) -> Result<Vec<&'static Task>, Failure> {
    let groups = [group::USUAL, group::WRITES, group::ALL];
    let is_known = |name: &&String| {
        groups.contains(&name.as_str()) || tasks().any(|task| task.name == name.as_str())
    };
    if let Some(unknown) = names.iter().find(|name| !is_known(name)) {
        let rows: Vec<&str> = tasks().map(|task| task.name).collect();
        return Err(Failure::Usage(format!(
            "there is no row {unknown}; --rows takes some of {}, or of {}",
            groups.join(","),
            rows.join(",")
        )));
    }
    let is_named = |task: &&Task| {
        let mut names = names.iter();
        names.any(|name| name == task.name || task.is_in(name))
    };
    Ok(tasks().filter(is_named).collect())
}

/// Gives a server every kind of load for so long: a JVM compiles as it goes.
pub fn warm_up(server: &Server, length: Duration, pin: Option<usize>) -> Result<(), Failure> {
    if length.is_zero() {
        return Ok(());
    }
    eprintln!("{}: warming up", server.name);
    for (workload, connections, window, share) in PREWARM {
        let mut plan = Plan::new(workload, server.address, connections, window);
        plan.warmup = Duration::ZERO;
        plan.measured = length.mul_f64(share);
        plan.pin = pin;
        run::run(&plan)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::MULTI_SETS;

    fn names(text: &str) -> Vec<&'static str> {
        let names: Vec<String> = text.split(',').map(str::to_owned).collect();
        let tasks = chosen(&names).unwrap().into_iter();
        tasks.map(|task| task.name).collect()
    }

    #[test]
    fn rows_are_chosen_by_name_and_by_group() {
        assert_eq!(names("connect-16,set-1x1"), ["set-1x1", "connect-16"]);
        assert_eq!(names("usual").len(), USUAL.len());
        assert_eq!(names("all").len(), USUAL.len() + WRITES_ONLY.len());
        assert_eq!(
            names("writes,set-64x1"),
            [
                "set-64x1",
                "set-16x64",
                "multi-64x1",
                "set-1k-64x1",
                "create-64x1"
            ]
        );
        assert!(chosen(&["set-2x2".to_owned()]).is_err());
    }

    #[test]
    fn every_row_is_a_plan_that_makes_sense() {
        for task in tasks() {
            let plan = task.plan_at("127.0.0.1:1".parse().unwrap());
            plan.check().unwrap();
            assert_eq!(plan.data_bytes == 1024, task.name == "set-1k-64x1");
        }
        let shares: f64 = PREWARM.iter().map(|row| row.3).sum();
        assert!((shares - 1.0).abs() < 1e-9);
    }

    #[test]
    fn instructions_are_counted_of_the_same_writes() {
        let counted = include_str!("../instructions-beside");
        for task in tasks().filter(|task| task.is_in(group::WRITES)) {
            let Pace::Closed { window } = task.pace else {
                panic!("{} has a rate", task.name);
            };
            let (workload, connections) = (task.workload.name(), task.connections);
            let shape = format!(
                "\"{workload}\", {connections}, {window}, {})",
                task.data_bytes
            );
            assert_eq!(counted.matches(&shape).count(), 1, "{shape}");
        }
        assert_eq!(
            counted.matches(" 100)").count() + counted.matches(" 1024)").count(),
            5
        );
        let multi = format!("const MULTI: usize = {MULTI_SETS};");
        assert!(
            include_str!("../../src/sim/instructions.rs").contains(&multi),
            "{multi}"
        );
    }
}
