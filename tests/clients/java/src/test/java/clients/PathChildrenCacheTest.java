package clients;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.recipes.cache.PathChildrenCache;
import org.apache.curator.framework.recipes.cache.PathChildrenCache.StartMode;
import org.junit.jupiter.api.Test;

@SuppressWarnings("deprecation")
class PathChildrenCacheTest extends Recipe {
    private PathChildrenCache cache(CuratorFramework client, String path, BlockingQueue<String> came) throws Exception {
        PathChildrenCache cache = closing(new PathChildrenCache(client, path, true));
        cache.getListenable().addListener((of, event) -> {
            switch (event.getType()) {
                case INITIALIZED:
                    came.add("INITIALIZED " + event.getInitialData().size());
                    break;
                case CHILD_ADDED:
                case CHILD_UPDATED:
                case CHILD_REMOVED:
                    came.add(event.getType() + " " + event.getData().getPath() + " " + text(event.getData().getData()));
                    break;
                default:
            }
        });
        cache.start(StartMode.POST_INITIALIZED_EVENT);
        return cache;
    }

    @Test
    void itSeesChildrenComeChangeAndGo() throws Exception {
        CuratorFramework other = curator();
        other.create().creatingParentsIfNeeded().forPath("/children/old", bytes("0"));
        BlockingQueue<String> came = new LinkedBlockingQueue<>();
        PathChildrenCache cache = cache(curator(), "/children", came);
        assertEquals("CHILD_ADDED /children/old 0", next(came));
        assertEquals("INITIALIZED 1", next(came));
        other.create().forPath("/children/a", bytes("1"));
        assertEquals("CHILD_ADDED /children/a 1", next(came));
        other.setData().forPath("/children/a", bytes("2"));
        assertEquals("CHILD_UPDATED /children/a 2", next(came));
        // A grandchild is none of its business.
        other.create().forPath("/children/a/b", bytes("3"));
        other.delete().forPath("/children/old");
        assertEquals("CHILD_REMOVED /children/old 0", next(came));
        assertEquals(1, cache.getCurrentData().size());
    }

    @Test
    void itIsTrueAgainAfterARestart() throws Exception {
        CuratorFramework other = curator();
        other.create().forPath("/again", bytes(""));
        BlockingQueue<String> came = new LinkedBlockingQueue<>();
        PathChildrenCache cache = cache(curator(), "/again", came);
        assertEquals("INITIALIZED 0", next(came));
        server.killAndStart();
        other.create().forPath("/again/a", bytes("1"));
        assertEquals("CHILD_ADDED /again/a 1", next(came));
        other.delete().forPath("/again/a");
        assertEquals("CHILD_REMOVED /again/a 1", next(came));
        assertEquals(0, cache.getCurrentData().size());
    }
}
