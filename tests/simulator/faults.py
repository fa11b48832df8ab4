"""What goes wrong in a schedule. Each kind is one act on the world; which may strike, the cast says."""

from collections.abc import Callable

from tests.simulator.actors import Actor, Phase
from tests.simulator.cast import changed
from tests.simulator.disk import Health
from tests.simulator.house import Supervisor
from tests.simulator.world import World
from understudy.supervisor.core.events import Sampled, ShutdownAsked, Suspended


def strike(world: World) -> None:
    """Let one fault of the schedule's kinds happen, when there is what it needs."""
    scene = world.scene
    if scene.random.random() >= scene.cast.fault_rate:
        return
    kinds = list(scene.cast.weights)
    kind = scene.random.choices(kinds, [scene.cast.weights[each] for each in kinds])[0]
    if _strike(world, kind):
        scene.faults[kind] += 1
        scene.say(f"FAULT: {kind}")


def _strike(world: World, kind: str) -> bool:
    """Carry out one fault; return False when there is nothing for it."""
    scene, keeper = world.scene, world.keeper
    if kind.startswith(("actor", "program")):
        return _to_actor(world, kind)
    if kind.startswith(("client", "agent")):
        return _to_client(world, kind)
    if kind.startswith("supervisor") or kind in ("shutdown", "our code breaks", "reload", "memory seen"):
        return _to_supervisor(world, kind)
    match kind:
        case "start fails":
            keeper.start_fails = True
        case "fork fails":
            keeper.fork_fails = True
        case "process left over":
            keeper.leaves_process = True
        case "house falls":
            world.end_house()
        case "power fails":
            world.power_fails(scene.random.choice((0, 0, 1, 3, 10)))
        case "frames delayed":
            wires = list(scene.wires.values())
            if not wires:
                return False
            scene.random.choice(wires).held_until = scene.now + scene.random.uniform(0.05, 1.0)
        case "disk slow":
            scene.disk.health = Health.SLOW
            world.disk_until = scene.now + scene.random.uniform(0.05, 2.0)
        case "disk full":
            scene.disk.health = Health.FULL
        case "disk well":
            scene.disk.health = Health.WELL
        case "time leaps":
            scene.now += scene.random.choice((0.3, 1.0, 3.0, 8.0, 20.0))
        case "wall clock jumps":
            scene.wall += scene.weather.uniform(-1e6, 1e6)
        case _:
            raise AssertionError(f"there is no fault {kind}")
    return True


def _to_actor(world: World, kind: str) -> bool:
    random = world.scene.random
    fits: Callable[[Actor], bool] = {
        "actor killed": lambda _: True,
        "actor stopped": lambda actor: not actor.halted,
        "actor goes on": lambda actor: actor.halted,
        "program ends": lambda actor: actor.phase is Phase.READY and not actor.halted,
        "actor cut off": lambda actor: actor.wire is not None and not actor.halted,
    }[kind]
    actors = [actor for actor in world.keeper.living() if fits(actor)]
    if not actors:
        return False
    actor = random.choice(actors)
    match kind:
        case "actor killed":
            actor.die(-9)
        case "actor stopped":
            actor.halted = True
            world.keeper.reports.append(Suspended(actor.name, actor.epoch))
        case "actor goes on":
            actor.halted = False
        case "program ends":
            actor.leave("the program ended", random.choice((0, 1)))
        case _:
            actor.cut()
    return True


def _to_client(world: World, kind: str) -> bool:
    random = world.scene.random
    client = random.choice(world.clients)
    match kind:
        case "client killed":
            world.replace(client)
            return True
        case "client cut off":
            client.cut()
            return True
        case "client stopped":
            client.halted_until = world.scene.now + random.choice((1.0, 30.0, 75.0))
            return True
        case "agent stopped by a person":
            verb = "stop"
        case "agent restarted by a person":
            verb = "restart"
        case _:
            verb = "start"
    client.verb(verb, random.choice(world.scene.cast.spec.agents).name)
    client.flush()
    return True


def _seen_memory(world: World, house: Supervisor) -> bool:
    actors = world.keeper.living()
    if not actors:
        return False
    actor = world.scene.random.choice(actors)
    used_mb = world.scene.random.choice((5.0, 30.0, 50.0, 90.0))
    house.inbox.append(Sampled(actor.name, actor.epoch, used_mb, 9))
    return True


def _to_supervisor(world: World, kind: str) -> bool:
    random, house = world.scene.random, world.supervisor
    if house is None:
        return False
    match kind:
        case "supervisor killed":
            world.fall()
        case "supervisor stays away":
            world.fall(away_s=random.choice((0.1, 1.0, 5.0)))
        case "supervisor killed between two effects":
            house.fuse = random.randrange(12)
        case "our code breaks":
            house.core.breaks = True
        case "reload":
            world.reload(changed(world.whole, random))
        case "memory seen":
            return _seen_memory(world, house)
        case "supervisor stopped":
            house.halted_until = world.scene.now + random.choice((0.1, 1.0, 4.0))
        case _:
            house.inbox.append(ShutdownAsked(hurry=random.random() < 0.3))
    return True
