"""The GPU drivers on plain arrays, through the C interface of _gpu.so.

Needs neither TensorFlow nor the rest of the package, so that it runs on any machine
with a GPU. Arrays are NumPy's, run by the emulation on the CPU, or torch's or CuPy's
on the device.
"""

import ctypes
import json

MAX_SLOTS = 6
MAX_HYPER = 8
STORAGE = ("float32", "float64", "float16", "bfloat16")


class _Item(ctypes.Structure):
    """GpuItem of cc/drivers/gpu.h."""

    _fields_ = (
        ("var", ctypes.c_void_p),
        ("grad", ctypes.c_void_p),
        ("slots", ctypes.c_void_p * MAX_SLOTS),
        ("size", ctypes.c_int64),
        ("width", ctypes.c_int64),
        ("indices", ctypes.c_void_p),
        ("count", ctypes.c_int64),
        ("rows", ctypes.c_int64),
    )


class Report(ctypes.Structure):
    """BadIndexReport of cc/drivers/gpu.h: the first index outside its table.

    `found` is the generation of the step that found it, 0 for none.
    """

    _fields_ = tuple(
        (name, ctypes.c_int64)
        for name in ("item", "position", "received", "rows", "found")
    )


class _Call(ctypes.Structure):
    """Call of cc/python/gpu_api.cc."""

    _fields_ = (
        ("rule", ctypes.c_char_p),
        ("variant", ctypes.c_int64),
        ("storage", ctypes.c_int64),
        ("cuda", ctypes.c_int64),
        ("items", ctypes.POINTER(_Item)),
        ("item_count", ctypes.c_int64),
        ("sparse", ctypes.c_int64),
        ("lazy", ctypes.c_int64),
        ("wide_indices", ctypes.c_int64),
        ("learning_rate", ctypes.c_void_p),
        ("learning_rate_is_double", ctypes.c_int64),
        ("iterations", ctypes.c_void_p),
        ("hyper", ctypes.c_void_p * MAX_HYPER),
        ("clip_value", ctypes.c_void_p),
        ("gradient_scale", ctypes.c_void_p),
        ("weight_decay", ctypes.c_void_p),
        ("stream", ctypes.c_void_p),
        ("report", ctypes.POINTER(Report)),
        ("generation", ctypes.c_int64),
        ("memory_limit", ctypes.c_int64),
        ("code", ctypes.c_int64),
    )


# GpuStatus::Code of cc/drivers/gpu.h.
_NO_MEMORY = 1


def dtype_name(array):
    """The dtype of a NumPy, CuPy or torch array, as NumPy spells it."""
    return getattr(array.dtype, "name", None) or str(array.dtype).split(".")[-1]


def address(array):
    """Where the elements of a NumPy, CuPy or torch array are."""
    if hasattr(array, "data_ptr"):  # torch
        return array.data_ptr()
    if hasattr(array, "__cuda_array_interface__"):
        return array.__cuda_array_interface__["data"][0]
    return array.ctypes.data


def _size(array):
    return array.numel() if hasattr(array, "numel") else array.size


class Library:
    """A loaded _gpu.so.

    Attributes:
        rules: for each rule its `hyper`, `slots`, `flags`, `row_slots` and `variants`.
        has_cuda: whether it was built with nvcc.
        report: the `Report` that steps with `indices` fill in.
        generation: of the report's owner, which the next steps are said to be.
        memory_limit: the most bytes of workspace that steps may have, or -1.
    """

    def __init__(self, path):
        self._library = ctypes.CDLL(str(path))
        for function in ("apply", "rules", "state", "check_driver", "check_capability"):
            getattr(self._library, f"tfo_gpu_{function}").restype = ctypes.c_char_p
        self._library.tfo_gpu_new_report.restype = ctypes.POINTER(Report)
        self._library.tfo_gpu_emulated_launches.restype = ctypes.c_int64
        self.rules = json.loads(self._library.tfo_gpu_rules())
        self.has_cuda = bool(self._library.tfo_gpu_has_cuda())
        self.report = Report()
        self.generation = 1
        self.memory_limit = -1

    def state(self):
        """Why the kernels cannot run on this machine; "" if they can."""
        return self._library.tfo_gpu_state().decode()

    def check_driver(self, driver, toolkit):
        """CheckDriver of cc/drivers/gpu_support.h: CUDA's versions, as 13000."""
        return self._library.tfo_gpu_check_driver(driver, toolkit).decode()

    def check_capability(self, capability, built):
        """CheckCapability of cc/drivers/gpu_support.h: capabilities as 90."""
        numbers = (ctypes.c_int * len(built))(*built)
        return self._library.tfo_gpu_check_capability(
            capability, numbers, len(built)
        ).decode()

    @property
    def emulated_kernels(self):
        """The address of a function that finds the emulation's kernels."""
        return ctypes.cast(
            self._library.tfo_gpu_emulated_kernels, ctypes.c_void_p
        ).value

    def launches(self):
        """How many kernels the emulation has launched in this thread, without sorts."""
        return self._library.tfo_gpu_emulated_launches()

    @property
    def cuda_kernels(self):
        """The same of the GPU's kernels, in a build that has them."""
        return ctypes.cast(self._library.tfo_gpu_cuda_kernels, ctypes.c_void_p).value

    def use_device(self):
        """Makes `report` memory that kernels on the device can write to."""
        report = self._library.tfo_gpu_new_report()
        if not report:
            raise RuntimeError("CUDA gave no memory that host and device share.")
        self.report = report.contents

    def variant(self, rule, slots, flags):
        """VariantKey of cc/rules/rule.h."""
        names = self.rules[rule]
        mask = sum(1 << i for i, name in enumerate(names["slots"]) if name in slots)
        bits = sum(1 << i for i, name in enumerate(names["flags"]) if flags.get(name))
        return bits << MAX_SLOTS | mask

    def prepare(
        self,
        rule,
        var,
        slots,
        grad,
        hyper,
        learning_rate,
        iterations,
        clip_value,
        *,
        indices=None,
        mode="lazy",
        flags=None,
        gradient_scale=None,
        weight_decay=None,
        cuda=False,
        stream=0,
    ):
        """A function that does one step, in place, each time it is called.

        Every number is an array of one, float64 where nothing else is said, and is
        where the other arrays are.

        On a device it only puts the step on the stream. What the step reads may
        change in between, the arrays may not.

        Args:
            rule: a key of `rules`.
            var: a list of arrays; with `indices`, of two dimensions.
            slots: for each slot that there is, a list of arrays.
            grad: a list of arrays.
            hyper: dict of numbers.
            clip_value: an array of one number; 0 for no clipping.
            learning_rate: an array of one float32 or float64.
            iterations: an array of one int64.
            indices: a list of int32 or int64 arrays, or None for dense gradients.
            mode: "lazy" or "dense".
            flags: dict of bools.
            gradient_scale: a float64 array of one number per variable, or None.
            weight_decay: a float64 array of one number per variable, or None.
            cuda: whether the arrays are a device's.
            stream: a cudaStream_t, as a number.
        """
        names = self.rules[rule]
        items = (_Item * len(var))()
        for i, item in enumerate(items):
            item.var, item.grad = address(var[i]), address(grad[i])
            for s, name in enumerate(names["slots"]):
                item.slots[s] = address(slots[name][i]) if name in slots else None
            item.size = _size(var[i])
            rows = var[i].shape[0] if len(var[i].shape) else 1
            item.width = item.size // rows if rows else 0
            if indices is not None:
                item.indices = address(indices[i])
                item.count, item.rows = _size(indices[i]), rows
        wide = indices is not None and dtype_name(indices[0]) == "int64"
        call = _Call(
            rule=rule.encode(),
            variant=self.variant(rule, slots, flags or {}),
            storage=STORAGE.index(dtype_name(var[0])),
            cuda=cuda,
            items=items,
            item_count=len(var),
            sparse=indices is not None,
            lazy=mode == "lazy",
            wide_indices=wide,
            learning_rate=address(learning_rate),
            learning_rate_is_double=dtype_name(learning_rate) == "float64",
            iterations=address(iterations),
            hyper=(ctypes.c_void_p * MAX_HYPER)(
                *(address(hyper[name]) for name in names["hyper"])
            ),
            clip_value=address(clip_value),
            gradient_scale=None if gradient_scale is None else address(gradient_scale),
            weight_decay=None if weight_decay is None else address(weight_decay),
            stream=stream,
            report=ctypes.pointer(self.report),
        )
        arrays = (var, slots, grad, indices, hyper)
        numbers = (learning_rate, iterations, clip_value, gradient_scale, weight_decay)

        def run(_memory_of_the_step=(arrays, numbers)):
            call.generation = self.generation
            call.memory_limit = self.memory_limit
            error = self._library.tfo_gpu_apply(ctypes.byref(call)).decode()
            if error:
                kind = MemoryError if call.code == _NO_MEMORY else RuntimeError
                raise kind(error)

        return run

    def apply(self, *arguments, **options):
        """One step: `prepare` and the call of what it returns."""
        self.prepare(*arguments, **options)()
