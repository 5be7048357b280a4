"""Weigh loads of large files, count broken geometries in a quarantine, and time dicts beside google's client.

Run: python -m benchmarks.sources [files | geometries | dicts] [--gigabytes 1] [--millions 10]
It needs the extras load and files, and room on the disk for the files, which are made in a temporary directory.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from itertools import islice, pairwise
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks.loading import TABLE, auth_at, peak_memory, sink

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow

MEGABYTE = 1e6
CORNERS = 30
"""Vertices of a polygon: about a kilobyte as GeoJSON, like a building or a parcel."""
PIECE = 10_000
"""Polygons that are made at a time."""
BROKEN = 1_000
"""Broken geometries among all, a hundred of each kind."""
DICTS, DICTS_IN_PIECE = 1_000_000, 100_000
"""Rows as dicts, and how many of them google's client takes at a time: it needs a list."""
ROUNDS = 3


# What is loaded


def polygons(count: int, seed: int) -> Any:
    """Make polygons of random size on random places, none of them broken."""
    import numpy as np
    import shapely

    random = np.random.default_rng(seed)
    centres = np.column_stack([random.uniform(-170, 170, count), random.uniform(-70, 70, count)])
    angles = np.linspace(0, 2 * np.pi, CORNERS, endpoint=False)
    radii = random.uniform(0.001, 0.01, (count, CORNERS))
    rings = centres[:, None, :] + radii[..., None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return shapely.polygons(np.concatenate([rings, rings[:, :1]], axis=1))


def broken(number: int) -> str:
    """Return one of ten kinds of broken geometry, as text."""
    return (
        "POLYGON ((0 0, 1 1, 1 0, 0 1, 0 0))",
        "POLYGON ((0 0, 4 0, 4 4, 0 4, 0 0), (5 5, 6 5, 6 6, 5 6, 5 5))",
        "POLYGON ((0 0, 4 0, 4 4, 0 4, 0 0), (1 1, 3 1, 3 3, 1 3, 1 1), (1 1, 3 1, 3 3, 1 3, 1 1))",
        "POINT (500000 4649776)",
        "POINT (12 95)",
        "LINESTRING (1 1, 1 1)",
        "POLYGON ((0 0, 1 0, 1 1))",
        "POINT (nan 1)",
        "POLYGON ((0 0, 1 0",
        "MULTIPOLYGON (((0 0, 4 0, 4 4, 0 4, 0 0)), ((1 1, 2 1, 2 2, 1 2, 1 1)))",
    )[number % 10]


def write_geojson(path: Path, size: float) -> None:
    """Write a FeatureCollection on one line."""
    import shapely

    with path.open("w") as file:
        file.write('{"type": "FeatureCollection", "features": [')
        number = 0
        while file.tell() < size:
            for text in shapely.to_geojson(polygons(PIECE, number)):
                head = ", " if number else ""
                file.write(f'{head}{{"type": "Feature", "properties": {{"id": {number}}}, "geometry": {text}}}')
                number += 1
        file.write("]}")


def write_csv(path: Path, size: float) -> None:
    """Write numbers, text and dates, with a header."""
    with path.open("w") as file:
        file.write("id,zip,amount,name,day,geom\n")
        number = 0
        while file.tell() < size:
            file.writelines(
                f'{each},{each % 100_000:05},{each * 0.25},"Store, {each}",2026-11-25,POINT({each % 180} {each % 80})\n'
                for each in range(number, number + PIECE)
            )
            number += PIECE


def write_geoparquet(path: Path, size: float) -> None:
    """Write GeoParquet in row groups of a million rows, the largest that are usual."""
    import geopandas
    import pyarrow as pa
    import pyarrow.parquet as pq
    import shapely

    meta = geopandas.GeoDataFrame(geometry=polygons(1, 0), crs=4326).to_parquet(path) or pq.read_schema(path).metadata
    schema = pa.schema([("id", pa.int64()), ("geometry", pa.binary())], metadata=meta)
    number, gathered = 0, 0
    with pq.ParquetWriter(path, schema) as writer:
        rows: list[pyarrow.RecordBatch] = []
        while number * 16.3 * CORNERS < size:
            shapes = shapely.to_wkb(polygons(PIECE, number))
            ids = pa.array(range(number, number + PIECE))
            rows.append(pa.RecordBatch.from_arrays([ids, pa.array(list(shapes), pa.binary())], schema=schema))
            number, gathered = number + PIECE, gathered + PIECE
            if gathered >= 1_000_000:
                writer.write_table(pa.Table.from_batches(rows), row_group_size=gathered)
                rows, gathered = [], 0
        if rows:
            writer.write_table(pa.Table.from_batches(rows), row_group_size=gathered)


FILES = {"one-line.geojson": write_geojson, "rows.csv": write_csv, "polygons.parquet": write_geoparquet}


def geometries(millions: float) -> Iterator[pyarrow.RecordBatch]:
    """Yield batches of polygons as WKB; some rows hold broken ones as text instead."""
    import pyarrow as pa
    import shapely

    rows = int(millions * 1e6)
    every = max(rows // BROKEN, 1)
    made = 0
    for start in range(0, rows, PIECE):
        values: list[Any] = list(shapely.to_wkb(polygons(min(PIECE, rows - start), start)))
        for index in range(-start % every, len(values), every):
            if made < BROKEN:
                values[index] = broken(made).encode()
                made += 1
        yield pa.RecordBatch.from_pydict(
            {"id": range(start, start + len(values)), "geom": pa.array(values, pa.binary())}
        )


# Loads, each in a process of its own


@dataclass(frozen=True)
class Weight:
    """What a load took.

    Attributes:
        seconds: From the call to the result.
        peak: Bytes of memory above the process after its imports.
        pause: Longest time in seconds between two reports of the progress while the source was read.
        rejected: Rows in the quarantine.
    """

    seconds: float
    peak: int
    pause: float
    rejected: int


def load(source: Any, url: str, **options: Any) -> Weight:
    """Load once, in this process."""
    import geopandas  # noqa: F401  # what a load imports on its way is not its memory
    import pyarrow.csv
    import pyarrow.parquet  # noqa: F401
    from google.cloud import bigquery  # noqa: F401

    warehouse = auth_at(url).warehouse()
    warehouse.load([{"id": 1, "geom": "POINT(1 2)"}], TABLE, geometry="geom")
    seen: list[float] = []

    def note(progress: Any) -> None:
        if progress.state == "READING":
            seen.append(time.perf_counter())

    before, started = peak_memory(), time.perf_counter()
    result = warehouse.load(source, TABLE, on_progress=note, **options)
    seconds, moments = time.perf_counter() - started, [started, *seen]
    pauses = [later - earlier for earlier, later in pairwise(moments)]
    return Weight(seconds, peak_memory() - before, max(pauses), result.rejected)


def in_child(url: str, *arguments: str) -> Weight:
    """Run a load in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.sources", "child", "--url", url, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return Weight(**json.loads(done.stdout.splitlines()[-1]))


def files(gigabytes: float) -> None:
    """Load each kind of file, and print memory and progress."""
    print(f"{'file':18} {'MB':>6} {'s':>6} {'peak MB':>8} {'longest s without progress':>27}")
    with tempfile.TemporaryDirectory() as folder, sink() as url:
        for name, write in FILES.items():
            path = Path(folder, name)
            write(path, gigabytes * 1e9)
            weight = in_child(url, "--file", str(path))
            size = path.stat().st_size / MEGABYTE
            print(f"{name:18} {size:6.0f} {weight.seconds:6.1f} {weight.peak / MEGABYTE:8.0f} {weight.pause:27.2f}")
            path.unlink()


def count_broken(millions: float) -> None:
    """Load geometries of which some are broken, and print how many were found."""
    with sink() as url:
        weight = in_child(url, "--millions", str(millions))
    print(f"{millions:g} million geometries, {BROKEN} of them broken: {weight.rejected} in the quarantine,")
    print(f"{weight.seconds:.0f} s, peak {weight.peak / MEGABYTE:.0f} MB")


def dicts(count: int) -> Iterator[dict[str, Any]]:
    """Yield rows as an API gives them."""
    for number in range(count):
        yield {
            "id": number,
            "name": f"store {number}",
            "size": number * 0.5,
            "open": number % 2 == 0,
            "tags": ["a", "b"],
            "address": {"city": "Madrid", "zip": f"{number % 100_000:05}"},
        }


def time_dicts() -> None:
    """Load a million dicts with this package and with google's client, in turn, and print the ratio."""
    from google.cloud import bigquery

    config = bigquery.LoadJobConfig(autodetect=True)
    ways: dict[str, list[float]] = {"ours": [], "google's": []}
    with sink() as url:
        client, warehouse = auth_at(url).get_carto_dw_client(), auth_at(url).warehouse()
        for _ in range(ROUNDS):
            started = time.perf_counter()
            warehouse.load(dicts(DICTS), TABLE)
            ways["ours"].append(time.perf_counter() - started)
            started, rows = time.perf_counter(), dicts(DICTS)
            while piece := list(islice(rows, DICTS_IN_PIECE)):
                client.load_table_from_json(piece, TABLE, job_config=config).result()
            ways["google's"].append(time.perf_counter() - started)
    for name, seconds in ways.items():
        print(f"{name:9} {median(seconds):6.1f} s ({min(seconds):.1f} to {max(seconds):.1f})")
    ratio = median(ways["google's"]) / median(ways["ours"])
    print(f"speed     {ratio:6.2f} x google's")


def main() -> None:
    """Run what is asked for, or everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="?", choices=["files", "geometries", "dicts", "child"])
    parser.add_argument("--gigabytes", type=float, default=1.0)
    parser.add_argument("--millions", type=float, default=10.0)
    parser.add_argument("--url")
    parser.add_argument("--file")
    chosen = parser.parse_args()
    if chosen.what == "child":
        source: Any = chosen.file or geometries(chosen.millions)
        options = {} if chosen.file else {"geometry": "geom", "bad_rows": "quarantine"}
        print(json.dumps(asdict(load(source, chosen.url, **options))))
        return
    if chosen.what in (None, "files"):
        files(chosen.gigabytes)
    if chosen.what in (None, "geometries"):
        count_broken(chosen.millions)
    if chosen.what in (None, "dicts"):
        time_dicts()


if __name__ == "__main__":
    main()
