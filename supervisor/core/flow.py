"""What waits for room on its way to a peer goes on when the peer has taken something, or has left. Pure."""

from understudy.supervisor.core import asks, calls, follows, turns
from understudy.supervisor.core.house import Client, House
from understudy.supervisor.core.life import Actor, State


def client_took(house: House, peer: bytes) -> None:
    """The client answered a ping: read on for it."""
    if house.budget.ponged(peer) is not None:
        _client_goes_on(house, house.clients[peer])


def _client_goes_on(house: House, client: Client) -> None:
    if client.unasked:
        client.unasked = False
        asks.say_again(house, client.id, client.peer)
    follows.read_on(house, client)


def actor_took(house: House, actor: Actor, peer: bytes) -> None:
    """The actor answered a ping: what it was told before it certainly has."""
    ping = house.budget.ponged(peer)
    if ping is not None and actor.agent:
        asks.forget_given(house, actor, peer, ping)
        actor_goes_on(house, actor)


def actor_goes_on(house: House, actor: Actor) -> None:
    """Send what waits for room on the way to the actor: answers, what it had before, calls, then turns."""
    agent = house.agents[actor.agent]
    if actor.state is State.RUNNING and (actor.ungiven or actor.resuming or agent.waiting or house.calls):
        asks.give_on(house, actor)
        turns.hand_over_again(house, actor)
        calls.send_waiting(house, agent)
        turns.admit_waiting(house, agent)


def go_on(house: House) -> None:
    """There is room again in the house: nobody waits for others any more."""
    house.budget.freed = False
    for client in list(house.clients.values()):
        _client_goes_on(house, client)
    for actor in [each for agent in house.agents.values() for each in agent.actors]:
        actor_goes_on(house, actor)


def unreachable(house: House, peer: bytes) -> None:
    """The actor's connection is given up: only its exit proves anything, or its next hello, for which it is asked."""
    house.peers.pop(peer, None)
    house.budget.close(peer)
