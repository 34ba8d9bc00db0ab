"""Who calls whom: parties with fictitious numbers only, their accounts, and the trunks between carriers.

Every NANP number is NPA-555-0100..0199, set aside for fiction; abroad, the ranges that regulators keep for drama
(Ofcom 020 7946 0xxx and 01632 960xxx, Arcep 01 99 00 xx xx, BNetzA (0)30 23125 xxx, ACMA (02) 5550 xxxx).
"""

from dataclasses import dataclass
from itertools import chain
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Ints = npt.NDArray[np.int64]

# Geographic area codes of the USA (from the metadata of the phonenumbers library, 9.0.43).
_AREA_CODES: Final = """
201 202 203 205 206 207 208 209 210 212 213 214 215 216 217 218 219 220 223 224 225 227 228 229 231 234 235 239 240 248
251 252 253 254 256 260 262 267 269 270 272 274 276 279 281 283 301 302 303 304 305 307 308 309 310 312 313 314 315 316
317 318 319 320 321 323 324 325 326 327 329 330 331 332 334 336 337 339 341 346 347 350 351 352 353 360 361 363 364 369
380 385 386 401 402 404 405 406 407 408 409 410 412 413 414 415 417 419 423 424 425 430 432 434 435 440 442 443 445 447
448 458 463 464 469 470 472 475 478 479 480 484 501 502 503 504 505 507 508 509 510 512 513 515 516 517 518 520 530 531
534 539 540 541 551 557 559 561 562 563 564 567 570 571 572 573 574 575 580 582 585 586 601 602 603 605 606 607 608 609
610 612 614 615 616 617 618 619 620 623 626 628 629 630 631 636 640 641 645 646 650 651 656 657 659 660 661 662 667 669
678 680 681 682 686 689 701 702 703 704 706 707 708 712 713 714 715 716 717 718 719 720 724 725 726 727 728 730 731 732
734 737 738 740 743 747 748 754 757 760 762 763 765 769 770 771 772 773 774 775 779 781 785 786 801 802 803 804 805 806
808 810 812 813 814 815 816 817 818 820 821 826 828 830 831 832 835 838 839 840 843 845 847 848 850 854 856 857 858 859
860 862 863 864 865 870 872 878 901 903 904 906 907 908 909 910 912 913 914 915 916 917 918 919 920 925 928 929 930 931
934 936 937 938 940 941 943 945 947 948 949 951 952 954 956 959 970 971 972 973 975 978 979 980 983 984 985 986 989
"""
AREA_CODES: Final = _AREA_CODES.split()

SUBSCRIBERS_PER_AREA: Final = 60  # of the 100 fictitious numbers of an area; the rest belong to other carriers
MOST_SUBSCRIBERS: Final = SUBSCRIBERS_PER_AREA * len(AREA_CODES)
_CARRIERS: Final = ("northwind", "bluepeak", "tidewater", "ironbridge")
TRUNKS: Final = tuple(f"{carrier}-{n}" for carrier in _CARRIERS for n in (1, 2, 3))

_ABROAD: Final = tuple(
    chain(
        (f"+44207946{n:04d}" for n in range(1000)),
        (f"+441632960{n:03d}" for n in range(1000)),
        (f"+33199{n:06d}" for n in range(1000)),
        (f"+493023125{n:03d}" for n in range(1000)),
        (f"+6125550{n:04d}" for n in range(1000)),
        (f"+1{area}5550{n}" for area in ("416", "514", "604", "876") for n in range(100, 200)),
    )
)
_POOLS_OF_WORDS: Final = {
    "toll_free": ("+18005550199",),
    "emergency": ("911",),
    "feature": ("*98", "*69", "s", "411"),
    "extension": tuple(str(n) for n in range(1000, 1200)),
    "sip_user": tuple(f"lobby-{n}" for n in range(1, 31)),
    "withheld": ("anonymous", "Restricted", "unavailable"),
}


@dataclass(frozen=True, eq=False)
class World:
    """Every party of the feeds. A party is an index into `e164`; a pool is a range of such indexes.

    Attributes:
        e164: each party's number as E.164, or the word a switch writes where there is none.
        forms: the same parties three times over: E.164; as dialled; as dialled with the long-distance 1.
        pools: pool name to (first index, how many).
        subscribers, accounts: how many of each; an account holds a run of subscribers.
    """

    e164: pa.StringArray
    forms: pa.StringArray
    pools: dict[str, tuple[int, int]]
    subscribers: int
    accounts: int

    def __repr__(self) -> str:
        return f"World(subscribers={self.subscribers}, accounts={self.accounts})"

    def account_of(self, subscriber: Ints) -> Ints:
        """Return the account (from 0) that pays for each subscriber."""
        return subscriber * self.accounts // self.subscribers

    def written(self, party: Ints, form: Ints) -> pa.StringArray:
        """Return each party's number in form 0 (E.164), 1 (as dialled) or 2 (as dialled, with the 1)."""
        return self.forms.take(pa.array(np.int64(party) + np.int64(form) * len(self.e164)))

    def directory(self) -> pa.Table:
        """Return who pays for which number: columns account, number (E.164), one row per subscriber."""
        owners = self.account_of(np.arange(self.subscribers))
        return pa.table({"account": account_codes(owners), "number": self.e164.slice(0, self.subscribers)})


def account_codes(accounts: Ints) -> pa.StringArray:
    """Return account codes as switches write them (`ac-0007`); a negative account has none ("")."""
    names = pa.array([*(f"ac-{n:04d}" for n in range(int(accounts.max(initial=0)) + 1)), ""])
    return names.take(pa.array(np.where(accounts < 0, len(names) - 1, accounts)))


def build(rng: np.random.Generator, subscribers: int, accounts: int) -> World:
    """Return a world of so many subscribers (at most MOST_SUBSCRIBERS), spread over home areas, and accounts.

    Raises ValueError for more accounts than subscribers, or too many of these.
    """
    if not 1 <= accounts <= subscribers <= MOST_SUBSCRIBERS:
        raise ValueError(f"accounts and subscribers must rise from 1 to {MOST_SUBSCRIBERS}: {accounts}, {subscribers}")
    home, other = _nanp(rng, subscribers)
    pools = {"subscriber": home, "other": other, "abroad": list(_ABROAD), **_POOLS_OF_WORDS}
    starts = np.cumsum([0, *map(len, pools.values())]).tolist()
    e164 = pa.array(list(chain.from_iterable(pools.values())), pa.string())
    ranges = {name: (start, len(pool)) for (name, pool), start in zip(pools.items(), starts, strict=False)}
    return World(e164, _forms(e164), ranges, subscribers, accounts)


def _nanp(rng: np.random.Generator, subscribers: int) -> tuple[list[str], list[str]]:
    """Return numbers of our subscribers (in a few home areas), and every other number of the country."""
    areas = rng.permutation(AREA_CODES).tolist()
    lines = rng.permutation(100).tolist()
    ours = [f"+1{area}55501{line:02d}" for area in areas for line in lines[:SUBSCRIBERS_PER_AREA]]
    rest = [f"+1{area}55501{line:02d}" for area in areas for line in lines[SUBSCRIBERS_PER_AREA:]]
    return ours[:subscribers], rest + ours[subscribers:]


def _forms(e164: pa.StringArray) -> pa.StringArray:
    nanp = pc.starts_with(e164, "+1")
    bare = pc.utf8_replace_slice(e164, 0, 1, "")
    abroad = pc.if_else(pc.starts_with(e164, "+"), pc.binary_join_element_wise("011", bare, ""), e164)
    ten = pc.if_else(nanp, pc.utf8_replace_slice(e164, 0, 2, ""), abroad)
    eleven = pc.if_else(nanp, bare, abroad)
    return pa.concat_arrays([e164, ten, eleven])
