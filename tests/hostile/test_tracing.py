"""What is read from strace's text, held to a text."""

import unittest

import harness
import tracing

# Thread 7 serves the witness on descriptor 5, thread 8 the one on 6; the crowd has 10 and 11.
TEXT = """\
7 io_uring_enter(3, 0, 1, IORING_ENTER_GETEVENTS, NULL, 8) = -1 ETIME (Timer expired)
7 recvfrom(10, ""..., 65536, 0, NULL, NULL) = 400
7 sendto(10, ""..., 60, MSG_NOSIGNAL, NULL, 0 <unfinished ...>
8 recvfrom(11, ""..., 65536, 0, NULL, NULL) = 400
8 recvfrom(11, 0x7f2c, 65536, 0, NULL, NULL) = -1 EAGAIN (Resource temporarily unavailable)
8 sendto(6, ""..., 20, MSG_NOSIGNAL, NULL, 0) = 20
8 sendto(11, ""..., 400, MSG_NOSIGNAL, NULL, 0) = 400
7 <... sendto resumed>)                 = 60
7 sendto(10, ""..., 20, MSG_NOSIGNAL, NULL, 0) = -1 EAGAIN (Resource temporarily unavailable)
7 openat(AT_FDCWD, "/proc/self/fd", O_RDONLY) = 20
7 sendto(5, ""..., 20, MSG_NOSIGNAL, NULL, 0) = 20
9 statx(AT_FDCWD, "", 0, STATX_ALL, ) = 0
8 +++ exited with 0 +++
"""


class Read(unittest.TestCase):
    def judged(self, reply, witnesses=frozenset((5, 6))):
        return tracing.judged(tracing.calls_in(TEXT), witnesses, reply)

    def test_what_a_thread_sent_before_it_answered_its_own_witness_counts(self):
        self.assertEqual(self.judged(20).crowd, 3)
        self.assertEqual(self.judged(None).crowd, 1)

    def test_files_count_where_a_witness_is_served(self):
        self.assertEqual(self.judged(20).blocking, 1)

    def test_connections_are_counted_from_look_to_look(self):
        self.assertEqual(self.judged(20).greeted, 2)
        again = TEXT.replace("8 recvfrom(11, 0x", "8 io_uring_enter(4, 0, 0, 0, NULL, 8) = 0\n8 recvfrom(11, 0x")
        self.assertEqual(tracing.greeted_at_once(tracing.calls_in(again)), 1)

    def test_bytes_are_counted_from_look_to_look(self):
        self.assertEqual(tracing.taken_at_once(tracing.calls_in(TEXT)), 400)
        more = "8 recvfrom(11, \"\"..., 65536, 0, NULL, NULL) = 7\n8 sendto(11,"
        self.assertEqual(tracing.taken_at_once(tracing.calls_in(TEXT.replace("8 sendto(11,", more))), 407)
        more = f"8 io_uring_enter(4, 0, 0, 0, NULL, 8) = 0\n{more}"
        self.assertEqual(tracing.taken_at_once(tracing.calls_in(TEXT.replace("8 sendto(11,", more))), 400)

    def test_an_answer_whose_send_strace_did_not_see_return_is_one(self):
        for end in ("<detached ...>", "<unfinished ...>", "<unfinished ...>\n8 +++ exited with 0 +++\n7 <... sendto resumed> <detached ...>"):
            text = TEXT.replace('7 sendto(5, ""..., 20, MSG_NOSIGNAL, NULL, 0) = 20', f'7 sendto(5, ""..., 20, MSG_NOSIGNAL, NULL, 0 {end}')
            self.assertEqual(tracing.judged(tracing.calls_in(text), {5, 6}, 20).crowd, 3, end)
            self.assertEqual(tracing.looks_until_answered(tracing.calls_in(text), 5), 1, end)

    def test_a_witness_without_an_answer_is_no_figure(self):
        with self.assertRaises(harness.Failure):
            self.judged(20, {5, 6, 12})


if __name__ == "__main__":
    unittest.main()
