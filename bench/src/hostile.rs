//! Clients that mean no good: each sends the same request as fast as its socket takes it, however many
//! answers are still on their way, and reads answers as fast as they come.

use crate::conn::{self, Got, SCRATCH_BYTES};
use crate::control;
use crate::failure::{Context, Failure};
use crate::sys::{Poller, Ready};
use crate::wire;
use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// What a large node holds, bytes.
const LARGE_BYTES: usize = 1_000_000;
/// What a small one holds, bytes.
const SMALL_BYTES: usize = 100;
/// Operations in each transaction.
const OPERATIONS: usize = 1_000;
/// At least so much is handed to the socket at once, bytes.
const BLOCK_BYTES: usize = 64 << 10;
/// The timeout that the sessions ask for.
const TIMEOUT_MS: i32 = 10_000;
/// Between two attempts to come back after the server has ended the connection.
const BACK_AFTER: Duration = Duration::from_millis(50);
/// A client looks at least this often whether it is to stop.
const LOOK: Duration = Duration::from_millis(50);
/// Requests may all have the same xid: servers hand it back.
const XID: i32 = 1;

/// What a hostile client sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Attack {
    /// ping.
    Ping,
    /// getData of 1,000,000 bytes.
    Get,
    /// setData of 100 bytes.
    Set,
    /// multi of 1,000 setData.
    Multi,
}

impl Attack {
    /// As rows are called.
    pub fn name(self) -> &'static str {
        match self {
            Attack::Ping => "ping",
            Attack::Get => "get-1MB",
            Attack::Set => "set",
            Attack::Multi => "multi-1000",
        }
    }

    /// What the node that it is aimed at holds, bytes.
    pub fn node_bytes(self) -> usize {
        match self {
            Attack::Get => LARGE_BYTES,
            _ => SMALL_BYTES,
        }
    }

    /// As many requests to the node as make a block.
    fn block(self, node: &str) -> Vec<u8> {
        let data = vec![b'h'; SMALL_BYTES];
        let mut block = Vec::new();
        while block.len() < BLOCK_BYTES {
            match self {
                Attack::Ping => wire::ping(&mut block),
                Attack::Get => wire::get_data(&mut block, XID, node, false),
                Attack::Set => wire::set_data(&mut block, XID, node, &data),
                Attack::Multi => wire::multi_of_sets(&mut block, XID, node, &data, OPERATIONS),
            }
        }
        block
    }
}

/// What became of a hostile client's requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Harm {
    /// Answers that came, whatever they say.
    pub answered: u64,
    /// Answers with an error.
    pub refused: u64,
    /// How often the server ended the connection, or let none be opened.
    pub cut: u64,
}

impl Harm {
    /// With another client's.
    pub fn plus(self, other: Harm) -> Harm {
        Harm {
            answered: self.answered + other.answered,
            refused: self.refused + other.refused,
            cut: self.cut + other.cut,
        }
    }
}

/// Attacks until it is told to stop; comes back when the server ends the connection.
pub fn attack(
    target: SocketAddr,
    attack: Attack,
    node: &str,
    stop: &AtomicBool,
) -> Result<Harm, Failure> {
    let block = attack.block(node);
    let mut scratch = vec![0; SCRATCH_BYTES];
    let mut harm = Harm::default();
    while !stop.load(Ordering::Relaxed) {
        if let Ok((stream, _)) = control::session(target, TIMEOUT_MS) {
            rush(stream, &block, &mut scratch, stop, &mut harm)?;
        }
        if !stop.load(Ordering::Relaxed) {
            harm.cut += 1;
            thread::sleep(BACK_AFTER);
        }
    }
    Ok(harm)
}

/// Writes and reads as fast as it goes until the connection's end, or until it is told to stop.
fn rush(
    mut stream: TcpStream,
    block: &[u8],
    scratch: &mut [u8],
    stop: &AtomicBool,
    harm: &mut Harm,
) -> Result<(), Failure> {
    let what = || "attacking".to_owned();
    let mut poller = Poller::new().context(what)?;
    stream.set_nonblocking(true).context(what)?;
    poller.add(&stream, 0, true).context(what)?;
    let mut ready: Vec<Ready> = Vec::new();
    let mut answers = Answers::default();
    let mut written = 0;
    while !stop.load(Ordering::Relaxed) {
        poller.wait(&mut ready, Some(LOOK)).context(what)?;
        for event in &ready {
            if event.readable {
                match conn::receive(&mut stream, scratch) {
                    Got::Bytes(n) => answers.feed(&scratch[..n], harm)?,
                    Got::Nothing => {}
                    Got::End => return Ok(()),
                }
            }
            if event.writable {
                match stream.write(&block[written..]) {
                    Ok(n) => written = (written + n) % block.len(),
                    Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                    Err(e) if e.kind() == ErrorKind::Interrupted => {}
                    Err(_) => return Ok(()),
                }
            }
        }
    }
    Ok(())
}

/// What stands at the beginning of each answer, bytes: length, xid, zxid, err.
const HEAD_BYTES: usize = 4 + wire::REPLY_HEADER_BYTES;

/// Counts answers without keeping what they carry.
struct Answers {
    head: [u8; HEAD_BYTES],
    /// Bytes of the head that have come.
    have: usize,
    /// Bytes of the record that have not come yet.
    rest: usize,
}

impl Default for Answers {
    fn default() -> Answers {
        Answers {
            head: [0; HEAD_BYTES],
            have: 0,
            rest: 0,
        }
    }
}

impl Answers {
    fn feed(&mut self, mut bytes: &[u8], harm: &mut Harm) -> Result<(), Failure> {
        while !bytes.is_empty() {
            let skipped = self.rest.min(bytes.len());
            self.rest -= skipped;
            bytes = &bytes[skipped..];
            let taken = (HEAD_BYTES - self.have).min(bytes.len());
            self.head[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
            self.have += taken;
            bytes = &bytes[taken..];
            if self.have == HEAD_BYTES {
                self.have = 0;
                let word = |at: usize| {
                    let [a, b, c, d] = [0, 1, 2, 3].map(|i| self.head[at + i]);
                    i32::from_be_bytes([a, b, c, d])
                };
                let payload = usize::try_from(word(0)).unwrap_or(0);
                self.rest = payload
                    .checked_sub(wire::REPLY_HEADER_BYTES)
                    .ok_or_else(|| Failure::Protocol(format!("an answer of {} bytes", word(0))))?;
                harm.answered += 1;
                harm.refused += u64::from(word(HEAD_BYTES - 4) != 0);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::answer;

    #[test]
    fn answers_are_counted_however_they_were_cut() {
        let mut stream = Vec::new();
        answer::reply(&mut stream, XID, 7, 0, |out| {
            answer::data(out, &[1; 300], 7)
        });
        answer::reply(&mut stream, XID, 8, -101, |_| {});
        answer::reply(&mut stream, XID, 9, 0, |out| answer::stat(out, 3, 9));
        for cut in 1..=stream.len() {
            let (mut answers, mut harm) = (Answers::default(), Harm::default());
            for piece in stream.chunks(cut) {
                answers.feed(piece, &mut harm).unwrap();
            }
            let seen = (harm.answered, harm.refused, answers.have, answers.rest);
            assert_eq!(seen, (3, 1, 0, 0), "cut every {cut} bytes");
        }
        let short = [0, 0, 0, 15].iter().chain(&[0; 16]).copied();
        let short: Vec<u8> = short.collect();
        let fed = Answers::default().feed(&short, &mut Harm::default());
        assert!(fed.is_err());
    }

    #[test]
    fn blocks_are_whole_requests() {
        for attack in [Attack::Ping, Attack::Get, Attack::Set, Attack::Multi] {
            let block = attack.block("/p/node");
            let mut requests = 0;
            let used = wire::split(&block, |_| {
                requests += 1;
                Ok(())
            });
            assert_eq!(used.unwrap(), block.len(), "{attack:?}");
            assert!(requests >= 1 && block.len() >= BLOCK_BYTES, "{attack:?}");
        }
        let transaction = Attack::Multi.block("/p/node").len();
        assert!(transaction < 1 << 20, "below every server's limit");
    }
}
