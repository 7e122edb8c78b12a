//! The server's entry point.

use ringkeeper::config;
use ringkeeper::rt::{listener, lock::DirectoryLock, storage::FsStorage};
use ringkeeper::server::{Ready, run};

fn main() {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_target(false)
        .init();
    let path = std::env::args().nth(1).expect("zoo.cfg");
    let resolved = config::from_file(&std::fs::read_to_string(path).unwrap(), &[]).unwrap();
    let data = FsStorage::open(&resolved.config.data_dir.join("ringkeeper-1")).unwrap();
    let log = FsStorage::open(&resolved.config.data_log_dir.join("ringkeeper-1")).unwrap();
    let locks = vec![DirectoryLock::take(data.path()).unwrap()];
    let bound = listener::bind(resolved.config.client_address, 1024).unwrap();
    let ready = Ready {
        locks,
        data,
        log,
        bound,
        warnings: vec![],
    };
    if let Err(e) = run(resolved, ready, |fatal| {
        eprintln!("{fatal}");
        std::process::exit(fatal.exit_code().into())
    }) {
        eprintln!("{e}");
        std::process::exit(1);
    }
}
