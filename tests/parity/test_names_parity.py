"""Every operator and every layer that the project promises exists under PyTorch's name, as function and as method, with its parameters."""

from __future__ import annotations

import inspect
import re

import pytest

import tinygrad_ja as tg

torch = pytest.importorskip("torch")

NOT_YET = set(
    """
    AdaptiveAvgPool1d AdaptiveAvgPool2d AdaptiveAvgPool3d AdaptiveMaxPool1d AdaptiveMaxPool2d AdaptiveMaxPool3d
    AvgPool1d AvgPool2d AvgPool3d ChannelShuffle CircularPad1d CircularPad2d CircularPad3d ConstantPad1d ConstantPad2d
    ConstantPad3d LPPool1d LPPool2d LPPool3d MaxPool1d MaxPool2d MaxPool3d MaxUnpool1d MaxUnpool2d MaxUnpool3d
    PixelShuffle PixelUnshuffle ReflectionPad1d ReflectionPad2d ReflectionPad3d ReplicationPad1d ReplicationPad2d
    ReplicationPad3d Upsample UpsamplingBilinear2d UpsamplingNearest2d ZeroPad1d ZeroPad2d ZeroPad3d
    """.split()
)
"""Names that are still to be written."""

NAMES = {
    "creation and conversion": """
        zeros_like ones_like full_like new_zeros new_ones new_full full zeros ones eye linspace logspace arange clone
        contiguous fill float double half int long short bool byte char to
    """,
    "random": """
        bernoulli multinomial normal rand_like randint randint_like randn randn_like nn.functional.dropout
        nn.functional.dropout2d nn.functional.dropout3d nn.functional.alpha_dropout nn.functional.feature_alpha_dropout
        nn.functional.rrelu
    """,
    "arithmetic": """
        add sub mul div true_divide floor_divide remainder fmod pow float_power neg abs sign sgn reciprocal square sqrt
        rsqrt rsub __radd__ __rsub__ __rmul__ __rdiv__ __rpow__ __rmod__ __rmatmul__ clamp clamp_min clamp_max maximum
        minimum fmax fmin lerp addcdiv addcmul ceil floor round trunc frac copysign hypot heaviside nan_to_num ldexp
        positive
    """,
    "exponential, trigonometric, special": """
        exp exp2 expm1 log log2 log10 log1p logaddexp logaddexp2 xlogy logit sigmoid sin cos tan asin acos atan atan2 sinh
        cosh tanh asinh acosh atanh sinc erf erfc erfinv lgamma digamma polygamma deg2rad rad2deg i0
    """,
    "comparison and logic": """
        eq ne lt le gt ge equal allclose isclose isnan isinf isfinite isposinf isneginf logical_and logical_or logical_not
        logical_xor bitwise_and bitwise_or bitwise_xor bitwise_not isin where signbit
    """,
    "reduction and scan": """
        sum mean var std var_mean std_mean prod amax amin aminmax max min argmax argmin all any norm logsumexp nansum
        nanmean median nanmedian quantile nanquantile count_nonzero cumsum cumprod cummax cummin logcumsumexp sort argsort
        msort topk kthvalue mode searchsorted bucketize unique unique_consecutive bincount histc diff trapezoid cov corrcoef
    """,
    "shape and view": """
        reshape view flatten unflatten squeeze unsqueeze transpose t T mT permute movedim broadcast_to expand expand_as
        broadcast_tensors broadcast_shapes flip fliplr flipud roll rot90 repeat repeat_interleave tile diagonal diag
        diag_embed diagflat tril triu tril_indices triu_indices as_strided unfold ravel atleast_1d atleast_2d atleast_3d
        sum_to_size reshape_as view_as
    """,
    "joining and splitting": """
        cat stack hstack vstack dstack column_stack split split_with_sizes chunk tensor_split hsplit vsplit dsplit unbind
        narrow select meshgrid cartesian_prod combinations block_diag nn.functional.pad constant_pad_nd
    """,
    "indexing": """
        __getitem__ gather scatter scatter_add scatter_reduce index_select index_add index_copy index_fill index_put
        masked_fill masked_scatter masked_select take take_along_dim put nonzero argwhere nn.functional.one_hot
        nn.functional.embedding nn.functional.embedding_bag select_scatter slice_scatter diagonal_scatter
    """,
    "linear algebra": """
        matmul mm bmm mv dot vdot inner outer addmm addmv addbmm baddbmm addr einsum tensordot kron cross linalg.cross trace
        linalg.multi_dot linalg.inv linalg.det linalg.slogdet logdet linalg.cholesky linalg.solve linalg.solve_triangular
        linalg.norm linalg.vector_norm linalg.matrix_norm linalg.matrix_power linalg.vecdot linalg.diagonal linalg.qr
        linalg.eigh linalg.svd linalg.pinv cdist nn.functional.linear nn.functional.bilinear nn.functional.cosine_similarity
        nn.functional.pairwise_distance nn.functional.pdist nn.functional.normalize renorm
    """,
    "activation": """
        nn.functional.relu nn.functional.relu6 nn.functional.leaky_relu nn.functional.prelu nn.functional.elu
        nn.functional.selu nn.functional.celu nn.functional.gelu nn.functional.silu nn.functional.mish
        nn.functional.softplus nn.functional.softsign nn.functional.softshrink nn.functional.hardshrink
        nn.functional.tanhshrink nn.functional.hardtanh nn.functional.hardsigmoid nn.functional.hardswish
        nn.functional.logsigmoid nn.functional.threshold nn.functional.glu softmax log_softmax nn.functional.softmin
    """,
    "convolution, pooling, resampling": """
        nn.functional.conv1d nn.functional.conv2d nn.functional.conv3d nn.functional.conv_transpose1d
        nn.functional.conv_transpose2d nn.functional.conv_transpose3d nn.functional.unfold nn.functional.max_pool1d
        nn.functional.max_pool2d nn.functional.max_pool3d nn.functional.avg_pool1d nn.functional.avg_pool2d
        nn.functional.avg_pool3d nn.functional.adaptive_avg_pool1d nn.functional.adaptive_avg_pool2d
        nn.functional.adaptive_avg_pool3d nn.functional.adaptive_max_pool1d nn.functional.adaptive_max_pool2d
        nn.functional.adaptive_max_pool3d nn.functional.max_unpool1d nn.functional.max_unpool2d nn.functional.max_unpool3d
        nn.functional.interpolate nn.functional.upsample_nearest nn.functional.upsample_bilinear nn.functional.grid_sample
        nn.functional.pixel_shuffle nn.functional.pixel_unshuffle nn.functional.channel_shuffle
    """,
    "normalization": """
        nn.functional.batch_norm nn.functional.layer_norm nn.functional.instance_norm nn.functional.group_norm
        nn.functional.rms_norm nn.functional.local_response_norm
    """,
    "attention": """
        nn.functional.scaled_dot_product_attention nn.functional.multi_head_attention_forward
    """,
    "loss": """
        nn.functional.mse_loss nn.functional.l1_loss nn.functional.smooth_l1_loss nn.functional.huber_loss
        nn.functional.cross_entropy nn.functional.nll_loss nn.functional.binary_cross_entropy
        nn.functional.binary_cross_entropy_with_logits nn.functional.kl_div nn.functional.gaussian_nll_loss
        nn.functional.poisson_nll_loss nn.functional.hinge_embedding_loss nn.functional.margin_ranking_loss
        nn.functional.cosine_embedding_loss nn.functional.triplet_margin_loss nn.functional.soft_margin_loss
        nn.functional.multi_margin_loss nn.functional.multilabel_margin_loss nn.functional.multilabel_soft_margin_loss
        nn.functional.ctc_loss dist
    """,
}

LAYERS = """
    AdaptiveAvgPool1d AdaptiveAvgPool2d AdaptiveAvgPool3d AdaptiveMaxPool1d AdaptiveMaxPool2d AdaptiveMaxPool3d AlphaDropout
    AvgPool1d AvgPool2d AvgPool3d BCELoss BCEWithLogitsLoss BatchNorm1d BatchNorm2d BatchNorm3d Bilinear CELU CTCLoss
    ChannelShuffle CircularPad1d CircularPad2d CircularPad3d ConstantPad1d ConstantPad2d ConstantPad3d Conv1d Conv2d Conv3d
    ConvTranspose1d ConvTranspose2d ConvTranspose3d CosineEmbeddingLoss CosineSimilarity CrossEntropyLoss Dropout Dropout2d
    Dropout3d ELU Embedding EmbeddingBag Flatten Fold GELU GLU GRU GRUCell GaussianNLLLoss GroupNorm Hardshrink Hardswish
    Hardtanh HingeEmbeddingLoss HuberLoss Identity InstanceNorm1d InstanceNorm2d InstanceNorm3d KLDivLoss L1Loss LPPool1d
    LPPool2d LPPool3d LSTM LSTMCell LayerNorm LazyBatchNorm2d LazyConv1d LazyConv2d LazyLinear LeakyReLU Linear
    LocalResponseNorm LogSigmoid LogSoftmax MSELoss MarginRankingLoss MaxPool1d MaxPool2d MaxPool3d MaxUnpool1d MaxUnpool2d
    MaxUnpool3d Mish Module ModuleDict ModuleList MultiLabelMarginLoss MultiLabelSoftMarginLoss MultiMarginLoss
    MultiheadAttention NLLLoss PReLU PairwiseDistance Parameter ParameterList PixelShuffle PixelUnshuffle PoissonNLLLoss
    RMSNorm RNN RNNCell RReLU ReLU ReLU6 ReflectionPad1d ReflectionPad2d ReflectionPad3d ReplicationPad1d ReplicationPad2d
    ReplicationPad3d SELU Sequential SiLU Sigmoid SmoothL1Loss SoftMarginLoss Softmax Softmax2d Softmin Softplus Softshrink
    Softsign Tanh Tanhshrink Threshold Transformer TransformerDecoder TransformerDecoderLayer TransformerEncoder
    TransformerEncoderLayer TripletMarginLoss Unflatten Unfold Upsample UpsamplingBilinear2d UpsamplingNearest2d ZeroPad1d
    ZeroPad2d ZeroPad3d
"""

OPERATORS = [name for names in NAMES.values() for name in names.split()]
LAYER_NAMES = LAYERS.split()
FUNCTIONS = [name for name in OPERATORS if "." in name or hasattr(torch, name)]
METHODS = [name for name in OPERATORS if "." not in name and hasattr(torch.Tensor, name)]

NOT_OURS = set(
    "out out_dtype driver layout pin_memory memory_format names _stacklevel size_average reduce min_value max_value".split()
)
"""Parameters of PyTorch that have no meaning here (where to write, sparse layouts, named axes, choices for CUDA) or were given up long ago."""

OTHERWISE = {
    "isin": "numbers are taken under the names of the tensors",
    "tensor_split": "one parameter for both forms, as PyTorch documents it",
    "hsplit": "one parameter for both forms, as PyTorch documents it",
    "vsplit": "one parameter for both forms, as PyTorch documents it",
    "dsplit": "one parameter for both forms, as PyTorch documents it",
    "nn.functional.multi_head_attention_forward": "may take the batch first",
    "nonzero": "as_tuple is in PyTorch's Python only, which publishes no signature",
    "normal": "the form of two numbers and a size is here too",
}
"""Functions whose parameters differ from PyTorch's, and why."""


def _found(root, path):
    for part in path.split("."):
        root = getattr(root, part, None)
    return root


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name not in NOT_YET])
def test_functions_exist(name):
    assert _found(torch, name) is not None, "PyTorch has no such function"
    assert _found(tg, name) is not None


@pytest.mark.parametrize("name", [name for name in METHODS if name not in NOT_YET])
def test_methods_exist(name):
    assert hasattr(tg.Tensor, name)


def test_every_name_is_a_function_or_a_method():
    assert [name for name in OPERATORS if name not in FUNCTIONS and name not in METHODS] == []


@pytest.mark.parametrize("name", [name for name in LAYER_NAMES if name not in NOT_YET])
def test_layers_take_what_pytorchs_take(name):
    ours, theirs = [inspect.signature(getattr(m.nn, name).__init__).parameters for m in (tg, torch)]
    if not any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in (*ours.values(), *theirs.values())):
        wanted = [p for p in theirs if p not in NOT_OURS]
        assert [p for p in ours if p in wanted] == wanted


# ---- parameters of functions ---------------------------------------------------------------------


_MATRIX = ("A", "x")
"""The documented name of the first parameter in ``linalg``, where the schemas have ``self``."""


def _published(name):
    """``(positional, keywords)`` of each form of PyTorch's function: of its Python text, else of its schemas, else of its documentation."""
    function = _found(torch, name + "_with_indices") or _found(torch, name)  # the form that max_pool dispatches to
    if inspect.isfunction(function):
        parameters = inspect.signature(function).parameters.values()
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            rest = [p for p in parameters if p.kind is not p.VAR_POSITIONAL]
            return [_form([p.name for p in rest], [p.name for p in rest if p.kind is p.KEYWORD_ONLY])] if rest else []
    forms = _schemas(name.replace("linalg.", "linalg_").rpartition(".")[2])
    if not forms:
        text = re.search(r"\(.*?,? ?(.*)\) ->", "(," + (function.__doc__ or "").strip().partition("\n")[0].partition("(")[2])
        names, _, keywords = text[1].partition("*") if text else ("", "", "")
        every = [re.findall(r"^\s*(\w+)", part) for part in f"{names},{keywords}".split(",")]
        later = [found for part in keywords.split(",") for found in re.findall(r"^\s*(\w+)", part)]
        forms = [_form([found[0] for found in every if found], later)] if text else []
    return forms


def _schemas(name):
    made = []
    for schema in torch._C._jit_get_schemas_for_operator("aten::" + name):
        arguments = [a for a in schema.arguments if not a.is_out]
        if arguments and "Tensor" in str(arguments[0].type):
            names = ["input" if a.name == "self" else a.name for a in arguments]
            if name.startswith("linalg_") and names[0] in _MATRIX:
                names[0] = "input"
            if not {"a", "reverse"} & set(names):  # of lists, in TorchScript
                made.append(_form(names, [n for n, a in zip(names, arguments) if a.kwarg_only]))
    return made


def _form(names, keywords):
    return [n for n in names if n not in NOT_OURS and n not in keywords], [n for n in keywords if n not in NOT_OURS]


def _accepted(name):
    """``(parameter names of ours, whether it takes any keyword, any number of arguments)``."""
    parameters = inspect.signature(_found(tg, name)).parameters.values()
    names = [p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if name.startswith("linalg.") and names[0] in _MATRIX:
        names[0] = "input"
    return names, any(p.kind is p.VAR_KEYWORD for p in parameters), any(p.kind is p.VAR_POSITIONAL for p in parameters)


CALLABLE = [name for name in FUNCTIONS if callable(_found(tg, name)) and callable(_found(torch, name))]


@pytest.mark.parametrize("name", [name for name in CALLABLE if name not in NOT_YET and name not in OTHERWISE])
def test_parameters_have_pytorchs_names_and_order(name):
    forms = _published(name)
    if not forms:
        return
    ours, any_keyword, any_number = _accepted(name)
    known = {p for form in forms for part in form for p in part}
    assert not set(ours) - known - NOT_OURS - {"dtype", "device", "requires_grad", "generator"}, (
        "names that PyTorch does not have"
    )
    if not any_keyword and not any_number:
        assert not known - set(ours), "names that ours lack"
    longest = max([positional for positional, _ in forms], key=len)
    assert [p for p in ours if p in longest] == [p for p in longest if p in ours], "another order"
