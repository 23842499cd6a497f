"""The query strategies by name."""

from __future__ import annotations

from dataclasses import MISSING, fields
from importlib.metadata import entry_points
from typing import Any, get_type_hints

from nlp_al.errors import UserError
from nlp_al.strategies.abstaining import NeuralCal
from nlp_al.strategies.adversarial import AdvBim, AdvDeepfool
from nlp_al.strategies.averaged import CommitteeMean
from nlp_al.strategies.balanced import ClassBalanced
from nlp_al.strategies.balanced_entropy import BalEnt
from nlp_al.strategies.base import Selection, Strategy
from nlp_al.strategies.batchbald import BatchBald
from nlp_al.strategies.by_budget import ByBudget
from nlp_al.strategies.ceal import Ceal
from nlp_al.strategies.clusters import ClusterMargin
from nlp_al.strategies.contrastive import Cal
from nlp_al.strategies.density import DensityWeighted, InfoDensity
from nlp_al.strategies.depth import LayerQbc
from nlp_al.strategies.determinantal import KDpp
from nlp_al.strategies.disagreement import Bald, MarginEnsemble, MeanStd, QbcKl, QbcVe, VariationRatio
from nlp_al.strategies.discriminative import Dal, Waal
from nlp_al.strategies.diversity import BertKM, Coreset, EmbeddingKMeans, LightweightCoreset, TypiClust
from nlp_al.strategies.fisher_kernel import FisherKernel
from nlp_al.strategies.hybrid import Badge
from nlp_al.strategies.influence import Isal
from nlp_al.strategies.instances import InstanceHybrid
from nlp_al.strategies.laplace import Laplace
from nlp_al.strategies.model_change import Bait, Egl, EglWord
from nlp_al.strategies.neighbourhood import Seals
from nlp_al.strategies.random import Random
from nlp_al.strategies.relabelling import ActiveLab
from nlp_al.strategies.sequence import (
    EntityUncertainty,
    Mnlp,
    NBestEntropy,
    SequenceEntropy,
    SequenceLeastConfidence,
    SequenceMargin,
    TokenEntropy,
    TokenLeastConfidence,
    TokenMargin,
    TotalTokenEntropy,
)
from nlp_al.strategies.stochastic import Power, PowerBald, Softmax, SoftmaxBald, Softrank, SoftrankBald
from nlp_al.strategies.submodular import FacilityLocation, GraphCut, ProbCover
from nlp_al.strategies.subpool import Subpool
from nlp_al.strategies.suggestive import SuggestiveAnnotation
from nlp_al.strategies.surprisal import Alps
from nlp_al.strategies.trajectory import Snapshot
from nlp_al.strategies.two_stage import TwoStageUs
from nlp_al.strategies.uncertainty import Entropy, LeastConfidence, Margin
from nlp_al.strategies.uncertainty_map import McTokenMap
from nlp_al.values import convert, suggest

__all__ = ["STRATEGIES", "Selection", "Strategy", "all_strategies", "make_strategy", "strategy_class"]

STRATEGIES: dict[str, type[Strategy]] = {
    "random": Random,
    "least_confidence": LeastConfidence,
    "margin": Margin,
    "entropy": Entropy,
    "bald": Bald,
    "power": Power,
    "softmax": Softmax,
    "softrank": Softrank,
    "power_bald": PowerBald,
    "softmax_bald": SoftmaxBald,
    "softrank_bald": SoftrankBald,
    "batchbald": BatchBald,
    "variation_ratio": VariationRatio,
    "mean_std": MeanStd,
    "qbc_ve": QbcVe,
    "qbc_kl": QbcKl,
    "margin_ensemble": MarginEnsemble,
    "committee_mean": CommitteeMean,
    "layer_qbc": LayerQbc,
    "snapshot": Snapshot,
    "balent": BalEnt,
    "instance_hybrid": InstanceHybrid,
    "mc_token_map": McTokenMap,
    "suggestive_annotation": SuggestiveAnnotation,
    "laplace": Laplace,
    "seq_least_confidence": SequenceLeastConfidence,
    "mnlp": Mnlp,
    "token_entropy": TokenEntropy,
    "total_token_entropy": TotalTokenEntropy,
    "sequence_entropy": SequenceEntropy,
    "nbest_entropy": NBestEntropy,
    "sequence_margin": SequenceMargin,
    "token_lc": TokenLeastConfidence,
    "token_margin": TokenMargin,
    "entity_uncertainty": EntityUncertainty,
    "coreset": Coreset,
    "lightweight_coreset": LightweightCoreset,
    "typiclust": TypiClust,
    "embedding_kmeans": EmbeddingKMeans,
    "bert_km": BertKM,
    "probcover": ProbCover,
    "facility_location": FacilityLocation,
    "graph_cut": GraphCut,
    "kdpp": KDpp,
    "dal": Dal,
    "waal": Waal,
    "info_density": InfoDensity,
    "density_weighted": DensityWeighted,
    "badge": Badge,
    "cal": Cal,
    "cluster_margin": ClusterMargin,
    "egl": Egl,
    "egl_word": EglWord,
    "adv_bim": AdvBim,
    "adv_deepfool": AdvDeepfool,
    "bait": Bait,
    "alps": Alps,
    "class_balanced": ClassBalanced,
    "seals": Seals,
    "neural_cal": NeuralCal,
    "ceal": Ceal,
    "two_stage_us": TwoStageUs,
    "fisher_kernel": FisherKernel,
    "isal": Isal,
    "by_budget": ByBudget,
    "subpool": Subpool,
    "activelab": ActiveLab,
}


def all_strategies() -> dict[str, type[Strategy]]:
    """The built-in strategies and those that installed packages register under `nlp_al.strategies`."""
    registered = {point.name: point.load() for point in entry_points(group="nlp_al.strategies")}
    return {**registered, **STRATEGIES}


def strategy_class(name: str) -> type[Strategy]:
    """The class behind a name; ValueError lists the names there are."""
    if name in STRATEGIES:
        return STRATEGIES[name]
    known = all_strategies()
    if name not in known:
        raise ValueError(f"There is no strategy {name!r}; {suggest(name, known)}.")
    return known[name]


def make_strategy(name: str, **parameters: Any) -> Strategy:
    """A strategy by name.

    Raises:
        ValueError: unknown name, unknown parameter or a value of the wrong type; the message says what would be right.
    """
    chosen = strategy_class(name)
    hints = get_type_hints(chosen)
    known = {f.name: f for f in fields(chosen)}  # type: ignore[arg-type]  # every strategy is a dataclass
    values = {}
    for key, value in parameters.items():
        if key not in known:
            listed = ", ".join(known) or "none"
            raise ValueError(f"Strategy {name} has no parameter {key!r}; its parameters are: {listed}.")
        try:
            values[key] = convert(hints[key], value, f"{key} of strategy {name}")
        except UserError as error:
            raise ValueError(str(error)) from error
    for key, field in known.items():
        if key not in values and field.default is MISSING and field.default_factory is MISSING:
            raise ValueError(f"Strategy {name} needs the parameter {key!r}.")
    try:
        return chosen(**values)
    except ValueError as error:
        raise ValueError(f"Strategy {name}: {error}") from error
