//! `rk cluster`: the members of an ensemble as processes of this machine, below one directory, for trying things out.
//!
//! ```text
//! DIR/N/zoo.cfg     the configuration of member N
//! DIR/N/data/myid   and what it stores
//! DIR/N/pid         its process, if it runs or has been killed
//! DIR/N/log         what it says, of all its processes
//! ```

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Between two looks at the members.
const LOOK: Duration = Duration::from_millis(20);
/// For an answer to a four-letter word.
const ANSWER: Duration = Duration::from_millis(500);
/// A member that is asked to stop has so long.
const STOP: Duration = Duration::from_secs(30);
/// Lines of a log that an error shows.
const SHOWN: usize = 8;
/// Below the ports that the kernel gives to those who dial.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// Arguments of `rk cluster`.
#[derive(clap::Args)]
pub struct Args {
    /// Where the members live.
    #[arg(long, default_value = "rk-cluster", global = true)]
    dir: PathBuf,
    /// The server; else `ringkeeper` beside this program, or on the path.
    #[arg(long, global = true)]
    server: Option<PathBuf>,
    /// How long a leader is waited for, s.
    #[arg(long, default_value_t = 60, global = true)]
    wait: u64,
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// Makes an ensemble, if there is none, starts who does not run, and waits for a leader.
    Up {
        /// Members of a new ensemble.
        #[arg(long, default_value_t = 3)]
        members: u8,
        /// Further lines for zoo.cfg of a new ensemble.
        #[arg(long, value_name = "KEY=VALUE")]
        set: Vec<String>,
    },
    /// Stops all members; their data stays.
    Down,
    /// Ends a member with SIGKILL.
    Kill {
        /// Its number, or `leader`.
        member: String,
    },
    /// Starts a member, and waits until it leads or follows.
    Start {
        /// Its number.
        member: u8,
    },
    /// Prints who leads, and where its clients connect.
    Leader,
    /// Prints the process of a member.
    Pid {
        /// Its number, or `leader`.
        member: String,
    },
}

/// Runs it.
pub fn run(args: &Args) -> ExitCode {
    let patience = Duration::from_secs(args.wait);
    let done = match &args.what {
        What::Up { members, set } => up(args, *members, set, patience),
        other => Cluster::open(args).and_then(|cluster| other.run(&cluster, patience)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => {
            eprintln!("rk cluster: {sentence}");
            ExitCode::FAILURE
        }
    }
}

impl What {
    fn run(&self, cluster: &Cluster, patience: Duration) -> Result<(), String> {
        match self {
            What::Up { .. } => Ok(()),
            What::Down => cluster.down(),
            What::Kill { member } => {
                let member = cluster.named(member)?;
                let pid = member
                    .pid()
                    .ok_or(format!("member {} does not run", member.number))?;
                signal(pid, "-KILL")?;
                member.wait_for_its_end(STOP)?;
                println!("{} killed", member.number);
                Ok(())
            }
            What::Start { member } => {
                let member = cluster.member(*member)?;
                if let Some(pid) = member.pid() {
                    return Err(format!("member {} runs already, as {pid}", member.number));
                }
                let mut child = member.start(&cluster.server)?;
                cluster.wait(std::slice::from_mut(&mut child), patience, |modes| {
                    modes.get(&member.number).is_some_and(|mode| serves(mode))
                })
            }
            What::Leader => {
                let leader = cluster.leader().ok_or("nobody leads")?;
                println!("{} 127.0.0.1:{}", leader.number, leader.port);
                Ok(())
            }
            What::Pid { member } => {
                let member = cluster.named(member)?;
                let pid = member
                    .pid()
                    .ok_or(format!("member {} does not run", member.number))?;
                println!("{pid}");
                Ok(())
            }
        }
    }
}

fn up(args: &Args, members: u8, set: &[String], patience: Duration) -> Result<(), String> {
    if !args.dir.join("1").exists() {
        make(&args.dir, members, set)?;
    } else if !set.is_empty() {
        let dir = args.dir.display();
        return Err(format!(
            "{dir} holds an ensemble already: change its zoo.cfg files, or name another --dir"
        ));
    }
    let cluster = Cluster::open(args)?;
    let idle = cluster.members.values().filter(|one| one.pid().is_none());
    let started = idle.map(|member| member.start(&cluster.server));
    let mut children = started.collect::<Result<Vec<_>, _>>()?;
    let all = cluster.members.len();
    cluster.wait(&mut children, patience, |modes| {
        modes.len() == all && modes.values().all(|mode| serves(mode))
    })?;
    for member in cluster.members.values() {
        let mode = member.mode().unwrap_or_default();
        println!("{} 127.0.0.1:{} {mode}", member.number, member.port);
    }
    Ok(())
}

fn serves(mode: &str) -> bool {
    matches!(mode, "leader" | "follower" | "observer")
}

/// Writes what the members of a new ensemble start with.
fn make(dir: &Path, members: u8, set: &[String]) -> Result<(), String> {
    if members == 0 {
        return Err("an ensemble has a member at least".to_owned());
    }
    let ports = free_ports(3 * usize::from(members))?;
    let lines: String = (1..=members)
        .zip(ports.chunks(3))
        .map(|(n, ports)| format!("server.{n}=127.0.0.1:{}:{}\n", ports[0], ports[1]))
        .collect();
    for (n, ports) in (1..=members).zip(ports.chunks(3)) {
        let home = dir.join(n.to_string());
        let data = home.join("data");
        let said = |e| format!("{} can't be made: {e}", home.display());
        fs::create_dir_all(&data).map_err(said)?;
        let data = data.canonicalize().map_err(said)?;
        let mut config = format!(
            "tickTime=2000\ninitLimit=10\nsyncLimit=5\ndataDir={}\nclientPort={}\n\
             clientPortAddress=127.0.0.1\n4lw.commands.whitelist=*\nstandaloneEnabled=false\n{lines}",
            data.display(),
            ports[2]
        );
        for line in set {
            config += line;
            config.push('\n');
        }
        fs::write(data.join("myid"), format!("{n}\n")).map_err(said)?;
        fs::write(home.join("zoo.cfg"), config).map_err(said)?;
    }
    Ok(())
}

/// Ports that nobody listens on now.
fn free_ports(count: usize) -> Result<Vec<u16>, String> {
    let clock = SystemTime::now().duration_since(UNIX_EPOCH);
    let seed = clock.map_or(0, |since| since.subsec_nanos()) ^ std::process::id();
    let width = u32::from(PORTS.end - PORTS.start);
    // A walk over all of them: the step and the width have no common divisor.
    let tried = (0..width).map(|n| PORTS.start + ((seed % width + n * 7) % width) as u16);
    let free = tried.filter_map(|port| TcpListener::bind(("127.0.0.1", port)).ok());
    let held: Vec<TcpListener> = free.take(count).collect();
    let ports = held
        .iter()
        .map(|port| port.local_addr().map(|address| address.port()));
    match ports.collect::<Result<Vec<_>, _>>() {
        Ok(ports) if ports.len() == count => Ok(ports),
        _ => Err(format!("{count} free ports are needed")),
    }
}

struct Cluster {
    server: PathBuf,
    members: BTreeMap<u8, Member>,
}

struct Member {
    number: u8,
    home: PathBuf,
    /// Of clients.
    port: u16,
}

struct Started<'a> {
    member: &'a Member,
    child: Child,
}

impl Cluster {
    fn open(args: &Args) -> Result<Cluster, String> {
        let mut members = BTreeMap::new();
        let listed = fs::read_dir(&args.dir).map_err(|e| {
            let dir = args.dir.display();
            format!("{dir} holds no ensemble ({e}): `rk cluster up` makes one")
        })?;
        for entry in listed.flatten() {
            let name = entry.file_name();
            let Some(number) = name.to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            let home = entry
                .path()
                .canonicalize()
                .map_err(|e| format!("{}: {e}", entry.path().display()))?;
            let file = home.join("zoo.cfg");
            let said = |e| format!("{} can't be read: {e}", file.display());
            let config = fs::read_to_string(&file).map_err(said)?;
            let mut lines = config.lines();
            let port = lines.find_map(|line| line.strip_prefix("clientPort=")?.parse().ok());
            let port = port.ok_or(format!("{} names no clientPort", file.display()))?;
            members.insert(number, Member { number, home, port });
        }
        if members.is_empty() {
            let dir = args.dir.display();
            return Err(format!(
                "{dir} holds no ensemble: `rk cluster up` makes one"
            ));
        }
        let beside = std::env::current_exe()
            .ok()
            .map(|own| own.with_file_name("ringkeeper"))
            .filter(|path| path.exists());
        let server = args.server.clone().or(beside);
        Ok(Cluster {
            server: server.unwrap_or_else(|| "ringkeeper".into()),
            members,
        })
    }

    fn member(&self, number: u8) -> Result<&Member, String> {
        let of = self.members.len();
        let member = self.members.get(&number);
        member.ok_or(format!("there is no member {number} of the {of}"))
    }

    fn named(&self, name: &str) -> Result<&Member, String> {
        match name.parse() {
            Ok(number) => self.member(number),
            Err(_) if name == "leader" => Ok(self.leader().ok_or("nobody leads")?),
            Err(_) => Err(format!("{name} is neither a member's number nor leader")),
        }
    }

    fn leader(&self) -> Option<&Member> {
        let mut members = self.members.values();
        members.find(|member| member.mode().as_deref() == Some("leader"))
    }

    /// Until what the members say of themselves is enough. Says what changes.
    fn wait(
        &self,
        started: &mut [Started<'_>],
        patience: Duration,
        is_enough: impl Fn(&BTreeMap<u8, String>) -> bool,
    ) -> Result<(), String> {
        let until = Instant::now() + patience;
        let mut shown = String::new();
        loop {
            for Started { member, child } in started.iter_mut() {
                if let Ok(Some(status)) = child.try_wait() {
                    let number = member.number;
                    return Err(format!(
                        "member {number} has ended ({status}):\n{}",
                        member.last_words()
                    ));
                }
            }
            let modes = self.members.values();
            let modes: BTreeMap<u8, String> = modes
                .filter_map(|member| Some((member.number, member.mode()?)))
                .collect();
            let texts = self.members.keys().map(|number| {
                let mode = modes.get(number).map_or("starting", String::as_str);
                format!("{number} {mode}")
            });
            let text = texts.collect::<Vec<_>>().join(", ");
            if text != shown {
                eprintln!("{text}");
                shown = text;
            }
            if is_enough(&modes) {
                return Ok(());
            }
            if Instant::now() >= until {
                let s = patience.as_secs();
                return Err(format!(
                    "after {s} s there is no leader whom all follow ({shown}): look into the log files"
                ));
            }
            std::thread::sleep(LOOK);
        }
    }

    fn down(&self) -> Result<(), String> {
        for member in self.members.values() {
            if let Some(pid) = member.pid() {
                signal(pid, "-TERM")?;
            }
        }
        for member in self.members.values() {
            member.wait_for_its_end(STOP)?;
        }
        println!("{} stopped", self.members.len());
        Ok(())
    }
}

impl Member {
    fn start(&self, server: &Path) -> Result<Started<'_>, String> {
        let said = |e| format!("{} can't be written: {e}", self.home.display());
        let mut open = File::options();
        let log = open.create(true).append(true);
        let log = log.open(self.home.join("log")).map_err(said)?;
        let mut command = Command::new(server);
        command
            .arg(self.home.join("zoo.cfg"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(said)?)
            .stderr(log)
            // What interrupts this program does not end the members.
            .process_group(0);
        let child = command.spawn().map_err(|e| {
            let server = server.display();
            format!("{server} can't be started ({e}): name the server with --server")
        })?;
        fs::write(self.home.join("pid"), child.id().to_string()).map_err(said)?;
        Ok(Started {
            member: self,
            child,
        })
    }

    /// Its process, and nobody else's that has the number now.
    fn pid(&self) -> Option<u32> {
        let pid: u32 = fs::read_to_string(self.home.join("pid"))
            .ok()?
            .parse()
            .ok()?;
        let said = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let config = self.home.join("zoo.cfg");
        let own = config.as_os_str().as_encoded_bytes();
        said.split(|byte| *byte == 0)
            .any(|argument| argument == own)
            .then_some(pid)
    }

    fn wait_for_its_end(&self, patience: Duration) -> Result<(), String> {
        let until = Instant::now() + patience;
        while let Some(pid) = self.pid() {
            if Instant::now() >= until {
                let (number, s) = (self.number, patience.as_secs());
                return Err(format!(
                    "member {number} still runs after {s} s, as {pid}: `rk cluster kill {number}`"
                ));
            }
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    /// As what it serves; `None`: it does not answer.
    fn mode(&self) -> Option<String> {
        let address = SocketAddr::from(([127, 0, 0, 1], self.port));
        let mut stream = TcpStream::connect_timeout(&address, ANSWER).ok()?;
        stream.set_read_timeout(Some(ANSWER)).ok()?;
        stream.write_all(b"srvr").ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        let mode = text.lines().find_map(|line| line.strip_prefix("Mode: "));
        Some(mode.unwrap_or("looking").to_owned())
    }

    fn last_words(&self) -> String {
        let text = fs::read_to_string(self.home.join("log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(SHOWN)..].join("\n")
    }
}

fn signal(pid: u32, which: &str) -> Result<(), String> {
    let sent = Command::new("kill")
        .args([which, &pid.to_string()])
        .status();
    match sent {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => Err(format!("process {pid} can't be sent {which}")),
        Err(e) => Err(format!("kill can't be run: {e}")),
    }
}
