"""Cases from files: one reader a format, one function that finds the right one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ..case import Case
from ..errors import CaseError, DosePredictionError, NoStructuresError
from ..files import check_file_name
from ..findings import Finding
from .openkbp import is_openkbp, read_openkbp
from .vmat import is_vmat, read_vmat

__all__ = ["case_name", "find_cases", "read_case"]


def case_name(path: Path) -> str:
    """How outputs call a case: the folder's name, or the file's without its suffix.

    A path that cannot be read has a name too, for messages; `read_case` refuses a name that no
    folder of results can have.
    """
    try:
        resolved = path.resolve()
        name = resolved.name if resolved.is_dir() else resolved.stem.removesuffix(".nii")
    except (OSError, ValueError, RuntimeError):  # too long; NUL; a loop of links
        name = path.stem
    return name.encode("utf-8", "backslashreplace").decode()


def read_case(path: str | Path, ct_alone: bool = False) -> Case:
    """Read a case: a NIfTI or DICOM folder, an OpenKBP CSV folder, or an npz file of OpenKBP or of
    the VMAT diffusion project.

    Args:
        ct_alone: whether a CT that nothing was contoured on will do, too: a DICOM series, or one
            image file.

    Raises:
        CaseError: nothing is there, it is of no known kind, or it cannot be right.
        GeometryError: an impossible grid.
    """
    path = Path(path)
    _require_there(path)
    check_file_name(case_name(path), f"the case {path}", CaseError, most_bytes=255)
    try:
        case = _read(path, ct_alone)
    except (DosePredictionError, OSError, ImportError):
        raise
    except MemoryError as exception:
        raise CaseError(
            f"{path} needs more memory than there is: close other programs, or crop the case."
        ) from exception
    except Exception as exception:  # what a damaged file makes of the readers below
        reason = " ".join(f"{type(exception).__name__}: {exception}".split())
        raise CaseError(
            f"{path} cannot be read, it is damaged or of an unknown kind ({reason[:300]}). Copy or "
            "export it again."
        ) from exception
    if not case.structures and not ct_alone:
        raise NoStructuresError(f"{case.name} has no structures: at least a target is needed.")
    return _in_pelvic_terms(case)


def _in_pelvic_terms(case: Case) -> Case:
    """See `totalsegmentator`."""
    from .totalsegmentator import in_pelvic_terms, is_totalsegmentator

    if not is_totalsegmentator(case.structures):
        return case
    structures, findings = in_pelvic_terms(case.structures)
    return replace(case, structures=structures, findings=(*case.findings, *findings))


def _read(path: Path, ct_alone: bool) -> Case:
    """The case by the reader of its format."""
    if is_vmat(path):
        return read_vmat(path)
    if is_openkbp(path):
        return read_openkbp(path)
    # Imported here: the headless trainer reads OpenKBP without nibabel or SimpleITK.
    from .nifti import is_case_folder, read_case_folder

    if is_case_folder(path):
        return read_case_folder(path)
    from .dicom import is_dicom, read_dicom, read_images

    if is_dicom(path):
        try:
            return read_dicom(path).case
        except NoStructuresError:
            if not ct_alone:
                raise
        images, origin = read_images(path)
        return Case(case_name(path), images.volume, {}, findings=images.findings, origin=origin)
    from .volumes import is_volume_file, read_volume

    if ct_alone and path.is_file() and is_volume_file(path):
        findings: list[Finding] = []
        ct = read_volume(path, findings)
        return Case(case_name(path), ct, {}, findings=tuple(findings))
    raise CaseError(
        f"{path} is no case: expected a folder with ct.nii.gz and one mask a structure, a "
        "DICOM folder (CT and RTSTRUCT), an OpenKBP folder (ct.csv …), or an npz file of OpenKBP "
        "or of the VMAT diffusion project."
    )


def _require_there(path: Path, kind: str = "case") -> None:
    """Refuse what is not there, and names that no output could be called after.

    Raises:
        CaseError: nothing is there, or its name is not UTF-8, too long, or a loop of links.
    """
    try:
        str(path.resolve()).encode("utf-8")
        path.stat()
    except UnicodeEncodeError as exception:
        name = ascii(str(path))
        raise CaseError(f"The name {name} is not UTF-8 text: rename it.") from exception
    except FileNotFoundError as exception:
        message = f"There is no {kind} {path}: no such file or folder."
        raise CaseError(message) from exception
    except (OSError, ValueError, RuntimeError) as exception:  # too long; NUL; a loop of links
        reason = getattr(exception, "strerror", None) or str(exception)
        shown = str(path).encode("unicode_escape").decode()
        raise CaseError(f"There is no {kind} {shown[:300]}: {reason}.") from exception


def find_cases(path: Path) -> list[Path]:
    """The case at a path, or the cases in a folder, by name: its subfolders and npz files.

    Raises:
        CaseError: nothing is there, or nothing that could be a case.
    """
    _require_there(path, "folder of cases")
    from .dicom import is_dicom
    from .nifti import is_case_folder

    if is_openkbp(path) or is_case_folder(path) or is_dicom(path) or path.is_file():
        return [path]
    entries = sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))
    cases = [entry for entry in entries if entry.is_dir() or entry.suffix == ".npz"]
    if not cases:
        raise CaseError(f"{path} holds no cases: expected a folder or an npz file for each.")
    return cases
