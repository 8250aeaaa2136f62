#!/usr/bin/env python3
"""asyncio-echo.py serve PORT | ask HOST PORT: streams of asyncio; every client checks that it gets back what it sent, whatever the sizes."""
import asyncio
import os
import random
import sys

CLIENTS, MESSAGES = 4, 300


async def serve(port):
    async def one(reader, writer):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(one, None, port)
    async with server:
        await server.serve_forever()


async def ask(host, port, number):
    chance = random.Random(number)
    reader, writer = await asyncio.open_connection(host, port)
    for _ in range(MESSAGES):
        sent = os.urandom(chance.choice((1, 64, 1000, 5000, 100_000)))
        writer.write(sent)
        got = await reader.readexactly(len(sent))
        if got != sent:
            sys.exit(f"client {number}: other bytes came back")
    writer.write_eof()
    if await reader.read():
        sys.exit(f"client {number}: more came back than was sent")
    writer.close()


async def main():
    if sys.argv[1] == "serve":
        await serve(int(sys.argv[2]))
    else:
        await asyncio.gather(*(ask(sys.argv[2], int(sys.argv[3]), i) for i in range(CLIENTS)))
        print(f"{CLIENTS * MESSAGES} messages came back")


asyncio.run(main())
