"""Colours of figures are told apart by those who do not see all of them, and no figure has others."""

import itertools
import re
from pathlib import Path

import matplotlib
import matplotlib.style
import mplhep
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from pipelines.plots.page import COLOURS, look

ROOT = Path(__file__).resolve().parent.parent
OKABE_ITO = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7", "#000000")
# linear RGB as it is seen without one of the three kinds of cones: Machado, Oliveira and Fernandes, IEEE TVCG 15 (2009) 1291
VISION = {
    "all cones": np.eye(3),
    "no long": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "no middle": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "no short": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
TO_XYZ = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]


def lab(colour, vision):
    """CIE 1976 L*a*b* of a colour, as it is seen."""
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = TO_XYZ @ np.clip(np.array(VISION[vision]) @ linear, 0, 1) / np.array([0.95047, 1.0, 1.08883])
    x, y, z = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def nearest(colours, vision):
    """The smallest distance of two colours."""
    return min(np.linalg.norm(lab(a, vision) - lab(b, vision)) for a, b in itertools.combinations(colours, 2))


@pytest.fixture
def style():
    with matplotlib.style.context([mplhep.style.CMS], after_reset=True):
        yield


@pytest.mark.parametrize("vision", VISION)
def test_colours_are_told_apart_at_least_as_well_as_those_of_okabe_and_ito(vision, style):
    drawn = [*COLOURS, "black"]  # in which data are
    assert len({to_rgb(colour) for colour in drawn}) == 11
    assert nearest(drawn, vision) > max(25, nearest(OKABE_ITO, vision))


def test_samples_of_equal_colour_differ_in_their_dashes():
    assert len({look(number) for number in range(40)}) == 40


def test_no_figure_has_other_colours():
    allowed = {*COLOURS, "black", "white", "grey", "lightgrey", "none", "viridis", "YlGnBu"}
    for path in [*(ROOT / "pipelines/plots").glob("*.py"), ROOT / "tuning/figures.py", ROOT / "tuning/compare.py"]:
        text = path.read_text()
        found = re.findall(r"\b(?:color|colour|ecolor|mec|cmap|facecolor|edgecolor)\"?\s*[=:]\s*\"([^\"]+)\"", text)
        found += re.findall(r"colormaps\[\"(\w+)\"\]", text) + re.findall(r"#[0-9a-fA-F]{6}\b", text)
        others = {one for one in found if one not in allowed and not re.fullmatch(r"0?\.\d+", one)}
        assert not others, f"{path.name}: {others}"
