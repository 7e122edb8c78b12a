package clients;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.HashMap;
import java.util.HashSet;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.Semaphore;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.recipes.leader.LeaderSelector;
import org.apache.curator.framework.recipes.leader.LeaderSelectorListenerAdapter;
import org.junit.jupiter.api.Test;

class LeaderSelectorTest extends Recipe {
    /** Members of one election: who leads, in turn, and how many did at a time. */
    private static final class Group {
        private final BlockingQueue<String> terms = new LinkedBlockingQueue<>();
        private final AtomicInteger leaders = new AtomicInteger();
        private final AtomicInteger most = new AtomicInteger();
        private final Semaphore mayGo = new Semaphore(0);

        /** A member that leads until somebody may go, and queues again. */
        private LeaderSelector member(CuratorFramework client, String path, String name) {
            LeaderSelector selector = new LeaderSelector(client, path, new LeaderSelectorListenerAdapter() {
                @Override
                public void takeLeadership(CuratorFramework client) throws InterruptedException {
                    most.accumulateAndGet(leaders.incrementAndGet(), Math::max);
                    terms.add(name);
                    try {
                        mayGo.acquire();
                    } finally {
                        leaders.decrementAndGet();
                    }
                }
            });
            selector.setId(name);
            selector.autoRequeue();
            selector.start();
            return selector;
        }
    }

    @Test
    void everyMemberHasItsTurn() throws Exception {
        Group group = new Group();
        for (String name : new String[] {"a", "b", "c"}) {
            group.member(curator(), "/turns", name);
        }
        Set<String> led = new HashSet<>();
        for (int term = 0; term < 100 && led.size() < 3; term++) {
            led.add(next(group.terms));
            group.mayGo.release();
        }
        assertEquals(Set.of("a", "b", "c"), led);
        assertEquals(1, group.most.get());
    }

    @Test
    void anotherLeadsWhenTheLeadersSessionIsGone() throws Exception {
        Group group = new Group();
        Map<String, CuratorFramework> clients = new HashMap<>();
        LeaderSelector selector = null;
        for (String name : new String[] {"a", "b"}) {
            clients.put(name, curator());
            selector = group.member(clients.get(name), "/gone", name);
        }
        LeaderSelector last = selector;
        until("both to take part", () -> last.getParticipants().size() == 2);
        String first = next(group.terms);
        expire(clients.get(first).getZookeeperClient().getZooKeeper());
        String second = next(group.terms);
        assertEquals(Set.of("a", "b"), Set.of(first, second));
    }
}
