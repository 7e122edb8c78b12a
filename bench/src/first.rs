//! The first answer of a server that is being started: connection after connection is opened until one of them
//! has a session and the data of a znode.
//!
//! A server on its start refuses connections, ends them, or takes them and never answers: Apache's loses a
//! handshake that comes while it begins to serve. So the next attempt begins while earlier ones still wait.

use crate::conn::{self, Got, Inbound};
use crate::control;
use crate::failure::Failure;
use crate::wire::{self, Reader, Reply, Session};
use std::collections::VecDeque;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

/// How long a server may take to answer at all.
const WAIT: Duration = Duration::from_secs(300);
/// An attempt that still waits after this long is joined by another one.
const GAP: Duration = Duration::from_millis(50);
/// So many wait at once; the oldest is given up.
const WAITING_MAX: usize = 32;
/// Between two looks, and before the next attempt when one was refused.
const PAUSE: Duration = Duration::from_millis(1);

/// A connection, what it has been told so far, and whether it has a session.
struct Attempt {
    stream: TcpStream,
    inbound: Inbound,
    has_session: bool,
}

/// What a look at an attempt finds.
enum Found {
    /// Nothing yet.
    Nothing,
    /// The server has ended it.
    End,
    /// The znode's data.
    Data(Vec<u8>),
}

impl Attempt {
    fn begin(address: SocketAddr) -> std::io::Result<Attempt> {
        let mut stream = TcpStream::connect_timeout(&address, WAIT)?;
        stream.set_nodelay(true)?;
        let mut hello = Vec::new();
        wire::connect(&mut hello, control::SESSION_TIMEOUT_MS);
        stream.write_all(&hello)?;
        stream.set_nonblocking(true)?;
        Ok(Attempt {
            stream,
            inbound: Inbound::default(),
            has_session: false,
        })
    }

    fn look(&mut self, path: &str, scratch: &mut [u8]) -> Result<Found, Failure> {
        let bytes = match conn::receive(&mut self.stream, scratch) {
            Got::Bytes(n) => &scratch[..n],
            Got::Nothing => return Ok(Found::Nothing),
            Got::End => return Ok(Found::End),
        };
        let (mut ask, mut data) = (Vec::new(), None);
        let has_session = &mut self.has_session;
        self.inbound.feed(bytes, |payload| {
            if *has_session {
                data = Some(data_of(path, payload)?);
            } else {
                Session::parse(payload)?;
                *has_session = true;
                wire::get_data(&mut ask, 1, path, false);
            }
            Ok(())
        })?;
        // A few dozen bytes fit any socket's buffer.
        if !ask.is_empty() && self.stream.write_all(&ask).is_err() {
            return Ok(Found::End);
        }
        Ok(data.map_or(Found::Nothing, Found::Data))
    }
}

fn data_of(path: &str, payload: &[u8]) -> Result<Vec<u8>, Failure> {
    let reply = Reply::parse(payload)?;
    if reply.err != 0 {
        return Err(Failure::Setup {
            what: format!("getData of {path}"),
            code: reply.err,
        });
    }
    let data = Reader(reply.body).bytes().map(<[u8]>::to_vec);
    data.ok_or_else(|| Failure::Protocol("an answer to getData has no data".into()))
}

/// Asks for the data of a znode until it is answered. `is_alive` says whether it is worth asking again.
pub fn answer(
    address: SocketAddr,
    path: &str,
    mut is_alive: impl FnMut() -> bool,
) -> Result<Vec<u8>, Failure> {
    let begun = Instant::now();
    let mut waiting: VecDeque<Attempt> = VecDeque::new();
    let mut last: Option<Instant> = None;
    let mut scratch = vec![0; 64 << 10];
    while begun.elapsed() < WAIT && is_alive() {
        if waiting.is_empty() || last.is_none_or(|last| last.elapsed() > GAP) {
            last = Some(Instant::now());
            waiting.extend(Attempt::begin(address));
            if waiting.len() > WAITING_MAX {
                waiting.pop_front();
            }
        }
        let mut at = 0;
        while at < waiting.len() {
            match waiting[at].look(path, &mut scratch)? {
                Found::Nothing => at += 1,
                Found::End => drop(waiting.remove(at)),
                Found::Data(data) => {
                    control::close(waiting.into_iter().map(|attempt| attempt.stream).collect());
                    return Ok(data);
                }
            }
        }
        thread::sleep(PAUSE);
    }
    Err(Failure::Stalled(begun.elapsed().as_secs()))
}
