"""The bytes of docs/protocol.md Appendix A on the real server, typed from there: nothing is packed by code. Each test
has a server of its own, so zxids come out as typed: the session's is 1."""

import harness
from harness import Line

CONNECT = """0000002d 00000000 0000000000000000 00002710 0000000000000000 00000010
             00000000000000000000000000000000 00"""
DEAD = "00000025 00000000 00000000 0000000000000000 00000010 00000000000000000000000000000000 00"
OPEN = "00000001 0000001f 00000005 776f726c64 00000006 616e796f6e65"


def password(session):
    """docs/protocol.md §5.1."""
    seed, said = (int.from_bytes(session) ^ 0xB3415C00 ^ 0x5DEECE66D) % (1 << 48), b""
    for _ in range(4):
        seed = (seed * 0x5DEECE66D + 0xB) % (1 << 48)
        said += (seed >> 16).to_bytes(4, "little")
    return said


def connected(server):
    line = Line(server)
    line.say(CONNECT)
    own = line.hear("00000025 00000000 00002710 <session:8> 00000010 <password:16> 00")
    assert own["password"] == password(own["session"])
    return line, own


def test_connect(fresh):
    assert password(bytes.fromhex("0100000d62170000")).hex() == "7bd87f53ecdfe671512b0caa15806718"
    line, own = connected(fresh)
    assert own["session"][0] == 1, "the id of a standalone server"
    other, second = connected(fresh)
    assert second["session"] > own["session"]
    for one in (line, other):
        one.is_quiet()
        one.close()


def test_connect_without_the_read_only_byte(fresh):
    line = Line(fresh)
    line.say("0000002c 00000000 0000000000000000 00002710 0000000000000000 00000010 00000000000000000000000000000000")
    own = line.hear("00000024 00000000 00002710 <session:8> 00000010 <password:16>")
    assert own["password"] == password(own["session"])
    line.is_quiet()
    # A re-attachment is answered in the same way, with what the client asks for now.
    again = Line(fresh)
    again.say("0000002c 00000000 0000000000000001 00004e20 <session> 00000010 <password>", **own)
    again.hear("00000024 00000000 00004e20 <session> 00000010 <password>", **own)
    line.ends()
    again.close()


def test_dead_session(fresh):
    line, own = connected(fresh)
    wrong = {**own, "password": own["password"][:15] + b"\0"}
    unknown = {"session": own["session"][:7] + b"\x7f", "password": bytes(16)}
    unknown["password"] = password(unknown["session"])

    def is_dead(known):
        other = Line(fresh)
        other.say("0000002d 00000000 0000000000000000 00002710 <session> 00000010 <password> 00", **known)
        other.hear(DEAD)
        other.ends()

    is_dead(unknown)
    # Apache cuts the owner of a session off when somebody guesses its id (docs/protocol.md §10.1).
    if not harness.IS_APACHE:
        is_dead(wrong)
        line.is_quiet()
    line.say("00000008 00000001 fffffff5")
    line.hear("00000010 00000001 0000000000000002 00000000")
    line.ends()
    is_dead(own)
    # Without the last byte: 36.
    other = Line(fresh)
    other.say("0000002c 00000000 0000000000000000 00002710 <session> 00000010 <password>", **own)
    other.hear("00000024 00000000 00000000 0000000000000000 00000010 00000000000000000000000000000000")
    other.ends()


def test_create_and_a_watch_on_an_absent_node(fresh):
    line, _ = connected(fresh)
    line.say(f"00000036 00000001 00000001 00000002 2f74 00000005 68656c6c6f {OPEN} 00000000")
    line.hear("00000016 00000001 0000000000000002 00000000 00000002 2f74")
    line.say("00000012 00000003 00000004 00000005 2f6e6f6e65 01")
    line.hear("00000010 00000003 0000000000000002 ffffff9b")
    # It left no watch.
    line.say(f"00000034 00000004 00000001 00000005 2f6e6f6e65 00000000 {OPEN} 00000000")
    line.hear("00000019 00000004 0000000000000003 00000000 00000005 2f6e6f6e65")
    line.is_quiet()


def test_own_write_with_own_watch(fresh):
    line, _ = connected(fresh)
    line.say(f"00000031 00000001 00000001 00000002 2f77 00000000 {OPEN} 00000000")
    line.hear("00000016 00000001 0000000000000002 00000000 00000002 2f77")
    line.say("0000000f 00000002 00000004 00000002 2f77 01")
    own = line.hear("""00000058 00000002 0000000000000002 00000000 00000000
                       0000000000000002 0000000000000002 <ctime:8> <mtime:8> 00000000 00000000 00000000
                       0000000000000000 00000000 00000000 0000000000000002""")
    assert own["ctime"] == own["mtime"]
    line.say("00000019 00000003 00000005 00000002 2f77 00000003 6e6577 ffffffff")
    line.hear("0000001e ffffffff 0000000000000003 00000000 00000003 00000003 00000002 2f77")
    line.hear("""00000054 00000003 0000000000000003 00000000
                 0000000000000002 0000000000000003 <ctime> <8> 00000001 00000000 00000000
                 0000000000000000 00000003 00000000 0000000000000002""", **own)
    line.is_quiet()


def test_catch_up_of_set_watches(fresh):
    line, own = connected(fresh)
    line.say(f"00000031 00000001 00000001 00000002 2f77 00000000 {OPEN} 00000000")
    line.hear("00000016 00000001 0000000000000002 00000000 00000002 2f77")
    line.say("00000019 00000002 00000005 00000002 2f77 00000003 6e6577 ffffffff")
    line.hear("00000054 00000002 0000000000000003 00000000 <68>")
    line.close()
    again = Line(fresh)
    again.say("0000002d 00000000 0000000000000002 00002710 <session> 00000010 <password> 00", **own)
    again.hear("00000025 00000000 00002710 <session> 00000010 <password> 00", **own)
    again.say("00000022 fffffff8 00000065 0000000000000002 00000001 00000002 2f77 00000000 00000000")
    again.hear("0000001e ffffffff ffffffffffffffff 00000000 00000003 00000003 00000002 2f77")
    again.hear("00000010 fffffff8 0000000000000003 00000000")
    again.is_quiet()


def test_operations_on_watches(fresh):
    line, _ = connected(fresh)
    line.say(f"00000031 00000001 00000001 00000002 2f77 00000000 {OPEN} 00000000")
    line.hear("00000016 00000001 0000000000000002 00000000 00000002 2f77")
    line.say("00000012 00000005 0000006a 00000002 2f77 00000001")
    line.hear("00000014 00000005 0000000000000002 00000000 00000000")
    line.say("00000012 00000006 00000011 00000002 2f77 00000005")
    line.hear("00000010 00000006 0000000000000002 00000000")
    line.say("00000012 00000007 00000011 00000002 2f77 00000004")
    line.hear("00000010 00000007 0000000000000002 ffffff87")
    line.say("00000012 00000008 0000006a 00000002 2f77 00000002")
    line.hear("00000010 00000008 0000000000000002 fffffffb")
    line.say(f"00000033 00000009 00000001 00000004 2f772f63 00000000 {OPEN} 00000000")
    line.hear("00000020 ffffffff 0000000000000003 00000000 00000001 00000003 00000004 2f772f63")
    line.hear("00000018 00000009 0000000000000003 00000000 00000004 2f772f63")
    line.say("00000012 0000000a 00000012 00000002 2f77 00000003")
    line.hear("00000010 0000000a 0000000000000003 00000000")
    line.say("00000012 0000000b 00000012 00000002 2f77 00000003")
    line.hear("00000010 0000000b 0000000000000003 ffffff87")
    line.is_quiet()


def test_set_watches2(fresh):
    line, _ = connected(fresh)
    line.say("""00000030 fffffff8 00000069 0000000000000001 00000000 00000000 00000000
                00000001 00000002 2f77 00000001 00000002 2f78""")
    line.hear("00000010 fffffff8 0000000000000001 00000000")
    for zxid, path in (("0000000000000002", "2f77"), ("0000000000000003", "2f78")):
        line.say(f"00000031 00000001 00000001 00000002 {path} 00000000 {OPEN} 00000000")
        line.hear(f"0000001e ffffffff {zxid} 00000000 00000001 00000003 00000002 {path}")
        line.hear(f"00000016 00000001 {zxid} 00000000 00000002 {path}")
    line.is_quiet()


def test_ping_auth_close(fresh):
    line, _ = connected(fresh)
    line.say("00000008 fffffffe 0000000b")
    line.hear("00000010 fffffffe 0000000000000001 00000000")
    line.say("0000001d fffffffc 00000064 00000000 00000006 646967657374 00000003 753a70")
    line.hear("00000010 fffffffc 0000000000000000 00000000")
    line.say("00000008 00000001 fffffff5")
    line.hear("00000010 00000001 0000000000000002 00000000")
    line.ends()


def test_a_ping_is_answered_with_its_own_xid_and_a_failed_auth_closes(fresh):
    line, _ = connected(fresh)
    line.say("00000008 00000007 0000000b")
    line.hear("00000010 fffffffe 0000000000000001 00000000")
    # Scheme `nope`.
    line.say("00000018 fffffffc 00000064 00000000 00000004 6e6f7065 00000000")
    line.hear("00000010 fffffffc 0000000000000000 ffffff8d")
    line.ends()


def test_unknown_operation(fresh):
    line, _ = connected(fresh)
    line.say("00000008 00000001 000003e7")
    line.hear("00000010 00000001 ffffffffffffffff fffffffa")
    line.ends()


def test_failed_multi(fresh):
    line, _ = connected(fresh)
    line.say(f"""000000af 0000000c 0000000e
                 00000001 00 ffffffff 00000003 2f6d31 00000000 {OPEN} 00000000
                 00000001 00 ffffffff 00000008 2f6e6f6e652f6d32 00000000 {OPEN} 00000000
                 00000001 00 ffffffff 00000003 2f6d33 00000000 {OPEN} 00000000
                 ffffffff 01 ffffffff""")
    line.hear("""00000040 0000000c 0000000000000002 00000000
                 ffffffff 00 00000000 00000000
                 ffffffff 00 ffffff9b ffffff9b
                 ffffffff 00 fffffffe fffffffe
                 ffffffff 01 ffffffff""")
    line.is_quiet()


def test_multi(fresh):
    line, _ = connected(fresh)
    line.say(f"00000032 00000001 00000001 00000003 2f6d75 00000000 {OPEN} 00000000")
    line.hear("00000017 00000001 0000000000000002 00000000 00000003 2f6d75")
    line.say(f"00000034 00000002 00000001 00000005 2f6d752f78 00000000 {OPEN} 00000000")
    line.hear("00000019 00000002 0000000000000003 00000000 00000005 2f6d752f78")
    line.say(f"""000000be 00000003 0000000e
                 00000001 00 ffffffff 00000005 2f6d752f61 00000000 {OPEN} 00000000
                 0000000f 00 ffffffff 00000005 2f6d752f62 00000000 {OPEN} 00000000
                 00000002 00 ffffffff 00000005 2f6d752f78 ffffffff
                 00000005 00 ffffffff 00000003 2f6d75 00000001 31 ffffffff
                 0000000d 00 ffffffff 00000003 2f6d75 ffffffff
                 ffffffff 01 ffffffff""")
    line.hear("""000000e0 00000003 0000000000000004 00000000
                 00000001 00 00000000 00000005 2f6d752f61
                 0000000f 00 00000000 00000005 2f6d752f62
                 0000000000000004 0000000000000004 <16> 00000000 00000000 00000000
                 0000000000000000 00000000 00000000 0000000000000004
                 00000002 00 00000000
                 00000005 00 00000000
                 0000000000000002 0000000000000004 <16> 00000001 00000004 00000000
                 0000000000000000 00000001 00000002 0000000000000004
                 0000000d 00 00000000
                 ffffffff 01 ffffffff""")
    line.is_quiet()


def test_empty_multi(fresh):
    line, _ = connected(fresh)
    line.say("00000011 00000001 0000000e ffffffff 01 ffffffff")
    line.hear("00000019 00000001 0000000000000002 00000000 ffffffff 01 ffffffff")
    line.is_quiet()


def test_multi_read(fresh):
    line, _ = connected(fresh)
    line.say("""00000039 00000001 00000016
                00000008 00 ffffffff 0000000a 2f7a6f6f6b6565706572 01
                00000004 00 ffffffff 00000002 2f6e 00
                ffffffff 01 ffffffff""")
    # The order of names is any.
    frame = line.raw.read_frame()
    head = bytes.fromhex("00000001 0000000000000001 00000000 00000008 00 00000000 00000002")
    tail = bytes.fromhex("ffffffff 00 ffffff9b ffffff9b ffffffff 01 ffffffff")
    names = [bytes.fromhex("00000006 636f6e666967"), bytes.fromhex("00000005 71756f7461")]
    assert frame in (head + b"".join(order) + tail for order in (names, names[::-1]))


def test_stat_of_the_root(fresh):
    line, _ = connected(fresh)
    line.say("0000000e 00000001 00000003 00000001 2f 00")
    line.hear("""00000054 00000001 0000000000000001 00000000
                 0000000000000000 0000000000000000 0000000000000000 0000000000000000
                 00000000 ffffffff 00000000 0000000000000000 00000000 00000001 0000000000000000""")
    # The empty path is the root too; /zookeeper, its quota and its configuration (docs/protocol.md §2.3).
    line.say("0000000d 00000002 00000003 00000000 00")
    line.hear("""00000054 00000002 0000000000000001 00000000
                 0000000000000000 0000000000000000 0000000000000000 0000000000000000
                 00000000 ffffffff 00000000 0000000000000000 00000000 00000001 0000000000000000""")
    for size, path, counters, children in (
            ("00000017", "0000000a 2f7a6f6f6b6565706572", "00000000 fffffffe 00000000", "00000002"),
            ("0000001d", "00000010 2f7a6f6f6b65657065722f71756f7461", "00000000 00000000 00000000", "00000000"),
            ("0000001e", "00000011 2f7a6f6f6b65657065722f636f6e666967", "00000000 00000000 ffffffff", "00000000")):
        line.say(f"{size} 00000003 00000003 {path} 00")
        line.hear(f"""00000054 00000003 0000000000000001 00000000
                      0000000000000000 0000000000000000 0000000000000000 0000000000000000
                      {counters} 0000000000000000 00000000 {children} 0000000000000000""")


def test_what_is_asked_of_a_session_and_of_a_server(fresh):
    line, _ = connected(fresh)
    line.say("0000000d 00000005 00000068 00000001 2f")
    line.hear("00000014 00000005 0000000000000001 00000000 00000003")
    line.say("00000008 00000005 0000006b")
    line.hear("00000027 00000005 0000000000000001 00000000 00000001 00000002 6970 00000009 3132372e302e302e31")
    line.say("0000001c 00000002 00000010 ffffffff ffffffff ffffffff ffffffffffffffff")
    line.hear("00000010 00000002 0000000000000002 ffffff85")
    line.say("0000000c 00000002 00000066 00000000")
    line.hear("00000014 00000002 0000000000000000 00000000 ffffffff")
    line.say(f"00000031 00000003 00000001 00000002 2f73 00000000 {OPEN} 00000000")
    line.hear("00000016 00000003 0000000000000003 00000000 00000002 2f73")
    line.say(f"00000033 00000004 00000001 00000004 2f732f61 00000000 {OPEN} 00000001")
    line.hear("00000018 00000004 0000000000000004 00000000 00000004 2f732f61")
    line.say("0000000d 00000005 00000067 00000001 2f")
    line.hear("0000001c 00000005 0000000000000004 00000000 00000001 00000004 2f732f61")
    line.is_quiet()


def test_reconfig_with_the_switch_is_unimplemented():
    with harness.serving(reconfigEnabled="true") as server:
        line, _ = connected(server)
        line.say("0000001c 00000002 00000010 ffffffff ffffffff ffffffff ffffffffffffffff")
        line.hear("00000010 00000002 0000000000000002 fffffffa")
        line.is_quiet()


def test_enforced_authentication():
    with harness.serving(**{"enforce.auth.enabled": "true", "enforce.auth.schemes": "digest"}) as server:
        for request in ("0000000e 00000001 00000003 00000001 2f 00", "00000008 00000001 0000000b", "00000008 00000001 fffffff5"):
            line, _ = connected(server)
            line.say(request)
            line.hear("00000010 00000001 0000000000000000 ffffff84")
            line.ends()
        line, _ = connected(server)
        line.say("0000001d fffffffc 00000064 00000000 00000006 646967657374 00000003 753a70")
        line.hear("00000010 fffffffc 0000000000000000 00000000")
        line.say("0000000e 00000001 00000003 00000001 2f 00")
        line.hear("00000054 00000001 <8> 00000000 <68>")


def test_frames_that_end_a_connection(fresh):
    for said in ("00000007 00000001000000", "00100000", "ffffffff", "7fffffff", "80000000"):
        line, _ = connected(fresh)
        line.say(said)
        line.ends()
    # The bound itself is a length: the frame is waited for.
    line, own = connected(fresh)
    line.say("000fffff")
    other = Line(fresh)
    other.say("0000002d 00000000 0000000000000000 00002710 <session> 00000010 <password> 00", **own)
    other.hear("00000025 00000000 00002710 <session> 00000010 <password> 00", **own)
    line.ends()
    other.is_quiet()
