//! The texts of the four-letter words, byte for byte those of Apache's server (docs/protocol.md §8.2): plain
//! values in, text out.

use super::address::{endpoint, java_text};
use super::report::SessionReport;
use crate::shard::{ConnStats, Latency};
use crate::types::{Now, SessionId, Tick, WallMs, Zxid};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

/// What most words answer while the server does not serve; all but `hash` with a newline.
pub const NOT_SERVING: &str = "This ZooKeeper instance is not currently serving requests";
/// The timeout of a connection without a session, and the width of the buckets in which connections
/// expire, ms: Apache's `nio.sessionlessCnxnTimeout`.
pub const SESSIONLESS_MS: u64 = 10_000;

/// What `srvr` and `stat` show of the server.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    /// Of all replies.
    pub latency: Latency,
    /// Packets, four-letter words included.
    pub received: u64,
    /// Packets.
    pub sent: u64,
    /// Open ones, the asking one included.
    pub connections: u32,
    /// Requests without an answer.
    pub outstanding: u64,
    /// The last transaction.
    pub zxid: Zxid,
    /// As Apache counts them.
    pub nodes: usize,
    /// As what the server serves.
    pub mode: &'static str,
}

impl Figures {
    /// From `Latency` on, the same in `srvr` and `stat`.
    fn lines(&self) -> String {
        let Latency {
            count,
            sum_ms,
            min_ms,
            max_ms,
        } = self.latency;
        format!(
            "Latency min/avg/max: {min_ms}/{}/{max_ms}\nReceived: {}\nSent: {}\nConnections: {}\n\
             Outstanding: {}\nZxid: {:#x}\nMode: {}\nNode count: {}\n",
            average(sum_ms as f64, count),
            self.received,
            self.sent,
            self.connections,
            self.outstanding,
            self.zxid.0,
            self.mode,
            self.nodes,
        )
    }
}

/// `srvr`.
pub fn srvr(version: &str, figures: &Figures) -> String {
    format!("Zookeeper version: {version}\n{}", figures.lines())
}

/// `stat`.
pub fn stat<'a>(
    version: &str,
    connections: impl Iterator<Item = &'a ConnStats>,
    asking: SocketAddr,
    figures: &Figures,
) -> String {
    let mut text = format!("Zookeeper version: {version}\nClients:\n");
    for c in connections {
        text += &connection(c);
        text += ")\n";
    }
    text += &asking_line(asking);
    text += "\n";
    text + &figures.lines()
}

/// `cons`.
pub fn cons<'a>(connections: impl Iterator<Item = &'a ConnStats>, asking: SocketAddr) -> String {
    let mut text = String::new();
    for c in connections {
        text += &connection(c);
        text += &session(c);
        text += ")\n";
    }
    text += &asking_line(asking);
    text + "\n"
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

/// What follows where there is a session.
fn session(c: &ConnStats) -> String {
    let Some(session) = &c.session else {
        return String::new();
    };
    let mut text = format!(
        ",sid={},lop={},est={},to={}",
        session.session, c.last_op, c.established.0, session.timeout_ms
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
    text
}

/// The connection that asks, which nothing is read from any more.
fn asking_line(asking: SocketAddr) -> String {
    let asking = endpoint(&java_text(asking.ip()), asking.port());
    format!(" /{asking}[0](queued=0,recved=1,sent=0)\n")
}

/// What `conf` shows.
#[derive(Clone, Copy, Debug)]
pub struct Conf<'a> {
    /// Where clients connect.
    pub client_port: u16,
    /// The directory of snapshots, and the bytes in it.
    pub data: (&'a Path, u64),
    /// Of the log.
    pub log: (&'a Path, u64),
    /// ms.
    pub tick_time_ms: u64,
    /// Connections per address.
    pub max_client_connections: u32,
    /// The shortest and the longest, ms.
    pub session_timeouts_ms: (i32, i32),
    /// As configured.
    pub backlog: i32,
}

/// `conf`.
pub fn conf(c: &Conf<'_>) -> String {
    format!(
        "clientPort={}\nsecureClientPort=-1\ndataDir={}\ndataDirSize={}\ndataLogDir={}\ndataLogSize={}\n\
         tickTime={}\nmaxClientCnxns={}\nminSessionTimeout={}\nmaxSessionTimeout={}\n\
         clientPortListenBacklog={}\nserverId=0\n",
        c.client_port,
        c.data.0.display(),
        c.data.1,
        c.log.0.display(),
        c.log.1,
        c.tick_time_ms,
        c.max_client_connections,
        c.session_timeouts_ms.0,
        c.session_timeouts_ms.1,
        c.backlog,
    )
}

/// `dirs`.
pub fn dirs(data_bytes: u64, log_bytes: u64) -> String {
    format!("datadir_size: {data_bytes}\nlogdir_size: {log_bytes}\n")
}

/// What `dump` shows.
#[derive(Debug)]
pub struct Dump<'a> {
    /// Sessions, and when they expire.
    pub sessions: &'a [(SessionId, Tick)],
    /// Sessions and their ephemerals.
    pub owners: &'a [SessionReport],
    /// Address and port, session and timeout of each connection, and when it was heard of.
    pub connections: Vec<(String, SessionId, u64, Tick)>,
    /// The moment.
    pub now: Now,
}

/// `dump`.
pub fn dump(dump: &Dump<'_>) -> String {
    let sessions = dump.sessions.iter();
    let sessions = sessions.map(|(session, at)| (*at, session.to_string()));
    let connections = dump.connections.iter();
    let connections = connections.map(|(peer, session, timeout_ms, heard)| {
        let until = (heard.0 + timeout_ms) / SESSIONLESS_MS + 1;
        let line = format!("ip: /{peer} sessionId: {session}");
        (Tick(until * SESSIONLESS_MS), line)
    });
    let mut text = String::from("SessionTracker dump:\nSession ");
    sets(&mut text, sessions, dump.now);
    let owners = dump.owners.iter().filter(|own| !own.ephemerals.is_empty());
    let _ = writeln!(
        text,
        "ephemeral nodes dump:\nSessions with Ephemerals ({}):",
        owners.clone().count()
    );
    for own in owners {
        let _ = writeln!(text, "{}:", own.session);
        for path in &own.ephemerals {
            let _ = writeln!(text, "\t{path}");
        }
    }
    text += "Connections dump:\nConnections ";
    sets(&mut text, connections, dump.now);
    text
}

/// Members by the moment at which they expire.
fn sets(text: &mut String, members: impl Iterator<Item = (Tick, String)>, now: Now) {
    let mut buckets: BTreeMap<Tick, Vec<String>> = BTreeMap::new();
    for (at, member) in members {
        buckets.entry(at).or_default().push(member);
    }
    let count: usize = buckets.values().map(Vec::len).sum();
    let _ = writeln!(text, "Sets ({})/({count}):", buckets.len());
    for (at, members) in buckets {
        let wall = WallMs(now.wall.0 + at.0 as i64 - now.tick.0 as i64);
        let _ = writeln!(text, "{} expire at {}:", members.len(), date(wall));
        for member in members {
            let _ = writeln!(text, "\t{member}");
        }
    }
}

/// A moment as Java's `Date` writes it, in UTC.
fn date(at: WallMs) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let seconds = at.0.div_euclid(1000);
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Years are counted from March on, in eras of 400 years, so that the leap day is a year's last.
    let shifted = days + 719_468;
    let (era, day) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = (month + 2) % 12;
    let year = year + 400 * era + i64::from(month < 2);
    format!(
        "{} {} {day:02} {:02}:{:02}:{:02} UTC {year}",
        DAYS[days.rem_euclid(7) as usize],
        MONTHS[month as usize],
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

/// `wchs`.
pub fn wchs(connections: usize, paths: usize, watches: usize) -> String {
    format!("{connections} connections watching {paths} paths\nTotal watches:{watches}\n")
}

/// `wchc`: of each connection what it watches, sorted; the lists come in no order, so that a data core need not
/// compare what may be long.
pub fn wchc<'a>(watched: impl Iterator<Item = (SessionId, &'a [Arc<str>])>) -> String {
    let mut text = String::new();
    for (session, paths) in watched {
        let _ = writeln!(text, "{session}");
        let mut sorted: Vec<&Arc<str>> = paths.iter().collect();
        sorted.sort_unstable();
        for path in sorted {
            let _ = writeln!(text, "\t{path}");
        }
    }
    text + "\n"
}

/// `wchp`: of each path who watches it.
pub fn wchp<'a>(watched: impl Iterator<Item = (SessionId, &'a [Arc<str>])>) -> String {
    let mut by_path: BTreeMap<&str, Vec<SessionId>> = BTreeMap::new();
    for (session, paths) in watched {
        for path in paths {
            by_path.entry(path).or_default().push(session);
        }
    }
    let mut text = String::new();
    for (path, sessions) in by_path {
        let _ = writeln!(text, "{path}");
        for session in sessions {
            let _ = writeln!(text, "\t{session}");
        }
    }
    text + "\n"
}

/// `hash`.
pub fn hash(digests: &[(Zxid, u64)]) -> String {
    digests
        .iter()
        .fold(String::new(), |mut text, (zxid, digest)| {
            let _ = writeln!(text, "{:x}: {}", zxid.0, *digest as i64);
            text
        })
}

/// `envi`.
pub fn envi(rows: &[(&str, String)]) -> String {
    let head = String::from("Environment:\n");
    rows.iter().fold(head, |mut text, (key, value)| {
        let _ = writeln!(text, "{key}={value}");
        text
    })
}

/// `mntr`; keys without the prefix.
pub fn mntr(rows: &[(String, String)]) -> String {
    rows.iter().fold(String::new(), |mut text, (key, value)| {
        let _ = writeln!(text, "zk_{key}\t{value}");
        text
    })
}

/// The average as Apache shows it: rounded to four digits, halves up, and written as Java writes a double.
pub fn average(sum: f64, count: u64) -> String {
    if count == 0 {
        return java_double(0.0);
    }
    let average = sum / count as f64;
    // Only a multiple of 1/32 that is none of 1/16 lies in the middle between two numbers of four digits.
    let parts = average * 32.0;
    let is_half = parts.fract() == 0.0 && parts % 2.0 == 1.0;
    let rounded = match is_half {
        true => (average * 10_000.0 + 0.5).floor() / 10_000.0,
        false => format!("{average:.4}").parse().unwrap_or(average),
    };
    java_double(rounded)
}

/// A number as Java writes a double that is not negative: with a digit behind the point, and with an exponent
/// below 0.001 and from 10,000,000 on.
pub fn java_double(value: f64) -> String {
    if value == 0.0 || (1e-3..1e7).contains(&value) {
        return format!("{value:?}");
    }
    let text = format!("{value:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    match digits.contains('.') {
        true => format!("{digits}E{exponent}"),
        false => format!("{digits}.0E{exponent}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::{ClientAddress, SessionStats};
    use crate::types::{ConnId, Xid};

    fn figures() -> Figures {
        Figures {
            latency: Latency {
                count: 500,
                sum_ms: 778,
                min_ms: 0,
                max_ms: 52,
            },
            received: 501,
            sent: 545,
            connections: 2,
            outstanding: 0,
            zxid: Zxid(0x152),
            nodes: 43,
            mode: "standalone",
        }
    }

    /// A connection as `cons` shows it in the specification.
    fn shown() -> ConnStats {
        ConnStats {
            conn: ConnId {
                slot: 0,
                generation: 1,
            },
            peer: ClientAddress {
                address: "127.0.0.1".into(),
                port: 50780,
            },
            reading: true,
            writing: false,
            queued: 0,
            received: 6,
            sent: 6,
            session: Some(SessionStats {
                session: SessionId(0x0100_000d_6217_003a),
                timeout_ms: 10_000,
            }),
            last_op: "EXIS",
            established: WallMs(1_795_169_993_664),
            last_xid: Some(Xid(5)),
            last_zxid: Zxid(0x152),
            last_response_ms: 1_096_288,
            last_latency_ms: 1,
            latency: Latency {
                count: 2,
                sum_ms: 3,
                min_ms: 0,
                max_ms: 2,
            },
            heard: Tick(1_096_288),
        }
    }

    fn asking() -> SocketAddr {
        "127.0.0.1:50814".parse().unwrap()
    }

    #[test]
    fn golden_srvr_and_stat() {
        let version =
            "3.9.5-0123456789abcdef0123456789abcdef01234567, built on 2026-01-30 10:00 UTC";
        let head = format!("Zookeeper version: {version}\n");
        let lines = "Latency min/avg/max: 0/1.556/52\nReceived: 501\nSent: 545\nConnections: 2\n\
                     Outstanding: 0\nZxid: 0x152\nMode: standalone\nNode count: 43\n";
        assert_eq!(srvr(version, &figures()), format!("{head}{lines}"));
        let clients = "Clients:\n /127.0.0.1:50780[1](queued=0,recved=6,sent=6)\n \
                       /127.0.0.1:50814[0](queued=0,recved=1,sent=0)\n\n";
        assert_eq!(
            stat(version, [shown()].iter(), asking(), &figures()),
            format!("{head}{clients}{lines}")
        );
    }

    #[test]
    fn golden_cons() {
        let line = " /127.0.0.1:50780[1](queued=0,recved=6,sent=6,sid=0x100000d6217003a,lop=EXIS,\
                    est=1795169993664,to=10000,lcxid=0x5,lzxid=0x152,lresp=1096288,llat=1,minlat=0,avglat=1,\
                    maxlat=2)\n";
        let own = " /127.0.0.1:50814[0](queued=0,recved=1,sent=0)\n\n";
        assert_eq!(cons([shown()].iter(), asking()), format!("{line}{own}"));
        let reset = ConnStats {
            peer: ClientAddress {
                address: "0:0:0:0:0:0:0:1".into(),
                port: 7,
            },
            writing: true,
            last_op: "NA",
            last_xid: None,
            last_zxid: Zxid(-1),
            last_response_ms: 0,
            last_latency_ms: 0,
            latency: Latency::default(),
            ..shown()
        };
        let line = " /[0:0:0:0:0:0:0:1]:7[5](queued=0,recved=6,sent=6,sid=0x100000d6217003a,lop=NA,\
                    est=1795169993664,to=10000,lzxid=0xffffffffffffffff,lresp=0,llat=0,minlat=0,avglat=0,\
                    maxlat=0)\n";
        assert_eq!(cons([reset].iter(), asking()), format!("{line}{own}"));
        let fresh = ConnStats {
            session: None,
            ..shown()
        };
        let line = " /127.0.0.1:50780[1](queued=0,recved=6,sent=6)\n";
        assert_eq!(cons([fresh].iter(), asking()), format!("{line}{own}"));
    }

    #[test]
    fn golden_conf_and_dirs() {
        let path = Path::new("/data/version-2");
        let text = conf(&Conf {
            client_port: 2181,
            data: (path, 67_109_358),
            log: (path, 67_109_358),
            tick_time_ms: 2000,
            max_client_connections: 60,
            session_timeouts_ms: (4000, 40_000),
            backlog: -1,
        });
        let due = "clientPort=2181\nsecureClientPort=-1\ndataDir=/data/version-2\ndataDirSize=67109358\n\
                   dataLogDir=/data/version-2\ndataLogSize=67109358\ntickTime=2000\nmaxClientCnxns=60\n\
                   minSessionTimeout=4000\nmaxSessionTimeout=40000\nclientPortListenBacklog=-1\nserverId=0\n";
        assert_eq!(text, due);
        assert_eq!(dirs(1, 22), "datadir_size: 1\nlogdir_size: 22\n");
    }

    #[test]
    fn golden_dump() {
        let session = SessionId(0x0100_000d_6217_003a);
        let owner = |session, paths: &[&str]| SessionReport {
            session,
            ephemerals: paths.iter().map(|&path| path.into()).collect(),
        };
        let text = dump(&Dump {
            sessions: &[(session, Tick(1_106_000))],
            owners: &[
                owner(SessionId(1), &[]),
                owner(session, &["/eph1", "/eph2"]),
            ],
            connections: vec![
                ("127.0.0.1:50780".into(), session, 10_000, Tick(1_096_288)),
                (
                    "127.0.0.1:50852".into(),
                    SessionId::NONE,
                    SESSIONLESS_MS,
                    Tick(1_096_300),
                ),
            ],
            // Tick 1,106,000 is 10:20:04.
            now: Now {
                tick: Tick(1_096_300),
                micros: 0,
                wall: WallMs(1_795_170_004_000 - 9_700),
            },
        });
        let due = "SessionTracker dump:\nSession Sets (1)/(1):\n1 expire at Fri Nov 20 10:20:04 UTC 2026:\n\
                   \t0x100000d6217003a\nephemeral nodes dump:\nSessions with Ephemerals (1):\n\
                   0x100000d6217003a:\n\t/eph1\n\t/eph2\nConnections dump:\nConnections Sets (1)/(2):\n\
                   2 expire at Fri Nov 20 10:20:08 UTC 2026:\n\
                   \tip: /127.0.0.1:50780 sessionId: 0x100000d6217003a\n\
                   \tip: /127.0.0.1:50852 sessionId: 0x0\n";
        assert_eq!(text, due);
    }

    #[test]
    fn golden_dates() {
        for (seconds, due) in [
            (0, "Thu Jan 01 00:00:00 UTC 1970"),
            (951_782_399, "Mon Feb 28 23:59:59 UTC 2000"),
            (951_782_400, "Tue Feb 29 00:00:00 UTC 2000"),
            (1_709_251_200, "Fri Mar 01 00:00:00 UTC 2024"),
            (1_795_170_004, "Fri Nov 20 10:20:04 UTC 2026"),
            (4_102_444_799, "Thu Dec 31 23:59:59 UTC 2099"),
        ] {
            assert_eq!(date(WallMs(seconds * 1000 + 7)), due);
        }
    }

    #[test]
    fn golden_watches() {
        let paths = |of: &[&str]| -> Vec<Arc<str>> { of.iter().map(|&path| path.into()).collect() };
        let (one, other) = (paths(&["/a", "/b"]), paths(&["/a"]));
        let watched = || [(SessionId(0x1f), &one[..]), (SessionId(0x2f), &other[..])].into_iter();
        assert_eq!(
            wchc(watched()),
            "0x1f\n\t/a\n\t/b\n0x2f\n\t/a\n\n",
            "by connection"
        );
        assert_eq!(
            wchp(watched()),
            "/a\n\t0x1f\n\t0x2f\n/b\n\t0x1f\n\n",
            "by path"
        );
        assert_eq!(
            (wchc([].into_iter()), wchp([].into_iter())),
            ("\n".into(), "\n".into())
        );
        let unsorted = paths(&["/b", "/c", "/a"]);
        assert_eq!(
            wchc([(SessionId(1), &unsorted[..])].into_iter()),
            "0x1\n\t/a\n\t/b\n\t/c\n\n",
            "whoever gathers does not sort"
        );
        assert_eq!(
            wchs(2, 2, 3),
            "2 connections watching 2 paths\nTotal watches:3\n"
        );
    }

    #[test]
    fn golden_hash_envi_and_mntr() {
        let digests = [(Zxid(0x80), 1_371_985_504), (Zxid(0x1_0000_0100), u64::MAX)];
        assert_eq!(hash(&digests), "80: 1371985504\n100000100: -1\n");
        assert_eq!(hash(&[]), "");
        let rows = [
            ("zookeeper.version", "3.9.5-x".to_owned()),
            ("os.name", "Linux".into()),
        ];
        assert_eq!(
            envi(&rows),
            "Environment:\nzookeeper.version=3.9.5-x\nos.name=Linux\n"
        );
        let rows = [("version", "3.9.5-x"), ("avg_latency", "0.5")];
        let rows = rows.map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(mntr(&rows), "zk_version\t3.9.5-x\nzk_avg_latency\t0.5\n");
    }

    #[test]
    fn golden_averages_are_written_as_java_writes_them() {
        for (sum, count, due) in [
            (0, 0, "0.0"),
            (0, 9, "0.0"),
            (778, 500, "1.556"),
            (10, 1, "10.0"),
            (5, 2, "2.5"),
            (1, 3, "0.3333"),
            (2, 3, "0.6667"),
            // Halves go up.
            (1, 32, "0.0313"),
            (3, 32, "0.0938"),
            (1, 1000, "0.001"),
            (1, 2000, "5.0E-4"),
            (1, 9999, "1.0E-4"),
            (1, 100_000, "0.0"),
            (9_999_999, 1, "9999999.0"),
            (10_000_000, 1, "1.0E7"),
            (123_456_789, 8, "1.5432098625E7"),
        ] {
            assert_eq!(average(f64::from(sum), count), due, "{sum}/{count}");
        }
    }
}
