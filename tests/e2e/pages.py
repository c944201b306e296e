"""Runs the commands of README.md and docs/ as a reader does: each statement of each `sh` block, all in one shell.

What runs and what is only checked:

- `evb ...` and `grpcurl ...` make real calls. The machine may have no grpcurl, so `buf curl`, which the README names
  too, stands in for it: it asks the server for its descriptors by reflection, like grpcurl.
- `evbridge simulate` runs beside the page, on a free port. `evbridge keys`, `evbridge quote` and whatever else a shell
  can do run as they are written.
- `make serve` is the server that runs already: only the target and the settings are checked. So is another `make`.
- What needs the internet or other tools stands in NOT_RUN; what a machine may lack, in _OPTIONAL.

What a comment behind a statement says in capitals must be in the answer: `# DELIVERED`, `# INVALID_FIELD`. It may
take a moment where the statement only reads. A gRPC code, `# InvalidArgument`, means that the statement fails with
it; any other must not fail. A `json` or `text` block shows lines of the answer to the statement before it.
"""

import asyncio
import base64
import os
import re
import shlex
import shutil
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from service.settings import Settings
from tests.front_door import environment

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
NOT_RUN = ("docker ", "kubectl ", "go mod ", "npm ", "pip ")
_OPTIONAL = ("curl", "openssl")

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_COMMENT = re.compile(r"\s# (?P<words>[^'\"]*)$")
_CODES = ("InvalidArgument", "Aborted", "NotFound", "AlreadyExists", "FailedPrecondition", "PermissionDenied")
_READS = re.compile(r"/(Get|List|Wait|Search|Preview)\w+ ")
_GRPCURL = f"""\
#!/bin/sh
# grpcurl -plaintext -H HEADER [-d JSON] ADDRESS (METHOD | list | describe NAME)
header=$3; shift 3
if [ "$1" = -d ]; then body=$2; shift 2; fi
case $2 in
  list) exec '{BIN}/buf' curl --http2-prior-knowledge --protocol grpc --reflect-header "$header" --list-services "http://$1";;
  describe) exec grep -rE "^(message|service|enum) ${{3##*.}} " '{ROOT}/protos';;
esac
exec '{BIN}/buf' curl --http2-prior-knowledge --protocol grpc -H "$header" --reflect-header "$header" -d "$body" "http://$1/$2"
"""


def pages() -> list[str]:
    """README.md and every page below docs/, by their paths in the repository."""
    return ["README.md", *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md"))]


def blocks(page: str, *languages: str) -> list[tuple[str, str]]:
    """Language and text of each block in these languages."""
    found = _BLOCK.findall((ROOT / page).read_text(encoding="utf-8"))
    return [(language, text) for language, text in found if language in languages]


def links(page: str) -> list[str]:
    """The targets of its links to other files, by their paths in the repository; a heading stands behind "#"."""
    text = _BLOCK.sub("", (ROOT / page).read_text(encoding="utf-8"))
    found = [target for target in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in target]
    folder = (ROOT / page).parent
    return [
        f"{(folder / path).resolve().relative_to(ROOT)}#{heading}" if path else f"{page}#{heading}"
        for path, _, heading in (target.partition("#") for target in found)
    ]


def headings(page: str) -> set[str]:
    """What links to its headings are called, as GitHub makes them."""
    found = re.findall(r"^#+ (.*)$", _BLOCK.sub("", (ROOT / page).read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in found}


def statements(block: str) -> list[str]:
    """A statement begins at the margin; what is indented belongs to the one above."""
    return [each for each in re.split(r"\n+(?=\S)", block.strip("\n")) if each and not each.startswith("#")]


class Reader:
    """Somebody who types what the pages show, beside a server at `address` that works on `database_url`."""

    def __init__(self, shell: asyncio.subprocess.Process, address: str, directory: Path) -> None:
        self._shell = shell
        self._typed = {"localhost:50051": address, "/tmp/": f"{directory}/", ".venv/bin/": f"{BIN}/"}
        self._simulators = AsyncExitStack()

    async def prepare(self) -> None:
        """Does what the README says before its first call: KEY and evb."""
        (made,) = (text for _, text in blocks("README.md", "sh") if "KEY=" in text)
        for statement in statements(made):
            await self._do(statement)

    async def read(self, page: str, instead: Mapping[str, str] | None = None) -> str:
        """Does what the page shows, `instead` of some of its texts others. Returns the last answer.

        Raises AssertionError where the page is wrong.
        """
        self._typed |= instead or {}
        last, answer = "", ""
        for language, text in blocks(page, "sh", "json", "text"):
            if language != "sh":
                await self._shows(last, answer, [line.strip() for line in text.splitlines()])
                continue
            for last in statements(text):
                answer = await self._do(last)
        return answer

    async def close(self) -> None:
        await self._simulators.aclose()

    async def _do(self, statement: str) -> str:
        if statement.startswith(NOT_RUN) or (
            statement.startswith(_OPTIONAL) and not shutil.which(statement.split()[0])
        ):
            return ""
        if made := re.match(r"(?P<settings>(?:EVBRIDGE_\w+=\S+ )*)make (?P<target>\w+)", statement):
            Settings.from_environ(dict(each.split("=", 1) for each in made["settings"].split()))
            return await self._type(f"make --dry-run {made['target']} > /dev/null")
        if simulated := re.search(r"evbridge simulate (?P<partner>\w+) .*--port (?P<port>\d+)", statement):
            arguments = shlex.split(statement)[1:]
            url = await self._simulators.enter_async_context(_simulating(arguments, simulated["port"]))
            self._typed[f"http://127.0.0.1:{simulated['port']}"] = url
            return url
        comment = _COMMENT.search(statement)
        words = comment["words"] if comment else ""
        code = next((code for code in _CODES if code in words), None)
        answer = await self._type(statement, fails=code)
        await self._shows(statement, answer, re.findall(r"\b[A-Z][A-Z0-9_]+\b", words))
        return answer

    async def _shows(self, statement: str, answer: str, wanted: list[str]) -> None:
        """Every text of `wanted` is in the answer, perhaps after a moment when the statement only reads."""
        async with asyncio.timeout(60):
            while missing := [text for text in wanted if _spelled(text) not in _spelled(answer)]:
                assert _READS.search(statement), f"{statement}\nanswers\n{answer}\nwithout {missing}"
                await asyncio.sleep(0.2)
                answer = await self._type(statement)

    async def _type(self, statement: str, fails: str | None = None) -> str:
        typed = statement
        for text, other in self._typed.items():
            typed = typed.replace(text, other)
        # grpcurl and buf curl write masks differently.
        typed = re.sub(r'\{"paths": \["(\w+)"\]\}', lambda mask: f'"{_camel(mask[1])}"', typed)
        assert self._shell.stdin
        assert self._shell.stdout
        self._shell.stdin.write(f"{{ {typed}\n}} 2>&1 < /dev/null; printf '\\036%s\\036' $?\n".encode())
        await self._shell.stdin.drain()
        said = (await self._shell.stdout.readuntil(b"\x1e"))[:-1].decode()
        status = int((await self._shell.stdout.readuntil(b"\x1e"))[:-1])
        if fails:
            assert status != 0, f"{statement}\nanswers\n{said}"
            assert fails.lower() in _spelled(said), f"{statement}\nanswers\n{said}"
            return said + "".join(_details(said))
        assert status == 0, f"{statement}\nanswers\n{said}"
        return said


@asynccontextmanager
async def reader(database_url: str, address: str, directory: Path) -> AsyncIterator[Reader]:
    """`directory` is the reader's own: files of the pages go there."""
    grpcurl = directory / "bin" / "grpcurl"
    grpcurl.parent.mkdir()
    grpcurl.write_text(_GRPCURL)
    grpcurl.chmod(0o755)
    pipe = asyncio.subprocess.PIPE
    environ = environment(database_url) | {"PATH": f"{grpcurl.parent}:{os.environ['PATH']}"}
    shell = await asyncio.create_subprocess_exec("bash", stdin=pipe, stdout=pipe, cwd=ROOT, env=environ, limit=1 << 24)
    here = Reader(shell, address, directory)
    try:
        yield here
    finally:
        await here.close()
        assert shell.stdin
        shell.stdin.close()
        await shell.wait()


@asynccontextmanager
async def _simulating(arguments: list[str], port: str) -> AsyncIterator[str]:
    """The URL of a simulated partner, on another port than the one that its arguments name."""
    arguments[arguments.index(port)] = "0"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "service", *arguments), cwd=ROOT, stderr=asyncio.subprocess.PIPE
    )
    assert process.stderr
    try:
        line = (await asyncio.wait_for(process.stderr.readline(), 60)).decode()
        assert "is simulated on http://" in line, line
        yield re.findall(r"http://[^/\s]+", line)[0]
    finally:
        process.terminate()
        await process.wait()


def _details(said: str) -> Iterator[str]:
    """buf curl leaves the details of an error in base64."""
    for value in re.findall(r'"value": "([A-Za-z0-9+/]+)"', said):
        yield base64.b64decode(value + "=" * (-len(value) % 4)).decode(errors="replace")


def _spelled(text: str) -> str:
    """grpcurl and buf curl spell the names of fields differently."""
    return text.replace("_", "").lower()


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(each.capitalize() for each in others)
