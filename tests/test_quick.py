"""`make quick` runs the tests that go with a change, and no others."""

from . import quick

TESTS = {
    "tests/test_strengths.py": "from timecli.editing import compiling, strengths",
    "tests/test_plan.py": "from timecli.editing import compiling",
    "tests/test_docs.py": "",
}


def test_a_module_goes_with_the_tests_that_import_it_or_have_its_name() -> None:
    assert quick.tests_of("timecli/editing/strengths.py", TESTS) == ["tests/test_strengths.py"]
    assert quick.tests_of("timecli/editing/compiling.py", TESTS) == ["tests/test_strengths.py", "tests/test_plan.py"]
    assert quick.tests_of("timecli/commands/plan.py", TESTS) == ["tests/test_plan.py"]
    assert quick.tests_of("timecli/text/compiling.py", TESTS) == [], "the control: another room"


def test_tests_go_with_themselves_and_pages_with_what_reads_them() -> None:
    assert quick.tests_of("tests/test_plan.py", TESTS) == ["tests/test_plan.py"]
    assert quick.tests_of("docs/files.md", TESTS) == ["tests/test_docs.py"]
    assert quick.tests_of("docs/demo.png", TESTS) == []
