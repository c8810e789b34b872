"""`--accept-license` of every command."""

from setmatch.cli import main
from setmatch.models.weights import terms


def test_the_option_accepts_terms_for_the_process(monkeypatch, capsys):
    monkeypatch.setattr(terms, "_ACCEPTED", set())
    assert main(["models", "--accept-license", "objects365"]) == 0
    terms.require_accepted(terms.OBJECTS365, "weights.pth", None)


def test_an_unknown_license_is_one_line_with_the_nearest_name(capsys):
    assert main(["models", "--accept-license=object365"]) == 2
    error = capsys.readouterr().err
    assert "objects365" in error
    assert error.count("\n") == 1
