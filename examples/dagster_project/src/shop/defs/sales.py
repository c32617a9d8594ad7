"""An asset of the project's own, downstream of the set's snapshots."""

import dagster as dg


@dg.asset(deps=[dg.AssetKey(["receipts", "snapshots"])], group_name="shop")
def sales_report() -> None:
    """What the shop makes of its receipts."""
