"""What tells when a stage has converged: the same numbers whatever training left behind, of items that can tell."""

import torch
from tiny import TOML, write_pipeline

import stagewise
from stagewise.objectives import Objective, Score


class Restless(Objective):
    """Notes in what mode it is called, and draws from torch's own generator whatever the mode."""

    seen: list[tuple[bool, torch.Tensor]] = []  # noqa: RUF012

    def __init__(self, z_channels, c_channels):
        super().__init__()
        self.drop = torch.nn.Dropout(0.5)
        self.linear = torch.nn.Linear(c_channels, z_channels)

    def forward(self, z_BCT, c_BDT, generator=None):
        draw = torch.rand(())
        if type(draw) is torch.Tensor:  # no forecast of memory
            Restless.seen.append((self.training, draw))
        return Score(self.drop(self.linear(c_BDT.transpose(1, 2))).square().mean())


def test_an_objective_with_dropout_is_validated_without_it_and_with_the_same_draws_every_time(tmp_path):
    text = TOML.split('[[stage]]\nname = "two"')[0].replace("steps = 3\nnegatives = 4\n", "")
    text = text.replace("[defaults.objective]\n", '[defaults.objective]\ntarget = "test_training_validate:Restless"\n')
    Restless.seen = []
    stagewise.run(write_pipeline(tmp_path, text), run=tmp_path / "run", set={"defaults.train.optimizer.lr": 1e-9})
    modes = [training for training, _ in Restless.seen]
    validations = [draw.item() for training, draw in Restless.seen if not training]
    each = modes.index(True)  # batches of a validation
    assert len(validations) >= 3 * each > 0
    assert validations[:each] == validations[each : 2 * each] == validations[2 * each : 3 * each]
    assert True in modes
