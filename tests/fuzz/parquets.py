"""Parquet files of images, and what reading a mutated one may do."""

import io
import os
import sys
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from langevin.modalities.image.detect import detect
from langevin.modalities.image.parquet import open_parquet
from langevin.modalities.image.sources import Parquet
from langevin.modalities.image.unreadable import Broken
from tests.fuzz.mutate import many
from tests.modalities.image.pictures import encoded, picture


def _written(table: pa.Table, **options) -> bytes:
    file = io.BytesIO()
    pq.write_table(table, file, **options)
    return file.getvalue()


def forms() -> dict[str, bytes]:
    """name -> a Parquet file of a few small images."""
    images = [encoded(picture(n, side=4)) for n in range(6)]
    structs = [{"bytes": data, "path": f"{n}.png"} for n, data in enumerate(images)]
    words = ["a", "b", None, "a", "ä", "b"]
    labels = pa.table({"image": structs, "label": [n % 3 for n in range(6)], "text": words})
    names = b'{"info": {"features": {"label": {"names": ["x", "y", "z"]}}}}'
    coded = pa.table({"image": pa.array(images), "label": pa.array(words).dictionary_encode()})
    return {
        "plain": _written(pa.table({"image": images, "label": words}), compression="none", use_dictionary=False),
        "structs": _written(labels.replace_schema_metadata({"huggingface": names}), compression="snappy"),
        "groups": _written(labels, compression="zstd", row_group_size=2),
        "version 2 pages": _written(labels, compression="gzip", data_page_version="2.0", data_page_size=128),
        "dictionary type": _written(coded, compression="zstd"),
        "empty": _written(labels.slice(0, 0)),
        "large types": _written(
            pa.table({"image": pa.array(images, pa.large_binary()), "text": pa.array(words, pa.large_string())})
        ),
        "delta": _written(
            pa.table({"image": images, "label": words}),
            use_dictionary=False,
            column_encoding={"image": "DELTA_BYTE_ARRAY", "label": "DELTA_LENGTH_BYTE_ARRAY"},
        ),
        "checksums": _written(labels, write_page_checksum=True, compression="none"),
    }


def read(data: bytes, path: Path) -> str:
    """Read one file and say what came of it. The law: rows that can be fetched, or a `ValueError` with the path."""
    path.write_bytes(data)
    detect(path)
    try:
        table = open_parquet(Parquet(path=str(path)))
    except Broken as error:
        assert error.name == str(path), error
        return "broken"
    except ValueError as error:
        assert str(path) in str(error), error
        return "refused"
    labels = (label for label in table.labels or () if label is not None)
    for text in (*table.names, *labels, *(table.captions or ()), *table.class_names()):
        text.encode()  # no half character
    for row in range(len(table)):
        assert len(table.fetch(row)) == table.encoded(row)
        try:
            table.decode(row, (3, 8, 8))
        except Broken as error:
            assert error.reason
    return "read"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as folder:
        many(int(sys.argv[1]), int(sys.argv[2]), forms(), lambda data: read(data, Path(folder, "a.parquet")))
