"""Which tests of the suites run, which are left out and why, and which failures are explained.

A rule names a suite, a unit (a module, a class, or the suite itself) and a test by patterns with `*`; of the rules of a
test the first holds, and a test without a rule runs. README.md shows both tables, written by `run --tables`.
"""

import fnmatch

# Why a test is left out.
REASONS = {
    "ensemble": "needs an ensemble, or starts and stops several servers",
    "inside": "starts parts of Apache's server by themselves, or looks inside it",
    "metrics": "reads the metrics of a Java server in the test's own process",
    "client": "asks no server: it is about the client or about code of the server",
    "base": "is a base class, whose tests run with the classes that extend it",
    "files": "reads or writes Apache's files",
    "tls": "needs TLS, which is not there yet",
    "sasl": "needs SASL, which is not there yet",
    "provider": "needs a provider or an algorithm of authentication that ours refuses at the start (docs/configure.md)",
    "limit": "sets jute.maxbuffer to 100 bytes; ours takes 1,024 and more",
    "old": "asks for a server of Apache's 3.3 or 3.4",
    "build": "looks at the environment of its own project's builds",
}
RUNS = "runs"


def rules(suite, reason, *units):
    """Whole units, left out for one reason."""
    return [(suite, unit, "*", reason) for unit in units]


def tests(suite, unit, reason, *names):
    return [(suite, unit, name, reason) for name in names]


KAZOO = [
    *rules("kazoo", "build", "test_build"),
    *rules("kazoo", "sasl", "test_sasl"),
    *tests("kazoo", "test_client", "tls", "TestSSLClient::*"),
    *tests("kazoo", "test_client", "ensemble", "TestReconfig::*"),
    *tests("kazoo", "test_*", "ensemble", "*::test_update_host_list"),
    *tests("kazoo", "test_connection", "ensemble", "TestReadOnlyMode::*"),
]

RUST = [
    *tests("zookeeper-client", "zookeeper", "old", "test_zookeeper_old_server::*"),
    *tests("zookeeper-client", "zookeeper", "ensemble", "test_readonly*", "test_update_ensemble"),
    *tests("zookeeper-client", "zookeeper", "sasl", "test_auth_failed", "test_sasl*"),
    *tests("zookeeper-client", "zookeeper", "tls", "test_tls*"),
]

ZOOKEEPER = [
    *tests("zookeeper", "server.CreateTTLTest", "inside", "testCreate", "testCreateSequential", "testCreateAsync", "testModifying",
           "testMulti"),
    ("zookeeper", "server.CreateTTLTest", "*", RUNS),
    *rules("zookeeper", "ensemble", "server.ServerIdTest", "server.quorum.*", "server.embedded.*", "server.controller.*"),
    *rules("zookeeper", "inside", "server.*"),
    *rules("zookeeper", "inside", "audit.*", "ServerConfigTest"),
    *rules("zookeeper", "sasl", "SaslAuthTest", "KerberosTicketRenewalTest", "test.Sasl*", "test.SaslClientTest"),
    *rules("zookeeper", "tls", "test.ClientSSLTest", "test.SSLAuthTest", "test.X509AuthTest"),
    *rules("zookeeper", "provider", "test.EnsembleAuthTest", "test.KeyAuthClientTest", "test.DigestAuthDisabledTest",
           "test.AuthSHA2Test", "test.AuthSHA3Test"),
    *rules("zookeeper", "client", "cli.*", "client.*", "common.*", "compat.*", "metrics.*", "util.*", "ClientCanonicalizeTest",
           "ClientCnxnSocketTest", "ClientReconnectTest", "CustomHostProviderTest", "HostProviderSelectionTest",
           "MultiOperationRecordTest", "MultiResponseTest", "PortAssignmentTest", "test.AtomicFileOutputStreamTest",
           "test.ConnectStringParserTest", "test.CreateModeTest", "test.EventTypeTest", "test.IPAuthTest", "test.KeeperStateTest",
           "test.OSMXBeanTest", "test.QuotasTest", "test.SessionTrackerCheckTest", "test.StaticHostProviderTest",
           "test.StatsTrackTest", "test.StringUtilTest", "test.WatchedEventTest"),
    *rules("zookeeper", "ensemble", "ClientCnxnSocketFragilityTest", "ClientRequestTimeoutTest", "ConfigWatcherPathTest",
           "EnforceAuthenticationTest", "test.AsyncHammerTest", "test.AsyncTest", "test.DuplicateLocalSessionUpgradeTest",
           "test.FLE*", "test.FollowerResyncConcurrencyTest", "test.FourLetterWordsQuorumTest", "test.HierarchicalQuorumTest",
           "test.LeaderSessionTrackerTest", "test.LocalSession*", "test.NettyNetty*", "test.NioNetty*",
           "test.NonRecoverableErrorTest", "test.Observer*", "test.Quorum*", "test.ReadOnlyMode*", "test.Reconfig*",
           "test.SessionUpgradeTest", "test.StandaloneTest", "test.ThrottledOpObserverTest", "test.ThrottledOpQuorumTest",
           "test.WatchEventWhenAutoResetTest"),
    *rules("zookeeper", "files", "test.EmptiedSnapshotRecoveryTest", "test.GetProposalFromTxnTest", "test.InvalidSnapshotTest",
           "test.LoadFromLog*", "test.LogChopperTest", "test.RestoreCommittedLogTest", "test.TruncateTest",
           "test.ZkDatabaseCorruptionTest"),
    *rules("zookeeper", "ensemble", "test.RepeatStartupTest"),
    *rules("zookeeper", "inside", "test.NIOConnectionFactoryFdLeakTest", "test.ResponseCacheTest", "test.ThrottledOpStandaloneTest",
           "test.UnsupportedAddWatcherTest"),
    *tests("zookeeper", "test.ACLTest", "client", "testIPAuthentication*", "testAuthWithIPV*"),
    *tests("zookeeper", "test.ACLTest", "inside", "testNettyIpAuthDefault", "testAcls"),
    *tests("zookeeper", "test.SessionTest", "inside", "testMinMaxSessionTimeout", "testMaximumCnxnPerIP"),
    *rules("zookeeper", "limit", "test.BufferSizeTest"),
    *tests("zookeeper", "test.CheckTest", "ensemble", "testCluster*"),
    *tests("zookeeper", "ZKUtilTest", "client", "testUnreadableFileInput"),
    # It tells a part of the server in its own process to refuse the next create.
    *[("zookeeper", unit, "testPathValidation", "inside")
      for unit in ("test.ClientTest", "test.ChrootClientTest", "test.ClientSkipACLTest")],
    *tests("zookeeper", "test.WatcherTest", "inside", "testWatcherCount"),
    *tests("zookeeper", "RemoveWatchesTest", "inside", "testRemoveAllChildWatchesOnAPath", "testRemoveAllDataWatchesOnAPath",
           "testRemoveAllPersistentRecursiveWatchesOnAPath", "testRemoveAllPersistentWatchesOnAPath",
           "testRemoveAllPersistentWatchesOnAPathPartially", "testRemoveAllWatchesOnAPath",
           "testRemovePersistentWatchesOnAPathPartially"),
    *tests("zookeeper", "test.ZooKeeperQuotaTest", "inside", "testQuota"),
    *tests("zookeeper", "test.ZooKeeperQuotaTest", "metrics", "testSetQuotaWhenExceedBytesHardQuota",
           "testSetQuotaWhenExceedBytesHardQuotaExtend", "testSetQuotaWhenSetQuotaLessThanExistBytes",
           "testSetQuotaWhenSetChildDataExceedBytesQuota", "testSetQuotaWhenCreateNodeExceedBytesQuota",
           "testSetQuotaWhenExceedCountHardQuota", "testSetQuotaWhenExceedCountHardQuotaExtend",
           "testSetQuotaWhenSetQuotaLessThanExistCount", "testSetQuotaWhenExceedBothBytesAndCountHardQuota",
           "testDeleteBytesQuota", "testDeleteCountQuota"),
]

CURATOR = [
    *rules("curator", "ensemble", "TestReadOnly", "TestReconfiguration", "TestWithCluster", "TestCuratorCacheConsistency",
           "TestPathChildrenCacheInCluster", "TestLeaderLatchCluster", "TestLeaderSelectorCluster",
           "TestInterProcessSemaphoreCluster", "TestLongNetworkPartition"),
    *rules("curator", "inside", "TestLeaderSelectorEdges"),
    *rules("curator", "client", "TestCleanState", "TestGzipCompressionProvider", "TestCircuitBreaker",
           "TestCircuitBreakingConnectionStateListener", "TestCloseableExecutorService", "TestCloseableScheduledExecutorService",
           "TestZKPaths", "TestNeverConnected", "TestQueueItem"),
    *rules("curator", "base", "TestEventOrdering", "TestInterProcessMutexBase"),
    *tests("curator", "TestFrameworkEdges", "ensemble", "testProtectionWithKilledSession"),
    *tests("curator", "TestCuratorCacheEdges", "ensemble", "testServerLoss"),
]

RULES = [*KAZOO, *RUST, *ZOOKEEPER, *CURATOR]

# suite, unit, test, on which side ("ours", "apache", "both"), why.
EXPLAINED = [
    ("zookeeper", "test.ServerCnxnTest", "testServerCnxnExpiry", "ours",
     "a connection without a session is closed after 10 s, which is Apache's default too; `nio.sessionlessCnxnTimeout`, by "
     "which the test asks for 1 s, has no effect (docs/configure.md)"),
]


def verdict(suite, unit, test):
    """RUNS, or the key of the reason why this test is left out. `test` without the number of its invocation."""
    for of, units, names, reason in RULES:
        if of == suite and fnmatch.fnmatchcase(unit, units) and fnmatch.fnmatchcase(test, names):
            return reason
    return RUNS


def left_out(suite, unit):
    """Patterns of the tests of a unit that are left out; `*` alone is the whole unit."""
    names = []
    for of, units, pattern, reason in RULES:
        if of == suite and fnmatch.fnmatchcase(unit, units):
            if reason == RUNS:
                break
            names.append(pattern)
            if pattern == "*":
                break
    return ["*"] if names == ["*"] else names


def explained(suite, unit, test, side):
    """Why this failure is expected, or None."""
    for of, units, names, where, why in EXPLAINED:
        if (of == suite and fnmatch.fnmatchcase(unit, units) and fnmatch.fnmatchcase(test, names)
                and where in ("both", side)):
            return why
    return None


def tables():
    """Both tables, as README.md shows them."""
    rows = ["| Suite | Unit | Tests | Left out because it |", "|---|---|---|---|"]
    grouped = {}
    for suite, unit, name, reason in RULES:
        if reason != RUNS:
            key = (suite, reason, unit if name != "*" else None)
            grouped.setdefault(key, []).append(unit if name == "*" else name)
    for (suite, reason, unit), names in grouped.items():
        listed = ", ".join(f"`{name}`" for name in names)
        units, of = (listed, "all") if unit is None else (f"`{unit}`", listed)
        rows.append(f"| {suite} | {units} | {of} | {REASONS[reason]} |")
    rows += ["", "| Suite | Unit | Test | Fails on | Because |", "|---|---|---|---|---|"]
    rows += [f"| {suite} | `{unit}` | `{test}` | {side} | {why} |" for suite, unit, test, side, why in EXPLAINED]
    return "\n".join(rows) + "\n"
