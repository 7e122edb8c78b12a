package clients;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.concurrent.TimeUnit;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.recipes.nodes.PersistentNode;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.data.Stat;
import org.junit.jupiter.api.Test;

class PersistentNodeTest extends Recipe {
    private PersistentNode node(CuratorFramework client, String path) throws Exception {
        PersistentNode node = closing(new PersistentNode(client, CreateMode.EPHEMERAL, false, path, bytes("here")));
        node.start();
        assertTrue(node.waitForInitialCreate(PATIENCE_S, TimeUnit.SECONDS));
        return node;
    }

    @Test
    void whoDeletesItSeesItAgain() throws Exception {
        PersistentNode node = node(curator(), "/persistent/a");
        CuratorFramework other = curator();
        for (int n = 0; n < 3; n++) {
            long made = other.checkExists().forPath("/persistent/a").getCzxid();
            other.delete().forPath("/persistent/a");
            until("the node again", () -> {
                Stat stat = other.checkExists().forPath("/persistent/a");
                return stat != null && stat.getCzxid() > made;
            });
        }
        assertEquals("here", text(other.getData().forPath("/persistent/a")));
        node.setData(bytes("changed"));
        until("the change", () -> text(other.getData().forPath("/persistent/a")).equals("changed"));
    }

    @Test
    void itComesAgainWithTheNextSession() throws Exception {
        CuratorFramework client = curator();
        node(client, "/persistent/b");
        CuratorFramework other = curator();
        long session = other.checkExists().forPath("/persistent/b").getEphemeralOwner();
        assertEquals(client.getZookeeperClient().getZooKeeper().getSessionId(), session);
        expire(client.getZookeeperClient().getZooKeeper());
        until("the node of the next session", () -> {
            Stat stat = other.checkExists().forPath("/persistent/b");
            return stat != null && stat.getEphemeralOwner() != session;
        });
        assertEquals("here", text(other.getData().forPath("/persistent/b")));
    }

    @Test
    void closedItIsGone() throws Exception {
        PersistentNode node = node(curator(), "/persistent/c");
        CuratorFramework other = curator();
        node.close();
        until("the node to go", () -> other.checkExists().forPath("/persistent/c") == null);
    }
}
