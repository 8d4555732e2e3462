"""Models of sets of particles: graphs, convolutions, and what `conv_vae` and `gcn_vae` make of them. About 40 s."""

import numpy as np
import plain_sets
import pytest
import tensorflow as tf
from plain_sets import PARTICLE, particles

import zoo
from pipelines import Events, InputError
from pipelines.datasets.darkmachines import truncated_places
from zoo.keras import keras
from zoo.layers import graphs
from zoo.layers.latent import gaussian_kl
from zoo.losses import chamfer, mean_squared_error
from zoo.models import set_vae as sets
from zoo.models.conv_vae import Convolution
from zoo.models.gcn_vae import GraphNetwork

MODELS = ("conv_vae", "gcn_vae")


@pytest.fixture(scope="module")
def events():
    return particles(400)


def built(name, **options):
    model = zoo.get(name, **options)
    model.build_for(model.hp.columns, PARTICLE, 39)
    return model


@pytest.fixture(scope="module")
def models(events):
    """Every model with all that it can take, adapted, not trained."""
    found = {}
    for name in MODELS:
        found[name] = zoo.get(
            name, high_level_features=True, multiplicities=True, high_level_weight=3.0, beta=0.3, seed=5
        )
        found[name].adapt(events)
    return found


def batch_of(model, events):
    features = model.scaler(events.read("features", model.resolved_columns)) if model.resolved_columns else None
    weight = tf.linspace(0.5, 1.5, len(events))
    return {"objects": tf.constant(events.read("objects")), "features": features, "weight": weight}


# -- graphs --------------------------------------------------------------------------------------------


def test_nearest_neighbours_are_those_of_a_plain_loop():
    objects = particles(30, seed=3).read("objects")
    eta, phi, mask = objects[..., 2], objects[..., 3] + 6 * np.pi, (objects != 0).any(-1)
    for neighbours in (1, 3, 50):
        found = graphs.nearest(tf.constant(eta), tf.constant(phi), tf.constant(mask), neighbours).numpy()
        for i in range(len(objects)):
            expected = plain_sets.nearest(eta[i].astype(float), phi[i].astype(float), mask[i], neighbours)
            np.testing.assert_array_equal(found[i], expected)


def test_with_many_neighbours_the_graph_is_complete():
    mask = tf.constant(np.arange(6) < np.array([[1], [4], [0]]))
    eta = tf.random.stateless_normal((3, 6), (0, 1))
    np.testing.assert_array_equal(graphs.nearest(eta, eta, mask, 9), graphs.complete(mask))


def test_normalised_adjacency_is_that_of_spektral():
    from spektral.utils import gcn_filter

    mask = np.ones((1, 7), bool)
    eta = tf.random.stateless_normal((1, 7), (0, 2))
    adjacency = graphs.nearest(eta, eta, tf.constant(mask), 2)
    np.testing.assert_allclose(graphs.normalised(adjacency)[0], gcn_filter(adjacency[0].numpy()), rtol=1e-6)


def test_a_constant_adjacency_makes_all_particles_equal_and_ours_does_not():
    """J / N, which D^-1/2 (A + I) D^-1/2 is on a complete graph, is a trap: one layer, and all particles are the same."""
    from spektral.layers import GCNConv
    from spektral.utils import gcn_filter

    number = 6
    x = tf.random.stateless_normal((1, number, 5), (0, 3))
    layer = GCNConv(4)
    without_loops = gcn_filter(np.ones((number, number)) - np.eye(number))
    np.testing.assert_allclose(without_loops, np.full((number, number), 1 / number), rtol=1e-6)
    flat = layer([x, tf.constant(without_loops[None], tf.float32)])
    assert np.ptp(flat, axis=1).max() < 1e-6

    mask = tf.fill((1, number), True)
    ours = graphs.normalised(graphs.complete(mask))
    np.testing.assert_allclose(ours[0], (np.ones((number, number)) + np.eye(number)) / (number + 1), rtol=1e-6)
    assert np.ptp(layer([x, ours]), axis=1).min() > 0.1
    few = graphs.nearest(x[..., 0], x[..., 1], mask, number)  # and so it is with all of them as neighbours
    np.testing.assert_allclose(graphs.normalised(few), ours)


@pytest.mark.parametrize("channels", [3, 9])  # fewer and more than there are features
def test_complete_graph_without_its_matrix_is_spektrals_gcn(channels):
    mask = tf.constant(np.arange(8) < np.array([[8], [3], [0]]))
    x = tf.where(mask[..., None], tf.random.stateless_normal((3, 8, 5), (0, 4)), 0.0)
    layer = graphs.GraphConvolution(channels, "relu")
    layer.build((None, 8, 5))
    layer.bias.assign(tf.random.stateless_normal((channels,), (0, 5)))
    matrix = graphs.normalised(graphs.complete(mask))
    spektral = tf.nn.relu(layer.layer([x, matrix])) * tf.cast(mask, tf.float32)[..., None]
    np.testing.assert_allclose(layer(x, None, mask), spektral, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(layer(x, matrix, mask), spektral, rtol=1e-5, atol=1e-6)


def test_graph_attention_is_spektrals():
    from spektral.layers import GATConv

    mask = tf.constant(np.arange(6) < np.array([[6], [4]]))
    x = tf.where(mask[..., None], tf.random.stateless_normal((2, 6, 5), (0, 6)), 0.0)
    graph = graphs.nearest(x[..., 0], x[..., 1], mask, 2)
    theirs = GATConv(3, dropout_rate=0.0, kernel_initializer=keras.initializers.GlorotUniform(seed=1),
                     attn_kernel_initializer=keras.initializers.GlorotUniform(seed=2))  # fmt: skip
    ours = graphs.GraphAttention(3, None)
    expected = theirs([x, graph]) * tf.cast(mask, tf.float32)[..., None]
    ours.build((None, 6, 5))
    ours.kernel.assign(theirs.kernel[:, 0])
    ours.attention.assign(tf.concat([theirs.attn_kernel_self[..., 0], theirs.attn_kernel_neighs[..., 0]], -1))
    np.testing.assert_allclose(ours(x, graph, mask), expected, rtol=1e-5, atol=1e-6)


def test_edge_convolution_is_that_of_a_plain_loop():
    mask = np.array([[True] * 5, [True] * 3 + [False] * 2])
    x = np.where(mask[..., None], tf.random.stateless_normal((2, 5, 4), (0, 7)).numpy(), 0.0)
    graph = graphs.nearest(tf.constant(x[..., 0]), tf.constant(x[..., 1]), tf.constant(mask), 1)
    layer = graphs.EdgeConvolution(3, "relu")
    layer.build((None, 5, 4))
    layer.bias.assign([0.5, -0.2, 0.1])
    own, other, bias = layer.kernel_own.numpy(), layer.kernel_other.numpy(), layer.bias.numpy()
    expected = np.zeros((2, 5, 3))
    for b, i in zip(*np.nonzero(mask)):
        messages = [x[b, i] @ own + (x[b, j] - x[b, i]) @ other + bias for j in np.flatnonzero(graph[b, i])]
        expected[b, i] = np.maximum(messages, 0).max(axis=0)
    np.testing.assert_allclose(layer(tf.constant(x), graph, tf.constant(mask)), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", graphs.LAYERS)
def test_a_layer_of_members_is_that_of_each(kind):
    mask = tf.constant(np.arange(6) < np.array([[6], [4]]))
    x = tf.where(mask[..., None], tf.random.stateless_normal((3, 2, 6, 5), (0, 8)), 0.0)
    several, one = graphs.LAYERS[kind](4, "relu", (3,)), graphs.LAYERS[kind](4, "relu")
    several.build((None, 6, 5))
    one.build((None, 6, 5))
    eta = tf.random.stateless_normal((2, 6), (0, 9))
    for adjacency in (None, graphs.nearest(eta, eta, mask, 2)):
        graph = several.graph(mask, adjacency)
        found = several(x, graph, mask)
        shared = several(x[0], graph, mask)  # as in the first layer, which all members see the same particles in
        for k in range(3):
            for mine, theirs in zip(one.trainable_weights, several.trainable_weights):
                mine.assign(theirs[k])
            np.testing.assert_allclose(found[k], one(x[k], graph, mask), rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(shared[k], one(x[0], graph, mask), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("adjacency", ["complete", "knn"])
@pytest.mark.parametrize("kind", ["gat", "edge"])
def test_what_stands_in_padded_slots_is_no_neighbour(kind, adjacency):
    """Attention and maxima ask the graph who is there; the sums of `gcn` need zeros in those slots, and are given them."""
    mask = tf.constant(np.arange(6) < np.array([[6], [4], [1]]))
    x, eta = tf.random.stateless_normal((3, 6, 5), (0, 8)), tf.random.stateless_normal((3, 6), (0, 9))
    layer = graphs.LAYERS[kind](4, None)
    layer.build((None, 6, 5))
    layer.bias.assign([0.5, -0.2, 0.1, 3.0])
    graph = layer.graph(mask, None if adjacency == "complete" else graphs.nearest(eta, eta, mask, 2))
    found = [layer(tf.where(mask[..., None], x, rest), graph, mask) for rest in (0.0, 1e3, -1e3)]
    assert np.abs(found[0]).max() > 0
    for one in found[1:]:
        np.testing.assert_allclose(one, found[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(found[0][~mask.numpy()], 0)


# -- convolutions --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "image"), [((3, 4), (9, 4)), ((5, 1), (9, 4)), ((7, 1), (2, 4)), ((3, 11), (5, 1))])
@pytest.mark.parametrize(("depth", "channels"), [(1, 8), (8, 3)])
def test_convolution_is_that_of_keras(size, image, depth, channels):
    x = tf.random.stateless_normal((2, *image, depth), (1, 1))
    theirs = keras.layers.Conv2D(channels, size, padding="same")
    expected = theirs(x)
    ours = Convolution(channels, size, None, ())
    ours.build(x.shape)
    ours.kernel.assign(tf.reshape(theirs.kernel, ours.kernel.shape))
    np.testing.assert_allclose(ours(x), expected, rtol=1e-4, atol=1e-5)
    group = Convolution(channels, size, None, (2,))
    group.build(x.shape)
    group.kernel.assign(tf.stack([ours.kernel, 2 * ours.kernel]))
    np.testing.assert_allclose(group(x), tf.stack([expected, 2 * expected]), rtol=1e-4, atol=1e-5)


# -- networks of the paper -----------------------------------------------------------------------------


def test_the_networks_are_those_of_the_paper():
    conv, gcn = built("conv_vae"), built("gcn_vae")
    taps = [tuple(layer.kernel.shape) for network in (conv.encoder, conv.decoder) for layer in network.layers]
    assert taps[:3] == [(3 * 4, 32), (5 * 32, 16), (7 * 16, 8)]
    assert taps[3:] == [(7 * 8, 16), (5 * 16, 32), (3 * 4 * 32, 1)]
    assert [layer.size for layer in conv.decoder.layers] == [(7, 1), (5, 1), (3, 4)]
    assert tuple(conv.to_latent.kernel.shape) == (39 * 4 * 8, 2 * 15)
    kernels = [tuple(layer.kernel.shape) for network in (gcn.encoder, gcn.decoder) for layer in network.layers]
    assert kernels == [(5, 32), (32, 16), (16, 2), (2, 16), (16, 32), (32, 5)]
    assert tuple(gcn.to_latent.kernel.shape) == (39 * 2, 2 * 15)
    assert tuple(gcn.from_latent.kernel.shape) == (15, 39 * 2)


def test_gcn_is_a_layer_of_spektral():
    from spektral.layers import GCNConv

    gcn = built("gcn_vae")
    assert all(isinstance(layer.layer, GCNConv) for network in (gcn.encoder, gcn.decoder) for layer in network.layers)


def test_every_weight_is_trainable_and_known_to_keras_once():
    for model in (built("conv_vae", flow="planar"), built("gcn_vae", flow="triangular", adjacency="knn")):
        ours, theirs = (
            [id(w) for w in model.trainer.tasks["vae"].weights],
            [id(w) for w in model.trainable_variables],
        )
        assert len(ours) == len(set(ours)) and sorted(ours) == sorted(theirs)


# -- loss and scores -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_the_loss_is_that_of_the_paper(name, models, events):
    model, batch = models[name], batch_of(models[name], events)
    event = model.event(batch["objects"], batch["features"])
    mean, log_var, h = model.encode(event)
    z, _ = model.latent.draw(mean, log_var, h, model.seeds)
    made, high_level = model.decode(z, event)
    x, y, mask = event.particles.numpy(), made.numpy(), event.mask.numpy()
    distance = [plain_sets.chamfer(x[i][mask[i]], y[i][mask[i]]) for i in range(20)]
    np.testing.assert_allclose(chamfer(event.particles, made, event.mask, event.mask)[:20], distance, rtol=1e-5)
    mean_of = lambda term: np.mean(batch["weight"].numpy() * term.numpy())  # noqa: E731
    expected = 0.7 * mean_of(chamfer(event.particles, made, event.mask, event.mask))
    expected += 0.3 * mean_of(gaussian_kl(mean, log_var))
    expected += 3.0 * mean_of(mean_squared_error(batch["features"], high_level))
    np.testing.assert_allclose(model.losses(batch, model.seeds, True)["loss"], expected, rtol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_scores_are_their_formulas_in_physical_units(name, models, events):
    model = models[name]
    found = model.results(events, ["latent", "latent_log_var", "reconstructed", "chamfer", "kl", "radius"])
    mu, sigma = found["latent"].astype(float), np.exp(found["latent_log_var"].astype(float) / 2)
    np.testing.assert_allclose(found["radius"], ((mu / sigma) ** 2).sum(-1), rtol=1e-4)
    np.testing.assert_allclose(found["kl"], gaussian_kl(found["latent"], found["latent_log_var"]), rtol=1e-4)
    objects = events.read("objects")[..., model.fields]
    real = (objects != 0).any(-1)
    np.testing.assert_array_equal(found["reconstructed"][~real], 0)
    unit = objects[real].std(axis=0)
    expected = [
        plain_sets.chamfer(objects[i][real[i]] / unit, found["reconstructed"][i][real[i]] / unit) for i in range(9)
    ]
    np.testing.assert_allclose(found["chamfer"][:9], expected, rtol=1e-3)


@pytest.mark.parametrize("log_var", [-400.0, 400.0])
def test_variances_beyond_float32_leave_scores_finite(log_var, events):
    model = built("gcn_vae", members=2)
    model.adapt(events)
    kernel, bias = model.to_latent.trainable_variables
    kernel.assign(tf.ones_like(kernel))
    bias.assign(tf.where(tf.range(bias.shape[-1]) < bias.shape[-1] // 2, 1.0, log_var) * tf.ones_like(bias))
    scores = model.results(events, ["latent_log_var", "kl", "radius"])
    assert (np.abs(scores["latent_log_var"]) > 90).all()  # where exp() ends
    assert (scores["kl" if log_var > 0 else "radius"] == np.float32(sets.HIGHEST)).all()
    for kind in ("kl", "radius"):
        assert np.isfinite(model.score(events, kind)).all()


@pytest.mark.parametrize("name", MODELS)
def test_particles_are_scaled_by_what_the_real_ones_are(name, models, events):
    model = models[name]
    objects = events.read("objects")
    x = model.event(tf.constant(objects), None).particles.numpy()
    real = (objects != 0).any(-1)
    np.testing.assert_allclose(x[real].mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(x[real].std(axis=0), 1, atol=1e-5)
    np.testing.assert_array_equal(x[~real], 0)


def rows_of(network, x, event):
    """What the layers of a network make of particles (B, P, C), without its flattening, and of an image without its mask."""
    if isinstance(network, GraphNetwork):
        return GraphNetwork.call(network, x, event)
    x = x[..., None]
    for layer in network.layers:
        x = layer.call(x)
    return tf.reshape(x, (*x.shape[:2], -1))


@pytest.mark.parametrize(
    "options", [{}, {"adjacency": "knn"}, {"graph_layer": "gat"}, {"graph_layer": "edge"}, {"name": "conv_vae"}]
)
def test_a_network_of_padded_events_is_that_of_their_particles_alone(options, events):
    """Of an event without a single empty slot, that is; biases are not zero, nor is what scaling makes of an empty slot."""
    model = zoo.get(**{"name": "gcn_vae", **options})
    model.adapt(events)
    for i, weight in enumerate(model.trainable_variables):
        if "bias" in weight.name:
            weight.assign(tf.random.stateless_normal(weight.shape, (i, 3)))
    objects = events.read("objects")[:6]
    order = np.argsort(~(objects != 0).any(-1), axis=1, kind="stable")  # an image has no gaps: empty slots go last
    objects = tf.constant(np.take_along_axis(objects, order[..., None], 1))
    event = model.event(objects, None)
    encoded = tf.reshape(model.encoder(event), (6, 39, -1)).numpy()
    start = tf.random.stateless_normal((6, *model.decoder.start), (0, 2))
    decoded = None if "name" in options else model.decoder(start, event)  # an image is made of all slots
    for i, number in enumerate(event.mask.numpy().sum(axis=1)):
        x, mask = objects[i : i + 1, :number], tf.fill((1, number), True)
        alone = sets.Event(event.particles[i : i + 1, :number], mask, model.graph(x, mask), event.beside[i : i + 1])
        expected = rows_of(model.encoder, alone.particles, alone)[0]
        np.testing.assert_allclose(encoded[i, :number], expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(encoded[i, number:], 0)
        if decoded is not None:
            expected = rows_of(model.decoder, start[i : i + 1, :number], alone)[0]
            np.testing.assert_allclose(decoded[i, :number], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("options", [{"adjacency": "knn"}, {"name": "conv_vae"}])
def test_neither_graph_nor_distance_sees_what_stands_in_an_empty_slot(options, events):
    model = built(**{"name": "gcn_vae", **options})
    objects = tf.constant(events.read("objects")[:50])
    event = model.event(objects, None)
    dirty = tf.where(event.mask[..., None], objects, tf.random.stateless_uniform(objects.shape, (0, 1), 1.0, 100.0))
    if event.graph is not None:
        np.testing.assert_array_equal(model.graph(dirty, event.mask), event.graph)
    particles, _ = model.decode(model.encode(event)[0], event)
    changed = tf.where(event.mask[..., None], particles, 7.0)
    x = tf.where(event.mask[..., None], event.particles, -3.0)
    np.testing.assert_array_equal(
        chamfer(event.particles, particles, event.mask, event.mask), chamfer(x, changed, event.mask, event.mask)
    )


@pytest.mark.parametrize("name", MODELS)
def test_an_event_without_particles_has_no_distance(name):
    score = built(name).score(np.zeros((2, 39, 5)))
    np.testing.assert_array_equal(score, 0)


# -- options -------------------------------------------------------------------------------------------


def test_truncated_list_has_four_jets_and_three_of_each_other_type():
    objects = particles(2000, seed=4).read("objects")
    kept = objects[:, list(truncated_places(39))]
    assert kept.shape[1] == 22
    for kind, most in enumerate((4, 3, 3, 3, 3, 3, 3), 1):
        every, there = (-np.sort(-np.where(a[..., 4] == kind, a[..., 1], 0), axis=1) for a in (objects, kept))
        assert (every[:, most:] > 0).any()  # something is left out
        np.testing.assert_array_equal(there[:, :most], every[:, :most])  # and it is what has the lowest pt
        np.testing.assert_array_equal(there[:, most:], 0)
    assert truncated_places(22) == tuple(range(22))


def test_multiplicities_are_counted_before_the_list_is_cut(events):
    model = zoo.get("gcn_vae", truncated=True, multiplicities=True)
    model.adapt(events)
    kind = events.read("objects")[..., 4]
    counts = np.stack([(kind == k).sum(axis=1) for k in range(1, 8)], axis=1)
    assert counts.max() > 4
    found = model.event(tf.constant(events.read("objects")), None)
    np.testing.assert_allclose(found.beside, (counts - counts.mean(0)) / counts.std(0), rtol=1e-4, atol=1e-5)
    assert found.particles.shape[1] == 22 and model.encoder.size == 22 * 2


def test_high_level_features_are_an_input_and_are_reconstructed(models, events):
    model = models["gcn_vae"]
    assert model.resolved_columns == ("MET", "HT") and model.from_latent.units == 39 * 2 + 2
    assert model.to_latent.kernel.shape[0] == 39 * 2 + 2 + 7
    found = model.results(events, ["reconstructed_features"])["reconstructed_features"]
    assert found.shape == (len(events), 2)
    changed = events.read("features", ["MET", "HT"]) * 2
    batch = {"objects": events.read("objects"), "features": changed}
    assert (model.score(batch, "kl") != model.score(events, "kl")).all()


def test_without_high_level_features_none_is_asked_for(events):
    model = zoo.get("conv_vae")
    alone = Events.from_arrays(None, events.mass, objects=events.read("objects"), object_columns=PARTICLE)
    model.adapt(alone)
    assert model.get_config()["columns"] == () and set(model.inputs.shapes) == {"objects"}
    np.testing.assert_array_equal(model.score(alone), model.score(events.read("objects")))


def test_bad_options_are_refused(events):
    def refused(text, name="gcn_vae", given=events, **options):
        with pytest.raises(InputError, match=text):
            zoo.get(name, **options).adapt(given)

    objects = events.read("objects")
    few = {"object_columns": ("pt", "eta", "phi"), "objects": objects[..., 1:4]}
    pt_only = Events.from_arrays(None, events.mass, **few)
    refused("particle_features: objects have no column 'E'; they have pt, eta, phi", given=pt_only)
    refused(
        "multiplicities: objects have no column 'type'", given=pt_only, multiplicities=True, particle_features=("pt",)
    )
    flat = Events.from_arrays(None, events.mass, objects=objects[..., :2], object_columns=("E", "pt"))
    refused("adjacency='knn': objects have no column 'eta'", given=flat, adjacency="knn", particle_features=("E", "pt"))
    short = Events.from_arrays(None, events.mass, objects=objects[:, :30], object_columns=PARTICLE)
    refused("truncated=True: objects have 30 slots, expected the 39", given=short, truncated=True)
    cut = Events.from_arrays(None, events.mass, objects=objects[:, list(truncated_places(39))], object_columns=PARTICLE)
    refused("multiplicities=True: objects have 22 slots, a list that has been cut", given=cut, multiplicities=True)
    refused("objects have 39 slots of E, .*; expected 22 of E", slots=22)
    refused("no objects, which this model takes", given=Events.from_arrays(np.ones((9, 1)), np.ones(9), ["MET"]))
    refused("columns include 'meff', the mass", high_level_features=True, columns=("meff",), given=Events.from_arrays(
        np.ones((400, 1)), events.mass, ["meff"], objects=objects, object_columns=PARTICLE, mass_column="meff"))  # fmt: skip
    refused("high_level_features=True needs columns", high_level_features=True, columns=())
    refused("taken with high_level_features=True only", columns=("MET",))
    refused("adjacency='none' is not possible; expected one of 'complete', 'knn'", adjacency="none")
    refused("graph_layer='mlp' is not possible", graph_layer="mlp")
    refused("scaling='quantile' is not possible", scaling="quantile")
    refused("beta=1.5 is not possible", beta=1.5)
    refused("channels, heights and widths differ", name="conv_vae", heights=(3, 5))
    empty = Events.from_arrays(None, events.mass, objects=np.zeros_like(objects), object_columns=PARTICLE)
    refused("no events to fit the input scaling to", given=empty)
    turned = Events.from_arrays(None, events.mass, objects=objects[..., ::-1], object_columns=PARTICLE[::-1])
    refused("objects are type, .*; expected E, .*, in this order", given=turned, object_columns=PARTICLE)


# -- training ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [pytest.param("conv_vae", marks=pytest.mark.slow), "gcn_vae"])
def test_training_with_a_flow_changes_every_weight_and_exports(name, events, tmp_path):
    model = zoo.get(name, flow="planar", num_flows=1, epochs=3, batch_size=100, learning_rate=0.01)
    model.adapt(events)
    before = [weight.numpy() for weight in model.trainable_variables]
    history = model.fit(events, verbose=0, jit_compile=False).history
    assert history["chamfer"][-1] < history["chamfer"][0]
    for weight, past in zip(model.trainable_variables, before):
        assert np.abs(weight.numpy() - past).max() > 0, weight.name
    model.export(tmp_path / "served")
    served = tf.saved_model.load(tmp_path / "served").signatures["serving_default"]
    found = served(objects=tf.constant(events.read("objects")))
    for kind in model.score_kinds:
        np.testing.assert_allclose(found[kind], model.score(events, kind), rtol=1e-4)


@pytest.mark.parametrize(("name", "options"), [("conv_vae", {}), ("gcn_vae", {"adjacency": "knn", "flow": "planar"})])
def test_a_member_has_loss_and_gradients_of_the_plain_model_of_its_seed(name, options, events):
    options = {**options, "beta": 0.1, "num_flows": 2}
    group, terms = zoo.get(name, members=2, seed=7, **options), []
    for model in (group, zoo.get(name, seed=7, **options), zoo.get(name, seed=8, **options)):
        model.adapt(events)
        with tf.GradientTape() as tape:
            found = model.losses(batch_of(model, events.take(np.arange(10))), model.seeds, True)
            loss = tf.reduce_sum(found["loss"])
        terms.append((found, tape.gradient(loss, model.trainable_variables)))
    (several, slopes), *alone = terms
    for k, (found, slope) in enumerate(alone):
        for term in found:
            np.testing.assert_allclose(several[term][k], found[term], rtol=1e-4)
        for mine, theirs in zip(slopes, slope, strict=True):
            np.testing.assert_allclose(mine[k], theirs, rtol=1e-3, atol=1e-4 * np.abs(theirs).max())
    assert abs(alone[0][0]["loss"] - alone[1][0]["loss"]) > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_batches_of_4096_events_train(name):
    many = particles(8192)
    history = zoo.get(name, batch_size=4096, epochs=3).fit(many, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]


@pytest.mark.parametrize("name", MODELS)
def test_the_optimizer_knows_the_weights_in_the_order_of_saved_runs(name):
    """From the encoder to the decoder: the states of runs are arrays in this order."""
    model = built(name)
    parts = (model.encoder, model.to_latent, model.latent, model.from_latent, model.decoder)
    expected = [id(weight) for part in parts for weight in part.trainable_variables]
    assert [id(weight) for weight in model.trainer.tasks["vae"].weights] == expected
    moments = [tuple(v.shape) for v in model.optimizers[0].variables if tuple(v.shape)]
    assert moments[: 2 * len(expected) : 2] == [tuple(w.shape) for w in model.trainer.tasks["vae"].weights]


def test_trials_of_other_scalings_share_a_program_and_have_their_own_scaling_of_particles(events):
    from tuning.batch_cache import BatchCache
    from tuning.programs import Programs

    small = {"columns": (), "units": (8,), "batch_size": 100, "seed": 3}
    quiet = {"epochs": 1, "verbose": 0, "jit_compile": False}
    shared, found = Programs("gcn_vae", {}, False, lambda model: model.adapt(events), BatchCache(events)), set()
    for scaling in ("standard", "minmax", "standard"):
        trainee = shared.model({**small, "scaling": scaling}, len(events), 1)
        found.add(trainee.key)
        trainee.trained.fit(events, **quiet)
        alone = zoo.get("gcn_vae", **small, scaling=scaling)
        alone.fit(events, **quiet)
        np.testing.assert_allclose(trainee.trained.score(events), alone.score(events), rtol=1e-3)
    assert len(found) == 1
