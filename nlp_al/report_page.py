"""The parts of a report page: its style sheet, tables and figures. Everything is inline, nothing is fetched.

What comes from files is escaped here and nowhere else, so callers pass plain text. Figures are drawn in the colours of
the light theme and re-coloured by CSS variables, so that one SVG serves both themes.
"""

import html
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nlp_al.errors import RunError
from nlp_al.evaluation import SPLITS, Curve, Floats, MeanCurve, Reach, Run, Saving, scores

TEXT, GRID = "#5b6470", "#d5d9df"
# Okabe and Ito's colour-blind-safe hues, darker for white paper and lighter for the dark theme. The first is random's.
LIGHT = ("#6b7280", "#0072b2", "#d55e00", "#008560", "#b5508f", "#a86f00", "#3c8dc4")
DARK = ("#a3abb8", "#4db2f0", "#ff8a4d", "#3ccfa2", "#e795c8", "#f0b848", "#a5d5f5")
METHOD = (
    "AUBC: area under the learning curve divided by its width, over the range of labels that all runs cover. Shaded "
    "bands: 95% t interval of the mean over seeds; thin lines: the seeds. Labels to reach a level: from the monotone "
    "fit of the mean curve, interpolated in log labels and log error, never extrapolated. Intervals of labels saved: "
    "95% percentiles of a paired bootstrap over seeds. p: paired sign-flip test on AUBC, Holm-adjusted over strategies."
)
SECONDS = ("fit", "score", "select", "annotate")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p")
DASHES = ("--", "-", "-.", (0, (5, 1)), (0, (3, 1, 1, 1)))

STYLE = """
:root{color-scheme:light dark;--ink:#1c2330;--muted:#5b6470;--paper:#fff;--wash:#f5f6f8;--line:#e1e4e9;
  --grid:#d5d9df;--mark:#0072b2;LIGHT}
@media (prefers-color-scheme:dark){:root{--ink:#e7e9ee;--muted:#a3abb8;--paper:#14171d;--wash:#1c2028;--line:#2d333e;
  --grid:#343b47;--mark:#4db2f0;DARK}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);
  font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
main{max-width:70rem;margin:0 auto;padding:2.5rem 1.25rem 4rem}
h1{font-size:1.75rem;line-height:1.2;margin:0 0 .35rem;letter-spacing:-.015em;overflow-wrap:anywhere}
h2{font-size:1.15rem;margin:2.75rem 0 .75rem;letter-spacing:-.005em}
p{margin:.5rem 0;max-width:48rem}
.lead{font-size:1.05rem;color:var(--muted);margin-bottom:1.25rem}
.headline{font-size:1.05rem;color:var(--muted)}.headline b{font-size:1.75rem;color:var(--ink);margin-right:.4rem}
.quiet,figcaption,footer{color:var(--muted);font-size:.875rem}
dl{display:grid;grid-template-columns:max-content minmax(0,1fr);gap:.3rem 1.5rem;margin:1.25rem 0;
  padding:1rem 1.25rem;background:var(--wash);border-radius:.6rem;font-size:.925rem}
dt{color:var(--muted)}dd{margin:0;overflow-wrap:anywhere}
.verdict{margin:0;padding:0;list-style:none;max-width:54rem}
.verdict li{padding:.6rem 0 .6rem 1rem;border-left:3px solid var(--mark);margin:.6rem 0}
.notes{padding-left:1.1rem;max-width:48rem}.notes li{margin:.25rem 0}
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,25rem),1fr));gap:1.5rem}
figure{margin:0}figcaption{margin-top:.25rem}
.plot{display:block;width:100%;height:auto;max-width:40rem}
.plot *{stroke-linejoin:round;stroke-linecap:butt}
.legend{display:flex;flex-wrap:wrap;gap:.35rem 1.5rem;margin:0 0 .9rem;padding:0;list-style:none;font-size:.925rem}
.legend li{display:flex;align-items:center;gap:.55rem}.legend svg{width:3rem;height:1rem;flex:none}
p + .scroll{margin-top:1rem}
.scroll{overflow-x:auto;border:1px solid var(--line);border-radius:.6rem}
table{border-collapse:collapse;width:100%;font-size:.9rem;font-variant-numeric:tabular-nums}
caption{text-align:left;padding:.6rem .75rem;color:var(--muted);font-size:.875rem}
th,td{padding:.45rem .75rem;text-align:right;white-space:nowrap;border-top:1px solid var(--line)}
thead th{font-weight:600;color:var(--muted);background:var(--wash);font-size:.825rem;vertical-align:bottom;
  white-space:normal;min-width:4.5rem}
th:first-child,.left2 :is(th,td):nth-child(2){text-align:left}tbody th{font-weight:600}
details{margin:.1rem 0}
details:first-of-type{margin-top:.75rem}summary{cursor:pointer;padding:.2rem 0;overflow-wrap:anywhere}
footer{margin-top:3rem;padding-top:1rem;border-top:1px solid var(--line)}
"""


@dataclass(frozen=True)
class Series:
    """A strategy in a figure: its mean, its seeds, and the number of its look (0 is the baseline's)."""

    label: str
    style: int
    mean: MeanCurve
    seeds: Sequence[Curve]


def number(value: float, digits: int = 3) -> str:
    """A number, or a dash where there is none."""
    return f"{round(value, digits) + 0.0:,.{digits}f}" if np.isfinite(value) else "–"  # + 0.0: never "-0"


def spread(values: Floats) -> str:
    """Mean ± standard deviation over seeds `float[S]`; the bare value of one seed."""
    found = values[np.isfinite(values)]
    mean = number(found.mean()) if len(found) else "–"
    return mean + (f" ± {number(found.std(ddof=1))}" if len(found) > 1 else "")


def span(values: Sequence[float]) -> str:
    """One count, or the smallest and largest."""
    low, high = number(min(values), 0), number(max(values), 0)
    return low if low == high else f"{low}–{high}"


def reach(found: Reach) -> str:
    """Labels needed; a bound where that is all there is."""
    words = {"lower_bound": "> {} (not reached)", "upper_bound": "≤ {}"}
    return words.get(found.flag, "{}").format(number(found.x, 0))


def saved(saving: Saving) -> str:
    """Labels saved, as the difference of the rounded numbers beside it; words where the strategy does not get there."""
    if saving.strategy.flag == "lower_bound" or saving.flag == "unknown":
        return "not reached" if saving.strategy.flag == "lower_bound" else "not known"
    sign = {"lower_bound": "> ", "upper_bound": "< "}.get(saving.flag, "")
    return sign + number(round(saving.baseline.x) - round(saving.strategy.x), 0)


def interval(ends: tuple[float, float] | None, digits: int = 0) -> str:
    """An interval, open where resampled curves do not reach the level."""
    if ends is None:
        return "–"
    low, high = (number(end, digits) for end in ends)
    if np.isfinite(ends).all():
        return f"{low} to {high}"
    return f"{low} or more" if np.isfinite(ends[0]) else f"{high} or less" if np.isfinite(ends[1]) else "no bounds"


def ratio(saving: Saving) -> str:
    """Times fewer labels; a bound where that is all there is."""
    bound = {"lower_bound": "> ", "upper_bound": "< "}.get(saving.flag, "")
    return f"{bound}{number(saving.ratio, 2)}×" if np.isfinite(saving.ratio) else "not known"


def chance(p: float) -> str:
    """A p value."""
    return "< 0.001" if p < 0.001 else number(p)


def seconds(entry: dict[str, Any]) -> float:
    """All seconds of a round; NaN where it has none."""
    spent = [float(value) for value in (entry.get("seconds") or {}).values() if type(value) in (int, float)]
    return sum(spent) if spent else float("nan")


def escape(text: object) -> str:
    """Plain text as HTML."""
    return html.escape(str(text))


def table(caption: str, head: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """A table that scrolls on its own when narrow; the first one or two (`left`) columns are text, the rest numbers."""
    heads = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    body = "".join(
        f'<tr><th scope="row">{escape(row[0])}</th>' + "".join(f"<td>{escape(c)}</td>" for c in row[1:]) + "</tr>"
        for row in rows
    )
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}"><table class="left{left}">'
        f"<caption>{escape(caption)}</caption><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def facts(pairs: Sequence[tuple[str, str]]) -> str:
    """Names and values, one a line."""
    return "<dl>" + "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in pairs) + "</dl>"


def bullets(kind: str, sentences: Sequence[str]) -> str:
    """A list of sentences, or nothing; `kind` is `notes`, or `verdict` with a name before a colon."""
    parts = [sentence.partition(": ") if kind == "verdict" else ("", "", sentence) for sentence in sentences]
    items = "".join(f"<li><b>{escape(a + colon)}</b>{escape(rest)}</li>" for a, colon, rest in parts)
    return f'<ul class="{kind}">{items}</ul>' if items else ""


def headline(figure: str, beside: str = "") -> str:
    """One number in large letters, and what belongs to it."""
    return f'<p class="headline"><b>{escape(figure)}</b> {escape(beside)}</p>'


def prose(sentences: Sequence[str]) -> str:
    """A paragraph each."""
    return "".join(f"<p>{escape(sentence)}</p>" for sentence in sentences)


def folded(summary: str, content: str) -> str:
    """Content that opens on a click."""
    return f"<details><summary>{escape(summary)}</summary>{content}</details>"


def section(title: str, *content: str) -> str:
    """A headed section, or nothing where there is no content."""
    return f"<section><h2>{escape(title)}</h2>{''.join(content)}</section>" if any(content) else ""


def document(title: str, lead: str, body: str) -> str:
    """The whole page."""
    style = STYLE.replace("LIGHT", _variables(LIGHT)).replace("DARK", _variables(DARK))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{style}</style></head>\n<body><main><header><h1>{escape(title)}</h1>"
        f'<p class="lead">{escape(lead)}</p></header>\n{body}\n<footer>{escape(METHOD)}</footer></main></body></html>\n'
    )


def _variables(colours: Sequence[str]) -> str:
    return ";".join(f"--s{i}:{colour}" for i, colour in enumerate(colours))


def legend(series: Sequence[Series]) -> str:
    """Line, marker and name of every strategy, drawn as in the figures."""
    return '<ul class="legend">' + "".join(f"<li>{_swatch(s)}{escape(s.label)}</li>" for s in series) + "</ul>"


def _swatch(series: Series) -> str:
    figure = _new_figure(0.6, 0.2, layout="none")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.axis("off")
    axes.plot([0, 1, 2], [0, 0, 0], markevery=[1], **_line(series.style))
    return _svg(figure, f"swatch {series.style}", "")


def curve_figure(series: Sequence[Series], metric: str, unit: str, description: str) -> str:
    """Learning curves: mean with marker, its 95% interval shaded, and each seed as a thin line."""
    figure = _new_figure(5.4, 3.5)
    axes = figure.add_subplot()
    for entry in series:
        look = _line(entry.style)
        for seed in entry.seeds if len(entry.seeds) > 1 else ():
            axes.plot(seed.x, seed.y, color=look["color"], linewidth=0.6, alpha=0.35)
        mean, fill = entry.mean, {"color": look["color"], "alpha": 0.15, "linewidth": 0}
        axes.fill_between(mean.x, mean.low, mean.high, **fill)
        axes.plot(mean.x, mean.y, **look)
    _finish(axes, unit, metric)
    return _svg(figure, f"{metric} against {unit}", description)


def savings_figure(savings: Sequence[tuple[str, int, Saving]], unit: str, title: str) -> str:
    """Labels saved by each strategy (name, style, saving) with its interval; an arrow where an end is not bounded."""
    figure = _new_figure(5.4, 0.9 + 0.42 * len(savings))
    axes = figure.add_subplot()
    ends = [v for _, _, s in savings for v in (s.saved, *(s.saved_interval or ())) if np.isfinite(v)]
    margin = 0.12 * (np.ptp([0.0, *ends]) or 1.0)
    axes.set_xlim(min([0.0, *ends]) - margin, max([0.0, *ends]) + margin)
    axes.axvline(0, color=LIGHT[0], linewidth=1, linestyle="--")
    for row, (_, style, saving) in enumerate(savings):
        _saving_row(axes, row, style, saving)
    axes.set_yticks(range(len(savings)), [name for name, _, _ in savings])
    axes.set_ylim(len(savings) - 0.4, -0.6)
    _finish(axes, f"{unit} saved against random", "")
    words = "; ".join(f"{name} {saved(s)}, 95% interval {interval(s.saved_interval)}" for name, _, s in savings)
    return _svg(figure, title, f"{title}: {words}.")


def _saving_row(axes: Any, row: int, style: int, saving: Saving) -> None:
    look, (left, right) = _line(style), axes.get_xlim()
    if saving.saved_interval is not None and saving.flag in ("exact", "lower_bound"):
        ends = np.clip(saving.saved_interval, left, right)
        axes.plot(ends, [row, row], color=look["color"], linewidth=2.5, solid_capstyle="round", alpha=0.55)
        for end, arrow in zip(saving.saved_interval, "<>", strict=True):
            if np.isinf(end):
                axes.plot([np.clip(end, left, right)], [row], marker=arrow, color=look["color"], clip_on=False)
    if saving.flag in ("exact", "lower_bound"):
        marker = look["marker"] if saving.flag == "exact" else ">"
        axes.plot([saving.saved], [row], marker=marker, markersize=8, color=look["color"])
    else:
        axes.annotate(saved(saving), (0, row), (6, 0), textcoords="offset points", va="center", color=TEXT)


def _line(style: int) -> dict[str, Any]:
    """Colour, dash and marker of a style; with more strategies than colours the three repeat at different periods."""
    colour = LIGHT[style] if style < len(LIGHT) else LIGHT[1 + (style - 1) % (len(LIGHT) - 1)]
    dash = DASHES[0] if style == 0 else DASHES[1 + (style - 1) % (len(DASHES) - 1)]
    marker = MARKERS[style % len(MARKERS)]
    return {"color": colour, "linestyle": dash, "marker": marker, "linewidth": 1.8, "markersize": 5}


def drawing() -> Any:
    """The context of drawing: text stays text, a dollar sign too. RunError without matplotlib, an optional extra."""
    try:
        import matplotlib
    except ImportError as error:
        raise RunError('the report draws its curves with matplotlib: pip install "nlp-al[report]"') from error
    return matplotlib.rc_context({"svg.fonttype": "none", "text.parse_math": False})


def _new_figure(width: float, height: float, layout: Any = "constrained") -> Any:
    """A figure in inches, without pyplot: no global state and no display."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout=layout)


def _finish(axes: Any, xlabel: str, ylabel: str) -> None:
    axes.set_xlabel(xlabel, color=TEXT)
    axes.set_ylabel(ylabel, color=TEXT)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GRID)
    axes.tick_params(color=GRID, labelcolor=TEXT)
    axes.grid(axis="y" if ylabel else "x", color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)


def _svg(figure: Any, title: str, description: str) -> str:
    """The figure as an inline SVG with the page's fonts and colours; bare decoration where nothing describes it."""
    import matplotlib

    buffer, fixed = (
        io.StringIO(),
        {"svg.hashsalt": title},
    )  # ids: the same every time, and others in each figure of a page
    with matplotlib.rc_context(fixed):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return _inline(buffer.getvalue(), title, description)


def _inline(svg: str, title: str, description: str) -> str:
    """Leave what HTML needs: no prolog, metadata, namespaces or group ids; the page's fonts and colours."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:xlink)?="[^"]*"|(?<=<g) id="[^"]*"', "", svg)
    svg = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", svg)
    for colour, name in [(TEXT, "muted"), (GRID, "grid"), *((c, f"s{i}") for i, c in enumerate(LIGHT))]:
        svg = svg.replace(colour, f"var(--{name})")
    start, inner = svg.split(">", 1)
    box = re.findall(r'viewBox="[^"]*"', start)[0]
    if not description:
        return f'<svg class="plot" {box} aria-hidden="true">{inner}'
    words = f"<title>{escape(title)}</title><desc>{escape(description)}</desc>"
    drawn = f'<svg class="plot" {box} role="img" aria-label="{escape(title)}">{words}{inner}'
    return f"<figure>{drawn}<figcaption>{escape(description)}</figcaption></figure>"


def rounds_table(run: Run, split: str) -> str:
    """A run, a round a line; without the scores of single entity types, which would make it too wide."""
    metrics = list(dict.fromkeys(name for entry in run.rounds for name in scores(entry, split)))
    if run.config.get("task") == "token-classification":
        metrics = [name for name in metrics if "_" not in name]
    head = ["round", "labelled", "answers", "cost", *metrics, *(f"{part} s" for part in SECONDS), "peak MB"]
    rows = [
        [_plain(entry.get(key), 0) for key in ("round", "labelled", "answers", "cost")]
        + [_plain(scores(entry, split).get(name), 3) for name in metrics]
        + [_plain((entry.get("seconds") or {}).get(part), 1) for part in SECONDS]
        + [_plain(entry.get("peak_memory_mb"), 0)]
        for entry in run.rounds
    ]
    return table(f"{run.path.name}: {run.strategy}, seed {run.seed}; metrics on the {split} split", head, rows)


def final_table(runs: Sequence[Run]) -> str:
    """The metrics of the saved models, a run a line; nothing where no run has saved one."""
    found = [(run, next((s for s in SPLITS if scores(run.final, s)), SPLITS[0])) for run in runs if run.final]
    metrics = list(dict.fromkeys(name for run, split in found for name in scores(run.final, split)))
    rows = [
        [run.path.name, run.strategy, str(run.seed), split]
        + [_plain(run.final.get(key), 0) for key in ("round", "labelled")]
        + [_plain(scores(run.final, split).get(name), 3) for name in metrics]
        for run, split in found
    ]
    head = ["run", "strategy", "seed", "split", "round", "labelled", *metrics]
    return table("From final.json: the model in each run's model/ folder", head, rows, left=2) if rows else ""


def _plain(value: Any, digits: int) -> str:
    return number(float(value), digits) if type(value) in (int, float) else "–"
