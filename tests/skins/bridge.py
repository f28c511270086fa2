"""Drives the official python-socketio client for the scenario suite: commands come in as lines of JSON, and what the
server answers and says goes out as lines of JSON, both in the form of the native protocol's envelopes.

    python3 bridge.py URL TOKEN
"""

import asyncio
import json
import sys

import aiohttp
import socketio


def say(envelope):
    print(json.dumps(envelope), flush=True)


async def main(url, token):
    # Of its own, so that it is closed also where the connection is refused.
    async with aiohttp.ClientSession() as http:
        await drive(socketio.AsyncClient(reconnection=False, http_session=http), url, token)


async def drive(client, url, token):
    @client.on("*")
    async def pushed(kind, data=None):
        envelope = {"type": kind, "data": data}
        if kind == "welcome":
            envelope["id"] = 0
        say(envelope)

    @client.on("connect_error")
    async def refused(data):
        known = isinstance(data, dict)
        error = data.get("data", data) if known else {"code": "internal", "message": str(data), "retryable": False}
        say({"id": 0, "type": "error", "error": error})

    @client.event
    async def disconnect(*_reason):
        say({"type": "disconnected", "data": {}})

    try:
        await client.connect(url, auth={"token": token}, transports=["websocket"])
    except socketio.exceptions.ConnectionError:
        return
    reader = asyncio.StreamReader(limit=1 << 22)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        command = json.loads(line)

        def answered(answer, number=command["id"]):
            say({"id": number, **answer})

        await client.emit(command["type"], command.get("data"), callback=answered)
    await client.disconnect()


asyncio.run(main(*sys.argv[1:]))
