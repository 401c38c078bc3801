"""`python -m harness check`, as a person sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
from click.testing import CliRunner

from harness.cassettes import file
from harness.cassettes.command import check
from tests.fakes.cassettes import cassette, interaction

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result


def run(*arguments: object) -> Result:
    return CliRunner().invoke(check, [str(each) for each in arguments])


def test_files_and_folders_that_are_fine_are_summed_up(tmp_path: Path) -> None:
    file.write(tmp_path / "one.yaml", cassette())
    (tmp_path / "below").mkdir()
    file.write(tmp_path / "below" / "two.yml", cassette(interaction(), interaction(2)))
    (tmp_path / "note.txt").write_text("no cassette")
    result = run(tmp_path)
    assert result.exit_code == 0
    assert result.output == (
        "2 files, 0 problems, 0 incomplete, 2 format 1, 3 interactions, 2 origin simulator\n"
    )


def test_each_problem_has_a_line(tmp_path: Path) -> None:
    path = tmp_path / "one.yaml"
    file.write(path, cassette())
    path.write_bytes(path.read_bytes().replace(b"at: [0.1, 0.2]", b"at: [0.2, 0.1]"))
    result = run(path)
    assert result.exit_code == 1
    first, last = result.output.splitlines()
    assert first.startswith(f"{path}: interactions[0].response.stream.at[1]: is 0.1; it should be")
    assert last == "1 file, 1 problem, 0 incomplete"


def test_an_incomplete_cassette_is_told_and_is_no_problem(tmp_path: Path) -> None:
    killed, cut = tmp_path / "a.yaml", tmp_path / "b.yaml"
    file.write(
        killed, attrs.evolve(cassette(), about=attrs.evolve(cassette().about, complete=False))
    )
    one = interaction()
    stream = attrs.evolve(one.response.stream, complete=False, end="reset")
    file.write(cut, cassette(attrs.evolve(one, response=attrs.evolve(one.response, stream=stream))))
    result = run(tmp_path)
    assert result.exit_code == 0
    assert result.output.splitlines()[:2] == [
        f"{killed}: incomplete, which is no problem: the recorder was ended before its time",
        f"{cut}: incomplete, which is no problem: 1 answer is not whole (number 1)",
    ]


def test_a_path_that_is_not_there_is_a_mistake_of_the_caller(tmp_path: Path) -> None:
    assert run(tmp_path / "none").exit_code == 2
    assert run().exit_code == 2
