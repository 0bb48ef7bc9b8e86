"""Events as fixed-width NumPy rows over a table of instruments, and what is done with such rows.

At live rates a batch holds 50 to 200 events, and the fixed cost of Arrow's kernels (10 to 50 us a call) would cost more
than the data.
"""

import struct
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.void]
Instrument = tuple[str, str]  # (exchange, symbol)

# One event. Times are microseconds since the Unix epoch.
EVENT_ROW = np.dtype(
    [
        ("instrument", "<u4"),  # index into the batch's instruments
        ("event_type", "<i4"),  # the enum's number, also an unknown one
        ("event_time_us", "<i8"),
        ("log_time_us", "<i8"),  # Kafka timestamp
        ("clock_us", "<i8"),  # newest log time of the partition up to this record; the cell may move it on
        ("lag_us", "<i8"),  # that, as the log has it, less the event time
        ("partition", "<i4"),
        ("offset", "<i8"),
        ("price", "<f8"),  # as sent, but that a zero has no sign
        ("volume", "<f8"),
        ("sequence", "<i8"),  # venue sequence, else numeric trade id, else -1: orders events of one time
        ("side", "<i4"),  # 0 unknown, 1 buy, 2 sell
        ("identity_hi", "<u8"),
        ("identity_lo", "<u8"),
        ("key", "<u8"),  # one word to search an identity by; see dedup.py
        ("content", "<u8"),  # hash of what must be equal in two copies of one identity
        ("verdict", "<u4"),  # of the dedup, set by the cell; see dedup.py
    ]
)


def rows_where(rows: Rows, mask: npt.NDArray[np.bool_]) -> Rows:
    """rows[mask]; without a copy when that is all of them, which it mostly is."""
    return rows if mask.all() else rows[mask]


def pack_rows(instruments: Sequence[Instrument], rows: Rows) -> bytes:
    """Rows with the names of their instruments, as bytes. Checked names hold neither tabs nor line ends."""
    names = "\n".join("\t".join(pair) for pair in instruments).encode()
    return b"".join((struct.pack("<I", len(names)), names, rows.tobytes()))


def unpack_rows(data: bytes | memoryview, dtype: np.dtype[np.void] = EVENT_ROW) -> tuple[list[Instrument], Rows]:
    """The inverse of pack_rows; rows are a view into `data`."""
    at = 4 + struct.unpack_from("<I", data)[0]
    instruments = []
    for pair in str(data[4:at], "utf-8").split("\n") if at > 4 else []:
        exchange, symbol = pair.split("\t")
        instruments.append((exchange, symbol))
    return instruments, np.frombuffer(data, dtype, offset=at) if len(data) > at else np.empty(0, dtype)


def narrowed(instruments: Sequence[Instrument], rows: Rows) -> tuple[list[Instrument], Rows]:
    """A copy of the rows over a table of only the instruments they use."""
    rows = rows.copy()
    used = np.bincount(rows["instrument"], minlength=len(instruments)) > 0
    rows["instrument"] = (np.cumsum(used) - 1)[rows["instrument"]]
    return [instruments[code] for code in np.flatnonzero(used).tolist()], rows


def joined(parts: Sequence[tuple[Sequence[Instrument], Rows]]) -> tuple[list[Instrument], Rows]:
    """Rows of all parts, in order, over one table of instruments."""
    table: dict[Instrument, int] = {}
    # parts are many and small: what NumPy does, it does once for all of them
    codes = np.array([table.setdefault(pair, len(table)) for instruments, _ in parts for pair in instruments], "<u4")
    whole = stacked([rows for _, rows in parts], EVENT_ROW)
    names, counts = (np.array([len(part[of]) for part in parts], np.int64) for of in (0, 1))
    whole["instrument"] = codes[whole["instrument"] + np.repeat(np.cumsum(names) - names, counts)]
    return list(table), whole


def stacked(parts: Sequence[Rows], dtype: np.dtype[np.void]) -> Rows:
    """The rows of all parts, in order. np.concatenate would take 30 us for each part to find their common type."""
    return np.frombuffer(bytearray().join(part.data for part in parts), dtype)
