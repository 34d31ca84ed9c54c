"""A hand at the screen: does what a person does, with a mouse or by keyboard alone, and counts every act."""

import time
from dataclasses import dataclass, field

from playwright.sync_api import Locator, Page

# Which arrow leads on from the link that has the focus; nothing on the one that is meant.
ARROW = """it => {
  const from = document.activeElement;
  if (from === it) return '';
  const cell = (each) => each.closest('td, th'), row = (each) => each.closest('tr');
  const aside = from.compareDocumentPosition(it) & 4 ? 'ArrowRight' : 'ArrowLeft';
  if (!row(it) || row(from) === row(it)) return aside;
  const [x, toX] = [cell(from).cellIndex, cell(it).cellIndex];
  const down = row(from).rowIndex < row(it).rowIndex ? 'ArrowDown' : 'ArrowUp';
  if ([from, it].every((each) => row(each).cells[0].querySelector('a'))) return x ? 'ArrowLeft' : down;
  return x !== toX ? (x < toX ? 'ArrowRight' : 'ArrowLeft') : down;
}"""
FURTHEST = 250  # steps with the Tab key before something counts as out of reach


@dataclass
class Hand:
    """One person's hand in one window. `acts` are clicks, or keys that are not text; `typed` are characters of text."""

    page: Page
    keyboard: bool = False
    acts: int = 0
    typed: int = 0
    notes: dict[str, str] = field(default_factory=dict)
    """What one task leaves for another: the address of a link, for whoever opens it."""
    began: float = field(default_factory=time.perf_counter)
    seconds: float = 0

    def stop(self) -> None:
        """Keep in `seconds` how long the machine took since the hand was made; a person reads and thinks besides."""
        self.seconds = time.perf_counter() - self.began

    def press(self, target: Locator) -> None:
        """Follow a link or press a button."""
        self._on(target)
        if self.keyboard:
            self.key("Enter")

    def write(self, target: Locator, text: str) -> None:
        """Put text into a field, in place of what stands there."""
        self._on(target)
        if target.get_attribute("type") in ("date", "time"):
            # How such a field is typed into differs by the person's language; what counts is the same.
            target.fill(text)
        else:
            if target.input_value():
                self.key("ControlOrMeta+a")
            self.page.keyboard.insert_text(text)
        self.typed += len(text)

    def choose(self, target: Locator) -> None:
        """Choose one of a group of buttons, tick a box, or press a number of a scale."""
        if not self.keyboard:
            target.dispatch_event("click")
            self.acts += 1
            return
        kind, name = target.get_attribute("type"), target.get_attribute("name")
        if kind != "radio":
            self._on(target)
            self.key("Space")
            return
        # The Tab key comes to the group, the arrows to the one that is meant.
        group = self.page.locator(f'input[type=radio][name="{name}"]')
        self._on(group, whole_group=True)
        for _ in range(group.count()):
            if target.is_checked():
                return
            self.key("Space" if target.evaluate("it => document.activeElement === it") else "ArrowDown")
        assert target.is_checked(), f"No arrow key leads to {name}."

    def rate(self, name: str, digit: str) -> None:
        """Give a rating on a scale: press its number, or the key of that number."""
        group = self.page.locator(f'input[type=radio][name="{name}"]')
        if not self.keyboard:
            self.choose(group.and_(self.page.locator(f'[value="{digit}"]')))
            return
        reached = "name => document.activeElement.name === name"
        if self.page.evaluate("document.activeElement === document.body"):
            self._on(group, whole_group=True)
        for _ in range(FURTHEST):
            if self.page.evaluate(reached, name):
                self.key(digit)
                return
            self.key("Tab")
        raise AssertionError(f"The Tab key does not lead to {name} on {self.page.url}.")

    def select(self, target: Locator, value: str) -> None:
        """Choose an option of a list: one act to open it, one for the option."""
        self._on(target)
        target.select_option(value)
        self.acts += 1

    def _on(self, target: Locator, *, whole_group: bool = False) -> None:
        if not self.keyboard:
            target.click()
            self.acts += 1
            return
        target.first.wait_for(state="attached")
        self.page.wait_for_load_state()
        at_the_top = self.page.evaluate("document.activeElement === document.body")
        if at_the_top and target.first.evaluate("it => !!it.closest('main')"):
            # As whoever knows the house does: the first thing the Tab key comes to is the way past the navigation.
            self.key("Tab")
            self.key("Enter")
            self.page.wait_for_function("document.activeElement.id === 'page'")
        if self._by_arrows(target):
            return
        handles = target.element_handles() if whole_group else [target.element_handle()]
        reached = "them => them.includes(document.activeElement)"
        for _ in range(FURTHEST):
            if self.page.evaluate(reached, handles):
                return
            self.key("Tab")
        raise AssertionError(f"The Tab key does not lead to {target} on {self.page.url}.")

    def _by_arrows(self, target: Locator) -> bool:
        """Go to a link in a table of links: the Tab key comes to the table, the arrows to the link."""
        inside = "it => it.tagName.toLowerCase() === 'a' && !!it.closest('[data-arrows]')"
        target = target.first
        if not target.evaluate(inside):
            return False
        handle = target.element_handle()
        for _ in range(FURTHEST):
            if handle.evaluate("it => it.closest('[data-arrows]').contains(document.activeElement)"):
                break
            self.key("Tab")
        for _ in range(FURTHEST):
            way = handle.evaluate(ARROW)
            if not way:
                return True
            self.key(way)
        raise AssertionError(f"The arrows do not lead to {target} on {self.page.url}.")

    def key(self, key: str) -> None:
        """Press a key."""
        self.page.keyboard.press(key)
        self.acts += 1
