"""What if the server cannot be reached? Slots are reserved for a site beforehand, and entered or voided afterwards."""
