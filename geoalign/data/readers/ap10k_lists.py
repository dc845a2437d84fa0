"""AP-10K's pair lists, one parquet file per split and setting, as ``geoalign.data.prepare`` writes them.

Each file carries the hash of its pairs and of the annotations they were built from; both are checked when it is
read, so an edited list or an exchanged annotation file cannot pass for the benchmark.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from geoalign.data.readers.ap10k_animals import Animal, content_hash, read_annotations
from geoalign.data.readers.ap10k_pairs import (
    CAPS,
    CROWD_SHA256,
    SEED,
    PairTable,
    pair_table,
    partition,
    read_crowd,
)  # fmt: skip
from geoalign.data.records import DataError
from geoalign.files import replacing

RULES = 1  # raised whenever the same annotations would give other pairs
FOLDER = "pairs"
KEY = b"geoalign.ap10k"
REBUILD = "delete the list, or write it again: geoalign prepare dataset=ap10k"


def list_path(root: Path, split: str, setting: str) -> Path:
    """Where the pair list of a split and setting lies."""
    return root / FOLDER / f"{split}_{setting}.parquet"


def build(root: Path, crowd: Path, crowd_sha256: str | None = CROWD_SHA256, seed: int = SEED) -> dict[str, PairTable]:
    """Build and write every pair list of the benchmark; gives the tables by file stem. Raises ``DataError``."""
    dropped = read_crowd(crowd, crowd_sha256)
    parts = partition(read_annotations(root), dropped)
    tables: dict[str, PairTable] = {}
    for split, setting in CAPS:
        path = list_path(root, split, setting)
        tables[path.stem] = pair_table(parts[split], split, setting, seed)
        write_table(path, tables[path.stem], _facts(parts[split], split, setting, seed))
    return tables


def write_table(path: Path, table: PairTable, facts: dict[str, object]) -> None:
    """Write pairs with their facts and hash; a crash never leaves half a file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {"src": table.src, "trg": table.trg, "category": pa.array(table.category.tolist()).dictionary_encode()}
    about = json.dumps({**facts, "pairs": table.content_hash()}, sort_keys=True)
    with replacing(path) as partial:
        pq.write_table(pa.table(columns).replace_schema_metadata({KEY: about.encode()}), partial)


def read_table(path: Path, animals: Sequence[Animal], split: str, setting: str, seed: int) -> PairTable:
    """The pairs of a list, which must be of these annotations, rules and seed, and unchanged since."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        stored = pq.read_table(path)
        about = json.loads((stored.schema.metadata or {}).get(KEY, b"{}"))
        src, trg = (stored[key].to_numpy().astype(np.int64) for key in ("src", "trg"))
        table = PairTable(src, trg, np.array(stored["category"].to_pylist(), dtype=np.str_))
    except (OSError, ValueError, TypeError, KeyError, pa.ArrowException) as error:
        raise DataError.at(path, "file", "a pair list in parquet", str(error).split("\n")[0], REBUILD) from error
    for key, want in {**_facts(animals, split, setting, seed), "pairs": table.content_hash()}.items():
        got = about.get(key) if isinstance(about, dict) else None
        if got != want:
            raise DataError.at(path, key, repr(want), got, REBUILD)
    return table


def _facts(animals: Sequence[Animal], split: str, setting: str, seed: int) -> dict[str, object]:
    facts: dict[str, object] = {"rules": RULES, "split": split, "setting": setting, "seed": seed}
    return facts | {"annotations": content_hash(sorted(animals, key=lambda a: a.image))}
