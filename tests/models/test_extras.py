"""Libraries that are missing, or installed and broken: one line that says what mends it."""

import sys
from pathlib import Path

import pytest

from collegium import doctor
from collegium.errors import RequestError
from collegium.utils.extras import broken_torchvision, import_extra


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A torchvision for another build of torch."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        monkeypatch.delitem(sys.modules, name)
    (tmp_path / "torchvision").mkdir()
    source = "raise RuntimeError('operator torchvision::nms does not exist')"
    (tmp_path / "torchvision/__init__.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))


def test_a_broken_torchvision_is_recognised_and_mended(broken: None) -> None:
    said = broken_torchvision()
    assert "installed but broken beside torch" in said
    assert "nms does not exist" in said
    assert "pip uninstall torchvision" in said
    with pytest.raises(RequestError, match="broken beside torch"):
        import_extra("torchvision")
    checks = {check.name: check for check in doctor.examine()}
    assert not checks["extra torchvision"].sound
    assert "pip uninstall torchvision" in checks["extra torchvision"].found


@pytest.mark.parametrize("extra", ["timm", "torchvision", "hf", "onnx", "hub"])
def test_a_missing_library_is_named_with_its_extra(
    extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert broken_torchvision() == ""
    with pytest.raises(RequestError) as refused:
        import_extra(extra)
    assert f'pip install "collegium[{extra}]"' in str(refused.value)
