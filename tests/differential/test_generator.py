"""Programs from seeds: the same again, all operations in every configuration, and nothing that stops Apache's server."""

import pathlib
import sys
import unittest

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parent)]

import directed
import generator
import servers
import wire

N = 400
PROGRAMS = [generator.program(7, number) for number in range(N)]


def requests(program):
    return [(n, request) for n, step in enumerate(program.steps) for request in step.requests]


def operations(request):
    """Of the request itself, or inside it."""
    return request.args.get("ops", [(request.op, request.args)])


class Programs(unittest.TestCase):
    def test_a_seed_and_a_number_make_the_same_program(self):
        self.assertEqual([generator.program(7, number) for number in range(40)], PROGRAMS[:40])
        self.assertNotEqual(generator.program(8, 0), PROGRAMS[0])

    def test_all_operations_and_steps_come_in_all_configurations(self):
        for config in servers.CONFIGS:
            ops = {op for one in PROGRAMS if one.config == config for _,
                   request in requests(one) for op in (request.op, *(op for op, _ in operations(request)))}
            if config != "reaping":
                self.assertEqual(set(wire.NUMBERS) - ops, set(), config)
        steps = {step.do for one in PROGRAMS for step in one.steps}
        self.assertEqual(steps, {"connect", "reattach", "send", "frame", "handshake", "drop", "expire", "restart", "reap"})

    def test_every_configuration_has_random_programs(self):
        made = {one.config for one in PROGRAMS if one.number % generator.DIRECTED_EACH != generator.DIRECTED_EACH - 1}
        self.assertEqual(made, set(generator.CONFIGS))

    def test_every_fourth_program_is_directed_and_each_kind_comes_in_each_configuration(self):
        kinds = {(number % 17, generator.program(1, 4 * number + 3).config) for number in range(85)}
        self.assertEqual(len(kinds), 16 * 5 + 1)

    def test_programs_are_long_enough_for_the_operations_that_the_issue_asks_for(self):
        self.assertGreater(sum(map(len, PROGRAMS)) / N, 100)

    def test_every_request_can_be_encoded(self):
        for program in PROGRAMS:
            for _, request in requests(program):
                frame = wire.frame(request, 1, program.root(), lambda name: 5)
                self.assertEqual(int.from_bytes(frame[:4], "big"), len(frame) - 4)

    def test_operations_can_be_left_out_also_of_multis(self):
        left = [generator.program(7, number, {"create2", "restart"}) for number in range(40)]
        self.assertFalse(any(op == "create2" for one in left for _,
                             request in requests(one) for op in (request.op, *(op for op, _ in operations(request)))))
        self.assertFalse(any(step.do == "restart" for one in left for step in one.steps))


class Harmless(unittest.TestCase):
    def each(self):
        for program in PROGRAMS:
            for _, request in requests(program):
                for op, args in operations(request):
                    yield program, request, op, args

    def test_a_ttl_operation_without_ttl_flags_has_a_ttl(self):
        for _, request, op, args in self.each():
            if op == "createTTL":
                self.assertTrue(args["flags"] in (5, 6) or args["ttl"] != -1 or args["flags"] not in (0, 1, 2, 3, 4), request)
                self.assertTrue(request.bend is None or request.bend[0] != "put", request)

    def test_quotas_lie_below_the_program_and_their_statistics_are_no_garbage(self):
        for _, request, op, args in self.each():
            path = args.get("path")
            if isinstance(path, str) and "zookeeper_" in path:
                self.assertTrue(path.startswith("/zookeeper/quota~"), request)
                is_set = op == "setData" and path.endswith("zookeeper_stats")
                self.assertTrue(not is_set or args["data"] in directed.TOTALS, request)
                self.assertTrue(request.bend is None or request.bend[0] != "put", request)

    def test_nothing_closes_a_node_that_others_need_or_makes_one_outside(self):
        for _, request, op, args in self.each():
            path = args.get("path")
            if op == "setACL" and path in (*generator.RESERVED, "~"):
                self.assertEqual(args["acl"], generator.OPEN, request)
            if op.startswith("create") and op != "createSession" and path in (*generator.RESERVED, "~"):
                self.assertNotIn(args["flags"], (2, 3, 6), request)
            if op == "setACL":
                self.assertTrue(request.bend is None or request.bend[0] != "put", request)

    def test_what_apache_answers_ahead_of_others_is_alone(self):
        for program in PROGRAMS:
            for step in program.steps:
                for n, request in enumerate(step.requests):
                    first_auth = request.op == "auth" and n == 0
                    self.assertFalse(request.is_alone() and not first_auth and len(step.requests) > 1, (program.number, str(step)))

    def test_reserved_xids_are_left_to_the_server(self):
        for _, request, _, _ in self.each():
            self.assertNotIn(request.xid, (wire.EVENT_XID, wire.PING_XID, wire.MARK_XID))

    def test_nothing_is_sent_behind_a_set_acl_of_a_random_program(self):
        for program in PROGRAMS:
            if program.number % generator.DIRECTED_EACH != generator.DIRECTED_EACH - 1:
                for step in program.steps:
                    self.assertFalse(any(request.op == "setACL" for request in step.requests[:-1]))

    def test_a_hard_quota_sees_one_write_of_a_batch_of_a_random_program(self):
        for program in PROGRAMS:
            if program.config == "quota" and program.number % generator.DIRECTED_EACH != generator.DIRECTED_EACH - 1:
                # Behind the nodes that it begins with.
                for step in program.steps[2:]:
                    self.assertLessEqual(sum(request.op in generator.WRITES for request in step.requests), 1)

    def test_nothing_relies_on_a_container_that_apache_takes_for_an_ephemeral_node(self):
        for program in PROGRAMS:
            for step in program.steps:
                for n, request in enumerate(step.requests):
                    if generator.is_ephemeral_container(request):
                        below = str(request.args["path"]) + "/"
                        behind = step.requests[n + 1:]
                        self.assertFalse(any(str(args.get("path")).startswith(below) for one in behind for _, args in operations(one)))
                    self.assertFalse(request.op == "multi" and any(op == "createContainer" and args["flags"] in (1, 3)
                                                                   for op, args in request.args["ops"]))

    def test_a_multi_with_a_plain_ttl_fails_on_both(self):
        for _, request, op, args in self.each():
            if request.op == "multi" and op == "createTTL" and args["flags"] in (0, 1, 2, 3):
                self.assertEqual(request.args["ops"][-1][1]["path"], "~/never")

    def test_ids_are_those_of_the_users(self):
        self.assertEqual(directed.ID1, wire.digest(b"u1:p1").decode())


if __name__ == "__main__":
    unittest.main()
