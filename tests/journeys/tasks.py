"""What everybody does in a week, each task on the demo's pages as its person does it: a step from Today on.

A coordinator's Monday with forty participants, an assessor's afternoon with somebody's week 18, a participant on a
telephone, a monitor's visit, an investigator with a serious event. Every task says when it is done by what the page
then shows. They are done in this order, in one database.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from playwright.sync_api import Browser, Locator, Page, expect

from app.demo import PASSWORD, STUDY
from tests.journeys.hand import Hand

PARTICIPANT = "participant"  # who opens a link, and signs in nowhere


@dataclass(frozen=True)
class Task:
    """What is done, by whom (the username in the demo), and how."""

    name: str
    who: str
    do: Callable[[Hand], None]


def _main(hand: Hand) -> Locator:
    return hand.page.locator("main")


def _link(hand: Hand, text: str | re.Pattern[str], within: str = "main") -> Locator:
    return hand.page.locator(within).get_by_role("link", name=text).first


def _button(hand: Hand, text: str | re.Pattern[str]) -> Locator:
    return _main(hand).get_by_role("button", name=text).first


def _named(hand: Hand, name: str, value: str | None = None) -> Locator:
    return _main(hand).locator(f'[name="{name}"]' + (f'[value="{value}"]' if value else "")).first


def _leaves(page: Page, here: str) -> None:
    page.wait_for_url(lambda url: url != here)


def _arrived(page: Page, where: str) -> None:
    page.wait_for_url(re.compile(where))


def find_participant(hand: Hand, code: str = "R-0050") -> None:
    """By code, from wherever one is."""
    if hand.keyboard:
        hand.page.keyboard.press("/")
        hand.acts += 1
    else:
        hand.press(hand.page.locator("[data-search]"))
    hand.page.keyboard.insert_text(code)
    hand.page.keyboard.press("Enter")
    hand.acts += 1
    hand.typed += len(code)
    _arrived(hand.page, f"participants/{code}")
    expect(hand.page.get_by_role("heading", level=1)).to_contain_text(code)


def screen(hand: Hand) -> None:
    """Somebody new, eligible, with name and telephone."""
    hand.press(_link(hand, "Screen somebody"))
    hand.write(_named(hand, "age"), "46")
    for name in ("english", "main_complaint"):
        hand.choose(_named(hand, name, "yes"))
    for name, text in (("pain_weeks", "26"), ("pain_past_week", "6")):
        hand.write(_named(hand, name), text)
    for name in ("serious_condition", "previous_surgery"):
        hand.choose(_named(hand, name, "no"))
    for name, text in (("given_name", "Kiri"), ("family_name", "Walker"), ("phone", "+61 2 5550 1234")):
        hand.write(_named(hand, f"personal.{name}"), text)
    hand.press(_button(hand, "Screen this person"))
    _arrived(hand.page, r"/participants/R-\d+")


def consent(hand: Hand) -> None:
    """On screen, countersigned at once."""
    hand.press(_link(hand, "Record consent"))
    for name in ("future_contact", "data_sharing"):
        hand.choose(_named(hand, f"options.{name}", "yes"))
    hand.write(_named(hand, "signature"), "Kiri Walker")
    hand.write(_named(hand, "password"), PASSWORD)
    hand.press(_button(hand, "Sign and complete consent"))
    _arrived(hand.page, "done=countersigned")


def randomise(hand: Hand) -> None:
    """Whoever is ready, from Today."""
    hand.press(_link(hand, re.compile("^Randomise R-")))
    hand.write(_named(hand, "password"), PASSWORD)
    hand.press(_button(hand, re.compile("^Randomise R-")))
    expect(hand.page.get_by_role("heading", level=1)).to_contain_text("Randomised. Allocation")


def book(hand: Hand) -> None:
    """An appointment for a visit that is due."""
    hand.press(_main(hand).locator("a[href$='/visits/baseline']").first)
    hand.press(_link(hand, "Book an appointment"))
    hand.write(_named(hand, "time"), "10:30")
    hand.press(_button(hand, "Book it"))
    _arrived(hand.page, "done=")


def enter(hand: Hand) -> None:
    """A questionnaire of a visit that is due."""
    hand.press(_main(hand).locator("a[href$='/visits/baseline']").first)
    hand.press(_main(hand).locator("a[href$='/entries/pain']").last)
    hand.choose(_named(hand, "pain_intensity", "6"))
    hand.write(_named(hand, "pain_bothersomeness"), "5")
    hand.write(_named(hand, "pain_presence"), "60")
    hand.press(_button(hand, re.compile("^Save")))
    _arrived(hand.page, "done=saved")


def enter_on(hand: Hand) -> None:
    """A questionnaire, and on to the next one of the visit."""
    hand.press(_main(hand).locator("a[href$='/visits/baseline']").first)
    hand.press(_main(hand).locator("a[href$='/entries/qol_vas']").last)
    hand.write(_named(hand, "qol"), "60")
    if hand.keyboard:
        hand.key("Control+Enter")
    else:
        hand.press(_button(hand, re.compile("^Save and open")))
    _arrived(hand.page, "done=saved_next")


def sign_visit(hand: Hand) -> None:
    """Everything of a visit that one entered and nobody has signed."""
    hand.press(_link(hand, re.compile(r"^Sign \d+ forms")))
    hand.choose(_named(hand, "meaning", "authorship"))
    hand.write(_named(hand, "password"), PASSWORD)
    hand.press(_button(hand, re.compile(r"^Sign \d+ forms as")))
    _arrived(hand.page, "done=visit_signed")


def sign(hand: Hand) -> None:
    """What one entered and nobody has signed."""
    hand.press(_main(hand).locator("a[href$='/entries/dass21']").first)
    hand.press(_link(hand, "Sign"))
    hand.choose(_named(hand, "meaning", "authorship"))
    hand.write(_named(hand, "password"), PASSWORD)
    hand.press(_button(hand, re.compile("^Sign as")))
    _arrived(hand.page, "done=signed")


def raise_query(hand: Hand) -> None:
    """At an answer that does not agree with its source."""
    find_participant(hand, "R-0047")
    hand.press(_main(hand).locator("a[href$='/week18/entries/pain']").first)
    hand.press(_link(hand, re.compile("Query.*Bothersomeness", re.S)))
    hand.write(_named(hand, "text"), "The paper says 4. Which is right?")
    hand.press(_button(hand, re.compile("Raise|Ask")))
    _arrived(hand.page, "done=|queries")
    expect(hand.page.get_by_text("The paper says 4").first).to_be_visible()


def verify(hand: Hand) -> None:
    """A whole form that agrees with its source, found by its participant."""
    find_participant(hand, "R-0048")
    hand.press(_main(hand).locator("a[href$='/week18/entries/pain']").first)
    hand.press(_button(hand, "All of it agrees with the source"))
    _arrived(hand.page, "done=")


def verify_the_next(hand: Hand) -> None:
    """From Today to the list, the first form of it, and on to the next: which then is what the page shows."""
    hand.press(_link(hand, re.compile("not yet verified")))
    hand.press(_main(hand).locator("tbody a[href*='verifying=']").first)
    hand.press(_button(hand, "All of it agrees with the source"))
    _arrived(hand.page, "done=verified")
    before = hand.page.url
    hand.press(_link(hand, re.compile("^Next: R-"), within="body"))
    hand.page.wait_for_url(lambda url: url != before)
    expect(_button(hand, "All of it agrees with the source")).to_be_visible()
    expect(_link(hand, "To the list", within="body")).to_be_visible()


def answer_query(hand: Hand) -> None:
    """The monitor's, by the site."""
    hand.press(_link(hand, re.compile("wait for an answer|waits for an answer")))
    hand.press(_main(hand).locator("a[href*='/queries/pain_bothersomeness']").first)
    hand.write(_named(hand, "text"), "The form is right: the paper was corrected.")
    hand.press(_button(hand, "Answer"))
    _arrived(hand.page, "done=")


def report_event(hand: Hand) -> None:
    """A serious one, of somebody whose page is open."""
    find_participant(hand, "R-0055")
    hand.press(_link(hand, "Report an adverse event"))
    hand.write(_named(hand, "term"), "Fall with fracture of the wrist")
    hand.write(_named(hand, "onset"), f"{_today(hand)}")
    hand.choose(_named(hand, "severity", "severe"))
    hand.choose(_named(hand, "serious", "yes"))
    hand.choose(_named(hand, "criteria", "hospitalisation"))
    hand.select(_named(hand, "action"), "none")
    hand.select(_named(hand, "outcome"), "recovering")
    hand.write(_named(hand, "narrative"), "Fell at home, was kept for two nights.")
    hand.press(_button(hand, "Report it"))
    _arrived(hand.page, "done=")


def record_contact(hand: Hand) -> None:
    """A call to somebody whose visit is due: reached."""
    hand.press(_link(hand, "R-0050"))
    hand.press(_link(hand, "Contacts"))
    hand.choose(_named(hand, "how", "call"))
    hand.choose(_named(hand, "result", "reached"))
    hand.write(_named(hand, "note"), "Comes on Thursday at two.")
    hand.press(_button(hand, "Write it down"))
    _arrived(hand.page, "done=")


def move_appointment(hand: Hand) -> None:
    """Somebody calls: another time of the same day."""
    hand.press(_main(hand).locator("a[href$='/visits/week26']").first)
    hand.press(_main(hand).locator("a[href*='/appointments/']:not([href$=new])").first)
    hand.press(_main(hand).locator("summary", has_text="Another time"))
    hand.write(_named(hand, "time"), "11:05")
    hand.press(_button(hand, "Move it"))
    _arrived(hand.page, "done=")


def give_link(hand: Hand) -> None:
    """To the questions of a visit that is due, shown as an address."""
    hand.press(_link(hand, "R-0049"))
    hand.press(_link(hand, "Links for this participant"))
    hand.choose(_named(hand, "what", "questions:week26"))
    hand.press(_button(hand, "Make the link"))
    address = hand.page.locator("main code.break")
    expect(address).to_contain_text("/link/")
    hand.notes["link"] = address.inner_text()


def answer_by_link(hand: Hand) -> None:
    """Every question of the visit, one a screen, and sent."""
    hand.page.goto(hand.notes["link"])
    asked, send = hand.page.locator('[name="asked-item"]'), _button(hand, "Send my answers")
    while asked.count():
        fill(hand)
        here = hand.page.url
        if hand.keyboard:
            hand.key("Enter")  # on to the button, and on it
            hand.key("Enter")
        else:
            hand.press(_button(hand, "Next"))
        _leaves(hand.page, here)
    hand.press(send)
    expect(hand.page.get_by_role("heading", level=1)).to_contain_text("Thank you")


# The questions that are shown and have no answer yet, in order: name, type, whether it is a rating scale, its values.
QUESTIONS = """() => {
  const found = new Map();
  for (const each of document.querySelectorAll('main form :is(input[type=radio], input[type=checkbox], input.input)')) {
    if (/__|-/.test(each.name) || !each.value && each.type === 'radio') continue;
    if (each.closest('[data-hidden], [hidden]')) continue;
    const one = found.get(each.name) ?? [each.name, each.type, !!each.closest('[data-scale]'), [], false];
    one[3].push(each.value);
    one[4] ||= /radio|checkbox/.test(each.type) ? each.checked : !!each.value;
    found.set(each.name, one);
  }
  return [...found.values()].filter((one) => !one[4]);
}"""


def fill(hand: Hand) -> None:
    """Answer every question of a form, also those that an answer brings up."""
    while left := hand.page.evaluate(QUESTIONS):
        for name, kind, scale, values, _ in left:
            if scale:
                hand.rate(name, values[len(values) // 3])
            elif kind == "checkbox":
                for value in values[:3]:
                    hand.choose(_named(hand, name, value))
            elif kind == "radio":
                hidden = hand.page.locator("main form [data-hidden]")
                brings = hidden.count() if name == "rmdq_any" else 0
                hand.choose(_named(hand, name, values[0]))
                if brings:  # another question
                    expect(hidden).not_to_have_count(brings)
            else:
                hand.write(_named(hand, name), "5")


def enter_visit(hand: Hand) -> None:
    """Every form of somebody's week 18, one after the other, and then the signature of the visit."""
    hand.press(_main(hand).locator("a[href$='/visits/week18']").first)
    hand.press(_main(hand).locator("a[href$='/entries/pain']").last)
    _arrived(hand.page, "/entries/pain")
    while "/entries/" in hand.page.url:
        fill(hand)
        here = hand.page.url  # the way past the navigation stands in it by now
        if hand.keyboard:
            hand.key("Control+Enter")
        else:
            hand.press(_button(hand, re.compile("^Save and")))
        _leaves(hand.page, here)
    hand.choose(_named(hand, "meaning", "authorship"))
    hand.write(_named(hand, "password"), PASSWORD)
    hand.press(_button(hand, re.compile(r"^Sign \d+ forms as")))
    _arrived(hand.page, "done=visit_signed")


def close_query(hand: Hand) -> None:
    """One that the site has answered well."""
    hand.press(_link(hand, "Queries", "nav"))
    hand.press(_main(hand).locator("a[href*='/queries/pain_intensity']").first)
    hand.press(_button(hand, re.compile("^Close")))
    _arrived(hand.page, "done=")


def sign_casebook(hand: Hand) -> None:
    """Everything of one participant."""
    find_participant(hand, "R-0045")
    hand.press(_link(hand, re.compile("^Casebook of")))
    hand.choose(_named(hand, "meaning", "review"))
    hand.write(_named(hand, "password"), PASSWORD)
    hand.press(_button(hand, re.compile("^Sign as")))
    _arrived(hand.page, "done=")


def code_event(hand: Hand) -> None:
    """The term of the event that was reported."""
    hand.press(_link(hand, "Coding", "nav"))
    hand.press(_link(hand, "Fall with fracture of the wrist"))
    hand.choose(_named(hand, "code", "FRACTURE"))
    hand.press(_button(hand, "Code it"))
    _arrived(hand.page, "done=text_coded")


def judge_event(hand: Hand) -> None:
    """The newest serious one, by the investigator."""
    hand.press(_link(hand, "Safety", "nav"))
    hand.press(_main(hand).locator("a[href*='/safety/events/']").first)
    hand.choose(_named(hand, "relatedness", "unlikely"))
    hand.choose(_named(hand, "expected", "no"))
    hand.write(_named(hand, "words"), "A fall at home.")
    hand.write(_named(hand, "password"), PASSWORD)
    hand.press(_button(hand, re.compile("Sign")))
    _arrived(hand.page, "done=")


def _today(hand: Hand) -> str:
    value = _named(hand, "aware_on").input_value()
    assert value
    return value


TASKS = (
    Task("find a participant", "coordinator", find_participant),
    Task("screen somebody", "coordinator", screen),
    Task("record consent", "coordinator", consent),
    Task("randomise", "coordinator", randomise),
    Task("book an appointment", "coordinator", book),
    Task("move an appointment", "coordinator", move_appointment),
    Task("write down a call", "coordinator", record_contact),
    Task("give a participant a link", "coordinator", give_link),
    Task("answer a visit's questions by link", "participant", answer_by_link),
    Task("fill in a questionnaire", "assessor", enter),
    Task("fill in, and open the next", "assessor", enter_on),
    Task("sign an entry", "assessor", sign),
    Task("sign a whole visit", "assessor", sign_visit),
    Task("enter and sign all ten forms of week 18", "assessor", enter_visit),
    Task("verify a form", "monitor", verify),
    Task("verify the first of the list, and open the next", "monitor", verify_the_next),
    Task("raise a query", "monitor", raise_query),
    Task("close an answered query", "monitor", close_query),
    Task("answer a query", "coordinator", answer_query),
    Task("report a serious event", "coordinator", report_event),
    Task("judge a serious event", "investigator", judge_event),
    Task("code an event's term", "investigator", code_event),
    Task("sign a casebook", "investigator", sign_casebook),
)


def done(
    browser: Browser, address: str, tasks: Sequence[Task] = TASKS, *, keyboard: bool
) -> Iterator[tuple[Task, Hand]]:
    """Do these tasks in order, each person in a window of their own; gives each with the hand that did it.

    What the browser complains of on the way (an error in a script, something the page may not load) is a failure.
    """
    windows: dict[str, Page] = {}
    notes: dict[str, str] = {}
    for task in tasks:
        if task.who not in windows:
            on_telephone = task.who == PARTICIPANT
            windows[task.who] = _telephone(browser) if on_telephone else _signed_in(browser, address, task.who)
        page = windows[task.who]
        if task.who != PARTICIPANT:
            page.goto(f"/{STUDY}/today")
        hand = Hand(page, keyboard, notes=notes)
        task.do(hand)
        yield task, hand
    for page in windows.values():
        page.context.close()


def _telephone(browser: Browser) -> Page:
    """A telephone that nobody has signed in with."""
    return _window(browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True).new_page(), PARTICIPANT)


def _signed_in(browser: Browser, address: str, who: str) -> Page:
    page = _window(browser.new_context(base_url=address, viewport={"width": 1280, "height": 900}).new_page(), who)
    page.goto("/sign-in")
    page.get_by_label("Username").fill(who)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(lambda url: "/sign-in" not in url)
    return page


def _window(page: Page, who: str) -> Page:
    page.set_default_timeout(20_000)

    def complain(words: str) -> None:
        raise AssertionError(f"{who} at {page.url}: {words}")

    page.on("pageerror", lambda error: complain(str(error)))
    page.on("console", lambda message: complain(message.text) if message.type == "error" else None)
    return page
