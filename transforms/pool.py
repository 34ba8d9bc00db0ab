"""Pool: a customer's trunk → the site that it is at, wherever assurance shows it: the trunk would name an account."""

from collections.abc import Mapping

import pyarrow as pa

from callward.columns import Column, map_few


def pool(trunks: Column, sites: Mapping[str, str]) -> Column:
    """Return trunks with customers' ones as their sites (`Workspace.sites`); others and null stay as they are."""
    return map_few(trunks, lambda name: sites.get(name, name)) if sites else trunks


def pool_columns(rows: pa.Table, names: tuple[str, str], sites: Mapping[str, str]) -> pa.Table:
    """Return rows with two columns of trunks pooled."""
    if sites:
        for name in names:
            rows = rows.set_column(rows.schema.get_field_index(name), name, pool(rows[name], sites))
    return rows
