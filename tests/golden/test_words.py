"""Four-letter words: whole answers, with only times, ports, paths and sizes left open. Several clients, so that with
shards each word is about more than one core."""

import re
import socket
import struct
import time

import pytest

import harness
from harness import IS_APACHE, PATIENCE_S, client, events_of, zk

NUMBER = r"-?\d+"
DECIMAL = r"\d+\.\d+(?:E-?\d+)?"
VERSION = r"3\.9\.5-[0-9a-f]{40}, built on \d{4}-\d\d-\d\d \d\d:\d\d UTC"
PEER = r"/127\.0\.0\.1:\d+"
MOMENT = r"\w{3} \w{3} \d\d \d\d:\d\d:\d\d \S+ \d{4}"
WORDS = "conf cons crst dirs dump envi gtmk hash isro mntr ruok srst srvr stat stmk wchc wchp wchs".split()
INTERRUPT = b"\xff\xf4\xff\xfd"
REFUSED = " is not executed because it is not in the whitelist.\n"
# Keys of mntr that tools read (docs/protocol.md §8.2), and those of the latencies that Apache's server has too.
INTEGERS = ("min_latency max_latency packets_received packets_sent num_alive_connections outstanding_requests znode_count watch_count "
            "ephemerals_count approximate_data_size open_file_descriptor_count max_file_descriptor_count global_sessions "
            "local_sessions uptime auth_failed_count outstanding_tls_handshake non_mtls_remote_conn_count non_mtls_local_conn_count "
            "commit_count stale_sessions_expired").split()
DECIMALS = ["avg_latency", "connection_drop_probability"]
SUMMARIES = {"fsynctime": "avg min max cnt sum", "readlatency": "avg min max cnt sum p50 p95 p99 p999",
             "updatelatency": "avg min max cnt sum p50 p95 p99 p999"}


def said(server, *parts):
    """All that comes back until the end; several parts come one after the other."""
    with socket.create_connection(("127.0.0.1", server.port), PATIENCE_S) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        answer = b""
        try:
            for n, part in enumerate(parts):
                if n:
                    time.sleep(0.05)
                sock.sendall(part)
            while more := sock.recv(65536):
                answer += more
        except (ConnectionResetError, BrokenPipeError):
            # The end of one who does not read what follows a word.
            pass
        return answer


def word(server, name):
    return said(server, name.encode()).decode()


def matches(pattern, text):
    found = re.fullmatch(pattern, text)
    assert found, text
    return found


@pytest.fixture
def three(fresh):
    clients = [client(fresh) for _ in range(3)]
    yield fresh, clients
    for one in clients:
        one.close()


def counted(server, clients):
    """All counters at zero, then three requests of each client: none is under way."""
    assert word(server, "crst") == "Connection stats reset.\n"
    assert word(server, "srst") == "Server stats reset.\n"
    for one in clients:
        for _ in range(3):
            assert one.call(zk.EXISTS, zk.path_body("/"))[1] == 0


def test_words_that_are_constant(server):
    assert word(server, "ruok") == "imok"
    assert word(server, "isro") == "rw"
    assert word(server, "gtmk") == "306"
    assert word(server, "srst") == "Server stats reset.\n"
    assert word(server, "crst") == "Connection stats reset.\n"
    matches(r"datadir_size: \d+\nlogdir_size: \d+\n", word(server, "dirs"))


def test_the_trace_mask(server):
    for mask in (-5, 0, (1 << 63) - 1, 306):
        assert said(server, b"stmk" + struct.pack(">q", mask)) == str(mask).encode()
        assert word(server, "gtmk") == str(mask)


def test_conf(server):
    expected = rf"""clientPort={server.port}
secureClientPort=-1
dataDir=\S+
dataDirSize=\d+
dataLogDir=\S+
dataLogSize=\d+
tickTime=500
maxClientCnxns=0
minSessionTimeout=500
maxSessionTimeout=60000
clientPortListenBacklog=-1
serverId=0
"""
    matches(expected, word(server, "conf"))


def test_envi(server):
    lines = word(server, "envi").split("\n")
    assert lines[0] == "Environment:" and lines[-1] == ""
    keys = [line.split("=", 1)[0] for line in lines[1:-1]]
    assert keys == ("zookeeper.version host.name java.version java.vendor java.home java.class.path java.library.path java.io.tmpdir "
                    "java.compiler os.name os.arch os.version user.name user.home user.dir os.memory.free os.memory.max "
                    "os.memory.total").split()
    values = dict(line.split("=", 1) for line in lines[1:-1])
    matches(VERSION, values["zookeeper.version"])
    assert values["os.name"] == "Linux"
    for key in ("free", "max", "total"):
        matches(r"\d+MB", values[f"os.memory.{key}"])


FIGURES = rf"""Latency min/avg/max: \d+/{DECIMAL}/\d+
Received: 10
Sent: 10
Connections: 4
Outstanding: 0
Zxid: 0x3
Mode: standalone
Node count: 5
"""


def test_srvr(three):
    server, clients = three
    counted(server, clients)
    matches(f"Zookeeper version: {VERSION}\n{FIGURES}", word(server, "srvr"))


def test_stat(three):
    server, clients = three
    counted(server, clients)
    text = word(server, "stat")
    head, lines, figures = matches(f"(Zookeeper version: {VERSION}\nClients:\n)((?: .*\n)*)\n({FIGURES})", text).groups()
    ports = [one.sock.getsockname()[1] for one in clients]
    due = [f" /127.0.0.1:{port}[1](queued=0,recved=3,sent=3)" for port in ports]
    *others, own = sorted(lines.splitlines(), key=lambda line: "[0]" in line)
    assert sorted(others) == sorted(due)
    matches(rf" {PEER}\[0\]\(queued=0,recved=1,sent=0\)", own)


def cons(server):
    """The line of each port, and that of the one who asks."""
    for _ in range(40):
        text = word(server, "cons")
        # A client of Apache's server has its answer before the server is through with the request.
        if text.count("[1](queued=0,") == text.count("](") - 1:
            break
        time.sleep(0.05)
    assert text.endswith(")\n\n"), text
    lines = {int(re.match(r" /127\.0\.0\.1:(\d+)\[", line)[1]): line for line in text[:-2].split("\n")}
    own = [port for port, line in lines.items() if "[0]" in line]
    assert len(own) == 1, text
    matches(rf" {PEER}\[0\]\(queued=0,recved=1,sent=0\)", lines.pop(own[0]))
    return lines


def test_cons(three):
    server, clients = three
    one = clients[0]
    port = one.sock.getsockname()[1]
    latencies = r"lresp=\d+,llat=\d+,minlat=\d+,avglat=\d+,maxlat=\d+\)"
    head = rf" /127\.0\.0\.1:{port}\[1\]\(queued=0,"
    identity = rf"sid={one.session:#x},lop=%s,est=\d{{13}},to=30000,"
    # Without a request there is no xid; the ConnectResponse counts as a packet in both directions.
    matches(head + "recved=1,sent=1," + identity % "SESS" + rf"lcxid=0x0,lzxid=0x1,{latencies}", cons(server)[port])
    steps = [(zk.EXISTS, zk.path_body("/"), "EXIS", 0), (zk.CREATE, zk.create_body("/a", b""), "CREA", 0),
             (zk.GET, zk.path_body("/a"), "GETD", 0), (zk.SET, zk.set_body("/a", b"x"), "SETD", 0),
             (zk.CREATE, zk.create_body("/a", b""), "NA", -110), (zk.GET_ACL, zk.text("/a"), "GETA", 0),
             (zk.SET_ACL, zk.text("/a") + zk.OPEN_ACL + struct.pack(">i", -1), "SETA", 0),
             (zk.CHILDREN, zk.path_body("/"), "GETC", 0), (zk.CHILDREN2, zk.path_body("/"), "GETC", 0),
             (zk.SYNC, zk.text("/a"), "SYNC", 0), (zk.MULTI, zk.multi_body([]), "MULT", 0),
             (zk.MULTI_READ, zk.multi_body([]), "MLTR", 0), (zk.CREATE2, zk.create_body("/b", b""), "CREA", 0),
             (zk.CREATE_CONTAINER, zk.create_body("/c", b"", 4), "CREA", 0), (zk.ADD_WATCH, zk.watch_body("/q", 0), "ADDW", 0),
             (zk.CHECK_WATCHES, zk.watch_body("/q", 3), "CHKW", 0), (zk.REMOVE_WATCHES, zk.watch_body("/q", 3), "REMW", 0),
             (zk.SET_WATCHES, struct.pack(">qiii", 0, 0, 0, 0), "SETW", 0),
             (zk.SET_WATCHES2, struct.pack(">qiiiii", 0, 0, 0, 0, 0, 0), "STW2", 0), (103, zk.text("/"), "GETE", 0),
             (104, zk.text("/"), "GETACN", 0), (107, b"", "HOMI", 0), (zk.GET, zk.path_body("/none"), "GETD", -101),
             # What can't be parsed: a write is a failed one, a read keeps its name.
             (zk.SET, b"", "NA", -5), (zk.GET, b"", "GETD", -5), (zk.SET_ACL, b"", "NA", -5), (zk.SYNC, b"", "SYNC", -5),
             (zk.DELETE, zk.delete_body("/b"), "DELE", 0)]
    packets, events = 1, 0
    for op, body, name, err in steps:
        zxid, found, _ = one.call(op, body)
        assert found == err, (op, found)
        packets += 1
        text = cons(server)[port]
        matches(head + f"recved={packets},sent={packets + events}," + identity % name +
                rf"lcxid={one.xid:#x},lzxid={zxid:#x},{latencies}", text)
    # A ping has no xid that counts.
    one.ping()
    matches(head + rf"recved={packets + 1},sent={packets + 1}," + identity % "PING" + rf"lcxid={one.xid:#x},lzxid=0x[0-9a-f]+,{latencies}",
            cons(server)[port])
    assert word(server, "crst") == "Connection stats reset.\n"
    matches(head + "recved=0,sent=0," + identity % "NA" +
            r"lzxid=0xffffffffffffffff,lresp=0,llat=0,minlat=0,avglat=0,maxlat=0\)", cons(server)[port])


def test_cons_of_a_session_that_has_come_back(three):
    server, (one, *_) = three
    other = client(server, session=one.session, password=one.password)
    port = other.sock.getsockname()[1]
    head = rf" /127\.0\.0\.1:{port}\[1\]\(queued=0,"
    identity = rf"sid={one.session:#x},lop=%s,est=\d{{13}},to=30000,"
    # Only its connect response was sent, for which no request went through the order.
    none = r"lresp=0,llat=0,minlat=0,avglat=0,maxlat=0\)"
    matches(head + "recved=1,sent=1," + identity % "null" + "lcxid=0x0,lzxid=0x0," + none, cons(server)[port])
    zxid = other.ping()[1]
    latencies = r"lresp=\d+,llat=\d+,minlat=\d+,avglat=\d+,maxlat=\d+\)"
    matches(head + "recved=2,sent=2," + identity % "PING" + rf"lcxid=0x0,lzxid={zxid:#x},{latencies}", cons(server)[port])
    other.close()


def blocks(text):
    """`head` lines and the lines behind a tab below each, in any order; the last line is empty."""
    assert text.endswith("\n\n") or text == "\n", text
    found = {}
    for line in text[:-1].splitlines():
        if line.startswith("\t"):
            found[last].append(line[1:])
        else:
            last = line
            assert last not in found, text
            found[last] = []
    return {head: sorted(below) for head, below in found.items()}


def test_words_about_watches(three):
    server, (one, other, third) = three
    assert [word(server, name) for name in ("wchs", "wchc", "wchp")] == [
        "0 connections watching 0 paths\nTotal watches:0\n", "\n", "\n"]
    assert one.call(zk.CREATE, zk.create_body("/e", b""))[1] == 0
    for who, op, path in ((one, zk.GET, "/e"), (one, zk.EXISTS, "/n"), (other, zk.EXISTS, "/e"), (third, zk.CHILDREN, "/")):
        who.call(op, zk.path_body(path, watch=True))
    assert third.call(zk.ADD_WATCH, zk.watch_body("/r", 1))[1] == 0
    assert third.call(zk.ADD_WATCH, zk.watch_body("/e", 0))[1] == 0
    # The child watch on the root is in the other table.
    sids = [f"{who.session:#x}" for who in (one, other, third)]
    assert word(server, "wchs") == "3 connections watching 3 paths\nTotal watches:5\n"
    assert blocks(word(server, "wchc")) == {sids[0]: ["/e", "/n"], sids[1]: ["/e"], sids[2]: ["/e", "/r"]}
    assert blocks(word(server, "wchp")) == {"/e": sorted(sids), "/n": [sids[0]], "/r": [sids[2]]}
    mntr = figures(server)
    assert mntr["watch_count"] == "7", "both tables: the child watch, and the child half of the persistent one"
    assert one.call(zk.REMOVE_WATCHES, zk.watch_body("/n", 3))[1] == 0
    assert word(server, "wchs") == "3 connections watching 2 paths\nTotal watches:4\n"


def test_dump(three):
    server, (one, other, third) = three
    for who, name in ((one, "/e1"), (one, "/e2"), (other, "/f")):
        assert who.call(zk.CREATE, zk.create_body(name, b"", flags=1))[1] == 0
    for who in (one, other, third):
        who.ping()
    text = word(server, "dump")
    sets = rf"Sets \((\d+)\)/\((\d+)\):\n((?:\d+ expire at {MOMENT}:\n(?:\t.*\n)*)+)"
    found = matches(rf"SessionTracker dump:\nSession {sets}ephemeral nodes dump:\nSessions with Ephemerals \(2\):\n"
                    rf"((?:0x[0-9a-f]+:\n(?:\t/\w+\n)+)+)Connections dump:\nConnections {sets}", text).groups()
    sids = [f"{who.session:#x}" for who in (one, other, third)]
    for buckets, count, listed in (found[:3], found[4:]):
        # Apache's server keeps a bucket for a while when its members have moved on.
        heads = re.findall(r"^(\d+) expire", listed, re.M)
        assert len(heads) == int(buckets) and sum(map(int, heads)) == int(count) == listed.count("\t")
        sizes = [len(part.splitlines()) - 1 for part in re.split(r"(?m)^(?=\d+ expire)", listed) if part]
        assert sizes == list(map(int, heads)), listed
    assert sorted(re.findall(r"^\t(.*)$", found[2], re.M)) == sorted(sids)
    assert blocks(found[3].replace(":\n", "\n") + "\n") == {sids[0]: ["/e1", "/e2"], sids[1]: ["/f"]}
    ports = [who.sock.getsockname()[1] for who in (one, other, third)]
    lines = re.findall(r"^\t(.*)$", found[6], re.M)
    due = [f"ip: /127.0.0.1:{port} sessionId: {sid}" for port, sid in zip(ports, sids)]
    asking = [line for line in lines if line not in due]
    assert len(asking) == 1 and sorted(due + asking) == sorted(lines)
    matches(rf"ip: {PEER} sessionId: 0x0", asking[0])


def test_hash(fresh):
    assert word(fresh, "hash") == ""
    one = client(fresh)
    assert one.call(zk.CREATE, zk.create_body("/x", b""))[1] == 0
    for n in range(260):
        one.ask(zk.SET, zk.set_body("/x", b"%d" % n))
    for _ in range(260):
        assert one.reply()[2] == 0
    matches(rf"80: {NUMBER}\n100: {NUMBER}\n", word(fresh, "hash"))


def figures(server):
    return dict(line.split("\t") for line in word(server, "mntr").removeprefix("zk_").rstrip("\n").split("\nzk_"))


def test_mntr(three):
    server, clients = three
    counted(server, clients)
    assert clients[0].call(zk.CREATE, zk.create_body("/e", b"12345", flags=1))[1] == 0
    assert clients[0].call(zk.EXISTS, zk.path_body("/e", watch=True))[1] == 0
    text = word(server, "mntr")
    matches(rf"(?:zk_\S+\t[^\t\n]*\n)+", text)
    assert re.match(rf"zk_version\t{VERSION}\nzk_server_state\tstandalone\n", text), text[:200]
    keys = re.findall(r"^zk_(\S+)\t", text, re.M)
    assert len(keys) == len(set(keys)), "no key comes twice"
    mntr = figures(server)
    # Exporters hand all of them on, and who reads what they give refuses all of it for one that is no number.
    assert [name for name, value in mntr.items() if not re.fullmatch(rf"{NUMBER}|{DECIMAL}", value)] == ["version", "server_state"]
    for name in INTEGERS + [f"{what}_{name}" for name, all_of in SUMMARIES.items() for what in all_of.split() if what != "avg"]:
        matches(NUMBER, mntr.get(name, f"{name} is missing"))
    for name in DECIMALS + [f"avg_{name}" for name in SUMMARIES]:
        matches(DECIMAL, mntr.get(name, f"{name} is missing"))
    due = {"znode_count": "6", "ephemerals_count": "1", "watch_count": "1", "num_alive_connections": "4", "outstanding_requests": "0",
           "global_sessions": "3", "local_sessions": "0", "auth_failed_count": "0"}
    assert {name: mntr[name] for name in due} == due
    # The names of the fresh nodes, and what was made; the root has two, one of them empty.
    assert int(mntr["approximate_data_size"]) == len("/" "/zookeeper" "/zookeeper/quota" "/zookeeper/config" "/e" "12345"), mntr
    # Three of each client and two, and this word twice; srst is received before it resets and answered behind that. An answer
    # counts once for each 8,192 characters.
    assert (int(mntr["packets_received"]), int(mntr["packets_sent"])) == (13, 11 + 1 + -(-len(text) // 8192))


def test_the_size_of_the_data_counts_characters_of_paths(three):
    server, (one, *_) = three
    before = int(figures(server)["approximate_data_size"])
    for op, body, size in ((zk.CREATE, zk.create_body("/\u00e9\u20ac", b"12345"), 8), (zk.SET, zk.set_body("/\u00e9\u20ac", b"1"), 4),
                           (zk.DELETE, zk.delete_body("/\u00e9\u20ac"), 0)):
        assert one.call(op, body)[1] == 0
        assert int(figures(server)["approximate_data_size"]) - before == size, op


def test_a_word_is_four_bytes_and_nothing_else(server):
    for behind in (b"\n", b"\r\n", b" ", b"isro", b"\0" * 64, b"x" * 5000):
        assert said(server, b"ruok" + behind) in ((b"imok",) if len(behind) < 3 else (b"imok", b"")), behind
    # In two parts, and byte by byte.
    assert said(server, b"ru", b"ok") == b"imok"
    assert said(server, *(bytes([byte]) for byte in b"isro")) == b"rw"
    for name in (b"zzzz", b"lead", b"RUOK", b"ruoK", b"quit", b"tele", b" ruo", b"kill", b"reqs"):
        assert said(server, name) == b"", name
    assert said(server, INTERRUPT) == b"", "with all words allowed telnet's interrupt is silent"


def test_a_word_is_answered_to_who_has_ended_its_own_direction(server):
    """So `zkServer.sh status` asks: Apache's program sends srvr, ends its direction and reads to the end, and the script
    shows the line with `Mode`."""
    for name, answer in (("srvr", None), ("ruok", "imok"), ("isro", "rw")):
        with socket.create_connection(("127.0.0.1", server.port), PATIENCE_S) as sock:
            sock.sendall(name.encode())
            sock.shutdown(socket.SHUT_WR)
            text = b""
            while more := sock.recv(65536):
                text += more
        if answer:
            assert text.decode() == answer
        else:
            assert [line for line in text.decode().splitlines() if "Mode" in line] == ["Mode: standalone"], text


def test_a_word_of_a_session_is_the_length_of_a_frame(server):
    for name in (b"ruok", b"mntr", INTERRUPT):
        one = client(server)
        one.sock.sendall(name)
        assert harness.is_closed(one)
        one.close()


def test_many_ask_at_once(three):
    server, clients = three
    counted(server, clients)
    socks = [socket.create_connection(("127.0.0.1", server.port), PATIENCE_S) for _ in range(60)]
    for n, sock in enumerate(socks):
        sock.sendall(WORDS[n % len(WORDS)].encode() + (bytes(8) if WORDS[n % len(WORDS)] == "stmk" else b""))
    for n, sock in enumerate(socks):
        answer = b""
        while more := sock.recv(65536):
            answer += more
        assert answer or WORDS[n % len(WORDS)] == "hash", WORDS[n % len(WORDS)]
        sock.close()
    assert said(server, b"stmk" + struct.pack(">q", 306)) == b"306"


def test_the_default_allows_srvr_alone():
    with harness.serving(**{"4lw.commands.whitelist": ""}) as server:
        for name in WORDS:
            if name == "srvr":
                assert "Mode: standalone\n" in word(server, name)
            else:
                assert word(server, name) == name + REFUSED
        assert said(server, INTERRUPT).decode() == "telnet close" + REFUSED
        assert said(server, b"stmk" + bytes(8)) in (("stmk" + REFUSED).encode(), b"")
        for name in ("zzzz", "lead", "srv "):
            assert word(server, name) == ""


def test_a_whitelist_names_words_with_blanks_and_isro_goes_with_read_only_mode():
    options = {"4lw.commands.whitelist": " ruok ,mntr,, telnet close"}
    with harness.serving(**options) as server:
        assert word(server, "ruok") == "imok"
        assert word(server, "mntr").startswith("zk_version\t")
        assert word(server, "isro") == "isro" + REFUSED
        assert said(server, INTERRUPT) == b""
    if IS_APACHE:
        # A property of the JVM and no key of the file (docs/protocol.md §9).
        return
    with harness.serving(**options, **{"readonlymode.enabled": "true"}) as server:
        assert word(server, "isro") == "rw"
        assert word(server, "stat") == "stat" + REFUSED


def test_words_do_not_count_as_sessions(three):
    server, clients = three
    for name in WORDS:
        said(server, name.encode(), *([struct.pack(">q", 306)] if name == "stmk" and not IS_APACHE else []))
    assert figures(server)["global_sessions"] == "3"
    assert all(events_of(one) == [] for one in clients)
