"""The search: from scores and masses to a local and a global significance, and what tells whether to trust it."""
