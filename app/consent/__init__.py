"""Did they agree, to what exactly, and do they still? Consent documents, signatures, withdrawal."""
