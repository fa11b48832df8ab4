"""An editor that speaks ACP, as the viewer of one session: what it is shown, asked and told goes out as JSON-RPC."""

from collections.abc import Awaitable, Callable
from typing import Any

from understudy.protocol import acp
from understudy.protocol.connection import Connection
from understudy.protocol.items import Item
from understudy.protocol.jsonrpc import JsonRpcError


class Editor:
    """Speaks of `session` on `connection`; `drained` waits for an editor that reads slowly.

    `notices`: it shows what happens in the house apart from what the agent says.
    """

    def __init__(
        self, session: str, connection: Connection, drained: Callable[[], Awaitable[None]], notices: bool = False
    ) -> None:
        self._session, self._connection, self._drained, self._notices = session, connection, drained, notices

    @property
    def gone(self) -> bool:
        """Whether it closed its end."""
        return bool(self._connection.closed_reason)

    async def show(self, item: Item, foreign: bool, live: bool) -> None:
        """Show an item. History has no notices."""
        await self._drained()
        for update in acp.updates(item.kind, item.body, foreign, self._notices and live):
            self._tell(update)

    def warn(self, text: str) -> None:
        """Tell the person what happens in the house."""
        self._tell(acp.told(text, self._notices))

    def answers(self, item: Item) -> bool:
        """Return whether a question is one for the person at the editor."""
        return bool(item.body.get("method") == acp.PERMISSION)

    async def ask(self, item: Item) -> tuple[Any, str] | None:
        """Ask the person; return the answer, or in place of it what is wrong; None when the editor is gone."""
        params = item.body["params"]
        shown = {**params, "sessionId": self._session} if isinstance(params, dict) else params
        try:
            return await self.serve(acp.PERMISSION, shown), ""
        except JsonRpcError as error:
            return None if self.gone else (None, error.message or f"the editor answered with error {error.code}")

    async def serve(self, method: str, params: Any) -> Any:
        """Ask the editor what only it can do. Raises `JsonRpcError`."""
        await self._drained()
        return await self._connection.request(method, params)

    def _tell(self, update: dict[str, Any]) -> None:
        self._connection.notify("session/update", {"sessionId": self._session, "update": update})
