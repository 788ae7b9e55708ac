"""What customers owe: plans, and bills made of plans, prices and usage.

A bill is a pure function of its inputs: the same plans, prices and usage make the same bytes.
"""

from .asking import Bills
from .beside import CostLine, KindCost, Margin, Unbilled, UnknownUsage, UnpricedUsage
from .bill import Bill, BillLine, BillPeriod
from .books import Assignment, Part, PlanBook
from .making import Answers, make_bill
from .plan_files import parse_plans, read_plans
from .plans import Plan, PlanCharge, Tier
from .queries import queries_of

__all__ = [
    "Answers",
    "Assignment",
    "Bill",
    "BillLine",
    "BillPeriod",
    "Bills",
    "CostLine",
    "KindCost",
    "Margin",
    "Part",
    "Plan",
    "PlanBook",
    "PlanCharge",
    "Tier",
    "Unbilled",
    "UnknownUsage",
    "UnpricedUsage",
    "make_bill",
    "parse_plans",
    "queries_of",
    "read_plans",
]
