"""From embedding folders to the scores of a list of trials, for ``pydino score``."""

import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from pydino.backend import (
    PldaChain,
    cohort_moments,
    fit_centring,
    group_means,
    mean_of_crops,
    normalise_length,
    normalise_scores,
    score_pairs,
)
from pydino.base import UserError, log, nearest, split_fields
from pydino.cli._embeddings import EmbeddingSet, cached, read_embeddings, read_several, utterances_of_crops
from pydino.cli._plda import read_chain
from pydino.kaldi import read_object, read_table, read_utt2label
from pydino.kaldi.trials import PairTable


class _Cosine:
    """Both sides of a cosine: (R, D) raw rows, averaged in groups, to unit length; or, of crops, the mean of
    unit lengths.
    """

    def __init__(self, centring, crops: bool):
        self._centring, self._crops = centring, crops

    def models(self, vectors, groups, count: int) -> np.ndarray:
        if self._crops:
            return mean_of_crops(self._centring(vectors), groups, count)
        return normalise_length(self._centring(_means(vectors, groups, count)[0]), scale_up=False)

    tests = models


class _LogLikelihoodRatio:
    """Both sides of the score of PLDA."""

    def __init__(self, chain: PldaChain):
        self._chain = chain

    def models(self, vectors, groups, count: int) -> np.ndarray:
        return self._chain.model_features(*_means(vectors, groups, count))

    def tests(self, vectors, groups, count: int) -> np.ndarray:
        return self._chain.test_features(_means(vectors, groups, count)[0])


def _means(vectors, groups, count: int):
    if len(groups) == count:  # each its own: nothing to average
        order = np.argsort(groups)
        return vectors[order].astype(np.float64), np.ones(count, dtype=np.int64)
    return group_means(vectors, groups, count)


def score_trials(args, trials: PairTable, test: EmbeddingSet) -> np.ndarray:
    """Return the scores (N,) of the trials.

    Args:
        args: of ``pydino score``.
        test: the embeddings of TEST_DIR.
    """
    enroll = test if Path(args.enroll_dir) == Path(args.test_dir) else read_embeddings(args.enroll_dir)
    if enroll.dim != test.dim:
        raise UserError(
            f"dimension {enroll.dim} in {enroll.folder}, {test.dim} in {test.folder}: extract both with one "
            "model"
        )
    began = time.perf_counter()
    members, model_of_member, table = _members(enroll, trials, args.trials)
    rows, member = _rows(enroll, members, table, [args.enroll_dir], args.crops)
    models = enroll.vectors[rows], model_of_member[member], len(trials.models)
    rows, groups = _rows(test, trials.tests, args.trials, [args.test_dir], args.crops)
    tests = test.vectors[rows], groups, len(trials.tests)
    try:
        compare = _comparison(args, test.dim)
        left, right = compare.models(*models), compare.tests(*tests)
        scores = score_pairs(left, right, trials.rows, trials.columns)
        if args.normalisation != "none":
            cohort = _cohort(args, test.dim, {*members, *trials.tests})
            top = args.top if args.normalisation == "as-norm" else None
            of_models = of_tests = None
            if args.normalisation != "t-norm":
                of_models = cohort_moments(left, compare.tests(*cohort), top)
            if args.normalisation != "z-norm":
                of_tests = cohort_moments(right, compare.models(*cohort), top)
            normalise_scores(scores, trials.rows, trials.columns, of_models, of_tests)
    except ValueError as error:
        raise UserError(f"{args.trials}: {error}") from error
    log(
        f"{len(trials)} trials of {len(trials.models)} models ({len(members)} utterances) and "
        f"{len(trials.tests)} test utterances -> {args.scores}; scored in "
        f"{time.perf_counter() - began:.2f} s, none dropped"
    )
    return scores


def _members(enroll, trials, trials_path) -> tuple[list[str], np.ndarray, str]:
    """The utterances of the models that the trials name, the place (M,) of the model of each, and the table
    that says so.
    """
    table = enroll.folder / "spk2utt"
    if not table.exists():
        return trials.models, np.arange(len(trials.models)), str(trials_path)
    utterances = {model: split_fields(text) for model, text in read_table(table).items()}
    unknown = [model for model in trials.models if not utterances.get(model)]
    if unknown:
        raise UserError(
            f"{trials_path}: {len(unknown)} of {len(trials.models)} models are not in {table}, first: "
            f"{unknown[0]}{nearest(unknown[0], list(utterances)[:5000])}; correct the trials or the table"
        )
    members = [utterance for model in trials.models for utterance in utterances[model]]
    counts = [len(utterances[model]) for model in trials.models]
    return members, np.repeat(np.arange(len(counts)), counts), str(table)


def _rows(embedded: EmbeddingSet, utterances, what: str, folders, crops: bool):
    """The rows (R,) of the embeddings of utterances, and the place (R,) in ``utterances`` of each row: one
    row an utterance, or one a crop.
    """
    if not crops:
        return embedded.places(utterances, what), np.arange(len(utterances))
    known, group = utterances_of_crops(embedded, folders)
    wanted = replace(embedded, keys=known).places(utterances, what)
    order, counts = np.argsort(group, kind="stable"), np.bincount(group)
    first, sizes = (np.cumsum(counts) - counts)[wanted], counts[wanted]
    of_row = np.repeat(np.arange(len(wanted)), sizes)
    within = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return order[first[of_row] + within], of_row


def _comparison(args, dim: int):
    if args.backend == "plda":
        return _LogLikelihoodRatio(read_chain(args.plda_dir, dim))
    training, transform = None, None
    if args.train_dir:
        training = read_several(args.train_dir, args.utterances).vectors
    if args.centring == "wccn":
        path = Path(args.wccn_dir) / "transform.mat"
        if not path.exists():
            raise UserError(f"no {path}: run steps/train_wccn.sh CROPS_DIR {args.wccn_dir}")
        transform = read_object(str(path))
    centring = fit_centring(args.centring, training, transform)
    if centring.projection is not None and len(centring.projection) < len(centring.mean):
        kept, full = centring.projection.shape
        log(f"whitening keeps {kept} of {full} dimensions; the training embeddings do not vary in the rest")
    return _Cosine(centring, args.crops)


def _cohort(args, dim: int, in_trials: set[str]) -> tuple[np.ndarray, np.ndarray, int]:
    """The raw vectors (R, D) of the cohort, the group (R,) of each, and the number of groups: an utterance,
    or a cluster, is a group. Utterances of the trials are left out: they would be scored against themselves.
    """
    embedded = read_several(args.cohort_dir, None if args.crops else args.utterances)
    folders = " and ".join(map(str, args.cohort_dir))
    if embedded.dim != dim:
        raise UserError(
            f"dimension {embedded.dim} in {folders}, {dim} in {args.test_dir}: extract both with one model"
        )
    utterances = utterances_of_crops(embedded, args.cohort_dir)[0] if args.crops else embedded.keys
    if args.crops and args.utterances:
        listed = cached(read_table, args.utterances)
        utterances = [utterance for utterance in utterances if utterance in listed]
    kept = [utterance for utterance in utterances if utterance not in in_trials]
    if len(kept) < len(utterances):
        log(
            f"left out of the cohort: {len(utterances) - len(kept)} of {len(utterances)} utterances, which "
            "are in the trials"
        )
    if len(kept) < 2:
        raise UserError(
            f"--cohort-dir {folders}: {len(kept)} of {len(utterances)} utterances are not in the trials "
            "themselves; a cohort needs two or more of other speakers, such as the training set"
        )
    rows, groups = _rows(embedded, kept, folders, args.cohort_dir, args.crops)
    count, what = len(kept), "utterances"
    vectors = embedded.vectors[rows]
    if args.cohort_clusters:
        cluster_of = cached(read_utt2label, args.cohort_clusters)
        lacking = [utterance for utterance in kept if utterance not in cluster_of]
        if lacking:
            raise UserError(
                f"{args.cohort_clusters} has no cluster for {len(lacking)} of {len(kept)} utterances of the "
                f"cohort, first: {lacking[0]}; give the clusters of {folders}"
            )
        names, cluster = np.unique([cluster_of[utterance] for utterance in kept], return_inverse=True)
        groups, count, what = cluster[groups], len(names), "clusters"
        if not args.crops:  # a centroid is scored as one utterance is
            vectors, groups = group_means(vectors, groups, count)[0], np.arange(count)
    if args.normalisation == "as-norm" and args.top >= count:
        log(f"the cohort has {count} {what}: as-norm with the {args.top} highest is s-norm with all of them")
    else:
        log(f"{args.normalisation} with a cohort of {count} {what}")
    return vectors, groups, count
