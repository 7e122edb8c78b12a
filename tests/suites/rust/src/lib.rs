//! Where the suite of the crate `zookeeper-client` asks for a container of the image `zookeeper`, it gets a process: our
//! server or Apache's, with what the suite says to the image (flags in SERVER_JVMFLAGS, a `zoo.cfg`).
//!
//! The runner says which by the environment: `SUITES_SIDE` (`ours` or `apache`), `RK_SERVER` (our binary), `RK_SHARDS`
//! (its placement), `RK_APACHE` (Apache's jars).

pub mod clients {
    use crate::core::{Container, RunnableImage};
    use crate::images::generic::GenericImage;

    /// What runs images.
    #[derive(Default)]
    pub struct Cli;

    impl Cli {
        /// Starts the server and waits until it answers.
        pub fn run(
            &self,
            image: impl Into<RunnableImage<GenericImage>>,
        ) -> Container<'_, GenericImage> {
            Container::started(&image.into())
        }
    }
}

pub mod images {
    pub mod generic {
        use crate::core::{Healthcheck, WaitFor};

        /// An image with its environment.
        pub struct GenericImage {
            pub(crate) environment: Vec<(String, String)>,
        }

        impl GenericImage {
            pub fn new(_name: impl Into<String>, _tag: impl Into<String>) -> Self {
                Self {
                    environment: Vec::new(),
                }
            }

            pub fn with_env_var(
                mut self,
                name: impl Into<String>,
                value: impl Into<String>,
            ) -> Self {
                self.environment.push((name.into(), value.into()));
                self
            }

            pub fn with_healthcheck(self, _check: Healthcheck) -> Self {
                self
            }

            pub fn with_wait_for(self, _what: WaitFor) -> Self {
                self
            }
        }
    }
}

pub mod core {
    use std::io::{Read as _, Write as _};
    use std::marker::PhantomData;
    use std::net::{TcpListener, TcpStream};
    use std::path::{Path, PathBuf};
    use std::process::{Child, Command, Stdio};
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::{Duration, Instant};
    use std::{env, fs, process, thread};

    use crate::images::generic::GenericImage;

    const PATIENCE: Duration = Duration::from_secs(60);
    /// Where the image expects its configuration, and the path and port that name its data and its clients there.
    const CONFIG: &str = "/conf/zoo.cfg";
    const PORT: u16 = 2181;
    /// What the image writes where it is given no configuration, as facts of its documentation.
    const DEFAULTS: &str =
        "tickTime=2000\ninitLimit=5\nsyncLimit=2\nmaxClientCnxns=60\nadmin.enableServer=false\n";

    /// How an image is asked whether it is well; a process is asked for a four-letter word.
    #[derive(Default)]
    pub struct Healthcheck;

    impl Healthcheck {
        pub fn with_cmd<T>(self, _words: impl IntoIterator<Item = T>) -> Self {
            self
        }

        pub fn with_interval(self, _interval: Duration) -> Self {
            self
        }

        pub fn with_retries(self, _retries: u32) -> Self {
            self
        }
    }

    /// What a start waits for.
    pub enum WaitFor {
        Healthcheck,
    }

    /// An image with its files.
    pub struct RunnableImage<I> {
        image: I,
        volumes: Vec<(PathBuf, String)>,
    }

    impl From<GenericImage> for RunnableImage<GenericImage> {
        fn from(image: GenericImage) -> Self {
            Self {
                image,
                volumes: Vec::new(),
            }
        }
    }

    impl<I> RunnableImage<I> {
        pub fn with_volume(mut self, (from, to): (&str, &str)) -> Self {
            self.volumes.push((from.into(), to.to_owned()));
            self
        }

        pub fn with_network(self, _name: impl Into<String>) -> Self {
            self
        }
    }

    /// What a server has said: no test that is run reads it.
    pub struct LogStream;

    impl LogStream {
        pub fn wait_for_message(&self, _message: &str) -> Result<(), String> {
            Err("the log of a process is not read".into())
        }
    }

    /// A server.
    pub struct Container<'d, I> {
        directory: PathBuf,
        flags: String,
        port: u16,
        process: Mutex<Option<Child>>,
        of: PhantomData<(&'d (), I)>,
    }

    impl Container<'_, GenericImage> {
        pub(crate) fn started(image: &RunnableImage<GenericImage>) -> Self {
            static MADE: AtomicU32 = AtomicU32::new(0);
            let number = MADE.fetch_add(1, Ordering::Relaxed);
            let directory = env::temp_dir().join(format!("container-{}-{number}", process::id()));
            fs::create_dir_all(directory.join("data")).expect("a directory for the server");
            let flags = image
                .image
                .environment
                .iter()
                .find(|(name, _)| name == "SERVER_JVMFLAGS");
            let this = Self {
                flags: flags.map(|(_, value)| value.clone()).unwrap_or_default(),
                port: free_port(),
                process: Mutex::new(None),
                of: PhantomData,
                directory,
            };
            let given = image.volumes.iter().find(|(_, to)| to == CONFIG);
            let given = given.map(|(from, _)| fs::read_to_string(from).expect("the configuration"));
            fs::write(
                this.directory.join("zoo.cfg"),
                this.config(given.as_deref()),
            )
            .expect("a configuration");
            this.start();
            this
        }
    }

    impl<I> Container<'_, I> {
        /// The image's configuration with paths and ports of this machine.
        fn config(&self, given: Option<&str>) -> String {
            let mut config = String::new();
            for line in given.unwrap_or(DEFAULTS).lines() {
                if !line.starts_with("dataDir=") && !line.starts_with("clientPort=") {
                    config += &format!("{line}\n");
                }
            }
            config += &format!(
                "dataDir={}\nclientPort={}\n",
                self.directory.join("data").display(),
                self.port
            );
            if !is_apache() {
                config += &format!(
                    "shards={}\n",
                    env::var("RK_SHARDS").expect("RK_SHARDS: our placement")
                );
            }
            config
        }

        pub fn start(&self) {
            let log = fs::File::options()
                .create(true)
                .append(true)
                .open(self.directory.join("server.log"));
            let log = log.expect("a log");
            let mut command = command(&self.directory);
            let flags = self.flags.split_whitespace().map(str::to_owned);
            let flags: Vec<String> = if is_apache() { flags.collect() } else { vec![] };
            let mut whole = Command::new(command.remove(0));
            whole
                .args(flags)
                .args(command)
                .arg(self.directory.join("zoo.cfg"));
            whole
                .env("SERVER_JVMFLAGS", &self.flags)
                .stdin(Stdio::null());
            whole.stdout(log.try_clone().expect("a log")).stderr(log);
            *self.process.lock().unwrap() = Some(whole.spawn().expect("the server starts"));
            let until = Instant::now() + PATIENCE;
            while !answers(self.port) {
                let said =
                    || fs::read_to_string(self.directory.join("server.log")).unwrap_or_default();
                let ended = self
                    .process
                    .lock()
                    .unwrap()
                    .as_mut()
                    .unwrap()
                    .try_wait()
                    .expect("its state");
                assert!(
                    ended.is_none() && Instant::now() < until,
                    "the server does not serve: {}",
                    said()
                );
                thread::sleep(Duration::from_millis(10));
            }
        }

        pub fn stop(&self) {
            if let Some(mut child) = self.process.lock().unwrap().take() {
                // std has no other signal than the one that cannot be caught.
                let _ = Command::new("kill")
                    .args(["-TERM", &child.id().to_string()])
                    .status();
                let _ = child.wait();
            }
        }

        pub fn get_host_port(&self, port: u16) -> u16 {
            assert_eq!(port, PORT);
            self.port
        }

        pub fn stdout(&self) -> LogStream {
            LogStream
        }
    }

    impl<I> Drop for Container<'_, I> {
        fn drop(&mut self) {
            self.stop();
            let _ = fs::remove_dir_all(&self.directory);
        }
    }

    fn is_apache() -> bool {
        env::var("SUITES_SIDE").as_deref() == Ok("apache")
    }

    fn command(directory: &Path) -> Vec<String> {
        if !is_apache() {
            return vec![env::var("RK_SERVER").expect("RK_SERVER: our server")];
        }
        let jars = env::var("RK_APACHE").expect("RK_APACHE: Apache's jars");
        let classes = format!("{}:{jars}/*", directory.display());
        let fixed = [
            "java",
            "-Xmx256m",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            "-Dzookeeper.4lw.commands.whitelist=*",
        ];
        let mut words: Vec<String> = fixed.map(str::to_owned).into();
        words.extend([
            "-cp".to_owned(),
            classes,
            "org.apache.zookeeper.server.quorum.QuorumPeerMain".to_owned(),
        ]);
        words
    }

    /// A port below the ephemeral range, where no client's end of a connection can take it meanwhile.
    fn free_port() -> u16 {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let first = process::id().wrapping_mul(31);
        loop {
            let port =
                20_000 + (first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % 12_000) as u16;
            if TcpListener::bind(("127.0.0.1", port)).is_ok() {
                return port;
            }
        }
    }

    fn answers(port: u16) -> bool {
        let asked = TcpStream::connect(("127.0.0.1", port)).and_then(|mut stream| {
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            stream.write_all(b"srvr")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        });
        asked.is_ok_and(|answer| answer.contains("Mode: "))
    }
}
