"""Writes the pages."""

from docs.reference.pages import FOLDER, PAGES


def main() -> None:
    """Write every page that is made from the code."""
    for name, make in PAGES.items():
        (FOLDER / name).write_text(make(), encoding="utf-8")
        print(f"docs/{name}")


if __name__ == "__main__":
    main()
