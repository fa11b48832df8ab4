"""An agent for demos and tests: it follows directives in its prompt, in order, and has no model behind it.

`[[say TEXT]]` `[[stream N MS]]` `[[ask TITLE]]` `[[tool TITLE]]` `[[sleep MS]]` `[[crash SIGKILL]]`
`[[hang]]` `[[spin]]` `[[memory MB]]` `[[child MB]]` `[[files N]]` `[[stderr KB]]` `[[stray]]` `[[history]]`
`[[persona]]`.
Without any, it repeats the prompt.
"""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys

from understudy.actors.actor import Actor, ActorError, Role, Turn, Voice

DIRECTIVE = re.compile(r"\[\[(\w+)(?:\s+([^\]]*))?\]\]")
LAST_WORDS_S = 0.02  # What was said before a crash or a hang has left by then.


class Scripted(Actor):
    """Plays directives. It is its own program: the limits of its role bind this very process."""

    begins_itself = True  # So that nothing lies between the mark and the agent's first act.

    def __init__(self, role: Role, voice: Voice) -> None:
        super().__init__(role, voice)
        self._held: list[object] = []
        self._ledger = -1
        self._prompts: dict[str, int] = {}

    async def start(self) -> None:
        """Open the ledger."""
        path = self.role.options.get("ledger")
        if path:
            self._ledger = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    async def play(self, turn: Turn) -> str:
        """Follow the prompt's directives in order."""
        await turn.begin()
        turn.show()
        self._write_ledger(turn)
        self._prompts[turn.session] = self._prompts.get(turn.session, 0) + 1
        directives = DIRECTIVE.findall(turn.text)
        if not directives:
            await turn.say(turn.text)
        for name, argument in directives:
            await self._follow(turn, name, argument.strip())
        return "end_turn"

    async def _follow(self, turn: Turn, name: str, argument: str) -> None:
        match name:
            case "say":
                await turn.say(argument)
            case "stream":
                count, pause_ms = (_number(name, part) for part in [*argument.split(), "1", "0"][:2])
                for at in range(1, count + 1):
                    await turn.say(f"{at} ")
                    await asyncio.sleep(pause_ms / 1000)
            case "ask":
                await self._ask(turn, argument)
            case "tool":
                await _tool(turn, argument)
            case "sleep":
                await asyncio.sleep(_number(name, argument) / 1000)
            case "persona":
                await turn.say(turn.plan.persona or "nobody in particular")
            case "history":
                await turn.say(f"{self._prompts[turn.session]} prompt(s) of this session seen by this actor")
            case _:
                await asyncio.sleep(LAST_WORDS_S)
                self._misbehave(name, argument)

    def _misbehave(self, name: str, argument: str) -> None:
        match name:
            case "crash":
                _crash(argument or "SIGKILL")
            case "hang":
                while True:
                    signal.pause()
            case "spin":
                while True:
                    pass
            case "memory":
                self._held.append(b"\1" * (_number(name, argument) << 20))
            case "child":
                script = f"held = b'x' * ({_number(name, argument)} << 20); import signal; signal.pause()"
                self._held.append(subprocess.Popen([sys.executable, "-S", "-c", script], stdin=subprocess.DEVNULL))
            case "files":
                self._held.extend(open(os.devnull, "rb") for _ in range(_number(name, argument)))  # noqa: SIM115
            case "stderr":
                sys.stderr.write(("stderr " * 146 + "\n") * _number(name, argument))
                sys.stderr.flush()
            case "stray":
                _leave_stray()
            case _:
                raise ActorError(f"the scripted agent knows no directive [[{name}]]", code="unknown_directive")

    async def _ask(self, turn: Turn, title: str) -> None:
        options = [
            {"optionId": "allow", "name": "Allow", "kind": "allow_once"},
            {"optionId": "reject", "name": "Reject", "kind": "reject_once"},
        ]
        call = {"toolCallId": f"ask-{turn.number}", "title": title or "May I?"}
        answer = await turn.ask("session/request_permission", {"toolCall": call, "options": options})
        outcome = answer.get("outcome", {}) if isinstance(answer, dict) else {}
        await turn.say(f"answered: {outcome.get('optionId', outcome.get('outcome', 'nothing'))} ")

    def _write_ledger(self, turn: Turn) -> None:
        """Append the prompt to the ledger file, if there is one: what this agent really got."""
        if self._ledger >= 0:
            line = {"session": turn.session, "turn": turn.number, "epoch": self.role.epoch, "text": turn.text}
            os.write(self._ledger, json.dumps(line).encode() + b"\n")


async def _tool(turn: Turn, title: str) -> None:
    call = {"toolCallId": f"tool-{turn.number}", "title": title or "a tool", "kind": "other"}
    await turn.update({"sessionUpdate": "tool_call", "status": "pending", **call})
    await turn.update({"sessionUpdate": "tool_call_update", "toolCallId": call["toolCallId"], "status": "completed"})


def _crash(how: str) -> None:
    if how.lstrip("-").isdigit():
        os._exit(int(how))
    number = getattr(signal, how, None)
    if not isinstance(number, signal.Signals):
        raise ActorError(f"[[crash {how}]]: no signal of that name and no exit code", code="unknown_directive")
    if number is not signal.SIGKILL and number is not signal.SIGSTOP:
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _leave_stray() -> None:
    """Leave a child that called setsid twice, as agents' tools do."""
    script = "import os,sys\nfor _ in range(2):\n os.fork() and os._exit(0)\n os.setsid()\nos.execvp('sleep', ['sleep', '86400'])"
    quiet = subprocess.DEVNULL
    subprocess.run([sys.executable, "-S", "-c", script], stdin=quiet, stdout=quiet, stderr=quiet, check=True)


def _number(name: str, argument: str) -> int:
    if not argument.isdigit():
        raise ActorError(f"[[{name} {argument}]]: {argument!r} is no whole number", code="unknown_directive")
    return int(argument)
