package clients;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.recipes.leader.LeaderLatch;
import org.apache.curator.framework.recipes.leader.LeaderLatchListener;
import org.junit.jupiter.api.Test;

class LeaderLatchTest extends Recipe {
    private LeaderLatch leader(List<LeaderLatch> latches) throws Exception {
        until("somebody to lead", () -> latches.stream().anyMatch(LeaderLatch::hasLeadership));
        List<LeaderLatch> leaders = new ArrayList<>(latches);
        leaders.removeIf(latch -> !latch.hasLeadership());
        assertEquals(1, leaders.size());
        return leaders.get(0);
    }

    @Test
    void anotherLeadsWhenTheLeadersClientIsClosed() throws Exception {
        List<CuratorFramework> clients = new ArrayList<>();
        List<LeaderLatch> latches = new ArrayList<>();
        for (int n = 0; n < 3; n++) {
            clients.add(curator());
            latches.add(new LeaderLatch(clients.get(n), "/latch", "member " + n));
            latches.get(n).start();
        }
        until("all to take part", () -> latches.get(0).getParticipants().size() == 3);
        while (!latches.isEmpty()) {
            LeaderLatch leader = leader(latches);
            int place = latches.indexOf(leader);
            String known = latches.get(latches.size() - 1).getLeader().getId();
            assertEquals(leader.getId(), known);
            clients.remove(place).close();
            latches.remove(place);
        }
    }

    @Test
    void whoseSessionIsGoneLeadsNoMoreAndComesBack() throws Exception {
        CuratorFramework client = curator();
        LeaderLatch first = new LeaderLatch(client, "/expired", "first");
        BlockingQueue<Boolean> leads = new LinkedBlockingQueue<>();
        first.addListener(new LeaderLatchListener() {
            @Override
            public void isLeader() {
                leads.add(true);
            }

            @Override
            public void notLeader() {
                leads.add(false);
            }
        });
        first.start();
        assertTrue(next(leads));
        LeaderLatch second = new LeaderLatch(curator(), "/expired", "second");
        second.start();
        until("both to take part", () -> second.getParticipants().size() == 2);
        expire(client.getZookeeperClient().getZooKeeper());
        assertTrue(second.await(PATIENCE_S, TimeUnit.SECONDS));
        assertFalse(next(leads));
        until("the first to take part again", () -> !first.hasLeadership() && second.getParticipants().size() == 2);
        second.close();
        assertTrue(first.await(PATIENCE_S, TimeUnit.SECONDS));
    }
}
