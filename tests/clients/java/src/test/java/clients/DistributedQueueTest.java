package clients;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.recipes.queue.DistributedQueue;
import org.apache.curator.framework.recipes.queue.QueueBuilder;
import org.apache.curator.framework.recipes.queue.QueueConsumer;
import org.apache.curator.framework.recipes.queue.QueueSerializer;
import org.apache.curator.framework.state.ConnectionState;
import org.junit.jupiter.api.Test;

class DistributedQueueTest extends Recipe {
    private static final QueueSerializer<Integer> NUMBERS = new QueueSerializer<>() {
        @Override
        public byte[] serialize(Integer item) {
            return bytes(item.toString());
        }

        @Override
        public Integer deserialize(byte[] bytes) {
            return Integer.valueOf(text(bytes));
        }
    };

    private static final class Consumer implements QueueConsumer<Integer> {
        private final BlockingQueue<Integer> came;

        Consumer(BlockingQueue<Integer> came) {
            this.came = came;
        }

        @Override
        public void consumeMessage(Integer item) {
            came.add(item);
        }

        @Override
        public void stateChanged(CuratorFramework client, ConnectionState state) {}
    }

    private QueueBuilder<Integer> queue(String path, QueueConsumer<Integer> consumer) throws Exception {
        return QueueBuilder.builder(curator(), consumer, NUMBERS, path);
    }

    private DistributedQueue<Integer> started(DistributedQueue<Integer> queue) throws Exception {
        queue.start();
        return closing(queue);
    }

    @Test
    void oneConsumerGetsItemsInTheirOrder() throws Exception {
        BlockingQueue<Integer> came = new LinkedBlockingQueue<>();
        DistributedQueue<Integer> producer = started(queue("/order", null).buildQueue());
        for (int n = 0; n < 30; n++) {
            producer.put(n);
        }
        assertTrue(producer.flushPuts(PATIENCE_S, TimeUnit.SECONDS));
        started(queue("/order", new Consumer(came)).buildQueue());
        for (int n = 0; n < 30; n++) {
            assertEquals(n, next(came));
        }
    }

    @Test
    void twoConsumersGetEachItemOnce() throws Exception {
        BlockingQueue<Integer> came = new LinkedBlockingQueue<>();
        for (int n = 0; n < 2; n++) {
            started(queue("/once", new Consumer(came)).lockPath("/once-locks").buildQueue());
        }
        DistributedQueue<Integer> producer = started(queue("/once", null).buildQueue());
        List<Integer> due = new ArrayList<>();
        for (int n = 0; n < 60; n++) {
            producer.put(n);
            due.add(n);
        }
        List<Integer> got = new ArrayList<>();
        while (got.size() < due.size()) {
            got.add(next(came));
        }
        Collections.sort(got);
        assertEquals(due, got);
        CuratorFramework looks = curator();
        until("the queue to be empty", () -> looks.getChildren().forPath("/once").isEmpty());
        assertTrue(came.isEmpty());
    }
}
