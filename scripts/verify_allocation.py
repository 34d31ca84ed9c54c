#!/usr/bin/env python3
"""Was every allocation the committed next one? Checked with the standard library only, importing nothing of Equipoise.

    python3 scripts/verify_allocation.py CERTIFICATE PROOFS [PLAN] ...      of every list in use, one after the other

CERTIFICATE  the sealing certificate as JSON, kept since before the first participant
PROOFS       a line of JSON for every allocation (with the pack, where its slot was reserved for one), and for each slot
             of a pack that is voided or reserved; the last has the SHA-256 of those above and of the certificate
PLAN         at close: the opened plan (seed, salt key, options), from which every slot is drawn again

Leaves stand by stratum code and position in an RFC 6962 tree; its root is on the certificate and in the log. Checked:
every leaf is at its place; numbers count up without a gap; every stratum was used from its first position on, in order,
none skipped but those of a pack, which follow each other; further lists stand behind those before them; nobody has two.
With PLAN: it is the committed one, its seed gives the list with the committed root, and each allocation its slot's arm.
"""

import hashlib
import heapq
import hmac
import json
import sys
from collections import Counter
from fractions import Fraction
from itertools import groupby
from pathlib import Path
from typing import Any

Arms = list[tuple[str, int]]
ONE_BY_ONE = ("simple", "big_stick", "biased_coin", "truncated_binomial", "wei_urn")
canonical = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, sort_keys=True).encode


def sized(*parts: bytes) -> bytes:
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def leaf(study: str, version: int, stratum: str, position: int, arm: str, salt: bytes) -> bytes:
    words = (word.encode() for word in ("equipoise.slot.1", study, str(version), stratum, str(position), arm))
    return hashlib.sha256(b"\x00" + sized(*words, salt)).digest()


def node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def root_from(start: bytes, index: int, size: int, path: list[bytes]) -> bytes | None:
    """The root that a path from the bottom up leads to (RFC 6962 section 2.1); None when its length does not fit."""
    if size == 1 or not path:
        return start if size == 1 and not path else None
    half, above = 1 << (size - 1).bit_length() - 1, path[-1]
    if index < half:
        return (below := root_from(start, index, half, path[:-1])) and node(below, above)
    return (below := root_from(start, index - half, size - half, path[:-1])) and node(above, below)


def root_of(level: list[bytes]) -> bytes:
    while len(level) > 1:
        level = [node(*level[at : at + 2]) if at + 1 < len(level) else level[at] for at in range(0, len(level), 2)]
    return level[0] if level else hashlib.sha256(b"").digest()


class Generator:
    """HMAC_DRBG with SHA-256 (NIST SP 800-90A Rev. 1, section 10.1.2), and fair draws from it by rejection."""

    def __init__(self, plan: dict[str, Any], stratum: str) -> None:
        words = ("equipoise.sequence.1", plan["study"], stratum, str(plan["version"]))
        self.key, self.value = bytes(32), b"\x01" * 32
        self.update(bytes.fromhex(plan["seed"]) + sized(*(word.encode() for word in words)))

    def update(self, data: bytes = b"") -> None:
        for mark in (b"\x00", b"\x01") if data else (b"\x00",):
            self.key = hmac.digest(self.key, self.value + mark + data, "sha256")
            self.value = hmac.digest(self.key, self.value, "sha256")

    def bytes(self, length: int) -> bytes:
        made = b""
        while len(made) < length:
            self.value = hmac.digest(self.key, self.value, "sha256")
            made += self.value
        self.update()
        return made[:length]

    def below(self, n: int) -> int:
        bits = (n - 1).bit_length()
        drawn = n if bits else 0  # one way to choose takes nothing from the stream
        while drawn >= n:
            drawn = int.from_bytes(self.bytes((bits + 7) // 8), "big") & ((1 << bits) - 1)
        return drawn

    def shuffled(self, items: list[str]) -> list[str]:
        for i in range(len(items) - 1, 0, -1):
            j = self.below(i + 1)
            items[i], items[j] = items[j], items[i]
        return items


def permuted_blocks(arms: Arms, options: dict[str, Any], length: int, draw: Generator) -> list[str]:
    sizes, total, slots = sorted(options["block_sizes"]), sum(share for _, share in arms), list[str]()
    while len(slots) < length:
        times = sizes[draw.below(len(sizes))] // total
        slots += draw.shuffled([arm for arm, share in arms for _ in range(times * share)])
    return slots


def one_by_one(arms: Arms, options: dict[str, Any], length: int, draw: Generator) -> list[str]:
    method, coin, had, half, slots = options["method"], draw.below, [0] * len(arms), (length + 1) // 2, list[str]()
    tickets, p = [at for at in range(len(arms)) for _ in range(arms[at][1])], Fraction(options.get("probability", 1))
    while len(slots) < (2 * half if method == "truncated_binomial" else length):
        if method == "simple":
            arm = tickets[coin(len(tickets))]
        elif method == "big_stick":
            arm = had[0] > had[1] if abs(had[0] - had[1]) == options["tolerance"] else coin(2)
        elif method == "biased_coin":
            arm = coin(2) if had[0] == had[1] else (had[0] > had[1]) ^ (coin(p.denominator) >= p.numerator)
        elif method == "truncated_binomial":
            arm = had.index(half) ^ 1 if half in had else coin(2)
        else:
            balls = [max(options["alpha"], not any(had)) + options["beta"] * (sum(had) - mine) for mine in had]
            ball = coin(sum(balls))
            arm = next(at for at in range(len(balls)) if ball < sum(balls[: at + 1]))
        had[arm] += 1
        slots.append(arms[arm][0])
    return slots


def maximal_procedure(arms: Arms, options: dict[str, Any], length: int, draw: Generator) -> list[str]:
    most = options["tolerance"]
    ways = [[0, *[1] * (2 * most + 1), 0]]
    for _ in range(length):
        ways.append([0, *(ways[-1][at - 1] + ways[-1][at + 1] for at in range(1, 2 * most + 2)), 0])
    rank, ahead, slots = draw.below(ways.pop()[most + 1]), 0, list[str]()
    for _ in range(length):
        second = rank >= (first := ways.pop()[most + 2 + ahead])
        rank, ahead = rank - first * second, ahead + 1 - 2 * second
        slots.append(arms[second][0])
    return slots


def cluster(arms: Arms, strata: list[str], length: int, draw: Generator) -> dict[str, list[str]]:
    common = next(n for n in range(arms[0][1], 0, -1) if not any(share % n for _, share in arms))
    block, sites = [arm for arm, share in arms for _ in range(share // common)], sorted(strata)
    whole, rest = divmod(len(sites), len(block))
    order = draw.shuffled([*block * whole, *(draw.shuffled([*block])[:rest] if rest else [])])
    return {site: [order[at]] * length for at, site in enumerate(sites)}


def drawn_again(plan: dict[str, Any]) -> dict[str, list[str]] | None:
    """Every stratum's arms from the seed; None for a list that was handed in, or a method this program cannot draw."""
    method, length = plan["method"], plan["slots_per_stratum"]
    draw = {f.__name__: f for f in (permuted_blocks, maximal_procedure)} | dict.fromkeys(ONE_BY_ONE, one_by_one)
    if plan["seed"] is None or method not in (*draw, "cluster"):
        return None
    arms, options = sorted((code, share) for code, share in plan["arms"]), {**plan["options"], "method": method}
    if method == "cluster":
        return cluster(arms, [*plan["strata"]], length, Generator(plan, "*"))
    return {each: draw[method](arms, options, length, Generator(plan, each)) for each in plan["strata"]}


def read_proofs(text: str, certificate: dict[str, Any]) -> tuple[list[dict[str, Any]], list[str]]:
    """The proofs of a file, and whether it is whole, and of this certificate: its last line says so."""
    above, _, last = text.rstrip("\n").rpartition("\n")
    made = [hashlib.sha256(each.encode()).hexdigest() for each in (above, canonical(certificate))]
    whole = json.loads(last) == dict(zip(("proofs", "certificate"), made, strict=True))
    words = "Proofs and certificate are not as they were when the proofs were made, as their last line should say."
    return [json.loads(line) for line in above.split("\n") if line], [] if whole else [words]


def check_proofs(certificate: dict[str, Any], proofs: list[dict[str, Any]]) -> list[str]:
    """What is wrong with the allocations, held against the certificate."""
    strata, root = dict(sorted(certificate["strata"].items())), bytes.fromhex(certificate["root"])
    size = sum(strata.values())
    faults = [] if size == certificate["slots"] else [f"The strata have {size} slots, not {certificate['slots']}."]
    begins = {stratum: sum(list(strata.values())[:at]) for at, stratum in enumerate(strata)}
    named: dict[str, dict[int, int | None]] = {stratum: {} for stratum in strata}
    last = dict[tuple[str, int | None], int]()
    for proof in proofs:
        stratum, position, pack = proof["stratum"], proof["position"], proof.get("pack")
        who = f"Allocation {proof['number']} ({proof['participant']})" if "arm" in proof else "What is not allocated"
        if stratum not in strata or not 1 <= position <= strata[stratum] or position in named[stratum]:
            faults.append(f"{who} has a stratum or position that is not on the certificate, or is named twice.")
            continue
        named[stratum][position] = pack
        if "arm" not in proof:
            if pack is None or not (proof.get("voided") or proof.get("reserved")):
                faults.append(f"Position {position} of {stratum} is not allocated, and nothing says why.")
            continue
        if position < last.get((stratum, pack), 0):
            faults.append(f"{who} took position {position} of {stratum} after {last[stratum, pack]}.")
        last[stratum, pack] = position
        path, place = [bytes.fromhex(each) for each in proof["path"]], (stratum, position, proof["arm"])
        start = leaf(certificate["study"], certificate["list_version"], *place, bytes.fromhex(proof["salt"]))
        if root_from(start, begins[stratum] + position - 1, size, path) != root:
            faults.append(f"{who} is not what was committed to: arm, salt, place or path is another.")
    for stratum, of in named.items():
        skipped = sorted({*range(1, max(of, default=0) + 1)} - {*of})
        faults += [f"Position {each} of {stratum} was skipped: nobody has it, and no pack." for each in skipped]
        runs = Counter(pack for pack, _ in groupby(of[at] for at in sorted(of)) if pack is not None)
        torn = [pack for pack in runs if runs[pack] > 1]
        faults += [f"The slots of pack {pack} in {stratum} do not follow each other." for pack in torn]
    return faults


def check_order(lists: list[list[dict[str, Any]]]) -> list[str]:
    """What is wrong with the allocations of all lists together: their numbers, their times, and whose they are."""
    faults, number, people, dated, begun = list[str](), 0, dict[str, bool](), dict[object, str](), dict[str, int]()
    for proof in heapq.merge(*lists, key=lambda proof: proof["number"]):
        who = f"Allocation {proof['number']} ({proof['participant']})"
        if number and proof["number"] != number + 1:
            faults.append(f"{who} comes after allocation {number}. Were the files of all lists given?")
        row = (proof["stratum"], proof["pack"]) if "pack" in proof else None  # slips are entered after others
        if proof["allocated_at"] < dated.get(row, ""):
            faults.append(f"{who} is dated before the one in front of it.")
        if row is None and proof["list"] < begun.setdefault(proof["stratum"], 0):
            faults.append(f"{who} took a slot of list {proof['list']} after one of a later list.")
        if proof["participant"] in people:
            faults.append(f"{who} is somebody who has an allocation already.")
        number, dated[row], people[proof["participant"]] = proof["number"], proof["allocated_at"], True
        begun[proof["stratum"]] = max(proof["list"], begun.get(proof["stratum"], 0))
    return faults


def check_lists(files: list[tuple[dict[str, Any], list[dict[str, Any]], bool]]) -> list[str]:
    """What is wrong with lists that stand behind others, and with whole sites; said is which are closed."""
    drawn = [each for f, *_ in files if f["method"] == "cluster" and not f.get("further") for each in f["strata"]]
    faults = [f"The site {site} was drawn twice." for site in sorted({*drawn}) if drawn.count(site) > 1]
    arms = {(p["stratum"], p["arm"]) for file, of, _ in files if file["method"] == "cluster" for p in of if "arm" in p}
    had_arms = Counter(site for site, _ in sorted(arms))
    faults += [f"Everybody of {site} is in one arm, but there are two." for site in had_arms if had_arms[site] > 1]
    used = [(file, closed, Counter(proof["stratum"] for proof in of)) for file, of, closed in files]
    for later, _, taken in used:
        for earlier, closed, had in used:
            if later.get("further") and not closed and earlier["list_version"] < later["list_version"]:
                early = [each for each in taken if had[each] < earlier["strata"].get(each, 0)]
                faults += [f"{each} went on to a further list before one was used up." for each in early]
    return faults


def check_plan(certificate: dict[str, Any], proofs: list[dict[str, Any]], plan: dict[str, Any]) -> list[str]:
    """What is wrong with the opened plan, held against the certificate, and with allocations held against the plan."""
    if hashlib.sha256(b"\x00" + canonical(plan).encode()).hexdigest() != certificate["plan_commitment"]:
        return ["The plan is not the one that the certificate commits to."]
    said, salt_key = {**certificate, "version": certificate["list_version"]}, bytes.fromhex(plan["salt_key"])
    same = all(plan.get(name) == said.get(name) for name in ("study", "version", "method", "strata", "further"))
    faults = [] if same else ["The plan is of another list."]

    def salt(stratum: str, position: int) -> bytes:
        return hmac.digest(salt_key, sized(b"equipoise.salt.1", stratum.encode(), str(position).encode()), "sha256")

    foreign = [p["number"] for p in proofs if salt(p["stratum"], p["position"]).hex() != p["salt"]]
    faults += [f"Allocation {number} has a salt that is not of this plan." for number in foreign]
    lists = drawn_again(plan)
    if lists is None:
        print(f"A list of the method {plan['method']} is not drawn again here: its proofs alone are checked.")
        return faults
    drawn = {(stratum, position): arm for stratum in lists for position, arm in enumerate(lists[stratum], start=1)}
    leaves = [leaf(plan["study"], plan["version"], *place, drawn[place], salt(*place)) for place in sorted(drawn)]
    if root_of(leaves).hex() != certificate["root"]:
        faults.append("The list drawn again from the seed is not the list that the certificate commits to.")
    other = [p["number"] for p in proofs if drawn.get((p["stratum"], p["position"])) != p["arm"]]
    return faults + [f"Allocation {number} is not the arm that the seed gives." for number in other]


def main(arguments: list[str]) -> int:
    """Exit code 0 when everything holds, 1 when something does not, 2 when a file cannot be read."""
    if len(arguments) < 2:
        print(__doc__)
        return 2
    faults, seen, lists, files = list[str](), set[object](), list[list[dict[str, Any]]](), list[Any]()
    try:
        texts = [Path(name).read_text("utf-8") for name in arguments]
        while texts:
            certificate = json.loads(texts.pop(0))
            proofs, bent = read_proofs(texts.pop(0), certificate)
            seen |= {certificate["study"], certificate["list_version"]}  # one study, and no list twice
            if certificate["format"] != "equipoise-sealing-certificate-1" or len(seen) != len(lists) + 2:
                raise ValueError("a file is not what its place on the command line says")
            lists.append([{**proof, "list": certificate["list_version"]} for proof in proofs if "arm" in proof])
            faults += bent + check_proofs(certificate, proofs)
            closed = bool(texts) and json.loads(texts[0])["format"] == "equipoise-opened-plan-1"
            faults += check_plan(certificate, lists[-1], json.loads(texts.pop(0))) if closed else []
            files.append((certificate, proofs, closed))
        faults += check_lists(files) + check_order(lists)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as problem:
        print(f"This cannot be checked: {type(problem).__name__}: {problem}")
        return 2
    first = min((proof["number"] for proofs in lists for proof in proofs), default=1)
    held = f"{sum(map(len, lists))} allocations, each the committed next one of its stratum, from number {first} on."
    print("\n".join(faults) or held)
    slips = [proof for _, proofs, _ in files for proof in proofs if "pack" in proof]
    for pack in sorted({slip["pack"] for slip in slips}):
        of = [sum(each in slip for slip in slips if slip["pack"] == pack) for each in ("arm", "voided", "reserved")]
        print(f"Downtime pack {pack}: {of[0]} used, {of[1]} void, {of[2]} still reserved; see the log.")
    if not faults and not all(closed for *_, closed in files):
        print("That the list comes from the committed seed is shown with the opened plan, once the list is closed.")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
