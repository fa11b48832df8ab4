"""Validates captured lines of an ACP conversation against the official schema."""

import json
from pathlib import Path
from typing import Any

import jsonschema

SCHEMA = json.loads(Path(__file__).with_name("schema").joinpath("acp-v1.json").read_text())
DEFINITIONS = SCHEMA["$defs"]


def _named(suffix: str) -> dict[str, str]:
    return {
        body["x-method"]: name for name, body in DEFINITIONS.items() if "x-method" in body and name.endswith(suffix)
    }


REQUESTS, RESPONSES, NOTIFICATIONS = _named("Request"), _named("Response"), _named("Notification")


def mistakes(lines: list[bytes]) -> list[str]:
    """Return what is wrong with the agent's lines (marked `<`), in words. The editor's lines tell methods of ids."""
    found: list[str] = []
    methods: dict[tuple[str, Any], str] = {}
    for line in lines:
        mark, message = line[:1], json.loads(line[1:])
        ours = mark == b"<"
        if "method" in message:
            if "id" in message:
                methods[mark.decode(), message["id"]] = message["method"]
            table = REQUESTS if "id" in message else NOTIFICATIONS
            name = table.get(message["method"])
            if ours:
                found += _check(name, message.get("params"), f"{message['method']} (sent)")
        elif ours and "error" in message:
            found += _check("Error", message["error"], "error")
        elif ours:
            method = methods.get((">", message["id"]), "?")
            found += _check(RESPONSES.get(method), message.get("result"), f"{method} (answered)")
    return found


def _check(name: str | None, value: Any, what: str) -> list[str]:
    if name is None:
        return [f"{what}: the schema does not know it"]
    validator = jsonschema.Draft202012Validator({"$ref": f"#/$defs/{name}", "$defs": DEFINITIONS})
    return [f"{what}: {error.json_path}: {error.message[:200]}" for error in validator.iter_errors(value)]
