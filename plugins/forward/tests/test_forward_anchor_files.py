"""Files with trust anchors: the forms of unbound, Knot Resolver, BIND and IANA."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corepy.dns.names import from_text
from corepy_forward.validation.anchor import (
    BUILT_IN,
    ROOT_ANCHORS,
    Configured,
    ds_of,
    key_tag,
    matches,
)
from corepy_forward.validation.anchor_files import MOST_ANCHORS, parse, read_anchor_file
from corepy_forward.validation.anchor_records import AnchorError

KEY_2017 = (
    "AwEAAaz/tAm8yTn4Mfeh5eyI96WSVexTBAvkMgJzkKTOiW1vkIbzxeF3+/4RgWOq7HrxRixHlFlExOLAJr5emLvN7SWX"
    "gnLh4+B5xQlNVz8Og8kvArMtNROxVQuCaSnIDdD5LKyWbRd2n9WGe2R8PzgCmr3EgVLrjyBxWezF0jLHwVN8efS3rCj/"
    "EWgvIWgb9tarpVUDK/b58Da+sqqls3eNbuv7pr+eoZG+SrDK6nWeL3c6H5Apxz7LjVc1uTIdsIXxuOLYA4/ilBmSVIzu"
    "DWfdRUfhHdY6+cn8HFRm+2hM8AnXGXws9555KrUB5qihylGa8subX2Nn6UwNR1AkUTV74bU="
)
