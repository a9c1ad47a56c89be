"""README.md of an export, the model card: what the encoder was trained on and how, what it gives, how to load it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stagewise.embedding.given_images import trained_at
from stagewise.embedding.given_own import takes
from stagewise.show import bytes_text, counted

TUNED = (
    "**Tuned**: its weights were changed after stagewise had trained them. What was measured of them then (losses, "
    "probes) does not hold any more."
)
UNKNOWN = (
    "What it was trained on, and what was measured of it, stands in its run and in the model card of the run's export. "
    "All arguments of the networks are in config.json."
)


def model_card(
    settings: Mapping[str, Any], facts: Mapping[str, Any] | None, programs: Mapping[str, float | str]
) -> str:
    """Write the card.

    Args:
        settings: config.json.
        facts: what `inspect --json` says of the run, its objectives and seed, and the stages that were not trained, of
            random weights and of loaded ones; None where the run is not known.
        programs: by file, the largest difference from the encoder, or why it is not there.
    """
    names = [stage["name"] for stage in settings["stages"]]
    given, out = settings["input"], settings["output"]
    images = given.get("patch") is not None
    lines = [
        f"# {settings['pipeline']}: {names[-1]}",
        "",
        f"A frozen encoder, made with stagewise {settings['stagewise']}: {' → '.join(names)}.",
        "",
        *([TUNED, ""] if settings["tuned"] else []),
        "License: FILL IN",
        "",
        "```python",
        "import stagewise",
        'encoder = stagewise.load("PATH OF THIS FOLDER")  # a frozen torch.nn.Module',
        *_embedded(given),
        "```",
        "",
        f"Input of `encoder(x)`: float32 {_shape(given, images)}, standardised as "
        f"(input - {given['mean']}) / {given['std']}. Output: {_output(given, out, images)}.",
        "",
        *(_made(settings, facts, names) if facts is not None else [UNKNOWN, ""]),
    ]
    lines += ["## Files", "", "* `model.safetensors`, `config.json`: what `stagewise.load` reads, and checks"]
    for name, found in programs.items():
        least = "patches a side" if images else "rows"
        takes = "`torch.export.load`" if name.endswith(".pt2") else "ONNX Runtime"
        lines.append(
            f"* {found}"
            if isinstance(found, str)
            else f"* `{name}`: the same for {takes}, for inputs of two {least} or more; largest difference {found:.2g}"
        )
    return "\n".join(lines) + "\n"


def _made(settings: Mapping[str, Any], facts: Mapping[str, Any], names: list[str]) -> list[str]:
    """Say what it was trained on and how, and what probes gave."""
    lines = [
        "## Data",
        "",
        _data(facts.get("data"), settings["input"]),
        "",
        "## Stages",
        "",
        "| stage | network | objective | epochs | validation loss | memory of a training step |",
        "|---|---|---|---|---|---|",
    ]
    by_name = {stage["name"]: stage for stage in facts["stages"]}
    for stage in settings["stages"]:
        made, objective = by_name[stage["name"]], facts["objectives"].get(stage["name"], "")
        network = ", ".join(str(part["target"]) for part in (stage["encoder"], stage["context"]) if part)
        loss = made["train"]["validation_loss"]
        measured = made["memory"]["measured_peak_bytes"] or made["memory"]["predicted_peak_bytes"]
        shown = "" if loss is None else f"{loss:.3f}"
        epochs = made["train"]["epochs"]
        lines.append(f"| {stage['name']} | {network} | {objective} | {epochs} | {shown} | {bytes_text(measured)} |")
    if facts["untrained"]:
        lines += ["", f"**{', '.join(facts['untrained'])}: trained for no epoch, the weights are random.**"]
    if facts["loaded"]:
        lines += ["", f"{', '.join(facts['loaded'])}: trained for no epoch, the weights are as they were loaded."]
    lines += [
        "",
        f"All arguments of the networks are in config.json. The random seed was {facts['seed']}.",
        "",
        "## Probes",
        "",
    ]
    return [*lines, *_probes([probe for probe in facts["probes"] if probe["stage"] in names]), ""]


def _embedded(given: Mapping[str, Any]) -> list[str]:
    file = {"audio": "talk.flac", "image": "photograph.jpg", None: "FILE"}[given["reads"]["kind"]]
    return [f'rows = encoder.embed("{file}")  # float32 (rows, channels)'] if takes(given["reads"]) else []


def _shape(given: Mapping[str, Any], images: bool) -> str:
    if images:
        return f"(B, {given['channels']}, height, width) in [0, 1]"
    rate = f" at {given['sample_rate']:,} Hz" if given["sample_rate"] else ""
    return f"(B, {given['channels']}, samples){rate}"


def _output(given: Mapping[str, Any], out: Mapping[str, Any], images: bool) -> str:
    if images and not given["patch"]:
        return f"(B, {out['channels']}, rows, columns), the map of the whole image"
    if images:
        size, hop = out["receptive_field"], out["hop"]
        return f"(B, {out['channels']}, rows, columns), the mean of every patch of {size} × {size} every {hop} pixels"
    return (
        f"(B, {out['channels']}, rows), a row every {out['hop']:,} samples, which sees {out['receptive_field']:,} "
        "(with a recurrent stage all before it, too)"
    )


def _data(data: Mapping[str, Any] | None, given: Mapping[str, Any]) -> str:
    scale = ""
    if size := trained_at(given["reads"]):
        advice = "things should have about the size in pixels that they had there"
        scale = f" Trained on {size}: {'`encoder.embed` does that' if given['reads']['short_side'] else advice}."
    if data is None:
        return f"What it was trained on is not recorded.{scale}"
    rows = "samples" if given.get("patch") is None else "patches"
    items = f"{counted(data['items'], 'item')}, {data['samples']:,} {rows}"
    return f"{items}; fingerprint `{data['fingerprint'][:16]}`.{scale}"


def _probes(probes: list[Mapping[str, Any]]) -> list[str]:
    if not probes:
        return ["None were fitted on these stages."]
    rows = ["| probe | stage | value | 95 % interval | before training | majority | |", "|---|---|---|---|---|---|---|"]
    for probe in probes:
        low, high = probe["interval"]
        random = f"{probe['random']['value']:.3f}" if probe["random"] else ""
        shown = f"{probe['metric']} {probe['value']:.3f} | {low:.3f} – {high:.3f} | {random} | {probe['majority']:.3f}"
        rows.append(f"| {probe['name']} | {probe['stage']} | {shown} | {probe['words']} |")
    words = "Majority: always saying the training items' most frequent class. Before training: on the same stages then."
    return [*rows, "", words]
