//! The `zookeeper-client` crate against the server binary: each test has a server of its own.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::time::timeout;
use zookeeper_client::{
    Acl, Acls, AddWatchMode, AuthId, AuthUser, CheckWriteError, Client, CreateMode, CreateOptions,
    EnsembleUpdate, Error, EventType, LockPrefix, MultiReadResult, MultiWriteError,
    MultiWriteResult, Permission, PersistentWatcher, SessionState,
};

const PATIENCE: Duration = Duration::from_secs(60);
/// The server's exit code for a port that somebody else has.
const PORT_IN_USE: i32 = 20;
/// Ports that a first start tries.
const PORTS: u32 = 5;
const PERSISTENT: CreateOptions<'static> = CreateMode::Persistent.with_acls(Acls::anyone_all());
const EPHEMERAL: CreateOptions<'static> = CreateMode::Ephemeral.with_acls(Acls::anyone_all());
const SEQUENTIAL: CreateOptions<'static> =
    CreateMode::PersistentSequential.with_acls(Acls::anyone_all());
const CONTAINER: CreateOptions<'static> = CreateMode::Container.with_acls(Acls::anyone_all());

/// A server process on a directory that outlives it.
struct Server {
    root: TempDir,
    port: u16,
    /// The placement: serving shards, 0 = inline. What the machine would choose depends on its cores.
    shards: u16,
    process: Child,
}

/// A port below the ephemeral range, where no client's own end can be.
fn free_port() -> u16 {
    loop {
        let port = fastrand::u16(20_000..32_000);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Starts a server and waits until it serves; `None` if somebody else has the port.
fn spawn(root: &Path, port: u16, shards: u16) -> Option<Child> {
    let config = root.join("zoo.cfg");
    let text = format!(
        "dataDir={}\nclientPort={port}\nclientPortAddress=127.0.0.1\ntickTime=500\n\
         minSessionTimeout=500\npreAllocSize=8192\nshards={shards}\n4lw.commands.whitelist=*\n\
         extendedTypesEnabled=true\nznode.container.checkIntervalMs=100\n",
        root.join("data").display()
    );
    std::fs::write(&config, text).unwrap();
    let log = File::options()
        .create(true)
        .append(true)
        .open(root.join("stderr"))
        .unwrap();
    let mut process = Command::new(env!("CARGO_BIN_EXE_ringkeeper"))
        .arg(&config)
        .stdin(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap();
    let began = Instant::now();
    while !serves(port) || !listens(process.id(), port) {
        let ended = process.try_wait().unwrap();
        if ended.is_some_and(|status| status.code() == Some(PORT_IN_USE)) {
            return None;
        }
        assert!(
            ended.is_none() && began.elapsed() < PATIENCE,
            "the server does not serve ({ended:?}):\n{}",
            std::fs::read_to_string(root.join("stderr")).unwrap()
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    Some(process)
}

/// Whether this process listens on the port, and not a stranger that has taken it since it was free.
fn listens(pid: u32, port: u16) -> bool {
    let Ok(open) = std::fs::read_dir(format!("/proc/{pid}/fd")) else {
        return false;
    };
    let links = open.flatten().map(|fd| std::fs::read_link(fd.path()));
    let held: Vec<_> = links.flatten().collect();
    let sockets = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let local = format!(":{port:04X}");
    sockets.lines().any(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields[1].ends_with(&local)
            && fields[3] == "0A"
            && held.contains(&format!("socket:[{}]", fields[9]).into())
    })
}

fn serves(port: u16) -> bool {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.write_all(b"ruok")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer == "imok")
}

impl Server {
    fn start(shards: u16) -> Self {
        let root = tempfile::tempdir().unwrap();
        // Another test's server may be faster: as long as nobody knows the port, another one does too.
        for _ in 0..PORTS {
            let port = free_port();
            if let Some(process) = spawn(root.path(), port, shards) {
                return Self {
                    root,
                    port,
                    shards,
                    process,
                };
            }
        }
        panic!("{PORTS} ports, and each was taken between a look and the start");
    }

    fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    fn again(&mut self) {
        let process = spawn(self.root.path(), self.port, self.shards);
        self.process = process.expect("the port is still its own");
    }

    fn hosts(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    async fn client(&self) -> Client {
        Client::connect(&self.hosts()).await.unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Each test against a server of its own in each placement. One that is not listed is not used, which
/// the compiler says.
macro_rules! in_both_placements {
    ($($name:ident),* $(,)?) => {
        mod inline {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(super::Server::start(0)).await;
            })*
        }
        mod sharded {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(super::Server::start(2)).await;
            })*
        }
    };
}

in_both_placements!(
    a_node_from_create_to_delete,
    every_refusal_has_its_error,
    children_and_the_counts_of_their_parent,
    sequences_count_every_child_ever_made,
    ephemerals_end_with_the_session,
    a_container_goes_with_its_last_child_and_a_ttl_node_with_its_time,
    a_killed_server_knows_containers_and_ttl_nodes_again,
    watches_of_every_kind,
    watches_that_last_fire_and_are_removed,
    watches_that_nobody_waits_for_are_removed,
    acls_are_kept_and_enforced,
    identities_are_listed,
    the_configuration_is_read_and_not_changed,
    a_multi_is_whole,
    a_refused_multi_leaves_nothing,
    a_check_guards_a_write,
    a_multi_read_answers_each_by_itself,
    pipelined_requests_are_answered_in_order,
    a_lock_is_handed_on,
    a_session_moves_to_another_client,
    a_session_that_two_clients_claim_lives_on,
    a_killed_server_keeps_writes_sessions_and_watches,
    nodes_are_counted_and_ephemerals_are_listed,
    a_directory_is_made_with_those_above_it,
    a_chroot_is_a_root,
);

async fn a_node_from_create_to_delete(server: Server) {
    let client = server.client().await;
    let (created, sequence) = client.create("/a", b"one", &PERSISTENT).await.unwrap();
    assert_eq!((created.version, sequence.into_i64()), (0, -1));
    assert_eq!(
        client.get_data("/a").await.unwrap(),
        (b"one".to_vec(), created)
    );
    let changed = client.set_data("/a", b"two!", Some(0)).await.unwrap();
    assert_eq!((changed.version, changed.data_length), (1, 4));
    assert!(changed.mzxid > created.mzxid && changed.czxid == created.czxid);
    assert_eq!(client.check_stat("/a").await.unwrap(), Some(changed));
    client.delete("/a", Some(1)).await.unwrap();
    assert_eq!(client.check_stat("/a").await.unwrap(), None);
}

async fn every_refusal_has_its_error(server: Server) {
    let client = server.client().await;
    client.create("/a", b"", &PERSISTENT).await.unwrap();
    client.create("/e", b"", &EPHEMERAL).await.unwrap();
    let create = async |path| {
        client
            .create(path, b"", &PERSISTENT)
            .await
            .map(drop)
            .unwrap_err()
    };
    assert_eq!(create("/a").await, Error::NodeExists);
    assert_eq!(create("/missing/b").await, Error::NoNode);
    assert_eq!(create("/e/b").await, Error::NoChildrenForEphemerals);
    client.create("/a/b", b"", &PERSISTENT).await.unwrap();
    assert_eq!(client.delete("/a", None).await, Err(Error::NotEmpty));
    assert_eq!(client.delete("/a/b", Some(3)).await, Err(Error::BadVersion));
    assert_eq!(
        client.set_data("/a", b"", Some(3)).await,
        Err(Error::BadVersion)
    );
    assert_eq!(client.get_data("/missing").await, Err(Error::NoNode));
    assert_eq!(client.get_children("/missing").await, Err(Error::NoNode));
    assert_eq!(client.get_acl("/missing").await, Err(Error::NoNode));
}

async fn children_and_the_counts_of_their_parent(server: Server) {
    let client = server.client().await;
    client.create("/p", b"", &PERSISTENT).await.unwrap();
    for name in ["x", "y", "z"] {
        client
            .create(&format!("/p/{name}"), b"", &PERSISTENT)
            .await
            .unwrap();
    }
    client.delete("/p/y", None).await.unwrap();
    let (mut children, stat) = client.get_children("/p").await.unwrap();
    children.sort();
    assert_eq!(children, ["x", "z"]);
    assert_eq!((stat.cversion, stat.num_children), (4, 2));
    let mut listed = client.list_children("/p").await.unwrap();
    listed.sort();
    assert_eq!(listed, children);
}

async fn sequences_count_every_child_ever_made(server: Server) {
    let client = server.client().await;
    client.create("/q", b"", &PERSISTENT).await.unwrap();
    for expected in 0..5 {
        let (_, sequence) = client.create("/q/n-", b"", &SEQUENTIAL).await.unwrap();
        assert_eq!(sequence.into_i64(), expected);
        client
            .delete(&format!("/q/n-{sequence}"), None)
            .await
            .unwrap();
    }
}

async fn ephemerals_end_with_the_session(server: Server) {
    let (one, other) = (server.client().await, server.client().await);
    let (stat, _) = one.create("/e", b"", &EPHEMERAL).await.unwrap();
    assert_eq!(stat.ephemeral_owner, one.session_id().0);
    let (_, watcher) = other.check_and_watch_stat("/e").await.unwrap();
    drop(one);
    let event = timeout(PATIENCE, watcher.changed()).await.unwrap();
    assert_eq!(event.event_type, EventType::NodeDeleted);
    assert_eq!(other.check_stat("/e").await.unwrap(), None);
}

fn with_ttl(ttl_ms: u64) -> CreateOptions<'static> {
    PERSISTENT.with_ttl(Duration::from_millis(ttl_ms))
}

/// Waits until the server has deleted a node that is there.
async fn goes(client: &Client, path: &str) {
    let (stat, watcher) = client.check_and_watch_stat(path).await.unwrap();
    if stat.is_none() {
        return;
    }
    let event = timeout(PATIENCE, watcher.changed()).await.unwrap();
    assert_eq!(event.event_type, EventType::NodeDeleted);
}

async fn a_container_goes_with_its_last_child_and_a_ttl_node_with_its_time(server: Server) {
    let (client, other) = (server.client().await, server.client().await);
    let (stat, _) = client.create("/c", b"x", &CONTAINER).await.unwrap();
    assert_eq!((stat.ephemeral_owner, stat.data_length), (0, 1));
    client.create("/c/d", b"", &CONTAINER).await.unwrap();
    client.create("/c/d/e", b"", &EPHEMERAL).await.unwrap();
    let (stat, _) = client
        .create("/long", b"", &with_ttl(1 << 39))
        .await
        .unwrap();
    assert_eq!(stat.ephemeral_owner, 0);
    client.create("/short", b"", &with_ttl(1)).await.unwrap();
    // With a child the node stays, however old it is.
    let mut multi = client.new_multi_writer();
    multi.add_create("/parent", b"", &with_ttl(1)).unwrap();
    multi.add_create("/parent/n", b"", &PERSISTENT).unwrap();
    let results = multi.commit().await.unwrap();
    assert!(matches!(
        results.as_slice(),
        [
            MultiWriteResult::Create { .. },
            MultiWriteResult::Create { .. }
        ]
    ));
    goes(&other, "/short").await;
    client.delete("/c/d/e", None).await.unwrap();
    // With the next look but one the container of the container.
    goes(&other, "/c/d").await;
    goes(&other, "/c").await;
    for path in ["/long", "/parent/n"] {
        assert!(other.check_stat(path).await.unwrap().is_some(), "{path}");
    }
    client.delete("/parent/n", None).await.unwrap();
    goes(&other, "/parent").await;
    let (children, _) = client.get_children("/").await.unwrap();
    let mut left: Vec<&str> = children.iter().map(String::as_str).collect();
    left.sort();
    assert_eq!(left, ["long", "zookeeper"]);
    // Renewed: the time counts from the last change on.
    client.set_data("/long", b"again", None).await.unwrap();
    assert_eq!(client.get_data("/long").await.unwrap().0, b"again");
}

async fn a_killed_server_knows_containers_and_ttl_nodes_again(mut server: Server) {
    let client = server.client().await;
    client.create("/c", b"", &CONTAINER).await.unwrap();
    client.create("/c/n", b"", &PERSISTENT).await.unwrap();
    client.create("/never-used", b"", &CONTAINER).await.unwrap();
    let mut multi = client.new_multi_writer();
    multi.add_create("/t", b"", &with_ttl(1)).unwrap();
    multi.add_create("/t/n", b"", &PERSISTENT).unwrap();
    multi.commit().await.unwrap();
    drop(client);
    server.kill();
    server.again();
    let client = server.client().await;
    for path in ["/c", "/t"] {
        client.delete(&format!("{path}/n"), None).await.unwrap();
        goes(&client, path).await;
    }
    assert!(client.check_stat("/never-used").await.unwrap().is_some());
}

async fn watches_of_every_kind(server: Server) {
    let (client, other) = (server.client().await, server.client().await);
    let (none, created) = client.check_and_watch_stat("/w").await.unwrap();
    assert_eq!(none, None);
    other.create("/w", b"", &PERSISTENT).await.unwrap();
    let event = timeout(PATIENCE, created.changed()).await.unwrap();
    assert_eq!(
        (event.event_type, event.path.as_str()),
        (EventType::NodeCreated, "/w")
    );

    let (_, _, data) = client.get_and_watch_data("/w").await.unwrap();
    let (_, _, children) = client.get_and_watch_children("/w").await.unwrap();
    other.set_data("/w", b"x", None).await.unwrap();
    other.create("/w/c", b"", &PERSISTENT).await.unwrap();
    let event = timeout(PATIENCE, data.changed()).await.unwrap();
    assert_eq!(event.event_type, EventType::NodeDataChanged);
    let event = timeout(PATIENCE, children.changed()).await.unwrap();
    assert_eq!(event.event_type, EventType::NodeChildrenChanged);

    other.delete("/w/c", None).await.unwrap();
    let (_, _, data) = client.get_and_watch_data("/w").await.unwrap();
    let (_, _, children) = client.get_and_watch_children("/w").await.unwrap();
    other.delete("/w", None).await.unwrap();
    for watcher in [data, children] {
        let event = timeout(PATIENCE, watcher.changed()).await.unwrap();
        assert_eq!(event.event_type, EventType::NodeDeleted);
    }
}

/// The next event of a node: type and path.
async fn next_of(watcher: &mut PersistentWatcher) -> (EventType, String) {
    loop {
        let event = timeout(PATIENCE, watcher.changed()).await.unwrap();
        if event.event_type != EventType::Session {
            return (event.event_type, event.path.to_string());
        }
    }
}

/// Version 0.11 of the crate does not set them again after a reconnect: its setWatches is empty then
/// (`resend_watches`). `tests/kazoo/test_wire.py` does.
async fn watches_that_last_fire_and_are_removed(server: Server) {
    let (client, other) = (server.client().await, server.client().await);
    // Nothing is there yet.
    let mode = AddWatchMode::PersistentRecursive;
    let mut below = client.watch("/w", mode).await.unwrap();
    let mut here = client.watch("/w", AddWatchMode::Persistent).await.unwrap();
    other.create("/w", b"", &PERSISTENT).await.unwrap();
    for watcher in [&mut below, &mut here] {
        let due = (EventType::NodeCreated, "/w".into());
        assert_eq!(next_of(watcher).await, due);
    }
    for _ in 0..2 {
        other.create("/w/c", b"", &PERSISTENT).await.unwrap();
        other.set_data("/w/c", b"x", None).await.unwrap();
        other.delete("/w/c", None).await.unwrap();
        for due in [
            EventType::NodeCreated,
            EventType::NodeDataChanged,
            EventType::NodeDeleted,
        ] {
            assert_eq!(next_of(&mut below).await, (due, "/w/c".into()));
        }
        for _ in 0..2 {
            let due = (EventType::NodeChildrenChanged, "/w".into());
            assert_eq!(next_of(&mut here).await, due);
        }
    }
    other.set_data("/w", b"y", None).await.unwrap();
    for watcher in [&mut below, &mut here] {
        let due = (EventType::NodeDataChanged, "/w".into());
        assert_eq!(next_of(watcher).await, due);
    }
    // The client removes what nobody waits for any more.
    assert_eq!(watches(server.port), 2, "one path in each table");
    drop((below, here));
    let began = Instant::now();
    while watches(server.port) > 0 {
        assert!(began.elapsed() < PATIENCE, "a watch is left");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Of those that fire once each kind, told to go before they have fired: the client asks the server to forget them.
async fn watches_that_nobody_waits_for_are_removed(server: Server) {
    let (client, other) = (server.client().await, server.client().await);
    client.create("/w", b"", &PERSISTENT).await.unwrap();
    let (_, _, data) = client.get_and_watch_data("/w").await.unwrap();
    let (_, _, children) = client.get_and_watch_children("/w").await.unwrap();
    let (_, exists) = client.check_and_watch_stat("/none").await.unwrap();
    assert_eq!(watches(server.port), 3);
    drop(data);
    drop(exists);
    let began = Instant::now();
    while watches(server.port) > 1 {
        assert!(began.elapsed() < PATIENCE, "a watch is left");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // The one beside is still there.
    other.create("/w/c", b"", &PERSISTENT).await.unwrap();
    let event = timeout(PATIENCE, children.changed()).await.unwrap();
    assert_eq!(event.event_type, EventType::NodeChildrenChanged);
}

/// The watches of all clients, as `mntr` counts them.
fn watches(port: u16) -> usize {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(b"mntr").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (_, count) = answer.split_once("zk_watch_count\t").unwrap();
    count.lines().next().unwrap().parse().unwrap()
}

async fn acls_are_kept_and_enforced(server: Server) {
    let (owner, stranger) = (server.client().await, server.client().await);
    owner.auth("digest", b"owner:secret").await.unwrap();
    let private = CreateMode::Persistent.with_acls(Acls::creator_all());
    owner.create("/mine", b"x", &private).await.unwrap();
    assert_eq!(stranger.get_data("/mine").await, Err(Error::NoAuth));
    assert_eq!(
        stranger.set_data("/mine", b"", None).await,
        Err(Error::NoAuth)
    );
    assert_eq!(
        stranger
            .create("/theirs", b"", &private)
            .await
            .map(drop)
            .unwrap_err(),
        Error::InvalidAcl
    );
    stranger.auth("digest", b"owner:secret").await.unwrap();
    assert_eq!(stranger.get_data("/mine").await.unwrap().0, b"x");
    let readable = [Acl::new(Permission::READ, AuthId::anyone())];
    let stat = owner.set_acl("/mine", &readable, Some(0)).await.unwrap();
    assert_eq!(stat.aversion, 1);
    let third = server.client().await;
    assert_eq!(third.get_data("/mine").await.unwrap().0, b"x");
    assert_eq!(third.get_acl("/mine").await.unwrap().0, readable);
    assert_eq!(owner.set_data("/mine", b"", None).await, Err(Error::NoAuth));
}

async fn identities_are_listed(server: Server) {
    let client = server.client().await;
    let address = AuthUser::new("ip", "127.0.0.1");
    let users = client.list_auth_users().await.unwrap();
    assert_eq!(users, std::slice::from_ref(&address));
    client.auth("digest", b"ann:secret").await.unwrap();
    let users = client.list_auth_users().await.unwrap();
    assert_eq!(users.len(), 2);
    assert!(users.contains(&address) && users.contains(&AuthUser::new("digest", "ann")));
}

async fn the_configuration_is_read_and_not_changed(server: Server) {
    let client = server.client().await;
    let (data, stat, watcher) = client.get_and_watch_config().await.unwrap();
    assert_eq!(data, b"");
    assert_eq!(client.get_config().await.unwrap(), (data, stat));
    let ensemble = ["server.1=127.0.0.1:2888:3888;2181"].into_iter();
    assert_eq!(
        client
            .update_ensemble(EnsembleUpdate::New { ensemble }, None)
            .await
            .unwrap_err(),
        Error::ReconfigDisabled
    );
    drop(watcher);
}

async fn a_multi_is_whole(server: Server) {
    let client = server.client().await;
    client.create("/a", b"", &PERSISTENT).await.unwrap();
    let mut multi = client.new_multi_writer();
    multi.add_check_version("/a", 0).unwrap();
    multi.add_create("/b", b"b", &PERSISTENT).unwrap();
    multi.add_create("/b/n-", b"", &SEQUENTIAL).unwrap();
    multi.add_set_data("/a", b"changed", Some(0)).unwrap();
    multi.add_delete("/b/n-0000000000", None).unwrap();
    let results = multi.commit().await.unwrap();
    assert!(
        matches!(
            results.as_slice(),
            [
                MultiWriteResult::Check,
                MultiWriteResult::Create { .. },
                MultiWriteResult::Create { .. },
                MultiWriteResult::SetData { .. },
                MultiWriteResult::Delete
            ]
        ),
        "{results:?}"
    );
    let b = client.check_stat("/b").await.unwrap().unwrap();
    assert_eq!(
        b.mzxid,
        client.check_stat("/a").await.unwrap().unwrap().mzxid
    );
}

async fn a_refused_multi_leaves_nothing(server: Server) {
    let client = server.client().await;
    client.create("/a", b"", &PERSISTENT).await.unwrap();
    let mut multi = client.new_multi_writer();
    multi.add_create("/b", b"", &PERSISTENT).unwrap();
    multi.add_set_data("/a", b"changed", None).unwrap();
    multi.add_delete("/missing", None).unwrap();
    assert_eq!(
        multi.commit().await.unwrap_err(),
        MultiWriteError::OperationFailed {
            index: 2,
            source: Error::NoNode
        }
    );
    assert_eq!(client.check_stat("/b").await.unwrap(), None);
    assert_eq!(client.get_data("/a").await.unwrap().0, b"");
}

async fn a_check_guards_a_write(server: Server) {
    let client = server.client().await;
    client.create("/guard", b"", &PERSISTENT).await.unwrap();
    let mut guarded = client.new_check_writer("/guard", Some(0)).unwrap();
    guarded.add_create("/x", b"", &PERSISTENT).unwrap();
    guarded.commit().await.unwrap();
    client.set_data("/guard", b"", None).await.unwrap();
    let mut guarded = client.new_check_writer("/guard", Some(0)).unwrap();
    guarded.add_create("/y", b"", &PERSISTENT).unwrap();
    assert_eq!(
        guarded.commit().await.unwrap_err(),
        CheckWriteError::CheckFailed {
            source: Error::BadVersion
        }
    );
}

async fn a_multi_read_answers_each_by_itself(server: Server) {
    let client = server.client().await;
    client.create("/a", b"data", &PERSISTENT).await.unwrap();
    client.create("/a/b", b"", &PERSISTENT).await.unwrap();
    let mut reader = client.new_multi_reader();
    reader.add_get_data("/a").unwrap();
    reader.add_get_data("/missing").unwrap();
    reader.add_get_children("/a").unwrap();
    let results = reader.commit().await.unwrap();
    let [
        MultiReadResult::Data { data, .. },
        MultiReadResult::Error { err },
        MultiReadResult::Children { children },
    ] = results.as_slice()
    else {
        panic!("{results:?}");
    };
    assert_eq!((data.as_slice(), err), (&b"data"[..], &Error::NoNode));
    assert_eq!(children, &["b"]);
}

async fn pipelined_requests_are_answered_in_order(server: Server) {
    let client = server.client().await;
    client.create("/p", b"", &PERSISTENT).await.unwrap();
    let mut under_way = Vec::new();
    for n in 0..500u32 {
        let data = n.to_string();
        let set = client.set_data("/p", data.as_bytes(), None);
        under_way.push((data, set, client.get_data("/p")));
    }
    for (n, (data, set, get)) in under_way.into_iter().enumerate() {
        assert_eq!(usize::try_from(set.await.unwrap().version).unwrap(), n + 1);
        assert_eq!(get.await.unwrap().0, data.as_bytes());
    }
}

async fn a_lock_is_handed_on(server: Server) {
    let (one, other) = (server.client().await, server.client().await);
    one.create("/locks", b"", &PERSISTENT).await.unwrap();
    let prefix = || LockPrefix::new_curator("/locks", "lock-").unwrap();
    let acls = Acls::anyone_all();
    let held = one.lock(prefix(), b"one", acls).await.unwrap();
    let mut waiting = Box::pin(other.lock(prefix(), b"other", acls));
    let blocked = timeout(Duration::from_millis(100), &mut waiting).await;
    assert!(blocked.is_err(), "two hold the lock");
    drop(held);
    let held = timeout(PATIENCE, waiting).await.unwrap().unwrap();
    held.create("/under-lock", b"", &PERSISTENT).await.unwrap();
}

/// The client's own task learns late that its session was given away. As long as it has not learnt
/// it, it replaces a connection that the server closes, also if the server closes it because the
/// session has moved: so the session is its own once more, and the other one loses a connection.
/// That may happen until its task has ended, and not later. It sends no closeSession.
async fn a_session_moves_to_another_client(server: Server) {
    let first = Client::connector()
        .with_detached()
        .connect(&server.hosts())
        .await
        .unwrap();
    first.create("/e", b"", &EPHEMERAL).await.unwrap();
    let id = first.session_id();
    let mut of_first = first.state_watcher();
    let session = first.into_session();
    while timeout(PATIENCE, of_first.changed()).await.unwrap() != SessionState::Closed {}
    let second = Client::connector()
        .with_session(session)
        .connect(&server.hosts())
        .await
        .unwrap();
    assert_eq!(second.session_id(), id);
    let stat = second.check_stat("/e").await.unwrap().unwrap();
    assert_eq!(stat.ephemeral_owner, id.0);
    assert_eq!(second.state(), SessionState::SyncConnected);
}

/// Two clients that both live and both hold the session: each time one gets it, the other one's
/// connection is closed, and that one comes back. Neither is ever told that the session is gone.
async fn a_session_that_two_clients_claim_lives_on(server: Server) {
    let first = server.client().await;
    first.create("/e", b"", &EPHEMERAL).await.unwrap();
    let id = first.session_id();
    let mut of_first = first.state_watcher();
    let second = Client::connector()
        .with_session(first.session().clone())
        .connect(&server.hosts())
        .await
        .unwrap();
    for _ in 0..5 {
        for due in [SessionState::Disconnected, SessionState::SyncConnected] {
            while timeout(PATIENCE, of_first.changed()).await.unwrap() != due {}
        }
    }
    assert_eq!((first.session_id(), second.session_id()), (id, id));
    assert!(!first.state().is_terminated() && !second.state().is_terminated());
    let other = server.client().await;
    let stat = other.check_stat("/e").await.unwrap().unwrap();
    assert_eq!(stat.ephemeral_owner, id.0);
}

async fn a_killed_server_keeps_writes_sessions_and_watches(mut server: Server) {
    let client = Client::connector()
        .with_session_timeout(Duration::from_secs(30))
        .connect(&server.hosts())
        .await
        .unwrap();
    let mut states = client.state_watcher();
    client.create("/kept", b"x", &PERSISTENT).await.unwrap();
    client.create("/e", b"", &EPHEMERAL).await.unwrap();
    let (_, _, watcher) = client.get_and_watch_data("/kept").await.unwrap();
    server.kill();
    let state = timeout(PATIENCE, states.changed()).await.unwrap();
    assert_eq!(state, SessionState::Disconnected);
    server.again();
    let state = timeout(PATIENCE, states.changed()).await.unwrap();
    assert_eq!(state, SessionState::SyncConnected);
    assert_eq!(client.get_data("/kept").await.unwrap().0, b"x");
    let owner = client
        .check_stat("/e")
        .await
        .unwrap()
        .unwrap()
        .ephemeral_owner;
    assert_eq!(owner, client.session_id().0);
    let other = server.client().await;
    other.set_data("/kept", b"y", None).await.unwrap();
    let event = timeout(PATIENCE, watcher.changed()).await.unwrap();
    assert_eq!(event.event_type, EventType::NodeDataChanged);
}

async fn nodes_are_counted_and_ephemerals_are_listed(server: Server) {
    let client = server.client().await;
    client.create("/a", b"", &PERSISTENT).await.unwrap();
    client.create("/a/b", b"", &EPHEMERAL).await.unwrap();
    assert_eq!(client.count_descendants_number("/a").await, Ok(1));
    assert_eq!(client.count_descendants_number("/").await, Ok(5));
    let found = client.list_ephemerals("/a").await.unwrap();
    assert_eq!(found, ["/a/b"]);
}

async fn a_directory_is_made_with_those_above_it(server: Server) {
    let client = server.client().await;
    for path in ["/a/b/c", "/a/b/d", "/a/b/c"] {
        client.mkdir(path, &PERSISTENT).await.unwrap();
    }
    assert_eq!(client.count_descendants_number("/a").await, Ok(3));
    client.mkdir("/a/e/f", &CONTAINER).await.unwrap();
    // A watch below a chroot, and names as they are there.
    let below = server.client().await.chroot("/a").unwrap();
    let mode = AddWatchMode::PersistentRecursive;
    let mut watcher = below.watch("/", mode).await.unwrap();
    client.create("/a/b/g", b"", &EPHEMERAL).await.unwrap();
    let due = (EventType::NodeCreated, "/b/g".into());
    assert_eq!(next_of(&mut watcher).await, due);
    below.create("/mine", b"", &EPHEMERAL).await.unwrap();
    assert_eq!(below.list_ephemerals("/").await.unwrap(), ["/mine"]);
}

async fn a_chroot_is_a_root(server: Server) {
    let plain = server.client().await;
    plain.create("/root", b"", &PERSISTENT).await.unwrap();
    let below = server.client().await.chroot("/root").unwrap();
    below.create("/a", b"x", &PERSISTENT).await.unwrap();
    assert_eq!(plain.get_data("/root/a").await.unwrap().0, b"x");
    below.sync("/").await.unwrap();
    assert_eq!(below.list_children("/").await.unwrap(), ["a"]);
}
