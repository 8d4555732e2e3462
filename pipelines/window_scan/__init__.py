"""A scan of windows: a model for each window in mass, trained without labels, and what it selects there against background.

`options` says which windows, `backgrounds` what is expected in them, `scan` makes p-values of it, and `result`, `report`
and `write` tell. What trains the models is `zoo.hunting.window_scan`.
"""
