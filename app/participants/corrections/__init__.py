"""The answers of a pre-screen as they should have been: judged again by the version they were given to, never lost."""
