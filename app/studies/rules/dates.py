"""When is a visit due?"""

from datetime import date, timedelta

from app.studies.definition import Visit


def planned_dates(visit: Visit, anchor_date: date) -> tuple[date, date, date]:
    """The target date of a visit and the first and last day of its window, counted from its anchor's date."""
    target = anchor_date + timedelta(days=visit.day)
    return target, target - timedelta(days=visit.window.before), target + timedelta(days=visit.window.after)
