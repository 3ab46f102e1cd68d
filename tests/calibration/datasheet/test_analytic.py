"""Rooflines: the datasheets can be read, and the times are what a pencil gives."""

import pytest

from spinbench.calibration.datasheet.analytic import Roofline, analytic_profile, pass_shape
from spinbench.calibration.datasheet.device import device_names, read_device
from spinbench.calibration.fitting.fit import fit_cost_model
from spinbench.calibration.fitting.score import score_profile
from spinbench.calibration.profile.meta import DrafterMeta
from spinbench.calibration.profile.plan import ProfileLimits
from spinbench.calibration.profile.point import PassPoint
from spinbench.calibration.profile.profile_file import Profile
from spinbench.control.costs.job_shape import PassShape
from spinbench.errors import UserError
from spinbench.models.model_shape import SHAPES, find_shape
from tests.calibration.made_profile import meta

ONE_TOKEN = PassShape(num_requests=1, num_tokens=1, num_cells=0, num_keys=0, num_head_rows=1)
LIMITS = ProfileLimits(8, 512, 512, 4)
DRAFTERS = [
    DrafterMeta(name="llama-68m-shape", kind="model", model="llama-68m-shape"),
    DrafterMeta(name="prompt_lookup", kind="prompt_lookup", model=None),
]


@pytest.mark.parametrize("name", device_names())
def test_every_datasheet_says_where_its_figures_are_from(name: str) -> None:
    device = read_device(name)
    assert set(device.sources) == {"memory_bytes", "memory_bandwidth_bytes_per_s", "peak_flops", "link_bytes_per_s"}
    assert all(source.startswith("https://") for source in device.sources.values())
    assert device.flops("bfloat16") > device.flops("float32")
    with pytest.raises(UserError, match=r"no figure for engine.dtype=float64; its datasheet has float16"):
        device.flops("float64")


def test_the_devices_are_those_of_the_paper_and_its_successors() -> None:
    assert device_names() == ["a100_80gb", "h100_sxm", "h200", "l4", "v100_32gb", "v100_32gb_spin"]
    with pytest.raises(UserError, match="device is 'tpu'; it must be this_machine, a100_80gb"):
        read_device("tpu")


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("llama-7b", 6.74e9), ("llama-13b", 13.02e9), ("llama-30b", 32.53e9), ("llama-68m", 68e6), ("llama-265m", 265e6),
        ("llama-616m", 616e6), ("llama-1.1b", 1.1e9), ("llama-1.4b", 1.4e9),
    ],
)  # fmt: skip
def test_shapes_have_as_many_parameters_as_their_names_say(name: str, parameters: float) -> None:
    assert SHAPES[f"{name}-shape"].num_parameters == pytest.approx(parameters, rel=0.03)


def test_names_of_shapes() -> None:
    assert find_shape("llama-7b-shape") is SHAPES["llama-7b-shape"]
    assert find_shape("owner/model") is find_shape("smollm2") is None
    with pytest.raises(UserError, match="there is no shape 'llama-8b-shape'; shapes are llama-7b-shape"):
        find_shape("llama-8b-shape")


def test_decoding_one_token_streams_the_weights() -> None:
    device, shape = read_device("v100_32gb"), SHAPES["llama-7b-shape"]
    seconds = Roofline(device, shape, "float16").pass_s(ONE_TOKEN)
    # all weights but the embedding, two bytes each, at 0.8 x 900 GB/s, and 14 x 32 + 4 launches of 2 us
    weights_s = 2 * shape.macs_per_token / 720e9
    assert seconds == pytest.approx(weights_s + 452 * 2e-6, rel=0.01)
    assert 0.018 < seconds < 0.020


def test_a_long_prefill_is_bound_by_arithmetic() -> None:
    device, shape = read_device("a100_80gb"), SHAPES["llama-13b-shape"]
    work = PassShape(num_requests=1, num_tokens=4096, num_cells=0, num_keys=0, num_head_rows=1)
    # two operations a multiply-add at 0.6 x 312 TFLOP/s
    arithmetic_s = 2 * 4096 * shape.layer_macs / 187.2e12
    assert Roofline(device, shape, "bfloat16").pass_s(work) == pytest.approx(arithmetic_s, rel=0.02)


def test_tensor_parallelism_splits_the_work_and_pays_for_the_exchange() -> None:
    device, shape = read_device("v100_32gb"), SHAPES["llama-30b-shape"]
    one, four = (Roofline(device, shape, "float16", count).pass_s(ONE_TOKEN) for count in (1, 4))
    launches_s = (14 * 60 + 4) * 2e-6
    # 2 x 60 all-reduces of 10 us; their 13 kB move in less than a microsecond
    assert four == pytest.approx((one - launches_s) / 4 + launches_s + 120 * 1e-5, rel=0.01)


def test_attention_is_paid_by_what_is_launched() -> None:
    assert pass_shape(PassPoint("m", "packed", "fit", (4, 0), (5, 3), 2)) == (2, 4, 5 + 9, 8, 2, 1, 0)
    # padded to 3 rows and 5 keys each
    assert pass_shape(PassPoint("m", "padded", "fit", (4, 0), (5, 3), 2)) == (2, 6, 30, 10, 2, 1, 0)
    assert pass_shape(PassPoint("m", "none", "fit", (0,), (3,), 1)) == (1, 3, 0, 0, 1, 1, 0)
    # pieces of 2 keys: 3 and 2 of them, 3 rows each, all merged
    assert pass_shape(PassPoint("m", "decomposed", "fit", (4, 0), (5, 3), 2, 2)) == (2, 4, 30, 10, 2, 1, 15)
    # a window of 1: two calls, of 1 row x 5 keys and 3 x 3
    assert pass_shape(PassPoint("m", "grouped", "fit", (4, 0), (5, 3), 2, 1)) == (2, 4, 14, 8, 2, 2, 0)


def test_a_merge_is_a_kernel_a_layer_and_its_partial_results() -> None:
    device, shape = read_device("v100_32gb"), SHAPES["llama-7b-shape"]
    work = pass_shape(PassPoint("m", "decomposed", "fit", (4095,), (4096,), 1, 1024))
    merged, whole = (Roofline(device, shape, "float16").pass_s(one) for one in (work, work._replace(num_merged_rows=0)))
    # 4 rows of 32 x 128 values of 4 bytes, written and read in each of 32 layers at 0.8 x 900 GB/s; 32 launches of 2 us
    assert merged - whole == pytest.approx(4 * 32 * 128 * 8 * 32 / 0.72e12 + 32 * 2e-6)


def test_slow_attention_costs_more_by_what_attention_takes() -> None:
    device, shape = read_device("v100_32gb_spin"), SHAPES["llama-68m-shape"]
    fused, slow = (device.model_copy(update={"attention_efficiency": share}) for share in (1.0, 0.25))
    work = pass_shape(PassPoint("m", "packed", "fit", (1000,), (1001,), 1))
    before, after = (Roofline(one, shape, "float16").pass_s(work) for one in (fused, slow))
    # 2 layers' keys and values of 768 numbers of 2 bytes, of 1001 tokens read and 1 written, four times rather than once
    kv_s = 2 * 2 * 768 * 2 * (1001 + 1) / 720e9
    assert after - before == pytest.approx(3 * kv_s)


def test_an_analytic_profile_is_fitted_and_scored_like_a_measured_one() -> None:
    shapes = {name: SHAPES[name] for name in ("llama-7b-shape", "llama-68m-shape")}
    tables = analytic_profile(
        read_device("h100_sxm"),
        SHAPES["llama-7b-shape"],
        DRAFTERS,
        shapes,
        dtype="bfloat16",
        limits=LIMITS,
        layouts=["packed", "padded"],
    )
    about = meta(tables).model_copy(
        update={
            "target": "llama-7b-shape",
            "models": tuple(
                meta(tables).models[0].model_copy(update={"name": name, "sha256": None}) for name in shapes
            ),
            "drafters": tuple(DRAFTERS),
        }
    )
    profile = Profile(about, tables)
    costs = fit_cost_model(profile, [drafter.name for drafter in DRAFTERS])
    assert costs.verify_s(1, 0, 100.0) < costs.verify_s(8, 4, 100.0)
    # the laws of the cost model are not a roofline's maxima, but near them
    for score in score_profile(profile):
        if score.what == "job":
            assert score.mape_percent < 5, score
