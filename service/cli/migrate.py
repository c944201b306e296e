"""`evbridge migrate`."""

import argparse

from service.app import migrated_url
from service.settings import Settings


async def run(settings: Settings, _: argparse.Namespace) -> None:
    async with migrated_url(settings, brief=True):
        print("the schema is current")
