"""The wire between kernel and browser.

Owns the one anywidget: how an update is packed, and which messages from the browser are
accepted. The browser never sets a trait; it sends messages. Deliberately doesn't know
what the commands do.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import uuid
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anywidget
import traitlets
from IPython import get_ipython

from tetris_widget.config import check_speed, check_view
from tetris_widget.history import Tail

Message = dict[str, Any]

STATIC = Path(__file__).parent / "static"
MAX_INCOMING_BYTES = 64_000
# Of one part of an upload: servers refuse messages beyond 10 MB.
MAX_PART_BYTES = 4_000_000
COMMANDS = ("start", "pause", "resume", "stop", "set_view", "set_speed", "library")
# What can be asked of the library, and with which texts.
LIBRARY_JOBS: dict[str, tuple[str, ...]] = {
    "save": ("name", "which", "notes"),
    "rename": ("name", "new_name"),
    "notes": ("name", "notes"),
    "delete": ("name",),
    "restore": ("name",),
    "export": ("name",),
    "import": ("name", "file"),
    "train": ("name",),
    "demo": (),
    "end_demo": (),
}
MAX_DEMO = 2
logger = logging.getLogger(__name__)


class BadMessageError(ValueError):
    """A message from the browser that cannot be carried out."""


def _front_end(name: str) -> Any:
    # A Path is watched for changes, and keeps every widget alive
    # (https://github.com/manzt/anywidget/issues/929): for development only.
    path = STATIC / name
    return path if os.environ.get("ANYWIDGET_HMR") == "1" else path.read_text("utf-8")


class TrainingWidget(anywidget.AnyWidget):
    """Sends updates to every view, and hands their commands to `on_command`.

    Args:
        on_command: called with a validated command; raises ValueError to refuse it. May
            be called on any thread.
        on_sync: called with the sequence number that a view has; the view wants
            everything after it.
        on_refused: called with a sentence about a message that was refused.

    Attributes:
        is_over: whether nothing more is sent, for the kernel is on its way out: then
            messages of several threads get mixed up on their way (ipykernel's
            `IOPubThread.schedule`).
    """

    _esm = _front_end("widget.js")
    _css = _front_end("widget.css")
    panel_id = traitlets.Unicode().tag(sync=True)
    config = traitlets.Dict().tag(sync=True)
    snapshot = traitlets.Dict().tag(sync=True)

    def __init__(
        self,
        on_command: Callable[[Message], None],
        on_sync: Callable[[int], None],
        on_refused: Callable[[str], None],
        **traits: Any,
    ) -> None:
        self._on_command = on_command
        self._on_sync = on_sync
        self._on_refused = on_refused
        self._sending = threading.Lock()
        self.is_over = False
        self._shell: Any = get_ipython()
        super().__init__(panel_id=uuid.uuid4().hex, **traits)
        self.on_msg(self._handle)
        # ipykernel 7.4 routes a view's messages to the subshell that sent last, so that
        # they wait for a busy cell; the front end's own choice is right.
        if hasattr(self.comm, "_reply_subshell_for"):
            self.comm._reply_subshell_for = None
        if self._shell is not None:
            self._shell.observe(self._on_exit, "exit_now")

    def close(self) -> None:
        """Close every view."""
        if self._shell is not None:
            self._shell.unobserve(self._on_exit, "exit_now")
            self._shell = None
        super().close()

    def _on_exit(self, change: Any) -> None:
        """Be silent once the kernel was asked to end, before it does anything."""
        with self._sending:
            self.is_over = bool(change["new"])

    def send_update(self, update: Message, buffers: list[bytes]) -> None:
        """Send an update to every view; a dead connection is logged, not raised."""
        with self._sending:
            if self.is_over:
                return
            try:
                self.send(update, buffers)
            except Exception:
                # ipykernel 7.0 cannot send from threads (ipykernel#1450). That may not
                # end the pump.
                logger.exception("could not send an update to the browser")

    def keep(self, snapshot: Message) -> None:
        """Let a saved notebook, and each new view, have this."""
        with self._sending:
            if self.is_over:
                return
            try:
                self.snapshot = snapshot
            except Exception:  # as above
                logger.exception("could not keep a snapshot for a saved notebook")

    def _handle(self, _: Any, content: Any, buffers: list[Any]) -> None:
        identifier = content.get("id") if isinstance(content, dict) else None
        try:
            message = parse(content, buffers)
            if message["type"] == "sync":
                self._on_sync(message["since"])
                return
            self._on_command(message)
        except (ValueError, OSError) as error:
            self._on_refused(str(error))
            self._acknowledge(identifier, str(error))
        except Exception as error:
            # A mistake of ours: seen in the panel, and whole in the kernel's log.
            self._on_refused(f"{type(error).__name__}: {error}")
            self._acknowledge(identifier, str(error))
            raise
        else:
            self._acknowledge(identifier, None)

    def _acknowledge(self, identifier: Any, error: str | None) -> None:
        if isinstance(identifier, int):
            ack = {"type": "ack", "id": identifier, "ok": error is None}
            self.send_update({**ack, "error": error}, [])


def parse(content: Any, buffers: list[Any]) -> Message:
    """Return a message from the browser, checked.

    Raises:
        BadMessageError: it is too large, malformed, unknown or not finite.
    """
    if not isinstance(content, dict):
        raise BadMessageError("a message that is not understood was refused")
    size = len(json.dumps(content, default=str))
    if size > MAX_INCOMING_BYTES:
        raise BadMessageError(
            f"a message of {size:,} characters was refused; "
            f"allowed: {MAX_INCOMING_BYTES:,}"
        )
    kind = content.get("type")
    if kind == "command" and content.get("command") == "library":
        return {**content, "job": _parse_job(content.get("job"), buffers)}
    if buffers:
        raise BadMessageError("a message with a file that nobody asked for was refused")
    if kind == "sync":
        since = content.get("since")
        if not isinstance(since, int) or isinstance(since, bool) or since < 0:
            raise BadMessageError(f"since: {since!r:.60}; allowed: a whole number")
        return {"type": "sync", "since": since}
    if kind != "command":
        raise BadMessageError(f"message {kind!r:.60}; allowed: command, sync")
    return _parse_command(content)


def _parse_command(content: Message) -> Message:
    command = content.get("command")
    if command not in COMMANDS:
        allowed = ", ".join(COMMANDS)
        raise BadMessageError(f"command {command!r:.60}; allowed: {allowed}")
    try:
        if command == "set_view":
            check_view(content.get("view"))
        if command == "set_speed":
            check_speed(content.get("speed"))
    except ValueError as error:
        raise BadMessageError(f"{error!s:.200}") from None
    return content


def _parse_job(job: Any, buffers: list[Any]) -> Message:
    do = job.get("do") if isinstance(job, dict) else None
    if not isinstance(do, str) or do not in LIBRARY_JOBS:
        allowed = ", ".join(LIBRARY_JOBS)
        raise BadMessageError(f"library: {do!r:.60}; allowed: {allowed}")
    parsed: Message = {"do": do}
    for field in LIBRARY_JOBS[do]:
        if not isinstance(job.get(field), str):
            raise BadMessageError(f"{field}: {job.get(field)!r:.60}; allowed: text")
        parsed[field] = job[field]
    if do == "demo":
        names = job.get("names")
        if not isinstance(names, list) or not 1 <= len(names) <= MAX_DEMO:
            raise BadMessageError(f"names: {names!r:.60}; allowed: one or two")
        if not all(isinstance(name, str) for name in names):
            raise BadMessageError(f"names: {names!r:.60}; allowed: texts")
        parsed["names"] = names
    if do == "import":
        parsed |= _parse_part(job, buffers)
    elif buffers:
        raise BadMessageError("a message with a file that nobody asked for was refused")
    return parsed


def _parse_part(job: Message, buffers: list[Any]) -> Message:
    """Return the part of a file that has arrived: `part`, `parts`, `data`."""
    part, parts = job.get("part"), job.get("parts")
    are_whole = all(type(number) is int for number in (part, parts))
    if not are_whole or not 0 <= part < parts:  # type: ignore[operator]
        raise BadMessageError(f"part: {part!r:.30} of {parts!r:.30} is refused")
    data = bytes(buffers[0]) if len(buffers) == 1 else b""
    if not 0 < len(data) <= MAX_PART_BYTES:
        raise BadMessageError(
            f"a file's part of {len(data):,} bytes; allowed: 1 to {MAX_PART_BYTES:,}"
        )
    return {"part": part, "parts": parts, "data": data}


def take_frames(
    waiting: deque[Message], last: Message | None, is_sync: bool
) -> tuple[list[Message], Message | None]:
    """Take the boards that are to be sent; return them, and the newest of all.

    Some hosts lose what is pushed: their boards live by the answers (`is_sync`), which
    have the newest one, and leave the others waiting.
    """
    if waiting:
        last = waiting[-1]
    if is_sync:
        return ([] if last is None else [last]), last
    frames = list(waiting)
    waiting.clear()
    return frames, last


def pack_frames(
    view: str, rows: int, columns: int, frames: list[Message], buffers: list[bytes]
) -> Message:
    """Append the boards of `frames` to `buffers`, and return what describes them."""
    moves = [{k: v for k, v in f.items() if k != "cells"} for f in frames]
    buffers.append(b"".join(frame["cells"] for frame in frames))
    return {
        "view": view,
        "rows": rows,
        "columns": columns,
        "count": len(frames),
        "buffer": len(buffers) - 1,
        "moves": moves,
    }


def pack_series(tails: list[Tail], buffers: list[bytes]) -> list[Message]:
    """Append the tails' columns to `buffers`, and return what describes them.

    Of a series that is gone the tail has length 0.
    """
    described = []
    for tail in tails:
        described.append(
            {
                "name": tail.name,
                "epoch": tail.epoch,
                "start": tail.start,
                "length": tail.columns.shape[1],
                "buffer": len(buffers),
            }
        )
        buffers.append(tail.columns.astype("<f8").tobytes())
    return described
