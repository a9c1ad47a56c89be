"""A frozen encoder: the stages up to one, as a torch module, and the rows of whole files.

Legend: C channels, n rows of a piece.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from stagewise.arrays import Floats
from stagewise.datasets.base import Dataset
from stagewise.encoding.encode import Chain
from stagewise.errors import ConfigError, InputError, NumberError
from stagewise.frozen.given_arrays import Held, check_path, check_pixels, check_samples, is_held
from stagewise.frozen.given_files import GivenAudio, GivenImages, Report, trained_at
from stagewise.frozen.own_readers import kind_of, own_array, own_files
from stagewise.modules import SHORT_NAMES
from stagewise.modules.geometry import Geometry
from stagewise.modules.patches import cut_patches, means
from stagewise.modules.stage_module import StageModule
from stagewise.pipeline import Pool, Spec, from_json, resolve, without_files
from stagewise.planning.build import make_network, reads_of
from stagewise.pooling import Pooling, pooled_channels
from stagewise.stages import load_weights
from stagewise.text import computed_text
from stagewise.training.feed import RawSource

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from stagewise.frozen.given_arrays import Held

# The rows of any files after a run's frozen stages, item by item and piece by piece, in bounded memory.


@dataclass(frozen=True)
class Embedding:
    """What is to be computed, before anything is.

    Attributes:
        keys: of the items, in order: paths as they were named.
        rows: of every item, int64; 1 where they are pooled.
        channels: C, twice as many of means and deviations.
        stage: whose rows they are.
        pool: "mean" gives the mean of an item's rows, "mean+std" also the deviation of every channel.
        chain: the frozen stages on top of the files.
        left_out: how many files are.
        grids: rows and columns of every image's patches, int64 (items, 2); None of audio, and of means.
        trained_at: of what size the images were that the stages were trained on; "" of audio.
    """

    keys: Sequence[str]
    rows: npt.NDArray[np.int64]
    channels: int
    stage: str
    pool: Pool | None
    chain: Chain
    left_out: int
    grids: npt.NDArray[np.int64] | None
    trained_at: str

    @property
    def arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """What is written beside the rows z.

        offsets: where each item's rows begin, and where the last ones end, int64 (items + 1,).
        keys: as UTF-8 bytes, one a line: an array of strings would give every one the room of the longest.
        grids: of images, int64 (items, 2).
        """
        offsets = np.concatenate([[0], np.cumsum(self.rows)])
        keys = np.frombuffer("\n".join(self.keys).encode(), np.uint8)
        return {"offsets": offsets, "keys": keys} | ({} if self.grids is None else {"grids": self.grids})

    def pieces(self, item: int) -> Iterator[Floats]:
        """Yield the rows of an item, float32 (n, C), piece by piece.

        Raises:
            DataError: its file cannot be read.
            NumberError: a row is NaN or infinite.
        """
        if self.pool is None:
            yield from self._checked(item)
            return
        pooling = Pooling(self.pool)
        for piece_nC in self._checked(item):
            pooling.add(piece_nC)
        yield pooling.vector()[None]

    def whole(self, item: int) -> Floats:
        """Return the rows of an item, float32 (rows, C), or (C,) where they are pooled; raises what `pieces` does."""
        rows_nC = np.concatenate(list(self.pieces(item)))
        return rows_nC if self.pool is None else rows_nC[0]

    def _checked(self, item: int) -> Iterator[Floats]:
        for piece_nC in self.chain.rows(item):
            if not np.isfinite(piece_nC).all():
                raise NumberError(
                    f"{self.keys[item]}: stage {self.stage} gives NaN or infinity. Listen to it, or look at it; leave "
                    "it out if it is no input of this kind."
                )
            yield piece_nC


def embedding(
    encoder: FrozenEncoder,
    paths: Sequence[str | Path],
    pool: Pool | None = None,
    report: Report = lambda *_, **__: None,
    skip: bool = False,
) -> Embedding:
    """Prepare the rows of files: look at all of them, and compute nothing yet.

    Args:
        encoder: the frozen stages, on the device to compute on.
        paths: files, and folders of them.
        pool: "mean" or "mean+std" for one row an item.
        report: told how many files were looked at, what is left out, and what is converted.
        skip: leave out files that cannot be used.

    Raises:
        ConfigError: there are no paths, or the run's data set does not say how a file is read.
        DataError: files cannot be used.
    """
    precisions = {network.name: network.precision for network in encoder.networks}
    report("note", text=computed_text(str(encoder.device), torch.get_num_threads(), precisions))
    return _embedding(encoder, _files(encoder, paths, report, skip), pool)


def embed_array(encoder: FrozenEncoder, given: Held, pool: Pool | None, sample_rate: object) -> Floats:
    """Return the rows of what a program holds, (rows, C), where a class of one's own says how it is read.

    Raises:
        ConfigError: the class is not there, or does not say how an array is read.
        InputError: it cannot be used.
        NumberError: a row is NaN or infinite.
    """
    return _embedding(encoder, own_array(given, encoder.facts, _short(encoder), sample_rate), pool).whole(0)


def _embedding(encoder: FrozenEncoder, dataset: Dataset, pool: Pool | None) -> Embedding:
    if pool not in (None, *get_args(Pool)):
        words = 'set it to "mean" or "mean+std", or leave it out for one row after another'
        raise ConfigError(f"pool is {pool!r}: {words}.")
    stages: Any = list(encoder.stages)
    chain = Chain(RawSource(dataset), stages, encoder.device, means=dataset.grids is not None)
    rows = np.ones_like(chain.lengths) if pool else chain.lengths
    size = trained_at(encoder.facts["reads"])
    grids = None if pool else dataset.grids
    channels = pooled_channels(chain.channels, pool)
    return Embedding(dataset.keys, rows, channels, encoder.name, pool, chain, len(dataset.bad), grids, size)


def _short(encoder: FrozenEncoder) -> Callable[[int], str | None]:
    def short(samples: int) -> str | None:
        if encoder.geometry.rows(samples):
            return None
        field = encoder.geometry.receptive_field
        return f"its {samples:,} samples give no row of stage {encoder.name}, one of which sees {field:,}"

    return short


def _files(encoder: FrozenEncoder, paths: Sequence[str | Path], report: Report, skip: bool) -> Dataset:
    facts, short = encoder.facts, _short(encoder)
    reads = facts["reads"]
    kind = kind_of(reads)
    if kind == "audio":
        return GivenAudio(paths, facts, short, report, skip)
    if kind == "image":
        return GivenImages(paths, facts, report, skip)
    if not reads["target"]:
        raise ConfigError("this export is older than this way of reading files: export it again, or give it tensors.")
    return own_files(paths, facts, short, report, skip)


# Frozen stages as one module, from the raw input to the representation of the topmost.


class FrozenEncoder(nn.Module):
    """x (B, C, T), standardised as the stages were trained on, → representation (B, D, rows).

    `embed` reads a file, and needs to know nothing of this.

    Attributes:
        name: of the topmost stage.
        hop: input samples between neighbouring rows.
        receptive_field: input samples that one row sees (a recurrent stage sees all before it, too).
        first: the first sample that row 0 sees; negative in the padding.
        sample_rate: samples per second of the input; None of images.
        mean, std: of the standardisation: x = (samples - mean) / std.
        channels: D.
        facts: `input` of the run's lock, and how files are read.
        networks: what the stages are made of, lowest first.
        origin: where its weights come from.
    """

    networks: Sequence[Network]
    origin: Origin

    def __init__(self, stages: Sequence[StageModule], facts: dict[str, Any], name: str) -> None:
        super().__init__()
        self.name, self.facts = name, facts
        self.stages = nn.ModuleList(stages)
        self.geometry = geometry = sum((stage.geometry for stage in stages), Geometry())
        self.hop, self.receptive_field, self.first = geometry.hop, geometry.receptive_field, geometry.first
        self.sample_rate: int | None = facts["sample_rate"] or None
        self.mean, self.std = facts["mean"], facts["std"]
        self.channels = stages[-1].out_channels
        self.requires_grad_(False)
        self.eval()

    def forward(self, x_BCT: Tensor) -> Tensor:
        """Return the representation, float32.

        Raises:
            InputError: x has another shape or type, or is too short for a row.
        """
        if not torch.compiler.is_compiling():  # a program is for sizes that are not known yet
            check_samples(x_BCT, self.facts["channels"], self._weight.dtype, self.geometry)
        return self._through(x_BCT)

    def _through(self, x_BCT: Tensor) -> Tensor:
        for stage in self.stages:
            x_BCT = stage(x_BCT)[1].float()
        return x_BCT

    @property
    def device(self) -> torch.device:
        """Where it is, and computes."""
        return self._weight.device

    @property
    def _weight(self) -> Tensor:
        return next(chain(self.parameters(), self.buffers()), torch.empty(0))

    def embed(
        self, given: str | Path | Held, pool: Pool | None = None, sample_rate: int | None = None
    ) -> npt.NDArray[np.float32]:
        """Return the representation of audio or an image, (rows, channels): what `stagewise embed` writes.

        A file is decoded, converted to the sample rate, to one channel or to grey, and to the size that the stages
        were trained on, standardised, and encoded piece by piece: it may be of any length. Rows of audio are `hop`
        samples of `sample_rate` apart; rows of an image are its patches, line by line.

        Args:
            given: the path of a file; or samples (T,), or stereo (T, 2) or (2, T), floats that are 1 at full scale or
                int16 or int32; or pixels (H, W) or (H, W, 3), uint8, or an image of Pillow: treated as the file would
                be. What a class of one's own takes is for its `read_file` and `read_array` to say.
            pool: "mean" gives the mean of its rows, (channels,); "mean+std" also their deviations, (2 · channels,).
            sample_rate: of samples; the encoder's own when left out. A file says its own.

        Raises:
            ConfigError: it is a folder, or the data set that the stages were trained on does not say how it is read.
            DataError: the file, or what was given, cannot be used.
            InputError: it is something else, or its sample rate is none.
            NumberError: a row is NaN or infinite.
        """
        from stagewise.frozen.given_arrays import as_file
        from stagewise.frozen.own_readers import kind_of

        reads, training = self.facts["reads"], self.training
        kind = kind_of(reads)
        own = kind is None and reads["target"]
        file: AbstractContextManager[Path]
        if is_held(given) and own:
            try:
                return embed_array(self.eval(), given, pool, sample_rate)
            finally:
                self.train(training)
        if is_held(given):
            file = as_file(given, kind, self.sample_rate, sample_rate)
        elif (named := check_path(given)).is_dir():
            raise ConfigError(f"{given} is a folder: name one file after another, or type `stagewise embed`.")
        elif sample_rate is not None:
            raise InputError(f"{given} says its own sample rate: leave sample_rate out.")
        else:
            file = nullcontext(named)
        try:
            with file as path:
                return embedding(self.eval(), [path], pool).whole(0)
        finally:
            self.train(training)


class FrozenPatches(FrozenEncoder):
    """x (B, C, H, W), standardised as the stages were trained on, → the mean of every patch (B, D, R, S).

    An image that is one patch alone gives its map (B, D, H', W').

    Attributes:
        hop: pixels between neighbouring patches.
        receptive_field: pixels that a patch is high and wide; 0 for the whole image.
    """

    def __init__(self, stages: Sequence[StageModule], facts: dict[str, Any], name: str) -> None:
        super().__init__(stages, facts, name)
        self.hop, self.receptive_field, self.first = facts["stride"], facts["patch"], 0

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return the representation, float32; raises what that of samples does."""
        if not torch.compiler.is_compiling():
            check_pixels(x_BCHW, self.facts["channels"], self._weight.dtype, self.receptive_field)
        if not self.receptive_field:
            return self._through(x_BCHW[:, :, None])[:, :, 0]
        patches_BRSCPP = cut_patches(x_BCHW, self.receptive_field, self.hop)
        z_BDT = means(self._through(patches_BRSCPP.flatten(1, 2).movedim(1, 2)))
        z_BDRS: Tensor = z_BDT.unflatten(2, patches_BRSCPP.shape[1:3])
        return z_BDRS


@dataclass(frozen=True)
class Network:
    """What a stage's network is made of.

    Attributes:
        name: of the stage.
        encoder: its class and arguments.
        context: likewise.
        precision: "float32" or "bfloat16", as it was resolved where the stage was trained.
    """

    name: str
    encoder: Spec | None
    context: Spec | None
    precision: str


@dataclass(frozen=True)
class Origin:
    """Where an encoder's weights come from.

    Attributes:
        pipeline: name of the one that trained them.
        tuned: whether they were changed since, before they were loaded.
        hashes: sha256 of the files that they were loaded from, by what begins the names of their tensors.
    """

    pipeline: str
    tuned: bool
    hashes: Mapping[str, str]


def _places(stage: str) -> Callable[[str], str]:
    return lambda key: f"{stage}.{key}" if key else stage


def build_encoder(networks: Sequence[Network], facts: dict[str, Any], name: str) -> FrozenEncoder:
    """Construct frozen stages on top of each other, with whatever weights come of it.

    Args:
        networks: lowest first.
        facts: `input` of the run's lock, and `reads`: how files are read.
        name: of the file that describes them, for messages.

    Raises:
        ConfigError: a target is no module, or its arguments are not usable.
    """
    shape, stages, kept = tuple(facts.get("row_shape") or [facts["channels"]]), list[StageModule](), list[Network]()
    with torch.random.fork_rng(devices=[]):
        for given in networks:
            network = _without_files(given, name)
            kept.append(network)
            precision = getattr(torch, network.precision)
            parts = network.encoder, network.context
            place = f"{name}: stage.{network.name}"
            stages.append(make_network(*parts, shape, precision, _places(place)))
            shape = stages[-1].out_shape
    encoder = (FrozenPatches if len(shape) == 3 else FrozenEncoder)(stages, facts, networks[-1].name)
    encoder.networks = kept
    return encoder


def _without_files(network: Network, name: str) -> Network:
    """Leave out files of weights: those that a run or an export holds are put in afterwards."""

    def left(spec: Spec | None, part: str) -> Spec | None:
        where = f"{name}: stage.{network.name}.{part}"
        return spec and without_files(resolve(spec.target, nn.Module, SHORT_NAMES, where), spec)

    return replace(network, encoder=left(network.encoder, "encoder"), context=left(network.context, "context"))


def load_encoder(locked: Mapping[str, Any], folders: Mapping[Path, str], name: str) -> FrozenEncoder:
    """Build the stages of a lock file and give them their frozen weights.

    Args:
        locked: what `pipeline.lock.json` says.
        folders: of as many stages as are wanted, and the sha256 of each one's weights.
        name: of the lock file, for messages.
    """
    pipeline = from_json(locked["pipeline"], name)
    networks = [
        Network(stage.name, stage.encoder, stage.context, facts["precision"])
        for stage, facts in zip(pipeline.stage, locked["stages"], strict=True)
    ]
    facts = {**locked["input"], "reads": reads_of(pipeline)}
    encoder = build_encoder(networks[: len(folders)], facts, name)
    for stage, folder in zip(encoder.stages, folders, strict=True):
        assert isinstance(stage, StageModule)
        load_weights(stage, folder)
    hashes = {f"stages.{number}.": sha256 for number, sha256 in enumerate(folders.values())}
    encoder.origin = Origin(pipeline.pipeline.name, False, hashes)
    return encoder
