//! Four-letter words (client.md §8.1, §8.2): operators' scripts parse these texts byte by byte.

use super::edge::java_text;
use super::front::{Front, Side};
use super::process::Process;
use crate::log::LogCounters;
use crate::member::Member;
use crate::pipeline;
use crate::placement::{FeedCounters, Orderer};
use crate::rt;
use crate::rt::probe;
use crate::rt::storage::FsStorage;
use crate::shard::{ConnStats, Latency, Shard, ShardStats};
use crate::stages::{Stage, Stages};
use crate::tree::Tree;
use crate::types::Zxid;
use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// Words of Apache's server (client.md §8.2).
const KNOWN: [&str; 19] = [
    "ruok", "srvr", "stat", "mntr", "conf", "cons", "isro", "dump", "envi", "dirs", "crst", "srst",
    "wchs", "wchc", "wchp", "gtmk", "stmk", "hash", "lead",
];
/// Ours.
const OURS: [&str; 1] = ["stgs"];
/// Those of them that are there.
const ANSWERED: [&str; 9] = [
    "ruok", "srvr", "stat", "mntr", "conf", "cons", "isro", "dump", "stgs",
];
/// How long a shard that was held still may take to reach what was shown already, ms.
const CATCH_UP_MS: u64 = 5000;

/// What a serving core shows of itself.
pub struct FrontPart {
    connections: Vec<ConnStats>,
    stats: ShardStats,
    stages: Stages,
}

impl FrontPart {
    /// Now.
    pub fn of(shard: &Shard) -> FrontPart {
        FrontPart {
            connections: shard.connections().collect(),
            stats: shard.stats(),
            stages: shard.stages().clone(),
        }
    }
}

/// What the core that orders shows of itself.
pub struct CommitPart {
    counters: pipeline::Counters,
    log: LogCounters,
    segments: usize,
    full: bool,
    stages: Stages,
    committed: Zxid,
    /// Of each shard: what it has applied, and how its link fared.
    shards: Vec<(Zxid, FeedCounters)>,
}

impl CommitPart {
    /// Now, with its shards.
    pub fn with_shards(core: &Orderer<FsStorage>) -> CommitPart {
        CommitPart {
            shards: core.shards().collect(),
            ..CommitPart::of(&core.member)
        }
    }

    /// Now.
    pub fn of(member: &Member<FsStorage>) -> CommitPart {
        let log = member.pipeline.log();
        CommitPart {
            counters: member.pipeline.counters(),
            log: log.counters(),
            segments: log.segments(),
            full: log.is_full(),
            stages: member.pipeline.stages().clone(),
            committed: member.tree.last_zxid(),
            shards: Vec::new(),
        }
    }
}

/// What all cores said.
struct Gathered<'a> {
    process: &'a Process,
    fronts: Vec<FrontPart>,
    member: Option<CommitPart>,
}

impl Gathered<'_> {
    fn connections(&self) -> impl Iterator<Item = &ConnStats> {
        self.fronts.iter().flat_map(|part| &part.connections)
    }

    fn latency(&self) -> Latency {
        let mut latency = Latency::default();
        for part in &self.fronts {
            latency.merge(&part.stats.latency);
        }
        latency
    }

    fn sum(&self, of: impl Fn(&ShardStats) -> u64) -> u64 {
        self.fronts.iter().map(|part| of(&part.stats)).sum()
    }

    fn received(&self) -> u64 {
        self.sum(|stats| stats.received) + self.process.words.load(Relaxed)
    }

    fn stages(&self) -> Stages {
        let mut stages = Stages::default();
        for part in &self.fronts {
            stages.merge(&part.stages);
        }
        if let Some(member) = &self.member {
            stages.merge(&member.stages);
        }
        stages
    }
}

/// What clients take for the server's version, with our commit as the build id.
pub const VERSION: &str = concat!(
    "3.9.5-",
    env!("RK_COMMIT"),
    ", built on ",
    env!("RK_BUILD_DATE")
);

/// The answer to a word; `None` for one that this server does not have: the connection closes.
pub async fn answer(front: &Front, word: [u8; 4], asking: SocketAddr) -> Option<String> {
    let process = &*front.process;
    let word = std::str::from_utf8(&word).ok()?;
    if !KNOWN.contains(&word) && !OURS.contains(&word) {
        return None;
    }
    if !process.config.four_letter_words.allows(word) {
        return Some(format!(
            "{word} is not executed because it is not in the whitelist.\n"
        ));
    }
    if !ANSWERED.contains(&word) {
        return None;
    }
    process.words.fetch_add(1, Relaxed);
    if word == "ruok" {
        return Some("imok".into());
    }
    let switchboard = front.with_side(|side| match side {
        Side::Inline(_) => None,
        Side::Replica(seat) => Some(seat.switchboard.clone()),
    });
    let (fronts, member) = match switchboard {
        Some(Some(switchboard)) => switchboard.ask(process).await,
        Some(None) => (front.part().into_iter().collect(), front.commit_part()),
        None => (Vec::new(), None),
    };
    let gathered = Gathered {
        process,
        fronts,
        member,
    };
    let until = process.now().tick.after(CATCH_UP_MS);
    loop {
        let text = front
            .with_side(|side| may_speak(side).then(|| text(&gathered, side.tree(), word, asking)));
        match text {
            Some(Some(text)) => return Some(text),
            Some(None) if process.now().tick < until => rt::sleep(Duration::from_millis(1)).await,
            _ => return Some("This ZooKeeper instance is not currently serving requests\n".into()),
        }
    }
}

/// Whether the state is not older than what was shown before; nothing older is shown afterwards.
fn may_speak(side: &mut Side) -> bool {
    match side {
        Side::Inline(_) => true,
        Side::Replica(seat) => {
            let may = seat.replica.may_execute();
            if may {
                seat.replica.publish_shown();
            }
            may
        }
    }
}

fn text(gathered: &Gathered<'_>, tree: &Tree, word: &str, asking: SocketAddr) -> String {
    match word {
        "srvr" => format!(
            "Zookeeper version: {VERSION}\n{}",
            server_lines(gathered, tree)
        ),
        "stat" => stat(gathered, tree, asking),
        "mntr" => mntr(gathered, tree),
        "conf" => conf(gathered.process),
        "cons" => cons(gathered),
        "isro" => "rw".into(),
        "stgs" => gathered.stages().dump(),
        _ => dump(tree),
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

/// From `Latency` on, the same in `srvr` and `stat`.
fn server_lines(gathered: &Gathered<'_>, tree: &Tree) -> String {
    format!(
        "Latency min/avg/max: {}\nReceived: {}\nSent: {}\nConnections: {}\nOutstanding: {}\n\
         Zxid: {:#x}\nMode: standalone\nNode count: {}\n",
        latency_line(&gathered.latency()),
        gathered.received(),
        gathered.sum(|stats| stats.sent),
        gathered.process.connections(),
        gathered.sum(|stats| stats.outstanding as u64),
        tree.last_zxid().0,
        tree.node_count(),
    )
}

/// An address and a port as Java writes them.
fn endpoint(address: &str, port: u16) -> String {
    match address.contains(':') {
        true => format!("[{address}]:{port}"),
        false => format!("{address}:{port}"),
    }
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

fn stat(gathered: &Gathered<'_>, tree: &Tree, asking: SocketAddr) -> String {
    let mut text = format!("Zookeeper version: {VERSION}\nClients:\n");
    for c in gathered.connections() {
        text += &connection(c);
        text += ")\n";
    }
    let asking = endpoint(&java_text(asking.ip()), asking.port());
    let _ = writeln!(text, " /{asking}[0](queued=0,recved=1,sent=0)\n");
    text + &server_lines(gathered, tree)
}

fn cons(gathered: &Gathered<'_>) -> String {
    let mut text = String::new();
    for c in gathered.connections() {
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
fn dump(tree: &Tree) -> String {
    let mut text = format!(
        "SessionTracker dump:\nGlobal Sessions({}):\n",
        tree.sessions().len()
    );
    let mut owners = 0;
    let mut owned = String::new();
    for (id, timeout_ms) in tree.sessions() {
        let _ = writeln!(text, "{id}\t{timeout_ms}ms");
        let mut paths = tree.ephemerals(id).peekable();
        if paths.peek().is_some() {
            owners += 1;
            let _ = writeln!(owned, "{id}:");
        }
        paths.for_each(|path| {
            let _ = writeln!(owned, "\t{path}");
        });
    }
    text + &format!("ephemeral nodes dump:\nSessions with Ephemerals ({owners}):\n{owned}")
}

/// Keys and values of `mntr`, without the `zk_` prefix.
fn mntr(gathered: &Gathered<'_>, tree: &Tree) -> String {
    let process = gathered.process;
    let latency = gathered.latency();
    let number = |n: u64| n.to_string();
    let mut rows: Vec<(String, String)> = [
        ("version", VERSION.to_owned()),
        ("server_state", "standalone".to_owned()),
        ("ringkeeper_version", env!("CARGO_PKG_VERSION").to_owned()),
        ("avg_latency", decimal(latency.average_ms())),
        ("min_latency", number(latency.min_ms)),
        ("max_latency", number(latency.max_ms)),
        ("packets_received", number(gathered.received())),
        ("packets_sent", number(gathered.sum(|stats| stats.sent))),
        (
            "num_alive_connections",
            number(process.connections().into()),
        ),
        (
            "outstanding_requests",
            number(gathered.sum(|stats| stats.outstanding as u64)),
        ),
        ("znode_count", number(tree.node_count() as u64)),
        (
            "watch_count",
            number(gathered.sum(|stats| stats.watches.total as u64)),
        ),
        ("ephemerals_count", number(tree.ephemeral_count() as u64)),
        (
            "approximate_data_size",
            number(tree.approximate_data_size()),
        ),
        (
            "open_file_descriptor_count",
            number(probe::open_descriptors()),
        ),
        ("max_file_descriptor_count", number(probe::open_files())),
        ("global_sessions", number(tree.sessions().len() as u64)),
        ("local_sessions", number(0)),
        ("uptime", number(process.now().tick.0)),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into();
    if let Some(part) = &gathered.member {
        let CommitPart { counters, log, .. } = part;
        let of_commit = [
            ("commit_count", counters.ordered),
            ("stale_sessions_expired", counters.expired),
            ("requests_refused", counters.refused),
            ("log_records", log.records),
            ("log_bytes", log.bytes),
            ("log_syncs", log.syncs),
            ("log_seals", log.seals),
            ("log_segments", part.segments as u64),
            ("log_disk_full", part.full.into()),
        ];
        rows.extend(of_commit.map(|(key, value)| (key.to_owned(), number(value))));
        rows.push(("committed".into(), part.committed.to_string()));
        for (n, (seen, link)) in part.shards.iter().enumerate() {
            rows.push((format!("shard_{n}_seen"), seen.to_string()));
            rows.push((format!("shard_{n}_detached"), number(link.detached)));
            rows.push((format!("shard_{n}_rejoined"), number(link.rejoined)));
        }
    }
    let stages = gathered.stages();
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
    fn the_version_is_one_that_clients_parse() {
        let (number, rest) = VERSION.split_once('-').unwrap();
        assert_eq!(number, "3.9.5");
        let (member, date) = rest.split_once(", built on ").unwrap();
        assert_eq!(member.len(), 40);
        assert!(date.ends_with(" UTC"), "{date}");
    }
}
