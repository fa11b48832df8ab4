"""Calls a second of one Ray actor, all of a round under way at once: the most that Ray gives."""

import time
from typing import Any

import ray
from rounds import ASKS, BODY, serve


@ray.remote
class Echo:
    def ask(self, body: bytes) -> bytes:
        return body


def main() -> None:
    ray.init(num_cpus=2, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    echo: Any = Echo.remote()  # type: ignore[attr-defined]

    def once() -> float:
        began = time.perf_counter()
        ray.get([echo.ask.remote(BODY) for _ in range(ASKS)])
        return float(ASKS) / (time.perf_counter() - began)

    serve(once)
    ray.shutdown()


if __name__ == "__main__":
    main()
