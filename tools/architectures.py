"""The figures of the models' architectures, one style for all: `python tools/architectures.py` writes docs/figures/architecture.

Sizes in them are the defaults that the models declare. `tests/test_site.py` compares the files with what is drawn here.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "figures" / "architecture"
ACROSS, DOWN, WIDTH, HEIGHT, MARGIN = 178, 92, 142, 56, 16
KINDS = {  # fill, border: tints of Okabe and Ito's colours, which colour-blind readers can tell apart
    "data": ("#eeeeee", "#555555"),
    "network": ("#d3e8f7", "#0072b2"),
    "latent": ("#fdf0cc", "#e69f00"),
    "score": ("#d6f0e5", "#009e73"),
    "loss": ("#f9dfd0", "#d55e00"),
}
LEGEND = {"data": "input", "network": "trained", "latent": "in between", "score": "score", "loss": "loss"}

Values = Mapping[str, Any]


class Box(NamedTuple):
    """A box of a figure: its kind, its lines of text, and where it is on the grid."""

    kind: str
    text: str
    column: float
    row: float


class Figure(NamedTuple):
    """Boxes by name, and arrows as "from > to" or "from > to: label"; a dashed arrow is "from - to"."""

    boxes: Mapping[str, Box]
    arrows: Sequence[str]


def widths(values: Sequence[int]) -> str:
    """Return the widths of layers as text.

    >>> widths((64, 32))
    '64-32'
    """
    return "-".join(map(str, values))


def gan_ae(hp: Values) -> Figure:
    return Figure(
        {
            "x": Box("data", "42 jet variables|scaled to 0 to 1", 0, 0),
            "e": Box("network", f"encoder|{hp['ae_units']}", 1, 0),
            "z": Box("latent", f"latent space|{hp['latent_dim']}", 2, 0),
            "d": Box("network", f"decoder, tied|{hp['ae_units']}", 3, 0),
            "r": Box("data", "reconstruction|x'", 4, 0),
            "m": Box("data", "dijet mass|training alone", 1, 1),
            "c": Box("loss", "DisCo(dist, m_jj)|times alpha", 2, 1),
            "s": Box("score", "distance|dist(x, x')", 3, 1),
            "g": Box("network", f"discriminator|{widths(hp['d_units'])}-1", 4, 1),
        },
        ["x > e", "e > z", "z > d", "d > r", "r > g", "r > s", "s > c", "m > c"],
    )


def ae(hp: Values) -> Figure:
    mirrored = hp["decoder_units"] or hp["encoder_units"][-2::-1]  # none are those of the encoder in reverse
    return Figure(
        {
            "x": Box("data", "lepton, jet and|event variables", 0, 0),
            "e": Box("network", f"encoder|{widths(hp['encoder_units'][:-1])}", 1, 0),
            "z": Box("latent", f"latent space|{hp['encoder_units'][-1]}", 2, 0),
            "d": Box("network", f"decoder|{widths(mirrored)}", 3, 0),
            "r": Box("data", "reconstruction|x'", 4, 0),
            "s": Box("score", "mse|mean over features", 4, 1),
            "p": Box("loss", "penalties of kernels|and of outputs", 2, 1),
        },
        ["x > e", "e > z", "z > d", "d > r", "r > s", "e - p", "d - p"],
    )


def vae(hp: Values) -> Figure:
    reverse = widths(hp["units"][::-1])
    return Figure(
        {
            "x": Box("data", "mass, tau21, tau32|of two jets", 0, 0),
            "e": Box("network", f"encoder|{widths(hp['units'])}, SELU", 1, 0),
            "q": Box("latent", f"mean, sigma|{hp['latent_dim']}", 2, 0),
            "z": Box("latent", "z ~ N(mean, sigma)|flow, if there is one", 3, 0),
            "d": Box("network", f"decoder, step one|{reverse}", 4, 0),
            "l": Box("loss", "alpha mse + KL", 5, 0),
            "s": Box("score", "KL from N(0, 1)|and five others", 2, 1),
            "m": Box("data", f"mass, smeared|by {100 * hp.get('mass_width', 0.025):.3g} %", 3, 1),
            "n": Box("network", f"decoder, step two|{reverse}", 4, 1),
            "g": Box("data", "generate, scan", 5, 1),
        },
        ["x > e", "e > q", "q > z", "z > d", "d > l", "q > s", "z > n", "m > n", "n > g"],
    )


def conv_vae(hp: Values) -> Figure:
    kernels = zip(hp["channels"], hp["heights"], hp["widths"])
    return Figure(
        {
            "x": Box("data", "particles, slots x 4|E, pt, eta, phi", 0, 0),
            "e": Box("network", "convolutions|" + ", ".join(f"{c} of {h}x{w}" for c, h, w in kernels), 1.15, 0),
            "q": Box("latent", f"mean, log variance|{hp['latent_dim']}", 2.3, 0),
            "f": Box("latent", "z, through a flow|if there is one", 3.3, 0),
            "d": Box("network", "the same convolutions|last to first", 4.3, 0),
            "s": Box("score", "chamfer: distance|of the two sets", 4.3, 1),
            "k": Box("score", "kl, radius", 2.3, 1),
            "h": Box("data", "multiplicities, MET, HT|if asked for", 1.15, 1),
        },
        ["x > e", "e > q", "q > f", "f > d", "d > s", "q > k", "h > q"],
    )


def gcn_vae(hp: Values) -> Figure:
    return Figure(
        {
            "x": Box("data", "particles, slots x 5|E, pt, eta, phi, type", 0, 0),
            "e": Box("network", f"graph convolutions|{widths(hp['units'])}", 1, 0),
            "q": Box("latent", f"mean, log variance|{hp['latent_dim']}", 2, 0),
            "f": Box("latent", "z, through a flow|if there is one", 3, 0),
            "d": Box("network", f"graph convolutions|{widths(hp['units'][::-1])}", 4, 0),
            "g": Box("data", f"graph of the event|{hp['adjacency']}", 1, 1),
            "k": Box("score", "kl, radius", 2, 1),
            "s": Box("score", "chamfer: distance|of the two sets", 4, 1),
        },
        ["x > e", "e > q", "q > f", "f > d", "d > s", "q > k", "g > e", "g - d"],
    )


def deep_svdd(hp: Values) -> Figure:
    return Figure(
        {
            "x": Box("data", "features|scaled", 0, 0),
            "e": Box("network", f"phi, no biases|{widths(hp['units'])}-{hp['latent_dim']}", 1, 0),
            "z": Box("latent", f"phi(x)|{hp['latent_dim']}", 2, 0),
            "s": Box("score", "distance|squared, to c", 3, 0),
            "c": Box("data", "centre c: mean of phi|before training", 2, 1),
        },
        ["x > e", "e > z", "z > s", "c > s"],
    )


def _classifier(hp: Values) -> str:
    return f"{hp['folds']} classifiers|{widths(hp['units'])}, or trees"


def cwola(hp: Values) -> Figure:
    return Figure(
        {
            "w": Box("data", "events in the window|class 1", 0, 0),
            "b": Box("data", "events beside it|class 0", 0, 1),
            "c": Box("network", _classifier(hp), 1, 0.5),
            "h": Box("loss", "cross entropy|without own fold", 2, 1),
            "s": Box("score", "probability, by the|one that has not seen it", 2, 0),
        },
        ["w > c", "b > c", "c > s", "c > h"],
    )


def cathode(hp: Values) -> Figure:
    flow = f"conditional flow|{hp['num_flows']} MADEs of {hp['flow_width']}"
    return Figure(
        {
            "b": Box("data", "events beside|the window", 0, 1),
            "f": Box("network", flow, 1, 1),
            "t": Box("latent", "samples at masses|of the window", 2, 1),
            "w": Box("data", "events in the window|class 1", 2, 0),
            "c": Box("network", _classifier(hp), 3, 0.5),
            "s": Box("score", "probability, by the|one that has not seen it", 4, 0.5),
        },
        ["b > f", "f > t", "t > c", "w > c", "c > s"],
    )


def lacathode(hp: Values) -> Figure:
    flow = f"conditional flow|{hp['num_flows']} MADEs of {hp['flow_width']}"
    return Figure(
        {
            "b": Box("data", "events beside|the window", 0, 1),
            "f": Box("network", flow, 1, 1),
            "w": Box("data", "events in the window|and their masses", 1, 0),
            "z": Box("latent", "z = f(v; m)|class 1", 2, 0),
            "n": Box("latent", "N(0, 1)|class 0", 2, 1),
            "c": Box("network", _classifier(hp), 3, 0.5),
            "s": Box("score", "probability, by the|one that has not seen it", 4, 0.5),
        },
        ["b > f", "f > z", "w > z", "z > c", "n > c", "c > s"],
    )


def anode(hp: Values) -> Figure:
    flow = f"{hp['num_flows']} MADEs of {hp['flow_width']}"
    return Figure(
        {
            "w": Box("data", "events in|the window", 0, 0),
            "b": Box("data", "events beside|the window", 0, 1),
            "f": Box("network", f"{hp['folds']} flows, p(v given m)|{flow}", 1, 0),
            "g": Box("network", f"flow, p(v given m)|{flow}", 1, 1),
            "s": Box("score", "log ratio, in the|window over beside it", 2, 0.5),
        },
        ["w > f", "b > g", "f > s", "g > s"],
    )


def r_anode(hp: Values) -> Figure:
    background = f"{hp['num_flows']} MADEs of {hp['flow_width']}"
    signal = f"{hp['signal_num_flows']} MADEs of {hp['signal_flow_width']}"
    return Figure(
        {
            "w": Box("data", "events in|the window", 0, 0),
            "b": Box("data", "events beside|the window", 0, 1),
            "f": Box("network", f"{hp['folds']} flows p_sig, and w|{signal}", 1, 0),
            "g": Box("network", f"flow p_bg, then fixed|{background}", 1, 1),
            "l": Box("loss", "-ln(w p_sig +|(1 - w) p_bg)", 2, 0),
            "s": Box("score", "log ratio|p_sig over p_bg", 2, 1),
        },
        ["w > f", "b > g", "f > l", "g > l", "f > s", "g > s"],
    )


def idealised(hp: Values) -> Figure:
    return Figure(
        {
            "w": Box("data", "events in the window|class 1", 0, 0),
            "b": Box("data", "TRUE background|in it, class 0", 0, 1),
            "c": Box("network", _classifier(hp), 1, 0.5),
            "s": Box("score", "probability, by the|one that has not seen it", 2, 0.5),
        },
        ["w > c", "b > c", "c > s"],
    )


def pca(hp: Values) -> Figure:
    return Figure(
        {
            "x": Box("data", "features|scaled", 0, 0),
            "v": Box("network", "leading eigenvectors V|of the covariance", 1, 0),
            "z": Box("latent", f"components|{hp['latent_dim']}", 2, 0),
            "r": Box("data", "reconstruction|mu + V z", 3, 0),
            "s": Box("score", "mse|mean over features", 4, 0),
        },
        ["x > v", "v > z", "z > r", "r > s"],
    )


def knn(hp: Values) -> Figure:
    return Figure(
        {
            "x": Box("data", "features|scaled", 0, 0),
            "n": Box("network", f"{hp['sample']:,} reference|events", 1, 0),
            "s": Box("score", f"mean distance to|the {hp['neighbours']} nearest", 2, 0),
        },
        ["x > n", "n > s"],
    )


def isolation_forest(hp: Values) -> Figure:
    return Figure(
        {
            "x": Box("data", "features|scaled", 0, 0),
            "t": Box("network", f"{hp['trees']} random trees|of {hp['subsample']} events each", 1, 0),
            "l": Box("latent", "cuts until an event|is alone", 2, 0),
            "s": Box("score", "isolation|2^(-mean path / c)", 3, 0),
        },
        ["x > t", "t > l", "l > s"],
    )


def ddp(hp: Values) -> Figure:
    curves = len(hp["half_widths"]) + 2 * len(hp["degrees"])
    return Figure(
        {
            "n": Box("data", "counts n, edges,|width looked for", 0, 0),
            "m": Box("latent", f"{curves} smooth curves m|fitted to the spectrum", 1, 0),
            "r": Box("latent", "residuals in units|of their errors", 2, 0),
            "c": Box("network", f"{len(hp['dilations'])} residual blocks|{hp['channels']} channels, dilated", 3, 0),
            "s": Box("score", "significance|in every bin", 4, 0),
            "g": Box("data", "generated spectra|with true background", 3, 1),
            "l": Box("loss", "Huber, of the known|likelihood ratio", 4, 1),
        },
        ["n > m", "m > r", "r > c", "c > s", "s > l", "g > l"],
    )


MODELS: Mapping[str, Callable[[Values], Figure]] = {
    one.__name__: one
    for one in (
        gan_ae, vae, ae, conv_vae, gcn_vae, deep_svdd, cwola, cathode, lacathode, anode, r_anode, idealised, pca, knn,
        isolation_forest, ddp,
    )
}  # fmt: skip


def drawn(name: str, hyperparameters: Values) -> str:
    """Return the figure of a model as SVG.

    Args:
        name: of the model. hyperparameters: their values, by name.
    """
    figure = MODELS[name](hyperparameters)
    columns = max(box.column for box in figure.boxes.values())
    rows = max(box.row for box in figure.boxes.values())
    wide, high = MARGIN * 2 + columns * ACROSS + WIDTH, MARGIN * 2 + rows * DOWN + HEIGHT + 34
    wide = max(wide, 5 * 118 + 2 * MARGIN)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide:g} {high:g}" width="{wide:g}" role="img" '
        'font-family="system-ui, sans-serif" font-size="12.5">',
        f"<title>Architecture of {name}</title>",
        f'<rect width="{wide:g}" height="{high:g}" fill="#ffffff"/>',
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0L8 4L0 8z" fill="#333333"/></marker></defs>',
        *(_arrow(arrow, figure.boxes) for arrow in figure.arrows),
        *(_box(box) for box in figure.boxes.values()),
    ]
    used = [kind for kind in LEGEND if any(box.kind == kind for box in figure.boxes.values())]
    for place, kind in enumerate(used):
        x, y = MARGIN + 118 * place, high - MARGIN - 12
        fill, border = KINDS[kind]
        parts.append(f'<rect x="{x:g}" y="{y:g}" width="14" height="12" rx="2" fill="{fill}" stroke="{border}"/>')
        parts.append(f'<text x="{x + 20:g}" y="{y + 10.5:g}" fill="#333333" font-size="11.5">{LEGEND[kind]}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _corner(box: Box) -> tuple[float, float]:
    return MARGIN + box.column * ACROSS, MARGIN + box.row * DOWN


def _box(box: Box) -> str:
    x, y = _corner(box)
    fill, border = KINDS[box.kind]
    lines = box.text.split("|")
    text = "".join(
        f'<text x="{x + WIDTH / 2:g}" y="{y + HEIGHT / 2 + 4.5 + 17 * (i - (len(lines) - 1) / 2):g}" '
        f'text-anchor="middle" fill="#111111"{_fitting(line)}>{escape(line)}</text>'
        for i, line in enumerate(lines)
    )
    return f'<rect x="{x:g}" y="{y:g}" width="{WIDTH}" height="{HEIGHT}" rx="6" fill="{fill}" stroke="{border}" stroke-width="1.5"/>{text}'


def _fitting(line: str) -> str:
    """Return what makes a long line as wide as the box, whatever the reader's font is."""
    return f' textLength="{WIDTH - 10}" lengthAdjust="spacingAndGlyphs"' if len(line) > 20 else ""


def _arrow(text: str, boxes: Mapping[str, Box]) -> str:
    start, kind, goal = text.split()
    a, b = boxes[start], boxes[goal]
    (ax, ay), (bx, by) = _corner(a), _corner(b)
    if b.column > a.column:
        points = (ax + WIDTH, ay + HEIGHT / 2, bx, by + HEIGHT / 2)
    elif b.column < a.column and a.row == b.row:
        points = (ax, ay + HEIGHT / 2, bx + WIDTH, by + HEIGHT / 2)
    else:
        down = by > ay
        points = (ax + WIDTH / 2, ay + HEIGHT if down else ay, bx + WIDTH / 2, by if down else by + HEIGHT)
    dashes = ' stroke-dasharray="5 4"' if kind == "-" else ""
    x1, y1, x2, y2 = points
    return (
        f'<line x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}" stroke="#333333" stroke-width="1.4"{dashes} '
        'marker-end="url(#tip)"/>'
    )


def main() -> None:
    """Write all figures."""
    from zoo import declarations

    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, model in declarations.declared().items():
        (FOLDER / f"{name}.svg").write_text(drawn(name, model["hyperparameters"]), encoding="utf-8")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    main()
