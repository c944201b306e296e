"""`evbridge demo`."""

import argparse

from service.demo.demo import demo
from service.settings import Settings


async def run(_: Settings, __: argparse.Namespace) -> None:
    await demo()
