"""The rules of this package: how our C++ is compiled, and once per instruction set where it counts."""

# The same bits on every instruction set: no contraction of a*b+c into one rounding.
# Loops are vectors already: -O3 makes Adam and SGD no faster (AVX2), and takes a fifth longer to compile.
COPTS = [
    "-O2",
    "-std=c++17",
    "-ffp-contract=off",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fvisibility=hidden",
    "-Wall",
    "-Wextra",
]

_AVX2 = ["-mavx2", "-mfma", "-mf16c", "-mbmi", "-mbmi2"]
_AVX512 = _AVX2 + ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx512cd"]

# Scalar is plain C++, one number at a time, which is there to be compared with: quick to compile.
# Baseline is SIMD that every machine has.
_ISA_COPTS = {
    "Scalar": ["-O1"],
    "Baseline": [],
    "Avx2": _AVX2,
    "Avx512": _AVX512,
}

# x86-64's Baseline is for processors older than AVX2: quick to compile too.
_X86_64_COPTS = {"Baseline": ["-O1"]}

def tf_optim_library(name, copts = [], **kwargs):
    """A cc_library with our flags, linked whole: registrations are found by nobody's name."""
    native.cc_library(
        name = name,
        alwayslink = True,
        copts = COPTS + copts,
        linkstatic = True,
        visibility = ["//visibility:public"],
        **kwargs
    )

def tf_optim_test(name, **kwargs):
    """A cc_test with our flags."""
    native.cc_test(
        name = name,
        copts = COPTS,
        linkstatic = True,
        **kwargs
    )

def tf_optim_headers(name, deps, exclude = [], generated = []):
    """A library of this folder's headers, and `name`_alone, which compiles each with nothing before it."""
    headers = native.glob(["*.h"], exclude = exclude) + generated
    tf_optim_library(
        name = name,
        hdrs = headers,
        deps = deps,
    )

    # For nvcc, which compiles outside of the C++ rules.
    native.filegroup(
        name = name + "_files",
        srcs = native.glob(["*.h"]),
        visibility = ["//visibility:public"],
    )
    sources = []
    for header in headers:
        source = header.replace(".h", "_alone.cc")
        sources.append(source)
        native.genrule(
            name = "make_" + source,
            outs = [source],
            cmd = "echo '#include \"%s/%s\"' > $@" % (native.package_name(), header),
        )
    tf_optim_library(
        name = name + "_alone",
        srcs = sources,
        deps = [":" + name],
    )

def _rule_sources(ctx):
    _, extension, _ = ctx.file.template.basename.split(".")
    made = []
    for header in ctx.files.rules:
        source = ctx.actions.declare_file(header.basename.replace(".h", "." + extension))
        made.append(source)
        ctx.actions.run_shell(
            inputs = [ctx.file.template, header],
            tools = [ctx.executable._script],
            outputs = [source],
            command = '"$1" "$2" "$3" > "$4"',
            arguments = [f.path for f in [ctx.executable._script, ctx.file.template, header, source]],
        )
    return [DefaultInfo(files = depset(made))]

# A source file for each rule, from the template rule.EXTENSION.tpl.
tf_optim_rule_sources = rule(
    implementation = _rule_sources,
    attrs = {
        "rules": attr.label_list(
            allow_files = [".h"],
            default = ["//cc/rules:each_rule"],
        ),
        "template": attr.label(
            allow_single_file = [".tpl"],
            mandatory = True,
        ),
        "_script": attr.label(
            allow_single_file = True,
            cfg = "exec",
            default = "//build_deps:rule_sources.sh",
            executable = True,
        ),
    },
)

def tf_optim_isa_libraries(name, srcs, deps, tags = []):
    """Compiles `srcs` once per instruction set; the program picks one when it runs."""
    for isa, copts in _ISA_COPTS.items():
        library = "%s_%s" % (name, isa.lower())
        tf_optim_library(
            name = library,
            srcs = srcs,
            copts = copts + ["-DTFO_ISA=" + isa] + select({
                "@platforms//cpu:x86_64": _X86_64_COPTS.get(isa, []),
                "//conditions:default": [],
            }),
            # Not part of //...: only `name` knows which sets the machine's compiler has.
            tags = ["manual"],
            deps = deps,
        )
        if "-mavx2" in copts:
            native.filegroup(
                name = library + "_objects",
                srcs = [":" + library],
                tags = ["manual"],
            )
            native.sh_test(
                name = library + "_symbols",
                srcs = ["//build_deps:isa_symbols_test.sh"],
                size = "small",
                tags = tags,
                args = [isa, "$(locations :%s_objects)" % library],
                data = [":%s_objects" % library],
                target_compatible_with = ["@platforms//cpu:x86_64"],
            )
    native.cc_library(
        name = name,
        tags = tags,
        visibility = ["//visibility:public"],
        deps = select({
            "@platforms//cpu:x86_64": [":%s_%s" % (name, isa.lower()) for isa in _ISA_COPTS],
            "//conditions:default": [":%s_scalar" % name, ":%s_baseline" % name],
        }),
    )

def tf_optim_shared_library(name, deps):
    """A .so that lies in site-packages/tf_optim, beside TensorFlow's own folder."""
    native.cc_binary(
        name = name,
        linkopts = [
            "-Wl,-soname," + name,
            "-Wl,-rpath,'$$ORIGIN'",
            "-Wl,-rpath,'$$ORIGIN/../tensorflow'",
        ],
        linkshared = True,
        visibility = ["//visibility:public"],
        deps = deps + ["//cc/compat"],
    )
