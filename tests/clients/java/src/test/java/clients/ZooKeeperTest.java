package clients;

import static org.apache.zookeeper.CreateMode.CONTAINER;
import static org.apache.zookeeper.CreateMode.EPHEMERAL;
import static org.apache.zookeeper.CreateMode.PERSISTENT;
import static org.apache.zookeeper.CreateMode.PERSISTENT_SEQUENTIAL;
import static org.apache.zookeeper.CreateMode.PERSISTENT_WITH_TTL;
import static org.apache.zookeeper.ZooDefs.Ids.CREATOR_ALL_ACL;
import static org.apache.zookeeper.ZooDefs.Ids.OPEN_ACL_UNSAFE;
import static org.apache.zookeeper.ZooDefs.Ids.READ_ACL_UNSAFE;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.stream.Collectors;
import org.apache.zookeeper.AddWatchMode;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.KeeperException.Code;
import org.apache.zookeeper.Op;
import org.apache.zookeeper.OpResult;
import org.apache.zookeeper.Watcher.Event.KeeperState;
import org.apache.zookeeper.Watcher.WatcherType;
import org.apache.zookeeper.ZooKeeper;
import org.apache.zookeeper.admin.ZooKeeperAdmin;
import org.apache.zookeeper.data.ACL;
import org.apache.zookeeper.data.ClientInfo;
import org.apache.zookeeper.data.Stat;
import org.junit.jupiter.api.Test;

/** Apache's own client, without recipes. */
class ZooKeeperTest extends Recipe {
    @Test
    void aNodeFromCreateToDelete() throws Exception {
        ZooKeeper zk = client();
        Stat created = new Stat();
        assertEquals("/a", zk.create("/a", bytes("one"), OPEN_ACL_UNSAFE, PERSISTENT, created));
        Stat read = new Stat();
        assertEquals("one", text(zk.getData("/a", false, read)));
        assertEquals(created, read);
        Stat changed = zk.setData("/a", bytes("two!"), 0);
        assertEquals(List.of(1, 4), List.of(changed.getVersion(), changed.getDataLength()));
        assertTrue(changed.getMzxid() > created.getMzxid());
        assertEquals(changed, zk.exists("/a", false));
        zk.setData("/a", null, -1);
        assertNull(zk.getData("/a", false, null));
        assertThrows(KeeperException.BadVersionException.class, () -> zk.delete("/a", 1));
        zk.delete("/a", 2);
        assertNull(zk.exists("/a", false));
    }

    @Test
    void everyRefusalHasItsException() throws Exception {
        ZooKeeper zk = client();
        zk.create("/r", null, OPEN_ACL_UNSAFE, PERSISTENT);
        zk.create("/r/e", null, OPEN_ACL_UNSAFE, EPHEMERAL);
        assertThrows(KeeperException.NodeExistsException.class, () -> zk.create("/r", null, OPEN_ACL_UNSAFE, PERSISTENT));
        assertThrows(KeeperException.NoNodeException.class, () -> zk.create("/none/a", null, OPEN_ACL_UNSAFE, PERSISTENT));
        assertThrows(KeeperException.NoChildrenForEphemeralsException.class,
                () -> zk.create("/r/e/a", null, OPEN_ACL_UNSAFE, PERSISTENT));
        assertThrows(KeeperException.InvalidACLException.class, () -> zk.create("/r/c", null, CREATOR_ALL_ACL, PERSISTENT));
        assertThrows(KeeperException.NotEmptyException.class, () -> zk.delete("/r", -1));
        assertThrows(KeeperException.NoNodeException.class, () -> zk.getChildren("/none", false));
        assertThrows(KeeperException.NoWatcherException.class,
                () -> zk.removeWatches("/r", new Events(), WatcherType.Any, false));
        try (ZooKeeperAdmin admin = new ZooKeeperAdmin(server.hosts(), SESSION_MS, new States())) {
            admin.addAuthInfo("digest", bytes("super:secret"));
            assertThrows(KeeperException.ReconfigDisabledException.class,
                    () -> admin.reconfigure(null, null, "server.1=localhost:1:2;3", -1, new Stat()));
        }
    }

    @Test
    void childrenAreCountedAndNumbered() throws Exception {
        ZooKeeper zk = client();
        zk.create("/q", null, OPEN_ACL_UNSAFE, PERSISTENT);
        for (int n = 0; n < 3; n++) {
            String made = zk.create("/q/n-", null, OPEN_ACL_UNSAFE, PERSISTENT_SEQUENTIAL);
            assertEquals(String.format("/q/n-%010d", n), made);
        }
        zk.delete("/q/n-0000000001", -1);
        zk.create("/q/n-0000000002/e", null, OPEN_ACL_UNSAFE, EPHEMERAL);
        Stat stat = new Stat();
        List<String> children = zk.getChildren("/q", false, stat);
        Collections.sort(children);
        assertEquals(List.of("n-0000000000", "n-0000000002"), children);
        assertEquals(List.of(2, 4), List.of(stat.getNumChildren(), stat.getCversion()));
        assertEquals(3, zk.getAllChildrenNumber("/q"));
        assertEquals(List.of("/q/n-0000000002/e"), zk.getEphemerals("/q"));
        assertEquals(List.of("/q/n-0000000002/e"), zk.getEphemerals());
    }

    @Test
    void aMultiIsWholeOrNothing() throws Exception {
        ZooKeeper zk = client();
        zk.create("/m", null, OPEN_ACL_UNSAFE, PERSISTENT);
        List<OpResult> results = zk.multi(List.of(
                Op.check("/m", 0),
                Op.create("/m/a", bytes("x"), OPEN_ACL_UNSAFE, PERSISTENT),
                Op.create("/m/n-", null, OPEN_ACL_UNSAFE, PERSISTENT_SEQUENTIAL),
                Op.setData("/m/a", bytes("y"), 0),
                Op.delete("/m/n-0000000001", 0)));
        assertEquals(List.of("/m/a", "/m/n-0000000001"), results.stream()
                .filter(result -> result instanceof OpResult.CreateResult)
                .map(result -> ((OpResult.CreateResult) result).getPath())
                .collect(Collectors.toList()));
        assertEquals(1, ((OpResult.SetDataResult) results.get(3)).getStat().getVersion());
        KeeperException refused = assertThrows(KeeperException.BadVersionException.class, () -> zk.multi(List.of(
                Op.create("/m/b", null, OPEN_ACL_UNSAFE, PERSISTENT),
                Op.setData("/m/a", bytes("z"), 7),
                Op.delete("/m/a", -1))));
        List<Integer> errors = refused.getResults().stream()
                .map(result -> ((OpResult.ErrorResult) result).getErr())
                .collect(Collectors.toList());
        assertEquals(List.of(0, Code.BADVERSION.intValue(), Code.RUNTIMEINCONSISTENCY.intValue()), errors);
        assertNull(zk.exists("/m/b", false));
        List<OpResult> read = zk.multi(List.of(Op.getData("/m/a"), Op.getChildren("/m"), Op.getData("/m/b")));
        assertEquals("y", text(((OpResult.GetDataResult) read.get(0)).getData()));
        assertEquals(List.of("a"), ((OpResult.GetChildrenResult) read.get(1)).getChildren());
        assertEquals(Code.NONODE.intValue(), ((OpResult.ErrorResult) read.get(2)).getErr());
    }

    @Test
    void pipelinedRequestsAreAnsweredInOrder() throws Exception {
        ZooKeeper zk = client();
        zk.create("/p", null, OPEN_ACL_UNSAFE, PERSISTENT);
        BlockingQueue<String> came = new LinkedBlockingQueue<>();
        List<String> due = new ArrayList<>();
        for (int n = 0; n < 300; n++) {
            zk.setData("/p", bytes("data " + n), -1, (rc, path, ctx, stat) -> came.add("version " + stat.getVersion()), null);
            zk.getData("/p", false, (rc, path, ctx, data, stat) -> came.add(text(data)), null);
            due.addAll(List.of("version " + (n + 1), "data " + n));
        }
        for (String expected : due) {
            assertEquals(expected, next(came));
        }
    }

    @Test
    void dataOfNearlyOneMegabyteComesBack() throws Exception {
        ZooKeeper zk = client();
        byte[] data = new byte[1_000_000];
        for (int at = 0; at < data.length; at++) {
            data[at] = (byte) (at * 31);
        }
        zk.create("/large", data, OPEN_ACL_UNSAFE, PERSISTENT);
        assertArrayEquals(data, zk.getData("/large", false, null));
    }

    @Test
    void listsOfAccessBind() throws Exception {
        ZooKeeper owner = client();
        ZooKeeper stranger = client();
        owner.addAuthInfo("digest", bytes("owner:secret"));
        owner.create("/acl", bytes("x"), CREATOR_ALL_ACL, PERSISTENT);
        List<ACL> stored = owner.getACL("/acl", null);
        assertEquals("digest", stored.get(0).getId().getScheme());
        assertTrue(stored.get(0).getId().getId().startsWith("owner:"));
        assertThrows(KeeperException.NoAuthException.class, () -> stranger.getData("/acl", false, null));
        assertThrows(KeeperException.NoAuthException.class, () -> stranger.setACL("/acl", OPEN_ACL_UNSAFE, -1));
        List<String> known = owner.whoAmI().stream().map(ClientInfo::getAuthScheme).sorted().collect(Collectors.toList());
        assertEquals(List.of("digest", "ip"), known);
        assertTrue(owner.whoAmI().contains(new ClientInfo("digest", "owner")));
        assertEquals(1, owner.setACL("/acl", READ_ACL_UNSAFE, 0).getAversion());
        assertEquals("x", text(stranger.getData("/acl", false, null)));
        assertThrows(KeeperException.NoAuthException.class, () -> owner.setData("/acl", null, -1));
        ZooKeeper root = client();
        root.addAuthInfo("digest", bytes("super:secret"));
        root.setData("/acl", bytes("of the super user"), -1);
    }

    @Test
    void containersAndNodesWithATimeGo() throws Exception {
        ZooKeeper zk = client();
        Events events = new Events();
        zk.create("/container", null, OPEN_ACL_UNSAFE, CONTAINER);
        zk.create("/container/child", null, OPEN_ACL_UNSAFE, PERSISTENT);
        zk.create("/later", null, OPEN_ACL_UNSAFE, PERSISTENT_WITH_TTL, new Stat(), 1L << 38);
        zk.create("/soon", null, OPEN_ACL_UNSAFE, PERSISTENT_WITH_TTL, new Stat(), 1_000);
        if (zk.exists("/soon", events) != null) {
            assertEquals("NodeDeleted /soon", events.next());
        }
        assertNotNull(zk.exists("/container", events));
        zk.delete("/container/child", -1);
        assertEquals("NodeDeleted /container", events.next());
        assertNotNull(zk.exists("/later", false));
    }

    @Test
    void watchesFireOnce() throws Exception {
        ZooKeeper zk = client();
        ZooKeeper other = client();
        Events created = new Events();
        assertNull(zk.exists("/w", created));
        other.create("/w", null, OPEN_ACL_UNSAFE, PERSISTENT);
        assertEquals("NodeCreated /w", created.next());
        Events data = new Events();
        Events children = new Events();
        zk.getData("/w", data, null);
        zk.getChildren("/w", children);
        other.setData("/w", null, -1);
        other.setData("/w", null, -1);
        other.create("/w/c", null, OPEN_ACL_UNSAFE, PERSISTENT);
        other.delete("/w/c", -1);
        other.delete("/w", -1);
        assertEquals("NodeDataChanged /w", data.next());
        assertEquals("NodeChildrenChanged /w", children.next());
        // What was sent before the answer to this has come.
        assertNull(zk.exists("/w", false));
        assertTrue(created.isEmpty() && data.isEmpty() && children.isEmpty());
    }

    @Test
    void watchesThatLastFireUntilTheyAreRemoved() throws Exception {
        ZooKeeper zk = client();
        ZooKeeper other = client();
        other.create("/l", null, OPEN_ACL_UNSAFE, PERSISTENT);
        Events here = new Events();
        Events below = new Events();
        zk.addWatch("/l", here, AddWatchMode.PERSISTENT);
        zk.addWatch("/l", below, AddWatchMode.PERSISTENT_RECURSIVE);
        for (int n = 0; n < 2; n++) {
            other.create("/l/a", null, OPEN_ACL_UNSAFE, PERSISTENT);
            other.setData("/l/a", null, -1);
            other.delete("/l/a", -1);
            other.setData("/l", null, -1);
            for (String due : List.of("NodeCreated /l/a", "NodeDataChanged /l/a", "NodeDeleted /l/a", "NodeDataChanged /l")) {
                assertEquals(due, below.next());
            }
            for (String due : List.of("NodeChildrenChanged /l", "NodeChildrenChanged /l", "NodeDataChanged /l")) {
                assertEquals(due, here.next());
            }
        }
        zk.removeWatches("/l", here, WatcherType.Persistent, false);
        assertEquals("PersistentWatchRemoved /l", here.next());
        other.setData("/l", null, -1);
        assertEquals("NodeDataChanged /l", below.next());
        zk.removeAllWatches("/l", WatcherType.Any, false);
        assertEquals("PersistentWatchRemoved /l", below.next());
        other.setData("/l", null, -1);
        zk.sync("/l");
        assertTrue(here.isEmpty() && below.isEmpty());
    }

    @Test
    void aMultiFiresAllOfItsEventsInTheirOrder() throws Exception {
        ZooKeeper zk = client();
        ZooKeeper other = client();
        zk.create("/events", null, OPEN_ACL_UNSAFE, PERSISTENT);
        Events events = new Events();
        zk.addWatch("/events", events, AddWatchMode.PERSISTENT_RECURSIVE);
        other.multi(List.of(
                Op.create("/events/c", null, OPEN_ACL_UNSAFE, CONTAINER),
                Op.create("/events/t", null, OPEN_ACL_UNSAFE, PERSISTENT_WITH_TTL, 1L << 38),
                Op.setData("/events/t", null, 0),
                Op.delete("/events/t", 1)));
        for (String due : List.of("NodeCreated /events/c", "NodeCreated /events/t", "NodeDataChanged /events/t", "NodeDeleted /events/t")) {
            assertEquals(due, events.next());
        }
    }

    @Test
    void aRestartKeepsTheSessionItsNodesAndItsWatches() throws Exception {
        States states = new States();
        ZooKeeper zk = client(states);
        long session = zk.getSessionId();
        zk.create("/k", null, OPEN_ACL_UNSAFE, PERSISTENT);
        zk.create("/k/e", null, OPEN_ACL_UNSAFE, EPHEMERAL);
        List<Events> all = new ArrayList<>();
        for (int n = 0; n < 5; n++) {
            all.add(new Events());
        }
        zk.getData("/k", all.get(0), null);
        zk.getChildren("/k", all.get(1));
        zk.exists("/k/new", all.get(2));
        zk.addWatch("/k", all.get(3), AddWatchMode.PERSISTENT);
        zk.addWatch("/k", all.get(4), AddWatchMode.PERSISTENT_RECURSIVE);
        server.killAndStart();
        states.await(KeeperState.Disconnected);
        states.await(KeeperState.SyncConnected);
        assertEquals(session, zk.getSessionId());
        assertEquals(session, zk.exists("/k/e", false).getEphemeralOwner());
        ZooKeeper other = client();
        other.setData("/k", bytes("x"), -1);
        other.create("/k/new", null, OPEN_ACL_UNSAFE, PERSISTENT);
        assertEquals("NodeDataChanged /k", all.get(0).next());
        assertEquals("NodeChildrenChanged /k", all.get(1).next());
        assertEquals("NodeCreated /k/new", all.get(2).next());
        for (String due : List.of("NodeDataChanged /k", "NodeChildrenChanged /k")) {
            assertEquals(due, all.get(3).next());
        }
        for (String due : List.of("NodeDataChanged /k", "NodeCreated /k/new")) {
            assertEquals(due, all.get(4).next());
        }
    }

    @Test
    void whatHasChangedMeanwhileFiresOnReturn() throws Exception {
        States states = new States();
        ZooKeeper zk = client(states);
        zk.create("/m1", null, OPEN_ACL_UNSAFE, PERSISTENT);
        zk.create("/m2", null, OPEN_ACL_UNSAFE, PERSISTENT);
        Events events = new Events();
        zk.getData("/m1", events, null);
        zk.exists("/m2", events);
        zk.exists("/m3", events);
        zk.getChildren("/m2", events);
        server.killAndStart();
        // As soon as there is a server; the first client may be back before or behind it.
        ZooKeeper other = client();
        other.multi(List.of(
                Op.setData("/m1", bytes("x"), -1),
                Op.delete("/m2", -1),
                Op.create("/m3", null, OPEN_ACL_UNSAFE, PERSISTENT)));
        List<String> came = new ArrayList<>(Arrays.asList(events.next(), events.next(), events.next()));
        Collections.sort(came);
        assertEquals(List.of("NodeCreated /m3", "NodeDataChanged /m1", "NodeDeleted /m2"), came);
        states.await(KeeperState.Disconnected);
        states.await(KeeperState.SyncConnected);
    }

    @Test
    void aSessionThatIsGoneIsToldSo() throws Exception {
        States states = new States();
        ZooKeeper zk = client(states);
        ZooKeeper other = client();
        zk.create("/gone", null, OPEN_ACL_UNSAFE, EPHEMERAL);
        Events events = new Events();
        other.exists("/gone", events);
        expire(zk);
        assertEquals("NodeDeleted /gone", events.next());
        states.await(KeeperState.Expired);
        assertThrows(KeeperException.SessionExpiredException.class, () -> zk.exists("/gone", false));
        assertNotEquals(zk.getSessionId(), client().getSessionId());
    }

    @Test
    void aChrootIsARoot() throws Exception {
        ZooKeeper zk = client();
        zk.create("/root", null, OPEN_ACL_UNSAFE, PERSISTENT);
        States states = new States();
        ZooKeeper below = closing(new ZooKeeper(server.hosts() + "/root", SESSION_MS, states));
        states.await(KeeperState.SyncConnected);
        Events events = new Events();
        below.exists("/a", events);
        zk.create("/root/a", null, OPEN_ACL_UNSAFE, PERSISTENT);
        assertEquals("NodeCreated /a", events.next());
        assertEquals(List.of("a"), below.getChildren("/", false));
        assertEquals(0, below.getConfig(false, new Stat()).length);
    }
}
