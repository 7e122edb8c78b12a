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
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.recipes.locks.InterProcessMutex;
import org.junit.jupiter.api.Test;

class InterProcessMutexTest extends Recipe {
    @Test
    void oneHoldsItAtATime() throws Exception {
        int clients = 4;
        int rounds = 10;
        AtomicInteger inside = new AtomicInteger();
        int[] unguarded = new int[1];
        ExecutorService threads = Executors.newFixedThreadPool(clients);
        List<Future<?>> done = new ArrayList<>();
        for (int n = 0; n < clients; n++) {
            InterProcessMutex mutex = new InterProcessMutex(curator(), "/excludes");
            done.add(threads.submit(() -> {
                for (int round = 0; round < rounds; round++) {
                    assertTrue(mutex.acquire(PATIENCE_S, TimeUnit.SECONDS));
                    assertEquals(1, inside.incrementAndGet());
                    unguarded[0]++;
                    assertEquals(0, inside.decrementAndGet());
                    mutex.release();
                }
                return null;
            }));
        }
        for (Future<?> one : done) {
            one.get();
        }
        threads.shutdown();
        assertEquals(clients * rounds, unguarded[0]);
    }

    @Test
    void itIsHeldUntilTheLastRelease() throws Exception {
        InterProcessMutex one = new InterProcessMutex(curator(), "/again");
        InterProcessMutex other = new InterProcessMutex(curator(), "/again");
        one.acquire();
        one.acquire();
        assertFalse(other.acquire(100, TimeUnit.MILLISECONDS));
        one.release();
        assertTrue(one.isAcquiredInThisProcess());
        assertFalse(other.acquire(100, TimeUnit.MILLISECONDS));
        one.release();
        assertTrue(other.acquire(PATIENCE_S, TimeUnit.SECONDS));
        assertEquals(1, other.getParticipantNodes().size());
    }

    @Test
    void aSessionThatEndsHandsItOn() throws Exception {
        CuratorFramework holder = curator();
        new InterProcessMutex(holder, "/ended").acquire();
        InterProcessMutex other = new InterProcessMutex(curator(), "/ended");
        assertFalse(other.acquire(100, TimeUnit.MILLISECONDS));
        expire(holder.getZookeeperClient().getZooKeeper());
        assertTrue(other.acquire(PATIENCE_S, TimeUnit.SECONDS));
    }

    @Test
    void aRestartOfTheServerLeavesItWithItsHolder() throws Exception {
        InterProcessMutex one = new InterProcessMutex(curator(), "/kept");
        InterProcessMutex other = new InterProcessMutex(curator(), "/kept");
        one.acquire();
        server.killAndStart();
        assertFalse(other.acquire(200, TimeUnit.MILLISECONDS));
        one.release();
        assertTrue(other.acquire(PATIENCE_S, TimeUnit.SECONDS));
    }
}
