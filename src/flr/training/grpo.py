"""Stage two: group-relative policy optimisation of the thought, on transformers.Trainer.

Where it departs from the textbook, and from published code:

1. The action is a vector: thoughts are drawn from a Gaussian around the reasoner's thought, and the update uses the
   ratio of densities in closed form (``latent``), or LatentR3's ratio of the title's likelihoods (``token``).
2. The backbone stands still, so a history is read once, without gradients; only [thought, title] runs for each of
   the G thoughts, and a reward that ranks reads only the part of the trie that can matter.
3. All thoughts of an optimiser step are tried out before its first gradient, so that the ``batch`` advantage compares
   over all devices and accumulation steps; noise derives from the number of a row. Results do not depend on how a
   batch is cut.
4. No dropout: the ratio starts at exactly 1 (``token``: to rounding). A ``token`` update holds to stage one by the
   sampled estimate of the divergence, ``latent`` by its closed form.
5. Where factors vote (``reasoner.memory``), rewards look at written titles alone: votes come from what is read, not
   from the thought that is drawn. Reading changes along with the reasoner; the guard watches the two together.
6. A guard validates, keeps the best weights, stage one's among them, and rolls back when the metric falls.

Launch: ``flr train --stage grpo --from RUN --output RUN2``.

Source: METHOD 7, Eqs. 10-13.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from flr.backbone.loading import add_lora, without_lora
from flr.backbone.streams import EncodedStreams
from flr.config import Config
from flr.errors import ConfigError, FlrError
from flr.model import FLRModel
from flr.reasoner.policy import divergence, effective_rank, log_ratio, sample_thoughts
from flr.records import PackedBatch
from flr.scoring.likelihood import ChildTable
from flr.training.advantages import NO_SPREAD, batch_advantages, batch_statistics, group_advantages
from flr.training.guard import Guard
from flr.training.rewards import DivergedError, Reward
from flr.training.rollouts import Environment, PolicyBatch, Rollout, draw_noise, per_target, target_of_choice
from flr.training.trainer import PackedTrainer
from flr.training.validation import summed_over_processes

#: Log-ratios are cut here before they are exponentiated; far beyond any clip, far below overflow.
_MAX_LOG_RATIO = 20.0


def clipped_surrogate(log_ratios: Tensor, advantages: Tensor, low: float, high: float) -> tuple[Tensor, Tensor]:
    """Return min(ratio A, clip(ratio) A), and where the clip decides, both in the shape of the ratios.

    Source: METHOD Eq. 12.

    Args:
        log_ratios: log pi_new - log pi_old.
        advantages: A, same shape.
        low, high: Ratios count from 1 - low to 1 + high.

    A ratio of 2 is worth 1.2 of a good thought, and all of a bad one:

    >>> value, clipped = clipped_surrogate(torch.tensor([2.0, 2.0]).log(), torch.tensor([1.0, -1.0]), 0.2, 0.2)
    >>> [round(v, 6) for v in value.tolist()], clipped.tolist()
    ([1.2, -2.0], [True, False])
    """
    ratios = log_ratios.clamp(-_MAX_LOG_RATIO, _MAX_LOG_RATIO).exp()
    plain, cut = ratios * advantages, ratios.clamp(1 - low, 1 + high) * advantages
    return torch.minimum(plain, cut), cut < plain


def sampled_divergence(new: Tensor, reference: Tensor) -> Tensor:
    """Return the k3 estimate of KL(new || reference) from log-probabilities of samples, never negative.

    exp(d) - d - 1 with d = log p_reference - log p_new (Schulman 2020).

    >>> sampled_divergence(torch.tensor([-1.0]), torch.tensor([-1.0])).item()
    0.0
    """
    difference = (reference - new).clamp(max=_MAX_LOG_RATIO)
    return difference.exp() - difference - 1


class PolicyModule(nn.Module):
    """What the Trainer sees: the model, the reasoner of stage one, and the losses of the policy.

    Args:
        model: The model of stage one; its backbone is frozen or, with ``grpo.train = "lora"``, given LoRA matrices.
        config: Settings.

    Raises:
        ConfigError: The model has no thought to optimise, or LoRA is asked for without peft.
    """

    def __init__(self, model: FLRModel, config: Config) -> None:
        super().__init__()
        if model.reasoner is None:
            raise ConfigError(
                "reasoner.kind = 'none' has no thought to optimise; stage two needs a run of a factorized reasoner"
            )
        self.model, self.settings = model, config.grpo
        self.reference = copy.deepcopy(model.reasoner).requires_grad_(False)
        model.backbone.requires_grad_(False)
        if model.memory is not None:  # the policy is over titles: votes have no part in it
            model.memory.requires_grad_(False)
        self.adapts_backbone = self.settings.train == "lora"
        if self.adapts_backbone:
            add_lora(model.backbone, config.backbone)
        with torch.no_grad():
            self.embedding_rms = float(model.backbone.embedding.weight.float().square().mean().sqrt())
        self.sigma = self.settings.sigma * self.embedding_rms

    def train(self, mode: bool = True) -> PolicyModule:
        """Leave the model in evaluation mode: what tries thoughts out and what learns from them must be one policy."""
        super().train(mode)
        self.model.eval()
        self.reference.eval()
        return self

    def roll_out(self, batch: PolicyBatch, environment: Environment, reward: Reward) -> Rollout:
        """Try out a group of thoughts for every target; advantages are left for later.

        Call it without gradients.
        """
        packed = batch.packed
        streams = self.model.encode(packed)
        old = self._thoughts(packed, streams)
        reference = self._reference_thoughts(packed, streams)
        shape = (old.shape[-2], old.shape[-1])
        noise = draw_noise(packed.target_mask, batch.row_seeds, self.settings.group_size, shape)
        choices, outcome = environment.try_out(batch, streams, sample_thoughts(old, noise, self.sigma))
        reference_choices = None
        if self.settings.update == "token" and self.settings.beta > 0:
            thoughts = sample_thoughts(reference, noise, self.sigma)
            reference_choices = self._choices(packed, streams, thoughts, environment.compiled.table)
        return Rollout(
            streams, noise, old, reference, choices, reference_choices, reward(outcome), advantages=old.new_empty(0)
        )

    def _thoughts(self, batch: PackedBatch, streams: EncodedStreams, *, of_stage_one: bool = False) -> Tensor:
        """Return a thought for every target, float32, [B, P, n_thoughts, D]."""
        reasoner = self.reference if of_stage_one else self.model.reasoner
        assert reasoner is not None
        hidden = streams.hidden.to(reasoner.out.weight.dtype)
        readable = self.model.readable(batch)
        vectors: Tensor = reasoner(hidden, readable, batch.target_ends, places=batch.stream_places).vectors
        return vectors.float()

    def _reference_thoughts(self, batch: PackedBatch, streams: EncodedStreams) -> Tensor:
        if not self.adapts_backbone:
            return self._thoughts(batch, streams, of_stage_one=True)
        with without_lora(self.model.backbone):
            return self._thoughts(batch, self.model.encode(batch), of_stage_one=True)

    def _choices(self, batch: PackedBatch, streams: EncodedStreams, thoughts: Tensor, table: ChildTable) -> Tensor:
        """Return the log-probability of each choice under each thought, [G, C]."""
        return torch.stack([self.model.write(batch, streams, vectors, table).log_probs for vectors in thoughts])

    def forward(self, batch: PackedBatch, rollout: Rollout, table: ChildTable) -> dict[str, Tensor]:
        """Return ``loss`` and its parts, ``policy``, ``kl`` and ``clip_share``, each summed over the targets.

        Args:
            batch: The targets.
            rollout: Their thoughts, with advantages.
            table: Children of the catalogue's trie.
        """
        streams = self.model.encode(batch) if self.adapts_backbone else rollout.streams
        new = self._thoughts(batch, streams)
        if self.settings.update == "latent":
            surrogate, clipped, kl = self._latent(batch, rollout, new)
        else:
            surrogate, clipped, kl = self._token(batch, rollout, streams, new, table)
        return {
            "loss": -surrogate + self.settings.beta * kl,
            "policy": -surrogate.detach(),
            "kl": kl.detach(),
            "clip_share": clipped.detach(),
        }

    def _latent(self, batch: PackedBatch, rollout: Rollout, new: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mask = batch.target_mask
        samples = sample_thoughts(rollout.old, rollout.noise, self.sigma)
        ratios = log_ratio(samples, new, rollout.old, self.sigma)[:, mask].T
        surrogate, clipped = clipped_surrogate(
            ratios, rollout.advantages, self.settings.clip_low, self.settings.clip_high
        )
        kl = divergence(new, rollout.reference, self.sigma)[mask].sum()
        return surrogate.mean(-1).sum(), clipped.float().mean(-1).sum(), kl

    def _token(
        self, batch: PackedBatch, rollout: Rollout, streams: EncodedStreams, new: Tensor, table: ChildTable
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return sums over targets of means over thoughts and choices."""
        choices = self._choices(batch, streams, sample_thoughts(new, rollout.noise, self.sigma), table)
        owners = target_of_choice(batch)
        surrogate, clipped = clipped_surrogate(
            choices - rollout.choice_log_probs,
            rollout.advantages[owners].T,
            self.settings.clip_low,
            self.settings.clip_high,
        )
        n_choices = torch.bincount(owners, minlength=len(rollout.advantages)).clamp(min=1)[:, None]

        def averaged(values: Tensor) -> Tensor:
            return (per_target(batch, values) / n_choices).mean(-1).sum()

        if rollout.reference_log_probs is None:
            kl = surrogate.new_zeros(())
        else:
            kl = averaged(sampled_divergence(choices, rollout.reference_log_probs))
        return averaged(surrogate), averaged(clipped.float()), kl


class PolicyTrainer(PackedTrainer):
    """Tries out thoughts, then updates the policy; guarded.

    Args:
        environment: What answers a thought.
        reward: What it earns.
        guard: Keeps the best weights.
        arguments: As for `PackedTrainer`; the model is a `PolicyModule`.
    """

    model: PolicyModule

    def __init__(self, *, environment: Environment, reward: Reward, guard: Guard, **arguments: Any) -> None:
        super().__init__(table=environment.compiled.table, **arguments)
        self.environment, self.reward, self.guard = environment, reward, guard
        self.add_callback(guard)
        self._batches: list[dict[str, Any]] = []

    def get_batch_samples(
        self, epoch_iterator: Iterator[dict[str, Any]], num_batches: int, device: torch.device
    ) -> tuple[list[dict[str, Any]], Any]:
        """Return the batches of an optimiser step, each with its rollout."""
        batches, n_targets = super().get_batch_samples(epoch_iterator, num_batches, device)
        if not self._batches or self.state.global_step % self.model.settings.updates_per_rollout == 0:
            prepared = [PolicyBatch.of(self._prepare_inputs(batch)) for batch in batches]
            rollouts = self._roll_out(prepared)
            if rollouts is None:
                self.guard.roll_back(self.optimizer, self.lr_scheduler)
                rollouts = self._roll_out(prepared)
            if rollouts is None:
                raise FlrError("titles have no probability with the best weights either; train stage one again")
            self._batches = [{**batch, "rollout": rollout} for batch, rollout in zip(batches, rollouts, strict=True)]
        return self._batches, n_targets

    def _roll_out(self, batches: list[PolicyBatch]) -> list[Rollout] | None:
        """Return rollouts with advantages; None where any process found no probabilities."""
        rollouts: list[Rollout]
        try:
            with torch.no_grad(), self.accelerator.autocast():
                rollouts = [self.model.roll_out(batch, self.environment, self.reward) for batch in batches]
        except DivergedError:
            rollouts = []
        if float(summed_over_processes(torch.tensor([float(not rollouts)]), self.accelerator)):
            return None
        if self.model.settings.advantage == "group":
            return [replace(rollout, advantages=group_advantages(rollout.rewards)) for rollout in rollouts]
        parts = torch.stack([batch_statistics(rollout.rewards) for rollout in rollouts]).sum(0)
        whole = summed_over_processes(parts, self.accelerator)
        return [replace(rollout, advantages=batch_advantages(rollout.rewards, whole)) for rollout in rollouts]

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Return the loss whose gradients, averaged over devices and summed over accumulation, are the mean's."""
        assert num_items_in_batch is not None
        batch, rollout = PolicyBatch.of(inputs).packed, inputs["rollout"]
        losses = model(batch, rollout, self.table)
        parts = {name: loss for name, loss in losses.items() if name != "loss"}
        self.count(parts | self._record(batch, rollout), batch.target_mask.sum())
        loss = losses["loss"] / num_items_in_batch * self.accelerator.num_processes
        return (loss, losses) if return_outputs else loss

    def _record(self, batch: PackedBatch, rollout: Rollout) -> dict[str, Tensor]:
        """Return what the flight recorder keeps of a rollout, summed over targets."""
        rewards, thoughts = rollout.rewards, rollout.old[batch.target_mask].flatten(1)
        spread = rewards.std(-1, correction=0)
        return {
            "reward": rewards.mean(-1).sum(),
            "reward_noiseless": rewards[:, 0].sum(),
            "reward_noised": rewards[:, 1:].mean(-1).sum(),
            "reward_spread": spread.sum(),
            "zero_advantage": (spread <= NO_SPREAD).float().sum(),
            "thought_norm": thoughts.square().mean(-1).sqrt().sum() / self.model.embedding_rms,
            "effective_rank": effective_rank(thoughts) * len(thoughts),
        }

    def validate(self) -> dict[str, float]:
        """Return the validation metrics; all 0 where training has produced weights that are no numbers."""
        if self.guard.is_finite():
            return super().validate()
        return dict.fromkeys(self.guard.best_metrics, 0.0)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        if self.args.should_save:
            self.guard.save(Path(self.args.output_dir), self.state.global_step)
        super()._save_checkpoint(model, trial)
