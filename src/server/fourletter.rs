//! Four-letter words (client.md §8.1, §8.2): operators' scripts parse these texts byte by byte.

use super::state::Shared;
use crate::inline::Inline;
use crate::rt::probe;
use crate::rt::storage::FsStorage;
use crate::shard::{ConnStats, Latency};
use crate::stages::{Stage, Stages};
use std::fmt::Write;
use std::net::SocketAddr;

/// What clients take for the server's version, with our commit as the build id.
pub const VERSION: &str = concat!(
    "3.9.5-",
    env!("RK_COMMIT"),
    ", built on ",
    env!("RK_BUILD_DATE")
);

/// The answer to a word; `None` for one that this server does not have: the connection closes.
pub fn answer(shared: &Shared, word: [u8; 4], asking: SocketAddr) -> Option<String> {
    let word = std::str::from_utf8(&word).ok()?;
    let known = [
        "ruok", "srvr", "stat", "mntr", "conf", "cons", "isro", "dump", "stgs",
    ];
    if !known.contains(&word) {
        return None;
    }
    if !shared.config.four_letter_words.allows(word) {
        return Some(format!(
            "{word} is not executed because it is not in the whitelist.\n"
        ));
    }
    shared.words.set(shared.words.get() + 1);
    if word == "ruok" {
        return Some("imok".into());
    }
    let inline = shared.inline.borrow();
    let Some(inline) = inline.as_ref() else {
        return Some("This ZooKeeper instance is not currently serving requests\n".into());
    };
    Some(match word {
        "srvr" => format!(
            "Zookeeper version: {VERSION}\n{}",
            server_lines(shared, inline)
        ),
        "stat" => stat(shared, inline, asking),
        "mntr" => mntr(shared, inline),
        "conf" => conf(shared),
        "cons" => cons(inline),
        "isro" => "rw".into(),
        "stgs" => stages(inline).dump(),
        _ => dump(inline),
    })
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
fn server_lines(shared: &Shared, inline: &Inline<FsStorage>) -> String {
    let stats = inline.shard.stats();
    format!(
        "Latency min/avg/max: {}\nReceived: {}\nSent: {}\nConnections: {}\nOutstanding: {}\n\
         Zxid: {:#x}\nMode: standalone\nNode count: {}\n",
        latency_line(&stats.latency),
        stats.received + shared.words.get(),
        stats.sent,
        shared.connections(),
        stats.outstanding,
        inline.tree.last_zxid().0,
        inline.tree.node_count(),
    )
}

/// `/address:port[interests](queued=…,recved=…,sent=…`, without the closing parenthesis.
fn connection(c: &ConnStats) -> String {
    let address = match c.peer.address.contains(':') {
        true => format!("[{}]", c.peer.address),
        false => c.peer.address.clone(),
    };
    let interests = i32::from(c.reading) | i32::from(c.writing) << 2;
    format!(
        " /{address}:{}[{interests:x}](queued={},recved={},sent={}",
        c.peer.port, c.queued, c.received, c.sent
    )
}

fn stat(shared: &Shared, inline: &Inline<FsStorage>, asking: SocketAddr) -> String {
    let mut text = format!("Zookeeper version: {VERSION}\nClients:\n");
    for c in inline.shard.connections() {
        text += &connection(&c);
        text += ")\n";
    }
    let _ = writeln!(text, " /{asking}[0](queued=0,recved=1,sent=0)\n");
    text + &server_lines(shared, inline)
}

fn cons(inline: &Inline<FsStorage>) -> String {
    let mut text = String::new();
    for c in inline.shard.connections() {
        text += &connection(&c);
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

fn conf(shared: &Shared) -> String {
    let c = &shared.config;
    format!(
        "clientPort={}\nsecureClientPort=-1\ndataDir={}\ndataDirSize={}\ndataLogDir={}\ndataLogSize={}\n\
         tickTime={}\nmaxClientCnxns={}\nminSessionTimeout={}\nmaxSessionTimeout={}\n\
         clientPortListenBacklog={}\nserverId=0\n",
        c.client_address.port(),
        shared.data.path().display(),
        shared.data.bytes(),
        shared.log.path().display(),
        shared.log.bytes(),
        c.tick_time_ms,
        c.max_client_connections,
        c.session_timeout_min_ms,
        c.session_timeout_max_ms,
        c.backlog,
    )
}

/// Sessions and the ephemerals that they own.
fn dump(inline: &Inline<FsStorage>) -> String {
    let mut text = format!(
        "SessionTracker dump:\nGlobal Sessions({}):\n",
        inline.tree.sessions().len()
    );
    let mut owners = 0;
    let mut owned = String::new();
    for (id, timeout_ms) in inline.tree.sessions() {
        let _ = writeln!(text, "{id}\t{timeout_ms}ms");
        let mut paths = inline.tree.ephemerals(id).peekable();
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

fn stages(inline: &Inline<FsStorage>) -> Stages {
    let mut stages = inline.pipeline.stages().clone();
    stages.merge(inline.shard.stages());
    stages
}

/// Keys and values of `mntr`, without the `zk_` prefix.
fn mntr(shared: &Shared, inline: &Inline<FsStorage>) -> String {
    let stats = inline.shard.stats();
    let log = inline.pipeline.log().counters();
    let pipeline = inline.pipeline.counters();
    let tree = &inline.tree;
    let number = |n: u64| n.to_string();
    let mut rows: Vec<(String, String)> = [
        ("version", VERSION.to_owned()),
        ("server_state", "standalone".to_owned()),
        ("ringkeeper_version", env!("CARGO_PKG_VERSION").to_owned()),
        ("avg_latency", decimal(stats.latency.average_ms())),
        ("min_latency", number(stats.latency.min_ms)),
        ("max_latency", number(stats.latency.max_ms)),
        (
            "packets_received",
            number(stats.received + shared.words.get()),
        ),
        ("packets_sent", number(stats.sent)),
        ("num_alive_connections", number(shared.connections().into())),
        ("outstanding_requests", number(stats.outstanding as u64)),
        ("znode_count", number(tree.node_count() as u64)),
        ("watch_count", number(stats.watches.total as u64)),
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
        ("uptime", number(shared.now().tick.0)),
        ("commit_count", number(pipeline.ordered)),
        ("stale_sessions_expired", number(pipeline.expired)),
        ("log_records", number(log.records)),
        ("log_bytes", number(log.bytes)),
        ("log_syncs", number(log.syncs)),
        ("log_seals", number(log.seals)),
        (
            "log_segments",
            number(inline.pipeline.log().segments() as u64),
        ),
        (
            "log_disk_full",
            number(inline.pipeline.log().is_full().into()),
        ),
        ("requests_refused", number(pipeline.refused)),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into();
    let stages = stages(inline);
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
        let (commit, date) = rest.split_once(", built on ").unwrap();
        assert_eq!(commit.len(), 40);
        assert!(date.ends_with(" UTC"), "{date}");
    }
}
