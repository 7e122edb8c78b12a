package clients;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;

import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.x.discovery.ServiceDiscovery;
import org.apache.curator.x.discovery.ServiceDiscoveryBuilder;
import org.apache.curator.x.discovery.ServiceInstance;
import org.apache.curator.x.discovery.ServiceProvider;
import org.apache.curator.x.discovery.strategies.RoundRobinStrategy;
import org.junit.jupiter.api.Test;

class ServiceDiscoveryTest extends Recipe {
    /** Ends with its client. */
    private static ServiceDiscovery<Void> discovery(CuratorFramework client) throws Exception {
        ServiceDiscovery<Void> discovery =
                ServiceDiscoveryBuilder.builder(Void.class).client(client).basePath("/services").build();
        discovery.start();
        return discovery;
    }

    private static ServiceInstance<Void> instance(String name, String id, int port) throws Exception {
        return ServiceInstance.<Void>builder().name(name).id(id).address("127.0.0.1").port(port).build();
    }

    private static List<String> ask(ServiceProvider<Void> provider, int times) throws Exception {
        List<String> ids = new ArrayList<>();
        for (int n = 0; n < times; n++) {
            ids.add(provider.getInstance().getId());
        }
        return ids;
    }

    @Test
    void instancesAreAskedInTurnAndOnesThatGoNoMore() throws Exception {
        List<CuratorFramework> members = new ArrayList<>();
        List<ServiceDiscovery<Void>> discoveries = new ArrayList<>();
        String[] ids = {"a", "b", "c"};
        for (int n = 0; n < ids.length; n++) {
            members.add(curator());
            discoveries.add(discovery(members.get(n)));
            discoveries.get(n).registerService(instance("turn", ids[n], 8000 + n));
        }
        ServiceDiscovery<Void> asks = discovery(curator());
        ServiceProvider<Void> provider = closing(asks.serviceProviderBuilder()
                .serviceName("turn")
                .providerStrategy(new RoundRobinStrategy<>())
                .build());
        provider.start();
        until("all instances", () -> provider.getAllInstances().size() == 3);
        List<String> asked = ask(provider, 6);
        assertEquals(Set.of(ids), new HashSet<>(asked.subList(0, 3)));
        assertEquals(asked.subList(0, 3), asked.subList(3, 6));
        // One says that it goes, of the other the session ends.
        discoveries.get(0).unregisterService(instance("turn", "a", 8000));
        until("two instances", () -> provider.getAllInstances().size() == 2);
        assertEquals(Set.of("b", "c"), new HashSet<>(ask(provider, 2)));
        members.get(1).close();
        until("one instance", () -> provider.getAllInstances().size() == 1);
        assertEquals(List.of("c", "c"), ask(provider, 2));
        assertEquals(8002, provider.getInstance().getPort());
    }

    @Test
    void aServiceIsRegisteredAgainAfterItsSessionIsGone() throws Exception {
        CuratorFramework member = curator();
        ServiceDiscovery<Void> discovery = discovery(member);
        discovery.registerService(instance("again", "a", 9000));
        ServiceDiscovery<Void> asks = discovery(curator());
        assertEquals("a", asks.queryForInstance("again", "a").getId());
        assertNull(asks.queryForInstance("again", "b"));
        long session = member.getZookeeperClient().getZooKeeper().getSessionId();
        expire(member.getZookeeperClient().getZooKeeper());
        CuratorFramework looks = curator();
        until("the instance again", () -> {
            var stat = looks.checkExists().forPath("/services/again/a");
            return stat != null && stat.getEphemeralOwner() != session;
        });
        assertEquals(1, asks.queryForInstances("again").size());
    }
}
