"""Who did what, when and why? Append-only entries, each a leaf of an RFC 6962 Merkle tree per study."""
