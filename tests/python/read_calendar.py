"""Reads a calendar from standard input, and prints what is in it as JSON."""

import json
import sys
from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

from icalendar import Calendar


def time(event, name):
    return event.decoded(name).astimezone(timezone.utc).isoformat() if name in event else None


def text(event, name):
    return str(event[name]) if name in event else None


def event(event):
    return {
        "uid": text(event, "UID"),
        "sequence": event["SEQUENCE"],
        "changed": time(event, "LAST-MODIFIED"),
        "stamp": time(event, "DTSTAMP"),
        "start": time(event, "DTSTART"),
        "start_zone": event["DTSTART"].params.get("TZID"),
        "end": time(event, "DTEND"),
        "summary": text(event, "SUMMARY"),
        "description": text(event, "DESCRIPTION"),
        "location": text(event, "LOCATION"),
        "status": text(event, "STATUS"),
        "errors": [str(error) for error in event.errors],
    }


def zone(component):
    """Compares what the calendar says of a zone, and nothing else, with the system's own rules."""
    said = component.to_tz(lookup_tzid=False)
    known = ZoneInfo(component["TZID"])
    onsets = [it.decoded("DTSTART") for it in component.subcomponents]
    at = min(onsets).replace(tzinfo=timezone.utc) + timedelta(days=1)
    end = datetime(max(onsets).year + 1, 1, 1, tzinfo=timezone.utc)
    compared, different = 0, []
    while at < end:
        compared += 1
        if at.astimezone(said).utcoffset() != at.astimezone(known).utcoffset():
            different.append(at.isoformat())
        at += timedelta(minutes=30)
    return {"id": text(component, "TZID"), "compared": compared, "different": different[:10]}


calendar = Calendar.from_ical(sys.stdin.buffer.read())
json.dump(
    {
        "name": text(calendar, "X-WR-CALNAME"),
        "version": text(calendar, "VERSION"),
        "method": text(calendar, "METHOD"),
        "events": [event(it) for it in calendar.walk("VEVENT")],
        "zones": [zone(it) for it in calendar.walk("VTIMEZONE")],
        "errors": [str(error) for error in calendar.errors],
    },
    sys.stdout,
)
