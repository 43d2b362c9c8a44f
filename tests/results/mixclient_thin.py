"""libmixclient for Python, as thin as ctypes allows: attach to a run, take batches, post losses.

    with Client("tcp://127.0.0.1:7117", "build/client/libmixclient.so") as client:
        run = client.attach("demo")
        for batch in run:                       # until the run ends
            ... batch.tokens, batch.domains ...
            run.report(batch.step, {"web": (loss_sum, tokens, samples)})
        run.flush()

client/mixclient.h says what each call does; the structs here repeat it. Arrays are memoryviews of
copies, which numpy.asarray takes as they are, so a batch lives as long as Python wants. Errors are
MixError with the library's text. It knows nothing of models and of what is trained."""
import ctypes
import math
import struct

END = -5  # MXC_END


class MixError(Exception):
    def __init__(self, code, text):
        super().__init__(text)
        self.code = code


class _Error(ctypes.Structure):
    _fields_ = [("code", ctypes.c_int), ("text", ctypes.c_char * 1024)]


class _EvalSet(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("member_count", ctypes.c_uint32),
                ("members", ctypes.POINTER(ctypes.c_char_p))]


class _RunInfo(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("batch_size", ctypes.c_uint32),
                ("seq_len", ctypes.c_uint32), ("parts", ctypes.c_void_p),
                ("n_parts", ctypes.c_uint32), ("width", ctypes.c_uint32),
                ("eod", ctypes.c_uint32), ("end_step", ctypes.c_uint64),
                ("frontier", ctypes.c_uint64), ("domain_count", ctypes.c_uint32),
                ("domains", ctypes.POINTER(ctypes.c_char_p)),
                ("eval_set_count", ctypes.c_uint32), ("eval_sets", ctypes.POINTER(_EvalSet))]


class _Batch(ctypes.Structure):
    _fields_ = [("step", ctypes.c_uint64), ("mix_version", ctypes.c_uint64),
                ("first_slot", ctypes.c_uint32), ("slots", ctypes.c_uint32),
                ("seq_len", ctypes.c_uint32), ("width", ctypes.c_uint32),
                ("tokens", ctypes.c_void_p), ("domains", ctypes.c_void_p),
                ("epochs", ctypes.c_void_p), ("samples", ctypes.c_void_p),
                ("start_index", ctypes.c_void_p), ("starts", ctypes.c_void_p),
                ("weights", ctypes.c_void_p), ("eval_wanted", ctypes.c_int)]


class _Loss(ctypes.Structure):
    _fields_ = [("domain", ctypes.c_uint32), ("samples", ctypes.c_uint32),
                ("tokens", ctypes.c_uint64), ("loss_sum", ctypes.c_double)]


class _EvalLoss(ctypes.Structure):
    _fields_ = [("set", ctypes.c_uint32), ("member", ctypes.c_uint32),
                ("samples", ctypes.c_uint32), ("tokens", ctypes.c_uint64),
                ("loss_sum", ctypes.c_double)]


class _Report(ctypes.Structure):
    _fields_ = [("losses", ctypes.POINTER(_Loss)), ("n_losses", ctypes.c_size_t),
                ("evals", ctypes.POINTER(_EvalLoss)), ("n_evals", ctypes.c_size_t),
                ("rewards", ctypes.c_void_p), ("n_rewards", ctypes.c_size_t),
                ("scores", ctypes.c_void_p), ("n_scores", ctypes.c_size_t),
                ("grad_domains", ctypes.c_void_p), ("gram", ctypes.c_void_p),
                ("n_grad", ctypes.c_size_t), ("lr", ctypes.c_double), ("flags", ctypes.c_uint32)]


class _Counts(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in (
        "posted", "accepted", "duplicate", "late", "refused", "diverged", "quarantined")] + [
            ("last_text", ctypes.c_char * 1024)]


_POINTER = ctypes.c_void_p
_SIGNATURES = {
    "mxc_open": (ctypes.c_int, [ctypes.c_char_p, _POINTER, ctypes.POINTER(_POINTER),
                                ctypes.POINTER(_Error)]),
    "mxc_close": (None, [_POINTER]),
    "mxc_attach": (ctypes.c_int, [_POINTER, ctypes.c_char_p, ctypes.c_uint32, ctypes.c_uint32,
                                  ctypes.c_uint64, ctypes.POINTER(_POINTER),
                                  ctypes.POINTER(_Error)]),
    "mxc_detach": (None, [_POINTER]),
    "mxc_run_get_info": (ctypes.POINTER(_RunInfo), [_POINTER]),
    "mxc_next": (ctypes.c_int, [_POINTER, ctypes.POINTER(ctypes.POINTER(_Batch)),
                                ctypes.POINTER(_Error)]),
    "mxc_batch_free": (None, [ctypes.POINTER(_Batch)]),
    "mxc_report_post": (ctypes.c_int, [_POINTER, ctypes.c_uint64, ctypes.POINTER(_Report),
                                       ctypes.POINTER(_Error)]),
    "mxc_feedback_get_counts": (None, [_POINTER, ctypes.POINTER(_Counts)]),
    "mxc_flush": (ctypes.c_int, [_POINTER, ctypes.POINTER(_Error)]),
}


def _load(path):
    library = ctypes.CDLL(path)
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


class Batch:
    """One rank's part of a step: tokens [slots, seq_len], and each sample's domain (an index into
    the run's names), epoch and number, and what its loss counts (weights; None if all the same)."""

    def __init__(self, b):
        self.step, self.mix_version, self.first_slot = b.step, b.mix_version, b.first_slot
        self.tokens = _copy(b.tokens, "H" if b.width == 2 else "I", b.slots, b.seq_len)
        self.domains = _copy(b.domains, "I", b.slots)
        self.epochs = _copy(b.epochs, "I", b.slots)
        self.samples = _copy(b.samples, "Q", b.slots)
        self.weights = _copy(b.weights, "f", b.slots) if b.weights else None
        self.eval_wanted = bool(b.eval_wanted)


def _copy(address, kind, *shape):
    size = math.prod(shape) * struct.calcsize(kind)
    return memoryview(ctypes.string_at(address, size)).cast(kind, shape)


def _strings(array, n):
    return [array[i].decode() for i in range(n)]


class Run:
    """names: its domains; eval_sets: {name: members}."""

    def __init__(self, library, handle):
        self._library, self._handle = library, handle
        info = library.mxc_run_get_info(handle).contents
        self.batch_size, self.seq_len, self.eod = info.batch_size, info.seq_len, info.eod
        self.names = _strings(info.domains, info.domain_count)
        self.eval_sets = {}
        for i in range(info.eval_set_count):
            s = info.eval_sets[i]
            self.eval_sets[s.name.decode()] = _strings(s.members, s.member_count)

    def __iter__(self):
        return self

    def __next__(self):
        b, err = ctypes.POINTER(_Batch)(), _Error()
        code = self._library.mxc_next(self._handle, ctypes.byref(b), ctypes.byref(err))
        if code == END:
            raise StopIteration
        _check(code, err)
        try:
            return Batch(b.contents)
        finally:
            self._library.mxc_batch_free(b)

    def report(self, step, train, evals=None):
        """Posts this rank's losses of a step, {domain: (loss_sum, tokens, samples)}, and those of
        evaluations after it, {set: {member: ...}} likewise; what wasn't seen is absent."""
        losses = [_Loss(self.names.index(name), samples, tokens, loss_sum)
                  for name, (loss_sum, tokens, samples) in train.items()]
        sets = list(self.eval_sets)
        scores = [_EvalLoss(sets.index(of), self.eval_sets[of].index(name), samples, tokens,
                            loss_sum)
                  for of, members in (evals or {}).items()
                  for name, (loss_sum, tokens, samples) in members.items()]
        whole, err = _Report(), _Error()
        whole.losses, whole.n_losses = (_Loss * len(losses))(*losses), len(losses)
        whole.evals, whole.n_evals = (_EvalLoss * len(scores))(*scores), len(scores)
        _check(self._library.mxc_report_post(self._handle, step, ctypes.byref(whole),
                                             ctypes.byref(err)), err)

    def flush(self):
        """Waits until all posts are durable; MixError if one was refused."""
        err = _Error()
        _check(self._library.mxc_flush(self._handle, ctypes.byref(err)), err)

    def feedback_counts(self):
        c = _Counts()
        self._library.mxc_feedback_get_counts(self._handle, ctypes.byref(c))
        return {name: getattr(c, name) for name, _ in _Counts._fields_[:-1]}

    def detach(self):
        """Nothing else may be called after this, nor after its client was closed."""
        self._library.mxc_detach(self._handle)
        self._handle = None


class Client:
    def __init__(self, url, library):
        self._library, self._handle, err = _load(library), _POINTER(), _Error()
        _check(self._library.mxc_open(url.encode(), None, ctypes.byref(self._handle),
                                      ctypes.byref(err)), err)

    def attach(self, name, rank=0, world=1, start_step=0):
        handle, err = _POINTER(), _Error()
        _check(self._library.mxc_attach(self._handle, name.encode(), rank, world, start_step,
                                        ctypes.byref(handle), ctypes.byref(err)), err)
        return Run(self._library, handle)

    def close(self):
        self._library.mxc_close(self._handle)
        self._handle = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def _check(code, err):
    if code != 0:
        raise MixError(code, err.text.decode(errors="replace"))
