"""Currencies, and how many decimals amounts of them have.

Source: ISO 4217, list one of SIX, as of 2026-01-01: alphabetic code and minor unit of every currency
in use; funds, metals and codes for tests are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ..errors import PriceError

__all__ = ["MINOR_UNITS", "check_currency"]

_NONE: Final = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF"
_THREE: Final = "BHD IQD JOD KWD LYD OMR TND"
_TWO: Final = """
    AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF
    CNY COP CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL
    HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT
    MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB
    SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH
    USD UYU UZS VES WST XCD XCG YER ZAR ZMW ZWG
    """

MINOR_UNITS: Final[Mapping[str, int]] = {
    **dict.fromkeys(_TWO.split(), 2),
    **dict.fromkeys(_NONE.split(), 0),
    **dict.fromkeys(_THREE.split(), 3),
}
"""Decimals of an amount, by the code of its currency."""


def check_currency(code: str) -> str:
    """The code, if it is a currency's.

    Raises:
        PriceError: If it is none.
    """
    if code not in MINOR_UNITS:
        raise PriceError(f"unknown currency {code!r}; a code of ISO 4217 is wanted, such as USD")
    return code
