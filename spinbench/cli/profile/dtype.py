"""The number format of a profile, as far as it is known without looking at this machine."""

THIS_MACHINE = "this_machine"
DATASHEET_DTYPE = "bfloat16"
"""What `auto` means for a device that is not here: all that come with spinbench have a figure for half precision."""


def profile_dtype(dtype: str, device: str) -> str:
    """`dtype`, or what `auto` means on a datasheet; of this machine `auto` stays."""
    return DATASHEET_DTYPE if dtype == "auto" and device != THIS_MACHINE else dtype
