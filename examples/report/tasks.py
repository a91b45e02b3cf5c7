"""A sales report: one call for each region, all with the same large price table."""

from dataclasses import dataclass
from decimal import Decimal

from pynenc import Pynenc

app = Pynenc(app_id="report")

Prices = dict[str, Decimal]
Sales = dict[str, int]


@dataclass
class Line:
    region: str
    items: int
    turnover: Decimal


@dataclass
class Report:
    lines: list[Line]
    total: Decimal


@app.task
def evaluate(region: str, sales: Sales, prices: Prices) -> Line:
    turnover = sum((prices[product] * amount for product, amount in sales.items()), Decimal(0))
    return Line(region, sum(sales.values()), turnover)


@app.task
def report(sales: dict[str, Sales], prices: Prices) -> Report:
    # ``prices`` is encoded once and stored once, however many regions there are
    calls = [{"region": region, "sales": sold} for region, sold in sales.items()]
    lines = list(evaluate.parallelize(calls, common_args={"prices": prices}).results)
    lines.sort(key=lambda line: line.turnover, reverse=True)
    return Report(lines, sum((line.turnover for line in lines), Decimal(0)))
