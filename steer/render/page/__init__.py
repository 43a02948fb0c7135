"""The page that shows rendered folders, in static files that need no server and no network."""

from steer.render.page.build import Page, build_page, check_page

__all__ = ["Page", "build_page", "check_page"]
