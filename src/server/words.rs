//! Four-letter words (docs/protocol.md §8.1, §8.2): operators' scripts parse these texts byte by byte. They
//! are made on an executor of their own from what the data cores report; no data core ever waits for
//! one.

use super::address::{endpoint, java_text};
use super::environment;
use super::lists::{LIST_MAX, Unsent};
use super::mailbox::{Asked, Mailboxes, Reset};
use super::process::Process;
use super::report::{OrderingReport, Report, SessionReport, TreeReport};
use super::texts::{self, Conf, Dump, Figures, NOT_SERVING, SESSIONLESS_MS};
use crate::placement::SyncTimes;
use crate::proto::first_bytes::INTERRUPT;
use crate::rt::background::{self, Stream};
use crate::rt::probe;
use crate::shard::{Latency, Why};
use crate::stages::{Stage, Summary};
use crate::types::SessionId;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// Words of Apache's server (docs/protocol.md §8.2).
const KNOWN: [&str; 19] = [
    "ruok",
    "srvr",
    "stat",
    "mntr",
    "conf",
    "cons",
    "isro",
    "dump",
    "envi",
    "dirs",
    "crst",
    "srst",
    "wchs",
    "wchc",
    "wchp",
    "gtmk",
    "stmk",
    "hash",
    TELNET_CLOSE,
];
/// What Apache's server calls telnet's interrupt. Where it is allowed the connection closes in silence.
const TELNET_CLOSE: &str = "telnet close";
/// Words that Apache's server does not have.
const OURS: [&str; 1] = ["stgs"];
/// How long an answer may take to be made, and how long the one who asked may take to read it.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the end of the other side is waited for, so that a reset does not overtake the answer.
const LINGER: Duration = Duration::from_secs(1);
/// What Apache's server writes of an answer at a time, characters: each counts as one packet sent.
const PACKET: usize = 8192;
/// How long the mask behind `stmk` is waited for.
const MASK_WAIT: Duration = Duration::from_secs(1);
/// Bytes of a mask.
const MASK: usize = 8;

/// What clients take for the server's version, with our commit as the build id.
pub const VERSION: &str = concat!(
    "3.9.5-",
    env!("RK_COMMIT"),
    ", built on ",
    env!("RK_BUILD_DATE")
);

/// A word, and who said it.
pub struct Said {
    word: [u8; 4],
    /// What came right behind it: as much of it as a word may have.
    behind: Vec<u8>,
    by: SocketAddr,
}

impl Said {
    /// A word, what came behind it, and whose it is.
    pub fn new(word: [u8; 4], behind: &[u8], by: SocketAddr) -> Said {
        let behind = behind[..behind.len().min(MASK)].to_vec();
        Said { word, behind, by }
    }

    fn name(&self) -> Option<&str> {
        match self.word {
            INTERRUPT => Some(TELNET_CLOSE),
            _ => std::str::from_utf8(&self.word).ok(),
        }
    }
}

/// What a word asks for.
enum Wanted {
    /// This text.
    Text(String),
    /// This text, and nothing is kept for it: whoever may not ask takes no place from those who may.
    Refusal(String),
    /// The mask behind the word is set.
    Mask,
    /// A text that is made from what the cores report.
    Report(Asked),
}

/// Answers a word on the connection that said it, and closes the connection.
pub async fn serve(fd: OwnedFd, said: Said, process: &Process, mailboxes: &Mailboxes) {
    let mut stream = Stream::adopt(fd);
    let answer = answer(&said, &mut stream, process, mailboxes);
    let answer = background::within(PATIENCE, answer).await.flatten();
    // Whoever reads the answer may connect anew at once, though this connection lingers.
    process.leave_address(said.by.ip());
    let Some(Answer {
        text,
        unsent,
        lingers,
    }) = answer
    else {
        return;
    };
    process.answers.fetch_add(packets(&text), Relaxed);
    let written = background::within(PATIENCE, stream.write_all(text.as_bytes())).await;
    drop((text, unsent));
    if matches!(written, Some(Ok(()))) {
        stream.shutdown().await;
        if lingers {
            stream.drain(LINGER).await;
        }
    }
}

/// The answer to a word.
struct Answer<'a> {
    text: String,
    /// The room that the text takes up, if it is a list.
    unsent: Option<Unsent<'a>>,
    /// The end of the other side is waited for behind it.
    lingers: bool,
}

impl Answer<'_> {
    fn plain(text: String) -> Self {
        Answer {
            text,
            unsent: None,
            lingers: true,
        }
    }
}

/// The answer to a word; `None` for what is not answered: the connection closes.
async fn answer<'a>(
    said: &Said,
    stream: &mut Stream,
    process: &'a Process,
    mailboxes: &Mailboxes,
) -> Option<Answer<'a>> {
    let word = said.name()?;
    let shards = mailboxes.shards.len();
    let asked = match wanted(word, process, shards)? {
        Wanted::Text(text) => return Some(Answer::plain(text)),
        Wanted::Refusal(text) => {
            let lingers = false;
            return Some(Answer {
                lingers,
                ..Answer::plain(text)
            });
        }
        Wanted::Mask => {
            let read = set_mask(&said.behind, stream, process);
            let text = background::within(MASK_WAIT, read).await.flatten()?;
            return Some(Answer::plain(text));
        }
        Wanted::Report(asked) => asked,
    };
    let make = async || {
        let report = mailboxes.ask(asked, process).await;
        text_of(word, said.by, process, mailboxes, &report)
    };
    if !asked.is_list() {
        return Some(Answer::plain(make().await?));
    }
    let gathering = process.lists.gather().await;
    let text = make().await?;
    let unsent = process.lists.keep(text.capacity(), gathering).await;
    Some(Answer {
        unsent: Some(unsent),
        ..Answer::plain(text)
    })
}

/// As how many packets an answer counts.
fn packets(text: &str) -> u64 {
    text.len().div_ceil(PACKET) as u64
}

/// Sets the mask that follows `stmk`; `None` if the other end closes before all of it has come.
async fn set_mask(behind: &[u8], stream: &mut Stream, process: &Process) -> Option<String> {
    let (mut mask, mut have) = ([0; MASK], behind.len());
    mask[..have].copy_from_slice(behind);
    while have < MASK {
        match stream.read(&mut mask[have..]).await {
            Ok(0) | Err(_) => return None,
            Ok(n) => have += n,
        }
    }
    let mask = i64::from_be_bytes(mask);
    process.trace_mask.store(mask, Relaxed);
    Some(mask.to_string())
}

/// What a word asks for, which is counted; `None` as in [`answer`].
fn wanted(word: &str, process: &Process, shards: usize) -> Option<Wanted> {
    if !KNOWN.contains(&word) && !OURS.contains(&word) {
        return None;
    }
    process.words.fetch_add(1, Relaxed);
    if !process.config.answers(word) {
        return Some(Wanted::Refusal(format!(
            "{word} is not executed because it is not in the whitelist.\n"
        )));
    }
    if !process.is_serving() && !matches!(word, "ruok" | "envi" | "gtmk" | "stmk" | TELNET_CLOSE) {
        return Some(Wanted::Text(while_not_serving(word)));
    }
    Some(match word {
        "ruok" => Wanted::Text("imok".into()),
        "isro" => Wanted::Text("rw".into()),
        "conf" => Wanted::Text(conf(process)),
        "dirs" => Wanted::Text(texts::dirs(process.data.bytes(), process.log.bytes())),
        "envi" => {
            let memory_max = process.config.memory_max(probe::memory());
            Wanted::Text(texts::envi(&environment::rows(VERSION, memory_max)))
        }
        "gtmk" => Wanted::Text(process.trace_mask.load(Relaxed).to_string()),
        "stmk" => Wanted::Mask,
        TELNET_CLOSE => return None,
        _ => Wanted::Report(asked_by(word, shards)),
    })
}

/// What a word answers while the server can't serve.
fn while_not_serving(word: &str) -> String {
    match word {
        "isro" => "null".into(),
        "hash" => NOT_SERVING.into(),
        _ => format!("{NOT_SERVING}\n"),
    }
}

/// What has to be known for a word, with so many shards beside the core that orders: a path that clients
/// of several shards watch counts once, so they have to say which paths they mean.
fn asked_by(word: &str, shards: usize) -> Asked {
    Asked {
        connections: matches!(word, "stat" | "cons" | "dump"),
        sessions: word == "dump",
        watches: matches!(word, "wchc" | "wchp") || word == "wchs" && shards > 1,
        digests: word == "hash",
        reset: match word {
            "srst" => Some(Reset::Server),
            "crst" => Some(Reset::Connections),
            _ => None,
        },
    }
}

/// The text that is made from a report; `None` for a list that is too long.
fn text_of(
    word: &str,
    asking: SocketAddr,
    process: &Process,
    mailboxes: &Mailboxes,
    report: &Report,
) -> Option<String> {
    let Some(tree) = report.tree().filter(|_| process.is_serving()) else {
        return Some(while_not_serving(word));
    };
    let gathered = Gathered {
        process,
        mailboxes,
        report,
        tree,
    };
    Some(match word {
        "srvr" => texts::srvr(VERSION, &gathered.figures()),
        "stat" => {
            let connections = report.connections();
            texts::stat(VERSION, connections, asking, &gathered.figures())
        }
        "mntr" => mntr(&gathered),
        "cons" => texts::cons(report.connections(), asking),
        "dump" => dump(asking, process, report)?,
        "wchs" => wchs(report),
        "wchc" => texts::wchc(not_too_long(listed(report)?)?.into_iter()),
        "wchp" => texts::wchp(not_too_long(listed(report)?)?.into_iter()),
        "hash" => texts::hash(report.digests()),
        "srst" => {
            process.words.store(0, Relaxed);
            process.answers.store(0, Relaxed);
            "Server stats reset.\n".into()
        }
        "crst" => "Connection stats reset.\n".into(),
        _ => report.stages().dump(),
    })
}

/// What the texts are made from.
struct Gathered<'a> {
    process: &'a Process,
    mailboxes: &'a Mailboxes,
    report: &'a Report,
    tree: &'a TreeReport,
}

impl Gathered<'_> {
    fn figures(&self) -> Figures {
        Figures {
            latency: self.report.latency(),
            received: self.report.sum(|stats| stats.received) + self.process.words.load(Relaxed),
            sent: self.report.sum(|stats| stats.sent) + self.process.answers.load(Relaxed),
            connections: self.process.connections(),
            outstanding: self.report.sum(|stats| stats.outstanding as u64),
            zxid: self.tree.zxid,
            nodes: self.tree.znodes,
            mode: self.process.mode().name(),
        }
    }
}

fn conf(process: &Process) -> String {
    let c = &process.config;
    texts::conf(&Conf {
        client_port: process.client_port,
        data: (process.data.path(), process.data.bytes()),
        log: (process.log.path(), process.log.bytes()),
        tick_time_ms: c.tick_time_ms,
        max_client_connections: c.max_client_connections,
        session_timeouts_ms: (c.session_timeout_min_ms, c.session_timeout_max_ms),
        backlog: c.backlog,
    })
}

/// Sessions, the ephemerals that they own, and connections; `None` if the core that orders has not said
/// when sessions expire, or if there is more than is listed.
fn dump(asking: SocketAddr, process: &Process, report: &Report) -> Option<String> {
    let now = process.now();
    let connections = report.connections().map(|c| {
        let peer = endpoint(&c.peer.address, c.peer.port);
        match &c.session {
            Some(own) => (peer, own.session, own.timeout_ms.max(0) as u64, c.heard),
            None => (peer, SessionId::NONE, SESSIONLESS_MS, c.heard),
        }
    });
    let asking = endpoint(&java_text(asking.ip()), asking.port());
    let asking = (asking, SessionId::NONE, SESSIONLESS_MS, now.tick);
    Some(texts::dump(&Dump {
        sessions: &report.ordering.as_ref()?.deadlines,
        owners: owners(report)?,
        connections: connections.chain([asking]).collect(),
        now,
    }))
}

/// A session, and what one connection of it watches.
type Watching<'a> = (SessionId, &'a [Arc<str>]);

/// Bytes that so many paths take in a list, each in a line of its own.
fn bytes(paths: &[Arc<str>]) -> usize {
    paths.iter().map(|path| path.len() + 2).sum()
}

/// Sessions and their ephemerals; `None` if that is more than is listed.
fn owners(report: &Report) -> Option<&[SessionReport]> {
    let owners = report.sessions();
    let all: usize = owners.iter().map(|own| bytes(&own.ephemerals)).sum();
    (all <= LIST_MAX).then_some(owners)
}

/// `None` if that is more than is listed.
fn not_too_long(listed: Vec<Watching<'_>>) -> Option<Vec<Watching<'_>>> {
    let all: usize = listed.iter().map(|(_, paths)| bytes(paths)).sum();
    (all <= LIST_MAX).then_some(listed)
}

/// What each connection watches; `None` if one of them watches too much to be listed.
fn listed(report: &Report) -> Option<Vec<Watching<'_>>> {
    let watched = report.watched();
    watched
        .map(|of| Some((of.session, of.paths.as_deref()?)))
        .collect()
}

/// A path that clients of several shards watch counts once, unless there are too many to tell.
fn wchs(report: &Report) -> String {
    let counts = report.serving.iter().map(|part| part.stats.watches);
    let (connections, watches, paths) = counts.fold((0, 0, 0), |sums, own| {
        (
            sums.0 + own.connections,
            sums.1 + own.data,
            sums.2 + own.paths,
        )
    });
    let distinct = listed(report).filter(|_| report.serving.len() > 1);
    let paths = distinct.map_or(paths, |listed| {
        let all = listed.iter().flat_map(|(_, paths)| paths.iter());
        all.collect::<BTreeSet<_>>().len()
    });
    texts::wchs(connections, paths, watches)
}

/// Our version as a number, 1,234,567 for 1.234.567.
fn version_number() -> u64 {
    let parts = env!("CARGO_PKG_VERSION").split('.');
    parts.fold(0, |number, part| 1000 * number + part.parse().unwrap_or(0))
}

/// Keys and values of `mntr`, without the `zk_` prefix. All values but the first two are numbers: exporters hand them
/// on as they are, and whoever reads one that is no number reads none.
fn mntr(gathered: &Gathered<'_>) -> String {
    let Gathered {
        process,
        mailboxes,
        report,
        tree,
    } = *gathered;
    let Figures {
        latency,
        received,
        sent,
        connections,
        outstanding,
        ..
    } = gathered.figures();
    let Latency {
        count,
        sum_ms,
        min_ms,
        max_ms,
    } = latency;
    let number = |n: u64| n.to_string();
    let mut rows: Vec<(String, String)> = [
        ("version", VERSION.to_owned()),
        ("server_state", process.mode().name().to_owned()),
        ("ringkeeper_version", number(version_number())),
        ("avg_latency", texts::average(sum_ms as f64, count)),
        ("min_latency", number(min_ms)),
        ("max_latency", number(max_ms)),
        ("packets_received", number(received)),
        ("packets_sent", number(sent)),
        ("num_alive_connections", number(connections.into())),
        ("outstanding_requests", number(outstanding)),
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
        // What a server without TLS and without connection throttling has.
        ("connection_drop_probability", texts::java_double(0.0)),
        ("outstanding_tls_handshake", number(0)),
        ("auth_failed_count", number(0)),
        ("non_mtls_remote_conn_count", number(0)),
        ("non_mtls_local_conn_count", number(0)),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into();
    for (why, name) in Why::ALL {
        let ended = report.sum(|stats| stats.ends.of(why));
        rows.push((format!("connections_ended_{name}"), number(ended)));
    }
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
            ("log_writes_beside", part.syncs.written_beside),
            ("log_sync_looks", part.syncs.looks),
            ("log_seals", log.seals),
            ("log_segments", part.segments as u64),
            ("log_disk_full", part.full.into()),
            ("background_shortages", part.shortages),
            ("snapshots_out_of_memory", part.snapshots_saved),
        ];
        rows.extend(of_commit.map(|(key, value)| (key.to_owned(), number(value))));
        rows.push(("committed".into(), part.committed.0.to_string()));
        rows.extend(sync_times(&part.syncs.took));
        for (n, ((seen, link), mailbox)) in part.shards.iter().zip(&mailboxes.shards).enumerate() {
            let connections = mailbox.sockets.load(Relaxed) as u64;
            rows.push((format!("shard_{n}_connections"), number(connections)));
            rows.push((format!("shard_{n}_seen"), seen.0.to_string()));
            rows.push((format!("shard_{n}_detached"), number(link.detached)));
            rows.push((format!("shard_{n}_rejoined"), number(link.rejoined)));
        }
    }
    let stages = report.stages();
    for (name, stage) in [
        ("readlatency", Stage::Read),
        ("updatelatency", Stage::Write),
    ] {
        rows.extend(latency_summary(name, &stages.summary(stage)));
    }
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
    texts::mntr(&rows)
}

/// What Apache's server says of the time that syncs take, ms.
fn sync_times(took: &SyncTimes) -> Vec<(String, String)> {
    let rows = [
        (
            "avg",
            texts::average(took.sum_us as f64 / 1000.0, took.count),
        ),
        ("min", (took.min_us / 1000).to_string()),
        ("max", (took.max_us / 1000).to_string()),
        ("cnt", took.count.to_string()),
        ("sum", (took.sum_us / 1000).to_string()),
    ];
    let named = rows.map(|(what, value)| (format!("{what}_fsynctime"), value));
    named.into()
}

/// What Apache's server says of a latency, ms.
fn latency_summary(name: &str, summary: &Summary) -> Vec<(String, String)> {
    let ms = |us: u64| (us / 1000).to_string();
    let rows = [
        (
            "avg",
            texts::average(summary.sum as f64 / 1000.0, summary.count),
        ),
        ("min", ms(summary.min)),
        ("max", ms(summary.max)),
        ("cnt", summary.count.to_string()),
        ("sum", ms(summary.sum)),
        ("p50", ms(summary.p50)),
        ("p95", ms(summary.p95)),
        ("p99", ms(summary.p99)),
        ("p999", ms(summary.p999)),
    ];
    let named = rows.map(|(what, value)| (format!("{what}_{name}"), value));
    named.into()
}

#[cfg(test)]
mod tests {
    use super::super::report::ServingReport;
    use super::*;
    use crate::shard::{Shard, ShardConfig, WatchCounts, Watched};
    use crate::tree::Tree;
    use crate::types::ShardId;

    #[test]
    fn words_whose_answers_grow_with_what_clients_make_are_lists() {
        let lists = |shards| {
            let all = KNOWN.into_iter().chain(OURS);
            all.filter(|word| asked_by(word, shards).is_list())
                .collect::<Vec<_>>()
        };
        assert_eq!(lists(0), ["stat", "cons", "dump", "wchc", "wchp"]);
        assert_eq!(lists(2), ["stat", "cons", "dump", "wchs", "wchc", "wchp"]);
    }

    /// What shards say whose connections watch so; `None` is too much to be listed.
    fn report(shards: &[&[Option<&[&str]>]]) -> Report {
        let part = |watched: &&[Option<&[&str]>]| {
            let shard = Shard::new(ShardConfig::new(ShardId(0)));
            let mut part = ServingReport::of(&shard, &Tree::new());
            let listed = |paths: &[&str]| paths.iter().map(|&path| path.into()).collect();
            let of = watched.iter().map(|paths| Watched {
                session: SessionId(7),
                paths: paths.map(listed),
            });
            part.watched = of.collect();
            part.stats.watches = WatchCounts {
                connections: watched.len(),
                paths: 2,
                data: 3,
                total: 9,
            };
            part
        };
        Report {
            serving: shards.iter().map(part).collect(),
            ordering: None,
        }
    }

    #[test]
    fn a_path_that_clients_of_several_shards_watch_counts_once_unless_there_are_too_many() {
        let (some, more): (&[&str], &[&str]) = (&["/a", "/b"], &["/b", "/c"]);
        let text = |shards: &[&[Option<&[&str]>]]| wchs(&report(shards));
        let due = |connections, paths, watches| {
            format!("{connections} connections watching {paths} paths\nTotal watches:{watches}\n")
        };
        assert_eq!(
            text(&[&[Some(some)], &[Some(more), Some(some)]]),
            due(3, 3, 6)
        );
        assert_eq!(text(&[&[Some(some)], &[Some(more), None]]), due(3, 4, 6));
        assert_eq!(text(&[&[]]), due(0, 2, 3), "one core need not list them");
        assert!(listed(&report(&[&[Some(some)], &[None]])).is_none());
        assert_eq!(
            listed(&report(&[&[Some(some)], &[Some(more)]]))
                .unwrap()
                .len(),
            2
        );
    }

    #[test]
    fn a_list_has_a_bound_in_bytes_and_a_longer_one_is_not_answered() {
        let path: Arc<str> = "/".repeat(1 << 20).into();
        let fit = LIST_MAX / (path.len() + 2);
        for (paths, is_listed) in [(fit, true), (fit + 1, false)] {
            let paths = vec![path.clone(); paths];
            let mut report = report(&[&[]]);
            report.serving[0].sessions = vec![SessionReport {
                session: SessionId(7),
                ephemerals: paths.clone(),
            }];
            assert_eq!(owners(&report).is_some(), is_listed);
            report.serving[0].watched = vec![Watched {
                session: SessionId(7),
                paths: Some(paths),
            }];
            let listed = listed(&report).expect("no connection watches too much");
            assert_eq!(not_too_long(listed).is_some(), is_listed);
        }
    }

    #[test]
    fn the_words_are_apaches() {
        let mut words = KNOWN;
        words.sort_unstable();
        let due = "conf cons crst dirs dump envi gtmk hash isro mntr ruok srst srvr stat stmk telnet_close wchc \
                   wchp wchs";
        let due: Vec<String> = due
            .split_whitespace()
            .map(|word| word.replace('_', " "))
            .collect();
        assert_eq!(words.as_slice(), due);
    }

    #[test]
    fn golden_while_not_serving() {
        let text = "This ZooKeeper instance is not currently serving requests";
        assert_eq!(while_not_serving("srvr"), format!("{text}\n"));
        assert_eq!(while_not_serving("wchc"), format!("{text}\n"));
        assert_eq!(while_not_serving("hash"), text);
        assert_eq!(while_not_serving("isro"), "null");
    }

    #[test]
    fn the_version_is_a_number_too() {
        let number = version_number();
        let parts = [number / 1_000_000, number / 1000 % 1000, number % 1000];
        let text = parts.map(|part| part.to_string()).join(".");
        assert_eq!(text, env!("CARGO_PKG_VERSION"));
    }

    #[test]
    fn a_word_keeps_a_mask_of_what_follows_it() {
        let peer = "127.0.0.1:1".parse().unwrap();
        let said = Said::new(*b"stmk", b"0123456789", peer);
        assert_eq!(
            (said.name(), &said.behind[..]),
            (Some("stmk"), &b"01234567"[..])
        );
        assert_eq!(Said::new(*b"ruok", b"\n", peer).behind, b"\n");
        assert_eq!(Said::new(INTERRUPT, b"", peer).name(), Some("telnet close"));
    }

    #[test]
    fn an_answer_counts_as_a_packet_for_each_8192_characters() {
        for (length, due) in [(0, 0), (1, 1), (8192, 1), (8193, 2), (16_385, 3)] {
            assert_eq!(packets(&"x".repeat(length)), due, "{length}");
        }
    }

    #[test]
    fn golden_latencies_are_shown_in_milliseconds() {
        let summary = Summary {
            count: 4,
            sum: 5000,
            min: 250,
            p50: 1000,
            p95: 2000,
            p99: 2100,
            p999: 2999,
            max: 3000,
        };
        let took = SyncTimes {
            count: 3,
            sum_us: 4500,
            min_us: 1100,
            max_us: 2100,
        };
        let due = "zk_avg_fsynctime\t1.5\nzk_min_fsynctime\t1\nzk_max_fsynctime\t2\nzk_cnt_fsynctime\t3\n\
                   zk_sum_fsynctime\t4\n";
        assert_eq!(texts::mntr(&sync_times(&took)), due);
        let rows = latency_summary("readlatency", &summary);
        let due = "zk_avg_readlatency\t1.25\nzk_min_readlatency\t0\nzk_max_readlatency\t3\n\
                   zk_cnt_readlatency\t4\nzk_sum_readlatency\t5\nzk_p50_readlatency\t1\n\
                   zk_p95_readlatency\t2\nzk_p99_readlatency\t2\nzk_p999_readlatency\t2\n";
        assert_eq!(texts::mntr(&rows), due);
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
