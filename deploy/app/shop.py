"""The app that the images of this folder run; put your own in its place."""

from pynenc import Pynenc

app = Pynenc(app_id="shop")  # the store comes from the environment: PYNENC__STORE

PRICES = {"tea": 3.5, "cup": 8.0}


@app.task(max_retries=3, retry_for=(ConnectionError,))
def price(item: str, amount: int = 1) -> float:
    """What an amount of an item costs."""
    return PRICES[item] * amount


@app.task
def total(basket: dict[str, int]) -> float:
    """What a basket costs: one call for each item."""
    return sum(price.parallelize(list(basket.items())).results)
