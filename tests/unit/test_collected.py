"""Which tests are collected must not depend on when, where and by which process: the tool that looks, its control."""

import subprocess
import sys
from pathlib import Path

import pytest

from tools.third_party import ROOT

CAUSES = {
    "clock": "datetime.now().date()",
    "minute": "int(time.time()) // 60",
    "time_zone": "time.tzname[0]",
    "chance": "uuid4()",
    "environment": "os.environ.get('EVBRIDGE_SOAK')",
    "hash_order": "''.join({'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'})",
}
IMPORTS = "import os, time, pytest\nfrom datetime import datetime\nfrom uuid import uuid4\n"
TEST = """
@pytest.mark.parametrize("value", [{value}])
def test_{name}(value):
    assert value
"""


def collected(module: Path, text: str) -> subprocess.CompletedProcess[str]:
    module.write_text(text)
    command = [sys.executable, "-m", "tools.collected", str(module)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_tests_whose_ids_are_always_the_same_pass(tmp_path: Path) -> None:
    same = TEST.format(name="same", value="*sorted({'a', 'b'}), datetime.now()")  # a value, but not in an id
    ended = collected(tmp_path / "test_same.py", IMPORTS + same)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


@pytest.fixture(scope="module")
def of_all_causes(tmp_path_factory: pytest.TempPathFactory) -> subprocess.CompletedProcess[str]:
    tests = [TEST.format(name=name, value=f"str({value})") for name, value in CAUSES.items()]
    return collected(tmp_path_factory.mktemp("causes") / "test_other.py", IMPORTS + "".join(tests))


@pytest.mark.parametrize("cause", CAUSES)
def test_control_an_id_that_is_not_always_the_same_is_shown(
    of_all_causes: subprocess.CompletedProcess[str], cause: str
) -> None:
    assert of_all_causes.returncode == 1
    assert of_all_causes.stdout.count(f"::test_{cause}[") == 2


def test_what_cannot_be_collected_is_told_as_pytest_tells_it(tmp_path: Path) -> None:
    ended = collected(tmp_path / "test_broken.py", "import nothing_of_the_kind\n")
    assert ended.returncode == 1
    assert "No module named 'nothing_of_the_kind'" in ended.stderr
