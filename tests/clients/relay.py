"""What lies between a client and a server: it loses answers, and cuts connections."""

import asyncio
from typing import Self

_HEADERS = 1  # the type of the frame of HTTP/2 that an answer begins with


class Relay:
    """`loses` is how many answers are still to be lost, each with its connection; `connections` counts those made."""

    def __init__(self, to: str) -> None:
        self._to = to.rpartition(":")
        self.loses = 0
        self.connections = 0
        self._closed = False
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self.cut()

    async def cut(self) -> None:
        """Ends every connection, and those that begin before it `opens` again."""
        self._closed = True
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def opens(self) -> None:
        self._closed = False

    async def _serve(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        if self._closed:
            to_client.transport.abort()
            return
        self.connections += 1
        server, to_server = await asyncio.open_connection(self._to[0], int(self._to[2]))
        ways = {asyncio.create_task(_asked(client, to_server)), asyncio.create_task(self._answered(server, to_client))}
        self._tasks |= ways
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for task in ways:
            task.cancel()
        await asyncio.wait(ways)
        self._tasks -= ways
        for writer in (to_client, to_server):
            writer.transport.abort()

    async def _answered(self, server: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        """Frame by frame."""
        try:
            while True:
                head = await server.readexactly(9)
                if head[3] == _HEADERS and self.loses:
                    self.loses -= 1
                    return
                to_client.write(head + await server.readexactly(int.from_bytes(head[:3])))
                await to_client.drain()
        except (asyncio.IncompleteReadError, OSError):
            return


async def _asked(client: asyncio.StreamReader, to_server: asyncio.StreamWriter) -> None:
    try:
        while piece := await client.read(1 << 16):
            to_server.write(piece)
            await to_server.drain()
    except OSError:
        return
