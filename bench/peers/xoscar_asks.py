"""Calls a second of one xoscar actor in a process of its own, `WINDOW` under way."""

import asyncio
import time

import xoscar
from rounds import ASKS, BODY, WINDOW, serve


class Echo(xoscar.Actor):  # type: ignore[misc]
    async def ask(self, body: bytes) -> bytes:
        return body


def main() -> None:
    loop = asyncio.new_event_loop()
    pool = loop.run_until_complete(xoscar.create_actor_pool(address="127.0.0.1:0", n_process=1))
    place = next(iter(pool.sub_processes))
    echo = loop.run_until_complete(xoscar.create_actor(Echo, address=place, uid="echo"))

    async def some() -> None:
        for _ in range(ASKS // WINDOW):
            await echo.ask(BODY)

    async def together() -> float:
        began = time.perf_counter()
        await asyncio.gather(*(some() for _ in range(WINDOW)))
        return float((ASKS // WINDOW) * WINDOW / (time.perf_counter() - began))

    serve(lambda: float(loop.run_until_complete(together())))
    loop.run_until_complete(pool.stop())


if __name__ == "__main__":
    main()
