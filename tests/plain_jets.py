"""Jets one event at a time with FastJet's own particles: what `pipelines.features.jets` is held against.

Nothing in here is shared with the product, so that both would have to be wrong in the same way.
"""

import fastjet
import numpy as np

RINGS = [0, 0.01, 0.01668101, 0.02782559, 0.04641589, 0.07742637, 0.12915497, 0.21544347, 0.35938137, 0.59948425, 1]


def plain_event(hadrons, njets=2, radius=1.0, order="pt", min_pt=20.0, **scales):
    """Return the variables of an event of (pt, eta, phi) hadrons, in the order of the product's columns."""
    found = plain_jets(hadrons, njets, radius, order, min_pt)
    variables = [plain_jet(jet, radius, **scales) for jet in found]
    variables += [[0.0] * 23] * (njets - len(found))
    pairs = {2: [(0, 1)], 3: [(0, 1), (0, 2), (1, 2), (0, 1, 2)]}[njets]
    masses = [sum((found[i] for i in group if i < len(found)), fastjet.PseudoJet()).m() for group in pairs]
    return [*np.concatenate(variables), *np.maximum(masses, 0)]


def plain_jets(hadrons, njets=2, radius=1.0, order="pt", min_pt=20.0):
    """Return the FastJet jets of an event that are taken, in order."""
    particles = [fastjet.PseudoJet(*map(float, p)) for p in four_momenta(hadrons)]
    sequence = fastjet.ClusterSequence(particles, fastjet.JetDefinition(fastjet.antikt_algorithm, radius))
    found = fastjet.sorted_by_pt(sequence.inclusive_jets(min_pt))[:njets]
    for jet in found:
        jet.sequence = sequence  # which would be deleted, and the constituents with it
    return sorted(found, key=lambda jet: -jet.m()) if order == "mass" else list(found)


def four_momenta(hadrons):
    """Return px, py, pz, E of massless hadrons."""
    pt, eta, phi = hadrons.T
    return zip(pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta), pt * np.cosh(eta), strict=True)


def plain_jet(jet, radius=1.0, subjet_radius=0.2, dcut=0.1, min_subjet_pt=0.0):
    """Return the 23 variables of a FastJet jet."""
    particles = list(jet.constituents())
    pt, eta, phi, e = np.array([(p.pt(), p.eta(), p.phi(), p.e()) for p in particles]).T
    small = fastjet.ClusterSequence(particles, fastjet.JetDefinition(fastjet.kt_algorithm, float(subjet_radius)))
    large = fastjet.ClusterSequence(particles, fastjet.JetDefinition(fastjet.kt_algorithm, float(radius)))
    tau = [0.0, 0.0, 0.0]
    for number in range(1, min(3, len(particles)) + 1):
        nearest = np.min([distance(eta, phi, axis) for axis in large.exclusive_jets(number)], axis=0)
        value = np.dot(pt, nearest) / pt.sum()
        tau[number - 1] = value if value > 1e-12 else 0.0
    rings = np.histogram(distance(eta, phi, jet) / radius, RINGS, weights=e / jet.e())[0]
    counts = len(particles), len(small.inclusive_jets(min_subjet_pt)), small.n_exclusive_jets(dcut)
    ratios = [a / b if b > 0 else 0.0 for a, b in ((tau[2], tau[1]), (tau[1], tau[0]))]
    return [jet.pt(), jet.eta(), jet.phi_std(), max(jet.m(), 0.0), jet.e(), *counts, *tau, *ratios, *rings]


def distance(eta, phi, axis):
    """Return dR of arrays of particles from a FastJet jet."""
    dphi = np.abs(phi - axis.phi())
    return np.hypot(np.minimum(dphi, 2 * np.pi - dphi), eta - axis.eta())


def plain_image(jet, pixels, width, centring, rotation, flip, normalise, subjet_radius=0.2):
    """Draw a FastJet jet constituent by constituent, by complex numbers: eta + i phi."""
    particles = list(jet.constituents())
    small = fastjet.ClusterSequence(particles, fastjet.JetDefinition(fastjet.kt_algorithm, subjet_radius))
    prongs = [place(subjet, jet) for subjet in fastjet.sorted_by_pt(small.inclusive_jets())]
    pt, places = [p.pt() for p in particles], [place(p, jet) for p in particles]
    centroid = np.dot(pt, places) / sum(pt)
    pixel = width / pixels
    if rotation == "none":
        turn = 1.0
    elif rotation == "subjet" and len(prongs) > 1:
        edge = prongs[1] - prongs[0]
        turn = -1j * edge.conjugate() / abs(edge)
    else:
        spread = np.cov(np.real(places), np.imag(places), aweights=pt, ddof=0)
        across, up = np.linalg.eigh(spread)[1][:, 1]
        turn = 1j * complex(across, -up)
        above = sum(w * np.sign(round((turn * (z - centroid)).imag / pixel)) for w, z in zip(pt, places, strict=True))
        turn = -turn if above < 0 else turn
    centre = {"axis": 0, "centroid": centroid, "subjet": prongs[0]}[centring]
    places = [turn * (z - centre) for z in places]
    right = sum(w * np.sign(round(z.real / pixel)) for w, z in zip(pt, places, strict=True))
    image = np.zeros((pixels, pixels))
    for weight, z in zip(pt, places, strict=True):
        x = -z.real if flip and right < 0 else z.real
        column, row = (int(np.floor(value / pixel + 0.5)) + pixels // 2 for value in (x, z.imag))
        if 0 <= column < pixels and 0 <= row < pixels:
            image[row, column] += weight / sum(pt) if normalise else weight
    return image


def place(particle, jet):
    """Return eta + i phi from the jet's axis."""
    dphi = particle.phi() - jet.phi()
    return complex(particle.eta() - jet.eta(), dphi - 2 * np.pi * round(dphi / (2 * np.pi)))
