//! Why a run ends without figures.

use std::path::PathBuf;
use thiserror::Error;

/// The reason, in a sentence that says what to do where something can be done.
#[derive(Debug, Error)]
pub enum Failure {
    /// The arguments contradict each other.
    #[error("{0}")]
    Usage(String),
    /// The address means nothing.
    #[error("{0} is no address; give HOST:PORT, as in 127.0.0.1:2181")]
    Target(String),
    /// Nobody answers there.
    #[error("no connection to {address}: {source}; is a server running there?")]
    Connect {
        /// The address.
        address: std::net::SocketAddr,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The server closed a connection that was being opened.
    #[error(
        "the server closed a connection during its handshake; look at its connection limit \
         (maxClientCnxns) and its log"
    )]
    Refused,
    /// All connections are gone.
    #[error("all connections were lost ({0} requests with them); look at the server's log")]
    AllLost(u64),
    /// Silence.
    #[error(
        "the server has answered nothing for {0} s with requests outstanding; the run was ended"
    )]
    Stalled(u64),
    /// What came is not the protocol.
    #[error("not what the protocol says: {0}")]
    Protocol(String),
    /// A request of the preparation failed.
    #[error("{what} failed with code {code}")]
    Setup {
        /// The request.
        what: String,
        /// The server's code.
        code: i32,
    },
    /// A call to the system failed.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A child process did not become what it should.
    #[error("{what} did not start; its output is in {log}")]
    Child {
        /// Which.
        what: String,
        /// Where it wrote.
        log: PathBuf,
    },
}

/// Names what was tried.
pub trait Context<T> {
    /// Turns the system's error into ours.
    fn context(self, what: impl FnOnce() -> String) -> Result<T, Failure>;
}

impl<T> Context<T> for std::io::Result<T> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T, Failure> {
        self.map_err(|source| Failure::System {
            what: what(),
            source,
        })
    }
}
