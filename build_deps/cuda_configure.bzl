"""The repository @cuda: nvcc and the CUDA runtime, as ./configure.sh found them."""

_BUILD = """\
package(default_visibility = ["//visibility:public"])

exports_files(["nvcc.sh"])

# Into the library itself: it must load where no CUDA runtime is installed. The
# runtime's own symbols stay inside.
cc_library(
    name = "cudart",
    linkopts = {linkopts},
)
"""

_NVCC_SH = """\
#!/bin/bash
# nvcc with the architectures that ./configure.sh chose.
exec "{nvcc}" {gencode} "$@"
"""

# Bazel must be able to load the build without nvcc; --config=cuda then ends here.
_NO_NVCC_SH = """\
#!/bin/bash
echo 'error: --config=cuda needs nvcc. Run TF_NEED_CUDA=1 ./configure.sh first.' >&2
exit 1
"""

def _cuda_impl(ctx):
    nvcc = ctx.os.environ.get("TF_OPTIM_NVCC", "")
    script = _NO_NVCC_SH
    linkopts = []
    if nvcc:
        script = _NVCC_SH.format(
            nvcc = nvcc,
            gencode = ctx.os.environ.get("TF_OPTIM_CUDA_GENCODE", ""),
        )
        linkopts = [
            "-L" + ctx.os.environ.get("TF_OPTIM_CUDA_LIBRARIES", ""),
            "-l:libcudart_static.a",
            "-Wl,--exclude-libs,libcudart_static.a",
            "-ldl",
            "-lpthread",
            "-lrt",
        ]
    ctx.file("nvcc.sh", script, executable = True)
    ctx.file("BUILD", _BUILD.format(linkopts = repr(linkopts)))

_cuda = repository_rule(
    implementation = _cuda_impl,
    environ = ["TF_OPTIM_NVCC", "TF_OPTIM_CUDA_GENCODE", "TF_OPTIM_CUDA_LIBRARIES"],
    local = True,
)

def cuda_configure():
    _cuda(name = "cuda")

# As our C++ is compiled (build_deps/tf_optim.bzl): no fused multiply-add, denormals
# flushed. Rules' functions are constexpr, which makes them callable on the device.
NVCC_OPTS = [
    "-std=c++17",
    "-O3",
    "--expt-relaxed-constexpr",
    "-fmad=false",
    "-ftz=true",
    "-Xcompiler=-fPIC,-fvisibility=hidden,-Wall,-Wextra",
]

def if_cuda(then, otherwise = []):
    """`then` under --config=cuda."""
    return select({
        "//build_deps:cuda": then,
        "//conditions:default": otherwise,
    })

def _nvcc_objects(ctx):
    objects = []
    for source in ctx.files.srcs:
        compiled = ctx.actions.declare_file(source.basename.replace(".cu", ".pic.o"))
        objects.append(compiled)
        ctx.actions.run(
            executable = ctx.executable._nvcc,
            inputs = [source] + ctx.files.headers,
            outputs = [compiled],
            arguments = NVCC_OPTS + ["-I.", "-c", source.path, "-o", compiled.path],
            mnemonic = "Nvcc",
            # nvcc calls the host's compiler.
            use_default_shell_env = True,
        )
    return [DefaultInfo(files = depset(objects))]

_tf_optim_nvcc_objects = rule(
    implementation = _nvcc_objects,
    attrs = {
        "headers": attr.label_list(allow_files = True),
        "srcs": attr.label_list(allow_files = [".cu"]),
        "_nvcc": attr.label(
            allow_single_file = True,
            cfg = "exec",
            default = "@cuda//:nvcc.sh",
            executable = True,
        ),
    },
)

def tf_optim_cuda_library(name, srcs, headers, deps = []):
    """A library of .cu files, each compiled by nvcc for all chosen architectures."""
    _tf_optim_nvcc_objects(
        name = name + "_objects",
        srcs = srcs,
        headers = headers,
        tags = ["manual"],
    )
    native.cc_library(
        name = name,
        srcs = [":" + name + "_objects"],
        linkstatic = True,
        tags = ["manual"],
        visibility = ["//visibility:public"],
        deps = deps + ["@cuda//:cudart"],
    )
