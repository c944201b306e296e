"""Generates and compiles the clients in clients/: `python -m tools.clients go typescript`, or only one of them.

What it makes is not committed. The plugins come at the versions of go.sum and package-lock.json.
"""

import argparse
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tools.third_party import ROOT, lay_out

CLIENTS = ROOT / "clients"


@dataclass(frozen=True)
class Language:
    """The commands that make a client, run in its folder."""

    download: tuple[str, ...]
    # Asks the same registry for something else: when this fails too, there is no way to it.
    reach: tuple[str, ...]
    compile: tuple[str, ...]
    # The program that shows the client at work.
    check: tuple[str, ...]

    @property
    def tool(self) -> str:
        return self.download[0]


LANGUAGES = {
    "go": Language(
        download=("go", "mod", "download"),
        reach=("go", "list", "-m", "google.golang.org/grpc@latest"),
        compile=("go", "build", "-o", "bin/", "./..."),
        check=("bin/check",),
    ),
    "typescript": Language(
        download=("npm", "ci", "--prefer-offline"),
        reach=("npm", "view", "typescript", "version"),
        compile=("npm", "exec", "--offline", "--", "tsc"),
        check=("node", "dist/check.js"),
    ),
}


def download(name: str) -> None:
    """Brings what the client's lock file names. Raises CalledProcessError when it cannot."""
    subprocess.run(LANGUAGES[name].download, cwd=CLIENTS / name, check=True)


def build(name: str) -> None:
    """Generates and compiles a client whose packages are there.

    Raises CalledProcessError, after the tool has said why, when the contract or the check program does not compile.
    """
    lay_out()
    buf = Path(sys.executable).with_name("buf")
    subprocess.run([buf, "generate", "--template", CLIENTS / name / "buf.gen.yaml"], cwd=ROOT, check=True)
    subprocess.run(LANGUAGES[name].compile, cwd=CLIENTS / name, check=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.clients", description="Generates the clients in clients/.")
    parser.add_argument("languages", nargs="+", choices=sorted(LANGUAGES))
    try:
        for name in parser.parse_args().languages:
            download(name)
            build(name)
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
