"""Collects the tests twice and compares the ids: `python -m tools.collected`, or with paths for those alone.

For the second process it is another day, in another time zone, environment and hash order. What differs between the two
also differs between the workers of pytest-xdist, which refuse to run tests that are not the same in each.
"""

import argparse
import difflib
import os
import sys
import time
from datetime import timedelta
from pathlib import Path
from subprocess import PIPE, STDOUT, Popen
from tempfile import TemporaryDirectory

import pytest
import time_machine

AHEAD = timedelta(days=400, hours=5, minutes=7, seconds=11)
HERE = {"PYTHONHASHSEED": "0"}
ELSEWHERE = {
    "PYTHONHASHSEED": "4711",
    "TZ": "Pacific/Kiritimati",
    "LC_ALL": "C",
    "HOME": "/nonexistent",
    "EVBRIDGE_SOAK": "1",
    "EVBRIDGE_TEST_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nothing",
}


class Ids:
    """A plugin of pytest that writes the ids to a file, in their order."""

    def __init__(self, into: Path) -> None:
        self._into = into

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self._into.write_text("".join(f"{item.nodeid}\n" for item in session.items))


def collect(paths: list[str], into: Path, ahead: timedelta) -> int:
    quiet = ("-qq", "-W", "ignore::pytest.PytestAssertRewriteWarning")  # time_machine is a plugin of pytest too
    with time_machine.travel(time.time() + ahead.total_seconds()):
        return pytest.main(["--collect-only", *quiet, *paths], plugins=[Ids(into)])


def process(paths: list[str], into: Path, ahead: timedelta, environment: dict[str, str]) -> Popen[str]:
    command = [sys.executable, "-m", "tools.collected", f"--into={into}", f"--ahead={ahead.total_seconds()}", *paths]
    return Popen(command, env=os.environ | environment, stdout=PIPE, stderr=STDOUT, text=True)


def differences(paths: list[str]) -> list[str]:
    """Returns the lines of a diff. Raises SystemExit, with what pytest says, when the tests cannot be collected."""
    with TemporaryDirectory() as folder:
        files = [Path(folder, "here"), Path(folder, "elsewhere")]
        started = [process(paths, files[0], timedelta(), HERE), process(paths, files[1], AHEAD, ELSEWHERE)]
        said = [one.communicate()[0] for one in started]
        for one, words in zip(started, said, strict=True):
            if one.returncode:
                raise SystemExit(words)
        here, elsewhere = (file.read_text().splitlines() for file in files)
    return list(difflib.unified_diff(here, elsewhere, "here and now", "elsewhere, another day", lineterm="", n=0))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.collected", description=__doc__)
    parser.add_argument("paths", nargs="*")
    parser.add_argument("--into", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--ahead", type=float, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.into:
        raise SystemExit(collect(arguments.paths, arguments.into, timedelta(seconds=arguments.ahead)))
    if lines := differences(arguments.paths):
        print(*lines[:20], sep="\n")
        raise SystemExit("which tests are collected depends on the clock, the environment, chance or the hash order")


if __name__ == "__main__":
    main()
