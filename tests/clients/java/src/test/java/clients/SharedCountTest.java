package clients;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.LinkedBlockingQueue;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.recipes.shared.SharedCount;
import org.apache.curator.framework.recipes.shared.SharedCountListener;
import org.apache.curator.framework.recipes.shared.SharedCountReader;
import org.apache.curator.framework.recipes.shared.VersionedValue;
import org.apache.curator.framework.state.ConnectionState;
import org.junit.jupiter.api.Test;

class SharedCountTest extends Recipe {
    private SharedCount count(String path, int seed) throws Exception {
        SharedCount count = closing(new SharedCount(curator(), path, seed));
        count.start();
        return count;
    }

    @Test
    void aChangeOfAnOldValueIsRefusedAndNewValuesAreTold() throws Exception {
        SharedCount one = count("/count", 5);
        SharedCount other = count("/count", 5);
        BlockingQueue<Integer> came = new LinkedBlockingQueue<>();
        other.addListener(new SharedCountListener() {
            @Override
            public void countHasChanged(SharedCountReader reader, int value) {
                came.add(value);
            }

            @Override
            public void stateChanged(CuratorFramework client, ConnectionState state) {}
        });
        VersionedValue<Integer> old = one.getVersionedValue();
        assertEquals(5, old.getValue());
        assertTrue(one.trySetCount(old, 6));
        // Curator tells listeners of the value as it stands when it hears, late perhaps, that it is connected.
        int told = next(came);
        while (told == 5) {
            told = next(came);
        }
        assertEquals(6, told);
        assertFalse(one.trySetCount(old, 7));
        assertFalse(other.trySetCount(old, 7));
        other.setCount(8);
        assertEquals(8, next(came));
        until("the new value", () -> one.getCount() == 8);
    }

    @Test
    void noIncrementIsLost() throws Exception {
        int clients = 4;
        int each = 10;
        ExecutorService threads = Executors.newFixedThreadPool(clients);
        List<Future<?>> done = new ArrayList<>();
        for (int n = 0; n < clients; n++) {
            SharedCount count = count("/sum", 0);
            done.add(threads.submit(() -> {
                for (int made = 0; made < each; ) {
                    VersionedValue<Integer> now = count.getVersionedValue();
                    if (count.trySetCount(now, now.getValue() + 1)) {
                        made++;
                    }
                }
                return null;
            }));
        }
        for (Future<?> one : done) {
            one.get();
        }
        threads.shutdown();
        assertEquals(clients * each, count("/sum", 0).getCount());
    }
}
