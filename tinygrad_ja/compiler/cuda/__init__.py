"""Programs on a GPU: generated kernels and cuBLAS products, replayed as one CUDA graph.

| file | what it holds |
| --- | --- |
| ``elements`` | C types, and every element-wise function as C text with NumPy's meaning |
| ``space`` | index spaces: axes merged, offsets as C text |
| ``kernel`` | one kernel while its text is made: pointers, loads, stores, the element-wise body |
| ``maps`` | kernels that make each element by itself: chains, copies, ``place``, ``take``, ``add_at``, scans |
| ``folds`` | kernels that reduce: rows, columns, and both in several phases |
| ``groups`` | a group as few kernels |
| ``windows`` | convolutions and pooling |
| ``schedule`` | independent kernels in one launch |
| ``products`` | ``matmul`` as calls of cuBLAS, and ``cublas``, the binding |
| ``lowering`` | a program and its layout as a list of launches |
| ``safety`` | which instructions a graph can hold |
| ``machine`` | the GPU as the executor needs it: memory, modules, launches, graphs |
| ``executor`` | ``CudaExecutor`` |
"""
