import numpy as np
import pyarrow as pa
import pytest

from selftrain.data.columns import list_values


@pytest.mark.parametrize("number", [pa.float16(), pa.float32()])
def test_lists_are_rows_of_an_array_and_null_lists_are_left_out(number: pa.DataType) -> None:
    values = np.array([[0.25, 0.75], [0.5, 0.5], [1.0, 0.0]])
    lists = [None if row == 1 else values[row].astype(np.float16).tolist() for row in range(3)]
    column = pa.chunked_array([pa.array(lists[:2], pa.list_(number)), pa.array(lists[2:], pa.list_(number))])
    array = list_values(column, 2)
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array, values[[0, 2]])
    np.testing.assert_array_equal(list_values(column.combine_chunks(), 2), array)


def test_a_column_without_lists_is_an_array_without_rows() -> None:
    assert list_values(pa.nulls(3, pa.list_(pa.float16())), 4).shape == (0, 4)
