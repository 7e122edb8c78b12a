"""Holds the tables of README.md complete: each row is there once, in order, and each test that it names exists."""

import pathlib
import re

HERE = pathlib.Path(__file__).resolve().parent
REPO = HERE.parent.parent
# Areas of the acceptance checklist, and how many rows each has.
AREAS = {"Suites": 5, "Handshake": 7, "Order": 4, "Stat": 3, "Errors": 1, "multi": 1, "Watches": 2, "Sessions": 4, "ACL": 6,
         "Operator": 5, "Robustness": 2}
POISON = ["createTTL with flags 0 to 4", "create `/zookeeper/quota/zookeeper_limits`", "delete of `/zookeeper/<other>/zookeeper_limits`",
          "rubbish in the totals", "deleteContainer", "createSession", "a length near 2^31", "half-open handshakes, announced megabytes",
          "long ACL lists, many sequential children, paths of a megabyte"]
# Rows that no test holds. A row leaves this list with its first test, and none comes in.
NONE = {"B8", "B19", "B26", "B32", "B33", "B35", "B36"}
# Where a name stands in a file of each language, so that it is a test that runs, or a class of them.
IS_TEST = {".py": (r"^ *(?:def|class) {}\b",), ".rs": (r"#\[test\](?:\s*#\[[^\]]*\])*\s*fn {}\(",),
           ".java": (r"@Test\s+void {}\(",),
           # Where it is written, and where it is called.
           ".c": (r"^static void {}\(struct server", r"^ +RUN\({}\);"),
           ".go": (r"^func {}\(s \*server\)", r'^\t+\{".*", {}\},$')}


def rows(letter):
    """{row: (what, tests)} of one table, which has its rows in order."""
    found = re.findall(rf"^\| ({letter}\d+) \| (.*?) \| (.*) \|$", (HERE / "README.md").read_text(), re.M)
    assert [row for row, _, _ in found] == [f"{letter}{n + 1}" for n in range(len(found))]
    return {row: (what, tests) for row, what, tests in found}


def test_each_block_of_golden_bytes_is_a_row():
    appendix = (REPO / "docs" / "protocol.md").read_text().split("\n## Appendix A. Golden bytes\n")[1]
    said = [" ".join(text.strip().split("\n\n")[-1].split()) for text in appendix.split("```")[:-1:2]]
    table = rows("A")
    assert len(said) == len(table) >= 15
    for sentence, (row, (what, _)) in zip(said, table.items()):
        assert sentence.startswith(what), f"{row} is {what}, the block there is: {sentence}"


def test_each_line_of_the_checklist_is_a_row():
    areas = [what.split(":")[0] for what, _ in rows("B").values()]
    assert areas == [area for area, count in AREAS.items() for _ in range(count)]
    assert len({what for what, _ in rows("B").values()}) == len(areas)


def test_each_poison_input_is_a_row():
    table = rows("P")
    assert len(table) == len(POISON)
    for due, (what, _) in zip(POISON, table.values()):
        assert what.startswith(due)


def test_each_word_is_a_row():
    source = (REPO / "src" / "server" / "words.rs").read_text()
    known = re.search(r"const KNOWN: \[&str; \d+\] = \[(.*?)\];", source, re.S)[1]
    words = [word.strip().strip('"') for word in known.split(",") if word.strip()]
    words = ["telnet close" if word == "TELNET_CLOSE" else word for word in words]
    assert [what for what, _ in rows("W").values()] == words


def test_each_test_that_is_named_exists():
    for letter in "ABPW":
        for row, (_, tests) in rows(letter).items():
            named = re.findall(r"`([\w/.]+)::(\w+)`", tests)
            assert (not named) == (row in NONE), row
            assert bool(named) != tests.startswith("none: "), row
            for file, name in named:
                text = (REPO / file).read_text()
                for place in IS_TEST[pathlib.Path(file).suffix]:
                    assert re.search(place.replace("{}", name), text, re.M), f"{row}: {file} has no {name}"


def test_each_test_of_this_folder_is_named():
    text = (HERE / "README.md").read_text()
    for file in sorted(HERE.glob("test_*.py")):
        if file.name == "test_table.py":
            continue
        for name in re.findall(r"^def (test_\w+)\(", file.read_text(), re.M):
            assert f"`tests/golden/{file.name}::{name}`" in text, f"no row names {file.name}::{name}"
