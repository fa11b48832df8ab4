"""A client under fire: prompts until it is killed, and writes down what was accepted. usage: load.py RUNTIME LEDGER AGENT TAG."""

import asyncio
import json
import os
import sys

from understudy.protocol.client import connect


async def main() -> None:
    """Prompt for ever."""
    runtime_dir, ledger, agent, tag = sys.argv[1:]
    out = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    async with connect(runtime_dir, wait_s=20) as client:
        session = await client.open(agent, "/tmp")
        for number in range(10**6):
            text = f"{tag}.{number} [[stream 3 2]]"
            turn = await session.prompt(text)
            os.write(out, json.dumps([session.id, turn.number, text]).encode() + b"\n")
            await turn.ending()


asyncio.run(main())
