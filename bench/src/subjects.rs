//! The servers that a measurement takes in turn: ours on each of some numbers of shards, and Apache's.

use crate::failure::Failure;
use crate::repository;
use crate::servers::{self, Server};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// What Apache's server is called.
pub const APACHE: &str = "apache";
/// What ours are called, before the number of their shards.
const OURS: &str = "ours-";

/// Whom ours are held against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Against {
    /// Apache ZooKeeper 3.9.5.
    Apache,
    /// Nobody.
    None,
}

/// Apache's server, as arguments.
#[derive(Args)]
pub struct ApacheArgs {
    /// A directory with Apache's jars, or a binary distribution; fetched unless given.
    #[arg(long, value_name = "DIR")]
    apache_home: Option<PathBuf>,
    /// The Java that runs Apache's server.
    #[arg(long, default_value = "java", value_name = "PATH")]
    pub java: PathBuf,
}

impl ApacheArgs {
    /// Where its jars are.
    pub fn home(&self) -> Result<PathBuf, Failure> {
        repository::apache_home(self.apache_home.as_deref())
    }

    /// What its figures rest on; no Java if it is not started.
    pub fn facts(&self, is_started: bool) -> Result<Value, Failure> {
        let java = is_started.then(|| servers::version(&self.java, "-version"));
        Ok(json!({"apache": "3.9.5", "java": java.transpose()?, "jvm_flags": servers::JVM_FLAGS}))
    }
}

/// The servers, as arguments.
#[derive(Args)]
pub struct SubjectsArgs {
    /// The other server.
    #[arg(long, default_value = "apache")]
    pub against: Against,
    /// Our server's binary.
    #[arg(long, value_name = "PATH", default_value = "target/release/ringkeeper")]
    pub ours: PathBuf,
    #[command(flatten)]
    apache: ApacheArgs,
}

/// The servers, resolved.
pub struct Subjects<'a> {
    args: &'a SubjectsArgs,
    /// Of all servers, the other's first.
    pub names: Vec<String>,
    /// Apache's jars; empty without them.
    home: PathBuf,
}

impl<'a> Subjects<'a> {
    /// Ours on each of these numbers of shards. Apache's jars are fetched where that is needed.
    pub fn prepare(args: &'a SubjectsArgs, shards: &[usize]) -> Result<Subjects<'a>, Failure> {
        let home = match args.against {
            Against::Apache => args.apache.home()?,
            Against::None => PathBuf::new(),
        };
        Ok(Subjects::new(args, shards, home))
    }

    /// The same with the jars of `home`.
    pub fn new(args: &'a SubjectsArgs, shards: &[usize], home: PathBuf) -> Subjects<'a> {
        let apache = (args.against == Against::Apache).then(|| APACHE.to_owned());
        let ours = shards.iter().map(|&shards| name(shards));
        Subjects {
            args,
            names: apache.into_iter().chain(ours).collect(),
            home,
        }
    }

    /// Starts one by its name in a directory, perhaps on data that is there, without waiting until it serves.
    pub fn begin(&self, name: &str, dir: &Path) -> Result<Server, Failure> {
        let args = self.args;
        match name.strip_prefix(OURS) {
            Some(shards) => {
                Server::begin_ours(name, &args.ours, &format!("shards={shards}\n"), dir)
            }
            None => Server::begin_apache(&args.apache.java, &self.home, dir),
        }
    }

    /// What their figures rest on.
    pub fn facts(&self) -> Result<Value, Failure> {
        let is_started = self.args.against == Against::Apache;
        let mut facts = self.args.apache.facts(is_started)?;
        facts["servers"] = json!(self.names);
        Ok(facts)
    }
}

/// What ours is called on so many shards.
pub fn name(shards: usize) -> String {
    format!("{OURS}{shards}")
}
