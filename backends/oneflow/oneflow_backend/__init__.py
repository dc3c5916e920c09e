"""What the Triton backend "oneflow" is made of: OneFlow, NumPy and the standard library only.

- ``graph_folder`` reads and checks what ``flow.save`` wrote, without OneFlow: ``mlir`` reads the
  text, ``places`` the order of ``build``, ``training_mode`` finds that ``eval()`` was forgotten;
- ``model_config`` compares a config.pbtxt with it;
- ``joining`` shares the runs of a graph among requests that come together;
- ``isolation`` keeps the graph in a process of its own: ``worker_process`` is this process seen
  from outside, ``worker`` what runs in it, ``shared_tensors`` the memory of both, ``complaints``
  what OneFlow's last words mean;
- ``saved_graph`` runs the graph there, ``one_by_one`` operator by operator; ``rebatch`` rewrites it
  for more rows at once, by the rules of ``batch_table`` and by ``shape_inference``; ``job`` and
  ``topological`` serve all of them;
- ``verification`` compares such a plan with single rows, by the measure of ``comparison``, on the
  inputs of ``example_inputs`` and ``id_ranges``;
- ``openblas`` chooses the kernels for this CPU.

Triton's side is ``model.py`` in the folder above. Notebooks and the kit import the same package.
"""
