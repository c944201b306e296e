"""`evbridge migrate`."""

import argparse

from service.settings import Settings
from service.storage.opening import migrated_url


async def run(settings: Settings, _: argparse.Namespace) -> None:
    async with migrated_url(settings, brief=True):
        print("the schema is current")
