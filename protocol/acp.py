"""ACP messages <-> entries of a session's log. Pure."""

from typing import Any

from understudy.protocol.errors import RemoteError
from understudy.protocol.jsonrpc import INTERNAL_ERROR, JsonRpcError

STOP_REASONS = frozenset({"end_turn", "max_tokens", "max_turn_requests", "refusal", "cancelled"})
TERMINAL_METHODS = ("create", "output", "wait_for_exit", "kill", "release")


def serves(capabilities: dict[str, Any]) -> tuple[str, ...]:
    """Return the agent's requests that an editor with these client capabilities answers itself."""
    files = capabilities.get("fs") or {}
    methods: list[str] = []
    if files.get("readTextFile"):
        methods.append("fs/read_text_file")
    if files.get("writeTextFile"):
        methods.append("fs/write_text_file")
    if capabilities.get("terminal"):
        methods.extend(f"terminal/{name}" for name in TERMINAL_METHODS)
    if capabilities.get("elicitation"):
        methods.append("elicitation/create")
    return tuple(methods)


def updates(kind: str, body: Any, replay: bool) -> list[dict[str, Any]]:
    """Return the session updates that show an entry to the editor; prompts only when history is replayed."""
    match kind:
        case "update":
            return [body]
        case "prompt" if replay:
            return [{"sessionUpdate": "user_message_chunk", "content": block} for block in body["content"]]
        case "lost" | "requeued":
            text = f"\n[understudy] {body.get('text', '')}\n"
            return [{"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": text}}]
        case _:
            return []


def prompt_result(reason: str, body: dict[str, Any]) -> dict[str, Any]:
    """Return the answer to `session/prompt` for a turn's ending; raise `JsonRpcError` when it did not end in order.

    ACP's stop reasons have no word for a lost agent, so that is an error, never a plain `end_turn`.
    """
    if reason in STOP_REASONS:
        return {"stopReason": reason}
    text = str(body.get("text") or f"the turn ended: {reason}")
    detail = body.get("detail")
    if isinstance(detail, dict) and isinstance(detail.get("code"), int):
        extra = detail.get("data")
        data = {**extra, "reason": reason} if isinstance(extra, dict) else {"reason": reason, "text": text}
        raise JsonRpcError(detail["code"], str(detail.get("message") or text), data)
    raise JsonRpcError(INTERNAL_ERROR, text, {"reason": reason, "text": text})


def rpc_error(error: RemoteError) -> JsonRpcError:
    """Return the error for the editor: the agent's own where it is one, else ours with its code in `data.reason`."""
    detail = error.detail if isinstance(error.detail, dict) else {}
    if isinstance(detail.get("code"), int):
        return JsonRpcError(detail["code"], str(detail.get("message") or error.text), detail.get("data"))
    return JsonRpcError(INTERNAL_ERROR, error.text, {"reason": error.code, "text": error.text})
