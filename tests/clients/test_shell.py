"""The scripts of zkCli, and what reads them."""

import pathlib
import tempfile
import unittest

from shell import HERE, Script

# What zkCli 3.9.5 says that it can do.
COMMANDS = set("""addWatch addauth close config connect create delete deleteall delquota get getAcl getAllChildrenNumber getEphemerals
    history listquota ls printwatches quit reconfig redo removewatches set setAcl setquota stat sync version whoami""".split())
TEXT = """# A comment.
enforceQuota=true
+
  Welcome
2+
> create /a x
  Created /a
~ an event
2~ another
!
~ gone
2> quit
"""


def script(text):
    file = pathlib.Path(tempfile.mkdtemp()) / "script.txt"
    file.write_text(text)
    return Script(file)


class Scripts(unittest.TestCase):
    def test_a_script_is_read_and_written_as_it_is(self):
        read = script(TEXT)
        read.write()
        self.assertEqual(read.path.read_text(), TEXT)

    def test_what_is_expected_belongs_to_the_step_before_it(self):
        read = script(TEXT)
        self.assertEqual(read.options, {"enforceQuota": "true"})
        self.assertEqual([(step.shell, step.kind, step.command) for step in read.steps()],
                         [("", "+", None), ("2", "+", None), ("", ">", "create /a x"), ("", "!", None), ("2", ">", "quit")])
        self.assertEqual([step.said for step in read.steps()], [["Welcome"], [], ["Created /a"], [], []])
        self.assertEqual(read.steps()[2].events, {"": ["an event"], "2": ["another"]})
        self.assertEqual(read.steps()[3].events, {"": ["gone"], "2": []})

    def test_only_two_sessions_events_have_no_order(self):
        steps = script("> connect\n> connect x:1\n> create /a\n+\n").steps()
        self.assertEqual([step.in_order(["b", "a"]) for step in steps], [["a", "b"], ["a", "b"], ["b", "a"], ["b", "a"]])

    def test_the_scripts_that_are_kept_are_in_this_form_and_have_answers(self):
        for path in sorted((HERE / "zkcli").glob("*.txt")):
            read = Script(path)
            lines = [line for part in read.parts for line in ([part] if isinstance(part, str) else part.text())]
            self.assertEqual("".join(f"{line}\n" for line in lines), path.read_text(), path.name)
            self.assertTrue(read.steps()[0].said, path.name)

    def test_every_command_of_the_shell_is_used(self):
        steps = [step for path in (HERE / "zkcli").glob("*.txt") for step in Script(path).steps() if step.command]
        self.assertEqual({step.command.split()[0] for step in steps}, COMMANDS)


if __name__ == "__main__":
    unittest.main()
