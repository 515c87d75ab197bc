"""Every transform: importing this package fills the registry, in the order of `python -m export transforms`."""
from export.transforms import (  # noqa: F401
    fold_affine_through,
    fold_batch_norms,
    fold_constants,
    fold_old_batch_norms,
    inline_partitionedcall,
    merge_duplicate_nodes,
    remove_control_dependencies,
    remove_device,
    remove_nodes,
    set_device,
    sort_by_execution_order,
    strip_unused_nodes,
)
