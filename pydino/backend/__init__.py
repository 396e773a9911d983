"""Back-end: scoring of embeddings and evaluation of scores. Arrays in, arrays out; no files."""

from .bootstrap import bootstrap_trials, draw_counts, percentile_interval, trials_to_resample
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
from .cosine import cosine_features, mean_of_crops, score_pairs
from .kaldi_metrics import kaldi_eer, kaldi_min_dcf
from .lda import estimate_lda
from .measures import (
    bootstrap_classes,
    bootstrap_numbers,
    class_measures,
    number_measures,
    speaker_confusions,
    speaker_sums,
)
from .metrics import TrialCurve, equal_error_rate, min_dcf, thin_curve
from .neighbours import knn_accuracy
from .pair_scores import pair_features
from .paired import PairedDifference, mcnemar, paired_difference
from .plda import Plda
from .plda_chain import PldaChain, train_plda_chain, why_no_plda
from .plda_training import train_plda, train_simplified_plda
from .score_normalisation import NORMALISATIONS, Moments, cohort_moments, normalise_scores
from .vectors import apply_affine, group_means, normalise_length
from .wccn import estimate_wccn, within_class_covariance

__all__ = [
    "CENTRINGS",
    "Centring",
    "Moments",
    "NORMALISATIONS",
    "PairedDifference",
    "Plda",
    "PldaChain",
    "Reliability",
    "TrialCurve",
    "apply_affine",
    "bootstrap_classes",
    "bootstrap_numbers",
    "bootstrap_trials",
    "calibration_error",
    "calibration_summary",
    "class_measures",
    "cohort_moments",
    "cosine_features",
    "cross_entropy",
    "draw_counts",
    "equal_error_rate",
    "estimate_lda",
    "estimate_wccn",
    "fit_centring",
    "fit_temperature",
    "group_means",
    "independent_draws",
    "kaldi_eer",
    "kaldi_min_dcf",
    "knn_accuracy",
    "mcnemar",
    "mean_of_crops",
    "min_dcf",
    "normalise_length",
    "normalise_scores",
    "number_measures",
    "paired_difference",
    "pair_features",
    "percentile_interval",
    "reliability",
    "score_pairs",
    "smallest_significant",
    "speaker_confusions",
    "speaker_sums",
    "thin_curve",
    "train_plda",
    "train_plda_chain",
    "trials_to_resample",
    "train_simplified_plda",
    "why_no_plda",
    "within_class_covariance",
]
