package suites;

import static org.junit.platform.engine.discovery.DiscoverySelectors.selectClass;

import java.io.FileWriter;
import java.io.IOException;
import java.io.PrintWriter;
import java.util.Arrays;
import java.util.HashMap;
import java.util.HashSet;
import java.util.Map;
import java.util.Set;
import org.junit.platform.engine.FilterResult;
import org.junit.platform.engine.TestExecutionResult;
import org.junit.platform.engine.TestSource;
import org.junit.platform.engine.UniqueId;
import org.junit.platform.engine.support.descriptor.MethodSource;
import org.junit.platform.launcher.LauncherDiscoveryRequest;
import org.junit.platform.launcher.PostDiscoveryFilter;
import org.junit.platform.launcher.TestExecutionListener;
import org.junit.platform.launcher.TestIdentifier;
import org.junit.platform.launcher.core.LauncherDiscoveryRequestBuilder;
import org.junit.platform.launcher.core.LauncherFactory;

/**
 * Runs one class of tests and says what became of each test, a line of outcome, method, seconds and reason with tabs
 * between, in the file that is the first argument. The second is the class; the others are methods to leave out, with `*` for
 * any letters, or, behind `--only`, the only ones to run.
 */
public final class RunClass implements TestExecutionListener {
    private final PrintWriter report;
    private final Map<String, Long> began = new HashMap<>();

    private RunClass(PrintWriter report) {
        this.report = report;
    }

    public static void main(String[] arguments) throws IOException, ClassNotFoundException {
        boolean isOnly = arguments.length > 2 && arguments[2].equals("--only");
        Set<String> named = new HashSet<>(Arrays.asList(arguments).subList(isOnly ? 3 : 2, arguments.length));
        PostDiscoveryFilter filter = descriptor -> {
            String method = method(descriptor.getSource().orElse(null));
            boolean isNamed = method != null && named.stream().anyMatch(name -> method.matches(name.replace("*", ".*")));
            return FilterResult.includedIf(method == null || isNamed == isOnly);
        };
        LauncherDiscoveryRequest request = LauncherDiscoveryRequestBuilder.request()
                .selectors(selectClass(Class.forName(arguments[1])))
                .filters(filter)
                .configurationParameter("junit.jupiter.execution.timeout.testable.method.default",
                        System.getProperty("suites.timeout", "300") + " s")
                .build();
        try (PrintWriter report = new PrintWriter(new FileWriter(arguments[0]), true)) {
            LauncherFactory.create().execute(request, new RunClass(report));
        }
        // Threads that a test has left behind don't keep the process.
        System.exit(0);
    }

    private static String method(TestSource source) {
        return source instanceof MethodSource ? ((MethodSource) source).getMethodName() : null;
    }

    @Override
    public void executionStarted(TestIdentifier test) {
        began.put(test.getUniqueId(), System.nanoTime());
        if (test.isTest()) {
            say("started", test, "");
        }
    }

    @Override
    public void executionSkipped(TestIdentifier test, String reason) {
        say("skipped", test, reason);
    }

    @Override
    public void executionFinished(TestIdentifier test, TestExecutionResult result) {
        boolean isSuccessful = result.getStatus() == TestExecutionResult.Status.SUCCESSFUL;
        String reason = result.getThrowable().map(RunClass::text).orElse("");
        if (test.isTest()) {
            boolean isAborted = result.getStatus() == TestExecutionResult.Status.ABORTED;
            say(isSuccessful ? "passed" : isAborted ? "skipped" : "failed", test, reason);
        } else if (!isSuccessful) {
            say("failed", test, reason);
        }
    }

    private static String text(Throwable thrown) {
        StackTraceElement[] frames = thrown.getStackTrace();
        String at = "";
        for (StackTraceElement frame : frames) {
            if (frame.getClassName().startsWith("org.apache.")) {
                at = " at " + frame;
                break;
            }
        }
        return thrown + at;
    }

    private void say(String outcome, TestIdentifier test, String reason) {
        double seconds = (System.nanoTime() - began.getOrDefault(test.getUniqueId(), System.nanoTime())) / 1e9;
        String oneLine = reason.replaceAll("\\s+", " ");
        report.printf("%s\t%s\t%.1f\t%s%n", outcome, name(test), seconds, oneLine.substring(0, Math.min(600, oneLine.length())));
    }

    /** The method, with the number of the invocation where it has several; a class alone is its set-up. */
    private static String name(TestIdentifier test) {
        String method = method(test.getSource().orElse(null));
        if (method == null) {
            return "(set-up)";
        }
        String last = "";
        for (UniqueId.Segment segment : UniqueId.parse(test.getUniqueId()).getSegments()) {
            last = segment.getType().endsWith("invocation") ? "[" + segment.getValue().replace("#", "") + "]" : "";
        }
        return method + last;
    }
}
