"""Takes a task through its life in SharePoint with Office365-REST-Python-Client, a client that is independent of this project.

Reads from the environment: SITE_URL, TOKEN_URL, CLIENT_ID, CLIENT_SECRET, and REQUESTS_CA_BUNDLE for TLS.
Prints one line per step. The exit status is 0 if every step went as expected.
"""

import os

import requests
from office365.runtime.auth.token_response import TokenResponse
from office365.runtime.client_request_exception import ClientRequestException
from office365.sharepoint.changes.query import ChangeQuery
from office365.sharepoint.changes.token import ChangeToken
from office365.sharepoint.client_context import ClientContext
from office365.sharepoint.listitems.caml.query import CamlQuery

SITE_URL = os.environ["SITE_URL"]


def token():
    answer = requests.post(
        os.environ["TOKEN_URL"],
        data={
            "grant_type": "client_credentials",
            "client_id": os.environ["CLIENT_ID"],
            "client_secret": os.environ["CLIENT_SECRET"],
            "scope": "https://contoso.sharepoint.com/.default",
        },
        timeout=30,
    )
    answer.raise_for_status()
    return TokenResponse.from_json(answer.json())


def step(text):
    print("ok:", text, flush=True)


def refused(status, work):
    """Runs `work` and asserts that the server refuses it with `status`."""
    try:
        work()
    except ClientRequestException as error:
        assert error.response.status_code == status, (status, error.response.status_code, error.response.text)
        return error
    raise AssertionError(f"status {status} was expected, but the request was carried out")


def fresh():
    return ClientContext(SITE_URL).with_access_token(token)


def main():
    context = fresh()
    web = context.web.get().execute_query()
    assert web.properties["Title"] == "Contoso", web.properties
    step("web")

    lists = context.web.lists.filter("BaseTemplate eq 171 and Hidden eq false").get().execute_query()
    assert [found.title for found in lists] == ["Tasks"], [found.title for found in lists]
    tasks = context.web.lists.get_by_title("Tasks").get().execute_query()
    assert tasks.properties["ListItemEntityTypeFullName"] == "SP.Data.TasksListItem"
    start = tasks.properties["CurrentChangeToken"]
    start = start["StringValue"] if isinstance(start, dict) else start.StringValue
    refused(404, lambda: context.web.lists.get_by_title("Nothing").get().execute_query())
    context = fresh()
    tasks = context.web.lists.get_by_title("Tasks")
    step("lists")

    fields = tasks.fields.get().execute_query()
    status = next(field for field in fields if field.properties["Id"] == "c15b34c3-ce7d-490a-b133-3f4de8801b76")
    assert status.internal_name == "Status", status.properties
    choices = status.properties["Choices"]
    assert list(choices.values() if isinstance(choices, dict) else choices)[2] == "Completed", choices
    step("fields")

    user = context.web.ensure_user("i:0#.w|contoso\\ana").execute_query()
    ana = user.properties["Id"]
    step("ensureuser")

    item = tasks.add_item(
        {
            "Title": "Order parts",
            "Status": "In Progress",
            "PercentComplete": 0.25,
            "DueDate": "2026-12-03T23:00:00Z",
            "AssignedToId": {"results": [ana]},
        }
    ).execute_query()
    number = item.properties["Id"]
    step("create")

    read = tasks.get_item_by_id(number).get().execute_query()
    assert read.properties["Title"] == "Order parts"
    assert abs(read.properties["PercentComplete"] - 0.25) < 1e-9
    assert str(read.properties["DueDate"]).startswith("2026-12-03"), read.properties["DueDate"]
    step("read")

    def update(version, title):
        inner = fresh()
        task = inner.web.lists.get_by_title("Tasks").get_item_by_id(number)
        task.set_property("Title", title)
        task.update()
        # By default the library sends IF-MATCH: *.
        inner.before_execute(lambda request: request.set_header("IF-MATCH", version))
        inner.execute_query()

    update('"1"', "Order more parts")
    step("update under its version")
    error = refused(412, lambda: update('"1"', "lost"))
    assert "ETag" in error.response.text, error.response.text
    step("stale update refused")

    view = (
        "<View Scope='RecursiveAll'><Query><Where><Eq><FieldRef Name='AssignedTo' LookupId='TRUE'/>"
        f"<Value Type='Integer'>{ana}</Value></Eq></Where></Query><RowLimit Paged='TRUE'>50</RowLimit></View>"
    )
    query = CamlQuery()
    query.ViewXml = view
    found = tasks.get_items(query).execute_query()
    assert [one.properties["Title"] for one in found] == ["Order more parts"], len(found)
    step("getitems")

    second = tasks.add_item({"Title": "Throw away"}).execute_query().properties["Id"]
    tasks.get_item_by_id(second).recycle().execute_query()
    refused(404, lambda: fresh().web.lists.get_by_title("Tasks").get_item_by_id(second).get().execute_query())
    step("recycle")

    context = fresh()
    tasks = context.web.lists.get_by_title("Tasks")
    changes = tasks.get_changes(ChangeQuery(Item=True, ChangeTokenStart=ChangeToken(start))).execute_query()
    told = [(change.properties["ItemId"], change.properties["ChangeType"].name) for change in changes]
    assert told == [(number, "Add"), (number, "Update"), (second, "Add"), (second, "DeleteObject")], told
    refused(
        500,
        lambda: tasks.get_changes(ChangeQuery(Item=True, ChangeTokenStart=ChangeToken("nonsense"))).execute_query(),
    )
    step("changes")

    context = fresh()
    tasks = context.web.lists.get_by_title("Tasks")
    one = tasks.get_item_by_id(number).get()
    zone = context.web.regional_settings.time_zone.get()
    context.execute_batch()
    assert one.properties["Title"] == "Order more parts" and zone.properties["Id"] == 4, zone.properties
    step("batch")

    for page in range(5):
        tasks.add_item({"Title": f"Page {page}"})
    context.execute_batch()
    everything = tasks.items.get_all(page_size=2).execute_query()
    assert len(everything) == 6, len(everything)
    step("batched writes and paging")


main()
