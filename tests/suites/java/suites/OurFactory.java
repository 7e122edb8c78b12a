package suites;

import java.io.File;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.apache.zookeeper.server.ServerCnxn;
import org.apache.zookeeper.server.ServerCnxnFactory;
import org.apache.zookeeper.server.ZooKeeperServer;

/**
 * What listens for a server of Apache's inside the test's process; named by zookeeper.serverCnxnFactory. It never starts
 * that server: it takes its directory and its times, and starts ours.
 */
public final class OurFactory extends ServerCnxnFactory {
    private InetSocketAddress address;
    private int connectionsMax;
    private OurServer server;

    @Override
    public void configure(InetSocketAddress address, int connectionsMax, int backlog, boolean secure) throws IOException {
        if (secure) {
            throw new IOException("TLS is not there yet");
        }
        this.address = address;
        this.connectionsMax = connectionsMax;
    }

    @Override
    public void startup(ZooKeeperServer described, boolean startServer) throws IOException, InterruptedException {
        Map<String, String> lines = new TreeMap<>();
        lines.put("tickTime", Integer.toString(described.getTickTime()));
        lines.put("minSessionTimeout", Integer.toString(described.getMinSessionTimeout()));
        lines.put("maxSessionTimeout", Integer.toString(described.getMaxSessionTimeout()));
        lines.put("maxClientCnxns", Integer.toString(Math.max(0, connectionsMax)));
        if (!address.getAddress().isAnyLocalAddress()) {
            // Java names the interface behind an address of IPv6; ours takes addresses alone.
            lines.put("clientPortAddress", address.getAddress().getHostAddress().replaceAll("%.*", ""));
        }
        setZooKeeperServer(described);
        File directory = described.getTxnLogFactory().getSnapDir().getParentFile();
        server = new OurServer(directory.toPath().toAbsolutePath(), address.getPort(), lines);
        server.start();
    }

    @Override
    public void shutdown() {
        if (server != null) {
            server.stop();
            server = null;
        }
    }

    @Override
    public int getLocalPort() {
        return address.getPort();
    }

    @Override
    public InetSocketAddress getLocalAddress() {
        return address;
    }

    @Override
    public int getMaxClientCnxnsPerHost() {
        return connectionsMax;
    }

    @Override
    public Iterable<ServerCnxn> getConnections() {
        throw inside();
    }

    @Override
    public Iterable<Map<String, Object>> getAllConnectionInfo(boolean brief) {
        throw inside();
    }

    @Override
    public void reconfigure(InetSocketAddress address) {
        throw inside();
    }

    @Override
    public void setMaxClientCnxnsPerHost(int max) {
        throw inside();
    }

    @Override
    public void closeAll(ServerCnxn.DisconnectReason reason) {
        throw inside();
    }

    @Override
    public void resetAllConnectionStats() {
        throw inside();
    }

    @Override
    public int getSocketListenBacklog() {
        return -1;
    }

    @Override
    public void join() { }

    @Override
    public void start() { }

    private static UnsupportedOperationException inside() {
        return new UnsupportedOperationException("the server is another process: a test that looks inside is left out");
    }
}
