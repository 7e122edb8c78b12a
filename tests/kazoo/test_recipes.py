"""kazoo's recipes, several clients at once where they are about several clients."""

import threading

import pytest
from kazoo.recipe.cache import TreeCache, TreeEvent

PATIENCE = 30


def other_left(client, path, left):
    """kazoo's stop does not wait for the answer to its close: wait for what others see."""
    changed = threading.Event()
    while len(client.get_children(path, watch=lambda event: changed.set())) > left:
        assert changed.wait(PATIENCE)
        changed.clear()


def spawn(work, *arguments):
    thread = threading.Thread(target=work, args=arguments, daemon=True)
    thread.start()
    return thread


def test_lock_is_exclusive_and_fair(connect):
    inside, order, clients = [], [], [connect() for _ in range(4)]
    guard = threading.Lock()

    def work(n):
        for _ in range(5):
            with clients[n].Lock("/lock", f"c{n}"):
                with guard:
                    inside.append(n)
                    assert len(inside) == 1
                    order.append(n)
                with guard:
                    inside.remove(n)

    threads = [spawn(work, n) for n in range(4)]
    for thread in threads:
        thread.join(PATIENCE)
    assert sorted(order) == sorted([0, 1, 2, 3] * 5)


def test_lock_contenders_and_cancel(connect):
    one, other = connect(), connect()
    held, waiting = one.Lock("/lock", "one"), other.Lock("/lock", "other")
    assert held.acquire(timeout=PATIENCE)
    assert not waiting.acquire(blocking=False)
    thread = spawn(waiting.acquire)
    while len(held.contenders()) < 2:
        pass
    assert held.contenders() == ["one", "other"]
    held.release()
    thread.join(PATIENCE)
    assert waiting.is_acquired
    waiting.release()


def test_lock_passes_on_when_its_owner_is_gone(connect):
    one, other = connect(), connect()
    lock = one.Lock("/lock", "one")
    lock.acquire(timeout=PATIENCE)
    waiting = other.Lock("/lock", "other")
    thread = spawn(waiting.acquire)
    one.stop()
    thread.join(PATIENCE)
    assert waiting.is_acquired


def test_read_and_write_locks(connect):
    readers = [connect() for _ in range(2)]
    writer = connect()
    locks = [client.ReadLock("/rw", "r") for client in readers]
    for lock in locks:
        assert lock.acquire(timeout=PATIENCE)
    write = writer.WriteLock("/rw", "w")
    assert not write.acquire(blocking=False)
    thread = spawn(write.acquire)
    for lock in locks:
        lock.release()
    thread.join(PATIENCE)
    assert write.is_acquired
    assert not readers[0].ReadLock("/rw", "r").acquire(blocking=False)
    write.release()


def test_semaphore(connect):
    clients = [connect() for _ in range(4)]
    inside, most, guard = [0], [0], threading.Lock()

    def work(client):
        for _ in range(3):
            with client.Semaphore("/semaphore", max_leases=2):
                with guard:
                    inside[0] += 1
                    most[0] = max(most[0], inside[0])
                client.exists("/")
                with guard:
                    inside[0] -= 1

    threads = [spawn(work, client) for client in clients]
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert 1 <= most[0] <= 2


def test_election(connect):
    clients = [connect() for _ in range(3)]
    led, done = [], threading.Event()

    def lead(n):
        led.append(n)
        if len(led) == 3:
            done.set()

    threads = [spawn(clients[n].Election("/election", str(n)).run, lead, n) for n in range(3)]
    assert done.wait(PATIENCE)
    for thread in threads:
        thread.join(PATIENCE)
    assert sorted(led) == [0, 1, 2]


def test_queue_keeps_order_and_priority(zk):
    queue = zk.Queue("/queue")
    queue.put(b"second", priority=100)
    queue.put(b"third", priority=200)
    queue.put(b"first", priority=1)
    assert len(queue) == 3
    assert [queue.get(), queue.get(), queue.get(), queue.get()] == [b"first", b"second", b"third", None]


def test_queue_gives_each_element_once(connect):
    clients = [connect() for _ in range(4)]
    clients[0].Queue("/queue").put(b"0")
    for n in range(1, 40):
        clients[0].Queue("/queue").put(b"%d" % n)
    got, guard = [], threading.Lock()

    def work(client):
        queue = client.Queue("/queue")
        while (element := queue.get()) is not None:
            with guard:
                got.append(int(element))

    threads = [spawn(work, client) for client in clients]
    for thread in threads:
        thread.join(PATIENCE)
    assert sorted(got) == list(range(40))


def test_locking_queue(connect):
    one, other = connect(), connect()
    queue = one.LockingQueue("/locking")
    queue.put_all([b"a", b"b"])
    mine, theirs = one.LockingQueue("/locking"), other.LockingQueue("/locking")
    assert mine.get(PATIENCE) == b"a"
    assert theirs.get(PATIENCE) == b"b"
    assert mine.holds_lock() and mine.consume()
    assert theirs.release()
    assert mine.get(PATIENCE) == b"b" and mine.consume()


def test_barrier(connect):
    one, other = connect(), connect()
    barrier = one.Barrier("/barrier")
    barrier.create()
    assert not other.Barrier("/barrier").wait(0.05)
    passed = threading.Event()
    spawn(lambda: other.Barrier("/barrier").wait(PATIENCE) and passed.set())
    barrier.remove()
    assert passed.wait(PATIENCE)


def test_double_barrier(connect):
    clients = [connect() for _ in range(3)]
    events, guard = [], threading.Lock()

    def work(client):
        barrier = client.DoubleBarrier("/double", 3)
        barrier.enter()
        with guard:
            events.append("in")
        barrier.leave()
        with guard:
            events.append("out")

    threads = [spawn(work, client) for client in clients]
    for thread in threads:
        thread.join(PATIENCE)
    assert events.count("in") == events.count("out") == 3


def test_counter(connect):
    clients = [connect() for _ in range(3)]

    def work(client):
        counter = client.Counter("/counter")
        for _ in range(20):
            counter += 1

    threads = [spawn(work, client) for client in clients]
    for thread in threads:
        thread.join(PATIENCE)
    assert clients[0].Counter("/counter").value == 60


def test_counter_of_floats(zk):
    counter = zk.Counter("/counter", default=1.0)
    counter += 2.5
    counter -= 1.0
    assert counter.value == 2.5


def test_party(connect):
    one, other = connect(), connect()
    parties = [one.Party("/party", "one"), other.Party("/party", "other")]
    for party in parties:
        party.join()
    assert sorted(parties[0]) == ["one", "other"]
    other.stop()
    other_left(one, "/party", 1)
    assert list(parties[0]) == ["one"]


def test_shallow_party(zk):
    party = zk.ShallowParty("/shallow", "me")
    party.join()
    assert list(party) == ["me"]
    party.leave()
    assert len(party) == 0


def test_data_watch(connect):
    one, other = connect(), connect()
    seen, changed = [], threading.Condition()

    @one.DataWatch("/data")
    def watch(data, stat):
        with changed:
            seen.append((data, stat and stat.version))
            changed.notify()

    def wait_for(value):
        with changed:
            assert changed.wait_for(lambda: seen[-1] == value, PATIENCE), seen

    wait_for((None, None))
    other.create("/data", b"1")
    wait_for((b"1", 0))
    other.set("/data", b"2")
    wait_for((b"2", 1))
    other.delete("/data")
    wait_for((None, None))


def test_children_watch(connect):
    one, other = connect(), connect()
    one.ensure_path("/parent")
    seen, changed = [], threading.Condition()

    @one.ChildrenWatch("/parent")
    def watch(children):
        with changed:
            seen.append(sorted(children))
            changed.notify()

    def wait_for(value):
        with changed:
            assert changed.wait_for(lambda: seen[-1] == value, PATIENCE), seen

    wait_for([])
    other.create("/parent/a")
    wait_for(["a"])
    other.create("/parent/b")
    wait_for(["a", "b"])
    other.delete("/parent/a")
    wait_for(["b"])


def test_tree_cache(connect):
    one, other = connect(), connect()
    one.ensure_path("/tree/below")
    cache = TreeCache(one, "/tree")
    events, changed = [], threading.Condition()

    def listen(event):
        with changed:
            events.append((event.event_type, event.event_data and event.event_data.path))
            changed.notify()

    def wait_for(value):
        with changed:
            assert changed.wait_for(lambda: value in events, PATIENCE), events

    cache.listen(listen)
    cache.start()
    wait_for((TreeEvent.INITIALIZED, None))
    other.create("/tree/below/leaf", b"x")
    wait_for((TreeEvent.NODE_ADDED, "/tree/below/leaf"))
    other.set("/tree/below/leaf", b"y")
    wait_for((TreeEvent.NODE_UPDATED, "/tree/below/leaf"))
    assert cache.get_data("/tree/below/leaf").data == b"y"
    other.delete("/tree", recursive=True)
    wait_for((TreeEvent.NODE_REMOVED, "/tree/below/leaf"))
    cache.close()


def test_lease(connect):
    import datetime
    one, other = connect(), connect()
    hour = datetime.timedelta(hours=1)
    assert one.NonBlockingLease("/lease", hour, identifier="one")
    assert not other.NonBlockingLease("/lease", hour, identifier="other")


def test_partitioner(connect):
    one = connect()
    partitioner = one.SetPartitioner("/partition", ("a", "b", "c"), time_boundary=0.1)
    for _ in range(300):
        if partitioner.acquired:
            break
        partitioner.wait_for_acquire(0.1)
    assert sorted(partitioner) == ["a", "b", "c"]
    partitioner.finish()


@pytest.mark.parametrize("clients", [16])
def test_sixteen_clients_at_once(connect, clients):
    members = [connect() for _ in range(clients)]
    members[0].ensure_path("/mixed")
    acknowledged, failures, guard = [], [], threading.Lock()

    def work(n):
        client, mine = members[n], []
        try:
            for i in range(60):
                path = client.create(f"/mixed/{n}-", b"%d" % i, sequence=True, ephemeral=i % 2 == 0)
                client.set(path, b"set %d" % i)
                transaction = client.transaction()
                transaction.check(path, 1)
                transaction.set_data(path, b"multi %d" % i)
                results = transaction.commit()
                assert results[0] is True and results[1].version == 2, results
                assert client.get(path)[0] == b"multi %d" % i
                if i % 3 == 0:
                    client.delete(path, version=2)
                else:
                    mine.append((path, b"multi %d" % i))
        except BaseException as e:
            failures.append(repr(e))
        with guard:
            acknowledged.extend(mine)

    threads = [spawn(work, n) for n in range(clients)]
    for thread in threads:
        thread.join(60)
    assert not failures, failures
    members[0].sync("/mixed")
    assert sorted(members[0].get_children("/mixed")) == sorted(path.rsplit("/", 1)[1] for path, _ in acknowledged)
    numbers = [path[-10:] for path, _ in acknowledged]
    assert len(set(numbers)) == len(numbers)
    for path, data in acknowledged:
        assert members[0].get(path)[0] == data
