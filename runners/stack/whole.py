"""A small file that is there whole or not at all. Standard library only, for the supervisor writes such files."""

from pathlib import Path


def write_whole(file: Path, text: str) -> None:
    """Write `text` in place of what the file holds; its directory is made."""
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_name(f".{file.name}.new")
    beside.write_text(text)
    beside.replace(file)
