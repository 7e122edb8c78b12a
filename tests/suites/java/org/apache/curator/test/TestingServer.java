package org.apache.curator.test;

import java.io.Closeable;
import java.io.File;
import java.io.IOException;
import java.util.Map;
import java.util.TreeMap;
import org.apache.curator.test.compatibility.Timing2;
import suites.OurServer;

/**
 * Stands in for Curator's class of this name, first on the class path: the same constructors and methods, with a
 * process of our server behind them. Its settings are those that Curator gives to Apache's server.
 */
public class TestingServer implements Closeable {
    private enum State { LATENT, STARTED, STOPPED, CLOSED }

    private final InstanceSpec spec;
    private final int port;
    private final OurServer server;
    private State state = State.LATENT;

    public TestingServer() throws Exception {
        this(-1, null, true);
    }

    public TestingServer(boolean start) throws Exception {
        this(-1, null, start);
    }

    public TestingServer(int port) throws Exception {
        this(port, null, true);
    }

    public TestingServer(int port, boolean start) throws Exception {
        this(port, null, start);
    }

    public TestingServer(int port, File directory) throws Exception {
        this(port, directory, true);
    }

    public TestingServer(int port, File directory, boolean start) throws Exception {
        this(new InstanceSpec(directory, Math.max(0, port), -1, -1, true, -1), start);
    }

    public TestingServer(InstanceSpec spec, boolean start) throws Exception {
        this.spec = spec;
        this.port = spec.getPort() > 0 ? spec.getPort() : OurServer.freePort();
        this.server = new OurServer(spec.getDataDirectory().toPath().toAbsolutePath(), port, lines(spec));
        if (start) {
            start();
        }
    }

    private static Map<String, String> lines(InstanceSpec spec) {
        Map<String, String> lines = new TreeMap<>();
        int tick = spec.getTickTime() >= 0 ? spec.getTickTime() : new Timing2().tickTime();
        lines.put("tickTime", Integer.toString(tick));
        lines.put("minSessionTimeout", Integer.toString(tick));
        if (spec.getMaxClientCnxns() >= 0) {
            lines.put("maxClientCnxns", Integer.toString(spec.getMaxClientCnxns()));
        }
        spec.getCustomProperties().forEach((name, value) -> lines.put(name, value.toString()));
        return lines;
    }

    public int getPort() {
        return port;
    }

    public File getTempDirectory() {
        return spec.getDataDirectory();
    }

    public void start() throws Exception {
        if (state == State.LATENT) {
            server.start();
            state = State.STARTED;
        }
    }

    public void stop() throws IOException {
        if (state == State.STARTED) {
            server.stop();
            state = State.STOPPED;
        }
    }

    public void restart() throws Exception {
        if (state == State.CLOSED) {
            throw new IllegalStateException("the server is closed");
        }
        stop();
        state = State.LATENT;
        start();
    }

    @Override
    public void close() throws IOException {
        stop();
        if (state == State.STOPPED) {
            state = State.CLOSED;
            if (spec.deleteDataDirectoryOnClose()) {
                DirectoryUtils.deleteRecursively(spec.getDataDirectory());
            }
        }
    }

    public String getConnectString() {
        return spec.getHostname() + ":" + getPort();
    }
}
