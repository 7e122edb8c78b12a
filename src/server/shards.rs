//! The placement with shards: the core that orders runs on the thread that starts the server, each
//! shard on a thread and, if wanted, a CPU of its own.
//!
//! What passes between threads: requests and batches through bounded single-producer rings, sockets
//! and questions through channels; whoever is to look is woken by its bell, once for a turn.

use super::edge;
use super::fourletter::{CommitPart, FrontPart};
use super::front::{Front, Side};
use super::jobs::{Jobs, Orders, Todo};
use super::process::Process;
use crate::log::snapshot_file::Written;
use crate::member::Member;
use crate::messages::ShardRequest;
use crate::pipeline::Fatal;
use crate::placement::{Batch, CatchUp, Orderer, Progress, Replica, RingLimits};
use crate::rt::bell::{Bell, Ear};
use crate::rt::listener::Bound;
use crate::rt::socket::Socket;
use crate::rt::storage::FsStorage;
use crate::rt::threads::{Helper, Priority};
use crate::rt::{self, Event, Ticker};
use crate::shard::ShardConfig;
use crate::snapshot;
use crate::types::{Now, ShardId, Zxid};
use std::cell::RefCell;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Requests between a shard and the core that orders. What does not fit waits in the shard, where
/// it is bounded by credits.
const REQUESTS_MAX: usize = 1024;
/// How long a question waits for a core, ms.
const ANSWER_MS: u64 = 1000;

/// A question to every core: what four-letter words show of it.
#[derive(Default)]
pub struct Question {
    fronts: Mutex<Vec<FrontPart>>,
    member: Mutex<Option<CommitPart>>,
    answers: AtomicUsize,
}

/// What is sent to a shard outside the order.
enum Letter {
    Socket(TcpStream, SocketAddr),
    Question(Arc<Question>),
}

/// How others reach the cores.
pub struct Switchboard {
    shards: Vec<Line>,
    core: Mutex<Sender<Arc<Question>>>,
    core_bell: Arc<Bell>,
}

struct Line {
    letters: Mutex<Sender<Letter>>,
    bell: Arc<Bell>,
    /// Sockets that were handed over and are open.
    connections: Arc<AtomicUsize>,
}

impl Switchboard {
    /// Asks every core, and waits for a bounded time.
    pub async fn ask(&self, process: &Process) -> (Vec<FrontPart>, Option<CommitPart>) {
        let question = Arc::new(Question::default());
        for line in &self.shards {
            line.send(Letter::Question(question.clone()));
        }
        self.ask_core(question.clone());
        let until = process.now().tick.after(ANSWER_MS);
        while question.answers.load(Relaxed) < self.shards.len() + 1 && process.now().tick < until {
            rt::sleep(Duration::from_micros(200)).await;
        }
        let take = |m: &Mutex<Vec<FrontPart>>| {
            std::mem::take(&mut *m.lock().unwrap_or_else(PoisonError::into_inner))
        };
        let member = question
            .member
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        (take(&question.fronts), member)
    }

    fn ask_core(&self, question: Arc<Question>) {
        let core = self.core.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = core.send(question);
        drop(core);
        self.core_bell.ring();
    }

    /// Gives a socket to the shard with the fewest.
    fn hand_over(&self, stream: TcpStream, peer: SocketAddr) {
        let load = |line: &&Line| line.connections.load(Relaxed);
        let least = self
            .shards
            .iter()
            .min_by_key(load)
            .expect("there are shards");
        least.connections.fetch_add(1, Relaxed);
        least.send(Letter::Socket(stream, peer));
    }
}

impl Line {
    fn send(&self, letter: Letter) {
        let letters = self.letters.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = letters.send(letter);
        drop(letters);
        self.bell.ring();
    }
}

/// A shard's end of its rings.
pub struct Seat {
    /// The shard and its tree.
    pub replica: Replica,
    /// To the other cores.
    pub switchboard: Arc<Switchboard>,
    batches: rtrb::Consumer<Arc<Batch>>,
    requests: rtrb::Producer<ShardRequest>,
    /// The one that did not fit.
    unsent: Option<ShardRequest>,
}

impl Seat {
    /// Takes what is committed, executes what waited, asks. True if connections may be read again
    /// that could not while this shard was behind.
    ///
    /// # Errors
    /// [`Fatal`].
    pub fn turn(&mut self, now: Now) -> Result<bool, Fatal> {
        while let Ok(batch) = self.batches.pop() {
            self.replica.take(&batch, now)?;
        }
        let was_behind = self.replica.is_behind();
        self.replica.turn(now);
        let mut asked = false;
        while let Some(up) = self
            .unsent
            .take()
            .or_else(|| self.replica.poll_request(now))
        {
            match self.requests.push(up) {
                Ok(()) => asked = true,
                Err(rtrb::PushError::Full(up)) => {
                    self.unsent = Some(up);
                    break;
                }
            }
        }
        if asked {
            self.switchboard.core_bell.ring();
        }
        Ok(was_behind && !self.replica.is_behind())
    }

    /// Something waits for a turn.
    fn has_mail(&self) -> bool {
        !self.batches.is_empty() || (self.unsent.is_some() && !self.requests.is_full())
    }
}

/// The core that orders.
pub struct Back {
    core: RefCell<Option<Orderer<FsStorage>>>,
    ends: RefCell<Vec<End>>,
    jobs: Jobs,
    /// Reads the log for a shard that catches up: not behind a snapshot, clients wait for it.
    reader: Helper,
    due: Event,
    switchboard: Arc<Switchboard>,
}

/// Its end of the rings to and from one shard.
struct End {
    batches: rtrb::Producer<Arc<Batch>>,
    requests: rtrb::Consumer<ShardRequest>,
}

impl Orders for Back {
    fn with<T>(&self, work: impl FnOnce(&mut Member<FsStorage>) -> T) -> Option<T> {
        self.core
            .borrow_mut()
            .as_mut()
            .map(|core| work(&mut core.member))
    }

    fn snapshot_made(&self, made: Option<&Written>, unneeded: Option<Zxid>) -> Vec<String> {
        let mut core = self.core.borrow_mut();
        core.as_mut()
            .map_or(Vec::new(), |core| core.snapshot_made(made, unneeded))
    }

    fn due(&self) -> &Event {
        &self.due
    }

    fn jobs(&self) -> &Jobs {
        &self.jobs
    }
}

impl Back {
    fn turn(self: &Rc<Back>) {
        let process = &self.jobs.process;
        let now = process.now();
        let mut todo = None;
        let mut catch_up = None;
        if let Some(core) = self.core.borrow_mut().as_mut() {
            let ends = &mut *self.ends.borrow_mut();
            process.check(requests_and_commits(core, ends, now));
            todo = Some(Todo::of(&mut core.member, &self.jobs, now));
            catch_up = core.poll_catch_up();
            for ((shard, end), line) in (0..).map(ShardId).zip(ends).zip(&self.switchboard.shards) {
                let mut gave = false;
                while let Some(batch) = core.poll_batch(shard) {
                    let room = end.batches.push(batch).is_ok();
                    assert!(room, "the links count what is not taken");
                    gave = true;
                }
                if gave {
                    line.bell.ring();
                }
            }
        }
        // From here on tasks may run: nothing is borrowed.
        if let Some(todo) = todo {
            todo.begin(self);
        }
        if let Some(order) = catch_up {
            rt::spawn(read_log(self.clone(), order));
        }
    }

    async fn turns(self: Rc<Back>) {
        loop {
            self.due.wait().await;
            self.turn();
        }
    }

    /// Requests and questions from other threads.
    async fn listen(self: Rc<Back>, mut ear: Ear, questions: Receiver<Arc<Question>>) {
        let mut asked = None;
        loop {
            let waited = ear
                .wait(|| {
                    asked = asked.take().or_else(|| questions.try_recv().ok());
                    asked.is_some()
                        || self
                            .ends
                            .borrow()
                            .iter()
                            .any(|end| !end.requests.is_empty())
                })
                .await;
            self.turn();
            if let Some(question) = asked.take() {
                let part = self.core.borrow().as_ref().map(CommitPart::with_shards);
                *question
                    .member
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner) = part;
                question.answers.fetch_add(1, Relaxed);
            }
            if !waited {
                // Lets the kernel's completions in between two turns.
                rt::turn().await;
            }
        }
    }

    async fn ticks(self: Rc<Back>, ticker: Ticker) {
        let process = self.jobs.process.clone();
        loop {
            ticker.tick().await;
            let now = process.now();
            let ticked = self.with(|member| {
                member.pipeline.accepted_until(now.tick, now.tick);
                member.tick(now)
            });
            process.check(ticked.unwrap_or(Ok(())));
            self.due.notify();
        }
    }

    /// Waits until everything that was taken is on disk and told, and seals the log.
    async fn drain(self: Rc<Back>, patience_ms: u64) -> io::Result<()> {
        let process = self.jobs.process.clone();
        process.begin_stopping();
        let until = process.now().tick.after(patience_ms);
        loop {
            // Every shard has made a turn, so what it had is here.
            self.switchboard.ask(&process).await;
            self.due.notify();
            let idle = self
                .with(|member| member.pipeline.is_idle())
                .unwrap_or(true);
            if idle || process.now().tick >= until {
                break;
            }
        }
        self.turn();
        self.jobs.synced().await;
        let core = self.core.take();
        core.map_or(Ok(()), |core| core.member.close())?;
        // Replies to what was committed last.
        self.switchboard.ask(&process).await;
        Ok(())
    }
}

/// In every turn timers and completions have come first; then what the shards ask, in turn.
fn requests_and_commits(
    core: &mut Orderer<FsStorage>,
    ends: &mut [End],
    now: Now,
) -> Result<(), Fatal> {
    for end in ends {
        for _ in 0..end.requests.slots() {
            let up = end.requests.pop().expect("counted");
            core.request(up, now)?;
        }
    }
    core.turn(now, &mut |_| {})
}

async fn read_log(back: Rc<Back>, order: CatchUp) {
    let log = back.jobs.process.log.clone();
    let job = move || snapshot::read_log(&log, order.after, order.upto, order.bytes_max);
    match back.reader.run(job).await {
        Ok(entries) => {
            if let Some(core) = back.core.borrow_mut().as_mut() {
                core.caught_up(order, entries);
            }
        }
        Err(e) => {
            let text = format!(
                "shard {} reads the log behind {}: {e}",
                order.shard, order.after
            );
            back.jobs.process.check(Err(Fatal::Shard(text)))
        }
    }
    back.due.notify();
}

/// Which CPUs: the core that orders, then the shards.
#[derive(Clone)]
pub struct Placement {
    /// Serving shards.
    pub shards: u16,
    /// `None`: not pinned.
    pub cpus: Option<Vec<usize>>,
}

impl Placement {
    /// For the start-up summary.
    pub fn text(&self) -> String {
        let pinned = match &self.cpus {
            Some(cpus) => format!(", on CPUs {:?}", &cpus[..=usize::from(self.shards)]),
            None => ", not pinned".to_owned(),
        };
        match self.shards {
            0 => "inline".to_owned(),
            n => format!("one core that orders and {n} that serve{pinned},"),
        }
    }
}

/// Runs until `stop`. `serving` is called when clients can connect.
///
/// # Errors
/// A thread or a ring can't be made; the log can't be sealed.
pub fn run(
    process: Arc<Process>,
    member: Member<FsStorage>,
    (placement, shard): (&Placement, &ShardConfig),
    bound: Bound,
    serving: impl FnOnce(&Bound) + 'static,
    stop: impl Future<Output = ()> + 'static,
    drain_ms: u64,
) -> io::Result<()> {
    let zxid = member.tree.last_zxid();
    let board = Arc::new(Progress::new(usize::from(placement.shards), zxid));
    let core_bell = Bell::new()?;
    let (core_letters, questions) = channel();
    let mut lines = Vec::new();
    let mut inboxes = Vec::new();
    for _ in 0..placement.shards {
        let (letters, inbox) = channel();
        lines.push(Line {
            letters: Mutex::new(letters),
            bell: Bell::new()?,
            connections: Arc::default(),
        });
        inboxes.push(inbox);
    }
    let switchboard = Arc::new(Switchboard {
        shards: lines,
        core: Mutex::new(core_letters),
        core_bell: core_bell.clone(),
    });
    let mut ends = Vec::new();
    for (n, inbox) in (0..placement.shards).zip(inboxes) {
        let (batches, take_batches) = rtrb::RingBuffer::new(RingLimits::DEFAULT.slots());
        let (requests, take_requests) = rtrb::RingBuffer::new(REQUESTS_MAX);
        ends.push(End {
            batches,
            requests: take_requests,
        });
        let config = ShardConfig {
            id: ShardId(n),
            in_flight_max: (shard.in_flight_max / usize::from(placement.shards)).max(1),
            ..shard.clone()
        };
        let seat = Seat {
            replica: Replica::new(config, member.tree.clone(), board.clone()),
            switchboard: switchboard.clone(),
            batches: take_batches,
            requests,
            unsent: None,
        };
        let process = process.clone();
        let cpu = placement.cpus.as_ref().map(|cpus| cpus[usize::from(n) + 1]);
        std::thread::Builder::new()
            .name(format!("shard-{n}"))
            .spawn(move || {
                if let Err(e) = serve(cpu, process.clone(), seat, inbox) {
                    process.check(Err(Fatal::Shard(e)))
                }
            })?;
    }
    let core = Orderer::new(member, RingLimits::DEFAULT, board, placement.shards);
    let cpu = placement.cpus.as_ref().map(|cpus| cpus[0]);
    let outcome = rt::run(cpu, async move {
        let back = Rc::new(Back {
            core: RefCell::new(Some(core)),
            ends: RefCell::new(ends),
            jobs: Jobs::new(process.clone())?,
            reader: Helper::start("reader", Priority::Normal)?,
            due: Event::default(),
            switchboard: switchboard.clone(),
        });
        serving(&bound);
        let now = process.now();
        back.with(|member| member.pipeline.begin_serving(now));
        rt::spawn(back.clone().turns());
        rt::spawn(back.clone().ticks(process.ticker()?));
        rt::spawn(back.clone().listen(Ear::new(core_bell)?, questions));
        back.due.notify();
        let admitted = move |stream: TcpStream, peer: SocketAddr| {
            if process.is_stopping() || !process.admit(peer.ip()) {
                rt::socket::abort(stream);
            } else {
                switchboard.hand_over(stream, peer);
            }
        };
        bound.accept_on_thread(admitted)?;
        stop.await;
        back.drain(drain_ms).await
    });
    outcome.map_err(|e| io::Error::other(e.to_string()))?
}

/// The life of a shard's thread.
fn serve(
    cpu: Option<usize>,
    process: Arc<Process>,
    seat: Seat,
    inbox: Receiver<Letter>,
) -> Result<(), String> {
    let shard = seat.replica.id();
    let line = seat.switchboard.clone();
    let outcome = rt::run(cpu, async move {
        let line = &line.shards[usize::from(shard.0)];
        let ticker = process.ticker().map_err(|e| e.to_string())?;
        let front = Front::new(process, Side::Replica(Box::new(seat)), None);
        rt::spawn(front.clone().turns());
        rt::spawn(front.clone().ticks(ticker));
        let mut ear = Ear::new(line.bell.clone()).map_err(|e| e.to_string())?;
        let mut letter = None;
        loop {
            let waited = ear
                .wait(|| {
                    letter = letter.take().or_else(|| inbox.try_recv().ok());
                    letter.is_some() || front.with_side(|side| side.has_mail()).unwrap_or(false)
                })
                .await;
            front.turn();
            match letter.take() {
                Some(Letter::Socket(stream, peer)) => {
                    let gone = line.connections.clone();
                    match Socket::adopt(stream) {
                        Ok(socket) => edge::serve_and(&front, socket, peer, move || {
                            gone.fetch_sub(1, Relaxed);
                        }),
                        Err(_) => {
                            gone.fetch_sub(1, Relaxed);
                            front.process.leave(peer.ip());
                        }
                    }
                }
                Some(Letter::Question(question)) => {
                    let part = front.part();
                    let mut fronts = question
                        .fronts
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner);
                    fronts.extend(part);
                    drop(fronts);
                    question.answers.fetch_add(1, Relaxed);
                }
                None if !waited => rt::turn().await,
                None => {}
            }
        }
    });
    outcome.map_err(|e| e.to_string())?
}

impl Side {
    fn has_mail(&self) -> bool {
        match self {
            Side::Inline(_) => false,
            Side::Replica(seat) => seat.has_mail(),
        }
    }
}
