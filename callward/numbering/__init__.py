"""Numbers: what a switch wrote becomes E.164 where that is certain, and stays as dialled where it is not.

Everything is read in bulk; the `phonenumbers` library, whose metadata names prefixes and lengths of every country, is
asked one value at a time only for doubtful ones, and remembered. What is not certain is never guessed.
"""

from callward.numbering.kinds import KINDS
from callward.numbering.places import JURISDICTIONS, Places, jurisdiction, places, places_of
from callward.numbering.plans import Plan, plan
from callward.numbering.values import Normalized, normalize_values

__all__ = [
    "JURISDICTIONS",
    "KINDS",
    "Normalized",
    "Places",
    "Plan",
    "jurisdiction",
    "normalize_values",
    "places",
    "places_of",
    "plan",
]
