//! A plain blocking connection for what goes before and after a run, and the opening and closing of
//! the run's own connections.

use crate::conn::Inbound;
use crate::failure::{Context, Failure};
use crate::wire::{self, Reply, Session, code};
use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long an answer is waited for.
const ANSWER_WAIT: Duration = Duration::from_secs(30);
/// The timeout that sessions ask for; servers may grant less.
pub const SESSION_TIMEOUT_MS: i32 = 30_000;
/// Requests of the preparation that are on the way at once.
const PIPELINE: usize = 256;
/// Connections that are opened or closed at once: a listen backlog is 50 by default.
const HANDSHAKES: usize = 32;

fn dial(address: SocketAddr) -> Result<TcpStream, Failure> {
    let dialled = TcpStream::connect_timeout(&address, ANSWER_WAIT).and_then(|stream| {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_WAIT))?;
        Ok(stream)
    });
    dialled.map_err(|source| Failure::Connect { address, source })
}

fn no_answer(e: std::io::Error) -> Failure {
    match e.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => Failure::Stalled(ANSWER_WAIT.as_secs()),
        ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => {
            Failure::Refused
        }
        _ => Failure::System {
            what: "reading an answer".into(),
            source: e,
        },
    }
}

/// Reads one frame and not a byte more.
fn read_frame(stream: &mut TcpStream) -> Result<Vec<u8>, Failure> {
    let mut len = [0; 4];
    stream.read_exact(&mut len).map_err(no_answer)?;
    let len = usize::try_from(i32::from_be_bytes(len)).unwrap_or(usize::MAX);
    if len > 1 << 20 {
        return Err(Failure::Protocol(format!("an answer of {len} bytes")));
    }
    let mut payload = vec![0; len];
    stream.read_exact(&mut payload).map_err(no_answer)?;
    Ok(payload)
}

/// Opens connections with a session each, some at a time; connection `i` to target `i`, round and
/// round. They block still.
pub fn open(targets: &[SocketAddr], count: usize) -> Result<Vec<TcpStream>, Failure> {
    let mut hello = Vec::new();
    wire::connect(&mut hello, SESSION_TIMEOUT_MS);
    let mut streams = Vec::with_capacity(count);
    while streams.len() < count {
        let from = streams.len();
        for at in from..count.min(from + HANDSHAKES) {
            let mut stream = dial(targets[at % targets.len()])?;
            stream.write_all(&hello).map_err(no_answer)?;
            streams.push(stream);
        }
        for stream in &mut streams[from..] {
            Session::parse(&read_frame(stream)?)?;
        }
    }
    Ok(streams)
}

/// Opens one connection with a session of its own timeout; it blocks.
pub fn session(address: SocketAddr, timeout_ms: i32) -> Result<(TcpStream, Session), Failure> {
    let mut hello = Vec::new();
    wire::connect(&mut hello, timeout_ms);
    let mut stream = dial(address)?;
    stream.write_all(&hello).map_err(no_answer)?;
    let session = Session::parse(&read_frame(&mut stream)?)?;
    Ok((stream, session))
}

/// Whether a session still lives: a new connection asks for it, and takes it over if it does.
pub fn lives(address: SocketAddr, session: &Session) -> Result<bool, Failure> {
    let mut hello = Vec::new();
    wire::reconnect(&mut hello, session);
    let mut stream = dial(address)?;
    stream.write_all(&hello).map_err(no_answer)?;
    let answer = read_frame(&mut stream)?;
    Ok(Session::parse(&answer).is_ok_and(|found| found.id == session.id))
}

/// Ends the sessions and closes. Best effort: some of them may be broken.
pub fn close(mut streams: Vec<TcpStream>) {
    let mut farewell = Vec::new();
    wire::close(&mut farewell, i32::MAX);
    for batch in streams.chunks_mut(HANDSHAKES) {
        for stream in &mut *batch {
            let _ = stream.set_nonblocking(false);
            let _ = stream.set_read_timeout(Some(Duration::from_secs(2)));
            let _ = stream.write_all(&farewell);
        }
        for stream in batch {
            // Until the server closes too, whatever still comes before.
            let mut scratch = [0; 4096];
            while matches!(stream.read(&mut scratch), Ok(n) if n > 0) {}
        }
    }
}

/// A session for requests whose speed is of no interest.
pub struct Control {
    stream: TcpStream,
    inbound: Inbound,
    xid: i32,
    /// Transactions that were acknowledged, the session's own two included.
    pub transactions: u64,
}

impl Control {
    /// Opens it.
    pub fn open(address: SocketAddr) -> Result<Control, Failure> {
        let stream = open(&[address], 1)?.remove(0);
        Ok(Control {
            stream,
            inbound: Inbound::default(),
            xid: 0,
            transactions: 2,
        })
    }

    /// Sends requests with many on the way; `build` appends one with the given xid. Codes that
    /// `tolerated` lists are fine, others end it.
    pub fn all<T>(
        &mut self,
        what: &str,
        items: impl IntoIterator<Item = T>,
        build: impl FnMut(&mut Vec<u8>, i32, &T),
        tolerated: &[i32],
    ) -> Result<(), Failure> {
        self.all_within(PIPELINE, what, items, build, tolerated)
    }

    /// The same with so many on the way: large requests must not fill all buffers, or both sides would
    /// wait for the other to read.
    pub fn all_within<T>(
        &mut self,
        pipeline: usize,
        what: &str,
        items: impl IntoIterator<Item = T>,
        mut build: impl FnMut(&mut Vec<u8>, i32, &T),
        tolerated: &[i32],
    ) -> Result<(), Failure> {
        let mut items = items.into_iter().peekable();
        let mut waiting = VecDeque::new();
        let mut scratch = vec![0; 64 << 10];
        let mut out = Vec::new();
        while items.peek().is_some() || !waiting.is_empty() {
            while waiting.len() < pipeline
                && let Some(item) = items.next()
            {
                self.xid += 1;
                build(&mut out, self.xid, &item);
                waiting.push_back(self.xid);
            }
            self.stream.write_all(&out).map_err(no_answer)?;
            out.clear();
            let n = self.stream.read(&mut scratch).map_err(no_answer)?;
            if n == 0 {
                return Err(Failure::Refused);
            }
            let transactions = &mut self.transactions;
            self.inbound.feed(&scratch[..n], |payload| {
                let reply = Reply::parse(payload)?;
                if reply.xid < 0 {
                    return Ok(());
                }
                if waiting.pop_front() != Some(reply.xid) {
                    return Err(Failure::Protocol(format!(
                        "{what}: an answer to request {} is out of order",
                        reply.xid
                    )));
                }
                match reply.err {
                    0 => *transactions += 1,
                    code if tolerated.contains(&code) => {}
                    code => {
                        return Err(Failure::Setup {
                            what: what.to_owned(),
                            code,
                        });
                    }
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Makes nodes.
    pub fn create(
        &mut self,
        paths: impl IntoIterator<Item = String>,
        data: &[u8],
    ) -> Result<(), Failure> {
        let build = |out: &mut Vec<u8>, xid, path: &String| wire::create(out, xid, path, data);
        self.all("creating nodes", paths, build, &[])
    }

    /// Removes nodes; those that are not there are fine.
    pub fn delete(&mut self, paths: impl IntoIterator<Item = String>) -> Result<(), Failure> {
        let build = |out: &mut Vec<u8>, xid, path: &String| wire::delete(out, xid, path);
        self.all("removing nodes", paths, build, &[code::NO_NODE])
    }

    /// Ends the session.
    pub fn close(self) {
        close(vec![self.stream]);
    }
}

/// A number that `mntr` tells; `None` if it does not.
pub fn figure_of(address: SocketAddr, key: &str) -> Result<Option<u64>, Failure> {
    let mntr = word(address, "mntr")?;
    let mut rows = mntr.lines().filter_map(|line| line.split_once('\t'));
    let row = rows.find(|(name, _)| *name == key);
    Ok(row.and_then(|(_, value)| value.trim().parse().ok()))
}

/// The last transaction that the server knows of, as `srvr` tells it.
pub fn last_zxid(address: SocketAddr) -> Result<i64, Failure> {
    let srvr = word(address, "srvr")?;
    let mut lines = srvr.lines();
    let zxid = lines.find_map(|line| line.strip_prefix("Zxid: 0x"));
    zxid.and_then(|hex| i64::from_str_radix(hex.trim(), 16).ok())
        .ok_or_else(|| Failure::Protocol("srvr names no zxid".into()))
}

/// Asks a four-letter word.
pub fn word(address: SocketAddr, word: &str) -> Result<String, Failure> {
    let mut stream = dial(address)?;
    let mut text = String::new();
    stream
        .write_all(word.as_bytes())
        .and_then(|()| stream.read_to_string(&mut text))
        .context(|| format!("asking {word}"))?;
    Ok(text)
}
