"""SIGKILL of a Ray actor -> it answers again, in ms: one restart for each line on stdin."""

import os
import signal
import time
from typing import Any

import ray
from rounds import serve


@ray.remote(max_restarts=-1, max_task_retries=-1)
class Echo:
    def pid(self) -> int:
        return os.getpid()


def main() -> None:
    ray.init(num_cpus=2, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    echo: Any = Echo.remote()  # type: ignore[attr-defined]

    def once() -> float:
        pid = ray.get(echo.pid.remote())
        began = time.perf_counter()
        os.kill(pid, signal.SIGKILL)
        while ray.get(echo.pid.remote()) == pid:
            pass
        return 1000 * (time.perf_counter() - began)

    serve(once)
    ray.shutdown()


if __name__ == "__main__":
    main()
