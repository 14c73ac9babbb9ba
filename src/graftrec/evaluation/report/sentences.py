"""What a run came to in sentences, the same ones on every screen and page."""

from __future__ import annotations

from graftrec.evaluation.report.formatting import (
    DASH,
    FEW,
    GRAFTED,
    TWIN,
    Metrics,
    baseline_names,
    few,
    interval,
    label,
    main_difference,
    number,
    reason,
    said,
    seeds_of,
    shown,
    table,
    verdict,
)
from graftrec.tasks.metrics.direction import sign


def seeds_words(metrics: Metrics) -> str:
    """``over 5 seeds``, or what one or two of them cannot say."""
    seeds = seeds_of(metrics)
    if len(seeds) > 2:
        return f"over {len(seeds)} seeds"
    if len(seeds) == 2:
        return "with 2 seeds; 3 or more give a verdict"
    which = f"seed {seeds[0]}" if seeds else "one seed"
    return f"with {which} alone; another seed may say otherwise: seeds=5 or graftrec audit judges"


def verdict_sentence(metrics: Metrics) -> str:
    """The answer to the run's question in one sentence; with fewer than three seeds there is no answer."""
    task, metric, difference = main_difference(metrics)
    numbers = interval(difference)
    if numbers == DASH:
        why = reason(metrics, "differences", task, metric) or reason(metrics, "test", task, metric)
        alone = not table(metrics, "twin")
        untested = table(metrics, "family").get("untested") or "no twin was trained"
        why = why or (untested if alone else "the difference is undefined")
        declared = [label(str(name)) for name in table(metrics, "family").get("declared") or () if alone]
        said = f" Nor is there a verdict of what was declared: {', '.join(declared)}." if declared else ""
        return f"Whether the transfer helped was not measured: {why}.{said}"
    spoken = {"helps": "The transfer helped", "hurts": "The transfer hurt", "no evidence": "No evidence of a transfer"}
    begun = spoken.get(verdict(difference))
    numbers += f" of {of}," if (of := few(difference)) else ""
    if begun is None:
        return f"{task} {metric}: grafted - twin {numbers} {seeds_words(metrics)}"
    return f"{begun}: {task} {metric} {numbers} {seeds_words(metrics)}"


def power_sentence(metrics: Metrics) -> str:
    """How large a change would have been found, where none was; empty elsewhere."""
    difference = main_difference(metrics)[2]
    least = number(difference.get("minimum_detectable"))
    if verdict(difference) != "no evidence" or not least:
        return ""
    size = table(metrics, "family").get("size", 1)
    corrected = f", after Holm's correction for {size} verdicts" if size > 1 else ""
    return f"A change of {least:.3g} would have been found with 80 % power{corrected}."


def cohort_sentences(metrics: Metrics) -> list[str]:
    """The main metric's cohorts and all else that has a verdict: ``first time: +0.010 [+0.001, +0.019], helps``.

    Of further targets their main metric, and what was declared before.
    """
    first, metric, _ = main_difference(metrics)
    declared = table(metrics, "family").get("declared") or ()
    found = []
    for task, of_task in table(metrics, "differences").items():
        for name, difference in of_task.items():
            main, slash, cohort = name.partition("/")
            own = task == first and main == metric
            if interval(difference) != DASH and (bool(slash) if own else name in declared or verdict(difference)):
                what = label(cohort) if own else label(name) if task == first else f"{task} {label(name)}"
                behind = said(difference)
                found.append(f"{what}: {interval(difference)}{f', {behind}' if behind else ''}")
    return found


def baseline_sentences(metrics: Metrics) -> list[str]:
    """How the grafted model did against the strongest baseline, in the main metric and in what was declared.

    With too few seeds for the stamp of a weak twin the twin's difference is told as well, without a word.
    """
    task, metric, _ = main_difference(metrics)
    found = [_baseline_sentence(table(metrics, "beside", task), "")]
    for name, beside in table(metrics, "beside_declared", task).items():
        main, slash, cohort = name.partition("/")
        found.append(_baseline_sentence(beside, label(cohort if slash and main == metric else name)))
    return [sentence for sentence in (*found, _ahead_sentence(metrics)) if sentence]


def _ahead_sentence(metrics: Metrics) -> str:
    """In which cohorts a simple model has a better value than the grafted one, which is no verdict; else empty."""
    task, metric, _ = main_difference(metrics)
    up, found = sign(metric), []
    for name, value in table(metrics, "test", task).items():
        main, _, cohort = name.partition("/")
        own = number(value)
        count = table(metrics, "users", task).get(name)
        if main != metric or not cohort or own is None or (isinstance(count, int) and count < FEW):
            continue
        simple = {
            each: number(table(metrics, "baselines", task, each).get(name)) for each in baseline_names(metrics, task)
        }
        known = {each: up * score for each, score in simple.items() if score is not None}
        best = max(known, key=lambda each: known[each], default="")
        if best and known[best] > up * own:
            found.append(f"{label(cohort)} ({label(best)} {shown(simple[best])}, grafted {shown(own)})")
    return f"A simple model is ahead, without a verdict, in: {', '.join(found)}" if found else ""


def _baseline_sentence(beside: Metrics, what: str) -> str:
    best = str(beside.get("best") or "")
    over = table(beside, GRAFTED, best)
    if interval(over) == DASH:
        return ""
    name = f"{label(best)} ({shown(beside.get('value'))})"
    numbers = interval(over) + (f", {of}" if (of := few(over)) else "")
    word = {"helps": "better than", "hurts": "worse than", "no evidence": "not clearly different from"}.get(
        verdict(over)
    )
    if word is None:
        alone = interval(table(beside, TWIN, best))
        said = f"grafted - the best simple model, {name}: {numbers}"
        said += "" if alone == DASH else f"; twin - {label(best)}: {alone}"
    else:
        said = f"the grafted model is {word} the best simple model, {name}: {numbers}"
    return f"{what}: {said}" if what else said[0].upper() + said[1:]


def below_sentences(metrics: Metrics) -> list[str]:
    """Which sources and shared tasks are clearly below the best simple model of theirs."""
    found = []
    for task, beside in table(metrics, "beside").items():
        role, best = str(table(metrics, "roles").get(task)), str(table(metrics, "beside", task).get("best") or "")
        over = table(metrics, "beside", task, GRAFTED, best)
        if role != "target" and verdict(over) == "hurts":
            value = shown(beside.get("value"))
            found.append(f"{task} ({role}) is worse than {label(best)}, {beside['metric']} {value}: {interval(over)}")
    return found


def weak_sentences(metrics: Metrics) -> list[str]:
    """Which twins are clearly below a simple model."""
    of_main = [(task, beside) for task, beside in table(metrics, "beside").items()]
    of_declared = [(task, each) for task, also in table(metrics, "beside_declared").items() for each in also.values()]
    return [weak_sentence(task, each) for task, each in (*of_main, *of_declared) if (each or {}).get("weak")]


def weak_sentence(task: str, beside: Metrics) -> str:
    """``Weak twin: recommend alone is worse than own frequency, ndcg@10 -0.012 [-0.020, -0.004]; ...``."""
    name = str(beside["weak"])
    numbers = interval(table(beside, TWIN, name))
    return (
        f"Weak twin: {task} alone is worse than {label(name)}, {label(str(beside.get('metric')))} {numbers}; "
        "a change against a weak twin says little"
    )


def fitted_sentence(metrics: Metrics, task: str) -> str:
    """Which baselines saw more rows than the networks; empty where none did."""
    fitted = table(metrics, "fitted_on", task)
    more = [label(name) for name, rows in fitted.items() if rows != "train"]
    if not more:
        return ""
    said = f"fitted on training and validation rows: {', '.join(more)}; all else on training rows"
    union = [label(name) for name, rows in fitted.items() if "sources" in rows]
    return f"{said}; {', '.join(union)} on those of the sources as well" if union else said
