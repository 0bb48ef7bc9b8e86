"""The files of a run, read back by dataset."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from transforms.datasets import BARS, EVENTS, LATE_EVENTS, REJECTS, STATS, Dataset

DATASETS: Sequence[Dataset] = (EVENTS, BARS, STATS, LATE_EVENTS, REJECTS)


class FilesError(ValueError):
    """A file that cannot be read; names it and the remedy."""


def read_dataset(
    root: Path, dataset: Dataset, columns: Sequence[str] | None = None, where: pc.Expression | None = None
) -> pa.Table:
    """All rows of a dataset below `root`; none when it wrote no file. Of `columns` those that it has.

    FilesError when a file is not Parquet of just these columns.
    """
    schema = dataset.record.arrow
    names = [name for name in schema.names if columns is None or name in columns]
    files = _files(root, dataset)
    if not files:
        return schema.empty_table().select(names)
    try:
        return ds.dataset(files, schema=schema, format="parquet").to_table(names, filter=where)
    except (pa.ArrowException, OSError) as error:
        raise FilesError(f"the files below {root / dataset.name} cannot be read ({error}); write them anew") from error


def count_rows(root: Path) -> dict[str, int]:
    """How many rows of each dataset the files below `root` hold. FilesError when one is no Parquet."""
    try:
        return {
            dataset.name: sum(pq.read_metadata(file).num_rows for file in _files(root, dataset)) for dataset in DATASETS
        }
    except (pa.ArrowException, OSError) as error:
        raise FilesError(f"the files below {root} cannot be read ({error}); write them anew") from error


def _files(root: Path, dataset: Dataset) -> list[Path]:
    return sorted(path for path in (root / dataset.name).glob("**/*.parquet") if not path.name.startswith("."))
