"""How is it sealed? The only room that imports cryptography: keys, envelopes, fingerprints, passwords, signatures."""
