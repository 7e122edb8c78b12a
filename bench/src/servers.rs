//! Servers that are started here: Apache's, ours, the stubs. Each ends with its owner, and with this
//! process at the latest.

use crate::control::{self, Control};
use crate::failure::{Context, Failure};
use crate::sys;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hasher};
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How long a start may take.
const START_WAIT: Duration = Duration::from_secs(180);
/// How long an end may take before it is forced.
const END_WAIT: Duration = Duration::from_secs(20);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(50);
/// What Apache's server is started with besides its classes: a heap of 2 GiB that begins smaller.
pub const JVM_FLAGS: [&str; 2] = ["-Xms512m", "-Xmx2g"];
/// Apache's class that a service starts.
const APACHE_MAIN: &str = "org.apache.zookeeper.server.quorum.QuorumPeerMain";
/// Without a file of its own the logging library prints everything; this is what the distribution
/// does, level INFO to the console.
const LOGBACK: &str = r#"<configuration>
  <appender name="CONSOLE" class="ch.qos.logback.core.ConsoleAppender">
    <encoder><pattern>%d{ISO8601} %-5p [%t:%C{1}@%L] - %m%n</pattern></encoder>
  </appender>
  <root level="INFO"><appender-ref ref="CONSOLE"/></root>
</configuration>
"#;

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Apache ZooKeeper.
    Apache,
    /// Ringkeeper.
    Ours,
    /// The one that does nothing.
    Stub,
}

impl Kind {
    /// The key of `mntr` that counts how often the log was synced.
    fn syncs_key(self) -> Option<&'static str> {
        match self {
            Kind::Apache => Some("zk_cnt_fsynctime"),
            Kind::Ours => Some("zk_log_syncs"),
            Kind::Stub => None,
        }
    }
}

/// A running server.
pub struct Server {
    /// As tables call it.
    pub name: String,
    kind: Kind,
    /// Where clients connect.
    pub address: SocketAddr,
    /// When its process was begun.
    pub begun: Instant,
    child: Child,
    /// Its program, and where it writes.
    what: String,
    log: PathBuf,
}

/// The `zoo.cfg` that both get: the one that Apache ships, on our port and directory, for any
/// number of clients, with syncing said aloud, every four-letter word and no AdminServer.
pub fn zoo_cfg(data: &Path, port: u16) -> String {
    format!(
        "tickTime=2000\ninitLimit=10\nsyncLimit=5\ndataDir={}\nclientPort={port}\n\
         clientPortAddress=127.0.0.1\nmaxClientCnxns=0\nforceSync=yes\nadmin.enableServer=false\n\
         4lw.commands.whitelist=*\n",
        data.display()
    )
}

impl Server {
    /// Apache's, with the jars of `home` (or of its `lib`), perhaps on a data directory that is there, without
    /// waiting until it serves.
    pub fn begin_apache(java: &Path, home: &Path, dir: &Path) -> Result<Server, Failure> {
        let (config, port) = prepare(dir)?;
        fs::write(dir.join("logback.xml"), LOGBACK)
            .context(|| format!("writing to {}", dir.display()))?;
        let jars = |folder: PathBuf| format!("{}/*", folder.display());
        let classes = [
            dir.display().to_string(),
            jars(home.to_owned()),
            jars(home.join("lib")),
        ];
        let mut command = Command::new(java);
        command
            .args(JVM_FLAGS)
            .arg("-cp")
            .arg(classes.join(":"))
            .arg(APACHE_MAIN)
            .arg(config);
        Server::begin("apache", Kind::Apache, command, dir, port)
    }

    /// A binary of ours under a name, with further lines of configuration, perhaps on a data directory that is
    /// there, without waiting until it serves.
    pub fn begin_ours(
        name: &str,
        binary: &Path,
        lines: &str,
        dir: &Path,
    ) -> Result<Server, Failure> {
        let (config, port) = prepare(dir)?;
        let text = fs::read_to_string(&config).unwrap_or_default();
        fs::write(&config, text + lines).context(|| format!("writing {}", config.display()))?;
        let mut command = Command::new(binary);
        command.arg(config);
        Server::begin(name, Kind::Ours, command, dir, port)
    }

    /// The stub: this program once more. It answers getData with so many bytes, and syncs writes in the
    /// directory, if one is given.
    pub fn stub(data_bytes: usize, sync_dir: Option<&Path>) -> Result<Server, Failure> {
        let own = std::env::current_exe().context(|| "looking for this program".into())?;
        let mut command = Command::new(own);
        command
            .args(["stub", "--size", &data_bytes.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        if let Some(dir) = sync_dir {
            fs::create_dir_all(dir).context(|| format!("making {}", dir.display()))?;
            command.arg("--sync-dir").arg(dir);
        }
        let mut child = sys::ends_with_us(&mut command)
            .spawn()
            .context(|| "starting the stub".into())?;
        let mut line = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout)
                .read_line(&mut line)
                .context(|| "reading the stub's port".into())?;
        }
        let port = line
            .trim()
            .parse()
            .map_err(|_| Failure::Protocol("the stub did not print its port".into()))?;
        let name = sync_dir.map_or("stub", |_| "stub-sync");
        Ok(Server {
            name: name.to_owned(),
            kind: Kind::Stub,
            address: (Ipv4Addr::LOCALHOST, port).into(),
            begun: Instant::now(),
            child,
            what: "the stub".to_owned(),
            log: PathBuf::new(),
        })
    }

    fn begin(
        name: &str,
        kind: Kind,
        mut command: Command,
        dir: &Path,
        port: u16,
    ) -> Result<Server, Failure> {
        let log = dir.join("output.log");
        let file = File::create(&log).context(|| format!("writing {}", log.display()))?;
        let errors = file
            .try_clone()
            .context(|| format!("writing {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(file).stderr(errors);
        let what = command.get_program().to_string_lossy().into_owned();
        let begun = Instant::now();
        let child = sys::ends_with_us(&mut command)
            .spawn()
            .context(|| format!("starting {what}"))?;
        Ok(Server {
            name: name.to_owned(),
            kind,
            address: (Ipv4Addr::LOCALHOST, port).into(),
            begun,
            child,
            what,
            log,
        })
    }

    /// Waits until it serves.
    pub fn serving(mut self) -> Result<Server, Failure> {
        // A session, because Apache's server says imok before it serves.
        while Control::open(self.address).map(Control::close).is_err() {
            if !self.is_alive() || self.begun.elapsed() > START_WAIT {
                return Err(self.failure());
            }
            thread::sleep(PAUSE);
        }
        Ok(self)
    }

    /// Whether its process is there.
    pub fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// That it did not become what it should.
    pub fn failure(&self) -> Failure {
        Failure::Child {
            what: self.what.clone(),
            log: self.log.clone(),
        }
    }

    /// Ends it in order, and waits for that.
    pub fn stop(self) {
        drop(self);
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How often it has synced its log so far, if it tells.
    pub fn syncs(&self) -> Option<u64> {
        let key = self.kind.syncs_key()?;
        let text = control::word(self.address, "mntr").ok()?;
        number(&text, key)
    }
}

/// The first line that a program says about its version.
pub fn version(program: &Path, flag: &str) -> Result<String, Failure> {
    let output = Command::new(program)
        .arg(flag)
        .output()
        .context(|| format!("starting {}", program.display()))?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

/// What tells a binary of ours from another one: its version, and a hash of its content.
pub fn identity(binary: &Path) -> Result<String, Failure> {
    let content = content(binary)?;
    let version = version(binary, "--version")?;
    Ok(format!("{version}, content {content}"))
}

/// A hash of a binary's content, in hex digits.
pub fn content(binary: &Path) -> Result<String, Failure> {
    let content = fs::read(binary).map_err(|_| {
        Failure::Usage(format!(
            "{} is no file; build it with `cargo build --release --bin ringkeeper`, or name another",
            binary.display()
        ))
    })?;
    let mut hasher = DefaultHasher::new();
    hasher.write(&content);
    Ok(format!("{:016x}", hasher.finish()))
}

/// A row of `mntr`. A metric that has never been touched is not there in Apache's.
fn number(mntr: &str, key: &str) -> Option<u64> {
    let rows = || mntr.lines().filter_map(|line| line.split_once('\t'));
    match rows().find(|(name, _)| *name == key) {
        Some((_, value)) => value.trim().parse::<f64>().ok().map(|value| value as u64),
        None => rows().next().map(|_| 0),
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.is_alive() {
            sys::ask_to_end(&self.child);
        }
        let begun = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            if begun.elapsed() > END_WAIT {
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            thread::sleep(PAUSE);
        }
    }
}

/// Where a server that is started in a directory has its data.
pub fn data_dir(dir: &Path) -> PathBuf {
    dir.join("data")
}

/// Makes the directory with a data directory and a `zoo.cfg`; returns its path and the port.
fn prepare(dir: &Path) -> Result<(PathBuf, u16), Failure> {
    let data = data_dir(dir);
    fs::create_dir_all(&data).context(|| format!("making {}", data.display()))?;
    let data = data
        .canonicalize()
        .context(|| format!("looking at {}", data.display()))?;
    let port = free_port().context(|| "looking for a free port".into())?;
    let config = dir.join("zoo.cfg");
    fs::write(&config, zoo_cfg(&data, port)).context(|| format!("writing {}", config.display()))?;
    Ok((config, port))
}

/// A port that nobody had a moment ago.
fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_mntr_are_found() {
        let mntr = "zk_version\t3.9.5\nzk_cnt_fsynctime\t12\nzk_log_syncs\t7.0\n";
        assert_eq!(number(mntr, "zk_cnt_fsynctime"), Some(12));
        assert_eq!(number(mntr, "zk_log_syncs"), Some(7));
        assert_eq!(number(mntr, "zk_nothing"), Some(0));
        assert_eq!(number("", "zk_nothing"), None);
    }
}
