"""What each example promises, and a scenario in which a careless one breaks it."""

import contextlib
import json
import re
import threading

import configuration
import discovery
from common import sequence
from harness import LASTING_S, SHORT_S, sequential_create, transaction, until
from kazoo.exceptions import ConnectionClosedError, NoNodeError

CHECKS = {}


def check(test):
    CHECKS[test.__name__.removeprefix("check_")] = test
    return test


def children(client, path):
    try:
        return client.get_children(path)
    except NoNodeError:
        return []


@check
def check_lock(world):
    protected, said = world.directory / "protected", world.transcript()
    work = ("--file", protected)
    # Exclusive, in the order of the line, and each adds 1 to what the one before has written.
    contenders = [world.start("lock", "--name", name, "--rounds", 5, "--hold", 0.1, *work) for name in ("a", "b", "c")]
    for contender in contenders:
        contender.ends()
    held = [match.groups() for match in said.find(r"(\w+) (holds the lock, token|has written) (\d+)")]
    for (holder, _, _), (writer, what, _) in zip(held[::2], held[1::2]):
        assert holder == writer and what == "has written", held
    assert [int(number) for _, _, number in held[1::2]] == list(range(1, 16)), held
    tokens = [int(number) for _, _, number in held[::2]]
    assert tokens == sorted(set(tokens)), tokens
    # A holder sleeps until its session has expired and the next one has written; then it writes too. It holds the lock
    # for so long that it is stopped while it does.
    sleeper = world.start("lock", "--name", "sleeper", "--hold", 4, "--blind", *work, timeout=SHORT_S)
    token = int(said.wait(r"sleeper holds the lock, token (\d+)")[1])
    said.wait(r"sleeper has read 15")
    sleeper.stop()
    world.start("lock", "--name", "next", "--hold", 0, *work).ends()
    newer = int(said.wait(r"next holds the lock, token (\d+)")[1])
    assert newer > token, (newer, token)
    sleeper.wake()
    sleeper.ends()
    said.wait(rf"sleeper is refused: token {token} is older than {newer}")
    assert json.loads(protected.read_text()) == [newer, 16]
    # A create is lost, then the answer to one: the contender finds its node, and does not wait for itself.
    network = world.network(sequential_create, times=2)
    unlucky = world.start("lock", "--name", "unlucky", "--hold", 60, *work, root="/unlucky", network=network)
    said.wait(r"unlucky holds the lock, .*")
    assert network.left == 0 and len(children(world.client(), f"{world.root}/unlucky")) == 1
    # Its connection breaks: it gives up what it can't be sure to hold.
    network.cut()
    said.wait(r"unlucky may have lost the lock: writes nothing")
    network.heal()
    unlucky.ends()
    return f"15 rounds of 3 in order, a late write with token {token} refused after {newer}, a lost answer to a create"


class ChangesBehindReads:
    """A client for which everything changes right behind each of its first reads."""

    def __init__(self, client, change, times):
        self.client, self.change, self.left = client, change, times

    def __getattr__(self, name):
        return getattr(self.client, name)

    def get(self, *arguments, **named):
        answer = self.client.get(*arguments, **named)
        if self.left:
            self.left -= 1
            self.change(self.left)
        return answer


@check
def check_configuration(world):
    path, writers, changes = f"{world.root}/settings", [world.client() for _ in range(2)], 30
    writers[0].ensure_path(world.root)
    # Whatever happens between read and watch is seen.
    configuration.update(writers[0], path, {"left": 9})
    reader = ChangesBehindReads(world.client(), lambda left: configuration.update(writers[0], path, {"left": left}), times=3)
    seen = []

    def collect():
        with contextlib.suppress(ConnectionClosedError):
            for _, settings in configuration.follow(reader, path):
                seen.append(settings["left"])

    threading.Thread(target=collect, daemon=True).start()
    until(lambda: seen[-1:] == [0], "the change behind the last read")
    # Two write at once while two follow, one of which is cut off from the middle to the end.
    network, half, suspended = world.network(), threading.Barrier(3), threading.Event()
    for name, through in (("near", None), ("cut", network)):
        world.start("configuration", network=through, into=name)
        world.transcript(name).wait(r"configuration \d+: .*")

    def write(n):
        for value in range(1, changes + 1):
            # A setting for each, so that none can be undone and hidden by the next.
            configuration.update(writers[n], path, {f"of-{n}-{value}": 1})
            if value == changes // 2:
                half.wait()
                suspended.wait()

    threads = [threading.Thread(target=write, args=(n,), daemon=True) for n in range(2)]
    for thread in threads:
        thread.start()
    half.wait()
    # It has seen everything and waits for its watch, which it is about to lose.
    world.transcript("cut").wait(rf"configuration {writers[0].get(path)[1].mzxid}: .*")
    network.cut()
    world.transcript("cut").wait(r"-- SUSPENDED")
    suspended.set()
    for thread in threads:
        thread.join()
    network.heal()
    data, stat = writers[0].get(path)
    assert len(json.loads(data)) == 1 + 2 * changes, f"a writer has undone another: {data}"
    shown = {}
    for name in ("near", "cut"):
        world.transcript(name).wait(rf"configuration {stat.mzxid}: .*")
        zxids = [int(match[1]) for match in world.transcript(name).find(r"configuration (\d+): .*")]
        assert zxids == sorted(set(zxids)) and zxids[-1] == stat.mzxid, (name, zxids)
        shown[name] = len(zxids)
    # By the command line too, as in the second terminal.
    world.start("configuration", "colour=red").ends()
    for name in ("near", "cut"):
        world.transcript(name).wait(r'configuration \d+: .*"colour": "red".*')
    return (f"{2 * changes} changes by 2 writers, none undone; one follower saw {shown['near']} of them, one that was cut off "
            f"{shown['cut']}, each the newest")


@check
def check_discovery(world):
    addresses = [f"10.0.0.{n}:80" for n in range(1, 5)]
    # Round robin is even, random and the ring are nearly even.
    keys, share = [f"key-{n}" for n in range(discovery.KEYS)], discovery.KEYS // len(addresses)
    picked = {}
    for policy, picker in ((policy, make()) for policy, make in discovery.POLICIES.items()):
        picked[policy] = [picker.pick(addresses, key) for key in keys]
        slack = 0 if policy == "round-robin" else share // 3
        shares = [picked[policy].count(address) for address in addresses]
        assert all(abs(got - share) <= slack for got in shares), (policy, shares)

    def members(without=None):
        return re.escape(f"members: {' '.join(address for address in addresses if address != without)}")

    def serve(address):
        instances[address] = world.start("discovery", "--serve", address, timeout=SHORT_S, into=address)

    # One of four instances is killed: nobody calls it any more, and of the keys only its own move.
    instances = {}
    for address in addresses:
        serve(address)
        world.transcript(address).wait(rf"{re.escape(address)} is registered")
    callers = [world.start("discovery", "--policy", policy, "--every", 0.02, into=policy) for policy in picked]
    for policy in picked:
        world.transcript(policy).wait(members())
        world.transcript(policy).wait(r"key-\d+ -> .*", count=8)
    instances[addresses[1]].kill9()
    line = world.transcript("hash").wait(rf"(\d+) of {discovery.KEYS} keys move; by remainder it would be (\d+)")
    moved, by_remainder = map(int, line.groups())
    assert moved == picked["hash"].count(addresses[1]) and by_remainder > 2 * moved, (moved, by_remainder)
    for policy in picked:
        said = world.transcript(policy)
        said.wait(members(without=addresses[1]))
        change = said.place(members(without=addresses[1]))[0]

        def calls(lines):
            return [line.split(" -> ") for line in lines if " -> " in line]

        until(lambda: len(calls(said.lines()[change:])) >= 20, "more calls")
        # The first may have been on its way while the list changed.
        assert addresses[1] not in [address for _, address in calls(said.lines()[change:])[1:]], policy
        # A caller in another process agrees on whom a key belongs to.
        for key, address in calls(said.lines()[:change]) if policy == "hash" else ():
            assert picked["hash"][int(key.removeprefix("key-"))] == address, (key, address)
    # It starts again and is called again. So is one that has slept until its session expired, and one that was killed and
    # started again while its old session lived.
    said = world.transcript("hash")
    serve(addresses[1])
    said.wait(members(), count=2)
    instances[addresses[2]].stop()
    said.wait(members(without=addresses[2]))
    instances[addresses[2]].wake()
    said.wait(members(), count=3)
    client, path = world.client(), f"{world.root}/{addresses[3]}"
    former = client.exists(path).ephemeralOwner
    instances[addresses[3]].kill9()
    serve(addresses[3])
    until(lambda: (stat := client.exists(path)) and stat.ephemeralOwner != former, "the node of the second run")
    for caller in callers:
        caller.end()
    return f"{moved} of {discovery.KEYS} keys move when one of 4 leaves, by remainder it would be {by_remainder}"


@check
def check_membership(world):
    names, members = ["a", "b", "c", "d"], {}
    for name in names:
        members[name] = world.start("membership", "--name", name, timeout=SHORT_S if name in "bd" else LASTING_S, into=name)
        world.transcript(name).wait(rf"{name} has joined")

    def seen(by):
        return [(int(match[1]), match[2]) for match in world.transcript(by).find(r"\w+ sees view (\d+): ?(.*)")]

    def agreed(present):
        """Waits until the newest view of all who are present is the same and has their names; returns its number."""

        def newest():
            views = {view for name in present for view in seen(name)[-1:]}
            return views.pop() if len(views) == 1 else (None, None)

        return until(lambda: newest()[1] == " ".join(present) and newest(), f"a view of {present}")[0]

    numbers = [agreed(names)]
    members["b"].kill9()
    numbers.append(agreed(["a", "c", "d"]))
    members["c"].end()
    numbers.append(agreed(["a", "d"]))
    # One sleeps until it is out, and joins again with another session.
    members["d"].stop()
    numbers.append(agreed(["a"]))
    members["d"].wake()
    world.transcript("d").wait(r"d has joined", count=2)
    numbers.append(agreed(["a", "d"]))
    assert numbers == sorted(set(numbers)), numbers
    views = {}
    for name in names:
        mine = seen(name)
        assert [number for number, _ in mine] == sorted({number for number, _ in mine}), mine
        for number, shown in mine:
            assert views.setdefault(number, shown) == shown, f"view {number}: {shown}, and {views[number]}"
    return f"{len(views)} views, the same for all who saw them; out by kill, by end and by sleep, and in again"


@check
def check_election(world):
    said, network, candidates = world.transcript(), world.network(sequential_create, times=2), {}
    for name, before in (("a", None), ("b", "a"), ("c", "b"), ("d", "c"), ("e", "d")):
        candidates[name] = world.start("election", "--name", name, timeout=SHORT_S if name in "abd" else LASTING_S,
                                       network=network if name == "c" else None)
        said.wait(rf"{name} follows {before}" if before else rf"{name} leads, term \d+")
    assert network.left == 0 and len(children(world.client(), world.root)) == 5, "a lost answer made a second candidate"
    # The leader dies: the next in line leads. One in the middle dies: who followed it follows the one before it.
    candidates["a"].kill9()
    said.wait(r"b leads, term \d+")
    candidates["d"].kill9()
    said.wait(r"e follows c")
    # The leader sleeps until another one leads. Awake it learns that, and goes to the end of the line.
    candidates["b"].stop()
    said.wait(r"c leads, term \d+")
    candidates["b"].wake()
    said.wait(r"b is out: the session has expired")
    said.wait(r"b follows e")
    # Each was woken by the end of the one before it, and by nothing else.
    woken = {name: len(said.find(rf"{name} is woken")) for name in "abcde"}
    assert woken == {"a": 0, "b": 1, "c": 1, "d": 0, "e": 1}, woken
    leaders = [match.groups() for match in said.find(r"(\w) leads, term (\d+)")]
    terms = [int(term) for _, term in leaders]
    assert [name for name, _ in leaders] == ["a", "b", "c"] and terms == sorted(set(terms)), leaders
    # A leader that is cut off steps down, and goes on with its term if it is back before its session expires.
    network.cut()
    said.wait(rf"c steps down, term {terms[-1]}")
    network.heal()
    said.wait(rf"c leads, term {terms[-1]}", count=2)
    return f"terms {', '.join(map(str, terms))}; each successor was the next in line, and it alone was woken"


@check
def check_work_queue(world):
    items, said, client = [f"item-{n}" for n in range(30)], world.transcript(), world.client()
    network = world.network(sequential_create, times=4)
    world.start("work_queue", "--put", *items, network=network).ends()
    put = children(client, f"{world.root}/items")
    assert network.left == 0 and len(put) == len(items), f"{len(put)} of {len(items)} items were put"
    # One consumer dies at work, one sleeps until its claim is another's, one loses transactions and answers to them.
    victim = world.start("work_queue", "--name", "victim", "--work", 60, timeout=SHORT_S)
    killed = said.wait(r"victim takes (.*)")[1]
    victim.kill9()
    sleeper = world.start("work_queue", "--name", "sleeper", "--work", 4, timeout=SHORT_S)
    slept = said.wait(r"sleeper takes (.*)")[1]
    sleeper.stop()
    network = world.network(transaction, times=4)
    workers = [world.start("work_queue", "--name", "unlucky", "--work", 0.02, network=network)]
    until(lambda: network.left == 0, "the losses")
    workers.append(world.start("work_queue", "--name", "steady", "--work", 0.02))
    until(lambda: len(children(client, f"{world.root}/done")) >= len(items), "all results")
    sleeper.wake()
    said.wait(rf"sleeper finds taken or done: {slept}")
    for path in ("items", "claims"):
        until(lambda: not children(client, f"{world.root}/{path}"), f"no {path}")
    for program in (*workers, sleeper):
        program.end()
    results = sorted(children(client, f"{world.root}/done"), key=sequence)
    done = [client.get(f"{world.root}/done/{name}")[0].decode() for name in results]
    assert sorted(done) == sorted(items), done
    return f"{len(items)} items, each done once: {killed} although its consumer was killed, {slept} although its consumer slept"


@check
def check_barrier(world):
    said, client, rounds = world.transcript(), world.client(), 2
    work = {"a": 0.1, "b": 0.4, "c": 0.2, "d": 1.2, "dead": 0}

    def come(name):
        timeout = SHORT_S if name == "dead" else LASTING_S
        program = world.start("barrier", "--name", name, "--size", 4, "--rounds", rounds, "--work", work[name], timeout=timeout)
        said.wait(rf"{name} comes to round 1")
        return program

    def inside():
        return sorted(children(client, f"{world.root}/round-1/members"))

    def there(*names):
        until(lambda: inside() == sorted(names), f"{names} to be there")

    # Three come, of which one dies; another makes it three again; the fourth opens.
    programs = [come("a"), slow := come("b")]
    dead = come("dead")
    there("a", "b", "dead")
    dead.kill9()
    there("a", "b")
    programs.append(come("c"))
    there("a", "b", "c")
    programs.append(come("d"))
    # One that has finished sleeps while the others end this round and begin the next.
    said.wait(r"b has finished round 1")
    until(lambda: "b" not in inside(), "b to leave")
    slow.stop()
    said.wait(r"[acd] comes to round 2", count=3)
    until(lambda: sum(len(children(client, f"{world.root}/{name}/members")) for name in children(client, world.root)) == 3,
          "three to be in the second round")
    slow.wake()
    for program in programs:
        program.ends()
    for n in range(1, rounds + 1):
        came, begun, finished, over = (said.place(rf"[abcd] {what}") for what in (
            f"comes to round {n}", f"begins round {n}", f"has finished round {n}", f"goes on: round {n} is over"))
        assert [len(lines) for lines in (came, begun, finished, over)] == [4] * 4, n
        assert max(came) < min(begun), f"one began round {n} before all had come"
        assert max(finished) < min(over), f"one went on before all had finished round {n}"
    assert children(client, world.root) == [], "something is left"
    return f"{rounds} rounds of 4, not opened by 3 and a dead one, one asleep at the end of the first"


@check
def check_counter(world):
    said, each = world.transcript(), 40
    own, network = ("--to", each, "--every", 0.01), world.network(transaction, times=4)
    writers = [world.start("counter", "--name", "a", *own), world.start("counter", "--name", "b", *own),
               world.start("counter", "--name", "unlucky", *own, network=network)]
    for kill in range(3):
        victim = world.start("counter", "--name", "victim", *own)
        said.wait(r"victim: .*", count=5 * (kill + 1))
        victim.kill9()
    writers.append(world.start("counter", "--name", "victim", *own))
    for writer in writers:
        writer.ends()
    assert network.left == 0, "not every loss happened"
    data, stat = world.client().get(f"{world.root}/total")
    assert int(data) == stat.version == 4 * each, f"at {int(data)} after {stat.version} writes, not {4 * each}"
    return f"{4 * each} increments of 4 writers, one of them killed 3 times, one with 4 lost connections"


@check
def check_listener(world):
    client, network, listeners = world.client(), world.network(), ("near", "far")
    client.ensure_path(world.root)
    for n in range(5):
        client.create(f"{world.root}/{n}", b"old")
    world.start("listener", into="near")
    world.start("listener", network=network, timeout=SHORT_S, into="far")
    told = [rf"added {n}: None -> b'old'" for n in range(5)]

    def expect(*changes):
        """Waits until both have told these too, and nothing else. The order between nodes is free."""
        told.extend(changes)
        for name in listeners:
            reports = r"(?:added|changed|replaced|removed) .*"
            world.transcript(name).wait(reports, count=len(told))
            until(lambda: sorted(match[0] for match in world.transcript(name).find(reports)) == sorted(told), f"{told} by {name}")

    expect()
    # The far one is cut off, for a moment. Each change of that time is found afterwards.
    network.cut()
    world.transcript("far").wait(r"-- SUSPENDED")
    client.set(f"{world.root}/1", b"new")
    client.delete(f"{world.root}/2")
    client.create(f"{world.root}/5", b"fresh")
    with client.transaction() as change:
        change.delete(f"{world.root}/3")
        change.create(f"{world.root}/3", b"old")
    network.heal()
    expect("changed 1: b'old' -> b'new'", "removed 2: b'old' -> None", "added 5: None -> b'fresh'", "replaced 3: b'old' -> b'old'")
    # Cut off until its session has expired.
    network.cut()
    world.expired(network)
    client.set(f"{world.root}/1", b"newer")
    client.delete(f"{world.root}/4")
    network.heal()
    world.transcript("far").wait(r"-- LOST")
    expect("changed 1: b'new' -> b'newer'", "removed 4: b'old' -> None")
    # By the command line, as in the second terminal.
    world.start("listener", "--set", "0=last", "--delete", "1").ends()
    expect("changed 0: b'old' -> b'last'", "removed 1: b'newer' -> None")
    # Many changes in a row: fewer reports, each of which begins where the one before ended, and never the last one missing.
    for n in range(200):
        client.set(f"{world.root}/5", b"%d" % n)
    reports = {}
    for name in listeners:
        said = world.transcript(name)
        said.wait(r"changed 5: .* -> b'199'")
        states = [match.groups() for match in said.find(r"changed 5: (.*) -> (.*)")]
        assert all(first[1] == second[0] for first, second in zip(states, states[1:])), states
        reports[name] = len(states)
    return (f"8 changes, 6 of them while it was cut off or without a session; 200 in a row in {reports['near']} and "
            f"{reports['far']} reports")
