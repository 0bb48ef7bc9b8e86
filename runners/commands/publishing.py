"""Progress of a publishing command: a live bar on a terminal, one line every ten seconds otherwise."""

import time
from types import TracebackType
from typing import Final, Self

from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from runners.commands.connection import stderr
from runners.publish import Published

_LINE_EVERY_S: Final = 10.0


class PublishProgress:
    """Call it with each `Published`; `total` is None when there is no end."""

    def __init__(self, what: str, total: int | None) -> None:
        self._what, self._total = what, total
        self._line_at = time.monotonic() + _LINE_EVERY_S
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn(what),
            BarColumn(),
            TextColumn("{task.completed:,.0f} events"),
            TextColumn("{task.fields[rate]:,.0f}/s"),
            TimeElapsedColumn(),
            console=stderr,
            transient=True,
            disable=not stderr.is_terminal,
        )
        self._task = self._bar.add_task(what, total=total, rate=0.0)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def __call__(self, done: Published) -> None:
        self._bar.update(self._task, completed=done.records, rate=done.rate)
        if not stderr.is_terminal and time.monotonic() >= self._line_at:
            of = f" of {self._total:,}" if self._total is not None else ""
            stderr.print(f"{self._what}: {done.records:,}{of} events, {done.rate:,.0f}/s", highlight=False)
            self._line_at += _LINE_EVERY_S
