"""Takes a task and its folder through their life with exchangelib, a client that is independent of the simulator.

Reads its settings as JSON from standard input: url, user, password, smtp, person (a name to impersonate),
ca (path of the authority's certificate, or null). Every step is asserted; the exit status is 0 if all
assertions hold.
"""

import json
import sys
from datetime import date
from decimal import Decimal

from exchangelib import IMPERSONATION, DELEGATE, Account, Build, Configuration, Credentials, Version
from exchangelib.errors import (
    ErrorFolderExists,
    ErrorFolderNotFound,
    ErrorImpersonateUserDenied,
    ErrorItemNotFound,
    ErrorNameResolutionNoResults,
)
from exchangelib.extended_properties import ExtendedProperty
from exchangelib.ewsdatetime import EWSTimeZone
from exchangelib.folders import Folder, Tasks
from exchangelib.items import Task
from exchangelib.protocol import BaseProtocol
from exchangelib.queryset import DoesNotExist
from exchangelib.transport import BASIC

settings = json.load(sys.stdin)

if settings["ca"]:
    import requests.adapters

    class TrustingAdapter(requests.adapters.HTTPAdapter):
        def cert_verify(self, conn, url, verify, cert):
            super().cert_verify(conn=conn, url=url, verify=settings["ca"], cert=cert)

    BaseProtocol.HTTP_ADAPTER_CLS = TrustingAdapter


class SourceKey(ExtendedProperty):
    property_set_id = "7d0c8f4e-53b1-4b6e-9f0a-2c5a1e8b9d41"
    property_name = "TaskSyncSourceKey"
    property_type = "String"


class LocationMarker(ExtendedProperty):
    property_set_id = "7d0c8f4e-53b1-4b6e-9f0a-2c5a1e8b9d41"
    property_name = "TaskSyncLocation"
    property_type = "String"


Task.register("source_key", SourceKey)
Folder.register("location_marker", LocationMarker)


def account(smtp, access):
    config = Configuration(
        service_endpoint=settings["url"],
        credentials=Credentials(settings["user"], settings["password"]),
        auth_type=BASIC,
        version=Version(build=Build(15, 1, 2, 3)),
    )
    return Account(
        primary_smtp_address=smtp,
        config=config,
        autodiscover=False,
        access_type=access,
        default_timezone=EWSTimeZone(settings["zone"]),
    )


def look_up(mine):
    known = f"smtp:{mine.primary_smtp_address}"
    [entry] = mine.protocol.resolve_names([known], search_scope="ActiveDirectory")
    assert entry.email_address.lower() == mine.primary_smtp_address.lower(), entry
    assert entry.mailbox_type == "Mailbox", entry
    [missing] = mine.protocol.resolve_names(["smtp:no-such-mailbox@example.org"])
    assert isinstance(missing, ErrorNameResolutionNoResults), missing


def live(mine):
    look_up(mine)
    tasks = mine.tasks
    assert tasks.name == "Tasks", tasks.name

    plain = Tasks(parent=tasks, name="Without marker")
    plain.save()
    folder = Tasks(parent=tasks, name="Team site", location_marker="sp|list|1")
    folder.save()
    try:
        Tasks(parent=tasks, name="Team site").save()
        raise AssertionError("a second folder of one name was made")
    except ErrorFolderExists:
        pass
    marked = [f for f in tasks.children if f.name == "Team site"]
    assert [f.location_marker for f in marked] == ["sp|list|1"], marked
    assert "Team site" in [f.name for f in mine.root.walk()]

    kept = Task(account=mine, folder=plain, subject="Kept", start_date=date(2026, 3, 29), source_key="sp|kept")
    kept.save()
    task = Task(
        account=mine,
        folder=folder,
        subject="Order <parts> & more",
        body="See attached list",
        due_date=date(2026, 12, 4),
        start_date=date(2026, 12, 1),
        importance="High",
        categories=["Red", "Blue"],
        actual_work=60,
        total_work=240,
        status="InProgress",
        percent_complete=Decimal(25),
        source_key="sp|1|17",
    )
    task.save()
    assert task.id and task.changekey
    read = folder.get(id=task.id, changekey=task.changekey)
    assert read.subject == "Order <parts> & more", read.subject
    assert read.body.strip() == "See attached list", read.body
    assert (read.start_date, read.due_date) == (date(2026, 12, 1), date(2026, 12, 4)), (read.start_date, read.due_date)
    assert (read.status, int(read.percent_complete)) == ("InProgress", 25)
    assert (read.actual_work, read.total_work, read.importance) == (60, 240, "High")
    assert read.categories == ["Red", "Blue"], read.categories
    assert read.source_key == "sp|1|17"
    assert plain.get(id=kept.id, changekey=kept.changekey).due_date == date(2026, 3, 29)

    changes = list(folder.sync_items())
    assert [(kind, item.id) for kind, item in changes] == [("create", task.id)], changes
    assert list(folder.sync_items()) == []

    read.subject = "Order parts (2)"
    read.source_key = "sp|1|18"
    read.due_date = date(2026, 12, 5)
    read.save(update_fields=["subject", "source_key", "due_date"])
    changes = list(folder.sync_items())
    assert [(kind, item.subject) for kind, item in changes] == [("update", "Order parts (2)")], changes

    read.refresh()
    read.complete()
    read.refresh()
    assert read.is_complete and read.complete_date and int(read.percent_complete) == 100

    found = list(folder.filter(source_key="sp|1|18"))
    assert [item.id for item in found] == [task.id], found
    assert list(folder.filter(source_key="sp|1|17")) == []
    assert folder.filter(subject__contains="parts").count() == 1

    second = Task(account=mine, folder=folder, subject="Second")
    second.save()
    gone = second.id
    assert sorted(kind for kind, _ in folder.sync_items()) == ["create", "update"]
    state = folder.item_sync_state
    second.delete(affected_task_occurrences="AllOccurrences")
    try:
        folder.get(id=gone)
        raise AssertionError("a deleted task was read")
    except (ErrorItemNotFound, DoesNotExist):
        pass
    read.move_to_trash(affected_task_occurrences="AllOccurrences")
    assert [kind for kind, _ in folder.sync_items(sync_state=state)] == ["delete", "delete"]
    # When asked for all properties, the client would also request the unique body, which no server has for a task.
    trash = list(mine.trash.all().only("subject", "source_key"))
    assert [item.source_key for item in trash] == ["sp|1|18"], trash
    assert trash[0].id != task.id

    assert sorted(kind for kind, _ in tasks.sync_hierarchy()) == ["create", "create"]
    folder.name = "Renamed"
    folder.save(update_fields=["name"])
    assert [kind for kind, _ in tasks.sync_hierarchy()] == ["update"]
    ghost = Tasks(parent=tasks, name="Renamed", id=folder.id, changekey=folder.changekey)
    folder.delete()
    assert [kind for kind, _ in tasks.sync_hierarchy()] == ["delete"]
    try:
        ghost.refresh()
        raise AssertionError("a deleted folder was read")
    except ErrorFolderNotFound:
        pass


live(account(settings["smtp"], DELEGATE))
live(account(settings["person"], IMPERSONATION))
try:
    account(settings["stranger"], IMPERSONATION).tasks.refresh()
    raise AssertionError("a stranger was impersonated")
except ErrorImpersonateUserDenied:
    pass
print("every step held")
