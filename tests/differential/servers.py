"""The two servers of one configuration: Apache's, fetched by bench/fetch-apache, and ours in a placement."""

import contextlib
import os
import pathlib
import subprocess
import sys
import threading

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "lib"))

import server  # noqa: E402
from server import REPO, Server  # noqa: E402

APACHE_HOME = pathlib.Path(os.environ.get("RK_APACHE", REPO / "tests" / ".work" / "apache-3.9.5"))
APACHE_MAIN = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
# A small heap, and no time spent on compiling well: what counts is a quick start.
JVM_FLAGS = ["-Xms64m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"]
LOGBACK = """<configuration>
  <appender name="CONSOLE" class="ch.qos.logback.core.ConsoleAppender"><encoder><pattern>%d %p %c %m%n</pattern></encoder></appender>
  <root level="ERROR"><appender-ref ref="CONSOLE"/></root>
</configuration>
"""
# ms. The shortest session lasts one tick, so that expiry is quick, and the longest outlives any program.
TICK, TIMEOUT_MAX = 400, 60_000
# The identity that may do everything: auth(digest, super:secret).
SUPER = b"super:secret"
SUPER_DIGEST = "super:lK75jTNcA+U9vtVEw5vB51mj/w4="
# ms between two looks for containers and TTL nodes: never, but where it is the subject.
NEVER, OFTEN = 2_000_000_000, 200

# Lines of zoo.cfg.
CONFIGS = {
    "default": {},
    "quota": {"enforceQuota": "true"},
    "extended": {"extendedTypesEnabled": "true"},
    "local": {"localSessionsEnabled": "true", "localSessionsUpgradingEnabled": "true"},
    "reconfig": {"reconfigEnabled": "true"},
    # Containers and TTL nodes are looked for all the time: only programs that expect it.
    "reaping": {"extendedTypesEnabled": "true"},
}


def properties(config):
    return {"zookeeper.DigestAuthenticationProvider.superDigest": SUPER_DIGEST,
            "znode.container.checkIntervalMs": OFTEN if config == "reaping" else NEVER}


def options(config):
    return {"tickTime": TICK, "minSessionTimeout": TICK, "maxSessionTimeout": TIMEOUT_MAX, "maxClientCnxns": 0,
            "4lw.commands.whitelist": "*", **CONFIGS[config]}


class Apache(Server):
    """Apache's server, which does not sync: what it says does not depend on it."""

    def __init__(self, config):
        more = {"admin.enableServer": "false", "forceSync": "no", "snapCount": 1_000_000}
        super().__init__(properties=properties(config), **options(config), **more)
        # These are ours alone.
        for name in ("shards", "preAllocSize"):
            del self.options[name]
        (self.root / "logback.xml").write_text(LOGBACK)

    def spawn(self):
        config = self.root / "zoo.cfg"
        lines = {"dataDir": self.data, "clientPort": self.port, "clientPortAddress": "127.0.0.1", **self.options}
        config.write_text("".join(f"{k}={v}\n" for k, v in lines.items()))
        classes = f"{self.root}:{APACHE_HOME}/*:{APACHE_HOME}/lib/*"
        given = [f"-D{name}={value}" for name, value in self.properties.items()]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(["java", *JVM_FLAGS, *given, "-cp", classes, APACHE_MAIN, str(config)],
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def stop(self):
        """It ends by the signal, without an exit code of its own."""
        if self.process.poll() is not None:
            raise RuntimeError(f"Apache's server has ended with {self.process.returncode}:\n{self.log.read_text()[-3000:]}")
        self.process.terminate()
        self.process.wait(server.PATIENCE_S)


def fetched():
    """Apache's jars are there, or are fetched."""
    if not list(APACHE_HOME.glob("**/zookeeper-3.9.5.jar")):
        subprocess.run([sys.executable, REPO / "bench" / "fetch-apache", APACHE_HOME], check=True, stdout=sys.stderr)


def side_by_side(*jobs):
    """Runs them at the same time; the first failure is raised."""
    failures = []

    def guarded(job):
        try:
            job()
        except BaseException as e:
            failures.append(e)

    threads = [threading.Thread(target=guarded, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


class Servers:
    """Both servers. `fresh` begins with empty data again."""

    def __init__(self, config, shards):
        self.config = config
        self.apache = Apache(config)
        self.ours = Server(properties=properties(config), **{**options(config), "shards": shards})

    def start(self):
        side_by_side(self.apache.start, self.ours.start)

    def both(self):
        return self.apache, self.ours

    def restart(self):
        side_by_side(self.apache.restart, self.ours.restart)

    def fresh(self):
        def anew(one):
            one.kill9()
            one.wipe()
            one.start()
        side_by_side(*(lambda one=one: anew(one) for one in self.both()))

    def close(self):
        for one in self.both():
            with contextlib.suppress(OSError):
                one.close()

