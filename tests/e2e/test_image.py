"""What is released works without the repository: the wheel, and the image, by the steps of its Dockerfile."""

import asyncio
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

import pytest

from service.app import Evbridge
from tests.conftest import created
from tests.e2e.pages import ROOT
from tests.front_door import environment

# As the image's user, who has no name. Here it is still the one who runs the tests.
_NAMELESS = ("unshare", "--user", "--map-user=10001")


def tracked(*patterns: str) -> list[str]:
    listed = ("git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *patterns)
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return [name for name in names if (ROOT / name).exists()]


def copied(to: Path, names: list[str]) -> Path:
    for name in names:
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, to / name)
    return to


def context() -> list[str]:
    """What `docker build` is given."""
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if not line.startswith("!")] == ["*", "**/__pycache__"]
    return tracked(*(line[1:] for line in lines if line.startswith("!")))


def built(sources: Path) -> Path:
    build = (sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", "dist")
    subprocess.run(build, cwd=sources, check=True, capture_output=True)
    (wheel,) = (sources / "dist").iterdir()
    return wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(copied(tmp_path_factory.mktemp("first"), context()))


def test_a_wheel_is_the_same_wherever_it_is_built(wheel: Path, tmp_path: Path) -> None:
    sources = copied(tmp_path / "a checkout of somebody else", tracked())
    for path in sources.rglob("*.sql"):
        path.chmod(0o600)
        os.utime(path, (0, 0))
    (sources / "service" / "__pycache__").mkdir()
    (sources / "service" / "__pycache__" / "left.pyc").touch()
    assert built(sources).read_bytes() == wheel.read_bytes()
    # The control: a letter more.
    with (sources / "service" / "storage" / "schema.sql").open("a") as schema:
        schema.write("\n")
    assert built(sources).read_bytes() != wheel.read_bytes()


async def test_a_wheel_works_without_the_repository(wheel: Path, postgres: str, tmp_path: Path) -> None:
    with ZipFile(wheel) as archive:
        assert set(tracked("service")) <= set(archive.namelist())
        archive.extractall(tmp_path)
    (tmp_path / "service" / "cli" / "simulate.py").unlink()  # to see that these files run, and no others

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        environ = environment(url) | {"PYTHONPATH": str(tmp_path), "PATH": os.environ["PATH"]}
        command = (*_NAMELESS, sys.executable, "-m", "service", *arguments)
        return subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)

    if subprocess.run((*_NAMELESS, "true"), capture_output=True, check=False).returncode:
        pytest.skip("no user namespaces here")
    async with created(postgres) as url:
        made = run("keys", "create", "--tenant", "acme", "--role", "admin")
        assert made.stdout.startswith("evb_"), made.stderr
        assert run("status").returncode == 0
        assert "simulate" in run("simulate", "ampeco").stderr


def steps() -> Iterator[str]:
    """The commands of the first stage."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", "")
    first = text.split("\nFROM ")[1]
    return iter(re.findall(r"^RUN (.*)", first, re.MULTILINE))


@pytest.mark.timeout(900)
@pytest.mark.skipif(os.environ.get("EVBRIDGE_SOAK") != "1", reason="it downloads packages for minutes: EVBRIDGE_SOAK=1")
async def test_the_steps_of_the_image_make_a_server(running: Evbridge, wheel: Path, tmp_path: Path) -> None:
    """In folders of the test's, where a container has its own."""
    sources = copied(tmp_path / "build", context())
    subprocess.run((sys.executable, "-m", "venv", tmp_path / "python"), check=True)
    environ = {"PATH": f"{tmp_path}/python/bin:{os.environ['PATH']}", "HOME": "/"}
    environ |= {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_"))}
    for step in steps():
        here = re.sub(r"(?<= )/(?=opt/|wheel)", f"{tmp_path}/", step)
        done = subprocess.run(
            here, shell=True, cwd=sources, env=environ, stderr=subprocess.PIPE, text=True, check=False
        )
        assert not done.returncode, f"{step}\n{done.stderr}"
    (made,) = (tmp_path / "wheel").iterdir()
    assert made.read_bytes() == wheel.read_bytes()
    evbridge = str(tmp_path / "opt" / "evbridge" / "bin" / "evbridge")
    for address, status in ((running.address, 0), ("127.0.0.1:1", 1)):
        probe = await asyncio.create_subprocess_exec(evbridge, "health", cwd="/", env={"EVBRIDGE_LISTEN": address})
        assert await probe.wait() == status
