package clients;

import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import org.apache.curator.framework.recipes.locks.InterProcessReadWriteLock;
import org.junit.jupiter.api.Test;

class InterProcessReadWriteLockTest extends Recipe {
    @Test
    void readersShareAndWritersDoNot() throws Exception {
        InterProcessReadWriteLock one = new InterProcessReadWriteLock(curator(), "/rw");
        InterProcessReadWriteLock two = new InterProcessReadWriteLock(curator(), "/rw");
        InterProcessReadWriteLock three = new InterProcessReadWriteLock(curator(), "/rw");
        one.readLock().acquire();
        assertTrue(two.readLock().acquire(PATIENCE_S, TimeUnit.SECONDS));
        assertFalse(three.writeLock().acquire(100, TimeUnit.MILLISECONDS));
        one.readLock().release();
        assertFalse(three.writeLock().acquire(100, TimeUnit.MILLISECONDS));
        two.readLock().release();
        assertTrue(three.writeLock().acquire(PATIENCE_S, TimeUnit.SECONDS));
        assertFalse(one.readLock().acquire(100, TimeUnit.MILLISECONDS));
        assertFalse(two.writeLock().acquire(100, TimeUnit.MILLISECONDS));
        three.writeLock().release();
        assertTrue(one.readLock().acquire(PATIENCE_S, TimeUnit.SECONDS));
        assertTrue(two.readLock().acquire(PATIENCE_S, TimeUnit.SECONDS));
    }

    @Test
    void aWriterBecomesAReader() throws Exception {
        InterProcessReadWriteLock one = new InterProcessReadWriteLock(curator(), "/down");
        InterProcessReadWriteLock other = new InterProcessReadWriteLock(curator(), "/down");
        one.writeLock().acquire();
        assertTrue(one.readLock().acquire(PATIENCE_S, TimeUnit.SECONDS));
        assertFalse(other.readLock().acquire(100, TimeUnit.MILLISECONDS));
        one.writeLock().release();
        assertTrue(other.readLock().acquire(PATIENCE_S, TimeUnit.SECONDS));
        assertFalse(other.writeLock().acquire(100, TimeUnit.MILLISECONDS));
    }

    @Test
    void aWriterThatWaitsComesBeforeLaterReaders() throws Exception {
        InterProcessReadWriteLock one = new InterProcessReadWriteLock(curator(), "/fair");
        InterProcessReadWriteLock two = new InterProcessReadWriteLock(curator(), "/fair");
        InterProcessReadWriteLock three = new InterProcessReadWriteLock(curator(), "/fair");
        one.readLock().acquire();
        ExecutorService thread = Executors.newSingleThreadExecutor();
        Future<Boolean> writes = thread.submit(() -> two.writeLock().acquire(PATIENCE_S, TimeUnit.SECONDS));
        until("the writer to queue", () -> one.writeLock().getParticipantNodes().size() == 1);
        assertFalse(three.readLock().acquire(100, TimeUnit.MILLISECONDS));
        one.readLock().release();
        assertTrue(writes.get());
        thread.submit(() -> {
            two.writeLock().release();
            return null;
        }).get();
        thread.shutdown();
        assertTrue(three.readLock().acquire(PATIENCE_S, TimeUnit.SECONDS));
    }
}
