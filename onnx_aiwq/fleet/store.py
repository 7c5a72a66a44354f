"""The folder of a fleet: Parquet part files that appear whole, and what they say is done.

    results/hardware=ID/*.parquet   one row per model and hardware
    errors/*.parquet                one row per model that could not be analysed
    inventory/run=N/*.parquet       the models of each run, with the digest of their content
    runs/N.json                     settings of each run, and whether it came to its end

Rows are only ever added, each once. A part is written beside its place and renamed, so that a run that is killed leaves
whole files; results precede the inventory, so that a model in the inventory has its rows.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from onnx_aiwq import __version__
from onnx_aiwq.errors import AiwqError
from onnx_aiwq.files import UNFINISHED, write_whole
from onnx_aiwq.fleet.extra import need
from onnx_aiwq.fleet.rows import (
    COUNT_DIGITS,
    ERROR_COLUMNS,
    INVENTORY_COLUMNS,
    RESULT_COLUMNS,
    Kind,
    Row,
)

FORMAT = "onnx_aiwq.fleet-store/1"
_LOCK, _MARK = ".lock", "fleet.json"
_COLUMNS = {"results": RESULT_COLUMNS, "errors": ERROR_COLUMNS, "inventory": INVENTORY_COLUMNS}


def arrow_schema(columns: Mapping[str, Kind], hive: str | None = None) -> Any:
    """The Arrow schema of a dataset; `hive` names a column that is in the names of its folders."""
    pa = need("pyarrow")
    types = {
        "text": pa.string(),
        "count": pa.decimal128(COUNT_DIGITS, 0),
        "integer": pa.int64(),
        "number": pa.float64(),
        "flag": pa.bool_(),
        "texts": pa.list_(pa.string()),
    }
    fields = [(name, types[kind]) for name, kind in columns.items()]
    return pa.schema([*fields, *([(hive, pa.string())] if hive else [])])


class Listed(NamedTuple):
    """A model in the inventory of a run.

    Attributes:
        version: what its store said of the file; None where it said nothing.
        content: digest of what the numbers rest on; None where it could not be read.
        failed: whether it has an error and no rows.
    """

    version: str | None
    content: str | None
    failed: bool


class FleetFolder:
    """The folder, to read from."""

    def __init__(self, folder: Path) -> None:
        """Take a folder; nothing is opened yet."""
        self.folder = folder

    def require(self) -> None:
        """Refuse what is no folder of a fleet.

        Raises:
            AiwqError: naming the folder.
        """
        if not (self.folder / _MARK).is_file():
            raise AiwqError(f"{self.folder}: holds no fleet; write one with `aiwq fleet SOURCE... --output DIR`")
        self._check_format()

    def _check_format(self) -> None:
        try:
            found = json.loads((self.folder / _MARK).read_text(encoding="utf-8")).get("format")
        except (OSError, ValueError, AttributeError) as error:
            raise AiwqError(f"{self.folder / _MARK}: cannot be read: {error}; choose another --output") from error
        if found != FORMAT:
            raise AiwqError(
                f"{self.folder}: format {found!r}, this aiwq reads {FORMAT!r}; choose another --output folder"
            )

    def runs(self) -> dict[int, dict[str, Any]]:
        """What is known of each run, by number."""
        found = {}
        for file in sorted((self.folder / "runs").glob("*.json")):
            if file.stem.isdecimal():
                found[int(file.stem)] = json.loads(file.read_text(encoding="utf-8"))
        return dict(sorted(found.items()))

    def batches(self, dataset: str, columns: Sequence[str], where: Any = None) -> Iterator[Mapping[str, list[Any]]]:
        """Columns of a dataset as lists, some thousand rows at a time, in the order in which they were written."""
        for batch in self._dataset(dataset, columns).to_batches(columns=list(columns), filter=where):
            yield batch.to_pydict()

    def table(self, dataset: str, columns: Sequence[str], where: Any = None) -> Any:
        """Columns of a dataset as an Arrow table."""
        return self._dataset(dataset, columns).to_table(columns=list(columns), filter=where)

    def inventory(self, run: int) -> dict[str, Listed]:
        """Models of a run; the latest where a model was read twice."""
        dataset = _arrow_dataset(self.folder / "inventory" / _run_folder(run), arrow_schema(INVENTORY_COLUMNS), None)
        columns = ["model", "version", "content_sha256", "failed"]
        rows = known_rows(batch.to_pydict() for batch in dataset.to_batches(columns=columns))
        return {model: Listed(version, content, failed) for model, version, content, failed in rows}

    def _dataset(self, dataset: str, columns: Sequence[str]) -> Any:
        hive = "hardware" if dataset == "results" else None
        return _arrow_dataset(self.folder / dataset, arrow_schema(_COLUMNS[dataset], hive), hive)


def _arrow_dataset(folder: Path, schema: Any, hive: str | None) -> Any:
    pa, datasets = need("pyarrow"), need("pyarrow.dataset")
    files = sorted(map(str, folder.rglob("*.parquet"))) if folder.is_dir() else []
    partitioning = datasets.HivePartitioning(pa.schema([(hive, pa.string())])) if hive else None
    return datasets.dataset(
        files, schema=schema, format="parquet", partitioning=partitioning, partition_base_dir=str(folder)
    )


def _run_folder(run: int) -> str:
    return f"run={run:05d}"


class FleetWriter(FleetFolder):
    """The folder, to write to; one process at a time."""

    def __init__(self, folder: Path) -> None:
        """Create or open a folder, take its lock, and remove what a killed run was about to write.

        Raises:
            AiwqError: if the folder cannot be written, holds something else, or another run writes to it.
        """
        super().__init__(folder)
        self.run = 0
        self._part = 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = (folder / _LOCK).open("a")
            self._take_lock()
            if (folder / _MARK).exists():
                self._check_format()
            elif any(entry.name != _LOCK and not entry.name.endswith(UNFINISHED) for entry in folder.iterdir()):
                (folder / _LOCK).unlink()
                raise AiwqError(f"--output {folder}: holds files that are no fleet; choose an empty or a new folder")
            for name in ("results", "errors", "inventory", "runs"):
                (folder / name).mkdir(exist_ok=True)
            for leftover in [*folder.rglob(f".*{UNFINISHED}")]:  # the lock says that nobody is writing these
                leftover.unlink()
            write_whole(folder / _MARK, json.dumps({"format": FORMAT, "tool": f"onnx_aiwq {__version__}"}) + "\n")
        except OSError as error:
            raise self._cannot_write(error) from error

    def _take_lock(self) -> None:
        import fcntl

        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AiwqError(f"--output {self.folder}: another run is writing to it; wait, or choose another") from None

    def begin(self, description: Mapping[str, Any]) -> int:
        """Begin a run, or go on with the latest one if it has the same description and was not finished."""
        runs = self.runs()
        last = max(runs, default=0)
        if last and not runs[last]["complete"] and runs[last]["description"] == description:
            self.run = last
        else:
            self.run = last + 1
            self._record(description, complete=False)
        parts = (self.folder / "inventory" / _run_folder(self.run)).glob("*.parquet")
        others = (self.folder / name for name in ("results", "errors"))
        stems = [part.stem for part in (*parts, *(part for other in others for part in other.rglob("*.parquet")))]
        numbers = (stem.rpartition("-")[2] for stem in stems)
        self._part = max((int(number) for number in numbers if number.isdecimal()), default=0)
        return self.run

    def add(self, results: Sequence[Row], errors: Sequence[Row], inventory: Sequence[Row]) -> None:
        """Write rows as part files, each of which appears whole.

        Raises:
            AiwqError: if the disk is full or the folder cannot be written.
        """
        self._part += 1
        by_hardware: dict[str, list[Row]] = {}
        for row in results:
            by_hardware.setdefault(row["hardware"], []).append(row)
        try:
            for hardware, rows in sorted(by_hardware.items()):
                self._add_part(f"results/hardware={quote(hardware, safe='')}", RESULT_COLUMNS, rows)
            self._add_part("errors", ERROR_COLUMNS, errors)
            self._add_part(f"inventory/{_run_folder(self.run)}", INVENTORY_COLUMNS, inventory)
        except OSError as error:
            raise self._cannot_write(error) from error

    def finish(self, description: Mapping[str, Any]) -> None:
        """Record that the run came to its end."""
        try:
            self._record(description, complete=True)
        except OSError as error:
            raise self._cannot_write(error) from error

    def close(self) -> None:
        """Give the lock back."""
        self._lock.close()

    def _record(self, description: Mapping[str, Any], *, complete: bool) -> None:
        text = json.dumps({"description": description, "complete": complete}, indent=1, sort_keys=True)
        write_whole(self.folder / "runs" / f"{self.run:05d}.json", text + "\n")

    def _add_part(self, place: str, columns: Mapping[str, Kind], rows: Sequence[Row]) -> None:
        if not rows:
            return
        pa, parquet = need("pyarrow"), need("pyarrow.parquet")
        schema = arrow_schema(columns)
        arrays = [
            pa.array(_cells([row[field.name] for row in rows], columns[field.name]), type=field.type)
            for field in schema
        ]
        sink = io.BytesIO()
        parquet.write_table(pa.Table.from_arrays(arrays, schema=schema), sink, compression="zstd")
        folder = self.folder / place
        folder.mkdir(exist_ok=True)
        write_whole(folder / f"part-{self._part:06d}.parquet", sink.getvalue())

    def _cannot_write(self, error: OSError) -> AiwqError:
        reason = error.strerror or type(error).__name__
        return AiwqError(
            f"--output {self.folder}: cannot be written: {reason}; free space or choose another folder, and run the "
            "same command again: it goes on where it stopped"
        )


def _cells(values: list[Any], kind: Kind) -> list[Any]:
    if kind == "count":
        return [None if value is None else Decimal(value) for value in values]
    if kind == "text":
        return [None if value is None else storable(value) for value in values]
    if kind == "texts":
        return [None if value is None else [storable(text) for text in value] for value in values]
    return values


def storable(text: str) -> str:
    """Text that UTF-8 holds: file names may have bytes that are none."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")


def known_rows(rows: Iterable[Mapping[str, list[Any]]]) -> Iterator[tuple[Any, ...]]:
    """Rows of `FleetFolder.batches` as tuples."""
    for batch in rows:
        yield from zip(*batch.values(), strict=True)
