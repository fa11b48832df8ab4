"""Actor processes: the unchanged machine of their side, around it what `actors.host` does, and an agent in it."""

from collections import deque
from dataclasses import dataclass, field
from enum import Enum

from tests.simulator.promises import Promises, Turn
from tests.simulator.scene import Marks, Scene, Wire
from understudy.actors.drivers.personas import Persona
from understudy.actors.drivers.settings import Setting, Settings, setting_of
from understudy.actors.playing import FLUSH_S_MAX, Playing
from understudy.protocol.backstage import (
    UNRECORDED_BYTES_MAX,
    UPDATES_BYTES_MAX,
    Answered,
    Backstage,
    Called,
    Cue,
    EndRecorded,
    GoGiven,
    LinkRefused,
    StopAsked,
    TurnCancelled,
    TurnHanded,
)
from understudy.protocol.frames import ActorCall, Frame, Handover, Recorded, Welcome, unpack
from understudy.protocol.standing import Standing
from understudy.supervisor.core.sessions import CONTINUATION

ASK_ALL, ASK_ONE = -1, -2  # Among what a turn does: a question for everybody, or for the client that prompted.
ENDLESS = 10**6


class Phase(Enum):
    """Where the process is in its life."""

    FORKED = "forked"
    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"
    LEAVING = "leaving"
    DEAD = "dead"


@dataclass(slots=True)
class Play:
    """A turn in the agent's hands. `todo`: its updates and questions; `deaf`: it will not hear a cancel."""

    text: str
    continues: bool
    go: bool
    todo: deque[int]
    deaf: bool
    waits: int
    begun: bool = False
    shown: bool = False
    cancelled: bool = False
    asking: str = ""


@dataclass(eq=False, slots=True)
class Actor:
    """One process."""

    scene: Scene
    promises: Promises
    name: str
    epoch: int
    pid: int
    plays_agent: str | None
    place: int
    fails: bool
    says_cancelled: bool  # As actors before this version did with the turns that they gave up when they were stopped.
    machine: Backstage = field(init=False)
    playing: Playing = field(init=False)
    phase: Phase = Phase.FORKED
    halted: bool = False  # SIGSTOP
    wire: Wire | None = None
    plays: dict[Turn, Play] = field(default_factory=dict[Turn, Play])
    slots: list[Turn] = field(default_factory=list[Turn])
    free: list[int] = field(default_factory=list[int])
    calls: deque[ActorCall] = field(default_factory=deque[ActorCall])
    settings: dict[str, Settings] = field(default_factory=dict[str, Settings])  # Of the sessions that it has opened.
    personas: dict[str, Persona] = field(default_factory=dict[str, Persona])  # Of the same.
    modes: dict[str, str] = field(
        default_factory=dict[str, str]
    )  # What its agent was told; it begins with its default.
    startup: int = 0
    until: float = 0.0  # When it stops waiting, while it is STOPPING or LEAVING.
    words: str = ""
    status: int = 0

    def __post_init__(self) -> None:
        self.machine = Backstage(self.name, self.epoch, self.pid)
        self.playing = Playing(self.scene.cast.spec.orphan_grace_s)
        self.startup = self.scene.random.choice((0, 1, 4))

    @property
    def title(self) -> str:
        """Its name and epoch."""
        return f"{self.name}#{self.epoch}"

    @property
    def lives(self) -> bool:
        """Whether the process exists."""
        return self.phase is not Phase.DEAD

    def has_work(self) -> bool:
        """Whether it would do something now."""
        if self.halted or not self.lives:
            return False
        if self.phase in (Phase.FORKED, Phase.STARTING) or self._may_connect():
            return True
        if self.due() <= self.scene.now or self.calls:
            return True
        if self.phase is Phase.LEAVING:
            return self.machine.all_recorded and self.machine.standing is not Standing.GREETING
        if self.phase is Phase.STOPPING:
            return all(not play.deaf or not play.shown for play in self.plays.values())
        return any(self._can_go_on(play) for play in self.plays.values())

    def due(self) -> float:
        """When it acts by the clock."""
        if self.halted or not self.lives:
            return float("inf")
        if self.phase in (Phase.STOPPING, Phase.LEAVING):
            return self.until
        due = self.playing.orphan_due
        return float("inf") if due is None else due

    def act(self) -> None:
        """Do some of what there is to do."""
        match self.phase:
            case Phase.FORKED:
                self.promises.note(self.name, self.epoch)
                self.scene.files[self.name, self.epoch] = Marks(self.scene.boot, self.slots)
                self.phase = Phase.STARTING
                self.playing.lost(self.scene.now)
            case Phase.STARTING if self.startup:
                self.startup -= 1
            case Phase.STARTING:
                self.phase, self.playing.takes_turns = Phase.READY, True
                if self.fails:
                    self.machine.ready = False
                    self.leave("could not start", 1)
                self._connect()
            case _:
                self._live()
        self.flush()

    def _live(self) -> None:
        scene = self.scene
        self._connect()
        if self.phase is Phase.READY and scene.now >= self.due():
            scene.say(f"{self.title} is an orphan")
            self.stop(1.0)
        if self.phase is Phase.STOPPING and (scene.now >= self.until or not self.plays):
            self.leave("stopped", 0)
        if self.phase is Phase.LEAVING:
            said = self.machine.all_recorded and self.machine.standing is not Standing.GREETING
            if said or scene.now >= self.until:
                self.machine.leave(self.words)
                self.flush()
                self.die(self.status)
            return
        while self.calls:
            self._answer(self.calls.popleft())
        for turn, play in list(self.plays.items()):
            if self._can_go_on(play):
                self._go_on(turn, play)

    def _can_go_on(self, play: Play) -> bool:
        if play.asking or not self.machine.may_speak:
            return False
        if not play.shown:
            return not play.begun or play.go
        return bool(play.todo) or not play.deaf

    def _go_on(self, turn: Turn, play: Play) -> None:
        machine = self.machine
        if not play.shown:
            if play.waits:
                play.waits -= 1
            elif play.cancelled:
                self._end(turn, "cancelled")
            elif not play.begun:
                play.begun = True
                if machine.begin(*turn):
                    self._show(turn, play)
                else:
                    self.playing.waits(turn)
            return
        if play.cancelled and not play.deaf and self.scene.random.random() < 0.5:
            self._end(turn, "cancelled")
        elif not play.todo:
            self._end(turn, "end_turn")
        elif play.todo[0] in (ASK_ALL, ASK_ONE):
            public = play.todo.popleft() == ASK_ALL
            play.asking = machine.ask(*turn, "may I", {}, public=public)
        else:
            self._say(turn, play)

    def _say(self, turn: Turn, play: Play) -> None:
        for _ in range(self.scene.random.choice((1, 1, 3))):
            if not play.todo or play.todo[0] < 0 or not self.machine.may_speak:
                break
            at = self.promises.said[turn, self.epoch]
            update: dict[str, object] = {"at": at, "by": self.epoch, "turn": turn[1]}
            if self.scene.cast.heavy:
                update["pad"] = "-" * UPDATES_BYTES_MAX
            self.promises.said[turn, self.epoch] += 1
            self.machine.say(*turn, update)
            if play.todo[0] != ENDLESS:
                play.todo.popleft()
            else:
                break
        if self.scene.random.random() < 0.1:
            self._remember(turn[0])
        limit = UNRECORDED_BYTES_MAX + 2 * UPDATES_BYTES_MAX
        assert self.machine.unrecorded_bytes <= limit, f"{self.title} keeps {self.machine.unrecorded_bytes} bytes"

    def _show(self, turn: Turn, play: Play) -> None:
        """The agent gets the prompt; just before, its slot is written."""
        play.shown = True
        self.promises.plays_in_mode(turn[0], self.modes.get(turn[0], ""))
        if self.free:
            self.slots[self.free.pop()] = turn
        else:
            self.slots.append(turn)
        persona = self.personas[turn[0]]
        self.promises.show(self.name, self.epoch, turn, play.continues)
        first = persona.goes_before(turn[1], play.continues)
        self.promises.tell_persona(turn, persona.text if first else "", play.continues)
        if persona.was_before(turn[1]):
            self._remember(turn[0])

    def _end(self, turn: Turn, reason: str, as_before: bool = False) -> None:
        """The turn's play is over. `as_before`: an older actor said the ending of turns that it gave up, too."""
        del self.plays[turn]
        if self.playing.ended(turn, reason, self.phase is Phase.LEAVING) or as_before:
            self.promises.agent_ended[turn] = (reason, self.epoch)
            self.machine.end(*turn, reason)

    # --- what it hears ---

    def hear(self, frame: Frame) -> None:
        """Take one frame of the house's."""
        if isinstance(frame, Recorded):
            self.promises.acknowledged(self.name, self.epoch, frame.n)
        elif isinstance(frame, Welcome):
            self.promises.acknowledged(self.name, self.epoch, frame.committed)
        for happening in self.machine.receive(frame):  # type: ignore[arg-type]
            self._happen(happening)
        if self.machine.standing is Standing.UP:
            self.playing.found()
        self.flush()

    def _happen(self, happening: Cue) -> None:
        match happening:
            case TurnHanded(handover=handover):
                self._take(handover)
            case GoGiven(session=session, turn=number):
                self.promises.went((session, number))
                if self.playing.may_go((session, number)):
                    play = self.plays[session, number]
                    play.go = True
                    self._show((session, number), play)
            case TurnCancelled(session=session, turn=number):
                self._cancel((session, number))
            case Answered(answer=answer):
                self.promises.answer_given(answer.ask, unpack(answer.body), answer.error)
                for play in self.plays.values():
                    if play.asking == answer.ask:
                        play.asking = ""
            case Called(call=call):
                if self.playing.takes_turns:
                    self.calls.append(call)
            case EndRecorded(session=session, turn=number):
                if self.phase is Phase.READY:  # One that stops shows nothing more.
                    self.promises.forgot((session, number))
                if (session, number) in self.slots:
                    self.free.append(self.slots.index((session, number)))
            case StopAsked(grace_s=grace_s):
                self.stop(grace_s, self.says_cancelled)
            case LinkRefused():
                self.stop(0.0)
            case _:
                pass

    def _take(self, handover: Handover) -> None:
        if not self.playing.takes_turns:
            return  # It was never seen here, and goes to the next incarnation.
        turn, text = (handover.session, handover.turn), unpack(handover.body)[0]["text"]
        self._open(handover)
        if handover.go:
            self.promises.went(turn)
        random = self.scene.random
        updates = random.choice((0, 2, 4, 4, 20 if self.scene.cast.heavy else 4))
        todo = deque(range(updates))
        if updates and random.random() < 0.7:
            todo.insert(random.randrange(updates), random.choice((ASK_ALL, ASK_ONE)))
        deaf = False
        if text.startswith("endless"):
            todo.append(ENDLESS)
        elif text.startswith("hang"):
            deaf = True
        continues, waits = handover.body == CONTINUATION, random.choice((0, 0, 2))
        self.plays[turn] = Play(text, continues, handover.go, todo, deaf, waits)

    def _open(self, frame: Handover | ActorCall) -> Settings:
        """Make the session ready in the agent: what was set in an earlier process is set again."""
        self.promises.open(self.name, self.epoch, frame.session, self.plays_agent)
        known = self.settings.get(frame.session)
        if known is None:
            memory = unpack(frame.memory)
            known = self.settings[frame.session] = Settings(memory and memory["settings"])
            self.personas[frame.session] = Persona(frame.persona, memory["persona_turn"] if memory else 0)
            for setting in list(known.pending):
                self._set(frame.session, known, setting)
        return known

    def _answer(self, call: ActorCall) -> None:
        known, setting = self._open(call), setting_of(call.method, unpack(call.body))
        if setting is not None:
            self._set(call.session, known, setting)
            self._remember(call.session)
        self.machine.answer_call(call.request, {})

    def _set(self, session: str, known: Settings, setting: Setting) -> None:
        self.modes[session] = setting.params["modeId"]
        known.make(setting)

    def _remember(self, session: str) -> None:
        memory = {"settings": self.settings[session].to_remember(), "persona_turn": self.personas[session].turn}
        self.machine.remember(session, memory)

    def _cancel(self, turn: Turn) -> None:
        play = self.plays.get(turn)
        if play is None:
            return
        play.cancelled = True
        play.asking = ""  # The driver takes its questions back.
        self.playing.cancel(turn)
        if play.begun and self.playing.breaks_off(turn, understood=True):
            self._end(turn, "cancelled")
        elif not play.deaf and play.todo and play.todo[-1] != ENDLESS and self.scene.random.random() < 0.2:
            play.cancelled = False  # It hears, and comes to its own end all the same.

    # --- its life ---

    def stop(self, grace_s: float, says_cancelled: bool = False) -> None:
        """It was told to end in order, or has nobody to play for."""
        if self.phase not in (Phase.STARTING, Phase.READY):
            return
        if says_cancelled:
            self.promises.stops.add((self.name, self.epoch))
        self.phase, self.until = Phase.STOPPING, self.scene.now + grace_s / 2
        self.playing.stop()
        for turn, play in list(self.plays.items()):
            if not play.deaf or not play.shown:
                self._end(turn, "cancelled", says_cancelled)
        self.flush()

    def leave(self, words: str, status: int) -> None:
        """It ends by itself, once what it said is recorded or a bound is reached."""
        self.playing.takes_turns = False
        self.phase, self.until = Phase.LEAVING, self.scene.now + FLUSH_S_MAX
        self.words, self.status = words, status

    def die(self, status: int) -> None:
        """Nothing of the process lives any more."""
        self.scene.say(f"{self.title} is dead ({status})")
        self.phase, self.status = Phase.DEAD, status
        self.cut()

    def cut(self) -> None:
        """Its connection is gone, and it sees that."""
        wire, self.wire = self.wire, None
        if wire is not None:
            self.scene.cut(wire)
        if self.machine.standing in (Standing.UP, Standing.GREETING):
            self.machine.disconnected()
            self.playing.lost(self.scene.now)

    def flush(self) -> None:
        """Send what is to be sent."""
        if self.wire is not None and self.lives:
            self.wire.up.extend(self.machine.frames_to_send())

    def _may_connect(self) -> bool:
        return self.wire is None and self.scene.bound and self.machine.standing is not Standing.REFUSED

    def _connect(self) -> None:
        if self._may_connect():
            self.wire = self.scene.connect((self.name, self.epoch))
            self.machine.connected()
