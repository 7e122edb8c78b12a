//! Four-letter words (docs/protocol.md §8.1, §8.2): operators' scripts parse these texts byte by byte. They
//! are made on an executor of their own from what the data cores report; no data core ever waits for
//! one.

use super::address::{endpoint, java_text};
use super::lists::Unsent;
use super::mailbox::{Asked, Mailboxes};
use super::process::Process;
use super::report::{OrderingReport, Report, TreeReport};
use crate::rt::background::{self, Stream};
use crate::rt::probe;
use crate::shard::{ConnStats, Latency};
use crate::stages::Stage;
use std::fmt::Write;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// Words of Apache's server (docs/protocol.md §8.2).
const KNOWN: [&str; 19] = [
    "ruok", "srvr", "stat", "mntr", "conf", "cons", "isro", "dump", "envi", "dirs", "crst", "srst",
    "wchs", "wchc", "wchp", "gtmk", "stmk", "hash", "lead",
];
/// Words that Apache's server does not have.
const OURS: [&str; 1] = ["stgs"];
/// Those of them that are answered.
const ANSWERED: [&str; 9] = [
    "ruok", "srvr", "stat", "mntr", "conf", "cons", "isro", "dump", "stgs",
];
/// How long an answer may take to be made, and how long the one who asked may take to read it.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the end of the other side is waited for, so that a reset does not overtake the answer.
const LINGER: Duration = Duration::from_secs(1);

/// What clients take for the server's version, with our commit as the build id.
pub const VERSION: &str = concat!(
    "3.9.5-",
    env!("RK_COMMIT"),
    ", built on ",
    env!("RK_BUILD_DATE")
);

/// What a word asks for.
enum Wanted {
    /// This text.
    Text(String),
    /// A text that is made from what the cores report.
    Report(Asked),
}

/// Answers a word on the connection that said it, and closes the connection.
pub async fn serve(
    fd: OwnedFd,
    word: [u8; 4],
    asking: SocketAddr,
    process: &Process,
    mailboxes: &Mailboxes,
) {
    let mut stream = Stream::adopt(fd);
    let answer = answer(word, asking, process, mailboxes);
    let answer = background::within(PATIENCE, answer).await.flatten();
    // Whoever reads the answer may connect anew at once, though this connection lingers.
    process.leave_address(asking.ip());
    let Some((text, unsent)) = answer else {
        return;
    };
    let written = background::within(PATIENCE, stream.write_all(text.as_bytes())).await;
    drop((text, unsent));
    if matches!(written, Some(Ok(()))) {
        stream.shutdown().await;
        stream.drain(LINGER).await;
    }
}

/// The answer to a word, with the room that it takes up if it is a list; `None` for a word that this
/// server does not have: the connection closes.
async fn answer<'a>(
    word: [u8; 4],
    asking: SocketAddr,
    process: &'a Process,
    mailboxes: &Mailboxes,
) -> Option<(String, Option<Unsent<'a>>)> {
    let word = std::str::from_utf8(&word).ok()?;
    let asked = match wanted(word, process)? {
        Wanted::Text(text) => return Some((text, None)),
        Wanted::Report(asked) => asked,
    };
    let make = async || {
        let report = mailboxes.ask(asked, process).await;
        text_of(word, asking, process, mailboxes, &report)
    };
    if !asked.is_list() {
        return Some((make().await, None));
    }
    let gathering = process.lists.gather().await;
    let text = make().await;
    let unsent = process.lists.keep(text.capacity(), gathering).await;
    Some((text, Some(unsent)))
}

/// What a word asks for, which is counted; `None` as in [`answer`].
fn wanted(word: &str, process: &Process) -> Option<Wanted> {
    if !KNOWN.contains(&word) && !OURS.contains(&word) {
        return None;
    }
    if !process.config.four_letter_words.allows(word) {
        return Some(Wanted::Text(format!(
            "{word} is not executed because it is not in the whitelist.\n"
        )));
    }
    if !ANSWERED.contains(&word) {
        return None;
    }
    process.words.fetch_add(1, Relaxed);
    Some(match word {
        "ruok" => Wanted::Text("imok".into()),
        "isro" => Wanted::Text("rw".into()),
        "conf" => Wanted::Text(conf(process)),
        _ => Wanted::Report(asked_by(word)),
    })
}

fn asked_by(word: &str) -> Asked {
    Asked {
        connections: matches!(word, "stat" | "cons"),
        sessions: word == "dump",
    }
}

/// The text that is made from a report.
fn text_of(
    word: &str,
    asking: SocketAddr,
    process: &Process,
    mailboxes: &Mailboxes,
    report: &Report,
) -> String {
    let Some(tree) = report.tree().filter(|_| !process.is_stopping()) else {
        return "This ZooKeeper instance is not currently serving requests\n".into();
    };
    let gathered = Gathered {
        process,
        mailboxes,
        report,
        tree,
    };
    match word {
        "srvr" => format!("Zookeeper version: {VERSION}\n{}", gathered.server_lines()),
        "stat" => gathered.stat(asking),
        "mntr" => mntr(&gathered),
        "cons" => cons(report),
        "stgs" => report.stages().dump(),
        _ => dump(report),
    }
}

/// What the texts are made from.
struct Gathered<'a> {
    process: &'a Process,
    mailboxes: &'a Mailboxes,
    report: &'a Report,
    tree: &'a TreeReport,
}

impl Gathered<'_> {
    fn received(&self) -> u64 {
        self.report.sum(|stats| stats.received) + self.process.words.load(Relaxed)
    }

    /// From `Latency` on, the same in `srvr` and `stat`.
    fn server_lines(&self) -> String {
        format!(
            "Latency min/avg/max: {}\nReceived: {}\nSent: {}\nConnections: {}\nOutstanding: {}\n\
             Zxid: {:#x}\nMode: standalone\nNode count: {}\n",
            latency_line(&self.report.latency()),
            self.received(),
            self.report.sum(|stats| stats.sent),
            self.process.connections(),
            self.report.sum(|stats| stats.outstanding as u64),
            self.tree.zxid.0,
            self.tree.znodes,
        )
    }

    fn stat(&self, asking: SocketAddr) -> String {
        let mut text = format!("Zookeeper version: {VERSION}\nClients:\n");
        for c in self.report.connections() {
            text += &connection(c);
            text += ")\n";
        }
        let asking = endpoint(&java_text(asking.ip()), asking.port());
        let _ = writeln!(text, " /{asking}[0](queued=0,recved=1,sent=0)\n");
        text + &self.server_lines()
    }
}

/// Integers as integers, others with one to four digits.
fn decimal(value: f64) -> String {
    let text = format!("{value:.4}");
    let text = text.trim_end_matches('0');
    if text.ends_with('.') {
        format!("{text}0")
    } else {
        text.to_owned()
    }
}

fn latency_line(latency: &Latency) -> String {
    format!(
        "{}/{}/{}",
        latency.min_ms,
        decimal(latency.average_ms()),
        latency.max_ms
    )
}

/// `/address:port[interests](queued=…,recved=…,sent=…`, without the closing parenthesis.
fn connection(c: &ConnStats) -> String {
    let interests = i32::from(c.reading) | i32::from(c.writing) << 2;
    format!(
        " /{}[{interests:x}](queued={},recved={},sent={}",
        endpoint(&c.peer.address, c.peer.port),
        c.queued,
        c.received,
        c.sent
    )
}

fn cons(report: &Report) -> String {
    let mut text = String::new();
    for c in report.connections() {
        text += &connection(c);
        if let Some(session) = &c.session {
            let _ = write!(
                text,
                ",sid={:#x},lop={},est={},to={}",
                session.session.0, c.last_op, c.established.0, session.timeout_ms
            );
            if let Some(xid) = c.last_xid {
                let _ = write!(text, ",lcxid={:#x}", xid.0);
            }
            let _ = write!(
                text,
                ",lzxid={:#x},lresp={},llat={},minlat={},avglat={},maxlat={}",
                c.last_zxid.0,
                c.last_response_ms,
                c.last_latency_ms,
                c.latency.min_ms,
                c.latency.average_ms() as u64,
                c.latency.max_ms
            );
        }
        text += ")\n";
    }
    text + "\n"
}

fn conf(process: &Process) -> String {
    let c = &process.config;
    format!(
        "clientPort={}\nsecureClientPort=-1\ndataDir={}\ndataDirSize={}\ndataLogDir={}\ndataLogSize={}\n\
         tickTime={}\nmaxClientCnxns={}\nminSessionTimeout={}\nmaxSessionTimeout={}\n\
         clientPortListenBacklog={}\nserverId=0\n",
        c.client_address.port(),
        process.data.path().display(),
        process.data.bytes(),
        process.log.path().display(),
        process.log.bytes(),
        c.tick_time_ms,
        c.max_client_connections,
        c.session_timeout_min_ms,
        c.session_timeout_max_ms,
        c.backlog,
    )
}

/// Sessions and the ephemerals that they own.
fn dump(report: &Report) -> String {
    let sessions = report.sessions();
    let mut text = format!(
        "SessionTracker dump:\nGlobal Sessions({}):\n",
        sessions.len()
    );
    let mut owners = 0;
    let mut owned = String::new();
    for session in sessions {
        let _ = writeln!(text, "{}\t{}ms", session.session, session.timeout_ms);
        if !session.ephemerals.is_empty() {
            owners += 1;
            let _ = writeln!(owned, "{}:", session.session);
        }
        for path in &session.ephemerals {
            let _ = writeln!(owned, "\t{path}");
        }
    }
    text + &format!("ephemeral nodes dump:\nSessions with Ephemerals ({owners}):\n{owned}")
}

/// Keys and values of `mntr`, without the `zk_` prefix.
fn mntr(gathered: &Gathered<'_>) -> String {
    let Gathered {
        process,
        mailboxes,
        report,
        tree,
    } = *gathered;
    let latency = report.latency();
    let number = |n: u64| n.to_string();
    let mut rows: Vec<(String, String)> = [
        ("version", VERSION.to_owned()),
        ("server_state", "standalone".to_owned()),
        ("ringkeeper_version", env!("CARGO_PKG_VERSION").to_owned()),
        ("avg_latency", decimal(latency.average_ms())),
        ("min_latency", number(latency.min_ms)),
        ("max_latency", number(latency.max_ms)),
        ("packets_received", number(gathered.received())),
        ("packets_sent", number(report.sum(|stats| stats.sent))),
        (
            "num_alive_connections",
            number(process.connections().into()),
        ),
        (
            "outstanding_requests",
            number(report.sum(|stats| stats.outstanding as u64)),
        ),
        ("znode_count", number(tree.znodes as u64)),
        (
            "watch_count",
            number(report.sum(|stats| stats.watches.total as u64)),
        ),
        ("ephemerals_count", number(tree.ephemerals as u64)),
        ("approximate_data_size", number(tree.data_bytes)),
        ("tree_bytes", number(tree.bytes)),
        (
            "open_file_descriptor_count",
            number(probe::open_descriptors()),
        ),
        ("max_file_descriptor_count", number(probe::open_files())),
        ("global_sessions", number(tree.sessions as u64)),
        ("local_sessions", number(0)),
        ("uptime", number(process.now().tick.0)),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into();
    if let Some(part) = &report.ordering {
        let OrderingReport { counters, log, .. } = part;
        let of_commit = [
            ("commit_count", counters.ordered),
            ("stale_sessions_expired", counters.expired),
            ("requests_refused", counters.refused),
            ("log_records", log.records),
            ("log_bytes", log.bytes),
            ("log_syncs", log.syncs),
            ("log_syncs_here", part.syncs.here),
            ("log_syncs_beside", part.syncs.beside),
            ("log_sync_looks", part.syncs.looks),
            ("log_seals", log.seals),
            ("log_segments", part.segments as u64),
            ("log_disk_full", part.full.into()),
            ("background_shortages", part.shortages),
            ("snapshots_out_of_memory", part.snapshots_saved),
        ];
        rows.extend(of_commit.map(|(key, value)| (key.to_owned(), number(value))));
        rows.push(("committed".into(), part.committed.to_string()));
        for (n, ((seen, link), mailbox)) in part.shards.iter().zip(&mailboxes.shards).enumerate() {
            let connections = mailbox.sockets.load(Relaxed) as u64;
            rows.push((format!("shard_{n}_connections"), number(connections)));
            rows.push((format!("shard_{n}_seen"), seen.to_string()));
            rows.push((format!("shard_{n}_detached"), number(link.detached)));
            rows.push((format!("shard_{n}_rejoined"), number(link.rejoined)));
        }
    }
    let stages = report.stages();
    for stage in Stage::ALL {
        let summary = stages.summary(stage);
        let name = stage.name();
        for (what, value) in [
            ("p50", summary.p50),
            ("p99", summary.p99),
            ("p999", summary.p999),
            ("max", summary.max),
        ] {
            rows.push((format!("stage_{name}_us_{what}"), number(value)));
        }
        rows.push((format!("stage_{name}_count"), number(summary.count)));
    }
    rows.iter().fold(String::new(), |mut text, (key, value)| {
        let _ = writeln!(text, "zk_{key}\t{value}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_have_one_to_four_digits() {
        for (value, due) in [
            (0.0, "0.0"),
            (1.55632, "1.5563"),
            (2.5, "2.5"),
            (10.0, "10.0"),
        ] {
            assert_eq!(decimal(value), due);
        }
    }

    #[test]
    fn words_whose_answers_grow_with_what_clients_make_are_lists() {
        let lists = ANSWERED.into_iter().filter(|word| asked_by(word).is_list());
        assert!(lists.eq(["stat", "cons", "dump"]));
    }

    #[test]
    fn the_version_is_one_that_clients_parse() {
        let (number, rest) = VERSION.split_once('-').unwrap();
        assert_eq!(number, "3.9.5");
        let (member, date) = rest.split_once(", built on ").unwrap();
        assert_eq!(member.len(), 40);
        assert!(date.ends_with(" UTC"), "{date}");
    }
}
