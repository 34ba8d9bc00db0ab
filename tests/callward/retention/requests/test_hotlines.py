"""Lists of hotlines: what comes with callward, what a workspace adds, and what is refused."""

import pytest

from callward.errors import UsageProblem
from callward.retention.requests import hotlines

GOOD = 'format_version = 1\nversion = "1"\nsource = "made up"\n[[numbers]]\nname = "A"\nnumber = "+13035550199"\n'


def test_the_lists_of_the_workspace_count_beside_those_that_come_with_callward(workspace):
    site = workspace("asterisk")
    before = hotlines.numbers(hotlines.lists(site.settings))
    (site.folder / "hotlines").mkdir()
    (site.folder / "hotlines" / "central.toml").write_text(GOOD)
    after = hotlines.lists(site.settings)
    assert before and set(hotlines.numbers(after)) == {*before, "+13035550199"}
    assert all(one.version and one.source for one in after)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nonsense", "TOML"),
        (GOOD.replace("format_version = 1", "format_version = 2"), "format_version"),
        (GOOD.replace('version = "1"\nsource', 'version = ""\nsource'), "text"),
        (GOOD.replace("+13035550199", "3035550199"), "number 1"),
        (GOOD.replace('source = "made up"\n', ""), "keys"),
    ],
)
def test_a_list_that_is_wrong_is_refused_without_a_number(tmp_path, text, words):
    path = tmp_path / "list.toml"
    path.write_text(text)
    with pytest.raises(UsageProblem, match=words) as told:
        hotlines.read(path)
    assert "3035550199" not in str(told.value)


def test_a_list_shows_no_number_of_its_own(tmp_path):
    path = tmp_path / "list.toml"
    path.write_text(GOOD)
    assert "303" not in repr(hotlines.read(path))
