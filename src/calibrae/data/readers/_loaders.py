"""DataLoaders of PyTorch: their batches are taken apart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from torch.utils.data import BatchSampler, DataLoader, RandomSampler, SequentialSampler, default_collate

from ...errors import DataError
from .._registry import reads
from .._source import Raw, Request
from ._items import from_items, is_indexed


def _is_loader(data: Any) -> bool:
    return isinstance(data, DataLoader)


@reads("a DataLoader", _is_loader, rank=35)
def read_loader(loader: DataLoader[Any], request: Request) -> Raw:
    """The examples of a DataLoader, not its batches: from its dataset where the loader only puts them together, else batch by batch."""
    name = type(loader.dataset).__name__
    if (
        loader.collate_fn is default_collate
        and is_indexed(loader.dataset)
        and type(loader.batch_sampler) is BatchSampler
    ):
        dataset: Any = loader.dataset
        whole = type(loader.sampler) in (SequentialSampler, RandomSampler)
        order = range(len(dataset)) if whole else sorted(set(loader.sampler))
        raw = from_items(name, (dataset[i] for i in order), request)
        note = "the dataset of a DataLoader was read, example by example" + ("" if whole else ", those of its sampler")
    elif loader.batch_size is None and loader.batch_sampler is None:
        raw, note = from_items(name, loader, request), "a DataLoader without batches was read, example by example"
    else:
        raw = from_items(name, _unbatched(loader), request)
        note = "the batches of a DataLoader were taken apart, in the order in which they came"
    return replace(raw, notes=(*raw.notes, note))


def _unbatched(loader: DataLoader[Any]) -> Iterator[Any]:
    as_list: bool | None = None  # as the first batch tells; the last one may be shorter
    for batch in loader:
        if as_list is None:
            as_list = isinstance(batch, tuple | list) and _is_list_of_examples(batch, loader.batch_size)
        yield from batch if as_list else _rows(batch)


def _rows(batch: Any) -> Iterator[Any]:
    if isinstance(batch, Mapping):
        names = list(batch)
        for values in zip(*(batch[name] for name in names), strict=True):
            yield dict(zip(names, values, strict=True))
    elif isinstance(batch, tuple | list):
        first = batch[0]
        parts = [
            part for part in batch if hasattr(part, "__len__") and not isinstance(part, str) and len(part) == len(first)
        ]
        yield from zip(*parts, strict=True)
    elif hasattr(batch, "__len__") and hasattr(batch, "__getitem__"):
        yield from (batch[i] for i in range(len(batch)))
    else:
        raise DataError(f"a DataLoader must yield batches of examples; got {type(batch).__name__}. Pass its dataset.")


def _is_list_of_examples(batch: Any, size: int | None) -> bool:
    """Tell whether a collate function left the examples as a list, and did not put them together."""
    if not len(batch) or any(part is None or isinstance(part, str) for part in batch):
        return False
    if all(isinstance(part, Mapping | tuple) or hasattr(part, "getbands") for part in batch):
        return True
    shapes = {tuple(part.shape) for part in batch if hasattr(part, "shape")}
    return len(batch) == size and size > 2 and len(shapes) == 1 and all(hasattr(part, "shape") for part in batch)
