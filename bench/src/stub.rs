//! A server that does nothing: parses each request and answers at once, in one thread behind epoll. No
//! server can be faster on this machine with this generator.
//!
//! With a directory to sync in, the stub stands for a server that does nothing but its duty: all writes
//! that one wait of epoll has brought are a batch, for which as many bytes as a log would need are written
//! and synced before any of them is answered. Reads of other connections are answered first.

use crate::conn::{self, Got, Inbound, Outbound, SCRATCH_BYTES};
use crate::failure::{Context, Failure};
use crate::segment::{SEGMENT_BYTES, Segment};
use crate::sys::{self, Poller, Ready};
use crate::wire::{Reader, answer, code, op};
use clap::Args;
use std::collections::HashMap;
use std::io::{ErrorKind, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;

/// The stub's arguments.
#[derive(Args)]
pub struct StubArgs {
    /// Where to listen on 127.0.0.1; 0 takes a free port. It is printed.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Bytes that getData returns.
    #[arg(long, default_value_t = 100)]
    size: usize,
    /// Write and sync in this directory before writes are answered.
    #[arg(long, value_name = "DIR")]
    sync_dir: Option<PathBuf>,
}

/// What a write takes in the stub's log, bytes: a setData of 100 B takes as many in ours.
const RECORD_BYTES: usize = 304;

/// The listener's token; connections have their index.
const LISTENER: u64 = u64::MAX;

/// Serves until the process is ended.
pub fn main(args: &StubArgs) -> Result<(), Failure> {
    sys::raise_open_files().context(|| "raising the limit of open files".into())?;
    let listener = TcpListener::bind(("127.0.0.1", args.port))
        .context(|| format!("listening on port {}", args.port))?;
    let port = listener
        .local_addr()
        .context(|| "asking for the port".into())?
        .port();
    let segment = args.sync_dir.as_deref().map(Segment::create).transpose()?;
    println!("{port}");
    std::io::stdout()
        .flush()
        .context(|| "printing the port".into())?;
    Stub::new(listener, args.size, segment)?.serve()
}

struct Peer {
    stream: TcpStream,
    inbound: Inbound,
    outbound: Outbound,
    /// Which of the connections that this slot has had: watches name it.
    generation: u64,
    greeted: bool,
    /// Something waits to be written.
    dirty: bool,
    /// What waits answers a write, or tells of one.
    wrote: bool,
    /// Closes when everything is written.
    closing: bool,
}

/// All its state.
pub struct Stub {
    listener: TcpListener,
    poller: Poller,
    peers: Vec<Option<Peer>>,
    free: Vec<usize>,
    accepted: u64,
    data: Vec<u8>,
    zxid: i64,
    /// By path, in the order of arming: connection and its generation.
    watches: HashMap<Vec<u8>, Vec<(usize, u64)>>,
    dirty: Vec<usize>,
    /// Where writes are synced, if they are.
    segment: Option<Segment>,
    /// Writes since the last sync.
    batched: usize,
    /// As many zeroes as the largest batch needed.
    records: Vec<u8>,
}

/// What a request asks for besides its answer.
enum Effect {
    None,
    Watch(Vec<u8>),
    Changed(Vec<u8>),
    Close,
}

impl Stub {
    /// Serves what the listener takes; getData returns so many bytes. Writes are synced to the segment,
    /// if there is one.
    pub fn new(
        listener: TcpListener,
        data_bytes: usize,
        segment: Option<Segment>,
    ) -> Result<Stub, Failure> {
        let poller = Poller::new().context(|| "making an epoll".into())?;
        listener
            .set_nonblocking(true)
            .and_then(|()| poller.add(&listener, LISTENER, false))
            .context(|| "preparing the listener".into())?;
        Ok(Stub {
            listener,
            poller,
            peers: Vec::new(),
            free: Vec::new(),
            accepted: 0,
            data: vec![b'd'; data_bytes],
            zxid: 1,
            watches: HashMap::new(),
            dirty: Vec::new(),
            segment,
            batched: 0,
            records: Vec::new(),
        })
    }

    /// For ever.
    pub fn serve(mut self) -> Result<(), Failure> {
        let mut scratch = vec![0; SCRATCH_BYTES];
        let mut ready: Vec<Ready> = Vec::new();
        loop {
            self.poller
                .wait(&mut ready, None)
                .context(|| "waiting for requests".into())?;
            for event in &ready {
                match event.token {
                    LISTENER => self.accept()?,
                    token => {
                        let at = token as usize;
                        if event.readable {
                            self.read(at, &mut scratch);
                        }
                        if event.writable {
                            self.touch(at);
                        }
                    }
                }
            }
            let dirty = std::mem::take(&mut self.dirty);
            if self.batched > 0 {
                let wrote = |at: &usize| self.peers[*at].as_ref().is_some_and(|p| p.wrote);
                let (writers, readers): (Vec<_>, Vec<_>) = dirty.into_iter().partition(wrote);
                self.flush(readers);
                self.sync()?;
                self.flush(writers);
            } else {
                self.flush(dirty);
            }
        }
    }

    /// Makes the batch durable.
    fn sync(&mut self) -> Result<(), Failure> {
        let batched = std::mem::take(&mut self.batched);
        let Some(segment) = &mut self.segment else {
            return Ok(());
        };
        let bytes = (batched * RECORD_BYTES).min(SEGMENT_BYTES);
        self.records.resize(bytes.max(self.records.len()), 0xa5);
        segment.write_and_sync(&self.records[..bytes])
    }

    fn accept(&mut self) -> Result<(), Failure> {
        loop {
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == ErrorKind::ConnectionAborted => continue,
                Err(e) => return Err(e).context(|| "accepting a connection".into()),
            };
            let at = self.free.pop().unwrap_or_else(|| {
                self.peers.push(None);
                self.peers.len() - 1
            });
            stream
                .set_nonblocking(true)
                .and_then(|()| stream.set_nodelay(true))
                .and_then(|()| self.poller.add(&stream, at as u64, false))
                .context(|| "preparing a connection".into())?;
            self.accepted += 1;
            self.peers[at] = Some(Peer {
                stream,
                inbound: Inbound::default(),
                outbound: Outbound::default(),
                generation: self.accepted,
                greeted: false,
                dirty: false,
                wrote: false,
                closing: false,
            });
        }
    }

    fn touch(&mut self, at: usize) {
        if let Some(peer) = &mut self.peers[at]
            && !peer.dirty
        {
            peer.dirty = true;
            self.dirty.push(at);
        }
    }

    fn read(&mut self, at: usize, scratch: &mut [u8]) {
        let Some(peer) = &mut self.peers[at] else {
            return;
        };
        let n = match conn::receive(&mut peer.stream, scratch) {
            Got::Bytes(n) => n,
            Got::Nothing => return,
            Got::End => return self.drop_peer(at),
        };
        let (inbound, out, greeted) = (
            &mut peer.inbound,
            &mut peer.outbound.buffer,
            &mut peer.greeted,
        );
        let (generation, zxid, data) = (peer.generation, &mut self.zxid, &self.data);
        let (watches, mut changed, mut closing) = (&mut self.watches, Vec::new(), false);
        let mut writes = 0;
        let fed = inbound.feed(&scratch[..n], |payload| {
            if !*greeted {
                *greeted = true;
                writes += 1;
                let (timeout_ms, known) = greet(payload)?;
                let id = if known == 0 { generation as i64 } else { known };
                answer::session(out, timeout_ms, id, payload.len() == 45);
                return Ok(());
            }
            let zxid_before = *zxid;
            let effect = serve(payload, out, zxid, data)?;
            writes += usize::from(*zxid > zxid_before);
            match effect {
                Effect::None => {}
                Effect::Watch(path) => watches.entry(path).or_default().push((at, generation)),
                // A watcher hears of a change before its answer; here they are others.
                Effect::Changed(path) => changed.extend(watches.remove_entry(&path)),
                Effect::Close => closing = true,
            }
            Ok(())
        });
        if fed.is_err() {
            return self.drop_peer(at);
        }
        peer.closing |= closing;
        if self.segment.is_some() && writes > 0 {
            peer.wrote = true;
            self.batched += writes;
        }
        self.touch(at);
        for (path, watchers) in changed {
            self.notify(&path, &watchers);
        }
    }

    fn notify(&mut self, path: &[u8], watchers: &[(usize, u64)]) {
        let mut event = Vec::new();
        answer::data_changed(&mut event, self.zxid, path);
        for &(at, generation) in watchers {
            if let Some(peer) = &mut self.peers[at]
                && peer.generation == generation
            {
                peer.outbound.buffer.extend_from_slice(&event);
                peer.wrote = self.segment.is_some();
                self.touch(at);
            }
        }
    }

    fn flush(&mut self, dirty: Vec<usize>) {
        for at in dirty {
            let Some(peer) = &mut self.peers[at] else {
                continue;
            };
            (peer.dirty, peer.wrote) = (false, false);
            let written = peer
                .outbound
                .flush(&mut peer.stream, &self.poller, at as u64);
            if written.is_err() || peer.closing && peer.outbound.is_empty() {
                self.drop_peer(at);
            }
        }
    }

    fn drop_peer(&mut self, at: usize) {
        // Closing takes it out of the epoll as well.
        self.peers[at] = None;
        self.free.push(at);
    }
}

fn malformed() -> Failure {
    Failure::Protocol("a request that is none".into())
}

/// The timeout of a handshake, and the session that it comes back to; 0 = a new one. The stub forgets
/// none.
fn greet(payload: &[u8]) -> Result<(i32, i64), Failure> {
    let parse = |mut r: Reader| {
        r.take(12)?;
        let timeout_ms = r.i32()?;
        let id = r.i64()?;
        r.bytes()?;
        Some((timeout_ms.clamp(4_000, 40_000), id))
    };
    parse(Reader(payload)).ok_or_else(malformed)
}

/// Answers a request.
fn serve(
    payload: &[u8],
    out: &mut Vec<u8>,
    zxid: &mut i64,
    data: &[u8],
) -> Result<Effect, Failure> {
    let mut r = Reader(payload);
    let xid = r.i32().ok_or_else(malformed)?;
    let op = r.i32().ok_or_else(malformed)?;
    let mut effect = Effect::None;
    match op {
        op::GET_DATA | op::EXISTS => {
            let path = r.bytes().ok_or_else(malformed)?;
            if r.u8().ok_or_else(malformed)? != 0 {
                effect = Effect::Watch(path.to_vec());
            }
            let now = *zxid;
            answer::reply(out, xid, now, 0, |out| match op {
                op::GET_DATA => answer::data(out, data, now),
                _ => answer::stat(out, data.len(), now),
            });
        }
        op::SET_DATA => {
            let path = r.bytes().ok_or_else(malformed)?;
            let data = r.bytes().ok_or_else(malformed)?;
            r.i32().ok_or_else(malformed)?;
            *zxid += 1;
            let now = *zxid;
            answer::reply(out, xid, now, 0, |out| answer::stat(out, data.len(), now));
            effect = Effect::Changed(path.to_vec());
        }
        op::CREATE => {
            let path = r.bytes().ok_or_else(malformed)?;
            r.bytes().ok_or_else(malformed)?;
            *zxid += 1;
            answer::reply(out, xid, *zxid, 0, |out| answer::path(out, path));
        }
        op::DELETE => {
            r.bytes().ok_or_else(malformed)?;
            *zxid += 1;
            answer::reply(out, xid, *zxid, 0, |_| {});
        }
        op::PING => answer::reply(out, xid, *zxid, 0, |_| {}),
        op::CLOSE => {
            *zxid += 1;
            answer::reply(out, xid, *zxid, 0, |_| {});
            effect = Effect::Close;
        }
        _ => answer::reply(out, xid, -1, code::UNIMPLEMENTED, |_| {}),
    }
    Ok(effect)
}
