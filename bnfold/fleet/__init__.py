"""How are many models folded, again and again? A source, a destination, a manifest, and Dask.

Each model is worked on in a process of its own (`child`), which a Dask task drives (`task`), which
a sweep schedules (`schedule`, `sweeping`). What was done is a record for each model (`record`),
kept beside the folded models (`manifest`), wherever fsspec can write (`storage`).
"""
