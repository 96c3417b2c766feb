"""Published network pickles are read as arrays and numbers, and nothing in them is ever run."""

import copyreg
import pickle
import struct
import subprocess
import sys
import time
import tracemalloc
import types
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch

from skinsynth.gan.model import load_gan
from skinsynth.gan.pickles import GLOBALS, MOST_INSTRUCTIONS
from skinsynth.gan.snapshot import convert_snapshot, gan_of_snapshot, read_snapshot

ROOT = Path(__file__).parent.parent
MODULE_SOURCE = "raise SystemExit('a source text was run')"


def _reconstruct_persistent_obj(meta):
    raise AssertionError("the file's constructor was called")


class EasyDict(dict):
    pass


class Module:
    """A module as the published files hold it: a call of a constructor with its source text and its state."""

    def __init__(self, parameters, buffers=None, modules=None, **attributes):
        parts = {"_parameters": OrderedDict(parameters), "_buffers": OrderedDict(buffers or {})}
        self.state = {"training": False, **parts, "_modules": OrderedDict(modules or {}), **attributes}

    def __reduce__(self):
        meta = EasyDict(type="class", version=6, module_src=MODULE_SOURCE, class_name="Part", state=self.state)
        return _reconstruct_persistent_obj, (meta,)


class Call:
    """A call that pickles as one."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


@pytest.fixture(autouse=True)
def publisher(monkeypatch):
    """The names under which publishers' modules are pickled; they exist only while a test writes files."""
    for package, module_name, member in (
        ("torch_utils", "torch_utils.persistence", _reconstruct_persistent_obj),
        ("dnnlib", "dnnlib.util", EasyDict),
    ):
        module = types.ModuleType(module_name)
        setattr(module, member.__name__, member)
        monkeypatch.setitem(sys.modules, package, types.ModuleType(package))
        monkeypatch.setitem(sys.modules, module_name, module)
        monkeypatch.setattr(member, "__module__", module_name)


def nested(arrays, attributes, path=""):
    """Modules whose parameters have these dotted names."""
    own = {name: torch.nn.Parameter(array) for name, array in arrays.items() if "." not in name}
    children = dict.fromkeys(name.split(".")[0] for name in arrays if "." in name)
    for child in [name for name in attributes if name.rpartition(".")[0] == path and name != path]:
        children[child.rpartition(".")[2]] = None
    modules = {}
    for child in children:
        below = {name.removeprefix(f"{child}."): arrays[name] for name in arrays if name.startswith(f"{child}.")}
        modules[child] = nested(below, attributes, f"{path}.{child}".lstrip("."))
    return Module(own, modules=modules, **attributes.get(path, {}))


def published(golden, generator_attributes=None, discriminator_attributes=None):
    """The reference networks in the published layout."""
    with np.load(golden / "stylegan2_conditional_16.npz") as arrays:
        part = {
            letter: {name[2:]: torch.from_numpy(arrays[name]) for name in arrays if name.startswith(f"{letter}/")}
            for letter in "GD"
        }
    return {
        "G_ema": nested(part["G"], generator_attributes or {}),
        "D": nested(part["D"], discriminator_attributes or {}),
        "training_set_kwargs": EasyDict(path="data.zip", resolution=16),
        "augment_pipe": None,
    }


def small(array=None, **extra):
    """A file's content with one array in each network; enough to be read, if not to draw with."""
    array = torch.arange(6.0).reshape(2, 3) if array is None else array
    return {"G_ema": Module({"weight": array}), "D": Module({"weight": torch.ones(2)}), **extra}


def written(folder, content, protocol=4):
    file = folder / "network.pkl"
    file.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content, protocol))
    return file


def storage_bytes(values, kind=b"FloatStorage", claimed=None, counted=None, view=b"N"):
    """A storage in torch's old serialisation, of which each size may be a lie."""
    claimed = len(values) if claimed is None else claimed
    counted = len(values) if counted is None else counted
    head = [pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})]
    number = pickle.dumps(claimed, 2)[2:-1]
    claim = b"\x80\x02(X\x07\x00\x00\x00storagectorch\n" + kind + b"\nX\x01\x00\x00\x00kX\x03\x00\x00\x00cpu"
    claim += number + view + b"tQ."
    return b"".join([*head, claim, pickle.dumps(["k"], 2), struct.pack("<q", counted), values.tobytes()])


def tensor(raw, offset, size, stride):
    storage = Call(torch.storage._load_from_bytes, raw)
    return Call(torch._utils._rebuild_tensor_v2, storage, offset, size, stride, False, OrderedDict())


def read_or_refused(file):
    """None, or the text of the ValueError; any other exception goes through."""
    try:
        read_snapshot(file)
    except ValueError as error:
        refusal = str(error)
    else:
        return None
    assert "\n" not in refusal
    return refusal


def test_the_example_holds_the_reference_arrays_and_a_training_generator_beside_them(golden):
    arrays = read_snapshot(golden / "network_snapshot_16.pkl").arrays
    with np.load(golden / "stylegan2_conditional_16.npz") as reference:
        names = [name for name in reference if "/" in name]
        assert len(arrays) == len(names) + sum(name.startswith("G/") for name in names)
        buffers = ("noise_const", "resample_filter", "w_avg")
        for name in names:
            averaged = name.replace("G/", "G_ema/")
            assert np.array_equal(arrays[averaged].numpy(), reference[name]), name
            if name.startswith("G/"):
                shift = np.float32(0 if name.endswith(buffers) else 0.01)
                assert np.array_equal(arrays[name].numpy(), reference[name] + shift), name


def test_the_examples_networks_draw_and_judge_as_the_reference_does(golden):
    generator, discriminator = gan_of_snapshot(read_snapshot(golden / "network_snapshot_16.pkl"))
    assert discriminator.config.mbstd_group == 3
    with np.load(golden / "stylegan2_conditional_16.npz") as arrays:
        values = {name: torch.from_numpy(arrays[name]) for name in ("z", "c", "x", "image_const_noise", "logits")}
    with torch.no_grad():
        images = generator(values["z"], values["c"])
        logits = discriminator(values["x"], values["c"])
    for found, expected in ((images, values["image_const_noise"]), (logits, values["logits"])):
        assert (found - expected).abs().max() <= 1e-4 * expected.abs().max()


def test_a_converted_snapshot_is_a_folder_that_load_gan_reads(golden, tmp_path):
    convert_snapshot(golden / "network_snapshot_16.pkl", tmp_path / "gan", [3, 5])
    gan = load_gan(tmp_path / "gan", "cpu")
    generator, discriminator = gan_of_snapshot(read_snapshot(golden / "network_snapshot_16.pkl"))
    assert gan.classes == [3, 5]
    assert gan.config == generator.config
    assert all(torch.equal(gan.state[name], weight) for name, weight in generator.state_dict().items())
    assert gan.discriminator.config == discriminator.config
    weights = gan.discriminator.state_dict()
    assert all(torch.equal(weights[name], weight) for name, weight in discriminator.state_dict().items())


def test_a_conversion_that_fails_leaves_no_folder(golden, tmp_path):
    with pytest.raises(ValueError, match="2 classes"):
        convert_snapshot(golden / "network_snapshot_16.pkl", tmp_path / "gan", [3])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_binary_protocol_gives_the_same_networks(golden, tmp_path, protocol):
    content = published(golden)
    content["D"].state["hooks"] = {"a set"}
    content["D"].state["weight_gain"] = np.float64(0.5)
    arrays = read_snapshot(written(tmp_path, content, protocol)).arrays
    example = read_snapshot(golden / "network_snapshot_16.pkl").arrays
    assert arrays.keys() == {name for name in example if not name.startswith("G/")}
    assert all(torch.equal(array, example[name]) for name, array in arrays.items())


def test_clamp_half_levels_and_group_are_those_of_the_file(golden, tmp_path):
    half = {f"synthesis.b{size}": {"use_fp16": size > 4} for size in (4, 8, 16)}
    file = written(
        tmp_path,
        published(
            golden,
            {**half, "synthesis.b4.conv1": {"conv_clamp": np.float64(256)}},
            {"b16": {"use_fp16": True}, "b16.conv0": {"conv_clamp": 128}, "b4.mbstd": {"group_size": 2}},
        ),
    )
    generator, discriminator = gan_of_snapshot(read_snapshot(file))
    assert (generator.config.activation_clamp, generator.config.half_levels) == (256.0, 2)
    assert (discriminator.config.activation_clamp, discriminator.config.half_levels) == (128.0, 1)
    assert discriminator.config.mbstd_group == 2


def test_a_file_that_tells_no_sizes_gets_the_usual_group_and_no_clamp(golden, tmp_path):
    snapshot = read_snapshot(written(tmp_path, published(golden)))
    assert snapshot.mbstd_group == 4
    assert snapshot.generator_precision.activation_clamp is None
    assert snapshot.discriminator_precision.half_levels == 0


@pytest.mark.parametrize(
    "attributes",
    [
        {"b4.mbstd": {"group_size": 0}},
        {"b4.mbstd": {"group_size": 2.5}},
        {"b4.mbstd": {"group_size": None}},
        {"b4": {"conv_clamp": -1}},
        {"b4": {"conv_clamp": "256"}},
        {"b4": {"conv_clamp": 1}, "b8": {"conv_clamp": 2}},
    ],
)
def test_senseless_sizes_are_refused(golden, tmp_path, attributes):
    assert read_or_refused(written(tmp_path, published(golden, None, attributes)))


def outline(network, attributes):
    """A file of few layers, of which those of one network have attributes."""
    layers = {
        "G_ema": ["synthesis.b4.conv1", "synthesis.b8.conv0", "synthesis.b8.torgb.affine", "mapping.fc0"],
        "D": ["b16.conv0", "b16.skip", "b8.conv0", "b4.conv"],
    }
    arrays = {name: {f"{layer}.weight": torch.ones(2, 3, 1, 1) for layer in layers[name]} for name in layers}
    return {name: nested(arrays[name], attributes if name == network else {}) for name in layers}


G_COMPUTES_OTHERWISE = [
    ("synthesis.b8.conv0", "activation", "relu"),
    ("synthesis.b8.conv0", "act_gain", 1),
    ("synthesis.b8.conv0", "use_noise", False),
    ("synthesis.b8.torgb.affine", "activation", "lrelu"),
    ("synthesis.b8", "architecture", "resnet"),
    ("synthesis.b4", "use_fp16", True),
    ("mapping.fc0", "activation", "linear"),
    ("mapping.fc0", "lr_multiplier", 1.0),
    ("mapping.fc0", "lr_multiplier", 2**2000),
    ("mapping.fc0", "bias_gain", 1),
    ("mapping.fc0", "weight_gain", np.float64(0.5)),
    ("mapping.embed", "lr_multiplier", 0.01),
]
D_COMPUTES_OTHERWISE = [
    ("b16.conv0", "activation", ["lrelu"]),
    ("b16.skip", "activation", "lrelu"),
    ("b8", "architecture", "skip"),
    ("b8", "use_fp16", True),
    ("b4.mbstd", "num_channels", 5),
    ("b4.conv", "weight_gain", 1.0),
]


@pytest.mark.parametrize(
    ("network", "path", "attribute", "value"),
    [*(("G_ema", *told) for told in G_COMPUTES_OTHERWISE), *(("D", *told) for told in D_COMPUTES_OTHERWISE)],
)
def test_a_file_that_tells_of_another_computation_is_refused(tmp_path, network, path, attribute, value):
    content = outline(network, {path: {attribute: value}})
    with pytest.raises(ValueError, match=rf"network\.pkl.*{attribute} is.*publisher"):
        read_snapshot(written(tmp_path, content))


def test_a_file_may_tell_what_is_computed_or_none_of_it(tmp_path):
    told = {
        "synthesis.b8": {"architecture": "skip", "use_fp16": False},
        "synthesis.b8.conv0": {"activation": "lrelu", "use_noise": True, "act_gain": np.float32(2**0.5)},
        "synthesis.b8.conv1": {"activation": None, "use_noise": None, "lr_multiplier": None},
        "mapping.fc0": {"activation": "lrelu", "lr_multiplier": 0.01, "bias_gain": 0.01},
        "mapping.embed": {"activation": "linear", "lr_multiplier": 1},
    }
    assert read_or_refused(written(tmp_path, outline("G_ema", told))) is None
    told = {"b4.mbstd": {"num_channels": 1, "group_size": 4}, "b16": {"architecture": "resnet", "use_fp16": True}}
    assert read_or_refused(written(tmp_path, outline("D", told))) is None


def test_a_refusal_writes_no_list_that_stands_in_itself_many_times(tmp_path):
    lists = []
    for _ in range(60):
        lists = [lists, lists]
    refusal = read_or_refused(written(tmp_path, outline("G_ema", {"mapping.fc0": {"activation": lists}})))
    assert refusal is not None
    assert len(refusal) < 500


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int8]
)
@pytest.mark.parametrize("layout", ["plain", "transposed", "channels_last", "scalar", "empty", "part"])
def test_arrays_come_back_whatever_their_type_and_strides(tmp_path, dtype, layout):
    plain = torch.arange(48).reshape(2, 3, 2, 4).to(dtype)
    array = {
        "plain": plain,
        "transposed": plain.transpose(0, 3),
        "channels_last": plain.contiguous(memory_format=torch.channels_last),
        "scalar": plain[1, 1, 1, 1].clone(),
        "empty": plain[:, :0],
        "part": plain[1],
    }[layout]
    content = small(Call(torch._utils._rebuild_parameter, array, False, OrderedDict()))
    found = read_snapshot(written(tmp_path, content)).arrays["G_ema/weight"]
    assert found.dtype == dtype
    assert found.is_contiguous()
    assert torch.equal(found, array)


# Each makes the folder `marker`, where Python's own unpickler reads it.
def inst(marker):
    return f"(S'{marker}'\nios\nmkdir\n.".encode()


def obj(marker):
    return f"(cos\nmkdir\nV{marker}\no.".encode()


def by_reduce(marker):
    return f"\x80\x02cos\nmkdir\n(V{marker}\ntR.".encode("latin1")


def by_stack_global(marker):
    name = str(marker).encode()
    return b"\x80\x04\x8c\x02os\x8c\x05mkdir\x93\x8c" + bytes([len(name)]) + name + b"\x85R."


def by_dotted_name(marker):
    name = str(marker).encode()
    return b"\x80\x04\x8c\x07pathlib\x8c\x08os.mkdir\x93\x8c" + bytes([len(name)]) + name + b"\x85R."


def by_eval(marker):
    return pickle.dumps(Call(eval, f"__import__('os').mkdir({str(marker)!r})"), 3)


def by_new_object(marker):
    return b"\x80\x02cfunctools\npartial\ncos\nmkdir\n\x85\x81" + f"(V{marker}\ntR.".encode()


def by_build(marker):
    # The state replaces the function of a partial, which is then called.
    partial = b"\x80\x02cfunctools\npartial\ncbuiltins\nlen\n\x85R"
    return partial + b"(cos\nmkdir\n)}NtbV" + str(marker).encode() + b"\n\x85R."


def by_extension(marker):
    return b"\x80\x02\x82\xf0V" + str(marker).encode() + b"\n\x85R."


def by_a_storage(marker):
    return pickle.dumps(Call(torch.storage._load_from_bytes, by_reduce(marker) + b"\x80\x02K\x01."))


def by_a_member_of_a_network(marker):
    function, arguments = eval, (f"__import__('os').mkdir({str(marker)!r})",)
    return pickle.dumps([torch.ones(2), {"state": Call(function, *arguments)}])


ATTACKS = [inst, obj, by_reduce, by_stack_global, by_dotted_name, by_eval, by_new_object, by_build, by_extension]
ATTACKS += [by_a_storage, by_a_member_of_a_network]


@pytest.fixture
def extension():
    copyreg.add_extension("os", "mkdir", 0xF0)
    yield
    copyreg.remove_extension("os", "mkdir", 0xF0)


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_runs_in_pickle_does_not_run_here(tmp_path, extension, attack):
    marker = tmp_path / "ran"
    try:
        pickle.loads(attack(marker))
    except (TypeError, RuntimeError, ValueError):
        assert attack is by_a_storage, "only a storage that is no storage fails, and after it ran"
    assert marker.is_dir(), "the attack is none"
    marker.rmdir()
    refusal = read_or_refused(written(tmp_path, attack(marker)))
    assert refusal is not None
    assert str(tmp_path / "network.pkl") in refusal
    assert not marker.exists()


@pytest.mark.parametrize("protocol", [2, 4])
def test_the_refusal_names_the_global_and_an_otherwise_good_file_is_no_excuse(golden, tmp_path, protocol):
    marker = tmp_path / "ran"
    content = published(golden)
    content["augment_pipe"] = Call(eval, f"__import__('os').mkdir({str(marker)!r})")
    with pytest.raises(ValueError, match=r"network\.pkl.*builtin.*eval.*nothing was run.*give the \.pkl"):
        read_snapshot(written(tmp_path, content, protocol))
    assert not marker.exists()


def test_each_pickle_of_a_storage_is_guarded(tmp_path):
    marker = tmp_path / "ran"
    raw = storage_bytes(np.ones(2, np.float32))
    starts = [0, *(found + 1 for found in range(len(raw) - 1) if raw[found : found + 3] == b".\x80\x02")]
    assert len(starts) == 5
    for start in starts:
        content = small(tensor(raw[:start] + by_reduce(marker) + raw[start:], 0, (2,), (1,)))
        refusal = read_or_refused(written(tmp_path, content))
        assert refusal is not None
        assert "os.mkdir" in refusal
        assert not marker.exists()


def test_a_storage_names_nothing_but_its_type(tmp_path):
    inner = pickle.dumps(Call(torch.storage._load_from_bytes, b""), 2)
    refusal = read_or_refused(written(tmp_path, small(tensor(inner, 0, (2,), (1,)))))
    assert refusal is not None
    assert "torch.storage._load_from_bytes" in refusal


@pytest.mark.parametrize(
    "body",
    [
        b"\x8c\x0bcollections\x8c\x22OrderedDict.__init__.__globals__  \x93",
        b"\x8c\x0bcollections\x8c\x14OrderedDict.fromkeys\x93",
        b"\x8c\x17collections.OrderedDict\x8c\x08fromkeys\x93",
        b"ccollections\nOrderedDict\n\x8c\x03abc\x85R",
        b"ccollections\nOrderedDict\n\x8c\x03abc\x85\x81",
        b"ccollections\nOrderedDict\n)R}\x8c\x09__class__K\x01sb",
        b"ccollections\nOrderedDict\n}\x8c\x0c__setstate__K\x01sb",
        b"cdnnlib.util\nEasyDict\n)\x81}\x8c\x0c__getattr__K\x01sb",
        b"cdnnlib.util\nEasyDict\n)\x81)R",
        b"ccollections\nOrderedDict\n)R)R",
        b"ccollections\nOrderedDict\n)R)\x81",
        b"ccollections\nOrderedDict\n)}\x92",
        b"}ccollections\nOrderedDict\nNs",
        b"})Ns",
        b"}}Ns",
        b"]K\x01K\x02s",
        b"}K\x01a",
        b"}\x88Ns",
        b"}J\x00\x00\x00\x80Ns",
        b"}\x8a\x05\x00\x00\x00\x80\x00Ns",
        b"cnumpy\ndtype\n\x8c\x01O\x89\x88\x87R",
        b"cnumpy\ndtype\n\x8c\x02f8\x85R(K\x03\x8c\x01>tb",
        b"cnumpy.core.multiarray\nscalar\ncnumpy\ndtype\n\x8c\x02f8\x85RC\x01a\x86R",
        b"cnumpy.core.multiarray\nscalar\n\x8c\x02f8C\x01a\x86R",
        b"ctorch\nFloatStorage\n)R",
        b"ctorch._utils\n_rebuild_parameter\nK\x01\x85R",
        b"ctorch.storage\n_load_from_bytes\n\x8c\x01a\x85R",
        b"ctorch_utils.persistence\n_reconstruct_persistent_obj\n}\x85R",
        b"c__builtin__\nset\nK\x01\x85R",
        b"c_codecs\nencode\n\x8c\x02\xc4\x80\x8c\x06latin1\x86R",
        b"c_codecs\nencode\n\x8c\x01a\x8c\x04zlib\x86R",
        b"c_codecs\ndecode\n",
        b"\x8c\x07storageQ",
        b"P0\n",
        b"\x82\x01",
        b"\x97",
        b"S'\\d'\n",
    ],
)
def test_allowed_globals_do_nothing_but_what_the_layout_needs(tmp_path, body):
    content = pickle.dumps(small(), 4)[:-1]
    assert read_or_refused(written(tmp_path, content + b"\x8c\x01x" + b"Ns.")) is None
    assert read_or_refused(written(tmp_path, content + b"\x8c\x01x" + body + b"s.")) is not None


@pytest.mark.parametrize("name", [".".join(key) for key in GLOBALS])
def test_every_allowed_global_is_inert(name):
    """None of them is what Python has under that name."""
    module, _, attribute = name.rpartition(".")
    stand_in = GLOBALS[module, attribute].call
    assert stand_in.__module__ == "skinsynth.gan.pickles"


VALUES = np.arange(6, dtype=np.float32)


@pytest.mark.parametrize(
    ("raw", "offset", "size", "stride"),
    [
        (storage_bytes(VALUES), 0, (2**40,), (1,)),
        (storage_bytes(VALUES), 0, (2**40,), (0,)),
        (storage_bytes(VALUES), 0, (2**40, 0), (1, 1)),
        (storage_bytes(VALUES), 0, (2**62, 4), (4, 1)),
        (storage_bytes(VALUES), 0, (7,), (1,)),
        (storage_bytes(VALUES), 0, (3,), (2,)),
        (storage_bytes(VALUES), 0, (2, 3), (1, 1)),
        (storage_bytes(VALUES), 5, (2,), (1,)),
        (storage_bytes(VALUES), -1, (2,), (1,)),
        (storage_bytes(VALUES), 2**70, (2,), (1,)),
        (storage_bytes(VALUES), 0, (6,), (-1,)),
        (storage_bytes(VALUES), 0, (-6,), (1,)),
        (storage_bytes(VALUES), 0, (-2, -3), (3, 1)),
        (storage_bytes(VALUES), 0, (2, 3), (3,)),
        (storage_bytes(VALUES), 0, (6.0,), (1,)),
        (storage_bytes(VALUES), 0, ("6",), (1,)),
        (storage_bytes(VALUES), 0, (1,) * 9, (1,) * 9),
        (storage_bytes(VALUES), 0, (0, *[2**14] * 7), (1,) * 8),
        (storage_bytes(VALUES), 0, (0, 2**32), (1, 1)),
        (storage_bytes(VALUES) + b"\x00", 0, (6,), (1,)),
        (storage_bytes(VALUES), 0, [6], [1]),
        (storage_bytes(VALUES, claimed=7), 0, (6,), (1,)),
        (storage_bytes(VALUES, claimed=7, counted=7), 0, (7,), (1,)),
        (storage_bytes(VALUES, claimed=2**40, counted=2**40), 0, (6,), (1,)),
        (storage_bytes(VALUES, claimed=2**70), 0, (6,), (1,)),
        (storage_bytes(VALUES, claimed=-6, counted=-6), 0, (6,), (1,)),
        (storage_bytes(VALUES, counted=-1), 0, (6,), (1,)),
        (storage_bytes(VALUES, kind=b"DoubleStorage"), 0, (6,), (1,)),
        (storage_bytes(VALUES, kind=b"ComplexFloatStorage"), 0, (6,), (1,)),
        (storage_bytes(VALUES, kind=b"PackageImporter"), 0, (6,), (1,)),
        (storage_bytes(VALUES, view=b")"), 0, (6,), (1,)),
        (storage_bytes(VALUES).replace(b"\x88", b"\x89", 1), 0, (6,), (1,)),
        (b"", 0, (6,), (1,)),
        (b"PK\x03\x04" + bytes(100), 0, (6,), (1,)),
    ],
)
def test_sizes_that_the_bytes_do_not_bear_out_are_refused(tmp_path, raw, offset, size, stride):
    honest = small(tensor(storage_bytes(VALUES), 0, (2, 3), (3, 1)))
    assert torch.equal(read_snapshot(written(tmp_path, honest)).arrays["G_ema/weight"], torch.arange(6.0).reshape(2, 3))
    assert read_or_refused(written(tmp_path, small(tensor(raw, offset, size, stride)))) is not None


def many_networks_in_one():
    """Each module stands twice in the one above: 2**40 modules, if all were visited."""
    module = Module({"weight": torch.ones(1)})
    for _ in range(40):
        module = Module({}, modules={"left": module, "right": module})
    return pickle.dumps({"G_ema": module, "D": module})


def one_storage_often():
    array = torch.ones(1000)
    parameter = tensor(storage_bytes(np.ones(10**5, np.float32)), 0, (10**5,), (1,))
    return pickle.dumps(small(D=Module({f"w{number}": parameter for number in range(900)}), x=array))


def exponential_hash():
    return b"\x80\x04})" + b"\x94h\x00\x86" + b"".join(b"\x94h" + bytes([n]) + b"\x86" for n in range(1, 90)) + b"Ns."


INSTRUCTIONS_OF_A_BOMB = 5_000
BOMBS = {
    "a deep tuple as a key": lambda: b"\x80\x04})" + b"\x85" * (INSTRUCTIONS_OF_A_BOMB - 10) + b"Ns.",
    "a key hashed 2**90 times": exponential_hash,
    "a set's deep member": lambda: b"\x80\x04\x8f()" + b"\x85" * (INSTRUCTIONS_OF_A_BOMB - 10) + b"\x90.",
    "deep lists": lambda: (
        b"\x80\x02" + b"]" * (INSTRUCTIONS_OF_A_BOMB // 2 - 10) + b"a" * (INSTRUCTIONS_OF_A_BOMB // 2 - 10) + b"."
    ),
    "endless marks": lambda: b"\x80\x02" + b"(" * 100_000,
    "a memo number": lambda: b"\x80\x02Nr\xff\xff\xff\xff.",
    "a text's length": lambda: b"\x80\x04\x8d" + b"\xff" * 7 + b"\x7f.",
    "bytes' length": lambda: b"\x80\x04\x8e" + b"\xff" * 7 + b"\x0f.",
    "a negative length": lambda: b"\x80\x04\x8e" + b"\xff" * 8 + b".",
    "an array's length": lambda: b"\x80\x05\x96" + b"\xff" * 7 + b"\x0f.",
    "a frame's length": lambda: b"\x80\x04\x95" + b"\xff" * 8 + b".",
    "a long integer": lambda: b"\x80\x02\x8b\xff\xff\xff\x7f.",
    "a decimal integer": lambda: b"\x80\x02I" + b"9" * 10**6 + b"\n.",
    "a line that never ends": lambda: b"\x80\x02c" + b"a" * 10**6,
    "modules within modules": many_networks_in_one,
    "one storage in many arrays": one_storage_often,
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_bombs_cost_neither_time_nor_memory(tmp_path, monkeypatch, bomb):
    # The checks of shapes, which only tests have on, make an instruction a hundred times as slow.
    monkeypatch.setattr("skinsynth.gan.pickles.MOST_INSTRUCTIONS", INSTRUCTIONS_OF_A_BOMB)
    file = written(tmp_path, BOMBS[bomb]())
    tracemalloc.start()
    began = time.process_time()
    refusal = read_or_refused(file)
    seconds, (_, peak) = time.process_time() - began, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert refusal is not None
    assert seconds < 20
    assert peak < 3e7


@pytest.mark.slow
def test_the_deepest_file_does_not_end_the_process(tmp_path):
    """In a process of its own, without the checks of shapes: Python's unpickler overflows the stack at such a key."""
    file = written(tmp_path, b"\x80\x04})" + b"\x85" * (MOST_INSTRUCTIONS - 10) + b"Ns.")
    script = "import sys; from pathlib import Path; from skinsynth.gan.snapshot import read_snapshot; "
    script += "read_snapshot(Path(sys.argv[1]))"
    done = subprocess.run([sys.executable, "-c", script, file], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 1
    assert "neither a text nor an integer" in done.stderr.splitlines()[-1]


def test_a_file_beyond_the_limit_is_not_read(tmp_path, monkeypatch):
    file = written(tmp_path, small())
    monkeypatch.setattr("skinsynth.gan.snapshot.LARGEST_FILE", file.stat().st_size - 1)
    with pytest.raises(ValueError, match="larger than"):
        read_snapshot(file)


def test_a_module_within_itself_is_refused(tmp_path):
    parent = Module({"weight": torch.ones(1)})
    content = pickle.dumps(small(D=parent), 4)
    assert read_or_refused(written(tmp_path, content)) is None
    # The dictionary of D's modules is remembered, D is too: D becomes a module of its own.
    cyclic = b"\x80\x04}\x94(\x8c\x01Dctorch_utils.persistence\n_reconstruct_persistent_obj\n}("
    cyclic += b"\x8c\x04type\x8c\x05class\x8c\x0aclass_name\x8c\x01a\x8c\x05state}("
    cyclic += b"\x8c\x0b_parameters}\x8c\x08_buffers}\x8c\x08_modules}\x94uu\x85R\x94"
    cyclic += b"\x8c\x05G_emah\x02\x8c\x01xh\x01\x8c\x04selfh\x02s"
    refusal = read_or_refused(written(tmp_path, cyclic + b"u."))
    assert refusal is not None
    assert "within itself" in refusal


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "cut off"),
        (b"this is a text", "damaged"),
        (b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "not carried out|damaged"),
        (b"PK\x03\x04" + bytes(100), "not carried out|damaged"),
        (pickle.dumps(([1], [2], [3])), "TensorFlow"),
        (b"\x80\x03cdnnlib.tflib.network\nNetwork\n)\x81", "TensorFlow"),
        (pickle.dumps([1, 2]), "no dictionary"),
        (pickle.dumps({}), "no network D"),
        (pickle.dumps({"D": 1, "G_ema": 2}), "D is no network"),
        (pickle.dumps({"D": None, "G_ema": None}), "no network D"),
        (pickle.dumps(1.5), "no dictionary"),
    ],
)
def test_files_of_another_kind_are_one_clear_error(tmp_path, content, word):
    with pytest.raises(ValueError, match=rf"network\.pkl.*({word})"):
        read_snapshot(written(tmp_path, content))


def test_both_networks_are_needed(tmp_path):
    for missing in ("D", "G_ema"):
        content = {name: network for name, network in small().items() if name != missing}
        with pytest.raises(ValueError, match=f"no network {missing}"):
            read_snapshot(written(tmp_path, content))
    with pytest.raises(FileNotFoundError, match=r"none\.pkl"):
        read_snapshot(tmp_path / "none.pkl")


@pytest.mark.parametrize(
    "part",
    [
        Module({"weight.x": torch.ones(1)}),
        Module({"weight\n": torch.ones(1)}),
        Module({"w" * 65: torch.ones(1)}),
        Module({"weight": "text"}),
        Module({"weight": torch.ones(1025, 1)}),
        Module({"weight": torch.ones(1, 2**15)}),
        Module({}, modules={"b2048": Module({"weight": torch.ones(1)})}),
        Module({}, modules={"b4": torch.ones(1)}),
        Module({}, _parameters=[]),
        Module({f"weight{number}": torch.ones(1) for number in range(1001)}),
    ],
)
def test_parts_that_no_published_network_has_are_refused(tmp_path, part):
    assert read_or_refused(written(tmp_path, small(D=part))) is not None


def test_arrays_of_no_stylegan_are_a_clear_error_when_a_network_is_made_of_them(golden, tmp_path):
    with pytest.raises(ValueError, match="StyleGAN2"):
        gan_of_snapshot(read_snapshot(written(tmp_path, small())))
    scalar = published(golden)
    scalar["G_ema"].state["_modules"]["synthesis"].state["_modules"]["b8"].state["_modules"]["conv1"].state[
        "_parameters"
    ]["weight"] = torch.ones([])
    with pytest.raises(ValueError, match="StyleGAN2"):
        gan_of_snapshot(read_snapshot(written(tmp_path, scalar)))


def test_source_texts_are_not_kept(golden, tmp_path):
    snapshot = read_snapshot(written(tmp_path, published(golden)))
    assert MODULE_SOURCE in (tmp_path / "network.pkl").read_text("latin1")
    assert MODULE_SOURCE not in repr(snapshot)


@pytest.mark.slow
def test_a_file_cut_anywhere_is_refused(golden, tmp_path):
    whole = pickle.dumps(small(), 4)
    assert read_or_refused(written(tmp_path, whole)) is None
    example = (golden / "network_snapshot_16.pkl").read_bytes()
    cuts = [whole[:end] for end in range(0, len(whole), 5)] + [example[:end] for end in range(0, len(example), 49_999)]
    for cut in cuts:
        assert read_or_refused(written(tmp_path, cut)) is not None


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_file_with_wrong_bytes_is_read_or_refused_but_nothing_else(tmp_path, protocol):
    whole = pickle.dumps(small(x=np.float64(2), y={"a"}, z=EasyDict(a=1)), protocol)
    draw = np.random.default_rng(0)
    outcomes = set()
    for _ in range(200):
        damaged = bytearray(whole)
        for place in draw.integers(len(whole), size=draw.integers(1, 4)):
            damaged[place] = draw.integers(256)
        outcomes.add(read_or_refused(written(tmp_path, bytes(damaged))) is None)
    assert outcomes == {True, False}


@pytest.mark.slow
def test_the_example_with_wrong_bytes_is_read_or_refused_but_nothing_else(golden, tmp_path):
    whole = (golden / "network_snapshot_16.pkl").read_bytes()
    draw = np.random.default_rng(1)
    for _ in range(6):
        damaged = bytearray(whole)
        damaged[draw.integers(len(whole))] ^= 1 << draw.integers(8)
        began = time.process_time()
        read_or_refused(written(tmp_path, bytes(damaged)))
        assert time.process_time() - began < 30


def test_bytes_after_the_pickle_are_refused_and_not_carried_out(tmp_path):
    refusal = read_or_refused(written(tmp_path, pickle.dumps(small()) + by_reduce(tmp_path / "ran")))
    assert refusal is not None
    assert "follow" in refusal
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("number", [0, 1, 6, 255])
def test_unknown_protocols_are_refused(tmp_path, number):
    whole = pickle.dumps(small(), 4)
    refusal = read_or_refused(written(tmp_path, whole[:1] + bytes([number]) + whole[2:]))
    assert refusal is not None
    assert f"protocol is {number}" in refusal


def test_small_integers_are_keys_as_texts_are(tmp_path):
    assert read_or_refused(written(tmp_path, small(x={0: None, -(2**31) + 1: None, 2**31 - 1: None, "": None}))) is None


def test_a_text_within_a_storage_that_is_read_often_is_refused(tmp_path):
    system = {"little_endian": True, "text": "a" * 10_000}
    raw = storage_bytes(VALUES).replace(pickle.dumps({"little_endian": True}, 2), pickle.dumps(system, 2))
    load, head = b"ctorch.storage\n_load_from_bytes\n", pickle.dumps(small(), 2)[:-1] + b"X\x01\x00\x00\x00x]("
    once = head + load + b"B" + struct.pack("<I", len(raw)) + raw + b"\x85q\xf0R"
    assert read_or_refused(written(tmp_path, once + b"es.")) is None
    refusal = read_or_refused(written(tmp_path, once + (load + b"h\xf0R") * 9 + b"es."))
    assert refusal is not None
    assert "copies texts" in refusal


def test_a_text_that_is_encoded_often_is_refused(tmp_path):
    encode, head = b"c_codecs\nencode\n", pickle.dumps(small(), 2)[:-1] + b"X\x01\x00\x00\x00x]("
    once = head + encode + b"X" + struct.pack("<I", 10_000) + b"a" * 10_000 + b"X\x06\x00\x00\x00latin1\x86q\xf0R"
    assert read_or_refused(written(tmp_path, once + b"es.")) is None
    refusal = read_or_refused(written(tmp_path, once + (encode + b"h\xf0R") * 9 + b"es."))
    assert refusal is not None
    assert "copies texts" in refusal
