"""How each suite is fetched, which units it has, and how one unit runs on a side.

A unit is what runs in one process: a module of kazoo's tests, a class of Java tests, the one binary of the Rust crate. It
reports one line for each test (outcome, test, seconds, reason, with tabs between) into a file, so that the tests before
a crash count."""

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import zipfile

import plan

HERE = pathlib.Path(__file__).resolve().parent
REPO = HERE.parents[1]
WORK = REPO / "tests" / ".work" / "suites"
TMP = WORK / "tmp"
APACHE_HOME = pathlib.Path(os.environ.get("RK_APACHE", REPO / "tests" / ".work" / "apache-3.9.5"))
SERVER = pathlib.Path(os.environ.get("RK_SERVER", REPO / "target" / "release" / "ringkeeper"))
# Seconds for one test, and for a unit as a whole. In the short part nothing takes a tenth of its limit, and a test of
# kazoo whose threads race (test_rw_lock) hangs until it ends, and passes at the second try.
TEST_S, SHORT_TEST_S, UNIT_S = 300, 30, 1800
# Units that may run at the same time: each has a range of ports of its own.
PLACES = 16


class Missing(Exception):
    """A tool is not installed, or a fetch failed; the text says which."""


class Side:
    """Whose server the tests meet: Apache's, or ours with a number of shards."""

    def __init__(self, name):
        self.name = name
        self.is_apache = name == "apache"
        self.title = "Apache 3.9.5" if self.is_apache else "ours, inline" if name == "0" else f"ours, {name} shards"

    def environment(self, place):
        kept = {name: value for name, value in os.environ.items()
                if name not in ("CI", "JVMFLAGS", "SERVER_JVMFLAGS", "CLIENT_JVMFLAGS", "ZOOKEEPER_VERSION")}
        return {**kept, "SUITES_SIDE": "apache" if self.is_apache else "ours", "RK_SERVER": str(SERVER), "TMPDIR": str(place),
                "RK_SHARDS": "0" if self.is_apache else self.name, "RK_APACHE": str(APACHE_HOME)}


def call(*command, **how):
    """Runs a step of a fetch, and returns what it prints."""
    done = subprocess.run([str(word) for word in command], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, **how)
    if done.returncode:
        raise Missing(f"`{' '.join(map(str, command))}` ended with {done.returncode}:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return done.stdout


def tool(name, package):
    if shutil.which(name) is None:
        raise Missing(f"{name} is missing: install {package}")


def fetch_apache():
    """Apache's jars are there, or are fetched."""
    if not list(APACHE_HOME.glob("zookeeper-3.9.5.jar")):
        tool("java", "openjdk-17-jre-headless")
        tool("mvn", "maven")
        call(sys.executable, REPO / "bench" / "fetch-apache", APACHE_HOME)


def stamped(directory, what, make):
    """Makes a directory once for what it is made of."""
    stamp = directory / "made-of"
    if stamp.exists() and stamp.read_text() == what:
        return
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    make()
    stamp.write_text(what)


def sources(*files):
    return "".join(f"{file.name}\n{file.read_text()}" for file in files)


def parse(text, ended):
    """Results of a report by test: (outcome, seconds, reason). A failure counts whatever else is said of its test; a
    test that did not end has failed, and `ended` says how the process did."""
    results, under_way = {}, []
    for line in text.splitlines():
        outcome, test, seconds, reason = (line.split("\t", 3) + [""] * 3)[:4]
        if outcome == "started":
            under_way.append(test)
            continue
        if test in under_way:
            under_way.remove(test)
        if results.get(test, ("", 0, ""))[0] != "failed":
            results[test] = (outcome, float(seconds), reason)
    for test in under_way:
        results.setdefault(test, ("failed", 0.0, f"did not end: {ended}"))
    return results


class Suite:
    """One of other people's suites: `name`, `version`, `install`, `units`, and the command that runs a unit."""

    def short(self, unit):
        """The unit as the plan names it."""
        return unit

    def all_units(self):
        """Every unit of the suite that is not left out as a whole."""
        return [unit for unit in self.every_unit() if plan.left_out(self.name, self.short(unit)) != ["*"]]

    def run(self, unit, side, number, only=None):
        """Results of one unit. `number`: of the place where it runs, below PLACES; `only`: these tests and no others."""
        place = TMP / f"{self.name}-{self.short(unit)}-{side.name}-{number}"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        report = place / "report"
        report.touch()
        command, more = self.command(unit, side, number, place, report, only)
        with open(place / "log", "wb") as log:
            process = subprocess.Popen([str(word) for word in command], cwd=place, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                       env={**side.environment(place), **more}, start_new_session=True)
            try:
                ended = f"exit code {process.wait(UNIT_S)}"
            except subprocess.TimeoutExpired:
                ended = f"killed after {UNIT_S} s"
            finally:
                # Whatever it has started ends with it.
                try:
                    os.killpg(process.pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
                process.wait()
        results = self.results(report, place / "log", ended)
        if not results and not only and self.is_broken(process.returncode):
            said = (place / "log").read_text(errors="replace")[-600:]
            results["(set-up)"] = ("failed", 0.0, f"{ended}: {' '.join(said.split())}")
        if not any(outcome == "failed" for outcome, _, _ in results.values()):
            shutil.rmtree(place, ignore_errors=True)
        return results

    def results(self, report, log, ended):
        return parse(report.read_text(errors="replace"), ended)

    @staticmethod
    def is_broken(code):
        return code != 0


class Kazoo(Suite):
    """kazoo's own tests, which its source package installs beside the client."""

    name, version = "kazoo", "kazoo 2.10.0 (source package)"
    # From its source package; what its tests import is beside it.
    OURS = ["kazoo==2.10.0"]
    BESIDE = ["pytest==8.3.4", "pytest-timeout==2.3.1", "objgraph==3.6.2"]
    # Their handlers are tested too in a large run; in a short one their tests are skipped.
    HANDLERS = ["gevent==24.11.1", "eventlet==0.39.1"]
    # What is short and meets the server all the time: the part of CI.
    SHORT = ["test_barrier", "test_counter", "test_lease", "test_lock", "test_party", "test_queue", "test_watchers"]

    def __init__(self, is_short=False):
        self.is_short = is_short
        self.home = WORK / ("venv-short" if is_short else "venv")
        self.python = self.home / "bin" / "python"

    def install(self):
        beside = self.BESIDE + ([] if self.is_short else self.HANDLERS)

        def make():
            call(sys.executable, "-m", "venv", self.home)
            pip = (self.python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
            call(*pip, *beside)
            call(*pip, "--no-binary", "kazoo", *self.OURS)

        stamped(self.home, repr(self.OURS + beside), make)

    def every_unit(self):
        files = self.home.glob("lib/python*/site-packages/kazoo/tests/test_*.py")
        units = sorted(file.stem for file in files)
        return [unit for unit in units if not self.is_short or unit in self.SHORT]

    def command(self, unit, side, number, place, report, only):
        more = {"PYTHONPATH": str(HERE / "kazoo"), "SUITES_REPORT": str(report), "ZOOKEEPER_VERSION": "3.9.5",
                "ZOOKEEPER_CLUSTER_SIZE": "1", "ZOOKEEPER_PORT_OFFSET": str(19000 + 20 * number),
                "SUITES_LEFT_OUT": json.dumps(plan.left_out(self.name, unit))}
        if only:
            more["SUITES_ONLY"] = json.dumps(only)
        file = next(self.home.glob(f"lib/python*/site-packages/kazoo/tests/{unit}.py"))
        return [self.python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "suites_plugin",
                f"--timeout={SHORT_TEST_S if self.is_short else TEST_S}", "--rootdir", place, file], more

    @staticmethod
    def is_broken(code):
        # 5: every test of the module is left out.
        return code not in (0, 5)


class Java(Suite):
    """Classes of tests from artifacts of Maven."""

    def __init__(self):
        self.jars = WORK / self.name / "jars"
        self.classes = WORK / self.name / "classes"

    def install(self):
        tool("mvn", "maven")
        tool("javac", "openjdk-17-jdk-headless")
        stamped(self.jars, repr(self.ARTIFACTS), self.fetch)
        own = [HERE / "java" / file for file in self.OWN]
        launcher = HERE / "java" / "suites" / "RunClass.java"
        stamped(self.classes, sources(launcher, *own), lambda: self.compile(launcher, own))

    def fetch(self):
        rows = []
        for artifact in self.ARTIFACTS:
            group, name, version, *tests = artifact.split(":")
            kind = "<type>test-jar</type><classifier>tests</classifier>" if tests else ""
            rows.append(f"<dependency><groupId>{group}</groupId><artifactId>{name}</artifactId><version>{version}</version>{kind}</dependency>")
        project = WORK / self.name
        (project / "pom.xml").write_text(
            "<project><modelVersion>4.0.0</modelVersion><groupId>suites</groupId><artifactId>suites</artifactId><version>1</version>"
            f"<packaging>pom</packaging><dependencies>{''.join(rows)}</dependencies></project>\n")
        call("mvn", "-B", "-q", "-f", project / "pom.xml", "dependency:copy-dependencies", f"-DoutputDirectory={self.jars}")

    def compile(self, launcher, own):
        for name in ("common", "ours"):
            (self.classes / name).mkdir()
        (self.classes / "common" / "logback.xml").write_text('<configuration><root level="OFF"/></configuration>\n')
        for name, files in (("common", [launcher]), ("ours", own)):
            call("javac", "-nowarn", "-d", self.classes / name, "-cp", f"{self.jars}/*", *files)

    def every_unit(self):
        units = set()
        for jar in self.jars.glob("*-tests.jar"):
            with zipfile.ZipFile(jar) as archive:
                names = (name.removesuffix(".class").replace("/", ".") for name in archive.namelist() if name.endswith(".class"))
                units.update(name for name in names if "$" not in name and self.TESTS.match(name.rsplit(".", 1)[1]))
        return sorted(units)

    def command(self, unit, side, number, place, report, only):
        # Our classes are absent on Apache's side: there the suite starts Apache's server as it always does.
        path = ([] if side.is_apache else [self.classes / "ours"]) + [self.classes / "common", f"{self.jars}/*"]
        tests = ["--only", *sorted({test.split("[")[0] for test in only})] if only else plan.left_out(self.name, self.short(unit))
        return ["java", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", f"-Djava.io.tmpdir={place}",
                f"-Dsuites.timeout={TEST_S}", *self.flags(side, number, place), "-cp", ":".join(map(str, path)), "suites.RunClass", report,
                unit, *tests], {}

    def flags(self, side, number, place):
        return []


class ZooKeeper(Java):
    """ZooKeeper's own Java tests; our class stands in for their base class."""

    name, version = "zookeeper", "zookeeper 3.9.5, artifact tests"
    OWN = ["suites/OurServer.java", "suites/OurFactory.java", "org/apache/zookeeper/test/ClientBase.java"]
    TESTS = re.compile(r"\w+Test$")
    ARTIFACTS = ["org.apache.zookeeper:zookeeper:3.9.5", "org.apache.zookeeper:zookeeper:3.9.5:tests",
                 "org.junit.jupiter:junit-jupiter:5.6.2", "org.junit.platform:junit-platform-launcher:1.6.2",
                 "org.mockito:mockito-core:4.9.0", "org.hamcrest:hamcrest-library:2.2", "org.apache.commons:commons-collections4:4.4",
                 "io.dropwizard.metrics:metrics-core:4.1.12.1", "org.xerial.snappy:snappy-java:1.1.10.5",
                 "commons-cli:commons-cli:1.5.0", "org.jline:jline:3.25.1", "ch.qos.logback:logback-classic:1.3.15"]

    def short(self, unit):
        return unit.removeprefix("org.apache.zookeeper.")

    def flags(self, side, number, place):
        # What a test starts without that base class goes by a factory.
        ours = [] if side.is_apache else ["-Dzookeeper.serverCnxnFactory=suites.OurFactory"]
        # The others are as ZooKeeper's build gives them.
        return [*ours, f"-Dbuild.test.dir={place}", f"-Dtest.junit.threads={PLACES}", f"-Dzookeeper.junit.threadid={number + 1}",
                "-Dzookeeper.DigestAuthenticationProvider.superDigest=super:D/InIHSb7yEEbrWz8b9l71RjZJU="]


class Curator(Java):
    """The tests of Curator's client, framework and recipes; our class stands in for its TestingServer."""

    name, version = "curator", "curator 5.9.0, artifacts tests of client, framework and recipes"
    OWN = ["suites/OurServer.java", "org/apache/curator/test/TestingServer.java"]
    TESTS = re.compile(r"Test\w+$|BasicTests$")
    ARTIFACTS = ["org.apache.zookeeper:zookeeper:3.9.5", "org.apache.curator:curator-recipes:5.9.0",
                 "org.apache.curator:curator-recipes:5.9.0:tests", "org.apache.curator:curator-framework:5.9.0:tests",
                 "org.apache.curator:curator-client:5.9.0:tests", "org.apache.curator:curator-test:5.9.0",
                 "org.junit.jupiter:junit-jupiter:5.6.2", "org.junit.platform:junit-platform-launcher:1.6.2",
                 "org.assertj:assertj-core:3.23.1", "org.awaitility:awaitility:4.1.1", "org.apache.commons:commons-math:2.2",
                 "com.fasterxml.jackson.core:jackson-databind:2.18.1", "com.fasterxml.jackson.dataformat:jackson-dataformat-yaml:2.18.1",
                 "io.dropwizard.metrics:metrics-core:4.1.12.1", "org.xerial.snappy:snappy-java:1.1.10.5",
                 "ch.qos.logback:logback-classic:1.3.15"]

    def short(self, unit):
        return unit.rsplit(".", 1)[1]


class Rust(Suite):
    """The tests of the crate zookeeper-client, which start containers: ours start processes."""

    name, version = "zookeeper-client", "zookeeper-client 0.11.2 (crate)"
    CRATE = "0.11.2"
    HOME = WORK / "zookeeper-client"

    def install(self):
        tool("cargo", "rustup")
        stub = HERE / "rust"
        stamped(self.HOME, self.CRATE + sources(stub / "Cargo.toml", stub / "src" / "lib.rs"), self.fetch)

    def fetch(self):
        # Cargo is asked for the crate by a project that depends on it; its source is then in the registry's cache.
        asking = self.HOME / "asking"
        (asking / "src").mkdir(parents=True)
        (asking / "src" / "lib.rs").write_text("")
        (asking / "Cargo.toml").write_text('[package]\nname = "asking"\nversion = "0.1.0"\nedition = "2021"\n\n'
                                           f'[dependencies]\nzookeeper-client = "={self.CRATE}"\n\n[workspace]\n')
        manifest = ("--manifest-path", asking / "Cargo.toml")
        said = call("cargo", "metadata", "--format-version", "1", *manifest, cwd=asking)
        known = json.loads(next(line for line in said.splitlines() if line.startswith("{")))
        package = next(package for package in known["packages"] if package["name"] == "zookeeper-client")
        crate = self.HOME / "crate"
        shutil.copytree(pathlib.Path(package["manifest_path"]).parent, crate)
        shutil.copytree(HERE / "rust", crate / "testcontainers")
        manifest = crate / "Cargo.toml"
        # The published manifest lacks the dependency, which is no registry's; and this is no member of ours.
        manifest.write_text(manifest.read_text().replace('lto = "thin"', "")
                            + '\n[dev-dependencies.testcontainers]\npath = "testcontainers"\n\n[workspace]\n')
        built = call("cargo", "test", "--no-run", "--message-format", "json", "--manifest-path", manifest, "--target-dir",
                     self.HOME / "target", cwd=crate)
        (self.HOME / "binary").write_text(self.executable(built))

    @staticmethod
    def executable(messages):
        for line in messages.splitlines():
            message = json.loads(line) if line.startswith("{") else {}
            if message.get("executable") and message["target"]["name"] == "zookeeper":
                return message["executable"]
        raise Missing("cargo built no test of the name zookeeper")

    def every_unit(self):
        return ["zookeeper"]

    def command(self, unit, side, number, place, report, only):
        binary = (self.HOME / "binary").read_text()
        listed = call(binary, "--list", "--format", "terse")
        names = [line.removesuffix(": test") for line in listed.splitlines() if line.endswith(": test")]
        names = [name for name in names if plan.verdict(self.name, unit, name) == plan.RUNS and (not only or name in only)]
        # One after the other: each starts a server, and what a test says is its own.
        return [sys.executable, HERE / "rust_tests.py", report, binary, str(TEST_S), *names], {}


SUITES = {suite.name: suite for suite in (Kazoo, Rust, ZooKeeper, Curator)}
