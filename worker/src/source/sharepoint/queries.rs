//! The requests and CAML views with which items of task lists are read.

use serde_json::json;

use super::errors::RequestSubject;
use super::lists::TaskList;
use super::wire::RestRequest;

/// Returns the request for the items that a view selects.
pub(super) fn get_items(list: &TaskList, view: &str) -> RestRequest {
    let body = json!({"query": {"__metadata": {"type": "SP.CamlQuery"}, "ViewXml": view}});
    let path = list.path(&format!("getitems?$select={}", list.columns.select()));
    RestRequest::query(&list.web, path, body, RequestSubject::List).with_versions()
}

/// Returns the request for one item with everything that tasksync reads.
pub(super) fn get_item(list: &TaskList, id: i64) -> RestRequest {
    let path = list.path(&format!("items({id})?$select={}", list.columns.select()));
    RestRequest::get(&list.web, path, RequestSubject::Item).with_versions()
}

/// Returns the view of the items with these ids.
pub(super) fn by_ids(list: &TaskList, ids: &[i64]) -> String {
    let values = ids
        .iter()
        .map(|id| format!("<Value Type='Counter'>{id}</Value>"))
        .collect::<Vec<_>>()
        .concat();
    let fields = list.columns.view_fields();
    format!(
        "<View Scope='RecursiveAll'><Query><Where><In><FieldRef Name='ID'/><Values>{values}</Values></In></Where></Query>{fields}<RowLimit>{}</RowLimit></View>",
        ids.len()
    )
}

/// Returns the view of a page of items with every column that is read; see [`page_of`].
pub(super) fn page(list: &TaskList, person: Option<(&str, i64)>, after: i64, rows: usize) -> String {
    page_of(&list.columns.view_fields(), person, after, rows)
}

/// Returns the view of a page of items, ordered by id, with ids greater than `after`. With `person`, the page
/// is filtered by a people column. Continuing by id is exact whatever happens to the list between two pages.
pub(super) fn page_of(fields: &str, person: Option<(&str, i64)>, after: i64, rows: usize) -> String {
    let person = person.map(|(column, user)| {
        format!("<Eq><FieldRef Name='{column}' LookupId='TRUE'/><Value Type='Integer'>{user}</Value></Eq>")
    });
    let after =
        (after > 0).then(|| format!("<Gt><FieldRef Name='ID'/><Value Type='Counter'>{after}</Value></Gt>"));
    let filter = match (person, after) {
        (Some(person), Some(after)) => format!("<Where><And>{after}{person}</And></Where>"),
        (Some(only), None) | (None, Some(only)) => format!("<Where>{only}</Where>"),
        (None, None) => String::new(),
    };
    format!(
        "<View Scope='RecursiveAll'><Query>{filter}<OrderBy><FieldRef Name='ID'/></OrderBy></Query>{fields}<RowLimit Paged='TRUE'>{rows}</RowLimit></View>"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_written_as_the_product_wants_them() {
        assert_eq!(
            page_of("<ViewFields/>", Some(("AssignedTo", 12)), 0, 200),
            "<View Scope='RecursiveAll'><Query><Where><Eq><FieldRef Name='AssignedTo' LookupId='TRUE'/><Value Type='Integer'>12</Value></Eq></Where><OrderBy><FieldRef Name='ID'/></OrderBy></Query><ViewFields/><RowLimit Paged='TRUE'>200</RowLimit></View>"
        );
        assert!(
            page_of("", Some(("AssignedTo", 12)), 5, 2)
                .contains("<And><Gt><FieldRef Name='ID'/><Value Type='Counter'>5</Value></Gt><Eq>")
        );
        assert!(!page_of("", None, 0, 2).contains("Where"));
    }
}
