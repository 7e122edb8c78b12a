package clients;

import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assertions.fail;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayDeque;
import java.util.Deque;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.Callable;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.retry.RetryNTimes;
import org.apache.zookeeper.WatchedEvent;
import org.apache.zookeeper.Watcher;
import org.apache.zookeeper.Watcher.Event.EventType;
import org.apache.zookeeper.Watcher.Event.KeeperState;
import org.apache.zookeeper.ZooKeeper;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.TestInstance;

/** A server for each class, and clients that end with the test. */
@TestInstance(TestInstance.Lifecycle.PER_CLASS)
abstract class Recipe {
    static final int SESSION_MS = 30_000;
    static final int PATIENCE_S = 60;

    final Server server = new Server();
    private final Deque<AutoCloseable> open = new ArrayDeque<>();

    @AfterEach
    void closeWhatIsOpen() throws Exception {
        while (!open.isEmpty()) {
            open.pop().close();
        }
    }

    @AfterAll
    void stop() throws IOException {
        server.close();
    }

    <T extends AutoCloseable> T closing(T resource) {
        open.push(resource);
        return resource;
    }

    /** A Curator client that is connected. */
    CuratorFramework curator() throws InterruptedException {
        CuratorFramework client = closing(CuratorFrameworkFactory.builder()
                .connectString(server.hosts())
                .sessionTimeoutMs(SESSION_MS)
                .connectionTimeoutMs(PATIENCE_S * 1000)
                .retryPolicy(new RetryNTimes(1000, 50))
                .build());
        client.start();
        assertTrue(client.blockUntilConnected(PATIENCE_S, TimeUnit.SECONDS));
        return client;
    }

    /** Apache's client, connected. */
    ZooKeeper client() throws Exception {
        return client(new States());
    }

    ZooKeeper client(States states) throws Exception {
        ZooKeeper client = closing(new ZooKeeper(server.hosts(), SESSION_MS, states));
        states.await(KeeperState.SyncConnected);
        return client;
    }

    /** Closes a client's session behind its back: it learns, when it comes back, that the session is gone. */
    void expire(ZooKeeper client) throws Exception {
        String session = Long.toHexString(client.getSessionId());
        do {
            States states = new States();
            try (ZooKeeper second =
                    new ZooKeeper(server.hosts(), SESSION_MS, states, client.getSessionId(), client.getSessionPasswd())) {
                states.await(KeeperState.SyncConnected, KeeperState.Expired);
            }
        } while (server.answer("dump").contains("0x" + session));
    }

    static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    static String text(byte[] bytes) {
        return new String(bytes, StandardCharsets.UTF_8);
    }

    static <T> T next(BlockingQueue<T> queue) throws InterruptedException {
        T found = queue.poll(PATIENCE_S, TimeUnit.SECONDS);
        assertNotNull(found, "nothing has come");
        return found;
    }

    /** Waits until something holds. */
    static void until(String what, Callable<Boolean> condition) throws Exception {
        long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(PATIENCE_S);
        while (!condition.call()) {
            if (System.nanoTime() > end) {
                fail("waited in vain: " + what);
            }
            Thread.sleep(10);
        }
    }

    /** What happens to a session. */
    static final class States implements Watcher {
        private final BlockingQueue<KeeperState> came = new LinkedBlockingQueue<>();

        @Override
        public void process(WatchedEvent event) {
            if (event.getType() == EventType.None) {
                came.add(event.getState());
            }
        }

        void await(KeeperState... due) throws InterruptedException {
            KeeperState state;
            do {
                state = next(came);
            } while (!List.of(due).contains(state));
        }
    }

    /** What a watch has seen of nodes, as `type path`. */
    static final class Events implements Watcher {
        private final BlockingQueue<String> came = new LinkedBlockingQueue<>();

        @Override
        public void process(WatchedEvent event) {
            if (event.getType() != EventType.None) {
                came.add(event.getType() + " " + event.getPath());
            }
        }

        String next() throws InterruptedException {
            return Recipe.next(came);
        }

        boolean isEmpty() {
            return came.isEmpty();
        }
    }
}
