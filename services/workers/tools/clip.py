"""Long texts, clipped for a model or a log."""


def clip(text: str, limit: int = 30_000) -> str:
    """Keep the head and the tail of a text over `limit` characters; a line between says what is gone."""
    if len(text) <= limit:
        return text
    head, tail = text[: limit // 2], text[-(limit // 2) :]
    return f"{head}\n[... {len(text) - len(head) - len(tail)} characters left out ...]\n{tail}"


def line(text: str, limit: int = 200) -> str:
    """Fold a text into one line of at most `limit` characters."""
    folded = " ".join(text[: limit * 4].split())
    return folded if len(folded) <= limit else folded[: limit - 1] + "…"
