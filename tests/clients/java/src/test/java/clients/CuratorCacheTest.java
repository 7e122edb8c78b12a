package clients;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.recipes.cache.CuratorCache;
import org.apache.curator.framework.recipes.cache.CuratorCacheListener;
import org.junit.jupiter.api.Test;

class CuratorCacheTest extends Recipe {
    /** A cache of a subtree that is filled; what changes from then on comes into the queue. */
    private static CuratorCache cache(CuratorFramework client, String path, BlockingQueue<String> came) throws InterruptedException {
        CuratorCache cache = CuratorCache.build(client, path);
        CountDownLatch filled = new CountDownLatch(1);
        CuratorCacheListener listener = CuratorCacheListener.builder()
                .forInitialized(filled::countDown)
                .forAll((type, before, now) -> came.add(type + " " + (now == null ? before : now).getPath()
                        + (now == null ? "" : " " + text(now.getData()))))
                .afterInitialized()
                .build();
        cache.listenable().addListener(listener);
        cache.start();
        assertTrue(filled.await(PATIENCE_S, TimeUnit.SECONDS));
        return cache;
    }

    @Test
    void itSeesCreateChangeAndDeleteInOrder() throws Exception {
        CuratorFramework other = curator();
        other.create().creatingParentsIfNeeded().forPath("/cache/old", bytes("old"));
        BlockingQueue<String> came = new LinkedBlockingQueue<>();
        CuratorCache cache = cache(curator(), "/cache", came);
        assertEquals("old", text(cache.get("/cache/old").orElseThrow().getData()));
        for (String path : List.of("/cache/a", "/cache/a/b")) {
            other.create().forPath(path, bytes("1"));
            assertEquals("NODE_CREATED " + path + " 1", next(came));
            other.setData().forPath(path, bytes("2"));
            assertEquals("NODE_CHANGED " + path + " 2", next(came));
        }
        other.delete().forPath("/cache/a/b");
        other.delete().forPath("/cache/a");
        assertEquals("NODE_DELETED /cache/a/b", next(came));
        assertEquals("NODE_DELETED /cache/a", next(came));
        assertEquals(2, cache.size());
        cache.close();
    }

    @Test
    void itIsTrueAgainAfterARestart() throws Exception {
        CuratorFramework other = curator();
        other.create().creatingParentsIfNeeded().forPath("/kept/a", bytes("1"));
        CuratorCache cache = cache(curator(), "/kept", new LinkedBlockingQueue<>());
        server.killAndStart();
        other.setData().forPath("/kept/a", bytes("2"));
        other.create().forPath("/kept/b", bytes("3"));
        until("the change", () -> cache.get("/kept/a").map(node -> text(node.getData()).equals("2")).orElse(false));
        until("the new node", () -> cache.get("/kept/b").isPresent());
        other.delete().forPath("/kept/b");
        until("the delete", () -> cache.get("/kept/b").isEmpty());
        cache.close();
    }
}
