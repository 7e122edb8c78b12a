package suites;

import java.io.File;
import java.io.IOException;
import java.io.InputStream;
import java.net.ServerSocket;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.TreeMap;
import java.util.concurrent.TimeUnit;

/**
 * Our server as a process of its own, where a suite expects one inside its own process.
 *
 * <p>A suite configures the server in its process by system properties: those that a server reads are given to ours as
 * -D. The binary and the placement come from the runner (RK_SERVER and RK_SHARDS in its environment).
 */
public final class OurServer {
    private static final int PATIENCE_S = 60;
    /** A provider of Apache's tests, which refuses everybody: ours refuses every scheme that it does not know. */
    private static final String REFUSES_EVERYBODY = "org.apache.zookeeper.test.InvalidAuthProvider";

    private final Path directory;
    private final int port;
    private final Map<String, String> lines;
    private Process process;

    /** A server on this directory and port; `lines` go into its zoo.cfg. */
    public OurServer(Path directory, int port, Map<String, String> lines) {
        this.directory = directory;
        this.port = port;
        this.lines = new TreeMap<>(lines);
    }

    /** A port below the ephemeral range, where no client's end of a connection can take it meanwhile. */
    public static int freePort() {
        Random random = new Random();
        while (true) {
            int port = 20000 + random.nextInt(12000);
            try (ServerSocket socket = new ServerSocket(port)) {
                return port;
            } catch (IOException e) {
                continue;
            }
        }
    }

    /** Starts the process and waits until it answers. */
    public void start() throws IOException, InterruptedException {
        Files.createDirectories(directory.resolve("data"));
        StringBuilder config = new StringBuilder();
        config.append("dataDir=").append(directory.resolve("data")).append('\n');
        config.append("clientPort=").append(port).append('\n');
        config.append("shards=").append(System.getenv("RK_SHARDS")).append('\n');
        lines.forEach((name, value) -> config.append(name).append('=').append(value).append('\n'));
        Path file = directory.resolve("zoo.cfg");
        Files.write(file, config.toString().getBytes(StandardCharsets.UTF_8));
        List<String> command = new ArrayList<>();
        command.add(System.getenv("RK_SERVER"));
        properties().forEach((name, value) -> command.add("-D" + name + "=" + value));
        command.add(file.toString());
        File log = directory.resolve("server.log").toFile();
        process = new ProcessBuilder(command)
                .redirectErrorStream(true)
                .redirectOutput(ProcessBuilder.Redirect.appendTo(log))
                .start();
        Process started = process;
        Runtime.getRuntime().addShutdownHook(new Thread(started::destroyForcibly));
        long until = System.nanoTime() + TimeUnit.SECONDS.toNanos(PATIENCE_S);
        while (!answers()) {
            if (!process.isAlive() || System.nanoTime() > until) {
                String said = new String(Files.readAllBytes(log.toPath()), StandardCharsets.UTF_8);
                stop();
                throw new IOException("the server does not serve: " + said);
            }
            Thread.sleep(5);
        }
    }

    /** Ends the process; its data stay. */
    public void stop() {
        if (process == null) {
            return;
        }
        process.destroy();
        try {
            if (!process.waitFor(PATIENCE_S, TimeUnit.SECONDS)) {
                process.destroyForcibly().waitFor();
            }
        } catch (InterruptedException e) {
            process.destroyForcibly();
            Thread.currentThread().interrupt();
        }
        process = null;
    }

    /** Whether it says anything: a word that is not on the whitelist has an answer too. */
    private boolean answers() {
        try (Socket socket = new Socket(lines.getOrDefault("clientPortAddress", "127.0.0.1"), port)) {
            socket.setSoTimeout(5000);
            socket.getOutputStream().write("srvr".getBytes(StandardCharsets.US_ASCII));
            InputStream input = socket.getInputStream();
            return input.read() >= 0;
        } catch (IOException e) {
            return false;
        }
    }

    /** What the test says to a server in its own process. */
    private static Map<String, String> properties() {
        Map<String, String> said = new TreeMap<>();
        for (String name : System.getProperties().stringPropertyNames()) {
            boolean isForServers = name.startsWith("zookeeper.") || name.startsWith("znode.container.")
                    || name.equals("jute.maxbuffer") || name.equals("readonlymode.enabled");
            String value = System.getProperty(name);
            // The size of Apache's log file; ours has another meaning and a least value.
            if (isForServers && !name.equals("zookeeper.preAllocSize") && !value.equals(REFUSES_EVERYBODY)) {
                said.put(name, value);
            }
        }
        return said;
    }
}
