//! The rows of a comparison, and what a server sees before the first of them.

use crate::failure::Failure;
use crate::plan::{OPEN_OUTSTANDING_MAX, Pace, Plan, Workload};
use crate::run;
use crate::servers::Server;
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
}

const fn closed(name: &'static str, workload: Workload, connections: usize, window: usize) -> Task {
    Task {
        name,
        workload,
        connections,
        pace: Pace::Closed { window },
    }
}

/// All rows.
pub const TASKS: [Task; 14] = [
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

    /// Its plan against a local server, with the usual lengths.
    pub fn plan(&self, server: &Server) -> Plan {
        let mut plan = Plan::new(self.workload, server.address, self.connections, 1);
        plan.pace = self.pace;
        plan.pids = vec![server.pid()];
        plan
    }
}

/// The rows that were asked for by name, or `all`, in our order.
pub fn chosen(names: &[String]) -> Result<Vec<&'static Task>, Failure> {
    let known = || TASKS.iter().map(|task| task.name);
    if let Some(unknown) = names
        .iter()
        .find(|name| *name != "all" && !known().any(|known| known == *name))
    {
        let known: Vec<&str> = known().collect();
        return Err(Failure::Usage(format!(
            "there is no row {unknown}; --rows takes all or some of {}",
            known.join(",")
        )));
    }
    let wanted = |task: &&Task| names.iter().any(|name| name == "all" || name == task.name);
    Ok(TASKS.iter().filter(wanted).collect())
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

    #[test]
    fn rows_are_chosen_by_name() {
        let names = |text: &str| -> Vec<String> { text.split(',').map(str::to_owned).collect() };
        assert_eq!(chosen(&names("all")).unwrap().len(), TASKS.len());
        let two = chosen(&names("connect-16,set-1x1")).unwrap();
        assert_eq!(
            two.iter().map(|t| t.name).collect::<Vec<_>>(),
            ["set-1x1", "connect-16"]
        );
        assert!(chosen(&names("set-2x2")).is_err());
    }

    #[test]
    fn every_row_is_a_plan_that_makes_sense() {
        for task in &TASKS {
            let mut plan = Plan::new(
                task.workload,
                "127.0.0.1:1".parse().unwrap(),
                task.connections,
                1,
            );
            plan.pace = task.pace;
            plan.check().unwrap();
        }
        let shares: f64 = PREWARM.iter().map(|row| row.3).sum();
        assert!((shares - 1.0).abs() < 1e-9);
    }
}
