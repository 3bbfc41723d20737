"""Relays connections to a server, over TLS if a certificate is given.

Usage: relay.py HOST:PORT [CERTIFICATE KEY]

Prints its port. While the file `hold` exists, it keeps the answers to EVALSHA back, and creates the file `held` at
the first one.
"""

import asyncio
import pathlib
import ssl
import sys


class Relay:
    def __init__(self):
        self.runs_scripts = False

    async def requests(self, source, target):
        while data := await source.read(65536):
            self.runs_scripts |= b"EVALSHA" in data
            target.write(data)
            await target.drain()
        target.close()

    async def answers(self, source, target):
        while data := await source.read(65536):
            while self.runs_scripts and pathlib.Path("hold").exists():
                pathlib.Path("held").touch()
                await asyncio.sleep(0.001)
            target.write(data)
            await target.drain()
        target.close()


async def main():
    host, port = sys.argv[1].rsplit(":", 1)
    tls = None
    if sys.argv[2:]:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(*sys.argv[2:])

    async def connected(reader, writer):
        relay, (answers, requests) = Relay(), await asyncio.open_connection(host, int(port))
        await asyncio.gather(relay.requests(reader, requests), relay.answers(answers, writer))

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


asyncio.run(main())
