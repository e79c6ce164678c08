"""Whether a column has one of some values, which go to PostgreSQL as one array.

An ``IN`` with a parameter for each value is another statement for every number of values, written anew by
SQLAlchemy and planned anew by PostgreSQL for every page.
"""

from collections.abc import Collection
from typing import Any

from sqlalchemy import ARRAY, ColumnElement, any_, literal
from sqlalchemy.orm import InstrumentedAttribute


def among(column: InstrumentedAttribute[Any], values: Collection[Any]) -> ColumnElement[bool]:
    """Build the condition that a column has one of these values."""
    return column == any_(literal(list(values), ARRAY(column.type)))
