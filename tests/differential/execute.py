"""A program on both servers, step by step.

Nothing runs beside a step: when it has been answered, every other connection of the program is asked for a mark, so
that the events which the step has caused are all there and belong to it. Both servers work at the same time; what
they say is compared before the next step."""

import struct
import time

import canonical
import compare
import wire
from canonical import Group
from compare import Difference, Said
from explained import TABLE
from program import Request, Step
from servers import TICK, TIMEOUT_MAX
from sides import OBSERVER, Side

# Seconds for which a connection is watched whose end would be a surprise, and one that has to end.
LINGER_S, LINGER_LONGER_S = 0.02, 2.0
# Seconds that an answer may take which need not come.
UNSURE_S = 0.3
# Seconds in which a session must have expired, a node been reaped.
DEADLINE_S = 20.0
# Paths whose state outlives a program.
SHARED = ("/", "/zookeeper", "/zookeeper/quota", "/zookeeper/config")
OPEN = [(31, "world", "anyone")]
# Requests of the observer in one write.
WALK = 60


class Found(Exception):
    """A difference that nothing explains."""

    def __init__(self, difference):
        super().__init__(difference.what)
        self.difference = difference


class Ended(Exception):
    """An explained difference after which the trees are not the same."""


class Executor:
    """Runs programs on one pair of servers. `is_super`: the observer is a super user."""

    def __init__(self, servers, coverage, is_super=True):
        self.servers, self.coverage, self.is_super = servers, coverage, is_super
        self.rows = {}
        self.operations = 0
        self.begin_anew()

    def begin_anew(self):
        """With both servers as they are after a start with empty data."""
        self.alignment = canonical.Alignment()
        self.expansions = []
        self.views = (canonical.View(self.alignment.ours, self.expansions), canonical.View(expansions=self.expansions))
        self.judge = compare.Judge(self.servers.config, self.views, self.alignment, TABLE)
        alignment = self.alignment
        self.sides = [Side("apache", self.servers.apache, before=lambda zxid: alignment.apache(alignment.ours(zxid) - 1)),
                      Side("ours", self.servers.ours)]
        self.named = 0
        self.is_dirty = False
        for side in self.sides:
            side.observe(self.is_super)
            side.mark()

    def close(self):
        for side in self.sides:
            side.close()

    # A program.

    def run(self, program):
        """The first difference that nothing explains, or None."""
        self.program, self.root, self.lines, self.at = program, program.root(), [], -1
        self.make_equal()
        self.xids, self.identities, self.causes, self.may_move = {}, {}, {}, 0
        # Slots whose connection was dropped by the client, and those that were attached again right behind that.
        self.dropped, self.overtaking = set(), set()
        self.expansions.clear()
        self.judge.earlier.clear()
        for side in self.sides:
            side.forget()
        try:
            self.observe([Request("create", {"path": "~", "data": b"", "acl": OPEN, "flags": 0})])
            for side in self.sides:
                side.start = side.mark()
            for self.at, step in enumerate(program.steps):
                getattr(self, f"do_{step.do}")(step)
                self.operations += len(step.requests)
            self.finish()
            return None
        except Found as found:
            found.difference.step, found.difference.lines = self.at, self.lines
            self.clean()
            return found.difference
        except Ended:
            self.clean()
            return None
        except (OSError, RuntimeError, AssertionError, wire.zk.Closed) as e:
            self.is_dirty = None
            return Difference(f"broken: {type(e).__name__}", str(e), self.died(), self.at, self.lines)

    def died(self):
        ends = [f"{one.name}: {one.server.process.poll()}" for one in self.sides]
        return f"exit codes {', '.join(ends)}"

    def clean(self):
        """After a difference: each server for itself."""
        try:
            for side in self.sides:
                side.sweep(self.root)
            self.is_dirty = True
        except (OSError, RuntimeError, wire.zk.Closed, AssertionError):
            self.is_dirty = None

    def make_equal(self):
        """What a difference has left behind: zxids are aligned anew, and where more is left the servers begin with
        empty data. `is_dirty` is None if not even the servers are sure to live."""
        if self.is_dirty is False:
            return
        if self.is_dirty:
            self.alignment.moved(*(side.mark() for side in self.sides))
            self.is_dirty = False
            # The newest change of the shared parents is one behind the alignment.
            for parent in ("", "/zookeeper/quota"):
                self.ask_observers([Request("create", {"path": f"{parent}/again", "data": b"", "acl": OPEN, "flags": 0}),
                                    Request("delete", {"path": f"{parent}/again", "version": -1})])
            requests = [Request("getData", {"path": path, "watch": 0}) for path in SHARED]
            said = zip(self.ask_observers(requests), self.views)
            keys = [[canonical.group(part, view).key() for part in canonical.split(one.frames, requests)[0]] for one, view in said]
            if keys[0] == keys[1]:
                return
        self.close()
        self.servers.fresh()
        self.begin_anew()

    def finish(self):
        """Every session is closed, the tree compared, and removed."""
        self.at = len(self.program.steps)
        for slot in sorted(self.sides[0].sessions, key=str):
            self.end_session(slot)
        nodes = ["~", "/zookeeper/quota~"]
        self.observe([Request("getChildren2", {"path": path, "watch": 0}) for path in SHARED])
        level = nodes
        while level:
            children = []
            for n in range(0, len(level), WALK // 3):
                part = level[n:n + WALK // 3]
                asked = [Request(op, {"path": path, "watch": 0}) for path in part for op in ("getChildren2", "getData", "getACL")]
                groups = self.observe(asked)
                for path, group in zip(part, groups[::3]):
                    if group.err() == 0:
                        children += [f"{path}/{name.decode()}" for name in group.reply.body[0]]
            nodes, level = nodes + children, children
        for n in range(0, len(nodes), WALK):
            part = list(reversed(nodes))[n:n + WALK]
            self.observe([Request("delete", {"path": path, "version": -1}) for path in part])

    def end_session(self, slot):
        """Of a session that lives: closed, on a connection of its own if it has none. One that were left would expire in the
        middle of another program."""
        self.do_reattach(Step("reattach", slot, {"session": "own", "timeout": TIMEOUT_MAX, "readOnly": 0}), only_if_needed=True)
        self.do_send(Step("send", slot, {}, (Request("closeSession"),)))

    # What both have said.

    def settle(self, slot, requests, said, is_ending=False, may_move=0, cause=None):
        out = self.judge.compare(tuple(requests), *said, is_ending=is_ending, may_move=may_move)
        self.lines += [(self.at, slot, *line) for line in out.lines]
        for row in out.rows:
            self.rows[row] = self.rows.get(row, 0) + 1
        if slot != OBSERVER:
            self.coverage.saw(self.servers.config, out, self.sides[0].newest, self.causes, cause)
        if out.difference:
            raise Found(out.difference)
        if out.must_end:
            raise Ended()
        self.may_move = max(self.may_move, out.may_move)
        if slot in self.sides[0].links:
            for side, one in zip(self.sides, said):
                mark = canonical.split(one.frames[-1:], ())[2] if one.frames else None
                side.latest[slot] = side.latest.get(slot, side.start) if mark is None else mark
            if out.must_drop or said[0].is_closed:
                for side in self.sides:
                    side.end_link(slot)
        return out

    def differ(self, what, apache, ours):
        self.lines.append((self.at, None, None, apache, ours))
        raise Found(Difference(what, apache, ours))

    def ask_observers(self, requests):
        for side in self.sides:
            frames = b"".join(wire.frame(request, n + 1, self.root, None) for n, request in enumerate(requests))
            side.observer.send(frames + wire.MARK)
        return [self.until_mark(side.observer) for side in self.sides]

    def observe(self, requests):
        """Requests of the observers; Apache's groups."""
        return self.settle(OBSERVER, requests, self.ask_observers(requests)).groups

    @staticmethod
    def until_mark(link):
        frames, is_whole = link.gather(wire.is_mark)
        return Said(frames, link.is_closed, not is_whole and not link.is_closed)

    def others(self, slot, is_ending=False, cause=None):
        """Marks of everybody else, the observer's first: it says where both servers are."""
        for side in self.sides:
            for link in [side.observer, *(link for other, link in side.links.items() if other != slot)]:
                link.send(wire.MARK)
        said = [self.until_mark(side.observer) for side in self.sides]
        if not all(one.frames for one in said):
            raise ConnectionError("an observer gets no answer")
        self.settle(OBSERVER, (), said, may_move=self.may_move)
        self.may_move = 0
        for side, one in zip(self.sides, said):
            (side.newest,) = struct.unpack_from(">q", one.frames[-1], 4)
        for other in [other for other in self.sides[0].links if other != slot]:
            said = [self.until_mark(side.links[other]) for side in self.sides]
            self.settle(other, (), said, is_ending=is_ending, cause=cause)

    # Steps with requests.

    def do_send(self, step):
        batch = []
        for request in step.requests:
            is_first_auth = request.op == "auth" and not batch and is_sure_auth(request)
            if request.is_alone() and not is_first_auth:
                self.send_batch(step.slot, batch)
                self.send_alone(step.slot, request)
                batch = []
            else:
                batch.append(request)
        self.send_batch(step.slot, batch)

    def frames(self, side, slot, requests, xids):
        return b"".join(wire.frame(request, xid, self.root, lambda name: side.zxid(slot, name))
                        for request, xid in zip(requests, xids))

    def numbered(self, slot, requests):
        """An xid for each, and what their `auth` entries will become."""
        xids = []
        for request in requests:
            if request.xid is None:
                self.xids[slot] = self.xids.get(slot, 0) + 1
            xids.append(self.xids[slot] if request.xid is None else request.xid)
            known = self.identities.setdefault(slot, set())
            if request.op == "auth" and is_sure_auth(request):
                known.add(wire.digest(request.args["auth"]))
            for _, args in request.args.get("ops", [(request.op, request.args)]):
                for expansion in canonical.expansions_of(args.get("acl"), known):
                    if expansion not in self.expansions:
                        self.expansions.append(expansion)
        return xids

    def send_batch(self, slot, batch):
        if not batch or slot not in self.sides[0].links:
            return
        xids = self.numbered(slot, batch)
        for side in self.sides:
            side.links[slot].send(self.frames(side, slot, batch, xids) + wire.MARK)
        self.settle(slot, batch, [self.until_mark(side.links[slot]) for side in self.sides])
        self.others(slot)

    def send_alone(self, slot, request):
        if slot not in self.sides[0].links:
            return
        xids = self.numbered(slot, [request])
        self.alone(slot, request, [self.frames(side, slot, [request], xids) for side in self.sides])

    def alone(self, slot, request, data):
        """A request that may end the connection. `data`: what is still to be sent of it to each server."""
        is_ending = request.op == "closeSession"
        said = self.watch_the_end([side.links[slot] for side in self.sides], data, wire.PATIENCE_S, is_ending)
        out = self.settle(slot, [request], said, is_ending=is_ending)
        if is_ending and out.groups[0].err() == 0:
            for side in self.sides:
                side.sessions[slot] = None
        self.others(slot, is_ending=is_ending, cause=request.op)

    def do_frame(self, step):
        if step.slot not in self.sides[0].links:
            return
        links = [side.links[step.slot] for side in self.sides]
        said = self.watch_the_end(links, [step.args["data"]] * 2, UNSURE_S)
        self.settle(step.slot, (Request("frame", step.args),), said)
        self.others(step.slot)

    @staticmethod
    def watch_the_end(links, data, seconds, is_end=False):
        """What is said to something that may end the connection, or must: a mark is asked for only when it lives on."""
        for link, one in zip(links, data):
            link.send(one)
        gathered = [link.gather(wire.is_reply, seconds)[0] for link in links]
        for link, frames in zip(links, gathered):
            if is_end or not frames or wire.is_last(frames[-1]):
                link.ends(LINGER_LONGER_S)
            elif not wire.is_success(frames[-1]):
                link.ends(LINGER_S)
        for link in links:
            link.send(b"" if link.is_closed else wire.MARK)
        said = []
        for link, frames in zip(links, gathered):
            more, is_whole = link.gather(wire.is_mark)
            said.append((frames + more, is_whole))
        return [Said(frames, link.is_closed, not is_whole and not link.is_closed) for link, (frames, is_whole) in zip(links, said)]

    # Steps of connections and sessions.

    def do_connect(self, step):
        if step.slot not in self.sides[0].links:
            self.end_session(step.slot)
            self.attach(step, {**step.args, "session": "new"}, is_piped=True)

    def do_reattach(self, step, only_if_needed=False):
        if not self.sides[0].sessions.get(step.slot) or only_if_needed and step.slot in self.sides[0].links:
            return
        self.attach(step, step.args, is_piped=step.args.get("piped", False))

    def attach(self, step, args, is_piped):
        slot = step.slot
        old = [side.links.pop(slot, None) for side in self.sides]
        has_overtaken = slot in self.overtaking
        self.overtaking = self.overtaking - {slot} | self.dropped & {slot}
        self.dropped = self.dropped - {slot}
        for side in self.sides:
            side.seen[slot] = side.latest.get(slot, side.start)
        kept = self.xids.pop(slot, 0), self.identities.pop(slot, set())
        links = [side.link() for side in self.sides]
        xids = self.numbered(slot, step.requests) if is_piped else []
        for side, link in zip(self.sides, links):
            payload = side.handshake(slot, args)
            more = self.frames(side, slot, step.requests, xids) + wire.MARK if is_piped else b""
            link.send(struct.pack(">i", len(payload)) + payload + more)
        heads = [link.gather(lambda _: True)[0][:1] for link in links]
        is_alive = self.introduced(slot, step, heads)
        if is_alive:
            for side, link in zip(self.sides, links):
                side.links[slot] = link
                # A new session has taken one.
                side.newest += args.get("session", "new") == "new"
                if not is_piped:
                    link.send(wire.MARK)
            self.settle(slot, step.requests if is_piped else (), [self.until_mark(link) for link in links])
        else:
            ended = [link.ends(LINGER_LONGER_S) for link in links]
            if ended[0] != ended[1]:
                self.differ("a refused connection", *(f"closed: {one}" for one in ended))
            if heads[0] and args.get("session") == "own" and args.get("password", "right") == "right":
                for side in self.sides:
                    side.sessions[slot] = None
        if old[0]:
            self.see_to_the_old(slot, old, is_alive, {**args, "has_overtaken": has_overtaken}, kept)
        self.others(slot if is_alive else None)
        if is_alive and not is_piped and step.requests:
            self.do_send(step)

    def introduced(self, slot, step, heads):
        """Compares the answers to a ConnectRequest. Whether the session lives."""
        ids = [session_in(head) for head in heads]
        if all(ids) and not any(one in view.sessions for one, view in zip(ids, self.views)):
            self.named += 1
            for one, view in zip(ids, self.views):
                view.sessions[one] = f"session {self.named}"
        said = [canonical.connected(head[0], view) if head else ("no answer",) for head, view in zip(heads, self.views)]
        for side, one, head in zip(self.sides, ids, heads):
            if one:
                side.sessions[slot] = one, wire.zk.read_buf(head[0], 16)[0]
        self.lines.append((self.at, slot, step, *map(str, said)))
        if said[0] != said[1]:
            raise Found(Difference(f"{step.do}: the answer", *map(str, said)))
        return bool(ids[0])

    def see_to_the_old(self, slot, old, is_alive, args, kept):
        """The connection that held the session before."""
        ended = [link.ends(LINGER_LONGER_S if is_alive else LINGER_S) for link in old]
        if ended[0] != ended[1]:
            ended = [link.ends(UNSURE_S) for link in old]
        if ended[0] != ended[1]:
            a, b = (Group(None, [], canonical.Reply(0, 0, 0, "closed" if one else "open", ())) for one in ended)
            is_wrong = args.get("password", "right") != "right"
            request = Request("wrongPassword" if is_wrong else "attach", args)
            row = next((row for row in TABLE if row.explains(self.servers.config, (request,), 0, a, b)), None)
            if row is None:
                self.differ("the connection that held the session", *(one.err() for one in (a, b)))
            self.rows[row.name] = self.rows.get(row.name, 0) + 1
            ended = [True, True]
        if ended[0]:
            for link in old:
                link.close()
        elif not is_alive:
            self.xids[slot], self.identities[slot] = kept
            for side, link in zip(self.sides, old):
                side.links[slot] = link
        else:
            self.differ("the connection that held the session", "open", "open, although another one holds it now")

    def do_drop(self, step):
        self.dropped = self.dropped | {step.slot}
        for side in self.sides:
            side.end_link(step.slot, step.args.get("reset", False))

    def do_handshake(self, step):
        """Raw bytes on a new connection. A session that comes of them is closed at once."""
        links = [side.link() for side in self.sides]
        for link in links:
            link.send(step.args["data"])
        slot, closing, heads = ("handshake", self.at), Request("closeSession"), []
        xids = self.numbered(slot, [closing])
        for side, link in zip(self.sides, links):
            heads.append(link.gather(lambda _: True, 1.0)[0][:1])
            if session_in(heads[-1]):
                # Before anything else: its timeout may be the shortest that there is.
                link.send(self.frames(side, slot, [closing], xids))
        if self.introduced(slot, step, heads):
            for side, link in zip(self.sides, links):
                side.links[slot] = link
            self.alone(slot, closing, [b"", b""])
            return
        ended = [link.ends(UNSURE_S) for link in links]
        if ended[0] != ended[1]:
            ended = [link.ends(LINGER_LONGER_S) for link in links]
        for link in links:
            link.close()
        if ended[0] != ended[1]:
            self.differ("handshake: the end", *(f"closed: {one}" for one in ended))
        self.others(None)

    # Steps of the servers.

    def until_newer(self, what, by=1):
        """Waits until each server has taken so many zxids."""
        until = time.monotonic() + DEADLINE_S
        for side in self.sides:
            before = side.newest
            while side.mark() < before + by:
                if time.monotonic() > until:
                    self.differ(what, *("did not happen" if one is side else "happened, or was not waited for" for one in self.sides))
                time.sleep(0.02)
            side.newest = before

    def do_expire(self, step):
        if not self.sides[0].sessions.get(step.slot):
            return
        for side in self.sides:
            side.end_link(step.slot)
        self.others(None)
        how = {"session": "own", "timeout": TICK, "readOnly": 0}
        # No mark is asked for behind it, so that nothing but the clock counts.
        links = [side.link() for side in self.sides]
        for side, link in zip(self.sides, links):
            payload = side.handshake(step.slot, how)
            link.send(struct.pack(">i", len(payload)) + payload)
        heads = [link.gather(lambda _: True)[0][:1] for link in links]
        if self.introduced(step.slot, step, heads):
            if not step.args.get("open"):
                for link in links:
                    link.close()
            self.until_newer("the expiry of a session")
            if step.args.get("open"):
                said = [Said(link.whole_frames(), link.ends(LINGER_LONGER_S)) for link in links]
                self.settle(None, (), said, is_ending=True)
        for side, link in zip(self.sides, links):
            link.close()
            side.sessions[step.slot] = None
        self.others(None, is_ending=True, cause="expire")

    def do_reap(self, step):
        """The requests, and what the server does by itself because of them: together they take `zxids`."""
        slot = step.slot
        if slot not in self.sides[0].links:
            return
        xids = self.numbered(slot, step.requests)
        for side in self.sides:
            side.links[slot].send(self.frames(side, slot, step.requests, xids))
        self.until_newer("the end of a container or TTL node", step.args["zxids"])
        for side in self.sides:
            side.links[slot].send(wire.MARK)
        self.settle(slot, step.requests, [self.until_mark(side.links[slot]) for side in self.sides], cause="reap")
        self.others(slot, cause="reap")

    def do_restart(self, _):
        for side in self.sides:
            for slot in list(side.links):
                side.end_link(slot)
        self.xids, self.identities = {}, {}
        self.servers.restart()
        for side in self.sides:
            side.observer.close()
            side.observe(self.is_super)
        self.others(None)


def session_in(head):
    """The session that the first frame of a connection, if it came, gives; 0 is none."""
    return struct.unpack_from(">iiq", head[0])[2] if head and len(head[0]) >= 36 else 0


def is_sure_auth(request):
    """Whether every server accepts it."""
    return request.args["scheme"] == "digest" and request.args["auth"] is not None and request.bend is None
