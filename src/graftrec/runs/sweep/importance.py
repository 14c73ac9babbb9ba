"""Which settings of a sweep vary over its jobs, and how much of the score each of them explains."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from graftrec.runs.sweep import job_log
from graftrec.runs.sweep.job_log import Entry

FEWEST, FEWEST_TRIALS = 4, 8  # finished jobs below which a share says nothing; PED-ANOVA looks at the best tenth


def varying(jobs: Sequence[Entry]) -> dict[str, list[str]]:
    """Key -> its value in each job as it was written, for keys of which jobs have different values."""
    settings = [dict(_pair(setting) for setting in job.settings) for job in jobs]
    keys = dict.fromkeys(key for each in settings for key in each)
    found = {key: [each.get(key, "") for each in settings] for key in keys}
    return {key: values for key, values in found.items() if len(set(values)) > 1}


def _pair(setting: str) -> tuple[str, str]:
    key, _, value = setting.partition("=")
    return key.lstrip("+"), value


def importance(jobs: Sequence[Entry], study: Any = None) -> tuple[dict[str, float], str]:
    """Setting -> share in [0, 1], the greatest first, and what the shares are; nothing where they would mean nothing.

    Of an Optuna study: its PED-ANOVA. Of a grid: ``sum_v n_v (mean_v - mean)^2 / sum_j (score_j - mean)^2``, the
    part of the score's variance that the means of a setting's values have alone; interactions belong to none.
    """
    scored = [job for job in jobs if job.state == job_log.FINISHED and job.score is not None]
    keys = varying(scored)
    fewest = FEWEST if study is None else FEWEST_TRIALS
    if len(keys) < 2 or len(scored) < fewest or len({job.score for job in scored}) < 2:
        return {}, ""
    if study is not None:
        return _of_study(study)
    scores = [float(job.score or 0.0) for job in scored]
    mean = sum(scores) / len(scores)
    total = sum((score - mean) ** 2 for score in scores)
    found = {}
    for key, values in keys.items():
        groups: dict[str, list[float]] = {}
        for value, score in zip(values, scores, strict=True):
            groups.setdefault(value, []).append(score)
        between = sum(len(group) * (sum(group) / len(group) - mean) ** 2 for group in groups.values())
        found[key] = between / total
    found = dict(sorted(found.items(), key=lambda pair: -pair[1]))
    return found, "share of the score's variance that a setting explains alone"


def _of_study(study: Any) -> tuple[dict[str, float], str]:
    import optuna

    if len(study.directions) < 2:
        shares, of = optuna.importance.get_param_importances(study), "the score"
    else:
        sign = 1.0 if study.directions[0] == optuna.study.StudyDirection.MINIMIZE else -1.0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # which says that low is taken for good; hence the sign
            shares = optuna.importance.get_param_importances(study, target=lambda trial: sign * trial.values[0])
        of = "the first objective"
    return {name: float(share) for name, share in shares.items()}, f"PED-ANOVA of {of}, all settings together 100%"
