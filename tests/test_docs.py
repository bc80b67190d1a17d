"""What README, docs and docstrings say is so: every code block runs, every command exists, every name and link leads somewhere."""

from __future__ import annotations

import ast
import re
import shlex
import tomllib
from itertools import chain
from pathlib import Path

import pytest
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser
from sybil.parsers.rest import DocTestParser

from enqueuer.guarantees import CONTRACT

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "enqueuer"
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
SOURCES = sorted(PACKAGE.rglob("*.py"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())

MARKDOWN = Sybil([PythonCodeBlockParser()], pattern="*.md", path=str(ROOT))
DOCSTRINGS = Sybil([DocTestParser()], pattern="*.py", path=str(ROOT))

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def blocks(page: Path) -> list[tuple[str, str]]:
    """Return language and text of every fenced block."""
    return re.findall(r"^```(.*?)\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


def commands(page: Path) -> list[list[str]]:
    """Return the words of every simple command in the shell blocks."""
    found: list[list[str]] = []
    for language, text in blocks(page):
        if language == "sh":
            for line in text.splitlines():
                words: list[str] = []
                for word in [*shlex.split(line), "&&"]:
                    if word == "&&":
                        found.append(words)
                        words = []
                    else:
                        words.append(word)
    return found


@pages
def test_every_code_block_runs(page, capsys):
    document = MARKDOWN.parse(page)
    examples = list(document.examples())
    assert len(examples) >= sum(language == "python" for language, _ in blocks(page))
    for example in examples:
        example.evaluate()
    if page.name == "README.md":
        assert capsys.readouterr().out == "[0, 1]\n[2, 3]\n[4, 5]\n"


@pytest.mark.parametrize("source", [source for source in SOURCES if ">>> " in source.read_text()], ids=lambda source: source.stem)
def test_every_example_in_a_docstring_runs(source):
    examples = list(DOCSTRINGS.parse(source).examples())
    assert examples
    for example in examples:
        example.evaluate()


@pages
def test_every_block_is_of_a_language_that_is_checked(page):
    assert {language for language, _ in blocks(page)} <= {"python", "sh"}
    assert page.read_text().count("```") == 2 * len(blocks(page))


@pages
def test_every_link_leads_to_a_file(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        assert not target.startswith(("http:", "https:", "/"))
        assert (page.parent / target).exists(), target


def names() -> set[str]:
    """Return `Class.attribute`, `Class` and `function` for everything that the package defines."""
    found: set[str] = set()
    for source in SOURCES:
        for node in ast.parse(source.read_text()).body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef):
                found.add(node.name)
            if isinstance(node, ast.ClassDef):
                found |= {f"{node.name}.{inner.name}" for inner in node.body if isinstance(inner, ast.FunctionDef | ast.ClassDef)}
                found |= {
                    f"{node.name}.{inner.target.id}" for inner in node.body if isinstance(inner, ast.AnnAssign) and isinstance(inner.target, ast.Name)
                }
    return found


def test_the_way_through_the_code_names_what_is_there():
    text = (ROOT / "docs" / "reading-order.md").read_text()
    spans = re.findall(r"`([^`\n]+)`", text)
    wanted = [span for span in spans if re.fullmatch(r"[A-Z]\w+(\.\w+)?", span)]
    assert len(wanted) > 20
    assert sorted(set(wanted) - names()) == []
    places = [span for span in spans if "/" in span]
    assert places
    assert [place for place in places if not (ROOT / place).exists()] == []


def test_the_line_that_keeps_the_bound_is_marked_where_the_way_says():
    body = (PACKAGE / "_window.py").read_text().partition("def claimable")[2].partition("    def ")[0]
    assert "# G4" in body


@pages
def test_every_command_is_one_that_exists(page):
    extras = PROJECT["project"]["optional-dependencies"]
    sessions = {
        node.name
        for node in ast.parse((ROOT / "noxfile.py").read_text()).body
        if isinstance(node, ast.FunctionDef) and any("nox.session" in ast.unparse(decorator) for decorator in node.decorator_list)
    }
    for words in commands(page):
        match words:
            case ["python3", "-m", "venv", ".venv"]:
                pass
            case [".venv/bin/python", "-m", "pip", "install", what]:
                extra = re.fullmatch(r"\.\[(\w+)\]", what)
                assert what == "nox" or (extra is not None and extra[1] in extras)
            case [".venv/bin/python", "-m", "pytest", *options]:
                assert options in ([], ["-n", "auto"])
            case [".venv/bin/python", "-m", "nox", "-s", *rest]:
                asked = rest[: rest.index("--")] if "--" in rest else rest
                assert {name.partition("-")[0] for name in asked} <= sessions
            case [".venv/bin/python", "-m", "enqueuer", command]:
                assert command == "measure"
            case [".ci/run"]:
                assert (ROOT / ".ci" / "run").is_file()
            case ["mkdir" | "cp" | "rm", *_]:
                assert page.name == "vendoring.md"
            case _:
                pytest.fail(f"{page.name}: {shlex.join(words)}")


def test_the_readme_has_one_command_that_runs_the_job_and_one_that_passes_the_tests():
    shells = [text.strip() for language, text in blocks(ROOT / "README.md") if language == "sh"]
    assert [shell.rpartition(" -m ")[2].split()[0] for shell in shells] == ["enqueuer", "pytest"]
    assert all("\n" not in shell and shell.startswith("python3 -m venv .venv && ") for shell in shells)


def test_what_runs_in_the_machine_is_the_readme_s_own_test_command():
    script = (ROOT / ".ci" / "run").read_text()
    pattern = re.search(r"grep -E '([^']+)' README\.md", script)
    assert pattern is not None
    lines = re.findall(pattern[1], (ROOT / "README.md").read_text(), re.MULTILINE)
    assert len(lines) == 1
    assert lines[0].endswith("-m pytest -n auto")
    assert "pytest -n auto" not in script, "read from the README, not written twice"


def test_the_readme_names_the_versions_and_the_system_that_are_classified():
    text = " ".join((ROOT / "README.md").read_text().split())
    classifiers = PROJECT["project"]["classifiers"]
    versions = [found[1] for classifier in classifiers if (found := re.fullmatch(r"Programming Language :: Python :: (3\.\d+)", classifier))]
    named = re.search(r"run on (\w+) with CPython ([\d., and]+\d)", text)
    assert named is not None
    assert re.findall(r"3\.\d+", named[2]) == versions
    assert [classifier.rpartition(" ")[2] for classifier in classifiers if classifier.startswith("Operating System")] == [named[1]]
    assert f"({PROJECT['project']['requires-python'].removeprefix('>=')} or newer)" in text


def test_every_page_of_the_docs_is_linked_from_the_readme():
    linked = set(re.findall(r"\]\((docs/[^)]+)\)", (ROOT / "README.md").read_text()))
    assert linked == {f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")}


def test_the_changelog_names_every_promise():
    numbers: set[int] = set()
    for first, last in re.findall(r"\bG(\d+)(?: to G(\d+))?", (ROOT / "CHANGELOG.md").read_text()):
        numbers |= set(range(int(first), int(last or first) + 1))
    assert {f"G{number}" for number in numbers} == {clause.id for clause in CONTRACT if clause.promised}


def test_markers_that_tests_may_carry_are_registered_and_used():
    registered = {marker.partition(":")[0] for marker in PROJECT["tool"]["pytest"]["ini_options"]["markers"]}
    used = set(chain.from_iterable(re.findall(r"pytest\.mark\.(\w+)", path.read_text()) for path in (ROOT / "tests").glob("test_*.py")))
    assert registered <= used | {"concurrency"}
    assert used <= registered | {"parametrize", "skipif", "timeout", "xfail", "filterwarnings", "usefixtures"}
