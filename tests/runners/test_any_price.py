"""`--any-price` reaches the limits of a run."""

from runners.commands.live import market_config


def test_any_price_names_the_venues_and_none_by_default() -> None:
    assert market_config(120, 500, 2, None, ["nymex", "epex"]).limits.any_price_venues == {"nymex", "epex"}
    assert market_config(120, 500, 2, None).limits.any_price_venues == frozenset()
