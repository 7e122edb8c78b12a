/* The C client (libzookeeper_mt) against a server that tests/clients/run gives: one line for each test, and at the end
 * how many there were. The first thing that is not as it should be ends the program. */

#include <arpa/inet.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <zookeeper/zookeeper.h>

#define PATIENCE_S 60
/* ms: a session that must not expire while the machine is busy, and one that is to. */
#define LASTING_MS 30000
#define SHORT_MS 1000
#define ROUNDS 200
#define WAITING_MAX 1024

static int passed;

static void failed(const char *file, int line, const char *what, ...)
{
    va_list more;
    va_start(more, what);
    printf("FAILED at %s:%d: ", file, line);
    vprintf(what, more);
    printf("\n");
    va_end(more);
    fflush(stdout);
    _exit(1);
}

#define CHECK(holds)                                                                                                      \
    do {                                                                                                                  \
        if (!(holds))                                                                                                     \
            failed(__FILE__, __LINE__, "%s", #holds);                                                                     \
    } while (0)

#define IS(due, call)                                                                                                     \
    do {                                                                                                                  \
        int came_ = (call);                                                                                               \
        if (came_ != (due))                                                                                               \
            failed(__FILE__, __LINE__, "%s: %d (%s)", #call, came_, zerror(came_));                                       \
    } while (0)

static void is_text(const char *due, const char *came, int line)
{
    if (strcmp(due, came))
        failed(__FILE__, line, "\"%s\" instead of \"%s\"", came, due);
}

#define TEXT(due, came) is_text(due, came, __LINE__)

/* The server: a connection to the control port, which starts it and takes it away. */

struct server {
    int control;
    FILE *answers;
    char hosts[64];
};

static void ask(struct server *server, const char *request, char *answer, size_t room)
{
    CHECK(dprintf(server->control, "%s\n", request) > 0);
    CHECK(fgets(answer, (int)room, server->answers));
    if (!strncmp(answer, "failed", 6))
        failed(__FILE__, __LINE__, "%s: %s", request, answer);
}

static void start(struct server *server)
{
    char answer[4096];
    ask(server, "start", answer, sizeof answer);
    CHECK(!strncmp(answer, "port ", 5));
    snprintf(server->hosts, sizeof server->hosts, "127.0.0.1:%d", atoi(answer + 5));
}

static void new_server(struct server *server)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(getenv("RK_CONTROL"));
    address.sin_port = htons((uint16_t)atoi(getenv("RK_CONTROL")));
    CHECK(fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) == 0);
    server->control = fd;
    server->answers = fdopen(fd, "r");
    CHECK(server->answers);
    start(server);
}

static void kill_and_start(struct server *server)
{
    char answer[4096];
    ask(server, "kill", answer, sizeof answer);
    start(server);
}

/* Events: a watcher appends them, and tests wait for the next. A session's events go into a list of their own. */

struct events {
    pthread_mutex_t lock;
    pthread_cond_t more;
    int first, count;
    struct {
        int type, state;
        char path[128];
    } waiting[WAITING_MAX];
};

#define EVENTS {.lock = PTHREAD_MUTEX_INITIALIZER, .more = PTHREAD_COND_INITIALIZER}

static void append(struct events *events, int type, int state, const char *path)
{
    pthread_mutex_lock(&events->lock);
    CHECK(events->count < WAITING_MAX);
    events->waiting[events->count].type = type;
    events->waiting[events->count].state = state;
    snprintf(events->waiting[events->count].path, sizeof events->waiting[0].path, "%s", path ? path : "");
    events->count++;
    pthread_cond_broadcast(&events->more);
    pthread_mutex_unlock(&events->lock);
}

/* Of a node. That a session breaks and comes back is told to every watcher, and is not its business. */
static void on_node(zhandle_t *handle, int type, int state, const char *path, void *context)
{
    (void)handle;
    if (type != ZOO_SESSION_EVENT)
        append(context, type, state, path);
}

static void on_session(zhandle_t *handle, int type, int state, const char *path, void *context)
{
    (void)handle;
    if (type == ZOO_SESSION_EVENT)
        append(context, type, state, path);
}

/* Waits for the next event, and forgets it; returns its place. */
static int next(struct events *events, const char *for_what)
{
    struct timespec end;
    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += PATIENCE_S;
    pthread_mutex_lock(&events->lock);
    while (events->first == events->count)
        if (pthread_cond_timedwait(&events->more, &events->lock, &end))
            failed(__FILE__, __LINE__, "no event: %s", for_what);
    int at = events->first++;
    pthread_mutex_unlock(&events->lock);
    return at;
}

static void comes(struct events *events, int type, const char *path, int line)
{
    int at = next(events, path);
    if (events->waiting[at].type != type || strcmp(events->waiting[at].path, path))
        failed(__FILE__, line, "event %d of %s instead of %d of %s", events->waiting[at].type, events->waiting[at].path, type, path);
}

#define COMES(events, type, path) comes(events, type, path, __LINE__)

static void state_comes(struct events *events, int state)
{
    while (events->waiting[next(events, "a state of the session")].state != state)
        ;
}

static int none_waits(struct events *events)
{
    pthread_mutex_lock(&events->lock);
    int none = events->first == events->count;
    pthread_mutex_unlock(&events->lock);
    return none;
}

static zhandle_t *open_session(struct server *server, struct events *states, const clientid_t *id, int timeout_ms)
{
    zhandle_t *handle = zookeeper_init(server->hosts, on_session, timeout_ms, id, states, 0);
    CHECK(handle);
    state_comes(states, ZOO_CONNECTED_STATE);
    return handle;
}

static void create(zhandle_t *handle, const char *path, const char *data, int mode)
{
    IS(ZOK, zoo_create(handle, path, data, (int)strlen(data), &ZOO_OPEN_ACL_UNSAFE, mode, NULL, 0));
}

static void data_is(zhandle_t *handle, const char *path, const char *due)
{
    char data[256];
    int length = sizeof data - 1;
    IS(ZOK, zoo_wget(handle, path, NULL, NULL, data, &length, NULL));
    CHECK(length >= 0 && length < (int)sizeof data);
    data[length] = 0;
    TEXT(due, data);
}

/* The tests. */

static void a_node_from_create_to_delete(struct server *server)
{
    struct events states = EVENTS;
    zhandle_t *zk = open_session(server, &states, NULL, LASTING_MS);
    char path[64];
    struct Stat made, changed;
    IS(ZOK, zoo_create2(zk, "/a", "one", 3, &ZOO_OPEN_ACL_UNSAFE, ZOO_PERSISTENT, path, sizeof path, &made));
    TEXT("/a", path);
    CHECK(made.version == 0 && made.dataLength == 3 && made.ephemeralOwner == 0);
    data_is(zk, "/a", "one");
    IS(ZNODEEXISTS, zoo_create(zk, "/a", "", 0, &ZOO_OPEN_ACL_UNSAFE, ZOO_PERSISTENT, NULL, 0));
    IS(ZNONODE, zoo_create(zk, "/none/a", "", 0, &ZOO_OPEN_ACL_UNSAFE, ZOO_PERSISTENT, NULL, 0));
    IS(ZOK, zoo_set2(zk, "/a", "two!", 4, 0, &changed));
    CHECK(changed.version == 1 && changed.dataLength == 4 && changed.mzxid > made.mzxid);
    IS(ZBADVERSION, zoo_set2(zk, "/a", "", 0, 0, NULL));
    IS(ZOK, zoo_exists(zk, "/a", 0, &made));
    CHECK(made.mzxid == changed.mzxid);
    /* No data at all is not the same as empty data. */
    IS(ZOK, zoo_set(zk, "/a", NULL, -1, -1));
    int length = 7;
    char data[8];
    IS(ZOK, zoo_get(zk, "/a", 0, data, &length, NULL));
    CHECK(length == -1);
    IS(ZBADVERSION, zoo_delete(zk, "/a", 7));
    IS(ZOK, zoo_delete(zk, "/a", 2));
    IS(ZNONODE, zoo_exists(zk, "/a", 0, NULL));
    IS(ZNONODE, zoo_delete(zk, "/a", -1));
    IS(ZOK, zookeeper_close(zk));
}

static void children_are_listed_and_numbered(struct server *server)
{
    struct events states = EVENTS, events = EVENTS;
    zhandle_t *zk = open_session(server, &states, NULL, LASTING_MS);
    char path[64];
    create(zk, "/p", "", ZOO_PERSISTENT);
    struct String_vector names;
    struct Stat stat;
    IS(ZOK, zoo_wget_children2(zk, "/p", on_node, &events, &names, &stat));
    CHECK(names.count == 0 && stat.numChildren == 0);
    deallocate_String_vector(&names);
    for (int n = 0; n < 3; n++) {
        char due[64];
        snprintf(due, sizeof due, "/p/n-%010d", n);
        IS(ZOK, zoo_create(zk, "/p/n-", "", 0, &ZOO_OPEN_ACL_UNSAFE, ZOO_PERSISTENT_SEQUENTIAL, path, sizeof path));
        TEXT(due, path);
    }
    COMES(&events, ZOO_CHILD_EVENT, "/p");
    IS(ZNOTEMPTY, zoo_delete(zk, "/p", -1));
    IS(ZOK, zoo_get_children2(zk, "/p", 0, &names, &stat));
    CHECK(names.count == 3 && stat.numChildren == 3 && stat.cversion == 3);
    for (int n = 0; n < names.count; n++)
        CHECK(!strncmp(names.data[n], "n-000000000", 11));
    deallocate_String_vector(&names);
    create(zk, "/p/e", "", ZOO_EPHEMERAL);
    IS(ZNOCHILDRENFOREPHEMERALS, zoo_create(zk, "/p/e/x", "", 0, &ZOO_OPEN_ACL_UNSAFE, ZOO_PERSISTENT, NULL, 0));
    IS(ZOK, zoo_exists(zk, "/p/e", 0, &stat));
    CHECK(stat.ephemeralOwner == zoo_client_id(zk)->client_id);
    CHECK(none_waits(&events));
    IS(ZOK, zookeeper_close(zk));
}

static void a_multi_is_whole_or_nothing(struct server *server)
{
    struct events states = EVENTS;
    zhandle_t *zk = open_session(server, &states, NULL, LASTING_MS);
    zoo_op_t ops[5];
    zoo_op_result_t results[5];
    struct Stat stat;
    char path[64], numbered[64];
    create(zk, "/m", "", ZOO_PERSISTENT);
    zoo_check_op_init(&ops[0], "/m", 0);
    zoo_create_op_init(&ops[1], "/m/a", "x", 1, &ZOO_OPEN_ACL_UNSAFE, ZOO_PERSISTENT, path, sizeof path);
    zoo_create_op_init(&ops[2], "/m/n-", "", 0, &ZOO_OPEN_ACL_UNSAFE, ZOO_PERSISTENT_SEQUENTIAL, numbered, sizeof numbered);
    zoo_set_op_init(&ops[3], "/m/a", "y", 1, 0, &stat);
    zoo_delete_op_init(&ops[4], "/m/n-0000000001", 0);
    IS(ZOK, zoo_multi(zk, 5, ops, results));
    for (int n = 0; n < 5; n++)
        IS(ZOK, results[n].err);
    TEXT("/m/a", path);
    TEXT("/m/n-0000000001", numbered);
    CHECK(stat.version == 1);
    data_is(zk, "/m/a", "y");
    zoo_create_op_init(&ops[0], "/m/b", "", 0, &ZOO_OPEN_ACL_UNSAFE, ZOO_PERSISTENT, path, sizeof path);
    zoo_set_op_init(&ops[1], "/m/a", "z", 1, 7, &stat);
    zoo_delete_op_init(&ops[2], "/m/a", -1);
    IS(ZBADVERSION, zoo_multi(zk, 3, ops, results));
    IS(ZOK, results[0].err);
    IS(ZBADVERSION, results[1].err);
    IS(ZRUNTIMEINCONSISTENCY, results[2].err);
    IS(ZNONODE, zoo_exists(zk, "/m/b", 0, NULL));
    data_is(zk, "/m/a", "y");
    IS(ZOK, zookeeper_close(zk));
}

static void watches_fire_once_and_can_be_removed(struct server *server)
{
    struct events states = EVENTS, of_other = EVENTS, data = EVENTS, children = EVENTS, existence = EVENTS;
    zhandle_t *zk = open_session(server, &states, NULL, LASTING_MS);
    zhandle_t *other = open_session(server, &of_other, NULL, LASTING_MS);
    char room[8];
    int length = sizeof room;
    IS(ZNONODE, zoo_wexists(zk, "/w", on_node, &existence, NULL));
    create(other, "/w", "", ZOO_PERSISTENT);
    COMES(&existence, ZOO_CREATED_EVENT, "/w");
    struct String_vector names;
    IS(ZOK, zoo_wget(zk, "/w", on_node, &data, room, &length, NULL));
    IS(ZOK, zoo_wget_children(zk, "/w", on_node, &children, &names));
    deallocate_String_vector(&names);
    IS(ZOK, zoo_set(other, "/w", "x", 1, -1));
    IS(ZOK, zoo_set(other, "/w", "y", 1, -1));
    create(other, "/w/c", "", ZOO_PERSISTENT);
    IS(ZOK, zoo_delete(other, "/w/c", -1));
    COMES(&data, ZOO_CHANGED_EVENT, "/w");
    COMES(&children, ZOO_CHILD_EVENT, "/w");
    length = sizeof room;
    IS(ZOK, zoo_wget(zk, "/w", on_node, &data, room, &length, NULL));
    IS(ZNOWATCHER, zoo_remove_watches(zk, "/w", ZWATCHTYPE_CHILD, on_node, &children, 0));
    IS(ZOK, zoo_remove_watches(zk, "/w", ZWATCHTYPE_DATA, on_node, &data, 0));
    IS(ZOK, zoo_delete(other, "/w", -1));
    IS(ZNONODE, zoo_exists(zk, "/w", 0, NULL));
    CHECK(none_waits(&data) && none_waits(&children) && none_waits(&existence));
    IS(ZOK, zookeeper_close(other));
    IS(ZOK, zookeeper_close(zk));
}

static void answered(int code, const void *context)
{
    append((struct events *)context, code, 0, NULL);
}

static void lists_of_access_bind(struct server *server)
{
    struct events states = EVENTS, of_other = EVENTS, identified = EVENTS;
    zhandle_t *zk = open_session(server, &states, NULL, LASTING_MS);
    zhandle_t *other = open_session(server, &of_other, NULL, LASTING_MS);
    IS(ZINVALIDACL, zoo_create(zk, "/acl", "x", 1, &ZOO_CREATOR_ALL_ACL, ZOO_PERSISTENT, NULL, 0));
    IS(ZOK, zoo_add_auth(zk, "digest", "ann:secret", 10, answered, &identified));
    COMES(&identified, ZOK, "");
    IS(ZOK, zoo_create(zk, "/acl", "x", 1, &ZOO_CREATOR_ALL_ACL, ZOO_PERSISTENT, NULL, 0));
    char room[8];
    int length = sizeof room;
    IS(ZNOAUTH, zoo_get(other, "/acl", 0, room, &length, NULL));
    IS(ZNOAUTH, zoo_set(other, "/acl", "", 0, -1));
    struct ACL_vector list;
    struct Stat stat;
    IS(ZOK, zoo_get_acl(zk, "/acl", &list, &stat));
    CHECK(list.count == 1 && list.data[0].perms == ZOO_PERM_ALL && stat.aversion == 0);
    TEXT("digest", list.data[0].id.scheme);
    CHECK(!strncmp(list.data[0].id.id, "ann:", 4));
    deallocate_ACL_vector(&list);
    IS(ZBADVERSION, zoo_set_acl(zk, "/acl", 7, &ZOO_READ_ACL_UNSAFE));
    IS(ZOK, zoo_set_acl(zk, "/acl", 0, &ZOO_READ_ACL_UNSAFE));
    data_is(other, "/acl", "x");
    IS(ZNOAUTH, zoo_set(zk, "/acl", "", 0, -1));
    IS(ZOK, zookeeper_close(other));
    IS(ZOK, zookeeper_close(zk));
}

static void containers_and_nodes_with_a_time_go(struct server *server)
{
    struct events states = EVENTS, events = EVENTS;
    zhandle_t *zk = open_session(server, &states, NULL, LASTING_MS);
    IS(ZNONODE, zoo_wexists(zk, "/ttl", on_node, &events, NULL));
    IS(ZOK, zoo_create_ttl(zk, "/ttl", "x", 1, &ZOO_OPEN_ACL_UNSAFE, ZOO_PERSISTENT_WITH_TTL, 1000, NULL, 0));
    COMES(&events, ZOO_CREATED_EVENT, "/ttl");
    if (zoo_wexists(zk, "/ttl", on_node, &events, NULL) == ZOK)
        COMES(&events, ZOO_DELETED_EVENT, "/ttl");
    struct Stat stat;
    IS(ZOK, zoo_create2(zk, "/container", "", 0, &ZOO_OPEN_ACL_UNSAFE, ZOO_CONTAINER, NULL, 0, &stat));
    CHECK(stat.ephemeralOwner == 0);
    create(zk, "/container/a", "", ZOO_PERSISTENT);
    struct events gone = EVENTS;
    IS(ZOK, zoo_wexists(zk, "/container", on_node, &gone, NULL));
    IS(ZOK, zoo_delete(zk, "/container/a", -1));
    COMES(&gone, ZOO_DELETED_EVENT, "/container");
    IS(ZOK, zookeeper_close(zk));
}

static void changed(int code, const struct Stat *stat, const void *context)
{
    append((struct events *)context, code, stat ? stat->version : -1, NULL);
}

static void pipelined_requests_are_answered_in_order(struct server *server)
{
    struct events states = EVENTS, events = EVENTS;
    zhandle_t *zk = open_session(server, &states, NULL, LASTING_MS);
    create(zk, "/line", "", ZOO_PERSISTENT);
    for (int n = 0; n < ROUNDS; n++)
        IS(ZOK, zoo_aset(zk, "/line", "x", 1, -1, changed, &events));
    for (int n = 0; n < ROUNDS; n++) {
        int at = next(&events, "an answer");
        CHECK(events.waiting[at].type == ZOK && events.waiting[at].state == n + 1);
    }
    IS(ZOK, zookeeper_close(zk));
}

static void the_configuration_is_read_and_not_changed(struct server *server)
{
    struct events states = EVENTS;
    zhandle_t *zk = open_session(server, &states, NULL, LASTING_MS);
    char room[1024];
    int length = sizeof room;
    struct Stat stat;
    IS(ZOK, zoo_getconfig(zk, 0, room, &length, &stat));
    CHECK(length <= 0);
    length = sizeof room;
    IS(ZRECONFIGDISABLED, zoo_reconfig(zk, NULL, NULL, "server.1=localhost:2888:3888;2181", -1, room, &length, &stat));
    IS(ZOK, zookeeper_close(zk));
}

static void a_restart_keeps_the_session_its_nodes_and_its_watches(struct server *server)
{
    struct events states = EVENTS, of_other = EVENTS, data = EVENTS, children = EVENTS, existence = EVENTS;
    zhandle_t *zk = open_session(server, &states, NULL, LASTING_MS);
    int64_t session = zoo_client_id(zk)->client_id;
    create(zk, "/k", "", ZOO_PERSISTENT);
    create(zk, "/k/e", "", ZOO_EPHEMERAL);
    char room[8];
    int length = sizeof room;
    struct String_vector names;
    IS(ZOK, zoo_wget(zk, "/k", on_node, &data, room, &length, NULL));
    IS(ZOK, zoo_wget_children(zk, "/k", on_node, &children, &names));
    deallocate_String_vector(&names);
    IS(ZNONODE, zoo_wexists(zk, "/k/new", on_node, &existence, NULL));
    kill_and_start(server);
    state_comes(&states, ZOO_CONNECTED_STATE);
    CHECK(zoo_client_id(zk)->client_id == session);
    struct Stat stat;
    IS(ZOK, zoo_exists(zk, "/k/e", 0, &stat));
    CHECK(stat.ephemeralOwner == session);
    zhandle_t *other = open_session(server, &of_other, NULL, LASTING_MS);
    IS(ZOK, zoo_set(other, "/k", "x", 1, -1));
    create(other, "/k/new", "", ZOO_PERSISTENT);
    COMES(&data, ZOO_CHANGED_EVENT, "/k");
    COMES(&children, ZOO_CHILD_EVENT, "/k");
    COMES(&existence, ZOO_CREATED_EVENT, "/k/new");
    IS(ZOK, zookeeper_close(other));
    IS(ZOK, zookeeper_close(zk));
}

static void a_session_that_was_closed_elsewhere_has_expired(struct server *server)
{
    struct events states = EVENTS, of_other = EVENTS, of_twin = EVENTS, gone = EVENTS;
    zhandle_t *zk = open_session(server, &states, NULL, LASTING_MS);
    zhandle_t *other = open_session(server, &of_other, NULL, LASTING_MS);
    create(zk, "/mine", "", ZOO_EPHEMERAL);
    IS(ZOK, zoo_wexists(other, "/mine", on_node, &gone, NULL));
    /* The first client comes back at once, and may take the session away again before its twin has closed it. */
    clientid_t id = *zoo_client_id(zk);
    for (struct Stat stat; zoo_exists(other, "/mine", 0, &stat) == ZOK;) {
        zhandle_t *twin = zookeeper_init(server->hosts, on_session, LASTING_MS, &id, &of_twin, 0);
        CHECK(twin);
        int state;
        do
            state = of_twin.waiting[next(&of_twin, "an answer to the twin")].state;
        while (state != ZOO_CONNECTED_STATE && state != ZOO_EXPIRED_SESSION_STATE);
        zookeeper_close(twin);
    }
    COMES(&gone, ZOO_DELETED_EVENT, "/mine");
    state_comes(&states, ZOO_EXPIRED_SESSION_STATE);
    CHECK(zoo_state(zk) == ZOO_EXPIRED_SESSION_STATE && is_unrecoverable(zk) == ZINVALIDSTATE);
    int code = zoo_exists(zk, "/mine", 0, NULL);
    CHECK(code == ZINVALIDSTATE || code == ZSESSIONEXPIRED);
    zookeeper_close(zk);
    IS(ZOK, zookeeper_close(other));
}

/* A process that owns a node and dies without a word: the server finds out by itself. */
static void a_session_of_which_nothing_is_heard_expires(struct server *server)
{
    struct events states = EVENTS, events = EVENTS;
    zhandle_t *zk = open_session(server, &states, NULL, LASTING_MS);
    IS(ZNONODE, zoo_wexists(zk, "/orphan", on_node, &events, NULL));
    char *const arguments[] = {"program", "orphan", server->hosts, NULL};
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        execv("/proc/self/exe", arguments);
        _exit(1);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    COMES(&events, ZOO_CREATED_EVENT, "/orphan");
    if (zoo_wexists(zk, "/orphan", on_node, &events, NULL) == ZOK)
        COMES(&events, ZOO_DELETED_EVENT, "/orphan");
    IS(ZOK, zookeeper_close(zk));
}

static int orphan(const char *hosts)
{
    struct events states = EVENTS;
    struct server server;
    snprintf(server.hosts, sizeof server.hosts, "%s", hosts);
    zhandle_t *zk = open_session(&server, &states, NULL, SHORT_MS);
    CHECK(zoo_recv_timeout(zk) == SHORT_MS);
    create(zk, "/orphan", "", ZOO_EPHEMERAL);
    _exit(0);
}

#define RUN(test)                                                                                                         \
    do {                                                                                                                  \
        test(&server);                                                                                                    \
        passed++;                                                                                                         \
        printf("ok %s\n", #test);                                                                                         \
        fflush(stdout);                                                                                                   \
    } while (0)

int main(int count, char **words)
{
    zoo_set_debug_level((ZooLogLevel)0);
    if (count == 3 && !strcmp(words[1], "orphan"))
        return orphan(words[2]);
    struct server server;
    new_server(&server);
    RUN(a_node_from_create_to_delete);
    RUN(children_are_listed_and_numbered);
    RUN(a_multi_is_whole_or_nothing);
    RUN(watches_fire_once_and_can_be_removed);
    RUN(lists_of_access_bind);
    RUN(containers_and_nodes_with_a_time_go);
    RUN(pipelined_requests_are_answered_in_order);
    RUN(the_configuration_is_read_and_not_changed);
    RUN(a_restart_keeps_the_session_its_nodes_and_its_watches);
    RUN(a_session_that_was_closed_elsewhere_has_expired);
    RUN(a_session_of_which_nothing_is_heard_expires);
    printf("%d passed, 0 failed\n", passed);
    return 0;
}
