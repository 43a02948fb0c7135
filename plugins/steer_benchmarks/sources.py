"""Where prompt files are published."""

from steer.plugin import PromptFile

RAW = "https://raw.githubusercontent.com"


def on_github(repository: str, commit: str, path: str, license: str, sha256: str = "", git: str = "") -> PromptFile:
    """Return a file of a repository on GitHub at one commit.

    Args:
        repository: ``OWNER/NAME``.
        commit: 40 digits.
        path: within the repository.
        license: as the repository states it.
        sha256: of the file; or
        git: its id as a blob.
    """
    name, url = path.rpartition("/")[2], f"{RAW}/{repository}/{commit}/{path}"
    return PromptFile(name, url, repository, license, sha256=sha256, git=git)
