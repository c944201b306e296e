"""Generates and compiles the clients in clients/: `python -m tools.clients go typescript`, or only one of them.

What it makes is not committed. The plugins come at the versions of go.sum, package-lock.json and pom.xml; for C++ they
are the system's.
"""

import argparse
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tools import service_config
from tools.third_party import ROOT, lay_out

CLIENTS = ROOT / "clients"


@dataclass(frozen=True)
class Language:
    """The commands that make a client, run in its folder."""

    download: tuple[str, ...]
    # Asks the same registry for something else, or the compiler for gRPC: when this fails too, there is no way to it.
    reach: tuple[str, ...]
    compile: tuple[str, ...]
    # The programs that show the client at work.
    check: tuple[str, ...]
    watch: tuple[str, ...]

    @property
    def tool(self) -> str:
        return self.download[0]


_MAVEN = ("mvn", "--batch-mode", "--quiet")
_JAVA = ("java", "-cp", "target/classes:target/lib/*")
LANGUAGES = {
    "go": Language(
        download=("go", "mod", "download"),
        reach=("go", "list", "-m", "google.golang.org/grpc@latest"),
        compile=("go", "build", "-o", "bin/", "./..."),
        check=("bin/check",),
        watch=("bin/watch",),
    ),
    "typescript": Language(
        download=("npm", "ci", "--prefer-offline"),
        reach=("npm", "view", "typescript", "version"),
        compile=("npm", "exec", "--offline", "--", "tsc"),
        check=("node", "dist/check.js"),
        watch=("node", "dist/watch.js"),
    ),
    "java": Language(
        download=(*_MAVEN, "dependency:copy-dependencies", "-DoutputDirectory=target/lib"),
        reach=(*_MAVEN, "dependency:get", "-Dartifact=org.slf4j:slf4j-api:2.0.17"),
        compile=(*_MAVEN, "compile"),
        check=(*_JAVA, "com.evbridge.example.Check"),
        watch=(*_JAVA, "com.evbridge.example.Watch"),
    ),
    "cpp": Language(
        download=("cmake", "-S", ".", "-B", "build"),
        reach=("c++", "-x", "c++", "-fsyntax-only", "-include", "grpcpp/grpcpp.h", "/dev/null"),
        compile=("cmake", "--build", "build", "--parallel", "2"),
        check=("build/check",),
        watch=("build/watch",),
    ),
}


def download(name: str) -> None:
    """Brings the protos that ours import, and what the client's lock file names, or finds it on the system.

    Raises CalledProcessError when it cannot.
    """
    lay_out()
    subprocess.run(LANGUAGES[name].download, cwd=CLIENTS / name, check=True)


def build(name: str) -> None:
    """Generates and compiles a client whose packages are there.

    Raises CalledProcessError, after the tool has said why, when the contract or the check program does not compile.
    """
    template, generated = CLIENTS / name / "buf.gen.yaml", CLIENTS / name / "gen"
    if template.exists():  # Maven has plugins of its own
        buf = Path(sys.executable).with_name("buf")
        subprocess.run([buf, "generate", "--template", template], cwd=ROOT, check=True)
        shutil.copy(service_config.TARGET, generated)
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
