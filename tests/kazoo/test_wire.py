"""What can only be seen on the wire, by a client whose every byte is ours."""

import re
import struct

import pytest
import rawzk as zk
from server import four_letter

PATIENCE = 30


@pytest.fixture
def raw(server):
    made = []

    def make(**options):
        client = zk.Raw(server.port)
        if options is not None:
            client.connect(**options)
        made.append(client)
        return client

    yield make
    for client in made:
        client.close()


@pytest.fixture
def path(request):
    return "/wire-" + request.node.name.replace("[", "-").replace("]", "")


def closed(client):
    with pytest.raises(zk.Closed):
        client.read_frame()
    return True


def test_handshake_mirrors_the_read_only_byte(server, raw):
    for byte, length in ((True, 37), (False, 36)):
        client = zk.Raw(server.port)
        assert len(client.connect(read_only_byte=byte)) == length
        client.close()


def test_timeouts_are_clamped(raw):
    assert raw(timeout=1).timeout == 500
    assert raw(timeout=10_000_000).timeout == 60000
    assert raw(timeout=-5).timeout == 500


def test_wrong_password_and_unknown_session_are_dead_and_disturb_nobody(server, raw, path):
    alive = raw()
    for session, password in ((alive.session, bytes(16)), (alive.session + 77, alive.password)):
        client = zk.Raw(server.port)
        frame = client.connect(session=session, password=password)
        assert frame == struct.pack(">iiqi", 0, 0, 0, 16) + bytes(17)
        assert closed(client)
    assert alive.call(zk.CREATE, zk.create_body(path, b""))[1] == 0


def test_a_client_from_the_future_is_closed_without_reply(server):
    client = zk.Raw(server.port)
    client.send_frame(client.connect_payload(seen=1 << 40))
    assert closed(client)


def test_requests_behind_the_connect_request_are_answered_after_it(server, path):
    client = zk.Raw(server.port)
    client.send_frame(client.connect_payload())
    client.ask(zk.CREATE, zk.create_body(path, b"x"))
    client.ask(zk.GET, zk.text(path) + b"\0")
    client.connected()
    assert client.session != 0
    assert client.reply()[2] == 0
    xid, _, err, body = client.reply()
    assert (xid, err) == (2, 0) and zk.read_buf(body, 0)[0] == b"x"
    client.close()


def test_reattach_closes_the_old_connection_first(server, raw, path):
    old = raw(timeout=20000)
    assert old.call(zk.CREATE, zk.create_body(path, b"", 1))[1] == 0
    new = raw(timeout=20000, session=old.session, password=old.password)
    assert new.session == old.session
    assert closed(old)
    _, err, body = new.call(zk.EXISTS, zk.text(path) + b"\0")
    assert err == 0 and zk.stat_at(body, 0)["ephemeralOwner"] == new.session


def test_of_all_who_claim_a_session_at_once_exactly_one_keeps_it(server, raw, path):
    """Each claimant is answered, closed, or answered and then closed; nobody is told that the session is gone."""
    holder = raw(timeout=20000)
    session, password = holder.session, holder.password
    assert holder.call(zk.CREATE, zk.create_body(path, b"", 1))[1] == 0

    def is_answered(client):
        try:
            client.connected()
        except zk.Closed:
            return False
        assert client.session == session and client.timeout > 0
        return True

    def is_served(client):
        try:
            client.ask(zk.EXISTS, zk.path_body(path))
            _, _, err, body = client.reply()
        except (zk.Closed, OSError):
            return False
        assert err == 0 and zk.stat_at(body, 0)["ephemeralOwner"] == session
        return True

    for _ in range(50):
        claimants = [zk.Raw(server.port) for _ in range(3)]
        for client in claimants:
            client.send_frame(client.connect_payload(timeout=20000, session=session, password=password))
        answered = [client for client in claimants if is_answered(client)]
        served = [client for client in answered if is_served(client)]
        assert len(served) == 1 and closed(holder)
        for client in {holder, *claimants} - set(served):
            client.close()
        [holder] = served
    holder.close()


def test_unknown_operations_answer_and_close(raw):
    for op in (999, 108, -10, 20, 13):
        client = raw()
        xid = client.ask(op)
        assert client.reply()[:3] == (xid, -1, -6)
        assert closed(client)


def test_containers_and_ttl_nodes_as_flags_and_types_say(raw, path):
    client = raw()
    container = zk.create_body(path, b"x", 4)
    _, err, body = client.call(zk.CREATE_CONTAINER, container)
    made, at = zk.read_buf(body, 0)
    stat = zk.stat_at(body, at)
    assert (err, made.decode(), stat["ephemeralOwner"], stat["dataLength"], len(body)) == (0, path, 0, 1, at + 68)
    _, err, body = client.call(zk.CREATE_CONTAINER, zk.create_body(path + "/s-", None, 2))
    assert (err, zk.read_buf(body, 0)[0].decode()) == (0, path + "/s-0000000000")
    # TTLs are off: the flags decide, then whether they fit the type.
    for op, flags, ttl, due in (
            (zk.CREATE, 5, None, -6), (zk.CREATE2, 6, None, -6), (zk.CREATE_CONTAINER, 5, None, -6),
            (zk.CREATE_CONTAINER, 7, None, -8), (zk.CREATE_TTL, 5, 1000, -6), (zk.CREATE_TTL, 6, 0, -6),
            (zk.CREATE_TTL, 0, 1000, -8), (zk.CREATE_TTL, 4, -1, -8), (zk.CREATE_TTL, 0, -1, -8),
            (zk.CREATE_TTL, 7, 1000, -8), (zk.CREATE, 4, None, 0)):
        ttl = b"" if ttl is None else struct.pack(">q", ttl)
        assert client.call(op, zk.create_body(path + "/n", None, flags) + ttl)[1] == due, (op, flags, ttl)
    # What Apache executes without permission, and what no client may send.
    xid = client.ask(zk.DELETE_CONTAINER, zk.text(path + "/n"))
    assert client.reply()[:3] == (xid, -1, -6)
    assert closed(client)
    assert raw().call(zk.EXISTS, zk.path_body(path + "/n"))[1] == 0


def test_malformed_bodies_answer_in_order_and_stay_open(raw, path):
    client = raw()
    client.ask(zk.CREATE, zk.create_body(path, b"x"))
    client.ask(zk.CREATE, b"\x7f\xff\xff\xff")
    client.ask(zk.GET, zk.text(path) + b"\0")
    assert [client.reply()[2] for _ in range(3)] == [0, -5, 0]


def test_frames_beyond_the_limit_close(raw):
    for length in (1_048_576, -1, 1 << 30):
        client = raw()
        client.sock.sendall(struct.pack(">i", length))
        assert closed(client)
    client = raw()
    client.send_frame(b"1234567")
    assert closed(client)


def test_own_event_comes_before_own_reply(raw, path):
    client = raw()
    client.call(zk.CREATE, zk.create_body(path, b"x"))
    client.call(zk.GET, zk.text(path) + b"\1")
    xid = client.ask(zk.SET, zk.set_body(path, b"y"))
    event, answer = client.reply(), client.reply()
    assert event[0] == -1 and event[3] == struct.pack(">ii", 3, 3) + zk.text(path)
    assert answer[0] == xid and answer[1] == event[1], "the event carries the transaction's zxid"


def test_event_comes_before_newer_data_of_another(raw, path):
    one, other = raw(), raw()
    other.call(zk.CREATE, zk.create_body(path, b"0"))
    for n in range(200):
        _, err, body = one.call(zk.GET, zk.text(path) + b"\1")
        data, _ = zk.read_buf(body, 0)
        other.ask(zk.SET, zk.set_body(path, b"%d" % (n + 1)))
        xid = one.ask(zk.GET, zk.text(path) + b"\0")
        first = one.reply()
        if first[0] == -1:
            first = one.reply()
        else:
            assert zk.read_buf(first[3], 0)[0] == data, "newer data before the event"
            assert one.reply()[0] == -1
        assert first[0] == xid
        assert other.reply()[2] == 0


def test_setwatches_catches_up_before_its_reply(raw, path):
    client = raw()
    zxid = client.call(zk.CREATE, zk.create_body(path, b"x"))[0]
    client.call(zk.SET, zk.set_body(path, b"y"))
    lists = struct.pack(">qi", zxid, 1) + zk.text(path) + struct.pack(">i", 1) + zk.text(path + "-none") + struct.pack(">i", 1) + zk.text(path)
    client.ask(zk.SET_WATCHES, lists, xid=-8)
    event, answer = client.reply(), client.reply()
    assert event[:2] == (-1, -1) and event[3][:4] == struct.pack(">i", 3)
    assert (answer[0], answer[2], answer[3]) == (-8, 0, b"")
    client.ask(zk.CREATE, zk.create_body(path + "-none", b""))
    assert client.reply()[3][:4] == struct.pack(">i", 1)
    assert client.reply()[2] == 0
    client.ask(zk.CREATE, zk.create_body(path + "/c", b""))
    assert client.reply()[3][:4] == struct.pack(">i", 4)
    assert client.reply()[2] == 0


def test_watches_that_last_fire_until_they_are_removed(raw, path):
    client, other = raw(), raw()
    for mode in (0, 1):
        assert client.call(zk.ADD_WATCH, zk.watch_body(path, mode))[1:] == (0, bytes(4))
    other.call(zk.CREATE, zk.create_body(path, b""))
    zxid = other.call(zk.CREATE, zk.create_body(path + "/c", b""))[0]
    other.call(zk.SET, zk.set_body(path, b"x"))
    expected = [(zxid - 1, 1, path), (zxid, 1, path + "/c"), (zxid, 4, path), (zxid + 1, 3, path)]
    for at, kind, of in expected:
        assert client.reply() == (-1, at, 0, struct.pack(">ii", kind, 3) + zk.text(of))
    for op, kind, err in ((zk.CHECK_WATCHES, 2, -121), (zk.REMOVE_WATCHES, 1, -121), (zk.CHECK_WATCHES, 3, 0), (zk.REMOVE_WATCHES, 4, 0),
                          (zk.REMOVE_WATCHES, 4, -121), (zk.REMOVE_WATCHES, 5, 0), (zk.CHECK_WATCHES, 3, -121), (zk.REMOVE_WATCHES, 6, -5)):
        assert client.call(op, zk.watch_body(path, kind))[1:] == (err, b""), (op, kind)
    other.call(zk.SET, zk.set_body(path, b"y"))
    assert client.ping()[2] == 0, "no event comes before it"


def test_setwatches2_sets_watches_that_last(raw, path):
    client, other = raw(), raw()
    zxid = other.call(zk.CREATE, zk.create_body(path, b"x"))[0]
    other.call(zk.SET, zk.set_body(path, b"y"))
    one, none = struct.pack(">i", 1) + zk.text(path), struct.pack(">i", 0)
    client.ask(zk.SET_WATCHES2, struct.pack(">q", zxid) + one + none + none + one + one, xid=-8)
    event, answer = client.reply(), client.reply()
    assert event == (-1, -1, 0, struct.pack(">ii", 3, 3) + zk.text(path))
    assert (answer[0], answer[2], answer[3]) == (-8, 0, b"")
    changed = [other.call(zk.SET, zk.set_body(path, b"z"))[0] for _ in range(2)]
    for at in changed:
        assert client.reply() == (-1, at, 0, struct.pack(">ii", 3, 3) + zk.text(path)), "one event for each change"


def test_ping_auth_and_close(raw):
    client = raw()
    client.ask(zk.PING, xid=-2)
    assert client.reply()[0::2][:2] == (-2, 0)
    client.ask(zk.AUTH, struct.pack(">i", 0) + zk.text("digest") + zk.text("u:p"), xid=-4)
    assert client.reply() == (-4, 0, 0, b"")
    xid = client.ask(zk.CLOSE)
    assert client.reply()[0] == xid
    assert closed(client)


def test_failed_auth_closes(raw):
    client = raw()
    client.ask(zk.AUTH, struct.pack(">i", 0) + zk.text("nobody") + zk.text("x"), xid=-4)
    assert client.reply()[:3] == (-4, 0, -115)
    assert closed(client)


def test_auth_in_the_stream_holds_for_what_follows(raw, path):
    client = raw()
    acl = struct.pack(">ii", 1, 31) + zk.text("auth") + zk.text("")
    body = zk.text(path) + zk.buf(b"x") + acl + struct.pack(">i", 0)
    client.ask(zk.CREATE, body)
    client.ask(zk.AUTH, struct.pack(">i", 0) + zk.text("digest") + zk.text("u:p"), xid=-4)
    client.ask(zk.CREATE, body)
    assert [client.reply()[2] for _ in range(3)] == [-114, 0, 0]


def test_multi_results_have_equal_codes(raw, path):
    client = raw()
    ops = [(zk.CREATE, zk.create_body(path, b"")), (zk.CREATE, zk.create_body(path + "-no/x", b"")), (zk.CREATE, zk.create_body(path + "2", b""))]
    _, err, body = client.call(zk.MULTI, zk.multi_body(ops))
    assert err == 0 and zk.parse_multi(body) == [(-1, 0), (-1, -101), (-1, -2)]
    _, err, body = client.call(zk.MULTI, zk.multi_body([ops[0], (zk.CREATE2, ops[2][1]), (zk.SET, zk.set_body(path, b"")), (zk.DELETE, zk.delete_body(path)), (zk.CHECK, zk.delete_body(path + "2", 0))]))
    assert err == 0 and zk.parse_multi(body) == [(1, 0), (15, 0), (5, 0), (2, 0), (13, 0)]


def test_failed_writes_take_a_zxid_and_reads_do_not(raw, path):
    client = raw()
    first = client.call(zk.CREATE, zk.create_body(path, b""))[0]
    assert client.call(zk.CREATE, zk.create_body(path, b""))[:2] == (first + 1, -110)
    assert client.call(zk.EXISTS, zk.text(path) + b"\0")[0] == first + 1
    assert client.call(zk.CREATE, b"")[1] == -5
    assert client.call(zk.SET, zk.set_body(path, b""))[0] == first + 2


def test_nothing_behind_a_close_is_answered(raw, path):
    client = raw()
    client.ask(zk.CLOSE)
    client.ask(zk.CREATE, zk.create_body(path, b""))
    assert client.reply()[2] == 0
    assert closed(client)
    assert raw().call(zk.EXISTS, zk.text(path) + b"\0")[1] == zk.NO_NODE


def test_half_a_frame_and_garbage_harm_nobody(server, raw, path):
    half = zk.Raw(server.port)
    half.sock.sendall(b"\0\0\0")
    garbage = zk.Raw(server.port)
    garbage.sock.sendall(bytes(range(256)) * 4)
    assert raw().call(zk.CREATE, zk.create_body(path, b""))[1] == 0
    half.close()
    garbage.close()


@pytest.mark.parametrize("word", ["ruok", "srvr", "stat", "mntr", "conf", "cons", "isro"])
def test_four_letter_words(server, raw, word):
    client = raw()
    client.call(zk.EXISTS, zk.text("/") + b"\0")
    answer = four_letter(server.port, word)
    due = {
        "ruok": ["imok"],
        "isro": ["rw"],
        "srvr": ["Zookeeper version: 3.9.5-", "Latency min/avg/max: ", "Mode: standalone\n", "Node count: "],
        "stat": ["Clients:\n /127.0.0.1:", "](queued=0,recved=", "Mode: standalone\n"],
        "mntr": ["zk_version\t3.9.5-", "zk_server_state\tstandalone\n", "zk_znode_count\t", "zk_stage_sync_us_p99\t", "zk_global_sessions\t"],
        "conf": [f"clientPort={server.port}\n", "tickTime=500\n", "maxClientCnxns=0\n", "serverId=0\n"],
        "cons": [f"sid={client.session:#x},lop=EXIS,est=", ",to=", ",lcxid=0x1,lzxid=", ",maxlat="],
    }[word]
    for text in due:
        assert text in answer, answer
    if word in ("ruok", "isro"):
        assert answer == due[0]


WATCHED = "wchs wchc wchp dump hash".split()


def word(port, name, behind=b""):
    """The answer to a word with bytes behind it, to the end of the connection."""
    with zk.socket.create_connection(("127.0.0.1", port), PATIENCE) as sock:
        sock.sendall(name + behind)
        return b"".join(iter(lambda: sock.recv(65536), b""))


def test_words_that_say_who_watches_and_when_sessions_expire():
    from server import Server
    with Server() as server:
        one, other = zk.Raw(server.port), zk.Raw(server.port)
        for client in (one, other):
            client.connect()
        assert one.call(zk.CREATE, zk.create_body("/e", b"", flags=1))[1] == 0
        assert one.call(zk.CREATE, zk.create_body("/x", b""))[1] == 0
        # The node of a child watch is in the other table.
        for client, op, path in ((one, zk.GET, "/e"), (one, zk.EXISTS, "/n"), (other, zk.EXISTS, "/e"), (other, zk.CHILDREN, "/")):
            client.call(op, zk.path_body(path, watch=True))
        answers = {name: four_letter(server.port, name) for name in WATCHED}
        sids = sorted((one.session, other.session))
        assert answers["wchs"] == "2 connections watching 2 paths\nTotal watches:3\n"
        own = {one.session: "\t/e\n\t/n\n", other.session: "\t/e\n"}
        assert answers["wchc"] in ["".join(f"{sid:#x}\n{own[sid]}" for sid in order) + "\n" for order in (sids, sids[::-1])]
        by_path = [f"/e\n\t{a:#x}\n\t{b:#x}\n/n\n\t{one.session:#x}\n\n" for a, b in (sids, sids[::-1])]
        assert answers["wchp"] in by_path
        at = r"(\d+) expire at \w{3} \w{3} \d\d \d\d:\d\d:\d\d UTC \d{4}:\n"
        shown = re.fullmatch(
            rf"SessionTracker dump:\nSession Sets \((\d+)\)/\(2\):\n((?:{at}(?:\t0x[0-9a-f]+\n)+)+)"
            rf"ephemeral nodes dump:\nSessions with Ephemerals \(1\):\n{one.session:#x}:\n\t/e\n"
            rf"Connections dump:\nConnections Sets \((\d+)\)/\(3\):\n((?:{at}(?:\tip: /127\.0\.0\.1:\d+ sessionId: 0x[0-9a-f]+\n)+)+)",
            answers["dump"])
        assert shown, answers["dump"]
        assert sorted(re.findall(r"\t(0x\w+)", shown[2])) == sorted(f"{sid:#x}" for sid in sids)
        assert sorted(re.findall(r"sessionId: (0x\w+)", answers["dump"])) == sorted(["0x0", *(f"{sid:#x}" for sid in sids)])
        assert answers["hash"] == ""
        for n in range(130):
            one.call(zk.SET, zk.set_body("/x", b"%d" % n))
        assert re.fullmatch(r"80: -?\d+\n", four_letter(server.port, "hash"))
        for client in (one, other):
            client.close()


def test_counters_are_reset_and_everything_else_goes_on():
    from server import Server
    with Server() as server:
        client = zk.Raw(server.port)
        client.connect()
        for _ in range(5):
            client.call(zk.EXISTS, zk.text("/") + b"\0")
        assert re.search(r"recved=6,sent=6,sid=.*,lop=EXIS,.*lcxid=", four_letter(server.port, "cons"))
        assert four_letter(server.port, "crst") == "Connection stats reset.\n"
        line = r"recved=0,sent=0,sid=0x\w+,lop=NA,est=\d+,to=\d+,lzxid=0xffffffffffffffff,lresp=0,llat=0,minlat=0,avglat=0,maxlat=0\)"
        cons = four_letter(server.port, "cons")
        assert re.search(line, cons) and cons.endswith("[0](queued=0,recved=1,sent=0)\n\n"), cons
        assert four_letter(server.port, "srst") == "Server stats reset.\n"
        srvr = four_letter(server.port, "srvr")
        assert "Latency min/avg/max: 0/0.0/0\nReceived: 1\nSent: 1\nConnections: 2\n" in srvr, srvr
        mntr = dict(line.split("\t") for line in four_letter(server.port, "mntr").splitlines())
        reset = ("zk_commit_count", "zk_cnt_readlatency", "zk_cnt_updatelatency", "zk_stage_sync_count")
        assert {name: mntr[name] for name in reset} == dict.fromkeys(reset, "0")
        assert mntr["zk_packets_sent"] == "2", "the answers to srst and to srvr"
        # A seal may be synced in between.
        assert int(mntr["zk_cnt_fsynctime"]) <= 1, mntr
        assert mntr["zk_global_sessions"] == "1" and mntr["zk_znode_count"] == "5", mntr
        assert client.call(zk.EXISTS, zk.text("/") + b"\0")[1] == 0
        client.close()


def test_words_about_the_process(server):
    assert word(server.port, b"gtmk") == b"306"
    assert word(server.port, b"stmk", struct.pack(">q", -5) + b"ignored") == b"-5"
    assert word(server.port, b"gtmk") == b"-5"
    assert word(server.port, b"stmk", bytes(7)) == b"", "a mask has eight bytes"
    assert word(server.port, b"gtmk") == b"-5"
    with zk.socket.create_connection(("127.0.0.1", server.port), PATIENCE) as sock:
        sock.sendall(b"stmk" + struct.pack(">q", 306)[:3])
        sock.sendall(struct.pack(">q", 306)[3:])
        assert b"".join(iter(lambda: sock.recv(100), b"")) == b"306"
    assert re.fullmatch(r"datadir_size: \d+\nlogdir_size: \d+\n", four_letter(server.port, "dirs"))
    envi = four_letter(server.port, "envi").splitlines()
    assert envi[0] == "Environment:" and envi[1].startswith("zookeeper.version=3.9.5-"), envi
    keys = [line.split("=")[0] for line in envi[2:]]
    assert keys == ("host.name java.version java.vendor java.home java.class.path java.library.path java.io.tmpdir java.compiler os.name "
                    "os.arch os.version user.name user.home user.dir os.memory.free os.memory.max os.memory.total").split()
    assert word(server.port, b"\xff\xf4\xff\xfd", b"\x06") == b"", "with all words allowed telnet's interrupt is silent"
    assert word(server.port, b"lead") == b"", "Apache's server does not have it either"


def test_words_outside_the_whitelist_are_refused():
    from server import Server
    with Server(**{"4lw.commands.whitelist": "ruok"}) as server:
        assert four_letter(server.port, "mntr") == "mntr is not executed because it is not in the whitelist.\n"
        assert four_letter(server.port, "ruok") == "imok"
        assert "Mode: standalone" in four_letter(server.port, "srvr")
        assert four_letter(server.port, "zzzz") == ""
        for name in "stat conf cons crst dirs dump envi gtmk stmk hash isro srst wchc wchp wchs".split():
            assert four_letter(server.port, name) == f"{name} is not executed because it is not in the whitelist.\n"
        said = b"telnet close is not executed because it is not in the whitelist.\n"
        assert word(server.port, b"\xff\xf4\xff\xfd") == said


def test_connections_per_address_are_limited():
    from server import Server
    with Server(maxClientCnxns=3) as server:
        clients = [zk.Raw(server.port) for _ in range(3)]
        for client in clients:
            client.connect()
        with pytest.raises((zk.Closed, OSError)):
            zk.Raw(server.port).connect()
        clients.pop().close()
        for _ in range(600):
            try:
                zk.Raw(server.port).connect()
                break
            except (zk.Closed, OSError):
                pass
        else:
            raise AssertionError("the place of a closed connection is free again")
