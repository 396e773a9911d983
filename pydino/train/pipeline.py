"""From a pre-training directory to the views of every step: source, order, crops, augmentation."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from pydino.base import UserError, plural, warn
from pydino.data import (
    CONTEXT_SECONDS,
    AudioSet,
    AugmentationData,
    CopyPaste,
    EpochSampler,
    Labels,
    Partners,
    Source,
    TrainingSet,
    ViewMaker,
    ViewSampler,
    WaveformViews,
    view_numbers,
)
from pydino.infer import FrontEndConfig, check_front_end
from pydino.models import build_encoder, input_kind

from .config import TrainingConfig
from .distributed import DistributedContext


@dataclass
class Pipeline:
    """The data of a run.

    Attributes:
        config: of the run, with the batch size that the data allow.
        sampler: batches by step.
        views: makes the views of a batch.
        feature_dim: F.
        steps_per_epoch, total_steps: of the run.
    """

    config: TrainingConfig
    sampler: ViewSampler
    views: ViewMaker
    feature_dim: int

    @property
    def source(self) -> Source:
        return self.sampler.dataset

    @property
    def steps_per_epoch(self) -> float:
        return len(self.source) / self.config.batch_size

    @property
    def total_steps(self) -> int:
        return max(1, round(self.config.epochs * self.steps_per_epoch))


def open_pipeline(
    config: TrainingConfig,
    data: Path,
    front_end: FrontEndConfig,
    seed: int,
    distributed: DistributedContext,
    allow_pipes: bool = False,
    only: np.ndarray | None = None,
    labels: Labels | None = None,
) -> Pipeline:
    """Open the data of a run: stored features, or recordings and what they are augmented with.

    Args:
        config: of the run.
        data: pre-training directory.
        front_end: how its features were made.
        seed: of every draw.
        distributed: this process among others.
        allow_pipes: run commands in wav.scp.
        only: hashes of the utterances to train on; None: all.
        labels: classes or clusters of the utterances, which partners are chosen by.

    Raises:
        UserError: the directory cannot be trained on, or the batch cannot be divided.
    """
    check_front_end(config.encoder, front_end, data)
    options, groups = front_end.feature_options(), config.view_groups
    shift, waveforms = options.frame_shift / 1000, None
    if config.input == "features":
        source = TrainingSet(data, only)
        dim = source.dim
    else:
        reverberant = any(group.waveform.reverberation_probability for group in groups)
        source = AudioSet(data, options, CONTEXT_SECONDS if reverberant else 0.0, allow_pipes, only)
        augmentation_data = AugmentationData(
            config.augmentation_data, options, config.longest_seconds, seed, distributed.device
        )
        waveforms = WaveformViews(
            list(zip(view_numbers(groups), [group.waveform for group in groups], strict=True)),
            options,
            augmentation_data,
            config.speed_factors,
            seed,
            distributed.device,
            [group.owner for group in groups],
            input_kind(config.encoder),
        )
        dim = waveforms.dim
    shares = distributed.size * config.compute.accumulation
    size = fitting_batch_size(config.batch_size, len(source), shares)
    if size != config.batch_size:
        if distributed.first:
            warn(
                f"batch_size: {config.batch_size} is more than the {len(source)} utterances of {data}; the "
                "run takes "
                f"batches of {size}"
            )
        config = replace(config, batch_size=size)
    if config.copy_paste.probability and labels is None:
        raise UserError("copy_paste chooses partners by their class, and this task has numbers; remove it")
    copy_paste = (
        CopyPaste(config.copy_paste, source.hashes, labels, seed) if config.copy_paste.probability else None
    )
    partners: np.ndarray | CopyPaste | Partners | None = copy_paste
    if config.positive_sampling is not None:
        partners = np.arange(len(source))  # until others are found
    elif partners is None and any(group.owner == "partner" for group in groups):
        classes = labels.of(source.hashes)
        partners = Partners(source.hashes, classes, labels.num_classes, seed, "partner of the cluster")
    sampler = ViewSampler(
        source,
        config.crops,
        groups,
        EpochSampler(source.hashes, config.batch_size, seed, config.order),
        shift,
        seed,
        config.speed_factors,
        distributed.rank,
        distributed.size,
        config.compute.accumulation,
        partners,
        least_frames(config, dim),
    )
    views = ViewMaker(
        groups, config.normalisation, dim, shift, seed, distributed.device, waveforms, copy_paste
    )
    return Pipeline(config, sampler, views, dim)


def least_frames(config: TrainingConfig, feature_dim: int) -> int:
    """Return the frames that the encoder takes at least, where crops of fewer could come up; else 1."""
    if config.crops.short == "repeat":
        return 1
    with torch.device("meta"):  # without memory and without draws
        return build_encoder(config.encoder, feature_dim).min_input


def fitting_batch_size(wanted: int, utterances: int, shares: int) -> int:
    """Return the batch size: ``wanted``, or where there are fewer utterances the largest number of them that
    can be divided into ``shares`` (processes times micro-batches).

    Raises:
        UserError: there are not two utterances for each share.
    """
    if utterances >= wanted:
        return wanted
    size = utterances - utterances % shares
    if size < 2 * shares:
        few = f"there {'is' if utterances == 1 else 'are'} only {plural(utterances, 'utterance')}"
        raise UserError(
            f"{few} to train on, and a batch needs at least {2 * shares}"
            + (f" in {shares} parts (processes times compute.accumulation)" if shares > 1 else "")
            + "; use more recordings, or lower min_duration (in recipe.yaml; --min-duration of "
            "steps/make_train_set.sh)"
        )
    return size
