// The Node client (node-zookeeper-client) against a server that tests/clients/run gives: one line for each test, and
// at the end how many there were. The first thing that is not as it should be ends the program.
'use strict';

const assert = require('assert');
const net = require('net');
const readline = require('readline');
const { promisify } = require('util');
const zookeeper = require('node-zookeeper-client');

const { ACL, CreateMode, Event, Exception, State } = zookeeper;
const PATIENCE_MS = 60000;
// Of a session that must not expire while the machine is busy.
const LASTING_MS = 30000;

// The server: a connection to the control port, which starts it and takes it away.
class Server {
    constructor() {
        this.control = net.connect(Number(process.env.RK_CONTROL), '127.0.0.1');
        this.answers = readline.createInterface({ input: this.control })[Symbol.asyncIterator]();
    }

    async ask(line) {
        this.control.write(line + '\n');
        const { value } = await this.answers.next();
        assert(value && !value.startsWith('failed'), `${line}: ${value}`);
        return value;
    }

    async start() {
        this.hosts = '127.0.0.1:' + (await this.ask('start')).slice('port '.length);
    }

    async killAndStart() {
        await this.ask('kill');
        await this.start();
    }
}

// The first value of many, or an error when nothing comes.
function soon(promise, what) {
    let timer;
    const late = new Promise((_, refuse) => {
        timer = setTimeout(() => refuse(new Error('waited in vain for ' + what)), PATIENCE_MS);
    });
    return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

// A queue: what comes in is waited for, one by one.
class Queue {
    constructor() {
        this.came = [];
        this.waiting = [];
    }

    put(item) {
        if (this.waiting.length) {
            this.waiting.shift()(item);
        } else {
            this.came.push(item);
        }
    }

    next(what) {
        return this.came.length ? Promise.resolve(this.came.shift()) : soon(new Promise((found) => this.waiting.push(found)), what);
    }
}

// A client whose methods return promises; a result with a Stat is a list of both.
class Client {
    constructor(hosts, options) {
        this.zk = zookeeper.createClient(hosts, { sessionTimeout: LASTING_MS, spinDelay: 200, ...options });
        this.states = new Queue();
        this.zk.on('state', (state) => this.states.put(state));
        for (const name of ['create', 'remove', 'setData', 'mkdirp', 'removeRecursive', 'listSubTreeBFS', 'setACL']) {
            this[name] = promisify(this.zk[name]).bind(this.zk);
        }
        for (const name of ['getData', 'getChildren', 'exists', 'getACL']) {
            this[name] = (...given) => new Promise((found, refuse) => {
                this.zk[name](...given, (error, ...results) => (error ? refuse(error) : found(results)));
            });
        }
    }

    static async connected(server, options) {
        const client = new Client(server.hosts, options);
        client.zk.connect();
        await client.state(State.SYNC_CONNECTED);
        return client;
    }

    async state(due) {
        while ((await this.states.next(due.getName())) !== due);
    }

    // Closes the session; the server has done it when the connection is gone.
    async close() {
        this.zk.close();
        await this.state(State.DISCONNECTED);
    }

    commit(transaction) {
        return new Promise((found) => transaction.commit((error, results) => found([error, results])));
    }
}

function refused(code) {
    return (error) => {
        assert.strictEqual(error.getCode && error.getCode(), code, String(error));
        return true;
    };
}

async function comes(events, type, path) {
    const event = await events.next(path);
    assert.deepStrictEqual([event.getType(), event.getPath()], [type, path]);
}

const TESTS = {
    async 'a node from create to delete'(server) {
        const client = await Client.connected(server);
        assert.strictEqual(await client.create('/a', Buffer.from('one')), '/a');
        const [data, made] = await client.getData('/a');
        assert.strictEqual(data.toString(), 'one');
        assert.deepStrictEqual([made.version, made.dataLength], [0, 3]);
        await assert.rejects(client.create('/a'), refused(Exception.NODE_EXISTS));
        await assert.rejects(client.create('/none/a'), refused(Exception.NO_NODE));
        const changed = await client.setData('/a', Buffer.from('two!'), 0);
        assert.deepStrictEqual([changed.version, changed.dataLength], [1, 4]);
        assert(changed.mzxid.compare(made.mzxid) > 0);
        assert.deepStrictEqual((await client.exists('/a'))[0], changed);
        await assert.rejects(client.setData('/a', Buffer.from(''), 7), refused(Exception.BAD_VERSION));
        await assert.rejects(client.remove('/a', 7), refused(Exception.BAD_VERSION));
        await client.remove('/a', 1);
        assert.strictEqual((await client.exists('/a'))[0], null);
        await assert.rejects(client.getData('/a'), refused(Exception.NO_NODE));
        await client.close();
    },

    async 'children are listed and numbered'(server) {
        const client = await Client.connected(server);
        assert.strictEqual(await client.mkdirp('/p/q'), '/p/q');
        for (let n = 0; n < 3; n++) {
            const made = await client.create('/p/q/n-', CreateMode.PERSISTENT_SEQUENTIAL);
            assert.strictEqual(made, '/p/q/n-000000000' + n);
        }
        await client.create('/p/q/e', CreateMode.EPHEMERAL);
        await assert.rejects(client.create('/p/q/e/x'), refused(Exception.NO_CHILDREN_FOR_EPHEMERALS));
        await assert.rejects(client.remove('/p/q'), refused(Exception.NOT_EMPTY));
        const [names, stat] = await client.getChildren('/p/q');
        assert.deepStrictEqual(names.sort(), ['e', 'n-0000000000', 'n-0000000001', 'n-0000000002']);
        assert.deepStrictEqual([stat.numChildren, stat.cversion], [4, 4]);
        // Version 1.1.3 lists, and removes, the node and its children: no grandchildren.
        assert.strictEqual((await client.listSubTreeBFS('/p/q')).length, 5);
        await client.removeRecursive('/p/q');
        assert.deepStrictEqual((await client.getChildren('/p'))[0], []);
        await client.close();
    },

    async 'a multi is whole or nothing'(server) {
        const client = await Client.connected(server);
        await client.create('/m');
        const [error, results] = await client.commit(client.zk.transaction()
            .check('/m')
            .create('/m/a', Buffer.from('x'))
            .setData('/m/a', Buffer.from('y'))
            .create('/m/n-', CreateMode.PERSISTENT_SEQUENTIAL)
            .remove('/m/n-0000000001'));
        assert(!error, String(error));
        assert.deepStrictEqual([results[1].path, results[3].path], ['/m/a', '/m/n-0000000001']);
        assert.strictEqual(results[2].stat.version, 1);
        const [refusal] = await client.commit(client.zk.transaction()
            .create('/m/b', Buffer.from(''))
            .setData('/m/a', Buffer.from('z'), 7));
        assert.strictEqual(refusal.getCode(), Exception.BAD_VERSION);
        assert.deepStrictEqual((await client.getChildren('/m'))[0], ['a']);
        assert.strictEqual((await client.getData('/m/a'))[0].toString(), 'y');
        await client.close();
    },

    async 'watches fire once'(server) {
        const client = await Client.connected(server);
        const other = await Client.connected(server);
        const [data, children, existence] = [new Queue(), new Queue(), new Queue()];
        assert.strictEqual((await client.exists('/w', (event) => existence.put(event)))[0], null);
        await other.create('/w');
        await comes(existence, Event.NODE_CREATED, '/w');
        await client.getData('/w', (event) => data.put(event));
        await client.getChildren('/w', (event) => children.put(event));
        await other.setData('/w', Buffer.from('x'));
        await other.setData('/w', Buffer.from('y'));
        await other.create('/w/c');
        await other.remove('/w/c');
        await other.remove('/w');
        await comes(data, Event.NODE_DATA_CHANGED, '/w');
        await comes(children, Event.NODE_CHILDREN_CHANGED, '/w');
        assert.strictEqual((await client.exists('/w'))[0], null);
        for (const queue of [data, children, existence]) {
            assert.deepStrictEqual(queue.came, []);
        }
        await other.close();
        await client.close();
    },

    async 'lists of access bind'(server) {
        const client = await Client.connected(server);
        const other = await Client.connected(server);
        client.zk.addAuthInfo('digest', Buffer.from('ann:secret'));
        await client.create('/acl', Buffer.from('x'), ACL.CREATOR_ALL_ACL, CreateMode.PERSISTENT);
        const [list] = await client.getACL('/acl');
        assert.strictEqual(list[0].id.scheme, 'digest');
        assert(list[0].id.id.startsWith('ann:'));
        await assert.rejects(other.getData('/acl'), refused(Exception.NO_AUTH));
        await assert.rejects(other.setACL('/acl', ACL.OPEN_ACL_UNSAFE), refused(Exception.NO_AUTH));
        await client.setACL('/acl', ACL.READ_ACL_UNSAFE, 0);
        assert.strictEqual((await other.getData('/acl'))[0].toString(), 'x');
        await assert.rejects(client.setData('/acl', Buffer.from('')), refused(Exception.NO_AUTH));
        await other.close();
        await client.close();
    },

    async 'a restart keeps the session, its nodes and its watches'(server) {
        const client = await Client.connected(server);
        const session = client.zk.getSessionId();
        const [data, children, existence] = [new Queue(), new Queue(), new Queue()];
        await client.create('/k');
        await client.create('/k/e', CreateMode.EPHEMERAL);
        await client.getData('/k', (event) => data.put(event));
        await client.getChildren('/k', (event) => children.put(event));
        await client.exists('/k/new', (event) => existence.put(event));
        await server.killAndStart();
        await client.state(State.DISCONNECTED);
        await client.state(State.SYNC_CONNECTED);
        assert.deepStrictEqual(client.zk.getSessionId(), session);
        assert.deepStrictEqual((await client.exists('/k/e'))[0].ephemeralOwner, session);
        const other = await Client.connected(server);
        await other.setData('/k', Buffer.from('x'));
        await other.create('/k/new');
        await comes(data, Event.NODE_DATA_CHANGED, '/k');
        await comes(children, Event.NODE_CHILDREN_CHANGED, '/k');
        await comes(existence, Event.NODE_CREATED, '/k/new');
        await other.close();
        await client.close();
    },

    async 'a session that was closed elsewhere has expired'(server) {
        const client = await Client.connected(server);
        const other = await Client.connected(server);
        const gone = new Queue();
        await client.create('/mine', CreateMode.EPHEMERAL);
        await other.exists('/mine', (event) => gone.put(event));
        // The first client comes back at once, and may take the session away again before its twin has closed it.
        const expired = client.state(State.EXPIRED);
        while ((await other.exists('/mine'))[0]) {
            const twin = new Client(server.hosts, { sessionId: client.zk.getSessionId(), sessionPassword: client.zk.getSessionPassword() });
            twin.zk.connect();
            const state = await twin.states.next('an answer to the twin');
            if (state === State.SYNC_CONNECTED) {
                await twin.close();
            }
        }
        await comes(gone, Event.NODE_DELETED, '/mine');
        await expired;
        await other.close();
    },
};

async function main() {
    const server = new Server();
    await server.start();
    for (const [name, test] of Object.entries(TESTS)) {
        await test(server);
        console.log('ok ' + name);
    }
    console.log(`${Object.keys(TESTS).length} passed, 0 failed`);
    process.exit(0);
}

main().catch((error) => {
    console.log('FAILED', error);
    process.exit(1);
});
