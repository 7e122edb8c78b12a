package org.apache.zookeeper.test;

import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assertions.fail;

import java.io.File;
import java.io.IOException;
import java.net.ProtocolException;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import org.apache.zookeeper.PortAssignment;
import org.apache.zookeeper.TestableZooKeeper;
import org.apache.zookeeper.WatchedEvent;
import org.apache.zookeeper.Watcher;
import org.apache.zookeeper.Watcher.Event.KeeperState;
import org.apache.zookeeper.ZKTestCase;
import org.apache.zookeeper.ZooKeeper;
import org.apache.zookeeper.client.ZKClientConfig;
import org.apache.zookeeper.server.ServerCnxnFactory;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import suites.OurServer;

/**
 * Stands in for the class of this name in Apache's tests, first on the class path: the names that those tests use, with
 * a process of our server behind them. What takes or gives a server inside the process is absent, and `serverFactory`
 * is null: a test that looks there is left out by name.
 */
public abstract class ClientBase extends ZKTestCase {
    protected static final Logger LOG = LoggerFactory.getLogger(ClientBase.class);

    public static int CONNECTION_TIMEOUT = 30000;

    /** What Apache's class of this name gives its server. */
    private static final int TICK_TIME = 3000;

    protected String hostPort = "127.0.0.1:" + PortAssignment.unique();
    protected int maxCnxns = 0;
    protected ServerCnxnFactory serverFactory = null;
    protected File tmpDir = null;
    protected boolean exceptionOnFailedConnect = false;

    private OurServer server;
    /** Closed behind the test; null outside of one. */
    private List<ZooKeeper> clients;

    /** Knows whether its client is connected, and waits for that. */
    public static class CountdownWatcher implements Watcher {
        volatile CountDownLatch clientConnected;
        private KeeperState state;

        public CountdownWatcher() {
            reset();
        }

        public synchronized void reset() {
            clientConnected = new CountDownLatch(1);
            state = KeeperState.Disconnected;
        }

        @Override
        public synchronized void process(WatchedEvent event) {
            state = event.getState();
            if (isConnected()) {
                clientConnected.countDown();
            }
            notifyAll();
        }

        public synchronized boolean isConnected() {
            return state == KeeperState.SyncConnected || state == KeeperState.ConnectedReadOnly;
        }

        public void waitForConnected(long timeout) throws InterruptedException, TimeoutException {
            waitUntil(true, timeout, KeeperState.SyncConnected, KeeperState.ConnectedReadOnly);
        }

        public void waitForSyncConnected(long timeout) throws InterruptedException, TimeoutException {
            waitUntil(true, timeout, KeeperState.SyncConnected);
        }

        public void waitForReadOnlyConnected(long timeout) throws InterruptedException, TimeoutException {
            waitUntil(true, timeout, KeeperState.ConnectedReadOnly);
        }

        public void waitForDisconnected(long timeout) throws InterruptedException, TimeoutException {
            waitUntil(false, timeout, KeeperState.SyncConnected, KeeperState.ConnectedReadOnly);
        }

        private synchronized void waitUntil(boolean isOneOf, long timeout, KeeperState... states)
                throws InterruptedException, TimeoutException {
            long until = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(timeout);
            while (List.of(states).contains(state) != isOneOf) {
                long left = TimeUnit.NANOSECONDS.toMillis(until - System.nanoTime());
                if (left <= 0) {
                    throw new TimeoutException("the client is in the state " + state + " after " + timeout + " ms");
                }
                wait(left);
            }
        }
    }

    protected TestableZooKeeper createClient() throws IOException, InterruptedException {
        return createClient(hostPort);
    }

    protected TestableZooKeeper createClient(String hp) throws IOException, InterruptedException {
        return createClient(new CountdownWatcher(), hp);
    }

    protected TestableZooKeeper createClient(CountdownWatcher watcher) throws IOException, InterruptedException {
        return createClient(watcher, hostPort);
    }

    protected TestableZooKeeper createClient(String hp, int timeout) throws IOException, InterruptedException {
        return createClient(new CountdownWatcher(), hp, timeout);
    }

    protected TestableZooKeeper createClient(CountdownWatcher watcher, String hp) throws IOException, InterruptedException {
        return createClient(watcher, hp, CONNECTION_TIMEOUT);
    }

    protected TestableZooKeeper createClient(CountdownWatcher watcher, String hp, int timeout)
            throws IOException, InterruptedException {
        watcher.reset();
        TestableZooKeeper client = new TestableZooKeeper(hp, timeout, watcher);
        if (!watcher.clientConnected.await(timeout, TimeUnit.MILLISECONDS)) {
            if (exceptionOnFailedConnect) {
                throw new ProtocolException("no connection to " + hp);
            }
            fail("no connection to " + hp);
        }
        boolean isInTest;
        synchronized (this) {
            isInTest = clients != null;
            if (isInTest) {
                clients.add(client);
            }
        }
        if (!isInTest) {
            client.close();
        }
        return client;
    }

    public static ZooKeeper createZKClient(String hosts) throws Exception {
        return createZKClient(hosts, CONNECTION_TIMEOUT);
    }

    public static ZooKeeper createZKClient(String hosts, int sessionTimeout) throws IOException {
        return createZKClient(hosts, sessionTimeout, CONNECTION_TIMEOUT);
    }

    public static ZooKeeper createZKClient(String hosts, int sessionTimeout, long patience) throws IOException {
        return createZKClient(hosts, sessionTimeout, patience, new ZKClientConfig());
    }

    public static ZooKeeper createZKClient(String hosts, int sessionTimeout, long patience, ZKClientConfig config)
            throws IOException {
        CountdownWatcher watcher = new CountdownWatcher();
        ZooKeeper client = new ZooKeeper(hosts, sessionTimeout, watcher, config);
        try {
            watcher.waitForConnected(patience);
        } catch (InterruptedException | TimeoutException e) {
            fail("no connection to " + hosts);
        }
        return client;
    }

    /** A server's address. */
    public static class HostPort {
        String host;
        int port;

        public HostPort(String host, int port) {
            this.host = host;
            this.port = port;
        }
    }

    public static List<HostPort> parseHostPortList(String hosts) {
        List<HostPort> parsed = new ArrayList<>();
        for (String one : hosts.split(",")) {
            int colon = one.lastIndexOf(':');
            // A connection string may end in a chroot.
            String port = one.substring(colon + 1).split("/")[0];
            parsed.add(new HostPort(one.substring(0, colon), Integer.parseInt(port)));
        }
        return parsed;
    }

    public static boolean waitForServerUp(String hp, long timeout) {
        return waitForServer(hp, timeout, true);
    }

    public static boolean waitForServerDown(String hp, long timeout) {
        return waitForServer(hp, timeout, false);
    }

    private static boolean waitForServer(String hp, long timeout, boolean isUp) {
        HostPort address = parseHostPortList(hp).get(0);
        long until = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(timeout);
        while (answers(address) != isUp) {
            if (System.nanoTime() > until) {
                return false;
            }
            try {
                Thread.sleep(50);
            } catch (InterruptedException e) {
                return false;
            }
        }
        return true;
    }

    private static boolean answers(HostPort address) {
        try (Socket socket = new Socket(address.host, address.port)) {
            socket.setSoTimeout(5000);
            socket.getOutputStream().write("stat".getBytes(StandardCharsets.US_ASCII));
            return socket.getInputStream().read() >= 0;
        } catch (IOException e) {
            return false;
        }
    }

    static void verifyThreadTerminated(Thread thread, long millis) throws InterruptedException {
        thread.join(millis);
        assertTrue(!thread.isAlive(), thread.getName() + " still runs");
    }

    public static File createEmptyTestDir() throws IOException {
        return createTmpDir(testBaseDir, false);
    }

    public static File createTmpDir() throws IOException {
        return createTmpDir(testBaseDir, true);
    }

    static File createTmpDir(File parent, boolean createInitFile) throws IOException {
        Files.createDirectories(parent.toPath());
        File directory = Files.createTempDirectory(parent.toPath(), "test").toFile();
        if (createInitFile) {
            createInitializeFile(directory);
        }
        return directory;
    }

    /** The file by which Apache's server knows that a directory is empty on purpose. */
    public static void createInitializeFile(File directory) throws IOException {
        new File(directory, "initialize").createNewFile();
    }

    public static boolean recursiveDelete(File directory) {
        return TestUtils.deleteFileRecursively(directory, true);
    }

    protected static String getHexSessionId(long sessionId) {
        return String.format("0x%x", sessionId);
    }

    public static void logAllStackTraces() {
        Thread.getAllStackTraces().forEach((thread, frames) -> LOG.error("{} {}", thread, List.of(frames)));
    }

    public static void setupTestEnv() { }

    /** For tests that configure the server: runs before it starts. */
    public void setupCustomizedEnv() { }

    public void cleanUpCustomizedEnv() { }

    protected void setUpAll() throws Exception {
        clients = new ArrayList<>();
    }

    @BeforeEach
    public void setUp() throws Exception {
        setUpWithServerId(1);
    }

    /** A server that runs alone has no use for its number. */
    protected void setUpWithServerId(int serverId) throws Exception {
        setupCustomizedEnv();
        setUpAll();
        tmpDir = createTmpDir();
        startServer();
    }

    protected void startServer() throws Exception {
        Map<String, String> lines = new TreeMap<>();
        lines.put("tickTime", Integer.toString(TICK_TIME));
        lines.put("maxClientCnxns", Integer.toString(maxCnxns));
        server = new OurServer(tmpDir.toPath().toAbsolutePath(), parseHostPortList(hostPort).get(0).port, lines);
        server.start();
    }

    protected void stopServer() throws Exception {
        if (server != null) {
            server.stop();
            server = null;
        }
    }

    protected void tearDownAll() throws Exception {
        List<ZooKeeper> left;
        synchronized (this) {
            left = clients == null ? List.of() : clients;
            clients = null;
        }
        for (ZooKeeper client : left) {
            client.close();
        }
    }

    @AfterEach
    public void tearDown() throws Exception {
        tearDownAll();
        stopServer();
        if (tmpDir != null) {
            assertTrue(recursiveDelete(tmpDir), "what is in " + tmpDir + " stays");
        }
        cleanUpCustomizedEnv();
    }
}
