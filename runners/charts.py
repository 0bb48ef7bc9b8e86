"""Candlestick charts with volume: PNG through matplotlib, HTML as one file with inline SVG and no scripts.

Bars are rows as runners.bar_series gives them, of one instrument and one interval, in order of time. A window without
trades leaves a gap: no bar is made up for it.
"""

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from runners.bar_series import plain

_UP: Final = "#26a69a"
_DOWN: Final = "#ef5350"
_WIDTH, _HEIGHT, _VOLUME_HEIGHT, _LEFT, _TOP, _GAP, _BOTTOM = 1_200, 420, 110, 90, 16, 18, 34

Bar = dict[str, Any]


def title_of(bars: Sequence[Bar]) -> str:
    """Instrument, interval and stretch of a series."""
    first, last = bars[0], bars[-1]
    stretch = f"{first['window_start']:%Y-%m-%d %H:%M:%S} to {last['window_end']:%Y-%m-%d %H:%M:%S} UTC"
    return f"{first['exchange']} {first['symbol']}, bars of {first['interval_s']} s, {stretch}"


def write_chart(file: Path, bars: Sequence[Bar]) -> None:
    """Write a chart in the format of the file's suffix; ValueError for another one, for no bars or for a mixture."""
    bars = [bar for bar in bars if bar["open"] is not None]  # prints of size zero alone have no price
    if not bars:
        raise ValueError(f"{file}: no bars to draw")
    kinds = {(bar["exchange"], bar["symbol"], bar["interval_s"]) for bar in bars}
    if len(kinds) > 1:
        raise ValueError(f"{file}: a chart shows one instrument, but these are {len(kinds)}: {sorted(kinds)[:5]}")
    suffix = file.suffix.lower()
    if suffix == ".png":
        _write_png(file, bars)
    elif suffix in (".html", ".htm"):
        file.write_text(html_page(bars), encoding="utf-8")
    else:
        raise ValueError(f"{file}: charts are .png or .html, not {suffix or 'without a suffix'}")


def html_page(bars: Sequence[Bar]) -> str:
    """A page that needs nothing else; hovering over a candle shows its values."""
    title = html.escape(title_of(bars))
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<style>body{{font:14px system-ui,sans-serif;margin:24px;color:#222;background:#fff}}svg{{max-width:100%;height:auto}}
text{{font-size:12px;fill:#555}}.grid{{stroke:#e6e6e6}}g.bar:hover{{opacity:.6}}</style></head>
<body><h1 style="font-size:18px">{title}</h1>
{svg(bars)}
</body></html>
"""


@dataclass(frozen=True)
class _Frame:
    """From values to places on the picture."""

    start: float  # seconds since the Unix epoch
    step: float
    slots: int
    low: float
    high: float
    volume: float

    @property
    def slot_width(self) -> float:
        return (_WIDTH - _LEFT - 10) / self.slots

    def x(self, time: datetime) -> float:
        return _LEFT + (time.timestamp() - self.start) / self.step * self.slot_width

    def y(self, price: float) -> float:
        return _TOP + (self.high - price) / (self.high - self.low) * _HEIGHT

    def volume_y(self, volume: float) -> float:
        return _TOP + _HEIGHT + _GAP + (1 - volume / self.volume) * _VOLUME_HEIGHT


def _frame(bars: Sequence[Bar]) -> _Frame:
    start, step = bars[0]["window_start"].timestamp(), float(bars[0]["interval_s"])
    low, high = min(float(bar["low"]) for bar in bars), max(float(bar["high"]) for bar in bars)
    margin = (high - low) * 0.05 or high * 0.001 or 1.0
    slots = round((bars[-1]["window_end"].timestamp() - start) / step)
    return _Frame(start, step, slots, low - margin, high + margin, max(float(bar["volume"]) for bar in bars) or 1.0)


def svg(bars: Sequence[Bar]) -> str:
    """The chart as an SVG element."""
    frame = _frame(bars)
    height = _TOP + _HEIGHT + _GAP + _VOLUME_HEIGHT + _BOTTOM
    parts = [*_axes(bars, frame), *(_candle(bar, frame) for bar in bars)]
    head = f'<svg viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" role="img">'
    return "\n".join([head, *parts, "</svg>"])


def _candle(bar: Bar, frame: _Frame) -> str:
    opened, high, low, closed = (float(bar[name]) for name in ("open", "high", "low", "close"))
    colour = _UP if closed >= opened else _DOWN
    left, width = frame.x(bar["window_start"]) + 0.15 * frame.slot_width, max(0.7 * frame.slot_width, 0.5)
    top, tall = frame.y(max(opened, closed)), max(abs(frame.y(opened) - frame.y(closed)), 1.0)
    middle, volume_y = left + width / 2, frame.volume_y(float(bar["volume"]))
    bottom = _TOP + _HEIGHT + _GAP + _VOLUME_HEIGHT
    values = ", ".join(f"{name} {plain(bar[name])}" for name in ("open", "high", "low", "close", "volume"))
    tip = html.escape(f"{bar['window_start']:%H:%M:%S}: {values}, trades {bar['trade_count']}")
    return (
        f'<g class="bar" fill="{colour}" stroke="{colour}"><title>{tip}</title>'
        f'<line x1="{middle:.2f}" x2="{middle:.2f}" y1="{frame.y(high):.2f}" y2="{frame.y(low):.2f}"/>'
        f'<rect x="{left:.2f}" y="{top:.2f}" width="{width:.2f}" height="{tall:.2f}" stroke="none"/>'
        f'<rect x="{left:.2f}" y="{volume_y:.2f}" width="{width:.2f}" height="{bottom - volume_y:.2f}" '
        f'stroke="none" opacity="0.5"/></g>'
    )


def _axes(bars: Sequence[Bar], frame: _Frame) -> list[str]:
    parts = []
    for price in _round_steps(frame.low, frame.high):
        y = frame.y(price)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - 10}" y1="{y:.2f}" y2="{y:.2f}"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 4:.2f}" text-anchor="end">{price:.10g}</text>')
    foot = _TOP + _HEIGHT + _GAP + _VOLUME_HEIGHT
    parts.append(f'<text x="{_LEFT - 8}" y="{foot - _VOLUME_HEIGHT + 10}" text-anchor="end">{frame.volume:.6g}</text>')
    parts.append(f'<text x="{_LEFT - 8}" y="{foot}" text-anchor="end">volume</text>')
    form = "%H:%M:%S" if frame.step * frame.slots < 86_400 else "%m-%d %H:%M"
    for bar in bars[:: max(1, math.ceil(len(bars) / 10))]:
        parts.append(
            f'<text x="{frame.x(bar["window_start"]):.2f}" y="{foot + 20}">{bar["window_start"]:{form}}</text>'
        )
    return parts


def _round_steps(low: float, high: float) -> list[float]:
    """Some five round values between low and high."""
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    return [step * number for number in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _write_png(file: Path, bars: Sequence[Bar]) -> None:
    # not at the top: it takes half a second to load, and only charts need it
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 6), dpi=120, layout="constrained")
    prices, volumes = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    width = 0.7 * bars[0]["interval_s"] / 86_400  # matplotlib counts days
    times = [bar["window_start"] + (bar["window_end"] - bar["window_start"]) / 2 for bar in bars]
    opened, high, low, closed, volume = (
        [float(bar[name]) for bar in bars] for name in ("open", "high", "low", "close", "volume")
    )
    colours = [_UP if end >= begin else _DOWN for begin, end in zip(opened, closed, strict=True)]
    prices.vlines(times, low, high, colors=colours, linewidth=1)
    bodies = [end - begin for begin, end in zip(opened, closed, strict=True)]
    prices.bar(times, bodies, width, opened, color=colours, edgecolor=colours, linewidth=1)
    volumes.bar(times, volume, width, color=colours, alpha=0.5)
    prices.set_title(title_of(bars), fontsize=10)
    prices.ticklabel_format(axis="y", useOffset=False)
    volumes.set_ylabel("volume")
    locator = AutoDateLocator()
    volumes.xaxis.set_major_locator(locator)
    volumes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    for axes in (prices, volumes):
        axes.grid(color="#e6e6e6")
        axes.set_axisbelow(True)
    figure.savefig(file, format="png")
