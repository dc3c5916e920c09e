"""What the Triton backend "oneflow" is made of: OneFlow, NumPy and the standard library only.

- ``graph_folder`` reads and checks what ``flow.save`` wrote, without OneFlow;
- ``saved_graph`` runs it, ``one_by_one`` operator by operator, ``rebatch`` for more rows at once;
- ``isolation`` keeps it in a process of its own, ``worker``, with which it shares
  ``shared_tensors``;
- ``model_config`` compares a config.pbtxt with it;
- ``openblas`` chooses the kernels for this CPU.

Triton's side is ``model.py`` in the folder above. Notebooks and the kit import the same package.
"""
