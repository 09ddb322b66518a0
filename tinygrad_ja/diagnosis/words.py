"""What a diagnosis says, in English and Japanese."""

from __future__ import annotations

from typing import Any

from ..errors import language

Words = tuple[str, str]
"""(English, Japanese)."""

KINDS: dict[str, Words] = {
    "shape": ("shape", "形状"),
    "transpose": ("transposed", "転置"),
    "sign": ("sign", "符号"),
    "time": ("time term dropped", "時間方向の項の欠落"),
    "activation": ("derivative of the activation", "活性化関数の微分"),
    "scale": ("mean for sum, or a scale", "平均と和、または倍率"),
    "state": ("value of the wrong time step", "別の時刻の値"),
    "swap": ("exchanged", "入れ替わり"),
    "factor": ("factor missing or wrong", "因子の欠落や誤り"),
    "term": ("term dropped", "項の欠落"),
    "twice": ("counted twice", "二重の加算"),
}
"""The kinds of fault, and how they are called."""

_TEXTS: dict[str, Words] = {
    # the whole gradient of one input
    "unsummed": (
        "the gradient of '{name}' has the shape {actual} and is not summed over axis {axes}; summed it would be right",
        "'{name}' の勾配の形状が {actual} で、軸 {axes} について和を取っていません。和を取れば正しくなります",
    ),
    "averaged": (
        "the gradient of '{name}' is summed over an axis that it has: its shape is {actual}, the input's {expected}",
        "'{name}' の勾配で、入力にある軸まで和を取っています (形状 {actual}、入力は {expected})",
    ),
    "shape": (
        "the gradient of '{name}' has the shape {actual}, but the input has {expected}",
        "'{name}' の勾配の形状が {actual} ですが、入力の形状は {expected} です",
    ),
    "whole_transposed": ("the gradient of '{name}' is transposed", "'{name}' の勾配が転置されています"),
    "whole_negative": ("the gradient of '{name}' has the wrong sign", "'{name}' の勾配の符号が逆です"),
    "whole_zero": (
        "the gradient of '{name}' is zero: nothing is added to it",
        "'{name}' の勾配が 0 です。何も足されていません",
    ),
    "whole_scaled": (
        "the gradient of '{name}' is {factor} times the right one{meaning}",
        "'{name}' の勾配が {factor} 倍になっています{meaning}",
    ),
    "whole_reversed": (
        "the gradient of '{name}' is in reverse order along axis {axis}",
        "'{name}' の勾配が軸 {axis} に沿って逆順です",
    ),
    "whole_swapped": (
        "the gradients of '{name}' and '{other}' are exchanged",
        "'{name}' と '{other}' の勾配が入れ替わっています",
    ),
    "whole_factor": (
        "the gradient of '{name}' lacks the factor {op}, made here: {line}",
        "'{name}' の勾配に因子 {op} が抜けています。この値はここで作られます: {line}",
    ),
    "whole_inverse": (
        "the gradient of '{name}' lacks a division by {op}, made here: {line}",
        "'{name}' の勾配に {op} での割り算が抜けています。この値はここで作られます: {line}",
    ),
    "blocks": (
        "the {count} blocks of the gradient of '{name}' along axis 0 are in another order: {order}",
        "'{name}' の勾配の軸 0 の {count} 個のブロックの順序が違います: {order}",
    ),
    "all_scaled": (
        "all gradients are {factor} times the right ones{meaning}",
        "すべての勾配が {factor} 倍になっています{meaning}",
    ),
    "all_negative": ("all gradients have the wrong sign", "すべての勾配の符号が逆です"),
    # time
    "carried": (
        "what comes from the next time step is not added where this reads the step before: {line}",
        "1 つ前の時刻の値を読むこの行で、次の時刻から戻ってくる勾配を足していません: {line}",
    ),
    "state_cut": (
        "the gradient of the state made here does not come back from the next time step: {line}",
        "ここで作る状態の勾配が、次の時刻から戻ってきていません: {line}",
    ),
    "all_cut": (
        "nothing comes back from the next time step: each step sees the gradient of its own output only",
        "次の時刻から何も戻ってきていません。各時刻が自分の出力の勾配だけを使っています",
    ),
    "only_step": (
        "the gradient of '{name}' holds the part of the {which} time step only (= for +=?)",
        "'{name}' の勾配に、{which}の時刻の分しか入っていません (+= が = になっていませんか)",
    ),
    "only_last_output": ("only the last output's gradient is used: {line}", "最後の出力の勾配しか使っていません: {line}"),
    "only_first_output": ("only the first output's gradient is used: {line}", "最初の出力の勾配しか使っていません: {line}"),
    "mean_over_time": (
        "the gradient of '{name}' is the mean over {n} time steps, not the sum",
        "'{name}' の勾配が、{n} 個の時刻の和でなく平均になっています",
    ),
    "state_after": (
        "the derivative of {op} takes a value of one time step later than the forward used: {line}",
        "{op} の微分に、順伝播で使ったものより 1 つ後の時刻の値を使っています: {line}",
    ),
    "state_before": (
        "the derivative of {op} takes a value of one time step earlier than the forward used: {line}",
        "{op} の微分に、順伝播で使ったものより 1 つ前の時刻の値を使っています: {line}",
    ),
    # a term
    "dropped": (
        "the gradient by '{input}' of {op} is missing: {line}",
        "{op} の '{input}' による勾配が抜けています: {line}",
    ),
    "twice": (
        "the gradient by '{input}' of {op} is counted twice: {line}",
        "{op} の '{input}' による勾配を 2 回足しています: {line}",
    ),
    "sign": (
        "the gradient by '{input}' of {op} has the wrong sign: {line}",
        "{op} の '{input}' による勾配の符号が逆です: {line}",
    ),
    # an activation
    "activation_missing": (
        "φ' of {op} is missing (times {formula}): {line}",
        "{op} の φ' (因子 {formula}) が抜けています: {line}",
    ),
    "activation_wrong": (
        "φ' of {op} is {written}, but should be {formula}: {line}",
        "{op} の φ' が {written} になっています。正しくは {formula} です: {line}",
    ),
    "softmax_missing": ("the derivative of softmax is missing: {line}", "softmax の微分が抜けています: {line}"),
    "softmax_sum": (
        "the second term of softmax is missing: dx = y ∘ (dy - Σ y ∘ dy): {line}",
        "softmax の第 2 項が抜けています。dx = y ∘ (dy - Σ y ∘ dy) です: {line}",
    ),
    "softmax_diagonal": (
        "softmax is derived as if each output depended on its own input only (y (1 - y)): {line}",
        "softmax を、各出力が自分の入力だけで決まるかのように微分しています (y (1 - y)): {line}",
    ),
    "softmax_factor": (
        "the factor y of softmax is missing: dx = y ∘ (dy - Σ y ∘ dy): {line}",
        "softmax の因子 y が抜けています。dx = y ∘ (dy - Σ y ∘ dy) です: {line}",
    ),
    "softmax_axis": (
        "the sum in the derivative of softmax runs along axis {axis}, not along that of the softmax: {line}",
        "softmax の微分の和を、softmax の軸でなく軸 {axis} で取っています: {line}",
    ),
    "log_softmax_left": (
        "the one-hot part is missing: dx = y - onehot(t): {line}",
        "one-hot の項が抜けています。dx = y - onehot(t) です: {line}",
    ),
    "log_softmax_sign": (
        "the one-hot part has the wrong sign: dx = y - onehot(t): {line}",
        "one-hot の項の符号が逆です。dx = y - onehot(t) です: {line}",
    ),
    # sums and scales
    "mean_for_sum": (
        "a mean over {n} stands where the sum belongs ({op}): {line}",
        "和を取るところで {n} 個の平均を取っています ({op}): {line}",
    ),
    "mean_left_out": (
        "the mean's division by {n} is missing ({op}): {line}",
        "平均の {n} での割り算が抜けています ({op}): {line}",
    ),
    "scale_missing": ("a division by a constant is missing: {line}", "定数での割り算が抜けています: {line}"),
    "inverse": (
        "it is multiplied where the forward's division asks for a division: {line}",
        "割り算の微分なのに掛けています: {line}",
    ),
    # a factor
    "factor_missing": ("the other factor of {op} is missing: {line}", "{op} のもう一方の因子が抜けています: {line}"),
    "factor_own": (
        "the derivative of a product takes the factor itself, not the other one: {line}",
        "積の微分に、もう一方の因子でなく、その因子自身を使っています: {line}",
    ),
    "square_half": ("the 2 in the derivative of a square is missing: {line}", "2 乗の微分の 2 が抜けています: {line}"),
    "parts_exchanged": (
        "the gradients of the parts cut from one array go to each other's places (order {order}): {line}",
        "1 つの配列から切り出した部分の勾配が、互いの場所に入っています (順序 {order}): {line}",
    ),
    "other_matrix": (
        "the derivative of {op} goes through another matrix, '{name}': {line}",
        "{op} の微分に、別の行列 '{name}' を使っています: {line}",
    ),
    "other_gate": (
        "φ' of {op} is taken at another value, that of {at}: {line}",
        "{op} の φ' に、別の値 ({at} の値) を入れています: {line}",
    ),
    "other_count": (
        "it is divided by {n}, where the forward divides by {right}: {line}",
        "順伝播では {right} で割るところを {n} で割っています: {line}",
    ),
    "late_factor": (
        "the other factor is multiplied after the matrix product and not before it: {line}",
        "もう一方の因子を、行列積の前でなく後に掛けています: {line}",
    ),
    "log_softmax_factor": (
        "the factor y of softmax is missing: dx = g - y Σ g: {line}",
        "softmax の因子 y が抜けています。dx = g - y Σ g です: {line}",
    ),
    "other_factor": (
        "the derivative of this product takes another value, that of {used} in {at}: {line}",
        "この積の微分に別の値 ({at} の {used} の値) を使っています: {line}",
    ),
    "power_missing": (
        "the divisor in the derivative by the divisor is not squared: {line}",
        "分母による微分で、分母が 2 乗になっていません: {line}",
    ),
    "exponent_missing": ("the exponent is missing as a factor: {line}", "べきの指数が因子に抜けています: {line}"),
    "transpose_other": (
        "the other matrix of the product is not transposed: {line}",
        "行列積の相手の行列を転置していません: {line}",
    ),
    "kernel_turned": (
        "the kernel is the wrong way round in {op}, turned by 180°: {line}",
        "{op} のカーネルの向きが逆 (180° 回転した状態) です: {line}",
    ),
    "repeated_index": (
        "of an index that occurs several times only the last gradient counts in {op} (d[i] += g does that; np.add.at adds all): {line}",
        "{op} で、同じ番号が何度も出ると、最後の勾配しか入りません (d[i] += g ではそうなります。np.add.at ならすべて足します): {line}",
    ),
    "transpose_gradient": (
        "the gradient in the derivative of the product is transposed: {line}",
        "行列積の微分で、勾配のほうを転置しています: {line}",
    ),
    # the report
    "right": ("right: all {n} gradients agree with the tape's", "正しい: {n} 個の勾配がすべてテープのものと一致します"),
    "wrong": ("{wrong} of {n} gradients differ from the tape's", "{n} 個のうち {wrong} 個の勾配がテープのものと違います"),
    "columns": ("input|shape|relative error|verdict", "入力|形状|相対誤差|判定"),
    "ok": ("right", "正しい"),
    "not_ok": ("WRONG", "誤り"),
    "explains": ("explains {names} exactly", "{names} の違いがちょうど説明できます"),
    "next": ("the next nearest:", "その次に近いもの:"),
    "also": ("other faults would give the same numbers:", "同じ数値になる誤りはほかにもあります:"),
    "unknown": (
        "no fault that is known gives these numbers, nor any near them",
        "この数値を与える誤りも、それに近い誤りも見つかりません",
    ),
    "closest": (
        "no single fault gives these numbers. The nearest (cosine similarity {similarity:.3f}):",
        "この数値をちょうど与える誤りは見つかりません。最も近いもの (コサイン類似度 {similarity:.3f}):",
    ),
    "forward": (
        "the forward already differs (relative error {value:.2g}): mend it first, the gradients belong to another function",
        "順伝播の値がすでに違います (相対誤差 {value:.2g})。先に直してください。勾配は別の関数のものになっています",
    ),
}


def words(key: str, **fields: Any) -> Words:
    """The text of ``key`` in both languages, its fields filled in; a field may be a pair too."""
    english, japanese = (
        {
            name: value[i] if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str) else value
            for name, value in fields.items()
        }
        for i in (0, 1)
    )
    return _TEXTS[key][0].format(**english), _TEXTS[key][1].format(**japanese)


def say(text: Words) -> str:
    """The text in the current language."""
    return text[language() == "ja"]
