"""An encoder as a program of its own: model.pt2 for torch without our code, model.onnx for the rest.

Legend: B items, C or D channels, T rows, H × W pixels, R × S grid of patches, P pixels of a patch's side.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stagewise.errors import ConfigError, Interrupted
from stagewise.frozen.encoder import FrozenEncoder, FrozenPatches
from stagewise.modules.audio import GRU
from stagewise.modules.stage_module import StageModule
from stagewise.text import printable

# The same numbers as a frozen encoder's, in a form that can be written down as a program for inputs of any size.


class PortableGRU(nn.Module):
    """z (B, C, T) → c (B, D, T), as a loop: torch's own GRU is unrolled when it is traced, for one length alone.

    Args:
        module: what it is made of; its weights are shared.
    """

    def __init__(self, module: GRU) -> None:
        super().__init__()
        weights = dict(module.gru.named_parameters())
        self.weight_in, self.bias_in = weights["weight_ih_l0"], weights["bias_ih_l0"]
        self.weight_state, self.bias_state = weights["weight_hh_l0"], weights["bias_hh_l0"]

    def forward(self, z_BCT: Tensor) -> Tensor:
        """Return c."""
        from torch._higher_order_ops.scan import scan

        def step(state_BD: Tensor, given_BG: Tensor) -> tuple[Tensor, Tensor]:
            reset_BD, update_BD, new_BD = given_BG.chunk(3, -1)
            from_reset_BD, from_update_BD, from_new_BD = F.linear(state_BD, self.weight_state, self.bias_state).chunk(
                3, -1
            )
            reset_BD, update_BD = torch.sigmoid(reset_BD + from_reset_BD), torch.sigmoid(update_BD + from_update_BD)
            new_BD = torch.tanh(new_BD + reset_BD * from_new_BD)
            state_BD = (state_BD - new_BD) * update_BD + new_BD
            return state_BD, state_BD.clone()

        given_TBG = F.linear(z_BCT.permute(2, 0, 1), self.weight_in, self.bias_in)
        first_BD = z_BCT.new_zeros(z_BCT.shape[0], self.weight_state.shape[1])
        c_TBD: Tensor = scan(step, first_BD, given_TBG, dim=0)[1]
        return c_TBD.permute(1, 2, 0)


class PortableRows(nn.Module):
    """x (B, C, T) → representation (B, D, rows), in float32 throughout.

    Args:
        encoder: what it is made of; its weights are shared.
    """

    def __init__(self, encoder: FrozenEncoder) -> None:
        super().__init__()
        blocks = [block.module for stage in _stages(encoder) for block in stage.blocks]
        self.parts = nn.ModuleList([PortableGRU(each) if isinstance(each, GRU) else each for each in blocks])

    def forward(self, x_BCT: Tensor) -> Tensor:
        """Return the representation."""
        for part in self.parts:
            x_BCT = part(x_BCT)
        return x_BCT


class PortablePatches(nn.Module):
    """x (B, C, H, W) → the mean of every patch (B, D, R, S), all patches of the images at once, in float32.

    An image that is one patch alone gives its map (B, D, H', W').

    Args:
        encoder: what it is made of; its weights are shared.
    """

    def __init__(self, encoder: FrozenPatches) -> None:
        super().__init__()
        self.parts = nn.ModuleList([stage.encoder for stage in _stages(encoder) if stage.encoder is not None])
        self.patch, self.stride = encoder.receptive_field, encoder.hop

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return the representation."""
        if not self.patch:
            return self._encode(x_BCHW)
        x_BCRSPP = x_BCHW.unfold(2, self.patch, self.stride).unfold(3, self.patch, self.stride)
        x_BRSCPP = x_BCRSPP.permute(0, 2, 3, 1, 4, 5)
        B, R, S = x_BRSCPP.shape[:3]
        z_ND = self._encode(x_BRSCPP.flatten(0, 2)).mean((2, 3))
        return z_ND.reshape(B, R, S, -1).permute(0, 3, 1, 2)

    def _encode(self, x_NCHW: Tensor) -> Tensor:
        for part in self.parts:
            x_NCHW = part(x_NCHW)
        return x_NCHW


def portable(encoder: FrozenEncoder) -> nn.Module:
    """Return an encoder's portable form."""
    made = PortablePatches(encoder) if isinstance(encoder, FrozenPatches) else PortableRows(encoder)
    return made.eval()


def _stages(encoder: FrozenEncoder) -> list[StageModule]:
    stages = []
    for stage in encoder.stages:
        assert isinstance(stage, StageModule)
        stages.append(stage)
    return stages


# A portable encoder written down as a program: model.pt2 for torch without our code, model.onnx for the rest.
#
# Both take inputs of any size from two rows on, or two patches a side, and are compared with the encoder itself before
# they are kept.

TOLERANCE = {"float32": 1e-5, "bfloat16": 5e-2}  # of the largest value: a program computes in float32 throughout
SMALLEST = 1e-12  # differences that are none, where all values are 0
Compute = Callable[[Tensor], Tensor]


def write_program(encoder: FrozenEncoder, row_shape: tuple[int, ...], path: Path) -> str | float:
    """Write model.pt2: what torch.export makes of an encoder.

    Args:
        encoder: the frozen stages, on the CPU.
        row_shape: of one row of its input.
        path: of the file.

    Returns:
        The largest difference from the encoder, or, if there is no file, a sentence that says why.

    Raises:
        Interrupted: a second signal asked to stop.
    """
    try:
        with _quiet():
            program = _traced(encoder, row_shape)
            program._example_inputs = None  # they would be the only thing in the file that is not plain bytes
            torch.export.save(program, path)
            found = torch.export.load(path).module()
            return _checked(found, encoder, row_shape)
    except Interrupted:
        raise
    except Exception as error:  # whatever torch.export makes of a module
        path.unlink(missing_ok=True)
        return _left_out(path, error)


def write_onnx(encoder: FrozenEncoder, row_shape: tuple[int, ...], path: Path) -> str | float:
    """Write model.onnx, with the weights in it, and run it with onnxruntime; returns what `write_program` does."""
    try:
        import onnxruntime

        with _quiet():
            x, sizes = example(encoder, row_shape)
            names: dict[str, Any] = {"input_names": ["x"], "output_names": ["z"]}
            made = torch.onnx.export(
                portable(encoder), (x,), dynamo=True, dynamic_shapes=(sizes,), verbose=False, **names
            )
            assert made is not None
            made.save(path, external_data=False)
            session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
            return _checked(lambda x: torch.from_numpy(session.run(None, {"x": x.numpy()})[0]), encoder, row_shape)
    except Interrupted:
        raise
    except Exception as error:  # as above
        path.unlink(missing_ok=True)
        return _left_out(path, error)


def check_onnx() -> None:
    """See that what model.onnx needs is installed.

    Raises:
        ConfigError: it is not.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f"model.onnx needs {error.name}: type `pip install 'stagewise[onnx]'`, or do without (--onnx, onnx=True)."
        ) from None


@contextmanager
def _quiet() -> Iterator[None]:
    """Let torch keep to itself what it says and draws of what it does inside: what comes out is compared.

    Streams and logging are the whole process's: not for several threads.
    """
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _traced(encoder: FrozenEncoder, row_shape: tuple[int, ...]) -> Any:
    x, sizes = example(encoder, row_shape)
    return torch.export.export(portable(encoder), (x,), dynamic_shapes=(sizes,), strict=False)


def example(encoder: FrozenEncoder, row_shape: tuple[int, ...]) -> tuple[Tensor, dict[int, Any]]:
    """Return two items of a usual size, and which of their sizes may be others."""
    free = torch.export.Dim.DYNAMIC
    if len(row_shape) == 1:
        return torch.zeros(2, row_shape[0], encoder.receptive_field + 24 * encoder.hop), {0: free, 2: free}
    channels, side, _ = row_shape
    return torch.zeros(2, channels, side + 3 * encoder.hop, side + 4 * encoder.hop), {0: free, 2: free, 3: free}


def _checked(compute: Compute, encoder: FrozenEncoder, row_shape: tuple[int, ...]) -> float:
    """Return the largest difference on items of several sizes.

    Raises:
        ValueError: it is too large, or no number.
    """
    random = torch.Generator().manual_seed(0)
    low = any(stage.precision != torch.float32 for stage in encoder.stages)
    most, largest = 0.0, 0.0
    side = row_shape[-1] + encoder.hop  # two patches: torch.export takes a single one for a case of its own
    for items, more in ((1, 1), (3, 13), (1, 101)):
        if len(row_shape) == 1:
            shape: tuple[int, ...] = (items, row_shape[0], encoder.receptive_field + more * encoder.hop + more % 7)
        else:
            shape = (items, row_shape[0], side + more % 50, side + more // 3)
        x = torch.randn(shape, generator=random)
        wanted, found = encoder(x), compute(x)
        if wanted.shape != found.shape:
            raise ValueError(f"it gives {tuple(found.shape)} where the encoder gives {tuple(wanted.shape)}")
        if not (wanted.isfinite().all() and found.isfinite().all()):
            raise ValueError("it gives NaN or infinity, or the encoder does")
        most = max(most, float((wanted - found).abs().max()))
        largest = max(largest, float(wanted.abs().max()))
    if most > max(SMALLEST, TOLERANCE["bfloat16" if low else "float32"] * largest):
        raise ValueError(f"it differs from the encoder by {most:.2g}, where the largest value is {largest:.2g}")
    return most


def _left_out(path: Path, error: Exception) -> str:
    reason: BaseException = error
    while reason.__cause__ is not None:  # torch wraps it in coloured words that say which of its own steps failed
        reason = reason.__cause__
    words = str(reason).strip().split("\n", 1)[0][:300] or type(reason).__name__
    return f"{path.name} is left out: {printable(words).rstrip('.')}."
