"""`manako doctor`. What the probes say stands in their own files, in both languages too."""

from collections.abc import Mapping

TEXTS: Mapping[str, tuple[str, str]] = {
    "doctor": (
        (
            "この機械で何が動くかを、一つずつ別のプロセスで実際に試す。\n"
            "動かないものには、直すための一行を添える。ないだけのものは誤りではない。\n"
            "PROBE を挙げると、それだけを試す（例: bf16 ollama）。"
        ),
        (
            "Try what works on this machine, each thing in a process of its own.\n"
            "What does not work comes with the line that mends it; what is merely absent is no error.\n"
            "With names of probes, those alone (bf16 ollama)."
        ),
    ),
    "option.doctor.matrix": (
        "試す代わりに、CUDA・ROCm・XPU・MPS・CPU で何が動くかの表（日付・出典つき）を表示する。",
        "Instead of trying: the dated table of what works on CUDA, ROCm, XPU, MPS and CPU.",
    ),
    "option.doctor.model": (
        "このモデルがこの機械に収まるかを調べ、収まらなければ手立てを挙げる。",
        "Whether this model fits here, and what would help if it does not.",
    ),
    "option.doctor.method": (
        "--model で何をするか（指定しなければ run）。",
        "What --model is for (run, unless given).",
    ),
    "doctor.working": ("この機械を調べています", "looking at this machine"),
    "doctor.probe": ("調べたもの", "what"),
    "doctor.state": ("状態", "state"),
    "doctor.why": ("わかったこと（→ 直すには）", "found (→ what mends it)"),
    "doctor.group.machine": ("機械", "Machine"),
    "doctor.group.numbers": ("数値とカーネル", "Numbers and kernels"),
    "doctor.group.packages": ("追加のパッケージ", "Optional packages"),
    "doctor.group.programs": ("ほかのプログラム", "Programs"),
    "doctor.group.hub": ("Hub", "Hub"),
    "doctor.state.works": ("動く", "works"),
    "doctor.state.does not": ("動かない", "does not"),
    "doctor.state.not installed": ("未導入", "not installed"),
    "doctor.state.not here": ("対象外", "not here"),
    "doctor.state.not tried": ("試さず", "not tried"),
    "doctor.mends": ("→ {line}", "→ {line}"),
    "doctor.count": (
        "{count} 件（{states}、{seconds:.0f} 秒）",
        "{count} ({states}; {seconds:.0f} s)",
    ),
    "doctor.well": (
        "Manako に必要なものはこの機械にそろっている。",
        "Manako has what it needs here.",
    ),
    "doctor.broken": (
        "Manako に必要なのに動かない: {names}",
        "Manako needs these, and they do not work: {names}",
    ),
    "doctor.matrix": (
        "何がどこで動くか（計画のための表。手元の機械では manako doctor が実際に試す）",
        "What works where (to plan with; on the machine at hand, manako doctor tries it)",
    ),
    "doctor.feature": ("機能", "feature"),
    "doctor.backend.cuda": ("CUDA", "CUDA"),
    "doctor.backend.rocm": ("ROCm", "ROCm"),
    "doctor.backend.xpu": ("XPU", "XPU"),
    "doctor.backend.mps": ("MPS", "MPS"),
    "doctor.backend.cpu": ("CPU", "CPU"),
    "doctor.cell.yes": ("○", "yes"),
    "doctor.cell.partly": ("一部", "partly"),
    "doctor.cell.no": ("×", "no"),
    "doctor.cell.untested": ("未確認", "untested"),
    "doctor.fit.head": (
        "{model}、{method}: {machine}、使えるのは {usable}",
        "{model}: {method} on {machine} ({usable} usable)",
    ),
    "doctor.machine.gpu": ("この機械の GPU（{size}）", "this machine's GPU ({size})"),
    "doctor.machine.mac": ("この Mac（{size}）", "this Mac ({size})"),
    "doctor.machine.cpu": (
        "この機械の CPU（メモリー {size}）",
        "this machine's CPU ({size} of memory)",
    ),
    "doctor.fit.yes": ("{size} 必要: {tight}。", "Needs {size}: {tight}."),
    "doctor.fit.no": ("{size} 必要: 収まらない。", "Needs {size}: does not fit."),
    "doctor.fit.none": (
        "これができるプログラムが知られていない。",
        "No program is known that does this.",
    ),
    "doctor.term": ("内訳", "what for"),
    "doctor.bytes": ("大きさ", "size"),
    "doctor.ways": ("収めるには", "What would make it fit"),
    "doctor.way": ("手立て", "way"),
    "doctor.needs": ("必要", "needs"),
    "doctor.fits": ("ここに収まるか", "fits here"),
    "doctor.fits.yes": ("収まる", "yes"),
    "doctor.fits.no": ("収まらない", "no"),
    "doctor.way.pack": (
        "{method}、パックを {tokens:,} トークンに",
        "{method}, packs of {tokens:,} tokens",
    ),
    "doctor.way.method": ("{method}", "{method}"),
    "doctor.way.model": ("{method}、{model} で", "{method}, with {model}"),
    "doctor.bits": ("{words}（{bits} ビット）", "{words} ({bits} bit)"),
    "doctor.each": ("{size} × {gpus}", "{size} × {gpus}"),
    "doctor.rent": (
        "別の機械なら（足りるもののうち最小）",
        "On another machine (the smallest that does)",
    ),
    "doctor.method": ("何をするか", "method"),
    "doctor.kind": ("GPU のメモリー", "GPU memory"),
    "doctor.examples": ("例", "for example"),
    "doctor.kind.none": ("8 × 141 GB でも足りない", "more than 8 × 141 GB"),
    "doctor.basis": (
        "計算だけの値で、GPU では実測していない。学習は {tokens:,} トークンのパック、実行は 4,096 トークンの文脈。",
        "Arithmetic alone, not measured on a GPU. Training: packs of {tokens:,} tokens; running: a context of 4,096.",
    ),
}
