"""What waits for room on its way to a peer goes on when the peer has taken something, or has left. Pure."""

from understudy.supervisor.core import asks, calls, follows, turns
from understudy.supervisor.core.child import Child, State
from understudy.supervisor.core.house import Client, House, Role


def client_took(house: House, peer: bytes) -> None:
    """The client answered a ping: read on for it."""
    if house.budget.ponged(peer) is not None:
        _client_goes_on(house, house.clients[peer])


def _client_goes_on(house: House, client: Client) -> None:
    if client.unasked:
        client.unasked = False
        asks.say_again(house, client.id, client.peer)
    follows.read_on(house, client)


def actor_took(house: House, role: Role, child: Child, peer: bytes) -> None:
    """The actor answered a ping: what it was told before it certainly has."""
    ping = house.budget.ponged(peer)
    if ping is not None and child is role.child:
        asks.forget_given(role, peer, ping)
        actor_goes_on(house, role)


def actor_goes_on(house: House, role: Role) -> None:
    """Send what waits for room on the way to the agent's actor: answers, what it had before, calls, then turns."""
    if role.child.state is State.RUNNING and (role.ungiven or role.resuming or role.waiting or house.calls):
        asks.give_on(house, role)
        turns.hand_over_again(house, role)
        calls.send_waiting(house, role)
        turns.admit_waiting(house, role)


def go_on(house: House) -> None:
    """There is room again in the house: nobody waits for others any more."""
    house.budget.freed = False
    for client in list(house.clients.values()):
        _client_goes_on(house, client)
    for role in house.roles.values():
        actor_goes_on(house, role)


def unreachable(house: House, peer: bytes) -> None:
    """The actor's connection is given up: only its exit proves anything, or its next hello, for which it is asked."""
    house.peers.pop(peer, None)
    house.budget.close(peer)
