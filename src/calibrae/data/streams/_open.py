"""Open a stream: find its shards, settle what their numbers mean, and hold out what belongs to validation and test."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, final

import numpy as np

from ...errors import DataError, first_line
from .. import _cache
from .._interpret import interpret
from .._schema import Column as SchemaColumn
from .._schema import Schema, channel_names
from .._source import Array, DataOptions, Part, Raw, Request, Source, counted, listed
from .._splits import MOST_TEST, MOST_VALIDATION
from .._view import in_batches
from ..readers._arrow import grouped, numeric_names, units_of
from ..readers._parquet import image_column, left_out_of, reading
from ..readers._paths import shown
from ._keys import TEST, TRAIN, VALIDATION, HashSplit, share
from ._parquet import PictureShard, TableShard
from ._pictures import SURVEYED, form_of
from ._stream import SAMPLE, Stream
from ._tar import TarShard

KINDS = {".parquet": "parquet", ".pq": "parquet", ".tar": "tar"}
INTERPRETED = 16_384  # rows of a table from which its columns are understood
BLOCKS = 16  # row groups that they come from
SAMPLED_BYTES, SAMPLED_BLOCKS = 1 << 14, 4  # of each file, that its fingerprint reads
AT_ONCE = 256
FEWEST = 100  # examples, of which a hash holds some out

AnyShard: TypeAlias = "TableShard | PictureShard | TarShard"


def may_be_streamed(data: Any) -> bool:
    """Tell whether data are a path that leads to shards."""
    return (
        isinstance(data, str | Path) and bool(str(data)) and Path(data).expanduser().exists() and bool(_files(data)[1])
    )


def open_stream(data: Any, options: DataOptions, schema: Schema | None = None) -> Source:
    """Examples in shards, read when they are used.

    Args:
        data: path of a folder of Parquet files or of tar files, or of one such file.
        options: how to read them.
        schema: schema of the data that a model was trained on; by default it is found from a sample.

    Raises:
        DataError: if this is no such path, or an option needs all of the data at once.
    """
    _require_streamable(data, options)
    root, files = _files(data)
    groups, notes = grouped(files, root)
    kinds = {KINDS[file.suffix.lower()] for file in files}
    if len(kinds) > 1:
        raise DataError(
            f"{shown(root)} holds Parquet and tar files; a stream must have shards of one kind. Name one folder of them."
        )
    notes = [note.replace("as one table", "as one data set") for note in notes]
    opening = _Opening(shown(root), root, groups, Request(options, schema), list(notes))
    return opening.tar() if kinds == {"tar"} else opening.parquet()


def _require_streamable(data: Any, options: DataOptions) -> None:
    if not isinstance(data, str | Path):
        raise DataError(
            f"a stream must be the path of Parquet or tar files; got {type(data).__name__}. Leave out `stream`."
        )
    if not may_be_streamed(data):
        raise DataError(
            f"{data} holds no Parquet or tar files, which --stream reads. Check the path, or leave out --stream."
        )
    refused = {
        "--condition": options.condition is not None,
        "--data-range": options.data_range is not None,
        "--levels": options.levels is not None,
        "--no-standardise": options.standardise is False,
    }
    for name, is_asked in refused.items():
        if is_asked:
            raise DataError(
                f"{name} needs all of the data at once, which a stream never has. Leave it out, or leave out --stream."
            )


def _files(data: str | Path) -> tuple[Path, list[Path]]:
    """Where the shards are, and all of them in order."""
    root = Path(data).expanduser()
    if not root.is_dir():
        return root, [root] if root.suffix.lower() in KINDS else []
    return root, sorted(
        file
        for file in root.rglob("*")
        if file.suffix.lower() in KINDS
        and file.is_file()
        and not any(p.startswith(".") for p in file.relative_to(root).parts)
    )


@final
@dataclass
class _Opening:
    """A stream that is being opened."""

    name: str
    root: Path
    groups: Mapping[Part, list[Path]]
    request: Request
    notes: list[str]

    @property
    def pool(self) -> Part:
        """Part from which is held out what was not given."""
        return "all" if "all" in self.groups else "train"

    def tar(self) -> Source:
        """Pictures in tar files."""
        shards: dict[Part, list[TarShard]] = {
            part: [TarShard(file) for file in files] for part, files in self.groups.items()
        }
        others = sum(shard.others for members in shards.values() for shard in members)
        if others:
            self.notes.append(f"pictures of tar files were read; {counted(others, 'other file')} in them left out")
        members = shards[self.pool]
        ends = np.cumsum([sum(shard.sizes) for shard in members])
        chosen = _spaced(range(int(ends[-1])), SURVEYED)
        owners = np.searchsorted(ends, chosen, side="right")
        some = (
            members[owner].picture(row - int(ends[owner]) + sum(members[owner].sizes))
            for row, owner in zip(chosen, owners, strict=True)
        )
        return self._pictures(shards, some)

    def parquet(self) -> Source:
        """A table, or pictures in a column."""
        first = next(iter(self.groups.values()))[0]
        schema = reading(first, _schema_of)
        column = image_column(first, schema)
        if column is None:
            return self._table(first, schema)
        shards: dict[Part, list[PictureShard]] = {
            part: [PictureShard(file, column) for file in files] for part, files in self.groups.items()
        }
        others = len(schema.names) - 1
        if others:
            self.notes.append(
                f"pictures of the column {column!r} were read; {counted(others, 'other column')} left out"
            )

        def some() -> Iterator[tuple[str, bytes]]:
            chosen = _spaced(_blocks(shards[self.pool]), BLOCKS)
            for shard, block in chosen:
                fetch, count = shard.fetcher(shard.load(block), block), shard.sizes[block]
                yield from map(fetch, range(0, count, max(1, count * len(chosen) // SURVEYED)))

        return self._pictures(shards, some())

    def _pictures(self, shards: Mapping[Part, Sequence[AnyShard]], some: Iterator[tuple[str, bytes]]) -> Source:
        form, notes = form_of(self.name, some, self.request)
        self.notes += notes
        for shard in (shard for members in shards.values() for shard in members):
            shard.form = form  # type: ignore[union-attr]  # of pictures
        fields = tuple(
            SchemaColumn(n, "whole", 0.0, 1.0, 256, dtype="uint8") for n in channel_names("pictures", form.shape[0])
        )
        known = self.request.trained
        if known is not None and (known.layout != "pictures" or known.shape != form.shape or known.levels != 256):
            raise DataError(
                f"{self.name} holds pictures of shape {form.shape} and 8 bits; the model was trained on {known.shape}. Pass data of that shape."
            )
        return self._source(shards, known or Schema("pictures", form.shape, fields, 256), np.uint8)

    def _table(self, first: Path, schema: Any) -> Source:
        left_out, notes = left_out_of(first, schema, self.request)
        self.notes += notes
        names = numeric_names(first.name, schema, left_out)
        known = self.request.trained
        if known is not None and known.is_named:
            names = [name for name in known.columns if name in names]
        for file in (file for files in self.groups.values() for file in files):
            here = numeric_names(file.name, reading(file, _schema_of), left_out)
            if sorted(here) != sorted(names):
                raise DataError(
                    f"{file.name} must have the columns of the other files, {listed(names)}; got {listed(here)}."
                )
        shards: dict[Part, list[TableShard]] = {
            part: [TableShard(f, names) for f in files] for part, files in self.groups.items()
        }
        if known is None:
            sample = _sample_of(shards[self.pool])
            found = interpret(
                Raw(self.name, {"all": sample}, "a sample", tuple(names), units_of(schema)), self.request.options
            )
            known = found.schema
            self.notes += [
                *found.notes,
                f"columns were understood from {len(sample):,} of {sum(sum(shard.sizes) for shard in shards[self.pool]):,} rows",
            ]
        for shard in (shard for members in shards.values() for shard in members):
            shard.schema = known
        return self._source(shards, known, np.int64 if known.is_whole else np.float64)

    def _source(self, shards: Mapping[Part, Sequence[AnyShard]], schema: Schema, dtype: Any) -> Source:
        """Streams of the given parts, and what is held out of the training examples by hash, which is kept in the cache."""
        options, pool = self.request.options, shards[self.pool]
        split = self._split(sum(sum(shard.sizes) for shard in pool), shards)

        def stream(members: Sequence[AnyShard], split: HashSplit, which: int, sample: int | None = None) -> Stream:
            return Stream(members, split, which, options.split_seed, schema.shape, dtype, sample)

        parts: dict[Part, Any] = {"train": stream(pool, split, TRAIN, SAMPLE)}
        given: tuple[Part, ...] = ("validation", "test")
        parts |= {part: stream(shards[part], HashSplit(0.0, 0.0), TRAIN) for part in given if part in shards}
        numbers: dict[Part, int] = {"validation": VALIDATION, "test": TEST}
        held = {part: stream(pool, split, number) for part, number in numbers.items() if part not in shards}
        files = [file for members in self.groups.values() for file in members]
        fingerprint = _cache.key_of(_fingerprint(files, self.root, schema, options), split, options.split_seed)
        parts |= self._kept(held, fingerprint)
        for part, array in parts.items():
            if not len(array):
                raise DataError(
                    f"{self.name}: by the hashes of their keys no example belongs to the {part} split. Raise its fraction, or add examples."
                )
        self._say_sample(len(parts["train"]))
        origins = self._origins(split, held, {part: len(array) for part, array in parts.items()})
        place = str(self.root.resolve())
        return Source(self.name, parts, fingerprint, schema, notes=tuple(self.notes), place=place, origins=origins)

    def _split(self, count: int, given: Mapping[Part, Any]) -> HashSplit:
        """Shares of the training examples that are held out for the splits that were not given."""
        if count < FEWEST:
            raise DataError(
                f"{self.name}: a stream must have at least {FEWEST} examples; got {count}. Leave out --stream."
            )
        options = self.request.options
        return HashSplit(
            0.0 if "validation" in given else share(options.validation_fraction, MOST_VALIDATION, count),
            0.0 if "test" in given else share(options.test_fraction, MOST_TEST, count),
        )

    def _origins(self, split: HashSplit, held: Mapping[Part, Any], sizes: Mapping[Part, int]) -> dict[Part, str]:
        """Where each part comes from that was not given."""
        shares = {"test": f"least {split.test:g}", "validation": f"greatest {split.validation:g}"}
        seed = self.request.options.split_seed
        found: dict[Part, str] = {
            part: f"{sizes[part]:,} examples, whose hashes are among the {shares[part]} of all, split seed {seed}"
            for part in held
        }
        everything = "all examples" if self.pool == "all" else "given"
        return found | {"train": f"{everything}, without what was held out" if held else everything}

    def _kept(self, held: Mapping[Part, Stream], identity: str) -> dict[Part, Array]:
        """Examples that are held out, read once."""
        if not held:
            return {}
        key = _cache.key_of("held out of a stream", identity)
        if not _cache.has(key):
            _cache.write(key, {part: _in_pieces(stream) for part, stream in held.items()}, dict)
        found, _ = _cache.read(key)
        return {part: found.get(part, np.empty((0, *stream.shape[1:]), stream.dtype)) for part, stream in held.items()}

    def _say_sample(self, count: int) -> None:
        self.notes.append(
            "streamed: mixed within a buffer of 8,192 examples; changes of a file that leave its size and a sample of its bytes as they are go unseen"
        )
        if count > SAMPLE:
            self.notes.append(
                f"statistics, the final scale and the baseline are those of {SAMPLE:,} of {count:,} training examples"
            )


def _schema_of(file: Path) -> Any:
    import pyarrow.parquet as pq

    return pq.read_schema(file)


def _blocks(shards: Sequence[Any]) -> list[tuple[Any, int]]:
    """All blocks that hold examples."""
    return [(shard, block) for shard in shards for block in range(len(shard.sizes)) if shard.sizes[block]]


def _sample_of(shards: Sequence[TableShard]) -> Array:
    """Rows of a table from which its columns are understood: of blocks that are evenly spaced, or all if there are few."""
    blocks = _blocks(shards)
    mean = sum(shard.sizes[block] for shard, block in blocks) / max(1, len(blocks))
    chosen = _spaced(blocks, max(BLOCKS, math.ceil(INTERPRETED / max(1.0, mean))))
    each = math.ceil(INTERPRETED / len(chosen))
    rows = [shard.numbers(block).parts["all"] for shard, block in chosen]
    return np.concatenate([part[:: max(1, len(part) // each)] for part in rows])


def _spaced(things: Sequence[Any], most: int) -> list[Any]:
    if not things:
        raise DataError("the shards of a stream hold no examples. Check the files.")
    return [things[i] for i in np.unique(np.linspace(0, len(things) - 1, most).round().astype(int))]


def _in_pieces(stream: Stream) -> Iterator[Array]:
    yield from stream.ahead(in_batches(np.arange(len(stream)), AT_ONCE))
    stream.forget()


def _fingerprint(files: Sequence[Path], root: Path, schema: Schema, options: DataOptions) -> str:
    """Hash of the names and sizes of files, a sample of their bytes, and how they are read."""
    folder = root if root.is_dir() else root.parent
    seen = [(shown(file.relative_to(folder)), *_sampled(file)) for file in files]
    return _cache.key_of("stream", seen, schema.to_dict(), options.size, options.resize, options.skip_broken)


def _sampled(file: Path) -> tuple[int, str]:
    """Size of a file, and a hash of some of its bytes: the first, the last, and blocks between."""
    digest = hashlib.blake2b(digest_size=16)
    try:
        size = file.stat().st_size
        with file.open("rb") as content:
            for place in np.linspace(0, max(0, size - SAMPLED_BYTES), SAMPLED_BLOCKS).astype(np.int64):
                content.seek(int(place))
                digest.update(content.read(SAMPLED_BYTES))
    except OSError as error:
        raise DataError(f"{file} cannot be read: {first_line(error)}. Check the file.") from error
    return size, digest.hexdigest()
