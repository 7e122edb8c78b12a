package clients;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.concurrent.TimeUnit;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.recipes.nodes.PersistentTtlNode;
import org.apache.zookeeper.data.Stat;
import org.junit.jupiter.api.Test;

class PersistentTtlNodeTest extends Recipe {
    private static final long TTL_MS = 4_000;

    @Test
    void itStaysWhileItIsTouchedAndThenGoes() throws Exception {
        CuratorFramework other = curator();
        Stat first;
        try (PersistentTtlNode node = new PersistentTtlNode(curator(), "/ttl/node", TTL_MS, bytes("data"))) {
            node.start();
            assertTrue(node.waitForInitialCreate(PATIENCE_S, TimeUnit.SECONDS));
            first = other.checkExists().forPath("/ttl/node");
            assertNotNull(first);
            // A touch is a change of its child, every half of its time.
            until("touches", () -> {
                Stat touch = other.checkExists().forPath("/ttl/node/" + PersistentTtlNode.DEFAULT_CHILD_NODE_NAME);
                return touch != null && touch.getVersion() >= 2;
            });
            assertEquals(first.getCzxid(), other.checkExists().forPath("/ttl/node").getCzxid());
            assertEquals("data", text(other.getData().forPath("/ttl/node")));
        }
        until("the node to go", () -> other.checkExists().forPath("/ttl/node") == null);
    }

    @Test
    void itOutlivesItsClientForItsTimeOnly() throws Exception {
        CuratorFramework other = curator();
        CuratorFramework client = curator();
        PersistentTtlNode node = new PersistentTtlNode(client, "/ttl/left", TTL_MS, bytes("data"));
        node.start();
        assertTrue(node.waitForInitialCreate(PATIENCE_S, TimeUnit.SECONDS));
        client.close();
        until("the node to go", () -> other.checkExists().forPath("/ttl/left") == null);
    }
}
