"""The folder carries its licence and its version with it, wherever it is copied."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import enqueuer

ROOT = Path(__file__).parents[1]


def test_the_folder_carries_the_same_licence_as_the_repository():
    assert (ROOT / "enqueuer" / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    assert (ROOT / "LICENSE").read_text().startswith("MIT License")


def test_the_folder_says_that_it_is_typed():
    assert (ROOT / "enqueuer" / "py.typed").is_file()


def test_the_version_is_a_constant_that_a_copy_keeps():
    tree = ast.parse((ROOT / "enqueuer" / "__init__.py").read_text())
    values = [
        node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and ast.unparse(node.targets[0]) == "__version__"
    ]
    assert values == [enqueuer.__version__]
    assert re.fullmatch(r"\d+\.\d+\.\d+", enqueuer.__version__)


def test_the_changelog_has_a_section_for_this_version_or_for_what_comes():
    headings = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] in {enqueuer.__version__, "Unreleased"}
    assert len(headings) == len(set(headings))
