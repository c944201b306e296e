"""`evbridge health`."""

import argparse
import sys

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from service.cli.common import channel_to
from service.settings import Settings


async def run(settings: Settings, _: argparse.Namespace) -> None:
    address = settings.listen.replace("0.0.0.0", "127.0.0.1").replace("[::]", "[::1]")  # noqa: S104
    async with channel_to(settings, address) as channel:
        try:
            check = health_pb2_grpc.HealthStub(channel).Check  # type: ignore[attr-defined]
            reply = await check(health_pb2.HealthCheckRequest(), timeout=5)
        except grpc.aio.AioRpcError as error:
            sys.exit(f"evbridge: {address} answers {error.code().name}")
        if reply.status != health_pb2.HealthCheckResponse.SERVING:
            sys.exit(f"evbridge: {address} is not serving")
