"""`evbridge restore`."""

import argparse
import shutil
import sys
from pathlib import Path

from service.settings import Settings
from service.storage.backup import KEYS, restore
from service.storage.opening import embedded, keys_file


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="DIR", type=Path, help="what `evbridge backup` made")


async def run(settings: Settings, arguments: argparse.Namespace) -> None:
    server, keys, kept = embedded(settings), keys_file(settings), arguments.folder / KEYS
    lacking = keys if keys and not keys.exists() else None
    if lacking and not kept.exists():
        sys.exit(f"evbridge: put the secrets keys of this database in {lacking} first: without them no secret opens")
    if lacking:
        lacking.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        shutil.copy2(kept, lacking)
    await restore(arguments.folder, server)
    print(f"restored to {settings.data_dir}; `evbridge doctor` examines it")
