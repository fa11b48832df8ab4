"""`make agents`: real agents behind `understudy acp`, driven by an independent ACP client (the Python SDK).

No model key and no connection but loopback once the agents are installed (npm, into `.agents`).
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
AGENTS = ROOT / ".agents"
PACKAGES = {"@zed-industries/codex-acp": "0.16.0", "opencode-ai": "1.18.33"}
SDK = "agent-client-protocol==0.12.1"
STEP_S_MAX = 60.0


def install() -> None:
    """Install the agents and the SDK; quick when they are there."""
    missing = [
        f"{name}@{version}"
        for name, version in PACKAGES.items()
        if not (AGENTS / "node_modules" / name / "package.json").exists()
    ]
    if missing:
        print(f"installing {', '.join(missing)} into {AGENTS.name}/ (some 500 MB, once) ...", flush=True)
        command = ["npm", "install", "--no-audit", "--no-fund", "--silent", "--prefix", str(AGENTS), *missing]
        subprocess.run(command, check=True)
    try:
        import acp

        del acp
    except ImportError:
        print("installing the ACP SDK for Python into the venv ...", flush=True)
        subprocess.run([sys.executable, "-m", "pip", "install", "-q", SDK], check=True)


def configure(folder: Path, port: int) -> None:
    """Write the agents' own configurations and ours."""
    bin_folder = AGENTS / "node_modules" / ".bin"
    codex_home = folder / "codex"
    codex_home.mkdir()
    (codex_home / "config.toml").write_text(
        f'model = "imitation"\nmodel_provider = "imitation"\napproval_policy = "untrusted"\nsandbox_mode = "danger-full-access"\n'
        f'[model_providers.imitation]\nname = "imitation"\nbase_url = "http://127.0.0.1:{port}/v1"\n'
        f'env_key = "IMITATION_KEY"\nwire_api = "responses"\n'
    )
    project = folder / "project"
    project.mkdir()
    options = {"baseURL": f"http://127.0.0.1:{port}/v1", "apiKey": "x"}
    provider = {"npm": "@ai-sdk/openai-compatible", "options": options, "models": {"imitation": {}}}
    (project / "opencode.json").write_text(
        json.dumps(
            {
                "provider": {"imitation": provider},
                "model": "imitation/imitation",
                "small_model": "imitation/imitation",
                "permission": {"bash": "ask", "edit": "ask"},
                "autoupdate": False,
            }
        )
    )
    home = {name: str(folder / "home" / name) for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME")}
    pairs = ", ".join(f'{name} = "{path}"' for name, path in {**home, "HOME": str(folder / "home")}.items())
    (folder / "understudy.toml").write_text(
        f'[agent.codex]\ndriver = "acp"\ncommand = ["{bin_folder}/codex-acp-linux-x64"]\n'
        f'env = {{ CODEX_HOME = "{codex_home}", IMITATION_KEY = "x" }}\n\n'
        f'[agent.opencode]\ndriver = "acp"\ncommand = ["{bin_folder}/opencode", "acp"]\n'
        f"env = {{ {pairs} }}\n"
    )


class Editor:
    """One editor: `understudy acp` behind a tee, and what it received. Satisfies the SDK's `Client`."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.kinds: list[str] = []
        self.questions: list[str] = []
        self.heard = asyncio.Event()

    async def session_update(self, session_id: str, update: Any, **_: Any) -> None:
        """Keep what the agent says."""
        del session_id
        self.kinds.append(update.session_update)
        if update.session_update in ("agent_message_chunk", "user_message_chunk"):
            self.texts.append(update.content.text)
        self.heard.set()

    async def request_permission(self, session_id: str, tool_call: Any, options: list[Any], **_: Any) -> Any:
        """Allow once."""
        from acp.schema import AllowedOutcome, RequestPermissionResponse

        del session_id
        self.questions.append(str(tool_call.title))
        chosen = next(option for option in options if option.kind == "allow_once")
        return RequestPermissionResponse(outcome=AllowedOutcome(outcome="selected", option_id=chosen.option_id))

    async def write_text_file(self, session_id: str, path: str, content: str, **_: Any) -> None:
        """Write as an editor would."""
        del session_id
        Path(path).write_text(content)

    async def read_text_file(self, session_id: str, path: str, **_: Any) -> Any:
        """Read as an editor would."""
        from acp import ReadTextFileResponse

        del session_id
        return ReadTextFileResponse(content=Path(path).read_text())

    def on_connect(self, conn: Any) -> None:
        """Nothing to do."""

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until `holds`, looking again at each update."""
        async with asyncio.timeout(STEP_S_MAX):
            while not holds():
                self.heard.clear()
                await self.heard.wait()


class Trial:
    """One agent's trial in its house."""

    def __init__(self, agent: str, tool: str, folder: Path) -> None:
        self.agent, self.tool, self.folder = agent, tool, folder
        self.lines = folder / f"{agent}.lines"
        self.held: list[tuple[str, str]] = []
        self.place = ["--runtime-dir", str(folder / "run"), "--state-dir", str(folder / "state")]

    def understudy(self, *arguments: str) -> str:
        """Run the command line."""
        program = [sys.executable, "-m", "understudy", *arguments, *self.place]
        return subprocess.run(program, capture_output=True, text=True, check=False).stdout

    async def step(self, name: str, action: Awaitable[str]) -> None:
        """Carry out one step and remember what it said."""
        began = time.perf_counter()
        try:
            text = await asyncio.wait_for(action, STEP_S_MAX)
            self.held.append((name, text))
            print(f"  ok    {name:<34} {text}  ({1000 * (time.perf_counter() - began):.0f} ms)", flush=True)
        except Exception as error:
            print(f"  FAIL  {name:<34} {type(error).__name__}: {error}", flush=True)
            raise

    async def play(self) -> None:
        """All steps, in two lives of the house."""
        import acp

        editor = Editor()
        async with self.editor(editor) as connection:
            await self.step("initialize", self._initialize(connection))
            opened: Any = None

            async def new() -> str:
                nonlocal opened
                opened = await connection.new_session(cwd=str(self.folder / "project"), mcp_servers=[])
                return str(opened.session_id)

            await self.step("session/new", new())
            session = opened.session_id

            async def prompt(text: str) -> str:
                answer = await connection.prompt(session_id=session, prompt=[acp.text_block(text)])
                return str(answer.stop_reason)

            await self.step("prompt, tool call, permission", self._tool(editor, prompt))
            await self.step("cancel in mid-stream", self._cancel(editor, connection, session, prompt))
            await self.step("SIGKILL in mid-stream", self._kill(editor, prompt))
            await self.step("the next prompt is answered", self._next(editor, prompt))
        before = "".join(text for text in editor.texts)
        self.understudy("shutdown")
        editor = Editor()
        async with self.editor(editor) as connection:
            await self.step("initialize after a restart", self._initialize(connection))
            await self.step("session/load, history complete", self._load(editor, connection, session, before))
        self.understudy("shutdown")

    def editor(self, editor: Editor) -> Any:
        """Start `understudy acp` behind the tee and connect the SDK's client to it."""
        from acp import spawn_agent_process

        class Started:
            async def __aenter__(started) -> Any:  # noqa: N805
                started.context = spawn_agent_process(
                    editor,
                    sys.executable,
                    str(Path(__file__).with_name("tee.py")),
                    str(self.lines),
                    sys.executable,
                    "-m",
                    "understudy",
                    "acp",
                    "--agent",
                    self.agent,
                    "-c",
                    str(self.folder / "understudy.toml"),
                    *self.place,
                    env=dict(os.environ),
                    transport_kwargs={"limit": 32 << 20},
                )
                connection, _ = await started.context.__aenter__()
                return connection

            async def __aexit__(started, *exception: object) -> None:  # noqa: N805
                await started.context.__aexit__(*exception)

        return Started()

    async def _initialize(self, connection: Any) -> str:
        from acp.schema import ClientCapabilities, FileSystemCapabilities

        files = FileSystemCapabilities(read_text_file=True, write_text_file=True)
        answer = await connection.initialize(protocol_version=1, client_capabilities=ClientCapabilities(fs=files))
        return f"protocol {answer.protocol_version}"

    async def _tool(self, editor: Editor, prompt: Callable[[str], Awaitable[str]]) -> str:
        marker = self.folder / f"{self.agent}.marker"
        command = json.dumps(
            {"cmd": f"touch {marker}"}
            if self.agent == "codex"
            else {"command": f"touch {marker}", "description": "touch a file"}
        )
        reason = await prompt(f"[[call {self.tool} {command}]]")
        assert reason == "end_turn", reason
        assert editor.questions, "no permission was asked for"
        assert "tool_call" in editor.kinds, editor.kinds
        assert marker.exists(), "the tool did not run"
        return f"{reason}; asked {len(editor.questions)}, the tool ran"

    async def _cancel(self, editor: Editor, connection: Any, session: str, prompt: Any) -> str:
        editor.texts.clear()
        turn = asyncio.ensure_future(prompt("[[slow 200]]"))
        await editor.until(lambda: "c3" in "".join(editor.texts))
        await connection.cancel(session_id=session)
        reason = await turn
        assert reason == "cancelled", reason
        return str(reason)

    async def _kill(self, editor: Editor, prompt: Any) -> str:
        from acp import RequestError

        editor.texts.clear()
        turn = asyncio.ensure_future(prompt("[[slow 200]]"))
        await editor.until(lambda: "c3" in "".join(editor.texts))
        rows = json.loads(self.understudy("status", "--json"))
        actor = next(int(row["pid"]) for row in rows if row["name"] == self.agent)
        os.kill(program_of(actor), signal.SIGKILL)
        try:
            answer = await turn
        except RequestError as refusal:
            error: Any = refusal
        else:
            raise AssertionError(f"the turn ended as {answer}")
        assert error.data["reason"] == "interrupted", error.data
        return f"error {error.code}, data.reason {error.data['reason']}"

    async def _next(self, editor: Editor, prompt: Any) -> str:
        editor.texts.clear()
        reason = await prompt("still there?")
        text = "".join(editor.texts)
        assert reason == "end_turn", reason
        assert "still there?" in text, text
        return f"{reason}: {text.strip()!r}"[:60]

    async def _load(self, editor: Editor, connection: Any, session: str, before: str) -> str:
        await connection.load_session(cwd=str(self.folder / "project"), session_id=session, mcp_servers=[])
        await editor.until(lambda: before in "".join(editor.texts))
        text = "".join(editor.texts)
        for said in ("[[slow 200]]", "still there?", f"[[call {self.tool}"):
            assert said in text, f"{said} is missing in the history"
        assert "has forgotten" not in text, "the agent has forgotten"
        return f"{len(editor.kinds)} updates replayed"


def program_of(actor: int) -> int:
    """Return the pid of the program that an actor runs: its child."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_bytes().rpartition(b")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == actor:
                return int(entry.name)
    raise AssertionError(f"actor {actor} has no program")


async def main() -> int:
    """Try each agent; return 0 when everything held."""
    from tests.agents.imitation import start
    from tests.agents.schema import mistakes

    failures = 0
    only = sys.argv[1:]
    for agent, tool in (("codex", "exec_command"), ("opencode", "bash")):
        if only and agent not in only:
            continue
        server = start()
        with tempfile.TemporaryDirectory(prefix="understudy-agents-") as folder:
            configure(Path(folder), server.server_address[1])
            trial = Trial(agent, tool, Path(folder))
            print(f"{agent}:", flush=True)
            try:
                await trial.play()
            except Exception as error:  # noqa: BLE001 (the next agent is tried all the same)
                failures += 1
                print(f"  {type(error).__name__}: {error}")
                house = Path(folder, "state", "house.log")
                print(house.read_text()[-2000:] if house.exists() else "no house was started")
            finally:
                trial.understudy("shutdown", "--hurry")
            lines = trial.lines.read_bytes().splitlines()
            wrong = mistakes(lines)
            failures += len(wrong)
            print(
                f"  {'ok  ' if not wrong else 'FAIL'}  {len(lines)} lines captured; against the schema: {len(wrong)} wrong"
            )
            for each in dict.fromkeys(wrong):
                print(f"        {each}")
        server.shutdown()
    return 1 if failures else 0


if __name__ == "__main__":
    install()
    sys.exit(asyncio.run(main()))
