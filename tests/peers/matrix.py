"""What the well-known peers keep and break, by the conformance kit: runs it on one after the other, and writes docs/peers.md.

    nox -s peers                          those that were not run yet, each in its environment (made at the first time); then the page
    nox -s peers -- --only 'tfk*'         some of them
    nox -s peers -- --page                the page alone

What came of each is kept in docs/peers.json, and the page is made of that. A peer is run again once its adapter has changed, or what judges it.
"""

from __future__ import annotations

import argparse
import fnmatch
import hashlib
import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

HERE: Final = Path(__file__).resolve().parent
ROOT: Final = HERE.parents[1]
DATA: Final = ROOT / "docs" / "peers.json"
PAGE: Final = ROOT / "docs" / "peers.md"
HOMES: Final = {"tfk": "tfk", "k3": "k3", "torch_loader": "torch", "torch_nodes": "torch", "grain_dataset": "grain", "spdl_pipeline": "spdl"}
"""Adapter -> whose environment it needs."""
TARGETS: Final = tuple(
    f"{name}:{mode}"
    for name, modes in {
        "tfk": ("threads", "fork"),
        "k3": ("threads", "fork"),
        "torch_loader": ("fork", "spawn"),
        "torch_nodes": ("threads", "fork"),
        "grain_dataset": ("threads", "spawn"),
        "spdl_pipeline": ("threads", "fork"),
    }.items()
    for mode in modes
)
MARKS: Final = {
    "kept": "✓",
    "broken": "**✗**",
    "hangs": "**hangs**",
    "not applicable": "-",
    "expected failure": "(✗)",
    "unexpected pass": "✓",
}
"""Verdict -> what stands in the matrix."""
SHOWN: Final = 300
"""Characters of evidence on the page."""


def state(target: str) -> str:
    """Return a hash of what the verdicts depend on, besides the peer."""
    digest = hashlib.sha256(target.encode())
    testing = ROOT / "enqueuer" / "testing"
    judges = [testing / "subject.py", testing / "remote.py", *(testing / "kit" / f"{name}.py" for name in ("judge", "run", "watch"))]
    for path in [HERE / "handed.py", HERE / f"{target.partition(':')[0]}.py", *judges, *sorted((testing / "checks").glob("*.py"))]:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def judge(target: str) -> dict[str, Any]:
    """Run the kit on a peer."""
    name, _, mode = target.partition(":")
    python = ROOT / ".nox" / "peers" / HOMES[name] / "bin" / "python"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "KERAS_BACKEND": "jax", "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    command = [str(python), "-m", "enqueuer", "check", f"{HERE / name}.py:{mode}", "--json", "--jobs", "1"]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode not in {0, 1}:
        sys.exit(f"{target}: the kit could not judge it")
    (report,) = json.loads(done.stdout)
    keys = ("check", "watches", "guarantee", "verdict", "level", "what", "reason")
    results = [{key: portable(result[key]) for key in keys} for result in report["results"]]
    day = datetime.now(UTC).date().isoformat()
    python_version = subprocess.run([python, "-c", "import platform; print(platform.python_version())"], capture_output=True, text=True, check=True)
    return {
        "subject": report["subject"],
        "state": state(target),
        "date": day,
        "python": python_version.stdout.strip(),
        "seconds": round(report["seconds"]),
        "counts": report["counts"],
        "results": results,
    }


def portable(text: str) -> str:
    """Return a text without the folders of this machine."""
    for folder in (sys.prefix, sys.base_prefix, str(ROOT)):
        text = text.replace(f"{folder}/", "")
    return text


def page(kept: dict[str, Any]) -> str:
    """Return docs/peers.md."""
    targets = [target for target in TARGETS if target in kept]
    lines = [
        "# What the peers keep and break",
        "",
        "Made by `nox -s peers` of what [the conformance kit](conformance.md) found; the adapters are in `tests/peers`. ✓ kept, ✗ broken, (✗) broken",
        "by design, - not applicable: what a peer does not offer, or its adapter adds, is not judged. Each number leads to the evidence.",
        "A check can see a fault; it can't prove that there is none.",
        "",
        "| | peer | kept | broken | by design | not judged |",
        "|---|---|--:|--:|--:|--:|",
    ]
    for number, target in enumerate(targets, 1):
        counts = kept[target]["counts"]
        each = counts["kept"], counts["broken"] + counts["hangs"], counts["expected failure"], counts["not applicable"]
        lines.append(f"| [{number}](#{number}) | {kept[target]['subject']} | " + " | ".join(map(str, each)) + " |")
    lines += [
        "",
        "| | " + " | ".join(f"[{number}](#{number})" for number, _ in enumerate(targets, 1)) + " |",
        "|---" * (len(targets) + 1) + "|",
    ]
    by_target = {target: {result["check"]: result for result in kept[target]["results"]} for target in targets}
    checks = list(dict.fromkeys(check for results in by_target.values() for check in results))
    watched = {check: next(results[check] for results in by_target.values() if check in results)["watches"] for check in checks}
    for check in checks:
        cells = [MARKS[by_target[target][check]["verdict"]] if check in by_target[target] else "" for target in targets]
        lines.append(f"| {watched[check]} {check.replace('_', ' ')} | " + " | ".join(cells) + " |")
    for number, target in enumerate(targets, 1):
        found = kept[target]
        counts = ", ".join(f"{count} {verdict}" for verdict, count in found["counts"].items() if count)
        lines += ["", f"## {number}", "", f"**{found['subject']}**, Python {found['python']}, {found['date']}: {counts}, in {found['seconds']} s."]
        bad = [result for result in found["results"] if result["verdict"] in {"broken", "hangs", "expected failure"}]
        lines += [""] if bad else []
        for result in bad:
            why = result["what"] if result["verdict"] != "expected failure" else f"by design: {result['reason']}"
            lines.append(f"- {result['guarantee']} {result['check'].replace('_', ' ')} ({result['verdict']}): {_plain(why)}")
    return "\n".join(lines) + "\n"


def _plain(text: str) -> str:
    """Return a text that Markdown shows as it is, on one line, its beginning if it is long; the rest is in the JSON."""
    text = " ".join(text.split())
    if len(text) > SHOWN:
        text = f"{text[:SHOWN]} ..."
    return text.replace("<", "&lt;").replace("*", r"\*").replace("_", r"\_").replace("|", r"\|")


def main() -> int:
    """Print a line for each peer."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", default=["*"], help="patterns of adapters")
    parser.add_argument("--page", action="store_true", help="write docs/peers.md of what is kept, and run nothing")
    options = parser.parse_args()
    kept: dict[str, Any] = json.loads(DATA.read_text(encoding="utf-8")) if DATA.is_file() else {}
    asked = [target for target in TARGETS if any(fnmatch.fnmatch(target, pattern) for pattern in options.only)]
    if not options.page:
        sys.path.insert(0, str(ROOT / "tests" / "benchmarks"))
        import peers

        peers.build()
    for target in [] if options.page else asked:
        if kept.get(target, {}).get("state") == state(target):
            print(f"{target}: as it was")
            continue
        print(f"{target} ...", flush=True)
        kept[target] = judge(target)
        DATA.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
        print(f"{target}: {kept[target]['counts']}, {kept[target]['seconds']} s", flush=True)
    PAGE.write_text(page(kept), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
