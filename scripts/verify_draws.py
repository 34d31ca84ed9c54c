#!/usr/bin/env python3
"""Was every allocation decided by the committed rule, from the committed seed? Standard library only, nothing of ours.

    python3 scripts/verify_draws.py CERTIFICATE PROOFS PLAN [ROOT] [FIRST]

For a method that decides at each allocation (minimisation); lists drawn ahead are checked by verify_allocation.py.

CERTIFICATE  the sealing certificate as JSON, kept since before the first participant
PROOFS       one JSON object a line for every allocation: number, participant, position, levels, arm, salt, path; in the
             last line stands the SHA-256 of those above and of the certificate
PLAN         the opened plan (seed, salt key, options, arms, factors), published when the list is closed
ROOT         64 hexadecimal digits from the audit log: `root` of the entry sequence.closed
FIRST        where a first stage gave groups: its proofs, which verify_allocation.py checks by themselves

Checked is: the plan is the one that the certificate commits to; numbers and positions count up without a gap and nobody
has two; each arm is the one that the seed and the rule give, from the people before and their levels, within the group
that FIRST gives, earlier, where there is one; each salt follows from the salt key; all leaves are in one tree, in their
places, whose root is ROOT. The leaf of each allocation is in the audit log, too, at the moment it was made
(participant.randomised).
"""

import hashlib
import hmac
import json
import re
import sys
from fractions import Fraction
from math import gcd
from pathlib import Path
from typing import Any


def sized(*parts: bytes) -> bytes:
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def text(*words: object) -> list[bytes]:
    return [str(word).encode() for word in words]


def canonical(content: dict[str, Any]) -> bytes:
    return json.dumps(content, separators=(",", ":"), ensure_ascii=False, sort_keys=True).encode()


def node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def root_of(leaves: list[bytes]) -> bytes:
    level = leaves
    while len(level) > 1:
        level = [node(*level[at : at + 2]) if at + 1 < len(level) else level[at] for at in range(0, len(level), 2)]
    return level[0] if level else hashlib.sha256(b"").digest()


class Generator:
    """HMAC_DRBG with SHA-256 (NIST SP 800-90A Rev. 1, section 10.1.2), and fair draws from it by rejection."""

    def __init__(self, seed: bytes) -> None:
        self.key, self.value = bytes(32), b"\x01" * 32
        self.update(seed)

    def update(self, data: bytes = b"") -> None:
        self.key = hmac.digest(self.key, self.value + b"\x00" + data, "sha256")
        self.value = hmac.digest(self.key, self.value, "sha256")
        if data:
            self.key = hmac.digest(self.key, self.value + b"\x01" + data, "sha256")
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
        while bits:
            drawn = int.from_bytes(self.bytes((bits + 7) // 8), "big") & ((1 << bits) - 1)
            if drawn < n:
                return drawn
        return 0


class Minimisation:
    """The rule, as app/randomisation/methods/minimisation.py says it in words."""

    def __init__(self, plan: dict[str, Any]) -> None:
        divisor = gcd(*(share for _, share in plan["arms"]))
        self.groups = [code for code, share in sorted(plan["arms"]) for _ in range(share // divisor)]
        self.options = plan["options"]
        self.weights = self.options["weights"] or [1] * len(plan["factors"])
        self.had: dict[tuple[int, str], list[int]] = {}

    def at(self, factor: int, level: str) -> list[int]:
        return self.had.setdefault((factor, level), [0] * len(self.groups))

    def unlike(self, had: list[int], candidate: int) -> Fraction:
        tried = [n + (group == candidate) for group, n in enumerate(had)]
        if self.options["measure"] == "range":
            return Fraction(max(tried) - min(tried))
        if self.options["measure"] == "marginal_total":
            return Fraction(tried[candidate])
        mean = Fraction(sum(tried), len(tried))
        return sum(((each - mean) ** 2 for each in tried), Fraction(0)) / (len(tried) - 1)

    def best(self, levels: list[str]) -> tuple[list[int], Fraction]:
        sizes = self.at(-1, "")
        if self.options["most_apart"] and max(sizes) - min(sizes) >= self.options["most_apart"]:
            return [group for group, n in enumerate(sizes) if n == min(sizes)], Fraction(self.options["catch_up"])
        weighed = [(self.at(number, level), self.weights[number]) for number, level in enumerate(levels)]
        weighed.append((sizes, self.options["size_weight"]))
        tried = [
            sum((weight * self.unlike(had, group) for had, weight in weighed), Fraction(0))
            for group in range(len(self.groups))
        ]
        return [group for group, n in enumerate(tried) if n == min(tried)], Fraction(self.options["probability"])

    def next(self, levels: list[str], draw: Generator) -> str:
        best, probability = self.best(levels)
        chosen = best[draw.below(len(best))]
        if draw.below(probability.denominator) >= probability.numerator:
            others = [group for group in range(len(self.groups)) if group != chosen]
            chosen = others[draw.below(len(others))]
        for factor, level in [(-1, ""), *enumerate(levels)]:
            self.at(factor, level)[chosen] += 1
        return str(self.groups[chosen])


def leads_to(start: bytes, index: int, size: int, path: list[bytes]) -> bytes | None:
    """The root that a path leads to (RFC 9162 section 2.1.3.2); None when its length does not fit."""
    last, reached = size - 1, start
    for sibling in path:
        if last == 0:
            return None
        if index & 1 or index == last:
            reached = node(sibling, reached)
            while not index & 1 and index:
                index, last = index >> 1, last >> 1
        else:
            reached = node(reached, sibling)
        index, last = index >> 1, last >> 1
    return reached if last == 0 else None


def read_proofs(text: str, certificate: dict[str, Any] | None) -> tuple[list[dict[str, Any]], list[str]]:
    """The proofs of a file, and whether it is whole, and of this certificate, if given: its last line says so."""
    above, _, last = text.rstrip("\n").rpartition("\n")
    said = json.loads(last)
    made = {"proofs": above.encode(), "certificate": canonical(certificate) if certificate else None}
    whole = all(said[name] == hashlib.sha256(each).hexdigest() for name, each in made.items() if each is not None)
    words = "Proofs and certificate are not as they were when the proofs were made, as their last line should say."
    return [json.loads(line) for line in above.split("\n") if line], [] if whole else [words]


def check_groups(proofs: list[dict[str, Any]], first: list[dict[str, Any]]) -> list[str]:
    """What is wrong with the groups within which arms were decided, held against the proofs of the first stage."""
    given, faults = {proof["participant"]: proof for proof in first if "arm" in proof}, list[str]()
    for proof in proofs:
        stage = given.get(proof["participant"])
        if stage is None or stage["arm"] != proof["group"]:
            faults.append(f"{proof['participant']} was decided in a group that the first stage did not give.")
        elif stage["allocated_at"] > proof["allocated_at"]:
            faults.append(f"{proof['participant']} had the first stage after the last one.")
    return faults


def check(certificate: dict[str, Any], proofs: list[dict[str, Any]], plan: dict[str, Any], root: str) -> list[str]:
    """Everything that is wrong."""
    if hashlib.sha256(b"\x00" + canonical(plan)).hexdigest() != certificate["plan_commitment"]:
        return ["The plan is not the one that the certificate commits to."]
    study, version = plan["study"], plan["version"]
    if (study, version, plan["method"]) != tuple(certificate[name] for name in ("study", "list_version", "method")):
        return ["The plan is of another list than the certificate."]
    if plan["method"] != "minimisation" or certificate["recipe"] != "equipoise.dynamic.1":
        return [f"The method {plan['method']} is not one that decides at each allocation."]
    faults, leaves, people = list[str](), list[bytes](), set[str]()
    groups = {group: {**plan, "arms": arms} for group, arms in plan.get("groups", {}).items()} or {"": plan}
    rules = {group: Minimisation(each) for group, each in groups.items()}
    seed, salt_key = bytes.fromhex(plan["seed"]), bytes.fromhex(plan["salt_key"])
    number, at = 0, ""
    for position, proof in enumerate(proofs, start=1):
        who = f"Allocation {proof['number']} ({proof['participant']})"
        if number and proof["number"] != number + 1:
            faults.append(f"{who} comes after allocation {number}.")
        if proof["allocated_at"] < at:
            faults.append(f"{who} is dated before the one in front of it.")
        if proof["participant"] in people:
            faults.append(f"{who} is somebody who has an allocation already.")
        if proof["position"] != position:
            faults.append(f"{who} has position {proof['position']}; the next one was {position}.")
        number, at = proof["number"], proof["allocated_at"]
        people.add(proof["participant"])
        levels, stratum, arm = proof["levels"], proof["stratum"], proof["arm"]
        group, rule = proof.get("group", ""), rules.get(proof.get("group", ""))
        if rule is None or len(levels) != len(plan["factors"]) or arm not in rule.groups:
            return [*faults, f"{who} has levels or an arm that the plan does not know."]
        words = text("equipoise.dynamic.1", study, stratum, version, position)
        if rule.next(levels, Generator(seed + sized(*words))) != arm:
            faults.append(f"{who} is not the arm that the seed and the rule give.")
        salt = hmac.digest(salt_key, sized(*text("equipoise.salt.1", stratum, position)), "sha256")
        if salt.hex() != proof["salt"]:
            faults.append(f"{who} has a salt that is not of this plan.")
        place = text("equipoise.draw.1", study, version, stratum, position)
        decided_from = text(*levels, *([group] if group else []))
        content = sized(*place, sized(*decided_from), arm.encode(), salt)
        leaves.append(hashlib.sha256(b"\x00" + content).digest())
    reached = root_of(leaves)
    for index, proof in enumerate(proofs):
        if leads_to(leaves[index], index, len(leaves), [bytes.fromhex(each) for each in proof["path"]]) != reached:
            faults.append(f"Allocation {proof['number']} has a path that leads to another root.")
    if root and root.lower() != reached.hex():
        faults.append(f"All allocations together have the root {reached.hex()}, and the log says {root.lower()}.")
    if not faults and not root:
        print(f"Hold the root {reached.hex()} against the entry sequence.closed of the audit log.")
    return faults


def main(arguments: list[str]) -> int:
    """Exit code 0 when everything holds, 1 when something does not, 2 when a file cannot be read."""
    if len(arguments) not in (3, 4, 5):
        print(__doc__)
        return 2
    try:
        certificate, plan = (json.loads(Path(arguments[at]).read_text("utf-8")) for at in (0, 2))
        proofs, bent = read_proofs(Path(arguments[1]).read_text("utf-8"), certificate)
        if certificate["format"] != "equipoise-sealing-certificate-1" or plan["format"] != "equipoise-opened-plan-1":
            raise ValueError("a file is not what its place on the command line says")
        files = [name for name in arguments[3:] if not re.fullmatch("[0-9a-fA-F]{64}", name)]
        faults = bent + check(certificate, proofs, plan, "".join(name for name in arguments[3:] if name not in files))
        if plan.get("groups") and files:
            first, bent = read_proofs("".join(Path(name).read_text("utf-8") for name in files), None)
            faults += bent + check_groups(proofs, first)
        elif plan.get("groups"):
            print("Hold the groups against the first stage: give its proofs, too.")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as problem:
        print(f"This cannot be checked: {type(problem).__name__}: {problem}")
        return 2
    print(
        "\n".join(faults) or f"{len(proofs)} allocations, each decided by the committed rule from the committed seed."
    )
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
