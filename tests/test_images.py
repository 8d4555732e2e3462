"""Jet images: pixel by pixel against a plain construction, and what turning, moving and mirroring a jet does."""

import itertools

import numpy as np
import pytest
from plain_jets import plain_image, plain_jets

from pipelines.datasets import lhco
from pipelines.datasets.catalog import FOLDER
from pipelines.features import images, jets
from pipelines.features.images import CENTRINGS, ROTATIONS, ImageOptions, jet_images
from pipelines.features.jets import JetOptions, cluster_events, find_jets

PLAIN = {"centring": "axis", "rotation": "none", "flip": False}
NO_SUBJETS = np.full((1, 2, 2), np.nan)


@pytest.fixture(scope="module")
def real_hadrons():
    """The first 60 real events: pt, eta, phi, counts."""
    return next(lhco.read_raw(FOLDER / "lhco_rnd_real.h5", block=60))[:4]


def draw(hadrons, axis=(0.0, 0.0), subjets=NO_SUBJETS, **options):
    """Draw one jet of (pt, eta, phi) hadrons."""
    pt, eta, phi = np.array(hadrons, float).T
    return jet_images(pt, eta, phi, [len(pt)], [axis], subjets, ImageOptions(**options))[0]


def made_jet(seed, hadrons=40):
    """Hadrons around (0, 0) with two subjets at random places, and the places, (2, 2)."""
    rng = np.random.default_rng(seed)
    prongs = rng.uniform(-0.4, 0.4, (2, 2))
    place = prongs[rng.integers(0, 2, hadrons)] + rng.normal(0, 0.1, (hadrons, 2))
    return np.concatenate([rng.exponential(20.0, (hadrons, 1)), place], axis=1), prongs


def turned(places, angle):
    rotation = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return places @ rotation


# -- against the plain construction -------------------------------------------------------------------------


@pytest.mark.parametrize("centring, rotation", itertools.product(CENTRINGS, ROTATIONS))
def test_images_of_real_jets_equal_the_plain_construction(centring, rotation, real_hadrons):
    events = np.split(np.stack(real_hadrons[:3], axis=1), np.cumsum(real_hadrons[3])[:-1])
    for flip, normalise, pixels, width in ((True, True, 25, 2.5), (False, False, 16, 0.8)):
        options = {"centring": centring, "rotation": rotation, "flip": flip, "normalise": normalise}
        options |= {"pixels": pixels, "width": width}
        drawn = find_jets(*real_hadrons, JetOptions(njets=3), ImageOptions(**options)).images
        assert drawn.shape == (60, 3, pixels, pixels) and drawn.dtype == np.float32
        for event, hadrons in enumerate(events):
            found = plain_jets(hadrons, njets=3)
            plain = [plain_image(jet, **options) for jet in found]
            np.testing.assert_allclose(drawn[event, : len(found)], plain, rtol=1e-6, atol=1e-6)
            assert not drawn[event, len(found) :].any()


def test_drawing_changes_no_variable_and_jets_are_drawn_in_their_order(real_hadrons):
    for order in ("pt", "mass"):
        found = find_jets(*real_hadrons, JetOptions(order=order), ImageOptions(normalise=False, width=20, **PLAIN))
        np.testing.assert_array_equal(found.features, cluster_events(*real_hadrons, order=order))
        pt = found.features[:, [0, 23]]
        # The scalar sum of pt in the picture is a little more than the pt of the vector sum.
        drawn = found.images.sum(axis=(2, 3))
        assert (drawn > 0.999 * pt).all() and np.median(drawn / pt) < 1.05


def test_images_do_not_depend_on_batches(real_hadrons, monkeypatch):
    whole = find_jets(*real_hadrons, images=ImageOptions()).images
    monkeypatch.setattr(jets, "_BATCH", 7)
    np.testing.assert_array_equal(find_jets(*real_hadrons, images=ImageOptions()).images, whole)


def test_missing_jets_and_events_without_hadrons_are_black():
    found = find_jets([100, 1], [0, 0], [0, 0], [0, 1, 1], images=ImageOptions())
    assert found.images.sum(axis=(2, 3)).tolist() == [[0, 0], [1, 0], [0, 0]]
    assert find_jets([], [], [], [], images=ImageOptions(pixels=3)).images.shape == (0, 2, 3, 3)


# -- what is where ------------------------------------------------------------------------------------------


def test_rows_rise_with_phi_and_columns_with_eta():
    image = draw([(1, 0.2, 0), (2, 0, -0.1)], pixels=5, width=0.5, normalise=False, **PLAIN)
    expected = np.zeros((5, 5))
    expected[2, 4], expected[1, 2] = 1, 2
    np.testing.assert_array_equal(image, expected)


@pytest.mark.parametrize("pixels", [1, 2, 24, 25])
def test_the_centre_is_inside_the_middle_pixel(pixels):
    for rounding in itertools.product((-1e-15, 1e-15), repeat=2):
        image = draw([(7, *rounding)], pixels=pixels, normalise=False, **PLAIN)
        assert image[pixels // 2, pixels // 2] == 7


def test_image_sums_to_the_share_of_pt_inside_the_window():
    hadrons, _ = made_jet(1)
    inside = (np.abs(hadrons[:, 1:]) < 0.25).all(axis=1)
    share = hadrons[inside, 0].sum() / hadrons[:, 0].sum()
    assert 0.1 < share < 0.9
    assert draw(hadrons, width=0.5, **PLAIN).sum() == pytest.approx(share, rel=1e-6)
    in_gev = draw(hadrons, width=0.5, normalise=False, **PLAIN)
    assert in_gev.sum() == pytest.approx(hadrons[inside, 0].sum(), rel=1e-6)
    assert draw(hadrons, width=10).sum() == pytest.approx(1, rel=1e-6)


@pytest.mark.parametrize("phi", [0.0, 3.1, np.pi, -3.1, 9.0])
def test_images_do_not_depend_on_where_in_phi_the_jet_is(phi):
    hadrons, prongs = made_jet(2)
    away = hadrons + [0, 1.5, phi]
    away[::2, 2] -= 2 * np.pi * np.rint(away[::2, 2] / (2 * np.pi))  # some at +pi, some at -pi
    for centring, rotation in itertools.product(CENTRINGS, ROTATIONS):
        options = {"centring": centring, "rotation": rotation}
        here = draw(hadrons, subjets=prongs[None], **options)
        there = draw(away, (1.5, phi), prongs[None] + [1.5, phi], **options)
        np.testing.assert_allclose(there, here, atol=1e-6)


# -- centring -----------------------------------------------------------------------------------------------


def moment(image, width):
    """The pt-weighted mean (eta, phi) of the pixels of an image from its middle."""
    middle = (np.arange(len(image)) - len(image) // 2) * width / len(image)
    return np.array([image.sum(axis=0) @ middle, image.sum(axis=1) @ middle]) / image.sum()


@pytest.mark.parametrize("rotation", ROTATIONS)
def test_centroid_moves_to_the_middle_pixel(rotation):
    hadrons, prongs = made_jet(3)
    options = {"pixels": 301, "width": 3.01, "rotation": rotation, "subjets": prongs[None] + 0.2}
    off = hadrons + [0, 0.2, 0.2]
    assert np.hypot(*moment(draw(off, centring="axis", **options), 3.01)) > 0.1
    np.testing.assert_allclose(moment(draw(off, centring="centroid", **options), 3.01), 0, atol=0.003)


@pytest.mark.parametrize("rotation", ROTATIONS)
def test_leading_subjet_moves_to_the_middle_pixel(rotation):
    hadrons = [(100, 0.31, -0.22), (30, -0.3, 0.4)]
    subjets = np.array(hadrons)[None, :, 1:]
    image = draw(hadrons, subjets=subjets, centring="subjet", rotation=rotation, normalise=False)
    assert image[12, 12] == 100


# -- turning and mirroring ----------------------------------------------------------------------------------


@pytest.mark.parametrize("rotation, centring", itertools.product(("principal", "subjet"), CENTRINGS))
def test_image_does_not_change_when_the_jet_is_turned_about_its_axis(rotation, centring):
    hadrons, prongs = made_jet(4)
    options = {"rotation": rotation, "centring": centring, "flip": True}
    upright = draw(hadrons, subjets=prongs[None], **options)
    for angle in np.arange(0.3, 6.3, 0.5):
        places = turned(hadrons[:, 1:], angle)
        image = draw(np.concatenate([hadrons[:, :1], places], axis=1), subjets=turned(prongs, angle)[None], **options)
        np.testing.assert_allclose(image, upright, atol=1e-6)
    still = draw(hadrons, subjets=prongs[None], **options | {"rotation": "none"})
    assert np.abs(still - upright).max() > 0.01


@pytest.mark.parametrize("rotation", ROTATIONS)
def test_flipped_images_of_a_jet_and_of_its_mirror_image_are_equal(rotation):
    hadrons, prongs = made_jet(5)
    mirror = [-1, 1]
    for flip, equal in ((True, True), (False, False)):
        options = {"rotation": rotation, "flip": flip}
        image = draw(hadrons, subjets=prongs[None], **options)
        mirrored = draw(hadrons * [1, *mirror], subjets=prongs[None] * mirror, **options)
        assert np.allclose(image, mirrored, atol=1e-6) == equal
        if flip:
            assert image[:, 13:].sum() >= image[:, :12].sum()


@pytest.mark.parametrize("angle", np.arange(0, 6.3, 0.7))
def test_second_subjet_is_straight_below_the_leading_one(angle):
    subjets = np.array([[0.1, 0.1], [0.1 + 0.5 * np.cos(angle), 0.1 + 0.5 * np.sin(angle)]])
    hadrons = [(100, *subjets[0]), (40, *subjets[1])]
    image = draw(hadrons, subjets=subjets[None], pixels=25, width=2.5, normalise=False)
    assert (image[12, 12], image[7, 12]) == (100, 40)


@pytest.mark.parametrize("angle", np.arange(0, 6.3, 0.7))
@pytest.mark.parametrize("rotation", ["principal", "subjet"])  # without a second subjet they are the same
def test_principal_axis_is_upright_with_more_pt_above(angle, rotation):
    places = turned(np.array([[0.0, 0.6], [0.0, -0.3], [0.0, 0.0]]), angle)
    hadrons = np.concatenate([[[100], [40], [10]], places], axis=1)
    image = draw(hadrons, rotation=rotation, centring="axis", pixels=25, width=2.5, normalise=False)
    assert (image[18, 12], image[9, 12], image[12, 12]) == (100, 40, 10)


# -- errors -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, value, expected",
    [
        ("pixels", 0, "a whole number from 1 to 1000"),
        ("pixels", 2.5, "a whole number from 1 to 1000"),
        ("pixels", True, "a whole number from 1 to 1000"),
        ("width", 0, "a finite number > 0"),
        ("width", np.nan, "a finite number > 0"),
        ("width", "2", "a finite number > 0"),
        ("centring", "middle", "'axis', 'centroid' or 'subjet'"),
        ("rotation", None, "'none', 'principal' or 'subjet'"),
    ],
)
def test_options_out_of_range_are_named(name, value, expected):
    with pytest.raises(ValueError) as error:
        ImageOptions(**{name: value})
    assert str(error.value) == f"{name} is {value!r}, expected {expected}"


def test_lengths_that_disagree_are_refused():
    with pytest.raises(ValueError, match="size"):
        images.jet_images([1, 2], [0, 0], [0, 0], [1], [[0, 0]], NO_SUBJETS)
    with pytest.raises(ValueError, match="size"):
        images.jet_images([1], [0], [0], [1, 0], [[0, 0]] * 2, np.zeros((2, 2, 2)))
    with pytest.raises(ValueError, match="axis"):
        images.jet_images([1], [0], [0], [1], [[0, 0]] * 2, NO_SUBJETS)


@pytest.mark.parametrize("pt", [0, np.nan, np.inf])
def test_a_jet_without_a_pt_cannot_be_drawn(pt):
    with pytest.raises(ValueError, match="jet 1 has no pt"):
        images.jet_images([1, pt], [0, 0], [0, 0], [1, 1], [[0, 0]] * 2, np.zeros((2, 2, 2)))
