"""Which dummy arm stands beside a participant, so that an analysis can be written before the blind is broken? Pure.

A dummy arm is drawn from what everybody in the study may read: its code, the ratio of its groups, and who is
randomised. No envelope is opened for it and nothing of the real list goes into it, so blinded people may have it.

The recipe, so that the same data gives the same dummy arms anywhere:

- seed: SHA-384 of `equipoise dummy arms`, a zero byte, and the study's code; generator: HMAC_DRBG as for lists.
- the groups of whole blocks of the ratio, and of one further block, shuffled, as many as are still wanted;
- all of it shuffled, and dealt to the randomised participants in the order of their codes.

So the dummy arms are as many each as the ratio asks for, to within one block: over the whole study and not by stratum,
because a programme needs groups of the planned shape, and by stratum they would be no more like the real ones. Where
sites are randomised the same is dealt to all sites, in the order of their codes, and a participant has their site's.
"""

import hashlib
from collections.abc import Sequence

from app.randomisation.drbg import Stream

PREFIX = "dummy_"
_PURPOSE = b"equipoise dummy arms"


def dummy_codes(groups: int) -> tuple[str, ...]:
    """The codes of the dummy arms, in the order in which the study names its groups: dummy_1, dummy_2, ..."""
    return tuple(f"{PREFIX}{number}" for number in range(1, groups + 1))


def dummy_arms(study: str, ratio: Sequence[int], participants: Sequence[int]) -> dict[int, str]:
    """A dummy arm for each of these participants or sites (by id, in the order of their codes).

    `ratio` are the shares of the groups in the order in which the study names them. The same arguments give the same
    dummy arms; nothing else goes into them.
    """
    seed = hashlib.sha384(_PURPOSE + b"\0" + study.encode()).digest()
    stream = Stream.from_seed(seed, personalisation=_PURPOSE)
    block = [code for code, share in zip(dummy_codes(len(ratio)), ratio, strict=True) for _ in range(share)]
    whole, rest = divmod(len(participants), len(block))
    dealt = [*block * whole, *stream.shuffle(block)[:rest]]
    return dict(zip(participants, stream.shuffle(dealt), strict=True))
