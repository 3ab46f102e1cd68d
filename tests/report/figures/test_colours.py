from spinbench.report.figures.colours import colour_map, shade_by_setting

DRAFTERS = ["prompt-lookup", "small", "large"]


def test_a_fixed_method_has_its_drafters_colour() -> None:
    colours = colour_map(["plain", "fixed small", "prompt lookup", "spin"], DRAFTERS)
    assert colours["fixed small"] == colours["small"]
    assert colours["prompt lookup"] == colours["prompt-lookup"]
    assert len(set(colours.values())) == 5  # plain, small, large, lookup, spin


def test_colours_do_not_depend_on_the_order_of_methods() -> None:
    methods = ["plain", "spin", "ucb", "hf generate", "exp3", "epsilon-greedy"]
    assert colour_map(methods, DRAFTERS) == colour_map(methods[::-1], DRAFTERS)
    assert colour_map(["spin"], DRAFTERS)["spin"] == colour_map(methods, DRAFTERS)["spin"]


def test_settings_of_one_method_are_told_apart_by_hatch() -> None:
    hatches = shade_by_setting(
        [("spin", "spin packed"), ("plain", "plain"), ("spin", "spin padded"), ("spin", "spin packed")]
    )
    assert hatches["spin packed"] != hatches["spin padded"]
    assert hatches["plain"] == hatches["spin packed"] == ""
