"""The supervisor's end of the socketpair to its keeper."""

import socket

from understudy.supervisor import pair
from understudy.supervisor.core.events import Alive


def test_a_keeper_that_reads_nothing_does_not_hold_up_the_supervisor() -> None:
    keeper, supervisor = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with keeper, supervisor:
        supervisor.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)

        for _ in range(1_000):
            pair.send_if_room(supervisor, Alive())

        heard = pair.read_requests(keeper, 100)
    assert 0 < len(heard) < 1_000
    assert {Alive()} == set(heard)
