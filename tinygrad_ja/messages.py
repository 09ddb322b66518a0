"""The catalogue itself: code -> (English, Japanese). See ``errors.py`` for how it is used and ``docs/errors.md`` for the list.

The letter names the class of the error: S shape, T type and dtype, D device, I axis and index, G tape, A argument, F file and state,
R registration of an operator, U use of a Tensor, W workers. C, configuration, is what the doctor prints; it is no error.
"""

MESSAGES: dict[str, tuple[str, str]] = {
    # --- shapes
    "TG-S001": (
        "{op}: the shapes {shapes} do not broadcast together. Rule: aligned from the right, each pair of sizes must be equal or one "
        "of them 1. Fix: reshape, unsqueeze or transpose one of them, for instance with x.unsqueeze(-1).",
        "{op}: 形状 {shapes} はブロードキャストできません。規則: 右端をそろえたとき、各軸の大きさは等しいか、どちらかが "
        "1 でなければなりません。直し方: x.unsqueeze(-1) などで一方の形状を合わせてください。",
    ),
    "TG-S002": (
        "{op}: the shapes do not fit the rule {rule}. Given: {shapes}. Fix: {fix}",
        "{op}: 形状が合いません。規則: {rule}。渡された形状: {shapes}。直し方: {fix}",
    ),
    "TG-S003": (
        "{op}: the gradient for input '{input}' has shape {actual}, but the input has shape {expected}. This operator does not "
        "broadcast, so its derivative must return exactly that shape. Fix: mend the rule for '{input}' in its definition.",
        "{op}: 入力 '{input}' の勾配の形状が {actual} ですが、入力の形状は {expected} です。この演算はブロードキャストしないので、"
        "微分の式は同じ形状を返さなければなりません。直し方: 定義中の '{input}' の式を直してください。",
    ),
    "TG-S004": (
        "backward: the gradient has shape {actual}, but the tensor has shape {expected}. Fix: pass a gradient of shape {expected}.",
        "backward: 勾配の形状 {actual} がテンソルの形状 {expected} と違います。直し方: 形状 {expected} の勾配を渡してください。",
    ),
    "TG-S005": (
        "cannot assign a value of shape {actual} to a part of shape {expected} (tensor shape {shape}). Fix: give a value that "
        "broadcasts to {expected}.",
        "形状 {expected} の部分 (テンソルの形状 {shape}) に形状 {actual} の値は代入できません。直し方: {expected} に"
        "ブロードキャストできる値を渡してください。",
    ),
    # --- types and dtypes
    "TG-T001": (
        "{op}: the dtypes {dtypes} differ. Rule: this operator takes inputs of one dtype. Fix: convert one, for instance with "
        "x.to({fix}).",
        "{op}: dtype {dtypes} がそろっていません。規則: この演算の入力は同じ dtype でなければなりません。直し方: x.to({fix}) などで"
        "そろえてください。",
    ),
    "TG-T002": (
        "{op}: argument '{argument}' is of type {type}, but a Tensor (or an array or a number) is needed. Fix: tg.tensor({argument}).",
        "{op}: 引数 '{argument}' の型は {type} ですが、Tensor (または配列か数) が必要です。直し方: tg.tensor({argument}) としてください。",
    ),
    "TG-T003": (
        "only floating-point tensors can require gradients, but this one has dtype {dtype}. Fix: x.to(tg.float32) first.",
        "勾配を求められるのは浮動小数点のテンソルだけですが、これは dtype {dtype} です。直し方: 先に x.to(tg.float32) としてください。",
    ),
    "TG-T004": (
        "{op}: dtype {dtype} is not supported; {allowed} is needed. Fix: convert with x.to({fix}).",
        "{op}: dtype {dtype} は扱えません。{allowed} が必要です。直し方: x.to({fix}) で変換してください。",
    ),
    "TG-T005": (
        "{op} failed for inputs {inputs}: {reason}. Fix: check the arguments against help(tg.{op}).",
        "{op} は入力 {inputs} で失敗しました: {reason}。直し方: help(tg.{op}) で引数を確かめてください。",
    ),
    "TG-T006": (
        "the result has dtype {actual} and cannot be written in place into a tensor of dtype {expected}. Fix: use the operator that "
        "returns a new tensor, or convert with .to().",
        "結果の dtype は {actual} なので、dtype {expected} のテンソルに上書きできません。直し方: 新しいテンソルを返す演算を使うか、"
        ".to() で変換してください。",
    ),
    "TG-T007": (
        "{op}: a submodule is of type {type}, but a Module is needed (an object, not its class, and not a list). Fix: pass the modules "
        "themselves, for instance nn.Sequential(*layers).",
        "{op}: サブモジュールの型が {type} ですが、Module のオブジェクトが必要です (クラスやリストは渡せません)。直し方: "
        "nn.Sequential(*layers) のようにモジュール自体を渡してください。",
    ),
    # --- devices
    "TG-D001": (
        "{op}: the inputs are on different devices: {devices}. Fix: move one of them, for instance with x.to('{fix}').",
        "{op}: 入力が別々のデバイスにあります: {devices}。直し方: x.to('{fix}') などで一方を移してください。",
    ),
    "TG-D002": (
        "device '{device}' cannot be used: CuPy is not installed. Fix: pip install 'cupy-cuda13x[ctk]>=14.2,<15' 'cuda-toolkit==13.2.*' "
        "(CUDA 13), or pip install 'cupy-cuda12x[ctk]>=14.2,<15' (CUDA 12).",
        "デバイス '{device}' は使えません: CuPy が入っていません。直し方: pip install 'cupy-cuda13x[ctk]>=14.2,<15' 'cuda-toolkit==13.2.*' "
        "(CUDA 13)、または pip install 'cupy-cuda12x[ctk]>=14.2,<15' (CUDA 12)。",
    ),
    "TG-D003": (
        "device '{device}' cannot be used: {reason}. Fix: install the NVIDIA driver (R580 or newer for CUDA 13, R525 for CUDA 12), "
        "then run: python -m tinygrad_ja doctor",
        "デバイス '{device}' は使えません: {reason}。直し方: NVIDIA のドライバ (CUDA 13 は R580 以降、CUDA 12 は R525 以降) を入れてから "
        "python -m tinygrad_ja doctor を実行してください。",
    ),
    "TG-D004": (
        "device '{device}' cannot be used: the driver answers, but there is no CUDA device{reason}. Fix: check nvidia-smi and "
        "CUDA_VISIBLE_DEVICES.",
        "デバイス '{device}' は使えません: ドライバは動いていますが CUDA デバイスがありません{reason}。直し方: nvidia-smi と "
        "CUDA_VISIBLE_DEVICES を確かめてください。",
    ),
    "TG-D005": (
        "'{device}' is not the name of a device. Fix: use 'cpu', 'cuda' or 'cuda:1'.",
        "'{device}' というデバイスはありません。直し方: 'cpu'、'cuda'、'cuda:1' のどれかにしてください。",
    ),
    "TG-D006": (
        "a Tensor on {device} cannot become a NumPy array implicitly. Fix: x.cpu().numpy().",
        "{device} にある Tensor は暗黙には NumPy 配列になりません。直し方: x.cpu().numpy() としてください。",
    ),
    "TG-D007": (
        "a generator for {actual} cannot be used for a tensor on {expected}. Fix: tg.Generator('{expected}').",
        "{actual} の乱数生成器は {expected} のテンソルには使えません。直し方: tg.Generator('{expected}') を使ってください。",
    ),
    "TG-D008": (
        "the memory does not suffice: {reason}. Fix: choose smaller sizes, such as a smaller batch.",
        "メモリが足りません: {reason}。直し方: バッチなどのサイズを小さくしてください。",
    ),
    # --- axes and indices
    "TG-I001": (
        "{op}: dim {dim} is out of range for shape {shape}. Rule: -{ndim} <= dim < {ndim}. Fix: choose one of these dims.",
        "{op}: dim {dim} は形状 {shape} の範囲外です。規則: -{ndim} <= dim < {ndim}。直し方: この範囲の dim を選んでください。",
    ),
    "TG-I002": (
        "{op}: index {index} is out of range for an axis of size {size} (shape {shape}). Fix: use an index from {first} to {last}.",
        "{op}: 添字 {index} は大きさ {size} の軸の範囲外です (形状 {shape})。直し方: {first} から {last} の添字を使ってください。",
    ),
    "TG-I003": (
        "{op}: too many or invalid indices for shape {shape}: {reason}. Fix: use at most {ndim} indices of type int, slice, None, "
        "..., or an integer or bool Tensor.",
        "{op}: 形状 {shape} に対する添字が多すぎるか正しくありません: {reason}。直し方: 添字は {ndim} 個以内で、int、slice、None、...、"
        "整数または bool の Tensor にしてください。",
    ),
    # --- tape
    "TG-G001": (
        "backward needs a scalar, but this tensor has shape {shape}. Fix: call .sum() or .mean() first, or pass gradient=.",
        "backward はスカラーに対して呼びますが、このテンソルの形状は {shape} です。直し方: 先に .sum() や .mean() を呼ぶか、"
        "gradient= を渡してください。",
    ),
    "TG-G002": (
        "backward through '{op}' a second time: its saved arrays are freed by the first backward. Fix: pass retain_graph=True to the "
        "first backward; if the tensor is a recurrent state carried over from an earlier step, cut it with state.detach().",
        "'{op}' をもう一度逆伝播しようとしましたが、保存した配列は最初の backward で解放されました。直し方: 最初の backward に "
        "retain_graph=True を渡してください。前の時刻から持ち越した再帰の状態なら state.detach() で切ってください。",
    ),
    "TG-G003": (
        "a leaf, or a part or an alias of one, of shape {shape} that '{op}' saved for its derivative (input '{input}') was changed in "
        "place after '{op}' ran, so the gradient would be wrong. Fix: call backward before the change (optimizer.step() after "
        "loss.backward()), or run the forward again.",
        "'{op}' が微分のために保存した葉またはその一部や別名 (入力 '{input}'、形状 {shape}) が、'{op}' の実行後に上書きされました。"
        "このままでは勾配が誤りになります。直し方: 上書きの前に backward を呼ぶ (loss.backward() の後に optimizer.step()) "
        "か、順伝播をやり直してください。",
    ),
    "TG-G004": (
        "a leaf that requires gradients cannot be changed in place while the tape records (shape {shape}). Fix: put the change under "
        "`with tg.no_grad():`, or make a new tensor: y = x + ....",
        "勾配を求める葉 (形状 {shape}) は、記録中に上書きできません。直し方: `with tg.no_grad():` の中で上書きするか、y = x + ... のように"
        "新しいテンソルを作ってください。",
    ),
    "TG-G005": (
        "this tensor does not require gradients and has no history, so there is nothing to differentiate. Fix: make an input with "
        "requires_grad=True, and do not compute the result under no_grad or through detach().",
        "このテンソルは勾配を求める設定でなく履歴もないので、微分するものがありません。直し方: 入力を requires_grad=True で作り、"
        "no_grad の中や detach() を通して計算しないでください。",
    ),
    "TG-G006": (
        "input {index} of grad was not used to compute the outputs. Fix: pass allow_unused=True to get None for it.",
        "grad の入力 {index} は出力の計算に使われていません。直し方: allow_unused=True を渡すと None が返ります。",
    ),
    "TG-G007": (
        "detect_anomaly: the backward of '{op}' gave {what} in the gradient for input '{input}' (shape {shape}; the gradient that came "
        "in was {incoming}; saved: {saved}).\nThe operator was called here:\n{trace}Fix: look at that line; a division by zero, a log "
        "or sqrt of 0, or an overflow is the usual cause.",
        "detect_anomaly: '{op}' の逆伝播で、入力 '{input}' (形状 {shape}) の勾配が {what} になりました (入ってきた勾配: {incoming}、"
        "保存値: {saved})。\nこの演算の呼び出し元:\n{trace}直し方: その行を見てください。"
        "0 での除算、0 の log や sqrt、桁あふれがよくある原因です。",
    ),
    "TG-G008": (
        "detect_anomaly: the forward of '{op}' gave {what} (inputs: {saved}).\nThe operator was called here:\n{trace}Fix: look at that "
        "line and at the inputs.",
        "detect_anomaly: '{op}' の順伝播の結果が {what} になりました (入力: {saved})。\nこの演算の呼び出し元:\n{trace}直し方: その行と"
        "入力を見てください。",
    ),
    "TG-G009": (
        "only a leaf can change requires_grad; this tensor is the result of '{op}'. Fix: use x.detach() to cut it from the tape.",
        "requires_grad を変えられるのは葉だけですが、このテンソルは '{op}' の結果です。直し方: x.detach() で記録から切り離してください。",
    ),
    "TG-G010": (
        "a hook returned a value of shape {actual} and dtype {dtype} for a gradient of shape {expected} and dtype {wanted}. Fix: return "
        "None, or a Tensor of the same shape and dtype.",
        "フックが形状 {actual}、dtype {dtype} の値を返しましたが、勾配は形状 {expected}、dtype {wanted} です。直し方: None か、同じ形状と "
        "dtype の Tensor を返してください。",
    ),
    "TG-G011": (
        "a Tensor that requires gradients cannot become a NumPy array. Fix: x.detach().numpy().",
        "勾配を求める Tensor は NumPy 配列になりません。直し方: x.detach().numpy() としてください。",
    ),
    "TG-G012": (
        "a Tensor made under inference_mode cannot require gradients. Fix: use no_grad instead, or x.clone() outside.",
        "inference_mode の中では requires_grad を設定できません。直し方: no_grad を使うか、外で x.clone() してください。",
    ),
    "TG-G013": (
        "only a leaf can be copied by copy.deepcopy or pickled; this tensor is the result of '{op}' and its history cannot come along. "
        "Fix: x.detach(), or x.clone() to copy it on the tape.",
        "copy.deepcopy や pickle で複製できるのは葉だけです。このテンソルは '{op}' の結果で、履歴は複製できません。直し方: x.detach() と"
        "するか、記録に残したまま複製するなら x.clone() としてください。",
    ),
    # --- arguments
    "TG-A001": (
        "{op}: {argument} = {value} is not allowed. Rule: {rule}. Fix: {fix}",
        "{op}: {argument} = {value} は使えません。規則: {rule}。直し方: {fix}",
    ),
    "TG-A002": (
        "this needs the package '{package}', which is not installed. Fix: pip install '{install}'",
        "これには '{package}' が必要ですが、入っていません。直し方: pip install '{install}'",
    ),
    "TG-A003": (
        "{op}: {reason}. Fix: {fix}",
        "{op}: {reason}。直し方: {fix}",
    ),
    "TG-A004": (
        "{op}: {reason} ({which}shape {shape}). Fix: {fix}",
        "{op}: {reason} ({which}形状 {shape})。直し方: {fix}",
    ),
    "TG-A005": (
        "{scheduler}.step() was called before optimizer.step(): the first learning rate of the schedule is skipped. Fix: call "
        "optimizer.step() first, then scheduler.step().",
        "{scheduler}.step() が optimizer.step() より先に呼ばれました。スケジュールの最初の学習率が使われません。直し方: 先に "
        "optimizer.step()、次に scheduler.step() を呼んでください。",
    ),
    # --- files and state
    "TG-F001": (
        "state_dict does not fit {model}.\nmissing keys: {missing}\nunexpected keys: {unexpected}\nshapes that differ: {shapes}\nNothing "
        "was loaded. Fix: load into the model that saved it, or pass strict=False.",
        "state_dict が {model} に合いません。\n足りないキー: {missing}\n余分なキー: {unexpected}\n形状の違い: {shapes}\n何も読み込んで"
        "いません。直し方: 保存したときと同じモデルに読み込むか、strict=False を渡してください。",
    ),
    "TG-F003": (
        "the state of {what} does not fit: {reason}. Nothing was loaded. Fix: {fix}",
        "{what} の状態が合いません: {reason}。何も読み込んでいません。直し方: {fix}",
    ),
    "TG-F004": (
        "there is no checkpoint {path} to resume from. Fix: start without --resume (resume=True), or name the folder of the run with --out "
        "(folder=).",
        "再開するためのチェックポイント {path} がありません。直し方: --resume (resume=True) なしで始めるか、"
        "--out (folder=) で実行結果のフォルダを指定してください。",
    ),
    "TG-F005": (
        "{path} is not a whole and valid {kind} file: {fault}. Nothing was loaded. Fix: {fix}",
        "{path} は正しい {kind} ファイルではありません: {fault}。何も読み込んでいません。直し方: {fix}",
    ),
    "TG-F006": (
        "the data set '{name}' is not here: {file} is missing in {folder}, and {reason}. Fix: {fix}",
        "データセット '{name}' がありません: {folder} に {file} がなく、{reason}。直し方: {fix}",
    ),
    "TG-F007": (
        "{path} has the SHA-256 checksum {actual}, but {expected} is expected: the file is damaged or another one. It is not used. Fix: "
        "delete it and load again.",
        "{path} の SHA-256 は {actual} ですが、{expected} のはずです。ファイルが壊れているか別物なので、使いません。直し方: ファイルを消して"
        "読み込み直してください。",
    ),
    "TG-F008": (
        "{path}: {what} is {value}, above the limit of {limit}. Nothing was loaded. Fix: use another file, or raise the limit if you trust it.",
        "{path}: {what}が {value} で、上限 {limit} を超えています。何も読み込んでいません。直し方: 別のファイルを使うか、信頼できるファイルなら"
        "上限を上げてください。",
    ),
    "TG-F009": (
        "the checkpoint {path} is passed over, and an older one is used. {reason} Fix: nothing to do; training from here writes it anew.",
        "チェックポイント {path} は使わず、それより前のものを使います。{reason} 直し方: 何もしなくてかまいません。"
        "ここから学習を続ければ書き直されます。",
    ),
    "TG-F011": (
        "{path} uses what cannot be imported: {missing}. Nothing was loaded. Fix: export the model without it, for instance with float32 and "
        "an opset that builds such operators from simpler ones.",
        "{path} には読み込めないものがあります: {missing}。何も読み込んでいません。直し方: これらを使わない形で (float32 で、または単純な演算に"
        "分かれる opset で) 書き出し直してください。",
    ),
    "TG-F012": (
        "{path}: {node} failed: {reason}. Fix: check the inputs against print(model); if they are right, the file is damaged or was written "
        "for other shapes.",
        "{path}: {node} で失敗しました: {reason}。直し方: 入力を print(model) の表示と比べてください。入力が正しければ、"
        "ファイルが壊れているか、別の形状用に書かれています。",
    ),
    "TG-F013": (
        "a file or a folder cannot be used: {reason}. Fix: check its name, its permissions and the free space on the disk.",
        "ファイルまたはフォルダを使えません: {reason}。直し方: 名前、アクセス権、ディスクの空き容量を確かめてください。",
    ),
    "TG-F014": (
        "another run works in the folder {path} (process {process}). Nothing was changed. Fix: wait for its end, or choose another folder with "
        "--out.",
        "フォルダ {path} では別の実行 (プロセス {process}) が動いています。何も変更していません。直し方: その終了を待つか、--out で"
        "別のフォルダを指定してください。",
    ),
    # --- configuration: findings of `python -m tinygrad_ja doctor`, printed and never raised
    "TG-C001": (
        "the processor '{processor}' has AVX-512, but OpenBLAS runs its slower {core_type} kernels, so matrix products take longer than "
        "they need to. Fix: set this before Python starts: export OPENBLAS_CORETYPE={fix}",
        "プロセッサ '{processor}' は AVX-512 を備えていますが、OpenBLAS は遅い {core_type} 用のカーネルで動いているため、行列積に余分な時間が"
        "かかります。直し方: Python を起動する前に export OPENBLAS_CORETYPE={fix} を実行してください。",
    ),
    "TG-C002": (
        "OPENBLAS_CORETYPE={value} is set, but OpenBLAS runs its {core_type} kernels although the processor has AVX-512: this build cannot "
        "choose, or was loaded before. Fix: use the wheel of NumPy: pip install --force-reinstall --only-binary :all: numpy",
        "OPENBLAS_CORETYPE={value} が設定されており、プロセッサにも AVX-512 がありますが、OpenBLAS は {core_type} 用のカーネルで動いています。"
        "この OpenBLAS がカーネルを選べない作りか、設定より先に読み込まれています。直し方: NumPy の wheel を使ってください: "
        "pip install --force-reinstall --only-binary :all: numpy",
    ),
    "TG-C003": (
        "OpenBLAS uses {threads} threads, but this process may use only {processors} processors; they get in each other's way. Fix: set "
        "this before Python starts: export OPENBLAS_NUM_THREADS={processors}",
        "OpenBLAS は {threads} スレッドで動いていますが、このプロセスが使えるプロセッサは {processors} 個なので、互いに待ち合って遅くなります。"
        "直し方: Python を起動する前に export OPENBLAS_NUM_THREADS={processors} を実行してください。",
    ),
    "TG-C004": (
        "NumPy was built without a BLAS library, so matrix products are slow. Fix: install a wheel: "
        "pip install --force-reinstall --only-binary :all: numpy",
        "NumPy が BLAS なしでビルドされているため、行列積が遅くなります。直し方: wheel を入れてください: "
        "pip install --force-reinstall --only-binary :all: numpy",
    ),
    "TG-C005": (
        "several CuPy packages are installed: {packages}. They overwrite each other's files. Fix: pip uninstall -y {packages}, then "
        "pip install '{package}'",
        "CuPy のパッケージが複数入っています: {packages}。互いのファイルを上書きしてしまいます。直し方: pip uninstall -y {packages} の後に "
        "pip install '{package}' を実行してください。",
    ),
    "TG-C006": (
        "OPENBLAS_CORETYPE={value} is set for this process: this AMD processor has AVX-512, which OpenBLAS does not always recognise. Set "
        "the variable yourself to choose otherwise.",
        "このプロセスでは OPENBLAS_CORETYPE={value} を設定しました。この AMD プロセッサには AVX-512 がありますが、OpenBLAS が認識しない場合が"
        "あるためです。別の値にしたいときは、この環境変数を自分で設定してください。",
    ),
    # --- compiled functions
    "TG-P001": (
        "compile: the function changes {what} at each call, and a replay would not do that again. Fix: return the value, and change "
        "{what} outside of the compiled function. (A Tensor that the function stores in an attribute or an item is replayed.)",
        "compile: この関数は呼ぶたびに {what} を変えますが、再生ではその変更は繰り返されません。直し方: 値を戻り値にして、"
        "{what} はコンパイルした関数の外で変えてください (属性や要素に Tensor そのものを代入する処理は再生されます)。",
    ),
    "TG-P002": (
        "compile: a constant of the recorded function differed between two calls: {what}. Replays would go on with the old one. It was used "
        "here:\n{line}Fix: pass it as an argument, as a Tensor; draw random numbers with tg.rand and the like.",
        "compile: 記録した関数の定数が 2 回の呼び出しで違いました: {what}。再生すると古い値のままになります。"
        "使われた場所:\n{line}直し方: Tensor の引数として渡してください。乱数は tg.rand などで作ってください。",
    ),
    "TG-P003": (
        "compile: '{name}' is called as it is from now on for such arguments, so its results are right but it is no faster: {reason}. "
        "Fix: keep that out of the compiled function and of what it can reach (of self, say), and pass what changes from call to call as a "
        "Tensor.",
        "compile: '{name}' は、この形の引数に対しては今後コンパイルせずそのまま呼び出されます (結果は正しいままですが、"
        "速くはなりません): {reason}。直し方: その処理や値をコンパイルした関数と、そこから手の届くもの (self など) の外に出し、"
        "呼び出しごとに変わる値は Tensor の引数として渡してください。",
    ),
    "TG-P004": (
        "compile: '{name}' has no plan yet; {calls} calls have been recorded, and a program is made when two of them agree. Fix: call it with "
        "the same shapes two or three times first.",
        "compile: '{name}' にはまだ計画がありません (記録 {calls} 回)。2 回の記録が一致するとプログラムができます。"
        "直し方: 同じ形状の引数で 2、3 回呼び出してください。",
    ),
    "TG-P005": (
        "compile: a function is expected, not {type}. Fix: tg.compile(step), or @tg.compile above a function.",
        "compile: 関数を渡してください (渡された型: {type})。直し方: tg.compile(step)、または関数の上に @tg.compile と書いてください。",
    ),
    "TG-P006": (
        "compile: there is no backend '{backend}'. Allowed: {allowed}. Fix: leave backend out to get the fastest.",
        "compile: backend '{backend}' はありません。使えるもの: {allowed}。直し方: 指定しなければ最も速いものが選ばれます。",
    ),
    "TG-P007": (
        "compile: backend 'native' cannot be used: {reason}. Fix: pip install llvmlite, or leave backend out.",
        "compile: backend 'native' は使えません: {reason}。直し方: pip install llvmlite を実行するか、backend を指定しないでください。",
    ),
    "TG-P008": (
        "compile: gradients of gradients do not pass through the compiled function '{name}'. Fix: compile the whole step, with its grad(..., "
        "create_graph=True) inside, or call the plain function.",
        "compile: コンパイルした関数 '{name}' を通る高階の勾配は計算できません。"
        "直し方: grad(..., create_graph=True) を含むステップ全体をコンパイルするか、元の関数を呼んでください。",
    ),
    "TG-P009": (
        "compile: there is no pass named {name}. The passes are: {allowed}. Fix: take a name of this list for disable=.",
        "compile: {name} というパスはありません。あるもの: {allowed}。直し方: disable= にはこの中の名前を渡してください。",
    ),
    "TG-P010": (
        "compile: {name} is a generator or async function: calling it runs nothing yet, so there is nothing to record. Fix: compile the "
        "function that does one step, and call that from {name}.",
        "compile: {name} はジェネレータか async 関数です。呼んだだけでは何も実行されないので、記録するものがありません。"
        "直し方: 1 ステップ分を計算する関数をコンパイルして、{name} から呼んでください。",
    ),
    "TG-P011": (
        "compile: '{name}' has no plan, since no call of it is replayed. Fix: do away with the reason:\n{notes}",
        "compile: '{name}' には計画がありません。再生される呼び出しがないためです。直し方: 次の理由をなくしてください。\n{notes}",
    ),
    # --- registration of an operator
    "TG-R001": (
        "operator '{op}': the derivative asks for '{name}', which it cannot have. Allowed names: {allowed}. Fix: rename the argument.",
        "演算 '{op}': 微分の式の引数 '{name}' は使えません。使える名前: {allowed}。直し方: 引数名を直してください。",
    ),
    "TG-R002": (
        "operator '{op}': {reason}. Fix: {fix}",
        "演算 '{op}': {reason}。直し方: {fix}",
    ),
    # --- use of a Tensor
    "TG-U001": (
        "a Tensor of shape {shape} has no single truth value. Fix: use (x > 0).any() or .all(), or x.item() for one element.",
        "形状 {shape} の Tensor の真偽は 1 つに決まりません。直し方: (x > 0).any() や .all() を使うか、要素 1 つなら x.item() を"
        "使ってください。",
    ),
    "TG-U002": (
        "np.{function} cannot take a Tensor: the tape would not see it. Fix: use tg.{fix}, or x.detach().numpy() if no gradient is "
        "needed.",
        "np.{function} は Tensor を受け取れません (記録されないため)。直し方: tg.{fix} を使うか、勾配が不要なら x.detach().numpy() と"
        "してください。",
    ),
    "TG-U003": (
        "only a Tensor with one element becomes a Python number, but this one has shape {shape}. Fix: reduce it first, for instance "
        "x.sum().item().",
        "Python の数になるのは要素が 1 つの Tensor だけですが、形状は {shape} です。直し方: x.sum().item() などで 1 つにしてください。",
    ),
    "TG-U004": (
        "a 0-d Tensor has no length and cannot be iterated or indexed. Fix: use x.item(), or x.reshape(1).",
        "0 次元の Tensor には長さがなく、反復も添字付けもできません。直し方: x.item() か x.reshape(1) を使ってください。",
    ),
    # --- use of a Module
    "TG-U010": (
        "{model} has no attribute '{name}'. Fix: did you mean: {hint}? A submodule or Parameter must be assigned to self in __init__ "
        "first.",
        "{model} に属性 '{name}' はありません。直し方: もしかして: {hint}。層や Parameter は先に __init__ の中で self に代入してください。",
    ),
    "TG-U011": (
        "{model}: '{name}' was used before Module.__init__ ran, so it cannot be registered. Fix: make super().__init__() the first line "
        "of {model}.__init__.",
        "{model}: Module.__init__ より前に '{name}' が使われたので登録できません。直し方: {model}.__init__ の最初の行で "
        "super().__init__() を呼んでください。",
    ),
    "TG-U012": (
        "{model}.{name} is a registered {role}; a value of type {type} cannot take its place, {needed} can. Fix: {fix}",
        "{model}.{name} は登録済みの {role} です。型 {type} の値は代入できません ({needed} なら代入できます)。直し方: {fix}",
    ),
    "TG-U013": (
        "{model} has no forward, so it cannot be called. Fix: define `def forward(self, x): ...` in it; a ModuleList is indexed or "
        "iterated, not called.",
        "{model} には forward がないので呼び出せません。直し方: `def forward(self, x): ...` を定義してください。ModuleList は呼び出さず、"
        "添字や for で使います。",
    ),
    "TG-U014": (
        "'{target}' is no {role} of this module ('{name}' is something else). Fix: look at the names in model.named_{role}s().",
        "'{target}' はこのモジュールの {role} ではありません ('{name}' は別のものです)。直し方: model.named_{role}s() の名前を見てください。",
    ),
    "TG-U015": (
        "{kind}: '{name}' cannot be used before the shapes are known; a lazy layer learns them from its first input. Fix: call the "
        "model once with a batch, for instance model(tg.zeros(1, n)).",
        "{kind}: '{name}' は形状が決まるまで使えません。Lazy 層の形状は最初の入力で決まります。直し方: model(tg.zeros(1, n)) などで"
        "モデルを 1 度呼び出してください。",
    ),
    # --- traces
    "TG-U016": (
        "{what} asks for the value of a Tensor that is being traced; the trace holds operators only and could not follow. It was asked "
        "here:\n{line}Fix: {fix}",
        "{what} は記録中の Tensor の値を読みます。記録されるのは演算だけなので、値に応じた動作は残せません。読んだ場所:\n{line}直し方: {fix}",
    ),
    "TG-U017": (
        "trace: {reason}. It happened here:\n{line}Fix: {fix}",
        "記録: {reason}。場所:\n{line}直し方: {fix}",
    ),
    # --- use of a Dataset
    "TG-U018": (
        "{kind} has no {method}. Fix: define `def {method}({parameters}): ...` in it.",
        "{kind} には {method} がありません。直し方: `def {method}({parameters}): ...` を定義してください。",
    ),
    # --- workers of a DataLoader
    "TG-W001": (
        "{kind} in worker {worker} of a DataLoader. What happened there:\n{trace}Fix: mend the line that failed; dataset[index] shows the "
        "same without a worker.",
        "DataLoader のワーカー {worker} で {kind} が起きました。ワーカーでのトレースバック:\n{trace}直し方: 失敗した行を直してください。"
        "dataset[index] とすると、ワーカーなしで同じ失敗を確かめられます。",
    ),
    "TG-W002": (
        "worker {worker} of a DataLoader (process {process}) ended before its batch was ready, {how}. Fix: look for a crash or for "
        "memory that ran out; num_workers=0 shows where.",
        "DataLoader のワーカー {worker} (プロセス {process}) が、バッチができる前に終了しました ({how})。直し方: 異常終了やメモリ不足がないか"
        "調べてください。num_workers=0 とすると場所がわかります。",
    ),
    "TG-W003": (
        "worker {worker} of a DataLoader gave no batch within {timeout} s. Fix: pass a larger timeout, or look for an item that never ends.",
        "DataLoader のワーカー {worker} が {timeout} 秒以内にバッチを返しませんでした。直し方: timeout を大きくするか、"
        "取り出しが終わらないデータがないか調べてください。",
    ),
    # --- checks of tinygrad_ja.testing
    "TG-V001": (
        "{function}: the derivative of output {output} at {at} with respect to input {input} at {position} is {analytic} by the tape, but "
        "{numeric} by central differences (step {step}). Fix: mend the derivative, or move the input away from kinks.",
        "{function}: 出力 {output} の {at} を入力 {input} の {position} で微分した値が、逆伝播では {analytic}、中心差分では {numeric} "
        "(刻み {step}) です。直し方: 微分の式を直すか、入力を折れ目から離してください。",
    ),
    "TG-V002": (
        "operator '{op}' failed the check '{check}': {detail}\nCase: {case}. Fix: mend the operator's definition; or, if the case is not "
        "one it is meant for, its cases=, domain= or signature=.",
        "演算 '{op}' は検査 '{check}' に通りません: {detail}\n事例: {case}。直し方: 演算の定義を直してください。想定外の事例なら cases=、"
        "domain=、signature= を直してください。",
    ),
    "TG-V003": (
        "{what} is not possible on a GPU. CuPy's rule: {rule}. Fix: write it with xp, device arrays and numbers only.",
        "{what} は GPU ではできません。CuPy の規則: {rule}。直し方: xp とデバイス上の配列と数だけで書いてください。",
    ),
    "TG-V004": (
        "{function} needs at least one input that is a floating-point Tensor with requires_grad=True. Fix: tg.tensor(..., "
        "dtype=tg.float64, requires_grad=True).",
        "{function} には requires_grad=True の浮動小数点の Tensor が 1 つ以上必要です。直し方: tg.tensor(..., dtype=tg.float64, "
        "requires_grad=True) としてください。",
    ),
}
