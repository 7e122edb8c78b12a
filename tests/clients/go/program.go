// The Go client (go-zookeeper/zk) against a server that tests/clients/run gives: one line for each test, and at the
// end how many there were. The first thing that is not as it should be ends the program.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"reflect"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/go-zookeeper/zk"
)

const (
	patience = 60 * time.Second
	// Of a session that must not expire while the machine is busy.
	lasting = 30 * time.Second
)

func check(holds bool, what ...interface{}) {
	if !holds {
		panic(fmt.Sprint(what...))
	}
}

func must(err error) {
	check(err == nil, err)
}

func is(due, came error) {
	check(errors.Is(came, due) || came == due, "came ", came, " instead of ", due)
}

func equal(due, came interface{}) {
	check(reflect.DeepEqual(due, came), fmt.Sprintf("came %v instead of %v", came, due))
}

// The server: a connection to the control port, which starts it and takes it away.
type server struct {
	control net.Conn
	answers *bufio.Reader
	hosts   string
}

func newServer() *server {
	control, err := net.Dial("tcp", "127.0.0.1:"+os.Getenv("RK_CONTROL"))
	must(err)
	s := &server{control: control, answers: bufio.NewReader(control)}
	s.start()
	return s
}

func (s *server) ask(line string) string {
	_, err := fmt.Fprintln(s.control, line)
	must(err)
	answer, err := s.answers.ReadString('\n')
	must(err)
	check(!strings.HasPrefix(answer, "failed"), line, ": ", answer)
	return strings.TrimSpace(answer)
}

func (s *server) start() {
	s.hosts = "127.0.0.1:" + strings.TrimPrefix(s.ask("start"), "port ")
}

func (s *server) killAndStart() {
	s.ask("kill")
	s.start()
}

type silent struct{}

func (silent) Printf(string, ...interface{}) {}

// A client, and the states of its session as they come.
type client struct {
	*zk.Conn
	states chan zk.State
}

func (s *server) client() *client {
	c := &client{states: make(chan zk.State, 1000)}
	tell := func(event zk.Event) {
		if event.Type == zk.EventSession {
			c.states <- event.State
		}
	}
	conn, _, err := zk.Connect([]string{s.hosts}, lasting, zk.WithLogger(silent{}), zk.WithEventCallback(tell))
	must(err)
	c.Conn = conn
	c.await(zk.StateHasSession)
	return c
}

func (c *client) await(due zk.State) {
	end := time.After(patience)
	for {
		select {
		case state := <-c.states:
			if state == due {
				return
			}
		case <-end:
			panic(fmt.Sprint("waited in vain for ", due))
		}
	}
}

func comes(due zk.EventType, path string, watch <-chan zk.Event) {
	select {
	case event := <-watch:
		must(event.Err)
		check(event.Type == due && event.Path == path, "came ", event.Type, " of ", event.Path, " instead of ", due, " of ", path)
	case <-time.After(patience):
		panic(fmt.Sprint("no event of ", path))
	}
}

var open = zk.WorldACL(zk.PermAll)

func (c *client) make(path, data string, flags int32) string {
	made, err := c.Create(path, []byte(data), flags, open)
	must(err)
	return made
}

func aNodeFromCreateToDelete(s *server) {
	c := s.client()
	defer c.Close()
	equal("/a", c.make("/a", "one", zk.FlagPersistent))
	data, made, err := c.Get("/a")
	must(err)
	equal("one", string(data))
	equal([]int32{0, 3}, []int32{made.Version, made.DataLength})
	_, err = c.Create("/a", nil, 0, open)
	is(zk.ErrNodeExists, err)
	_, err = c.Create("/none/a", nil, 0, open)
	is(zk.ErrNoNode, err)
	changed, err := c.Set("/a", []byte("two!"), 0)
	must(err)
	check(changed.Version == 1 && changed.Mzxid > made.Mzxid, changed)
	there, stat, err := c.Exists("/a")
	must(err)
	check(there, "the node is gone")
	equal(changed, stat)
	_, err = c.Set("/a", nil, 7)
	is(zk.ErrBadVersion, err)
	is(zk.ErrBadVersion, c.Delete("/a", 7))
	must(c.Delete("/a", 1))
	there, _, err = c.Exists("/a")
	must(err)
	check(!there, "the node is still there")
	echoed, err := c.Sync("/a")
	must(err)
	equal("/a", echoed)
}

func childrenAreListedAndNumbered(s *server) {
	c := s.client()
	defer c.Close()
	c.make("/p", "", 0)
	for n := 0; n < 3; n++ {
		equal(fmt.Sprintf("/p/n-%010d", n), c.make("/p/n-", "", zk.FlagSequence))
	}
	must(c.Delete("/p/n-0000000001", -1))
	is(zk.ErrNotEmpty, c.Delete("/p", -1))
	names, stat, err := c.Children("/p")
	must(err)
	sort.Strings(names)
	equal([]string{"n-0000000000", "n-0000000002"}, names)
	equal([]int32{2, 4}, []int32{stat.NumChildren, stat.Cversion})
	c.make("/p/e", "", zk.FlagEphemeral)
	_, stat, err = c.Get("/p/e")
	must(err)
	equal(c.SessionID(), stat.EphemeralOwner)
	_, err = c.Create("/p/e/x", nil, 0, open)
	is(zk.ErrNoChildrenForEphemerals, err)
}

func aMultiIsWholeOrNothing(s *server) {
	c := s.client()
	defer c.Close()
	c.make("/m", "", 0)
	results, err := c.Multi(
		&zk.CheckVersionRequest{Path: "/m", Version: 0},
		&zk.CreateRequest{Path: "/m/a", Data: []byte("x"), Acl: open},
		&zk.SetDataRequest{Path: "/m/a", Data: []byte("y"), Version: 0},
		&zk.CreateRequest{Path: "/m/n-", Acl: open, Flags: zk.FlagSequence},
		&zk.DeleteRequest{Path: "/m/n-0000000001", Version: 0})
	must(err)
	equal("/m/a", results[1].String)
	equal(int32(1), results[2].Stat.Version)
	equal("/m/n-0000000001", results[3].String)
	results, err = c.Multi(
		&zk.CreateRequest{Path: "/m/b", Acl: open},
		&zk.SetDataRequest{Path: "/m/a", Version: 7},
		&zk.DeleteRequest{Path: "/m/a", Version: -1})
	is(zk.ErrBadVersion, err)
	is(zk.ErrBadVersion, results[1].Error)
	check(results[2].Error != nil, results)
	names, _, err := c.Children("/m")
	must(err)
	equal([]string{"a"}, names)
}

func watchesFireOnce(s *server) {
	c, other := s.client(), s.client()
	defer c.Close()
	defer other.Close()
	there, _, existence, err := c.ExistsW("/w")
	must(err)
	check(!there, "/w is there")
	other.make("/w", "", 0)
	comes(zk.EventNodeCreated, "/w", existence)
	_, _, data, err := c.GetW("/w")
	must(err)
	_, _, children, err := c.ChildrenW("/w")
	must(err)
	_, err = other.Set("/w", []byte("x"), -1)
	must(err)
	other.make("/w/c", "", 0)
	comes(zk.EventNodeDataChanged, "/w", data)
	comes(zk.EventNodeChildrenChanged, "/w", children)
	_, _, gone, err := c.GetW("/w/c")
	must(err)
	must(other.Delete("/w/c", -1))
	comes(zk.EventNodeDeleted, "/w/c", gone)
}

func listsOfAccessBind(s *server) {
	c, other := s.client(), s.client()
	defer c.Close()
	defer other.Close()
	must(c.AddAuth("digest", []byte("ann:secret")))
	_, err := c.Create("/acl", []byte("x"), 0, zk.AuthACL(zk.PermAll))
	must(err)
	list, stat, err := c.GetACL("/acl")
	must(err)
	equal(zk.DigestACL(zk.PermAll, "ann", "secret"), list)
	_, _, err = other.Get("/acl")
	is(zk.ErrNoAuth, err)
	_, err = other.SetACL("/acl", open, -1)
	is(zk.ErrNoAuth, err)
	_, err = c.SetACL("/acl", zk.WorldACL(zk.PermRead), stat.Aversion)
	must(err)
	_, _, err = other.Get("/acl")
	must(err)
	_, err = c.Set("/acl", nil, -1)
	is(zk.ErrNoAuth, err)
	_, err = c.Reconfig([]string{"server.1=localhost:2888:3888;2181"}, -1)
	is(zk.ErrReconfigDisabled, err)
}

func containersAndNodesWithATimeGo(s *server) {
	c := s.client()
	defer c.Close()
	_, err := c.CreateContainer("/container", nil, zk.FlagContainer, open)
	must(err)
	c.make("/container/a", "", 0)
	_, _, gone, err := c.ExistsW("/container")
	must(err)
	must(c.Delete("/container/a", -1))
	comes(zk.EventNodeDeleted, "/container", gone)
	_, err = c.CreateTTL("/ttl", nil, zk.FlagTTL, open, time.Second)
	must(err)
	there, _, gone, err := c.ExistsW("/ttl")
	must(err)
	if there {
		comes(zk.EventNodeDeleted, "/ttl", gone)
	}
}

func aLockIsHandedOn(s *server) {
	var inside, rounds int
	var all sync.WaitGroup
	for n := 0; n < 3; n++ {
		c := s.client()
		defer c.Close()
		all.Add(1)
		go func() {
			defer all.Done()
			lock := zk.NewLock(c.Conn, "/lock", open)
			for round := 0; round < 10; round++ {
				must(lock.Lock())
				// What the lock alone guards.
				inside++
				check(inside == 1, "two hold the lock")
				rounds++
				inside--
				must(lock.Unlock())
			}
		}()
	}
	all.Wait()
	equal(30, rounds)
}

func aRestartKeepsTheSessionItsNodesAndItsWatches(s *server) {
	c := s.client()
	defer c.Close()
	session := c.SessionID()
	c.make("/k", "", 0)
	c.make("/k/e", "", zk.FlagEphemeral)
	_, _, data, err := c.GetW("/k")
	must(err)
	_, _, children, err := c.ChildrenW("/k")
	must(err)
	_, _, existence, err := c.ExistsW("/k/new")
	must(err)
	s.killAndStart()
	c.await(zk.StateDisconnected)
	c.await(zk.StateHasSession)
	equal(session, c.SessionID())
	_, stat, err := c.Get("/k/e")
	must(err)
	equal(session, stat.EphemeralOwner)
	other := s.client()
	defer other.Close()
	_, err = other.Set("/k", nil, -1)
	must(err)
	other.make("/k/new", "", 0)
	comes(zk.EventNodeDataChanged, "/k", data)
	comes(zk.EventNodeChildrenChanged, "/k", children)
	comes(zk.EventNodeCreated, "/k/new", existence)
}

func aSessionThatEndsTakesItsNodesAlong(s *server) {
	c, other := s.client(), s.client()
	defer other.Close()
	c.make("/mine", "", zk.FlagEphemeral)
	there, _, gone, err := other.ExistsW("/mine")
	must(err)
	check(there, "/mine is not there")
	c.Close()
	comes(zk.EventNodeDeleted, "/mine", gone)
}

func main() {
	s := newServer()
	tests := []struct {
		name string
		run  func(*server)
	}{
		{"a node from create to delete", aNodeFromCreateToDelete},
		{"children are listed and numbered", childrenAreListedAndNumbered},
		{"a multi is whole or nothing", aMultiIsWholeOrNothing},
		{"watches fire once", watchesFireOnce},
		{"lists of access bind", listsOfAccessBind},
		{"containers and nodes with a time go", containersAndNodesWithATimeGo},
		{"a lock is handed on", aLockIsHandedOn},
		{"a restart keeps the session, its nodes and its watches", aRestartKeepsTheSessionItsNodesAndItsWatches},
		{"a session that ends takes its nodes along", aSessionThatEndsTakesItsNodesAlong},
	}
	for _, test := range tests {
		test.run(s)
		fmt.Println("ok", test.name)
	}
	fmt.Printf("%d passed, 0 failed\n", len(tests))
}
