"""How does somebody without our program draw a permuted-block list again? A script of its own, in Python and in R.

The scripts are written from the recipe (`drbg`, `sequence`, `methods.permuted_blocks`) and share no code with the
application. They hold the plan and the block sizes; the seed is typed in by whoever runs them, so that a script alone
says nothing of the order. They print `stratum,position,arm`, one line per slot. The Python one needs the standard
library only, the R one base R only, with SHA-256 and HMAC written out in it.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from app.randomisation.drbg import SEED_BYTES
from app.randomisation.sequence import RECIPE


@dataclass(frozen=True)
class BlockPlan:
    """What a permuted-block list was drawn from, but for its seed."""

    study: str
    version: int
    arms: tuple[tuple[str, int], ...]
    strata: tuple[str, ...]
    slots_per_stratum: int
    block_sizes: tuple[int, ...] = field(repr=False)


def python_script(plan: BlockPlan) -> str:
    """A program for Python 3.8 or newer that reads the seed from its input and prints the list."""
    arms = sorted(plan.arms)
    told = {
        "RECIPE": RECIPE,
        "STUDY": plan.study,
        "VERSION": plan.version,
        "ARMS": [code for code, _ in arms],
        "SHARES": [share for _, share in arms],
        "STRATA": sorted(plan.strata),
        "SLOTS": plan.slots_per_stratum,
        "BLOCK_SIZES": sorted(plan.block_sizes),
        "SEED_BYTES": SEED_BYTES,
    }
    return PYTHON.replace("@PLAN@", "\n".join(f"{name} = {json.dumps(value)}" for name, value in told.items()))


def r_script(plan: BlockPlan) -> str:
    """A program for R 4 or newer that reads the seed from its input and prints the list."""
    arms = sorted(plan.arms)
    told = {
        "recipe": _in_r([RECIPE]),
        "study": _in_r([plan.study]),
        "version": _in_r([plan.version]),
        "arms": _in_r([code for code, _ in arms]),
        "shares": _in_r([share for _, share in arms]),
        "strata": _in_r(sorted(plan.strata)),
        "slots": _in_r([plan.slots_per_stratum]),
        "block_sizes": _in_r(sorted(plan.block_sizes)),
        "seed_bytes": _in_r([SEED_BYTES]),
    }
    return R.replace("@PLAN@", "\n".join(f"{name} <- {value}" for name, value in told.items()))


def _in_r(values: Sequence[str | int]) -> str:
    # Codes of arms, sites and levels are plain ASCII (studies.definition), which JSON and R quote alike.
    return f"c({', '.join(json.dumps(value) for value in values)})"


PYTHON = '''\
#!/usr/bin/env python3
"""Draws a permuted-block randomisation list again from its seed. Standard library only.

    python3 THIS_FILE < seed.txt > list.csv

The seed is typed in, or read from a file, as hexadecimal digits on one line. Generator: HMAC_DRBG with SHA-256 (NIST SP
800-90A Rev. 1), one for each stratum.
"""

import hmac
import sys

@PLAN@


class Generator:
    def __init__(self, material):
        self.key, self.value = bytes(32), b"\\x01" * 32
        self.update(material)

    def update(self, provided):
        for separator in (b"\\x00", b"\\x01") if provided else (b"\\x00",):
            self.key = hmac.new(self.key, self.value + separator + provided, "sha256").digest()
            self.value = hmac.new(self.key, self.value, "sha256").digest()

    def take(self, length):
        taken = b""
        while len(taken) < length:
            self.value = hmac.new(self.key, self.value, "sha256").digest()
            taken += self.value
        self.update(b"")
        return taken[:length]

    def below(self, n):
        bits = (n - 1).bit_length()
        while bits:
            drawn = int.from_bytes(self.take((bits + 7) // 8), "big") % 2**bits
            if drawn < n:
                return drawn
        return 0


def slots_of(stratum, seed):
    material = seed
    for part in (RECIPE, STUDY, stratum, str(VERSION)):
        written = part.encode("utf-8")
        material += len(written).to_bytes(4, "big") + written
    generator = Generator(material)
    slots = []
    while len(slots) < SLOTS:
        size = BLOCK_SIZES[generator.below(len(BLOCK_SIZES))]
        block = [arm for arm, share in zip(ARMS, SHARES) for _ in range(share * size // sum(SHARES))]
        for i in range(size - 1, 0, -1):
            j = generator.below(i + 1)
            block[i], block[j] = block[j], block[i]
        slots += block
    return slots


def main():
    if sys.stdin.isatty():
        print("Seed:", end=" ", file=sys.stderr, flush=True)
    try:
        seed = bytes.fromhex(sys.stdin.readline().strip())
    except ValueError:
        seed = b""
    if len(seed) != SEED_BYTES:
        sys.exit(f"The seed has {2 * SEED_BYTES} hexadecimal digits. Type all of them on one line.")
    print("stratum,position,arm")
    for stratum in STRATA:
        for position, arm in enumerate(slots_of(stratum, seed), start=1):
            print(f"{stratum},{position},{arm}")


main()
'''

R = """\
# Draws a permuted-block randomisation list again from its seed. Base R only.
#
#     Rscript THIS_FILE < seed.txt > list.csv
#
# The seed is typed in, or read from a file, as hexadecimal digits on one line. Generator: HMAC_DRBG with SHA-256 (NIST
# SP 800-90A Rev. 1), one for each stratum. It draws some ten slots a second.

@PLAN@

# SHA-256 (FIPS 180-4). R has no unsigned 32-bit numbers: a word is c(upper, lower), 16 bits each.

words <- function(x) cbind(x %/% 65536, x %% 65536)

constants <- words(c(
  0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
  0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
  0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
  0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
  0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
  0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
  0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
  0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2
))

start <- words(c(
  0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19
))

add <- function(x) {
  upper <- x[1] + x[2] %/% 65536
  c(upper %% 65536, x[2] %% 65536)
}

rotate <- function(x, n) {
  if (n >= 16) {
    x <- x[2:1]
    n <- n - 16
  }
  x %/% 2^n + (x[2:1] %% 2^n) * 2^(16 - n)
}

shift <- function(x, n) c(x[1] %/% 2^n, x[2] %/% 2^n + (x[1] %% 2^n) * 2^(16 - n))

xor3 <- function(x, y, z) bitwXor(bitwXor(x, y), z)

sha256 <- function(bytes) {
  bits <- length(bytes) * 8
  filled <- c(bytes, 128, rep(0, (55 - length(bytes)) %% 64), bits %/% 256^(7:0) %% 256)
  hash <- start
  for (block in seq_len(length(filled) / 64)) {
    part <- matrix(filled[(block - 1) * 64 + 1:64], nrow = 4)
    w <- rbind(cbind(part[1, ] * 256 + part[2, ], part[3, ] * 256 + part[4, ]), matrix(0, 48, 2))
    for (t in 17:64) {
      x <- w[t - 15, ]
      y <- w[t - 2, ]
      w[t, ] <- add(w[t - 16, ] + xor3(rotate(x, 7), rotate(x, 18), shift(x, 3)) +
        w[t - 7, ] + xor3(rotate(y, 17), rotate(y, 19), shift(y, 10)))
    }
    a <- hash[1, ]; b <- hash[2, ]; c_ <- hash[3, ]; d <- hash[4, ]
    e <- hash[5, ]; f <- hash[6, ]; g <- hash[7, ]; h <- hash[8, ]
    for (t in 1:64) {
      choice <- bitwXor(g, bitwAnd(e, bitwXor(f, g)))
      first <- h + xor3(rotate(e, 6), rotate(e, 11), rotate(e, 25)) + choice + constants[t, ] + w[t, ]
      majority <- bitwXor(b, bitwAnd(bitwXor(a, b), bitwXor(b, c_)))
      second <- xor3(rotate(a, 2), rotate(a, 13), rotate(a, 22)) + majority
      h <- g; g <- f; f <- e
      e <- add(d + first)
      d <- c_; c_ <- b; b <- a
      a <- add(first + second)
    }
    now <- rbind(a, b, c_, d, e, f, g, h)
    for (i in 1:8) hash[i, ] <- add(hash[i, ] + now[i, ])
  }
  as.vector(t(cbind(hash[, 1] %/% 256, hash[, 1] %% 256, hash[, 2] %/% 256, hash[, 2] %% 256)))
}

# HMAC (FIPS 198-1); every key here has 32 bytes.
hmac <- function(key, message) {
  padded <- c(key, rep(0, 64 - length(key)))
  sha256(c(bitwXor(padded, 92), sha256(c(bitwXor(padded, 54), message))))
}

key <- value <- NULL

update_with <- function(provided) {
  for (separator in if (length(provided)) 0:1 else 0) {
    key <<- hmac(key, c(value, separator, provided))
    value <<- hmac(key, value)
  }
}

take <- function(length_) {
  taken <- c()
  while (length(taken) < length_) {
    value <<- hmac(key, value)
    taken <- c(taken, value)
  }
  update_with(c())
  taken[seq_len(length_)]
}

below <- function(n) {
  bits <- 0
  while (2^bits < n) bits <- bits + 1
  if (bits == 0) return(0)
  wanted <- ceiling(bits / 8)
  repeat {
    drawn <- sum(take(wanted) * 256^((wanted - 1):0)) %% 2^bits
    if (drawn < n) return(drawn)
  }
}

written <- function(text) {
  bytes <- as.integer(charToRaw(enc2utf8(text)))
  c(length(bytes) %/% 256^(3:0) %% 256, bytes)
}

slots_of <- function(stratum, seed) {
  key <<- rep(0, 32)
  value <<- rep(1, 32)
  update_with(c(seed, written(recipe), written(study), written(stratum), written(as.character(version))))
  filled <- c()
  while (length(filled) < slots) {
    size <- block_sizes[below(length(block_sizes)) + 1]
    block <- rep(arms, shares * size / sum(shares))
    for (i in rev(seq_len(size - 1))) {
      j <- below(i + 1)
      block[c(i, j) + 1] <- block[c(j, i) + 1]
    }
    filled <- c(filled, block)
  }
  filled
}

input <- file("stdin")
typed <- trimws(readLines(input, n = 1))
close(input)
if (length(typed) != 1 || !grepl(sprintf("^[0-9a-fA-F]{%d}$", 2 * seed_bytes), typed)) {
  stop(sprintf("The seed has %d hexadecimal digits. Type all of them on one line.", 2 * seed_bytes))
}
seed <- strtoi(substring(typed, seq(1, 2 * seed_bytes, 2), seq(2, 2 * seed_bytes, 2)), 16)
cat("stratum,position,arm\\n")
for (stratum in strata) {
  drawn <- slots_of(stratum, seed)
  cat(sprintf("%s,%d,%s\\n", stratum, seq_along(drawn), drawn), sep = "")
}
"""
