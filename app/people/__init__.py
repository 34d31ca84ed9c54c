"""Who are they and what may they do? Users, roles, sites, the permission table, sign-in, second factor, tokens."""
