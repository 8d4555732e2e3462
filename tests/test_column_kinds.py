"""What columns are by their names, as public tables write them."""

import numpy as np
import pytest
from linear_model import registered

import zoo
from pipelines import Events, InputError
from pipelines.events.column_kinds import kind_of_column, matching, taken_by_pattern

TRUTH = (
    "label Label LABELS isSignal is_signal is_signal_new label_Tbqq truth y_true target class Class_ID process dsid y isAnomaly "
    "isBSM outlier signal_or_background event_type"
)
WEIGHT = "weight Weight KaggleWeight mcWeight event_weight weights w xsec genWeight scaleFactor_PILEUP xs evt_w"
BOOKKEEPING = "eventNumber event run runNumber lumi luminosityBlock isSR isTrain fold index entry signal_region inSidebandRegion kfold level_0 hash"
VARIABLES = (
    "pt_1 tau21_1 mj1j2 y_1 eta phi nc_1 met HT weighted_pt_asymmetry class_pt signalness runner_pt e_1 m_jj "
    "mass_1 w_pt mass_w level_1_pt Jet_pt[0] dEta eventShape sr_pt lepton_charge"
)


@pytest.mark.parametrize(
    "kind, names", [("truth", TRUTH), ("weight", WEIGHT), ("bookkeeping", BOOKKEEPING), (None, VARIABLES)]
)
def test_kinds_of_names(kind, names):
    assert {name: kind_of_column(name) for name in names.split()} == dict.fromkeys(names.split(), kind)


def test_a_name_with_brackets_is_that_name_before_it_is_a_pattern():
    assert matching("tau[1]", ["tau1", "tau[1]"]) == ["tau[1]"]
    assert matching("tau[12]", ["tau1", "tau2", "tau3"]) == ["tau1", "tau2"]


def test_patterns_take_variables_alone_and_names_take_anything():
    names = ["pt_1", "isSignal", "weight", "eventNumber"]
    assert taken_by_pattern("*", names) == ["pt_1"]
    assert taken_by_pattern("eventNumber", names) == ["eventNumber"]


def test_a_run_that_was_trained_on_what_is_truth_now_says_so_of_a_table(tmp_path):
    """Events that have the column as a feature already are scored as before."""
    rng = np.random.default_rng(0)
    features, mass = rng.normal(size=(300, 2)), rng.uniform(2000, 3000, 300)
    events, table = Events.from_arrays(features, mass, ["x", "event_type"]), tmp_path / "a.csv"
    table.write_text("mjj,x,event_type\n" + "".join(f"{m},{x},{y}\n" for m, (x, y) in zip(mass, features)))
    with registered():
        model = zoo.get("linear", columns=["x", "event_type"])
        model.fit(events, epochs=1, verbose=0, jit_compile=False)
        model.save_run(tmp_path / "run")
        for run in (tmp_path / "run", model):
            with pytest.raises(InputError, match=r"trained on event_type: .*train again without"):
                zoo.score(run, table)
        assert np.array_equal(zoo.score(tmp_path / "run", events).mean, model.score(events))
