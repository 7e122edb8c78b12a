package clients;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.curator.framework.recipes.barriers.DistributedBarrier;
import org.apache.curator.framework.recipes.barriers.DistributedDoubleBarrier;
import org.junit.jupiter.api.Test;

class DistributedBarrierTest extends Recipe {
    @Test
    void allWaitUntilItIsRemoved() throws Exception {
        DistributedBarrier barrier = new DistributedBarrier(curator(), "/barrier");
        barrier.setBarrier();
        AtomicInteger passed = new AtomicInteger();
        ExecutorService threads = Executors.newFixedThreadPool(3);
        List<Future<Boolean>> waiting = new ArrayList<>();
        for (int n = 0; n < 3; n++) {
            DistributedBarrier waits = new DistributedBarrier(curator(), "/barrier");
            waiting.add(threads.submit(() -> {
                boolean open = waits.waitOnBarrier(PATIENCE_S, TimeUnit.SECONDS);
                passed.incrementAndGet();
                return open;
            }));
        }
        assertFalse(new DistributedBarrier(curator(), "/barrier").waitOnBarrier(200, TimeUnit.MILLISECONDS));
        assertEquals(0, passed.get());
        barrier.removeBarrier();
        for (Future<Boolean> one : waiting) {
            assertTrue(one.get());
        }
        threads.shutdown();
        assertTrue(barrier.waitOnBarrier(0, TimeUnit.MILLISECONDS));
    }

    @Test
    void membersEnterAndLeaveADoubleBarrierTogether() throws Exception {
        int members = 3;
        AtomicInteger here = new AtomicInteger();
        AtomicInteger inside = new AtomicInteger();
        ExecutorService threads = Executors.newFixedThreadPool(members);
        List<Future<Integer>> done = new ArrayList<>();
        for (int n = 0; n < members; n++) {
            DistributedDoubleBarrier barrier = new DistributedDoubleBarrier(curator(), "/double", members);
            done.add(threads.submit(() -> {
                here.incrementAndGet();
                assertTrue(barrier.enter(PATIENCE_S, TimeUnit.SECONDS));
                int met = here.get();
                inside.incrementAndGet();
                assertTrue(barrier.leave(PATIENCE_S, TimeUnit.SECONDS));
                assertEquals(members, inside.get());
                return met;
            }));
        }
        for (Future<Integer> one : done) {
            assertEquals(members, one.get());
        }
        threads.shutdown();
    }
}
