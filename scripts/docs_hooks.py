"""Pages link to the sources beside them, which are no part of the site: there such a link is its text alone."""
import re

SOURCE = re.compile(r"\[([^\]]+)\]\(\.\./[^)]*\)")


def on_page_markdown(markdown, page, **_):
    if page.file.src_uri.count("/") == 0:
        return SOURCE.sub(r"`\1`", markdown)
    return markdown
