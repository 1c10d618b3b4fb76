"""The repositories that ./configure.sh describes: @tensorflow, @highway, @pybind11, @python."""

_HEADERS = """\
cc_library(
    name = "{name}",
    hdrs = glob({patterns}, exclude = {exclude}),
    defines = {defines},
    includes = ["include"],
    linkopts = {linkopts},
    visibility = ["//visibility:public"],
    deps = {deps},
)
"""

_PYTHON_SH = """\
#!/bin/bash
# The configured Python with this checkout's package, in the folder the user called Bazel from.
cd "${{BUILD_WORKING_DIRECTORY:-{workspace}}}" || exit
# TensorFlow's start-up chatter; errors still show.
export TF_CPP_MIN_LOG_LEVEL="${{TF_CPP_MIN_LOG_LEVEL:-2}}"
PYTHONPATH="{workspace}${{PYTHONPATH:+:$PYTHONPATH}}" exec "{python}" "$@"
"""

def _fact(ctx, name):
    value = ctx.os.environ.get("TF_OPTIM_" + name, "")
    if not value:
        fail("TF_OPTIM_%s is not set. Run ./configure.sh first." % name)
    return value

def _headers(ctx, patterns, exclude = [], defines = [], linkopts = [], deps = [], more = ""):
    """One cc_library; its headers come as system headers, so their warnings do not show."""
    ctx.file("BUILD", _HEADERS.format(
        name = ctx.name,
        patterns = repr(patterns),
        exclude = repr(exclude),
        defines = repr(defines),
        linkopts = repr(linkopts),
        deps = repr(deps),
    ) + more)

# What an XLA kernel needs beyond TensorFlow's framework.
_XLA = """
cc_library(
    name = "xla",
    hdrs = glob([
        "include/external/farmhash_archive/src/**",
        "include/external/highwayhash/**",
        {stand_ins}
    ]),
    includes = [
        "include/external/farmhash_archive/src",
        "include/external/highwayhash",
        {folder}
    ],
    linkopts = ["-l:libtensorflow_cc.so.2"],
    visibility = ["//visibility:public"],
    deps = [":tensorflow"],
)
"""

# TensorFlow 2.19's XLA headers speak of two classes of LLVM's, in a description of
# tensors on GPUs that no kernel of ours meets, and its wheel lacks them.
_LLVM = {
    "ArrayRef.h": """\
#include <cstddef>
namespace llvm {
template <class T>
struct ArrayRef {
  template <class Values>
  ArrayRef(const Values& values) : data(values.data()), size(values.size()) {}
  const T* data;
  size_t size;
};
}  // namespace llvm
""",
    "SmallVector.h": """\
#include <vector>
namespace llvm {
template <class T>
using SmallVector = std::vector<T>;
}  // namespace llvm
""",
}

def _xla(ctx):
    """The library of XLA's headers, with what they lack."""
    header = ctx.path("include/xla/stream_executor/gpu/tma_metadata.h")
    lacks = header.exists and "llvm/ADT/ArrayRef.h" in ctx.read(header)
    if lacks:
        for name, text in _LLVM.items():
            ctx.file("stand_ins/llvm/ADT/" + name, "#pragma once\n" + text)
    return _XLA.format(
        stand_ins = "\"stand_ins/**\"," if lacks else "",
        folder = "\"stand_ins\"," if lacks else "",
    )

def _tensorflow_impl(ctx):
    flags = _fact(ctx, "TF_COPTS").split(" ")
    ctx.symlink(_fact(ctx, "TF_INCLUDE"), "include")
    linkopts = _fact(ctx, "TF_LINKOPTS").split(" ")
    ctx.file("defs.bzl", "TF_VERSION = %s\nTF_FOLDERS = %s\n" % (
        repr(_fact(ctx, "TF_VERSION")),
        # Where a program of a test finds TensorFlow's library; ours lie beside it.
        repr([option[2:] for option in linkopts if option.startswith("-L")]),
    ))
    _headers(
        ctx,
        patterns = ["include/**"],
        exclude = ["include/external/**", "include/**/*.bin"],
        defines = [flag[2:] for flag in flags if flag.startswith("-D")],
        linkopts = linkopts,
        more = _xla(ctx),
    )

def _highway_impl(ctx):
    ctx.symlink(_fact(ctx, "HIGHWAY_INCLUDE") + "/hwy", "include/hwy")
    _headers(ctx, patterns = ["include/**/*.h"])

def _pybind11_impl(ctx):
    ctx.symlink(_fact(ctx, "PYBIND11_INCLUDE"), "include")
    _headers(ctx, patterns = ["include/**/*.h"], deps = ["@python"])

def _python_impl(ctx):
    ctx.symlink(_fact(ctx, "PYTHON_INCLUDE"), "include")
    ctx.file("python.sh", _PYTHON_SH.format(
        python = _fact(ctx, "PYTHON"),
        workspace = ctx.path(Label("//:WORKSPACE")).dirname,
    ))
    _headers(
        ctx,
        patterns = ["include/**/*.h"],
        more = '\nexports_files(["python.sh"])\n',
    )

def _repository(implementation, facts):
    return repository_rule(
        implementation = implementation,
        environ = ["TF_OPTIM_" + fact for fact in facts],
        local = True,
    )

_tensorflow = _repository(_tensorflow_impl, ["TF_INCLUDE", "TF_VERSION", "TF_COPTS", "TF_LINKOPTS"])
_highway = _repository(_highway_impl, ["HIGHWAY_INCLUDE"])
_pybind11 = _repository(_pybind11_impl, ["PYBIND11_INCLUDE"])
_python = _repository(_python_impl, ["PYTHON_INCLUDE", "PYTHON"])

def tf_configure():
    _tensorflow(name = "tensorflow")
    _highway(name = "highway")
    _pybind11(name = "pybind11")
    _python(name = "python")
