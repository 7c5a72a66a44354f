"""Fleets: thousands of models, from folders and object stores, on the processes of one machine or of a Dask cluster.

    sources -> driver -> (Dask) work -> isolation -> child      one model in a process with limits on time and memory
                  |
                  +-> store (Parquet) -> summary -> render

The driver holds few models at a time, the store writes each part file whole, and what is done is known by content, so
that a run may end at any moment and go on later. `onnx_aiwq.fleet.driver.run_fleet` and
`onnx_aiwq.fleet.summary.summarise` are the two entries.
"""
