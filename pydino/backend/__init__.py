"""Back-end: scoring of embeddings and evaluation of scores. Arrays in, arrays out; no files."""

from .bootstrap import bootstrap_trials, draw_counts, percentile_interval
from .calibration import (
    Reliability,
    calibration_error,
    calibration_summary,
    cross_entropy,
    fit_temperature,
    reliability,
)
from .centring import CENTRINGS, Centring, fit_centring
from .chance import independent_draws, smallest_significant
from .cosine import cosine_features, score_pairs
from .kaldi_metrics import kaldi_eer, kaldi_min_dcf
from .lda import estimate_lda
from .metrics import TrialCurve, equal_error_rate, min_dcf, thin_curve
from .neighbours import knn_accuracy
from .plda import Plda, train_plda
from .plda_chain import PldaChain, train_plda_chain, why_no_plda
from .vectors import apply_affine, group_means, normalise_length

__all__ = [
    "CENTRINGS",
    "Centring",
    "Plda",
    "PldaChain",
    "Reliability",
    "TrialCurve",
    "apply_affine",
    "bootstrap_trials",
    "calibration_error",
    "calibration_summary",
    "cosine_features",
    "cross_entropy",
    "draw_counts",
    "equal_error_rate",
    "estimate_lda",
    "fit_centring",
    "fit_temperature",
    "group_means",
    "independent_draws",
    "kaldi_eer",
    "kaldi_min_dcf",
    "knn_accuracy",
    "min_dcf",
    "normalise_length",
    "percentile_interval",
    "reliability",
    "score_pairs",
    "smallest_significant",
    "thin_curve",
    "train_plda",
    "train_plda_chain",
    "why_no_plda",
]
