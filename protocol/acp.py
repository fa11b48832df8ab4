"""ACP messages <-> entries of a session's log. Pure."""

from typing import Any

from understudy.protocol.errors import EMPTY_PROMPT, UNKNOWN_SESSION, RemoteError
from understudy.protocol.jsonrpc import INTERNAL_ERROR, INVALID_PARAMS, NOT_FOUND, JsonRpcError

STOP_REASONS = frozenset({"end_turn", "max_tokens", "max_turn_requests", "refusal", "cancelled"})
PERMISSION = "session/request_permission"
TERMINAL_METHODS = ("create", "output", "wait_for_exit", "kill", "release")
# These are about our sessions, not the agent's: its answer would name an id that nobody here knows.
NOT_FOR_THE_AGENT = frozenset({"session/delete", "session/fork", "session/archive", "session/unarchive"})


def serves(capabilities: Any) -> tuple[str, ...]:
    """Return the agent's requests that an editor with these client capabilities answers itself."""
    if not isinstance(capabilities, dict):
        return ()
    files = capabilities.get("fs")
    methods: list[str] = []
    if isinstance(files, dict):
        if files.get("readTextFile"):
            methods.append("fs/read_text_file")
        if files.get("writeTextFile"):
            methods.append("fs/write_text_file")
    if capabilities.get("terminal"):
        methods.extend(f"terminal/{name}" for name in TERMINAL_METHODS)
    if capabilities.get("elicitation") is not None:
        methods.append("elicitation/create")
    return tuple(methods)


def takes_notices(capabilities: Any) -> bool:
    """Return whether an editor with these client capabilities shows notices, which are no part of a conversation."""
    session = capabilities.get("session") if isinstance(capabilities, dict) else None
    return isinstance(session, dict) and session.get("notices") is not None


def for_the_agent(method: str, params: dict[str, Any]) -> bool:
    """Return whether a request of the editor's that we do not know goes to the session's agent."""
    return method.startswith(("session/", "_")) and method not in NOT_FOR_THE_AGENT and "sessionId" in params


def updates(kind: str, body: Any, foreign: bool, notices: bool = False) -> list[dict[str, Any]]:
    """Return the session updates that show an entry to the editor.

    `foreign`: the turn is not one that the editor is waiting for (history, or another client's), so that
    its prompt and an abnormal ending are shown as well: no answer to a request will tell.
    `notices`: what happens in the house goes out as notices, for live entries only; history has none.
    """
    match kind:
        case "update":
            return [body]
        case "prompt" if foreign:
            return [{"sessionUpdate": "user_message_chunk", "content": block} for block in body["content"]]
        case "lost" | "note" | "requeued":
            return [told(str(body.get("text", "")), notices)]
        case "ended" if foreign and body.get("reason") not in STOP_REASONS:
            return [told(f"the turn ended ({body.get('reason')}): {body.get('text', '')}", notices)]
        case _:
            return []


def told(text: str, notice: bool = False) -> dict[str, Any]:
    """Return the update that tells a person what happened in the house: a notice, or text between the agent's own."""
    if notice:
        return {"sessionUpdate": "notice", "severity": "warning", "title": f"[understudy] {text}"}
    content = {"type": "text", "text": f"\n[understudy] {text}\n"}
    return {"sessionUpdate": "agent_message_chunk", "content": content}


def prompt_result(body: dict[str, Any]) -> dict[str, Any]:
    """Return the answer to `session/prompt` for a turn's ending; raise `JsonRpcError` when it did not end in order.

    ACP's stop reasons have no word for a lost agent, so that is an error, never a plain `end_turn`.
    """
    reason = str(body.get("reason"))
    if reason in STOP_REASONS:
        return {"stopReason": reason}
    text = str(body.get("text") or f"the turn ended: {reason}")
    detail = body.get("detail")
    if isinstance(detail, dict) and isinstance(detail.get("code"), int):
        extra = detail.get("data")
        data: dict[str, Any] = {"reason": reason, "text": text}
        if isinstance(extra, dict):
            data = {**extra, "reason": reason}
        elif extra is not None:
            data["data"] = extra
        raise JsonRpcError(detail["code"], str(detail.get("message") or text), data)
    raise JsonRpcError(INTERNAL_ERROR, text, {"reason": reason, "text": text})


def rpc_error(error: RemoteError) -> JsonRpcError:
    """Return the error for the editor: the agent's own where it is one, else ours with its code in `data.reason`."""
    detail = error.detail if isinstance(error.detail, dict) else {}
    if isinstance(detail.get("code"), int):
        return JsonRpcError(detail["code"], str(detail.get("message") or error.text), detail.get("data"))
    if error.code == UNKNOWN_SESSION:
        return JsonRpcError(NOT_FOUND, f"Session not found: {error.text}")
    if error.code == EMPTY_PROMPT:
        return JsonRpcError(INVALID_PARAMS, f"session/prompt: {error.text}")
    return JsonRpcError(INTERNAL_ERROR, error.text, {"reason": error.code, "text": error.text})


def opened(body: Any) -> dict[str, Any]:
    """Return what the agent's opening of a session gave, without its own id."""
    return {name: value for name, value in body.items() if name != "sessionId"} if isinstance(body, dict) else {}
