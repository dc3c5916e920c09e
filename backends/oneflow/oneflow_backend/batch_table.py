"""The operators of OneFlow 0.9.0 that may stand in a graph, each with its rule for a batch.

What is in none of these tables is not known, and rows are never joined through it. The tests hold
them against OneFlow's own list of operators (``UserOpRegistryMgr``), whose other ones belong to
training, to several devices, and to reading data.
"""

from oneflow_backend import batch_places as places
from oneflow_backend import batch_values as values
from oneflow_backend.batch_axis import Operator, Rows, Rule

_EACH = """
abs acos acosh amp_black_identity amp_white_identity asin asinh atan atanh cast ceil celu
clip_by_scalar clip_by_scalar_max clip_by_scalar_min copy cos cosh elu erf erfc erfinv exp expm1
fast_gelu floor gelu hardshrink hardsigmoid hardswish hardtanh identity isfinite isinf isnan
leaky_relu lgamma log log10 log1p log2 log_sigmoid logical_not mish negative not_equal_zero
ones_like pinned_identity quick_gelu reciprocal reciprocal_no_nan relu rint round rsqrt scalar_add
scalar_div scalar_floordiv scalar_fmod scalar_logical_and scalar_logical_equal
scalar_logical_greater scalar_logical_greater_equal scalar_logical_less scalar_logical_less_equal
scalar_logical_not_equal scalar_logical_or scalar_logical_xor scalar_mul scalar_pow
scalar_reverse_pow scalar_truncdiv selu sigmoid sign silu sin sinh softplus softshrink softsign sqrt
square tan tanh threshold to_contiguous trunc where_scalar_xy zero_like
"""
_BROADCAST = """
broadcast_add broadcast_div broadcast_equal broadcast_floor_mod broadcast_fmod broadcast_greater
broadcast_greater_equal broadcast_isclose_eq_nan broadcast_isclose_neq_nan broadcast_less
broadcast_less_equal broadcast_logical_and broadcast_logical_or broadcast_logical_xor
broadcast_maximum broadcast_minimum broadcast_mul broadcast_not_equal broadcast_pow broadcast_sub
where where_scalar_x where_scalar_y
"""
#: Elementwise on inputs of one shape. A cell of an LSTM or GRU works on each place of its gates.
_TOGETHER = """
add_n atan2 elementwise_maximum elementwise_minimum floordiv fused_fast_gelu_mul kl_div_loss
masked_fill pow sigmoid_cross_entropy smooth_l1_loss truncdiv xdivy xlogy
"""
_FIRST_DIM = """
adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d
adaptive_max_pool3d affine_grid avg_pool_1d avg_pool_2d avg_pool_3d fold grid_sample max_pool_1d
max_pool_2d max_pool_3d max_unpool_1d max_unpool_2d max_unpool_3d reflection_pad1d reflection_pad2d
replication_pad1d replication_pad2d tf_avg_pool_1d tf_avg_pool_2d tf_avg_pool_3d tf_max_pool_1d
tf_max_pool_2d tf_max_pool_3d unfold upsample_bicubic_2d upsample_bilinear_2d upsample_linear_1d
upsample_nearest_1d upsample_nearest_2d upsample_nearest_3d upsample_trilinear_3d
"""
_CONVOLUTION = "conv1d conv2d conv3d deconv1d deconv2d deconv3d deform_conv2d"
_LAST = "arg_sort argmax log_softmax median_with_indices softmax sort top_k"
_LAST_TWO = "fused_scale_tril inv tril triu"
_REDUCE = """
reduce_all reduce_any reduce_max reduce_min reduce_nansum reduce_prod reduce_sum
"""
_ALONG_DIM = """
dim_gather dim_scatter_add dim_scatter_add_like dim_scatter_add_scalar dim_scatter_mul
dim_scatter_mul_scalar dim_scatter_update dim_scatter_update_scalar
"""

#: A rule for each operator that may see the batch.
RULES: dict[str, Rule] = {
    **dict.fromkeys(_EACH.split(), values.each),
    **dict.fromkeys(_BROADCAST.split(), values.broadcast),
    **dict.fromkeys(_TOGETHER.split(), values.together),
    **dict.fromkeys(_FIRST_DIM.split(), values.first_dim()),
    **dict.fromkeys(_CONVOLUTION.split(), values.first_dim("weight", "bias")),
    **dict.fromkeys(_LAST.split(), values.before_last(1)),
    **dict.fromkeys(_LAST_TWO.split(), values.before_last(2)),
    **dict.fromkeys(_REDUCE.split(), values.reduce("axis")),
    **dict.fromkeys(_ALONG_DIM.split(), places.along_dim),
    "batch_gather": places.batch_gather,
    "batch_matmul": values.matmul,
    "bias_add": values.per_channel("b", "axis"),
    "binary_cross_entropy": values.together,
    "binary_cross_entropy_with_logits": values.beside("pos_weight"),
    "broadcast_like": places.broadcast_like,
    "broadcast_matmul": values.matmul,
    "cast_like": values.cast_like,
    "concat": places.concat,
    "cumprod": values.along("dim"),
    "cumsum": values.along("dim"),
    "diagonal": places.diagonal,
    "embedding": places.embedding,
    "expand": places.expand,
    "expand_dims": places.expand_dims,
    "flip": values.along("dims"),
    "fused_bias_add_gelu": values.per_channel("b", "axis"),
    "fused_gru_cell": values.first_dim("input_bias", "hidden_bias"),
    "fused_lstm_cell": values.first_dim("input_bias", "hidden_bias"),
    "fused_matmul_bias": values.linear,
    "gather": places.gather,
    "gather_nd": places.gather_nd,
    "group_norm": values.first_dim("gamma", "beta"),
    "l2_normalize": values.along("axis"),
    "layer_norm": values.layer_norm,
    "linalg_cross": values.along("dim"),
    "matmul": values.matmul,
    "matrix_vector_product": values.matrix_by_vector,
    "narrow": places.narrow,
    "nll": values.class_of_row,
    "normalization": values.normalization,
    "normalization_add_relu": values.normalization,
    "one_hot": places.one_hot,
    "pad": places.pad,
    "prelu": values.per_channel("alpha"),
    "reshape": places.reshape,
    "rms_norm": values.rms_norm,
    "roll": values.roll,
    "scalar_add_by_tensor": values.beside("scalar"),
    "scalar_div_by_tensor": values.beside("scalar"),
    "scalar_mul_by_tensor": values.beside("scalar"),
    "scalar_sub_by_tensor": values.beside("scalar"),
    "searchsorted": places.searchsorted,
    "searchsorted_scalar": values.before_last(1),
    "slice": places.slice_,
    "slice_update": places.slice_update,
    "sparse_softmax_cross_entropy": values.class_of_row,
    "squeeze": places.squeeze,
    "stack": places.stack,
    "transpose": places.transpose,
    "unfold_tensor": places.unfold_tensor,
    "var": values.reduce("dim"),
    "vector_matrix_product": values.vector_by_matrix,
}

_ALL = "takes all values that it gets together"
_BY_NUMBER = "puts values at places that count all rows"
#: Operators that give the same each time, but mix the rows of a batch, and why.
MIX_ROWS: dict[str, str] = {
    "argwhere": "lists where values are, with the numbers of the rows",
    "as_strided": "reads memory at distances that tracing wrote down",
    "binary_cross_entropy_with_logits_reduce_mean": _ALL,
    "bincount": _ALL,
    "count_not_finite": _ALL,
    "diag": "makes a matrix of all values, or takes the diagonal of one",
    "dot": _ALL,
    "index_add": _BY_NUMBER,
    "median": _ALL,
    "min_max_observer": "takes the range of all values that it gets",
    "nms": "lets boxes compete with each other",
    "repeat_interleave": "makes as many copies of a value as another tensor says",
    "reshape_like": "takes its shape from another tensor",
    "reduce_sum_like": "takes its shape from another tensor",
    "roi_align": "reads rows by number",
    "scatter_nd": _BY_NUMBER,
    "scatter_nd_like": _BY_NUMBER,
    "sqrt_square_sum": _ALL,
    "square_sum": _ALL,
    "tensor_scatter_nd_add": _BY_NUMBER,
    "tensor_scatter_nd_update": _BY_NUMBER,
    "unsorted_segment_sum": _BY_NUMBER,
    "unsorted_segment_sum_like": _BY_NUMBER,
}
#: Operators that give some values of a data type (by MLIR's name) something else in a batch.
#: Measured with all operators that take integers, over their whole range: oneDNN's sum of int32
#: goes by float32, and beyond 2**31 its vectors give 2147483520, and what is left of them -2**31.
NOT_EXACT = {("add_n", "si32")}
#: Operators without inputs that always give the same.
SOURCES = frozenset(["arange", "constant", "eye"])

_TRAINING = "it was traced in training mode; call eval() before tracing"
_RANDOM = """
bernoulli coin_flip exponential generate_random_batch_permutation_indices
multinomial_with_replacement normal randperm uniform uniform_int
"""
_WRITES = """
assign assign_if assign_if_not embedding_renorm fill_ fill_tensor_ moving_average_min_max_observer
mutable_cast_once
"""
_DROPS = "dropout fused_bias_add_mask_scale random_mask_like"
#: Operators that keep rows from being joined even apart from the inputs of a graph: they do not
#: give the same each time, or change what the next run finds.
NOT_THE_SAME: dict[str, str] = {
    **dict.fromkeys(_DROPS.split(), f"drops values at random: {_TRAINING}"),
    **dict.fromkeys(_RANDOM.split(), "draws random numbers, which joined rows would share"),
    **dict.fromkeys(_WRITES.split(), "changes a tensor that the next run reads"),
    "empty": "gives whatever is in memory",
}


def check_same_each_time(op: Operator) -> None:
    """Refuse an operator that would keep rows from being joined wherever it stands.

    Raises:
        CannotBatch: it is random, has a state, is in training, or is not known.
    """
    if op.kind in NOT_THE_SAME:
        raise op.refuse(NOT_THE_SAME[op.kind])
    if op.attributes.get("training"):
        running = any(tensor.key == "moving_mean" for tensor in op.inputs)
        raise op.refuse(
            "takes its mean over the batch: "
            + (_TRAINING if running else "it has no running statistics (track_running_stats)")
        )
    if not (op.kind in RULES or op.kind in MIX_ROWS or op.kind in SOURCES):
        raise op.refuse("is not known to treat rows independently")


def rows_of(op: Operator) -> Rows:
    """Return where the results of an operator carry the batch.

    Raises:
        CannotBatch: rows would not be independent of each other.
    """
    if op.kind in MIX_ROWS:
        raise op.refuse(f"{MIX_ROWS[op.kind]}, not each row's")
    if (op.kind, op.inputs[0].data_type) in NOT_EXACT:
        raise op.refuse("gives large int32 sums other values in a batch; int64 is exact")
    return RULES[op.kind](op)
