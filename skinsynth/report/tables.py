"""Table 1 (fidelity) and Table 2 (predictive value) of the study: numbers for CSV, cells for Markdown and LaTeX."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd
from tabulate import tabulate

from skinsynth.report.published import (
    DECIMALS,
    FIDELITY,
    FIDELITY_METRICS,
    NETWORK_OF,
    PREDICTION,
    PREDICTION_METRICS,
    Facts,
    fidelity_differences,
    paper_rows,
    prediction_differences,
)

BINARY_AUC, POSITIVE_AUC = "auc", "positive_auc"
WHOLE = "all"  # of classes, or of the test set
GENERATED, HELD_OUT, AS_MANY = "generated", "held-out real", "generated, as many as held out"
TRAIN = "train"
TO_TRAIN, TO_HELD_OUT = "generated against training", "generated against held-out real"
TO_AS_MANY, FLOOR = f"{AS_MANY}, against training", "floor: held-out real against training"
SIDES = {
    TO_TRAIN: (GENERATED, TRAIN),
    TO_HELD_OUT: (GENERATED, HELD_OUT),
    TO_AS_MANY: (AS_MANY, TRAIN),
    FLOOR: (HELD_OUT, TRAIN),
}
LETTERS = "defghij"  # of the parts of Table 1 beyond those that every run has
MAJORITY = "majority"
MISSING = "not measured"
IDLE = 0.01  # a mean strength below which augmentation is said to have hardly acted
CANNOT_BE_TOLD = "cannot be told"
LACKS_A_CLASS = "a class is missing"  # where the rows themselves do not say which


class Shown(NamedTuple):
    """How a metric of images stands in Table 1; in part a stand those of the paper (FIDELITY_METRICS)."""

    header: str
    is_distance: bool  # without a natural unit; all others are shares of 1
    parts: str  # b: what the paper does not report, o: there if measured, c: beside held-out images


SHOWN = {
    "kid_percent": Shown("KID %", True, "c"),
    "fid": Shown("FID", True, "c"),
    "precision": Shown("precision", False, "c"),
    "recall": Shown("recall", False, "c"),
    "ppl": Shown("PPL", True, ""),
    "fid_infinity": Shown("FID extrapolated", True, "b"),
    "density": Shown("density", False, "bc"),
    "coverage": Shown("coverage", False, "bc"),
    "kid_percent_of_subsets": Shown("KID % of subsets", True, "o"),
}
FIDELITY_NAMES = {metric: shown.header for metric, shown in SHOWN.items()}
DISTANCES = {metric for metric, shown in SHOWN.items() if shown.is_distance}
PREDICTION_NAMES = {
    "accuracy": "accuracy",
    "auc": "AUC",
    "auc_difference": "AUC of the seeds' mean answer, minus that of real",
    "balanced_accuracy": "balanced accuracy",
    "average_precision": "average precision",
    "f1": "F1",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "sensitivity_at_90_specificity": "sensitivity at 90 % specificity",
    "calibration_error": "calibration error",
}

FIDELITY_COLUMNS = (
    *("gan", "compared", "reference", "metric", "value", "low", "high", "extractor"),
    *("compared_count", "real_count", "paper", "paper_network"),
)
PREDICTION_COLUMNS = (
    *("scenario", "arm", "metric", "value", "low", "high", "seed_min", "seed_max", "seeds"),
    *("test_images", "test_groups", "positives", "note", "p_delong", "p_patients", "p_holm"),
    *("margin", "not_worse"),
    *("paper", "paper_network"),
)
COMPARISON_COLUMNS = ("scenario", "auc_difference", "low", "high", "p_delong", "p_patients", "p_holm")


class Part(NamedTuple):
    """Some columns of a table: as many as fit the width of a page."""

    name: str  # LaTeX counts its tables itself
    caption: str
    cells: pd.DataFrame  # text only


class Table(NamedTuple):
    numbers: pd.DataFrame  # one row per metric, for CSV
    parts: list[Part]
    notes: list[str]  # differences from the paper's protocol, a line each


def fidelity_table(rows_of: Mapping[str, pd.DataFrame], strengths: Mapping[str, float], facts: Facts) -> Table:
    """Table 1 from intervals.csv of each GAN, pooled over its classes, against training images.

    `strengths` are the mean of the augmentation's p over each GAN's training; a set of images from elsewhere has none.
    The extractor of a GAN's first rows gives the table, each further one a part of its own. Other extractors measure
    other things: GANs whose first ones differ are a ValueError.
    """
    rows = _fidelity_rows(rows_of)
    paths = rows["metric"].eq("ppl")
    path_network = _only(rows.loc[paths, "extractor"], "the GANs' path lengths were measured in features of")
    first_of_each = rows[~paths].groupby("gan")["extractor"].first()
    extractor = _only(first_of_each, "the GANs' images were compared in features of")
    numbers = _beside_paper(rows_of, rows[paths | rows["extractor"].isin([extractor])])
    further: dict[str, pd.DataFrame] = {
        name: _in_order(rows_of, rows[~paths & rows["extractor"].eq(name)])
        for name in rows.loc[~paths, "extractor"].unique()
        if name != extractor
    }
    headers = {
        metric: _of(name, path_network if metric == "ppl" else extractor) for metric, name in FIDELITY_NAMES.items()
    }
    where = "95 % intervals in parentheses"
    parts = [
        Part(
            "Table 1a",
            f"Generated against training images, the paper's numbers beside ours; {where}.",
            _beside("GAN", "gan", list(rows_of), _against(numbers, GENERATED, TRAIN), FIDELITY_METRICS, headers),
        ),
        Part("Table 1b", f"What the paper does not report; {where}.", _beyond(rows_of, strengths, numbers, headers)),
        Part(
            "Table 1c",
            f"Against real images that no GAN has seen, and the floor that these set; {where}.",
            _beside_held_out(list(rows_of), numbers, headers),
        ),
        *(
            Part(
                f"Table 1{letter}",
                f"Generated against training and held-out images, and the floor, in features of {name}; {where}.",
                _in_other_features(list(rows_of), of_one, name),
            )
            for letter, (name, of_one) in zip(LETTERS[: len(further)], further.items(), strict=True)
        ),
    ]
    notes = [*fidelity_differences(facts, extractor, path_network, list(further)), *_idle(rows_of, strengths)]
    return Table(pd.concat([numbers, *further.values()], ignore_index=True), parts, notes)


def prediction_table(
    rows_of: Mapping[str, pd.DataFrame], comparisons: pd.DataFrame, margin: float, facts: Facts
) -> Table:
    """Table 2 from intervals.csv of each scenario and the differences of their AUC to that of `real`.

    Each is judged by `margin`, the AUC that one would give up (`not_worse`). Of more than two classes the AUC beside
    its difference to that of `real` is that of the positive class in both. Scenarios that were tested on unequally many
    images are a ValueError.
    """
    names = _prediction_names(facts)
    area = BINARY_AUC if len(facts.classes) == 2 else POSITIVE_AUC
    judged = [not_worse(low, high, margin) for low, high in zip(comparisons["low"], comparisons["high"], strict=True)]
    numbers = _prediction_numbers(rows_of, comparisons.assign(margin=margin, not_worse=judged), area)
    whole, scenarios = numbers[numbers["arm"] == WHOLE], list(rows_of)
    if whole["test_images"].nunique() > 1:
        counts = whole.groupby("scenario", sort=False)["test_images"].first().dropna().astype(int).to_dict()
        raise ValueError(
            f"all scenarios are tested on the same images, but their numbers are {counts}: train them anew"
        )
    where = "95 % intervals over patients"
    parts = [
        Part(
            "Table 2a",
            f"Classifiers on real test images, the paper's numbers beside ours; {where}.",
            _compared(scenarios, whole, area, margin, names),
        ),
        Part("Table 2b", f"What the paper does not report; {where}.", _further(scenarios, whole, area, names)),
    ]
    arms = [arm for arm in dict.fromkeys(numbers["arm"]) if arm != WHOLE]
    if arms:
        caption = f"{names[BINARY_AUC]} on parts of the test images; {where}."
        parts.append(Part("Table 2c", caption, _by_arm(scenarios, arms, numbers)))
    seeds = whole.loc[whole["scenario"] != MAJORITY, "seeds"].dropna().astype(int)
    return Table(numbers, parts, prediction_differences(facts, sorted(set(seeds)), scenarios, margin))


def not_worse(low: float, high: float, margin: float) -> str:
    """Whether a difference with this 95 % interval is at most `margin` below 0: yes, no, or it cannot be told.

    A test for non-inferiority (Ahn, Park and Lee 2013): no significant difference would be no proof of likeness, since
    few patients show none either.
    """
    if math.isnan(low) or low <= -margin <= high:
        return CANNOT_BE_TOLD
    return "yes" if low > -margin else "no"


def as_markdown(table: Table) -> str:
    """Every part under its caption, then the notes as a list."""
    parts = [f"{part.name}. {part.caption}\n\n{_rendered(part.cells, 'github')}\n" for part in table.parts]
    return "\n".join([*parts, *(f"- {note}" for note in table.notes)]) + "\n"


def as_latex(table: Table) -> str:
    r"""Floats as wide as the page, then the notes as a list; needs \usepackage{booktabs, graphicx}."""
    parts = [
        "\\begin{table}\n\\centering\n"
        f"\\caption{{{_escaped(part.caption)}}}\n"
        f"\\resizebox{{\\textwidth}}{{!}}{{%\n{_rendered(part.cells, 'latex_booktabs')}}}\n"
        "\\end{table}\n"
        for part in table.parts
    ]
    notes = [f"\\item {_escaped(note)}" for note in table.notes]
    return "\n".join([*parts, "\\begin{itemize}", *notes, "\\end{itemize}"]) + "\n"


def cell(metric: str, value: float, low: float, high: float) -> str:
    """0.856 (0.787 to 0.915); three decimals of a share, of a distance three digits of its value."""
    if math.isnan(value):
        return MISSING
    places = _decimals(value) if metric in DISTANCES else 3
    sign = "+" if metric == "auc_difference" else ""
    value_text, low_text, high_text = (f"{number:{sign}z.{places}f}" for number in (value, low, high))
    return value_text if math.isnan(low) else f"{value_text} ({low_text} to {high_text})"


def _decimals(value: float) -> int:
    return 3 if value == 0 else min(max(2 - math.floor(math.log10(abs(value))), 0), 4)


def _rendered(cells: pd.DataFrame, style: str) -> str:
    # Else tabulate reads 0.40 as a number and prints 0.4.
    return tabulate(cells.to_numpy().tolist(), headers=list(cells.columns), tablefmt=style, disable_numparse=True)


def _escaped(text: str) -> str:
    """Text for LaTeX, as tabulate escapes cells."""
    return text.translate({ord(sign): f"\\{sign}" for sign in "&%$#_{}"})


def _fidelity_rows(rows_of: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Rows of all GANs, pooled over classes."""
    known = {"gan", "paper", "paper_network"}
    ours = _stacked("gan", rows_of, {*FIDELITY_COLUMNS, "class"} - known)
    # Path length has no reference: it compares generated images with each other.
    ours = ours[ours["class"].eq(WHOLE)].assign(reference=ours["reference"].where(ours["metric"].ne("ppl"), TRAIN))
    scored = ours["compared"].eq(GENERATED) & ours["reference"].eq(TRAIN) & ours["metric"].ne("ppl")
    _check_rows("gan", rows_of, ours[scored], "generated against train, class all")
    return ours


def _beside_paper(gans: Iterable[str], ours: pd.DataFrame) -> pd.DataFrame:
    paper = _paper("gan", paper_rows(list(gans), FIDELITY_METRICS, FIDELITY))
    paper = paper.assign(compared=GENERATED, reference=TRAIN)
    return _in_order(gans, ours.merge(paper, on=["gan", "compared", "reference", "metric"], how="outer"))


def _in_order(gans: Iterable[str], rows: pd.DataFrame) -> pd.DataFrame:
    """The columns of the CSV, by GAN and comparison."""
    orders = {"compared": [GENERATED, AS_MANY, HELD_OUT], "reference": [TRAIN, HELD_OUT], "metric": FIDELITY_NAMES}
    return _sorted(rows.reindex(columns=list(FIDELITY_COLUMNS)), {"gan": gans, **orders})


def _prediction_names(facts: Facts) -> dict[str, str]:
    """Headers; of more than two classes each AUC says of which."""
    if len(facts.classes) == 2:
        return PREDICTION_NAMES
    own = f"AUC of {facts.positive}"
    of_real = f"{own}, of the seeds' mean answer, minus that of real"
    named = {
        "accuracy": "accuracy",
        POSITIVE_AUC: own,
        "auc_difference": of_real,
        BINARY_AUC: "AUC averaged over classes",
    }
    return named | {name: text for name, text in PREDICTION_NAMES.items() if name not in named}


def _prediction_numbers(rows_of: Mapping[str, pd.DataFrame], comparisons: pd.DataFrame, area: str) -> pd.DataFrame:
    """All rows; the paper's AUC stands beside the metric `area`."""
    known = {"scenario", "p_delong", "p_patients", "p_holm", "margin", "not_worse", "paper", "paper_network"}
    ours = _stacked("scenario", rows_of, set(PREDICTION_COLUMNS) - known)
    _check_rows("scenario", rows_of, ours[ours["arm"] == WHOLE], "the whole test set (arm all)")
    _check_columns("comparisons", comparisons, set(COMPARISON_COLUMNS))
    unknown = sorted(set(comparisons["scenario"]) - set(rows_of))
    if unknown:
        raise ValueError(f"comparisons name scenarios without rows: {', '.join(unknown)}")
    differences = comparisons.rename(columns={"auc_difference": "value"}).assign(metric="auc_difference", arm=WHOLE)
    paper = _paper("scenario", paper_rows(list(rows_of), PREDICTION_METRICS, PREDICTION)).assign(arm=WHOLE)
    paper = paper.assign(metric=paper["metric"].replace({BINARY_AUC: area}))
    numbers = ours.merge(paper, on=["scenario", "arm", "metric"], how="outer")
    numbers = pd.concat([numbers, differences], ignore_index=True)[list(PREDICTION_COLUMNS)]
    arms = [WHOLE, *(arm for arm in dict.fromkeys(ours["arm"]) if arm != WHOLE)]
    return _sorted(numbers, {"scenario": rows_of, "arm": arms, "metric": PREDICTION_NAMES})


def _stacked(key: str, rows_of: Mapping[str, pd.DataFrame], columns: set[str]) -> pd.DataFrame:
    for name, rows in rows_of.items():
        _check_columns(f"rows of {name}", rows, columns)
    return pd.concat([rows.assign(**{key: name}) for name, rows in rows_of.items()], ignore_index=True)


def _check_columns(what: str, rows: pd.DataFrame, columns: set[str]) -> None:
    missing = sorted(columns - set(rows.columns))
    if missing:
        raise ValueError(f"{what} lack the columns {', '.join(missing)}: they are of another version, make them anew")


def _check_rows(key: str, rows_of: Mapping[str, pd.DataFrame], chosen: pd.DataFrame, what: str) -> None:
    lacking = [name for name in rows_of if name not in set(chosen[key])]
    if lacking:
        raise ValueError(f"every {key} needs rows of {what}, but {', '.join(lacking)} has none")


def _paper(key: str, rows: list[dict]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["name", "metric", "paper", "paper_network"]).rename(columns={"name": key})


def _sorted(numbers: pd.DataFrame, orders: Mapping[str, Iterable[str]]) -> pd.DataFrame:
    place_of = {key: {name: place for place, name in enumerate(order)} for key, order in orders.items()}
    return numbers.sort_values(
        list(orders), key=lambda column: column.map(place_of[str(column.name)]), ignore_index=True
    )


def _only(extractors: pd.Series, what: str) -> str | None:
    """The one network behind a column of the table; None where nothing was measured."""
    found = sorted(set(extractors.dropna()))
    if len(found) > 1:
        raise ValueError(f"one column holds numbers of one network, but {what} {' and '.join(found)}: score all anew")
    return found[0] if found else None


def _of(name: str, network: str | None) -> str:
    return f"{name} ({network})" if network else name


def _cells(key: str, numbers: pd.DataFrame) -> dict[tuple[str, str], str]:
    """Text of our numbers by name and metric."""
    return {(row[key], row["metric"]): _text(row) for row in numbers.to_dict("records")}


def _text(row: Mapping[Any, Any]) -> str:
    note = row.get("note")
    warning = f", {note}" if isinstance(note, str) and note else ""
    return cell(row["metric"], row["value"], row["low"], row["high"]) + warning


def _beside(
    title: str,
    key: str,
    names: Sequence[str],
    numbers: pd.DataFrame,
    metrics: Sequence[str],
    headers: Mapping[str, str],
) -> pd.DataFrame:
    """Each metric of the paper in two columns: ours, then the paper's, empty where it has no such row."""
    ours = _cells(key, numbers)
    reported = numbers[numbers["paper"].notna()]
    paper = {
        (row[key], row["metric"]): f"{row['paper']:.{DECIMALS[row['metric']]}f}" for row in reported.to_dict("records")
    }
    short = FIDELITY_NAMES | PREDICTION_NAMES | {POSITIVE_AUC: "AUC"}
    rows = []
    for name in names:
        row = {title: name}
        for metric in metrics:
            network = NETWORK_OF.get(metric)
            header = f"{short[metric]} (paper{', ' + network if network else ''})"
            row |= {headers[metric]: ours.get((name, metric), MISSING), header: paper.get((name, metric), "")}
        rows.append(row)
    return pd.DataFrame(rows)


def _against(numbers: pd.DataFrame, compared: str, reference: str) -> pd.DataFrame:
    return numbers[numbers["compared"].eq(compared) & numbers["reference"].eq(reference)]


def _idle(gans: Iterable[str], strengths: Mapping[str, float]) -> list[str]:
    """Which GANs were hardly augmented: what tells these apart is not their augmentation."""
    idle = [gan for gan in gans if gan in strengths and strengths[gan] < IDLE]
    if not idle:
        return []
    return [
        f"Augmentation hardly acted: its strength p was below {IDLE:g} on average in the training of "
        f"{', '.join(idle)}. GANs that differ in their augmentation alone, as the conditional ones here, then differ "
        "by chance or not at all, and say nothing about it."
    ]


def _of_part(part: str) -> list[str]:
    """The metrics that stand in this part of Table 1."""
    return [metric for metric, shown in SHOWN.items() if part in shown.parts]


def _beyond(
    gans: Iterable[str],
    strengths: Mapping[str, float],
    numbers: pd.DataFrame,
    headers: Mapping[str, str],
) -> pd.DataFrame:
    """Metrics that the paper has no column for, counts, and how strongly images were augmented."""
    against_train = _against(numbers, GENERATED, TRAIN)
    ours, images = _cells("gan", against_train), _counts(against_train)
    shown = [*_of_part("b"), *(metric for metric in _of_part("o") if metric in set(numbers["metric"]))]
    return pd.DataFrame(
        {
            "GAN": gan,
            "generated images": _count(images, gan, "compared_count"),
            "training images": _count(images, gan, "real_count"),
            **{headers[name]: ours.get((gan, name), MISSING) for name in shown},
            "augmentation p, mean": f"{strengths[gan]:.4f}" if gan in strengths else MISSING,
        }
        for gan in gans
    )


def _beside_held_out(gans: Sequence[str], numbers: pd.DataFrame, headers: Mapping[str, str]) -> pd.DataFrame:
    """Generated against held-out images, then the floor under as many generated images: one row each."""
    return _comparisons(gans, numbers, headers, (TO_HELD_OUT, TO_AS_MANY, FLOOR))


def _in_other_features(gans: Sequence[str], numbers: pd.DataFrame, extractor: str) -> pd.DataFrame:
    """All comparisons, whose headlines are in features of another extractor."""
    headers = {metric: _of(name, extractor) for metric, name in FIDELITY_NAMES.items()}
    return _comparisons(gans, numbers, headers, (TO_TRAIN, TO_HELD_OUT, TO_AS_MANY, FLOOR))


def _comparisons(
    gans: Sequence[str], numbers: pd.DataFrame, headers: Mapping[str, str], shown: Iterable[str]
) -> pd.DataFrame:
    """One row for each GAN and comparison (a key of SIDES)."""
    return pd.DataFrame(
        {
            "GAN": gan,
            "compared": name,
            "images": _count(_counts(rows), gan, "compared_count"),
            "against": _count(_counts(rows), gan, "real_count"),
            **{headers[metric]: _cells("gan", rows).get((gan, metric), MISSING) for metric in _of_part("c")},
        }
        for gan in gans
        for name, rows in ((name, _against(numbers, *SIDES[name])) for name in shown)
    )


def _counts(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows["metric"] != "ppl"].groupby("gan")[["compared_count", "real_count"]].first()


def _count(counts: pd.DataFrame, place: str, column: str) -> str:
    value = counts[column].get(place, float("nan"))
    return "" if pd.isna(value) else f"{int(value):,}"


def _compared(
    scenarios: Sequence[str], whole: pd.DataFrame, area: str, margin: float, names: Mapping[str, str]
) -> pd.DataFrame:
    """Accuracy and AUC beside the paper's, then how far the AUC is from that of `real`, and whether that is too far."""
    beside = _beside("scenario", "scenario", scenarios, whole, ("accuracy", area), names)
    differences = whole[whole["metric"] == "auc_difference"]
    text_of, row_of = _cells("scenario", differences), differences.set_index("scenario")
    beside[names["auc_difference"]] = [text_of.get((name, "auc_difference"), "") for name in scenarios]
    for column, header in {"p_delong": "p (DeLong)", "p_patients": "p (patients)", "p_holm": "p (Holm)"}.items():
        beside[header] = [_probability(row_of[column].get(name, float("nan"))) for name in scenarios]
    beside[f"at most {margin:g} below real"] = [row_of["not_worse"].get(name, "") for name in scenarios]
    return beside


def _probability(p: float) -> str:
    if math.isnan(p):
        return ""
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def _further(scenarios: Sequence[str], whole: pd.DataFrame, area: str, names: Mapping[str, str]) -> pd.DataFrame:
    shown = {metric: name for metric, name in names.items() if metric not in ("accuracy", area, "auc_difference")}
    ours = _cells("scenario", whole)
    return pd.DataFrame(
        {"scenario": name, **{header: ours.get((name, metric), MISSING) for metric, header in shown.items()}}
        for name in scenarios
    )


def _by_arm(scenarios: Sequence[str], arms: Sequence[str], numbers: pd.DataFrame) -> pd.DataFrame:
    """AUC of each scenario on each part of the test set; a part that has none says why."""
    scenarios = [name for name in scenarios if name != MAJORITY]  # 0.5 everywhere
    table = pd.DataFrame({"scenario": scenarios})
    for arm in arms:
        rows = numbers[numbers["arm"] == arm]
        text_of = {row["scenario"]: _text_or_note(row) for row in rows[rows["metric"] == "auc"].to_dict("records")}
        header = f"{arm} ({int(rows['test_images'].max()):,} images, {int(rows['positives'].max()):,} positives)"
        table[header] = [text_of.get(name, MISSING) for name in scenarios]
    return table


def _text_or_note(row: Mapping[Any, Any]) -> str:
    if not math.isnan(row["value"]):
        return _text(row)
    others = int(row["test_images"] - row["positives"])
    note = row["note"] if isinstance(row["note"], str) and row["note"] else LACKS_A_CLASS
    return f"{note} ({int(row['positives'])} positives, {others} others)"
