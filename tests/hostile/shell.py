"""What surrounds the protocol: the terminal, descriptors, address families."""

import os
import pathlib
import resource
import signal
import socket
import struct
import subprocess
import time

from harness import Place, PATIENCE_S, alive, check, client, end, holds, wait_until, zk

import server as lib

# Bytes; 8 of them fill the smallest segment, so that several rolls need new files.
WRITE = 900_000
WRITES = 30
TIMEOUT_MS = 3000
SYSTEM_ERROR = -1
EPHEMERALS = 20_000
# Bytes of an ephemeral's name: the list of all is longer than the kernel takes for one who does not read.
NAME = 260
# Lists that nobody reads.
UNREAD = 60
# Bytes of lists that may wait to be read, UNSENT_MAX in src/server/lists.rs.
UNSENT_MAX = 32 << 20
# Ephemerals whose paths have so many bytes; together they are more than LIST_MAX in src/server/lists.rs.
LONG_PATHS, LONG_PATH = 300, 990_000
# Looks at the server's memory meanwhile, and seconds between two.
LOOKS, LOOK_S = 40, 0.05


def limit(server, files):
    """Changes the open-files limit of the running server."""
    hard = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)[1]
    resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (min(files, hard), hard))


@holds("shell")
def a_line_that_nobody_can_read_ends_nothing(place: Place):
    """stderr is a pipe whose reader has gone, then a full disk; making a snapshot writes a line."""
    for full in (False, True):
        with place.server(snapCount=100) as server:
            server.stop()
            reader, writer = os.pipe()
            target = open("/dev/full", "wb") if full else os.fdopen(writer, "wb")
            with target:
                command = [lib.BINARY, str(server.root / "zoo.cfg")]
                server.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=target, stderr=target)
            server.wait_until_serving()
            os.close(reader)
            one = client(server)
            for n in range(300):
                check(one.call(zk.CREATE, zk.create_body(f"/n{n}", b""))[1] == 0, "a write is served")
            kept = server.data / "ringkeeper-1"
            wait_until(lambda: any(kept.glob("snap.*")), lambda: f"no snapshot; {server.ended()}")
            alive(server)
            server.process.send_signal(signal.SIGTERM)
            check(server.process.wait(PATIENCE_S) == 0, "the server stops in order")


@holds("shell")
def clients_leave_the_log_its_descriptors_with_many_shards(place: Place):
    with place.server(shards=8 * place.shards, open_files=1024, preAllocSize=4260, snapCount=10_000_000) as server:
        one = client(server)
        check(one.call(zk.CREATE, zk.create_body("/a", b""))[1] == 0, "a node is made")
        crowd = []
        for _ in range(1100):
            crowd.append(socket.create_connection(("127.0.0.1", server.port)))
        wait_until(lambda: server.descriptors() > 800, "the crowd is not accepted")
        for _ in range(WRITES):
            check(one.call(zk.SET, zk.set_body("/a", bytes(WRITE)))[1] == 0, "a write is served")
        for sock in crowd:
            sock.close()
        alive(server)


@holds("shell")
def a_segment_that_finds_no_descriptor_left_is_made_when_there_is_one(place: Place):
    """Writes that need it are refused meanwhile; nothing else is, and the operator reads of it once."""
    with place.server(preAllocSize=4260, snapCount=10_000_000) as server:
        one = client(server)
        check(one.call(zk.CREATE, zk.create_body("/a", b""))[1] == 0, "a node is made")
        other = client(server)
        wait_until(lambda: server.spares() == 2, "no segments are made ahead")
        limit(server, 5)
        errors = [one.call(zk.SET, zk.set_body("/a", bytes(WRITE)))[1] for _ in range(WRITES)]
        check(errors[0] == 0 and errors[-1] == SYSTEM_ERROR, f"growing writes are refused in the end: {errors}")
        other.ping()
        check(other.call(zk.GET, zk.path_body("/a"))[1] == 0, "reads are served meanwhile")
        # A second attempt at least, so that more than one could be spoken of.
        time.sleep(2)
        check(server.ended() is None, server.ended())
        limit(server, 1 << 20)
        wait_until(lambda: one.call(zk.SET, zk.set_body("/a", bytes(WRITE)))[1] == 0,
                   "writes are refused although descriptors are left")
        alive(server)
        said = server.log.read_text().count("no room for a segment")
        check(said == 1, f"the shortage is spoken of {said} times")
        check(server.figures()["background_shortages"] > 1, "the attempts are counted")


@holds("shell")
def lists_that_nobody_reads_are_bounded_in_bytes(place: Place):
    kernel = int(pathlib.Path("/proc/sys/net/ipv4/tcp_wmem").read_text().split()[2])
    with place.server() as server:
        owner = client(server)
        for batch in range(EPHEMERALS // 1000):
            names = (f"/{batch * 1000 + n:0{NAME}}" for n in range(1000))
            body = zk.multi_body([(zk.CREATE, zk.create_body(name, b"", flags=1)) for name in names])
            owner.call(zk.MULTI, body)
        text = len(lib.four_letter(server.port, "dump"))
        check(text > max(EPHEMERALS * NAME, kernel), f"all ephemerals are listed, more than the kernel takes: {text} bytes")
        before, most = server.memory(), 0
        # The texts that wait, and what one is made from: a list of each core, and a text that is put together from two others.
        bound = UNSENT_MAX + text * (6 + 2 * max(1, place.shards))
        check(bound < UNREAD // 3 * text, "the bound is far below what is asked for")
        crowd = []
        for _ in range(UNREAD):
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.connect(("127.0.0.1", server.port))
            sock.sendall(b"dump")
            crowd.append(sock)
        for _ in range(LOOKS):
            most = max(most, server.memory())
            check(most - before < bound, f"unread lists hold {(most - before) >> 20} MiB, {bound >> 20} are allowed")
            owner.ping()
            time.sleep(LOOK_S)
        check(most - before > UNSENT_MAX // 2, "many lists wait to be read")
        for sock in crowd:
            sock.close()
        wait_until(lambda: len(lib.four_letter(server.port, "dump")) == text, "no list is answered afterwards")
        alive(server)
        return f"{UNREAD} lists of {text} bytes unread: {(most - before) >> 20} MiB, {bound >> 20} are allowed"


@holds("shell")
def a_list_of_long_paths_holds_up_nobody(place: Place):
    """Of ephemerals whose paths are as long as a frame; a path is not copied where clients are served."""
    most = 64 << 20
    with place.server(preAllocSize=65536, snapCount=10_000_000) as server:
        owner = client(server)
        for n in range(LONG_PATHS):
            body = zk.create_body(f"/{n:04}" + "x" * LONG_PATH, b"", flags=1)
            check(owner.call(zk.CREATE, body)[1] == 0, "an ephemeral is made")
        before = server.memory("VmHWM")
        answer = lib.four_letter(server.port, "dump", PATIENCE_S)
        check(not answer, f"a list of {len(answer) >> 20} MiB is answered")
        grown = server.memory("VmHWM") - before
        check(grown < most, f"a list that is too long takes {grown >> 20} MiB")
        owner.call(zk.DELETE, zk.delete_body("/0000" + "x" * LONG_PATH))
        end(owner)
        wait_until(lambda: "(0)" in lib.four_letter(server.port, "dump"), "no list is answered afterwards")
        alive(server)
        return f"a list of {LONG_PATHS * LONG_PATH >> 20} MiB: {grown >> 20} MiB more"


@holds("shell")
def nobody_expires_who_is_not_accepted_for_want_of_descriptors(place: Place):
    with place.server() as server:
        owner = client(server, timeout=TIMEOUT_MS)
        server.restart()
        limit(server, 5)
        with socket.create_connection(("127.0.0.1", server.port)) as back:
            payload = zk.Raw.connect_payload(timeout=TIMEOUT_MS, session=owner.session, password=owner.password)
            back.sendall(struct.pack(">i", len(payload)) + payload)
            time.sleep(3 * TIMEOUT_MS / 1000)
            limit(server, 1 << 20)
            back.settimeout(PATIENCE_S)
            answer = back.recv(4096)
        check(len(answer) > 12 and struct.unpack_from(">i", answer, 8)[0] > 0,
              "a session expired although its client's handshake waited to be accepted")
        alive(server)


@holds("shell")
def every_interface_and_both_families_are_listened_on(place: Place):
    for address in ("0.0.0.0", "::"):
        with place.server(clientPortAddress=address) as server:
            socket.create_connection(("::1", server.port)).close()
            one = client(server)
            shown = lib.four_letter(server.port, "cons")
            shown_as_one = any(line.startswith(" /127.0.0.1:") and "sid=" in line for line in shown.splitlines())
            check(shown_as_one, f"an IPv4 client is shown as one: {shown}")
            end(one)
