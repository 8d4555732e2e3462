"""What a model takes: frames by the names of their columns, arrays by their order."""

import numpy as np
import pandas
import pyarrow
import pytest

from pipelines import InputError
from zoo.inputs import Inputs

COLUMNS = ("MET", "HT", "tau21")
VALUES = np.arange(12, dtype=np.float32).reshape(4, 3)
INPUTS = Inputs(COLUMNS)


def taken(events):
    return np.concatenate([block[0] for block in INPUTS.blocks(events)])


def frames(order):
    """The same numbers with columns in another order, and one more, as all kinds that have names."""
    columns = {name: VALUES[:, COLUMNS.index(name)] for name in order} | {"eventNumber": np.arange(4)}
    records = np.zeros(4, [(name, "f8") for name in columns])
    for name, column in columns.items():
        records[name] = column
    return {"pandas": pandas.DataFrame(columns), "arrow": pyarrow.table(columns), "records": records}


@pytest.mark.parametrize("kind", ["pandas", "arrow", "records"])
@pytest.mark.parametrize("order", [COLUMNS, COLUMNS[::-1]])
def test_columns_of_a_frame_go_by_their_names(order, kind):
    np.testing.assert_array_equal(taken(frames(order)[kind]), VALUES)


def test_columns_of_an_array_go_by_their_order():
    np.testing.assert_array_equal(taken(VALUES[:, ::-1]), VALUES[:, ::-1])


@pytest.mark.parametrize("kind", ["pandas", "arrow", "records"])
def test_a_frame_that_lacks_a_column_is_refused_by_its_name(kind):
    frame = frames(("MET", "tau21"))[kind]
    with pytest.raises(InputError, match=r"the frame has no column 'HT'; it has MET, tau21, eventNumber"):
        taken(frame)


def test_frames_that_mean_no_numbers_are_refused():
    twice = pandas.DataFrame(np.ones((2, 4)), columns=[*COLUMNS, "MET"])
    text = pandas.DataFrame({name: ["a", "b"] for name in COLUMNS})
    missing = pandas.DataFrame({name: [1.0, np.nan] for name in COLUMNS})
    with pytest.raises(InputError, match="several columns 'MET'"):
        taken(twice)
    with pytest.raises(InputError, match="are no numbers"):
        taken(text)
    with pytest.raises(InputError, match="NaN or infinite"):
        taken(missing)
    with pytest.raises(InputError, match="no objects, which this model takes"):
        next(Inputs((), ("pt", "eta"), 3).blocks(twice))
