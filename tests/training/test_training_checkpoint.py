"""Two slots: one of them is always whole, and what is restored is what was saved, to the last bit."""

import json

import optimizers
import pytest
import torch
from torch import nn

from stagewise.errors import IntegrityError
from stagewise.training.checkpoint import (
    Checkpoint,
    load_checkpoint,
    read_tensors,
    restore,
    save_checkpoint,
    state_of,
    write_tensors,
)


def checkpoint(number):
    progress = {"epoch": number, "sums": {"loss": 0.1 + number}, "history": [{"epoch": 0, "loss": 1 / 3}]}
    return Checkpoint(number, progress, {"stage.weight": torch.full((3, 2), float(number))})


def save(folder, *numbers):
    for number in numbers:
        save_checkpoint(folder, checkpoint(number))


def assert_is(found, number):
    expected = checkpoint(number)
    assert (found.number, found.progress) == (expected.number, expected.progress)
    torch.testing.assert_close(found.tensors, expected.tensors, rtol=0, atol=0)


def flip(path, bit):
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def test_nothing_saved(tmp_path):
    assert load_checkpoint(tmp_path) == (None, [])


def test_slots_alternate_and_the_newest_is_used(tmp_path):
    for number in range(1, 5):
        save(tmp_path, number)
        found, discarded = load_checkpoint(tmp_path)
        assert_is(found, number)
        assert discarded == []
    numbers = {s: json.loads((tmp_path / s / "state.json").read_text())["number"] for s in "ab"}
    assert numbers == {"a": 4, "b": 3}
    assert sorted(p.name for p in tmp_path.rglob("*") if p.is_file()) == [
        *["state.json"] * 2,
        *["state.safetensors"] * 2,
    ]


@pytest.mark.parametrize("name", ["state.json", "state.safetensors"])
def test_any_flipped_bit_is_noticed(tmp_path, name):
    save(tmp_path, 1, 2)
    path = tmp_path / "a" / name
    bits = 8 * path.stat().st_size
    for bit in range(0, bits, max(1, bits // 150)):
        flip(path, bit)
        found, discarded = load_checkpoint(tmp_path)
        # A bit that turns white space into other white space harms nobody.
        if name == "state.json" and found.number == 2:
            assert_is(found, 2)
        else:
            assert_is(found, 1)
            assert len(discarded) == 1
            assert discarded[0].startswith(f"checkpoint {tmp_path / 'a'} is discarded: ")
        flip(path, bit)


@pytest.mark.parametrize(
    "harm",
    [
        lambda slot: (slot / "state.json").unlink(),
        lambda slot: (slot / "state.safetensors").unlink(),
        lambda slot: (slot / "state.json").write_text("[1, 2]"),
        lambda slot: (slot / "state.json").write_text("7"),
        lambda slot: (slot / "state.json").write_text('{"format": 1, "number": 2}'),
        lambda slot: (slot / "state.json").write_bytes(b"\xff\xfe"),
        lambda slot: (slot / "state.safetensors").write_bytes(b"cos\nsystem\n(S'true'\ntR."),
        lambda slot: (slot / "state.safetensors").write_bytes(b""),
    ],
)
def test_a_damaged_newest_slot_gives_way_to_the_older_one(tmp_path, harm):
    save(tmp_path, 1, 2)
    harm(tmp_path / "a")
    found, discarded = load_checkpoint(tmp_path)
    assert_is(found, 1)
    assert len(discarded) == 1
    assert discarded[0].startswith(f"checkpoint {tmp_path / 'a'} is discarded: ")
    save(tmp_path, 2)  # training goes on from 1 and replaces what is damaged
    found, discarded = load_checkpoint(tmp_path)
    assert_is(found, 2)
    assert discarded == []


def test_two_damaged_slots(tmp_path):
    save(tmp_path, 1, 2)
    for slot in "ab":
        flip(tmp_path / slot / "state.safetensors", 77)
    found, discarded = load_checkpoint(tmp_path)
    assert found is None
    assert [line.split(" is discarded: ")[1] for line in discarded] == [
        f"{tmp_path / slot / 'state.safetensors'} is not what was written." for slot in "ab"
    ]


def test_an_interrupted_save_leaves_the_other_slot(tmp_path, monkeypatch):
    save(tmp_path, 1, 2)
    before = {p: p.read_bytes() for p in (tmp_path / "a").iterdir()}
    monkeypatch.setattr("stagewise.durable.write_json", lambda *_: pytest.fail("killed here"))
    with pytest.raises(pytest.fail.Exception):
        save(tmp_path, 3)
    assert {p: p.read_bytes() for p in (tmp_path / "a").iterdir()} == before
    found, discarded = load_checkpoint(tmp_path)
    assert_is(found, 2)
    assert len(discarded) == 1
    assert "state.json is missing. The other slot is used." in discarded[0]


def train(module, optimizer, steps):
    for step in range(steps):
        optimizer.zero_grad()
        module(torch.randn(4, 3, generator=torch.Generator().manual_seed(step))).square().sum().backward()
        optimizer.step()


@pytest.mark.parametrize("kind", optimizers.USABLE)
@pytest.mark.parametrize("steps", [0, 3])
def test_going_on_is_as_if_never_stopped(tmp_path, kind, steps):
    def made():
        torch.manual_seed(0)
        module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
        return module, kind(module.parameters(), lr=1e-2)

    module, optimizer = made()
    train(module, optimizer, steps)
    save_checkpoint(tmp_path, Checkpoint(1, {}, state_of({"stage": module}, optimizer)))
    train(module, optimizer, 2)

    again, other = made()
    train(again, other, 1)  # whatever was there is replaced
    restore(load_checkpoint(tmp_path)[0].tensors, {"stage": again}, other)
    train(again, other, 2)
    ours, theirs = state_of({"stage": again}, other), state_of({"stage": module}, optimizer)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_the_same_tensors_give_the_same_bytes(tmp_path):
    a, b = torch.randn(3, 4), torch.arange(5)
    one = write_tensors(tmp_path / "1", {"a": a.T, "b": b})
    two = write_tensors(tmp_path / "2", {"b": b, "a": a.T.clone()})
    assert one == two
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()
    assert torch.equal(read_tensors(tmp_path / "1")["a"], a.T)


def test_tied_weights_are_saved(tmp_path):
    module = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    module[1].weight = module[0].weight
    write_tensors(tmp_path / "t", module.state_dict())
    back = read_tensors(tmp_path / "t")
    assert torch.equal(back["0.weight"], back["1.weight"])
    restore({f"stage.{k}": v for k, v in back.items()}, {"stage": module}, None)
    assert module[1].weight is module[0].weight


def test_a_pickle_is_refused_unread(tmp_path):
    torch.save({"a": torch.zeros(2)}, tmp_path / "x.safetensors")
    with pytest.raises(IntegrityError) as raised:
        read_tensors(tmp_path / "x.safetensors")
    assert str(raised.value).startswith(f"{tmp_path / 'x.safetensors'} is damaged (")
    assert str(raised.value).endswith("Delete its stage's folder, then type the command again.")


def test_weights_of_another_module_are_refused():
    tensors = state_of({"stage": nn.Linear(3, 2)}, None)
    with pytest.raises(IntegrityError, match="^stored weights do not fit stage: ") as raised:
        restore(tensors, {"stage": nn.Linear(4, 2)}, None)
    assert str(raised.value).endswith("Delete its stage's folder, then type the command again.")


def test_nothing_is_pickled(tmp_path):
    module = nn.Linear(3, 2)
    optimizer = torch.optim.Adam(module.parameters())
    train(module, optimizer, 1)
    save_checkpoint(tmp_path, Checkpoint(1, {"epoch": 1}, state_of({"stage": module}, optimizer)))
    for path in (p for p in tmp_path.rglob("*") if p.is_file()):
        content = path.read_bytes()
        assert not content.startswith((b"\x80", b"PK"))
        header = content[8:] if path.suffix == ".safetensors" else content
        assert header.startswith(b"{")
