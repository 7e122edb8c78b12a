"""Stands in for `kazoo.testing.common`: the servers that kazoo's harness starts are ours, or Apache's, as processes.

The harness gives ports, lines of zoo.cfg and Java properties; they are given on. An ensemble is one server here, without
TLS and SASL: the tests that need more are left out by name."""

import os
import pathlib
import shutil
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "lib"))

import server  # noqa: E402

MAIN = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
JVM = ["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dfile.encoding=UTF-8"]
# What kazoo's harness writes for every server.
LINES = {"tickTime": "2000", "minSessionTimeout": "-1", "maxSessionTimeout": "-1", "maxClientCnxns": "0"}
PROPERTIES = {"readonlymode.enabled": "true"}


class Apache(server.Server):
    """Apache's server of the jars in RK_APACHE."""

    def spawn(self):
        options = {name: value for name, value in self.options.items() if name not in ("shards", "preAllocSize")}
        lines = {"dataDir": self.data, "clientPort": self.port, "admin.enableServer": "false", **options}
        config = self.root / "zoo.cfg"
        config.write_text("".join(f"{name}={value}\n" for name, value in lines.items()))
        given = [f"-D{name}={value}" for name, value in self.properties.items()]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(["java", *JVM, *given, "-cp", f"{self.root}:{os.environ['RK_APACHE']}/*", MAIN, str(config)],
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def stop(self):
        """It ends by the signal, without an exit code of its own."""
        self.process.terminate()
        self.process.wait(server.PATIENCE_S)


class ManagedZooKeeper:
    """One server; `stop` and `run` keep its data."""

    def __init__(self, port, lines, properties):
        kind = Apache if os.environ["SUITES_SIDE"] == "apache" else server.Server
        self.server = kind(properties={**PROPERTIES, **properties}, **{**LINES, **lines})
        self.server.port = port
        self.running = False

    @property
    def client_port(self):
        return self.server.port

    @property
    def address(self):
        return f"127.0.0.1:{self.client_port}"

    # Nobody listens there: what would use it is left out.
    secure_address = "127.0.0.1:1"

    def run(self):
        if not self.running:
            self.server.root.mkdir(parents=True, exist_ok=True)
            self.server.start()
            self.running = True

    def stop(self):
        if self.running:
            self.server.stop()
            self.running = False

    def reset(self):
        self.stop()
        self.server.wipe()

    def destroy(self):
        self.stop()
        shutil.rmtree(self.server.root, ignore_errors=True)

    def get_logs(self, num_lines=100):
        return self.server.log.read_text().splitlines()[-num_lines:] if self.server.log.exists() else []


class ZookeeperCluster:
    """What the harness takes for an ensemble."""

    def __init__(self, install_path=None, classpath=None, size=1, port_offset=20000, observer_start_id=-1,
                 configuration_entries=(), java_system_properties=(), jaas_config=None):
        if size != 1:
            raise ValueError("one server: set ZOOKEEPER_CLUSTER_SIZE to 1")
        lines = dict(entry.split("=", 1) for entry in configuration_entries)
        properties = dict(entry.removeprefix("-D").split("=", 1) for entry in java_system_properties)
        self.servers = [ManagedZooKeeper(port_offset, lines, properties)]

    def __getitem__(self, number):
        return self.servers[number]

    def __iter__(self):
        return iter(self.servers)

    def start(self):
        for one in self:
            one.run()

    def stop(self):
        for one in self:
            one.stop()

    def terminate(self):
        for one in self:
            one.destroy()

    def reset(self):
        for one in self:
            one.reset()

    def get_logs(self):
        return [line for one in self for line in one.get_logs()]
