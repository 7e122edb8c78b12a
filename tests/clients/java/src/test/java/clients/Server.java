package clients;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.OutputStreamWriter;
import java.io.UncheckedIOException;
import java.io.Writer;
import java.net.InetAddress;
import java.net.Socket;
import java.nio.charset.StandardCharsets;

/** A server of the test's own, behind the control port of tests/clients/run; it ends with the connection. */
final class Server implements AutoCloseable {
    private final Socket control;
    private final BufferedReader answers;
    private final Writer requests;
    private final int port;

    /** Started, with these lines (NAME=VALUE) in its zoo.cfg. */
    Server(String... options) {
        try {
            control = new Socket(InetAddress.getLoopbackAddress(), Integer.parseInt(System.getenv("RK_CONTROL")));
            answers = new BufferedReader(new InputStreamReader(control.getInputStream(), StandardCharsets.UTF_8));
            requests = new OutputStreamWriter(control.getOutputStream(), StandardCharsets.UTF_8);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
        port = Integer.parseInt(ask("start " + String.join(" ", options)).substring("port ".length()));
    }

    String hosts() {
        return "127.0.0.1:" + port;
    }

    /** Ends it by SIGKILL and starts it again, on its data and its port. */
    void killAndStart() {
        ask("kill");
        ask("start");
    }

    /** The answer to a four-letter word. */
    String answer(String word) throws IOException {
        try (Socket socket = new Socket(InetAddress.getLoopbackAddress(), port)) {
            socket.getOutputStream().write(word.getBytes(StandardCharsets.US_ASCII));
            return new String(socket.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
        }
    }

    private synchronized String ask(String line) {
        try {
            requests.write(line + "\n");
            requests.flush();
            String answer = answers.readLine();
            if (answer == null || answer.startsWith("failed")) {
                throw new IllegalStateException(line + ": " + answer);
            }
            return answer;
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    @Override
    public void close() throws IOException {
        control.close();
    }
}
