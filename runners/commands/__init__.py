"""One console command per module; only these talk to the terminal."""

import logging


def _concerns_us(record: logging.LogRecord) -> bool:
    return "crcmod package not found" not in record.getMessage()  # Beam misses it for TFRecord files; we write none


logging.getLogger().addFilter(_concerns_us)
